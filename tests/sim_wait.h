/* SPDX-License-Identifier: Apache-2.0
 *
 * What tests with a simulated world have in common: to act as a node, and to wait in virtual time. The world
 * has a `sim`.
 */
#ifndef TESTS_SIM_WAIT_H
#define TESTS_SIM_WAIT_H

#include "sim/sim.h"
#include "tests/tap.h"

/* A test acts as part of a node while it does this. */
#define IN_NODE(node, statement)                                                                             \
    do {                                                                                                     \
        sim_node_enter(node);                                                                                \
        statement;                                                                                           \
        sim_node_leave(node);                                                                                \
    } while (0)

/* Runs until the condition holds; CHECKs that it does within `ms` of virtual time. */
#define WAIT_FOR(w, ms, condition)                                                                           \
    do {                                                                                                     \
        uint64_t until_ns_ = (w)->sim->now_ns + (ms)*NS_PER_MS;                                              \
        while (!(condition) && sim_step((w)->sim, until_ns_))                                                \
            ;                                                                                                \
        CHECK(condition);                                                                                    \
        CHECK(!(w)->sim->failed);                                                                            \
    } while (0)

#endif
