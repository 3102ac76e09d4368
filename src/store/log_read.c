/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading entries back from the ring, and from chunks that they brought, for a follower that lags. An entry
 * that is trimmed or replaced while its payload is being read is found out by looking it up again, and ends
 * the answer there.
 */
#include <string.h>

#include "store/internal.h"

enum { LOG_READ_NEXT, LOG_READ_PAYLOAD };

static const char *log_read_state(int state)
{
    static const char *const names[] = {"next entry", "payload"};
    return names[state];
}

struct log_reading {
    struct buf *buf;
    uint32_t bytes, crcs;
    uint32_t done; /* blocks of the entry that were asked for */
    bool again;    /* for the second time */
    uint64_t position, term;
};

static void log_read_end(struct store_log_read *r, int result)
{
    struct log_reading *state = r->private_state;

    if (state) {
        buf_unref(state->buf);
        slab_put(&r->store->slab, state, sizeof(*state));
    }
    r->private_state = NULL;
    /* What there is is an answer. */
    op_done(&r->op, r->ret_count ? 0 : result);
}

static void log_read_take(struct store_log_read *r, const struct log_entry *e, struct slice payload)
{
    struct log_reading *state = r->private_state;
    uint32_t n = r->ret_count++;

    entry_export(e, &r->ret_entries[n]);
    memcpy(r->ret_crc + state->crcs, e->crc, 4ull * entry_words(e));
    r->ret_entries[n].crc = r->ret_crc + state->crcs;
    r->ret_payloads[n] = payload;
    state->crcs += entry_words(e);
    state->bytes += payload.len;
}

/* Asks for the next piece. */
static void log_read_piece(struct store_log_read *r, const struct log_entry *e)
{
    struct log_reading *state = r->private_state;
    struct store *s = r->store;
    uint32_t n = entry_run(s, e, state->done, e->block_count - state->done);

    s->counters.device_reads++;
    io_start(s->blk, &r->io, &r->iov, BLK_READ, 0, entry_place(s, e, state->done),
             state->buf->data + block_offset(state->done), n, &r->op);
    state->done += n;
}

/* The medium has lost it. What is complete here without it is wanted by followers alone: they get the objects
 * instead, as if the log had been trimmed. What is applied will be complete soon. An entry that is neither
 * makes the log one that cannot be proven whole. */
static void log_read_lost(struct store *s, struct log_entry *e)
{
    struct pg *pg = e->pg;

    if (!e->lost)
        store_problem(s, "PG %llx: log: entry %llu cannot be read back",
                      (unsigned long long)pg->pub.record.pg, (unsigned long long)e->index);
    e->lost = true;
    if (e->index > pg->complete_durable && e->applied) {
        destage_up_to(pg, e->index);
        return;
    }
    if (e->index > pg->complete_durable)
        pg->pub.damaged = true;
    else
        log_trim(pg, e->index + 1);
    op_wake(pg->pub.waiter);
}

/* A piece of the payload is here: is it still the entry's? 1: another is under way. */
static int log_read_verify(struct store_log_read *r, struct log_entry *e)
{
    struct log_reading *state = r->private_state;

    if (!e)
        return -ERR_COMPACTED;
    /* Copied forward, or replaced: read anew. */
    if (e->position != state->position || e->term != state->term || e->type != ENTRY_WRITE) {
        buf_unref(state->buf);
        state->buf = NULL;
        return 0;
    }
    if (!r->io.result && state->done < e->block_count) {
        log_read_piece(r, e);
        return 1;
    }
    for (uint32_t b = 0; b < e->block_count; b++)
        if (r->io.result || crc32c(0, state->buf->data + b * BLOCK_SIZE, BLOCK_SIZE) != e->crc[b]) {
            r->store->counters.checksum_errors++;
            if (state->again) {
                log_read_lost(r->store, e);
                return -ERR_CHECKSUM;
            }
            state->again = true;
            state->done = 0;
            log_read_piece(r, e);
            return 1;
        }
    struct slice payload = {.buf = state->buf, .len = e->block_count * BLOCK_SIZE};
    state->buf = NULL;
    log_read_take(r, e, payload);
    return 0;
}

static void log_read_step(struct op *op)
{
    struct store_log_read *r = container_of(op, struct store_log_read, op);
    struct store *s = r->store;

    if (op->state == LOG_READ_PAYLOAD && r->io.pending)
        return;
    if (s->failed) {
        log_read_end(r, -ERR_STOPPED);
        return;
    }
    if (!r->private_state && !(r->private_state = slab_get(&s->slab, sizeof(struct log_reading)))) {
        log_read_end(r, -ERR_RETRY);
        return;
    }
    struct log_reading *state = r->private_state;
    for (;;) {
        struct store_pg *pub = store_pg_find(s, r->pg);
        uint64_t index = r->first + r->ret_count;
        struct log_entry *e = pub ? log_at(pg_of(pub), index) : NULL;
        if (op->state == LOG_READ_PAYLOAD) {
            int rc = log_read_verify(r, e);
            if (rc > 0)
                return;
            if (rc) {
                log_read_end(r, rc);
                return;
            }
            op->state = LOG_READ_NEXT;
            continue;
        }
        if (!e) {
            log_read_end(r, !pub ? -ERR_NO_PG : index > pub->last_index ? -ERR_NOT_FOUND : -ERR_COMPACTED);
            return;
        }
        uint32_t blocks = entry_blocks(e);
        if (index > r->last || r->ret_count == STORE_LOG_READ_MAX ||
            state->crcs + entry_words(e) > ARRAY_LEN(r->ret_crc) ||
            (r->ret_count && state->bytes + blocks * BLOCK_SIZE > r->bytes_max)) {
            log_read_end(r, 0);
            return;
        }
        if (blocks == 0 || (e->payload.buf && !e->lost)) {
            log_read_take(r, e, slice_sub(&e->payload, 0, blocks * BLOCK_SIZE));
            continue;
        }
        if (e->lost) {
            log_read_lost(s, e);
            log_read_end(r, -ERR_CHECKSUM);
            return;
        }
        if (!e->batch) {
            log_read_end(r, -ERR_RETRY);
            return;
        }
        state->buf = buf_new(s->core->arena, blocks * BLOCK_SIZE);
        if (!state->buf) {
            log_read_end(r, -ERR_RETRY);
            return;
        }
        state->position = e->position;
        state->term = e->term;
        state->done = 0;
        state->again = false;
        op->state = LOG_READ_PAYLOAD;
        log_read_piece(r, e);
        return;
    }
}

static const struct op_kind LOG_READ = {"store.log_read", log_read_state, log_read_step};

void store_log_read_start(struct store_log_read *r, struct store_pg *pg, uint64_t first, uint64_t last,
                          uint32_t bytes_max, struct op *parent)
{
    r->store = pg->store;
    r->pg = pg->record.pg;
    r->first = first;
    r->last = last;
    r->bytes_max = bytes_max;
    r->ret_count = 0;
    r->private_state = NULL;
    op_start(&r->op, pg->store->core, &LOG_READ, parent);
}
