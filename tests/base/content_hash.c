/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash of contents: a published value, and what it is for.
 */
#include "base/content_hash.h"

#include "base/crc32c.h"
#include "base/le.h"
#include "tests/tap.h"

static uint8_t block[BLOCK_SIZE], other[BLOCK_SIZE];

/* The key and message of RFC 8439, 2.5.2: its tag is this hash plus the second half of the key. */
static void published_value(void)
{
    static const uint8_t key[32] = {0x85, 0xd6, 0xbe, 0x78, 0x57, 0x55, 0x6d, 0x33, 0x7f, 0x44, 0x52,
                                    0xfe, 0x42, 0xd5, 0x06, 0xa8, 0x01, 0x03, 0x80, 0x8a, 0xfb, 0x0d,
                                    0xb2, 0xfd, 0x4a, 0xbf, 0xf6, 0xaf, 0x41, 0x49, 0xf5, 0x1b};
    static const uint8_t tag[16] = {0xa8, 0x06, 0x1d, 0xc1, 0x30, 0x51, 0x36, 0xc6,
                                    0xc2, 0x2b, 0x8b, 0xaf, 0x0c, 0x01, 0x27, 0xa9};
    struct content_key point = content_key_make(le_load_u64(key), le_load_u64(key + 8));
    struct content_hasher *hasher = content_hasher_new(&point);
    struct content_hash hash;
    unsigned carry = 0;

    CHECK(hasher);
    content_hash(hasher, "Cryptographic Forum Research Group", 34, &hash);
    for (int i = 0; i < 16; i++) {
        carry += hash.bytes[i] + key[16 + i];
        CHECK_EQ(carry & 255, tag[i]);
        carry >>= 8;
    }
    content_hasher_free(hasher);
}

/* One hasher, many messages: each is hashed as by a new one. */
static void nothing_stays(void)
{
    struct content_key key = content_key_make(1, 2);
    struct content_hasher *one = content_hasher_new(&key);

    for (size_t len = 0; len < 100; len++) {
        struct content_hasher *fresh = content_hasher_new(&key);
        struct content_hash a, b;
        memset(block, (int)len, len);
        content_hash(one, block, len, &a);
        content_hash(fresh, block, len, &b);
        CHECK(content_hash_equal(&a, &b));
        content_hasher_free(fresh);
    }
    content_hasher_free(one);
}

/* Blocks that end with their own crc32c are one for that, and not for the hash; nor are any that differ in a
 * bit. */
static void blocks_of_one_checksum_differ(void)
{
    struct content_key key = content_key_make(0x0123456789abcdef, 0xfedcba9876543210);
    struct content_hasher *hasher = content_hasher_new(&key);
    struct content_hash a, b;

    memset(block, 1, BLOCK_SIZE);
    memset(other, 2, BLOCK_SIZE);
    le_store_u32(block + BLOCK_SIZE - 4, crc32c(0, block, BLOCK_SIZE - 4));
    le_store_u32(other + BLOCK_SIZE - 4, crc32c(0, other, BLOCK_SIZE - 4));
    CHECK_EQ(crc32c(0, block, BLOCK_SIZE), crc32c(0, other, BLOCK_SIZE));
    content_hash(hasher, block, BLOCK_SIZE, &a);
    content_hash(hasher, other, BLOCK_SIZE, &b);
    CHECK(!content_hash_equal(&a, &b));
    for (uint32_t bit = 0; bit < 8 * BLOCK_SIZE; bit += 101) {
        memcpy(other, block, BLOCK_SIZE);
        other[bit / 8] ^= (uint8_t)(1u << bit % 8);
        content_hash(hasher, other, BLOCK_SIZE, &b);
        CHECK(!content_hash_equal(&a, &b));
    }
    content_hasher_free(hasher);
}

static void the_key_matters(void)
{
    struct content_key keys[2] = {content_key_make(1, 2), content_key_make(3, 2)};
    struct content_hash hashes[2];

    for (int i = 0; i < 2; i++) {
        struct content_hasher *hasher = content_hasher_new(&keys[i]);
        content_hash(hasher, block, BLOCK_SIZE, &hashes[i]);
        content_hasher_free(hasher);
    }
    CHECK(!content_hash_equal(&hashes[0], &hashes[1]));
}

int main(void)
{
    TEST(published_value);
    TEST(nothing_stays);
    TEST(blocks_of_one_checksum_differ);
    TEST(the_key_matters);
    return tap_done();
}
