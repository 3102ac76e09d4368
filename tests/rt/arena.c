/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena: buffers never overlap, everything merges back, references count.
 */
#include "tests/tap.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rt/clock.h"
#include "rt/buf.h"

static void *memory_new(size_t size)
{
    void *memory = aligned_alloc(BUF_SIZE_MAX, ALIGN_UP(size, (size_t)BUF_SIZE_MAX));
    memset(memory, 0, size);
    return memory;
}

static void everything_can_be_taken_and_merges_back(void)
{
    size_t size = 3 * BUF_SIZE_MAX + 5 * BLOCK_SIZE;
    void *memory = memory_new(size);
    struct arena *arena = arena_new(memory, size);
    struct buf *bufs[3 * BLOCKS_PER_OBJECT + 5];
    size_t count = ARRAY_LEN(bufs);

    CHECK(arena_memory(arena) == memory);
    CHECK_EQ(arena_size(arena), size);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < count; i++) {
            bufs[i] = buf_new(arena, 1);
            CHECK(bufs[i] != NULL);
        }
        CHECK(buf_new(arena, 1) == NULL);
        CHECK_EQ(arena_free_bytes(arena), 0);
        for (size_t i = 0; i < count; i++)
            buf_unref(bufs[(i * 7 + 3) % count]);
        CHECK_EQ(arena_free_bytes(arena), size);
        /* The kept single blocks must not stand in the way of the large ones. */
        struct buf *large[3];
        for (int i = 0; i < 3; i++) {
            large[i] = buf_new(arena, BUF_SIZE_MAX);
            CHECK(large[i] != NULL);
        }
        for (int i = 0; i < 3; i++)
            buf_unref(large[i]);
    }
    arena_free(arena);
    free(memory);
}

#define OUT_MAX 600

static void random_history(void)
{
    size_t size = 8 * BUF_SIZE_MAX;
    uint8_t *memory = memory_new(size);
    uint16_t *owner = calloc(size / BLOCK_SIZE, sizeof(*owner)); /* by block: which buffer has it, plus one */
    struct arena *arena = arena_new(memory, size);
    struct buf *out[OUT_MAX] = {0};
    struct clock clock = {.random = 1};
    size_t used = 0;
    int refused = 0;

    for (int round = 0; round < 200000 && tap_ok; round++) {
        uint64_t random = clock_random_u64(&clock);
        uint32_t i = random % OUT_MAX;
        if (out[i]) {
            uint32_t first = (uint32_t)(out[i]->data - memory) / BLOCK_SIZE;
            for (uint32_t b = 0; b < out[i]->size_bytes / BLOCK_SIZE; b++) {
                CHECK_EQ(owner[first + b], i + 1);
                owner[first + b] = 0;
            }
            CHECK_EQ(out[i]->data[out[i]->size_bytes - 1], (uint8_t)i);
            used -= out[i]->size_bytes;
            buf_unref(out[i]);
            out[i] = NULL;
            continue;
        }
        /* Half are single blocks, the others any size. */
        uint32_t len = random >> 32 & 1 ? BLOCK_SIZE : 1u << (random >> 33) % 22;
        if ((random >> 40 & 3) == 0)
            len = len / 2 + 1;
        struct buf *buf = buf_new(arena, len);
        if (!buf) {
            refused++;
            continue;
        }
        CHECK(buf->size_bytes >= len && (buf->size_bytes < 2 * len || buf->size_bytes == BLOCK_SIZE));
        CHECK(IS_ALIGNED((uintptr_t)buf->data, BLOCK_SIZE));
        CHECK(buf->data >= memory && buf->data + buf->size_bytes <= memory + size);
        CHECK_EQ(buf->refs, 1);
        uint32_t first = (uint32_t)(buf->data - memory) / BLOCK_SIZE;
        for (uint32_t b = 0; b < buf->size_bytes / BLOCK_SIZE; b++) {
            CHECK_EQ(owner[first + b], 0);
            owner[first + b] = (uint16_t)(i + 1);
        }
        buf->data[buf->size_bytes - 1] = (uint8_t)i;
        used += buf->size_bytes;
        CHECK_EQ(arena_free_bytes(arena), size - used);
        out[i] = buf;
    }
    CHECK(refused > 0); /* else the arena was too large for the test to mean much */
    for (int i = 0; i < OUT_MAX; i++)
        buf_unref(out[i]);
    for (int i = 0; i < 8; i++) {
        out[i] = buf_new(arena, BUF_SIZE_MAX);
        CHECK(out[i] != NULL);
    }
    for (int i = 0; i < 8; i++)
        buf_unref(out[i]);
    arena_free(arena);
    free(owner);
    free(memory);
}

static void slices_hold_references(void)
{
    void *memory = memory_new(BUF_SIZE_MAX);
    struct arena *arena = arena_new(memory, BUF_SIZE_MAX);
    struct slice all = {.buf = buf_new(arena, 8192), .len = 8192};
    struct slice empty = {0};

    struct slice part = slice_sub(&all, 4096, 100);
    CHECK_EQ(all.buf->refs, 2);
    CHECK(slice_data(&part) == all.buf->data + 4096);
    struct slice inner = slice_sub(&part, 50, 50);
    CHECK(slice_data(&inner) == all.buf->data + 4146);
    struct slice nothing = slice_sub(&empty, 0, 0);
    CHECK(nothing.buf == NULL);
    slice_unref(&nothing);
    slice_unref(&all);
    CHECK(all.buf == NULL && part.buf->refs == 2);
    slice_unref(&part);
    slice_unref(&inner);
    CHECK_EQ(arena_free_bytes(arena), BUF_SIZE_MAX);
    arena_free(arena);
    free(memory);
}

static void double_unref(struct arena *arena)
{
    struct buf *buf = buf_new(arena, 1);
    buf_unref(buf);
    buf_unref(buf);
}

static void leak(struct arena *arena)
{
    (void)!buf_new(arena, 1);
    arena_free(arena);
}

static bool aborts(void (*what)(struct arena *), struct arena *arena)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        what(arena);
        _exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void bugs_are_caught(void)
{
    void *memory = memory_new(BUF_SIZE_MAX);
    struct arena *arena = arena_new(memory, BUF_SIZE_MAX);

    CHECK(aborts(double_unref, arena));
    CHECK(aborts(leak, arena));
    arena_free(arena);
    free(memory);
}

int main(void)
{
    TEST(everything_can_be_taken_and_merges_back);
    TEST(random_history);
    TEST(slices_hold_references);
    TEST(bugs_are_caught);
    return tap_done();
}
