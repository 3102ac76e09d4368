/* SPDX-License-Identifier: Apache-2.0
 *
 * A cluster for tests of the client and of what stands on it: monitors and shards that know just enough of
 * the protocol, with one truth that they share and that tests look at and change. Faults are flags of the
 * shards. It runs on any core and net: fake.h has it in the simulator, fake_process.h in a process of its own
 * over TCP.
 */
#ifndef TESTS_CLIENT_FAKE_CLUSTER_H
#define TESTS_CLIENT_FAKE_CLUSTER_H

#include "base/error.h"
#include "client/client.h"
#include "rpc/rpc.h"
#include "wire/wire.h"

#define FAKE_SHARDS      3
#define FAKE_MONITORS    2
#define FAKE_PGS         16             /* at the beginning */
#define FAKE_PGS_MAX     (FAKE_PGS + 1) /* and when one was split */
#define FAKE_OBJECTS     8
#define FAKE_IMAGE       7
#define FAKE_POOL        2
#define FAKE_IMAGE_SIZE  ((uint64_t)FAKE_OBJECTS * OBJECT_SIZE)
#define FAKE_ADDRESS_MAX 64
#define FAKE_BUSY        3

struct fake_pg {
    uint64_t term;
    uint32_t leader;      /* replica number = number of the shard + 1; 0: nobody */
    uint64_t incarnation; /* attached */
    uint64_t generation;
};

struct fake_shard {
    uint32_t number;
    struct core *core;
    char address[FAKE_ADDRESS_MAX];
    struct rpc_server *server;
    uint32_t requests, writes, reads, clears, attaches, statuses, sessions;
    int refuse;            /* every request is answered with this error */
    uint32_t refuse_count; /* so many times */
    uint32_t mute;         /* so many requests are neither carried out nor answered */
    uint32_t lose;         /* so many are carried out and not answered */
    uint32_t corrupt;      /* so many reads are answered with a flipped bit */
};

struct fake_monitor {
    uint32_t number;
    struct core *core;
    char address[FAKE_ADDRESS_MAX];
    struct rpc_server *server;
    struct rpc_session *subscribers[16];
    uint32_t subscriber_count, opens, closes, gets, subscribes;
    uint32_t wholes;  /* Subscribes by who knew no map */
    uint32_t writing; /* images that the last Subscribe named */
    uint32_t resizes; /* the first FAKE_BUSY find an earlier one still under way */
};

struct fake_cluster {
    struct fake_shard shards[FAKE_SHARDS];
    struct fake_monitor monitors[FAKE_MONITORS];
    struct fake_pg pgs[FAKE_PGS_MAX];
    uint32_t pg_count;
    uint64_t epoch, generation, incarnation, size_bytes;
    uint64_t shard_epoch;   /* that shards tell with errors */
    uint64_t newest_epoch;  /* that monitors say they have, though the map that they send may be older */
    bool paused;            /* the map says so */
    bool gone[FAKE_SHARDS]; /* the map says that their OSDs were removed */
    bool joining;           /* the map says that the last shard's replicas are wanted, and not yet members */
    bool removed;
    bool forced;          /* the last image was opened so, */
    uint64_t force_over;  /* over this writer's incarnation */
    uint32_t split_count; /* that answers to STATUS say */
    int close_error;      /* of the monitors, to closing images */
    uint8_t objects[FAKE_OBJECTS][OBJECT_SIZE];
    bool written[FAKE_OBJECTS][BLOCKS_PER_OBJECT];
};

extern struct fake_cluster fake;

/* The truth at the beginning; addresses are set by whoever runs it, port 0 for any. */
void fake_reset(void);
/* Serve at their addresses, which are then those bound to. */
void fake_shard_start(uint32_t number, struct core *core, struct net *net, uint64_t incarnation);
void fake_monitor_start(uint32_t number, struct core *core, struct net *net);
/* What the cluster holds. */
uint8_t fake_byte(uint64_t offset);
void fake_lead(uint32_t shard); /* of all PGs, in a new term */
/* A monitor tells its subscribers; in its own context. */
void fake_monitor_announce(uint32_t number);
/* The same, that another image of the pool is removed. */
void fake_monitor_order(uint32_t number);
/* The monitor tells its subscribers that it leads from now on. */
void fake_monitor_leads(uint32_t number);
uint32_t fake_pg_of(uint64_t offset);

#endif
