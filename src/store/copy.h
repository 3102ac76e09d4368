/* SPDX-License-Identifier: Apache-2.0
 *
 * A copy under way: what copy.c and copy_write.c share.
 */
#ifndef STORE_COPY_H
#define STORE_COPY_H

#include "store/internal.h"

struct store_copy {
    struct store *store;
    uint64_t pg, key, image, object;
    bool recovers;                 /* it is a recovery's */
    uint64_t removals, gone_index; /* the PG's, when it began */
    uint64_t index;                /* known at the end; 0: it is thrown away */
    uint32_t writes;               /* under way */
    struct page_mem page;          /* one reference on each of its chunks is the copy's, but for these: */
    uint32_t stays;                /* bit per chunk that is the old object's, when that had this version: */
    uint64_t stays_version;
    uint64_t bad[BLOCKS_PER_OBJECT / 64]; /* what is here of these does not verify, or differs */
    /* Once it was looked at: the old object's page, when it had that version. */
    uint64_t old_version;
    uint32_t old_crc[BLOCKS_PER_OBJECT];
    struct content_key content_key;
    struct content_hasher *hasher; /* NULL: nothing can be compared */
};

/* The object that is to be replaced; NULL: there is none. `ret_pg`: NULL when that is going, or gone. */
struct object *copy_object(const struct store_copy *c, struct pg **ret_pg);

/* What there is here of the block, in the log or in the object `o`, which may be NULL, and that may be the
 * same as the source's: `written` then, with a checksum. */
struct where copy_block_here(const struct store_copy *c, const struct object *o, uint32_t block);

#endif
