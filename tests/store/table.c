/* SPDX-License-Identifier: Apache-2.0
 *
 * The PG table's two copies, when a crash comes between them.
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

int main(void)
{
    TEST(the_newer_copy_is_in_both_after_a_start);
    TEST(a_torn_copy_is_made_anew);
    return tap_done();
}
