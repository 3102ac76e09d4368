/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's inside: requests to the device.
 */
#ifndef STORE_IO_H
#define STORE_IO_H

#include "rt/blk.h"
#include "rt/op.h"

#define SCATTER_IOS  8u /* at once, as a rule */
#define SCATTER_IOVS 32u

/* One request for contiguous memory. */
void io_start(struct blk *blk, struct blk_io *io, struct iovec *iov, enum blk_type type, uint32_t flags,
              uint64_t block, void *data, uint64_t blocks, struct op *waiter);
/* Scattered device I/O by one op: up to `depth` requests at once, in memory of its owner. */
struct scatter_io {
    struct blk_io io;
    uint64_t tag;
    struct iovec iov[SCATTER_IOVS];
};
struct scatter {
    struct blk *blk;
    struct op *op;
    struct scatter_io *at;
    uint32_t depth;   /* may change between requests, up to what there is memory for */
    uint32_t pending; /* bit per request */
    int error;
};
/* With room for `count` requests, 32 at most. */
void scatter_init(struct scatter *sc, struct blk *blk, struct op *op, struct scatter_io *at, uint32_t count);
/* A request of the scatter that is free, or -1. */
int scatter_slot(const struct scatter *sc);
void scatter_submit(struct scatter *sc, int slot, enum blk_type type, uint32_t flags, uint64_t block,
                    uint32_t iov_count, uint64_t tag);
/* A request that has completed, or -1; `tag` and `result` are in it until the slot is used again. */
int scatter_reap(struct scatter *sc);

#endif
