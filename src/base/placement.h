/* SPDX-License-Identifier: Apache-2.0
 *
 * Which placement group (PG) of a pool an object belongs to. Clients compute it to find the PG, and OSDs to
 * refuse what is not theirs, so its values are part of the format of every cluster: they never change.
 */
#ifndef BASE_PLACEMENT_H
#define BASE_PLACEMENT_H

#include "base/base.h"
#include "base/hash.h"

#define PLACEMENT_PGS_MAX 65536u /* of a pool */

/* The number, within its pool, of the PG of object number `object` of an image with this placement key.
 * `pg_count` > 0.
 *
 * As many low bits of the hash as numbers need; where that gives a number that there is not (yet), one bit
 * less. So when a pool grows from N to N + 1 PGs, the new one gets objects of one PG alone, the one with the
 * same number without its highest bit, and twice as many PGs split each in two. With a power of two all PGs
 * are alike; in between those that are not split yet are twice as large as the others. */
static inline uint32_t placement_pg_number(uint64_t key, uint64_t object, uint32_t pg_count)
{
    uint64_t hash = hash_pair(key, object);
    uint32_t bits = pg_count > 1 ? 32 - (uint32_t)__builtin_clz(pg_count - 1) : 0;
    uint64_t number = hash & ((1ull << bits) - 1);

    return (uint32_t)(number < pg_count ? number : number & ((1ull << (bits - 1)) - 1));
}

/* The PG whose objects a PG gets when the count is raised to include it: the same number without its highest
 * bit. `number` > 0. */
static inline uint32_t placement_pg_parent(uint32_t number)
{
    return number ^ 1u << (31 - __builtin_clz(number));
}

/* The id of a PG, as maps and messages carry it. */
static inline uint64_t placement_pg_id(uint32_t pool, uint32_t number)
{
    return (uint64_t)pool << 32 | number;
}

#endif
