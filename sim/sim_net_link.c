/* SPDX-License-Identifier: Apache-2.0
 *
 * A node's port: it listens, connects, sends frames, to which things happen here, and dies.
 */
#include "sim/sim_net_inside.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "wire/frame.h"

static void connect_timed_out(struct sim_event *event);
static void patient_late_0(struct sim_event *event);
static void patient_late_1(struct sim_event *event);

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
    for (uint32_t i = 0; i < 2; i++) {
        list_init(&conn->end[i].waiting);
        list_init(&conn->end[i].patient);
        conn->end[i].flush.fire = i ? patient_late_1 : patient_late_0;
    }
    conn->end[1].host = net_host_get(sn, host);
    list_push_back(&sn->conns, &conn->link);
    sn->stats.connects++;
    struct slink *slink = net_slink_new(conn, 0, port, address);
    link_own(&slink->link, events, owner);
    conn->connect_timer.fire = connect_timed_out;
    sim_schedule(sn->sim, &conn->connect_timer, sn->config.connect_give_up_ns);
    net_packet_send(net_packet_new(conn, 1, PACKET_SYN), 0);
    return &slink->link;
}

static void connect_timed_out(struct sim_event *event)
{
    struct conn *conn = container_of(event, struct conn, connect_timer);

    net_end_break(conn, 0, -ERR_TIMEOUT);
    net_stream_discard(conn, 1);
    net_conn_settle(conn);
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
        if (!net_listener_find(sn, bound))
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
    struct packet *packet = net_packet_new(conn, to, PACKET_FRAME);

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

/* What of a frame comes first. */
static struct packet *head_packet(const struct packet *frame)
{
    struct packet *packet = net_packet_new(frame->conn, frame->to, PACKET_HEAD);
    size_t len = (size_t)frame->head_len + frame->payload_len;

    packet->head_len = frame->head_len;
    packet->payload_len = frame->payload_len;
    packet->bytes = sim_alloc_bytes(len);
    memcpy(packet->bytes, frame->bytes, len);
    return packet;
}

static void patient_late_0(struct sim_event *event)
{
    net_patient_send(container_of(event, struct conn, end[0].flush), 0);
}

static void patient_late_1(struct sim_event *event)
{
    net_patient_send(container_of(event, struct conn, end[1].flush), 1);
}

/* As a connection of the kernel does it: others are only waited for where there were some a moment ago. True:
 * it waits. */
static bool patient_hold(struct conn *conn, uint32_t to, struct packet *packet)
{
    struct end *end = &conn->end[to];
    struct sim *sim = conn->net->sim;

    if (sim->now_ns - end->urgent_ns >= FRAME_PATIENCE_NS)
        return false;
    if (list_empty(&end->patient)) {
        end->flush.node = conn->end[!to].port->node;
        sim_schedule(sim, &end->flush, FRAME_PATIENCE_NS);
    }
    list_push_back(&end->patient, &packet->link);
    return true;
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
        net_conn_break(conn);
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
        net_packet_send(copy, 0);
    }
    if (oneway && sim_rng_chance(&net->faults, f->oneway_reorder_ppm)) {
        packet->ordered = false;
        net->stats.reordered++;
        sim_injected(net->sim, SIM_FAULT_NET_REORDER);
    }
    bool slow = sim_rng_chance(&net->faults, f->slow_ppm);
    if (slow)
        sim_injected(net->sim, SIM_FAULT_NET_SLOW);
    if (frame->patient && packet->ordered && !slow && patient_hold(conn, to, packet))
        return 0;
    if (!frame->patient)
        conn->end[to].urgent_ns = net->sim->now_ns;
    net_patient_send(conn, to);
    if (slow && packet->ordered && packet->payload_len)
        net_packet_send(head_packet(packet), 0);
    net_packet_send(packet, slow ? f->slow_ns : 0);
    return 0;
}

static uint64_t net_sim_queued_bytes(const struct link *link)
{
    const struct slink *slink = container_of(link, const struct slink, link);

    return slink->conn->end[!slink->side].queued_bytes;
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
    net_patient_send(conn, !slink->side);
    net_send_goodbye(conn, !slink->side);
    free(slink);
    net_conn_settle(conn);
}

static const char *net_sim_peer_address(const struct link *link)
{
    return container_of(link, struct slink, link)->peer;
}

const struct net_ops SIM_NET_OPS = {net_sim_connect,      net_sim_listen, net_sim_unlisten,    net_sim_send,
                                    net_sim_queued_bytes, net_sim_close,  net_sim_peer_address};

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
    net_patient_discard(conn, !side); /* it had not left the process */
    if (kind == SIM_CRASH_POWER)
        net_stream_discard(conn, !side); /* nobody repeats what did not get through */
    else
        net_send_goodbye(conn, !side);
    net_conn_settle(conn);
}

void net_listeners_drop(struct port *port)
{
    list_for_each_safe (&port->owner->listeners, node) {
        struct listener *listener = list_entry(node, struct listener, link);
        if (listener->port != port)
            continue;
        list_remove(&listener->link);
        free(listener);
    }
}

void net_port_crashed(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind)
{
    struct port *port = container_of(hook, struct port, hook);

    net_listeners_drop(port);
    list_for_each_safe (&port->owner->conns, item) {
        struct conn *conn = list_entry(item, struct conn, link);
        bool both =
            conn->end[0].link && conn->end[0].port == port && conn->end[1].link && conn->end[1].port == port;
        bool second = conn->end[1].link && conn->end[1].port == port;
        if (conn->backlog == node && kind == SIM_CRASH_PROCESS)
            net_send_goodbye(conn, 0);
        if (conn->end[0].link && conn->end[0].port == port)
            conn_lose_end(conn, 0, kind);
        else if (second)
            conn_lose_end(conn, 1, kind);
        if (both)
            conn_lose_end(conn, 1, kind);
    }
}
