/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's inside: from the log to chunks and pages, and the tail of the ring (destage.c, round*.c,
 * trim.c, checkpoint.c).
 */
#ifndef STORE_DESTAGE_H
#define STORE_DESTAGE_H

#include "rt/core.h"
#include "store/io.h"
#include "store/page.h"
#include "store/ring.h"

/* Of a round, which is taken and given back in one step each: that may not keep requests waiting for long. */
#define DESTAGE_OBJECTS_MAX 16u
#define DESTAGE_BLOCKS_MAX  1024u /* at least one object fits */
/* Requests at once: so few that a write to the log does not have to stand behind many; but a device that
 * takes long for each is slow for another reason, and would never keep up with the log. */
#define DESTAGE_IOS     8u
#define DESTAGE_IOS_MAX 32u
/* Pace: so many blocks are written each such time though the log does not grow, and rounds that nobody
 * hurries end with the object that makes it so many blocks. Rounds that have not come to an end while the log
 * grew by such a part of what is kept are late. */
#define DESTAGE_TICK_NS     NS_PER_MS
#define DESTAGE_TICK_BLOCKS 32u
#define DESTAGE_CALM_BLOCKS 256u
#define DESTAGE_LATE_PART   16u
#define DESTAGE_SLOW_NS     (4 * NS_PER_MS)
#define TRIM_ENTRIES_MAX    64u /* that leave the ring in one step */
#define DESTAGE_READBACK_MAX                                                                                 \
    (BLOCKS_PER_OBJECT) /* blocks of a round that are not in memory: fit the work buffer */

struct log_entry;
struct object;
struct overlay;
struct pg;
struct store;

struct destage_block {
    uint64_t place; /* block of the slice */
    const struct object *object;
    struct log_entry *entry; /* NULL: it moves, from the chunk that the object has had */
    const uint32_t *crc;     /* known when the old page is */
    uint32_t block;          /* of the object */
    uint8_t *data;           /* NULL: must be read back ... */
    uint8_t *again;          /* ... once more, to there */
};

struct destage_object {
    struct object *object;
    struct page_mem *page; /* the new one */
    struct page_map map;   /* what will stay of it */
    struct overlay *snap;
    uint32_t new_slot;
    uint64_t index, version;
    bool drop;
    bool load, load_failed; /* the old page is to be read; it did not verify once */
    bool unreadable;        /* and cannot be, now */
};

struct destage {
    struct op op;
    struct scatter io;
    struct scatter_io ios[DESTAGE_IOS_MAX];
    struct buf *work; /* data read back, pages, checkpoint blocks */
    struct destage_object objects[DESTAGE_OBJECTS_MAX];
    uint32_t object_count;
    struct destage_block *blocks;
    uint32_t block_count, readback_count, next;
    bool readback_again;   /* some of these blocks are to be read once more */
    struct overlay *snaps; /* DESTAGE_OBJECTS_MAX of them, and of these: */
    struct page_mem *pages;
    struct log_entry **snap_blocks; /* of all snaps */
    struct ring_wait wait;
    struct buf *copy_buf;
    struct iovec copy_iov;
    struct blk_io copy_io;
    uint32_t copy_done; /* blocks that were asked for */
    bool copy_again;    /* for the second time */
    struct blk_io flush;
    struct iovec flush_iov;
    struct log_entry *reading; /* pinned: its payload is being read to be copied forward */
    struct batch *scan;        /* batches before it have told their PGs how far to destage; NULL: all have */
    bool more;                 /* the round was full: it took some, and there are more */
    uint64_t first_order;      /* of the PG to begin with */
    bool starved;              /* it could take none, for want of memory or chunks */
    bool held;                 /* an object waits until the log lets go of its chunks */
    bool asked;                /* for more than the round under way knows of */
    bool told;                 /* a PG what to destage, since none had anything left */
    bool hurry;                /* somebody waits: no pace, until nothing is left */
    bool late;                 /* rounds have not come to an end for long: likewise, and they are large */
    uint64_t paced;            /* position of the log up to which its growth has been written for */
    uint64_t since;            /* the target when rounds began to follow each other */
    uint64_t unpushed;         /* blocks taken since PGs were asked how far they are complete */
    struct timer tick;
    /* Objects whose page could not be read are left alone until the period ends in which that was tried: then
     * all of them are tried again, each once in a period. */
    uint64_t unreadable_ns; /* end of this one; 0: none was left */
    uint8_t period;         /* its number, which may come again: an object then waits for one more */
    bool active;            /* a round is under way: PGs may not go */
    bool waiting;           /* of ring_wait */
    bool trimming;          /* the tail is to move on until enough is free */
    /* The checkpoint under way. */
    uint64_t ckpt_number, ckpt_replay_seq, ckpt_records, ckpt_blocks;
    uint32_t ckpt_filled;             /* of its blocks: in the work buffer, and not written yet */
    uint32_t ckpt_crc;                /* of the checksums of its blocks */
    uint64_t ckpt_pg_order;           /* of the PG whose records come next */
    uint64_t ckpt_pg_key;             /* of the one whose came last */
    uint32_t ckpt_phase;              /* its own record, its images, its objects */
    bool ckpt_first;                  /* none of this phase has come yet */
    uint64_t ckpt_image, ckpt_object; /* what came last */
    struct timer retry;
};

/* destage.c, round*.c, trim.c, checkpoint.c */
MUST_CHECK int destage_init(struct store *s);
void destage_fini(struct store *s);
void destage_start(struct store *s);
void destage_wake(struct store *s);
/* The same, but only if there is something to do. */
void destage_batch_durable(struct store *s);
/* What rounds are to take of the PG: all up to this entry, which is applied, or all that is applied. */
void destage_raise(struct pg *pg, uint64_t index);
void destage_tell_all(struct pg *pg);
/* Wants the PG destaged up to this entry soon, whatever room there is. */
void destage_up_to(struct pg *pg, uint64_t index);
/* Wants everything of it destaged that is applied. Does not wake destage twice for that: who waits for its
 * end asks again whenever destage rests. */
void destage_pg(struct pg *pg);
bool destage_wanted(const struct store *s);
/* May the next blocks be written now? If not, the op is woken when they may. */
bool destage_pace(struct store *s);
/* For the records that were pushed, which go with the next entries. */
void destage_records_wait(struct store *s);

void round_period_end(struct store *s);  /* if it is over: what was left is taken again */
void round_collect(struct store *s);     /* takes objects for a round; which may be none */
bool round_load(struct store *s);        /* old pages that are not in memory; true: all are here */
bool round_readback(struct store *s);    /* payloads that are only in the ring; true: all are here */
void round_sort(struct store *s);        /* blocks in the order of the device */
bool round_write_data(struct store *s);  /* true: all done, or failed: io.error */
bool round_write_pages(struct store *s); /* likewise */
void round_push_slots(struct store *s);  /* `wait` tells when the records are durable */
void round_page_known(const struct destage_object *r); /* the old page's checksums are in memory */
void round_page_lost(struct store *s, struct destage_object *r);
void round_leave(struct store *s); /* objects whose pages cannot be read, to a later round */
void round_commit(struct store *s);
void round_abandon(struct store *s); /* gives back what a round holds that was interrupted */
enum trim_result { TRIM_DONE, TRIM_MORE, TRIM_DESTAGE, TRIM_COPY_READ, TRIM_CHECKPOINT, TRIM_WAIT };
bool trim_wanted(const struct store *s);
enum trim_result trim_step(struct store *s);
/* The payload of `reading`, which is to be copied forward. */
MUST_CHECK bool copy_read_start(struct store *s);
MUST_CHECK bool copy_read_next(struct store *s);  /* the next piece; false: all is here, or cannot be read */
MUST_CHECK bool copy_read_again(struct store *s); /* once, if what came is not the payload */
void copy_read_end(struct store *s);
void trim_release(struct store *s, bool release); /* what is to be copied may go, or is held for more */
bool applied_push(struct store *s); /* records of how far PGs are complete; false: nothing new */
void applied_durable(struct store *s);
uint64_t destage_target(const struct store *s); /* position: what lies below is to be destaged */
void checkpoint_begin(struct store *s);
uint32_t checkpoint_fill(struct store *s, struct disk_checkpoint_block *blocks, uint32_t max);
void checkpoint_header(struct store *s, struct disk_checkpoint *ret);
uint64_t checkpoint_place(const struct store *s);
void checkpoint_done(struct store *s);

#endif
