/* SPDX-License-Identifier: Apache-2.0
 *
 * The copy of one object from another replica, used by recovery and by repair.
 *
 * It is read in windows of 256 blocks. A recovery names the blocks that it has, by their checksums. Those
 * with others come. Equal checksums do not make equal blocks (any block that ends with its own crc32c, as
 * metadata of file systems does, has the same one), so of these a hash of the contents comes, with a key that
 * was drawn for this copy. The store takes what has it from the old object, or from the log; what has not, or
 * is damaged, is asked for once more. What the source has lost is taken from what is here, if that is not
 * older.
 *
 * The object may change between windows. In a recovery the copy takes
 * the index that the first window shows: what the later ones have more is of entries that the source applied
 * after the recovery's base, which are applied here again. A repair, in a replica that is whole, has no such
 * entries to come: there all windows must show the same index, or the copy is thrown away and begun again.
 * The store makes the copy the object in one step at the end; until then the old one stays.
 *
 * Blocks that the source has not, and found nowhere else, do not hold up a recovery: the copy has them as
 * lost, and they read as errors here, too; but for those that are whole here, in an object that is new enough
 * (5.52). A repair takes such a copy only if it says so.
 */
#ifndef OSD_RECOVER_COPY_H
#define OSD_RECOVER_COPY_H

#include "osd/pg.h"

#define RECOVER_WINDOW    256
#define RECOVER_READ_BODY 5120 /* of a question or an answer: bitmaps, checksums, hashes of a window */
#define RECOVER_CALL_NS   (2 * NS_PER_S)

/* A window as it was answered. */
struct recover_window {
    uint64_t index, applied_index;
    uint64_t lost_index; /* no entry above it, up to `index`, has touched any of `damaged` */
    bool absent;
    uint64_t written[RECOVER_WINDOW / 64];
    uint64_t damaged[RECOVER_WINDOW / 64]; /* of these: what came for them is not their content */
    uint64_t
        same[RECOVER_WINDOW / 64]; /* of these: of the checksum that the asker named; they did not come */
    uint32_t crc[RECOVER_WINDOW];  /* by block; of what came, damaged or not, and of what is the same */
    struct content_hash hash[RECOVER_WINDOW]; /* by block; of what is the same */
    uint32_t written_count, damaged_count, same_count;
};

/* The blocks of a window that an asker has. */
struct recover_have {
    uint64_t bits[RECOVER_WINDOW / 64];
    uint32_t crc[RECOVER_WINDOW]; /* by block */
    struct content_key key;
};

/* Zeroed before its first use. The PG must outlive the op. */
struct recover_copy {
    struct op op;
    struct pg *pg;
    uint32_t source; /* replica */
    uint64_t image, object;
    uint64_t min_applied; /* the source must have applied this much */
    uint32_t damaged_max; /* set in front of a repair's start: a copy that lacks more blocks is not taken */
    bool recovers;      /* set in front of a recovery's; else it is a repair's, of a replica that is whole */
    bool log_committed; /* set in front of a recovery's: all of our log, so what it says counts as ours */
    bool ret_absent;    /* the source has no such object (any more) */
    struct rpc_call call;
    struct timer timer;
    struct store_copy *copy;
    struct store_copy_look look;
    struct store_copy_write write;
    struct store_copy_end end;
    uint64_t index;
    struct recover_have have;
    struct recover_window window;
    struct store_read own; /* the same window here */
    struct slice data;
    uint32_t first_block, tries, damaged_count;
    int error;
    bool restart;
    uint8_t frame[FRAME_HEADER_SIZE + RECOVER_READ_BODY];
    uint8_t reply[RECOVER_READ_BODY];
};

/* Ends with 0 (also when the source has no such object), ERR_CLOSED and the like when the source does not
 * answer, ERR_RECOVERING or ERR_RETRY when it cannot serve, ERR_DAMAGED when a repair's source
 * is damaged itself, ERR_CONFLICT when the object changes all the
 * time, or the store's error. */
void recover_copy_start(struct recover_copy *c, struct pg *pg, uint32_t source, uint64_t image,
                        uint64_t object, uint64_t min_applied, struct op *parent);

/* Asks `source` for a window. `have`: these blocks are wanted only if they differ; NULL: all. `recovery`: the
 * source may let it wait for clients (ERR_BUSY: for too long; ask again). `frame`: FRAME_HEADER_SIZE +
 * RECOVER_READ_BODY. As rpc_call_start(). */
MUST_CHECK int recover_read_send(struct pg *pg, uint32_t source, uint64_t image, uint64_t object,
                                 uint32_t first_block, uint32_t block_count, const struct recover_have *have,
                                 bool recovery, uint8_t *frame, struct rpc_call *call, struct op *waiter);

/* Decodes and validates the answer, payload length included. `have` as it was asked. ERR_PROTOCOL. */
MUST_CHECK int recover_read_decode(const struct rpc_call *call, uint32_t block_count,
                                   const struct recover_have *have, struct recover_window *ret);

#endif
