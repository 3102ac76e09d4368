/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated machine with a monitor, a metadata store that outlives it, and callers: clients and OSD shards
 * played by the test, each with a session of its own. Virtual time. The store can be told to fail, or to kill
 * the monitor, at the Nth transaction.
 */
#ifndef TESTS_MON_WORLD_H
#define TESTS_MON_WORLD_H

#include "base/error.h"
#include "mon/mon.h"
#include "rpc/rpc.h"
#include "sim/sim.h"
#include "sim/sim_meta.h"
#include "sim/sim_net.h"
#include "tests/sim_wait.h"
#include "wire/cold.h"

#define MON_ADDRESS "10.0.0.1:7000"
#define MONS_MAX    3

/* What happens at the transaction with number `at` (counted from 1; 0: never). */
enum trouble {
    FAIL_BEFORE,  /* it is not carried out and ends with ERR_IO */
    FAIL_AFTER,   /* it is carried out and ends with ERR_IO */
    CONFLICT,     /* it is not carried out and ends with ERR_CONFLICT */
    CRASH_BEFORE, /* the monitor dies, it is not carried out */
    CRASH_AFTER,  /* it is carried out, the monitor dies before it knows */
    FULL,         /* from it on all end with ERR_NO_SPACE */
};

struct world_mon {
    struct world *w;
    struct sim_node *node;
    struct mon_start start;
    char address[40];
};

struct world {
    struct sim *sim;
    struct sim_net *net;
    struct sim_meta *store;
    struct sim_node *mon_node, *client_node;
    struct mon_start start;
    uint64_t out_after_ns;                   /* for the next start of the monitor */
    uint32_t orders_max;                     /* the same */
    const struct placement_chooser *chooser; /* the same; NULL: none */
    struct mon *mon;
    struct op watch; /* parent of the start */
    /* Of a world of several; it has none of the above. */
    struct world_mon mons[MONS_MAX];
    uint32_t mon_count;
    enum trouble trouble;
    uint32_t trouble_at, txns;
    uint8_t scratch[FRAME_HEADER_SIZE + FRAME_BODY_MAX];
    uint8_t reply[FRAME_BODY_MAX];
};

struct world *world_new(void);
extern uint32_t world_queue_bytes; /* of links, in worlds that are made; 0: 16 MiB */
/* Several monitors, on a store with leases and without the troubles below. */
struct world *world_new_several(uint32_t mons);
void world_free(struct world *w);
struct mon *world_mon(struct world *w, uint32_t i); /* NULL: it is down, or about to start */
/* The one that leads, by its own word; -1: nobody, -2: more than one. */
int world_leader(struct world *w);
/* The monitor's process dies and starts again. */
void world_crash_mon(struct world *w);
/* Starts it, or starts it again, if it is down, and waits until it serves. */
void world_want_mon(struct world *w);
/* The monitor ends in order and starts again. */
void world_restart_mon(struct world *w);

#define IN_CLIENT(w, statement) IN_NODE((w)->client_node, statement)

static inline void world_run_ms(struct world *w, uint64_t ms)
{
    sim_run_for(w->sim, ms * NS_PER_MS);
}

/* ---- callers ---- */

struct caller {
    struct world *w;
    struct rpc_identity self;
    const char *zone;        /* for osd_boot(); NULL: does not say */
    uint32_t level, pgs_max; /* the same */
    struct rpc_peer *peer;
    const char *address; /* of the monitor */
    int opened;
    int closed_error;
    /* Of the events that came. */
    int map_events, image_events, transfer_events, leader_events;
    uint64_t epoch; /* of the last map event; its base must be the one before */
    bool gap;       /* it was not, */
    bool early;     /* or the event showed a part of what comes with a later one */
    uint64_t last_pg, image_id, image_incarnation, image_generation, image_size;
    uint64_t transfer_pg;
    uint32_t transfer_osd;
    bool transfer_any;
    void (*transfer)(struct caller *c); /* NULL, or called for each of them */
    /* Of the last call. */
    int result;
    Fb__MonReply *answer; /* NULL without one; freed by the next call */
};

void client_start(struct caller *c, struct world *w, uint8_t uuid);
void client_start_at(struct caller *c, struct world *w, uint8_t uuid, uint32_t mon);
void osd_start_at(struct caller *c, struct world *w, uint32_t osd, uint64_t incarnation, uint32_t mon);
void osd_start(struct caller *c, struct world *w, uint32_t osd, uint64_t incarnation);
void caller_stop(struct caller *c);
void callers_stop(struct caller *callers, uint32_t count);

/* Sends, waits for the answer, returns the result. Without a session it waits for one; -ERR_TIMEOUT after 5
 * s. */
int call(struct caller *c, const Fb__MonRequest *request);
/* `body` as the request of that name. */
#define REQUEST(name, NAME)                                                                                  \
    Fb__MonRequest request = FB__MON_REQUEST__INIT;                                                          \
    request.call_case = FB__MON_REQUEST__CALL_##NAME;                                                        \
    request.name = &body
/* The same with bytes as they are. */
int call_bytes(struct caller *c, enum method method, const void *bytes, uint32_t len);
/* Sends it and stops the caller `after_ms` later, without an answer. */
void call_and_leave(struct caller *c, const Fb__MonRequest *request, uint64_t after_ms);
const char *said(const struct caller *c); /* the message of the last answer, or "" */

/* The calls, with the arguments that tests vary. */
int osd_new(struct caller *c, uint8_t uuid, const char *host, const char *rack, uint32_t shards);
int osd_boot(struct caller *c, uint8_t uuid, uint32_t shard, uint32_t shards, const char *address);
int osd_report(struct caller *c, uint32_t shard, const Fb__ShardReport *what); /* NULL: nothing special */
int pool_create(struct caller *c, const char *name, uint32_t replicas, uint32_t pgs, const char *domain);
int pool_remove(struct caller *c, const char *name);
int image_create(struct caller *c, const char *pool, const char *name, uint64_t size);
int image_open(struct caller *c, const char *pool, const char *name, const char *writer, bool force,
               bool share);
int image_close(struct caller *c, uint64_t id, const char *writer, uint64_t incarnation);
int image_resize(struct caller *c, const char *pool, const char *name, uint64_t size);
int image_grow(struct caller *c, const char *pool, const char *name, uint64_t size); /* and not the other way */
int image_remove(struct caller *c, const char *pool, const char *name);
int image_get(struct caller *c, const char *pool, const char *name);
int get_map(struct caller *c, uint64_t since);
int subscribe(struct caller *c, uint64_t since);
/* Subscribes, as a client that has this one image open for writing; 0: none. */
int say_writing(struct caller *c, uint64_t image);
int status(struct caller *c);
int osd_change(struct caller *c, uint32_t osd, Fb__OsdAction action, uint32_t weight);
int host_maintenance(struct caller *c, const char *host, bool on);
int cluster_set(struct caller *c, Fb__ClusterFlag flag, bool on);
int pool_set(struct caller *c, const char *name, uint32_t replicas, bool no_failover);
int pool_set_pgs(struct caller *c, const char *name, uint32_t pg_count);
/* The OSD as the map has it; fetches the map. */
const Fb__Osd *map_osd(struct caller *c, uint32_t osd);
bool has_problem(struct caller *c, const char *part); /* asks for the status */
int monitors(struct caller *c);

/* `count` OSDs on hosts of their own, registered and booted with one shard; osds[i] is osd.i with uuid i + 1.
 */
void osds_up(struct world *w, struct caller *osds, uint32_t count);
/* Every OSD reports: all orders in the map are confirmed, for the PGs that it is a member of (the first
 * member leads). */
void osds_confirm(struct caller *osds, uint32_t count);

#endif
