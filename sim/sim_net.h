/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeded network for rt/net.h: links between nodes, as TCP would carry them over a bad network.
 *
 * Hosts are named by the nodes' config.host; whether packets get from one host to another is a table of paths
 * that a scenario changes at will (partitions, one-way or both). Within a link frames keep their order; what
 * cannot get through waits and is tried again, as TCP does, until the path opens, the other side answers that
 * it no longer knows the link, or the sender gives up. So frames may arrive late, long after their sender
 * closed the link or died. FRAME_ONEWAY frames may besides be dropped, repeated and overtake, which rt/net.h
 * allows.
 */
#ifndef SIM_SIM_NET_H
#define SIM_SIM_NET_H

#include "rt/net.h"
#include "sim/sim.h"

struct sim_net;

enum sim_path {
    SIM_PATH_OPEN,
    SIM_PATH_BLOCK,  /* packets vanish */
    SIM_PATH_REJECT, /* a firewall refuses: new links ERR_UNREACHABLE, old ones break when used */
};

/* Probabilities per frame, in parts per million. */
struct sim_net_faults {
    uint32_t oneway_drop_ppm, oneway_dup_ppm, oneway_reorder_ppm;
    uint32_t break_ppm;     /* the link breaks at both ends, frames on their way are lost */
    uint32_t blackhole_ppm; /* from this frame on nothing gets through in this direction of this link */
    uint32_t corrupt_ppm;   /* a bit of the frame flips on its way */
    uint32_t busy_ppm;      /* send answers ERR_BUSY as if the queue were full */
    uint32_t slow_ppm; /* the frame, and what is behind it, takes slow_ns more; the head of a large one not */
    uint64_t slow_ns;
};

struct sim_net_config {
    uint64_t delay_min_ns, delay_typical_ns; /* one way; 0, 0: 15 us and 20 us */
    uint64_t give_up_ns; /* a sender whose bytes do not get through breaks the link after that; 0: 10 s */
    uint64_t connect_give_up_ns; /* 0: 5 s */
    uint32_t queue_max_bytes;    /* per direction of a link; 0: 16 MiB */
    struct sim_net_faults faults;
};

struct sim_net_stats {
    uint64_t frames, delivered, dropped, duplicated, reordered;
    uint64_t connects, refused, accepted, broken,
        late; /* late: frames that arrived after their sender had closed */
    uint64_t payloads_dropped;
};

struct sim_net *sim_net_new(struct sim *sim, const struct sim_net_config *config);
void sim_net_free(struct sim_net *net);

/* The node's port; the same for all its incarnations. */
struct net *sim_net_port(struct sim_net *net, struct sim_node *node);

void sim_net_set_faults(struct sim_net *net, const struct sim_net_faults *faults);
/* From one host to another, this way only. */
void sim_net_set_path(struct sim_net *net, const char *from, const char *to, enum sim_path path);
/* Between this host and all others, both ways. */
void sim_net_isolate(struct sim_net *net, const char *host, enum sim_path path);
/* What goes from one host to another is held up for so long; then it all arrives at once and in order,
 * whatever has become of its sender. `new_links`: what links made meanwhile carry, too; else they pass. */
void sim_net_hold(struct sim_net *net, const char *from, const char *to, uint64_t for_ns, bool new_links);
/* Whatever goes between this host and all others, either way, takes so much longer from now on. */
void sim_net_set_lag(struct sim_net *net, const char *host, uint64_t lag_ns);
/* From one host to another, this way only. */
void sim_net_set_path_lag(struct sim_net *net, const char *from, const char *to, uint64_t lag_ns);
/* Nothing gets through any more, either way, by the links that one host has opened to the other; by those
 * that it opens later it does. */
void sim_net_silence(struct sim_net *net, const char *from, const char *to);
/* All paths open, none lags. */
void sim_net_heal(struct sim_net *net);
/* Breaks every link of the host, at both ends. */
void sim_net_break_links(struct sim_net *net, const char *host);
struct sim_net_stats sim_net_stats(const struct sim_net *net);

#endif
