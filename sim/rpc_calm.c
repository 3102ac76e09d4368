/* SPDX-License-Identifier: Apache-2.0
 *
 * What shows only when nobody asks for anything: sessions live by their pings, a sign of life that is asked
 * for comes at once, who was away has its sessions again in time, who comes in crowds keeps nobody out. One
 * trouble at a time, and each with the time that it may take. At last, of whom nobody wants anything does
 * nothing.
 */
#include "sim/rpc_world.h"

#define IDLE_NS (7 * NS_PER_S)
#define SIGN_NS (3 * NS_PER_MS) /* there and back; a packet takes up to 1.3 ms */
#define AWAY_NS (8 * NS_PER_S)  /* and up to twice that: all know that it is gone */
#define TRIES   2u
/* An attempt to connect has ended, or has a session. */
#define ATTEMPT_NS (501 * NS_PER_MS)
#define PAUSE_NS   (10 * NS_PER_MS) /* after a first attempt that failed */

enum trouble {
    TROUBLE_RESTART, /* a server dies and is there again */
    TROUBLE_AWAY,    /* it is not for some time */
    TROUBLE_KICK,    /* nor then, until they are told that it is */
    TROUBLE_CUT,     /* nobody reaches it */
    TROUBLE_HANG,
    TROUBLE_SILENT, /* one connection carries nothing any more */
    TROUBLE_THRONG, /* all connect anew among many that say nothing */
    TROUBLE_KINDS
};

/* After so long everybody has a session with everybody. */
static const uint64_t TROUBLE_BACK_NS[TROUBLE_KINDS] = {
    [TROUBLE_RESTART] = 100 * NS_PER_MS, /* the first pause */
    [TROUBLE_AWAY] = 1100 * NS_PER_MS,   /* an attempt, and the longest pause */
    [TROUBLE_KICK] = 10 * NS_PER_MS,     [TROUBLE_CUT] = 1100 * NS_PER_MS,
    [TROUBLE_HANG] = 1100 * NS_PER_MS,   [TROUBLE_SILENT] = 0, /* it has been long enough */
    [TROUBLE_THRONG] = 5 * NS_PER_MS,
};
static const char *const TROUBLE_NAMES[TROUBLE_KINDS] = {
    "a restart", "an absence", "a kick", "a partition", "it was hanging", "a silence", "a throng"};

static void each_caller(struct rpc_world *w, void (*fn)(struct rpc_place *p, uint32_t server),
                        uint32_t server)
{
    for (uint32_t i = 0; i < RPC_CALLERS && !w->sim->failed; i++) {
        struct rpc_place *p = rpc_caller(w, i);
        sim_node_enter(p->node);
        fn(p, server);
        sim_node_leave(p->node);
    }
}

static void each_server(struct rpc_world *w, void (*fn)(struct rpc_place *p))
{
    for (uint32_t i = 0; i < RPC_SERVERS && !w->sim->failed; i++) {
        sim_node_enter(w->servers[i].node);
        fn(&w->servers[i]);
        sim_node_leave(w->servers[i].node);
    }
}

static void be_idle(struct rpc_world *w)
{
    w->pings_ns = w->sim->now_ns + IDLE_NS / 2;
    sim_run_for(w->sim, IDLE_NS);
    w->pings_ns = 0;
    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        each_caller(w, rpc_caller_ping, i);
    sim_run_for(w->sim, SIGN_NS);
    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        each_caller(w, rpc_caller_check_sign, i);
    each_server(w, rpc_server_ping);
    sim_run_for(w->sim, SIGN_NS);
    each_server(w, rpc_server_check_sign);
}

static void trouble_make(struct rpc_world *w, enum trouble trouble, struct rpc_place *server,
                         uint64_t away_ns)
{
    struct rpc_place *client = &w->clients[sim_rng_below(&w->rng, RPC_CLIENTS)];
    struct sim_node *node = server->node;

    switch (trouble) {
    case TROUBLE_RESTART:
        sim_node_crash(node, SIM_CRASH_PROCESS);
        sim_node_start(node);
        break;
    case TROUBLE_AWAY:
    case TROUBLE_KICK:
        sim_node_crash(node, SIM_CRASH_PROCESS);
        sim_run_for(w->sim, away_ns);
        sim_node_start(node);
        if (trouble == TROUBLE_KICK) {
            sim_run_for(w->sim, ATTEMPT_NS); /* those that were under way have ended */
            each_caller(w, rpc_caller_kick, server->number);
        }
        break;
    case TROUBLE_CUT:
        sim_net_isolate(w->net, node->host, SIM_PATH_BLOCK);
        sim_run_for(w->sim, away_ns);
        sim_net_heal(w->net);
        break;
    case TROUBLE_HANG:
        sim_node_pause(node);
        sim_run_for(w->sim, away_ns);
        sim_node_resume(node);
        break;
    case TROUBLE_SILENT:
        sim_net_silence(w->net, client->node->host, node->host);
        sim_run_for(w->sim, away_ns);
        break;
    case TROUBLE_THRONG:
        strangers_throng(w, server->number, 66);
        sim_run_for(w->sim, 100 * NS_PER_MS);
        strangers_throng(w, server->number, 34);
        each_caller(w, rpc_caller_renew, server->number);
        break;
    case TROUBLE_KINDS:
        UNREACHABLE();
    }
}

/* Has everybody a session with everybody in time? Who connects anew may be there before the end of its former
 * session, which then has its place at a server that is full, and comes again a pause later. */
static bool are_back(struct rpc_world *w, enum trouble trouble)
{
    bool back = sim_run_while(w->sim, rpc_all_open, w, w->sim->now_ns + TROUBLE_BACK_NS[trouble]);

    if (back || trouble != TROUBLE_THRONG)
        return back;
    for (uint32_t i = 0; i < RPC_CALLERS; i++)
        if (!rpc_caller_open_or_full(rpc_caller(w, i)))
            return false;
    return sim_run_while(w->sim, rpc_all_open, w, w->sim->now_ns + PAUSE_NS);
}

void rpc_calm_run(struct rpc_world *w)
{
    w->idle = true;
    be_idle(w);
    for (uint32_t i = 0; i < TRIES && !w->sim->failed; i++) {
        enum trouble trouble = (enum trouble)sim_rng_below(&w->rng, TROUBLE_KINDS);
        w->calm = false;
        trouble_make(w, trouble, &w->servers[sim_rng_below(&w->rng, RPC_SERVERS)],
                     AWAY_NS + sim_rng_below(&w->rng, AWAY_NS));
        if (!are_back(w, trouble) && !w->sim->failed)
            sim_fail(w->sim, "%s is over, and somebody has no session", TROUBLE_NAMES[trouble]);
        w->calm = true;
        sim_run_for(w->sim, 2 * NS_PER_S);
    }
    w->calm = false;
}

/* ---- who was seen before */

void rpc_seen_check(struct rpc_world *w)
{
    enum { IDS = 9, ROOM = 5, SESSIONS = 3, STEPS = 80 };
    struct sim_rng rng = sim_rng_make(w->sim->seed, "rpc.seen", 0);
    struct list sessions[IDS][SESSIONS];
    uint32_t open[IDS] = {0}, busy = 0;
    uint64_t gone[IDS] = {0}; /* when it became idle, if it is known; 0: it is not */
    struct rpc_seen_table table;

    int error = rpc_seen_init(&table, ROOM);
    ASSERT(!error);
    for (uint32_t step = 1; step <= STEPS && !w->sim->failed; step++) {
        uint32_t i = (uint32_t)sim_rng_below(&rng, IDS), oldest = IDS, known = 0;
        uint8_t id[16] = {(uint8_t)i, [9] = 1};
        struct rpc_seen *seen = rpc_seen_find(&table, id);
        if ((seen != NULL) != (open[i] || gone[i]) || (seen && seen->highest != i)) {
            sim_fail(w->sim, "who was seen is not known, or who was forgotten is");
            break;
        }
        if (open[i] && (open[i] == SESSIONS || sim_rng_below(&rng, 2))) {
            rpc_seen_close(&table, seen, &sessions[i][--open[i]]);
            gone[i] = open[i] ? 0 : step;
            busy -= !open[i];
            continue;
        }
        if (!open[i] && busy == ROOM - 1)
            continue;
        for (uint32_t j = 0; j < IDS; j++) {
            known += open[j] || gone[j];
            if (gone[j] && (oldest == IDS || gone[j] < gone[oldest]))
                oldest = j;
        }
        if (!seen) {
            seen = rpc_seen_add(&table, id);
            seen->highest = i;
            if (known == ROOM)
                gone[oldest] = 0;
        }
        busy += !open[i];
        gone[i] = 0;
        list_init(&sessions[i][open[i]]);
        rpc_seen_open(seen, &sessions[i][open[i]++]);
    }
    rpc_seen_fini(&table);
}

void rpc_calm_end(struct rpc_world *w)
{
    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        strangers_throng(w, i, 1);
    sim_run_for(w->sim, RPC_GREET_MAX_NS + RPC_PING_EVERY_NS + 200 * NS_PER_MS);
    each_server(w, rpc_server_check_rest);
}
