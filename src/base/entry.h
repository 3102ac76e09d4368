/* SPDX-License-Identifier: Apache-2.0
 *
 * The log entry: the one noun that wire, store and osd share. An entry changes one object or one image record
 * of a PG; a write's data (whole blocks) travels beside it, as payload.
 */
#ifndef BASE_ENTRY_H
#define BASE_ENTRY_H

#include "base/base.h"

/* Numbers are on the wire and on disk: never changed or reused. */
enum entry_type {
    ENTRY_NOOP = 1,  /* a new leader's first */
    ENTRY_WRITE = 2, /* whole blocks of one object; has a payload of block_count blocks */
    ENTRY_CLEAR =
        3, /* whole blocks of one object: they read as zeros afterwards (discard and write-zeroes) */
    ENTRY_IMAGE = 4,  /* sets an image's record in the PG: fences older writers, truncates, or deletes */
    ENTRY_FORGET = 5, /* the record of a deleted image goes, and the PG's floor rises to `epoch` */
    ENTRY_GROUP = 6,  /* sets the Raft group: base/group.h */
    ENTRY_SPLIT = 7,  /* a part of the PG's objects is from here on that of the PG of number `image`
                         (base/placement.h), which is born with this group (base/group.h) */
};
enum { ENTRY_IMAGE_DELETED = 1 }; /* flags of ENTRY_IMAGE */

/* `crc` points into memory of whoever holds the entry: a decoder's array, a request, the store's own copy. */
struct entry {
    uint64_t index;
    uint64_t term;
    uint32_t type;
    uint32_t flags;
    uint64_t image;
    uint64_t object;                   /* object number within the image */
    uint32_t first_block, block_count; /* ENTRY_WRITE, ENTRY_CLEAR: within the object */
    uint64_t incarnation, generation;  /* ENTRY_IMAGE */
    union {
        uint64_t size_bytes; /* ENTRY_IMAGE */
        uint64_t epoch; /* of the monitor's order: ENTRY_FORGET, ENTRY_GROUP, and ENTRY_IMAGE that deletes */
    };
    const uint32_t *crc; /* ENTRY_WRITE: crc32c of each block; ENTRY_GROUP, ENTRY_SPLIT: block_count words */
};

/* How many numbers `crc` points to. */
static inline uint32_t entry_crc_count(const struct entry *e)
{
    return e->type == ENTRY_WRITE || e->type == ENTRY_GROUP || e->type == ENTRY_SPLIT ? e->block_count : 0;
}

static inline uint32_t entry_payload_bytes(const struct entry *e)
{
    return e->type == ENTRY_WRITE ? e->block_count * BLOCK_SIZE : 0;
}

/* What a PG knows of an image. Applied in log order: a record only ever moves up in (generation,
 * incarnation). It goes only by ENTRY_FORGET: when a deleted image has left every member, or was never here.
 * An image without a record can be attached only by a request for which the monitor vouched at the PG's
 * *floor* or later, the highest epoch of all FORGET entries so far: see pg_image.c. */
struct image_record {
    uint64_t image;
    uint64_t incarnation; /* of the writer that may write; lower ones are fenced */
    uint64_t generation;
    union {
        uint64_t size_bytes;
        uint64_t epoch; /* a tombstone: of the order that deleted the image */
    };
    uint64_t index; /* Raft index of the entry that set it */
    bool deleted;   /* a tombstone: nothing of this image may be written any more */
    bool forgotten; /* the store's own: there is no record any more; nobody else meets one */
};

#endif
