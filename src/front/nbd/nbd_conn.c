/* SPDX-License-Identifier: Apache-2.0
 *
 * The receiving side of a connection: one op that takes in what the client sends.
 *
 *     SEND -> TURN -> RECV -> SEND ...                       handshake
 *             TURN -> RECV -> ADMIT -> TURN                  a command without data, or one refused
 *                               |-> MEMORY -> PAYLOAD -> MEMORY ... -> TURN   a write, part by part
 *                               \-> DRAIN ... -> TURN        a refused write
 *     any -> FINISH (goodbye, stopping)   -> done            once the commands under way are answered
 *     any -> GONE (the client is gone)    -> done            once they have ended
 *
 * A client that has closed its side is gone at once: what it sent before and was not read is dropped, because
 * it has given up on it and may write the same blocks by a new connection (rt/stream.h).
 */
#include <stdlib.h>
#include <string.h>

#include "front/nbd/nbd_impl.h"

#define SENT_RETRY_NS (10 * NS_PER_MS)

enum conn_state {
    CONN_SEND,
    CONN_TURN,
    CONN_RECV,
    CONN_ADMIT,
    CONN_MEMORY,
    CONN_PAYLOAD,
    CONN_DRAIN,
    CONN_DRAINING,
    CONN_FINISH,
    CONN_GONE,
};

static const char *conn_state_name(int state)
{
    static const char *const names[] = {"send",    "turn",  "receive",  "admit",  "memory",
                                        "payload", "drain", "draining", "finish", "gone"};
    return names[state];
}

/* ---- events of the stream ---- */

static void conn_received(void *owner, struct stream *stream)
{
    struct nbd_conn *conn = owner;

    conn->received = true;
    op_wake(&conn->op);
}

void nbd_conn_wake_senders(struct nbd_conn *conn)
{
    for (struct list *node; (node = list_pop_front(&conn->senders));)
        op_wake(&list_entry(node, struct nbd_request, sending)->op);
}

static void conn_writable(void *owner, struct stream *stream)
{
    struct nbd_conn *conn = owner;

    conn->writable = true;
    op_wake(&conn->op);
    nbd_conn_wake_senders(conn);
}

static void conn_lose(struct nbd_conn *conn)
{
    struct nbd_server *server = conn->server;

    conn->stream = NULL;
    server->lost_requests += conn->request_count;
    nbd_conn_wake_senders(conn);
    /* Those that are its own will not wait any more. */
    nbd_wake_all(&server->big_waiters);
    nbd_wake_all(&conn->big_waiters);
    op_wake(&conn->op);
}

static void conn_closed(void *owner, struct stream *stream, int error)
{
    struct nbd_conn *conn = owner;

    if (error || conn->request_count)
        core_log(conn->server->core, LOG_INFO, "nbd", "connection %llu lost with %u commands under way: %s",
                 (unsigned long long)conn->number, conn->request_count,
                 error_text(error ? error : -ERR_CLOSED));
    conn_lose(conn);
}

static const struct stream_events conn_events = {conn_received, conn_writable, conn_closed};

static const struct stream_ops *conn_ops(const struct nbd_conn *conn)
{
    return conn->stream->net->ops;
}

void nbd_conn_drop(struct nbd_conn *conn)
{
    conn_ops(conn)->close(conn->stream, false);
    conn_lose(conn);
}

uint64_t nbd_conn_held_bytes(const struct nbd_conn *conn)
{
    return conn->stream ? conn_ops(conn)->held_bytes(conn->stream) : 0;
}

void nbd_conn_drop_unsent(struct nbd_conn *conn)
{
    if (conn->stream && (nbd_conn_held_bytes(conn) || !list_empty(&conn->senders)))
        nbd_conn_drop(conn);
}

int nbd_conn_send(struct nbd_conn *conn, struct nbd_request *request, const uint8_t *head, size_t len,
                  const struct slice *data)
{
    if (!conn->stream)
        return 0;
    int error = -ERR_BUSY;
    if (!conn->owner || conn->owner == request)
        error = conn_ops(conn)->send(conn->stream, head, len, data);
    if (error == 0)
        return 0;
    if (error != -ERR_BUSY) {
        /* Broken: the stream reports its end by itself. */
        return 0;
    }
    if (!list_linked(&request->sending))
        list_push_back(&conn->senders, &request->sending);
    return -ERR_BUSY;
}

/* ---- steps ---- */

/* False: there is no room yet. */
static bool conn_send_out(struct nbd_conn *conn)
{
    struct nbd_protocol *p = &conn->protocol;

    if (p->out_len) {
        conn->writable = false;
        if (conn_ops(conn)->send(conn->stream, p->out, p->out_len, NULL) == -ERR_BUSY)
            return false;
        p->out_len = 0;
    }
    return true;
}

/* May the next bytes be asked for? If not, whoever changes that wakes us. */
static bool conn_may_receive(struct nbd_conn *conn)
{
    if (!nbd_protocol_transmits(&conn->protocol))
        return true;
    return conn->request_count < NBD_CONN_COMMANDS;
}

static void conn_receive(struct nbd_conn *conn, void *memory, size_t len)
{
    conn->received = false;
    conn_ops(conn)->recv(conn->stream, memory, len);
}

static void conn_take_input(struct nbd_conn *conn)
{
    switch (nbd_protocol_input(&conn->protocol, &conn->command)) {
    case NBD_STEP_MORE:
        conn->op.state = CONN_SEND;
        break;
    case NBD_STEP_COMMAND:
        conn->op.state = conn->command.error && conn->command.payload_len ? CONN_DRAIN : CONN_ADMIT;
        conn->payload_left = conn->command.payload_len;
        break;
    case NBD_STEP_DISCONNECT:
        conn->goodbye = true;
        conn->op.state = CONN_SEND;
        break;
    case NBD_STEP_CLOSE:
        core_log(conn->server->core, LOG_WARN, "nbd", "connection %llu: closing: %s",
                 (unsigned long long)conn->number,
                 nbd_protocol_transmits(&conn->protocol) ? "that is no NBD request" : "the handshake failed");
        /* What it asked for goes on, but counts as lost: the next connection must wait for it. */
        nbd_conn_drop(conn);
        break;
    }
}

/* False: what a lost connection has asked for is under way, which may take effect over what is asked for now:
 * its client goes on with another one, a new one or one that was there before. */
static bool conn_admit(struct nbd_conn *conn)
{
    struct nbd_server *server = conn->server;

    if (server->lost_requests)
        return false;
    struct nbd_request *request = pool_get(&conn->requests);
    ASSERT(request); /* conn_may_receive() */
    conn->request_count++;
    nbd_request_start(conn, request, &conn->command);
    if (request->receiving) {
        conn->writing = request;
        conn->op.state = CONN_MEMORY;
    } else {
        conn->op.state = CONN_TURN;
    }
    return true;
}

/* False: no memory yet, or enough of this command is under way. */
static bool conn_begin_part(struct nbd_conn *conn)
{
    if (!nbd_request_has_window(conn->writing))
        return false;
    conn->part = nbd_part_get(conn, (uint32_t)MIN(conn->payload_left, (uint64_t)NBD_PART_MAX), &conn->wait);
    if (!conn->part)
        return false;
    conn_receive(conn, slice_data(&conn->part->data), conn->part->data.len);
    return true;
}

static void conn_end_part(struct nbd_conn *conn)
{
    conn->payload_left -= conn->part->data.len;
    nbd_request_write(conn->writing, conn->part);
    conn->part = NULL;
    if (conn->payload_left) {
        conn->op.state = CONN_MEMORY;
        return;
    }
    nbd_request_written(conn->writing, 0);
    conn->writing = NULL;
    conn->op.state = CONN_TURN;
}

/* What is half received is dropped; what was handed over goes on. */
static void conn_let_go(struct nbd_conn *conn)
{
    nbd_wait_end(conn->server, &conn->wait);
    if (conn->part)
        nbd_part_put(conn, conn->part);
    conn->part = NULL;
    if (conn->writing)
        nbd_request_written(conn->writing, -ERR_CLOSED);
    conn->writing = NULL;
}

static void conn_free(struct nbd_conn *conn)
{
    struct nbd_server *server = conn->server;

    if (conn->stream)
        conn_ops(conn)->close(conn->stream, true);
    nbd_wait_end(server, &conn->wait);
    list_remove(&conn->link);
    op_done(&conn->op, 0);
    pool_fini(&conn->parts);
    pool_fini(&conn->requests);
    free(conn);
    nbd_conn_freed(server);
}

/* Of its replies nothing is left that keeps memory. */
static bool conn_has_sent(struct nbd_conn *conn)
{
    struct core *core = conn->server->core;

    if (!nbd_conn_held_bytes(conn) || conn->server->stopping)
        return true;
    timer_arm(core, &conn->wait.timer, &conn->op, core_now_ns(core) + SENT_RETRY_NS);
    return false;
}

static void conn_step(struct op *op)
{
    struct nbd_conn *conn = container_of(op, struct nbd_conn, op);

    for (;;) {
        if (!conn->stream && op->state != CONN_GONE) {
            conn_let_go(conn);
            op->state = CONN_GONE;
        } else if (conn->stream && conn->server->stopping && op->state != CONN_FINISH) {
            if (conn->part) {
                /* The stream still owns that memory: the connection has to go first. */
                nbd_conn_drop(conn);
                continue;
            }
            conn_let_go(conn);
            op->state = CONN_FINISH;
        }
        switch ((enum conn_state)op->state) {
        case CONN_SEND:
            if (!conn->server->image || !conn_send_out(conn))
                return;
            op->state = conn->goodbye ? CONN_FINISH : CONN_TURN;
            break;
        case CONN_TURN: {
            size_t len;
            if (!conn_may_receive(conn))
                return;
            uint8_t *memory = nbd_protocol_want(&conn->protocol, &len);
            conn_receive(conn, memory, len);
            op->state = CONN_RECV;
            break;
        }
        case CONN_RECV:
            if (!conn->received)
                return;
            conn_take_input(conn);
            break;
        case CONN_ADMIT:
            if (!conn_admit(conn))
                return;
            break;
        case CONN_MEMORY:
            if (!conn_begin_part(conn))
                return;
            op->state = CONN_PAYLOAD;
            break;
        case CONN_PAYLOAD:
            if (!conn->received)
                return;
            conn_end_part(conn);
            break;
        case CONN_DRAIN:
            if (!conn->payload_left) {
                op->state = CONN_ADMIT;
                break;
            }
            conn_receive(conn, conn->protocol.in,
                         MIN(conn->payload_left, (uint64_t)sizeof(conn->protocol.in)));
            op->state = CONN_DRAINING;
            break;
        case CONN_DRAINING:
            if (!conn->received)
                return;
            conn->payload_left -= MIN(conn->payload_left, (uint64_t)sizeof(conn->protocol.in));
            op->state = CONN_DRAIN;
            break;
        case CONN_FINISH:
        case CONN_GONE:
            if (conn->request_count || !conn_has_sent(conn))
                return;
            conn_free(conn);
            return;
        }
    }
}

static const struct op_kind conn_kind = {"nbd.connection", conn_state_name, conn_step};

static struct nbd_conn *conn_new(void)
{
    struct nbd_conn *conn = calloc(1, sizeof(*conn));

    if (conn && pool_init(&conn->requests, sizeof(struct nbd_request), NBD_CONN_COMMANDS) == 0) {
        if (pool_init(&conn->parts, sizeof(struct nbd_part), NBD_CONN_PARTS) == 0)
            return conn;
        pool_fini(&conn->requests);
    }
    free(conn);
    return NULL;
}

/* Of those who were asked and have not said what they want, the one that has had the longest time for it
 * leaves. False: there is none. */
static bool conn_evict(struct nbd_server *server)
{
    list_for_each (&server->conns, node) {
        struct nbd_conn *conn = list_entry(node, struct nbd_conn, link);
        if (!server->image || !conn->stream || nbd_protocol_transmits(&conn->protocol))
            continue;
        core_log(server->core, LOG_WARN, "nbd", "connection %llu: closing: no handshake, and another comes",
                 (unsigned long long)conn->number);
        nbd_conn_drop(conn);
        return true;
    }
    return false;
}

/* Somebody relies on the size that it was told. Those that are gone, or have said goodbye, do not, though
 * some of their commands may be under way. */
static bool size_is_known(const struct nbd_server *server)
{
    list_for_each (&server->conns, node) {
        const struct nbd_conn *conn = list_entry(node, struct nbd_conn, link);
        if (conn->stream && !conn->goodbye)
            return true;
    }
    return false;
}

void nbd_conn_accepted(void *owner, struct stream *stream)
{
    struct nbd_server *server = owner;
    struct nbd_conn *conn = NULL;

    if (!server->stopping && (server->conn_count < NBD_CONNS_MAX || conn_evict(server)))
        conn = conn_new();
    if (!conn) {
        core_log(server->core, LOG_WARN, "nbd", "a connection is refused: there are %u already",
                 server->conn_count);
        stream->net->ops->close(stream, false);
        return;
    }
    conn->server = server;
    conn->stream = stream;
    conn->number = ++server->conn_next;
    stream->events = &conn_events;
    stream->owner = conn;
    list_init(&conn->senders);
    list_init(&conn->memory_waiters);
    list_init(&conn->big_waiters);
    if (server->image && !size_is_known(server))
        server->export.size_bytes = client_image_size(server->image);
    list_push_back(&server->conns, &conn->link);
    server->conn_count++;
    op_start(&conn->op, server->core, &conn_kind, NULL);
    nbd_wait_init(&conn->wait, &conn->op);
    nbd_protocol_start(&conn->protocol, &server->export);
}
