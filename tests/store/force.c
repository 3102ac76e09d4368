/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica becomes one of another number, alone in its group: all at once or not at all, whatever groups its
 * log has.
 */
#include "base/error.h"
#include "tests/store/slice.h"

#define ENTRIES 6

static const struct group FORMER = {.count = 3,
                                    .members = {{.replica = 1, .osd = 1, .flags = GROUP_VOTER},
                                                {.replica = 2, .osd = 2, .flags = GROUP_VOTER},
                                                {.replica = 3, .osd = 3, .flags = GROUP_VOTER}}};

/* Writes, and in the end an entry that sets a group, which is not applied. */
static void fill_log(void)
{
    uint32_t words[GROUP_WORDS_MAX];
    struct entry entry;

    for (uint32_t i = 1; i < ENTRIES; i++)
        CHECK_EQ(write_blocks(i, 0, 1), 0);
    group_to_entry(&FORMER, words, &entry);
    CHECK_EQ(put(entry, 0), 0);
}

static int force(void)
{
    struct store_pg_write w = {0};
    struct store_pg_record record = pg->record;

    record.replica = 9;
    record.term = 77;
    record.vote = 5; /* does not count */
    record.group =
        (struct group){.epoch = 12, .count = 1, .members = {{.replica = 9, .osd = 1, .flags = GROUP_VOTER}}};
    store_pg_force_start(&w, s, &record, NULL);
    return rig_wait(&rig, &w.op);
}

static bool is_forced(void)
{
    const struct store_pg_record *r = &pg->record;

    return r->replica == 9 && r->term == 77 && !r->vote && r->group.count == 1 && r->group.epoch == 12 &&
           r->group.index == ENTRIES && r->group.members[0].replica == 9;
}

static void number_term_and_group_change_together(void)
{
    set_up();
    fill_log();
    CHECK_EQ(force(), -ERR_RETRY); /* not all of the log is durable */
    CHECK_EQ(pg->record.replica, 1);
    rig_settle(&rig);
    CHECK_EQ(force(), 0);
    CHECK(is_forced());
    reopen();
    CHECK(is_forced());
    CHECK_EQ(pg->last_index, ENTRIES);
    /* The former group's entry is applied only now, and changes nothing. */
    apply_all();
    CHECK(is_forced());
    for (uint32_t i = 1; i < ENTRIES; i++)
        CHECK_EQ(block_is(i, 0, false), (int)i - 1 + fill - (ENTRIES - 1));
    reopen();
    CHECK(is_forced());
    /* A newer one does. */
    fill_log();
    apply_all();
    CHECK_EQ(pg->record.group.count, 3);
    tear_down();
}

static void a_damaged_or_half_copied_one_does_not(void)
{
    set_up();
    fill_log();
    rig_settle(&rig);
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(force(), -ERR_DAMAGED);
    record.state = STORE_PG_DAMAGED;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(force(), -ERR_DAMAGED);
    CHECK_EQ(pg->record.replica, 1);
    tear_down();
}

/* The device fails at any of the writes: after that it is the one or the other, whole. */
static void all_or_nothing(void)
{
    uint32_t forced = 0, former = 0;

    for (uint64_t n = 1; n < 12; n++) {
        set_up();
        fill_log();
        rig_settle(&rig);
        rig.device.fail_at = rig.device.requests + n;
        bool done = !force();
        rig.device.fail_at = 0;
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(open_store(), 0);
        CHECK_EQ(pg->last_index, ENTRIES);
        CHECK(is_forced() || (!done && pg->record.replica == 1 && pg->record.term == 0));
        *(is_forced() ? &forced : &former) += 1;
        tear_down();
    }
    CHECK(forced && former);
}

/* A recovery's source may have applied less than is here: who goes on alone then must not give these indexes
 * to other entries. */
static void what_was_applied_before_a_base_is_known(void)
{
    struct store_pg_record record;
    uint64_t last;

    set_up();
    for (uint32_t i = 1; i < ENTRIES; i++)
        CHECK_EQ(write_blocks(i, 0, 1), 0);
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE, .image = 2, .generation = 1, .size_bytes = 1}, 0), 0);
    apply_all();
    last = pg->last_index;
    store_destage_soon(pg);
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), last);
    record = pg->record;
    record.state = STORE_PG_DAMAGED;
    CHECK_EQ(write_record(&record), 0);
    store_reset_base(pg, 2, 1, &FORMER, 0);
    record.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(pg->applied_index, 2);
    CHECK_EQ(pg->newest_index, last);
    reopen();
    CHECK_EQ(pg->applied_index, 2);
    CHECK_EQ(pg->newest_index, last);
    tear_down();
}

int main(void)
{
    TEST(number_term_and_group_change_together);
    TEST(a_damaged_or_half_copied_one_does_not);
    TEST(all_or_nothing);
    TEST(what_was_applied_before_a_base_is_known);
    return tap_done();
}
