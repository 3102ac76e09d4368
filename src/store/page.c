/* SPDX-License-Identifier: Apache-2.0
 *
 * Object pages: one block that says all about an object. Never overwritten in place: each destage of the
 * object writes the next version to another slot.
 *
 * What is in memory of a page. For every object its map: eight bytes per chunk, which chunk it is, what of it
 * is written and what is lost. That answers all questions but one: allocation, reservations, which blocks are
 * zeros, the status of blocks, removal, whole copies need nothing else, and applying an entry looks at no
 * page at all. The checksums, 2 KiB per object, are in a cache of a fixed number of pages, the least recently
 * used of which makes room for the next. Who wants one that is not there reads the page from its slot, as a
 * step of its op: a read of blocks at the same time as the data (read.c), a round of destage, which writes
 * the whole page anew and so needs the checksums of what it leaves alone (round_io.c), repair (copy.c).
 * Nothing is pinned: a page is looked at in the step in which it was found or came, and what is needed longer
 * is copied out.
 *
 * The slot may have become free and another's while it is read. So what came counts only if the object still
 * has the version for which it was read, and then it must be that page in all respects. When the device gives
 * an error instead, twice, that is an error of whoever wanted it, and may pass: the object stays what it is,
 * and destage leaves it alone for a while. In the meantime it can be replaced by another replica's copy. If
 * what came is not the page, twice, the object is damaged, as at open: its written blocks are lost, which is
 * an error or a repair for who reads them, never other data; and what its next page says. Its chunks stay its
 * own until it has another page.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

bool page_is_empty(const struct page_mem *page)
{
    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++)
        if (page->written[i] | page->lost[i])
            return false;
    return true;
}

void page_encode(const struct store *s, const struct object *o, const struct page_mem *page, uint32_t slot,
                 uint64_t index, uint64_t version, struct disk_page *ret)
{
    *ret = (struct disk_page){.magic = MAGIC_PAGE,
                              .size_class = PAGE_CLASS_2M,
                              .key = o->pg->key,
                              .image = o->image,
                              .object = o->number,
                              .index = index,
                              .version = version,
                              .slot = slot};
    memcpy(ret->format_id, s->format_id, FORMAT_ID_BYTES);
    if (page) {
        ASSERT(page->lost_index <= index);
        ret->lost_index = page->lost_index;
        memcpy(ret->chunk, page->chunk, sizeof(ret->chunk));
        memcpy(ret->written, page->written, sizeof(ret->written));
        memcpy(ret->lost, page->lost, sizeof(ret->lost));
        memcpy(ret->block_crc, page->crc, sizeof(ret->block_crc));
    }
    FORMAT_SEAL(ret);
}

/* Is this the live page of the object, as the slot map has it? */
int page_validate(const struct store *s, const struct object *o, const struct disk_page *disk)
{
    if (disk->magic != MAGIC_PAGE || !FORMAT_SEALED(disk) ||
        memcmp(disk->format_id, s->format_id, FORMAT_ID_BYTES) != 0)
        return -ERR_CHECKSUM;
    if (disk->size_class != PAGE_CLASS_2M || !key_is_family(disk->key, o->pg->key) ||
        disk->image != o->image || disk->object != o->number || disk->version != o->version ||
        disk->slot != o->slot || disk->index != o->page_index)
        return -ERR_IDENTITY;
    if (disk->lost_index > disk->index)
        return -ERR_FORMAT;
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        bool used = false;
        if (disk->chunk[c] > s->g.chunk_count)
            return -ERR_FORMAT;
        for (uint32_t b = c * BLOCKS_PER_CHUNK; b < (c + 1) * BLOCKS_PER_CHUNK; b++)
            used |= bit_get(disk->written, b);
        if (used != (disk->chunk[c] != 0))
            return -ERR_FORMAT;
    }
    return 0;
}

void page_decode(const struct disk_page *disk, struct page_mem *ret)
{
    memcpy(ret->chunk, disk->chunk, sizeof(ret->chunk));
    memcpy(ret->written, disk->written, sizeof(ret->written));
    memcpy(ret->lost, disk->lost, sizeof(ret->lost));
    ret->lost_index = disk->lost_index ? disk->lost_index : disk->index;
    memcpy(ret->crc, disk->block_crc, sizeof(ret->crc));
}

/* ---- what stays in memory ------------------------------------------------------------------------------ */

static uint16_t chunk_bits(const uint64_t *bits, uint32_t chunk)
{
    return (uint16_t)(bits[chunk * BLOCKS_PER_CHUNK / 64] >> (chunk * BLOCKS_PER_CHUNK % 64));
}
_Static_assert(BLOCKS_PER_CHUNK == 16 && CHUNKS_PER_OBJECT == 32, "struct page_chunk, page_map");

static uint32_t map_chunks(const struct page_mem *page)
{
    uint32_t chunks = 0;

    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++)
        if (page->chunk[c] || chunk_bits(page->written, c) || chunk_bits(page->lost, c))
            chunks |= 1u << c;
    return chunks;
}

static size_t map_size(uint32_t chunks)
{
    return (size_t)__builtin_popcount(chunks) * sizeof(struct page_chunk);
}

int page_map_make(struct store *s, const struct page_mem *page, struct page_map *ret)
{
    struct page_map map = {.chunks = map_chunks(page)};

    if (map.chunks) {
        map.at = slab_get(&s->slab, map_size(map.chunks));
        if (!map.at)
            return -ERR_NO_MEMORY;
    }
    page_map_fill(&map, page);
    *ret = map;
    return 0;
}

void page_map_fill(struct page_map *map, const struct page_mem *page)
{
    struct page_chunk *at = map->at;

    ASSERT(map->chunks == map_chunks(page));
    map->held = 0;
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        map->held |= (uint32_t)(page->chunk[c] != 0) << c;
        if (map->chunks >> c & 1)
            *at++ = (struct page_chunk){.number = page->chunk[c],
                                        .written = chunk_bits(page->written, c),
                                        .lost = chunk_bits(page->lost, c)};
    }
}

void page_map_free(struct store *s, struct page_map *map)
{
    if (map->chunks)
        slab_put(&s->slab, map->at, map_size(map->chunks));
    *map = (struct page_map){0};
}

struct page_chunk page_map_get(const struct page_map *map, uint32_t chunk)
{
    if (!(map->chunks >> chunk & 1))
        return (struct page_chunk){0};
    return map->at[__builtin_popcount(map->chunks & ((1u << chunk) - 1))];
}

void page_map_expand(const struct page_map *map, struct page_mem *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        struct page_chunk chunk = page_map_get(map, c);
        ret->chunk[c] = chunk.number;
        ret->written[c * BLOCKS_PER_CHUNK / 64] |= (uint64_t)chunk.written << (c * BLOCKS_PER_CHUNK % 64);
        ret->lost[c * BLOCKS_PER_CHUNK / 64] |= (uint64_t)chunk.lost << (c * BLOCKS_PER_CHUNK % 64);
    }
}

static bool map_written(const struct page_map *map)
{
    for (int i = 0; i < __builtin_popcount(map->chunks); i++)
        if (map->at[i].written)
            return true;
    return false;
}

/* ---- the cache ----------------------------------------------------------------------------------------- */

int pages_init(struct store *s)
{
    uint64_t fit = s->config.cache_bytes / 4 / sizeof(struct page_crcs);

    s->pages_max = s->config.pages_max ? s->config.pages_max : (uint32_t)MIN(MAX(fit, 1u), UINT32_MAX);
    s->pages = calloc(s->pages_max, sizeof(*s->pages));
    return s->pages ? 0 : -ERR_NO_MEMORY;
}

void pages_fini(struct store *s)
{
    free(s->pages);
}

bool pages_full(const struct store *s)
{
    return s->pages_touched == s->pages_max && list_empty(&s->pages_free);
}

static struct page_crcs *page_place(struct store *s)
{
    if (s->pages_touched < s->pages_max) {
        struct page_crcs *crcs = &s->pages[s->pages_touched++];
        list_init(&crcs->link);
        return crcs;
    }
    if (list_empty(&s->pages_free))
        page_drop(list_first(&s->pages_used, struct page_crcs, link)->object);
    struct page_crcs *crcs = list_first(&s->pages_free, struct page_crcs, link);
    list_remove(&crcs->link);
    return crcs;
}

void page_keep(struct object *o, const uint32_t *crc)
{
    struct store *s = store_of(o->pg);

    if (!o->crcs) {
        o->crcs = page_place(s);
        o->crcs->object = o;
    }
    memcpy(o->crcs->crc, crc, sizeof(o->crcs->crc));
    o->unreadable = 0;
    page_touch(o);
}

void page_touch(struct object *o)
{
    list_remove(&o->crcs->link);
    list_push_back(&store_of(o->pg)->pages_used, &o->crcs->link);
}

void page_drop(struct object *o)
{
    if (!o->crcs)
        return;
    list_remove(&o->crcs->link);
    list_push_back(&store_of(o->pg)->pages_free, &o->crcs->link);
    o->crcs = NULL;
}

/* ---- a page that was read again ------------------------------------------------------------------------ */

/* What of it was written is lost; what was not is known to be zeros, as before. */
void page_lose(struct object *o, int error)
{
    struct store *s = store_of(o->pg);

    store_problem(s, "PG %llx: page of object %llu/%llu, read again: %s",
                  (unsigned long long)o->pg->pub.record.pg, (unsigned long long)o->image,
                  (unsigned long long)o->number, error_text(error));
    s->counters.damaged_objects++;
    for (int i = 0; i < __builtin_popcount(o->map.chunks); i++) {
        o->map.at[i].lost |= o->map.at[i].written;
        o->map.at[i].written = 0;
    }
    o->lost_index = o->page_index;
    o->unreadable = 0;
    page_drop(o);
}

static struct page_chunk *map_at(struct page_map *map, uint32_t chunk)
{
    return &map->at[__builtin_popcount(map->chunks & ((1u << chunk) - 1))];
}

bool page_map_marked(const struct page_map *map)
{
    for (int i = 0; i < __builtin_popcount(map->chunks); i++)
        if (map->at[i].lost)
            return true;
    return false;
}

static bool is_marked(const struct object *o, uint32_t block)
{
    return page_map_get(&o->map, block / BLOCKS_PER_CHUNK).lost >> block % BLOCKS_PER_CHUNK & 1;
}

void page_mark(struct object *o, uint32_t block, uint64_t index)
{
    bool first = !page_map_marked(&o->map);

    /* There is one index for all marks of a page. Those of former pages are not made young for this one. */
    if (!first && !o->marks_new && index > o->lost_index)
        return;
    o->marks_new |= first;
    o->lost_index = first ? index : MAX(o->lost_index, index);
    map_at(&o->map, block / BLOCKS_PER_CHUNK)->lost |= (uint16_t)(1u << block % BLOCKS_PER_CHUNK);
}

void page_unmark(struct object *o, uint32_t block)
{
    struct page_chunk *chunk = map_at(&o->map, block / BLOCKS_PER_CHUNK);
    uint16_t bit = (uint16_t)(1u << block % BLOCKS_PER_CHUNK);

    /* The page may have been lost meanwhile, and with it what the block should be. */
    if (chunk->written & bit || PLANT(STORE_REPAIR_UNMARKS))
        chunk->lost &= (uint16_t)~bit;
}

void entry_reach(const struct log_entry *e, const struct object *o, uint32_t *ret_first, uint32_t *ret_end)
{
    *ret_first = *ret_end = 0;
    if (e->image != o->image)
        return;
    if (entry_is_image(e->type)) {
        const struct image_record r = image_of_entry(e);
        uint64_t end = r.deleted || r.forgotten ? 0 : image_end(r.size_bytes),
                 before = o->number * BLOCKS_PER_OBJECT;
        *ret_first = (uint32_t)MIN(end - MIN(end, before), (uint64_t)BLOCKS_PER_OBJECT);
        *ret_end = BLOCKS_PER_OBJECT;
    } else if ((e->type == ENTRY_WRITE || e->type == ENTRY_CLEAR) && e->object == o->number) {
        *ret_first = e->first_block;
        *ret_end = e->first_block + e->block_count;
    }
}

/* Entries looked at, for any number of blocks: about as many lines of memory. */
#define LOOK_BACK_MAX 4096u

/* Of those that are marked, or of the others. */
static void look_back(const struct object *o, bool marked, uint32_t first, uint32_t count,
                      uint64_t *ret_index)
{
    const struct pg *pg = o->pg;
    uint64_t index = marked ? o->lost_index : o->page_index;
    uint32_t left = 0, from, end;

    for (uint32_t i = 0; i < count; i++) {
        if (is_marked(o, first + i) != marked)
            continue;
        ret_index[i] = 0;
        left++;
    }
    /* What is not applied here may not be what the page, a copy, is of. */
    bool applied = index <= pg->pub.applied_index || PLANT(STORE_MARK_UNAPPLIED);
    for (uint32_t i = 0; applied && left && i < LOOK_BACK_MAX && index > 1; i++) {
        const struct log_entry *e = log_at(pg, index);
        log_prefetch(pg, index - LOG_AHEAD, true);
        if (!e)
            break;
        entry_reach(e, o, &from, &end);
        if (e->type == ENTRY_CLEAR && PLANT(STORE_MARK_NO_CLEAR))
            end = 0;
        for (uint32_t b = MAX(from, first); b < MIN(end, first + count); b++) {
            if (is_marked(o, b) != marked || ret_index[b - first])
                continue;
            ret_index[b - first] = index;
            left--;
        }
        index--;
    }
    for (uint32_t i = 0; left && i < count; i++)
        if (is_marked(o, first + i) == marked && !ret_index[i])
            ret_index[i] = index;
}

void page_block_indexes(const struct object *o, uint32_t first, uint32_t count, uint64_t *ret_index)
{
    look_back(o, false, first, count, ret_index);
    look_back(o, true, first, count, ret_index);
}

static void page_unreadable(struct object *o, int error)
{
    if (o->unreadable)
        return;
    o->unreadable = 1;
    store_problem(store_of(o->pg), "PG %llx: page of object %llu/%llu cannot be read: %s",
                  (unsigned long long)o->pg->pub.record.pg, (unsigned long long)o->image,
                  (unsigned long long)o->number, error_text(error));
}

enum page_taken page_take(struct object *o, uint64_t version, const struct disk_page *disk, int result,
                          bool *failed)
{
    /* Another read of it may have been faster, also in finding it damaged. */
    if (o->crcs)
        return PAGE_TAKEN;
    if (o->version != version && !PLANT(STORE_PAGE_TRUST))
        return PAGE_AGAIN;
    if (!map_written(&o->map))
        return PAGE_DAMAGED;
    int rc = result ? result : page_validate(store_of(o->pg), o, disk);
    if (rc == 0 || (!result && PLANT(STORE_PAGE_TRUST))) {
        page_keep(o, disk->block_crc);
        return PAGE_TAKEN;
    }
    if (!*failed) {
        *failed = true;
        return PAGE_AGAIN;
    }
    if (result && !PLANT(STORE_PAGE_EIO)) {
        page_unreadable(o, result);
        return PAGE_UNREADABLE;
    }
    page_lose(o, rc);
    return PAGE_DAMAGED;
}
