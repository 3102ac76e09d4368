/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes, monitors among them, and the shape of it all. What fails at its start ends, and is started again
 * a little later, as a supervisor would.
 */
#include "sim/cluster_boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "mon/items.h"
#include "osd/pg.h"

#define RESTART_NS     (NS_PER_S)
#define DOWN_AFTER_NS  (3 * NS_PER_S)
#define WRITER_LOST_NS (4 * NS_PER_S)
#define RING_SMALL     (8u << 20) /* the smallest there is */
#define RING_USUAL     (64u << 20)
#define CACHE_SMALL    BLOCK_SIZE
/* Devices that hold less than the images: slices have a least size, so most of it goes to the ring. */
#define FULL_DISK  (200ull << 20)
#define FULL_RING  (160ull << 20)
#define FULL_IMAGE (32u << 20)

const char *const CLUSTER_MONITORS[CLUSTER_MONS] = {"10.0.0.1:6789", "10.0.0.2:6789", "10.0.0.3:6789"};

/* ---- processes
 * ------------------------------------------------------------------------------------------------ */

void process_init(struct process *p, struct cluster *c, const char *name, const char *host)
{
    *p = (struct process){.cluster = c};
    snprintf(p->name, sizeof(p->name), "%s", name);
    snprintf(p->host, sizeof(p->host), "%s", host);
}

struct sim_node *process_add_node(struct process *p, const char *name, size_t arena_bytes,
                                  void (*start)(void *owner, struct sim_node *node), void *owner)
{
    struct cluster *c = p->cluster;
    int32_t drift_ppb = 0;

    /* Two machines differ by less than 2000 ppm. */
    if (sim_fault_intensity(c->sim, SIM_FAULT_CLOCK)) {
        sim_injected(c->sim, SIM_FAULT_CLOCK);
        drift_ppb = (int32_t)sim_rng_below(&c->rng, 1900001) - 950000;
    }
    struct sim_node *node = sim_node_new(c->sim, &(struct sim_node_config){.name = name,
                                                                           .host = p->host,
                                                                           .arena_bytes = arena_bytes,
                                                                           .drift_ppb = drift_ppb,
                                                                           .wake_max_ns = 15 * NS_PER_US,
                                                                           .start = start,
                                                                           .owner = owner});
    sim_net_port(c->net, node);
    p->nodes[p->node_count++] = node;
    return node;
}

bool process_running(const struct process *p)
{
    return p->node_count && p->nodes[0]->state != SIM_NODE_DOWN;
}

void process_start(struct process *p)
{
    p->wanted = true;
    if (process_running(p))
        return;
    p->start_count++;
    p->cluster->started_ns = p->cluster->sim->now_ns;
    if (p->starts)
        p->starts(p);
    for (uint32_t i = 0; i < p->node_count; i++)
        sim_node_start(p->nodes[i]);
}

struct restart {
    struct process *process;
    uint64_t token;
    bool kill; /* it has ended by itself: bury it first */
};

static void restart_fire(void *owner)
{
    struct restart *r = owner;
    struct process *p = r->process;

    if (r->token == p->restart_token) {
        if (r->kill)
            process_kill(p, SIM_CRASH_PROCESS, RESTART_NS);
        else if (p->wanted)
            process_start(p);
    }
    free(r);
}

static void restart_later(struct process *p, uint64_t delay_ns, bool dead)
{
    struct restart *r = sim_alloc(sizeof(*r));

    *r = (struct restart){p, ++p->restart_token, dead};
    sim_after(p->cluster->sim, delay_ns, restart_fire, r);
}

void process_exit_later(struct process *p)
{
    restart_later(p, 0, true);
}

void process_kill(struct process *p, enum sim_crash kind, uint64_t restart_ns)
{
    if (process_running(p)) {
        sim_log(p->cluster->sim, "%s %s", p->name, kind == SIM_CRASH_POWER ? "loses power" : "is killed");
        p->crashes++;
        if (p->dies)
            p->dies(p);
        for (uint32_t i = 0; i < p->node_count; i++)
            sim_node_crash(p->nodes[i], kind);
        if (p->died)
            p->died(p, kind);
    }
    restart_later(p, restart_ns, false);
}

/* ---- the monitor
 * ---------------------------------------------------------------------------------------------- */

struct mon_boot {
    struct op op;
    struct process *process;
    struct mon_start start;
};

static void mon_died(struct process *p, enum sim_crash kind)
{
    p->cluster->mon_boots[p - p->cluster->mons] = NULL;
}

struct mon *mon_at(const struct cluster *c, uint32_t number)
{
    return c->mon_boots[number] ? c->mon_boots[number]->start.ret_mon : NULL;
}

struct mon *mon_leader(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->mon_count; i++)
        if (mon_at(c, i) && mon_leads(mon_at(c, i)))
            return mon_at(c, i);
    return NULL;
}

bool cluster_shard_next(const struct cluster *c, struct shard_at *at)
{
    while (at->index < c->osd_count * c->shard_count) {
        at->osd = at->index / c->shard_count;
        at->shard = at->index % c->shard_count;
        at->node = c->osds[at->osd].process.nodes[at->shard];
        at->is = c->osds[at->osd].shards[at->shard];
        at->index++;
        if (at->is)
            return true;
    }
    return false;
}

const struct pg *cluster_led_next(const struct cluster *c, struct shard_at *at)
{
    at->led = at->led ? at->led->next : NULL;
    while (!at->led || at->led == &at->is->led) {
        if (!cluster_shard_next(c, at))
            return NULL;
        at->led = at->is->led.next;
    }
    return list_entry(at->led, struct pg, led);
}

void mon_boot_stop(struct cluster *c, uint32_t i)
{
    mon_free(c->mon_boots[i]->start.ret_mon);
    c->mon_boots[i]->start.ret_mon = NULL; /* nobody leads any more */
}

bool mon_boot_alone(const struct cluster *c, uint32_t i)
{
    const struct list *ops = &c->mons[i].nodes[0]->core.live_ops;

    return ops->next == &c->mon_boots[i]->op.live && ops->prev == ops->next;
}

void mon_boot_end(struct cluster *c, uint32_t i)
{
    struct mon_boot *b = c->mon_boots[i];

    b->start.config.meta->ops->close(b->start.config.meta);
    op_done(&b->op, 0);
    free(b);
    c->mon_boots[i] = NULL;
}

static void mon_boot_step(struct op *op)
{
    struct mon_boot *b = container_of(op, struct mon_boot, op);

    if (op->state == 0) {
        op->state = 1;
        mon_start_start(&b->start, &b->start.config, op);
        return;
    }
    if (op->children || op->state == 2)
        return;
    op->state = 2;
    if (b->start.op.result) {
        core_log(op->core, LOG_ERROR, "mon", "cannot start: %s", b->start.ret_message);
        process_exit_later(b->process);
    }
}

static const struct op_kind MON_BOOT = {"sim.mon_boot", NULL, mon_boot_step};

static void mon_node_start(void *owner, struct sim_node *node)
{
    struct process *p = owner;
    struct cluster *c = p->cluster;
    struct mon_boot *b = calloc(1, sizeof(*b));

    b->process = p;
    c->mon_boots[p - c->mons] = b;
    b->start.config = (struct mon_config){.core = &node->core,
                                          .net = sim_net_port(c->net, node),
                                          .meta = sim_meta_open(c->meta, node),
                                          .listen = CLUSTER_MONITORS[p - c->mons],
                                          .osd_down_after_ns = DOWN_AFTER_NS,
                                          .osd_out_after_ns = c->out_after_ns,
                                          .writer_lost_after_ns = WRITER_LOST_NS};
    op_start(&b->op, &node->core, &MON_BOOT, NULL);
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------------ */

static void client_init(struct cluster *c, uint32_t number)
{
    struct cluster_client *client = &c->clients[number];
    char name[32], host[32];

    snprintf(name, sizeof(name), "client.%u", number);
    snprintf(host, sizeof(host), "10.0.2.%u", number + 1);
    process_init(&client->process, c, name, host);
    client->process.died = load_died;
    client->number = number;
    /* The first two meet on one image, and the first reader looks at what they do. */
    client->image = number >= c->writer_count ? (number - c->writer_count) % c->image_count
                    : number < 2              ? 0
                                              : number - 1;
    client->reader = number >= c->writer_count;
    client->rng = sim_rng_make(c->sim->seed, "cluster.client", number);
    process_add_node(&client->process, name, 64u << 20, load_start, client);
}

static void choose_shape(struct cluster *c)
{
    struct sim_rng *rng = &c->rng;
    /* Short ones, so that requests are given up and sent again while their first frames are still under way.
     */
    static const uint64_t timeouts_ms[] = {300, 1000, 8000};
    static const uint64_t slow_ms[] = {20, 500, 2000};
    static const uint64_t caches[] = {1 << 20, 8 << 20, 8 << 20};

    /* Most clusters are small: there everybody has to do with everybody. */
    bool wide = sim_rng_below(rng, 6) == 0;
    c->worker_count = CLUSTER_WORKERS;
    c->osd_count = 3 + (uint32_t)sim_rng_below(rng, wide ? CLUSTER_OSDS_MAX - 2 : 3);
    c->shard_count = 1 + (uint32_t)sim_rng_below(rng, wide && c->osd_count == 3 ? CLUSTER_SHARDS_MAX : 2);
    c->writer_count = 2 + (uint32_t)sim_rng_below(rng, wide ? 3 : 2);
    c->client_count = c->writer_count + (uint32_t)sim_rng_below(rng, wide ? 3 : 2);
    c->image_count = c->writer_count - 1;
    c->pg_count = 1 + (uint32_t)sim_rng_below(rng, wide ? 16 : 6);
    struct sim_rng clears = sim_rng_make(c->sim->seed, "clears", 0);
    c->clear_percent = sim_rng_below(rng, 2) == 0 ? 0 : sim_rng_below(&clears, 3) ? 3 : 15;
    c->timeout_ns = timeouts_ms[sim_rng_below(rng, ARRAY_LEN(timeouts_ms))] * NS_PER_MS;
    c->slow_ns = slow_ms[sim_rng_below(rng, ARRAY_LEN(slow_ms))] * NS_PER_MS;
    c->strike_ns = sim_rng_range(rng, 50 * NS_PER_MS, 800 * NS_PER_MS);
    c->cache_bytes = caches[sim_rng_below(rng, ARRAY_LEN(caches))];
    struct sim_rng pages = sim_rng_make(c->sim->seed, "pages", 0);
    c->pages_max = 1 + (uint32_t)sim_rng_below(&pages, 4);
    c->ring_bytes = sim_rng_below(rng, 3) ? RING_USUAL : RING_SMALL;
    c->disk_bytes = 1ull << 30;
    c->image_sectors = (6u << 20) / CLUSTER_SECTOR; /* three objects */
    c->hot_places = 24;
    c->small_percent = 35;
    c->small_blocks = 1;
    c->large_percent = 3;
    c->think_ns = 20 * NS_PER_MS;
}

/* What the profile's trouble needs in order to show. */
static void choose_profile(struct cluster *c)
{
    struct sim_rng *rng = &c->rng;
    bool needs_reader = false, short_timeouts = false;

    switch (c->profile) {
    case PROFILE_LATE:
        c->hot_places = 4;
        short_timeouts = true;
        break;
    case PROFILE_FENCE:
    case PROFILE_RESIZE:
        needs_reader = true;
        short_timeouts = true;
        break;
    case PROFILE_TERM:
        c->hot_places = 8;
        c->pg_count = 1 + (uint32_t)sim_rng_below(rng, 3);
        short_timeouts = true;
        break;
    case PROFILE_LEADER:
        needs_reader = true;
        c->timeout_ns = MAX(c->timeout_ns, NS_PER_S);
        c->hot_places = 4;
        c->pg_count = 1 + (uint32_t)sim_rng_below(rng, 3);
        break;
    case PROFILE_MERGE:
        c->hot_places = 1 + (uint32_t)sim_rng_below(rng, 2);
        c->small_percent = 85;
        c->small_blocks = 3;
        c->large_percent = 0;
        c->cache_bytes = CACHE_SMALL;
        c->timeout_ns = 300 * NS_PER_MS;
        c->read_slow_ns = 500 * NS_PER_MS;
        break;
    case PROFILE_LAG:
        c->large_percent = 10;
        c->cache_bytes = 1 << 20;
        c->ring_bytes = RING_SMALL;
        c->think_ns = 10 * NS_PER_MS;
        break;
    case PROFILE_FULL:
        c->osd_count = 3;
        c->shard_count = 1;
        c->disk_bytes = FULL_DISK;
        c->ring_bytes = FULL_RING;
        c->image_sectors = ALIGN_DOWN(FULL_IMAGE / c->image_count, BLOCK_SIZE) / CLUSTER_SECTOR;
        c->hot_places = 0;
        c->clear_percent = MAX(c->clear_percent, 3u);
        c->large_percent = 30;
        break;
    case PROFILE_REST:
        needs_reader = true;
        c->timeout_ns = MAX(c->timeout_ns, NS_PER_S);
        c->hot_places = 4;
        c->pg_count = 1 + (uint32_t)sim_rng_below(rng, 4);
        break;
    case PROFILE_ANY:
    case PROFILE_COUNT:
        break;
    }
    if (needs_reader)
        c->client_count = MAX(c->client_count, c->writer_count + 1);
    if (short_timeouts)
        c->timeout_ns = MIN(c->timeout_ns, NS_PER_S);
}

/* In half of the runs whose trouble does not depend on requests that meet: places that move on, over images
 * that are larger. Not where disks are damaged: what is lost on one while the replica that has it is away,
 * and another one recovers, stays lost, and nothing would be written over it. */
static void choose_places(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "places", 0);

    if (c->damage ||
        (c->profile != PROFILE_ANY && c->profile != PROFILE_LAG && c->profile != PROFILE_RESIZE) ||
        sim_rng_below(&rng, 2))
        return;
    c->places_ns = sim_rng_range(&rng, 200 * NS_PER_MS, 1500 * NS_PER_MS);
    c->image_sectors = (24u << 20) / CLUSTER_SECTOR / c->image_count;
    c->image_sectors = ALIGN_UP(c->image_sectors, OBJECT_SIZE / CLUSTER_SECTOR);
}

/* What there is little of, and what changes, in some of the runs. */
static void choose_oddities(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "oddities", 0);

    c->inflight_max = sim_rng_below(&rng, 6) ? 0 : (uint32_t)sim_rng_range(&rng, 1, 6);
    c->osds_move = sim_rng_below(&rng, 6) == 0;
    /* The operator who goes on without a majority waits for the PGs that have lost theirs. */
    c->pools_come = sim_rng_below(&rng, 3) == 0 && !sim_fault_intensity(c->sim, SIM_FAULT_FORCE);
    c->out_after_ns = sim_rng_below(&rng, 3) ? 0 : sim_rng_range(&rng, NS_PER_S / 2, 3 * NS_PER_S);
}

/* Something smaller is wanted. */
static void cut_down(struct cluster *c, const struct sim_limits *limits)
{
    c->osd_count = MAX(3u, sim_limited(limits, SIM_LIMIT_OSDS, c->osd_count));
    c->shard_count = sim_limited(limits, SIM_LIMIT_SHARDS, c->shard_count);
    c->pg_count = sim_limited(limits, SIM_LIMIT_PGS, c->pg_count);
    c->worker_count = sim_limited(limits, SIM_LIMIT_WORKERS, c->worker_count);
    /* Readers go last. */
    bool reader = c->client_count > c->writer_count;
    c->client_count = MAX(2u, sim_limited(limits, SIM_LIMIT_CLIENTS, c->client_count));
    c->writer_count = MAX(2u, MIN(c->writer_count, c->client_count - reader));
    c->image_count = c->writer_count - 1;
}

static void mons_init(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "monitors", 0);
    char name[16], host[24];

    c->mon_count = sim_rng_below(&rng, 2) ? 1 : (uint32_t)sim_rng_range(&rng, 2, CLUSTER_MONS);
    c->meta = sim_meta_new(c->sim, &(struct sim_meta_config){.alone = c->mon_count == 1});
    sim_meta_set_written(c->meta, map_written, c);
    for (uint32_t i = 0; i < c->mon_count; i++) {
        snprintf(name, sizeof(name), c->mon_count == 1 ? "mon" : "mon.%u", i);
        snprintf(host, sizeof(host), "10.0.0.%u", i + 1);
        process_init(&c->mons[i], c, name, host);
        c->mons[i].died = mon_died;
        process_add_node(&c->mons[i], c->mons[i].name, 8u << 20, mon_node_start, &c->mons[i]);
    }
}

void cluster_init(struct cluster *c, struct sim *sim, enum cluster_profile profile,
                  const struct sim_args *args)
{
    mon_small_limits = true;
    plants_scarce = sim_fault_intensity(sim, SIM_FAULT_SCARCE);
    *c = (struct cluster){.sim = sim, .profile = profile};
    c->rng = sim_rng_make(sim->seed, "cluster", 0);
    choose_shape(c);
    choose_profile(c);
    split_choose(c);
    choose_oddities(c);
    cut_down(c, &args->limits);
    c->replicas = args->replicas ? args->replicas : 3;
    c->osd_count = MAX(c->replicas, c->osd_count);
    c->net = sim_net_new(sim, &(struct sim_net_config){0});
    mons_init(c);
    process_init(&c->admin, c, "admin", "10.0.3.1");
    process_add_node(&c->admin, "admin", 8u << 20, admin_start, c);
    damage_init(c);
    lost_init(c);
    choose_places(c);
    rest_init(c);
    for (uint32_t i = 0; i < c->osd_count; i++)
        osd_init(c, i);
    for (uint32_t i = 0; i < c->client_count; i++)
        client_init(c, i);
    for (uint32_t i = 0; i < c->image_count; i++) {
        snprintf(c->images[i].name, sizeof(c->images[i].name), "image%u", i);
        c->images[i].sectors = c->image_sectors;
        c->images[i].history = linear_history_new(c->image_sectors);
        linear_history_distinct(c->images[i].history, 0);
    }
    snprintf(c->images[CLUSTER_SPARE].name, sizeof(c->images[0].name), "spare");
}

void cluster_fini(struct cluster *c)
{
    check_fini(c);
    rest_fini(c);
    lost_fini(c);
    free(c->damage);
    for (uint32_t i = 0; i < c->osd_count; i++)
        sim_disk_free(c->osds[i].disk);
    force_fini(c);
    retire_fini(c);
    sim_net_free(c->net);
    sim_meta_free(c->meta);
    for (uint32_t i = 0; i < c->image_count; i++)
        linear_history_free(c->images[i].history);
}
