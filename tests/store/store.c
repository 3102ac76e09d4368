/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's contract, piece by piece, on a device in memory: label, PG records, log, apply, reads, clears,
 * images, full devices, removal, copies, repair, and a failure of each request in turn.
 */
#include <time.h>

#include "store/internal.h"
#include "tests/store/slice.h"

static void labels_are_written_and_read(void)
{
    struct device_label label = {.osd = 7, .start_counter = 1};
    struct device_write w = {0};
    struct device_read r = {0};

    rig_init(&rig, 4u << 20, 1u << 20);
    CHECK_EQ(device_layout(1u << 20, 1, &label), -ERR_TOO_SMALL);
    CHECK_EQ(device_layout(1ull << 40, 4, &label), 0);
    CHECK_EQ(label.slice_offset[1] - label.slice_offset[0], label.slice_size);
    label.slice_count = 0;
    CHECK_EQ(device_layout(1u << 20, 0, &label), -ERR_INVALID);
    device_read_start(&r, &rig.core, &rig.device.blk, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), -ERR_FORMAT);
    /* A label of a larger device is not taken; nor is that called no label, or somebody would format it. */
    CHECK_EQ(device_layout(1ull << 40, 4, &label), 0);
    device_write_start(&w, &rig.core, &rig.device.blk, &label, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    device_read_start(&r, &rig.core, &rig.device.blk, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), -ERR_TOO_SMALL);
    rig_fini(&rig);

    rig_init(&rig, 4u << 20, 200u << 20);
    CHECK_EQ(device_layout(200u << 20, 1, &label), 0);
    for (uint64_t counter = 1; counter <= 3; counter++) {
        label.start_counter = counter;
        device_write_start(&w, &rig.core, &rig.device.blk, &label, NULL);
        CHECK_EQ(rig_wait(&rig, &w.op), 0);
        /* Either copy will do. */
        memset(rig.device.data + (counter & 1 ? 0 : 64 << 10), 0xee, BLOCK_SIZE);
        device_read_start(&r, &rig.core, &rig.device.blk, NULL);
        CHECK_EQ(rig_wait(&rig, &r.op), 0);
        CHECK_EQ(r.ret_label.start_counter, counter);
        CHECK_EQ(r.ret_label.osd, 7);
    }
    rig_fini(&rig);
}

static void records_survive(void)
{
    set_up();
    struct store_pg_record record = pg->record;
    record.term = 9;
    record.vote = 4;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(pg->record.term, 9);
    reopen();
    CHECK_EQ(pg->record.term, 9);
    CHECK_EQ(pg->record.vote, 4);
    CHECK_EQ(pg->record.birth, 3);
    /* A table block of which one copy is unreadable. */
    CHECK_EQ(close_store(), 0);
    memset(rig.device.data + 16 * BLOCK_SIZE, 0x55, BLOCK_SIZE);
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->record.term, 9);
    CHECK_EQ(close_store(), 0);
    config.slice = 1;
    CHECK_EQ(open_store(), -ERR_IDENTITY);
    config.slice = 0;
    config.osd_uuid[3] = 1;
    CHECK_EQ(open_store(), -ERR_IDENTITY);
    tear_down();
}

static void blocks_are_read_back(void)
{
    set_up();
    fill = 10;
    CHECK_EQ(write_blocks(5, 3, 4), 0);
    CHECK_EQ(pg->durable_index, 0);
    CHECK_EQ(block_is(5, 4, false), -1);
    CHECK_EQ(block_is(5, 4, true), 11);
    rig_settle(&rig);
    CHECK_EQ(pg->durable_index, 1);
    store_apply(pg, 1);
    CHECK_EQ(block_is(5, 4, false), 11);
    CHECK_EQ(block_is(5, 2, false), -1);
    /* A newer one, and a cut. */
    CHECK_EQ(write_blocks(5, 4, 1), 0);
    CHECK_EQ(block_is(5, 4, true), 11);
    CHECK_EQ(put((struct entry){.index = 2, .term = 2, .image = 1, .object = 5, .first_block = 4}, 1), 0);
    CHECK_EQ(pg->last_index, 2);
    CHECK_EQ(store_log_term(pg, 2), 2);
    CHECK_EQ(store_log_term(pg, 3), 0);
    apply_all();
    CHECK_EQ(block_is(5, 4, false), 12);
    CHECK_EQ(
        put(
            (struct entry){
                .type = ENTRY_CLEAR, .image = 1, .object = 5, .first_block = 3, .block_count = 1, .term = 2},
            0),
        0);
    apply_all();
    CHECK_EQ(block_is(5, 3, false), -1);
    CHECK_EQ(block_is(5, 6, false), 13);
    reopen();
    CHECK_EQ(pg->last_index, 3);
    CHECK_EQ(pg->applied_index, 0);
    CHECK_EQ(store_log_term(pg, 2), 2);
    store_apply(pg, 3);
    CHECK_EQ(block_is(5, 3, false), -1);
    CHECK_EQ(block_is(5, 4, false), 12);
    uint64_t written[BLOCKS_PER_OBJECT / 64];
    CHECK(store_block_status(pg, 1, 5, written));
    CHECK_EQ(written[0], 7 << 4);
    CHECK(!store_block_status(pg, 1, 6, written));
    tear_down();
}

static void images_truncate_and_delete(void)
{
    set_up();
    fill = 20;
    for (uint64_t n = 0; n < 3; n++)
        CHECK_EQ(write_blocks(n, 100, 8), 0);
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .image = 1,
                                .incarnation = 5,
                                .generation = 1,
                                .size_bytes = OBJECT_SIZE + 104 * BLOCK_SIZE - 1},
                 0),
             0);
    apply_all();
    CHECK_EQ(store_image_get(pg, 1)->incarnation, 5);
    CHECK_EQ(block_is(0, 107, false), 27);
    CHECK_EQ(block_is(1, 103, false), 24);
    CHECK_EQ(block_is(1, 104, false), -1);
    CHECK_EQ(block_is(2, 100, false), -1);
    /* The largest number is a size like others. */
    CHECK_EQ(
        put(
            (struct entry){
                .type = ENTRY_IMAGE, .image = 1, .incarnation = 5, .generation = 1, .size_bytes = UINT64_MAX},
            0),
        0);
    apply_all();
    CHECK_EQ(block_is(0, 107, false), 27);
    CHECK_EQ(block_is(1, 103, false), 24);
    /* Older writers' records have no effect. */
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE, .image = 1, .incarnation = 4, .generation = 1}, 0), 0);
    apply_all();
    CHECK_EQ(store_image_get(pg, 1)->incarnation, 5);
    CHECK_EQ(block_is(0, 107, false), 27);
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .image = 1,
                                .flags = ENTRY_IMAGE_DELETED,
                                .incarnation = 6,
                                .generation = 2},
                 0),
             0);
    apply_all();
    CHECK_EQ(block_is(0, 107, false), -1);
    CHECK(store_image_get(pg, 1)->deleted);
    tear_down();
}

static int image_entry(uint64_t image, uint32_t flags, uint64_t generation)
{
    return put(
        (struct entry){
            .type = ENTRY_IMAGE, .image = image, .flags = flags, .incarnation = 1, .generation = generation},
        0);
}

static int forget_entry(uint64_t image, uint64_t epoch)
{
    return put((struct entry){.type = ENTRY_FORGET, .image = image, .epoch = epoch}, 0);
}

/* The record of a deleted image goes, for good; the floor stays. */
static void images_are_forgotten(void)
{
    set_up();
    uint64_t free_bytes = store_space(s).free_bytes;
    for (uint64_t image = 1; image <= 3; image++)
        CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                    .image = image,
                                    .incarnation = 1,
                                    .generation = 1,
                                    .size_bytes = OBJECT_SIZE},
                     0),
                 0);
    fill = 20;
    CHECK_EQ(write_blocks(0, 0, 8), 0);
    CHECK_EQ(image_entry(1, ENTRY_IMAGE_DELETED, 2), 0);
    apply_all();
    CHECK_EQ(pg->tombstone_count, 1);
    rig_settle(&rig);
    CHECK(store_complete_index(pg) >= store_image_get(pg, 1)->index);
    CHECK_EQ(forget_entry(1, 40), 0);
    CHECK_EQ(forget_entry(9, 30), 0); /* nothing is known of it: the floor alone, and that does not fall */
    apply_all();
    CHECK(!store_image_get(pg, 1));
    CHECK_EQ(store_image_next(pg, 0)->image, 2);
    CHECK_EQ(pg->tombstone_count, 0);
    CHECK_EQ(pg->floor_epoch, 40);
    CHECK_EQ(pg->object_count, 0);
    CHECK_EQ(store_space(s).free_bytes, free_bytes);
    for (int i = 0; i < 2; i++) {
        reopen();
        store_apply(pg, pg->last_index);
        CHECK(!store_image_get(pg, 1));
        CHECK(store_image_get(pg, 2) && store_image_get(pg, 3));
        CHECK_EQ(pg->floor_epoch, 40);
        CHECK_EQ(pg->tombstone_count, 0);
    }
    /* It takes what it was told too late, or never, with it. */
    fill = 40;
    CHECK_EQ(put((struct entry){.image = 2, .object = 5}, 4), 0);
    CHECK_EQ(forget_entry(2, 50), 0);
    apply_all();
    CHECK(!store_image_get(pg, 2));
    CHECK_EQ(pg->object_count, 0);
    CHECK_EQ(pg->floor_epoch, 50);
    tear_down();
}

/* When there are as many records as there may be, no image gets one more; what deletes and forgets works. */
static void records_are_used_up(void)
{
    set_up();
    uint64_t image = 0;
    int rc;
    while ((rc = image_entry(++image, 0, 1)) == 0 || rc == -ERR_RETRY) {
        image -= rc != 0;
        if (rc || image % 64 == 0)
            apply_all();
    }
    CHECK_EQ(rc, -ERR_NO_RECORDS);
    CHECK_EQ(image_entry(image, ENTRY_IMAGE_DELETED, 2), 0);
    CHECK_EQ(image_entry(1, ENTRY_IMAGE_DELETED, 2), 0);
    CHECK_EQ(image_entry(2, 0, 2), 0); /* has its record */
    CHECK_EQ(forget_entry(image + 1, 7), 0);
    apply_all();
    CHECK_EQ(pg->tombstone_count, 2);
    CHECK_EQ(image_entry(image + 2, 0, 1), -ERR_NO_RECORDS);
    CHECK_EQ(forget_entry(1, 8), 0);
    CHECK_EQ(forget_entry(image, 9), 0);
    apply_all();
    CHECK_EQ(pg->tombstone_count, 0);
    CHECK_EQ(image_entry(image + 2, 0, 1), 0);
    tear_down();
}

/* A replica that missed it all is told by its source, and is not whole before the objects have gone. */
static void recovery_forgets(void)
{
    set_up();
    fill = 20;
    CHECK_EQ(image_entry(1, 0, 1), 0);
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE, .image = 2, .incarnation = 1, .generation = 1}, 0), 0);
    CHECK_EQ(write_blocks(0, 0, 8), 0);
    CHECK_EQ(put((struct entry){.image = 2}, 4), 0);
    apply_all();
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(store_recover_forget(pg, 1, 70), 0);
    CHECK_EQ(store_recover_forget(pg, 77, 70), 0);
    store_recover_floor(pg, 12);
    store_recover_floor(pg, 11);
    CHECK(!store_image_get(pg, 1));
    CHECK_EQ(block_is(0, 0, false), -1);
    while (!store_recover_settled(pg))
        rig_settle(&rig);
    CHECK_EQ(pg->object_count, 1);
    store_reset_base(pg, 70, 1, &ALONE, 0);
    record.state = STORE_PG_NORMAL;
    record.base_index = 70;
    record.base_term = 1;
    CHECK_EQ(write_record(&record), 0);
    reopen();
    CHECK(!store_image_get(pg, 1));
    CHECK(store_image_get(pg, 2));
    CHECK_EQ(pg->object_count, 1);
    CHECK_EQ(pg->floor_epoch, 12);
    tear_down();
}

/* What the dropped log would have saved later is saved, and holds nothing up. */
static void recovery_keeps_records(void)
{
    set_up();
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE, .image = 2, .incarnation = 5, .generation = 1}, 0), 0);
    apply_all();
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    store_reset_base(pg, 70, 1, &ALONE, 0);
    record.state = STORE_PG_NORMAL;
    record.base_index = 70;
    record.base_term = 1;
    CHECK_EQ(write_record(&record), 0);
    reopen();
    CHECK(store_image_get(pg, 2) && store_image_get(pg, 2)->incarnation == 5);
    CHECK_EQ(pg->applied_index, 70);
    tear_down();
}

/* Fills the device, then makes room again: it must never be stuck. */
static void a_full_device_works_on(void)
{
    set_up();
    int rc = 0;
    uint64_t objects = 0, retries = 0;
    for (uint64_t n = 0; n < 20000 && rc != -ERR_NO_SPACE; n++) {
        rc = write_blocks(objects, (uint32_t)(n % 32) * 16, 1);
        if (rc == 0 && n % 32 == 31)
            objects++;
        if (rc == -ERR_RETRY) {
            n--;
            CHECK(++retries < 100000);
        }
        apply_all();
    }
    CHECK_EQ(rc, -ERR_NO_SPACE);
    CHECK(objects > 3);
    CHECK_EQ(store_space(s).free_bytes, 0);
    /* Overwrites of what is there, reads and clears go on. */
    for (uint32_t n = 0; n < 2000; n++) {
        do {
            rc = write_blocks(n % objects, n % 32 * 16, 1);
            apply_all();
        } while (rc == -ERR_RETRY);
        CHECK_EQ(rc, 0);
    }
    CHECK(block_is(1, 16, false) >= 0);
    for (uint64_t o = 0; o <= objects; o++)
        CHECK_EQ(put(
                     (struct entry){
                         .type = ENTRY_CLEAR, .image = 1, .object = o, .block_count = BLOCKS_PER_OBJECT},
                     0),
                 0);
    apply_all();
    /* Space is back when the clears have been destaged, which the ring's use brings about. */
    for (uint32_t n = 0; n < 3000; n++) {
        CHECK(write_blocks(0, 0, 1) != -ERR_STOPPED);
        apply_all();
    }
    CHECK(store_space(s).free_bytes > 4u << 20);
    CHECK_EQ(write_blocks(2, 0, 16), 0);
    CHECK_EQ(store_failed(s), 0);
    tear_down();
}

/* New objects, and hollow ones among them that take a place and no chunk, until nothing more goes. */
static int fill_objects(bool hollow)
{
    struct entry clear = {.type = ENTRY_CLEAR, .image = 1, .block_count = BLOCKS_PER_OBJECT};
    uint32_t retries = 0;
    int rc = 0;

    for (; !rc; clear.object++) {
        while ((rc = write_blocks(clear.object, 0, 1)) == -ERR_RETRY && ++retries < 1000)
            apply_all();
        apply_all();
        while (!rc && hollow && (rc = put(clear, 0)) == -ERR_RETRY && ++retries < 1000)
            apply_all();
        apply_all();
    }
    return rc;
}

/* What is written and waits for destage takes one place, not two: a device is full when its chunks are used
 * up. */
static void places_of_objects_are_counted_once(void)
{
    set_up();
    s->g.objects_max = (uint32_t)s->g.chunk_count; /* no geometry has fewer */
    CHECK_EQ(fill_objects(false), -ERR_NO_SPACE);
    CHECK(s->slots_reserved > 50);
    CHECK(space_available(s) <= 1 && space_slots_left(s) > 0);
    tear_down();
}

/* A leader that hears of free chunks only would propose what no member takes. */
static void no_places_for_objects_is_no_space(void)
{
    set_up();
    CHECK_EQ(fill_objects(true), -ERR_NO_SPACE);
    CHECK(space_available(s) > 16);
    CHECK_EQ(store_space(s).free_bytes, 0);
    struct store_copy *copy;
    CHECK_EQ(store_copy_new(pg, 1, 1u << 20, &copy), -ERR_NO_SPACE);
    /* Who has a place keeps it. */
    CHECK_EQ(write_blocks(0, 0, 1), 0);
    tear_down();
}

static void destage_all(void)
{
    for (uint32_t i = 0; i < 100 && store_complete_index(pg) < pg->last_index; i++) {
        store_destage_soon(pg);
        rig_settle(&rig);
    }
    CHECK_EQ(store_complete_index(pg), pg->last_index);
}

/* Of a shard that has a million objects, images, and thousands of PGs: requests come in between. */
static void a_checkpoint_takes_many_turns(void)
{
    uint64_t images = 0, last = 0, most = 0;

    set_up();
    while (images < 2000) {
        CHECK_EQ(image_entry(++images, 0, 1), 0);
        if (images % 50 == 0) {
            put_hollow(images);
            apply_all();
        }
    }
    destage_all();
    s->ckpt_due = true;
    s->destage.ckpt_records = 0;
    destage_wake(s);
    for (uint64_t made = store_counters(s)->checkpoints; store_counters(s)->checkpoints == made;) {
        rig_turn(&rig);
        most = MAX(most, s->destage.ckpt_records - last);
        last = s->destage.ckpt_records;
    }
    CHECK_EQ(last, 1 + images + pg->object_count);
    CHECK(most > 0 && most <= 1000);
    reopen();
    CHECK(s->ckpt_replay[0] > 1 || s->ckpt_replay[1] > 1);
    CHECK_EQ(pg->object_count, images / 50);
    for (uint64_t image = 1; image <= images; image++)
        CHECK(store_image_get(pg, image));
    tear_down();
}

/* On a device with a chunk to spare objects are written and cleared before they are destaged, one after the
 * other. Each needs no chunk any more, but a page: destage must find room for all of them. */
static void what_is_cleared_at_once_has_a_place(void)
{
    struct entry clear = {.type = ENTRY_CLEAR, .image = 1, .block_count = BLOCKS_PER_OBJECT};
    uint32_t count = 0;

    set_up();
    s->g.objects_max = UINT32_MAX;
    CHECK_EQ(fill_objects(false), -ERR_NO_SPACE);
    destage_all();
    for (; clear.object < 3; clear.object++) {
        CHECK_EQ(put(clear, 0), 0);
        apply_all();
    }
    destage_all();
    for (clear.object = 1000; write_blocks(clear.object, 0, 1) == 0; clear.object++, count++) {
        CHECK_EQ(put(clear, 0), 0);
        apply_all();
    }
    CHECK(count > SLOTS_PER_CHUNK);
    destage_all();
    tear_down();
}

/* What is not applied is copied forward only as long as that makes room. */
static void a_ring_full_of_waiting_entries_is_left_alone(void)
{
    for (uint32_t blocks = 1; blocks <= 64; blocks *= 4) {
        int rc;
        set_up();
        for (uint32_t n = 0; (rc = write_blocks(n % 8, n % 7 * 64, blocks)) == 0; n++)
            rig_settle(&rig);
        CHECK_EQ(rc, -ERR_RETRY);
        rig_settle(&rig);
        /* Much of the ring is theirs, the headers of small ones are not in the way. */
        CHECK(pg->last_index * blocks > 550);
        apply_all();
        CHECK_EQ(write_blocks(0, 0, 1), 0);
        tear_down();
    }
}

/* Writes until the tail has passed the first entry; how much of the ring was in use then, in percent. */
static uint64_t used_when_trimmed(uint64_t wanted_index)
{
    uint64_t used = 0;

    set_up();
    store_keep(pg, wanted_index);
    while (pg->first_index == 1) {
        used = pg->ring_bytes;
        CHECK_EQ(write_blocks(pg->last_index % 4, 0, 16), 0);
        apply_all();
    }
    tear_down();
    return used * 100 / (8u << 20);
}

/* What a member in contact lacks stays longer than what nobody does, but not for ever. */
static void what_members_lack_is_kept_longer(void)
{
    uint64_t nobody = used_when_trimmed(0), later = used_when_trimmed(40), first = used_when_trimmed(1);

    CHECK_EQ(nobody, later);
    CHECK(first >= nobody + 5);
    CHECK(first < 90);
}

/* `id` takes what it can get and applies nothing. */
static void stick(uint64_t id, uint32_t blocks)
{
    struct entry probe = {.type = ENTRY_WRITE, .block_count = blocks};

    CHECK_EQ(write_record(&(struct store_pg_record){.pg = id, .replica = 1, .birth = 3}), 0);
    pg = store_pg_find(s, id);
    for (uint32_t n = 0; n < 10000 && store_can_append(pg, &probe) == 0; n++) {
        CHECK_EQ(write_blocks(n % 4, n % 7 * 64, blocks), 0);
        rig_settle(&rig);
    }
    CHECK(store_can_append(pg, &probe) == -ERR_RETRY);
    pg = store_pg_find(s, 1);
}

static void pgs_that_have_used_their_share_stop_alone(void)
{
    struct entry probe = {.type = ENTRY_WRITE, .block_count = 16};

    set_up();
    for (uint64_t id = 2; id <= 7; id++)
        stick(id, id % 2 ? 1 : 16);
    uint32_t refused = 0;
    for (uint32_t n = 0; n < 3000; n++) {
        refused += store_can_append(pg, &probe) != 0;
        CHECK_EQ(write_blocks(n % 5, n % 496, 16), 0);
        apply_all();
    }
    CHECK_EQ(refused, 0);
    CHECK(store_counters(s)->copied_forward > 0);
    uint64_t last = store_pg_find(s, 7)->last_index;
    reopen();
    CHECK_EQ(store_pg_find(s, 7)->last_index, last);
    tear_down();
}

static void a_stuck_pg_does_not_stop_the_others(void)
{
    set_up();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    struct store_pg *other = store_pg_find(s, 2), *mine = pg;
    struct entry probe = {.type = ENTRY_WRITE, .block_count = 16};
    uint64_t stuck = 0;
    /* Nothing of PG 2 is ever applied. */
    pg = other;
    while (store_can_append(pg, &probe) == 0 && stuck++ < 10000) {
        CHECK_EQ(write_blocks(0, 0, 16), 0);
        rig_settle(&rig);
    }
    CHECK(stuck > 8 && stuck < 10000);
    pg = mine;
    for (uint32_t n = 0; n < 4000; n++) {
        int rc = write_blocks(n % 5, n % 500, 4);
        CHECK(rc == 0 || rc == -ERR_RETRY);
        apply_all();
    }
    CHECK(pg->last_index > 3900);
    CHECK(store_counters(s)->copied_forward > 0);
    uint64_t last = other->last_index;
    reopen();
    CHECK_EQ(store_pg_find(s, 2)->last_index, last);
    CHECK_EQ(store_pg_find(s, 2)->first_index, 1);
    tear_down();
}

/* Clears are small: a PG may have so many of them, waiting or applied, however large the ring. */
static void a_log_is_bounded_by_number(void)
{
    struct entry clear = {.type = ENTRY_CLEAR, .image = 1, .block_count = 3};
    uint64_t stuck = 0;

    set_up();
    s->log_entries_max = 1024;
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    struct store_pg *other = store_pg_find(s, 2), *mine = pg;
    pg = other;
    while (store_can_append(pg, &clear) == 0 && stuck++ < 5000)
        CHECK_EQ(put(clear, 0), 0);
    CHECK_EQ(stuck, 256);
    /* What another leader has admitted is taken, up to the end. */
    while (put(clear, 0) == 0)
        ;
    CHECK_EQ(pg->last_index, 1024);
    rig_settle(&rig);
    pg = mine;
    uint64_t longest = 0;
    for (uint32_t n = 0; n < 8000; n++) {
        clear.object = n % 50;
        CHECK_EQ(store_can_append(pg, &clear), 0);
        CHECK_EQ(put(clear, 0), 0);
        if (n % 16 == 0)
            apply_all();
        longest = MAX(longest, pg->last_index + 1 - pg->first_index);
    }
    apply_all();
    CHECK(longest > 512 && longest < 600);
    pg = other;
    CHECK_EQ(store_can_append(pg, &clear), -ERR_RETRY);
    apply_all();
    CHECK_EQ(store_can_append(pg, &clear), 0);
    pg = mine;
    reopen();
    CHECK_EQ(pg->last_index, 8000);
    CHECK(!pg->damaged);
    CHECK_EQ(store_pg_find(s, 2)->last_index, 1024);
    tear_down();
}

/* A ring of 600 MiB, and a cache without a limit. */
static void set_up_large_ring(void)
{
    rig_init(&rig, 16u << 20, 700u << 20);
    config = (struct store_config){
        .core = &rig.core, .blk = &rig.device.blk, .cache_bytes = 1u << 30, .pgs_max = 8};
    struct store_format f = {0};
    store_format_start(&f, &config, 600u << 20, NULL);
    CHECK_EQ(rig_wait(&rig, &f.op), 0);
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 1, .replica = 1, .birth = 3}), 0);
}

/* One block that is overwritten again and again: more often than 16 bits count, before it is destaged. */
static void a_hot_block_survives_a_restart(void)
{
    set_up_large_ring();
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    memset(data.buf->data, 7, BLOCK_SIZE);
    uint32_t crc = crc32c(0, data.buf->data, BLOCK_SIZE);
    for (uint64_t n = 1; n <= 66000; n++) {
        struct entry e = {.index = n,
                          .term = 1,
                          .type = ENTRY_WRITE,
                          .image = 1,
                          .object = 2,
                          .block_count = 1,
                          .crc = &crc};
        CHECK_EQ(store_append(pg, &e, &data), 0);
        if (n % 384 == 0)
            apply_all();
    }
    apply_all();
    slice_unref(&data);
    CHECK_EQ(store_counters(s)->page_writes, 0);
    reopen();
    CHECK_EQ(pg->last_index, 66000);
    store_apply(pg, 66000);
    CHECK_EQ(block_is(2, 0, false), 7);
    tear_down();
}

/* What the cache may keep fills the arena: the largest payload finds room in the end. */
static void the_cache_makes_room_for_large_payloads(void)
{
    struct buf *large;
    uint32_t tries = 0;

    set_up_large_ring();
    fill = 10;
    CHECK_EQ(write_blocks(7, 3, 1), 0);
    for (uint32_t n = 0; (large = buf_new(rig.core.arena, IO_SIZE_MAX)); n++) {
        buf_unref(large);
        CHECK_EQ(write_blocks(n / 500, n % 500, 1), 0);
        apply_all();
    }
    while (!(large = buf_new(rig.core.arena, IO_SIZE_MAX)) && tries++ < 100)
        rig_settle(&rig);
    CHECK(large);
    buf_unref(large);
    CHECK_EQ(block_is(7, 3, false), 10); /* from the ring */
    tear_down();
}

static void a_removed_replica_leaves_nothing(void)
{
    set_up();
    uint64_t free_bytes = store_space(s).free_bytes;
    for (uint32_t n = 0; n < 3000; n++) {
        CHECK(write_blocks(n % 5, n % 500, 4) != -ERR_STOPPED);
        apply_all();
    }
    struct store_pg_remove r = {0};
    store_pg_remove_start(&r, pg, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    CHECK(!store_pg_find(s, 1));
    CHECK_EQ(store_space(s).free_bytes, free_bytes);
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 1, .replica = 2, .birth = 4}), 0);
    CHECK_EQ(block_is(0, 0, false), -1);
    CHECK_EQ(write_blocks(0, 7, 1), 0);
    apply_all();
    reopen();
    CHECK_EQ(pg->record.replica, 2);
    CHECK_EQ(pg->last_index, 1);
    /* One chunk for the write, one for its page. */
    CHECK_EQ(store_space(s).free_bytes + 2 * CHUNK_SIZE, free_bytes);
    tear_down();
}

/* Takes each block of the chunk area that holds byte `byte` all over, and spoils it. */
static uint32_t spoil(uint8_t byte)
{
    uint8_t block[BLOCK_SIZE];
    uint32_t count = 0;

    memset(block, byte, sizeof(block));
    for (uint64_t at = 0; at < SIZE; at += BLOCK_SIZE)
        if (memcmp(rig.device.data + at, block, BLOCK_SIZE) == 0) {
            rig.device.data[at + 77] ^= 4;
            count++;
        }
    return count;
}

static void damage_is_found_and_repaired(void)
{
    set_up();
    fill = 200;
    CHECK_EQ(write_blocks(9, 50, 1), 0);
    for (uint32_t n = 0; n < 4000; n++) {
        fill = 0;
        CHECK(write_blocks(n % 5, n % 500, 4) != -ERR_STOPPED);
        apply_all();
    }
    CHECK_EQ(block_is(9, 50, false), 200);
    CHECK(spoil(200) > 0);
    CHECK_EQ(block_is(9, 50, false), -ERR_DAMAGED);
    struct slice good = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    struct store_repair r = {0};
    memset(good.buf->data, 201, BLOCK_SIZE);
    store_repair_start(&r, pg, 1, 9, 50, pg->applied_index, &good, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), -ERR_CHECKSUM);
    memset(good.buf->data, 200, BLOCK_SIZE);
    store_repair_start(&r, pg, 1, 9, 50, pg->applied_index, &good, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    CHECK_EQ(block_is(9, 50, false), 200);
    CHECK_EQ(write_blocks(9, 50, 1), 0);
    apply_all();
    store_repair_start(&r, pg, 1, 9, 50, pg->applied_index, &good, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), -ERR_CONFLICT);
    slice_unref(&good);
    tear_down();
}

/* Some work that touches everything; stops at the first error. */
static void work_through(void)
{
    struct store_pg_write w = {0};
    struct store_pg_record record = {.pg = 1, .replica = 1, .birth = 3, .group = ALONE};

    if (open_store())
        return;
    store_pg_write_start(&w, s, &record, NULL);
    rig_wait(&rig, &w.op);
    pg = store_pg_find(s, 1);
    for (uint32_t n = 0; pg && n < 900 && !store_failed(s); n++) {
        struct entry e = {.type = ENTRY_NOOP};
        int rc = n % 50 == 49 ? put(e, 0) : write_blocks(n % 3, n % 500, 8);
        CHECK(rc == 0 || rc == -ERR_RETRY || rc == -ERR_STOPPED);
        rig_turn(&rig);
        if (pg->durable_index > pg->applied_index)
            store_apply(pg, pg->durable_index);
    }
}

static void every_request_may_fail(void)
{
    rig_init(&rig, 64u << 20, SIZE);
    config = (struct store_config){
        .core = &rig.core, .blk = &rig.device.blk, .cache_bytes = 1u << 20, .pgs_max = 8};
    CHECK_EQ(format_store(), 0);
    uint8_t *empty = malloc(SIZE);
    memcpy(empty, rig.device.data, SIZE);
    uint64_t failures = 0;
    for (uint64_t n = 1; n < 700; n += n < 60 ? 1 : 13) {
        memcpy(rig.device.data, empty, SIZE);
        rig.device.fail_at = rig.device.requests + n;
        fill = 1;
        work_through();
        uint64_t durable = 0;
        if (s && pg)
            durable = pg->durable_index;
        if (s) {
            failures += store_failed(s) != 0;
            CHECK_EQ(close_store(), 0);
        }
        rig.device.fail_at = 0;
        CHECK_EQ(open_store(), 0);
        if (s) {
            CHECK(!durable || (pg && pg->last_index >= durable && !pg->damaged));
            CHECK_EQ(close_store(), 0);
        }
    }
    CHECK(failures > 20);
    free(empty);
    rig_fini(&rig);
}

/* Replicas that vote at the same time take a few writes together, wherever in the table they are. */
#define VOTERS 512u
static void votes_go_together(void)
{
    static struct store_pg_write votes[VOTERS];
    uint64_t before = rig.device.requests;

    for (uint32_t i = 0; i < VOTERS; i++) {
        struct store_pg_record record = store_pg_find(s, 1 + i * 16)->record;
        record.term = 5;
        record.vote = 1 + i;
        store_pg_write_start(&votes[i], s, &record, NULL);
    }
    for (uint32_t i = 0; i < VOTERS; i++)
        CHECK_EQ(rig_wait(&rig, &votes[i].op), 0);
    CHECK(rig.device.requests - before <= 2 * VOTERS / TABLE_RUN + 2);
}

/* The CPU time that a start takes, in ns. */
static uint64_t start_costs_ns(void)
{
    struct timespec before, after;

    CHECK_EQ(close_store(), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    CHECK_EQ(open_store(), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    return (uint64_t)(after.tv_sec - before.tv_sec) * NS_PER_S + (uint64_t)after.tv_nsec -
           (uint64_t)before.tv_nsec;
}

/* When all of them are damaged a start does not take seconds of the processor. */
static void start_with_damage(void)
{
    uint64_t whole_ns = start_costs_ns();

    for (uint32_t i = 0; i < STORE_PGS_MAX; i++) {
        struct store_pg_record record = store_pg_find(s, 1 + i)->record;
        record.state = STORE_PG_DAMAGED;
        CHECK_EQ(write_record(&record), 0);
    }
    uint64_t damaged_ns = start_costs_ns();
    for (uint32_t i = 0; i < STORE_PGS_MAX; i++)
        CHECK_EQ(store_pg_find(s, 1 + i)->record.state, STORE_PG_DAMAGED);
    printf("# a start takes %llu us, and %llu when all are damaged\n", (unsigned long long)whole_ns / 1000,
           (unsigned long long)damaged_ns / 1000);
    CHECK(damaged_ns < 10 * whole_ns);
}

/* As many replicas as a slice can have, and all of them are there after a restart, whatever one copy of a
 * block of their table looks like: the table is larger than what is read at once. */
static void many_replicas(void)
{
    uint32_t count = 0;

    rig_init(&rig, 64u << 20, 600ull << 20);
    config = (struct store_config){
        .core = &rig.core, .blk = &rig.device.blk, .cache_bytes = 1u << 20, .pgs_max = STORE_PGS_MAX};
    CHECK_EQ(format_store(), 0);
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(store_pgs_max(s), STORE_PGS_MAX);
    for (uint64_t id = 1; id <= STORE_PGS_MAX; id++)
        CHECK_EQ(write_record(&(struct store_pg_record){.pg = id, .replica = 7, .birth = id}), 0);
    CHECK(write_record(&(struct store_pg_record){.pg = STORE_PGS_MAX + 1, .replica = 1, .birth = 3}) != 0);
    votes_go_together();
    CHECK_EQ(close_store(), 0);
    for (uint32_t block = 0; block < 2048; block += 300)
        memset(rig.device.data + (SUPERBLOCK_BLOCKS + block) * BLOCK_SIZE + 100, 0xee, 50);
    CHECK_EQ(open_store(), 0);
    for (struct store_pg *sp = store_pg_next(s, NULL); sp; sp = store_pg_next(s, sp), count++)
        CHECK(sp->record.replica == 7 && sp->record.birth == sp->record.pg);
    CHECK_EQ(count, STORE_PGS_MAX);
    for (uint32_t i = 0; i < VOTERS; i++)
        CHECK_EQ(store_pg_find(s, 1 + i * 16)->record.vote, 1 + i);
    start_with_damage();
    CHECK_EQ(close_store(), 0);
    rig_fini(&rig);
}

/* What destage records goes with the next entries, and after a while alone; so do entries of one turn. */
static void headers_are_shared(void)
{
    set_up();
    const struct store_counters *c = store_counters(s);
    CHECK_EQ(write_blocks(1, 0, 4), 0);
    CHECK_EQ(write_blocks(2, 0, 4), 0);
    apply_all();
    CHECK_EQ(c->batch_entries, 2);
    uint64_t before = c->batches;
    destage_up_to(pg_of(pg), pg->last_index);
    for (uint32_t turns = 0; turns < 100 && !s->record_count; turns++)
        rig_turn(&rig);
    rig_turn(&rig);
    CHECK_EQ(s->record_count, 2);
    CHECK_EQ(c->batches, before);
    CHECK_EQ(write_blocks(3, 0, 1), 0);
    rig_turn(&rig);
    CHECK_EQ(s->record_count, 0);
    CHECK_EQ(c->batches, before + 1);
    CHECK_EQ(c->batch_entries, 3);
    /* Nobody writes any more. */
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), 2);
    CHECK_EQ(c->batches, before + 2);
    tear_down();
}

/* A block to the log, and what follows from it, in 160 us. */
static void write_and_turn(uint32_t n)
{
    CHECK_EQ(write_blocks(1 + n / 8, 2 * (n % 256), 1), 0);
    for (uint32_t i = 0; i < 8; i++)
        rig_turn(&rig);
    store_apply(pg, pg->durable_index);
    for (uint32_t i = 0; i < 8; i++)
        rig_turn(&rig);
}

/* As many blocks as the log grows by; all at once when somebody waits. */
static void destage_keeps_pace(void)
{
    set_up();
    const struct store_counters *c = store_counters(s);
    uint32_t n = 0;
    while (n < 1000 && !destage_wanted(s))
        write_and_turn(n++);
    uint64_t volume = s->volume, begun = c->destage_blocks, longest = 0;
    for (uint32_t i = 0; i < 100; i++) {
        uint64_t before = c->destage_blocks;
        write_and_turn(n++);
        longest = MAX(longest, c->destage_blocks - before);
    }
    CHECK(c->destage_blocks - begun > 50);
    CHECK(c->destage_blocks - begun <= s->volume - volume + 1);
    CHECK(longest <= 6);
    destage_up_to(pg_of(pg), pg->applied_index);
    uint64_t left = n - c->destage_blocks, then_ns = rig.now_ns;
    CHECK(left > 100);
    while (store_complete_index(pg) < pg->applied_index && rig.now_ns < then_ns + NS_PER_S)
        rig_turn(&rig);
    CHECK_EQ(c->destage_blocks, n);
    CHECK(rig.now_ns - then_ns < left * DESTAGE_TICK_NS / DESTAGE_TICK_BLOCKS);
    tear_down();
}

/* A new base voids the log, but not what its entries said of images, which no round has saved yet. */
static void a_new_base_keeps_image_records(void)
{
    struct store_pg_record record;
    struct store_pg_write w = {0};

    set_up();
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE, .image = 1, .incarnation = 5, .generation = 1}, 0), 0);
    apply_all();
    record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    record.base_index = pg->last_index + 10;
    record.base_term = 1;
    store_reset_base(pg, record.base_index, record.base_term, &ALONE, 0);
    record.state = STORE_PG_NORMAL;
    record.group = ALONE;
    /* Nor is the table to know of it before they are durable. */
    rig.device.held_from = block_offset(s->g.ring_block);
    rig.device.held_len = block_offset(s->g.ring_blocks);
    store_pg_write_start(&w, s, &record, NULL);
    rig_settle(&rig);
    CHECK(op_live(&w.op));
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    reopen();
    const struct image_record *image = store_image_get(pg, 1);
    CHECK(image && image->incarnation == 5);
    tear_down();
}

/* A PG that is removed has what it has until the table says that it is gone: before that a start finds it. */
static void a_removal_frees_nothing_before_it_is_durable(void)
{
    struct store_pg_remove r = {0};

    set_up();
    CHECK_EQ(write_blocks(1, 0, 32), 0);
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    uint64_t used = store_space(s).used_bytes;
    rig.device.held_from = block_offset(s->g.table_block);
    rig.device.held_len = block_offset(2 * s->g.table_blocks);
    store_pg_remove_start(&r, pg, NULL);
    rig_settle(&rig);
    CHECK(op_live(&r.op));
    CHECK_EQ(store_space(s).used_bytes, used);
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    CHECK_EQ(store_space(s).used_bytes, 0);
    tear_down();
}

/* Whichever request of a round fails, a write or a flush: the store goes on with nothing that relies on it.
 */
static void a_round_that_fails_stops_the_store(void)
{
    uint32_t n = 0;

    for (bool failed = true; failed; n++) {
        set_up();
        CHECK_EQ(write_blocks(1, 0, 2), 0);
        CHECK_EQ(write_blocks(2, 7, 1), 0);
        apply_all();
        rig.device.fail_at = rig.device.requests + n + 1;
        destage_pg(pg_of(pg));
        rig_settle(&rig);
        failed = rig.device.requests >= rig.device.fail_at;
        CHECK_EQ(store_failed(s) != 0, failed);
        tear_down();
    }
    CHECK(n > 5); /* data, pages, flush, records, and how far the PG is complete */
}

int main(void)
{
    TEST(labels_are_written_and_read);
    TEST(records_survive);
    TEST(blocks_are_read_back);
    TEST(images_truncate_and_delete);
    TEST(images_are_forgotten);
    TEST(records_are_used_up);
    TEST(recovery_forgets);
    TEST(recovery_keeps_records);
    TEST(a_full_device_works_on);
    TEST(places_of_objects_are_counted_once);
    TEST(no_places_for_objects_is_no_space);
    TEST(a_checkpoint_takes_many_turns);
    TEST(what_is_cleared_at_once_has_a_place);
    TEST(a_ring_full_of_waiting_entries_is_left_alone);
    TEST(what_members_lack_is_kept_longer);
    TEST(pgs_that_have_used_their_share_stop_alone);
    TEST(a_stuck_pg_does_not_stop_the_others);
    TEST(a_log_is_bounded_by_number);
    TEST(a_hot_block_survives_a_restart);
    TEST(a_removed_replica_leaves_nothing);
    TEST(damage_is_found_and_repaired);
    TEST(many_replicas);
    TEST(the_cache_makes_room_for_large_payloads);
    TEST(headers_are_shared);
    TEST(destage_keeps_pace);
    TEST(every_request_may_fail);
    TEST(a_new_base_keeps_image_records);
    TEST(a_round_that_fails_stops_the_store);
    TEST(a_removal_frees_nothing_before_it_is_durable);
    return tap_done();
}
