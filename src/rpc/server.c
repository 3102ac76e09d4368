/* SPDX-License-Identifier: Apache-2.0
 *
 * The serving side: sessions from a pool, greeted, retired, watched for silence by one op.
 *
 *    accepted -> GREETING -> OPEN ----> CLOSED -> released
 *                   |                     ^
 *                   +----> REFUSED -------+
 *
 * A session ends in two parts. session_kill() closes the link and takes the session out of every table, so
 * that from that moment no frame of it is acted on, its tickets are dead and a newer one may be greeted. Its
 * memory stays until server_bury(), which calls the owner's closed() and releases it: from the op's step or
 * at the end of an event of a link, but never inside a call of the owner. So a handler may close its own
 * session and still hold the pointer.
 *
 * A refused session keeps its link for a while, because closing could lose the refusal; nothing it sends is
 * looked at.
 *
 * Replies that the link has no room for wait in a backlog of the session and are offered again every
 * millisecond; the number of outstanding requests bounds it. This is the one place of the room that allocates
 * after the start, and only for a client that asks for more than it reads.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "base/pool.h"
#include "base/text.h"
#include "rpc/frames.h"
#include "rpc/hello.h"
#include "rpc/seen.h"

#define BACKLOG_RETRY_NS  (1 * NS_PER_MS)
#define FULL_LOG_EVERY_NS (10 * NS_PER_S)
/* How many that were seen before are remembered, beyond those with open sessions. */
#define SEEN_IDLE 1024u

enum session_state { SESSION_GREETING, SESSION_OPEN, SESSION_REFUSED, SESSION_CLOSED };

struct rpc_session {
    struct rpc_server *server;
    struct link *link; /* NULL: closed */
    enum session_state state;
    struct map_node by_id;
    struct list all; /* in rpc_server.sessions or, CLOSED, in rpc_server.dead */
    bool was_open;   /* closed() is owed */
    void *context;
    uint32_t requests;   /* delivered and not yet answered, or in the backlog */
    struct list backlog; /* struct held_reply */
    uint64_t accepted_ns, received_ns, pinged_ns;
    struct rpc_seen_table *seen_table; /* with `seen`: NULL for monitors */
    struct rpc_seen *seen;
    struct list of_seen;
    struct rpc_identity who;
    char address[RPC_ADDRESS_MAX];
};

/* A reply that waits for room in the link's queue. */
struct held_reply {
    struct list link;
    struct rpc_envelope envelope;
    uint32_t body_len, piece_count;
    struct slice *pieces; /* references of its own */
    uint8_t *body;        /* with room in front */
};

struct rpc_server {
    struct op op;
    struct timer timer;
    struct rpc_server_config config;
    char address[RPC_ADDRESS_MAX];
    struct pool pool;
    struct list sessions, dead;
    struct map by_id;
    uint32_t count;
    uint32_t held_replies; /* of all sessions */
    uint64_t next_session_id;
    uint64_t next_watch_ns; /* when silence is next looked for */
    uint64_t full_logged_ns;
    struct rpc_seen_table clients, osds;
};

/* ---- the backlog
 * --------------------------------------------------------------------------------------------------- */

static void held_free(struct held_reply *held)
{
    for (uint32_t i = 0; i < held->piece_count; i++)
        slice_unref(&held->pieces[i]);
    free(held);
}

static bool session_hold(struct rpc_session *session, const struct rpc_envelope *envelope,
                         const uint8_t *body, uint32_t body_len, const struct slice *pieces,
                         uint32_t piece_count)
{
    size_t pieces_size = piece_count * sizeof(*pieces);
    struct held_reply *held = calloc(1, sizeof(*held) + pieces_size + FRAME_HEADER_SIZE + body_len);

    if (!held)
        return false;
    session->server->config.core->counters.allocs++;
    held->envelope = *envelope;
    held->pieces = (struct slice *)(held + 1);
    held->body = (uint8_t *)(held + 1) + pieces_size + FRAME_HEADER_SIZE;
    held->body_len = body_len;
    if (body_len)
        memcpy(held->body, body, body_len);
    for (uint32_t i = 0; i < piece_count; i++)
        if (pieces[i].buf && pieces[i].len)
            held->pieces[held->piece_count++] = slice_sub(&pieces[i], 0, pieces[i].len);
    list_push_back(&session->backlog, &held->link);
    session->server->held_replies++;
    op_wake(&session->server->op);
    return true;
}

static void session_drop_backlog(struct rpc_session *session)
{
    struct list *node;

    while ((node = list_pop_front(&session->backlog))) {
        held_free(list_entry(node, struct held_reply, link));
        session->server->held_replies--;
    }
}

static void session_send_backlog(struct rpc_session *session)
{
    struct held_reply *held;

    while ((held = list_first(&session->backlog, struct held_reply, link))) {
        int error = rpc_frame_send(session->link, &held->envelope, held->body, held->body_len, held->pieces,
                                   held->piece_count);
        if (error == -ERR_BUSY)
            return;
        /* Sent; or the link is broken and its end will be reported. */
        list_remove(&held->link);
        held_free(held);
        session->server->held_replies--;
        session->requests--;
    }
}

/* ---- the end of sessions
 * ------------------------------------------------------------------------------------------- */

static void session_kill(struct rpc_session *session)
{
    struct rpc_server *server = session->server;

    if (session->state == SESSION_CLOSED)
        return;
    session->state = SESSION_CLOSED;
    if (session->link) {
        link_close(session->link);
        session->link = NULL;
    }
    session_drop_backlog(session);
    map_remove(&server->by_id, session->by_id.key);
    if (session->seen) {
        rpc_seen_close(session->seen_table, session->seen, &session->of_seen);
        session->seen = NULL;
    }
    list_remove(&session->all);
    list_push_back(&server->dead, &session->all);
    op_wake(&server->op);
}

static void session_fail(struct rpc_session *session, int error, const char *what)
{
    core_log(session->server->config.core, LOG_WARN, "rpc", "%s (%s): closing: %s: %s", session->address,
             session->who.name[0] ? session->who.name : "no name", what, error_text(error));
    session_kill(session);
}

static void server_bury(struct rpc_server *server)
{
    struct list *node;

    while ((node = list_pop_front(&server->dead))) {
        struct rpc_session *session = list_entry(node, struct rpc_session, all);
        if (session->was_open && server->config.closed)
            server->config.closed(server->config.owner, session);
        server->count--;
        pool_put(&server->pool, session);
    }
}

/* ---- greeting
 * ------------------------------------------------------------------------------------------------------ */

/* The name under which a session's maker is remembered; NULL table: not at all. */
static struct rpc_seen_table *seen_id(struct rpc_server *server, const struct rpc_identity *who,
                                      uint8_t ret_id[16])
{
    switch (who->role) {
    case RPC_CLIENT:
        memcpy(ret_id, who->client_uuid, 16);
        return &server->clients;
    case RPC_OSD:
        memset(ret_id, 0, 16);
        memcpy(ret_id, &who->osd, sizeof(who->osd));
        memcpy(ret_id + sizeof(who->osd), &who->shard, sizeof(who->shard));
        return &server->osds;
    case RPC_MON:
        break;
    }
    return NULL;
}

static int check_seen(const struct rpc_seen *seen, const struct rpc_identity *who)
{
    if (who->role == RPC_CLIENT)
        return who->session > seen->highest ? 0 : -ERR_FENCED;
    if (memcmp(who->osd_uuid, seen->osd_uuid, sizeof(seen->osd_uuid)) != 0)
        return -ERR_IDENTITY;
    return who->incarnation >= seen->highest ? 0 : -ERR_ROLLED_BACK;
}

/* Decides about a newcomer, without changing anything. */
static int session_check(struct rpc_session *session, const struct rpc_hello *hello)
{
    static const uint8_t no_uuid[16];
    struct rpc_server *server = session->server;
    const struct rpc_identity *self = server->config.self, *who = &hello->who;
    uint8_t id[16];

    int error = rpc_hello_check_cluster(self, who);
    if (error)
        return error;
    if (hello->has_target &&
        (self->role != RPC_OSD || self->osd != hello->target_osd || self->shard != hello->target_shard))
        return -ERR_IDENTITY;
    if (who->role == RPC_CLIENT && memcmp(who->client_uuid, no_uuid, sizeof(no_uuid)) == 0)
        return -ERR_IDENTITY;
    struct rpc_seen_table *table = seen_id(server, who, id);
    struct rpc_seen *seen = table ? rpc_seen_find(table, id) : NULL;
    if (seen && (error = check_seen(seen, who)))
        return error;
    return server->config.greet ? server->config.greet(server->config.owner, who) : 0;
}

/* Remembers the newcomer and retires the sessions that it replaces: all others of a client, those of an OSD
 * shard's former starts. */
static int session_replace(struct rpc_session *session)
{
    struct rpc_server *server = session->server;
    const struct rpc_identity *who = &session->who;
    uint8_t id[16];
    struct rpc_seen_table *table = seen_id(server, who, id);
    struct rpc_seen *seen;

    if (!table)
        return 0;
    if (!(seen = rpc_seen_find(table, id)) && !(seen = rpc_seen_add(table, id)))
        return -ERR_BUSY;
    /* Opened first, so that the entry does not become idle in between. */
    rpc_seen_open(seen, &session->of_seen);
    session->seen_table = table;
    session->seen = seen;
    seen->highest = who->role == RPC_CLIENT ? who->session : who->incarnation;
    memcpy(seen->osd_uuid, who->osd_uuid, sizeof(seen->osd_uuid));
    list_for_each_safe (&seen->sessions, node) {
        struct rpc_session *other = list_entry(node, struct rpc_session, of_seen);
        if (PLANT(RPC_NO_RETIRE))
            break;
        if (other != session && (who->role == RPC_CLIENT || other->who.incarnation < who->incarnation))
            session_kill(other);
    }
    server_bury(server);
    return 0;
}

static void session_greet(struct rpc_session *session, const struct rpc_message *message)
{
    struct rpc_server *server = session->server;
    RPC_FRAME_SCRATCH(scratch, HELLO_BODY_MAX);
    struct rpc_envelope envelope = {METHOD_HELLO, FRAME_REPLY, 0, message->request_id};
    struct rpc_hello hello;

    if (message->method != METHOD_HELLO || message->flags != FRAME_REQUEST) {
        session_fail(session, -ERR_PROTOCOL, "not greeted first");
        return;
    }
    int error = rpc_hello_decode(message->body, message->body_len, &hello);
    if (!error) {
        session->who = hello.who;
        error = session_check(session, &hello);
    }
    if (!error)
        error = session_replace(session);
    if (error) {
        core_log(server->config.core, LOG_WARN, "rpc", "%s (%s): refused: %s", session->address,
                 session->who.name[0] ? session->who.name : "no name", error_text(error));
        session->state = SESSION_REFUSED;
        envelope.result = error;
        if (rpc_frame_send(session->link, &envelope, NULL, 0, NULL, 0))
            session_kill(session);
        return;
    }
    uint32_t len = rpc_hello_encode(rpc_body(scratch), &(struct rpc_hello){
                                                           .protocol = RPC_PROTOCOL,
                                                           .who = *server->config.self,
                                                       });
    if (rpc_frame_send(session->link, &envelope, rpc_body(scratch), len, NULL, 0)) {
        session_kill(session);
        return;
    }
    session->state = SESSION_OPEN;
    session->was_open = true;
    if (server->config.opened)
        server->config.opened(server->config.owner, session);
}

/* ---- events of links
 * ----------------------------------------------------------------------------------------------- */

static void session_request(struct rpc_session *session, const struct rpc_message *message)
{
    struct rpc_server *server = session->server;
    struct rpc_envelope envelope = {message->method, FRAME_REPLY, 0, message->request_id};

    if (message->method == METHOD_HELLO) {
        session_fail(session, -ERR_PROTOCOL, "greeted twice");
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
        session_fail(session, error, "too many requests, and no answer is read");
}

static void session_message(void *owner, struct link *link, const struct frame *frame)
{
    struct rpc_session *session = owner;
    struct rpc_server *server = session->server;
    struct rpc_message message;

    if (link != session->link)
        return;
    session->received_ns = core_now_ns(server->config.core);
    int error = rpc_frame_open(frame, &message);
    if (error)
        session_fail(session, error, "bad frame");
    else if (session->state == SESSION_GREETING)
        session_greet(session, &message);
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
        session_fail(session, error, "bad frame");
    else
        session_kill(session);
    server_bury(server);
}

static const struct link_events session_events = {.message = session_message, .closed = session_link_closed};

/* For a link that is closed before anything can come of it. */
static void ignore_message(void *owner, struct link *link, const struct frame *frame)
{
}

static void ignore_closed(void *owner, struct link *link, int error)
{
}

static const struct link_events ignore_events = {.message = ignore_message, .closed = ignore_closed};

static void server_refuse(struct rpc_server *server, struct link *link)
{
    uint64_t now_ns = core_now_ns(server->config.core);

    if (!server->full_logged_ns || now_ns - server->full_logged_ns >= FULL_LOG_EVERY_NS) {
        server->full_logged_ns = now_ns;
        core_log(server->config.core, LOG_WARN, "rpc", "%s: closing: there are %u sessions, the limit",
                 link_peer_address(link), server->count);
    }
    link_own(link, &ignore_events, NULL);
    link_close(link);
}

static void server_accepted(void *owner, struct link *link)
{
    struct rpc_server *server = owner;
    struct rpc_session *session = pool_get(&server->pool);

    if (!session) {
        server_refuse(server, link);
        return;
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
    list_push_back(&server->sessions, &session->all);
    map_put(&server->by_id, &session->by_id, ++server->next_session_id);
    server->count++;
    link_own(link, &session_events, session);
    op_wake(&server->op); /* arms the timer */
}

/* ---- the op
 * -------------------------------------------------------------------------------------------------------- */

static void session_watch(struct rpc_session *session, uint64_t now_ns)
{
    struct rpc_envelope envelope = {METHOD_PING, FRAME_REQUEST, 0, 0};
    uint64_t silent_ns = now_ns - session->received_ns;

    if (session->state != SESSION_OPEN) {
        if (now_ns - session->accepted_ns >= RPC_GREET_MAX_NS) {
            if (session->state == SESSION_GREETING)
                session_fail(session, -ERR_TIMEOUT, "no greeting");
            else
                session_kill(session);
        }
        return;
    }
    if (silent_ns >= RPC_SILENCE_MAX_NS) {
        session_fail(session, -ERR_TIMEOUT, "silent");
        return;
    }
    if (silent_ns < RPC_SERVER_PING_AFTER_NS || now_ns - session->pinged_ns < RPC_PING_EVERY_NS)
        return;
    session->pinged_ns = now_ns;
    if (rpc_frame_send(session->link, &envelope, NULL, 0, NULL, 0))
        core_log(session->server->config.core, LOG_DEBUG, "rpc", "%s: no room for a ping", session->address);
}

static void server_step(struct op *op)
{
    struct rpc_server *server = container_of(op, struct rpc_server, op);
    struct core *core = server->config.core;

    server_bury(server);
    uint64_t now_ns = core_now_ns(core);
    bool watch = now_ns >= server->next_watch_ns;
    if (watch)
        server->next_watch_ns = now_ns + RPC_PING_EVERY_NS;
    if (watch || server->held_replies)
        list_for_each_safe (&server->sessions, node) {
            struct rpc_session *session = list_entry(node, struct rpc_session, all);
            if (watch)
                session_watch(session, now_ns);
            if (session->state == SESSION_OPEN)
                session_send_backlog(session);
        }
    server_bury(server);
    if (server->held_replies)
        timer_arm(core, &server->timer, &server->op, now_ns + BACKLOG_RETRY_NS);
    else if (!list_empty(&server->sessions))
        timer_arm(core, &server->timer, &server->op, server->next_watch_ns);
}

static const struct op_kind server_kind = {.name = "rpc.server", .step = server_step};

/* ---- what owners call
 * ---------------------------------------------------------------------------------------------- */

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
    list_init(&server->dead);
    map_init(&server->by_id);
    map_init(&server->clients.by_id);
    map_init(&server->osds.by_id);
    int error = pool_init(&server->pool, sizeof(struct rpc_session), config->sessions_max);
    if (!error)
        error = map_reserve(&server->by_id, config->sessions_max);
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
        session_kill(list_first(&server->sessions, struct rpc_session, all));
    server_bury(server);
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

void rpc_session_close(struct rpc_session *session)
{
    session_kill(session);
}

int rpc_session_send(struct rpc_session *session, enum method method, const uint8_t *body, uint32_t body_len,
                     const struct slice *pieces, uint32_t piece_count)
{
    struct rpc_envelope envelope = {method, FRAME_ONEWAY, 0, 0};

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

void rpc_reply(const struct rpc_ticket *ticket, int result, const uint8_t *body, uint32_t body_len,
               const struct slice *pieces, uint32_t piece_count)
{
    struct rpc_session *session = ticket_session(ticket);
    struct rpc_envelope envelope = {ticket->method, FRAME_REPLY, result, ticket->request_id};

    if (!session)
        return;
    ASSERT(session->requests > 0 && result <= 0);
    int error = -ERR_BUSY;
    if (list_empty(&session->backlog))
        error = rpc_frame_send(session->link, &envelope, body, body_len, pieces, piece_count);
    ASSERT(error != -ERR_TOO_LARGE); /* limits of replies are the handler's to keep */
    if (error == -ERR_BUSY) {
        if (!session_hold(session, &envelope, body, body_len, pieces, piece_count))
            session_fail(session, -ERR_NO_MEMORY, "no room for a reply");
        return;
    }
    session->requests--;
}
