/* SPDX-License-Identifier: Apache-2.0
 *
 * A PG is split: what it takes then; and a replica that cannot follow, for want of room, out of a recovery,
 * or before it goes on alone. With the name of a planted bug it must fail.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define OBJECTS 64

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];

static uint64_t pg_id(uint32_t number)
{
    return placement_pg_id(POOL, number);
}

static bool goes(uint64_t object)
{
    return placement_pg_number(IMAGE, object, 2) == 1;
}

static const struct store_pg *replica_on(struct world *w, uint32_t osd, uint32_t number)
{
    return world_replica(w, osd, pg_id(number));
}

static void refuse(struct world *w, uint32_t osd, bool on)
{
    sim_node_enter(w->osds[osd].node);
    fake_store_refuse_splits(osd_shard_store(w->osds[osd].shard), on);
    sim_node_leave(w->osds[osd].node);
}

static void refuse_log(struct world *w, uint32_t osd, bool on)
{
    sim_node_enter(w->osds[osd].node);
    fake_store_refuse_pg(osd_shard_store(w->osds[osd].shard), pg_id(0), on);
    sim_node_leave(w->osds[osd].node);
}

static struct world *begin(uint64_t seed)
{
    struct world *w = world_filled(seed, OBJECTS);

    world_lead(w, pg_id(0), 0);
    return w;
}

static void order(struct world *w)
{
    w->pg_target = 2;
    world_feed_map(w);
}

/* What PG 0 has there of PG 1's. */
static uint32_t foreign_on(struct world *w, uint32_t osd)
{
    struct store_object_info info;
    uint32_t count = 0;

    if (!replica_on(w, osd, 0))
        return 0;
    for (bool more = store_object_next(replica_on(w, osd, 0), true, 0, 0, &info); more;
         more = store_object_next(replica_on(w, osd, 0), false, info.image, info.object, &info))
        count += goes(info.object);
    return count;
}

static int io_once(struct world *w, enum io_type type, uint64_t object)
{
    struct io io = io_make(w, type, object, 0, BLOCK_SIZE);

    io.once = true;
    io.force_pg = pg_id(0);
    io.force_osd = 0 + 1;
    io.data = data;
    io.ret_data = got;
    io.incarnation = type == IO_ATTACH ? 2 : 1;
    return io_run(&io);
}

/* Who does not know of the child is told, and so who attaches leaves none out. */
static void test_old_map(void)
{
    struct world *w = begin(9);
    uint64_t object = 0;

    while (!goes(object))
        object++;
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1) && replica_on(w, 2, 1));
    sim_run_for(w->sim, 500 * NS_PER_MS);
    CHECK_EQ(io_once(w, IO_WRITE, object), -ERR_WRONG_PG);
    CHECK_EQ(io_once(w, IO_READ, object), -ERR_WRONG_PG);
    CHECK_EQ(io_once(w, IO_STATUS, object), -ERR_WRONG_PG);
    CHECK_EQ(io_once(w, IO_ATTACH, object), -ERR_WRONG_PG);
    w->pg_count = 2;
    CHECK_EQ(io_once(w, IO_ATTACH, object), 0);
    w->pg_count = 1;
    world_free(w);
}

static const struct pg *leader_of_parent(struct world *w)
{
    return pg_find(w->osds[0].shard, pg_id(0));
}

/* From the entry on, not only once it is carried out: what is written behind it would be nobody's. */
static void test_takes_no_more_of_it(void)
{
    struct world *w = begin(23);
    uint64_t object = 0;

    while (!goes(object))
        object++;
    refuse(w, 0, true);
    order(w);
    WAIT_FOR(w, 5000, leader_of_parent(w)->split_proposed);
    CHECK_EQ(leader_of_parent(w)->sp->record.split_count, 0);
    CHECK_EQ(io_once(w, IO_WRITE, object), -ERR_WRONG_PG);
    refuse(w, 0, false);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1) && replica_on(w, 2, 1));
    world_free(w);
}

/* The entry gets to nobody, and somebody else leads for a while, whose map has no such order. When its leader
 * is back, it is not split, and proposes that anew. */
static void test_proposed_in_vain(void)
{
    struct world *w = begin(24);

    for (uint32_t i = 1; i < OSDS; i++) {
        w->osds[i].unfed = true;
        refuse_log(w, i, true);
    }
    order(w);
    WAIT_FOR(w, 5000, leader_of_parent(w)->split_proposed);
    sim_node_pause(w->osds[0].node);
    sim_run_for(w->sim, 20 * NS_PER_MS); /* what it has sent has been refused, too */
    for (uint32_t i = 1; i < OSDS; i++)
        refuse_log(w, i, false);
    WAIT_FOR(w, 5000, world_leader(w, pg_id(0)) != 0);
    sim_node_resume(w->osds[0].node);
    WAIT_FOR(w, 5000, world_settled(w));
    CHECK_EQ(leader_of_parent(w)->sp->record.split_count, 0);
    world_lead(w, pg_id(0), 0);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1) && replica_on(w, 2, 1));
    world_free(w);
}

/* A replica that applies the entry late knows by its map that the pool is being removed, of which it has yet
 * to carry out the order for the parent: a child born now would be in nobody's map, and never go. */
static void test_pool_is_removed(void)
{
    struct world *w = begin(21);

    refuse(w, 2, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1));
    WAIT_FOR(w, 5000, replica_on(w, 2, 0)->last_index == replica_on(w, 0, 0)->last_index);
    sim_node_enter(w->osds[2].node);
    fake_store_refuse_blobs(osd_shard_store(w->osds[2].shard), true);
    sim_node_leave(w->osds[2].node);
    w->pool_removed = true;
    world_feed_map(w);
    refuse(w, 2, false);
    WAIT_FOR(w, 5000, replica_on(w, 2, 0)->record.split_count == 2);
    CHECK(!replica_on(w, 2, 1));
    sim_node_enter(w->osds[2].node);
    fake_store_refuse_blobs(osd_shard_store(w->osds[2].shard), false);
    sim_node_leave(w->osds[2].node);
    WAIT_FOR(w, 5000, !replica_on(w, 2, 0) && !replica_on(w, 2, 1));
    world_free(w);
}

/* A read is under way at the device when the entry comes: its data is the child's by the time it is there,
 * and a write there may be answered already. */
static void test_read_is_under_way(void)
{
    struct world *w = begin(12);
    uint64_t object = 0;

    while (!goes(object))
        object++;
    sim_node_enter(w->osds[0].node);
    fake_store_set_read_ns(osd_shard_store(w->osds[0].shard), 600 * NS_PER_MS);
    sim_node_leave(w->osds[0].node);
    struct io io = io_make(w, IO_READ, object, 0, BLOCK_SIZE);
    io.once = true;
    io.force_pg = pg_id(0);
    io.force_osd = 0 + 1;
    io.ret_data = got;
    io_begin(&io);
    sim_run_for(w->sim, 20 * NS_PER_MS);
    order(w);
    WAIT_FOR(w, 5000, io.done);
    CHECK_EQ(pg_split_count(pg_find(w->osds[0].shard, pg_id(0))), 2);
    CHECK_EQ(io.result, -ERR_WRONG_PG);
    world_free(w);
}

/* A member without room for the child waits, and then is so far behind that it recovers to a state behind the
 * split. It goes on without its child, and rests. */
static void test_no_room(void)
{
    struct world *w = begin(1);
    uint64_t object = 0;

    while (goes(object))
        object++;
    refuse(w, 2, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1));
    CHECK(!replica_on(w, 2, 1));
    refuse_log(w, 2, true);
    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQ(world_write(w, object, BLOCK_SIZE, BLOCK_SIZE, data), 0);
    refuse_log(w, 2, false);
    WAIT_FOR(w, 5000,
             replica_on(w, 2, 0)->applied_index == replica_on(w, 0, 0)->applied_index &&
                 !recover_active(pg_find(w->osds[2].shard, pg_id(0))));
    CHECK(!replica_on(w, 2, 1));
    CHECK_EQ(replica_on(w, 2, 0)->record.split_count, 2);
    CHECK_EQ(foreign_on(w, 2), 0);
    sim_run_for(w->sim, 1500 * NS_PER_MS);
    uint32_t steps = pg_find(w->osds[2].shard, pg_id(0))->steps;
    sim_run_for(w->sim, 500 * NS_PER_MS);
    CHECK(pg_find(w->osds[2].shard, pg_id(0))->steps - steps < 200);
    world_free(w);
}

/* As long as one of them has no room for the child, none of them is split; and then all are. */
static void test_waits_for_room(void)
{
    for (uint32_t osd = 0; osd < 3; osd++) { /* osd.0 leads */
        struct world *w = begin(30 + osd);

        sim_node_enter(w->osds[osd].node);
        fake_store_set_room(osd_shard_store(w->osds[osd].shard), false);
        sim_node_leave(w->osds[osd].node);
        order(w);
        sim_run_for(w->sim, 3 * NS_PER_S);
        CHECK(!replica_on(w, 0, 1) && !replica_on(w, 1, 1) && !replica_on(w, 2, 1));
        for (uint64_t object = 0; object < OBJECTS; object++)
            CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
        /* Meanwhile an image is removed and forgotten: its record may be what takes the room. */
        world_order(w, IMAGE, 0, true);
        WAIT_FOR(w, 5000, replica_on(w, 0, 0)->floor_epoch);
        WAIT_FOR(w, 5000, !replica_on(w, 0, 0)->tombstone_count);
        w->has_order = false;
        sim_node_enter(w->osds[osd].node);
        fake_store_set_room(osd_shard_store(w->osds[osd].shard), true);
        sim_node_leave(w->osds[osd].node);
        WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1) && replica_on(w, 2, 1));
        world_free(w);
    }
}

/* A replica that has been split, and whose log is damaged, recovers from a leader that is split only in the
 * middle of that. */
static void test_split_before_its_leader(void)
{
    struct world *w = begin(2);

    refuse(w, 0, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 1, 1) && replica_on(w, 2, 1));
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    fake_store_damage_log(w->osds[2].label.osd_uuid, pg_id(0), 0);
    sim_node_enter(w->osds[0].node);
    fake_store_set_read_ns(osd_shard_store(w->osds[0].shard), 300 * NS_PER_MS);
    sim_node_leave(w->osds[0].node);
    world_osd_start(w, 2);
    WAIT_FOR(w, 5000, foreign_on(w, 2));
    CHECK_EQ(replica_on(w, 0, 0)->record.split_count, 0);
    refuse(w, 0, false);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1));
    WAIT_FOR(w, 20000,
             world_settled(w) && replica_on(w, 2, 0)->record.state == STORE_PG_NORMAL &&
                 !recover_active(pg_find(w->osds[2].shard, pg_id(0))));
    for (uint32_t osd = 0; osd < 3; osd++)
        CHECK_EQ(foreign_on(w, osd), 0);
    world_free(w);
}

/* The leader is split while a replica that has not been recovers from it: what was listed before that, and
 * what was copied after it, make no state that the child could be born with. */
static void test_leader_is_split_meanwhile(void)
{
    struct world *w = begin(5);

    for (uint32_t osd = 0; osd < 3; osd++)
        refuse(w, osd, true);
    order(w);
    uint64_t index = replica_on(w, 0, 0)->last_index + 1;
    WAIT_FOR(w, 5000,
             replica_on(w, 2, 0)->durable_index >= index && replica_on(w, 0, 0)->last_index >= index);
    sim_run_for(w->sim, 100 * NS_PER_MS);
    sim_node_enter(w->osds[2].node);
    for (uint64_t object = 0; object < OBJECTS; object++)
        fake_store_drop_object(osd_shard_store(w->osds[2].shard), pg_id(0), IMAGE, object);
    sim_node_leave(w->osds[2].node);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    fake_store_damage_log(w->osds[2].label.osd_uuid, pg_id(0), 0);
    sim_node_enter(w->osds[0].node);
    fake_store_set_read_ns(osd_shard_store(w->osds[0].shard), 200 * NS_PER_MS);
    sim_node_leave(w->osds[0].node);
    world_osd_start(w, 2);
    WAIT_FOR(w, 5000, foreign_on(w, 2));
    refuse(w, 0, false);
    refuse(w, 1, false);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1));
    WAIT_FOR(w, 30000,
             world_settled(w) && replica_on(w, 2, 0)->record.state == STORE_PG_NORMAL &&
                 !recover_active(pg_find(w->osds[2].shard, pg_id(0))));
    CHECK_EQ(foreign_on(w, 2), 0);
    CHECK_EQ(replica_on(w, 2, 0)->object_count, replica_on(w, 0, 0)->object_count);
    const struct store_pg *child = replica_on(w, 2, 1);
    CHECK(!child || child->object_count == replica_on(w, 0, 1)->object_count);
    world_free(w);
}

/* How many objects of the child have data there. */
static uint32_t child_has(struct world *w, uint32_t osd)
{
    uint64_t written[BLOCKS_PER_OBJECT / 64];
    uint32_t count = 0;

    for (uint64_t object = 0; object < OBJECTS; object++)
        count += store_block_status(replica_on(w, osd, 1), IMAGE, object, written) && written[0];
    return count;
}

/* As when it was to be deleted, and that order was withdrawn. */
static void reopen(struct world *w, uint32_t osd)
{
    CHECK(recover_active(pg_find(w->osds[osd].shard, pg_id(0))));
    sim_node_enter(w->osds[osd].node);
    pg_stop(pg_find(w->osds[osd].shard, pg_id(0)));
    sim_node_leave(w->osds[osd].node);
    WAIT_FOR(w, 5000, !pg_find(w->osds[osd].shard, pg_id(0)));
    WAIT_FOR(w, 5000, pg_find(w->osds[osd].shard, pg_id(0)));
}

/* A replica that recovers goes on with a leader that is not split yet, which the one before was: what it has
 * given up of the child's, for its log is damaged, comes back, and the child is born with it. If its log is
 * whole its replica of the child is there already, and stays. `reopened`: the recovery also ends, and another
 * one begins in the same process. */
static void next_leader_is_split_later(bool damaged, bool reopened)
{
    struct world *w = begin(6 + 50 * (uint64_t)damaged);
    uint64_t object = 0;

    while (goes(object))
        object++;
    refuse_log(w, 2, true);
    refuse(w, 1, true);
    sim_node_enter(w->osds[0].node);
    fake_store_set_read_ns(osd_shard_store(w->osds[0].shard), NS_PER_S);
    sim_node_leave(w->osds[0].node);
    order(w);
    WAIT_FOR(w, 5000, leader_of_parent(w)->split_proposed);
    if (damaged)
        world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1));
    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
    if (damaged) {
        fake_store_damage_log(w->osds[2].label.osd_uuid, pg_id(0), 0);
        world_osd_start(w, 2);
        WAIT_FOR(w, 5000, replica_on(w, 2, 0));
    }
    refuse_log(w, 2, false);
    WAIT_FOR(w, 5000, recover_active(pg_find(w->osds[2].shard, pg_id(0))));
    sim_run_for(w->sim, 100 * NS_PER_MS);
    CHECK_EQ(!replica_on(w, 2, 1), damaged);
    if (reopened)
        reopen(w, 2);
    if (damaged) /* two of three have a vote */
        CHECK_EQ(world_transfer(w, pg_id(0), 1), 0);
    else
        world_osd_kill(w, 0, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 10000, world_leader(w, pg_id(0)) == 1);
    WAIT_FOR(w, 20000, !recover_active(pg_find(w->osds[2].shard, pg_id(0))));
    refuse(w, 1, false);
    WAIT_FOR(w, 5000, replica_on(w, 1, 1) && replica_on(w, 2, 1));
    CHECK(child_has(w, 1));
    CHECK_EQ(child_has(w, 2), child_has(w, 1));
    CHECK_EQ(foreign_on(w, 2), 0);
    world_free(w);
}

static void test_next_leader_is_split_later(void)
{
    next_leader_is_split_later(false, false);
    next_leader_is_split_later(true, false);
    next_leader_is_split_later(true, true);
}

static uint64_t nth_that_goes(uint32_t n)
{
    uint64_t object = 0;

    while (!goes(object) || n--)
        object++;
    return object;
}

static struct osd_shard *shard_on(struct world *w, uint32_t osd)
{
    return w->osds[osd].shard;
}

static bool is_whole(struct world *w, uint32_t osd, uint32_t number)
{
    const struct pg *pg = shard_on(w, osd) ? pg_find(shard_on(w, osd), pg_id(number)) : NULL;

    return pg && pg->sp->record.state == STORE_PG_NORMAL && !recover_active(pg);
}

/* The map has the child now. */
static void tell_of_the_child(struct world *w)
{
    w->pgs[1] = w->pgs[0];
    w->pgs[1].split = true;
    w->pg_count = 2;
    world_feed_map(w);
}

/* The third member takes nothing from before the split on, until it has to recover the parent to a state
 * behind it. Meanwhile one of the child's objects is written, and of another one the two others lose a block.
 */
static struct world *behind_the_split(uint64_t seed, bool fed)
{
    struct world *w = begin(seed);
    uint64_t stays = 0;

    while (goes(stays))
        stays++;
    refuse_log(w, 2, true);
    order(w);
    WAIT_FOR(w, 5000, leader_of_parent(w)->split_proposed);
    refuse_log(w, 2, false);
    sim_node_pause(w->osds[2].node);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1));
    w->osds[2].unfed = !fed;
    tell_of_the_child(w);
    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQ(world_write(w, stays, BLOCK_SIZE, BLOCK_SIZE, data), 0);
    memset(data, 200, BLOCK_SIZE);
    CHECK_EQ(world_write(w, nth_that_goes(1), 0, BLOCK_SIZE, data), 0);
    for (uint32_t osd = 0; osd < 2; osd++)
        fake_store_lose_block(osd_shard_store(shard_on(w, osd)), pg_id(1), IMAGE, nth_that_goes(0), 0);
    return w;
}

static int read_first(struct world *w, uint64_t object)
{
    int error = world_read(w, object, 0, 1, got);

    return error ? error : got[0] == got[BLOCK_SIZE - 1] ? got[0] : -1000;
}

/* What the member has of the child's objects its replica of the child begins with: only what was written
 * since comes again, and what the others have lost is still there. Whether it knows the map with the child or
 * not. */
static void test_recovers_over_the_split(void)
{
    for (int fed = 0; fed < 2; fed++) {
        struct world *w = behind_the_split(40 + (uint64_t)fed, fed);
        uint64_t received = shard_on(w, 2)->perf.recover_received;

        sim_node_resume(w->osds[2].node);
        WAIT_FOR(w, 20000, is_whole(w, 2, 0) && is_whole(w, 2, 1));
        w->osds[2].unfed = false;
        world_feed_map(w);
        CHECK_EQ(replica_on(w, 2, 1)->record.replica, replica_on(w, 2, 0)->record.replica);
        CHECK_EQ(replica_on(w, 2, 1)->object_count, replica_on(w, 0, 1)->object_count);
        CHECK_EQ(foreign_on(w, 2), 0);
        /* One block that was written to the parent since, and one to the child. */
        CHECK_EQ(shard_on(w, 2)->perf.recover_received - received, 2);
        CHECK_EQ(read_first(w, nth_that_goes(0)), (int)nth_that_goes(0) + 1);
        CHECK_EQ(read_first(w, nth_that_goes(1)), 200);
        world_free(w);
    }
}

/* The first part of a map: the pool has two PGs, and the second one has changed since, so that it comes with
 * the next. Or the map is whole, and what is behind the pool cannot be taken over. */
static void feed_part(struct world *w, uint32_t osd, bool fails)
{
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Pool pool = FB__POOL__INIT, *pools[] = {&pool};
    Fb__Pg none = FB__PG__INIT, *pgs[] = {&none};
    struct osd_shard *shard = w->osds[osd].shard;

    pool.id = POOL;
    pool.pg_count = pool.pg_target = 2;
    pool.replicas = MEMBERS;
    map.cluster = (ProtobufCBinaryData){16, w->osds[osd].label.cluster};
    map.base_epoch = shard->map.epoch;
    map.epoch = pool.epoch = ++w->epoch;
    map.pool = pools;
    map.n_pool = 1;
    sim_node_enter(w->osds[osd].node);
    if (fails) {
        map.pg = pgs;
        map.n_pg = 1;
    } else
        map.newest_epoch = w->epoch + 1;
    CHECK_EQ(shard_map_take(shard, &map), fails ? -ERR_PROTOCOL : 0);
    sim_node_leave(w->osds[osd].node);
}

/* A member that comes to the entry late, in its log or by a recovery, has a map that counts the child, and
 * not yet the part of it that has the child. */
static void test_map_in_parts(void)
{
    for (int i = 0; i < 4; i++) {
        bool recovers = i % 2, fails = i / 2;
        struct world *w;
        if (recovers) {
            w = behind_the_split(45, false);
        } else {
            w = begin(46);
            refuse(w, 2, true);
            order(w);
            WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1));
            w->osds[2].unfed = true;
            tell_of_the_child(w);
            sim_run_for(w->sim, 2 * NS_PER_S);
        }
        feed_part(w, 2, fails);
        if (recovers)
            sim_node_resume(w->osds[2].node);
        refuse(w, 2, false);
        sim_run_for(w->sim, 3 * NS_PER_S);
        CHECK_EQ(replica_on(w, 2, 0)->record.split_count, 0);
        CHECK(shard_on(w, 2)->map.saved_epoch < w->epoch);
        w->osds[2].unfed = false;
        world_feed_map(w);
        WAIT_FOR(w, 5000, replica_on(w, 2, 0)->record.split_count == 2);
        CHECK(replica_on(w, 2, 1));
        WAIT_FOR(w, 5000, is_whole(w, 2, 0) && is_whole(w, 2, 1));
        CHECK_EQ(shard_on(w, 2)->map.saved_epoch, w->epoch);
        world_free(w);
    }
}

/* A member that has lost its map comes to the entry late, and has left the child's group long ago. The part
 * of the map that it gets first has not even the pool. */
static void test_map_without_the_pool(void)
{
    struct world *w = begin(47);

    refuse(w, 2, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1));
    w->osds[2].unfed = true;
    tell_of_the_child(w);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    fake_store_lose_map(w->osds[2].label.osd_uuid);
    struct world_members *members = &w->pgs[1].member;
    for (uint32_t m = members->count; m-- > 0;)
        if (members->row[m].osd == 2)
            members->row[m] = members->row[--members->count];
    world_osd_start(w, 2);
    WAIT_FOR(w, 5000, shard_on(w, 2));
    world_feed_part(w, 2);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(replica_on(w, 2, 0)->record.split_count, 0);
    w->osds[2].unfed = false;
    world_feed_map(w);
    WAIT_FOR(w, 5000, replica_on(w, 2, 0)->record.split_count == 2);
    CHECK(!replica_on(w, 2, 1) && !foreign_on(w, 2));
    world_free(w);
}

/* Its log is damaged: it may have had the child, which may have voted. So it has none. */
static void test_no_child_of_a_damaged_log(void)
{
    struct world *w = behind_the_split(42, true);

    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    fake_store_damage_log(w->osds[2].label.osd_uuid, pg_id(0), 0);
    world_osd_start(w, 2);
    WAIT_FOR(w, 20000, is_whole(w, 2, 0));
    CHECK(!replica_on(w, 2, 1));
    CHECK_EQ(foreign_on(w, 2), 0);
    world_free(w);
}

/* The same member has lost its replica of PG 1, which the pool was made with: of the PGs that may be split
 * off PG 0 it is one by its number, and this OSD's replica there has the same number as that of PG 0. It is
 * not born anew: it may have voted. */
static void test_no_stranger_is_born(void)
{
    struct world *w = world_new(44, 2);
    uint64_t stays = 0;

    while (placement_pg_number(IMAGE, stays, 3))
        stays++;
    CHECK_EQ(world_attach(w, 1, 1), 0);
    w->born = true;
    world_lead(w, pg_id(0), 0);
    world_lead(w, pg_id(1), 0);
    CHECK_EQ(world_write(w, stays, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    refuse_log(w, 2, true);
    w->pg_target = 3;
    world_feed_map(w);
    WAIT_FOR(w, 5000, leader_of_parent(w)->split_proposed);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    fake_store_lose_pg(w->osds[2].label.osd_uuid, pg_id(1));
    WAIT_FOR(w, 5000, replica_on(w, 0, 2) && replica_on(w, 1, 2));
    w->pgs[2] = w->pgs[0];
    w->pgs[2].split = true;
    w->pg_count = 3;
    world_feed_map(w);
    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQ(world_write(w, stays, BLOCK_SIZE, BLOCK_SIZE, data), 0);
    world_osd_start(w, 2);
    WAIT_FOR(w, 20000, is_whole(w, 2, 0) && is_whole(w, 2, 2));
    CHECK(!replica_on(w, 2, 1));
    world_free(w);
}

static void force(struct world *w, uint32_t number)
{
    struct world_pg *pg = &w->pgs[number];
    uint32_t replica = pg->replica_next++;

    pg->force = (Fb__PgForce)FB__PG_FORCE__INIT;
    pg->force.survivor = 1;
    pg->force.replica = replica;
    pg->force.term = 1ull << 32;
    pg->force.epoch = w->epoch + 1;
    pg->group_index = 0;
    pg->wanted_epoch = w->epoch + 1;
    pg->wanted.count = 0;
    pg->member.count = 1;
    pg->member.row[0] = (Fb__PgMember)FB__PG_MEMBER__INIT;
    pg->member.row[0].replica = replica;
    pg->member.row[0].birth = w->epoch + 1;
    world_feed_map(w);
}

/* The others have split, and are gone for good; the one that goes on has the entry and has yet to. What goes
 * is then the child's here, which goes on alone like its parent: `known`, by an order of its own, because the
 * map has it. */
static void goes_on_alone(bool known)
{
    struct world *w = begin(3 + known);

    world_lead(w, pg_id(0), 1);
    refuse(w, 0, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 1, 1) && replica_on(w, 2, 1));
    WAIT_FOR(w, 5000, replica_on(w, 0, 0)->last_index == replica_on(w, 1, 0)->last_index);
    for (uint32_t osd = 1; osd < 3; osd++) {
        world_osd_kill(w, osd, SIM_CRASH_POWER);
        w->osds[osd].unfed = w->osds[osd].removed = true;
    }
    w->pgs[1] = w->pgs[0];
    w->pg_count = 1 + known;
    force(w, 0);
    WAIT_FOR(w, 5000, replica_on(w, 0, 0)->record.group.count == 1);
    refuse(w, 0, false);
    WAIT_FOR(w, 5000, replica_on(w, 0, 0)->record.split_count == 2 && world_leader(w, pg_id(0)) == 0);
    CHECK(replica_on(w, 0, 1));
    if (known && replica_on(w, 0, 1)) {
        CHECK_EQ(replica_on(w, 0, 1)->record.replica, 1);
        CHECK_EQ(replica_on(w, 0, 1)->record.group.count, 3);
        force(w, 1);
    } else {
        w->pg_count = 2;
        w->pgs[1] = w->pgs[0];
        w->pgs[1].force.survivor = 0;
        world_feed_map(w);
    }
    if (replica_on(w, 0, 1))
        WAIT_FOR(w, 5000, world_leader(w, pg_id(1)) == 0);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        CHECK_EQ(world_read(w, object, 0, 1, got), 0);
        CHECK(got[0] == (uint8_t)(object + 1) && got[BLOCK_SIZE - 1] == (uint8_t)(object + 1));
    }
    world_free(w);
}

static void test_goes_on_alone(void)
{
    goes_on_alone(false);
    goes_on_alone(true);
}

/* What a shard says of a PG that it has in its parent only; its term and index are the parent's. */
static bool stands_in_parent(struct world *w, uint32_t osd, uint32_t number)
{
    struct pg_standing *rows;
    Fb__PgStanding **pointers;
    bool found = false;

    sim_node_enter(w->osds[osd].node);
    uint32_t count = pg_standings(w->osds[osd].shard, &rows, &pointers);
    for (uint32_t i = 0; i < count; i++)
        found |= pointers[i]->pg == pg_id(number) && pointers[i]->state == 3 && pointers[i]->voter &&
                 pointers[i]->replica == 1 && pointers[i]->log_index == replica_on(w, osd, 0)->last_index;
    free(rows);
    free(pointers);
    sim_node_leave(w->osds[osd].node);
    return found;
}

/* The one that goes on has not even the entry, and the map has the child. */
static struct world *without_the_entry(uint64_t seed)
{
    struct world *w = begin(seed);

    world_lead(w, pg_id(0), 1);
    refuse_log(w, 0, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 1, 1) && replica_on(w, 2, 1));
    CHECK(!stands_in_parent(w, 0, 1));
    for (uint32_t osd = 1; osd < 3; osd++) {
        world_osd_kill(w, osd, SIM_CRASH_POWER);
        w->osds[osd].unfed = w->osds[osd].removed = true;
    }
    refuse_log(w, 0, false);
    w->pgs[1] = w->pgs[0];
    w->pgs[1].split = true;
    w->pg_count = 2;
    CHECK(!stands_in_parent(w, 0, 1));
    force(w, 0);
    WAIT_FOR(w, 5000, replica_on(w, 0, 0)->record.group.count == 1 && world_leader(w, pg_id(0)) == 0);
    return w;
}

/* What is the child's stays where it is, and comes to no other one, until an operator says that nothing else
 * is left of it. Then it is split off once more, and the next one is, too. */
static void test_goes_on_without_the_entry(void)
{
    struct world *w = without_the_entry(11);
    uint32_t foreign = foreign_on(w, 0);

    CHECK(foreign);
    w->pg_target = 3;
    world_feed_map(w);
    sim_run_for(w->sim, 2 * NS_PER_S);
    CHECK(!replica_on(w, 0, 1) && !replica_on(w, 0, 2));
    CHECK_EQ(foreign_on(w, 0), foreign);
    CHECK(stands_in_parent(w, 0, 1));
    w->pg_target = 2;
    force(w, 1);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && world_leader(w, pg_id(1)) == 0);
    CHECK(!stands_in_parent(w, 0, 1));
    CHECK_EQ(foreign_on(w, 0), 0);
    if (replica_on(w, 0, 1)) {
        CHECK_EQ(replica_on(w, 0, 1)->record.replica, w->pgs[1].force.replica);
        CHECK_EQ(replica_on(w, 0, 1)->record.group.count, 1);
        CHECK_EQ(replica_on(w, 0, 1)->object_count, foreign);
        for (uint64_t object = 0; object < OBJECTS; object++) {
            CHECK_EQ(world_read(w, object, 0, 1, got), 0);
            CHECK(got[0] == (uint8_t)(object + 1) && got[BLOCK_SIZE - 1] == (uint8_t)(object + 1));
        }
    }
    w->pg_target = 3;
    world_feed_map(w);
    WAIT_FOR(w, 5000, replica_on(w, 0, 2));
    world_free(w);
}

/* The child is elsewhere, so this shard's map does not have it: what is its stays all the same. */
static void test_keeps_for_one_that_is_elsewhere(void)
{
    struct world *w = without_the_entry(12);
    struct world_members *members = &w->pgs[1].member;
    uint32_t foreign = foreign_on(w, 0);

    CHECK(foreign);
    for (uint32_t m = members->count; m-- > 0;)
        if (members->row[m].osd == 0)
            members->row[m] = members->row[--members->count];
    w->pgs[0].force.split_count = 2;
    w->pg_target = 3;
    world_feed_map(w);
    CHECK(!shard_map_pg(w->osds[0].shard, pg_id(1)));
    sim_run_for(w->sim, 2 * NS_PER_S);
    CHECK(!replica_on(w, 0, 2));
    CHECK_EQ(foreign_on(w, 0), foreign);
    world_free(w);
}

/* A member that gets the entry so late that it has left the child's group by then, and is to come again under
 * another number: the replica that the entry names is born no more. */
static void test_has_left_before_its_birth(void)
{
    struct world *w = begin(14);

    refuse(w, 2, true);
    order(w);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && replica_on(w, 1, 1));
    w->pgs[1] = w->pgs[0];
    w->pgs[1].split = true;
    w->pg_count = 2;
    struct world_members *members = &w->pgs[1].member;
    for (uint32_t m = 0; m < members->count; m++)
        if (members->row[m].osd == 2)
            members->row[m].replica = w->pgs[1].replica_next++;
    world_feed_map(w);
    CHECK(shard_map_pg(w->osds[2].shard, pg_id(1)));
    refuse(w, 2, false);
    WAIT_FOR(w, 5000, replica_on(w, 2, 0)->record.split_count == 2);
    CHECK(!replica_on(w, 2, 1) || replica_on(w, 2, 1)->record.replica != replica_on(w, 2, 0)->record.replica);
    CHECK_EQ(foreign_on(w, 2), 0);
    world_free(w);
}

/* The leader is the last to be split, and knows the map with the child by then: no map comes to tell it that
 * there is one more to be split off. */
static void test_late_leader_goes_on(void)
{
    struct world *w = begin(15);

    refuse(w, 0, true);
    w->pg_target = 3;
    world_feed_map(w);
    WAIT_FOR(w, 5000, replica_on(w, 1, 1) && replica_on(w, 2, 1));
    w->pgs[1] = w->pgs[0];
    w->pgs[1].split = true;
    w->pg_count = 2;
    world_feed_map(w);
    sim_run_for(w->sim, 500 * NS_PER_MS);
    CHECK(!replica_on(w, 0, 1));
    CHECK_EQ(world_leader(w, pg_id(0)), 0);
    refuse(w, 0, false);
    WAIT_FOR(w, 5000, replica_on(w, 0, 2) && replica_on(w, 1, 2) && replica_on(w, 2, 2));
    CHECK_EQ(world_leader(w, pg_id(0)), 0);
    world_free(w);
}

/* The map with that order cannot be saved: behind a restart, with the one that is, nobody would know whose
 * the objects are. */
static void test_split_again_by_a_map_that_is_saved(void)
{
    struct world *w = without_the_entry(13);
    uint32_t foreign = foreign_on(w, 0);

    sim_node_enter(w->osds[0].node);
    fake_store_refuse_blobs(osd_shard_store(w->osds[0].shard), true);
    sim_node_leave(w->osds[0].node);
    force(w, 1);
    sim_run_for(w->sim, 2 * NS_PER_S);
    CHECK(!replica_on(w, 0, 1));
    world_osd_kill(w, 0, SIM_CRASH_PROCESS);
    world_osd_start(w, 0);
    WAIT_FOR(w, 5000, replica_on(w, 0, 0));
    CHECK_EQ(foreign_on(w, 0), foreign);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1));
    CHECK_EQ(replica_on(w, 0, 1)->object_count, foreign);
    world_free(w);
}

/* The child is there on its survivor alone, with all that is its own; and the others have nothing of it left.
 */
static void born_alone(struct world *w)
{
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && world_leader(w, pg_id(1)) == 0);
    WAIT_FOR(w, 5000, !foreign_on(w, 1) && !foreign_on(w, 2));
    CHECK(!replica_on(w, 1, 1) && !replica_on(w, 2, 1));
    for (uint64_t object = 0; object < OBJECTS; object++) {
        CHECK_EQ(world_read(w, object, 0, 1, got), 0);
        CHECK(got[0] == (uint8_t)(object + 1));
    }
}

/* Of the child only the shard of its survivor knows. The others have no reason to destage, and are not waited
 * for. */
static void test_split_again_among_others(void)
{
    struct world *w = begin(16);

    for (uint32_t osd = 1; osd < 3; osd++) {
        sim_node_enter(w->osds[osd].node);
        fake_store_be_lazy(osd_shard_store(w->osds[osd].shard), true);
        sim_node_leave(w->osds[osd].node);
    }
    memset(data, 1, sizeof(data));
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    w->pgs[1] = w->pgs[0];
    w->pgs[1].split = true;
    w->pg_count = 2;
    force(w, 1);
    CHECK(!shard_map_pg(w->osds[1].shard, pg_id(1)));
    born_alone(w);
    world_free(w);
}

/* Nor are those that are away, who may never come back. */
static void test_split_again_without_all(void)
{
    struct world *w = begin(17);

    w->pgs[1] = w->pgs[0];
    w->pgs[1].split = true;
    w->pg_count = 2;
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, 3 * NS_PER_S);
    force(w, 1);
    WAIT_FOR(w, 5000, replica_on(w, 0, 1) && world_leader(w, pg_id(1)) == 0);
    WAIT_FOR(w, 5000, !foreign_on(w, 1));
    world_osd_start(w, 2);
    WAIT_FOR(w, 10000, replica_on(w, 2, 0) && !foreign_on(w, 2));
    CHECK(!replica_on(w, 1, 1) && !replica_on(w, 2, 1));
    for (uint64_t object = 0; object < OBJECTS; object++) {
        CHECK_EQ(world_read(w, object, 0, 1, got), 0);
        CHECK(got[0] == (uint8_t)(object + 1));
    }
    world_free(w);
}

/* Nor is a member that is to come, and finds no room, or takes hours. */
static void test_split_again_while_members_come(void)
{
    struct world *w = begin(18);
    struct world_pg *parent = &w->pgs[0];

    w->pgs[1] = *parent;
    w->pgs[1].split = true;
    w->pg_count = 2;
    parent->wanted = parent->member;
    Fb__PgMember *comes = &parent->wanted.row[parent->wanted.count++];
    *comes = (Fb__PgMember)FB__PG_MEMBER__INIT;
    comes->replica = parent->replica_next++;
    comes->osd = 2;
    comes->shard = 1; /* which nobody has */
    comes->birth = parent->wanted_epoch = w->epoch + 1;
    world_feed_map(w);
    WAIT_FOR(w, 5000, leader_of_parent(w)->raft.group.count == MEMBERS + 1);
    force(w, 1);
    born_alone(w);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_old_map);
    TEST(test_takes_no_more_of_it);
    TEST(test_proposed_in_vain);
    TEST(test_pool_is_removed);
    TEST(test_read_is_under_way);
    TEST(test_no_room);
    TEST(test_waits_for_room);
    TEST(test_split_before_its_leader);
    TEST(test_leader_is_split_meanwhile);
    TEST(test_next_leader_is_split_later);
    TEST(test_recovers_over_the_split);
    TEST(test_map_in_parts);
    TEST(test_map_without_the_pool);
    TEST(test_no_child_of_a_damaged_log);
    TEST(test_no_stranger_is_born);
    TEST(test_goes_on_alone);
    TEST(test_goes_on_without_the_entry);
    TEST(test_keeps_for_one_that_is_elsewhere);
    TEST(test_has_left_before_its_birth);
    TEST(test_late_leader_goes_on);
    TEST(test_split_again_by_a_map_that_is_saved);
    TEST(test_split_again_among_others);
    TEST(test_split_again_without_all);
    TEST(test_split_again_while_members_come);
    fake_store_forget_all();
    return tap_done();
}
