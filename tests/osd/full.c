/* SPDX-License-Identifier: Apache-2.0
 *
 * Members whose devices have less room than others: entries that they cannot take hold nobody up for ever.
 * With the real store.
 */
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/real_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

void fake_store_forget_all(void)
{
}

enum { WRITES = 300, OBJECTS_WRITTEN = DIV_UP(WRITES, CHUNKS_PER_OBJECT) };
static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];
static struct io writes[WRITES];
static uint32_t taken[OSDS];

static struct store *store_of_osd(struct world *w, uint32_t osd)
{
    return osd_shard_store(w->osds[osd].shard);
}

static void take_space(struct world *w, uint32_t osd, uint64_t left_bytes)
{
    taken[osd] = real_store_take(store_of_osd(w, osd), left_bytes);
}

static void end(struct world *w)
{
    for (uint32_t i = 0; i < OSDS; i++) {
        real_store_give_back(store_of_osd(w, i), taken[i]);
        taken[i] = 0;
    }
    world_free(w);
}

/* A block in each of many chunks, all at once: the leader has proposed them before it hears how much the
 * members have left. */
static void write_begin(struct world *w)
{
    for (uint32_t i = 0; i < WRITES; i++) {
        writes[i] =
            io_make(w, IO_WRITE, i / CHUNKS_PER_OBJECT, i % CHUNKS_PER_OBJECT * CHUNK_SIZE, BLOCK_SIZE);
        writes[i].data = data;
        writes[i].once = true;
        io_begin(&writes[i]);
    }
}

static void write_end(struct world *w)
{
    uint32_t results[3] = {0};

    for (uint32_t i = 0; i < WRITES; i++) {
        WAIT_FOR(w, 20000, writes[i].done);
        results[!writes[i].result ? 0 : writes[i].result == -ERR_NO_SPACE ? 1 : 2]++;
    }
    printf("# written %u, no space %u, other %u\n", results[0], results[1], results[2]);
}

static void write_many(struct world *w)
{
    write_begin(w);
    write_end(w);
}

/* So many of the members are full. Reads go on, discards are carried out and make room again, everywhere. */
static void run_full(uint64_t seed, uint32_t full_count)
{
    struct world *w = world_new(seed, 1);
    uint32_t leader = world_leader(w, world_pg(w, 0));

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 7, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    for (uint32_t i = 1; i <= full_count; i++)
        take_space(w, (leader + i) % OSDS, PG_SPACE_MARGIN + (4u << 20));
    write_many(w);
    CHECK_EQ(world_read(w, 0, 9, 1, got), 0);
    CHECK_EQ(got[0], 7);
    for (uint32_t i = 0; i < OBJECTS_WRITTEN; i++) {
        struct io discard = io_make(w, IO_CLEAR, i, 0, OBJECT_SIZE);
        CHECK_EQ(io_run(&discard), 0);
    }
    WAIT_FOR(w, 30000, world_settled(w));
    (void)world_write(w, 0, 0, BLOCK_SIZE, data); /* the leader asks how much there is by now */
    sim_run_for(w->sim, 100 * NS_PER_MS);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    end(w);
}

static void test_one_full(void)
{
    run_full(61, 1);
}

static const char *recovery_state(struct world *w, uint32_t osd)
{
    struct pg *pg = pg_find(w->osds[osd].shard, world_pg(w, 0));
    const struct op *op = pg ? (const struct op *)pg->recover : NULL; /* its first member */

    return op ? op->kind->state_name(op->state) : "none";
}

/* One that has recovered from damage, and is yet to get the log up to where it counts again, has no room for
 * that.
 */
static void test_full_on_the_way_back(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 12 * NS_PER_MS};
    struct world *w = world_new(67, 1);
    uint32_t osd = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 7, BLOCK_SIZE);
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    CHECK_EQ(world_write(w, 0, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    world_osd_start(w, osd);
    WAIT_FOR(w, 5000, world_settled(w));
    CHECK_EQ(world_write(w, OBJECTS_WRITTEN, 0, BLOCK_SIZE, data), 0);
    sim_disk_set_faults(w->osds[osd].disk, &slow);
    world_replica(w, osd, world_pg(w, 0))->damaged = true;
    CHECK_EQ(world_write(w, OBJECTS_WRITTEN, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, !strcmp(recovery_state(w, osd), "copy"));
    take_space(w, osd, PG_SPACE_MARGIN + (4u << 20));
    write_many(w);
    sim_disk_set_faults(w->osds[osd].disk, &(struct sim_disk_faults){0});
    WAIT_FOR(w, 5000, !strcmp(recovery_state(w, osd), "catch-up"));
    sim_run_for(w->sim, NS_PER_S);
    CHECK(!strcmp(recovery_state(w, osd), "catch-up"));
    for (uint32_t i = 0; i < OBJECTS_WRITTEN; i++) {
        struct io discard = io_make(w, IO_CLEAR, i, 0, OBJECT_SIZE);
        CHECK_EQ(io_run(&discard), 0);
    }
    WAIT_FOR(w, 30000, world_settled(w));
    end(w);
}

static void test_two_full(void)
{
    run_full(62, 2);
}

/* Both of the others are full, and one of them has taken less than the other, so less than is committed: it
 * recovers, without room for that, and says nothing of entries any more. When that begins the other one has
 * just been silent, so their leader begins to count anew. What it cannot commit is given up all the same, and
 * the removal of the image gets everywhere. */
static void test_unequally_full(void)
{
    struct world *w = world_new(68, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t leader = world_leader(w, pg), full = (leader + 1) % OSDS, fuller = (leader + 2) % OSDS;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    take_space(w, full, PG_SPACE_MARGIN + (4u << 20));
    take_space(w, fuller, PG_SPACE_MARGIN + (2u << 20));
    write_begin(w);
    sim_run_for(w->sim, 900 * NS_PER_MS);
    sim_node_pause(w->osds[full].node);
    sim_run_for(w->sim, 900 * NS_PER_MS);
    sim_node_resume(w->osds[full].node);
    CHECK(pg_find(w->osds[fuller].shard, pg)->recover);
    CHECK_EQ(world_leader(w, pg), leader);
    write_end(w);
    world_order(w, IMAGE, 0, true);
    WAIT_FOR(w, 10000, world_settled(w));
    for (uint32_t i = 0; i < OSDS; i++)
        CHECK_EQ(world_replica(w, i, pg)->object_count, 0);
    end(w);
}

/* The same, but the log of the one that has taken less is found damaged: it abstains. Those that are full
 * elect nobody without it, so their leader stays, and serves reads. */
static void test_full_beside_damage(void)
{
    struct world *w = world_new(70, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t leader = world_leader(w, pg), full = (leader + 1) % OSDS, fuller = (leader + 2) % OSDS;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 7, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    take_space(w, full, PG_SPACE_MARGIN + (4u << 20));
    take_space(w, fuller, PG_SPACE_MARGIN + (2u << 20));
    write_begin(w);
    sim_run_for(w->sim, 500 * NS_PER_MS);
    const struct raft *r = &pg_find(w->osds[leader].shard, pg)->raft;
    uint64_t term = r->term;
    CHECK(r->commit_index < r->last_index);
    CHECK(world_replica(w, fuller, pg)->last_index < r->commit_index);
    world_replica(w, fuller, pg)->damaged = true;
    write_end(w);
    for (int second = 0; second < 15; second++) {
        sim_run_for(w->sim, NS_PER_S);
        CHECK_EQ(r->term, term);
    }
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    CHECK_EQ(got[0], 7);
    for (uint32_t i = 1; i < OSDS; i++) {
        real_store_give_back(store_of_osd(w, (leader + i) % OSDS), taken[(leader + i) % OSDS]);
        taken[(leader + i) % OSDS] = 0;
    }
    WAIT_FOR(w, 30000, world_settled(w));
    end(w);
}

/* A majority of five, which the member that lacks nothing does not belong to. */
static void test_three_full(void)
{
    run_full(65, 3);
}

/* How much a member has left its leader knows from whichever group told it last. */
static void test_other_group_tells(void)
{
    struct world *w = world_new(63, 2);
    uint64_t busy = world_object_in(w, placement_pg_id(POOL, 0)),
             idle = world_object_in(w, placement_pg_id(POOL, 1));

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, world_pg(w, busy));
    world_lead(w, world_pg(w, idle), leader);
    CHECK_EQ(world_write(w, idle, 0, BLOCK_SIZE, data), 0);
    take_space(w, (leader + 1) % OSDS, PG_SPACE_MARGIN / 2);
    CHECK_EQ(world_write(w, busy, 0, BLOCK_SIZE, data), 0);
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK_EQ(world_write(w, idle, BLOCK_SIZE, BLOCK_SIZE, data), -ERR_NO_SPACE);
    end(w);
}

/* The two that refuse are about to join one that was alone: without that one they elect nobody. */
static void test_joining(void)
{
    struct world *w = world_new(66, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    uint32_t leader = world_leader(w, pg);
    for (uint32_t i = 1; i < OSDS; i++)
        take_space(w, (leader + i) % OSDS, PG_SPACE_MARGIN + (4u << 20));
    struct raft *r = &pg_find(w->osds[leader].shard, pg)->raft;
    write_begin(w);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(r->commit_index < r->last_index);
    for (uint32_t i = 0; i < r->group.count; i++)
        if (r->group.members[i].replica == r->self)
            r->members[0].flags = r->group.members[i].flags |= GROUP_VOTER_OLD;
    r->joint = true;
    write_end(w);
    sim_run_for(w->sim, 15 * NS_PER_S);
    CHECK_EQ(world_leader(w, pg), leader);
    end(w);
}

static int attach_another(struct world *w, uint64_t image)
{
    struct io io = io_make(w, IO_ATTACH, 0, 0, 0);

    io.force_pg = world_pg(w, 0);
    io.image = image;
    return io_run(&io);
}

/* Both members have no place for one more image record, which the leader does not know: what it has proposed
 * is given up, and others go on. When they say it in time nothing is proposed. */
static void test_no_records(void)
{
    struct world *w = world_new(64, 1);
    uint32_t leader = world_leader(w, world_pg(w, 0)), was[OSDS] = {0};

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    for (uint32_t i = 1; i < OSDS; i++)
        was[i] = real_store_limit_records(store_of_osd(w, (leader + i) % OSDS), 0);
    CHECK_EQ(attach_another(w, 200), -ERR_NO_RECORDS);
    CHECK(world_leader(w, world_pg(w, 0)) != leader);
    CHECK_EQ(world_write(w, 0, BLOCK_SIZE, BLOCK_SIZE, data), 0);
    world_lead(w, world_pg(w, 0), leader);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    sim_run_for(w->sim, 50 * NS_PER_MS);
    uint64_t begun_ns = w->sim->now_ns;
    CHECK_EQ(attach_another(w, 200), -ERR_NO_RECORDS);
    CHECK(w->sim->now_ns - begun_ns < NS_PER_S);
    CHECK_EQ(world_attach(w, 1, 2), 0); /* has its record */
    for (uint32_t i = 1; i < OSDS; i++)
        real_store_set_records(store_of_osd(w, (leader + i) % OSDS), was[i]);
    (void)attach_another(w, 200); /* it asks */
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK_EQ(attach_another(w, 200), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    end(w);
}

/* The others have a page that is lost here, and there is no room to copy its object: that is no loss. */
static void test_no_room_for_a_repair(void)
{
    struct world *w = world_new(69, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t leader = world_leader(w, pg);
    struct io read = io_make(w, IO_READ, 0, 0, BLOCK_SIZE);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 7, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    struct store_pg *sp = world_replica(w, leader, pg);
    store_destage_soon(sp);
    WAIT_FOR(w, 5000, store_complete_index(sp) == sp->last_index);
    real_store_lose_page(sp, IMAGE, 0);
    take_space(w, leader, 0);
    read.ret_data = got;
    read.once = true;
    CHECK_EQ(io_run(&read), -ERR_RETRY);
    CHECK(list_empty(&pg_find(w->osds[leader].shard, pg)->damages));
    real_store_give_back(store_of_osd(w, leader), taken[leader]);
    taken[leader] = 0;
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    CHECK_EQ(got[0], 7);
    end(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    if (MEMBERS == 5) {
        TEST(test_three_full);
        return tap_done();
    }
    TEST(test_other_group_tells);
    TEST(test_no_records);
    TEST(test_one_full);
    TEST(test_full_on_the_way_back);
    TEST(test_two_full);
    TEST(test_unequally_full);
    TEST(test_full_beside_damage);
    TEST(test_joining);
    TEST(test_no_room_for_a_repair);
    return tap_done();
}
