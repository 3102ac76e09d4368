/* SPDX-License-Identifier: Apache-2.0
 *
 * Workers: random requests on a few hot places, every read and write recorded. Each sector that is written
 * carries a tag of its own and is derived from it and its place, so that a read can tell what it sees, and
 * that it is whole and belongs there.
 */
#include "sim/cluster_load.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/le.h"
#include "client/impl.h" /* the id of an open image */

#define READER_THINK_NS   (5 * NS_PER_MS)
#define READER_SECTORS    160u                  /* readers read often, and less */
#define CALM_FACTOR       4                     /* workers think so much longer when all is well */
#define WORD_STEP         0x9e3779b97f4a7c15ull /* from word to word of a sector */
#define SECTORS_PER_BLOCK (BLOCK_SIZE / CLUSTER_SECTOR)
#define OBJECT_SECTORS    (OBJECT_SIZE / CLUSTER_SECTOR)
#define READ_ALL_SECTORS  128u

enum worker_state { WORKER_THINK, WORKER_IO };

/* ---- sectors
 * -------------------------------------------------------------------------------------------------- */

static void sector_fill(uint8_t *bytes, uint64_t tag, uint32_t image, uint32_t sector)
{
    uint64_t word = hash_pair(tag, (uint64_t)image << 32 | sector);

    le_store_u64(bytes, tag);
    for (uint32_t i = 8; i < CLUSTER_SECTOR; i += 8, word += WORD_STEP)
        le_store_u64(bytes + i, word);
}

/* The tag of a sector that is whole and in its place, or UINT64_MAX. */
static uint64_t sector_tag(const uint8_t *bytes, uint32_t image, uint32_t sector)
{
    static const uint8_t zeros[CLUSTER_SECTOR];
    uint8_t expected[CLUSTER_SECTOR];
    uint64_t tag = le_load_u64(bytes);

    if (tag == 0)
        return memcmp(bytes, zeros, CLUSTER_SECTOR) == 0 ? 0 : UINT64_MAX;
    sector_fill(expected, tag, image, sector);
    return memcmp(bytes, expected, CLUSTER_SECTOR) == 0 ? tag : UINT64_MAX;
}

/* What it saw, or did, counts: nothing has happened to the image since it began, and it is this image. A
 * client may have one open that was removed meanwhile, of which the leaders have yet to hear, or one that has
 * been made, of which the operator has. */
static bool worker_counts(const struct worker *w)
{
    const struct cluster_image *i = load_image(w->load);
    uint64_t id = w->load->image->id;

    return w->life == i->life && id >= i->id_min && (!i->id_max || id <= i->id_max);
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------- */

/* Where requests meet, or anywhere. When the places move on, what was written stays as it is, and what a
 * recovery or a restart makes of it is not written over: reads go back to it. */
static uint32_t choose_base(struct worker *w, bool reads)
{
    const struct cluster *c = load_cluster(w->load);
    struct sim_rng *rng = &w->load->owner->rng;
    uint32_t span = c->image_sectors - CLUSTER_IO_SECTORS_MAX - SECTORS_PER_BLOCK;

    if (!c->hot_places)
        return ALIGN_DOWN((uint32_t)sim_rng_below(rng, span), SECTORS_PER_BLOCK);
    uint32_t place = (uint32_t)sim_rng_below(rng, c->hot_places);
    uint32_t moves = c->places_ns ? (uint32_t)(c->sim->now_ns / c->places_ns) : 0;
    if (moves && reads && sim_rng_below(rng, 2))
        moves -= (uint32_t)sim_rng_below(rng, moves);
    /* Some places stand just before the end of an object. */
    if (place % 6 == 5)
        return ((place / 6 + moves) % (span / OBJECT_SECTORS) + 1) * OBJECT_SECTORS - SECTORS_PER_BLOCK;
    return ALIGN_DOWN((uint32_t)(hash_pair(place, 7 + moves) % span), SECTORS_PER_BLOCK);
}

static void choose_range(struct worker *w, bool reads)
{
    const struct cluster *c = load_cluster(w->load);
    struct sim_rng *rng = &w->load->owner->rng;
    uint64_t roll = sim_rng_below(rng, 100);
    uint32_t base = choose_base(w, reads), limit = load_image(w->load)->sectors;

    if (roll < c->small_percent) {
        w->sector = base + (uint32_t)sim_rng_below(rng, SECTORS_PER_BLOCK * c->small_blocks);
        w->sector_count = (uint32_t)sim_rng_range(rng, 1, 12);
    } else if (roll < c->small_percent + c->large_percent) {
        w->sector = base + (uint32_t)sim_rng_below(rng, SECTORS_PER_BLOCK);
        w->sector_count = (uint32_t)sim_rng_range(
            rng, 64, w->load->owner->reader ? READER_SECTORS : CLUSTER_IO_SECTORS_MAX - 1);
    } else {
        w->sector = base;
        w->sector_count = SECTORS_PER_BLOCK * (uint32_t)sim_rng_range(rng, 1, roll % 2 ? 1 : 6);
    }
    if (w->sector + w->sector_count > limit)
        w->sector %= limit - w->sector_count + 1;
}

static void record_begin(struct worker *w, uint64_t tag)
{
    struct linear_history *h = load_image(w->load)->history;

    /* What fences it may be among what is lost. */
    w->fenced = linear_is_fenced(h, w->load->incarnation) && !load_cluster(w->load)->force.loses;
    for (uint32_t i = 0; i < w->reg_count; i++) {
        w->numbers[i] =
            linear_write_begin(h, w->reg + i, w->start, tag, CLUSTER_WRITERS, w->load->incarnation);
        if (w->fenced)
            linear_write_refused(h, w->reg + i, w->numbers[i]);
    }
}

static void record_end(struct worker *w, int result)
{
    struct linear_history *h = load_image(w->load)->history;

    if (!worker_counts(w))
        return;
    if (w->fenced && result == 0 && w->reg_count)
        sim_fail(load_cluster(w->load)->sim,
                 "%s wrote sectors %u+%u after another writer had opened the image",
                 w->load->owner->process.name, w->reg, w->reg_count);
    for (uint32_t i = 0; i < w->reg_count && !w->fenced; i++) {
        if (result == 0)
            linear_write_done(h, w->reg + i, w->numbers[i]);
        else
            linear_write_unknown(h, w->reg + i, w->numbers[i]);
    }
}

static void record_read(struct worker *w)
{
    struct load *l = w->load;
    struct linear_history *h = load_image(l)->history;
    const uint8_t *bytes = slice_data(&w->data);

    for (uint32_t i = 0; i < w->sector_count && worker_counts(w); i++) {
        uint64_t tag = sector_tag(bytes + (size_t)i * CLUSTER_SECTOR, l->owner->image, w->sector + i);
        if (tag == UINT64_MAX) {
            sim_fail(load_cluster(l)->sim,
                     "%s read a torn or misplaced sector: image %u, sector %u, tag %llx",
                     l->owner->process.name, l->owner->image, w->sector + i,
                     (unsigned long long)le_load_u64(bytes + (size_t)i * CLUSTER_SECTOR));
            return;
        }
        linear_read(h, w->sector + i, w->start, tag, 1000 + l->owner->number);
    }
}

/* What is not written reads as zeros. */
static void record_status(struct worker *w)
{
    struct load *l = w->load;
    struct linear_history *h = load_image(l)->history;
    uint64_t at = (uint64_t)w->sector * CLUSTER_SECTOR;

    for (uint32_t i = 0; i < w->status.ret_count && worker_counts(w); i++) {
        const struct client_extent *extent = &w->status.ret_extents[i];
        uint64_t end = at + extent->len;
        for (; at < end; at += CLUSTER_SECTOR)
            if (!extent->written)
                linear_read(h, (uint32_t)(at / CLUSTER_SECTOR), w->start, 0, 1000 + l->owner->number);
    }
}

enum request_type {
    REQUEST_READ,
    REQUEST_WRITE,
    REQUEST_DISCARD,
    REQUEST_ZERO,
    REQUEST_FLUSH,
    REQUEST_STATUS
};

static const enum client_io_type IO_TYPES[] = {
    [REQUEST_READ] = CLIENT_READ, [REQUEST_WRITE] = CLIENT_WRITE, [REQUEST_DISCARD] = CLIENT_DISCARD,
    [REQUEST_ZERO] = CLIENT_ZERO, [REQUEST_FLUSH] = CLIENT_FLUSH,
};

/* Devices have been full: at the end somebody deletes, and all must get whole. */
static bool makes_room(const struct cluster *c)
{
    return c->quiet && c->profile == PROFILE_FULL;
}

static enum request_type choose_type(struct worker *w)
{
    struct cluster *c = load_cluster(w->load);
    uint64_t roll = sim_rng_below(&w->load->owner->rng, 100);

    if (w->read_all)
        return w->status_taken ? REQUEST_READ : REQUEST_STATUS;
    if (w->load->owner->reader)
        return roll < 90 ? REQUEST_READ : REQUEST_STATUS;
    if (roll < 40)
        return REQUEST_READ;
    if (roll < 42)
        return REQUEST_STATUS;
    if (roll < 42 + c->clear_percent)
        return REQUEST_DISCARD;
    if (roll < 42 + 2 * c->clear_percent)
        return REQUEST_ZERO;
    if (roll < 44 + 2 * c->clear_percent)
        return REQUEST_FLUSH;
    return makes_room(c) ? REQUEST_DISCARD : REQUEST_WRITE;
}

static void status_begin(struct worker *w)
{
    struct load *l = w->load;

    w->sector = ALIGN_DOWN(w->sector, SECTORS_PER_BLOCK);
    w->sector_count = MIN(ALIGN_UP(w->sector_count, SECTORS_PER_BLOCK), load_image(l)->sectors - w->sector);
    memset(&w->status, 0, sizeof(w->status));
    struct client_extent *extents = w->read_all ? w->all_extents : w->extents;
    client_status_start(&w->status, l->image, (uint64_t)w->sector * CLUSTER_SECTOR,
                        (uint64_t)w->sector_count * CLUSTER_SECTOR, extents,
                        w->read_all ? CLUSTER_EXTENTS_ALL : CLUSTER_EXTENTS_MAX, &w->op);
}

/* What of the image it changes, and to what: recorded before it can take effect. */
static void change_begin(struct worker *w, enum request_type type)
{
    struct load *l = w->load;

    if (type == REQUEST_WRITE) {
        w->tag = ++load_cluster(l)->next_tag;
        for (uint32_t i = 0; i < w->sector_count; i++)
            sector_fill(slice_data(&w->data) + (size_t)i * CLUSTER_SECTOR, w->tag, l->owner->image,
                        w->sector + i);
    } else if (type == REQUEST_DISCARD) {
        uint32_t first = ALIGN_UP(w->sector, SECTORS_PER_BLOCK);
        uint32_t end = ALIGN_DOWN(w->sector + w->sector_count, SECTORS_PER_BLOCK);
        w->reg = first;
        w->reg_count = end > first ? end - first : 0;
    }
    if (type == REQUEST_WRITE || type == REQUEST_DISCARD || type == REQUEST_ZERO)
        record_begin(w, type == REQUEST_WRITE ? w->tag : 0);
}

static bool worker_begin(struct worker *w)
{
    struct load *l = w->load;
    struct cluster *c = load_cluster(l);
    enum request_type type = choose_type(w);
    uint32_t len;

    if (!w->read_all)
        choose_range(w, type == REQUEST_READ);
    if (type == REQUEST_DISCARD && makes_room(c)) {
        w->sector_count = CLUSTER_IO_SECTORS_MAX - 1;
        w->sector = MIN(w->sector, load_image(l)->sectors - w->sector_count);
    }
    w->reg = w->sector;
    w->reg_count = w->sector_count;
    len = w->sector_count * CLUSTER_SECTOR;
    w->data = (struct slice){0};
    if (type == REQUEST_READ || type == REQUEST_WRITE) {
        w->data = (struct slice){buf_new(l->op.core->arena, len), 0, len};
        if (!w->data.buf)
            return false;
    }
    w->start = linear_stamp(load_image(l)->history);
    w->started_ns = c->sim->now_ns;
    w->life = load_image(l)->life;
    w->is_status = type == REQUEST_STATUS;
    if (w->is_status) {
        status_begin(w);
        return true;
    }
    change_begin(w, type);
    memset(&w->io, 0, sizeof(w->io));
    uint64_t offset = type == REQUEST_FLUSH ? 0 : (uint64_t)w->sector * CLUSTER_SECTOR;
    if (type == REQUEST_READ)
        client_read_start(&w->io, l->image, offset, len, slice_data(&w->data), &w->op);
    else
        client_io_start(&w->io, l->image, IO_TYPES[type], offset, type == REQUEST_FLUSH ? 0 : len,
                        w->data.buf ? &w->data : NULL, &w->op);
    return true;
}

/* Requests fail for many reasons, but not because one side does not understand the other. */
static bool is_nonsense(int result)
{
    return result == -ERR_PROTOCOL || result == -ERR_INVALID || result == -ERR_TOO_LARGE ||
           result == -ERR_UNSUPPORTED || result == -ERR_VERSION;
}

/* Not before its time, by the client's clock: if its process was away for long, from its return on. It
 * notices that by timers that should have fired, of which the request's own may be the first, and counts what
 * is half of the limit or more. */
static void check_time_was_up(const struct worker *w)
{
    const struct cluster *c = load_cluster(w->load);
    const struct sim_node *node = w->load->owner->process.nodes[0];
    uint64_t least_ns = c->timeout_ns - c->timeout_ns / 100, from_ns = w->started_ns;

    if (node->resumed_ns > from_ns && 2 * (node->resumed_ns - node->paused_ns) >= 3 * c->timeout_ns)
        from_ns = node->resumed_ns;
    if (c->sim->now_ns - from_ns < least_ns)
        sim_fail(c->sim, "%s: a request failed for want of time after %llu ms", w->load->owner->process.name,
                 (unsigned long long)((c->sim->now_ns - from_ns) / NS_PER_MS));
}

/* Some block of it (cluster_lost.c). */
static bool range_may_be_lost(const struct worker *w)
{
    for (uint32_t sector = ALIGN_DOWN(w->sector, SECTORS_PER_BLOCK); sector < w->sector + w->sector_count;
         sector += SECTORS_PER_BLOCK)
        if (lost_may(load_cluster(w->load), w->load->image->id, sector / OBJECT_SECTORS,
                     sector % OBJECT_SECTORS / SECTORS_PER_BLOCK))
            return true;
    return false;
}

static void count_request(struct worker *w, int result)
{
    struct cluster *c = load_cluster(w->load);

    if (is_nonsense(result))
        sim_fail(c->sim, "%s: request on sectors %u+%u: %s", w->load->owner->process.name, w->sector,
                 w->sector_count, error_name(result));
    if (result == -ERR_TIMEOUT)
        check_time_was_up(w);
    c->failures += result != 0;
    c->slowest_ns = MAX(c->slowest_ns, c->sim->now_ns - w->started_ns);
    c->no_space += result == -ERR_NO_SPACE;
    bool lost = result == -ERR_DAMAGED && range_may_be_lost(w);
    if (c->calm_since_ns && w->started_ns >= c->calm_since_ns && !lost)
        calm_ended(c, w->load->owner->process.name, c->sim->now_ns - w->started_ns, result);
    if (result) {
        core_log(w->op.core, LOG_DEBUG, "load", "request %d on sectors %u+%u: %s",
                 w->is_status ? -1 : (int)w->io.type, w->sector, w->sector_count, error_name(result));
        return;
    }
    w->load->owner->last_success_ns = c->sim->now_ns;
    if (w->is_status) {
        c->statuses++;
        return;
    }
    c->reads += w->io.type == CLIENT_READ;
    c->writes += w->io.type == CLIENT_WRITE;
    c->clears += w->io.type == CLIENT_DISCARD || w->io.type == CLIENT_ZERO;
}

static void worker_end(struct worker *w)
{
    int result = w->is_status ? w->status.op.result : w->io.op.result;

    w->op.child_result = 0;
    if (w->is_status && result == 0)
        record_status(w);
    else if (!w->is_status && w->io.type == CLIENT_READ && result == 0)
        record_read(w);
    else if (!w->is_status && w->io.type != CLIENT_READ && w->io.type != CLIENT_FLUSH)
        record_end(w, result);
    slice_unref(&w->data);
    count_request(w, result);
    w->started_ns = 0;
    if (!w->read_all)
        return;
    if (w->is_status) {
        w->status_taken |= result == 0;
        w->sector = 0;
        return;
    }
    /* Damaged everywhere, or lost: that the read fails is all that can be asked for. Block by block around
     * it. */
    bool gone =
        result == -ERR_DAMAGED && (damage_is_uncovered(load_cluster(w->load)) || range_may_be_lost(w));
    w->piece_max = gone && w->sector_count > SECTORS_PER_BLOCK ? SECTORS_PER_BLOCK : READ_ALL_SECTORS;
    if (result == 0 || (gone && w->sector_count == SECTORS_PER_BLOCK))
        w->sector += w->sector_count;
    if (gone && w->sector_count == SECTORS_PER_BLOCK && !damage_is_uncovered(load_cluster(w->load)))
        load_cluster(w->load)->lost_blocks++;
}

static bool worker_is_through(const struct worker *w)
{
    const struct load *l = w->load;

    if (client_image_failed(l->image))
        return true;
    if (w->read_all)
        return w->sector >= load_cluster(l)->image_sectors;
    return load_cluster(l)->stopping || load_must_leave(l);
}

static uint64_t think_ns(const struct worker *w)
{
    const struct cluster *c = load_cluster(w->load);
    uint64_t most_ns = w->load->owner->reader ? READER_THINK_NS : c->think_ns;

    return sim_rng_below(&w->load->owner->rng, c->quiet ? most_ns * CALM_FACTOR : most_ns);
}

static void worker_step(struct op *op)
{
    struct worker *w = container_of(op, struct worker, op);

    if (op->children)
        return;
    if (op->state == WORKER_IO) {
        worker_end(w);
        op->state = WORKER_THINK;
        if (!w->read_all)
            timer_arm(op->core, &w->timer, op, core_now_ns(op->core) + think_ns(w));
    }
    if (timer_armed(&w->timer) && !load_cluster(w->load)->stopping)
        return;
    timer_cancel(op->core, &w->timer);
    if (worker_is_through(w)) {
        free(w->all_extents);
        op_done(op, 0);
        return;
    }
    if (w->load->owner->reader ? load_cluster(w->load)->readers_pause : load_cluster(w->load)->writers_pause)
        return;
    if (w->read_all)
        w->sector_count = MIN(w->status_taken ? w->piece_max : UINT32_MAX,
                              load_cluster(w->load)->image_sectors - w->sector);
    if (worker_begin(w))
        op->state = WORKER_IO;
    else
        timer_arm(op->core, &w->timer, op, core_now_ns(op->core) + NS_PER_MS);
}

static const struct op_kind WORKER = {"sim.load_worker", NULL, worker_step};

void worker_start(struct worker *w, struct load *load, bool read_all)
{
    memset(w, 0, sizeof(*w));
    w->load = load;
    w->read_all = read_all;
    w->piece_max = READ_ALL_SECTORS;
    w->all_extents = read_all ? calloc(CLUSTER_EXTENTS_ALL, sizeof(*w->all_extents)) : NULL;
    op_start(&w->op, load->op.core, &WORKER, &load->op);
}
