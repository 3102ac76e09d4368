/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes are taken eight at a time, little-endian, the last word padded with zeros; the length goes in first,
 * so that padding is no collision.
 */
#include "base/hash.h"

#include "base/le.h"

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    uint64_t h = hash_pair(seed, len);

    for (; len >= 8; at += 8, len -= 8)
        h = hash_pair(h, le_load_u64(at));
    if (len) {
        uint8_t tail[8] = {0};
        memcpy(tail, at, len);
        h = hash_pair(h, le_load_u64(tail));
    }
    return h;
}
