/* SPDX-License-Identifier: Apache-2.0
 *
 * PGs that lost their majority for good: when an order to go on with one replica is taken, and what becomes
 * of it. With -DFASTBLOCK_PLANT the names of planted bugs are arguments.
 */
#include <string.h>

#include "tests/mon/groups.h"
#include "tests/plants.h"

static int look(struct play *p, uint64_t pg)
{
    Fb__PgForceLook body = FB__PG_FORCE_LOOK__INIT;

    body.pg = pg;
    REQUEST(pg_force_look, PG_FORCE_LOOK);
    return call(&p->client, &request);
}

static int order(struct play *p, uint64_t pg, uint32_t survivor)
{
    Fb__PgForceOrder body = FB__PG_FORCE_ORDER__INIT;

    body.pg = pg;
    body.survivor = survivor;
    REQUEST(pg_force_order, PG_FORCE_ORDER);
    return call(&p->client, &request);
}

static int withdraw(struct play *p, uint64_t pg)
{
    Fb__PgForceOrder body = FB__PG_FORCE_ORDER__INIT;

    body.pg = pg;
    body.withdraw = true;
    REQUEST(pg_force_order, PG_FORCE_ORDER);
    return call(&p->client, &request);
}

static int acknowledge(struct play *p, uint64_t pg)
{
    Fb__PgForceAcknowledge body = FB__PG_FORCE_ACKNOWLEDGE__INIT;

    body.pg = pg;
    REQUEST(pg_force_acknowledge, PG_FORCE_ACKNOWLEDGE);
    return call(&p->client, &request);
}

static int lost(struct play *p, uint32_t osd)
{
    return osd_change(&p->client, osd, FB__OSD_ACTION__OSD_ACTION_LOST, 0);
}

/* The first `count` members' OSDs die, and are given up when all the rest has been heard. */
static void lose(struct play *p, const uint32_t *at, uint32_t count)
{
    for (uint32_t m = 0; m < count; m++)
        play_kill(p, at[m]);
    play_run(p, 8);
    for (uint32_t m = 0; m < count; m++)
        CHECK_EQ(lost(p, at[m]), 0);
    play_run(p, 1);
}

static const Fb__PgForceView *view(struct play *p, uint32_t n)
{
    CHECK_EQ(look(p, p->pgs[n].id), 0);
    CHECK_EQ(p->client.answer->n_force_views, 1);
    return p->client.answer->force_views[0];
}

/* A pool of one PG; its members are on `at`. */
static struct play *begin(uint32_t osds, uint32_t replicas, uint32_t at[])
{
    struct play *p = play_new(osds, 0);

    play_pool(p, replicas, 1);
    for (uint32_t m = 0; m < replicas; m++) {
        at[m] = p->pgs[0].member[m].osd;
        p->log_index[at[m]][0] = 90 + m;
    }
    return p;
}

static uint32_t replica_of(struct play *p, uint32_t osd)
{
    return p->exists[osd][0];
}

/* The whole way: refused as long as there is hope, done, healed, told of until it is acknowledged. */
static void recovers(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    uint64_t pg = p->pgs[0].id;
    uint32_t survivor = replica_of(p, at[2]);

    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_LEADS);
    CHECK_EQ(order(p, pg, survivor), -ERR_DENIED);
    CHECK_EQ(lost(p, at[0]), -ERR_LOCKED);
    play_kill(p, at[0]);
    play_kill(p, at[1]);
    play_run(p, 8);
    const Fb__PgForceView *v = view(p, 0);
    CHECK(v->verdict == FB__FORCE_VERDICT__FORCE_OSDS_DOWN && v->n_osds == 2 && v->survivor == survivor);
    CHECK_EQ(order(p, pg, survivor), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "osd lost") && !strstr(said(&p->client), "none of its"));
    CHECK(has_problem(&p->client, "fastblock osd lost"));
    CHECK_EQ(lost(p, at[0]), 0);
    CHECK_EQ(order(p, pg, survivor), -ERR_DENIED);
    CHECK_EQ(lost(p, at[1]), 0);
    CHECK_EQ(lost(p, at[1]), 0);
    play_run(p, 1);
    v = view(p, 0);
    CHECK(v->verdict == FB__FORCE_VERDICT__FORCE_POSSIBLE && v->n_lost_osds == 2 && v->voters == 3);
    CHECK(v->leader_commit == 100 && v->standing[0]->log_index == 92);
    CHECK(has_problem(&p->client, "force-recover --all-lost"));
    CHECK_EQ(order(p, pg, 77), -ERR_DENIED);
    CHECK_EQ(order(p, pg, survivor), 0);
    CHECK_EQ(order(p, pg, survivor), 0); /* said twice, done once */
    play_run(p, 2);
    const Fb__Pg *item = play_item(p, 0);
    CHECK(item->force && item->force->survivor == survivor && item->force->entries_lost == 8);
    CHECK(p->pgs[0].leader == at[2] && replica_of(p, at[2]) == item->force->replica);
    CHECK_EQ(item->force->replica, 4);
    CHECK(play_settle(p, 60));
    CHECK_EQ(p->pgs[0].count, 3);
    CHECK_EQ(order(p, pg, survivor), 0);
    CHECK_EQ(order(p, pg, 4), -ERR_DENIED);
    CHECK(has_problem(&p->client, "at least 8 writes"));
    CHECK_EQ(acknowledge(p, 0), 0);
    CHECK(!said(&p->client)[0]);
    CHECK(!has_problem(&p->client, "writes"));
    CHECK_EQ(acknowledge(p, pg), 0);
    CHECK(strstr(said(&p->client), "nothing left to acknowledge"));
    /* The lost ones never come back. */
    osd_start(&p->osds[at[0]], p->w, at[0], ++p->starts[at[0]]);
    CHECK_EQ(osd_boot(&p->osds[at[0]], (uint8_t)(at[0] + 1), 0, 1, "10.0.1.9:7000"), -ERR_NOT_FOUND);
    caller_stop(&p->osds[at[0]]);
    play_free(p);
}

/* Neither that a group was written, nor that the order was, is known to the monitor before it has looked:
 * what it had heard of the former group counts no more. */
static void answers_are_lost(void)
{
    uint32_t at[3];
    struct play *p = begin(5, 3, at);
    uint32_t survivor = replica_of(p, at[2]);

    p->w->trouble = FAIL_AFTER;
    p->w->trouble_at = p->w->txns + 1;
    p->pgs[0].index += 7;
    play_run(p, 3);
    CHECK(p->w->txns >= p->w->trouble_at);
    CHECK_EQ(play_item(p, 0)->group_index, p->pgs[0].index);
    lose(p, at, 2);
    p->w->trouble_at = p->w->txns + 1;
    CHECK_EQ(order(p, p->pgs[0].id, survivor), -ERR_IO);
    CHECK_EQ(osd_change(&p->client, at[2], FB__OSD_ACTION__OSD_ACTION_REWEIGHT, 900), 0);
    world_run_ms(p->w, 500);
    CHECK_EQ(get_map(&p->client, 0), 0);
    const Fb__Pg *item = play_item(p, 0);
    CHECK(item->force && item->force->survivor == survivor && item->n_dropped == 0);
    CHECK(item->n_member == 1 && item->member[0]->replica == item->force->replica);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), 0);
    CHECK(play_settle(p, 60));
    CHECK_EQ(p->pgs[0].count, 3);
    play_free(p);
}

/* A pool of PGs that all went on alone, written into the store. */
static void write_forced(struct world *w, const Fb__ClusterMap *map)
{
    struct meta *store;
    char key[40];
    uint8_t value[256];
    struct meta_change change = {.key = key, .value = value};

    IN_CLIENT(w, store = sim_meta_open(w->store, w->client_node));
    for (size_t i = 0; i < map->n_pg; i++) {
        Fb__Pg pg = *map->pg[i];
        Fb__PgForce force = FB__PG_FORCE__INIT;
        force.survivor = 1;
        force.replica = 2;
        pg.force = &force;
        snprintf(key, sizeof(key), "pg/%08x/%08x", (uint32_t)(pg.id >> 32), (uint32_t)pg.id);
        change.value_len = (uint32_t)fb__pg__pack(&pg, value);
        struct meta_txn txn = {.changes = &change, .change_count = 1, .pending = true};
        IN_CLIENT(w, store->ops->txn(store, &txn));
        WAIT_FOR(w, 1000, !txn.pending);
    }
}

/* However many they are, no epoch has more of them than fit in a map message. */
static void many_are_acknowledged(void)
{
    enum { PGS = 300, MOST = 127 };
    struct world *w = world_new();
    struct caller client, osd;
    Fb__PgForceAcknowledge body = FB__PG_FORCE_ACKNOWLEDGE__INIT;
    REQUEST(pg_force_acknowledge, PG_FORCE_ACKNOWLEDGE);

    client_start(&client, w, 1);
    osds_up(w, &osd, 1);
    CHECK_EQ(pool_create(&client, "p", 1, PGS, "osd"), 0);
    CHECK_EQ(get_map(&client, 0), 0);
    CHECK_EQ(client.answer->map->n_pg, PGS);
    write_forced(w, client.answer->map);
    world_crash_mon(w);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(call(&client, &request), 0);
        CHECK_EQ(client.answer->more, i < 2);
    }
    CHECK_EQ(get_map(&client, 0), 0);
    const Fb__ClusterMap *map = client.answer->map;
    for (size_t i = 0; i < map->n_pg; i++) {
        uint32_t same = 0;
        CHECK(map->pg[i]->force && map->pg[i]->force->acknowledged);
        for (size_t k = 0; k < map->n_pg; k++)
            same += map->pg[k]->epoch == map->pg[i]->epoch;
        CHECK(same <= MOST);
    }
    caller_stop(&osd);
    caller_stop(&client);
    world_free(w);
}

/* Two of five are left: the one with the longer log goes on, the other one is deleted first. */
static void the_best_of_two(void)
{
    uint32_t at[5];
    struct play *p = begin(7, 5, at);
    uint32_t best = replica_of(p, at[4]), other = replica_of(p, at[3]);

    lose(p, at, 3);
    CHECK_EQ(view(p, 0)->survivor, best);
    CHECK_EQ(order(p, p->pgs[0].id, best), 0);
    CHECK_EQ(get_map(&p->client, 0), 0);
    const Fb__Pg *item = play_item(p, 0);
    CHECK(item->n_dropped == 1 && item->dropped[0]->osd == at[3] && item->n_member == 1);
    CHECK_EQ(order(p, p->pgs[0].id, other), -ERR_DENIED);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_WAITS);
    CHECK(has_problem(&p->client, "waits until the others"));
    CHECK(has_problem(&p->client, "the next problems say what each of them needs"));
    CHECK(!has_problem(&p->client, "a majority of each PG's OSDs must be up"));
    play_run(p, 2);
    CHECK(replica_of(p, at[3]) != other); /* perhaps a new one */
    CHECK_EQ(p->pgs[0].leader, at[4]);
    play_free(p);
}

/* What must not go on: a learner, one that is half copied, one whose log is damaged. And not before all that
 * is up has spoken. */
static void not_with_that(void)
{
    uint32_t at[3];
    struct play *p = begin(5, 3, at);
    uint32_t survivor = replica_of(p, at[2]);

    play_kill(p, at[0]);
    p->standing_state[at[2]][0] = FB__PG_STANDING_STATE__STANDING_HALF;
    p->standing_state[at[1]][0] = FB__PG_STANDING_STATE__STANDING_DAMAGED;
    p->pgs[0].leader = PLAY_OSDS;
    play_kill(p, at[1]);
    play_run(p, 8);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), -ERR_DENIED); /* before the others are given up for that */
    CHECK(strstr(said(&p->client), "none of its replicas that are there can be gone on with"));
    CHECK_EQ(lost(p, at[0]), 0);
    CHECK_EQ(lost(p, at[1]), 0);
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_NOTHING_LEFT);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "from a backup"));
    CHECK(has_problem(&p->client, "their data is lost"));
    p->standing_state[at[2]][0] = FB__PG_STANDING_STATE__STANDING_DAMAGED;
    play_run(p, 1);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), -ERR_DENIED);
    p->standing_state[at[2]][0] = FB__PG_STANDING_STATE__STANDING_WHOLE;
    p->no_standings = true;
    play_run(p, 5);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_UNHEARD);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), -ERR_RETRY);
    p->no_standings = false;
    for (uint32_t m = 0; m < 3; m++)
        p->pgs[0].member[m].learner = p->pgs[0].member[m].osd == at[2];
    play_run(p, 1);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), -ERR_DENIED);
    for (uint32_t m = 0; m < 3; m++)
        p->pgs[0].member[m].learner = false;
    play_run(p, 1);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), 0);
    play_run(p, 2);
    CHECK_EQ(p->pgs[0].leader, at[2]);
    play_free(p);
}

/* Of a PG that was split off one that went on alone without the split, there is only what its parent has:
 * less than any replica that was born, and no vote; but if there is nothing else it is gone on with. */
static void in_its_parent(void)
{
    uint32_t at[5];
    struct play *p = begin(7, 5, at);
    uint32_t survivor = replica_of(p, at[4]), born = replica_of(p, at[3]);

    p->standing_state[at[4]][0] = FB__PG_STANDING_STATE__STANDING_IN_PARENT;
    lose(p, at, 3);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    CHECK_EQ(view(p, 0)->survivor, born);
    play_kill(p, at[3]);
    play_run(p, 8);
    CHECK_EQ(lost(p, at[3]), 0);
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->survivor, survivor);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), 0);
    play_run(p, 2);
    CHECK_EQ(p->pgs[0].leader, at[4]);
    play_free(p);
}

/* Voters were changing when members lost each other: it takes a majority of those that were, and one of those
 * that will be, as the replica with the newest log has it. */
static void voters_were_changing(void)
{
    uint32_t at[3];
    struct play *p = begin(5, 3, at);
    uint32_t best = replica_of(p, at[2]), other = replica_of(p, at[1]), third = replica_of(p, at[0]);

    /* From all three to two of them. */
    memcpy(p->voters[at[2]][0], (uint32_t[8]){best, other}, sizeof(p->voters[0][0]));
    memcpy(p->before[at[2]][0], (uint32_t[8]){best, other, third}, sizeof(p->before[0][0]));
    p->no_elections = true;
    play_run(p, 8);
    const Fb__PgForceView *v = view(p, 0);
    CHECK(v->n_standing == 3 && v->survivor == best);
    CHECK_EQ(v->verdict, FB__FORCE_VERDICT__FORCE_MAJORITY);
    CHECK_EQ(order(p, p->pgs[0].id, best), -ERR_DENIED);
    p->standing_state[at[1]][0] = FB__PG_STANDING_STATE__STANDING_DAMAGED; /* it does not vote */
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    p->standing_state[at[1]][0] = FB__PG_STANDING_STATE__STANDING_HALF; /* that one does */
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_MAJORITY);
    p->standing_state[at[1]][0] = FB__PG_STANDING_STATE__STANDING_WHOLE;
    play_kill(p, at[1]);
    play_run(p, 8);
    CHECK_EQ(lost(p, at[1]), 0);
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    CHECK_EQ(order(p, p->pgs[0].id, best), 0);
    play_free(p);
}

/* The newest log's group was never reported, and all of it but one has died: the group of the map has a
 * majority, which elects nobody. */
static void nobody_heard_of_the_group(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    uint32_t best = replica_of(p, at[2]);

    p->no_elections = true;
    memcpy(p->voters[at[2]][0], (uint32_t[8]){best, 8, 9}, sizeof(p->voters[0][0]));
    play_kill(p, at[1]);
    play_run(p, 8);
    CHECK_EQ(lost(p, at[1]), 0);
    play_run(p, 1);
    const Fb__PgForceView *v = view(p, 0);
    CHECK(v->n_standing == 2 && v->survivor == best);
    CHECK_EQ(v->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    p->no_elections = false; /* it is for raft to know */
    p->pgs[0].leader = PLAY_OSDS;
    play_free(p);
}

/* Of what is lost the pool can be removed: nobody is waited for but who is there. */
static void nothing_is_left(void)
{
    uint32_t at[3];
    struct play *p = begin(5, 3, at);

    p->standing_state[at[2]][0] = FB__PG_STANDING_STATE__STANDING_HALF;
    lose(p, at, 2);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_NOTHING_LEFT);
    CHECK_EQ(pool_remove(&p->client, "p"), 0);
    p->pool_removed = true;
    play_run(p, 5);
    CHECK_EQ(get_map(&p->client, 0), 0);
    const Fb__Pg *item = play_item(p, 0);
    CHECK(!item || (item->removed && !item->n_member));
    play_free(p);
}

/* Of two that are left only the whole one is taken, though the other one is named. */
static void not_the_half_one(void)
{
    uint32_t at[5];
    struct play *p = begin(7, 5, at);
    uint32_t whole = replica_of(p, at[3]), half = replica_of(p, at[4]);

    for (uint32_t m = 0; m < 3; m++)
        play_kill(p, at[m]);
    p->standing_state[at[4]][0] = FB__PG_STANDING_STATE__STANDING_HALF;
    play_run(p, 8);
    for (uint32_t m = 0; m < 3; m++)
        CHECK_EQ(lost(p, at[m]), 0);
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->survivor, whole);
    CHECK_EQ(order(p, p->pgs[0].id, half), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "half copied"));
    CHECK_EQ(order(p, p->pgs[0].id, whole), 0);
    play_free(p);
}

/* Two of three are there, and the half copied one has the newer log: it does not elect the whole one, and
 * cannot lead. Only when the third is given up may the whole one go on, as it is. */
static void the_half_one_is_newer(void)
{
    uint32_t at[3];
    struct play *p = begin(5, 3, at);
    uint32_t whole = replica_of(p, at[1]);

    p->no_elections = true;
    p->standing_state[at[2]][0] = FB__PG_STANDING_STATE__STANDING_HALF;
    play_kill(p, at[0]);
    play_run(p, 8);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_OSDS_DOWN);
    CHECK_EQ(order(p, p->pgs[0].id, whole), -ERR_DENIED);
    CHECK_EQ(lost(p, at[0]), 0);
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->survivor, whole);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    p->log_index[at[2]][0] = p->log_index[at[1]][0];
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_MAJORITY);
    p->log_index[at[2]][0]++;
    play_run(p, 1);
    CHECK_EQ(order(p, p->pgs[0].id, whole), 0);
    play_free(p);
}

/* One that was dropped dies before it says that it is deleted: the survivor waits for it, or until it is
 * lost. */
static void waits_for_the_dropped(void)
{
    uint32_t at[5];
    struct play *p = begin(7, 5, at);

    lose(p, at, 3);
    uint32_t survivor = replica_of(p, at[4]);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), 0);
    play_kill(p, at[3]);
    play_run(p, 8);
    CHECK_EQ(replica_of(p, at[4]), survivor);
    CHECK_EQ(p->pgs[0].leader, PLAY_OSDS);
    /* And the monitor dies meanwhile. */
    world_crash_mon(p->w);
    for (uint32_t o = 0; o < p->osd_count; o++)
        if (p->up[o]) {
            play_kill(p, o);
            play_start(p, o);
        }
    play_run(p, 8);
    CHECK_EQ(replica_of(p, at[4]), survivor);
    CHECK_EQ(lost(p, at[3]), 0);
    play_run(p, 3);
    CHECK_EQ(p->pgs[0].leader, at[4]);
    CHECK_EQ(play_item(p, 0)->force->survivor, survivor);
    play_free(p);
}

/* The survivor is lost before it has gone on, with another one still to end: that one can be gone on with. */
static void can_be_withdrawn(void)
{
    uint32_t at[5];
    struct play *p = begin(7, 5, at);
    uint64_t pg = p->pgs[0].id;
    uint32_t survivor = replica_of(p, at[4]), other = replica_of(p, at[3]);

    CHECK_EQ(withdraw(p, pg), -ERR_DENIED);
    lose(p, at, 3);
    CHECK_EQ(order(p, pg, survivor), 0);
    play_kill(p, at[3]); /* it has not heard of the order */
    play_run(p, 8);
    const Fb__PgForceView *v = view(p, 0);
    CHECK(v->verdict == FB__FORCE_VERDICT__FORCE_WAITS && v->n_osds == 1 && v->osds[0] == at[3]);
    p->standing_state[at[4]][0] =
        FB__PG_STANDING_STATE__STANDING_DAMAGED; /* its log turns out to be damaged */
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_FAILS);
    CHECK(has_problem(&p->client, "--withdraw"));
    play_kill(p, at[4]);
    play_run(p, 8);
    CHECK_EQ(lost(p, at[4]), 0);
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_FAILS);
    CHECK_EQ(withdraw(p, pg), 0);
    play_run(p, 1);
    const Fb__Pg *item = play_item(p, 0);
    CHECK(!item->force && item->n_member == 5 && !item->n_dropped && item->replica_next == 7);
    play_start(p, at[3]);
    play_run(p, 3);
    CHECK_EQ(view(p, 0)->survivor, other);
    CHECK_EQ(order(p, pg, other), 0);
    play_run(p, 2);
    CHECK_EQ(p->pgs[0].leader, at[3]);
    CHECK_EQ(play_item(p, 0)->force->replica, 7);
    CHECK(!play_item(p, 0)->before);
    /* It has gone on: others have been taken in since, perhaps. */
    CHECK_EQ(withdraw(p, pg), -ERR_DENIED);
    play_free(p);
}

/* Makes PG 1 of PG 0, whose members are `at`: by its leader's report. */
static void split(struct play *p, const uint32_t at[3])
{
    Fb__PgMember member[3], *members[3];
    Fb__PgReport row = FB__PG_REPORT__INIT, *rows = &row;
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    CHECK_EQ(pool_set_pgs(&p->client, "p", 2), 0);
    for (uint32_t m = 0; m < 3; m++) {
        members[m] = &member[m];
        fb__pg_member__init(members[m]);
        member[m].replica = replica_of(p, at[m]);
        member[m].osd = at[m];
    }
    row.pg = p->pgs[0].id + 1;
    row.unlisted = true;
    row.group = members;
    row.n_group = 3;
    report.pg = &rows;
    report.n_pg = 1;
    report.free_bytes = 8ull << 30;
    CHECK_EQ(osd_report(&p->osds[at[0]], 0, &report), 0);
    play_run(p, 1);
    CHECK(play_item(p, 1) && play_item(p, 1)->split);
}

/* The order says up to where the PG was split, by the PGs of the map: what its log lacks of that is theirs.
 */
static void says_up_to_where_it_was_split(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);

    split(p, at);
    lose(p, at, 2);
    CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), 0);
    CHECK_EQ(get_map(&p->client, 0), 0);
    CHECK_EQ(play_item(p, 0)->force->split_count, 2);
    play_free(p);
}

static bool is_there(const struct play *p, uint32_t n, uint32_t osd)
{
    for (size_t m = 0; m < play_item(p, n)->n_member; m++)
        if (play_item(p, n)->member[m]->osd == osd)
            return true;
    return false;
}

/* A PG that went on alone without a split keeps what is its child's where that one can be made of it, until
 * somebody leads that one: it is neither drained from there nor moved, and led there. */
static void stays_with_what_is_left(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    struct play_pg *child = &p->pgs[1];

    split(p, at);
    lose(p, at, 2);
    /* Of the child's replicas here none was born. */
    *child = p->pgs[0];
    child->id++;
    child->leader = PLAY_OSDS;
    p->exists[at[2]][1] = p->exists[at[2]][0];
    p->standing_state[at[2]][1] = FB__PG_STANDING_STATE__STANDING_IN_PARENT;
    p->pg_count = 2;
    CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), 0);
    play_run(p, 20);
    CHECK_EQ(p->pgs[0].count, 3);
    CHECK(is_there(p, 0, at[2]));
    CHECK_EQ(osd_change(&p->client, at[2], FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 20);
    CHECK(is_there(p, 0, at[2]) && !play_item(p, 0)->n_wanted);
    CHECK(has_problem(&p->client, "1 PGs should have other members, and stay where they are"));
    CHECK(has_problem(&p->client, "PG 1.1 was split off PG 1.0"));
    /* The child is made of it, and led: now both go. */
    CHECK_EQ(order(p, child->id, p->exists[at[2]][1]), 0);
    play_run(p, 40);
    CHECK(child->leader != PLAY_OSDS && child->count == 3);
    CHECK(!is_there(p, 0, at[2]) && !is_there(p, 1, at[2]));
    CHECK(!has_problem(&p->client, "stay where they are"));
    play_free(p);
}

/* PG 0, which went on alone, has its members again; of its child, PG 1, nobody reports anything. */
static void child_is_silent(struct play *p)
{
    struct play_pg *child = &p->pgs[1];

    *child = p->pgs[0];
    child->id++;
    child->leader = PLAY_OSDS;
    p->pg_count = 2;
}

/* It is led there whatever an operator has said of who is to lead: nobody serves the child before. */
static void is_led_where_it_stays(void)
{
    for (int chosen = 0; chosen < 2; chosen++) {
        uint32_t at[3];
        struct play *p = begin(6, 3, at);
        Fb__MonRequest request = FB__MON_REQUEST__INIT;
        Fb__OsdDemote demote = FB__OSD_DEMOTE__INIT;
        Fb__PgLeader leader = FB__PG_LEADER__INIT;

        split(p, at);
        lose(p, at, 2);
        child_is_silent(p);
        p->exists[at[2]][1] = p->exists[at[2]][0];
        p->standing_state[at[2]][1] = FB__PG_STANDING_STATE__STANDING_IN_PARENT;
        CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), 0);
        play_run(p, 20);
        CHECK_EQ(p->pgs[0].count, 3);
        uint32_t other = p->pgs[0].member[p->pgs[0].member[0].osd == at[2]].osd;
        request.call_case = chosen ? FB__MON_REQUEST__CALL_PG_LEADER : FB__MON_REQUEST__CALL_OSD_DEMOTE;
        if (chosen)
            request.pg_leader = &leader;
        else
            request.osd_demote = &demote;
        demote.osd = at[2];
        leader.pg = p->pgs[0].id;
        leader.osd = other;
        CHECK_EQ(call(&p->client, &request), 0);
        p->pgs[0].leader = other;
        p->pgs[0].term++;
        p->osds[other].transfer_events = 0;
        play_run(p, 20);
        CHECK(p->osds[other].transfer_events > 0);
        CHECK_EQ(p->osds[other].transfer_osd, at[2]);
        play_free(p);
    }
}

/* Of a PG that is not born yet nothing can be ordered; who keeps it from that is said. */
static void says_who_is_to_be_born(void)
{
    struct play *p = play_new(4, 0);
    uint32_t n = 0;

    play_kill(p, 3);
    play_pool(p, 3, 8);
    while (!is_there(p, n, 3))
        n++;
    CHECK_EQ(look(p, p->pgs[n].id), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "not born yet: osd.3 must make a replica"));
    CHECK_EQ(order(p, p->pgs[n].id, 1), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "not born yet: osd.3 must make a replica"));
    CHECK_EQ(look(p, p->pgs[n].id + 100), -ERR_NOT_FOUND);
    CHECK_EQ(lost(p, 3), 0);
    play_run(p, 3);
    CHECK_EQ(look(p, p->pgs[n].id), 0);
    play_free(p);
}

/* Two of its members are where the child can be made of it. One is down, so that the other one has to lead,
 * however many are away. */
static void is_led_where_one_is_there(void)
{
    for (int first = 0; first < 2; first++) {
        uint32_t at[5], keeper[2], other = PLAY_OSDS;
        struct play *p = begin(7, 5, at);

        split(p, at + 2);
        lose(p, at, 3);
        child_is_silent(p);
        for (uint32_t i = 3; i < 5; i++) {
            p->exists[at[i]][1] = p->exists[at[i]][0];
            p->standing_state[at[i]][1] = FB__PG_STANDING_STATE__STANDING_IN_PARENT;
        }
        CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[4])), 0);
        play_run(p, 20);
        CHECK(is_there(p, 0, at[3]) && is_there(p, 0, at[4]));
        keeper[0] = at[3 + first];
        keeper[1] = at[4 - first];
        for (uint32_t m = 0; m < p->pgs[0].count; m++)
            if (p->pgs[0].member[m].osd != keeper[0] && p->pgs[0].member[m].osd != keeper[1])
                other = p->pgs[0].member[m].osd;
        CHECK(other != PLAY_OSDS);
        play_kill(p, keeper[0]);
        p->pgs[0].leader = other;
        p->pgs[0].term++;
        p->osds[other].transfer_events = 0;
        play_run(p, 20);
        CHECK(p->osds[other].transfer_events > 0);
        CHECK_EQ(p->osds[other].transfer_osd, keeper[1]);
        play_free(p);
    }
}

/* Where it has to stay an operator says of the OSD that it is lost: nothing is left there, and the PG gets
 * another replica. */
static void what_is_lost_keeps_nothing(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);

    split(p, at);
    lose(p, at, 2);
    child_is_silent(p);
    p->exists[at[2]][1] = p->exists[at[2]][0];
    p->standing_state[at[2]][1] = 3;
    CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), 0);
    play_run(p, 20);
    CHECK(p->pgs[0].count == 3 && is_there(p, 0, at[2]));
    play_kill(p, at[2]);
    play_run(p, 20);
    CHECK(is_there(p, 0, at[2]));
    CHECK_EQ(lost(p, at[2]), 0);
    play_run(p, 40);
    CHECK(p->pgs[0].count == 3 && !is_there(p, 0, at[2]));
    play_free(p);
}

/* The shard has said that the child's replica there is lost, which it would not as long as its parent there
 * could give birth to it. */
static void what_has_died_keeps_nothing(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    Fb__PgConfirm row = FB__PG_CONFIRM__INIT, *rows = &row;
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    split(p, at);
    lose(p, at, 2);
    CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), 0);
    play_run(p, 20);
    CHECK(p->pgs[0].count == 3 && is_there(p, 0, at[2]));
    CHECK_EQ(osd_change(&p->client, at[2], FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 20);
    CHECK(is_there(p, 0, at[2]));
    row.pg = p->pgs[0].id + 1;
    row.osd = at[2];
    row.replica = play_item(p, 1)->member[2]->replica;
    row.lost = true;
    report.confirm = &rows;
    report.n_confirm = 1;
    report.free_bytes = 8ull << 30;
    CHECK_EQ(osd_report(&p->osds[at[2]], 0, &report), 0);
    play_run(p, 40);
    CHECK(p->pgs[0].count == 3 && !is_there(p, 0, at[2]));
    play_free(p);
}

/* A child that was split off since the PG went on alone is in its log: nothing of it is left in the PG. */
static void what_was_split_since_keeps_nothing(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);

    lose(p, at, 2);
    CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), 0);
    play_run(p, 20);
    CHECK(p->pgs[0].count == 3 && is_there(p, 0, at[2]));
    for (uint32_t m = 0; m < 3; m++)
        at[m] = p->pgs[0].member[m].osd;
    split(p, at);
    child_is_silent(p);
    play_run(p, 8);
    CHECK_EQ(osd_change(&p->client, at[0], FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 40);
    CHECK(p->pgs[0].count == 3 && !is_there(p, 0, at[0]));
    CHECK(!has_problem(&p->client, "stay where they are"));
    play_free(p);
}

/* An order is withdrawn, and another one given at once, for a replica that is being deleted by the first:
 * what its shard said before it has heard of the withdrawal counts for nothing. Else both would be deleted.
 */
static void not_with_what_is_being_deleted(void)
{
    uint32_t at[5];
    struct play *p = begin(7, 5, at);
    uint64_t pg = p->pgs[0].id;
    uint32_t survivor = replica_of(p, at[4]), other = replica_of(p, at[3]);

    lose(p, at, 3);
    CHECK_EQ(order(p, pg, survivor), 0);
    CHECK_EQ(get_map(&p->client, 0), 0);
    p->heard_epoch = p->client.answer->map->epoch;
    CHECK_EQ(withdraw(p, pg), 0);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_UNHEARD);
    CHECK_EQ(order(p, pg, other), -ERR_RETRY);
    p->no_elections = true;
    play_run(p, 1); /* said when it had not heard */
    CHECK_EQ(order(p, pg, other), -ERR_RETRY);
    p->heard_epoch = 0;
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    CHECK_EQ(order(p, pg, other), 0);
    p->no_elections = false;
    play_run(p, 2);
    CHECK_EQ(p->pgs[0].leader, at[3]);
    play_free(p);
}

/* All others have ended, so the survivor may have gone on: who knows. */
static void cannot_be_withdrawn_later(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    uint64_t pg = p->pgs[0].id;

    lose(p, at, 2);
    CHECK_EQ(order(p, pg, replica_of(p, at[2])), 0);
    CHECK_EQ(withdraw(p, pg), -ERR_DENIED);
    play_kill(p, at[2]);
    play_run(p, 8);
    CHECK_EQ(withdraw(p, pg), -ERR_DENIED);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_WAITS);
    CHECK(view(p, 0)->n_osds == 1 && view(p, 0)->osds[0] == at[2]);
    CHECK_EQ(lost(p, at[2]), 0);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_NOTHING_LEFT);
    play_free(p);
}

/* An OSD runs, and its shard has failed, or says nothing: that is in the way, and is named. */
static void names_failed_shards(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    play_kill(p, at[0]);
    play_kill(p, at[1]);
    play_run(p, 8);
    CHECK_EQ(lost(p, at[0]), 0);
    play_start(p, at[1]);
    report.failed = "a write failed";
    CHECK_EQ(osd_report(&p->osds[at[1]], 0, &report), 0);
    const Fb__PgForceView *v = view(p, 0);
    CHECK(v->verdict == FB__FORCE_VERDICT__FORCE_OSDS_DOWN && v->n_osds == 1 && v->osds[0] == at[1]);
    CHECK(v->n_failed_osds == 1 && v->failed_osds[0] == at[1]);
    CHECK_EQ(order(p, p->pgs[0].id, replica_of(p, at[2])), -ERR_DENIED);
    CHECK(strstr(said(&p->client), "shard that has failed"));
    CHECK_EQ(lost(p, at[1]), -ERR_LOCKED);
    CHECK(strstr(said(&p->client), "stop its process"));
    play_free(p);
}

/* A replica that is wanted, and whose shard has lost it, is not waited for. */
static void what_is_lost_was_heard_of(void)
{
    uint32_t at[3];
    struct play *p = begin(4, 3, at);
    uint32_t spare = 0 + 1 + 2 + 3 - at[0] - at[1] - at[2];
    uint32_t survivor = replica_of(p, at[2]);

    /* One is to go to the fourth OSD, exists there, and is no member yet. */
    p->pgs[0].stuck = true;
    CHECK_EQ(osd_change(&p->client, at[0], FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 5);
    CHECK(play_item(p, 0)->n_wanted == 3 && replica_of(p, spare));
    p->exists[spare][0] = 0;
    lose(p, at, 2);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_UNHEARD);
    p->tell_lost = true;
    play_run(p, 1);
    CHECK_EQ(view(p, 0)->verdict, FB__FORCE_VERDICT__FORCE_POSSIBLE);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), 0);
    play_free(p);
}

/* A leader of the former group, that somehow still speaks, is not heard. */
static void former_leaders_are_not_heard(void)
{
    uint32_t at[3];
    struct play *p = begin(6, 3, at);
    uint32_t survivor = replica_of(p, at[2]), former = replica_of(p, at[0]);

    lose(p, at, 2);
    CHECK_EQ(order(p, p->pgs[0].id, survivor), 0);
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;
    Fb__PgReport row = FB__PG_REPORT__INIT, *rows[1] = {&row};
    Fb__PgMember member = FB__PG_MEMBER__INIT, *members[1] = {&member};
    row.pg = p->pgs[0].id;
    row.term = 1000;
    row.replica = survivor;
    row.group_index = 500;
    row.group_epoch = 1ull << 40;
    member.replica = former;
    member.osd = at[2];
    row.group = members;
    row.n_group = 1;
    report.pg = rows;
    report.n_pg = 1;
    report.free_bytes = 8ull << 30;
    CHECK_EQ(osd_report(&p->osds[at[2]], 0, &report), 0);
    world_run_ms(p->w, 1000);
    CHECK_EQ(get_map(&p->client, 0), 0);
    CHECK_EQ(play_item(p, 0)->group_index, 0);
    CHECK_EQ(play_item(p, 0)->member[0]->replica, 4);
    play_run(p, 2);
    CHECK_EQ(p->pgs[0].leader, at[2]);
    play_free(p);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(recovers);
    TEST(answers_are_lost);
    TEST(many_are_acknowledged);
    TEST(the_best_of_two);
    TEST(not_with_that);
    TEST(in_its_parent);
    TEST(voters_were_changing);
    TEST(nobody_heard_of_the_group);
    TEST(not_the_half_one);
    TEST(the_half_one_is_newer);
    TEST(nothing_is_left);
    TEST(can_be_withdrawn);
    TEST(not_with_what_is_being_deleted);
    TEST(says_up_to_where_it_was_split);
    TEST(stays_with_what_is_left);
    TEST(is_led_where_it_stays);
    TEST(says_who_is_to_be_born);
    TEST(is_led_where_one_is_there);
    TEST(what_is_lost_keeps_nothing);
    TEST(what_has_died_keeps_nothing);
    TEST(what_was_split_since_keeps_nothing);
    TEST(cannot_be_withdrawn_later);
    TEST(names_failed_shards);
    TEST(what_is_lost_was_heard_of);
    TEST(waits_for_the_dropped);
    TEST(former_leaders_are_not_heard);
    return tap_done();
}
