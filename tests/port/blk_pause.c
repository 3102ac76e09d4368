/* SPDX-License-Identifier: Apache-2.0
 *
 * What nobody waits for, on a device in memory: served in pieces with pauses, so that a write to the log
 * stands behind no more than a few of them, and when nothing else is to do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/error.h"
#include "tests/plants.h"
#include "tests/tap.h"

#define PIECE     (128u << 10)
#define PIECES    40u
#define AT_ONCE   4u
#define PAUSE_NS  (50 * NS_PER_US)
#define TURNS_MAX 100000000u
#define WINDOW    ((uint64_t)PIECES * PIECE + BLOCK_SIZE)

static struct blk_io background[PIECES], first;
static struct uring_core *uc;
static struct uring_dev *dev;
static struct blk *blk;
static struct op waiter;
static void *memory; /* of a piece */

static void nothing(struct op *op)
{
}

static const struct op_kind WAITER = {"waiter", NULL, nothing};

static uint32_t done(void)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < PIECES; i++)
        n += !background[i].pending;
    return n;
}

static void submit(struct blk_io *io, struct iovec *iov, uint32_t flags, uint64_t at)
{
    *io = (struct blk_io){
        .type = BLK_WRITE, .flags = flags, .offset = at, .len = iov->iov_len, .iov = iov, .iov_count = 1};
    blk_submit(blk, io, &waiter);
}

/* The device's name goes at once: with the bug planted these tests abort. */
static void begin(void)
{
    struct uring_core_opts opts = {.log_level = LOG_ERROR};
    char folder[] = "/dev/shm/fastblock-test-XXXXXX", path[64];

    CHECK(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/device", folder);
    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    CHECK_EQ(uring_dev_create(path, ALIGN_UP(WINDOW, 1u << 20)), 0);
    CHECK_EQ(uring_dev_open(path, URING_CACHE_ASK, false, &dev), 0);
    unlink(path);
    rmdir(folder);
    CHECK_EQ(uring_blk_new(uc, dev, 0, WINDOW, &blk), 0);
    waiter = (struct op){0};
    op_start(&waiter, uring_core_core(uc), &WAITER, NULL);
    memory = aligned_alloc(BLOCK_SIZE, PIECE);
    memset(memory, 0x5a, PIECE);
}

static void end(void)
{
    op_done(&waiter, 0);
    blk->ops->close(blk);
    uring_dev_close(dev);
    uring_core_free(uc);
    free(memory);
}

static void a_write_to_the_log_does_not_wait_for_the_rest(void)
{
    begin();
    struct iovec piece = {memory, PIECE}, block = {memory, BLOCK_SIZE};
    uint64_t begun_ns = core_now_ns(uring_core_core(uc));
    for (uint32_t i = 0; i < PIECES; i++)
        submit(&background[i], &piece, BLK_BACKGROUND, (uint64_t)i * PIECE);
    uint32_t turns = 0, before = 0, most = 0;
    for (; done() < PIECES && turns < TURNS_MAX; turns++) {
        submit(&first, &block, 0, (uint64_t)PIECES * PIECE);
        uring_core_turn(uc, 0);
        CHECK(!first.pending);
        most = MAX(most, done() - before);
        before = done();
    }
    CHECK_EQ(before, PIECES);
    CHECK(most <= AT_ONCE);
    CHECK(core_now_ns(uring_core_core(uc)) - begun_ns >= (PIECES - 2 * AT_ONCE) * PAUSE_NS);
    end();
}

/* Turns that may not sleep, and send nothing, may be in the middle of a request. */
static void what_nobody_waits_for_waits_for_a_moment_without_work(void)
{
    begin();
    uring_core_turn(uc, 0);
    struct iovec block = {memory, BLOCK_SIZE};
    submit(&first, &block, BLK_BACKGROUND, 0);
    uint64_t begun_ns = core_now_ns(uring_core_core(uc));
    for (uint32_t turns = 0; first.pending && turns < TURNS_MAX; turns++)
        uring_core_turn(uc, 0);
    CHECK(!first.pending);
    CHECK(core_now_ns(uring_core_core(uc)) - begun_ns >= AT_ONCE * PAUSE_NS);
    submit(&first, &block, BLK_BACKGROUND, 0);
    /* The second turn may find that the pause is over. */
    uring_core_turn(uc, NS_PER_S);
    if (first.pending)
        uring_core_turn(uc, NS_PER_S);
    CHECK(!first.pending);
    end();
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    if (access("/dev/shm", W_OK)) {
        printf("1..0 # SKIP no /dev/shm\n");
        return 0;
    }
    TEST(a_write_to_the_log_does_not_wait_for_the_rest);
    TEST(what_nobody_waits_for_waits_for_a_moment_without_work);
    return tap_done();
}
