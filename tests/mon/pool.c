/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools: checks of what is asked, PGs born and placed, large ones in several transactions, removal by order.
 */
#include <string.h>

#include "tests/mon/world.h"

static void creates(void)
{
    struct world *w = world_new();
    struct caller client, osds[3];

    client_start(&client, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&client, "rbd", 3, 64, "host"), 0);
    CHECK_EQ(client.answer->id, 1);
    CHECK_EQ(strlen(said(&client)), 0);
    CHECK_EQ(get_map(&client, 0), 0);
    const Fb__ClusterMap *map = client.answer->map;
    CHECK_EQ(map->base_epoch, 0);
    CHECK_EQ(map->n_osd, 3);
    CHECK_EQ(map->n_pool, 1);
    CHECK_EQ(map->n_pg, 64);
    uint32_t leaders[3] = {0};
    for (size_t i = 0; i < map->n_pg; i++) {
        CHECK_EQ(map->pg[i]->id >> 32, 1);
        CHECK_EQ(map->pg[i]->n_member, 3);
        CHECK(map->pg[i]->birth && !map->pg[i]->born);
        CHECK_EQ(map->pg[i]->member[0]->replica, 1);
        leaders[map->pg[i]->member[0]->osd % 3]++;
    }
    for (int i = 0; i < 3; i++)
        CHECK(leaders[i] >= 21 && leaders[i] <= 22);

    osds_confirm(osds, 2);
    world_run_ms(w, 500);
    CHECK_EQ(get_map(&client, 0), 0);
    CHECK(!client.answer->map->pg[0]->born);
    osds_confirm(osds, 3);
    world_run_ms(w, 500);
    CHECK_EQ(get_map(&client, 0), 0);
    for (size_t i = 0; i < client.answer->map->n_pg; i++)
        CHECK(client.answer->map->pg[i]->born);

    CHECK_EQ(pool_create(&client, "one", 1, 1, ""), 0);
    CHECK(strstr(said(&client), "warning: with 1 replica"));
    CHECK_EQ(pool_create(&client, "two", 2, 1, "osd"), 0);
    CHECK(strstr(said(&client), "warning: with 2 replicas"));
    callers_stop(osds, 3);
    caller_stop(&client);
    world_free(w);
}

static void refuses(void)
{
    struct world *w = world_new();
    struct caller client, osds[3];
    char longest[66];

    memset(longest, 'a', 65);
    longest[65] = 0;
    client_start(&client, w, 1);
    CHECK_EQ(pool_create(&client, "rbd", 3, 64, "host"), -ERR_TOO_FEW_OSDS);
    CHECK(strstr(said(&client), "3 hosts"));
    CHECK(strstr(said(&client), "there are 0"));
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&client, "", 3, 64, "osd"), -ERR_INVALID);
    CHECK_EQ(pool_create(&client, "a/b", 3, 64, "osd"), -ERR_INVALID);
    CHECK_EQ(pool_create(&client, longest, 3, 64, "osd"), -ERR_INVALID);
    longest[64] = 0;
    CHECK_EQ(pool_create(&client, longest, 3, 64, "osd"), 0);
    CHECK_EQ(pool_create(&client, longest, 3, 64, "osd"), -ERR_EXISTS);
    CHECK_EQ(pool_create(&client, "p", 0, 64, "osd"), -ERR_INVALID);
    CHECK_EQ(pool_create(&client, "p", 8, 64, "osd"), -ERR_INVALID);
    CHECK_EQ(pool_create(&client, "p", 3, 65537, "osd"), -ERR_INVALID);
    CHECK_EQ(pool_create(&client, "p", 3, 64, "planet"), -ERR_INVALID);
    CHECK(strstr(said(&client), "planet"));
    CHECK_EQ(pool_create(&client, "p", 4, 64, "osd"), -ERR_TOO_FEW_OSDS);
    CHECK(strstr(said(&client), "there are 3"));
    CHECK_EQ(pool_create(&client, "p", 2, 64, "rack"),
             -ERR_TOO_FEW_OSDS); /* all in the rack without a name */
    CHECK_EQ(pool_create(&client, "p", 3, 5000, "osd"),
             -ERR_TOO_FEW_OSDS); /* more replicas than shards hold */
    CHECK(strstr(said(&client), "Use fewer PGs"));

    /* An OSD that is down does not count. */
    caller_stop(&osds[2]);
    world_run_ms(w, 1500);
    CHECK_EQ(pool_create(&client, "p", 3, 64, "osd"), -ERR_TOO_FEW_OSDS);
    CHECK(strstr(said(&client), "there are 2 (2 OSDs up and in of 3)"));
    CHECK_EQ(pool_remove(&client, "nope"), -ERR_NOT_FOUND);
    callers_stop(osds, 2);
    caller_stop(&client);
    world_free(w);
}

/* Collects the map in parts, as a poller does. Each says up to where there is more. */
static void count_map(struct caller *c, uint64_t since, size_t *ret_pools, size_t *ret_pgs,
                      uint32_t *ret_parts)
{
    uint64_t newest = 0;

    *ret_pools = *ret_pgs = *ret_parts = 0;
    for (;;) {
        CHECK_EQ(get_map(c, since), 0);
        const Fb__ClusterMap *map = c->answer ? c->answer->map : NULL;
        if (!map || map->epoch == since) {
            CHECK_EQ(newest, since);
            return;
        }
        CHECK_EQ(map->base_epoch, since);
        since = map->epoch;
        newest = *ret_parts ? newest : map->newest_epoch;
        *ret_pools += map->n_pool;
        *ret_pgs += map->n_pg;
        ++*ret_parts;
    }
}

/* Entries of a copy of the metadata, each once. */
static uint64_t count_dump(struct caller *c)
{
    Fb__MonDump dump = FB__MON_DUMP__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint64_t seen = 0, pages = 0;

    request.call_case = FB__MON_REQUEST__CALL_MON_DUMP;
    request.mon_dump = &dump;
    for (bool more = true; more && pages < 100; pages++) {
        CHECK_EQ(call(c, &request), 0);
        for (size_t i = 0; i < c->answer->n_entries; i++) {
            const Fb__MonEntry *e = c->answer->entries[i];
            CHECK(e->kind > dump.kind || e->id > dump.id || !dump.started);
            dump.kind = e->kind;
            dump.id = e->id;
            dump.started = true;
            seen++;
        }
        more = c->answer->more;
    }
    CHECK(pages > 1);
    return seen;
}

static void creates_large_ones(void)
{
    struct world *w = world_new();
    struct caller client, watcher, osds[6];
    size_t pools, pgs;
    uint32_t parts;

    client_start(&client, w, 1);
    client_start(&watcher, w, 2);
    osds_up(w, osds, 6);
    CHECK_EQ(subscribe(&watcher, 0), 0);
    uint32_t before = w->txns;
    CHECK_EQ(pool_create(&client, "large", 3, 8000, "host"), 0);
    CHECK(w->txns - before >= 8001 / 127);
    count_map(&client, 0, &pools, &pgs, &parts);
    CHECK_EQ(pools, 1);
    CHECK_EQ(pgs, 8000);
    CHECK(parts > 1);
    /* The subscriber got all of it without asking, in deltas that follow each other. */
    world_run_ms(w, 100);
    CHECK(watcher.map_events > 1);
    CHECK(!watcher.gap);
    CHECK_EQ(get_map(&client, watcher.epoch), 0);
    CHECK_EQ(client.answer->map->epoch, watcher.epoch);

    /* A new subscriber gets the first part as the answer and the rest as events. */
    struct caller late;
    client_start(&late, w, 3);
    CHECK_EQ(subscribe(&late, 0), 0);
    world_run_ms(w, 100);
    CHECK(late.map_events >= 1 && !late.gap);
    CHECK_EQ(late.epoch, watcher.epoch);
    caller_stop(&late);

    /* And so does a copy of everything. */
    CHECK_EQ(count_dump(&client), 8000 + 6 + 1);

    /* `pg ls` comes in pages. */
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__PgList list = FB__PG_LIST__INIT;
    uint64_t seen = 0, pages = 0;
    request.call_case = FB__MON_REQUEST__CALL_PG_LIST;
    request.pg_list = &list;
    for (uint32_t more = 1; more && pages < 100; pages++) {
        CHECK_EQ(call(&client, &request), 0);
        more = client.answer && client.answer->more && client.answer->n_pg_reports;
        for (size_t i = 0; client.answer && i < client.answer->n_pg_reports; i++) {
            CHECK_EQ(client.answer->pg_reports[i]->pg, 1ull << 32 | seen);
            list.after_pg = client.answer->pg_reports[i]->pg;
            seen++;
        }
    }
    CHECK_EQ(seen, 8000);
    world_crash_mon(w);
    count_map(&client, 0, &pools, &pgs, &parts);
    CHECK_EQ(pgs, 8000);
    callers_stop(osds, 6);
    caller_stop(&client);
    caller_stop(&watcher);
    world_free(w);
}

/* A plan over many PGs is made in several turns of the monitor, and calls are answered in between. */
static void plans_in_turns(void)
{
    struct world *w = world_new();
    struct caller client, osds[14];
    Fb__RebalancePlan body = FB__REBALANCE_PLAN__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint32_t asked = 0;

    client_start(&client, w, 1);
    osds_up(w, osds, 14);
    CHECK_EQ(pool_create(&client, "one", 2, 12000, "host"), 0);
    CHECK_EQ(pool_create(&client, "two", 2, 12000, "host"), 0);
    CHECK_EQ(osd_change(&client, 5, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    request.call_case = FB__MON_REQUEST__CALL_REBALANCE_PLAN;
    request.rebalance_plan = &body;
    while (call(&client, &request) == -ERR_RETRY && asked < 20) {
        CHECK(strstr(said(&client), "the plan is being made"));
        CHECK_EQ(monitors(&client), 0);
        asked++;
    }
    CHECK_EQ(client.result, 0);
    CHECK(client.answer->n_moves > 0);
    CHECK(asked > 1);
    /* What an operator says goes before what was planned without it. */
    CHECK_EQ(cluster_set(&client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, true), 0);
    CHECK_EQ(call(&client, &request), -ERR_RETRY);
    while (call(&client, &request) == -ERR_RETRY)
        ;
    CHECK_EQ(osd_change(&client, 6, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    CHECK_EQ(call(&client, &request), -ERR_RETRY);
    callers_stop(osds, 14);
    caller_stop(&client);
    world_free(w);
}

static void removes(void)
{
    struct world *w = world_new();
    struct caller client, osds[3];
    size_t pools, pgs;
    uint32_t parts;

    client_start(&client, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&client, "rbd", 3, 300, "osd"), 0);
    CHECK_EQ(image_create(&client, "rbd", "a", 4096), 0);
    CHECK_EQ(pool_remove(&client, "rbd"), -ERR_NOT_EMPTY);
    CHECK(strstr(said(&client), "1 image (such as 'rbd/a')"));
    CHECK_EQ(image_remove(&client, "rbd", "a"), 0);
    CHECK_EQ(get_map(&client, 0), 0);
    uint64_t epoch = client.answer->map->epoch;
    CHECK_EQ(pool_remove(&client, "rbd"), 0);
    CHECK_EQ(pool_remove(&client, "rbd"), -ERR_NOT_FOUND);
    CHECK_EQ(image_create(&client, "rbd", "a", 4096), -ERR_NOT_FOUND);

    /* The name is free at once; the id is not used again. */
    CHECK_EQ(pool_create(&client, "rbd", 3, 8, "osd"), 0);
    CHECK_EQ(client.answer->id, 2);

    /* Two of three have deleted their data: the order stands, through a restart too. */
    osds_confirm(osds, 2);
    world_restart_mon(w);
    WAIT_FOR(w, 5000,
             rpc_peer_is_open(osds[0].peer) && rpc_peer_is_open(osds[1].peer) &&
                 rpc_peer_is_open(osds[2].peer));
    for (uint8_t i = 0; i < 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        CHECK_EQ(osd_boot(&osds[i], i + 1, 0, 1, address), 0);
    }
    osds_confirm(osds, 2);
    world_run_ms(w, 500);
    CHECK_EQ(get_map(&client, epoch), 0);
    for (size_t i = 0; i < client.answer->map->n_pg; i++)
        CHECK(!client.answer->map->pg[i]->removed);
    osds_confirm(osds, 3);
    world_run_ms(w, 1500);
    count_map(&client, epoch, &pools, &pgs, &parts);
    CHECK_EQ(pools, 2);
    CHECK_EQ(pgs, 308); /* 300 markers */
    count_map(&client, 0, &pools, &pgs, &parts);
    CHECK_EQ(pools, 1);
    CHECK_EQ(pgs, 8);

    /* The markers go when every OSD has saved a map with them, not before; first those of PGs. */
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;
    report.epoch = client.answer->map->epoch;
    for (uint32_t known = 1; known <= 3; known++) {
        count_map(&client, epoch, &pools, &pgs, &parts);
        CHECK_EQ(pools, 2);
        CHECK_EQ(pgs, 308);
        for (uint32_t i = 0; i < known; i++)
            CHECK_EQ(osd_report(&osds[i], 0, &report), 0);
        world_run_ms(w, 500);
    }
    world_run_ms(w, 1500);
    for (int i = 0; i < 2; i++) {
        count_map(&client, epoch, &pools, &pgs, &parts);
        CHECK_EQ(pools, 1);
        CHECK_EQ(pgs, 8);
        world_crash_mon(w); /* in the store, too */
    }
    CHECK_EQ(pool_create(&client, "new", 1, 1, "osd"), 0);
    CHECK_EQ(client.answer->id, 3);
    callers_stop(osds, 3);
    caller_stop(&client);
    world_free(w);
}

static uint32_t pgs_chosen(struct caller *client, const char *name, uint32_t replicas)
{
    CHECK_EQ(pool_create(client, name, replicas, 0, "osd"), 0);
    return client->answer->pg_count;
}

/* Without a count: by the shards that there are, and their load. */
static void chooses_pg_counts(void)
{
    struct world *w = world_new();
    struct caller client, osds[3];
    char name[8] = "a";

    client_start(&client, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pgs_chosen(&client, "p3", 3), 64);
    CHECK_EQ(pgs_chosen(&client, "p2", 2), 64);
    CHECK_EQ(pgs_chosen(&client, "p1", 1), 128);
    for (; *name < 'f'; ++*name)
        CHECK(pgs_chosen(&client, name, 3) == (*name <= 'b' ? 64 : 16));
    CHECK_EQ(pool_create(&client, "odd", 3, 100, "osd"), 0);
    CHECK(strstr(said(&client), "not a power of two"));
    callers_stop(osds, 3);
    caller_stop(&client);
    world_free(w);
}

/* Where an OSD stands counts, and stays known when it starts without saying so. */
static void domains_are_of_the_map(void)
{
    struct world *w = world_new();
    struct caller client, osds[3];
    static const char *const zones[] = {"a", "a", "b"};

    client_start(&client, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&client, "p", 2, 16, "zone"), -ERR_TOO_FEW_OSDS);
    for (int again = 0; again < 2; again++)
        for (uint32_t i = 0; i < 3; i++) {
            char address[32];
            snprintf(address, sizeof(address), "10.0.2.%u:7000", i);
            caller_stop(&osds[i]);
            osd_start(&osds[i], w, i, (uint64_t)again + 2);
            osds[i].zone = again ? NULL : zones[i];
            CHECK_EQ(osd_boot(&osds[i], (uint8_t)(i + 1), 0, 1, address), 0);
        }
    CHECK_EQ(pool_create(&client, "p", 3, 16, "zone"), -ERR_TOO_FEW_OSDS);
    CHECK(strstr(said(&client), "there are 2"));
    CHECK_EQ(pool_create(&client, "p", 2, 16, "zone"), 0);
    CHECK_EQ(get_map(&client, 0), 0);
    for (size_t i = 0; i < client.answer->map->n_pg; i++) {
        const Fb__Pg *pg = client.answer->map->pg[i];
        CHECK((pg->member[0]->osd == 2) != (pg->member[1]->osd == 2));
    }
    callers_stop(osds, 3);
    caller_stop(&client);
    world_free(w);
}

/* A shard has a replica of a PG that its map does not have: the one of this number, with one member. */
static void report_child(struct caller *osd, uint32_t number, uint32_t replica)
{
    Fb__PgMember member = FB__PG_MEMBER__INIT, *members = &member;
    Fb__PgReport row = FB__PG_REPORT__INIT, *rows = &row;
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    member.replica = replica;
    row.pg = 1ull << 32 | number;
    row.unlisted = true;
    row.group = &members;
    row.n_group = 1;
    report.pg = &rows;
    report.n_pg = 1;
    CHECK_EQ(osd_report(osd, 0, &report), 0);
}

static const Fb__Pg *pg_of_map(struct caller *client, uint32_t number, uint32_t *ret_count)
{
    CHECK_EQ(get_map(client, 0), 0);
    const Fb__ClusterMap *map = client->answer->map;
    *ret_count = map->pool[0]->pg_count;
    for (size_t i = 0; i < map->n_pg; i++)
        if (map->pg[i]->id == (1ull << 32 | number))
            return map->pg[i];
    return NULL;
}

/* More PGs come as they are reported, in their order, and not otherwise. */
static void splits(void)
{
    struct world *w = world_new();
    struct caller client, osd;
    uint32_t count;

    client_start(&client, w, 1);
    osds_up(w, &osd, 1);
    CHECK_EQ(pool_create(&client, "p", 1, 8, "osd"), 0);
    osds_confirm(&osd, 1); /* they are born */
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(osd_report(&osd, 0, NULL), 0);
        world_run_ms(w, 1000);
    }
    CHECK_EQ(pool_set_pgs(&client, "p", 7), -ERR_INVALID);
    CHECK(strstr(said(&client), "not merged"));
    CHECK_EQ(pool_set_pgs(&client, "p", 65537), -ERR_INVALID);
    CHECK_EQ(pool_set_pgs(&client, "p", 8192), -ERR_TOO_LARGE);
    CHECK(strstr(said(&client), "room for 4096"));
    CHECK_EQ(pool_set_pgs(&client, "q", 16), -ERR_NOT_FOUND);
    CHECK_EQ(pool_set_pgs(&client, "p", 16), 0);
    report_child(&osd, 9, 1); /* not its turn */
    report_child(&osd, 8, 2); /* a number that the parent never gave out */
    world_run_ms(w, 500);
    CHECK(!pg_of_map(&client, 8, &count));
    CHECK_EQ(count, 8);
    report_child(&osd, 8, 1);
    report_child(&osd, 8, 1);
    world_run_ms(w, 500);
    const Fb__Pg *child = pg_of_map(&client, 8, &count);
    CHECK_EQ(count, 9);
    CHECK(child && child->born && child->split && child->n_member == 1 && child->replica_next == 2);
    /* Nothing is wrong with it because nobody has reported of it yet; but before long there is. */
    CHECK(has_problem(&client, "8 PGs have no leader"));
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(osd_report(&osd, 0, NULL), 0);
        world_run_ms(w, 1000);
    }
    CHECK(has_problem(&client, "9 PGs have no leader"));
    world_crash_mon(w);
    CHECK(pg_of_map(&client, 8, &count));
    CHECK_EQ(count, 9);
    caller_stop(&osd);
    caller_stop(&client);
    world_free(w);
}

/* All PGs confirm the one order that there is. */
static void confirm_order(struct caller *osd, uint64_t image, uint64_t generation, uint32_t pgs)
{
    Fb__PgConfirm rows[16], *pointers[16];
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    for (uint32_t i = 0; i < pgs; i++) {
        fb__pg_confirm__init(&rows[i]);
        rows[i].pg = 1ull << 32 | i;
        rows[i].image = image;
        rows[i].generation = generation;
        pointers[i] = &rows[i];
    }
    report.confirm = pointers;
    report.n_confirm = pgs;
    CHECK_EQ(osd_report(osd, 0, &report), 0);
}

/* A split beside an order, with an outcome that is known at once, or only when the store is read again. */
static void splits_beside_an_order(void)
{
    for (int known = 0; known < 2; known++) {
        struct world *w = world_new();
        struct caller client, osd;
        uint32_t count;

        client_start(&client, w, 1);
        osds_up(w, &osd, 1);
        CHECK_EQ(pool_create(&client, "p", 1, 8, "osd"), 0);
        osds_confirm(&osd, 1);
        world_run_ms(w, 1000);
        CHECK_EQ(image_create(&client, "p", "i", 1u << 30), 0);
        uint64_t image = client.answer->id;
        CHECK_EQ(image_resize(&client, "p", "i", 2u << 30), 0);
        confirm_order(&osd, image, 2, 7);
        CHECK_EQ(pool_set_pgs(&client, "p", 16), 0);
        w->trouble = FAIL_AFTER;
        w->trouble_at = known ? 0 : w->txns + 1;
        report_child(&osd, 8, 1);
        world_run_ms(w, 3000);
        CHECK(pg_of_map(&client, 8, &count));
        CHECK_EQ(count, 9);
        confirm_order(&osd, image, 2, 8);
        world_run_ms(w, 500);
        CHECK_EQ(image_resize(&client, "p", "i", 3u << 30), -ERR_BUSY);
        confirm_order(&osd, image, 2, 9);
        world_run_ms(w, 500);
        CHECK_EQ(image_resize(&client, "p", "i", 3u << 30), 0);
        caller_stop(&osd);
        caller_stop(&client);
        world_free(w);
    }
}

/* What is to be split fits on the shards, by what these say, with all that other pools are to have. */
static void splits_that_fit(void)
{
    struct world *w = world_new();
    struct caller client, osd;

    client_start(&client, w, 1);
    osds_up(w, &osd, 1);
    osd.pgs_max = 20;
    CHECK_EQ(osd_boot(&osd, 1, 0, 1, map_osd(&client, 0)->shard[0]->address), 0);
    CHECK_EQ(pool_create(&client, "p", 1, 8, "osd"), 0);
    CHECK_EQ(pool_create(&client, "q", 1, 4, "osd"), 0);
    CHECK_EQ(pool_set_pgs(&client, "p", 17), -ERR_TOO_LARGE);
    CHECK(strstr(said(&client), "room for 20"));
    CHECK_EQ(pool_set_pgs(&client, "p", 16), 0);
    CHECK_EQ(pool_set_pgs(&client, "q", 5), -ERR_TOO_LARGE);
    CHECK(!has_problem(&client, "holds as many replicas"));
    /* It has room for less when it is back. */
    osd.pgs_max = 12;
    CHECK_EQ(osd_boot(&osd, 1, 0, 1, map_osd(&client, 0)->shard[0]->address), 0);
    for (int i = 0; i < 65; i++) {
        CHECK_EQ(osd_report(&osd, 0, NULL), 0);
        world_run_ms(w, 1000);
    }
    CHECK(has_problem(&client, "osd.0 shard 0 holds as many replicas as it can"));
    caller_stop(&osd);
    caller_stop(&client);
    world_free(w);
}

int main(void)
{
    TEST(creates);
    TEST(refuses);
    TEST(creates_large_ones);
    TEST(plans_in_turns);
    TEST(removes);
    TEST(chooses_pg_counts);
    TEST(splits);
    TEST(splits_beside_an_order);
    TEST(splits_that_fit);
    TEST(domains_are_of_the_map);
    return tap_done();
}
