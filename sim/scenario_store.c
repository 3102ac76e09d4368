/* SPDX-License-Identifier: Apache-2.0
 *
 * One store on a small disk, driven with entries of several PGs at random, against a model: store_world.h
 * says which part is where.
 *
 * The process is killed, or the power cut, at any moment; requests fail; data rots. After each start: every
 * entry that was acknowledged as durable is there with its term and its data, nothing is there that was never
 * appended, terms and votes that were acknowledged are there; after the committed entries have been applied
 * again every block of every object reads as the model has it; and from time to time the offline check has
 * nothing to say. During the run applied and proposed blocks are read; reads may end in ERR_DAMAGED where
 * data rotted, never in wrong data. Logs are cut and replaced above what is committed, PGs lose their quorum
 * and hold the ring, replicas fall behind and are recovered by copies, PGs are split and removed, the device
 * fills up.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/plant.h"
#include "sim/store_world.h"

static void node_start(void *owner, struct sim_node *node)
{
    driver_start(owner, node);
}

static void node_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    struct world *w = owner;

    w->driver = NULL;
    w->crashes++;
}

void scenario_store_run(const struct sim_args *args, struct sim_result *ret)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct world *w = sim_alloc(sizeof(*w));

    w->sim = sim;
    w->rng = sim_rng_make(sim->seed, "store", 0);
    w->keeps = sim_rng_make(sim->seed, "keeps", 0);
    w->mends = sim_rng_make(sim->seed, "mends", 0);
    w->moments = sim_rng_make(sim->seed, "moments", 0);
    w->aims = sim_rng_make(sim->seed, "aims", 0);
    w->choices = sim_rng_make(sim->seed, "choices", 0);
    w->audit = sim_rng_make(sim->seed, "audit", 0);
    w->floods = sim_rng_make(sim->seed, "floods", 0);
    w->lates = sim_rng_make(sim->seed, "lates", 0);
    w->misses = sim_rng_make(sim->seed, "misses", 0);
    w->misses_splits = sim_rng_below(&w->misses, 3) == 0;
    w->absent_rarely = w->misses_splits || sim_rng_below(&w->misses, 2) ? 100 : 3000;
    w->earlies = sim_rng_make(sim->seed, "earlies", 0);
    w->memories = sim_rng_make(sim->seed, "memories", 0);
    w->rests = sim_rng_make(sim->seed, "rests", 0);
    w->blows = sim_rng_make(sim->seed, "blows", 0);
    w->pages_hit = sim_rng_below(&w->blows, 4) == 0;
    w->spies = sim_rng_make(sim->seed, "spies", 0);
    w->turns = sim_rng_make(sim->seed, "turns", 0);
    w->blinds = sim_rng_make(sim->seed, "blinds", 0);
    plants_scarce = sim_rng_below(&w->spies, 2);
    w->reads = sim_rng_make(sim->seed, "reads", 0);
    w->sources = sim_rng_make(sim->seed, "sources", 0);
    w->marks = sim_rng_make(sim->seed, "marks", 0);
    w->looks = sim_rng_make(sim->seed, "looks", 0);
    w->scars = sim_rng_make(sim->seed, "scars", 0);
    w->restless = sim_rng_below(&w->scars, 4) == 0;
    w->calm = sim_rng_below(&w->scars, 4) == 0;
    sim_choose_faults(sim, SIM_FAULT_BIT(DISK_SLOW) | SIM_FAULT_BIT(DISK_ERROR) | SIM_FAULT_BIT(DISK_FLUSH) |
                               SIM_FAULT_BIT(DISK_READ) | SIM_FAULT_BIT(DISK_ROT) | SIM_FAULT_BIT(DISK_LOSE) |
                               SIM_FAULT_BIT(MEMORY));
    uint64_t size = (44ull << 20) + (sim_rng_below(&w->rng, 3) << 24);
    bool cached = sim_rng_below(&w->rng, 3) != 0;
    w->ring_bytes = 8ull << 20;
    w->clean =
        !sim_fault_intensity(sim, SIM_FAULT_DISK_ROT) && !sim_fault_intensity(sim, SIM_FAULT_DISK_LOSE);
    w->once_ppm = w->clean && sim_fault_intensity(sim, SIM_FAULT_DISK_READ) ? 100000 : 0;
    w->marks_rarely = w->clean && sim_rng_below(&w->marks, 2) ? 1 + (uint32_t)sim_rng_below(&w->marks, 6) : 0;
    w->burst = 10;
    w->disk = sim_disk_new(
        sim, &(struct sim_disk_config){.name = "disk",
                                       .size_bytes = size,
                                       .volatile_cache = cached,
                                       .unfinished_cached = true,
                                       .holes = true,
                                       .keep_older = sim_fault_intensity(sim, SIM_FAULT_DISK_LOSE),
                                       .junk = sim_rng_below(&w->rng, 2),
                                       .queue_depth_hint = 1 + (uint32_t)sim_rng_below(&w->rng, 4),
                                       .may_damage = faults_may_damage,
                                       .owner = w});
    /* Few, so that what is in memory of pages comes and goes all the time. */
    struct sim_rng pages = sim_rng_make(sim->seed, "pages", 0);
    w->config = (struct store_config){.cache_bytes = sim_rng_below(&w->rng, 2) ? 2u << 20 : 16u << 20,
                                      .pgs_max = 16,
                                      .pages_max = 1 + (uint32_t)sim_rng_below(&pages, 8),
                                      .large_chunks_min = 1 + (uint32_t)sim_rng_below(&w->rng, 3)};
    struct sim_rng caches = sim_rng_make(sim->seed, "caches", 0);
    if (sim_rng_below(&caches, 4) == 0)
        w->config.cache_bytes = 64u << 10; /* less than is under way */
    w->mend_rarely = sim_rng_below(&w->mends, 3) ? 200 : 10;
    w->flood_rarely = sim_rng_below(&w->floods, 3) ? 0 : 20;
    /* Large writes go through the ring, which is full of them then: hardly a block is left at times. */
    struct sim_rng shape = sim_rng_make(sim->seed, "shape", 0);
    bool bulky = sim_rng_below(&shape, 4) == 0;
    if (bulky)
        w->config.large_chunks_min = CHUNKS_PER_OBJECT;
    /* Chunks of what is cut off are given to others. */
    bool churns = !bulky && sim_rng_below(&shape, 5) == 0;
    w->cuts = churns ? 25 : 2;
    struct sim_rng logs = sim_rng_make(sim->seed, "logs", 0);
    w->log_max = sim_rng_below(&logs, 4) ? 0 : 64 + (uint32_t)sim_rng_below(&logs, 400);
    w->settles = sim_rng_below(&shape, 2);
    w->pgs[sim_rng_below(&shape, MODEL_PGS_FIRST)].restless = (uint32_t)sim_rng_below(&shape, 3);
    struct sim_rng quiet = sim_rng_make(sim->seed, "quiet", 0);
    w->pgs[sim_rng_below(&quiet, MODEL_PGS_FIRST)].quiet = sim_rng_below(&quiet, 2);
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        w->pgs[i].bulky = bulky || churns;
        w->pgs[i].imaged = sim_rng_below(&w->scars, 4) == 0;
        w->pgs[i].id = 7ull << 32 | i;
        w->pgs[i].number = i;
        w->pgs[i].exists = i < MODEL_PGS_FIRST;
        w->pgs[i].seed = sim_rng_u64(&w->rng);
        w->pgs[i].objects = 1 + (uint32_t)sim_rng_below(&w->rng, MODEL_OBJECTS);
    }
    w->node = sim_node_new(sim, &(struct sim_node_config){.name = "osd",
                                                          .host = "host",
                                                          .arena_bytes = 48u << 20,
                                                          .start = node_start,
                                                          .crashed = node_crashed,
                                                          .owner = w});
    sim->after_step = split_always;
    sim->after_step_owner = w;
    sim_node_start(w->node);
    faults_run(w);
    sim->after_step = NULL;
    struct sim_disk_stats stats = sim_disk_stats(w->disk);
    snprintf(
        ret->stats, sizeof(ret->stats),
        "%lu crashes, %lu opens, %lu entries, %lu retries, %lu without space, %lu reads, %lu damaged, %lu repairs, %lu copies, %lu mended, %lu floods, %lu audits, %lu alone, "
        "%lu splits, %lu of them late, %lu removals, %lu checkpoints, %lu copied forward, %lu tail moves, %lu large, %lu pages read, %lu in memory, %lu old entries read, %lu looks, %lu checks, %lu scars, %lu healed, %lu damaged logs, %lu blocks lost with copies, %lu lost, %lu torn",
        w->crashes, w->opens, w->entries, w->retries, w->no_space, w->read_checks, w->damage_reads,
        w->repairs, w->copies, w->mended, w->flooded, w->audits, w->loners, w->splits, w->behinds,
        w->removals, w->checkpoints, w->forward, w->moves, w->large, w->page_reads, w->page_hits,
        w->lag_reads, w->looked, w->checks, w->scars_made, w->healed, w->hurt_logs, w->marked_blocks,
        stats.lost, stats.torn);
    plants_scarce = false;
    sim_result_take(ret, sim);
    sim_disk_free(w->disk);
    sim_free(sim);
    free(w->alone);
    free(w->earlier);
    free(w);
}
