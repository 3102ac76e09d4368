/* SPDX-License-Identifier: Apache-2.0
 *
 * Many runs, in child processes, so that an assertion or a hang of one is one more failing seed in the list.
 * A child makes several, because the kernel's work for memory that is touched for the first time is a quarter
 * of what a run costs; it ends with the first that fails, and another goes on behind that.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/program.h"

#define FAILED_SHOWN_MAX 100
#define RUNS_BY_CHILD    16

/* Runs are counted through: each scenario with the first seed, each with the next. */
struct job {
    pid_t pid;             /* 0: nobody is at work */
    uint64_t end;          /* behind the child's last run */
    _Atomic uint64_t *run; /* that the child is at; both see it */
};

struct campaign {
    const struct options *o;
    const struct sim_scenario *scenarios;
    uint64_t scenario_count;
    struct job jobs[JOBS_MAX];
    uint64_t next, end; /* runs that no child has been given */
    uint64_t runs, failed;
    struct {
        uint64_t seed;
        const char *scenario;
    } shown[FAILED_SHOWN_MAX];
};

static const char *scenario_of(const struct campaign *c, uint64_t run)
{
    return c->scenarios[run % c->scenario_count].name;
}

static uint64_t seed_of(const struct campaign *c, uint64_t run)
{
    return c->o->seed_first + run / c->scenario_count;
}

void run_limit_cpu(uint32_t seconds)
{
    struct itimerval limit = {.it_value.tv_sec = seconds};

    setitimer(ITIMER_PROF, &limit, NULL);
}

/* With gcov (tools/unreached): its counters are written by an orderly exit only. */
void __gcov_dump(void) __attribute__((weak));

static void job_end(int status)
{
    if (__gcov_dump)
        __gcov_dump();
    _exit(status);
}

static void job_start(struct campaign *c, struct job *job, uint64_t first, uint64_t end)
{
    fflush(stdout);
    *job->run = first;
    job->end = end;
    job->pid = fork();
    if (job->pid < 0) {
        perror("fastblock-sim: fork");
        exit(2);
    }
    if (job->pid)
        return;
    for (uint64_t run = first; run < end; run++) {
        *job->run = run;
        run_limit_cpu(c->o->timeout_s);
        int status = run_one(c->o, &c->scenarios[run % c->scenario_count], seed_of(c, run), true);
        if (status)
            job_end(status);
    }
    job_end(0);
}

/* A share of the runs for each who has nothing to do; smaller ones towards the end. */
static void jobs_start(struct campaign *c)
{
    for (uint32_t i = 0; i < c->o->jobs && c->next < c->end; i++) {
        if (c->jobs[i].pid)
            continue;
        uint64_t first = c->next;
        c->next += MIN(RUNS_BY_CHILD, (c->end - first + c->o->jobs) / (c->o->jobs + 1));
        c->runs += c->next - first;
        job_start(c, &c->jobs[i], first, c->next);
    }
}

static void run_failed(struct campaign *c, uint64_t run, int status)
{
    if (WIFSIGNALED(status))
        printf("seed %llu: scenario %s: FAILED: %s\n", (unsigned long long)seed_of(c, run),
               scenario_of(c, run),
               WTERMSIG(status) == SIGPROF ? "it took too long" : strsignal(WTERMSIG(status)));
    if (c->failed < FAILED_SHOWN_MAX) {
        c->shown[c->failed].seed = seed_of(c, run);
        c->shown[c->failed].scenario = scenario_of(c, run);
    }
    c->failed++;
}

static void job_ended(struct campaign *c, struct job *job, int status)
{
    job->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    uint64_t behind = *job->run + 1;
    run_failed(c, *job->run, status);
    if (c->o->expect_failure) {
        c->runs -= job->end - behind;
        c->next = c->end;
    } else if (behind < job->end) {
        job_start(c, job, behind, job->end);
    }
}

/* False: there is no child. */
static bool job_wait(struct campaign *c)
{
    int status;
    pid_t pid = wait(&status);

    for (uint32_t i = 0; i < c->o->jobs && pid > 0; i++) {
        if (c->jobs[i].pid == pid) {
            job_ended(c, &c->jobs[i], status);
            break;
        }
    }
    return pid > 0;
}

int campaign_run(const struct options *o)
{
    struct campaign c = {.o = o, .scenarios = o->scenario ? o->scenario : SIM_SCENARIOS};
    size_t bytes = JOBS_MAX * sizeof(*c.jobs[0].run);
    _Atomic uint64_t *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) {
        perror("fastblock-sim: mmap");
        return 2;
    }
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        c.jobs[i].run = &at[i];
    for (c.scenario_count = 1; !o->scenario && SIM_SCENARIOS[c.scenario_count].name;)
        c.scenario_count++;
    c.end = (o->seed_last - o->seed_first + 1) * c.scenario_count;
    do
        jobs_start(&c);
    while (job_wait(&c));
    munmap(at, bytes);
    printf("%llu runs, %llu failed\n", (unsigned long long)c.runs, (unsigned long long)c.failed);
    print_totals();
    for (uint64_t i = 0; i < MIN(c.failed, FAILED_SHOWN_MAX); i++)
        printf("failed: --scenario %s --seed %llu\n", c.shown[i].scenario,
               (unsigned long long)c.shown[i].seed);
    if (o->expect_failure)
        return c.failed ? 0 : 1;
    return c.failed ? 1 : 0;
}
