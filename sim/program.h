/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the program fastblock-sim: main.c (options, one run), campaign.c (many), minimise.c (smaller
 * ones).
 */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include "sim/scenarios.h"

#define JOBS_MAX       64
#define EXIT_DIFFERENT 3 /* the same seed gave two traces */

struct options {
    uint64_t seed_first, seed_last;
    bool single;
    const struct sim_scenario *scenario; /* NULL: all */
    uint32_t jobs;
    uint32_t timeout_s;
    bool verbose, twice, expect_failure, minimise;
    const char *profile;
    uint32_t replicas;
    struct sim_limits limits;
};

/* One run, or two. 0, 1 (failed) or EXIT_DIFFERENT. `quiet`: prints failures only. */
int run_one(const struct options *o, const struct sim_scenario *scenario, uint64_t seed, bool quiet);
/* This process dies of SIGPROF after so much CPU time from now: real time depends on what else the machine
 * does. */
void run_limit_cpu(uint32_t seconds);
/* Of all runs so far. */
void print_totals(void);

/* 0, or 1 if a seed failed; the other way round with expect_failure. */
int campaign_run(const struct options *o);
/* Prints the command line of the smallest run found that fails like the first seed does; 1 if that does not
 * fail. */
int minimise_run(const struct options *o);

#endif
