/* SPDX-License-Identifier: Apache-2.0
 *
 * Which term each index of the log has.
 *
 * Raft asks for the term of an index at every step, and the entries themselves may be on the disk only. But
 * terms change rarely: the log is a short list of runs of equal terms, ascending, so a few of them describe
 * millions of entries. Nearly every question is about the newest run; searches start there. The index before
 * the log, first_index - 1, is the base: its term is kept apart (base_term), for the check of the first entry
 * behind it. Of terms further back the last few are remembered, by the index at which each ended.
 *
 * This is the one place of raft that allocates: room for a run is made before a term can begin, so that
 * running out of memory drops a message or puts off a campaign and never hits in the middle of a change.
 */
#include "raft/internal.h"

#include <stdlib.h>
#include <string.h>

bool raft_terms_reserve(struct raft *r, uint32_t more)
{
    struct raft_run *runs;
    uint32_t cap = MAX(r->run_cap, 8u);

    if (r->run_count + more <= r->run_cap)
        return true;
    while (cap < r->run_count + more)
        cap *= 2;
    runs = realloc(r->runs, cap * sizeof *runs);
    if (!runs)
        return false;
    r->runs = runs;
    r->run_cap = cap;
    return true;
}

uint64_t raft_term_at(const struct raft *r, uint64_t index)
{
    if (index > r->last_index || index + 1 < r->first_index)
        return 0;
    for (uint32_t i = r->run_count; i-- > 0;) {
        if (index >= r->runs[i].first_index)
            return r->runs[i].term;
    }
    return r->base_term;
}

void raft_terms_append(struct raft *r, uint64_t last, uint64_t term)
{
    ASSERT(last > r->last_index);
    if (!r->run_count || r->runs[r->run_count - 1].term != term) {
        ASSERT(r->run_count < r->run_cap);
        ASSERT(term >= raft_term_at(r, r->last_index));
        r->runs[r->run_count++] = (struct raft_run){.first_index = r->last_index + 1, .term = term};
    }
    r->last_index = last;
}

void raft_terms_truncate(struct raft *r, uint64_t last)
{
    ASSERT(last + 1 >= r->first_index && last <= r->last_index);
    while (r->run_count && r->runs[r->run_count - 1].first_index > last)
        r->run_count--;
    r->last_index = last;
}

static void past_note(struct raft *r, uint64_t last_index, uint64_t term)
{
    if (!term || term == r->base_term)
        return;
    memmove(&r->past[1], &r->past[0], (RAFT_PAST_MAX - 1) * sizeof r->past[0]);
    r->past[0] = (struct raft_past){.last_index = last_index, .term = term};
}

void raft_terms_compact(struct raft *r, uint64_t first_index)
{
    uint32_t gone = 0;
    uint64_t left_term = r->base_term;

    ASSERT(first_index >= r->first_index && first_index <= r->last_index + 1);
    r->base_term = raft_term_at(r, first_index - 1);
    r->first_index = first_index;
    while (gone < r->run_count && (gone + 1 < r->run_count ? r->runs[gone + 1].first_index <= first_index
                                                           : first_index > r->last_index)) {
        if (r->runs[gone].term != left_term)
            past_note(r, r->runs[gone].first_index - 1, left_term);
        left_term = r->runs[gone++].term;
    }
    if (gone < r->run_count && r->runs[gone].first_index < first_index && r->runs[gone].term != left_term)
        past_note(r, r->runs[gone].first_index - 1, left_term);
    r->run_count -= gone;
    memmove(r->runs, r->runs + gone, r->run_count * sizeof *r->runs);
    if (r->run_count)
        r->runs[0].first_index = first_index;
}

/* One leader made all entries of a term, in one log. So a log that ends with an entry of a term in which some
 * entry, at that index or above, is committed here, is what that leader's was, and so is ours. */
bool raft_is_committed(const struct raft *r, uint64_t index, uint64_t term)
{
    if (index > r->commit_index || !term)
        return false;
    if (index + 1 >= r->first_index)
        return raft_term_at(r, index) == term;
    for (uint32_t i = 0; i < RAFT_PAST_MAX; i++)
        if (r->past[i].term == term)
            return index <= r->past[i].last_index;
    return term == r->base_term;
}

bool raft_terms_floor(const struct raft *r, uint64_t index, uint64_t term, uint64_t *ret_index)
{
    index = MIN(index, r->last_index);
    if (index + 1 < r->first_index)
        return false;
    for (uint32_t i = r->run_count; i-- > 0;) {
        if (r->runs[i].first_index > index)
            continue;
        if (r->runs[i].term <= term) {
            *ret_index = index;
            return true;
        }
        index = r->runs[i].first_index - 1;
    }
    if (r->base_term > term)
        return false;
    *ret_index = index;
    return true;
}
