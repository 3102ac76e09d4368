/* SPDX-License-Identifier: Apache-2.0
 *
 * What one spoiled or unreadable block costs: the PG whose it was is told, and no other; nothing older comes
 * back in its place; and what was found stays known.
 */
#include "store/internal.h"
#include "tests/store/slice.h"

static struct store_pg *other; /* PG 2 */

static int open_both(void)
{
    int rc = open_store();

    other = s ? store_pg_find(s, 2) : NULL;
    return rc;
}

static void set_up_both(void)
{
    set_up();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
}

static int write_other(uint64_t object, uint32_t first, uint32_t count)
{
    struct store_pg *mine = pg;

    pg = other;
    int rc = write_blocks(object, first, count);
    pg = mine;
    return rc;
}

static uint64_t ring_offset(uint64_t position)
{
    return block_offset(ring_place(s, position));
}

static void an_unused_block_that_cannot_be_read_costs_nothing(void)
{
    set_up_both();
    /* Batches whose headers have more than one block. */
    for (uint32_t n = 0; n < 3; n++) {
        for (uint32_t i = 0; i < 100; i++)
            CHECK_EQ(write_blocks(i, 0, 1), 0);
        rig_settle(&rig);
    }
    uint64_t last = pg->durable_index;
    CHECK_EQ(last, 300);
    rig.device.bad_from = ring_offset(s->head + 5);
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->last_index, last);
    CHECK(!pg->damaged && !other->damaged);
    tear_down();
}

static void an_unreadable_payload_costs_its_entry(void)
{
    set_up_both();
    CHECK_EQ(write_blocks(1, 0, 4), 0);
    rig_settle(&rig);
    CHECK_EQ(write_other(1, 0, 4), 0);
    rig_settle(&rig);
    uint64_t bad = log_at(pg_of(other), 1)->position + 2;
    CHECK_EQ(write_blocks(1, 4, 4), 0);
    rig_settle(&rig);
    /* A header that knows that all of them are durable. */
    CHECK_EQ(write_blocks(1, 8, 4), 0);
    rig_settle(&rig);
    rig.device.bad_from = ring_offset(bad);
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->last_index, 3);
    CHECK(!pg->damaged);
    CHECK(other->damaged);
    store_apply(pg, pg->last_index);
    CHECK(block_is(1, 9, false) >= 0);
    tear_down();
}

int main(void)
{
    TEST(an_unused_block_that_cannot_be_read_costs_nothing);
    TEST(an_unreadable_payload_costs_its_entry);
    return tap_done();
}
