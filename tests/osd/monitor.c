/* SPDX-License-Identifier: Apache-2.0
 *
 * The shard's session with monitors: one of our cluster and one of another, which know just enough of the
 * protocol.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

enum { FOREIGN, OURS, MONITORS };
#define ORDERS 20

struct fake_mon {
    struct world *world;
    struct sim_node *node;
    struct rpc_identity self;
    struct rpc_server *server;
    const char *address;
    uint64_t epoch;     /* its map's; it is never announced. 0: it has none */
    uint64_t promised;  /* the epoch that it says to have when it is subscribed to */
    int refuses;        /* what it answers to boots, */
    const char *leader; /* and whom it names as the one that leads */
    uint32_t boots, reports, subscribes;
    uint32_t confirmed[PGS_MAX]; /* how often, by number of the PG */
    uint32_t confirms_most;      /* in one report */
    uint32_t ordered[ORDERS];    /* how often orders were said to be done, by number of the image */
    uint32_t lost;               /* replicas that were said to be lost */
    uint32_t dropped;            /* to have left for good */
    uint32_t unchanged;          /* reports that said only that they are as the last one */
    uint64_t told, since;        /* epochs of the last boot, and of the last subscription */
    uint32_t stands[PGS_MAX];    /* how often, by number, a PG was said to have no leader */
    uint32_t standings_most;     /* in one report, */
    uint32_t longest;            /* and its bytes */
    uint32_t groups;             /* how often a group was told of, */
    uint32_t left;               /* by a replica that is not in it */
    uint32_t lacks_room;         /* replicas that find none, in the last report, */
    uint64_t lacks_room_pg;      /* and a PG */
    uint32_t recovering;         /* members that recover, of all PGs of the last report that named some, */
    uint32_t damaged;            /* PGs with one whose log is damaged, */
    uint32_t damaged_osd;        /* and where */
};

static struct fake_mon mons[MONITORS];

static void take_report(struct fake_mon *mon, const Fb__ShardReport *report)
{
    mon->reports++;
    mon->unchanged += report->unchanged;
    mon->lacks_room = report->lacks_room;
    mon->lacks_room_pg = report->lacks_room_pg;
    mon->confirms_most = MAX(mon->confirms_most, (uint32_t)report->n_confirm);
    mon->standings_most = MAX(mon->standings_most, (uint32_t)report->n_standing);
    if (!report->unchanged)
        mon->recovering = mon->damaged = 0;
    for (size_t i = 0; i < report->n_pg; i++) {
        const Fb__PgReport *pg = report->pg[i];
        bool named = false;
        mon->recovering += pg->recovering;
        mon->damaged += pg->state == FB__PG_STATE__PG_DAMAGED;
        mon->damaged_osd = pg->state == FB__PG_STATE__PG_DAMAGED ? pg->damaged_osd : mon->damaged_osd;
        for (size_t m = 0; m < pg->n_group; m++)
            named |= pg->group[m]->replica == pg->replica;
        mon->groups += pg->n_group > 0;
        mon->left += pg->n_group && !named;
    }
    for (size_t i = 0; i < report->n_standing; i++)
        mon->stands[(uint32_t)report->standing[i]->pg % PGS_MAX]++;
    for (size_t i = 0; i < report->n_confirm; i++)
        if (report->confirm[i]->born)
            mon->confirmed[(uint32_t)report->confirm[i]->pg % PGS_MAX]++;
        else if (report->confirm[i]->lost)
            mon->lost++;
        else if (report->confirm[i]->dropped)
            mon->dropped++;
        else if (report->confirm[i]->image)
            mon->ordered[report->confirm[i]->image % ORDERS]++;
}

static void mon_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    RPC_FRAME_SCRATCH(scratch, 256);
    struct fake_mon *mon = owner;
    struct wire_arena arena;
    Fb__MonRequest *request;
    Fb__MonReply reply = FB__MON_REPLY__INIT;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    uint32_t len = 0;

    if (!(message->flags & FRAME_REQUEST))
        return;
    struct rpc_ticket ticket = rpc_ticket(session, message);
    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    CHECK_EQ(
        wire_cold_decode(&fb__mon_request__descriptor, message->body, message->body_len, &arena, &request),
        0);
    if (request->call_case == FB__MON_REQUEST__CALL_OSD_BOOT) {
        mon->boots++;
        mon->told = request->osd_boot->epoch;
    }
    if (request->call_case == FB__MON_REQUEST__CALL_SHARD_REPORT) {
        take_report(mon, request->shard_report);
        mon->longest = MAX(mon->longest, message->body_len);
        reply.epoch = mon->epoch;
    }
    if (request->call_case == FB__MON_REQUEST__CALL_SUBSCRIBE) {
        mon->subscribes++;
        mon->since = request->subscribe->since_epoch;
        map.cluster = (ProtobufCBinaryData){16, mon->self.cluster};
        map.base_epoch = request->subscribe->since_epoch;
        map.epoch = mon->epoch;
        reply.map = mon->epoch ? &map : NULL;
        reply.epoch = mon->promised;
    }
    reply.leader = (char *)(mon->leader ? mon->leader : "");
    bool boot = request->call_case == FB__MON_REQUEST__CALL_OSD_BOOT;
    wire_arena_fini(&arena);
    CHECK_EQ(wire_cold_encode(&reply.base, rpc_body(scratch), 256, &len), 0);
    rpc_reply(&ticket, boot ? mon->refuses : 0, rpc_body(scratch), len, NULL, 0);
}

static void mon_node_start(void *owner, struct sim_node *node)
{
    struct fake_mon *mon = owner;
    struct rpc_server_config config = {
        .core = &node->core,
        .net = sim_net_port(mon->world->net, node),
        .address = mon->address,
        .self = &mon->self,
        .sessions_max = 8,
        .requests_max = 8,
        .message = mon_message,
        .owner = mon,
    };

    CHECK_EQ(rpc_server_new(&config, &mon->server), 0);
}

static void mon_make(struct world *w, uint32_t which)
{
    static const char *const hosts[] = {"10.0.2.1", "10.0.2.2"};
    static const char *const addresses[] = {"10.0.2.1:6000", "10.0.2.2:6000"};
    struct fake_mon *mon = &mons[which];

    *mon =
        (struct fake_mon){.world = w, .address = addresses[which], .self = {.role = RPC_MON, .name = "mon"}};
    memset(mon->self.cluster, which == OURS ? 0x11 : 0x99, 16);
    mon->node = sim_node_new(w->sim, &(struct sim_node_config){.name = which == OURS ? "ours" : "foreign",
                                                               .host = hosts[which],
                                                               .arena_bytes = 16u << 20,
                                                               .start = mon_node_start,
                                                               .owner = mon});
    w->monitors[which] = addresses[which];
}

static void mon_stop(struct world *w, uint32_t which)
{
    struct fake_mon *mon = &mons[which];

    sim_node_enter(mon->node);
    rpc_server_free(mon->server);
    sim_node_leave(mon->node);
    WAIT_FOR(w, 1000, list_empty(&mon->node->core.live_ops));
    sim_node_halt(mon->node);
}

static void osd_restart(struct world *w, uint32_t number)
{
    world_osd_stop(w, number);
    world_osd_start(w, number);
    WAIT_FOR(w, 10000, w->osds[number].shard || w->osds[number].failed);
}

/* A serving shard loses its monitor, and at its address there is one of another cluster. */
static void test_foreign_monitor(void)
{
    struct world *w = world_new(1, 2);

    mon_make(w, FOREIGN);
    mon_make(w, OURS);
    w->monitor_count = 2;
    osd_restart(w, 0); /* nobody answers: with the map that it has */
    sim_node_start(mons[FOREIGN].node);
    sim_run_for(w->sim, 10 * NS_PER_S);
    CHECK(w->osds[0].shard && !osd_shard_failed(w->osds[0].shard));
    CHECK_EQ(mons[FOREIGN].boots, 0);
    sim_node_start(mons[OURS].node);
    WAIT_FOR(w, 10000, mons[OURS].reports > 2);
    CHECK(!osd_shard_failed(w->osds[0].shard));
    CHECK_EQ(world_attach(w, 1, 1), 0);
    mon_stop(w, FOREIGN);
    mon_stop(w, OURS);
    world_free(w);
}

/* At its start a shard is told at once. */
static void test_foreign_at_start(void)
{
    struct world *w = world_new(2, 1);

    mon_make(w, FOREIGN);
    w->monitor_count = 1;
    sim_node_start(mons[FOREIGN].node);
    osd_restart(w, 0);
    CHECK(!w->osds[0].shard);
    CHECK_EQ(w->osds[0].error, -ERR_CLUSTER);
    sim_node_halt(w->osds[0].node);
    mon_stop(w, FOREIGN);
    world_free(w);
}

/* Our monitor is the only one, and the map says that all replicas are born. */
static void ours_alone(struct world *w)
{
    mon_make(w, FOREIGN);
    mon_make(w, OURS);
    w->monitors[0] = w->monitors[OURS];
    w->monitor_count = 1;
    sim_node_start(mons[OURS].node);
    w->born = true;
    world_feed_map(w);
}

/* A monitor that has old data, for as long as its operator takes: that is tried all the time, and said once.
 */
static void test_refused_for_long(void)
{
    struct world *w = world_new(4, 1);

    ours_alone(w);
    mons[OURS].refuses = -ERR_BEHIND;
    osd_restart(w, 0);
    WAIT_FOR(w, 10000, mons[OURS].boots > 2);
    w->sim->log_lines = 0;
    sim_run_for(w->sim, 20 * NS_PER_S);
    CHECK(mons[OURS].boots > 20);
    CHECK(w->sim->log_lines < 10);
    mons[OURS].refuses = 0;
    WAIT_FOR(w, 10000, mons[OURS].reports > 2);
    mon_stop(w, OURS);
    world_free(w);
}

/* After a long time without monitors one says who leads: there the shard goes at once. */
static void test_told_who_leads(void)
{
    struct world *w = world_new(4, 1);
    struct fake_mon *leader = &mons[FOREIGN];

    mon_make(w, FOREIGN);
    mon_make(w, OURS);
    memset(leader->self.cluster, 0x11, 16);
    w->monitor_count = 2;
    osd_restart(w, 0);
    sim_run_for(w->sim, 10 * NS_PER_S);
    mons[OURS].refuses = -ERR_OTHER_MONITOR;
    mons[OURS].leader = leader->address;
    sim_node_start(mons[OURS].node);
    WAIT_FOR(w, 10000, mons[OURS].boots > 0);
    sim_node_start(leader->node);
    WAIT_FOR(w, 300, leader->boots > 0);
    mon_stop(w, FOREIGN);
    mon_stop(w, OURS);
    world_free(w);
}

/* What does not fit into a report comes with the next one, although the first ones are still to be said. */
static void test_confirms_in_turn(void)
{
    struct world *w = world_new(3, PGS_MAX);

    mon_make(w, FOREIGN);
    mon_make(w, OURS);
    w->monitors[0] = w->monitors[OURS];
    w->monitor_count = 1;
    sim_node_start(mons[OURS].node);
    w->born = false;
    osd_restart(w, 0);
    w->osds[0].shard->mon.confirms_max = 3;
    world_feed_map(w);
    sim_run_for(w->sim, 2 * NS_PER_S);
    mons[OURS].confirms_most = 0;
    memset(mons[OURS].confirmed, 0, sizeof(mons[OURS].confirmed));
    uint32_t reports = mons[OURS].reports;
    WAIT_FOR(w, 20000, mons[OURS].reports >= reports + 7);
    for (uint32_t i = 0; i < PGS_MAX; i++)
        CHECK(mons[OURS].confirmed[i] >= 2);
    CHECK_EQ(mons[OURS].confirms_most, 3);
    mon_stop(w, OURS);
    world_free(w);
}

/* So many images are removed. */
static void remove_images(struct world *w)
{
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__ImageOrder rows[ORDERS], *orders[ORDERS];

    map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    map.base_epoch = w->epoch;
    map.epoch = ++w->epoch;
    map.order = orders;
    map.n_order = ORDERS;
    for (uint32_t i = 0; i < ORDERS; i++) {
        orders[i] = &rows[i];
        fb__image_order__init(&rows[i]);
        rows[i].image = ORDERS + i;
        rows[i].pool = POOL;
        rows[i].generation = 2;
        rows[i].deleted = true;
        rows[i].epoch = map.epoch;
    }
    for (uint32_t i = 0; i < OSDS; i++) {
        sim_node_enter(w->osds[i].node);
        CHECK_EQ(shard_feed_map(w->osds[i].shard, &map), 0);
        sim_node_leave(w->osds[i].node);
    }
}

/* One report does not look at all orders for all PGs; and all are told of in turn. */
static void test_orders_in_turn(void)
{
    struct world *w = world_new(13, PGS_MAX);

    ours_alone(w);
    osd_restart(w, 0);
    for (uint32_t p = 0; p < PGS_MAX; p++)
        world_lead(w, placement_pg_id(POOL, p), p ? 1 : 0);
    w->osds[0].shard->mon.confirms_max = 4;
    remove_images(w);
    sim_run_for(w->sim, 2 * NS_PER_S);
    mons[OURS].confirms_most = 0;
    memset(mons[OURS].ordered, 0, sizeof(mons[OURS].ordered));
    uint32_t reports = mons[OURS].reports;
    WAIT_FOR(w, 40000, mons[OURS].reports >= reports + 15);
    for (uint32_t i = 0; i < ORDERS; i++)
        CHECK(mons[OURS].ordered[i] >= 2);
    CHECK_EQ(mons[OURS].confirms_most, 3);
    mon_stop(w, OURS);
    world_free(w);
}

/* However much there is to say of images that are removed, births are told of in every report. */
static void test_births_beside_orders(void)
{
    struct world *w = world_new(16, 2);

    ours_alone(w);
    osd_restart(w, 0);
    for (uint32_t p = 0; p < 2; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    w->osds[0].shard->mon.confirms_max = 4;
    remove_images(w);
    sim_run_for(w->sim, 2 * NS_PER_S);
    w->born = false;
    world_feed_map(w);
    sim_run_for(w->sim, 2 * NS_PER_S);
    memset(mons[OURS].confirmed, 0, sizeof(mons[OURS].confirmed));
    memset(mons[OURS].ordered, 0, sizeof(mons[OURS].ordered));
    uint32_t reports = mons[OURS].reports, ordered = 0;
    WAIT_FOR(w, 20000, mons[OURS].reports >= reports + 4);
    for (uint32_t p = 0; p < 2; p++)
        CHECK(mons[OURS].confirmed[p] >= 4);
    for (uint32_t i = 0; i < ORDERS; i++)
        ordered += mons[OURS].ordered[i];
    CHECK(ordered >= 4);
    CHECK(mons[OURS].confirms_most <= 4);
    mon_stop(w, OURS);
    world_free(w);
}

/* A replica that is born and not there is told of; one that is there is not. */
static void test_lost_replica(void)
{
    struct world *w = world_new(5, 2);

    ours_alone(w);
    sim_run_for(w->sim, NS_PER_S);
    osd_restart(w, 0);
    world_feed_map(w);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(mons[OURS].lost, 0);
    world_osd_kill(w, 0, SIM_CRASH_POWER);
    fake_store_lose_pg(w->osds[0].label.osd_uuid, world_pg(w, 0));
    world_osd_start(w, 0);
    uint32_t reports = mons[OURS].reports;
    WAIT_FOR(w, 20000, mons[OURS].reports >= reports + 3);
    CHECK(mons[OURS].lost >= 2);
    mon_stop(w, OURS);
    world_free(w);
}

/* A replica is to be copied, and there is no room: that is told until there is. It is tried again and again,
 * and said once. */
static void test_no_room_to_recover(void)
{
    struct world *w = world_new(14, 1);
    static uint8_t data[BLOCK_SIZE];
    uint64_t pg = world_pg(w, 0);

    ours_alone(w);
    osd_restart(w, 0);
    world_lead(w, pg, 1);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w) && mons[OURS].reports > 2);
    CHECK_EQ(mons[OURS].lacks_room, 0);
    struct store *store = osd_shard_store(w->osds[0].shard);
    sim_node_enter(w->osds[0].node);
    fake_store_set_room(store, false);
    fake_store_drop_object(store, pg, IMAGE, 0);
    world_replica(w, 0, pg)->damaged = true;
    sim_node_leave(w->osds[0].node);
    CHECK_EQ(world_write(w, 0, BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 10000, mons[OURS].lacks_room == 1 && mons[OURS].lacks_room_pg == pg);
    w->sim->log_lines = 0;
    sim_run_for(w->sim, 60 * NS_PER_S);
    CHECK_EQ(mons[OURS].lacks_room, 1);
    CHECK(w->sim->log_lines < 10);
    sim_node_enter(w->osds[0].node);
    fake_store_set_room(store, true);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 20000, world_settled(w) && !mons[OURS].lacks_room);
    mon_stop(w, OURS);
    world_free(w);
}

/* A member recovers, for as long as it has no room: because its log is damaged, and that is told until it is
 * whole, or it only fell behind. Nothing is copied to one that has died. */
static void recovers(bool damaged, bool dies)
{
    struct world *w = world_new(17, 1);
    static uint8_t data[BLOCK_SIZE];
    uint64_t pg = world_pg(w, 0);

    ours_alone(w);
    osd_restart(w, 0);
    world_lead(w, pg, 0);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w) && mons[OURS].reports > 2);
    CHECK_EQ(mons[OURS].recovering + mons[OURS].damaged, 0);
    sim_node_enter(w->osds[1].node);
    fake_store_set_room(osd_shard_store(w->osds[1].shard), false);
    fake_store_drop_object(osd_shard_store(w->osds[1].shard), pg, IMAGE, 0);
    CHECK_EQ(w->osds[1].shard->perf.damaged_logs, 0);
    if (damaged)
        world_replica(w, 1, pg)->damaged = true;
    else
        world_replica(w, 1, pg)->record.state = STORE_PG_RECOVERING;
    sim_node_leave(w->osds[1].node);
    CHECK_EQ(world_write(w, 0, BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 10000, mons[OURS].recovering == 1);
    for (uint32_t i = 0; i < 10; i++) {
        sim_run_for(w->sim, NS_PER_S);
        CHECK_EQ(mons[OURS].recovering, 1);
        CHECK_EQ(mons[OURS].damaged, damaged);
        CHECK(!damaged || mons[OURS].damaged_osd == w->osds[1].label.osd);
    }
    CHECK_EQ(w->osds[1].shard->perf.damaged_logs, damaged);
    if (dies) {
        world_osd_kill(w, 1, SIM_CRASH_PROCESS);
        sim_run_for(w->sim, 5 * NS_PER_S);
        CHECK_EQ(mons[OURS].recovering + mons[OURS].damaged, 0);
        world_osd_start(w, 1);
    } else {
        sim_node_enter(w->osds[1].node);
        fake_store_set_room(osd_shard_store(w->osds[1].shard), true);
        sim_node_leave(w->osds[1].node);
    }
    WAIT_FOR(w, 20000, world_settled(w));
    sim_run_for(w->sim, 2 * NS_PER_S);
    CHECK_EQ(mons[OURS].recovering + mons[OURS].damaged, 0);
    mon_stop(w, OURS);
    world_free(w);
}

static void test_damaged_log_is_told(void)
{
    recovers(true, false);
    recovers(false, false);
    recovers(true, true);
    recovers(false, true);
}

/* One that is yet to be born, because the map that orders it cannot be saved now, is not lost. */
static void test_unborn_is_not_lost(void)
{
    struct world *w = world_new(10, 2);
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__PgMember member = FB__PG_MEMBER__INIT, *pointer = &member;
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;

    ours_alone(w);
    osd_restart(w, 0);
    WAIT_FOR(w, 20000, mons[OURS].reports > 2);
    struct osd_shard *shard = w->osds[0].shard;
    member.replica = 1;
    member.osd = shard->label.osd;
    pg.id = world_pg(w, 0) + 1000;
    pg.member = &pointer;
    pg.n_member = 1;
    map.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    map.pg = &pgs;
    map.n_pg = 1;
    map.base_epoch = shard->map.epoch;
    map.epoch = pg.epoch = pg.birth = shard->map.epoch + 1;
    sim_node_enter(w->osds[0].node);
    fake_store_refuse_blobs(osd_shard_store(shard), true);
    CHECK_EQ(shard_map_take(shard, &map), 0);
    shard_mon_report(shard);
    sim_node_leave(w->osds[0].node);
    uint32_t reports = mons[OURS].reports;
    WAIT_FOR(w, 20000, mons[OURS].reports >= reports + 3);
    CHECK(!store_pg_find(osd_shard_store(shard), pg.id));
    CHECK_EQ(mons[OURS].lost, 0);
    sim_node_enter(w->osds[0].node);
    fake_store_refuse_blobs(osd_shard_store(shard), false);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 5000, store_pg_find(osd_shard_store(shard), pg.id));
    mon_stop(w, OURS);
    world_free(w);
}

/* The same of one that is only wanted, or leaving: who has to do with the PG is told what is left of it. */
static void test_lost_before_it_is_a_member(void)
{
    for (uint32_t leaving = 0; leaving < 2; leaving++) {
        struct world *w = world_new(6 + leaving, 1);
        struct world_members *list = leaving ? &w->pgs[0].leaving : &w->pgs[0].wanted;

        ours_alone(w);
        sim_run_for(w->sim, NS_PER_S); /* the map is saved */
        world_osd_kill(w, 2, SIM_CRASH_POWER);
        fake_store_lose_pg(w->osds[2].label.osd_uuid, world_pg(w, 0));
        *list = w->pgs[0].member;
        w->pgs[0].member.count = 2;
        list->row[2].birth = 1;
        list->row[2].born = true;
        w->pgs[0].wanted_epoch = w->epoch + 1;
        world_osd_start(w, 2);
        WAIT_FOR(w, 20000, w->osds[2].shard);
        world_feed_map(w);
        WAIT_FOR(w, 20000, mons[OURS].lost >= 2);
        list->count = 0;
        world_feed_map(w);
        mon_stop(w, OURS);
        world_free(w);
    }
}

/* What is split off is in no map before a monitor knows of it, and nobody would ask there. */
static void test_split_waits_for_a_monitor(void)
{
    struct world *w = world_filled(12, 8);
    uint64_t child = placement_pg_id(POOL, 1);

    mon_make(w, FOREIGN);
    mon_make(w, OURS);
    w->monitors[0] = w->monitors[OURS];
    w->monitor_count = 1;
    for (uint32_t i = 0; i < OSDS; i++)
        osd_restart(w, i);
    WAIT_FOR(w, 20000, world_settled(w));
    w->pg_target = 2;
    world_feed_map(w);
    sim_run_for(w->sim, 5 * NS_PER_S);
    for (uint32_t i = 0; i < OSDS; i++)
        CHECK(!world_replica(w, i, child));
    sim_node_start(mons[OURS].node);
    for (uint32_t i = 0; i < OSDS; i++)
        WAIT_FOR(w, 20000, world_replica(w, i, child));
    mon_stop(w, OURS);
    world_free(w);
}

/* Events are one-way frames and may be lost; the answers to reports tell. */
static void test_lost_event(void)
{
    struct world *w = world_new(4, 1);

    mon_make(w, FOREIGN);
    mon_make(w, OURS);
    w->monitors[0] = w->monitors[OURS];
    w->monitor_count = 1;
    sim_node_start(mons[OURS].node);
    osd_restart(w, 0);
    WAIT_FOR(w, 10000, mons[OURS].reports > 2);
    mons[OURS].epoch = w->osds[0].shard->map.epoch;
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(mons[OURS].subscribes, 1);
    mons[OURS].epoch += 3;
    WAIT_FOR(w, 1500, w->osds[0].shard->map.epoch == mons[OURS].epoch);
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(mons[OURS].subscribes, 2);
    /* What comes behind one that was lost is not taken without it. */
    struct osd_shard *shard = w->osds[0].shard;
    Fb__ClusterMap gap = FB__CLUSTER_MAP__INIT;
    gap.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    gap.base_epoch = shard->map.epoch + 1;
    gap.epoch = shard->map.epoch + 2;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_map_take(shard, &gap), -ERR_CONFLICT);
    sim_node_leave(w->osds[0].node);
    CHECK_EQ(shard->map.epoch, mons[OURS].epoch);
    mon_stop(w, OURS);
    world_free(w);
}

/* Of the PGs of the map a shard keeps its own, so what it keeps does not grow with the cluster; and one that
 * comes to it later it takes, though it has ignored it before. */
static void test_keeps_its_own(void)
{
    struct world *w = world_new(5, 2);
    struct osd_shard *shard = w->osds[0].shard;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;
    Fb__PgMember members[3], *pointers[3];

    for (uint32_t i = 0; i < 3; i++) {
        fb__pg_member__init(&members[i]);
        members[i].replica = i + 1;
        members[i].osd = 7 + i;
        pointers[i] = &members[i];
    }
    pg.id = world_pg(w, 0) + 1000;
    pg.born = true;
    pg.member = pointers;
    pg.n_member = 3;
    map.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    map.pg = &pgs;
    map.n_pg = 1;
    map.base_epoch = shard->map.epoch;
    map.epoch = pg.epoch = shard->map.epoch + 1;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_map_take(shard, &map), 0);
    CHECK_EQ(shard->map.epoch, map.epoch);
    CHECK_EQ(shard->map.pgs.count, 2);
    members[0].osd = shard->label.osd;
    map.epoch = pg.epoch = shard->map.epoch + 1;
    CHECK_EQ(shard_map_take(shard, &map), 0);
    CHECK_EQ(shard->map.pgs.count, 3);
    members[0].osd = 7;
    map.epoch = pg.epoch = shard->map.epoch + 1;
    CHECK_EQ(shard_map_take(shard, &map), 0);
    CHECK_EQ(shard->map.pgs.count, 2);
    sim_node_leave(w->osds[0].node);
    world_free(w);
}

/* A PG that has no members, and wants one here: nothing can be born into that. */
static void test_no_group(void)
{
    struct world *w = world_new(6, 1);
    struct osd_shard *shard = w->osds[0].shard;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;
    Fb__PgMember member = FB__PG_MEMBER__INIT, *pointer = &member;

    pg.id = world_pg(w, 0) + 1000;
    pg.birth = 1;
    pg.born = true;
    member.replica = 4;
    member.osd = shard->label.osd;
    member.birth = pg.epoch = map.epoch = shard->map.epoch + 1;
    pg.wanted = &pointer;
    pg.n_wanted = 1;
    map.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    map.pg = &pgs;
    map.n_pg = 1;
    map.base_epoch = shard->map.epoch;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_map_take(shard, &map), 0);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 10000, shard->map.saved_epoch == map.epoch);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(!store_pg_find(osd_shard_store(shard), pg.id));
    CHECK_EQ(shard->map.pgs.count, 2);
    world_free(w);
}

/* A leader that is to leave hands over before anybody can have it deleted: who comes behind it tells. */
static void test_next_leader_tells_who_left(void)
{
    struct world *w = world_new(12, 1);
    struct world_pg *row = &w->pgs[0];

    ours_alone(w);
    for (uint32_t osd = 0; osd < OSDS; osd++)
        osd_restart(w, osd);
    world_feed_map(w);
    WAIT_FOR(w, 20000, world_leader(w, world_pg(w, 0)) != UINT32_MAX && world_settled(w));
    uint32_t leader = world_leader(w, world_pg(w, 0));
    const struct pg *pg = pg_find(w->osds[leader].shard, world_pg(w, 0));
    for (uint32_t i = 0; i < row->member.count; i++)
        if (row->member.row[i].osd != leader)
            row->wanted.row[row->wanted.count++] = row->member.row[i];
    row->wanted_epoch = w->epoch + 1;
    world_feed_map(w);
    WAIT_FOR(w, 5000, pg->raft.role == RAFT_LEADER && pg->raft.transfer_to);
    for (uint32_t i = 0; i < row->wanted.count; i++)
        sim_net_set_path(w->net, w->osds[leader].node->host, w->osds[row->wanted.row[i].osd].node->host,
                         SIM_PATH_BLOCK);
    WAIT_FOR(w, 5000, pg->raft.role != RAFT_LEADER);
    CHECK_EQ(mons[OURS].left, 0);
    sim_net_heal(w->net);
    WAIT_FOR(w, 5000, mons[OURS].groups);
    CHECK_EQ(mons[OURS].left, 0);
    row->wanted.count = 0;
    world_feed_map(w);
    mon_stop(w, OURS);
    world_free(w);
}

/* That a replica has left is confirmed once the map that says so is saved, also if a whole report was made
 * before that and all is at rest; and if it was to be split off a PG that is here, but not while that is
 * done. */
static void confirms_what_is_saved(bool split)
{
    struct world *w = world_new(7, 2);
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;
    Fb__PgMember members[2], *pointers[2] = {&members[0], &members[1]};

    ours_alone(w);
    osd_restart(w, 0);
    world_feed_map(w);
    WAIT_FOR(w, 20000, mons[OURS].unchanged > 2);
    sim_run_for(w->sim, 100 * NS_PER_MS); /* and is answered */

    struct osd_shard *shard = w->osds[0].shard;
    for (uint32_t i = 0; i < 2; i++) {
        fb__pg_member__init(&members[i]);
        members[i].replica = i + 1;
        members[i].osd = shard->label.osd + i;
    }
    pg.id = world_pg(w, 0) + (split ? 2 : 1000);
    pg.born = true;
    pg.split = split;
    pg.dropped = &pointers[0];
    pg.member = &pointers[1];
    pg.n_dropped = pg.n_member = 1;
    map.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    map.pg = &pgs;
    map.n_pg = 1;
    map.base_epoch = shard->map.epoch;
    map.epoch = pg.epoch = shard->map.epoch + 1;
    sim_node_enter(w->osds[0].node);
    struct pg *parent = pg_find(shard, world_pg(w, 0));
    CHECK_EQ(shard_map_take(shard, &map), 0);
    parent->splitting = split;
    shard_mon_report(shard);
    sim_node_leave(w->osds[0].node);
    if (split) {
        sim_run_for(w->sim, 3 * NS_PER_S);
        CHECK_EQ(mons[OURS].dropped, 0);
        /* Nor while its parent is to end, too, and has yet to come to that. */
        sim_node_enter(w->osds[0].node);
        parent->request_count++;
        pg_stop(parent);
        shard_mon_report(shard);
        sim_node_leave(w->osds[0].node);
        sim_run_for(w->sim, 3 * NS_PER_S);
        CHECK_EQ(mons[OURS].dropped, 0);
        sim_node_enter(w->osds[0].node);
        parent->request_count--;
        pg_wake(parent);
        sim_node_leave(w->osds[0].node);
        sim_run_for(w->sim, 100 * NS_PER_MS);
        sim_node_enter(w->osds[0].node);
        shard_mon_report(shard);
        sim_node_leave(w->osds[0].node);
    }
    WAIT_FOR(w, 5000, mons[OURS].dropped > 1);
    mon_stop(w, OURS);
    world_free(w);
}

static void test_confirms_what_is_saved(void)
{
    confirms_what_is_saved(false);
    confirms_what_is_saved(true);
}

/* A birth that was due by the saved map is asked for again; but how far that map was is what a monitor must
 * hear whose data may be from a backup. */
static void test_says_what_it_had(void)
{
    struct world *w = world_new(8, 1);
    struct osd_shard *shard = w->osds[0].shard;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;
    Fb__PgMember member = FB__PG_MEMBER__INIT, *pointer = &member;

    ours_alone(w);
    pg.id = world_pg(w, 0) + 1000;
    member.replica = 1;
    member.osd = shard->label.osd;
    pg.member = &pointer;
    pg.n_member = 1;
    map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    map.pg = &pgs;
    map.n_pg = 1;
    map.base_epoch = shard->map.epoch;
    pg.epoch = pg.birth = map.base_epoch + 1;
    map.epoch = map.base_epoch + 5;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_map_take(shard, &map), 0);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 3000, world_replica(w, 0, pg.id));
    CHECK_EQ(shard->map.saved_epoch, map.epoch);
    world_osd_stop(w, 0);
    fake_store_lose_pg(w->osds[0].label.osd_uuid, pg.id);
    world_osd_start(w, 0);
    WAIT_FOR(w, 10000, w->osds[0].shard && mons[OURS].subscribes > 0);
    CHECK_EQ(mons[OURS].told, map.epoch);
    CHECK_EQ(mons[OURS].since, pg.epoch - 1);

    /* It comes in two parts. The first one is neither saved, nor is anything done by it. */
    uint64_t had = map.epoch;
    shard = w->osds[0].shard;
    map.base_epoch = shard->map.epoch;
    map.epoch = pg.epoch;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_map_take(shard, &map), 0);
    sim_node_leave(w->osds[0].node);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(!world_replica(w, 0, pg.id));
    world_osd_kill(w, 0, SIM_CRASH_POWER);
    mons[OURS].told = mons[OURS].subscribes = 0;
    world_osd_start(w, 0);
    WAIT_FOR(w, 10000, w->osds[0].shard && mons[OURS].subscribes > 0);
    CHECK_EQ(mons[OURS].told, had);
    shard = w->osds[0].shard;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_map_take(shard, &map), 0);
    map.n_pg = 0;
    map.base_epoch = map.epoch;
    map.epoch = had;
    CHECK_EQ(shard_map_take(shard, &map), 0);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 3000, world_replica(w, 0, pg.id));
    CHECK_EQ(shard->map.saved_epoch, had);
    mon_stop(w, OURS);
    world_free(w);
}

/* A large map comes in parts. None is saved but the last: what a part lacks a start would take for absent. */
static void test_saves_no_part(void)
{
    struct world *w = world_new(12, 1);

    ours_alone(w);
    mons[OURS].epoch = w->osds[0].shard->map.epoch + 3;
    mons[OURS].promised = mons[OURS].epoch + 1;
    w->osds[0].unfed = true;
    osd_restart(w, 0);
    struct shard_map *map = &w->osds[0].shard->map;
    WAIT_FOR(w, 10000, map->epoch == mons[OURS].epoch);
    sim_run_for(w->sim, 10 * NS_PER_S);
    CHECK_EQ(map->epoch, mons[OURS].epoch);
    CHECK(map->saved_epoch < map->epoch);
    /* Nor because of an answer that was on its way when the part came. */
    uint32_t subscribes = mons[OURS].subscribes;
    mons[OURS].promised--;
    sim_node_enter(w->osds[0].node);
    w->osds[0].shard->mon.resubscribe = true;
    shard_mon_report(w->osds[0].shard);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 1000, mons[OURS].subscribes > subscribes);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(shard_map_is_part(w->osds[0].shard));
    mons[OURS].epoch++;
    WAIT_FOR(w, 10000, map->saved_epoch == mons[OURS].epoch);
    mon_stop(w, OURS);
    world_free(w);
}

static uint32_t least_stands(void)
{
    uint32_t least = UINT32_MAX;

    for (uint32_t i = 0; i < PGS_MAX; i++)
        least = MIN(least, mons[OURS].stands[i]);
    return least;
}

/* What does not fit in one report is in the next one: of groups that have no leader, and of what is confirmed
 * besides. */
static void test_long_reports(void)
{
    enum { ROOM = 240 };
    struct world *w = world_new(10, PGS_MAX);

    ours_alone(w);
    osd_restart(w, 0);
    w->born = false;
    world_feed_map(w);
    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 20000, mons[OURS].standings_most == PGS_MAX);
    CHECK(mons[OURS].longest > ROOM);
    w->osds[0].shard->mon.report_max = ROOM;
    sim_run_for(w->sim, NS_PER_S); /* the last one that is longer arrives */
    mons[OURS].longest = mons[OURS].reports = 0;
    memset(mons[OURS].stands, 0, sizeof(mons[OURS].stands));
    memset(mons[OURS].confirmed, 0, sizeof(mons[OURS].confirmed));
    WAIT_FOR(w, 30000, least_stands() >= 4);
    printf("# %u reports of at most %u bytes\n", mons[OURS].reports, mons[OURS].longest);
    CHECK(mons[OURS].longest <= ROOM && mons[OURS].reports <= 20);
    for (uint32_t i = 0; i < PGS_MAX; i++)
        CHECK(mons[OURS].confirmed[i] > 0);
    mon_stop(w, OURS);
    world_free(w);
}

/* That the members of a group are others is told of once there is memory for it, also if all is at rest by
 * then. */
static void test_report_without_memory(void)
{
    struct report_group { /* as in shard_report.c */
        void *next;
        Fb__PgMember members[GROUP_MEMBERS_MAX], *pointers[GROUP_MEMBERS_MAX];
    };
    struct world *w = world_new(11, 1);

    ours_alone(w);
    osd_restart(w, 0);
    world_lead(w, world_pg(w, 0), 0);
    world_feed_map(w);
    WAIT_FOR(w, 20000, mons[OURS].unchanged > 2);
    CHECK_EQ(mons[OURS].groups, 0);
    w->osds[0].node->heap.refused = sizeof(struct report_group);
    sim_node_enter(w->osds[0].node);
    pg_find(w->osds[0].shard, world_pg(w, 0))->sp->record.group.index = 1;
    shard_mon_report(w->osds[0].shard);
    sim_node_leave(w->osds[0].node);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(mons[OURS].groups, 0);
    w->osds[0].node->heap.refused = 0;
    WAIT_FOR(w, 3000, mons[OURS].groups > 0);
    mon_stop(w, OURS);
    world_free(w);
}

/* A report tells of all groups. However much there is to tell, as when thousands of them elect leaders, it
 * takes no more than a share of the time. */
static void test_reports_leave_time(void)
{
    struct world *w = world_new(9, PGS_MAX);

    ours_alone(w);
    osd_restart(w, 0);
    WAIT_FOR(w, 20000, mons[OURS].reports > 2);
    uint32_t before = mons[OURS].reports;
    for (uint32_t us = 0; us < 20000; us += 10) {
        sim_node_enter(w->osds[0].node);
        shard_mon_report(w->osds[0].shard);
        sim_node_leave(w->osds[0].node);
        sim_run_for(w->sim, 10 * NS_PER_US);
    }
    printf("# %u reports of %u groups in 20 ms\n", mons[OURS].reports - before, w->pg_count);
    CHECK(mons[OURS].reports - before > 20);
    CHECK(mons[OURS].reports - before < 20000 / (20 * w->pg_count) + 5);
    mon_stop(w, OURS);
    world_free(w);
}

int main(void)
{
    TEST(test_foreign_monitor);
    TEST(test_foreign_at_start);
    TEST(test_refused_for_long);
    TEST(test_told_who_leads);
    TEST(test_confirms_in_turn);
    TEST(test_orders_in_turn);
    TEST(test_births_beside_orders);
    TEST(test_lost_replica);
    TEST(test_no_room_to_recover);
    TEST(test_damaged_log_is_told);
    TEST(test_unborn_is_not_lost);
    TEST(test_lost_before_it_is_a_member);
    TEST(test_split_waits_for_a_monitor);
    TEST(test_lost_event);
    TEST(test_keeps_its_own);
    TEST(test_no_group);
    TEST(test_next_leader_tells_who_left);
    TEST(test_long_reports);
    TEST(test_says_what_it_had);
    TEST(test_saves_no_part);
    TEST(test_confirms_what_is_saved);
    TEST(test_report_without_memory);
    TEST(test_reports_leave_time);
    fake_store_forget_all();
    return tap_done();
}
