/* SPDX-License-Identifier: Apache-2.0
 *
 * The block device port on the ring: windows of a device opened by uring_dev.c.
 *
 * On memory file systems the ring would hand each request to a kernel worker thread, whose wake-ups cost more
 * than the copy that the request is; there requests are served by plain calls at the end of the turn, after
 * the sends have been handed over.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/uring.h"
#include "backend/uring_dev.h"
#include "base/error.h"
#include "base/plant.h"

struct uring_blk {
    struct blk blk; /* first */
    struct uring_core *uc;
    struct uring_dev *dev;
    uint64_t offset; /* of the window in the device */
    uint32_t pending;
};

#define QUEUE_DEPTH_HINT 4
/* What nobody waits for must not stand between a request and its answer: it is served when what was to be
 * sent has just gone and no more is to be written, or when the core would sleep, then one by one until input
 * has come. If there is no such moment for long, at any. Each piece is followed by a pause in which the core
 * sleeps if nothing else is to do: it may be others, on the same processor, that requests wait for, and the
 * kernel takes the processor away from who never sleeps only after milliseconds. The pauses make for a rate;
 * who was left without the processor meanwhile may serve some pieces at once. A write to the log stands
 * behind no more than these. */
#define LATER_PIECE    (128u << 10)
#define LATER_PAUSE_NS (50 * NS_PER_US)
#define LATER_PIECES   4u
#define LATER_WAIT_NS  (4 * LATER_PAUSE_NS) /* for such a moment */
#define DISCARD_MODE   (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static void uring_blk_check(const struct uring_blk *b, const struct blk_io *io)
{
    ASSERT(IS_ALIGNED(io->offset, BLOCK_SIZE) && IS_ALIGNED(io->len, BLOCK_SIZE));
    ASSERT(io->offset <= b->blk.size_bytes && io->len <= b->blk.size_bytes - io->offset);
    ASSERT(io->iov_count <= BLK_IOV_MAX);
}

static void uring_blk_count(struct core_counters *counters, const struct blk_io *io)
{
    switch (io->type) {
    case BLK_READ:
        counters->blk_reads++;
        counters->blk_bytes_read += io->len;
        break;
    case BLK_WRITE:
        counters->blk_writes++;
        counters->blk_bytes_written += io->len;
        break;
    case BLK_FLUSH:
        counters->blk_flushes++;
        break;
    case BLK_DISCARD:
        break;
    }
}

/* What needs no device at all: it completes at the end of the turn. */
static bool uring_blk_is_nothing(const struct uring_blk *b, const struct blk_io *io)
{
    return (io->type == BLK_FLUSH && !b->blk.volatile_cache) || (io->type != BLK_FLUSH && io->len == 0);
}

/* Hands the request to the ring. */
static void uring_blk_ask(struct uring_blk *b, struct blk_io *io, unsigned sqe_flags)
{
    struct io_uring_sqe *sqe = uring_sqe(b->uc);
    uint64_t at = b->offset + io->offset;

    switch (io->type) {
    case BLK_READ:
        if (io->iov_count == 1)
            io_uring_prep_read(sqe, b->dev->fd, io->iov->iov_base, (unsigned)io->len, at);
        else
            io_uring_prep_readv(sqe, b->dev->fd, io->iov, io->iov_count, at);
        break;
    case BLK_WRITE:
        if (io->iov_count == 1)
            io_uring_prep_write(sqe, b->dev->fd, io->iov->iov_base, (unsigned)io->len, at);
        else
            io_uring_prep_writev(sqe, b->dev->fd, io->iov, io->iov_count, at);
        if (io->flags & BLK_FUA && b->blk.volatile_cache)
            sqe->rw_flags = RWF_DSYNC;
        break;
    case BLK_FLUSH:
        io_uring_prep_fsync(sqe, b->dev->fd, IORING_FSYNC_DATASYNC);
        break;
    case BLK_DISCARD:
        io_uring_prep_fallocate(sqe, b->dev->fd, DISCARD_MODE, (off_t)at, (off_t)io->len);
        break;
    }
    sqe->flags |= sqe_flags;
    uring_sqe_own_blk(b->uc, sqe, io);
}

static void uring_blk_submit(struct blk *blk, struct blk_io *io)
{
    struct uring_blk *b = container_of(blk, struct uring_blk, blk);
    struct uring_core *uc = b->uc;

    uring_blk_check(b, io);
    io->submitted_ns = core_now_ns(&uc->core);
    io->port = b;
    b->pending++;
    if (b->dev->in_memory || uring_blk_is_nothing(b, io)) {
        if (list_empty(&uc->inline_later))
            uc->later_since_ns = io->submitted_ns;
        list_push_back(io->flags & BLK_BACKGROUND ? &uc->inline_later : &uc->inline_ios, &io->link);
        return;
    }
    uring_blk_count(&uc->core.counters, io);
    uring_blk_ask(b, io, 0);
}

/* What else a kernel says of a device that has gone (ENODEV, ENXIO), or of a request that it cannot take, has
 * another meaning above. */
static int uring_blk_error(int64_t res)
{
    int error = error_from_errno((int)-res);

    switch (error) {
    case -ERR_NO_SPACE:
        return -ERR_DEVICE_FULL; /* not of the slice, which is what that means above */
    case -ERR_NO_MEMORY:
    case -ERR_READ_ONLY:
    case -ERR_DENIED: /* writes, since the device was set read-only */
    case -ERR_TIMEOUT:
        return error;
    default:
        return -ERR_IO;
    }
}

/* What a flush that failed was to make durable may be gone, of other windows, too; and the next one, of
 * whichever window, knows nothing of that. */
static int uring_blk_flushed(struct uring_dev *dev, int64_t res)
{
    if (res < 0) {
        atomic_store(&dev->flush_failed, true);
        return uring_blk_error(res);
    }
    return atomic_load(&dev->flush_failed) && !PLANT(BLK_FLUSH_FORGIVEN) ? -ERR_IO : 0;
}

/* With BLK_FUA it is a write and a flush, on most devices, and which of the two failed, or took too long,
 * nobody says. */
static int uring_blk_written(struct uring_dev *dev, const struct blk_io *io, int64_t res)
{
    int error = res < 0 ? uring_blk_error(res) : (uint64_t)res == io->len ? 0 : -ERR_IO;
    bool unknown = error == -ERR_IO || error == -ERR_TIMEOUT;

    if (unknown && io->flags & BLK_FUA && dev->volatile_cache && !PLANT(BLK_FLUSH_FORGIVEN))
        atomic_store(&dev->flush_failed, true);
    return error;
}

static int uring_blk_result(const struct blk_io *io, int64_t res)
{
    struct uring_dev *dev = ((struct uring_blk *)io->port)->dev;

    switch (io->type) {
    case BLK_READ:
        if (res < 0)
            return uring_blk_error(res);
        return (uint64_t)res == io->len ? 0 : -ERR_IO;
    case BLK_WRITE:
        return uring_blk_written(dev, io, res);
    case BLK_FLUSH:
        return uring_blk_flushed(dev, res);
    case BLK_DISCARD:
        /* A hint: the rooms above never read what they have discarded. */
        return res == -EIO ? -ERR_IO : 0;
    }
    UNREACHABLE();
}

/* The kernel asks drivers not to wait, and waits itself where one would have to; but some say so where it
 * cannot do that any more. Nothing has failed: this time it waits from the start. */
static bool uring_blk_again(int res)
{
    return (res == -EAGAIN || res == -EINTR) && !PLANT(BLK_BUSY_FAILS);
}

void uring_blk_done(struct blk_io *io, int res)
{
    struct uring_blk *b = io->port;

    if (uring_blk_again(res)) {
        uring_blk_ask(b, io, IOSQE_ASYNC);
        return;
    }
    b->pending--;
    io->result = uring_blk_result(io, res);
    io->pending = false;
    op_wake(io->waiter);
}

static int64_t uring_blk_call(struct uring_core *uc, const struct uring_blk *b, struct blk_io *io)
{
    off_t at = (off_t)(b->offset + io->offset);
    ssize_t res = 0;

    switch (io->type) {
    case BLK_READ:
        res = preadv(b->dev->fd, io->iov, (int)io->iov_count, at);
        break;
    case BLK_WRITE:
        res = pwritev(b->dev->fd, io->iov, (int)io->iov_count, at);
        break;
    case BLK_FLUSH:
        return 0; /* memory has nothing to flush to */
    case BLK_DISCARD:
        res = fallocate(b->dev->fd, DISCARD_MODE, at, (off_t)io->len);
        break;
    }
    uc->core.counters.syscalls++;
    return res < 0 ? -errno : res;
}

/* Returns how many bytes it was. */
static uint64_t uring_blk_serve(struct uring_core *uc, struct list *ios, uint64_t bytes_max)
{
    uint64_t bytes = 0;

    while (!list_empty(ios) && bytes < bytes_max) {
        struct blk_io *io = list_entry(list_pop_front(ios), struct blk_io, link);
        struct uring_blk *b = io->port;
        int64_t res = 0;
        if (!uring_blk_is_nothing(b, io)) {
            uring_blk_count(&uc->core.counters, io);
            res = uring_blk_call(uc, b, io);
            bytes += io->len;
        }
        uring_blk_done(io, (int)res);
    }
    return bytes;
}

/* What is not asked for yet because this had to be done first is not lost. */
static void uring_blk_pause(struct uring_core *uc, uint64_t now_ns, uint64_t bytes)
{
    uc->later_ns = MAX(uc->later_ns, now_ns - MIN(now_ns, LATER_PIECES * LATER_PAUSE_NS)) +
                   bytes * LATER_PAUSE_NS / LATER_PIECE;
}

static void uring_blk_serve_later(struct uring_core *uc, bool answered)
{
    uint64_t now_ns = list_empty(&uc->inline_later) ? 0 : core_now_ns(&uc->core);

    if (!now_ns || now_ns < uc->later_ns || (!answered && now_ns < uc->later_since_ns + LATER_WAIT_NS))
        return;
    if (PLANT(BLK_NO_PAUSE)) {
        uring_blk_serve(uc, &uc->inline_later, UINT64_MAX);
        return;
    }
    uint64_t pieces = MIN(1 + (now_ns - uc->later_ns) / LATER_PAUSE_NS, LATER_PIECES);
    uring_blk_pause(uc, now_ns, uring_blk_serve(uc, &uc->inline_later, pieces * LATER_PIECE));
}

bool uring_blk_later_due(struct uring_core *uc)
{
    return !list_empty(&uc->inline_later) && core_now_ns(&uc->core) >= uc->later_ns;
}

void uring_blk_serve_idle(struct uring_core *uc)
{
    uint64_t now_ns = core_recent_ns(&uc->core), bytes = 0;

    while (!list_empty(&uc->inline_later) && bytes < LATER_PIECE && !uring_input_waits(uc))
        bytes += uring_blk_serve(uc, &uc->inline_later, 1);
    uring_blk_pause(uc, now_ns, bytes);
}

void uring_blk_serve_inline(struct uring_core *uc, bool answered)
{
    /* All of them, whatever they take: a turn that takes in more than it writes lets the log fall behind. */
    uring_blk_serve(uc, &uc->inline_ios, UINT64_MAX);
    uring_blk_serve_later(uc, answered);
}

static void uring_blk_close(struct blk *blk)
{
    struct uring_blk *b = container_of(blk, struct uring_blk, blk);

    ASSERT(b->pending == 0);
    b->dev->windows--;
    free(b);
}

static const struct blk_ops uring_blk_ops = {uring_blk_submit, uring_blk_close};

int uring_blk_new(struct uring_core *uc, struct uring_dev *dev, uint64_t offset, uint64_t len,
                  struct blk **ret_blk)
{
    if (!IS_ALIGNED(offset, BLOCK_SIZE) || !IS_ALIGNED(len, BLOCK_SIZE))
        return -ERR_INVALID;
    if (offset > dev->size_bytes || len > dev->size_bytes - offset)
        return -ERR_RANGE;
    struct uring_blk *b = calloc(1, sizeof(*b));
    if (!b)
        return -ERR_NO_MEMORY;
    b->blk = (struct blk){.ops = &uring_blk_ops,
                          .size_bytes = len,
                          .volatile_cache = dev->volatile_cache,
                          .queue_depth_hint = QUEUE_DEPTH_HINT};
    b->uc = uc;
    b->dev = dev;
    b->offset = offset;
    dev->windows++;
    *ret_blk = &b->blk;
    return 0;
}
