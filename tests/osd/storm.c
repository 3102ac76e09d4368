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
 * work at 50 us, and 3 s at 200 us. */
static void test_all_begin_anew(void)
{
    static const uint32_t work_us[] = {50, 200}, limit_s[] = {4, 12};

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

/* The machine was suspended, or nobody got the processor: whoever leads goes on, though all were silent. */
static void test_all_away(void)
{
    struct world *w = world_new(53, 64);

    sim_run_for(w->sim, 200 * NS_PER_MS); /* not at rest */
    uint64_t before = elections(w);
    for (uint32_t i = 0; i < OSDS; i++)
        sim_node_pause(w->osds[i].node);
    sim_run_for(w->sim, 2 * NS_PER_S);
    for (uint32_t i = 0; i < OSDS; i++)
        sim_node_resume(w->osds[i].node);
    sim_run_for(w->sim, NS_PER_S);
    CHECK_EQ(served_count(w), w->pg_count);
    CHECK_EQ(elections(w), before);
    /* One that stays away is replaced. */
    sim_node_pause(w->osds[0].node);
    sim_run_for(w->sim, 1200 * NS_PER_MS);
    for (uint32_t p = 0; p < w->pg_count; p++)
        CHECK(world_leader(w, placement_pg_id(POOL, p)) != 0);
    sim_node_resume(w->osds[0].node);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_all_begin_anew);
    TEST(test_all_away);
    return tap_done();
}
