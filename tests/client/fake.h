/* SPDX-License-Identifier: Apache-2.0
 *
 * A cluster for tests of the client: monitors and shards that know just enough of the protocol, over the
 * simulated network, with one truth that they share and that tests look at and change. Faults are flags of
 * the shards.
 */
#ifndef TESTS_CLIENT_FAKE_H
#define TESTS_CLIENT_FAKE_H

#include "base/error.h"
#include "client/client.h"
#include "rpc/rpc.h"
#include "sim/sim.h"
#include "sim/sim_net.h"
#include "wire/wire.h"

#define FAKE_SHARDS     3
#define FAKE_MONITORS   2
#define FAKE_PGS        4
#define FAKE_OBJECTS    8
#define FAKE_IMAGE      7
#define FAKE_POOL       2
#define FAKE_IMAGE_SIZE ((uint64_t)FAKE_OBJECTS * OBJECT_SIZE)
#define FAKE_BUFFERS    64

struct fake_pg {
    uint64_t term;
    uint32_t leader;      /* replica number = number of the shard + 1; 0: nobody */
    uint64_t incarnation; /* attached */
    uint64_t generation;
};

struct fake_shard {
    uint32_t number;
    struct sim_node *node;
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
    struct sim_node *node;
    struct rpc_server *server;
    struct rpc_session *subscribers[16];
    uint32_t subscriber_count, opens, closes, gets, subscribes;
};

struct fake {
    struct sim *sim;
    struct sim_net *net;
    struct sim_node *client_node;
    struct sim_node *machines[FAKE_SHARDS]; /* something else that runs on the shards' machines */
    struct fake_shard shards[FAKE_SHARDS];
    struct fake_monitor monitors[FAKE_MONITORS];
    struct fake_pg pgs[FAKE_PGS];
    uint64_t epoch, generation, incarnation, size_bytes;
    bool removed;
    uint8_t objects[FAKE_OBJECTS][OBJECT_SIZE];
    bool written[FAKE_OBJECTS][BLOCKS_PER_OBJECT];

    struct client *client;
    struct client_image *image;
    struct client_io ios[FAKE_BUFFERS];
    struct buf *bufs[FAKE_BUFFERS];
};

extern struct fake fake;

/* A fresh cluster, with a client (`client_config` may be NULL; timeout 10 s) and without an open image. */
void fake_up(uint64_t seed, uint64_t timeout_ns, uint32_t inflight_max);
void fake_down(void);
/* Opens pool/image for writing or reading. The result. */
int fake_open(bool write, bool force);
void fake_close(void);
/* Everything of the node's: between these two. */
void fake_enter(void);
void fake_leave(void);
/* Runs until the op is done (at most 100 virtual seconds); its result. */
int fake_wait(struct op *op);
/* Starts a request in slot `slot`; writes are filled with `fill`. */
void fake_start(uint32_t slot, enum client_io_type type, uint64_t offset, uint64_t len, uint8_t fill);
int fake_finish(uint32_t slot);
/* The two in one. */
int fake_io(enum client_io_type type, uint64_t offset, uint64_t len, uint8_t fill);
uint8_t *fake_data(uint32_t slot);
/* What the cluster holds. */
uint8_t fake_byte(uint64_t offset);
void fake_lead(uint32_t shard); /* of all PGs, in a new term */
void fake_announce_image(void); /* the monitors tell the subscribers */
uint32_t fake_pg_of(uint64_t offset);

#endif
