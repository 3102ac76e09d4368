/* SPDX-License-Identifier: Apache-2.0
 *
 * The follower's log: what a leader's APPEND does to it, and what is acknowledged.
 *
 * An APPEND names the entry before its own. If our log has that entry (same index, same term), both logs
 * agree up to there and the new ones may be added; if not, the answer is a rejection with a hint: the last
 * index at which we might still agree, and our term there, so that the leader goes back by a term at a time
 * and not by an entry. Messages come late, twice and out of order, so:
 *
 *  - Only an entry that *contradicts* ours (same index, another term) truncates the log. An APPEND that is a
 * prefix of what we have is an old one and removes nothing.
 *  - matched_index is the end of what is known to agree with the leader of this term: only APPENDs of this
 * term raise it, it starts from the commit index at a new term. The commit index follows the leader's only up
 * to there, and what we acknowledge is min(durable, matched): an entry of an earlier leader that happens to
 * be on our disk behind it means nothing.
 *  - What is committed is never compared nor replaced, whatever a message says.
 *
 * There is one reply, always up to date when it is sent, not one per APPEND: what is durable at once, or
 * nothing new, is answered at once, the rest when the disk has it. It echoes the newest send time that we
 * have seen, for the leader's lease.
 */
#include "raft/internal.h"
#include "base/plant.h"

static uint64_t acked_index(const struct raft *r)
{
    if (r->held && r->abstain)
        return 0;
    return PLANT(RAFT_UNDURABLE_MATCH) ? r->matched_index : MIN(r->durable_index, r->matched_index);
}

static void reply_accept(struct raft *r)
{
    r->reply_due = true;
    r->reply_reject = false;
}

static void reply_reject(struct raft *r, uint64_t index, uint64_t log_term)
{
    r->reply_due = true;
    r->reply_reject = true;
    r->reply_index = index;
    r->reply_log_term = log_term;
}

void raft_commit_learn(struct raft *r, uint64_t commit)
{
    /* What is held may be dropped for a state that is older than this. */
    if (!r->held)
        r->commit_index = MAX(r->commit_index, MIN(commit, r->matched_index));
}

/* A message of the leader of our term. False: it cannot be. */
static bool follow(struct raft *r, const struct raft_msg *msg)
{
    if (r->role == RAFT_LEADER || (r->leader && r->leader != msg->from))
        return false;
    if (r->role != RAFT_FOLLOWER || !r->leader)
        raft_become_follower(r, r->term, msg->from);
    raft_promise(r, msg->from, r->now_ns);
    raft_election_timer_reset(r, r->now_ns);
    r->acked_sent_ns = MAX(r->acked_sent_ns, msg->sent_ns);
    return true;
}

/* Terms of the entries must ascend from the one before them up to the leader's. Returns how often they
 * change; false if wrong. */
static bool entries_validate(const struct raft_msg *msg, uint32_t *ret_changes)
{
    uint64_t term = msg->log_term;

    *ret_changes = 1;
    if (msg->last < msg->index || msg->log_term > msg->term || (msg->last > msg->index && !msg->entries))
        return false;
    if (msg->group &&
        (msg->last == msg->index || msg->group->index != msg->last || !group_validate(msg->group)))
        return false;
    for (uint64_t i = 0; i < msg->last - msg->index; i++) {
        if (msg->entries[i].term < term || msg->entries[i].term > msg->term)
            return false;
        *ret_changes += msg->entries[i].term != term;
        term = msg->entries[i].term;
    }
    return true;
}

uint64_t raft_on_append(struct raft *r, const struct raft_msg *msg)
{
    uint64_t first, hint;
    uint32_t changes;

    if (!entries_validate(msg, &changes) || !follow(r, msg))
        return 0;

    if (msg->index > r->last_index) {
        reply_reject(r, r->last_index, raft_term_at(r, r->last_index));
        return 0;
    }
    if (msg->index > r->commit_index && raft_term_at(r, msg->index) != msg->log_term) {
        if (!raft_terms_floor(r, msg->index - 1, msg->log_term, &hint) || hint < r->commit_index)
            hint = r->commit_index;
        reply_reject(r, hint, raft_term_at(r, hint));
        return 0;
    }

    /* The first entry that we do not have already. */
    first = MAX(msg->index, r->commit_index) + 1;
    while (first <= MIN(msg->last, r->last_index) && !PLANT(RAFT_STALE_TRUNCATE) &&
           raft_term_at(r, first) == msg->entries[first - msg->index - 1].term)
        first++;
    if (first <= msg->last) {
        if (first <= r->matched_index && !PLANT(RAFT_STALE_TRUNCATE))
            return 0; /* contradicts what this leader said before */
        if (msg->entries[first - msg->index - 1].term < raft_term_at(r, first - 1))
            return 0; /* contradicts what is committed */
        if (!raft_group_may_truncate(r, first - 1))
            return 0; /* the same: of two groups the first must be */
        if (!raft_terms_reserve(r, changes))
            return 0; /* as if it had been lost */
        if (first <= r->last_index) {
            raft_terms_truncate(r, first - 1);
            raft_group_truncate(r, first - 1);
            r->durable_index = MIN(r->durable_index, first - 1);
        }
        for (uint64_t i = first; i <= msg->last; i++)
            raft_terms_append(r, i, msg->entries[i - msg->index - 1].term);
        if (msg->group)
            raft_group_take(r, msg->group);
    } else {
        first = 0;
    }
    r->matched_index = MIN(MAX(r->matched_index, msg->last), r->last_index);
    raft_commit_learn(r, msg->commit);
    if (r->reply_due && r->reply_reject)
        reply_accept(r); /* what was missing has come meanwhile */
    if (msg->last == msg->index || (!first && msg->last <= r->durable_index) || PLANT(RAFT_UNDURABLE_MATCH))
        reply_accept(r);
    return first;
}

void raft_on_install(struct raft *r, const struct raft_msg *msg)
{
    if (!follow(r, msg))
        return;
    /* The answer shows how far our log goes; if it goes far enough after all, the leader's knowledge is old.
     */
    if (r->matched_index + 1 >= msg->index)
        reply_accept(r);
    else
        reply_reject(r, r->last_index, raft_term_at(r, r->last_index));
}

bool raft_install_needed(const struct raft *r, const struct raft_msg *msg)
{
    return msg->type == RAFT_INSTALL && msg->to == r->self && msg->term == r->term &&
           r->leader == msg->from && r->role == RAFT_FOLLOWER && r->matched_index + 1 < msg->index;
}

void raft_follower_durable(struct raft *r, uint64_t before)
{
    if (r->role == RAFT_FOLLOWER && r->leader && before < r->matched_index && !r->reply_due)
        reply_accept(r);
}

void raft_follower_tell(struct raft *r)
{
    if (r->role == RAFT_FOLLOWER && r->leader && !r->reply_due)
        reply_accept(r);
}

bool raft_reply_next(struct raft *r, struct raft_msg *ret)
{
    if (!r->reply_due || !raft_term_durable(r))
        return false;
    r->reply_due = false;
    *ret = (struct raft_msg){
        .type = RAFT_APPEND_REPLY,
        .to = r->leader,
        .term = r->term,
        .index = r->reply_reject ? r->reply_index : acked_index(r),
        .log_term = r->reply_reject ? r->reply_log_term : 0,
        .commit = r->commit_index,
        .sent_ns = r->acked_sent_ns,
        .reject = r->reply_reject,
        .flags = r->abstain || r->recovering ? RAFT_RECOVERING : 0,
    };
    return true;
}

bool raft_may_reset_base(const struct raft *r, uint64_t index, uint64_t term)
{
    if (r->role == RAFT_LEADER || index < r->commit_index || term > r->term)
        return false;
    if (r->abstain)
        return r->held || index >= r->matched_index;
    /* What we acknowledged, even in an earlier life, is our vote's weight, and nobody has been told to forget
     * it. */
    return index >= r->durable_index || raft_term_at(r, index) != term;
}

void raft_reset_base(struct raft *r, uint64_t index, uint64_t term, const struct group *group)
{
    ASSERT(raft_may_reset_base(r, index, term));
    ASSERT(group_validate(group) && group->index <= index);
    raft_group_init(r, group);
    r->run_count = 0;
    r->held = false;
    r->first_index = index + 1;
    r->last_index = r->durable_index = r->commit_index = r->matched_index = index;
    r->base_term = term;
    if (r->leader)
        reply_reject(r, index, term);
}

bool raft_is_whole(const struct raft *r, uint64_t target, uint64_t term)
{
    return r->durable_index >= target || raft_term_at(r, r->durable_index) > term;
}

bool raft_cut(struct raft *r, uint64_t index)
{
    if (r->role != RAFT_FOLLOWER)
        return false;
    ASSERT(index >= r->durable_index);
    if (index >= r->last_index)
        return index == r->last_index;
    raft_terms_truncate(r, index);
    raft_group_truncate(r, index);
    r->commit_index = MIN(r->commit_index, index);
    r->matched_index = MIN(r->matched_index, index);
    return true;
}
