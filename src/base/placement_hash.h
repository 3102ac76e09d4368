/* SPDX-License-Identifier: Apache-2.0
 *
 * Which placement group an object belongs to: client and shard compute it alike, and neither can ever change it.
 */
#ifndef BASE_PLACEMENT_HASH_H
#define BASE_PLACEMENT_HASH_H

#include "base/base.h"
#include "base/hash.h"

/* The PG (pool id << 32 | number) of an object. `placement_key` is the image's (its id, unless it is a clone);
 * pg_count is the pool's and not 0. */
static inline uint64_t placement_pg(uint32_t pool, uint32_t pg_count, uint64_t placement_key, uint64_t object)
{
    return (uint64_t)pool << 32 | hash_pair(placement_key, object) % pg_count;
}

#endif
