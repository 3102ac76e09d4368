/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing batches to the log ring.
 *
 * One op per store. When it has something to write, all that was to run in this turn has run, and the device
 * has room for one more write in flight, it makes a batch of all that waits: the store's records first, then
 * entries being copied forward, then new entries. One request per batch: the header's blocks and, as they
 * are, the buffers of the payloads. Batches complete in any order and count in the order of their numbers.
 *
 * Room. Positions count up for ever; [tail_durable, head) is taken. A header says where the tail is, and only
 * when a header that says so is durable may what lies below be overwritten: otherwise a crash in between
 * would find the newest header pointing at ground that is gone. New entries leave a part of the ring free,
 * for records, copies and for headers that do nothing but move the tail.
 *
 * Proof. That a batch was durable only a later header tells, and without it damage to the newest batch looks
 * like a write that a crash tore. When no batch has followed for a while, a header goes out that says nothing
 * else.
 */
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"
#include "base/trace.h"
#include "store/internal.h"

#define RECORDS_FIRST     PLANT_LIMIT(256u, 2u)
#define RECORDS_PER_BATCH 256u
#define PROVE_NS          (100 * NS_PER_MS)
#define HEADER_BYTES_MAX  (BATCH_HEADER_BLOCKS_MAX * BLOCK_SIZE)
#define BATCH_BLOCKS_MAX  (BATCH_HEADER_BLOCKS_MAX + BATCH_PAYLOAD_BLOCKS_MAX)

uint64_t ring_usable(const struct store *s)
{
    return s->g.ring_blocks - MAX(s->g.ring_blocks / 8, 2ull * BATCH_BLOCKS_MAX);
}

uint64_t ring_used(const struct store *s)
{
    return s->head - s->tail_durable;
}

bool ring_short(const struct store *s)
{
    uint64_t left = s->g.ring_blocks - ring_usable(s);

    return ring_used(s) > ring_usable(s) + left / 2 && !PLANT(STORE_RING_TO_THE_END);
}

uint64_t ring_held(const struct store *s)
{
    return MAX(s->head - s->tail, s->volume - s->volume_tail);
}

struct batch *batch_new(struct store *s, uint64_t seq, uint64_t position, uint64_t end)
{
    struct batch *b = slab_get(&s->slab, sizeof(*b));

    if (!b)
        return NULL;
    list_init(&b->entries);
    list_init(&b->copies);
    b->seq = seq;
    b->position = position;
    b->end = end;
    list_push_back(&s->batches, &b->link);
    if (!s->destage.scan)
        s->destage.scan = b;
    return b;
}

/* ---- records ------------------------------------------------------------------------------------------- */

void ring_record_later(struct store *s, const struct disk_record *record)
{
    if (s->record_count == s->record_cap) {
        uint32_t cap = s->record_cap ? s->record_cap * 2 : RECORDS_FIRST;
        struct disk_record *grown = calloc(cap, sizeof(*grown));
        if (!grown) {
            store_fail(s, -ERR_NO_MEMORY, "no memory for records");
            return;
        }
        for (uint32_t i = 0; i < s->record_count; i++)
            grown[i] = s->records[(s->record_head + i) & (s->record_cap - 1)];
        free(s->records);
        s->records = grown;
        s->record_head = 0;
        s->record_cap = cap;
    }
    s->records[(s->record_head + s->record_count++) & (s->record_cap - 1)] = *record;
    s->records_pushed++;
}

void ring_hurry(struct store *s)
{
    s->records_due = true;
    op_wake(&s->ring_op);
}

void ring_record(struct store *s, const struct disk_record *record)
{
    ring_record_later(s, record);
    ring_hurry(s);
}

void ring_wait(struct store *s, struct ring_wait *w, struct op *op)
{
    *w = (struct ring_wait){.op = op, .ticket = s->records_pushed};
    w->done = s->records_durable >= w->ticket;
    list_push_back(&s->ring_waits, &w->link);
}

void ring_wait_more(struct store *s, struct ring_wait *w)
{
    w->ticket = s->records_pushed;
    w->done = s->records_durable >= w->ticket;
}

void ring_reflected(struct ring_wait *w)
{
    list_remove(&w->link);
}

/* Records of batches below the result are in the state in memory. */
uint64_t ring_replay_seq(const struct store *s)
{
    uint64_t seq = s->next_seq;

    list_for_each (&s->ring_waits, node) {
        const struct ring_wait *w = list_entry(node, struct ring_wait, link);
        if (w->seq)
            seq = MIN(seq, w->seq);
    }
    return seq;
}

/* ---- making a batch ------------------------------------------------------------------------------------ */

struct making {
    struct ring_slot *slot;
    uint8_t *at; /* end of what is encoded; the PG lists come in between at the end */
    uint32_t item_bytes, payload_blocks, large_blocks, entries, pgs, records;
    uint64_t seq;
};

static uint32_t item_bytes(const struct log_entry *e)
{
    return (uint32_t)(sizeof(struct disk_entry) + ALIGN_UP(4u * (entry_words(e) + e->chunk_count), 8u));
}

static uint32_t header_bytes(const struct store *s, const struct making *m)
{
    return (uint32_t)(sizeof(struct disk_batch) + (m->pgs + s->prev_pg_count) * sizeof(struct disk_batch_pg) +
                      m->item_bytes + m->records * sizeof(struct disk_record));
}

static bool making_fits(const struct store *s, const struct making *m, const struct log_entry *e)
{
    uint32_t more =
        item_bytes(e) + (e->pg->batch_mark == m->seq ? 0 : (uint32_t)sizeof(struct disk_batch_pg));

    return header_bytes(s, m) + more <= HEADER_BYTES_MAX &&
           m->payload_blocks + m->large_blocks + entry_blocks(e) <= BATCH_PAYLOAD_BLOCKS_MAX &&
           m->slot->iov_count + 2 < BLK_IOV_MAX && m->slot->large_iovs + entry_runs(e) <= LARGE_RUNS_MAX &&
           m->pgs < BATCH_PGS_MAX;
}

/* Items are encoded behind the largest place that the PG lists may take, and moved down once those are known.
 */
static uint8_t *making_items(const struct making *m)
{
    return m->slot->header->data + HEADER_BYTES_MAX;
}

/* Blocks [i, i + count) of the entry are payload of the batch. */
static void making_payload(struct making *m, struct log_entry *e, uint32_t i, uint32_t count)
{
    struct ring_slot *slot = m->slot;

    if (!count)
        return;
    slot->iov[slot->iov_count] = (struct iovec){.iov_base = slice_data(&e->payload) + (size_t)i * BLOCK_SIZE,
                                                .iov_len = (size_t)count * BLOCK_SIZE};
    slot->held[slot->iov_count++] = buf_ref(e->payload.buf);
    m->payload_blocks += count;
}

/* The same, for those that go to chunks of the entry's own. */
static void making_chunks(struct store *s, struct making *m, struct log_entry *e, uint32_t i, uint32_t count)
{
    struct ring_slot *slot = m->slot;

    for (uint32_t n; count; i += n, count -= n) {
        n = entry_run(s, e, i, count);
        uint32_t at = slot->large_iovs++;
        slot->large_iov[at] = (struct iovec){.iov_base = slice_data(&e->payload) + (size_t)i * BLOCK_SIZE,
                                             .iov_len = (size_t)n * BLOCK_SIZE};
        slot->large_held[at] = buf_ref(e->payload.buf);
        uint64_t offset = block_offset(entry_place(s, e, i));
        struct blk_io *io = slot->large_ios ? &slot->large_io[slot->large_ios - 1] : NULL;
        if (!io || io->offset + io->len != offset) {
            io = &slot->large_io[slot->large_ios++];
            *io = (struct blk_io){.type = BLK_WRITE,
                                  .flags = PLANT(STORE_NO_FLUSH) ? 0 : fua(s),
                                  .offset = offset,
                                  .iov = &slot->large_iov[at]};
        }
        io->len += block_offset(n);
        io->iov_count++;
    }
}

static struct disk_batch_pg *making_pg(struct store *s, struct making *m, struct pg *pg)
{
    if (pg->batch_mark != m->seq) {
        pg->batch_mark = m->seq;
        pg->batch_slot = m->pgs++;
        s->this_pgs[pg->batch_slot] = (struct disk_batch_pg){.key = pg->key};
    }
    return &s->this_pgs[pg->batch_slot];
}

static void making_entry(struct store *s, struct making *m, struct log_entry *e, bool copied)
{
    struct pg *pg = e->pg;
    struct disk_batch_pg *range = making_pg(s, m, pg);

    range->first_index = range->first_index ? MIN(range->first_index, e->index) : e->index;
    range->last_index = MAX(range->last_index, e->index);
    struct disk_entry *d = (struct disk_entry *)(making_items(m) + m->item_bytes);
    *d = (struct disk_entry){.pg = (uint16_t)pg->batch_slot,
                             .type = (uint8_t)e->type,
                             .copied = copied,
                             .flags = e->flags,
                             .index = e->index,
                             .term = e->term,
                             .prev_term = e->prev_term,
                             .image = e->image};
    if (entry_is_image(e->type)) {
        d->image_of.incarnation = e->incarnation;
        d->image_of.generation = e->generation;
        d->image_of.size_bytes = e->size_bytes;
    } else if (e->type == ENTRY_GROUP || e->type == ENTRY_SPLIT) {
        d->group_of.epoch = e->epoch;
        d->group_of.word_count = e->block_count;
    } else {
        d->data.object = e->object;
        d->data.first_block = e->first_block;
        d->data.block_count = e->block_count;
        d->data.payload_block = m->payload_blocks;
        d->data.chunk_count = e->chunk_count;
    }
    uint32_t blocks = entry_blocks(e), numbers = entry_words(e) + e->chunk_count;
    memcpy(d + 1, e->crc, 4ull * numbers);
    if (numbers & 1)
        memset((uint8_t *)(d + 1) + 4ull * numbers, 0, 4);
    m->item_bytes += item_bytes(e);
    m->entries++;
    /* When this is applied, what it replaces is let go. */
    if (e->obj && e->obj->overlay)
        entry_prefetch(e->obj->overlay->block[e->first_block], false);
    uint32_t large = entry_large_blocks(e), head = large ? entry_head(e) : blocks;
    making_payload(m, e, 0, head);
    making_payload(m, e, head + large, blocks - head - large);
    if (!copied)
        making_chunks(s, m, e, head, large);
    e->release_late |= copied;
    m->large_blocks += large;
}

/* Their PGs are named first: if the batch is lost, what these records said is missing. */
static void making_record_pgs(struct store *s, struct making *m)
{
    m->records = MIN(s->record_count, RECORDS_PER_BATCH);
    for (uint32_t i = 0; i < m->records; i++) {
        struct pg *pg = pg_by_key(s, s->records[(s->record_head + i) & (s->record_cap - 1)].key);
        if (pg)
            making_pg(s, m, pg);
    }
}

static void making_records(struct store *s, struct making *m)
{
    uint32_t count = m->records;
    uint8_t *at = making_items(m) + m->item_bytes;

    for (uint32_t i = 0; i < count; i++)
        memcpy(at + i * sizeof(struct disk_record), &s->records[(s->record_head + i) & (s->record_cap - 1)],
               sizeof(struct disk_record));
    if (!count)
        return;
    s->record_head = (s->record_head + count) & (s->record_cap - 1);
    s->record_count -= count;
    s->records_due &= s->record_count > 0;
    s->records_taken += count;
    list_for_each (&s->ring_waits, node) {
        struct ring_wait *w = list_entry(node, struct ring_wait, link);
        if (!w->seq && !w->done)
            w->seq = m->seq;
    }
}

static void batch_seal(struct store *s, struct making *m, uint64_t position, uint32_t header_blocks)
{
    uint8_t *base = m->slot->header->data;
    struct disk_batch *h = (struct disk_batch *)base;
    uint32_t used = header_bytes(s, m);
    uint8_t *at = base + sizeof(*h);

    *h = (struct disk_batch){.magic = MAGIC_BATCH,
                             .prev_crc = s->last_crc,
                             .seq = m->seq,
                             .prev_seq = s->last_seq,
                             .durable_seq = s->durable_seq,
                             .position = position,
                             .tail_seq = s->shown_tail_seq,
                             .used_bytes = used,
                             .header_blocks = header_blocks,
                             .payload_blocks = m->payload_blocks,
                             .pg_count = (uint16_t)m->pgs,
                             .prev_pg_count = (uint16_t)s->prev_pg_count,
                             .entry_count = m->entries,
                             .record_count = m->records};
    memcpy(h->format_id, s->format_id, FORMAT_ID_BYTES);
    memcpy(at, s->this_pgs, m->pgs * sizeof(struct disk_batch_pg));
    at += m->pgs * sizeof(struct disk_batch_pg);
    memcpy(at, s->prev_pgs, s->prev_pg_count * sizeof(struct disk_batch_pg));
    at += s->prev_pg_count * sizeof(struct disk_batch_pg);
    uint32_t items = m->item_bytes + m->records * (uint32_t)sizeof(struct disk_record);
    memcpy(at, making_items(m), items);
    memset(base + used, 0, header_blocks * BLOCK_SIZE - used);
    h->crc = format_crc(h, used, offsetof(struct disk_batch, crc));
    memcpy(s->prev_pgs, s->this_pgs, m->pgs * sizeof(struct disk_batch_pg));
    s->prev_pg_count = m->pgs;
    s->last_crc = h->crc;
    s->last_seq = m->seq;
}

/* What entries, and copies of them, leave to headers and records: these show that the tail has moved, and
 * without them there is never room again. */
#define RING_SPARE (PLANT(STORE_RING_TO_THE_END) ? 1u : 64u)

/* Where a batch of so many blocks would begin, if there is room for it: true. */
static bool ring_place_for(const struct store *s, uint64_t blocks, uint64_t *ret_position)
{
    uint64_t at = s->head % s->g.ring_blocks;
    uint64_t position = at + blocks > s->g.ring_blocks ? s->head + (s->g.ring_blocks - at) : s->head;

    *ret_position = position;
    return position + blocks - s->tail_durable <= s->g.ring_blocks;
}

static bool tail_unpublished(const struct store *s)
{
    return s->tail > s->tail_durable && (s->room_wanted || ring_used(s) > ring_usable(s) / 8 * 7);
}

/* A header that says so is on its way. */
static bool tail_on_its_way(const struct store *s)
{
    for (uint32_t i = 0; i < s->inflight_count; i++)
        if (s->slots[(s->inflight_head + i) % s->inflight_max].tail_seq == s->tail_seq)
            return true;
    return false;
}

static bool is_unproven(const struct store *s)
{
    return s->last_seq && s->content_seq == s->last_seq && s->inflight_count == 0 && !PLANT(STORE_NO_PROOF);
}

static bool proof_due(const struct store *s)
{
    return s->prove.fired && s->prove_seq == s->last_seq && is_unproven(s) && ring_used(s) < ring_usable(s);
}

/* No more often than it can be due: under load this is a comparison. */
static void proof_expect(struct store *s)
{
    if (timer_armed(&s->prove) || !is_unproven(s))
        return;
    s->prove_seq = s->last_seq;
    timer_arm(s->core, &s->prove, &s->ring_op, core_now_ns(s->core) + PROVE_NS);
}

static bool ring_make(struct store *s)
{
    struct ring_slot *slot = &s->slots[(s->inflight_head + s->inflight_count) % s->inflight_max];
    struct making m = {.slot = slot, .seq = s->next_seq};
    uint64_t position;

    ASSERT(!slot->busy);
    if (!ring_place_for(s, 1, &position))
        return false;
    slot->iov_count = 1;
    slot->large_ios = slot->large_iovs = 0;
    struct batch *b = batch_new(s, m.seq, 0, 0);
    if (!b)
        return false;
    making_record_pgs(s, &m);
    list_for_each_safe (&s->copies, node) {
        struct log_entry *e = list_entry(node, struct log_entry, copy_link);
        if (s->copies_held || !making_fits(s, &m, e) ||
            !ring_place_for(s, BATCH_HEADER_BLOCKS_MAX + m.payload_blocks + entry_ring_blocks(e) + RING_SPARE,
                            &position))
            break;
        making_entry(s, &m, e, true);
        list_remove(&e->copy_link);
        list_push_back(&b->copies, &e->copy_link);
        s->counters.copied_forward++;
    }
    bool only_queue = !m.records && !m.entries;
    list_for_each_safe (&s->queue, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        /* An entry may rely on a record that was pushed before it. */
        if (s->record_count > RECORDS_PER_BATCH || !making_fits(s, &m, e))
            break;
        if (!ring_place_for(s,
                            DIV_UP(header_bytes(s, &m) + item_bytes(e) + 24, BLOCK_SIZE) + m.payload_blocks +
                                entry_ring_blocks(e) + RING_SPARE,
                            &position)) {
            s->room_wanted = true;
            break;
        }
        making_entry(s, &m, e, false);
        s->queue_blocks -= entry_blocks(e) + 1;
        e->queued = false;
        list_remove(&e->batch_link);
        list_push_back(&b->entries, &e->batch_link);
    }
    if (only_queue && !m.entries && (!tail_unpublished(s) || tail_on_its_way(s)) && !large_unproven(s) &&
        !proof_due(s)) {
        if (s->destage.scan == b)
            s->destage.scan = NULL;
        list_remove(&b->link);
        slab_put(&s->slab, b, sizeof(*b));
        return false;
    }
    making_records(s, &m);
    /* The tail moves over entries that a record voids: not before that record is out. */
    if (!s->record_count) {
        s->shown_tail_seq = s->tail_seq;
        s->shown_tail = s->tail;
    }
    uint32_t header_blocks = DIV_UP(header_bytes(s, &m), BLOCK_SIZE);
    bool placed = ring_place_for(s, header_blocks + m.payload_blocks, &position);
    if (!placed) {
        /* Records alone, and the part that is kept free is used up: cannot be, as trimming goes before. */
        store_fail(s, -ERR_NO_SPACE, "the log ring is full");
        return false;
    }
    batch_seal(s, &m, position, header_blocks);
    if (m.entries || m.records)
        s->content_seq = m.seq;
    b->position = position;
    b->end = position + header_blocks + m.payload_blocks;
    /* What a start might still need is not written over. */
    ASSERT(b->end - s->tail_durable <= s->g.ring_blocks);
    b->record_count = m.records;
    list_for_each (&b->entries, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        e->batch = b;
    }
    uint64_t at = position + header_blocks;
    list_for_each (&b->copies, node) {
        struct log_entry *e = list_entry(node, struct log_entry, copy_link);
        e->copy_position = at;
        at += entry_ring_blocks(e);
    }
    list_for_each (&b->entries, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        e->position = at;
        at += entry_ring_blocks(e);
    }
    slot->iov[0] = (struct iovec){.iov_base = slot->header->data, .iov_len = header_blocks * BLOCK_SIZE};
    slot->batch = b;
    slot->busy = true;
    slot->records_end = s->records_taken;
    slot->proven_seq = s->durable_seq;
    slot->tail_seq = s->shown_tail_seq;
    slot->tail_position = s->shown_tail;
    slot->io = (struct blk_io){.type = BLK_WRITE,
                               .flags = PLANT(STORE_NO_FLUSH) ? 0 : fua(s),
                               .offset = block_offset(ring_place(s, position)),
                               .len = block_offset(header_blocks + m.payload_blocks),
                               .iov = slot->iov,
                               .iov_count = slot->iov_count};
    s->next_seq = m.seq + 1;
    s->volume += b->end - s->head + m.large_blocks;
    b->volume_end = s->volume;
    s->head = b->end;
    s->inflight_count++;
    s->counters.batches++;
    s->counters.batch_entries += m.entries;
    s->counters.log_bytes += slot->io.len;
    s->counters.log_payload_bytes += block_offset(m.payload_blocks);
    for (uint32_t i = 0; i < slot->large_ios; i++) {
        s->counters.large_bytes += slot->large_io[i].len;
        blk_submit(s->blk, &slot->large_io[i], &s->ring_op);
    }
    blk_submit(s->blk, &slot->io, &s->ring_op);
    return true;
}

/* ---- completion ---------------------------------------------------------------------------------------- */

static void batch_durable(struct store *s, struct ring_slot *slot)
{
    struct batch *b = slot->batch;
    uint64_t now_ns = core_now_ns(s->core), took_ns = now_ns - slot->io.submitted_ns;
    histogram_record(&s->counters.log_write, took_ns);
    TRACE(log_written, b->seq, slot->io.len, took_ns);
    b->durable = true;
    s->durable_seq = MAX(s->durable_seq, b->seq);
    list_for_each_safe (&b->copies, node) {
        struct log_entry *e = list_entry(node, struct log_entry, copy_link);
        list_remove(&e->copy_link);
        list_remove(&e->batch_link);
        e->batch = b;
        e->position = e->copy_position;
        list_push_front(&b->entries, &e->batch_link);
    }
    list_for_each (&b->entries, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        struct store_pg *pg = &e->pg->pub;
        if (e->durable)
            continue;
        e->durable = true;
        if (!e->in_log)
            continue;
        pg->durable_index = MAX(pg->durable_index, e->index);
        pg->durable_ns = now_ns;
        if (!pg->durable_unawaited)
            op_wake(pg->waiter);
    }
    s->records_durable = MAX(s->records_durable, slot->records_end);
    list_for_each (&s->ring_waits, node) {
        struct ring_wait *w = list_entry(node, struct ring_wait, link);
        if (!w->done && w->ticket <= s->records_durable) {
            w->done = true;
            op_wake(w->op);
        }
    }
    if (slot->tail_position > s->tail_durable) {
        s->tail_durable = slot->tail_position;
        s->counters.tail_moves++;
        s->room_wanted = false;
    }
    large_settle(s, b->seq, slot->proven_seq);
    cache_evict(s);
}

static bool slot_pending(const struct ring_slot *slot)
{
    bool pending = slot->io.pending;

    for (uint32_t i = 0; i < slot->large_ios; i++)
        pending |= slot->large_io[i].pending;
    return pending;
}

static void slot_reap(struct store *s, struct ring_slot *slot)
{
    int result = slot->io.result;

    for (uint32_t i = 1; i < slot->iov_count; i++)
        buf_unref(slot->held[i]);
    for (uint32_t i = 0; i < slot->large_iovs; i++)
        buf_unref(slot->large_held[i]);
    for (uint32_t i = 0; i < slot->large_ios; i++)
        result = result ? result : slot->large_io[i].result;
    slot->busy = slot->complete = false;
    if (result)
        store_fail(s, result, "a write to the log ring failed");
    else if (!s->failed)
        batch_durable(s, slot);
    slot->batch = NULL;
}

static void ring_complete(struct store *s)
{
    bool any = false;

    if (PLANT(STORE_ACK_ORDER) || PLANT(STORE_LARGE_EARLY_ACK)) {
        /* Counts what has completed, whatever is missing before it. */
        for (uint32_t i = 0; i < s->inflight_count; i++) {
            struct ring_slot *slot = &s->slots[(s->inflight_head + i) % s->inflight_max];
            if (slot->io.pending && !PLANT(STORE_ACK_ORDER))
                break;
            if (!slot->io.pending && !slot->complete && !slot->io.result && !s->failed) {
                batch_durable(s, slot);
                slot->complete = true;
            }
        }
    }
    while (s->inflight_count && !slot_pending(&s->slots[s->inflight_head])) {
        slot_reap(s, &s->slots[s->inflight_head]);
        s->inflight_head = (s->inflight_head + 1) % s->inflight_max;
        s->inflight_count--;
        any = true;
    }
    if (any)
        destage_batch_durable(s);
}

static bool ring_has_work(const struct store *s)
{
    return (s->records_due && s->record_count) || (!s->copies_held && !list_empty(&s->copies)) ||
           !list_empty(&s->queue) || (tail_unpublished(s) && !tail_on_its_way(s)) || large_unproven(s) ||
           proof_due(s);
}

static void ring_step(struct op *op)
{
    struct store *s = container_of(op, struct store, ring_op);

    ring_complete(s);
    if (s->closing || s->failed) {
        timer_cancel(s->core, &s->prove);
        timer_cancel(s->core, &s->clear);
        if (s->closing && s->inflight_count == 0) {
            struct op *waiter = s->close_waiter;
            op_done(op, 0);
            op_wake(waiter);
        }
        return;
    }
    clear_go_on(s);
    /* Who is behind us in the run queue may have entries for the same header. */
    s->batch_put_off = ring_has_work(s) && !s->batch_put_off && !PLANT(STORE_OWN_HEADERS);
    if (s->batch_put_off) {
        op_wake(op);
        return;
    }
    while (s->inflight_count < s->inflight_max && ring_has_work(s) && ring_make(s))
        ;
    proof_expect(s);
}

static const struct op_kind RING = {"store.ring", NULL, ring_step};

int ring_init(struct store *s)
{
    s->inflight_max = MAX(1u, MIN(RING_INFLIGHT_MAX, s->blk->queue_depth_hint));
    for (uint32_t i = 0; i < s->inflight_max; i++) {
        /* The header, and as much again to collect items in. */
        s->slots[i].header = buf_new(s->core->arena, 2 * HEADER_BYTES_MAX);
        if (!s->slots[i].header)
            return -ERR_NO_MEMORY;
    }
    return 0;
}

void ring_start(struct store *s)
{
    op_start(&s->ring_op, s->core, &RING, NULL);
}
