/* SPDX-License-Identifier: Apache-2.0
 *
 * The real environment: CLOCK_BOOTTIME, xoshiro256** seeded by the kernel, log lines on stderr,
 * as far as it takes them.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "backend/backend.h"

#define LINE_LEN_MAX 1400

static uint64_t env_now_ns(void *self)
{
    struct env *env = self;
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    env->recent_ns = (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
    return env->recent_ns;
}

static uint64_t env_recent_ns(void *self)
{
    return ((const struct env *)self)->recent_ns;
}

static uint64_t env_wall_us(void *self)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / NS_PER_US;
}

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

/* xoshiro256**, by David Blackman and Sebastiano Vigna. */
static uint64_t env_random_u64(void *self)
{
    uint64_t *s = ((struct env *)self)->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

/* Waits for nobody: a terminal that is held, or a pipe that nobody empties, would hold up the thread, and all
 * that it serves, for as long. A pipe that is writable has room for a page, so for this line, too, behind
 * what other threads may have to say at this very moment. One call per line, so that lines do not mix. */
static bool env_put(const char *line, size_t len)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&out, 1, 0) != 0 && write(STDERR_FILENO, line, len) == (ssize_t)len;
}

static void env_log(void *self, enum log_level level, const char *room, const char *text)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    struct env *env = self;
    char line[LINE_LEN_MAX], lost[48] = "";
    struct timespec t;
    struct tm tm;

    if (level > env->log_level)
        return;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    size_t len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    if (env->lines_lost)
        snprintf(lost, sizeof(lost), "(%llu lines lost) ", (unsigned long long)env->lines_lost);
    int more = snprintf(line + len, sizeof(line) - len, ".%03dZ %s %s%s%s: %s%s\n",
                        (int)(t.tv_nsec / 1000000), names[level], env->log_prefix ? env->log_prefix : "",
                        env->log_prefix ? " " : "", room, lost, text);
    len = MIN(len + (size_t)MAX(more, 0), sizeof(line) - 1);
    line[len - 1] = '\n';
    env->lines_lost = env_put(line, len) ? 0 : env->lines_lost + 1;
}

void env_init(struct env *env, enum log_level log_level, const char *log_prefix)
{
    *env = (struct env){.log_level = log_level, .log_prefix = log_prefix};
    /* Up to 256 bytes are never cut short once the kernel's pool is ready, and the call waits for that. */
    ssize_t got = getrandom(env->random, sizeof(env->random), 0);
    ASSERT(got == (ssize_t)sizeof(env->random));
    env_now_ns(env);
}

static void *env_memory(void *self, size_t bytes)
{
    void *memory = aligned_alloc(CORE_MEMORY_ALIGN, bytes);

    if (memory)
        madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

const struct env_ops env_ops = {env_now_ns, env_recent_ns, env_wall_us, env_random_u64, env_log, env_memory};
