/* SPDX-License-Identifier: Apache-2.0
 *
 * The byte stream port over TCP and unix sockets (sock.h).
 *
 * Receives read ahead into the socket's buffer, so that many small requests cost one call; of a large one the
 * part that is missing is received in place. What can be served from the buffer at once is reported by an
 * event task, never from inside the call. Nothing is read while the owner asks for nothing, except into an
 * empty buffer, to notice that the peer has gone.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/sock.h"
#include "base/error.h"

#define STREAM_TX_BYTES_MAX    (16u << 20)
#define STREAM_USER_TIMEOUT_MS 30000 /* a client may be busy with what it read for a while */

struct uring_stream_net {
    struct stream_net net; /* first */
    struct uring_core *uc;
    struct list streams; /* not closed, or still sending */
    struct list listeners;
};

struct uring_stream {
    struct stream stream; /* first */
    struct sock sock;
    struct list all;
    struct uring_task ready_task;
    uint8_t *want; /* what the owner asked for and does not have yet; NULL: nothing */
    size_t want_len;
    bool serving; /* inside stream_serve() */
    struct uring_req hangup_req;
    bool hangup_armed;
};

static struct uring_stream *stream_of(struct sock *sock)
{
    return container_of(sock, struct uring_stream, sock);
}

/* Moves bytes from the buffer to where the owner wants them. */
static void stream_fill(struct uring_stream *s)
{
    struct sock *sock = &s->sock;
    size_t take = MIN(s->want_len, (size_t)(sock->rx_end - sock->rx_begin));

    memcpy(s->want, sock->rx + sock->rx_begin, take);
    sock->uc->core.counters.copied_bytes += take;
    sock->rx_begin += (uint32_t)take;
    s->want += take;
    s->want_len -= take;
}

/* Hands out what there is, request by request. The socket is held. Returns whether to receive. */
static bool stream_serve(struct uring_stream *s)
{
    struct sock *sock = &s->sock;

    s->serving = true;
    while (!sock->closed && s->want) {
        stream_fill(s);
        if (s->want_len)
            break;
        s->want = NULL;
        s->stream.events->received(s->stream.owner, &s->stream);
    }
    s->serving = false;
    if (sock->closed)
        return false;
    if (s->want && s->want_len >= SOCK_DIRECT_MIN && !sock->rx_armed) {
        sock->direct = s->want;
        sock->direct_len = s->want_len;
    }
    return s->want || sock->rx_begin == sock->rx_end;
}

static bool stream_input(struct sock *sock)
{
    struct uring_stream *s = stream_of(sock);

    if (sock->direct) {
        s->want = sock->direct;
        s->want_len = sock->direct_len;
        sock->direct = NULL;
        sock->direct_len = 0;
    }
    return stream_serve(s);
}

static void stream_ready(struct uring_task *task)
{
    struct uring_stream *s = container_of(task, struct uring_stream, ready_task);

    /* A receive under way into the buffer will serve what is left. */
    sock_hold(&s->sock);
    if (stream_serve(s))
        sock_receive(&s->sock);
    sock_release(&s->sock);
}

static void stream_drained(struct sock *sock)
{
    struct uring_stream *s = stream_of(sock);
    if (s->stream.events->writable)
        s->stream.events->writable(s->stream.owner, &s->stream);
}

/* That the peer has shut its side down is learned at once, in front of what it sent before and nobody has
 * read: it has given up on that, and may be back on another connection already. */
static void stream_hangup_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct uring_stream *s = container_of(req, struct uring_stream, hangup_req);

    s->hangup_armed = false;
    if (!s->sock.closed)
        sock_break(&s->sock, 0);
    sock_release(&s->sock);
}

static void stream_hangup_arm(struct uring_stream *s)
{
    struct io_uring_sqe *sqe = uring_sqe(s->sock.uc);

    io_uring_prep_poll_add(sqe, s->sock.fd, POLLRDHUP);
    uring_sqe_own(s->sock.uc, sqe, &s->hangup_req);
    s->hangup_req.done = stream_hangup_done;
    s->hangup_armed = true;
    sock_hold(&s->sock);
}

static void stream_hangup_cancel(struct uring_stream *s)
{
    if (s->hangup_armed)
        uring_cancel(s->sock.uc, &s->hangup_req);
}

static void stream_broken(struct sock *sock, int error)
{
    struct uring_stream *s = stream_of(sock);

    stream_hangup_cancel(s);
    s->stream.events->closed(s->stream.owner, &s->stream, error);
}

static void stream_free(struct sock *sock)
{
    struct uring_stream *s = stream_of(sock);

    list_remove(&s->all);
    list_remove(&s->ready_task.link);
    free(s);
}

static const struct sock_ops stream_sock_ops = {
    .input = stream_input, .drained = stream_drained, .broken = stream_broken, .free = stream_free};

static void stream_close(struct stream *stream, bool flush);

static void stream_accepted(struct listener *listener, int fd, const struct addr *peer)
{
    struct uring_stream_net *net = listener->net;
    struct uring_stream *s = calloc(1, sizeof(*s));

    if (!s || sock_init(&s->sock, net->uc, &stream_sock_ops, fd, SOCK_RX_STREAM, STREAM_TX_BYTES_MAX)) {
        free(s);
        close(fd);
        return;
    }
    s->stream.net = &net->net;
    list_init(&s->ready_task.link);
    s->ready_task.run = stream_ready;
    list_push_back(&net->streams, &s->all);
    if (peer->storage.ss_family == AF_INET || peer->storage.ss_family == AF_INET6)
        sock_tcp_tune(fd, STREAM_USER_TIMEOUT_MS);
    sock_hold(&s->sock);
    ((void (*)(void *, struct stream *))listener->event)(listener->owner, &s->stream);
    if (s->stream.events && !s->sock.closed) {
        stream_hangup_arm(s);
        sock_start(&s->sock);
    } else
        stream_close(&s->stream, false);
    sock_release(&s->sock);
}

static int stream_listen(struct stream_net *base, const char *address,
                         void (*accepted)(void *owner, struct stream *stream), void *owner, char *ret_address,
                         size_t ret_address_size)
{
    struct uring_stream_net *net = container_of(base, struct uring_stream_net, net);
    struct listener *listener;
    struct addr addr;
    int result = addr_parse(address, true, &addr);

    if (!result)
        result = listener_new(net->uc, &addr, stream_accepted, &listener);
    if (result)
        return result;
    listener->net = net;
    listener->owner = owner;
    listener->event = (void (*)(void))accepted;
    list_push_back(&net->listeners, &listener->link);
    if (ret_address)
        addr_format(&listener->addr, ret_address, ret_address_size);
    return 0;
}

static void stream_unlisten(struct stream_net *base)
{
    struct uring_stream_net *net = container_of(base, struct uring_stream_net, net);

    while (!list_empty(&net->listeners))
        listener_close(list_entry(list_pop_front(&net->listeners), struct listener, link));
}

static void stream_recv(struct stream *stream, void *memory, size_t len)
{
    struct uring_stream *s = container_of(stream, struct uring_stream, stream);
    struct sock *sock = &s->sock;

    ASSERT(!s->want && !sock->direct);
    s->want = memory;
    s->want_len = len;
    if (s->serving || sock->closed)
        return;
    if (len == 0 || sock->rx_begin != sock->rx_end || !sock->rx_armed)
        uring_task_queue(&sock->uc->events, &s->ready_task);
}

static int stream_send(struct stream *stream, const void *head, size_t head_len, const struct slice *payload)
{
    struct uring_stream *s = container_of(stream, struct uring_stream, stream);
    return sock_send(&s->sock, head, head_len, payload, payload && payload->buf ? 1 : 0, false);
}

static uint64_t stream_held_bytes(const struct stream *stream)
{
    return container_of(stream, const struct uring_stream, stream)->sock.tx_held_bytes;
}

static void stream_close(struct stream *stream, bool flush)
{
    struct uring_stream *s = container_of(stream, struct uring_stream, stream);

    stream_hangup_cancel(s);
    sock_close(&s->sock, flush);
}

static const struct stream_ops uring_stream_ops = {stream_listen, stream_unlisten,   stream_recv,
                                                   stream_send,   stream_held_bytes, stream_close};

struct stream_net *uring_stream_net_new(struct uring_core *uc)
{
    struct uring_stream_net *net = calloc(1, sizeof(*net));

    if (!net)
        return NULL;
    net->net.ops = &uring_stream_ops;
    net->uc = uc;
    list_init(&net->streams);
    list_init(&net->listeners);
    return &net->net;
}

void uring_stream_net_free(struct stream_net *base)
{
    if (!base)
        return;
    struct uring_stream_net *net = container_of(base, struct uring_stream_net, net);
    stream_unlisten(base);
    while (!list_empty(&net->streams))
        stream_close(&list_entry(list_pop_front(&net->streams), struct uring_stream, all)->stream, false);
    free(net);
}
