/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading blocks of an object.
 *
 * Each block is where object_where() says at the moment: nowhere (zeros), in memory, in the ring, in a chunk.
 * Runs of blocks that lie together on the device are read with one request, right into the answer; and with
 * them, if the object's checksums are not in memory, its page. When all requests of such a round are back,
 * each of their blocks is looked up again: if it has moved or changed meanwhile, destaged in place say, it is
 * fetched once more from where it is now. A block counts as damaged when its checksum fails twice at one
 * place.
 */
#include <string.h>

#include "store/internal.h"

#define ROUNDS_MAX 64 /* a block that moves that often while it is read */

#define TAG_PAGE UINT64_MAX

struct read_state {
    struct scatter io;
    struct scatter_io ios[SCATTER_IOS];
    uint64_t todo[IO_BLOCKS_MAX / 64];
    uint64_t unread[IO_BLOCKS_MAX / 64]; /* in this round: the request failed */
    uint64_t failed_once[IO_BLOCKS_MAX / 64];
    struct {
        uint64_t place;
        uint32_t crc;
        bool of_page; /* and not of an entry */
    } at[IO_BLOCKS_MAX];
    uint64_t touched[IO_BLOCKS_MAX]; /* by which entry at the latest; once one of them is damaged */
    uint64_t version;                /* of the page, when the round began */
    uint32_t next, rounds;
    struct buf *buf, *page;
    bool page_wanted, page_came, page_failed, crcs_known, touched_known;
    bool was_here; /* the object, when the read began */
    int page_result;
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
        buf_unref(state->page);
        slab_put(&r->store->slab, state, sizeof(*state));
    }
    r->private_state = NULL;
    op_done(&r->op, result);
}

/* It was here when the read began, and has gone to another PG since: the index, and what was read so far, is
 * of an object of which the rest would be zeros. */
static bool read_has_left(const struct store_read *r, const struct pg *pg, const struct object *o)
{
    const struct read_state *state = r->private_state;

    return state->was_here && (!o || !o->exists) &&
           !split_belongs(pg, pg->pub.record.split_count, r->image, r->object) &&
           !PLANT(STORE_READ_OVER_SPLIT);
}

static struct where block_where(const struct store_read *r, const struct object *o, uint32_t i)
{
    return o ? object_where(o, r->first_block + i, r->proposed) : (struct where){.source = WHERE_ZERO};
}

/* All of it is zeros, or lies in one piece in memory: no copy. */
static bool read_whole(struct store_read *r, const struct object *o)
{
    const struct log_entry *entry = NULL;
    bool zeros = true, one = true;

    for (uint32_t i = 0; i < r->block_count; i++) {
        struct where w = block_where(r, o, i);
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

/* It is not what any entry above that index made: later ones would be in front of it. */
static void block_damaged(struct store_read *r, struct object *o, uint32_t i)
{
    struct read_state *state = r->private_state;
    struct where w = block_where(r, o, i);

    bit_set(r->ret_damaged, i);
    if (o && !state->touched_known)
        page_block_indexes(o, r->first_block, r->block_count, state->touched);
    state->touched_known = o;
    if (w.source == WHERE_CHUNK && !w.entry)
        page_mark(o, r->first_block + i, state->touched[i]);
    if (w.entry || o)
        r->ret_lost_index = MAX(r->ret_lost_index, w.entry ? w.entry->index : state->touched[i]);
}

static bool on_device(const struct where *w)
{
    return w->source == WHERE_RING || w->source == WHERE_CHUNK;
}

/* Begins a round: everything that needs no device, and where the rest is, which stays in `todo`. */
static int read_look(struct store_read *r, struct object *o)
{
    struct read_state *state = r->private_state;
    bool paged = false;

    state->next = 0;
    state->touched_known = false;
    state->version = o ? o->version : 0;
    state->crcs_known = o && o->crcs;
    memset(state->unread, 0, sizeof(state->unread));
    for (uint32_t i = 0; i < r->block_count; i++) {
        if (!bit_get(state->todo, i))
            continue;
        uint8_t *to = state->buf->data + i * BLOCK_SIZE;
        struct where w = block_where(r, o, i);
        r->ret_crc[i] = w.written ? w.crc : CRC32C_ZERO_BLOCK;
        if (w.written)
            bit_set(r->ret_written, i);
        else
            bit_clear(r->ret_written, i);
        if (r->written_only && !w.written) {
            bit_clear(state->todo, i);
            continue;
        }
        if (on_device(&w)) {
            state->at[i].place = w.place;
            state->at[i].crc = w.crc;
            state->at[i].of_page = !w.entry;
            paged |= !w.entry;
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
            block_damaged(r, o, i);
    }
    state->page_wanted = paged && !state->crcs_known;
    if (paged && state->crcs_known) {
        r->store->counters.page_hits++;
        page_touch(o);
    }
    if (state->page_wanted && !state->page)
        state->page = buf_new(r->op.core->arena, BLOCK_SIZE);
    return state->page_wanted && !state->page ? -ERR_RETRY : 0;
}

static void read_reap(struct store_read *r, int slot)
{
    struct read_state *state = r->private_state;
    uint32_t first = (uint32_t)(state->io.at[slot].tag >> 32), count = (uint32_t)state->io.at[slot].tag;

    uint64_t now_ns = core_now_ns(r->op.core);

    r->store->reads_pending--;
    r->store->reads_ns = now_ns;
    histogram_record(&r->store->counters.device_read, now_ns - state->io.at[slot].io.submitted_ns);
    if (state->io.at[slot].tag == TAG_PAGE) {
        state->page_came = true;
        state->page_result = state->io.at[slot].io.result;
        return;
    }
    for (uint32_t i = first; i < first + count && state->io.at[slot].io.result; i++)
        bit_set(state->unread, i);
}

static void read_page(struct store_read *r, struct object *o)
{
    struct read_state *state = r->private_state;

    state->page_came = false;
    enum page_taken taken = o ? page_take(o, state->version, (const struct disk_page *)state->page->data,
                                          state->page_result, &state->page_failed)
                              : PAGE_AGAIN;
    state->crcs_known |= taken == PAGE_TAKEN;
    for (uint32_t i = 0; i < r->block_count; i++) {
        if (!bit_get(state->todo, i) || !state->at[i].of_page)
            continue;
        if (taken == PAGE_TAKEN) {
            state->at[i].crc = r->ret_crc[i] = o->crcs->crc[r->first_block + i];
        } else if (taken == PAGE_UNREADABLE) {
            block_damaged(r, o, i);
            bit_clear(state->todo, i);
        }
    }
}

/* Is it still what was read? */
static bool read_current(const struct store_read *r, const struct object *o, uint32_t i)
{
    const struct read_state *state = r->private_state;
    struct where w = block_where(r, o, i);

    if (!on_device(&w) || w.place != state->at[i].place || state->at[i].of_page != !w.entry)
        return false;
    return w.entry ? w.crc == state->at[i].crc : o->version == state->version;
}

/* Ends a round. */
static void read_verify(struct store_read *r, struct object *o)
{
    struct read_state *state = r->private_state;

    state->touched_known = false;
    if (state->page_came)
        read_page(r, o);
    for (uint32_t i = 0; i < r->block_count; i++) {
        if (!bit_get(state->todo, i) || (state->at[i].of_page && !state->crcs_known))
            continue;
        if (!read_current(r, o, i)) {
            bit_clear(state->failed_once, i);
            continue;
        }
        if (!bit_get(state->unread, i) &&
            (PLANT(STORE_NO_CHECKSUM) ||
             crc32c(0, state->buf->data + i * BLOCK_SIZE, BLOCK_SIZE) == state->at[i].crc)) {
            bit_clear(state->todo, i);
            continue;
        }
        if (!bit_get(state->failed_once, i)) {
            bit_set(state->failed_once, i);
            continue;
        }
        r->store->counters.checksum_errors++;
        block_damaged(r, o, i);
        bit_clear(state->todo, i);
    }
}

static void read_submit(struct store_read *r, int slot, uint64_t place, uint64_t tag)
{
    struct read_state *state = r->private_state;

    if (r->store->reads_pending++ == 0)
        r->store->reads_ns = core_now_ns(r->op.core);
    scatter_submit(&state->io, slot, BLK_READ, 0, place, 1, tag);
}

/* How many blocks from there on are read at once. What did not come well is read again block by block: one
 * that the device does not give spoils the run that it is read in. */
static uint32_t read_run(const struct store_read *r, uint32_t first)
{
    const struct read_state *state = r->private_state;
    bool alone = bit_get(state->failed_once, first) && !PLANT(STORE_READ_RUN_LOST);
    uint32_t n = 1;

    while (!alone && first + n < r->block_count && bit_get(state->todo, first + n) &&
           !bit_get(state->failed_once, first + n) == !bit_get(state->failed_once, first) &&
           state->at[first + n].place == state->at[first].place + n)
        n++;
    return n;
}

/* True: requests are under way. */
static bool read_device(struct store_read *r, const struct object *o)
{
    struct read_state *state = r->private_state;
    int slot;

    if (state->page_wanted) {
        slot = scatter_slot(&state->io);
        ASSERT(slot >= 0 && o && o->version == state->version);
        state->io.at[slot].iov[0] = (struct iovec){.iov_base = state->page->data, .iov_len = BLOCK_SIZE};
        r->store->counters.page_reads++;
        read_submit(r, slot, slot_place(r->store, o->slot), TAG_PAGE);
        state->page_wanted = false;
    }
    while (state->next < r->block_count) {
        uint32_t i = state->next;
        if (!bit_get(state->todo, i)) {
            state->next++;
            continue;
        }
        slot = scatter_slot(&state->io);
        if (slot < 0)
            return true;
        uint32_t n = read_run(r, i);
        state->io.at[slot].iov[0] =
            (struct iovec){.iov_base = state->buf->data + i * BLOCK_SIZE, .iov_len = (size_t)n * BLOCK_SIZE};
        r->store->counters.device_reads++;
        read_submit(r, slot, state->at[i].place, (uint64_t)i << 32 | n);
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
    if (o && o->exists)
        r->ret_index = o->index;
    if (o && r->proposed && !list_empty(&o->unapplied))
        r->ret_index = MAX(r->ret_index, list_entry(o->unapplied.prev, struct log_entry, obj_link)->index);
    if (read_whole(r, o))
        return 0;
    struct read_state *state = slab_get(&s->slab, sizeof(*state));
    if (!state)
        return -ERR_RETRY;
    r->private_state = state;
    state->was_here = o && o->exists;
    state->buf = buf_new(s->core->arena, r->block_count * BLOCK_SIZE);
    if (!state->buf)
        return -ERR_RETRY;
    scatter_init(&state->io, s->blk, &r->op, state->ios, SCATTER_IOS);
    for (uint32_t i = 0; i < r->block_count; i++)
        bit_set(state->todo, i);
    return 1;
}

static void read_step(struct op *op)
{
    struct store_read *r = container_of(op, struct store_read, op);
    struct read_state *state;
    struct pg *pg;
    struct object *o;
    int slot, rc = 0;

    if (op->state == READ_START) {
        rc = read_begin(r);
        if (rc <= 0) {
            read_end(r, rc);
            return;
        }
        op->state = READ_DEVICE;
        rc = read_look(r, read_object(r, &pg));
    }
    state = r->private_state;
    while ((slot = scatter_reap(&state->io)) >= 0)
        read_reap(r, slot);
    for (; rc == 0; rc = read_look(r, o)) {
        o = read_object(r, &pg);
        if (read_device(r, o))
            return;
        rc = !pg ? -ERR_NO_PG : r->store->failed ? -ERR_STOPPED : read_has_left(r, pg, o) ? -ERR_RETRY : 0;
        if (rc)
            break;
        read_verify(r, o);
        if (!bits_any(state->todo)) {
            read_finish(r);
            return;
        }
        if (++state->rounds > ROUNDS_MAX) {
            rc = -ERR_RETRY;
            break;
        }
    }
    read_end(r, rc);
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
    r->ret_index = r->ret_lost_index = 0;
    r->ret_data = (struct slice){0};
    memset(r->ret_written, 0, sizeof(r->ret_written));
    memset(r->ret_damaged, 0, sizeof(r->ret_damaged));
    r->private_state = NULL;
    op_start(&r->op, pg->store->core, &READ, parent);
}

void store_read_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                      uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent)
{
    r->written_only = false;
    read_start(r, pg, image, object, first_block, block_count, proposed, parent);
}

void store_read_written_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                              uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent)
{
    r->written_only = true;
    read_start(r, pg, image, object, first_block, block_count, proposed, parent);
}

uint64_t store_reads_waiting_ns(const struct store *s, uint64_t now_ns)
{
    return s->reads_pending ? now_ns - s->reads_ns : 0;
}
