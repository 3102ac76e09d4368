/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection: made, driven, ended.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"

int api_fail(struct fb_conn *conn, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(conn->error, sizeof(conn->error), format, args);
    va_end(args);
    return -error_errno(error);
}

const char *fb_error(const struct fb_conn *conn)
{
    return conn->error;
}

int fb_fd(const struct fb_conn *conn)
{
    return uring_core_fd(conn->uring);
}

int api_turn(struct fb_conn *conn, uint64_t max_wait_ns)
{
    /* What ends without any input or output must not wait for some. */
    core_poll(conn->core);
    uring_core_turn(conn->uring, list_empty(&conn->ended) ? max_wait_ns : 0);
    return api_run_callbacks(conn);
}

int api_wait(struct fb_conn *conn, struct op *op)
{
    for (;;) {
        core_poll(conn->core);
        if (!op_live(op))
            return op->result;
        api_turn(conn, NS_PER_S);
    }
}

int fb_poll(struct fb_conn *conn, int timeout_ms)
{
    uint64_t now_ns = core_now_ns(conn->core);
    uint64_t end_ns = timeout_ms < 0 ? UINT64_MAX : now_ns + (uint64_t)timeout_ms * NS_PER_MS;
    int count = api_turn(conn, 0);

    while (count == 0 && conn->request_count && (now_ns = core_now_ns(conn->core)) < end_ns)
        count = api_turn(conn, MIN(end_ns - now_ns, NS_PER_S));
    return count;
}

struct buf *api_buf_new(struct fb_conn *conn, uint32_t len)
{
    if (conn->memory_used + len > conn->memory_max)
        return NULL;
    struct buf *buf = buf_new(conn->core->arena, len);
    if (buf)
        conn->memory_used += buf->size_bytes;
    return buf;
}

void api_buf_unref(struct fb_conn *conn, struct buf *buf)
{
    if (buf)
        conn->memory_used -= buf->size_bytes;
    buf_unref(buf);
}

/* Cuts the list at its commas, in place. */
static uint32_t split_monitors(char *text, const char *ret_monitors[API_MONITORS_MAX])
{
    uint32_t count = 0;

    for (char *save, *at = strtok_r(text, ", ", &save); at && count < API_MONITORS_MAX;
         at = strtok_r(NULL, ", ", &save))
        ret_monitors[count++] = at;
    return count;
}

static int conn_open(struct fb_conn *conn, const struct fb_options *options)
{
    char text[API_MONITORS_TEXT];
    const char *monitors[API_MONITORS_MAX];
    size_t memory =
        options->memory_bytes ? MAX(options->memory_bytes, (size_t)API_MEMORY_MIN) : API_MEMORY_DEFAULT;
    struct uring_core_opts opts = {
        .arena_bytes = memory,
        .spin_us = options->spin_us ? (uint32_t)MAX(options->spin_us, 0) : CORE_SPIN_US_STANDARD,
        .log_level = LOG_ERROR,
        .any_thread = true,
    };

    int error = api_monitors(options->monitors, text, sizeof(text));
    const char *unreadable = error == -ERR_NOT_FOUND ? config_unreadable() : NULL;
    if (unreadable)
        return api_fail(conn, -ERR_NO_MONITOR, "the environment variable FASTBLOCK_CONF names %s: %s",
                        unreadable, strerror(errno));
    if (error)
        return api_fail(
            conn, -ERR_NO_MONITOR,
            "no monitor is known: name one in the options, in FASTBLOCK_MON, or in /etc/fastblock.conf");
    error = uring_core_new(&opts, &conn->uring);
    if (error)
        return api_fail(conn, error, "cannot start: %s", uring_core_error_text(error));
    conn->core = uring_core_core(conn->uring);
    conn->memory_max = arena_size(conn->core->arena) / 2;
    conn->net = tcp_net_new(conn->uring);
    if (!conn->net || pool_init(&conn->requests, api_request_size(), API_REQUESTS_MAX))
        return api_fail(conn, -ERR_NO_MEMORY, "out of memory");
    struct client_config config = {
        .core = conn->core,
        .net = conn->net,
        .monitors = monitors,
        .monitor_count = split_monitors(text, monitors),
        .name = conn->name,
        .timeout_ns = options->timeout_ms * NS_PER_MS,
    };
    struct client_open open = {0};
    client_open_start(&open, &config, NULL);
    error = api_wait(conn, &open.op);
    if (error)
        return api_fail(conn, error, "%s", open.ret_message);
    conn->client = open.ret_client;
    return 0;
}

static void conn_free(struct fb_conn *conn)
{
    client_free(conn->client);
    pool_fini(&conn->requests);
    if (conn->net)
        tcp_net_free(conn->net);
    if (conn->uring)
        uring_core_free(conn->uring);
    free(conn);
}

int fb_connect(const struct fb_options *options, struct fb_conn **ret_conn, char *error, size_t error_size)
{
    static const struct fb_options none;
    struct fb_conn *conn = calloc(1, sizeof(*conn));

    *ret_conn = NULL;
    if (!conn) {
        if (error)
            snprintf(error, error_size, "out of memory");
        return -ENOMEM;
    }
    if (!options)
        options = &none;
    list_init(&conn->images);
    list_init(&conn->ended);
    if (options->name)
        snprintf(conn->name, sizeof(conn->name), "%s", options->name);
    else
        snprintf(conn->name, sizeof(conn->name), "%s[%d]", program_invocation_short_name, (int)getpid());
    int result = conn_open(conn, options);
    if (result) {
        if (error)
            snprintf(error, error_size, "%s", conn->error);
        conn_free(conn);
        return result;
    }
    *ret_conn = conn;
    return 0;
}

void fb_disconnect(struct fb_conn *conn)
{
    if (!conn)
        return;
    /* The callbacks of one image may want the handles of the others. */
    list_for_each (&conn->images, node)
        list_entry(node, struct fb_image, link)->closing = true;
    list_for_each (&conn->images, node)
        (void)api_image_shut(list_entry(node, struct fb_image, link));
    for (struct list *node; (node = list_pop_front(&conn->images));)
        free(list_entry(node, struct fb_image, link));
    conn_free(conn);
}
