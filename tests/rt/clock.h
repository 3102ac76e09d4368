/* SPDX-License-Identifier: Apache-2.0
 *
 * An environment with a clock that stands still until the test moves it.
 */
#ifndef TESTS_RT_CLOCK_H
#define TESTS_RT_CLOCK_H

#include "rt/core.h"

struct clock {
    uint64_t now_ns, random;
    int lines;
};

static inline uint64_t clock_now_ns(void *self)
{
    return ((struct clock *)self)->now_ns;
}

static inline uint64_t clock_wall_us(void *self)
{
    return 0;
}

/* A linear congruential generator (Knuth's MMIX constants), upper bits first. */
static inline uint64_t clock_random_u64(void *self)
{
    struct clock *clock = self;
    clock->random = clock->random * 6364136223846793005ull + 1442695040888963407ull;
    return clock->random >> 33 | clock->random << 31;
}

static inline void clock_log(void *self, enum log_level level, const char *room, const char *line)
{
    ((struct clock *)self)->lines++;
}

static const struct env_ops clock_env = {clock_now_ns, NULL, clock_wall_us, clock_random_u64, clock_log, NULL};

#endif
