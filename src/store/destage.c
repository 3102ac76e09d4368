/* SPDX-License-Identifier: Apache-2.0
 *
 * Destage: one op per store that takes objects in rounds from the overlay to chunks and pages, and then lets
 * the ring's tail move.
 *
 *   idle -> collect -> readback -> data -> flush -> pages -> flush -> slots -> (commit) -> applied -> trim
 *    ^                                                                                            |
 *    +----------------------- copy forward, checkpoint <------------------------------------------+
 *
 * A round takes a snapshot of the overlays of its objects; entries applied meanwhile stay in the overlay for
 * the next. Blocks go to their chunks in the order of the device, in place where the object has a chunk
 * already: reads take the overlay's version until the new page is live, and after a crash the ring still has
 * the entries. Pages go to fresh slots; old slots and dropped chunks are free once the records that say so
 * are durable. Only entries that are applied and durable here are destaged.
 *
 * It runs when more than half of the ring, or of the cache, is not destaged; so overwrites coalesce until
 * then.
 */
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "store/internal.h"

#define RETRY_NS (5 * NS_PER_MS)

enum {
    DESTAGE_IDLE,
    DESTAGE_COLLECT,
    DESTAGE_READBACK,
    DESTAGE_DATA,
    DESTAGE_DATA_FLUSH,
    DESTAGE_PAGES,
    DESTAGE_PAGES_FLUSH,
    DESTAGE_SLOTS,
    DESTAGE_APPLIED,
    DESTAGE_TRIM,
    DESTAGE_COPY_READ,
    DESTAGE_CKPT_BLOCKS,
    DESTAGE_CKPT_FLUSH,
    DESTAGE_CKPT_HEADER,
};

static const char *destage_state(int state)
{
    static const char *const names[] = {"idle",
                                        "collect",
                                        "readback",
                                        "data",
                                        "flush of data",
                                        "pages",
                                        "flush of pages",
                                        "slots",
                                        "applied",
                                        "trim",
                                        "copy",
                                        "checkpoint",
                                        "flush of checkpoint",
                                        "header of checkpoint"};
    return names[state];
}

uint64_t destage_target(const struct store *s)
{
    uint64_t keep = MIN(ring_usable(s) / 2, s->config.cache_bytes / 2 / BLOCK_SIZE);

    return s->volume > keep ? s->volume - keep : 0;
}

bool destage_wanted(const struct store *s)
{
    const struct batch *b = s->destage.scan;

    return (b && b->durable && b->volume_end < destage_target(s)) || trim_wanted(s);
}

void destage_wake(struct store *s)
{
    if (op_live(&s->destage.op))
        op_wake(&s->destage.op);
}

/* ---- what a round takes -------------------------------------------------------------------------------- */

static void limit_raise(struct pg *pg, uint64_t index)
{
    if (index > pg->destage_limit)
        pg->destage_limit = index;
}

void destage_up_to(struct pg *pg, uint64_t index)
{
    limit_raise(pg, index);
    destage_wake(store_of(pg));
}

/* Batches below the target tell their PGs how far to destage. */
static void scan_batches(struct store *s)
{
    struct destage *d = &s->destage;
    uint64_t target = destage_target(s);

    while (d->scan && d->scan->durable && d->scan->volume_end < target) {
        list_for_each (&d->scan->entries, item) {
            struct log_entry *e = list_entry(item, struct log_entry, batch_link);
            if (e->in_log && e->applied)
                limit_raise(e->pg, e->index);
        }
        struct list *next = d->scan->link.next;
        d->scan = next == &s->batches ? NULL : list_entry(next, struct batch, link);
    }
}

/* May the snapshot be taken now? */
static bool object_ready(const struct object *o)
{
    if (o->busy || !o->overlay)
        return false;
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
        if (o->overlay->block[b] && !o->overlay->block[b]->durable)
            return false;
    return !o->overlay->whole || o->overlay->whole->durable;
}

static void page_overlay(struct page_mem *page, const struct overlay *snap)
{
    if (snap->whole) {
        memset(page->written, 0, sizeof(page->written));
        memset(page->lost, 0, sizeof(page->lost));
    }
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        const struct log_entry *e = snap->block[b];
        if (!e)
            continue;
        bit_clear(page->lost, b);
        if (e->type == ENTRY_WRITE) {
            bit_set(page->written, b);
            page->crc[b] = e->crc[b - e->first_block];
        } else {
            bit_clear(page->written, b);
        }
    }
}

static bool chunk_written(const struct page_mem *page, uint32_t c)
{
    return page->written[c * BLOCKS_PER_CHUNK / 64] >> (c * BLOCKS_PER_CHUNK % 64) & 0xffff;
}
_Static_assert(BLOCKS_PER_CHUNK == 16, "chunk_written");

/* The chunk that an entry brought along, if all of the newest blocks there are its. */
static uint32_t chunk_brought(const struct overlay *snap, uint32_t c)
{
    struct log_entry *const *block = &snap->block[c * BLOCKS_PER_CHUNK];

    if (!block[0] || block[0]->type != ENTRY_WRITE || !block[0]->chunks_held)
        return 0;
    for (uint32_t b = 1; b < BLOCKS_PER_CHUNK; b++)
        if (block[b] != block[0])
            return 0;
    return large_chunk(block[0], c);
}

/* Would a chunk be written in place that an entry in the log refers to? */
static bool object_shares(const struct store *s, const struct object *o)
{
    for (uint32_t c = 0; o->page && c < CHUNKS_PER_OBJECT; c++) {
        if (!o->page->chunk[c] || s->chunk_refs[o->page->chunk[c]] == 1 || chunk_brought(o->overlay, c))
            continue;
        for (uint32_t b = c * BLOCKS_PER_CHUNK; b < (c + 1) * BLOCKS_PER_CHUNK; b++)
            if (o->overlay->block[b] && o->overlay->block[b]->type == ENTRY_WRITE)
                return true;
    }
    return false;
}

/* The log lets go of the object's chunks, if it may: what is complete only serves followers that lag. */
static bool object_unshare(struct store *s, struct object *o)
{
    struct pg *pg = o->pg;

    if (!object_shares(s, o) || PLANT(STORE_LARGE_IN_PLACE))
        return true;
    if (o->brought_index <= pg->complete_durable) {
        log_trim(pg, o->brought_index + 1);
        op_wake(pg->pub.waiter);
    }
    return !object_shares(s, o);
}

/* Chunks for what is written, none for what is not; undone when there are not enough. */
static bool page_chunks(struct store *s, struct page_mem *page, const struct page_mem *old,
                        const struct overlay *snap)
{
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        bool want = chunk_written(page, c);
        uint32_t brought = chunk_brought(snap, c);
        if (!want) {
            page->chunk[c] = 0;
        } else if (brought) {
            if (page->chunk[c] != brought)
                chunk_ref(s, brought);
            page->chunk[c] = brought;
        } else if (!page->chunk[c]) {
            page->chunk[c] = chunk_alloc(s);
        }
        if (!want || page->chunk[c])
            continue;
        for (uint32_t i = 0; i < c; i++)
            if (page->chunk[i] && (!old || old->chunk[i] != page->chunk[i]))
                chunk_free(s, page->chunk[i]);
        return false;
    }
    return true;
}

static void object_blocks(struct store *s, struct destage_object *r)
{
    struct destage *d = &s->destage;

    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        struct log_entry *e = r->snap->block[b];
        if (!e || e->type != ENTRY_WRITE || chunk_brought(r->snap, b / BLOCKS_PER_CHUNK))
            continue;
        struct destage_block *block = &d->blocks[d->block_count++];
        *block = (struct destage_block){
            .place = chunk_place(s, r->page->chunk[b / BLOCKS_PER_CHUNK], b), .entry = e, .block = b};
        if (e->lost)
            d->block_count--;
        else if (e->payload.buf)
            block->data = slice_data(&e->payload) + (b - e->first_block) * BLOCK_SIZE;
        else
            d->readback_count++;
    }
}

static bool object_collect(struct store *s, struct object *o)
{
    struct destage *d = &s->destage;
    struct destage_object *r = &d->objects[d->object_count];
    uint32_t readback = 0;

    if (d->object_count == DESTAGE_OBJECTS_MAX || d->block_count + BLOCKS_PER_OBJECT > DESTAGE_BLOCKS_MAX)
        return false;
    if (!object_ready(o))
        return true;
    if (!object_unshare(s, o)) {
        d->held = true;
        return true;
    }
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        const struct log_entry *e = o->overlay->block[b];
        readback += e && e->type == ENTRY_WRITE && !e->payload.buf &&
                    !chunk_brought(o->overlay, b / BLOCKS_PER_CHUNK);
    }
    if (d->readback_count + readback > DESTAGE_READBACK_MAX)
        return false;
    const struct image *image = image_find(o->pg, o->image);
    *r = (struct destage_object){.object = o,
                                 .snap = &d->snaps[d->object_count],
                                 .index = o->index,
                                 .version = MAX(o->version + 1, s->next_seq)};
    *r->snap = *o->overlay;
    r->page = page_new(s);
    if (!r->page)
        return false;
    if (o->page)
        *r->page = *o->page;
    page_overlay(r->page, r->snap);
    bool gone = (image && image->record.deleted) || (r->snap->whole && r->snap->whole->type == ENTRY_FORGET);
    r->drop = gone && page_is_empty(r->page);
    if (!r->drop)
        r->new_slot = PLANT(STORE_EARLY_REUSE) && o->slot ? o->slot : slot_alloc(s);
    if ((!r->drop && !r->new_slot) || !page_chunks(s, r->page, o->page, r->snap)) {
        if (r->new_slot)
            slot_free(s, r->new_slot);
        page_free(s, r->page);
        return false;
    }
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
        if (r->snap->block[b])
            entry_pin(r->snap->block[b]);
    if (r->snap->whole)
        entry_pin(r->snap->whole);
    object_blocks(s, r);
    o->busy = true;
    d->object_count++;
    return true;
}

/* Objects in whose overlays the entry is. False: the round is full. */
static bool entry_collect(struct store *s, struct log_entry *e)
{
    if (entry_is_image(e->type)) {
        struct object *o = object_find(e->pg, e->image, 0);
        if (!o)
            o = object_after(e->pg, false, e->image, 0);
        for (; o && o->image == e->image; o = object_after(e->pg, false, o->image, o->number))
            if (o->overlay && !o->busy && o->index >= e->index && !object_collect(s, o))
                return false;
        return true;
    }
    struct object *o = object_find(e->pg, e->image, e->object);
    return !o || o->busy || !o->overlay || object_collect(s, o);
}

static bool image_only(const struct log_entry *e)
{
    if (!entry_is_image(e->type) || e->holds != 1)
        return false;
    const struct image *image = image_slot(e->pg, e->image);
    return image && image->holder == e;
}

static bool pg_collect(struct store *s, struct pg *pg)
{
    if (pg->destage_all) {
        struct object *o = object_after(pg, true, 0, 0);
        for (; o; o = object_after(pg, false, o->image, o->number))
            if (o->overlay && !o->busy && !object_collect(s, o))
                return false;
        pg->destage_all = false;
    }
    uint64_t limit = MIN(pg->destage_limit, pg->pub.applied_index);
    /* Entries lose holds and do not get them back: what has none left is not looked at in each round again.
     */
    bool nothing = true;
    for (uint64_t i = MAX(pg->complete_index, pg->collected_index) + 1; i <= limit; i++) {
        struct log_entry *e = log_at(pg, i);
        bool holds = e && e->holds && !image_only(e);
        nothing &= !holds;
        if (nothing)
            pg->collected_index = i;
        if (holds && !entry_collect(s, e))
            return false;
    }
    return true;
}

static void collect(struct store *s)
{
    struct destage *d = &s->destage;

    d->object_count = d->block_count = d->readback_count = d->next = 0;
    scan_batches(s);
    d->more = d->held = false;
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        d->more = !pg->removing && !pg_collect(s, pg);
        if (d->more)
            break;
    }
    bool starved = d->more && !d->object_count;
    if (starved && !d->starved)
        core_log(s->core, LOG_ERROR, "store", "slice %u: no memory or chunk to destage with",
                 s->config.slice);
    d->starved = starved;
    if (!starved)
        return;
    /* An empty round is not full: for want of memory or a chunk. Some may come back. */
    d->more = false;
    timer_arm(s->core, &d->retry, &d->op, core_now_ns(s->core) + RETRY_NS);
}

/* ---- moving data --------------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const struct destage_block *x = a, *y = b;

    return x->place < y->place ? -1 : x->place > y->place;
}

/* Blocks of one entry that follow each other are read with one request. */
static uint32_t readback_run(const struct store *s, uint32_t from)
{
    const struct destage *d = &s->destage;
    uint32_t n = 1;

    while (from + n < d->block_count && !d->blocks[from + n].data &&
           d->blocks[from + n].entry == d->blocks[from].entry &&
           d->blocks[from + n].block == d->blocks[from].block + n)
        n++;
    const struct log_entry *e = d->blocks[from].entry;
    return entry_run(s, e, d->blocks[from].block - e->first_block, n);
}

static void readback_verify(struct store *s, int slot)
{
    struct destage *d = &s->destage;
    uint32_t first = (uint32_t)(d->io.tag[slot] >> 32), count = (uint32_t)d->io.tag[slot];
    const uint8_t *data = d->io.iov[slot][0].iov_base;

    for (uint32_t i = 0; i < count; i++) {
        struct destage_block *b = &d->blocks[first + i];
        const struct log_entry *e = b->entry;
        uint8_t *at = (uint8_t *)data + i * BLOCK_SIZE;
        if (!d->io.io[slot].result && crc32c(0, at, BLOCK_SIZE) == e->crc[b->block - e->first_block]) {
            b->data = at;
            continue;
        }
        /* The only copy of this block here is gone. Its page will expect the right checksum, so that it is
         * found damaged, and repaired from another replica. */
        s->counters.checksum_errors++;
        core_log(s->core, LOG_ERROR, "store",
                 "slice %u: the log's copy of block %u of object %llu/%llu is damaged", s->config.slice,
                 b->block, (unsigned long long)e->image, (unsigned long long)e->object);
    }
}

/* True: all is done. */
static bool readback(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = scatter_reap(&d->io)) >= 0)
        readback_verify(s, slot);
    while (d->next < d->block_count) {
        struct destage_block *b = &d->blocks[d->next];
        if (b->data) {
            d->next++;
            continue;
        }
        slot = scatter_slot(&d->io);
        if (slot < 0)
            return false;
        uint32_t n = readback_run(s, d->next);
        const struct log_entry *e = b->entry;
        d->io.iov[slot][0] = (struct iovec){.iov_base = d->work->data + d->readback_count * BLOCK_SIZE,
                                            .iov_len = (size_t)n * BLOCK_SIZE};
        d->readback_count += n;
        s->counters.device_reads++;
        scatter_submit(&d->io, slot, BLK_READ, 0, entry_place(s, e, b->block - e->first_block), 1,
                       (uint64_t)d->next << 32 | n);
        d->next += n;
    }
    return !d->io.pending;
}

static bool write_data(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = scatter_reap(&d->io)) >= 0)
        if (d->io.io[slot].result)
            d->io.error = d->io.io[slot].result;
    while (d->next < d->block_count && !d->io.error) {
        if (!d->blocks[d->next].data) {
            d->next++;
            continue;
        }
        slot = scatter_slot(&d->io);
        if (slot < 0)
            return false;
        uint32_t n = 0;
        uint64_t place = d->blocks[d->next].place;
        while (n < SCATTER_IOVS && d->next < d->block_count && d->blocks[d->next].data &&
               d->blocks[d->next].place == place + n)
            d->io.iov[slot][n++] =
                (struct iovec){.iov_base = d->blocks[d->next++].data, .iov_len = BLOCK_SIZE};
        TRACE(destage_written, place, n);
        s->counters.destage_blocks += n;
        s->counters.destage_bytes += block_offset(n);
        scatter_submit(&d->io, slot, BLK_WRITE, BLK_BACKGROUND, place, n, 0);
    }
    return !d->io.pending;
}

static bool write_pages(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = scatter_reap(&d->io)) >= 0)
        if (d->io.io[slot].result)
            d->io.error = d->io.io[slot].result;
    while (d->next < d->object_count && !d->io.error) {
        struct destage_object *r = &d->objects[d->next];
        if (r->drop) {
            d->next++;
            continue;
        }
        slot = scatter_slot(&d->io);
        if (slot < 0)
            return false;
        struct disk_page *first = (struct disk_page *)d->work->data + d->next;
        uint64_t place = slot_place(s, r->new_slot);
        uint32_t n = 0;
        for (; d->next < d->object_count && !d->objects[d->next].drop; n++, d->next++) {
            r = &d->objects[d->next];
            if (slot_place(s, r->new_slot) != place + n)
                break;
            page_encode(s, r->object, r->page, r->new_slot, r->index, r->version, first + n);
        }
        s->counters.page_writes += n;
        d->io.iov[slot][0] = (struct iovec){.iov_base = first, .iov_len = (size_t)n * BLOCK_SIZE};
        scatter_submit(&d->io, slot, BLK_WRITE, BLK_BACKGROUND, place, 1, 0);
    }
    return !d->io.pending;
}

static void push_slots(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count; i++) {
        const struct destage_object *r = &d->objects[i];
        struct disk_record record = {
            .type = r->drop ? RECORD_DROP : RECORD_SLOT,
            .slot = r->new_slot,
            .key = r->object->pg->key,
            .image = r->object->image,
            .slot_of = {.object = r->object->number, .index = r->index, .version = r->version}};
        ring_record(s, &record);
    }
    ring_wait(s, &d->wait, &d->op);
    d->waiting = true;
}

static void object_commit(struct store *s, struct destage_object *r)
{
    struct object *o = r->object;

    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        if (chunk_brought(r->snap, c))
            o->brought_index = MAX(o->brought_index, r->snap->block[c * BLOCKS_PER_CHUNK]->index);
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        struct log_entry *e = r->snap->block[b];
        if (e && o->overlay && o->overlay->block[b] == e)
            overlay_take(o, b);
        if (e)
            entry_unpin(e);
    }
    if (r->snap->whole) {
        if (o->overlay && o->overlay->whole == r->snap->whole)
            overlay_take_whole(o);
        entry_unpin(r->snap->whole);
    }
    bool chunks = false;
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        chunks |= r->page->chunk[c] != 0;
    if (!chunks && page_is_empty(r->page)) {
        page_free(s, r->page);
        r->page = NULL;
    }
    space_switch(o, r->page, r->new_slot);
    o->page_index = r->drop ? 0 : r->index;
    o->version = r->version;
    o->busy = false;
    object_settle(o);
}

static void commit(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count; i++)
        object_commit(s, &d->objects[i]);
    d->object_count = 0;
    if (d->waiting)
        ring_reflected(&d->wait);
    d->waiting = false;
}

/* ---- payloads of entries that are copied forward ---------------------------------------------------------
 */

/* The next piece of it; false: all is here, or it cannot be read. */
static bool copy_read_next(struct store *s)
{
    struct destage *d = &s->destage;
    const struct log_entry *e = d->reading;

    if (d->copy_done == e->block_count || (d->copy_done && d->copy_io.result))
        return false;
    uint32_t n = entry_run(s, e, d->copy_done, e->block_count - d->copy_done);
    io_start(s->blk, &d->copy_io, &d->copy_iov, BLK_READ, 0, entry_place(s, e, d->copy_done),
             d->copy_buf->data + block_offset(d->copy_done), n, &d->op);
    d->copy_done += n;
    return true;
}

static bool copy_read_start(struct store *s)
{
    struct destage *d = &s->destage;
    struct log_entry *e = d->reading;

    d->copy_buf = buf_new(s->core->arena, e->block_count * BLOCK_SIZE);
    if (!d->copy_buf)
        return false;
    entry_pin(e);
    d->copy_done = 0;
    return copy_read_next(s);
}

static void copy_read_end(struct store *s)
{
    struct destage *d = &s->destage;
    struct log_entry *e = d->reading;
    struct slice payload = {.buf = d->copy_buf, .len = e->block_count * BLOCK_SIZE};

    for (uint32_t b = 0; b < e->block_count && !e->lost; b++)
        e->lost = d->copy_io.result || crc32c(0, d->copy_buf->data + b * BLOCK_SIZE, BLOCK_SIZE) != e->crc[b];
    if (e->lost && !e->dead) {
        s->counters.checksum_errors++;
        e->pg->pub.damaged = true;
        op_wake(e->pg->pub.waiter);
    }
    if (!e->dead && !e->payload.buf)
        entry_cache(e, &payload);
    buf_unref(d->copy_buf);
    d->copy_buf = NULL;
    d->reading = NULL;
    entry_unpin(e);
}

/* ---- the op -------------------------------------------------------------------------------------------- */

static bool checkpoint_piece(struct store *s)
{
    struct destage *d = &s->destage;
    uint64_t place = checkpoint_place(s) + 1 + d->ckpt_blocks;
    uint32_t n =
        checkpoint_fill(s, (struct disk_checkpoint_block *)d->work->data, WORK_BUF_BYTES / BLOCK_SIZE / 2);

    if (n && d->ckpt_blocks + 1 > s->g.checkpoint_blocks) {
        store_fail(s, -ERR_NO_SPACE, "the checkpoint does not fit");
        return false;
    }
    if (n)
        io_start(s->blk, &d->flush, &d->flush_iov, BLK_WRITE, 0, place, d->work->data, n, &d->op);
    return n != 0;
}

/* True: there is something to wait for. */
static bool flush_start(struct store *s)
{
    struct destage *d = &s->destage;

    if (!s->blk->volatile_cache || PLANT(STORE_NO_FUA))
        return false;
    io_start(s->blk, &d->flush, &d->flush_iov, BLK_FLUSH, 0, 0, NULL, 0, &d->op);
    return true;
}

static bool destage_stop(struct store *s)
{
    struct destage *d = &s->destage;

    if (!s->closing && !s->failed)
        return false;
    int slot;
    while ((slot = scatter_reap(&d->io)) >= 0)
        ;
    if (d->io.pending || d->flush.pending || d->copy_io.pending)
        return true;
    if (d->copy_buf) {
        entry_unpin(d->reading);
        buf_unref(d->copy_buf);
        d->copy_buf = NULL;
    }
    timer_cancel(s->core, &d->retry);
    if (d->waiting)
        ring_reflected(&d->wait);
    d->waiting = false;
    if (s->closing) {
        struct op *waiter = s->close_waiter;
        op_done(&d->op, 0);
        op_wake(waiter);
    }
    return true;
}

static int trim_next(struct store *s)
{
    struct destage *d = &s->destage;

    switch (trim_step(s)) {
    case TRIM_DESTAGE:
        collect(s);
        if (d->object_count)
            return DESTAGE_READBACK;
        /* What holds the tail is not ready (its batch is in flight, or busy): someone will wake us. */
        return applied_push(s) ? DESTAGE_APPLIED : DESTAGE_IDLE;
    case TRIM_COPY_READ:
        if (copy_read_start(s))
            return DESTAGE_COPY_READ;
        trim_release(s, true);
        timer_arm(s->core, &d->retry, &d->op, core_now_ns(s->core) + RETRY_NS);
        return DESTAGE_IDLE;
    case TRIM_CHECKPOINT:
        checkpoint_begin(s);
        return DESTAGE_CKPT_BLOCKS;
    case TRIM_MORE: /* in the next turn: requests come first */
        timer_arm(s->core, &d->retry, &d->op, core_now_ns(s->core));
        return DESTAGE_TRIM;
    case TRIM_WAIT:
    case TRIM_DONE:
        return d->more ? DESTAGE_COLLECT : DESTAGE_IDLE;
    }
    UNREACHABLE();
}

static bool something_to_do(const struct store *s)
{
    if (destage_wanted(s))
        return true;
    list_for_each (&s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        if (pg->destage_all || MIN(pg->destage_limit, pg->pub.applied_index) > pg->complete_index)
            return true;
    }
    return false;
}

static void destage_step(struct op *op)
{
    struct store *s = container_of(op, struct store, destage.op);
    struct destage *d = &s->destage;

    if (destage_stop(s))
        return;
    for (;;) {
        switch (op->state) {
        case DESTAGE_IDLE:
            d->active = false;
            table_wake(s);
            if (!something_to_do(s))
                return;
            op->state = DESTAGE_COLLECT;
            break;
        case DESTAGE_COLLECT:
            d->active = true;
            collect(s);
            op->state = d->object_count ? DESTAGE_READBACK : applied_push(s) ? DESTAGE_APPLIED : DESTAGE_TRIM;
            d->next = d->readback_count = 0;
            break;
        case DESTAGE_READBACK:
            if (!readback(s))
                return;
            qsort(d->blocks, d->block_count, sizeof(*d->blocks), by_place);
            d->next = 0;
            op->state = DESTAGE_DATA;
            break;
        case DESTAGE_DATA:
            if (!write_data(s))
                return;
            if (d->io.error) {
                store_fail(s, d->io.error, "a write of chunks failed");
                return;
            }
            op->state = DESTAGE_DATA_FLUSH;
            /* Chunks that entries brought are durable already. */
            if (d->block_count && flush_start(s))
                return;
            break;
        case DESTAGE_DATA_FLUSH:
        case DESTAGE_PAGES_FLUSH:
            if (d->flush.pending)
                return;
            if (d->flush.result) {
                store_fail(s, d->flush.result, "a flush failed");
                return;
            }
            d->next = 0;
            op->state++;
            if (op->state == DESTAGE_SLOTS)
                push_slots(s);
            break;
        case DESTAGE_PAGES:
            if (!write_pages(s))
                return;
            if (d->io.error) {
                store_fail(s, d->io.error, "a write of object pages failed");
                return;
            }
            op->state = DESTAGE_PAGES_FLUSH;
            if (flush_start(s))
                return;
            break;
        case DESTAGE_SLOTS:
            if (!d->wait.done)
                return;
            commit(s);
            op->state = applied_push(s) ? DESTAGE_APPLIED : DESTAGE_TRIM;
            break;
        case DESTAGE_APPLIED:
            if (!d->wait.done)
                return;
            applied_durable(s);
            d->more |= d->held;
            op->state = DESTAGE_TRIM;
            break;
        case DESTAGE_TRIM: {
            int next = trim_wanted(s) ? trim_next(s) : d->more ? DESTAGE_COLLECT : DESTAGE_IDLE;
            op->state = next;
            d->next = 0;
            if (next == DESTAGE_READBACK)
                d->readback_count = 0;
            if (next == DESTAGE_IDLE) {
                d->active = false;
                table_wake(s);
                return;
            }
            if (next == DESTAGE_COPY_READ || next == DESTAGE_TRIM)
                return;
            break;
        }
        case DESTAGE_COPY_READ:
            if (d->copy_io.pending || copy_read_next(s))
                return;
            copy_read_end(s);
            op->state = DESTAGE_TRIM;
            break;
        case DESTAGE_CKPT_BLOCKS:
            if (d->flush.pending)
                return;
            if (d->flush.result) {
                store_fail(s, d->flush.result, "a write of the checkpoint failed");
                return;
            }
            if (checkpoint_piece(s) || s->failed)
                return;
            op->state = DESTAGE_CKPT_FLUSH;
            if (flush_start(s))
                return;
            break;
        case DESTAGE_CKPT_FLUSH:
            if (d->flush.pending)
                return;
            if (d->flush.result) {
                store_fail(s, d->flush.result, "a flush failed");
                return;
            }
            checkpoint_header(s, (struct disk_checkpoint *)d->work->data);
            io_start(s->blk, &d->flush, &d->flush_iov, BLK_WRITE, fua(s), checkpoint_place(s), d->work->data,
                     1, op);
            op->state = DESTAGE_CKPT_HEADER;
            return;
        case DESTAGE_CKPT_HEADER:
            if (d->flush.pending)
                return;
            if (d->flush.result) {
                store_fail(s, d->flush.result, "a write of the checkpoint failed");
                return;
            }
            checkpoint_done(s);
            op->state = DESTAGE_TRIM;
            break;
        }
    }
}

static const struct op_kind DESTAGE = {"store.destage", destage_state, destage_step};

int destage_init(struct store *s)
{
    struct destage *d = &s->destage;

    d->work = buf_new(s->core->arena, WORK_BUF_BYTES);
    d->blocks = calloc(DESTAGE_BLOCKS_MAX, sizeof(*d->blocks));
    d->snaps = calloc(DESTAGE_OBJECTS_MAX, sizeof(*d->snaps));
    return d->work && d->blocks && d->snaps ? 0 : -ERR_NO_MEMORY;
}

/* What a round that was interrupted holds. */
void destage_fini(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count; i++) {
        struct destage_object *r = &d->objects[i];
        for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
            if (r->snap->block[b])
                entry_unpin(r->snap->block[b]);
        if (r->snap->whole)
            entry_unpin(r->snap->whole);
        for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
            if (r->page->chunk[c] && (!r->object->page || r->object->page->chunk[c] != r->page->chunk[c]))
                chunk_free(s, r->page->chunk[c]);
        if (r->new_slot)
            slot_free(s, r->new_slot);
        page_free(s, r->page);
        r->object->busy = false;
    }
    d->object_count = 0;
    if (d->waiting)
        ring_reflected(&d->wait);
    d->waiting = false;
    buf_unref(d->work);
    free(d->blocks);
    free(d->snaps);
    d->work = NULL;
    d->blocks = NULL;
    d->snaps = NULL;
}

void destage_start(struct store *s)
{
    struct destage *d = &s->destage;

    scatter_init(&d->io, s->blk, &d->op);
    op_start(&d->op, s->core, &DESTAGE, NULL);
}
