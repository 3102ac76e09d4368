/* SPDX-License-Identifier: Apache-2.0
 *
 * Scenarios: what fastblock-sim runs. A scenario makes a struct sim with the seed, puts nodes and faults in
 * it, runs it, checks what must hold, and reports. All that it decides comes from the seed. See
 * sim/README.md.
 */
#ifndef SIM_SCENARIOS_H
#define SIM_SCENARIOS_H

#include "sim/sim.h"

struct sim_args {
    uint64_t seed;
    bool verbose;
};

/* Zeroed before the run. */
struct sim_result {
    bool failed;
    char failure[512];
    uint64_t trace_hash;
    uint64_t virtual_ns, events, polls;
    uint64_t client_ops; /* requests of clients that succeeded; 0: the scenario has none */
    uint32_t faults;
    uint8_t intensity[SIM_FAULT_COUNT];
    char stats[512]; /* the scenario's own figures, one line; may stay empty */
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
void scenario_cluster_run(const struct sim_args *args, struct sim_result *ret_result);

#endif
