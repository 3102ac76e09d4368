/* SPDX-License-Identifier: Apache-2.0
 *
 * A device in memory and a core without a loop, for tests of the store that need no simulator: requests
 * complete at the next turn.
 */
#ifndef TESTS_STORE_DEVICE_H
#define TESTS_STORE_DEVICE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "rt/blk.h"
#include "rt/buf.h"
#include "rt/core.h"
#include "store/store.h"

struct memory_device {
    struct blk blk; /* first */
    uint8_t *data;
    uint8_t *media; /* what a power cut leaves of it; NULL: nobody asks */
    struct list pending;
    uint64_t requests;
    uint64_t fail_at;  /* the request of this number (from 1) fails; 0: none */
    uint64_t bad_from; /* bytes that cannot be read */
    uint64_t bad_len;
    int bad_error;      /* what the device says of it; 0: ERR_IO */
    uint64_t delay_ns;  /* 0: one request completes in a turn; else all after so long */
    uint64_t held_from; /* requests there do not complete ... */
    uint64_t held_len;
    bool held_reads, held_writes; /* only those of that kind */
    uint64_t wrong_at;            /* this byte is read with another bit; 0: none */
    uint64_t wrong_read, reads;   /* only at its read of this number, from 1; 0: at each. How often it was */
};

struct rig {
    struct core core;
    uint64_t now_ns, random;
    void *arena_memory;
    struct memory_device device;
};

static void memory_submit(struct blk *blk, struct blk_io *io)
{
    struct memory_device *d = (struct memory_device *)blk;

    ASSERT(IS_ALIGNED(io->offset, (uint64_t)BLOCK_SIZE) && IS_ALIGNED(io->len, (uint64_t)BLOCK_SIZE));
    ASSERT(io->offset <= blk->size_bytes && io->len <= blk->size_bytes - io->offset &&
           io->iov_count <= BLK_IOV_MAX);
    io->submitted_ns = container_of(d, struct rig, device)->now_ns;
    list_push_back(&d->pending, &io->link);
}

static void memory_read(struct memory_device *d, uint64_t at, uint8_t *to, size_t len)
{
    memcpy(to, d->data + at, len);
    if (!d->wrong_at || d->wrong_at < at || d->wrong_at >= at + len)
        return;
    if (++d->reads == d->wrong_read || !d->wrong_read)
        to[d->wrong_at - at] ^= 1;
}

static bool memory_holds(const struct memory_device *d, const struct blk_io *io)
{
    if ((d->held_reads && io->type != BLK_READ) || (d->held_writes && io->type != BLK_WRITE))
        return false;
    return io->offset < d->held_from + d->held_len && d->held_from < io->offset + io->len;
}

/* The first request that may complete; NULL: there is none. */
static struct blk_io *memory_next(const struct memory_device *d)
{
    list_for_each (&d->pending, node) {
        struct blk_io *io = list_entry(node, struct blk_io, link);
        if (!memory_holds(d, io) &&
            io->submitted_ns + d->delay_ns <= container_of(d, const struct rig, device)->now_ns)
            return io;
    }
    return NULL;
}

static void memory_complete(struct memory_device *d)
{
    struct blk_io *io = memory_next(d);

    if (!io)
        return;
    list_remove(&io->link);
    uint64_t at = io->offset;

    d->requests++;
    io->result = d->requests == d->fail_at ? -ERR_IO : 0;
    if (io->type == BLK_READ && at < d->bad_from + d->bad_len && d->bad_from < at + io->len)
        io->result = d->bad_error ? d->bad_error : -ERR_IO;
    for (uint32_t i = 0; i < io->iov_count && !io->result; i++) {
        if (io->type == BLK_READ)
            memory_read(d, at, io->iov[i].iov_base, io->iov[i].iov_len);
        else if (io->type == BLK_WRITE)
            memcpy(d->data + at, io->iov[i].iov_base, io->iov[i].iov_len);
        at += io->iov[i].iov_len;
    }
    if (d->media && !io->result && io->type == BLK_WRITE && io->flags & BLK_FUA)
        memcpy(d->media + io->offset, d->data + io->offset, io->len);
    if (d->media && !io->result && io->type == BLK_FLUSH)
        memcpy(d->media, d->data, d->blk.size_bytes);
    io->pending = false;
    op_wake(io->waiter);
}

static uint64_t rig_now_ns(void *self)
{
    return ((struct rig *)self)->now_ns;
}

static uint64_t rig_random_u64(void *self)
{
    struct rig *rig = self;

    rig->random = rig->random * 6364136223846793005ull + 1442695040888963407ull;
    return rig->random >> 29 ^ rig->random << 23;
}

static void rig_log(void *self, enum log_level level, const char *room, const char *line)
{
    if (getenv("VERBOSE"))
        printf("# %s\n", line);
}

static const struct env_ops RIG_ENV = {rig_now_ns, NULL, rig_now_ns, rig_random_u64, rig_log, NULL};

static inline void rig_init(struct rig *rig, size_t arena_bytes, uint64_t device_bytes)
{
    static const struct blk_ops ops = {.submit = memory_submit};

    memset(rig, 0, sizeof(*rig));
    rig->random = 1;
    core_init(&rig->core, &RIG_ENV, rig);
    rig->arena_memory = aligned_alloc(BUF_SIZE_MAX, arena_bytes);
    rig->core.arena = arena_new(rig->arena_memory, arena_bytes);
    rig->device.blk =
        (struct blk){.ops = &ops, .size_bytes = device_bytes, .volatile_cache = true, .queue_depth_hint = 2};
    rig->device.data = calloc(1, device_bytes);
    list_init(&rig->device.pending);
}

static inline void rig_fini(struct rig *rig)
{
    core_fini(&rig->core);
    arena_free(rig->core.arena);
    free(rig->arena_memory);
    free(rig->device.data);
    free(rig->device.media);
}

/* From now on: what is neither flushed nor written through is lost. */
static inline void rig_watch_media(struct rig *rig)
{
    rig->device.media = malloc(rig->device.blk.size_bytes);
    memcpy(rig->device.media, rig->device.data, rig->device.blk.size_bytes);
}

static inline void rig_turn(struct rig *rig)
{
    rig->now_ns += 10 * NS_PER_US;
    core_poll(&rig->core);
    do
        memory_complete(&rig->device);
    while (rig->device.delay_ns && memory_next(&rig->device));
}

/* Until the op is done; -ERR_TIMEOUT: it hangs. */
static inline int rig_wait(struct rig *rig, struct op *op)
{
    for (uint64_t turns = 0; op_live(op); turns++) {
        if (turns > 1000000)
            return -ERR_TIMEOUT;
        rig_turn(rig);
    }
    return op->result;
}

/* Until nothing happens any more, nor in the next millisecond. */
static inline void rig_settle(struct rig *rig)
{
    uint64_t turns = 0;

    while (core_poll(&rig->core) || memory_next(&rig->device) ||
           core_next_deadline_ns(&rig->core) <= rig->now_ns + NS_PER_MS) {
        if (++turns > 1000000) {
            printf("Bail out! there is no end of it\n");
            exit(1);
        }
        rig_turn(rig);
    }
}

#endif
