/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that are lost on two replicas while the third, which may have them, is away: whether its blocks come
 * back or give way to the marks goes by what the indexes prove. Old bytes must never come back.
 */
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"

#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];

enum { LEADER, SECOND, HOLDER }; /* the holder is away when it happens */

static struct {
    struct world *w;
    uint64_t pg;
    uint32_t osd[OSDS];
} t;

static struct store *store_at(uint32_t who)
{
    return osd_shard_store(t.w->osds[t.osd[who]].shard);
}

static void write_block(uint64_t object, uint32_t block, uint8_t byte)
{
    memset(data, byte, BLOCK_SIZE);
    CHECK_EQ(world_write(t.w, object, block * BLOCK_SIZE, BLOCK_SIZE, data), 0);
}

/* So much that who is away has to recover by contents. */
static void pass_log(void)
{
    for (uint32_t i = 0; i < 2 * FAKE_LOG_KEEP; i++)
        write_block(0, i, 1);
    WAIT_FOR(t.w, 5000, world_settled(t.w));
}

static void leave(uint32_t who)
{
    WAIT_FOR(t.w, 5000, world_settled(t.w));
    world_osd_kill(t.w, t.osd[who], SIM_CRASH_PROCESS);
}

static void come_back(uint32_t who)
{
    world_osd_start(t.w, t.osd[who]);
    WAIT_FOR(t.w, 20000, world_settled(t.w));
}

/* Object 3 has blocks 9 to 11 of what byte 9 to 11 says, on all. */
static void begin(uint64_t seed)
{
    t.w = world_new(seed, 1);
    t.pg = world_pg(t.w, 0);
    CHECK_EQ(world_attach(t.w, 1, 1), 0);
    t.osd[LEADER] = world_leader(t.w, t.pg);
    t.osd[SECOND] = (t.osd[LEADER] + 1) % OSDS;
    t.osd[HOLDER] = (t.osd[LEADER] + 2) % OSDS;
    for (uint32_t block = 9; block < 12; block++)
        write_block(3, block, (uint8_t)block);
}

enum damage { LOST, PAGE, BLOCK };

/* The second, which was away while object 3 was written, recovers from the leader, which has lost some. The
 * holder is well until then, or (`at_once`) dies before it hears that its last entry is committed. */
static void second_takes_marks(enum damage damage, bool at_once)
{
    leave(SECOND);
    write_block(3, 10, 110);
    pass_log();
    if (at_once) {
        write_block(3, 12, 112);
        const struct store_pg *sp = pg_find(t.w->osds[t.osd[HOLDER]].shard, t.pg)->sp;
        CHECK(sp->applied_index < sp->last_index);
        world_osd_kill(t.w, t.osd[HOLDER], SIM_CRASH_PROCESS);
    } else {
        leave(HOLDER);
    }
    if (damage == LOST)
        fake_store_lose_block(store_at(LEADER), t.pg, IMAGE, 3, 9);
    else
        fake_store_damage_block(store_at(LEADER), t.pg, IMAGE, 3, 9, damage == PAGE);
    come_back(SECOND);
    CHECK(t.w->osds[t.osd[SECOND]].shard->perf.recovered_objects > 0);
    CHECK_EQ(world_read(t.w, 3, 9, 1, got), -ERR_DAMAGED);
}

static int read_byte(uint32_t block)
{
    int error = world_read(t.w, 3, block, 1, got);

    return error ? error : got[0] == got[BLOCK_SIZE - 1] ? got[0] : -1000;
}

static void lead(uint32_t who)
{
    world_lead(t.w, t.pg, t.osd[who]);
}

/* Under each leader. */
static void check_block(uint32_t block, int expected)
{
    for (uint32_t who = 0; who < OSDS; who++) {
        lead(who);
        WAIT_FOR(t.w, 5000, world_settled(t.w));
        CHECK_EQ(read_byte(block), expected);
    }
}

/* Other blocks of the object are written meanwhile, under one or the other, and the holder has to recover,
 * too: it keeps what it has, and the others get it. */
static void holder_comes_back(uint64_t seed, enum damage damage, uint32_t leader, bool at_once)
{
    begin(seed);
    second_takes_marks(damage, at_once);
    lead(leader);
    write_block(3, 11, 111);
    pass_log();
    come_back(HOLDER);
    CHECK(t.w->osds[t.osd[HOLDER]].shard->perf.recovered_objects > 0);
    check_block(9, 9);
    check_block(10, 110);
    check_block(11, 111);
    check_block(12, at_once ? 112 : 0);
    check_block(13, 0);
    world_free(t.w);
}

static void test_whole_block_stays(void)
{
    holder_comes_back(71, LOST, LEADER, false);
    holder_comes_back(72, LOST, SECOND, false);
}

/* Of what was never written it is known again that it is empty. */
static void test_whole_page_stays(void)
{
    holder_comes_back(77, PAGE, SECOND, false);
}

/* The leader knows the checksum still. */
static void test_whole_block_repairs(void)
{
    holder_comes_back(78, BLOCK, LEADER, false);
    holder_comes_back(79, BLOCK, SECOND, false);
}

/* What it had not applied is in its log, and is known to be committed by the terms of the others' logs. */
static void test_log_counts(void)
{
    holder_comes_back(80, LOST, LEADER, true);
    holder_comes_back(81, PAGE, SECOND, true);
    holder_comes_back(82, BLOCK, LEADER, true);
}

/* But not what the holder alone has, and nobody ever acknowledged. */
static void test_log_that_is_not_committed(void)
{
    begin(83);
    lead(HOLDER);
    WAIT_FOR(t.w, 5000, world_settled(t.w));
    world_osd_kill(t.w, t.osd[LEADER], SIM_CRASH_PROCESS);
    world_osd_kill(t.w, t.osd[SECOND], SIM_CRASH_PROCESS);
    struct io io = io_make(t.w, IO_WRITE, 3, 9 * BLOCK_SIZE, BLOCK_SIZE);
    memset(data, 99, BLOCK_SIZE);
    io.data = data;
    const struct pg *pg = pg_find(t.w->osds[t.osd[HOLDER]].shard, t.pg);
    io.force_term = pg->raft.term; /* not sent again in another */
    io_begin(&io);
    sim_run_for(t.w->sim, 20 * NS_PER_MS);
    CHECK(pg->sp->durable_index > pg->sp->applied_index);
    world_osd_kill(t.w, t.osd[HOLDER], SIM_CRASH_PROCESS);
    world_osd_start(t.w, t.osd[LEADER]);
    come_back(SECOND);
    for (uint32_t who = 0; who < HOLDER; who++)
        fake_store_lose_block(store_at(who), t.pg, IMAGE, 3, 9);
    write_block(3, 11, 111);
    pass_log();
    come_back(HOLDER);
    CHECK(t.w->osds[t.osd[HOLDER]].shard->perf.recovered_objects > 0);
    check_block(9, 9);
    check_block(11, 111);
    io.force_term = 0;
    WAIT_FOR(t.w, 30000, io.done);
    world_free(t.w);
}

/* What was written while the holder was away, and lost afterwards, is lost: it must not come back as it was.
 * Only the marks, no checksum, can tell. */
static void overwritten(uint64_t seed, bool other_written)
{
    begin(seed);
    leave(HOLDER);
    write_block(3, 9, 109);
    pass_log();
    fake_store_lose_block(store_at(LEADER), t.pg, IMAGE, 3, 9);
    fake_store_lose_block(store_at(SECOND), t.pg, IMAGE, 3, 9);
    if (other_written)
        write_block(3, 11, 111);
    come_back(HOLDER);
    CHECK(t.w->osds[t.osd[HOLDER]].shard->perf.recovered_objects > 0);
    check_block(9, -ERR_DAMAGED);
    check_block(10, 10);
    check_block(11, other_written ? 111 : 11);
    write_block(3, 9, 119);
    check_block(9, 119);
    world_free(t.w);
}

static void test_overwritten_block_is_lost(void)
{
    overwritten(73, false);
    overwritten(74, true);
}

/* The loss is noticed while the log knows what was written since the holder went away: that, of other blocks,
 * takes nothing from what it proves. */
static void noticed_in_time(uint64_t seed, bool overwritten)
{
    begin(seed);
    leave(HOLDER);
    if (overwritten)
        write_block(3, 9, 109);
    write_block(3, 11, 111);
    fake_store_lose_block(store_at(LEADER), t.pg, IMAGE, 3, 9);
    fake_store_lose_block(store_at(SECOND), t.pg, IMAGE, 3, 9);
    pass_log();
    come_back(HOLDER);
    CHECK(t.w->osds[t.osd[HOLDER]].shard->perf.recovered_objects > 0);
    check_block(9, overwritten ? -ERR_DAMAGED : 9);
    check_block(11, 111);
    world_free(t.w);
}

static void test_noticed_in_time(void)
{
    noticed_in_time(84, false);
    noticed_in_time(85, true);
}

/* Of two marks on a page the later one counts for both. */
static void test_overwritten_beside_another(void)
{
    begin(75);
    fake_store_lose_block(store_at(SECOND), t.pg, IMAGE, 3, 10);
    fake_store_lose_block(store_at(LEADER), t.pg, IMAGE, 3, 10);
    leave(HOLDER);
    write_block(3, 9, 109);
    pass_log();
    fake_store_lose_block(store_at(LEADER), t.pg, IMAGE, 3, 9);
    fake_store_lose_block(store_at(SECOND), t.pg, IMAGE, 3, 9);
    come_back(HOLDER);
    check_block(9, -ERR_DAMAGED);
    world_free(t.w);
}

/* A block that ends with its own checksum has the same one whatever it is, as blocks of file systems do. */
static void fill_sealed(uint8_t byte)
{
    memset(data, byte, BLOCK_SIZE);
    uint32_t crc = crc32c(0, data, BLOCK_SIZE - sizeof(crc));
    memcpy(data + BLOCK_SIZE - sizeof(crc), &crc, sizeof(crc));
}

/* Two replicas have it with a bad checksum. The third, which was away while it was written, has the older one
 * with the right checksum: neither a reader nor the medium gets that. */
static void test_older_block_of_equal_checksum(void)
{
    begin(76);
    fill_sealed(1);
    CHECK_EQ(world_write(t.w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    leave(HOLDER);
    fill_sealed(2);
    CHECK_EQ(world_write(t.w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    pass_log();
    fake_store_damage_block(store_at(LEADER), t.pg, IMAGE, 3, 9, false);
    fake_store_damage_block(store_at(SECOND), t.pg, IMAGE, 3, 9, false);
    /* It recovers for a long time, and answers. */
    fake_store_set_read_ns(store_at(LEADER), 5 * NS_PER_MS);
    world_osd_start(t.w, t.osd[HOLDER]);
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_EQ(world_read(t.w, 3, 9, 1, got), -ERR_DAMAGED);
        sim_run_for(t.w->sim, 20 * NS_PER_MS);
    }
    fake_store_set_read_ns(store_at(LEADER), 0);
    WAIT_FOR(t.w, 20000, world_settled(t.w));
    CHECK_EQ(world_read(t.w, 3, 9, 1, got), -ERR_DAMAGED);
    world_free(t.w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_whole_block_stays);
    TEST(test_whole_page_stays);
    TEST(test_whole_block_repairs);
    TEST(test_log_counts);
    TEST(test_log_that_is_not_committed);
    TEST(test_overwritten_block_is_lost);
    TEST(test_noticed_in_time);
    TEST(test_overwritten_beside_another);
    TEST(test_older_block_of_equal_checksum);
    fake_store_forget_all();
    return tap_done();
}
