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
    uint64_t index;                       /* known at the end; 0: it is thrown away */
    uint32_t writes;                      /* under way */
    struct page_mem page;                 /* one reference on each of its chunks is the copy's */
    uint64_t bad[BLOCKS_PER_OBJECT / 64]; /* what is here of these does not verify */
    /* Of the old object, if they were in memory when the copy began: its page's checksums, when it had that
     * version. */
    uint64_t old_version;
    uint32_t old_crc[BLOCKS_PER_OBJECT];
};

/* The object that is to be replaced; NULL: there is none. `ret_pg`: NULL when that is going, or gone. */
struct object *copy_object(const struct store_copy *c, struct pg **ret_pg);

#endif
