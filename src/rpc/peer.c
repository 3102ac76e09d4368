/* SPDX-License-Identifier: Apache-2.0
 *
 * The calling side: one op for each peer, which connects, greets, watches deadlines and silence.
 *
 *    WAITING -----> CONNECTING -----> GREETING -----> OPEN
 *       ^  back-off     |                |              |
 *       |               v                v              v
 *       +--- refused, too late, link closed, session retired
 *
 * Whatever ends a session goes through peer_drop(): the link is closed first, then the calls end, and the
 * owner's closed() follows from the op's next step, never from inside a call of this room. Calls are in a
 * hash table by request id and in a list by deadline, whose head together with the keepalive decides when the
 * one timer fires; it is moved forward when a call needs it earlier, and otherwise left to fire in vain.
 *
 * Owners may free the peer inside their callbacks: it then lives until the callback has returned.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "rpc/frames.h"
#include "rpc/hello.h"

#define BACKOFF_FIRST_NS (10 * NS_PER_MS)
#define BACKOFF_MAX_NS   (500 * NS_PER_MS)
/* For the link to be there, from the start of an attempt: asking anew is faster than waiting for TCP to
 * repeat itself. And for the answer to HELLO. */
#define CONNECT_MAX_NS (500 * NS_PER_MS)
#define GREET_MAX_NS   (2 * NS_PER_S)
/* A session that lasted this long is no failed attempt: the next one is made at once. */
#define STABLE_AFTER_NS (1 * NS_PER_S)

enum peer_state { PEER_WAITING, PEER_CONNECTING, PEER_GREETING, PEER_OPEN };

struct rpc_peer {
    struct op op; /* in one of the states above */
    struct timer timer;
    struct rpc_peer_config config;
    char address[RPC_ADDRESS_MAX];
    struct link *link; /* NULL: none */

    struct map calls_by_id;
    struct list calls; /* earliest deadline first */
    uint32_t call_count;
    uint64_t next_id; /* request ids: never the same again, whatever the session */
    uint64_t hello_id;

    uint64_t since_ns;      /* when the present state began */
    uint64_t connect_at_ns; /* WAITING */
    uint64_t backoff_ns;    /* upper bound of the next wait */
    uint64_t received_ns;   /* when the other end last gave a sign, */
    uint64_t sent_ns;       /* and we to it */
    uint64_t pinged_ns;

    int error;        /* why there is no session; 0: there is, or nothing was tried yet */
    int error_logged; /* repeats are not logged */
    int unreported;   /* closed() is to be called with this */
    bool greeted;     /* `who` is valid */
    struct rpc_identity who;

    uint32_t callbacks; /* running now */
    bool freed;
};

static void peer_destroy(struct rpc_peer *peer)
{
    timer_cancel(peer->config.core, &peer->timer);
    op_done(&peer->op, 0);
    map_fini(&peer->calls_by_id);
    free(peer);
}

/* Every call of the owner stands between these two; after the second nothing may be touched when it says
 * false. */
static void callback_begin(struct rpc_peer *peer)
{
    peer->callbacks++;
}

static bool callback_end(struct rpc_peer *peer)
{
    if (--peer->callbacks || !peer->freed)
        return !peer->freed;
    peer_destroy(peer);
    return false;
}

static int peer_send(struct rpc_peer *peer, const struct rpc_envelope *envelope, const uint8_t *body,
                     uint32_t body_len, const struct slice *pieces, uint32_t piece_count)
{
    int error = rpc_frame_send(peer->link, envelope, body, body_len, pieces, piece_count);

    if (!error)
        peer->sent_ns = core_recent_ns(peer->config.core);
    return error;
}

/* ---- calls ---- */

static void call_end(struct rpc_call *call, int result, bool remote)
{
    struct rpc_peer *peer = call->peer;

    map_remove(&peer->calls_by_id, call->by_id.key);
    list_remove(&call->link);
    peer->call_count--;
    call->pending = false;
    call->result = result;
    call->remote = remote;
    op_wake(call->waiter);
}

static void calls_end(struct rpc_peer *peer, int result)
{
    struct rpc_call *call;

    while ((call = list_first(&peer->calls, struct rpc_call, link)))
        call_end(call, result, false);
}

/* ---- the session's end ---- */

static uint64_t peer_jitter(struct rpc_peer *peer, uint64_t bound_ns)
{
    return bound_ns / 2 + core_random_u64(peer->config.core) % (bound_ns / 2 + 1);
}

static void peer_log_error(struct rpc_peer *peer, int error)
{
    if (error == peer->error_logged)
        return;
    peer->error_logged = error;
    /* Cancelled: by our own side, which knows. */
    core_log(peer->config.core, error == -ERR_CANCELLED ? LOG_DEBUG : LOG_INFO, "rpc", "%s: %s",
             peer->address, error_text(error));
}

/* Ends the session or the attempt. `at_once`: the next one is not to wait. Calls end with ERR_CLOSED, except
 * those that the caller ends otherwise before. */
static void peer_drop(struct rpc_peer *peer, int error, bool at_once)
{
    uint64_t now_ns = core_now_ns(peer->config.core);
    uint64_t wait_ns = 0;

    if (peer->link) {
        link_close(peer->link);
        peer->link = NULL;
    }
    if (peer->op.state == PEER_OPEN && now_ns - peer->since_ns >= STABLE_AFTER_NS) {
        peer->backoff_ns = BACKOFF_FIRST_NS;
    } else if (!at_once) {
        wait_ns = peer_jitter(peer, peer->backoff_ns);
        peer->backoff_ns = MIN(2 * peer->backoff_ns, BACKOFF_MAX_NS);
    }
    peer->op.state = PEER_WAITING;
    peer->connect_at_ns = now_ns + wait_ns;
    peer->error = peer->unreported = error;
    peer_log_error(peer, error);
    calls_end(peer, -ERR_CLOSED);
    op_wake(&peer->op);
}

void rpc_call_abandon(struct rpc_call *call)
{
    if (!call->pending)
        return;
    struct rpc_peer *peer = call->peer;
    /* The link first: nobody may learn of the end of a call that could still be carried out. */
    link_close(peer->link);
    peer->link = NULL;
    call_end(call, -ERR_CANCELLED, false);
    peer_drop(peer, -ERR_CANCELLED, true);
}

static void peer_expire_calls(struct rpc_peer *peer, uint64_t now_ns)
{
    struct rpc_call *call = list_first(&peer->calls, struct rpc_call, link);

    if (!call || call->deadline_ns > now_ns)
        return;
    link_close(peer->link);
    peer->link = NULL;
    for (; call && call->deadline_ns <= now_ns; call = list_first(&peer->calls, struct rpc_call, link))
        call_end(call, -ERR_TIMEOUT, false);
    peer_drop(peer, -ERR_TIMEOUT, true);
}

/* ---- greeting ---- */

static int peer_greet(struct rpc_peer *peer)
{
    RPC_FRAME_SCRATCH(scratch, HELLO_BODY_MAX);
    struct rpc_identity *self = peer->config.self;

    /* All peers of a client count in its identity, so that no number is used twice towards any server. */
    if (self->role == RPC_CLIENT)
        self->session++;
    struct rpc_hello hello = {
        .protocol = RPC_PROTOCOL,
        .who = *self,
        .has_target = peer->config.has_target,
        .target_osd = peer->config.target_osd,
        .target_shard = peer->config.target_shard,
    };
    uint32_t len = rpc_hello_encode(rpc_body(scratch), &hello);
    peer->hello_id = ++peer->next_id;
    struct rpc_envelope envelope = {METHOD_HELLO, FRAME_REQUEST, 0, peer->hello_id, false};
    return peer_send(peer, &envelope, rpc_body(scratch), len, NULL, 0);
}

static int peer_check_greeting(struct rpc_peer *peer, const struct rpc_message *message,
                               struct rpc_hello *ret_hello)
{
    const struct rpc_peer_config *config = &peer->config;

    if (message->result)
        return message->result;
    int error = rpc_hello_decode(message->body, message->body_len, ret_hello);
    if (error)
        return error;
    const struct rpc_identity *who = &ret_hello->who;
    if ((error = rpc_hello_check_cluster(config->self, who)))
        return error;
    if (!config->has_target)
        return 0;
    if (who->role != RPC_OSD || who->osd != config->target_osd || who->shard != config->target_shard)
        return -ERR_IDENTITY;
    if (peer->greeted && memcmp(who->osd_uuid, peer->who.osd_uuid, sizeof(who->osd_uuid)) != 0)
        return -ERR_IDENTITY;
    if (peer->greeted && who->incarnation < peer->who.incarnation)
        return -ERR_ROLLED_BACK;
    return 0;
}

static void peer_greeted(struct rpc_peer *peer, const struct rpc_message *message)
{
    struct rpc_hello hello;
    int error = peer_check_greeting(peer, message, &hello);

    if (!error && peer->config.check)
        error = peer->config.check(peer->config.owner, &hello.who);
    if (error) {
        peer_drop(peer, error, false);
        return;
    }
    peer->who = hello.who;
    peer->greeted = true;
    peer->op.state = PEER_OPEN;
    peer->since_ns = core_now_ns(peer->config.core);
    peer->error = peer->error_logged = 0;
    op_wake(&peer->op); /* moves the timer */
    if (!peer->config.opened)
        return;
    callback_begin(peer);
    peer->config.opened(peer->config.owner, peer, &peer->who);
    (void)callback_end(peer);
}

/* ---- events of the link ---- */

static void peer_reply(struct rpc_peer *peer, const struct rpc_message *message)
{
    struct map_node *node = map_get(&peer->calls_by_id, message->request_id);

    /* The answer to a PING, or to nothing: a server's mistake that does no harm. */
    if (!node)
        return;
    struct rpc_call *call = map_entry(node, struct rpc_call, by_id);
    bool fits = message->body_len <= call->reply_cap || !call->reply_cap;
    if (!message->result && message->payload_dropped) {
        call_end(call, -ERR_RETRY, true);
        return;
    }
    if (!message->result && !fits) {
        call_end(call, -ERR_TOO_LARGE, false);
        return;
    }
    if (fits && call->reply_cap && message->body_len) {
        memcpy(call->reply, message->body, message->body_len);
        call->reply_len = message->body_len;
    }
    call->placed = message->placed;
    if (message->payload.buf)
        call->reply_payload = slice_sub(&message->payload, 0, message->payload.len);
    call_end(call, message->result, true);
}

/* Servers ask nothing but whether we live. An answer that the link has no room for needs no repeat: what
 * fills it is a sign of life too. */
static void peer_request(struct rpc_peer *peer, const struct rpc_message *message)
{
    struct rpc_envelope envelope = {message->method, FRAME_REPLY, 0, message->request_id, false};

    if (message->method != METHOD_PING)
        envelope.result = -ERR_UNSUPPORTED;
    if (peer_send(peer, &envelope, NULL, 0, NULL, 0))
        core_log(peer->config.core, LOG_DEBUG, "rpc", "%s: no room for the answer to a ping", peer->address);
}

static void peer_message(void *owner, struct link *link, const struct frame *frame)
{
    struct rpc_peer *peer = owner;
    struct rpc_message message;

    if (link != peer->link)
        return;
    int error = rpc_frame_open(frame, &message);
    if (error) {
        peer_drop(peer, error, false);
        return;
    }
    peer->received_ns = core_recent_ns(peer->config.core);
    if (peer->op.state == PEER_GREETING) {
        if (message.flags == FRAME_REPLY && message.request_id == peer->hello_id)
            peer_greeted(peer, &message);
        return;
    }
    if (message.flags == FRAME_REPLY) {
        peer_reply(peer, &message);
    } else if (message.flags == FRAME_REQUEST) {
        peer_request(peer, &message);
    } else if (peer->config.oneway) {
        callback_begin(peer);
        peer->config.oneway(peer->config.owner, peer, &message);
        (void)callback_end(peer);
    }
}

/* Only the answer to a call of this session is written to its memory, and the call cannot end before that
 * without closing the link. */
static uint8_t *peer_place(void *owner, struct link *link, const uint8_t *head, uint32_t head_len,
                           uint32_t payload_len)
{
    struct rpc_peer *peer = owner;
    struct frame_header header;

    if (link != peer->link || peer->op.state != PEER_OPEN || frame_validate_header(head, &header) ||
        header.flags != FRAME_REPLY || header.result)
        return NULL;
    struct map_node *node = map_get(&peer->calls_by_id, header.request_id);
    struct rpc_call *call = node ? map_entry(node, struct rpc_call, by_id) : NULL;
    return call && call->place_len == payload_len ? call->place : NULL;
}

static void peer_link_opened(void *owner, struct link *link)
{
    struct rpc_peer *peer = owner;

    if (link != peer->link)
        return;
    peer->op.state = PEER_GREETING;
    peer->since_ns = core_now_ns(peer->config.core);
    op_wake(&peer->op); /* moves the timer */
    int error = peer_greet(peer);
    if (error)
        peer_drop(peer, error, false);
}

static void peer_link_closed(void *owner, struct link *link, int error)
{
    struct rpc_peer *peer = owner;

    if (link != peer->link)
        return;
    peer->link = NULL;
    peer_drop(peer, error, false);
}

static const struct link_events peer_events = {
    .message = peer_message,
    .opened = peer_link_opened,
    .closed = peer_link_closed,
    .place = peer_place,
};

/* ---- the op ---- */

static void peer_connect(struct rpc_peer *peer, uint64_t now_ns)
{
    peer->op.state = PEER_CONNECTING;
    peer->since_ns = now_ns;
    peer->link = link_connect(peer->config.net, peer->address, &peer_events, peer);
    if (!peer->link)
        peer_drop(peer, -ERR_INVALID, false);
}

static void peer_ping(struct rpc_peer *peer, uint64_t now_ns)
{
    struct rpc_envelope envelope = {METHOD_PING, FRAME_REQUEST, 0, ++peer->next_id, false};

    peer->pinged_ns = now_ns;
    if (peer_send(peer, &envelope, NULL, 0, NULL, 0))
        core_log(peer->config.core, LOG_DEBUG, "rpc", "%s: no room for a ping", peer->address);
}

/* Whoever takes a long queue of answers hears something all the time, and the server's PING stands behind it:
 * so silence counts from the last sign either way. */
static uint64_t peer_silent_since_ns(const struct rpc_peer *peer)
{
    return MIN(peer->received_ns, peer->sent_ns);
}

static void peer_keep_alive(struct rpc_peer *peer, uint64_t now_ns)
{
    if (now_ns - peer->received_ns >= RPC_SILENCE_MAX_NS) {
        peer_drop(peer, -ERR_TIMEOUT, false);
        return;
    }
    if (now_ns - peer_silent_since_ns(peer) >= RPC_PEER_PING_AFTER_NS &&
        now_ns - peer->pinged_ns >= RPC_PING_EVERY_NS)
        peer_ping(peer, now_ns);
}

static uint64_t peer_wake_at_ns(const struct rpc_peer *peer)
{
    switch ((enum peer_state)peer->op.state) {
    case PEER_WAITING:
        return peer->connect_at_ns;
    case PEER_CONNECTING:
        return peer->since_ns + CONNECT_MAX_NS;
    case PEER_GREETING:
        return peer->since_ns + GREET_MAX_NS;
    case PEER_OPEN:
        break;
    }
    uint64_t at_ns = peer_silent_since_ns(peer) + RPC_PEER_PING_AFTER_NS;
    at_ns = MAX(at_ns, peer->pinged_ns + RPC_PING_EVERY_NS);
    at_ns = MIN(at_ns, peer->received_ns + RPC_SILENCE_MAX_NS);
    const struct rpc_call *first = list_first(&peer->calls, struct rpc_call, link);
    return first ? MIN(at_ns, first->deadline_ns) : at_ns;
}

/* Tells the owner of an end. False: the peer is gone. */
static bool peer_report(struct rpc_peer *peer)
{
    int error = peer->unreported;

    peer->unreported = 0;
    if (!error || !peer->config.closed)
        return true;
    callback_begin(peer);
    peer->config.closed(peer->config.owner, peer, error);
    return callback_end(peer);
}

static void peer_step(struct op *op)
{
    struct rpc_peer *peer = container_of(op, struct rpc_peer, op);

    if (!peer_report(peer))
        return;
    uint64_t now_ns = core_now_ns(peer->config.core);
    switch ((enum peer_state)peer->op.state) {
    case PEER_WAITING:
        if (now_ns >= peer->connect_at_ns)
            peer_connect(peer, now_ns);
        break;
    case PEER_CONNECTING:
    case PEER_GREETING:
        if (now_ns >= peer_wake_at_ns(peer))
            peer_drop(peer, -ERR_TIMEOUT, false);
        break;
    case PEER_OPEN:
        peer_expire_calls(peer, now_ns);
        if (peer->op.state == PEER_OPEN)
            peer_keep_alive(peer, now_ns);
        break;
    }
    timer_arm(peer->config.core, &peer->timer, &peer->op, peer_wake_at_ns(peer));
}

static const char *peer_state_name(int state)
{
    static const char *const names[] = {
        [PEER_WAITING] = "waiting",
        [PEER_CONNECTING] = "connecting",
        [PEER_GREETING] = "greeting",
        [PEER_OPEN] = "open",
    };
    return names[state];
}

static const struct op_kind peer_kind = {
    .name = "rpc.peer", .state_name = peer_state_name, .step = peer_step};

/* ---- what owners call ---- */

struct rpc_peer *rpc_peer_new(const struct rpc_peer_config *config)
{
    struct rpc_peer *peer = calloc(1, sizeof(*peer));

    if (!peer)
        return NULL;
    peer->config = *config;
    map_init(&peer->calls_by_id);
    list_init(&peer->calls);
    peer->backoff_ns = BACKOFF_FIRST_NS;
    if (text_copy(peer->address, sizeof(peer->address), config->address) ||
        map_reserve(&peer->calls_by_id, MAX(config->calls_max, 1u))) {
        map_fini(&peer->calls_by_id);
        free(peer);
        return NULL;
    }
    peer->config.address = peer->address;
    op_start(&peer->op, config->core, &peer_kind, NULL);
    return peer;
}

void rpc_peer_free(struct rpc_peer *peer)
{
    ASSERT(!peer->freed);
    if (peer->link) {
        link_close(peer->link);
        peer->link = NULL;
    }
    peer->op.state = PEER_WAITING;
    calls_end(peer, -ERR_CANCELLED);
    peer->freed = true;
    if (!peer->callbacks)
        peer_destroy(peer);
}

bool rpc_peer_is_open(const struct rpc_peer *peer)
{
    return peer->op.state == PEER_OPEN;
}

uint64_t rpc_peer_heard_ns(const struct rpc_peer *peer)
{
    return rpc_peer_is_open(peer) ? peer->received_ns : 0;
}

void rpc_peer_ping(struct rpc_peer *peer)
{
    if (rpc_peer_is_open(peer))
        peer_ping(peer, core_now_ns(peer->config.core));
}

void rpc_peer_renew(struct rpc_peer *peer)
{
    if (rpc_peer_is_open(peer))
        peer_drop(peer, -ERR_TIMEOUT, true);
}

int rpc_peer_error(const struct rpc_peer *peer)
{
    return peer->error;
}

const struct rpc_identity *rpc_peer_identity(const struct rpc_peer *peer)
{
    return peer->greeted ? &peer->who : NULL;
}

void rpc_peer_kick(struct rpc_peer *peer)
{
    if (peer->freed || peer->op.state != PEER_WAITING)
        return;
    peer->connect_at_ns = 0;
    op_wake(&peer->op);
}

/* By deadline; most calls have the same time limit, so that the place is at the end. */
static void peer_queue_call(struct rpc_peer *peer, struct rpc_call *call)
{
    struct list *at = &peer->calls;

    while (at->prev != &peer->calls &&
           list_entry(at->prev, struct rpc_call, link)->deadline_ns > call->deadline_ns)
        at = at->prev;
    list_insert_before(at, &call->link);
}

int rpc_call_start(struct rpc_call *call, struct rpc_peer *peer, struct op *waiter, enum method method,
                   const uint8_t *body, uint32_t body_len, const struct slice *pieces, uint32_t piece_count,
                   uint64_t deadline_ns)
{
    ASSERT(!call->pending);
    if (peer->op.state != PEER_OPEN)
        return -ERR_CLOSED;
    if (peer->call_count >= peer->config.calls_max)
        return -ERR_BUSY;
    uint64_t now_ns = core_now_ns(peer->config.core);
    if (deadline_ns <= now_ns)
        return -ERR_TIMEOUT;
    struct rpc_envelope envelope = {method, FRAME_REQUEST, 0, peer->next_id + 1, false};
    int error = peer_send(peer, &envelope, body, body_len, pieces, piece_count);
    if (error)
        return error;
    call->waiter = waiter;
    call->peer = peer;
    call->deadline_ns = deadline_ns;
    call->sent_ns = now_ns;
    call->pending = true;
    call->result = 0;
    call->remote = false;
    call->reply_len = 0;
    call->reply_payload = (struct slice){0};
    call->placed = false;
    map_put(&peer->calls_by_id, &call->by_id, ++peer->next_id);
    peer_queue_call(peer, call);
    peer->call_count++;
    if (!timer_armed(&peer->timer) || deadline_ns < peer->timer.deadline_ns)
        timer_arm(peer->config.core, &peer->timer, &peer->op, deadline_ns);
    return 0;
}

int rpc_peer_send(struct rpc_peer *peer, enum method method, bool patient, const uint8_t *body,
                  uint32_t body_len, const struct slice *pieces, uint32_t piece_count)
{
    struct rpc_envelope envelope = {method, FRAME_ONEWAY, 0, 0, patient};

    if (peer->op.state != PEER_OPEN)
        return -ERR_CLOSED;
    return peer_send(peer, &envelope, body, body_len, pieces, piece_count);
}
