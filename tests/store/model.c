/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator's scenario of one store (sim/scenario_store.c) for some seeds, and the planted bugs of the
 * store, each of which must be noticed. Links the store and the simulator alone. With arguments FIRST LAST
 * [BIT]: those seeds, with planted bug number
 * BIT; prints what failed, and for a single seed all that happened.
 */
#include "base/plant.h"

#include <stdlib.h>
#include <string.h>

#include "sim/scenarios.h"
#include "tests/tap.h"

static bool verbose;

static bool run_seed(uint64_t seed, struct sim_result *ret)
{
    memset(ret, 0, sizeof(*ret));
    scenario_store_run(&(struct sim_args){.seed = seed, .verbose = verbose}, ret);
    return !ret->failed;
}

static void seeds_pass_and_repeat(void)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct sim_result a, b;
        bool ok = run_seed(seed, &a);
        if (!ok)
            printf("# seed %llu: %s\n", (unsigned long long)seed, a.failure);
        CHECK(ok);
        run_seed(seed, &b);
        CHECK_EQ(a.trace_hash, b.trace_hash);
    }
}

/* `first`: a seed that noticed it when this was written; later ones in case that has changed. */
static void notices(enum plant plant, uint64_t first)
{
    bool noticed = false;

    plants_set[plant] = true;
    for (uint64_t seed = first; seed < first + 60 && !noticed; seed++) {
        struct sim_result r;
        noticed = !run_seed(seed, &r);
    }
    plants_set[plant] = false;
    CHECK(noticed);
}

#define NOTICES(name, first)                                                                                 \
    static void notices_##name(void)                                                                         \
    {                                                                                                        \
        notices(PLANT_##name, first);                                                                        \
    }
NOTICES(STORE_NO_FLUSH, 2)
NOTICES(STORE_NO_FUA, 2)
NOTICES(STORE_NO_CHECKSUM, 9)
NOTICES(STORE_EARLY_REUSE, 22)
NOTICES(STORE_GROUP_GONE, 40)
NOTICES(STORE_EARLY_DESTAGE, 1)
NOTICES(STORE_EARLY_TAIL, 1)
NOTICES(STORE_ACK_ORDER, 2)
NOTICES(STORE_LARGE_EARLY_ACK, 3)
NOTICES(STORE_PAGE_TRUST, 95)
NOTICES(STORE_ROUND_BLIND, 1)
NOTICES(STORE_SPLIT_KEEPS, 1)
NOTICES(STORE_SPLIT_NO_RECORDS, 1)
NOTICES(STORE_SPLIT_EARLY, 3)
NOTICES(STORE_COPY_REVIVES, 8)

static int seeds(char **argv, int argc)
{
    int failed = 0;

    verbose = strcmp(argv[1], argv[2]) == 0;
    if (argc > 3)
        plants_set[(unsigned)atoi(argv[3]) % PLANT_COUNT] = true;
    for (uint64_t seed = strtoull(argv[1], NULL, 10); seed <= strtoull(argv[2], NULL, 10); seed++) {
        struct sim_result r;
        if (run_seed(seed, &r))
            continue;
        printf("seed %llu: %s\n", (unsigned long long)seed, r.failure);
        fflush(stdout);
        failed++;
    }
    printf("%d failed\n", failed);
    return failed != 0;
}

int main(int argc, char **argv)
{
    if (argc > 2)
        return seeds(argv, argc);
    TEST(seeds_pass_and_repeat);
    TEST(notices_STORE_NO_FLUSH);
    TEST(notices_STORE_NO_FUA);
    TEST(notices_STORE_NO_CHECKSUM);
    TEST(notices_STORE_EARLY_REUSE);
    TEST(notices_STORE_GROUP_GONE);
    TEST(notices_STORE_EARLY_DESTAGE);
    TEST(notices_STORE_EARLY_TAIL);
    TEST(notices_STORE_ACK_ORDER);
    TEST(notices_STORE_LARGE_EARLY_ACK);
    TEST(notices_STORE_PAGE_TRUST);
    TEST(notices_STORE_ROUND_BLIND);
    TEST(notices_STORE_SPLIT_KEEPS);
    TEST(notices_STORE_SPLIT_NO_RECORDS);
    TEST(notices_STORE_SPLIT_EARLY);
    TEST(notices_STORE_COPY_REVIVES);
    return tap_done();
}
