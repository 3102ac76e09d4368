/* SPDX-License-Identifier: Apache-2.0
 *
 * Elections: who may lead, in which term.
 *
 *     FOLLOWER       --- timeout, or leader lost -------------------------> PRE_CANDIDATE
 *     PRE_CANDIDATE  --- a majority would vote for us --------------------> CANDIDATE (next term)
 *     CANDIDATE      --- a majority votes, and our own vote is durable ---> LEADER
 *     CANDIDATE      --- timeout -----------------------------------------> PRE_CANDIDATE (still standing)
 *     PRE_CANDIDATE  --- standing, and a majority votes after all --------> LEADER
 *     LEADER         --- no contact to a majority, or hand-over failed ---> FOLLOWER
 *     any            --- a higher term, or a leader of this term is heard > FOLLOWER
 *
 * A pre-vote changes nothing at the voter: it asks whether a campaign could succeed, so that a replica that
 * was cut off, or hears nobody, does not disturb a group that works by coming back with a high term. A vote
 * is given once per term, to a candidate whose log is at least as new as the voter's, and told only when it
 * is on disk; the candidate itself asks, and counts its own vote, only then. So a vote can never be
 * forgotten, and never be asked for with a log that a crash could shorten.
 *
 * While a promise to a leader runs (lease.c) both are refused, and a VOTE with a higher term does not even
 * raise ours: otherwise that term would depose the leader that we promised to follow. A candidate stuck so in
 * a higher term is freed by answering the leader's next APPEND with its own term.
 *
 * After the loss of a leader the first few rounds are short (one or two heartbeats), because promises run out
 * at slightly different times and the first to ask is often refused; then the usual randomized timeout, so
 * that a replica that is cut off stays cheap.
 *
 * A vote that takes longer to write than a round is not in vain. It counts as long as we stand in its term,
 * also when we ask for pre-votes again meanwhile: from the candidacy on until we hear of a leader or a higher
 * term, or must not lead. (By a group that a leader of that term has made it must not be counted.) Who writes
 * a vote, for whomever, begins no round of its own before it is written. Asked for pre-votes again, it does
 * not forget to tell that vote.
 */
#include "raft/internal.h"
#include "base/plant.h"

#include <string.h>

enum { SHORT_ROUNDS = 4 };

static uint64_t election_timeout(struct raft *r)
{
    const struct raft_config *c = &r->config;

    return c->election_min_ns + raft_random_below(r, c->election_max_ns - c->election_min_ns);
}

void raft_election_timer_reset(struct raft *r, uint64_t from_ns)
{
    r->heard_ns = from_ns;
    r->election_deadline_ns = from_ns + election_timeout(r);
}

/* How long to wait for votes: long enough for an answer, spread so that two candidates part. */
static void round_timer_reset(struct raft *r, uint64_t typical_ns)
{
    if (++r->campaign_rounds > SHORT_ROUNDS)
        raft_election_timer_reset(r, r->now_ns);
    else
        r->election_deadline_ns = r->now_ns + typical_ns + raft_random_below(r, typical_ns);
}

void raft_become_follower(struct raft *r, uint64_t term, uint32_t leader)
{
    ASSERT(term >= r->term);
    if (r->role != RAFT_FOLLOWER)
        raft_election_timer_reset(r, r->now_ns);
    if (term > r->term) {
        r->term = term;
        r->vote = 0;
        r->matched_index = r->commit_index; /* what is committed is in every later leader's log */
        r->acked_sent_ns = 0;
        r->reply_due = false;
        memset(r->answers, 0, sizeof r->answers);
        r->answers_due = 0;
    }
    if (r->role == RAFT_LEADER)
        r->matched_index = r->commit_index;
    r->role = RAFT_FOLLOWER;
    r->standing = false;
    r->leader = leader;
    r->transfer_to = 0;
    r->transfer_sent = false;
    if (leader)
        r->campaign_rounds = 0;
    else
        r->reply_due = false;
}

static void ask_all(struct raft *r)
{
    r->asked_ns = r->now_ns;
    for (uint32_t i = 0; i < r->member_count; i++) {
        struct raft_member *m = &r->members[i];

        m->pre_vote_granted = false;
        m->vote_due = m->replica != r->self && m->flags;
    }
}

void raft_become_candidate(struct raft *r, uint32_t flags)
{
    /* The run of the term that we may begin. */
    if (!raft_terms_reserve(r, 1)) {
        raft_election_timer_reset(r, r->now_ns);
        return;
    }
    raft_become_follower(r, r->term + 1, 0);
    r->role = RAFT_CANDIDATE;
    r->standing = true;
    for (uint32_t i = 0; i < r->member_count; i++)
        r->members[i].vote_granted = false;
    r->vote = r->self;
    r->campaign_flags = flags;
    round_timer_reset(r, 2 * r->config.heartbeat_ns);
    ask_all(r);
    raft_election_count(r);
}

static void become_leader(struct raft *r)
{
    r->role = RAFT_LEADER;
    r->leader = r->self;
    r->standing = false;
    r->leader_since_ns = r->now_ns;
    r->rest_ns = 0;
    r->term_start_index = r->last_index + 1;
    r->campaign_rounds = 0;
    raft_replicate_start(r);
}

bool raft_may_lead(const struct raft *r)
{
    return !r->abstain && !r->recovering && raft_group_needs(r, r->self);
}

static void campaign(struct raft *r)
{
    if (!raft_may_lead(r)) {
        r->role = RAFT_FOLLOWER;
        r->standing = false;
        r->leader = 0;
        r->reply_due = false;
        raft_election_timer_reset(r, r->now_ns);
        return;
    }
    /* On its way to the disk is our own vote, or one for another whom we should not disturb. */
    if (!raft_vote_durable(r) && !PLANT(RAFT_LATE_VOTES)) {
        raft_election_timer_reset(r, r->now_ns);
        return;
    }
    /* The own promise binds like anybody else's. */
    if (raft_promise_holds(r, 0)) {
        r->election_deadline_ns = r->promise_until_ns + raft_random_below(r, r->config.heartbeat_ns);
        return;
    }
    r->role = RAFT_PRE_CANDIDATE;
    r->leader = 0;
    r->reply_due = false;
    round_timer_reset(r, r->config.heartbeat_ns);
    ask_all(r);
    raft_election_count(r);
}

void raft_election_tick(struct raft *r)
{
    if (r->role != RAFT_LEADER) {
        if (r->now_ns >= r->election_deadline_ns)
            campaign(r);
    } else if (r->now_ns >= raft_check_quorum_deadline(r)) {
        raft_become_follower(r, r->term, 0);
    }
}

void raft_away(struct raft *r, uint64_t back_ns)
{
    bool leads = r->role == RAFT_LEADER;
    uint64_t heard_ns = leads ? raft_check_quorum_from(r) : r->heard_ns;

    if (PLANT(RAFT_OWN_ABSENCE) || !r->leader || back_ns <= heard_ns || heard_ns < r->excused_ns)
        return;
    r->excused_ns = back_ns;
    if (!leads)
        r->election_deadline_ns = back_ns + election_timeout(r);
}

void raft_election_count(struct raft *r)
{
    uint64_t votes[RAFT_MEMBERS_MAX + 1], pre_votes[RAFT_MEMBERS_MAX + 1];

    if (r->role != RAFT_PRE_CANDIDATE && r->role != RAFT_CANDIDATE)
        return;
    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];
        votes[i] = m->replica == r->self || m->vote_granted;
        pre_votes[i] = m->replica == r->self || m->pre_vote_granted;
    }
    if (r->standing && raft_vote_durable(r) && raft_majority(r, votes))
        become_leader(r);
    else if (r->role == RAFT_PRE_CANDIDATE && raft_majority(r, pre_votes))
        raft_become_candidate(r, 0);
}

static bool log_up_to_date(const struct raft *r, const struct raft_msg *msg)
{
    uint64_t last_term = raft_term_at(r, r->last_index);

    return msg->log_term > last_term || (msg->log_term == last_term && msg->index >= r->last_index);
}

static bool may_vote(const struct raft *r, const struct raft_msg *msg)
{
    return !r->abstain && !raft_promise_holds(r, msg->flags) && log_up_to_date(r, msg);
}

void raft_on_pre_vote(struct raft *r, const struct raft_msg *msg)
{
    bool grant = msg->term > r->term && may_vote(r, msg);

    raft_answer(r, msg, RAFT_PRE_VOTE_REPLY, grant ? msg->term : r->term, !grant);
}

void raft_on_vote(struct raft *r, const struct raft_msg *msg)
{
    bool grant;

    if (msg->term > r->term) {
        if (raft_promise_holds(r, msg->flags))
            return;
        raft_become_follower(r, msg->term, 0);
    }
    grant = msg->term == r->term && !r->leader && (!r->vote || r->vote == msg->from) && may_vote(r, msg);
    if (grant) {
        if (r->role != RAFT_FOLLOWER)
            raft_become_follower(r, r->term, 0);
        r->vote = msg->from;
        raft_election_timer_reset(r, r->now_ns);
    }
    raft_answer(r, msg, RAFT_VOTE_REPLY, r->term, !grant);
}

/* Replies of a higher term never get here but as the grant of a pre-vote (raft_step). */
void raft_on_vote_reply(struct raft *r, struct raft_member *m, const struct raft_msg *msg)
{
    if (msg->reject)
        return;
    if (msg->type == RAFT_VOTE_REPLY) {
        if (!r->standing || msg->term != r->term || (r->role != RAFT_CANDIDATE && PLANT(RAFT_LATE_VOTES)))
            return;
        m->vote_granted = true;
    } else {
        if (r->role != RAFT_PRE_CANDIDATE || msg->term != r->term + 1)
            return;
        /* What was granted in an earlier round may have been promised to a leader since. */
        if (msg->sent_ns != r->asked_ns && !PLANT(RAFT_OLD_ROUND))
            return;
        m->pre_vote_granted = true;
    }
    raft_election_count(r);
}

bool raft_vote_next(struct raft *r, struct raft_member *m, struct raft_msg *ret)
{
    bool candidate = r->role == RAFT_CANDIDATE;

    if (!m->vote_due || (candidate ? !raft_vote_durable(r) : !raft_term_durable(r)))
        return false;
    m->vote_due = false;
    *ret = (struct raft_msg){
        .type = candidate ? RAFT_VOTE : RAFT_PRE_VOTE,
        .term = candidate ? r->term : r->term + 1,
        .index = r->last_index,
        .log_term = raft_term_at(r, r->last_index),
        .sent_ns = r->asked_ns,
        .flags = candidate ? r->campaign_flags : 0,
    };
    return true;
}

void raft_peer_lost(struct raft *r, uint32_t replica, bool new_incarnation, uint64_t now_ns)
{
    struct raft_member *m = raft_member_find(r, replica);
    bool leads = r->leader == replica && replica != r->self;
    uint64_t start_ns;

    raft_time(r, now_ns);
    if (!replica || replica == r->self)
        return;
    if (r->role == RAFT_LEADER) {
        if (m)
            raft_replicate_lost(r, m);
        return;
    }
    if (new_incarnation && r->promise_to == replica)
        r->promise_until_ns = 0;
    if (!leads)
        return;
    /* Everybody else lost it at the same moment: spread a little. */
    r->heard_ns = UINT64_MAX;
    start_ns = MAX(r->now_ns, r->promise_until_ns) + raft_random_below(r, r->config.heartbeat_ns);
    r->election_deadline_ns = MIN(r->election_deadline_ns, start_ns);
    if (new_incarnation)
        raft_become_follower(r, r->term, 0);
}

void raft_set_abstain(struct raft *r, bool abstain)
{
    if (r->abstain && !abstain)
        raft_follower_tell(r);
    r->abstain = abstain;
    if (abstain && r->role != RAFT_FOLLOWER)
        raft_become_follower(r, r->term, 0);
}

void raft_set_held(struct raft *r, bool held)
{
    r->held = held;
}

void raft_set_recovering(struct raft *r, bool recovering)
{
    if (r->recovering && !recovering)
        raft_follower_tell(r);
    r->recovering = recovering;
    if (recovering && r->role != RAFT_FOLLOWER)
        raft_become_follower(r, r->term, 0);
}
