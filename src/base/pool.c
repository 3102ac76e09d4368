/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool: one array, a stack of free indexes beside it, and a mark per object that catches a double put.
 */
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define POOL_ALIGN 64

int pool_init(struct pool *pool, size_t object_size_bytes, uint32_t count)
{
    *pool =
        (struct pool){.count = count, .object_size_bytes = ALIGN_UP(object_size_bytes, (size_t)POOL_ALIGN)};
    size_t size = MAX(pool->object_size_bytes * count, (size_t)POOL_ALIGN);
    pool->memory = aligned_alloc(POOL_ALIGN, size);
    pool->free = calloc(count + 1, sizeof(uint32_t));
    pool->out = calloc(count + 1, sizeof(bool));
    if (!pool->memory || !pool->free || !pool->out) {
        free(pool->memory);
        free(pool->free);
        free(pool->out);
        *pool = (struct pool){0};
        return -ERR_NO_MEMORY;
    }
    memset(pool->memory, 0, size);
    /* The lowest index is on top. */
    for (uint32_t i = 0; i < count; i++)
        pool->free[i] = count - 1 - i;
    pool->free_count = count;
    return 0;
}

void pool_fini(struct pool *pool)
{
    ASSERT(pool->free_count == pool->count);
    free(pool->memory);
    free(pool->free);
    free(pool->out);
    *pool = (struct pool){0};
}

void *pool_get(struct pool *pool)
{
    if (pool->free_count == 0)
        return NULL;
    uint32_t index = pool->free[--pool->free_count];
    pool->out[index] = true;
    return pool->memory + index * pool->object_size_bytes;
}

void pool_put(struct pool *pool, void *object)
{
    size_t at = (size_t)((uint8_t *)object - pool->memory);
    size_t index = at / pool->object_size_bytes;

    ASSERT(index < pool->count && at % pool->object_size_bytes == 0);
    ASSERT(pool->out[index]);
    pool->out[index] = false;
    pool->free[pool->free_count++] = (uint32_t)index;
}
