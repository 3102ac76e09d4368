/* SPDX-License-Identifier: Apache-2.0
 *
 * When a core stays awake: backend/spin.h, cranked by a clock of our own.
 */
#include "backend/spin.h"
#include "tests/tap.h"

#define LIMIT_NS (100 * NS_PER_US)

static struct spin spin;
static uint64_t now_ns;

static void fresh(void)
{
    now_ns = NS_PER_S;
    spin = (struct spin){.limit_ns = LIMIT_NS, .since_ns = now_ns};
}

/* A run, then a wait; did it stay awake, or would have, for the wait's beginning? */
static bool round_of(uint64_t run_ns, uint64_t wait_ns)
{
    now_ns += run_ns;
    uint64_t until_ns = spin_wait_begins(&spin, now_ns);
    CHECK(until_ns == now_ns || until_ns == now_ns + LIMIT_NS);
    bool awake = until_ns > now_ns;
    now_ns += wait_ns;
    spin_wait_ends(&spin, now_ns);
    return awake;
}

/* How many of so many rounds stayed awake. */
static int rounds_of(int count, uint64_t run_ns, uint64_t wait_ns)
{
    int awake = 0;

    while (count--)
        awake += round_of(run_ns, wait_ns);
    return awake;
}

static void short_waits_are_spent_awake(void)
{
    fresh();
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
    /* One that is longer does not end it. */
    CHECK_EQ(rounds_of(1, 5000, 150000), 1);
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
}

static void the_idle_sleep(void)
{
    fresh();
    rounds_of(100, 5000, 40000);
    CHECK(rounds_of(100, 5000, 500 * NS_PER_MS) <= 2);
    CHECK_EQ(rounds_of(100, 5000, 30 * NS_PER_MS), 0);
    /* And are awake again soon when there is something to do. */
    CHECK(rounds_of(20, 5000, 60000) > 0);
    CHECK_EQ(rounds_of(100, 5000, 60000), 100);
}

static void under_load_they_sleep(void)
{
    fresh();
    rounds_of(100, 5000, 40000);
    rounds_of(20, 60000, 20000);
    CHECK_EQ(rounds_of(100, 60000, 20000), 0);
    rounds_of(20, 5000, 40000);
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
}

static void whoever_computes_is_left_alone(void)
{
    fresh();
    rounds_of(100, 5000, 40000);
    /* Those that work together give it back soon. */
    spin_yielded(&spin, now_ns, now_ns + 60000);
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
    uint64_t before_ns = now_ns, lost_ns = 4 * NS_PER_MS;
    now_ns += lost_ns;
    spin_yielded(&spin, before_ns, now_ns);
    spin.since_ns = now_ns;
    uint64_t end_ns = now_ns + 99 * lost_ns;
    int awake = 0;
    while (now_ns < end_ns)
        awake += round_of(5000, 40000);
    CHECK_EQ(awake, 0);
    rounds_of(2 * 4 * NS_PER_MS / 45000, 5000, 40000);
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
}

int main(void)
{
    TEST(short_waits_are_spent_awake);
    TEST(the_idle_sleep);
    TEST(under_load_they_sleep);
    TEST(whoever_computes_is_left_alone);
    return tap_done();
}
