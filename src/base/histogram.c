/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading histograms.
 */
#include "base/histogram.h"

/* The middle of a bucket. */
static uint64_t histogram_bucket_value_ns(uint32_t bucket)
{
    if (bucket < 2u << HISTOGRAM_STEP_BITS)
        return bucket;
    uint32_t shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    uint64_t low = (uint64_t)(bucket - (shift << HISTOGRAM_STEP_BITS)) << shift;
    return low + (1ull << shift) / 2;
}

uint64_t histogram_percentile_ns(const struct histogram *h, double percent)
{
    if (h->count == 0)
        return 0;
    double wanted = percent / 100.0 * (double)h->count;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] && (double)seen >= wanted)
            return MAX(h->min_ns, MIN(h->max_ns, histogram_bucket_value_ns(i)));
    }
    return h->max_ns;
}

uint64_t histogram_mean_ns(const struct histogram *h)
{
    return h->count ? h->sum_ns / h->count : 0;
}
