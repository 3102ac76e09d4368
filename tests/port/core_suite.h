/* SPDX-License-Identifier: Apache-2.0
 *
 * The suite of the environment and of the loop around a core: clock, randomness, timers. Included by the one
 * program per implementation.
 */
#ifndef TESTS_PORT_CORE_SUITE_H
#define TESTS_PORT_CORE_SUITE_H

#include <stdlib.h>
#include <string.h>

#include "tests/port/world.h"
#include "tests/tap.h"

static struct world *core_world;

static void the_clock_goes_forward(void)
{
    struct core *core = core_world->core[0];
    uint64_t before_ns = core_now_ns(core);

    for (int i = 0; i < 1000; i++) {
        uint64_t now_ns = core_now_ns(core);
        CHECK(now_ns >= before_ns);
        before_ns = now_ns;
    }
    world_settle(core_world);
    CHECK(core_now_ns(core) >= before_ns + 40 * NS_PER_MS);
}

static void random_words_differ(void)
{
    static uint64_t words[1000];
    uint64_t ones = 0;

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        words[i] = core_random_u64(core_world->core[0]);
        ones += (uint64_t)__builtin_popcountll(words[i]);
        for (size_t k = 0; k < i; k++)
            CHECK(words[k] != words[i]);
    }
    CHECK(ones > 30000 && ones < 34000);
}

struct alarm {
    struct op op;
    struct timer timer;
    uint64_t fired_ns;
    uint32_t again; /* so many times more */
    uint64_t period_ns;
    bool early, done;
};

static void alarm_step(struct op *op)
{
    struct alarm *a = container_of(op, struct alarm, op);
    uint64_t now_ns = core_now_ns(op->core);

    if (a->timer.fired) {
        a->early |= now_ns < a->timer.deadline_ns;
        a->fired_ns = now_ns;
        if (a->again-- == 0) {
            a->done = true;
            op_done(op, 0);
            return;
        }
    } else if (timer_armed(&a->timer)) {
        return;
    }
    timer_arm(op->core, &a->timer, op, now_ns + a->period_ns);
}

static const struct op_kind alarm_kind = {"test.alarm", NULL, alarm_step};

static void timers_fire_in_time(void)
{
    static struct alarm alarms[50];
    uint64_t start_ns = core_now_ns(core_world->core[0]);

    memset(alarms, 0, sizeof(alarms));
    core_world->enter(core_world, 0);
    for (uint32_t i = 0; i < ARRAY_LEN(alarms); i++) {
        alarms[i].again = i % 5;
        alarms[i].period_ns = (i + 1) * NS_PER_MS / 4;
        op_start(&alarms[i].op, core_world->core[0], &alarm_kind, NULL);
    }
    core_world->leave(core_world, 0);
    for (uint32_t i = 0; i < ARRAY_LEN(alarms); i++) {
        CHECK(core_world->run(core_world, world_is, &alarms[i].done, WORLD_WAIT_NS));
        CHECK(!alarms[i].early);
        CHECK(alarms[i].fired_ns >= start_ns + (i % 5 + 1) * alarms[i].period_ns);
    }
}

static void core_suite(struct world *world)
{
    core_world = world;
    TEST(the_clock_goes_forward);
    TEST(random_words_differ);
    TEST(timers_fire_in_time);
}

#endif
