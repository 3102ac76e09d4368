/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement on simulated clusters: how long a plan takes, how even it is, how much moves when OSDs come and
 * go. Prints JSON; bench/placement runs it beside CRUSH.
 *
 *     bench-placement OSDS PER-HOST HOSTS-PER-RACK SHARDS POOLS PGS-PER-POOL REPLICAS DOMAIN SIZES
 *
 * SIZES: "equal", or "mixed": every third host has OSDs of twice the size. Clusters from small to 10,000 OSDs
 * with 1,000,000 PGs (`10000 10 20 4 16 62500 3 host equal`).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/mon/plan_world.h"

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print_spread(const char *name, struct plan_spread s)
{
    printf(", \"%s\": {\"data_min\": %.4f, \"data_max\": %.4f, \"lead_min\": %.4f, \"lead_max\": %.4f, "
           "\"shard_data_max\": %.4f, \"shard_lead_max\": %.4f}",
           name, s.data_min, s.data_max, s.lead_min, s.lead_max, s.shard_max, s.shard_lead_max);
}

static void report(const char *event, const struct plan_world *w, double seconds, double step_max,
                   uint64_t added, double least, uint32_t plans, bool first)
{
    struct plan_spread one = {1e9, 0, 1e9, 0, 0, 0};

    for (uint32_t p = 1; p <= w->pool_count; p++) {
        struct plan_spread s = plan_world_spread(w, p);
        one.data_min = MIN(one.data_min, s.data_min);
        one.data_max = MAX(one.data_max, s.data_max);
        one.lead_min = MIN(one.lead_min, s.lead_min);
        one.lead_max = MAX(one.lead_max, s.lead_max);
        one.shard_max = MAX(one.shard_max, s.shard_max);
        one.shard_lead_max = MAX(one.shard_lead_max, s.shard_lead_max);
    }
    printf(
        "%s{\"event\": \"%s\", \"seconds\": %.3f, \"longest_step_s\": %.4f, \"moved\": %llu, \"least\": %.0f, \"plans\": %u",
        first ? "" : ",\n", event, seconds, step_max, (unsigned long long)added, least, plans);
    print_spread("all", plan_world_spread(w, PLAN_ALL_POOLS));
    print_spread("pool", one);
    printf("}");
}

/* As the monitor makes it. The longest of its steps is CPU time. */
static struct placement_plan plan_in_steps(const struct plan_world *w, double *ret_s, double *ret_step_max)
{
    struct placement_input input = {.osds = w->osds,
                                    .osd_count = w->osd_count,
                                    .pools = w->pools,
                                    .pool_count = w->pool_count,
                                    .pgs = w->pgs,
                                    .pg_count = w->pg_count};
    struct placement_plan plan = {0};
    struct place *job;
    uint64_t pgs = 0;
    double start = now_s(), began = cpu_s();
    int more = placement_job_new(&input, &job);

    *ret_step_max = cpu_s() - began;
    for (more = more ? more : 1; more > 0;) {
        began = cpu_s();
        more = placement_job_step(job, &pgs, &plan);
        *ret_step_max = MAX(*ret_step_max, cpu_s() - began);
    }
    if (more) {
        fprintf(stderr, "no memory for a plan\n");
        exit(1);
    }
    placement_job_free(job);
    *ret_s = now_s() - start;
    return plan;
}

/* One plan, timed, carried out; then on until nothing is left. */
static void run(const char *event, struct plan_world *w, double least, bool first)
{
    double seconds = 0, step_max = 0;
    struct placement_plan plan = plan_in_steps(w, &seconds, &step_max);
    uint64_t added = plan.added, more;

    for (uint32_t i = 0; i < plan.change_count; i++)
        plan_world_apply(w, &plan.changes[i]);
    placement_plan_fini(&plan);
    uint32_t plans = 1 + plan_world_settle(w, &more);
    for (uint32_t i = 0; i < w->pg_count; i++)
        if (!plan_world_pg_is_whole(w, &w->pgs[i])) {
            fprintf(stderr, "PG %llx is not whole\n", (unsigned long long)w->pgs[i].id);
            exit(1);
        }
    report(event, w, seconds, step_max, added + more, least, plans, first);
}

static uint64_t on_osd(const struct plan_world *w, uint32_t osd)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < w->pg_count; i++)
        for (uint32_t m = 0; m < w->pgs[i].member_count; m++)
            count += w->pgs[i].member[m].osd == osd;
    return count;
}

int main(int argc, char **argv)
{
    struct plan_world w;
    enum placement_domain domain;

    if (argc != 10 || placement_domain_parse(argv[8], &domain)) {
        fprintf(
            stderr,
            "usage: bench-placement OSDS PER-HOST HOSTS-PER-RACK SHARDS POOLS PGS-PER-POOL REPLICAS DOMAIN "
            "equal|mixed\n");
        return 2;
    }
    uint32_t osds = (uint32_t)atoi(argv[1]), per_host = (uint32_t)atoi(argv[2]),
             per_rack = (uint32_t)atoi(argv[3]), shards = (uint32_t)atoi(argv[4]);
    bool mixed = !strcmp(argv[9], "mixed");
    plan_world_init(&w, osds, per_host + 1, per_host, per_rack, 1000000, shards);
    for (uint32_t i = 0; i < osds && mixed; i++)
        w.osds[i].size_bytes <<= i / per_host % 3 == 0;
    for (int p = 0; p < atoi(argv[5]); p++)
        plan_world_add_pool(&w, (uint32_t)atoi(argv[7]), domain, (uint32_t)atoi(argv[6]));

    printf("[");
    run("create", &w, 0, true);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    uint64_t replicas = (uint64_t)w.pg_count * (uint32_t)atoi(argv[7]);

    uint32_t gone = osds / 2;
    uint64_t least = on_osd(&w, gone);
    w.osds[gone].up = false;
    w.osds[gone].weight = 0;
    run("an OSD is out", &w, (double)least, false);
    w.osds[gone].up = true;
    w.osds[gone].weight = PLACEMENT_WEIGHT_MAX;
    double weight = 0;
    for (uint32_t i = 0; i < w.osd_count; i++)
        weight += (double)w.osds[i].size_bytes;
    run("it is back, empty", &w, (double)replicas * (double)w.osds[gone].size_bytes / weight, false);
    uint32_t host = (osds + per_host - 1) / per_host;
    for (uint32_t i = 0; i < per_host; i++)
        plan_world_add_osd(&w, host, per_rack, 1000000, shards);
    double added = (double)per_host * (double)(1ull << 40);
    run("a host is added", &w, (double)replicas * added / (weight + added), false);
    least = on_osd(&w, 0);
    w.osds[0].weight /= 2;
    run("an OSD is reweighted to half", &w, (double)least / 2, false);
    printf(",\n{\"event\": \"memory\", \"plan_mib\": %.1f}]\n",
           (double)usage.ru_maxrss / 1024 - (double)w.pg_count * sizeof(*w.pgs) / (1 << 20));
    plan_world_fini(&w);
    return 0;
}
