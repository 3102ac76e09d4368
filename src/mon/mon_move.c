/* SPDX-License-Identifier: Apache-2.0
 *
 * Which members PGs should have: healing, draining, spreading evenly, other numbers of replicas.
 *
 * placement_plan() says which PGs should have other members, the most urgent first; here it is decided which
 * of them may change now. A change is an order to the PG's leader: `wanted` members, in which those that stay
 * keep their numbers and new ones get numbers that were never used. The leader takes the new ones in as
 * learners, and lets them vote for the old ones when they have all data, so nothing is given up before its
 * replacement is there.
 *
 * A PG changes only when it has a leader that reports, when the last change is complete or its new members
 * have no prospect, and when of the members to be a majority is up. At most `moves_max` PGs move to an OSD,
 * or from the one that leads them, at a time, and none to a shard that is nearly full. No decision comes from
 * a monitor that has just started: it must know that its data is the newest, and have been alive for long
 * enough that whoever is there has reported.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

#define LOOK_NS       NS_PER_S
#define LOOK_PGS      100000          /* for each so many PGs the next look comes a second later */
#define PLAN_OLD_NS   (10 * NS_PER_S) /* what is under way may have lost its prospects meanwhile */
#define PATIENCE_NS   (60 * NS_PER_S) /* so long a new member may be down, or a PG have no leader */
#define FREE_ONE_IN   10              /* a shard with less free gets no more replicas */
#define HELD_MAX      8               /* replicas of a PG that are not deleted yet: more wait for that */
#define PLAN_ROWS_MAX 1000
#define PLAN_TURN_PGS MON_PGS_MAX /* each is looked at some ten times for a plan */

/* Of the map as it was when it was begun: PGs are looked up again by their ids. */
struct mon_plan {
    uint64_t epoch, made_ns; /* alive time */
    uint32_t turns;          /* that it took */
    bool put, used;          /* something of it is in a change; and was committed */
    bool spares;             /* a shard that had no space then */
    bool rests;              /* a look has found that nothing is to be done, nor under way */
    struct mon_place place;
    struct place *job; /* NULL: it is made */
    struct placement_plan plan;
    uint32_t *moves; /* by OSD of the place: PGs that move to it, or from it */
};

/* ---- the plan ---- */

void mon_plan_free(struct mon_plan *plan)
{
    if (!plan)
        return;
    placement_job_free(plan->job);
    placement_plan_fini(&plan->plan);
    mon_place_fini(&plan->place);
    free(plan->moves);
    free(plan);
}

/* Has its shard space for one more replica? A full one would stop the writes of every PG that moves there. */
static bool has_space(const struct mon *mon, const struct placement_member *at)
{
    const struct mon_osd *o = mon_osd_find(mon, at->osd);

    return o && at->shard < mon_osd_item(o)->n_shard &&
           (!o->shard[at->shard].reported ||
            o->shard[at->shard].free_bytes >= mon_osd_item(o)->shard[at->shard]->size_bytes / FREE_ONE_IN);
}

/* What lacks a replica does not wait until there is space again where it would be best. */
static void spare_the_full(struct mon_plan *plan, const struct mon *mon)
{
    for (uint32_t i = 0; i < plan->place.input.osd_count; i++) {
        struct placement_osd *o = &plan->place.osds[i];
        for (uint32_t s = 0; s < o->shard_count; s++)
            if (!has_space(mon, &(struct placement_member){o->osd, s})) {
                o->shard_usable[s] = false;
                plan->spares = true;
            }
    }
}

static struct mon_plan *plan_new(const struct mon *mon)
{
    struct mon_plan *plan = calloc(1, sizeof(*plan));

    if (!plan)
        return NULL;
    plan->epoch = mon->state.epoch;
    plan->moves = calloc(mon->items[MON_OSD].count + 1, sizeof(*plan->moves));
    if (!plan->moves || mon_place_init(&plan->place, mon)) {
        mon_plan_free(plan);
        return NULL;
    }
    spare_the_full(plan, mon);
    if (placement_job_new(&plan->place.input, &plan->job)) {
        mon_plan_free(plan);
        return NULL;
    }
    return plan;
}

static void tell_refused(const struct mon *mon, const struct mon_plan *plan)
{
    if (!plan->plan.refused_count)
        return;
    uint64_t pg = plan->place.pgs[plan->plan.refused_pg].id;
    core_log(mon->core, LOG_WARN, "mon",
             "a placement function is refused for %u PGs, such as %u.%x: %s. They are placed without it",
             plan->plan.refused_count, mon_pg_pool(pg), mon_pg_number(pg), plan->plan.refused_why);
}

/* A turn's work on it, so that reports, calls and renewals of the lease never wait for more. 1: there is more
 * to do; 0: it is made; or an error. */
static int plan_go_on(const struct mon *mon, struct mon_plan *plan)
{
    uint64_t pgs = 0;
    int more = 1;

    plan->turns++;
    while (more > 0 && pgs < PLAN_TURN_PGS)
        more = placement_job_step(plan->job, &pgs, &plan->plan);
    if (more)
        return more;
    placement_job_free(plan->job);
    plan->job = NULL;
    plan->made_ns = mon->alive_ns;
    tell_refused(mon, plan);
    return 0;
}

void mon_plan_forget(struct mon *mon)
{
    mon_plan_free(mon->plan);
    mon_plan_free(mon->planning);
    mon->plan = mon->planning = NULL;
    mon_move_soon(mon);
}

/* One that took several turns may be older than the map, which need never stand still that long: what is made
 * of it is a step to where PGs should have been then, and legal now (decide()). It counts once. */
static bool plan_is_good(const struct mon *mon, const struct mon_plan *plan)
{
    return plan && mon->alive_ns - plan->made_ns < PLAN_OLD_NS &&
           (plan->epoch == mon->state.epoch || (plan->turns > 1 && !plan->used));
}

/* NULL: it is being made, a turn at a time, or there is no memory: another look has more luck. */
static struct mon_plan *plan_get(struct mon *mon)
{
    if (plan_is_good(mon, mon->plan))
        return mon->plan;
    if (!mon->planning)
        mon->planning = plan_new(mon);
    int more = mon->planning ? plan_go_on(mon, mon->planning) : -ERR_NO_MEMORY;
    if (more > 0)
        return NULL;
    mon_plan_free(mon->plan);
    mon->plan = mon->planning;
    mon->planning = NULL;
    if (!more)
        return mon->plan;
    mon_plan_free(mon->plan);
    return mon->plan = NULL;
}

void mon_move_done(struct mon *mon)
{
    if (mon->plan)
        mon->plan->used |= mon->plan->put;
}

static uint32_t *moves_of(struct mon_plan *plan, uint32_t osd)
{
    struct placement_osd *o = mon_place_find(plan->place.osds, plan->place.input.osd_count, osd);

    return o ? &plan->moves[o - plan->place.osds] : NULL;
}

static bool is_voter(const Fb__Pg *pg, uint32_t replica)
{
    for (size_t m = 0; m < pg->n_member; m++)
        if (pg->member[m]->replica == replica)
            return !pg->member[m]->learner;
    return false;
}

/* Where it is to be there are replicas that wait for room, which there will not be before somebody makes
 * some. */
static bool finds_no_room(const struct mon *mon, const Fb__PgMember *wanted)
{
    const struct mon_osd *o = mon_osd_find(mon, wanted->osd);

    return o && o->shard[wanted->shard].lacks_room;
}

/* What the PG is doing already. `by`: 1, or -1 to take it back. One that has been without a leader for a
 * while does nothing, perhaps for ever, and is in nobody's way. One that waits for room is in nobody's but
 * where that is. */
static void note_moves(struct mon_plan *plan, const struct mon *mon, const struct mon_pg *p, int by)
{
    const Fb__Pg *pg = mon_pg_item(p);
    uint32_t *moves;
    bool waits = false, goes_on = false;

    if (!pg->n_wanted || mon->alive_ns - mon_pg_said_ns(mon, p) >= PATIENCE_NS)
        return;
    for (size_t m = 0; m < pg->n_wanted; m++) {
        if (is_voter(pg, pg->wanted[m]->replica))
            continue;
        *(finds_no_room(mon, pg->wanted[m]) ? &waits : &goes_on) = true;
        if ((moves = moves_of(plan, pg->wanted[m]->osd)) != NULL)
            *moves += (uint32_t)by;
    }
    if ((!waits || goes_on) && (moves = moves_of(plan, p->leader_osd)) != NULL)
        *moves += (uint32_t)by;
}

bool mon_move_failed(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *wanted)
{
    const struct mon_osd *o = mon_osd_find(mon, wanted->osd);

    if (is_voter(mon_pg_item(p), wanted->replica))
        return false;
    if (!o || !mon_osd_in(mon_osd_item(o)))
        return true;
    if (!mon_osd_item(o)->up)
        return mon_osd_down_ns(mon, o) >= PATIENCE_NS;
    const struct mon_shard *shard = &o->shard[wanted->shard];
    return shard->failed[0] && mon->alive_ns - shard->failed_ns >= PATIENCE_NS;
}

/* ---- one PG ---- */

enum verdict { MOVE_NOW, MOVE_LEAD_ONLY, MOVE_LATER };

static uint32_t moves_max(const struct mon *mon)
{
    return mon->state.moves_max ? mon->state.moves_max : MON_MOVES_DEFAULT;
}

static bool shard_serves(const struct mon *mon, uint32_t osd, uint32_t shard)
{
    const struct mon_osd *o = mon_osd_find(mon, osd);

    return o && mon_osd_item(o)->up && shard < mon_osd_item(o)->n_shard && !o->shard[shard].failed[0];
}

static const Fb__PgMember *find_place(const struct mon_members *list, const struct placement_member *at)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->row[i].osd == at->osd && list->row[i].shard == at->shard)
            return &list->row[i];
    return NULL;
}

/* May a new replica of the PG be made there now? Not beside another one of the same PG that is still to go.
 */
static bool has_room(struct mon_plan *plan, const struct mon *mon, const struct mon_edit *e,
                     const struct placement_member *at)
{
    const uint32_t *moves = moves_of(plan, at->osd);

    return moves && *moves < moves_max(mon) && shard_serves(mon, at->osd, at->shard) && has_space(mon, at) &&
           !find_place(&e->member, at) && !find_place(&e->leaving, at) && !find_place(&e->dropped, at);
}

/* The members to be, the one that is to lead first. False: a new one cannot be made now. */
static bool want_members(struct mon_plan *plan, const struct mon *mon, const struct mon_pg *p,
                         struct mon_edit *e, const struct placement_change *change, uint64_t epoch,
                         struct mon_members *ret)
{
    const struct mon_members *from = e->wanted.count ? &e->wanted : &e->member;

    ret->count = 0;
    if (!e->pg.replica_next)
        for (uint32_t i = 0; i < e->member.count; i++)
            e->pg.replica_next = MAX(e->pg.replica_next, e->member.row[i].replica + 1);
    for (uint32_t i = 0; i < change->member_count; i++) {
        const struct placement_member *at = &change->member[(change->lead + i) % change->member_count];
        const Fb__PgMember *stays = find_place(from, at);
        Fb__PgMember row = FB__PG_MEMBER__INIT;
        if (!stays)
            stays = find_place(&e->member, at);
        if (stays && !mon_confirmed(&mon_news(p)->lost, stays->replica)) {
            (void)mon_members_add(ret, stays);
            continue;
        }
        if (!has_room(plan, mon, e, at))
            return false;
        row.replica = e->pg.replica_next++;
        row.osd = at->osd;
        row.shard = at->shard;
        row.birth = epoch;
        (void)mon_members_add(ret, &row);
    }
    return true;
}

/* A replica that is lost and is to be made anew on the same shard: first it has to leave. If it was only
 * about to become one that votes, those that vote stay as they are. False: it is not that. */
static bool want_without_lost(const struct mon_pg *p, const struct mon_edit *e, struct mon_members *ret)
{
    const struct mon_members *from = e->wanted.count ? &e->wanted : &e->member;
    uint32_t voters = 0, lost = 0;

    ret->count = 0;
    for (uint32_t i = 0; i < from->count; i++)
        lost += mon_confirmed(&mon_news(p)->lost, from->row[i].replica);
    for (uint32_t i = 0; i < e->member.count; i++) {
        voters += !e->member.row[i].learner;
        if (!e->member.row[i].learner && !mon_confirmed(&mon_news(p)->lost, e->member.row[i].replica))
            (void)mon_members_add(ret, &e->member.row[i]);
    }
    return lost && ret->count * 2 > voters;
}

/* A replica that would go, but has to stay for another PG; NULL: there is none. That one's id. */
static const Fb__PgMember *must_stay(const struct mon *mon, const struct mon_pg *p,
                                     const struct placement_change *change, uint64_t *ret_for)
{
    const Fb__Pg *pg = mon_pg_item(p);

    for (size_t m = 0; m < pg->n_member; m++) {
        bool stays = mon_confirmed(&mon_news(p)->lost, pg->member[m]->replica);
        for (uint32_t i = 0; i < change->member_count; i++)
            stays |= change->member[i].osd == pg->member[m]->osd &&
                     change->member[i].shard == pg->member[m]->shard;
        if (!stays && (*ret_for = mon_force_keeps(mon, p, pg->member[m])) != 0)
            return pg->member[m];
    }
    return NULL;
}

static bool majority_up(const struct mon *mon, const struct mon_members *members)
{
    uint32_t up = 0;

    for (uint32_t i = 0; i < members->count; i++)
        up += shard_serves(mon, members->row[i].osd, members->row[i].shard) || PLANT(MON_COUNT_DOWN);
    return up * 2 > members->count;
}

static bool same_members(const struct mon_members *a, const struct mon_members *b)
{
    for (uint32_t i = 0; i < a->count; i++)
        if (!mon_members_find(b, a->row[i].replica))
            return false;
    return a->count == b->count;
}

static uint32_t count_new(const struct mon_edit *e, const struct mon_members *wanted)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < wanted->count; i++)
        count += !mon_members_find(&e->member, wanted->row[i].replica);
    return count;
}

/* The voters and, until they are, those to be: the leader's group on the way to it (osd/pg_group.c). */
static uint32_t group_size(const struct mon_edit *e, const struct mon_members *wanted)
{
    uint32_t count = wanted->count;

    for (uint32_t i = 0; i < e->member.count; i++)
        count += !e->member.row[i].learner && !mon_members_find(wanted, e->member.row[i].replica);
    return count;
}

static bool may_change(const struct mon *mon, const struct mon_pg *p, const struct mon_edit *e)
{
    return e->pg.born && mon_pg_reported(mon, p) && mon_news(p)->group.index <= e->pg.group_index &&
           e->leaving.count + e->dropped.count <= HELD_MAX && e->member.count;
}

/* Is the next PG of its pool to be split off it? That waits while its members change: what is only to be even
 * comes later. */
static bool split_comes_first(const struct mon *mon, const Fb__Pg *pg, const struct placement_change *change)
{
    const Fb__Pool *pool = mon_pool_item(mon_pool_find(mon, mon_pg_pool(pg->id)));

    if (change->missing || !mon_pool_splits(pool) ||
        placement_pg_parent(pool->pg_count) != mon_pg_number(pg->id))
        return false;
    for (size_t m = 0; m < pg->n_member; m++) {
        const struct mon_osd *o = mon_osd_find(mon, pg->member[m]->osd);
        if (!o || !mon_osd_in(mon_osd_item(o)))
            return false;
    }
    return true;
}

static enum verdict decide(struct mon_plan *plan, const struct mon *mon, const struct mon_pg *p,
                           const struct placement_change *change, uint64_t epoch, struct mon_edit *e)
{
    struct mon_members wanted;
    uint32_t *leads = moves_of(plan, p->leader_osd);

    mon_edit_init(e, mon_pg_item(p));
    uint64_t kept_for;
    if (split_comes_first(mon, mon_pg_item(p), change) || must_stay(mon, p, change, &kept_for))
        return MOVE_LATER;
    if (!may_change(mon, p, e) ||
        (!want_members(plan, mon, p, e, change, epoch, &wanted) && !want_without_lost(p, e, &wanted)))
        return MOVE_LATER;
    if (e->wanted.count && same_members(&wanted, &e->wanted))
        return MOVE_LATER;
    if (!e->wanted.count && same_members(&wanted, &e->member)) {
        for (uint32_t i = 0; i < wanted.count; i++)
            wanted.row[i] = *mon_members_find(&e->member, wanted.row[i].replica);
        e->member = wanted;
        return MOVE_LEAD_ONLY;
    }
    uint32_t added = count_new(e, &wanted);
    if (!majority_up(mon, &wanted) || group_size(e, &wanted) > MON_GROUP_MAX)
        return MOVE_LATER;
    if (added && (!leads || *leads >= moves_max(mon)))
        return MOVE_LATER;
    mon_edit_want(e, mon, &wanted, epoch);
    return MOVE_NOW;
}

/* What is put now counts for what is put after it. */
static void count_change(struct mon_plan *plan, const struct mon_pg *p, const struct mon_edit *e)
{
    uint32_t *moves;

    for (uint32_t i = 0; i < e->wanted.count; i++)
        if (!mon_members_find(&e->member, e->wanted.row[i].replica) &&
            (moves = moves_of(plan, e->wanted.row[i].osd)) != NULL)
            ++*moves;
    if ((moves = moves_of(plan, p->leader_osd)) != NULL)
        ++*moves;
}

/* ---- all PGs ---- */

/* NULL: there is nothing to be done about it any more. */
static struct mon_pg *plan_pg(const struct mon *mon, const struct mon_plan *plan,
                              const struct placement_change *change)
{
    struct mon_pg *p = mon_pg_find(mon, plan->place.pgs[change->pg].id);
    const struct mon_pool *pool = p ? mon_pool_find(mon, mon_pg_pool(mon_pg_item(p)->id)) : NULL;

    if (!p || !pool || mon_pg_item(p)->removed || mon_pool_item(pool)->removed ||
        change->member_count > mon_pool_item(pool)->replicas)
        return NULL;
    return p;
}

static void count_progress(struct mon *mon, const struct mon_plan *plan)
{
    struct mon_moves *m = &mon->moves, was = *m;

    *m = (struct mon_moves){.stuck = plan->plan.stuck_count,
                            .begun_us = was.begun_us,
                            .begun_ns = was.begun_ns,
                            .objects_done = was.objects_done};
    mon_for_each(mon, MON_PG, node)
    {
        const struct mon_pg *p = mon_pg_of(node);
        const Fb__Pg *pg = mon_pg_item(p);
        uint32_t copies = 0;
        for (size_t w = 0; w < pg->n_wanted; w++)
            copies += !is_voter(pg, pg->wanted[w]->replica);
        m->under_way += pg->n_wanted > 0;
        m->replicas += copies;
        m->objects += copies * p->objects;
    }
    for (uint32_t i = 0; i < plan->plan.change_count; i++) {
        const struct placement_change *change = &plan->plan.changes[i];
        const struct mon_pg *p = plan_pg(mon, plan, change);
        if (!p || mon_pg_item(p)->n_wanted ||
            (!change->added && change->member_count == mon_pg_item(p)->n_member))
            continue;
        uint64_t kept_for;
        if (must_stay(mon, p, change, &kept_for)) {
            m->kept++;
            m->kept_pg = mon_pg_item(p)->id;
            m->kept_for = kept_for;
            continue;
        }
        *(change->missing ? &m->urgent : &m->misplaced) += 1;
        m->replicas += change->added;
        m->objects += change->added * p->objects;
    }
    if (!m->under_way && !m->urgent && !m->misplaced) {
        if (m->begun_us && !m->kept && !m->stuck)
            mon_note(mon, LOG_INFO, "all PGs have the members that they should have, after %" PRIu64 " s",
                     (uint64_t)((mon->alive_ns - m->begun_ns) / NS_PER_S));
        m->begun_us = m->begun_ns = m->objects_done = 0;
    } else if (!m->begun_us) {
        mon_note(mon, LOG_INFO,
                 "%u PGs lack replicas, %u are to be moved: %" PRIu64 " replicas are to be copied", m->urgent,
                 m->misplaced, m->replicas);
        m->begun_us = mon->core->env->wall_us(mon->core->env_self);
        m->begun_ns = mon->alive_ns;
    }
}

static bool may_decide(struct mon *mon)
{
    return PLANT(MON_DECIDES_EARLY) ||
           (!mon->behind[0] && mon_osd_proven(mon) && mon->alive_ns >= 2 * mon->config.osd_down_after_ns);
}

static bool look_due(const struct mon *mon)
{
    uint64_t every_ns = LOOK_NS + mon->items[MON_PG].count / LOOK_PGS * NS_PER_S;

    return mon->alive_ns - mon->move_looked_ns >= every_ns;
}

void mon_move_settle(struct mon *mon, struct mon_change *c)
{
    if (mon->plan)
        mon->plan->put = false;
    if (mon->plan && mon->plan->rests && mon->plan->epoch == mon->state.epoch)
        return; /* nothing comes of itself, but from what forgets the plan */
    /* What reports said comes first: decisions are made on what it leads to. */
    if (c->count || !look_due(mon) || !may_decide(mon))
        return;
    struct mon_plan *plan = plan_get(mon);
    if (!plan)
        return;
    memset(plan->moves, 0, (plan->place.input.osd_count + 1) * sizeof(*plan->moves));
    mon_for_each(mon, MON_PG, node) note_moves(plan, mon, mon_pg_of(node), 1);
    count_progress(mon, plan);
    for (uint32_t i = 0; i < plan->plan.change_count && c->count < MON_PUTS_PER_TXN; i++) {
        const struct mon_pg *p = plan_pg(mon, plan, &plan->plan.changes[i]);
        struct mon_edit e;
        if (!p)
            continue;
        note_moves(plan, mon, p, -1); /* what has no prospect is not to stand in its own way */
        enum verdict verdict = decide(plan, mon, p, &plan->plan.changes[i], c->state.epoch, &e);
        if (verdict == MOVE_NOW)
            count_change(plan, p, &e);
        else
            note_moves(plan, mon, p, 1);
        if (verdict != MOVE_LATER)
            mon_edit_put(&e, c);
    }
    plan->put = c->count;
    plan->rests = !plan->plan.change_count && !mon->moves.under_way && !plan->spares;
    /* What was found is looked for again, with the turn. */
    if (!c->count)
        mon->move_looked_ns = mon->alive_ns;
}

void mon_move_soon(struct mon *mon)
{
    if (mon->items[MON_PG].count < LOOK_PGS)
        mon->move_looked_ns = 0;
}

/* ---- for people ---- */

void mon_progress_fill(const struct mon *mon, Fb__MoveProgress *ret)
{
    const struct mon_moves *m = &mon->moves;
    uint64_t elapsed_ms = m->begun_ns ? (mon->alive_ns - m->begun_ns) / NS_PER_MS : 0;

    fb__move_progress__init(ret);
    ret->under_way = m->under_way;
    ret->urgent = m->urgent;
    ret->misplaced = m->misplaced;
    ret->stuck = m->stuck;
    ret->copies = m->replicas;
    ret->objects_left = m->objects;
    ret->objects_done = m->objects_done;
    ret->begun_us = m->begun_us;
    ret->left_ms = m->objects_done ? m->objects * elapsed_ms / m->objects_done : 0;
    ret->moves_max = moves_max(mon);
}

static bool fill_move(struct mon_request *r, const Fb__Pg *pg, const struct placement_change *change,
                      Fb__PlannedMove *ret)
{
    uint32_t *osds = wire_arena_alloc(&r->arena, (pg->n_member + change->member_count) * sizeof(*osds));

    fb__planned_move__init(ret);
    if (!osds)
        return false;
    ret->pg = pg->id;
    ret->from_osd = osds;
    for (size_t m = 0; m < pg->n_member; m++)
        if (!pg->member[m]->learner)
            osds[ret->n_from_osd++] = pg->member[m]->osd;
    ret->to_osd = osds + ret->n_from_osd;
    for (uint32_t m = 0; m < change->member_count; m++)
        ret->to_osd[ret->n_to_osd++] = change->member[(change->lead + m) % change->member_count].osd;
    ret->missing = change->missing;
    ret->copies = change->added;
    return true;
}

void mon_rebalance_plan(struct mon_request *r)
{
    struct mon *mon = r->mon;
    struct mon_plan *fresh = plan_get(mon), *plan = fresh ? fresh : mon->plan;
    Fb__PlannedMove *rows = wire_arena_alloc(&r->arena, PLAN_ROWS_MAX * sizeof(*rows));
    Fb__PlannedMove **pointers = wire_arena_alloc(&r->arena, PLAN_ROWS_MAX * sizeof(*pointers));
    Fb__MoveProgress progress;
    uint32_t count = 0;

    if (!plan && mon->planning) {
        mon_reply(r, mon_fail(r, -ERR_RETRY, "the plan is being made: try again in a few seconds"));
        return;
    }
    if (!plan || !rows || !pointers) {
        mon_reply(r, -ERR_NO_MEMORY);
        return;
    }
    count_progress(mon, plan);
    mon_progress_fill(mon, &progress);
    for (uint32_t i = 0; i < plan->plan.change_count && count < PLAN_ROWS_MAX; i++) {
        const struct mon_pg *p = plan_pg(mon, plan, &plan->plan.changes[i]);
        uint64_t kept_for;
        if (!p || mon_pg_item(p)->n_wanted || must_stay(mon, p, &plan->plan.changes[i], &kept_for))
            continue;
        if (!fill_move(r, mon_pg_item(p), &plan->plan.changes[i], &rows[count]))
            break;
        pointers[count] = &rows[count];
        count++;
    }
    r->reply.moves = pointers;
    r->reply.n_moves = count;
    r->reply.progress = &progress;
    mon_reply(r, 0);
}

static int moves_limit_build(struct mon_request *r)
{
    uint32_t moves = r->call->moves_limit->moves;

    if (moves > MON_PGS_MAX)
        return mon_fail(r, -ERR_INVALID, "%u PGs at once: it must be 0 (the default of %u) to %u", moves,
                        MON_MOVES_DEFAULT, MON_PGS_MAX);
    r->nothing = moves == r->mon->state.moves_max;
    r->change.state.moves_max = moves;
    return 0;
}

static void moves_limit_done(struct mon_request *r)
{
    if (!r->nothing)
        mon_note(r->mon, LOG_INFO, "at most %u PGs move to or from an OSD at once", moves_max(r->mon));
    mon_move_soon(r->mon);
}

const struct mon_method mon_moves_limit = {.build = moves_limit_build, .done = moves_limit_done};
