/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening: what the checkpoint and the batches of the ring say becomes state.
 *
 * Entries come in the order of the ring. One appended in the ordinary way voids all from its index on; one
 * that was copied forward replaces only itself. So logs may have holes until the end is reached: what then is
 * missing below a PG's complete index was trimmed, above it it is damage.
 */
#include <stdlib.h>
#include <string.h>

#include "store/opening.h"

void replay_damage(struct store *s, const struct disk_batch_pg *pgs, uint32_t count, bool records)
{
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        bool named = !pgs;
        for (uint32_t i = 0; pgs && i < count; i++)
            named |= pgs[i].key == pg->key;
        pg->pub.damaged |= named && records;
        pg->lacks_entries |= named;
    }
}

/* ---- records ------------------------------------------------------------------------------------------- */

static void out_of_memory(struct store *s)
{
    store_fail(s, -ERR_NO_MEMORY, "no memory to open the slice");
}

static void replay_slot(struct store *s, struct pg *pg, const struct disk_record *r)
{
    uint32_t chunk = r->slot / SLOTS_PER_CHUNK;

    if (r->slot_of.index >= FORMAT_NUMBER_MAX || r->slot_of.version >= FORMAT_NUMBER_MAX ||
        (r->type == RECORD_SLOT && (chunk == 0 || chunk > s->g.chunk_count))) {
        store_problem(s, "slot map: an impossible record of slot %u", r->slot);
        return;
    }
    struct object *o = object_get(pg, r->image, r->slot_of.object);
    if (!o) {
        out_of_memory(s);
        return;
    }
    if (r->slot_of.version <= o->version)
        return;
    o->version = r->slot_of.version;
    o->slot = r->type == RECORD_SLOT ? r->slot : 0;
    o->page_index = o->index = r->slot_of.index;
    pg->pub.newest_index = MAX(pg->pub.newest_index, r->slot_of.index);
}

static struct image *replay_image_get(struct store *s, struct pg *pg, const struct image_record *record)
{
    struct image *image = image_slot(pg, record->image);

    if (image)
        return image;
    struct image_record empty = {.image = record->image};
    if (image_put(pg, &empty, NULL)) {
        out_of_memory(s);
        return NULL;
    }
    return image_slot(pg, record->image);
}

static void image_saved(struct image *image, const struct image_record *r)
{
    if (image->is_saved && r->index < image->saved.index)
        return;
    image->saved = *r;
    image->is_saved = true;
}

static void replay_image(struct store *s, struct pg *pg, const struct disk_record *r)
{
    struct image_record record;

    if (image_decode(r, &record))
        return;
    struct image *image = replay_image_get(s, pg, &record);
    if (!image)
        return;
    if (r->flags & RECORD_IMAGE_NOW) {
        image_saved(image, &record);
        pg->pub.newest_index = MAX(pg->pub.newest_index, record.index);
    } else {
        image->pushed = record;
        image->is_pushed = true;
    }
}

static void replay_applied(struct pg *pg, uint64_t index, uint64_t term)
{
    for (uint32_t i = 0; i < pg->image_count; i++) {
        struct image *image = pg->images[i];
        if (!image->is_pushed || image->pushed.index > index)
            continue;
        image_saved(image, &image->pushed);
        image->is_pushed = false;
    }
    if (index <= pg->complete_index)
        return;
    pg->complete_index = index;
    pg->complete_term = term;
}

static void replay_drop(struct log_entry *e)
{
    struct pg *pg = e->pg;

    pg->log[e->index & (pg->log_cap - 1)] = NULL;
    entry_drop(e);
}

void replay_drop_from(struct pg *pg, uint64_t index)
{
    for (uint64_t i = MAX(index, pg->pub.first_index); i <= pg->pub.last_index; i++) {
        struct log_entry *e = log_at(pg, i);
        if (e)
            replay_drop(e);
    }
    pg->pub.last_index = MIN(pg->pub.last_index, index - 1);
}

static void replay_reset(struct pg *pg, uint64_t index, uint64_t term)
{
    struct store_pg *p = &pg->pub;

    replay_drop_from(pg, p->first_index);
    pg->lacks_entries = false;
    /* The table may know of more that has been trimmed since. */
    const struct disk_pg *d = table_record(store_of(pg), pg->table_index);
    p->record.base_index = MAX(index, d->base_index);
    p->record.base_term = index > d->base_index ? term : d->base_term;
    p->first_index = p->record.base_index + 1;
    p->last_index = p->record.base_index;
}

/* A log begins at its base, and all before is complete. A recovery may go back: what was complete of the log
 * before is not, of the one that begins. */
static void replay_restart(struct pg *pg)
{
    struct store_pg *p = &pg->pub;

    if (p->record.base_index < pg->complete_index && PLANT(STORE_RESET_COMPLETE))
        return;
    p->newest_index = MAX(p->newest_index, pg->complete_index);
    pg->complete_index = p->record.base_index;
    pg->complete_term = p->record.base_term;
}

/* Records of the child of a split, from before: it was not born then. */
static void replay_birth(struct pg *pg)
{
    for (struct object *o = object_after(pg, true, 0, 0); o;
         o = object_after(pg, false, o->image, o->number)) {
        o->slot = 0;
        o->index = o->page_index = o->version = 0;
    }
    for (uint32_t i = 0; i < pg->image_count; i++)
        pg->images[i]->is_saved = pg->images[i]->is_pushed = false;
    pg->pub.floor_epoch = 0;
}

static void replay_log(struct store *s, struct pg *pg, const struct disk_record *r)
{
    uint64_t index = r->log_of.index;

    if ((index == 0 && r->type != RECORD_RESET) || index >= FORMAT_NUMBER_MAX)
        store_problem(s, "a record of the impossible index %llu", (unsigned long long)index);
    else if (r->type == RECORD_APPLIED)
        replay_applied(pg, index, r->log_of.term);
    else if (r->type == RECORD_RESET)
        replay_reset(pg, index, r->log_of.term);
    else
        replay_drop_from(pg, index);
}

void replay_record(struct store *s, const struct disk_record *r, uint64_t seq)
{
    struct pg *pg = pg_by_key(s, r->key);

    if (r->type == RECORD_SPLIT) {
        replay_split(s, r, seq);
        return;
    }
    if (!pg)
        return;
    switch (r->type) {
    case RECORD_SLOT:
    case RECORD_DROP:
        replay_slot(s, pg, r);
        return;
    case RECORD_IMAGE:
        replay_image(s, pg, r);
        return;
    case RECORD_APPLIED:
    case RECORD_RESET:
    case RECORD_TRUNCATE:
        replay_log(s, pg, r);
        return;
    case RECORD_FLOOR:
        if (r->floor_of.epoch >= FORMAT_NUMBER_MAX)
            store_problem(s, "a floor at the impossible epoch %llu", (unsigned long long)r->floor_of.epoch);
        else
            pg->pub.floor_epoch = MAX(pg->pub.floor_epoch, r->floor_of.epoch);
        return;
    default:
        store_problem(s, "a record of unknown type %u", r->type);
    }
}

/* ---- entries ------------------------------------------------------------------------------------------- */

static bool log_is_empty(const struct pg *pg)
{
    return pg->pub.last_index < pg->pub.first_index;
}

/* Makes [first, last] include `index`. -ERR_FORMAT: no log is that long, such a header was not ours. */
static int log_span(struct pg *pg, uint64_t index)
{
    uint64_t first = log_is_empty(pg) ? index : MIN(pg->pub.first_index, index);
    uint64_t last = log_is_empty(pg) ? index : MAX(pg->pub.last_index, index);

    if (last - first >= LOG_SPAN_MAX)
        return -ERR_FORMAT;
    int rc = log_reserve(pg, last - first + 1);
    if (rc)
        return rc;
    pg->pub.first_index = first;
    pg->pub.last_index = last;
    return 0;
}

static void replay_entry(struct store *s, struct batch *b, struct pg *pg, const struct disk_batch *h,
                         const struct disk_entry *d, bool lost)
{
    struct entry from = {
        .index = d->index, .term = d->term, .type = d->type, .flags = d->flags, .image = d->image};
    struct log_entry *old = log_at(pg, d->index);

    /* A crash tore this copy. Then what it is a copy of is there, or another copy will come, which was made
     * before that went. */
    if (lost && d->copied && old && old->term == d->term && !old->lost)
        return;
    if (d->index <= pg->pub.record.base_index)
        return;
    if (entry_is_image(d->type)) {
        from.incarnation = d->image_of.incarnation;
        from.generation = d->image_of.generation;
        from.size_bytes = d->image_of.size_bytes;
    } else if (d->type == ENTRY_GROUP || d->type == ENTRY_SPLIT) {
        from.epoch = d->group_of.epoch;
        from.block_count = d->group_of.word_count;
        from.crc = batch_entry_crc(d);
    } else if (d->type != ENTRY_NOOP) {
        from.object = d->data.object;
        from.first_block = d->data.first_block;
        from.block_count = d->data.block_count;
        from.crc = batch_entry_crc(d);
    }
    if (!d->copied) {
        if (!log_is_empty(pg) && d->index <= pg->pub.last_index)
            replay_drop_from(pg, d->index);
    } else if (old) {
        replay_drop(old);
    }
    bool is_write = d->type == ENTRY_WRITE;
    int rc = log_span(pg, d->index);
    struct log_entry *e = rc ? NULL : entry_new(s, &from, is_write ? d->data.chunk_count : 0);
    if (rc == -ERR_NO_MEMORY || (!rc && !e)) {
        out_of_memory(s);
        return;
    }
    if (rc) {
        store_problem(s, "PG %llx: entry %llu does not fit into its log",
                      (unsigned long long)pg->pub.record.pg, (unsigned long long)d->index);
        pg->pub.damaged = true;
        return;
    }
    e->pg = pg;
    e->prev_term = d->prev_term;
    e->batch = b;
    e->durable = true;
    e->lost = lost;
    e->release_late = d->copied;
    e->position = h->position + h->header_blocks + (is_write ? d->data.payload_block : 0);
    if (e->chunk_count)
        memcpy(entry_chunks(e), from.crc + from.block_count, 4ull * e->chunk_count);
    list_push_back(&b->entries, &e->batch_link);
    pg->log[e->index & (pg->log_cap - 1)] = e;
}

void replay_batch(struct store *s, const struct disk_batch *h, const uint64_t *lost, bool with_records)
{
    struct batch *b = batch_new(s, h->seq, h->position, h->position + h->header_blocks + h->payload_blocks);
    uint32_t i = 0;

    if (!b) {
        out_of_memory(s);
        return;
    }
    s->volume += h->header_blocks + h->payload_blocks + batch_large_blocks(h);
    b->volume_end = s->volume;
    b->durable = true;
    b->record_count = h->record_count;
    for (uint32_t n = 0; n < h->record_count; n++) {
        /* What is in the checkpoint is known; but that does not hold log entries, so what voids some always
         * counts. */
        const struct disk_record *r = &batch_records(h)[n];
        if (with_records || r->type == RECORD_RESET || r->type == RECORD_TRUNCATE)
            replay_record(s, r, h->seq);
        struct pg *reset = with_records && r->type == RECORD_RESET ? pg_by_key(s, r->key) : NULL;
        if (reset)
            reset->pub.record.split_count = (uint32_t)r->log_of.split_count;
        if (reset)
            replay_restart(reset);
        if (reset && r->flags & RECORD_RESET_BIRTH && !PLANT(STORE_SPLIT_OLD_ATTEMPT))
            replay_birth(reset);
    }
    for (const struct disk_entry *d = NULL; !s->failed && (d = batch_entry_next(h, d)); i++) {
        struct pg *pg = pg_by_key(s, batch_pgs(h)[d->pg].key);
        if (!pg)
            continue;
        replay_entry(s, b, pg, h, d, bit_get(lost, i));
    }
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static void damaged_log(struct pg *pg, uint64_t index, const char *what)
{
    store_problem(store_of(pg), "PG %llx: log: entry %llu %s", (unsigned long long)pg->pub.record.pg,
                  (unsigned long long)index, what);
    pg->pub.damaged = true;
}

/* Cuts the log to one without holes that begins at or below complete_index + 1. */
static void log_settle(struct pg *pg)
{
    uint64_t complete = pg->complete_index;
    uint64_t first = pg->pub.first_index, last = pg->pub.last_index;
    /* Its base may be in a checkpoint before the RESET that voids the log is durable, which a crash then
     * tears. What the ring has is the log before it, and may begin behind a base that went back. If the RESET
     * is lost otherwise, that is known. */
    bool recovers = pg->pub.record.state == STORE_PG_RECOVERING;

    if (log_is_empty(pg) || last < complete)
        first = complete + 1;
    else if (first > complete + 1) {
        if (!recovers)
            damaged_log(pg, complete + 1, "is missing");
        first = last + 1;
    }
    for (uint64_t i = MIN(complete, last); i >= first && i > 0; i--) {
        const struct log_entry *e = log_at(pg, i), *next = log_at(pg, i + 1);
        uint64_t term = i == complete ? pg->complete_term : next ? next->prev_term : 0;
        /* What was complete may have let its chunks go; or what replaced it is lost, and is complete. */
        if (!e || e->chunk_count || (term && term != e->term)) {
            first = i + 1;
            break;
        }
    }
    for (uint64_t i = pg->pub.first_index; i <= MIN(last, first - 1); i++)
        if (log_at(pg, i))
            replay_drop(log_at(pg, i));
    for (uint64_t i = first; i <= last; i++) {
        const struct log_entry *e = log_at(pg, i), *prev = i > first ? log_at(pg, i - 1) : NULL;
        if (e && (!prev || e->prev_term == prev->term) &&
            (i != complete + 1 || prev || !complete || e->prev_term == pg->complete_term))
            continue;
        if (!e || prev || !recovers)
            damaged_log(pg, i, e ? "does not follow the one before" : "is missing");
        replay_drop_from(pg, i);
        last = i - 1;
        break;
    }
    bool empty = last < first;
    if (empty) {
        first = complete + 1;
        last = complete;
    }
    const struct log_entry *e = empty ? NULL : pg->log[first & (pg->log_cap - 1)];
    pg->pub.first_index = first;
    pg->pub.last_index = pg->pub.durable_index = last;
    pg->pub.applied_index = complete;
    pg->pub.record.base_index = first - 1;
    pg->pub.record.base_term = e ? e->prev_term : pg->complete_term;
    pg->complete_durable = pg->complete_pushed = complete;
}

static void entry_settle(struct log_entry *e)
{
    struct pg *pg = e->pg;
    struct store *s = store_of(pg);

    e->in_log = true;
    pg->pub.ring_bytes += entry_ring_bytes(e);
    e->applied = e->index <= pg->complete_index;
    if (e->applied)
        return;
    /* Nobody misses what is complete, or void. */
    if (e->lost && !pg->pub.damaged)
        damaged_log(pg, e->index, "is damaged");
    pg->unapplied_bytes += entry_ring_bytes(e);
    s->unapplied_bytes += entry_ring_bytes(e);
    if (e->type == ENTRY_IMAGE)
        list_push_back(&pg->pending_images, &e->obj_link);
}

/* The room that it holds for its object. */
static int entry_admit(struct log_entry *e)
{
    if (e->applied || (e->type != ENTRY_WRITE && e->type != ENTRY_CLEAR))
        return 0;
    e->obj = object_get(e->pg, e->image, e->object);
    if (!e->obj)
        return -ERR_NO_MEMORY;
    list_push_back(&e->obj->unapplied, &e->obj_link);
    /* What went to another PG in front of it will not be applied here (split.c). */
    if (e->type != ENTRY_WRITE || !split_belongs(e->pg, e->pg->pub.record.split_count, e->image, e->object))
        return 0;
    if (space_need(e->obj))
        return -ERR_NO_MEMORY;
    entry_reserve(e);
    return 0;
}

static void images_settle(struct pg *pg)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < pg->image_count; i++) {
        struct image *image = pg->images[i];
        image->is_pushed = false;
        if (!image->is_saved || image->saved.forgotten) {
            image_free(pg, image);
            continue;
        }
        image_set(pg, image, &image->saved);
        pg->images[kept++] = image;
    }
    pg->image_count = kept;
}

static void pg_finish(struct pg *pg)
{
    pg->pub.damaged |= pg->lacks_entries;
    log_settle(pg);
    images_settle(pg);
    for (uint64_t i = pg->pub.first_index; i <= pg->pub.last_index; i++)
        entry_settle(log_at(pg, i));
    for (uint64_t i = pg->pub.first_index; i <= pg->pub.last_index && !store_of(pg)->failed; i++)
        if (entry_admit(log_at(pg, i)))
            out_of_memory(store_of(pg));
    log_measure(pg);
}

void replay_finish(struct store *s)
{
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        /* When memory has run out the logs have holes that tell nothing. */
        if (s->failed)
            replay_drop_from(pg, pg->pub.first_index);
        else
            pg_finish(pg);
    }
}

void replay_abandon(struct store *s)
{
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        for (struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number))
            o->slot = 0;
    }
}
