/* SPDX-License-Identifier: Apache-2.0
 *
 * Scenarios: what fastblock-sim runs. A scenario makes a struct sim with the seed, puts nodes and faults in
 * it, runs it, checks what must hold, and reports. All that it decides comes from the seed. See
 * sim/README.md.
 */
#ifndef SIM_SCENARIOS_H
#define SIM_SCENARIOS_H

#include "sim/sim.h"

/* What a run may be cut down to; the name is that of the option. */
#define SIM_LIMIT_TABLE(X)                                                                                   \
    X(OSDS, "osds")                                                                                          \
    X(SHARDS, "shards")                                                                                      \
    X(CLIENTS, "clients")                                                                                    \
    X(PGS, "pgs")                                                                                            \
    X(WORKERS, "workers")                                                                                    \
    X(FAULT_MS, "fault-ms")

enum sim_limit {
#define X(name, text) SIM_LIMIT_##name,
    SIM_LIMIT_TABLE(X)
#undef X
        SIM_LIMIT_COUNT
};

struct sim_limits {
    uint32_t most[SIM_LIMIT_COUNT]; /* 0: as the seed says */
};

static inline uint32_t sim_limited(const struct sim_limits *limits, enum sim_limit limit, uint32_t drawn)
{
    return limits->most[limit] ? MIN(drawn, limits->most[limit]) : drawn;
}

#define SIM_REPLICAS_MAX 5

struct sim_args {
    uint64_t seed;
    bool verbose;
    const char *profile; /* of the cluster scenario; NULL: as the seed says */
    uint32_t replicas;   /* of each PG there; 0: three */
    struct sim_limits limits;
};

/* Zeroed before the run. */
struct sim_result {
    bool failed;
    char failure[512];
    uint64_t trace_hash;
    uint64_t virtual_ns, events, polls;
    uint64_t client_ops; /* requests of clients that succeeded; 0: the scenario has none */
    uint64_t clean_ns;   /* from the last fault until everything was whole again; 0: it does not say */
    uint32_t faults;
    uint8_t intensity[SIM_FAULT_COUNT];
    uint64_t injected[SIM_FAULT_COUNT];
    char stats[768]; /* the scenario's own figures, one line; may stay empty */
};

struct sim_scenario {
    const char *name;
    const char *description;
    void (*run)(const struct sim_args *args, struct sim_result *ret_result);
};

/* Ends with a row without a name. */
extern const struct sim_scenario SIM_SCENARIOS[];

/* Fills in everything but `stats`; before sim_free(). */
void sim_result_take(struct sim_result *result, const struct sim *sim);

/* The scenarios' run functions, one per file sim/scenario_NAME.c. */
void scenario_ports_run(const struct sim_args *args, struct sim_result *ret_result);
void scenario_raft_run(const struct sim_args *args, struct sim_result *ret_result);
void scenario_store_run(const struct sim_args *args, struct sim_result *ret_result);
void scenario_rpc_run(const struct sim_args *args, struct sim_result *ret_result);
void scenario_cluster_run(const struct sim_args *args, struct sim_result *ret_result);
void scenario_gap_run(const struct sim_args *args, struct sim_result *ret_result);

#endif
