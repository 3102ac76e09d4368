/* SPDX-License-Identifier: Apache-2.0
 *
 * What joins a batch, and what keeps an entry in the log: by the turns of a device in memory.
 */
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

struct late {
    struct op op;
};

static void late_step(struct op *op)
{
    CHECK_EQ(write_blocks(2, 0, 1), 0);
    op_done(op, 0);
}

static const struct op_kind LATE = {"late", NULL, late_step};

/* Whoever has an entry in the same turn, be it behind the ring in the run queue. */
static void entries_of_one_turn_share_a_header(void)
{
    struct late late = {0};

    set_up();
    rig_settle(&rig);
    uint64_t batches = store_counters(s)->batches;
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    op_start(&late.op, &rig.core, &LATE, NULL);
    core_poll(&rig.core);
    CHECK_EQ(store_counters(s)->batches, batches + 1);
    CHECK_EQ(store_counters(s)->batch_entries, 2);
    rig_settle(&rig);
    CHECK_EQ(pg->durable_index, 2);
    tear_down();
}

static void put_group(uint64_t index, struct group *ret)
{
    struct entry e = {0};
    uint32_t words[GROUP_WORDS_MAX];

    *ret = (struct group){
        .index = index,
        .epoch = 7,
        .count = 2,
        .members = {{.replica = 1, .flags = GROUP_VOTER}, {.replica = 5, .osd = 2, .flags = GROUP_VOTER}}};
    group_to_entry(ret, words, &e);
    e.index = index;
    e.term = 1;
    CHECK_EQ(store_append(pg, &e, NULL), 0);
}

/* The table is slow: until it has the group, a start must find the entry in the log. */
static void a_group_stays_in_the_log_until_the_table_has_it(void)
{
    struct group group;

    set_up();
    put_group(1, &group);
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    rig.device.held_from = block_offset(s->g.table_block);
    rig.device.held_len = block_offset(2 * s->g.table_blocks);
    apply_all();
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), 0);
    rig.device.held_len = 0;
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), 2);
    reopen();
    CHECK_EQ(pg->record.group.index, 1);
    CHECK_EQ(pg->record.group.count, 2);
    tear_down();
}

/* Blocks per second that go through the log and to their chunks, scattered over four objects, when each
 * request takes so long. */
static uint64_t blocks_per_s(uint64_t delay_ns)
{
    set_up();
    rig.device.delay_ns = delay_ns;
    uint64_t random = 1, taken = 0, end_ns = rig.now_ns + 10 * NS_PER_S;
    while (rig.now_ns < end_ns) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        if (random >> 62 == 0) { /* 25 thousand in a second */
            int rc = write_blocks(1 + (random >> 40) % 4, (uint32_t)(random >> 30) % BLOCKS_PER_OBJECT, 1);
            CHECK(rc == 0 || rc == -ERR_RETRY);
            taken += rc == 0;
        }
        rig_turn(&rig);
        store_apply(pg, pg->durable_index);
    }
    tear_down();
    printf("# %llu blocks/s with %llu us for each request\n", (unsigned long long)taken / 10,
           (unsigned long long)(delay_ns / NS_PER_US));
    return taken / 10;
}

static void destage_keeps_up_with_a_slow_device(void)
{
    CHECK(blocks_per_s(10 * NS_PER_MS) > 1500);
    CHECK(blocks_per_s(NS_PER_MS) > 3000);
}

/* Turns in which a PG writes blocks of many objects, so that more is always to be destaged than a round
 * takes. */
static uint32_t busy_turns(const struct store_pg *until_complete, uint32_t turns_max)
{
    static uint64_t random = 1;
    uint32_t turns = 0;

    for (; turns < turns_max && !(until_complete && store_complete_index(until_complete)); turns++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        CHECK_EQ(write_blocks(1 + (random >> 40) % 256, (uint32_t)(random >> 30) % BLOCKS_PER_CHUNK, 1), 0);
        rig_turn(&rig);
        store_apply(pg, pg->durable_index);
    }
    return turns;
}

/* A round takes whole objects, so what the next batches below the target have is destaged by then, and nobody
 * goes through all PGs to find that out. */
static void destage_does_not_look_in_vain(void)
{
    uint32_t vain = 0, rounds = 0;

    set_up();
    for (uint32_t i = 0; i < 2000; i++) {
        uint64_t since = s->destage.since, blocks = store_counters(s)->destage_blocks;
        uint64_t complete = pg_of(pg)->complete_index;
        CHECK_EQ(write_blocks(i % 8, i / 8 % BLOCKS_PER_OBJECT, 1), 0);
        apply_all();
        bool took = store_counters(s)->destage_blocks != blocks || pg_of(pg)->complete_index != complete;
        vain += !took && s->destage.since != since;
        rounds += took;
    }
    CHECK(rounds > 0);
    CHECK(vain < 100); /* where the tail is to move */
    tear_down();
}

/* What a PG has in the log is destaged soon after it is old enough, whatever those before it have. */
static void a_busy_pg_keeps_no_other_waiting(void)
{
    set_up();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    struct store_pg *busy = pg, *other = store_pg_find(s, 2);
    busy_turns(NULL, 400);
    pg = other;
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    while (!pg->durable_index)
        rig_turn(&rig);
    store_apply(pg, 1);
    pg = busy;
    CHECK(busy_turns(other, 1000) < 600);
    tear_down();
}

/* The first of three batches is torn, so none of them counts; but the other two are still there, and are not
 * to be taken for those that come now: not even if one of these should be lost. */
static void numbers_are_given_once(void)
{
    set_up();
    rig.device.blk.queue_depth_hint = 4;
    reopen();
    rig.device.held_from = block_offset(ring_place(s, s->head));
    rig.device.held_len = BLOCK_SIZE;
    for (uint64_t batch = 1; batch <= 3; batch++) {
        CHECK_EQ(write_blocks(batch, 0, 1), 0);
        rig_settle(&rig);
        CHECK_EQ(s->last_seq, batch);
    }
    CHECK_EQ(pg->durable_index, 0);
    power_fails();
    CHECK_EQ(pg->last_index, 0);
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(pg->durable_index, 1);
    CHECK_EQ(s->content_seq, 4);
    tear_down();
}

/* All of the log is cut off, behind more records than go with two batches; meanwhile the tail moves over some
 * of what is void. A header tells of that when the record that says so is out, not before: else a start finds
 * the log's end, and a hole in front of it. */
static void the_tail_is_told_behind_the_records(void)
{
    set_up();
    rig.device.blk.queue_depth_hint = 1;
    reopen();
    while (ring_held(s) + 8 < ring_usable(s) * 3 / 4) {
        CHECK_EQ(write_blocks(1, 0, 1), 0);
        rig_settle(&rig);
    }
    uint64_t last = pg->last_index;
    CHECK_EQ(write_blocks(1, 0, 64), 0);
    core_poll(&rig.core);
    CHECK_EQ(s->inflight_count, 1);
    for (uint64_t epoch = 1; epoch <= 700; epoch++)
        store_recover_floor(pg, epoch);
    CHECK_EQ(put((struct entry){.index = 1, .term = 2, .image = 1, .object = 2}, 1), 0);
    for (core_poll(&rig.core); !s->tail_durable; core_poll(&rig.core))
        memory_complete(&rig.device);
    CHECK(s->tail_durable < last);
    power_fails();
    CHECK(!pg->damaged);
    CHECK_EQ(pg->last_index, 1);
    CHECK_EQ(store_log_term(pg, 1), 2);
    tear_down();
}

/* More records than go with a batch: those that are left are not durable when it is. */
static void records_count_with_their_own_batch(void)
{
    set_up();
    rig.device.blk.queue_depth_hint = 1;
    reopen();
    uint64_t before = s->records_durable;
    for (uint64_t epoch = 1; epoch <= 300; epoch++)
        store_recover_floor(pg, epoch);
    CHECK_EQ(s->records_pushed, before + 300);
    while (s->records_durable == before)
        rig_turn(&rig);
    CHECK(s->records_durable < s->records_pushed);
    rig_settle(&rig);
    CHECK_EQ(s->records_durable, s->records_pushed);
    tear_down();
}

/* However much waits, new or to be copied forward, some blocks are left to the headers that are to show that
 * the tail has moved. */
static void entries_leave_room_for_headers(void)
{
    for (int copied = 0; copied < 2; copied++) {
        set_up();
        while (s->head < s->g.ring_blocks) {
            CHECK_EQ(write_blocks(1, 1, 15), 0);
            apply_all();
        }
        uint64_t first = pg->last_index + 1;
        for (uint32_t n = 0; n < 20; n++)
            CHECK_EQ(write_blocks(n, 1, 15), 0);
        if (copied)
            rig_settle(&rig);
        for (uint64_t i = first; copied && i <= pg->last_index; i++)
            list_push_back(&s->copies, &log_at(pg_of(pg), i)->copy_link);
        /* As if no header had told for long where the tail is. */
        s->tail_durable = s->head + 200 - s->g.ring_blocks;
        rig.device.held_from = block_offset(s->g.ring_block);
        rig.device.held_len = block_offset(s->g.ring_blocks);
        op_wake(&s->ring_op);
        rig_settle(&rig);
        CHECK(s->inflight_count > 0);
        CHECK(ring_used(s) + 64 <= s->g.ring_blocks);
        rig.device.held_len = 0;
        rig_settle(&rig);
        CHECK_EQ(pg->durable_index, pg->last_index);
        CHECK(list_empty(&s->copies));
        tear_down();
    }
}

/* A copy of an object of one block. */
static int copy_one(struct store_pg *to, uint64_t index)
{
    const uint64_t written[IO_BLOCKS_MAX / 64] = {1}, damaged[IO_BLOCKS_MAX / 64] = {0};
    struct store_copy_write w = {0};
    struct store_copy_end e = {0};
    struct store_copy *copy;
    uint32_t crc[64];

    int rc = store_copy_new(to, 1, index % 8, &copy);
    if (rc)
        return rc;
    struct buf *buf = buf_new(rig.core.arena, BLOCK_SIZE);
    crc[0] = block_fill(buf->data, 7);
    struct slice data = {buf, 0, BLOCK_SIZE};
    store_copy_write_start(&w, copy, 0, 64, written, damaged, 1, NULL, NULL, crc, &data, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    buf_unref(buf);
    store_copy_end_start(&e, copy, index, NULL);
    return rig_wait(&rig, &e.op);
}

/* The tail stands still, because the device does not give a page that destage wants, and entries have taken
 * what they may. A recovery goes on, and each object takes a header: not to the last block. */
static void copies_leave_room_for_headers(void)
{
    set_up();
    CHECK_EQ(write_blocks(9, 0, 2), 0);
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    struct object *o = object_find(pg_of(pg), 1, 9);
    page_drop(o);
    rig.device.bad_from = block_offset(slot_place(s, o->slot));
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(write_blocks(9, 0, 1), 0);
    for (uint64_t n = 0; n < 400 && write_blocks(n % 4, 1, 15) != -ERR_RETRY; n++)
        apply_all();
    CHECK(ring_used(s) + 16 > ring_usable(s));
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    struct store_pg_record record = store_pg_find(s, 2)->record;
    record.state = STORE_PG_RECOVERING;
    CHECK_EQ(write_record(&record), 0);
    uint64_t index = 1;
    int rc = 0;
    while (ring_used(s) + 64 < s->g.ring_blocks && !rc)
        rc = copy_one(store_pg_find(s, 2), index++);
    CHECK_EQ(rc, -ERR_RETRY);
    CHECK_EQ(store_failed(s), 0);
    rig.device.bad_len = 0;
    rig.now_ns += NS_PER_S;
    rig_settle(&rig);
    CHECK_EQ(copy_one(store_pg_find(s, 2), index), 0);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(entries_of_one_turn_share_a_header);
    TEST(destage_keeps_up_with_a_slow_device);
    TEST(numbers_are_given_once);
    TEST(the_tail_is_told_behind_the_records);
    TEST(destage_does_not_look_in_vain);
    TEST(a_busy_pg_keeps_no_other_waiting);
    TEST(a_group_stays_in_the_log_until_the_table_has_it);
    TEST(records_count_with_their_own_batch);
    TEST(entries_leave_room_for_headers);
    TEST(copies_leave_room_for_headers);
    return tap_done();
}
