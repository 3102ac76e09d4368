/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading blocks of an object.
 *
 * Each block is where object_where() says at the moment: nowhere (zeros), in memory, in the ring, in a chunk.
 * Runs of blocks that lie together on the device are read with one request, right into the answer. When a
 * request is back, each of its blocks is looked up again: if it has moved or changed meanwhile, destaged in
 * place say, it is fetched once more from where it is now. A block counts as damaged when its checksum fails
 * twice at one place.
 */
#include <string.h>

#include "store/internal.h"

#define ROUNDS_MAX 64 /* a block that moves that often while it is read */

struct read_state {
    struct scatter io;
    uint64_t todo[IO_BLOCKS_MAX / 64];
    uint64_t failed_once[IO_BLOCKS_MAX / 64];
    struct {
        uint64_t place;
        uint32_t crc;
    } at[IO_BLOCKS_MAX];
    uint32_t next, rounds;
    struct buf *buf;
};

enum { READ_START, READ_DEVICE };

static const char *read_state_name(int state)
{
    static const char *const names[] = {"start", "device"};
    return names[state];
}

static struct object *read_object(const struct store_read *r, struct pg **ret_pg)
{
    struct store_pg *pub = store_pg_find(r->store, r->pg);

    *ret_pg = pub ? pg_of(pub) : NULL;
    return pub ? object_find(pg_of(pub), r->image, r->object) : NULL;
}

static void read_end(struct store_read *r, int result)
{
    struct read_state *state = r->private_state;

    if (state) {
        buf_unref(state->buf);
        slab_put(&r->store->slab, state, sizeof(*state));
    }
    r->private_state = NULL;
    op_done(&r->op, result);
}

/* All of it is zeros, or lies in one piece in memory: no copy. */
static bool read_whole(struct store_read *r, const struct object *o)
{
    const struct log_entry *entry = NULL;
    bool zeros = true, one = true;

    for (uint32_t i = 0; i < r->block_count; i++) {
        struct where w =
            o ? object_where(o, r->first_block + i, r->proposed) : (struct where){.source = WHERE_ZERO};
        zeros &= w.source == WHERE_ZERO;
        one &= w.source == WHERE_MEMORY && (!entry || w.entry == entry);
        if (w.source == WHERE_MEMORY)
            entry = w.entry;
        r->ret_crc[i] = w.written ? w.crc : CRC32C_ZERO_BLOCK;
        if (w.written)
            bit_set(r->ret_written, i);
    }
    if (zeros)
        return true;
    if (!one)
        return false;
    r->ret_data = slice_sub(&entry->payload, (r->first_block - entry->first_block) * BLOCK_SIZE,
                            r->block_count * BLOCK_SIZE);
    r->store->counters.cache_hits++;
    return true;
}

/* Has the asker this very block? Its checksum says so; what is lost here has none. */
static bool is_same(const struct store_read *r, uint32_t i, const struct where *w)
{
    return r->have && bit_get(r->have, i) && w->written && w->source != WHERE_LOST &&
           (r->have_crc[i] == w->crc || PLANT(STORE_COPY_SAME));
}

/* Nothing has to be read, because the asker has it. */
static bool read_nothing(struct store_read *r, const struct object *o)
{
    for (uint32_t i = 0; i < r->block_count; i++) {
        struct where w = o ? object_where(o, r->first_block + i, false) : (struct where){0};
        if (!w.written)
            continue;
        if (!is_same(r, i, &w))
            return false;
        r->ret_crc[i] = w.crc;
        bit_set(r->ret_written, i);
        bit_set(r->ret_same, i);
    }
    return true;
}

/* Everything that needs no device; the rest stays in `todo`. */
static void read_memory(struct store_read *r, const struct object *o)
{
    struct read_state *state = r->private_state;

    for (uint32_t i = 0; i < r->block_count; i++) {
        if (!bit_get(state->todo, i))
            continue;
        uint8_t *to = state->buf->data + i * BLOCK_SIZE;
        struct where w =
            o ? object_where(o, r->first_block + i, r->proposed) : (struct where){.source = WHERE_ZERO};
        r->ret_crc[i] = w.written ? w.crc : CRC32C_ZERO_BLOCK;
        if (w.written)
            bit_set(r->ret_written, i);
        else
            bit_clear(r->ret_written, i);
        if (r->have && (!w.written || is_same(r, i, &w))) {
            if (w.written)
                bit_set(r->ret_same, i);
            bit_clear(state->todo, i);
            continue;
        }
        if (w.source == WHERE_RING || w.source == WHERE_CHUNK) {
            state->at[i].place = w.place;
            state->at[i].crc = w.crc;
            continue;
        }
        bit_clear(state->todo, i);
        if (w.source == WHERE_MEMORY) {
            memcpy(to,
                   slice_data(&w.entry->payload) + (r->first_block + i - w.entry->first_block) * BLOCK_SIZE,
                   BLOCK_SIZE);
            r->op.core->counters.copied_bytes += BLOCK_SIZE;
        } else {
            memset(to, 0, BLOCK_SIZE);
        }
        if (w.source == WHERE_LOST)
            bit_set(r->ret_damaged, i);
    }
}

static void read_verify(struct store_read *r, const struct object *o, int slot)
{
    struct read_state *state = r->private_state;
    uint32_t first = (uint32_t)(state->io.tag[slot] >> 32), count = (uint32_t)state->io.tag[slot];

    uint64_t now_ns = core_now_ns(r->op.core);

    r->store->reads_pending--;
    r->store->reads_ns = now_ns;
    histogram_record(&r->store->counters.device_read, now_ns - state->io.io[slot].submitted_ns);
    for (uint32_t i = first; i < first + count; i++) {
        struct where w =
            o ? object_where(o, r->first_block + i, r->proposed) : (struct where){.source = WHERE_ZERO};
        if ((w.source != WHERE_RING && w.source != WHERE_CHUNK) || w.place != state->at[i].place ||
            w.crc != state->at[i].crc) {
            bit_clear(state->failed_once, i);
            continue;
        }
        if (!state->io.io[slot].result &&
            (PLANT(STORE_NO_CHECKSUM) || crc32c(0, state->buf->data + i * BLOCK_SIZE, BLOCK_SIZE) == w.crc)) {
            bit_clear(state->todo, i);
            continue;
        }
        if (!bit_get(state->failed_once, i)) {
            bit_set(state->failed_once, i);
            continue;
        }
        r->store->counters.checksum_errors++;
        bit_set(r->ret_damaged, i);
        bit_clear(state->todo, i);
    }
}

/* True: requests are under way. */
static bool read_device(struct store_read *r)
{
    struct read_state *state = r->private_state;

    while (state->next < r->block_count) {
        uint32_t i = state->next;
        if (!bit_get(state->todo, i)) {
            state->next++;
            continue;
        }
        int slot = scatter_slot(&state->io);
        if (slot < 0)
            return true;
        uint32_t n = 1;
        while (i + n < r->block_count && bit_get(state->todo, i + n) &&
               state->at[i + n].place == state->at[i].place + n)
            n++;
        state->io.iov[slot][0] =
            (struct iovec){.iov_base = state->buf->data + i * BLOCK_SIZE, .iov_len = (size_t)n * BLOCK_SIZE};
        r->store->counters.device_reads++;
        if (r->store->reads_pending++ == 0)
            r->store->reads_ns = core_now_ns(r->op.core);
        scatter_submit(&state->io, slot, BLK_READ, 0, state->at[i].place, 1, (uint64_t)i << 32 | n);
        state->next += n;
    }
    return state->io.pending != 0;
}

static bool bits_any(const uint64_t *bits)
{
    for (uint32_t i = 0; i < IO_BLOCKS_MAX / 64; i++)
        if (bits[i])
            return true;
    return false;
}

static void read_finish(struct store_read *r)
{
    struct read_state *state = r->private_state;
    bool damaged = bits_any(r->ret_damaged);

    r->ret_data = (struct slice){.buf = state->buf, .len = r->block_count * BLOCK_SIZE};
    state->buf = NULL;
    read_end(r, damaged ? -ERR_DAMAGED : 0);
}

static int read_begin(struct store_read *r)
{
    struct store *s = r->store;
    struct pg *pg;
    struct object *o = read_object(r, &pg);

    if (s->failed)
        return -ERR_STOPPED;
    if (!pg)
        return -ERR_NO_PG;
    if (o)
        r->ret_index = r->proposed && !list_empty(&o->unapplied)
                           ? list_entry(o->unapplied.prev, struct log_entry, obj_link)->index
                       : o->exists ? o->index
                                   : 0;
    if (r->have ? read_nothing(r, o) : read_whole(r, o))
        return 0;
    memset(r->ret_same, 0, sizeof(r->ret_same));
    struct read_state *state = slab_get(&s->slab, sizeof(*state));
    if (!state)
        return -ERR_RETRY;
    r->private_state = state;
    state->buf = buf_new(s->core->arena, r->block_count * BLOCK_SIZE);
    if (!state->buf)
        return -ERR_RETRY;
    scatter_init(&state->io, s->blk, &r->op);
    for (uint32_t i = 0; i < r->block_count; i++)
        bit_set(state->todo, i);
    return 1;
}

static void read_step(struct op *op)
{
    struct store_read *r = container_of(op, struct store_read, op);
    struct read_state *state = r->private_state;
    struct pg *pg;
    int slot;

    if (op->state == READ_START) {
        int rc = read_begin(r);
        if (rc <= 0) {
            read_end(r, rc);
            return;
        }
        op->state = READ_DEVICE;
        state = r->private_state;
        read_memory(r, read_object(r, &pg));
    } else {
        while ((slot = scatter_reap(&state->io)) >= 0)
            read_verify(r, read_object(r, &pg), slot);
    }
    for (;;) {
        if (read_device(r))
            return;
        struct object *o = read_object(r, &pg);
        if (!pg || r->store->failed) {
            read_end(r, pg ? -ERR_STOPPED : -ERR_NO_PG);
            return;
        }
        if (!bits_any(state->todo)) {
            read_finish(r);
            return;
        }
        if (++state->rounds > ROUNDS_MAX) {
            read_end(r, -ERR_RETRY);
            return;
        }
        state->next = 0;
        read_memory(r, o);
    }
}

static const struct op_kind READ = {"store.read", read_state_name, read_step};

static void read_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                       uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent)
{
    ASSERT(block_count && block_count <= IO_BLOCKS_MAX && first_block < BLOCKS_PER_OBJECT &&
           block_count <= BLOCKS_PER_OBJECT - first_block);
    r->store = pg->store;
    r->pg = pg->record.pg;
    r->image = image;
    r->object = object;
    r->first_block = first_block;
    r->block_count = block_count;
    r->proposed = proposed;
    r->ret_index = 0;
    r->ret_data = (struct slice){0};
    memset(r->ret_written, 0, sizeof(r->ret_written));
    memset(r->ret_damaged, 0, sizeof(r->ret_damaged));
    memset(r->ret_same, 0, sizeof(r->ret_same));
    r->private_state = NULL;
    op_start(&r->op, pg->store->core, &READ, parent);
}

void store_read_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                      uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent)
{
    r->have = NULL;
    read_start(r, pg, image, object, first_block, block_count, proposed, parent);
}

void store_read_differing_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                                uint32_t first_block, uint32_t block_count, const uint64_t *have,
                                const uint32_t *have_crc, struct op *parent)
{
    r->have = have;
    r->have_crc = have_crc;
    read_start(r, pg, image, object, first_block, block_count, false, parent);
}

uint64_t store_reads_waiting_ns(const struct store *s, uint64_t now_ns)
{
    return s->reads_pending ? now_ns - s->reads_ns : 0;
}
