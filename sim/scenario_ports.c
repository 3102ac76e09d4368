/* SPDX-License-Identifier: Apache-2.0
 *
 * The ports under themselves: a few nodes that write, flush and read back on disks of their own, count up a
 * key in the metadata store, and ping each other, while everything goes wrong that can. Nothing of the
 * product runs here; what is checked is that the simulator keeps its promises: what a node was told is
 * durable survives, and a counter only goes up.
 */
#include "sim/scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "sim/sim_blk.h"
#include "sim/sim_meta.h"
#include "sim/sim_net.h"
#include "wire/frame.h"

#define NODES     4
#define DISK_SIZE (4u << 20)
#define BLOCKS    (DISK_SIZE / BLOCK_SIZE)
#define PING_NS   (2 * NS_PER_MS)
#define RUN_NS    (20 * NS_PER_S)

struct world;

/* What outlives crashes: what the node was promised. */
struct place {
    struct world *world;
    struct sim_node *node;
    struct sim_disk *disk;
    struct worker *worker;     /* NULL while down */
    uint64_t written[BLOCKS];  /* newest value submitted per block */
    uint64_t promised[BLOCKS]; /* newest value known durable */
    uint64_t counter;          /* newest value known committed */
    uint32_t crashes;
};

struct world {
    struct sim *sim;
    struct sim_net *net;
    struct sim_meta *meta;
    struct place places[NODES];
    struct sim_rng rng;
    bool quiet;
    uint64_t writes, pings, counts;
};

/* What a crash takes. */
struct worker {
    struct op op;
    struct place *place;
    struct blk *blk;
    struct meta *meta;
    struct net *net;
    struct timer timer;
    struct blk_io io;
    struct iovec iov;
    struct buf *buf;
    uint64_t block;
    bool broken; /* the disk failed: it does no more */
    struct meta_range range;
    struct meta_txn txn;
    struct meta_condition condition;
    struct meta_change change;
    uint64_t counting;
    struct link *links[NODES]; /* to the others */
    bool open[NODES];
    uint64_t next_ping;
};

enum { DISK_IDLE, DISK_WRITE, DISK_FLUSH, DISK_READ };

/* ---- network: pings
 * ------------------------------------------------------------------------------------------- */

static void peer_message(void *owner, struct link *link, const struct frame *frame)
{
    struct worker *w = owner;

    w->place->world->pings++;
}

static void peer_closed(void *owner, struct link *link, int error)
{
    struct worker *w = owner;

    for (int i = 0; i < NODES; i++) {
        if (w->links[i] == link) {
            w->links[i] = NULL;
            w->open[i] = false;
        }
    }
}

static void peer_opened(void *owner, struct link *link)
{
    struct worker *w = owner;

    for (int i = 0; i < NODES; i++)
        if (w->links[i] == link)
            w->open[i] = true;
}

static const struct link_events PEER_EVENTS = {
    .message = peer_message, .opened = peer_opened, .closed = peer_closed};

static void accepted(void *owner, struct link *link)
{
    link_own(link, &PEER_EVENTS, owner);
}

static void ping_all(struct worker *w)
{
    uint8_t head[FRAME_HEADER_SIZE];

    for (int i = 0; i < NODES; i++) {
        char address[64];
        if (&w->place->world->places[i] == w->place)
            continue;
        if (!w->links[i]) {
            snprintf(address, sizeof(address), "10.0.0.%d:7000", i + 1);
            w->links[i] = link_connect(w->net, address, &PEER_EVENTS, w);
        } else if (w->open[i]) {
            frame_encode(head, &(struct frame_header){
                                   .method = METHOD_PING,
                                   .flags = core_random_u64(w->op.core) & 1 ? FRAME_ONEWAY : FRAME_REQUEST,
                                   .request_id = w->next_ping});
            struct frame frame = {.head = head, .head_len = sizeof(head)};
            int error = link_send(w->links[i], &frame);
            if (error == 0)
                w->next_ping++;
        }
    }
}

/* ---- disk: write, flush, read back
 * ---------------------------------------------------------------------------- */

static void disk_submit(struct worker *w, enum blk_type type, int state)
{
    w->iov = (struct iovec){w->buf->data, BLOCK_SIZE};
    w->io = (struct blk_io){
        .type = type, .offset = w->block * BLOCK_SIZE, .len = BLOCK_SIZE, .iov = &w->iov, .iov_count = 1};
    if (type == BLK_FLUSH)
        w->io.offset = w->io.len = 0;
    w->op.state = state;
    blk_submit(w->blk, &w->io, &w->op);
}

/* Each sector holds a value no older than what was promised and no newer than what was ever written. */
static void disk_check(struct worker *w)
{
    struct place *p = w->place;

    for (uint32_t i = 0; i < BLOCK_SIZE; i += 512) {
        uint64_t value = le_load_u64(w->buf->data + i);
        if (value < p->promised[w->block] || value > p->written[w->block])
            sim_fail(p->world->sim, "%s: block %llu, sector %u holds %llu, durable was %llu", p->node->name,
                     (unsigned long long)w->block, i / 512, (unsigned long long)value,
                     (unsigned long long)p->promised[w->block]);
    }
}

static void disk_step(struct worker *w)
{
    struct place *p = w->place;

    if (w->broken || (w->op.state != DISK_IDLE && w->io.pending))
        return;
    if (w->op.state != DISK_IDLE && w->io.result) {
        w->broken = true; /* what a failed request left behind is not for this scenario to say */
        return;
    }
    switch (w->op.state) {
    case DISK_IDLE:
        w->block = core_random_u64(w->op.core) % BLOCKS;
        if (core_random_u64(w->op.core) % 4 == 0) {
            disk_submit(w, BLK_READ, DISK_READ);
            return;
        }
        p->written[w->block]++;
        for (uint32_t i = 0; i < BLOCK_SIZE; i += 8)
            le_store_u64(w->buf->data + i, p->written[w->block]);
        disk_submit(w, BLK_WRITE, DISK_WRITE);
        return;
    case DISK_WRITE:
        disk_submit(w, BLK_FLUSH, DISK_FLUSH);
        return;
    case DISK_FLUSH:
        p->promised[w->block] = p->written[w->block];
        p->world->writes++;
        w->op.state = DISK_IDLE;
        return;
    case DISK_READ:
        disk_check(w);
        w->op.state = DISK_IDLE;
        return;
    }
}

/* ---- metadata: a counter per node
 * ----------------------------------------------------------------------------- */

static void count_read(struct worker *w)
{
    w->range = (struct meta_range){.first = w->place->node->name, .waiter = &w->op};
    w->meta->ops->range(w->meta, &w->range);
}

static void count_step(struct worker *w)
{
    struct sim *sim = w->place->world->sim;

    if (w->range.pending || w->txn.pending)
        return;
    if (w->txn.waiter) {
        if (w->txn.result == 0) {
            w->place->counter = w->counting;
            w->place->world->counts++;
        }
        w->txn.waiter = NULL;
        return;
    }
    if (!w->range.waiter) {
        count_read(w);
        return;
    }
    w->range.waiter = NULL;
    if (w->range.result == 0) {
        uint64_t value = w->range.ret_count ? le_load_u64(w->range.ret_kvs[0].value) : 0;
        if (value < w->place->counter)
            sim_fail(sim, "%s: the counter went back from %llu to %llu", w->place->node->name,
                     (unsigned long long)w->place->counter, (unsigned long long)value);
        w->counting = value + 1;
        w->condition = (struct meta_condition){w->place->node->name,
                                               w->range.ret_count ? w->range.ret_kvs[0].mod_revision : 0};
        w->change = (struct meta_change){w->place->node->name, &w->counting, sizeof(w->counting), 0};
        w->txn = (struct meta_txn){.conditions = &w->condition,
                                   .condition_count = 1,
                                   .changes = &w->change,
                                   .change_count = 1,
                                   .waiter = &w->op};
        w->meta->ops->txn(w->meta, &w->txn);
    }
    w->meta->ops->range_fini(w->meta, &w->range);
}

static void worker_step(struct op *op)
{
    struct worker *w = container_of(op, struct worker, op);

    disk_step(w);
    if (!timer_armed(&w->timer)) {
        ping_all(w);
        count_step(w);
        timer_arm(op->core, &w->timer, op, core_now_ns(op->core) + PING_NS);
    }
}

static const struct op_kind WORKER = {"sim.worker", NULL, worker_step};

static void place_start(void *owner, struct sim_node *node)
{
    struct place *p = owner;
    struct worker *w = calloc(1, sizeof(*w));
    char bound[64], address[64];

    p->worker = w;
    w->place = p;
    w->blk = sim_disk_open(p->disk, node, 0, DISK_SIZE);
    w->meta = sim_meta_open(p->world->meta, node);
    w->net = sim_net_port(p->world->net, node);
    w->buf = buf_new(node->core.arena, BLOCK_SIZE);
    snprintf(address, sizeof(address), "%s:7000", node->host);
    int error = w->net->ops->listen(w->net, address, accepted, w, bound, sizeof(bound));
    ASSERT(!error);
    op_start(&w->op, &node->core, &WORKER, NULL);
}

static void place_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    struct place *p = owner;

    p->worker = NULL;
    p->crashes++;
}

/* ---- the run
 * -------------------------------------------------------------------------------------------------- */

static void mischief(struct world *world)
{
    struct sim *sim = world->sim;
    struct place *p = &world->places[sim_rng_below(&world->rng, NODES)];
    uint64_t roll = sim_rng_below(&world->rng, 100);

    if (p->node->state == SIM_NODE_DOWN) {
        sim_node_start(p->node);
        return;
    }
    if (roll < sim_fault_intensity(sim, SIM_FAULT_CRASH) / 4) {
        sim_injected(sim, SIM_FAULT_CRASH);
        sim_node_crash(p->node, SIM_CRASH_PROCESS);
    } else if (roll < 25 + sim_fault_intensity(sim, SIM_FAULT_POWER) / 4 && roll >= 25) {
        sim_injected(sim, SIM_FAULT_POWER);
        sim_node_crash(p->node, SIM_CRASH_POWER);
    } else if (roll < 50 + sim_fault_intensity(sim, SIM_FAULT_PAUSE) / 4 && roll >= 50) {
        sim_injected(sim, SIM_FAULT_PAUSE);
        if (p->node->state == SIM_NODE_PAUSED)
            sim_node_resume(p->node);
        else
            sim_node_pause(p->node);
    } else if (roll < 75 + sim_fault_intensity(sim, SIM_FAULT_NET_PARTITION) / 4 && roll >= 75) {
        enum sim_path path = (enum sim_path)sim_rng_below(&world->rng, 3);
        sim_injected(sim, SIM_FAULT_NET_PARTITION);
        sim_net_isolate(world->net, p->node->host, path);
    } else {
        sim_net_heal(world->net);
        sim_disk_hang(p->disk, false);
    }
}

void scenario_ports_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct world *world = sim_alloc(sizeof(*world));

    sim_choose_faults(sim,
                      SIM_FAULTS_ALL &
                          ~(SIM_FAULT_BIT(MEMORY) | SIM_FAULT_BIT(DISK_ROT) | SIM_FAULT_BIT(DISK_READ) |
                            SIM_FAULT_BIT(DISK_LOSE) | SIM_FAULT_BIT(DISK_MISDIRECT) | SIM_FAULT_BIT(MEMBER) |
                            SIM_FAULT_BIT(POWER_ALL) | SIM_FAULT_BIT(CRASH_LOOP) | SIM_FAULT_BIT(CLOCK_JUMP) |
                            SIM_FAULT_BIT(NET_CORRUPT) | SIM_FAULT_BIT(MON_AWAY)));
    world->sim = sim;
    world->rng = sim_rng_make(args->seed, "ports", 0);
    world->net = sim_net_new(
        sim, &(struct sim_net_config){
                 .faults = {.oneway_drop_ppm = sim_fault_intensity(sim, SIM_FAULT_NET_LOSS) * 2000,
                            .blackhole_ppm = sim_fault_intensity(sim, SIM_FAULT_NET_LOSS) * 5,
                            .oneway_dup_ppm = sim_fault_intensity(sim, SIM_FAULT_NET_DUP) * 2000,
                            .oneway_reorder_ppm = sim_fault_intensity(sim, SIM_FAULT_NET_REORDER) * 2000,
                            .break_ppm = sim_fault_intensity(sim, SIM_FAULT_NET_BREAK) * 50,
                            .slow_ppm = sim_fault_intensity(sim, SIM_FAULT_NET_SLOW) * 500,
                            .slow_ns = 30 * NS_PER_MS}});
    world->meta =
        sim_meta_new(sim, &(struct sim_meta_config){
                              .faults = {.error_ppm = sim_fault_intensity(sim, SIM_FAULT_META) * 1000,
                                         .conflict_ppm = sim_fault_intensity(sim, SIM_FAULT_META) * 1000}});
    for (int i = 0; i < NODES; i++) {
        struct place *p = &world->places[i];
        char name[32], host[32];
        p->world = world;
        snprintf(name, sizeof(name), "disk.%d", i);
        p->disk = sim_disk_new(
            sim, &(struct sim_disk_config){
                     .name = name,
                     .size_bytes = DISK_SIZE,
                     .volatile_cache = i % 2,
                     .faults = {.write_error_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_ERROR) * 2,
                                .flush_error_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_FLUSH) * 2,
                                .stuck_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_STUCK) * 2,
                                .slow_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_SLOW) * 500,
                                .slow_ns = 20 * NS_PER_MS}});
        snprintf(name, sizeof(name), "node.%d", i);
        snprintf(host, sizeof(host), "10.0.0.%d", i + 1);
        p->node = sim_node_new(
            sim, &(struct sim_node_config){
                     .name = name,
                     .host = host,
                     .arena_bytes = BUF_SIZE_MAX,
                     .drift_ppb = sim_fault_intensity(sim, SIM_FAULT_CLOCK) ? (i - 1) * 500000 : 0,
                     .wake_max_ns = 10 * NS_PER_US,
                     .start = place_start,
                     .crashed = place_crashed,
                     .owner = p});
        sim_net_port(world->net, p->node);
    }
    for (int i = 0; i < NODES; i++)
        sim_node_start(world->places[i].node);
    while (!sim->failed && sim->now_ns < RUN_NS) {
        sim_run_for(sim, sim_rng_below(&world->rng, 400 * NS_PER_MS));
        if (!sim->failed)
            mischief(world);
    }
    sim_result_take(ret_result, sim);
    snprintf(ret_result->stats, sizeof(ret_result->stats), "%llu durable writes, %llu pings, %llu counts",
             (unsigned long long)world->writes, (unsigned long long)world->pings,
             (unsigned long long)world->counts);
    for (int i = 0; i < NODES; i++)
        sim_disk_free(world->places[i].disk);
    sim_net_free(world->net);
    sim_meta_free(world->meta);
    sim_free(sim);
    free(world);
}
