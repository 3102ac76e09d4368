/* SPDX-License-Identifier: Apache-2.0
 *
 * The placement plan: properties over many clusters that change: what must be is always done if there is a
 * place, failure domains hold, data and leaders are even, little moves, and a plan carried out in any part,
 * in any order, ends where there is nothing left to do.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "tests/mon/plan_world.h"
#include "tests/plants.h"
#include "tests/tap.h"

static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    return (uint32_t)(hash_u64(++seed) % below);
}

static void check_whole(const struct plan_world *w)
{
    uint32_t bad = 0;

    for (uint32_t i = 0; i < w->pg_count; i++)
        bad += !plan_world_pg_is_whole(w, &w->pgs[i]);
    CHECK_EQ(bad, 0);
}

static uint64_t count_on(const struct plan_world *w, uint32_t osd)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < w->pg_count; i++)
        for (uint32_t m = 0; m < w->pgs[i].member_count; m++)
            count += w->pgs[i].member[m].osd == osd;
    return count;
}

static void put_out(struct placement_osd *o)
{
    o->up = false;
    o->weight = 0;
}

/* ---- new pools ---- */

static void equal_osds_are_even(void)
{
    static const struct {
        uint32_t osds, per_host, hosts_per_rack, shards, replicas, pgs;
        enum placement_domain domain;
    } rows[] = {
        {3, 1, 1, 1, 3, 64, PLACEMENT_HOST},    {3, 3, 1, 1, 3, 64, PLACEMENT_OSD},
        {3, 1, 1, 4, 3, 64, PLACEMENT_HOST},    {5, 1, 1, 1, 3, 128, PLACEMENT_HOST},
        {7, 1, 1, 2, 3, 100, PLACEMENT_OSD},    {12, 3, 1, 2, 3, 256, PLACEMENT_HOST},
        {24, 4, 2, 4, 3, 512, PLACEMENT_RACK},  {48, 4, 4, 1, 3, 1024, PLACEMENT_RACK},
        {10, 1, 1, 1, 5, 333, PLACEMENT_OSD},   {9, 3, 1, 1, 1, 90, PLACEMENT_HOST},
        {8, 2, 1, 1, 2, 127, PLACEMENT_HOST},   {14, 2, 1, 1, 7, 200, PLACEMENT_HOST},
        {6, 1, 1, 64, 3, 2000, PLACEMENT_OSD},  {1, 1, 1, 1, 1, 8, PLACEMENT_ZONE},
        {200, 10, 2, 2, 3, 64, PLACEMENT_HOST}, {64, 4, 2, 4, 3, 640, PLACEMENT_ZONE},
    };
    struct plan_world w;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        plan_world_init(&w, rows[i].osds, 0, rows[i].per_host, rows[i].hosts_per_rack, 2, rows[i].shards);
        for (int pools = 0; pools < 3; pools++) {
            plan_world_add_pool(&w, rows[i].replicas, rows[i].domain, rows[i].pgs);
            CHECK_EQ(plan_world_settle(&w, NULL), 1);
            check_whole(&w);
            for (uint32_t pool = 1; pool <= w.pool_count; pool++) {
                struct plan_spread s = plan_world_spread(&w, pool);
                double data = (double)rows[i].pgs * rows[i].replicas / rows[i].osds,
                       lead = (double)rows[i].pgs / rows[i].osds, shard = data / rows[i].shards;
                CHECK(s.data_max * data < data + 1.01 && s.data_min * data > data - 1.01);
                CHECK(s.lead_max * lead < lead + 2.01 && s.lead_min * lead > lead - 2.01);
                CHECK(s.shard_max * shard < shard + 2.51);
            }
            struct plan_spread s = plan_world_spread(&w, PLAN_ALL_POOLS);
            double data = (double)w.pg_count * rows[i].replicas / rows[i].osds,
                   lead = (double)w.pg_count / rows[i].osds, shard = data / rows[i].shards;
            CHECK(s.data_max * data < data + 1.51 && s.data_min * data > data - 1.51);
            CHECK(s.lead_max * lead < lead + 2.51 && s.lead_min * lead > lead - 2.51);
            CHECK(s.shard_max * shard < shard + 1.51);
        }
        plan_world_fini(&w);
    }
}

static void sizes_and_weights_count(void)
{
    struct plan_world w;

    plan_world_init(&w, 12, 0, 1, 1, 1, 2);
    for (int i = 0; i < 6; i++)
        w.osds[i].size_bytes *= 3;
    for (int i = 6; i < 9; i++)
        w.osds[i].weight = 500;
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 900);
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    struct plan_spread s = plan_world_spread(&w, PLAN_ALL_POOLS);
    CHECK(s.data_max < 1.03 && s.data_min > 0.97);
    CHECK(s.lead_max < 1.05 && s.lead_min > 0.95);
    plan_world_fini(&w);
}

/* A rack with most of the space cannot have more than one replica of each PG: it gets that, and the others
 * share the rest by size. */
static void large_domains_are_full(void)
{
    struct plan_world w;

    plan_world_init(&w, 12, 0, 3, 1, 1, 1);
    for (int i = 0; i < 3; i++)
        w.osds[i].size_bytes *= 20;
    w.osds[3].size_bytes *= 2;
    plan_world_add_pool(&w, 2, PLACEMENT_RACK, 1000);
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    check_whole(&w);
    for (uint32_t i = 0; i < 12; i++) {
        double due = i < 3 ? 333.3 : i == 3 ? 200 : 100;
        CHECK(count_on(&w, i) >= due - 3 && count_on(&w, i) <= due + 3);
    }
    plan_world_fini(&w);
}

/* The other replicas of the PGs of one OSD are all over the cluster. */
static void peers_are_spread(void)
{
    struct plan_world w;

    plan_world_init(&w, 60, 0, 3, 2, 1, 2);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 2000);
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    for (uint32_t osd = 0; osd < 60; osd++) {
        uint32_t shared[60] = {0}, peers = 0, most = 0;
        for (uint32_t i = 0; i < w.pg_count; i++)
            for (uint32_t m = 0; m < 3; m++)
                for (uint32_t k = 0; k < 3 && w.pgs[i].member[m].osd == osd; k++)
                    shared[w.pgs[i].member[k].osd] += k != m;
        for (uint32_t i = 0; i < 60; i++) {
            peers += shared[i] > 0;
            most = MAX(most, shared[i]);
        }
        CHECK(peers >= 50); /* of 57 in other hosts, each shares 3.5 PGs in the mean */
        CHECK(most <= 14);
    }
    plan_world_fini(&w);
}

/* ---- changes ---- */

static void random_world(struct plan_world *w)
{
    uint32_t per_host = 1 + draw(5), per_rack = 1 + draw(4), shards = 1 + draw(4), hosts = 3 + draw(14);
    uint32_t pools = 1 + draw(4);

    plan_world_init(w, hosts * per_host, 10, per_host, per_rack, 2, shards);
    for (uint32_t i = 0; i < w->osd_count && pools % 2; i++)
        w->osds[i].size_bytes = (100 + draw(200)) * (1ull << 30);
    for (uint32_t i = 0; i < pools; i++)
        plan_world_add_pool(w, 1 + draw(5), (enum placement_domain)draw(PLACEMENT_DOMAINS), 1 + draw(400));
}

static void random_event(struct plan_world *w)
{
    struct placement_osd *o = &w->osds[draw(w->osd_count)];

    switch (draw(8)) {
    case 0:
        put_out(o);
        break;
    case 1:
        o->weight = 0; /* drained */
        break;
    case 2:
        o->up = false;
        break;
    case 3:
        o->up = true;
        o->weight = PLACEMENT_WEIGHT_MAX;
        break;
    case 4:
        o->weight = draw(PLACEMENT_WEIGHT_MAX + 1);
        break;
    case 5:
        if (w->osd_count < w->osds_max)
            plan_world_add_osd(w, draw(20), 1 + draw(4), 2, 1 + draw(4));
        break;
    case 6: /* replicas lose their data */
        for (int i = 0; i < 5; i++) {
            struct placement_pg *pg = &w->pgs[draw(w->pg_count)];
            if (pg->member_count)
                pg->lost |= (uint8_t)(1u << draw(pg->member_count));
        }
        break;
    case 7: /* a pool wants more or fewer */
        w->pools[draw(w->pool_count)].replicas = 1 + draw(5);
        break;
    }
}

/* Is `to` fine where the PG stood at `from`: what is taken away has a place elsewhere, or the pool wants
 * fewer. */
static void check_change(const struct plan_world *w, const struct placement_change *c)
{
    const struct placement_pg *pg = &w->pgs[c->pg];
    const struct placement_pool *pool = &w->pools[(pg->id >> 32) - 1];
    uint32_t kept = c->member_count - c->added;

    CHECK(c->member_count >= 1 && c->member_count <= pool->replicas && c->lead < c->member_count);
    CHECK(c->member_count >= MIN(pg->member_count, pool->replicas));
    CHECK(!pg->member_count || pg->member_count + c->added <= PLACEMENT_GROUP_MAX);
    for (uint32_t k = 0; k < kept; k++) {
        bool found = false;
        for (uint32_t m = 0; m < pg->member_count; m++)
            found |= pg->member[m].osd == c->member[k].osd && pg->member[m].shard == c->member[k].shard;
        CHECK(found);
    }
    for (uint32_t k = kept; k < c->member_count; k++) {
        const struct placement_osd *o = &w->osds[c->member[k].osd];
        CHECK(o->up && o->weight && o->shard_usable[c->member[k].shard]);
        for (uint32_t j = 0; j < k; j++) {
            /* Against one that is stuck itself it cannot do better, unless it is the same OSD. */
            const struct placement_osd *x = &w->osds[c->member[j].osd];
            CHECK(x != o);
            CHECK(j < kept || !plan_world_same_domain(o, x, pool->domain));
        }
    }
}

/* Every change of every plan is legal by itself; carried out in part, in any order, plans come to an end. */
static void plans_end_in_whatever_order(void)
{
    for (seed = 1; seed < 150000; seed += 1000) {
        struct plan_world w;
        uint64_t first = seed;
        random_world(&w);
        for (int event = 0; event < 8; event++) {
            uint32_t plans = 0;
            for (; plans < 200; plans++) {
                uint32_t part = plans < 20 ? 1 + draw(4) : 1;
                struct placement_plan plan = plan_world_plan(&w, false);
                uint32_t count = plan.change_count;
                for (uint32_t i = 0; i < count; i++)
                    check_change(&w, &plan.changes[i]);
                for (uint32_t i = 0; i < count; i++)
                    if (!draw(part))
                        plan_world_apply(&w, &plan.changes[i]);
                /* Who is not named as stuck has become what its pool wants. */
                if (!count) {
                    uint32_t stuck = 0;
                    for (uint32_t i = 0; i < w.pg_count; i++) {
                        bool named = stuck < plan.stuck_count && plan.stuck[stuck] == i;
                        stuck += named;
                        CHECK(named != plan_world_pg_is_whole(&w, &w.pgs[i]));
                    }
                    CHECK_EQ(stuck, plan.stuck_count);
                }
                placement_plan_fini(&plan);
                if (!count)
                    break;
            }
            if (plans >= 200)
                printf("# seed %llu event %d\n", (unsigned long long)first, event);
            CHECK(plans < 200);
            random_event(&w);
        }
        plan_world_fini(&w);
    }
}

/* What has to move when one OSD comes or goes: 1.2 of that at most. */
static void little_moves(void)
{
    for (seed = 7; seed < 400000; seed += 1000) {
        struct plan_world w;
        uint64_t added, first = seed;
        uint32_t hosts = 8 + draw(30), per_host = 1 + draw(4), pools = 1 + draw(4);
        plan_world_init(&w, hosts * per_host, 1, per_host, 2, 2, 1 + draw(4));
        for (uint32_t i = 0; i < pools; i++)
            plan_world_add_pool(&w, 3, draw(2) ? PLACEMENT_HOST : PLACEMENT_RACK, 64 << draw(4));
        plan_world_settle(&w, NULL);

        uint32_t gone = draw(w.osd_count);
        uint64_t least = count_on(&w, gone);
        put_out(&w.osds[gone]);
        plan_world_settle(&w, &added);
        check_whole(&w);
        CHECK_EQ(count_on(&w, gone), 0);
        CHECK(added >= least && (double)added <= 1.2 * (double)least + pools);
        w.osds[gone].up = true;
        w.osds[gone].weight = PLACEMENT_WEIGHT_MAX;
        plan_world_settle(&w, &added);
        check_whole(&w);
        least = count_on(&w, gone);
        CHECK(added >= least && (double)added <= 1.2 * (double)least + pools);
        CHECK(10 * (least + 2) * w.osd_count >= 9 * 3ull * w.pg_count);
        plan_world_add_osd(&w, hosts, 2, 2, 1);
        plan_world_settle(&w, &added);
        check_whole(&w);
        least = count_on(&w, w.osd_count - 1);
        CHECK(added >= least && (double)added <= 1.2 * (double)least + pools);
        if (!tap_ok) {
            printf("# seed %llu: %u hosts of %u, %u pools\n", (unsigned long long)first, hosts, per_host,
                   pools);
            return;
        }
        plan_world_fini(&w);
    }
}

/* Lost and missing replicas first, then those that must leave, then balance. */
static void urgent_changes_come_first(void)
{
    struct plan_world w;
    int last = 3;

    plan_world_init(&w, 12, 2, 2, 1, 1, 1);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 256);
    plan_world_settle(&w, NULL);
    put_out(&w.osds[0]);
    w.osds[4].weight = 0;
    w.pgs[17].lost = 7;
    plan_world_add_osd(&w, 6, 1, 1, 1);
    struct placement_plan plan = plan_world_plan(&w, false);
    CHECK_EQ(plan.changes[0].pg, 17);
    CHECK_EQ(plan.changes[0].missing, 3);
    for (uint32_t i = 0; i < plan.change_count; i++) {
        CHECK(plan.changes[i].missing <= last);
        last = plan.changes[i].missing;
    }
    CHECK_EQ(last, 0);
    placement_plan_fini(&plan);
    plan = plan_world_plan(&w, true);
    for (uint32_t i = 0; i < plan.change_count; i++)
        CHECK(plan.changes[i].added > 0);
    placement_plan_fini(&plan);
    plan_world_fini(&w);
}

static void what_is_pinned_stays(void)
{
    struct plan_world w;

    plan_world_init(&w, 6, 0, 1, 1, 1, 1);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 60);
    plan_world_settle(&w, NULL);
    for (uint32_t i = 0; i < w.pg_count; i += 2)
        w.pgs[i].pinned = true;
    put_out(&w.osds[2]);
    struct placement_plan plan = plan_world_plan(&w, false);
    CHECK(plan.change_count > 0);
    for (uint32_t i = 0; i < plan.change_count; i++)
        CHECK(plan.changes[i].pg % 2);
    placement_plan_fini(&plan);
    plan_world_fini(&w);
}

/* With too few domains nothing is put together, nothing taken away, and the PGs are named. */
static void too_few_domains_are_said(void)
{
    struct plan_world w;

    plan_world_init(&w, 6, 2, 2, 1, 1, 1);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 30);
    plan_world_settle(&w, NULL);
    put_out(&w.osds[0]);
    put_out(&w.osds[1]);
    struct placement_plan plan = plan_world_plan(&w, false);
    CHECK_EQ(plan.stuck_count, 30);
    CHECK_EQ(plan.added, 0);
    placement_plan_fini(&plan);
    plan_world_add_osd(&w, 3, 1, 1, 1);
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    check_whole(&w);
    CHECK_EQ(count_on(&w, 6), 30);
    plan_world_fini(&w);
    /* A lost replica may come back where it was. */
    plan_world_init(&w, 3, 0, 1, 1, 1, 1);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 30);
    plan_world_settle(&w, NULL);
    w.pgs[5].lost = 2;
    plan = plan_world_plan(&w, false);
    CHECK_EQ(plan.added, 1);
    CHECK_EQ(plan.changes[0].member[2].osd, w.pgs[5].member[1].osd);
    placement_plan_fini(&plan);
    plan_world_fini(&w);
}

/* An OSD that was moved to another host's place: replicas that share a domain now are parted. */
static void domains_that_moved_are_parted(void)
{
    struct plan_world w;
    uint64_t added;

    plan_world_init(&w, 16, 0, 2, 1, 1, 1);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 200);
    plan_world_settle(&w, NULL);
    struct placement_osd before = w.osds[3];
    w.osds[3].host = w.osds[0].host;
    w.osds[3].rack = w.osds[0].rack;
    w.osds[3].zone = w.osds[0].zone;
    plan_world_settle(&w, &added);
    check_whole(&w);
    CHECK(added > 0 && added < 60);
    w.osds[3] = before; /* names are freed by OSD */
    plan_world_fini(&w);
}

/* ---- another placement function ---- */

struct rule {
    struct placement_chooser chooser;
    enum { RULE_ROW, RULE_FAILS, RULE_TOO_FEW, RULE_UNKNOWN, RULE_TWICE, RULE_OUT } does;
};

/* PG n: OSDs n, n + 2, n + 4, ..., of hosts with two each; or something wrong. */
static int choose_row(const struct placement_chooser *chooser, const struct placement_pool *pool,
                      const struct placement_pg *pg, const struct placement_osd *osds, uint32_t osd_count,
                      uint32_t *ret_osds)
{
    const struct rule *rule = container_of(chooser, struct rule, chooser);

    for (uint32_t i = 0; i < pool->replicas; i++)
        ret_osds[i] = ((uint32_t)pg->id + 2 * i) % osd_count;
    if (rule->does == RULE_UNKNOWN)
        ret_osds[1] = 77777;
    if (rule->does == RULE_TWICE)
        ret_osds[2] = ret_osds[0] ^ 1;
    if (rule->does == RULE_OUT)
        ret_osds[1] = 0;
    return rule->does == RULE_FAILS ? -5 : (int)pool->replicas - (rule->does == RULE_TOO_FEW);
}

static void others_may_choose(void)
{
    static const char *const why[] = {[RULE_FAILS] = "fails",
                                      [RULE_TOO_FEW] = "as many OSDs",
                                      [RULE_UNKNOWN] = "that there is not",
                                      [RULE_TWICE] = "one failure domain",
                                      [RULE_OUT] = "out or drained"};
    struct rule rule = {.chooser = {"row", NULL, choose_row}};
    struct plan_world w;

    plan_world_init(&w, 12, 0, 2, 1, 1, 2);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 60);
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 60);
    w.pools[0].chooser = &rule.chooser;
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    check_whole(&w);
    for (uint32_t i = 0; i < 60; i++) {
        bool named[12] = {0};
        for (uint32_t m = 0; m < 3; m++)
            named[w.pgs[i].member[m].osd] = true;
        CHECK(named[i % 12] && named[(i + 2) % 12] && named[(i + 4) % 12]);
        CHECK_EQ(w.pgs[i].member[w.pgs[i].lead].osd, i % 12);
    }
    /* What is wrong is refused and said, and changes nothing that is good. */
    for (int does = RULE_FAILS; does <= RULE_TWICE; does++) {
        rule.does = does;
        struct placement_plan plan = plan_world_plan(&w, false);
        CHECK_EQ(plan.change_count, 0);
        CHECK_EQ(plan.refused_count, 60);
        CHECK_EQ(plan.refused_pg, 59);
        CHECK(plan.refused_why && strstr(plan.refused_why, why[does]));
        placement_plan_fini(&plan);
    }
    /* And where something must be done it is done all the same. */
    put_out(&w.osds[0]);
    rule.does = RULE_OUT;
    w.pgs[7].lost = 1;
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    check_whole(&w);
    CHECK_EQ(count_on(&w, 0), 0);
    rule.does = RULE_ROW;
    struct placement_plan plan = plan_world_plan(&w, false);
    CHECK_EQ(plan.refused_count, 15);
    CHECK(plan.refused_why && strstr(plan.refused_why, why[RULE_OUT]));
    placement_plan_fini(&plan);
    plan_world_fini(&w);
}

/* No step is more than one pool, and the steps together are the plan. */
static void steps_are_small(void)
{
    struct plan_world w;
    struct place *job = NULL;
    struct placement_plan plan;
    uint32_t steps = 0;
    int more;

    plan_world_init(&w, 30, 1, 3, 2, 1, 2);
    for (int pool = 0; pool < 4; pool++)
        plan_world_add_pool(&w, 3, PLACEMENT_HOST, 250);
    plan_world_settle(&w, NULL);
    plan_world_add_osd(&w, 3, 2, 1, 2);
    put_out(&w.osds[5]);
    struct placement_plan whole = plan_world_plan(&w, false);
    struct placement_input input = {.osds = w.osds,
                                    .osd_count = w.osd_count,
                                    .pools = w.pools,
                                    .pool_count = w.pool_count,
                                    .pgs = w.pgs,
                                    .pg_count = w.pg_count};
    CHECK_EQ(placement_job_new(&input, &job), 0);
    do {
        uint64_t pgs = 0;
        more = placement_job_step(job, &pgs, &plan);
        CHECK(pgs <= 250);
        steps++;
    } while (more > 0);
    CHECK_EQ(more, 0);
    CHECK(steps > 24 && steps < 200);
    CHECK(plan.change_count > 50 && plan.change_count == whole.change_count);
    for (uint32_t i = 0; i < plan.change_count && tap_ok; i++)
        CHECK(!memcmp(&plan.changes[i], &whole.changes[i], sizeof(*plan.changes)));
    placement_job_free(job);
    placement_plan_fini(&plan);
    placement_plan_fini(&whole);
    /* One that is not taken to its end. */
    uint64_t pgs = 0;
    CHECK_EQ(placement_job_new(&input, &job), 0);
    CHECK_EQ(placement_job_step(job, &pgs, &plan), 1);
    placement_job_free(job);
    plan_world_fini(&w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(equal_osds_are_even);
    TEST(sizes_and_weights_count);
    TEST(large_domains_are_full);
    TEST(peers_are_spread);
    TEST(plans_end_in_whatever_order);
    TEST(little_moves);
    TEST(urgent_changes_come_first);
    TEST(what_is_pinned_stays);
    TEST(too_few_domains_are_said);
    TEST(domains_that_moved_are_parted);
    TEST(others_may_choose);
    TEST(steps_are_small);
    return tap_done();
}
