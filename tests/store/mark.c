/* SPDX-License-Identifier: Apache-2.0
 *
 * What is told of a block that is damaged or lost: the index since which nothing has touched it, as long as
 * it is not written, through destage, starts, copies and more damage. With the name of a planted bug it must
 * fail.
 */
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

/* What the log has of the past counts; else it ends with what is applied. */
static bool log_counts;

static void forget_log(void)
{
    if (!log_counts)
        log_trim(pg_of(pg), pg->applied_index + 1);
}

static void destage(void)
{
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
}

static struct object *object(uint64_t number)
{
    return object_find(pg_of(pg), 1, number);
}

/* Its checksums leave memory: others of which there are as many as it holds are read. */
static void forget_pages(void)
{
    for (uint64_t o = 101; o <= 102; o++)
        CHECK(block_is(o, 0, false) >= 0);
    CHECK(!object(1)->crcs);
}

/* Object 1 has blocks 3 to 5 and 40, of entry 1 and 2. */
static void set_up_object(void)
{
    set_up();
    fill = 0x10;
    CHECK_EQ(write_blocks(1, 3, 3), 0);
    CHECK_EQ(write_blocks(1, 40, 1), 0);
    for (uint64_t o = 101; o <= 102; o++)
        CHECK_EQ(write_blocks(o, 0, 1), 0);
    destage();
    CHECK_EQ(object(1)->page_index, 2);
    forget_pages();
}

/* Block 5 is written, which makes a new page; its index. */
static uint64_t write_other(void)
{
    CHECK_EQ(write_blocks(1, 5, 1), 0);
    uint64_t index = pg->last_index;
    destage();
    CHECK_EQ(object(1)->page_index, index);
    forget_pages();
    return index;
}

static void spoil_page(void)
{
    struct disk_page *page =
        (struct disk_page *)(rig.device.data + block_offset(slot_place(s, object(1)->slot)));

    CHECK_EQ(page->object, 1);
    page->block_crc[3] ^= 1;
}

static void spoil_block(uint32_t block)
{
    rig.device.data[block_offset(
        chunk_place(s, object_chunk(object(1), block / BLOCKS_PER_CHUNK), block % BLOCKS_PER_CHUNK))] ^= 1;
}

/* Since which index the block is damaged; 0: it is not. */
static uint64_t damaged_since(uint32_t block)
{
    struct store_read r = {0};

    forget_log();
    store_read_start(&r, pg, 1, 1, block, 1, false, NULL);
    int rc = rig_wait(&rig, &r.op);
    CHECK_EQ(rc, r.ret_damaged[0] ? -ERR_DAMAGED : 0);
    CHECK(r.ret_lost_index <= r.ret_index);
    CHECK_EQ(r.ret_damaged[0] != 0, r.ret_lost_index != 0);
    slice_unref(&r.ret_data);
    return r.ret_lost_index;
}

static void check_since(uint32_t block, uint64_t index)
{
    for (int start = 0; start < 2; start++) {
        CHECK_EQ(damaged_since(block), index);
        reopen();
    }
    forget_pages();
}

/* What a page had is lost since that page, however often others come; what is written, or cleared, is not
 * lost any more. */
static void a_lost_page_says_since_when(void)
{
    set_up_object();
    spoil_page();
    CHECK_EQ(damaged_since(3), 2);
    write_other();
    check_since(3, 2);
    check_since(40, 2);
    write_other();
    check_since(3, 2);
    CHECK_EQ(damaged_since(5), 0);
    CHECK_EQ(write_blocks(1, 3, 1), 0);
    uint64_t index = pg->last_index;
    destage();
    check_since(3, 0);
    check_since(4, 2);
    /* Nor is it as old as before when it goes bad again. */
    spoil_block(3);
    CHECK_EQ(damaged_since(3), index);
    CHECK_EQ(
        put((struct entry){.type = ENTRY_CLEAR, .image = 1, .object = 1, .block_count = BLOCKS_PER_OBJECT},
            0),
        0);
    destage();
    check_since(3, 0);
    check_since(4, 0);
    tear_down();
}

/* The same at a start: of all, for nobody knows what was written. */
static void a_page_lost_at_the_start_says_since_when(void)
{
    set_up_object();
    spoil_page();
    reopen();
    check_since(3, 2);
    check_since(200, 2);
    write_other();
    check_since(200, 2);
    tear_down();
}

/* Destage finds it: what it was to leave alone is lost since the page that it was on, and not since what was
 * lost before. */
static void of_two_marks_the_later_one_counts(void)
{
    set_up_object();
    spoil_page();
    CHECK_EQ(damaged_since(3), 2);
    CHECK_EQ(write_blocks(1, 3, 1), 0);
    uint64_t index = write_other();
    check_since(4, 2);
    spoil_page();
    CHECK_EQ(write_blocks(1, 5, 1), 0);
    destage();
    forget_pages();
    CHECK_EQ(damaged_since(3), index);
    check_since(4, index);
    tear_down();
}

/* A block that the medium has not got, and of which the checksum is known, too. */
static void a_damaged_block_says_since_when(void)
{
    set_up_object();
    spoil_block(3);
    CHECK_EQ(damaged_since(3), 2);
    uint64_t index = write_other();
    check_since(3, 2);
    /* Found later, so damaged since an older page: that is not made young. */
    spoil_block(40);
    CHECK_EQ(damaged_since(40), index);
    check_since(3, 2);
    CHECK_EQ(write_blocks(1, 3, 1), 0);
    destage();
    forget_pages();
    check_since(3, 0);
    tear_down();
}

static int repair(uint32_t block, int with, uint64_t index)
{
    struct store_repair r = {0};
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};

    forget_log();
    block_fill(data.buf->data, with);
    store_repair_start(&r, pg, 1, 1, block, index, &data, NULL);
    int rc = rig_wait(&rig, &r.op);
    slice_unref(&data);
    return rc;
}

/* Of blocks that all have the same checksum an older one is not taken for the one that is missing. */
static void a_repair_takes_nothing_older(void)
{
    sealed = true;
    set_up_object();
    sealed = false;
    spoil_block(3);
    CHECK_EQ(damaged_since(3), 2);
    write_other();
    sealed = true;
    CHECK_EQ(repair(3, 0x0f, 1), -ERR_RETRY);
    CHECK_EQ(damaged_since(3), 2);
    CHECK_EQ(repair(3, 0x10, 2), 0);
    CHECK_EQ(block_is(1, 3, false), 0x10);
    /* What is damaged anew counts anew. */
    uint64_t index = write_other();
    spoil_block(3);
    CHECK_EQ(repair(3, 0x10, 2), -ERR_RETRY);
    CHECK_EQ(damaged_since(3), index);
    CHECK_EQ(repair(3, 0x10, index), 0);
    sealed = false;
    tear_down();
}

/* A copy takes marks over, the latest of its windows, but for what it is not read for. */
static void a_copy_takes_marks_over(void)
{
    const uint64_t written[IO_BLOCKS_MAX / 64] = {1 << 2}, *damaged = written;
    uint32_t crc[64] = {0};

    set_up_object();
    const uint64_t since[] = {1, 2, 9}, expected[] = {1, 2, 3};
    for (uint32_t i = 0; i < ARRAY_LEN(since); i++) {
        struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
        struct store_copy *copy = NULL;
        struct store_copy_end end = {0};
        CHECK_EQ(store_copy_new(pg, 1, 1, &copy), 0);
        for (uint32_t window = 0; window <= i; window++) {
            struct store_copy_write w = {0};
            store_copy_write_start(&w, copy, 64 * (i - window), 64, written, damaged, since[window], NULL,
                                   NULL, crc, &data, NULL);
            CHECK_EQ(rig_wait(&rig, &w.op), 0);
        }
        store_copy_end_start(&end, copy, 3 + i / 3, NULL);
        CHECK_EQ(rig_wait(&rig, &end.op), 0);
        slice_unref(&data);
        check_since(2, expected[i]);
    }
    tear_down();
}

/* The page leaves memory, and is found to be lost, while a block of it is written anew. */
static void a_page_is_lost_beside_a_repair(void)
{
    struct store_repair r = {0};

    set_up_object();
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    spoil_block(3);
    CHECK_EQ(damaged_since(3), 2);
    block_fill(data.buf->data, 0x10);
    rig.device.held_from = block_offset(chunk_place(s, object_chunk(object(1), 0), 3));
    rig.device.held_len = BLOCK_SIZE;
    store_repair_start(&r, pg, 1, 1, 3, 2, &data, NULL);
    rig_settle(&rig);
    CHECK(op_live(&r.op));
    forget_pages();
    spoil_page();
    CHECK_EQ(damaged_since(4), 2);
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    check_since(3, 2);
    slice_unref(&data);
    tear_down();
}

/* What the log has lost of a block does not bring back what was there before, which may have the same
 * checksum. */
static void what_the_log_lost_is_not_as_before(void)
{
    for (int whole = 0; whole < 2; whole++) {
        sealed = true;
        set_up_object();
        CHECK_EQ(write_blocks(1, 3, 2), 0);
        uint64_t index = pg->last_index;
        rig_settle(&rig);
        reopen();
        struct log_entry *e = log_at(pg_of(pg), index);
        CHECK(!e->payload.buf);
        rig.device.data[block_offset(entry_place(s, e, 0))] ^= 1;
        e->lost = whole;
        destage();
        CHECK_EQ(object(1)->page_index, index);
        check_since(3, index);
        CHECK_EQ(block_is(1, 4, false), whole ? -ERR_DAMAGED : 0x15);
        CHECK_EQ(repair(3, 0x14, index), 0);
        CHECK_EQ(block_is(1, 3, false), 0x14);
        sealed = false;
        tear_down();
    }
}

/* What the log does not give once is not lost. */
static void what_the_log_has_is_read_twice(void)
{
    for (int often = 1; often <= 2; often++) {
        set_up_object();
        CHECK_EQ(write_blocks(1, 3, 2), 0);
        uint64_t index = pg->last_index;
        rig_settle(&rig);
        reopen();
        CHECK(!log_at(pg_of(pg), index)->payload.buf);
        rig.device.bad_from = rig.device.held_from =
            block_offset(entry_place(s, log_at(pg_of(pg), index), 0));
        rig.device.held_reads = true;
        rig.device.held_len = 2 * BLOCK_SIZE;
        destage();
        for (int times = 0; times < often; times++) {
            CHECK(!list_empty(&rig.device.pending));
            rig.device.held_len = 0;
            rig.device.bad_len = BLOCK_SIZE;
            memory_complete(&rig.device);
            rig.device.bad_len = 0;
            rig.device.held_len = 2 * BLOCK_SIZE;
            rig_settle(&rig);
        }
        rig.device.held_len = 0;
        rig_settle(&rig);
        CHECK_EQ(object(1)->page_index, index);
        CHECK_EQ(block_is(1, 3, false), often == 1 ? 0x14 : -ERR_DAMAGED);
        CHECK_EQ(block_is(1, 4, false), 0x15);
        tear_down();
    }
}

static void copy_block(uint32_t block, int with, uint64_t index)
{
    const uint64_t written[IO_BLOCKS_MAX / 64] = {1ull << block};
    uint32_t crc[64] = {0};
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    struct store_copy *copy = NULL;
    struct store_copy_write w = {0};
    struct store_copy_end end = {0};

    crc[block] = block_fill(data.buf->data, with);
    CHECK_EQ(store_copy_new(pg, 1, 1, &copy), 0);
    store_copy_write_start(&w, copy, 0, 64, written, NULL, 0, NULL, NULL, crc, &data, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    store_copy_end_start(&end, copy, index, NULL);
    CHECK_EQ(rig_wait(&rig, &end.op), 0);
    slice_unref(&data);
}

/* A copy is newer than what is in the log, and not applied: that is in it already, so what is proposed begins
 * behind it. */
static void a_copy_is_newer_than_the_log(void)
{
    struct store_read r = {0};

    set_up_object();
    CHECK_EQ(write_blocks(1, 3, 1), 0);
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE, .image = 1, .generation = 2, .size_bytes = 0}, 0), 0);
    rig_settle(&rig);
    CHECK_EQ(block_is(1, 3, true), -1);
    uint64_t index = pg->last_index + 5;
    copy_block(3, 0x77, index);
    CHECK_EQ(block_is(1, 3, true), 0x77);
    store_read_start(&r, pg, 1, 1, 3, 1, true, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    CHECK_EQ(r.ret_index, index);
    slice_unref(&r.ret_data);
    apply_all();
    CHECK_EQ(block_is(1, 3, false), 0x77);
    tear_down();
}

/* An older page proves nothing, but what the log has not got of a block since does. It is known for ever. */
static void the_log_says_since_when(void)
{
    set_up_object();
    uint64_t index = write_other();
    log_counts = true;
    spoil_block(3);
    CHECK_EQ(damaged_since(3), 1);
    write_other();
    log_counts = false;
    check_since(3, 1);
    spoil_block(40);
    log_counts = true;
    forget_pages();
    CHECK_EQ(damaged_since(40), 2);
    spoil_block(5);
    CHECK(damaged_since(5) > index);
    log_counts = false;
    check_since(3, 1);
    tear_down();
}

/* The latest of all that one page was found to lack is known of them all. */
static void the_log_says_it_of_all_marks(void)
{
    set_up_object();
    write_other();
    log_counts = true;
    spoil_block(3);
    spoil_block(40);
    CHECK_EQ(damaged_since(3), 1);
    CHECK_EQ(damaged_since(40), 2);
    CHECK_EQ(damaged_since(3), 1);
    log_counts = false;
    CHECK_EQ(damaged_since(3), 2);
    uint64_t index = write_other();
    check_since(40, 2);
    spoil_block(4);
    CHECK_EQ(damaged_since(4), index);
    check_since(3, 2);
    tear_down();
}

/* Of many blocks at once, each with entries of its own, marked or not. */
static void the_log_says_it_of_a_window(void)
{
    struct store_read r = {0};

    set_up_object();
    log_counts = true;
    spoil_block(3);
    CHECK_EQ(damaged_since(3), 1);
    write_other();
    uint64_t index = write_other();
    spoil_block(40);
    for (int later = 0; later < 2; later++) {
        if (later)
            spoil_block(5);
        store_read_start(&r, pg, 1, 1, 0, 64, false, NULL);
        CHECK_EQ(rig_wait(&rig, &r.op), -ERR_DAMAGED);
        CHECK_EQ(r.ret_damaged[0], 1ull << 3 | 1ull << 40 | (uint64_t)later << 5);
        CHECK_EQ(r.ret_lost_index, later ? index : 2);
        slice_unref(&r.ret_data);
    }
    log_counts = false;
    tear_down();
}

/* As far as the log reaches, and not farther than takes a moment. */
static void the_log_does_not_know_more(void)
{
    set_up_object();
    log_trim(pg_of(pg), 4);
    write_other();
    log_counts = true;
    spoil_block(3);
    CHECK_EQ(damaged_since(3), 3);
    for (int i = 0; i < 5000; i++) {
        CHECK_EQ(put((struct entry){.type = ENTRY_NOOP}, 0), 0);
        if (i % 500 == 0)
            apply_all();
    }
    uint64_t index = write_other();
    CHECK_EQ(pg->first_index, 4);
    CHECK_EQ(damaged_since(3), 3);
    spoil_block(40);
    CHECK_EQ(damaged_since(40), index - 4096);
    log_counts = false;
    tear_down();
}

static void put_image(uint64_t generation, uint64_t blocks, uint64_t image)
{
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .image = image,
                                .generation = generation,
                                .size_bytes = blocks * BLOCK_SIZE},
                 0),
             0);
}

/* Whatever has touched the block counts, if only it may have: here of a page of which nobody knows what was
 * written. */
static void what_clears_counts(void)
{
    log_counts = true;
    set_up_object();
    put_image(1, 1u << 20, 1);
    CHECK_EQ(
        put((struct entry){.type = ENTRY_CLEAR, .image = 1, .object = 1, .first_block = 3, .block_count = 1},
            0),
        0);
    uint64_t cleared = pg->last_index;
    put_image(2, BLOCKS_PER_OBJECT + 30, 1);
    uint64_t cut = pg->last_index;
    put_image(3, 1u << 20, 1);
    put_image(1, 0, 2);
    for (uint64_t o = 101; o <= 102; o++)
        CHECK_EQ(write_blocks(o, 0, 5), 0);
    destage();
    write_other();
    spoil_page();
    reopen();
    apply_all();
    CHECK_EQ(damaged_since(3), cleared);
    CHECK_EQ(damaged_since(4), 1);
    CHECK_EQ(damaged_since(29), 1);
    CHECK_EQ(damaged_since(30), cut);
    CHECK_EQ(damaged_since(40), cut);
    log_counts = false;
    tear_down();
}

/* A copy may be of a later time than what is applied here, and that of the log may come to nothing. */
static void what_is_not_applied_does_not_count(void)
{
    set_up_object();
    log_counts = true;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(write_blocks(101, 0, 1), 0);
    uint64_t index = pg->last_index;
    rig_settle(&rig);
    copy_block(3, 0x77, index);
    spoil_block(3);
    forget_pages();
    CHECK_EQ(damaged_since(3), index);
    log_counts = false;
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(a_lost_page_says_since_when);
    TEST(a_page_lost_at_the_start_says_since_when);
    TEST(of_two_marks_the_later_one_counts);
    TEST(a_damaged_block_says_since_when);
    TEST(a_repair_takes_nothing_older);
    TEST(a_copy_takes_marks_over);
    TEST(a_page_is_lost_beside_a_repair);
    TEST(what_the_log_lost_is_not_as_before);
    TEST(what_the_log_has_is_read_twice);
    TEST(a_copy_is_newer_than_the_log);
    TEST(the_log_says_since_when);
    TEST(the_log_says_it_of_all_marks);
    TEST(the_log_says_it_of_a_window);
    TEST(the_log_does_not_know_more);
    TEST(what_clears_counts);
    TEST(what_is_not_applied_does_not_count);
    return tap_done();
}
