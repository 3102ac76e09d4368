/* SPDX-License-Identifier: Apache-2.0
 *
 * Log-linear histogram of latencies in nanoseconds: 32 steps per power of two, so that a percentile is off by
 * at most 3%. Recording is a few instructions and no allocation; a value beyond 2^40 ns (18 minutes) counts
 * as that. A zeroed struct is an empty histogram.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include "base/base.h"

#define HISTOGRAM_STEP_BITS  5
#define HISTOGRAM_VALUE_BITS 40
#define HISTOGRAM_BUCKETS    ((HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS)

struct histogram {
    uint64_t count;
    uint64_t sum_ns;
    uint64_t min_ns, max_ns; /* exact; meaningless while count is 0 */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* The bucket of a value: below 2^5 one per value, above that 2^5 per power of two. */
static inline uint32_t histogram_bucket(uint64_t value_ns)
{
    if (value_ns >= 1ull << HISTOGRAM_VALUE_BITS)
        value_ns = (1ull << HISTOGRAM_VALUE_BITS) - 1;
    if (value_ns < 1u << HISTOGRAM_STEP_BITS)
        return (uint32_t)value_ns;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value_ns) - HISTOGRAM_STEP_BITS;
    return (shift << HISTOGRAM_STEP_BITS) + (uint32_t)(value_ns >> shift);
}

static inline void histogram_record(struct histogram *h, uint64_t value_ns)
{
    if (h->count == 0 || value_ns < h->min_ns)
        h->min_ns = value_ns;
    if (value_ns > h->max_ns)
        h->max_ns = value_ns;
    h->count++;
    h->sum_ns += value_ns;
    h->buckets[histogram_bucket(value_ns)]++;
}

/* Coarse buckets, for many small histograms: four per power of two (a value is off by at most 12%) from
 * 2^10 ns (1 us) to 2^34 ns (17 s). Bucket 0 also has what is less, the last one what is more. */
#define HISTOGRAM_COARSE 97

static inline uint32_t histogram_coarse_bucket(uint64_t value_ns)
{
    if (value_ns < 1u << 10)
        return 0;
    if (value_ns >= 1ull << 34)
        return HISTOGRAM_COARSE - 1;
    uint32_t log = 63 - (uint32_t)__builtin_clzll(value_ns);
    return 4 * (log - 10) + (uint32_t)(value_ns >> (log - 2) & 3);
}

/* The middle of a coarse bucket. */
static inline uint64_t histogram_coarse_ns(uint32_t bucket)
{
    return ((9 + 2 * (uint64_t)(bucket % 4)) << (bucket / 4 + 10)) / 8;
}

/* The value that `percent` (0 .. 100) of all recorded ones do not exceed, within the precision; 0 when empty.
 */
uint64_t histogram_percentile_ns(const struct histogram *h, double percent);
uint64_t histogram_mean_ns(const struct histogram *h); /* 0 when empty */

#endif
