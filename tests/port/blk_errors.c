/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device answers that is neither success nor plain failure. The device is a file; what it answers is
 * made by giving the kernel, in place of the request that was prepared, another one that ends so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/uring.h"
#include "backend/uring_dev.h"
#include "base/error.h"
#include "tests/plants.h"
#include "tests/tap.h"

#define WINDOW (1u << 20)

static struct uring_core *uc;
static struct uring_dev *dev;
static struct blk *windows[2];
static struct blk_io io;
static struct iovec iov;
static struct op waiter;
static int sockets[2];

static void nothing(struct op *op)
{
}

static const struct op_kind WAITER = {"waiter", NULL, nothing};

/* The device's name goes at once: with a bug planted these tests end early. */
static void begin(void)
{
    struct uring_core_opts opts = {.log_level = LOG_ERROR};
    char folder[] = "/dev/shm/fastblock-test-XXXXXX", path[64];

    CHECK(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/device", folder);
    CHECK_EQ(uring_core_new(&opts, &uc), 0);
    CHECK_EQ(uring_dev_create(path, 2 * WINDOW), 0);
    CHECK_EQ(uring_dev_open(path, URING_CACHE_VOLATILE, false, &dev), 0);
    unlink(path);
    rmdir(folder);
    dev->in_memory = false; /* all by the ring */
    for (int i = 0; i < 2; i++)
        CHECK_EQ(uring_blk_new(uc, dev, (uint64_t)i * WINDOW, WINDOW, &windows[i]), 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    waiter = (struct op){0};
    op_start(&waiter, uring_core_core(uc), &WAITER, NULL);
}

static void end(void)
{
    op_done(&waiter, 0);
    for (int i = 0; i < 2; i++) {
        windows[i]->ops->close(windows[i]);
        close(sockets[i]);
    }
    uring_dev_close(dev);
    uring_core_free(uc);
}

static void submit_flags(int window, enum blk_type type, uint32_t flags, void *block)
{
    iov = (struct iovec){block, BLOCK_SIZE};
    io = (struct blk_io){.type = type, .flags = flags};
    if (block) {
        io.iov = &iov;
        io.iov_count = 1;
        io.len = BLOCK_SIZE;
    }
    blk_submit(windows[window], &io, &waiter);
}

static void submit(int window, enum blk_type type, void *block)
{
    submit_flags(window, type, 0, block);
}

/* The request that was prepared last. */
static struct io_uring_sqe *prepared(void)
{
    return &uc->ring.sq.sqes[(uc->ring.sq.sqe_tail - 1) & *uc->ring.sq.kring_mask];
}

/* It ends with -EAGAIN: there is nothing to receive. */
static void would_wait(void)
{
    static char byte;
    struct io_uring_sqe *sqe = prepared();
    uint64_t owner = sqe->user_data;

    io_uring_prep_recv(sqe, sockets[0], &byte, 1, MSG_DONTWAIT);
    sqe->user_data = owner;
}

/* It fails: there is no such file. */
static void would_fail(void)
{
    prepared()->fd = -1;
}

static void nobody_asked(struct uring_req *req, int res, uint32_t cqe_flags)
{
}

/* It ends with that error; the kernel is given something that does nothing. */
static void would_end(int error)
{
    static struct uring_req req = {nobody_asked};
    struct io_uring_sqe *sqe = prepared();

    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data(sqe, &req);
    uring_blk_done(&io, -error);
}

static int result(void)
{
    while (io.pending)
        uring_core_turn(uc, NS_PER_S);
    return io.result;
}

/* Whoever has no way to wait says so; the request is served all the same. */
static void what_would_have_had_to_wait_is_served(void)
{
    uint8_t *out = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE), *in = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);

    begin();
    memset(out, 0x5a, BLOCK_SIZE);
    memset(in, 0, BLOCK_SIZE);
    submit(1, BLK_WRITE, out);
    would_wait();
    CHECK_EQ(result(), 0);
    submit(1, BLK_READ, in);
    would_wait();
    CHECK_EQ(result(), 0);
    CHECK(memcmp(in, out, BLOCK_SIZE) == 0);
    submit(1, BLK_FLUSH, NULL);
    would_wait();
    CHECK_EQ(result(), 0);
    end();
    free(out);
    free(in);
}

/* What was to be durable by it may be gone, of the other window, too. */
static void a_flush_that_failed_fails_all_later_ones(void)
{
    uint8_t *block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);

    begin();
    memset(block, 0x5a, BLOCK_SIZE);
    for (int i = 0; i < 2; i++) {
        submit(i, BLK_WRITE, block);
        CHECK_EQ(result(), 0);
        submit(i, BLK_FLUSH, NULL);
        CHECK_EQ(result(), 0);
    }
    submit(0, BLK_FLUSH, NULL);
    would_fail();
    CHECK_EQ(result(), -ERR_IO); /* whatever it was to the kernel */
    for (int i = 0; i < 2; i++) {
        submit(i, BLK_FLUSH, NULL);
        CHECK_EQ(result(), -ERR_IO);
    }
    submit(1, BLK_READ, block);
    CHECK_EQ(result(), 0);
    end();
    free(block);
}

/* It is a write and a flush, and perhaps it was the flush that failed, or took too long. What was refused
 * before anything was done has cost nobody anything. */
static void a_durable_write_that_failed_fails_all_flushes(void)
{
    static const struct {
        int error, result, flushed;
    } ends[] = {
        {EIO, -ERR_IO, -ERR_IO},
        {ETIMEDOUT, -ERR_TIMEOUT, -ERR_IO},
        {ENOSPC, -ERR_DEVICE_FULL, 0},
    };
    uint8_t *block = aligned_alloc(BLOCK_SIZE, BLOCK_SIZE);

    memset(block, 0x5a, BLOCK_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        begin();
        submit(1, BLK_WRITE, block);
        CHECK_EQ(result(), 0);
        submit_flags(0, BLK_WRITE, BLK_FUA, block);
        would_end(ends[i].error);
        CHECK_EQ(result(), ends[i].result);
        submit(1, BLK_FLUSH, NULL);
        CHECK_EQ(result(), ends[i].flushed);
        end();
    }
    free(block);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    if (access("/dev/shm", W_OK)) {
        printf("1..0 # SKIP no /dev/shm\n");
        return 0;
    }
    TEST(what_would_have_had_to_wait_is_served);
    TEST(a_flush_that_failed_fails_all_later_ones);
    TEST(a_durable_write_that_failed_fails_all_flushes);
    return tap_done();
}
