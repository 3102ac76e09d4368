/* SPDX-License-Identifier: Apache-2.0
 *
 * A heap for each simulated node, so that a crash at any point is one call.
 *
 * Programs of the simulator are linked with --wrap for the allocator. While a node runs, every block that it
 * allocates is noted under its heap; at a crash all of them are freed, whatever the rooms were in the middle
 * of. The blocks themselves come from the ordinary allocator, so the address sanitizer sees each of them with
 * its red zones and a use after the crash is caught. Blocks that no node allocated (the simulator's own, or
 * made inside a shared library) are not known here and pass through.
 *
 * The tables are global because malloc() has no argument for them; the simulator is single-threaded.
 */
#ifndef SIM_HEAP_H
#define SIM_HEAP_H

#include "base/base.h"
#include "base/list.h"

struct sim_heap {
    struct list blocks;
    uint64_t block_count;
    uint64_t bytes;
    uint64_t allocs; /* ever */
    size_t refused;  /* who asks for so many bytes finds none; 0: each does */
};

void sim_heap_init(struct sim_heap *heap);

/* From now on allocations are noted under `heap` (NULL: under none). Returns what was current before. */
struct sim_heap *sim_heap_enter(struct sim_heap *heap);

/* Zeroed memory that belongs to no node, for the ports' own tables, whoever runs; given back by free(). Never
 * NULL. */
void *sim_alloc(size_t size);
/* The same, not zeroed: for contents that are copied in at once. */
void *sim_alloc_bytes(size_t size);

/* Frees every block of the heap. */
void sim_heap_discard(struct sim_heap *heap);

#endif
