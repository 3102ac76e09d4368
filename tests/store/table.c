/* SPDX-License-Identifier: Apache-2.0
 *
 * The PG table's two copies, when a crash comes between them, and when they are made.
 */
#include "store/internal.h"
#include "tests/store/slice.h"

static uint64_t copy_offset(int copy)
{
    return block_offset(s->g.table_block + (uint64_t)copy * s->g.table_blocks);
}

/* A start that goes by the newer copy has it in both before anybody relies on it: then that copy may rot. */
static void the_newer_copy_is_in_both_after_a_start(void)
{
    struct store_pg_write w = {0};

    set_up();
    struct store_pg_record record = pg->record;
    record.term = 7;
    record.vote = 2;
    rig.device.held_from = copy_offset(1);
    rig.device.held_len = block_offset(s->g.table_blocks);
    store_pg_write_start(&w, s, &record, NULL);
    rig_settle(&rig);
    CHECK(op_live(&w.op));
    power_fails();
    CHECK_EQ(pg->record.term, 7);
    uint64_t a = copy_offset(0);
    CHECK_EQ(close_store(), 0);
    rig.device.data[a + 100] ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->record.term, 7);
    CHECK_EQ(pg->record.vote, 2);
    tear_down();
}

/* The first copy is torn, the second is as before: what was not acknowledged never was. */
static void a_torn_copy_is_made_anew(void)
{
    set_up();
    struct store_pg_record record = pg->record;
    record.term = 7;
    CHECK_EQ(write_record(&record), 0);
    uint64_t a = copy_offset(0), b = copy_offset(1);
    for (int copy = 0; copy < 2; copy++) {
        CHECK_EQ(close_store(), 0);
        memset(rig.device.data + (copy ? b : a), 0x5a, BLOCK_SIZE / 2);
        CHECK_EQ(open_store(), 0);
        CHECK_EQ(pg->record.term, 7);
        CHECK_EQ(memcmp(rig.device.data + a, rig.device.data + b, BLOCK_SIZE), 0);
    }
    tear_down();
}

/* Before a superblock says that there is a slice, all of it is on media. */
static void a_format_ends_with_the_superblocks(void)
{
    struct store_format f = {0};

    set_up();
    struct geometry g = s->g;
    CHECK_EQ(close_store(), 0);
    rig_watch_media(&rig);
    rig.device.held_from = block_offset(MIN(SUPERBLOCK_A_BLOCK, SUPERBLOCK_B_BLOCK));
    rig.device.held_len = block_offset(g.table_block) - rig.device.held_from;
    rig.device.held_writes = true;
    store_format_start(&f, &config, 8u << 20, NULL);
    rig_settle(&rig);
    CHECK(op_live(&f.op));
    uint64_t from = block_offset(g.table_block), len = block_offset(2 * g.table_blocks);
    CHECK_EQ(memcmp(rig.device.media + from, rig.device.data + from, len), 0);
    from = block_offset(g.checkpoint_block);
    CHECK_EQ(memcmp(rig.device.media + from, rig.device.data + from, BLOCK_SIZE), 0);
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &f.op), 0);
    CHECK_EQ(memcmp(rig.device.media, rig.device.data, block_offset(g.checkpoint_block)), 0);
    tear_down();
}

int main(void)
{
    TEST(the_newer_copy_is_in_both_after_a_start);
    TEST(a_torn_copy_is_made_anew);
    TEST(a_format_ends_with_the_superblocks);
    return tap_done();
}
