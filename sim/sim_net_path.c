/* SPDX-License-Identifier: Apache-2.0
 *
 * Hosts, the paths between them, and what a scenario does to these.
 */
#include "sim/sim_net_inside.h"

#include <stdlib.h>
#include <string.h>

uint32_t net_host_get(struct sim_net *net, const char *name)
{
    for (uint32_t i = 0; i < net->host_count; i++)
        if (strcmp(net->hosts[i], name) == 0)
            return i;
    ASSERT(net->host_count < HOSTS_MAX && strlen(name) < sizeof(net->hosts[0]));
    strcpy(net->hosts[net->host_count], name);
    return net->host_count++;
}

/* A kernel answers there. */
bool net_host_up(const struct sim_net *net, uint32_t host)
{
    list_for_each (&net->ports, node) {
        struct port *port = list_entry(node, struct port, link);
        if (port->host == host && port->node->state != SIM_NODE_DOWN)
            return true;
    }
    return false;
}

enum sim_path net_path_of(const struct sim_net *net, uint32_t from, uint32_t to)
{
    if (from == to)
        return SIM_PATH_OPEN;
    return (enum sim_path)net->path[from][to];
}

/* ---- from outside ---- */

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
            net_packet_discard(list_entry(item, struct packet, all));
        free(conn->end[0].link);
        free(conn->end[1].link);
        net_conn_free(conn);
    }
    list_for_each_safe (&net->ports, node) {
        struct port *port = list_entry(node, struct port, link);
        net_listeners_drop(port);
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
    port->host = net_host_get(net, node->host);
    port->next_port = FIRST_FREE_PORT;
    port->hook.crashed = net_port_crashed;
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
    net->path[net_host_get(net, from)][net_host_get(net, to)] = (uint8_t)path;
}

void sim_net_isolate(struct sim_net *net, const char *host, enum sim_path path)
{
    uint32_t self = net_host_get(net, host);

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
    uint32_t self = net_host_get(net, host);

    sim_trace(net->sim, host, lag_ns, 1);
    for (uint32_t i = 0; i < net->host_count; i++)
        if (i != self)
            net->lag_ns[i][self] = net->lag_ns[self][i] = lag_ns;
}

void sim_net_set_path_lag(struct sim_net *net, const char *from, const char *to, uint64_t lag_ns)
{
    sim_trace(net->sim, from, lag_ns, hash_bytes(2, to, strlen(to)));
    net->lag_ns[net_host_get(net, from)][net_host_get(net, to)] = lag_ns;
}

/* What waits already waits as long as is wanted now. */
static void stream_hold(struct conn *conn, uint32_t to, uint64_t for_ns)
{
    struct sim_event *retry = &conn->end[to].retry;

    if (!retry->heap_index)
        return;
    sim_unschedule(conn->net->sim, retry);
    net_stream_wait_for(conn, to, for_ns);
}

void sim_net_hold(struct sim_net *net, const char *from, const char *to, uint64_t for_ns, bool new_links)
{
    uint32_t from_host = net_host_get(net, from), to_host = net_host_get(net, to);
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

void sim_net_silence(struct sim_net *net, const char *from, const char *to)
{
    uint32_t from_host = net_host_get(net, from), to_host = net_host_get(net, to);

    sim_trace(net->sim, from, 0, hash_bytes(3, to, strlen(to)));
    list_for_each (&net->conns, node) {
        struct conn *conn = list_entry(node, struct conn, link);
        if (conn->end[0].host == from_host && conn->end[1].host == to_host)
            conn->end[0].blackhole = conn->end[1].blackhole = true;
    }
}

void sim_net_break_links(struct sim_net *net, const char *host)
{
    uint32_t self = net_host_get(net, host);

    list_for_each (&net->conns, node) {
        struct conn *conn = list_entry(node, struct conn, link);
        if (conn->end[0].host == self || conn->end[1].host == self)
            net_conn_break(conn);
    }
}

struct sim_net_stats sim_net_stats(const struct sim_net *net)
{
    return net->stats;
}
