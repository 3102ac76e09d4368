/* SPDX-License-Identifier: Apache-2.0
 *
 * The machines of the osd tests.
 */
#include "tests/osd/world.h"

#include <stdlib.h>
#include <string.h>

#include "sim/heap.h"
#include "tests/osd/fake_store.h"

#define ARENA_BYTES (64u << 20)

/* ---- the map ---- */

struct hand_map {
    Fb__ClusterMap map;
    Fb__Osd osds[OSDS], *osd_pointers[OSDS];
    Fb__OsdShard shards[OSDS], *shard_pointers[OSDS];
    Fb__Pool pool, *pool_pointer;
    Fb__Pg pgs[PGS_MAX], *pg_pointers[PGS_MAX];
    Fb__ImageOrder *order_pointer;
};

static Fb__PgMember **members_array(struct world_members *members)
{
    for (uint32_t i = 0; i < members->count; i++)
        members->pointers[i] = &members->row[i];
    return members->pointers;
}

static void hand_map_fill(struct world *w, struct hand_map *m)
{
    m->map = (Fb__ClusterMap)FB__CLUSTER_MAP__INIT;
    m->map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    m->map.epoch = w->epoch;
    m->map.paused = w->paused;
    for (uint32_t i = 0; i < OSDS; i++) {
        struct world_osd *osd = &w->osds[i];
        m->shards[i] = (Fb__OsdShard)FB__OSD_SHARD__INIT;
        m->shards[i].address = osd->listen;
        m->shard_pointers[i] = &m->shards[i];
        m->osds[i] = (Fb__Osd)FB__OSD__INIT;
        m->osds[i].id = i;
        m->osds[i].epoch = w->epoch;
        m->osds[i].uuid = (ProtobufCBinaryData){16, osd->label.osd_uuid};
        m->osds[i].up = true;
        m->osds[i].removed = osd->removed;
        m->osds[i].shard = &m->shard_pointers[i];
        m->osds[i].n_shard = 1;
        m->osd_pointers[i] = &m->osds[i];
    }
    m->pool = (Fb__Pool)FB__POOL__INIT;
    m->pool.id = POOL;
    m->pool.epoch = w->epoch;
    m->pool.pg_count = w->pool_gone ? 0 : w->pg_count;
    m->pool.pg_target = w->pg_target;
    m->pool.replicas = MEMBERS;
    m->pool.removed = w->pool_removed;
    m->pool_pointer = &m->pool;
    for (uint32_t p = 0; p < w->pg_count; p++) {
        struct world_pg *pg = &w->pgs[p];
        m->pgs[p] = (Fb__Pg)FB__PG__INIT;
        m->pgs[p].id = placement_pg_id(POOL, p);
        m->pgs[p].epoch = w->epoch;
        m->pgs[p].birth = 1;
        m->pgs[p].born = w->born;
        m->pgs[p].split = pg->split;
        m->pgs[p].member = members_array(&pg->member);
        m->pgs[p].n_member = w->pool_gone ? 0 : pg->member.count;
        m->pgs[p].group_index = pg->group_index;
        m->pgs[p].wanted = members_array(&pg->wanted);
        m->pgs[p].n_wanted = pg->wanted.count;
        m->pgs[p].wanted_epoch = pg->wanted_epoch;
        m->pgs[p].leaving = members_array(&pg->leaving);
        m->pgs[p].n_leaving = pg->leaving.count;
        m->pgs[p].dropped = members_array(&pg->dropped);
        m->pgs[p].n_dropped = pg->dropped.count;
        m->pgs[p].removed = w->pool_gone;
        m->pgs[p].force = pg->force.survivor ? &pg->force : NULL;
        m->pg_pointers[p] = &m->pgs[p];
    }
    m->map.osd = m->osd_pointers;
    m->map.n_osd = OSDS;
    m->map.pool = &m->pool_pointer;
    m->map.n_pool = 1;
    m->map.pg = m->pg_pointers;
    m->map.n_pg = w->pg_count;
    m->order_pointer = &w->order;
    w->order.epoch = w->epoch;
    m->map.order = &m->order_pointer;
    m->map.n_order = w->has_order;
}

/* In the node's context. */
static void osd_feed(struct world *w, struct world_osd *osd)
{
    struct hand_map map;

    hand_map_fill(w, &map);
    int error = shard_feed_map(osd->shard, &map.map);
    if (error)
        sim_fail(w->sim, "osd.%u does not take the map: %s", osd->number, error_name(error));
}

void world_feed_map(struct world *w)
{
    w->epoch++;
    for (uint32_t i = 0; i < OSDS; i++)
        if (w->osds[i].shard && sim_node_running(w->osds[i].node) && !w->osds[i].unfed) {
            sim_node_enter(w->osds[i].node);
            osd_feed(w, &w->osds[i]);
            sim_node_leave(w->osds[i].node);
        }
}

void world_feed_part(struct world *w, uint32_t number)
{
    struct world_osd *osd = &w->osds[number];
    struct hand_map map;

    w->epoch++;
    hand_map_fill(w, &map);
    map.map.n_pool = 0;
    map.map.newest_epoch = w->epoch + 1;
    sim_node_enter(osd->node);
    CHECK_EQ(shard_feed_map(osd->shard, &map.map), 0);
    sim_node_leave(osd->node);
}

void world_order(struct world *w, uint64_t image, uint64_t size_bytes, bool deleted)
{
    w->has_order = true;
    w->order.image = image;
    w->order.pool = POOL;
    w->order.generation = 2;
    w->order.size_bytes = size_bytes;
    w->order.deleted = deleted;
    world_feed_map(w);
}

void world_feed_large(struct world *w, uint32_t number, size_t len)
{
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__OsdShard shard = FB__OSD_SHARD__INIT, *shards[] = {&shard};
    Fb__Osd osd = FB__OSD__INIT, *osds[] = {&osd};
    char *address = malloc(len + 1);

    memset(address, 'x', len);
    address[len] = 0;
    shard.address = address;
    osd.id = 99;
    osd.shard = shards;
    osd.n_shard = 1;
    map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    map.base_epoch = w->epoch;
    map.epoch = osd.epoch = ++w->epoch;
    map.osd = osds;
    map.n_osd = 1;
    sim_node_enter(w->osds[number].node);
    CHECK_EQ(shard_feed_map(w->osds[number].shard, &map), 0);
    sim_node_leave(w->osds[number].node);
    free(address);
}

/* ---- OSDs ---- */

struct boot {
    struct op op;
    struct world_osd *osd;
    struct blk *blk;
    struct store_format format;
    struct osd_shard_start start;
    struct osd_shard_stop stop;
    bool stop_asked;
};
enum { BOOT_BEGIN, BOOT_FORMAT, BOOT_START, BOOT_SERVES, BOOT_STOP };

static void boot_serve(struct boot *b)
{
    struct world_osd *osd = b->osd;
    struct osd_shard_config config = {
        .core = b->op.core,
        .net = sim_net_port(osd->world->net, osd->node),
        .blk = b->blk,
        .label = &osd->label,
        .listen = osd->listen,
        .monitors = osd->world->monitors,
        .monitor_count = osd->world->monitor_count,
        .host = "host",
        .rack = "rack",
        .cache_bytes = osd->world->cache_bytes,
    };

    osd->label.start_counter++;
    osd_shard_start_start(&b->start, &config, &b->op);
    b->op.state = BOOT_START;
}

static void boot_step(struct op *op)
{
    struct boot *b = container_of(op, struct boot, op);
    struct world_osd *osd = b->osd;
    struct world *w = osd->world;

    if (op->children)
        return;
    switch (op->state) {
    case BOOT_BEGIN:
        b->blk = sim_disk_open(osd->disk, osd->node, 0, DISK_SIZE);
        if (osd->formatted) {
            boot_serve(b);
            return;
        }
        struct store_config config = {.core = op->core, .blk = b->blk, .pgs_max = STORE_PGS_MAX};
        memcpy(config.osd_uuid, osd->label.osd_uuid, 16);
        op->state = BOOT_FORMAT;
        store_format_start(&b->format, &config, w->ring_bytes, op);
        return;
    case BOOT_FORMAT:
        if (op->child_result)
            sim_fail(w->sim, "format: %s", error_name(op->child_result));
        osd->formatted = true;
        boot_serve(b);
        return;
    case BOOT_START:
        osd->error = b->start.op.result;
        osd->failed = osd->error;
        if (osd->error) {
            core_log(op->core, LOG_ERROR, "test", "start: %s", b->start.ret_message);
            b->blk->ops->close(b->blk);
            op_done(op, 0);
            free(b);
            return;
        }
        osd->shard = b->start.ret_shard;
        op->state = BOOT_SERVES;
        if (w->epoch && !osd->unfed)
            osd_feed(w, osd);
        return;
    case BOOT_SERVES:
        if (!osd->stopped)
            return;
        op->state = BOOT_STOP;
        osd_shard_stop_start(&b->stop, osd->shard, op);
        osd->shard = NULL;
        return;
    case BOOT_STOP:
        b->blk->ops->close(b->blk);
        op_done(op, 0);
        free(b);
        return;
    }
}
static const struct op_kind boot_kind = {"test.boot", NULL, boot_step};

static void osd_node_start(void *owner, struct sim_node *node)
{
    struct world_osd *osd = owner;
    struct boot *b = calloc(1, sizeof(*b));

    b->osd = osd;
    osd->node = node;
    osd->stopped = osd->failed = false;
    op_start(&b->op, &node->core, &boot_kind, NULL);
}

static void osd_node_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    ((struct world_osd *)owner)->shard = NULL;
}

void world_osd_start(struct world *w, uint32_t number)
{
    sim_node_start(w->osds[number].node);
}

void world_osd_kill(struct world *w, uint32_t number, enum sim_crash kind)
{
    sim_log(w->sim, "kill osd.%u", number);
    sim_node_crash(w->osds[number].node, kind);
}

static bool node_idle(struct sim_node *node)
{
    return list_empty(&node->core.live_ops);
}

void world_osd_stop(struct world *w, uint32_t number)
{
    struct world_osd *osd = &w->osds[number];

    osd->stopped = true;
    sim_node_enter(osd->node);
    list_for_each (&osd->node->core.live_ops, node) {
        struct op *op = list_entry(node, struct op, live);
        if (op->kind == &boot_kind)
            op_wake(op);
    }
    sim_node_leave(osd->node);
    WAIT_FOR(w, 5000, node_idle(osd->node));
    sim_node_halt(osd->node);
}

/* ---- views ---- */

struct store_pg *world_replica(const struct world *w, uint32_t osd, uint64_t pg)
{
    struct osd_shard *shard = w->osds[osd].shard;

    return shard ? store_pg_find(osd_shard_store(shard), pg) : NULL;
}

uint32_t world_leader(struct world *w, uint64_t pg)
{
    uint32_t leader = UINT32_MAX;
    uint64_t term = 0;

    for (uint32_t i = 0; i < OSDS; i++) {
        struct osd_pg_view view;
        if (w->osds[i].shard && osd_pg_view(w->osds[i].shard, pg, &view) && view.role == RAFT_LEADER &&
            view.term > term) {
            leader = i;
            term = view.term;
        }
    }
    return leader;
}

const Fb__PgMember *world_member_find(const struct world_members *members, uint32_t replica)
{
    for (uint32_t i = 0; i < members->count; i++)
        if (members->row[i].replica == replica)
            return &members->row[i];
    return NULL;
}

static bool is_member_of(const struct world *w, uint32_t p, uint32_t osd)
{
    for (uint32_t i = 0; i < w->pgs[p].member.count; i++)
        if (w->pgs[p].member.row[i].osd == osd)
            return true;
    return false;
}

bool world_settled(struct world *w)
{
    for (uint32_t p = 0; p < w->pg_count; p++) {
        uint64_t pg = placement_pg_id(POOL, p);
        struct osd_pg_view first = {0}, view;

        if (world_leader(w, pg) == UINT32_MAX)
            return false;
        for (uint32_t i = 0; i < OSDS; i++) {
            if (!sim_node_running(w->osds[i].node) || !is_member_of(w, p, i))
                continue;
            if (!w->osds[i].shard || !osd_pg_view(w->osds[i].shard, pg, &view))
                return false;
            if (!first.pg)
                first = view;
            if (view.recovering || view.damaged || !view.leader || view.term != first.term ||
                view.applied_index != first.applied_index || view.last_index != view.applied_index)
                return false;
        }
    }
    return true;
}

uint64_t world_pg(const struct world *w, uint64_t object)
{
    return placement_pg_id(POOL, placement_pg_number(IMAGE, object, w->pg_count));
}

uint64_t world_object_in(const struct world *w, uint64_t pg)
{
    uint64_t object = 0;

    while (world_pg(w, object) != pg)
        object++;
    return object;
}

/* ---- life ---- */

static void client_node_start(void *owner, struct sim_node *node)
{
    struct world *w = owner;

    for (uint32_t i = 0; i < OSDS; i++) {
        struct rpc_peer_config config = {
            .core = &node->core,
            .net = sim_net_port(w->net, node),
            .address = w->osds[i].listen,
            .self = &w->self,
            .calls_max = 1024,
        };
        w->peers[i] = rpc_peer_new(&config);
    }
}

static bool all_serve(struct world *w)
{
    for (uint32_t i = 0; i < OSDS; i++)
        if (!w->osds[i].shard)
            return false;
    return true;
}

struct world *world_new(uint64_t seed, uint32_t pg_count)
{
    struct world *w = sim_alloc(sizeof(*w));

    fake_store_forget_all();
    w->sim = sim_new(seed, getenv("OSD_TEST_VERBOSE") != NULL);
    w->net = sim_net_new(w->sim, &(struct sim_net_config){0});
    w->pg_count = pg_count;
    w->ring_bytes = 64u << 20;
    w->cache_bytes = 8u << 20;
    w->order = (Fb__ImageOrder)FB__IMAGE_ORDER__INIT;
    for (uint32_t p = 0; p < pg_count; p++) {
        struct world_pg *pg = &w->pgs[p];
        for (uint32_t i = 0; i < MEMBERS; i++) {
            Fb__PgMember *m = &pg->member.row[pg->member.count++];
            *m = (Fb__PgMember)FB__PG_MEMBER__INIT;
            m->replica = i + 1;
            m->osd = i;
        }
        pg->replica_next = MEMBERS + 1;
    }
    for (uint32_t i = 0; i < OSDS; i++) {
        struct world_osd *osd = &w->osds[i];
        char name[16], host[16];

        osd->world = w;
        osd->number = i;
        memset(osd->label.cluster, 0x11, 16);
        memset(osd->label.osd_uuid, 0x20 + (int)i, 16);
        osd->label.osd = i;
        osd->label.slice_count = 1;
        osd->label.slice_size = DISK_SIZE;
        snprintf(osd->listen, sizeof(osd->listen), "10.0.0.%u:7000", i + 1);
        snprintf(host, sizeof(host), "10.0.0.%u", i + 1);
        snprintf(name, sizeof(name), "osd.%u", i);
        osd->disk = sim_disk_new(
            w->sim, &(struct sim_disk_config){.name = name, .size_bytes = DISK_SIZE, .junk = true});
        osd->node = sim_node_new(w->sim, &(struct sim_node_config){.name = name,
                                                                   .host = host,
                                                                   .arena_bytes = ARENA_BYTES,
                                                                   .start = osd_node_start,
                                                                   .crashed = osd_node_crashed,
                                                                   .owner = osd});
        sim_node_start(osd->node);
    }
    w->self =
        (struct rpc_identity){.role = RPC_CLIENT, .client_uuid = {1, 2, 3}, .session = 1, .name = "test"};
    WAIT_FOR(w, 5000, all_serve(w));
    world_feed_map(w);
    w->client = sim_node_new(w->sim, &(struct sim_node_config){.name = "client",
                                                               .host = "10.0.1.1",
                                                               .arena_bytes = ARENA_BYTES,
                                                               .start = client_node_start,
                                                               .owner = w});
    sim_node_start(w->client);
    /* Of many PGs it is not to be asked after each step. */
    while (w->sim->now_ns < 20 * NS_PER_S && !world_settled(w))
        sim_run_for(w->sim, NS_PER_MS);
    CHECK(world_settled(w));
    w->born = true;
    world_feed_map(w);
    return w;
}

struct world *world_filled(uint64_t seed, uint32_t objects)
{
    struct world *w = world_new(seed, 1);
    uint8_t data[BLOCK_SIZE];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = 0; object < objects; object++) {
        memset(data, (int)object + 1, BLOCK_SIZE);
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
    }
    WAIT_FOR(w, 5000, world_settled(w));
    return w;
}

void world_free(struct world *w)
{
    w->ended = true;
    sim_node_enter(w->client);
    for (uint32_t i = 0; i < OSDS; i++)
        rpc_peer_free(w->peers[i]);
    sim_node_leave(w->client);
    WAIT_FOR(w, 1000, node_idle(w->client));
    sim_node_halt(w->client);
    for (uint32_t i = 0; i < OSDS; i++)
        if (sim_node_running(w->osds[i].node))
            world_osd_stop(w, i);
    CHECK(!w->sim->failed);
    if (w->sim->failed)
        printf("# %s\n", w->sim->failure);
    sim_net_free(w->net);
    for (uint32_t i = 0; i < OSDS; i++)
        sim_disk_free(w->osds[i].disk);
    sim_free(w->sim);
    free(w);
}

int world_transfer(struct world *w, uint64_t pg, uint32_t osd)
{
    Fb__PgTransferRequest request = FB__PG_TRANSFER_REQUEST__INIT;
    uint32_t from = world_leader(w, pg);

    request.pg = pg;
    request.to_osd = osd;
    sim_node_enter(w->osds[from].node);
    int error = pg_transfer(w->osds[from].shard, &request);
    sim_node_leave(w->osds[from].node);
    return error;
}

void world_lead(struct world *w, uint64_t pg, uint32_t osd)
{
    if (world_leader(w, pg) == osd)
        return;
    sim_run_for(w->sim, 500 * NS_PER_MS);
    CHECK_EQ(world_transfer(w, pg, osd), 0);
    WAIT_FOR(w, 2000, world_leader(w, pg) == osd && pg_serves(pg_find(w->osds[osd].shard, pg)));
}

void world_restart(struct world *w, uint64_t cache_bytes)
{
    w->cache_bytes = cache_bytes;
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_start(w, i);
    WAIT_FOR(w, 10000, world_settled(w));
}
