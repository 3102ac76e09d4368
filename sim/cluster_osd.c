/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs. Their shards are started as the program starts them: read the label, raise its start counter, open
 * the slices, serve.
 */
#include "sim/cluster_boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "osd/shard.h"

#define FULL_MORE     (16u << 20)
#define LABEL_WAIT_NS NS_PER_MS
#define OSD_ARENA     (96u << 20)

enum boot_state {
    BOOT_BEGIN,
    BOOT_FORMAT,
    BOOT_LABEL_NEW,
    BOOT_READ,
    BOOT_RAISE,
    BOOT_WAIT,
    BOOT_START,
    BOOT_SERVING,
    BOOT_FAILED
};

/* One shard's way to serving; the first shard's node formats the device and raises the label for all. */
struct osd_boot {
    struct op op;
    struct cluster_osd *osd;
    struct sim_node *node;
    uint32_t shard;
    struct blk *device, *slices[CLUSTER_SHARDS_MAX];
    struct store_format format[CLUSTER_SHARDS_MAX];
    struct device_read read;
    struct device_write write;
    struct osd_shard_start start;
    struct timer timer;
    char listen[40];
};

static void slices_open(struct osd_boot *b)
{
    for (uint32_t i = 0; i < b->osd->label.slice_count; i++)
        b->slices[i] =
            sim_disk_open(b->osd->disk, b->node, b->osd->label.slice_offset[i], b->osd->label.slice_size);
}

static void boot_format(struct osd_boot *b)
{
    struct cluster_osd *osd = b->osd;
    struct cluster *c = osd->process.cluster;

    osd->label = (struct device_label){0};
    memcpy(osd->label.cluster, osd->cluster_uuid, sizeof(osd->label.cluster));
    memcpy(osd->label.osd_uuid, osd->uuid, sizeof(osd->label.osd_uuid));
    osd->label.osd = osd->id;
    osd->label.slice_count = c->shard_count;
    int error = device_layout(sim_disk_size(osd->disk), c->shard_count, &osd->label);
    ASSERT(!error);
    slices_open(b);
    for (uint32_t i = 0; i < c->shard_count; i++) {
        struct store_config config = {.core = &b->node->core,
                                      .blk = b->slices[i],
                                      .slice = i,
                                      .cache_bytes = c->cache_bytes,
                                      .pgs_max = 64};
        memcpy(config.osd_uuid, osd->uuid, sizeof(config.osd_uuid));
        store_format_start(&b->format[i], &config, c->ring_bytes, &b->op);
    }
}

static void boot_failed(struct osd_boot *b, const char *what, int error)
{
    core_log(b->op.core, LOG_ERROR, "osd", "cannot start: %s: %s", what, error_text(error));
    b->op.state = BOOT_FAILED;
    process_exit_later(&b->osd->process);
}

static void boot_serve(struct osd_boot *b)
{
    struct cluster_osd *osd = b->osd;
    struct cluster *c = osd->process.cluster;

    if (!b->slices[b->shard])
        b->slices[b->shard] =
            sim_disk_open(osd->disk, b->node, osd->label.slice_offset[b->shard], osd->label.slice_size);
    snprintf(b->listen, sizeof(b->listen), "%s:%u", osd->process.host, osd->port + b->shard);
    struct osd_shard_config config = {.core = &b->node->core,
                                      .net = sim_net_port(c->net, b->node),
                                      .blk = b->slices[b->shard],
                                      .label = &osd->label,
                                      .shard = b->shard,
                                      .listen = b->listen,
                                      .monitors = CLUSTER_MONITORS,
                                      .monitor_count = c->mon_count,
                                      .host = osd->process.name,
                                      .rack = "rack",
                                      .cache_bytes = c->cache_bytes,
                                      .pages_max = c->pages_max};
    osd_shard_start_start(&b->start, &config, &b->op);
    b->op.state = BOOT_START;
}

/* The map that a shard has said to have saved is there when it comes back: what it did by that map is done.
 */
static void map_check(struct osd_boot *b, const struct osd_shard *shard)
{
    struct cluster_osd *osd = b->osd;
    struct cluster *c = osd->process.cluster;

    if (shard->map.loaded_epoch < osd->saved_epochs[b->shard] && !damage_is_victim(c, osd->number))
        sim_fail(c->sim, "osd.%u.%u had saved the map of epoch %llu, and comes back with that of %llu",
                 osd->id, b->shard, (unsigned long long)osd->saved_epochs[b->shard],
                 (unsigned long long)shard->map.loaded_epoch);
}

/* Waiting for the first shard to raise the label. */
static void boot_wait(struct osd_boot *b)
{
    if (b->osd->label_incarnation == b->osd->process.nodes[0]->incarnation)
        boot_serve(b);
    else if (!timer_armed(&b->timer))
        timer_arm(b->op.core, &b->timer, &b->op, core_now_ns(b->op.core) + LABEL_WAIT_NS);
}

static void boot_step(struct op *op)
{
    struct osd_boot *b = container_of(op, struct osd_boot, op);
    struct cluster_osd *osd = b->osd;
    int error = op->child_result;

    if (op->children || op->state == BOOT_SERVING || op->state == BOOT_FAILED)
        return;
    if (error && op->state != BOOT_START) {
        boot_failed(b, "device", error);
        return;
    }
    switch ((enum boot_state)op->state) {
    case BOOT_BEGIN:
        if (b->shard) {
            op->state = BOOT_WAIT;
            boot_wait(b);
        } else if (!osd->formatted) {
            op->state = BOOT_FORMAT;
            boot_format(b);
        } else {
            op->state = BOOT_READ;
            b->read.blk = b->device;
            device_read_start(&b->read, op->core, b->device, op);
        }
        return;
    case BOOT_FORMAT:
        op->state = BOOT_LABEL_NEW;
        device_write_start(&b->write, op->core, b->device, &osd->label, op);
        return;
    case BOOT_LABEL_NEW:
        osd->formatted = true;
        memset(osd->saved_epochs, 0, sizeof(osd->saved_epochs));
        op->state = BOOT_READ;
        device_read_start(&b->read, op->core, b->device, op);
        return;
    case BOOT_READ:
        osd->label = b->read.ret_label;
        osd->label.start_counter++;
        op->state = BOOT_RAISE;
        device_write_start(&b->write, op->core, b->device, &osd->label, op);
        return;
    case BOOT_RAISE:
        osd->label_incarnation = b->node->incarnation;
        boot_serve(b);
        return;
    case BOOT_WAIT:
        boot_wait(b);
        return;
    case BOOT_START:
        if (b->start.op.result) {
            boot_failed(b, b->start.ret_message, b->start.op.result);
            return;
        }
        osd->shards[b->shard] = b->start.ret_shard;
        map_check(b, b->start.ret_shard);
        op->state = BOOT_SERVING;
        return;
    case BOOT_SERVING:
    case BOOT_FAILED:
        return;
    }
}

static const struct op_kind OSD_BOOT = {"sim.osd_boot", NULL, boot_step};

static void osd_node_start(void *owner, struct sim_node *node)
{
    struct cluster_osd *osd = owner;
    struct osd_boot *b = calloc(1, sizeof(*b));

    b->osd = osd;
    b->node = node;
    while (osd->process.nodes[b->shard] != node)
        b->shard++;
    osd->boots[b->shard] = b;
    if (b->shard == 0)
        b->device = sim_disk_open(osd->disk, node, 0, sim_disk_size(osd->disk));
    op_start(&b->op, &node->core, &OSD_BOOT, NULL);
}

/* What it has said a moment ago, before anybody has looked. */
static void osd_dies(struct process *p)
{
    struct cluster_osd *osd = container_of(p, struct cluster_osd, process);

    for (uint32_t i = 0; i < p->node_count; i++)
        if (osd->shards[i])
            osd->saved_epochs[i] = MAX(osd->saved_epochs[i], osd->shards[i]->map.saved_epoch);
}

static void osd_died(struct process *p, enum sim_crash kind)
{
    struct cluster_osd *osd = container_of(p, struct cluster_osd, process);

    for (uint32_t i = 0; i < CLUSTER_SHARDS_MAX; i++) {
        osd->shards[i] = NULL;
        osd->boots[i] = NULL;
    }
    /* A device on which formatting was cut short is formatted again. */
    if (kind == SIM_CRASH_POWER)
        sim_disk_power_cut(osd->disk);
    sim_disk_hang(osd->disk, false);
    damage_died(osd);
    rest_osd_died(osd);
}

/* Ports of its shards: another one of a few after each start, in some runs. */
#define PORT_STEP 10u
#define PORTS     5u

static void osd_starts(struct process *p)
{
    struct cluster_osd *osd = container_of(p, struct cluster_osd, process);

    if (p->cluster->osds_move)
        osd->port += p->start_count % PORTS * PORT_STEP - osd->port % (PORTS * PORT_STEP);
    rest_osd_starts(osd);
}

static void handle_close(struct blk *blk)
{
    if (blk)
        blk->ops->close(blk);
}

void osd_boot_end(struct cluster_osd *osd, uint32_t shard)
{
    struct osd_boot *b = osd->boots[shard];

    for (uint32_t i = 0; i < CLUSTER_SHARDS_MAX; i++)
        handle_close(b->slices[i]);
    handle_close(b->device);
    op_done(&b->op, 0);
    free(b);
    osd->boots[shard] = NULL;
}

static struct sim_disk *osd_disk_new(struct cluster *c, struct cluster_osd *osd, const char *name)
{
    struct sim_rng sizes = sim_rng_make(c->sim->seed, "sizes", osd->number);
    /* Of those that are to become full, some sooner than others. */
    uint64_t more_bytes =
        c->profile == PROFILE_FULL ? ALIGN_DOWN(sim_rng_below(&sizes, FULL_MORE), CHUNK_SIZE) : 0;

    return sim_disk_new(c->sim, &(struct sim_disk_config){.name = name,
                                                          .size_bytes = c->disk_bytes + more_bytes,
                                                          .volatile_cache = sim_rng_below(&c->rng, 2),
                                                          .junk = sim_rng_below(&c->rng, 2),
                                                          .queue_depth_hint = 4,
                                                          .keep_older = damage_is_victim(c, osd->number),
                                                          .may_damage = damage_may,
                                                          .owner = osd});
}

static void osd_nodes_add(struct cluster_osd *osd, const char *base)
{
    char name[48];

    for (uint32_t i = 0; i < osd->process.cluster->shard_count; i++) {
        snprintf(name, sizeof(name), "%s.%u", base, i);
        process_add_node(&osd->process, name, OSD_ARENA, osd_node_start, osd);
    }
}

static void ghost_died(struct process *p, enum sim_crash kind)
{
    struct cluster_osd *ghost = container_of(p, struct cluster_osd, process);

    memset(ghost->shards, 0, sizeof(ghost->shards));
    memset(ghost->boots, 0, sizeof(ghost->boots));
    if (kind == SIM_CRASH_POWER)
        sim_disk_power_cut(ghost->disk);
}

static void ghost_starts(struct process *p)
{
    /* Nobody looks at its disk any more. */
    rest_osd_starts(&p->cluster->osds[container_of(p, struct cluster_osd, process)->number]);
}

void osd_ghost_init(struct cluster_osd *ghost, struct cluster_osd *osd)
{
    struct cluster *c = osd->process.cluster;
    char name[32];

    rest_osd_starts(osd); /* nobody looks at the new disk for what the old one had */
    snprintf(name, sizeof(name), "ghost.%u", osd->number);
    *ghost = *osd;
    process_init(&ghost->process, c, name, osd->process.host);
    ghost->process.died = ghost_died;
    ghost->process.starts = ghost_starts;
    ghost->label_incarnation = 0;
    osd_nodes_add(ghost, name);
    snprintf(name, sizeof(name), "osd.%u new", osd->number);
    osd->disk = osd_disk_new(c, osd, name);
    osd->port += 100;
    osd->formatted = false;
    osd->label_incarnation = 0;
}

void osd_init(struct cluster *c, uint32_t number)
{
    struct cluster_osd *osd = &c->osds[number];
    char name[32], host[32];

    snprintf(name, sizeof(name), "osd.%u", number);
    snprintf(host, sizeof(host), "10.0.1.%u", number + 1);
    process_init(&osd->process, c, name, host);
    osd->process.dies = osd_dies;
    osd->process.died = osd_died;
    osd->process.starts = osd_starts;
    osd->number = number;
    for (uint32_t i = 0; i < sizeof(osd->uuid); i++)
        osd->uuid[i] = (uint8_t)sim_rng_u64(&c->rng);
    osd->port = 7000;
    osd->disk = osd_disk_new(c, osd, name);
    osd_nodes_add(osd, name);
}
