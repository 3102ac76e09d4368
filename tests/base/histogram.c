/* SPDX-License-Identifier: Apache-2.0
 *
 * The histogram's precision, against the exact answer.
 */
#include "base/histogram.h"

#include <stdlib.h>

#include "tests/tap.h"

static struct histogram h;

static bool near(uint64_t is, uint64_t wanted)
{
    double d = (double)is - (double)wanted;
    return (d < 0 ? -d : d) <= (double)wanted * 0.04;
}

static void empty(void)
{
    h = (struct histogram){0};
    CHECK_EQ(histogram_percentile_ns(&h, 50), 0);
    CHECK_EQ(histogram_mean_ns(&h), 0);
}

/* Each value alone comes back exactly; between others, within the precision. */
static void every_magnitude(void)
{
    for (uint64_t v = 1; v < 1ull << 40; v = v * 5 / 4 + 1) {
        h = (struct histogram){0};
        histogram_record(&h, 1);
        histogram_record(&h, v);
        histogram_record(&h, 1ull << 39);
        CHECK(near(histogram_percentile_ns(&h, 50), MIN(v, 1ull << 39)));
        CHECK(histogram_bucket(v) >= histogram_bucket(v - 1));
        CHECK(histogram_bucket(v) < HISTOGRAM_BUCKETS);
    }
    CHECK(histogram_bucket(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);
}

static void percentiles(void)
{
    h = (struct histogram){0};
    for (uint64_t i = 1; i <= 100000; i++)
        histogram_record(&h, i * 10);
    CHECK_EQ(h.count, 100000);
    CHECK_EQ(histogram_mean_ns(&h), 500005);
    CHECK(near(histogram_percentile_ns(&h, 50), 500000));
    CHECK(near(histogram_percentile_ns(&h, 99), 990000));
    CHECK(near(histogram_percentile_ns(&h, 99.9), 999000));
    CHECK_EQ(histogram_percentile_ns(&h, 0), 10);
    CHECK(near(histogram_percentile_ns(&h, 100), 1000000));
    CHECK_EQ(h.min_ns, 10);
    CHECK_EQ(h.max_ns, 1000000);
}

static void coarse(void)
{
    static const uint64_t begins[] = {0, 1280, 1536, 1792, 2048, 2560};
    for (uint32_t i = 0; i < ARRAY_LEN(begins); i++) {
        CHECK_EQ(histogram_coarse_bucket(begins[i]), i);
        if (i)
            CHECK_EQ(histogram_coarse_bucket(begins[i] - 1), i - 1);
    }
    CHECK_EQ(histogram_coarse_bucket(UINT64_MAX), HISTOGRAM_COARSE - 1);
    CHECK_EQ(histogram_coarse_bucket(1ull << 34), HISTOGRAM_COARSE - 1);
    CHECK_EQ(histogram_coarse_bucket((1ull << 34) - 1), HISTOGRAM_COARSE - 2);
    for (uint64_t value = 1280; value < 1ull << 34; value += value / 7) {
        uint64_t middle = histogram_coarse_ns(histogram_coarse_bucket(value));
        CHECK(middle * 100 >= value * 89 && middle * 100 <= value * 113);
        CHECK_EQ(histogram_coarse_bucket(middle), histogram_coarse_bucket(value));
    }
}

int main(void)
{
    TEST(empty);
    TEST(every_magnitude);
    TEST(percentiles);
    TEST(coarse);
    return tap_done();
}
