/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages of which the checksums are not in memory: there is room for two objects' (slice.h). What reading one
 * again costs, and that one which does not verify then makes its object damaged, whoever finds it.
 */
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

#define OBJECTS 5u

static void destage(void)
{
    apply_all();
    destage_pg(pg_of(pg));
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

/* The device does not give the object's page, or does again. */
static void page_readable(uint64_t number, bool readable)
{
    rig.device.bad_from = block_offset(slot_place(s, object(number)->slot));
    rig.device.bad_len = readable ? 0 : BLOCK_SIZE;
}

/* Nor is one that fails for a while: it is an error as long as it lasts. */
static void a_page_that_cannot_be_read_now_is_no_damage(void)
{
    struct store_digest digest = {0};

    set_up_objects();
    page_readable(1, false);
    CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
    CHECK_EQ(block_is(1, 5, false), -1);
    CHECK(is_damaged(1)); /* another replica is to be asked */
    store_digest_start(&digest, pg, 1, 1, NULL);
    CHECK_EQ(rig_wait(&rig, &digest.op), 0);
    CHECK_EQ(digest.ret_lost[0], 3 << 3);
    CHECK_EQ(store_counters(s)->damaged_objects, 0);
    page_readable(1, true);
    CHECK_EQ(block_is(1, 3, false), content(1));
    CHECK(!is_damaged(1));
    tear_down();
}

static void turn_until_destaged(uint64_t until_ns)
{
    apply_all();
    destage_up_to(pg_of(pg), pg->last_index);
    while (store_complete_index(pg) < pg->last_index && rig.now_ns < until_ns)
        rig_turn(&rig);
}

/* Destage leaves such an object alone for a while, and takes the others. */
static void destage_tries_again(void)
{
    set_up_objects();
    fill = 0x77;
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    CHECK_EQ(write_blocks(2, 4, 1), 0);
    page_readable(1, false);
    turn_until_destaged(rig.now_ns + NS_PER_S);
    CHECK_EQ(object(1)->page_index, 1);
    CHECK_EQ(object(2)->page_index, pg->last_index);
    CHECK_EQ(block_is(1, 4, false), 0x77);
    CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
    CHECK(store_complete_index(pg) < pg->last_index);
    page_readable(1, true);
    turn_until_destaged(rig.now_ns + NS_PER_S);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    for (int start = 0; start < 2; start++) {
        CHECK(!is_damaged(1));
        CHECK_EQ(block_is(1, 3, false), content(1));
        CHECK_EQ(block_is(1, 4, false), 0x77);
        reopen();
    }
    tear_down();
}

/* When the time is over in which it is left alone, and nobody asks for it any more, destage rests. */
static void what_nobody_asks_for_keeps_nobody_awake(void)
{
    set_up_objects();
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    page_readable(1, false);
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK(s->destage.unreadable_ns && timer_armed(&s->destage.retry));
    for (uint64_t until_ns = rig.now_ns + 2 * PAGE_RETRY_NS; rig.now_ns < until_ns;)
        rig_turn(&rig);
    CHECK(!s->destage.unreadable_ns && !timer_armed(&s->destage.retry));
    page_readable(1, true);
    destage();
    CHECK_EQ(object(1)->overlay, NULL);
    tear_down();
}

static void check_lost(uint64_t number);

/* But not for ever: the ring needs the room. */
static void a_page_that_stays_away_is_damage(void)
{
    set_up_objects();
    fill = 0x77;
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    page_readable(1, false);
    uint64_t begun_ns = rig.now_ns;
    turn_until_destaged(rig.now_ns + 10 * NS_PER_S);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    CHECK(rig.now_ns - begun_ns > 4 * NS_PER_S);
    check_lost(1);
    reopen();
    check_lost(1);
    tear_down();
}

/* However many they are: they are tried, and given up, together. */
static void many_pages_stay_away(void)
{
    enum { MANY = 60 };

    set_up();
    for (int again = 0; again < 2; again++)
        for (uint64_t o = 1; o <= MANY; o++) {
            fill = (uint8_t)(0x10 + 0x60 * again);
            CHECK_EQ(write_blocks(o, 3 + (uint32_t)again, 2 - (uint32_t)again), 0);
            if (o == MANY && again)
                apply_all();
            else if (!again)
                destage();
        }
    rig.device.bad_from = block_offset(s->g.chunk_block);
    rig.device.bad_len = SIZE;
    uint64_t begun_ns = rig.now_ns;
    turn_until_destaged(rig.now_ns + 30 * NS_PER_S);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    CHECK(rig.now_ns - begun_ns > 4 * NS_PER_S);
    CHECK(rig.now_ns - begun_ns < 6 * NS_PER_S);
    rig.device.bad_len = 0;
    CHECK_EQ(store_counters(s)->damaged_objects, MANY - 2); /* the last two are in memory */
    tear_down();
}

/* The others of its run are read without it. */
static void a_block_that_cannot_be_read_costs_itself(void)
{
    enum { BLOCKS = 16, BAD = 5 };
    struct store_read r = {0};

    set_up();
    CHECK_EQ(write_blocks(1, 0, BLOCKS), 0);
    destage();
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_store(), 0);
    apply_all();
    rig.device.bad_from = block_offset(chunk_place(s, object_chunk(object(1), 0), BAD));
    rig.device.bad_len = BLOCK_SIZE;
    store_read_start(&r, pg, 1, 1, 0, BLOCKS, false, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), -ERR_DAMAGED);
    CHECK_EQ(r.ret_damaged[0], 1ull << BAD);
    slice_unref(&r.ret_data);
    tear_down();
}

/* A recovery's end waits for all that the log left behind, and others have their turn meanwhile. */
static void a_recovery_ends_without_haste(void)
{
    struct store_pg_write w = {0};
    struct store_pg_record record;

    set_up_objects();
    fill = 0x77;
    for (uint64_t o = 1; o <= 3; o++)
        CHECK_EQ(write_blocks(o, 4, 1), 0);
    apply_all();
    record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    store_reset_base(pg, pg->last_index + 10, 1, &ALONE, 0);
    page_readable(1, false);
    record.state = STORE_PG_NORMAL;
    record.base_index = pg->last_index;
    record.base_term = 1;
    store_pg_write_start(&w, s, &record, NULL);
    uint64_t steps = rig.core.counters.steps;
    for (uint64_t until_ns = rig.now_ns + NS_PER_S; rig.now_ns < until_ns;)
        rig_turn(&rig);
    CHECK(op_live(&w.op));
    CHECK(pg_of(pg)->offlog_holds > 0);
    CHECK_EQ(object(2)->overlay, NULL);
    CHECK(rig.core.counters.steps - steps < 1000);
    page_readable(1, true);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    CHECK_EQ(pg_of(pg)->offlog_holds, 0);
    for (uint64_t o = 1; o <= 3; o++) {
        CHECK_EQ(block_is(o, 3, false), content(o));
        CHECK_EQ(block_is(o, 4, false), 0x77 + (int)o - 1);
    }
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

/* Nor is an older one of the object itself, though it were of the same index: its chunks are another's. */
static void an_older_page_is_damage(void)
{
    set_up_objects();
    uint8_t *block = rig.device.data + block_offset(slot_place(s, object(1)->slot));
    struct disk_page *page = (struct disk_page *)block;
    CHECK_EQ(page->version, object(1)->version);
    page->version--;
    FORMAT_SEAL(page);
    CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
    CHECK(is_damaged(1));
    tear_down();
}

static int repair(uint64_t number, uint32_t block, int with)
{
    struct store_repair r = {0};
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};

    memset(data.buf->data, with, BLOCK_SIZE);
    store_repair_start(&r, pg, 1, number, block, pg->applied_index, &data, NULL);
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

/* Whoever wants more destaged while a round is under way gets it: up to an entry, or all of a PG. */
static void asked_for_during_a_round(void)
{
    for (int all = 0; all < 2; all++) {
        set_up_objects();
        CHECK_EQ(write_blocks(1, 4, 1), 0);
        CHECK_EQ(write_blocks(2, 4, 1), 0);
        apply_all();
        destage_up_to(pg_of(pg), pg->last_index - 1);
        for (int i = 0; i < 100 && !s->destage.object_count; i++)
            rig_turn(&rig);
        CHECK_EQ(s->destage.object_count, 1);
        if (all)
            destage_pg(pg_of(pg));
        else
            destage_up_to(pg_of(pg), pg->last_index);
        rig_settle(&rig);
        CHECK_EQ(object(2)->overlay, NULL);
        CHECK(all || store_complete_index(pg) == pg->last_index);
        tear_down();
    }
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(a_page_costs_one_read);
    TEST(a_read_that_fails_once_is_no_damage);
    TEST(a_page_that_cannot_be_read_now_is_no_damage);
    TEST(destage_tries_again);
    TEST(what_nobody_asks_for_keeps_nobody_awake);
    TEST(a_page_that_stays_away_is_damage);
    TEST(many_pages_stay_away);
    TEST(a_block_that_cannot_be_read_costs_itself);
    TEST(a_recovery_ends_without_haste);
    TEST(destage_reads_pages);
    TEST(a_page_that_does_not_verify_is_damage);
    TEST(destage_finds_a_damaged_page);
    TEST(another_page_is_damage);
    TEST(an_older_page_is_damage);
    TEST(repair_reads_pages);
    TEST(asked_for_during_a_round);
    return tap_done();
}
