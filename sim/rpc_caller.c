/* SPDX-License-Identifier: Apache-2.0
 *
 * Who calls: a client, or a shard that calls the others. Several ask at once, for small and large answers,
 * into buffers or memory of their own, and give up now and then. Each call must end, in time, with its own
 * answer or with a reason; and nobody else may write where it wanted its answer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "sim/rpc_world.h"

#define THINK_MIN_NS (NS_PER_MS)
#define THINK_MAX_NS (60 * NS_PER_MS)
#define LATE_NS      (5 * NS_PER_MS)
#define REPLY_MAX    512u
#define PLACE_MAX    (16u << 10)
#define GUARD        64u
#define UNTOUCHED    0xee
#define CALM_NS      (5 * NS_PER_S) /* what a call may take when all is well */
#define ULL(x)       ((unsigned long long)(x))

struct asker {
    struct op op;
    struct calling *calling;
    uint32_t server;
    uint64_t line_life; /* of the handle that it asked by */
    struct rpc_call call;
    struct rpc_question question;
    struct timer timer;
    bool abandoned, quiet;
    uint64_t abandon_ns; /* 0: never */
    uint8_t reply[REPLY_MAX + GUARD];
    uint8_t *place; /* PLACE_MAX and a guard */
};

/* The handle on one server. */
struct line {
    struct calling *calling;
    uint32_t server;
    struct rpc_peer *peer; /* NULL: to itself */
    uint64_t life;         /* how manieth handle */
    bool open, known;      /* it has greeted */
    bool let_in;           /* who greets */
    uint64_t incarnation;  /* highest that has greeted */
    uint64_t guest;        /* what the server calls the session; 0: it has not said that */
    uint64_t open_ns;
    uint64_t asked_ns; /* for a sign of life */
    uint32_t pending;
    uint64_t served; /* answers while all is well */
};

struct calling {
    struct rpc_place *place;
    uint32_t number;
    struct rpc_identity self;
    struct line lines[RPC_SERVERS];
    struct asker askers[RPC_ASKERS];
    struct buf *data; /* the pattern */
};

static bool untouched(const uint8_t *bytes, uint32_t from, uint32_t to)
{
    return from >= to || (bytes[from] == UNTOUCHED && !memcmp(bytes + from, bytes + from + 1, to - from - 1));
}

static struct rpc_world *calling_world(const struct calling *c)
{
    return c->place->world;
}

/* ---- sessions ---- */

static void line_begin(struct line *l);

/* Its owner has had enough, at whatever point it is. */
static void line_anew(struct line *l)
{
    rpc_peer_free(l->peer);
    line_begin(l);
}

static int line_check(void *owner, const struct rpc_identity *who)
{
    struct line *l = owner;
    struct rpc_world *w = calling_world(l->calling);

    l->let_in = w->quiet || sim_rng_below(&w->rng, 40);
    return l->let_in ? 0 : -ERR_BEHIND;
}

static void line_opened(void *owner, struct rpc_peer *peer, const struct rpc_identity *who)
{
    struct line *l = owner;
    struct rpc_world *w = calling_world(l->calling);
    const struct rpc_place *server = &w->servers[l->server];
    const char *name = l->calling->place->node->name;

    if (l->open)
        sim_fail(w->sim, "%s has two sessions with %s", name, server->node->name);
    if (who->role != RPC_OSD || who->osd != l->server || who->shard || memcmp(who->cluster, RPC_CLUSTER, 16))
        sim_fail(w->sim, "%s looked for %s and takes osd.%u.%u of another cluster or kind for it", name,
                 server->node->name, who->osd, who->shard);
    else if (l->known && who->incarnation < l->incarnation)
        sim_fail(w->sim, "%s takes start %llu of %s after %llu", name, ULL(who->incarnation),
                 server->node->name, ULL(l->incarnation));
    else if (memcmp(who->osd_uuid, server->uuid, 16))
        sim_fail(w->sim, "%s takes another device for %s", name, server->node->name);
    else if (!l->let_in)
        sim_fail(w->sim, "%s has a session with %s, whom it has refused", name, server->node->name);
    else if (!rpc_is_self(server, who->incarnation, who) || rpc_peer_identity(peer) != who ||
             rpc_peer_error(peer))
        sim_fail(w->sim, "%s does not know %s as it is", name, server->node->name);
    l->open = l->known = true;
    l->let_in = false;
    l->guest = 0;
    l->incarnation = who->incarnation;
    l->open_ns = core_now_ns(&l->calling->place->node->core);
    /* Whatever it asked by its former sessions is void. */
    l->calling->place->barrier[l->server] = l->calling->place->issued[l->server];
    if (!w->quiet && sim_rng_below(&w->rng, 40) == 0)
        line_anew(l);
}

static void line_closed(void *owner, struct rpc_peer *peer, int error)
{
    struct line *l = owner;
    struct rpc_world *w = calling_world(l->calling);

    l->open = false;
    if (!error)
        sim_fail(w->sim, "%s: a session ends for no reason", l->calling->place->node->name);
    if (w->calm)
        sim_fail(w->sim, "all is well, and %s loses its session with %s: %s", l->calling->place->node->name,
                 w->servers[l->server].node->name, error_name(error));
    if (!w->quiet && sim_rng_below(&w->rng, 40) == 0)
        line_anew(l);
}

static void line_give_up_one(struct line *l);

static bool notice_is_right(const struct line *l, const struct rpc_message *m)
{
    const uint8_t *b = m->body;

    if (m->method != METHOD_MON_EVENT || m->body_len < RPC_NOTICE_SIZE)
        return false;
    struct rpc_notice n = {le_load_u32(b),      le_load_u32(b + 4),  le_load_u64(b + 8), le_load_u64(b + 16),
                           le_load_u64(b + 24), le_load_u32(b + 32), le_load_u32(b + 36)};
    const uint8_t *pattern = rpc_pattern(calling_world(l->calling), n.serial, true);
    return n.caller == l->calling->number && n.start == l->calling->place->starts &&
           n.incarnation == l->incarnation && (!l->guest || n.guest == l->guest) &&
           n.body_len == m->body_len && !memcmp(b + RPC_NOTICE_SIZE, pattern, n.body_len - RPC_NOTICE_SIZE) &&
           (m->payload_dropped ||
            ((m->payload.buf ? m->payload.len : 0) == n.payload_len &&
             (!n.payload_len || !memcmp(slice_data(&m->payload), pattern, n.payload_len))));
}

static void line_oneway(void *owner, struct rpc_peer *peer, const struct rpc_message *m)
{
    struct line *l = owner;
    struct rpc_world *w = calling_world(l->calling);

    if (peer != l->peer || !l->open || !rpc_peer_heard_ns(peer))
        sim_fail(w->sim, "%s is told something by a session that is not open", l->calling->place->node->name);
    else if (!notice_is_right(l, m))
        sim_fail(w->sim, "%s is told what is not for it", l->calling->place->node->name);
    else
        l->guest = le_load_u64(m->body + 16);
    if (w->quiet)
        return;
    if (sim_rng_below(&w->rng, 100) == 0)
        line_give_up_one(l);
    else if (sim_rng_below(&w->rng, 100) == 0)
        line_anew(l);
}

static void line_begin(struct line *l)
{
    struct calling *c = l->calling;
    struct rpc_world *w = calling_world(c);

    *l = (struct line){.calling = c, .server = l->server, .life = l->life + 1, .pending = l->pending};
    l->peer = rpc_peer_new(&(struct rpc_peer_config){.core = &c->place->node->core,
                                                     .net = sim_net_port(w->net, c->place->node),
                                                     .address = w->servers[l->server].address,
                                                     .self = &c->self,
                                                     .has_target = true,
                                                     .target_osd = l->server,
                                                     .calls_max = w->calls_max,
                                                     .check = line_check,
                                                     .oneway = line_oneway,
                                                     .opened = line_opened,
                                                     .closed = line_closed,
                                                     .owner = l});
}

/* ---- asking ---- */

static void question_draw(struct asker *a, struct rpc_question *q)
{
    struct calling *c = a->calling;
    struct rpc_world *w = calling_world(c);
    struct sim_rng *rng = &w->rng;

    *q = (struct rpc_question){.caller = c->number, .start = (uint32_t)c->place->starts};
    q->serial = ++c->place->next_serial;
    q->body_len = RPC_QUESTION_SIZE + (uint32_t)sim_rng_below(rng, RPC_BODY_MAX - RPC_QUESTION_SIZE);
    q->payload_len = sim_rng_below(rng, 4) ? 0 : (uint32_t)sim_rng_range(rng, 1, 3 * BLOCK_SIZE);
    q->delay_us = sim_rng_below(rng, 3) ? 0 : (uint32_t)sim_rng_below(rng, 30000);
    q->reply_len = (uint32_t)sim_rng_below(rng, REPLY_MAX);
    if (sim_rng_below(rng, 3) == 0)
        q->reply_payload_len = (uint32_t)sim_rng_range(rng, 1, PLACE_MAX);
    if (w->hungry && (w->burst || sim_rng_below(rng, 200) == 0))
        q->reply_payload_len = FRAME_PAYLOAD_MAX - RPC_PATTERN_STEPS;
}

/* Where it wants the answer. */
static void call_prepare(struct asker *a)
{
    struct rpc_world *w = calling_world(a->calling);
    struct rpc_question *q = &a->question;

    /* What an earlier call has left in it is nobody's business. */
    a->call.reply = a->reply;
    a->call.place = NULL;
    a->call.place_len = 0;
    if (sim_rng_below(&w->rng, 8))
        a->call.reply_cap = (uint32_t)sim_rng_range(&w->rng, q->reply_len, REPLY_MAX);
    else
        a->call.reply_cap = (uint32_t)sim_rng_below(&w->rng, REPLY_MAX);
    memset(a->reply, UNTOUCHED, sizeof(a->reply));
    if (q->reply_payload_len > PLACE_MAX || sim_rng_below(&w->rng, 2))
        return;
    a->call.place = a->place;
    a->call.place_len =
        sim_rng_below(&w->rng, 4) ? q->reply_payload_len : (uint32_t)sim_rng_range(&w->rng, 1, PLACE_MAX);
}

static int call_send(struct asker *a, struct line *l, uint64_t deadline_ns)
{
    const struct calling *c = a->calling;
    const struct rpc_question *q = &a->question;
    RPC_FRAME_SCRATCH(scratch, RPC_BODY_MAX);
    uint8_t *b = rpc_body(scratch);
    struct slice piece = {c->data, (uint32_t)(q->serial * 2 % RPC_PATTERN_STEPS), q->payload_len};

    memset(b, 0, RPC_QUESTION_SIZE);
    le_store_u32(b, q->caller);
    le_store_u32(b + 4, q->start);
    le_store_u64(b + 8, q->serial);
    le_store_u32(b + 16, q->body_len);
    le_store_u32(b + 20, q->payload_len);
    le_store_u32(b + 24, q->delay_us);
    le_store_u32(b + 28, q->reply_len);
    le_store_u32(b + 32, q->reply_payload_len);
    memcpy(b + RPC_QUESTION_SIZE, rpc_pattern(calling_world(c), q->serial, false),
           q->body_len - RPC_QUESTION_SIZE);
    if (sim_rng_below(&calling_world(c)->rng, 16) == 0)
        return rpc_peer_send(l->peer, METHOD_RAFT, sim_rng_below(&calling_world(c)->rng, 2), b, q->body_len,
                             &piece, q->payload_len ? 1 : 0);
    return rpc_call_start(&a->call, l->peer, &a->op, METHOD_BLOCK_STATUS, b, q->body_len, &piece,
                          q->payload_len ? 1 : 0, deadline_ns);
}

static void asker_rest(struct asker *a)
{
    struct rpc_world *w = calling_world(a->calling);
    uint64_t think_ns = w->burst ? THINK_MIN_NS : w->idle ? NS_PER_S : THINK_MAX_NS;

    a->op.state = 0;
    timer_arm(a->op.core, &a->timer, &a->op, core_now_ns(a->op.core) + sim_rng_below(&w->rng, think_ns));
}

/* What somebody does to a handle without asking anything. */
static void line_fidget(struct line *l)
{
    struct rpc_world *w = calling_world(l->calling);

    switch (sim_rng_below(&w->rng, 400)) {
    case 0:
        rpc_peer_renew(l->peer);
        break;
    case 1:
        rpc_peer_kick(l->peer);
        break;
    case 2:
    case 3:
        rpc_peer_ping(l->peer);
        break;
    case 4:
        line_anew(l);
        break;
    default:
        break;
    }
}

static void asker_begin(struct asker *a)
{
    struct calling *c = a->calling;
    struct rpc_world *w = calling_world(c);
    uint64_t now_ns = core_now_ns(a->op.core);

    if (!untouched(a->place, 0, PLACE_MAX + GUARD))
        sim_fail(w->sim, "%s: memory of a call that has ended is written to", c->place->node->name);
    a->server = w->burst ? 0 : (uint32_t)sim_rng_below(&w->rng, RPC_SERVERS);
    struct line *l = &c->lines[a->server];
    if (!l->peer || !w->asking) {
        asker_rest(a);
        return;
    }
    if (!w->quiet)
        line_fidget(l);
    question_draw(a, &a->question);
    call_prepare(a);
    a->quiet = w->quiet;
    a->abandoned = false;
    a->abandon_ns =
        w->quiet || sim_rng_below(&w->rng, 30) ? 0 : now_ns + sim_rng_below(&w->rng, 50 * NS_PER_MS);
    a->line_life = l->life;
    uint64_t time_ns = w->quiet ? CALM_NS : NS_PER_MS << sim_rng_below(&w->rng, 12);
    bool open = rpc_peer_is_open(l->peer);
    if (sim_rng_below(&w->rng, 200) == 0)
        time_ns = 0;
    int error = call_send(a, l, now_ns + time_ns);
    if (!error)
        c->place->issued[a->server] = a->question.serial;
    if (error && error != -ERR_BUSY && error != -ERR_CLOSED && (time_ns || error != -ERR_TIMEOUT))
        sim_fail(w->sim, "%s cannot ask: %s", c->place->node->name, error_name(error));
    else if (error == -ERR_CLOSED && open && w->calm)
        sim_fail(w->sim, "%s has a session, and cannot ask", c->place->node->name);
    if (a->call.pending && (error || !time_ns))
        sim_fail(w->sim, "%s waits for an answer, and has not asked", c->place->node->name);
    if (error || !a->call.pending) {
        asker_rest(a);
        return;
    }
    if (++l->pending > w->calls_max)
        sim_fail(w->sim, "%s has %u calls to one server", c->place->node->name, l->pending);
    w->calls++;
    a->op.state = 1;
    if (a->abandon_ns)
        timer_arm(a->op.core, &a->timer, &a->op, a->abandon_ns);
}

/* ---- what comes of it ---- */

static bool reply_is_right(const struct asker *a)
{
    const struct rpc_question *q = &a->question;
    const uint8_t *pattern = rpc_pattern(calling_world(a->calling), q->serial, true);

    if (!a->call.reply_cap)
        return !a->call.reply_len;
    if (a->call.reply_len != q->reply_len)
        return false;
    return q->reply_len < 8
               ? !memcmp(a->reply, pattern, q->reply_len)
               : le_load_u64(a->reply) == q->serial && !memcmp(a->reply + 8, pattern + 8, q->reply_len - 8);
}

static bool payload_is_right(const struct asker *a)
{
    const struct rpc_question *q = &a->question;
    const struct slice *payload = &a->call.reply_payload;
    const uint8_t *pattern = rpc_pattern(calling_world(a->calling), q->serial, true);

    if (!q->reply_payload_len)
        return !payload->buf && !a->call.placed;
    if (a->call.place && a->call.place_len == q->reply_payload_len)
        return a->call.placed && !payload->buf && !memcmp(a->place, pattern, q->reply_payload_len);
    return !a->call.placed && payload->buf && payload->len == q->reply_payload_len &&
           !memcmp(slice_data(payload), pattern, payload->len);
}

static void check_remote(struct asker *a)
{
    struct rpc_world *w = calling_world(a->calling);
    const char *name = a->calling->place->node->name;
    const struct rpc_question *q = &a->question;

    switch (-a->call.result) {
    case 0:
        w->answers++;
        if (w->calm)
            a->calling->lines[a->server].served++;
        if (!reply_is_right(a))
            sim_fail(w->sim, "%s gets a wrong answer to %llu", name, ULL(q->serial));
        else if (!payload_is_right(a))
            sim_fail(w->sim, "%s gets a wrong payload for %llu", name, ULL(q->serial));
        return;
    case ERR_RETRY:
        w->dropped++;
        if (!q->payload_len && !q->reply_payload_len)
            sim_fail(w->sim, "%s: there was no payload, and there was no room for it", name);
        return;
    case ERR_BUSY:
        w->refused++;
        return;
    default:
        sim_fail(w->sim, "%s is answered %s", name, error_name(a->call.result));
    }
}

static void check_local(struct asker *a)
{
    struct rpc_world *w = calling_world(a->calling);
    const char *name = a->calling->place->node->name;
    const struct line *l = &a->calling->lines[a->server];
    bool right = false;

    switch (-a->call.result) {
    case ERR_TIMEOUT:
        w->timeouts++;
        right = core_now_ns(a->op.core) >= a->call.deadline_ns && !a->quiet;
        break;
    case ERR_CLOSED:
        right = !a->quiet;
        break;
    case ERR_CANCELLED:
        right = a->abandoned || a->line_life != l->life;
        break;
    case ERR_TOO_LARGE:
        right = a->call.reply_cap && a->question.reply_len > a->call.reply_cap;
        break;
    default:
        break;
    }
    if (right && a->call.result != -ERR_TOO_LARGE && a->line_life == l->life && rpc_peer_is_open(l->peer) &&
        l->open_ns <= a->call.sent_ns)
        sim_fail(w->sim, "%s: a call ends with %s, and its session goes on", name,
                 error_name(a->call.result));
    if (!right)
        sim_fail(w->sim, "%s: a call ends with %s%s", name, error_name(a->call.result),
                 a->quiet ? ", and all is well" : "");
}

static void asker_end(struct asker *a)
{
    struct calling *c = a->calling;
    struct rpc_world *w = calling_world(c);
    uint32_t place_used = a->call.place ? a->call.place_len : 0;

    c->lines[a->server].pending--;
    if (a->call.remote)
        check_remote(a);
    else
        check_local(a);
    if (!untouched(a->reply, a->call.reply_cap, sizeof(a->reply)) ||
        !untouched(a->place, place_used, PLACE_MAX + GUARD))
        sim_fail(w->sim, "%s: an answer is larger than the room that it has", c->place->node->name);
    memset(a->place, UNTOUCHED, PLACE_MAX + GUARD);
    slice_unref(&a->call.reply_payload);
    timer_cancel(a->op.core, &a->timer);
    asker_rest(a);
}

static void line_give_up_one(struct line *l)
{
    for (uint32_t i = 0; i < RPC_ASKERS; i++) {
        struct asker *a = &l->calling->askers[i];
        if (a->op.state && a->call.pending && a->call.peer == l->peer) {
            a->abandoned = true;
            rpc_call_abandon(&a->call);
            return;
        }
    }
}

static void asker_step(struct op *op)
{
    struct asker *a = container_of(op, struct asker, op);

    if (op->state == 0) {
        if (!timer_armed(&a->timer))
            asker_begin(a);
        return;
    }
    if (a->call.pending && a->abandon_ns && !timer_armed(&a->timer)) {
        a->abandoned = true;
        rpc_call_abandon(&a->call);
    }
    if (!a->call.pending)
        asker_end(a);
}

static const struct op_kind ASKER = {"sim.rpc.asker", NULL, asker_step};

/* ---- its process ---- */

void rpc_caller_start(struct rpc_place *p)
{
    struct rpc_world *w = p->world;
    struct calling *c = calloc(1, sizeof(*c));
    bool shard = p->number < RPC_SERVERS && p == &w->servers[p->number];

    p->calling = c;
    c->place = p;
    c->number = p->number + (shard ? RPC_CLIENTS : 0);
    rpc_self(p, p->starts, &c->self);
    c->data = buf_new(p->node->core.arena, 4 * BLOCK_SIZE);
    memcpy(c->data->data, w->pattern, 4 * BLOCK_SIZE);
    for (uint32_t i = 0; i < RPC_SERVERS; i++) {
        c->lines[i] = (struct line){.calling = c, .server = i};
        if (!shard || i != p->number)
            line_begin(&c->lines[i]);
    }
    for (uint32_t i = 0; i < RPC_ASKERS; i++) {
        struct asker *a = &c->askers[i];
        a->calling = c;
        a->place = malloc(PLACE_MAX + GUARD);
        memset(a->place, UNTOUCHED, PLACE_MAX + GUARD);
        op_start(&a->op, &p->node->core, &ASKER, NULL);
    }
}

bool rpc_caller_idle(const struct rpc_place *p)
{
    for (uint32_t i = 0; i < RPC_ASKERS; i++)
        if (p->calling->askers[i].op.state)
            return false;
    return true;
}

bool rpc_caller_open(const struct rpc_place *p)
{
    for (uint32_t i = 0; i < RPC_SERVERS; i++) {
        const struct line *l = &p->calling->lines[i];
        /* Of a server that has just started again it may not have heard that the former one is gone. */
        if (l->peer && (!rpc_peer_is_open(l->peer) || l->incarnation != p->world->servers[i].starts))
            return false;
    }
    return true;
}

bool rpc_caller_open_or_full(const struct rpc_place *p)
{
    for (uint32_t i = 0; i < RPC_SERVERS; i++) {
        const struct line *l = &p->calling->lines[i];
        if (l->peer && !rpc_peer_is_open(l->peer) && rpc_peer_error(l->peer) != -ERR_BUSY)
            return false;
    }
    return true;
}

void rpc_caller_check_served(const struct rpc_place *p)
{
    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        if (p->calling->lines[i].peer && !p->calling->lines[i].served)
            sim_fail(p->world->sim, "all is well, and %s has no answer of osd.%u", p->node->name, i);
}

bool rpc_caller_knows(const struct rpc_place *p, uint32_t server)
{
    return p->calling && p->calling->lines[server].known;
}

void rpc_caller_audit(struct rpc_place *p)
{
    uint64_t now_ns = sim_node_now_ns(p->node);

    for (uint32_t i = 0; i < RPC_ASKERS; i++) {
        const struct asker *a = &p->calling->askers[i];
        if (a->op.state && a->call.pending && now_ns > a->call.deadline_ns + LATE_NS)
            sim_fail(p->world->sim, "%s still waits for an answer %llu ms after its deadline", p->node->name,
                     ULL((now_ns - a->call.deadline_ns) / NS_PER_MS));
    }
    for (uint32_t i = 0; i < RPC_SERVERS; i++) {
        const struct line *l = &p->calling->lines[i];
        uint64_t heard_ns = l->peer ? rpc_peer_heard_ns(l->peer) : 0;
        if (l->open && rpc_peer_is_open(l->peer) && rpc_peer_error(l->peer))
            sim_fail(p->world->sim, "%s has a session with osd.%u, and says why not", p->node->name, i);
        bool pings = p->world->pings_ns && p->world->sim->now_ns > p->world->pings_ns;
        if (heard_ns && now_ns > heard_ns + (pings ? RPC_PEER_PING_AFTER_NS : RPC_SILENCE_MAX_NS) + LATE_NS)
            sim_fail(p->world->sim, "%s has heard nothing of osd.%u for %llu ms", p->node->name, i,
                     ULL((now_ns - heard_ns) / NS_PER_MS));
    }
}

void rpc_caller_ping(struct rpc_place *p, uint32_t server)
{
    struct line *l = &p->calling->lines[server];

    l->asked_ns = core_now_ns(&p->node->core);
    if (l->peer)
        rpc_peer_ping(l->peer);
}

void rpc_caller_check_sign(struct rpc_place *p, uint32_t server)
{
    const struct line *l = &p->calling->lines[server];

    if (l->peer && rpc_peer_heard_ns(l->peer) <= l->asked_ns)
        sim_fail(p->world->sim, "%s has asked osd.%u for a sign of life, and has none", p->node->name,
                 server);
}

void rpc_caller_kick(struct rpc_place *p, uint32_t server)
{
    if (p->calling->lines[server].peer)
        rpc_peer_kick(p->calling->lines[server].peer);
}

void rpc_caller_renew(struct rpc_place *p, uint32_t server)
{
    if (p->calling->lines[server].peer)
        rpc_peer_renew(p->calling->lines[server].peer);
}

void rpc_caller_end(struct rpc_place *p)
{
    struct calling *c = p->calling;

    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        if (c->lines[i].peer)
            rpc_peer_free(c->lines[i].peer);
    for (uint32_t i = 0; i < RPC_ASKERS; i++) {
        timer_cancel(c->askers[i].op.core, &c->askers[i].timer);
        op_done(&c->askers[i].op, 0);
        free(c->askers[i].place);
    }
    buf_unref(c->data);
    free(c);
    p->calling = NULL;
}
