/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk: pages, the list of cached writes, requests in flight.
 *
 * Every completed write gets a number. A page knows for each sector the number of the write whose bytes are
 * durable there, so that a cached write that becomes durable late never goes over a newer one that was
 * durable before it. `current` is what reads see while a cached write covers the page.
 */
#include "sim/sim_blk.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/plant.h"

#define SECTOR            512u
#define SECTORS_PER_BLOCK (BLOCK_SIZE / SECTOR)
#define JUNK_STEP         0x9e3779b97f4a7c15ull
#define BYTES_PER_NS      2 /* transfer rate: 2 GB/s */

struct page {
    uint64_t number;
    uint8_t durable[BLOCK_SIZE];
    uint64_t durable_seq[SECTORS_PER_BLOCK];
    uint8_t *older;        /* what was durable before the last write; NULL: not known */
    uint8_t *current;      /* NULL: as durable */
    uint32_t cached_count; /* cached writes that cover the page */
};

/* A write in the volatile cache. */
struct cached {
    struct list link; /* in order of seq */
    uint64_t seq;
    uint64_t offset, len;
    uint8_t data[];
};

struct handle {
    struct blk blk;
    struct sim_disk *disk;
    struct sim_node *node;
    uint64_t offset; /* of the window */
    struct list inflight;
    struct list link; /* in the disk's handles */
    struct sim_crash_hook hook;
};

struct request {
    struct sim_event event;
    struct list link; /* in the handle's requests in flight */
    struct list held; /* in the disk's list while it hangs */
    struct handle *handle;
    struct blk_io *io;
    uint64_t offset; /* on the disk */
    uint64_t flush_seq;
    bool is_held;
    struct cached *write; /* the copy, for BLK_WRITE and BLK_DISCARD */
};

struct sim_disk {
    struct sim *sim;
    struct sim_disk_config config;
    char name[32];
    struct sim_rng latency, faults, fate;
    uint64_t junk_seed;
    struct page **pages;  /* by number; NULL: never written */
    struct page **by_age; /* all pages, in order of first write: for random picks that replay */
    uint32_t page_count, page_cap;
    struct list cache;
    struct list handles;
    struct list held;
    bool hung;
    uint64_t seq;
    uint64_t cached_bytes;
    struct sim_disk_stats stats;
};

struct sim_disk *sim_disk_new(struct sim *sim, const struct sim_disk_config *config)
{
    struct sim_disk *disk = sim_alloc(sizeof(*disk));

    ASSERT(IS_ALIGNED(config->size_bytes, BLOCK_SIZE) && config->size_bytes);
    ASSERT(strlen(config->name) < sizeof(disk->name));
    disk->sim = sim;
    disk->config = *config;
    strcpy(disk->name, config->name);
    disk->config.name = disk->name;
    if (!config->queue_depth_hint)
        disk->config.queue_depth_hint = 4;
    if (!config->latency_min_ns && !config->latency_typical_ns) {
        disk->config.latency_min_ns = 10 * NS_PER_US;
        disk->config.latency_typical_ns = 80 * NS_PER_US;
    }
    if (!config->torn_ppm && !config->lost_ppm)
        disk->config.torn_ppm = disk->config.lost_ppm = 300000;
    uint64_t index = hash_bytes(0, disk->name, strlen(disk->name));
    disk->latency = sim_rng_make(sim->seed, "disk.latency", index);
    disk->faults = sim_rng_make(sim->seed, "disk.faults", index);
    disk->fate = sim_rng_make(sim->seed, "disk.fate", index);
    disk->junk_seed = hash_pair(sim->seed, index);
    disk->pages = sim_alloc(config->size_bytes / BLOCK_SIZE * sizeof(struct page *));
    list_init(&disk->cache);
    list_init(&disk->handles);
    list_init(&disk->held);
    return disk;
}

/* ---- pages
 * ---------------------------------------------------------------------------------------------------- */

static struct page *page_find(const struct sim_disk *disk, uint64_t number)
{
    return disk->pages[number];
}

static void page_unwritten(const struct sim_disk *disk, uint64_t number, uint8_t *bytes)
{
    memset(bytes, 0, BLOCK_SIZE);
    if (!disk->config.junk)
        return;
    uint64_t word = hash_pair(disk->junk_seed, number);
    for (uint32_t i = 0; i < BLOCK_SIZE; i += 8, word += JUNK_STEP)
        memcpy(bytes + i, &word, 8);
}

/* `whole`: what is there does not matter, it is written over. */
static struct page *page_get(struct sim_disk *disk, uint64_t number, bool whole)
{
    struct page *page = page_find(disk, number);

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
        disk->by_age = realloc(disk->by_age, disk->page_cap * sizeof(struct page *));
        ASSERT(disk->by_age);
    }
    disk->by_age[disk->page_count++] = page;
    sim_heap_enter(heap);
    return page;
}

static void page_uncache(struct page *page)
{
    ASSERT(page->cached_count > 0);
    if (--page->cached_count == 0) {
        free(page->current);
        page->current = NULL;
    }
}

static void disk_read(const struct sim_disk *disk, uint64_t offset, uint8_t *bytes)
{
    const struct page *page = page_find(disk, offset / BLOCK_SIZE);

    if (!page)
        page_unwritten(disk, offset / BLOCK_SIZE, bytes);
    else
        memcpy(bytes, page->current ? page->current : page->durable, BLOCK_SIZE);
}

static uint64_t page_seq(const struct page *page)
{
    uint64_t seq = 0;

    for (uint32_t i = 0; i < SECTORS_PER_BLOCK; i++)
        seq = MAX(seq, page->durable_seq[i]);
    return seq;
}

static void page_keep_older(struct page *page, uint64_t seq)
{
    if (page_seq(page) >= seq)
        return;
    if (!page->older)
        page->older = sim_alloc(BLOCK_SIZE);
    memcpy(page->older, page->durable, BLOCK_SIZE);
}

/* Makes sectors of a write durable where nothing newer is. `keep` says which, by sector of the write; NULL:
 * all. */
static void write_durable(struct sim_disk *disk, const struct cached *w, const uint8_t *keep)
{
    for (uint64_t at = 0; at < w->len; at += BLOCK_SIZE) {
        struct page *page = page_get(disk, (w->offset + at) / BLOCK_SIZE, !keep && !disk->config.keep_older);
        if (disk->config.keep_older)
            page_keep_older(page, w->seq);
        if (!keep && page_seq(page) <= w->seq) {
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

static void write_current(struct sim_disk *disk, const struct cached *w, bool cached)
{
    for (uint64_t at = 0; at < w->len; at += BLOCK_SIZE) {
        struct page *page = page_get(disk, (w->offset + at) / BLOCK_SIZE, false);
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
static void cache_drop(struct sim_disk *disk, struct cached *w)
{
    for (uint64_t at = 0; at < w->len; at += BLOCK_SIZE)
        page_uncache(page_get(disk, (w->offset + at) / BLOCK_SIZE, false));
    disk->cached_bytes -= w->len;
    list_remove(&w->link);
    free(w);
}

/* The write has reached the device; it owns `w` from here. */
static void write_complete(struct sim_disk *disk, struct cached *w, bool durable)
{
    w->seq = ++disk->seq;
    if (durable) {
        write_durable(disk, w, NULL);
        write_current(disk, w, false);
        free(w);
        return;
    }
    write_current(disk, w, true);
    list_push_back(&disk->cache, &w->link);
    disk->cached_bytes += w->len;
}

static void flush_complete(struct sim_disk *disk, uint64_t flush_seq)
{
    list_for_each_safe (&disk->cache, node) {
        struct cached *w = list_entry(node, struct cached, link);
        if (w->seq > flush_seq)
            break;
        write_durable(disk, w, NULL);
        cache_drop(disk, w);
    }
}

/* A decided write shows at once where older cached bytes covered it. */
static void write_show(struct sim_disk *disk, const struct cached *w, const uint8_t *keep)
{
    for (uint64_t at = 0; at < w->len; at += SECTOR) {
        struct page *page = page_get(disk, (w->offset + at) / BLOCK_SIZE, false);
        if (page->current && (!keep || keep[at / SECTOR]))
            memcpy(page->current + (w->offset + at) % BLOCK_SIZE, w->data + at, SECTOR);
    }
}

/* The fate of a write that was not durable when the power went, or that failed. */
static void write_decide(struct sim_disk *disk, const struct cached *w)
{
    uint64_t roll = sim_rng_below(&disk->fate, 1000000);
    uint32_t sectors = (uint32_t)(w->len / SECTOR);

    if (roll < disk->config.lost_ppm) {
        disk->stats.lost++;
        return;
    }
    if (roll >= (uint64_t)disk->config.lost_ppm + disk->config.torn_ppm) {
        disk->stats.kept++;
        write_durable(disk, w, NULL);
        write_show(disk, w, NULL);
        return;
    }
    disk->stats.torn++;
    uint8_t *keep = sim_alloc(sectors);
    /* Half of the torn writes stop somewhere, half have holes anywhere. */
    bool prefix = sim_rng_below(&disk->fate, 2);
    uint64_t stop = sim_rng_below(&disk->fate, sectors);
    for (uint32_t i = 0; i < sectors; i++)
        keep[i] = prefix ? i < stop : sim_rng_below(&disk->fate, 2);
    write_durable(disk, w, keep);
    write_show(disk, w, keep);
    free(keep);
}

static void cache_decide(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    list_for_each_safe (&disk->cache, node) {
        struct cached *w = list_entry(node, struct cached, link);
        if (w->offset < offset || w->offset + w->len > offset + len)
            continue;
        write_decide(disk, w);
        cache_drop(disk, w);
    }
}

/* ---- damage
 * --------------------------------------------------------------------------------------------------- */

static bool may_damage(struct sim_disk *disk, enum sim_damage damage, uint64_t offset, uint64_t len)
{
    return disk->config.may_damage && disk->config.may_damage(disk->config.owner, disk, damage, offset, len);
}

/* One of the pages in a range, each as likely; NULL: there is none. */
static struct page *page_pick(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    struct page *picked = NULL;
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
    struct page *page = page_pick(disk, offset, len);

    if (!page || !may_damage(disk, SIM_DAMAGE_ROT, page->number * BLOCK_SIZE, BLOCK_SIZE))
        return false;
    uint64_t bit = sim_rng_below(&disk->faults, BLOCK_SIZE * 8);
    page->durable[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    if (page->current)
        page->current[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    disk->stats.rotten++;
    sim_injected(disk->sim, SIM_FAULT_DISK_ROT);
    sim_log(disk->sim, "%s: bit %llu of block %llu changes", disk->name, (unsigned long long)bit,
            (unsigned long long)page->number);
    return true;
}

bool sim_disk_lose(struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    struct page *page = page_pick(disk, offset, len);

    if (!page)
        return false;
    uint64_t seq = page_seq(page), first = page->number, end = first + 1;
    while (first && (page = page_find(disk, first - 1)) && page_seq(page) == seq)
        first--;
    while (end < disk->config.size_bytes / BLOCK_SIZE && (page = page_find(disk, end)) &&
           page_seq(page) == seq)
        end++;
    for (uint64_t i = first; i < end; i++) {
        page = page_find(disk, i);
        if (!page->older || page->current)
            return false;
    }
    if (!may_damage(disk, SIM_DAMAGE_LOSE, first * BLOCK_SIZE, (end - first) * BLOCK_SIZE))
        return false;
    for (uint64_t i = first; i < end; i++) {
        page = page_find(disk, i);
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

bool sim_disk_is_settled(const struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    list_for_each (&disk->handles, node) {
        const struct handle *handle = list_entry(node, struct handle, link);
        list_for_each (&handle->inflight, item) {
            const struct request *r = list_entry(item, struct request, link);
            if (r->write && r->offset < offset + len && r->offset + r->write->len > offset)
                return false;
        }
    }
    list_for_each (&disk->cache, node) {
        const struct cached *w = list_entry(node, struct cached, link);
        if (w->offset < offset + len && w->offset + w->len > offset)
            return false;
    }
    return true;
}

/* Where a misdirected write goes instead, in the same window, most often onto something; the right place when
 * that may not be. */
static uint64_t misdirect(struct handle *handle, uint64_t offset, uint64_t len)
{
    struct sim_disk *disk = handle->disk;
    uint64_t blocks = (handle->blk.size_bytes - len) / BLOCK_SIZE + 1;
    uint64_t other = handle->offset + sim_rng_below(&disk->faults, blocks) * BLOCK_SIZE;
    struct page *page = page_pick(disk, handle->offset, blocks * BLOCK_SIZE);

    if (page && sim_rng_below(&disk->faults, 4))
        other = page->number * BLOCK_SIZE;
    if (other == offset || !may_damage(disk, SIM_DAMAGE_LOSE_NEW, offset, len) ||
        !may_damage(disk, SIM_DAMAGE_MISDIRECTED, other, len))
        return offset;
    disk->stats.misdirected++;
    sim_injected(disk->sim, SIM_FAULT_DISK_MISDIRECT);
    sim_log(disk->sim, "%s: a write for block %llu goes to block %llu", disk->name,
            (unsigned long long)(offset / BLOCK_SIZE), (unsigned long long)(other / BLOCK_SIZE));
    return other;
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------- */

static void request_free(struct request *request)
{
    list_remove(&request->link);
    if (request->is_held)
        list_remove(&request->held);
    sim_unschedule(request->handle->disk->sim, &request->event);
    free(request->write);
    free(request);
}

static void read_complete(struct sim_disk *disk, struct request *request)
{
    const struct blk_io *io = request->io;
    uint64_t at = 0;

    if (sim_rng_chance(&disk->faults, disk->config.faults.rot_ppm))
        sim_disk_rot(disk, request->offset, io->len);
    for (uint32_t i = 0; i < io->iov_count; i++)
        for (size_t done = 0; done < io->iov[i].iov_len; done += BLOCK_SIZE, at += BLOCK_SIZE)
            disk_read(disk, request->offset + at, (uint8_t *)io->iov[i].iov_base + done);
}

/* The memory of a write is the caller's to leave alone until it completes. */
static void write_check(const struct request *request)
{
    const struct blk_io *io = request->io;
    uint64_t at = 0;

    for (uint32_t i = 0; i < io->iov_count; at += io->iov[i].iov_len, i++)
        ASSERT(memcmp(request->write->data + at, io->iov[i].iov_base, io->iov[i].iov_len) == 0);
}

static int request_complete(struct sim_disk *disk, struct request *request)
{
    const struct sim_disk_faults *f = &disk->config.faults;
    const struct blk_io *io = request->io;
    struct cached *w = request->write;

    switch (io->type) {
    case BLK_READ:
        if (sim_rng_chance(&disk->faults, f->read_error_ppm) &&
            may_damage(disk, SIM_DAMAGE_READ_ERROR, request->offset, io->len)) {
            disk->stats.errors++;
            disk->stats.read_errors++;
            sim_injected(disk->sim, SIM_FAULT_DISK_READ);
            sim_log(disk->sim, "%s: block %llu cannot be read", disk->name,
                    (unsigned long long)(request->offset / BLOCK_SIZE));
            return -ERR_IO;
        }
        read_complete(disk, request);
        return 0;
    case BLK_WRITE: {
        write_check(request);
        request->write = NULL;
        if (sim_rng_chance(&disk->faults, f->write_error_ppm)) {
            /* What a failed write leaves behind is unknown. */
            disk->stats.errors++;
            sim_injected(disk->sim, SIM_FAULT_DISK_ERROR);
            w->seq = ++disk->seq;
            write_decide(disk, w);
            free(w);
            return -ERR_IO;
        }
        if (sim_rng_chance(&disk->faults, f->lose_ppm) &&
            may_damage(disk, SIM_DAMAGE_LOSE_NEW, request->offset, io->len)) {
            disk->stats.taken_back++;
            sim_injected(disk->sim, SIM_FAULT_DISK_LOSE);
            sim_log(disk->sim, "%s: the write of block %llu goes nowhere", disk->name,
                    (unsigned long long)(request->offset / BLOCK_SIZE));
            free(w);
            return 0;
        }
        if (sim_rng_chance(&disk->faults, f->misdirect_ppm))
            w->offset = misdirect(request->handle, w->offset, w->len);
        bool fua = (io->flags & BLK_FUA) && !f->lying_flush && !PLANT(DISK_LYING_FLUSH);
        write_complete(disk, w, fua || !disk->config.volatile_cache);
        return 0;
    }
    case BLK_FLUSH:
        if (sim_rng_chance(&disk->faults, f->flush_error_ppm)) {
            disk->stats.errors++;
            sim_injected(disk->sim, SIM_FAULT_DISK_FLUSH);
            return -ERR_IO;
        }
        if (!f->lying_flush && !PLANT(DISK_LYING_FLUSH))
            flush_complete(disk, request->flush_seq);
        return 0;
    case BLK_DISCARD:
        request->write = NULL;
        /* A device may do what it likes: here zeros or nothing. */
        if (sim_rng_below(&disk->faults, 2))
            write_complete(disk, w, !disk->config.volatile_cache);
        else
            free(w);
        return 0;
    }
    UNREACHABLE();
}

static void request_fire(struct sim_event *event)
{
    struct request *request = container_of(event, struct request, event);
    struct sim_disk *disk = request->handle->disk;
    struct blk_io *io = request->io;

    if (disk->hung) {
        request->is_held = true;
        list_push_back(&disk->held, &request->held);
        return;
    }
    uint32_t crc = request->write ? crc32c(0, request->write->data, request->write->len) : 0;
    io->result = request_complete(disk, request);
    io->pending = false;
    sim_trace(disk->sim, disk->name, request->offset,
              hash_pair((uint64_t)io->type, crc) + (uint64_t)io->result);
    request_free(request);
    op_wake(io->waiter);
}

static void io_check(const struct handle *handle, const struct blk_io *io)
{
    uint64_t sum = 0;

    if (io->type == BLK_FLUSH)
        return;
    ASSERT(io->len > 0 && IS_ALIGNED(io->offset, BLOCK_SIZE) && IS_ALIGNED(io->len, BLOCK_SIZE));
    ASSERT(io->len <= handle->blk.size_bytes && io->offset <= handle->blk.size_bytes - io->len);
    if (io->type == BLK_DISCARD)
        return;
    ASSERT(io->iov_count > 0 && io->iov_count <= BLK_IOV_MAX);
    for (uint32_t i = 0; i < io->iov_count; i++) {
        ASSERT(IS_ALIGNED((uintptr_t)io->iov[i].iov_base, BLOCK_SIZE) &&
               IS_ALIGNED(io->iov[i].iov_len, BLOCK_SIZE));
        sum += io->iov[i].iov_len;
    }
    ASSERT(sum == io->len);
}

static struct cached *write_copy(const struct request *request)
{
    const struct blk_io *io = request->io;
    struct cached *w = sim_alloc_bytes(sizeof(*w) + io->len);
    uint64_t at = 0;

    list_init(&w->link);
    w->seq = 0;
    w->offset = request->offset;
    w->len = io->len;
    if (io->type == BLK_DISCARD)
        memset(w->data, 0, io->len);
    else
        for (uint32_t i = 0; i < io->iov_count; at += io->iov[i].iov_len, i++)
            memcpy(w->data + at, io->iov[i].iov_base, io->iov[i].iov_len);
    return w;
}

static void count(struct handle *handle, const struct blk_io *io)
{
    struct core_counters *c = &handle->node->core.counters;
    struct sim_disk_stats *s = &handle->disk->stats;

    switch (io->type) {
    case BLK_READ:
        s->reads++;
        c->blk_reads++;
        c->blk_bytes_read += io->len;
        break;
    case BLK_WRITE:
        s->writes++;
        c->blk_writes++;
        c->blk_bytes_written += io->len;
        break;
    case BLK_FLUSH:
        s->flushes++;
        c->blk_flushes++;
        break;
    case BLK_DISCARD:
        s->discards++;
        break;
    }
}

static void blk_sim_submit(struct blk *blk, struct blk_io *io)
{
    struct handle *handle = container_of(blk, struct handle, blk);
    struct sim_disk *disk = handle->disk;

    io_check(handle, io);
    count(handle, io);
    io->submitted_ns = sim_node_now_ns(handle->node);
    struct request *request = sim_alloc(sizeof(*request));
    request->event = (struct sim_event){.node = handle->node, .fire = request_fire};
    request->handle = handle;
    request->io = io;
    request->offset = handle->offset + io->offset;
    request->flush_seq = disk->seq;
    list_init(&request->held);
    list_push_back(&handle->inflight, &request->link);
    if (io->type == BLK_WRITE || io->type == BLK_DISCARD)
        request->write = write_copy(request);
    if (sim_rng_chance(&disk->faults, disk->config.faults.stuck_ppm)) {
        disk->stats.stuck++;
        sim_injected(disk->sim, SIM_FAULT_DISK_STUCK);
        sim_log(disk->sim, "%s: a request for block %llu is stuck", disk->name,
                (unsigned long long)(request->offset / BLOCK_SIZE));
        return;
    }
    uint64_t delay_ns =
        sim_rng_latency(&disk->latency, disk->config.latency_min_ns, disk->config.latency_typical_ns);
    if (io->type != BLK_FLUSH)
        delay_ns += io->len / BYTES_PER_NS;
    if (sim_rng_chance(&disk->faults, disk->config.faults.slow_ppm)) {
        delay_ns += disk->config.faults.slow_ns;
        sim_injected(disk->sim, SIM_FAULT_DISK_SLOW);
    }
    if (io->type == BLK_READ && sim_rng_chance(&disk->faults, disk->config.faults.read_slow_ppm)) {
        delay_ns += disk->config.faults.read_slow_ns;
        sim_injected(disk->sim, SIM_FAULT_DISK_SLOW);
    }
    sim_schedule(disk->sim, &request->event, delay_ns);
}

static void handle_free(struct handle *handle)
{
    list_remove(&handle->hook.link);
    list_remove(&handle->link);
    free(handle);
}

static void blk_sim_close(struct blk *blk)
{
    struct handle *handle = container_of(blk, struct handle, blk);

    ASSERT(list_empty(&handle->inflight));
    handle_free(handle);
}

static const struct blk_ops SIM_BLK_OPS = {blk_sim_submit, blk_sim_close};

static void handle_crashed(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind)
{
    struct handle *handle = container_of(hook, struct handle, hook);
    struct sim_disk *disk = handle->disk;

    /* Unfinished writes are newer than what the cache holds; each may have happened before the end or not. */
    if (kind == SIM_CRASH_POWER)
        cache_decide(disk, handle->offset, handle->blk.size_bytes);
    list_for_each_safe (&handle->inflight, item) {
        struct request *request = list_entry(item, struct request, link);
        if (request->write && request->io->type == BLK_WRITE) {
            request->write->seq = ++disk->seq;
            write_decide(disk, request->write);
        }
        request_free(request);
    }
    handle_free(handle);
}

struct blk *sim_disk_open(struct sim_disk *disk, struct sim_node *node, uint64_t offset, uint64_t len)
{
    struct handle *handle = sim_alloc(sizeof(*handle));

    ASSERT(IS_ALIGNED(offset, BLOCK_SIZE) && IS_ALIGNED(len, BLOCK_SIZE) && len);
    ASSERT(len <= disk->config.size_bytes && offset <= disk->config.size_bytes - len);
    handle->blk = (struct blk){.ops = &SIM_BLK_OPS,
                               .size_bytes = len,
                               .volatile_cache = disk->config.volatile_cache,
                               .queue_depth_hint = disk->config.queue_depth_hint};
    handle->disk = disk;
    handle->node = node;
    handle->offset = offset;
    handle->hook.crashed = handle_crashed;
    list_init(&handle->inflight);
    list_push_back(&disk->handles, &handle->link);
    list_push_back(&node->crash_hooks, &handle->hook.link);
    return &handle->blk;
}

/* ---- from outside
 * --------------------------------------------------------------------------------------------- */

void sim_disk_power_cut(struct sim_disk *disk)
{
    list_for_each (&disk->handles, node)
        ASSERT(list_empty(&list_entry(node, struct handle, link)->inflight));
    cache_decide(disk, 0, disk->config.size_bytes);
}

void sim_disk_hang(struct sim_disk *disk, bool hung)
{
    disk->hung = hung;
    if (hung)
        return;
    for (struct list *node; (node = list_pop_front(&disk->held));) {
        struct request *request = list_entry(node, struct request, held);
        request->is_held = false;
        sim_schedule(disk->sim, &request->event, 0);
    }
}

void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults)
{
    disk->config.faults = *faults;
}

void sim_disk_peek(const struct sim_disk *disk, uint64_t offset, void *ret_bytes, size_t len)
{
    uint8_t block[BLOCK_SIZE];
    uint8_t *to = ret_bytes;

    ASSERT(len <= disk->config.size_bytes && offset <= disk->config.size_bytes - len);
    while (len) {
        size_t in = offset % BLOCK_SIZE, n = MIN(len, BLOCK_SIZE - in);
        disk_read(disk, ALIGN_DOWN(offset, (uint64_t)BLOCK_SIZE), block);
        memcpy(to, block + in, n);
        to += n;
        offset += n;
        len -= n;
    }
}

void sim_disk_poke(struct sim_disk *disk, uint64_t offset, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;

    ASSERT(len <= disk->config.size_bytes && offset <= disk->config.size_bytes - len);
    while (len) {
        size_t in = offset % BLOCK_SIZE, n = MIN(len, BLOCK_SIZE - in);
        struct page *page = page_get(disk, offset / BLOCK_SIZE, false);
        memcpy(page->durable + in, from, n);
        if (page->current)
            memcpy(page->current + in, from, n);
        from += n;
        offset += n;
        len -= n;
    }
}

void sim_disk_wipe(struct sim_disk *disk)
{
    ASSERT(list_empty(&disk->handles));
    for (struct list *node; (node = list_pop_front(&disk->cache));)
        free(list_entry(node, struct cached, link));
    for (uint32_t i = 0; i < disk->page_count; i++) {
        disk->pages[disk->by_age[i]->number] = NULL;
        free(disk->by_age[i]->current);
        free(disk->by_age[i]->older);
        free(disk->by_age[i]);
    }
    disk->page_count = 0;
    disk->cached_bytes = 0;
}

void sim_disk_free(struct sim_disk *disk)
{
    list_for_each_safe (&disk->handles, node) {
        struct handle *handle = list_entry(node, struct handle, link);
        list_for_each_safe (&handle->inflight, item)
            request_free(list_entry(item, struct request, link));
        handle_free(handle);
    }
    sim_disk_wipe(disk);
    free(disk->pages);
    free(disk->by_age);
    free(disk);
}

uint64_t sim_disk_writes(const struct sim_disk *disk)
{
    return disk->seq;
}

uint64_t sim_disk_written(const struct sim_disk *disk, uint64_t offset)
{
    const struct page *page = page_find(disk, offset / BLOCK_SIZE);

    return page ? page_seq(page) : 0;
}

uint64_t sim_disk_cached_bytes(const struct sim_disk *disk)
{
    return disk->cached_bytes;
}

uint64_t sim_disk_size(const struct sim_disk *disk)
{
    return disk->config.size_bytes;
}

struct sim_disk_stats sim_disk_stats(const struct sim_disk *disk)
{
    return disk->stats;
}
