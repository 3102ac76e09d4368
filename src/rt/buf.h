/* SPDX-License-Identifier: Apache-2.0
 *
 * Data buffers: reference counted, contiguous, 4 KiB aligned, from one arena per core.
 *
 * The arena is one mapping, made at start and never grown (2 MiB pages where the machine has them), so that it can be
 * registered once with io_uring, an RDMA device or a user-space NVMe driver. Buffers are power-of-two numbers of
 * blocks, from one to BUF_SIZE_MAX, by buddy allocation; one block is the hot case and has a free list. The
 * arena never blocks and never calls the allocator: when it has no room buf_new() answers NULL and the caller turns
 * the newcomer away (ERR_RETRY) or waits.
 *
 * Ownership: buf_new() gives one reference; buf_ref()/buf_unref() by the thread of the core only. Contents may be
 * written only while there is one reference, or by its maker before anyone else was given one.
 */
#ifndef RT_BUF_H
#define RT_BUF_H

#include "base/base.h"
#include "base/list.h"

#define BUF_SIZE_MAX (2u << 20)

struct arena;
struct op;

struct buf {
    struct arena *arena;
    uint8_t *data;        /* BLOCK_SIZE aligned */
    uint32_t size_bytes;  /* a power of two of blocks */
    uint32_t refs;
    struct list free;     /* in a free list of the arena */
};

/* A piece of a buffer. Holding a slice means holding one reference on its buffer, unless said otherwise. */
struct slice {
    struct buf *buf; /* NULL: the empty slice */
    uint32_t offset;
    uint32_t len;
};

/* `memory` is `size_bytes` long, BUF_SIZE_MAX aligned and stays the caller's. Returns NULL when out of memory. */
struct arena *arena_new(void *memory, size_t size_bytes);
void arena_free(struct arena *arena); /* asserts that every buffer came back */
void *arena_memory(const struct arena *arena);
size_t arena_size(const struct arena *arena);
size_t arena_free_bytes(const struct arena *arena);

/* Wakes `op` each time that buf_new() finds none, so that who keeps buffers only for later gives some back: single
 * blocks all over the arena leave no large one. NULL: nobody does. */
void arena_on_shortage(struct arena *arena, struct op *op);
/* Was a buffer wanted in vain since this was asked last? */
bool arena_was_short(struct arena *arena);

/* A buffer of at least `len` bytes (1 .. BUF_SIZE_MAX) with one reference, or NULL. Contents are undefined. */
struct buf *buf_new(struct arena *arena, uint32_t len);
void buf_unref(struct buf *buf); /* NULL is ignored */

static inline struct buf *buf_ref(struct buf *buf)
{
    buf->refs++;
    return buf;
}

static inline uint8_t *slice_data(const struct slice *s)
{
    return s->buf->data + s->offset;
}

/* A slice of a slice, with a reference of its own. */
struct slice slice_sub(const struct slice *s, uint32_t offset, uint32_t len);
void slice_unref(struct slice *s); /* and makes it empty */

#endif
