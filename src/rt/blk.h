/* SPDX-License-Identifier: Apache-2.0
 *
 * The block device port: a device, or a window of one, that serves aligned asynchronous requests.
 *
 * Offsets and lengths are multiples of BLOCK_SIZE and memory is BLOCK_SIZE aligned. Requests complete in any
 * order. A write without BLK_FUA is durable only after a BLK_FLUSH that was submitted after the write
 * completed; a device that says `volatile_cache == false` has every completed write durable. A power cut may
 * lose, keep or tear (at 512 byte granularity) any write that is not durable, in any combination. So may a
 * flush that fails, or a write with BLK_FUA that ends with ERR_IO or ERR_TIMEOUT, of writes to any window of
 * the device; all later flushes of that device fail, too, in every window, until it is opened again. Of two
 * writes of one place at once either may be the last one, or both in part. Implementations:
 * src/backend/uring_blk.c, sim/sim_blk.c; tests/port runs one suite on both.
 */
#ifndef RT_BLK_H
#define RT_BLK_H

#include <sys/uio.h>

#include "base/base.h"
#include "base/list.h"
#include "rt/op.h"

#define BLK_IOV_MAX 512 /* pieces in one request, at most */

enum blk_type { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD };
enum {
    BLK_FUA = 1, /* the write is durable when it completes */
    BLK_BACKGROUND =
        2, /* nobody waits for it in particular: a device that is served by plain calls serves others
            * first, and of these only a little at once, when requests have been answered */
};

/* One request, embedded by value in the op that waits. The iovec array and the memory stay the caller's and
 * untouched until it completes. */
struct blk_io {
    enum blk_type type;
    uint32_t flags;
    uint64_t offset;
    uint64_t len; /* sum of the iovecs; for BLK_DISCARD the range */
    const struct iovec *iov;
    uint32_t iov_count;
    struct op *waiter; /* woken when `pending` falls */
    bool pending;
    int result; /* 0; ERR_IO (a short transfer, too), ERR_DEVICE_FULL, ERR_NO_MEMORY, ERR_READ_ONLY, ERR_DENIED
                   or ERR_TIMEOUT, negative: whatever else it is to a kernel */
    uint64_t submitted_ns; /* set by the port */
    struct list link;      /* these two: the port's own use while pending */
    void *port;
};

struct blk;
struct blk_ops {
    /* Takes the request; never completes it inline. Requests of one loop turn are submitted together. */
    void (*submit)(struct blk *blk, struct blk_io *io);
    void (*close)(struct blk *blk); /* nothing may be pending */
};

struct blk {
    const struct blk_ops *ops;
    uint64_t size_bytes;
    bool volatile_cache;
    uint32_t queue_depth_hint; /* writes worth having in flight at once */
};

static inline void blk_submit(struct blk *blk, struct blk_io *io, struct op *waiter)
{
    io->waiter = waiter;
    io->pending = true;
    io->result = 0;
    blk->ops->submit(blk, io);
}

#endif
