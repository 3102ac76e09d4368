/* SPDX-License-Identifier: Apache-2.0
 *
 * A fixed pool of equal objects, made at start. An empty pool answers NULL, and the newcomer waits or is
 * turned away.
 *
 * Objects are zeroed once, at the start, and come back as they were given back: an op (rt/op.h) needs just
 * that. The one given back last is handed out first, because it is the one in the cache.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/base.h"

struct pool {
    uint8_t *memory;
    uint32_t *free; /* a stack of the indexes of free objects */
    bool *out;      /* by index: handed out */
    uint32_t count, free_count;
    size_t object_size_bytes; /* rounded up to the alignment of the objects */
};

/* `count` objects of `object_size_bytes`, aligned to a cache line. ERR_NO_MEMORY. */
MUST_CHECK int pool_init(struct pool *pool, size_t object_size_bytes, uint32_t count);
/* Asserts that nothing is out. A zeroed pool may be finished too. */
void pool_fini(struct pool *pool);

void *pool_get(struct pool *pool);              /* NULL when the pool is empty */
void pool_put(struct pool *pool, void *object); /* asserts that it is out */

static inline uint32_t pool_out_count(const struct pool *pool)
{
    return pool->count - pool->free_count;
}

#endif
