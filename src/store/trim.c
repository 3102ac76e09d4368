/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring's tail: which batches are needed no more.
 *
 * A batch may go when every entry in it is complete (applied, destaged, and a durable record of its PG says
 * so) and the records in it are in both copies of the checkpoint, so that either copy can rot. An entry that
 * is not applied is copied forward instead, together with those of the batches behind it, as many as fit into
 * one batch: so it takes less room afterwards. Nothing goes before the space is wanted: until then followers
 * that lag can be served, and those in contact a while longer; and nothing when all would be copied. But a PG
 * whose applied entries have become too many for its log (long_logs) is helped at once.
 */
#include <string.h>

#include "store/internal.h"

/* Many batches at once: each move of the tail must be told by a header. */
static uint64_t trim_limit(const struct store *s)
{
    return s->room_wanted || s->destage.trimming ? ring_usable(s) * 5 / 8 : ring_usable(s) * 3 / 4;
}

/* Would a member that lags lose entries that it could still be sent? Then it would have to be copied. */
static bool tail_awaited(const struct store *s)
{
    const struct batch *b = list_first(&s->batches, struct batch, link);

    if (!b)
        return false;
    list_for_each (&b->entries, node) {
        const struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        if (e->in_log && e->pg->pub.wanted_index && e->index >= e->pg->pub.wanted_index)
            return true;
    }
    return false;
}

/* Blocks that are there twice until their copies are durable: no room that more copies would gain. */
static uint64_t copied_twice(const struct store *s)
{
    uint64_t blocks = 0;

    for (const struct list *at = s->batches.prev; at != &s->batches; at = at->prev) {
        const struct batch *b = list_entry(at, struct batch, link);
        if (b->durable)
            break;
        list_for_each (&b->copies, node)
            blocks += entry_blocks(list_entry(node, struct log_entry, copy_link));
    }
    return blocks;
}

bool trim_wanted(const struct store *s)
{
    if (s->long_logs)
        return true;
    uint64_t used = ring_held(s), live = DIV_UP(s->unapplied_bytes, (uint64_t)BLOCK_SIZE);

    if (used <= trim_limit(s) || used <= live + ring_usable(s) / 8 + copied_twice(s))
        return false;
    return s->room_wanted || used > ring_usable(s) / 8 * 7 || !tail_awaited(s);
}

/* ---- how far a PG is complete -------------------------------------------------------------------------- */

static bool entry_complete(const struct log_entry *e)
{
    if (!e->applied)
        return false;
    if (e->type == ENTRY_GROUP && !table_group_durable(e->pg) && !PLANT(STORE_GROUP_GONE))
        return false;
    if (e->holds == 0)
        return true;
    /* Only its image's record, which goes out together with the news. */
    const struct image *image = entry_is_image(e->type) && e->holds == 1 ? image_slot(e->pg, e->image) : NULL;
    return image && image->holder == e;
}

bool applied_push(struct store *s)
{
    bool any = false;

    s->destage.unpushed = 0;
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        const struct log_entry *last = NULL;
        pgs_ahead(pg);
        for (const struct log_entry *e; (e = log_at(pg, pg->complete_index + 1)) && entry_complete(e);) {
            log_prefetch(pg, e->index + LOG_AHEAD, false);
            pg->complete_index = e->index;
            last = e;
        }
        if (last)
            pg->complete_term = last->term;
        if (pg->complete_index <= pg->complete_durable || pg->removing)
            continue;
        for (uint32_t i = 0; i < pg->image_count; i++) {
            struct image *image = pg->images[i];
            image->is_pushed = false;
            if (image->holder && image->record.index <= pg->complete_index)
                image->pushed = image->record;
            else if (image->forgotten_index && image->forgotten_index <= pg->complete_index)
                /* Its successor is not complete yet; but the tombstone before must not come back under it. */
                image->pushed = (struct image_record){
                    .image = image->record.image, .index = image->forgotten_index, .forgotten = true};
            else
                continue;
            image->is_pushed = true;
            image->forgotten_index = 0;
            struct disk_record r = image_encode(pg, &image->pushed);
            ring_record_later(s, &r);
        }
        struct disk_record r = {.type = RECORD_APPLIED,
                                .key = pg->key,
                                .log_of = {.index = pg->complete_index, .term = pg->complete_term}};
        ring_record_later(s, &r);
        pg->complete_pushed = pg->complete_index;
        any = true;
    }
    if (!any)
        return false;
    destage_records_wait(s);
    return true;
}

/* Records that were pushed are what a restart would find; those that were forgotten go. */
static void images_durable(struct pg *pg)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < pg->image_count; i++) {
        struct image *image = pg->images[i];
        bool newest = image->record.index == image->pushed.index;
        pg->images[kept++] = image;
        if (!image->is_pushed)
            continue;
        image->is_pushed = false;
        image->saved = image->pushed;
        image->is_saved = !image->pushed.forgotten;
        if (newest && image->pushed.forgotten) {
            image_free(pg, image);
            kept--;
        } else if (newest && image->holder) {
            struct log_entry *holder = image->holder;
            image->holder = NULL;
            entry_release(holder);
        }
    }
    pg->image_count = kept;
}

void applied_durable(struct store *s)
{
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        pgs_ahead(pg);
        if (pg->complete_pushed <= pg->complete_durable)
            continue;
        pg->complete_durable = pg->complete_pushed;
        images_durable(pg);
        large_give_back(pg);
    }
    ring_reflected(&s->destage.wait);
    s->destage.waiting = false;
    if (large_space_low(s))
        large_relieve(s);
}

/* ---- the tail ------------------------------------------------------------------------------------------ */

static bool entry_done(const struct log_entry *e)
{
    if (!e->in_log)
        return false;
    return e->index <= e->pg->complete_durable || (PLANT(STORE_EARLY_TAIL) && e->applied);
}

/* Everything of the batch that is not done is set on its way. */
static enum trim_result batch_blocked(struct store *s, struct batch *b)
{
    enum trim_result result = TRIM_DONE;

    list_for_each (&b->entries, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        struct pg *pg = e->pg;
        if (entry_done(e))
            continue;
        if (pg->removing) {
            result = TRIM_WAIT;
        } else if (!e->in_log) {
            destage_tell_all(pg);
            result = TRIM_DESTAGE;
        } else if (e->applied) {
            destage_raise(pg, e->index);
            result = TRIM_DESTAGE;
        } else if (list_linked(&e->copy_link)) {
            result = result == TRIM_DESTAGE ? result : TRIM_WAIT;
        } else if (entry_ring_blocks(e) && !e->payload.buf) {
            s->destage.reading = e;
            return TRIM_COPY_READ;
        } else {
            list_push_back(&s->copies, &e->copy_link);
            result = result == TRIM_DESTAGE ? result : TRIM_WAIT;
        }
    }
    return result;
}

/* Batch `b` waits for its copies: those of the batches behind it shall go with them. */
static enum trim_result copy_more(struct store *s, struct batch *b)
{
    uint64_t blocks = 0, limit = trim_limit(s);

    list_for_each (&s->copies, node)
        blocks += 1 + entry_blocks(list_entry(node, struct log_entry, copy_link));
    while (blocks < BATCH_PAYLOAD_BLOCKS_MAX && b->link.next != &s->batches) {
        b = list_entry(b->link.next, struct batch, link);
        if (!b->durable || MAX(s->head - b->position, s->volume - b->volume_end) <= limit)
            break;
        struct list *last = s->copies.prev;
        enum trim_result result = batch_blocked(s, b);
        if (result == TRIM_COPY_READ)
            return result;
        for (struct list *node = last->next; node != &s->copies; node = node->next)
            blocks += 1 + entry_blocks(list_entry(node, struct log_entry, copy_link));
    }
    return TRIM_WAIT;
}

/* Returns how many entries went with it. */
static uint32_t batch_trim(struct store *s, struct batch *b)
{
    struct batch *next = list_entry(b->link.next, struct batch, link);
    uint32_t count = 0;

    while (!list_empty(&b->entries)) {
        struct log_entry *e = list_entry(b->entries.next, struct log_entry, batch_link);
        struct pg *pg = e->pg;
        count++;
        if (!e->in_log) {
            /* A planted bug moves the tail over what is still needed. */
            list_remove(&e->batch_link);
            e->batch = NULL;
            continue;
        }
        log_trim(pg, e->index + 1);
    }
    if (s->destage.scan == b)
        s->destage.scan = next;
    s->tail = next->position;
    s->volume_tail = b->volume_end;
    s->tail_seq = next->seq;
    list_remove(&b->link);
    slab_put(&s->slab, b, sizeof(*b));
    op_wake(&s->ring_op);
    return count;
}

static enum trim_result trim_tail(struct store *s)
{
    for (uint32_t entries = 0; trim_wanted(s);) {
        if (entries >= TRIM_ENTRIES_MAX)
            return TRIM_MORE;
        struct batch *b = list_first(&s->batches, struct batch, link);
        if (!b || b->link.next == &s->batches || !b->durable)
            return TRIM_WAIT;
        if (b->record_count && b->seq >= MIN(s->ckpt_replay[0], s->ckpt_replay[1]))
            return TRIM_CHECKPOINT;
        enum trim_result blocked = batch_blocked(s, b);
        if (blocked == TRIM_WAIT)
            blocked = copy_more(s, b);
        if (blocked != TRIM_DONE)
            return blocked;
        entries += batch_trim(s, b);
    }
    return TRIM_DONE;
}

enum trim_result trim_step(struct store *s)
{
    s->destage.trimming = trim_wanted(s);
    enum trim_result result = trim_tail(s);
    if (result == TRIM_DONE)
        s->destage.trimming = false;
    trim_release(s, result != TRIM_COPY_READ);
    return result;
}

void trim_release(struct store *s, bool release)
{
    s->copies_held = !release;
    if (release && !list_empty(&s->copies))
        op_wake(&s->ring_op);
}

bool copy_read_next(struct store *s)
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

bool copy_read_start(struct store *s)
{
    struct destage *d = &s->destage;
    struct log_entry *e = d->reading;

    d->copy_buf = buf_new(s->core->arena, e->block_count * BLOCK_SIZE);
    if (!d->copy_buf)
        return false;
    entry_pin(e);
    d->copy_done = 0;
    d->copy_again = false;
    return copy_read_next(s);
}

static bool copy_is_whole(const struct destage *d)
{
    const struct log_entry *e = d->reading;
    bool whole = !d->copy_io.result;

    for (uint32_t b = 0; b < e->block_count && whole; b++)
        whole = crc32c(0, d->copy_buf->data + b * BLOCK_SIZE, BLOCK_SIZE) == e->crc[b];
    return whole;
}

bool copy_read_again(struct store *s)
{
    struct destage *d = &s->destage;

    if (d->copy_again || d->reading->dead || d->reading->lost || copy_is_whole(d))
        return false;
    d->copy_again = true;
    d->copy_done = 0;
    return copy_read_next(s);
}

void copy_read_end(struct store *s)
{
    struct destage *d = &s->destage;
    struct log_entry *e = d->reading;
    struct slice payload = {.buf = d->copy_buf, .len = e->block_count * BLOCK_SIZE};

    e->lost |= !copy_is_whole(d);
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
