/* SPDX-License-Identifier: Apache-2.0
 *
 * Destage: one op per store that takes objects in rounds from the overlay to chunks and pages, and then lets
 * the ring's tail move.
 *
 *   idle -> collect -> load -> readback -> data -> pages -> flush -> slots -> (commit) -.
 *    ^                                                                                  |
 *    '---------------- copy forward, checkpoint <--- trim <--- applied <----------------'
 *
 * A round takes a snapshot of the overlays of its objects; entries applied meanwhile stay in the overlay for
 * the next. Blocks go to their chunks in the order of the device, in place where the object has a chunk
 * already: reads take the overlay's version until the new page is live, and after a crash the ring still has
 * the entries. Pages go to fresh slots, and nothing names those before the flush of both; old slots and
 * dropped chunks are free once the records that say so are durable.
 *
 * It runs when more than half of the ring, or thirteen sixteenths of the cache, are not destaged; so
 * overwrites coalesce until then, and an object has many blocks for one page. What is left of the ring before
 * the tail must move (trim.c), and of the cache before payloads that a round needs are given back, lets it
 * fall behind for a while.
 *
 * Pace: a round writes no more blocks than the log has grown by since it began. That keeps up, as the log
 * grows by at least what is to be destaged, and spreads the work over all writes: at once it would keep the
 * few that come meanwhile waiting, here and, by the processor that it takes, at others. Not where somebody
 * waits for the end, when the tail must move, or when rounds are late all the same. And its steps are those
 * of an op in the background (rt/op.h): behind what others wait for.
 */
#include <stdlib.h>

#include "store/internal.h"

#define RETRY_NS (5 * NS_PER_MS)
/* So long a round's records wait for entries to go with: under load there are some far sooner. */
#define RECORDS_WAIT_NS (500 * NS_PER_US)
/* So many blocks are taken for each PG before all are asked how far they are complete; but no more than
 * this part of the ring, as its tail waits for that. */
#define PUSH_BLOCKS_PER_PG 8u
#define PUSH_RING_PART     64u
/* Blocks of the checkpoint that are made in one turn: some 500 records, not a millisecond's work. And those
 * that are written at once. */
#define CKPT_STEP_BLOCKS  PLANT_SCARCE(8u, 1u)
#define CKPT_WRITE_BLOCKS (WORK_BUF_BYTES / BLOCK_SIZE / 2)

enum {
    DESTAGE_IDLE,
    DESTAGE_COLLECT,
    DESTAGE_LOAD,
    DESTAGE_READBACK,
    DESTAGE_DATA,
    DESTAGE_PAGES,
    DESTAGE_FLUSH,
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
                                        "load",
                                        "readback",
                                        "data",
                                        "pages",
                                        "flush",
                                        "slots",
                                        "applied",
                                        "trim",
                                        "copy",
                                        "checkpoint",
                                        "flush of checkpoint",
                                        "header of checkpoint"};
    return names[state];
}

static uint64_t destage_keep(const struct store *s)
{
    return MIN(ring_usable(s) / 2, s->config.cache_bytes / BLOCK_SIZE / 16 * 13);
}

uint64_t destage_target(const struct store *s)
{
    uint64_t keep = destage_keep(s);

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

void destage_batch_durable(struct store *s)
{
    if (s->destage.op.state != DESTAGE_IDLE || s->destage.told || destage_wanted(s))
        destage_wake(s);
}

void destage_raise(struct pg *pg, uint64_t index)
{
    if (index <= pg->destage_limit)
        return;
    pg->destage_limit = index;
    store_of(pg)->destage.told = true;
}

void destage_tell_all(struct pg *pg)
{
    pg->destage_all = true;
    store_of(pg)->destage.told = true;
}

void destage_pg(struct pg *pg)
{
    store_of(pg)->destage.hurry = true;
    if (pg->destage_all)
        return;
    destage_tell_all(pg);
    store_of(pg)->destage.asked = true;
    destage_wake(store_of(pg));
}

void destage_up_to(struct pg *pg, uint64_t index)
{
    destage_raise(pg, index);
    store_of(pg)->destage.asked = store_of(pg)->destage.hurry = true;
    destage_wake(store_of(pg));
}

/* Batches below the target tell their PGs how far to destage; not of what is complete: rounds take whole
 * objects, so most of a batch often is by then, and nobody has to look at all PGs for it. */
static void scan_batches(struct store *s)
{
    struct destage *d = &s->destage;
    uint64_t target = destage_target(s);

    while (d->scan && d->scan->durable && d->scan->volume_end < target) {
        list_for_each (&d->scan->entries, item) {
            struct log_entry *e = list_entry(item, struct log_entry, batch_link);
            if (e->in_log && e->applied && e->index > e->pg->complete_index)
                destage_raise(e->pg, e->index);
        }
        struct list *next = d->scan->link.next;
        d->scan = next == &s->batches ? NULL : list_entry(next, struct batch, link);
    }
}

static bool destage_late(const struct store *s)
{
    return destage_target(s) > s->destage.since + destage_keep(s) / DESTAGE_LATE_PART;
}

bool destage_pace(struct store *s)
{
    struct destage *d = &s->destage;

    d->late |= destage_late(s);
    if (d->tick.fired)
        d->paced -= MIN(d->paced, (uint64_t)DESTAGE_TICK_BLOCKS);
    d->tick.fired = false;
    if (d->paced < s->volume || d->hurry || d->late || trim_wanted(s)) {
        timer_cancel(s->core, &d->tick);
        return true;
    }
    if (!timer_armed(&d->tick))
        timer_arm(s->core, &d->tick, &d->op, core_recent_ns(s->core) + DESTAGE_TICK_NS);
    return false;
}

/* ---- the op -------------------------------------------------------------------------------------------- */

/* Before destage rests: objects whose pages could not be read are to be looked at again. */
static void rest(struct store *s)
{
    struct destage *d = &s->destage;

    d->active = false;
    table_wake(s);
    round_period_end(s);
    if (d->unreadable_ns && !timer_armed(&d->retry))
        timer_arm(s->core, &d->retry, &d->op, d->unreadable_ns);
}

static void collect(struct store *s)
{
    struct destage *d = &s->destage;

    d->asked = false;
    if (!d->more)
        d->since = destage_target(s);
    d->late = destage_late(s);
    scan_batches(s);
    round_collect(s);
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

/* Some of its blocks in each turn, and a write when there are enough. False: those were all. */
static bool checkpoint_piece(struct store *s)
{
    struct destage *d = &s->destage;
    uint64_t copy = checkpoint_place(s), place = copy + 1 + d->ckpt_blocks - d->ckpt_filled;
    uint32_t n =
        checkpoint_fill(s, (struct disk_checkpoint_block *)d->work->data + d->ckpt_filled, CKPT_STEP_BLOCKS);

    d->ckpt_filled += n;
    if (place + d->ckpt_filled > copy + s->g.checkpoint_blocks) {
        store_fail(s, -ERR_NO_SPACE, "the checkpoint does not fit");
        return false;
    }
    if (!d->ckpt_filled)
        return false;
    if (n == CKPT_STEP_BLOCKS && d->ckpt_filled + n <= CKPT_WRITE_BLOCKS) {
        op_wake(&d->op);
        return true;
    }
    io_start(s->blk, &d->flush, &d->flush_iov, BLK_WRITE, 0, place, d->work->data, d->ckpt_filled, &d->op);
    d->ckpt_filled = 0;
    return true;
}

void destage_records_wait(struct store *s)
{
    struct destage *d = &s->destage;

    ring_wait(s, &d->wait, &d->op);
    d->waiting = true;
    timer_arm(s->core, &d->retry, &d->op, core_now_ns(s->core) + RECORDS_WAIT_NS);
}

static bool records_durable(struct store *s)
{
    struct destage *d = &s->destage;

    if (!d->wait.done && (!timer_armed(&d->retry) || s->room_wanted))
        ring_hurry(s);
    return d->wait.done;
}

/* Whose log is complete how far is asked of all PGs, and each has a record then: not after each round, where
 * there are many, as long as the next one follows and nobody waits for it. */
static bool push_due(const struct store *s)
{
    const struct destage *d = &s->destage;

    return !d->more || d->held || d->hurry || trim_wanted(s) ||
           d->unpushed >= MIN((uint64_t)s->pg_count * PUSH_BLOCKS_PER_PG, ring_usable(s) / PUSH_RING_PART);
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
    timer_cancel(s->core, &d->tick);
    if (d->waiting)
        ring_reflected(&d->wait);
    d->waiting = false;
    if (s->closing) {
        struct op *waiter = s->close_waiter;
        arena_on_shortage(s->core->arena, NULL);
        op_done(&d->op, 0);
        op_wake(waiter);
    }
    return true;
}

static int trim_next(struct store *s)
{
    struct destage *d = &s->destage;

    if (s->ckpt_due) {
        s->ckpt_due = false;
        checkpoint_begin(s);
        return DESTAGE_CKPT_BLOCKS;
    }
    switch (trim_step(s)) {
    case TRIM_DESTAGE:
        collect(s);
        if (d->object_count)
            return DESTAGE_LOAD;
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

/* The PGs are looked at only when one of them was told something; or, for what the log of any may let go of,
 * when space is low. */
static bool something_to_do(struct store *s)
{
    if (s->ckpt_due || trim_wanted(s) || (large_space_low(s) && destage_wanted(s)))
        return true;
    scan_batches(s);
    if (!s->destage.told)
        return false;
    bool told = false;
    list_for_each (&s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        if (pg->destage_all || MIN(pg->destage_limit, pg->pub.applied_index) > pg->complete_index)
            return true;
        told |= pg->destage_limit > pg->complete_index;
    }
    s->destage.told = told;
    return false;
}

static void destage_step(struct op *op)
{
    struct store *s = container_of(op, struct store, destage.op);
    struct destage *d = &s->destage;

    if (destage_stop(s))
        return;
    /* What the cache keeps may lie scattered over the arena. Whoever was refused asks again. */
    if (arena_was_short(s->core->arena))
        cache_relieve(s);
    for (;;) {
        switch (op->state) {
        case DESTAGE_IDLE:
            rest(s);
            if (!something_to_do(s)) {
                d->hurry = false;
                return;
            }
            op->state = DESTAGE_COLLECT;
            break;
        case DESTAGE_COLLECT:
            d->active = true;
            collect(s);
            op->state = d->object_count ? DESTAGE_LOAD : applied_push(s) ? DESTAGE_APPLIED : DESTAGE_TRIM;
            d->next = d->readback_count = 0;
            break;
        case DESTAGE_LOAD:
            if (!round_load(s))
                return;
            round_leave(s);
            d->next = 0;
            op->state = d->object_count ? DESTAGE_READBACK : DESTAGE_IDLE;
            break;
        case DESTAGE_READBACK:
            if (!round_readback(s))
                return;
            round_sort(s);
            d->next = 0;
            d->paced = s->volume;
            op->state = DESTAGE_DATA;
            break;
        case DESTAGE_DATA:
            if (!round_write_data(s))
                return;
            if (d->io.error) {
                store_fail(s, d->io.error, "a write of chunks failed");
                return;
            }
            d->next = 0;
            op->state = DESTAGE_PAGES;
            break;
        case DESTAGE_FLUSH:
            if (d->flush.pending)
                return;
            if (d->flush.result) {
                store_fail(s, d->flush.result, "a flush failed");
                return;
            }
            d->next = 0;
            op->state = DESTAGE_SLOTS;
            round_push_slots(s);
            break;
        case DESTAGE_PAGES:
            if (!round_write_pages(s))
                return;
            if (d->io.error) {
                store_fail(s, d->io.error, "a write of object pages failed");
                return;
            }
            op->state = DESTAGE_FLUSH;
            if (flush_start(s))
                return;
            break;
        case DESTAGE_SLOTS:
            if (!records_durable(s))
                return;
            round_commit(s);
            op->state = push_due(s) && applied_push(s) ? DESTAGE_APPLIED : DESTAGE_TRIM;
            break;
        case DESTAGE_APPLIED:
            if (!records_durable(s))
                return;
            applied_durable(s);
            table_wake(s); /* a split may be waiting for that */
            d->more |= d->held;
            op->state = DESTAGE_TRIM;
            break;
        case DESTAGE_TRIM: {
            int next = trim_wanted(s) || s->ckpt_due ? trim_next(s)
                       : d->more                     ? DESTAGE_COLLECT
                                                     : DESTAGE_IDLE;
            if (next == DESTAGE_IDLE && d->asked)
                next = DESTAGE_COLLECT;
            op->state = next;
            d->next = 0;
            if (next == DESTAGE_LOAD)
                d->readback_count = 0;
            if (next == DESTAGE_IDLE) {
                rest(s);
                return;
            }
            if (next == DESTAGE_COPY_READ || next == DESTAGE_TRIM)
                return;
            break;
        }
        case DESTAGE_COPY_READ:
            if (d->copy_io.pending || copy_read_next(s) || copy_read_again(s))
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
    d->snap_blocks = calloc((size_t)DESTAGE_OBJECTS_MAX * BLOCKS_PER_OBJECT, sizeof(*d->snap_blocks));
    d->pages = calloc(DESTAGE_OBJECTS_MAX, sizeof(*d->pages));
    return d->work && d->blocks && d->snaps && d->snap_blocks && d->pages ? 0 : -ERR_NO_MEMORY;
}

void destage_fini(struct store *s)
{
    struct destage *d = &s->destage;

    round_abandon(s);
    buf_unref(d->work);
    free(d->blocks);
    free(d->snaps);
    free(d->snap_blocks);
    free(d->pages);
    d->work = NULL;
    d->blocks = NULL;
    d->snaps = NULL;
    d->snap_blocks = NULL;
    d->pages = NULL;
}

void destage_start(struct store *s)
{
    struct destage *d = &s->destage;

    scatter_init(&d->io, s->blk, &d->op, d->ios, DESTAGE_IOS);
    op_start(&d->op, s->core, &DESTAGE, NULL);
    arena_on_shortage(s->core->arena, &d->op);
    d->op.background = true;
}
