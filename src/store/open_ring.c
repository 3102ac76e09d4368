/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a slice, the second part: the log ring. First all headers are read (scan.c makes a chain of them),
 * then those batches of the chain that may be torn, then all of it, in order (replay.c makes state of it).
 */
#include <string.h>

#include "store/opening.h"

bool open_scan_read(struct store_open *o)
{
    struct store_opening *p = o->opening;

    if (p->at >= p->s->g.ring_blocks)
        return false;
    p->reading = MIN((uint64_t)WORK_BLOCKS, p->s->g.ring_blocks - p->at);
    open_read(o, p->s->g.ring_block + p->at, p->reading);
    return true;
}

/* 1: read p->reading blocks instead. */
int open_scan_take(struct store_opening *p)
{
    uint32_t done = 1;
    int rc = 0;

    if (p->io.result && p->reading > 1) {
        /* What can be read is worth having, and headers whole: all up to the block that cannot. */
        p->reading = p->reading > BATCH_HEADER_BLOCKS_MAX ? p->reading / 2 : p->reading - 1;
        return 1;
    }
    if (p->io.result) {
        store_problem(p->s, "log ring: block %llu cannot be read", (unsigned long long)p->at);
        rc = scan_unread(&p->scan, p->at, UINT64_MAX);
    } else {
        rc = scan_window(p->s, &p->scan, p->work, p->at, (uint32_t)p->reading, &done);
    }
    p->at += done;
    return rc;
}

static uint64_t header_phys(const struct store *s, const struct scan_header *h)
{
    return h->position % s->g.ring_blocks;
}

/* As many batches of the chain as lie one behind the other. */
bool open_replay_read(struct store_open *o)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;
    const struct scan_header *h = &p->scan.chain[p->at];

    if (p->cut || s->failed || p->at >= p->scan.chain_count)
        return false;
    uint64_t first = header_phys(s, h), end = first;
    for (uint64_t i = p->at; i < p->scan.chain_count; i++) {
        h = &p->scan.chain[i];
        uint64_t blocks = h->header_blocks + h->payload_blocks;
        if (header_phys(s, h) != end || end + blocks - first > WORK_BLOCKS)
            break;
        end += blocks;
    }
    p->reading = end - first;
    open_read(o, s->g.ring_block + first, p->reading);
    return true;
}

/* Is what is new in the batch whole? Not so copies: what they are of is there as well, if a crash tore them;
 * and it may have been lost before, which is none of the others' fault. */
static bool payload_verify(const struct disk_batch *h, uint64_t *lost)
{
    const uint8_t *payload = (const uint8_t *)h + h->header_blocks * BLOCK_SIZE;
    bool whole = true;
    uint32_t i = 0;

    memset(lost, 0, BATCH_ENTRIES_MAX / 8);
    for (const struct disk_entry *e = NULL; (e = batch_entry_next(h, e)); i++) {
        const uint8_t *at = payload + (size_t)e->data.payload_block * BLOCK_SIZE;
        for (uint32_t b = 0; e->type == ENTRY_WRITE && b < e->data.block_count; b++) {
            if (batch_entry_chunk(e, b))
                continue;
            if (crc32c(0, at, BLOCK_SIZE) != batch_entry_crc(e)[b]) {
                bit_set(lost, i);
                whole &= e->copied;
                break;
            }
            at += BLOCK_SIZE;
        }
    }
    return whole;
}

/* Batches that are not known to have been durable count only if what is new there is whole, or cannot be
 * read: the first that is neither, at the latest, ends the chain. True: a batch is being read. */
bool open_verify_read(struct store_open *o)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;

    while (p->at < p->scan.chain_count && p->scan.chain[p->at].seq <= p->scan.durable_seq)
        p->at++;
    if (p->at >= p->scan.chain_count)
        return false;
    const struct scan_header *h = &p->scan.chain[p->at];
    p->reading = h->header_blocks + h->payload_blocks;
    open_read(o, s->g.ring_block + header_phys(s, h), p->reading);
    return true;
}

/* 1: it does not count, nor does anything behind it. */
static int open_verify_cut(struct store_opening *p)
{
    int rc = scan_chain(&p->scan, p->scan.chain[p->at].seq - 1);

    /* What is in the chain now may be others than were looked at. */
    p->at = 0;
    return rc ? rc : 1;
}

int open_verify_take(struct store_opening *p)
{
    const struct scan_header *sh = &p->scan.chain[p->at];
    const struct disk_batch *h = (const struct disk_batch *)p->work;
    uint64_t lost[BATCH_ENTRIES_MAX / 64];
    bool failed = p->io.result && !PLANT(STORE_TORN_BY_ERROR);
    bool whole = !p->io.result && batch_validate(p->s, h, header_phys(p->s, sh), sh->header_blocks) &&
                 h->seq == sh->seq && payload_verify(h, lost);

    /* One error, or one wrong read, is none. */
    p->verify_again = !whole && !p->verify_again;
    if (p->verify_again)
        return 1;
    /* Nobody knows what is there, and it may have been durable: replay finds it whole, or damaged. */
    if (failed) {
        p->scan.chain[p->at++].chunks_unread = true;
        return 1;
    }
    if (whole) {
        p->large_entry = batch_entry_next(h, NULL);
        p->large_block = 0;
        return 0;
    }
    return open_verify_cut(p);
}

/* Behind the largest batch in the work buffer. */
#define VERIFY_CHUNK_AT (BATCH_HEADER_BLOCKS_MAX + BATCH_PAYLOAD_BLOCKS_MAX)
_Static_assert(VERIFY_CHUNK_AT + BLOCKS_PER_CHUNK <= WORK_BLOCKS, "work buffer");

/* The next chunk that a new entry of the batch brought: true. What is void, of a replica that is gone, does
 * not count: its chunks may be another's. */
bool open_chunk_read(struct store_open *o)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;
    const struct disk_batch *h = (const struct disk_batch *)p->work;

    for (; p->large_entry; p->large_entry = batch_entry_next(h, p->large_entry), p->large_block = 0) {
        const struct disk_entry *e = p->large_entry;
        if (e->type != ENTRY_WRITE || e->copied || !pg_by_key(s, batch_pgs(h)[e->pg].key))
            continue;
        while (p->large_block < e->data.block_count && !batch_entry_chunk(e, p->large_block))
            p->large_block++;
        if (p->large_block == e->data.block_count)
            continue;
        io_start(s->blk, &p->io, &p->iov, BLK_READ, 0,
                 chunk_place(s, batch_entry_chunk(e, p->large_block), 0),
                 p->work + block_offset(VERIFY_CHUNK_AT), BLOCKS_PER_CHUNK, &o->op);
        return true;
    }
    p->at++;
    return false;
}

int open_chunk_take(struct store_opening *p)
{
    const uint8_t *data = p->work + block_offset(VERIFY_CHUNK_AT);
    const uint32_t *crc = batch_entry_crc(p->large_entry) + p->large_block;
    bool whole = !p->io.result;

    for (uint32_t b = 0; b < BLOCKS_PER_CHUNK && whole; b++)
        whole = crc32c(0, data + block_offset(b), BLOCK_SIZE) == crc[b];
    p->verify_again = !whole && !p->verify_again;
    if (p->verify_again)
        return 0;
    /* Likewise, but replay does not look at it. */
    p->scan.chain[p->at].chunks_unread |= p->io.result != 0;
    if (!whole && !p->io.result)
        return open_verify_cut(p);
    p->large_block += BLOCKS_PER_CHUNK;
    return 0;
}

/* Entries that brought chunks of which nobody knows whether they were written. */
static bool chunks_lost(const struct disk_batch *h, uint64_t *lost)
{
    bool any = false;
    uint32_t i = 0;

    for (const struct disk_entry *e = NULL; (e = batch_entry_next(h, e)); i++) {
        if (e->type != ENTRY_WRITE || e->copied || !e->data.chunk_count)
            continue;
        bit_set(lost, i);
        any = true;
    }
    return any;
}

static void open_replay_one(struct store_opening *p, const struct scan_header *sh, const struct disk_batch *h)
{
    struct store *s = p->s;
    uint64_t lost[BATCH_ENTRIES_MAX / 64];

    if (!batch_validate(s, h, header_phys(s, sh), sh->header_blocks) || h->seq != sh->seq) {
        store_problem(s, "log ring: batch %llu cannot be read again", (unsigned long long)sh->seq);
        replay_damage(s, NULL, 0, true);
        p->cut = true;
        return;
    }
    bool whole = payload_verify(h, lost);
    if (sh->chunks_unread)
        whole &= !chunks_lost(h, lost);
    if (!whole)
        store_problem(s, "log ring: batch %llu: data is damaged", (unsigned long long)h->seq);
    if (sh->gap)
        store_problem(s, "log ring: the batch before %llu is missing", (unsigned long long)h->seq);
    bool records = h->prev_seq >= p->replay_seq && !PLANT(STORE_RESET_FORGIVES);
    if (sh->gap)
        replay_damage(s, sh->gap_named ? batch_pgs(h) + h->pg_count : NULL, h->prev_pg_count, records);
    s->ckpt_due |= sh->gap && records;
    replay_batch(s, h, lost, h->seq >= p->replay_seq);
    s->last_seq = h->seq;
    s->last_crc = h->crc;
    s->head = h->position + h->header_blocks + h->payload_blocks;
    memcpy(s->prev_pgs, batch_pgs(h), h->pg_count * sizeof(struct disk_batch_pg));
    s->prev_pg_count = h->pg_count;
}

/* All that was read. */
void open_replay_take(struct store_opening *p)
{
    struct store *s = p->s;
    uint64_t first = header_phys(s, &p->scan.chain[p->at]);

    while (!p->cut && !s->failed && p->at < p->scan.chain_count) {
        const struct scan_header *h = &p->scan.chain[p->at];
        uint64_t phys = header_phys(s, h);
        if (phys < first || phys + h->header_blocks + h->payload_blocks > first + p->reading)
            return;
        open_replay_one(p, h, (const struct disk_batch *)(p->work + (phys - first) * BLOCK_SIZE));
        p->at++;
    }
}

/* The next block of a batch that cannot be read in one piece, so that only the entries are lost whose blocks
 * are bad. False: there are no more. */
bool open_replay_block(struct store_open *o)
{
    struct store_opening *p = o->opening;
    const struct scan_header *h = &p->scan.chain[p->at];
    uint8_t *at = p->work + p->block * BLOCK_SIZE;

    p->reading = h->header_blocks + h->payload_blocks;
    if (p->block == p->reading)
        return false;
    memset(at, 0, BLOCK_SIZE);
    io_start(p->s->blk, &p->io, &p->iov, BLK_READ, 0, p->s->g.ring_block + header_phys(p->s, h) + p->block,
             at, 1, &o->op);
    p->block++;
    return true;
}

/* What was cut off shall not count once it is whole: its chunks may get the same contents again, as a leader
 * sends the same entries again, or what is to be written over its header is lost. By then its records name
 * places that are others'. The PG table tells where the log ends, so no order is needed here. */
bool open_void_batch(struct store_open *o)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;

    while (p->at < p->scan.count && p->scan.headers[p->at].seq <= s->last_seq)
        p->at++;
    if (p->at == p->scan.count || p->read_only || PLANT(STORE_CUT_OFF_STAYS))
        return false;
    memset(p->work, 0, BLOCK_SIZE);
    io_start(s->blk, &p->io, &p->iov, BLK_WRITE, fua(s),
             s->g.ring_block + header_phys(s, &p->scan.headers[p->at++]), p->work, 1, &o->op);
    return true;
}

void open_ring_settle(struct store_opening *p)
{
    struct store *s = p->s;
    struct batch *b = list_first(&s->batches, struct batch, link);

    if (p->scan.end_gone) {
        store_problem(s, "log ring: batches up to %llu were durable, and the last of them are gone",
                      (unsigned long long)p->scan.durable_seq);
        replay_damage(s, NULL, 0, true);
    }
    if (!b)
        s->head = p->scan.max_end;
    if (scan_end_unread(s, &p->scan, s->head, s->last_seq) && !PLANT(STORE_TORN_BY_ERROR)) {
        store_problem(s, "log ring: what comes behind batch %llu cannot be read",
                      (unsigned long long)s->last_seq);
        replay_damage(s, NULL, 0, true);
    }
    s->tail = s->tail_durable = b ? b->position : s->head;
    s->tail_seq = b ? b->seq : MAX(p->scan.tail_seq, 1);
    s->shown_tail = s->tail;
    s->shown_tail_seq = s->tail_seq;
    s->durable_seq = MAX(s->last_seq, p->scan.durable_seq);
    s->content_seq = s->last_seq; /* for all that is known here */
    /* What cannot be read has numbers, too, behind those of what was torn beside it, or made void before it
     * came: nothing is left of these. A later start that can read it is not to take it for what comes. */
    uint64_t unseen = p->scan.unread_count ? p->scan.unread_count + RING_INFLIGHT_MAX : 0;
    s->next_seq = MAX(s->next_seq, MAX(p->scan.max_seq, s->durable_seq) + 1 + unseen);
    open_unborn(p);
    replay_finish(s);
}
