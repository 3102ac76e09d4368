/* SPDX-License-Identifier: Apache-2.0
 *
 * A device that hangs under a process that lives: its shard hands over what it leads, and takes part again
 * when the device does. With the real store on a simulated disk.
 */
#include <string.h>

#include "base/error.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

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

/* Is the leader willing to hand over to that OSD? */
static int hand_over(struct world *w, uint32_t to)
{
    Fb__PgTransferRequest request = FB__PG_TRANSFER_REQUEST__INIT;
    uint64_t pg = world_pg(w, 0);
    uint32_t from = world_leader(w, pg);

    request.pg = pg;
    request.to_osd = to;
    sim_node_enter(w->osds[from].node);
    int error = pg_transfer(w->osds[from].shard, &request);
    sim_node_leave(w->osds[from].node);
    return error;
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
            CHECK_EQ(hand_over(w, follower), -ERR_RETRY);
    }
    CHECK_EQ(world_leader(w, world_pg(w, 0)), leader);
    sim_disk_hang(w->osds[follower].disk, false);
    WAIT_FOR(w, 10000, world_settled(w));
    CHECK_EQ(hand_over(w, follower), 0);
    WAIT_FOR(w, 2000, world_leader(w, world_pg(w, 0)) == follower);
    world_free(w);
}

int main(void)
{
    TEST(test_device_hangs);
    TEST(test_follower_device_hangs);
    return tap_done();
}
