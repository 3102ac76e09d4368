/* SPDX-License-Identifier: Apache-2.0
 *
 * A command under way.
 *
 *     TURN (long and unstructured) -> RUN: parts are started as memory allows, and taken when they have ended
 *          -> REPLY -> SENT -> done
 *
 * A read of one part (up to 2 MiB, almost every one) is one reply with its data. A longer one is answered
 * part by part where replies are structured. Where they are not, all of it must be there before the first
 * byte is sent, because an error cannot follow data: such reads have memory of their own for that, in turn,
 * until their clients have taken the replies. A client that takes nothing of its reply is lost when another
 * one waits.
 */
#include <string.h>

#include "front/nbd/nbd_impl.h"

#define STATUS_LEN_MAX (1u << 30)     /* one answer describes at most so much */
#define TELL_NS        (1 * NS_PER_S) /* from one line of the log about a failure to the next */

/* A client that takes nothing of a long reply for so long has to give way. */
#define BIG_PATIENCE_NS (10 * NS_PER_S)
#define BIG_RETRY_NS    (1 * NS_PER_MS)

enum request_state { REQUEST_BEGIN, REQUEST_TURN, REQUEST_RUN, REQUEST_REPLY, REQUEST_SENT, REQUEST_END };

static const char *request_state_name(int state)
{
    static const char *const names[] = {"begin", "turn", "run", "reply", "sent", "end"};
    return names[state];
}

static struct nbd_server *request_server(const struct nbd_request *r)
{
    return r->conn->server;
}

static uint64_t request_end(const struct nbd_request *r)
{
    return r->command.offset + r->command.length;
}

static bool request_is_long(const struct nbd_request *r)
{
    return r->command.length > NBD_PART_MAX;
}

/* WRITE_ZEROES that must not make holes is a write of zeros. */
static bool request_writes_zeroes(const struct nbd_request *r)
{
    return r->command.type == NBD_CMD_WRITE_ZEROES && (r->command.flags & NBD_CMD_FLAG_NO_HOLE);
}

static bool request_structured(const struct nbd_request *r)
{
    return r->conn->protocol.structured &&
           (r->command.type == NBD_CMD_READ || r->command.type == NBD_CMD_BLOCK_STATUS);
}

static void request_fail(struct nbd_request *r, int error)
{
    if (r->result == 0)
        r->result = error;
}

/* The client is told no more than that it failed; here it stands why. */
static void request_tell(const struct nbd_request *r)
{
    static const char *const names[] = {"read", "write", "", "flush", "trim", "", "write zeroes", "status"};
    struct nbd_server *server = request_server(r);
    uint64_t now_ns = core_now_ns(server->core);

    server->failures++;
    if (server->told_ns && now_ns - server->told_ns < TELL_NS)
        return;
    core_log(
        server->core, LOG_ERROR, "nbd",
        "%s of %u bytes at %llu failed: %s (%llu since the start; `fastblock health detail` tells what is "
        "wrong with the cluster)",
        names[r->command.type], r->command.length, (unsigned long long)r->command.offset,
        error_text(r->result), (unsigned long long)server->failures);
    server->told_ns = now_ns;
}

/* ---- starting ---- */

static enum nbd_error request_refusal(const struct nbd_request *r)
{
    const struct nbd_command *c = &r->command;

    if (c->error)
        return c->error;
    if (c->type == NBD_CMD_READ && (c->flags & NBD_CMD_FLAG_DF) && request_is_long(r))
        return NBD_EOVERFLOW;
    /* Writing zeros out is not faster than a write. */
    if (request_writes_zeroes(r) && (c->flags & NBD_CMD_FLAG_FAST_ZERO))
        return NBD_ENOTSUP;
    return NBD_OK;
}

static void request_start_whole(struct nbd_request *r, enum client_io_type type)
{
    memset(&r->io, 0, sizeof(r->io));
    client_io_start(&r->io, request_server(r)->image, type, r->command.offset, r->command.length, NULL,
                    &r->op);
}

static void request_start_status(struct nbd_request *r)
{
    uint32_t extents_max = r->command.flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_REPLY_EXTENTS_MAX;

    memset(&r->status, 0, sizeof(r->status));
    client_status_start(&r->status, request_server(r)->image, r->command.offset,
                        MIN(r->command.length, STATUS_LEN_MAX), r->extents, extents_max, &r->op);
}

static void request_start_part(struct nbd_request *r, struct nbd_part *part, enum client_io_type type)
{
    part->offset = r->at;
    r->at += part->data.len;
    r->parts[r->part_count++] = part;
    memset(&part->io, 0, sizeof(part->io));
    struct client_image *image = request_server(r)->image;
    if (type == CLIENT_READ)
        client_read_start(&part->io, image, part->offset, part->data.len, slice_data(&part->data), &r->op);
    else
        client_io_start(&part->io, image, type, part->offset, part->data.len, &part->data, &r->op);
}

bool nbd_request_has_window(const struct nbd_request *r)
{
    return r->part_count < (r->big ? NBD_PARTS_MAX : NBD_PART_WINDOW);
}

static void request_start_reads(struct nbd_request *r)
{
    while (r->at < request_end(r) && r->result == 0 && nbd_request_has_window(r)) {
        uint32_t len = (uint32_t)MIN(request_end(r) - r->at, (uint64_t)NBD_PART_MAX);
        struct nbd_part *part =
            r->big ? nbd_part_get_big(r->conn, len, &r->wait) : nbd_part_get(r->conn, len, &r->wait);
        if (!part)
            return;
        request_start_part(r, part, CLIENT_READ);
    }
}

static void request_start_zeroes(struct nbd_request *r)
{
    while (r->at < request_end(r) && r->result == 0 && nbd_request_has_window(r)) {
        uint32_t len = (uint32_t)MIN(request_end(r) - r->at, (uint64_t)NBD_PART_MAX);
        request_start_part(r, nbd_part_get_shared(r->conn, &request_server(r)->zeroes, len), CLIENT_WRITE);
    }
}

/* ---- replies ---- */

static bool all_zero(const struct slice *data)
{
    const uint8_t *bytes = slice_data(data);

    return bytes[0] == 0 && memcmp(bytes, bytes + 1, data->len - 1) == 0;
}

/* One part of a structured read. */
static int send_chunk(struct nbd_request *r, struct nbd_part *part, bool done)
{
    uint8_t head[64];

    if (all_zero(&part->data)) {
        size_t len = nbd_reply_hole(head, r->command.cookie, done, part->offset, part->data.len);
        return nbd_conn_send(r->conn, r, head, len, NULL);
    }
    size_t len = nbd_reply_data(head, r->command.cookie, done, part->offset, part->data.len);
    return nbd_conn_send(r->conn, r, head, len, &part->data);
}

static void drop_part(struct nbd_request *r, uint32_t at)
{
    nbd_part_put(r->conn, r->parts[at]);
    r->part_count--;
    memmove(&r->parts[at], &r->parts[at + 1], (r->part_count - at) * sizeof(r->parts[0]));
}

/* Takes the parts that have ended. False: one of them has to wait until the connection has room. */
static bool request_take_parts(struct nbd_request *r)
{
    bool read = r->command.type == NBD_CMD_READ;

    for (uint32_t i = 0; i < r->part_count;) {
        struct nbd_part *part = r->parts[i];
        if (op_live(&part->io.op)) {
            i++;
            continue;
        }
        request_fail(r, part->io.op.result);
        if (read && r->result == 0 && (r->big || !request_is_long(r))) {
            i++; /* kept for the reply */
            continue;
        }
        if (read && r->result == 0 && send_chunk(r, part, false))
            return false;
        drop_part(r, i);
    }
    return true;
}

static int reply_error(struct nbd_request *r, enum nbd_error error)
{
    uint8_t head[NBD_STRUCTURED_REPLY_SIZE + 256];
    size_t len;

    if (request_structured(r))
        len = nbd_reply_error(head, r->command.cookie, error, r->result ? error_text(r->result) : "");
    else
        len = nbd_reply_simple(head, r->command.cookie, error);
    return nbd_conn_send(r->conn, r, head, len, NULL);
}

static int reply_status(struct nbd_request *r)
{
    uint8_t head[NBD_REPLY_HEAD_MAX];
    struct nbd_extent extents[NBD_REPLY_EXTENTS_MAX];
    uint32_t count = r->status.ret_count;

    for (uint32_t i = 0; i < count; i++)
        extents[i] = (struct nbd_extent){(uint32_t)r->extents[i].len, r->extents[i].written};
    size_t len = nbd_reply_status(head, r->command.cookie, extents, count);
    return nbd_conn_send(r->conn, r, head, len, NULL);
}

/* An unstructured read: the header with the first part, then the others, with nothing else in between. */
static int reply_big(struct nbd_request *r)
{
    uint8_t head[NBD_SIMPLE_REPLY_SIZE];
    size_t len = nbd_reply_simple(head, r->command.cookie, NBD_OK);

    for (; r->sent_count < r->part_count; r->sent_count++) {
        int error = nbd_conn_send(r->conn, r, head, r->sent_count ? 0 : len, &r->parts[r->sent_count]->data);
        if (error)
            return error;
        r->conn->owner = r;
    }
    r->conn->owner = NULL;
    nbd_conn_wake_senders(r->conn);
    return 0;
}

static int reply_read(struct nbd_request *r)
{
    uint8_t head[64];

    if (r->big)
        return reply_big(r);
    if (request_structured(r)) {
        if (r->part_count)
            return send_chunk(r, r->parts[0], true);
        return nbd_conn_send(r->conn, r, head, nbd_reply_done(head, r->command.cookie), NULL);
    }
    size_t len = nbd_reply_simple(head, r->command.cookie, NBD_OK);
    return nbd_conn_send(r->conn, r, head, len, r->part_count ? &r->parts[0]->data : NULL);
}

static int request_reply(struct nbd_request *r)
{
    enum nbd_error error = r->command.error ? r->command.error : nbd_error_from(r->result, r->command.type);

    if (error)
        return reply_error(r, error);
    if (r->command.type == NBD_CMD_READ)
        return reply_read(r);
    if (r->command.type == NBD_CMD_BLOCK_STATUS)
        return reply_status(r);
    return reply_error(r, NBD_OK);
}

/* ---- steps ---- */

static void request_begin(struct nbd_request *r)
{
    r->command.error = request_refusal(r);
    if (r->command.error) {
        r->op.state = REQUEST_REPLY;
        return;
    }
    r->op.state = REQUEST_RUN;
    switch (r->command.type) {
    case NBD_CMD_FLUSH:
        request_start_whole(r, CLIENT_FLUSH);
        break;
    case NBD_CMD_TRIM:
        request_start_whole(r, CLIENT_DISCARD);
        break;
    case NBD_CMD_WRITE_ZEROES:
        if (!request_writes_zeroes(r))
            request_start_whole(r, CLIENT_ZERO);
        break;
    case NBD_CMD_BLOCK_STATUS:
        request_start_status(r);
        break;
    case NBD_CMD_READ:
        if (request_is_long(r) && !r->conn->protocol.structured)
            r->op.state = REQUEST_TURN;
        break;
    default:
        break;
    }
}

/* Of all parts' buffers. */
static uint64_t request_big_bytes(const struct nbd_request *r)
{
    return ALIGN_UP((uint64_t)r->command.length, (uint64_t)NBD_PART_MAX);
}

/* One long unstructured read of each connection at a time, and as many of all as there is memory for. */
static bool request_take_turn(struct nbd_request *r)
{
    struct nbd_server *server = request_server(r);
    struct nbd_conn *conn = r->conn;
    struct list *queue = conn->big_taken ? &conn->big_waiters : &server->big_waiters;

    if (r->wait.queue && (r->wait.queue != queue || !conn->stream))
        nbd_wait_end(server, &r->wait);
    if (!conn->stream)
        return true; /* there is nothing to read for */
    nbd_wait_in(queue, &r->wait);
    if (conn->big_taken || queue->next != &r->wait.link ||
        server->big_bytes + request_big_bytes(r) > NBD_LONG_READS)
        return false;
    conn->big_taken = r->big = true;
    server->big_bytes += request_big_bytes(r);
    nbd_wait_end(server, &r->wait);
    return true;
}

static void request_pass_turn(struct nbd_request *r)
{
    if (!r->big)
        return;
    r->conn->big_taken = false;
    request_server(r)->big_bytes -= request_big_bytes(r);
    nbd_wake_first(&r->conn->big_waiters);
    nbd_wake_first(&request_server(r)->big_waiters);
}

/* A long reply is under way: whoever takes nothing of it is lost once another one waits. */
static void request_watch_big(struct nbd_request *r)
{
    struct nbd_server *server = request_server(r);
    uint64_t now_ns = core_now_ns(server->core), held_bytes = nbd_conn_held_bytes(r->conn);

    if (!r->moved_ns || held_bytes < r->held_bytes || r->sent_count > r->moved_count)
        r->moved_ns = now_ns;
    r->held_bytes = held_bytes;
    r->moved_count = r->sent_count;
    if (r->conn->stream && now_ns - r->moved_ns >= BIG_PATIENCE_NS && !list_empty(&server->big_waiters)) {
        core_log(server->core, LOG_WARN, "nbd",
                 "connection %llu: closing: it takes nothing of a long reply, and another one is to be sent",
                 (unsigned long long)r->conn->number);
        nbd_conn_drop(r->conn);
    }
    timer_arm(server->core, &r->wait.timer, &r->op, now_ns + BIG_RETRY_NS);
}

/* The client has all of a long reply, or is gone: the memory is free for the next one. */
static bool request_is_taken(const struct nbd_request *r)
{
    for (uint32_t i = 0; r->big && r->conn->stream && i < r->part_count; i++)
        if (r->parts[i]->data.buf->refs > 1)
            return false;
    return true;
}

/* Everything has ended, and what could be sent by parts has been. */
static bool request_has_run(struct nbd_request *r)
{
    if (r->command.type == NBD_CMD_READ && !r->conn->stream)
        request_fail(r, -ERR_CLOSED); /* nobody is there to read */
    if (r->command.type == NBD_CMD_READ)
        request_start_reads(r);
    else if (request_writes_zeroes(r))
        request_start_zeroes(r);
    if (!request_take_parts(r))
        return false;
    if (r->result) {
        nbd_wait_end(request_server(r), &r->wait);
    } else if ((r->command.type == NBD_CMD_READ || request_writes_zeroes(r)) && r->at < request_end(r)) {
        if (!r->big && nbd_request_has_window(r) && !r->wait.queue)
            op_wake(&r->op); /* parts were taken: room for more */
        return false;
    }
    if (r->receiving)
        op_wake(&r->conn->op); /* room for the next part */
    return !r->op.children && !r->receiving;
}

static void request_free(struct nbd_request *r)
{
    struct nbd_conn *conn = r->conn;
    struct nbd_server *server = conn->server;

    while (r->part_count)
        drop_part(r, r->part_count - 1);
    nbd_wait_end(server, &r->wait);
    list_remove(&r->sending);
    if (conn->owner == r) {
        conn->owner = NULL;
        nbd_conn_wake_senders(conn);
    }
    request_pass_turn(r);
    op_done(&r->op, 0);
    pool_put(&conn->requests, r);
    conn->request_count--;
    op_wake(&conn->op);
    if (!conn->stream && --server->lost_requests == 0)
        nbd_wake_conns(server);
}

static void request_step(struct op *op)
{
    struct nbd_request *r = container_of(op, struct nbd_request, op);

    for (;;) {
        switch ((enum request_state)op->state) {
        case REQUEST_BEGIN:
            request_begin(r);
            break;
        case REQUEST_TURN:
            if (!request_take_turn(r))
                return;
            op->state = REQUEST_RUN;
            break;
        case REQUEST_RUN:
            if (!request_has_run(r))
                return;
            /* Commands without parts have one child. */
            request_fail(r, op->child_result);
            if (r->result && r->result != -ERR_CLOSED)
                request_tell(r);
            op->state = REQUEST_REPLY;
            break;
        case REQUEST_REPLY:
            if (request_reply(r)) {
                if (r->big)
                    request_watch_big(r);
                return;
            }
            op->state = REQUEST_SENT;
            break;
        case REQUEST_SENT:
            if (!request_is_taken(r)) {
                request_watch_big(r);
                return;
            }
            op->state = REQUEST_END;
            break;
        case REQUEST_END:
            request_free(r);
            return;
        }
    }
}

static const struct op_kind request_kind = {"nbd.command", request_state_name, request_step};

void nbd_request_start(struct nbd_conn *conn, struct nbd_request *r, const struct nbd_command *command)
{
    r->conn = conn;
    r->command = *command;
    r->result = 0;
    r->at = command->offset;
    r->part_count = r->sent_count = 0;
    r->receiving = command->type == NBD_CMD_WRITE && !command->error && command->payload_len;
    r->big = false;
    r->moved_ns = 0;
    list_init(&r->sending);
    nbd_wait_init(&r->wait, &r->op);
    op_start(&r->op, conn->server->core, &request_kind, NULL);
}

void nbd_request_write(struct nbd_request *r, struct nbd_part *part)
{
    request_start_part(r, part, CLIENT_WRITE);
}

void nbd_request_written(struct nbd_request *r, int error)
{
    r->receiving = false;
    request_fail(r, error);
    op_wake(&r->op);
}
