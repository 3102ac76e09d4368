/* SPDX-License-Identifier: Apache-2.0
 *
 * Object pages: one block that says all about an object. Never overwritten in place: each destage of the
 * object writes the next version to another slot.
 */
#include <string.h>

#include "store/internal.h"

struct page_mem *page_new(struct store *s)
{
    return slab_get(&s->slab, sizeof(struct page_mem));
}

void page_free(struct store *s, struct page_mem *page)
{
    if (page)
        slab_put(&s->slab, page, sizeof(*page));
}

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
    if (disk->size_class != PAGE_CLASS_2M || disk->key != o->pg->key || disk->image != o->image ||
        disk->object != o->number || disk->version != o->version || disk->slot != o->slot ||
        disk->index != o->page_index)
        return -ERR_IDENTITY;
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        bool used = false;
        if (disk->chunk[c] > s->g.chunk_count)
            return -ERR_FORMAT;
        for (uint32_t b = c * BLOCKS_PER_CHUNK; b < (c + 1) * BLOCKS_PER_CHUNK; b++) {
            used |= bit_get(disk->written, b);
            if (bit_get(disk->written, b) && bit_get(disk->lost, b))
                return -ERR_FORMAT;
        }
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
    memcpy(ret->crc, disk->block_crc, sizeof(ret->crc));
}
