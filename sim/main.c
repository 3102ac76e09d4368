/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-sim: runs scenarios. A single seed in this process, so that a debugger has it easy; many seeds in
 * a child each, so that an assertion or a hang of one is one more failing seed in the list.
 */
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/plant.h"
#include "base/text.h"
#include "sim/program.h"

static const struct {
    const char *name, *text;
} PLANTS[] = {
#define X(name, text) {#name, text},
    PLANT_TABLE(X)
#undef X
};

static void usage(FILE *to)
{
    fprintf(to,
            "fastblock-sim [options]: runs clusters, or parts of them, in virtual time with faults\n"
            "  --seed N            one run, replayed exactly (default 1)\n"
            "  --seeds A..B        many runs; exits with 1 and lists the seeds that failed\n"
            "  --scenario NAME     which one (default: all of them)\n"
            "  --jobs N            runs in parallel with --seeds (default 1)\n"
            "  --timeout SECONDS   a run that takes more CPU time has failed (default 300)\n"
            "  --twice             every run twice: both must give the same trace hash\n"
            "  --verbose           print every log line\n"
            "  --with FAULT        this class of faults is on in every run (may be repeated; \"all\")\n"
            "  --without FAULT     it is on in none (may be repeated; \"all\")\n"
            "  --profile NAME      every run of the scenario cluster has this profile (sim/README.md)\n"
            "  --replicas N        the pool of the scenario cluster has so many replicas, not three\n"
            "  --plant NAME        with a bug planted (may be repeated); --plants lists them\n"
            "  --minimise          the seed fails: looks for the smallest run that fails in the same way\n"
            "  --osds N, --shards N, --clients N, --pgs N, --workers N, --fault-ms N\n"
            "                      at most so many, or so long, whatever the seed says (scenario cluster)\n"
            "  --expect-failure    exits with 0 at the first seed that fails, with 1 if none does\n"
            "  --list              list the scenarios\n"
            "  --faults            list the fault classes\n");
}

static void print_result(const struct sim_scenario *scenario, uint64_t seed, const struct sim_result *r)
{
    printf("seed %llu: scenario %s: %s%s\n", (unsigned long long)seed, scenario->name,
           r->failed ? "FAILED: " : "ok", r->failure);
    printf("  faults:");
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++)
        if ((r->faults >> i) & 1)
            printf(" %s=%u", sim_fault_name(i), r->intensity[i]);
    printf("%s\n", r->faults ? "" : " none");
    printf("  %.3f s of virtual time, %llu events, %llu polls\n", (double)r->virtual_ns / (double)NS_PER_S,
           (unsigned long long)r->events, (unsigned long long)r->polls);
    if (r->stats[0])
        printf("  %s\n", r->stats);
    printf("  trace hash %016llx\n", (unsigned long long)r->trace_hash);
    fflush(stdout);
}

/* Of all runs, also those in children; not part of any trace. */
struct totals {
    _Atomic uint64_t client_ops, virtual_ns, cpu_ns, clean_runs, clean_ns, clean_max_ns;
    _Atomic uint64_t injected[SIM_FAULT_COUNT], injected_runs[SIM_FAULT_COUNT];
};
static struct totals *totals;

static uint64_t cpu_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void run_counted(const struct sim_scenario *scenario, const struct sim_args *args,
                        struct sim_result *result)
{
    uint64_t begin_ns = cpu_now_ns();

    scenario->run(args, result);
    totals->client_ops += result->client_ops;
    totals->virtual_ns += result->virtual_ns;
    totals->cpu_ns += cpu_now_ns() - begin_ns;
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++) {
        totals->injected[i] += result->injected[i];
        totals->injected_runs[i] += result->injected[i] != 0;
    }
    totals->clean_runs += result->clean_ns != 0;
    totals->clean_ns += result->clean_ns;
    for (uint64_t most = totals->clean_max_ns; most < result->clean_ns;)
        if (atomic_compare_exchange_weak(&totals->clean_max_ns, &most, result->clean_ns))
            break;
}

void print_totals(void)
{
    double cpu_s = (double)totals->cpu_ns / (double)NS_PER_S;

    printf("%.1f s of virtual time in %.2f s of CPU time", (double)totals->virtual_ns / (double)NS_PER_S,
           cpu_s);
    if (totals->client_ops)
        printf("; %llu client operations, %.0f per second of a core", (unsigned long long)totals->client_ops,
               (double)totals->client_ops / cpu_s);
    printf("\n");
    if (totals->clean_runs)
        printf("whole again after the last fault: on average %.2f s of virtual time, at most %.2f s\n",
               (double)totals->clean_ns / (double)totals->clean_runs / (double)NS_PER_S,
               (double)totals->clean_max_ns / (double)NS_PER_S);
    printf("faults injected (in how many runs):");
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++)
        if (totals->injected[i])
            printf(" %s %llu (%llu)", sim_fault_name((enum sim_fault)i),
                   (unsigned long long)totals->injected[i], (unsigned long long)totals->injected_runs[i]);
    printf("\n");
}

int run_one(const struct options *o, const struct sim_scenario *scenario, uint64_t seed, bool quiet)
{
    struct sim_args args = {seed, o->verbose, o->profile, o->replicas, o->limits};
    struct sim_result first = {0}, second = {0};

    run_counted(scenario, &args, &first);
    if (!quiet || first.failed)
        print_result(scenario, seed, &first);
    if (first.failed || !o->twice)
        return first.failed ? 1 : 0;
    args.verbose = false;
    run_counted(scenario, &args, &second);
    if (first.trace_hash == second.trace_hash)
        return 0;
    printf("seed %llu: scenario %s: the same seed gave two traces, %016llx and %016llx\n",
           (unsigned long long)seed, scenario->name, (unsigned long long)first.trace_hash,
           (unsigned long long)second.trace_hash);
    fflush(stdout);
    return EXIT_DIFFERENT;
}

static void plant_add(const char *name)
{
    for (uint32_t i = 0; i < ARRAY_LEN(PLANTS); i++) {
        if (strcasecmp(PLANTS[i].name, name) == 0) {
            plants_set[i] = true;
            return;
        }
    }
    fprintf(stderr, "fastblock-sim: no planted bug is called '%s'; --plants lists them\n", name);
    exit(2);
}

static void fault_add(uint32_t *classes, const char *name)
{
    if (strcmp(name, "all") == 0) {
        *classes = SIM_FAULTS_ALL;
        return;
    }
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++) {
        if (strcasecmp(sim_fault_name((enum sim_fault)i), name) == 0) {
            *classes |= 1u << i;
            return;
        }
    }
    fprintf(stderr, "fastblock-sim: no class of faults is called '%s'; --faults lists them\n", name);
    exit(2);
}

static const struct sim_scenario *scenario_find(const char *name)
{
    for (const struct sim_scenario *s = SIM_SCENARIOS; s->name; s++)
        if (strcmp(s->name, name) == 0)
            return s;
    fprintf(stderr, "fastblock-sim: no scenario is called '%s'; --list lists them\n", name);
    exit(2);
}

static uint64_t number(const char *option, const char *text)
{
    uint64_t value;

    if (text_parse_u64(text, &value)) {
        fprintf(stderr, "fastblock-sim: %s: '%s' is not a number\n", option, text);
        exit(2);
    }
    return value;
}

static void seeds_parse(struct options *o, char *text)
{
    char *dots = strstr(text, "..");

    if (!dots) {
        fprintf(stderr, "fastblock-sim: --seeds takes A..B\n");
        exit(2);
    }
    *dots = '\0';
    o->seed_first = number("--seeds", text);
    o->seed_last = number("--seeds", dots + 2);
    if (o->seed_last < o->seed_first || o->seed_last == UINT64_MAX) {
        fprintf(stderr, "fastblock-sim: --seeds: the last seed comes before the first\n");
        exit(2);
    }
    o->single = false;
}

static void list(bool scenarios, bool plants)
{
    if (scenarios)
        for (const struct sim_scenario *s = SIM_SCENARIOS; s->name; s++)
            printf("%-10s %s\n", s->name, s->description);
    else if (plants)
        for (uint32_t i = 0; i < ARRAY_LEN(PLANTS); i++)
            printf("%-24s %s\n", PLANTS[i].name, PLANTS[i].text);
    else
        for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++)
            printf("%-16s %s\n", sim_fault_name(i), sim_fault_description(i));
    exit(0);
}

enum {
    OPT_SEED = 1,
    OPT_SEEDS,
    OPT_SCENARIO,
    OPT_JOBS,
    OPT_TIMEOUT,
    OPT_TWICE,
    OPT_VERBOSE,
    OPT_WITH,
    OPT_WITHOUT,
    OPT_PROFILE,
    OPT_REPLICAS,
    OPT_PLANT,
    OPT_EXPECT,
    OPT_MINIMISE,
    OPT_LIMIT, /* and one for each row of LIMITS */
    OPT_LIMIT_LAST = OPT_LIMIT + SIM_LIMIT_COUNT - 1,
    OPT_LIST,
    OPT_PLANTS,
    OPT_FAULTS,
    OPT_HELP
};

static const struct option OPTIONS[] = {
    {"seed", required_argument, NULL, OPT_SEED},
    {"seeds", required_argument, NULL, OPT_SEEDS},
    {"scenario", required_argument, NULL, OPT_SCENARIO},
    {"jobs", required_argument, NULL, OPT_JOBS},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"twice", no_argument, NULL, OPT_TWICE},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"with", required_argument, NULL, OPT_WITH},
    {"without", required_argument, NULL, OPT_WITHOUT},
    {"profile", required_argument, NULL, OPT_PROFILE},
    {"replicas", required_argument, NULL, OPT_REPLICAS},
    {"plant", required_argument, NULL, OPT_PLANT},
    {"expect-failure", no_argument, NULL, OPT_EXPECT},
    {"minimise", no_argument, NULL, OPT_MINIMISE},
#define X(name, text) {text, required_argument, NULL, OPT_LIMIT + SIM_LIMIT_##name},
    SIM_LIMIT_TABLE(X)
#undef X
        {"list", no_argument, NULL, OPT_LIST},
    {"plants", no_argument, NULL, OPT_PLANTS},
    {"faults", no_argument, NULL, OPT_FAULTS},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

static struct options parse(int argc, char **argv)
{
    struct options o = {.seed_first = 1, .seed_last = 1, .single = true, .jobs = 1, .timeout_s = 300};

    for (int c; (c = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        switch (c) {
        case OPT_SEED:
            o.seed_first = o.seed_last = number("--seed", optarg);
            break;
        case OPT_SEEDS:
            seeds_parse(&o, optarg);
            break;
        case OPT_SCENARIO:
            o.scenario = scenario_find(optarg);
            break;
        case OPT_JOBS:
            o.jobs = (uint32_t)MAX(1u, MIN(number("--jobs", optarg), (uint64_t)JOBS_MAX));
            break;
        case OPT_TIMEOUT:
            o.timeout_s = (uint32_t)number("--timeout", optarg);
            break;
        case OPT_TWICE:
            o.twice = true;
            break;
        case OPT_VERBOSE:
            o.verbose = true;
            break;
        case OPT_WITH:
            fault_add(&sim_faults_always, optarg);
            break;
        case OPT_WITHOUT:
            fault_add(&sim_faults_never, optarg);
            break;
        case OPT_PROFILE:
            o.profile = optarg;
            break;
        case OPT_REPLICAS:
            o.replicas = (uint32_t)MAX(1u, MIN(number("--replicas", optarg), (uint64_t)SIM_REPLICAS_MAX));
            break;
        case OPT_PLANT:
            plant_add(optarg);
            break;
        case OPT_EXPECT:
            o.expect_failure = true;
            break;
        case OPT_MINIMISE:
            o.minimise = true;
            break;
        case OPT_LIMIT ... OPT_LIMIT_LAST:
            o.limits.most[c - OPT_LIMIT] = (uint32_t)number("limit", optarg);
            break;
        case OPT_LIST:
        case OPT_PLANTS:
        case OPT_FAULTS:
            list(c == OPT_LIST, c == OPT_PLANTS);
            break;
        case OPT_HELP:
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    if (o.minimise && (!o.single || !o.scenario)) {
        fprintf(stderr, "fastblock-sim: --minimise takes one --scenario and one --seed\n");
        exit(2);
    }
    if (optind < argc) {
        usage(stderr);
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    int failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    /* Frames and disk requests come and go by the hundred thousand: their memory is not to go back to the
     * kernel. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (totals == MAP_FAILED) {
        perror("fastblock-sim: mmap");
        return 2;
    }
    if (o.minimise)
        return minimise_run(&o);
    if (!o.single)
        return campaign_run(&o);
    for (const struct sim_scenario *s = SIM_SCENARIOS; s->name; s++)
        if (!o.scenario || o.scenario == s)
            failed |= run_one(&o, s, o.seed_first, false);
    print_totals();
    return failed ? 1 : 0;
}
