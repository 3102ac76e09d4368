/* SPDX-License-Identifier: Apache-2.0
 *
 * Random streams. Every purpose (a disk's latencies, a disk's faults, a node's own random source, a
 * scenario's workload ...) draws from a stream of its own, made from the run's seed and a name, so that one
 * draw more in one place does not shift what all the others see.
 *
 * A stream is a counter put through a mixing function (SplitMix64, Steele, Lea and Flood 2014).
 */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include <string.h>

#include "base/hash.h"

struct sim_rng {
    uint64_t state;
};

static inline struct sim_rng sim_rng_make(uint64_t seed, const char *purpose, uint64_t index)
{
    return (struct sim_rng){hash_pair(hash_pair(seed, hash_bytes(0, purpose, strlen(purpose))), index)};
}

static inline uint64_t sim_rng_u64(struct sim_rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15ull;
    return hash_u64(rng->state);
}

/* 0 .. n - 1; n > 0. The bias of the remainder is of no importance here. */
static inline uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n)
{
    return sim_rng_u64(rng) % n;
}

/* min .. max, both included. */
static inline uint64_t sim_rng_range(struct sim_rng *rng, uint64_t min, uint64_t max)
{
    return max <= min ? min : min + sim_rng_below(rng, max - min + 1);
}

/* True `ppm` times in a million. Draws nothing when ppm is 0, so that a fault that is off costs nothing. */
static inline bool sim_rng_chance(struct sim_rng *rng, uint32_t ppm)
{
    return ppm && sim_rng_below(rng, 1000000) < ppm;
}

/* Skewed like a latency: at least `min`, mostly below 2 * `typical`, with a long tail (geometric doubling).
 */
static inline uint64_t sim_rng_latency(struct sim_rng *rng, uint64_t min, uint64_t typical)
{
    uint64_t bits = sim_rng_u64(rng);
    uint64_t scale = typical;

    for (uint32_t i = 0; i < 6 && (bits & 7) == 0; i++, bits >>= 3)
        scale *= 2;
    return min + sim_rng_below(rng, scale + 1);
}

#endif
