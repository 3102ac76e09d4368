/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of two ends, and packets on their way.
 *
 * A packet arrives (packet_arrive) at the time drawn when it was sent, joins the stream towards its end, and
 * the stream is pushed: if the path is open and the end is there, all that waits is handed to the end's node
 * by an event of that node, so that a paused node gets it later and a crashed one never. Otherwise the stream
 * waits and is pushed again at growing intervals. Ends are looked up at each step: between any two steps a
 * node may die.
 */
#include "sim/sim_net.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "wire/frame.h"

#define HOSTS_MAX         SIM_NODES_MAX
#define HOST_NAME_MAX_LEN 32
#define ADDRESS_MAX       64
#define RETRY_MIN_NS      (200 * NS_PER_MS)
#define RETRY_MAX_NS      (3 * NS_PER_S)
#define BYTES_PER_NS      1 /* transfer rate: 1 GB/s */
#define FIRST_FREE_PORT   40000
#define FIN_PERCENT       60 /* of the ends that go are orderly: what was sent arrives before */

enum packet_kind { PACKET_SYN, PACKET_ACCEPTED, PACKET_FRAME, PACKET_FIN, PACKET_RST, PACKET_BREAK };

struct port {
    struct net net;
    struct sim_net *owner;
    struct sim_node *node;
    uint32_t host;
    uint32_t next_port;
    struct sim_crash_hook hook;
    struct list link;
};

struct listener {
    struct list link;
    struct port *port;
    char address[ADDRESS_MAX];
    void (*accepted)(void *owner, struct link *link);
    void *owner;
};

struct slink {
    struct link link;
    struct conn *conn;
    uint32_t side;
    bool broken;  /* a break is on its way to the owner */
    bool closing; /* inside its `closed` event */
    char peer[ADDRESS_MAX];
};

struct end {
    struct slink *link; /* NULL: not yet, or no longer */
    struct port *port;  /* NULL: nobody has accepted yet */
    uint32_t host;
    /* The stream towards this end. */
    uint64_t last_ns; /* arrival of its newest packet */
    struct list waiting;
    struct sim_event retry;
    uint32_t tries;
    uint64_t waiting_since_ns;
    uint64_t queued_bytes;
    uint64_t held_until_ns;
    bool blackhole;
};

struct conn {
    struct list link;
    struct sim_net *net;
    struct end end[2];   /* 0: the caller */
    struct list packets; /* all that refer to it, wherever they are */
    uint64_t number;
    struct sim_event connect_timer;
    bool accepted, opened;
    char address[ADDRESS_MAX];
};

struct packet {
    struct sim_event event;
    struct list link; /* in the stream that waits */
    struct list all;
    struct conn *conn;
    uint32_t to;
    enum packet_kind kind;
    int error; /* PACKET_BREAK */
    bool ordered;
    uint32_t head_len, payload_len;
    uint8_t *bytes; /* head, then payload */
};

struct sim_net {
    struct sim *sim;
    struct sim_net_config config;
    struct sim_rng delay, faults;
    struct list ports, listeners, conns;
    char hosts[HOSTS_MAX][HOST_NAME_MAX_LEN];
    uint32_t host_count;
    uint8_t path[HOSTS_MAX][HOSTS_MAX];           /* from, to */
    uint64_t held_until_ns[HOSTS_MAX][HOSTS_MAX]; /* from, to */
    uint64_t lag_ns[HOSTS_MAX][HOSTS_MAX];        /* from, to */
    uint64_t conn_count;
    struct sim_net_stats stats;
};

static const struct net_ops SIM_NET_OPS;
static void packet_arrive(struct sim_event *event);
static void packet_deliver(struct sim_event *event);
static void packet_drop(struct sim_event *event);
static void stream_push(struct conn *conn, uint32_t to);
static void stream_retry_0(struct sim_event *event);
static void stream_retry_1(struct sim_event *event);
static void connect_timed_out(struct sim_event *event);

/* ---- hosts
 * ---------------------------------------------------------------------------------------------------- */

static uint32_t host_get(struct sim_net *net, const char *name)
{
    for (uint32_t i = 0; i < net->host_count; i++)
        if (strcmp(net->hosts[i], name) == 0)
            return i;
    ASSERT(net->host_count < HOSTS_MAX && strlen(name) < sizeof(net->hosts[0]));
    strcpy(net->hosts[net->host_count], name);
    return net->host_count++;
}

/* A kernel answers there. */
static bool host_up(const struct sim_net *net, uint32_t host)
{
    list_for_each (&net->ports, node) {
        struct port *port = list_entry(node, struct port, link);
        if (port->host == host && port->node->state != SIM_NODE_DOWN)
            return true;
    }
    return false;
}

static enum sim_path path_of(const struct sim_net *net, uint32_t from, uint32_t to)
{
    if (from == to)
        return SIM_PATH_OPEN;
    return (enum sim_path)net->path[from][to];
}

/* "host:port", both as numbers. */
static bool address_parse(const char *address, char host[ADDRESS_MAX], uint32_t *ret_port)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    if (!colon || colon == address || (size_t)(colon - address) >= HOST_NAME_MAX_LEN)
        return false;
    if (text_parse_u64(colon + 1, &port) || port > 65535)
        return false;
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct in_addr in;
    if (inet_pton(AF_INET, host, &in) != 1)
        return false;
    *ret_port = (uint32_t)port;
    return true;
}

/* ---- connections and packets
 * ---------------------------------------------------------------------------------- */

static void conn_free(struct conn *conn)
{
    struct sim *sim = conn->net->sim;

    for (uint32_t i = 0; i < 2; i++) {
        ASSERT(list_empty(&conn->end[i].waiting));
        sim_unschedule(sim, &conn->end[i].retry);
    }
    sim_unschedule(sim, &conn->connect_timer);
    list_remove(&conn->link);
    free(conn);
}

/* Frees the connection when nothing refers to it any more. */
static void conn_settle(struct conn *conn)
{
    if (!conn->end[0].link && !conn->end[1].link && list_empty(&conn->packets))
        conn_free(conn);
}

/* Does not settle the connection. */
static void packet_discard(struct packet *packet)
{
    struct conn *conn = packet->conn;

    list_remove(&packet->link);
    sim_unschedule(conn->net->sim, &packet->event);
    if (packet->kind == PACKET_FRAME)
        conn->end[packet->to].queued_bytes -= packet->head_len + packet->payload_len;
    list_remove(&packet->all);
    free(packet->bytes);
    free(packet);
}

static void packet_free(struct packet *packet)
{
    struct conn *conn = packet->conn;

    packet_discard(packet);
    conn_settle(conn);
}

static void packet_drop(struct sim_event *event)
{
    packet_free(container_of(event, struct packet, event));
}

static uint64_t draw_delay(struct sim_net *net, uint64_t bytes)
{
    return sim_rng_latency(&net->delay, net->config.delay_min_ns, net->config.delay_typical_ns) +
           bytes / BYTES_PER_NS;
}

static struct packet *packet_new(struct conn *conn, uint32_t to, enum packet_kind kind)
{
    struct packet *packet = sim_alloc(sizeof(*packet));

    packet->event = (struct sim_event){.fire = packet_arrive, .drop = packet_drop};
    list_init(&packet->link);
    packet->conn = conn;
    packet->to = to;
    packet->kind = kind;
    packet->ordered = true;
    list_push_back(&conn->packets, &packet->all);
    return packet;
}

static void packet_send(struct packet *packet, uint64_t more_ns)
{
    struct conn *conn = packet->conn;
    struct sim_net *net = conn->net;
    struct end *to = &conn->end[packet->to];
    uint64_t at_ns = net->sim->now_ns + draw_delay(net, packet->head_len + packet->payload_len) + more_ns +
                     net->lag_ns[conn->end[!packet->to].host][to->host];

    if (packet->ordered)
        at_ns = to->last_ns = MAX(at_ns, to->last_ns + 1);
    sim_schedule(net->sim, &packet->event, at_ns - net->sim->now_ns);
}

/* Tells the owner of an end that its link is gone, soon. */
static void end_break(struct conn *conn, uint32_t side, int error)
{
    struct end *end = &conn->end[side];

    if (!end->link || end->link->broken)
        return;
    end->link->broken = true;
    conn->net->stats.broken++;
    struct packet *packet = packet_new(conn, side, PACKET_BREAK);
    packet->error = error;
    packet->event.node = end->port->node;
    packet->event.fire = packet_deliver;
    sim_schedule(conn->net->sim, &packet->event, 0);
}

/* One end leaves; the other one hears of it after what was sent, or before. */
static void send_goodbye(struct conn *conn, uint32_t to)
{
    struct sim_net *net = conn->net;
    bool fin = sim_rng_below(&net->faults, 100) < FIN_PERCENT;
    struct packet *packet = packet_new(conn, to, fin ? PACKET_FIN : PACKET_RST);

    packet->ordered = fin;
    packet_send(packet, 0);
}

static void send_reset(struct conn *conn, uint32_t to)
{
    struct packet *packet = packet_new(conn, to, PACKET_RST);

    packet->ordered = false;
    packet_send(packet, 0);
}

/* ---- streams
 * -------------------------------------------------------------------------------------------------- */

static void stream_discard(struct conn *conn, uint32_t to)
{
    struct end *end = &conn->end[to];

    list_for_each_safe (&end->waiting, node)
        packet_discard(list_entry(node, struct packet, link));
    end->tries = 0;
    sim_unschedule(conn->net->sim, &end->retry);
}

static void stream_wait_for(struct conn *conn, uint32_t to, uint64_t delay_ns)
{
    struct end *end = &conn->end[to];

    end->retry.fire = to ? stream_retry_1 : stream_retry_0;
    sim_schedule(conn->net->sim, &end->retry, delay_ns);
}

static void stream_wait(struct conn *conn, uint32_t to)
{
    struct end *end = &conn->end[to];
    uint64_t delay_ns = MIN(RETRY_MIN_NS << MIN(end->tries, 8u), RETRY_MAX_NS);

    if (end->tries == 0)
        end->waiting_since_ns = conn->net->sim->now_ns;
    end->tries++;
    stream_wait_for(conn, to, delay_ns);
}

/* Until when what goes to this end is held up; in the past: it is not. */
static uint64_t stream_held_until_ns(const struct conn *conn, uint32_t to)
{
    return MAX(conn->end[to].held_until_ns,
               conn->net->held_until_ns[conn->end[!to].host][conn->end[to].host]);
}

/* Hands a packet to the node of its end. */
static void packet_hand_over(struct packet *packet, struct sim_node *node)
{
    packet->event.node = node;
    packet->event.fire = packet_deliver;
    sim_schedule(packet->conn->net->sim, &packet->event, 0);
}

static struct listener *listener_find(const struct sim_net *net, const char *address)
{
    list_for_each (&net->listeners, node) {
        struct listener *listener = list_entry(node, struct listener, link);
        if (strcmp(listener->address, address) == 0)
            return listener;
    }
    return NULL;
}

/* The node that is to get what goes to this end, or NULL: nobody is there. */
static struct sim_node *stream_target(const struct conn *conn, uint32_t to)
{
    const struct packet *first = list_first(&conn->end[to].waiting, struct packet, link);

    if (conn->end[to].link)
        return conn->end[to].port->node;
    if (first && first->kind == PACKET_SYN) {
        struct listener *listener = listener_find(conn->net, conn->address);
        return listener ? listener->port->node : NULL;
    }
    return NULL;
}

static void stream_push(struct conn *conn, uint32_t to)
{
    struct sim_net *net = conn->net;
    struct end *end = &conn->end[to];
    enum sim_path path = path_of(net, conn->end[!to].host, end->host);
    struct sim_node *target = stream_target(conn, to);
    const struct packet *first = list_first(&end->waiting, struct packet, link);

    if (!first)
        return;
    uint64_t held_until_ns = stream_held_until_ns(conn, to);
    if (held_until_ns > net->sim->now_ns) {
        stream_wait_for(conn, to, held_until_ns - net->sim->now_ns);
        return;
    }
    if (path == SIM_PATH_OPEN && !end->blackhole) {
        if (target) {
            end->tries = 0;
            for (struct list *node; (node = list_pop_front(&end->waiting));)
                packet_hand_over(list_entry(node, struct packet, link), target);
            return;
        }
        if (host_up(net, end->host)) {
            if (first->kind == PACKET_SYN)
                net->stats.refused++;
            if (conn->end[!to].link)
                send_reset(conn, !to);
            stream_discard(conn, to);
            conn_settle(conn);
            return;
        }
    }
    if (path == SIM_PATH_REJECT) {
        end_break(conn, !to, first->kind == PACKET_SYN ? -ERR_UNREACHABLE : -ERR_CLOSED);
        stream_discard(conn, to);
        conn_settle(conn);
        return;
    }
    if (end->tries && net->sim->now_ns - end->waiting_since_ns >= net->config.give_up_ns) {
        end_break(conn, !to, -ERR_TIMEOUT);
        stream_discard(conn, to);
        conn_settle(conn);
        return;
    }
    stream_wait(conn, to);
}

static void stream_retry_0(struct sim_event *event)
{
    stream_push(container_of(event, struct conn, end[0].retry), 0);
}

static void stream_retry_1(struct sim_event *event)
{
    stream_push(container_of(event, struct conn, end[1].retry), 1);
}

static void packet_arrive(struct sim_event *event)
{
    struct packet *packet = container_of(event, struct packet, event);
    struct conn *conn = packet->conn;
    struct end *end = &conn->end[packet->to];

    if (packet->kind == PACKET_RST) {
        /* Not repeated when lost: the sender has forgotten the link. */
        bool through = path_of(conn->net, conn->end[!packet->to].host, end->host) == SIM_PATH_OPEN &&
                       stream_held_until_ns(conn, packet->to) <= conn->net->sim->now_ns;
        if (!through || !end->link)
            packet_free(packet);
        else
            packet_hand_over(packet, end->port->node);
        return;
    }
    bool waits = !list_empty(&end->waiting);
    list_push_back(&end->waiting, &packet->link);
    if (!waits)
        stream_push(conn, packet->to);
}

/* ---- delivery: in the node's context
 * -------------------------------------------------------------------------- */

static struct slink *slink_new(struct conn *conn, uint32_t side, struct port *port, const char *peer)
{
    struct slink *slink = sim_alloc(sizeof(*slink));

    slink->link.net = &port->net;
    slink->conn = conn;
    slink->side = side;
    snprintf(slink->peer, sizeof(slink->peer), "%.63s", peer);
    conn->end[side].link = slink;
    conn->end[side].port = port;
    conn->end[side].host = port->host;
    return slink;
}

static void end_closed(struct conn *conn, uint32_t side, int error)
{
    struct slink *slink = conn->end[side].link;

    if (!slink)
        return;
    conn->end[side].link = NULL;
    slink->closing = true;
    slink->link.events->closed(slink->link.owner, &slink->link, error);
    free(slink);
}

static void deliver_syn(struct conn *conn)
{
    struct sim_net *net = conn->net;
    struct listener *listener = listener_find(net, conn->address);

    if (!listener) {
        net->stats.refused++;
        send_reset(conn, 0);
        return;
    }
    if (!conn->end[0].link && conn->end[0].port->node->state == SIM_NODE_DOWN)
        return;
    char peer[ADDRESS_MAX];
    snprintf(peer, sizeof(peer), "%.31s:%u", net->hosts[conn->end[0].host],
             FIRST_FREE_PORT + (unsigned)(conn->number % 20000));
    struct slink *slink = slink_new(conn, 1, listener->port, peer);
    net->stats.accepted++;
    conn->accepted = true;
    packet_send(packet_new(conn, 0, PACKET_ACCEPTED), 0);
    listener->accepted(listener->owner, &slink->link);
    ASSERT(!conn->end[1].link || conn->end[1].link->link.events);
}

static void deliver_frame(struct conn *conn, struct packet *packet)
{
    struct sim_net *net = conn->net;
    struct slink *slink = conn->end[packet->to].link;
    struct sim_node *node = conn->end[packet->to].port->node;
    struct frame_header header;

    if (!slink || slink->broken)
        return;
    if (!conn->end[!packet->to].link)
        net->stats.late++;
    int error =
        packet->head_len < FRAME_HEADER_SIZE ? -ERR_PROTOCOL : frame_validate_header(packet->bytes, &header);
    if (!error && (header.body_len != packet->head_len - FRAME_HEADER_SIZE ||
                   header.payload_len != packet->payload_len))
        error = -ERR_PROTOCOL;
    if (!error)
        error = frame_validate_body(packet->bytes, &header);
    if (error) {
        sim_log(net->sim, "%s: a frame from %s is broken: %s", node->name, slink->peer, error_text(error));
        if (conn->end[!packet->to].link)
            send_reset(conn, !packet->to);
        end_closed(conn, packet->to, -ERR_PROTOCOL);
        return;
    }
    struct frame frame = {.head = packet->bytes, .head_len = packet->head_len};
    const struct link_events *events = slink->link.events;
    if (packet->payload_len && events->place)
        frame.placed = events->place(slink->link.owner, &slink->link, packet->bytes, packet->head_len,
                                     packet->payload_len);
    if (frame.placed) {
        memcpy(frame.placed, packet->bytes + packet->head_len, packet->payload_len);
    } else if (packet->payload_len) {
        struct buf *buf = node->core.arena ? buf_new(node->core.arena, packet->payload_len) : NULL;
        if (buf) {
            memcpy(buf->data, packet->bytes + packet->head_len, packet->payload_len);
            frame.payload = (struct slice){buf, 0, packet->payload_len};
        } else {
            frame.payload_dropped = true;
            net->stats.payloads_dropped++;
        }
    }
    net->stats.delivered++;
    node->core.counters.net_bytes_in += packet->head_len + packet->payload_len;
    sim_trace(net->sim, "frame", hash_pair(conn->number, packet->to),
              hash_bytes(packet->payload_len, packet->bytes, packet->head_len));
    struct buf *payload = frame.payload.buf;
    events->message(slink->link.owner, &slink->link, &frame);
    buf_unref(payload);
}

static void packet_deliver(struct sim_event *event)
{
    struct packet *packet = container_of(event, struct packet, event);
    struct conn *conn = packet->conn;
    struct slink *slink = conn->end[packet->to].link;

    switch (packet->kind) {
    case PACKET_SYN:
        deliver_syn(conn);
        break;
    case PACKET_ACCEPTED:
        conn->opened = true;
        sim_unschedule(conn->net->sim, &conn->connect_timer);
        if (slink && !slink->broken && slink->link.events->opened)
            slink->link.events->opened(slink->link.owner, &slink->link);
        break;
    case PACKET_FRAME:
        deliver_frame(conn, packet);
        break;
    case PACKET_FIN:
        end_closed(conn, packet->to, -ERR_CLOSED);
        break;
    case PACKET_RST:
        end_closed(conn, packet->to, packet->to == 0 && !conn->accepted ? -ERR_UNREACHABLE : -ERR_CLOSED);
        break;
    case PACKET_BREAK:
        end_closed(conn, packet->to, packet->error);
        break;
    }
    packet_free(packet);
}

/* ---- the port
 * ------------------------------------------------------------------------------------------------- */

static struct link *net_sim_connect(struct net *net, const char *address, const struct link_events *events,
                                    void *owner)
{
    struct port *port = container_of(net, struct port, net);
    struct sim_net *sn = port->owner;
    char host[ADDRESS_MAX];
    uint32_t number;

    if (!address_parse(address, host, &number) || number == 0)
        return NULL;
    struct conn *conn = sim_alloc(sizeof(*conn));
    conn->net = sn;
    list_init(&conn->packets);
    conn->number = ++sn->conn_count;
    snprintf(conn->address, sizeof(conn->address), "%s", address);
    for (uint32_t i = 0; i < 2; i++)
        list_init(&conn->end[i].waiting);
    conn->end[1].host = host_get(sn, host);
    list_push_back(&sn->conns, &conn->link);
    sn->stats.connects++;
    struct slink *slink = slink_new(conn, 0, port, address);
    link_own(&slink->link, events, owner);
    conn->connect_timer.fire = connect_timed_out;
    sim_schedule(sn->sim, &conn->connect_timer, sn->config.connect_give_up_ns);
    packet_send(packet_new(conn, 1, PACKET_SYN), 0);
    return &slink->link;
}

static void connect_timed_out(struct sim_event *event)
{
    struct conn *conn = container_of(event, struct conn, connect_timer);

    end_break(conn, 0, -ERR_TIMEOUT);
    stream_discard(conn, 1);
    conn_settle(conn);
}

static int net_sim_listen(struct net *net, const char *address,
                          void (*accepted)(void *owner, struct link *link), void *owner, char *ret_address,
                          size_t ret_address_size)
{
    struct port *port = container_of(net, struct port, net);
    struct sim_net *sn = port->owner;
    char host[ADDRESS_MAX], bound[ADDRESS_MAX];
    uint32_t number;

    if (!address_parse(address, host, &number))
        return -ERR_INVALID;
    if (strcmp(host, "0.0.0.0") != 0 && strcmp(host, port->node->host) != 0)
        return -ERR_INVALID;
    for (;;) {
        snprintf(bound, sizeof(bound), "%.31s:%u", port->node->host, number ? number : port->next_port);
        if (!listener_find(sn, bound))
            break;
        if (number)
            return -ERR_EXISTS;
        port->next_port++;
    }
    if (text_copy(ret_address, ret_address_size, bound))
        return -ERR_TOO_LARGE;
    struct listener *listener = sim_alloc(sizeof(*listener));
    listener->port = port;
    memcpy(listener->address, bound, sizeof(bound));
    listener->accepted = accepted;
    listener->owner = owner;
    list_push_back(&sn->listeners, &listener->link);
    return 0;
}

static void net_sim_unlisten(struct net *net, void *owner)
{
    struct port *port = container_of(net, struct port, net);

    list_for_each_safe (&port->owner->listeners, node) {
        struct listener *listener = list_entry(node, struct listener, link);
        if (listener->port != port || listener->owner != owner)
            continue;
        list_remove(&listener->link);
        free(listener);
    }
}

static uint32_t frame_payload_len(const struct frame *frame)
{
    uint32_t len = 0;

    ASSERT(frame->piece_count <= FRAME_PIECES_MAX);
    for (uint32_t i = 0; i < frame->piece_count; i++) {
        ASSERT(frame->pieces[i].buf || !frame->pieces[i].len);
        len += frame->pieces[i].len;
    }
    return len;
}

static void frame_check(const struct frame *frame)
{
    struct frame_header header;

    ASSERT(frame->head_len >= FRAME_HEADER_SIZE);
    int error = frame_validate_header(frame->head, &header);
    ASSERT(!error && header.body_len == frame->head_len - FRAME_HEADER_SIZE);
    error = frame_validate_body(frame->head, &header);
    ASSERT(!error && header.payload_len == frame_payload_len(frame));
}

static struct packet *frame_packet(struct conn *conn, uint32_t to, const struct frame *frame)
{
    struct packet *packet = packet_new(conn, to, PACKET_FRAME);

    packet->head_len = frame->head_len;
    packet->payload_len = frame_payload_len(frame);
    packet->bytes = sim_alloc_bytes((size_t)packet->head_len + packet->payload_len);
    memcpy(packet->bytes, frame->head, packet->head_len);
    uint8_t *at = packet->bytes + packet->head_len;
    for (uint32_t i = 0; i < frame->piece_count; i++) {
        if (frame->pieces[i].len)
            memcpy(at, slice_data(&frame->pieces[i]), frame->pieces[i].len);
        at += frame->pieces[i].len;
    }
    conn->end[to].queued_bytes += packet->head_len + packet->payload_len;
    return packet;
}

static void conn_break(struct conn *conn)
{
    end_break(conn, 0, -ERR_CLOSED);
    end_break(conn, 1, -ERR_CLOSED);
}

static int net_sim_send(struct link *link, const struct frame *frame)
{
    struct slink *slink = container_of(link, struct slink, link);
    struct conn *conn = slink->conn;
    struct sim_net *net = conn->net;
    const struct sim_net_faults *f = &net->config.faults;
    uint32_t to = !slink->side;
    struct frame_header header;

    frame_check(frame);
    if (slink->broken)
        return -ERR_CLOSED;
    if (conn->end[to].queued_bytes >= net->config.queue_max_bytes ||
        sim_rng_chance(&net->faults, f->busy_ppm))
        return -ERR_BUSY;
    net->stats.frames++;
    conn->end[slink->side].port->node->core.counters.net_bytes_out +=
        frame->head_len + frame_payload_len(frame);
    if (sim_rng_chance(&net->faults, f->break_ppm)) {
        sim_injected(net->sim, SIM_FAULT_NET_BREAK);
        conn_break(conn);
        return 0;
    }
    if (sim_rng_chance(&net->faults, f->blackhole_ppm)) {
        sim_injected(net->sim, SIM_FAULT_NET_LOSS);
        conn->end[to].blackhole = true;
    }
    if (frame_validate_header(frame->head, &header))
        UNREACHABLE();
    bool oneway = header.flags == FRAME_ONEWAY;
    if (oneway && sim_rng_chance(&net->faults, f->oneway_drop_ppm)) {
        net->stats.dropped++;
        sim_injected(net->sim, SIM_FAULT_NET_LOSS);
        return 0;
    }
    struct packet *packet = frame_packet(conn, to, frame);
    if (sim_rng_chance(&net->faults, f->corrupt_ppm)) {
        sim_injected(net->sim, SIM_FAULT_NET_CORRUPT);
        packet->bytes[sim_rng_below(&net->faults, packet->head_len + packet->payload_len)] ^=
            (uint8_t)(1u << sim_rng_below(&net->faults, 8));
    }
    if (oneway && sim_rng_chance(&net->faults, f->oneway_dup_ppm)) {
        struct packet *copy = frame_packet(conn, to, frame);
        copy->ordered = false;
        net->stats.duplicated++;
        sim_injected(net->sim, SIM_FAULT_NET_DUP);
        packet_send(copy, 0);
    }
    if (oneway && sim_rng_chance(&net->faults, f->oneway_reorder_ppm)) {
        packet->ordered = false;
        net->stats.reordered++;
        sim_injected(net->sim, SIM_FAULT_NET_REORDER);
    }
    bool slow = sim_rng_chance(&net->faults, f->slow_ppm);
    if (slow)
        sim_injected(net->sim, SIM_FAULT_NET_SLOW);
    packet_send(packet, slow ? f->slow_ns : 0);
    return 0;
}

static void net_sim_close(struct link *link)
{
    struct slink *slink = container_of(link, struct slink, link);
    struct conn *conn = slink->conn;

    if (slink->closing)
        return;
    conn->end[slink->side].link = NULL;
    if (slink->side == 0 && !conn->opened)
        sim_unschedule(conn->net->sim, &conn->connect_timer);
    send_goodbye(conn, !slink->side);
    free(slink);
    conn_settle(conn);
}

static const char *net_sim_peer_address(const struct link *link)
{
    return container_of(link, struct slink, link)->peer;
}

static const struct net_ops SIM_NET_OPS = {net_sim_connect, net_sim_listen, net_sim_unlisten,
                                           net_sim_send,    net_sim_close,  net_sim_peer_address};

/* ---- crashes
 * -------------------------------------------------------------------------------------------------- */

static void conn_lose_end(struct conn *conn, uint32_t side, enum sim_crash kind)
{
    struct slink *slink = conn->end[side].link;

    if (!slink)
        return;
    conn->end[side].link = NULL;
    free(slink);
    if (side == 0)
        sim_unschedule(conn->net->sim, &conn->connect_timer);
    if (kind == SIM_CRASH_POWER)
        stream_discard(conn, !side); /* nobody repeats what did not get through */
    else
        send_goodbye(conn, !side);
    conn_settle(conn);
}

static void listeners_drop(struct port *port)
{
    list_for_each_safe (&port->owner->listeners, node) {
        struct listener *listener = list_entry(node, struct listener, link);
        if (listener->port != port)
            continue;
        list_remove(&listener->link);
        free(listener);
    }
}

static void port_crashed(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind)
{
    struct port *port = container_of(hook, struct port, hook);

    listeners_drop(port);
    list_for_each_safe (&port->owner->conns, item) {
        struct conn *conn = list_entry(item, struct conn, link);
        bool both =
            conn->end[0].link && conn->end[0].port == port && conn->end[1].link && conn->end[1].port == port;
        bool second = conn->end[1].link && conn->end[1].port == port;
        if (conn->end[0].link && conn->end[0].port == port)
            conn_lose_end(conn, 0, kind);
        else if (second)
            conn_lose_end(conn, 1, kind);
        if (both)
            conn_lose_end(conn, 1, kind);
    }
}

/* ---- from outside
 * --------------------------------------------------------------------------------------------- */

struct sim_net *sim_net_new(struct sim *sim, const struct sim_net_config *config)
{
    struct sim_net *net = sim_alloc(sizeof(*net));

    net->sim = sim;
    net->config = *config;
    if (!config->delay_min_ns && !config->delay_typical_ns) {
        net->config.delay_min_ns = 15 * NS_PER_US;
        net->config.delay_typical_ns = 20 * NS_PER_US;
    }
    if (!config->give_up_ns)
        net->config.give_up_ns = 10 * NS_PER_S;
    if (!config->connect_give_up_ns)
        net->config.connect_give_up_ns = 5 * NS_PER_S;
    if (!config->queue_max_bytes)
        net->config.queue_max_bytes = 16u << 20;
    net->delay = sim_rng_make(sim->seed, "net.delay", 0);
    net->faults = sim_rng_make(sim->seed, "net.faults", 0);
    list_init(&net->ports);
    list_init(&net->listeners);
    list_init(&net->conns);
    return net;
}

void sim_net_free(struct sim_net *net)
{
    list_for_each_safe (&net->conns, node) {
        struct conn *conn = list_entry(node, struct conn, link);
        list_for_each_safe (&conn->packets, item)
            packet_discard(list_entry(item, struct packet, all));
        free(conn->end[0].link);
        free(conn->end[1].link);
        conn_free(conn);
    }
    list_for_each_safe (&net->ports, node) {
        struct port *port = list_entry(node, struct port, link);
        listeners_drop(port);
        list_remove(&port->hook.link);
        list_remove(&port->link);
        free(port);
    }
    free(net);
}

struct net *sim_net_port(struct sim_net *net, struct sim_node *node)
{
    list_for_each (&net->ports, item) {
        struct port *port = list_entry(item, struct port, link);
        if (port->node == node)
            return &port->net;
    }
    struct port *port = sim_alloc(sizeof(*port));
    port->net.ops = &SIM_NET_OPS;
    port->owner = net;
    port->node = node;
    port->host = host_get(net, node->host);
    port->next_port = FIRST_FREE_PORT;
    port->hook.crashed = port_crashed;
    list_push_back(&net->ports, &port->link);
    list_push_back(&node->crash_hooks, &port->hook.link);
    return &port->net;
}

void sim_net_set_faults(struct sim_net *net, const struct sim_net_faults *faults)
{
    net->config.faults = *faults;
}

void sim_net_set_path(struct sim_net *net, const char *from, const char *to, enum sim_path path)
{
    sim_trace(net->sim, from, (uint64_t)path, hash_bytes(0, to, strlen(to)));
    net->path[host_get(net, from)][host_get(net, to)] = (uint8_t)path;
}

void sim_net_isolate(struct sim_net *net, const char *host, enum sim_path path)
{
    uint32_t self = host_get(net, host);

    sim_trace(net->sim, host, (uint64_t)path, 0);
    for (uint32_t i = 0; i < net->host_count; i++)
        net->path[i][self] = net->path[self][i] = (uint8_t)path;
}

void sim_net_heal(struct sim_net *net)
{
    sim_trace(net->sim, "heal", 0, 0);
    memset(net->path, SIM_PATH_OPEN, sizeof(net->path));
    memset(net->lag_ns, 0, sizeof(net->lag_ns));
}

void sim_net_set_lag(struct sim_net *net, const char *host, uint64_t lag_ns)
{
    uint32_t self = host_get(net, host);

    sim_trace(net->sim, host, lag_ns, 1);
    for (uint32_t i = 0; i < net->host_count; i++)
        if (i != self)
            net->lag_ns[i][self] = net->lag_ns[self][i] = lag_ns;
}

/* What waits already waits as long as is wanted now. */
static void stream_hold(struct conn *conn, uint32_t to, uint64_t for_ns)
{
    struct sim_event *retry = &conn->end[to].retry;

    if (!retry->heap_index)
        return;
    sim_unschedule(conn->net->sim, retry);
    stream_wait_for(conn, to, for_ns);
}

void sim_net_hold(struct sim_net *net, const char *from, const char *to, uint64_t for_ns, bool new_links)
{
    uint32_t from_host = host_get(net, from), to_host = host_get(net, to);
    uint64_t until_ns = net->sim->now_ns + for_ns;

    sim_trace(net->sim, from, for_ns, hash_bytes(new_links, to, strlen(to)));
    if (new_links)
        net->held_until_ns[from_host][to_host] = until_ns;
    list_for_each (&net->conns, node) {
        struct conn *conn = list_entry(node, struct conn, link);
        for (uint32_t side = 0; side < 2; side++) {
            if (conn->end[!side].host != from_host || conn->end[side].host != to_host)
                continue;
            if (!new_links)
                conn->end[side].held_until_ns = until_ns;
            stream_hold(conn, side, for_ns);
        }
    }
}

void sim_net_break_links(struct sim_net *net, const char *host)
{
    uint32_t self = host_get(net, host);

    list_for_each (&net->conns, node) {
        struct conn *conn = list_entry(node, struct conn, link);
        if (conn->end[0].host == self || conn->end[1].host == self)
            conn_break(conn);
    }
}

struct sim_net_stats sim_net_stats(const struct sim_net *net)
{
    return net->stats;
}
