/* SPDX-License-Identifier: Apache-2.0
 *
 * Many seeds, in a child each, so that an assertion or a hang of one is one more failing seed in the list.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/program.h"

#define FAILED_SHOWN_MAX 100

struct job {
    pid_t pid;
    uint64_t seed;
    const struct sim_scenario *scenario;
};

struct campaign {
    const struct options *o;
    struct job jobs[JOBS_MAX];
    uint32_t running;
    uint64_t runs, failed;
    struct {
        uint64_t seed;
        const char *scenario;
    } shown[FAILED_SHOWN_MAX];
};

static void campaign_start(struct campaign *c, const struct sim_scenario *scenario, uint64_t seed)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fastblock-sim: fork");
        exit(2);
    }
    if (pid == 0) {
        alarm(c->o->timeout_s);
        _exit(run_one(c->o, scenario, seed, true));
    }
    c->jobs[c->running++] = (struct job){pid, seed, scenario};
    c->runs++;
}

static void campaign_wait(struct campaign *c)
{
    int status;
    pid_t pid = wait(&status);

    for (uint32_t i = 0; i < c->running; i++) {
        struct job job = c->jobs[i];
        if (job.pid != pid)
            continue;
        c->jobs[i] = c->jobs[--c->running];
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return;
        if (WIFSIGNALED(status))
            printf("seed %llu: scenario %s: FAILED: %s\n", (unsigned long long)job.seed, job.scenario->name,
                   WTERMSIG(status) == SIGALRM ? "it took too long" : strsignal(WTERMSIG(status)));
        if (c->failed < FAILED_SHOWN_MAX) {
            c->shown[c->failed].seed = job.seed;
            c->shown[c->failed].scenario = job.scenario->name;
        }
        c->failed++;
        return;
    }
}

int campaign_run(const struct options *o)
{
    struct campaign c = {.o = o};

    for (uint64_t seed = o->seed_first; seed <= o->seed_last; seed++) {
        for (const struct sim_scenario *s = SIM_SCENARIOS; s->name; s++) {
            if (o->scenario && o->scenario != s)
                continue;
            if (o->expect_failure && c.failed)
                continue;
            while (c.running >= o->jobs)
                campaign_wait(&c);
            campaign_start(&c, s, seed);
        }
    }
    while (c.running)
        campaign_wait(&c);
    printf("%llu runs, %llu failed\n", (unsigned long long)c.runs, (unsigned long long)c.failed);
    print_totals();
    for (uint64_t i = 0; i < MIN(c.failed, FAILED_SHOWN_MAX); i++)
        printf("failed: --scenario %s --seed %llu\n", c.shown[i].scenario,
               (unsigned long long)c.shown[i].seed);
    if (o->expect_failure)
        return c.failed ? 0 : 1;
    return c.failed ? 1 : 0;
}
