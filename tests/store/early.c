/* SPDX-License-Identifier: Apache-2.0
 *
 * Destage writes in place, before the page that says so is live: what a crash in between leaves. With the
 * name of a planted bug it must fail.
 */
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

static void hold_ring(void)
{
    rig.device.held_from = block_offset(s->g.ring_block);
    rig.device.held_len = block_offset(s->g.ring_blocks);
}

static void destage(void)
{
    destage_pg(pg_of(pg));
    rig_settle(&rig);
}

/* Two blocks of an object that are on its page. */
static void set_up_object(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 4, 2), 0);
    apply_all();
    destage();
    CHECK_EQ(store_complete_index(pg), 1);
}

/* Others have committed it, this log has not got it yet: a start would find neither the entry nor what the
 * block was before. */
static void what_the_log_does_not_have_is_not_destaged(void)
{
    for (int whole = 0; whole < 2; whole++) {
        set_up_object();
        hold_ring();
        struct entry clear = {.type = ENTRY_CLEAR, .image = 1, .object = 1, .block_count = BLOCKS_PER_OBJECT};
        CHECK_EQ(whole ? put(clear, 0) : write_blocks(1, 4, 1), 0);
        rig_settle(&rig);
        CHECK_EQ(pg->durable_index, 1);
        store_apply(pg, 2);
        destage();
        CHECK_EQ(s->destage.object_count, 0);
        power_fails();
        CHECK_EQ(pg->last_index, 1);
        CHECK_EQ(block_is(1, 4, false), 1);
        CHECK_EQ(block_is(1, 5, false), 2);
        tear_down();
    }
}

static uint64_t coming(uint32_t first, uint32_t count)
{
    uint64_t ret[IO_BLOCKS_MAX / 64];

    store_blocks_coming(pg, 1, 1, first, count, ret);
    return ret[0];
}

/* What the log has, and is not known to be committed yet, was destaged before: the page expects what was
 * there. That is no damage for those who ask which blocks the log has anew, until it is applied. */
static void what_the_log_has_anew_is_no_damage(void)
{
    set_up_object();
    fill = 0x10;
    CHECK_EQ(write_blocks(1, 5, 2), 0);
    CHECK_EQ(write_blocks(2, 4, 1), 0);
    rig_settle(&rig);
    hold_ring();
    store_apply(pg, 3);
    destage();
    power_fails();
    CHECK_EQ(pg->last_index, 3);
    CHECK_EQ(pg->applied_index, 1);
    CHECK_EQ(block_is(1, 4, false), 1);
    CHECK_EQ(block_is(1, 5, false), -ERR_DAMAGED);
    CHECK_EQ(coming(0, IO_BLOCKS_MAX), 3u << 5);
    CHECK_EQ(coming(5, 1), 1);
    CHECK_EQ(coming(6, 64), 1);
    CHECK_EQ(coming(4, 1), 0);
    CHECK_EQ(coming(7, 64), 0);
    apply_all();
    CHECK_EQ(block_is(1, 5, false), 0x10);
    CHECK_EQ(coming(0, IO_BLOCKS_MAX), 0);
    /* An object that is newer already takes nothing from the log. */
    CHECK_EQ(write_blocks(1, 5, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(coming(0, IO_BLOCKS_MAX), 1u << 5);
    object_find(pg_of(pg), 1, 1)->index = pg->last_index;
    CHECK_EQ(coming(0, IO_BLOCKS_MAX), 0);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(what_the_log_does_not_have_is_not_destaged);
    TEST(what_the_log_has_anew_is_no_damage);
    return tap_done();
}
