/* SPDX-License-Identifier: Apache-2.0
 *
 * api: the public face of the client (include/fastblock/fastblock.h): structures that its files share.
 * May include: base rt client backend.
 *
 * A connection is an io_uring core with one client on it, driven by whoever calls. Everything of the user's,
 * callbacks above all, runs between two turns of the core, never inside one: a request that has ended waits
 * in a list until the turn is over, so callbacks may start requests and make synchronous calls, which turn
 * the core themselves.
 *
 *   conn.c     connecting, polling, waiting, errors
 *   config.c   the configuration file: where the monitors are
 *   image.c    opening, closing, managing images
 *   io.c       synchronous requests
 *   aio.c      asynchronous requests
 */
#ifndef API_API_H
#define API_API_H

#include "api/config.h"
#include "backend/backend.h"
#include "base/error.h"
#include "base/list.h"
#include "base/pool.h"
#include "client/client.h"
#include "fastblock/fastblock.h"
#include "rt/buf.h"

#define API_REQUESTS_MAX   1024 /* asynchronous ones under way */
#define API_MONITORS_MAX   16
#define API_MONITORS_TEXT  1024
#define API_MEMORY_DEFAULT (64u << 20)
#define API_MEMORY_MIN     (8u << 20)
#define API_NAME_MAX       256

struct fb_conn {
    struct uring_core *uring;
    struct core *core;
    struct net *net;
    struct client *client;
    struct list images;
    struct pool requests;
    struct list ended;              /* requests whose callback is to be called */
    uint32_t request_count;         /* asynchronous ones, callbacks not yet called */
    size_t memory_used, memory_max; /* of request buffers; answers need the other half of the arena */
    char name[64];
    char error[512];
};

struct fb_image {
    struct fb_conn *conn;
    struct client_image *image;
    struct list link;
    uint32_t request_count; /* asynchronous ones, callbacks not yet called */
    bool closing;           /* nothing new is begun: a callback may want to */
    char name[2 * API_NAME_MAX];
};

/* Writes the sentence and returns the negative errno of `error`. */
int api_fail(struct fb_conn *conn, int error, const char *format, ...) PRINTF_LIKE(3, 4);
/* 0, or the error of a call for an image that is being closed. */
int api_image_check(struct fb_image *image);
/* Nothing new is begun, what is under way ends, all callbacks have run, and the image is closed; the handle
 * stays. */
int api_image_shut(struct fb_image *image);
/* Turns the core until the op has ended; its result. Runs callbacks meanwhile. */
int api_wait(struct fb_conn *conn, struct op *op);
/* One turn and the callbacks after it; how many. */
int api_turn(struct fb_conn *conn, uint64_t max_wait_ns);
int api_run_callbacks(struct fb_conn *conn);
size_t api_request_size(void); /* of the objects in the pool of requests */

/* A buffer within the connection's share, or NULL. */
struct buf *api_buf_new(struct fb_conn *conn, uint32_t len);
void api_buf_unref(struct fb_conn *conn, struct buf *buf);

#endif
