/* SPDX-License-Identifier: Apache-2.0
 *
 * A leader that was started anew, and had destaged less than the log has of the replica that recovers from
 * it. Nobody else is there, so that neither gets on without the other. With the real store on a simulated
 * disk.
 */
#include <string.h>

#include "base/error.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

void fake_store_forget_all(void)
{
}

static uint8_t data[512u << 10], got[BLOCK_SIZE];

static void write_bytes(struct world *w, uint64_t object, uint32_t length, uint8_t byte)
{
    memset(data, byte, length);
    CHECK_EQ(world_write(w, object, 0, length, data), 0);
}

static int read_byte(struct world *w, uint64_t object)
{
    int error = world_read(w, object, 0, 1, got);

    return error ? error : got[17];
}

static bool is_destaged(struct world *w, uint32_t osd)
{
    const struct store_pg *sp = world_replica(w, osd, world_pg(w, 0));

    return store_complete_index(sp) == sp->last_index;
}

/* As when its PG is about to be split. */
static void destage(struct world *w, uint32_t osd)
{
    sim_node_enter(w->osds[osd].node);
    store_destage_soon(world_replica(w, osd, world_pg(w, 0)));
    sim_node_leave(w->osds[osd].node);
    WAIT_FOR(w, 5000, is_destaged(w, osd));
}

/* One is away. The leader, which was started anew since, has no log any more that would reach it. It is about
 * to recover when the power fails, and that leader does not come back. */
static void test_leader_has_destaged_less(void)
{
    struct world *w = world_new(61, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < 5; i++)
        write_bytes(w, i, BLOCK_SIZE, (uint8_t)(1 + i));
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t first = world_leader(w, pg), away = (first + 1) % OSDS, second = (first + 2) % OSDS;
    world_osd_kill(w, away, SIM_CRASH_PROCESS);
    write_bytes(w, 5, sizeof(data), 6);
    write_bytes(w, 6, BLOCK_SIZE, 7);
    WAIT_FOR(w, 5000, world_settled(w));
    destage(w, first);
    world_osd_kill(w, first, SIM_CRASH_PROCESS);
    world_osd_start(w, first);
    WAIT_FOR(w, 5000, world_settled(w));
    world_lead(w, pg, first);
    world_osd_start(w, away);
    WAIT_FOR(w, 5000,
             world_replica(w, away, pg) && world_replica(w, away, pg)->record.state == STORE_PG_RECOVERING);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_POWER);
    world_osd_start(w, away);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000, world_leader(w, pg) == second);
    printf("# %d is destaged, the log of who recovers goes to %d\n",
           (int)world_replica(w, second, pg)->applied_index, (int)world_replica(w, away, pg)->last_index);
    CHECK(world_replica(w, second, pg)->applied_index < world_replica(w, away, pg)->last_index);
    WAIT_FOR(w, 5000, world_settled(w));
    for (uint32_t who = 0; who < 2; who++) {
        world_lead(w, pg, who ? away : second);
        for (uint32_t i = 0; i < 7; i++)
            CHECK_EQ(read_byte(w, i), (int)(1 + i));
    }
    write_bytes(w, 0, BLOCK_SIZE, 11);
    world_osd_start(w, first);
    WAIT_FOR(w, 5000, world_settled(w));
    world_lead(w, pg, first);
    CHECK_EQ(read_byte(w, 0), 11);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_leader_has_destaged_less);
    return tap_done();
}
