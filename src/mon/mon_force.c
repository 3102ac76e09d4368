/* SPDX-License-Identifier: Apache-2.0
 *
 * PGs most of whose replicas are gone for good: the order to go on with one of them. What is left, and
 * whether that order may be given, is found in mon_force_view.c.
 *
 *   no leader --- what is down comes back, a majority is there ---> leader
 *       |
 *       '--- `osd lost` for what will not; `pg force-recover` ---> ordered: the survivor is the one member,
 * all others are dropped or gone --- each has confirmed ---> the survivor takes its new number ---> leader,
 * healed
 *
 * Shards report the replicas that have had no leader for a while (standings). The order is refused as long as
 * the PG could still come back by itself, and as long as one of its OSDs is neither up, so that it can delete
 * its replica and say so, nor removed from the cluster, so that nobody listens to it any more. From the order
 * on the map names the survivor alone, so clients of that map ask nobody else; the survivor waits for the
 * others' end (osd/pg_force.c). Numbers of replicas below the survivor's new one are of the former group:
 * what leaders of that report is not heard.
 *
 * As long as the map names one that has not ended, the survivor cannot have gone on, and never does by that
 * map: then the order can be withdrawn, and the PG is what it was before, but for what is deleted already, or
 * is being deleted: what shards said before they had saved the withdrawal counts for nothing.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

/* What terms the former group could still come to; with an election five times a second, that takes decades.
 */
#define TERM_LEAP (1ull << 32)
#define TERM_MAX  (1ull << 58) /* no group of ours has ever come that far */

/* ---- what is reported ---- */

void mon_force_standing(struct mon *mon, const Fb__ShardReport *report, const Fb__PgStanding *row)
{
    struct mon_pg *p = mon_pg_find(mon, row->pg);
    uint32_t osd = report->osd, shard = report->shard;
    struct mon_standing *to = NULL;

    if (!p || !mon_member_is(mon_pg_item(p), osd) || row->term > TERM_MAX || row->log_term > TERM_MAX ||
        row->n_voters > MON_GROUP_MAX || row->n_voters_before > MON_GROUP_MAX)
        return;
    if (!p->standings)
        p->standings = calloc(MON_GROUP_MAX, sizeof(*p->standings));
    for (uint32_t i = 0; p->standings && i < MON_GROUP_MAX; i++) {
        struct mon_standing *s = &p->standings[i];
        if (s->heard_ns && s->osd == osd && s->shard == shard) {
            to = s;
            break;
        }
        if (!to || s->heard_ns < to->heard_ns)
            to = s; /* free, or the oldest */
    }
    if (!to)
        return;
    *to = (struct mon_standing){
        .osd = osd, .shard = shard, .heard_ns = mon->alive_ns, .epoch = report->epoch, .row = *row};
    to->row.base.n_unknown_fields = 0; /* theirs are freed with the report */
    to->row.base.unknown_fields = NULL;
    to->row.osd = osd;
    to->row.voters = to->voters;
    to->row.voters_before = to->before;
    for (size_t i = 0; i < row->n_voters; i++)
        to->voters[i] = row->voters[i];
    for (size_t i = 0; i < row->n_voters_before; i++)
        to->before[i] = row->voters_before[i];
    /* An older version does not say: as the map has it. */
    const Fb__Pg *pg = mon_pg_item(p);
    for (size_t m = 0; m < pg->n_member && !row->n_voters; m++)
        if (!pg->member[m]->learner)
            to->voters[to->row.n_voters++] = pg->member[m]->replica;
}

bool mon_force_report(struct mon *mon, struct mon_pg *p, const Fb__PgReport *report)
{
    const Fb__Pg *pg = mon_pg_item(p);

    if (pg->force && report->replica < pg->force->replica && !PLANT(MON_FORMER_HEARD))
        return false;
    p->leader_commit = report->commit_index;
    p->leader_us = mon->core->env->wall_us(mon->core->env_self);
    free(p->standings);
    p->standings = NULL;
    return true;
}

bool mon_force_waits(const Fb__Pg *pg)
{
    for (size_t m = 0; pg->force && m < pg->n_member; m++)
        if (pg->member[m]->replica == pg->force->replica)
            return pg->member[m]->birth && !pg->member[m]->born; /* a reported group has no births */
    return false;
}

/* ---- the order ---- */

static int refuse(struct mon_request *r, const struct mon_force_view *v)
{
    char osds[200] = "";
    uint32_t pool = mon_pg_pool(v->view.pg), number = mon_pg_number(v->view.pg);

    for (size_t i = 0; i < v->view.n_osds && i < 8; i++)
        snprintf(osds + strlen(osds), sizeof(osds) - strlen(osds), "%sosd.%u", i ? ", " : "", v->osds[i]);
    switch (v->view.verdict) {
    case FB__FORCE_VERDICT__FORCE_LEADS:
        return mon_fail(r, -ERR_DENIED, "PG %u.%x has a leader: nothing is to be recovered", pool, number);
    case FB__FORCE_VERDICT__FORCE_MAJORITY:
        return mon_fail(r, -ERR_DENIED,
                        "a majority of PG %u.%x is there: it will have a leader without losing anything",
                        pool, number);
    case FB__FORCE_VERDICT__FORCE_OSDS_DOWN:
        return mon_fail(
            r, -ERR_DENIED,
            "of PG %u.%x %.150s may still come back: start what can be started, restart what runs with a shard that "
            "has failed, and say `fastblock osd lost OSD` of what is gone for good (its process stopped)%s",
            pool, number, osds,
            v->view.survivor ? ""
                             : "; but none of its replicas that are there can be gone on with: if these are "
                               "given up, its data is lost");
    case FB__FORCE_VERDICT__FORCE_UNHEARD:
        return mon_fail(r, -ERR_RETRY, "what %.150s has of PG %u.%x is not known yet: try again in a moment",
                        osds, pool, number);
    case FB__FORCE_VERDICT__FORCE_NOTHING_LEFT:
        return mon_fail(
            r, -ERR_DENIED,
            "of PG %u.%x no replica is left that is whole and had a vote: its data is lost; restore "
            "the images of its pool from a backup, to another pool",
            pool, number);
    default:
        return 0;
    }
}

static const Fb__PgMember *edit_find(const struct mon_edit *e, uint32_t replica)
{
    const struct mon_members *lists[] = {&e->member, &e->wanted, &e->leaving};

    for (uint32_t l = 0; l < ARRAY_LEN(lists); l++)
        if (mon_members_find(lists[l], replica))
            return mon_members_find(lists[l], replica);
    return NULL;
}

static uint32_t numbers_end(const struct mon_edit *e)
{
    const struct mon_members *lists[] = {&e->member, &e->wanted, &e->leaving, &e->dropped};
    uint32_t end = e->pg.replica_next;

    for (uint32_t l = 0; l < ARRAY_LEN(lists); l++)
        for (uint32_t i = 0; i < lists[l]->count; i++)
            end = MAX(end, lists[l]->row[i].replica + 1);
    return end;
}

/* Everything but the survivor ends, and is said to. ERR_BUSY: there is no room for them all in the item. */
static int drop_others(struct mon_edit *e, const struct mon *mon, uint32_t survivor)
{
    const struct mon_members lists[] = {e->dropped, e->member, e->wanted, e->leaving};

    e->dropped.count = e->member.count = e->wanted.count = e->leaving.count = 0;
    for (uint32_t l = 0; l < ARRAY_LEN(lists); l++)
        for (uint32_t i = 0; i < lists[l].count; i++)
            if (lists[l].row[i].replica != survivor && !(l && PLANT(MON_FORCE_LEAVES)) &&
                !mon_edit_drop(e, mon, &lists[l].row[i]))
                return -ERR_BUSY;
    return 0;
}

/* Up to which PG count it was split, by the PGs that there are. */
static uint32_t split_count(const struct mon *mon, uint64_t id)
{
    const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(id));
    uint32_t number = mon_pg_number(id), count = 0;

    for (uint64_t bit = 1; pool && number + bit < mon_pool_item(pool)->pg_count; bit <<= 1) {
        const struct mon_pg *child =
            bit > number ? mon_pg_find(mon, placement_pg_id(mon_pg_pool(id), number + (uint32_t)bit)) : NULL;
        if (child && mon_pg_item(child)->split)
            count = number + (uint32_t)bit + 1;
    }
    return count;
}

static void force_fill(struct mon_request *r, const struct mon_pg *p, const struct mon_force_view *v,
                       const Fb__PgStanding *s, uint32_t replica, struct mon_edit *e)
{
    const Fb__PgForce *before = mon_pg_item(p)->force;
    Fb__PgForce *f = &e->force;
    uint64_t term = p->term;

    for (size_t i = 0; i < v->view.n_standing; i++)
        term = MAX(term, MAX(v->rows[i]->term, v->rows[i]->log_term));
    fb__pg_force__init(f);
    f->survivor = s->replica;
    f->replica = replica;
    f->term = MIN(term, TERM_MAX) + TERM_LEAP;
    f->split_count = split_count(r->mon, mon_pg_item(p)->id);
    f->epoch = r->change.state.epoch;
    f->time_us = r->mon->core->env->wall_us(r->mon->core->env_self);
    f->log_term = s->log_term;
    f->log_index = s->log_index;
    f->commit_index = s->commit_index;
    f->leader_commit = v->view.leader_commit;
    f->leader_us = v->view.leader_us;
    if (f->leader_commit > s->log_index)
        f->entries_lost = f->leader_commit - s->log_index;
    for (size_t i = 0; i < v->view.n_standing; i++) /* what is known to be committed */
        if (v->rows[i]->commit_index > s->log_index)
            f->entries_lost = MAX(f->entries_lost, v->rows[i]->commit_index - s->log_index);
    if (before && !before->acknowledged)
        f->entries_lost += before->entries_lost;
    e->pg.force = f;
}

/* Has none of the others that were to end when the order was given, or not all? Then the survivor waits. */
static bool others_are_left(const Fb__Pg *pg)
{
    bool left = false;

    for (size_t i = 0; i < pg->n_dropped; i++)
        left |= pg->dropped[i]->replica < pg->force->replica;
    return left || PLANT(MON_FORCE_WITHDRAWN_LATE);
}

/* The PG is again what it was before the order. What was deleted meanwhile is missed by its shard, as any
 * replica that is lost. */
static int withdraw_build(struct mon_request *r, const Fb__Pg *pg)
{
    struct mon_edit e;

    if (!mon_force_waits(pg))
        return mon_fail(r, -ERR_DENIED, "PG %u.%x does not wait for anything: there is no order to withdraw",
                        mon_pg_pool(pg->id), mon_pg_number(pg->id));
    const Fb__PgBefore *before = pg->before;
    if (!before || !others_are_left(pg))
        return mon_fail(
            r, -ERR_DENIED,
            "PG %u.%x: all others have ended, so replica %u goes on as soon as it can: nothing can be "
            "withdrawn any more",
            mon_pg_pool(pg->id), mon_pg_number(pg->id), pg->force->survivor);
    Fb__Pg again = *pg;
    again.n_member = before->n_member, again.member = before->member;
    again.n_wanted = before->n_wanted, again.wanted = before->wanted;
    again.n_leaving = before->n_leaving, again.leaving = before->leaving;
    again.n_dropped = before->n_dropped, again.dropped = before->dropped;
    again.group_index = before->group_index;
    again.wanted_epoch = before->wanted_epoch;
    again.force = before->force;
    again.before = NULL;
    again.replica_next = mon_replica_next(pg);
    mon_edit_init(&e, &again);
    for (uint32_t i = e.dropped.count; i-- > 0;) {
        bool still = false;
        for (size_t k = 0; k < pg->n_dropped; k++)
            still |= pg->dropped[k]->replica == e.dropped.row[i].replica;
        if (!still)
            mon_members_remove(&e.dropped, e.dropped.row[i].replica);
    }
    mon_edit_put(&e, &r->change);
    return 0;
}

static int order_build(struct mon_request *r)
{
    const Fb__PgForceOrder *call = r->call->pg_force_order;
    struct mon *mon = r->mon;
    const struct mon_pg *p = mon_pg_find(mon, call->pg);
    struct mon_force_view v;
    struct mon_edit e;

    if (!p || !mon_force_concerns(mon, p))
        return mon_force_none(r, call->pg);
    if (call->withdraw)
        return withdraw_build(r, mon_pg_item(p));
    const Fb__PgForce *force = mon_pg_item(p)->force;
    if (force && force->survivor == call->survivor) {
        r->nothing = true; /* it was asked for already */
        return 0;
    }
    if (mon_force_waits(mon_pg_item(p)))
        return mon_fail(
            r, -ERR_DENIED,
            "PG %u.%x is being recovered from replica %u already, and the others are deleted; if that is "
            "not to be: `fastblock pg force-recover PG --withdraw`",
            mon_pg_pool(call->pg), mon_pg_number(call->pg), force->survivor);
    if (mon->alive_ns < mon->config.osd_down_after_ns)
        return mon_fail(r, -ERR_RETRY, "the monitor has just started: try again in a moment");
    mon_force_view(mon, p, &v);
    int error = refuse(r, &v);
    if (error)
        return error;
    const Fb__PgStanding *s = mon_force_find(&v, call->survivor);
    mon_edit_init(&e, mon_pg_item(p));
    const Fb__PgMember *was = edit_find(&e, call->survivor);
    if (!s || !was)
        return mon_fail(r, -ERR_DENIED, "PG %u.%x has no replica %u any more: look again",
                        mon_pg_pool(call->pg), mon_pg_number(call->pg), call->survivor);
    if (!mon_force_may_survive(s) && !PLANT(MON_FORCE_ANYONE))
        return mon_fail(r, -ERR_DENIED, "replica %u on osd.%u cannot be gone on with: %s", s->replica, s->osd,
                        s->state == FB__PG_STANDING_STATE__STANDING_HALF ? "it is half copied"
                        : s->state == FB__PG_STANDING_STATE__STANDING_DAMAGED
                            ? "its log cannot be proven whole"
                            : "it is a learner, which may lack anything");
    Fb__PgMember survivor = *was;
    const Fb__Pg *is = mon_pg_item(p);
    Fb__PgBefore before = FB__PG_BEFORE__INIT;
    before.n_member = is->n_member, before.member = is->member;
    before.n_wanted = is->n_wanted, before.wanted = is->wanted;
    before.n_leaving = is->n_leaving, before.leaving = is->leaving;
    before.n_dropped = is->n_dropped, before.dropped = is->dropped;
    before.group_index = is->group_index;
    before.wanted_epoch = is->wanted_epoch;
    before.force = is->force;
    survivor.replica = numbers_end(&e);
    survivor.birth = r->change.state.epoch;
    survivor.born = survivor.learner = false;
    error = drop_others(&e, mon, call->survivor);
    if (error)
        return mon_fail(
            r, error,
            "PG %u.%x has too many replicas that are still to be deleted: start the OSDs that `fastblock "
            "pg show` lists as dropped, or say `fastblock osd lost OSD` of what is gone for good",
            mon_pg_pool(call->pg), mon_pg_number(call->pg));
    (void)mon_members_add(&e.member, &survivor);
    e.pg.replica_next = survivor.replica + 1;
    e.pg.wanted_epoch = r->change.state.epoch;
    e.pg.group_index = 0;
    force_fill(r, p, &v, s, survivor.replica, &e);
    e.pg.before = &before;
    mon_edit_put(&e, &r->change);
    return 0;
}

static void order_done(struct mon_request *r)
{
    struct mon_pg *p = mon_pg_find(r->mon, r->call->pg_force_order->pg);

    if (r->nothing || !p)
        return;
    const Fb__Pg *pg = mon_pg_item(p);
    const Fb__PgForce *f = pg->force;
    /* What was said of the former group. */
    free(p->news);
    p->news = NULL;
    p->term = 0;
    p->reported_ns = 0;
    mon_plan_forget(r->mon);
    mon_settle_soon(r->mon);
    if (r->call->pg_force_order->withdraw) {
        mon_note(r->mon, LOG_WARN, "PG %u.%x: the order to go on with one replica alone is withdrawn",
                 mon_pg_pool(pg->id), mon_pg_number(pg->id));
        return;
    }
    mon_note(r->mon, LOG_ERROR,
             "PG %u.%x goes on with replica %u of osd.%u alone, as an operator said: its log ends at %" PRIu64
             "/%" PRIu64 " (term/index), %" PRIu64 " entries that were acknowledged are known to be lost",
             mon_pg_pool(pg->id), mon_pg_number(pg->id), f->survivor, pg->n_member ? pg->member[0]->osd : 0,
             f->log_term, f->log_index, f->entries_lost);
}

const struct mon_method mon_force_order = {.build = order_build, .done = order_done, .needs_proof = true};

/* ---- acknowledging the loss ---- */

static int acknowledge_build(struct mon_request *r)
{
    uint64_t only = r->call->pg_force_acknowledge->pg;

    r->nothing = true;
    r->reply.more = false;
    if (only && !mon_pg_find(r->mon, only))
        return mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x", mon_pg_pool(only), mon_pg_number(only));
    mon_for_each(r->mon, MON_PG, node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(node));
        struct mon_edit e;

        if (!pg->force || pg->force->acknowledged || (only && pg->id != only))
            continue;
        r->reply.more = r->change.count == MON_PUTS_PER_TXN;
        if (r->reply.more)
            break; /* those of one epoch must fit in one map message */
        mon_edit_init(&e, pg);
        e.force.acknowledged = true;
        mon_edit_put(&e, &r->change);
        r->nothing = false;
    }
    return 0;
}

static void acknowledge_done(struct mon_request *r)
{
    uint64_t only = r->call->pg_force_acknowledge->pg;

    if (r->nothing)
        mon_fail(r, 0, "there was nothing left to acknowledge");
    if (r->nothing || r->reply.more)
        return;
    if (only)
        mon_note(r->mon, LOG_INFO, "what PG %u.%x lost is acknowledged", mon_pg_pool(only),
                 mon_pg_number(only));
    else
        mon_note(r->mon, LOG_INFO, "what PGs lost is acknowledged");
}

const struct mon_method mon_force_acknowledge = {.build = acknowledge_build, .done = acknowledge_done};
