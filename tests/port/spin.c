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

/* The processor, yielded, came back only after so long. For how long were none awake then? */
static uint64_t asleep_after(uint64_t lost_ns)
{
    now_ns += lost_ns;
    spin_yielded(&spin, now_ns - lost_ns, now_ns);
    spin.since_ns = now_ns;
    uint64_t from_ns = now_ns;
    while (!round_of(5000, 40000))
        ;
    return now_ns - from_ns;
}

#define LOST_NS (4 * NS_PER_MS)
#define LATE_NS (5 * NS_PER_MS) /* until a round is awake again: the loss counts as a wait */

static void whoever_computes_is_left_alone(void)
{
    fresh();
    rounds_of(100, 5000, 40000);
    /* Those that work together give it back soon. */
    spin_yielded(&spin, now_ns, now_ns + 60000);
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
    for (uint64_t times = 10; times <= 80; times *= 2) {
        uint64_t asleep_ns = asleep_after(LOST_NS);
        CHECK(asleep_ns >= times * LOST_NS && asleep_ns <= times * LOST_NS + LATE_NS);
    }
    for (int i = 0; i < 3; i++) {
        uint64_t asleep_ns = asleep_after(LOST_NS);
        CHECK(asleep_ns >= 100 * LOST_NS && asleep_ns <= 100 * LOST_NS + LATE_NS);
    }
    CHECK_EQ(rounds_of(100, 5000, 40000), 100);
}

static void who_computed_once_is_soon_forgotten(void)
{
    fresh();
    rounds_of(100, 5000, 40000);
    for (int i = 0; i < 5; i++) {
        uint64_t asleep_ns = asleep_after(LOST_NS);
        CHECK(asleep_ns >= 10 * LOST_NS && asleep_ns <= 10 * LOST_NS + LATE_NS);
        CHECK_EQ(rounds_of(3000, 5000, 40000), 3000);
    }
}

/* Who may stay awake for longer than a time slice loses several within one wait. */
static void losses_within_one_wait_count_on(void)
{
    fresh();
    spin.limit_ns = NS_PER_MS;
    for (uint64_t times = 10; times <= 80; times *= 2) {
        spin_yielded(&spin, now_ns, now_ns + 600 * NS_PER_US);
        now_ns += 600 * NS_PER_US;
        CHECK_EQ(spin.not_before_ns - now_ns, times * 600 * NS_PER_US);
    }
}

int main(void)
{
    TEST(short_waits_are_spent_awake);
    TEST(the_idle_sleep);
    TEST(under_load_they_sleep);
    TEST(whoever_computes_is_left_alone);
    TEST(who_computed_once_is_soon_forgotten);
    TEST(losses_within_one_wait_count_on);
    return tap_done();
}
