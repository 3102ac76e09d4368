/* SPDX-License-Identifier: Apache-2.0
 *
 * What a conformance suite needs to know of the implementation under test: cores for its two sides, how to
 * run them, and how to step into one of them. A suite is written against the port's interface only; a program
 * per implementation makes a world and runs the suite in it.
 */
#ifndef TESTS_PORT_WORLD_H
#define TESTS_PORT_WORLD_H

#include "base/error.h"
#include "rt/buf.h"
#include "rt/core.h"

#define WORLD_ARENA_SIZE (64u << 20)
#define WORLD_WAIT_NS    (20 * NS_PER_S) /* nothing in a suite takes so long: it is the mark of a hang */

struct world {
    struct core *core[2]; /* may be the same one twice */
    /* Calls of a port from outside of the cores stand between these two. */
    void (*enter)(struct world *world, int side);
    void (*leave)(struct world *world, int side);
    /* Runs everything until `done` answers true; false when the time ran out. */
    bool (*run)(struct world *world, bool (*done)(void *owner), void *owner, uint64_t wait_ns);
};

static inline bool world_false(void *owner)
{
    return false;
}

static inline bool world_is(void *owner)
{
    return *(bool *)owner;
}

/* Lets everything that is under way come to rest. */
static inline void world_settle(struct world *world)
{
    world->run(world, world_false, NULL, 50 * NS_PER_MS);
}

/* An op that waits for what a test waits for: requests need a waiter. */
struct waiter {
    struct op op;
};

static inline void waiter_step(struct op *op)
{
}

static const struct op_kind waiter_kind = {"test.waiter", NULL, waiter_step};

static inline void waiter_start(struct world *world, struct waiter *waiter)
{
    *waiter = (struct waiter){0};
    world->enter(world, 0);
    op_start(&waiter->op, world->core[0], &waiter_kind, NULL);
    world->leave(world, 0);
}

static inline void waiter_stop(struct world *world, struct waiter *waiter)
{
    world->enter(world, 0);
    op_done(&waiter->op, 0);
    world->leave(world, 0);
}

#endif
