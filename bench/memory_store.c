/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-memory: the store's structures.
 */
#include <stdio.h>

#include "bench/memory.h"
#include "store/internal.h"

#define TB 1e12

void memory_store(void)
{
    printf("store of a shard\n");
    memory_row("the store with its counters", sizeof(struct store), 1);
    memory_row("a replica of a placement group", sizeof(struct pg), 1);
    memory_row("an entry in the log, 4 KiB write", sizeof(struct log_entry) + sizeof(uint32_t), 1);
    memory_row("  in a full ring of 1 GiB", sizeof(struct log_entry) + sizeof(uint32_t),
               (double)(1u << 30) / BLOCK_SIZE);
    memory_row("an object with newer versions in the log, beside its own",
               sizeof(struct overlay) + BLOCKS_PER_OBJECT * sizeof(struct log_entry *), 1);
    memory_row("an object with entries that may need chunks, likewise", CHUNKS_PER_OBJECT * sizeof(uint32_t),
               1);
    memory_row("pages whose checksums are in memory: a quarter of 256 MiB", sizeof(struct page_crcs),
               (256u << 20) / 4 / sizeof(struct page_crcs));
    printf("device: each object of %u MiB that has data\n", OBJECT_SIZE >> 20);
    memory_row("object", sizeof(struct object), 1);
    memory_row("each of its chunks", sizeof(struct page_chunk), 1);
    memory_row("1 TB of whole objects", sizeof(struct object) + CHUNKS_PER_OBJECT * sizeof(struct page_chunk),
               TB / OBJECT_SIZE);
    /* The smallest piece of memory has room for two. */
    memory_row("1 TB of one chunk in each object", sizeof(struct object) + 2 * sizeof(struct page_chunk),
               TB / CHUNK_SIZE);
    memory_row("1 TB: references on chunks, slots in them", sizeof(uint8_t) + sizeof(uint16_t),
               TB / CHUNK_SIZE);
}
