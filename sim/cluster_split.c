/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool gets more PGs, now and then, when the load has had the time to write: so splits move something.
 * The images of such a run are larger than usual, and its PGs few at first.
 *
 * The moment to do harm at is between the entry that splits a PG and the last replica that has applied it: it
 * is looked for, and then somebody dies, lags, hangs, or comes too late.
 */
#include "sim/cluster_boot.h"

#include <stdlib.h>
#include <string.h>

#include "base/entry.h"
#include "base/placement.h"
#include "osd/pg.h"
#include "raft/raft.h"

#define WRITE_FIRST_NS (2500 * NS_PER_MS)
#define EVERY_NS       (1500 * NS_PER_MS)
#define LOOK_NS        (2 * NS_PER_MS)
#define PGS_MAX        8
#define HARM_PERCENT   70

void split_choose(struct cluster *c)
{
    if (!sim_fault_intensity(c->sim, SIM_FAULT_SPLIT) || c->profile == PROFILE_FULL)
        return;
    struct sim_rng rng = sim_rng_make(c->sim->seed, "cluster.split.shape", 0);
    c->image_sectors = (24u << 20) / CLUSTER_SECTOR / c->image_count;
    c->image_sectors = MAX(ALIGN_UP(c->image_sectors, OBJECT_SIZE / CLUSTER_SECTOR), c->image_sectors);
    c->pg_count = 1 + (uint32_t)sim_rng_below(&rng, 2);
    c->large_percent = MAX(c->large_percent, 6u);
    /* So that reads are under way when what they read becomes another PG's. */
    c->cache_bytes = MIN(c->cache_bytes, 1u << 20);
    c->read_slow_ns = c->read_slow_ns ? c->read_slow_ns : 150 * NS_PER_MS;
}

static uint64_t between(struct cluster *c, uint64_t min_ms, uint64_t max_ms)
{
    return sim_rng_range(&c->split.rng, min_ms * NS_PER_MS, max_ms * NS_PER_MS);
}

/* ---- the moment ---- */

struct replica {
    struct cluster_osd *osd;
    const struct store_pg *pg;
    bool leads;
};

static uint32_t replicas_of(struct cluster *c, uint64_t pg, struct replica ret[CLUSTER_OSDS_MAX])
{
    uint32_t count = 0;

    for (struct shard_at s = {0}; cluster_shard_next(c, &s);) {
        const struct store_pg *sp = store_pg_find(osd_shard_store(s.is), pg);
        struct osd_pg_view view;
        if (!sp || count == CLUSTER_OSDS_MAX)
            continue;
        bool leads = osd_pg_view(s.is, pg, &view) && view.role == RAFT_LEADER;
        ret[count++] = (struct replica){&c->osds[s.osd], sp, leads};
    }
    return count;
}

/* Is the split that makes PG `child` in its log, and not applied? */
static bool has_entry(const struct store_pg *sp, uint32_t child)
{
    struct entry entry;
    struct slice payload;

    for (uint64_t i = sp->applied_index + 1; i <= sp->last_index; i++)
        if (!store_log_get(sp, i, &entry, &payload) && entry.type == ENTRY_SPLIT && entry.image == child)
            return true;
    return false;
}

/* What it had to give, as the first replica has it that is born. */
static void count_moved(struct cluster *c, const struct store_pg *sp)
{
    struct store_object_info at = {0};
    uint64_t written[BLOCKS_PER_OBJECT / 64];

    c->split.done++;
    for (bool start = true; store_object_next(sp, start, at.image, at.object, &at); start = false) {
        c->split.objects++;
        if (!store_block_status(sp, at.image, at.object, written))
            continue;
        for (uint32_t w = 0; w < ARRAY_LEN(written); w++)
            c->split.blocks += (uint64_t)__builtin_popcountll(written[w]);
    }
}

/* ---- what is done then ---- */

static void resume_fire(void *owner)
{
    struct process *p = owner;

    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i]->state == SIM_NODE_PAUSED)
            sim_node_resume(p->nodes[i]);
}

static void harm_pause(struct cluster *c, struct process *p)
{
    if (p->nodes[0]->state != SIM_NODE_UP)
        return;
    for (uint32_t i = 0; i < p->node_count; i++)
        sim_node_pause(p->nodes[i]);
    sim_after(c->sim, between(c, 50, 800), resume_fire, p);
}

static void unhang_fire(void *owner)
{
    sim_disk_hang(owner, false);
}

static void harm(struct cluster *c, const struct replica *replicas, uint32_t count)
{
    struct cluster_osd *leader = NULL, *other = NULL;
    uint32_t from = (uint32_t)sim_rng_below(&c->split.rng, count);

    for (uint32_t i = 0; i < count; i++) {
        const struct replica *r = &replicas[(from + i) % count];
        if (r->leads)
            leader = r->osd;
        else
            other = r->osd;
    }
    if (!leader || !other)
        return;
    uint32_t image = (uint32_t)sim_rng_below(&c->split.rng, c->image_count);
    struct cluster_client *writer = load_writer(c, image);
    uint64_t roll = sim_rng_below(&c->split.rng, 9);
    sim_log(c->sim, "a PG is split, led by %s: trouble %llu", leader->process.name, (unsigned long long)roll);
    switch (roll) {
    case 0:
        process_kill(&leader->process, SIM_CRASH_PROCESS, between(c, 20, 600));
        return;
    case 1: /* for long enough, at times, that it has to recover beyond the entry */
        process_kill(&other->process, SIM_CRASH_POWER,
                     between(c, 20, sim_rng_below(&c->split.rng, 2) ? 1500 : 6000));
        return;
    case 2: /* it gets the entry late, or has to recover beyond it */
        sim_net_hold(c->net, leader->process.host, other->process.host, between(c, 100, 2500), true);
        return;
    case 3:
        admin_demote(c, leader->id);
        return;
    case 4:
        (void)load_take_over(c, image);
        return;
    case 5:
        harm_pause(c, &leader->process);
        return;
    case 6: /* frames for the parent come when the child has what they are about */
        for (uint32_t i = 0; writer && i < c->osd_count; i++)
            sim_net_hold(c->net, writer->process.host, c->osds[i].process.host,
                         c->timeout_ns / 2 + between(c, 20, 500), false);
        return;
    case 7: /* it makes the split when the others have, and the map */
        sim_disk_hang(leader->disk, true);
        sim_after(c->sim, between(c, 50, 900), unhang_fire, leader->disk);
        return;
    default: /* all lose what is not durable, and come back at different times */
        for (uint32_t i = 0; i < count; i++)
            process_kill(&replicas[i].osd->process, SIM_CRASH_POWER, between(c, 20, 1000));
        return;
    }
}

static void look_fire(void *owner)
{
    struct cluster *c = owner;
    struct split *s = &c->split;
    struct replica replicas[CLUSTER_OSDS_MAX];

    if (s->next == c->pg_count)
        return;
    uint64_t pool = s->pool << 32;
    uint32_t count = replicas_of(c, pool | s->next, replicas);
    if (count) {
        count_moved(c, replicas[0].pg);
        s->next++;
        s->harmed = false;
    } else if (!s->harmed && !c->quiet) {
        count = replicas_of(c, pool | placement_pg_parent(s->next), replicas);
        bool begun = false;
        for (uint32_t i = 0; i < count; i++)
            begun |= has_entry(replicas[i].pg, s->next);
        s->harmed = begun;
        if (begun && !force_waits(c) && sim_rng_below(&s->rng, 100) < HARM_PERCENT)
            harm(c, replicas, count);
    }
    sim_after(c->sim, LOOK_NS, look_fire, c);
}

static bool is_ready(const struct pg *pg)
{
    for (uint32_t i = 0; i < pg->member_count; i++)
        if (pg->members[i].replica != pg->replica && pg->members[i].complete < pg->split_index)
            return false;
    return pg->split_child && pg->split_look_ns && !pg->split_proposed && !pg->splitting &&
           pg->member_count == 3 && store_complete_index(pg->sp) >= pg->split_index;
}

bool split_moment(struct cluster *c, bool begun, uint32_t ret_osds[3])
{
    struct shard_at at = {0};

    for (const struct pg *pg; (pg = cluster_led_next(c, &at));) {
        struct replica replicas[CLUSTER_OSDS_MAX];
        uint32_t n = 1;
        if (begun ? !pg->split_proposed || !has_entry(pg->sp, pg->split_proposed - 1) : !is_ready(pg))
            continue;
        if (replicas_of(c, pg->id, replicas) != 3)
            continue;
        ret_osds[0] = at.osd;
        for (uint32_t k = 0; k < 3 && n < 3; k++)
            if (replicas[k].osd->number != ret_osds[0])
                ret_osds[n++] = replicas[k].osd->number;
        if (n == 3)
            return true;
    }
    return false;
}

/* ---- splits ---- */

/* The first one, which has the images. */
static uint64_t pool_of(const struct cluster *c)
{
    uint64_t pool = UINT64_MAX;

    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        for (const struct store_pg *sp = NULL; (sp = store_pg_next(osd_shard_store(s.is), sp));)
            pool = MIN(pool, sp->record.pg >> 32);
    return pool == UINT64_MAX ? 0 : pool;
}

static void split_fire(void *owner)
{
    struct cluster *c = owner;
    struct split *s = &c->split;
    uint32_t more = (uint32_t)sim_rng_range(&s->rng, 1, MAX(c->pg_count, 2u));

    if (c->quiet || c->pg_count + more > PGS_MAX)
        return;
    s->pool = s->pool ? s->pool : pool_of(c);
    /* If there are too many jobs just now, or nobody serves, so be it. */
    if (admin_takes(c) && s->pool) {
        bool looks = s->next != c->pg_count;
        c->pg_count += more;
        sim_log(c->sim, "the pool is to have %u PGs", c->pg_count);
        admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_SPLIT});
        sim_injected(c->sim, SIM_FAULT_SPLIT);
        if (!looks)
            sim_after(c->sim, 0, look_fire, c);
    }
    sim_after(c->sim, sim_rng_below(&s->rng, 2 * EVERY_NS), split_fire, c);
}

bool splits_happen(const struct cluster *c)
{
    return sim_fault_intensity(c->sim, SIM_FAULT_SPLIT) > 0;
}

void splits_start(struct cluster *c)
{
    if (!splits_happen(c))
        return;
    c->split.rng = sim_rng_make(c->sim->seed, "cluster.split", 0);
    c->split.made = c->split.next = c->pg_count;
    sim_after(c->sim, WRITE_FIRST_NS + sim_rng_below(&c->split.rng, EVERY_NS), split_fire, c);
}
