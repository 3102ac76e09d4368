/* SPDX-License-Identifier: Apache-2.0
 *
 * Two simulated machines and a network: a server whose handler does as it is told, peers, and raw links that
 * send whatever frames a test wants. Virtual time: tests wait for conditions.
 */
#ifndef TESTS_RPC_WORLD_H
#define TESTS_RPC_WORLD_H

#include "base/error.h"
#include "rpc/rpc.h"
#include "sim/sim.h"
#include "sim/sim_net.h"
#include "tests/sim_wait.h"

#define SERVER_ADDRESS "10.0.0.1:7000"
#define TICKETS_MAX    256

/* What the server does with a request. */
enum handling {
    ANSWER,         /* at once: the body and the payload of the request */
    HOLD,           /* keeps the ticket */
    CLOSE_SESSION,  /* closes the asker's session */
    CLOSE_AND_HOLD, /* both */
};

struct world {
    struct sim *sim;
    struct sim_net *net;
    struct sim_node *server_node, *client_node;

    /* The server, made at each start of its node. */
    struct rpc_server_config server_config;
    struct rpc_identity server_self;
    struct rpc_server *server;
    enum handling handling;
    int greet_result;
    bool close_in_opened;
    int opened, closed, handled, oneways;
    uint64_t handled_session; /* of the client whose request came last */
    uint64_t highest_opened;  /* session number */
    int stale_handled;        /* requests of sessions below that */
    struct rpc_session *last_opened;
    struct rpc_ticket tickets[TICKETS_MAX];
    int ticket_count;

    struct rpc_identity client_self;
};

/* A network without faults; both machines are up. */
struct world *world_new(uint64_t seed, const struct sim_net_config *net_config);
/* Ends both machines in order: checks that nothing leaks. Peers must have been freed. */
void world_free(struct world *w);
/* The server's machine stops in order and starts again with w->server_config. */
void world_restart_server(struct world *w);

#define IN_CLIENT(w, statement) IN_NODE((w)->client_node, statement)
#define IN_SERVER(w, statement) IN_NODE((w)->server_node, statement)

static inline void world_run_ms(struct world *w, uint64_t ms)
{
    sim_run_for(w->sim, ms * NS_PER_MS);
}

/* ---- a peer that notes what happens to it ---- */

enum peer_reaction { REACT_NOT, FREE_IN_OPENED, FREE_IN_CLOSED, FREE_IN_ONEWAY, ABANDON_IN_ONEWAY };

struct client {
    struct world *world;
    struct rpc_peer *peer; /* NULL once freed by a reaction */
    struct rpc_identity *self;
    enum peer_reaction reaction;
    struct rpc_call *to_abandon;
    int opened, closed, oneways;
    int last_error;
};

/* Adjusts the configuration before the peer is made; may be NULL. */
void client_start(struct client *client, struct world *w, void (*adjust)(struct rpc_peer_config *config));
void client_stop(struct client *client);
/* Starts a call with a body of `len` bytes of `fill`. */
int client_call(struct client *client, struct rpc_call *call, enum method method, uint8_t fill, uint32_t len,
                uint64_t timeout_ms);

/* ---- a link that sends whatever a test wants ---- */

struct raw {
    struct world *world;
    struct link *link; /* NULL: not there, or closed */
    bool open;
    int closed_error;
    int replies, requests; /* frames received */
    int result;            /* of the last reply */
    uint8_t body[512];
    uint32_t body_len;
};

void raw_connect(struct raw *raw, struct world *w);
void raw_close(struct raw *raw);
void raw_send(struct raw *raw, enum method method, uint32_t flags, uint64_t id, const uint8_t *body,
              uint32_t len);
/* Sends HELLO as this identity and protocol number and waits for the answer, whose result it returns. */
int raw_hello(struct raw *raw, const struct rpc_identity *who, uint32_t protocol);

#endif
