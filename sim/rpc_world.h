/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the rpc scenario: shards that serve, clients and other shards that call them, and those who do
 * not belong there.
 *
 *   rpc_server.c     who serves: what it is asked must be by whom it may be, as often as it may be
 *   rpc_caller.c     who calls: every call ends in time, with its own answer, in its own memory
 *   rpc_strangers.c  who greets wrongly, not at all, or for another; who answers in another's place
 *   rpc_calm.c       what shows only when nobody asks for anything
 *   scenario_rpc.c   the run
 */
#ifndef SIM_RPC_WORLD_H
#define SIM_RPC_WORLD_H

#include "rpc/hello.h"
#include "rpc/rpc.h"
#include "rpc/session.h"
#include "sim/scenarios.h"
#include "sim/sim_net.h"

#define RPC_SERVERS    3
#define RPC_CLIENTS    3
#define RPC_CALLERS    (RPC_CLIENTS + RPC_SERVERS) /* the last are the servers, who call one another */
#define RPC_ASKERS     24                          /* of each caller */
#define RPC_STARTS_MAX 64
#define RPC_ARENA      (4u << 20)
#define RPC_PORT       7000u

#define RPC_MARK_CALLER                                                                                      \
    0xc0 /* first byte of a client's uuid; the second: which, then: its how manieth start */
#define RPC_MARK_STRANGER 0x5a /* of a stranger's; the second: what kind of one */
#define RPC_STRANGER      "stranger"

struct rpc_world;

/* What its process has made; in the node. */
struct serving;
struct calling;

struct rpc_place {
    struct rpc_world *world;
    struct sim_node *node;
    uint32_t number;
    uint64_t starts; /* of an OSD: its start counter */
    uint8_t uuid[16];
    char address[40];
    struct serving *serving; /* NULL: down, or none */
    struct calling *calling; /* NULL: down */
    bool fooled;             /* it took a stranger for an OSD that it did not know: nobody can tell */

    /* As a caller: of what it asked this server the last, and the last before its newest session. */
    uint64_t next_serial, issued[RPC_SERVERS], barrier[RPC_SERVERS];
    /* As a server, since its last start: the newest that was accepted, for each start of a client and each
     * OSD. */
    uint64_t sessions[RPC_CLIENTS][RPC_STARTS_MAX], osds[RPC_SERVERS];
    uint8_t osd_uuids[RPC_SERVERS][16];
};

struct rpc_world {
    struct sim *sim;
    struct sim_net *net;
    struct sim_rng rng;
    struct rpc_place servers[RPC_SERVERS], clients[RPC_CLIENTS];
    struct strangers *strangers;
    uint8_t *pattern; /* what all payloads and bodies are parts of */
    uint32_t sessions_max, requests_max, calls_max;
    bool crowds;       /* more strangers come than there are places */
    bool hungry;       /* callers ask for more than the links have room for */
    bool quiet;        /* faults are over */
    bool calm;         /* and all is well */
    bool idle;         /* and nobody will ask for a while */
    uint64_t pings_ns; /* from then on sessions live by their pings alone; 0: they do not */
    bool asking;       /* callers may begin calls */
    bool stranded;     /* client.0 does not know which cluster it is to talk to */
    bool burst;        /* all of them at one server at once, each for as much as there may be */
    uint64_t calls, answers, refused, timeouts, dropped, strangers_refused;
};

static const uint8_t RPC_CLUSTER[16] = {1, 2, 3};

/* Who a place says it is, in that start of it. */
void rpc_self(const struct rpc_place *p, uint64_t start, struct rpc_identity *ret);
/* It was made by that, and nothing was lost on the way; `session` may be any. */
bool rpc_is_self(const struct rpc_place *p, uint64_t start, const struct rpc_identity *who);

static inline struct rpc_place *rpc_caller(struct rpc_world *w, uint32_t number)
{
    return number < RPC_CLIENTS ? &w->clients[number] : &w->servers[number - RPC_CLIENTS];
}

/* What a request asks for; encoded in front of its body. */
struct rpc_question {
    uint32_t caller, start;
    uint64_t serial;
    uint32_t body_len, payload_len; /* of the request itself */
    uint32_t delay_us;
    uint32_t reply_len, reply_payload_len;
};

#define RPC_QUESTION_SIZE 40u
/* What a server tells a caller unasked: to whom, in which start, by which start and session of its own. */
struct rpc_notice {
    uint32_t caller, start;
    uint64_t incarnation, guest, serial;
    uint32_t body_len, payload_len;
};

#define RPC_NOTICE_SIZE   40u
#define RPC_BODY_MAX      600u
#define RPC_PATTERN_STEPS 4096u
#define RPC_PATTERN_SIZE  (FRAME_PAYLOAD_MAX + RPC_PATTERN_STEPS)

/* The bytes that belong to a question or, `answer`, to its answer. */
static inline const uint8_t *rpc_pattern(const struct rpc_world *w, uint64_t serial, bool answer)
{
    return w->pattern + (serial * 2 + answer) % RPC_PATTERN_STEPS;
}

/* ---- rpc_server.c */

void rpc_server_place_start(struct rpc_place *p);
/* Nobody asks any more: all answers have been given. */
bool rpc_server_idle(const struct rpc_place *p);
void rpc_server_place_end(struct rpc_place *p);
/* Asks for a sign of everybody; and it came. */
void rpc_server_ping(struct rpc_place *p);
void rpc_server_check_sign(struct rpc_place *p);
/* Everybody has gone. */
void rpc_server_check_rest(struct rpc_place *p);
/* What must be so at any time. */
void rpc_server_audit(struct rpc_place *p);

/* ---- rpc_caller.c */

void rpc_caller_start(struct rpc_place *p);
bool rpc_caller_idle(const struct rpc_place *p);
/* It has a session with everybody, as they are since their last start. */
bool rpc_caller_open(const struct rpc_place *p);
/* Or had no place at those with whom it has none. */
bool rpc_caller_open_or_full(const struct rpc_place *p);
void rpc_caller_end(struct rpc_place *p);
void rpc_caller_audit(struct rpc_place *p);
/* While all was well it has had answers from everybody. */
void rpc_caller_check_served(const struct rpc_place *p);
/* It has greeted that server since it began to look for it. */
bool rpc_caller_knows(const struct rpc_place *p, uint32_t server);

/* What it does with its handle on one server; none on itself. */
void rpc_caller_ping(struct rpc_place *p, uint32_t server);
void rpc_caller_check_sign(struct rpc_place *p, uint32_t server); /* a moment ago it was asked for */
void rpc_caller_kick(struct rpc_place *p, uint32_t server);
void rpc_caller_renew(struct rpc_place *p, uint32_t server);

/* ---- rpc_strangers.c */

void strangers_init(struct rpc_world *w);
void strangers_fini(struct rpc_world *w);
/* Now and then. */
void strangers_strike(struct rpc_world *w);
/* The server is down: somebody may answer in its place. */
void impostor_start(struct rpc_world *w, uint32_t server);
void impostor_stop(struct rpc_world *w, uint32_t server);
void strangers_stop(struct rpc_world *w);
/* So many come that say nothing. */
void strangers_throng(struct rpc_world *w, uint32_t server, uint32_t count);
/* Of a stranger that a server has accepted: was it right? */
bool stranger_may(const struct rpc_identity *who);
/* The list of monitors, by a model. */
void monitors_check(struct rpc_world *w);

/* ---- rpc_calm.c */

void rpc_calm_run(struct rpc_world *w);
/* Who was seen before, by a model. */
void rpc_seen_check(struct rpc_world *w);
/* When all callers have gone. */
void rpc_calm_end(struct rpc_world *w);

/* ---- scenario_rpc.c */

/* Everybody has a session with everybody, and no call. */
bool rpc_all_open(void *world);

#endif
