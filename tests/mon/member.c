/* SPDX-License-Identifier: Apache-2.0
 *
 * PGs get other members: healed, drained, spread; nothing is dropped that can be a member again. With
 * -DFASTBLOCK_PLANT the names of planted bugs are arguments.
 */
#include <string.h>

#include "tests/mon/groups.h"
#include "tests/plants.h"

#define OUT_AFTER 20

static uint32_t members_of(const struct play *p, uint32_t pg)
{
    return p->pgs[pg].count;
}

static bool all_have(const struct play *p, uint32_t replicas)
{
    for (uint32_t n = 0; n < p->pg_count; n++)
        if (members_of(p, n) != replicas)
            return false;
    return true;
}

static uint32_t left_over(const struct play *p, uint32_t osd)
{
    uint32_t count = 0;

    for (uint32_t n = 0; n < p->pg_count; n++)
        count += p->exists[osd][n] != 0;
    return count;
}

static bool pg_is(const struct play *p, uint32_t n, uint32_t osd)
{
    for (uint32_t m = 0; m < p->pgs[n].count; m++)
        if (p->pgs[n].member[m].osd == osd)
            return true;
    return false;
}

/* One is killed for good: its PGs are healed elsewhere, nothing else moves, and it can be removed. */
static void heals(void)
{
    struct play *p = play_new(5, OUT_AFTER);

    play_pool(p, 3, 20);
    uint32_t lost = play_replicas(p, 4);
    CHECK_EQ(lost, 12);
    play_kill(p, 4);
    play_run(p, OUT_AFTER - 5);
    CHECK_EQ(p->copies, 0);
    play_run(p, 30);
    CHECK_EQ(play_replicas(p, 4), 0);
    CHECK(all_have(p, 3));
    CHECK_EQ(p->copies, lost);
    CHECK(p->most_moves <= 4);
    /* Its replicas are still to be deleted, if it ever comes back; when it is removed, they are gone with it.
     */
    CHECK_EQ(play_unsettled(p), lost);
    CHECK_EQ(osd_change(&p->client, 4, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), 0);
    play_run(p, 2);
    CHECK_EQ(play_unsettled(p), 0);
    play_run(p, 20);
    CHECK_EQ(p->copies, lost);
    play_free(p);
}

/* An operator has chosen who is to lead a PG, and that one leaves it: then it is balanced like any other. */
static void the_chosen_leader_leaves(void)
{
    struct play *p = play_new(4, OUT_AFTER);
    Fb__PgLeader body = FB__PG_LEADER__INIT;
    REQUEST(pg_leader, PG_LEADER);

    play_pool(p, 3, 1);
    body.pg = 1ull << 32;
    body.osd = play_item(p, 0)->member[1]->osd;
    CHECK_EQ(call(&p->client, &request), 0);
    p->pgs[0].leader = body.osd;
    p->pgs[0].term++;
    play_run(p, 1);
    CHECK_EQ(osd_change(&p->client, body.osd, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    CHECK(play_settle(p, 30));
    CHECK(!pg_is(p, 0, body.osd));
    uint32_t first = play_item(p, 0)->member[0]->osd, leader = play_item(p, 0)->member[1]->osd;
    p->pgs[0].leader = leader;
    p->pgs[0].term++;
    p->osds[leader].transfer_events = 0;
    play_run(p, 20);
    CHECK(p->osds[leader].transfer_events > 0);
    CHECK_EQ(p->osds[leader].transfer_osd, first);
    play_free(p);
}

/* One dies for good before its replicas of a new pool are there. Once it is out nobody waits for it; nor when
 * it is given up. */
static void dies_before_its_births(void)
{
    for (int lost = 0; lost < 2; lost++) {
        struct play *p = play_new(5, lost ? 0 : OUT_AFTER);

        play_kill(p, 4);
        play_pool(p, 3, 20);
        CHECK_EQ(play_replicas(p, 4), 12);
        play_run(p, OUT_AFTER - 10);
        for (uint32_t n = 0; n < p->pg_count; n++)
            CHECK(!play_item(p, n)->born == pg_is(p, n, 4));
        if (lost)
            CHECK_EQ(osd_change(&p->client, 4, FB__OSD_ACTION__OSD_ACTION_LOST, 0), 0);
        play_run(p, 40);
        CHECK_EQ(play_replicas(p, 4), 0);
        CHECK(all_have(p, 3));
        if (!lost)
            play_start(p, 4);
        CHECK(play_settle(p, 60));
        CHECK(all_have(p, 3));
        play_free(p);
    }
}

/* One that cannot make its replicas is ordered out, and its process stopped only then. */
static void is_out_before_it_dies(void)
{
    struct play *p = play_new(5, 0);

    play_kill(p, 4);
    play_pool(p, 3, 20);
    CHECK_EQ(play_replicas(p, 4), 12);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->exists[4][n] = 0;
    play_start(p, 4);
    CHECK_EQ(osd_change(&p->client, 4, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 10);
    for (uint32_t n = 0; n < p->pg_count; n++)
        CHECK(!play_item(p, n)->born == pg_is(p, n, 4));
    play_kill(p, 4);
    play_run(p, 60);
    CHECK_EQ(play_replicas(p, 4), 0);
    CHECK(all_have(p, 3));
    play_free(p);
}

/* Two of three die before: what is not there yet of a PG is still to come when they are back. */
static void most_die_before_their_births(void)
{
    struct play *p = play_new(5, 0);
    uint32_t unborn = 0;

    play_kill(p, 3);
    play_kill(p, 4);
    play_pool(p, 3, 20);
    CHECK_EQ(osd_change(&p->client, 3, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    CHECK_EQ(osd_change(&p->client, 4, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 10);
    for (uint32_t n = 0; n < p->pg_count; n++) {
        CHECK(!play_item(p, n)->born == (pg_is(p, n, 3) && pg_is(p, n, 4)));
        unborn += !play_item(p, n)->born;
    }
    CHECK(unborn > 0);
    play_start(p, 3);
    play_run(p, 5);
    for (uint32_t n = 0; n < p->pg_count; n++)
        CHECK(play_item(p, n)->born);
    play_free(p);
}

/* A shard fails before its replicas of a new pool are there, and its OSD lives: once what it has is made anew
 * elsewhere, so is what it never had. */
static void shard_fails_before_its_births(void)
{
    struct play *p = play_new(6, OUT_AFTER);

    p->failed[5] = true; /* it has not said so yet */
    play_pool(p, 3, 20);
    CHECK(play_replicas(p, 5) > 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->exists[5][n] = 0;
    play_run(p, OUT_AFTER - 10);
    for (uint32_t n = 0; n < p->pg_count; n++)
        CHECK(!play_item(p, n)->born == pg_is(p, n, 5));
    play_run(p, 40);
    CHECK_EQ(play_replicas(p, 5), 0);
    CHECK(all_have(p, 3));
    p->failed[5] = false;
    play_kill(p, 5);
    play_start(p, 5);
    CHECK(play_settle(p, 60));
    CHECK(all_have(p, 3));
    play_free(p);
}

/* Its device dies, and the process lives: after the same time its replicas are made anew, and what it had is
 * deleted when it is started again. */
static void device_dies(void)
{
    struct play *p = play_new(6, OUT_AFTER);

    play_pool(p, 3, 20);
    uint32_t had = play_replicas(p, 5);
    CHECK(had > 0);
    p->failed[5] = true;
    play_run(p, OUT_AFTER - 5);
    CHECK_EQ(p->copies, 0);
    CHECK(has_problem(&p->client, "its replicas are made anew elsewhere in "));
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, true), 0);
    play_run(p, 15);
    CHECK_EQ(p->copies, 0);
    CHECK(has_problem(&p->client, "its replicas stay there, because noout is set"));
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, false), 0);
    /* Of six one may be away, not two. */
    p->failed[4] = true;
    play_run(p, 5);
    CHECK_EQ(p->copies, 0);
    CHECK(has_problem(&p->client, "more than one OSD in four"));
    p->failed[4] = false;
    play_run(p, 30);
    CHECK_EQ(p->copies, had);
    CHECK_EQ(play_replicas(p, 5), 0);
    CHECK(all_have(p, 3));
    CHECK(p->most_moves <= 4);
    CHECK(has_problem(&p->client, "its replicas are made anew elsewhere"));
    p->failed[5] = false;
    play_kill(p, 5);
    play_start(p, 5);
    CHECK(play_settle(p, 60));
    CHECK(!has_problem(&p->client, "took itself out"));
    CHECK(play_replicas(p, 5) > 0);
    play_free(p);
}

/* Those whose data an operator has had moved are none of those that may not be away together. */
static void devices_die_one_by_one(void)
{
    struct play *p = play_new(8, OUT_AFTER);

    play_pool(p, 3, 20);
    for (uint32_t osd = 6; osd < 8; osd++) {
        p->failed[osd] = true;
        play_run(p, 1);
        CHECK_EQ(osd_change(&p->client, osd, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
        play_run(p, 60);
        CHECK_EQ(play_replicas(p, osd), 0);
    }
    CHECK(play_replicas(p, 5) > 0);
    p->failed[5] = true;
    play_run(p, OUT_AFTER + 60);
    CHECK_EQ(play_replicas(p, 5), 0);
    CHECK(all_have(p, 3));
    play_free(p);
}

/* It comes back after it was healed around: what it had is deleted there, and nothing else. */
static void comes_back(void)
{
    struct play *p = play_new(5, OUT_AFTER);

    play_pool(p, 3, 20);
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, true), 0);
    play_kill(p, 4);
    play_run(p, OUT_AFTER + 30);
    CHECK_EQ(left_over(p, 4), 12);
    play_start(p, 4);
    CHECK(play_settle(p, 60));
    CHECK_EQ(left_over(p, 4), 0);
    CHECK_EQ(play_replicas(p, 4), 0);
    CHECK_EQ(p->copies, 12);
    /* Without the flag it gets its share again. */
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, false), 0);
    CHECK(play_settle(p, 60));
    CHECK(play_replicas(p, 4) >= 11 && play_replicas(p, 4) <= 13);
    CHECK(p->copies <= 12 + 13);
    play_free(p);
}

static void drains(void)
{
    struct play *p = play_new(5, OUT_AFTER);

    play_pool(p, 3, 20);
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), -ERR_NOT_EMPTY);
    CHECK(play_settle(p, 60));
    CHECK_EQ(play_replicas(p, 0), 0);
    CHECK_EQ(left_over(p, 0), 0);
    CHECK_EQ(p->copies, 12);
    CHECK(all_have(p, 3));
    CHECK(p->most_moves <= 4);
    play_free(p);
}

static void grows(void)
{
    struct play *p = play_new(3, OUT_AFTER);

    play_pool(p, 3, 24);
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, true), 0);
    play_add(p);
    play_run(p, 15);
    CHECK_EQ(p->copies, 0);
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, false), 0);
    CHECK(play_settle(p, 60));
    for (uint32_t o = 0; o < 4; o++)
        CHECK_EQ(play_replicas(p, o), 18);
    CHECK_EQ(p->copies, 18);
    play_free(p);
}

/* Nothing is moved to an OSD that is nearly full, also when the others then have more. */
static void spares_the_full(void)
{
    struct play *p = play_new(4, 0);

    play_pool(p, 3, 16);
    uint32_t had = play_replicas(p, 1);
    p->free_bytes[1] = (8ull << 30) / 11;
    play_run(p, 1);
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 40);
    CHECK_EQ(play_replicas(p, 1), had);
    CHECK(play_replicas(p, 0) > 0);
    p->free_bytes[1] = 4ull << 30;
    CHECK(play_settle(p, 60));
    CHECK_EQ(play_replicas(p, 1), 16);
    CHECK_EQ(play_replicas(p, 0), 0);
    play_free(p);
}

/* What lacks a replica does not wait for one that is full while others have room; and when that one has room
 * again it gets its share. */
static void heals_beside_the_full(void)
{
    struct play *p = play_new(6, OUT_AFTER);

    play_pool(p, 3, 24);
    uint32_t had = play_replicas(p, 1);
    p->free_bytes[1] = (8ull << 30) / 11;
    play_run(p, 1);
    play_kill(p, 0);
    play_run(p, OUT_AFTER + 40);
    CHECK_EQ(play_replicas(p, 0), 0);
    CHECK_EQ(play_replicas(p, 1), had);
    CHECK(all_have(p, 3));
    uint64_t copies = p->copies;
    play_run(p, 30);
    CHECK_EQ(p->copies, copies); /* nothing moves to and fro */
    p->free_bytes[1] = 4ull << 30;
    play_run(p, 60);
    CHECK(play_replicas(p, 1) >= 14);
    CHECK(p->copies <= copies + 4);
    play_free(p);
}

static uint32_t times_all_well(struct play *p)
{
    Fb__EventList body = FB__EVENT_LIST__INIT;
    REQUEST(event_list, EVENT_LIST);
    uint32_t times = 0;

    CHECK_EQ(call(&p->client, &request), 0);
    for (size_t i = 0; i < p->client.answer->n_events; i++)
        times += strstr(p->client.answer->events[i]->text, "all PGs have the members") != NULL;
    return times;
}

/* A drain comes to a halt for lack of space: then it is not said that all is as it should be. */
static void has_no_space_to_heal(void)
{
    struct play *p = play_new(4, 0);

    play_pool(p, 3, 40);
    CHECK_EQ(osd_change(&p->client, 1, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 1);
    for (uint32_t o = 0; o < 4; o++)
        p->free_bytes[o] = (8ull << 30) / 11;
    play_run(p, 60);
    CHECK(play_replicas(p, 1) > 0 && play_replicas(p, 1) < 30);
    CHECK_EQ(times_all_well(p), 0);
    for (uint32_t o = 0; o < 4; o++)
        p->free_bytes[o] = 8ull << 30;
    play_run(p, 60);
    CHECK_EQ(play_replicas(p, 1), 0);
    CHECK_EQ(times_all_well(p), 1);
    play_free(p);
}

/* All seven members of PGs are to be others, and a group has room for twelve. */
static void all_of_seven_leave(void)
{
    struct play *p = play_new(7, 0);

    play_pool(p, 7, 4);
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, true), 0);
    while (p->osd_count < 14)
        play_add(p);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = true; /* nothing moves before all are out */
    play_run(p, 4);
    for (uint32_t o = 0; o < 7; o++)
        CHECK_EQ(osd_change(&p->client, o, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = false;
    play_run(p, 60);
    for (uint32_t o = 0; o < 7; o++)
        CHECK_EQ(play_replicas(p, o), 0);
    CHECK(all_have(p, 7));
    CHECK_EQ(p->copies, 28);
    play_free(p);
}

static void other_replicas(void)
{
    struct play *p = play_new(6, OUT_AFTER);

    play_pool(p, 3, 12);
    CHECK_EQ(pool_set(&p->client, "none", 5, false), -ERR_NOT_FOUND);
    CHECK_EQ(pool_set(&p->client, "p", 7, false), -ERR_TOO_FEW_OSDS);
    CHECK_EQ(pool_set(&p->client, "p", 5, false), 0);
    CHECK(play_settle(p, 60));
    CHECK(all_have(p, 5));
    CHECK(p->copies >= 24 && p->copies <= 26); /* and evenly */
    CHECK_EQ(pool_set(&p->client, "p", 3, false), 0);
    CHECK(play_settle(p, 60));
    CHECK(all_have(p, 3));
    CHECK_EQ(pool_set(&p->client, "p", 2, false), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "a majority of two is two") &&
          strstr(said(&p->client), "--yes-no-failover"));
    CHECK_EQ(pool_set(&p->client, "p", 2, true), 0);
    CHECK(play_settle(p, 60));
    CHECK(all_have(p, 2));
    play_free(p);
}

/* Nothing moves without a leader that reports, nor soon after the monitor's start. */
static void waits_for_leaders(void)
{
    struct play *p = play_new(5, OUT_AFTER);

    play_pool(p, 3, 20);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = true;
    play_run(p, 5);
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 20);
    CHECK_EQ(play_unsettled(p), 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = false;
    world_crash_mon(p->w);
    for (uint32_t o = 0; o < 5; o++) {
        play_kill(p, o);
        play_start(p, o);
    }
    for (int second = 0; second < 4; second++) {
        play_run(p, 1);
        CHECK_EQ(play_unsettled(p), 0);
    }
    CHECK(play_settle(p, 60));
    CHECK_EQ(play_replicas(p, 0), 0);
    play_free(p);
}

/* A new member's OSD dies before it is one: another takes its place. */
static void target_dies(void)
{
    struct play *p = play_new(6, 0);
    uint32_t target = PLAY_OSDS;

    play_pool(p, 3, 12);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].stuck = true;
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 8);
    CHECK(play_unsettled(p) > 0);
    for (uint32_t n = 0; n < p->pg_count && target == PLAY_OSDS; n++) {
        const Fb__Pg *item = play_item(p, n);
        for (size_t i = 0; i < item->n_wanted; i++)
            if (!pg_is(p, n, item->wanted[i]->osd))
                target = item->wanted[i]->osd;
    }
    CHECK(target != PLAY_OSDS);
    play_kill(p, target);
    play_run(p, 70);
    uint32_t leaving = 0;
    for (uint32_t n = 0; n < p->pg_count; n++) {
        const Fb__Pg *item = play_item(p, n);
        leaving += (uint32_t)item->n_leaving;
        CHECK_EQ(item->n_dropped, 0); /* a leader with the older list could still take it in */
        for (size_t i = 0; i < item->n_wanted; i++)
            CHECK(item->wanted[i]->osd != target || pg_is(p, n, target));
    }
    CHECK(leaving > 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].stuck = false;
    play_run(p, 30);
    CHECK_EQ(play_replicas(p, 0), 0);
    play_start(p, target);
    CHECK(play_settle(p, 60));
    CHECK(all_have(p, 3));
    play_free(p);
}

/* A leader that has an older list carries that out: nothing of it may have been deleted. */
static void stale_leader(void)
{
    struct play *p = play_new(6, 0);
    uint32_t n = 0;

    play_pool(p, 3, 1);
    uint32_t first = p->pgs[0].member[0].osd;
    p->pgs[n].stuck = true;
    CHECK_EQ(osd_change(&p->client, first, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 8);
    const Fb__Pg *item = play_item(p, n);
    CHECK_EQ(item->n_wanted, 3);
    struct play_pg *pg = &p->pgs[n];
    uint32_t target = PLAY_OSDS;
    for (size_t i = 0; i < item->n_wanted; i++) {
        pg->stale[i] = (struct play_member){item->wanted[i]->replica, item->wanted[i]->osd, 0, false};
        if (!pg_is(p, n, item->wanted[i]->osd))
            target = item->wanted[i]->osd;
    }
    uint64_t old_epoch = item->wanted_epoch;
    /* The list is replaced. */
    CHECK_EQ(osd_change(&p->client, target, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 8);
    CHECK(play_item(p, n)->wanted_epoch > old_epoch);
    CHECK_EQ(play_item(p, n)->n_leaving, 1);
    CHECK_EQ(osd_change(&p->client, target, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), -ERR_NOT_EMPTY);
    /* A leader that knows only the old one reports a group without the new member, and then makes it one. */
    pg->index++;
    play_round(p);
    CHECK_EQ(play_item(p, n)->group_index, pg->index);
    for (uint32_t i = 0; i < 3; i++) {
        pg->member[i] = pg->stale[i];
        pg->replica_max = MAX(pg->replica_max, pg->stale[i].replica);
    }
    pg->index += 8;
    pg->epoch = old_epoch;
    pg->stale_count = 3;
    pg->stale_epoch = old_epoch;
    pg->stuck = false;
    play_run(p, 6);
    CHECK(pg_is(p, n, target) && !pg_is(p, n, first));
    CHECK(p->exists[target][n]);
    /* Then it learns of the newer one. */
    pg->stale_count = 0;
    CHECK(play_settle(p, 60));
    CHECK(!pg_is(p, n, target) && !pg_is(p, n, first));
    CHECK(all_have(p, 3));
    CHECK_EQ(left_over(p, target), 0);
    CHECK_EQ(left_over(p, first), 0);
    play_free(p);
}

/* What leaders say is checked. */
static void lies(void)
{
    struct play *p = play_new(4, 0);

    play_pool(p, 3, 1);
    struct play_pg *pg = &p->pgs[0], was = *pg;
    pg->index = 50;
    pg->member[1].replica = 77; /* never given out */
    play_run(p, 2);
    CHECK_EQ(play_item(p, 0)->group_index, 0);
    *pg = was;
    pg->index = 51;
    pg->member[1].osd = 9; /* not there */
    play_run(p, 2);
    CHECK_EQ(play_item(p, 0)->group_index, 0);
    *pg = was;
    pg->index = 52;
    pg->member[2].replica = pg->member[1].replica;
    play_run(p, 2);
    CHECK_EQ(play_item(p, 0)->group_index, 0);
    *pg = was;
    pg->index = 53;
    play_run(p, 2);
    CHECK_EQ(play_item(p, 0)->group_index, 53);
    CHECK_EQ(play_unsettled(p), 0);
    play_free(p);
}

/* The monitor dies at any time; and a pool is removed while its PGs move. */
static void monitor_dies(void)
{
    struct play *p = play_new(5, OUT_AFTER);

    play_pool(p, 3, 20);
    play_run(p, 8);
    CHECK_EQ(osd_change(&p->client, 1, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    for (uint32_t k = 0; k < 6; k++) {
        play_run(p, 1);
        play_round(p);
        world_crash_mon(p->w);
        for (uint32_t o = 0; o < 5; o++) {
            play_kill(p, o);
            play_start(p, o);
        }
        play_run(p, 8);
    }
    CHECK(play_settle(p, 60));
    CHECK_EQ(play_replicas(p, 1), 0);
    CHECK_EQ(left_over(p, 1), 0);
    CHECK_EQ(p->copies, 12);
    play_free(p);
}

/* A shard has lost its replicas: they are made anew under other numbers, elsewhere or, with no other OSD,
 * there. */
static void replicas_lost(uint32_t osds)
{
    struct play *p = play_new(osds, 0);

    play_pool(p, 3, 8);
    p->tell_lost = true;
    for (uint32_t n = 0; n < p->pg_count; n++)
        if (pg_is(p, n, 2))
            p->exists[2][n] = 0;
    CHECK(play_settle(p, 60));
    CHECK(all_have(p, 3));
    for (uint32_t n = 0; n < p->pg_count; n++)
        for (uint32_t m = 0; m < 3; m++)
            CHECK_EQ(p->exists[p->pgs[n].member[m].osd][n], p->pgs[n].member[m].replica);
    CHECK(p->copies >= (osds == 3 ? 8u : 6u) && p->copies <= 8);
    play_free(p);
}

static void lost_replicas(void)
{
    replicas_lost(4);
    replicas_lost(3);
}

/* One that is being made is lost, and there is no other place for it. */
static void lost_while_it_is_made(void)
{
    struct play *p = play_new(4, 0);
    struct play_pg *pg = &p->pgs[0];

    play_pool(p, 3, 1);
    uint32_t first = pg->member[0].osd;
    p->tell_lost = true;
    CHECK_EQ(osd_change(&p->client, first, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    for (int rounds = 0; rounds < 100 && pg->count < 4; rounds++)
        play_round(p);
    CHECK_EQ(pg->count, 4);
    CHECK(pg->member[3].learner);
    pg->stuck = true;
    play_run(p, 2);
    CHECK_EQ(play_item(p, 0)->n_member, 4);
    p->exists[pg->member[3].osd][0] = 0;
    play_run(p, 2);
    pg->stuck = false;
    CHECK(play_settle(p, 30));
    CHECK(all_have(p, 3) && !pg_is(p, 0, first));
    play_free(p);
}

/* One that is being made is lost, and its OSD dies then: another one takes its place, and nobody else's. */
static void target_is_lost_and_dies(void)
{
    struct play *p = play_new(10, 0);
    struct play_pg *pg = &p->pgs[0];

    play_pool(p, 3, 1);
    uint32_t first = pg->member[0].osd, others[] = {pg->member[1].replica, pg->member[2].replica};
    p->tell_lost = true;
    CHECK_EQ(osd_change(&p->client, first, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    for (int rounds = 0; rounds < 100 && pg->count < 4; rounds++)
        play_round(p);
    CHECK(pg->count == 4 && pg->member[3].learner);
    pg->stuck = true;
    play_run(p, 2);
    uint32_t target = pg->member[3].osd;
    CHECK_EQ(play_item(p, 0)->wanted[0]->osd, target); /* in front of those that stay */
    pg->silent = true; /* the leader, so that nothing is done about it meanwhile */
    play_run(p, 10);
    p->exists[target][0] = 0;
    play_run(p, 2);
    play_kill(p, target);
    play_run(p, 70);
    pg->silent = pg->stuck = false;
    play_run(p, 60);
    CHECK(all_have(p, 3) && !pg_is(p, 0, first) && !pg_is(p, 0, target));
    for (uint32_t i = 0, stays = 0; i < 2; i++, stays = 0) {
        for (uint32_t m = 0; m < pg->count; m++)
            stays += pg->member[m].replica == others[i];
        CHECK_EQ(stays, 1);
    }
    play_free(p);
}

/* As many PGs as may move at once move to one that dies: others take its place all the same. */
static void target_dies_at_the_limit(void)
{
    struct play *p = play_new(5, 0);
    Fb__MovesLimit body = FB__MOVES_LIMIT__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    play_pool(p, 3, 1);
    request.call_case = FB__MON_REQUEST__CALL_MOVES_LIMIT;
    request.moves_limit = &body;
    body.moves = 1;
    CHECK_EQ(call(&p->client, &request), 0);
    uint32_t first = p->pgs[0].member[2].osd, target = PLAY_OSDS;
    p->pgs[0].stuck = true;
    CHECK_EQ(osd_change(&p->client, first, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 8);
    for (size_t i = 0; i < play_item(p, 0)->n_wanted; i++)
        if (!pg_is(p, 0, play_item(p, 0)->wanted[i]->osd))
            target = play_item(p, 0)->wanted[i]->osd;
    CHECK(target != PLAY_OSDS);
    play_kill(p, target);
    play_run(p, 70);
    p->pgs[0].stuck = false;
    play_run(p, 10);
    CHECK(all_have(p, 3) && !pg_is(p, 0, first) && !pg_is(p, 0, target));
    play_free(p);
}

/* PGs that were to move lose their leaders for good: they take none of the places of those that can. */
static void the_leaderless_are_in_nobodys_way(void)
{
    struct play *p = play_new(5, 0);
    Fb__MovesLimit body = FB__MOVES_LIMIT__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint32_t stuck = 0;

    play_pool(p, 3, 20);
    request.call_case = FB__MON_REQUEST__CALL_MOVES_LIMIT;
    request.moves_limit = &body;
    body.moves = 1;
    CHECK_EQ(call(&p->client, &request), 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].stuck = true;
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 8);
    for (uint32_t n = 0; n < p->pg_count; n++) {
        p->pgs[n].silent = play_item(p, n)->n_wanted;
        p->pgs[n].stuck = p->pgs[n].silent;
        stuck += p->pgs[n].silent;
    }
    CHECK(stuck > 0 && stuck < 12);
    play_run(p, 120);
    CHECK_EQ(play_replicas(p, 0), stuck);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = p->pgs[n].stuck = false;
    play_run(p, 60);
    CHECK_EQ(play_replicas(p, 0), 0);
    CHECK(all_have(p, 3));
    play_free(p);
}

/* A PG that is moved finds no room for all of it. That is said, and the OSD that leads it is not kept from
 * other moves. */
static void what_finds_no_room_is_in_nobodys_way(void)
{
    struct play *p = play_new(4, 0);
    Fb__MovesLimit body = FB__MOVES_LIMIT__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    char text[128];
    uint32_t n = 0;

    play_pool(p, 3, 16);
    request.call_case = FB__MON_REQUEST__CALL_MOVES_LIMIT;
    request.moves_limit = &body;
    body.moves = 1;
    CHECK_EQ(call(&p->client, &request), 0);
    play_add(p);
    p->no_room[4] = true;
    play_run(p, 20);
    while (n < p->pg_count && !play_item(p, n)->n_wanted)
        n++;
    uint32_t leader = p->pgs[n].leader, gone = (leader + 1) % 4;
    snprintf(text, sizeof(text),
             "osd.4 shard 0 has no room to make 1 replicas whole (such as that of PG %u.%x)",
             (uint32_t)(p->pgs[n].id >> 32), n);
    CHECK(has_problem(&p->client, text));
    p->free_bytes[4] = (8ull << 30) / 100;
    CHECK_EQ(osd_change(&p->client, gone, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 120);
    CHECK_EQ(play_replicas(p, gone), pg_is(p, n, gone));
    p->no_room[4] = false;
    p->free_bytes[4] = 8ull << 30;
    CHECK(play_settle(p, 120));
    CHECK(!has_problem(&p->client, "has no room"));
    CHECK_EQ(play_replicas(p, gone), 0);
    CHECK(all_have(p, 3));
    play_free(p);
}

/* Between the plan and the move the shard fails that a replica is to come to: none is made there. */
static void shard_fails(void)
{
    struct play *p = play_new(4, OUT_AFTER);

    play_pool(p, 3, 1);
    uint32_t spare = 0;
    while (pg_is(p, 0, spare))
        spare++;
    p->pgs[0].silent = true; /* it waits for its leader */
    play_run(p, 4);
    CHECK_EQ(osd_change(&p->client, p->pgs[0].member[0].osd, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 2);
    p->failed[spare] = true;
    play_run(p, 1);
    p->pgs[0].silent = false;
    play_run(p, 4);
    CHECK_EQ(play_item(p, 0)->n_wanted, 0);
    play_kill(p, spare);
    p->failed[spare] = false;
    play_start(p, spare);
    play_run(p, 10);
    CHECK_EQ(p->copies, 1);
    CHECK(pg_is(p, 0, spare));
    play_free(p);
}

/* A pool is removed while its PGs move: all replicas go, also those that are only wanted, or leaving. */
static void pool_goes(void)
{
    struct play *p = play_new(6, 0);

    play_pool(p, 3, 12);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].stuck = n % 2;
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 2);
    CHECK_EQ(osd_change(&p->client, 1, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 2);
    CHECK(play_unsettled(p) > 0);
    CHECK_EQ(pool_remove(&p->client, "p"), 0);
    p->pool_removed = true;
    play_run(p, 5);
    for (uint32_t o = 0; o < 6; o++)
        CHECK_EQ(left_over(p, o), 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        CHECK(!play_item(p, n) || play_item(p, n)->removed);
    play_free(p);
}

/* Members that are down count as none that serve: no change leaves a PG without a majority. */
static void keeps_a_majority(void)
{
    struct play *p = play_new(6, 0);

    play_pool(p, 5, 1);
    uint32_t down[2] = {p->pgs[0].member[0].osd, p->pgs[0].member[1].osd};
    play_kill(p, down[0]);
    play_kill(p, down[1]);
    play_run(p, 8);
    CHECK_EQ(p->pgs[0].count, 5);
    CHECK_EQ(pool_set(&p->client, "p", 3, false), 0);
    play_run(p, 20);
    uint32_t up = 0;
    for (uint32_t m = 0; m < p->pgs[0].count; m++)
        up += p->up[p->pgs[0].member[m].osd];
    CHECK(up * 2 > p->pgs[0].count);
    const Fb__Pg *item = play_item(p, 0);
    up = 0;
    for (size_t m = 0; m < item->n_wanted; m++)
        up += p->up[item->wanted[m]->osd];
    CHECK(!item->n_wanted || up * 2 > item->n_wanted);
    play_free(p);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    if (argc > 1) {
        TEST(stale_leader);
        TEST(keeps_a_majority);
        TEST(device_dies);
        TEST(waits_for_leaders);
        return tap_done();
    }
    TEST(heals);
    TEST(dies_before_its_births);
    TEST(is_out_before_it_dies);
    TEST(most_die_before_their_births);
    TEST(shard_fails_before_its_births);
    TEST(the_chosen_leader_leaves);
    TEST(device_dies);
    TEST(devices_die_one_by_one);
    TEST(comes_back);
    TEST(drains);
    TEST(grows);
    TEST(spares_the_full);
    TEST(heals_beside_the_full);
    TEST(has_no_space_to_heal);
    TEST(all_of_seven_leave);
    TEST(other_replicas);
    TEST(waits_for_leaders);
    TEST(target_dies);
    TEST(stale_leader);
    TEST(lies);
    TEST(monitor_dies);
    TEST(pool_goes);
    TEST(shard_fails);
    TEST(lost_replicas);
    TEST(lost_while_it_is_made);
    TEST(target_is_lost_and_dies);
    TEST(target_dies_at_the_limit);
    TEST(the_leaderless_are_in_nobodys_way);
    TEST(what_finds_no_room_is_in_nobodys_way);
    TEST(keeps_a_majority);
    return tap_done();
}
