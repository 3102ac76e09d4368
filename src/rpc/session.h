/* SPDX-License-Identifier: Apache-2.0
 *
 * The serving side from inside: what server.c, greet.c and backlog.c share. For the files of this room only.
 *
 *    accepted -> GREETING -> OPEN ----> CLOSED -> released
 *                   |                     ^
 *                   +----> REFUSED -------+
 *
 * A session ends in two parts. rpc_session_kill() closes the link and takes the session out of every table,
 * so that from that moment no frame of it is acted on, its tickets are dead and a newer one may be greeted.
 * Its memory stays until rpc_server_bury(), which calls the owner's closed() and releases it: from the op's
 * step or at the end of an event of a link, but never inside a call of the owner. So a handler may close its
 * own session and still hold the pointer.
 */
#ifndef RPC_SESSION_H
#define RPC_SESSION_H

#include "base/pool.h"
#include "rpc/frames.h"
#include "rpc/seen.h"

/* Payloads of replies that one session may have in its backlog, and bodies: see backlog.c. */
#define RPC_BACKLOG_BYTES_MAX (32u << 20)

enum session_state { SESSION_GREETING, SESSION_OPEN, SESSION_REFUSED, SESSION_CLOSED };

struct rpc_session {
    struct rpc_server *server;
    struct link *link; /* NULL: closed */
    enum session_state state;
    struct map_node by_id;
    struct list all; /* in rpc_server.sessions or, if not OPEN, in .others or, CLOSED, in .dead */
    bool was_open;   /* closed() is owed */
    void *context;
    uint32_t requests;   /* delivered and not yet answered, or in the backlog */
    struct list backlog; /* struct held_reply */
    uint64_t backlog_bytes, backlog_body_bytes; /* of payloads, and of bodies */
    uint64_t accepted_ns, received_ns, pinged_ns;
    struct rpc_seen_table *seen_table; /* with `seen`: NULL for monitors */
    struct rpc_seen *seen;
    struct list of_seen;
    struct rpc_identity who;
    char address[RPC_ADDRESS_MAX];
};

struct rpc_server {
    struct op op;
    struct timer timer;
    struct rpc_server_config config;
    char address[RPC_ADDRESS_MAX];
    struct pool pool;
    struct list sessions, others, dead; /* others: in the order in which they came */
    struct map by_id;
    uint32_t open_count;
    uint32_t held_replies; /* of all sessions */
    uint64_t unsent_bytes; /* of clients, in links and backlogs, and what has left since counted_ns */
    uint64_t counted_ns;   /* 0: never */
    uint64_t next_session_id;
    uint64_t next_watch_ns; /* when silence is next looked for */
    uint64_t full_logged_ns;
    struct rpc_seen_table clients, osds;
};

/* ---- server.c */

/* From now on nothing of the session is acted on; harmless if it is closed already. */
void rpc_session_kill(struct rpc_session *session);
/* The same, with a log line. */
void rpc_session_fail(struct rpc_session *session, int error, const char *what);
/* Tells the owner of the killed ones and releases them. */
void rpc_server_bury(struct rpc_server *server);
/* Somebody finds no place: in the log now and then only, for crowds come again and again. */
void rpc_server_log_full(struct rpc_server *server, const char *address, const char *what);

/* ---- greet.c */

/* The first frame of a session, whatever it is. */
void rpc_session_greet(struct rpc_session *session, const struct rpc_message *message);

/* ---- backlog.c */

/* May so many bytes of payload more wait for this one to take them? */
bool rpc_backlog_has_room(struct rpc_session *session, uint64_t bytes);
/* Of a payload that would wait and keep a far larger buffer than it fills, where memory is scarce: a copy, which is
 * the caller's. Empty: it may go as it is, or there is no memory. */
struct slice rpc_backlog_copy(struct rpc_session *session, const struct slice *piece);
/* Keeps a reply that the link has no room for; of one whose payload is too much, that it is ERR_BUSY. False: no
 * memory, or its bodies are too much. */
MUST_CHECK bool rpc_backlog_hold(struct rpc_session *session, const struct rpc_envelope *envelope,
                                 const uint8_t *body, uint32_t body_len, const struct slice *pieces,
                                 uint32_t piece_count);
/* Offers them to the link again. The link must be there. */
void rpc_backlog_send(struct rpc_session *session);
/* Throws them away. */
void rpc_backlog_drop(struct rpc_session *session);

#endif
