/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashes that do not protect against an adversary: for tables and for placement. Their values are part of the
 * placement function, so they never change.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/base.h"

/* A bijection of 64-bit words whose every output bit depends on every input bit (the finalizer of MurmurHash3
 * with the constants "variant 13" by David Stafford). hash_u64(0) is 0. */
static inline uint64_t hash_u64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    x ^= x >> 31;
    return x;
}

/* The hash of the ordered pair (a, b). */
static inline uint64_t hash_pair(uint64_t a, uint64_t b)
{
    return hash_u64(hash_u64(a + 0x9e3779b97f4a7c15ull) + b);
}

/* The hash of `len` bytes; the same bytes with another seed give an independent value. */
uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t len);

#endif
