/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions: the rpc room alone, with few of all that there is to have, between shards, clients and those who
 * do not belong there, while processes die and hang and the network does what it likes. At the end all is
 * well again, and every call must succeed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sim/rpc_world.h"

#define FAULTS_NS     (10 * NS_PER_S)
#define STRIKE_MAX_NS (400 * NS_PER_MS)
#define SETTLE_NS     (8 * NS_PER_S) /* of links that are dead, both ends know after so long */
#define OPEN_NS       (5 * NS_PER_S)
#define CALM_NS       (2 * NS_PER_S)
#define BURST_NS      (3 * NS_PER_MS)
#define IDLE_NS       (20 * NS_PER_S)
#define AUDIT_NS      (1 * NS_PER_MS)
#define DRIFT_PPB     500000

#define ULL(x) ((unsigned long long)(x))

static uint32_t intensity(const struct rpc_world *w, enum sim_fault fault)
{
    return w->quiet ? 0 : sim_fault_intensity(w->sim, fault);
}

/* ---- places ---- */

static bool is_server(const struct rpc_place *p)
{
    return p >= p->world->servers && p < p->world->servers + RPC_SERVERS;
}

void rpc_self(const struct rpc_place *p, uint64_t start, struct rpc_identity *ret)
{
    uint64_t drawn = hash_bytes(start, p->uuid, sizeof(p->uuid));

    *ret = (struct rpc_identity){.epoch = drawn, .image_id_max = hash_u64(drawn)};
    snprintf(ret->name, sizeof(ret->name), "%s", p->node->name);
    if (is_server(p) || p->number || !p->world->stranded)
        memcpy(ret->cluster, RPC_CLUSTER, 16);
    if (is_server(p)) {
        ret->role = RPC_OSD;
        ret->osd = p->number;
        ret->incarnation = start;
        ret->start_token = hash_u64(drawn + 1);
        memcpy(ret->osd_uuid, p->uuid, 16);
    } else {
        ret->role = RPC_CLIENT;
        ret->command = drawn % 2;
        memcpy(ret->client_uuid, (uint8_t[16]){RPC_MARK_CALLER, (uint8_t)p->number, (uint8_t)start}, 16);
    }
}

bool rpc_is_self(const struct rpc_place *p, uint64_t start, const struct rpc_identity *who)
{
    struct rpc_identity self;

    rpc_self(p, start, &self);
    return who->role == self.role && !memcmp(who->cluster, self.cluster, 16) && who->osd == self.osd &&
           who->shard == self.shard && !memcmp(who->osd_uuid, self.osd_uuid, 16) &&
           who->incarnation == self.incarnation && who->start_token == self.start_token &&
           !memcmp(who->client_uuid, self.client_uuid, 16) && who->command == self.command &&
           who->epoch == self.epoch && who->image_id_max == self.image_id_max &&
           !strcmp(who->name, self.name);
}

static void place_start(void *owner, struct sim_node *node)
{
    struct rpc_place *p = owner;

    p->starts++;
    if (is_server(p))
        rpc_server_place_start(p);
    rpc_caller_start(p);
}

static void place_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    struct rpc_place *p = owner;

    p->serving = NULL;
    p->calling = NULL;
}

static void place_init(struct rpc_world *w, uint32_t i)
{
    struct rpc_place *p = rpc_caller(w, i);
    bool server = i >= RPC_CLIENTS;
    char name[24], host[24];

    p->world = w;
    p->number = server ? i - RPC_CLIENTS : i;
    for (uint32_t j = 0; j < sizeof(p->uuid); j++)
        p->uuid[j] = (uint8_t)sim_rng_u64(&w->rng);
    snprintf(name, sizeof(name), server ? "osd.%u" : "client.%u", p->number);
    snprintf(host, sizeof(host), "10.0.%u.%u", server ? 1 : 2, p->number + 1);
    snprintf(p->address, sizeof(p->address), "%s:%u", host, RPC_PORT);
    int32_t drift = (int32_t)sim_rng_below(&w->rng, 2 * DRIFT_PPB) - DRIFT_PPB;
    p->node =
        sim_node_new(w->sim, &(struct sim_node_config){.name = name,
                                                       .host = host,
                                                       .arena_bytes = RPC_ARENA,
                                                       .drift_ppb = intensity(w, SIM_FAULT_CLOCK) ? drift : 0,
                                                       .wake_max_ns = 10 * NS_PER_US,
                                                       .start = place_start,
                                                       .crashed = place_crashed,
                                                       .owner = p});
    sim_net_port(w->net, p->node);
}

static void place_up(struct rpc_place *p)
{
    if (is_server(p))
        impostor_stop(p->world, p->number);
    sim_node_start(p->node);
}

static void place_down(struct rpc_place *p)
{
    struct rpc_world *w = p->world;

    if (p->node->state == SIM_NODE_DOWN || p->starts + 1 == RPC_STARTS_MAX)
        return;
    sim_injected(w->sim, SIM_FAULT_CRASH);
    sim_node_crash(p->node, SIM_CRASH_PROCESS);
    if (is_server(p) && sim_rng_below(&w->rng, 2))
        impostor_start(w, p->number);
}

/* ---- what goes wrong ---- */

static void set_lasting(struct rpc_world *w)
{
    sim_net_set_faults(
        w->net, &(struct sim_net_faults){.oneway_drop_ppm = intensity(w, SIM_FAULT_NET_LOSS) * 2000,
                                         .blackhole_ppm = intensity(w, SIM_FAULT_NET_LOSS) * 5,
                                         .oneway_dup_ppm = intensity(w, SIM_FAULT_NET_DUP) * 2000,
                                         .oneway_reorder_ppm = intensity(w, SIM_FAULT_NET_REORDER) * 2000,
                                         .break_ppm = intensity(w, SIM_FAULT_NET_BREAK) * 20,
                                         .corrupt_ppm = intensity(w, SIM_FAULT_NET_CORRUPT) * 20,
                                         .busy_ppm = intensity(w, SIM_FAULT_NET_SLOW) * 500,
                                         .slow_ppm = intensity(w, SIM_FAULT_NET_SLOW) * 200,
                                         .slow_ns = 300 * NS_PER_MS});
}

static void strike_network(struct rpc_world *w, struct rpc_place *p)
{
    struct rpc_place *to = &w->servers[sim_rng_below(&w->rng, RPC_SERVERS)];

    switch (sim_rng_below(&w->rng, 5)) {
    case 0:
        sim_net_isolate(w->net, p->node->host, (enum sim_path)sim_rng_range(&w->rng, 1, 2));
        break;
    case 1:
        sim_net_silence(w->net, p->node->host, to->node->host);
        break;
    default:
        sim_net_hold(w->net, p->node->host, to->node->host, sim_rng_below(&w->rng, 3 * NS_PER_S),
                     sim_rng_below(&w->rng, 2));
        break;
    }
}

static bool draws(struct rpc_world *w, enum sim_fault fault)
{
    uint32_t strength = intensity(w, fault);

    if (!strength || sim_rng_below(&w->rng, 250) >= strength)
        return false;
    sim_injected(w->sim, fault);
    return true;
}

static void strike(struct rpc_world *w)
{
    struct rpc_place *p = rpc_caller(w, (uint32_t)sim_rng_below(&w->rng, RPC_CALLERS));

    if (p->node->state == SIM_NODE_DOWN) {
        place_up(p);
        return;
    }
    if (p->node->state == SIM_NODE_PAUSED)
        sim_node_resume(p->node);
    if (sim_rng_below(&w->rng, 4) == 0)
        sim_net_heal(w->net);
    if (draws(w, SIM_FAULT_CRASH))
        place_down(p);
    else if (draws(w, SIM_FAULT_PAUSE))
        sim_node_pause(p->node);
    else if (draws(w, SIM_FAULT_NET_PARTITION))
        strike_network(w, p);
    else if (draws(w, SIM_FAULT_NET_BREAK))
        sim_net_break_links(w->net, p->node->host);
    else if (draws(w, SIM_FAULT_MEMORY))
        sim_node_hold_buffers(p->node, (size_t)BLOCK_SIZE * sim_rng_below(&w->rng, 8),
                              sim_rng_below(&w->rng, 2), 200 * NS_PER_MS);
    else
        strangers_strike(w);
}

/* ---- at any time ---- */

/* It hangs, or did until a moment ago. */
static bool is_behind(const struct sim_node *node)
{
    return node->state != SIM_NODE_UP ||
           core_next_deadline_ns(&node->core) + NS_PER_MS < sim_node_now_ns(node);
}

struct audit {
    struct rpc_world *world;
    uint64_t next_ns;
};

static void always(void *owner, struct sim *sim)
{
    struct audit *a = owner;

    if (sim->failed || sim->now_ns < a->next_ns)
        return;
    a->next_ns = sim->now_ns + AUDIT_NS;
    for (uint32_t i = 0; i < RPC_CALLERS && !sim->failed; i++) {
        struct rpc_place *p = rpc_caller(a->world, i);
        if (is_behind(p->node))
            continue;
        if (p->serving)
            rpc_server_audit(p);
        if (p->calling)
            rpc_caller_audit(p);
    }
}

/* ---- the run ---- */

bool rpc_all_open(void *owner)
{
    for (uint32_t i = 0; i < RPC_CALLERS; i++) {
        const struct rpc_place *p = rpc_caller(owner, i);
        if (!rpc_caller_open(p) || !rpc_caller_idle(p))
            return false;
    }
    return true;
}

static bool all_idle(void *owner)
{
    struct rpc_world *w = owner;

    for (uint32_t i = 0; i < RPC_CALLERS; i++)
        if (!rpc_caller_idle(rpc_caller(w, i)))
            return false;
    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        if (!rpc_server_idle(&w->servers[i]))
            return false;
    return true;
}

static void suffer(struct rpc_world *w)
{
    uint64_t until_ns = w->sim->now_ns + FAULTS_NS;

    set_lasting(w);
    while (!w->sim->failed && w->sim->now_ns < until_ns) {
        sim_run_for(w->sim, sim_rng_below(&w->rng, STRIKE_MAX_NS));
        if (!w->sim->failed)
            strike(w);
    }
}

static void become_quiet(struct rpc_world *w)
{
    /* Deadlines are shorter than many answers take. */
    if (w->calls > 1000 && !w->timeouts)
        sim_fail(w->sim, "of %llu calls none is too late", ULL(w->calls));
    w->quiet = true;
    w->asking = false;
    set_lasting(w);
    sim_net_heal(w->net);
    strangers_stop(w);
    for (uint32_t i = 0; i < RPC_CALLERS; i++) {
        struct rpc_place *p = rpc_caller(w, i);
        if (p->node->state == SIM_NODE_PAUSED)
            sim_node_resume(p->node);
        if (p->fooled && p->node->state == SIM_NODE_UP)
            sim_node_crash(p->node, SIM_CRASH_PROCESS);
        if (p->node->state == SIM_NODE_DOWN)
            place_up(p);
    }
}

static void be_well(struct rpc_world *w)
{
    sim_run_for(w->sim, SETTLE_NS);
    if (!sim_run_while(w->sim, rpc_all_open, w, w->sim->now_ns + OPEN_NS) && !w->sim->failed)
        sim_fail(w->sim, "long after the last fault somebody has no session, or an old call");
    w->calm = w->asking = true;
    sim_run_for(w->sim, CALM_NS);
    for (uint32_t i = 0; i < RPC_CALLERS && !w->sim->failed; i++)
        rpc_caller_check_served(rpc_caller(w, i));
    w->asking = false;
    if (!sim_run_while(w->sim, all_idle, w, w->sim->now_ns + IDLE_NS) && !w->sim->failed)
        sim_fail(w->sim, "calls do not end");
    if (!w->hungry || w->sim->failed)
        return;
    w->burst = true;
    sim_run_for(w->sim, 100 * NS_PER_MS); /* all listen for the beginning */
    w->asking = true;
    sim_run_for(w->sim, BURST_NS);
    w->asking = false;
    if (!sim_run_while(w->sim, all_idle, w, w->sim->now_ns + IDLE_NS) && !w->sim->failed)
        sim_fail(w->sim, "large calls do not end");
    w->burst = false;
}

static void end_all(struct rpc_world *w)
{
    for (uint32_t i = 0; i < RPC_CALLERS && !w->sim->failed; i++) {
        struct rpc_place *p = rpc_caller(w, i);
        sim_node_enter(p->node);
        rpc_caller_end(p);
        sim_node_leave(p->node);
    }
    if (!w->sim->failed)
        rpc_calm_end(w);
    for (uint32_t i = 0; i < RPC_CALLERS && !w->sim->failed; i++) {
        struct rpc_place *p = rpc_caller(w, i);
        sim_node_enter(p->node);
        if (is_server(p))
            rpc_server_place_end(p);
        sim_node_leave(p->node);
        sim_node_halt(p->node);
    }
}

static void choose_shape(struct rpc_world *w)
{
    static const uint32_t queues[] = {64u << 10, 1u << 20, 0};
    struct sim_rng *rng = &w->rng;

    /* All that belong there have a place at each server. */
    w->sessions_max = RPC_CALLERS - 1 + (uint32_t)sim_rng_below(rng, 3);
    w->requests_max = (uint32_t)sim_rng_range(rng, 1, RPC_ASKERS);
    w->calls_max = (uint32_t)sim_rng_range(rng, 1, RPC_ASKERS);
    w->crowds = sim_rng_below(rng, 4) == 0;
    w->hungry = sim_rng_below(rng, 4) == 0;
    w->stranded = sim_rng_below(rng, 4) == 0;
    if (w->hungry)
        w->requests_max = w->calls_max = RPC_ASKERS;
    w->net = sim_net_new(
        w->sim, &(struct sim_net_config){.queue_max_bytes = queues[sim_rng_below(rng, ARRAY_LEN(queues))]});
}

void scenario_rpc_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct rpc_world *w = sim_alloc(sizeof(*w));
    struct audit audit = {.world = w};

    sim_choose_faults(sim, SIM_FAULT_BIT(CRASH) | SIM_FAULT_BIT(PAUSE) | SIM_FAULT_BIT(CLOCK) |
                               SIM_FAULT_BIT(NET_LOSS) | SIM_FAULT_BIT(NET_DUP) | SIM_FAULT_BIT(NET_REORDER) |
                               SIM_FAULT_BIT(NET_SLOW) | SIM_FAULT_BIT(NET_BREAK) |
                               SIM_FAULT_BIT(NET_PARTITION) | SIM_FAULT_BIT(NET_CORRUPT) |
                               SIM_FAULT_BIT(MEMORY));
    w->sim = sim;
    w->rng = sim_rng_make(args->seed, "rpc", 0);
    w->pattern = sim_alloc(RPC_PATTERN_SIZE);
    for (uint32_t i = 0; i < RPC_PATTERN_SIZE; i++)
        w->pattern[i] = (uint8_t)(hash_u64(i) >> 32);
    choose_shape(w);
    for (uint32_t i = 0; i < RPC_CALLERS; i++)
        place_init(w, i);
    strangers_init(w);
    monitors_check(w);
    rpc_seen_check(w);
    sim->after_step = always;
    sim->after_step_owner = &audit;
    w->asking = true;
    for (uint32_t i = 0; i < RPC_CALLERS; i++)
        sim_node_start(rpc_caller(w, i)->node);
    suffer(w);
    if (!sim->failed)
        become_quiet(w);
    if (!sim->failed)
        be_well(w);
    if (!sim->failed)
        rpc_calm_run(w);
    if (!sim->failed)
        end_all(w);
    sim_result_take(ret_result, sim);
    ret_result->client_ops = w->answers;
    snprintf(
        ret_result->stats, sizeof(ret_result->stats),
        "at most %u sessions, %u requests, %u calls; %llu calls, %llu answered, %llu refused, %llu without "
        "room, %llu too late; %llu strangers refused",
        w->sessions_max, w->requests_max, w->calls_max, ULL(w->calls), ULL(w->answers), ULL(w->refused),
        ULL(w->dropped), ULL(w->timeouts), ULL(w->strangers_refused));
    sim->after_step = NULL;
    strangers_fini(w);
    sim_net_free(w->net);
    sim_free(sim);
    free(w->pattern);
    free(w);
}
