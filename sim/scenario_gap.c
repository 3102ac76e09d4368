/* SPDX-License-Identifier: Apache-2.0
 *
 * One thing goes wrong at a time, on a cluster that is otherwise well: how long does any request take at
 * most?
 *
 * A majority of each placement group is healthy all the time, so no client may notice more than what it takes
 * to find that something is wrong and to have another replica lead. Each kind of trouble has a bound, for the
 * slowest of all requests that were under way while it lasted and while things became whole again. That is
 * more than a bound on the time without a completed request: a group that nobody leads is not hidden by the
 * others.
 */
#include <stdio.h>
#include <stdlib.h>

#include "osd/shard.h"
#include "sim/cluster.h"
#include "sim/scenarios.h"

#define FORM_NS    (60 * NS_PER_S)
#define ROUNDS     5
#define TIMEOUT_NS (60 * NS_PER_S) /* no request fails for want of time before it breaks its bound */
#define SETTLE_NS  (3 * NS_PER_S)  /* leaders go back where they were, followers catch up */
#define CALM_NS    (20 * NS_PER_S)
#define STOP_NS    (30 * NS_PER_S)
#define REST_NS    (60 * NS_PER_S)
#define SLOW_NOTE  25 /* of check_note() */
#define HEAP_MAX                                                                                             \
    (8u << 20) /* that a node's heap may grow while something is wrong: less than a second of writes */

struct trouble {
    const char *name;
    uint64_t bound_ns, lasts_ns;
    void (*begin)(struct cluster *c, struct cluster_osd *osd);
    void (*end)(struct cluster *c, struct cluster_osd *osd); /* NULL: it ends by itself */
    enum sim_fault fault;
};

static void dies(struct cluster *c, struct cluster_osd *osd)
{
    process_kill(&osd->process, SIM_CRASH_PROCESS, 2 * NS_PER_S);
}

static void loses_power(struct cluster *c, struct cluster_osd *osd)
{
    process_kill(&osd->process, SIM_CRASH_POWER, 2 * NS_PER_S);
}

static void hangs(struct cluster *c, struct cluster_osd *osd)
{
    for (uint32_t i = 0; i < osd->process.node_count; i++)
        sim_node_pause(osd->process.nodes[i]);
}

static void goes_on(struct cluster *c, struct cluster_osd *osd)
{
    for (uint32_t i = 0; i < osd->process.node_count; i++)
        sim_node_resume(osd->process.nodes[i]);
}

static void is_cut_off(struct cluster *c, struct cluster_osd *osd)
{
    sim_net_isolate(c->net, osd->process.host, SIM_PATH_BLOCK);
}

/* Clients find it as ever, and it cannot tell them who leads by then. */
static void is_cut_off_from_peers(struct cluster *c, struct cluster_osd *osd)
{
    for (uint32_t i = 0; i < c->osd_count; i++) {
        if (&c->osds[i] == osd)
            continue;
        sim_net_set_path(c->net, osd->process.host, c->osds[i].process.host, SIM_PATH_BLOCK);
        sim_net_set_path(c->net, c->osds[i].process.host, osd->process.host, SIM_PATH_BLOCK);
    }
}

/* Mostly the next frame shows it. Of a request that had arrived just the answer is refused: its client hears
 * nothing. */
static void is_refused(struct cluster *c, struct cluster_osd *osd)
{
    sim_net_isolate(c->net, osd->process.host, SIM_PATH_REJECT);
}

/* From what hardly counts to longer than an election takes. */
static void has_slow_links(struct cluster *c, struct cluster_osd *osd)
{
    sim_net_set_lag(c->net, osd->process.host, sim_rng_range(&c->rng, NS_PER_MS, 500 * NS_PER_MS));
}

static void is_heard_late(struct cluster *c, struct cluster_osd *osd)
{
    uint64_t lag_ns = sim_rng_range(&c->rng, NS_PER_MS, 500 * NS_PER_MS);

    for (uint32_t i = 0; i < c->osd_count; i++)
        if (&c->osds[i] != osd)
            sim_net_set_path_lag(c->net, osd->process.host, c->osds[i].process.host, lag_ns);
}

static void hears_late(struct cluster *c, struct cluster_osd *osd)
{
    uint64_t lag_ns = sim_rng_range(&c->rng, NS_PER_MS, 500 * NS_PER_MS);

    for (uint32_t i = 0; i < c->osd_count; i++)
        if (&c->osds[i] != osd)
            sim_net_set_path_lag(c->net, c->osds[i].process.host, osd->process.host, lag_ns);
}

/* Everybody: what a network does whose cables are bad. A segment that is lost comes again after 200 ms, as
 * the kernel has it, and what is behind it waits. */
static void all_lose_packets(struct cluster *c, struct cluster_osd *osd)
{
    sim_net_set_faults(c->net, &(struct sim_net_faults){.slow_ppm = 50000, .slow_ns = 200 * NS_PER_MS});
}

static void none_lose_packets(struct cluster *c, struct cluster_osd *osd)
{
    sim_net_set_faults(c->net, &(struct sim_net_faults){0});
}

/* All OSDs: a round trip of a good half of an election timeout. */
static void are_far_apart(struct cluster *c, struct cluster_osd *osd)
{
    uint64_t lag_ns = sim_rng_range(&c->rng, NS_PER_MS, 60 * NS_PER_MS);

    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->osd_count; j++)
            if (i != j)
                sim_net_set_path_lag(c->net, c->osds[i].process.host, c->osds[j].process.host, lag_ns);
}

static void heals(struct cluster *c, struct cluster_osd *osd)
{
    sim_net_heal(c->net);
}

static void disk_hangs(struct cluster *c, struct cluster_osd *osd)
{
    sim_disk_hang(osd->disk, true);
}

static void disk_goes_on(struct cluster *c, struct cluster_osd *osd)
{
    sim_disk_hang(osd->disk, false);
}

static void disk_is_slow(struct cluster *c, struct cluster_osd *osd)
{
    sim_disk_set_faults(osd->disk, &(struct sim_disk_faults){.slow_ppm = 1000000, .slow_ns = 20 * NS_PER_MS});
}

static void disk_is_well(struct cluster *c, struct cluster_osd *osd)
{
    sim_disk_set_faults(osd->disk, &(struct sim_disk_faults){0});
}

static uint32_t slow_handovers(const struct cluster *c)
{
    uint32_t count = 0;

    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        count += (uint32_t)s.is->perf.slow_handovers;
    return count;
}

static struct cluster_osd *next_osd(struct cluster *c, const struct cluster_osd *osd)
{
    return &c->osds[(osd->number + 1) % c->osd_count];
}

/* Of three: the third alone is no majority, so nobody has to lead instead of another. */
static void two_disks_are_slow(struct cluster *c, struct cluster_osd *osd)
{
    *check_note(c, SLOW_NOTE, 0) = slow_handovers(c);
    disk_is_slow(c, osd);
    disk_is_slow(c, next_osd(c, osd));
}

static void two_disks_are_well(struct cluster *c, struct cluster_osd *osd)
{
    if (c->osd_count == 3 && c->replicas == 3 && slow_handovers(c) != *check_note(c, SLOW_NOTE, 0))
        sim_fail(c->sim, "leaders whose device is slow hand over, and most of the others are as slow");
    disk_is_well(c, osd);
    disk_is_well(c, next_osd(c, osd));
}

/* What the others send each other, too, gets nowhere by the connections that they have. */
static void dies_beside_silence(struct cluster *c, struct cluster_osd *osd)
{
    process_kill(&osd->process, SIM_CRASH_PROCESS, 7 * NS_PER_S);
    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = i + 1; j < c->osd_count; j++)
            sim_net_silence(c->net, c->osds[i].process.host, c->osds[j].process.host);
}

static void monitors_die(struct cluster *c, struct cluster_osd *osd)
{
    for (uint32_t i = 0; i < c->mon_count; i++)
        process_kill(&c->mons[i], SIM_CRASH_PROCESS, 3 * NS_PER_S);
}

#define MS NS_PER_MS
static const struct trouble TROUBLES[] = {
    {"dies", 400 * MS, 3000 * MS, dies, NULL, SIM_FAULT_CRASH},
    {"loses power", 1500 * MS, 3000 * MS, loses_power, NULL, SIM_FAULT_POWER},
    {"hangs", 1500 * MS, 3000 * MS, hangs, goes_on, SIM_FAULT_PAUSE},
    {"hangs for long", 1500 * MS, 60000 * MS, hangs, goes_on, SIM_FAULT_PAUSE},
    {"is cut off", 1500 * MS, 3000 * MS, is_cut_off, heals, SIM_FAULT_NET_PARTITION},
    {"is cut off from its peers", 1500 * MS, 3000 * MS, is_cut_off_from_peers, heals,
     SIM_FAULT_NET_PARTITION},
    {"is refused", 1500 * MS, 3000 * MS, is_refused, heals, SIM_FAULT_NET_PARTITION},
    {"has slow links", 2000 * MS, 3000 * MS, has_slow_links, heals, SIM_FAULT_NET_SLOW},
    {"is heard late", 2000 * MS, 3000 * MS, is_heard_late, heals, SIM_FAULT_NET_SLOW},
    {"hears late", 2000 * MS, 3000 * MS, hears_late, heals, SIM_FAULT_NET_SLOW},
    {"has a disk that hangs", 1500 * MS, 3000 * MS, disk_hangs, disk_goes_on, SIM_FAULT_DISK_SLOW},
    {"has a slow disk", 500 * MS, 3000 * MS, disk_is_slow, disk_is_well, SIM_FAULT_DISK_SLOW},
    {"and another have slow disks", 1000 * MS, 4000 * MS, two_disks_are_slow, two_disks_are_well,
     SIM_FAULT_DISK_SLOW},
    {"and all others lose packets", 5000 * MS, 10000 * MS, all_lose_packets, none_lose_packets,
     SIM_FAULT_NET_SLOW},
    {"and all others are far apart", 1500 * MS, 5000 * MS, are_far_apart, heals, SIM_FAULT_NET_SLOW},
    {"dies, and connections are silent", 1500 * MS, 8000 * MS, dies_beside_silence, NULL, SIM_FAULT_NET_LOSS},
    {"has no monitor", 100 * MS, 4000 * MS, monitors_die, NULL, SIM_FAULT_MON_AWAY},
};

static bool is_ready(void *owner)
{
    return ((struct cluster *)owner)->ready;
}

static bool is_idle(void *owner)
{
    return load_idle(owner);
}

static bool is_clean(void *owner)
{
    return rest_clean(owner) && check_whole(owner);
}

static void always(void *owner, struct sim *sim)
{
    if (!sim->failed)
        check_always(owner);
}

static uint64_t heap_largest(const struct cluster *c)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->osds[i].process.node_count; j++)
            most = MAX(most, c->osds[i].process.nodes[j]->heap.bytes);
    return most;
}

static void settle(struct cluster *c)
{
    c->quiet_ns = c->sim->now_ns;
    if (!sim_run_while(c->sim, is_clean, c, c->sim->now_ns + CALM_NS) && !c->sim->failed)
        sim_fail(c->sim, "%llu s after the trouble %s", (unsigned long long)(CALM_NS / NS_PER_S),
                 c->not_clean);
    sim_run_for(c->sim, SETTLE_NS);
}

/* Returns the slowest request. */
static uint64_t suffer(struct cluster *c, const struct trouble *t)
{
    struct cluster_osd *osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];
    uint64_t heap_before = heap_largest(c), failures_before = c->failures;

    c->slowest_ns = 0;
    sim_log(c->sim, "%s %s", osd->process.name, t->name);
    sim_injected(c->sim, t->fault);
    t->begin(c, osd);
    sim_run_for(c->sim, t->lasts_ns);
    uint64_t heap = heap_largest(c);
    if (t->end)
        t->end(c, osd);
    settle(c);
    sim_log(c->sim, "the slowest request took %llu ms", (unsigned long long)(c->slowest_ns / NS_PER_MS));
    if (c->slowest_ns > t->bound_ns)
        sim_fail(c->sim, "while %s %s a request took more than %llu ms: %llu ms", osd->process.name, t->name,
                 (unsigned long long)(t->bound_ns / NS_PER_MS),
                 (unsigned long long)(c->slowest_ns / NS_PER_MS));
    if (c->failures != failures_before)
        sim_fail(c->sim, "while %s %s requests failed", osd->process.name, t->name);
    if (heap > heap_before + HEAP_MAX)
        sim_fail(c->sim, "while %s %s a shard came to hold more and more memory: %llu bytes",
                 osd->process.name, t->name, (unsigned long long)(heap - heap_before));
    return c->slowest_ns;
}

static void come_to_rest(struct cluster *c)
{
    c->quiet = c->stopping = true;
    if (!sim_run_while(c->sim, is_idle, c, c->sim->now_ns + STOP_NS) && !c->sim->failed)
        sim_fail(c->sim, "requests are under way, or clients cannot close their images, long after the end");
    for (uint32_t i = 0; i < c->image_count && !c->sim->failed; i++)
        check_history(c, i, 0);
    if (!c->sim->failed)
        replicas_check(c, c->sim->now_ns + REST_NS);
    if (!c->sim->failed)
        rest_end_all(c);
}

/* One writer for each image: nobody fences another. */
static void one_writer_each(struct cluster *c)
{
    for (uint32_t i = 0; i < c->client_count; i++)
        for (uint32_t j = 0; j < i; j++)
            c->clients[i].reader |= c->clients[i].image == c->clients[j].image;
}

void scenario_gap_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct cluster *c = sim_alloc(sizeof(*c));
    int at = 0;

    sim_choose_faults(sim, SIM_FAULT_BIT(CLOCK));
    cluster_init(c, sim, PROFILE_ANY, args);
    c->timeout_ns = TIMEOUT_NS;
    c->inflight_max = 0; /* no request waits for others of its client: these bounds are of one alone */
    one_writer_each(c);
    sim->after_step = always;
    sim->after_step_owner = c;
    for (uint32_t i = 0; i < c->mon_count; i++)
        process_start(&c->mons[i]);
    process_start(&c->admin);
    if (!sim_run_while(sim, is_ready, c, FORM_NS) && !sim->failed)
        sim_fail(sim, "the cluster did not form");
    sim_run_for(sim, SETTLE_NS);
    settle(c);
    for (uint32_t i = 0; i < ROUNDS && !sim->failed; i++) {
        const struct trouble *t = &TROUBLES[sim_rng_below(&c->rng, ARRAY_LEN(TROUBLES))];
        uint64_t slowest_ns = suffer(c, t);
        at += snprintf(ret_result->stats + at, sizeof(ret_result->stats) - (size_t)at, "%s%s %llu ms",
                       at ? "; " : "", t->name, (unsigned long long)(slowest_ns / NS_PER_MS));
    }
    if (!sim->failed)
        come_to_rest(c);
    sim_result_take(ret_result, sim);
    ret_result->client_ops = c->reads + c->writes + c->clears + c->statuses;
    sim->after_step = NULL;
    cluster_fini(c);
    sim_free(sim);
    free(c);
}
