/* SPDX-License-Identifier: Apache-2.0
 *
 * A round of destage: what it takes, and what changes in memory when it is done.
 *
 * It takes a snapshot of the overlays of its objects; entries applied meanwhile stay in the overlay for the
 * next. An object of a round is busy: nobody else changes its chunks or its page.
 */
#include <string.h>

#include "store/internal.h"

/* May the snapshot be taken now? */
static bool object_ready(const struct object *o)
{
    if (o->busy || !o->overlay)
        return false;
    const struct store *s = store_of(o->pg);
    if (o->unreadable && s->destage.unreadable_ns && o->left_period == s->destage.period)
        return false;
    /* They come from all over the log. */
    overlay_for_each (o->overlay, b)
        entry_prefetch(o->overlay->block[b], true);
    return true;
}

static void page_overlay(struct page_mem *page, const struct overlay *snap)
{
    if (snap->whole) {
        memset(page->written, 0, sizeof(page->written));
        memset(page->lost, 0, sizeof(page->lost));
    }
    overlay_for_each (snap, b) {
        const struct log_entry *e = snap->block[b];
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

/* Chunks, a bit for each, that would be written in place though an entry in a log refers to them. */
static uint32_t chunks_shared(const struct store *s, const struct object *o)
{
    uint32_t shared = 0;

    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT && !PLANT(STORE_LARGE_IN_PLACE); c++) {
        uint32_t chunk = object_chunk(o, c);
        if (!chunk || s->chunk_refs[chunk] == 1 || chunk_brought(o->overlay, c))
            continue;
        for (uint32_t b = c * BLOCKS_PER_CHUNK;
             (b = overlay_next(o->overlay, b)) < (c + 1) * BLOCKS_PER_CHUNK; b++)
            if (o->overlay->block[b]->type == ENTRY_WRITE)
                shared |= 1u << c;
    }
    return shared;
}

static void log_lets_go(struct pg *pg, uint64_t last)
{
    if (last > pg->complete_durable || pg->pub.first_index > last)
        return;
    log_trim(pg, last + 1);
}

/* The log lets go of the object's chunks, if it may: what is complete only serves followers that lag. That of
 * another PG, too, if this one was split off: what it brought there came before, and so is complete. It need
 * not be known to be, and the other PG may never get anywhere: what that one keeps is not waited for. Such
 * chunks are left to it (`ret_moves`), and what stays of the object's blocks moves to others, if there are
 * any to spare. */
static bool object_unshare(struct store *s, struct object *o, uint32_t *ret_moves)
{
    uint32_t shared = chunks_shared(s, o);

    if (shared) {
        log_lets_go(o->pg, o->brought_index);
        shared = chunks_shared(s, o);
    }
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        if (!shared || o->pg->pub.record.birth)
            break;
        if (pg == o->pg || !key_is_family(pg->key, o->pg->key))
            continue;
        log_lets_go(pg, MIN(o->brought_index, pg->complete_durable));
        shared = chunks_shared(s, o);
    }
    *ret_moves = shared;
    return !shared ||
           (o->brought_index <= o->pg->complete_durable && space_available(s) >= __builtin_popcount(shared));
}

/* Chunks for what is written, none for what is not. */
static bool page_chunks(struct store *s, struct page_mem *page, const struct overlay *snap, uint32_t moves)
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
        } else if (!page->chunk[c] || moves >> c & 1) {
            page->chunk[c] = chunk_alloc(s);
        }
        if (want && !page->chunk[c])
            return false;
    }
    return true;
}

/* What the round has taken for a page that is not to be. */
static void object_undo(struct store *s, struct destage_object *r)
{
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        if (r->page->chunk[c] && r->page->chunk[c] != object_chunk(r->object, c))
            chunk_free(s, r->page->chunk[c]);
    if (r->new_slot)
        slot_free(s, r->new_slot);
    page_map_free(s, &r->map);
}

/* Blocks that the round leaves as they are: the new page must have their checksums, too. */
static uint64_t blocks_stay(const struct destage_object *r, uint32_t word)
{
    return r->page->written[word] & ~r->snap->used[word];
}

static bool object_lacks(struct store *s, const struct destage_object *r)
{
    struct object *o = r->object;
    uint64_t stay = 0;

    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++)
        stay |= blocks_stay(r, i);
    if (!stay)
        return false;
    if (o->crcs) {
        s->counters.page_hits++;
        round_page_known(r);
    }
    return !o->crcs && !PLANT(STORE_ROUND_BLIND);
}

void round_page_known(const struct destage_object *r)
{
    const uint32_t *crc = r->object->crcs->crc;

    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++)
        for (uint64_t stay = blocks_stay(r, i); stay; stay &= stay - 1)
            r->page->crc[64 * i + (uint32_t)__builtin_ctzll(stay)] =
                crc[64 * i + (uint32_t)__builtin_ctzll(stay)];
}

/* All of an object, or those that move. */
static void blocks_drop(struct destage *d, const struct object *o, bool all)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < d->block_count; i++)
        if (d->blocks[i].object != o || (!all && d->blocks[i].entry))
            d->blocks[kept++] = d->blocks[i];
    d->block_count = kept;
}

/* The old page is damaged: what it said of the other blocks, which is their checksums, is lost. */
void round_page_lost(struct store *s, struct destage_object *r)
{
    blocks_drop(&s->destage, r->object, false);
    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++) {
        uint64_t stay = blocks_stay(r, i);
        r->page->written[i] &= ~stay;
        r->page->lost[i] |= stay;
    }
    if (!PLANT(STORE_MARK_OLD))
        r->page->lost_index = r->object->page_index;
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        if (!chunk_written(r->page, c))
            r->page->chunk[c] = 0;
    page_map_fill(&r->map, r->page);
}

/* What stays of the chunk. */
static void chunk_moves(struct store *s, struct destage_object *r, uint32_t c)
{
    struct destage *d = &s->destage;

    for (uint32_t b = c * BLOCKS_PER_CHUNK; b < (c + 1) * BLOCKS_PER_CHUNK; b++) {
        if (!bit_get(r->page->written, b) || bit_get(r->snap->used, b))
            continue;
        d->blocks[d->block_count++] = (struct destage_block){.place = chunk_place(s, r->page->chunk[c], b),
                                                             .object = r->object,
                                                             .crc = &r->page->crc[b],
                                                             .block = b};
        d->readback_count++;
    }
}

static void object_blocks(struct store *s, struct destage_object *r, uint32_t moves)
{
    struct destage *d = &s->destage;

    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        if (moves >> c & 1)
            chunk_moves(s, r, c);
    overlay_for_each (r->snap, b) {
        struct log_entry *e = r->snap->block[b];
        if (e->type != ENTRY_WRITE || chunk_brought(r->snap, b / BLOCKS_PER_CHUNK))
            continue;
        struct destage_block *block = &d->blocks[d->block_count++];
        *block = (struct destage_block){.place = chunk_place(s, r->page->chunk[b / BLOCKS_PER_CHUNK], b),
                                        .object = r->object,
                                        .entry = e,
                                        .crc = &e->crc[b - e->first_block],
                                        .block = b};
        if (PLANT(STORE_LOST_AS_BEFORE) && e->lost)
            d->block_count--;
        else if (e->payload.buf && !e->lost)
            block->data = slice_data(&e->payload) + (b - e->first_block) * BLOCK_SIZE;
        else
            d->readback_count++;
    }
}

static bool object_collect(struct store *s, struct object *o)
{
    struct destage *d = &s->destage;
    struct destage_object *r = &d->objects[d->object_count];
    uint32_t readback = 0, moves;

    if (d->object_count == DESTAGE_OBJECTS_MAX || d->block_count + BLOCKS_PER_OBJECT > DESTAGE_BLOCKS_MAX ||
        (!d->hurry && !d->late && d->block_count >= DESTAGE_CALM_BLOCKS))
        return false;
    if (!object_ready(o))
        return true;
    if (!object_unshare(s, o, &moves)) {
        d->held = true;
        return true;
    }
    readback += (uint32_t)__builtin_popcount(moves) * BLOCKS_PER_CHUNK;
    overlay_for_each (o->overlay, b) {
        const struct log_entry *e = o->overlay->block[b];
        readback += e->type == ENTRY_WRITE && (e->lost || !e->payload.buf) &&
                    !chunk_brought(o->overlay, b / BLOCKS_PER_CHUNK) && !(moves >> b / BLOCKS_PER_CHUNK & 1);
    }
    if (d->readback_count + readback > DESTAGE_READBACK_MAX)
        return false;
    const struct image *image = image_find(o->pg, o->image);
    *r = (struct destage_object){.object = o,
                                 .snap = &d->snaps[d->object_count],
                                 .index = o->index,
                                 .version = MAX(o->version + 1, s->next_seq)};
    *r->snap = *o->overlay;
    r->snap->block = &d->snap_blocks[d->object_count * BLOCKS_PER_OBJECT];
    memcpy(r->snap->block, o->overlay->block, BLOCKS_PER_OBJECT * sizeof(*r->snap->block));
    r->page = &d->pages[d->object_count];
    page_map_expand(&o->map, r->page);
    r->page->lost_index = o->lost_index;
    page_overlay(r->page, r->snap);
    /* Of what the removal of its image clears the record does not tell yet, when there is more to clear. */
    const struct log_entry *whole = r->snap->whole;
    bool removed = whole && entry_is_image(whole->type) && image_of_entry(whole).deleted;
    bool gone = removed || (image && image->record.deleted) || (whole && whole->type == ENTRY_FORGET);
    r->drop = gone && page_is_empty(r->page);
    if (!r->drop)
        r->new_slot = PLANT(STORE_EARLY_REUSE) && o->slot ? o->slot : slot_alloc(s);
    if ((!r->drop && !r->new_slot) || !page_chunks(s, r->page, r->snap, moves) ||
        page_map_make(s, r->page, &r->map)) {
        object_undo(s, r);
        return false;
    }
    r->load = object_lacks(s, r);
    overlay_for_each (r->snap, b)
        entry_pin(r->snap->block[b]);
    if (r->snap->whole)
        entry_pin(r->snap->whole);
    object_blocks(s, r, moves);
    o->busy = true;
    d->object_count++;
    return true;
}

/* Those that an image entry has cleared may be very many: each round goes on where the one before was full.
 * The next one after the last begins with the first that could not be taken. False: the round is full. */
static bool image_collect(struct store *s, const struct log_entry *e)
{
    struct pg *pg = e->pg;

    if (pg->collect_index != e->index) {
        pg->collect_number = 0;
        pg->collect_left = UINT64_MAX;
    }
    pg->collect_index = e->index;
    struct object *o = object_find(pg, e->image, pg->collect_number);
    if (!o)
        o = object_after(pg, false, e->image, pg->collect_number);
    for (; o && o->image == e->image; o = object_after(pg, false, o->image, o->number)) {
        uint32_t count = s->destage.object_count;
        if (!o->overlay || o->index < e->index)
            continue;
        if (!o->busy && !object_collect(s, o)) {
            pg->collect_number = o->number;
            return false;
        }
        if (s->destage.object_count == count)
            pg->collect_left = MIN(pg->collect_left, o->number);
    }
    pg->collect_number = pg->collect_left == UINT64_MAX ? 0 : pg->collect_left;
    pg->collect_left = UINT64_MAX;
    return true;
}

/* Objects in whose overlays the entry is. False: the round is full. */
static bool entry_collect(struct store *s, struct log_entry *e)
{
    if (entry_is_image(e->type))
        return image_collect(s, e);
    struct object *o = e->obj ? e->obj : object_find(e->pg, e->image, e->object);
    return !o || o->busy || !o->overlay || object_collect(s, o);
}

static bool image_only(const struct log_entry *e)
{
    if (!entry_is_image(e->type) || e->holds != 1)
        return false;
    const struct image *image = image_slot(e->pg, e->image);
    return image && image->holder == e;
}

/* Whatever of the PG is applied. What is not ready yet is so when someone wakes destage, or at the end of the
 * period: until then there is more to do. */
static bool pg_collect_all(struct store *s, struct pg *pg)
{
    bool skipped = false;

    list_for_each (&s->overlays, node) {
        struct object *o = list_entry(node, struct overlay, link)->object;
        uint32_t count = s->destage.object_count;
        if (o->pg != pg)
            continue;
        if (!o->busy && !object_collect(s, o))
            return false;
        skipped |= s->destage.object_count == count;
    }
    pg->destage_all = skipped;
    return true;
}

static bool pg_collect(struct store *s, struct pg *pg)
{
    if (pg->destage_all && !pg_collect_all(s, pg))
        return false;
    uint64_t limit = MIN(pg->destage_limit, pg->pub.applied_index);
    /* Entries lose holds and do not get them back: what has none left is not looked at in each round again.
     */
    bool nothing = true;
    for (uint64_t i = MAX(pg->complete_index, pg->collected_index) + 1; i <= limit; i++) {
        struct log_entry *e = log_at(pg, i);
        log_prefetch(pg, i + LOG_AHEAD, false);
        bool holds = e && e->holds && !image_only(e);
        nothing &= !holds;
        if (nothing)
            pg->collected_index = i;
        if (holds && !entry_collect(s, e))
            return false;
    }
    return true;
}

/* Of the PGs with these orders, the second one not included. True: the round is full. */
static bool round_collect_from(struct store *s, uint64_t first, uint64_t end)
{
    struct destage *d = &s->destage;

    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        pgs_ahead(pg);
        if (pg->order < first || pg->order >= end || pg->removing)
            continue;
        bool whole = d->object_count == 0;
        if (!pg_collect(s, pg)) {
            d->first_order = pg->order + whole; /* what is left of one that fills rounds alone comes later */
            return true;
        }
    }
    return false;
}

void round_period_end(struct store *s)
{
    struct destage *d = &s->destage;

    if (d->unreadable_ns && d->unreadable_ns <= core_now_ns(s->core)) {
        d->unreadable_ns = 0;
        d->period++;
    }
}

void round_collect(struct store *s)
{
    struct destage *d = &s->destage;

    round_period_end(s);
    d->object_count = d->block_count = d->readback_count = d->next = 0;
    d->held = false;
    /* Where the last round was full: PGs that have something new all the time must not keep the others, who
     * may hold the tail, waiting. */
    d->more = round_collect_from(s, d->first_order, UINT64_MAX) || round_collect_from(s, 0, d->first_order);
}

static void object_commit(struct store *s, struct destage_object *r)
{
    struct object *o = r->object;

    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        if (chunk_brought(r->snap, c))
            o->brought_index = MAX(o->brought_index, r->snap->block[c * BLOCKS_PER_CHUNK]->index);
    overlay_for_each (r->snap, b)
        entry_prefetch(r->snap->block[b], true);
    overlay_for_each (r->snap, b) {
        struct log_entry *e = r->snap->block[b];
        if (o->overlay && o->overlay->block[b] == e)
            overlay_take(o, b);
        entry_unpin(e);
    }
    if (r->snap->whole) {
        if (o->overlay && o->overlay->whole == r->snap->whole)
            overlay_take_whole(o);
        entry_unpin(r->snap->whole);
    }
    space_switch(o, &r->map, r->new_slot);
    if (!page_is_empty(r->page))
        page_keep(o, r->page->crc);
    o->page_index = r->drop ? 0 : r->index;
    o->lost_index = r->drop ? 0 : r->page->lost_index;
    o->marks_new = false;
    o->version = r->version;
    o->busy = false;
    object_settle(o);
}

void round_commit(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count; i++) {
        d->unpushed += d->objects[i].snap->count;
        object_commit(s, &d->objects[i]);
    }
    d->object_count = 0;
    if (d->waiting)
        ring_reflected(&d->wait);
    d->waiting = false;
}

static void object_abandon(struct store *s, struct destage_object *r)
{
    overlay_for_each (r->snap, b)
        entry_unpin(r->snap->block[b]);
    if (r->snap->whole)
        entry_unpin(r->snap->whole);
    object_undo(s, r);
    r->object->busy = false;
}

static void object_leave(struct store *s, struct destage_object *r)
{
    struct destage *d = &s->destage;

    blocks_drop(d, r->object, true);
    r->object->left_period = d->period;
    object_abandon(s, r);
    if (!d->unreadable_ns)
        d->unreadable_ns = core_now_ns(s->core) + PAGE_RETRY_NS;
}

void round_leave(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count;) {
        if (!d->objects[i].unreadable) {
            i++;
            continue;
        }
        object_leave(s, &d->objects[i]);
        d->objects[i] = d->objects[--d->object_count];
    }
}

/* What a round that was interrupted holds. */
void round_abandon(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count; i++)
        object_abandon(s, &d->objects[i]);
    d->object_count = 0;
    if (d->waiting)
        ring_reflected(&d->wait);
    d->waiting = false;
}
