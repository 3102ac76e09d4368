/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole cluster: it forms, serves, suffers, recovers, comes to rest; then everything is compared.
 */
#include "sim/cluster.h"
#include "sim/scenarios.h"

#include <stdio.h>
#include <stdlib.h>

#define FORM_NS   (60 * NS_PER_S)
#define FAIR_NS   (500 * NS_PER_MS)
#define FAULTS_NS (12 * NS_PER_S)
#define CALM_NS   (20 * NS_PER_S) /* within this everyone is served again */
#define SERVED_NS (6 * NS_PER_S)  /* and then never unserved for so long */
#define STOP_NS   (30 * NS_PER_S)
#define REST_NS   (60 * NS_PER_S)

static bool is_ready(void *owner)
{
    return ((struct cluster *)owner)->ready;
}

static bool is_idle(void *owner)
{
    return load_idle(owner);
}

static void always(void *owner, struct sim *sim)
{
    if (!sim->failed)
        check_always(owner);
}

static void form(struct cluster *c)
{
    process_start(&c->mon);
    process_start(&c->admin);
    if (!sim_run_while(c->sim, is_ready, c, FORM_NS) && !c->sim->failed)
        sim_fail(c->sim, "the cluster did not form within %llu s", (unsigned long long)(FORM_NS / NS_PER_S));
}

static void suffer(struct cluster *c)
{
    sim_run_for(c->sim, FAIR_NS);
    faults_start(c);
    sim_run_for(c->sim, FAULTS_NS);
    faults_stop(c);
}

/* A taken image makes its former writer wait: one client of each image must be served. */
static void check_served(struct cluster *c)
{
    for (uint32_t i = 0; i < c->image_count && !c->sim->failed; i++) {
        uint64_t last_ns = 0;
        for (uint32_t j = 0; j < c->client_count; j++)
            if (c->clients[j].image == i)
                last_ns = MAX(last_ns, c->clients[j].last_success_ns);
        if (c->sim->now_ns - last_ns > SERVED_NS)
            sim_fail(c->sim, "nobody was served on %s since %.3f s, though nothing is wrong any more",
                     c->images[i].name, (double)last_ns / (double)NS_PER_S);
    }
}

static void come_to_rest(struct cluster *c)
{
    sim_run_for(c->sim, CALM_NS);
    check_served(c);
    c->stopping = true;
    if (!sim_run_while(c->sim, is_idle, c, c->sim->now_ns + STOP_NS) && !c->sim->failed)
        sim_fail(c->sim, "requests are under way, or clients cannot close their images, long after the end");
    load_read_all(c);
    if (!sim_run_while(c->sim, is_idle, c, c->sim->now_ns + REST_NS) && !c->sim->failed)
        sim_fail(c->sim, "the images cannot be read");
}

void scenario_cluster_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct cluster *c = sim_alloc(sizeof(*c));

    sim_choose_faults(sim, SIM_FAULTS_ALL & ~(SIM_FAULT_BIT(DISK_ROT) | SIM_FAULT_BIT(DISK_MISDIRECT)));
    cluster_init(c, sim);
    sim->after_step = always;
    sim->after_step_owner = c;
    form(c);
    if (!sim->failed)
        suffer(c);
    if (!sim->failed)
        come_to_rest(c);
    if (!sim->failed)
        check_histories(c);
    if (!sim->failed)
        check_replicas(c, sim->now_ns + REST_NS);
    sim_result_take(ret_result, sim);
    snprintf(
        ret_result->stats, sizeof(ret_result->stats),
        "%u OSDs of %u shards, %u PGs, %u clients; %llu writes, %llu reads, %llu clears, %llu failed, %llu takeovers",
        c->osd_count, c->shard_count, c->pg_count, c->client_count, (unsigned long long)c->writes,
        (unsigned long long)c->reads, (unsigned long long)c->clears, (unsigned long long)c->failures,
        (unsigned long long)c->takeovers);
    sim->after_step = NULL;
    cluster_fini(c);
    sim_free(sim);
    free(c);
}
