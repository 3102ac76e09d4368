/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that hangs under a process that lives: its shard hands over what it leads, and takes part again
 * when the device does. With the real store on a simulated disk.
 */
#include <string.h>

#include "base/error.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

void fake_store_forget_all(void)
{
}

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];

static void test_device_hangs(void)
{
    struct world *w = world_new(51, 4);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    for (uint32_t round = 0; round < 3; round++) {
        memset(data, 1 + (int)round, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        leader = world_leader(w, world_pg(w, 0));
        sim_disk_hang(w->osds[leader].disk, true);
        uint64_t hung_ns = w->sim->now_ns;
        memset(data, 101 + (int)round, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        printf("# a leader whose device hangs: %d ms\n", (int)((w->sim->now_ns - hung_ns) / NS_PER_MS));
        CHECK(w->sim->now_ns - hung_ns < 2 * NS_PER_S);
        CHECK(world_leader(w, world_pg(w, 0)) != leader);
        CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
        CHECK(got[7] == 101 + round);
        sim_run_for(w->sim, 2 * NS_PER_S);
        CHECK(world_leader(w, world_pg(w, 0)) != leader);
        sim_disk_hang(w->osds[leader].disk, false);
        WAIT_FOR(w, 10000, world_settled(w));
        CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
        CHECK(got[7] == 101 + round);
    }
    world_free(w);
}

/* A follower's device hangs: nobody notices, and it is not made the leader, though its process is in contact.
 */
static void test_follower_device_hangs(void)
{
    struct world *w = world_new(52, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, world_pg(w, 0)), follower = (leader + 1) % OSDS;
    sim_disk_hang(w->osds[follower].disk, true);
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t begun_ns = w->sim->now_ns;
        CHECK_EQ(world_write(w, 0, i * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        CHECK(w->sim->now_ns - begun_ns < 20 * NS_PER_MS);
        sim_run_for(w->sim, 100 * NS_PER_MS);
        if (i >= 5)
            CHECK_EQ(world_transfer(w, world_pg(w, 0), follower), -ERR_RETRY);
    }
    CHECK_EQ(world_leader(w, world_pg(w, 0)), leader);
    sim_disk_hang(w->osds[follower].disk, false);
    WAIT_FOR(w, 10000, world_settled(w));
    CHECK_EQ(world_transfer(w, world_pg(w, 0), follower), 0);
    WAIT_FOR(w, 2000, world_leader(w, world_pg(w, 0)) == follower);
    world_free(w);
}

/* What waits to be committed, for as long as the followers' devices hang, is on the leader's: it does not
 * keep the memory of all groups, of which the store's cache alone is to have some. */
static void test_followers_devices_hang(void)
{
    enum { WRITES = 6 };
    static uint8_t large[IO_SIZE_MAX];
    struct world *w = world_new(57, 1);
    struct io ios[WRITES];

    world_restart(w, 1u << 20);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    const struct arena *arena = w->osds[leader].node->core.arena;
    size_t free_bytes = arena_free_bytes(arena);
    for (uint32_t i = 0; i < OSDS; i++)
        if (i != leader)
            sim_disk_hang(w->osds[i].disk, true);
    for (uint32_t i = 0; i < WRITES; i++) {
        ios[i] = io_make(w, IO_WRITE, 0, i % 2 * IO_SIZE_MAX, IO_SIZE_MAX);
        ios[i].data = large;
        io_begin(&ios[i]);
    }
    sim_run_for(w->sim, 500 * NS_PER_MS);
    printf("# %d KiB of %d are kept\n", (int)((free_bytes - arena_free_bytes(arena)) >> 10),
           (int)(WRITES * IO_SIZE_MAX >> 10));
    CHECK(free_bytes - arena_free_bytes(arena) <= 2u << 20);
    for (uint32_t i = 0; i < OSDS; i++)
        sim_disk_hang(w->osds[i].disk, false);
    for (uint32_t i = 0; i < WRITES; i++)
        WAIT_FOR(w, 10000, ios[i].done);
    WAIT_FOR(w, 10000, world_settled(w));
    world_free(w);
}

/* There are only reads: the leader hands over, too. */
static void test_device_hangs_for_reads(void)
{
    struct world *w = world_new(53, 1);

    w->cache_bytes = 1u << 20;
    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 5, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    /* Out of memory and onto the device. */
    for (uint32_t i = 0; i < OSDS; i++) {
        world_osd_kill(w, i, SIM_CRASH_PROCESS);
        world_osd_start(w, i);
        WAIT_FOR(w, 10000, world_settled(w));
    }
    uint32_t leader = world_leader(w, world_pg(w, 0));
    sim_disk_hang(w->osds[leader].disk, true);
    uint64_t hung_ns = w->sim->now_ns;
    struct io io = io_make(w, IO_READ, 0, 0, BLOCK_SIZE);
    io.ret_data = got;
    io_begin(&io);
    WAIT_FOR(w, 2000,
             world_leader(w, world_pg(w, 0)) != leader && world_leader(w, world_pg(w, 0)) != UINT32_MAX);
    printf("# handed over after %d ms\n", (int)((w->sim->now_ns - hung_ns) / NS_PER_MS));
    WAIT_FOR(w, 10000, io.done);
    CHECK_EQ(io.result, 0);
    CHECK_EQ(got[7], 5);
    sim_disk_hang(w->osds[leader].disk, false);
    WAIT_FOR(w, 10000, world_settled(w));
    world_free(w);
}

/* Writes one block after the other for `ms`. Returns the longest. */
static uint64_t writes_for(struct world *w, uint64_t ms)
{
    uint64_t until_ns = w->sim->now_ns + ms * NS_PER_MS, longest_ns = 0;

    while (w->sim->now_ns < until_ns) {
        uint64_t begun_ns = w->sim->now_ns;
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        longest_ns = MAX(longest_ns, w->sim->now_ns - begun_ns);
    }
    return longest_ns;
}

/* One disk becomes a hundred times slower. As a follower's nobody notices; a leader hands over, and does not
 * get it back before it is quick again. */
static void test_device_slow(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 12 * NS_PER_MS};
    struct world *w = world_new(54, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    writes_for(w, 1000);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    sim_disk_set_faults(w->osds[leader].disk, &slow);
    uint64_t slow_ns = w->sim->now_ns;
    while (world_leader(w, world_pg(w, 0)) == leader && w->sim->now_ns - slow_ns < 4 * NS_PER_S)
        writes_for(w, 10);
    printf("# handed over after %d ms\n", (int)((w->sim->now_ns - slow_ns) / NS_PER_MS));
    CHECK(w->sim->now_ns - slow_ns < 3 * NS_PER_S);
    writes_for(w, 500);
    CHECK(world_leader(w, world_pg(w, 0)) != leader);
    CHECK_EQ(w->osds[leader].shard->perf.slow_handovers, 1);
    uint64_t longest_ns = writes_for(w, 3000);
    printf("# longest write beside a slow follower: %d us\n", (int)(longest_ns / NS_PER_US));
    CHECK(longest_ns < 10 * NS_PER_MS);
    CHECK_EQ(world_transfer(w, world_pg(w, 0), leader), -ERR_RETRY);
    sim_disk_set_faults(w->osds[leader].disk, &(struct sim_disk_faults){0});
    writes_for(w, 1000);
    CHECK_EQ(world_transfer(w, world_pg(w, 0), leader), 0);
    WAIT_FOR(w, 2000, world_leader(w, world_pg(w, 0)) == leader);
    writes_for(w, 3000);
    CHECK_EQ(world_leader(w, world_pg(w, 0)), leader);
    world_free(w);
}

/* With two of three as slow nothing is won: who leads stays. */
static void test_two_devices_slow(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 12 * NS_PER_MS};
    struct world *w = world_new(56, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    writes_for(w, 1000);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    sim_disk_set_faults(w->osds[leader].disk, &slow);
    sim_disk_set_faults(w->osds[(leader + 1) % OSDS].disk, &slow);
    writes_for(w, 3000);
    CHECK_EQ(world_leader(w, world_pg(w, 0)), leader);
    CHECK_EQ(w->osds[leader].shard->perf.slow_handovers, 0);
    world_free(w);
}

/* A write that is alone goes to one of the members late, and most of these are not measured. */
static void test_device_slow_seldom(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 12 * NS_PER_MS};
    struct world *w = world_new(57, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    writes_for(w, 1000);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    sim_disk_set_faults(w->osds[leader].disk, &slow);
    for (uint32_t i = 0; i < 120; i++) {
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        sim_run_for(w->sim, 50 * NS_PER_MS);
    }
    CHECK(world_leader(w, world_pg(w, 0)) != leader);
    CHECK_EQ(w->osds[leader].shard->perf.slow_handovers, 1);
    world_free(w);
}

/* Other groups' writes show a leader that its device is slow. One of its members has become slow, too, which
 * the mean does not show: it has seen little of that, in another group, or nothing. */
static void two_devices_slow_beside(uint64_t seed, bool seen)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 12 * NS_PER_MS};
    struct world *w = world_new(seed, 3);
    uint64_t silent = placement_pg_id(POOL, 0), beside = placement_pg_id(POOL, 1),
             busy = placement_pg_id(POOL, 2);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    world_lead(w, silent, 0);
    world_lead(w, beside, 0);
    world_lead(w, busy, 2);
    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQ(world_write(w, world_object_in(w, silent), 0, BLOCK_SIZE, data), 0);
    sim_disk_set_faults(w->osds[0].disk, &slow);
    sim_disk_set_faults(w->osds[1].disk, &slow);
    for (uint32_t i = 0; i < 1000; i++) {
        CHECK_EQ(world_write(w, world_object_in(w, busy), 0, BLOCK_SIZE, data), 0);
        if (seen && i % 8 == 0)
            CHECK_EQ(world_write(w, world_object_in(w, beside), 0, BLOCK_SIZE, data), 0);
        if (i % 100 == 0)
            world_feed_map(w); /* the silent group takes a step */
    }
    CHECK(w->osds[0].shard->pace.mean_ns > 10 * NS_PER_MS);
    CHECK_EQ(w->osds[0].shard->perf.slow_handovers, 0);
    CHECK_EQ(world_leader(w, silent), 0);
    world_free(w);
}

static void test_two_devices_slow_seen(void)
{
    two_devices_slow_beside(58, true);
}

static void test_two_devices_slow_unseen(void)
{
    two_devices_slow_beside(59, false);
}

/* The leader's device is the last that has an entry: the other member's word came while it was not there, so
 * nobody else tells the leader that it is committed. */
static void test_leader_device_is_last(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 2 * NS_PER_MS};
    struct world *w = world_new(55, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    sim_node_pause(w->osds[(leader + 1) % OSDS].node);
    sim_disk_set_faults(w->osds[leader].disk, &slow);
    writes_for(w, 100);
    uint64_t longest_ns = writes_for(w, 300);
    printf("# longest write: %d us\n", (int)(longest_ns / NS_PER_US));
    CHECK(longest_ns < 10 * NS_PER_MS);
    CHECK_EQ(world_leader(w, world_pg(w, 0)), leader);
    sim_node_resume(w->osds[(leader + 1) % OSDS].node);
    WAIT_FOR(w, 10000, world_settled(w));
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_followers_devices_hang);
    TEST(test_device_hangs_for_reads);
    TEST(test_device_slow);
    TEST(test_two_devices_slow);
    TEST(test_device_slow_seldom);
    TEST(test_two_devices_slow_seen);
    TEST(test_two_devices_slow_unseen);
    TEST(test_leader_device_is_last);
    TEST(test_device_hangs);
    TEST(test_follower_device_hangs);
    return tap_done();
}
