/* SPDX-License-Identifier: Apache-2.0
 *
 * The serving side: sessions from a pool, and one op that watches them for silence. See session.h for how
 * they end.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "rpc/session.h"

#define BACKLOG_RETRY_NS  (1 * NS_PER_MS)
#define FULL_LOG_EVERY_NS (10 * NS_PER_S)
/* Beyond the open ones, which are limited, at least so many may be greeting, or have been refused. Whoever
 * comes takes the place of the oldest of these: silence and refusals keep nobody out. */
#define SPARE_SESSIONS 64u
/* How many that were seen before are remembered, beyond those with open sessions. */
#define SEEN_IDLE 1024u

/* ---- the end of sessions ---- */

void rpc_session_kill(struct rpc_session *session)
{
    struct rpc_server *server = session->server;

    if (session->state == SESSION_CLOSED)
        return;
    server->open_count -= session->state == SESSION_OPEN;
    session->state = SESSION_CLOSED;
    if (session->link) {
        link_close(session->link);
        session->link = NULL;
    }
    rpc_backlog_drop(session);
    map_remove(&server->by_id, session->by_id.key);
    if (session->seen) {
        rpc_seen_close(session->seen_table, session->seen, &session->of_seen);
        session->seen = NULL;
    }
    list_remove(&session->all);
    list_push_back(&server->dead, &session->all);
    op_wake(&server->op);
}

void rpc_session_fail(struct rpc_session *session, int error, const char *what)
{
    core_log(session->server->config.core, LOG_WARN, "rpc", "%s (%s): closing: %s: %s", session->address,
             session->who.name[0] ? session->who.name : "no name", what, error_text(error));
    rpc_session_kill(session);
}

void rpc_server_bury(struct rpc_server *server)
{
    struct list *node;

    while ((node = list_pop_front(&server->dead))) {
        struct rpc_session *session = list_entry(node, struct rpc_session, all);
        if (session->was_open && server->config.closed)
            server->config.closed(server->config.owner, session);
        pool_put(&server->pool, session);
    }
}

/* ---- events of links ---- */

static void session_request(struct rpc_session *session, const struct rpc_message *message)
{
    struct rpc_server *server = session->server;
    struct rpc_envelope envelope = {message->method, FRAME_REPLY, 0, message->request_id, false};

    if (message->method == METHOD_HELLO) {
        rpc_session_fail(session, -ERR_PROTOCOL, "greeted twice");
        return;
    }
    if (message->method != METHOD_PING && session->requests < server->config.requests_max) {
        session->requests++;
        server->config.message(server->config.owner, session, message);
        return;
    }
    if (message->method != METHOD_PING)
        envelope.result = -ERR_BUSY;
    /* Who asks more than is allowed and does not read the answers either is not worth a backlog. */
    int error = rpc_frame_send(session->link, &envelope, NULL, 0, NULL, 0);
    if (error == -ERR_BUSY && message->method != METHOD_PING)
        rpc_session_fail(session, error, "too many requests, and no answer is read");
}

static void session_message(void *owner, struct link *link, const struct frame *frame)
{
    struct rpc_session *session = owner;
    struct rpc_server *server = session->server;
    struct rpc_message message;

    if (link != session->link)
        return;
    session->received_ns = core_recent_ns(server->config.core);
    int error = rpc_frame_open(frame, &message);
    if (error)
        rpc_session_fail(session, error, "bad frame");
    else if (session->state == SESSION_GREETING)
        rpc_session_greet(session, &message);
    else if (session->state == SESSION_OPEN && message.flags == FRAME_REQUEST)
        session_request(session, &message);
    else if (session->state == SESSION_OPEN && message.flags == FRAME_ONEWAY)
        server->config.message(server->config.owner, session, &message);
    /* Replies are to our own PINGs. */
}

static void session_link_closed(void *owner, struct link *link, int error)
{
    struct rpc_session *session = owner;
    struct rpc_server *server = session->server;

    if (link != session->link)
        return;
    session->link = NULL;
    if (error == -ERR_PROTOCOL || error == -ERR_VERSION || error == -ERR_CHECKSUM)
        rpc_session_fail(session, error, "bad frame");
    else
        rpc_session_kill(session);
    rpc_server_bury(server);
}

static const struct link_events session_events = {.message = session_message, .closed = session_link_closed};

void rpc_server_log_full(struct rpc_server *server, const char *address, const char *what)
{
    uint64_t now_ns = core_now_ns(server->config.core);

    if (server->full_logged_ns && now_ns - server->full_logged_ns < FULL_LOG_EVERY_NS)
        return;
    server->full_logged_ns = now_ns;
    core_log(server->config.core, LOG_WARN, "rpc", "%s: %s; more of these are not logged for a while",
             address, what);
}

/* Open ones are never that many. */
static void make_room(struct rpc_server *server)
{
    struct rpc_session *oldest = list_first(&server->others, struct rpc_session, all);

    ASSERT(oldest);
    rpc_server_log_full(server, oldest->address,
                        "closing: more connections come than greet, or than may have a session");
    rpc_session_kill(oldest);
    rpc_server_bury(server);
}

static void server_accepted(void *owner, struct link *link)
{
    struct rpc_server *server = owner;

    rpc_server_bury(server);
    struct rpc_session *session = pool_get(&server->pool);
    if (!session) {
        make_room(server);
        session = pool_get(&server->pool);
    }
    uint64_t now_ns = core_now_ns(server->config.core);
    *session = (struct rpc_session){
        .server = server,
        .link = link,
        .state = SESSION_GREETING,
        .accepted_ns = now_ns,
        .received_ns = now_ns,
    };
    list_init(&session->all);
    list_init(&session->backlog);
    list_init(&session->of_seen);
    if (text_copy(session->address, sizeof(session->address), link_peer_address(link)))
        memcpy(session->address, "?", 2);
    list_push_back(&server->others, &session->all);
    map_put(&server->by_id, &session->by_id, ++server->next_session_id);
    link_own(link, &session_events, session);
    op_wake(&server->op); /* arms the timer */
}

/* ---- the op ---- */

static void session_ping(struct rpc_session *session, uint64_t now_ns)
{
    struct rpc_envelope envelope = {METHOD_PING, FRAME_REQUEST, 0, 0, false};

    session->pinged_ns = now_ns;
    if (rpc_frame_send(session->link, &envelope, NULL, 0, NULL, 0))
        core_log(session->server->config.core, LOG_DEBUG, "rpc", "%s: no room for a ping", session->address);
}

static void session_watch(struct rpc_session *session, uint64_t now_ns)
{
    uint64_t silent_ns = now_ns - session->received_ns;

    if (silent_ns >= RPC_SILENCE_MAX_NS) {
        rpc_session_fail(session, -ERR_TIMEOUT, "silent");
        return;
    }
    if (silent_ns >= RPC_SERVER_PING_AFTER_NS && now_ns - session->pinged_ns >= RPC_PING_EVERY_NS)
        session_ping(session, now_ns);
}

static void others_watch(struct rpc_server *server, uint64_t now_ns)
{
    list_for_each_safe (&server->others, node) {
        struct rpc_session *session = list_entry(node, struct rpc_session, all);
        if (now_ns - session->accepted_ns < RPC_GREET_MAX_NS)
            return;
        if (session->state == SESSION_GREETING)
            rpc_session_fail(session, -ERR_TIMEOUT, "no greeting");
        else
            rpc_session_kill(session);
    }
}

static void server_step(struct op *op)
{
    struct rpc_server *server = container_of(op, struct rpc_server, op);
    struct core *core = server->config.core;

    rpc_server_bury(server);
    uint64_t now_ns = core_now_ns(core);
    bool watch = now_ns >= server->next_watch_ns;
    if (watch)
        server->next_watch_ns = now_ns + RPC_PING_EVERY_NS;
    if (watch)
        others_watch(server, now_ns);
    if (watch || server->held_replies)
        list_for_each_safe (&server->sessions, node) {
            struct rpc_session *session = list_entry(node, struct rpc_session, all);
            if (watch)
                session_watch(session, now_ns);
            if (session->state == SESSION_OPEN)
                rpc_backlog_send(session);
        }
    rpc_server_bury(server);
    if (server->held_replies)
        timer_arm(core, &server->timer, &server->op, now_ns + BACKLOG_RETRY_NS);
    else if (!list_empty(&server->sessions) || !list_empty(&server->others))
        timer_arm(core, &server->timer, &server->op, server->next_watch_ns);
}

static const struct op_kind server_kind = {.name = "rpc.server", .step = server_step};

/* ---- what owners call ---- */

static void server_release(struct rpc_server *server)
{
    rpc_seen_fini(&server->clients);
    rpc_seen_fini(&server->osds);
    map_fini(&server->by_id);
    pool_fini(&server->pool);
    free(server);
}

static int server_allocate(const struct rpc_server_config *config, struct rpc_server **ret_server)
{
    struct rpc_server *server = calloc(1, sizeof(*server));

    if (!server)
        return -ERR_NO_MEMORY;
    server->config = *config;
    list_init(&server->sessions);
    list_init(&server->others);
    list_init(&server->dead);
    map_init(&server->by_id);
    map_init(&server->clients.by_id);
    map_init(&server->osds.by_id);
    int error = pool_init(&server->pool, sizeof(struct rpc_session), config->sessions_max + SPARE_SESSIONS);
    if (!error)
        error = map_reserve(&server->by_id, config->sessions_max + SPARE_SESSIONS);
    if (!error)
        error = rpc_seen_init(&server->clients, config->sessions_max + SEEN_IDLE);
    if (!error)
        error = rpc_seen_init(&server->osds, config->sessions_max + SEEN_IDLE);
    if (error) {
        server_release(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

int rpc_server_new(const struct rpc_server_config *config, struct rpc_server **ret_server)
{
    struct rpc_server *server;
    int error = server_allocate(config, &server);

    if (error)
        return error;
    op_start(&server->op, config->core, &server_kind, NULL);
    error = config->net->ops->listen(config->net, config->address, server_accepted, server, server->address,
                                     sizeof(server->address));
    if (error) {
        op_done(&server->op, 0);
        server_release(server);
        return error;
    }
    server->config.address = server->address;
    *ret_server = server;
    return 0;
}

void rpc_server_free(struct rpc_server *server)
{
    struct rpc_server_config *config = &server->config;

    config->net->ops->unlisten(config->net, server);
    while (!list_empty(&server->sessions))
        rpc_session_kill(list_first(&server->sessions, struct rpc_session, all));
    while (!list_empty(&server->others))
        rpc_session_kill(list_first(&server->others, struct rpc_session, all));
    rpc_server_bury(server);
    timer_cancel(config->core, &server->timer);
    op_done(&server->op, 0);
    server_release(server);
}

const char *rpc_server_address(const struct rpc_server *server)
{
    return server->address;
}

const struct rpc_identity *rpc_session_identity(const struct rpc_session *session)
{
    return &session->who;
}

const char *rpc_session_address(const struct rpc_session *session)
{
    return session->address;
}

void *rpc_session_context(const struct rpc_session *session)
{
    return session->context;
}

void rpc_session_set_context(struct rpc_session *session, void *context)
{
    session->context = context;
}

uint64_t rpc_session_heard_ns(const struct rpc_session *session)
{
    return session->state == SESSION_OPEN ? session->received_ns : 0;
}

void rpc_session_ping(struct rpc_session *session)
{
    if (session->state == SESSION_OPEN)
        session_ping(session, core_now_ns(session->server->config.core));
}

uint64_t rpc_session_unsent_bytes(const struct rpc_session *session)
{
    return session->state == SESSION_OPEN ? link_queued_bytes(session->link) : 0;
}

void rpc_session_close(struct rpc_session *session)
{
    rpc_session_kill(session);
}

int rpc_session_send(struct rpc_session *session, enum method method, bool patient, const uint8_t *body,
                     uint32_t body_len, const struct slice *pieces, uint32_t piece_count)
{
    struct rpc_envelope envelope = {method, FRAME_ONEWAY, 0, 0, patient};

    if (session->state != SESSION_OPEN)
        return -ERR_CLOSED;
    return rpc_frame_send(session->link, &envelope, body, body_len, pieces, piece_count);
}

struct rpc_ticket rpc_ticket(struct rpc_session *session, const struct rpc_message *message)
{
    ASSERT(message->flags == FRAME_REQUEST);
    return (struct rpc_ticket){
        .server = session->server,
        .session_id = session->by_id.key,
        .request_id = message->request_id,
        .method = message->method,
    };
}

static struct rpc_session *ticket_session(const struct rpc_ticket *ticket)
{
    struct map_node *node = map_get(&ticket->server->by_id, ticket->session_id);

    return node ? map_entry(node, struct rpc_session, by_id) : NULL;
}

bool rpc_ticket_alive(const struct rpc_ticket *ticket)
{
    return ticket_session(ticket) != NULL;
}

bool rpc_ticket_has_room(const struct rpc_ticket *ticket, uint32_t bytes)
{
    struct rpc_session *session = ticket_session(ticket);

    return session && rpc_backlog_has_room(session, bytes);
}

void rpc_reply(const struct rpc_ticket *ticket, int result, const uint8_t *body, uint32_t body_len,
               const struct slice *pieces, uint32_t piece_count)
{
    struct rpc_session *session = ticket_session(ticket);
    struct rpc_envelope envelope = {ticket->method, FRAME_REPLY, result, ticket->request_id, false};
    struct slice copy = {0};

    if (!session)
        return;
    ASSERT(session->requests > 0 && result <= 0);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < piece_count; i++)
        bytes += pieces[i].len;
    if (bytes && !rpc_backlog_has_room(session, bytes)) {
        envelope.result = -ERR_BUSY;
        body_len = piece_count = 0;
    } else if (session->who.role != RPC_OSD) {
        session->server->unsent_bytes += bytes;
        if (bytes && piece_count == 1) /* as what is read is sent */
            copy = rpc_backlog_copy(session, pieces);
        if (copy.buf)
            pieces = &copy;
    }
    int error = -ERR_BUSY;
    if (list_empty(&session->backlog))
        error = rpc_frame_send(session->link, &envelope, body, body_len, pieces, piece_count);
    ASSERT(error != -ERR_TOO_LARGE); /* limits of replies are the handler's to keep */
    if (error == -ERR_BUSY) {
        if (!rpc_backlog_hold(session, &envelope, body, body_len, pieces, piece_count))
            rpc_session_fail(session, -ERR_NO_MEMORY, "no room for a reply");
        slice_unref(&copy);
        return;
    }
    slice_unref(&copy);
    session->requests--;
}
