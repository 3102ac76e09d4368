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
#include "sim/sim_net_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "wire/frame.h"

static void packet_arrive(struct sim_event *event);
static void packet_deliver(struct sim_event *event);
static void packet_drop(struct sim_event *event);
static void stream_retry_0(struct sim_event *event);
static void stream_retry_1(struct sim_event *event);

/* ---- connections and packets
 * ---------------------------------------------------------------------------------- */

void net_conn_free(struct conn *conn)
{
    struct sim *sim = conn->net->sim;

    for (uint32_t i = 0; i < 2; i++) {
        ASSERT(list_empty(&conn->end[i].waiting) && list_empty(&conn->end[i].patient));
        sim_unschedule(sim, &conn->end[i].retry);
        sim_unschedule(sim, &conn->end[i].flush);
    }
    sim_unschedule(sim, &conn->connect_timer);
    list_remove(&conn->link);
    free(conn);
}

/* Frees the connection when nothing refers to it any more. */
void net_conn_settle(struct conn *conn)
{
    if (!conn->end[0].link && !conn->end[1].link && list_empty(&conn->packets))
        net_conn_free(conn);
}

/* Does not settle the connection. */
void net_packet_discard(struct packet *packet)
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

    net_packet_discard(packet);
    net_conn_settle(conn);
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

struct packet *net_packet_new(struct conn *conn, uint32_t to, enum packet_kind kind)
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

void net_packet_send(struct packet *packet, uint64_t more_ns)
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

/* What has waited for others to go with leaves, before those. */
void net_patient_send(struct conn *conn, uint32_t to)
{
    for (struct list *node; (node = list_pop_front(&conn->end[to].patient));)
        net_packet_send(list_entry(node, struct packet, link), 0);
    sim_unschedule(conn->net->sim, &conn->end[to].flush);
}

void net_patient_discard(struct conn *conn, uint32_t to)
{
    list_for_each_safe (&conn->end[to].patient, node)
        net_packet_discard(list_entry(node, struct packet, link));
    sim_unschedule(conn->net->sim, &conn->end[to].flush);
}

/* Tells the owner of an end that its link is gone, soon. */
void net_end_break(struct conn *conn, uint32_t side, int error)
{
    struct end *end = &conn->end[side];

    if (!end->link || end->link->broken)
        return;
    end->link->broken = true;
    conn->net->stats.broken++;
    struct packet *packet = net_packet_new(conn, side, PACKET_BREAK);
    packet->error = error;
    packet->event.node = end->port->node;
    packet->event.fire = packet_deliver;
    sim_schedule(conn->net->sim, &packet->event, 0);
}

/* One end leaves; the other one hears of it after what was sent, or before. */
void net_send_goodbye(struct conn *conn, uint32_t to)
{
    struct sim_net *net = conn->net;
    bool fin = sim_rng_below(&net->faults, 100) < FIN_PERCENT;
    struct packet *packet = net_packet_new(conn, to, fin ? PACKET_FIN : PACKET_RST);

    packet->ordered = fin;
    net_packet_send(packet, 0);
}

static void send_reset(struct conn *conn, uint32_t to)
{
    struct packet *packet = net_packet_new(conn, to, PACKET_RST);

    packet->ordered = false;
    net_packet_send(packet, 0);
}

/* ---- streams
 * -------------------------------------------------------------------------------------------------- */

void net_stream_discard(struct conn *conn, uint32_t to)
{
    struct end *end = &conn->end[to];

    list_for_each_safe (&end->waiting, node)
        net_packet_discard(list_entry(node, struct packet, link));
    net_patient_discard(conn, to);
    end->tries = 0;
    sim_unschedule(conn->net->sim, &end->retry);
}

void net_stream_wait_for(struct conn *conn, uint32_t to, uint64_t delay_ns)
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
    net_stream_wait_for(conn, to, delay_ns);
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

struct listener *net_listener_find(const struct sim_net *net, const char *address)
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
        struct listener *listener = net_listener_find(conn->net, conn->address);
        return listener ? listener->port->node : NULL;
    }
    bool waits = to == 1 && conn->backlog && conn->backlog->incarnation == conn->backlog_incarnation;
    return waits ? conn->backlog : NULL;
}

/* A process that is stopped does not keep its kernel from accepting what connects to it. */
static void conn_await(struct conn *conn, struct sim_node *node)
{
    conn->backlog = node;
    conn->backlog_incarnation = node->incarnation;
    net_packet_send(net_packet_new(conn, 0, PACKET_ACCEPTED), 0);
}

static void stream_push(struct conn *conn, uint32_t to)
{
    struct sim_net *net = conn->net;
    struct end *end = &conn->end[to];
    enum sim_path path = net_path_of(net, conn->end[!to].host, end->host);
    struct sim_node *target = stream_target(conn, to);
    const struct packet *first = list_first(&end->waiting, struct packet, link);

    if (!first)
        return;
    uint64_t held_until_ns = stream_held_until_ns(conn, to);
    if (held_until_ns > net->sim->now_ns) {
        net_stream_wait_for(conn, to, held_until_ns - net->sim->now_ns);
        return;
    }
    if (path == SIM_PATH_OPEN && !end->blackhole) {
        if (target) {
            end->tries = 0;
            if (first->kind == PACKET_SYN && target->state == SIM_NODE_PAUSED)
                conn_await(conn, target);
            for (struct list *node; (node = list_pop_front(&end->waiting));)
                packet_hand_over(list_entry(node, struct packet, link), target);
            return;
        }
        if (net_host_up(net, end->host)) {
            if (first->kind == PACKET_SYN)
                net->stats.refused++;
            if (conn->end[!to].link)
                send_reset(conn, !to);
            net_stream_discard(conn, to);
            net_conn_settle(conn);
            return;
        }
    }
    if (path == SIM_PATH_REJECT) {
        net_end_break(conn, !to, first->kind == PACKET_SYN ? -ERR_UNREACHABLE : -ERR_CLOSED);
        net_stream_discard(conn, to);
        net_conn_settle(conn);
        return;
    }
    if (end->tries && net->sim->now_ns - end->waiting_since_ns >= net->config.give_up_ns) {
        net_end_break(conn, !to, -ERR_TIMEOUT);
        net_stream_discard(conn, to);
        net_conn_settle(conn);
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
        bool through = net_path_of(conn->net, conn->end[!packet->to].host, end->host) == SIM_PATH_OPEN &&
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

void net_conn_break(struct conn *conn)
{
    net_end_break(conn, 0, -ERR_CLOSED);
    net_end_break(conn, 1, -ERR_CLOSED);
}

/* ---- delivery: in the node's context
 * -------------------------------------------------------------------------- */

struct slink *net_slink_new(struct conn *conn, uint32_t side, struct port *port, const char *peer)
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
    struct listener *listener = net_listener_find(net, conn->address);

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
    struct slink *slink = net_slink_new(conn, 1, listener->port, peer);
    net->stats.accepted++;
    conn->accepted = true;
    if (!conn->backlog)
        net_packet_send(net_packet_new(conn, 0, PACKET_ACCEPTED), 0);
    conn->backlog = NULL;
    listener->accepted(listener->owner, &slink->link);
    ASSERT(!conn->end[1].link || conn->end[1].link->link.events);
}

/* The memory for a payload is asked for when its head is there, and filled as it comes: long before the end.
 */
static void deliver_head(struct conn *conn, const struct packet *packet)
{
    struct end *end = &conn->end[packet->to];
    struct slink *slink = end->link;
    struct frame_header header;

    if (!slink || slink->broken || frame_validate_header(packet->bytes, &header) ||
        header.body_len != packet->head_len - FRAME_HEADER_SIZE ||
        header.payload_len != packet->payload_len || frame_validate_body(packet->bytes, &header))
        return; /* what is wrong shows with the frame */
    end->head_came = true;
    end->placed = NULL;
    if (slink->link.events->place)
        end->placed = slink->link.events->place(slink->link.owner, &slink->link, packet->bytes,
                                                packet->head_len, packet->payload_len);
    if (end->placed)
        memcpy(end->placed, packet->bytes + packet->head_len, packet->payload_len / 2);
}

static uint8_t *frame_place(struct conn *conn, const struct packet *packet)
{
    struct end *end = &conn->end[packet->to];
    const struct link_events *events = end->link->link.events;
    /* What overtakes is not what the head has come of. */
    if (end->head_came && packet->ordered) {
        end->head_came = false;
        return end->placed;
    }
    return packet->payload_len && events->place
               ? events->place(end->link->link.owner, &end->link->link, packet->bytes, packet->head_len,
                               packet->payload_len)
               : NULL;
}

static void deliver_frame(struct conn *conn, struct packet *packet)
{
    struct sim_net *net = conn->net;
    struct slink *slink = conn->end[packet->to].link;
    struct frame_header header;

    if (!slink || slink->broken)
        return;
    struct sim_node *node = conn->end[packet->to].port->node;
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
    frame.placed = frame_place(conn, packet);
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
    case PACKET_HEAD:
        deliver_head(conn, packet);
        break;
    case PACKET_FRAME:
        deliver_frame(conn, packet);
        break;
    case PACKET_FIN:
        end_closed(conn, packet->to, -ERR_CLOSED);
        break;
    case PACKET_RST:
        end_closed(conn, packet->to,
                   packet->to == 0 && !conn->accepted && !conn->opened ? -ERR_UNREACHABLE : -ERR_CLOSED);
        break;
    case PACKET_BREAK:
        end_closed(conn, packet->to, packet->error);
        break;
    }
    packet_free(packet);
}
