/* SPDX-License-Identifier: Apache-2.0
 *
 * The wrapped allocator: notes blocks by address. A block that belongs to one node and is freed or grown
 * while another runs would mean shared state between cores: that asserts. New memory is filled with a
 * pattern, so that a read of what was never written gives the same run for the same seed, and hardly a
 * working one.
 */
#include "sim/heap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

#define FILL_NEW  0xa5
#define FILL_FREE 0x5a
#define FILL_MAX  4096u /* of large blocks only the beginning: most of them are never touched beyond it */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *ptr);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void __wrap_free(void *ptr);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);

/* What a library on the system has for a process that is killed here nobody gives back: the hashers of
 * base/content_hash.h. For the leak checker of a sanitizer, if there is one. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libcrypto\n";
}

struct tracked {
    struct map_node by_address;
    struct list in_heap;
    struct sim_heap *heap;
    size_t size;
};

static struct {
    struct map blocks;
    struct sim_heap *current;
    bool ready;
    bool busy; /* inside the tables: their own memory is not noted */
} heaps;

void sim_heap_init(struct sim_heap *heap)
{
    *heap = (struct sim_heap){0};
    list_init(&heap->blocks);
    if (!heaps.ready) {
        map_init(&heaps.blocks);
        heaps.ready = true;
    }
}

struct sim_heap *sim_heap_enter(struct sim_heap *heap)
{
    struct sim_heap *before = heaps.current;

    heaps.current = heap;
    return before;
}

static void *note(void *ptr, size_t size)
{
    struct sim_heap *heap = heaps.current;

    if (!ptr || !heap || heaps.busy)
        return ptr;
    struct tracked *t = __real_malloc(sizeof(*t));
    ASSERT(t);
    t->heap = heap;
    t->size = size;
    list_push_back(&heap->blocks, &t->in_heap);
    heap->block_count++;
    heap->bytes += size;
    heap->allocs++;
    heaps.busy = true;
    map_put(&heaps.blocks, &t->by_address, (uintptr_t)ptr);
    heaps.busy = false;
    return ptr;
}

static struct tracked *find(void *ptr)
{
    if (!ptr || !heaps.ready || heaps.busy)
        return NULL;
    struct map_node *node = map_get(&heaps.blocks, (uintptr_t)ptr);
    return node ? map_entry(node, struct tracked, by_address) : NULL;
}

static void forget(struct tracked *t)
{
    map_remove(&heaps.blocks, t->by_address.key);
    list_remove(&t->in_heap);
    t->heap->block_count--;
    t->heap->bytes -= t->size;
    __real_free(t);
}

static void release(struct tracked *t)
{
    void *ptr = (void *)(uintptr_t)t->by_address.key;

    memset(ptr, FILL_FREE, MIN(t->size, FILL_MAX));
    forget(t);
    __real_free(ptr);
}

void *sim_alloc(size_t size)
{
    void *ptr = __real_calloc(1, size ? size : 1);

    ASSERT(ptr);
    return ptr;
}

void *sim_alloc_bytes(size_t size)
{
    void *ptr = __real_malloc(size ? size : 1);

    ASSERT(ptr);
    return ptr;
}

void sim_heap_discard(struct sim_heap *heap)
{
    list_for_each_safe (&heap->blocks, node)
        release(list_entry(node, struct tracked, in_heap));
    ASSERT(heap->block_count == 0 && heap->bytes == 0);
}

static bool refused(size_t size)
{
    const struct sim_heap *heap = heaps.busy ? NULL : heaps.current;

    return heap && heap->refused && heap->refused == size;
}

void *__wrap_malloc(size_t size)
{
    if (refused(size))
        return NULL;
    void *ptr = note(__real_malloc(size), size);

    if (ptr && heaps.current && !heaps.busy)
        memset(ptr, FILL_NEW, MIN(size, FILL_MAX));
    return ptr;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refused(count * size) ? NULL : note(__real_calloc(count, size), count * size);
}

void __wrap_free(void *ptr)
{
    struct tracked *t = find(ptr);

    if (!t) {
        __real_free(ptr);
        return;
    }
    ASSERT(!heaps.current || heaps.current == t->heap);
    release(t);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    struct tracked *t = find(ptr);

    if (!t)
        return ptr ? __real_realloc(ptr, size) : __wrap_malloc(size);
    ASSERT(!heaps.current || heaps.current == t->heap);
    struct sim_heap *before = sim_heap_enter(t->heap);
    void *grown = __wrap_malloc(size);
    sim_heap_enter(before);
    if (!grown)
        return NULL;
    memcpy(grown, ptr, MIN(size, t->size));
    release(t);
    return grown;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    void *ptr = note(__real_aligned_alloc(alignment, size), size);

    if (ptr && heaps.current && !heaps.busy)
        memset(ptr, FILL_NEW, MIN(size, FILL_MAX));
    return ptr;
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *ptr = __wrap_aligned_alloc(alignment, ALIGN_UP(size, alignment));

    if (!ptr)
        return ENOMEM;
    *ret = ptr;
    return 0;
}

static char *text_copy_len(const char *text, size_t len)
{
    char *copy = __wrap_malloc(len + 1);

    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *__wrap_strndup(const char *text, size_t len)
{
    return text_copy_len(text, strnlen(text, len));
}

char *__wrap_strdup(const char *text)
{
    return text_copy_len(text, strlen(text));
}
