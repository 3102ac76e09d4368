/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's inside: batches on their way to the log ring (ring.c).
 */
#ifndef STORE_RING_H
#define STORE_RING_H

#include "base/list.h"
#include "rt/blk.h"
#include "rt/op.h"
#include "store/format.h"

#define RING_INFLIGHT_MAX 4u
#define LARGE_RUNS_MAX    32u /* pieces of chunks in one batch; an entry of the largest size fits */

struct store;

struct batch {
    struct list link; /* in the store's list, oldest first */
    struct list entries, copies;
    uint64_t seq, position, end; /* end: the position after it */
    uint64_t volume_end;         /* the store's volume after it */
    uint32_t record_count;
    bool durable;
};

/* Someone who waits until the records pushed so far are durable. `seq` is that of the first batch that took
 * one: until `reflected`, a checkpoint must not claim it. */
struct ring_wait {
    struct list link;
    struct op *op;
    uint64_t ticket; /* number of the last record */
    uint64_t seq;
    bool done;
};

struct ring_slot {
    struct blk_io io;
    struct batch *batch;
    struct buf *header;
    struct iovec iov[BLK_IOV_MAX];
    struct buf *held[BLK_IOV_MAX];
    uint32_t iov_count;
    /* Chunks that its entries bring along: pieces that follow each other on the device are one request. */
    struct blk_io large_io[LARGE_RUNS_MAX];
    struct iovec large_iov[LARGE_RUNS_MAX];
    struct buf *large_held[LARGE_RUNS_MAX];
    uint32_t large_ios, large_iovs;
    uint64_t proven_seq;  /* its header proves batches up to this one */
    uint64_t records_end; /* tickets up to here are in this or an earlier batch */
    uint64_t tail_seq, tail_position;
    bool busy, complete;
};

/* ring.c */
MUST_CHECK int ring_init(struct store *s);
void ring_start(struct store *s);
/* Joins the next batch; which is made for it at once, or (`later`) once there are entries or someone hurries:
 * a header is not worth much less than a block. */
void ring_record(struct store *s, const struct disk_record *record);
void ring_record_later(struct store *s, const struct disk_record *record);
void ring_hurry(struct store *s);
void ring_wait(struct store *s, struct ring_wait *w, struct op *op); /* for all records so far */
void ring_wait_more(struct store *s, struct ring_wait *w); /* and for those that were pushed since */
void ring_reflected(struct ring_wait *w);
uint64_t ring_usable(const struct store *s); /* blocks that entries may take */
uint64_t ring_used(const struct store *s);
uint64_t ring_held(const struct store *s); /* blocks between tail and head, or their volume */
/* Half of what entries leave is used up: the rest is for what moves the tail. */
bool ring_short(const struct store *s);
uint64_t ring_replay_seq(const struct store *s);
struct batch *batch_new(struct store *s, uint64_t seq, uint64_t position, uint64_t end);

#endif
