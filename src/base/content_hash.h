/* SPDX-License-Identifier: Apache-2.0
 *
 * Are two blocks on two machines the same? crc32c does not tell: it is linear, so blocks of equal checksum
 * are easy to make, and some are made all the time (any block that ends with its own crc32c has one and the
 * same). This hash does, with a key that is drawn at random for each comparison and told to the other side:
 * it is Poly1305 without its final pad. For any two different messages of up to 64 KiB, however they were
 * chosen by someone who does not know the key, it is the same with a probability of less than 2^-90.
 */
#ifndef BASE_CONTENT_HASH_H
#define BASE_CONTENT_HASH_H

#include <string.h>

#include "base/base.h"

#define CONTENT_KEY_BYTES  16
#define CONTENT_HASH_BYTES 16

/* Two random words, never used for another comparison. */
struct content_key {
    uint8_t bytes[CONTENT_KEY_BYTES];
};

struct content_hash {
    uint8_t bytes[CONTENT_HASH_BYTES];
};

struct content_key content_key_make(uint64_t random_a, uint64_t random_b);

static inline bool content_hash_equal(const struct content_hash *a, const struct content_hash *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* Hashes with one key; by one thread at a time. NULL: no memory, or the library has not got the function (as
 * when it is bound to a list of approved ones): then nothing can be compared. Not for the data path. */
struct content_hasher;
struct content_hasher *content_hasher_new(const struct content_key *key);
void content_hasher_free(struct content_hasher *hasher); /* NULL: nothing */

/* The hash of `len` bytes. Allocates nothing. */
void content_hash(struct content_hasher *hasher, const void *bytes, size_t len, struct content_hash *ret);

#endif
