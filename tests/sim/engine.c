/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine: order of events, clocks, pause, crash at any point without a leak, and the same seed giving the
 * same trace.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"
#include "tests/tap.h"

/* A node that ticks: an op with a timer, which allocates at each tick and keeps it. */
struct ticker {
    struct op op;
    struct timer timer;
    uint64_t ticks;
    uint64_t last_ns;
    char *kept[64];
};

static struct ticker *current;

static void ticker_step(struct op *op)
{
    struct ticker *t = container_of(op, struct ticker, op);

    if (t->timer.fired || t->ticks == 0) {
        t->timer.fired = false;
        uint64_t random = core_random_u64(op->core);
        core_log(op->core, LOG_INFO, "ticker", "tick %llu, random %llu", (unsigned long long)t->ticks,
                 (unsigned long long)random);
        char *grown = realloc(t->kept[t->ticks % 64], 100 + random % 1000);
        strcpy(grown, "kept");
        t->kept[t->ticks % 64] = grown;
        t->ticks++;
        t->last_ns = core_now_ns(op->core);
        timer_arm(op->core, &t->timer, op, t->last_ns + NS_PER_MS + random % NS_PER_MS);
    }
}

static const struct op_kind TICKER = {"test.ticker", NULL, ticker_step};

static void ticker_start(void *owner, struct sim_node *node)
{
    struct ticker *t = calloc(1, sizeof(*t));

    current = t;
    free(strdup("thrown away"));
    op_start(&t->op, &node->core, &TICKER, NULL);
}

static struct sim_node *ticker_node(struct sim *sim, const char *name, int32_t drift_ppb)
{
    struct sim_node_config config = {.name = name,
                                     .host = "10.0.0.1",
                                     .arena_bytes = BUF_SIZE_MAX,
                                     .drift_ppb = drift_ppb,
                                     .wake_max_ns = 20 * NS_PER_US,
                                     .start = ticker_start};
    return sim_node_new(sim, &config);
}

static uint64_t run_tickers(uint64_t seed)
{
    struct sim *sim = sim_new(seed, false);
    struct sim_node *nodes[3];

    for (int i = 0; i < 3; i++)
        nodes[i] = ticker_node(sim, i == 0 ? "a" : i == 1 ? "b" : "c", i * 1000000);
    for (int i = 0; i < 3; i++)
        sim_node_start(nodes[i]);
    struct sim_rng rng = sim_rng_make(seed, "test", 0);
    for (int i = 0; i < 50; i++) {
        sim_run_for(sim, 20 * NS_PER_MS);
        struct sim_node *node = nodes[sim_rng_below(&rng, 3)];
        sim_node_crash(node, sim_rng_below(&rng, 2) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
        CHECK(node->heap.block_count == 0);
        sim_run_for(sim, NS_PER_MS);
        sim_node_start(node);
    }
    uint64_t hash = sim->trace_hash;
    CHECK(sim->polls > 1000);
    sim_free(sim);
    return hash;
}

static void same_seed_same_trace(void)
{
    uint64_t first = run_tickers(1);

    CHECK(run_tickers(1) == first);
    CHECK(run_tickers(2) != first);
}

static void clocks_drift(void)
{
    struct sim *sim = sim_new(1, false);
    struct sim_node *fast = ticker_node(sim, "fast", 100000000); /* 10% */
    uint64_t before = sim_node_now_ns(fast), at = sim->now_ns;

    sim_node_start(fast);
    sim_run_for(sim, NS_PER_S);
    CHECK_EQ(sim->now_ns - at, NS_PER_S);
    CHECK_EQ(sim_node_now_ns(fast) - before, NS_PER_S + NS_PER_S / 10);
    /* Ticks are 1.5 ms of its own time apart. */
    CHECK(current->ticks > 650 && current->ticks < 810);
    sim_free(sim);
}

static void paused_node_rests(void)
{
    struct sim *sim = sim_new(3, false);
    struct sim_node *node = ticker_node(sim, "a", 0);

    sim_node_start(node);
    sim_run_for(sim, 100 * NS_PER_MS);
    uint64_t ticks = current->ticks;
    sim_node_pause(node);
    sim_run_for(sim, 100 * NS_PER_MS);
    CHECK_EQ(current->ticks, ticks);
    sim_node_resume(node);
    sim_run_for(sim, 10 * NS_PER_MS);
    CHECK(current->ticks > ticks);
    CHECK(current->ticks < ticks + 12);
    sim_free(sim);
}

static int order[3], order_count;

static void note_0(void *owner)
{
    order[order_count++] = 0;
}

static void note_1(void *owner)
{
    order[order_count++] = 1;
}

static void note_2(void *owner)
{
    order[order_count++] = 2;
}

static void events_in_order(void)
{
    struct sim *sim = sim_new(1, false);

    sim_after(sim, 10, note_1, NULL);
    sim_after(sim, 10, note_2, NULL);
    sim_after(sim, 5, note_0, NULL);
    sim_after(sim, 50, note_0, NULL); /* dropped by the end */
    sim_run_until(sim, 20);
    CHECK_EQ(order_count, 3);
    CHECK(order[0] == 0 && order[1] == 1 && order[2] == 2);
    CHECK_EQ(sim->now_ns, 20);
    sim_free(sim);
}

static void streams_are_independent(void)
{
    struct sim_rng a = sim_rng_make(1, "one", 0), b = sim_rng_make(1, "two", 0),
                   c = sim_rng_make(1, "one", 1);
    uint64_t first = sim_rng_u64(&a);

    CHECK(first != sim_rng_u64(&b));
    CHECK(first != sim_rng_u64(&c));
    struct sim_rng again = sim_rng_make(1, "one", 0);
    CHECK(first == sim_rng_u64(&again));
}

static void faults_are_chosen_by_seed(void)
{
    uint32_t seen = 0, quiet = 0;

    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct sim *sim = sim_new(seed, false);
        sim_choose_faults(sim, SIM_FAULTS_ALL & ~SIM_FAULT_BIT(MEMBER));
        seen |= sim->faults;
        quiet += sim->faults == 0;
        for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++)
            CHECK(!!sim_fault_intensity(sim, i) == ((sim->faults >> i) & 1));
        sim_free(sim);
    }
    CHECK(seen == (SIM_FAULTS_ALL & ~SIM_FAULT_BIT(MEMBER)));
    CHECK(quiet > 0 && quiet < 50);
}

static void leaker_start(void *owner, struct sim_node *node)
{
    char **kept = owner;

    *kept = malloc(10);
}

static void halt_sees_leaks(void)
{
    struct sim *sim = sim_new(1, false);
    char *kept;
    struct sim_node_config config = {.name = "leaker", .host = "h", .start = leaker_start, .owner = &kept};
    struct sim_node *node = sim_node_new(sim, &config);

    sim_node_start(node);
    sim_node_halt(node);
    CHECK(sim->failed);
    sim->failed = false;
    sim_node_start(node);
    sim_node_enter(node);
    free(kept);
    sim_node_leave(node);
    sim_node_halt(node);
    CHECK(!sim->failed);
    sim_free(sim);
}

int main(void)
{
    TEST(same_seed_same_trace);
    TEST(clocks_drift);
    TEST(paused_node_rests);
    TEST(events_in_order);
    TEST(streams_are_independent);
    TEST(faults_are_chosen_by_seed);
    TEST(halt_sees_leaks);
    return tap_done();
}
