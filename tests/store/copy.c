/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of objects that take what is the same from the old object: by sharing its chunks, by moving single
 * blocks, out of pages, memory, or a log that was never applied. With the name of a planted bug it must fail.
 */
#include "base/placement.h"
#include "base/plant.h"
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

#define OBJECT 7

static struct store_copy *copy;
static uint64_t have[IO_BLOCKS_MAX / 64], same[IO_BLOCKS_MAX / 64], written[IO_BLOCKS_MAX / 64];
static uint32_t have_crc[IO_BLOCKS_MAX], crc[IO_BLOCKS_MAX];
static struct content_hash hash[IO_BLOCKS_MAX];

static void copy_begin(void)
{
    struct store_copy_look look;

    CHECK_EQ(store_copy_new(pg, 1, OBJECT, &copy), 0);
    store_copy_look_start(&look, copy, NULL);
    CHECK_EQ(rig_wait(&rig, &look.op), 0);
}

static const uint64_t *damaged; /* what the source has not got of a window; NULL: it has all */

/* The source's window of 64 blocks: block i is full of source[i]; -1: not written. Of what the store says it
 * has only a hash comes. Returns how many blocks came; the write's result in *ret. */
static int window(const int source[64], int *ret)
{
    struct buf *buf = buf_new(rig.core.arena, 64 * BLOCK_SIZE);
    struct store_copy_write w = {0};
    struct content_key key;
    int came = 0;

    memset(written, 0, sizeof(written));
    memset(same, 0, sizeof(same));
    store_copy_have(copy, 0, 64, have, have_crc, &key);
    struct content_hasher *hasher = content_hasher_new(&key);
    for (int i = 0; i < 64; i++) {
        if (source[i] < 0)
            continue;
        uint8_t *block = buf->data + came * BLOCK_SIZE;
        written[0] |= 1ull << i;
        crc[i] = block_fill(block, source[i]);
        content_hash(hasher, block, BLOCK_SIZE, &hash[i]);
        if (have[0] >> i & 1 && have_crc[i] == crc[i])
            same[0] |= 1ull << i;
        else
            came++;
    }
    content_hasher_free(hasher);
    struct slice data = {buf, 0, (uint32_t)came * BLOCK_SIZE};
    store_copy_write_start(&w, copy, 0, 64, written, damaged, 1, same, hash, crc, &data, NULL);
    *ret = rig_wait(&rig, &w.op);
    buf_unref(buf);
    return came;
}

static int end_is(uint64_t index)
{
    struct store_copy_end e = {0};

    store_copy_end_start(&e, copy, index, NULL);
    return rig_wait(&rig, &e.op);
}

static void end(uint64_t index)
{
    CHECK_EQ(end_is(index), 0);
}

static void check_is(const int source[64])
{
    for (int start = 0; start < 2; start++) {
        for (uint32_t i = 0; i < 64; i++)
            CHECK_EQ(block_is(OBJECT, i, false), source[i]);
        reopen();
    }
}

static void destage_all(void)
{
    /* The cache is small, so others push it out; until the ring is full, when it cannot go. */
    for (uint64_t object = 100; object < 104; object++)
        for (uint32_t first = 0; first < 512; first += 64) {
            int rc = write_blocks(object, first, 64);
            CHECK(rc == 0 || rc == -ERR_RETRY);
            apply_all();
        }
}

/* 64 blocks, block i full of 1 + i, in chunks and on a page. */
static void set_up_object(int source[64])
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(OBJECT, 0, 64), 0);
    apply_all();
    destage_all();
    reopen();
    for (int i = 0; i < 64; i++)
        source[i] = 1 + i;
    copy_begin();
}

/* Only what differs comes, and only its chunk is written; the others stay where they are. */
static void only_what_differs(void)
{
    int source[64], rc;

    set_up_object(source);
    source[5] = 200;
    struct store_counters before = *store_counters(s);
    uint64_t free_bytes = store_space(s).free_bytes;
    CHECK_EQ(window(source, &rc), 1);
    CHECK_EQ(rc, 0);
    CHECK_EQ(store_counters(s)->copy_written - before.copy_written, 16);
    CHECK_EQ(store_counters(s)->copy_moved - before.copy_moved, 15);
    CHECK_EQ(store_counters(s)->copy_shared - before.copy_shared, 48);
    CHECK_EQ(block_is(OBJECT, 5, false), 6); /* until the end */
    end(pg->last_index + 1);
    CHECK_EQ(store_space(s).free_bytes, free_bytes);
    check_is(source);
    tear_down();
}

/* A window that comes again is what came last, and lacks nothing that it lacked before. */
static void a_window_comes_again(void)
{
    static const uint64_t lacks = 1ull << 5;
    int source[64], rc;

    set_up_object(source);
    source[5] = source[20] = 200;
    damaged = &lacks;
    (void)window(source, &rc);
    damaged = NULL;
    CHECK_EQ(rc, 0);
    (void)window(source, &rc);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    struct object *o = object_find(pg_of(pg), 1, OBJECT);
    CHECK_EQ(page_map_get(&o->map, 0).lost, 0);
    check_is(source);
    tear_down();
}

/* The power fails when the copy is there: of the device's cache nothing is left. */
static void outlives_the_power(void)
{
    int source[64], rc;

    set_up_object(source);
    for (int i = 0; i < 64; i += 2)
        source[i] = 100 + i;
    rig_watch_media(&rig);
    CHECK_EQ(window(source, &rc), 32);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    uint8_t *left = rig.device.media;
    rig.device.media = NULL;
    CHECK_EQ(close_store(), 0);
    memcpy(rig.device.data, left, rig.device.blk.size_bytes);
    free(left);
    CHECK_EQ(open_store(), 0);
    check_is(source);
    tear_down();
}

/* A copy that is thrown away leaves the old object, and no chunk is lost or freed that is in use. */
static void thrown_away(void)
{
    int source[64], rc, old[64];

    set_up_object(source);
    memcpy(old, source, sizeof(old));
    uint64_t free_bytes = store_space(s).free_bytes;
    source[5] = 200;
    CHECK_EQ(window(source, &rc), 1);
    CHECK_EQ(window(source, &rc), 1); /* sent twice */
    end(0);
    CHECK_EQ(store_space(s).free_bytes, free_bytes);
    check_is(old);
    tear_down();
}

/* An object that has gone with its image, and left nothing behind, does not come back by a copy that began
 * before; of others it is made anew. */
static void what_goes_stays_away(void (*remove)(void), bool recovers)
{
    struct store_pg_record record = {.pg = 1, .replica = 1, .birth = 3, .state = STORE_PG_RECOVERING};
    int source[64], rc;

    set_up_object(source);
    for (int i = 0; i < 64; i++)
        source[i] = 100 + i;
    CHECK_EQ(window(source, &rc), 64);
    CHECK_EQ(rc, 0);
    if (recovers)
        CHECK_EQ(write_record(&record), 0);
    remove();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK(!object_find(pg_of(pg), 1, OBJECT));
    CHECK_EQ(end_is(1), -ERR_CONFLICT);
    CHECK(!object_find(pg_of(pg), 1, OBJECT));
}

static void remove_by_log(void)
{
    CHECK_EQ(
        put((struct entry){.type = ENTRY_IMAGE, .image = 1, .incarnation = 1, .flags = ENTRY_IMAGE_DELETED},
            0),
        0);
    apply_all();
}

static void remove_by_record(void)
{
    struct image_record gone = {.image = 1, .incarnation = 1, .index = pg->last_index + 1, .deleted = true};

    CHECK_EQ(store_recover_image(pg, &gone), 0);
}

static void remove_without_record(void)
{
    CHECK_EQ(store_recover_forget(pg, 1, pg->last_index + 1), 0);
}

/* The source of the recovery was split while we were away. */
static void shed(void)
{
    uint32_t split_count = 2;

    while (placement_pg_number(1, OBJECT, split_count) == 1)
        split_count++;
    CHECK_EQ(store_recover_shed(pg, split_count, pg->last_index + 1), 0);
}

/* Nor if the replica has been recovered meanwhile, or still recovers. */
static void what_was_removed_stays_away(void)
{
    what_goes_stays_away(remove_by_log, false);
    CHECK_EQ(store_space(s).used_bytes, 0);
    tear_down();
    for (int recovers = 0; recovers < 2; recovers++) {
        what_goes_stays_away(remove_by_record, recovers);
        tear_down();
        what_goes_stays_away(remove_without_record, recovers);
        tear_down();
        what_goes_stays_away(shed, recovers);
        tear_down();
    }
}

/* Of an object that is not here nothing tells that it has been cleared, or its image cut, since its copy
 * began. */
static void what_was_cleared_stays_away(void)
{
    struct entry entries[] = {
        {.type = ENTRY_CLEAR, .image = 1, .object = OBJECT, .block_count = BLOCKS_PER_OBJECT},
        {.type = ENTRY_IMAGE, .image = 1, .incarnation = 1, .generation = 2, .size_bytes = OBJECT_SIZE},
    };
    int source[64], rc;

    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        set_up();
        for (int b = 0; b < 64; b++)
            source[b] = 100 + b;
        copy_begin();
        CHECK_EQ(window(source, &rc), 64);
        CHECK_EQ(rc, 0);
        CHECK_EQ(put(entries[i], 0), 0);
        apply_all();
        CHECK_EQ(end_is(1), -ERR_CONFLICT);
        CHECK(!object_find(pg_of(pg), 1, OBJECT));
        /* What was so before it began is not in its way. */
        copy_begin();
        CHECK_EQ(window(source, &rc), 64);
        CHECK_EQ(end_is(pg->applied_index), 0);
        tear_down();
    }
}

/* What is cleared while a copy of what was not here takes its place is cleared of the copy. */
static void what_is_cleared_meanwhile_stays_so(void)
{
    struct entry entries[] = {
        {.type = ENTRY_CLEAR, .image = 1, .object = OBJECT, .first_block = 8, .block_count = 56},
        {.type = ENTRY_CLEAR, .image = 1, .object = OBJECT, .block_count = BLOCKS_PER_OBJECT},
        {.type = ENTRY_IMAGE,
         .image = 1,
         .incarnation = 1,
         .generation = 2,
         .size_bytes = OBJECT * (uint64_t)OBJECT_SIZE + 8 * BLOCK_SIZE},
        {.type = ENTRY_IMAGE, .image = 1, .incarnation = 1, .flags = ENTRY_IMAGE_DELETED},
    };
    int source[64], rc;

    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        struct store_copy_end e = {0};
        int left = i % 2 ? 0 : 8;
        set_up();
        CHECK_EQ(put((struct entry){.type = ENTRY_NOOP}, 0), 0);
        apply_all();
        for (int b = 0; b < 64; b++)
            source[b] = 100 + b;
        copy_begin();
        CHECK_EQ(window(source, &rc), 64);
        CHECK_EQ(put(entries[i], 0), 0);
        rig_settle(&rig);
        store_copy_end_start(&e, copy, 1, NULL);
        while (op_live(&e.op) && e.op.state == 0)
            rig_turn(&rig);
        CHECK(op_live(&e.op));
        store_apply(pg, 2);
        CHECK_EQ(pg->applied_index, 2);
        CHECK(op_live(&e.op));
        CHECK_EQ(rig_wait(&rig, &e.op), 0);
        for (int start = 0; start < 2; start++) {
            for (int b = 0; b < 64; b++)
                CHECK_EQ(block_is(OBJECT, (uint32_t)b, false), b < left ? source[b] : -1);
            reopen();
            apply_all();
        }
        tear_down();
    }
}

/* Nor of what a recovery has passed since: it brings records, and then its base. */
static void what_a_recovery_passed_stays_away(void)
{
    const struct image_record cut = {
        .image = 1, .incarnation = 1, .generation = 2, .size_bytes = OBJECT_SIZE, .index = 5};
    int source[64], rc;

    for (int i = 0; i < 2; i++) {
        set_up();
        for (int b = 0; b < 64; b++)
            source[b] = 100 + b;
        copy_begin();
        CHECK_EQ(window(source, &rc), 64);
        CHECK_EQ(rc, 0);
        if (i == 0)
            CHECK_EQ(store_recover_image(pg, &cut), 0);
        else
            store_reset_base(pg, cut.index, 1, &ALONE, 0);
        CHECK_EQ(end_is(1), -ERR_CONFLICT);
        CHECK(!object_find(pg_of(pg), 1, OBJECT));
        CHECK_EQ(pg->gone_index, cut.index); /* and later copies are of sources that have come to it */
        tear_down();
    }
}

/* What the source has not written is not written here, in chunks that stay as well as in those that go. */
static void unwritten_becomes_unwritten(void)
{
    int source[64], rc;

    set_up_object(source);
    source[3] = -1;
    source[17] = 201;
    source[20] = -1;
    for (int i = 32; i < 48; i++)
        source[i] = -1;
    CHECK_EQ(window(source, &rc), 1);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    check_is(source);
    tear_down();
}

/* A block that is damaged here, as its reading for a mixed chunk shows, comes from the source. */
static void damaged_is_different(void)
{
    int source[64], rc;
    uint8_t byte = 10;

    set_up_object(source);
    /* Block 9 of the object on the device: the only block full of tens. */
    for (uint64_t at = 0; at < SIZE; at += BLOCK_SIZE) {
        uint8_t *block = rig.device.data + at;
        if (block[0] == byte && !memcmp(block, block + 1, BLOCK_SIZE - 1) && block[BLOCK_SIZE - 1] == byte)
            block[77] ^= 1;
    }
    source[5] = 200;
    CHECK_EQ(window(source, &rc), 1);
    CHECK_EQ(rc, -ERR_CONFLICT);
    CHECK_EQ(window(source, &rc), 2);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    check_is(source);
    tear_down();
}

/* What is only in the log, applied or not, will do as well: single blocks in the ring, or a chunk that the
 * entry brought, which is not the object's. */
static void the_log_will_do(void)
{
    for (int how = 0; how < 4; how++) {
        int source[64], rc, first = how & 2 ? 16 : 4, count = how & 2 ? 16 : 3;

        set_up_object(source);
        end(0);
        fill = 120;
        CHECK_EQ(write_blocks(OBJECT, (uint32_t)first, (uint32_t)count), 0);
        rig_settle(&rig);
        if (how & 1)
            apply_all();
        reopen();
        for (int i = 0; i < count; i++)
            source[first + i] = 120 + i;
        copy_begin();
        CHECK_EQ(window(source, &rc), 0);
        CHECK_EQ(rc, 0);
        uint64_t index = pg->last_index + 1;
        end(index);
        store_reset_base(pg, index, 1, &ALONE, 0);
        CHECK_EQ(write_record(&(struct store_pg_record){
                     .pg = 1, .replica = 1, .birth = 3, .base_index = index, .base_term = 1}),
                 0);
        check_is(source);
        tear_down();
    }
}

/* Blocks of equal checksum, as all that end with their own are: those that differ come when they were seen
 * to differ, be they in a chunk of their own or not, or in the log. */
static void equal_checksums_prove_nothing(void)
{
    int source[64], rc;

    sealed = true;
    set_up_object(source);
    for (int i = 0; i < 64; i++)
        source[i] += i % 16 == 5 && i < 40 ? 100 : 0;
    CHECK_EQ(window(source, &rc), 0);
    CHECK_EQ(rc, -ERR_CONFLICT);
    CHECK_EQ(store_counters(s)->checksum_errors, 0);
    CHECK_EQ(window(source, &rc), 3);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    for (uint32_t i = 0; i < 64; i++)
        CHECK_EQ(block_is(OBJECT, i, false), source[i]);

    fill = 33;
    CHECK_EQ(write_blocks(OBJECT, 8, 2), 0);
    rig_settle(&rig);
    copy_begin();
    source[9] = 34;
    CHECK_EQ(window(source, &rc), 0);
    CHECK_EQ(rc, -ERR_CONFLICT);
    CHECK_EQ(window(source, &rc), 1);
    CHECK_EQ(rc, 0);
    CHECK_EQ(end_is(0), 0);
    tear_down();
    sealed = false;
}

/* A copy that waits for its source does not keep destage from the object, nor costs the log its past; and if
 * destage was there, it is for nothing. */
static void destage_need_not_wait(void)
{
    int source[64], rc;

    set_up_object(source);
    source[5] = 200;
    CHECK_EQ(window(source, &rc), 1);
    CHECK_EQ(rc, 0);
    fill = 180;
    CHECK_EQ(write_blocks(OBJECT, 20, 1), 0);
    apply_all();
    uint64_t first = pg->first_index;
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    CHECK_EQ(pg->first_index, first);
    CHECK_EQ(block_is(OBJECT, 20, false), 180);
    CHECK_EQ(end_is(pg->last_index + 1), -ERR_CONFLICT);
    CHECK_EQ(block_is(OBJECT, 5, false), 6);

    copy_begin();
    CHECK_EQ(window(source, &rc), 2);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    check_is(source);
    tear_down();
}

/* With the checksums of the old object not in memory, and with a page that cannot be had. */
static void pages_are_read(void)
{
    int source[64], rc;

    for (int bad = 0; bad < 2; bad++) {
        set_up_object(source);
        CHECK_EQ(end_is(0), 0);
        struct object *o = object_find(pg_of(pg), 1, OBJECT);
        page_drop(o);
        if (bad)
            rig.device.data[block_offset(slot_place(s, o->slot)) + 1000] ^= 1;
        copy_begin();
        CHECK_EQ(window(source, &rc), bad ? 64 : 0);
        CHECK_EQ(rc, 0);
        end(pg->last_index + 1);
        check_is(source);
        tear_down();
    }
}

/* Who does not look is sent everything. */
static void nothing_is_here_unseen(void)
{
    int source[64], rc;

    set_up_object(source);
    CHECK_EQ(end_is(0), 0);
    CHECK_EQ(store_copy_new(pg, 1, OBJECT, &copy), 0);
    CHECK_EQ(window(source, &rc), 64);
    CHECK_EQ(rc, 0);
    end(pg->last_index + 1);
    check_is(source);
    tear_down();
}

/* An object that is only being made, by a copy, stays while what else was to make it is cut off. */
static void what_is_cut_off_leaves_a_copy_alone(void)
{
    struct store_copy_end e = {0};
    struct object *o = NULL;
    int source[64], rc;

    set_up();
    for (int i = 0; i < 64; i++)
        source[i] = 100 + i;
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    apply_all();
    copy_begin();
    CHECK_EQ(window(source, &rc), 64);
    CHECK_EQ(rc, 0);
    store_copy_end_start(&e, copy, 1, NULL);
    while (op_live(&e.op) && !(o && o->busy)) {
        rig_turn(&rig);
        o = object_find(pg_of(pg), 1, OBJECT);
    }
    CHECK(op_live(&e.op));
    CHECK_EQ(write_blocks(OBJECT, 0, 1), 0);
    CHECK_EQ(put((struct entry){.index = 2, .term = 2, .type = ENTRY_NOOP}, 0), 0);
    CHECK(object_find(pg_of(pg), 1, OBJECT) == o);
    CHECK_EQ(rig_wait(&rig, &e.op), 0);
    check_is(source);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(only_what_differs);
    TEST(a_window_comes_again);
    TEST(outlives_the_power);
    TEST(thrown_away);
    TEST(what_was_removed_stays_away);
    TEST(what_was_cleared_stays_away);
    TEST(what_a_recovery_passed_stays_away);
    TEST(what_is_cleared_meanwhile_stays_so);
    TEST(unwritten_becomes_unwritten);
    TEST(damaged_is_different);
    TEST(the_log_will_do);
    TEST(what_is_cut_off_leaves_a_copy_alone);
    TEST(equal_checksums_prove_nothing);
    TEST(destage_need_not_wait);
    TEST(pages_are_read);
    TEST(nothing_is_here_unseen);
    return tap_done();
}
