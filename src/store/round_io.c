/* SPDX-License-Identifier: Apache-2.0
 *
 * What a round of destage reads and writes: pages that are not in memory, payloads that are only in the ring,
 * blocks of chunks in the order of the device, pages to fresh slots, and the records that make these count.
 */
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "store/internal.h"

/* A request that has completed, or -1. */
static int round_reap(struct store *s)
{
    struct destage *d = &s->destage;
    int slot = scatter_reap(&d->io);

    if (slot >= 0)
        d->io.depth = core_now_ns(s->core) - d->io.at[slot].io.submitted_ns > DESTAGE_SLOW_NS
                          ? DESTAGE_IOS_MAX
                          : DESTAGE_IOS;
    return slot;
}

static void load_take(struct store *s, int slot)
{
    struct destage *d = &s->destage;
    uint32_t i = (uint32_t)d->io.at[slot].tag;
    struct destage_object *r = &d->objects[i];

    switch (page_take(r->object, r->object->version, (const struct disk_page *)d->io.at[slot].iov[0].iov_base,
                      d->io.at[slot].io.result, &r->load_failed)) {
    case PAGE_TAKEN:
        round_page_known(r);
        return;
    case PAGE_DAMAGED:
        round_page_lost(s, r);
        return;
    case PAGE_UNREADABLE:
        if (r->object->unreadable++ < PAGE_TRIES_MAX) {
            r->unreadable = true;
            return;
        }
        page_lose(r->object, -ERR_IO); /* for so long that it will not come any more */
        round_page_lost(s, r);
        return;
    case PAGE_AGAIN: /* it is busy, so this is still its page */
        r->load = true;
        d->next = MIN(d->next, i);
    }
}

bool round_load(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = round_reap(s)) >= 0)
        load_take(s, slot);
    for (; d->next < d->object_count; d->next++) {
        struct destage_object *r = &d->objects[d->next];
        if (!r->load)
            continue;
        slot = scatter_slot(&d->io);
        if (slot < 0)
            return false;
        r->load = false;
        d->io.at[slot].iov[0] =
            (struct iovec){.iov_base = d->work->data + d->next * BLOCK_SIZE, .iov_len = BLOCK_SIZE};
        s->counters.page_reads++;
        scatter_submit(&d->io, slot, BLK_READ, 0, slot_place(s, r->object->slot), 1, d->next);
    }
    return !d->io.pending;
}

/* Where the block is to be read back from; with how many of `count` blocks behind it that lie together there.
 */
static uint64_t readback_from(const struct store *s, const struct destage_block *b, uint32_t *count)
{
    if (!b->entry) {
        *count = MIN(*count, BLOCKS_PER_CHUNK - b->block % BLOCKS_PER_CHUNK);
        return chunk_place(s, object_chunk(b->object, b->block / BLOCKS_PER_CHUNK), b->block);
    }
    uint32_t i = b->block - b->entry->first_block;
    *count = entry_run(s, b->entry, i, *count);
    return entry_place(s, b->entry, i);
}

/* Blocks of one entry, or of one chunk that they move from, that follow each other are read with one request.
 */
static uint32_t readback_run(const struct destage *d, uint32_t from)
{
    const struct destage_block *b = &d->blocks[from];
    uint32_t n = 1;

    while (from + n < d->block_count && !b[n].data && !b->again && b[n].entry == b->entry &&
           b[n].object == b->object && b[n].block == b->block + n)
        n++;
    return n;
}

/* The only copy of this block here is gone. Its page will expect the right checksum, so that it is found
 * damaged, and repaired from another replica. What was in its place before may have the same checksum (5.36),
 * so that must not stay there. */
static void block_spoil(const struct destage_block *b)
{
    memset(b->data, 0, BLOCK_SIZE);
    b->data[0] = *b->crc == CRC32C_ZERO_BLOCK;
}

static void readback_verify(struct store *s, int slot)
{
    struct destage *d = &s->destage;
    uint32_t first = (uint32_t)(d->io.at[slot].tag >> 32), count = (uint32_t)d->io.at[slot].tag;
    const uint8_t *data = d->io.at[slot].iov[0].iov_base;

    for (uint32_t i = 0; i < count; i++) {
        struct destage_block *b = &d->blocks[first + i];
        uint8_t *at = (uint8_t *)data + i * BLOCK_SIZE;
        b->data = at;
        if (!d->io.at[slot].io.result && crc32c(0, at, BLOCK_SIZE) == *b->crc)
            continue;
        /* One error, or one wrong read, is none. */
        if (!b->again) {
            b->data = NULL;
            b->again = at;
            d->readback_again = true;
            continue;
        }
        block_spoil(b);
        s->counters.checksum_errors++;
        core_log(s->core, LOG_ERROR, "store",
                 "slice %u: the %scopy of block %u of object %llu/%llu is damaged", s->config.slice,
                 b->entry ? "log's " : "", b->block, (unsigned long long)b->object->image,
                 (unsigned long long)b->object->number);
    }
}

/* Where the next `count` blocks that are read back come, or the one that is read once more. */
static uint8_t *readback_place(struct destage *d, const struct destage_block *b, uint32_t count)
{
    uint8_t *at = d->work->data + d->readback_count * BLOCK_SIZE;

    if (b->again)
        return b->again;
    d->readback_count += count;
    return at;
}

/* True: requests are under way. */
static bool readback_read(struct store *s)
{
    struct destage *d = &s->destage;

    while (d->next < d->block_count) {
        struct destage_block *b = &d->blocks[d->next];
        const struct log_entry *e = b->entry;
        if (b->data) {
            d->next++;
            continue;
        }
        if (e && e->lost) {
            b->data = readback_place(d, b, 1);
            block_spoil(b);
            d->next++;
            continue;
        }
        int slot = scatter_slot(&d->io);
        if (slot < 0)
            return true;
        uint32_t n = readback_run(d, d->next);
        uint64_t from = readback_from(s, b, &n);
        d->io.at[slot].iov[0] =
            (struct iovec){.iov_base = readback_place(d, b, n), .iov_len = (size_t)n * BLOCK_SIZE};
        s->counters.device_reads++;
        scatter_submit(&d->io, slot, BLK_READ, 0, from, 1, (uint64_t)d->next << 32 | n);
        d->next += n;
    }
    return d->io.pending;
}

/* True: all is done. */
bool round_readback(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = round_reap(s)) >= 0)
        readback_verify(s, slot);
    for (; !readback_read(s); d->next = 0) {
        if (!d->readback_again)
            return true;
        d->readback_again = false;
    }
    return false;
}

static int by_place(const void *a, const void *b)
{
    const struct destage_block *x = a, *y = b;

    return x->place < y->place ? -1 : x->place > y->place;
}

void round_sort(struct store *s)
{
    qsort(s->destage.blocks, s->destage.block_count, sizeof(*s->destage.blocks), by_place);
}

bool round_write_data(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = round_reap(s)) >= 0)
        if (d->io.at[slot].io.result)
            d->io.error = d->io.at[slot].io.result;
    while (d->next < d->block_count && !d->io.error) {
        slot = destage_pace(s) ? scatter_slot(&d->io) : -1;
        if (slot < 0)
            return false;
        uint32_t n = 0;
        uint64_t place = d->blocks[d->next].place;
        while (n < SCATTER_IOVS && d->next < d->block_count && d->blocks[d->next].place == place + n)
            d->io.at[slot].iov[n++] =
                (struct iovec){.iov_base = d->blocks[d->next++].data, .iov_len = BLOCK_SIZE};
        d->paced += n;
        TRACE(destage_written, place, n);
        s->counters.destage_blocks += n;
        s->counters.destage_bytes += block_offset(n);
        scatter_submit(&d->io, slot, BLK_WRITE, BLK_BACKGROUND, place, n, 0);
    }
    return !d->io.pending;
}

bool round_write_pages(struct store *s)
{
    struct destage *d = &s->destage;
    int slot;

    while ((slot = round_reap(s)) >= 0)
        if (d->io.at[slot].io.result)
            d->io.error = d->io.at[slot].io.result;
    while (d->next < d->object_count && !d->io.error) {
        struct destage_object *r = &d->objects[d->next];
        if (r->drop) {
            d->next++;
            continue;
        }
        slot = scatter_slot(&d->io);
        if (slot < 0)
            return false;
        struct disk_page *first = (struct disk_page *)d->work->data + d->next;
        uint64_t place = slot_place(s, r->new_slot);
        uint32_t n = 0;
        for (; d->next < d->object_count && !d->objects[d->next].drop; n++, d->next++) {
            r = &d->objects[d->next];
            if (slot_place(s, r->new_slot) != place + n)
                break;
            page_encode(s, r->object, r->page, r->new_slot, r->index, r->version, first + n);
        }
        s->counters.page_writes += n;
        d->io.at[slot].iov[0] = (struct iovec){.iov_base = first, .iov_len = (size_t)n * BLOCK_SIZE};
        scatter_submit(&d->io, slot, BLK_WRITE, BLK_BACKGROUND, place, 1, 0);
    }
    return !d->io.pending;
}

void round_push_slots(struct store *s)
{
    struct destage *d = &s->destage;

    for (uint32_t i = 0; i < d->object_count; i++) {
        const struct destage_object *r = &d->objects[i];
        struct disk_record record = {
            .type = r->drop ? RECORD_DROP : RECORD_SLOT,
            .slot = r->new_slot,
            .key = r->object->pg->key,
            .image = r->object->image,
            .slot_of = {.object = r->object->number, .index = r->index, .version = r->version}};
        ring_record_later(s, &record);
    }
    destage_records_wait(s);
}
