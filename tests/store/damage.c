/* SPDX-License-Identifier: Apache-2.0
 *
 * What one spoiled or unreadable block costs: the PG whose it was is told, and no other; nothing older comes
 * back in its place; and what was found stays known.
 */
#include "store/opening.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

static struct store_pg *other; /* PG 2 */

static int open_both(void)
{
    int rc = open_store();

    other = s ? store_pg_find(s, 2) : NULL;
    return rc;
}

static void set_up_both(void)
{
    set_up();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
}

static int write_other(uint64_t object, uint32_t first, uint32_t count)
{
    struct store_pg *mine = pg;

    pg = other;
    int rc = write_blocks(object, first, count);
    pg = mine;
    return rc;
}

/* Work of PG 2, all of it applied, that fills the ring and so makes destage run. */
static void churn(uint32_t entries)
{
    for (uint32_t n = 0; n < entries; n++) {
        CHECK(write_other(n % 5, n % 500, 4) != -ERR_STOPPED);
        rig_settle(&rig);
        store_apply(other, other->durable_index);
        rig_settle(&rig);
    }
}

static uint64_t ring_offset(uint64_t position)
{
    return block_offset(ring_place(s, position));
}

static void destage_all_of(struct store_pg *which)
{
    rig_settle(&rig);
    store_apply(which, which->durable_index);
    destage_pg(pg_of(which));
    rig_settle(&rig);
}

/* The header of the newest batch that has a record of this type of PG 1's object; NULL: none. */
static struct disk_batch *batch_with_record(enum record_type type, uint64_t object)
{
    struct disk_batch *found = NULL;

    for (uint64_t at = 0; at < s->g.ring_blocks; at++) {
        struct disk_batch *h = (struct disk_batch *)(rig.device.data + ring_offset(at));
        if (!batch_validate(s, h, at, s->g.ring_blocks - at) || (found && found->seq > h->seq))
            continue;
        for (uint32_t i = 0; i < h->record_count; i++) {
            const struct disk_record *r = &batch_records(h)[i];
            if (r->type == type && r->key == pg_of(pg)->key && r->slot_of.object == object)
                found = h;
        }
    }
    return found;
}

/* Until there is a newer one than batch `seq`. */
static uint64_t churn_until_record(uint64_t seq)
{
    for (uint32_t n = 0; n < 3000; n++) {
        const struct disk_batch *h = batch_with_record(RECORD_SLOT, 77);
        if (h && h->seq > seq)
            return h->seq;
        churn(1);
    }
    CHECK(!"a record of the page");
    return 0;
}

static void an_unused_block_that_cannot_be_read_costs_nothing(void)
{
    set_up_both();
    /* Batches whose headers have more than one block. */
    for (uint32_t n = 0; n < 3; n++) {
        for (uint32_t i = 0; i < 100; i++)
            CHECK_EQ(write_blocks(i, 0, 1), 0);
        rig_settle(&rig);
    }
    uint64_t last = pg->durable_index;
    CHECK_EQ(last, 300);
    rig.device.bad_from = ring_offset(s->head + 5);
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->last_index, last);
    CHECK(!pg->damaged && !other->damaged);
    tear_down();
}

static void an_unreadable_payload_costs_its_entry(void)
{
    set_up_both();
    CHECK_EQ(write_blocks(1, 0, 4), 0);
    rig_settle(&rig);
    CHECK_EQ(write_other(1, 0, 4), 0);
    rig_settle(&rig);
    uint64_t bad = log_at(pg_of(other), 1)->position + 2;
    CHECK_EQ(write_blocks(1, 4, 4), 0);
    rig_settle(&rig);
    /* A header that knows that all of them are durable. */
    CHECK_EQ(write_blocks(1, 8, 4), 0);
    rig_settle(&rig);
    rig.device.bad_from = ring_offset(bad);
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->last_index, 3);
    CHECK(!pg->damaged);
    CHECK(other->damaged);
    store_apply(pg, pg->last_index);
    CHECK(block_is(1, 9, false) >= 0);
    tear_down();
}

static int log_read(uint64_t index)
{
    struct store_log_read r = {0};

    store_log_read_start(&r, pg, index, index, IO_SIZE_MAX, NULL);
    int rc = rig_wait(&rig, &r.op);
    if (!rc)
        slice_unref(&r.ret_payloads[0]);
    return rc;
}

/* Found when a follower wants it: what is neither applied nor complete makes the log one that cannot be
 * proven whole; followers are not to ask for the rest for ever. */
static void an_entry_that_is_lost_later_is_noticed(void)
{
    set_up_both();
    for (uint32_t i = 1; i <= 4; i++) {
        CHECK_EQ(write_blocks(i, 0, 1), 0);
        rig_settle(&rig);
    }
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    store_apply(pg, 2);
    rig.device.bad_from = ring_offset(log_at(pg_of(pg), 1)->position);
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(log_read(1), -ERR_CHECKSUM);
    CHECK(!pg->damaged);
    rig_settle(&rig);
    CHECK_EQ(log_read(1), -ERR_CHECKSUM);
    CHECK_EQ(pg->first_index, 2);
    CHECK_EQ(log_read(1), -ERR_COMPACTED);
    CHECK_EQ(log_read(2), 0);
    CHECK(!pg->damaged);
    rig.device.bad_from = ring_offset(log_at(pg_of(pg), 4)->position);
    CHECK_EQ(log_read(4), -ERR_CHECKSUM);
    CHECK(pg->damaged);
    CHECK(!other->damaged);
    tear_down();
}

static void a_lost_record_brings_no_older_page_back(void)
{
    set_up_both();
    fill = 100;
    CHECK_EQ(write_blocks(77, 3, 2), 0);
    apply_all();
    uint64_t seq = churn_until_record(0);
    CHECK_EQ(
        put((struct entry){.type = ENTRY_CLEAR, .image = 1, .object = 77, .first_block = 3, .block_count = 1},
            0),
        0);
    apply_all();
    seq = churn_until_record(seq);
    churn(2);
    struct disk_batch *lost = batch_with_record(RECORD_SLOT, 77);
    CHECK_EQ(lost->seq, seq);
    lost->crc ^= 1;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    store_apply(pg, pg->last_index);
    CHECK(pg->damaged || block_is(77, 3, false) == -1);
    CHECK(!other->damaged || pg->damaged);
    tear_down();
}

/* The evidence of damage may go with the next batch: so it is on record before there is one. */
static void damage_is_not_forgotten(void)
{
    set_up_both();
    for (uint32_t n = 0; n < 10; n++) {
        CHECK_EQ(write_blocks(1, n, 1), 0);
        rig_settle(&rig);
    }
    struct store_pg_record record = other->record;
    record.term = 2;
    CHECK_EQ(write_record(&record), 0);
    struct log_entry *e = log_at(pg_of(pg), 10);
    memset(rig.device.data + ring_offset(e->batch->position), 0x5a, BLOCK_SIZE);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK(pg->damaged);
    CHECK_EQ(pg->last_index, 9);
    CHECK_EQ(write_other(1, 0, 1), 0);
    rig_settle(&rig);
    /* Nor with one of the table's copies. */
    uint64_t table = block_offset(s->g.table_block);
    CHECK_EQ(close_store(), 0);
    memset(rig.device.data + table, 0x5a, BLOCK_SIZE);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->record.state, STORE_PG_DAMAGED);
    tear_down();
}

/* What was durable a checkpoint says, too. */
static void a_checkpoint_says_what_was_durable(void)
{
    set_up_both();
    store_recover_floor(pg, 1); /* the tail waits for checkpoints */
    for (uint32_t n = 0; n < 10; n++) {
        CHECK_EQ(write_blocks(1, n, 1), 0);
        rig_settle(&rig);
    }
    uint64_t last = s->last_seq;
    make_checkpoint();
    CHECK_EQ(s->last_seq, last); /* no header behind it has said so */
    memset(rig.device.data + ring_offset(log_at(pg_of(pg), 10)->batch->position), 0x5a, BLOCK_SIZE);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK(pg->damaged);
    CHECK_EQ(pg->last_index, 9);
    tear_down();
}

/* What is complete, or was replaced, is not missed, whatever becomes of its payload. */
static void what_nobody_needs_may_rot(void)
{
    for (int needed = 0; needed <= 1; needed++) {
        set_up_both();
        for (uint32_t i = 1; i <= 4; i++) {
            CHECK_EQ(write_blocks(i, 0, 1), 0);
            rig_settle(&rig);
        }
        CHECK_EQ(put((struct entry){.index = 4, .term = 2, .image = 1, .object = 5}, 1), 0);
        CHECK_EQ(put((struct entry){.index = 5, .term = 2, .image = 1, .object = 6}, 1), 0);
        rig_settle(&rig);
        store_apply(pg, 2);
        destage_pg(pg_of(pg));
        rig_settle(&rig);
        CHECK_EQ(store_complete_index(pg), 2);
        CHECK_EQ(write_other(1, 0, 1), 0);
        rig_settle(&rig);
        rig.device.data[ring_offset(log_at(pg_of(pg), 2)->position)] ^= 1;
        rig.device.data[ring_offset(log_at(pg_of(pg), 3)->position + 2)] ^= 1; /* 4, as it was */
        if (needed)
            rig.device.data[ring_offset(log_at(pg_of(pg), 3)->position)] ^= 1;
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(open_both(), 0);
        CHECK_EQ(pg->damaged, needed);
        CHECK(!other->damaged);
        CHECK_EQ(pg->applied_index, 2);
        CHECK_EQ(pg->last_index, 5);
        CHECK_EQ(log_read(2), -ERR_CHECKSUM); /* who wants it recovers */
        CHECK_EQ(pg->first_index, 3);
        tear_down();
    }
}

static void quiet_time(void)
{
    for (int i = 0; i < 3; i++) {
        rig.now_ns += NS_PER_S;
        rig_settle(&rig);
    }
}

/* What was durable and was the end of the log: once there was time for a header that proves it, its loss is
 * damage. A torn end looks the same, and is cut, until then. */
static void the_newest_batch_is_proven_in_time(void)
{
    for (int proven = 0; proven <= 1; proven++) {
        set_up_both();
        for (uint32_t n = 0; n < 10; n++) {
            CHECK_EQ(write_blocks(1, n, 1), 0);
            rig_settle(&rig);
        }
        uint64_t position = log_at(pg_of(pg), 10)->batch->position, batches = s->counters.batches;
        quiet_time();
        CHECK_EQ(s->counters.batches, batches + 1); /* one is enough */
        if (!proven)
            memset(rig.device.data + ring_offset(position + 2), 0x5a, BLOCK_SIZE);
        memset(rig.device.data + ring_offset(position), 0x5a, BLOCK_SIZE);
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(open_both(), 0);
        CHECK_EQ(pg->damaged, proven);
        CHECK_EQ(pg->last_index, 9);
        tear_down();
    }
}

static bool slot_is_live(uint32_t slot)
{
    for (struct object *o = object_after(pg_of(other), true, 0, 0); o;
         o = object_after(pg_of(other), false, o->image, o->number))
        if (o->slot == slot)
            return true;
    return false;
}

/* PG 2, as if it had been split off PG 1. */
static void set_up_kin(void)
{
    set_up();
    struct pg *kin = pg_create(s, &(struct store_pg_record){.pg = 2, .replica = 1, .term = 1, .group = ALONE},
                               pg_of(pg)->key ^ 3, STORE_PG_NORMAL);
    (void)table_touch(s, kin->table_index);
    rig_settle(&rig);
    other = &kin->pub;
}

/* PG 1's object 77 gives a slot and a chunk back, by a record that is lost then. Meanwhile PG 2 has got one
 * of them: the chunk for an object, or for an entry of its log. That is no damage of PG 2's. */
enum { GETS_SLOT, GETS_CHUNK, ENTRY_GETS_CHUNK };
static void what_was_given_back_is_anothers(int what, bool kin)
{
    struct entry clear = {.type = ENTRY_CLEAR, .image = 1, .object = 77, .block_count = BLOCKS_PER_OBJECT};
    uint64_t objects = 0;

    if (kin)
        set_up_kin();
    else
        set_up_both();
    CHECK_EQ(write_blocks(77, 0, 15), 0);
    destage_all_of(pg);
    const struct object *o = object_find(pg_of(pg), 1, 77);
    uint32_t slot = o->slot, chunk = object_chunk(o, 0);
    CHECK_EQ(put(clear, 0), 0);
    destage_all_of(pg);
    CHECK(o->slot != slot && !object_chunk(o, 0));
    if (what != GETS_SLOT)
        s->page_chunk_used[slot / SLOTS_PER_CHUNK] |= (uint16_t)(1u << slot % SLOTS_PER_CHUNK);
    fill = 1;
    do {
        s->chunk_hint = chunk + (what == GETS_SLOT);
        CHECK_EQ(write_other(++objects, 0, 16), 0);
        rig_settle(&rig);
        if (what != ENTRY_GETS_CHUNK)
            destage_all_of(other);
    } while (what == GETS_SLOT && !slot_is_live(slot) && objects < 50);
    CHECK_EQ(slot_is_live(slot), what == GETS_SLOT);
    CHECK_EQ(s->chunk_refs[chunk] != 0, what != GETS_SLOT);
    quiet_time();
    batch_with_record(RECORD_SLOT, 77)->crc ^= 1;
    for (int starts = 0; starts < 2; starts++) {
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(open_both(), 0);
        CHECK_EQ(pg->record.state, STORE_PG_DAMAGED);
        CHECK_EQ(other->record.state, STORE_PG_NORMAL);
        pg = other;
        for (uint64_t object = 1; object <= objects; object++)
            CHECK_EQ(block_is(object, 3, true), (int)object + 3);
        pg = store_pg_find(s, 1);
    }
    tear_down();
}

/* The same of an entry of PG 1's log that was replaced, whose chunk an entry of PG 2's has got. */
static void what_was_replaced_is_anothers(bool kin)
{
    if (kin)
        set_up_kin();
    else
        set_up_both();
    CHECK_EQ(write_blocks(77, 0, 16), 0);
    rig_settle(&rig);
    uint32_t chunk = entry_chunks(log_at(pg_of(pg), 1))[0];
    CHECK_EQ(put((struct entry){.index = 1, .term = 2, .image = 1, .object = 77}, 1), 0);
    rig_settle(&rig);
    uint64_t position = log_at(pg_of(pg), 1)->batch->position;
    quiet_time();
    CHECK(!s->chunk_refs[chunk]);
    s->chunk_hint = chunk;
    CHECK_EQ(write_other(1, 0, 16), 0);
    rig_settle(&rig);
    CHECK_EQ(entry_chunks(log_at(pg_of(other), 1))[0], chunk);
    quiet_time();
    rig.device.data[ring_offset(position) + 100] ^= 1;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK(pg->damaged && !other->damaged);
    tear_down();
}

static void what_a_lost_record_gave_back_is_anothers(void)
{
    for (int kin = 0; kin <= 1; kin++) {
        what_was_replaced_is_anothers(kin);
        what_was_given_back_is_anothers(GETS_SLOT, kin);
        what_was_given_back_is_anothers(GETS_CHUNK, kin);
    }
    what_was_given_back_is_anothers(ENTRY_GETS_CHUNK, false);
}

/* The newer one rots, at a time when the tail has moved since it was made: with the older one, and the
 * records that are in the ring, nothing is missing, not even of objects that were left alone since. */
static void either_checkpoint_will_do(void)
{
    enum { ROUNDS = 200 };
    int is[ROUNDS], done = 0;
    uint8_t *left = malloc(SIZE);

    set_up_both();
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t checkpoints = store_counters(s)->checkpoints, moves = store_counters(s)->tail_moves;
        is[round] = fill;
        CHECK_EQ(write_blocks(round, 0, 1), 0);
        churn(20);
        store_apply(pg, pg->durable_index);
        if (store_counters(s)->checkpoints != checkpoints || store_counters(s)->tail_moves == moves)
            continue;
        uint64_t newer = block_offset(s->g.checkpoint_block +
                                      (s->ckpt_number[0] > s->ckpt_number[1] ? 0 : s->g.checkpoint_blocks));
        CHECK_EQ(close_store(), 0);
        memcpy(left, rig.device.data, SIZE);
        memset(rig.device.data + newer, 0x5a, BLOCK_SIZE);
        CHECK_EQ(open_both(), 0);
        CHECK(!pg->damaged && !other->damaged);
        store_apply(pg, pg->last_index);
        for (uint32_t object = 0; object <= round; object++)
            CHECK_EQ(block_is(object, 0, false), is[object]);
        CHECK_EQ(close_store(), 0);
        memcpy(rig.device.data, left, SIZE);
        CHECK_EQ(open_both(), 0);
        store_apply(pg, pg->last_index);
        store_apply(other, other->last_index);
        done++;
    }
    CHECK(done > 10);
    free(left);
    tear_down();
}

/* Of a header that takes many blocks each byte counts. */
static void all_of_a_header_is_checked(void)
{
    struct disk_batch *h = NULL;

    set_up();
    for (uint64_t epoch = 1; epoch <= 200; epoch++)
        store_recover_floor(pg, epoch);
    rig_settle(&rig);
    for (uint64_t at = 0; at < s->g.ring_blocks && !h; at++) {
        h = (struct disk_batch *)(rig.device.data + ring_offset(at));
        h = h->magic == MAGIC_BATCH && h->record_count == 200 ? h : NULL;
    }
    CHECK(h && h->header_blocks > 1);
    CHECK_EQ(close_store(), 0);
    struct disk_record *last = (struct disk_record *)((uint8_t *)h + h->used_bytes) - 1;
    CHECK_EQ(last->floor_of.epoch, 200);
    last->floor_of.epoch = 5000;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->floor_epoch, 0);
    tear_down();
}

static void dead_slots_are_ignored(void)
{
    set_up_both();
    churn(900);
    /* Former pages become copies of a live one, as if it had been written there too. */
    struct object *o = object_after(pg_of(other), true, 0, 0);
    const uint8_t *live = rig.device.data + block_offset(slot_place(s, o->slot));
    uint32_t dead = 0;
    for (uint64_t chunk = 1; chunk <= s->g.chunk_count; chunk++)
        for (uint32_t i = 0; i < SLOTS_PER_CHUNK; i++) {
            uint32_t slot = (uint32_t)chunk * SLOTS_PER_CHUNK + i;
            uint8_t *at = rig.device.data + block_offset(slot_place(s, slot));
            if (((struct disk_page *)at)->magic != MAGIC_PAGE || slot_is_live(slot))
                continue;
            memcpy(at, live, BLOCK_SIZE);
            dead++;
        }
    CHECK(dead > 0);
    uint64_t used = store_space(s).used_bytes, objects = other->object_count;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(store_space(s).used_bytes, used);
    CHECK_EQ(other->object_count, objects);
    CHECK_EQ(store_counters(s)->damaged_objects, 0);
    tear_down();
}

/* Opens with a number of both copies of PG 1's table block changed. */
static int open_with(size_t offset, uint64_t value)
{
    uint64_t places[] = {16, 16 + DIV_UP(STORE_PGS_MAX_SMALL, TABLE_RECORDS_PER_BLOCK)};
    uint8_t saved[2][BLOCK_SIZE];

    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *block = rig.device.data + places[i] * BLOCK_SIZE;
        memcpy(saved[i], block, BLOCK_SIZE);
        memcpy(block + offset, &value, 8);
        FORMAT_SEAL((struct disk_table_block *)block);
    }
    int rc = open_both();
    if (rc == 0)
        close_store();
    for (uint32_t i = 0; i < 2; i++)
        memcpy(rig.device.data + places[i] * BLOCK_SIZE, saved[i], BLOCK_SIZE);
    return rc;
}

static void impossible_numbers_are_refused(void)
{
    size_t record = offsetof(struct disk_table_block, records);

    set_up_both();
    CHECK_EQ(write_blocks(1, 0, 4), 0);
    apply_all();
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_with(record + offsetof(struct disk_pg, base_index), 0), 0);
    CHECK_EQ(open_with(record + offsetof(struct disk_pg, base_index), UINT64_MAX), -ERR_FORMAT);
    CHECK_EQ(open_with(record + offsetof(struct disk_pg, order), UINT64_MAX), -ERR_FORMAT);
    CHECK_EQ(open_with(record + offsetof(struct disk_pg, group_index), UINT64_MAX), -ERR_FORMAT);
    CHECK_EQ(open_with(record + offsetof(struct disk_pg, group), 0),
             -ERR_FORMAT); /* a replica without number */
    CHECK_EQ(open_with(offsetof(struct disk_table_block, seq), UINT64_MAX), -ERR_DAMAGED);
    CHECK_EQ(open_with(offsetof(struct disk_table_block, ring_seq), UINT64_MAX), -ERR_DAMAGED);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->last_index, 1);
    tear_down();
}

/* A batch of its own for the PGs of the bit mask, one entry each; its position. */
static uint64_t batch_for(uint32_t mask)
{
    struct log_entry *e = NULL;

    for (uint64_t id = 1; id <= 4; id++) {
        if (!(mask & 1u << id))
            continue;
        pg = store_pg_find(s, id);
        CHECK_EQ(write_blocks(1, (uint32_t)pg->last_index, 1), 0);
    }
    uint64_t index = pg->last_index;
    rig_settle(&rig);
    e = log_at(pg_of(pg), index);
    return e->batch->position;
}

/* Bit mask of the PGs that are damaged. */
static uint32_t damaged_pgs(void)
{
    uint32_t mask = 0;

    for (const struct store_pg *p = NULL; (p = store_pg_next(s, p));)
        mask |= (uint32_t)p->damaged << p->record.pg;
    return mask;
}

static bool restarts; /* behind the first of them */

/* Of batches for these PGs those at [spoiled, spoiled + count) get unreadable headers. Who is damaged then?
 */
static uint32_t damaged_by(const uint32_t *masks, uint32_t spoiled, uint32_t count)
{
    set_up_both();
    for (uint32_t id = 3; id <= 4; id++)
        CHECK_EQ(write_record(&(struct store_pg_record){.pg = id, .replica = 1, .birth = 3}), 0);
    for (uint32_t i = 0; i < 6; i++) {
        uint64_t position = batch_for(masks[i]);
        if (restarts && i == spoiled) {
            CHECK_EQ(close_store(), 0);
            CHECK_EQ(open_both(), 0);
        }
        if (i >= spoiled && i < spoiled + count)
            memset(rig.device.data + ring_offset(position), 0x5a, BLOCK_SIZE);
    }
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    uint32_t damaged = damaged_pgs();
    for (uint64_t id = 1; id <= 4; id++) {
        struct store_pg *p = store_pg_find(s, id);
        uint64_t entries = 0;
        for (uint32_t i = 0; i < 6; i++)
            entries += masks[i] >> id & 1;
        if (!(damaged & 1u << id))
            CHECK_EQ(p->last_index, entries);
    }
    tear_down();
    return damaged;
}

/* One lost batch concerns the PGs that had entries in it; of several nobody knows all, so it concerns all. */
static void exactly_the_named_pgs_are_damaged(void)
{
    static const uint32_t masks[6] = {1u << 2, 1u << 1 | 1u << 3, 1u << 2,
                                      1u << 4, 1u << 2 | 1u << 3, 1u << 1};

    for (int times = 0; times < 2; times++) {
        restarts = times;
        CHECK_EQ(damaged_by(masks, 0, 0), 0);
        for (uint32_t i = 0; i < 4; i++)
            CHECK_EQ(damaged_by(masks, i, 1), masks[i]);
        CHECK_EQ(damaged_by(masks, 1, 2), 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4);
    }
    restarts = false;
}

/* PG 1's objects come from elsewhere, and its log begins anew. */
static void recovers(enum store_pg_state state)
{
    struct store_pg_record record = pg->record;

    record.state = state;
    CHECK_EQ(write_record(&record), 0);
    record.base_index = pg->last_index + 10;
    record.base_term = 2;
    store_reset_base(pg, record.base_index, record.base_term, &ALONE, 0);
    record.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&record), 0);
    CHECK_EQ(put((struct entry){.type = ENTRY_NOOP, .term = 2}, 0), 0);
    rig_settle(&rig);
}

/* A lost batch is found at each start, until the tail has passed it. Who has recovered since has not lost any
 * of its log; nor of its records, if there is a checkpoint behind the batch: either that has them, or it was
 * made when they were lost already, as the start that finds it does at once. */
static void who_has_recovered_is_not_damaged_again(void)
{
    for (int checkpoint = 0; checkpoint <= 1; checkpoint++)
        for (int known = 0; known + checkpoint <= 1; known++) {
            set_up_both();
            store_recover_floor(pg, 1); /* the tail waits for checkpoints */
            rig_settle(&rig);
            CHECK_EQ(write_other(1, 0, 1), 0);
            CHECK_EQ(write_blocks(1, 0, 1), 0);
            rig_settle(&rig);
            uint64_t position = log_at(pg_of(pg), 1)->batch->position;
            CHECK_EQ(log_at(pg_of(other), 1)->batch->position, position);
            CHECK_EQ(write_blocks(1, 1, 1), 0);
            rig_settle(&rig);
            if (known) {
                rig.device.data[ring_offset(position) + 100] ^= 1;
                reopen();
                CHECK_EQ(damaged_pgs(), 1u << 1 | 1u << 2);
            }
            recovers(known ? STORE_PG_DAMAGED : STORE_PG_RECOVERING);
            if (checkpoint)
                make_checkpoint();
            if (!known)
                rig.device.data[ring_offset(position) + 100] ^= 1;
            uint64_t last = pg->last_index;
            reopen();
            CHECK_EQ(damaged_pgs(), (known || checkpoint ? 0 : 1u << 1) | 1u << 2);
            CHECK_EQ(pg->last_index, last);
            tear_down();
        }
}

/* A recovery goes back: its source had been started anew, and had destaged less than what was complete here.
 * What the lost record said is of an entry behind that base, which comes with the log. It is not complete
 * again before it has been destaged here once more; nor if the table knew of a log that began behind it. */
static void a_recovery_goes_back(bool trimmed)
{
    set_up_both();
    int before = fill;
    CHECK_EQ(write_blocks(77, 0, 16), 0);
    destage_all_of(pg);
    fill = 99;
    CHECK_EQ(write_blocks(77, 0, 16), 0);
    destage_all_of(pg);
    CHECK_EQ(store_complete_index(pg), 2);
    quiet_time();
    batch_with_record(RECORD_SLOT, 77)->crc ^= 1;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->record.state, STORE_PG_DAMAGED);
    CHECK_EQ(store_complete_index(pg), 2);
    CHECK_EQ(block_is(77, 0, false), before);
    quiet_time();
    struct store_pg_record record = pg->record;
    if (trimmed) {
        record.base_index = 2;
        record.base_term = 1;
        CHECK_EQ(write_record(&record), 0);
    }
    store_reset_base(pg, 1, 1, &ALONE, 0);
    record.base_index = 1;
    record.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&record), 0);
    fill = 99;
    CHECK_EQ(write_blocks(77, 0, 16), 0);
    rig_settle(&rig);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK(!pg->damaged);
    CHECK_EQ(pg->record.state, STORE_PG_NORMAL);
    CHECK_EQ(pg->applied_index, 1);
    CHECK_EQ(pg->last_index, 2);
    apply_all();
    CHECK_EQ(block_is(77, 0, false), 99);
    tear_down();
}

static void put_image(uint64_t generation, uint64_t size_bytes)
{
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .image = 1,
                                .incarnation = 1,
                                .generation = generation,
                                .size_bytes = size_bytes},
                 0),
             0);
}

/* The same of what an image's end cut off before the image grew again: the record is here, and the lost one
 * was that of the object. */
static void a_recovery_goes_back_over_an_end(bool restart)
{
    set_up_both();
    put_image(1, 1ull << 30);
    int before = fill;
    CHECK_EQ(write_blocks(77, 0, 16), 0);
    apply_all();
    destage_all_of(pg);
    put_image(2, OBJECT_SIZE);
    put_image(3, 1ull << 30);
    apply_all();
    destage_all_of(pg);
    CHECK_EQ(store_complete_index(pg), 4);
    CHECK_EQ(block_is(77, 0, false), -1);
    quiet_time();
    batch_with_record(RECORD_SLOT, 77)->crc ^= 1;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->record.state, STORE_PG_DAMAGED);
    CHECK_EQ(store_complete_index(pg), 4);
    CHECK_EQ(store_image_get(pg, 1)->generation, 3);
    CHECK_EQ(block_is(77, 0, false), before);
    struct store_pg_record record = pg->record;
    store_reset_base(pg, 2, 1, &ALONE, 0);
    record.base_index = 2;
    record.base_term = 1;
    record.state = STORE_PG_NORMAL;
    CHECK_EQ(write_record(&record), 0);
    put_image(2, OBJECT_SIZE);
    put_image(3, 1ull << 30);
    rig_settle(&rig);
    if (restart)
        reopen();
    apply_all();
    CHECK_EQ(pg->applied_index, 4);
    CHECK_EQ(store_image_get(pg, 1)->generation, 3);
    CHECK_EQ(block_is(77, 0, false), -1);
    tear_down();
}

/* Behind another one, whose record is still in the ring when a checkpoint tells of both. */
static void a_recovery_goes_back_behind_another(void)
{
    static const uint64_t bases[] = {5, 2};

    set_up();
    for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
        struct store_pg_record record = pg->record;
        store_reset_base(pg, bases[i], 1, &ALONE, 0);
        record.base_index = bases[i];
        record.base_term = 1;
        CHECK_EQ(write_record(&record), 0);
    }
    make_checkpoint();
    int before = fill;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(write_blocks(77, (uint32_t)i, 1), 0);
    rig_settle(&rig);
    reopen();
    CHECK_EQ(pg->applied_index, 2);
    CHECK_EQ(pg->first_index, 3);
    CHECK_EQ(pg->last_index, 5);
    apply_all();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(block_is(77, (uint32_t)i, false), before + i);
    tear_down();
}

static void what_was_complete_is_not_behind_a_recovery(void)
{
    a_recovery_goes_back_behind_another();
    a_recovery_goes_back(false);
    a_recovery_goes_back(true);
    a_recovery_goes_back_over_an_end(false);
    a_recovery_goes_back_over_an_end(true);
}

static void other_versions_are_refused(void)
{
    set_up();
    CHECK_EQ(close_store(), 0);
    struct disk_superblock *a = (struct disk_superblock *)(rig.device.data + SUPERBLOCK_A_BLOCK * BLOCK_SIZE);
    struct disk_superblock *b = (struct disk_superblock *)(rig.device.data + SUPERBLOCK_B_BLOCK * BLOCK_SIZE);
    uint32_t b_crc = b->crc;
    a->version = b->version = FORMAT_VERSION + 1;
    FORMAT_SEAL(a);
    FORMAT_SEAL(b);
    CHECK_EQ(open_store(), -ERR_VERSION);
    b->crc ^= 1; /* what the other copy is does not hide it */
    CHECK_EQ(open_store(), -ERR_VERSION);
    b->version = FORMAT_VERSION;
    b->crc = b_crc;
    a->crc ^= 1;
    CHECK_EQ(open_store(), 0);
    tear_down();

    rig_init(&rig, 4u << 20, 200u << 20);
    struct device_label label = {.osd = 7, .start_counter = 1};
    struct device_write w = {0};
    struct device_read r = {0};
    CHECK_EQ(device_layout(200u << 20, 1, &label), 0);
    device_write_start(&w, &rig.core, &rig.device.blk, &label, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct disk_label *disk =
            (struct disk_label *)(rig.device.data + (i ? LABEL_OFFSET_B : LABEL_OFFSET_A));
        disk->version++;
        FORMAT_SEAL(disk);
    }
    device_read_start(&r, &rig.core, &rig.device.blk, NULL);
    CHECK_EQ(rig_wait(&rig, &r.op), -ERR_VERSION);
    rig_fini(&rig);
}

/* The newest copy is damaged: while the next is written, the other must stay what it is. */
static void a_damaged_blob_is_written_over(void)
{
    for (uint32_t writes = 2; writes <= 3; writes++) {
        set_up();
        for (uint32_t n = 1; n <= writes; n++)
            write_blob(n == writes ? "newest" : n == writes - 1 ? "before" : "oldest");
        uint8_t *copies = rig.device.data + block_offset(s->g.blob_block);
        uint64_t size = block_offset(s->g.blob_blocks);
        uint64_t newest = memcmp(copies + BLOCK_SIZE, "newest", 6) == 0 ? 0 : size;
        copies[newest + BLOCK_SIZE] ^= 1;
        reopen();
        CHECK(blob_is("before"));
        write_blob("after1");
        CHECK(memcmp(copies + newest + BLOCK_SIZE, "after1", 6) == 0);
        CHECK(memcmp(copies + (size - newest) + BLOCK_SIZE, "before", 6) == 0);
        reopen();
        CHECK(blob_is("after1"));
        write_blob("after2");
        CHECK(memcmp(copies + newest + BLOCK_SIZE, "after1", 6) == 0);
        reopen();
        CHECK(blob_is("after2"));
        tear_down();
    }
}

static void a_damaged_checkpoint_is_written_over(void)
{
    set_up_both();
    while (store_counters(s)->checkpoints < 3)
        churn(10);
    int newest = s->ckpt_number[0] > s->ckpt_number[1] ? 0 : 1;
    uint64_t number = s->ckpt_number[newest];
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    uint8_t *copies = rig.device.data + block_offset(s->g.checkpoint_block);
    uint64_t size = block_offset(s->g.checkpoint_blocks);
    struct disk_checkpoint *bad = (struct disk_checkpoint *)(copies + (newest ? size : 0));
    struct disk_checkpoint *good = (struct disk_checkpoint *)(copies + (newest ? 0 : size));
    CHECK_EQ(bad->number, number);
    ((uint8_t *)bad)[BLOCK_SIZE + 100] ^= 1;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    uint64_t before = good->number;
    while (store_counters(s)->checkpoints < 1)
        churn(1);
    CHECK_EQ(good->number, before);
    CHECK(bad->number > number);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK(!pg->damaged && !other->damaged);
    tear_down();
}

static void force_checkpoint(void)
{
    uint64_t number = s->destage.ckpt_number;

    s->ckpt_due = true;
    destage_wake(s);
    rig_settle(&rig);
    CHECK(s->destage.ckpt_number > number);
}

/* The header of one could not be read at a start, or a crash came before it was written: so the next one in
 * that copy has the same number. Of that one the device then loses a block, and has the one before. */
static void blocks_of_two_checkpoints_are_none(void)
{
    static uint8_t block[BLOCK_SIZE];

    for (int torn = 0; torn <= 1; torn++) {
        set_up_both();
        force_checkpoint();
        CHECK(s->ckpt_number[0] > s->ckpt_number[1]);
        uint64_t header = block_offset(s->g.checkpoint_block + s->g.checkpoint_blocks);
        store_recover_floor(pg, 1);
        rig_settle(&rig);
        rig.device.held_from = rig.device.bad_from = header;
        rig.device.held_len = torn ? BLOCK_SIZE : 0;
        rig.device.bad_len = torn ? 0 : BLOCK_SIZE;
        force_checkpoint();
        uint64_t number = s->destage.ckpt_number;
        store_recover_floor(pg, 7);
        rig_settle(&rig);
        memcpy(block, rig.device.data + header + BLOCK_SIZE, BLOCK_SIZE);
        power_fails();
        rig.device.bad_len = 0;
        rig_settle(&rig);
        if (torn)
            force_checkpoint();
        CHECK_EQ(s->ckpt_number[1], number);
        CHECK_EQ(close_store(), 0);
        memcpy(rig.device.data + header + BLOCK_SIZE, block, BLOCK_SIZE);
        CHECK_EQ(open_both(), 0);
        CHECK_EQ(pg->floor_epoch, 7);
        rig_settle(&rig);
        CHECK_EQ(store_counters(s)->checkpoints, 1);
        CHECK(s->ckpt_number[1] > number);
        tear_down();
    }
}

/* Whichever copy of the checkpoint a start finds damaged, and where: there are two again though nothing is
 * written, and each of them will do. */
static void a_start_makes_the_second_checkpoint(void)
{
    for (int copy = 0; copy <= 1; copy++)
        for (uint64_t block = 0; block <= 1; block++) {
            set_up_both();
            store_recover_floor(pg, 1);
            rig_settle(&rig);
            force_checkpoint();
            force_checkpoint();
            if (!copy)
                force_checkpoint();
            CHECK_EQ(s->ckpt_number[copy], s->ckpt_last);
            uint8_t *copies[] = {rig.device.data + block_offset(s->g.checkpoint_block),
                                 rig.device.data +
                                     block_offset(s->g.checkpoint_block + s->g.checkpoint_blocks)};
            CHECK_EQ(close_store(), 0);
            memset(copies[copy] + block_offset(block), 0x5a, BLOCK_SIZE);
            CHECK_EQ(open_both(), 0);
            rig_settle(&rig);
            CHECK(s->ckpt_number[copy] > s->ckpt_number[!copy] && s->ckpt_number[!copy]);
            CHECK_EQ(close_store(), 0);
            memset(copies[!copy], 0x5a, BLOCK_SIZE);
            CHECK_EQ(open_both(), 0);
            CHECK_EQ(pg->floor_epoch, 1);
            /* Two that are whole are left alone. */
            rig_settle(&rig);
            reopen();
            rig_settle(&rig);
            CHECK_EQ(store_counters(s)->checkpoints, 0);
            tear_down();
        }
}

/* More records than a copy has room for: nothing is written over what lies behind it. */
static void a_checkpoint_stays_in_its_place(void)
{
    set_up_both();
    store_recover_floor(pg, 1);
    rig_settle(&rig);
    force_checkpoint();
    uint64_t blocks = s->g.checkpoint_blocks;
    s->g.checkpoint_blocks = 1;
    uint8_t *behind = rig.device.data + block_offset(checkpoint_place(s) + 1), was[BLOCK_SIZE];
    memcpy(was, behind, BLOCK_SIZE);
    s->ckpt_due = true;
    destage_wake(s);
    rig_settle(&rig);
    CHECK_EQ(store_failed(s), -ERR_NO_SPACE);
    CHECK_EQ(memcmp(was, behind, BLOCK_SIZE), 0);
    s->g.checkpoint_blocks = blocks;
    tear_down();
}

/* A PG that comes when all others have been written is not among them: readers know where the blocks end by
 * the number of records. */
static void a_block_that_is_not_full_is_the_last(void)
{
    static struct disk_checkpoint_block blocks[2];

    set_up_both();
    store_recover_floor(pg, 1);
    rig_settle(&rig);
    checkpoint_begin(s);
    uint8_t *place = rig.device.data + block_offset(checkpoint_place(s));
    CHECK_EQ(checkpoint_fill(s, blocks, 2), 1);
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 3, .replica = 1, .birth = 3}), 0);
    store_recover_floor(store_pg_find(s, 3), 5);
    rig_settle(&rig);
    memcpy(place + BLOCK_SIZE, blocks, BLOCK_SIZE);
    while (checkpoint_fill(s, blocks, 2))
        ;
    checkpoint_header(s, (struct disk_checkpoint *)place);
    checkpoint_done(s);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    CHECK_EQ(pg->floor_epoch, 1);
    CHECK_EQ(store_pg_find(s, 3)->floor_epoch, 5);
    CHECK(s->ckpt_number[0] && s->ckpt_number[1]);
    tear_down();
}

static uint64_t problems_found(void)
{
    struct store_check c = {0};

    store_check_start(&c, &rig.core, &rig.device.blk, false, NULL, NULL, NULL);
    CHECK_EQ(rig_wait(&rig, &c.op), 0);
    return c.ret_problems;
}

static void superblocks_are_compared_and_healed(void)
{
    set_up();
    struct disk_superblock *copies[] = {
        (struct disk_superblock *)rig.device.data,
        (struct disk_superblock *)(rig.device.data + SUPERBLOCK_B_BLOCK * BLOCK_SIZE)};
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(problems_found(), 0);
    for (uint32_t n = 0; n < 4; n++) {
        struct disk_superblock *sb = copies[n & 1];
        if (n == 3) {
            /* It verifies, and is another one. */
            sb->format_id[3] ^= 1;
            FORMAT_SEAL(sb);
        } else {
            memset(sb, n == 2 ? 0 : 0x55, sizeof(*sb));
        }
        CHECK_EQ(problems_found(), 1);
        CHECK(memcmp(copies[0], copies[1], BLOCK_SIZE) != 0);
        CHECK_EQ(open_store(), 0);
        CHECK(memcmp(copies[0], copies[1], BLOCK_SIZE) == 0);
        CHECK_EQ(close_store(), 0);
        CHECK_EQ(problems_found(), 0);
    }
    CHECK_EQ(open_store(), 0);
    tear_down();
}

static void a_check_writes_nothing(void)
{
    set_up();
    uint64_t table = block_offset(s->g.table_block), len = block_offset(s->g.ring_block);
    CHECK_EQ(write_blocks(1, 0, 4), 0);
    apply_all();
    CHECK_EQ(close_store(), 0);
    rig.device.data[table] ^= 1;
    rig.device.data[SUPERBLOCK_B_BLOCK * BLOCK_SIZE] ^= 1;
    uint8_t *before = malloc(len);
    memcpy(before, rig.device.data, len);
    CHECK(problems_found() > 0);
    CHECK(memcmp(before, rig.device.data, len) == 0);
    free(before);
    tear_down();
}

/* The bits of the damaged ones of the object's first 8 blocks. */
static uint64_t damaged_blocks(uint64_t object)
{
    struct store_read r = {0};

    store_read_start(&r, pg, 1, object, 0, 8, false, NULL);
    int rc = rig_wait(&rig, &r.op);
    CHECK_EQ(rc, r.ret_damaged[0] ? -ERR_DAMAGED : 0);
    slice_unref(&r.ret_data);
    return r.ret_damaged[0];
}

/* Blocks that a copy's source has not are errors from then on, also after a start, and the others are not. */
static void a_copy_may_lack_blocks(void)
{
    const uint64_t written[IO_BLOCKS_MAX / 64] = {1 << 1 | 1 << 2 | 1 << 4};
    const uint64_t damaged[IO_BLOCKS_MAX / 64] = {1 << 2};
    struct store_copy_write w = {0};
    struct store_copy_end end = {0};
    struct store_copy *copy = NULL;
    const int place[3] = {1, 2, 4};
    uint32_t crc[8];

    set_up();
    CHECK_EQ(write_blocks(3, 0, 1), 0);
    apply_all();
    struct buf *buf = buf_new(rig.core.arena, 3 * BLOCK_SIZE);
    for (int i = 0; i < 3; i++) {
        memset(buf->data + i * BLOCK_SIZE, 0x50 + i, BLOCK_SIZE);
        crc[place[i]] = crc32c(0, buf->data + i * BLOCK_SIZE, BLOCK_SIZE) ^ (i == 1);
    }
    CHECK_EQ(store_copy_new(pg, 1, 7, &copy), 0);
    struct slice data = {buf, 0, 3 * BLOCK_SIZE};
    store_copy_write_start(&w, copy, 0, 8, written, damaged, pg->applied_index, NULL, NULL, crc, &data, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    store_copy_end_start(&end, copy, pg->applied_index, NULL);
    CHECK_EQ(rig_wait(&rig, &end.op), 0);
    buf_unref(buf);
    for (int start = 0; start < 2; start++) {
        CHECK_EQ(damaged_blocks(7), 1 << 2);
        CHECK_EQ(block_is(7, 1, false), 0x50);
        CHECK_EQ(block_is(7, 3, false), -1);
        CHECK_EQ(block_is(7, 4, false), 0x52);
        reopen();
    }
    fill = 0x60;
    CHECK_EQ(write_blocks(7, 2, 1), 0);
    apply_all();
    CHECK_EQ(damaged_blocks(7), 0);
    tear_down();
}

/* ---- pages that the device does not give at the start -------------------------------------------------- */

/* Object 1 has 16 blocks, in a chunk of its own. Returns that chunk; the page cannot be read any more, or is
 * not read as it was written. */
static uint32_t set_up_unreadable(bool wrong)
{
    set_up();
    fill = 1;
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    apply_all();
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
    const struct object *o = object_find(pg_of(pg), 1, 1);
    uint32_t chunk = object_chunk(o, 0);
    rig.device.bad_from = block_offset(slot_place(s, o->slot));
    if (wrong)
        rig.device.wrong_at = rig.device.bad_from + 100;
    else
        rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(close_store(), 0);
    return chunk;
}

static void comes_late(bool wrong)
{
    struct store_open o = {0};

    set_up_unreadable(wrong);
    store_open_start(&o, &config, NULL);
    for (uint64_t until_ns = rig.now_ns + 250 * NS_PER_MS; rig.now_ns < until_ns;)
        rig_turn(&rig);
    CHECK(op_live(&o.op));
    rig.device.bad_len = rig.device.wrong_at = 0;
    CHECK_EQ(rig_wait(&rig, &o.op), 0);
    s = o.ret_store;
    pg = store_pg_find(s, 1);
    CHECK_EQ(block_is(1, 3, false), 4);
    CHECK_EQ(store_counters(s)->damaged_objects, 0);
    tear_down();
}

static void a_page_that_comes_late_is_no_damage(void)
{
    comes_late(false);
    comes_late(true);
}

/* Its chunk is another's by then. */
static void stays_lost(bool wrong)
{
    uint32_t chunk = set_up_unreadable(wrong);
    uint64_t last = 1;

    CHECK_EQ(open_store(), 0);
    CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
    while (!s->chunk_refs[chunk] && last < 400) {
        fill = (uint8_t)++last;
        CHECK_EQ(write_blocks(last, 0, 16), 0);
        apply_all();
        destage_up_to(pg_of(pg), pg->last_index);
        rig_settle(&rig);
    }
    CHECK(s->chunk_refs[chunk] > 0);
    CHECK_EQ(close_store(), 0);
    rig.device.bad_len = rig.device.wrong_at = 0;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(block_is(1, 3, false), -ERR_DAMAGED);
    for (uint64_t o = 2; o <= last; o++)
        CHECK_EQ(block_is(o, 3, false), (uint8_t)(o + 3));
    CHECK_EQ(store_counters(s)->damaged_objects, 0);
    tear_down();
}

static void a_lost_page_does_not_return(void)
{
    stays_lost(false);
    stays_lost(true);
}

/* When nearly nothing can be read it is not the pages that are damaged. */
static void left_alone(uint64_t objects, int error)
{
    set_up();
    rig.device.bad_error = error;
    for (uint64_t o = 1; o <= objects; o++) {
        CHECK_EQ(write_blocks(o, 0, 1), 0);
        apply_all();
    }
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
    rig.device.bad_from = block_offset(s->g.chunk_block);
    rig.device.bad_len = SIZE;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_store(), -ERR_IO);
    rig.device.bad_len = 0;
    CHECK_EQ(open_store(), 0);
    for (uint64_t o = 1; o <= objects; o++)
        CHECK(block_is(o, 0, false) >= 0);
    tear_down();
}

static void a_device_that_gives_nothing_is_left_alone(void)
{
    left_alone(80, -ERR_IO);
    left_alone(20, -ERR_IO); /* also where there is little */
    left_alone(20, -ERR_TIMEOUT);
    left_alone(20, -ERR_NOT_FOUND); /* it has been pulled out */
}

/* How much cannot be read is judged by all pages of the slice, in whatever order they come: here the six of
 * PG 2, and those of PG 1, which is damaged, behind them. */
static void some_pages_of_many_may_be_lost(void)
{
    set_up_both();
    for (uint64_t o = 1; o <= 32; o++)
        CHECK_EQ(write_blocks(o, 0, 1), 0);
    destage_all_of(pg);
    for (uint64_t o = 1; o <= 6; o++)
        CHECK_EQ(write_other(o, 0, 1), 0);
    destage_all_of(other);
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    uint64_t position = log_at(pg_of(pg), pg->last_index)->batch->position;
    quiet_time();
    rig.device.data[ring_offset(position) + 100] ^= 1;
    uint32_t first = object_find(pg_of(other), 1, 1)->slot;
    CHECK_EQ(object_find(pg_of(other), 1, 6)->slot, first + 5);
    rig.device.bad_from = block_offset(slot_place(s, first));
    rig.device.bad_len = 6 * BLOCK_SIZE;
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    if (s) {
        CHECK(pg->damaged && !other->damaged);
        CHECK_EQ(store_counters(s)->damaged_objects, 6);
    }
    tear_down();
}

/* A batch is lost with entries that had replaced others, and all of them are complete: what they had replaced
 * is still in the ring, and is not the log's. That ends where the log says, and not in front of what is
 * complete. */
static void what_was_replaced_does_not_come_back_below_what_is_complete(void)
{
    set_up();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(write_blocks(1, 0, 1), 0);
        rig_settle(&rig);
    }
    CHECK_EQ(put((struct entry){.index = 2, .term = 2, .image = 1, .object = 2}, 1), 0);
    CHECK_EQ(put((struct entry){.index = 3, .term = 2, .image = 1, .object = 2}, 1), 0);
    rig_settle(&rig);
    uint64_t lost = ring_place(s, log_at(pg_of(pg), 2)->batch->position);
    CHECK_EQ(log_at(pg_of(pg), 3)->batch, log_at(pg_of(pg), 2)->batch);
    CHECK_EQ(put((struct entry){.index = 4, .term = 2, .image = 1, .object = 2}, 1), 0);
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), 4);
    CHECK_EQ(close_store(), 0);
    memset(rig.device.data + block_offset(lost), 0, BLOCK_SIZE);
    CHECK_EQ(open_store(), 0);
    CHECK(pg->damaged);
    CHECK_EQ(pg->applied_index, 4);
    CHECK_EQ(pg->first_index, 4);
    CHECK_EQ(pg->last_index, 4);
    CHECK_EQ(store_log_term(pg, 4), 2);
    CHECK_EQ(store_log_term(pg, 3), 2);
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    apply_all();
    CHECK_EQ(pg->applied_index, 5);
    tear_down();
}

/* As when it is to be copied forward. */
static void read_for_copy(struct log_entry *e, bool rotten)
{
    rig.device.data[block_offset(entry_place(s, e, 1)) + 9] ^= (uint8_t)rotten;
    s->destage.reading = e;
    CHECK(copy_read_start(s));
    do {
        while (s->destage.copy_io.pending)
            rig_turn(&rig);
        CHECK(!copy_read_next(s));
    } while (copy_read_again(s));
    copy_read_end(s);
}

/* What is to be copied forward is verified before it takes the place of what cannot be: it is not copied as
 * if it were whole. */
static void what_rots_before_it_is_copied_forward_is_noticed(void)
{
    for (int rotten = 0; rotten < 2; rotten++) {
        set_up();
        fill = 7;
        CHECK_EQ(write_blocks(1, 0, 2), 0);
        rig_settle(&rig);
        reopen();
        struct log_entry *e = log_at(pg_of(pg), 1);
        CHECK(!e->payload.buf);
        read_for_copy(e, rotten);
        CHECK_EQ(e->lost, rotten);
        CHECK_EQ(pg->damaged, rotten);
        tear_down();
    }
}

/* One error is none. */
static void what_is_copied_forward_is_read_twice(void)
{
    for (int often = 1; often <= 2; often++) {
        set_up();
        fill = 7;
        CHECK_EQ(write_blocks(1, 0, 2), 0);
        rig_settle(&rig);
        reopen();
        struct log_entry *e = log_at(pg_of(pg), 1);
        if (often == 1) {
            rig.device.fail_at = rig.device.requests + 1;
        } else {
            rig.device.bad_from = block_offset(entry_place(s, e, 1));
            rig.device.bad_len = BLOCK_SIZE;
        }
        read_for_copy(e, false);
        CHECK_EQ(e->lost, often == 2);
        CHECK_EQ(pg->damaged, often == 2);
        tear_down();
    }
}

/* Into a batch with an entry of another. */
static struct log_entry *copy_forward(bool rotten)
{
    set_up_both();
    fill = 7;
    CHECK_EQ(write_blocks(1, 0, 2), 0);
    rig_settle(&rig);
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_both(), 0);
    struct log_entry *e = log_at(pg_of(pg), 1);
    read_for_copy(e, rotten);
    list_push_back(&s->copies, &e->copy_link);
    CHECK_EQ(write_other(1, 0, 1), 0);
    while (other->durable_index < 1)
        rig_turn(&rig);
    CHECK_EQ(e->batch, log_at(pg_of(other), 1)->batch);
    return e;
}

/* A crash tore a copy, and nothing else of its batch: what it is a copy of is there. */
static void a_copy_that_a_crash_tore_is_no_damage(void)
{
    const struct log_entry *e = copy_forward(false);

    rig.device.data[block_offset(entry_place(s, e, 1)) + 9] ^= 1;
    power_fails();
    CHECK_EQ(store_pg_find(s, 2)->last_index, 1);
    CHECK_EQ(pg->last_index, 1);
    CHECK(!pg->damaged);
    CHECK_EQ(block_is(1, 1, true), 8);
    tear_down();
}

/* Nor does what rots take others along: a crash comes before a header proves the batch that has both. */
static void what_rots_before_it_is_copied_forward_costs_nobody_else(void)
{
    for (int rotten = 0; rotten < 2; rotten++) {
        (void)copy_forward(rotten);
        power_fails();
        other = store_pg_find(s, 2);
        CHECK_EQ(other->last_index, 1);
        CHECK(!other->damaged);
        CHECK_EQ(pg->last_index, 1);
        CHECK_EQ(pg->damaged, rotten);
        tear_down();
    }
}

/* Nor what stood behind it: all of that was replaced, too. */
static void what_was_replaced_does_not_come_back_behind_what_is_complete(void)
{
    set_up();
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(write_blocks(1, 0, 1), 0);
        rig_settle(&rig);
    }
    CHECK_EQ(put((struct entry){.index = 2, .term = 2, .image = 1, .object = 2}, 1), 0);
    CHECK_EQ(put((struct entry){.index = 3, .term = 2, .image = 1, .object = 2}, 1), 0);
    rig_settle(&rig);
    uint64_t lost = ring_place(s, log_at(pg_of(pg), 3)->batch->position);
    apply_all();
    destage_pg(pg_of(pg));
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), 3);
    CHECK_EQ(close_store(), 0);
    memset(rig.device.data + block_offset(lost), 0, BLOCK_SIZE);
    CHECK_EQ(open_store(), 0);
    CHECK(pg->damaged);
    CHECK_EQ(pg->applied_index, 3);
    CHECK_EQ(pg->last_index, 3);
    CHECK_EQ(store_log_term(pg, 3), 2);
    tear_down();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(an_unused_block_that_cannot_be_read_costs_nothing);
    TEST(an_unreadable_payload_costs_its_entry);
    TEST(an_entry_that_is_lost_later_is_noticed);
    TEST(a_lost_record_brings_no_older_page_back);
    TEST(damage_is_not_forgotten);
    TEST(a_checkpoint_says_what_was_durable);
    TEST(what_nobody_needs_may_rot);
    TEST(the_newest_batch_is_proven_in_time);
    TEST(what_a_lost_record_gave_back_is_anothers);
    TEST(either_checkpoint_will_do);
    TEST(all_of_a_header_is_checked);
    TEST(dead_slots_are_ignored);
    TEST(impossible_numbers_are_refused);
    TEST(exactly_the_named_pgs_are_damaged);
    TEST(who_has_recovered_is_not_damaged_again);
    TEST(what_was_complete_is_not_behind_a_recovery);
    TEST(other_versions_are_refused);
    TEST(a_damaged_blob_is_written_over);
    TEST(a_damaged_checkpoint_is_written_over);
    TEST(blocks_of_two_checkpoints_are_none);
    TEST(a_start_makes_the_second_checkpoint);
    TEST(a_checkpoint_stays_in_its_place);
    TEST(a_block_that_is_not_full_is_the_last);
    TEST(superblocks_are_compared_and_healed);
    TEST(a_check_writes_nothing);
    TEST(a_copy_may_lack_blocks);
    TEST(a_page_that_comes_late_is_no_damage);
    TEST(a_lost_page_does_not_return);
    TEST(a_device_that_gives_nothing_is_left_alone);
    TEST(some_pages_of_many_may_be_lost);
    TEST(what_rots_before_it_is_copied_forward_is_noticed);
    TEST(what_is_copied_forward_is_read_twice);
    TEST(a_copy_that_a_crash_tore_is_no_damage);
    TEST(what_rots_before_it_is_copied_forward_costs_nobody_else);
    TEST(what_was_replaced_does_not_come_back_below_what_is_complete);
    TEST(what_was_replaced_does_not_come_back_behind_what_is_complete);
    return tap_done();
}
