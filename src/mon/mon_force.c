/* SPDX-License-Identifier: Apache-2.0
 *
 * PGs most of whose replicas are gone for good: what is left, and the order to go on with one of them.
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

enum { STANDING_WHOLE, STANDING_HALF, STANDING_DAMAGED, STANDING_IN_PARENT }; /* PgStanding.state */

/* ---- what is reported ---- */

void mon_force_standing(struct mon *mon, uint32_t osd, uint32_t shard, const Fb__PgStanding *row)
{
    struct mon_pg *p = mon_pg_find(mon, row->pg);
    struct mon_standing *to = NULL;

    if (!p || !mon_member_is(mon_pg_item(p), osd) || row->term > TERM_MAX || row->log_term > TERM_MAX)
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
    *to = (struct mon_standing){osd, shard, mon->alive_ns, *row};
    to->row.base.n_unknown_fields = 0; /* theirs are freed with the report */
    to->row.base.unknown_fields = NULL;
    to->row.osd = osd;
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

/* ---- what is left ---- */

/* The replica's own word, if it is still good; NULL: there is none. */
static const struct mon_standing *standing_of(const struct mon *mon, const struct mon_pg *p,
                                              const Fb__PgMember *m)
{
    for (uint32_t i = 0; p->standings && i < MON_GROUP_MAX; i++) {
        const struct mon_standing *s = &p->standings[i];
        if (s->heard_ns && s->osd == m->osd && s->shard == m->shard && s->row.replica == m->replica &&
            mon->alive_ns - s->heard_ns < mon->config.osd_down_after_ns)
            return s;
    }
    return NULL;
}

/* Only the newest of those that had a vote, with all that they had, have what was acknowledged; or most. */
static bool may_survive(const Fb__PgStanding *s)
{
    return s->voter && (s->state == STANDING_WHOLE || s->state == STANDING_IN_PARENT);
}

/* A half-copied replica votes, too, for whoever has as much as its log. */
static bool votes_for(const Fb__PgStanding *s, const Fb__PgStanding *best)
{
    return s->voter && (s->state == STANDING_WHOLE || s->state == STANDING_HALF) &&
           (s->log_term != best->log_term ? s->log_term < best->log_term : s->log_index <= best->log_index);
}

static bool is_better(const Fb__PgStanding *a, const Fb__PgStanding *b)
{
    if (may_survive(a) != may_survive(b))
        return may_survive(a);
    /* Its parent's log is another one, and older: one that was born is better whatever it has. */
    if ((a->state == STANDING_IN_PARENT) != (b->state == STANDING_IN_PARENT))
        return b->state == STANDING_IN_PARENT;
    if (a->log_term != b->log_term)
        return a->log_term > b->log_term;
    if (a->log_index != b->log_index)
        return a->log_index > b->log_index;
    return a->replica < b->replica;
}

static void standing_put(struct mon_force_view *v, const Fb__PgStanding *s)
{
    size_t at = v->view.n_standing;

    if (at == MON_GROUP_MAX)
        return;
    v->row[at] = *s;
    v->rows[at] = &v->row[at];
    for (; at > 0 && is_better(v->rows[at], v->rows[at - 1]); at--) {
        Fb__PgStanding *worse = v->rows[at - 1];
        v->rows[at - 1] = v->rows[at];
        v->rows[at] = worse;
    }
    v->view.n_standing++;
}

static void osd_put(uint32_t *osds, size_t *count, uint32_t osd)
{
    for (size_t i = 0; i < *count; i++)
        if (osds[i] == osd)
            return;
    if (*count < MON_MEMBERS_MAX)
        osds[(*count)++] = osd;
}

/* One of its replicas: where does it stand? */
static void look_at(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *m, bool dropped,
                    struct mon_force_view *v, size_t *ret_down, size_t *ret_unheard, uint32_t down[],
                    uint32_t unheard[])
{
    const struct mon_osd *o = mon_osd_find(mon, m->osd);
    const struct mon_standing *s = standing_of(mon, p, m);

    if (!o || mon_osd_item(o)->removed)
        osd_put(v->lost_osds, &v->view.n_lost_osds, m->osd);
    else if (!mon_osd_item(o)->up || (m->shard < mon_osd_item(o)->n_shard && o->shard[m->shard].failed[0]))
        osd_put(down, ret_down, m->osd);
    else if (s)
        standing_put(v, &s->row);
    else if (!dropped && (!m->birth || m->born) && !mon_confirmed(&mon_news(p)->lost, m->replica))
        osd_put(unheard, ret_unheard, m->osd);
}

/* `votes`: of those that are there, for the best one. Where voters change it takes two majorities, of groups
 * that only the replicas know; of these there is one for sure when nobody is missing. */
static bool has_majority(const struct mon_pg *p, const struct mon_force_view *v, uint32_t votes)
{
    uint32_t there = 0;
    bool joint = false;

    for (size_t i = 0; i < v->view.n_standing; i++) {
        there += v->rows[i]->voter;
        joint |= v->rows[i]->joint;
    }
    return joint ? votes == there && !v->view.n_lost_osds && !mon_news(p)->lost.count
                 : votes * 2 > v->view.voters;
}

void mon_force_view(const struct mon *mon, const struct mon_pg *p, struct mon_force_view *v)
{
    const Fb__Pg *pg = mon_pg_item(p);
    Fb__PgMember *const *lists[] = {pg->member, pg->wanted, pg->leaving, pg->dropped};
    const size_t counts[] = {pg->n_member, pg->n_wanted, pg->n_leaving, pg->n_dropped};
    uint32_t down[MON_MEMBERS_MAX], unheard[MON_MEMBERS_MAX], good = 0, votes = 0;
    size_t n_down = 0, n_unheard = 0;

    *v = (struct mon_force_view){0};
    fb__pg_force_view__init(&v->view);
    v->view.pg = pg->id;
    v->view.standing = v->rows;
    v->view.osds = v->osds;
    v->view.lost_osds = v->lost_osds;
    v->view.leader_commit = p->leader_commit;
    v->view.leader_us = p->leader_us + (mon_pg_said_ns(mon, p) - p->reported_ns) / NS_PER_US;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < counts[l]; i++) {
            bool again = false;
            for (size_t m = 0; l == 1 && m < pg->n_member; m++)
                again |= pg->member[m]->replica == lists[l][i]->replica;
            if (!again)
                look_at(mon, p, lists[l][i], l == 3, v, &n_down, &n_unheard, down, unheard);
        }
    for (size_t m = 0; m < pg->n_member; m++)
        v->view.voters += !pg->member[m]->learner;
    for (size_t i = 0; i < v->view.n_standing; i++) {
        good += may_survive(v->rows[i]);
        votes += votes_for(v->rows[i], v->rows[0]);
    }
    if (good)
        v->view.survivor = v->rows[0]->replica;
    const uint32_t *in_the_way = n_down ? down : unheard;
    v->view.n_osds = n_down ? n_down : n_unheard;
    memcpy(v->osds, in_the_way, v->view.n_osds * sizeof(*v->osds));
    if (mon_pg_reported(mon, p))
        v->view.verdict = FB__FORCE_VERDICT__FORCE_LEADS;
    else if (mon_force_waits(pg))
        v->view.verdict = FB__FORCE_VERDICT__FORCE_WAITS;
    else if (n_down)
        v->view.verdict = FB__FORCE_VERDICT__FORCE_OSDS_DOWN;
    else if (n_unheard)
        v->view.verdict = FB__FORCE_VERDICT__FORCE_UNHEARD;
    else if (good && has_majority(p, v, votes))
        v->view.verdict = FB__FORCE_VERDICT__FORCE_MAJORITY;
    else
        v->view.verdict = good ? FB__FORCE_VERDICT__FORCE_POSSIBLE : FB__FORCE_VERDICT__FORCE_NOTHING_LEFT;
}

/* Not removed, of a pool that is there, and born. */
static bool is_of_interest(const struct mon *mon, const struct mon_pg *p)
{
    const Fb__Pg *pg = mon_pg_item(p);
    const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(pg->id));

    return pg->born && !pg->removed && pool && !mon_pool_item(pool)->removed;
}

static int compare_ids(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

#define LOOK_MAX 256 /* PGs in a page */

void mon_force_look(struct mon_request *r)
{
    struct mon *mon = r->mon;
    const Fb__PgForceLook *call = r->call->pg_force_look;
    uint64_t *ids = malloc((mon->items[MON_PG].count + 1) * sizeof(*ids));
    struct mon_force_view *views = wire_arena_alloc(&r->arena, LOOK_MAX * sizeof(*views));
    Fb__PgForceView **pointers = wire_arena_alloc(&r->arena, LOOK_MAX * sizeof(*pointers));
    size_t count = 0, shown;

    if (!ids || !views || !pointers) {
        free(ids);
        mon_reply(r, -ERR_NO_MEMORY);
        return;
    }
    mon_for_each(mon, MON_PG, node)
    {
        const struct mon_pg *p = mon_pg_of(node);
        if (is_of_interest(mon, p) &&
            (call->pg ? node->key == call->pg : node->key > call->after_pg && !mon_pg_reported(mon, p)))
            ids[count++] = node->key;
    }
    qsort(ids, count, sizeof(*ids), compare_ids);
    for (shown = 0; shown < MIN(count, (size_t)LOOK_MAX); shown++) {
        mon_force_view(mon, mon_pg_find(mon, ids[shown]), &views[shown]);
        pointers[shown] = &views[shown].view;
    }
    free(ids);
    r->reply.force_views = pointers;
    r->reply.n_force_views = shown;
    r->reply.more = shown < count;
    mon_reply(r, call->pg && !count ? mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x",
                                               mon_pg_pool(call->pg), mon_pg_number(call->pg))
                                    : 0);
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
            "of PG %u.%x %.150s may still come back: start what can be started, and say `fastblock "
            "osd lost OSD` of what is gone for good (stop it first if it runs, with a failed shard)",
            pool, number, osds);
    case FB__FORCE_VERDICT__FORCE_UNHEARD:
        return mon_fail(r, -ERR_RETRY, "what %.150s has of PG %u.%x is not known yet: try again in a moment",
                        osds, pool, number);
    case FB__FORCE_VERDICT__FORCE_NOTHING_LEFT:
        return mon_fail(r, -ERR_DENIED,
                        "of PG %u.%x no replica is left that is whole and had a vote: its data is lost", pool,
                        number);
    default:
        return 0;
    }
}

static const Fb__PgStanding *view_find(const struct mon_force_view *v, uint32_t replica)
{
    for (size_t i = 0; i < v->view.n_standing; i++)
        if (v->rows[i]->replica == replica)
            return v->rows[i];
    return NULL;
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
    const struct mon_members lists[] = {e->member, e->wanted, e->leaving};

    e->member.count = e->wanted.count = e->leaving.count = 0;
    for (uint32_t l = 0; l < ARRAY_LEN(lists); l++)
        for (uint32_t i = 0; i < lists[l].count; i++) {
            if (e->dropped.count == MON_MEMBERS_MAX)
                return -ERR_BUSY;
            if (lists[l].row[i].replica != survivor && !PLANT(MON_FORCE_LEAVES))
                mon_edit_drop(e, mon, &lists[l].row[i]);
        }
    return 0;
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

static int order_build(struct mon_request *r)
{
    const Fb__PgForceOrder *call = r->call->pg_force_order;
    struct mon *mon = r->mon;
    const struct mon_pg *p = mon_pg_find(mon, call->pg);
    struct mon_force_view v;
    struct mon_edit e;

    if (!p || !is_of_interest(mon, p))
        return mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x with data", mon_pg_pool(call->pg),
                        mon_pg_number(call->pg));
    const Fb__PgForce *force = mon_pg_item(p)->force;
    if (force && force->survivor == call->survivor) {
        r->nothing = true; /* it was asked for already */
        return 0;
    }
    if (mon_force_waits(mon_pg_item(p)))
        return mon_fail(r, -ERR_DENIED,
                        "PG %u.%x is being recovered from replica %u already, and the others are deleted",
                        mon_pg_pool(call->pg), mon_pg_number(call->pg), force->survivor);
    if (mon->alive_ns < mon->config.osd_down_after_ns)
        return mon_fail(r, -ERR_RETRY, "the monitor has just started: try again in a moment");
    mon_force_view(mon, p, &v);
    int error = refuse(r, &v);
    if (error)
        return error;
    const Fb__PgStanding *s = view_find(&v, call->survivor);
    mon_edit_init(&e, mon_pg_item(p));
    const Fb__PgMember *was = edit_find(&e, call->survivor);
    if (!s || !was)
        return mon_fail(r, -ERR_DENIED, "PG %u.%x has no replica %u any more: look again",
                        mon_pg_pool(call->pg), mon_pg_number(call->pg), call->survivor);
    if (!may_survive(s))
        return mon_fail(r, -ERR_DENIED, "replica %u on osd.%u cannot be gone on with: %s", s->replica, s->osd,
                        s->state == STANDING_HALF      ? "it is half copied"
                        : s->state == STANDING_DAMAGED ? "its log cannot be proven whole"
                                                       : "it is a learner, which may lack anything");
    Fb__PgMember survivor = *was;
    survivor.replica = numbers_end(&e);
    survivor.birth = r->change.state.epoch;
    survivor.born = survivor.learner = false;
    error = drop_others(&e, mon, call->survivor);
    if (error)
        return mon_fail(r, error, "PG %u.%x has too many replicas that are still to be deleted",
                        mon_pg_pool(call->pg), mon_pg_number(call->pg));
    (void)mon_members_add(&e.member, &survivor);
    e.pg.replica_next = survivor.replica + 1;
    e.pg.wanted_epoch = r->change.state.epoch;
    e.pg.group_index = 0;
    force_fill(r, p, &v, s, survivor.replica, &e);
    mon_edit_put(&e, &r->change);
    return 0;
}

static void order_done(struct mon_request *r)
{
    struct mon_pg *p = mon_pg_find(r->mon, r->call->pg_force_order->pg);

    if (r->nothing || !p || !mon_pg_item(p)->force)
        return;
    const Fb__Pg *pg = mon_pg_item(p);
    const Fb__PgForce *f = pg->force;
    /* What was said of the former group. */
    free(p->news);
    p->news = NULL;
    p->term = 0;
    p->reported_ns = 0;
    mon_note(r->mon, LOG_ERROR,
             "PG %u.%x goes on with replica %u of osd.%u alone, as an operator said: its log ends at %" PRIu64
             "/%" PRIu64 " (term/index), %" PRIu64 " entries that were acknowledged are known to be lost",
             mon_pg_pool(pg->id), mon_pg_number(pg->id), f->survivor, pg->n_member ? pg->member[0]->osd : 0,
             f->log_term, f->log_index, f->entries_lost);
    mon_plan_forget(r->mon);
    mon_settle_soon(r->mon);
}

const struct mon_method mon_force_order = {.build = order_build, .done = order_done, .needs_proof = true};

/* ---- acknowledging the loss ---- */

static int acknowledge_build(struct mon_request *r)
{
    uint64_t only = r->call->pg_force_acknowledge->pg;

    r->nothing = true;
    if (only && !mon_pg_find(r->mon, only))
        return mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x", mon_pg_pool(only), mon_pg_number(only));
    mon_for_each(r->mon, MON_PG, node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(node));
        struct mon_edit e;

        if (!pg->force || pg->force->acknowledged || (only && pg->id != only))
            continue;
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
        return;
    if (only)
        mon_note(r->mon, LOG_INFO, "what PG %u.%x lost is acknowledged", mon_pg_pool(only),
                 mon_pg_number(only));
    else
        mon_note(r->mon, LOG_INFO, "what PGs lost is acknowledged");
}

const struct mon_method mon_force_acknowledge = {.build = acknowledge_build, .done = acknowledge_done};
