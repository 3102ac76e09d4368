/* SPDX-License-Identifier: Apache-2.0
 *
 * Where objects go is part of the format: golden values, and the spread.
 */
#include "base/placement.h"
#include "tests/tap.h"

static void test_values_never_change(void)
{
    static const struct {
        uint64_t key, object;
        uint32_t pg_count, number;
    } rows[] = {
        {0x1ull, 0x0ull, 64, 56},
        {0x1ull, 0x1ull, 64, 59},
        {0x1ull, 0x2ull, 64, 51},
        {0x2ull, 0x0ull, 64, 60},
        {0x7ull, 0x3039ull, 16, 1},
        {0x10000000000ull, 0x200000000ull, 100, 1},
        {0xffffffffffffffffull, 0xffffffffffffffffull, 1, 0},
        {0x3ull, 0x7ffffull, 4096, 3289},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_EQ(placement_pg_number(rows[i].key, rows[i].object, rows[i].pg_count), rows[i].number);
    CHECK_EQ(placement_pg_id(7, 9), 0x700000009);
}

static void test_spread(void)
{
    static uint32_t counts[64];

    for (uint64_t key = 1; key <= 4; key++)
        for (uint64_t object = 0; object < 16000; object++)
            counts[placement_pg_number(key, object, 64)]++;
    for (uint32_t i = 0; i < 64; i++)
        CHECK(counts[i] > 850 && counts[i] < 1150); /* 1000 each */
}

int main(void)
{
    TEST(test_values_never_change);
    TEST(test_spread);
    return tap_done();
}
