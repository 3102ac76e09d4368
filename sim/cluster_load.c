/* SPDX-License-Identifier: Apache-2.0
 *
 * Clients. Each opens its image for writing (taking it over by force after a while, if another has it), runs
 * workers (cluster_worker.c), and when its image is taken from it closes and comes back.
 */
#include "sim/cluster_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "client/impl.h" /* the writer's incarnation */
#include "sim/cluster_boot.h"

#define RETRY_NS (200 * NS_PER_MS)
#define STUCK_NS (8 * NS_PER_S) /* beyond its timeout */

static void again_in(struct load *l, uint64_t delay_ns)
{
    timer_arm(l->op.core, &l->timer, &l->op, core_now_ns(l->op.core) + delay_ns);
}

static void begin_open(struct load *l)
{
    struct cluster *c = load_cluster(l);
    struct client_config config = {.core = l->op.core,
                                   .net = sim_net_port(c->net, l->owner->process.nodes[0]),
                                   .monitors = CLUSTER_MONITORS,
                                   .monitor_count = c->mon_count,
                                   .name = l->writer,
                                   .timeout_ns = c->timeout_ns,
                                   .inflight_max = c->inflight_max};
    memset(&l->open, 0, sizeof(l->open));
    client_open_start(&l->open, &config, &l->op);
}

static void begin_image(struct load *l)
{
    bool write = !load_cluster(l)->reading_all && !l->owner->reader;

    memset(&l->image_open, 0, sizeof(l->image_open));
    client_image_open_start(&l->image_open, l->client, CLUSTER_POOL, load_image(l)->name, write,
                            write ? l->writer : NULL, l->force, false, &l->op);
}

static void image_opened(struct load *l)
{
    l->image = l->image_open.ret_image;
    load_image(l)->id_seen = MAX(load_image(l)->id_seen, l->image->id);
    load_cluster(l)->takeovers += l->force;
    l->force = false;
    if (!client_image_writable(l->image))
        return;
    /* All PGs know this writer by now, if there was one before it. */
    l->incarnation = (uint32_t)l->image->incarnation;
    linear_fence(load_image(l)->history, CLUSTER_WRITERS, l->incarnation);
}

static void workers_start(struct load *l)
{
    bool all = load_cluster(l)->reading_all;

    for (uint32_t i = 0; i < (all ? 1 : load_cluster(l)->worker_count); i++)
        worker_start(&l->workers[i], l, all);
}

/* Only one client of each image reads it at the end. */
static bool reads_all(const struct load *l)
{
    const struct cluster *c = load_cluster(l);

    return c->reading_all && !l->read_all_done &&
           l->owner->number == (l->owner->image ? l->owner->image + 1 : 0);
}

static bool may_run(const struct load *l)
{
    return !load_cluster(l)->stopping || reads_all(l);
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
        if (!load_cluster(l)->stopping && load_must_leave(l)) {
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
        if (load_cluster(l)->reading_all && !client_image_failed(l->image))
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
    struct cluster_image *i = &c->images[image];

    i->life++;
    i->sectors = sectors;
    i->id_max = map_image_id(c, image);
}

void load_image_cleared(struct cluster *c, uint32_t image, uint32_t first)
{
    struct cluster_image *i = &c->images[image];

    i->life++;
    i->sectors = c->image_sectors;
    if (first == 0)
        i->id_min = map_image_id(c, image);
    i->id_max = 0;
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
