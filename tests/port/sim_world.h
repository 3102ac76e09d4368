/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the simulated implementations: a node per side, on a host each, no faults.
 */
#ifndef TESTS_PORT_SIM_WORLD_H
#define TESTS_PORT_SIM_WORLD_H

#include <stdio.h>
#include <stdlib.h>

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
    struct sim_world *w = (struct sim_world *)world;
    return sim_run_while(w->sim, done, owner, w->sim->now_ns + wait_ns);
}

static inline void sim_world_start(void *owner, struct sim_node *node)
{
}

static inline void sim_world_init(struct sim_world *w)
{
    w->sim = sim_new(1, false);
    for (int side = 0; side < 2; side++) {
        struct sim_node_config config = {.name = side ? "server" : "client",
                                         .host = side ? "10.0.0.2" : "10.0.0.1",
                                         .arena_bytes = WORLD_ARENA_SIZE,
                                         .start = sim_world_start};
        w->node[side] = sim_node_new(w->sim, &config);
        sim_node_start(w->node[side]);
        w->world.core[side] = &w->node[side]->core;
    }
    w->world.enter = sim_world_enter;
    w->world.leave = sim_world_leave;
    w->world.run = sim_world_run;
}

/* The last test: nothing that the simulator itself watches has gone wrong. */
static inline bool sim_world_ok(const struct sim_world *w)
{
    if (w->sim->failed)
        printf("# %s\n", w->sim->failure);
    return !w->sim->failed;
}

#endif
