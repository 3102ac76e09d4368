/* SPDX-License-Identifier: Apache-2.0
 *
 * What a log still knows of the terms that it has left behind: whether a log that ends with an entry of some
 * index and term is all committed. It is if the term goes at least that far; where it does not know it says
 * no.
 */
#include "tests/tap.h"

#include "raft/raft.h"
#include "sim/rng.h"

#define LAST 60u

static uint64_t terms[LAST + 1]; /* of each index */

/* A log of runs of random terms, from 1 on, none of it compacted. */
static void log_make(struct raft *r, struct sim_rng *rng)
{
    const struct group group = {.count = 1, .members = {{.replica = 1, .flags = GROUP_VOTER}}};
    uint64_t term = 1;

    raft_init(r, &RAFT_CONFIG_DEFAULT, 1, &group, (struct raft_hard_state){0}, 0, 0, false, 1, 0);
    for (uint64_t i = 1; i <= LAST; i++) {
        term += sim_rng_below(rng, 6) == 0 ? 1 + sim_rng_below(rng, 3) : 0;
        terms[i] = term;
        raft_restore(r, i, term, NULL);
    }
    raft_log_durable(r, LAST);
    r->commit_index = LAST - sim_rng_below(rng, 5);
}

/* Up to where the term is committed; 0: nowhere. */
static uint64_t term_end(const struct raft *r, uint64_t term)
{
    uint64_t end = 0;

    for (uint64_t i = 1; i <= r->commit_index; i++)
        if (terms[i] == term)
            end = i;
    return end;
}

/* Of how many terms below the log, newest first, it is. */
static uint32_t term_age(const struct raft *r, uint64_t term)
{
    uint32_t age = 0;

    for (uint64_t i = r->first_index - 1; i > 1 && terms[i] > term; i--)
        age += terms[i - 1] != terms[i];
    return age;
}

static void check(const struct raft *r)
{
    for (uint64_t index = 1; index <= LAST; index++)
        for (uint64_t term = 0; term <= terms[LAST] + 1; term++) {
            bool says = raft_is_committed(r, index, term), known = index + 1 >= r->first_index;
            if (known)
                CHECK_EQ(says, index <= r->commit_index && terms[index] == term);
            else if (term <= r->base_term && term_age(r, term) <= RAFT_PAST_MAX)
                CHECK_EQ(says, index <= term_end(r, term));
            else
                CHECK(!says);
        }
}

static void what_was_compacted(void)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct sim_rng rng = sim_rng_make(seed, "raft.past", 0);
        struct raft r;
        log_make(&r, &rng);
        check(&r);
        while (r.first_index <= r.commit_index) {
            uint64_t first = r.first_index + 1 + sim_rng_below(&rng, 20);
            raft_compacted(&r, MIN(first, r.commit_index + 1));
            check(&r);
        }
        raft_fini(&r);
    }
}

int main(void)
{
    TEST(what_was_compacted);
    return tap_done();
}
