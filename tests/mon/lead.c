/* SPDX-License-Identifier: Apache-2.0
 *
 * Several monitors on one store: one leads, the others follow; leaders die, hang and come back; the store
 * goes away.
 */
#include <string.h>

#include "base/crc32c.h"
#include "mon/impl.h"
#include "sim/rng.h"
#include "tests/mon/world.h"
#include "tests/plants.h"

static uint32_t next_uuid;

/* A change that needs nothing: one more OSD. */
static int change(struct caller *c)
{
    return osd_new(c, (uint8_t)++next_uuid, "h", "", 1);
}

static uint32_t osds_known(struct caller *c)
{
    return get_map(c, 0) || !c->answer || !c->answer->map ? 0 : (uint32_t)c->answer->map->n_osd;
}

/* Only a store that loses leases makes two believe that they lead, until one hears of it; what they write is
 * fenced. */
static bool leases_get_lost;

static bool two_lead(struct world *w)
{
    return !leases_get_lost && world_leader(w) == -2;
}

/* Until another one than `not` leads. */
static int next_leader(struct world *w, int not )
{
    uint64_t until_ns = w->sim->now_ns + 20 * NS_PER_S;

    while ((world_leader(w) < 0 || world_leader(w) == not ) && sim_step(w->sim, until_ns))
        CHECK(!two_lead(w));
    CHECK(world_leader(w) >= 0 && world_leader(w) != not );
    return world_leader(w);
}

static void clients_at_all(struct world *w, struct caller *at)
{
    for (uint32_t i = 0; i < w->mon_count; i++)
        client_start_at(&at[i], w, (uint8_t)(50 + i), i);
}

/* A map larger than what a link takes comes to a subscriber all the same, in parts, as it takes them. */
static void a_map_is_larger_than_a_queue(void)
{
    struct caller c, osd, late;

    mon_small_limits = true;
    world_queue_bytes = 24u << 10;
    struct world *w = world_new();
    world_queue_bytes = 0;
    client_start(&c, w, 1);
    osds_up(w, &osd, 1);
    CHECK_EQ(pool_create(&c, "p", 1, 2048, "osd"), 0);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK(c.answer && c.answer->map && c.answer->map->newest_epoch > 400);
    uint64_t newest = c.answer->map->newest_epoch;
    client_start(&late, w, 2);
    CHECK_EQ(subscribe(&late, 0), 0);
    WAIT_FOR(w, 2000, late.epoch >= newest);
    CHECK(!late.gap && !late.early && !late.closed_error);
    CHECK_EQ(osd_new(&c, 77, "h", "", 1), 0);
    WAIT_FOR(w, 1000, late.epoch > newest);
    caller_stop(&late);
    caller_stop(&osd);
    caller_stop(&c);
    world_free(w);
    mon_small_limits = false;
}

static void one_leads_and_all_serve_the_map(void)
{
    struct world *w = world_new_several(3);
    struct caller at[3];
    int leader = world_leader(w);

    clients_at_all(w, at);
    CHECK_EQ(subscribe(&at[(leader + 1) % 3], 0), 0);
    CHECK_EQ(strcmp(at[(leader + 1) % 3].answer->leader, w->mons[leader].address), 0);
    for (int i = 0; i < 3; i++) {
        int result = change(&at[i]);
        CHECK_EQ(result, i == leader ? 0 : -ERR_OTHER_MONITOR);
        if (i != leader) {
            CHECK_EQ(strcmp(at[i].answer->leader, w->mons[leader].address), 0);
            CHECK(strstr(said(&at[i]), "leads: ask there"));
            CHECK_EQ(status(&at[i]), -ERR_OTHER_MONITOR);
        }
    }
    /* What it wrote comes to the others, and to those who subscribed there. */
    WAIT_FOR(w, 2000, osds_known(&at[0]) == 1 && osds_known(&at[1]) == 1 && osds_known(&at[2]) == 1);
    WAIT_FOR(w, 1000, at[(leader + 1) % 3].map_events > 0);
    CHECK(!at[(leader + 1) % 3].gap);
    for (int i = 0; i < 3; i++) {
        WAIT_FOR(w, 2000,
                 get_map(&at[i], 0) == 0 && at[i].answer->map->monitors &&
                     at[i].answer->map->monitors->n_address == 3);
        CHECK_EQ(monitors(&at[i]), 0);
        CHECK_EQ(at[i].answer->n_monitors, 3);
        CHECK_EQ(strcmp(at[i].answer->leader, w->mons[leader].address), 0);
        for (size_t k = 0; k < at[i].answer->n_monitors; k++)
            CHECK(at[i].answer->monitors[k]->alive && at[i].answer->monitors[k]->listed);
    }
    callers_stop(at, 3);
    world_free(w);
}

static void a_large_change_is_followed_whole(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], at[2];
    int leader = world_leader(w);

    CHECK_EQ(leader, 0);
    clients_at_all(w, at);
    osds_up(w, osds, 3);
    CHECK_EQ(subscribe(&at[1], 0), 0);
    CHECK_EQ(pool_create(&at[0], "large", 3, 1000, "osd"), 0); /* several transactions */
    CHECK_EQ(get_map(&at[0], 0), 0);
    uint64_t epoch = at[0].answer->map->epoch;
    WAIT_FOR(w, 2000, at[1].epoch >= epoch);
    CHECK(!at[1].gap);
    size_t pgs = 0, pools = 0;
    for (uint64_t since = 0;;) {
        CHECK_EQ(get_map(&at[1], since), 0);
        pgs += at[1].answer->map->n_pg;
        pools += at[1].answer->map->n_pool;
        if (at[1].answer->map->epoch == since || at[1].answer->map->epoch >= at[1].epoch)
            break;
        since = at[1].answer->map->epoch;
    }
    CHECK_EQ(pools, 1);
    CHECK_EQ(pgs, 1000);
    callers_stop(osds, 3);
    callers_stop(at, 2);
    world_free(w);
}

/* The whole map, whatever the order in which it is told. */
static uint32_t map_sum(struct caller *c)
{
    uint32_t sum = 0;
    uint8_t bytes[4096];

    for (uint64_t since = 0;;) {
        CHECK_EQ(get_map(c, since), 0);
        const Fb__ClusterMap *map = c->answer->map;
        for (size_t i = 0; i < map->n_osd; i++)
            sum += crc32c(1, bytes, fb__osd__pack(map->osd[i], bytes));
        for (size_t i = 0; i < map->n_pool; i++)
            sum += crc32c(2, bytes, fb__pool__pack(map->pool[i], bytes));
        for (size_t i = 0; i < map->n_pg; i++)
            sum += crc32c(3, bytes, fb__pg__pack(map->pg[i], bytes));
        if (map->epoch == since)
            return sum + (uint32_t)since;
        since = map->epoch;
    }
}

/* Changes come faster than who follows can read all, when it starts and when it has lost track: it does not
 * wait for a calm moment, and shows none of them in part. */
static void one_that_follows_reads_while_all_changes(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], at[2];
    char name[16];

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&at[0], "large", 3, 2000, "osd"), 0);
    caller_stop(&at[1]);
    sim_node_crash(w->mons[1].node, SIM_CRASH_PROCESS);
    sim_node_start(w->mons[1].node);
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "p%d", i / 2);
        CHECK_EQ(i % 2 ? pool_remove(&at[0], name) : pool_create(&at[0], name, 3, 2, "osd"), 0);
        if (i == 100) {
            CHECK(world_mon(w, 1));
            client_start_at(&at[1], w, 70, 1);
            CHECK_EQ(subscribe(&at[1], 0), 0);
        }
        if (i == 200)
            sim_node_pause(w->mons[1].node);
        if (i == 210) {
            sim_meta_compact(w->store);
            sim_node_resume(w->mons[1].node);
        }
        if (i == 399)
            CHECK(at[1].epoch > 0 && at[1].map_events > 100);
    }
    CHECK_EQ(get_map(&at[0], 0), 0);
    WAIT_FOR(w, 100, get_map(&at[0], at[1].epoch) == 0 && at[0].answer->map->epoch == at[1].epoch);
    CHECK(!at[1].gap && !at[1].early);
    CHECK_EQ(map_sum(&at[1]), map_sum(&at[0]));
    callers_stop(osds, 3);
    callers_stop(at, 2);
    world_free(w);
}

/* The epoch of the newest item that it was told of. */
static uint64_t newest_item(const Fb__ClusterMap *map)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < map->n_osd; i++)
        newest = MAX(newest, map->osd[i]->epoch);
    for (size_t i = 0; i < map->n_pool; i++)
        newest = MAX(newest, map->pool[i]->epoch);
    for (size_t i = 0; i < map->n_pg; i++)
        newest = MAX(newest, map->pg[i]->epoch);
    for (size_t i = 0; i < map->n_order; i++)
        newest = MAX(newest, map->order[i]->epoch);
    return newest;
}

/* One that has lost track is asked while it has read only a part of what was changed meanwhile: it says that
 * it is a part, and nobody takes that for all of it, and goes on from there. */
static void one_that_reads_anew_leaves_nothing_out(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[6], at[2];
    uint64_t since = 0, newest;
    size_t orders = 0, early = 0;
    char name[16];

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    osds_up(w, osds, 6);
    CHECK_EQ(pool_create(&at[0], "first", 3, 100, "osd"), 0);
    CHECK_EQ(image_create(&at[0], "first", "disk", 1u << 30), 0);
    WAIT_FOR(w, 1000, get_map(&at[1], 0) == 0 && at[1].answer->map->n_pool == 1);
    since = at[1].answer->map->epoch;
    sim_node_pause(w->mons[1].node);
    CHECK_EQ(image_remove(&at[0], "first", "disk"), 0); /* an order, which is read behind all PGs */
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "p%d", i);
        CHECK_EQ(pool_create(&at[0], name, 3, 1000, "osd"), 0);
    }
    do {
        newest = at[0].answer && at[0].answer->map ? at[0].answer->map->epoch : since;
        CHECK_EQ(get_map(&at[0], newest), 0);
    } while (at[0].answer->map->epoch > newest);
    sim_meta_compact(w->store);
    sim_node_resume(w->mons[1].node);
    uint64_t old = since, until_ns = w->sim->now_ns + 10 * NS_PER_S;
    while (since < newest && w->sim->now_ns < until_ns) {
        /* The first who is told of any of it. */
        if (get_map(&at[1], since == old ? 0 : since) || !at[1].answer || !at[1].answer->map)
            continue;
        const Fb__ClusterMap *map = at[1].answer->map;
        since = map->epoch;
        orders += since == old ? 0 : map->n_order;
        early += newest_item(map) > map->epoch;
        CHECK(newest_item(map) <= map->newest_epoch);
    }
    CHECK_EQ(since, newest);
    CHECK(orders > 0 && early > 0);
    callers_stop(osds, 6);
    callers_stop(at, 2);
    world_free(w);
}

static void a_dead_leader_is_replaced(void)
{
    struct world *w = world_new_several(3);
    struct caller at[3];
    int leader = world_leader(w);

    clients_at_all(w, at);
    CHECK_EQ(change(&at[leader]), 0);
    CHECK_EQ(subscribe(&at[(leader + 1) % 3], 0), 0);
    CHECK_EQ(subscribe(&at[(leader + 2) % 3], 0), 0);
    uint64_t died_ns = w->sim->now_ns;
    sim_node_crash(w->mons[leader].node, SIM_CRASH_PROCESS);
    int next = next_leader(w, leader);
    CHECK(w->sim->now_ns - died_ns < 6 * NS_PER_S);
    WAIT_FOR(w, 1000, at[next].leader_events == 1); /* whoever waits there need not ask */
    CHECK_EQ(osds_known(&at[next]), 1);
    /* No witness has to be waited for: nobody was ever up. */
    CHECK_EQ(change(&at[next]), 0);
    /* Back again it follows, and is there at once. */
    sim_node_start(w->mons[leader].node);
    WAIT_FOR(w, 5000, world_mon(w, (uint32_t)leader));
    CHECK_EQ(world_leader(w), next);
    caller_stop(&at[leader]);
    client_start_at(&at[leader], w, 60, (uint32_t)leader);
    WAIT_FOR(w, 3000, osds_known(&at[leader]) == 2);
    CHECK_EQ(change(&at[leader]), -ERR_OTHER_MONITOR);
    /* In good order it is quicker. */
    died_ns = w->sim->now_ns;
    sim_node_enter(w->mons[next].node);
    mon_free(world_mon(w, (uint32_t)next));
    memset(&w->mons[next].start.ret_mon, 0, sizeof(struct mon *));
    sim_node_leave(w->mons[next].node);
    next_leader(w, next);
    CHECK(w->sim->now_ns - died_ns < NS_PER_S);
    sim_node_crash(w->mons[next].node, SIM_CRASH_PROCESS);
    callers_stop(at, 3);
    world_free(w);
}

/* A monitor restarted under its own address does not wait for the end of its former lease. */
static void a_restart_is_quick(void)
{
    struct world *w = world_new_several(1);
    struct caller c;

    client_start(&c, w, 1);
    CHECK_EQ(change(&c), 0);
    sim_node_crash(w->mons[0].node, SIM_CRASH_PROCESS);
    sim_node_start(w->mons[0].node);
    WAIT_FOR(w, 1500, world_leader(w) == 0);
    WAIT_FOR(w, 3000, osds_known(&c) == 1);
    caller_stop(&c);
    world_free(w);
}

/* The leader is stopped with a change on its way; when that comes to the store another one leads. */
static void a_stopped_leader_writes_nothing(void)
{
    struct world *w = world_new_several(2);
    struct caller at[2];
    int leader = world_leader(w);
    Fb__OsdNew body = FB__OSD_NEW__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint8_t uuid[16] = {99};

    clients_at_all(w, at);
    CHECK_EQ(change(&at[leader]), 0);
    world_run_ms(w, 1500); /* also the list of monitors is written */
    body.uuid = (ProtobufCBinaryData){16, uuid};
    body.shards = 1;
    request.call_case = FB__MON_REQUEST__CALL_OSD_NEW;
    request.osd_new = &body;
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.slow_ppm = 1000000, .slow_ns = 12 * NS_PER_S});
    call_and_leave(&at[leader], &request, 20);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    sim_node_pause(w->mons[leader].node);
    int next = next_leader(w, leader);
    uint64_t revision = sim_meta_revision(w->store);
    world_run_ms(w, 10000); /* now it has come */
    CHECK(sim_meta_revision(w->store) == revision || PLANT(MON_NO_FENCE));
    sim_node_resume(w->mons[leader].node);
    world_run_ms(w, 2000);
    CHECK_EQ(world_leader(w), next);
    caller_stop(&at[next]);
    sim_node_crash(w->mons[next].node, SIM_CRASH_PROCESS); /* so that the store itself is read */
    leader = next_leader(w, next);
    client_start_at(&at[0], w, 70, (uint32_t)leader);
    CHECK_EQ(osds_known(&at[0]), 1);
    CHECK_EQ(change(&at[0]), 0);
    caller_stop(&at[0]);
    world_free(w);
}

/* One that begins to lead has heard nobody so far, and holds that against nobody. */
static void a_new_leader_judges_nobody_too_early(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], c;
    char address[32];

    CHECK_EQ(world_leader(w), 0);
    osds_up(w, osds, 3);
    for (int s = 0; s < 10; s++) {
        world_run_ms(w, 1000);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(osd_report(&osds[i], 0, NULL), 0);
    }
    callers_stop(osds, 3);
    sim_node_crash(w->mons[0].node, SIM_CRASH_PROCESS);
    CHECK_EQ(next_leader(w, 0), 1);
    client_start_at(&c, w, 1, 1);
    world_run_ms(w, 1500);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK_EQ(c.answer->map->n_osd, 3);
    for (size_t i = 0; i < c.answer->map->n_osd; i++)
        CHECK(c.answer->map->osd[i]->up);
    /* Two come in time. */
    for (uint32_t i = 0; i < 2; i++) {
        osd_start_at(&osds[i], w, i, 1, 1);
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_boot(&osds[i], (uint8_t)(i + 1), 0, 1, address), 0);
    }
    world_run_ms(w, 2000);
    CHECK_EQ(get_map(&c, 0), 0);
    for (size_t i = 0; i < c.answer->map->n_osd; i++)
        CHECK_EQ(c.answer->map->osd[i]->up, c.answer->map->osd[i]->id < 2);
    callers_stop(osds, 2);
    caller_stop(&c);
    world_free(w);
}

static void the_store_is_away(void)
{
    struct world *w = world_new_several(3);
    struct caller at[3];
    int leader = world_leader(w);

    clients_at_all(w, at);
    CHECK_EQ(change(&at[leader]), 0);
    WAIT_FOR(w, 2000, osds_known(&at[0]) == 1 && osds_known(&at[1]) == 1 && osds_known(&at[2]) == 1);
    sim_meta_set_down(w->store, true);
    world_run_ms(w, 6000);
    CHECK_EQ(world_leader(w), -1);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(osds_known(&at[i]), 1); /* the map is served all the time */
        CHECK_EQ(change(&at[i]), -ERR_OTHER_MONITOR);
        CHECK(i != leader || strstr(said(&at[i]), "no monitor leads"));
    }
    world_run_ms(w, 54000);
    sim_meta_set_down(w->store, false);
    leader = next_leader(w, -1);
    CHECK_EQ(change(&at[leader]), 0);
    WAIT_FOR(w, 8000, osds_known(&at[0]) == 2 && osds_known(&at[1]) == 2 && osds_known(&at[2]) == 2);
    callers_stop(at, 3);
    world_free(w);
}

/* A leader that does not know the outcome of a change reads the store again for the next call. It loses the
 * lead meanwhile: what it has read is not where it begins to follow. */
/* A pool is two epochs at least. Its creation is written, and the leader does not know; who has it from
 * another monitor knows of nothing that the leader must not have forgotten. */
static void others_know_of_a_pool_before_the_leader(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], at[2], late;
    uint64_t epoch = 0;
    char name[16];

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    osds_up(w, osds, 3);
    for (int i = 0; i < 10 && !epoch; i++) { /* until one is done, and not answered */
        world_run_ms(w, 1500);
        for (int o = 0; o < 3; o++)
            CHECK_EQ(osd_report(&osds[o], 0, NULL), 0);
        snprintf(name, sizeof(name), "p%d", i);
        sim_meta_set_faults(w->store, &(struct sim_meta_faults){.error_ppm = 1000000});
        CHECK_EQ(pool_create(&at[0], name, 3, 8, "osd"), -ERR_IO);
        world_run_ms(w, 50);
        CHECK_EQ(get_map(&at[1], 0), 0);
        if (at[1].answer->map->n_pool)
            epoch = at[1].answer->map->epoch;
        else
            sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    }
    CHECK(epoch);
    client_start_at(&late, w, 77, 0);
    late.self.epoch = epoch;
    memcpy(late.self.cluster, at[1].answer->map->cluster.data, 16);
    WAIT_FOR(w, 1000, late.opened);
    CHECK_EQ(get_map(&late, epoch), -ERR_RETRY);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    world_run_ms(w, 1500);
    CHECK_EQ(world_leader(w), 0);
    CHECK_EQ(change(&at[0]), 0);
    CHECK_EQ(get_map(&late, epoch), 0);
    callers_stop(osds, 3);
    callers_stop(at, 2);
    caller_stop(&late);
    world_free(w);
}

static uint64_t state_read(struct world *w, struct meta *store, Fb__MonState **ret_state)
{
    struct meta_range range = {.first = "cluster", .pending = true};

    IN_CLIENT(w, store->ops->range(store, &range));
    WAIT_FOR(w, 1000, !range.pending);
    CHECK(range.ret_count == 1);
    uint64_t revision = range.ret_kvs[0].mod_revision;
    *ret_state = fb__mon_state__unpack(NULL, range.ret_kvs[0].value_len, range.ret_kvs[0].value);
    IN_CLIENT(w, store->ops->range_fini(store, &range));
    return revision;
}

/* The store says of a change that it has failed, shows the leader that it was not made, and makes it then:
 * those who follow tell clients of it. The leader does not take that for the word of somebody who knows newer
 * data than it has. */
static void the_store_makes_late_what_had_failed(void)
{
    struct world *w = world_new_several(2);
    struct caller at[2], late;
    struct meta *store;
    Fb__MonState *state, *now;
    uint64_t revision, failed_at;
    uint8_t value[256];

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    CHECK_EQ(change(&at[0]), 0);
    world_run_ms(w, 1500); /* also the list of monitors is written */
    IN_CLIENT(w, store = sim_meta_open(w->store, w->client_node));
    for (;;) { /* until one is not made */
        revision = state_read(w, store, &state);
        sim_meta_set_faults(w->store, &(struct sim_meta_faults){.error_ppm = 1000000});
        CHECK_EQ(change(&at[0]), -ERR_IO);
        sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
        failed_at = state_read(w, store, &now);
        fb__mon_state__free_unpacked(now, NULL);
        if (failed_at == revision)
            break;
        fb__mon_state__free_unpacked(state, NULL);
        world_run_ms(w, 2500);
    }
    world_run_ms(w, 2500); /* the leader has read everything anew */
    state->epoch++;
    struct meta_condition condition = {.key = "cluster", .mod_revision = revision};
    struct meta_change put = {
        .key = "cluster", .value = value, .value_len = (uint32_t)fb__mon_state__pack(state, value)};
    struct meta_txn txn = {
        .conditions = &condition, .condition_count = 1, .changes = &put, .change_count = 1, .pending = true};
    IN_CLIENT(w, store->ops->txn(store, &txn));
    WAIT_FOR(w, 1000, !txn.pending);
    CHECK_EQ(txn.result, -ERR_CONFLICT);
    world_run_ms(w, 100);
    CHECK_EQ(get_map(&at[1], 0), 0);
    client_start_at(&late, w, 77, 0);
    late.self.epoch = at[1].answer->map->epoch;
    memcpy(late.self.cluster, at[1].answer->map->cluster.data, 16);
    WAIT_FOR(w, 1000, late.opened);
    CHECK_EQ(world_leader(w), 0);
    CHECK_EQ(change(&late), 0);
    fb__mon_state__free_unpacked(state, NULL);
    IN_CLIENT(w, store->ops->close(store));
    callers_stop(at, 2);
    caller_stop(&late);
    world_free(w);
}

/* `call` fails, and is not made. Returns where the state was, and what it was. */
static uint64_t fails(struct world *w, struct meta *store, struct caller *c, Fb__MonState **ret_state)
{
    for (;;) {
        uint64_t revision = state_read(w, store, ret_state);
        Fb__MonState *now;
        sim_meta_set_faults(w->store, &(struct sim_meta_faults){.error_ppm = 1000000});
        CHECK_EQ(pool_create(c, "late", 3, 512, "osd"), -ERR_IO);
        sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
        uint64_t failed_at = state_read(w, store, &now);
        fb__mon_state__free_unpacked(now, NULL);
        if (failed_at == revision)
            return revision;
        fb__mon_state__free_unpacked(*ret_state, NULL);
        world_run_ms(w, 2500);
    }
}

/* What has failed is several epochs, and is made while the leader is about to rule that out. */
static void the_store_makes_late_what_is_being_ruled_out(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], at[2], late;
    struct meta *store;
    Fb__MonState *state;
    uint8_t value[256];

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    osds_up(w, osds, 3);
    world_run_ms(w, 1500);
    IN_CLIENT(w, store = sim_meta_open(w->store, w->client_node));
    struct meta_condition condition = {.key = "cluster", .mod_revision = fails(w, store, &at[0], &state)};
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.slow_ppm = 1000000, .slow_ns = 200 * NS_PER_MS});
    WAIT_FOR(w, 5000, op_live(&world_mon(w, 0)->commit.op));
    CHECK(world_mon(w, 0)->doubtful);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    state->epoch += 2;
    struct meta_change put = {
        .key = "cluster", .value = value, .value_len = (uint32_t)fb__mon_state__pack(state, value)};
    struct meta_txn txn = {
        .conditions = &condition, .condition_count = 1, .changes = &put, .change_count = 1, .pending = true};
    IN_CLIENT(w, store->ops->txn(store, &txn));
    WAIT_FOR(w, 1000, !txn.pending);
    CHECK_EQ(txn.result, 0);
    /* Whom the one that follows has told of it. */
    client_start_at(&late, w, 77, 0);
    late.self.epoch = state->epoch;
    memcpy(late.self.cluster, world_mon(w, 0)->cluster, 16);
    WAIT_FOR(w, 1000, late.opened);
    CHECK(op_live(&world_mon(w, 0)->commit.op));
    world_run_ms(w, 1500);
    CHECK_EQ(world_leader(w), 0);
    CHECK_EQ(change(&late), 0);
    fb__mon_state__free_unpacked(state, NULL);
    IN_CLIENT(w, store->ops->close(store));
    callers_stop(osds, 3);
    callers_stop(at, 2);
    caller_stop(&late);
    world_free(w);
}

/* The last PG of the first pool, on one OSD, as none would be. */
#define LATE_KEY "pg/00000001/000001ff"
#define LATE_PG  (1ull << 32 | 511)

static uint32_t late_pg(uint64_t epoch, uint8_t *to)
{
    Fb__Pg pg = FB__PG__INIT;
    Fb__PgMember rows[3], *pointers[3] = {&rows[0], &rows[1], &rows[2]};

    pg.id = LATE_PG;
    pg.epoch = pg.birth = epoch;
    pg.member = pointers;
    pg.n_member = 3;
    pg.replica_next = 4;
    for (uint32_t i = 0; i < 3; i++) {
        fb__pg_member__init(&rows[i]);
        rows[i].replica = i + 1;
        rows[i].osd = 2;
    }
    return (uint32_t)fb__pg__pack(&pg, to);
}

struct late_part {
    struct world *w;
    struct meta *store;
    struct meta_txn txn;
    bool sent;
};

/* When the same part of the same change is written once more. */
static void late_part_comes(void *owner, const struct meta_change *changes, uint32_t count)
{
    struct late_part *late = owner;

    for (uint32_t i = 0; i < count && !late->sent; i++)
        if (changes[i].value && !strcmp(changes[i].key, late->txn.changes->key)) {
            late->sent = true;
            IN_CLIENT(late->w, late->store->ops->txn(late->store, &late->txn));
        }
}

/* A large change has failed in its first transaction, which the store carries out when the same is tried
 * once more and has written as much: what counts is what was written then. */
static void the_store_makes_late_a_part_of_what_had_failed(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], at[2];
    struct late_part late = {.w = w};
    Fb__MonState *state;
    uint8_t value[256];

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    osds_up(w, osds, 3);
    world_run_ms(w, 1500);
    IN_CLIENT(w, late.store = sim_meta_open(w->store, w->client_node));
    struct meta_condition condition = {.key = "cluster",
                                       .mod_revision = fails(w, late.store, &at[0], &state)};
    struct meta_change put = {.key = LATE_KEY, .value = value, .value_len = late_pg(state->epoch + 3, value)};
    late.txn = (struct meta_txn){
        .conditions = &condition, .condition_count = 1, .changes = &put, .change_count = 1, .pending = true};
    sim_meta_set_written(w->store, late_part_comes, &late);
    CHECK_EQ(pool_create(&at[0], "late", 3, 512, "osd"), 0);
    CHECK(late.sent);
    WAIT_FOR(w, 1000, !late.txn.pending);
    CHECK_EQ(late.txn.result, -ERR_CONFLICT);
    sim_meta_set_written(w->store, NULL, NULL);
    world_run_ms(w, 500);
    const struct mon_pg *one = mon_pg_find(world_mon(w, 0), LATE_PG),
                        *other = mon_pg_find(world_mon(w, 1), LATE_PG);
    CHECK(one && other);
    for (uint32_t i = 0; one && other && i < 3; i++)
        CHECK_EQ(mon_pg_item(one)->member[i]->osd, mon_pg_item(other)->member[i]->osd);
    fb__mon_state__free_unpacked(state, NULL);
    IN_CLIENT(w, late.store->ops->close(late.store));
    callers_stop(osds, 3);
    callers_stop(at, 2);
    world_free(w);
}

/* Who begins to lead deletes what is left of a creation, and does not hear that it is done. The store does it
 * once more when the same is created: it must not go then. */
static void the_store_makes_late_what_a_load_deletes(void)
{
    struct world *w = world_new_several(2);
    struct caller osds[3], c;
    struct late_part late = {.w = w};
    struct meta_range range = {.first = LATE_KEY, .pending = true};
    Fb__MonState *state;
    uint8_t value[256];

    CHECK_EQ(world_leader(w), 0);
    osds_up(w, osds, 3);
    world_run_ms(w, 1500);
    IN_CLIENT(w, late.store = sim_meta_open(w->store, w->client_node));
    struct meta_condition condition = {.key = "cluster", .mod_revision = state_read(w, late.store, &state)};
    struct meta_change change = {
        .key = LATE_KEY, .value = value, .value_len = late_pg(state->epoch + 3, value)};
    late.txn = (struct meta_txn){.changes = &change, .change_count = 1, .pending = true};
    IN_CLIENT(w, late.store->ops->txn(late.store, &late.txn));
    WAIT_FOR(w, 1000, !late.txn.pending);
    callers_stop(osds, 3);
    sim_node_crash(w->mons[0].node, SIM_CRASH_PROCESS);
    struct mon *mon = world_mon(w, 1);
    WAIT_FOR(w, 20000, mon->lead.revision && op_live(&mon->load.op) && mon->load.kind == MON_KINDS);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.error_ppm = 1000000});
    WAIT_FOR(w, 1000, mon->load_failed);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    CHECK_EQ(mon->load.orphan_batch, 1);
    CHECK_EQ(next_leader(w, 0), 1);
    for (uint32_t i = 0; i < 3; i++) {
        char address[32];
        osd_start_at(&osds[i], w, i, 1, 1);
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_boot(&osds[i], (uint8_t)(i + 1), 0, 1, address), 0); /* which changes nothing */
    }
    client_start_at(&c, w, 1, 1);
    change.value = NULL;
    late.txn = (struct meta_txn){.conditions = &condition,
                                 .condition_count = 1,
                                 .changes = &change,
                                 .change_count = 1,
                                 .pending = true};
    sim_meta_set_written(w->store, late_part_comes, &late);
    CHECK_EQ(pool_create(&c, "late", 3, 512, "osd"), 0);
    CHECK(late.sent);
    WAIT_FOR(w, 1000, !late.txn.pending);
    sim_meta_set_written(w->store, NULL, NULL);
    IN_CLIENT(w, late.store->ops->range(late.store, &range));
    WAIT_FOR(w, 1000, !range.pending);
    CHECK_EQ(range.ret_count, 1);
    IN_CLIENT(w, late.store->ops->range_fini(late.store, &range));
    fb__mon_state__free_unpacked(state, NULL);
    IN_CLIENT(w, late.store->ops->close(late.store));
    callers_stop(osds, 3);
    caller_stop(&c);
    world_free(w);
}

static void a_leader_that_reads_the_store_anew_loses_the_lead(void)
{
    struct world *w = world_new_several(2);
    struct caller at[2];
    Fb__OsdNew body = FB__OSD_NEW__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint8_t uuid[16] = {99};

    CHECK_EQ(world_leader(w), 0);
    clients_at_all(w, at);
    CHECK_EQ(change(&at[0]), 0);
    world_run_ms(w, 1500); /* also the list of monitors is written */
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.error_ppm = 1000000});
    CHECK_EQ(change(&at[0]), -ERR_IO);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.slow_ppm = 1000000, .slow_ns = 3 * NS_PER_S});
    body.uuid = (ProtobufCBinaryData){16, uuid};
    body.shards = 1;
    request.call_case = FB__MON_REQUEST__CALL_OSD_NEW;
    request.osd_new = &body;
    call_and_leave(&at[0], &request, 20);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.lost_ppm = 1000000});
    WAIT_FOR(w, 2500, !mon_leads(world_mon(w, 0)));
    CHECK(w->mons[0].start.ret_mon);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    CHECK_EQ(next_leader(w, -1), 1);
    world_run_ms(w, 4000);
    CHECK_EQ(world_leader(w), 1);
    client_start_at(&at[0], w, 70, 0);
    uint32_t before = osds_known(&at[1]);
    CHECK_EQ(change(&at[1]), 0);
    WAIT_FOR(w, 2000, osds_known(&at[0]) == before + 1);
    callers_stop(at, 2);
    world_free(w);
}

/* A pool of several transactions; the store is so slow that the lease ends by itself between two of them.
 * What comes to the store when the key of the leader is gone is not written. */
static void nothing_is_finished_while_nobody_leads_at(uint64_t slow_ms)
{
    struct world *w = world_new_several(1);
    struct caller osds[3], c;
    Fb__PoolCreate body = FB__POOL_CREATE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    osds_up(w, osds, 3);
    client_start(&c, w, 1);
    world_run_ms(w, 1500); /* the tick has nothing to write any more */
    body.name = (char *)"large";
    body.replicas = 3;
    body.pg_count = 1000;
    body.failure_domain = (char *)"osd";
    request.call_case = FB__MON_REQUEST__CALL_POOL_CREATE;
    request.pool_create = &body;
    sim_meta_set_faults(w->store,
                        &(struct sim_meta_faults){.slow_ppm = 1000000, .slow_ns = slow_ms * NS_PER_MS});
    uint64_t before = sim_meta_revision(w->store);
    call_and_leave(&c, &request, 100);
    WAIT_FOR(w, 10000, !mon_leads(world_mon(w, 0)));
    CHECK(sim_meta_revision(w->store) > before);
    world_run_ms(w, 10 * slow_ms);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    CHECK_EQ(next_leader(w, -1), 0);
    client_start(&c, w, 2);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK_EQ(c.answer->map->n_pool, 0);
    callers_stop(osds, 3);
    caller_stop(&c);
    world_free(w);
}

static void nothing_is_finished_while_nobody_leads(void)
{
    for (uint64_t slow_ms = 2700; slow_ms <= 3300; slow_ms += 100)
        nothing_is_finished_while_nobody_leads_at(slow_ms);
}

/* What a later version writes: what this one has, in a format of its own, and a key of a kind of its own. */
static void write_as_newer(struct world *w, struct meta *store)
{
    struct meta_range range = {.first = "cluster", .pending = true};
    uint8_t value[256];

    IN_CLIENT(w, store->ops->range(store, &range));
    WAIT_FOR(w, 1000, !range.pending);
    CHECK(range.ret_count == 1);
    Fb__MonState *state = fb__mon_state__unpack(NULL, range.ret_kvs[0].value_len, range.ret_kvs[0].value);
    state->format = MON_FORMAT + 1;
    state->epoch++;
    struct meta_change changes[] = {
        {.key = "news/1", .value = "?", .value_len = 1},
        {.key = "cluster", .value = value, .value_len = (uint32_t)fb__mon_state__pack(state, value)}};
    struct meta_txn txn = {.changes = changes, .change_count = 2, .pending = true};
    IN_CLIENT(w, store->ops->txn(store, &txn));
    WAIT_FOR(w, 1000, !txn.pending);
    CHECK_EQ(txn.result, 0);
    IN_CLIENT(w, store->ops->range_fini(store, &range));
    fb__mon_state__free_unpacked(state, NULL);
}

/* Monitors of an older version than the metadata write nothing, neither lead nor serve. */
static void a_newer_version_is_left_alone(void)
{
    struct world *w = world_new_several(2);
    struct caller at[2];
    struct meta *store;

    clients_at_all(w, at);
    CHECK_EQ(change(&at[world_leader(w)]), 0);
    world_run_ms(w, 1500);
    IN_CLIENT(w, store = sim_meta_open(w->store, w->client_node));
    write_as_newer(w, store);
    CHECK(change(&at[0]) && change(&at[1])); /* it is found out at the next write at the latest */
    world_run_ms(w, 10000);
    uint64_t revision = sim_meta_revision(w->store);
    CHECK_EQ(world_leader(w), -1);
    for (int i = 0; i < 2; i++) {
        int opened = at[i].opened;
        CHECK(change(&at[i]) && osds_known(&at[i]) == 0);
        CHECK_EQ(at[i].opened, opened);
    }
    world_run_ms(w, 10000);
    CHECK_EQ(world_leader(w), -1);
    struct meta_range range = {.first = "cluster", .pending = true};
    IN_CLIENT(w, store->ops->range(store, &range));
    WAIT_FOR(w, 1000, !range.pending);
    CHECK(range.ret_count == 1 && range.ret_kvs[0].mod_revision <= revision);
    Fb__MonState *state = fb__mon_state__unpack(NULL, range.ret_kvs[0].value_len, range.ret_kvs[0].value);
    CHECK_EQ(state->format, MON_FORMAT + 1);
    fb__mon_state__free_unpacked(state, NULL);
    IN_CLIENT(w, store->ops->range_fini(store, &range));
    IN_CLIENT(w, store->ops->close(store));
    callers_stop(at, 2);
    world_free(w);
}

/* OSDs hear of the map from the leader alone: what they know when they first speak to another one is then in
 * its metadata. */
static void followers_tell_osds_nothing(void)
{
    struct world *w = world_new_several(2);
    int leader = world_leader(w);
    struct caller c, osd;

    client_start_at(&c, w, 60, (uint32_t)leader);
    osd_start_at(&osd, w, 0, 1, (uint32_t)(1 - leader));
    CHECK_EQ(change(&c), 0);
    CHECK_EQ(get_map(&osd, 0), -ERR_OTHER_MONITOR);
    CHECK_EQ(subscribe(&osd, 0), -ERR_OTHER_MONITOR);
    CHECK_EQ(strcmp(osd.answer->leader, w->mons[leader].address), 0);
    caller_stop(&osd);
    caller_stop(&c);
    world_free(w);
}

static void monitors_are_forgotten(void)
{
    struct world *w = world_new_several(2);
    struct caller c;
    Fb__MonRemove body = FB__MON_REMOVE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    CHECK_EQ(world_leader(w), 0);
    client_start(&c, w, 1);
    WAIT_FOR(w, 2000, monitors(&c) == 0 && c.answer->n_monitors == 2 && c.answer->monitors[1]->listed);
    request.call_case = FB__MON_REQUEST__CALL_MON_REMOVE;
    request.mon_remove = &body;
    body.address = (char *)"10.0.0.9:7000";
    CHECK_EQ(call(&c, &request), -ERR_NOT_FOUND);
    body.address = w->mons[1].address;
    CHECK_EQ(call(&c, &request), -ERR_BUSY);
    world_run_ms(w, 4000);
    CHECK(!has_problem(&c, "monitors do not run"));
    sim_node_crash(w->mons[1].node, SIM_CRASH_PROCESS);
    for (int tries = 0; tries < 20 && !has_problem(&c, w->mons[1].address); tries++)
        world_run_ms(w, 500);
    CHECK(has_problem(&c, "1 monitors do not run"));
    for (int tries = 0; tries < 20 && call(&c, &request) == -ERR_BUSY; tries++)
        world_run_ms(w, 500);
    CHECK_EQ(c.result, 0);
    CHECK(!has_problem(&c, "monitors do not run"));
    CHECK_EQ(monitors(&c), 0);
    CHECK_EQ(c.answer->n_monitors, 1);
    world_run_ms(w, 1000);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK_EQ(c.answer->map->monitors->n_address, 1);
    caller_stop(&c);
    world_free(w);
}

/* ---- anything goes wrong at any time ---- */

#define STORM_STEPS 40
#define STORM_OSDS  200

struct storm {
    struct world *w;
    struct sim_rng rng;
    bool used[STORM_OSDS + 1]; /* ids that were answered */
    uint32_t acknowledged;
};

static void storm_change(struct storm *s)
{
    struct caller c;
    int leader = world_leader(s->w);

    if (leader < 0 || next_uuid >= 250)
        return;
    client_start_at(&c, s->w, (uint8_t)(100 + s->acknowledged % 100), (uint32_t)leader);
    if (change(&c) == 0) {
        CHECK(c.answer->osd <= STORM_OSDS && !s->used[c.answer->osd]); /* no id is given out twice */
        s->used[c.answer->osd] = true;
        s->acknowledged++;
    }
    /* Many more, so that some come while others read all. */
    for (uint64_t n = sim_rng_below(&s->rng, 40); n > 0 && c.result == 0; n--)
        (void)osd_change(&c, (uint32_t)sim_rng_below(&s->rng, s->acknowledged),
                         FB__OSD_ACTION__OSD_ACTION_REWEIGHT, (uint32_t)sim_rng_below(&s->rng, 1000));
    caller_stop(&c);
}

static void storm_strike(struct storm *s)
{
    struct world_mon *m = &s->w->mons[sim_rng_below(&s->rng, s->w->mon_count)];

    switch (sim_rng_below(&s->rng, 6)) {
    case 0:
        if (m->node->state == SIM_NODE_UP)
            sim_node_crash(m->node, SIM_CRASH_PROCESS);
        break;
    case 1:
        if (m->node->state == SIM_NODE_UP)
            sim_node_pause(m->node);
        break;
    case 2:
        sim_meta_set_down(s->w->store, sim_rng_below(&s->rng, 2));
        break;
    case 3:
        sim_meta_set_faults(s->w->store, &(struct sim_meta_faults){
                                             .error_ppm = (uint32_t)sim_rng_below(&s->rng, 2) * 100000,
                                             .conflict_ppm = (uint32_t)sim_rng_below(&s->rng, 2) * 50000,
                                             .lost_ppm = leases_get_lost * 100000,
                                             .slow_ppm = (uint32_t)sim_rng_below(&s->rng, 2) * 100000,
                                             .slow_ns = 4 * NS_PER_S});
        break;
    case 4:
        sim_meta_compact(s->w->store);
        break;
    default:
        break;
    }
    for (uint32_t i = 0; i < s->w->mon_count; i++) {
        m = &s->w->mons[i];
        if (sim_rng_below(&s->rng, 2))
            continue;
        if (m->node->state == SIM_NODE_PAUSED)
            sim_node_resume(m->node);
        else if (m->node->state == SIM_NODE_UP && !op_live(&m->start.op) && !m->start.ret_mon)
            sim_node_crash(m->node, SIM_CRASH_PROCESS); /* it could not start */
        if (m->node->state == SIM_NODE_DOWN)
            sim_node_start(m->node);
    }
}

static void storm_calm(struct storm *s)
{
    struct world *w = s->w;

    sim_meta_set_down(w->store, false);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
    for (uint32_t i = 0; i < w->mon_count; i++) {
        struct world_mon *m = &w->mons[i];
        if (m->node->state == SIM_NODE_PAUSED)
            sim_node_resume(m->node);
        for (int tries = 0; tries < 5 && !world_mon(w, i); tries++) {
            if (m->node->state == SIM_NODE_UP && !op_live(&m->start.op))
                sim_node_crash(m->node, SIM_CRASH_PROCESS);
            if (m->node->state == SIM_NODE_DOWN)
                sim_node_start(m->node);
            world_run_ms(w, 1500);
        }
        CHECK(world_mon(w, i));
    }
}

static void storm(uint64_t seed)
{
    struct storm s = {.w = world_new_several(3), .rng = sim_rng_make(seed, "storm", 0)};
    struct world *w = s.w;
    struct caller at[3];

    next_uuid = 0;
    leases_get_lost = sim_rng_below(&s.rng, 2);
    for (int step = 0; step < STORM_STEPS && tap_ok; step++) {
        storm_strike(&s);
        uint64_t until_ns = w->sim->now_ns + sim_rng_below(&s.rng, 4000) * NS_PER_MS;
        while (sim_step(w->sim, until_ns))
            if (two_lead(w))
                CHECK(!"two monitors lead");
        storm_change(&s);
    }
    storm_calm(&s);
    int leader = next_leader(w, -1);
    if (leader < 0) {
        printf("# seed %llu\n", (unsigned long long)seed);
        return;
    }
    clients_at_all(w, at);
    world_run_ms(w, 8000);
    CHECK_EQ(get_map(&at[leader], 0), 0);
    uint64_t epoch = at[leader].answer->map->epoch;
    size_t osds = at[leader].answer->map->n_osd;
    CHECK(osds >= s.acknowledged);
    for (size_t i = 0; i < osds; i++)
        s.used[at[leader].answer->map->osd[i]->id] = false;
    for (uint32_t i = 0; i <= STORM_OSDS; i++)
        CHECK(!s.used[i]); /* everything that was acknowledged is there */
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(get_map(&at[i], 0), 0);
        CHECK_EQ(at[i].answer->map->epoch, epoch);
        CHECK_EQ(at[i].answer->map->n_osd, osds);
        CHECK_EQ(map_sum(&at[i]), map_sum(&at[leader]));
    }
    if (!tap_ok)
        printf("# seed %llu, %u changes\n", (unsigned long long)seed, s.acknowledged);
    callers_stop(at, 3);
    world_free(w);
}

static void storms(void)
{
    uint64_t count = getenv("MON_TEST_SEEDS") ? strtoull(getenv("MON_TEST_SEEDS"), NULL, 10) : 40;

    for (uint64_t seed = getenv("MON_TEST_SEED") ? strtoull(getenv("MON_TEST_SEED"), NULL, 10) : 1;
         seed <= count && tap_ok; seed++)
        storm(seed);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(a_map_is_larger_than_a_queue);
    TEST(one_leads_and_all_serve_the_map);
    TEST(a_large_change_is_followed_whole);
    TEST(one_that_follows_reads_while_all_changes);
    TEST(one_that_reads_anew_leaves_nothing_out);
    TEST(a_dead_leader_is_replaced);
    TEST(a_restart_is_quick);
    TEST(others_know_of_a_pool_before_the_leader);
    TEST(the_store_makes_late_what_had_failed);
    TEST(the_store_makes_late_what_is_being_ruled_out);
    TEST(the_store_makes_late_a_part_of_what_had_failed);
    TEST(the_store_makes_late_what_a_load_deletes);
    TEST(a_leader_that_reads_the_store_anew_loses_the_lead);
    TEST(nothing_is_finished_while_nobody_leads);
    TEST(a_stopped_leader_writes_nothing);
    TEST(a_new_leader_judges_nobody_too_early);
    TEST(the_store_is_away);
    TEST(a_newer_version_is_left_alone);
    TEST(followers_tell_osds_nothing);
    TEST(monitors_are_forgotten);
    TEST(storms);
    return tap_done();
}
