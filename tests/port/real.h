/* SPDX-License-Identifier: Apache-2.0
 *
 * The world of the real implementations: cores on io_uring.
 */
#ifndef TESTS_PORT_REAL_H
#define TESTS_PORT_REAL_H

#include "backend/backend.h"
#include "tests/port/world.h"

struct real_world {
    struct world world; /* first */
    struct uring_core *uc[2];
};

static inline void real_enter(struct world *world, int side)
{
}

static inline bool real_run(struct world *world, bool (*done)(void *owner), void *owner, uint64_t wait_ns)
{
    struct real_world *real = (struct real_world *)world;
    bool two = real->uc[0] != real->uc[1];
    uint64_t end_ns = core_now_ns(world->core[0]) + wait_ns;

    while (!done(owner)) {
        uint64_t now_ns = core_now_ns(world->core[0]);
        if (now_ns >= end_ns)
            return false;
        uring_core_turn(real->uc[0], MIN(end_ns - now_ns, two ? 50 * NS_PER_US : 10 * NS_PER_MS));
        if (two)
            uring_core_turn(real->uc[1], 50 * NS_PER_US);
    }
    return true;
}

/* With one side or two: cores of their own, with an arena each, driven in turn. */
static inline bool real_world_make(struct real_world *real, const struct uring_core_opts *opts, int sides)
{
    if (uring_core_new(opts, &real->uc[0]))
        return false;
    real->uc[1] = real->uc[0];
    if (sides == 2 && uring_core_new(opts, &real->uc[1]))
        return false;
    real->world = (struct world){.core = {uring_core_core(real->uc[0]), uring_core_core(real->uc[1])},
                                 .enter = real_enter,
                                 .leave = real_enter,
                                 .run = real_run};
    return true;
}

static inline bool real_world_init(struct real_world *real, uint32_t spin_us, int sides)
{
    struct uring_core_opts opts = {
        .arena_bytes = WORLD_ARENA_SIZE, .spin_us = spin_us, .log_level = LOG_ERROR};

    return real_world_make(real, &opts, sides);
}

static inline void real_world_fini(struct real_world *real)
{
    if (real->uc[1] != real->uc[0])
        uring_core_free(real->uc[1]);
    uring_core_free(real->uc[0]);
}

#endif
