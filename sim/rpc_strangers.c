/* SPDX-License-Identifier: Apache-2.0
 *
 * Who does not belong there. Strangers come to a server and do not greet, or greet for another cluster or
 * another shard, or as somebody who has been replaced; or they are let in and then ask more than they may, or
 * are never heard of again. Impostors answer at the address of a server that is down. None of them may be
 * taken for anybody else, or stay for long; what belongs there must be served all the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "rpc/monitors.h"
#include "sim/rpc_world.h"
#include "wire/frame.h"

#define LINKS_MAX 100u
#define CROWD     80u
#define STAYS_NS  (9 * NS_PER_S)

enum stranger_kind {
    STRANGER_SILENT,
    STRANGER_NOT_HELLO,
    STRANGER_CLUSTER,
    STRANGER_OTHER_OSD,
    STRANGER_OTHER_SHARD,
    STRANGER_NOBODY, /* a client without a name */
    STRANGER_PROTOCOL,
    STRANGER_GARBAGE,
    STRANGER_OSD_OTHER, /* another device that calls itself that OSD */
    STRANGER_OSD_OLD,   /* an OSD, as it was */
    STRANGER_FORMER,    /* a client, by a session that another has replaced */
    STRANGER_MUTE,      /* from here on they may come in */
    STRANGER_GREEDY,
    STRANGER_TWICE,
    STRANGER_KINDS
};

enum impostor_kind {
    IMPOSTOR_OTHER_OSD,
    IMPOSTOR_OTHER_SHARD,
    IMPOSTOR_CLIENT,
    IMPOSTOR_PROTOCOL,
    IMPOSTOR_GARBAGE,
    IMPOSTOR_CLUSTER, /* from here on they show only to who knows the right one */
    IMPOSTOR_DEVICE,
    IMPOSTOR_OLD,
    IMPOSTOR_KINDS
};

struct visit {
    struct strangers *strangers;
    struct link *link; /* NULL: none */
    enum stranger_kind kind;
    uint32_t server;
    uint64_t until_ns;
};

struct impostor {
    struct rpc_world *world;
    struct sim_node *node;
    uint32_t server;
    enum impostor_kind kind;
    uint32_t differs; /* that byte of a uuid */
};

struct strangers {
    struct rpc_world *world;
    struct sim_node *node;
    struct visit visits[LINKS_MAX];
    struct impostor impostors[RPC_SERVERS];
};

static void frame_out(struct link *link, enum method method, uint32_t flags, uint64_t id, const void *body,
                      uint32_t body_len)
{
    uint8_t bytes[FRAME_HEADER_SIZE + HELLO_BODY_MAX];

    if (body_len)
        memcpy(bytes + FRAME_HEADER_SIZE, body, body_len);
    frame_encode(bytes,
                 &(struct frame_header){
                     .method = method, .flags = (uint16_t)flags, .request_id = id, .body_len = body_len});
    int error = link_send(link, &(struct frame){.head = bytes, .head_len = FRAME_HEADER_SIZE + body_len});
    (void)error; /* it does not care */
}

/* ---- strangers ---- */

bool stranger_may(const struct rpc_identity *who)
{
    return who->role == RPC_CLIENT && who->client_uuid[0] == RPC_MARK_STRANGER &&
           who->client_uuid[1] >= STRANGER_MUTE;
}

static void visit_hello(struct visit *v, struct rpc_hello *h)
{
    struct rpc_world *w = v->strangers->world;
    uint32_t other = (v->server + 1) % RPC_SERVERS;
    struct rpc_place *p = &w->servers[other], *client = &w->clients[sim_rng_below(&w->rng, RPC_CLIENTS)];

    *h = (struct rpc_hello){.protocol = RPC_PROTOCOL,
                            .who = {.role = RPC_CLIENT, .session = 1, .name = RPC_STRANGER},
                            .has_target = true,
                            .target_osd = v->server};
    memcpy(h->who.cluster, RPC_CLUSTER, 16);
    h->who.client_uuid[0] = RPC_MARK_STRANGER;
    h->who.client_uuid[1] = (uint8_t)v->kind;
    h->who.client_uuid[2] = (uint8_t)(v - v->strangers->visits);
    h->who.session = w->sim->now_ns;
    switch (v->kind) {
    case STRANGER_CLUSTER:
        h->who.cluster[sim_rng_below(&w->rng, 16)] += 1 + (uint8_t)sim_rng_below(&w->rng, 255);
        break;
    case STRANGER_OTHER_OSD:
        h->target_osd = other;
        break;
    case STRANGER_OTHER_SHARD:
        h->target_shard = 1;
        break;
    case STRANGER_NOBODY:
        memset(h->who.client_uuid, 0, 16);
        break;
    case STRANGER_PROTOCOL:
        h->protocol++;
        break;
    case STRANGER_OSD_OTHER:
    case STRANGER_OSD_OLD:
        memset(h->who.client_uuid, 0, 16);
        h->who.role = RPC_OSD;
        h->who.osd = other;
        h->who.incarnation = v->kind == STRANGER_OSD_OLD ? p->starts - 1 : p->starts;
        memcpy(h->who.osd_uuid, p->uuid, 16);
        h->who.osd_uuid[sim_rng_below(&w->rng, 16)] += v->kind == STRANGER_OSD_OTHER;
        break;
    case STRANGER_FORMER:
        h->who.client_uuid[0] = RPC_MARK_CALLER;
        h->who.client_uuid[1] = (uint8_t)client->number;
        h->who.client_uuid[2] = (uint8_t)client->starts;
        h->who.session = w->servers[v->server].sessions[client->number][client->starts];
        h->who.session -= sim_rng_below(&w->rng, h->who.session + 1);
        break;
    default:
        break;
    }
}

static void visit_opened(void *owner, struct link *link)
{
    struct visit *v = owner;
    struct rpc_world *w = v->strangers->world;
    uint8_t body[HELLO_BODY_MAX];
    struct rpc_hello hello;
    uint32_t asks = v->kind == STRANGER_GREEDY ? 3 * w->requests_max : (uint32_t)sim_rng_below(&w->rng, 3);

    if (v->kind == STRANGER_SILENT)
        return;
    visit_hello(v, &hello);
    uint32_t len = v->kind == STRANGER_GARBAGE ? 9 : rpc_hello_encode(body, &hello);
    if (v->kind == STRANGER_GARBAGE)
        memset(body, 0xff, len);
    if (v->kind != STRANGER_NOT_HELLO)
        frame_out(link, METHOD_HELLO, FRAME_REQUEST, 1, body, len);
    /* Without waiting for what becomes of that. */
    for (uint32_t i = 0; i < MAX(asks, 1u); i++)
        frame_out(link, METHOD_BLOCK_STATUS, i % 4 == 3 ? FRAME_ONEWAY : FRAME_REQUEST, 2 + i, NULL, 0);
    if (v->kind == STRANGER_TWICE)
        frame_out(link, METHOD_HELLO, FRAME_REQUEST, 90, body, len);
}

static void visit_message(void *owner, struct link *link, const struct frame *frame)
{
    struct visit *v = owner;
    struct frame_header header;

    if (!frame_validate_header(frame->head, &header) && header.method == METHOD_HELLO && header.result)
        v->strangers->world->strangers_refused++;
}

static void visit_closed(void *owner, struct link *link, int error)
{
    ((struct visit *)owner)->link = NULL;
}

static const struct link_events VISIT_EVENTS = {
    .message = visit_message, .opened = visit_opened, .closed = visit_closed};

/* In the node. */
struct leaving {
    struct op op;
    struct timer timer;
    struct strangers *strangers;
};

/* They go when they like. */
static void leaving_step(struct op *op)
{
    struct leaving *l = container_of(op, struct leaving, op);
    struct strangers *s = l->strangers;
    uint64_t now_ns = s->world->sim->now_ns;

    for (uint32_t i = 0; i < LINKS_MAX; i++)
        if (s->visits[i].link && now_ns > s->visits[i].until_ns) {
            link_close(s->visits[i].link);
            s->visits[i].link = NULL;
        }
    timer_arm(op->core, &l->timer, op, core_now_ns(op->core) + 100 * NS_PER_MS);
}

static const struct op_kind LEAVING = {"sim.rpc.leaving", NULL, leaving_step};

static void strangers_start(void *owner, struct sim_node *node)
{
    struct leaving *l = calloc(1, sizeof(*l));

    l->strangers = owner;
    op_start(&l->op, &node->core, &LEAVING, NULL);
}

static void strangers_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    memset(((struct strangers *)owner)->visits, 0, sizeof(((struct strangers *)owner)->visits));
}

static void visit_begin(struct strangers *s, uint32_t server, enum stranger_kind kind)
{
    struct rpc_world *w = s->world;

    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        struct visit *v = &s->visits[i];
        if (v->link)
            continue;
        *v = (struct visit){s, NULL, kind, server, 0};
        v->until_ns = w->sim->now_ns + (sim_rng_below(&w->rng, 3) ? STAYS_NS : NS_PER_S / 10);
        v->link = link_connect(sim_net_port(w->net, s->node), w->servers[server].address, &VISIT_EVENTS, v);
        return;
    }
}

void strangers_strike(struct rpc_world *w)
{
    struct strangers *s = w->strangers;
    uint32_t server = (uint32_t)sim_rng_below(&w->rng, RPC_SERVERS);
    enum stranger_kind kind = (enum stranger_kind)sim_rng_below(&w->rng, STRANGER_KINDS);
    uint32_t count = kind >= STRANGER_MUTE ? (uint32_t)sim_rng_range(&w->rng, 1, w->sessions_max) : 1;

    if (w->crowds && sim_rng_below(&w->rng, 4) == 0)
        count = CROWD;
    sim_node_enter(s->node);
    for (uint32_t i = 0; i < count; i++)
        visit_begin(s, server, kind);
    sim_node_leave(s->node);
}

void strangers_throng(struct rpc_world *w, uint32_t server, uint32_t count)
{
    struct strangers *s = w->strangers;

    if (s->node->state == SIM_NODE_DOWN)
        sim_node_start(s->node);
    sim_node_enter(s->node);
    for (uint32_t i = 0; i < count; i++)
        visit_begin(s, server, STRANGER_SILENT);
    sim_node_leave(s->node);
}

/* ---- impostors ---- */

static void impostor_hello(const struct impostor *im, struct rpc_hello *h)
{
    const struct rpc_place *p = &im->world->servers[im->server];

    *h = (struct rpc_hello){
        .protocol = RPC_PROTOCOL,
        .who = {.role = RPC_OSD, .osd = im->server, .incarnation = p->starts + 1, .name = "impostor"}};
    memcpy(h->who.cluster, RPC_CLUSTER, 16);
    memcpy(h->who.osd_uuid, p->uuid, 16);
    h->who.osd += im->kind == IMPOSTOR_OTHER_OSD;
    h->who.shard += im->kind == IMPOSTOR_OTHER_SHARD;
    h->who.cluster[im->differs] += im->kind == IMPOSTOR_CLUSTER;
    h->who.osd_uuid[im->differs] += im->kind == IMPOSTOR_DEVICE;
    h->protocol += im->kind == IMPOSTOR_PROTOCOL;
    if (im->kind == IMPOSTOR_CLIENT)
        h->who.role = RPC_CLIENT;
    if (im->kind == IMPOSTOR_OLD)
        h->who.incarnation = 0;
}

/* Does the caller who greets know what it looks for? */
static bool is_known(const struct impostor *im, const struct frame *frame)
{
    static const uint8_t unknown[16];
    struct rpc_hello hello;

    if (rpc_hello_decode(frame->head + FRAME_HEADER_SIZE, frame->head_len - FRAME_HEADER_SIZE, &hello))
        return false;
    const struct rpc_identity *who = &hello.who;
    if (im->kind == IMPOSTOR_CLUSTER)
        return memcmp(who->cluster, unknown, 16) != 0;
    if (who->role == RPC_OSD)
        return rpc_caller_knows(&im->world->servers[who->osd], im->server);
    return who->client_uuid[0] == RPC_MARK_CALLER &&
           rpc_caller_knows(&im->world->clients[who->client_uuid[1]], im->server);
}

static void impostor_message(void *owner, struct link *link, const struct frame *frame)
{
    struct impostor *im = owner;
    uint8_t body[HELLO_BODY_MAX];
    struct frame_header header;
    struct rpc_hello hello;

    if (frame_validate_header(frame->head, &header) || header.method != METHOD_HELLO ||
        header.flags != FRAME_REQUEST || (im->kind >= IMPOSTOR_CLUSTER && !is_known(im, frame)))
        return;
    impostor_hello(im, &hello);
    uint32_t len = im->kind == IMPOSTOR_GARBAGE ? 9 : rpc_hello_encode(body, &hello);
    if (im->kind == IMPOSTOR_GARBAGE)
        memset(body, 0xff, len);
    frame_out(link, METHOD_HELLO, FRAME_REPLY, header.request_id, body, len);
}

static void impostor_closed(void *owner, struct link *link, int error)
{
}

static const struct link_events IMPOSTOR_EVENTS = {.message = impostor_message, .closed = impostor_closed};

static void impostor_accepted(void *owner, struct link *link)
{
    link_own(link, &IMPOSTOR_EVENTS, owner);
}

static void impostor_node_start(void *owner, struct sim_node *node)
{
    struct impostor *im = owner;
    struct net *net = sim_net_port(im->world->net, node);
    char bound[64];

    int error = net->ops->listen(net, im->world->servers[im->server].address, impostor_accepted, im, bound,
                                 sizeof(bound));
    ASSERT(!error);
}

void impostor_start(struct rpc_world *w, uint32_t server)
{
    struct impostor *im = &w->strangers->impostors[server];

    im->kind = (enum impostor_kind)sim_rng_below(&w->rng, IMPOSTOR_KINDS);
    im->differs = (uint32_t)sim_rng_below(&w->rng, 16);
    if (im->node->state == SIM_NODE_DOWN)
        sim_node_start(im->node);
}

void impostor_stop(struct rpc_world *w, uint32_t server)
{
    struct impostor *im = &w->strangers->impostors[server];

    if (im->node->state != SIM_NODE_DOWN)
        sim_node_crash(im->node, SIM_CRASH_PROCESS);
}

/* ---- all of them ---- */

void strangers_init(struct rpc_world *w)
{
    struct strangers *s = sim_alloc(sizeof(*s));
    char name[24], host[24];

    w->strangers = s;
    s->world = w;
    s->node = sim_node_new(w->sim, &(struct sim_node_config){.name = RPC_STRANGER,
                                                             .host = "10.0.3.1",
                                                             .start = strangers_start,
                                                             .crashed = strangers_crashed,
                                                             .owner = s});
    sim_net_port(w->net, s->node);
    for (uint32_t i = 0; i < RPC_SERVERS; i++) {
        struct impostor *im = &s->impostors[i];
        *im = (struct impostor){.world = w, .server = i};
        snprintf(name, sizeof(name), "impostor.%u", i);
        snprintf(host, sizeof(host), "10.0.1.%u", i + 1);
        im->node = sim_node_new(
            w->sim,
            &(struct sim_node_config){.name = name, .host = host, .start = impostor_node_start, .owner = im});
        sim_net_port(w->net, im->node);
    }
    sim_node_start(s->node);
}

void strangers_stop(struct rpc_world *w)
{
    struct strangers *s = w->strangers;

    if (s->node->state != SIM_NODE_DOWN)
        sim_node_crash(s->node, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < RPC_SERVERS; i++)
        impostor_stop(w, i);
}

void strangers_fini(struct rpc_world *w)
{
    free(w->strangers);
}

/* ---- the list of monitors ---- */

static bool is_there(const struct rpc_monitors *m, const char *address)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < m->count; i++)
        count += !strcmp(m->address[i], address);
    return count == 1;
}

void monitors_check(struct rpc_world *w)
{
    enum { NAMES = 24, LISTED = 20, STEPS = 60 };
    static const char *const names[NAMES] = {"a:1", "b:1", "c:1", "d:1", "e:1", "f:1", "g:1", "h:1",
                                             "i:1", "j:1", "k:1", "l:1", "m:1", "n:1", "o:1", "p:1",
                                             "q:1", "r:1", "s:1", "t:1", "u:1", "v:1", "w:1", "x:1"};
    struct sim_rng rng = sim_rng_make(w->sim->seed, "rpc.monitors", 0);
    uint32_t configured = (uint32_t)sim_rng_range(&rng, 1, 4);
    uint64_t led_ns = 0; /* when a leader was last followed */
    struct rpc_monitors m;

    if (rpc_monitors_init(&m, names, configured))
        sim_fail(w->sim, "%u monitors cannot be configured", configured);
    for (uint32_t step = 0; step < STEPS && !w->sim->failed; step++) {
        char was[8], *list[LISTED];
        uint32_t count = (uint32_t)sim_rng_below(&rng, sim_rng_below(&rng, 4) ? 6 : LISTED + 1);
        uint32_t first = (uint32_t)sim_rng_below(&rng, NAMES), index = m.current;
        snprintf(was, sizeof(was), "%s", rpc_monitors_current(&m));
        for (uint32_t i = 0; i < count; i++)
            list[i] = (char *)names[(first + i) % NAMES];
        bool learn = sim_rng_below(&rng, 3) == 0;
        if (learn) {
            rpc_monitors_learn(&m, list, count);
        } else if (sim_rng_below(&rng, 2)) {
            rpc_monitors_next(&m);
            if (m.current != (index + 1) % m.count)
                sim_fail(w->sim, "a monitor is left out");
        } else {
            bool had = is_there(&m, names[first]), room = m.count < RPC_MONITORS_MAX;
            uint64_t now_ns = step * NS_PER_S / 4 + 1;
            bool soon = led_ns && now_ns - led_ns < RPC_MONITOR_LEADER_NS;
            bool follows = rpc_monitors_follow(&m, names[first], now_ns);
            led_ns = follows ? now_ns : led_ns;
            if (follows != (strcmp(was, names[first]) && !soon && (had || room)) ||
                strcmp(rpc_monitors_current(&m), follows ? names[first] : was))
                sim_fail(w->sim, "%s leads, and %s is the current monitor", names[first],
                         rpc_monitors_current(&m));
        }
        for (uint32_t i = 0; i < configured; i++)
            if (!is_there(&m, names[i]))
                sim_fail(w->sim, "the monitor %s was configured and is forgotten", names[i]);
        if (!learn)
            continue;
        if (strcmp(rpc_monitors_current(&m), was))
            sim_fail(w->sim, "the current monitor was %s and is %s, for a list", was,
                     rpc_monitors_current(&m));
        for (uint32_t i = 0; i < count; i++)
            if (!is_there(&m, list[i]) && m.count < RPC_MONITORS_MAX)
                sim_fail(w->sim, "the monitor %s is listed and not known", list[i]);
        for (uint32_t i = configured; i < m.count; i++) {
            bool listed = i == m.current;
            for (uint32_t j = 0; j < count; j++)
                listed |= !strcmp(m.address[i], list[j]);
            if (!listed)
                sim_fail(w->sim, "the monitor %s is not listed any more", m.address[i]);
        }
    }
}
