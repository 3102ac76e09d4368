/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of which the checksums are not in memory: there is room for two objects' (slice.h). What reading one
 * again costs, and that one which does not verify then makes its object damaged, whoever finds it.
 */
#include "store/internal.h"
#include "tests/store/slice.h"

#define OBJECTS 5u

static void destage(void)
{
    apply_all();
    pg_of(pg)->destage_all = true;
    destage_wake(s);
    rig_settle(&rig);
}

/* Blocks 3 and 4 of five objects, in chunks; objects 4 and 5 are in memory. */
static void set_up_objects(void)
{
    set_up();
    fill = 0x10;
    for (uint64_t o = 1; o <= OBJECTS; o++) {
        CHECK_EQ(write_blocks(o, 3, 2), 0);
        destage();
    }
}

static struct object *object(uint64_t number)
{
    return object_find(pg_of(pg), 1, number);
}

static int content(uint64_t number)
{
    return 0x10 + (int)number - 1;
}

static void spoil_page(uint64_t number)
{
    struct disk_page *page =
        (struct disk_page *)(rig.device.data + block_offset(slot_place(s, object(number)->slot)));

    CHECK_EQ(page->object, number);
    page->block_crc[3] ^= 1;
}

static bool is_damaged(uint64_t number)
{
    struct store_object_info info;

    CHECK(store_object_next(pg, false, 1, number - 1, &info) && info.object == number);
    return info.damaged;
}

static void a_page_costs_one_read(void)
{
    set_up_objects();
    const struct store_counters *c = store_counters(s);
    CHECK(!object(1)->crcs && !object(3)->crcs && object(4)->crcs && object(5)->crcs);
    uint64_t reads = c->page_reads, hits = c->page_hits, data = c->device_reads;
    CHECK_EQ(block_is(5, 3, false), content(5));
    CHECK_EQ(block_is(4, 3, false), content(4));
    CHECK_EQ(c->page_reads, reads);
    CHECK_EQ(c->page_hits, hits + 2);
    CHECK_EQ(block_is(1, 3, false), content(1));
    CHECK_EQ(c->page_reads, reads + 1);
    CHECK_EQ(c->device_reads, data + 3);
    /* The one that was used longest ago made room for it. */
    CHECK(object(1)->crcs && object(4)->crcs && !object(5)->crcs);
    CHECK_EQ(block_is(1, 4, false), content(1) + 1);
    /* What is not written needs none, and neither does the status of blocks. */
    uint64_t written[BLOCKS_PER_OBJECT / 64];
    CHECK_EQ(block_is(2, 5, false), -1);
    CHECK(store_block_status(pg, 1, 2, written));
    CHECK_EQ(written[0], 3 << 3);
    CHECK_EQ(c->page_reads, reads + 1);
    CHECK_EQ(c->page_hits, hits + 3);
    reopen();
    CHECK(pages_full(s));
    for (uint64_t o = 1; o <= OBJECTS; o++)
        CHECK_EQ(block_is(o, 3, false), content(o));
    CHECK_EQ(store_counters(s)->page_reads + store_counters(s)->page_hits, OBJECTS);
    tear_down();
}

static void a_read_that_fails_once_is_no_damage(void)
{
    set_up_objects();
    rig.device.fail_at = rig.device.requests + 1;
    CHECK_EQ(block_is(1, 3, false), content(1));
    CHECK_EQ(store_counters(s)->page_reads, 2);
    CHECK(!is_damaged(1));
    tear_down();
}

/* What a round leaves alone keeps its checksums. */
static void destage_reads_pages(void)
{
    set_up_objects();
    for (uint64_t o = 1; o <= OBJECTS; o++)
        CHECK_EQ(write_blocks(o, 4, 1), 0);
    destage();
    for (int start = 0; start < 2; start++) {
        for (uint64_t o = 1; o <= OBJECTS; o++) {
            CHECK_EQ(block_is(o, 3, false), content(o));
            CHECK_EQ(block_is(o, 4, false), 0x10 + (int)(OBJECTS + o) - 1);
        }
        reopen();
    }
    /* All of what is written: there is nothing to leave alone. */
    uint64_t reads = store_counters(s)->page_reads;
    for (uint64_t o = 1; o <= OBJECTS; o++)
        CHECK_EQ(write_blocks(o, 3, 2), 0);
    destage();
    CHECK_EQ(store_counters(s)->page_reads, reads);
    CHECK_EQ(block_is(2, 4, false), 0x10 + 2 * OBJECTS + 1 + 1);
    tear_down();
}

static void check_lost(uint64_t number)
{
    CHECK_EQ(block_is(number, 3, false), -ERR_DAMAGED);
    CHECK_EQ(block_is(number, 4, false), 0x77);
    CHECK_EQ(block_is(number, 5, false), -1);
    CHECK(is_damaged(number));
}

static void a_page_that_does_not_verify_is_damage(void)
{
    set_up_objects();
    spoil_page(1);
    CHECK(!is_damaged(1));
    uint32_t chunk = object_chunk(object(1), 0);
    for (int again = 0; again < 2; again++) {
        CHECK_EQ(block_is(1, 4, false), -ERR_DAMAGED);
        CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
        CHECK_EQ(block_is(1, 5, false), -1);
        CHECK(is_damaged(1));
        CHECK_EQ(store_counters(s)->damaged_objects, 1);
        CHECK_EQ(s->chunk_refs[chunk], 1);
    }
    CHECK_EQ(block_is(2, 3, false), content(2));
    /* What is written again is as good as ever. */
    fill = 0x77;
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    destage();
    check_lost(1);
    reopen();
    check_lost(1);
    tear_down();
}

static void destage_finds_a_damaged_page(void)
{
    set_up_objects();
    CHECK_EQ(write_blocks(2, 20, 1), 0);
    destage();
    CHECK_EQ(block_is(3, 3, false), content(3));
    CHECK_EQ(block_is(4, 3, false), content(4));
    uint32_t chunk = object_chunk(object(2), 1);
    spoil_page(2);
    fill = 0x77;
    CHECK_EQ(write_blocks(2, 4, 1), 0);
    destage();
    CHECK_EQ(store_counters(s)->damaged_objects, 1);
    check_lost(2);
    CHECK_EQ(s->chunk_refs[chunk], 0); /* nothing in it is known any more */
    reopen();
    check_lost(2);
    CHECK_EQ(block_is(2, 20, false), -ERR_DAMAGED);
    CHECK_EQ(block_is(1, 3, false), content(1));
    tear_down();
}

/* The page of another, whole as it is, is none. */
static void another_page_is_damage(void)
{
    set_up_objects();
    memcpy(rig.device.data + block_offset(slot_place(s, object(1)->slot)),
           rig.device.data + block_offset(slot_place(s, object(2)->slot)), BLOCK_SIZE);
    CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
    CHECK(is_damaged(1));
    CHECK_EQ(block_is(2, 3, false), content(2));
    tear_down();
}

static int repair(uint64_t number, uint32_t block, int with)
{
    struct store_repair r = {0};
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};

    memset(data.buf->data, with, BLOCK_SIZE);
    store_repair_start(&r, pg, 1, number, block, &data, NULL);
    int rc = rig_wait(&rig, &r.op);
    slice_unref(&data);
    return rc;
}

static void repair_reads_pages(void)
{
    set_up_objects();
    for (uint64_t o = 1; o <= 2; o++) {
        rig.device.data[block_offset(chunk_place(s, object_chunk(object(o), 0), 4))] ^= 1;
        CHECK(!object(o)->crcs);
    }
    CHECK_EQ(repair(1, 4, 0x55), -ERR_CHECKSUM);
    CHECK_EQ(block_is(1, 4, false), -ERR_DAMAGED);
    CHECK_EQ(repair(1, 4, content(1) + 1), 0);
    CHECK_EQ(block_is(1, 4, false), content(1) + 1);
    spoil_page(2);
    CHECK_EQ(repair(2, 4, content(2) + 1), -ERR_DAMAGED);
    CHECK(is_damaged(2));
    tear_down();
}

int main(void)
{
    TEST(a_page_costs_one_read);
    TEST(a_read_that_fails_once_is_no_damage);
    TEST(destage_reads_pages);
    TEST(a_page_that_does_not_verify_is_damage);
    TEST(destage_finds_a_damaged_page);
    TEST(another_page_is_damage);
    TEST(repair_reads_pages);
    return tap_done();
}
