/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the simulated ports, for the conformance suites in tests/port: two nodes of one run.
 */
#ifndef TESTS_SIM_PORT_WORLD_H
#define TESTS_SIM_PORT_WORLD_H

#include "sim/sim.h"
#include "tests/port/world.h"

struct sim_world {
    struct world world; /* first */
    struct sim *sim;
    struct sim_node *node[2];
};

static inline void sim_world_enter(struct world *world, int side)
{
    sim_node_enter(((struct sim_world *)world)->node[side]);
}

static inline void sim_world_leave(struct world *world, int side)
{
    sim_node_leave(((struct sim_world *)world)->node[side]);
}

static inline bool sim_world_run(struct world *world, bool (*done)(void *owner), void *owner,
                                 uint64_t wait_ns)
{
    struct sim *sim = ((struct sim_world *)world)->sim;

    return sim_run_while(sim, done, owner, sim->now_ns + wait_ns);
}

static inline void sim_world_start(void *owner, struct sim_node *node)
{
}

static inline void sim_world_init(struct sim_world *w, uint64_t seed)
{
    w->sim = sim_new(seed, false);
    for (int i = 0; i < 2; i++) {
        w->node[i] = sim_node_new(w->sim, &(struct sim_node_config){.name = i ? "side.1" : "side.0",
                                                                    .host = i ? "10.0.0.2" : "10.0.0.1",
                                                                    .arena_bytes = WORLD_ARENA_SIZE,
                                                                    .wake_max_ns = 10 * NS_PER_US,
                                                                    .start = sim_world_start});
        sim_node_start(w->node[i]);
    }
    w->world = (struct world){.core = {&w->node[0]->core, &w->node[1]->core},
                              .enter = sim_world_enter,
                              .leave = sim_world_leave,
                              .run = sim_world_run};
}

#endif
