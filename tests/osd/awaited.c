/* SPDX-License-Identifier: Apache-2.0
 *
 * A leader that was started anew, and had destaged less than the log has of the replica that recovers from
 * it. Nobody else is there, so that neither gets on without the other. With the real store on a simulated
 * disk.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/real_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

void fake_store_forget_all(void)
{
}

enum { OBJECTS = 8 };
static uint8_t data[512u << 10], got[BLOCK_SIZE];
static uint32_t recovering;

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

/* All of it is on its device, and at its next start that is behind a large write. */
static void log_of_leader_goes(struct world *w, uint32_t osd)
{
    WAIT_FOR(w, 5000, world_settled(w));
    destage(w, osd);
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    world_osd_start(w, osd);
    WAIT_FOR(w, 5000, world_settled(w));
    world_lead(w, world_pg(w, 0), osd);
}

/* One is away, while so many large writes come. The leader, which was started anew since, has no log any more
 * that would reach it. It is about to recover when the power fails. All are down then. */
static void run_to_the_power_cut(struct world *w, uint32_t writes, uint32_t *ret_first, uint32_t *ret_away,
                                 uint32_t *ret_second)
{
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < 5; i++)
        write_bytes(w, i, BLOCK_SIZE, (uint8_t)(1 + i));
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t first = world_leader(w, pg), away = (first + 1) % OSDS, second = (first + 2) % OSDS;
    world_osd_kill(w, away, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < writes; i++)
        write_bytes(w, 5, sizeof(data), 6);
    write_bytes(w, 6, BLOCK_SIZE, 7);
    log_of_leader_goes(w, first);
    world_osd_start(w, away);
    WAIT_FOR(w, 5000,
             world_replica(w, away, pg) && world_replica(w, away, pg)->record.state == STORE_PG_RECOVERING);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_POWER);
    *ret_first = first;
    *ret_away = away;
    *ret_second = second;
}

/* That leader does not come back. */
static void test_leader_has_destaged_less(void)
{
    struct world *w = world_new(61, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t first, away, second;

    run_to_the_power_cut(w, 1, &first, &away, &second);
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

static bool is_awaited(struct world *w, uint32_t osd)
{
    const struct pg *pg = w->osds[osd].shard ? pg_find(w->osds[osd].shard, world_pg(w, 0)) : NULL;

    return pg && recover_active(pg) && recover_takes_log(pg) && pg->sp->record.state == STORE_PG_RECOVERING;
}

/* Others of its shard copy, for as long as they like. */
static void test_all_turns_are_taken(void)
{
    struct world *w = world_new(63, 1);
    uint32_t first, away, second;

    run_to_the_power_cut(w, 1, &first, &away, &second);
    world_osd_start(w, away);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000, is_awaited(w, away));
    w->osds[away].shard->recoveries += 2;
    write_bytes(w, 0, BLOCK_SIZE, 11);
    WAIT_FOR(w, 5000, world_settled(w));
    w->osds[away].shard->recoveries -= 2;
    world_lead(w, world_pg(w, 0), away);
    CHECK_EQ(read_byte(w, 0), 11);
    for (uint32_t i = 1; i < 7; i++)
        CHECK_EQ(read_byte(w, i), (int)(1 + i));
    world_free(w);
}

/* And so do others that are awaited. What the leader adds meanwhile is not to fill the ring of all PGs. */
static void test_awaited_turns_are_taken(void)
{
    struct world *w = world_new(64, 1);
    uint32_t first, away, second;
    struct io ios[40];

    run_to_the_power_cut(w, 1, &first, &away, &second);
    world_osd_start(w, away);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000, is_awaited(w, away));
    w->osds[away].shard->recoveries += 3;
    write_bytes(w, 0, BLOCK_SIZE, 11); /* it is taken all the same */
    const struct store_pg *sp = world_replica(w, away, world_pg(w, 0));
    for (uint32_t i = 0; i < ARRAY_LEN(ios); i++) {
        ios[i] = io_make(w, IO_WRITE, 5, 0, sizeof(data));
        ios[i].data = data;
        io_begin(&ios[i]);
    }
    sim_run_for(w->sim, 2 * NS_PER_S);
    printf("# %d KiB of the ring of %d\n", (int)(sp->ring_bytes >> 10), (int)(w->ring_bytes >> 10));
    CHECK(is_awaited(w, away));
    CHECK(sp->ring_bytes <= w->ring_bytes / 4); /* its share */
    w->osds[away].shard->recoveries -= 3;
    for (uint32_t i = 0; i < ARRAY_LEN(ios); i++)
        WAIT_FOR(w, 20000, ios[i].done);
    WAIT_FOR(w, 5000, world_settled(w));
    world_lead(w, world_pg(w, 0), away);
    CHECK_EQ(read_byte(w, 0), 11);
    world_free(w);
}

/* What the leader needs to get on is more than the share of its PG. */
static void test_leader_has_much_more(void)
{
    struct world *w = world_new(65, 1);
    uint32_t first, away, second;

    w->cache_bytes = 32u << 20; /* so much is not destaged */
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_start(w, i);
    WAIT_FOR(w, 5000, world_settled(w));
    run_to_the_power_cut(w, 40, &first, &away, &second);
    world_osd_start(w, away);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000, is_awaited(w, away));
    printf("# %d KiB of the ring of %d\n", (int)(world_replica(w, second, world_pg(w, 0))->ring_bytes >> 10),
           (int)(w->ring_bytes >> 10));
    CHECK(world_replica(w, second, world_pg(w, 0))->ring_bytes > w->ring_bytes / 4);
    WAIT_FOR(w, 20000, world_settled(w));
    world_lead(w, world_pg(w, 0), away);
    for (uint32_t i = 0; i < 7; i++)
        CHECK_EQ(read_byte(w, i), (int)(1 + i));
    world_free(w);
}

static const Fb__PgStanding *standing(struct world *w, uint32_t osd)
{
    static Fb__PgStanding row;
    struct pg_standing *rows;
    Fb__PgStanding **pointers;

    sim_node_enter(w->osds[osd].node);
    CHECK_EQ(pg_standings(w->osds[osd].shard, &rows, &pointers), 1);
    row = *pointers[0];
    free(rows);
    free(pointers);
    sim_node_leave(w->osds[osd].node);
    return &row;
}

static bool has_state(struct world *w, uint32_t osd, uint64_t pg, enum store_pg_state state)
{
    return world_replica(w, osd, pg) && world_replica(w, osd, pg)->record.state == state;
}

/* That leader comes back when the other one goes, whose entry is with the one that is half copied by then: it
 * lacks that, so it is not elected, and the other one cannot lead. By what they say to the monitor it is the
 * one to go on with (mon/force.c), and when the third comes back all is well. */
static void test_newest_log_is_half_copied(void)
{
    struct world *w = world_new(62, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t first, away, second;

    run_to_the_power_cut(w, 1, &first, &away, &second);
    world_osd_start(w, away);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000,
             world_leader(w, pg) == second && raft_can_read(&pg_find(w->osds[second].shard, pg)->raft));
    CHECK(has_state(w, away, pg, STORE_PG_RECOVERING));
    world_osd_kill(w, second, SIM_CRASH_POWER);
    world_osd_start(w, first);
    WAIT_FOR(w, 5000, has_state(w, first, pg, STORE_PG_NORMAL));
    sim_run_for(w->sim, 10 * NS_PER_S);
    CHECK_EQ(world_leader(w, pg), UINT32_MAX);
    CHECK(has_state(w, away, pg, STORE_PG_RECOVERING));
    Fb__PgStanding whole = *standing(w, first), half = *standing(w, away);
    CHECK_EQ(whole.state, FB__PG_STANDING_STATE__STANDING_WHOLE);
    CHECK_EQ(half.state, FB__PG_STANDING_STATE__STANDING_HALF);
    CHECK(whole.voter && half.voter && whole.log_term < half.log_term);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000, world_settled(w));
    for (uint32_t i = 0; i < 7; i++)
        CHECK_EQ(read_byte(w, i), (int)(1 + i));
    world_free(w);
}

/* Somebody writes, an OSD destages, or is started anew: one of `count` from `first` on. */
static void any_step(struct world *w, struct sim_rng *rng, uint32_t first, uint32_t count, uint32_t *writes)
{
    uint32_t osd = (first + (uint32_t)sim_rng_below(rng, count)) % OSDS,
             what = (uint32_t)sim_rng_below(rng, 4);

    WAIT_FOR(w, 5000, world_settled(w));
    if (what == 0) {
        destage(w, osd);
    } else if (what == 1) {
        world_osd_kill(w, osd, SIM_CRASH_PROCESS);
        world_osd_start(w, osd);
    } else {
        uint32_t length = sim_rng_below(rng, 2) ? BLOCK_SIZE : sizeof(data);
        write_bytes(w, *writes % OBJECTS, length, (uint8_t)(1 + *writes));
        ++*writes;
    }
}

/* One is away, and has been back for a moment when the power fails: recovering, as a rule. It and either of
 * the others have all that is needed to go on. */
static void any_two(uint64_t seed)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 20 * NS_PER_MS};
    struct world *w = world_new(seed, 1);
    struct sim_rng rng = {seed};
    uint32_t away = (uint32_t)sim_rng_below(&rng, OSDS), writes = 0;
    uint32_t lead = (away + 1 + (uint32_t)sim_rng_below(&rng, 2)) % OSDS;
    uint32_t other = (away + 1 + (uint32_t)sim_rng_below(&rng, 2)) % OSDS;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < 6; i++)
        any_step(w, &rng, 0, OSDS, &writes);
    WAIT_FOR(w, 5000, world_settled(w));
    world_osd_kill(w, away, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < 6; i++)
        any_step(w, &rng, away + 1, OSDS - 1, &writes);
    write_bytes(w, OBJECTS, sizeof(data), 1);
    log_of_leader_goes(w, lead);
    sim_disk_set_faults(w->osds[away].disk, &slow);
    world_osd_start(w, away);
    WAIT_FOR(w, 5000, w->osds[away].shard);
    sim_run_for(w->sim, sim_rng_below(&rng, 600) * NS_PER_MS);
    sim_disk_set_faults(w->osds[away].disk, &(struct sim_disk_faults){0});
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_POWER);
    world_osd_start(w, away);
    world_osd_start(w, other);
    WAIT_FOR(w, 5000, world_replica(w, away, world_pg(w, 0)));
    recovering += world_replica(w, away, world_pg(w, 0))->record.state == STORE_PG_RECOVERING;
    WAIT_FOR(w, 5000, world_settled(w));
    for (uint32_t i = 0; i < MIN(writes, OBJECTS); i++)
        CHECK_EQ(read_byte(w, i), (int)(1 + i + (writes - 1 - i) / OBJECTS * OBJECTS));
    world_free(w);
}

static uint64_t object_index(const struct world *w, uint32_t osd, uint64_t object)
{
    const struct store_pg *sp = world_replica(w, osd, world_pg(w, 0));
    uint64_t index = 0, lost[BLOCKS_PER_OBJECT / 64];

    return sp && store_object_lost(sp, IMAGE, object, &index, lost) ? index : 0;
}

/* One recovers, and has an object, when the power fails; and then that is damaged. The other one that comes
 * back has destaged less. Of that object it has an older version, which is of no use: without it that one
 * would never get on. */
static void test_damaged_is_newer(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 20 * NS_PER_MS};
    struct world *w = world_new(63, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < OBJECTS; i++)
        write_bytes(w, i, BLOCK_SIZE, (uint8_t)(1 + i));
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t first = world_leader(w, pg), away = (first + 1) % OSDS, second = (first + 2) % OSDS;
    world_osd_kill(w, away, SIM_CRASH_PROCESS);
    write_bytes(w, 1, sizeof(data), 21);
    WAIT_FOR(w, 5000, world_settled(w));
    destage(w, second);
    for (uint32_t i = 0; i < OBJECTS; i++)
        write_bytes(w, i, BLOCK_SIZE, (uint8_t)(31 + i));
    log_of_leader_goes(w, first);
    uint64_t newest = object_index(w, first, 0);
    sim_disk_set_faults(w->osds[away].disk, &slow);
    world_osd_start(w, away);
    WAIT_FOR(w, 20000, object_index(w, away, 0) == newest);
    CHECK(world_replica(w, away, pg)->record.state == STORE_PG_RECOVERING);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_POWER);
    sim_disk_set_faults(w->osds[away].disk, &(struct sim_disk_faults){0});
    world_osd_start(w, away);
    WAIT_FOR(w, 5000, world_replica(w, away, pg));
    CHECK_EQ(object_index(w, away, 0), newest);
    CHECK(world_replica(w, away, pg)->record.state == STORE_PG_RECOVERING);
    sim_node_enter(w->osds[away].node);
    real_store_lose_page(world_replica(w, away, pg), IMAGE, 0);
    sim_node_leave(w->osds[away].node);
    world_osd_start(w, second);
    WAIT_FOR(w, 5000, world_replica(w, second, pg));
    CHECK(world_replica(w, second, pg)->applied_index < newest);
    CHECK(world_replica(w, second, pg)->applied_index >= world_replica(w, away, pg)->last_index);
    WAIT_FOR(w, 20000, world_settled(w));
    for (uint32_t who = 0; who < 2; who++) {
        world_lead(w, pg, who ? away : second);
        for (uint32_t i = 0; i < OBJECTS; i++)
            CHECK_EQ(read_byte(w, i), (int)(31 + i));
    }
    world_free(w);
}

static void test_any_two(void)
{
    for (uint64_t seed = 100; seed < 140; seed++)
        any_two(seed);
    printf("# %u of them were recovering\n", recovering);
    CHECK(recovering >= 10);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_leader_has_destaged_less);
    TEST(test_all_turns_are_taken);
    TEST(test_awaited_turns_are_taken);
    TEST(test_leader_has_much_more);
    TEST(test_newest_log_is_half_copied);
    TEST(test_damaged_is_newer);
    TEST(test_any_two);
    return tap_done();
}
