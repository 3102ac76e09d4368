/* SPDX-License-Identifier: Apache-2.0
 *
 * Scrub: damage that nobody has read yet is found and repaired, on every replica, and replicas are compared.
 *
 * scrub_look.c: what this replica's objects are, in a range. Each replica reads its own medium, verifies it
 * against its own checksums, and repairs from the others what is damaged.
 * scrub_serve.c: a member answers its leader's question with such a look.
 * scrub.c, scrub_compare.c: the leader's side. One PG at a time, range by range, all members at once; then it
 * compares.
 * damage.c: the list of blocks that no replica has.
 *
 * A light scrub compares what is in memory: for each object its index and a digest of its blocks' checksums.
 * A deep one reads every written block in front of that, and compares contents by a hash that nobody can meet
 * by chance or on purpose, as its key is drawn for each question: a crc32c says nothing of that kind, for any
 * block that ends with its own has always the same. The monitor gives the orders (mon/mon_scrub.c): its
 * answers to the leaders' reports name the PGs to be scrubbed, and it keeps the results. How far a scrub has
 * come its leader tells the members with every question, so that the next leader goes on from there.
 *
 * What a look reads of the medium is bounded per shard, and less while there is other traffic.
 */
#ifndef OSD_SCRUB_H
#define OSD_SCRUB_H

#include "osd/pg.h"

#define SCRUB_ROWS_MAX  32   /* objects in one answer */
#define SCRUB_REPLY_MAX 8192 /* its body */

/* Objects after the cursor up to the end, which is included; without them from the first, to the last. */
struct scrub_range {
    bool has_cursor, has_end;
    uint64_t image, object, end_image, end_object;
};

struct scrub_row {
    uint64_t image, object, index, applied_index;
    uint32_t digest, damaged_count;
    uint64_t damaged[BLOCKS_PER_OBJECT / 64]; /* that could not be repaired */
    bool has_content;                         /* all of it was read, as of the index */
    struct content_hash content;
};

/* What a replica says of a range. */
struct scrub_view {
    uint64_t applied_index; /* when it began to look */
    uint64_t bytes, found, repaired;
    uint32_t row_count;
    bool more; /* there are more rows in the range */
    struct scrub_row rows[SCRUB_ROWS_MAX];
};

/* ---- scrub_look.c ---- */

/* Zeroed before its first use. The PG waits for it when it stops. */
struct scrub_look {
    struct op op;
    struct list link; /* in pg->looks */
    struct pg *pg;
    struct scrub_range range;
    bool deep;
    uint32_t copy_from; /* not 0: first the object at the end becomes that replica's version */
    struct scrub_view ret;
    /* Private. */
    struct timer timer;
    struct store_read read;
    struct store_digest digest;
    uint64_t digest_applied_index; /* applied when it began */
    bool read_through;             /* the object at hand has been read */
    struct content_hasher *hasher; /* NULL: contents are not compared */
    bool hashed;                   /* what was read of the object is of one moment: */
    uint64_t hashed_index;
    struct {
        struct content_hash block[BLOCKS_PER_OBJECT];
        uint64_t written[BLOCKS_PER_OBJECT / 64];
    } contents;
    struct recover_copy *copy;
    uint64_t image, object;
    bool has_object;      /* the two say where we are */
    uint32_t first_block; /* of the window */
    uint32_t damaged_now; /* blocks of the window, before the repair */
    uint64_t written[BLOCKS_PER_OBJECT / 64], left[BLOCKS_PER_OBJECT / 64];
};
/* `key`: of a deep look; NULL: a light one. Ends with 0, ERR_RECOVERING (what is here is not yet the state of
 * its index), ERR_NO_PG, ERR_STOPPED, or the error of the copy. */
void scrub_look_start(struct scrub_look *look, struct pg *pg, const struct scrub_range *range,
                      const struct content_key *key, uint32_t copy_from, struct op *parent);
void scrub_wake_looks(struct pg *pg); /* the PG stops */
/* The range of one object. */
struct scrub_range scrub_range_of(uint64_t image, uint64_t object);
bool scrub_range_has(const struct scrub_range *range, uint64_t image, uint64_t object);

/* ---- scrub_wire.c ---- */

MUST_CHECK int scrub_request_encode(const struct pg *pg, uint32_t to, uint64_t number,
                                    const struct scrub_range *range, const struct content_key *key,
                                    uint32_t copy_from, const struct pg_scrub *so_far, uint8_t *dst,
                                    uint32_t cap, uint32_t *ret_len); /* so_far: NULL: none */
MUST_CHECK int scrub_view_encode(const struct scrub_view *view, uint8_t *dst, uint32_t *ret_len);
/* Decodes and validates. ERR_PROTOCOL. */
MUST_CHECK int scrub_view_decode(const uint8_t *src, uint32_t len, struct scrub_view *ret);
/* Memory for the message's parts. */
struct scrub_result_rows {
    Fb__ScrubResult result;
    Fb__ScrubVersion version[PG_SCRUB_DIFFERENCES * RAFT_MEMBERS_MAX],
        *versions[PG_SCRUB_DIFFERENCES * RAFT_MEMBERS_MAX];
};
void scrub_result_fill(const struct pg_scrub *scrub, struct scrub_result_rows *rows);
/* ERR_PROTOCOL. */
MUST_CHECK int scrub_result_take(const Fb__ScrubResult *result, struct pg_scrub *ret);

/* ---- scrub_serve.c ---- */

struct scrub_serve;
MUST_CHECK int scrub_serve_new(struct osd_shard *shard, struct scrub_serve **ret_serve);
void scrub_serve_free(struct scrub_serve *serve); /* nothing is under way: shard->side_ops */
void scrub_receive(struct peer *peer, struct osd_shard *shard, const struct rpc_ticket *ticket,
                   const struct rpc_message *message);

/* ---- scrub.c ---- */

MUST_CHECK int scrub_start(struct osd_shard *shard);
struct op *scrub_op(struct osd_shard *shard); /* to be cancelled at the end */
void scrub_wake(struct osd_shard *shard);     /* there may be something to do at once */
/* After that. */
void scrub_free(struct osd_shard *shard);
/* What the monitor wants of the PGs that we lead: the whole truth of the moment. Sorts them. */
void scrub_take_orders(struct osd_shard *shard, Fb__ScrubOrder **orders, size_t count);
/* Whether scrubs are paused everywhere, by any of its answers. */
void scrub_take_pause(struct osd_shard *shard, bool paused);

/* ---- damage.c ---- */

/* An object with blocks that no replica in contact has. */
struct pg_damage {
    struct list link; /* in pg->damages */
    uint64_t image, object;
    uint64_t blocks[BLOCKS_PER_OBJECT / 64]; /* none: it is to leave the list */
    uint64_t index;                          /* of the object when it was looked at */
    uint64_t looked_ns;
    uint64_t vain_ns; /* no member had what is lost here; 0: none was asked */
    bool known;       /* by a look; else the monitor says so, or a client's read failed */
    bool listed;      /* the monitor's list says the same */
};
/* A client's read failed: the blocks from `first_block` on that the bitmap has. It will be looked at. */
void damage_note(struct pg *pg, uint64_t image, uint64_t object, uint32_t first_block, uint32_t block_count,
                 const uint64_t *blocks);
/* All members have looked at the object: it is these blocks, exactly. */
void damage_set(struct pg *pg, uint64_t image, uint64_t object, const uint64_t *blocks);
struct pg_damage *damage_find(struct pg *pg, uint64_t image, uint64_t object);
/* What the monitor has on its list. */
void damage_take_list(struct pg *pg, Fb__PgDamage *const *list, size_t count);
/* One to be looked at (again): its object was written to since, or that is long ago. NULL: none. */
struct pg_damage *damage_due(struct pg *pg, uint64_t now_ns);
/* Whole copies were asked of all members, and none has what is lost here: that need not be tried again soon.
 */
void damage_note_vain(struct pg *pg, uint64_t image, uint64_t object);
bool damage_is_vain(struct pg *pg, uint64_t image, uint64_t object, uint64_t now_ns);
void damage_tried(struct pg *pg, struct pg_damage *d); /* a look begins */
/* What the monitor's list lacks, or has too much: at most `max` rows. */
size_t damage_report(struct pg *pg, Fb__PgDamage *rows, Fb__PgDamage **pointers, size_t max);
void damage_forget(struct pg *pg); /* we lead no more */

#endif
