/* SPDX-License-Identifier: Apache-2.0
 *
 * CRC-32C: published values, the fast form against the plain one, the constant.
 */
#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

#include "tests/tap.h"

/* The values of RFC 3720, appendix B.4, and the usual check string. */
static void published_values(void)
{
    uint8_t bytes[32];

    CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283);
    CHECK_EQ(crc32c(0, "", 0), 0);
    memset(bytes, 0, 32);
    CHECK_EQ(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    CHECK_EQ(crc32c(0, bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    CHECK_EQ(crc32c(0, bytes, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    CHECK_EQ(crc32c(0, bytes, 32), 0x113fdb5c);
}

static void fast_equals_plain(void)
{
    static uint8_t bytes[3 * BLOCK_SIZE + 100];

    srand(1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(rand() >> 4);
    for (int i = 0; i < 3000 && tap_ok; i++) {
        size_t offset = (size_t)rand() % 64, len = (size_t)rand() % (sizeof(bytes) - offset);
        uint32_t seed = (uint32_t)rand();
        uint32_t plain = crc32c_portable(seed, bytes + offset, len);
        CHECK_EQ(crc32c(seed, bytes + offset, len), plain);
        CHECK_EQ(crc32c_narrow(seed, bytes + offset, len), plain);
    }
    for (size_t len = BLOCK_SIZE - 20; len < BLOCK_SIZE + 20; len++)
        CHECK_EQ(crc32c(7, bytes, len), crc32c_portable(7, bytes, len));
}

static void pieces_chain(void)
{
    static uint8_t bytes[2 * BLOCK_SIZE];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 31);
    uint32_t whole = crc32c(0, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut += 97)
        CHECK_EQ(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut), whole);
}

static void the_zero_block(void)
{
    static const uint8_t zeros[BLOCK_SIZE];

    CHECK_EQ(crc32c(0, zeros, BLOCK_SIZE), CRC32C_ZERO_BLOCK);
    CHECK_EQ(crc32c_portable(0, zeros, BLOCK_SIZE), CRC32C_ZERO_BLOCK);
}

int main(void)
{
    TEST(published_values);
    TEST(fast_equals_plain);
    TEST(pieces_chain);
    TEST(the_zero_block);
    return tap_done();
}
