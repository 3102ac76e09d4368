/* SPDX-License-Identifier: Apache-2.0
 *
 * The safety properties of Raft (Figure 3 of the paper), checked from outside while a group runs: what has
 * been seen anywhere is kept, and every new fact is held against it.
 */
#include "sim/raft_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static struct raft_seen *seen_find(struct raft_checker *c, uint64_t index, uint64_t term)
{
    uint64_t slot = hash_pair(index, term) & (c->seen_cap - 1);

    while (c->seen[slot].index && (c->seen[slot].index != index || c->seen[slot].term != term))
        slot = (slot + 1) & (c->seen_cap - 1);
    return &c->seen[slot];
}

static void seen_grow(struct raft_checker *c)
{
    struct raft_seen *old = c->seen;
    uint64_t old_cap = c->seen_cap;

    if (c->seen_count * 2 < old_cap)
        return;
    c->seen_cap = MAX(old_cap * 2, 1024u);
    c->seen = calloc(c->seen_cap, sizeof *c->seen);
    ASSERT(c->seen);
    for (uint64_t i = 0; i < old_cap; i++) {
        if (old[i].index)
            *seen_find(c, old[i].index, old[i].term) = old[i];
    }
    free(old);
}

/* Log matching. */
void raft_checker_appended(struct raft_checker *c, const struct raft_host *h, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++) {
        const struct raft_item *item = &h->log[i];
        struct raft_seen *seen;

        seen_grow(c);
        seen = seen_find(c, i, item->term);
        if (!seen->index) {
            *seen = (struct raft_seen){.index = i, .term = item->term, .hash = item->hash};
            c->seen_count++;
        } else if (seen->hash != item->hash) {
            sim_fail(c->sim, "log matching: the logs up to entry %lu of term %lu differ, at %u", i,
                     item->term, h->replica);
        }
    }
}

/* Election safety and leader completeness. */
void raft_checker_led(struct raft_checker *c, const struct raft_host *h)
{
    const struct raft *r = &h->raft;

    if (r->term >= c->leaders_cap) {
        uint64_t cap = r->term * 2 + 64;

        c->leaders = realloc(c->leaders, cap * sizeof *c->leaders);
        ASSERT(c->leaders);
        memset(c->leaders + c->leaders_cap, 0, (cap - c->leaders_cap) * sizeof *c->leaders);
        c->leaders_cap = cap;
    }
    if (c->leaders[r->term])
        sim_fail(c->sim, "election safety: %u and %u lead in term %lu", c->leaders[r->term], h->replica,
                 r->term);
    c->leaders[r->term] = h->replica;
    for (uint64_t i = r->first_index; i <= c->commit_max; i++) {
        const struct raft_commit *entry = &c->commits[i];

        if (entry->leader_term < r->term && (i > r->last_index || h->log[i].hash != entry->item.hash)) {
            sim_fail(c->sim,
                     "leader completeness: %u leads in term %lu without entry %lu, committed in term %lu",
                     h->replica, r->term, i, entry->leader_term);
            return;
        }
    }
}

bool raft_checker_has(const struct raft_host *h, uint64_t index, uint64_t hash)
{
    return index < h->disk_base || (index <= h->disk_last && h->disk_log[index].hash == hash);
}

static bool disk_up_to_date(const struct raft_host *candidate, const struct raft_host *voter)
{
    uint64_t term = candidate->disk_log[candidate->disk_last].term,
             voter_term = voter->disk_log[voter->disk_last].term;

    return term > voter_term || (term == voter_term && candidate->disk_last >= voter->disk_last);
}

static const struct raft_host *host_of(const struct raft_checker *c, uint32_t replica)
{
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->hosts[i]->replica == replica)
            return c->hosts[i];
    }
    return NULL;
}

/* Would those with this flag elect it, by what is on the disks? */
static bool elected_by(const struct raft_checker *c, const struct raft_host *candidate,
                       const struct group *group, uint32_t flag)
{
    uint32_t voters = 0, votes = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        const struct raft_host *voter = host_of(c, group->members[i].replica);

        if (!(group->members[i].flags & flag))
            continue;
        voters++;
        votes += voter && !voter->disk_damaged && disk_up_to_date(candidate, voter);
    }
    return votes >= voters / 2 + 1;
}

static bool electable(const struct raft_checker *c, const struct raft_host *candidate)
{
    const struct group *group = raft_host_disk_group(candidate);
    bool votes = false;

    for (uint32_t i = 0; i < group->count; i++)
        votes |= group->members[i].replica == candidate->replica && group->members[i].flags;
    return votes && elected_by(c, candidate, group, GROUP_VOTER) &&
           (!group_joint(group) || elected_by(c, candidate, group, GROUP_VOTER_OLD));
}

/* An entry is committed: if all lost power now, could one be elected that does not have it? Figure 8 of the
 * paper is a yes. */
static void check_kept(struct raft_checker *c, uint64_t index, uint64_t hash)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const struct raft_host *candidate = c->hosts[i];

        if (candidate->replica && !candidate->disk_damaged && !raft_checker_has(candidate, index, hash) &&
            electable(c, candidate))
            sim_fail(c->sim, "durability: entry %lu is committed, but %u could be elected without it", index,
                     candidate->replica);
    }
}

/* What it says of the logs on the disks is so. */
static void check_past(struct raft_checker *c, const struct raft_host *h)
{
    for (uint32_t i = 0; i < c->count; i++) {
        const struct raft_host *o = c->hosts[i];
        uint64_t last = o->disk_last;

        if (o->replica && last && raft_is_committed(&h->raft, last, o->disk_log[last].term) &&
            (last > c->commit_max || c->commits[last].item.hash != o->disk_log[last].hash))
            sim_fail(c->sim, "past: %u takes the log of %u, up to entry %lu of term %lu, for committed",
                     h->replica, o->replica, last, o->disk_log[last].term);
    }
}

/* State machine safety and durability. */
void raft_checker_committed(struct raft_checker *c, const struct raft_host *h, uint64_t before)
{
    const struct raft *r = &h->raft;

    for (uint64_t i = MAX(before + 1, r->first_index - (r->first_index > 1)); i <= r->commit_index; i++) {
        const struct raft_item *item = &h->log[i];

        if (i <= c->commit_max) {
            if (c->commits[i].item.hash != item->hash)
                sim_fail(c->sim, "state machine safety: %u commits entry %lu of term %lu, others of term %lu",
                         h->replica, i, item->term, c->commits[i].item.term);
            continue;
        }
        if (c->commits_cap <= i) {
            c->commits_cap = i * 2 + 64;
            c->commits = realloc(c->commits, c->commits_cap * sizeof *c->commits);
            ASSERT(c->commits);
        }
        c->commits[i] = (struct raft_commit){.item = *item, .leader_term = r->term};
        c->commit_max = i;
        check_kept(c, i, item->hash);
    }
    check_past(c, h);
}

void raft_checker_healed(struct raft_checker *c)
{
    if (c->commit_max)
        check_kept(c, c->commit_max, c->commits[c->commit_max].item.hash);
}

void raft_checker_fini(struct raft_checker *c)
{
    free(c->commits);
    free(c->leaders);
    free(c->seen);
}
