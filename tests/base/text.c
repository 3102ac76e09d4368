/* SPDX-License-Identifier: Apache-2.0
 *
 * Sizes, numbers and uuids to and from text, and little-endian access.
 */
#include "base/text.h"

#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "base/uuid.h"
#include "tests/tap.h"

static void sizes_are_read(void)
{
    static const struct {
        const char *text;
        int result;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"4096", 0, 4096},
        {"128k", 0, 128 << 10},
        {"128K", 0, 128 << 10},
        {"4G", 0, 4ull << 30},
        {"4GiB", 0, 4ull << 30},
        {"4GB", 0, 4ull << 30},
        {"512B", 0, 512},
        {"2T", 0, 2ull << 40},
        {"1P", 0, 1ull << 50},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERR_RANGE, 0},
        {"16777216T", -ERR_RANGE, 0},
        {"", -ERR_INVALID, 0},
        {"G", -ERR_INVALID, 0},
        {"-1", -ERR_INVALID, 0},
        {" 1", -ERR_INVALID, 0},
        {"1 G", -ERR_INVALID, 0},
        {"1Gi", -ERR_INVALID, 0},
        {"1GiBx", -ERR_INVALID, 0},
        {"1.5G", -ERR_INVALID, 0},
        {"0x10", -ERR_INVALID, 0},
        {"1@", -ERR_INVALID, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t bytes = 0;
        int result = text_parse_size(cases[i].text, &bytes);
        CHECK_EQ(result, cases[i].result);
        CHECK(bytes == cases[i].bytes);
        if (!tap_ok)
            printf("# case \"%s\"\n", cases[i].text);
    }
    uint64_t value = 7;
    CHECK_EQ(text_parse_u64("12k", &value), -ERR_INVALID);
    CHECK_EQ(value, 7);
    CHECK_EQ(text_parse_u64("12", &value), 0);
    CHECK_EQ(value, 12);
}

static void sizes_are_written(void)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {512, "512 B"},
        {4096, "4 KiB"},
        {1536, "1.5 KiB"},
        {4ull << 30, "4 GiB"},
        {1ull << 60, "1 EiB"},
        {UINT64_MAX, "16 EiB"},
        {(10ull << 20) + (1 << 18), "10.3 MiB"},
    };
    char text[TEXT_SIZE_MAX];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CHECK(strcmp(text_format_size(cases[i].bytes, text), cases[i].text) == 0);
        if (!tap_ok)
            printf("# %s is not %s\n", text, cases[i].text);
    }
}

static void copies_are_bounded(void)
{
    char to[5];

    CHECK_EQ(text_copy(to, sizeof(to), "four"), 0);
    CHECK(strcmp(to, "four") == 0);
    CHECK_EQ(text_copy(to, sizeof(to), "fives"), -ERR_TOO_LARGE);
    CHECK_EQ(to[0], 0);
}

static void uuids(void)
{
    struct uuid none = {{0}}, uuid = uuid_make(0x1122334455667788ull, 0x99aabbccddeeff00ull);
    struct uuid known = {{0x6f, 0x1c, 0x9f, 0x0e, 0x3b, 0x1d, 0x4a, 0x52, 0x9d, 0x5e, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab}};
    char text[UUID_TEXT_SIZE];

    CHECK_EQ(strlen(uuid_format(&uuid, text)), 36);
    CHECK_EQ(text[14], '4');
    CHECK(text[19] == '8' || text[19] == '9' || text[19] == 'a' || text[19] == 'b');
    CHECK(uuid_is_zero(&none) && !uuid_is_zero(&uuid));
    CHECK(strcmp(uuid_format(&known, text), "6f1c9f0e-3b1d-4a52-9d5e-0123456789ab") == 0);
}

static void little_endian(void)
{
    uint8_t bytes[9] = {0};

    le_store_u64(bytes + 1, 0x0807060504030201ull);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(bytes[1 + i], i + 1);
    CHECK_EQ(le_load_u16(bytes + 1), 0x0201);
    CHECK_EQ(le_load_u32(bytes + 3), 0x06050403);
    CHECK(le_load_u64(bytes + 1) == 0x0807060504030201ull);
}

int main(void)
{
    TEST(sizes_are_read);
    TEST(sizes_are_written);
    TEST(copies_are_bounded);
    TEST(uuids);
    TEST(little_endian);
    return tap_done();
}
