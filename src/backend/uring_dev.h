/* SPDX-License-Identifier: Apache-2.0
 *
 * An open device, as uring_dev.c and uring_blk.c know it. Immutable once open but for the last two.
 */
#ifndef BACKEND_URING_DEV_H
#define BACKEND_URING_DEV_H

#include <stdatomic.h>

#include "backend/backend.h"

struct uring_dev {
    int fd;
    uint64_t size_bytes;
    bool volatile_cache;
    bool in_memory;     /* on tmpfs: the ring would not serve it asynchronously */
    atomic_int windows; /* cores open and close theirs in their own threads */
    atomic_bool flush_failed;
};

#endif
