/* SPDX-License-Identifier: Apache-2.0
 *
 * A cluster without a monitor, simulated: OSDs of one shard each with a hand-made map, and a client that
 * speaks the protocol itself, so that a test can say the wrong thing on purpose.
 */
#ifndef TESTS_OSD_WORLD_H
#define TESTS_OSD_WORLD_H

#include "base/error.h"
#include "base/placement.h"
#include "osd/pg.h"
#include "sim/sim.h"
#include "sim/sim_blk.h"
#include "sim/sim_net.h"
#include "tests/sim_wait.h"

#ifndef OSDS
#define OSDS 3
#endif
#ifndef MEMBERS
#define MEMBERS 3 /* of each PG: at first the first OSDs */
#endif
#define POOL 1
#ifndef PGS_MAX
#define PGS_MAX 8
#endif
#define IMAGE     77
#define DISK_SIZE (384ull << 20)

struct world;

struct world_osd {
    struct world *world;
    uint32_t number; /* its id, too; its first replicas have number + 1 */
    bool unfed;      /* it gets no maps */
    bool removed;    /* from the cluster, by the map */
    struct sim_node *node;
    struct sim_disk *disk;
    struct device_label label;
    bool formatted;
    struct osd_shard *shard; /* NULL: not serving */
    bool failed;             /* its start failed, with: */
    int error;
    bool stopped; /* in order */
    char listen[32];
};

/* What the map says of the members of a PG. */
struct world_members {
    uint32_t count;
    Fb__PgMember row[GROUP_MEMBERS_MAX], *pointers[GROUP_MEMBERS_MAX];
};
struct world_pg {
    uint64_t group_index, wanted_epoch;
    uint32_t replica_next;
    struct world_members member, wanted, leaving, dropped;
    Fb__PgForce force; /* survivor 0: none */
    bool split;        /* off another one */
};

struct world {
    struct sim *sim;
    struct sim_net *net;
    struct world_osd osds[OSDS];
    struct sim_node *client;
    struct rpc_identity self;
    struct rpc_peer *peers[OSDS];
    uint32_t pg_count, pg_target; /* 0: as many */
    uint64_t epoch;
    bool ended; /* requests end with what they have */
    bool paused;
    bool born, pool_removed, pool_gone; /* gone: all members have confirmed the removal */
    bool has_order;
    Fb__ImageOrder order;
    struct world_pg pgs[PGS_MAX];
    uint32_t leader[PGS_MAX]; /* the client's guess */
    uint64_t term[PGS_MAX];
    uint64_t ring_bytes, cache_bytes;
    const char *monitors[2]; /* of OSDs that are started from now on */
    uint32_t monitor_count;
};

/* All OSDs are up and every PG has a leader. */
struct world *world_new(uint64_t seed, uint32_t pg_count);
/* One PG with so many objects, each a block of its number + 1, which all members have. */
struct world *world_filled(uint64_t seed, uint32_t objects);
/* Stops everything in order; checks that nothing leaks. */
void world_free(struct world *w);
void world_osd_start(struct world *w, uint32_t number);
void world_osd_kill(struct world *w, uint32_t number, enum sim_crash kind);
/* All OSDs crash and start again, with caches of that size; settled. */
void world_restart(struct world *w, uint64_t cache_bytes);
/* By osd_shard_stop(), and the end of the process. */
void world_osd_stop(struct world *w, uint32_t number);
/* The map (epoch + 1) goes to all that serve. */
void world_feed_map(struct world *w);
/* With the order that the image is to end at that size, or is removed: generation 2. */
void world_order(struct world *w, uint64_t image, uint64_t size_bytes, bool deleted);
/* A map (epoch + 1) goes to that one alone, with an OSD that has an address of so many bytes. */
void world_feed_large(struct world *w, uint32_t number, size_t len);
/* All of the map (epoch + 1) but the pool goes to that one alone, which knows that there is more. */
void world_feed_part(struct world *w, uint32_t number);
const Fb__PgMember *world_member_find(const struct world_members *members, uint32_t replica);
/* NULL: it has none, or is down. */
struct store_pg *world_replica(const struct world *w, uint32_t osd, uint64_t pg);
/* Which OSD leads; UINT32_MAX: none. */
uint32_t world_leader(struct world *w, uint64_t pg);
/* Asks the PG's leader to hand over to that OSD; its answer. */
int world_transfer(struct world *w, uint64_t pg, uint32_t osd);
/* Waits until the leader has heard that all are whole, hands over, and waits until that OSD leads and serves.
 */
void world_lead(struct world *w, uint64_t pg, uint32_t osd);
bool world_settled(
    struct world *w); /* every PG has one leader, and all replicas of running OSDs have applied the same */
/* The PG of an object of IMAGE. */
uint64_t world_pg(const struct world *w, uint64_t object);
/* The first object of IMAGE in a PG. */
uint64_t world_object_in(const struct world *w, uint64_t pg);

/* ---- io.c: requests ---- */

enum io_type { IO_WRITE, IO_READ, IO_CLEAR, IO_ATTACH, IO_STATUS };

struct io {
    struct op op;
    struct world *world;
    enum io_type type;
    uint64_t image, object, generation, incarnation, size_bytes;
    uint64_t epoch;          /* at which the monitor vouched for the image */
    uint32_t offset, length; /* READ: whole blocks */
    bool exact;
    bool once;           /* the first answer is final, whatever it says */
    uint64_t force_pg;   /* 0: the right one */
    uint64_t force_term; /* 0: the newest known */
    uint32_t force_osd;  /* + 1; 0: the leader, as far as known */
    bool bad_crc;
    const uint8_t *data; /* WRITE */
    uint8_t *ret_data;   /* READ */
    /* Inside. */
    struct rpc_call call;
    struct timer timer;
    uint64_t pg;
    uint32_t target;
    uint64_t give_up_ns;
    uint32_t tries;
    bool done;
    int result;
    uint8_t reply[2048];
};

/* Fills in generation 1, incarnation 1, size 1 GiB, IMAGE. */
struct io io_make(struct world *w, enum io_type type, uint64_t object, uint32_t offset, uint32_t length);
void io_begin(struct io *io);
/* Begins it and runs until it is done; its result. */
int io_run(struct io *io);
int world_attach(struct world *w, uint64_t generation, uint64_t incarnation); /* to all PGs */
int world_write(struct world *w, uint64_t object, uint32_t offset, uint32_t length, const uint8_t *data);
int world_read(struct world *w, uint64_t object, uint32_t first_block, uint32_t blocks, uint8_t *ret_data);

#endif
