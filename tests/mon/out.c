/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs go out when they are down for long, unless something speaks against it; what operators say of OSDs.
 */
#include <string.h>

#include "tests/mon/world.h"
#include "tests/plants.h"

#define OSDS_MAX  8
#define OUT_AFTER 20 /* seconds */

static struct caller osds[OSDS_MAX], client;
static uint32_t osd_count;

static struct world *start(uint32_t count)
{
    struct world *w = world_new();

    w->out_after_ns = OUT_AFTER * NS_PER_S;
    world_restart_mon(w);
    client_start(&client, w, 1);
    osd_count = count;
    osds_up(w, osds, count);
    return w;
}

static void stop(struct world *w)
{
    for (uint32_t i = 0; i < osd_count; i++)
        if (osds[i].peer)
            caller_stop(&osds[i]);
    caller_stop(&client);
    world_free(w);
}

static void kill_osd(uint32_t osd)
{
    caller_stop(&osds[osd]);
    osds[osd].peer = NULL;
}

static void start_osd(struct world *w, uint32_t osd, uint64_t incarnation)
{
    char address[32];

    snprintf(address, sizeof(address), "10.0.1.%u:%u", osd, 7000 + (uint32_t)incarnation);
    osd_start(&osds[osd], w, osd, incarnation);
    CHECK_EQ(osd_boot(&osds[osd], (uint8_t)(osd + 1), 0, 1, address), 0);
}

static void run(struct world *w, uint32_t seconds)
{
    for (uint32_t i = 0; i < 2 * seconds; i++) {
        for (uint32_t o = 0; o < osd_count; o++)
            if (osds[o].peer)
                osd_report(&osds[o], 0, NULL);
        world_run_ms(w, 500);
    }
}

static uint32_t out_of(uint32_t osd)
{
    return map_osd(&client, osd)->out;
}

static void down_for_long(void)
{
    struct world *w = start(5);

    CHECK_EQ(pool_create(&client, "p", 3, 8, "osd"), 0);
    kill_osd(4);
    run(w, OUT_AFTER - 4);
    CHECK(!map_osd(&client, 4)->up);
    CHECK_EQ(out_of(4), 0);
    run(w, 8);
    CHECK_EQ(out_of(4), 1);
    CHECK_EQ(map_osd(&client, 4)->weight, 1000);
    /* It comes back, and is in by itself. */
    start_osd(w, 4, 2);
    run(w, 3);
    CHECK_EQ(out_of(4), 0);
    /* A monitor that has just started does not know for how long it has been down. */
    kill_osd(4);
    run(w, OUT_AFTER - 4);
    world_crash_mon(w);
    for (uint32_t o = 0; o < 4; o++) {
        kill_osd(o);
        start_osd(w, o, 2);
    }
    run(w, OUT_AFTER - 4);
    CHECK_EQ(out_of(4), 0);
    run(w, 8);
    CHECK_EQ(out_of(4), 1);
    stop(w);
}

/* Nor does the outcome of the change that makes it down have to be known: it goes out no sooner for that. */
static void down_by_a_change_that_failed(void)
{
    struct world *w = start(5);

    CHECK_EQ(pool_create(&client, "p", 3, 8, "osd"), 0);
    run(w, OUT_AFTER + 5);
    kill_osd(4);
    w->trouble = FAIL_AFTER;
    w->trouble_at = w->txns + 1;
    run(w, OUT_AFTER - 4);
    CHECK(w->txns >= w->trouble_at);
    CHECK(!map_osd(&client, 4)->up);
    CHECK_EQ(out_of(4), 0);
    run(w, 8);
    CHECK_EQ(out_of(4), 1);
    stop(w);
}

static void not_too_many(void)
{
    struct world *w = start(8);

    CHECK_EQ(pool_create(&client, "p", 3, 8, "osd"), 0);
    for (uint32_t o = 5; o < 8; o++)
        kill_osd(o);
    run(w, OUT_AFTER + 10);
    for (uint32_t o = 5; o < 8; o++)
        CHECK_EQ(out_of(o), 0);
    start_osd(w, 5, 2);
    run(w, 3);
    CHECK_EQ(out_of(5), 0);
    CHECK_EQ(out_of(6), 1);
    CHECK_EQ(out_of(7), 1);
    stop(w);
}

static void not_below_the_domains(void)
{
    struct world *w = start(4);

    CHECK_EQ(pool_create(&client, "p", 4, 8, "osd"), 0);
    kill_osd(3);
    run(w, OUT_AFTER + 10);
    CHECK_EQ(out_of(3), 0);
    stop(w);
}

static void not_against_operators(void)
{
    struct world *w = start(5);

    CHECK_EQ(host_maintenance(&client, "nowhere", true), -ERR_NOT_FOUND);
    CHECK_EQ(host_maintenance(&client, "h4", true), 0);
    kill_osd(4);
    run(w, OUT_AFTER + 10);
    CHECK_EQ(out_of(4), 0);
    CHECK_EQ(cluster_set(&client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, true), 0);
    CHECK_EQ(host_maintenance(&client, "h4", false), 0);
    run(w, 5);
    CHECK_EQ(out_of(4), 0);
    CHECK_EQ(cluster_set(&client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, false), 0);
    run(w, 3);
    CHECK_EQ(out_of(4), 1);
    CHECK_EQ(cluster_set(&client, (Fb__ClusterFlag)99, true), -ERR_UNSUPPORTED);
    /* What an operator put out stays out when it comes up. */
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    start_osd(w, 4, 2);
    run(w, 3);
    CHECK_EQ(out_of(4), 2);
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_IN, 0), 0);
    CHECK_EQ(out_of(4), 0);
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_REWEIGHT, 1001), -ERR_INVALID);
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_REWEIGHT, 500), 0);
    CHECK_EQ(map_osd(&client, 4)->weight, 500);
    CHECK_EQ(osd_change(&client, 9, FB__OSD_ACTION__OSD_ACTION_OUT, 0), -ERR_NOT_FOUND);
    stop(w);
}

static bool has_replicas(uint32_t osd)
{
    bool any = false;

    CHECK_EQ(get_map(&client, 0), 0);
    for (size_t p = 0; p < client.answer->map->n_pg; p++)
        for (size_t m = 0; m < client.answer->map->pg[p]->n_member; m++)
            any |= client.answer->map->pg[p]->member[m]->osd == osd;
    return any;
}

static void removed_for_ever(void)
{
    struct world *w = start(5);

    /* One that is out gets no replicas of new pools. */
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    CHECK_EQ(osd_change(&client, 3, FB__OSD_ACTION__OSD_ACTION_REWEIGHT, 0), 0);
    CHECK_EQ(pool_create(&client, "p", 3, 8, "osd"), 0);
    CHECK(!has_replicas(4) && !has_replicas(3) && has_replicas(2));
    CHECK_EQ(osd_change(&client, 2, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), -ERR_NOT_EMPTY);
    CHECK(strstr(said(&client), "8 PGs") && strstr(said(&client), "fastblock osd drain osd.2"));
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), -ERR_LOCKED);
    kill_osd(4);
    run(w, 5);
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), 0);
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), 0);
    CHECK_EQ(osd_change(&client, 4, FB__OSD_ACTION__OSD_ACTION_IN, 0), -ERR_NOT_FOUND);
    CHECK(map_osd(&client, 4)->removed);
    /* Neither the process nor the device comes back. */
    osd_start(&osds[4], w, 4, 2);
    CHECK_EQ(osd_boot(&osds[4], 5, 0, 1, "10.0.1.4:7002"), -ERR_NOT_FOUND);
    CHECK(strstr(said(&osds[4]), "was removed"));
    CHECK_EQ(osd_report(&osds[4], 0, NULL), -ERR_NOT_FOUND);
    CHECK_EQ(osd_new(&client, 5, "h4", "", 1), -ERR_IDENTITY);
    CHECK_EQ(osd_new(&client, 6, "h4", "", 1), 0);
    CHECK_EQ(client.answer->osd, 5);
    /* The marker outlives the monitor. */
    world_crash_mon(w);
    CHECK(map_osd(&client, 4)->removed);
    stop(w);
}

static void events_are_told(void)
{
    struct world *w = start(2);
    Fb__EventList list = FB__EVENT_LIST__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint64_t last = 0;

    request.call_case = FB__MON_REQUEST__CALL_EVENT_LIST;
    request.event_list = &list;
    CHECK_EQ(call(&client, &request), 0);
    CHECK(client.answer->n_events >= 4);
    for (size_t i = 0; i < client.answer->n_events; i++) {
        CHECK(client.answer->events[i]->number > last);
        last = client.answer->events[i]->number;
    }
    list.after = last;
    CHECK_EQ(call(&client, &request), 0);
    CHECK_EQ(client.answer->n_events, 0);
    /* More than are remembered; then a new monitor: who follows misses nothing. */
    for (uint32_t i = 0; i < 700; i++)
        CHECK_EQ(cluster_set(&client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, i % 2 == 0), 0);
    CHECK_EQ(call(&client, &request), 0);
    CHECK_EQ(client.answer->n_events, 512);
    list.after = client.answer->events[511]->number;
    world_restart_mon(w);
    CHECK_EQ(cluster_set(&client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, true), 0);
    CHECK_EQ(call(&client, &request), 0);
    CHECK(client.answer->n_events >= 1);
    stop(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(down_for_long);
    TEST(down_by_a_change_that_failed);
    TEST(not_too_many);
    TEST(not_below_the_domains);
    TEST(not_against_operators);
    TEST(removed_for_ever);
    TEST(events_are_told);
    return tap_done();
}
