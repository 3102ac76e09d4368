/* SPDX-License-Identifier: Apache-2.0
 *
 * rpc: sessions over links. May include: base rt wire.
 *
 * A session is one link after its HELLO exchange. Either side may send requests (matched to replies by id, each with a
 * deadline) and one-way frames. A `peer` is the calling side's handle on one address: it makes the session when first
 * needed, reconnects with back-off, and numbers its sessions. When a call times out or is abandoned, the session it was sent on is
 * RETIRED: its link is closed before the caller learns the result, so that no frame of the old session can be acted on
 * after a new session of the same client was greeted: the server closes older sessions of a client when it greets a newer one.
 *
 * Flow control: rpc_call_start() fails with ERR_BUSY when the link's send queue is full or `calls_max` are outstanding;
 * the caller waits and tries again. Deadlines cost one timer per session, not one per call.
 *
 * All by the core's thread.
 */
#ifndef RPC_RPC_H
#define RPC_RPC_H

#include "base/base.h"
#include "base/list.h"
#include "base/map.h"
#include "rt/core.h"
#include "rt/net.h"
#include "wire/frame.h"

struct rpc_peer;
struct rpc_server;
struct rpc_session;

/* Who a process says it is, and who it learned the other end is. Sent and checked in HELLO. */
enum rpc_role { RPC_CLIENT = 1, RPC_OSD = 2, RPC_MON = 3 };

struct rpc_identity {
    enum rpc_role role;
    uint8_t cluster[16];       /* all zero: not known yet */
    uint32_t osd, shard;       /* RPC_OSD */
    uint8_t osd_uuid[16];
    uint64_t incarnation;      /* RPC_OSD: start counter */
    uint64_t start_token;      /* RPC_OSD: random, of this start; 0: not known */
    uint8_t client_uuid[16];   /* RPC_CLIENT */
    uint64_t session;          /* RPC_CLIENT: number of this session */
    bool command;              /* RPC_CLIENT: somebody waits for its end */
    uint64_t epoch;
    uint64_t image_id_max;
    char name[64];
};

/* A received frame, as handlers and callers see it; memory is valid during the call of the handler. */
struct rpc_message {
    enum method method;
    uint32_t flags;
    int result;
    uint64_t request_id;
    const uint8_t *body;
    uint32_t body_len;
    struct slice payload;      /* keep it with slice_sub() */
    bool payload_dropped;
    uint8_t *placed;           /* the payload is there, and `payload` empty; see rpc_call.place */
};

/* ---- calling ---------------------------------------------------------------------------------------------------- */

struct rpc_peer_config {
    struct core *core;
    struct net *net;
    const char *address;                  /* copied */
    struct rpc_identity *self;            /* the caller's; read at each handshake, so that epoch is current. For RPC_CLIENT
                                           * each handshake raises `session` by one. */
    bool has_target;                      /* refuse anyone but this OSD shard */
    uint32_t target_osd, target_shard;
    uint32_t calls_max;
    /* All may be NULL; from the core's poll, never from inside a call of this room. Each may start and abandon calls, and,
     * but for `check`, free the peer. */
    int (*check)(void *owner, const struct rpc_identity *who); /* nonzero: the handshake fails with that error */
    void (*opened)(void *owner, struct rpc_peer *peer, const struct rpc_identity *who);
    /* A session ended or an attempt failed. `error`: see link_events.closed; what the handshake was refused with; ERR_TIMEOUT,
     * ERR_CANCELLED: a call retired the session. Calls have ended before. Reconnecting goes on by itself. */
    void (*closed)(void *owner, struct rpc_peer *peer, int error);
    void (*oneway)(void *owner, struct rpc_peer *peer, const struct rpc_message *message);
    void *owner;
};

/* Connects at once (from the run queue) and keeps connected. NULL: no memory, or an overlong address. */
struct rpc_peer *rpc_peer_new(const struct rpc_peer_config *config);
void rpc_peer_free(struct rpc_peer *peer);   /* outstanding calls end with ERR_CANCELLED */
bool rpc_peer_is_open(const struct rpc_peer *peer);
/* When something last came by the open session, as of the beginning of the turn that took it; 0: there is no session. */
uint64_t rpc_peer_heard_ns(const struct rpc_peer *peer);
/* Asks for a sign of life now; it shows in rpc_peer_heard_ns(). Without a session nothing happens. */
void rpc_peer_ping(struct rpc_peer *peer);
/* The open session is of no use: ends it (calls: ERR_CLOSED, closed(): ERR_TIMEOUT) and makes a new one at once. */
void rpc_peer_renew(struct rpc_peer *peer);
/* Why the last attempt failed; 0 when open. */
int rpc_peer_error(const struct rpc_peer *peer);
/* Who answered last, NULL before the first handshake. */
const struct rpc_identity *rpc_peer_identity(const struct rpc_peer *peer);
/* Skips the back-off: connect now. */
void rpc_peer_kick(struct rpc_peer *peer);

/* One request, embedded by value in the op that waits; zeroed before first use. */
struct rpc_call {
    struct op *waiter;
    struct rpc_peer *peer;
    struct list link;          /* in the session's calls, by deadline */
    struct map_node by_id;
    uint64_t deadline_ns;
    uint64_t sent_ns;
    bool pending;
    int result;                /* 0, the remote's error, ERR_TIMEOUT, ERR_CLOSED, ERR_CANCELLED */
    bool remote;               /* the result came from the remote: a definite answer; otherwise the outcome is unknown */
    /* The reply: a copy of the body in caller's memory of `reply_cap` bytes, and the payload by reference (always release
     * it: nobody knows what the remote sends). With reply_cap 0 the body is not wanted; one that does not fit makes
     * a success ERR_TOO_LARGE. An answer whose payload was dropped for lack of memory here is ERR_RETRY, with `remote`.
     * The payload of a success that is exactly `place_len` long goes to `place` (NULL: none) instead, and `placed` is set; that
     * memory may be written to from the start of the call to its end, and is not any more when the end is known. */
    uint8_t *reply;
    uint32_t reply_cap;
    uint32_t reply_len;
    struct slice reply_payload;
    uint8_t *place;
    uint32_t place_len;
    bool placed;
};

/* `body` points to body_len bytes that have FRAME_HEADER_SIZE bytes of room in front (rpc_body()); copied before return.
 * The payload is the gather list `pieces` (rt/net.h), referenced until sent. Returns 0 (the call is pending) or, with
 * nothing started: ERR_BUSY, ERR_CLOSED (not connected now), ERR_TOO_LARGE, ERR_TIMEOUT (the deadline has passed). */
MUST_CHECK int rpc_call_start(struct rpc_call *call, struct rpc_peer *peer, struct op *waiter, enum method method,
                              const uint8_t *body, uint32_t body_len, const struct slice *pieces, uint32_t piece_count,
                              uint64_t deadline_ns);

/* Gives a pending call up: retires its session and ends it with ERR_CANCELLED. Safe on a call that is not pending. */
void rpc_call_abandon(struct rpc_call *call);

/* Sends a one-way frame; `patient` as in struct frame (rt/net.h). ERR_BUSY, ERR_CLOSED. */
MUST_CHECK int rpc_peer_send(struct rpc_peer *peer, enum method method, bool patient, const uint8_t *body,
                             uint32_t body_len, const struct slice *pieces, uint32_t piece_count);

/* ---- serving ----------------------------------------------------------------------------------------------------- */

struct rpc_server_config {
    struct core *core;
    struct net *net;
    const char *address;                  /* to listen on; port 0: any */
    struct rpc_identity *self;
    uint32_t sessions_max;                /* open ones; past it newcomers are refused: ERR_BUSY */
    uint32_t requests_max;                /* outstanding per session; past it requests are answered ERR_BUSY */
    /* Callbacks come from the core's poll; none may free the server. `greet`, `opened` and `closed` may be NULL.
     * Decides about a newcomer: 0 or an error that is sent back. NULL: everyone. */
    int (*greet)(void *owner, const struct rpc_identity *who);
    void (*opened)(void *owner, struct rpc_session *session);
    /* The session is gone: replies to its requests will be dropped silently. Once for each session that was `opened`, also
     * after rpc_session_close(); the pointer is invalid when it returns. A session that another replaces is closed before
     * the other is opened. */
    void (*closed)(void *owner, struct rpc_session *session);
    /* A request or a one-way frame. A request must be answered exactly once with rpc_reply(), now or later. */
    void (*message)(void *owner, struct rpc_session *session, const struct rpc_message *message);
    void *owner;
};

/* ERR_NO_MEMORY, or why the address cannot be listened on. */
MUST_CHECK int rpc_server_new(const struct rpc_server_config *config, struct rpc_server **ret_server);
void rpc_server_free(struct rpc_server *server); /* calls closed() for every open session */
const char *rpc_server_address(const struct rpc_server *server); /* as bound: with the port chosen */
/* Payloads of answers that clients have yet to take: at most half of the core's arena, and 0 below a 16th of it. It may be
 * too much by what was taken in the last millisecond. */
uint64_t rpc_server_unsent_bytes(struct rpc_server *server);

const struct rpc_identity *rpc_session_identity(const struct rpc_session *session);
const char *rpc_session_address(const struct rpc_session *session);
void *rpc_session_context(const struct rpc_session *session);
void rpc_session_set_context(struct rpc_session *session, void *context);
/* As rpc_peer_heard_ns() and rpc_peer_ping(). */
uint64_t rpc_session_heard_ns(const struct rpc_session *session);
void rpc_session_ping(struct rpc_session *session);
/* What its link has yet to send. */
uint64_t rpc_session_unsent_bytes(const struct rpc_session *session);
/* From now on nothing of it is acted on; the pointer stays valid until closed() was called, from the run queue. */
void rpc_session_close(struct rpc_session *session);
/* As rpc_peer_send(). */
MUST_CHECK int rpc_session_send(struct rpc_session *session, enum method method, bool patient, const uint8_t *body,
                                uint32_t body_len, const struct slice *pieces, uint32_t piece_count);

/* A request that is to be answered later: remembers the session without keeping it alive. By value. */
struct rpc_ticket {
    struct rpc_server *server;
    uint64_t session_id; /* never used again by this server */
    uint64_t request_id;
    enum method method;
};

struct rpc_ticket rpc_ticket(struct rpc_session *session, const struct rpc_message *message);
/* Is the asker still there? A request whose session was retired must not be proposed any more. */
bool rpc_ticket_alive(const struct rpc_ticket *ticket);
/* May the answer have a payload of so many bytes now? Not while the asker does not take the answers that it has. */
bool rpc_ticket_has_room(const struct rpc_ticket *ticket, uint32_t bytes);
/* Sends the reply, if the session is still there. `body` as for rpc_call_start(); may be NULL with body_len 0. In place of
 * a payload that there is no room for, because answers are not taken, goes ERR_BUSY. */
void rpc_reply(const struct rpc_ticket *ticket, int result, const uint8_t *body, uint32_t body_len,
               const struct slice *pieces, uint32_t piece_count);

/* ---- both -------------------------------------------------------------------------------------------------------- */

/* Where to encode a body: scratch memory of the caller with the header's room in front. */
#define RPC_FRAME_SCRATCH(name, body_max) uint8_t name[FRAME_HEADER_SIZE + (body_max)]
static inline uint8_t *rpc_body(uint8_t *scratch)
{
    return scratch + FRAME_HEADER_SIZE;
}

#endif
