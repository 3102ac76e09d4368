/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold for one replica at any time, between any two calls. What must hold between replicas is for
 * the simulation to check (sim/scenario_raft.c).
 */
#include "raft/internal.h"

static void check_log(const struct raft *r)
{
    uint64_t term = r->base_term, next = r->first_index;

    ASSERT(r->first_index >= 1 && r->last_index + 1 >= r->first_index);
    ASSERT((r->run_count == 0) == (r->last_index < r->first_index));
    ASSERT(r->run_count <= r->run_cap);
    for (uint32_t i = 0; i < r->run_count; i++) {
        ASSERT(i == 0 ? r->runs[0].first_index == next && r->runs[0].term >= term
                      : r->runs[i].first_index > next && r->runs[i].term > term);
        term = r->runs[i].term;
        next = r->runs[i].first_index;
    }
    ASSERT(next <= r->last_index || !r->run_count);
    ASSERT(term <= r->term);

    ASSERT(r->commit_index + 1 >= r->first_index && r->commit_index <= r->last_index);
    ASSERT(r->durable_index + 1 >= r->first_index && r->durable_index <= r->last_index);
    ASSERT(r->matched_index <= r->last_index);
}

static void check_hard_state(const struct raft *r)
{
    ASSERT(r->durable_hs.term <= r->taken_hs.term && r->taken_hs.term <= r->term);
    ASSERT(r->durable_hs.term < r->term || !r->durable_hs.vote || r->durable_hs.vote == r->vote);
}

static void check_group(const struct raft *r)
{
    uint32_t others = 0;

    ASSERT(group_validate(&r->group) && group_validate(&r->group_before));
    ASSERT(r->group.index <= r->last_index && r->group_before.index <= r->group.index);
    ASSERT(r->joint == group_joint(&r->group));
    for (uint32_t i = 0; i < r->group.count; i++) {
        const struct raft_member *m = raft_member(r, r->group.members[i].replica);

        ASSERT(m && m->flags == r->group.members[i].flags);
        others += m->replica != r->self;
    }
    ASSERT(raft_member(r, r->self) && r->member_count == others + 1);
}

static void check_member(const struct raft *r, const struct raft_member *m)
{
    uint64_t bytes = 0, last = m->inflight_base;

    ASSERT(m->match <= r->last_index);
    if (m->replica == r->self) {
        ASSERT(m->match == r->durable_index);
        return;
    }
    ASSERT(m->next > m->match && m->next <= r->last_index + 1);
    ASSERT(m->progress == RAFT_BEHIND || m->next >= r->first_index);
    ASSERT(m->progress == RAFT_PROBE || !m->probe_due);
    ASSERT(m->progress == RAFT_BEHIND ? !m->contact_due : !m->install_due);
    ASSERT(m->inflight_count <= RAFT_INFLIGHT_MAX);
    for (uint32_t i = 0; i < m->inflight_count; i++) {
        uint32_t slot = (m->inflight_head + i) % RAFT_INFLIGHT_MAX;

        ASSERT(m->inflight[slot].last > last && m->inflight[slot].last > m->match);
        last = m->inflight[slot].last;
        bytes += m->inflight[slot].bytes;
    }
    ASSERT(m->inflight_bytes == bytes);
    ASSERT(m->inflight_base < m->next && last < m->next);
    ASSERT(m->inflight_count || m->inflight_base == m->next - 1);
}

static void check_answers(const struct raft *r)
{
    uint32_t due = 0;

    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++)
        due += r->answers[i].to != 0;
    ASSERT(r->answers_due == due);
}

void raft_check(const struct raft *r)
{
    check_log(r);
    check_answers(r);
    check_hard_state(r);
    check_group(r);
    ASSERT((r->role == RAFT_LEADER) == (r->leader == r->self));
    ASSERT(r->role == RAFT_FOLLOWER || r->role == RAFT_LEADER || raft_may_lead(r));
    ASSERT(r->role == RAFT_FOLLOWER || !r->reply_due);
    ASSERT(!r->reply_due || r->leader);
    ASSERT(!r->standing ||
           ((r->role == RAFT_PRE_CANDIDATE || r->role == RAFT_CANDIDATE) && r->vote == r->self));
    switch (r->role) {
    case RAFT_FOLLOWER:
        ASSERT(!r->transfer_to && !r->transfer_sent);
        break;
    case RAFT_PRE_CANDIDATE:
        ASSERT(!r->leader && !r->transfer_to && !r->transfer_sent);
        break;
    case RAFT_CANDIDATE:
        ASSERT(!r->leader && r->vote == r->self && !r->transfer_to && !r->transfer_sent);
        break;
    case RAFT_LEADER:
        ASSERT(r->vote == r->self && raft_vote_durable(r));
        ASSERT(r->term_start_index <= r->last_index + 1);
        ASSERT(!r->transfer_sent || r->transfer_to);
        for (uint32_t i = 0; i < r->member_count; i++)
            check_member(r, &r->members[i]);
        break;
    }
}
