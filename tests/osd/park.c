/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups at rest are parked, on all members; what they come back with is worth what it would have been; and
 * whatever happens to a parked group finds it.
 */
#include <string.h>

#include "base/placement.h"
#include "sim/rng.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];

static struct pg *group_at(struct world *w, uint32_t osd, uint32_t pg)
{
    return w->osds[osd].shard ? pg_find(w->osds[osd].shard, placement_pg_id(POOL, pg)) : NULL;
}

static bool all_parked(struct world *w)
{
    for (uint32_t i = 0; i < OSDS; i++) {
        if (!w->osds[i].shard || w->osds[i].shard->awake_count)
            return false;
        for (uint32_t p = 0; p < w->pg_count; p++)
            if (!group_at(w, i, p) || !group_at(w, i, p)->parked || timer_armed(&group_at(w, i, p)->timer))
                return false;
    }
    return true;
}

static struct world *world_at_rest(uint64_t seed)
{
    struct world *w = world_new(seed, PGS_MAX);

    memset(data, 7, sizeof(data));
    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = 0; object < 6; object++)
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 4000, all_parked(w));
    return w;
}

static uint64_t clock_ns(struct world *w, uint32_t osd)
{
    return core_now_ns(w->osds[osd].shard->core);
}

/* Who comes back as leader may count on no promise that the member, coming back, does not know of. */
static void check_promises(struct world *w, uint32_t osd, uint32_t p)
{
    struct pg *led = group_at(w, osd, p);

    if (led->raft.role != RAFT_LEADER)
        return;
    for (uint32_t i = 0; i < OSDS; i++) {
        struct pg *follows = group_at(w, i, p);
        if (i == osd)
            continue;
        pg_unpark(led);
        pg_unpark(follows);
        const struct raft_member *m = raft_member(&led->raft, follows->replica);
        int64_t counts_on_ns = (int64_t)(m->contact_ns + led->raft.config.promise_ns - clock_ns(w, osd));
        int64_t promised_ns = (int64_t)(follows->raft.promise_until_ns - clock_ns(w, i));
        CHECK(m->contact_ns && follows->raft.leader == led->replica);
        CHECK(counts_on_ns <= promised_ns + (int64_t)NS_PER_MS); /* clocks drift */
        CHECK(raft_in_contact(&led->raft, m, clock_ns(w, osd)));
        CHECK(!timer_armed(&follows->timer) ||
              follows->timer.deadline_ns <= raft_deadline_ns(&follows->raft));
    }
}

static void test_promises(void)
{
    struct world *w = world_at_rest(21);

    for (uint32_t round = 0; round < 40; round++) {
        /* At any time between two heartbeats. */
        sim_run_for(w->sim, (round * 13 + 1) * NS_PER_MS);
        CHECK(all_parked(w));
        for (uint32_t i = 0; i < OSDS; i++)
            for (uint32_t p = 0; p < w->pg_count; p++)
                check_promises(w, i, p);
        CHECK(!all_parked(w));
        WAIT_FOR(w, 2000, all_parked(w));
    }
    world_free(w);
}

static struct peer *peer_at(struct world *w, uint32_t osd, uint32_t of)
{
    return shard_peer_find(w->osds[osd].shard, of, 0);
}

/* What is heard of a member, but is no answer, is no contact. */
static void test_heard_is_not_answered(void)
{
    struct world *w = world_at_rest(33);

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    sim_run_for(w->sim, 333 * NS_PER_MS);
    CHECK(all_parked(w));
    for (uint32_t i = 1; i < OSDS; i++)
        peer_at(w, 0, i)->heard_ns = clock_ns(w, 0);
    for (uint32_t p = 0; p < w->pg_count; p++)
        check_promises(w, 0, p);
    world_free(w);
}

/* An answer that refuses a group brings it back, and no other. */
static void test_refused(void)
{
    static uint8_t frame[FRAME_HEADER_SIZE + 256];
    struct world *w = world_at_rest(34);

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    uint64_t refused = placement_pg_id(POOL, 3);
    const struct wire_heartbeat_reply reply = {
        .incarnation = w->osds[0].shard->self.incarnation,
        .seq = peer_at(w, 0, 1)->out.seq,
        .sent_ns = clock_ns(w, 0),
        .set_version = peer_at(w, 0, 1)->out.acked_version,
        .refused = &refused,
        .refused_count = 1,
    };
    struct rpc_message message = {.method = METHOD_HEARTBEAT_REPLY,
                                  .flags = FRAME_ONEWAY,
                                  .body = rpc_body(frame),
                                  .body_len = (uint32_t)wire_heartbeat_reply_size(&reply)};
    wire_heartbeat_reply_encode(rpc_body(frame), &reply);
    sim_node_enter(w->osds[0].node);
    shard_oneway(peer_at(w, 0, 1), &message);
    sim_node_leave(w->osds[0].node);
    for (uint32_t p = 0; p < w->pg_count; p++)
        CHECK_EQ(group_at(w, 0, p)->parked, p != 3);
    WAIT_FOR(w, 6000, all_parked(w));
    world_free(w);
}

/* One group has traffic, at the usual pace of heartbeats: the others stay parked. */
static void test_neighbours(void)
{
    struct world *w = world_at_rest(22);
    struct pg *other = group_at(w, 0, 0);
    uint64_t object = 0;

    while (world_pg(w, object) == other->id)
        object++;
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
        sim_run_for(w->sim, 10 * NS_PER_MS);
        for (uint32_t o = 0; o < OSDS; o++)
            CHECK(group_at(w, o, 0)->parked);
    }
    /* And each is there at once when it is wanted. */
    CHECK_EQ(world_write(w, world_object_in(w, other->id), 0, BLOCK_SIZE, data), 0);
    CHECK_EQ(world_read(w, world_object_in(w, other->id), 0, 1, got), 0);
    CHECK(!memcmp(got, data, BLOCK_SIZE));
    WAIT_FOR(w, 4000, all_parked(w));
    world_free(w);
}

static bool parked_at(struct world *w, uint32_t osd)
{
    return !w->osds[osd].shard->awake_count;
}

static bool nobody_leads(struct world *w)
{
    for (uint32_t p = 0; p < w->pg_count; p++)
        if (world_leader(w, placement_pg_id(POOL, p)) != UINT32_MAX)
            return false;
    return true;
}

/* A member that is away costs next to nothing, in however many groups it is: they are parked without it; and
 * it is found as soon as it is back. When another one goes, who led steps down. */
static void test_member_away(void)
{
    struct world *w = world_at_rest(28);
    uint32_t steps = 0;

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, 3 * NS_PER_S);
    for (uint32_t p = 0; p < w->pg_count; p++)
        steps -= group_at(w, 0, p)->steps;
    uint64_t beats = w->osds[0].shard->perf.heartbeats_sent;
    sim_run_for(w->sim, 10 * NS_PER_S);
    for (uint32_t p = 0; p < w->pg_count; p++)
        steps += group_at(w, 0, p)->steps;
    CHECK(steps < 20 * w->pg_count);
    CHECK(parked_at(w, 0) && parked_at(w, 1));
    CHECK(!pg_in_contact(group_at(w, 0, 0), raft_member(&group_at(w, 0, 0)->raft, 3), clock_ns(w, 0)));
    CHECK(w->osds[0].shard->perf.heartbeats_sent - beats < 40);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 4000, parked_at(w, 0) && parked_at(w, 1));
    world_osd_start(w, 2);
    WAIT_FOR(w, 4000, all_parked(w));
    CHECK(world_settled(w));
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 4000, parked_at(w, 0) && !group_at(w, 0, 0)->raft.members[0].unreachable);
    sim_run_for(w->sim, 2 * NS_PER_S);
    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 2000, nobody_leads(w));
    world_osd_start(w, 1);
    world_osd_start(w, 2);
    WAIT_FOR(w, 6000, all_parked(w));
    world_free(w);
}

static uint64_t tombstones(struct world *w)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        for (uint32_t p = 0; p < w->pg_count; p++)
            count += group_at(w, i, p) ? group_at(w, i, p)->sp->tombstone_count : 1;
    return count;
}

/* An image is removed while a member is away: what is left of it cannot go before that one is back, and the
 * groups rest until then. */
static void test_removal_without_a_member(void)
{
    struct world *w = world_at_rest(33);

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, NS_PER_S);
    world_order(w, IMAGE, 0, true);
    sim_run_for(w->sim, 3 * NS_PER_S);
    w->order.removed = true;
    world_feed_map(w);
    WAIT_FOR(w, 10000, parked_at(w, 0) && parked_at(w, 1));
    CHECK_EQ(group_at(w, 0, 0)->sp->tombstone_count, 1);
    world_osd_start(w, 2);
    WAIT_FOR(w, 10000, tombstones(w) == 0);
    WAIT_FOR(w, 6000, all_parked(w));
    world_free(w);
}

/* The other one goes, too, on a shard whose heartbeats to others keep their usual pace, so that it looks at
 * its groups when the silence has just lasted long enough: without a majority none of them rests, or it would
 * seem to be led for ever. */
static void test_both_members_away(void)
{
    struct world *w = world_at_rest(32);

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK(parked_at(w, 0));
    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    for (uint32_t ms = 0; ms < 1500; ms += 10) {
        sim_node_enter(w->osds[0].node);
        shard_heartbeat_soon(w->osds[0].shard);
        sim_node_leave(w->osds[0].node);
        sim_run_for(w->sim, 10 * NS_PER_MS);
    }
    CHECK(nobody_leads(w));
    world_osd_start(w, 1);
    world_osd_start(w, 2);
    WAIT_FOR(w, 6000, all_parked(w));
    world_free(w);
}

/* What is written while it still counts as in contact is kept in the ring for a while, and not for as long as
 * the group rests. */
static void test_ring_is_let_go(void)
{
    struct world *w = world_at_rest(30);
    struct pg *pg;

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    pg = pg_find(w->osds[0].shard, world_pg(w, 0));
    WAIT_FOR(w, 300, raft_member(&pg->raft, 3)->unreachable);
    sim_node_enter(w->osds[0].node);
    pg_catchup_drop(pg); /* what was to be read for it would wake the group up later */
    sim_node_leave(w->osds[0].node);
    sim_run_for(w->sim, 20 * NS_PER_MS);
    CHECK(!pg->catchup && pg->sp->wanted_index != 0);
    WAIT_FOR(w, 4000, parked_at(w, 0));
    CHECK_EQ(pg->sp->wanted_index, 0);
    world_free(w);
}

/* A heartbeat that is due soon, by whatever the timer was set for, is not put off by one that comes from
 * another shard. */
static void test_heartbeat_is_not_put_off(void)
{
    struct world *w = world_at_rest(31);

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    struct osd_shard *shard = w->osds[1].shard;
    struct shard_heartbeat *heartbeat = &shard->heartbeat;
    const struct peer *peer = shard_peer_find(shard, 0, 0);
    uint64_t heard_ns = peer->heard_ns, due_ns = 0;

    CHECK(list_empty(&shard->led));
    while (peer->heard_ns == heard_ns) {
        sim_node_enter(w->osds[1].node);
        due_ns = clock_ns(w, 1) + 20 * NS_PER_MS;
        timer_arm(shard->core, &heartbeat->timer, &heartbeat->op, due_ns);
        heartbeat->soon_ns = UINT64_MAX;
        shard_heartbeat_soon(shard); /* a group has become ours */
        sim_node_leave(w->osds[1].node);
        sim_run_for(w->sim, NS_PER_MS);
    }
    CHECK(!timer_armed(&heartbeat->timer) || heartbeat->timer.deadline_ns <= due_ns);
    world_free(w);
}

/* The leader goes, or is asked to go, or hangs: every group has another one as soon as ever. */
static void test_leader_dies(void)
{
    struct world *w = world_at_rest(23);
    uint32_t leader = world_leader(w, world_pg(w, 0));

    world_osd_kill(w, leader, SIM_CRASH_PROCESS);
    uint64_t died_ns = w->sim->now_ns;
    for (uint32_t p = 0; p < w->pg_count; p++) {
        WAIT_FOR(w, 1000, world_leader(w, placement_pg_id(POOL, p)) != UINT32_MAX);
        CHECK(w->sim->now_ns - died_ns < 400 * NS_PER_MS);
    }
    world_osd_start(w, leader);
    WAIT_FOR(w, 6000, all_parked(w));
    for (uint64_t object = 0; object < 6; object++) {
        CHECK_EQ(world_read(w, object, 0, 1, got), 0);
        CHECK(!memcmp(got, data, BLOCK_SIZE));
    }
    world_free(w);
}

static bool everybody_leads_somewhere(struct world *w, uint32_t but)
{
    for (uint32_t p = 0; p < w->pg_count; p++) {
        uint32_t leader = world_leader(w, placement_pg_id(POOL, p));
        if (leader == but || leader == UINT32_MAX)
            return false;
    }
    return true;
}

static void test_leader_hangs(void)
{
    struct world *w = world_at_rest(24);
    uint32_t leader = world_leader(w, world_pg(w, 0));

    sim_node_pause(w->osds[leader].node);
    uint64_t hung_ns = w->sim->now_ns;
    WAIT_FOR(w, 2000, everybody_leads_somewhere(w, leader));
    CHECK(w->sim->now_ns - hung_ns < 1300 * NS_PER_MS);
    sim_node_resume(w->osds[leader].node);
    WAIT_FOR(w, 6000, all_parked(w));
    world_free(w);
}

/* A member that hangs is missed by its leaders, and what is written meanwhile reaches it. */
static void test_follower_hangs(void)
{
    struct world *w = world_at_rest(25);
    uint32_t leader = world_leader(w, world_pg(w, 0)), follower = (leader + 1) % OSDS;
    struct pg *led = pg_find(w->osds[leader].shard, world_pg(w, 0));
    const struct raft_member *m = raft_member(&led->raft, follower + 1);

    sim_node_pause(w->osds[follower].node);
    WAIT_FOR(w, 2000, !led->parked && !pg_in_contact(led, m, clock_ns(w, leader)));
    CHECK_EQ(led->raft.role, RAFT_LEADER);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    sim_node_resume(w->osds[follower].node);
    WAIT_FOR(w, 6000, all_parked(w) && world_settled(w));
    world_free(w);
}

static void test_transfer(void)
{
    struct world *w = world_at_rest(26);
    uint64_t id = world_pg(w, 0);
    uint32_t leader = world_leader(w, id), to = (leader + 1) % OSDS;
    CHECK_EQ(world_transfer(w, id, to), 0);
    WAIT_FOR(w, 500, world_leader(w, id) == to);
    WAIT_FOR(w, 4000, all_parked(w));
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    world_free(w);
}

static void feed(struct world *w, Fb__Pg *item, Fb__ImageOrder *order)
{
    Fb__ClusterMap delta = FB__CLUSTER_MAP__INIT;

    delta.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    delta.base_epoch = w->epoch++;
    delta.epoch = w->epoch;
    delta.pg = &item;
    delta.n_pg = item ? 1 : 0;
    delta.order = &order;
    delta.n_order = order ? 1 : 0;
    for (uint32_t i = 0; i < OSDS; i++) {
        sim_node_enter(w->osds[i].node);
        CHECK_EQ(shard_feed_map(w->osds[i].shard, &delta), 0);
        sim_node_leave(w->osds[i].node);
    }
}

/* A member has just died when its groups, which rest, are to be led by it, or by anybody. */
static void test_transfer_to_the_dead(void)
{
    struct world *w = world_at_rest(35);
    Fb__PgTransferRequest any = FB__PG_TRANSFER_REQUEST__INIT;

    for (uint32_t p = 0; p < w->pg_count; p++)
        world_lead(w, placement_pg_id(POOL, p), 0);
    WAIT_FOR(w, 6000, all_parked(w));
    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 100, !shard_peer_reachable(peer_at(w, 0, 1)));
    CHECK(group_at(w, 0, 0)->parked && group_at(w, 0, 1)->parked);
    CHECK_EQ(world_transfer(w, placement_pg_id(POOL, 0), 1), -ERR_RETRY);
    CHECK_EQ(group_at(w, 0, 0)->raft.role, RAFT_LEADER);
    any.any = true;
    for (uint32_t p = 1; p < w->pg_count; p++) {
        any.pg = placement_pg_id(POOL, p);
        sim_node_enter(w->osds[0].node);
        CHECK_EQ(pg_transfer(w->osds[0].shard, &any), 0);
        sim_node_leave(w->osds[0].node);
    }
    sim_run_for(w->sim, 100 * NS_PER_MS);
    CHECK_EQ(group_at(w, 0, 0)->raft.role, RAFT_LEADER);
    for (uint32_t p = 1; p < w->pg_count; p++)
        CHECK_EQ(group_at(w, 2, p)->raft.role, RAFT_LEADER);
    world_free(w);
}

/* The same of groups that do not rest yet, and have nothing to say to anybody just then. */
static void test_transfer_to_the_dead_awake(void)
{
    Fb__PgTransferRequest any = FB__PG_TRANSFER_REQUEST__INIT;

    for (uint32_t dead = 1; dead < OSDS; dead++) {
        struct world *w = world_at_rest(36);

        for (uint32_t p = 0; p < w->pg_count; p++)
            world_lead(w, placement_pg_id(POOL, p), 0);
        sim_node_enter(w->osds[0].node);
        for (uint32_t p = 0; p < w->pg_count; p++) {
            pg_unpark(group_at(w, 0, p));
            shard_heartbeat_traffic(group_at(w, 0, p));
        }
        sim_node_leave(w->osds[0].node);
        sim_run_for(w->sim, 200 * NS_PER_MS);
        world_osd_kill(w, dead, SIM_CRASH_PROCESS);
        WAIT_FOR(w, 100, !shard_peer_reachable(peer_at(w, 0, dead)));
        any.any = true;
        for (uint32_t p = 0; p < w->pg_count; p++) {
            any.pg = placement_pg_id(POOL, p);
            sim_node_enter(w->osds[0].node);
            CHECK(!group_at(w, 0, p)->parked);
            CHECK_EQ(pg_transfer(w->osds[0].shard, &any), 0);
            sim_node_leave(w->osds[0].node);
        }
        sim_run_for(w->sim, 100 * NS_PER_MS);
        for (uint32_t p = 0; p < w->pg_count; p++)
            CHECK_EQ(group_at(w, 3 - dead, p)->raft.role, RAFT_LEADER);
        world_free(w);
    }
}

/* A change of the map is looked at by the groups that it concerns. */
static void test_map(void)
{
    struct world *w = world_at_rest(27);
    uint8_t packed[512];
    size_t len = fb__pg__pack(shard_map_pg(w->osds[0].shard, placement_pg_id(POOL, 3)), packed);
    Fb__Pg *item = fb__pg__unpack(NULL, len, packed);
    Fb__ImageOrder done = FB__IMAGE_ORDER__INIT;
    uint64_t steps[OSDS];

    for (uint32_t i = 0; i < OSDS; i++)
        steps[i] = w->osds[i].shard->core->counters.steps;
    feed(w, NULL, NULL);
    sim_run_for(w->sim, 5 * NS_PER_MS);
    CHECK(all_parked(w));
    done.image = IMAGE + 1;
    done.pool = POOL;
    done.epoch = w->epoch + 1;
    done.deleted = done.removed = true;
    feed(w, NULL, &done);
    sim_run_for(w->sim, 5 * NS_PER_MS);
    CHECK(all_parked(w));
    item->epoch = w->epoch + 1;
    feed(w, item, NULL);
    fb__pg__free_unpacked(item, NULL);
    sim_run_for(w->sim, 5 * NS_PER_MS);
    for (uint32_t i = 0; i < OSDS; i++) {
        CHECK(w->osds[i].shard->core->counters.steps - steps[i] < 20);
        for (uint32_t p = 0; p < w->pg_count; p++)
            CHECK_EQ(group_at(w, i, p)->parked, p != 3);
    }
    WAIT_FOR(w, 4000, all_parked(w));
    world_free(w);
}

/* A member asks for a vote, and its question whether it would get it was lost on the way: so the vote is the
 * first that a parked member hears of it. */
static void ask_for_vote(struct world *w, uint32_t from, uint32_t to)
{
    static uint8_t frame[FRAME_HEADER_SIZE + 256];
    struct peer *peer = shard_peer_find(w->osds[to].shard, from, 0);
    const struct pg *pg = group_at(w, to, 0);
    Fb__RaftMessage out = FB__RAFT_MESSAGE__INIT;
    struct rpc_message message = {.method = METHOD_RAFT, .flags = FRAME_ONEWAY, .body = rpc_body(frame)};

    out.pg = pg->id;
    out.from = from + 1;
    out.to = to + 1;
    out.type = RAFT_VOTE;
    out.term = pg->raft.term + 1;
    out.index = pg->raft.last_index;
    out.log_term = raft_term_at(&pg->raft, pg->raft.last_index);
    out.incarnation = peer->incarnation;
    CHECK(!wire_cold_encode(&out.base, rpc_body(frame), 256, &message.body_len));
    sim_node_enter(w->osds[to].node);
    shard_oneway(peer, &message);
    sim_node_leave(w->osds[to].node);
}

static void test_vote_while_parked(void)
{
    struct world *w = world_at_rest(29);
    uint32_t leader = world_leader(w, placement_pg_id(POOL, 0)), follower = (leader + 1) % OSDS,
             other = (leader + 2) % OSDS;
    const struct peer *peer = shard_peer_find(w->osds[follower].shard, leader, 0);
    uint64_t heard_ns = peer->heard_ns, term = group_at(w, follower, 0)->raft.term;

    WAIT_FOR(w, 2000, peer->heard_ns != heard_ns);
    CHECK(group_at(w, follower, 0)->parked);
    ask_for_vote(w, other, follower);
    CHECK_EQ(group_at(w, follower, 0)->raft.term, term);
    WAIT_FOR(w, 4000, all_parked(w));
    CHECK_EQ(world_leader(w, placement_pg_id(POOL, 0)), leader);
    /* The leader itself has promised, as long as it may have a lease. */
    uint64_t contact_ns = shard_peer_find(w->osds[leader].shard, follower, 0)->contact_ns;
    WAIT_FOR(w, 2000, shard_peer_find(w->osds[leader].shard, follower, 0)->contact_ns != contact_ns);
    CHECK(group_at(w, leader, 0)->parked);
    ask_for_vote(w, other, leader);
    CHECK_EQ(group_at(w, leader, 0)->raft.term, term);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_promises);
    TEST(test_heard_is_not_answered);
    TEST(test_refused);
    TEST(test_neighbours);
    TEST(test_member_away);
    TEST(test_both_members_away);
    TEST(test_removal_without_a_member);
    TEST(test_ring_is_let_go);
    TEST(test_heartbeat_is_not_put_off);
    TEST(test_leader_dies);
    TEST(test_leader_hangs);
    TEST(test_follower_hangs);
    TEST(test_transfer);
    TEST(test_transfer_to_the_dead);
    TEST(test_transfer_to_the_dead_awake);
    TEST(test_map);
    TEST(test_vote_while_parked);
    fake_store_forget_all();
    return tap_done();
}
