/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of scenarios.
 */
#include "sim/scenarios.h"

#include <string.h>

const struct sim_scenario SIM_SCENARIOS[] = {
    {"ports", "the simulated ports alone: every kind of request under every kind of fault",
     scenario_ports_run},
#ifdef SIM_HAVE_RAFT
    {"raft", "one Raft group: elections, crashes, partitions; the safety properties of Raft",
     scenario_raft_run},
#endif
#ifdef SIM_HAVE_STORE
    {"store", "one store: random entries, crashes at any point, full devices; against a model",
     scenario_store_run},
#endif
#ifdef SIM_HAVE_CLUSTER
    {"cluster", "a monitor, OSDs and clients; every read checked for linearizability", scenario_cluster_run},
    {"gap", "the same cluster, one trouble at a time: how long any request takes", scenario_gap_run},
#endif
    {0},
};

void sim_result_take(struct sim_result *result, const struct sim *sim)
{
    result->failed = sim->failed;
    memcpy(result->failure, sim->failure, sizeof(result->failure));
    result->trace_hash = sim->trace_hash;
    result->virtual_ns = sim->now_ns;
    result->events = sim->events_fired;
    result->polls = sim->polls;
    result->faults = sim->faults;
    memcpy(result->injected, sim->injected, sizeof(result->injected));
    memcpy(result->intensity, sim->intensity, sizeof(result->intensity));
}
