/* SPDX-License-Identifier: Apache-2.0
 *
 * The inputs and outputs of a replica, tied together: start, messages in, messages out, what is durable,
 * time.
 *
 * Two rules apply to every message and are kept here. In: a higher term is adopted, except from a question
 * that changes nothing (a pre-vote and its grant) and from a VOTE, which must get past promises first
 * (election.c); a lower one is only answered with ours. Out: nothing is said in a term that is not on disk
 * yet, and no vote that is not.
 */
#include "raft/internal.h"
#include "base/hash.h"
#include "base/plant.h"

#include <stdlib.h>

const struct raft_config RAFT_CONFIG_DEFAULT = {
    .promise_ns = 150 * NS_PER_MS,
    .heartbeat_ns = 30 * NS_PER_MS,
    .election_min_ns = 200 * NS_PER_MS,
    .election_max_ns = 350 * NS_PER_MS,
    .clock_drift_ppm = 2000,
    .window_bytes = 8u << 20,
    .window_entries = 1024,
};

/* ---- helpers ---- */

struct raft_member *raft_member_find(struct raft *r, uint32_t replica)
{
    for (uint32_t i = 0; i < r->member_count; i++) {
        if (r->members[i].replica == replica)
            return &r->members[i];
    }
    return NULL;
}

const struct raft_member *raft_member(const struct raft *r, uint32_t replica)
{
    return raft_member_find((struct raft *)r, replica);
}

struct raft_member *raft_member_self(struct raft *r)
{
    return raft_member_find(r, r->self);
}

bool raft_is_voter(const struct raft *r, uint32_t replica)
{
    const struct raft_member *m = raft_member(r, replica);

    return m && m->flags;
}

uint64_t raft_random_below(struct raft *r, uint64_t n)
{
    r->random_state += 0x9e3779b97f4a7c15ull;
    return n ? hash_u64(r->random_state) % n : 0;
}

uint64_t raft_kth_largest(uint64_t *values, uint32_t n, uint32_t k)
{
    for (uint32_t i = 1; i < n; i++) {
        uint64_t v = values[i];
        uint32_t j = i;

        for (; j > 0 && values[j - 1] < v; j--)
            values[j] = values[j - 1];
        values[j] = v;
    }
    return k <= n ? values[k - 1] : 0;
}

bool raft_term_durable(const struct raft *r)
{
    return r->durable_hs.term == r->term || PLANT(RAFT_UNDURABLE_VOTE);
}

bool raft_vote_durable(const struct raft *r)
{
    return (r->durable_hs.term == r->term && r->durable_hs.vote == r->vote) || PLANT(RAFT_UNDURABLE_VOTE);
}

void raft_answer(struct raft *r, const struct raft_msg *msg, enum raft_msg_type type, uint64_t term,
                 bool reject)
{
    struct raft_answer *free = NULL;

    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        struct raft_answer *a = &r->answers[i];

        /* A vote that is being written is not to be forgotten for the next question. */
        bool keeps = a->type == RAFT_VOTE_REPLY && !a->reject && type == RAFT_PRE_VOTE_REPLY;
        if (a->to == msg->from && (!keeps || PLANT(RAFT_LATE_VOTES))) {
            free = a;
            break;
        }
        if (!a->to && !free)
            free = a;
    }
    if (!free)
        return;
    r->answers_due += !free->to;
    *free = (struct raft_answer){
        .to = msg->from,
        .type = type,
        .term = term,
        .reject = reject,
        .sent_ns = type == RAFT_PRE_VOTE_REPLY ? msg->sent_ns : 0,
    };
}

/* ---- start and end ---- */

static bool lowest_voter(const struct raft *r)
{
    for (uint32_t i = 0; i < r->member_count; i++) {
        if (r->members[i].flags && r->members[i].replica < r->self)
            return false;
    }
    return raft_is_voter(r, r->self);
}

static bool only_voter(const struct raft *r)
{
    for (uint32_t i = 0; i < r->member_count; i++) {
        if (r->members[i].flags && r->members[i].replica != r->self)
            return false;
    }
    return raft_is_voter(r, r->self);
}

void raft_init(struct raft *r, const struct raft_config *config, uint32_t self, const struct group *group,
               struct raft_hard_state hs, uint64_t base_index, uint64_t base_term, bool born_now,
               uint64_t seed, uint64_t now_ns)
{
    ASSERT(self && group_validate(group) && group->index <= base_index);
    ASSERT(config->election_min_ns >= config->promise_ns &&
           config->election_max_ns > config->election_min_ns);
    ASSERT(base_index || !base_term);
    *r = (struct raft){
        .config = *config,
        .self = self,
        .role = RAFT_FOLLOWER,
        .term = hs.term,
        .vote = hs.vote,
        .taken_hs = hs,
        .durable_hs = hs,
        .commit_index = base_index,
        .first_index = base_index + 1,
        .last_index = base_index,
        .base_term = base_term,
        .durable_index = base_index,
        .matched_index = base_index,
        .now_ns = now_ns,
        .random_state = hash_pair(seed, self),
    };
    raft_group_init(r, group);
    if (base_term > r->term) {
        r->term = base_term;
        r->vote = 0;
    }
    /* A group of one never promised anything to anybody, and need not wait for anybody. In a new group the
     * first one need not either, and the others leave it the time. */
    if (only_voter(r) || (born_now && lowest_voter(r)))
        r->election_deadline_ns = now_ns;
    else
        raft_election_timer_reset(r, now_ns);
    if (!only_voter(r) && !born_now && !PLANT(RAFT_NO_RESTART_PROMISE))
        raft_promise(r, 0, now_ns);
}

void raft_fini(struct raft *r)
{
    free(r->runs);
    r->runs = NULL;
    r->run_count = r->run_cap = 0;
}

void raft_restore(struct raft *r, uint64_t last, uint64_t term, const struct group *group)
{
    bool reserved = raft_terms_reserve(r, 1);

    ASSERT(reserved); /* at start only; there is nothing to fall back to */
    raft_terms_append(r, last, term);
    if (term > r->term) {
        r->term = term;
        r->vote = 0;
    }
    if (group) {
        ASSERT(group->index == last);
        raft_group_take(r, group);
        /* Whoever is alone at the base may have promised to one that came behind it. */
        if (!only_voter(r) && !PLANT(RAFT_NO_RESTART_PROMISE))
            raft_promise(r, 0, r->now_ns);
    }
}

/* ---- in ---- */

uint64_t raft_step(struct raft *r, const struct raft_msg *msg, uint64_t now_ns)
{
    struct raft_member *m = raft_member_find(r, msg->from);

    raft_time(r, now_ns);
    if (!msg->from || msg->from == r->self || msg->to != r->self || msg->term > RAFT_TERM_MAX)
        return 0;
    if (msg->type == RAFT_PRE_VOTE) {
        raft_on_pre_vote(r, msg);
        return 0;
    }
    if (msg->type == RAFT_VOTE) {
        raft_on_vote(r, msg);
        return 0;
    }
    if (msg->type == RAFT_PRE_VOTE_REPLY && !msg->reject) {
        if (m)
            raft_on_vote_reply(r, m, msg);
        return 0;
    }
    if (msg->term < r->term) {
        if (msg->type == RAFT_APPEND || msg->type == RAFT_INSTALL)
            raft_answer(r, msg, RAFT_APPEND_REPLY, r->term, true);
        return 0;
    }
    if (msg->term > r->term)
        raft_become_follower(r, msg->term, 0);

    switch (msg->type) {
    case RAFT_APPEND:
        return raft_on_append(r, msg);
    case RAFT_INSTALL:
        raft_on_install(r, msg);
        break;
    case RAFT_APPEND_REPLY:
        if (m)
            raft_on_append_reply(r, m, msg);
        break;
    case RAFT_VOTE_REPLY:
        if (m)
            raft_on_vote_reply(r, m, msg);
        break;
    case RAFT_TIMEOUT_NOW:
        raft_on_timeout_now(r, msg);
        break;
    default:
        break;
    }
    return 0;
}

void raft_tick(struct raft *r, uint64_t now_ns)
{
    raft_time(r, now_ns);
    raft_election_tick(r);
    raft_transfer_tick(r);
    if (r->role == RAFT_LEADER)
        raft_replicate_tick(r);
}

uint64_t raft_deadline_ns(const struct raft *r)
{
    uint64_t deadline_ns;

    if (r->role != RAFT_LEADER)
        return r->election_deadline_ns;
    deadline_ns = MIN(raft_check_quorum_deadline(r), raft_replicate_deadline(r));
    return r->transfer_to ? MIN(deadline_ns, r->transfer_deadline_ns) : deadline_ns;
}

void raft_log_durable(struct raft *r, uint64_t index)
{
    uint64_t before = r->durable_index;

    ASSERT(index <= r->last_index);
    if (index <= before)
        return;
    r->durable_index = index;
    if (r->role == RAFT_LEADER) {
        raft_member_self(r)->match = index;
        raft_commit_advance(r);
    } else {
        raft_follower_durable(r, before);
    }
}

static bool hard_state_newer(struct raft_hard_state a, struct raft_hard_state b)
{
    return a.term > b.term || (a.term == b.term && a.vote && !b.vote);
}

bool raft_hard_state_pending(struct raft *r, struct raft_hard_state *ret)
{
    struct raft_hard_state hs = {.term = r->term, .vote = r->vote};

    if (!hard_state_newer(hs, r->taken_hs))
        return false;
    r->taken_hs = hs;
    *ret = hs;
    return true;
}

void raft_hard_state_durable(struct raft *r, struct raft_hard_state hs)
{
    if (!hard_state_newer(hs, r->durable_hs))
        return;
    r->durable_hs = hs;
    raft_election_count(r);
}

void raft_compacted(struct raft *r, uint64_t first_index)
{
    if (first_index <= r->first_index)
        return;
    ASSERT(first_index - 1 <= MIN(r->commit_index, r->durable_index));
    raft_terms_compact(r, first_index);
    if (r->role == RAFT_LEADER)
        raft_replicate_compacted(r);
}

/* ---- out ---- */

/* Answers to questions of others. */
static bool answer_next(struct raft *r, struct raft_msg *ret)
{
    for (uint32_t i = 0; i < RAFT_MEMBERS_MAX && r->answers_due; i++) {
        struct raft_answer *a = &r->answers[i];

        /* While a vote is being written, nothing is said that begins another election. */
        if (!a->to || (a->reject ? !raft_term_durable(r) : !raft_vote_durable(r)))
            continue;
        *ret = (struct raft_msg){
            .type = a->type, .to = a->to, .term = a->term, .sent_ns = a->sent_ns, .reject = a->reject};
        a->to = 0;
        r->answers_due--;
        return true;
    }
    return false;
}

static bool member_next(struct raft *r, struct raft_member *m, struct raft_msg *ret)
{
    if (r->role == RAFT_LEADER)
        return raft_transfer_next(r, m, ret) || raft_append_next(r, m, ret);
    if (r->role == RAFT_FOLLOWER)
        return false;
    return raft_vote_next(r, m, ret);
}

bool raft_next_msg(struct raft *r, uint64_t now_ns, struct raft_msg *ret)
{
    raft_time(r, now_ns);
    ASSERT(!r->offered_to);
    if (raft_reply_next(r, ret) || answer_next(r, ret)) {
        ret->from = r->self;
        return true;
    }
    for (uint32_t i = 0; i < r->member_count; i++) {
        struct raft_member *m = &r->members[i];

        if (m->replica != r->self && member_next(r, m, ret)) {
            ret->from = r->self;
            ret->to = m->replica;
            return true;
        }
    }
    return false;
}
