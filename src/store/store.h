/* SPDX-License-Identifier: Apache-2.0
 *
 * store: a shard's slice of a device: log ring, objects, recovery after a crash. May include: base rt.
 *
 * The store holds the replicas of placement groups (PGs). For each it keeps a record (identity, term, vote),
 * a log of entries and the state that applying them made: objects and image records. The way of a write:
 *
 *     store_append()   the entry joins the next batch of the log ring; pg->durable_index passes it when the
 * batch is on media store_apply()    it is committed: its blocks are now the object's newest version, in
 * memory destage          later, by itself: newest versions go to chunks, then pages, then the ring's tail
 * moves on
 *
 * Nothing here knows Raft's rules: the host says what is committed. Layout and formats: store/format.h,
 * docs/format/store.md.
 *
 * A failed log write or flush, or a failed write of a chunk or page, is never retried as if nothing had
 * happened: `failed` is set, every waiter is woken, and every call answers ERR_STOPPED from then on.
 *
 * All by the core's thread. Calls that wait are ops, embedded in the caller's op as children.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/base.h"
#include "base/content_hash.h"
#include "base/entry.h"
#include "base/group.h"
#include "base/histogram.h"
#include "rt/blk.h"
#include "rt/buf.h"
#include "rt/core.h"

struct store;

/* ---- the device: label and slices (store/device.c)
 * ----------------------------------------------------------------- */

#define DEVICE_SLICES_MAX 64
#define DEVICE_SLICE_MIN  (192ull << 20) /* smallest slice that can be formatted */

/* Written at format time in two copies at the start of the device; the start counter rises at each start. */
struct device_label {
    uint8_t cluster[16];
    uint8_t osd_uuid[16];
    uint32_t osd;
    uint32_t slice_count;
    uint64_t slice_offset[DEVICE_SLICES_MAX]; /* bytes, CHUNK_SIZE aligned */
    uint64_t slice_size;
    uint64_t start_counter;
    uint64_t start_token; /* random, of this start; chosen by the program, not on the device */
};

/* Fills in the geometry for a device of `size_bytes`; ERR_TOO_SMALL. */
MUST_CHECK int device_layout(uint64_t size_bytes, uint32_t slice_count, struct device_label *label);

/* Reads the label: the newer valid copy of the two. ERR_FORMAT, ERR_VERSION, ERR_IO. */
struct device_read {
    struct op op;
    struct blk *blk;
    struct device_label ret_label;
    /* Private. */
    struct blk_io io;
    struct iovec iov;
    struct buf *buf;
    int error;
};
void device_read_start(struct device_read *r, struct core *core, struct blk *blk, struct op *parent);

/* Writes the label durably (the older copy first). At start: with start_counter + 1, before anything else. */
struct device_write {
    struct op op;
    struct blk *blk;
    struct device_label label;
    /* Private. */
    struct blk_io io;
    struct iovec iov;
    struct buf *buf;
    int copy;
};
void device_write_start(struct device_write *w, struct core *core, struct blk *blk,
                        const struct device_label *label, struct op *parent);

/* ---- a slice
 * ------------------------------------------------------------------------------------------------------- */

struct store_config {
    struct core *core;
    struct blk *blk;      /* the slice: a window that starts at 0 */
    uint8_t osd_uuid[16]; /* must be what the slice was formatted with */
    uint32_t slice;       /* its number */
    uint64_t
        cache_bytes;  /* payload kept in memory; past it destage runs and data is read back from the ring */
    uint32_t pgs_max; /* at most STORE_PGS_MAX */
    uint32_t large_chunks_min; /* writes of so many whole chunks go to chunks of their own; 0: the default */
    uint32_t pages_max;        /* object pages kept in memory; 0: as many as fit a quarter of cache_bytes */
};

#define STORE_PGS_MAX       16384
#define STORE_PGS_MAX_SMALL 4096 /* of a slice of less than 512 MiB */

/* Formats a slice: superblock copies, empty tables, ring marked empty. Old contents cannot be taken for new
 * ones: the slice gets a fresh random format id that every structure carries. */
struct store_format {
    struct op op;
    struct store_config config;
    uint64_t ring_bytes; /* 0: chosen by size (1/8 of the slice, 64 MiB to 4 GiB) */
    /* Private. */
    struct blk_io io;
    struct iovec iov;
    struct buf *buf;
    uint8_t format_id[16];
    uint32_t table_at;
};
void store_format_start(struct store_format *f, const struct store_config *config, uint64_t ring_bytes,
                        struct op *parent);

/* Opens a slice: finds the newest valid checkpoint, reads live pages, scans the ring, rebuilds allocation. */
struct store_opening;
struct store_open {
    struct op op;
    struct store_config config;
    struct store *ret_store;
    /* Private. */
    struct store_opening *opening; /* private */
};
void store_open_start(struct store_open *o, const struct store_config *config, struct op *parent);

/* Orderly end: waits for its own I/O under way. The store is freed when the op is done. Without it (crash)
 * nothing acknowledged is lost. */
struct store_close {
    struct op op;
    struct store *store;
};
void store_close_start(struct store_close *c, struct store *store, struct op *parent);

struct ring_wait;
struct store_waiter { /* private */
    struct list link;
    struct op *op;
};

int store_failed(const struct store *store); /* 0, or the error that stopped it */

struct store_space {
    uint64_t total_bytes; /* chunks */
    uint64_t used_bytes;
    uint64_t free_bytes;   /* neither used nor reserved by entries in the log; no more than places for objects */
    uint32_t free_records; /* of images */
};
struct store_space store_space(const struct store *store);

/* A blob that belongs to the shard: the last cluster map. At most STORE_BLOB_MAX; two copies, durable when
 * done. */
#define STORE_BLOB_MAX (4u << 20)
struct store_blob_write {
    struct op op;
    struct store *store;
    const void *data; /* the caller's until done */
    uint32_t len;
    /* Private. */
    struct blk_io io;
    struct iovec iov;
    struct buf *buf;
    uint32_t sent;
    struct store_waiter waiter;
};
void store_blob_write_start(struct store_blob_write *w, struct store *store, const void *data, uint32_t len,
                            struct op *parent);
/* As read at open; NULL if none was ever written. */
const void *store_blob(const struct store *store, uint32_t *ret_len);

/* ---- PG replicas
 * --------------------------------------------------------------------------------------------------- */

enum store_pg_state {
    STORE_PG_NORMAL = 0,
    STORE_PG_RECOVERING =
        1, /* objects are being copied from another replica: what is here is not a state of any index */
    STORE_PG_DAMAGED =
        2, /* the same, and the log may lack entries that this replica acknowledged: it must not vote */
    STORE_PG_UNBORN = 3, /* the store's own: it is being split off another PG here; nobody else meets one */
};

/* What is durable of a replica outside the ring. */
struct store_pg_record {
    uint64_t pg;      /* pool id << 32 | number */
    uint32_t replica; /* replica number */
    uint32_t vote;
    uint64_t term;
    uint64_t birth; /* epoch of the order that created it */
    enum store_pg_state state;
    /* The log begins above this index. Set by the host only when a recovery ends; the store raises it when it
     * trims. */
    uint64_t base_index, base_term;
    /* Who is in the PG's Raft group: at birth as the host says; then as the newest applied ENTRY_GROUP says,
     * by itself; when a recovery ends, as store_reset_base() says. Its entry may still be in the log. In
     * memory it may be newer than on the device: then the entry is not let go. */
    struct group group;
    /* The PG count of the pool as of the newest split of this PG that is applied; 0: it was never split. What
     * is another PG's at that count is not here. */
    uint32_t split_count;
};

struct store_pg {
    struct store *store;
    /* The host's: woken when the store failed, when durable_index has risen, unless the host has said that
     * nothing follows from that now, and when first_index passes wanted_index. It sees the rest when it
     * looks. */
    struct op *waiter;
    void *host;             /* the host's own */
    uint64_t first_index;   /* oldest entry that can be read; last_index + 1 when there is none */
    uint64_t last_index;    /* newest appended */
    uint64_t durable_index; /* on media; never above last_index */
    uint64_t durable_ns;    /* when that was last raised */
    uint64_t
        applied_index;     /* by store_apply(); after open: what pages and records are known complete up to */
    uint64_t wanted_index; /* see store_keep() */
    uint64_t newest_index; /* of what came by copies, or was here at the start or before a recovery's base was
                              set, nothing is of a later entry; it may be above last_index */
    uint64_t gone_index;   /* the newest entry, since the start, that objects may have gone with, or that
                              cleared what is not here, so that nothing of it is left to tell; a recovery
                              may have passed any up to its base */
    bool durable_unawaited;
    bool damaged;             /* the ring had damage that concerns this PG: its log cannot be proven whole */
    uint64_t tombstone_count; /* records of deleted images */
    uint64_t ring_bytes;      /* its share of the ring now */
    struct store_pg_record record; /* durable */
    uint64_t object_count;
    uint64_t floor_epoch; /* the highest of all applied FORGET entries */
};

struct store_pg *store_pg_find(const struct store *store, uint64_t pg);
/* It will be asked to append in a moment: what that looks at is fetched meanwhile. */
void store_pg_prefetch(const struct store_pg *pg);
/* In order of creation; NULL starts, NULL ends. */
struct store_pg *store_pg_next(const struct store *store, const struct store_pg *after);
/* How many there can be. */
uint32_t store_pgs_max(const struct store *store);

/* A member that is in contact lacks the entries from here on; 0: none does. They are kept as long as the
 * others leave them an eighth of the ring. */
void store_keep(struct store_pg *pg, uint64_t from);

/* Creates the replica, or changes its record, durably. `pg` must be found again by the caller once done. For
 * the record of an existing replica only term and vote, or state and base, may change: several updates under
 * way are written in order. The group, which is valid, is looked at in a new one only. */
struct store_pg_write {
    struct op op;
    struct store *store;
    struct store_pg_record record;
    struct store_pg *ret_pg;
    /* Private. */
    struct store_waiter waiter;
    struct ring_wait *wait;
    uint64_t gen;
    uint32_t table_index;
    bool force;
};
void store_pg_write_start(struct store_pg_write *w, struct store *store, const struct store_pg_record *record,
                          struct op *parent);

/* The replica becomes the one of `record`: its number, term and group, without a vote, in one write; objects
 * and log stay. The group is in force from the end of the log on, whatever entries in front say. ERR_RETRY:
 * not all of the log is durable yet; ERR_DAMAGED: it cannot be proven whole, or the state is not NORMAL. The
 * host does not use the replica meanwhile. */
void store_pg_force_start(struct store_pg_write *w, struct store *store, const struct store_pg_record *record,
                          struct op *parent);

/* Removes a replica with all its objects, durably: on an explicit order only. */
struct store_pg_remove {
    struct op op;
    struct store_pg *pg;
    /* Private. */
    struct store_waiter waiter;
    struct timer timer;
    uint64_t gen;
    uint32_t table_index;
};
void store_pg_remove_start(struct store_pg_remove *r, struct store_pg *pg, struct op *parent);

/* ---- the log
 * ------------------------------------------------------------------------------------------------------- */

/* Appends one entry: index must be at most last_index + 1 and above applied_index; a lower one than
 * last_index + 1 replaces the log from there (durable_index falls first, also when the entry is then
 * refused). Copies the entry and its checksums, takes a reference on the payload (BLOCK_SIZE aligned,
 * block_count blocks). The entry is not taken on error: ERR_RETRY (the ring, or memory, is full),
 * ERR_NO_SPACE (no room could be reserved for the write), ERR_STOPPED. */
MUST_CHECK int store_append(struct store_pg *pg, const struct entry *entry, const struct slice *payload);

/* For the leader, before it proposes: may the PG take such an entry now? As store_append, and bounded by the
 * PG's share of the ring (ERR_RETRY). Replicas take what their leader has admitted. */
MUST_CHECK int store_can_append(const struct store_pg *pg, const struct entry *entry);

/* An entry that is in memory: `ret_payload` is borrowed (no reference). ERR_RETRY: it must be read from the
 * ring with store_log_read; ERR_COMPACTED: gone; ERR_NOT_FOUND: above last_index. `ret_entry->crc` is valid
 * until the next call on this store. */
MUST_CHECK int store_log_get(const struct store_pg *pg, uint64_t index, struct entry *ret_entry,
                             struct slice *ret_payload);
uint64_t store_log_term(const struct store_pg *pg, uint64_t index); /* 0: not there */

/* Reads entries from the ring for a lagging follower: as many of [first, last] as fit in `bytes_max` of
 * payload and STORE_LOG_READ_MAX entries, at least one. Payloads are verified. ERR_CHECKSUM: the first cannot
 * be read back; ask again later, it is about to leave the log (first_index), or the log is found damaged. */
#define STORE_LOG_READ_MAX 64
struct store_log_read {
    struct op op;
    struct store *store;
    uint64_t pg, first, last;
    uint32_t bytes_max;
    uint32_t ret_count;
    struct entry ret_entries[STORE_LOG_READ_MAX];
    struct slice ret_payloads[STORE_LOG_READ_MAX]; /* with references: release them */
    uint32_t ret_crc[512];
    struct blk_io io;
    struct iovec iov;
    void *private_state;
};
void store_log_read_start(struct store_log_read *r, struct store_pg *pg, uint64_t first, uint64_t last,
                          uint32_t bytes_max, struct op *parent);

/* Entries up to `index` are committed, in order, and durable here: they become the state (what they replace
 * counts as complete, and is not found again by a restart). An operation in memory. An entry is applied to an
 * object only if its index is above the object's own. Stops in front of an ENTRY_SPLIT, which is for
 * store_split_start() to apply; and of an entry that removes or cuts off very many objects, before all of
 * them are cleared: that goes on when it is called again in a later turn, and `waiter` is woken for it. */
void store_apply(struct store_pg *pg, uint64_t index);
/* Is such an entry the next one? */
bool store_applying(const struct store_pg *pg);
/* And of this image? Some of its objects are cleared then, and its record does not tell yet. */
bool store_clearing(const struct store_pg *pg, uint64_t image);

/* Applies the ENTRY_SPLIT behind applied_index, durably: what the PG has of another one's objects becomes
 * that of the new replica `child`, with copies of all image records and the floor, as of that index, which is
 * the child's base; the PG's split_count rises. With `child` NULL, or when a replica of that PG is here
 * already, the objects go instead. Destages first what was applied. Until it is done nothing may be applied
 * or copied into the PG, and no base be set; both PGs are to be found anew then. ERR_NO_SPACE, ERR_NO_MEMORY:
 * later; ERR_STOPPED. */
struct store_split {
    struct op op;
    struct store *store;
    uint64_t pg;
    struct store_pg_record child; /* but for base and split_count */
    struct store_pg *ret_child;   /* NULL: the objects have gone */
    /* Private. */
    bool behind, births, asked;
    uint64_t key, index, term;
    uint32_t split_count;
    uint64_t parent_gen, child_gen;
    struct store_waiter waiter;
    struct ring_wait *wait;
    struct timer timer;
    /* Where it is in the parent, whose objects and images are gone through in steps. */
    bool begun;
    uint64_t image, object;
    uint32_t images;
};
void store_split_start(struct store_split *split, struct store_pg *pg, const struct store_pg_record *child,
                       struct op *parent);
/* The same in a replica that is RECOVERING to a state behind a split that it has not: what is here of the
 * objects of PG number `split_count` - 1 becomes `child`'s, without image records. That one is RECOVERING,
 * too, with the parent's applied index as its base. What is not applied of the parent's log stays there, as
 * if there were no such objects; it must not be applied any more. */
void store_split_behind_start(struct store_split *split, struct store_pg *pg, uint32_t split_count,
                              const struct store_pg_record *child, struct op *parent);
/* For the leader, before it proposes: is there room for another PG, and for as many image records as this one
 * has? ERR_NO_SPACE. */
MUST_CHECK int store_can_split(const struct store_pg *pg);
/* Everything applied is to be destaged soon, so that a split that follows need not wait for it. */
void store_destage_soon(struct store_pg *pg);

/* ---- state
 * ---------------------------------------------------------------------------------------------------------
 */

/* What pages and records on the device hold everything up to: what a restart begins with, at the least. */
uint64_t store_complete_index(const struct store_pg *pg);

/* The record of an image as applied; NULL if the PG has none. */
const struct image_record *store_image_get(const struct store_pg *pg, uint64_t image);
/* In order of image id: the first with id > after (start with 0). */
const struct image_record *store_image_next(const struct store_pg *pg, uint64_t after);

/* Of the image there is no object in this PG behind `object` and in front of the one returned, which may be
 * there, or may have been; UINT64_MAX: none at all. */
uint64_t store_object_after(const struct store_pg *pg, uint64_t image, uint64_t object);

struct store_object_info {
    uint64_t image, object, index;
    bool damaged; /* its page does not verify, or cannot be read now */
};
/* The first object after the cursor in (image, object) order; `start`: from the beginning. False: no more. */
bool store_object_next(const struct store_pg *pg, bool start, uint64_t image, uint64_t object,
                       struct store_object_info *ret);

/* What an object is, without its data, to compare replicas: those that have applied the same entries to it
 * have the same index and digest. Of the newest applied version. ERR_NOT_FOUND: there is no such object;
 * ERR_RETRY: no memory now, or its page changes all the time; ERR_STOPPED. */
struct store_digest {
    struct op op;
    struct store *store;
    uint64_t pg, image, object;
    uint64_t ret_index;
    uint32_t ret_digest;                       /* over the numbers and checksums of the written blocks */
    uint32_t ret_written;                      /* how many these are; those that are lost are not counted */
    uint64_t ret_lost[BLOCKS_PER_OBJECT / 64]; /* no content is known for these */
    /* Private. */
    struct blk_io io;
    struct iovec iov;
    struct buf *page;
    uint64_t version;
    uint32_t rounds;
    bool reading, loaded, page_failed, unreadable;
};
void store_digest_start(struct store_digest *d, struct store_pg *pg, uint64_t image, uint64_t object,
                        struct op *parent);

/* Which of the blocks, counted from first_block, the log has anew, or voids, not applied yet. After a restart
 * destage may have written them in place before, so that the medium has not got what the page says: that is
 * no damage, for such an entry was committed, and will be applied. */
void store_blocks_coming(const struct store_pg *pg, uint64_t image, uint64_t object, uint32_t first_block,
                         uint32_t block_count, uint64_t ret_coming[IO_BLOCKS_MAX / 64]);
/* The index, and which blocks are lost as far as is known without reading. False: there is no such object. */
bool store_object_lost(const struct store_pg *pg, uint64_t image, uint64_t object, uint64_t *ret_index,
                       uint64_t ret_lost[BLOCKS_PER_OBJECT / 64]);

/* Reads blocks of an object: the newest applied version, or with `proposed` the newest appended one.
 * Unwritten blocks are zeros. Checksums are verified; a block that fails twice is in ret_damaged and the op
 * ends with ERR_DAMAGED (an unreadable page: all blocks). ERR_RETRY: no memory now, or the object changes all
 * the time, or has gone to another PG meanwhile. */
struct store_read {
    struct op op;
    struct store *store;
    uint64_t pg, image, object;
    uint32_t first_block, block_count; /* at most IO_BLOCKS_MAX */
    bool proposed;
    bool written_only;     /* store_read_written_start() */
    uint64_t ret_index;    /* the object's newest index; 0: absent */
    struct slice ret_data; /* block_count blocks, with a reference; empty: all zeros */
    uint32_t ret_crc[IO_BLOCKS_MAX];
    uint64_t ret_written[IO_BLOCKS_MAX / 64]; /* bit i: first_block + i is written */
    uint64_t ret_damaged[IO_BLOCKS_MAX / 64];
    uint64_t ret_lost_index; /* no entry above it has touched any of these, as far as they go here */
    void *private_state;
};
void store_read_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                      uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent);

/* Blocks that are not written have no content in ret_data. */
void store_read_written_start(struct store_read *r, struct store_pg *pg, uint64_t image, uint64_t object,
                              uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent);

/* For how long the device has answered none of the reads of data that it was asked for; 0: it owes none. */
uint64_t store_reads_waiting_ns(const struct store *store, uint64_t now_ns);

/* Bitmap of written blocks of the newest applied version; false: the object does not exist (all zero). */
bool store_block_status(const struct store_pg *pg, uint64_t image, uint64_t object,
                        uint64_t ret_written[BLOCKS_PER_OBJECT / 64]);

/* Rewrites one damaged block of a readable page with data from another replica, if `data` has the checksum
 * that the page expects (ERR_CHECKSUM otherwise; ERR_CONFLICT if the block changed meanwhile, so that it is
 * no longer damaged; ERR_RETRY: it is still the log's, destage is hurried, try again in a moment). An equal
 * checksum does not make it the same block: `index` is that of the object there when it was read, and must
 * not be below what the page has (ERR_RETRY: it is, or has become so; ask anew). */
struct store_repair {
    struct op op;
    struct store *store;
    uint64_t pg, image, object;
    uint32_t block;
    uint64_t index;
    struct slice data; /* one block; the caller's reference */
    struct blk_io io;
    struct iovec iov;
    void *private_state;
};
void store_repair_start(struct store_repair *r, struct store_pg *pg, uint64_t image, uint64_t object,
                        uint32_t block, uint64_t index, const struct slice *data, struct op *parent);

/* ---- recovery of a replica: the receiving side
 * --------------------------------------------------------------------- */

/* Replaces an object by a copy of another replica's. First all windows, in any order, then the end: the copy
 * becomes the object, with its index, durably, in one step; until then the old one stays. Blocks that are the
 * same in both need not come: what is in the object, or in the log for it, is used, if its contents have the
 * hash that the source's have. In a PG in state NORMAL the source must have applied all that is committed,
 * and the copy be of one moment. */
struct store_copy; /* one copy under way */
MUST_CHECK int store_copy_new(struct store_pg *pg, uint64_t image, uint64_t object,
                              struct store_copy **ret_copy); /* ERR_STOPPED, ERR_NO_SPACE, ERR_NO_MEMORY;
                                                                ERR_RETRY: the ring is full */
/* Looks at what there is here, for which the object's page may have to be read, and draws a key for hashes.
 * Without this nothing is here, and everything has to come; also when it could not be read. ERR_STOPPED,
 * ERR_NO_PG. */
struct store_copy_look {
    struct op op;
    struct store_copy *copy;
    /* Private. */
    struct blk_io io;
    struct iovec iov;
    struct buf *page;
    uint64_t version;
    uint32_t rounds;
    bool reading, page_failed;
};
void store_copy_look_start(struct store_copy_look *l, struct store_copy *copy, struct op *parent);
/* Which blocks of a window there are here, by their checksums. `ret_have`: bit i: first_block + i, with
 * checksum ret_crc[i]; both for block_count, at most IO_BLOCKS_MAX, blocks. What is known to be damaged, or
 * to differ, is left out. The source hashes what has the same checksum there with `ret_key`, which is all
 * zeros if there is nothing here. */
void store_copy_have(const struct store_copy *copy, uint32_t first_block, uint32_t block_count,
                     uint64_t *ret_have, uint32_t *ret_crc, struct content_key *ret_key);
/* Ends with 0; ERR_CHECKSUM: of `data`; ERR_CONFLICT: some of `same` were found damaged, or to be others, or
 * are not here any more: the window is to be asked for again by what store_copy_have() now says; ERR_INVALID,
 * ERR_NO_SPACE, ERR_NO_MEMORY, ERR_STOPPED. */
struct store_copy_write {
    struct op op;
    struct store_copy *copy;
    uint32_t first_block, block_count; /* begins with a chunk and, but at the object's end, ends with one */
    const uint64_t *written;           /* bit i: first_block + i */
    const uint64_t *damaged;           /* of these: content unknown, also here from now on; NULL: none */
    uint64_t lost_index;               /* no entry above it has touched any of these */
    const uint64_t *same;              /* of these: the source's has the checksum of what is here ... */
    const struct content_hash *hash;   /* ... and this hash, by block; NULL: none are the same */
    const uint32_t *crc;               /* block_count of them: of the written blocks; verified */
    struct slice data;                 /* the written blocks that are not the same, in order */
    void *private_state;
};
void store_copy_write_start(struct store_copy_write *w, struct store_copy *copy, uint32_t first_block,
                            uint32_t block_count, const uint64_t *written, const uint64_t *damaged,
                            uint64_t lost_index, const uint64_t *same, const struct content_hash *hash,
                            const uint32_t *crc, const struct slice *data, struct op *parent);
/* Ends the copy, which is freed. `index`: 0 throws it away. ERR_CONFLICT: the object is newer already, or
 * what the copy was to take over of it has changed, or it may have gone with its image: the copy is to be
 * made anew, if the source still has it; ERR_NO_PG, ERR_NO_SPACE, ERR_NO_MEMORY, ERR_STOPPED. */
struct store_copy_end {
    struct op op;
    struct store_copy *copy;
    void *private_state;
};
void store_copy_end_start(struct store_copy_end *e, struct store_copy *copy, uint64_t index,
                          struct op *parent);

/* Takes over an image record from the source (never lowers one); durable with the PG's next record write at
 * the latest. Applies its effect (truncation, deletion) to the objects that are here. */
MUST_CHECK int store_recover_image(struct store_pg *pg, const struct image_record *record);

/* The source had forgotten the image at `index`: our record of it goes, and all its objects, as far as they
 * are not newer. The record is gone durably with the PG's next record write at the latest, the objects when
 * store_recover_settled() says so: until then the replica must stay RECOVERING. ERR_STOPPED, ERR_NO_MEMORY.
 */
MUST_CHECK int store_recover_forget(struct store_pg *pg, uint64_t image, uint64_t index);
/* Takes over the source's floor (never lowers it); durable like an image record. */
void store_recover_floor(struct store_pg *pg, uint64_t epoch);
/* Has what recovery cleared left the device? If not, it is hurried: ask again a moment later. */
bool store_recover_settled(struct store_pg *pg);

/* What is another PG's at this count goes, in a replica that recovers; settled as after
 * store_recover_forget(). For the rest of it see store_reset_base(). ERR_STOPPED, ERR_NO_MEMORY. */
MUST_CHECK int store_recover_shed(struct store_pg *pg, uint32_t split_count, uint64_t index);

/* Drops the log and sets the base: the state is at least that of `index`, where `group` is in force and the
 * PG was split so far. Followed by store_pg_write with the same base, which makes it durable. */
void store_reset_base(struct store_pg *pg, uint64_t index, uint64_t term, const struct group *group,
                      uint32_t split_count);

/* ---- instruments
 * --------------------------------------------------------------------------------------------------- */

struct store_counters {
    uint64_t batches, batch_entries, log_bytes, log_payload_bytes; /* written to the ring */
    uint64_t destage_blocks, destage_bytes, page_writes, checkpoints, tail_moves;
    uint64_t cache_bytes, cache_hits, device_reads;
    uint64_t page_hits,
        page_reads; /* when checksums were wanted: they were in memory, or their page was read */
    uint64_t checksum_errors, repaired_blocks, damaged_objects;
    uint64_t copied_forward;
    uint64_t large_entries, large_bytes; /* written to chunks of their own */
    /* Blocks of copied objects: written to fresh chunks, of these those that were here already; and those
     * that stayed where they were. */
    uint64_t copy_written, copy_moved, copy_shared;
    uint64_t payload_bytes;       /* of the entries appended: what clients wrote, once per replica */
    struct histogram log_write;   /* the device's part of a log batch: handed to it until durable */
    struct histogram device_read; /* the same of a read of data */
};
const struct store_counters *store_counters(const struct store *store);

/* Offline inspection of an opened or unopened slice: walks every structure and calls `line` for what it
 * finds; problems are counted. `deep`: reads and verifies the data of every object too. */
struct store_check {
    struct op op;
    struct core *core;
    struct blk *blk;
    bool deep;
    void (*line)(void *owner, bool problem, const char *text);
    /* May be NULL; set before the start: once, when all is loaded, to look at what this header tells of an
     * open store. */
    void (*opened)(void *owner, const struct store *store);
    void *owner;
    uint64_t ret_problems;
    uint64_t ret_objects, ret_entries, ret_pgs;
    void *private_state;
};
void store_check_start(struct store_check *c, struct core *core, struct blk *blk, bool deep,
                       void (*line)(void *owner, bool problem, const char *text), void *owner,
                       struct op *parent);

#endif
