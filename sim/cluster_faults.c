/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong: at random intervals one of the classes that this run has on strikes. The lasting ones
 * (loss of frames, slow disks) are set at the beginning and taken back at the end. For damage to stored data
 * see cluster_damage.c.
 */
#include "sim/cluster.h"

#include <stdlib.h>

#define ALL_HEALTHY_NS (300 * NS_PER_MS)

static uint32_t intensity(const struct cluster *c, enum sim_fault fault)
{
    return c->quiet ? 0 : sim_fault_intensity(c->sim, fault);
}

static void set_lasting(struct cluster *c)
{
    sim_net_set_faults(
        c->net, &(struct sim_net_faults){.oneway_drop_ppm = intensity(c, SIM_FAULT_NET_LOSS) * 1000,
                                         .blackhole_ppm = intensity(c, SIM_FAULT_NET_LOSS),
                                         .oneway_dup_ppm = intensity(c, SIM_FAULT_NET_DUP) * 1000,
                                         .oneway_reorder_ppm = intensity(c, SIM_FAULT_NET_REORDER) * 1000,
                                         .corrupt_ppm = intensity(c, SIM_FAULT_NET_CORRUPT) * 20,
                                         .break_ppm = intensity(c, SIM_FAULT_NET_BREAK) * 10,
                                         .busy_ppm = intensity(c, SIM_FAULT_NET_SLOW) * 200,
                                         .slow_ppm = intensity(c, SIM_FAULT_NET_SLOW) *
                                                     (c->slow_ns > 100 * NS_PER_MS ? 10 : 200),
                                         .slow_ns = c->slow_ns});
    sim_meta_set_faults(c->meta,
                        &(struct sim_meta_faults){.error_ppm = intensity(c, SIM_FAULT_META) * 300,
                                                  .conflict_ppm = intensity(c, SIM_FAULT_META) * 1000,
                                                  .slow_ppm = intensity(c, SIM_FAULT_META) * 500,
                                                  .lost_ppm = intensity(c, SIM_FAULT_META) * 500,
                                                  .slow_ns = 500 * NS_PER_MS});
    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct sim_disk_faults faults = {.slow_ppm = intensity(c, SIM_FAULT_DISK_SLOW) * 300,
                                         .slow_ns = 50 * NS_PER_MS,
                                         .read_slow_ppm = c->quiet || !c->read_slow_ns ? 0 : 10000,
                                         .read_slow_ns = c->read_slow_ns,
                                         .write_error_ppm = intensity(c, SIM_FAULT_DISK_ERROR),
                                         .flush_error_ppm = intensity(c, SIM_FAULT_DISK_FLUSH) * 200,
                                         .stuck_ppm = intensity(c, SIM_FAULT_DISK_STUCK) / 10};
        damage_lasting(c, &c->osds[i], &faults);
        sim_disk_set_faults(c->osds[i].disk, &faults);
    }
}

/* Draws nothing where there is one. */
static struct process *random_mon(struct cluster *c)
{
    return &c->mons[c->mon_count > 1 ? sim_rng_below(&c->rng, c->mon_count) : 0];
}

static struct process *random_process(struct cluster *c)
{
    uint64_t roll = sim_rng_below(&c->rng, 10);

    if (roll == 0)
        return random_mon(c);
    if (roll <= 2)
        return &c->clients[sim_rng_below(&c->rng, c->client_count)].process;
    return &c->osds[sim_rng_below(&c->rng, c->osd_count)].process;
}

static uint64_t restart_delay(struct cluster *c)
{
    return 50 * NS_PER_MS + sim_rng_below(&c->rng, 4 * NS_PER_S);
}

static void process_resume(struct process *p)
{
    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i]->state == SIM_NODE_PAUSED)
            sim_node_resume(p->nodes[i]);
}

static void resume_fire(void *owner)
{
    process_resume(owner);
}

/* It dies so many times more, each time soon after its start: in the middle of opening its store, of a
 * recovery, of a first election. */
struct crash_loop {
    struct process *process;
    uint32_t left;
};

static void crash_loop_fire(void *owner)
{
    struct crash_loop *loop = owner;
    struct cluster *c = loop->process->cluster;

    if (c->quiet || !loop->left--) {
        free(loop);
        return;
    }
    process_kill(loop->process, sim_rng_below(&c->rng, 3) ? SIM_CRASH_PROCESS : SIM_CRASH_POWER,
                 sim_rng_below(&c->rng, 20 * NS_PER_MS));
    sim_after(c->sim, sim_rng_below(&c->rng, sim_rng_below(&c->rng, 2) ? 30 * NS_PER_MS : 500 * NS_PER_MS),
              crash_loop_fire, loop);
}

static void strike_crash_loop(struct cluster *c, struct process *p)
{
    struct crash_loop *loop = sim_alloc(sizeof(*loop));

    *loop = (struct crash_loop){p, 2 + (uint32_t)sim_rng_below(&c->rng, 8)};
    sim_log(c->sim, "%s dies again and again", p->name);
    crash_loop_fire(loop);
}

/* Leases and promises go by the clock that runs through suspend; the wall clock is nobody's business. */
static void strike_clock_jump(struct cluster *c, struct process *p)
{
    int64_t by_us = (int64_t)sim_rng_below(&c->rng, 2 * 86400ull * 1000000) - 86400ll * 1000000;

    sim_log(c->sim, "the wall clock of %s is off by %lld s", p->name, (long long)(by_us / 1000000));
    for (uint32_t i = 0; i < p->node_count; i++)
        p->nodes[i]->wall_offset_us = by_us;
}

static void strike_pause(struct cluster *c, struct process *p)
{

    if (!process_running(p) || p->nodes[0]->state != SIM_NODE_UP)
        return;
    sim_log(c->sim, "%s hangs", p->name);
    for (uint32_t i = 0; i < p->node_count; i++)
        sim_node_pause(p->nodes[i]);
    sim_after(c->sim, 10 * NS_PER_MS + sim_rng_below(&c->rng, 3 * NS_PER_S), resume_fire, p);
}

static void strike_power_all(struct cluster *c)
{
    bool all = sim_rng_below(&c->rng, 2);

    sim_log(c->sim, "%s lose power", all ? "all" : "some");
    for (uint32_t i = 0; i < c->mon_count; i++)
        if (all || sim_rng_below(&c->rng, 2))
            process_kill(&c->mons[i], SIM_CRASH_POWER, restart_delay(c));
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (all || sim_rng_below(&c->rng, 2))
            process_kill(&c->osds[i].process, SIM_CRASH_POWER, restart_delay(c));
}

/* One of them, or all; two of three are as much as all where the store is away, too. */
static void strike_mon_away(struct cluster *c)
{
    bool all = c->mon_count == 1 || sim_rng_below(&c->rng, 3) == 0;
    struct process *one = all ? NULL : random_mon(c);

    for (uint32_t i = 0; i < c->mon_count; i++)
        if (all || &c->mons[i] == one)
            process_kill(&c->mons[i], SIM_CRASH_PROCESS, sim_rng_range(&c->rng, 2 * NS_PER_S, 10 * NS_PER_S));
}

struct path {
    struct cluster *cluster;
    const char *from, *to;
};

static void path_open_fire(void *owner)
{
    struct path *path = owner;

    sim_net_set_path(path->cluster->net, path->from, path->to, SIM_PATH_OPEN);
    free(path);
}

/* What a client sends to an OSD is held up for a while: requests are given up and sent again, then all of it
 * arrives. */
static void strike_hold_up(struct cluster *c)
{
    struct path *path = sim_alloc(sizeof(*path));

    *path = (struct path){c, c->clients[sim_rng_below(&c->rng, c->client_count)].process.host,
                          c->osds[sim_rng_below(&c->rng, c->osd_count)].process.host};
    sim_log(c->sim, "what %s sends to %s is held up", path->from, path->to);
    sim_net_set_path(c->net, path->from, path->to, SIM_PATH_BLOCK);
    sim_after(c->sim, sim_rng_range(&c->rng, 100 * NS_PER_MS, 2 * NS_PER_S), path_open_fire, path);
}

static void strike_partition(struct cluster *c)
{
    struct process *a = random_process(c), *b = random_process(c);
    enum sim_path path = sim_rng_below(&c->rng, 3) ? SIM_PATH_BLOCK : SIM_PATH_REJECT;

    switch (sim_rng_below(&c->rng, 7)) {
    case 5:
    case 6:
        strike_hold_up(c);
        return;
    case 4: {
        /* Cut off from its peers, not from clients: a leader that does not know that it is one no longer. */
        struct process *cut = &c->osds[sim_rng_below(&c->rng, c->osd_count)].process;
        sim_log(c->sim, "%s is cut off from the other OSDs", cut->name);
        for (uint32_t i = 0; i < c->osd_count; i++) {
            if (&c->osds[i].process == cut)
                continue;
            sim_net_set_path(c->net, cut->host, c->osds[i].process.host, path);
            sim_net_set_path(c->net, c->osds[i].process.host, cut->host, path);
        }
        return;
    }
    case 0:
        sim_log(c->sim, "%s is cut off", a->name);
        sim_net_isolate(c->net, a->host, path);
        return;
    case 1:
        sim_log(c->sim, "nothing gets from %s to %s", a->name, b->name);
        sim_net_set_path(c->net, a->host, b->host, path);
        return;
    case 2:
        sim_log(c->sim, "%s and %s are cut off from one another", a->name, b->name);
        sim_net_set_path(c->net, a->host, b->host, path);
        sim_net_set_path(c->net, b->host, a->host, path);
        return;
    default:
        sim_log(c->sim, "the network is healed");
        sim_net_heal(c->net);
        return;
    }
}

/* All that goes between two hosts, or one way only, takes 10 to 10000 times as long, until it is healed, or
 * for some seconds. */
static void path_quick_fire(void *owner)
{
    struct path *path = owner;

    sim_net_set_path_lag(path->cluster->net, path->from, path->to, 0);
    free(path);
}

static void path_slow(struct cluster *c, const struct process *from, const struct process *to,
                      uint64_t lag_ns, uint64_t for_ns)
{
    struct path *path = sim_alloc(sizeof(*path));

    *path = (struct path){c, from->host, to->host};
    sim_log(c->sim, "what %s sends to %s takes %llu us more", from->name, to->name,
            (unsigned long long)(lag_ns / NS_PER_US));
    sim_net_set_path_lag(c->net, from->host, to->host, lag_ns);
    sim_after(c->sim, for_ns, path_quick_fire, path);
}

static void strike_slow_link(struct cluster *c)
{
    struct process *a = random_process(c), *b = &c->osds[sim_rng_below(&c->rng, c->osd_count)].process;
    uint64_t lag_ns = 200 * NS_PER_US << sim_rng_below(&c->rng, 11);
    uint64_t for_ns = sim_rng_range(&c->rng, NS_PER_S / 2, 8 * NS_PER_S);
    uint64_t ways = 1 + sim_rng_below(&c->rng, 3);

    if (ways & 1)
        path_slow(c, a, b, lag_ns, for_ns);
    if (ways & 2)
        path_slow(c, b, a, lag_ns, for_ns);
}

static void unhang_fire(void *owner)
{
    sim_disk_hang(owner, false);
}

static void strike_disk_hang(struct cluster *c)
{
    struct cluster_osd *osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];

    sim_log(c->sim, "the disk of %s hangs", osd->process.name);
    sim_disk_hang(osd->disk, true);
    sim_after(c->sim, sim_rng_below(&c->rng, 3 * NS_PER_S), unhang_fire, osd->disk);
}

/* Those in front of it strike again and again; that one does once (cluster_force.c), and what is behind it
 * comes by itself. */
#define STRIKING SIM_FAULT_FORCE

/* What strikes, of the classes that are on; the others have been set by set_lasting(). */
static void strike(struct cluster *c)
{
    struct process *p = random_process(c);
    enum sim_fault fault = (enum sim_fault)sim_rng_below(&c->rng, STRIKING);

    if (!(c->sim->faults & (SIM_FAULT_BIT(FORCE) - 1)))
        return;
    for (uint32_t i = 0; i < STRIKING && !intensity(c, fault); i++)
        fault = (fault + 1) % STRIKING;
    if (sim_rng_below(&c->rng, 100) >= 30 + intensity(c, fault))
        return;
    if (fault == SIM_FAULT_POWER_ALL && sim_rng_below(&c->rng, 3))
        return;
    switch (fault) {
    case SIM_FAULT_CRASH:
        process_kill(p, SIM_CRASH_PROCESS, restart_delay(c));
        break;
    case SIM_FAULT_CRASH_LOOP:
        strike_crash_loop(c, p);
        break;
    case SIM_FAULT_POWER:
        process_kill(p, SIM_CRASH_POWER, restart_delay(c));
        break;
    case SIM_FAULT_POWER_ALL:
        strike_power_all(c);
        break;
    case SIM_FAULT_PAUSE:
        strike_pause(c, p);
        break;
    case SIM_FAULT_CLOCK_JUMP:
        strike_clock_jump(c, p);
        break;
    case SIM_FAULT_MON_AWAY:
        strike_mon_away(c);
        break;
    case SIM_FAULT_NET_PARTITION:
        strike_partition(c);
        break;
    case SIM_FAULT_NET_BREAK:
        sim_net_break_links(c->net, p->host);
        break;
    case SIM_FAULT_NET_SLOW:
        strike_slow_link(c);
        break;
    case SIM_FAULT_DISK_SLOW:
        strike_disk_hang(c);
        break;
    case SIM_FAULT_DISK_ROT:
    case SIM_FAULT_DISK_LOSE:
        damage_strike(c, fault); /* counts itself */
        return;
    case SIM_FAULT_META:
        sim_meta_set_down(c->meta, sim_rng_below(&c->rng, 2));
        break;
    case SIM_FAULT_MEMBER:
        admin_demote(c, c->osds[sim_rng_below(&c->rng, c->osd_count)].id);
        break;
    default:
        return;
    }
    sim_injected(c->sim, fault);
}

/* Shards that took themselves out of service after a device error are restarted by the operator. */
static void restart_failed(struct cluster *c)
{
    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *osd = &c->osds[i];
        for (uint32_t j = 0; j < c->shard_count; j++) {
            if (osd->shards[j] && osd_shard_failed(osd->shards[j])) {
                process_kill(&osd->process, SIM_CRASH_PROCESS, restart_delay(c));
                break;
            }
        }
    }
}

/* A shard of which others have the buffers: payloads are dropped, and who wants one is turned away. */
static void memory_fire(void *owner)
{
    struct cluster *c = owner;
    struct sim_rng *rng = &c->memory_rng;
    struct cluster_osd *osd = &c->osds[sim_rng_below(rng, c->osd_count)];
    uint32_t shard = (uint32_t)sim_rng_below(rng, c->shard_count);
    size_t leave = sim_rng_below(rng, 3) ? (size_t)BLOCK_SIZE << sim_rng_below(rng, 9) : 0;
    bool scattered = sim_rng_below(rng, 3) == 0;
    uint64_t for_ns = NS_PER_MS << sim_rng_below(rng, 9);

    if (c->quiet)
        return;
    if (osd->shards[shard] && osd->process.nodes[shard]->state == SIM_NODE_UP) {
        sim_node_hold_buffers(osd->process.nodes[shard], leave, scattered, for_ns);
        sim_injected(c->sim, SIM_FAULT_MEMORY);
    }
    sim_after(c->sim, sim_rng_below(rng, 100 * NS_PER_S / intensity(c, SIM_FAULT_MEMORY)), memory_fire, c);
}

static void faults_fire(void *owner)
{
    struct cluster *c = owner;

    restart_failed(c);
    if (c->quiet)
        return;
    /* Partitions do not last for ever. */
    if (sim_rng_below(&c->rng, 12) == 0)
        sim_net_heal(c->net);
    strike(c);
    sim_after(c->sim, sim_rng_below(&c->rng, 2 * c->strike_ns), faults_fire, c);
}

void faults_start(struct cluster *c)
{
    set_lasting(c);
    sim_after(c->sim, ALL_HEALTHY_NS, faults_fire, c);
    plots_start(c);
    mons_start(c);
    admin_scrubs_start(c);
    force_start(c);
    forget_start(c);
    mark_start(c);
    full_start(c);
    if (intensity(c, SIM_FAULT_MEMBER))
        admin_members_start(c);
    splits_start(c);
    admin_pools_start(c);
    retire_start(c);
    c->memory_rng = sim_rng_make(c->sim->seed, "cluster.memory", 0);
    if (intensity(c, SIM_FAULT_MEMORY))
        sim_after(c->sim, ALL_HEALTHY_NS, memory_fire, c);
}

void faults_stop(struct cluster *c)
{
    c->quiet = true;
    c->quiet_ns = c->sim->now_ns;
    sim_log(c->sim, "faults are over");
    load_pause(c, false, false);
    set_lasting(c);
    sim_net_heal(c->net);
    sim_meta_set_down(c->meta, false);
    for (uint32_t i = 0; i < c->mon_count; i++)
        process_resume(&c->mons[i]);
    for (uint32_t i = 0; i < c->client_count; i++)
        process_resume(&c->clients[i].process);
    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *osd = &c->osds[i];
        process_resume(&osd->process);
        sim_disk_hang(osd->disk, false);
        /* A request that never completes is the device's end; a restart finds it well again. */
        if (sim_disk_stats(osd->disk).stuck)
            process_kill(&osd->process, SIM_CRASH_PROCESS, NS_PER_S);
    }
    restart_failed(c);
    force_stop(c);
    retire_stop(c);
    damage_stop(c);
    /* What was to be away for long comes back. */
    for (uint32_t i = 0; i < c->mon_count; i++)
        if (!process_running(&c->mons[i]))
            process_start(&c->mons[i]);
}
