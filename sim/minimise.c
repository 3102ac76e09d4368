/* SPDX-License-Identifier: Apache-2.0
 *
 * A seed fails: what is the smallest run that fails in the same way? Classes of faults are turned off, then
 * the cluster, its load and the time of the faults are made smaller, one thing after the other, and what does
 * not change the outcome is kept; over and over until nothing more can go. A smaller run is another run, so a
 * few other seeds get their turn before a step is given up.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/program.h"

#define SEEDS_TRIED 6

static const char *const LIMIT_NAMES[] = {
#define X(name, text) text,
    SIM_LIMIT_TABLE(X)
#undef X
};

/* The least that makes sense, and the most that a seed draws. */
static const struct {
    uint32_t least, most;
} LIMIT_RANGE[] = {
    [SIM_LIMIT_OSDS] = {3, 9}, [SIM_LIMIT_SHARDS] = {1, 4},  [SIM_LIMIT_CLIENTS] = {2, 6},
    [SIM_LIMIT_PGS] = {1, 16}, [SIM_LIMIT_WORKERS] = {1, 6}, [SIM_LIMIT_FAULT_MS] = {100, 12000},
};

struct candidate {
    uint64_t seed;
    uint32_t without;
    struct sim_limits limits;
};

struct minimise {
    const struct options *o;
    struct sim_result *result; /* shared with the children */
    char how[64];              /* it fails: up to the first number, which differs from run to run */
    uint32_t runs;
};

static void how_it_failed(const struct minimise *m, int status, char how[64])
{
    if (WIFSIGNALED(status)) {
        snprintf(how, 64, "%s", strsignal(WTERMSIG(status)));
        return;
    }
    size_t len = strcspn(m->result->failure, "0123456789");
    snprintf(how, 64, "%.*s", (int)MIN(len, (size_t)63), m->result->failure);
}

/* Runs it in a child. True: it fails; `how` tells in which way. */
static bool fails(struct minimise *m, const struct candidate *c, char how[64])
{
    int status;

    memset(m->result, 0, sizeof(*m->result));
    m->runs++;
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return false;
    if (pid == 0) {
        struct sim_args args = {c->seed, false, m->o->profile, m->o->replicas, c->limits};
        run_limit_cpu(m->o->timeout_s);
        sim_faults_never |= c->without;
        m->o->scenario->run(&args, m->result);
        _exit(m->result->failed);
    }
    if (waitpid(pid, &status, 0) != pid || (WIFEXITED(status) && !WEXITSTATUS(status)))
        return false;
    how_it_failed(m, status, how);
    return true;
}

static bool still_fails(struct minimise *m, struct candidate *c)
{
    struct candidate tried = *c;
    char how[64];

    for (uint32_t i = 0; i < SEEDS_TRIED; i++, tried.seed++) {
        if (!fails(m, &tried, how) || strcmp(how, m->how) != 0)
            continue;
        *c = tried;
        return true;
    }
    return false;
}

static void print_command(const struct minimise *m, const struct candidate *c)
{
    printf("fastblock-sim --scenario %s --seed %llu", m->o->scenario->name, (unsigned long long)c->seed);
    if (m->o->profile)
        printf(" --profile %s", m->o->profile);
    if (m->o->replicas)
        printf(" --replicas %u", m->o->replicas);
    if (c->without == SIM_FAULTS_ALL)
        printf(" --without all");
    for (uint32_t i = 0; i < SIM_FAULT_COUNT && c->without != SIM_FAULTS_ALL; i++)
        if (c->without >> i & 1)
            printf(" --without %s", sim_fault_name((enum sim_fault)i));
    for (uint32_t i = 0; i < SIM_LIMIT_COUNT; i++)
        if (c->limits.most[i])
            printf(" --%s %u", LIMIT_NAMES[i], c->limits.most[i]);
    printf("\n");
    fflush(stdout);
}

static bool try_without(struct minimise *m, struct candidate *at, uint32_t without)
{
    struct candidate c = *at;

    c.without |= without;
    if (c.without == at->without || !still_fails(m, &c))
        return false;
    *at = c;
    return true;
}

static bool try_limit(struct minimise *m, struct candidate *at, enum sim_limit limit, uint32_t most)
{
    struct candidate c = *at;

    c.limits.most[limit] = MAX(most, LIMIT_RANGE[limit].least);
    if (c.limits.most[limit] >= (at->limits.most[limit] ? at->limits.most[limit] : LIMIT_RANGE[limit].most) ||
        !still_fails(m, &c))
        return false;
    *at = c;
    return true;
}

/* One round over everything. True: something went. */
static bool reduce(struct minimise *m, struct candidate *at)
{
    bool any = false;

    if (try_without(m, at, SIM_FAULTS_ALL))
        any = true;
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++)
        any |= try_without(m, at, 1u << i);
    for (uint32_t i = 0; i < SIM_LIMIT_COUNT; i++) {
        enum sim_limit limit = (enum sim_limit)i;
        if (try_limit(m, at, limit, LIMIT_RANGE[i].least)) {
            any = true;
            continue;
        }
        while (try_limit(m, at, limit, (at->limits.most[i] ? at->limits.most[i] : LIMIT_RANGE[i].most) / 2))
            any = true;
    }
    return any;
}

int minimise_run(const struct options *o)
{
    struct minimise m = {.o = o};
    struct candidate at = {.seed = o->seed_first, .limits = o->limits};
    char how[64];

    m.result = mmap(NULL, sizeof(*m.result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m.result == MAP_FAILED) {
        perror("fastblock-sim: mmap");
        return 2;
    }
    if (!fails(&m, &at, how)) {
        printf("seed %llu does not fail\n", (unsigned long long)at.seed);
        return 1;
    }
    memcpy(m.how, how, sizeof(m.how));
    printf("it fails: %s...\n", m.how);
    /* What did not strike before it failed is the first to go. */
    uint32_t idle = 0;
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++)
        idle |= m.result->faults >> i & 1 && !m.result->injected[i] ? 1u << i : 0;
    if (idle)
        (void)try_without(&m, &at, idle);
    do
        print_command(&m, &at);
    while (reduce(&m, &at));
    printf("the smallest, after %u runs: ", m.runs);
    print_command(&m, &at);
    return 0;
}
