/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's inside: pages of objects, on disk and in memory (page.c).
 */
#ifndef STORE_PAGE_H
#define STORE_PAGE_H

#include "base/list.h"
#include "store/format.h"

struct log_entry;
struct object;
struct store;

/* What of an object's page stays in memory: its chunks, and what of them is written or lost. */
struct page_chunk {
    uint32_t number;        /* of the chunk; 0: none, blocks are lost */
    uint16_t written, lost; /* bit per block; both: its checksum is known, but the medium has not got it */
};
struct page_map {
    uint32_t chunks;       /* bit per chunk of the object that there is something to say about, */
    uint32_t held;         /* and of these, per chunk that it has */
    struct page_chunk *at; /* of these, in order */
};

/* The other part of it, in the cache of pages (page.c). */
struct page_crcs {
    struct list link; /* least recently used first, or free */
    struct object *object;
    uint32_t crc[BLOCKS_PER_OBJECT]; /* of the blocks that are written */
};

/* All of a page, for as long as one is made. */
struct page_mem {
    uint32_t chunk[CHUNKS_PER_OBJECT];
    uint64_t written[BLOCKS_PER_OBJECT / 64];
    uint64_t lost[BLOCKS_PER_OBJECT / 64];
    uint64_t lost_index; /* no entry above it has touched any of these */
    uint32_t crc[BLOCKS_PER_OBJECT];
};

/* page.c */
void page_encode(const struct store *s, const struct object *o, const struct page_mem *page, uint32_t slot,
                 uint64_t index, uint64_t version, struct disk_page *ret);
MUST_CHECK int page_validate(const struct store *s, const struct object *o, const struct disk_page *disk);
void page_decode(const struct disk_page *disk, struct page_mem *ret);
bool page_is_empty(const struct page_mem *page);
MUST_CHECK int page_map_make(struct store *s, const struct page_mem *page, struct page_map *ret);
void page_map_fill(struct page_map *map,
                   const struct page_mem *page); /* which has the same chunks to tell of */
void page_map_free(struct store *s, struct page_map *map);
struct page_chunk page_map_get(const struct page_map *map, uint32_t chunk); /* zeros: nothing to say */
bool page_map_marked(const struct page_map *map);                           /* any block of it as lost */
void page_map_expand(const struct page_map *map, struct page_mem *ret);     /* all but the checksums */
MUST_CHECK int pages_init(struct store *s);
void pages_fini(struct store *s);
bool pages_full(const struct store *s);
void page_keep(struct object *o, const uint32_t *crc); /* in the cache, for a while */
void page_lose(struct object *o, int error);           /* it does not verify: its blocks are lost */
/* A written block of it, which no entry in memory covers, is found damaged, or whole again. What is marked so
 * is lost or damaged since, at the latest, the object's lost_index. `index`: the block's, as below. */
void page_mark(struct object *o, uint32_t block, uint64_t index);
void page_unmark(struct object *o, uint32_t block);
/* The blocks of the object that the entry may have changed, or is to: from the first one to the end. Whether
 * an image's record takes effect is not looked at. */
void entry_reach(const struct log_entry *e, const struct object *o, uint32_t *ret_first, uint32_t *ret_end);
/* Of each of the blocks: no entry above it, up to the page's, has touched the block. The newest one that has,
 * if the log still has that, else the last one that it does not have; at most the mark's or the page's index.
 */
void page_block_indexes(const struct object *o, uint32_t first, uint32_t count, uint64_t *ret_index);
void page_touch(struct object *o); /* it is used */
void page_drop(struct object *o);  /* out of the cache */
#define PAGE_TRIES_MAX 20          /* of destage, which the ring waits for */
#define PAGE_RETRY_NS  (250 * NS_PER_MS)
enum page_taken { PAGE_TAKEN, PAGE_AGAIN, PAGE_UNREADABLE, PAGE_DAMAGED };
/* The object's page was read for want of its checksums, when its version was that; `result` is the request's.
 * TAKEN: they are in the cache, at least until the end of this step. AGAIN: look again whether it is to be
 * read, and from where. UNREADABLE: the device gave an error twice; nothing is changed. DAMAGED: what
 * came did not verify twice, and its written blocks are lost. `failed` is false
 * at first, and then the caller's to keep. */
enum page_taken page_take(struct object *o, uint64_t version, const struct disk_page *disk, int result,
                          bool *failed);

#endif
