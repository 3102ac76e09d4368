/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the cluster scenario: a monitor, OSDs of one or two shards, clients with overlapping images.
 *
 *   cluster_world.c    processes: what starts them, what a crash takes, how they come back
 *   cluster_admin.c    the operator: registers OSDs, makes pool and images, moves leaders
 *   cluster_load.c     clients: random requests, every read and write recorded
 *   cluster_faults.c   what goes wrong, and when
 *   cluster_check.c    what must hold at any time, and at rest
 *   scenario_cluster.c the run
 */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "client/client.h"
#include "mon/mon.h"
#include "osd/osd.h"
#include "sim/check_linear.h"
#include "sim/sim.h"
#include "sim/sim_blk.h"
#include "sim/sim_meta.h"
#include "sim/sim_net.h"

#define CLUSTER_OSDS_MAX    5
#define CLUSTER_SHARDS_MAX  2
#define CLUSTER_CLIENTS_MAX 4
#define CLUSTER_IMAGES_MAX  2
#define CLUSTER_WORKERS     6
#define CLUSTER_IO_MAX      (256u << 10)

#define CLUSTER_POOL       "pool"
#define CLUSTER_IMAGE_SIZE (6u << 20) /* three objects */
#define CLUSTER_SECTOR     512u       /* a register of the checker */
#define CLUSTER_SECTORS    (CLUSTER_IMAGE_SIZE / CLUSTER_SECTOR)
#define CLUSTER_MON        "10.0.0.1:6789"

struct cluster;

/* Nodes that live and die together. */
struct process {
    struct cluster *cluster;
    char name[32], host[32];
    struct sim_node *nodes[CLUSTER_SHARDS_MAX];
    uint32_t node_count;
    bool wanted;            /* it is to run: restarted when it dies */
    uint64_t restart_token; /* of the restart that is scheduled; older ones are void */
    uint32_t starts, crashes;
    void (*died)(struct process *p, enum sim_crash kind); /* forget pointers into it; may be NULL */
};

struct cluster_osd {
    struct process process;
    uint32_t number; /* in the scenario; the id comes from the monitor */
    uint32_t id;
    uint8_t uuid[16], cluster_uuid[16];
    struct sim_disk *disk;
    bool formatted;
    uint64_t label_incarnation; /* the label was raised in this incarnation of the first node */
    struct device_label label;
    struct osd_shard *shards[CLUSTER_SHARDS_MAX]; /* NULL: not serving */
};

struct worker;

struct cluster_client {
    struct process process;
    uint32_t number;
    uint32_t image; /* which one it uses */
    struct load *load; /* in the node; NULL while down */
    struct sim_rng rng;
    uint64_t last_success_ns;
};

struct cluster_image {
    char name[16];
    struct linear_history *history;
    uint32_t openings; /* of writers: the checker's incarnations */
};

struct cluster {
    struct sim *sim;
    struct sim_net *net;
    struct sim_meta *meta;
    struct sim_rng rng; /* of the scenario's own decisions */
    uint32_t osd_count, shard_count, client_count, image_count, pg_count;
    struct process mon;
    struct process admin;
    struct cluster_osd osds[CLUSTER_OSDS_MAX];
    struct cluster_client clients[CLUSTER_CLIENTS_MAX];
    struct cluster_image images[CLUSTER_IMAGES_MAX];
    struct admin *admin_op; /* in the admin's node */
    uint64_t timeout_ns;    /* of the clients' requests */
    uint64_t strike_ns;     /* on average something happens that often */
    uint64_t slow_ns;       /* how long slow frames take */
    bool ready;             /* pool and images exist */
    bool discards;          /* the load has discards and write-zeroes */
    bool quiet;             /* faults are over */
    bool stopping;          /* the load ends */
    uint64_t next_tag;
    bool reading_all; /* the last pass: one reader per image */
    uint64_t reads, writes, clears, failures, takeovers;
    struct leader_table *leaders;
};

/* ---- cluster_world.c ---- */

void cluster_init(struct cluster *c, struct sim *sim);
void cluster_fini(struct cluster *c);
void process_init(struct process *p, struct cluster *c, const char *name, const char *host);
struct sim_node *process_add_node(struct process *p, const char *name, size_t arena_bytes,
                                  void (*start)(void *owner, struct sim_node *node), void *owner);
void process_start(struct process *p);
/* Crashes it; it comes back after `restart_ns` if it is wanted. */
void process_kill(struct process *p, enum sim_crash kind, uint64_t restart_ns);
bool process_running(const struct process *p);
/* From inside a node of the process: it has failed and ends; a supervisor starts it again. */
void process_exit_later(struct process *p);

/* ---- cluster_admin.c ---- */

void admin_start(void *owner, struct sim_node *node);
/* Asks the operator to move leaders: away from an OSD. */
void admin_demote(struct cluster *c, uint32_t osd);

/* ---- cluster_load.c ---- */

void load_start(void *owner, struct sim_node *node);
void load_died(struct process *p, enum sim_crash kind);
/* No request is under way. */
bool load_idle(const struct cluster *c);
/* Reads every image from end to end, once; `load_idle()` when done. */
void load_read_all(struct cluster *c);
/* Fails the run if a request is under way for longer than its timeout. */
void load_check(struct cluster *c);

/* ---- cluster_faults.c ---- */

void faults_start(struct cluster *c);
/* Everything is repaired: paths open, disks healthy, processes up. */
void faults_stop(struct cluster *c);

/* ---- cluster_check.c ---- */

void check_always(struct cluster *c);
/* Every acknowledged write is there, every read was right. */
void check_histories(struct cluster *c);
/* All replicas of all PGs hold the same. Waits up to `until_ns`. */
void check_replicas(struct cluster *c, uint64_t until_ns);
void check_fini(struct cluster *c);

#endif
