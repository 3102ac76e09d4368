/* SPDX-License-Identifier: Apache-2.0
 *
 * Health in its parts: the code of each problem, since when it is known, what the cluster does, what to do;
 * and how far the moves are.
 */
#include <string.h>

#include "mon/placement.h"
#include "tests/mon/groups.h"

#define OUT_AFTER 30

/* NULL: there is no such problem. Valid until the next call of the client. */
static const Fb__HealthProblem *find(struct play *p, const char *code)
{
    CHECK_EQ(status(&p->client), 0);
    for (size_t i = 0; i < p->client.answer->status->n_detail; i++) {
        const Fb__HealthProblem *problem = p->client.answer->status->detail[i];
        CHECK(problem->what[0] && problem->since_us &&
              problem->todo[0]); /* of each there is something to be said */
    }
    for (size_t i = 0; i < p->client.answer->status->n_detail; i++)
        if (!strcmp(p->client.answer->status->detail[i]->code, code))
            return p->client.answer->status->detail[i];
    return NULL;
}

static bool does(struct play *p, const char *code, const char *what)
{
    const Fb__HealthProblem *problem = find(p, code);

    return problem && strstr(problem->doing, what);
}

static void down_and_out(void)
{
    struct play *p = play_new(5, OUT_AFTER);
    const Fb__HealthProblem *problem;

    play_pool(p, 3, 20);
    play_run(p, 5);
    CHECK_EQ(status(&p->client), 0);
    CHECK(!strcmp(p->client.answer->status->health, "ok"));
    CHECK(!find(p, "OSD_DOWN"));
    uint64_t before_us = p->w->mon_node->core.env->wall_us(p->w->mon_node->core.env_self);
    play_kill(p, 4);
    play_run(p, 10);
    problem = find(p, "OSD_DOWN");
    CHECK(problem && !problem->error && strstr(problem->what, "osd.4 is down") && problem->todo[0]);
    uint64_t since_us = problem ? problem->since_us : 0;
    CHECK(since_us > before_us && since_us < before_us + 10 * 1000000);
    CHECK(does(p, "OSD_DOWN", "it goes out in "));
    CHECK(find(p, "PG_DEGRADED"));
    /* Every reason for which it stays in is said. */
    CHECK_EQ(host_maintenance(&p->client, "h4", true), 0);
    CHECK(does(p, "OSD_DOWN", "under maintenance") && find(p, "HOST_MAINTENANCE"));
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, true), 0);
    CHECK(does(p, "OSD_DOWN", "noout is set") && find(p, "FLAG_NOOUT"));
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT, false), 0);
    CHECK_EQ(host_maintenance(&p->client, "h4", false), 0);
    play_kill(p, 3);
    play_run(p, 5);
    CHECK(does(p, "OSD_DOWN", "more than one OSD in four is down"));
    play_start(p, 3);
    play_run(p, 25);
    CHECK(does(p, "OSD_DOWN", "it is out"));
    problem = find(p, "OSD_DOWN");
    CHECK_EQ(problem ? problem->since_us : 0, since_us);
    play_run(p, 20);
    problem = find(p, "OSD_DOWN");
    CHECK(problem && strstr(problem->todo, "fastblock osd remove osd.4"));
    CHECK(!find(p, "PG_DEGRADED"));
    CHECK_EQ(osd_change(&p->client, 4, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), 0);
    play_run(p, 2);
    CHECK_EQ(status(&p->client), 0);
    CHECK(!strcmp(p->client.answer->status->health, "ok"));
    play_free(p);
}

static int choose_the_first(const struct placement_chooser *chooser, const struct placement_pool *pool,
                            const struct placement_pg *pg, const struct placement_osd *osds,
                            uint32_t osd_count, uint32_t *ret_osds)
{
    for (uint32_t i = 0; i < pool->replicas && i < osd_count; i++)
        ret_osds[i] = osds[i].osd;
    return (int)pool->replicas;
}

static void placement_is_missed(void)
{
    struct play *p = play_new(3, OUT_AFTER);
    struct placement_chooser chooser = {"row", NULL, choose_the_first};
    Fb__PoolCreate body = FB__POOL_CREATE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    p->w->chooser = &chooser;
    world_restart_mon(p->w);
    for (uint32_t o = 0; o < 3; o++)
        if (p->up[o]) {
            play_kill(p, o);
            play_start(p, o);
        }
    request.call_case = FB__MON_REQUEST__CALL_POOL_CREATE;
    request.pool_create = &body;
    body.name = (char *)"q";
    body.replicas = 3;
    body.pg_count = 4;
    body.placement = (char *)"row";
    CHECK_EQ(call(&p->client, &request), 0);
    CHECK(!find(p, "POOL_PLACEMENT"));
    p->w->chooser = NULL;
    world_restart_mon(p->w);
    CHECK(find(p, "POOL_PLACEMENT"));
    play_free(p);
}

static void progress(void)
{
    struct play *p = play_new(5, 0);
    const Fb__MoveProgress *m;

    play_pool(p, 3, 20);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].stuck = n >= 10;
    CHECK_EQ(osd_change(&p->client, 0, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 10);
    CHECK(does(p, "OSD_OUT", "made anew"));
    m = p->client.answer->status->progress;
    CHECK(m && m->under_way > 0 && m->objects_left > 0 && m->objects_done > 0 && m->left_ms > 0 &&
          m->begun_us);
    CHECK(m && m->copies * 10 == m->objects_left && m->moves_max == 4);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].stuck = false;
    CHECK(play_settle(p, 60));
    CHECK_EQ(status(&p->client), 0);
    m = p->client.answer->status->progress;
    CHECK(m && !m->under_way && !m->copies && !m->begun_us && !m->stuck);
    CHECK(!find(p, "OSD_OUT"));
    /* Without another failure domain PGs are stuck, and it is said. */
    CHECK_EQ(osd_change(&p->client, 1, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    CHECK(play_settle(p, 60));
    CHECK_EQ(osd_change(&p->client, 2, FB__OSD_ACTION__OSD_ACTION_OUT, 0), 0);
    play_run(p, 5);
    CHECK(find(p, "PG_STUCK"));
    CHECK_EQ(p->client.answer->status->progress->stuck, 20);
    CHECK_EQ(play_replicas(p, 2), 20);
    play_free(p);
}

/* The plan is shown before it is carried out, and is what then happens. */
static void plan_is_shown(void)
{
    struct play *p = play_new(4, 0);
    Fb__RebalancePlan plan = FB__REBALANCE_PLAN__INIT;
    Fb__MovesLimit limit = FB__MOVES_LIMIT__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint32_t to[PLAY_OSDS] = {0}, copies = 0;

    play_pool(p, 3, 16);
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, true), 0);
    play_add(p);
    play_run(p, 3);
    request.call_case = FB__MON_REQUEST__CALL_REBALANCE_PLAN;
    request.rebalance_plan = &plan;
    CHECK_EQ(call(&p->client, &request), 0);
    CHECK_EQ(p->client.answer->n_moves, 0); /* by the flag */
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = true; /* so that nothing begins */
    play_run(p, 5);
    CHECK_EQ(cluster_set(&p->client, FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE, false), 0);
    CHECK_EQ(call(&p->client, &request), 0);
    for (size_t i = 0; i < p->client.answer->n_moves; i++) {
        const Fb__PlannedMove *m = p->client.answer->moves[i];
        CHECK(m->n_to_osd == 3 && m->n_from_osd == 3 && !m->missing);
        copies += m->copies;
        for (size_t k = 0; k < m->n_to_osd; k++)
            to[m->to_osd[k]] += m->copies;
    }
    CHECK(copies >= 9 && copies <= 10 && to[4] >= 9);
    request.call_case = FB__MON_REQUEST__CALL_MOVES_LIMIT;
    request.moves_limit = &limit;
    limit.moves = 70000;
    CHECK_EQ(call(&p->client, &request), -ERR_INVALID);
    limit.moves = 1;
    CHECK_EQ(call(&p->client, &request), 0);
    for (uint32_t n = 0; n < p->pg_count; n++)
        p->pgs[n].silent = false;
    CHECK(play_settle(p, 60));
    CHECK_EQ(p->copies, copies);
    CHECK_EQ(p->most_moves, 1);
    play_free(p);
}

int main(void)
{
    TEST(down_and_out);
    TEST(placement_is_missed);
    TEST(progress);
    TEST(plan_is_shown);
    return tap_done();
}
