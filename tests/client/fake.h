/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake cluster in the simulator, with a client on a node of its own.
 */
#ifndef TESTS_CLIENT_FAKE_H
#define TESTS_CLIENT_FAKE_H

#include "sim/sim.h"
#include "sim/sim_net.h"
#include "tests/client/fake_cluster.h"

#define FAKE_BUFFERS 128

struct fake_world {
    struct sim *sim;
    struct sim_net *net;
    struct sim_node *client_node;
    struct sim_node *machines[FAKE_SHARDS]; /* something else that runs on the shards' machines */
    struct sim_node *shards[FAKE_SHARDS], *monitors[FAKE_MONITORS];
    struct client *client;
    struct client_image *image;
    struct client_io ios[FAKE_BUFFERS];
    struct buf *bufs[FAKE_BUFFERS];
};

extern struct fake_world world;

/* A fresh cluster, with a client (`client_config` may be NULL; timeout 10 s) and without an open image. */
void fake_up(uint64_t seed, uint64_t timeout_ns, uint32_t inflight_max);
/* One way, in what fake_up() makes; 0: as on a fast network. */
extern uint64_t fake_net_delay_ns;
/* The same: what a link takes before it is full; 0: 16 MiB. */
extern uint32_t fake_net_queue_bytes;
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
void fake_announce_image(void); /* the monitors tell the subscribers */

#endif
