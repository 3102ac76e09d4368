/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding the batches of the ring again.
 *
 * All of the ring is looked at, block by block, and the valid headers of this format are noted. The chain is
 * then followed from the tail: the next batch is the one that names this one as its predecessor, by number
 * and checksum. Where there is none, it depends on what is known to have been durable: if a batch beyond the
 * gap, or the PG table, or the checkpoint, says that more was, what is missing is damage, and the chain goes
 * on behind it; otherwise this is the torn tail of a crash, and the log ends here.
 * What the device does not give is not torn, for a crash leaves other contents and no error: it is damage.
 */
#include <stdlib.h>
#include <string.h>

#include "base/placement.h"
#include "store/opening.h"

const struct disk_batch_pg *batch_pgs(const struct disk_batch *h)
{
    return (const struct disk_batch_pg *)(h + 1);
}

static const uint8_t *batch_items(const struct disk_batch *h)
{
    return (const uint8_t *)(batch_pgs(h) + h->pg_count + h->prev_pg_count);
}

static size_t disk_entry_bytes(const struct disk_entry *e)
{
    uint64_t numbers = e->type == ENTRY_WRITE ? (uint64_t)e->data.block_count + e->data.chunk_count
                       : e->type == ENTRY_GROUP || e->type == ENTRY_SPLIT ? e->group_of.word_count
                                                                          : 0;

    return sizeof(*e) + ALIGN_UP(4ull * numbers, 8ull);
}

uint32_t batch_large_blocks(const struct disk_batch *h)
{
    uint32_t blocks = 0;

    for (const struct disk_entry *e = NULL; (e = batch_entry_next(h, e));)
        blocks += e->type == ENTRY_WRITE ? e->data.chunk_count * BLOCKS_PER_CHUNK : 0;
    return blocks;
}

uint32_t batch_entry_chunk(const struct disk_entry *e, uint32_t b)
{
    uint32_t first = DIV_UP(e->data.first_block, BLOCKS_PER_CHUNK),
             i = (e->data.first_block + b) / BLOCKS_PER_CHUNK - first;

    return i < e->data.chunk_count ? batch_entry_crc(e)[e->data.block_count + i] : 0;
}

const struct disk_entry *batch_entry_next(const struct disk_batch *h, const struct disk_entry *after)
{
    const uint8_t *end = (const uint8_t *)batch_records(h);
    const uint8_t *at = after ? (const uint8_t *)after + disk_entry_bytes(after) : batch_items(h);

    return at < end ? (const struct disk_entry *)at : NULL;
}

const uint32_t *batch_entry_crc(const struct disk_entry *e)
{
    return (const uint32_t *)(e + 1);
}

const struct disk_record *batch_records(const struct disk_batch *h)
{
    return (const struct disk_record *)((const uint8_t *)h + h->used_bytes) - h->record_count;
}

static bool disk_chunks_valid(const struct store *s, const struct disk_entry *e)
{
    uint32_t first = DIV_UP(e->data.first_block, BLOCKS_PER_CHUNK),
             end = (e->data.first_block + e->data.block_count) / BLOCKS_PER_CHUNK;

    if (e->data.chunk_count && (end < first || e->data.chunk_count != end - first))
        return false;
    for (uint32_t i = 0; i < e->data.chunk_count; i++) {
        uint32_t chunk = batch_entry_crc(e)[e->data.block_count + i];
        if (chunk == 0 || chunk > s->g.chunk_count)
            return false;
    }
    return true;
}

static bool disk_group_valid(const struct disk_entry *e, uint64_t bytes_there)
{
    struct entry entry = {.type = e->type,
                          .index = e->index,
                          .epoch = e->group_of.epoch,
                          .block_count = e->group_of.word_count,
                          .crc = batch_entry_crc(e)};
    struct group group;

    if (e->type == ENTRY_SPLIT && (!e->image || e->image >= PLACEMENT_PGS_MAX))
        return false;
    return e->group_of.word_count <= GROUP_WORDS_MAX && bytes_there >= disk_entry_bytes(e) &&
           group_from_entry(&entry, &group) == 0;
}

static bool disk_entry_valid(const struct store *s, const struct disk_batch *h, const struct disk_entry *e,
                             uint64_t bytes_there)
{
    if (bytes_there < sizeof(*e) || e->pg >= h->pg_count || e->index == 0 || e->index >= FORMAT_NUMBER_MAX ||
        e->term == 0 || e->term >= FORMAT_NUMBER_MAX || e->copied > 1)
        return false;
    switch (e->type) {
    case ENTRY_NOOP:
    case ENTRY_IMAGE:
    case ENTRY_FORGET:
        return true;
    case ENTRY_GROUP:
    case ENTRY_SPLIT:
        return disk_group_valid(e, bytes_there);
    case ENTRY_WRITE:
        if (e->data.block_count > IO_BLOCKS_MAX || e->data.payload_block > h->payload_blocks ||
            e->data.chunk_count > e->data.block_count / BLOCKS_PER_CHUNK ||
            e->data.block_count - e->data.chunk_count * BLOCKS_PER_CHUNK >
                h->payload_blocks - e->data.payload_block ||
            bytes_there < disk_entry_bytes(e))
            return false;
        /* fall through */
    case ENTRY_CLEAR:
        return e->data.block_count && e->data.first_block < BLOCKS_PER_OBJECT &&
               e->data.block_count <= BLOCKS_PER_OBJECT - e->data.first_block &&
               (e->type == ENTRY_CLEAR || disk_chunks_valid(s, e));
    default:
        return false;
    }
}

bool batch_validate(const struct store *s, const struct disk_batch *h, uint64_t phys, uint64_t blocks_there)
{
    if (h->magic != MAGIC_BATCH || memcmp(h->format_id, s->format_id, FORMAT_ID_BYTES) != 0)
        return false;
    if (h->header_blocks == 0 || h->header_blocks > BATCH_HEADER_BLOCKS_MAX ||
        h->header_blocks > blocks_there || h->used_bytes < sizeof(*h) ||
        h->used_bytes > h->header_blocks * BLOCK_SIZE || h->payload_blocks > BATCH_PAYLOAD_BLOCKS_MAX ||
        h->position % s->g.ring_blocks != phys ||
        phys + h->header_blocks + h->payload_blocks > s->g.ring_blocks)
        return false;
    if (h->crc != format_crc(h, h->used_bytes, offsetof(struct disk_batch, crc)))
        return false;
    if (h->seq == 0 || h->seq >= FORMAT_NUMBER_MAX || h->prev_seq >= h->seq || h->durable_seq >= h->seq ||
        h->tail_seq > h->seq || h->position >= FORMAT_NUMBER_MAX || h->pg_count > BATCH_PGS_MAX ||
        h->prev_pg_count > BATCH_PGS_MAX)
        return false;
    uint64_t fixed = sizeof(*h) + (h->pg_count + h->prev_pg_count) * sizeof(struct disk_batch_pg) +
                     (uint64_t)h->record_count * sizeof(struct disk_record);
    if (fixed > h->used_bytes)
        return false;
    uint64_t left = h->used_bytes - fixed;
    const uint8_t *at = batch_items(h);
    for (uint32_t i = 0; i < h->entry_count; i++) {
        const struct disk_entry *e = (const struct disk_entry *)at;
        if (!disk_entry_valid(s, h, e, left))
            return false;
        left -= disk_entry_bytes(e);
        at += disk_entry_bytes(e);
    }
    return left == 0;
}

static int scan_note(struct scan *scan, const struct disk_batch *h)
{
    if (scan->count == scan->cap) {
        uint64_t cap = scan->cap ? scan->cap * 2 : 1024;
        struct scan_header *grown = realloc(scan->headers, cap * sizeof(*grown));
        if (!grown)
            return -ERR_NO_MEMORY;
        scan->headers = grown;
        scan->cap = cap;
    }
    scan->headers[scan->count++] = (struct scan_header){.seq = h->seq,
                                                        .prev_seq = h->prev_seq,
                                                        .position = h->position,
                                                        .durable_seq = h->durable_seq,
                                                        .tail_seq = h->tail_seq,
                                                        .crc = h->crc,
                                                        .prev_crc = h->prev_crc,
                                                        .header_blocks = h->header_blocks,
                                                        .payload_blocks = h->payload_blocks};
    scan->max_seq = MAX(scan->max_seq, h->seq);
    scan->max_end = MAX(scan->max_end, h->position + h->header_blocks + h->payload_blocks);
    scan->durable_seq = MAX(scan->durable_seq, h->durable_seq);
    return 0;
}

int scan_window(struct store *s, struct scan *scan, const uint8_t *data, uint64_t phys, uint32_t blocks,
                uint32_t *ret_done)
{
    for (uint32_t i = 0; i < blocks; i++) {
        const struct disk_batch *h = (const struct disk_batch *)(data + (size_t)i * BLOCK_SIZE);
        if (h->magic != MAGIC_BATCH)
            continue;
        bool partly = h->header_blocks <= BATCH_HEADER_BLOCKS_MAX && h->header_blocks > blocks - i &&
                      phys + blocks < s->g.ring_blocks;
        if (partly && i) {
            *ret_done = i;
            return 0;
        }
        if (!partly && !batch_validate(s, h, phys + i, blocks - i))
            continue;
        int rc = partly ? scan_unread(scan, phys, h->seq) : scan_note(scan, h);
        if (rc)
            return rc;
    }
    *ret_done = blocks;
    return 0;
}

int scan_unread(struct scan *scan, uint64_t phys, uint64_t seq)
{
    if (scan->unread_count == scan->unread_cap) {
        uint64_t cap = scan->unread_cap ? scan->unread_cap * 2 : 64;
        struct scan_unread *grown = realloc(scan->unread, cap * sizeof(*grown));
        if (!grown)
            return -ERR_NO_MEMORY;
        scan->unread = grown;
        scan->unread_cap = cap;
    }
    scan->unread[scan->unread_count++] = (struct scan_unread){.phys = phys, .seq = seq};
    return 0;
}

bool scan_end_unread(const struct store *s, const struct scan *scan, uint64_t end, uint64_t seq)
{
    uint64_t phys = end % s->g.ring_blocks;
    bool wraps = phys + BATCH_HEADER_BLOCKS_MAX + BATCH_PAYLOAD_BLOCKS_MAX > s->g.ring_blocks;

    for (uint64_t i = 0; i < scan->unread_count; i++) {
        const struct scan_unread *u = &scan->unread[i];
        if (u->seq > seq && (u->phys == phys || (wraps && u->phys == 0)))
            return true;
    }
    return false;
}

static int by_seq(const void *a, const void *b)
{
    const struct scan_header *x = a, *y = b;

    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

/* Of those that name `prev` as predecessor, the newest one wins: the others were cut off by an earlier
 * recovery. */
static uint64_t chain_next(const struct scan *scan, uint64_t from, const struct scan_header *prev)
{
    uint64_t found = UINT64_MAX;

    for (uint64_t i = from; i < scan->count && scan->headers[i].seq <= scan->end_seq; i++) {
        const struct scan_header *h = &scan->headers[i];
        if (h->cut_off)
            continue;
        bool follows =
            prev ? h->prev_seq == prev->seq && h->prev_crc == prev->crc : h->prev_seq < scan->tail_seq;
        if (follows)
            found = i;
        /* Numbers are given one by one but for a jump at each recovery: a follower that is no neighbour comes
         * after at most the batches that were in flight. */
        if (found != UINT64_MAX && i > found + 2 * RING_INFLIGHT_MAX)
            break;
        if (found == UINT64_MAX && i > from + 1024)
            break;
    }
    return found;
}

/* From scan->tail_seq to where it ends; the number of the last batch. */
static uint64_t chain_follow(struct scan *scan)
{
    uint64_t at = 0, known = scan->tail_seq ? scan->tail_seq - 1 : 0;

    scan->chain_count = 0;
    scan->end_gone = false;
    while (at < scan->count && scan->headers[at].seq < scan->tail_seq)
        at++;
    for (;;) {
        while (at < scan->count && scan->headers[at].cut_off)
            at++;
        struct scan_header *last = scan->chain_count ? &scan->chain[scan->chain_count - 1] : NULL;
        uint64_t next = chain_next(scan, at, last);
        bool gap = next == UINT64_MAX;
        if (gap && scan->durable_seq <= known)
            return known;
        if (gap)
            next = at;
        if (next >= scan->count || scan->headers[next].seq > scan->end_seq) {
            scan->end_gone = true;
            return known;
        }
        struct scan_header *h = &scan->chain[scan->chain_count++];
        *h = scan->headers[next];
        h->gap = gap;
        h->gap_named = gap && h->prev_seq == known + 1;
        known = h->seq;
        at = next + 1;
    }
}

/* What an earlier recovery cut off counts for nothing, though its header may be whole: it lies between a
 * batch and the one that this names as its predecessor, or behind where a later one was put. */
static void mark_cut_off(struct scan *scan, uint64_t end_seq)
{
    const struct scan_header *above = NULL;

    for (uint64_t i = scan->count; i-- > 0;) {
        struct scan_header *h = &scan->headers[i];
        h->cut_off = h->seq > end_seq || (above && h->seq > above->prev_seq && h->seq < above->seq) ||
                     (above && h->position >= above->position);
        if (!h->cut_off)
            above = h;
    }
}

static uint64_t tail_hint(const struct scan *scan, uint64_t end_seq)
{
    uint64_t tail = 0;

    for (uint64_t i = 0; i < scan->count && scan->headers[i].seq <= end_seq; i++)
        if (!scan->headers[i].cut_off)
            tail = MAX(tail, scan->headers[i].tail_seq);
    return tail;
}

/* Where the tail is, batches that count tell: one behind a torn one may tell of a tail that relied on what is
 * not there. So if the chain ends earlier, the tail is looked for again. */
int scan_chain(struct scan *scan, uint64_t end_seq)
{
    if (!scan->chain) {
        scan->chain = calloc(scan->count + 1, sizeof(*scan->chain));
        if (!scan->chain)
            return -ERR_NO_MEMORY;
        if (scan->count)
            qsort(scan->headers, scan->count, sizeof(*scan->headers), by_seq);
    }
    for (;;) {
        scan->end_seq = end_seq;
        mark_cut_off(scan, end_seq);
        scan->tail_seq = tail_hint(scan, end_seq);
        uint64_t last = chain_follow(scan);
        if (tail_hint(scan, last) == scan->tail_seq || last >= end_seq)
            return 0;
        end_seq = last;
    }
}
