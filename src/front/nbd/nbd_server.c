/* SPDX-License-Identifier: Apache-2.0
 *
 * The server: listening, memory, stopping.
 */
#include "front/nbd/nbd_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "front/nbd/nbd_impl.h"

#define MEMORY_RETRY_NS (1 * NS_PER_MS)

/* ---- waiting ---- */

void nbd_wait_init(struct nbd_wait *wait, struct op *op)
{
    list_init(&wait->link);
    wait->op = op;
    wait->queue = NULL;
}

void nbd_wait_in(struct list *queue, struct nbd_wait *wait)
{
    if (wait->queue == queue)
        return;
    ASSERT(!wait->queue);
    list_push_back(queue, &wait->link);
    wait->queue = queue;
}

void nbd_wait_end(struct nbd_server *server, struct nbd_wait *wait)
{
    struct list *queue = wait->queue;

    timer_cancel(server->core, &wait->timer);
    if (!queue)
        return;
    list_remove(&wait->link);
    wait->queue = NULL;
    nbd_wake_first(queue);
}

void nbd_wake_first(struct list *queue)
{
    struct nbd_wait *wait = list_first(queue, struct nbd_wait, link);

    if (wait)
        op_wake(wait->op);
}

/* ---- memory ---- */

static struct nbd_part *part_try(struct nbd_server *server, uint32_t len)
{
    struct arena *arena = server->core->arena;

    if (arena_free_bytes(arena) < arena_size(arena) / 2 + len)
        return NULL;
    struct nbd_part *part = pool_get(&server->parts);
    if (!part)
        return NULL;
    part->data = (struct slice){buf_new(arena, len), 0, len};
    if (part->data.buf)
        return part;
    pool_put(&server->parts, part);
    return NULL;
}

struct nbd_part *nbd_part_get(struct nbd_conn *conn, uint32_t len, bool unbounded, struct nbd_wait *wait)
{
    struct nbd_server *server = conn->server;
    bool above = !unbounded && conn->memory_bytes && conn->memory_bytes + len > NBD_CONN_MEMORY_MAX;
    /* Those above their share stand aside, so that they hold up nobody but themselves. */
    struct list *queue = above ? &conn->memory_waiters : &server->memory_waiters;

    if (wait->queue && wait->queue != queue)
        nbd_wait_end(server, wait);
    nbd_wait_in(queue, wait);
    if (above)
        return NULL;
    struct nbd_part *part = queue->next == &wait->link ? part_try(server, len) : NULL;
    if (!part) {
        timer_arm(server->core, &wait->timer, wait->op, core_now_ns(server->core) + MEMORY_RETRY_NS);
        return NULL;
    }
    nbd_wait_end(server, wait);
    part->memory_bytes = part->data.buf->size_bytes;
    conn->memory_bytes += part->memory_bytes;
    return part;
}

void nbd_part_put(struct nbd_conn *conn, struct nbd_part *part)
{
    ASSERT(conn->memory_bytes >= part->memory_bytes);
    conn->memory_bytes -= part->memory_bytes;
    slice_unref(&part->data);
    pool_put(&conn->server->parts, part);
    nbd_wake_first(&conn->memory_waiters);
    nbd_wake_first(&conn->server->memory_waiters);
}

/* ---- life ---- */

static void server_free(struct nbd_server *server)
{
    slice_unref(&server->zeroes);
    pool_fini(&server->parts);
    pool_fini(&server->requests);
    free(server);
}

static int server_init(struct nbd_server *server)
{
    const struct nbd_server_config *config = &server->config;
    int error = pool_init(&server->requests, sizeof(struct nbd_request), NBD_COMMANDS_MAX);

    if (!error)
        error = pool_init(&server->parts, sizeof(struct nbd_part), NBD_COMMANDS_MAX);
    if (!error)
        error = text_copy(server->export.name, sizeof(server->export.name), config->name);
    if (error)
        return error;
    snprintf(server->export.description, sizeof(server->export.description), "fastblock image");
    server->zeroes = (struct slice){buf_new(server->core->arena, NBD_PART_MAX), 0, NBD_PART_MAX};
    if (!server->zeroes.buf)
        return -ERR_NO_MEMORY;
    memset(slice_data(&server->zeroes), 0, NBD_PART_MAX);
    return config->net->ops->listen(config->net, config->address, nbd_conn_accepted, server, server->address,
                                    sizeof(server->address));
}

int nbd_server_new(const struct nbd_server_config *config, struct nbd_server **ret_server)
{
    struct nbd_server *server = calloc(1, sizeof(*server));

    if (!server)
        return -ERR_NO_MEMORY;
    ASSERT(config->core->arena && arena_size(config->core->arena) >= NBD_ARENA_MIN);
    server->config = *config;
    server->core = config->core;
    list_init(&server->conns);
    list_init(&server->memory_waiters);
    list_init(&server->request_waiters);
    list_init(&server->big_waiters);
    int error = server_init(server);
    if (error) {
        server_free(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

void nbd_server_serve(struct nbd_server *server, struct client_image *image)
{
    ASSERT(!server->image);
    server->image = image;
    server->export.size_bytes = client_image_size(image);
    server->export.read_only = server->config.read_only || !client_image_writable(image);
    nbd_wake_conns(server);
}

const char *nbd_server_address(const struct nbd_server *server)
{
    return server->address;
}

void nbd_wake_conns(struct nbd_server *server)
{
    list_for_each (&server->conns, node) {
        op_wake(&list_entry(node, struct nbd_conn, link)->op);
    }
}

void nbd_conn_freed(struct nbd_server *server)
{
    server->conn_count--;
    op_wake(server->stopper);
}

static void stop_step(struct op *op)
{
    struct nbd_server_stop *s = container_of(op, struct nbd_server_stop, op);
    struct nbd_server *server = s->server;

    if (!server->stopping) {
        server->stopping = true;
        server->stopper = op;
        server->config.net->ops->unlisten(server->config.net);
        nbd_wake_conns(server);
    }
    if (server->conn_count)
        return;
    server_free(server);
    op_done(op, 0);
}

static const struct op_kind stop_kind = {"nbd.stop", NULL, stop_step};

void nbd_server_stop_start(struct nbd_server_stop *s, struct nbd_server *server, struct op *parent)
{
    s->server = server;
    op_start(&s->op, server->core, &stop_kind, parent);
}
