/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of scenarios.
 */
#include "sim/scenarios.h"

const struct sim_scenario SIM_SCENARIOS[] = {
    {"ports", "the simulated ports alone: every kind of request under every kind of fault",
     scenario_ports_run},
    {"raft", "one Raft group: elections, crashes, partitions; the safety properties of Raft",
     scenario_raft_run},
    {"store", "one store: random entries, crashes at any point, full devices; against a model",
     scenario_store_run},
    {"rpc", "sessions alone: callers, servers, and those who do not belong there", scenario_rpc_run},
    {"cluster", "a monitor, OSDs and clients; every read checked for linearizability", scenario_cluster_run},
    {"gap", "the same cluster, one trouble at a time: how long any request takes", scenario_gap_run},
    {0},
};
