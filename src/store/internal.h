/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's inside: what its files share. Which file owns what:
 *
 *   device.c      the device label
 *   slice.c       geometry, superblock, format
 *   pg.c          replicas: in memory, made, changed, removed
 *   table.c       PG table: records, votes
 *   blob.c        the shard's blob
 *   log.c         entries in memory: append, get
 *   log_read.c    entries from the ring
 *   ring.c        batches to the ring (ring.h)
 *   large.c       entries that bring chunks along
 *   object.c      object index, overlay of applied blocks
 *   page.c        pages on disk and in memory (page.h)
 *   space.c       chunks, slots, reservations
 *   apply.c       entries become state; image records
 *   destage.c     when newest versions go to chunks and pages (destage.h)
 *   round*.c      which ones at once, and how they get there
 *   trim.c        tail of the ring, copying forward
 *   checkpoint.c  records of all state, in two copies
 *   scan.c        batches from the ring, at open (opening.h)
 *   replay.c      what scan finds becomes state
 *   open*.c       opening and closing
 *   split.c       objects go from one PG to a new one
 *   read.c        blocks of an object
 *   copy*.c       recovery of a replica, repair
 *   check.c       offline inspection
 *
 * How an applied block is found. Each object may have an overlay: for each block the newest applied log entry
 * that is not destaged, and `whole`, an entry that cleared everything older. A block that the overlay says
 * nothing about is as the page says. An entry counts in `holds` the overlay places that it is newest for (and
 * its image record); at 0 it has no need of its ring space any more.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include "base/crc32c.h"
#include "base/error.h"
#include "base/list.h"
#include "base/map.h"
#include "base/plant.h"
#include "store/destage.h"
#include "store/format.h"
#include "store/io.h"
#include "store/page.h"
#include "store/ring.h"
#include "store/store.h"

/* ---- limits -------------------------------------------------------------------------------------------- */

#define WORK_BUF_BYTES (2u << 20)
/* Blocks of the PG table that are formatted, or read of each copy, at once. */
#define TABLE_PIECE  (WORK_BUF_BYTES / 2 / BLOCK_SIZE)
#define SLAB_CLASSES 11u

/* Entries of one PG's log. Small ones are many in a large ring: they cost memory, and replay, which may also
 * find what was trimmed when no header had told of it yet, takes an index far from the others for damage. */
#define LOG_ENTRIES_MAX (1u << 21)
#define LOG_SPAN_MAX    (1ull << 24)
_Static_assert(LOG_SPAN_MAX >= 4ull * LOG_ENTRIES_MAX, "replay has room for what may be found twice");

/* ---- memory: free lists over blocks of the allocator, so that the data path settles without calling it ---
 */

struct slab {
    struct core *core;
    void *free[SLAB_CLASSES];
    void *regions; /* all memory taken, linked by first word */
    uint8_t *at;   /* what of the newest one no class has yet: `left` bytes */
    size_t left;
};
/* Zeroed, and on a cache line of its own from 64 bytes on; NULL when out of memory. */
void *slab_get(struct slab *slab, size_t size);
void slab_put(struct slab *slab, void *at, size_t size);
void slab_fini(struct slab *slab);

/* ---- entries, batches, PGs, objects -------------------------------------------------------------------- */

struct pg;
struct object;
struct batch;

struct log_entry {
    /* What says how far it has come and what it holds: looked at alone, long after anything else of it. */
    struct list batch_link; /* in its batch, or in the queue for the next */
    struct pg *pg;
    uint64_t index;
    uint32_t type, first_block, block_count;
    uint32_t holds;
    uint32_t pins; /* a destage round refers to it: its memory stays */
    bool in_log, applied, durable, reserved, lost, dead, queued;
    bool chunks_held;  /* counts in chunk_refs */
    bool release_late; /* being complete does not prove that its chunks are free: large.c */

    struct batch *batch;    /* NULL: not written yet, or never will be */
    struct object *obj;     /* WRITE: holds reservations there */
    struct list cache_link; /* while its payload is in memory: oldest first */
    struct slice payload;   /* empty: only in the ring */
    uint64_t position;      /* ring block of the payload, without what is in chunks of its own */
    uint32_t flags;
    uint32_t chunk_count; /* chunks of its own: one for each whole chunk of its range, or none */

    uint64_t term, prev_term;
    uint64_t image, object;
    struct list obj_link;  /* not applied: in the object's list; an IMAGE entry in the PG's */
    struct list copy_link; /* being copied forward: in the store's list, then in the new batch's */

    uint64_t copy_position; /* of the copy, until that is durable */
    uint64_t incarnation, generation;
    union {
        uint64_t size_bytes, epoch; /* as of struct entry */
    };
    uint64_t release_ticket, release_seq; /* large.c: when its chunks are free */
    uint32_t crc[];                       /* of the blocks; behind them the numbers of its chunks */
};
_Static_assert(offsetof(struct log_entry, batch) == 64, "a line of its own");

/* It is about to be looked at: how far it has come and what it holds, or (`whole`) all of it. */
static inline void entry_prefetch(const struct log_entry *e, bool whole)
{
    for (size_t at = 0; at < (whole ? sizeof(*e) : 1); at += 64)
        PREFETCH(e, at);
}

/* `record` is as applied, `saved` as replay would find it: the two move together with the PG's
 * complete_index, or an entry that is applied again after a restart would meet a record from its own future.
 */
struct image {
    struct image_record record, saved, pushed;
    struct log_entry *holder; /* set the record, or forgot it, which is not saved yet */
    uint64_t forgotten_index; /* of a FORGET that is not saved and has a successor; 0: none */
    bool is_saved, is_pushed;
};

struct overlay {
    struct list link; /* in the store's list of those that there are */
    struct object *object;
    uint64_t used[BLOCKS_PER_OBJECT / 64]; /* bit per block that has an entry */
    uint32_t count;                        /* of these, and `whole` */
    struct log_entry *whole;
    struct log_entry **block; /* of BLOCKS_PER_OBJECT, with memory of their own once one is there */
};

struct object {
    struct map_node node; /* by hash; several of one hash are chained by `same` */
    struct object *same;
    struct object *left, *right; /* in the PG's tree, by (image, number) */
    struct pg *pg;
    uint64_t image, number;
    uint64_t index; /* newest applied */
    uint64_t page_index, version;
    uint64_t lost_index;    /* of the blocks that are lost, as on the page */
    struct page_map map;    /* of the live page, or what is left of it */
    struct page_crcs *crcs; /* NULL: to be read from the slot */
    struct overlay *overlay;
    struct list unapplied;  /* entries, oldest first */
    uint64_t brought_index; /* newest entry whose chunk became the page's */
    uint32_t *pending;      /* for each chunk the entries that may need it; NULL: none */
    uint32_t pending_total;
    uint32_t slot;       /* of the live page; 0: none */
    uint8_t unreadable;  /* the device does not give the page now: as often destage has tried, or 1 */
    uint8_t left_period; /* destage's, in which it was the last to try */
    bool busy : 1;       /* a round, repair or copy is changing chunks or page */
    bool slot_reserved : 1;
    bool exists : 1;    /* has state: a page or applied entries */
    bool marks_new : 1; /* all marks of the page are of this version */
};

/* Of PGs of whole families, of others that are whole, of those that are damaged. */
enum claim_turn { CLAIM_WHOLE, CLAIM_KIN, CLAIM_DAMAGED };

struct pg {
    struct store_pg pub; /* first */
    struct list link;    /* by order of creation */
    struct map_node by_id, by_key;
    uint64_t key, order;
    uint32_t table_index;
    uint64_t record_gen;    /* of the table write that pub.record shows */
    uint64_t group_gen;     /* of the table write that has pub.record.group */
    struct log_entry **log; /* [first_index .. last_index], at index & (log_cap - 1) */
    uint32_t log_cap;
    uint64_t last_term;      /* of the newest entry, which need not be looked at for it; 0: not known */
    uint64_t complete_index; /* destaged up to here */
    uint64_t complete_term;
    uint64_t complete_durable; /* and a durable record says so */
    uint64_t complete_pushed;  /* on its way */
    uint64_t gives_back; /* the newest entry that removed or cut off objects: what the log holds of them is to
                          * go with it; 0: done */
    uint64_t destage_limit;
    uint64_t collected_index; /* no entry up to here has anything left for a round to take */
    struct object *root;
    struct image **images; /* by id */
    uint32_t image_count, image_cap;
    struct list pending_images; /* IMAGE entries not applied */
    uint64_t unapplied_bytes;
    uint64_t large_count;  /* entries of the log that hold chunks */
    uint64_t offlog_holds; /* entries with holds that are in no log */
    uint32_t busy_ops;     /* repairs and copies that hold one of its objects */
    uint64_t removals;     /* grows when objects go for good, with their image say: copies look at it */
    uint64_t batch_mark;   /* seq of the batch being built that lists it ... */
    uint32_t batch_slot;   /* ... under this number */
    /* The image entry that applies next and has very many objects to clear: how far that is. */
    uint64_t clear_index, clear_number;
    struct list clear_link; /* in store->clearing */
    /* The same of a round that is to take what such an entry cleared. */
    uint64_t collect_index, collect_number, collect_left;
    bool removing, destage_all;
    bool splitting; /* what is to leave stays as it is: pages and chunks, too */
    bool long_log;  /* counted in the store's */
    /* At a start: entries are missing, unless void; and when it claims what is its own (open_pages.c). */
    bool lacks_entries;
    enum claim_turn turn;
};

static inline struct pg *pg_of(const struct store_pg *pub)
{
    return (struct pg *)pub;
}

/* All PGs are walked: the next one is fetched meanwhile. */
static inline void pgs_ahead(const struct pg *pg)
{
    store_pg_prefetch(&list_entry(pg->link.next, const struct pg, link)->pub);
}

struct geometry {
    uint64_t slice_blocks;
    uint64_t table_block, table_blocks;
    uint64_t blob_block, blob_blocks;
    uint64_t checkpoint_block, checkpoint_blocks;
    uint64_t ring_block, ring_blocks;
    uint64_t chunk_block, chunk_count;
    uint32_t objects_max, images_max, pgs_max;
};

#define TABLE_RUN 32u /* blocks in a write */
struct table_block {
    struct disk_table_block disk; /* as it shall be */
    uint64_t gen, written_gen;    /* changes made; changes durable */
    uint64_t writing_gen;         /* that the round under way makes durable */
    bool dirty;
};

struct store {
    struct store_config config;
    struct core *core;
    struct blk *blk;
    struct geometry g;
    uint8_t format_id[FORMAT_ID_BYTES];
    struct slab slab;
    int failed;
    bool closing, read_only;
    struct op *close_waiter;
    struct store_counters counters;
    uint32_t reads_pending; /* requests of read.c at the device ... */
    uint64_t reads_ns;      /* ... of which one was answered, or the first was sent, then */
    /* Offline check: what is found wrong goes there. */
    void (*report)(void *owner, const char *text);
    void *report_owner;

    /* PGs. */
    struct list pgs;
    struct map pgs_by_id, pgs_by_key;
    uint32_t pg_count;
    uint64_t pg_order;
    struct table_block *table;
    struct op table_op;
    struct blk_io table_io;
    struct iovec table_iov;
    struct buf *table_buf;
    uint32_t table_at, table_count; /* the blocks of the round under way, or of the last one */
    struct list table_waiters;

    /* The blob. */
    void *blob;
    uint32_t blob_len;
    uint64_t blob_seq;
    int blob_copy; /* that is written next: the other one is the newest that is whole */
    bool blob_busy;

    /* The ring. */
    struct op ring_op;
    struct ring_slot slots[RING_INFLIGHT_MAX];
    uint32_t inflight_max, inflight_head, inflight_count; /* slots, oldest first */
    struct list batches;
    struct list queue; /* entries for the next batch */
    uint64_t queue_blocks;
    bool batch_put_off;          /* the next batch, to the end of the turn */
    struct list copies;          /* entries to be copied forward in the next batch */
    bool copies_held;            /* more are to come first */
    struct disk_record *records; /* a queue, to go with the next batches */
    uint32_t record_head, record_count, record_cap;
    bool records_due;                                        /* now, be there entries or not */
    uint64_t records_pushed, records_taken, records_durable; /* tickets */
    struct list ring_waits;                                  /* not reflected, in order */
    uint64_t head;                                           /* position of the next batch */
    uint64_t next_seq, last_seq;
    uint32_t last_crc;
    uint64_t durable_seq;
    uint64_t content_seq; /* the newest batch that is more than a header */
    struct timer prove;   /* a later header is due, unless prove_seq is not the newest batch any more */
    uint64_t prove_seq;
    uint64_t tail_seq, tail;             /* oldest batch kept */
    uint64_t shown_tail_seq, shown_tail; /* as the newest header says */
    uint64_t tail_durable;               /* its position as a durable header tells */
    /* Blocks that batches brought so far, in the ring or in chunks; and what was trimmed of it. */
    uint64_t volume, volume_tail;
    struct list releases; /* dropped entries whose chunks are not free yet */
    struct disk_batch_pg prev_pgs[BATCH_PGS_MAX];
    uint32_t prev_pg_count;
    struct disk_batch_pg this_pgs[BATCH_PGS_MAX];
    uint64_t unapplied_bytes;
    uint32_t log_entries_max; /* of one PG */
    uint32_t long_logs;       /* PGs whose logs have too many applied entries: the tail is to move */
    bool room_wanted;         /* an append was refused, or a batch waits, for want of ring space */
    struct list cached;
    uint64_t cache_used;

    /* Entries that clear many objects go on when this fires. */
    struct timer clear;
    struct list clearing; /* struct pg: they wait for that */
    uint64_t clear_left;  /* objects that may yet be cleared in this turn */

    /* Objects and space. */
    struct map objects;
    struct list overlays;
    uint64_t image_count;
    uint8_t *chunk_refs; /* by number, from 1 */
    uint64_t chunks_free, chunks_reserved, chunk_hint;
    uint64_t chunk_high;   /* the highest that was ever used since the slice was opened */
    uint32_t *page_chunks; /* chunks that hold pages: number, and which slots are used */
    uint16_t *page_chunk_used;
    uint32_t page_chunk_count, page_chunk_cap;
    uint64_t slots_used, slots_reserved;
    uint32_t slot_hint;

    /* The cache of pages. */
    struct page_crcs *pages;
    uint32_t pages_max, pages_touched; /* those behind were never used */
    struct list pages_used, pages_free;

    /* Checkpoints. */
    uint64_t ckpt_number[2], ckpt_replay[2]; /* of copies A and B; replay 0: not valid */
    uint64_t ckpt_last;                      /* highest number there is, of a copy that is not valid too */
    bool ckpt_due; /* a start has found that records are lost for good, or only one copy whole */

    struct destage destage;
};

static inline struct store *store_of(const struct pg *pg)
{
    return pg->pub.store;
}

/* The store takes itself out of service: everyone who waits is woken. */
void store_fail(struct store *s, int error, const char *what);
static inline uint64_t block_offset(uint64_t block)
{
    return block << BLOCK_SHIFT;
}
static inline uint64_t chunk_place(const struct store *s, uint32_t chunk, uint32_t block)
{
    return s->g.chunk_block + (uint64_t)(chunk - 1) * BLOCKS_PER_CHUNK + block % BLOCKS_PER_CHUNK;
}
static inline uint64_t slot_place(const struct store *s, uint32_t slot)
{
    return s->g.chunk_block + (uint64_t)(slot / SLOTS_PER_CHUNK - 1) * BLOCKS_PER_CHUNK +
           slot % SLOTS_PER_CHUNK;
}
static inline uint64_t ring_place(const struct store *s, uint64_t position)
{
    return s->g.ring_block + position % s->g.ring_blocks;
}
static inline bool bit_get(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}
static inline void bit_set(uint64_t *bits, uint32_t i)
{
    bits[i / 64] |= 1ull << (i % 64);
}
static inline void bit_clear(uint64_t *bits, uint32_t i)
{
    bits[i / 64] &= ~(1ull << (i % 64));
}
/* The crc32c of a struct whose crc field is at `crc_offset`, computed as if that were zero. */
uint32_t format_crc(const void *at, size_t len, size_t crc_offset);
#define FORMAT_CRC(p)    format_crc(p, sizeof(*(p)), offsetof(__typeof__(*(p)), crc))
#define FORMAT_SEAL(p)   ((p)->crc = FORMAT_CRC(p))
#define FORMAT_SEALED(p) ((p)->crc == FORMAT_CRC(p))

static inline uint32_t fua(const struct store *s)
{
    return s->blk->volatile_cache ? BLK_FUA : 0;
}

/* slice.c */
MUST_CHECK int geometry_layout(uint64_t size_bytes, uint64_t ring_bytes, struct geometry *ret);
void superblock_encode(const struct geometry *g, const struct store_config *config, const uint8_t *format_id,
                       struct disk_superblock *ret);
MUST_CHECK int superblock_decode(const struct disk_superblock *sb, uint64_t size_bytes, struct geometry *ret);

/* pg.c */
struct pg *pg_new(struct store *s, const struct disk_pg *record, uint32_t table_index);
void pg_free(struct pg *pg);
struct pg *pg_by_key(const struct store *s, uint64_t key);
struct pg *pg_by_id(const struct store *s, uint64_t id); /* of those that are not born yet, too */
/* `key` 0: a new one. NULL: no room, or no memory. */
struct pg *pg_create(struct store *s, const struct store_pg_record *r, uint64_t key,
                     enum store_pg_state state);

/* table.c */
MUST_CHECK int table_load(struct store *s, const struct disk_table_block *a, const struct disk_table_block *b,
                          uint32_t block, bool *ret_heal_a, bool *ret_heal_b);
/* At open: the record becomes what is in memory of state and split count; returns the block to be written. */
uint32_t table_set_state(struct store *s, const struct pg *pg);
/* At open: it tells how far the ring goes; returns the block to be written. */
uint32_t table_prove(struct store *s);
bool table_differs(const struct store *s, const struct pg *pg); /* it is another there */
/* At open: gone from the table; returns the block to be written. */
uint32_t table_forget(struct store *s, const struct pg *pg);
/* Of a replica's place in the table. */
struct disk_pg *table_record(struct store *s, uint32_t index);
/* The record changed: it goes out with the block's next round. Returns what written_gen will be then. */
uint64_t table_touch(struct store *s, uint32_t index);
/* False: it cannot be one. */
bool table_group_decode(const struct disk_pg *record, struct group *ret);
void table_group_encode(struct disk_pg *record, const struct group *group);
void table_start(struct store *s);
void table_wake(struct store *s); /* everyone who waits for the table or for destage looks again */
void table_group_set(struct pg *pg, const struct group *group); /* in the record, durably before long */
bool table_group_durable(const struct pg *pg);
/* In the record, durably before long; the result is what written_gen of its block will be then. */
uint64_t table_split_set(struct pg *pg);
uint64_t table_state_set(struct pg *pg, enum store_pg_state state); /* likewise */

/* split.c */
/* Does an object belong to the PG at that count? 0: any does. */
bool split_belongs(const struct pg *pg, uint32_t split_count, uint64_t image, uint64_t number);
/* It is another PG's already, and has only to leave. */
bool split_hides(const struct object *o);

/* log.c */
struct log_entry *entry_new(struct store *s, const struct entry *from, uint32_t chunk_count);
size_t entry_size(uint32_t words, uint32_t chunks);
void entry_drop(struct log_entry *e);    /* out of everything; freed unless pinned */
void entry_release(struct log_entry *e); /* one hold less */
void entry_pin(struct log_entry *e);
void entry_unpin(struct log_entry *e);
void entry_uncache(struct log_entry *e);
void entry_cache(struct log_entry *e, const struct slice *payload);
void entry_reserve(struct log_entry *e);
void entry_unreserve(struct log_entry *e);
/* Room for `count` entries from first_index on; -ERR_NO_MEMORY. */
MUST_CHECK int log_reserve(struct pg *pg, uint64_t count);
MUST_CHECK int log_put(struct pg *pg, struct log_entry *e); /* at last_index + 1 */
struct log_entry *log_at(const struct pg *pg, uint64_t index);
/* Of an entry that is LOG_AHEAD in front of the one looked at now, by who goes through the log. */
#define LOG_AHEAD 4u
void log_prefetch(const struct pg *pg, uint64_t index, bool whole);
void log_truncate(struct pg *pg, uint64_t index); /* drops [index, last] */
void log_trim(struct pg *pg, uint64_t first);     /* drops what is below */
void log_measure(struct pg *pg); /* after applied entries came or went: is the log a long one? */
void cache_evict(struct store *s);
/* Gives back the oldest eighth of it, though it is within its limit. */
void cache_relieve(struct store *s);
static inline uint32_t entry_blocks(const struct log_entry *e)
{
    return e->type == ENTRY_WRITE ? e->block_count : 0;
}
/* Numbers behind it, in `crc`. */
static inline uint32_t entry_words(const struct log_entry *e)
{
    return e->type == ENTRY_WRITE || e->type == ENTRY_GROUP || e->type == ENTRY_SPLIT ? e->block_count : 0;
}
/* About an image and not about an object. */
static inline bool entry_is_image(uint32_t type)
{
    return type == ENTRY_IMAGE || type == ENTRY_FORGET;
}
static inline uint32_t entry_large_blocks(const struct log_entry *e)
{
    return e->chunk_count * BLOCKS_PER_CHUNK;
}
/* What of its payload is in the ring. */
static inline uint32_t entry_ring_blocks(const struct log_entry *e)
{
    return entry_blocks(e) - entry_large_blocks(e);
}
static inline uint32_t *entry_chunks(struct log_entry *e)
{
    return e->crc + e->block_count;
}
/* A PG's share of the ring: chunks count as if they were there, so that they are bounded, too. */
static inline uint64_t entry_ring_bytes(const struct log_entry *e)
{
    return (uint64_t)(entry_blocks(e)) * BLOCK_SIZE + sizeof(struct disk_entry) + 4ull * entry_words(e);
}
static inline void entry_export(const struct log_entry *e, struct entry *ret)
{
    *ret = (struct entry){.index = e->index,
                          .term = e->term,
                          .type = e->type,
                          .flags = e->flags,
                          .image = e->image,
                          .object = e->object,
                          .first_block = e->first_block,
                          .block_count = e->block_count,
                          .incarnation = e->incarnation,
                          .generation = e->generation,
                          .size_bytes = e->size_bytes,
                          .crc = e->crc};
}

/* large.c */
uint32_t large_chunks_wanted(const struct store *s, const struct entry *entry);
void large_take(struct store *s, struct log_entry *e); /* gives the entry its chunks, or none */
void large_drop(struct log_entry *e);                  /* the entry is out of the log */
void large_release(struct store *s, struct log_entry *e);
void large_settle(struct store *s, uint64_t seq, uint64_t proven_seq);
bool large_unproven(const struct store *s);
void large_relieve(struct store *s);
void large_give_back(struct pg *pg); /* when its gives_back is complete */
bool large_space_low(const struct store *s);
void large_claim(struct store *s, enum claim_turn turn);
uint32_t large_chunk(const struct log_entry *e, uint32_t chunk);
uint64_t entry_place(const struct store *s, const struct log_entry *e, uint32_t i);
uint32_t entry_run(const struct store *s, const struct log_entry *e, uint32_t i, uint32_t count);
uint32_t entry_runs(const struct log_entry *e);
uint32_t entry_head(const struct log_entry *e);

/* object.c */
struct object *object_find(const struct pg *pg, uint64_t image, uint64_t number);
struct object *object_get(struct pg *pg, uint64_t image,
                          uint64_t number); /* made if absent; NULL: no memory */
void object_settle(struct object *o);       /* frees it if nothing is left of it */
void object_free(struct object *o);
struct object *object_after(const struct pg *pg, bool start, uint64_t image, uint64_t number);
void object_move(struct object *o, struct pg *to); /* as it is */
void object_set_exists(struct object *o, bool exists);
/* Is there anything of it for an entry to clear? It exists, or a copy is about to take its place. */
static inline bool object_takes(const struct object *o)
{
    return o->exists || (o->busy && !PLANT(STORE_COPY_UNCLEARED));
}
MUST_CHECK int overlay_need(struct object *o); /* for the object as a whole; or for blocks, too: */
MUST_CHECK int overlay_need_blocks(struct object *o);
void overlay_put(struct object *o, uint32_t block, struct log_entry *e);
void overlay_put_whole(struct object *o, struct log_entry *e);
void overlay_take(struct object *o, uint32_t block); /* releases */
void overlay_take_whole(struct object *o);
void overlay_settle(struct object *o);

/* The first block from there on that has an entry, or BLOCKS_PER_OBJECT. Few of them have. */
static inline uint32_t overlay_next(const struct overlay *overlay, uint32_t from)
{
    for (uint32_t i = from / 64; i < BLOCKS_PER_OBJECT / 64; i++, from = 64 * i) {
        uint64_t bits = overlay->used[i] & ~0ull << from % 64;
        if (bits)
            return 64 * i + (uint32_t)__builtin_ctzll(bits);
    }
    return BLOCKS_PER_OBJECT;
}
#define overlay_for_each(overlay, b)                                                                         \
    for (uint32_t b = overlay_next(overlay, 0); b < BLOCKS_PER_OBJECT; b = overlay_next(overlay, b + 1))

static inline uint32_t object_chunk(const struct object *o, uint32_t chunk)
{
    return page_map_get(&o->map, chunk).number;
}

enum where_source { WHERE_ZERO, WHERE_MEMORY, WHERE_RING, WHERE_CHUNK, WHERE_LOST };
struct where {
    enum where_source source;
    uint64_t place; /* block of the slice: RING, CHUNK */
    uint32_t crc;
    const struct log_entry *entry; /* MEMORY, RING; CHUNK: it brought it; NULL: it is as the page says */
    bool written;
    bool crc_known; /* CHUNK: if not, the page must be read first */
};
struct where object_where(const struct object *o, uint32_t block, bool proposed);
/* Nothing can be told of the block's content now: it is lost, or its checksum is on a page that the device
 * does not give. Another replica has it. */
static inline bool object_lacks_block(const struct object *o, uint32_t block)
{
    struct where w = object_where(o, block, false);

    return w.source == WHERE_LOST || (o->unreadable && w.source == WHERE_CHUNK && !w.crc_known);
}

/* space.c */
MUST_CHECK int space_init(struct store *s);
void space_fini(struct store *s);
uint32_t chunk_alloc(struct store *s);                       /* 0: none */
void chunk_ref(struct store *s, uint32_t chunk);             /* one reference more */
void chunk_free(struct store *s, uint32_t chunk);            /* one less */
MUST_CHECK int chunk_claim(struct store *s, uint32_t chunk); /* at open: ERR_CONFLICT if it is taken */
uint32_t slot_alloc(struct store *s);                        /* 0: none */
void slot_free(struct store *s, uint32_t slot);
MUST_CHECK int slot_claim(struct store *s, uint32_t slot);
int64_t space_available(const struct store *s); /* chunks that nobody uses or may need */
/* Slots that objects without one may yet get, beyond those that are used or reserved: a checkpoint has room
 * for so many objects only. One whose entries wait for destage has a reservation, or a slot, never both. */
uint64_t space_slots_left(const struct store *s);
bool space_spare(struct store *s); /* there is one, be it at the cost of the log's past */
void space_hold(struct object *o, uint32_t chunk);
void space_unhold(struct object *o, uint32_t chunk);
/* Before an entry that reserves: room to count it. ERR_NO_MEMORY. */
MUST_CHECK int space_need(struct object *o);
void space_slot_settle(struct object *o); /* a slot is reserved for it as long as it is to get one */
/* The object's page becomes another (NULL: none): chunks that the new one lacks are freed, reservations
 * follow. Takes over the map's memory. */
void space_switch(struct object *o, const struct page_map *map, uint32_t slot);
MUST_CHECK int space_admit(const struct pg *pg, const struct entry *entry);

/* apply.c */
/* Blocks of an image of that size; which may be any number. */
static inline uint64_t image_end(uint64_t size_bytes)
{
    return size_bytes / BLOCK_SIZE + (size_bytes % BLOCK_SIZE != 0);
}
void entry_apply(struct log_entry *e);
/* Of the first one in pg->images with that id or a higher one. */
uint32_t image_place(const struct pg *pg, uint64_t id);
struct image *image_slot(const struct pg *pg, uint64_t id); /* also when it is being forgotten */
struct image *image_find(const struct pg *pg, uint64_t id);
/* What the image's record is, in memory; counts it. */
void image_set(struct pg *pg, struct image *image, const struct image_record *record);
void image_free(struct pg *pg, struct image *image); /* its place in pg->images is the caller's */
MUST_CHECK int image_put(struct pg *pg, const struct image_record *record, struct log_entry *holder);
/* The log goes, and with it what would have been the occasion to save the records that it holds. */
void images_save(struct pg *pg);
/* Would image_put() take it? */
bool image_takes(const struct pg *pg, const struct image_record *record);
struct image_record image_of_entry(const struct log_entry *e);
struct disk_record image_encode(const struct pg *pg, const struct image_record *r);
MUST_CHECK int image_decode(const struct disk_record *r, struct image_record *ret);
struct log_entry *entry_synthetic(struct pg *pg, const struct image_record *record);
void object_out_of_memory(struct object *o); /* the store fails */

/* clear.c */
void object_clear(struct object *o, uint32_t first, struct log_entry *e); /* its blocks from there on */
/* The record's effect on the objects that are here: `e` stands for it in their overlays. With `whole_only`
 * the object that the image's end cuts through is left alone: in recovery its blocks below the end may be
 * old, and it must not look as new as the record. */
void image_enforce(struct pg *pg, const struct image_record *r, struct log_entry *e, bool whole_only);
/* The same of an image's entry that is to be applied, a part of it in each turn. True: it may be now. */
MUST_CHECK bool clear_ahead(struct log_entry *e);
void clear_go_on(struct store *s);

/* open.c */
void store_free(struct store *s);
void store_problem(struct store *s, const char *format, ...) PRINTF_LIKE(2, 3);
void store_open_read_only(struct store_open *o, const struct store_config *config, struct op *parent,
                          void (*report)(void *owner, const char *text), void *owner);

#endif
