/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of opening a slice share: scan.c and replay.c (batches become state), open.c (the op),
 * open_load.c (superblock, PG table, blob, checkpoint), open_ring.c (log ring), open_pages.c (object pages).
 */
#ifndef STORE_OPENING_H
#define STORE_OPENING_H

#include "store/internal.h"

#define WORK_BLOCKS (WORK_BUF_BYTES / BLOCK_SIZE)

/* scan.c, replay.c: parts of opening */
#define BATCH_ENTRIES_MAX (BATCH_HEADER_BLOCKS_MAX * BLOCK_SIZE / sizeof(struct disk_entry))
struct scan_header {
    uint64_t seq, prev_seq, position, durable_seq, tail_seq;
    uint32_t crc, prev_crc, header_blocks, payload_blocks;
    bool gap;           /* what was before it is missing, though it was durable ... */
    bool gap_named;     /* ... and was just the one batch whose PGs this one names */
    bool cut_off;       /* does not count: an earlier recovery ended before it */
    bool chunks_unread; /* it is not known to have been durable, nor whether what its entries brought is */
};
/* A block that the device does not give, or one where a header begins that goes on in such a block. */
struct scan_unread {
    uint64_t phys;
    uint64_t seq; /* of that header; UINT64_MAX: it may be any */
};
struct scan {
    struct scan_header *headers; /* valid ones; by number once scan_chain was called */
    struct scan_header *chain;   /* those that count, in order */
    uint64_t count, cap, chain_count;
    uint64_t max_seq, max_end;
    uint64_t durable_seq, tail_seq, end_seq;
    bool end_gone; /* what came last was durable and is missing */
    struct scan_unread *unread;
    uint64_t unread_count, unread_cap;
};
/* Notes the headers in `blocks` blocks of the ring from `phys` on; returns how many blocks are through with.
 * ERR_NO_MEMORY. */
MUST_CHECK int scan_window(struct store *s, struct scan *scan, const uint8_t *data, uint64_t phys,
                           uint32_t blocks, uint32_t *ret_done);
/* The device does not give this block of the ring, or what belongs to it. ERR_NO_MEMORY. */
MUST_CHECK int scan_unread(struct scan *scan, uint64_t phys, uint64_t seq);
/* The chain of batches up to `end_seq` at most. ERR_NO_MEMORY. */
MUST_CHECK int scan_chain(struct scan *scan, uint64_t end_seq);
/* May there be a batch behind the last one, number `seq`, which ends at `end`, that cannot be read? */
bool scan_end_unread(const struct store *s, const struct scan *scan, uint64_t end, uint64_t seq);
bool batch_validate(const struct store *s, const struct disk_batch *h, uint64_t phys, uint64_t blocks_there);
const struct disk_batch_pg *batch_pgs(const struct disk_batch *h);
/* The entries one after the other: NULL starts, NULL ends. The batch is valid. */
const struct disk_entry *batch_entry_next(const struct disk_batch *h, const struct disk_entry *after);
const uint32_t *batch_entry_crc(const struct disk_entry *e);
/* The chunk that has block b of a WRITE entry; 0: it is payload of the batch. */
uint32_t batch_entry_chunk(const struct disk_entry *e, uint32_t b);
uint32_t batch_large_blocks(const struct disk_batch *h);
const struct disk_record *batch_records(const struct disk_batch *h);
/* `seq`: of its batch; 0: it is of a checkpoint. */
void replay_record(struct store *s, const struct disk_record *r, uint64_t seq);
/* `lost`: bit per entry whose payload does not verify. */
void replay_batch(struct store *s, const struct disk_batch *h, const uint64_t *lost, bool with_records);
/* What batches said of these PGs is missing (NULL: of all). Without `records` it is in the checkpoint, or a
 * start before that had no more: only entries may be missing then, which a RESET behind them voids. */
void replay_damage(struct store *s, const struct disk_batch_pg *pgs, uint32_t count, bool records);
void replay_split(struct store *s, const struct disk_record *r, uint64_t seq); /* split.c */
void replay_drop_from(struct pg *pg, uint64_t index); /* entries of a log that is not settled yet */
void replay_finish(struct store *s);
/* Opening fails: slots that records named may not have been claimed, and are not to be given back. */
void replay_abandon(struct store *s);

enum open_page { OPEN_PAGE_WANTED, OPEN_PAGE_HERE, OPEN_PAGE_LOST };
struct open_slot {
    struct object *object;
    uint32_t slot;
    enum open_page page;
    int error; /* of the last time that it was read: ERR_IO, or what is wrong with it */
};

struct store_opening {
    struct store *s;
    struct store_config config;
    void (*report)(void *owner, const char *text);
    void *report_owner;
    bool read_only;
    uint8_t *work;
    struct blk_io io;
    struct iovec iov;
    /* Superblock. */
    int super_error;
    bool have_super;
    struct disk_superblock super;
    uint32_t super_heal; /* 1: copy A, 2: copy B */
    /* Table. */
    uint8_t *heal; /* per block: 1: copy A, 2: copy B */
    uint32_t heal_at;
    uint32_t table_at;
    uint64_t table_proven; /* it tells that the ring goes so far */
    uint32_t
        table_single; /* up to there block by block: one of a piece cannot be read, in one of the copies */
    /* Blob. */
    struct disk_blob_header blobs[2];
    bool blob_ok[2];
    bool blob_again; /* what was read did not come, or not as it was written, once */
    int blob_copy;
    uint32_t blob_done;
    void *blob_data;
    /* Checkpoint. */
    struct disk_checkpoint ckpt[2];
    bool ckpt_ok[2];
    uint32_t ckpt_void; /* 1: copy A, 2: copy B: it must not count at a later start */
    int ckpt_copy;
    uint64_t ckpt_done, ckpt_reading;
    uint32_t ckpt_crc; /* of the checksums of those that are done */
    uint64_t replay_seq;
    /* Ring. */
    struct scan scan;
    uint64_t at, reading;
    uint64_t block;                       /* of a batch that is read block by block */
    const struct disk_entry *large_entry; /* whose chunks are verified: in the work buffer */
    uint32_t large_block;
    bool verify_again; /* what was read to verify did not come, or not as it was written, once */
    bool cut;
    /* Pages. */
    enum claim_turn turn;
    struct open_slot *slots;
    uint64_t slot_count, slot_next, slots_all; /* of all turns */
    struct scatter pages;
    struct scatter_io page_ios[SCATTER_IOS];
    uint32_t page_rounds;
    bool pages_missing; /* in this round */
    struct timer retry;
};

void open_read(struct store_open *o, uint64_t block, uint64_t blocks);
int open_superblock(struct store_opening *p, int copy);
int open_prepare(struct store_opening *p);
/* The next piece of copy A of the PG table, into the first half of the work buffer, or of copy B into the
 * other one; what came of it, and false: it could not be read as a whole, and is to be read block by block,
 * both copies; takes in what was read of both. */
void open_table_read(struct store_open *o, int copy);
MUST_CHECK bool open_table_came(struct store_opening *p, int copy);
int open_table(struct store_opening *p);
bool open_heal(struct store_open *o);
void open_damage(struct store_opening *p);
MUST_CHECK bool open_blob_header(struct store_opening *p, int copy); /* false: read it once more */
bool open_blob_choose(struct store_opening *p);
void open_blob_read(struct store_open *o);
bool open_blob_take(struct store_opening *p);
void open_ckpt_header(struct store_opening *p, int copy);
bool open_ckpt_choose(struct store_opening *p);
bool open_ckpt_read(struct store_open *o);
bool open_ckpt_verify(struct store_opening *p, bool load);
bool open_scan_read(struct store_open *o);
int open_scan_take(struct store_opening *p);
bool open_verify_read(struct store_open *o);
int open_verify_take(struct store_opening *p);
bool open_chunk_read(struct store_open *o);
int open_chunk_take(struct store_opening *p);
bool open_replay_read(struct store_open *o);
void open_replay_take(struct store_opening *p);
bool open_replay_block(struct store_open *o);
void open_ring_settle(struct store_opening *p);
bool open_void_batch(struct store_open *o); /* false: no more */
void open_unborn(struct store_opening *p);
int open_slots(struct store_opening *p);
int open_pages(struct store_opening *p);    /* 1: not yet */
bool open_lost_write(struct store_open *o); /* false: no more */

#endif
