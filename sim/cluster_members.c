/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operator is asked by and by: scrubs, OSDs out and in, another number of replicas, other pools. And
 * what must be so in the end: all PGs have the members that they should have, where the map says, and nothing
 * else is anywhere.
 */
#include "sim/cluster_boot.h"

#include "osd/pg.h"

#define SCRUB_EVERY_NS (3 * NS_PER_S)

static void scrub_fire(void *owner)
{
    struct cluster *c = owner;

    if (c->quiet)
        return;
    admin_ask(
        c, &(struct admin_job){.kind = ADMIN_JOB_SCRUB, .deep = sim_rng_below(&c->scrub_rng, 2), .tries = 1});
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_SCRUBBED, .tries = 1});
    sim_after(c->sim, sim_rng_below(&c->scrub_rng, 2 * SCRUB_EVERY_NS), scrub_fire, c);
}

void admin_scrubs_start(struct cluster *c)
{
    c->scrub_rng = sim_rng_make(c->sim->seed, "cluster.scrub", 0);
    sim_after(c->sim, sim_rng_below(&c->scrub_rng, 2 * SCRUB_EVERY_NS), scrub_fire, c);
}

static void scrubbed(struct cluster *c, const struct admin_job *job)
{
    c->scrubbed = true;
}

void admin_scrub_all(struct cluster *c)
{
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_SCRUB, .deep = true});
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_SCRUBBED, .done = scrubbed});
}

/* ---- members that come and go ---- */

#define MEMBERS_EVERY_NS  (1500 * NS_PER_MS)
#define MEMBERS_MIN       3 /* OSDs that stay in, or no PG could move */
#define REPLICAS_TRIES    3
#define GROUP_LOOK_NS     (2 * NS_PER_MS)
#define GROUP_LOOKS_NS    NS_PER_S /* after something was asked for */
#define GROUP_KILL_ONE_OF 4        /* of the moments that are found */

static void osd_change(struct cluster *c, uint32_t osd, bool out, uint32_t tries)
{
    c->out[osd] = out;
    admin_ask(c,
              &(struct admin_job){.kind = ADMIN_JOB_OSD, .osd = c->osds[osd].id, .out = out, .tries = tries});
}

/* One that hears of it late may come to lead by a log that knows more than its map. */
static void members_unheard(struct cluster *c)
{
    const struct process *p = &c->osds[sim_rng_below(&c->member_rng, c->osd_count)].process;
    uint64_t for_ns = sim_rng_range(&c->member_rng, NS_PER_S / 2, 3 * NS_PER_S);

    sim_log(c->sim, "%s does not hear the monitors", p->name);
    for (uint32_t i = 0; i < c->mon_count; i++)
        sim_net_hold(c->net, c->mons[i].host, p->host, for_ns, true);
}

/* The pool is to have another number of replicas. */
static void replicas_change(struct cluster *c, uint32_t replicas, uint32_t tries)
{
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_REPLICAS, .replicas = replicas, .tries = tries});
}

/* The group is in the replica's log, and on its disk, and not applied: a start has to find it there. */
static bool has_new_group(const struct osd_shard *shard)
{
    map_for_each (&shard->pgs, node) {
        const struct pg *pg = map_entry(node, struct pg, node);
        if (pg->raft.group.index > pg->sp->applied_index && pg->raft.group.index <= pg->sp->durable_index)
            return true;
    }
    return false;
}

static void group_look_fire(void *owner)
{
    struct cluster *c = owner;
    struct shard_at s = {0};

    if (c->quiet || c->sim->now_ns >= c->group_look_ns)
        return;
    while (cluster_shard_next(c, &s))
        if (has_new_group(s.is) && sim_rng_below(&c->group_rng, GROUP_KILL_ONE_OF) == 0) {
            process_kill(&c->osds[s.osd].process, SIM_CRASH_PROCESS,
                         sim_rng_range(&c->group_rng, NS_PER_S / 10, NS_PER_S));
            return;
        }
    sim_after(c->sim, GROUP_LOOK_NS, group_look_fire, c);
}

/* Now that members are about to change: somebody dies while they do. */
static void group_look(struct cluster *c)
{
    bool looks = c->group_look_ns > c->sim->now_ns;

    if (sim_fault_intensity(c->sim, SIM_FAULT_FORCE))
        return;
    c->group_look_ns = c->sim->now_ns + GROUP_LOOKS_NS;
    if (!looks)
        sim_after(c->sim, GROUP_LOOK_NS, group_look_fire, c);
}

static void members_fire(void *owner)
{
    struct cluster *c = owner;

    if (c->quiet)
        return;
    group_look(c);
    if (sim_rng_below(&c->member_rng, 4) == 0)
        members_unheard(c);
    uint32_t osd = (uint32_t)sim_rng_below(&c->member_rng, c->osd_count), in = 0;
    for (uint32_t i = 0; i < c->osd_count; i++)
        in += !c->out[i];
    while (!c->out[osd] && in == MEMBERS_MIN)
        osd = (osd + 1) % c->osd_count;
    if (retire_is_under_way(c, osd)) {
        ; /* it stays out */
    } else if (c->replicas_vary && sim_rng_below(&c->replicas_rng, 4) == 0) {
        replicas_change(c, c->replicas + (uint32_t)sim_rng_below(&c->replicas_rng, 2), REPLICAS_TRIES);
    } else {
        sim_log(c->sim, "%s is taken %s", c->osds[osd].process.name, c->out[osd] ? "in" : "out");
        osd_change(c, osd, !c->out[osd], 3);
        sim_injected(c->sim, SIM_FAULT_MEMBER);
    }
    sim_after(c->sim, sim_rng_below(&c->member_rng, 2 * MEMBERS_EVERY_NS), members_fire, c);
}

void admin_members_start(struct cluster *c)
{
    if (c->osd_count == MEMBERS_MIN)
        return;
    c->member_rng = sim_rng_make(c->sim->seed, "cluster.member", 0);
    c->group_rng = sim_rng_make(c->sim->seed, "cluster.member.group", 0);
    c->replicas_rng = sim_rng_make(c->sim->seed, "cluster.replicas", 0);
    /* Not where it is counted how many are left. */
    c->replicas_vary = sim_rng_below(&c->replicas_rng, 2) && !sim_fault_intensity(c->sim, SIM_FAULT_FORCE);
    sim_after(c->sim, sim_rng_below(&c->member_rng, 2 * MEMBERS_EVERY_NS), members_fire, c);
}

/* ---- pools that come and go ---- */

#define POOLS_EVERY_NS (1500 * NS_PER_MS)
#define POOL_TRIES     3

static void pool_disk_fire(void *owner)
{
    sim_disk_hang(owner, false);
}

/* A disk may hang just then: the map orders replicas that cannot be made, nor the map be saved, while others
 * go on. */
static void pool_fire(void *owner)
{
    struct cluster *c = owner;
    struct sim_disk *disk = c->osds[sim_rng_below(&c->pool_rng, c->osd_count)].disk;

    if (c->quiet)
        return;
    if (c->pools_made)
        admin_ask(c,
                  &(struct admin_job){.kind = ADMIN_JOB_NO_POOL, .pool = c->pools_made, .tries = POOL_TRIES});
    sim_log(c->sim, "another pool is made");
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_POOL, .pool = ++c->pools_made, .tries = POOL_TRIES});
    if (sim_fault_intensity(c->sim, SIM_FAULT_SPLIT)) /* and is removed while its PGs are split */
        admin_ask(c,
                  &(struct admin_job){.kind = ADMIN_JOB_SPLIT, .pool = c->pools_made, .tries = POOL_TRIES});
    if (sim_rng_below(&c->pool_rng, 2)) {
        sim_disk_hang(disk, true);
        sim_after(c->sim, sim_rng_below(&c->pool_rng, NS_PER_S), pool_disk_fire, disk);
    }
    sim_after(c->sim, sim_rng_below(&c->pool_rng, 2 * POOLS_EVERY_NS), pool_fire, c);
}

void admin_pools_start(struct cluster *c)
{
    if (!c->pools_come)
        return;
    c->pool_rng = sim_rng_make(c->sim->seed, "cluster.pools", 0);
    sim_after(c->sim, sim_rng_below(&c->pool_rng, POOLS_EVERY_NS), pool_fire, c);
}

/* What was asked for in vain may have been done all the same. */
static void pools_stop(struct cluster *c)
{
    for (uint32_t i = 1; i <= c->pools_made; i++)
        admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_NO_POOL, .pool = i});
}

/* ---- at rest ---- */

static void moved(struct cluster *c, const struct admin_job *job)
{
    c->moved = true;
}

static const struct store_pg *replica_at(const struct cluster *c, uint64_t pg, const Fb__PgMember *m)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (c->osds[i].id == m->osd && m->shard < c->shard_count && c->osds[i].shards[m->shard])
            return store_pg_find(osd_shard_store(c->osds[i].shards[m->shard]), pg);
    return NULL;
}

/* Of the pools that came and went none is left; but a client that was away when their markers were given up
 * still knows them (mon/mon_settle.c). */
static bool pg_stays(const Fb__Pg *pg)
{
    return pg->id >> 32 == 1;
}

/* Each member is where the map says, and nothing else is anywhere. */
static bool replicas_in_place(const struct cluster *c, const Fb__ClusterMap *map)
{
    uint64_t named = 0, found = 0;

    for (size_t i = 0; i < map->n_pg; i++)
        for (size_t m = 0; pg_stays(map->pg[i]) && m < map->pg[i]->n_member; m++) {
            const struct store_pg *pg = replica_at(c, map->pg[i]->id, map->pg[i]->member[m]);
            if (!pg || pg->record.replica != map->pg[i]->member[m]->replica)
                return false;
            named++;
        }
    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        for (const struct store_pg *pg = NULL; (pg = store_pg_next(osd_shard_store(s.is), pg));)
            found++;
    return named == found;
}

bool admin_members_rest(struct cluster *c)
{
    const Fb__ClusterMap *map = admin_map(c);

    /* Not before what piled up is done: too much would be dropped. */
    if (!c->moved_asked && admin_idle(c) && !retire_ends(c)) {
        c->moved_asked = true;
        pools_stop(c);
        for (uint32_t i = 0; i < c->osd_count; i++)
            osd_change(c, i, false, 0);
        if (c->replicas_vary)
            replicas_change(c, c->replicas, 0);
        admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_MOVED, .done = moved});
    }
    for (size_t i = 0; map && i < map->n_pg; i++)
        if (pg_stays(map->pg[i]) && (map->pg[i]->n_wanted || map->pg[i]->n_leaving || map->pg[i]->n_dropped))
            return false;
    return map && c->moved && replicas_in_place(c, map);
}
