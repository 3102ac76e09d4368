/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is in the group, and how that changes while it works: joint consensus (section 6 of the paper; Ongaro's
 * thesis, 4.3).
 *
 *     simple --- learners come and go -------------------------------> simple
 *     simple --- raft_propose_group(): other voters -----------------> joint
 *     joint  --- the joint group is committed: raft_group_left() ----> simple
 *
 * A group is an entry of the log, and in force from the moment that it is in the log, committed or not: the
 * newest one counts. While it is joint, every decision (a vote, a commit, contact for lease and check-quorum)
 * needs a majority of the voters that were and a majority of the voters that will be, so at no moment can two
 * majorities decide that do not share a voter. Each step waits until the one before it is committed, and the
 * leader has committed an entry of its own term. So only the newest group of a log can ever be taken back,
 * when an entry that was never committed is replaced: to keep one group before it is enough.
 *
 * A new voter is a learner first, and no voter before it has nearly all of the log: a majority that had to
 * wait for it would be none. A leader that is no voter any more leads until that is committed, not counting
 * itself, and then hands over; and such a replica may also be elected for that long (thesis, 4.2.2), for
 * nobody else may have a log that its voters can follow.
 *
 * Messages of replicas that are not in our group are looked at all the same: theirs may be newer than ours. A
 * vote is given to whoever has the newer log, and by whoever is asked, a learner by its own knowledge
 * included: the candidate counts those who are voters by its log, and that is the one that matters.
 */
#include "base/error.h"
#include "base/plant.h"
#include "raft/internal.h"

#include <string.h>

static uint32_t flags_in(const struct group *g, uint32_t replica)
{
    const struct group_member *m = group_find(g, replica);

    return m ? m->flags : 0;
}

bool raft_group_needs(const struct raft *r, uint32_t replica)
{
    return flags_in(&r->group, replica) ||
           (r->group.index > r->commit_index && flags_in(&r->group_before, replica));
}

/* ---- majorities ---- */

static uint64_t majority_of(const struct raft *r, const uint64_t *values, uint32_t flag)
{
    uint64_t of[RAFT_MEMBERS_MAX + 1];
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->member_count; i++) {
        if (r->members[i].flags & flag)
            of[n++] = values[i];
    }
    return raft_kth_largest(of, n, n / 2 + 1);
}

uint64_t raft_majority(const struct raft *r, const uint64_t *values)
{
    uint64_t value = majority_of(r, values, GROUP_VOTER);

    if (r->joint && !PLANT(RAFT_ONE_MAJORITY))
        value = MIN(value, majority_of(r, values, GROUP_VOTER_OLD));
    return value;
}

/* ---- the newest group of the log ---- */

/* Brings the members to what r->group says, keeping what is known of those that stay. */
static void members_set(struct raft *r)
{
    const struct group *g = &r->group;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < r->member_count; i++) {
        struct raft_member *m = &r->members[i];
        bool stays = m->replica == r->self;

        for (uint32_t j = 0; j < g->count && !stays; j++)
            stays = g->members[j].replica == m->replica;
        if (!stays)
            continue;
        if (kept != i)
            r->members[kept] = *m;
        r->members[kept++].flags = flags_in(g, m->replica);
    }
    r->member_count = kept;
    for (uint32_t i = 0; i < g->count; i++) {
        if (raft_member(r, g->members[i].replica))
            continue;
        struct raft_member *m = &r->members[r->member_count++];
        *m = (struct raft_member){.replica = g->members[i].replica, .flags = g->members[i].flags};
        if (r->role == RAFT_LEADER)
            raft_replicate_member(r, m);
    }
    r->joint = group_joint(g);
}

void raft_group_init(struct raft *r, const struct group *g)
{
    r->group = r->group_before = *g;
    r->members[0] = (struct raft_member){.replica = r->self};
    r->member_count = 1;
    members_set(r);
}

void raft_group_take(struct raft *r, const struct group *g)
{
    if (g->index > r->group.index)
        r->group_before = r->group;
    r->group = *g;
    members_set(r);
}

bool raft_group_may_truncate(const struct raft *r, uint64_t last)
{
    return r->group.index <= last || r->group_before.index <= last;
}

void raft_group_truncate(struct raft *r, uint64_t last)
{
    if (r->group.index <= last || PLANT(RAFT_KEEP_GROUP))
        return;
    ASSERT(r->group_before.index <= last);
    r->group = r->group_before;
    members_set(r);
}

/* ---- changes ---- */

/* A learner that can be counted on. */
static bool caught_up(const struct raft *r, const struct raft_member *m)
{
    return m->replica == r->self ||
           (m->progress == RAFT_REPLICATE && !m->recovering && raft_in_contact(r, m, r->now_ns) &&
            m->match + r->config.window_entries >= r->last_index);
}

/* May `g` follow the group in force? */
static int check_change(struct raft *r, const struct group *g)
{
    bool joint = group_joint(g);

    if (!group_validate(g) || (r->joint && joint))
        return -ERR_INVALID;
    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];
        uint32_t is = m->flags, becomes = flags_in(g, m->replica);

        /* Leaving: who was to vote votes. Otherwise, a joint group says who votes now; without it no voter
         * changes. */
        if (r->joint ? (is & GROUP_VOTER) != becomes
                     : (is & GROUP_VOTER) != (joint ? (becomes & GROUP_VOTER_OLD) != 0 : becomes))
            return -ERR_INVALID;
    }
    for (uint32_t i = 0; i < g->count; i++) {
        const struct raft_member *m = raft_member(r, g->members[i].replica);
        uint32_t is = m ? m->flags : 0, becomes = g->members[i].flags;

        if (!m && becomes)
            return -ERR_INVALID;
        if (becomes & ~is & GROUP_VOTER && !caught_up(r, m))
            return -ERR_RETRY;
    }
    return 0;
}

int raft_may_propose_group(struct raft *r, const struct group *g)
{
    if (r->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (r->transfer_to || r->transfer_sent)
        return -ERR_RETRY;
    if ((r->group.index > r->commit_index || !raft_can_read(r)) && !PLANT(RAFT_GROUP_OVER_GROUP))
        return -ERR_RETRY;
    return check_change(r, g);
}

int raft_propose_group(struct raft *r, const struct group *g, uint64_t *ret_index)
{
    struct group taken = *g;
    int error = raft_may_propose_group(r, g);

    if (!error)
        error = raft_propose(r, &taken.index);
    if (error)
        return error;
    raft_group_take(r, &taken);
    *ret_index = taken.index;
    return 0;
}

bool raft_group_leave_due(const struct raft *r)
{
    return r->joint && r->group.index <= r->commit_index && raft_can_read(r) && !r->transfer_to &&
           !r->transfer_sent;
}

void raft_group_left(const struct raft *r, struct group *ret)
{
    *ret = (struct group){.epoch = r->group.epoch};
    for (uint32_t i = 0; i < r->group.count; i++) {
        if (r->group.members[i].flags == GROUP_VOTER_OLD)
            continue;
        ret->members[ret->count] = r->group.members[i];
        ret->members[ret->count++].flags &= GROUP_VOTER;
    }
}

bool raft_leader_is_out(const struct raft *r)
{
    return r->role == RAFT_LEADER && !raft_member(r, r->self)->flags && r->group.index <= r->commit_index;
}
