/* SPDX-License-Identifier: Apache-2.0
 *
 * Objects to PGs: values that never change, and what growing does.
 */
#include "base/placement.h"

#include "tests/tap.h"

static void values_stay(void)
{
    static const struct {
        uint64_t key, object;
        uint32_t pg_count, number;
    } rows[] = {
        {1, 0, 1, 0},     {1, 0, 64, 56},   {1, 1, 64, 59},       {77, 5, 8, 4},
        {77, 5, 100, 52}, {77, 6, 100, 68}, {1, 2, 65536, 27507}, {1ull << 40, 1ull << 33, 12, 1},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        CHECK_EQ(placement_pg_number(rows[i].key, rows[i].object, rows[i].pg_count), rows[i].number);
}

/* One PG more: all that moves goes to the new one, and comes from one. */
static void growing_splits_one(void)
{
    for (uint32_t count = 1; count <= 130; count++) {
        uint32_t half = 1, moved = 0;
        while (half * 2 <= count)
            half *= 2;
        for (uint64_t object = 0; object < 20000; object++) {
            uint32_t before = placement_pg_number(3, object, count),
                     after = placement_pg_number(3, object, count + 1);
            CHECK(before < count);
            if (before == after)
                continue;
            CHECK_EQ(after, count);
            CHECK_EQ(before, count - half);
            moved++;
        }
        CHECK(moved > 20000 / half / 2 * 8 / 10 && moved < 20000 / half / 2 * 12 / 10 + 40);
    }
}

static void powers_of_two_are_even(void)
{
    static uint32_t in[64];

    for (uint64_t image = 1; image <= 100; image++)
        for (uint64_t object = 0; object < 640; object++)
            in[placement_pg_number(image, object, 64)]++;
    for (uint32_t i = 0; i < 64; i++)
        CHECK(in[i] > 1000 - 150 && in[i] < 1000 + 150);
}

int main(void)
{
    TEST(values_stay);
    TEST(growing_splits_one);
    TEST(powers_of_two_are_even);
    return tap_done();
}
