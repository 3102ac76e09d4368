/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the simulated network tell each other: sim_net.c connections, packets and streams;
 * sim_net_link.c the port of a node; sim_net_path.c hosts, and what a scenario does to the paths between
 * them.
 */
#ifndef SIM_SIM_NET_INSIDE_H
#define SIM_SIM_NET_INSIDE_H

#include "sim/sim_net.h"

#define HOSTS_MAX         SIM_NODES_MAX
#define HOST_NAME_MAX_LEN 32
#define ADDRESS_MAX       64
#define RETRY_MIN_NS      (200 * NS_PER_MS)
#define RETRY_MAX_NS      (3 * NS_PER_S)
#define BYTES_PER_NS      1 /* transfer rate: 1 GB/s */
#define FIRST_FREE_PORT   40000
#define FIN_PERCENT       60 /* of the ends that go are orderly: what was sent arrives before */

enum packet_kind {
    PACKET_SYN,
    PACKET_ACCEPTED,
    PACKET_HEAD, /* of a frame, and a part of its payload: the frame itself comes later */
    PACKET_FRAME,
    PACKET_FIN,
    PACKET_RST,
    PACKET_BREAK
};

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
    uint64_t last_ns;       /* arrival of its newest packet */
    uint64_t urgent_ns;     /* when something was last sent that does not wait for others */
    struct list patient;    /* what does, at the sender */
    struct sim_event flush; /* when that leaves all the same */
    struct list waiting;
    struct sim_event retry;
    uint32_t tries;
    uint64_t waiting_since_ns;
    uint64_t queued_bytes;
    uint64_t held_until_ns;
    bool blackhole;
    bool head_came;  /* of the next frame: its payload is on its way ... */
    uint8_t *placed; /* ... to there, if anywhere */
};

struct conn {
    struct list link;
    struct sim_net *net;
    struct end end[2];   /* 0: the caller */
    struct list packets; /* all that refer to it, wherever they are */
    uint64_t number;
    struct sim_event connect_timer;
    bool accepted, opened;
    struct sim_node *backlog; /* its kernel has accepted, the process, which is paused, has yet to; or NULL */
    uint64_t backlog_incarnation;
    char address[ADDRESS_MAX];
};

struct packet {
    struct sim_event event;
    struct list link; /* in the stream that waits, or among the patient */
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

/* ---- sim_net.c ---- */

void net_conn_free(struct conn *conn);
void net_conn_settle(struct conn *conn);
void net_packet_discard(struct packet *packet);
struct packet *net_packet_new(struct conn *conn, uint32_t to, enum packet_kind kind);
void net_packet_send(struct packet *packet, uint64_t more_ns);
void net_end_break(struct conn *conn, uint32_t side, int error);
void net_send_goodbye(struct conn *conn, uint32_t to);
void net_stream_discard(struct conn *conn, uint32_t to);
void net_patient_send(struct conn *conn, uint32_t to);
void net_patient_discard(struct conn *conn, uint32_t to);
void net_stream_wait_for(struct conn *conn, uint32_t to, uint64_t delay_ns);
struct listener *net_listener_find(const struct sim_net *net, const char *address);
struct slink *net_slink_new(struct conn *conn, uint32_t side, struct port *port, const char *peer);
void net_conn_break(struct conn *conn);

/* ---- sim_net_link.c ---- */

extern const struct net_ops SIM_NET_OPS;
void net_listeners_drop(struct port *port);
void net_port_crashed(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind);

/* ---- sim_net_path.c ---- */

uint32_t net_host_get(struct sim_net *net, const char *name);
bool net_host_up(const struct sim_net *net, uint32_t host);
enum sim_path net_path_of(const struct sim_net *net, uint32_t from, uint32_t to);

#endif
