/* SPDX-License-Identifier: Apache-2.0
 *
 * The machines of the monitor's tests.
 */
#include "tests/mon/world.h"

#include <stdlib.h>
#include <string.h>

#include "base/level.h"

/* ---- a metadata port that makes trouble ---- */

struct proxy {
    struct meta meta;
    struct world *w;
    struct meta *real;
    struct op op; /* lives as long as a transaction is forwarded */
    struct meta_txn txn, *original;
    bool fails;
};

static void crash_now(void *owner)
{
    struct world *w = owner;

    if (w->mon_node->state != SIM_NODE_DOWN)
        sim_node_crash(w->mon_node, SIM_CRASH_PROCESS);
}

static void proxy_answer(struct proxy *p, struct meta_txn *txn, int result, uint64_t revision)
{
    txn->result = result;
    txn->ret_revision = revision;
    txn->pending = false;
    op_wake(txn->waiter);
}

static void proxy_step(struct op *op)
{
    struct proxy *p = container_of(op, struct proxy, op);

    if (p->txn.pending)
        return;
    op_done(op, 0);
    if (p->fails && p->w->trouble == CRASH_AFTER)
        sim_after(p->w->sim, 0, crash_now, p->w); /* and it is never answered */
    else
        proxy_answer(p, p->original, p->fails ? -ERR_IO : p->txn.result, p->txn.ret_revision);
}

static const struct op_kind proxy_kind = {.name = "test.txn", .step = proxy_step};

static void proxy_txn(struct meta *meta, struct meta_txn *txn)
{
    struct proxy *p = container_of(meta, struct proxy, meta);
    struct world *w = p->w;

    p->fails = ++w->txns == w->trouble_at;
    if (w->trouble == FULL && w->trouble_at && w->txns >= w->trouble_at) {
        proxy_answer(p, txn, -ERR_NO_SPACE, 0);
        return;
    }
    if (p->fails && w->trouble == CRASH_BEFORE) {
        sim_after(w->sim, 0, crash_now, w);
        return;
    }
    if (p->fails && (w->trouble == FAIL_BEFORE || w->trouble == CONFLICT)) {
        proxy_answer(p, txn, w->trouble == CONFLICT ? -ERR_CONFLICT : -ERR_IO, 0);
        return;
    }
    p->original = txn;
    p->txn = *txn;
    p->txn.waiter = &p->op;
    op_start(&p->op, &w->mon_node->core, &proxy_kind, NULL);
    p->real->ops->txn(p->real, &p->txn);
}

static void proxy_range(struct meta *meta, struct meta_range *range)
{
    struct proxy *p = container_of(meta, struct proxy, meta);
    p->real->ops->range(p->real, range);
}

static void proxy_range_fini(struct meta *meta, struct meta_range *range)
{
    struct proxy *p = container_of(meta, struct proxy, meta);
    p->real->ops->range_fini(p->real, range);
}

static const struct meta_ops proxy_ops = {
    .range = proxy_range, .range_fini = proxy_range_fini, .txn = proxy_txn};

/* ---- the monitor ---- */

static struct proxy *proxy_of(struct world *w)
{
    return container_of(w->start.config.meta, struct proxy, meta);
}

static void mon_node_start(void *owner, struct sim_node *node)
{
    struct world *w = owner;
    struct proxy *p = calloc(1, sizeof(*p));

    p->meta.ops = &proxy_ops;
    p->w = w;
    p->real = sim_meta_open(w->store, node);
    memset(&w->start, 0, sizeof(w->start));
    mon_start_start(&w->start,
                    &(struct mon_config){.core = &node->core,
                                         .net = sim_net_port(w->net, node),
                                         .meta = &p->meta,
                                         .listen = MON_ADDRESS,
                                         .osd_out_after_ns = w->out_after_ns,
                                         .orders_max = w->orders_max,
                                         .choosers = {w->chooser},
                                         .chooser_count = w->chooser != NULL},
                    NULL);
}

static void mon_node_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    struct world *w = owner;
    memset(&w->start, 0, sizeof(w->start));
}

static bool mon_is_ready(const struct world *w)
{
    return w->start.ret_mon && !op_live(&w->start.op);
}

void world_want_mon(struct world *w)
{
    for (int tries = 0; tries < 10 && !mon_is_ready(w); tries++) {
        if (w->mon_node->state == SIM_NODE_UP && !op_live(&w->start.op))
            sim_node_crash(w->mon_node, SIM_CRASH_PROCESS); /* the start failed */
        if (w->mon_node->state == SIM_NODE_DOWN)
            sim_node_start(w->mon_node);
        uint64_t until_ns = w->sim->now_ns + 2000 * NS_PER_MS;
        while (op_live(&w->start.op) && w->mon_node->state == SIM_NODE_UP && sim_step(w->sim, until_ns))
            ;
    }
    CHECK(mon_is_ready(w));
}

void world_crash_mon(struct world *w)
{
    sim_node_crash(w->mon_node, SIM_CRASH_PROCESS);
    world_want_mon(w);
}

static void mon_stop(struct world *w)
{
    struct proxy *p = proxy_of(w);

    sim_node_enter(w->mon_node);
    mon_free(w->start.ret_mon);
    sim_node_leave(w->mon_node);
    WAIT_FOR(w, 1000, list_empty(&w->mon_node->core.live_ops));
    sim_node_enter(w->mon_node);
    p->real->ops->close(p->real);
    free(p);
    sim_node_leave(w->mon_node);
    sim_node_halt(w->mon_node);
    memset(&w->start, 0, sizeof(w->start));
}

void world_restart_mon(struct world *w)
{
    mon_stop(w);
    world_want_mon(w);
}

/* ---- several ---- */

static void one_of_several_starts(void *owner, struct sim_node *node)
{
    struct world_mon *m = owner;

    memset(&m->start, 0, sizeof(m->start));
    mon_start_start(&m->start,
                    &(struct mon_config){.core = &node->core,
                                         .net = sim_net_port(m->w->net, node),
                                         .meta = sim_meta_open(m->w->store, node),
                                         .listen = m->address,
                                         .version = "test"},
                    NULL);
}

static void one_of_several_died(void *owner, struct sim_node *node, enum sim_crash kind)
{
    memset(&((struct world_mon *)owner)->start, 0, sizeof(struct mon_start));
}

struct mon *world_mon(struct world *w, uint32_t i)
{
    return op_live(&w->mons[i].start.op) ? NULL : w->mons[i].start.ret_mon;
}

int world_leader(struct world *w)
{
    int leader = -1;

    for (uint32_t i = 0; i < w->mon_count; i++)
        if (world_mon(w, i) && w->mons[i].node->state == SIM_NODE_UP && mon_leads(world_mon(w, i)))
            leader = leader == -1 ? (int)i : -2;
    return leader;
}

static void one_of_several_stops(struct world_mon *m)
{
    sim_node_enter(m->node);
    mon_free(m->start.ret_mon);
    sim_node_leave(m->node);
    WAIT_FOR(m->w, 20000, list_empty(&m->node->core.live_ops));
    sim_node_enter(m->node);
    m->start.config.meta->ops->close(m->start.config.meta);
    sim_node_leave(m->node);
    sim_node_halt(m->node);
}

static void client_node_start(void *owner, struct sim_node *node)
{
}

uint32_t world_queue_bytes;

static struct world *world_make(void)
{
    struct world *w = sim_alloc(sizeof(*w));

    w->sim = sim_new(7, getenv("MON_TEST_VERBOSE") != NULL);
    w->net = sim_net_new(w->sim, &(struct sim_net_config){.queue_max_bytes = world_queue_bytes});
    w->store = sim_meta_new(w->sim, &(struct sim_meta_config){0});
    w->client_node = sim_node_new(w->sim, &(struct sim_node_config){.name = "client",
                                                                    .host = "10.0.0.200",
                                                                    .arena_bytes = 8u << 20,
                                                                    .start = client_node_start});
    sim_node_start(w->client_node);
    return w;
}

struct world *world_new_several(uint32_t mons)
{
    static const char *const names[MONS_MAX] = {"mon.a", "mon.b", "mon.c"};
    struct world *w = world_make();
    char host[24];

    w->mon_count = mons;
    for (uint32_t i = 0; i < mons; i++) {
        struct world_mon *m = &w->mons[i];
        m->w = w;
        snprintf(host, sizeof(host), "10.0.0.%u", i + 1);
        snprintf(m->address, sizeof(m->address), "%s:7000", host);
        m->node = sim_node_new(w->sim, &(struct sim_node_config){.name = names[i],
                                                                 .host = host,
                                                                 .arena_bytes = 8u << 20,
                                                                 .start = one_of_several_starts,
                                                                 .crashed = one_of_several_died,
                                                                 .owner = m});
        sim_node_start(m->node);
        WAIT_FOR(w, 2000, world_mon(w, i));
    }
    WAIT_FOR(w, 2000, world_leader(w) >= 0);
    return w;
}

struct world *world_new(void)
{
    struct world *w = world_make();

    w->mon_node = sim_node_new(w->sim, &(struct sim_node_config){.name = "mon",
                                                                 .host = "10.0.0.1",
                                                                 .arena_bytes = 8u << 20,
                                                                 .start = mon_node_start,
                                                                 .crashed = mon_node_crashed,
                                                                 .owner = w});
    world_want_mon(w);
    return w;
}

void world_free(struct world *w)
{
    if (w->mon_node && w->mon_node->state == SIM_NODE_UP)
        mon_stop(w);
    for (uint32_t i = 0; i < w->mon_count; i++)
        if (w->mons[i].node->state == SIM_NODE_UP)
            one_of_several_stops(&w->mons[i]);
    sim_node_halt(w->client_node);
    if (w->sim->failed) {
        printf("# %s\n", w->sim->failure);
        tap_ok = false;
    }
    sim_meta_free(w->store);
    sim_net_free(w->net);
    sim_free(w->sim);
    free(w);
}

/* ---- callers ---- */

static void caller_opened(void *owner, struct rpc_peer *peer, const struct rpc_identity *who)
{
    ((struct caller *)owner)->opened++;
}

static void caller_closed(void *owner, struct rpc_peer *peer, int error)
{
    ((struct caller *)owner)->closed_error = error;
}

static bool shows_later(const Fb__ClusterMap *map)
{
    bool later = false;

    for (size_t i = 0; i < map->n_osd; i++)
        later |= map->osd[i]->epoch > map->epoch;
    for (size_t i = 0; i < map->n_pool; i++)
        later |= map->pool[i]->epoch > map->epoch;
    for (size_t i = 0; i < map->n_pg; i++)
        later |= map->pg[i]->epoch > map->epoch;
    return later;
}

static void caller_event(void *owner, struct rpc_peer *peer, const struct rpc_message *message)
{
    struct caller *c = owner;
    Fb__MonEvent *event = fb__mon_event__unpack(NULL, message->body_len, message->body);

    if (!event || message->method != METHOD_MON_EVENT) {
        sim_fail(c->w->sim, "a malformed event");
        return;
    }
    if (event->map) {
        c->map_events++;
        c->gap |= event->map->base_epoch != c->epoch || event->map->epoch <= c->epoch;
        c->early |= shows_later(event->map);
        c->epoch = event->map->epoch;
    }
    if (event->image) {
        c->image_events++;
        c->image_id = event->image->id;
        c->image_incarnation = event->image->incarnation;
        c->image_generation = event->image->generation;
        c->image_size = event->image->size_bytes;
    }
    c->leader_events += event->leader[0] != 0;
    if (event->transfer) {
        c->transfer_events++;
        c->transfer_pg = event->transfer->pg;
        c->transfer_osd = event->transfer->to_osd;
        c->transfer_any = event->transfer->any;
        if (c->transfer)
            c->transfer(c);
    }
    fb__mon_event__free_unpacked(event, NULL);
}

static void caller_start(struct caller *c)
{
    struct world *w = c->w;
    struct rpc_peer_config config = {.core = &w->client_node->core,
                                     .net = sim_net_port(w->net, w->client_node),
                                     .address = c->address,
                                     .self = &c->self,
                                     .calls_max = 8,
                                     .opened = caller_opened,
                                     .closed = caller_closed,
                                     .oneway = caller_event,
                                     .owner = c};
    IN_CLIENT(w, c->peer = rpc_peer_new(&config));
}

void client_start(struct caller *c, struct world *w, uint8_t uuid)
{
    client_start_at(c, w, uuid, 0);
}

void client_start_at(struct caller *c, struct world *w, uint8_t uuid, uint32_t mon)
{
    *c = (struct caller){.w = w,
                         .level = LEVEL,
                         .address = mon ? w->mons[mon].address : MON_ADDRESS,
                         .self = {.role = RPC_CLIENT, .client_uuid = {0xc1, uuid}, .name = "test"}};
    caller_start(c);
}

void osd_start(struct caller *c, struct world *w, uint32_t osd, uint64_t incarnation)
{
    osd_start_at(c, w, osd, incarnation, 0);
}

void osd_start_at(struct caller *c, struct world *w, uint32_t osd, uint64_t incarnation, uint32_t mon)
{
    *c = (struct caller){.w = w,
                         .level = LEVEL,
                         .address = mon ? w->mons[mon].address : MON_ADDRESS,
                         .self = {.role = RPC_OSD, .osd = osd, .incarnation = incarnation, .name = "osd"}};
    c->self.osd_uuid[0] = (uint8_t)(osd + 1);
    caller_start(c);
}

void caller_stop(struct caller *c)
{
    if (c->peer)
        IN_CLIENT(c->w, rpc_peer_free(c->peer));
    c->peer = NULL;
    if (c->answer)
        fb__mon_reply__free_unpacked(c->answer, NULL);
    c->answer = NULL;
}

void callers_stop(struct caller *callers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        caller_stop(&callers[i]);
}

/* No CHECK here: tests of a failing monitor look at the result. */
static int call_send(struct caller *c, enum method method, uint32_t len)
{
    struct world *w = c->w;
    struct rpc_call request = {.reply = w->reply, .reply_cap = sizeof(w->reply)};
    uint64_t until_ns = w->sim->now_ns + 5 * NS_PER_S;
    int error;

    if (c->answer)
        fb__mon_reply__free_unpacked(c->answer, NULL);
    c->answer = NULL;
    c->result = -ERR_TIMEOUT;
    while (!rpc_peer_is_open(c->peer))
        if ((w->mon_node && w->mon_node->state != SIM_NODE_UP) || !sim_step(w->sim, until_ns))
            return c->result;
    IN_CLIENT(w, error = rpc_call_start(&request, c->peer, NULL, method, rpc_body(w->scratch), len, NULL, 0,
                                        core_now_ns(&w->client_node->core) + 7 * NS_PER_S));
    while (!error && request.pending && sim_step(w->sim, until_ns + 3 * NS_PER_S))
        ;
    if (!error && request.pending)
        sim_fail(w->sim, "a call does not end");
    c->result = error ? error : request.result;
    if (!error && request.remote && method == METHOD_MON)
        c->answer = fb__mon_reply__unpack(NULL, request.reply_len, w->reply);
    return c->result;
}

int call(struct caller *c, const Fb__MonRequest *request)
{
    return call_send(c, METHOD_MON, (uint32_t)fb__mon_request__pack(request, rpc_body(c->w->scratch)));
}

int call_bytes(struct caller *c, enum method method, const void *bytes, uint32_t len)
{
    memcpy(rpc_body(c->w->scratch), bytes, len);
    return call_send(c, method, len);
}

void call_and_leave(struct caller *c, const Fb__MonRequest *what, uint64_t after_ms)
{
    struct world *w = c->w;
    struct rpc_call request = {0};
    uint32_t len = (uint32_t)fb__mon_request__pack(what, rpc_body(w->scratch));
    int error;

    WAIT_FOR(w, 5000, rpc_peer_is_open(c->peer));
    IN_CLIENT(w, error = rpc_call_start(&request, c->peer, NULL, METHOD_MON, rpc_body(w->scratch), len, NULL,
                                        0, core_now_ns(&w->client_node->core) + 60 * NS_PER_S));
    CHECK_EQ(error, 0);
    world_run_ms(w, after_ms);
    CHECK(request.pending);
    caller_stop(c);
}

const char *said(const struct caller *c)
{
    return c->answer ? c->answer->message : "";
}

/* ---- the calls ---- */

int osd_new(struct caller *c, uint8_t uuid, const char *host, const char *rack, uint32_t shards)
{
    uint8_t bytes[16] = {uuid};
    Fb__OsdNew body = FB__OSD_NEW__INIT;
    body.uuid = (ProtobufCBinaryData){16, bytes};
    body.host = (char *)host;
    body.rack = (char *)rack;
    body.shards = shards;
    body.size_bytes = 8ull << 30;
    REQUEST(osd_new, OSD_NEW);
    int error = call(c, &request);
    if (!error)
        memcpy(c->self.cluster, c->answer->cluster.data, 16); /* for the next handshake */
    return error;
}

int osd_boot(struct caller *c, uint8_t uuid, uint32_t shard, uint32_t shards, const char *address)
{
    uint8_t bytes[16] = {uuid};
    char host[16];
    Fb__OsdBoot body = FB__OSD_BOOT__INIT;
    snprintf(host, sizeof(host), "h%u", c->self.osd);
    body.osd = c->self.osd;
    body.uuid = (ProtobufCBinaryData){16, bytes};
    body.shard = shard;
    body.shards = shards;
    body.incarnation = c->self.incarnation;
    body.address = (char *)address;
    body.host = host;
    body.rack = (char *)"";
    body.zone = (char *)(c->zone ? c->zone : "");
    body.size_bytes = 8ull << 30;
    body.epoch = c->self.epoch;
    body.level = c->level;
    body.pgs_max = c->pgs_max;
    REQUEST(osd_boot, OSD_BOOT);
    return call(c, &request);
}

int osd_report(struct caller *c, uint32_t shard, const Fb__ShardReport *what)
{
    Fb__ShardReport body = FB__SHARD_REPORT__INIT;
    body.free_bytes = 8ull << 30;
    if (what)
        body = *what;
    body.osd = c->self.osd;
    body.shard = shard;
    body.incarnation = c->self.incarnation;
    REQUEST(shard_report, SHARD_REPORT);
    return call(c, &request);
}

int pool_create(struct caller *c, const char *name, uint32_t replicas, uint32_t pgs, const char *domain)
{
    Fb__PoolCreate body = FB__POOL_CREATE__INIT;
    body.name = (char *)name;
    body.replicas = replicas;
    body.pg_count = pgs;
    body.failure_domain = (char *)domain;
    REQUEST(pool_create, POOL_CREATE);
    return call(c, &request);
}

int pool_remove(struct caller *c, const char *name)
{
    Fb__PoolRemove body = FB__POOL_REMOVE__INIT;
    body.name = (char *)name;
    REQUEST(pool_remove, POOL_REMOVE);
    return call(c, &request);
}

int image_create(struct caller *c, const char *pool, const char *name, uint64_t size)
{
    Fb__ImageCreate body = FB__IMAGE_CREATE__INIT;
    body.pool = (char *)pool;
    body.name = (char *)name;
    body.size_bytes = size;
    REQUEST(image_create, IMAGE_CREATE);
    return call(c, &request);
}

int image_open(struct caller *c, const char *pool, const char *name, const char *writer, bool force,
               bool share)
{
    Fb__ImageOpen body = FB__IMAGE_OPEN__INIT;
    body.pool = (char *)pool;
    body.name = (char *)name;
    body.write = writer != NULL;
    body.writer = (char *)(writer ? writer : "");
    body.force = force;
    body.share = share;
    body.address = (char *)"10.0.0.2:1";
    REQUEST(image_open, IMAGE_OPEN);
    return call(c, &request);
}

int image_close(struct caller *c, uint64_t id, const char *writer, uint64_t incarnation)
{
    Fb__ImageClose body = FB__IMAGE_CLOSE__INIT;
    body.id = id;
    body.writer = (char *)writer;
    body.incarnation = incarnation;
    REQUEST(image_close, IMAGE_CLOSE);
    return call(c, &request);
}

static int image_resize_to(struct caller *c, const char *pool, const char *name, uint64_t size,
                           bool lose_data)
{
    Fb__ImageResize body = FB__IMAGE_RESIZE__INIT;
    body.pool = (char *)pool;
    body.name = (char *)name;
    body.size_bytes = size;
    body.lose_data = lose_data;
    REQUEST(image_resize, IMAGE_RESIZE);
    return call(c, &request);
}

int image_resize(struct caller *c, const char *pool, const char *name, uint64_t size)
{
    return image_resize_to(c, pool, name, size, true);
}

int image_grow(struct caller *c, const char *pool, const char *name, uint64_t size)
{
    return image_resize_to(c, pool, name, size, false);
}

int image_remove(struct caller *c, const char *pool, const char *name)
{
    Fb__ImageRemove body = FB__IMAGE_REMOVE__INIT;
    body.pool = (char *)pool;
    body.name = (char *)name;
    REQUEST(image_remove, IMAGE_REMOVE);
    return call(c, &request);
}

int image_get(struct caller *c, const char *pool, const char *name)
{
    Fb__ImageGet body = FB__IMAGE_GET__INIT;
    body.pool = (char *)pool;
    body.name = (char *)name;
    REQUEST(image_get, IMAGE_GET);
    return call(c, &request);
}

int get_map(struct caller *c, uint64_t since)
{
    Fb__MapGet body = FB__MAP_GET__INIT;
    body.since_epoch = since;
    REQUEST(map_get, MAP_GET);
    return call(c, &request);
}

int subscribe(struct caller *c, uint64_t since)
{
    Fb__Subscribe body = FB__SUBSCRIBE__INIT;
    body.since_epoch = since;
    REQUEST(subscribe, SUBSCRIBE);
    int error = call(c, &request);
    if (c->answer && c->answer->map && !c->map_events)
        c->epoch = c->answer->map->epoch;
    return error;
}

int say_writing(struct caller *c, uint64_t image)
{
    Fb__Subscribe body = FB__SUBSCRIBE__INIT;
    body.writing = &image;
    body.n_writing = image != 0;
    REQUEST(subscribe, SUBSCRIBE);
    return call(c, &request);
}

int status(struct caller *c)
{
    Fb__Status body = FB__STATUS__INIT;
    REQUEST(status, STATUS);
    return call(c, &request);
}

int osd_change(struct caller *c, uint32_t osd, Fb__OsdAction action, uint32_t weight)
{
    Fb__OsdChange body = FB__OSD_CHANGE__INIT;
    body.osd = osd;
    body.action = action;
    body.weight = weight;
    REQUEST(osd_change, OSD_CHANGE);
    return call(c, &request);
}

int host_maintenance(struct caller *c, const char *host, bool on)
{
    Fb__HostMaintenance body = FB__HOST_MAINTENANCE__INIT;
    body.host = (char *)host;
    body.on = on;
    REQUEST(host_maintenance, HOST_MAINTENANCE);
    return call(c, &request);
}

int cluster_set(struct caller *c, Fb__ClusterFlag flag, bool on)
{
    Fb__ClusterSet body = FB__CLUSTER_SET__INIT;
    body.flag = flag;
    body.on = on;
    REQUEST(cluster_set, CLUSTER_SET);
    return call(c, &request);
}

int pool_set(struct caller *c, const char *name, uint32_t replicas, bool no_failover)
{
    Fb__PoolSet body = FB__POOL_SET__INIT;
    body.name = (char *)name;
    body.replicas = replicas;
    body.no_failover = no_failover;
    REQUEST(pool_set, POOL_SET);
    return call(c, &request);
}

int pool_set_pgs(struct caller *c, const char *name, uint32_t pg_count)
{
    Fb__PoolSet body = FB__POOL_SET__INIT;
    body.name = (char *)name;
    body.pg_count = pg_count;
    REQUEST(pool_set, POOL_SET);
    return call(c, &request);
}

const Fb__Osd *map_osd(struct caller *c, uint32_t osd)
{
    static const Fb__Osd none = FB__OSD__INIT;

    CHECK_EQ(get_map(c, 0), 0);
    for (size_t i = 0; c->answer && c->answer->map && i < c->answer->map->n_osd; i++)
        if (c->answer->map->osd[i]->id == osd)
            return c->answer->map->osd[i];
    CHECK(!"the map has the OSD");
    return &none;
}

bool has_problem(struct caller *c, const char *part)
{
    CHECK_EQ(status(c), 0);
    for (size_t i = 0; c->answer && c->answer->status && i < c->answer->status->n_problem; i++)
        if (strstr(c->answer->status->problem[i], part))
            return true;
    return false;
}

int monitors(struct caller *c)
{
    Fb__MonList body = FB__MON_LIST__INIT;
    REQUEST(mon_list, MON_LIST);
    return call(c, &request);
}

/* ---- OSDs ---- */

void osds_up(struct world *w, struct caller *osds, uint32_t count)
{
    char host[16], address[32];

    for (uint32_t i = 0; i < count; i++) {
        osd_start(&osds[i], w, i, 1);
        snprintf(host, sizeof(host), "h%u", i);
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_new(&osds[i], (uint8_t)(i + 1), host, "", 1), 0);
        CHECK(osds[i].answer && osds[i].answer->osd == i);
        CHECK_EQ(osd_boot(&osds[i], (uint8_t)(i + 1), 0, 1, address), 0);
    }
}

/* What this OSD would say about a map: born or removed for its own replicas, image orders where it is the
 * first member. */
static uint32_t confirms_of(uint32_t osd, const Fb__ClusterMap *map, Fb__PgConfirm *confirms, uint32_t max)
{
    uint32_t count = 0;

    for (size_t p = 0; p < map->n_pg; p++) {
        const Fb__Pg *pg = map->pg[p];
        bool removed = false;
        for (size_t i = 0; i < map->n_pool; i++)
            removed |= map->pool[i]->id == pg->id >> 32 && map->pool[i]->removed;
        for (size_t m = 0; m < pg->n_member; m++) {
            if (pg->member[m]->osd != osd || count + 1 + map->n_order > max)
                continue;
            fb__pg_confirm__init(&confirms[count]);
            confirms[count].pg = pg->id;
            confirms[count].osd = osd;
            confirms[count].born = !removed;
            confirms[count++].pg_removed = removed;
            for (size_t o = 0; o < map->n_order && m == 0; o++) {
                if (map->order[o]->removed || map->order[o]->pool != pg->id >> 32)
                    continue;
                fb__pg_confirm__init(&confirms[count]);
                confirms[count].pg = pg->id;
                confirms[count].image = map->order[o]->image;
                confirms[count].generation = map->order[o]->generation;
                confirms[count++].deleted = map->order[o]->deleted;
            }
        }
    }
    return count;
}

void osds_confirm(struct caller *osds, uint32_t count)
{
    enum { MAX = 8192 };
    Fb__PgConfirm *confirms = sim_alloc(MAX * sizeof(*confirms)),
                  **pointers = sim_alloc(MAX * sizeof(Fb__PgConfirm *));

    for (uint32_t i = 0; i < count; i++) {
        if (get_map(&osds[i], 0) || !osds[i].answer || !osds[i].answer->map)
            continue;
        Fb__ShardReport report = FB__SHARD_REPORT__INIT;
        uint32_t n = confirms_of(osds[i].self.osd, osds[i].answer->map, confirms, MAX);
        for (uint32_t k = 0; k < n; k++)
            pointers[k] = &confirms[k];
        report.confirm = pointers;
        report.n_confirm = n;
        osd_report(&osds[i], 0, &report);
    }
    free(confirms);
    free(pointers);
}
