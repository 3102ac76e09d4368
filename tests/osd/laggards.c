/* SPDX-License-Identifier: Apache-2.0
 *
 * Two members of a PG of five lag, each by another number of entries, and what they lack is read back from a
 * device that is slow to read: there is one such read at a time for a PG, and what it brought for the one is
 * not dropped for the other again and again. With the real store on simulated disks.
 */
#include "base/error.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

void fake_store_forget_all(void)
{
}

static uint8_t data[IO_SIZE_MAX];

static void two_lag(uint64_t seed, uint32_t bytes, uint32_t writes, uint64_t read_slow_ns, uint64_t slow_ns)
{
    const struct sim_disk_faults slow_reads = {.read_slow_ppm = 1000000, .read_slow_ns = read_slow_ns};
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = slow_ns};
    struct world *w = world_new(seed, 1);
    uint64_t pg = world_pg(w, 0);

    world_restart(w, 1u << 20);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, pg);
    for (uint32_t lags = 1; lags <= 2; lags++) {
        world_osd_kill(w, (leader + lags) % OSDS, SIM_CRASH_PROCESS);
        for (uint32_t i = 0; i < writes; i++)
            CHECK_EQ(world_write(w, 0, i % 2 * bytes, bytes, data), 0);
    }
    sim_disk_set_faults(w->osds[leader].disk, &slow_reads);
    const struct perf *perf = &w->osds[leader].shard->perf;
    uint64_t reads = perf->log_reads, begun_ns = w->sim->now_ns;
    for (uint32_t lags = 1; lags <= 2; lags++) {
        uint32_t osd = (leader + lags) % OSDS;
        if (slow_ns)
            sim_disk_set_faults(w->osds[osd].disk, &slow);
        world_osd_start(w, osd);
    }
    uint64_t last = world_replica(w, leader, pg)->last_index;
    for (uint32_t lags = 1; lags <= 2; lags++) {
        uint32_t osd = (leader + lags) % OSDS;
        WAIT_FOR(w, 10000, world_replica(w, osd, pg) && world_replica(w, osd, pg)->last_index >= last);
    }
    printf("# %d ms, %d reads\n", (int)((w->sim->now_ns - begun_ns) / NS_PER_MS),
           (int)(perf->log_reads - reads));
    CHECK_EQ(world_leader(w, pg), leader);
    CHECK(perf->log_reads > reads);
    world_free(w);
}

static void test_two_lag(void)
{
    two_lag(1, IO_SIZE_MAX, 8, 50 * NS_PER_MS, 0);
}

/* And it takes them their time to acknowledge. */
static void test_two_lag_and_are_slow(void)
{
    two_lag(1, 64 << 10, 64, 5 * NS_PER_MS, 10 * NS_PER_MS);
}

int main(void)
{
    TEST(test_two_lag);
    TEST(test_two_lag_and_are_slow);
    return tap_done();
}
