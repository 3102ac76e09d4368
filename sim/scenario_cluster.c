/* SPDX-License-Identifier: Apache-2.0
 *
 * A whole cluster: it forms, serves, suffers, recovers, comes to rest; then everything is compared.
 */
#include "sim/cluster.h"
#include "sim/scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORM_NS        (60 * NS_PER_S)
#define FAIR_NS        (500 * NS_PER_MS)
#define FAULTS_NS      (12 * NS_PER_S)
#define CALM_NS        (20 * NS_PER_S) /* within this everyone is served again and all is whole */
#define CLEAN_EVERY_NS (20 * NS_PER_MS)
#define AFTER_NS       (2 * NS_PER_S) /* and the load goes on so much longer */
#define STOP_NS        (30 * NS_PER_S)
#define REST_NS        (60 * NS_PER_S)
#define SCRUB_NS       (120 * NS_PER_S) /* all of it, deeply */
#define READ_NS                                                                                              \
    (20 *                                                                                                    \
     REST_NS) /* all images, block by block, when many blocks are lost: each costs all tries of a repair */
#define MILD_FAULTS                                                                                          \
    (SIM_FAULT_BIT(CLOCK) | SIM_FAULT_BIT(NET_DUP) | SIM_FAULT_BIT(NET_REORDER) | SIM_FAULT_BIT(MEMBER) |    \
     SIM_FAULT_BIT(DISK_SLOW) | SIM_FAULT_BIT(SPLIT) | SIM_FAULT_BIT(FORCE) | SIM_FAULT_BIT(SCARCE))

static const char *const PROFILES[] = {
#define X(name, text) text,
    CLUSTER_PROFILE_TABLE(X)
#undef X
};

#define ULL(x) ((unsigned long long)(x))

static bool is_ready(void *owner)
{
    return ((struct cluster *)owner)->ready;
}

static bool is_idle(void *owner)
{
    return load_idle(owner);
}

static bool is_scrubbed(void *owner)
{
    return ((struct cluster *)owner)->scrubbed;
}

static void always(void *owner, struct sim *sim)
{
    if (sim->failed)
        return;
    force_watch(owner);
    lost_watch(owner);
    check_always(owner);
}

static void form(struct cluster *c)
{
    for (uint32_t i = 0; i < c->mon_count; i++)
        process_start(&c->mons[i]);
    process_start(&c->admin);
    if (!sim_run_while(c->sim, is_ready, c, FORM_NS) && !c->sim->failed)
        sim_fail(c->sim, "the cluster did not form within %llu s", (unsigned long long)(FORM_NS / NS_PER_S));
}

static void suffer(struct cluster *c, const struct sim_limits *limits)
{
    sim_run_for(c->sim, FAIR_NS);
    faults_start(c);
    sim_run_for(c->sim, sim_limited(limits, SIM_LIMIT_FAULT_MS, FAULTS_NS / NS_PER_MS) * NS_PER_MS);
    faults_stop(c);
}

static bool is_clean(void *owner)
{
    struct cluster *c = owner;

    if (c->sim->now_ns < c->clean_check_ns)
        return false;
    c->clean_check_ns = c->sim->now_ns + CLEAN_EVERY_NS;
    return rest_clean(c);
}

static void come_to_rest(struct cluster *c)
{
    if (!sim_run_while(c->sim, is_clean, c, c->quiet_ns + CALM_NS) && !c->sim->failed)
        sim_fail(c->sim, "%llu s after the last fault %s", ULL(CALM_NS / NS_PER_S), c->not_clean);
    c->clean_ns = c->sim->now_ns;
    calm_run(c, AFTER_NS);
    c->stopping = true;
    if (!sim_run_while(c->sim, is_idle, c, c->sim->now_ns + STOP_NS) && !c->sim->failed)
        sim_fail(c->sim, "requests are under way, or clients cannot close their images, long after the end");
    /* Before anything is read: what nobody reads is what a scrub is for. */
    sim_run_while(c->sim, check_whole, c, c->sim->now_ns + REST_NS);
    admin_scrub_all(c);
    if (!sim_run_while(c->sim, is_scrubbed, c, c->sim->now_ns + SCRUB_NS) && !c->sim->failed)
        sim_fail(c->sim, "a deep scrub does not come to its end");
    if (!c->sim->failed)
        scrub_check_done(c);
    if (!c->sim->failed)
        scrub_wait_told(c);
    load_read_all(c);
    bool read = sim_run_while(c->sim, is_idle, c, c->sim->now_ns + REST_NS);
    if (!read && (damage_is_uncovered(c) || c->lost_blocks))
        read = sim_run_while(c->sim, is_idle, c, c->sim->now_ns + READ_NS);
    if (!read && !c->sim->failed)
        sim_fail(c->sim, "the images cannot be read");
    if (c->lost_blocks > c->listed_blocks && !c->sim->failed)
        sim_fail(c->sim, "%llu blocks are lost, of which the monitor lists %llu", ULL(c->lost_blocks),
                 ULL(c->listed_blocks));
}

static enum cluster_profile choose_profile(struct sim *sim, const struct sim_args *args)
{
    struct sim_rng rng = sim_rng_make(args->seed, "cluster.profile", 0);
    uint64_t profile = sim_rng_below(&rng, PROFILE_COUNT);
    uint32_t faults = SIM_FAULTS_ALL;

    if (args->profile) {
        for (profile = 0; profile < PROFILE_COUNT && strcmp(PROFILES[profile], args->profile);)
            profile++;
        if (profile == PROFILE_COUNT) {
            fprintf(stderr, "fastblock-sim: no profile is called '%s'\n", args->profile);
            exit(2);
        }
    }
    /* In half of the runs a plot is not drowned by other trouble. */
    if (profile != PROFILE_ANY && sim_rng_below(&rng, 2))
        faults &= MILD_FAULTS;
    sim_choose_faults(sim, faults);
    return (enum cluster_profile)profile;
}

void scenario_cluster_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct cluster *c = sim_alloc(sizeof(*c));

    enum cluster_profile profile = choose_profile(sim, args);
    cluster_init(c, sim, profile, args);
    sim->after_step = always;
    sim->after_step_owner = c;
    form(c);
    if (!sim->failed)
        suffer(c, &args->limits);
    if (!sim->failed)
        come_to_rest(c);
    for (uint32_t i = 0; i < c->image_count && !sim->failed; i++)
        check_history(c, i, 0);
    if (!sim->failed)
        replicas_check(c, sim->now_ns + REST_NS);
    if (!sim->failed)
        scrub_check_list(c);
    if (!sim->failed)
        agree_check(c);
    if (!sim->failed)
        rest_end_all(c);
    sim_result_take(ret_result, sim);
    struct sim_disk_stats disks = {0};
    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct sim_disk_stats one = sim_disk_stats(c->osds[i].disk);
        disks.rotten += one.rotten;
        disks.taken_back += one.taken_back;
        disks.misdirected += one.misdirected;
        disks.read_errors += one.read_errors;
    }
    ret_result->clean_ns = c->clean_ns ? c->clean_ns - c->quiet_ns : 0;
    ret_result->client_ops = c->reads + c->writes + c->clears + c->statuses;
    snprintf(
        ret_result->stats, sizeof(ret_result->stats),
        "profile %s: %u OSDs of %u shards, %u PGs, %u clients; %llu writes, %llu reads, %llu clears, %llu block "
        "statuses, %llu failed (%llu for lack of space); %llu takeovers, %llu resizes, %llu images made again, "
        "%llu plots, %llu splits that moved %llu objects with %llu blocks, %llu writes of sectors lost, %llu offline checks; disks: %llu rotten, %llu lost, %llu misdirected, %llu reads failed, %llu blocks damaged at rest, %llu listed, %llu lost while who had them was away; calm: the slowest request took %llu us",
        PROFILES[profile], c->osd_count, c->shard_count, c->pg_count, c->client_count, ULL(c->writes),
        ULL(c->reads), ULL(c->clears), ULL(c->statuses), ULL(c->failures), ULL(c->no_space),
        ULL(c->takeovers), ULL(c->resizes), ULL(c->recreations), ULL(c->plots), ULL(c->split.done),
        ULL(c->split.objects), ULL(c->split.blocks), ULL(c->force.lost_writes), ULL(c->inspections),
        ULL(disks.rotten), ULL(disks.taken_back), ULL(disks.misdirected), ULL(disks.read_errors),
        ULL(c->damaged_blocks), ULL(c->listed_blocks), ULL(c->lost_blocks),
        ULL(c->calm_slowest_ns / NS_PER_US));
    sim->after_step = NULL;
    cluster_fini(c);
    sim_free(sim);
    free(c);
}
