/* SPDX-License-Identifier: Apache-2.0
 *
 * The medium of a disk: pages, and the list of cached writes.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/sim_blk_inside.h"

#define CACHE_BYTES_MAX (64u << 20) /* what is older leaves by itself */
#define JUNK_STEP       0x9e3779b97f4a7c15ull

struct sim_page *medium_page(const struct sim_disk *disk, uint64_t number)
{
    return disk->pages[number];
}

static void page_unwritten(const struct sim_disk *disk, uint64_t number, uint8_t *bytes)
{
    if (!disk->config.junk) {
        memset(bytes, 0, BLOCK_SIZE);
        return;
    }
    uint64_t word = hash_pair(disk->junk_seed, number);
    for (uint32_t i = 0; i < BLOCK_SIZE; i += sizeof(word), word += JUNK_STEP)
        memcpy(bytes + i, &word, sizeof(word));
}

struct sim_page *medium_page_get(struct sim_disk *disk, uint64_t number, bool whole)
{
    struct sim_page *page = medium_page(disk, number);

    if (page)
        return page;
    struct sim_heap *heap = sim_heap_enter(NULL);
    page = sim_alloc(sizeof(*page));
    if (!whole)
        page_unwritten(disk, number, page->durable);
    page->number = number;
    disk->pages[number] = page;
    if (disk->page_count == disk->page_cap) {
        disk->page_cap = disk->page_cap ? disk->page_cap * 2 : 256;
        disk->by_age = realloc(disk->by_age, disk->page_cap * sizeof(struct sim_page *));
        ASSERT(disk->by_age);
    }
    disk->by_age[disk->page_count++] = page;
    sim_heap_enter(heap);
    return page;
}

static void page_uncache(struct sim_page *page)
{
    ASSERT(page->cached_count > 0);
    if (--page->cached_count == 0) {
        free(page->current);
        page->current = NULL;
    }
}

void medium_read(const struct sim_disk *disk, uint64_t offset, uint8_t *bytes)
{
    const struct sim_page *page = medium_page(disk, offset / BLOCK_SIZE);

    if (!page)
        page_unwritten(disk, offset / BLOCK_SIZE, bytes);
    else
        memcpy(bytes, page->current ? page->current : page->durable, BLOCK_SIZE);
}

bool medium_is_readable(const struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    for (uint64_t at = offset; at < offset + len; at += BLOCK_SIZE) {
        const struct sim_page *page = medium_page(disk, at / BLOCK_SIZE);
        if (page && page->unreadable && !page->current)
            return false;
    }
    return true;
}

uint64_t medium_page_seq(const struct sim_page *page)
{
    uint64_t seq = 0;

    for (uint32_t i = 0; i < SECTORS_PER_BLOCK; i++)
        seq = MAX(seq, page->durable_seq[i]);
    return seq;
}

static void page_keep_older(struct sim_page *page, uint64_t seq)
{
    if (medium_page_seq(page) >= seq)
        return;
    if (!page->older)
        page->older = sim_alloc(BLOCK_SIZE);
    memcpy(page->older, page->durable, BLOCK_SIZE);
}

/* Makes sectors of a write durable where nothing newer is. `keep` says which, by sector of the write; NULL:
 * all. */
static void medium_durable(struct sim_disk *disk, const struct sim_write *w, const uint8_t *keep)
{
    for (uint64_t at = 0; at < w->len; at += BLOCK_SIZE) {
        struct sim_page *page =
            medium_page_get(disk, (w->offset + at) / BLOCK_SIZE, !keep && !disk->config.keep_older);
        page->unreadable = false;
        if (disk->config.keep_older)
            page_keep_older(page, w->seq);
        if (!keep && medium_page_seq(page) <= w->seq) {
            for (uint32_t i = 0; i < SECTORS_PER_BLOCK; i++)
                page->durable_seq[i] = w->seq;
            memcpy(page->durable, w->data + at, BLOCK_SIZE);
            continue;
        }
        for (uint32_t i = 0; i < SECTORS_PER_BLOCK; i++) {
            if ((keep && !keep[at / SECTOR + i]) || page->durable_seq[i] > w->seq)
                continue;
            page->durable_seq[i] = w->seq;
            memcpy(page->durable + i * SECTOR, w->data + at + i * SECTOR, SECTOR);
        }
    }
}

static void write_current(struct sim_disk *disk, const struct sim_write *w, bool cached)
{
    for (uint64_t at = 0; at < w->len; at += BLOCK_SIZE) {
        struct sim_page *page = medium_page_get(disk, (w->offset + at) / BLOCK_SIZE, false);
        if (cached) {
            if (!page->current)
                page->current = sim_alloc_bytes(BLOCK_SIZE);
            page->cached_count++;
        }
        if (page->current)
            memcpy(page->current, w->data + at, BLOCK_SIZE);
    }
}

/* A cached write leaves the cache; what of it is durable has been decided. */
static void cache_drop(struct sim_disk *disk, struct sim_write *w)
{
    for (uint64_t at = 0; at < w->len; at += BLOCK_SIZE)
        page_uncache(medium_page_get(disk, (w->offset + at) / BLOCK_SIZE, false));
    disk->cached_bytes -= w->len;
    list_remove(&w->link);
    free(w);
}

static void cache_drop_durable(struct sim_disk *disk, struct sim_write *w)
{
    medium_durable(disk, w, NULL);
    cache_drop(disk, w);
}

void medium_write(struct sim_disk *disk, struct sim_write *w, bool durable)
{
    w->seq = ++disk->seq;
    if (durable) {
        medium_durable(disk, w, NULL);
        write_current(disk, w, false);
        free(w);
        return;
    }
    write_current(disk, w, true);
    list_push_back(&disk->cache, &w->link);
    disk->cached_bytes += w->len;
    while (disk->cached_bytes > CACHE_BYTES_MAX)
        cache_drop_durable(disk, list_entry(disk->cache.next, struct sim_write, link));
}

void medium_flush(struct sim_disk *disk, uint64_t flush_seq)
{
    list_for_each_safe (&disk->cache, node) {
        struct sim_write *w = list_entry(node, struct sim_write, link);
        if (w->seq > flush_seq)
            break;
        cache_drop_durable(disk, w);
    }
}

/* A decided write shows at once where older cached bytes covered it. */
static void write_show(struct sim_disk *disk, const struct sim_write *w, const uint8_t *keep)
{
    for (uint64_t at = 0; at < w->len; at += SECTOR) {
        struct sim_page *page = medium_page_get(disk, (w->offset + at) / BLOCK_SIZE, false);
        if (page->current && (!keep || keep[at / SECTOR]))
            memcpy(page->current + (w->offset + at) % BLOCK_SIZE, w->data + at, SECTOR);
    }
}

void medium_decide(struct sim_disk *disk, const struct sim_write *w)
{
    uint64_t roll = sim_rng_below(&disk->fate, 1000000);
    uint32_t sectors = (uint32_t)(w->len / SECTOR);

    if (roll < disk->config.lost_ppm) {
        disk->stats.lost++;
        return;
    }
    if (roll >= (uint64_t)disk->config.lost_ppm + disk->config.torn_ppm) {
        disk->stats.kept++;
        medium_durable(disk, w, NULL);
        write_show(disk, w, NULL);
        return;
    }
    disk->stats.torn++;
    uint8_t *keep = sim_alloc(sectors);
    /* Half of the torn writes stop somewhere, half have holes anywhere. */
    bool prefix = sim_rng_below(&disk->fate, 2);
    uint64_t stop = sim_rng_below(&disk->fate, sectors);
    bool hole = disk->config.holes && sim_rng_below(&disk->fate, 3) == 0;
    for (uint32_t i = 0; i < sectors; i++)
        keep[i] = hole ? i - stop >= 4 : prefix ? i < stop : sim_rng_below(&disk->fate, 2);
    medium_durable(disk, w, keep);
    write_show(disk, w, keep);
    free(keep);
}

void medium_power_cut(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    list_for_each_safe (&disk->cache, node) {
        struct sim_write *w = list_entry(node, struct sim_write, link);
        if (w->offset < offset || w->offset + w->len > offset + len)
            continue;
        medium_decide(disk, w);
        cache_drop(disk, w);
    }
}
