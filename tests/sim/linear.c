/* SPDX-License-Identifier: Apache-2.0
 *
 * The linearizability checker: histories whose answer is known, and random ones on which its two methods must
 * agree with a third, a plain search over all orders.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/check_linear.h"
#include "sim/rng.h"
#include "tests/tap.h"

#define W(v, s, e)                                                                                           \
    {                                                                                                        \
        .start = s, .end = e, .value = v, .is_write = true                                                   \
    }
#define R(v, s, e)                                                                                           \
    {                                                                                                        \
        .start = s, .end = e, .value = v                                                                     \
    }
/* May never have happened, but not after `e`. */
#define M(v, s, e)                                                                                           \
    {                                                                                                        \
        .start = s, .end = e, .value = v, .is_write = true, .maybe = true                                    \
    }
#define LOST LINEAR_NEVER

static const struct {
    const char *what;
    bool fine;
    struct linear_op ops[8];
} CASES[] = {
    {"nothing", true, {{0}}},
    {"write, read", true, {W(1, 1, 2), R(1, 3, 4)}},
    {"read of the beginning", true, {R(0, 1, 2), W(1, 3, 4), R(1, 5, 6)}},
    {"stale read", false, {W(1, 1, 2), R(0, 3, 4)}},
    {"stale read of an older write", false, {W(1, 1, 2), W(2, 3, 4), R(1, 5, 6)}},
    {"concurrent writes, either first", true, {W(1, 1, 10), W(2, 2, 9), R(1, 11, 12)}},
    {"both orders at once", false, {W(1, 1, 10), W(2, 2, 9), R(1, 11, 12), R(2, 13, 14)}},
    {"read during the write, old after new", false, {W(1, 1, 20), R(1, 2, 3), R(0, 4, 5)}},
    {"read during the write, new after old", true, {W(1, 1, 20), R(0, 2, 3), R(1, 4, 5)}},
    {"read before it was written", false, {R(1, 1, 2), W(1, 3, 4)}},
    {"never written", false, {W(1, 1, 2), R(7, 3, 4)}},
    {"lost write that came through", true, {M(1, 1, LOST), R(0, 2, 3), R(1, 4, 5)}},
    {"lost write that came through late", true, {M(1, 1, LOST), W(2, 3, 4), R(2, 5, 6), R(1, 7, 8)}},
    {"lost write that did not", true, {M(1, 1, LOST), W(2, 3, 4), R(2, 5, 6)}},
    {"lost write that came and went", false, {M(1, 1, LOST), R(1, 2, 3), R(0, 4, 5)}},
    {"delayed retry over a newer write", false, {W(1, 1, 2), W(2, 3, 4), R(2, 5, 6), R(1, 7, 8)}},
    {"zeros twice", true, {W(1, 1, 2), W(0, 3, 4), R(0, 5, 6), W(2, 7, 8), W(0, 9, 10), R(0, 11, 12)}},
    {"zeros that never came", false, {W(1, 1, 2), R(0, 3, 4), W(0, 5, 6), R(0, 7, 8)}},
    {"lost zeros", true, {W(1, 1, 2), M(0, 3, LOST), R(1, 4, 5), R(0, 6, 7)}},
    {"lost zeros that came too early", false, {W(1, 1, 2), R(0, 3, 4), M(0, 5, LOST)}},
    {"lost in time", true, {M(1, 1, 10), W(2, 3, 4), R(2, 5, 6), R(1, 7, 8)}},
    {"lost, and too late", false, {M(1, 1, 4), W(2, 5, 6), R(2, 7, 8), R(1, 9, 10)}},
    {"lost for good", true, {M(1, 1, 4), W(2, 5, 6), R(2, 7, 8)}},
    {"lost zeros, and too late", false, {M(0, 1, 4), W(2, 5, 6), R(2, 7, 8), R(0, 9, 10)}},
    {"lost zeros for good", true, {W(1, 1, 2), M(0, 3, 4), W(0, 5, 6), W(2, 7, 8), R(2, 9, 10)}},
    {"lost zeros undone", false, {W(1, 1, 2), M(0, 3, LOST), R(0, 4, 5), R(1, 6, 7)}},
};

static enum linear_verdict verdict(const struct linear_op *ops, uint32_t count)
{
    struct linear_op copy[64];
    struct linear_report report;

    memcpy(copy, ops, count * sizeof(*ops));
    linear_check(copy, count, 0, 1000000, &report);
    return report.verdict;
}

static void known_histories(void)
{
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        uint32_t count = 0;
        while (count < 8 && CASES[i].ops[count].start)
            count++;
        enum linear_verdict got = verdict(CASES[i].ops, count);
        if (got != (CASES[i].fine ? LINEAR_OK : LINEAR_VIOLATION))
            printf("# wrong about: %s\n", CASES[i].what);
        CHECK_EQ(got, CASES[i].fine ? LINEAR_OK : LINEAR_VIOLATION);
    }
}

/* All orders, and with or without what may never have happened. */
static bool brute(const struct linear_op *ops, uint32_t count, uint32_t taken, uint64_t value)
{
    uint64_t first_end = UINT64_MAX;
    bool rest = false;

    for (uint32_t i = 0; i < count; i++) {
        if ((taken >> i) & 1)
            continue;
        first_end = MIN(first_end, ops[i].end);
        rest |= !ops[i].maybe;
    }
    if (!rest)
        return true;
    for (uint32_t i = 0; i < count; i++) {
        if ((taken >> i) & 1)
            continue;
        if (ops[i].maybe && brute(ops, count, taken | 1u << i, value))
            return true;
        if (ops[i].start > first_end || (!ops[i].is_write && ops[i].value != value))
            continue;
        if (brute(ops, count, taken | 1u << i, ops[i].is_write ? ops[i].value : value))
            return true;
    }
    return false;
}

static void agrees_with_brute_force(void)
{
    struct sim_rng rng = sim_rng_make(1, "linear", 0);
    uint32_t fine = 0, bad = 0;

    for (uint32_t round = 0; round < 20000; round++) {
        struct linear_op ops[8];
        uint32_t count = (uint32_t)sim_rng_range(&rng, 2, 7), writes = 0;
        bool zeros = round % 2;
        for (uint32_t i = 0; i < count; i++) {
            /* Distinct stamps, as the recorder gives them. */
            uint64_t a = sim_rng_below(&rng, 20) * 16 + i * 2 + 2,
                     b = sim_rng_below(&rng, 20) * 16 + i * 2 + 3;
            ops[i] = (struct linear_op){
                .start = MIN(a, b), .end = MAX(a, b), .line = i, .is_write = sim_rng_below(&rng, 2)};
            if (ops[i].is_write) {
                ops[i].value = zeros && sim_rng_below(&rng, 3) == 0 ? 0 : ++writes;
                ops[i].maybe = sim_rng_below(&rng, 3) == 0;
                if (ops[i].maybe && sim_rng_below(&rng, 2))
                    ops[i].end = LINEAR_NEVER;
            }
        }
        for (uint32_t i = 0; i < count; i++)
            if (!ops[i].is_write)
                ops[i].value = sim_rng_below(&rng, writes + 1);
        bool expected = brute(ops, count, 0, 0);
        fine += expected;
        bad += !expected;
        CHECK_EQ(verdict(ops, count), expected ? LINEAR_OK : LINEAR_VIOLATION);
        if (!tap_ok)
            return;
    }
    CHECK(fine > 1000 && bad > 1000);
}

static enum linear_verdict history_verdict(struct linear_history *h, uint32_t *ret_register)
{
    struct linear_report report = {.verdict = LINEAR_OK};

    CHECK_EQ(linear_history_check(h, 0, 0, 1000, ret_register, &report), 0);
    return report.verdict;
}

static void recorder(void)
{
    struct linear_history *h = linear_history_new(4);
    uint32_t reg;

    uint32_t a = linear_write_begin(h, 2, linear_stamp(h), 11, 1, 1);
    linear_write_done(h, 2, a);
    uint32_t b = linear_write_begin(h, 2, linear_stamp(h), 12, 1, 1);
    linear_write_refused(h, 2, b);
    linear_read(h, 2, linear_stamp(h), 11, 2);
    CHECK_EQ(history_verdict(h, &reg), LINEAR_OK);
    CHECK_EQ(reg, UINT32_MAX);
    linear_read(h, 2, linear_stamp(h), 12, 2);
    CHECK_EQ(history_verdict(h, &reg), LINEAR_VIOLATION);
    CHECK_EQ(reg, 2);
    linear_history_free(h);
}

/* The first write times out; a newer one is acknowledged; later the first one shows. */
static enum linear_verdict delayed(uint32_t line, uint32_t incarnation, bool given_up)
{
    struct linear_history *h = linear_history_new(1);
    uint32_t reg;

    uint32_t a = linear_write_begin(h, 0, linear_stamp(h), 1, 1, 1);
    if (given_up)
        linear_write_unknown(h, 0, a);
    uint32_t b = linear_write_begin(h, 0, linear_stamp(h), 2, line, incarnation);
    linear_write_done(h, 0, b);
    linear_read(h, 0, linear_stamp(h), 2, 3);
    linear_read(h, 0, linear_stamp(h), 1, 3);
    enum linear_verdict result = history_verdict(h, &reg);
    linear_history_free(h);
    return result;
}

static void delayed_writes(void)
{
    CHECK_EQ(delayed(1, 1, true), LINEAR_VIOLATION);  /* its own newer write */
    CHECK_EQ(delayed(1, 1, false), LINEAR_OK);        /* both were under way */
    CHECK_EQ(delayed(1, 2, false), LINEAR_VIOLATION); /* fenced */
    CHECK_EQ(delayed(2, 1, true), LINEAR_OK);         /* nothing to do with each other */
}

/* Random histories of one register with every read kept, and with reads folded: the verdicts agree. */
static void folded_reads(void)
{
    uint64_t violations = 0, random = 1;

    for (uint32_t round = 0; round < 3000; round++) {
        struct linear_history *all = linear_history_new(1), *few = linear_history_new(1);
        struct linear_history *both[] = {all, few};
        uint64_t value = 0, before = 0, starts[3] = {0};
        uint32_t reg, verdicts[2];
        linear_history_distinct(few, 0);
        for (uint32_t i = 0; i < 24; i++) {
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            uint32_t roll = (uint32_t)(random >> 33) % 8, slot = (uint32_t)(random >> 40) % 3;
            uint64_t seen = (random >> 45) % 40 == 0 ? before : value;
            for (uint32_t h = 0; h < 2; h++) {
                if (roll == 0) {
                    uint32_t number = linear_write_begin(both[h], 0, linear_stamp(both[h]), 100 + i, 1, 1);
                    linear_write_done(both[h], 0, number);
                } else if (roll < 4) {
                    uint64_t stamp = linear_stamp(both[h]);
                    starts[slot] = h ? starts[slot] : stamp;
                } else if (starts[slot]) {
                    linear_read(both[h], 0, starts[slot], seen, 2 + slot);
                }
            }
            before = roll == 0 ? value : before;
            value = roll == 0 ? 100 + i : value;
        }
        for (uint32_t h = 0; h < 2; h++)
            verdicts[h] = history_verdict(both[h], &reg);
        CHECK_EQ(verdicts[0], verdicts[1]);
        violations += verdicts[0] == LINEAR_VIOLATION;
        linear_history_free(all);
        linear_history_free(few);
    }
    CHECK(violations > 100 && violations < 2900);
}

/* A writer that others have fenced everywhere: what it begins after that does not happen. */
static void fenced_begins(void)
{
    for (uint64_t seen = 1; seen <= 2; seen++) {
        struct linear_history *h = linear_history_new(1);
        uint32_t reg;

        linear_write_done(h, 0, linear_write_begin(h, 0, linear_stamp(h), 1, 1, 1));
        CHECK(!linear_is_fenced(h, 1));
        linear_fence(h, 1, 2);
        CHECK(linear_is_fenced(h, 1) && !linear_is_fenced(h, 2));
        linear_write_refused(h, 0, linear_write_begin(h, 0, linear_stamp(h), 2, 1, 1));
        linear_read(h, 0, linear_stamp(h), seen, 2);
        CHECK_EQ(history_verdict(h, &reg), seen == 1 ? LINEAR_OK : LINEAR_VIOLATION);
        linear_forget(h, 0);
        CHECK(!linear_is_fenced(h, 1));
        linear_history_free(h);
    }
}

static void write_one(struct linear_history *h, uint64_t value)
{
    linear_write_done(h, 0, linear_write_begin(h, 0, linear_stamp(h), value, 1, 1));
}

/* 1 was acknowledged before the survivor fell behind, 2 and 3 after that; then two reads, and a third one
 * when 4, which was open all the time, is acknowledged. */
static int after_loss(uint64_t first, uint64_t second, uint64_t third)
{
    struct linear_history *h = linear_history_new(1);
    struct linear_report report;
    uint32_t reg, lost;

    linear_history_distinct(h, 0);
    write_one(h, 1);
    uint64_t since = linear_stamp(h);
    write_one(h, 2);
    linear_read(h, 0, linear_stamp(h), 2, 2);
    write_one(h, 3);
    linear_read(h, 0, linear_stamp(h), 3, 2);
    uint32_t open = linear_write_begin(h, 0, linear_stamp(h), 4, 1, 1);
    uint64_t reading = linear_stamp(h); /* of 3, and its answer comes late */
    linear_register_check(h, 0, 0, 1000, &report);
    CHECK_EQ(report.verdict, LINEAR_OK);
    lost = linear_rollback(h, 0, since);
    CHECK_EQ(lost, 2);
    linear_read(h, 0, linear_stamp(h), first, 2);
    linear_read(h, 0, linear_stamp(h), second, 2);
    linear_read(h, 0, reading, 3, 3);
    linear_write_done(h, 0, open);
    linear_read(h, 0, linear_stamp(h), third, 2);
    int verdict = (int)history_verdict(h, &reg);
    linear_history_free(h);
    return verdict;
}

static void rolled_back(void)
{
    CHECK_EQ(after_loss(1, 1, 4), LINEAR_OK);
    CHECK_EQ(after_loss(2, 2, 4), LINEAR_OK);
    CHECK_EQ(after_loss(3, 3, 4), LINEAR_OK);
    CHECK_EQ(after_loss(2, 4, 4), LINEAR_OK);        /* what was open goes on, */
    CHECK_EQ(after_loss(2, 2, 2), LINEAR_OK);        /* or was done here, and lost, before the rest of it */
    CHECK_EQ(after_loss(2, 4, 2), LINEAR_VIOLATION); /* not both */
    CHECK_EQ(after_loss(0, 0, 4), LINEAR_VIOLATION); /* more is lost than may be */
    CHECK_EQ(after_loss(1, 3, 4), LINEAR_VIOLATION); /* what was lost comes back */
    CHECK_EQ(after_loss(3, 2, 4), LINEAR_VIOLATION);
}

int main(void)
{
    TEST(known_histories);
    TEST(agrees_with_brute_force);
    TEST(recorder);
    TEST(folded_reads);
    TEST(delayed_writes);
    TEST(fenced_begins);
    TEST(rolled_back);
    return tap_done();
}
