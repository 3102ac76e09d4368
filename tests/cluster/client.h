/* SPDX-License-Identifier: Apache-2.0
 *
 * What the clients of the process tests have in common.
 */
#ifndef TESTS_CLUSTER_CLIENT_H
#define TESTS_CLUSTER_CLIENT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* The next one of a row that `state`, not 0, begins. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* An argument NAME=TEXT, or NAME alone, which is "1"; NULL: there is none. */
static inline const char *option(int argc, char **argv, const char *name)
{
    size_t len = strlen(name);
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], name, len) == 0 && (argv[i][len] == '=' || !argv[i][len]))
            return argv[i][len] ? argv[i] + len + 1 : "1";
    return NULL;
}

static inline uint64_t number(int argc, char **argv, const char *name, uint64_t standard)
{
    const char *text = option(argc, argv, name);
    return text ? strtoull(text, NULL, 10) : standard;
}

#endif
