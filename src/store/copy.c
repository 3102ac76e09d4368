/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving side of recovery: an object is replaced by a copy; and repair of one block. How a copy comes
 * by its chunks is in copy_write.c, what it knows of the old object in copy_look.c.
 *
 * A copy gathers in a page of its own, and in chunks of its own but for those that are as in the old object.
 * Of these it only remembers which they are: it must not keep destage from the object, for whose entries the
 * ring of all PGs may wait, as long as a source takes to answer. If the object has another page at the end,
 * the copy is for nothing. Nothing refers to it until then. The end is that of a
 * destage: flush, page, flush, slot record. A copy that is thrown away, or that a crash cut off, leaves
 * nothing behind, because allocation is rebuilt from live pages. Repair writes the very bytes that the page
 * expects in place, while destage leaves the object alone.
 */
#include <string.h>

#include "store/copy.h"

struct object *copy_object(const struct store_copy *c, struct pg **ret_pg)
{
    struct pg *pg = pg_by_key(c->store, c->key);

    *ret_pg = pg && !pg->removing ? pg : NULL;
    return *ret_pg ? object_find(pg, c->image, c->object) : NULL;
}

int store_copy_new(struct store_pg *pub, uint64_t image, uint64_t object, struct store_copy **ret_copy)
{
    struct store *s = pub->store;

    if (s->failed)
        return -ERR_STOPPED;
    /* Each takes a header at its end, and the tail may stand still meanwhile. */
    if (ring_short(s))
        return -ERR_RETRY;
    /* One that is here may give chunks back, or a reservation, and has a slot for the one that it takes. */
    const struct object *here = object_find(pg_of(pub), image, object);
    if ((!here || (!here->slot && !here->slot_reserved)) && (!space_spare(s) || !space_slots_left(s)))
        return -ERR_NO_SPACE;
    struct store_copy *c = slab_get(&s->slab, sizeof(*c));
    if (!c)
        return -ERR_NO_MEMORY;
    c->store = s;
    c->pg = pub->record.pg;
    c->key = pg_of(pub)->key;
    c->recovers = pub->record.state != STORE_PG_NORMAL;
    c->removals = pg_of(pub)->removals;
    c->gone_index = pub->gone_index;
    c->image = image;
    c->object = object;
    *ret_copy = c;
    return 0;
}

/* `taken`: its references on chunks are now those of the object. */
static void copy_free(struct store_copy *c, bool taken)
{
    for (uint32_t i = 0; !taken && i < CHUNKS_PER_OBJECT; i++)
        if (c->page.chunk[i] && !(c->stays >> i & 1))
            chunk_free(c->store, c->page.chunk[i]);
    content_hasher_free(c->hasher);
    slab_put(&c->store->slab, c, sizeof(*c));
}

/* ---- the end ------------------------------------------------------------------------------------------- */

/* wait for destage to let go of the object -> flush -> page -> flush -> record -> done */
enum { COPY_END_START, COPY_END_FLUSH, COPY_END_PAGE, COPY_END_PAGE_FLUSH, COPY_END_RECORD };

static const char *copy_end_state(int state)
{
    static const char *const names[] = {"start", "flush", "page", "flush of page", "record"};
    return names[state];
}

struct copy_ending {
    struct blk_io io;
    struct iovec iov;
    struct buf *buf;
    struct ring_wait wait;
    struct store_waiter waiter;
    uint32_t slot;
    uint64_t version;
    bool busy, waits;
};

static void copy_end_finish(struct store_copy_end *e, int result, bool taken)
{
    struct store_copy *c = e->copy;
    struct copy_ending *state = e->private_state;
    struct store *s = c->store;
    struct pg *pg = pg_by_key(s, c->key);
    struct object *o = pg ? object_find(pg, c->image, c->object) : NULL;

    if (state) {
        if (state->busy) {
            o->busy = false;
            pg->busy_ops--;
            object_settle(o);
        }
        if (state->waits)
            ring_reflected(&state->wait);
        if (state->slot && !taken)
            slot_free(s, state->slot);
        list_remove(&state->waiter.link);
        buf_unref(state->buf);
        slab_put(&s->slab, state, sizeof(*state));
        e->private_state = NULL;
    }
    copy_free(c, taken);
    destage_wake(s);
    table_wake(s);
    op_done(&e->op, result);
}

/* The object is ours to change; 1: not yet. */
static int copy_end_begin(struct store_copy_end *e)
{
    struct store_copy *c = e->copy;
    struct copy_ending *state = e->private_state;
    struct store *s = c->store;
    struct pg *pg;
    struct object *o = copy_object(c, &pg);

    if (!pg)
        return -ERR_NO_PG;
    if (pg->splitting || (o && o->busy))
        return 1;
    /* In a recovery it is what the source has that counts. Otherwise, also if one has begun since: is the
     * object another PG's, or may it have gone, with its image or as a whole, so that nothing of it is left
     * to tell?
     */
    bool gone = pg->removals != c->removals || (!(o && o->slot) && pg->pub.gone_index != c->gone_index);
    if (!c->recovers && (!split_belongs(pg, pg->pub.record.split_count, c->image, c->object) ||
                         (gone && !PLANT(STORE_COPY_REVIVES))))
        return -ERR_CONFLICT;
    if (o && o->slot && o->page_index > c->index)
        return -ERR_CONFLICT;
    if (c->stays && (!o || o->version != c->stays_version) && !PLANT(STORE_COPY_LATE))
        return -ERR_CONFLICT;
    state->buf = buf_new(s->core->arena, BLOCK_SIZE);
    if (!state->buf)
        return -ERR_NO_MEMORY;
    o = object_get(pg, c->image, c->object);
    if (!o)
        return -ERR_NO_MEMORY;
    o->busy = state->busy = true;
    pg->busy_ops++;
    state->slot = slot_alloc(s);
    state->version = MAX(o->version + 1, s->next_seq);
    return state->slot ? 0 : -ERR_NO_SPACE;
}

static void copy_end_record(struct store_copy_end *e)
{
    struct store_copy *c = e->copy;
    struct copy_ending *state = e->private_state;
    struct disk_record r = {.type = RECORD_SLOT,
                            .slot = state->slot,
                            .key = c->key,
                            .image = c->image,
                            .slot_of = {.object = c->object, .index = c->index, .version = state->version}};

    ring_record(c->store, &r);
    ring_wait(c->store, &state->wait, &e->op);
    state->waits = true;
}

static int copy_end_commit(struct store_copy_end *e)
{
    struct store_copy *c = e->copy;
    struct copy_ending *state = e->private_state;
    struct store *s = c->store;
    /* Busy, so it is there, even if its PG is about to go. */
    struct object *o = object_find(pg_by_key(s, c->key), c->image, c->object);
    struct page_map map;

    ASSERT(o && state->busy);
    if (page_map_make(s, &c->page, &map))
        return -ERR_NO_MEMORY;
    /* What the copy has is not newer than itself. */
    uint64_t newest = c->index;
    for (uint32_t b = 0; o->overlay && (b = overlay_next(o->overlay, b)) < BLOCKS_PER_OBJECT; b++) {
        struct log_entry *old = o->overlay->block[b];
        if (old->index <= c->index)
            overlay_take(o, b);
        else
            newest = MAX(newest, old->index);
    }
    if (o->overlay && o->overlay->whole && o->overlay->whole->index <= c->index)
        overlay_take_whole(o);
    else if (o->overlay && o->overlay->whole)
        newest = MAX(newest, o->overlay->whole->index);
    space_switch(o, &map, state->slot);
    o->page_index = c->index;
    o->pg->pub.newest_index = MAX(o->pg->pub.newest_index, c->index);
    o->lost_index = c->page.lost_index;
    o->marks_new = false;
    o->index = newest;
    o->version = state->version;
    object_set_exists(o, true);
    return 0;
}

static void copy_end_step(struct op *op)
{
    struct store_copy_end *e = container_of(op, struct store_copy_end, op);
    struct store_copy *c = e->copy;
    struct store *s = c->store;
    struct copy_ending *state = e->private_state;
    int rc = 0;

    if (op->state == COPY_END_START && !state) {
        ASSERT(c->writes == 0);
        state = s->failed || !c->index ? NULL : slab_get(&s->slab, sizeof(*state));
        if (!state) {
            copy_end_finish(e, !c->index ? 0 : s->failed ? -ERR_STOPPED : -ERR_NO_MEMORY, false);
            return;
        }
        e->private_state = state;
        list_init(&state->waiter.link);
        state->waiter.op = op;
    }
    for (;;) {
        if (state->io.pending)
            return;
        if (state->io.result)
            store_fail(s, state->io.result, "a write of an object page failed");
        if (s->failed) {
            copy_end_finish(e, -ERR_STOPPED, false);
            return;
        }
        switch (op->state) {
        case COPY_END_START:
            rc = copy_end_begin(e);
            if (rc > 0) {
                list_remove(&state->waiter.link);
                list_push_back(&s->table_waiters, &state->waiter.link);
                return;
            }
            if (rc) {
                copy_end_finish(e, rc, false);
                return;
            }
            op->state = COPY_END_FLUSH;
            if (s->blk->volatile_cache)
                io_start(s->blk, &state->io, &state->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
            break;
        case COPY_END_FLUSH: {
            struct object *o = object_find(pg_by_key(s, c->key), c->image, c->object);
            page_encode(s, o, &c->page, state->slot, c->index, state->version,
                        (struct disk_page *)state->buf->data);
            op->state = COPY_END_PAGE;
            io_start(s->blk, &state->io, &state->iov, BLK_WRITE, fua(s), slot_place(s, state->slot),
                     state->buf->data, 1, op);
            break;
        }
        case COPY_END_PAGE:
            copy_end_record(e);
            op->state = COPY_END_RECORD;
            break;
        case COPY_END_RECORD:
            if (!state->wait.done)
                return;
            rc = copy_end_commit(e);
            if (rc)
                store_fail(s, rc, "no memory for a copied object");
            copy_end_finish(e, rc, rc == 0);
            return;
        }
    }
}

static const struct op_kind COPY_END = {"store.copy_end", copy_end_state, copy_end_step};

void store_copy_end_start(struct store_copy_end *e, struct store_copy *copy, uint64_t index,
                          struct op *parent)
{
    copy->index = index;
    /* A later window may be of a later state; what it is to be read for is the first one's. */
    copy->page.lost_index = MIN(copy->page.lost_index, index);
    e->copy = copy;
    e->private_state = NULL;
    op_start(&e->op, copy->store->core, &COPY_END, parent);
}

/* ---- repair -------------------------------------------------------------------------------------------- */

/* wait for destage to let go of the object -> (page) -> write -> flush -> done */
enum { REPAIR_START, REPAIR_PAGE, REPAIR_WRITE, REPAIR_FLUSH };

static const char *repair_state(int state)
{
    static const char *const names[] = {"start", "page", "write", "flush"};
    return names[state];
}

struct repairing {
    struct store_waiter waiter;
    struct buf *page;
    bool busy, page_failed;
};

static struct object *repair_object(struct store_repair *r, struct pg **ret_pg)
{
    struct store_pg *pub = store_pg_find(r->store, r->pg);

    *ret_pg = pub ? pg_of(pub) : NULL;
    return pub ? object_find(pg_of(pub), r->image, r->object) : NULL;
}

static void repair_end(struct store_repair *r, int result)
{
    struct repairing *state = r->private_state;
    struct pg *pg;
    struct object *o = repair_object(r, &pg);

    if (state) {
        if (state->busy) {
            o->busy = false;
            pg->busy_ops--;
            object_settle(o);
        }
        list_remove(&state->waiter.link);
        buf_unref(state->page);
        slab_put(&r->store->slab, state, sizeof(*state));
        r->private_state = NULL;
    }
    destage_wake(r->store);
    table_wake(r->store);
    op_done(&r->op, result);
}

/* 1: destage has the object now. 0: a request is under way, in the next state. */
static int repair_begin(struct store_repair *r)
{
    struct repairing *state = r->private_state;
    struct store *s = r->store;
    struct pg *pg;
    struct object *o = repair_object(r, &pg);

    if (!pg || pg->removing)
        return -ERR_NO_PG;
    if (pg->splitting)
        return 1;
    if (!o)
        return -ERR_CONFLICT;
    struct where w = object_where(o, r->block, false);
    if (w.source == WHERE_LOST)
        return -ERR_DAMAGED; /* which checksum is right is not known: the object must be copied */
    /* What is still the log's may go with its entry before the write is done. Destage makes it the object's,
     * with the checksum that it should have. */
    if ((w.source == WHERE_CHUNK || w.source == WHERE_RING) && w.entry) {
        destage_up_to(pg, w.entry->index);
        return -ERR_RETRY;
    }
    if (w.source != WHERE_CHUNK)
        return -ERR_CONFLICT;
    uint64_t least;
    page_block_indexes(o, r->block, 1, &least);
    if (r->index < least && !PLANT(STORE_REPAIR_OLD))
        return -ERR_RETRY;
    if (o->busy && !state->busy)
        return 1;
    if (!state->busy)
        pg->busy_ops++;
    o->busy = state->busy = true;
    if (!w.crc_known) {
        state->page = state->page ? state->page : buf_new(r->op.core->arena, BLOCK_SIZE);
        if (!state->page)
            return -ERR_NO_MEMORY;
        s->counters.page_reads++;
        r->op.state = REPAIR_PAGE;
        io_start(s->blk, &r->io, &r->iov, BLK_READ, 0, slot_place(s, o->slot), state->page->data, 1, &r->op);
        return 0;
    }
    if (r->data.len != BLOCK_SIZE || crc32c(0, slice_data(&r->data), BLOCK_SIZE) != w.crc)
        return -ERR_CHECKSUM;
    r->op.state = REPAIR_WRITE;
    io_start(s->blk, &r->io, &r->iov, BLK_WRITE, 0, w.place, slice_data(&r->data), 1, &r->op);
    return 0;
}

static void repair_step(struct op *op)
{
    struct store_repair *r = container_of(op, struct store_repair, op);
    struct store *s = r->store;
    struct repairing *state = r->private_state;

    if (!state) {
        state = s->failed ? NULL : slab_get(&s->slab, sizeof(*state));
        if (!state) {
            op_done(op, s->failed ? -ERR_STOPPED : -ERR_NO_MEMORY);
            return;
        }
        r->private_state = state;
        list_init(&state->waiter.link);
        state->waiter.op = op;
    }
    if (r->io.pending)
        return;
    if (op->state >= REPAIR_WRITE && r->io.result)
        store_fail(s, r->io.result, "the write of a repaired block failed");
    if (s->failed) {
        repair_end(r, -ERR_STOPPED);
        return;
    }
    switch (op->state) {
    case REPAIR_PAGE: {
        struct pg *pg;
        struct object *o = repair_object(r, &pg);
        /* Busy, so it is there, and this is its page. */
        if (page_take(o, o->version, (const struct disk_page *)state->page->data, r->io.result,
                      &state->page_failed) == PAGE_UNREADABLE) {
            repair_end(r, -ERR_DAMAGED); /* as of a lost block: the object must be copied */
            return;
        }
    }
        __attribute__((fallthrough));
    case REPAIR_START: {
        int rc = repair_begin(r);
        if (rc < 0)
            repair_end(r, rc);
        if (rc > 0) {
            list_remove(&state->waiter.link);
            list_push_back(&s->table_waiters, &state->waiter.link);
        }
        return;
    }
    case REPAIR_WRITE:
        op->state = REPAIR_FLUSH;
        io_start(s->blk, &r->io, &r->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
        return;
    case REPAIR_FLUSH: {
        struct pg *pg;
        page_unmark(repair_object(r, &pg), r->block); /* busy, so its page is still the same */
        s->counters.repaired_blocks++;
    }
        repair_end(r, 0);
        return;
    }
}

static const struct op_kind REPAIR = {"store.repair", repair_state, repair_step};

void store_repair_start(struct store_repair *r, struct store_pg *pg, uint64_t image, uint64_t object,
                        uint32_t block, uint64_t index, const struct slice *data, struct op *parent)
{
    ASSERT(block < BLOCKS_PER_OBJECT);
    r->store = pg->store;
    r->pg = pg->record.pg;
    r->image = image;
    r->object = object;
    r->block = block;
    r->index = index;
    r->data = *data;
    r->private_state = NULL;
    r->io.pending = false;
    r->io.result = 0;
    op_start(&r->op, pg->store->core, &REPAIR, parent);
}
