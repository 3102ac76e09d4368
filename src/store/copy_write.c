/* SPDX-License-Identifier: Apache-2.0
 *
 * A window of a copy: for each block that the source has written, its content comes with the call, or is
 * here already.
 *
 *   BEGIN -> (READ) -> WRITE -> done
 *
 * Of what is here, in memory or read, the hash of the contents is compared with the source's: equal checksums
 * prove nothing. What differs, or does not verify, is then known to be different, and the window has to be
 * asked for again. What is looked for is content, so entries of the log will do that may never be committed.
 *
 * Chunk by chunk: one whose blocks are all in the old object's chunk, as that object's page has them, stays.
 * Nothing is written for it, and blocks that the source has not written are left out by the page. Any other
 * is gathered anew: the blocks that came, and those that are the same.
 */
#include <string.h>

#include "store/copy.h"

struct copy_writing {
    struct scatter io;
    struct scatter_io ios[SCATTER_IOS];
    struct buf *local; /* what is here already, one block after the other */
    uint32_t local_count;
    uint16_t at[IO_BLOCKS_MAX];         /* of each block that is written: its place in `data` or in `local` */
    uint64_t moved[IO_BLOCKS_MAX / 64]; /* comes from `local` ... */
    uint64_t to_read[IO_BLOCKS_MAX / 64]; /* ... to which it must be read, from: */
    uint64_t place[IO_BLOCKS_MAX];
    uint64_t fresh[IO_BLOCKS_MAX / 64]; /* is written */
    uint32_t next;                      /* block of the window */
};

enum { COPY_BEGIN, COPY_READ, COPY_WRITE };

static const char *copy_write_state(int state)
{
    static const char *const names[] = {"begin", "read", "write"};
    return names[state];
}

static bool has(const uint64_t *bits, uint32_t i)
{
    return bits && bit_get(bits, i);
}

/* ---- begin: what becomes of each chunk ----------------------------------------------------------------- */

/* All that is written of the chunk is in the object's, and nothing newer is on its way there. */
static bool chunk_stays(const struct store_copy_write *w, const struct object *o, uint32_t from, uint32_t to)
{
    const struct store_copy *c = w->copy;

    if (!o || !object_chunk(o, (w->first_block + from) / BLOCKS_PER_CHUNK) ||
        (c->stays && o->version != c->stays_version))
        return false;
    for (uint32_t i = from; i < to; i++) {
        if (!bit_get(w->written, i) || has(w->damaged, i))
            continue;
        struct where here = copy_block_here(c, o, w->first_block + i);
        if (!has(w->same, i) || !here.written || here.crc != w->crc[i] || here.source != WHERE_CHUNK ||
            here.entry)
            return false;
    }
    return true;
}

static void block_differs(struct store_copy_write *w, uint32_t i)
{
    struct copy_writing *state = w->private_state;

    bit_set(w->copy->bad, w->first_block + i);
    state->io.error = -ERR_CONFLICT;
}

static void block_verify(struct store_copy_write *w, uint32_t i)
{
    struct copy_writing *state = w->private_state;
    const uint8_t *data = state->local->data + (size_t)state->at[i] * BLOCK_SIZE;
    struct content_hash hash;

    content_hash(w->copy->hasher, data, BLOCK_SIZE, &hash);
    if (content_hash_equal(&hash, &w->hash[i]) || PLANT(STORE_COPY_TRUSTS))
        return;
    w->copy->store->counters.checksum_errors += crc32c(0, data, BLOCK_SIZE) != w->crc[i];
    block_differs(w, i);
}

/* A block that is here comes to `local`, if it is not in the log any more by way of the device. */
static void block_fetch(struct store_copy_write *w, const struct object *o, uint32_t i)
{
    struct copy_writing *state = w->private_state;
    struct where here = copy_block_here(w->copy, o, w->first_block + i);

    state->at[i] = (uint16_t)state->local_count++;
    bit_set(state->moved, i);
    if (!here.written || here.crc != w->crc[i]) {
        block_differs(w, i);
    } else if (here.source == WHERE_MEMORY) {
        memcpy(state->local->data + (size_t)state->at[i] * BLOCK_SIZE,
               slice_data(&here.entry->payload) + (w->first_block + i - here.entry->first_block) * BLOCK_SIZE,
               BLOCK_SIZE);
        w->op.core->counters.copied_bytes += BLOCK_SIZE;
        block_verify(w, i);
    } else {
        state->place[i] = here.place;
        bit_set(state->to_read, i);
    }
}

/* Blocks [from, to) of the window, of one chunk. */
static int chunk_begin(struct store_copy_write *w, const struct object *o, uint32_t from, uint32_t to)
{
    struct copy_writing *state = w->private_state;
    struct store_copy *c = w->copy;
    struct store *s = c->store;
    uint32_t chunk = (w->first_block + from) / BLOCKS_PER_CHUNK;
    bool any = false, stays = chunk_stays(w, o, from, to);

    for (uint32_t i = from; i < to; i++)
        any |= bit_get(w->written, i) && !has(w->damaged, i);
    if (!any)
        return 0;
    if (!stays && !space_spare(s))
        return -ERR_NO_SPACE;
    if (stays) {
        c->stays |= 1u << chunk;
        c->stays_version = o->version;
    }
    c->page.chunk[chunk] = stays ? object_chunk(o, chunk) : chunk_alloc(s);
    if (!c->page.chunk[chunk])
        return -ERR_NO_SPACE;
    for (uint32_t i = from; i < to; i++) {
        uint32_t block = w->first_block + i;
        struct where old = copy_block_here(c, o, block);
        if (PLANT(STORE_COPY_UNWRITTEN) && stays && old.written && !bit_get(w->written, i)) {
            c->page.crc[block] = old.crc;
            bit_set(c->page.written, block);
        }
        if (!bit_get(w->written, i) || has(w->damaged, i))
            continue;
        c->page.crc[block] = w->crc[i];
        bit_set(c->page.written, block);
        s->counters.copy_shared += stays;
        if (!stays)
            bit_set(state->fresh, i);
        if (has(w->same, i))
            block_fetch(w, o, i);
    }
    return 0;
}

/* What was thought of it before is void. */
static void chunk_reset(struct store_copy *c, uint32_t chunk)
{
    ASSERT(chunk < CHUNKS_PER_OBJECT);
    if (c->page.chunk[chunk] && !(c->stays >> chunk & 1))
        chunk_free(c->store, c->page.chunk[chunk]);
    c->page.chunk[chunk] = 0;
    c->stays &= ~(1u << chunk);
}

/* What came is what it says, and there is room for what did not. */
static int window_validate(struct store_copy_write *w)
{
    struct copy_writing *state = w->private_state;
    uint32_t sent = 0, same = 0;

    for (uint32_t i = 0; i < w->block_count; i++) {
        if (!bit_get(w->written, i))
            continue;
        if (has(w->same, i)) {
            if (has(w->damaged, i) || !w->hash)
                return -ERR_INVALID;
            same++;
            continue;
        }
        if ((sent + 1) * BLOCK_SIZE > w->data.len)
            return -ERR_INVALID;
        if (!has(w->damaged, i) &&
            crc32c(0, slice_data(&w->data) + (size_t)sent * BLOCK_SIZE, BLOCK_SIZE) != w->crc[i])
            return -ERR_CHECKSUM;
        state->at[i] = (uint16_t)sent++;
    }
    if (same)
        state->local = buf_new(w->op.core->arena, same * BLOCK_SIZE);
    return same && !state->local ? -ERR_NO_MEMORY : 0;
}

static int window_begin(struct store_copy_write *w)
{
    struct store_copy *c = w->copy;
    struct pg *pg;
    const struct object *o = copy_object(c, &pg);
    int rc = pg ? window_validate(w) : -ERR_NO_PG;

    for (uint32_t i = 0; rc == 0 && i < w->block_count; i += BLOCKS_PER_CHUNK) {
        uint32_t to = MIN(i + BLOCKS_PER_CHUNK, w->block_count);
        chunk_reset(c, (w->first_block + i) / BLOCKS_PER_CHUNK);
        for (uint32_t b = i; b < to; b++) {
            bit_clear(c->page.written, w->first_block + b);
            bit_clear(c->page.lost, w->first_block + b);
            if (!bit_get(w->written, b) || !has(w->damaged, b))
                continue;
            bit_set(c->page.lost, w->first_block + b);
            c->page.lost_index = MAX(c->page.lost_index, w->lost_index);
        }
        rc = chunk_begin(w, o, i, to);
    }
    return rc;
}

/* ---- moving data --------------------------------------------------------------------------------------- */

/* True: all is read. */
static bool window_read(struct store_copy_write *w)
{
    struct copy_writing *state = w->private_state;

    while (state->next < w->block_count) {
        uint32_t i = state->next, n = 1;
        if (!bit_get(state->to_read, i)) {
            state->next++;
            continue;
        }
        int slot = scatter_slot(&state->io);
        if (slot < 0)
            return false;
        while (i + n < w->block_count && bit_get(state->to_read, i + n) &&
               state->place[i + n] == state->place[i] + n && state->at[i + n] == state->at[i] + n)
            n++;
        state->io.at[slot].iov[0] =
            (struct iovec){.iov_base = state->local->data + (size_t)state->at[i] * BLOCK_SIZE,
                           .iov_len = (size_t)n * BLOCK_SIZE};
        w->copy->store->counters.device_reads++;
        scatter_submit(&state->io, slot, BLK_READ, 0, state->place[i], 1, (uint64_t)i << 32 | n);
        state->next += n;
    }
    return !state->io.pending;
}

static void read_verify(struct store_copy_write *w, int slot)
{
    const struct copy_writing *state = w->private_state;
    uint32_t first = (uint32_t)(state->io.at[slot].tag >> 32), count = (uint32_t)state->io.at[slot].tag;

    for (uint32_t i = first; i < first + count; i++) {
        if (state->io.at[slot].io.result)
            block_differs(w, i);
        else
            block_verify(w, i);
    }
}

static struct iovec block_iov(const struct store_copy_write *w, uint32_t i)
{
    const struct copy_writing *state = w->private_state;
    uint8_t *from = bit_get(state->moved, i) ? state->local->data : slice_data(&w->data);

    return (struct iovec){.iov_base = from + (size_t)state->at[i] * BLOCK_SIZE, .iov_len = BLOCK_SIZE};
}

/* True: all is written. */
static bool window_write(struct store_copy_write *w)
{
    struct copy_writing *state = w->private_state;
    struct store_copy *c = w->copy;

    while (state->next < w->block_count && !state->io.error) {
        if (!bit_get(state->fresh, state->next)) {
            state->next++;
            continue;
        }
        int slot = scatter_slot(&state->io);
        if (slot < 0)
            return false;
        uint32_t pieces = 0, n = 0, first = w->first_block + state->next;
        uint64_t place = chunk_place(c->store, c->page.chunk[first / BLOCKS_PER_CHUNK], first);
        for (; state->next < w->block_count && bit_get(state->fresh, state->next); n++, state->next++) {
            struct iovec iov = block_iov(w, state->next),
                         *last = pieces ? &state->io.at[slot].iov[pieces - 1] : NULL;
            if (chunk_place(c->store, c->page.chunk[(first + n) / BLOCKS_PER_CHUNK], first + n) != place + n)
                break;
            if (last && (uint8_t *)last->iov_base + last->iov_len == iov.iov_base)
                last->iov_len += BLOCK_SIZE;
            else if (pieces == SCATTER_IOVS)
                break;
            else
                state->io.at[slot].iov[pieces++] = iov;
            c->store->counters.copy_written++;
            c->store->counters.copy_moved += bit_get(state->moved, state->next);
        }
        scatter_submit(&state->io, slot, BLK_WRITE, BLK_BACKGROUND, place, pieces, 0);
    }
    return !state->io.pending;
}

static void copy_write_end(struct store_copy_write *w, int result)
{
    struct copy_writing *state = w->private_state;

    if (state) {
        buf_unref(state->local);
        slab_put(&w->copy->store->slab, state, sizeof(*state));
    }
    w->private_state = NULL;
    w->copy->writes--;
    op_done(&w->op, result);
}

static void copy_write_step(struct op *op)
{
    struct store_copy_write *w = container_of(op, struct store_copy_write, op);
    struct store *s = w->copy->store;
    struct copy_writing *state = w->private_state;
    int slot, rc;

    switch (op->state) {
    case COPY_BEGIN:
        state = s->failed ? NULL : slab_get(&s->slab, sizeof(*state));
        if (!state) {
            copy_write_end(w, s->failed ? -ERR_STOPPED : -ERR_NO_MEMORY);
            return;
        }
        w->private_state = state;
        scatter_init(&state->io, s->blk, op, state->ios, SCATTER_IOS);
        rc = window_begin(w);
        if (rc) {
            copy_write_end(w, rc);
            return;
        }
        op->state = COPY_READ;
        __attribute__((fallthrough));
    case COPY_READ:
        while ((slot = scatter_reap(&state->io)) >= 0)
            read_verify(w, slot);
        if (!window_read(w))
            return;
        if (state->io.error || s->failed) {
            copy_write_end(w, s->failed ? -ERR_STOPPED : state->io.error);
            return;
        }
        state->next = 0;
        op->state = COPY_WRITE;
        __attribute__((fallthrough));
    case COPY_WRITE:
        while ((slot = scatter_reap(&state->io)) >= 0)
            if (state->io.at[slot].io.result)
                state->io.error = state->io.at[slot].io.result;
        if (!window_write(w))
            return;
        if (state->io.error)
            store_fail(s, state->io.error, "a write of chunks failed");
        copy_write_end(w, s->failed ? -ERR_STOPPED : 0);
        return;
    }
}

static const struct op_kind COPY_WRITE_KIND = {"store.copy_write", copy_write_state, copy_write_step};

void store_copy_write_start(struct store_copy_write *w, struct store_copy *copy, uint32_t first_block,
                            uint32_t block_count, const uint64_t *written, const uint64_t *damaged,
                            uint64_t lost_index, const uint64_t *same, const struct content_hash *hash,
                            const uint32_t *crc, const struct slice *data, struct op *parent)
{
    ASSERT(block_count && block_count <= IO_BLOCKS_MAX && first_block < BLOCKS_PER_OBJECT &&
           block_count <= BLOCKS_PER_OBJECT - first_block && first_block % BLOCKS_PER_CHUNK == 0);
    w->copy = copy;
    w->first_block = first_block;
    w->block_count = block_count;
    w->written = written;
    w->damaged = damaged;
    w->lost_index = lost_index;
    w->same = same;
    w->hash = hash;
    w->crc = crc;
    w->data = data ? *data : (struct slice){0};
    w->private_state = NULL;
    copy->writes++;
    op_start(&w->op, copy->store->core, &COPY_WRITE_KIND, parent);
}
