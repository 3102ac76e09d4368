/* SPDX-License-Identifier: Apache-2.0
 *
 * The members of a PG change while clients write: one, several, the leader, all; with crashes of the new one
 * and of the leader at every step. And what must not happen: that a replica is created twice, votes before it
 * is known to exist, or is deleted without an order that names it.
 */
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define OBJECTS 40
#define WRITERS 4
#define LOAD_NS (2 * NS_PER_MS) /* between the writes of one: the log in memory is a short one */

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];
static bool withhold_born; /* the monitor does not hear of births */
static bool withhold_drop; /* it does not order anything to be deleted */

/* ---- a monitor that sees what shards would report ---- */

static uint64_t the_pg(void)
{
    return placement_pg_id(POOL, 0);
}

static struct store_pg *replica_on(struct world *w, uint32_t osd)
{
    return world_replica(w, osd, the_pg());
}

static const struct pg *leader_pg(struct world *w)
{
    uint32_t leader = world_leader(w, the_pg());

    return leader == UINT32_MAX ? NULL : pg_find(w->osds[leader].shard, the_pg());
}

static void members_add(struct world_members *to, const Fb__PgMember *row)
{
    CHECK(to->count < GROUP_MEMBERS_MAX);
    to->row[to->count++] = *row;
}

static bool is_done(const struct world_pg *pg)
{
    for (uint32_t i = 0; i < pg->wanted.count; i++) {
        const Fb__PgMember *m = world_member_find(&pg->member, pg->wanted.row[i].replica);
        if (!m || m->learner)
            return false;
    }
    return pg->member.count == pg->wanted.count;
}

static bool take_group(struct world_pg *pg, const struct group *group)
{
    struct world_members was = pg->member;

    if (group->index <= pg->group_index || group_joint(group))
        return false;
    pg->group_index = group->index;
    pg->member.count = 0;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct group_member *m = &group->members[i];
        const Fb__PgMember *known = world_member_find(&pg->wanted, m->replica);
        Fb__PgMember row = FB__PG_MEMBER__INIT;
        known = known ? known : world_member_find(&was, m->replica);
        row.replica = m->replica;
        row.osd = m->osd;
        row.learner = !m->flags;
        row.birth = known ? known->birth : 0;
        row.born = known ? known->born : false;
        members_add(&pg->member, &row);
    }
    for (uint32_t i = 0; i < was.count && group->epoch >= pg->wanted_epoch; i++)
        if (!world_member_find(&pg->member, was.row[i].replica) &&
            !world_member_find(&pg->wanted, was.row[i].replica))
            members_add(&pg->dropped, &was.row[i]);
    if (group->epoch >= pg->wanted_epoch && is_done(pg))
        pg->wanted.count = 0;
    return true;
}

static bool take_births(struct world *w, struct world_pg *pg)
{
    bool changed = false;

    for (uint32_t i = 0; i < pg->wanted.count && !withhold_born; i++) {
        Fb__PgMember *m = &pg->wanted.row[i];
        const struct store_pg *sp = replica_on(w, m->osd);
        if (!m->birth || m->born || !sp || sp->record.replica != m->replica)
            continue;
        m->born = changed = true;
    }
    return changed;
}

static bool take_deletions(struct world *w, struct world_pg *pg)
{
    uint32_t count = pg->dropped.count;

    for (uint32_t i = pg->dropped.count; i-- > 0;) {
        struct osd_shard *shard = w->osds[pg->dropped.row[i].osd].shard;
        const struct store_pg *sp = replica_on(w, pg->dropped.row[i].osd);
        if (shard && shard->map.saved_epoch >= w->epoch &&
            (!sp || sp->record.replica != pg->dropped.row[i].replica))
            pg->dropped.row[i] = pg->dropped.row[--pg->dropped.count];
    }
    return pg->dropped.count != count;
}

static void monitor_look(struct world *w)
{
    struct world_pg *pg = &w->pgs[0];
    const struct pg *leads = leader_pg(w);
    bool changed = false;

    if (leads && !withhold_drop)
        changed = take_group(pg, &leads->sp->record.group);
    changed |= take_births(w, pg);
    changed |= take_deletions(w, pg);
    if (changed)
        world_feed_map(w);
}

/* Wants the replicas to be on these OSDs: those that are there stay. */
static void want(struct world *w, uint32_t count, const uint32_t *osds)
{
    struct world_pg *pg = &w->pgs[0];

    pg->wanted.count = 0;
    pg->wanted_epoch = w->epoch + 1;
    for (uint32_t i = 0; i < count; i++) {
        Fb__PgMember row = FB__PG_MEMBER__INIT;
        row.replica = 0;
        for (uint32_t m = 0; m < pg->member.count; m++)
            if (pg->member.row[m].osd == osds[i])
                row = pg->member.row[m];
        if (!row.replica) {
            row.replica = pg->replica_next++;
            row.osd = osds[i];
            row.birth = w->epoch + 1;
        }
        members_add(&pg->wanted, &row);
    }
    world_feed_map(w);
}

/* The replicas are where they should be, and nowhere else. */
static bool changed_to(struct world *w, uint32_t count, const uint32_t *osds)
{
    struct world_pg *pg = &w->pgs[0];

    monitor_look(w);
    if (pg->wanted.count || pg->dropped.count || pg->member.count != count)
        return false;
    for (uint32_t osd = 0; osd < OSDS; osd++) {
        bool member = false;
        for (uint32_t i = 0; i < count; i++)
            member |= osds[i] == osd;
        if (sim_node_running(w->osds[osd].node) && member != (replica_on(w, osd) != NULL))
            return false;
    }
    return true;
}

/* ---- clients ---- */

static struct {
    struct io io[WRITERS];
    uint64_t number[WRITERS];
    uint8_t data[WRITERS][BLOCK_SIZE];
    uint64_t begun_ns[WRITERS];
    bool stop;
} load;

static bool load_crank(struct world *w)
{
    bool idle = true;

    for (uint32_t i = 0; i < WRITERS; i++) {
        struct io *io = &load.io[i];
        if (io->done)
            CHECK_EQ(io->result, 0);
        if (load.stop && io->done)
            continue;
        idle = false;
        if (!io->done || w->sim->now_ns < load.begun_ns[i] + LOAD_NS)
            continue;
        load.begun_ns[i] = w->sim->now_ns;
        memset(load.data[i], (int)++load.number[i], BLOCK_SIZE);
        *io = io_make(w, IO_WRITE, i, 0, BLOCK_SIZE);
        io->data = load.data[i];
        io_begin(io);
    }
    return idle;
}

static struct world *begin(uint64_t seed)
{
    struct world *w = world_new(seed, 1);

    withhold_born = withhold_drop = false;
    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = WRITERS; object < OBJECTS; object++) {
        memset(data, (int)object, BLOCK_SIZE);
        CHECK_EQ(world_write(w, object, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    }
    load.stop = false;
    for (uint32_t i = 0; i < WRITERS; i++) {
        load.io[i].done = true;
        load.io[i].result = 0;
        load.number[i] = load.begun_ns[i] = 0;
    }
    return w;
}

#define WORK_UNTIL(w, ms, condition) WAIT_FOR(w, ms, (load_crank(w), (condition)))

static void load_end(struct world *w)
{
    load.stop = true;
    WAIT_FOR(w, 10000, load_crank(w));
}

/* Each of them has all that was written. */
static void check_all(struct world *w, uint32_t count, const uint32_t *osds)
{
    load_end(w);
    WAIT_FOR(w, 10000, changed_to(w, count, osds) && world_settled(w));
    for (uint32_t i = 0; i < count; i++) {
        world_lead(w, the_pg(), osds[i]);
        for (uint64_t object = WRITERS; object < OBJECTS; object++) {
            CHECK_EQ(world_read(w, object, 9, 1, got), 0);
            CHECK(got[0] == (uint8_t)object && got[BLOCK_SIZE - 1] == (uint8_t)object);
        }
        for (uint64_t object = 0; object < WRITERS; object++) {
            CHECK_EQ(world_read(w, object, 0, 1, got), 0);
            CHECK_EQ(got[5], (uint8_t)load.number[object]);
        }
    }
    world_free(w);
}

/* ---- changes ---- */

static void change_to(uint64_t seed, uint32_t count, const uint32_t *osds, uint32_t leader)
{
    struct world *w = begin(seed);

    world_lead(w, the_pg(), leader);
    want(w, count, osds);
    WORK_UNTIL(w, 20000, changed_to(w, count, osds));
    check_all(w, count, osds);
}

static void test_replace(void)
{
    change_to(1, 3, (uint32_t[]){0, 1, 3}, 0);
    change_to(2, 3, (uint32_t[]){1, 2, 3}, 0); /* the leader itself */
    change_to(3, 3, (uint32_t[]){3, 4, 2}, 0);
}

static void test_more_and_fewer(void)
{
    change_to(4, 5, (uint32_t[]){0, 1, 2, 3, 4}, 1);
    change_to(5, 2, (uint32_t[]){1, 2}, 1);
    change_to(6, 1, (uint32_t[]){2}, 1);
}

static void test_all_at_once(void)
{
    struct world *w = begin(7);
    const uint32_t osds[] = {3, 4}, back[] = {0, 1, 2};

    world_lead(w, the_pg(), 0);
    want(w, 2, osds);
    WORK_UNTIL(w, 20000, changed_to(w, 2, osds));
    /* And back: under new numbers. */
    want(w, 3, back);
    WORK_UNTIL(w, 20000, changed_to(w, 3, back));
    CHECK_EQ(replica_on(w, 0)->record.replica, 6);
    check_all(w, 3, back);
}

/* What was wanted is given up for something else while it is being carried out. */
static void test_change_of_mind(void)
{
    const uint32_t first[] = {0, 1, 3}, then[] = {0, 1, 4};

    for (uint32_t ms = 0; ms < 400; ms += 37) {
        struct world *w = begin(8 + ms);
        uint64_t until_ns = w->sim->now_ns + ms * NS_PER_MS;
        want(w, 3, first);
        WORK_UNTIL(w, 1000, (monitor_look(w), w->sim->now_ns >= until_ns));
        struct world_members was = w->pgs[0].wanted;
        want(w, 3, then);
        /* That one may never have become a member: it goes when the group is one of the new list. */
        for (uint32_t i = 0; i < was.count; i++)
            if (was.row[i].osd == 3 && !world_member_find(&w->pgs[0].member, was.row[i].replica)) {
                WORK_UNTIL(w, 20000,
                           (monitor_look(w),
                            leader_pg(w) && leader_pg(w)->sp->record.group.epoch >= w->pgs[0].wanted_epoch));
                if (!world_member_find(&w->pgs[0].dropped, was.row[i].replica)) {
                    members_add(&w->pgs[0].dropped, &was.row[i]);
                    world_feed_map(w);
                }
            }
        WORK_UNTIL(w, 20000, changed_to(w, 3, then));
        check_all(w, 3, then);
    }
}

/* A leader whose map has an older list than the newest group of its log leaves that group alone: the monitor
 * may have had the replicas deleted that only the older list named. */
static void test_old_list(void)
{
    const uint32_t first[] = {0, 1, 3}, then[] = {0, 1, 2};
    struct world *w = begin(120);
    struct world_pg *pg = &w->pgs[0];

    load_end(w);
    world_lead(w, the_pg(), 0);
    want(w, 3, first);
    WAIT_FOR(w, 5000, replica_on(w, 3));
    struct world_members was = pg->wanted;
    w->osds[1].unfed = true;
    want(w, 3, then);
    WAIT_FOR(w, 5000, replica_on(w, 1)->record.group.epoch == pg->wanted_epoch);
    world_lead(w, the_pg(), 1);
    sim_run_for(w->sim, 2 * NS_PER_S);
    CHECK_EQ(world_leader(w, the_pg()), 1);
    CHECK_EQ(leader_pg(w)->raft.group.epoch, pg->wanted_epoch);
    CHECK(!group_find(&leader_pg(w)->raft.group, was.row[2].replica));
    w->osds[1].unfed = false;
    members_add(&pg->dropped, &was.row[2]);
    world_feed_map(w);
    WAIT_FOR(w, 20000, changed_to(w, 3, then));
    world_free(w);
}

/* A map that is larger than the place that it is to be saved in brings nobody into the world. */
static void test_born_by_a_map_that_fits(void)
{
    const uint32_t osds[] = {0, 1, 3};
    struct world *w = begin(122);

    load_end(w);
    world_feed_large(w, 3, STORE_BLOB_MAX);
    want(w, 3, osds);
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK(!replica_on(w, 3));
    world_feed_large(w, 3, 1);
    WAIT_FOR(w, 20000, changed_to(w, 3, osds));
    world_free(w);
}

/* A split is in the log, and its leader has no room to carry it out: the members stay as they are until it
 * has, or those of the child might be gone before it is born. */
static void test_split_comes_first(void)
{
    const uint32_t osds[] = {0, 1, 3};
    struct world *w = begin(121);

    load_end(w);
    world_lead(w, the_pg(), 0);
    sim_node_enter(w->osds[0].node);
    fake_store_refuse_splits(osd_shard_store(w->osds[0].shard), true);
    sim_node_leave(w->osds[0].node);
    w->pg_target = 2;
    world_feed_map(w);
    WAIT_FOR(w, 5000, leader_pg(w) && leader_pg(w)->split_proposed);
    want(w, 3, osds);
    uint64_t index = leader_pg(w)->raft.group.index;
    sim_run_for(w->sim, 2 * NS_PER_S);
    CHECK(leader_pg(w)->split_proposed && leader_pg(w)->raft.group.index == index);
    sim_node_enter(w->osds[0].node);
    fake_store_refuse_splits(osd_shard_store(w->osds[0].shard), false);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 20000, changed_to(w, 3, osds));
    world_free(w);
}

/* ---- crashes at every step ---- */

/* Changes whenever the change gets on. */
static uint64_t phase(struct world *w, uint32_t osd)
{
    const struct store_pg *sp = replica_on(w, osd);
    const struct pg *pg = sp && w->osds[osd].shard ? pg_find(w->osds[osd].shard, the_pg()) : NULL;
    const struct pg *leads = leader_pg(w);
    uint64_t p = sp ? 1 + (uint64_t)sp->record.state : 0;

    p = p * 16 + (pg && pg->recover ? 1 + (uint64_t)((struct op *)pg->recover)->state : 0);
    p = p * 2 + w->pgs[0].wanted.row[2].born;
    p = p * 1024 + (leads ? leads->raft.group.index % 1024 : 0);
    return p * 1024 + (leads ? leads->sp->record.group.index % 1024 : 0);
}

/* Kills that one (UINT32_MAX: whoever leads) at the step of that number. False: there were not so many. */
static bool crash_at(uint64_t seed, uint32_t step, uint32_t victim, bool leaves, enum sim_crash kind)
{
    struct world *w = begin(seed);
    const uint32_t stays[] = {0, 1, 3}, goes[] = {1, 2, 3}, *osds = leaves ? goes : stays;
    uint64_t last;
    uint32_t steps = 0;

    world_lead(w, the_pg(), 0);
    want(w, 3, osds);
    last = phase(w, 3);
    while (steps < step && !changed_to(w, 3, osds) && sim_step(w->sim, UINT64_MAX)) {
        load_crank(w);
        uint64_t now = phase(w, 3);
        steps += now != last;
        last = now;
    }
    if (steps == step) {
        uint32_t killed = victim == UINT32_MAX ? world_leader(w, the_pg()) : victim;
        if (killed != UINT32_MAX) {
            world_osd_kill(w, killed, kind);
            uint64_t until_ns = w->sim->now_ns + 700 * NS_PER_MS;
            WORK_UNTIL(w, 1000, (monitor_look(w), w->sim->now_ns >= until_ns));
            world_osd_start(w, killed);
        }
    }
    WORK_UNTIL(w, 30000, changed_to(w, 3, osds));
    check_all(w, 3, osds);
    return steps == step;
}

static void test_learner_crashes(void)
{
    uint32_t step = 0;

    while (crash_at(100 + step, step, 3, false, step % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS))
        step++;
    printf("# %u steps\n", step);
    CHECK(step > 8);
}

static void test_leader_crashes(void)
{
    uint32_t step = 0;

    while (crash_at(200 + step, step, UINT32_MAX, false, step % 2 ? SIM_CRASH_POWER : SIM_CRASH_PROCESS))
        step++;
    CHECK(step > 8);
}

static void test_leaving_leader_crashes(void)
{
    uint32_t step = 0;

    while (crash_at(300 + step, step, UINT32_MAX, true, SIM_CRASH_PROCESS))
        step++;
    CHECK(step > 8);
}

/* ---- what must not happen ---- */

/* Only what is known to exist votes: or a device that is wiped then would be taken for one that never had
 * anything. */
static void test_unborn_does_not_vote(void)
{
    struct world *w = begin(20);
    const uint32_t osds[] = {0, 1, 3};

    withhold_born = true;
    want(w, 3, osds);
    uint64_t until_ns = w->sim->now_ns + 5 * NS_PER_S;
    WORK_UNTIL(w, 6000, (monitor_look(w), w->sim->now_ns >= until_ns));
    const struct pg *leads = leader_pg(w);
    CHECK(leads && !leads->raft.joint && leads->raft.group.count == 4);
    CHECK_EQ(group_find(&leads->raft.group, 4)->flags, 0);
    withhold_born = false;
    WORK_UNTIL(w, 20000, changed_to(w, 3, osds));
    check_all(w, 3, osds);
}

static void test_wiped_is_not_created_again(void)
{
    struct world *w = begin(21);
    const uint32_t osds[] = {0, 1, 3}, instead[] = {0, 1, 2};

    want(w, 3, osds);
    w->osds[0].unfed = w->osds[1].unfed = w->osds[2].unfed = true; /* it gets no further than to be born */
    WORK_UNTIL(w, 20000, (monitor_look(w), w->pgs[0].wanted.row[2].born));
    WORK_UNTIL(w, 1000, w->osds[3].shard->map.saved_epoch == w->epoch);
    world_osd_kill(w, 3, SIM_CRASH_PROCESS);
    w->osds[0].unfed = w->osds[1].unfed = w->osds[2].unfed = false;
    world_feed_map(w);
    fake_store_lose_pg(w->osds[3].label.osd_uuid, the_pg());
    world_osd_start(w, 3);
    uint64_t until_ns = w->sim->now_ns + 5 * NS_PER_S;
    WORK_UNTIL(w, 6000, (monitor_look(w), w->sim->now_ns >= until_ns));
    CHECK(w->osds[3].shard && !replica_on(w, 3));
    /* It is given up, and comes again under another number. */
    want(w, 3, instead);
    WORK_UNTIL(w, 20000, changed_to(w, 3, instead));
    want(w, 3, osds);
    WORK_UNTIL(w, 20000, changed_to(w, 3, osds));
    CHECK_EQ(replica_on(w, 3)->record.replica, 5);
    check_all(w, 3, osds);
}

/* Out of the group is not out of the world: only an order that names it deletes a replica. */
static void test_deleted_by_order_only(void)
{
    struct world *w = begin(22);
    const uint32_t osds[] = {0, 1, 3};

    world_lead(w, the_pg(), 0);
    want(w, 3, osds);
    WORK_UNTIL(w, 20000, (monitor_look(w), !w->pgs[0].wanted.count || w->pgs[0].dropped.count));
    w->pgs[0].dropped.count = 0;
    world_feed_map(w);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    world_osd_start(w, 2);
    uint64_t until_ns = w->sim->now_ns + 3 * NS_PER_S;
    WORK_UNTIL(w, 4000, w->sim->now_ns >= until_ns);
    CHECK(replica_on(w, 2));
    /* Another number is another replica. */
    Fb__PgMember row = FB__PG_MEMBER__INIT;
    row.replica = 77;
    row.osd = 2;
    members_add(&w->pgs[0].dropped, &row);
    world_feed_map(w);
    WORK_UNTIL(w, 4000, (monitor_look(w), !w->pgs[0].dropped.count));
    CHECK(replica_on(w, 2));
    row.replica = 3;
    members_add(&w->pgs[0].dropped, &row);
    world_feed_map(w);
    WORK_UNTIL(w, 20000, changed_to(w, 3, osds));
    check_all(w, 3, osds);
}

/* It has left, is there still, and is wanted again: one of the first, which no order has made. */
static void test_wanted_again(void)
{
    struct world *w = begin(25);
    struct world_pg *pg = &w->pgs[0];
    const uint32_t osds[] = {0, 1, 3}, back[] = {0, 1, 2};

    world_lead(w, the_pg(), 0);
    Fb__PgMember third = pg->member.row[2];
    want(w, 3, osds);
    WORK_UNTIL(w, 20000, (monitor_look(w), !pg->wanted.count));
    CHECK_EQ(pg->dropped.count, 1);
    pg->dropped.count = 0;
    want(w, 2, osds);
    members_add(&pg->wanted, &third);
    world_feed_map(w);
    WORK_UNTIL(w, 20000, changed_to(w, 3, back));
    CHECK_EQ(replica_on(w, 2)->record.replica, 3);
    check_all(w, 3, back);
}

/* ---- who was away ---- */

static void test_removed_comes_back(void)
{
    struct world *w = begin(23);
    const uint32_t osds[] = {0, 1, 3};

    world_lead(w, the_pg(), 0);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    w->osds[2].unfed = true;
    want(w, 3, osds);
    WORK_UNTIL(w, 20000, (monitor_look(w), !w->pgs[0].wanted.count));
    CHECK_EQ(w->pgs[0].dropped.count, 1);
    uint64_t term = leader_pg(w)->raft.term;
    world_osd_start(w, 2);
    uint64_t until_ns = w->sim->now_ns + 5 * NS_PER_S;
    WORK_UNTIL(w, 6000, w->sim->now_ns >= until_ns);
    CHECK(replica_on(w, 2));
    CHECK_EQ(leader_pg(w)->raft.term, term);
    w->osds[2].unfed = false;
    world_feed_map(w);
    WORK_UNTIL(w, 20000, changed_to(w, 3, osds));
    check_all(w, 3, osds);
}

/* All the others are new, and no monitor tells it. */
static void test_stays_among_strangers(void)
{
    struct world *w = begin(24);
    const uint32_t osds[] = {3, 4, 2};

    world_lead(w, the_pg(), 0);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    w->osds[2].unfed = true;
    want(w, 3, osds);
    WORK_UNTIL(w, 20000, (monitor_look(w), !w->pgs[0].wanted.count && !w->pgs[0].dropped.count));
    world_osd_start(w, 2);
    WORK_UNTIL(w, 20000,
               replica_on(w, 2) && replica_on(w, 2)->record.group.count == 3 &&
                   group_find(&replica_on(w, 2)->record.group, 4));
    check_all(w, 3, osds);
}

/* After a restart the PG table may know a newer group than the state that the store begins with: it has it at
 * once, the rest follows when all of it is on the device. A recovery must be served all the same, since the
 * leader may not be able to commit, and so to apply, anything before. */
static void test_group_newer_than_state(void)
{
    struct world *w = begin(25);
    const uint32_t osds[] = {0, 1, 2};
    uint64_t recoveries, target;

    world_lead(w, the_pg(), 0);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    target = leader_pg(w)->raft.last_index + 2 * FAKE_LOG_KEEP;
    WORK_UNTIL(w, 20000, leader_pg(w)->raft.last_index >= target); /* the log does not reach back any more */
    load_end(w);
    replica_on(w, 0)->record.group.index = replica_on(w, 0)->applied_index + 1000;
    world_osd_start(w, 2);
    WAIT_FOR(w, 10000, replica_on(w, 2) && w->osds[2].shard->perf.recoveries);
    recoveries = w->osds[2].shard->perf.recoveries;
    WAIT_FOR(w, 10000, replica_on(w, 2)->applied_index >= target && world_settled(w));
    CHECK_EQ(w->osds[2].shard->perf.recoveries, recoveries);
    CHECK(replica_on(w, 2)->record.group.index <= replica_on(w, 2)->applied_index);
    replica_on(w, 0)->record.group.index = 0;
    load.stop = false;
    check_all(w, 3, osds);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_replace);
    TEST(test_more_and_fewer);
    TEST(test_all_at_once);
    TEST(test_change_of_mind);
    TEST(test_old_list);
    TEST(test_split_comes_first);
    TEST(test_born_by_a_map_that_fits);
    TEST(test_unborn_does_not_vote);
    TEST(test_wiped_is_not_created_again);
    TEST(test_deleted_by_order_only);
    TEST(test_wanted_again);
    TEST(test_removed_comes_back);
    TEST(test_stays_among_strangers);
    TEST(test_group_newer_than_state);
    TEST(test_learner_crashes);
    TEST(test_leader_crashes);
    TEST(test_leaving_leader_crashes);
    fake_store_forget_all();
    return tap_done();
}
