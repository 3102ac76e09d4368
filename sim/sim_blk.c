/* SPDX-License-Identifier: Apache-2.0
 *
 * The port of a disk: requests in flight, with their delays and errors; and what may be done to a disk from
 * outside.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/plant.h"
#include "sim/sim_blk_inside.h"

#define BYTES_PER_NS 2 /* transfer rate: 2 GB/s */

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
    disk->unfinished = sim_rng_make(sim->seed, "disk.unfinished", index);
    disk->rots = sim_rng_make(sim->seed, "disk.rots", index);
    disk->onces = sim_rng_make(sim->seed, "disk.onces", index);
    disk->junk_seed = hash_pair(sim->seed, index);
    disk->pages = sim_alloc(config->size_bytes / BLOCK_SIZE * sizeof(struct sim_page *));
    list_init(&disk->cache);
    list_init(&disk->handles);
    list_init(&disk->held);
    return disk;
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------- */

static void request_free(struct sim_disk_request *request)
{
    list_remove(&request->link);
    if (request->is_held)
        list_remove(&request->held);
    sim_unschedule(request->handle->disk->sim, &request->event);
    free(request->write);
    free(request);
}

static void read_complete(struct sim_disk *disk, struct sim_disk_request *request)
{
    const struct blk_io *io = request->io;
    uint64_t at = 0;

    if (sim_rng_chance(&disk->faults, disk->config.faults.rot_ppm))
        sim_disk_rot(disk, request->offset, io->len);
    for (uint32_t i = 0; i < io->iov_count; i++)
        for (size_t done = 0; done < io->iov[i].iov_len; done += BLOCK_SIZE, at += BLOCK_SIZE)
            medium_read(disk, request->offset + at, (uint8_t *)io->iov[i].iov_base + done);
}

/* Whoever asks again, perhaps block by block, has its answers before so many others have failed. */
#define ONCE_NS (100 * NS_PER_MS)

/* True: this time it is wrong, in one way or the other. */
static bool read_fails_once(struct sim_disk *disk, struct sim_disk_request *request, int *ret_result)
{
    const struct blk_io *io = request->io;

    if (!disk->once_ppm || disk->sim->now_ns < disk->once_ns || !sim_rng_chance(&disk->onces, disk->once_ppm))
        return false;
    for (uint32_t i = 0; i < ARRAY_LEN(disk->once); i++)
        if (request->offset < disk->once[i].offset + disk->once[i].len &&
            disk->once[i].offset < request->offset + io->len)
            return false;
    disk->once_ns = disk->sim->now_ns + ONCE_NS;
    uint32_t last = disk->once_count++ % ARRAY_LEN(disk->once);
    disk->once[last].offset = request->offset;
    disk->once[last].len = io->len;
    disk->stats.errors++;
    disk->stats.read_errors++;
    sim_injected(disk->sim, SIM_FAULT_DISK_READ);
    bool fails = sim_rng_below(&disk->onces, 2);
    sim_log(disk->sim, "%s: block %llu %s this time", disk->name,
            (unsigned long long)(request->offset / BLOCK_SIZE), fails ? "cannot be read" : "comes wrong");
    *ret_result = fails ? -ERR_IO : 0;
    if (fails)
        return true;
    read_complete(disk, request);
    const struct iovec *iov = &io->iov[sim_rng_below(&disk->onces, io->iov_count)];
    uint64_t bit = sim_rng_below(&disk->onces, iov->iov_len * 8);
    ((uint8_t *)iov->iov_base)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    return true;
}

/* The memory of a write is the caller's to leave alone until it completes. */
static void write_check(const struct sim_disk_request *request)
{
    const struct blk_io *io = request->io;
    uint64_t at = 0;

    for (uint32_t i = 0; i < io->iov_count; at += io->iov[i].iov_len, i++)
        ASSERT(memcmp(request->write->data + at, io->iov[i].iov_base, io->iov[i].iov_len) == 0);
}

/* It touches these bytes; len 0: which are all. */
static bool request_touches(const struct sim_disk_request *request, uint64_t from, uint64_t len)
{
    return !len || (request->offset < from + len && request->offset + request->io->len > from);
}

/* What it was to make durable, of whatever window, is gone or not. */
static void flush_fails(struct sim_disk *disk)
{
    disk->flush_failed = true;
    medium_power_cut(disk, 0, disk->config.size_bytes);
}

static int request_complete(struct sim_disk *disk, struct sim_disk_request *request)
{
    const struct sim_disk_faults *f = &disk->config.faults;
    const struct blk_io *io = request->io;
    struct sim_write *w = request->write;
    int result;

    switch (io->type) {
    case BLK_READ:
        if (!medium_is_readable(disk, request->offset, io->len))
            return -ERR_IO;
        if (read_fails_once(disk, request, &result))
            return result;
        if (request_touches(request, f->read_error_from, f->read_error_len) &&
            sim_rng_chance(&disk->faults, f->read_error_ppm) &&
            medium_may_damage(disk, SIM_DAMAGE_READ_ERROR, request->offset, io->len)) {
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
        if (request_touches(request, f->error_from, f->error_len) &&
            sim_rng_chance(&disk->faults, f->write_error_ppm)) {
            /* What a failed write leaves behind is unknown. */
            disk->stats.errors++;
            sim_injected(disk->sim, SIM_FAULT_DISK_ERROR);
            w->seq = ++disk->seq;
            medium_decide(disk, w);
            free(w);
            /* On most devices it is a write and a flush. */
            if (io->flags & BLK_FUA && disk->config.volatile_cache && sim_rng_below(&disk->faults, 2))
                flush_fails(disk);
            return -ERR_IO;
        }
        if (sim_rng_chance(&disk->faults, f->lose_ppm) &&
            medium_may_damage(disk, SIM_DAMAGE_LOSE_NEW, request->offset, io->len)) {
            disk->stats.taken_back++;
            sim_injected(disk->sim, SIM_FAULT_DISK_LOSE);
            sim_log(disk->sim, "%s: the write of block %llu goes nowhere", disk->name,
                    (unsigned long long)(request->offset / BLOCK_SIZE));
            free(w);
            return 0;
        }
        if (sim_rng_chance(&disk->faults, f->misdirect_ppm))
            w->offset = medium_misdirect(request->handle, w->offset, w->len);
        bool fua = (io->flags & BLK_FUA) && !f->lying_flush && !PLANT(DISK_LYING_FLUSH);
        medium_write(disk, w, fua || !disk->config.volatile_cache);
        return 0;
    }
    case BLK_FLUSH:
        if (disk->flush_failed)
            return -ERR_IO;
        if (sim_rng_chance(&disk->faults, f->flush_error_ppm)) {
            disk->stats.errors++;
            sim_injected(disk->sim, SIM_FAULT_DISK_FLUSH);
            flush_fails(disk);
            return -ERR_IO;
        }
        if (!f->lying_flush && !PLANT(DISK_LYING_FLUSH))
            medium_flush(disk, request->flush_seq);
        return 0;
    case BLK_DISCARD:
        request->write = NULL;
        /* A device may do what it likes: here zeros or nothing. */
        if (sim_rng_below(&disk->faults, 2))
            medium_write(disk, w, !disk->config.volatile_cache);
        else
            free(w);
        return 0;
    }
    UNREACHABLE();
}

static void request_fire(struct sim_event *event)
{
    struct sim_disk_request *request = container_of(event, struct sim_disk_request, event);
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

static void io_check(const struct sim_disk_handle *handle, const struct blk_io *io)
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

static struct sim_write *write_copy(const struct sim_disk_request *request)
{
    const struct blk_io *io = request->io;
    struct sim_write *w = sim_alloc_bytes(sizeof(*w) + io->len);
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

/* Of two writes of one place at once a device may make either the last one, or a mixture, whichever completes
 * first. Nobody may ask for that. */
static void writes_check(const struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    list_for_each (&disk->handles, node) {
        const struct sim_disk_handle *handle = list_entry(node, struct sim_disk_handle, link);
        list_for_each (&handle->inflight, item) {
            const struct sim_disk_request *r = list_entry(item, struct sim_disk_request, link);
            if (r->write && r->offset < offset + len && r->offset + r->write->len > offset)
                sim_fail(disk->sim, "%s: block %llu is written while it is being written", disk->name,
                         (unsigned long long)(MAX(r->offset, offset) / BLOCK_SIZE));
        }
    }
}

static void count(struct sim_disk_handle *handle, const struct blk_io *io)
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
    struct sim_disk_handle *handle = container_of(blk, struct sim_disk_handle, blk);
    struct sim_disk *disk = handle->disk;

    io_check(handle, io);
    count(handle, io);
    io->submitted_ns = sim_node_now_ns(handle->node);
    struct sim_disk_request *request = sim_alloc(sizeof(*request));
    request->event = (struct sim_event){.node = handle->node, .fire = request_fire};
    request->handle = handle;
    request->io = io;
    request->offset = handle->offset + io->offset;
    request->flush_seq = disk->seq;
    list_init(&request->held);
    list_push_back(&handle->inflight, &request->link);
    if (io->type == BLK_WRITE || io->type == BLK_DISCARD) {
        writes_check(disk, request->offset, io->len);
        request->write = write_copy(request);
    }
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
    if (request->offset < disk->config.faults.late_from + disk->config.faults.late_len &&
        request->offset + io->len > disk->config.faults.late_from && io->type != BLK_FLUSH)
        delay_ns += disk->config.faults.late_ns;
    sim_schedule(disk->sim, &request->event, delay_ns);
}

static void handle_free(struct sim_disk_handle *handle)
{
    list_remove(&handle->hook.link);
    list_remove(&handle->link);
    if (list_empty(&handle->disk->handles))
        handle->disk->flush_failed = false; /* whoever opens it goes by what it holds now */
    free(handle);
}

static void blk_sim_close(struct blk *blk)
{
    struct sim_disk_handle *handle = container_of(blk, struct sim_disk_handle, blk);

    ASSERT(list_empty(&handle->inflight));
    handle_free(handle);
}

static const struct blk_ops SIM_BLK_OPS = {blk_sim_submit, blk_sim_close};

static void handle_crashed(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind)
{
    struct sim_disk_handle *handle = container_of(hook, struct sim_disk_handle, hook);
    struct sim_disk *disk = handle->disk;

    /* Unfinished writes are newer than what the cache holds; each may have happened before the end or not. */
    if (kind == SIM_CRASH_POWER)
        medium_power_cut(disk, handle->offset, handle->blk.size_bytes);
    list_for_each_safe (&handle->inflight, item) {
        struct sim_disk_request *request = list_entry(item, struct sim_disk_request, link);
        bool is_write = request->write && request->io->type == BLK_WRITE;
        if (is_write && kind == SIM_CRASH_PROCESS && disk->config.volatile_cache &&
            disk->config.unfinished_cached && sim_rng_below(&disk->unfinished, 2)) {
            disk->stats.kept++;
            medium_write(disk, request->write, false);
            request->write = NULL;
        } else if (is_write) {
            request->write->seq = ++disk->seq;
            medium_decide(disk, request->write);
        }
        request_free(request);
    }
    handle_free(handle);
}

struct blk *sim_disk_open(struct sim_disk *disk, struct sim_node *node, uint64_t offset, uint64_t len)
{
    struct sim_disk_handle *handle = sim_alloc(sizeof(*handle));

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

/* ---- from outside ------------------------------------------------------------------------------------ */

bool sim_disk_is_readable(const struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    return medium_is_readable(disk, offset, len);
}

bool sim_disk_is_settled(const struct sim_disk *disk, uint64_t offset, uint64_t len)
{
    list_for_each (&disk->handles, node) {
        const struct sim_disk_handle *handle = list_entry(node, struct sim_disk_handle, link);
        list_for_each (&handle->inflight, item) {
            const struct sim_disk_request *r = list_entry(item, struct sim_disk_request, link);
            if (r->write && r->offset < offset + len && r->offset + r->write->len > offset)
                return false;
        }
    }
    list_for_each (&disk->cache, node) {
        const struct sim_write *w = list_entry(node, struct sim_write, link);
        if (w->offset < offset + len && w->offset + w->len > offset)
            return false;
    }
    return true;
}

void sim_disk_power_cut(struct sim_disk *disk)
{
    list_for_each (&disk->handles, node)
        ASSERT(list_empty(&list_entry(node, struct sim_disk_handle, link)->inflight));
    medium_power_cut(disk, 0, disk->config.size_bytes);
}

void sim_disk_hang(struct sim_disk *disk, bool hung)
{
    disk->hung = hung;
    if (hung)
        return;
    for (struct list *node; (node = list_pop_front(&disk->held));) {
        struct sim_disk_request *request = list_entry(node, struct sim_disk_request, held);
        request->is_held = false;
        sim_schedule(disk->sim, &request->event, 0);
    }
}

void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults)
{
    disk->config.faults = *faults;
}

void sim_disk_fail_once(struct sim_disk *disk, uint32_t ppm)
{
    disk->once_ppm = ppm;
}

void sim_disk_peek(const struct sim_disk *disk, uint64_t offset, void *ret_bytes, size_t len)
{
    uint8_t block[BLOCK_SIZE];
    uint8_t *to = ret_bytes;

    ASSERT(len <= disk->config.size_bytes && offset <= disk->config.size_bytes - len);
    while (len) {
        size_t in = offset % BLOCK_SIZE, n = MIN(len, BLOCK_SIZE - in);
        medium_read(disk, ALIGN_DOWN(offset, (uint64_t)BLOCK_SIZE), block);
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
        struct sim_page *page = medium_page_get(disk, offset / BLOCK_SIZE, false);
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
        free(list_entry(node, struct sim_write, link));
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
        struct sim_disk_handle *handle = list_entry(node, struct sim_disk_handle, link);
        list_for_each_safe (&handle->inflight, item)
            request_free(list_entry(item, struct sim_disk_request, link));
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
    const struct sim_page *page = medium_page(disk, offset / BLOCK_SIZE);

    return page ? medium_page_seq(page) : 0;
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
