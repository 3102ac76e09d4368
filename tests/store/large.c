/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes that bring chunks along: written once, torn or damaged, overwritten, cut off, and when space is low.
 */
#include "store/internal.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

static void destage_all(void)
{
    apply_all();
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
}

static const struct log_entry *entry_at(uint64_t index)
{
    return log_at(pg_of(pg), index);
}

/* A byte on the device, of block i of the entry. */
static uint8_t *medium(uint64_t index, uint32_t i)
{
    return rig.device.data + block_offset(entry_place(s, entry_at(index), i));
}

/* What a follower that lags would be sent: the byte of each block, or the error. */
static int log_has(uint64_t index, uint32_t blocks, uint8_t first)
{
    struct store_log_read r = {0};

    store_log_read_start(&r, pg, index, index, IO_SIZE_MAX, NULL);
    int rc = rig_wait(&rig, &r.op);
    if (rc)
        return rc;
    CHECK_EQ(r.ret_payloads[0].len, blocks * BLOCK_SIZE);
    for (uint32_t i = 0; i < blocks; i++)
        CHECK_EQ(slice_data(&r.ret_payloads[0])[i * BLOCK_SIZE], (uint8_t)(first + i));
    slice_unref(&r.ret_payloads[0]);
    return 0;
}

static void whole_chunks_are_written_once(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 0, 256), 0);
    rig_settle(&rig);
    const struct store_counters *c = store_counters(s);
    CHECK_EQ(c->large_bytes, 256 * BLOCK_SIZE);
    CHECK_EQ(c->log_payload_bytes, 0);
    /* What is in front and behind is in the ring. */
    CHECK_EQ(write_blocks(2, 8, 45), 0);
    rig_settle(&rig);
    CHECK_EQ(c->large_bytes, (256 + 32) * BLOCK_SIZE);
    CHECK_EQ(c->log_payload_bytes, 13 * BLOCK_SIZE);
    CHECK_EQ(*medium(2, 0), 2);
    CHECK_EQ(*medium(2, 8), 10);
    CHECK_EQ(*medium(2, 44), 46);
    reopen();
    CHECK_EQ(log_has(1, 256, 1), 0);
    CHECK_EQ(log_has(2, 45, 2), 0);
    uint64_t used = store_space(s).used_bytes;
    CHECK_EQ(used, 18 * CHUNK_SIZE);
    destage_all();
    c = store_counters(s);
    CHECK_EQ(c->destage_blocks, 13);
    /* Two more for the ends of the second one, one for pages. */
    CHECK_EQ(store_space(s).used_bytes, used + 3 * CHUNK_SIZE);
    CHECK_EQ(block_is(1, 255, false), (uint8_t)256);
    CHECK_EQ(block_is(2, 8, false), 2);
    CHECK_EQ(block_is(2, 52, false), 46);
    reopen();
    CHECK_EQ(block_is(1, 100, false), 101);
    CHECK_EQ(block_is(2, 20, false), 14);
    CHECK_EQ(store_space(s).used_bytes, used + 3 * CHUNK_SIZE);
    tear_down();
}

static void an_entry_without_its_chunks_is_torn(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 0, 32), 0);
    rig_settle(&rig);
    CHECK_EQ(write_blocks(1, 32, 32), 0);
    rig_settle(&rig);
    uint8_t *first = medium(1, 20), *second = medium(2, 31);
    CHECK_EQ(close_store(), 0);
    /* The second is not proven durable by anything. */
    *second ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK(!pg->damaged);
    CHECK_EQ(pg->last_index, 1);
    /* The first is: from now on it is damage, of one block, that another replica can mend. */
    CHECK_EQ(write_blocks(3, 0, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(close_store(), 0);
    *first ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->last_index, 2);
    CHECK_EQ(log_has(1, 32, 1), -ERR_CHECKSUM);
    destage_all();
    CHECK_EQ(block_is(1, 20, false), -ERR_DAMAGED);
    CHECK_EQ(block_is(1, 21, false), 22);
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    struct store_repair repair = {0};
    memset(data.buf->data, 21, BLOCK_SIZE);
    store_repair_start(&repair, pg, 1, 1, 20, pg->applied_index, &data, NULL);
    CHECK_EQ(rig_wait(&rig, &repair.op), 0);
    slice_unref(&data);
    CHECK_EQ(block_is(1, 20, false), 21);
    tear_down();
}

/* Its header may be on the device: without what it names it is not durable, and nothing may follow it. */
static void chunks_that_cannot_be_written_stop_the_store(void)
{
    for (uint64_t n = 1; n <= 2; n++) { /* the chunks, and the ring's part */
        set_up();
        fill = 1;
        CHECK_EQ(write_blocks(1, 0, 16), 0);
        rig_settle(&rig);
        CHECK_EQ(write_blocks(1, 16, 16), 0);
        CHECK_EQ(write_blocks(2, 32, 32), 0);
        rig.device.fail_at = rig.device.requests + n;
        rig_settle(&rig);
        CHECK(rig.device.requests >= rig.device.fail_at);
        CHECK_EQ(store_failed(s), -ERR_IO);
        CHECK_EQ(pg->durable_index, 1);
        tear_down();
    }
}

static void the_log_lets_go_before_a_chunk_is_written_in_place(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 16, 16), 0);
    /* Both are newest somewhere in it: neither brings the chunk. */
    CHECK_EQ(write_blocks(2, 0, 16), 0);
    CHECK_EQ(write_blocks(2, 3, 1), 0);
    destage_all();
    CHECK_EQ(pg->first_index, 1);
    CHECK_EQ(log_has(1, 16, 1), 0);
    CHECK_EQ(log_has(2, 16, 2), 0);
    CHECK_EQ(block_is(2, 2, false), 4);
    CHECK_EQ(block_is(2, 3, false), 3);
    /* In the other's own chunk: that costs nobody anything. */
    CHECK_EQ(write_blocks(2, 4, 1), 0);
    destage_all();
    CHECK_EQ(pg->first_index, 1);
    CHECK_EQ(log_has(2, 16, 2), 0);
    CHECK_EQ(write_blocks(1, 17, 1), 0);
    destage_all();
    CHECK_EQ(pg->first_index, 2);
    CHECK_EQ(log_has(1, 16, 1), -ERR_COMPACTED);
    CHECK_EQ(block_is(1, 16, false), 1);
    CHECK_EQ(block_is(1, 17, false), 5);
    reopen();
    CHECK_EQ(block_is(1, 17, false), 5);
    CHECK_EQ(block_is(1, 18, false), 3);
    CHECK_EQ(block_is(2, 4, false), 4);
    tear_down();
}

static void chunks_of_what_was_cut_off_are_free_later(void)
{
    set_up();
    fill = 1;
    uint64_t used = store_space(s).used_bytes;
    CHECK_EQ(write_blocks(1, 0, 256), 0);
    rig_settle(&rig);
    uint32_t chunk = large_chunk(entry_at(1), 3);
    CHECK_EQ(put((struct entry){.index = 1, .term = 2, .image = 1, .object = 5}, 1), 0);
    CHECK_EQ(s->chunk_refs[chunk], 1);
    rig_settle(&rig);
    CHECK_EQ(s->chunk_refs[chunk], 0);
    CHECK_EQ(store_space(s).used_bytes, used);
    reopen();
    CHECK_EQ(store_log_term(pg, 1), 2);
    /* The same, while its writes are under way. */
    CHECK_EQ(write_blocks(1, 0, 256), 0);
    core_poll(&rig.core);
    chunk = large_chunk(entry_at(2), 3);
    CHECK_EQ(put((struct entry){.index = 2, .term = 3, .image = 1, .object = 6}, 1), 0);
    CHECK_EQ(s->chunk_refs[chunk], 1);
    rig_settle(&rig);
    CHECK_EQ(store_space(s).used_bytes, used);
    tear_down();
}

/* The batch of a large entry is under way, and those of more entries get there beside it. */
static void set_up_under_way(void)
{
    set_up();
    rig.device.blk.queue_depth_hint = 4;
    reopen();
    rig.device.held_from = block_offset(s->g.ring_block);
    rig.device.held_len = block_offset(s->g.ring_blocks);
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    rig_settle(&rig);
}

/* Three batches are under way at once, so that none proves the others. The chunk is not free before a header
 * proves that the one that voids it was durable: until then the first may have to prove itself by the chunk.
 */
static void chunks_are_kept_until_a_header_proves_it(void)
{
    set_up_under_way();
    uint32_t chunk = large_chunk(entry_at(1), 0);
    CHECK_EQ(put((struct entry){.index = 1, .term = 2, .image = 1, .object = 5}, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(put((struct entry){.index = 2, .term = 2, .image = 1, .object = 6}, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(s->inflight_count, 3);
    rig.device.held_len = 0;
    while (pg->durable_index < 2)
        rig_turn(&rig);
    CHECK_EQ(s->chunk_refs[chunk], 1);
    rig_settle(&rig);
    CHECK_EQ(s->chunk_refs[chunk], 0);
    tear_down();
}

/* One more batch beside the one that is under way; both come to the device, and no header behind them. */
static void unproven_beside_it(struct entry e)
{
    CHECK_EQ(put(e, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(s->inflight_count, 2);
    uint8_t *next = rig.device.data + block_offset(ring_place(s, s->head));
    rig.device.held_len = 0;
    while (pg->durable_index < e.index)
        rig_turn(&rig);
    CHECK_EQ(close_store(), 0);
    memset(next, 0, BLOCK_SIZE);
}

/* What a start counts, though nothing proves it, need not prove itself at the next one: the chunk of an entry
 * that is cut off in there is another's by then, perhaps before any header is durable. */
static void what_a_start_found_proves_itself_once(void)
{
    set_up_under_way();
    uint8_t *at = medium(1, 3);
    unproven_beside_it((struct entry){.index = 1, .term = 2, .image = 1, .object = 5});
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(store_log_term(pg, 1), 2);
    CHECK_EQ(close_store(), 0);
    *at ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK(!pg->damaged);
    CHECK_EQ(store_log_term(pg, 1), 2);
    tear_down();
}

/* A torn batch is cut off for good, though its chunk gets what it was to have once more: the leader has sent
 * the entry again, it has got the same chunk, and power fails before its batch is under way. */
static void what_was_torn_does_not_come_back(void)
{
    set_up_under_way();
    uint8_t *at = medium(1, 3);
    unproven_beside_it((struct entry){.index = 2, .image = 1, .object = 5});
    *at ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->last_index, 0);
    CHECK_EQ(close_store(), 0);
    *at ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK(!pg->damaged);
    CHECK_EQ(pg->last_index, 0);
    /* Nor does what came behind it, once the batch that takes its place is lost: that is damage. */
    uint8_t *place = rig.device.data + block_offset(ring_place(s, s->head));
    for (uint64_t index = 1; index <= 2; index++) {
        CHECK_EQ(put((struct entry){.index = index, .term = 2, .image = 1, .object = 5}, 1), 0);
        rig_settle(&rig);
    }
    CHECK_EQ(close_store(), 0);
    memset(place, 0, BLOCK_SIZE);
    CHECK_EQ(open_store(), 0);
    CHECK(pg->damaged);
    CHECK_EQ(store_log_term(pg, 1), 0);
    tear_down();
}

/* The header of a torn batch may prove it, which does not count: what comes next is written over that one. */
static void what_a_torn_batch_proves_is_proven_anew(void)
{
    set_up();
    rig.device.held_from = block_offset(ring_place(s, s->head));
    rig.device.held_len = BLOCK_SIZE;
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    rig_settle(&rig);
    uint8_t *at = medium(1, 3);
    CHECK_EQ(put((struct entry){.index = 1, .term = 2, .image = 1, .object = 5}, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(put((struct entry){.index = 2, .term = 2, .image = 1, .object = 5}, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(s->inflight_count, s->inflight_max);
    uint8_t *torn = rig.device.data + block_offset(ring_place(s, s->head));
    rig.device.held_len = 0;
    rig_settle(&rig);
    CHECK_EQ(pg->durable_index, 2);
    CHECK_EQ(close_store(), 0);
    torn[BLOCK_SIZE] ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->last_index, 1);
    CHECK_EQ(store_log_term(pg, 1), 2);
    CHECK_EQ(close_store(), 0);
    memset(torn, 0, BLOCK_SIZE);
    *at ^= 1;
    CHECK_EQ(open_store(), 0);
    CHECK(!pg->damaged);
    CHECK_EQ(store_log_term(pg, 1), 2);
    tear_down();
}

/* The same of an entry that is copied forward while it is applied, and is complete before any header proves
 * the batch that the copy is in. */
static void a_copy_in_the_ring_keeps_its_chunks_until_it_is_proven(void)
{
    set_up();
    rig.device.blk.queue_depth_hint = 4;
    reopen();
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    rig_settle(&rig);
    CHECK_EQ(pg->durable_index, 2);
    uint32_t chunk = large_chunk(entry_at(1), 0);
    rig.device.held_from = block_offset(s->g.ring_block);
    rig.device.held_len = block_offset(s->g.ring_blocks);
    list_push_back(&s->copies, &log_at(pg_of(pg), 1)->copy_link);
    op_wake(&s->ring_op);
    rig_settle(&rig);
    CHECK_EQ(s->inflight_count, 1);
    /* The second entry is newer in all blocks: the first has nothing that is to be destaged. */
    store_apply(pg, 2);
    destage_up_to(pg_of(pg), 1);
    rig_settle(&rig);
    CHECK_EQ(s->inflight_count, 2);
    rig.device.held_len = 0;
    while (store_complete_index(pg) < 1)
        rig_turn(&rig);
    large_relieve(s);
    CHECK_EQ(pg->first_index, 2);
    CHECK_EQ(s->chunk_refs[chunk], 1);
    rig_settle(&rig);
    CHECK_EQ(s->chunk_refs[chunk], 0);
    tear_down();
}

/* The PG goes while its entry's chunk is being written: nobody gets the chunk before that is over. */
static void chunks_of_a_removed_pg_are_free_when_they_are_written(void)
{
    struct store_pg_remove r = {0};

    set_up();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    pg = store_pg_find(s, 2);
    rig_settle(&rig);
    rig.device.held_from = block_offset(s->g.chunk_block);
    rig.device.held_len = SIZE;
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    uint32_t chunk = large_chunk(entry_at(1), 0);
    rig_settle(&rig);
    store_pg_remove_start(&r, pg, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    CHECK_EQ(s->chunk_refs[chunk], 1);
    rig.device.held_len = 0;
    rig_settle(&rig);
    CHECK_EQ(s->chunk_refs[chunk], 0);
    tear_down();
}

/* After a start, too, the log lets go of a chunk that is the object's already, when it is written in place: a
 * crash came between the record of the page and that of how far the PG is complete. */
static void the_log_lets_go_after_a_start(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 16, 16), 0);
    apply_all();
    destage_up_to(pg_of(pg), 1);
    while (!object_find(pg_of(pg), 1, 1)->slot)
        rig_turn(&rig);
    power_fails();
    CHECK_EQ(pg->applied_index, 0);
    CHECK(entry_at(1)->chunks_held);
    CHECK_EQ(s->chunk_refs[large_chunk(entry_at(1), 1)], 2);
    CHECK_EQ(write_blocks(1, 17, 1), 0);
    destage_all();
    CHECK_EQ(store_complete_index(pg), 2);
    CHECK_EQ(block_is(1, 16, false), 1);
    CHECK_EQ(block_is(1, 17, false), 2);
    tear_down();
}

/* A host that applies what is durable whenever the store wakes it, and does nothing else. */
static void host_step(struct op *op)
{
    store_apply(pg, pg->durable_index);
}

static void the_past_gives_way_when_space_is_low(void)
{
    static const struct op_kind HOST = {"host", NULL, host_step};
    struct op host = {0};

    set_up();
    fill = 1;
    int rc = 0;
    uint32_t n = 0;
    /* The same range again and again needs no more than the log keeps; then others until all is full. */
    for (; n < 200 && !rc; n++, apply_all())
        rc = write_blocks(1, 0, 256);
    CHECK_EQ(rc, 0);
    uint32_t refused = 0; /* for want of room in the ring: the tail moves, and it is there */
    for (uint64_t object = 2; object < 40 && (!rc || (rc == -ERR_RETRY && refused++ < 10)); apply_all()) {
        rc = write_blocks(object, 0, 256);
        object += !rc;
    }
    CHECK_EQ(rc, -ERR_NO_SPACE);
    struct store_space space = store_space(s);
    CHECK(space.free_bytes < 4u << 20);
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .image = 1,
                                .incarnation = 1,
                                .generation = 2,
                                .flags = ENTRY_IMAGE_DELETED},
                 0),
             0);
    /* In several turns, and nobody asks for it: one wakes the other until all is given back. */
    op_start(&host, &rig.core, &HOST, NULL);
    pg->waiter = &host;
    rig_settle(&rig);
    CHECK_EQ(pg->applied_index, pg->last_index);
    CHECK_EQ(store_space(s).used_bytes, 0);
    pg->waiter = NULL;
    op_done(&host, 0);
    tear_down();
}

/* Nor has it to be told: what was overwritten of large entries gives way batch by batch, though the blocks of
 * many batches are destaged together. */
static void overwritten_chunks_give_way_when_space_is_low(void)
{
    enum { LOW = 30, OVERWRITES = 1200, STEPS = 8 };

    for (uint32_t k = 0; k < STEPS; k++) {
        uint64_t object = 2;
        uint32_t taken = 0;
        int rc = 0;

        set_up();
        for (uint32_t c = 0; c < 4; c++, apply_all())
            CHECK_EQ(write_blocks(1, c * BLOCKS_PER_CHUNK, BLOCKS_PER_CHUNK), 0);
        for (; space_available(s) > LOW; object++, apply_all())
            CHECK_EQ(write_blocks(object, 0, 1), 0);
        for (uint32_t i = 0; i < OVERWRITES + k; i++, apply_all())
            CHECK_EQ(write_blocks(1, i % 4 * BLOCKS_PER_CHUNK, BLOCKS_PER_CHUNK), 0);
        for (; !rc; object++, taken += !rc, apply_all())
            rc = write_blocks(object, 0, 1);
        CHECK_EQ(rc, -ERR_NO_SPACE);
        CHECK(taken >= LOW * 2 / 3);
        tear_down();
    }
}

static int remove_image(void)
{
    return put(
        (struct entry){
            .type = ENTRY_IMAGE, .image = 1, .incarnation = 1, .generation = 2, .flags = ENTRY_IMAGE_DELETED},
        0);
}

/* At once, however much space there is. */
static void what_was_removed_takes_no_space(void)
{
    set_up();
    CHECK_EQ(write_blocks(1, 0, 256), 0);
    CHECK_EQ(write_blocks(2, 0, 256), 0);
    destage_all();
    CHECK_EQ(remove_image(), 0);
    apply_all();
    CHECK_EQ(store_space(s).used_bytes, 0);
    CHECK_EQ(pg->first_index, pg->last_index + 1);
    tear_down();
}

/* The same when destage is in the middle of other work. */
static void what_was_removed_meanwhile_takes_no_space(void)
{
    for (int turns = 0; turns < 60; turns++) {
        set_up();
        CHECK_EQ(write_blocks(1, 0, 256), 0);
        CHECK_EQ(write_blocks(2, 0, 3), 0);
        apply_all();
        destage_up_to(pg_of(pg), pg->last_index);
        for (int i = 0; i < turns; i++)
            rig_turn(&rig);
        CHECK_EQ(remove_image(), 0);
        apply_all();
        CHECK_EQ(store_space(s).used_bytes, 0);
        tear_down();
    }
}

/* But a member that can still be served is. */
static void what_was_removed_waits_for_members_in_contact(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 0, 256), 0);
    CHECK_EQ(write_blocks(2, 0, 256), 0);
    destage_all();
    store_keep(pg, 2);
    CHECK_EQ(remove_image(), 0);
    apply_all();
    CHECK_EQ(pg->first_index, 2);
    CHECK_EQ(log_has(2, 256, 2), 0);
    store_keep(pg, 3);
    CHECK_EQ(pg->first_index, 3);
    CHECK_EQ(log_has(2, 256, 2), -ERR_COMPACTED);
    store_keep(pg, 0);
    CHECK_EQ(store_space(s).used_bytes, 0);
    /* It is over: later entries are kept as ever. */
    CHECK_EQ(put((struct entry){.type = ENTRY_FORGET, .image = 1}, 0), 0);
    CHECK_EQ(write_blocks(1, 0, 256), 0);
    destage_all();
    uint64_t last = pg->last_index;
    CHECK_EQ(log_has(last, 256, 3), 0);
    store_keep(pg, 0);
    CHECK_EQ(log_has(last, 256, 3), 0);
    tear_down();
}

static int mend(uint64_t object, uint32_t block, uint8_t byte)
{
    struct slice data = {.buf = buf_new(rig.core.arena, BLOCK_SIZE), .len = BLOCK_SIZE};
    struct store_repair repair = {0};

    memset(data.buf->data, byte, BLOCK_SIZE);
    store_repair_start(&repair, pg, 1, object, block, pg->applied_index, &data, NULL);
    int rc = rig_wait(&rig, &repair.op);
    slice_unref(&data);
    return rc;
}

/* What a follower that lags is to get may be replaced while it is read: then it gets what took its place. */
static void what_is_replaced_while_it_is_read_is_read_anew(void)
{
    struct store_log_read r = {0};

    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    entry_uncache(log_at(pg_of(pg), 1));
    rig.device.held_len = SIZE;
    rig.device.held_reads = true;
    store_log_read_start(&r, pg, 1, 1, IO_SIZE_MAX, NULL);
    rig_settle(&rig);
    CHECK_EQ(put((struct entry){.index = 1, .term = 2, .image = 1, .object = 2}, 8), 0);
    rig_settle(&rig);
    entry_uncache(log_at(pg_of(pg), 1));
    rig.device.held_len = 0;
    CHECK_EQ(rig_wait(&rig, &r.op), 0);
    CHECK_EQ(r.ret_entries[0].term, 2);
    CHECK_EQ(r.ret_payloads[0].len, 8 * BLOCK_SIZE);
    CHECK(r.ret_payloads[0].buf->size_bytes >= 8 * BLOCK_SIZE);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(slice_data(&r.ret_payloads[0])[i * BLOCK_SIZE], 2 + i);
    slice_unref(&r.ret_payloads[0]);
    tear_down();
}

/* The newest version of a block is in the log, or in a chunk that an entry brought, and rots there. */
static void what_rots_in_the_log_is_mended_after_destage(void)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 0, 32), 0);
    CHECK_EQ(write_blocks(2, 7, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_store(), 0);
    apply_all();
    *medium(1, 20) ^= 1;
    *medium(2, 0) ^= 1;
    CHECK_EQ(block_is(1, 20, false), -ERR_DAMAGED);
    CHECK_EQ(block_is(2, 7, false), -ERR_DAMAGED);
    CHECK_EQ(mend(2, 7, 2), -ERR_RETRY);
    rig_settle(&rig);
    CHECK_EQ(mend(1, 20, 99), -ERR_CHECKSUM);
    CHECK_EQ(mend(1, 20, 21), 0);
    CHECK_EQ(mend(2, 7, 2), 0);
    CHECK_EQ(block_is(1, 20, false), 21);
    CHECK_EQ(block_is(2, 7, false), 2);
    reopen();
    CHECK_EQ(block_is(1, 20, false), 21);
    CHECK_EQ(block_is(2, 7, false), 2);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(whole_chunks_are_written_once);
    TEST(an_entry_without_its_chunks_is_torn);
    TEST(chunks_that_cannot_be_written_stop_the_store);
    TEST(the_log_lets_go_before_a_chunk_is_written_in_place);
    TEST(chunks_of_what_was_cut_off_are_free_later);
    TEST(chunks_are_kept_until_a_header_proves_it);
    TEST(what_a_start_found_proves_itself_once);
    TEST(what_was_torn_does_not_come_back);
    TEST(what_a_torn_batch_proves_is_proven_anew);
    TEST(a_copy_in_the_ring_keeps_its_chunks_until_it_is_proven);
    TEST(chunks_of_a_removed_pg_are_free_when_they_are_written);
    TEST(the_log_lets_go_after_a_start);
    TEST(what_is_replaced_while_it_is_read_is_read_anew);
    TEST(what_rots_in_the_log_is_mended_after_destage);
    TEST(the_past_gives_way_when_space_is_low);
    TEST(overwritten_chunks_give_way_when_space_is_low);
    TEST(what_was_removed_takes_no_space);
    TEST(what_was_removed_meanwhile_takes_no_space);
    TEST(what_was_removed_waits_for_members_in_contact);
    return tap_done();
}
