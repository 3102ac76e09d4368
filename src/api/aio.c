/* SPDX-License-Identifier: Apache-2.0
 *
 * Asynchronous requests: an op around a client_io, from the connection's pool. When the op ends the request
 * joins the list of ended ones; its callback runs after the turn, when the request has been given back.
 */
#include <errno.h>
#include <string.h>

#include "api/api.h"

struct request {
    struct op op;
    struct client_io io;
    struct fb_image *image;
    struct buf *buf; /* of a write: the copy of the user's data */
    void *data;      /* of a read: the user's memory */
    fb_callback *callback;
    void *arg;
    struct list ended;
    int result;
};

size_t api_request_size(void)
{
    return sizeof(struct request);
}

static const char *request_state_name(int state)
{
    static const char *const names[] = {"begin", "wait"};
    return names[state];
}

static void request_step(struct op *op)
{
    struct request *r = container_of(op, struct request, op);
    struct slice data = {r->buf, 0, r->buf ? (uint32_t)r->io.len : 0};

    if (op->state == 0) {
        if (r->io.type == CLIENT_READ)
            client_read_start(&r->io, r->image->image, r->io.offset, r->io.len, r->data, op);
        else
            client_io_start(&r->io, r->image->image, r->io.type, r->io.offset, r->io.len, &data, op);
        op->state = 1;
        return;
    }
    if (op->children)
        return;
    r->result = op->child_result;
    op_done(op, 0);
    list_push_back(&r->image->conn->ended, &r->ended);
}

static const struct op_kind request_kind = {"api.request", request_state_name, request_step};

int api_run_callbacks(struct fb_conn *conn)
{
    int count = 0;

    for (struct list *node; (node = list_pop_front(&conn->ended)); count++) {
        struct request *r = list_entry(node, struct request, ended);
        fb_callback *callback = r->callback;
        void *arg = r->arg;
        int result = r->result;
        api_buf_unref(conn, r->buf);
        r->image->request_count--;
        pool_put(&conn->requests, r);
        conn->request_count--;
        if (result)
            (void)api_fail(conn, result, "%s", error_text(result));
        if (callback)
            callback(arg, -error_errno(result));
    }
    return count;
}

static int request_start(struct fb_image *image, enum client_io_type type, void *data, uint64_t len,
                         uint64_t offset, fb_callback *callback, void *arg)
{
    struct fb_conn *conn = image->conn;
    struct buf *buf = NULL;
    int error = api_image_check(image);

    if (error)
        return error;
    if ((type == CLIENT_READ || type == CLIENT_WRITE) && len > BUF_SIZE_MAX)
        return api_fail(conn, -ERR_INVALID, "%s: at most 2 MiB in one asynchronous request", image->name);
    if (type == CLIENT_WRITE && len && !(buf = api_buf_new(conn, (uint32_t)len)))
        return -EAGAIN;
    struct request *r = pool_get(&conn->requests);
    if (!r) {
        api_buf_unref(conn, buf);
        return -EAGAIN;
    }
    if (buf)
        memcpy(buf->data, data, len);
    r->image = image;
    r->buf = buf;
    r->data = data;
    r->callback = callback;
    r->arg = arg;
    r->io.type = type;
    r->io.offset = offset;
    r->io.len = len;
    conn->request_count++;
    image->request_count++;
    op_start(&r->op, conn->core, &request_kind, NULL);
    return 0;
}

int fb_aio_read(struct fb_image *image, void *data, size_t len, uint64_t offset, fb_callback *callback,
                void *arg)
{
    return request_start(image, CLIENT_READ, data, len, offset, callback, arg);
}

int fb_aio_write(struct fb_image *image, const void *data, size_t len, uint64_t offset, fb_callback *callback,
                 void *arg)
{
    return request_start(image, CLIENT_WRITE, (void *)data, len, offset, callback, arg);
}

int fb_aio_discard(struct fb_image *image, uint64_t len, uint64_t offset, fb_callback *callback, void *arg)
{
    return request_start(image, CLIENT_DISCARD, NULL, len, offset, callback, arg);
}

int fb_aio_write_zeroes(struct fb_image *image, uint64_t len, uint64_t offset, fb_callback *callback,
                        void *arg)
{
    return request_start(image, CLIENT_ZERO, NULL, len, offset, callback, arg);
}

int fb_aio_flush(struct fb_image *image, fb_callback *callback, void *arg)
{
    return request_start(image, CLIENT_FLUSH, NULL, 0, 0, callback, arg);
}
