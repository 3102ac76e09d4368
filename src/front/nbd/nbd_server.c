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

#define MEMORY_RETRY_NS  (1 * NS_PER_MS)
#define STOP_PATIENCE_NS (5 * NS_PER_S) /* with clients that do not take their answers */

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

void nbd_wake_all(struct list *queue)
{
    list_for_each (queue, node) {
        op_wake(list_entry(node, struct nbd_wait, link)->op);
    }
}

/* ---- memory ---- */

/* Of the buffer for `len` bytes. */
static uint32_t part_size_bytes(uint32_t len)
{
    uint32_t size_bytes = BLOCK_SIZE;

    while (size_bytes < len)
        size_bytes *= 2;
    return size_bytes;
}

static struct nbd_part *part_new(struct nbd_conn *conn, struct slice data, uint32_t memory_bytes)
{
    struct nbd_part *part = pool_get(&conn->parts);

    ASSERT(part);
    part->data = data;
    part->memory_bytes = memory_bytes;
    conn->memory_bytes += memory_bytes;
    return part;
}

/* What is left of the arena then is spoken for, unless it is the connection's own. */
static bool part_fits(const struct nbd_conn *conn, uint32_t size_bytes)
{
    uint64_t would_bytes = conn->memory_bytes + nbd_conn_held_bytes(conn) + size_bytes;

    if (would_bytes <= NBD_CONN_OWN)
        return true;
    return would_bytes <= NBD_CONN_MAX &&
           arena_free_bytes(conn->server->core->arena) >= (uint64_t)NBD_ARENA_SPOKEN + size_bytes;
}

static void part_look_again(struct nbd_conn *conn, struct nbd_wait *wait)
{
    struct core *core = conn->server->core;

    timer_arm(core, &wait->timer, wait->op, core_now_ns(core) + MEMORY_RETRY_NS);
}

struct nbd_part *nbd_part_get(struct nbd_conn *conn, uint32_t len, struct nbd_wait *wait)
{
    struct nbd_server *server = conn->server;
    struct buf *buf = NULL;

    nbd_wait_in(&conn->memory_waiters, wait);
    if (conn->memory_waiters.next != &wait->link)
        return NULL;
    if (part_fits(conn, part_size_bytes(len)))
        buf = buf_new(server->core->arena, len);
    if (!buf) {
        part_look_again(conn, wait);
        return NULL;
    }
    nbd_wait_end(server, wait);
    return part_new(conn, (struct slice){buf, 0, len}, buf->size_bytes);
}

struct nbd_part *nbd_part_get_big(struct nbd_conn *conn, uint32_t len, struct nbd_wait *wait)
{
    struct buf *buf = buf_new(conn->server->core->arena, len);

    if (buf)
        return part_new(conn, (struct slice){buf, 0, len}, 0);
    part_look_again(conn, wait);
    return NULL;
}

struct nbd_part *nbd_part_get_shared(struct nbd_conn *conn, const struct slice *data, uint32_t len)
{
    return part_new(conn, slice_sub(data, 0, len), 0);
}

void nbd_part_put(struct nbd_conn *conn, struct nbd_part *part)
{
    ASSERT(conn->memory_bytes >= part->memory_bytes);
    conn->memory_bytes -= part->memory_bytes;
    slice_unref(&part->data);
    pool_put(&conn->parts, part);
    nbd_wake_first(&conn->memory_waiters);
}

/* ---- life ---- */

static void server_free(struct nbd_server *server)
{
    slice_unref(&server->zeroes);
    free(server);
}

static int server_init(struct nbd_server *server)
{
    const struct nbd_server_config *config = &server->config;
    int error = text_copy(server->export.name, sizeof(server->export.name), config->name);

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
    ASSERT(config->core->arena && arena_size(config->core->arena) >= NBD_ARENA_BYTES);
    server->config = *config;
    server->core = config->core;
    list_init(&server->conns);
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
        timer_arm(op->core, &s->timer, op, core_now_ns(op->core) + STOP_PATIENCE_NS);
    }
    if (s->timer.fired) {
        list_for_each (&server->conns, node) {
            nbd_conn_drop_unsent(list_entry(node, struct nbd_conn, link));
        }
        timer_arm(op->core, &s->timer, op, core_now_ns(op->core) + STOP_PATIENCE_NS);
    }
    if (server->conn_count)
        return;
    timer_cancel(op->core, &s->timer);
    server_free(server);
    op_done(op, 0);
}

static const struct op_kind stop_kind = {"nbd.stop", NULL, stop_step};

void nbd_server_stop_start(struct nbd_server_stop *s, struct nbd_server *server, struct op *parent)
{
    s->server = server;
    op_start(&s->op, server->core, &stop_kind, parent);
}
