/* SPDX-License-Identifier: Apache-2.0
 *
 * What is there before something else is: destage writes in place before the page that says so is live,
 * entries are applied before they are destaged, and known before they are durable. What a crash in between
 * leaves, and what readers get meanwhile. With the name of a planted bug it must fail.
 */
#include <stdio.h>
#include <string.h>

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

/* Of the object's block 4, by a device that keeps reads waiting. */
static void read_begin(struct store_read *r)
{
    set_up_object();
    fill = 0x10;
    rig.device.held_reads = true;
    rig.device.held_from = block_offset(s->g.chunk_block);
    rig.device.held_len = SIZE;
    store_read_start(r, pg, 1, 1, 4, 1, false, NULL);
    rig_settle(&rig);
}

static void written_in_place(void)
{
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    apply_all();
    destage();
    CHECK_EQ(store_complete_index(pg), pg->last_index);
}

/* What the device has now comes back, or something else; and the store asks again. */
static void read_comes_back(bool wrong)
{
    struct blk_io *io = list_first(&rig.device.pending, struct blk_io, link);

    CHECK(io && io->type == BLK_READ);
    rig.device.wrong_at = wrong ? io->offset + 1 : 0;
    rig.device.held_len = 0;
    memory_complete(&rig.device);
    rig.device.held_len = SIZE;
    rig.device.wrong_at = 0;
    rig_settle(&rig);
}

static void read_ends(struct store_read *r, uint8_t byte)
{
    CHECK(op_live(&r->op));
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &r->op), 0);
    CHECK_EQ(*slice_data(&r->ret_data), byte);
    slice_unref(&r->ret_data);
    CHECK_EQ(store_counters(s)->checksum_errors, 0);
    tear_down();
}

/* A read for which the device takes so long that destage writes the block in place meanwhile, twice: what
 * comes is neither time what it was about to find. */
static void a_block_that_changes_while_it_is_read_is_no_damage(void)
{
    struct store_read r = {0};

    read_begin(&r);
    for (int times = 0; times < 2; times++) {
        written_in_place();
        read_comes_back(false);
    }
    read_ends(&r, 0x11);
}

/* What comes is wrong, twice, but of two versions of the block. */
static void each_version_may_be_read_wrong_once(void)
{
    struct store_read r = {0};

    read_begin(&r);
    read_comes_back(true);
    written_in_place();
    read_comes_back(false);
    read_comes_back(true);
    read_ends(&r, 0x10);
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

/* What the offline check finds: how many; and the last one. */
static char problem_text[256];

static void check_line(void *owner, bool problem, const char *text)
{
    if (problem)
        snprintf(problem_text, sizeof(problem_text), "%s", text);
}

static uint64_t problems(void)
{
    struct store_check c = {0};

    problem_text[0] = 0;
    CHECK_EQ(close_store(), 0);
    store_check_start(&c, &rig.core, &rig.device.blk, true, check_line, NULL, NULL);
    CHECK_EQ(rig_wait(&rig, &c.op), 0);
    CHECK_EQ(open_store(), 0);
    return c.ret_problems;
}

/* The same of what the log is about to remove, when the entry that was written in place is complete, since
 * nothing of it is left. Neither is it damage to who looks at the device alone. */
static void what_the_log_is_to_remove_is_no_damage(void)
{
    set_up_object();
    fill = 0x10;
    CHECK_EQ(put((struct entry){.image = 2, .object = 1}, 1), 0);
    CHECK_EQ(write_blocks(1, 5, 1), 0);
    rig_settle(&rig);
    hold_ring();
    store_apply(pg, 3);
    destage();
    power_fails();
    CHECK_EQ(pg->applied_index, 1);
    CHECK_EQ(put((struct entry){.type = ENTRY_FORGET, .image = 1}, 0), 0);
    rig_settle(&rig);
    /* A round is under way when the image goes, and the next one does not come to an end. */
    store_apply(pg, 2);
    rig.device.held_from = block_offset(s->g.chunk_block);
    rig.device.held_len = SIZE;
    destage();
    store_apply(pg, 4);
    rig.device.held_len = 0;
    while (store_complete_index(pg) < 3)
        rig_turn(&rig);
    power_fails();
    CHECK_EQ(pg->applied_index, 3);
    CHECK_EQ(block_is(1, 4, false), 1);
    CHECK_EQ(block_is(1, 5, false), -ERR_DAMAGED);
    CHECK_EQ(coming(4, 2), 3);
    CHECK_EQ(problems(), 0);
    apply_all();
    CHECK_EQ(block_is(1, 5, false), -1);
    tear_down();
}

/* Of what an image's end cuts off: to the block. */
static void what_is_cut_off_comes_to_the_block(void)
{
    struct entry end = {.type = ENTRY_IMAGE, .image = 1, .incarnation = 1, .generation = 2};

    set_up_object();
    end.size_bytes = OBJECT_SIZE + 5 * BLOCK_SIZE - 1;
    CHECK_EQ(put(end, 0), 0);
    CHECK_EQ(coming(4, 3), 6);
    end.size_bytes = 2 * OBJECT_SIZE;
    end.index = 2;
    end.term = 2;
    CHECK_EQ(put(end, 0), 0);
    CHECK_EQ(coming(0, 64), 0);
    end.size_bytes = OBJECT_SIZE;
    end.term = 3;
    CHECK_EQ(put(end, 0), 0);
    CHECK_EQ(coming(0, 2), 3);
    end.image = 2;
    end.term = 4;
    CHECK_EQ(put(end, 0), 0);
    CHECK_EQ(coming(0, 2), 0);
    tear_down();
}

/* A process that was killed has written an entry into the device's cache, and no further; the next one is
 * told that it has it, and then the power fails. */
static void what_a_start_finds_is_on_media(void)
{
    set_up();
    rig_settle(&rig);
    rig_watch_media(&rig);
    uint8_t *before = rig.device.media, *left = malloc(SIZE);
    rig.device.media = NULL;
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(close_store(), 0);
    rig.device.media = before;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->durable_index, 1);
    memcpy(left, rig.device.media, SIZE);
    CHECK_EQ(close_store(), 0);
    memcpy(rig.device.data, left, SIZE);
    free(left);
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->durable_index, 1);
    tear_down();
}

/* The newest version of a block counts for who compares replicas, though the page is of an older one. */
static void a_digest_is_of_what_is_applied(void)
{
    struct store_digest before = {0}, after = {0};

    set_up_object();
    store_digest_start(&before, pg, 1, 1, NULL);
    CHECK_EQ(rig_wait(&rig, &before.op), 0);
    CHECK_EQ(before.ret_index, 1);
    CHECK_EQ(before.ret_written, 2);
    CHECK_EQ(write_blocks(1, 5, 2), 0);
    apply_all();
    CHECK_EQ(object_find(pg_of(pg), 1, 1)->page_index, 1);
    store_digest_start(&after, pg, 1, 1, NULL);
    CHECK_EQ(rig_wait(&rig, &after.op), 0);
    CHECK_EQ(after.ret_index, 2);
    CHECK_EQ(after.ret_written, 3);
    CHECK(after.ret_digest != before.ret_digest);
    tear_down();
}

/* What is in the air is given back to nobody: the ring is not where it could be read again. */
static void what_is_being_written_stays_in_memory(void)
{
    set_up();
    CHECK_EQ(write_blocks(1, 8, 15), 0);
    core_poll(&rig.core);
    core_poll(&rig.core);
    CHECK_EQ(s->inflight_count, 1);
    rig.device.held_from = block_offset(ring_place(s, s->head));
    rig.device.held_len = block_offset(s->g.ring_blocks / 2);
    for (uint64_t n = 0; n < 40; n++)
        CHECK_EQ(write_blocks(2, 8, 15), 0);
    while (pg->durable_index < 1)
        rig_turn(&rig);
    CHECK(s->cache_used > config.cache_bytes);
    CHECK(log_at(pg_of(pg), 2)->batch != NULL);
    for (uint64_t index = 2; index <= pg->last_index; index++)
        CHECK(log_at(pg_of(pg), index)->payload.buf != NULL);
    rig.device.held_len = 0;
    rig_settle(&rig);
    CHECK(s->cache_used <= config.cache_bytes);
    tear_down();
}

/* A checkpoint is there before batches with numbers below the one that it names, which a crash would tear.
 * The copy that it is in: */
static int checkpoint_ahead_of_ring(int before)
{
    set_up_object();
    fill = 0x10;
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    rig_settle(&rig);
    for (int i = 0; i < before; i++)
        make_checkpoint();
    hold_ring();
    CHECK_EQ(write_blocks(1, 5, 1), 0);
    rig_settle(&rig);
    uint64_t torn = s->last_seq;
    make_checkpoint();
    CHECK_EQ(store_counters(s)->checkpoints, (uint64_t)before + 1);
    int copy = s->ckpt_number[0] > s->ckpt_number[1] ? 0 : 1;
    CHECK(s->ckpt_replay[copy] > torn);
    return copy;
}

static void nothing_is_older_than_its_log(void)
{
    CHECK_EQ(pg->last_index, 2);
    apply_all();
    destage();
    CHECK_EQ(store_complete_index(pg), 2);
    reopen();
    CHECK_EQ(pg->applied_index, 2);
    CHECK_EQ(block_is(1, 4, false), 0x10);
    tear_down();
}

/* Their numbers are not given to others: their records would count as being in it. */
static void a_checkpoint_is_ahead_of_the_ring(void)
{
    (void)checkpoint_ahead_of_ring(0);
    power_fails();
    nothing_is_older_than_its_log();
}

/* The same when that checkpoint cannot be read at the start behind the crash, and can be later: what was made
 * in between knows nothing of it. The one that is to take its place does not get there. */
static void a_checkpoint_that_was_unreadable_stays_away(void)
{
    for (int before = 0; before < 2; before++) {
        int copy = checkpoint_ahead_of_ring(before);
        CHECK_EQ(copy, before);
        rig.device.bad_from = block_offset(s->g.checkpoint_block + (uint64_t)copy * s->g.checkpoint_blocks);
        rig.device.bad_len = BLOCK_SIZE;
        power_goes();
        rig.device.held_from = rig.device.bad_from + BLOCK_SIZE;
        rig.device.held_len = BLOCK_SIZE;
        rig.device.held_writes = true;
        CHECK_EQ(open_store(), 0);
        rig.device.bad_len = 0;
        CHECK(s->ckpt_number[!copy] && !s->ckpt_number[copy]);
        store_recover_floor(pg, 9);
        rig_settle(&rig);
        power_fails();
        CHECK_EQ(pg->floor_epoch, 9);
        nothing_is_older_than_its_log();
    }
}

/* A recovery is about to end, at a base that is below the end of a log that was another leader's. */
static void recovery_goes_back(bool trimmed)
{
    set_up_object();
    for (uint32_t n = 2; n <= 6; n++)
        CHECK_EQ(write_blocks(1, n, 1), 0);
    rig_settle(&rig);
    if (trimmed) {
        s->log_entries_max = 1;
        apply_all();
        destage();
        CHECK_EQ(write_blocks(1, 7, 1), 0);
        rig_settle(&rig);
        CHECK(pg->first_index > 4);
    }
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
}

/* A checkpoint has that base before the crash that tears the record which voids the log. */
static void base_before_the_ring(bool trimmed)
{
    recovery_goes_back(trimmed);
    hold_ring();
    store_reset_base(pg, 3, 2, &ALONE, 0);
    rig_settle(&rig);
    make_checkpoint();
    power_fails();
    CHECK_EQ(pg->record.state, STORE_PG_RECOVERING);
    CHECK_EQ(pg->applied_index, 3);
    CHECK_EQ(pg->last_index, 3);
    CHECK_EQ(store_log_term(pg, 3), 2);
    CHECK(!pg->damaged);
    tear_down();
}

static void a_checkpoint_has_the_base_before_the_ring(void)
{
    base_before_the_ring(false);
}

/* It has gone back behind all that the ring has of the log. */
static void a_checkpoint_has_a_base_before_the_log(void)
{
    base_before_the_ring(true);
}

/* The record is there before the PG table has that base: the one that it has counts, as before, until the
 * replica, which is not said to be whole, has recovered once more. */
static void the_ring_has_a_base_before_the_table(void)
{
    recovery_goes_back(true);
    uint64_t was = table_record(s, pg_of(pg)->table_index)->base_index;
    CHECK(was > 3);
    rig.device.held_from = block_offset(s->g.table_block);
    rig.device.held_len = block_offset(2 * s->g.table_blocks);
    store_reset_base(pg, 3, 2, &ALONE, 0);
    store_recover_floor(pg, 9);
    rig_settle(&rig);
    power_fails();
    CHECK_EQ(pg->floor_epoch, 9); /* which came behind it */
    CHECK_EQ(pg->record.state, STORE_PG_RECOVERING);
    CHECK_EQ(pg->applied_index, was);
    CHECK_EQ(pg->last_index, was);
    CHECK(!pg->damaged);
    store_reset_base(pg, 3, 2, &ALONE, 0);
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&record), 0);
    power_fails();
    CHECK_EQ(pg->record.state, STORE_PG_NORMAL);
    CHECK_EQ(pg->applied_index, 3);
    CHECK_EQ(pg->last_index, 3);
    tear_down();
}

/* A recovery has set a base, which voids the log, and destage writes what was applied of that in place: what
 * it does not come to the end of is older than the base, and comes again. */
static void recovery_leaves_to_destage(enum store_pg_state state)
{
    set_up_object();
    fill = 0x10;
    CHECK_EQ(write_blocks(1, 4, 1), 0);
    apply_all();
    struct store_pg_record record = pg->record;
    record.state = state;
    CHECK_EQ(write_record(&record), 0);
    store_reset_base(pg, 3, 2, &ALONE, 0);
    rig_settle(&rig);
    uint64_t place = block_offset(chunk_place(s, object_chunk(object_find(pg_of(pg), 1, 1), 0), 4));
    uint8_t before = rig.device.data[place];
    destage_pg(pg_of(pg));
    while (rig.device.data[place] == before)
        rig_turn(&rig);
    power_fails();
    CHECK_EQ(pg->applied_index, 3);
    CHECK_EQ(object_find(pg_of(pg), 1, 1)->index, 1);
    CHECK_EQ(block_is(1, 4, false), -ERR_DAMAGED);
    CHECK_EQ(problems(), 0);
    tear_down();
}

static void what_a_recovery_leaves_to_destage_is_no_damage(void)
{
    recovery_leaves_to_destage(STORE_PG_RECOVERING);
    recovery_leaves_to_destage(STORE_PG_DAMAGED);
}

/* Of an object with a block that its source lacks: the log that has it comes behind all copies. */
static void copy_lacking_a_block(uint64_t index)
{
    const uint64_t written[IO_BLOCKS_MAX / 64] = {1 << 4};
    const uint32_t crc[64] = {0};
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    struct store_copy *copy = NULL;
    struct store_copy_write w = {0};
    struct store_copy_end end = {0};

    CHECK_EQ(store_copy_new(pg, 1, 1, &copy), 0);
    store_copy_write_start(&w, copy, 0, 64, written, written, index, NULL, NULL, crc, &data, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    store_copy_end_start(&end, copy, index, NULL);
    CHECK_EQ(rig_wait(&rig, &end.op), 0);
    slice_unref(&data);
}

static void copied_lacking_a_block(enum store_pg_state state, uint64_t expected)
{
    set_up_object();
    CHECK_EQ(write_blocks(2, 4, 1), 0); /* the log that was here goes on to be */
    rig_settle(&rig);
    struct store_pg_record record = pg->record;
    record.state = state;
    CHECK_EQ(write_record(&record), 0);
    copy_lacking_a_block(9);
    CHECK_EQ(block_is(1, 4, false), -ERR_DAMAGED);
    CHECK_EQ(problems(), expected);
    CHECK(!expected || strstr(problem_text, "object 1/1: block 4 is lost here, unless the log"));
    tear_down();
}

static void what_a_copy_lacks_may_come_with_the_log(void)
{
    copied_lacking_a_block(STORE_PG_RECOVERING, 0);
    copied_lacking_a_block(STORE_PG_DAMAGED, 0);
    copied_lacking_a_block(STORE_PG_NORMAL, 1);
}

/* But what is not as the page says is found in one that recovers, too. */
static void what_has_rotted_in_a_recovery_is_damage(void)
{
    set_up_object();
    CHECK_EQ(write_blocks(2, 4, 1), 0);
    rig_settle(&rig);
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    rig.device.data[block_offset(chunk_place(s, object_chunk(object_find(pg_of(pg), 1, 1), 0), 4))] ^= 1;
    CHECK_EQ(problems(), 1);
    CHECK(strstr(problem_text, "object 1/1: block 4 is damaged"));
    tear_down();
}

/* One that has recovered goes back to where its source was complete, and what it had written in place comes
 * again. */
static void what_comes_again_is_no_damage(void)
{
    set_up_object();
    CHECK_EQ(write_blocks(2, 4, 1), 0);
    CHECK_EQ(write_blocks(2, 5, 1), 0);
    apply_all();
    destage();
    rig.device.data[block_offset(chunk_place(s, object_chunk(object_find(pg_of(pg), 1, 1), 0), 4))] ^= 1;
    CHECK_EQ(problems(), 1);
    struct store_pg_record record = pg->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    store_reset_base(pg, 1, 1, &ALONE, 0);
    record.state = STORE_PG_NORMAL;
    record.base_index = record.base_term = 1;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(pg->last_index, 1);
    CHECK_EQ(problems(), 0);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(a_block_that_changes_while_it_is_read_is_no_damage);
    TEST(each_version_may_be_read_wrong_once);
    TEST(what_the_log_has_anew_is_no_damage);
    TEST(what_the_log_is_to_remove_is_no_damage);
    TEST(what_a_recovery_leaves_to_destage_is_no_damage);
    TEST(what_a_copy_lacks_may_come_with_the_log);
    TEST(what_has_rotted_in_a_recovery_is_damage);
    TEST(what_comes_again_is_no_damage);
    TEST(what_is_cut_off_comes_to_the_block);
    TEST(what_a_start_finds_is_on_media);
    TEST(a_checkpoint_is_ahead_of_the_ring);
    TEST(a_checkpoint_that_was_unreadable_stays_away);
    TEST(a_checkpoint_has_the_base_before_the_ring);
    TEST(a_checkpoint_has_a_base_before_the_log);
    TEST(the_ring_has_a_base_before_the_table);
    TEST(a_digest_is_of_what_is_applied);
    TEST(what_is_being_written_stays_in_memory);
    return tap_done();
}
