/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong with contents, where the atlas of the owner allows it.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/sim_blk_inside.h"

bool medium_may_damage(struct sim_disk *disk, enum sim_damage damage, uint64_t offset, uint64_t len)
{
    return disk->config.may_damage && disk->config.may_damage(disk->config.owner, disk, damage, offset, len);
}

/* One of the pages in a range, each as likely; NULL: there is none. */
static struct sim_page *page_pick(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    struct sim_page *picked = NULL;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < disk->page_count; i++) {
        uint64_t at = disk->by_age[i]->number * BLOCK_SIZE;
        if (at >= offset && at < offset + len && sim_rng_below(&disk->faults, ++seen) == 0)
            picked = disk->by_age[i];
    }
    return picked;
}

bool sim_disk_rot(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    struct sim_page *page = page_pick(disk, offset, len);

    if (!page || !medium_may_damage(disk, SIM_DAMAGE_ROT, page->number * BLOCK_SIZE, BLOCK_SIZE))
        return false;
    uint64_t bit = sim_rng_below(&disk->faults, BLOCK_SIZE * 8);
    disk->stats.rotten++;
    sim_injected(disk->sim, SIM_FAULT_DISK_ROT);
    if (sim_rng_below(&disk->rots, 3) == 0) {
        page->unreadable = true;
        sim_log(disk->sim, "%s: block %llu cannot be read any more", disk->name,
                (unsigned long long)page->number);
        return true;
    }
    page->durable[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    if (page->current)
        page->current[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    sim_log(disk->sim, "%s: bit %llu of block %llu changes", disk->name, (unsigned long long)bit,
            (unsigned long long)page->number);
    return true;
}

bool sim_disk_lose(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    struct sim_page *page = page_pick(disk, offset, len);

    if (!page)
        return false;
    uint64_t seq = medium_page_seq(page), first = page->number, end = first + 1;
    while (first && (page = medium_page(disk, first - 1)) && medium_page_seq(page) == seq)
        first--;
    while (end < disk->config.size_bytes / BLOCK_SIZE && (page = medium_page(disk, end)) &&
           medium_page_seq(page) == seq)
        end++;
    for (uint64_t i = first; i < end; i++) {
        page = medium_page(disk, i);
        if (!page->older || page->current)
            return false;
    }
    if (!medium_may_damage(disk, SIM_DAMAGE_LOSE, first * BLOCK_SIZE, (end - first) * BLOCK_SIZE))
        return false;
    for (uint64_t i = first; i < end; i++) {
        page = medium_page(disk, i);
        memcpy(page->durable, page->older, BLOCK_SIZE);
        free(page->older);
        page->older = NULL;
    }
    disk->stats.taken_back++;
    sim_injected(disk->sim, SIM_FAULT_DISK_LOSE);
    sim_log(disk->sim, "%s: the write of blocks %llu to %llu never happened", disk->name,
            (unsigned long long)first, (unsigned long long)(end - 1));
    return true;
}

uint64_t medium_misdirect(struct sim_disk_handle *handle, uint64_t offset, uint64_t len)
{
    struct sim_disk *disk = handle->disk;
    uint64_t blocks = (handle->blk.size_bytes - len) / BLOCK_SIZE + 1;
    uint64_t other = handle->offset + sim_rng_below(&disk->faults, blocks) * BLOCK_SIZE;
    struct sim_page *page = page_pick(disk, handle->offset, blocks * BLOCK_SIZE);

    if (page && sim_rng_below(&disk->faults, 4))
        other = page->number * BLOCK_SIZE;
    if (other == offset || !medium_may_damage(disk, SIM_DAMAGE_LOSE_NEW, offset, len) ||
        !medium_may_damage(disk, SIM_DAMAGE_MISDIRECTED, other, len))
        return offset;
    disk->stats.misdirected++;
    sim_injected(disk->sim, SIM_FAULT_DISK_MISDIRECT);
    sim_log(disk->sim, "%s: a write for block %llu goes to block %llu", disk->name,
            (unsigned long long)(offset / BLOCK_SIZE), (unsigned long long)(other / BLOCK_SIZE));
    return other;
}
