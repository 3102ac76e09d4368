/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients. Each opens its image for writing (taking it over by force after a while, if another has it), runs
 * workers with random requests on a few hot places, and when its image is taken from it closes and comes
 * back. Each sector that is written carries a tag of its own and is derived from it and its place, so that a
 * read can tell what it sees, and that it is whole and belongs there.
 */
#include "sim/cluster_boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/le.h"
#include "client/impl.h" /* the writer's incarnation */

#define RETRY_NS          (200 * NS_PER_MS)
#define READER_THINK_NS   (5 * NS_PER_MS)
#define READER_SECTORS    160u /* readers read often, and less */
#define CALM_FACTOR       4    /* workers think so much longer when all is well */
#define EXTENTS_MAX       64
#define WORD_STEP         0x9e3779b97f4a7c15ull /* from word to word of a sector */
#define WRITERS           1                     /* the checker's line of writers that fence each other */
#define STUCK_NS          (8 * NS_PER_S)        /* beyond its timeout */
#define SECTORS_PER_BLOCK (BLOCK_SIZE / CLUSTER_SECTOR)
#define OBJECT_SECTORS    (OBJECT_SIZE / CLUSTER_SECTOR)
#define READ_ALL_SECTORS  128u
#define IO_SECTORS_MAX    (CLUSTER_IO_MAX / CLUSTER_SECTOR)

enum worker_state { WORKER_THINK, WORKER_IO };

struct worker {
    struct op op;
    struct load *load;
    struct client_io io;
    struct client_status status;
    struct client_extent extents[EXTENTS_MAX];
    bool is_status; /* the request is `status`, not `io` */
    struct slice data;
    struct timer timer;
    bool read_all;
    uint32_t life;                 /* of the image when the request began */
    bool fenced;                   /* another writer had opened it before that */
    uint32_t piece_max;            /* sectors, in read_all */
    uint32_t sector, sector_count; /* of the request */
    uint32_t reg, reg_count;       /* that it changes: fewer for discards */
    uint64_t start, tag;
    uint64_t started_ns;              /* simulator's time */
    uint32_t numbers[IO_SECTORS_MAX]; /* in the registers' histories */
};

enum load_state { LOAD_OPEN, LOAD_IMAGE, LOAD_RUN, LOAD_CLOSE, LOAD_REST };

struct load {
    struct op op;
    struct cluster_client *owner;
    struct client_open open;
    struct client *client;
    struct client_image_open image_open;
    struct client_image_close image_close;
    struct client_image *image;
    bool force;
    uint32_t incarnation; /* for the checker */
    struct timer timer;
    struct worker workers[CLUSTER_WORKERS];
    char writer[24];
    bool read_all_done;
};

static struct cluster *cluster_of(const struct load *l)
{
    return l->owner->process.cluster;
}

static struct cluster_image *image_of(const struct load *l)
{
    return &cluster_of(l)->images[l->owner->image];
}

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

/* What it saw counts: nothing has happened to the image since it began, and it is this image. A reader may
 * have one open that was removed meanwhile, of which the leaders have yet to hear. */
static bool worker_counts(const struct worker *w)
{
    const struct cluster_image *i = image_of(w->load);

    return w->life == i->life && w->load->image->id >= i->id_min;
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------- */

/* Where requests meet, or anywhere. When the places move on, what was written stays as it is, and what a
 * recovery or a restart makes of it is not written over: reads go back to it. */
static uint32_t choose_base(struct worker *w, bool reads)
{
    const struct cluster *c = cluster_of(w->load);
    struct sim_rng *rng = &w->load->owner->rng;
    uint32_t span = c->image_sectors - IO_SECTORS_MAX - SECTORS_PER_BLOCK;

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
    const struct cluster *c = cluster_of(w->load);
    struct sim_rng *rng = &w->load->owner->rng;
    uint64_t roll = sim_rng_below(rng, 100);
    uint32_t base = choose_base(w, reads), limit = image_of(w->load)->sectors;

    if (roll < c->small_percent) {
        w->sector = base + (uint32_t)sim_rng_below(rng, SECTORS_PER_BLOCK * c->small_blocks);
        w->sector_count = (uint32_t)sim_rng_range(rng, 1, 12);
    } else if (roll < c->small_percent + c->large_percent) {
        w->sector = base + (uint32_t)sim_rng_below(rng, SECTORS_PER_BLOCK);
        w->sector_count =
            (uint32_t)sim_rng_range(rng, 64, w->load->owner->reader ? READER_SECTORS : IO_SECTORS_MAX - 1);
    } else {
        w->sector = base;
        w->sector_count = SECTORS_PER_BLOCK * (uint32_t)sim_rng_range(rng, 1, roll % 2 ? 1 : 6);
    }
    if (w->sector + w->sector_count > limit)
        w->sector %= limit - w->sector_count + 1;
}

static void record_begin(struct worker *w, uint64_t tag)
{
    struct linear_history *h = image_of(w->load)->history;

    /* What fences it may be among what is lost. */
    w->fenced = linear_is_fenced(h, w->load->incarnation) && !cluster_of(w->load)->force.loses;
    for (uint32_t i = 0; i < w->reg_count; i++) {
        w->numbers[i] = linear_write_begin(h, w->reg + i, w->start, tag, WRITERS, w->load->incarnation);
        if (w->fenced)
            linear_write_refused(h, w->reg + i, w->numbers[i]);
    }
}

static void record_end(struct worker *w, int result)
{
    struct linear_history *h = image_of(w->load)->history;

    if (w->life != image_of(w->load)->life)
        return;
    if (w->fenced && result == 0 && w->reg_count)
        sim_fail(cluster_of(w->load)->sim, "%s wrote sectors %u+%u after another writer had opened the image",
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
    struct linear_history *h = image_of(l)->history;
    const uint8_t *bytes = slice_data(&w->data);

    for (uint32_t i = 0; i < w->sector_count && worker_counts(w); i++) {
        uint64_t tag = sector_tag(bytes + (size_t)i * CLUSTER_SECTOR, l->owner->image, w->sector + i);
        if (tag == UINT64_MAX) {
            sim_fail(cluster_of(l)->sim, "%s read a torn or misplaced sector: image %u, sector %u, tag %llx",
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
    struct linear_history *h = image_of(l)->history;
    uint64_t at = (uint64_t)w->sector * CLUSTER_SECTOR;

    for (uint32_t i = 0; i < w->status.ret_count && worker_counts(w); i++) {
        uint64_t end = at + w->extents[i].len;
        for (; at < end; at += CLUSTER_SECTOR)
            if (!w->extents[i].written)
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

static enum request_type choose_type(struct worker *w)
{
    struct cluster *c = cluster_of(w->load);
    uint64_t roll = sim_rng_below(&w->load->owner->rng, 100);

    if (w->read_all)
        return REQUEST_READ;
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
    return roll < 44 + 2 * c->clear_percent ? REQUEST_FLUSH : REQUEST_WRITE;
}

static void status_begin(struct worker *w)
{
    struct load *l = w->load;

    w->sector = ALIGN_DOWN(w->sector, SECTORS_PER_BLOCK);
    w->sector_count = MIN(ALIGN_UP(w->sector_count, SECTORS_PER_BLOCK), image_of(l)->sectors - w->sector);
    memset(&w->status, 0, sizeof(w->status));
    client_status_start(&w->status, l->image, (uint64_t)w->sector * CLUSTER_SECTOR,
                        (uint64_t)w->sector_count * CLUSTER_SECTOR, w->extents, EXTENTS_MAX, &w->op);
}

/* What of the image it changes, and to what: recorded before it can take effect. */
static void change_begin(struct worker *w, enum request_type type)
{
    struct load *l = w->load;

    if (type == REQUEST_WRITE) {
        w->tag = ++cluster_of(l)->next_tag;
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
    struct cluster *c = cluster_of(l);
    enum request_type type = choose_type(w);
    uint32_t len;

    if (!w->read_all)
        choose_range(w, type == REQUEST_READ);
    w->reg = w->sector;
    w->reg_count = w->sector_count;
    len = w->sector_count * CLUSTER_SECTOR;
    w->data = (struct slice){0};
    if (type == REQUEST_READ || type == REQUEST_WRITE) {
        w->data = (struct slice){buf_new(l->op.core->arena, len), 0, len};
        if (!w->data.buf)
            return false;
    }
    w->start = linear_stamp(image_of(l)->history);
    w->started_ns = c->sim->now_ns;
    w->life = image_of(l)->life;
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

static void count_request(struct worker *w, int result)
{
    struct cluster *c = cluster_of(w->load);

    if (is_nonsense(result))
        sim_fail(c->sim, "%s: request on sectors %u+%u: %s", w->load->owner->process.name, w->sector,
                 w->sector_count, error_name(result));
    c->failures += result != 0;
    c->slowest_ns = MAX(c->slowest_ns, c->sim->now_ns - w->started_ns);
    c->no_space += result == -ERR_NO_SPACE;
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
    /* Damaged everywhere: that the read fails is all that can be asked for. Block by block around it. */
    bool gone = result == -ERR_DAMAGED && damage_is_uncovered(cluster_of(w->load));
    w->piece_max = gone && w->sector_count > SECTORS_PER_BLOCK ? SECTORS_PER_BLOCK : READ_ALL_SECTORS;
    if (result == 0 || (gone && w->sector_count == SECTORS_PER_BLOCK))
        w->sector += w->sector_count;
}

static bool must_leave(const struct load *l)
{
    return image_of(l)->evict && !l->owner->reader;
}

static bool worker_is_through(const struct worker *w)
{
    const struct load *l = w->load;

    if (client_image_failed(l->image))
        return true;
    if (w->read_all)
        return w->sector >= cluster_of(l)->image_sectors;
    return cluster_of(l)->stopping || must_leave(l);
}

static uint64_t think_ns(const struct worker *w)
{
    const struct cluster *c = cluster_of(w->load);
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
    if (timer_armed(&w->timer) && !cluster_of(w->load)->stopping)
        return;
    timer_cancel(op->core, &w->timer);
    if (worker_is_through(w)) {
        op_done(op, 0);
        return;
    }
    if (w->load->owner->reader ? cluster_of(w->load)->readers_pause : cluster_of(w->load)->writers_pause)
        return;
    if (w->read_all)
        w->sector_count = MIN(w->piece_max, cluster_of(w->load)->image_sectors - w->sector);
    if (worker_begin(w))
        op->state = WORKER_IO;
    else
        timer_arm(op->core, &w->timer, op, core_now_ns(op->core) + NS_PER_MS);
}

static const struct op_kind WORKER = {"sim.load_worker", NULL, worker_step};

/* ---- the client
 * ----------------------------------------------------------------------------------------------- */

static void again_in(struct load *l, uint64_t delay_ns)
{
    timer_arm(l->op.core, &l->timer, &l->op, core_now_ns(l->op.core) + delay_ns);
}

static void begin_open(struct load *l)
{
    struct cluster *c = cluster_of(l);
    struct client_config config = {.core = l->op.core,
                                   .net = sim_net_port(c->net, l->owner->process.nodes[0]),
                                   .monitors = CLUSTER_MONITORS,
                                   .monitor_count = c->mon_count,
                                   .name = l->writer,
                                   .timeout_ns = c->timeout_ns};
    memset(&l->open, 0, sizeof(l->open));
    client_open_start(&l->open, &config, &l->op);
}

static void begin_image(struct load *l)
{
    bool write = !cluster_of(l)->reading_all && !l->owner->reader;

    memset(&l->image_open, 0, sizeof(l->image_open));
    client_image_open_start(&l->image_open, l->client, CLUSTER_POOL, image_of(l)->name, write,
                            write ? l->writer : NULL, l->force, false, &l->op);
}

static void image_opened(struct load *l)
{
    l->image = l->image_open.ret_image;
    image_of(l)->id_seen = MAX(image_of(l)->id_seen, l->image->id);
    cluster_of(l)->takeovers += l->force;
    l->force = false;
    if (!client_image_writable(l->image))
        return;
    /* All PGs know this writer by now, if there was one before it. */
    l->incarnation = (uint32_t)l->image->incarnation;
    linear_fence(image_of(l)->history, WRITERS, l->incarnation);
}

static void workers_start(struct load *l)
{
    bool all = cluster_of(l)->reading_all;

    for (uint32_t i = 0; i < (all ? 1 : cluster_of(l)->worker_count); i++) {
        struct worker *w = &l->workers[i];
        memset(w, 0, sizeof(*w));
        w->load = l;
        w->read_all = all;
        w->piece_max = READ_ALL_SECTORS;
        op_start(&w->op, l->op.core, &WORKER, &l->op);
    }
}

/* Only one client of each image reads it at the end. */
static bool reads_all(const struct load *l)
{
    const struct cluster *c = cluster_of(l);

    return c->reading_all && !l->read_all_done &&
           l->owner->number == (l->owner->image ? l->owner->image + 1 : 0);
}

static bool may_run(const struct load *l)
{
    return !cluster_of(l)->stopping || reads_all(l);
}

static void open_ended(struct load *l)
{
    if (l->open.op.result) {
        core_log(l->op.core, LOG_INFO, "load", "cannot connect: %s", l->open.ret_message);
        again_in(l, RETRY_NS);
        return;
    }
    l->client = l->open.ret_client;
    l->op.state = LOAD_REST;
}

static void image_ended(struct load *l)
{
    int result = l->image_open.op.result;

    if (result) {
        core_log(l->op.core, LOG_INFO, "load", "cannot open the image: %s", l->image_open.ret_message);
        l->force = result == -ERR_WRITER_EXISTS;
        l->op.state = LOAD_REST;
        again_in(l, l->force ? NS_PER_S + sim_rng_below(&l->owner->rng, 3 * NS_PER_S) : RETRY_NS);
        return;
    }
    image_opened(l);
    l->op.state = LOAD_RUN;
    workers_start(l);
}

static void load_step(struct op *op)
{
    struct load *l = container_of(op, struct load, op);

    if (op->children || timer_armed(&l->timer))
        return;
    op->child_result = 0;
    switch ((enum load_state)op->state) {
    case LOAD_OPEN:
        if (l->open.config.core && !l->timer.fired) {
            open_ended(l);
            op_wake(op);
            return;
        }
        l->timer.fired = false;
        begin_open(l);
        return;
    case LOAD_REST:
        if (!cluster_of(l)->stopping && must_leave(l)) {
            again_in(l, RETRY_NS / 2);
            return;
        }
        if (!may_run(l))
            return;
        op->state = LOAD_IMAGE;
        begin_image(l);
        return;
    case LOAD_IMAGE:
        image_ended(l);
        return;
    case LOAD_RUN:
        if (cluster_of(l)->reading_all && !client_image_failed(l->image))
            l->read_all_done = true;
        op->state = LOAD_CLOSE;
        memset(&l->image_close, 0, sizeof(l->image_close));
        client_image_close_start(&l->image_close, l->image, op);
        return;
    case LOAD_CLOSE:
        l->image = NULL;
        op->state = LOAD_REST;
        again_in(l, sim_rng_below(&l->owner->rng, NS_PER_S));
        return;
    }
}

static const struct op_kind LOAD = {"sim.load", NULL, load_step};

void load_start(void *owner, struct sim_node *node)
{
    struct cluster_client *client = owner;
    struct load *l = calloc(1, sizeof(*l));

    l->owner = client;
    client->load = l;
    snprintf(l->writer, sizeof(l->writer), "writer.%u", client->number);
    op_start(&l->op, &node->core, &LOAD, NULL);
}

void load_died(struct process *p, enum sim_crash kind)
{
    container_of(p, struct cluster_client, process)->load = NULL;
}

void load_end(struct cluster_client *client)
{
    struct load *l = client->load;

    client_free(l->client);
    op_done(&l->op, 0);
    free(l);
    client->load = NULL;
}

bool load_idle(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->client_count; i++) {
        const struct load *l = c->clients[i].load;
        if (!l || l->op.state != LOAD_REST || l->op.children || timer_armed(&l->timer) || may_run(l))
            return false;
    }
    return true;
}

void load_read_all(struct cluster *c)
{
    c->reading_all = true;
    for (uint32_t i = 0; i < c->client_count; i++) {
        struct sim_node *node = c->clients[i].process.nodes[0];
        if (!c->clients[i].load)
            continue;
        sim_node_enter(node);
        op_wake(&c->clients[i].load->op);
        sim_node_leave(node);
    }
}

struct cluster_client *load_writer(struct cluster *c, uint32_t image)
{
    for (uint32_t i = 0; i < c->writer_count; i++) {
        struct cluster_client *client = &c->clients[i];
        if (client->image == image && client->load && client->load->op.state == LOAD_RUN &&
            client->process.nodes[0]->state == SIM_NODE_UP)
            return client;
    }
    return NULL;
}

bool load_take_over(struct cluster *c, uint32_t image)
{
    for (uint32_t i = 0; i < c->writer_count; i++) {
        struct cluster_client *client = &c->clients[i];
        struct load *l = client->load;
        if (client->image != image || !l || l->op.state != LOAD_REST || l->op.children ||
            client->process.nodes[0]->state != SIM_NODE_UP)
            continue;
        sim_node_enter(client->process.nodes[0]);
        l->force = true;
        timer_cancel(l->op.core, &l->timer);
        op_wake(&l->op);
        sim_node_leave(client->process.nodes[0]);
        return true;
    }
    return false;
}

void load_pause(struct cluster *c, bool writers, bool readers)
{
    c->writers_pause = writers;
    c->readers_pause = readers;
    for (uint32_t i = 0; i < c->client_count; i++) {
        struct load *l = c->clients[i].load;
        if (!l)
            continue;
        sim_node_enter(c->clients[i].process.nodes[0]);
        for (uint32_t j = 0; j < c->worker_count; j++)
            if (op_live(&l->workers[j].op))
                op_wake(&l->workers[j].op);
        sim_node_leave(c->clients[i].process.nodes[0]);
    }
}

void load_image_changes(struct cluster *c, uint32_t image, uint32_t sectors)
{
    c->images[image].life++;
    c->images[image].sectors = sectors;
}

void load_image_cleared(struct cluster *c, uint32_t image, uint32_t first)
{
    struct cluster_image *i = &c->images[image];

    i->life++;
    i->sectors = c->image_sectors;
    if (first == 0)
        i->id_min = i->id_seen + 1;
    check_history(c, image, first);
    linear_forget(i->history, first);
}

void load_check(struct cluster *c)
{
    for (uint32_t i = 0; i < c->client_count; i++) {
        const struct load *l = c->clients[i].load;
        if (!l || c->clients[i].process.nodes[0]->state != SIM_NODE_UP)
            continue;
        for (uint32_t j = 0; j < CLUSTER_WORKERS; j++) {
            const struct worker *w = &l->workers[j];
            if (w->started_ns && c->sim->now_ns - w->started_ns > c->timeout_ns + STUCK_NS) {
                sim_fail(c->sim, "%s: a request (type %d, sectors %u+%u) is stuck since %.3f s",
                         c->clients[i].process.name, (int)w->io.type, w->sector, w->sector_count,
                         (double)w->started_ns / (double)NS_PER_S);
                return;
            }
        }
    }
}
