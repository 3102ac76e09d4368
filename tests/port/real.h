/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the real implementations: one core on io_uring, which is both sides.
 */
#ifndef TESTS_PORT_REAL_H
#define TESTS_PORT_REAL_H

#include "backend/backend.h"
#include "tests/port/world.h"

struct real_world {
    struct world world; /* first */
    struct uring_core *uc;
};

static inline void real_enter(struct world *world, int side)
{
}

static inline bool real_run(struct world *world, bool (*done)(void *owner), void *owner, uint64_t wait_ns)
{
    struct real_world *real = (struct real_world *)world;
    uint64_t end_ns = core_now_ns(world->core[0]) + wait_ns;

    while (!done(owner)) {
        uint64_t now_ns = core_now_ns(world->core[0]);
        if (now_ns >= end_ns)
            return false;
        uring_core_turn(real->uc, MIN(end_ns - now_ns, 10 * NS_PER_MS));
    }
    return true;
}

static inline bool real_world_init(struct real_world *real, uint32_t spin_us)
{
    struct uring_core_opts opts = {
        .arena_bytes = WORLD_ARENA_SIZE, .spin_us = spin_us, .log_level = LOG_ERROR};

    if (uring_core_new(&opts, &real->uc))
        return false;
    struct core *core = uring_core_core(real->uc);
    real->world =
        (struct world){.core = {core, core}, .enter = real_enter, .leave = real_enter, .run = real_run};
    return true;
}

#endif
