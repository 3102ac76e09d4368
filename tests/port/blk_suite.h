/* SPDX-License-Identifier: Apache-2.0
 *
 * The suite of rt/blk.h: what every block device must do, tried on two adjacent windows of one device, both
 * zeroed, on side 0 of the world. Included by the one program per implementation.
 */
#ifndef TESTS_PORT_BLK_SUITE_H
#define TESTS_PORT_BLK_SUITE_H

#include <stdlib.h>
#include <string.h>

#include "rt/blk.h"
#include "tests/port/world.h"
#include "tests/tap.h"

#define BLK_SUITE_WINDOW (8u << 20)

#define BLOCKS (BLK_SUITE_WINDOW / BLOCK_SIZE)

static struct world *the_world;
static struct blk *windows[2];
static struct waiter waiter;

static void *memory_new(size_t size)
{
    void *memory = aligned_alloc(BLOCK_SIZE, size);
    memset(memory, 0, size);
    return memory;
}

static void fill(uint8_t *memory, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i += 4, seed = seed * 1664525 + 1013904223)
        memcpy(memory + i, &seed, 4);
}

static bool not_pending(void *owner)
{
    return !((struct blk_io *)owner)->pending;
}

static void submit(struct blk *blk, struct blk_io *io)
{
    the_world->enter(the_world, 0);
    blk_submit(blk, io, &waiter.op);
    /* A request never completes inside the call. */
    CHECK(io->pending);
    the_world->leave(the_world, 0);
}

static int do_io(struct blk *blk, enum blk_type type, uint32_t flags, uint64_t offset,
                 const struct iovec *iov, uint32_t count)
{
    struct blk_io io = {.type = type, .flags = flags, .offset = offset, .iov = iov, .iov_count = count};

    for (uint32_t i = 0; i < count; i++)
        io.len += iov[i].iov_len;
    submit(blk, &io);
    CHECK(the_world->run(the_world, not_pending, &io, WORLD_WAIT_NS));
    return io.result;
}

static int do_flat(struct blk *blk, enum blk_type type, uint32_t flags, uint64_t offset, void *memory,
                   size_t len)
{
    struct iovec iov = {memory, len};
    return do_io(blk, type, flags, offset, &iov, 1);
}

static int do_range(struct blk *blk, enum blk_type type, uint64_t offset, uint64_t len)
{
    struct blk_io io = {.type = type, .offset = offset, .len = len};

    submit(blk, &io);
    CHECK(the_world->run(the_world, not_pending, &io, WORLD_WAIT_NS));
    return io.result;
}

static void what_is_written_is_read(void)
{
    static const size_t sizes[] = {BLOCK_SIZE, 3 * BLOCK_SIZE, 64 << 10, 1 << 20};
    uint8_t *out = memory_new(1 << 20), *in = memory_new(1 << 20);

    CHECK_EQ(windows[0]->size_bytes, BLK_SUITE_WINDOW);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t offset = i * (2u << 20);
        fill(out, sizes[i], (uint32_t)i);
        memset(in, 0, sizes[i]);
        CHECK_EQ(do_flat(windows[0], BLK_WRITE, i & 1 ? BLK_FUA : 0, offset, out, sizes[i]), 0);
        CHECK_EQ(do_flat(windows[0], BLK_READ, 0, offset, in, sizes[i]), 0);
        CHECK(memcmp(in, out, sizes[i]) == 0);
    }
    free(out);
    free(in);
}

static void unwritten_reads_as_it_was(void)
{
    uint8_t *in = memory_new(1 << 20), *zeros = memory_new(1 << 20);

    memset(in, 1, 1 << 20);
    CHECK_EQ(do_flat(windows[1], BLK_READ, 0, 0, in, 1 << 20), 0);
    CHECK(memcmp(in, zeros, 1 << 20) == 0);
    free(in);
    free(zeros);
}

static void pieces_are_gathered_and_scattered(void)
{
    struct iovec out[BLK_IOV_MAX], in[BLK_IOV_MAX];
    size_t size = BLK_IOV_MAX * BLOCK_SIZE;
    uint8_t *from = memory_new(size), *to = memory_new(size);

    fill(from, size, 99);
    for (uint32_t i = 0; i < BLK_IOV_MAX; i++) {
        out[i] = (struct iovec){from + (size_t)i * BLOCK_SIZE, BLOCK_SIZE};
        in[i] = (struct iovec){to + (size_t)(BLK_IOV_MAX - 1 - i) * BLOCK_SIZE, BLOCK_SIZE};
    }
    CHECK_EQ(do_io(windows[0], BLK_WRITE, 0, 1 << 20, out, BLK_IOV_MAX), 0);
    CHECK_EQ(do_io(windows[0], BLK_READ, 0, 1 << 20, in, BLK_IOV_MAX), 0);
    for (uint32_t i = 0; i < BLK_IOV_MAX; i++)
        CHECK(memcmp(in[i].iov_base, out[i].iov_base, BLOCK_SIZE) == 0);
    free(from);
    free(to);
}

static void windows_do_not_overlap(void)
{
    uint8_t *a = memory_new(BLOCK_SIZE), *b = memory_new(BLOCK_SIZE), *in = memory_new(BLOCK_SIZE);

    fill(a, BLOCK_SIZE, 1);
    fill(b, BLOCK_SIZE, 2);
    /* The last block of the first one, the first of the second. */
    CHECK_EQ(do_flat(windows[0], BLK_WRITE, 0, BLK_SUITE_WINDOW - BLOCK_SIZE, a, BLOCK_SIZE), 0);
    CHECK_EQ(do_flat(windows[1], BLK_WRITE, 0, 0, b, BLOCK_SIZE), 0);
    CHECK_EQ(do_flat(windows[0], BLK_READ, 0, BLK_SUITE_WINDOW - BLOCK_SIZE, in, BLOCK_SIZE), 0);
    CHECK(memcmp(in, a, BLOCK_SIZE) == 0);
    CHECK_EQ(do_flat(windows[1], BLK_READ, 0, 0, in, BLOCK_SIZE), 0);
    CHECK(memcmp(in, b, BLOCK_SIZE) == 0);
    free(a);
    free(b);
    free(in);
}

static void flush_and_discard(void)
{
    uint8_t *out = memory_new(CHUNK_SIZE), *in = memory_new(CHUNK_SIZE);

    fill(out, CHUNK_SIZE, 3);
    CHECK_EQ(do_range(windows[0], BLK_FLUSH, 0, 0), 0);
    CHECK_EQ(do_flat(windows[0], BLK_WRITE, 0, CHUNK_SIZE, out, CHUNK_SIZE), 0);
    CHECK_EQ(do_flat(windows[0], BLK_WRITE, 0, 2 * CHUNK_SIZE, out, CHUNK_SIZE), 0);
    CHECK_EQ(do_range(windows[0], BLK_FLUSH, 0, 0), 0);
    CHECK_EQ(do_range(windows[0], BLK_DISCARD, CHUNK_SIZE, CHUNK_SIZE), 0);
    CHECK_EQ(do_range(windows[0], BLK_FLUSH, 0, 0), 0);
    /* What a discarded range reads as is open; its neighbour is untouched, and it can be written again. */
    CHECK_EQ(do_flat(windows[0], BLK_READ, 0, CHUNK_SIZE, in, CHUNK_SIZE), 0);
    CHECK_EQ(do_flat(windows[0], BLK_READ, 0, 2 * CHUNK_SIZE, in, CHUNK_SIZE), 0);
    CHECK(memcmp(in, out, CHUNK_SIZE) == 0);
    fill(out, CHUNK_SIZE, 4);
    CHECK_EQ(do_flat(windows[0], BLK_WRITE, BLK_FUA, CHUNK_SIZE, out, CHUNK_SIZE), 0);
    CHECK_EQ(do_flat(windows[0], BLK_READ, 0, CHUNK_SIZE, in, CHUNK_SIZE), 0);
    CHECK(memcmp(in, out, CHUNK_SIZE) == 0);
    free(out);
    free(in);
}

#define IN_FLIGHT 128

struct slot {
    struct blk_io io;
    struct iovec iov;
    uint32_t block, seed;
    uint8_t *memory;
};

static bool any_ready(void *owner)
{
    struct slot *slots = owner;
    for (int i = 0; i < IN_FLIGHT; i++)
        if (!slots[i].io.pending)
            return true;
    return false;
}

/* Random reads and writes with many in flight, against a model of one seed per block. */
static void many_in_flight(void)
{
    static struct slot slots[IN_FLIGHT];
    static uint32_t model[BLOCKS];
    static bool busy[BLOCKS];
    uint8_t *expected = memory_new(BLOCK_SIZE), *zeros = memory_new(BLOCK_SIZE);
    uint32_t random = 7;

    memset(model, 0, sizeof(model));
    for (int i = 0; i < IN_FLIGHT; i++)
        slots[i].memory = memory_new(BLOCK_SIZE);
    for (int done = 0; done < 8000 && tap_ok;) {
        CHECK(the_world->run(the_world, any_ready, slots, WORLD_WAIT_NS));
        for (int i = 0; i < IN_FLIGHT; i++) {
            struct slot *slot = &slots[i];
            if (slot->io.pending)
                continue;
            if (slot->io.iov) {
                CHECK_EQ(slot->io.result, 0);
                busy[slot->block] = false;
                if (slot->io.type == BLK_WRITE) {
                    model[slot->block] = slot->seed;
                } else {
                    fill(expected, BLOCK_SIZE, model[slot->block]);
                    CHECK(memcmp(slot->memory, model[slot->block] ? expected : zeros, BLOCK_SIZE) == 0);
                }
                slot->io.iov = NULL;
                done++;
            }
            random = random * 1664525 + 1013904223;
            uint32_t block = random >> 8 & (BLOCKS / 4 - 1);
            if (busy[block])
                continue;
            busy[block] = true;
            slot->block = block;
            slot->seed = random | 1;
            bool is_write = random >> 30 & 1 || !model[block];
            if (is_write)
                fill(slot->memory, BLOCK_SIZE, slot->seed);
            slot->iov = (struct iovec){slot->memory, BLOCK_SIZE};
            slot->io = (struct blk_io){.type = is_write ? BLK_WRITE : BLK_READ,
                                       .flags = (is_write && (random >> 20 & 15) == 0 ? BLK_FUA : 0u) |
                                                ((random >> 24 & 3) == 0 ? BLK_BACKGROUND : 0u),
                                       .offset = (uint64_t)block * BLOCK_SIZE,
                                       .len = BLOCK_SIZE,
                                       .iov = &slot->iov,
                                       .iov_count = 1};
            submit(windows[1], &slot->io);
        }
    }
    for (int i = 0; i < IN_FLIGHT; i++) {
        if (slots[i].io.iov)
            CHECK(the_world->run(the_world, not_pending, &slots[i].io, WORLD_WAIT_NS));
        free(slots[i].memory);
    }
    free(expected);
    free(zeros);
}

static void blk_suite(struct world *in_world, struct blk *first, struct blk *second)
{
    the_world = in_world;
    windows[0] = first;
    windows[1] = second;
    waiter_start(the_world, &waiter);
    TEST(unwritten_reads_as_it_was);
    TEST(what_is_written_is_read);
    TEST(pieces_are_gathered_and_scattered);
    TEST(windows_do_not_overlap);
    TEST(flush_and_discard);
    TEST(many_in_flight);
    waiter_stop(the_world, &waiter);
}

#endif
