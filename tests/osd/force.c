/* SPDX-License-Identifier: Apache-2.0
 *
 * A PG goes on with one replica by order: when, with what, and what those that it lost cannot do when they
 * come back. With -DFASTBLOCK_PLANT the names of planted bugs are arguments.
 */
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define OBJECTS 30

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];

static uint64_t the_pg(void)
{
    return placement_pg_id(POOL, 0);
}

static const struct store_pg *replica_on(struct world *w, uint32_t osd)
{
    return world_replica(w, osd, the_pg());
}

static uint32_t number_on(struct world *w, uint32_t osd)
{
    const struct store_pg *sp = replica_on(w, osd);

    return sp ? sp->record.replica : 0;
}

static void row_add(struct world_members *to, uint32_t replica, uint32_t osd, uint64_t birth)
{
    Fb__PgMember *m = &to->row[to->count++];

    *m = (Fb__PgMember)FB__PG_MEMBER__INIT;
    m->replica = replica;
    m->osd = osd;
    m->birth = birth;
}

static int io_at(struct world *w, uint32_t osd, enum io_type type, uint64_t object, uint8_t *bytes)
{
    struct io io = io_make(w, type, object, 0, BLOCK_SIZE);

    io.force_osd = osd + 1;
    io.data = bytes;
    io.ret_data = bytes;
    return io_run(&io);
}

static void check_data(struct world *w, uint32_t osd)
{
    for (uint64_t object = 0; object < OBJECTS; object++) {
        CHECK_EQ(io_at(w, osd, IO_READ, object, got), 0);
        CHECK(got[0] == (uint8_t)(object + 1) && got[BLOCK_SIZE - 1] == (uint8_t)(object + 1));
    }
}

/* The order, as the monitor gives it: the survivor is the one member, under a new number. */
static void force(struct world *w, uint32_t survivor, uint32_t osd)
{
    struct world_pg *pg = &w->pgs[0];
    uint32_t replica = pg->replica_next++;

    pg->force = (Fb__PgForce)FB__PG_FORCE__INIT;
    pg->force.survivor = survivor;
    pg->force.replica = replica;
    pg->force.term = 1ull << 32;
    pg->force.epoch = w->epoch + 1;
    pg->group_index = 0;
    pg->wanted_epoch = w->epoch + 1;
    pg->member.count = pg->wanted.count = 0;
    row_add(&pg->member, replica, osd, w->epoch + 1);
    world_feed_map(w);
}

static bool leads_alone(struct world *w, uint32_t osd)
{
    const struct store_pg *sp = replica_on(w, osd);

    return sp && world_leader(w, the_pg()) == osd && sp->record.term > 1ull << 32 &&
           sp->record.group.count == 1;
}

static bool three_vote(struct world *w, uint32_t osd)
{
    const struct group *group = &replica_on(w, osd)->record.group;
    uint32_t voters = 0;

    for (uint32_t i = 0; i < group->count; i++)
        voters += group->members[i].flags == GROUP_VOTER;
    return voters == 3;
}

static void lose(struct world *w, uint32_t osd)
{
    world_osd_kill(w, osd, SIM_CRASH_POWER);
    w->osds[osd].unfed = true;
}

/* Most are gone; one goes on with all that it had, gets company again, and those that come back from the
 * dead, with the map of their day, change nothing. `removed`: what is lost is removed from the cluster, so
 * nobody listens to it; otherwise its end was confirmed, and a backup of its device is started. */
static void test_goes_on(void)
{
    for (uint32_t removed = 0; removed < 2; removed++) {
        struct world *w = world_filled(1 + removed, OBJECTS);
        struct world_pg *pg = &w->pgs[0];

        lose(w, 1);
        lose(w, 2);
        sim_run_for(w->sim, NS_PER_S);
        CHECK_EQ(world_leader(w, the_pg()), UINT32_MAX);
        w->osds[1].removed = w->osds[2].removed = removed;
        force(w, 1, 0);
        WAIT_FOR(w, 3000, leads_alone(w, 0));
        check_data(w, 0);
        memset(data, 0x77, BLOCK_SIZE);
        CHECK_EQ(io_at(w, 0, IO_WRITE, 3, data), 0);
        /* The dead rise, a majority of what was. */
        uint64_t term = replica_on(w, 0)->record.term;
        world_osd_start(w, 1);
        world_osd_start(w, 2);
        sim_run_for(w->sim, 5 * NS_PER_S);
        CHECK(leads_alone(w, 0));
        CHECK_EQ(replica_on(w, 0)->record.term, term);
        CHECK_EQ(io_at(w, 0, IO_READ, 3, got), 0);
        CHECK_EQ(got[7], 0x77);
        /* And others are taken in, by the ordinary way. */
        pg->wanted = pg->member;
        row_add(&pg->wanted, 5, 3, w->epoch + 1);
        row_add(&pg->wanted, 6, 4, w->epoch + 1);
        pg->wanted_epoch = w->epoch + 1;
        pg->member.row[0].born = pg->wanted.row[0].born = true;
        world_feed_map(w);
        WAIT_FOR(w, 3000, number_on(w, 3) == 5 && number_on(w, 4) == 6);
        pg->wanted.row[1].born = pg->wanted.row[2].born = true;
        world_feed_map(w);
        WAIT_FOR(w, 20000, three_vote(w, 0) && three_vote(w, 3) && three_vote(w, 4));
        world_osd_kill(w, 0, SIM_CRASH_PROCESS);
        WAIT_FOR(w, 3000,
                 pg_find(w->osds[3].shard, the_pg())->raft.role == RAFT_LEADER ||
                     pg_find(w->osds[4].shard, the_pg())->raft.role == RAFT_LEADER);
        uint32_t leads = pg_find(w->osds[3].shard, the_pg())->raft.role == RAFT_LEADER ? 3 : 4;
        CHECK_EQ(io_at(w, leads, IO_READ, 3, got), 0);
        CHECK_EQ(got[7], 0x77);
        CHECK_EQ(io_at(w, leads, IO_READ, 4, got), 0);
        CHECK_EQ(got[7], 5);
        world_osd_start(w, 0);
        sim_run_for(w->sim, 3 * NS_PER_S);
        world_free(w);
    }
}

/* As long as one of the others may be there, it is not alone. */
static void test_waits_for_the_others(void)
{
    struct world *w = world_filled(10, OBJECTS);
    struct world_pg *pg = &w->pgs[0];

    lose(w, 1);
    lose(w, 2);
    row_add(&pg->dropped, 2, 1, 0);
    row_add(&pg->dropped, 3, 2, 0);
    force(w, 1, 0);
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(number_on(w, 0), 1);
    CHECK_EQ(world_leader(w, the_pg()), UINT32_MAX);
    pg->dropped.count = 1;
    world_feed_map(w);
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(number_on(w, 0), 1);
    /* What is dropped of the new group is no reason to wait. */
    pg->dropped.count = 0;
    row_add(&pg->dropped, 9, 3, 0);
    world_feed_map(w);
    WAIT_FOR(w, 3000, leads_alone(w, 0));
    CHECK_EQ(number_on(w, 0), 4);
    pg->dropped.count = 0;
    check_data(w, 0);
    world_free(w);
}

/* A map that is larger than the place that it is to be saved in. */
static void test_by_a_map_that_fits(void)
{
    struct world *w = world_filled(18, OBJECTS);

    lose(w, 1);
    lose(w, 2);
    w->osds[1].removed = w->osds[2].removed = true;
    world_feed_large(w, 0, STORE_BLOB_MAX);
    force(w, 1, 0);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(number_on(w, 0), 1);
    world_feed_large(w, 0, 1);
    WAIT_FOR(w, 5000, leads_alone(w, 0));
    check_data(w, 0);
    world_free(w);
}

/* A map that is not saved lets nobody go on: a restart would know nothing of it. And whoever was removed from
 * the cluster is refused, whatever it counts. */
static void test_by_a_map_that_is_saved(void)
{
    struct world *w = world_filled(16, OBJECTS);

    lose(w, 1);
    lose(w, 2);
    w->osds[1].removed = w->osds[2].removed = true;
    sim_node_enter(w->osds[0].node);
    fake_store_refuse_blobs(osd_shard_store(w->osds[0].shard), true);
    sim_node_leave(w->osds[0].node);
    force(w, 1, 0);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(number_on(w, 0), 1);
    struct rpc_identity who = {.role = RPC_OSD, .osd = 1, .incarnation = w->osds[1].label.start_counter + 1};
    memcpy(who.osd_uuid, w->osds[1].label.osd_uuid, sizeof(who.osd_uuid));
    CHECK_EQ(shard_peer_check(w->osds[0].shard, &who), -ERR_IDENTITY);
    sim_node_enter(w->osds[0].node);
    fake_store_refuse_blobs(osd_shard_store(w->osds[0].shard), false);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 5000, leads_alone(w, 0));
    check_data(w, 0);
    world_free(w);
}

/* One that took the order deletes itself, and says so. */
static void test_others_are_deleted(void)
{
    struct world *w = world_filled(11, OBJECTS);
    struct world_pg *pg = &w->pgs[0];

    lose(w, 1);
    row_add(&pg->dropped, 3, 2, 0);
    force(w, 1, 0);
    WAIT_FOR(w, 3000, !replica_on(w, 2));
    CHECK_EQ(number_on(w, 0), 1);
    pg->dropped.count = 0;
    world_feed_map(w);
    WAIT_FOR(w, 3000, leads_alone(w, 0));
    check_data(w, 0);
    world_free(w);
}

/* A learner is half copied, or may be: it has no say. Nor has one whose log is damaged. */
static void test_learner_does_not(void)
{
    struct world *w = world_filled(12, OBJECTS);
    struct world_pg *pg = &w->pgs[0];

    pg->wanted = pg->member;
    row_add(&pg->wanted, 4, 3, w->epoch + 1);
    pg->replica_next = 5;
    pg->wanted_epoch = w->epoch + 1;
    world_feed_map(w);
    WAIT_FOR(w, 10000,
             replica_on(w, 3) && replica_on(w, 3)->record.group.count == 4 &&
                 replica_on(w, 3)->record.state == STORE_PG_NORMAL);
    for (uint32_t osd = 0; osd < 3; osd++)
        lose(w, osd);
    force(w, 4, 3);
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(number_on(w, 3), 4);
    CHECK_EQ(world_leader(w, the_pg()), UINT32_MAX);
    world_free(w);
}

/* One that was to recover, and waited for its turn, is what it was. */
static void test_waits_to_recover(void)
{
    struct world *w = world_filled(17, OBJECTS);

    world_osd_kill(w, 0, SIM_CRASH_PROCESS);
    memset(data, 1, BLOCK_SIZE);
    for (uint32_t i = 0; i < 2 * FAKE_LOG_KEEP; i++)
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    world_osd_start(w, 0);
    WAIT_FOR(w, 3000, w->osds[0].shard);
    w->osds[0].shard->recoveries += 100; /* others are at it */
    WAIT_FOR(w, 5000,
             pg_find(w->osds[0].shard, the_pg()) && recover_active(pg_find(w->osds[0].shard, the_pg())));
    lose(w, 1);
    lose(w, 2);
    force(w, 1, 0);
    WAIT_FOR(w, 3000, leads_alone(w, 0));
    w->osds[0].shard->recoveries -= 100;
    check_data(w, 0);
    world_free(w);
}

/* A survivor whose objects were copied while the log went on, and which is yet to get that part of the log:
 * what is written from then on counts for these, too. */
static void test_objects_ahead_of_the_log(void)
{
    struct world *w = world_filled(18, OBJECTS);
    struct io io = {.done = true};
    uint64_t until_ns, ahead = 0;

    world_osd_kill(w, 0, SIM_CRASH_PROCESS);
    memset(data, 1, BLOCK_SIZE);
    for (uint32_t i = 0; i < 2 * FAKE_LOG_KEEP; i++)
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    fake_store_set_read_ns(osd_shard_store(w->osds[world_leader(w, the_pg())].shard), NS_PER_MS);
    world_osd_start(w, 0);
    until_ns = w->sim->now_ns + 10 * NS_PER_S;
    for (uint64_t object = 0; !ahead && w->sim->now_ns < until_ns; sim_step(w->sim, until_ns)) {
        const struct store_pg *sp = replica_on(w, 0);
        struct store_object_info info;
        if (io.done) {
            CHECK_EQ(io.result, 0);
            object = (object + 1) % OBJECTS;
            io = io_make(w, IO_WRITE, object, 0, BLOCK_SIZE);
            io.data = data;
            io_begin(&io);
        }
        bool more = sp && sp->record.state == STORE_PG_NORMAL && sp->last_index > 3 * FAKE_LOG_KEEP &&
                    store_object_next(sp, true, 0, 0, &info);
        for (; more && !ahead; more = store_object_next(sp, false, info.image, info.object, &info))
            ahead = info.index > sp->last_index ? info.object : 0;
    }
    printf("# object %d is ahead\n", (int)ahead);
    CHECK(ahead);
    lose(w, 1);
    lose(w, 2);
    w->ended = true;
    WAIT_FOR(w, 10000, io.done);
    w->ended = false;
    CHECK(replica_on(w, 0)->newest_index > replica_on(w, 0)->last_index);
    force(w, 1, 0);
    WAIT_FOR(w, 3000, leads_alone(w, 0));
    memset(data, 0x77, BLOCK_SIZE);
    CHECK_EQ(io_at(w, 0, IO_WRITE, ahead, data), 0);
    CHECK_EQ(io_at(w, 0, IO_READ, ahead, got), 0);
    CHECK(got[0] == 0x77 && got[BLOCK_SIZE - 1] == 0x77);
    world_free(w);
}

/* The same of an image record: its writer, who is attached already, does not wait for an entry that never
 * comes. */
static void test_record_ahead_of_the_log(void)
{
    struct world *w = world_filled(19, OBJECTS);
    struct store_pg *sp = world_replica(w, 0, the_pg());
    struct image_record record = {.image = 99,
                                  .incarnation = 1,
                                  .generation = 1,
                                  .size_bytes = 1ull << 30,
                                  .index = sp->last_index + 20};

    sim_node_enter(w->osds[0].node);
    CHECK_EQ(store_recover_image(sp, &record), 0);
    sim_node_leave(w->osds[0].node);
    lose(w, 1);
    lose(w, 2);
    force(w, 1, 0);
    WAIT_FOR(w, 3000, leads_alone(w, 0));
    struct io io = io_make(w, IO_ATTACH, 0, 0, 0);
    io.image = 99;
    io.force_pg = the_pg();
    io.force_osd = 1;
    CHECK_EQ(io_run(&io), 0);
    world_free(w);
}

static void test_damaged_does_not(void)
{
    struct world *w = world_filled(13, OBJECTS);

    for (uint32_t osd = 0; osd < 3; osd++)
        lose(w, osd);
    fake_store_damage_log(w->osds[0].label.osd_uuid, the_pg(), 5);
    world_osd_start(w, 0);
    WAIT_FOR(w, 3000, w->osds[0].shard);
    w->osds[0].unfed = false;
    force(w, 1, 0);
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(number_on(w, 0), 1);
    world_free(w);
}

/* Its process dies at any moment after the order: it goes on where it was, with all its data, and with the
 * group of its log forgotten for good. */
static void test_survivor_crashes(void)
{
    for (uint32_t step = 0; step < 40; step++) {
        struct world *w = world_filled(20 + step, OBJECTS);

        lose(w, 1);
        lose(w, 2);
        force(w, 1, 0);
        for (uint32_t i = 0; i < 3 * step; i++)
            sim_step(w->sim, UINT64_MAX);
        for (uint32_t again = 0; again < 2; again++) {
            world_osd_kill(w, 0, step % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
            world_osd_start(w, 0);
            WAIT_FOR(w, 5000, leads_alone(w, 0));
        }
        check_data(w, 0);
        world_free(w);
    }
}

/* The order is taken back while it waits for one that has not heard of it: they are a group again, with all
 * that they had. */
static void test_withdrawn(void)
{
    struct world *w = world_filled(15, OBJECTS);
    struct world_pg *pg = &w->pgs[0];
    struct world_members was = pg->member;

    lose(w, 1);
    lose(w, 2);
    row_add(&pg->dropped, 3, 2, 0);
    force(w, 1, 0);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(number_on(w, 0), 1);
    pg->force = (Fb__PgForce){0};
    pg->member = was;
    pg->dropped.count = 0;
    pg->wanted_epoch = 0;
    w->osds[2].unfed = false;
    world_osd_start(w, 2);
    world_feed_map(w);
    WAIT_FOR(w, 5000, world_leader(w, the_pg()) != UINT32_MAX);
    CHECK(number_on(w, 0) == 1 && number_on(w, 2) == 3);
    check_data(w, world_leader(w, the_pg()));
    world_free(w);
}

/* A replica is to stop, for it is to go, or to go on alone; it has something to finish first. */
static struct pg *keep_busy(struct world *w, uint32_t osd)
{
    struct pg *pg = pg_find(w->osds[osd].shard, the_pg());

    pg->request_count++;
    return pg;
}

static void has_finished(struct world *w, uint32_t osd, struct pg *pg)
{
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK(pg->stopping);
    sim_node_enter(w->osds[osd].node);
    pg->request_count--;
    pg_wake(pg);
    sim_node_leave(w->osds[osd].node);
    sim_run_for(w->sim, 3 * NS_PER_S);
}

/* It is ordered to go, which is taken back while it stops. */
static struct pg *dropped_in_vain(struct world *w, uint32_t osd)
{
    struct world_pg *pg = &w->pgs[0];
    struct world_members was = pg->member;
    struct pg *busy = keep_busy(w, osd);

    pg->member.row[osd] = pg->member.row[--pg->member.count];
    row_add(&pg->dropped, osd + 1, osd, 0);
    world_feed_map(w);
    WAIT_FOR(w, 3000, busy->stopping);
    pg->member = was;
    pg->dropped.count = 0;
    world_feed_map(w);
    return busy;
}

/* An order is taken back, or another one given, while the replica stops: it is not deleted, and does not go
 * on alone. */
static void test_withdrawn_while_it_stops(void)
{
    struct world *w = world_filled(16, OBJECTS);
    struct pg *busy = dropped_in_vain(w, 2);

    has_finished(w, 2, busy);
    CHECK_EQ(number_on(w, 2), 3);
    CHECK(pg_find(w->osds[2].shard, the_pg()));
    busy = keep_busy(w, 0);
    lose(w, 1);
    lose(w, 2);
    force(w, 1, 0);
    WAIT_FOR(w, 3000, busy->stopping);
    force(w, 2, 1);
    has_finished(w, 0, busy);
    CHECK_EQ(number_on(w, 0), 1);
    world_free(w);
}

/* An order is taken back when what it has just been sent is on its way to the device. It takes up its log
 * with that, and can lead. */
static void test_withdrawn_while_it_writes(void)
{
    struct world *w = world_filled(17, OBJECTS);

    world_lead(w, the_pg(), 1);
    struct pg *busy = dropped_in_vain(w, 0);
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK(busy->stopping);
    struct store_pg *sp = world_replica(w, 0, the_pg());
    struct entry noop = {.type = ENTRY_NOOP, .index = sp->last_index + 1, .term = sp->record.term};
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(store_append(sp, &noop, NULL), 0);
    busy->request_count--;
    pg_wake(busy);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 3000, pg_find(w->osds[0].shard, the_pg()));
    CHECK_EQ(pg_find(w->osds[0].shard, the_pg())->raft.last_index, noop.index);
    CHECK(sp->durable_index < noop.index);
    CHECK_EQ(pg_find(w->osds[0].shard, the_pg())->raft.durable_index, sp->durable_index);
    lose(w, 1);
    WAIT_FOR(w, 5000, world_leader(w, the_pg()) == 0);
    check_data(w, 0);
    world_free(w);
}

/* What it says while it has no leader. */
static void test_standings(void)
{
    struct world *w = world_filled(14, OBJECTS);
    struct pg_standing *rows;
    Fb__PgStanding **pointers;

    lose(w, 1);
    lose(w, 2);
    sim_run_for(w->sim, 5 * NS_PER_S);
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(pg_standings(w->osds[0].shard, &rows, &pointers), 1);
    CHECK(pointers[0]->pg == the_pg() && pointers[0]->replica == 1 && pointers[0]->voter &&
          !pointers[0]->state);
    CHECK(pointers[0]->n_voters == 3 && pointers[0]->voters[0] == 1 && pointers[0]->voters[2] == 3);
    CHECK_EQ(pointers[0]->n_voters_before, 0);
    CHECK_EQ(pointers[0]->log_index, replica_on(w, 0)->last_index);
    CHECK(pointers[0]->log_term && pointers[0]->silent_ms >= 2000 && pointers[0]->silent_ms < 5000);
    free(rows);
    free(pointers);
    sim_node_leave(w->osds[0].node);
    force(w, 1, 0);
    WAIT_FOR(w, 3000, leads_alone(w, 0));
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(pg_standings(w->osds[0].shard, &rows, &pointers), 0);
    sim_node_leave(w->osds[0].node);
    world_free(w);
}

static void check_standing(struct world *w, uint32_t osd, Fb__PgStandingState state)
{
    struct pg_standing *rows;
    Fb__PgStanding **pointers;

    sim_node_enter(w->osds[osd].node);
    CHECK_EQ(pg_standings(w->osds[osd].shard, &rows, &pointers), 1);
    CHECK_EQ(pointers[0]->state, state);
    free(rows);
    free(pointers);
    sim_node_leave(w->osds[osd].node);
}

/* It is whole when it is stopped, and not any more when it is to be another one: it stays what it was, and
 * says so; or goes on once it is whole again. */
static void test_not_whole_any_more(void)
{
    for (uint32_t damaged = 0; damaged < 2; damaged++) {
        struct world *w = world_filled(18 + damaged, OBJECTS);
        struct pg *busy = keep_busy(w, 0);
        struct store_pg *sp = world_replica(w, 0, the_pg());

        lose(w, 1);
        lose(w, 2);
        force(w, 1, 0);
        WAIT_FOR(w, 3000, busy->stopping);
        sp->damaged = damaged;
        sp->record.state = damaged ? STORE_PG_NORMAL : STORE_PG_RECOVERING;
        has_finished(w, 0, busy);
        CHECK_EQ(number_on(w, 0), 1);
        CHECK_EQ(sp->record.group.count, 3);
        check_standing(
            w, 0, damaged ? FB__PG_STANDING_STATE__STANDING_DAMAGED : FB__PG_STANDING_STATE__STANDING_HALF);
        if (!damaged) {
            sp->record.state = STORE_PG_NORMAL;
            world_feed_map(w);
            WAIT_FOR(w, 3000, leads_alone(w, 0));
        }
        world_free(w);
    }
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_goes_on);
    TEST(test_waits_for_the_others);
    TEST(test_by_a_map_that_is_saved);
    TEST(test_by_a_map_that_fits);
    TEST(test_others_are_deleted);
    TEST(test_learner_does_not);
    TEST(test_damaged_does_not);
    TEST(test_waits_to_recover);
    TEST(test_objects_ahead_of_the_log);
    TEST(test_record_ahead_of_the_log);
    TEST(test_survivor_crashes);
    TEST(test_withdrawn);
    TEST(test_withdrawn_while_it_stops);
    TEST(test_withdrawn_while_it_writes);
    TEST(test_standings);
    TEST(test_not_whole_any_more);
    fake_store_forget_all();
    return tap_done();
}
