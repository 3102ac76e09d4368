/* SPDX-License-Identifier: Apache-2.0
 *
 * Which placement group (PG) of a pool an object belongs to. Clients compute it to find the PG, and OSDs to refuse what is not
 * theirs, so its values are part of the format of every cluster: they never change.
 */
#ifndef BASE_PLACEMENT_H
#define BASE_PLACEMENT_H

#include "base/base.h"
#include "base/hash.h"

/* The number, within its pool, of the PG of object number `object` of an image with this placement key. `pg_count` > 0. */
static inline uint32_t placement_pg_number(uint64_t key, uint64_t object, uint32_t pg_count)
{
    return (uint32_t)(hash_pair(key, object) % pg_count);
}

/* The id of a PG, as maps and messages carry it. */
static inline uint64_t placement_pg_id(uint32_t pool, uint32_t number)
{
    return (uint64_t)pool << 32 | number;
}

#endif
