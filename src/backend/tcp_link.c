/* SPDX-License-Identifier: Apache-2.0
 *
 * The message link port over TCP: frames (wire/frame.h) on a socket (sock.h).
 *
 * Several frames are taken out of one receive. A frame's head stays in the receive buffer until the frame is
 * delivered; its payload goes where the owner wants it or else into a buffer of the arena, copied if it came
 * along with the head, received in place if much of it is still missing. Nothing is allocated by a length
 * alone but that buffer, whose length was checked against its limit.
 *
 *     HEADER ── 48 bytes, valid ──> BODY ── checksum holds ──> PAYLOAD ── all here ──> delivered, HEADER
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/sock.h"
#include "base/error.h"
#include "wire/frame.h"

/* Enough for a window of large writes and far more small frames than a peer leaves unread in health. */
#define LINK_TX_BYTES_MAX        (16u << 20)
#define TCP_LINK_USER_TIMEOUT_MS 10000

struct tcp_net {
    struct net net; /* first */
    struct uring_core *uc;
    struct list links;
    struct list listeners;
};

enum link_part { PART_HEADER, PART_BODY, PART_PAYLOAD };

struct tcp_link {
    struct link link; /* first */
    struct sock sock;
    struct uring_core *uc;
    struct list all;             /* in tcp_net.links until closed */
    struct uring_task fail_task; /* reports a connect that failed inside the call */
    int fail_error;
    char peer[ADDR_TEXT_SIZE];

    /* The frame that is arriving; its head begins at sock.rx_begin. */
    enum link_part part;
    struct frame_header header;
    uint32_t head_len;
    struct buf *payload; /* NULL: none, placed, or no memory for it */
    uint8_t *placed;     /* the owner's memory for it */
    uint32_t payload_have;
};

static struct tcp_link *link_of(struct sock *sock)
{
    return container_of(sock, struct tcp_link, sock);
}

static void tcp_link_refuse(struct tcp_link *l, const char *what, int error)
{
    core_log(&l->uc->core, LOG_WARN, "net", "closing the connection with %s: %s: %s (%s)", l->peer, what,
             error_text(error), error_name(error));
    sock_break(&l->sock, -ERR_PROTOCOL);
}

/* Where the payload goes; NULL: nowhere. */
static uint8_t *tcp_link_target(const struct tcp_link *l)
{
    return l->payload ? l->payload->data : l->placed;
}

/* What came of the payload behind the head moves to its buffer. Returns how many bytes of it are left
 * standing in the receive buffer between this head and the next one: none, unless the next one is there
 * already. */
static uint32_t tcp_link_take_payload(struct tcp_link *l)
{
    struct sock *sock = &l->sock;
    uint8_t *from = sock->rx + sock->rx_begin + l->head_len;
    uint32_t here = sock->rx_end - sock->rx_begin - l->head_len;
    uint32_t take = MIN(here, l->header.payload_len - l->payload_have);

    if (take && tcp_link_target(l)) {
        memcpy(tcp_link_target(l) + l->payload_have, from, take);
        l->uc->core.counters.copied_bytes += take;
    }
    l->payload_have += take;
    if (take < here)
        return take;
    sock->rx_end -= take;
    return 0;
}

/* Returns false when the link is gone. */
static bool tcp_link_deliver(struct tcp_link *l, uint32_t gap)
{
    struct sock *sock = &l->sock;
    struct buf *payload = l->payload;
    struct frame frame = {
        .head = sock->rx + sock->rx_begin,
        .head_len = l->head_len,
        .payload = {.buf = payload, .len = payload ? l->header.payload_len : 0},
        .payload_dropped = l->header.payload_len && !tcp_link_target(l),
        .placed = l->placed,
    };

    l->payload = NULL;
    l->placed = NULL;
    l->part = PART_HEADER;
    l->link.events->message(l->link.owner, &l->link, &frame);
    buf_unref(payload);
    sock->rx_begin += l->head_len + gap;
    return !sock->closed;
}

/* Takes the next part of a frame. Returns false when more bytes are needed, or the link is gone. */
static bool tcp_link_parse(struct tcp_link *l)
{
    struct sock *sock = &l->sock;
    const uint8_t *at = sock->rx + sock->rx_begin;
    uint32_t here = sock->rx_end - sock->rx_begin;
    int result;

    switch (l->part) {
    case PART_HEADER:
        if (here < FRAME_HEADER_SIZE)
            return false;
        result = frame_validate_header(at, &l->header);
        if (result) {
            tcp_link_refuse(l, "malformed header", result);
            return false;
        }
        l->head_len = FRAME_HEADER_SIZE + l->header.body_len;
        /* Beside a whole head there is always room to receive what follows. */
        if (sock_reserve(sock, l->head_len + SOCK_DIRECT_MIN)) {
            tcp_link_refuse(l, "no room for a body", -ERR_NO_MEMORY);
            return false;
        }
        l->part = PART_BODY;
        return true;
    case PART_BODY:
        if (here < l->head_len)
            return false;
        result = frame_validate_body(at, &l->header);
        if (result) {
            tcp_link_refuse(l, "malformed body", result);
            return false;
        }
        l->payload_have = 0;
        if (l->header.payload_len && l->link.events->place)
            l->placed =
                l->link.events->place(l->link.owner, &l->link, at, l->head_len, l->header.payload_len);
        if (l->header.payload_len && !l->placed && l->uc->core.arena)
            l->payload = buf_new(l->uc->core.arena, l->header.payload_len);
        /* What is dropped for want of memory goes through the buffer. */
        if (l->header.payload_len >= SOCK_LARGE_MIN && tcp_link_target(l))
            sock->rx_window = SOCK_RX_HEAD;
        else
            sock->rx_window =
                MIN(MAX(sock->rx_window + l->head_len + l->header.payload_len, SOCK_LARGE_MIN), SOCK_RX_LINK);
        l->part = PART_PAYLOAD;
        return true;
    case PART_PAYLOAD: {
        uint32_t gap = tcp_link_take_payload(l);
        if (l->payload_have == l->header.payload_len)
            return tcp_link_deliver(l, gap);
        uint32_t missing = l->header.payload_len - l->payload_have;
        if (tcp_link_target(l) && missing > SOCK_DIRECT_MIN) {
            sock->direct = tcp_link_target(l) + l->payload_have;
            sock->direct_len = missing;
        }
        return false;
    }
    }
    UNREACHABLE();
}

static bool tcp_link_input(struct sock *sock)
{
    struct tcp_link *l = link_of(sock);

    if (sock->direct) {
        l->payload_have = l->header.payload_len - (uint32_t)sock->direct_len;
        if (sock->direct_len == 0)
            sock->direct = NULL;
    }
    while (tcp_link_parse(l))
        ;
    return !sock->closed;
}

static void tcp_link_opened(struct sock *sock)
{
    struct tcp_link *l = link_of(sock);
    if (l->link.events->opened)
        l->link.events->opened(l->link.owner, &l->link);
}

static void tcp_link_broken(struct sock *sock, int error)
{
    struct tcp_link *l = link_of(sock);

    list_remove(&l->all);
    l->link.events->closed(l->link.owner, &l->link, error ? error : -ERR_CLOSED);
}

static void tcp_link_free(struct sock *sock)
{
    struct tcp_link *l = link_of(sock);

    buf_unref(l->payload);
    list_remove(&l->fail_task.link);
    free(l);
}

static const struct sock_ops tcp_link_sock_ops = {
    .opened = tcp_link_opened, .input = tcp_link_input, .broken = tcp_link_broken, .free = tcp_link_free};

/* A connect that could not even be started is reported from the loop like one that failed. */
static void tcp_link_fail(struct uring_task *task)
{
    struct tcp_link *l = container_of(task, struct tcp_link, fail_task);
    sock_break(&l->sock, l->fail_error);
}

/* Takes over the fd; NULL when there is no memory. */
static struct tcp_link *tcp_link_new(struct tcp_net *net, int fd, const struct addr *peer)
{
    struct tcp_link *l = calloc(1, sizeof(*l));

    if (!l || sock_init(&l->sock, net->uc, &tcp_link_sock_ops, fd, SOCK_RX_LINK, LINK_TX_BYTES_MAX)) {
        free(l);
        close(fd);
        return NULL;
    }
    l->link.net = &net->net;
    l->uc = net->uc;
    addr_format(peer, l->peer, sizeof(l->peer));
    list_init(&l->fail_task.link);
    l->fail_task.run = tcp_link_fail;
    list_push_back(&net->links, &l->all);
    sock_tcp_tune(fd, TCP_LINK_USER_TIMEOUT_MS);
    return l;
}

static struct link *tcp_connect(struct net *base, const char *address, const struct link_events *events,
                                void *owner)
{
    struct tcp_net *net = container_of(base, struct tcp_net, net);
    struct addr addr;

    if (addr_parse(address, false, &addr))
        return NULL;
    int fd = sock_tcp_new(addr.storage.ss_family);
    int failed = fd < 0 ? errno : 0;
    struct tcp_link *l = tcp_link_new(net, fd, &addr);
    /* Without memory for a handle there is nothing that the failure could be reported on. */
    ASSERT(l);
    link_own(&l->link, events, owner);
    if (failed) {
        l->fail_error = error_from_errno(failed);
        uring_task_queue(&net->uc->events, &l->fail_task);
    } else {
        sock_connect(&l->sock, &addr);
    }
    return &l->link;
}

static void tcp_close(struct link *link);

static void tcp_accepted(struct listener *listener, int fd, const struct addr *peer)
{
    struct tcp_net *net = listener->net;
    struct tcp_link *l = tcp_link_new(net, fd, peer);

    if (!l)
        return;
    sock_hold(&l->sock);
    ((void (*)(void *, struct link *))listener->event)(listener->owner, &l->link);
    if (l->link.events)
        sock_start(&l->sock);
    else
        tcp_close(&l->link);
    sock_release(&l->sock);
}

/* Port 0 takes any free one of these. They lie below those that kernels hand out to outgoing connections: a
 * daemon that is started again wants its old port back, which no connection of anybody may have taken
 * meanwhile. */
#define ANY_PORT_FIRST 27700
#define ANY_PORT_COUNT 2048

static in_port_t *addr_port(struct addr *addr)
{
    return addr->storage.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&addr->storage)->sin6_port
                                               : &((struct sockaddr_in *)&addr->storage)->sin_port;
}

static int tcp_listener_new(struct tcp_net *net, struct addr *addr, struct listener **ret_listener)
{
    bool any = *addr_port(addr) == 0;
    uint32_t first = (uint32_t)getpid(); /* others look elsewhere first */
    int result = -ERR_EXISTS;

    for (uint32_t i = 0; any && i < ANY_PORT_COUNT && result == -ERR_EXISTS; i++) {
        *addr_port(addr) = htons((uint16_t)(ANY_PORT_FIRST + (first + i) % ANY_PORT_COUNT));
        result = listener_new(net->uc, addr, tcp_accepted, ret_listener);
    }
    return any ? result : listener_new(net->uc, addr, tcp_accepted, ret_listener);
}

static int tcp_listen(struct net *base, const char *address, void (*accepted)(void *owner, struct link *link),
                      void *owner, char *ret_address, size_t ret_address_size)
{
    struct tcp_net *net = container_of(base, struct tcp_net, net);
    struct listener *listener;
    struct addr addr;
    int result = addr_parse(address, false, &addr);

    if (!result)
        result = tcp_listener_new(net, &addr, &listener);
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

static void tcp_unlisten(struct net *base, void *owner)
{
    struct tcp_net *net = container_of(base, struct tcp_net, net);

    list_for_each_safe (&net->listeners, node) {
        struct listener *listener = list_entry(node, struct listener, link);
        if (listener->owner != owner)
            continue;
        list_remove(&listener->link);
        listener_close(listener);
    }
}

static int tcp_send(struct link *link, const struct frame *frame)
{
    struct tcp_link *l = container_of(link, struct tcp_link, link);

    ASSERT(frame->piece_count <= FRAME_PIECES_MAX);
    return sock_send(&l->sock, frame->head, frame->head_len, frame->pieces, frame->piece_count,
                     frame->patient);
}

static uint64_t tcp_queued_bytes(const struct link *link)
{
    return container_of(link, const struct tcp_link, link)->sock.tx_bytes;
}

static void tcp_close(struct link *link)
{
    struct tcp_link *l = container_of(link, struct tcp_link, link);

    list_remove(&l->all);
    sock_close(&l->sock, false);
}

static const char *tcp_peer_address(const struct link *link)
{
    return container_of(link, struct tcp_link, link)->peer;
}

static const struct net_ops tcp_net_ops = {
    tcp_connect, tcp_listen, tcp_unlisten, tcp_send, tcp_queued_bytes, tcp_close, tcp_peer_address,
};

struct net *tcp_net_new(struct uring_core *uc)
{
    struct tcp_net *net = calloc(1, sizeof(*net));

    if (!net)
        return NULL;
    net->net.ops = &tcp_net_ops;
    net->uc = uc;
    list_init(&net->links);
    list_init(&net->listeners);
    return &net->net;
}

void tcp_net_free(struct net *base)
{
    if (!base)
        return;
    struct tcp_net *net = container_of(base, struct tcp_net, net);
    while (!list_empty(&net->listeners))
        listener_close(list_entry(list_pop_front(&net->listeners), struct listener, link));
    while (!list_empty(&net->links))
        sock_close(&list_entry(list_pop_front(&net->links), struct tcp_link, all)->sock, false);
    free(net);
}
