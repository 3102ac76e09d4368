/* SPDX-License-Identifier: Apache-2.0
 *
 * PGs without a leader: what is left of them, and whether an order to go on with one replica (mon_force.c) is
 * all that helps.
 *
 * A PG is given up only when nobody who is there could be elected. Each replica says who votes in its group,
 * by its own log, and votes are counted as raft would count them: the map's group may be an older one, of
 * which a majority is there that elects nobody, since the newest log is another group's.
 */
#include "mon/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

/* The last word of the replica with this number that is, or was, where `m` is, if it is still good; NULL:
 * there is none. It is good only of a shard that had saved the PG's newest item: by an older one it may be
 * deleting what it spoke of, as an order said that has been withdrawn since. */
static const struct mon_standing *standing_of(const struct mon *mon, const struct mon_pg *p,
                                              const Fb__PgMember *m, uint32_t replica)
{
    for (uint32_t i = 0; p->standings && i < MON_GROUP_MAX; i++) {
        const struct mon_standing *s = &p->standings[i];
        if (s->heard_ns && s->osd == m->osd && s->shard == m->shard && s->row.replica == replica &&
            (s->epoch >= mon_pg_item(p)->epoch || PLANT(MON_FORCE_OLD_WORD)) &&
            mon->alive_ns - s->heard_ns < mon->config.osd_down_after_ns)
            return s;
    }
    return NULL;
}

bool mon_force_may_survive(const Fb__PgStanding *s)
{
    return s->voter && (s->state == FB__PG_STANDING_STATE__STANDING_WHOLE ||
                        s->state == FB__PG_STANDING_STATE__STANDING_IN_PARENT);
}

/* Whoever is asked votes for one that has as much as its own log: a half-copied replica, too, and one that is
 * a learner by its own log. */
static bool votes_for(const Fb__PgStanding *s, const Fb__PgStanding *candidate)
{
    return (s->state == FB__PG_STANDING_STATE__STANDING_WHOLE ||
            s->state == FB__PG_STANDING_STATE__STANDING_HALF) &&
           (s->log_term != candidate->log_term ? s->log_term < candidate->log_term
                                               : s->log_index <= candidate->log_index);
}

static bool is_better(const Fb__PgStanding *a, const Fb__PgStanding *b)
{
    if (mon_force_may_survive(a) != mon_force_may_survive(b))
        return mon_force_may_survive(a);
    /* Its parent's log is another one, and older: one that was born is better whatever it has. */
    if ((a->state == FB__PG_STANDING_STATE__STANDING_IN_PARENT) !=
        (b->state == FB__PG_STANDING_STATE__STANDING_IN_PARENT))
        return b->state == FB__PG_STANDING_STATE__STANDING_IN_PARENT;
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

/* Of OSDs that are in the way. */
struct in_the_way {
    size_t down_count, unheard_count, ending_count;
    uint32_t down[MON_MEMBERS_MAX], unheard[MON_MEMBERS_MAX], ending[MON_MEMBERS_MAX];
};

/* Its OSD runs, but not this shard: it has failed, or hangs. */
static bool shard_is_out(const struct mon *mon, const struct mon_osd *o, uint32_t shard)
{
    return shard < mon_osd_item(o)->n_shard &&
           (o->shard[shard].failed[0] ||
            mon->alive_ns - MAX(o->shard[shard].heard_ns, (uint64_t)MON_TICK_NS) >=
                mon->config.osd_down_after_ns);
}

/* One of its replicas: where does it stand? */
static void look_at(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *m, bool dropped,
                    struct mon_force_view *v, struct in_the_way *way)
{
    const struct mon_osd *o = mon_osd_find(mon, m->osd);
    const Fb__PgForce *force = mon_force_waits(mon_pg_item(p)) ? mon_pg_item(p)->force : NULL;
    /* Until it goes on it has the number that it had. */
    bool survivor = force && m->replica == force->replica;
    const struct mon_standing *s = standing_of(mon, p, m, survivor ? force->survivor : m->replica);
    bool gone = !o || mon_osd_item(o)->removed;

    if (gone)
        osd_put(v->lost_osds, &v->view.n_lost_osds, m->osd);
    if (!gone && dropped && force && m->replica < force->replica)
        osd_put(way->ending, &way->ending_count, m->osd);
    if (!gone && (!mon_osd_item(o)->up || shard_is_out(mon, o, m->shard))) {
        osd_put(way->down, &way->down_count, m->osd);
        if (mon_osd_item(o)->up)
            osd_put(v->failed_osds, &v->view.n_failed_osds, m->osd);
    } else if (!gone && s) {
        standing_put(v, &s->row);
    } else if (!gone && !dropped && (!m->birth || m->born) &&
               !mon_confirmed(&mon_news(p)->lost, m->replica)) {
        osd_put(way->unheard, &way->unheard_count, m->osd);
    }
}

const Fb__PgStanding *mon_force_find(const struct mon_force_view *v, uint32_t replica)
{
    for (size_t i = 0; i < v->view.n_standing; i++)
        if (v->rows[i]->replica == replica)
            return v->rows[i];
    return NULL;
}

static bool most_vote(const struct mon_force_view *v, const Fb__PgStanding *candidate, const uint32_t *voters,
                      size_t count)
{
    size_t votes = 0;

    for (size_t i = 0; i < count; i++) {
        const Fb__PgStanding *s = mon_force_find(v, voters[i]);
        votes += s && votes_for(s, candidate);
    }
    return votes * 2 > count;
}

/* Will one of those that are there be elected? */
static bool has_majority(const struct mon_force_view *v)
{
    for (size_t i = 0; i < v->view.n_standing; i++) {
        const Fb__PgStanding *s = v->rows[i];
        if (s->voter && s->state == FB__PG_STANDING_STATE__STANDING_WHOLE &&
            most_vote(v, s, s->voters, s->n_voters) &&
            (!s->n_voters_before || most_vote(v, s, s->voters_before, s->n_voters_before)))
            return true;
    }
    return false;
}

/* It was ordered, and is not carried out yet. */
static Fb__ForceVerdict verdict_waits(const struct mon *mon, const struct mon_pg *p,
                                      const struct mon_force_view *v, const struct in_the_way *way)
{
    const Fb__Pg *pg = mon_pg_item(p);
    const struct mon_osd *o = mon_osd_find(mon, pg->member[0]->osd); /* the one member */
    const Fb__PgStanding *s = mon_force_find(v, pg->force->survivor);
    bool fails = !o || mon_osd_item(o)->removed || (s && !mon_force_may_survive(s)) ||
                 mon_confirmed(&mon_news(p)->lost, pg->force->replica);

    if (fails)
        return way->ending_count && pg->before ? FB__FORCE_VERDICT__FORCE_FAILS
                                               : FB__FORCE_VERDICT__FORCE_NOTHING_LEFT;
    return FB__FORCE_VERDICT__FORCE_WAITS;
}

static Fb__ForceVerdict verdict_of(const struct mon *mon, const struct mon_pg *p,
                                   const struct mon_force_view *v, const struct in_the_way *way)
{
    if (mon_pg_reported(mon, p))
        return FB__FORCE_VERDICT__FORCE_LEADS;
    if (mon_force_waits(mon_pg_item(p)))
        return verdict_waits(mon, p, v, way);
    if (way->down_count)
        return FB__FORCE_VERDICT__FORCE_OSDS_DOWN;
    if (way->unheard_count)
        return FB__FORCE_VERDICT__FORCE_UNHEARD;
    if (has_majority(v))
        return FB__FORCE_VERDICT__FORCE_MAJORITY;
    return v->view.survivor ? FB__FORCE_VERDICT__FORCE_POSSIBLE : FB__FORCE_VERDICT__FORCE_NOTHING_LEFT;
}

static int compare_osds(const void *a, const void *b)
{
    const uint32_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void osds_fill(struct mon_force_view *v, const uint32_t *osds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        osd_put(v->osds, &v->view.n_osds, osds[i]);
}

void mon_force_view(const struct mon *mon, const struct mon_pg *p, struct mon_force_view *v)
{
    const Fb__Pg *pg = mon_pg_item(p);
    Fb__PgMember *const *lists[] = {pg->member, pg->wanted, pg->leaving, pg->dropped};
    const size_t counts[] = {pg->n_member, pg->n_wanted, pg->n_leaving, pg->n_dropped};
    struct in_the_way way = {0};

    *v = (struct mon_force_view){0};
    fb__pg_force_view__init(&v->view);
    v->view.pg = pg->id;
    v->view.standing = v->rows;
    v->view.osds = v->osds;
    v->view.lost_osds = v->lost_osds;
    v->view.failed_osds = v->failed_osds;
    v->view.leader_commit = p->leader_commit;
    v->view.leader_us = p->leader_us + (mon_pg_said_ns(mon, p) - p->reported_ns) / NS_PER_US;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < counts[l]; i++) {
            bool again = false;
            for (size_t m = 0; l == 1 && m < pg->n_member; m++)
                again |= pg->member[m]->replica == lists[l][i]->replica;
            if (!again)
                look_at(mon, p, lists[l][i], l == 3, v, &way);
        }
    for (size_t m = 0; m < pg->n_member; m++)
        v->view.voters += !pg->member[m]->learner;
    if (v->view.n_standing && v->rows[0]->n_voters)
        v->view.voters = (uint32_t)v->rows[0]->n_voters;
    if (v->view.n_standing && mon_force_may_survive(v->rows[0]))
        v->view.survivor = v->rows[0]->replica;
    if (mon_force_waits(pg))
        v->view.survivor = pg->force->survivor;
    v->view.verdict = verdict_of(mon, p, v, &way);
    if (mon_force_waits(pg))
        osds_fill(v, way.ending, way.ending_count);
    osds_fill(v, way.down, way.down_count);
    if (!v->view.n_osds)
        osds_fill(v, way.unheard, way.unheard_count);
    qsort(v->osds, v->view.n_osds, sizeof(*v->osds), compare_osds);
    qsort(v->lost_osds, v->view.n_lost_osds, sizeof(*v->lost_osds), compare_osds);
}

/* ---- what is left in a parent only ---- */

/* Has the child no leader, and is what it has on the shard of that member perhaps in its parent's replica
 * there, and nowhere else (osd/pg_split.c)? Not if a replica of its own speaks from there, or the shard says
 * that it is lost: as long as its parent could give birth to it there that is not said. */
static bool left_in_parent(const struct mon *mon, const struct mon_pg *child, const Fb__PgMember *m)
{
    const Fb__Pg *pg = mon_pg_item(child);
    const Fb__PgForce *force = mon_force_waits(pg) ? pg->force : NULL;
    const struct mon_standing *s = standing_of(mon, child, m, m->replica);

    if (!s && force && m->replica == force->replica)
        s = standing_of(mon, child, m, force->survivor);
    return s ? s->row.state == FB__PG_STANDING_STATE__STANDING_IN_PARENT
             : !mon_confirmed(&mon_news(child)->lost, m->replica);
}

uint64_t mon_force_keeps(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *member)
{
    const Fb__Pg *pg = mon_pg_item(p);
    const struct mon_osd *o = mon_osd_find(mon, member->osd);
    uint32_t number = mon_pg_number(pg->id);

    if (!pg->force || !o || mon_osd_item(o)->removed || PLANT(MON_MOVES_PARENT))
        return 0;
    /* What was split off it since then is in its log. */
    for (uint64_t bit = 1; number + bit < pg->force->split_count; bit <<= 1) {
        const struct mon_pg *child =
            bit > number ? mon_pg_find(mon, placement_pg_id(mon_pg_pool(pg->id), number + (uint32_t)bit))
                         : NULL;
        if (!child || !mon_pg_item(child)->split || mon_pg_item(child)->removed ||
            mon_pg_reported(mon, child))
            continue;
        for (size_t m = 0; m < mon_pg_item(child)->n_member; m++) {
            const Fb__PgMember *row = mon_pg_item(child)->member[m];
            if (row->osd == member->osd && row->shard == member->shard && left_in_parent(mon, child, row))
                return mon_pg_item(child)->id;
        }
    }
    return 0;
}

/* ---- the look ---- */

/* Not removed, of a pool that is there, and born. */
bool mon_force_concerns(const struct mon *mon, const struct mon_pg *p)
{
    const Fb__Pg *pg = mon_pg_item(p);
    const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(pg->id));

    return pg->born && !pg->removed && pool && !mon_pool_item(pool)->removed;
}

int mon_force_none(struct mon_request *r, uint64_t id)
{
    const struct mon_pg *p = mon_pg_find(r->mon, id);
    const struct mon_pool *pool = mon_pool_find(r->mon, mon_pg_pool(id));
    char osds[200] = "";

    for (size_t m = 0; p && pool && !mon_pool_item(pool)->removed && m < mon_pg_item(p)->n_member; m++)
        if (mon_birth_awaited(r->mon, p, mon_pg_item(p)->member[m]))
            snprintf(osds + strlen(osds), sizeof(osds) - strlen(osds), "%sosd.%u", osds[0] ? ", " : "",
                     mon_pg_item(p)->member[m]->osd);
    if (osds[0])
        return mon_fail(
            r, -ERR_DENIED,
            "PG %u.%x is not born yet: %.150s must make a replica of it first; start what can be started, and "
            "say `fastblock osd lost OSD` of what is gone for good (its process stopped)",
            mon_pg_pool(id), mon_pg_number(id), osds);
    return mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x with data", mon_pg_pool(id), mon_pg_number(id));
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
        if (mon_force_concerns(mon, p) &&
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
    mon_reply(r, call->pg && !count ? mon_force_none(r, call->pg) : 0);
}
