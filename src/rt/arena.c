/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena: buddy allocation over one mapping, with one struct buf per block in an array beside it.
 *
 * A buffer of 2^order blocks begins at a multiple of its size; when it comes back and its buddy (the other
 * half of the next larger one) is free too, the two merge. In front of that stands a bounded stack of single
 * blocks that are not merged when they come back: most buffers are single blocks, and taking and giving one
 * is then two list moves. The stack is merged back when a larger buffer cannot be found otherwise.
 *
 * Under the address sanitizer free buffers are poisoned, so that a use after the last buf_unref() is caught.
 */
#include "rt/buf.h"

#include <stdlib.h>

#include "rt/op.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#endif

#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#define arena_hide(at, len) ASAN_POISON_MEMORY_REGION(at, len)
#define arena_show(at, len) ASAN_UNPOISON_MEMORY_REGION(at, len)
#else
#define arena_hide(at, len) ((void)(at), (void)(len))
#define arena_show(at, len) ((void)(at), (void)(len))
#endif

#define ORDERS           10 /* 1, 2, 4 ... 512 blocks */
#define SINGLES_KEPT_MAX 1024

_Static_assert(BLOCK_SIZE << (ORDERS - 1) == BUF_SIZE_MAX, "the largest order is the largest buffer");

enum {
    BLOCK_USED = 0, /* in a buffer that is out, or not the first block of a free one */
    /* 1 .. ORDERS: the first block of a free buffer of that order plus one */
    BLOCK_KEPT = 255, /* in the stack of single blocks */
};

struct arena {
    uint8_t *memory;
    size_t size_bytes;
    size_t free_bytes;
    uint32_t block_count;
    struct buf *bufs; /* by block */
    uint8_t *state;   /* by block */
    struct list free[ORDERS];
    struct list kept; /* single blocks, the one that came back last in front */
    uint32_t kept_count;
    bool was_short;
    struct op *on_shortage;
};

static void arena_push(struct arena *arena, uint32_t block, uint32_t order)
{
    arena->state[block] = (uint8_t)(order + 1);
    list_push_front(&arena->free[order], &arena->bufs[block].free);
}

static void arena_merge(struct arena *arena, uint32_t block, uint32_t order)
{
    for (; order < ORDERS - 1; order++) {
        uint32_t buddy = block ^ 1u << order;
        if (buddy >= arena->block_count || arena->state[buddy] != order + 1)
            break;
        list_remove(&arena->bufs[buddy].free);
        arena->state[buddy] = BLOCK_USED;
        block &= ~(1u << order);
    }
    arena_push(arena, block, order);
}

struct arena *arena_new(void *memory, size_t size_bytes)
{
    struct arena *arena = calloc(1, sizeof(*arena));

    ASSERT(IS_ALIGNED((uintptr_t)memory, BUF_SIZE_MAX));
    ASSERT(size_bytes / BLOCK_SIZE <= UINT32_MAX / 2);
    if (!arena)
        return NULL;
    arena->memory = memory;
    arena->size_bytes = ALIGN_DOWN(size_bytes, (size_t)BLOCK_SIZE);
    arena->block_count = (uint32_t)(arena->size_bytes / BLOCK_SIZE);
    arena->free_bytes = arena->size_bytes;
    arena->bufs = calloc(arena->block_count + 1, sizeof(struct buf));
    arena->state = calloc(arena->block_count + 1, 1);
    if (!arena->bufs || !arena->state) {
        free(arena->bufs);
        free(arena->state);
        free(arena);
        return NULL;
    }
    for (uint32_t i = 0; i < ORDERS; i++)
        list_init(&arena->free[i]);
    list_init(&arena->kept);
    for (uint32_t i = 0; i < arena->block_count; i++) {
        arena->bufs[i].arena = arena;
        arena->bufs[i].data = arena->memory + (size_t)i * BLOCK_SIZE;
        list_init(&arena->bufs[i].free);
    }
    /* Largest pieces first; a tail that is no whole 2 MiB is cut into smaller ones. From the end, so that the
     * front of the mapping is handed out first. */
    uint32_t end = arena->block_count;
    for (uint32_t order = 0; order < ORDERS - 1; order++) {
        if (end & 1u << order) {
            end -= 1u << order;
            arena_push(arena, end, order);
        }
    }
    while (end) {
        end -= 1u << (ORDERS - 1);
        arena_push(arena, end, ORDERS - 1);
    }
    arena_hide(arena->memory, arena->size_bytes);
    return arena;
}

void arena_free(struct arena *arena)
{
    if (!arena)
        return;
    ASSERT(arena->free_bytes == arena->size_bytes);
    arena_show(arena->memory, arena->size_bytes);
    free(arena->bufs);
    free(arena->state);
    free(arena);
}

void *arena_memory(const struct arena *arena)
{
    return arena->memory;
}

size_t arena_size(const struct arena *arena)
{
    return arena->size_bytes;
}

size_t arena_free_bytes(const struct arena *arena)
{
    return arena->free_bytes;
}

static struct buf *arena_take(struct arena *arena, uint32_t order)
{
    uint32_t found = order;

    while (found < ORDERS && list_empty(&arena->free[found]))
        found++;
    if (found == ORDERS)
        return NULL;
    struct buf *buf = list_entry(list_pop_front(&arena->free[found]), struct buf, free);
    uint32_t block = (uint32_t)(buf - arena->bufs);
    arena->state[block] = BLOCK_USED;
    while (found > order) {
        found--;
        arena_push(arena, block + (1u << found), found);
    }
    return buf;
}

static struct buf *arena_take_kept(struct arena *arena)
{
    struct buf *buf = list_entry(list_pop_front(&arena->kept), struct buf, free);

    arena->kept_count--;
    arena->state[buf - arena->bufs] = BLOCK_USED;
    return buf;
}

static void arena_merge_kept(struct arena *arena)
{
    while (arena->kept_count) {
        struct buf *buf = arena_take_kept(arena);
        arena_merge(arena, (uint32_t)(buf - arena->bufs), 0);
    }
}

void arena_on_shortage(struct arena *arena, struct op *op)
{
    arena->on_shortage = op;
}

bool arena_was_short(struct arena *arena)
{
    bool was_short = arena->was_short;

    arena->was_short = false;
    return was_short;
}

struct buf *buf_new(struct arena *arena, uint32_t len)
{
    struct buf *buf;
    uint32_t order = 0;

    ASSERT(len > 0 && len <= BUF_SIZE_MAX);
    while (BLOCK_SIZE << order < len)
        order++;
    if (order == 0 && arena->kept_count)
        buf = arena_take_kept(arena);
    else
        buf = arena_take(arena, order);
    if (!buf && arena->kept_count) {
        arena_merge_kept(arena);
        buf = arena_take(arena, order);
    }
    if (!buf) {
        arena->was_short = true;
        op_wake(arena->on_shortage);
        return NULL;
    }
    buf->size_bytes = BLOCK_SIZE << order;
    buf->refs = 1;
    arena->free_bytes -= buf->size_bytes;
    arena_show(buf->data, buf->size_bytes);
    return buf;
}

void buf_unref(struct buf *buf)
{
    if (!buf)
        return;
    ASSERT(buf->refs > 0);
    if (--buf->refs)
        return;
    struct arena *arena = buf->arena;
    uint32_t block = (uint32_t)(buf - arena->bufs);
    arena_hide(buf->data, buf->size_bytes);
    arena->free_bytes += buf->size_bytes;
    if (buf->size_bytes == BLOCK_SIZE && arena->kept_count < SINGLES_KEPT_MAX) {
        arena->state[block] = BLOCK_KEPT;
        arena->kept_count++;
        list_push_front(&arena->kept, &buf->free);
    } else {
        arena_merge(arena, block, (uint32_t)__builtin_ctz(buf->size_bytes / BLOCK_SIZE));
    }
}

struct slice slice_sub(const struct slice *s, uint32_t offset, uint32_t len)
{
    ASSERT(offset <= s->len && len <= s->len - offset);
    if (!s->buf)
        return (struct slice){0};
    return (struct slice){.buf = buf_ref(s->buf), .offset = s->offset + offset, .len = len};
}

void slice_unref(struct slice *s)
{
    buf_unref(s->buf);
    *s = (struct slice){0};
}
