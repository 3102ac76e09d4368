/* SPDX-License-Identifier: Apache-2.0
 *
 * Image records: what a start finds of one of which there are several at once, applied, on its way to the
 * device, and there.
 */
#include "store/internal.h"
#include "tests/store/slice.h"

static void put_image(uint64_t incarnation, uint32_t flags)
{
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .flags = flags,
                                .image = 1,
                                .incarnation = incarnation,
                                .generation = 1,
                                .size_bytes = OBJECT_SIZE},
                 0),
             0);
}

/* It is made anew behind that, before all in front of it is destaged: the tombstone does not come back. */
static void what_was_forgotten_and_made_anew(void)
{
    set_up();
    put_image(1, 0);
    put_image(2, ENTRY_IMAGE_DELETED);
    apply_all();
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), 2);
    CHECK_EQ(put((struct entry){.type = ENTRY_FORGET, .image = 1}, 0), 0);
    CHECK_EQ(put((struct entry){.image = 2, .object = 1}, 1), 0);
    put_image(3, 0);
    apply_all();
    CHECK_EQ(store_complete_index(pg), 3);
    reopen();
    CHECK(!store_image_get(pg, 1));
    apply_all();
    CHECK(store_image_get(pg, 1) && !store_image_get(pg, 1)->deleted);
    CHECK_EQ(store_image_get(pg, 1)->incarnation, 3);
    tear_down();
}

static void hold_ring(void)
{
    rig.device.held_from = block_offset(s->g.ring_block);
    rig.device.held_len = block_offset(s->g.ring_blocks);
}

/* A record comes, by a recovery or with an entry, while an older one is on its way: that does not make the
 * newer one saved, nor does it take its place. */
static void what_is_on_its_way_is_older(void)
{
    for (int recovery = 0; recovery < 2; recovery++) {
        set_up();
        put_image(1, 0);
        put_image(2, 0);
        rig_settle(&rig);
        hold_ring();
        store_apply(pg, 1);
        destage_up_to(pg_of(pg), 1);
        rig_settle(&rig);
        const struct image *image = image_find(pg_of(pg), 1);
        CHECK(image->is_pushed);
        struct image_record newer = {
            .image = 1, .incarnation = 2, .generation = 1, .size_bytes = OBJECT_SIZE, .index = 2};
        if (recovery)
            CHECK_EQ(store_recover_image(pg, &newer), 0);
        else
            store_apply(pg, 2);
        rig.device.held_len = 0;
        while (store_complete_index(pg) < 1)
            rig_turn(&rig);
        CHECK_EQ(image->saved.incarnation, recovery ? 2 : 1);
        CHECK_EQ(image->holder != NULL, !recovery);
        rig_settle(&rig);
        reopen();
        apply_all();
        CHECK_EQ(store_image_get(pg, 1)->incarnation, 2);
        tear_down();
    }
}

/* What a recovery saves, itself or with the base that it sets, has no older one that would have to be kept
 * from coming back: that must not take its place for the checkpoints. */
static void what_a_recovery_saves_stays(void)
{
    for (int base = 0; base < 2; base++) {
        set_up();
        put_image(1, 0);
        CHECK_EQ(put((struct entry){.type = ENTRY_FORGET, .image = 1}, 0), 0);
        put_image(3, 0);
        rig_settle(&rig);
        store_apply(pg, 3);
        struct image_record newer = {.image = 1,
                                     .incarnation = 9,
                                     .generation = 1,
                                     .size_bytes = OBJECT_SIZE,
                                     .index = 9,
                                     .deleted = 1};
        if (base)
            store_reset_base(pg, 9, 1, &ALONE, 0);
        else
            CHECK_EQ(store_recover_image(pg, &newer), 0);
        if (base)
            CHECK_EQ(put((struct entry){.type = ENTRY_NOOP}, 0), 0);
        apply_all();
        destage_up_to(pg_of(pg), pg->last_index);
        rig_settle(&rig);
        CHECK_EQ(store_complete_index(pg), pg->last_index);
        const struct image *image = image_find(pg_of(pg), 1);
        CHECK(image && image->is_saved);
        CHECK_EQ(image->saved.incarnation, base ? 3 : 9);
        tear_down();
    }
}

static void put_cut(uint64_t index)
{
    while (pg->last_index + 1 < index)
        CHECK_EQ(put((struct entry){.type = ENTRY_NOOP}, 0), 0);
    CHECK_EQ(
        put(
            (struct entry){
                .type = ENTRY_IMAGE, .image = 1, .incarnation = 1, .generation = 2, .size_bytes = BLOCK_SIZE},
            0),
        0);
}

/* A recovery brings the record of an image that was cut off, and is left before it has the objects; the next
 * one is of an earlier state, whose log then brings the entry. What that cuts off goes, though the record is
 * known: of the object that the end cuts through, and, if a crash came before they were gone, of those behind
 * it. */
static void what_was_cut_off_before_its_entry(void)
{
    for (int crash = 0; crash < 2; crash++) {
        struct image_record cut = {
            .image = 1, .incarnation = 1, .generation = 2, .size_bytes = BLOCK_SIZE, .index = 9};

        set_up();
        put_image(1, 0);
        fill = 1;
        CHECK_EQ(write_blocks(0, 0, 2), 0);
        CHECK_EQ(write_blocks(1, 0, 1), 0);
        apply_all();
        destage_up_to(pg_of(pg), 3);
        rig_settle(&rig);
        CHECK_EQ(write_record(&(struct store_pg_record){
                     .pg = 1, .replica = 1, .birth = 3, .state = STORE_PG_RECOVERING}),
                 0);
        CHECK_EQ(store_recover_image(pg, &cut), 0);
        while (!store_image_get(pg, 1) || s->record_count || s->inflight_count)
            rig_turn(&rig);
        if (crash)
            power_fails();
        CHECK_EQ(store_image_get(pg, 1)->index, 9);
        store_reset_base(pg, 6, 1, &ALONE, 0);
        CHECK_EQ(write_record(&(struct store_pg_record){
                     .pg = 1, .replica = 1, .birth = 3, .base_index = 6, .base_term = 1}),
                 0);
        CHECK_EQ(block_is(0, 1, false), 2);
        CHECK_EQ(block_is(1, 0, false), crash ? 2 : -1);
        put_cut(9);
        apply_all();
        CHECK_EQ(block_is(0, 0, false), 1);
        CHECK_EQ(block_is(0, 1, false), -1);
        CHECK_EQ(block_is(1, 0, false), -1);
        reopen();
        apply_all();
        CHECK_EQ(block_is(0, 1, false), -1);
        CHECK_EQ(block_is(1, 0, false), -1);
        tear_down();
    }
}

int main(void)
{
    TEST(what_was_forgotten_and_made_anew);
    TEST(what_is_on_its_way_is_older);
    TEST(what_a_recovery_saves_stays);
    TEST(what_was_cut_off_before_its_entry);
    return tap_done();
}
