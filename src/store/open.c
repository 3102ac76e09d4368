/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a slice, closing it, and failing.
 *
 *   superblocks -> PG table (-> both healed) -> blob -> checkpoint -> ring: headers -> ring: newest batches
 *     and their chunks -> ring: batches -> pages (-> those that are lost) -> flush (-> damage noted in the PG
 *     table -> headers that were cut off) -> done
 *
 * Damage of a log is on record before the first new batch, with which the evidence may go.
 *
 * Nothing that was found is built upon before the flush: what a process that was killed had written may still
 * be in the device's cache.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/opening.h"

enum {
    OPEN_START,
    OPEN_SUPER_A,
    OPEN_SUPER_B,
    OPEN_TABLE_A,
    OPEN_TABLE_B,
    OPEN_HEAL,
    OPEN_BLOB_A,
    OPEN_BLOB_B,
    OPEN_BLOB_DATA,
    OPEN_CKPT_A,
    OPEN_CKPT_B,
    OPEN_CKPT_VERIFY,
    OPEN_CKPT_LOAD,
    OPEN_RING_SCAN,
    OPEN_RING_VERIFY,
    OPEN_RING_CHUNKS,
    OPEN_RING_REPLAY,
    OPEN_RING_BLOCKS,
    OPEN_PAGES,
    OPEN_LOST,
    OPEN_FLUSH,
    OPEN_DAMAGE,
    OPEN_CUT_OFF,
};

static const char *open_state(int state)
{
    static const char *const names[] = {"start",          "superblock A",  "superblock B",
                                        "table A",        "table B",       "healing the table",
                                        "blob A",         "blob B",        "blob data",
                                        "checkpoint A",   "checkpoint B",  "verifying the checkpoint",
                                        "the checkpoint", "ring: headers", "ring: newest batches",
                                        "ring: chunks",   "ring: batches", "ring: a batch by blocks",
                                        "pages",          "lost pages",    "flush",
                                        "noting damage",  "cut off"};
    return names[state];
}

/* ---- problems and failure ------------------------------------------------------------------------------ */

void store_problem(struct store *s, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (s->report)
        s->report(s->report_owner, text);
    else
        core_log(s->core, LOG_ERROR, "store", "slice %u: %s", s->config.slice, text);
}

void store_fail(struct store *s, int error, const char *what)
{
    if (s->failed)
        return;
    s->failed = error;
    core_log(s->core, LOG_ERROR, "store", "slice %u: %s (%s): out of service", s->config.slice, what,
             error_text(error));
    list_for_each (&s->pgs, node)
        op_wake(list_entry(node, struct pg, link)->pub.waiter);
    list_for_each (&s->ring_waits, node)
        op_wake(list_entry(node, struct ring_wait, link)->op);
    table_wake(s);
    destage_wake(s);
}

int store_failed(const struct store *s)
{
    return s->failed;
}

const struct store_counters *store_counters(const struct store *s)
{
    return &s->counters;
}

/* ---- the store object ---------------------------------------------------------------------------------- */

static struct store *store_alloc(const struct store_config *config)
{
    struct store *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->config = *config;
    s->core = s->slab.core = config->core;
    s->blk = config->blk;
    list_init(&s->pgs);
    list_init(&s->clearing);
    map_init(&s->pgs_by_id);
    map_init(&s->pgs_by_key);
    map_init(&s->objects);
    list_init(&s->table_waiters);
    list_init(&s->batches);
    list_init(&s->queue);
    list_init(&s->copies);
    list_init(&s->ring_waits);
    list_init(&s->cached);
    list_init(&s->releases);
    list_init(&s->overlays);
    list_init(&s->pages_used);
    list_init(&s->pages_free);
    s->next_seq = 1;
    s->log_entries_max = LOG_ENTRIES_MAX;
    return s;
}

void store_free(struct store *s)
{
    destage_fini(s);
    while (!list_empty(&s->pgs))
        pg_free(list_entry(s->pgs.next, struct pg, link));
    map_fini(&s->pgs_by_id);
    map_fini(&s->pgs_by_key);
    map_fini(&s->objects);
    for (uint32_t i = 0; i < RING_INFLIGHT_MAX; i++)
        buf_unref(s->slots[i].header);
    buf_unref(s->table_buf);
    free(s->table);
    free(s->blob);
    free(s->records);
    space_fini(s);
    pages_fini(s);
    slab_fini(&s->slab);
    free(s);
}

/* ---- the op -------------------------------------------------------------------------------------------- */

static void open_end(struct store_open *o, int result)
{
    struct store_opening *p = o->opening;

    if (result == 0 && p->s->failed)
        result = p->s->failed;
    if (result) {
        replay_abandon(p->s);
        store_free(p->s);
    } else {
        o->ret_store = p->s;
        if (!p->read_only) {
            ring_start(p->s);
            table_start(p->s);
            destage_start(p->s);
        }
    }
    free(p->heal);
    free(p->blob_data);
    free(p->scan.headers);
    free(p->scan.unread);
    free(p->scan.chain);
    free(p->slots);
    free(p);
    o->opening = NULL;
    op_done(&o->op, result);
}

static int open_begin(struct store_open *o)
{
    struct store_opening *p = o->opening;

    if (!p)
        return -ERR_NO_MEMORY;
    p->s = store_alloc(&o->config);
    if (!p->s)
        return -ERR_NO_MEMORY;
    struct store *s = p->s;
    s->read_only = p->read_only;
    s->report = p->report;
    s->report_owner = p->report_owner;
    int rc = destage_init(s);
    if (rc == 0)
        rc = ring_init(s);
    s->table_buf = buf_new(s->core->arena, TABLE_RUN * BLOCK_SIZE);
    if (rc || !s->table_buf)
        return -ERR_NO_MEMORY;
    p->work = s->destage.work->data;
    return s->blk->size_bytes < SUPERBLOCK_BLOCKS * BLOCK_SIZE ? -ERR_FORMAT : 0;
}

static void open_step(struct op *op)
{
    struct store_open *o = container_of(op, struct store_open, op);
    struct store_opening *p = o->opening;
    struct store *s = p ? p->s : NULL;
    int rc = 0;

    if (op->state != OPEN_START && op->state != OPEN_PAGES && p->io.pending)
        return;
    for (;;) {
        switch (op->state) {
        case OPEN_START:
            rc = open_begin(o);
            if (rc) {
                if (p && p->s) {
                    open_end(o, rc);
                    return;
                }
                free(p);
                op_done(op, rc);
                return;
            }
            s = p->s;
            op->state = OPEN_SUPER_A;
            open_read(o, SUPERBLOCK_A_BLOCK, 1);
            return;
        case OPEN_SUPER_A:
            rc = open_superblock(p, 0);
            if (rc)
                break;
            op->state = OPEN_SUPER_B;
            open_read(o, SUPERBLOCK_B_BLOCK, 1);
            return;
        case OPEN_SUPER_B:
            rc = open_superblock(p, 1);
            if (rc == 0)
                rc = open_prepare(p);
            if (rc)
                break;
            op->state = OPEN_TABLE_A;
            open_table_read(o, 0);
            return;
        case OPEN_TABLE_A:
            if (open_table_came(p, 0)) {
                op->state = OPEN_TABLE_B;
                open_table_read(o, 1);
            } else {
                open_table_read(o, 0);
            }
            return;
        case OPEN_TABLE_B:
            rc = open_table_came(p, 1) ? open_table(p) : 0;
            if (rc)
                break;
            if (p->table_at < s->g.table_blocks) {
                op->state = OPEN_TABLE_A;
                open_table_read(o, 0);
                return;
            }
            p->scan.durable_seq = p->table_proven = s->durable_seq;
            p->io.result = 0;
            op->state = OPEN_HEAL;
            continue;
        case OPEN_HEAL:
            if (p->io.result) {
                rc = -ERR_IO;
                break;
            }
            if (open_heal(o))
                return;
            op->state = OPEN_BLOB_A;
            open_read(o, s->g.blob_block, 1);
            return;
        case OPEN_BLOB_A:
            if (open_blob_header(p, 0)) {
                op->state = OPEN_BLOB_B;
                open_read(o, s->g.blob_block + s->g.blob_blocks, 1);
            } else {
                open_read(o, s->g.blob_block, 1);
            }
            return;
        case OPEN_BLOB_B:
            if (!open_blob_header(p, 1)) {
                open_read(o, s->g.blob_block + s->g.blob_blocks, 1);
                return;
            }
            op->state = OPEN_BLOB_DATA;
            if (open_blob_choose(p)) {
                open_blob_read(o);
                return;
            }
            op->state = OPEN_CKPT_A;
            open_read(o, s->g.checkpoint_block, 1);
            return;
        case OPEN_BLOB_DATA: {
            uint32_t n = MIN(p->blobs[p->blob_copy].len - p->blob_done, WORK_BUF_BYTES);
            if (p->io.result)
                memset(p->work, 0xff, n);
            memcpy((uint8_t *)p->blob_data + p->blob_done, p->work, n);
            p->blob_done += n;
            bool more = p->blob_done < p->blobs[p->blob_copy].len;
            if (!more && !open_blob_take(p))
                more = open_blob_choose(p);
            if (more) {
                open_blob_read(o);
                return;
            }
            op->state = OPEN_CKPT_A;
            open_read(o, s->g.checkpoint_block, 1);
            return;
        }
        case OPEN_CKPT_A:
            open_ckpt_header(p, 0);
            op->state = OPEN_CKPT_B;
            open_read(o, s->g.checkpoint_block + s->g.checkpoint_blocks, 1);
            return;
        case OPEN_CKPT_B:
            open_ckpt_header(p, 1);
            if (!open_ckpt_choose(p)) {
                store_problem(s, "no copy of the checkpoint is valid");
                rc = -ERR_DAMAGED;
                break;
            }
            op->state = OPEN_CKPT_VERIFY;
            p->ckpt_reading = 0;
            p->io.result = 0;
            continue;
        case OPEN_CKPT_VERIFY:
            if (!open_ckpt_verify(p, false)) {
                p->ckpt_ok[p->ckpt_copy] = false;
                s->ckpt_number[p->ckpt_copy] = s->ckpt_replay[p->ckpt_copy] = 0;
                op->state = OPEN_CKPT_B;
                if (!open_ckpt_choose(p)) {
                    store_problem(s, "no copy of the checkpoint is valid");
                    rc = -ERR_DAMAGED;
                    break;
                }
                op->state = OPEN_CKPT_VERIFY;
                p->ckpt_reading = 0;
                p->io.result = 0;
            }
            if (open_ckpt_read(o))
                return;
            /* It is alone until there is another one, and the tail may not move for long. */
            s->ckpt_due = !p->ckpt_ok[0] || !p->ckpt_ok[1];
            op->state = OPEN_CKPT_LOAD;
            p->ckpt_done = p->ckpt_reading = 0;
            continue;
        case OPEN_CKPT_LOAD:
            if (!open_ckpt_verify(p, true)) {
                rc = -ERR_DAMAGED;
                break;
            }
            if (open_ckpt_read(o))
                return;
            op->state = OPEN_RING_SCAN;
            p->at = 0;
            if (open_scan_read(o))
                return;
            continue;
        case OPEN_RING_SCAN:
            rc = open_scan_take(p);
            if (rc < 0)
                break;
            if (rc > 0) {
                open_read(o, s->g.ring_block + p->at, p->reading);
                return;
            }
            if (open_scan_read(o))
                return;
            rc = scan_chain(&p->scan, UINT64_MAX);
            if (rc)
                break;
            p->at = 0;
            op->state = OPEN_RING_VERIFY;
            if (open_verify_read(o))
                return;
            op->state = OPEN_RING_REPLAY;
            p->at = p->reading = 0;
            continue;
        case OPEN_RING_VERIFY:
        case OPEN_RING_CHUNKS:
            rc = op->state == OPEN_RING_VERIFY ? open_verify_take(p) : open_chunk_take(p);
            if (rc < 0)
                break;
            op->state = OPEN_RING_CHUNKS;
            if (rc == 0 && open_chunk_read(o))
                return;
            op->state = OPEN_RING_VERIFY;
            if (open_verify_read(o))
                return;
            op->state = OPEN_RING_REPLAY;
            p->at = p->reading = 0;
            continue;
        case OPEN_RING_REPLAY:
            if (p->reading && p->io.result) {
                op->state = OPEN_RING_BLOCKS;
                p->block = 0;
                open_replay_block(o);
                return;
            }
            if (p->reading)
                open_replay_take(p);
            if (open_replay_read(o))
                return;
            open_ring_settle(p);
            rc = s->failed ? s->failed : open_slots(p);
            if (rc)
                break;
            scatter_init(&p->pages, s->blk, op, p->page_ios, SCATTER_IOS);
            op->state = OPEN_PAGES;
            continue;
        case OPEN_RING_BLOCKS:
            if (open_replay_block(o))
                return;
            p->io.result = 0;
            op->state = OPEN_RING_REPLAY;
            continue;
        case OPEN_PAGES:
            rc = open_pages(p);
            if (rc > 0)
                return;
            if (rc)
                break;
            if (p->turn == CLAIM_DAMAGED)
                large_claim(s, CLAIM_KIN);
            if (p->turn != CLAIM_KIN)
                large_claim(s, p->turn);
            if (p->turn != CLAIM_DAMAGED) {
                p->turn++;
                rc = open_slots(p);
                if (rc)
                    break;
                continue;
            }
            p->io.result = 0;
            p->slot_next = 0;
            op->state = OPEN_LOST;
            continue;
        case OPEN_LOST:
            if (p->io.result) {
                rc = -ERR_IO;
                break;
            }
            if (open_lost_write(o))
                return;
            op->state = OPEN_FLUSH;
            if (p->read_only || !s->blk->volatile_cache)
                continue;
            /* The table is to tell of what was found only when that cannot go any more. */
            io_start(s->blk, &p->io, &p->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
            return;
        case OPEN_FLUSH:
            if (p->io.result) {
                rc = -ERR_IO;
                break;
            }
            open_damage(p);
            op->state = OPEN_DAMAGE;
            continue;
        case OPEN_DAMAGE:
            if (p->io.result) {
                rc = -ERR_IO;
                break;
            }
            if (open_heal(o))
                return;
            p->at = 0;
            op->state = OPEN_CUT_OFF;
            continue;
        case OPEN_CUT_OFF:
            if (p->io.result) {
                rc = -ERR_IO;
                break;
            }
            if (open_void_batch(o))
                return;
            open_end(o, 0);
            return;
        }
        open_end(o, rc);
        return;
    }
}

static const struct op_kind OPEN = {"store.open", open_state, open_step};

void store_open_read_only(struct store_open *o, const struct store_config *config, struct op *parent,
                          void (*report)(void *owner, const char *text), void *owner)
{
    o->config = *config;
    o->ret_store = NULL;
    o->opening = calloc(1, sizeof(*o->opening));
    if (o->opening) {
        o->opening->config = *config;
        o->opening->read_only = report != NULL;
        o->opening->report = report;
        o->opening->report_owner = owner;
    }
    op_start(&o->op, config->core, &OPEN, parent);
}

void store_open_start(struct store_open *o, const struct store_config *config, struct op *parent)
{
    store_open_read_only(o, config, parent, NULL, NULL);
}

/* ---- closing ------------------------------------------------------------------------------------------- */

static void close_step(struct op *op)
{
    struct store_close *c = container_of(op, struct store_close, op);
    struct store *s = c->store;

    s->closing = true;
    s->close_waiter = op;
    struct op *own[] = {&s->ring_op, &s->table_op, &s->destage.op};
    bool live = false;
    for (uint32_t i = 0; i < ARRAY_LEN(own); i++)
        if (op_live(own[i])) {
            live = true;
            if (op->state == 0)
                op_wake(own[i]);
        }
    op->state = 1;
    if (live)
        return;
    store_free(s);
    op_done(op, 0);
}

static const struct op_kind CLOSE = {"store.close", NULL, close_step};

void store_close_start(struct store_close *c, struct store *store, struct op *parent)
{
    c->store = store;
    op_start(&c->op, store->core, &CLOSE, parent);
}
