/* SPDX-License-Identifier: Apache-2.0
 *
 * More PGs for a pool: PGs are split, one after the other.
 *
 * The operator says how many there are to be (Pool.pg_target). That is the whole order: which PG is next
 * follows from the number that there are (placement_pg_parent()), and that PG's leader carries it out
 * (osd/pg_split.c). Whoever has a replica of the new PG reports it, with its group; then it comes into the
 * map, and the pool's PG count rises to include it. What a log has decided is taken as it is, whatever the
 * target is by then: such a PG is there.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/level.h"

#define STUCK_NS (60 * NS_PER_S)

/* ---- what is reported ---- */

void mon_split_report(struct mon *mon, const Fb__PgReport *report)
{
    struct mon_pool *p = mon_pool_find(mon, mon_pg_pool(report->pg));
    uint32_t number = mon_pg_number(report->pg);

    if (!p || !number || number >= MON_PGS_MAX || number != mon_pool_item(p)->pg_count ||
        (p->child.members.count && p->child_number == number))
        return; /* known, or another one comes first: it is said again */
    const struct mon_pg *parent =
        mon_pg_find(mon, placement_pg_id(mon_pg_pool(report->pg), placement_pg_parent(number)));
    const char *fault =
        parent ? mon_group_fault(mon, mon_pg_item(parent), report) : "its parent does not exist";
    if (fault) {
        core_log(mon->core, LOG_ERROR, "mon",
                 "PG %u.%x: the group with which it was split off is refused: %s", mon_pg_pool(report->pg),
                 number, fault);
        return;
    }
    mon_group_take(&p->child, report);
    p->child_number = number;
    mon_settle_soon(mon);
}

/* The members in the order in which those of the parent are to lead. */
static void child_members(struct mon_edit *e, const Fb__Pg *parent, const struct mon_group *group)
{
    for (size_t m = 0; m < parent->n_member; m++) {
        const Fb__PgMember *row = mon_members_find(&group->members, parent->member[m]->replica);
        if (row)
            (void)mon_members_add(&e->member, row);
    }
    for (uint32_t i = 0; i < group->members.count; i++)
        if (!mon_members_find(&e->member, group->members.row[i].replica))
            (void)mon_members_add(&e->member, &group->members.row[i]);
}

void mon_split_settle(struct mon *mon, struct mon_change *c)
{
    mon_for_each(mon, MON_POOL, node)
    {
        struct mon_pool *p = mon_pool_of(node);
        Fb__Pool pool = *mon_pool_item(p);
        uint64_t id = placement_pg_id(pool.id, pool.pg_count);
        Fb__Pg child = FB__PG__INIT;
        struct mon_edit e;

        if (!p->child.members.count || p->child_number != pool.pg_count || c->count + 2 > MON_PUTS_PER_TXN)
            continue;
        const struct mon_pg *at =
            mon_pg_find(mon, placement_pg_id(pool.id, placement_pg_parent(pool.pg_count)));
        if (!at)
            continue; /* removed meanwhile, with its pool */
        const Fb__Pg *parent = mon_pg_item(at);
        child.id = id;
        child.birth = c->state.epoch;
        child.born = child.split = true;
        mon_edit_init(&e, &child);
        child_members(&e, parent, &p->child);
        /* Numbers that the parent gave out may be those of the child, too. */
        e.pg.replica_next = mon_replica_next(parent);
        pool.pg_count++;
        pool.epoch = c->state.epoch;
        mon_change_put(c, MON_POOL, pool.id, &pool.base);
        mon_edit_put(&e, c);
    }
}

void mon_split_done(struct mon *mon, uint64_t id)
{
    struct mon_pool *p = mon_pool_find(mon, id);
    const Fb__Pool *pool = p ? mon_pool_item(p) : NULL;
    uint32_t number = p ? p->child_number : 0;

    if (!p || !p->child.members.count || number >= pool->pg_count)
        return;
    p->child.members.count = 0;
    p->split_ns = mon->alive_ns;
    mon_note(mon, LOG_INFO, "PG %u.%x was split: a part of its objects is in PG %u.%x now", pool->id,
             placement_pg_parent(number), pool->id, number);
    if (pool->pg_count >= pool->pg_target)
        mon_note(mon, LOG_INFO, "pool '%s' has %u PGs", pool->name, pool->pg_count);
    mon_move_soon(mon);
}

/* ---- the order ---- */

bool mon_pool_splits(const Fb__Pool *pool)
{
    return !pool->removed && pool->pg_count && pool->pg_count < pool->pg_target;
}

const Fb__Pool *mon_split_stuck(struct mon *mon)
{
    mon_for_each(mon, MON_POOL, node)
    {
        struct mon_pool *p = mon_pool_of(node);
        if (!p->split_ns || !mon_pool_splits(mon_pool_item(p)))
            p->split_ns = mon->alive_ns;
        if (mon_pool_splits(mon_pool_item(p)) && mon->alive_ns - p->split_ns >= STUCK_NS)
            return mon_pool_item(p);
    }
    return NULL;
}

static void count_pg(const struct mon *mon, const Fb__Pg *pg, uint32_t *load)
{
    size_t count = pg->n_wanted ? pg->n_wanted : pg->n_member;

    for (size_t m = 0; m < count; m++) {
        const Fb__PgMember *row = pg->n_wanted ? pg->wanted[m] : pg->member[m];
        if (row->osd < mon->state.osd_next && row->shard < PLACEMENT_SHARDS_MAX)
            load[(size_t)row->osd * PLACEMENT_SHARDS_MAX + row->shard]++;
    }
}

/* Of each PG beyond `pg_count`, on behalf of whom it comes from. */
static void count_children(const struct mon *mon, const Fb__Pool *pool, uint32_t target, uint32_t *load)
{
    for (uint32_t n = pool->pg_count; n < target; n++) {
        uint32_t root = n;
        while (root >= pool->pg_count)
            root = placement_pg_parent(root);
        const struct mon_pg *p = mon_pg_find(mon, placement_pg_id(pool->id, root));
        if (p)
            count_pg(mon, mon_pg_item(p), load);
    }
}

/* How many replicas each shard would have if all children stayed where they are born: those of this pool,
 * with so many PGs, and those that other pools are to have. Heap; NULL without memory. */
static uint32_t *count_replicas(const struct mon *mon, const Fb__Pool *pool, uint32_t target)
{
    uint32_t *load = calloc((size_t)mon->state.osd_next + 1, PLACEMENT_SHARDS_MAX * sizeof(*load));

    if (!load)
        return NULL;
    mon_for_each(mon, MON_PG, node) count_pg(mon, mon_pg_item(mon_pg_of(node)), load);
    mon_for_each(mon, MON_POOL, node)
    {
        const Fb__Pool *other = mon_pool_item(mon_pool_of(node));
        if (other->id == pool->id)
            count_children(mon, pool, target, load);
        else if (mon_pool_splits(other))
            count_children(mon, other, other->pg_target, load);
    }
    return load;
}

/* How many replicas that shard can hold; `at` as in what count_replicas() returns. */
static uint32_t shard_room(const struct mon *mon, size_t at)
{
    const struct mon_osd *o = mon_osd_find(mon, at / PLACEMENT_SHARDS_MAX);
    size_t shard = at % PLACEMENT_SHARDS_MAX;

    return o && shard < mon_osd_item(o)->n_shard && mon_osd_item(o)->shard[shard]->pgs_max
               ? mon_osd_item(o)->shard[shard]->pgs_max
               : PLACEMENT_SHARD_PGS;
}

/* NULL: all OSDs that were ever started know of splits. */
static const Fb__Osd *find_older(const struct mon *mon)
{
    mon_for_each(mon, MON_OSD, node)
    {
        const Fb__Osd *osd = mon_osd_item(mon_osd_of(node));
        if (!osd->removed && osd->incarnation && osd->level < LEVEL_SPLIT)
            return osd;
    }
    return NULL;
}

const Fb__PgMember *mon_split_full(const struct mon *mon, const Fb__Pool *pool)
{
    const struct mon_pg *p = mon_pg_find(mon, placement_pg_id(pool->id, placement_pg_parent(pool->pg_count)));
    uint32_t *load = count_replicas(mon, pool, pool->pg_count + 1);
    const Fb__PgMember *full = NULL;

    for (size_t m = 0; p && load && m < mon_pg_item(p)->n_member; m++) {
        const Fb__PgMember *row = mon_pg_item(p)->member[m];
        size_t at = (size_t)row->osd * PLACEMENT_SHARDS_MAX + row->shard;
        if (row->osd < mon->state.osd_next && row->shard < PLACEMENT_SHARDS_MAX &&
            load[at] > shard_room(mon, at))
            full = row;
    }
    free(load);
    return full;
}

int mon_split_order(struct mon_request *r, Fb__Pool *pool, uint32_t target)
{
    if (target > MON_PGS_MAX)
        return mon_fail(r, -ERR_INVALID, "%u PGs: a pool has at most %u", target, MON_PGS_MAX);
    if (target < pool->pg_count)
        return mon_fail(
            r, -ERR_INVALID,
            "pool '%s' has %u PGs, and PGs are not merged: create a pool with fewer, and copy the images",
            pool->name, pool->pg_count);
    const Fb__Osd *older = target > pool->pg_count ? find_older(r->mon) : NULL;
    if (older)
        return mon_fail(
            r, -ERR_UNSUPPORTED,
            "the last start of osd.%u was of a version that knows nothing of splitting PGs: upgrade "
            "and restart all OSDs first",
            older->id);
    uint32_t *load = count_replicas(r->mon, pool, target);
    if (!load)
        return -ERR_NO_MEMORY;
    size_t full = SIZE_MAX;
    for (size_t i = 0; i < (size_t)r->mon->state.osd_next * PLACEMENT_SHARDS_MAX && full == SIZE_MAX; i++)
        if (load[i] > shard_room(r->mon, i))
            full = i;
    uint32_t replicas = full == SIZE_MAX ? 0 : load[full];
    free(load);
    if (replicas)
        return mon_fail(
            r, -ERR_TOO_LARGE,
            "with %u PGs osd.%u shard %u would have %u replicas, as long as they have not been spread, and has room for "
            "%u. Use fewer PGs, or go there in steps and add OSDs first",
            target, (uint32_t)(full / PLACEMENT_SHARDS_MAX), (uint32_t)(full % PLACEMENT_SHARDS_MAX),
            replicas, shard_room(r->mon, full));
    pool->pg_target = target;
    if (target > pool->pg_count)
        r->change.state.level = MAX(r->change.state.level, LEVEL_SPLIT);
    return 0;
}
