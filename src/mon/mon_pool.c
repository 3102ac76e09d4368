/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools: creation with the placement of their PGs, removal by order.
 *
 * The PGs of a new pool are written before the pool in as many transactions as it takes; the pool comes with
 * the last one, and without it nobody sees them. Within the map the pool has the lowest epoch of the change
 * and the PGs follow, a few per epoch, so that a delta can be cut anywhere between them.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PGS_PER_EPOCH MON_LIMIT(256, 3)

/* Of pools whose PG count is the monitor's to choose: */
#define PGS_LEAST             8
#define PGS_PER_SHARD         64
#define PGS_MANY              256 /* replicas on a shard */
#define PGS_PER_SHARD_OF_MANY 16

struct mon_pool *mon_pool_by_name(const struct mon *mon, const char *name)
{
    mon_for_each(mon, MON_POOL, node)
    {
        struct mon_pool *p = mon_pool_of(node);
        if (!mon_pool_item(p)->removed && !strcmp(mon_pool_item(p)->name, name))
            return p;
    }
    return NULL;
}

/* ---- creation ---- */

/* As many PGs as give each shard some PGS_PER_SHARD replicas: enough to spread load, and work when one is
 * lost; a few when the shards have many already. A power of two, so that all are of a size
 * (base/placement.h). */
static uint32_t pgs_for(const struct mon *mon, const struct placement_osd *osds, uint32_t osd_count,
                        uint32_t replicas)
{
    uint64_t shards = 0, load = 0;
    uint32_t count = PGS_LEAST;

    for (uint32_t i = 0; i < osd_count; i++)
        for (uint32_t s = 0; s < osds[i].shard_count; s++)
            shards += osds[i].shard_usable[s];
    mon_for_each(mon, MON_PG, node) load += mon_pg_item(mon_pg_of(node))->n_member;
    uint64_t aim = load < PGS_MANY * shards ? PGS_PER_SHARD : PGS_PER_SHARD_OF_MANY;
    while (count < MON_PGS_MAX && 2ull * count * replicas <= aim * shards)
        count *= 2;
    return count;
}

static const char *domain_plural(enum placement_domain domain)
{
    return domain == PLACEMENT_OSD    ? "OSDs"
           : domain == PLACEMENT_HOST ? "hosts"
           : domain == PLACEMENT_RACK ? "racks"
                                      : "zones";
}

static void put_pg(struct mon_change *c, uint64_t id, const struct placement_change *at, uint64_t epoch)
{
    uint32_t replicas = at->member_count;
    Fb__Pg pg = FB__PG__INIT;
    Fb__PgMember member[MON_REPLICAS_MAX], *pointers[MON_REPLICAS_MAX];

    for (uint32_t m = 0; m < replicas; m++) {
        fb__pg_member__init(&member[m]);
        member[m].replica = m + 1;
        const struct placement_member *place = &at->member[(at->lead + m) % replicas];
        member[m].osd = place->osd;
        member[m].shard = place->shard;
        pointers[m] = &member[m];
    }
    pg.id = id;
    pg.epoch = epoch;
    pg.birth = epoch;
    pg.member = pointers;
    pg.n_member = replicas;
    pg.replica_next = replicas + 1;
    mon_change_put(c, MON_PG, id, &pg.base);
}

static int put_pgs(struct mon_request *r, const Fb__Pool *pool)
{
    struct mon_change *c = &r->change;
    struct mon_place place;
    struct placement_plan plan;
    uint64_t epoch = c->state.epoch + 1;
    uint32_t placed = 0;

    if (mon_place_init(&place, r->mon))
        return -ERR_NO_MEMORY;
    if (mon_place_pool(&place, r->mon, pool, &plan)) {
        mon_place_fini(&place);
        return -ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < plan.change_count; i++) {
        uint64_t id = place.pgs[plan.changes[i].pg].id;
        if (plan.changes[i].member_count == pool->replicas) {
            put_pg(c, id, &plan.changes[i], epoch + mon_pg_number(id) / PGS_PER_EPOCH);
            placed++;
        }
    }
    c->state.epoch = epoch + (pool->pg_count - 1) / PGS_PER_EPOCH;
    if (plan.refused_count)
        mon_fail(r, 0, "placement function '%s' is refused for %u PGs (%s): they are placed without it",
                 pool->placement, plan.refused_count, plan.refused_why);
    placement_plan_fini(&plan);
    mon_place_fini(&place);
    if (placed < pool->pg_count)
        return mon_fail(
            r, -ERR_TOO_FEW_OSDS,
            "%u PGs with %u replicas do not fit: a shard holds at most %u replicas, or 16384 from 512 MiB on. Use fewer PGs",
            pool->pg_count, pool->replicas, PLACEMENT_SHARD_PGS);
    return 0;
}

static int put_pool(struct mon_request *r, struct placement_osd *osds, uint32_t osd_count)
{
    const Fb__PoolCreate *call = r->call->pool_create;
    uint32_t pg_count = call->pg_count ? call->pg_count : pgs_for(r->mon, osds, osd_count, call->replicas);
    struct mon_change *c = &r->change;
    enum placement_domain domain;

    if (placement_domain_parse(call->failure_domain, &domain))
        return mon_fail(r, -ERR_INVALID, "unknown failure domain '%.32s': it is one of osd, host, rack, zone",
                        call->failure_domain);
    uint32_t domains = placement_domain_count(osds, osd_count, domain);
    if (domains < call->replicas)
        return mon_fail(r, -ERR_TOO_FEW_OSDS,
                        "%u replicas need %u %s, each %s; there are %u (%u OSDs up and in of %" PRIu64
                        "). Start more OSDs, or create the pool with fewer replicas%s",
                        call->replicas, call->replicas, domain_plural(domain),
                        domain == PLACEMENT_OSD ? "up" : "with an OSD that is up", domains, osd_count,
                        r->mon->items[MON_OSD].count,
                        domain == PLACEMENT_OSD ? "" : " or failure domain osd");

    Fb__Pool pool = FB__POOL__INIT;
    static const char *const names[] = {"osd", "host", "rack", "zone"};
    pool.id = c->state.pool_next++;
    pool.epoch = c->state.epoch;
    pool.name = call->name;
    pool.replicas = call->replicas;
    pool.pg_count = r->reply.pg_count = pg_count;
    pool.failure_domain = (char *)names[domain];
    r->reply.id = pool.id;
    pool.placement = call->placement;
    mon_change_put(c, MON_POOL, pool.id, &pool.base);
    return put_pgs(r, &pool);
}

static int pool_create_build(struct mon_request *r)
{
    const Fb__PoolCreate *call = r->call->pool_create;

    if (!mon_name_valid(call->name))
        return mon_fail(r, -ERR_INVALID,
                        "'%.64s' cannot be a pool's name: 1 to %u of the characters A-Z a-z 0-9 . _ -",
                        call->name, MON_NAME_MAX);
    if (call->replicas < 1 || call->replicas > MON_REPLICAS_MAX)
        return mon_fail(r, -ERR_INVALID, "%u replicas: it must be 1 to %u", call->replicas, MON_REPLICAS_MAX);
    if (call->pg_count > MON_PGS_MAX)
        return mon_fail(r, -ERR_INVALID, "%u PGs: it must be 1 to %u", call->pg_count, MON_PGS_MAX);
    if (call->placement[0] && !mon_chooser_find(r->mon, call->placement))
        return mon_fail(r, -ERR_NOT_FOUND,
                        "this monitor has no placement function '%.64s': start it with --placement-plugin",
                        call->placement);
    if (mon_pool_by_name(r->mon, call->name))
        return mon_fail(r, -ERR_EXISTS, "there is a pool '%s' already", call->name);

    uint32_t osd_count;
    struct placement_osd *osds = mon_place_osds(r->mon, &osd_count);
    if (!osds)
        return -ERR_NO_MEMORY;
    int error = put_pool(r, osds, osd_count);
    free(osds);
    return error;
}

static void pool_create_done(struct mon_request *r)
{
    const Fb__PoolCreate *call = r->call->pool_create;

    mon_note(r->mon, LOG_INFO, "pool '%s' (id %" PRIu64 ") created: %u replicas, %u PGs", call->name,
             r->reply.id, call->replicas, r->reply.pg_count);
    if (call->replicas == 1)
        mon_fail(r, 0, "warning: with 1 replica the data is lost with any OSD that is lost");
    else if (call->replicas == 2)
        mon_fail(r, 0,
                 "warning: with 2 replicas nothing can be written or read while one of the two OSDs is down");
    else if (r->reply.pg_count & (r->reply.pg_count - 1))
        mon_fail(r, 0, "%u PGs is not a power of two: some get twice the data of others", r->reply.pg_count);
}

const struct mon_method mon_pool_create = {
    .build = pool_create_build, .done = pool_create_done, .needs_proof = true};

/* ---- another number of replicas, more PGs ---- */

/* What fewer than three replicas mean, for people. */
static const char *few_replicas(uint32_t replicas)
{
    return replicas == 1
               ? "with 1 replica the data is lost with any OSD that is lost, and cannot be read or written while "
                 "that OSD is down"
               : "with 2 replicas nothing can be written or read while one of the two OSDs is down: a majority of "
                 "two is two";
}

static int set_replicas(struct mon_request *r, Fb__Pool *pool)
{
    const Fb__PoolSet *call = r->call->pool_set;
    enum placement_domain domain = PLACEMENT_OSD;
    uint32_t count, domains = 0;

    if (call->replicas < 1 || call->replicas > MON_REPLICAS_MAX)
        return mon_fail(r, -ERR_INVALID, "%u replicas: it must be 1 to %u", call->replicas, MON_REPLICAS_MAX);
    if (call->replicas < 3 && call->replicas < pool->replicas && !call->no_failover)
        return mon_fail(r, -ERR_DENIED, "%s. If that is meant, say --yes-no-failover",
                        few_replicas(call->replicas));
    struct placement_osd *osds = mon_place_osds(r->mon, &count);
    if (osds && !placement_domain_parse(pool->failure_domain, &domain))
        domains = placement_domain_count(osds, count, domain);
    free(osds);
    if (call->replicas > pool->replicas && domains < call->replicas)
        return mon_fail(r, -ERR_TOO_FEW_OSDS, "%u replicas need %u %s %s; there are %u: add OSDs first",
                        call->replicas, call->replicas, domain_plural(domain),
                        domain == PLACEMENT_OSD ? "that are up and in" : "with an OSD that is up and in",
                        domains);
    pool->replicas = call->replicas;
    return 0;
}

static int pool_set_build(struct mon_request *r)
{
    const Fb__PoolSet *call = r->call->pool_set;
    struct mon_pool *p = mon_pool_by_name(r->mon, call->name);

    if (!p)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no pool '%.64s'", call->name);
    const Fb__Pool *was = mon_pool_item(p);
    Fb__Pool pool = *was;
    if (!call->replicas && !call->pg_count)
        return mon_fail(r, -ERR_INVALID, "nothing is to be changed of pool '%s'", pool.name);
    int error = call->replicas ? set_replicas(r, &pool) : 0;
    if (!error && call->pg_count)
        error = mon_split_order(r, &pool, call->pg_count);
    if (error)
        return error;
    r->nothing = pool.replicas == was->replicas && pool.pg_target == was->pg_target;
    pool.epoch = r->change.state.epoch;
    mon_change_put(&r->change, MON_POOL, pool.id, &pool.base);
    return 0;
}

static void pool_set_done(struct mon_request *r)
{
    const Fb__PoolSet *call = r->call->pool_set;

    if (!r->nothing && call->pg_count)
        mon_note(r->mon, LOG_INFO, "pool '%s' is to have %u PGs", call->name, call->pg_count);
    if (call->pg_count & (call->pg_count - 1))
        mon_fail(r, 0, "%u PGs is not a power of two: some get twice the data of others", call->pg_count);
    if (!r->nothing && call->replicas)
        mon_note(r->mon, LOG_INFO, "pool '%s' is to have %u replicas", call->name, call->replicas);
    if (!r->nothing)
        mon_plan_forget(r->mon);
}

const struct mon_method mon_pool_set = {.build = pool_set_build, .done = pool_set_done};

/* ---- removal ---- */

static int pool_remove_build(struct mon_request *r)
{
    struct mon *mon = r->mon;
    const char *name = r->call->pool_remove->name;
    struct mon_pool *p = mon_pool_by_name(mon, name);
    uint32_t images = 0;
    const char *example = "";

    if (!p)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no pool '%.64s'", name);
    mon_for_each(mon, MON_IMAGE, node)
    {
        const Fb__Image *i = mon_image_item(mon_image_of(node));
        if (i->pool == mon_pool_item(p)->id) {
            images++;
            example = i->name;
        }
    }
    if (images)
        return mon_fail(r, -ERR_NOT_EMPTY, "pool '%s' has %u image%s (such as '%s/%s'): remove %s first",
                        name, images, images == 1 ? "" : "s", name, example, images == 1 ? "it" : "them");

    Fb__Pool pool = *mon_pool_item(p);
    pool.removed = true;
    pool.epoch = r->change.state.epoch;
    r->reply.id = pool.id;
    mon_change_put(&r->change, MON_POOL, pool.id, &pool.base);
    return 0;
}

static void pool_remove_done(struct mon_request *r)
{
    mon_note(r->mon, LOG_INFO, "pool '%s' (id %" PRIu64 ") removed: its OSDs delete the data",
             r->call->pool_remove->name, r->reply.id);
    mon_settle_soon(r->mon);
}

const struct mon_method mon_pool_remove = {.build = pool_remove_build, .done = pool_remove_done};
