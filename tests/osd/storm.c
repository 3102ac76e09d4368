/* SPDX-License-Identifier: Apache-2.0
 *
 * More elections than the processors can hold within a round: a thousand groups have lost their leaders at
 * once, on processors that take long for each message. Elections must not feed on themselves: all groups have
 * leaders again within a few times what the work takes. And a host that was away does not take the silence
 * of its own absence for that of others.
 */
#include <string.h>

#include "base/placement.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

/* The store is the real one. */
void fake_store_forget_all(void)
{
}

static struct pg *group_at(struct world *w, uint32_t osd, uint32_t pg)
{
    return w->osds[osd].shard ? pg_find(w->osds[osd].shard, placement_pg_id(POOL, pg)) : NULL;
}

static uint32_t served_count(struct world *w)
{
    uint32_t count = 0;

    for (uint32_t p = 0; p < w->pg_count; p++)
        for (uint32_t i = 0; i < OSDS; i++) {
            const struct pg *pg = group_at(w, i, p);
            if (pg && pg_serves(pg)) {
                count++;
                break;
            }
        }
    return count;
}

static uint32_t served_by_others(struct world *w)
{
    uint32_t count = 0;

    for (uint32_t p = 0; p < w->pg_count; p++)
        count += pg_serves(group_at(w, 1, p)) || pg_serves(group_at(w, 2, p));
    return count;
}

static uint64_t term_max(struct world *w)
{
    uint64_t term = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        for (uint32_t p = 0; p < w->pg_count; p++)
            term = MAX(term, group_at(w, i, p) ? group_at(w, i, p)->raft.term : 0);
    return term;
}

static uint64_t elections(struct world *w)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        count += w->osds[i].shard ? w->osds[i].shard->perf.elections_won : 0;
    return count;
}

static void set_work(struct world *w, uint64_t work_ns)
{
    for (uint32_t i = 0; i < OSDS; i++)
        w->osds[i].node->config.work_ns = work_ns;
}

/* Seconds until all groups are served; at most `limit`. */
static uint32_t wait_served(struct world *w, uint32_t limit)
{
    uint32_t s = 0;

    while (s < limit && served_count(w) < w->pg_count) {
        sim_run_for(w->sim, NS_PER_S);
        s++;
    }
    CHECK_EQ(served_count(w), w->pg_count);
    return s;
}

/* All begin anew, as after a power cut. An election is some 15 steps and messages at each member: 0.8 s of
 * work at 50 us, and 3 s at 200 us; half as much again where heartbeats that come round late change nothing
 * of how many there are at once, up to the limit of the product (which the rooms with planted bugs have not).
 */
static void test_all_begin_anew(void)
{
    static const uint32_t work_us[] = {50, 200}, limit_s[] = {4, 7};

    for (uint32_t n = 0; n < ARRAY_LEN(work_us); n++) {
        struct world *w = world_new(51 + n, PGS_MAX);
        uint64_t term = term_max(w);

        for (uint32_t i = 0; i < OSDS; i++)
            world_osd_kill(w, i, SIM_CRASH_PROCESS);
        for (uint32_t i = 0; i < OSDS; i++)
            world_osd_start(w, i);
        set_work(w, work_us[n] * NS_PER_US);
        uint32_t took_s = wait_served(w, limit_s[n]);
        uint64_t won = elections(w);
        printf("# %u us for each step: %u groups served after %u s, elections won %llu, terms up to %llu\n",
               work_us[n], w->pg_count, took_s, (unsigned long long)won,
               (unsigned long long)(term_max(w) - term));
        CHECK(term_max(w) - term < 8);
        set_work(w, 0);
        world_free(w);
    }
}

/* Clients wait for a few of the groups that all begin anew: these come first. */
static void test_wanted_first(void)
{
    enum { WRITES = 8 };
    static uint8_t data[BLOCK_SIZE];
    struct world *w = world_new(54, PGS_MAX);
    struct io io[WRITES];
    uint32_t done = 0;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_start(w, i);
    set_work(w, 200 * NS_PER_US);
    for (uint32_t n = 0; n < WRITES; n++) {
        io[n] = io_make(w, IO_WRITE, n, 0, BLOCK_SIZE);
        io[n].data = data;
        io_begin(&io[n]);
    }
    uint64_t begun_ns = w->sim->now_ns;
    while (done < WRITES && w->sim->now_ns < begun_ns + 12 * NS_PER_S) {
        sim_run_for(w->sim, 10 * NS_PER_MS);
        for (uint32_t n = done = 0; n < WRITES; n++)
            done += io[n].done && !io[n].result;
    }
    CHECK_EQ(done, WRITES);
    printf("# %u groups were written to after %u ms, when %u of %u were served\n", WRITES,
           (uint32_t)((w->sim->now_ns - begun_ns) / NS_PER_MS), served_count(w), w->pg_count);
    CHECK(served_count(w) < w->pg_count / 2);
    wait_served(w, 12);
    set_work(w, 0);
    world_free(w);
}

/* All disks take 300 ms for each write, so twice that for a vote: longer than any round of an election. */
static void test_slow_votes(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 300 * NS_PER_MS};
    struct world *w = world_new(55, 4);

    for (uint32_t i = 0; i < OSDS; i++)
        sim_disk_set_faults(w->osds[i].disk, &slow);
    world_osd_kill(w, world_leader(w, placement_pg_id(POOL, 0)), SIM_CRASH_PROCESS);
    WAIT_FOR(w, 8000, served_count(w) == w->pg_count);
    for (uint32_t i = 0; i < OSDS; i++)
        sim_disk_set_faults(w->osds[i].disk, &(struct sim_disk_faults){0});
    world_free(w);
}

/* Whose votes come late may lead while it waits for another turn: then it waits for none, or nobody would
 * look at its deadlines. */
static void test_late_leaders(void)
{
    const struct sim_disk_faults slow = {.slow_ppm = 1000000, .slow_ns = 300 * NS_PER_MS};
    struct world *w = world_new(56, 256);
    uint32_t waiting = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < OSDS; i++) {
        world_osd_start(w, i);
        sim_disk_set_faults(w->osds[i].disk, &slow);
    }
    for (uint32_t ms = 0; ms < 60000 && served_count(w) < w->pg_count; ms++) {
        sim_run_for(w->sim, NS_PER_MS);
        for (uint32_t i = 0; i < OSDS; i++)
            for (uint32_t p = 0; p < w->pg_count; p++) {
                const struct pg *pg = group_at(w, i, p);
                waiting += pg && pg->raft.role == RAFT_LEADER && pg->election == PG_ELECTION_WAITING;
            }
    }
    CHECK_EQ(served_count(w), w->pg_count);
    CHECK_EQ(waiting, 0);
    for (uint32_t i = 0; i < OSDS; i++)
        sim_disk_set_faults(w->osds[i].disk, &(struct sim_disk_faults){0});
    world_free(w);
}

/* The machine was suspended, or nobody got the processor: whoever leads goes on, though all were silent, also
 * if it comes back later than the others. */
static void test_all_away(void)
{
    struct world *w = world_new(53, 64);

    sim_run_for(w->sim, 200 * NS_PER_MS); /* not at rest */
    uint64_t before = elections(w);
    for (uint32_t late_ms = 0; late_ms <= 100; late_ms += 100) {
        for (uint32_t i = 0; i < OSDS; i++)
            sim_node_pause(w->osds[i].node);
        sim_run_for(w->sim, 2 * NS_PER_S);
        for (uint32_t i = OSDS; i-- > 0;) {
            if (i == 0) /* it leads all of them */
                sim_run_for(w->sim, late_ms * NS_PER_MS);
            sim_node_resume(w->osds[i].node);
        }
        sim_run_for(w->sim, 900 * NS_PER_MS);
        CHECK_EQ(served_count(w), w->pg_count);
        CHECK_EQ(elections(w), before);
    }
    /* One that stays away is replaced. */
    sim_node_pause(w->osds[0].node);
    sim_run_for(w->sim, 1200 * NS_PER_MS);
    for (uint32_t p = 0; p < w->pg_count; p++)
        CHECK(world_leader(w, placement_pg_id(POOL, p)) != 0);
    sim_node_resume(w->osds[0].node);
    world_free(w);
}

/* The log of the replica cannot be proven whole: it neither votes nor leads. */
static void damage(struct world *w, uint32_t osd, uint32_t p)
{
    sim_node_enter(w->osds[osd].node);
    group_at(w, osd, p)->sp->damaged = true;
    pg_touched(group_at(w, osd, p));
    sim_node_leave(w->osds[osd].node);
}

/* Without a session to a majority nobody takes a turn: what is asked goes nowhere. */
static void test_without_majority(void)
{
    struct world *w = world_new(57, 64);
    const struct shard_elections *elections = &w->osds[0].shard->elections;

    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    world_osd_kill(w, 2, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, 2 * NS_PER_S);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_EQ(elections->taken, 0);
        sim_run_for(w->sim, 7 * NS_PER_MS);
    }
    CHECK_EQ(served_count(w), 0);
    world_osd_start(w, 1);
    WAIT_FOR(w, 1500, served_count(w) == w->pg_count);
    world_osd_start(w, 2);
    world_free(w);
}

static void step_down(struct world *w, uint32_t p)
{
    for (uint32_t i = 1; i < OSDS; i++) {
        struct pg *pg = group_at(w, i, p);
        if (pg->raft.role != RAFT_LEADER)
            continue;
        sim_node_enter(w->osds[i].node);
        raft_set_abstain(&pg->raft, true);
        pg_touched(pg);
        sim_node_leave(w->osds[i].node);
    }
}

/* Many groups, beside the turns that there are, ask in vain for votes all the time: one that has just lost
 * its leader, and can have another, does not wait for its turn behind them. */
static void test_many_in_vain(void)
{
    enum { VAIN = 60 * ELECTIONS_MAX, OTHERS = 2 * ELECTIONS_MAX };
    struct world *w = world_new(54, VAIN + OTHERS);

    sim_node_pause(w->osds[0].node); /* it led all of them */
    for (uint32_t p = 0; p < VAIN; p++)
        damage(w, p % 2 + 1, p);
    sim_run_for(w->sim, 5 * NS_PER_S);
    CHECK_EQ(served_by_others(w), OTHERS);
    for (uint32_t i = 1; i < OSDS; i++)
        CHECK(w->osds[i].shard->elections.taken && !list_empty(&w->osds[i].shard->elections.waiting.failed));
    for (uint32_t p = VAIN; p < w->pg_count; p++)
        step_down(w, p);
    uint64_t lost_ns = w->sim->now_ns;
    while (served_by_others(w) < OTHERS && w->sim->now_ns < lost_ns + 5 * NS_PER_S)
        sim_run_for(w->sim, NS_PER_MS);
    uint64_t ms = (w->sim->now_ns - lost_ns) / NS_PER_MS;
    printf("# beside %u groups that nobody can lead %u are served after %llu ms\n", VAIN, OTHERS,
           (unsigned long long)ms);
    CHECK(ms < 700);
    sim_node_resume(w->osds[0].node);
    world_free(w);
}

/* Groups that lose their leaders again and again always have not tried yet: one that has tried in vain gets
 * its turn all the same. */
static void test_failed_among_fresh(void)
{
    enum { OTHERS = 400, LAST = OTHERS };
    struct world *w = world_new(57, OTHERS + 1);
    uint32_t ms = 0;

    sim_node_pause(w->osds[0].node); /* it led all of them */
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(served_by_others(w), w->pg_count);
    set_work(w, 100 * NS_PER_US);
    for (uint32_t p = 0; p < w->pg_count; p++)
        step_down(w, p);
    for (uint32_t i = 1; i < OSDS; i++)
        group_at(w, i, LAST)->raft.campaign_rounds = 1;
    sim_run_for(w->sim, 20 * NS_PER_MS);
    for (; ms < 20000 && !pg_serves(group_at(w, 1, LAST)) && !pg_serves(group_at(w, 2, LAST)); ms += 50) {
        for (uint32_t p = 0; p < OTHERS; p++)
            step_down(w, p);
        sim_run_for(w->sim, 50 * NS_PER_MS);
    }
    printf("# among groups that lose their leaders all the time, one that had failed is served after %u ms\n",
           ms);
    CHECK(ms < 20000);
    set_work(w, 0);
    sim_node_resume(w->osds[0].node);
    world_free(w);
}

/* A leader that hangs is replaced in time by those that were there all the while, in whatever order its
 * groups find it out. */
static void test_hung_leader(void)
{
    for (uint32_t i = 0; i < 4; i++) {
        struct world *w = world_new(60 + i, 64);

        sim_run_for(w->sim, (200 + 7 * i) * NS_PER_MS); /* not at rest */
        for (uint32_t p = 0; p < w->pg_count; p++)
            CHECK_EQ(world_leader(w, placement_pg_id(POOL, p)), 0);
        uint64_t hung_ns = w->sim->now_ns;
        sim_node_pause(w->osds[0].node);
        WAIT_FOR(w, 2000, served_by_others(w) == w->pg_count);
        CHECK(w->sim->now_ns - hung_ns < 400 * NS_PER_MS);
        sim_node_resume(w->osds[0].node);
        world_free(w);
    }
}

/* Processors that are always late have leaders, too: each silence is excused once. */
static void test_always_late(void)
{
    struct world *w = world_new(70, 16);
    uint32_t rounds = 0;

    sim_run_for(w->sim, 200 * NS_PER_MS);
    sim_node_pause(w->osds[0].node);
    for (; rounds < 30 && served_by_others(w) < w->pg_count; rounds++) {
        for (uint32_t i = 1; i < OSDS; i++)
            sim_node_pause(w->osds[i].node);
        sim_run_for(w->sim, 140 * NS_PER_MS);
        for (uint32_t i = 1; i < OSDS; i++) {
            sim_node_resume(w->osds[i].node);
            sim_run_for(w->sim, 5 * NS_PER_MS);
        }
    }
    printf("# all are served after %u absences of 140 ms\n", rounds);
    CHECK(rounds < 12);
    sim_node_resume(w->osds[0].node);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_slow_votes);
    TEST(test_all_begin_anew);
    TEST(test_wanted_first);
    TEST(test_late_leaders);
    TEST(test_all_away);
    TEST(test_without_majority);
    TEST(test_many_in_vain);
    TEST(test_failed_among_fresh);
    TEST(test_hung_leader);
    TEST(test_always_late);
    return tap_done();
}
