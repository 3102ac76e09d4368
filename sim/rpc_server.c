/* SPDX-License-Identifier: Apache-2.0
 *
 * A shard that serves. Of each session it remembers what the rpc room must not forget: whose it is, and what
 * of it has not been answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "sim/rpc_world.h"

#define LATE_NS (RPC_PING_EVERY_NS + 100 * NS_PER_MS) /* silence is looked for that often */
#define HELD_NS (2 * NS_PER_MS)                       /* after so long a reply is offered again */
#define ULL(x)  ((unsigned long long)(x))

/* An open session. */
struct guest {
    struct list link;
    struct rpc_session *session;
    uint64_t id;
    uint32_t pending; /* requests that are to be answered */
    uint64_t last_serial;
};

struct serving {
    struct rpc_place *place;
    struct rpc_server *server;
    struct rpc_identity self;
    struct list guests;
    uint64_t next_guest;
    uint32_t guest_count, answers; /* that are due */
    uint64_t asked_ns;             /* for a sign of life */
    bool greeted;                  /* who is being greeted was let in */
    struct buf *data;              /* the pattern, of which answers are parts */
};

/* An answer that takes its time. */
struct answer {
    struct op op;
    struct serving *serving;
    struct rpc_ticket ticket;
    struct rpc_question question;
    uint64_t guest;
    struct timer timer;
};

static struct sim *serving_sim(const struct serving *s)
{
    return s->place->world->sim;
}

static struct guest *guest_find(const struct serving *s, uint64_t id)
{
    list_for_each (&s->guests, node) {
        struct guest *g = list_entry(node, struct guest, link);
        if (g->id == id)
            return g;
    }
    return NULL;
}

/* Sessions may be closed from anywhere. */
static void close_somebody(struct serving *s)
{
    struct rpc_world *w = s->place->world;

    if (w->quiet || !s->guest_count || sim_rng_below(&w->rng, 60))
        return;
    uint32_t skip = (uint32_t)sim_rng_below(&w->rng, s->guest_count);
    list_for_each (&s->guests, node)
        if (!skip--)
            rpc_session_close(list_entry(node, struct guest, link)->session);
}

/* ---- who may come ---- */

static int serving_greet(void *owner, const struct rpc_identity *who)
{
    struct serving *s = owner;
    struct rpc_world *w = s->place->world;

    close_somebody(s);
    s->greeted = w->quiet || sim_rng_below(&w->rng, 40);
    return s->greeted ? 0 : -ERR_BEHIND;
}

static void check_client(struct serving *s, const struct rpc_identity *who)
{
    struct rpc_world *w = s->place->world;
    uint64_t *highest = &s->place->sessions[who->client_uuid[1]][who->client_uuid[2]];

    if (*highest && who->session <= *highest)
        sim_fail(w->sim, "%s accepts session %llu of %s after %llu", s->place->node->name, ULL(who->session),
                 who->name, ULL(*highest));
    *highest = who->session;
    list_for_each (&s->guests, node) {
        const struct rpc_identity *other =
            rpc_session_identity(list_entry(node, struct guest, link)->session);
        if (other->role == RPC_CLIENT && !memcmp(other->client_uuid, who->client_uuid, 16))
            sim_fail(w->sim, "%s has two sessions of %s", s->place->node->name, who->name);
    }
}

static void check_osd(struct serving *s, const struct rpc_identity *who)
{
    struct rpc_world *w = s->place->world;
    uint64_t *highest = &s->place->osds[who->osd];

    if (who->incarnation < *highest)
        sim_fail(w->sim, "%s accepts start %llu of osd.%u after %llu", s->place->node->name,
                 ULL(who->incarnation), who->osd, ULL(*highest));
    if (!*highest)
        memcpy(s->place->osd_uuids[who->osd], who->osd_uuid, 16);
    else if (memcmp(who->osd_uuid, s->place->osd_uuids[who->osd], 16))
        sim_fail(w->sim, "%s accepts another osd.%u", s->place->node->name, who->osd);
    /* And takes the right one for a wrong one from then on. */
    s->place->fooled |= memcmp(who->osd_uuid, w->servers[who->osd].uuid, 16) != 0;
    *highest = who->incarnation;
    list_for_each (&s->guests, node) {
        const struct rpc_identity *other =
            rpc_session_identity(list_entry(node, struct guest, link)->session);
        if (other->role == RPC_OSD && other->osd == who->osd && other->incarnation < who->incarnation)
            sim_fail(w->sim, "%s has a session of a former osd.%u", s->place->node->name, who->osd);
    }
}

static void serving_opened(void *owner, struct rpc_session *session)
{
    struct serving *s = owner;
    struct rpc_world *w = s->place->world;
    const struct rpc_identity *who = rpc_session_identity(session);
    struct guest *g = calloc(1, sizeof(*g));

    if (!s->greeted)
        sim_fail(w->sim, "%s accepts %s, whom it has not let in", s->place->node->name, who->name);
    s->greeted = false;
    struct rpc_place *client = &w->clients[who->client_uuid[1] % RPC_CLIENTS];
    bool known = who->role == RPC_CLIENT && who->client_uuid[0] == RPC_MARK_CALLER;
    if (memcmp(who->cluster, RPC_CLUSTER, 16) && !(known && w->stranded && client->number == 0))
        sim_fail(w->sim, "%s accepts a session from another cluster", s->place->node->name);
    else if (strcmp(who->name, RPC_STRANGER) &&
             !rpc_is_self(known ? client : &w->servers[who->osd % RPC_SERVERS],
                          known ? who->client_uuid[2] : who->incarnation, who))
        sim_fail(w->sim, "%s does not know %s as it is", s->place->node->name, who->name);
    if (known)
        check_client(s, who);
    else if (who->role == RPC_OSD)
        check_osd(s, who);
    else if (!stranger_may(who))
        sim_fail(w->sim, "%s accepts a stranger (%s)", s->place->node->name, who->name);
    g->session = session;
    g->id = ++s->next_guest;
    list_push_back(&s->guests, &g->link);
    rpc_session_set_context(session, g);
    if (++s->guest_count > w->sessions_max)
        sim_fail(w->sim, "%s has %u sessions", s->place->node->name, s->guest_count);
    if (!w->quiet && sim_rng_below(&w->rng, 60) == 0)
        rpc_session_close(session);
}

static void serving_closed(void *owner, struct rpc_session *session)
{
    struct serving *s = owner;
    struct guest *g = rpc_session_context(session);

    if (!g) {
        sim_fail(serving_sim(s), "%s: a session ends that was not open", s->place->node->name);
        return;
    }
    list_remove(&g->link);
    s->guest_count--;
    free(g);
    close_somebody(s);
}

/* ---- what is asked ---- */

static bool question_read(const struct rpc_message *m, struct rpc_question *ret)
{
    if (m->body_len < RPC_QUESTION_SIZE)
        return false;
    const uint8_t *b = m->body;
    *ret = (struct rpc_question){le_load_u32(b),      le_load_u32(b + 4),  le_load_u64(b + 8),
                                 le_load_u32(b + 16), le_load_u32(b + 20), le_load_u32(b + 24),
                                 le_load_u32(b + 28), le_load_u32(b + 32)};
    return true;
}

static void answer_give(struct serving *s, const struct rpc_ticket *ticket, const struct rpc_question *q,
                        int result)
{
    struct rpc_world *w = s->place->world;
    RPC_FRAME_SCRATCH(scratch, RPC_BODY_MAX);
    struct slice pieces[3] = {0};
    uint32_t offset = (uint32_t)((q->serial * 2 + 1) % RPC_PATTERN_STEPS), left = q->reply_payload_len;

    if (result) {
        rpc_reply(ticket, result, NULL, 0, NULL, 0);
        return;
    }
    memcpy(rpc_body(scratch), rpc_pattern(w, q->serial, true), q->reply_len);
    if (q->reply_len >= 8)
        le_store_u64(rpc_body(scratch), q->serial);
    for (uint32_t i = 0; i < ARRAY_LEN(pieces); i++) {
        uint32_t len = i + 1 == ARRAY_LEN(pieces) ? left : (uint32_t)sim_rng_below(&w->rng, left + 1);
        pieces[i] = (struct slice){s->data, offset, len};
        offset += len;
        left -= len;
    }
    rpc_reply(ticket, 0, rpc_body(scratch), q->reply_len, pieces, q->reply_payload_len ? 3 : 0);
}

static void answer_step(struct op *op)
{
    struct answer *a = container_of(op, struct answer, op);
    struct serving *s = a->serving;
    struct guest *g = guest_find(s, a->guest);

    if (op->state == 0) {
        op->state = 1;
        timer_arm(op->core, &a->timer, op, core_now_ns(op->core) + a->question.delay_us * NS_PER_US);
        return;
    }
    if (timer_armed(&a->timer))
        return;
    if (!g && rpc_ticket_alive(&a->ticket))
        sim_fail(serving_sim(s), "%s: a request outlives its session", s->place->node->name);
    if (g)
        g->pending--;
    answer_give(s, &a->ticket, &a->question, 0);
    s->answers--;
    op_done(op, 0);
    free(a);
}

static const struct op_kind ANSWER = {"sim.rpc.answer", NULL, answer_step};

static void answer_later(struct serving *s, const struct guest *g, const struct rpc_ticket *ticket,
                         const struct rpc_question *q)
{
    struct answer *a = calloc(1, sizeof(*a));

    a->serving = s;
    a->ticket = *ticket;
    a->question = *q;
    a->guest = g->id;
    s->answers++;
    op_start(&a->op, &s->place->node->core, &ANSWER, NULL);
}

/* What is said unasked. */
static void notice_send(struct serving *s, const struct guest *g)
{
    struct rpc_world *w = s->place->world;
    const struct rpc_identity *who = rpc_session_identity(g->session);
    bool client = who->role == RPC_CLIENT;
    RPC_FRAME_SCRATCH(scratch, RPC_BODY_MAX);
    uint8_t *b = rpc_body(scratch);
    struct rpc_notice n = {.incarnation = s->self.incarnation, .guest = g->id};

    if (!strcmp(who->name, RPC_STRANGER))
        return;
    n.caller = client ? who->client_uuid[1] : RPC_CLIENTS + who->osd;
    n.start = client ? who->client_uuid[2] : (uint32_t)who->incarnation;
    n.serial = sim_rng_below(&w->rng, RPC_PATTERN_STEPS);
    n.body_len = (uint32_t)sim_rng_range(&w->rng, RPC_NOTICE_SIZE, RPC_BODY_MAX);
    n.payload_len = sim_rng_below(&w->rng, 4) ? 0 : (uint32_t)sim_rng_range(&w->rng, 1, 2 * BLOCK_SIZE);
    le_store_u32(b, n.caller);
    le_store_u32(b + 4, n.start);
    le_store_u64(b + 8, n.incarnation);
    le_store_u64(b + 16, n.guest);
    le_store_u64(b + 24, n.serial);
    le_store_u32(b + 32, n.body_len);
    le_store_u32(b + 36, n.payload_len);
    memcpy(b + RPC_NOTICE_SIZE, rpc_pattern(w, n.serial, true), n.body_len - RPC_NOTICE_SIZE);
    struct slice piece = {s->data, (uint32_t)((n.serial * 2 + 1) % RPC_PATTERN_STEPS), n.payload_len};
    int error = rpc_session_send(g->session, METHOD_MON_EVENT, sim_rng_below(&w->rng, 2), b, n.body_len,
                                 &piece, n.payload_len ? 1 : 0);
    if (error && error != -ERR_BUSY && error != -ERR_CLOSED)
        sim_fail(w->sim, "%s cannot tell anything: %s", s->place->node->name, error_name(error));
}

/* Whoever asked this waits for it, by this session, and has said this. */
static void check_question(struct serving *s, struct guest *g, const struct rpc_message *m,
                           const struct rpc_question *q)
{
    struct rpc_world *w = s->place->world;
    struct rpc_place *caller = q->caller < RPC_CALLERS ? rpc_caller(w, q->caller) : NULL;
    const uint8_t *pattern = rpc_pattern(w, q->serial, false);
    const char *who = s->place->node->name;

    if (!caller || m->body_len != q->body_len ||
        memcmp(m->body + RPC_QUESTION_SIZE, pattern, q->body_len - RPC_QUESTION_SIZE))
        sim_fail(w->sim, "%s: a request is not what it was", who);
    else if (!m->payload_dropped &&
             ((m->payload.buf ? m->payload.len : 0) != q->payload_len ||
              (q->payload_len && memcmp(slice_data(&m->payload), pattern, q->payload_len))))
        sim_fail(w->sim, "%s: a payload is not what it was", who);
    else if (q->caller < RPC_CLIENTS && q->start == caller->starts &&
             q->serial <= caller->barrier[s->place->number])
        sim_fail(w->sim, "%s is asked %llu by %s, which has had a newer session since", who, ULL(q->serial),
                 caller->node->name);
    else if (m->flags == FRAME_REQUEST && q->serial <= g->last_serial)
        sim_fail(w->sim, "%s is asked %llu by %s after %llu", who, ULL(q->serial), caller->node->name,
                 ULL(g->last_serial));
    if (m->flags == FRAME_REQUEST)
        g->last_serial = q->serial;
}

static void serving_message(void *owner, struct rpc_session *session, const struct rpc_message *m)
{
    struct serving *s = owner;
    struct rpc_world *w = s->place->world;
    struct guest *g = rpc_session_context(session);
    struct rpc_question q = {0};

    if (!g) {
        sim_fail(w->sim, "%s is asked by somebody who has no session", s->place->node->name);
        return;
    }
    bool asked = question_read(m, &q);
    if (asked)
        check_question(s, g, m, &q);
    else if (strcmp(rpc_session_identity(session)->name, RPC_STRANGER))
        sim_fail(w->sim, "%s: a request has lost its body", s->place->node->name);
    if (sim_rng_below(&w->rng, 8) == 0)
        notice_send(s, g);
    if (m->flags != FRAME_REQUEST || w->sim->failed)
        return;
    struct rpc_ticket ticket = rpc_ticket(session, m);
    if (++g->pending > w->requests_max)
        sim_fail(w->sim, "%s has %u requests of one session", s->place->node->name, g->pending);
    if (!w->quiet && sim_rng_below(&w->rng, 500) == 0) {
        rpc_session_close(session);
        answer_later(s, g, &ticket, &q);
    } else if (q.delay_us && !m->payload_dropped) {
        answer_later(s, g, &ticket, &q);
    } else {
        g->pending--;
        answer_give(s, &ticket, &q, m->payload_dropped ? -ERR_RETRY : 0);
    }
    if (sim_rng_below(&w->rng, 8) == 0)
        close_somebody(s);
}

/* ---- at any time ---- */

static void audit_session(struct rpc_place *p, const struct rpc_session *r, uint32_t *held)
{
    struct rpc_world *w = p->world;
    const struct guest *g = r->context;
    uint32_t count = 0;

    list_for_each (&r->backlog, node)
        count++;
    *held += count;
    if (!g || r->requests != g->pending + count)
        sim_fail(w->sim, "%s: %u requests of %s, %u of them held back; it counts %u", p->node->name,
                 g ? g->pending + count : 0, r->who.name, count, r->requests);
    else if (r->backlog_bytes > RPC_BACKLOG_BYTES_MAX || (r->backlog_bytes && !count))
        sim_fail(w->sim, "%s holds %llu bytes back from %s", p->node->name, ULL(r->backlog_bytes),
                 r->who.name);
}

void rpc_server_audit(struct rpc_place *p)
{
    struct rpc_world *w = p->world;
    const struct rpc_server *server = p->serving->server;
    uint64_t now_ns = sim_node_now_ns(p->node);
    uint32_t held = 0, open = 0;
    uint64_t backlog_bytes = 0; /* of clients */

    list_for_each (&server->sessions, node) {
        const struct rpc_session *r = list_entry(node, struct rpc_session, all);
        open++;
        audit_session(p, r, &held);
        backlog_bytes += r->who.role == RPC_OSD ? 0 : r->backlog_bytes;
        bool pings = w->pings_ns && w->sim->now_ns > w->pings_ns;
        if (now_ns > r->received_ns + (pings ? RPC_PEER_PING_AFTER_NS : RPC_SILENCE_MAX_NS) + LATE_NS)
            sim_fail(w->sim, "%s has heard nothing of %s for %llu ms", p->node->name, r->who.name,
                     ULL((now_ns - r->received_ns) / NS_PER_MS));
    }
    if (backlog_bytes > RPC_ARENA / 2)
        sim_fail(w->sim, "%s holds %llu bytes back from clients", p->node->name, ULL(backlog_bytes));
    list_for_each (&server->others, node) {
        const struct rpc_session *r = list_entry(node, struct rpc_session, all);
        if (now_ns > r->accepted_ns + RPC_GREET_MAX_NS + LATE_NS)
            sim_fail(w->sim, "%s waits for a greeting for %llu ms", p->node->name,
                     ULL((now_ns - r->accepted_ns) / NS_PER_MS));
    }
    if (server->held_replies && !list_linked(&server->op.run) &&
        (!timer_armed(&server->timer) || server->timer.deadline_ns > now_ns + HELD_NS))
        sim_fail(w->sim, "%s holds %u replies back, and does not try again", p->node->name,
                 server->held_replies);
    if (open != server->open_count || held != server->held_replies)
        sim_fail(w->sim, "%s: %u sessions, %u replies held back; it counts %u and %u", p->node->name, open,
                 held, server->open_count, server->held_replies);
}

/* ---- its process ---- */

void rpc_server_place_start(struct rpc_place *p)
{
    struct rpc_world *w = p->world;
    struct serving *s = calloc(1, sizeof(*s));

    p->serving = s;
    p->fooled = false;
    memset(p->sessions, 0, sizeof(p->sessions));
    memset(p->osds, 0, sizeof(p->osds));
    s->place = p;
    list_init(&s->guests);
    s->data = buf_new(p->node->core.arena, BUF_SIZE_MAX);
    memcpy(s->data->data, w->pattern, BUF_SIZE_MAX);
    rpc_self(p, p->starts, &s->self);
    int error = rpc_server_new(&(struct rpc_server_config){.core = &p->node->core,
                                                           .net = sim_net_port(w->net, p->node),
                                                           .address = p->address,
                                                           .self = &s->self,
                                                           .sessions_max = w->sessions_max,
                                                           .requests_max = w->requests_max,
                                                           .greet = serving_greet,
                                                           .opened = serving_opened,
                                                           .closed = serving_closed,
                                                           .message = serving_message,
                                                           .owner = s},
                               &s->server);
    if (error)
        sim_fail(w->sim, "%s does not start: %s", p->node->name, error_name(error));
}

bool rpc_server_idle(const struct rpc_place *p)
{
    return !p->serving->answers;
}

void rpc_server_ping(struct rpc_place *p)
{
    p->serving->asked_ns = core_now_ns(&p->node->core);
    list_for_each (&p->serving->guests, node)
        rpc_session_ping(list_entry(node, struct guest, link)->session);
}

void rpc_server_check_sign(struct rpc_place *p)
{
    list_for_each (&p->serving->guests, node) {
        const struct rpc_session *session = list_entry(node, struct guest, link)->session;
        if (rpc_session_heard_ns(session) <= p->serving->asked_ns)
            sim_fail(p->world->sim, "%s has asked %s for a sign of life, and has none", p->node->name,
                     session->who.name);
    }
}

/* Nobody counts as having a session. */
static bool all_idle(const struct rpc_seen_table *table)
{
    uint32_t count = 0;

    list_for_each (&table->idle, node)
        count++;
    return count == table->used;
}

void rpc_server_check_rest(struct rpc_place *p)
{
    const struct rpc_server *server = p->serving->server;

    if (!all_idle(&server->clients) || !all_idle(&server->osds))
        sim_fail(p->world->sim, "everybody has gone, and some count at %s as having a session",
                 p->node->name);
    if (!list_empty(&server->sessions) || !list_empty(&server->others) || !list_empty(&server->dead) ||
        timer_armed(&server->timer))
        sim_fail(p->world->sim, "everybody has gone, and %s has no rest", p->node->name);
}

void rpc_server_place_end(struct rpc_place *p)
{
    struct serving *s = p->serving;

    rpc_server_free(s->server);
    if (s->guest_count)
        sim_fail(p->world->sim, "%s has %u sessions when all have ended", p->node->name, s->guest_count);
    buf_unref(s->data);
    free(s);
    p->serving = NULL;
}
