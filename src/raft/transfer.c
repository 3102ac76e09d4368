/* SPDX-License-Identifier: Apache-2.0
 *
 * Handing leadership over, without waiting for timeouts.
 *
 * From the moment it is asked, the leader takes no proposals, so that the target can catch up, and claims no
 * lease. When the target has the whole log on disk, it is told to campaign now (TIMEOUT_NOW). Its VOTE is
 * flagged: voters may ignore what they promised to the leader, because that leader has given up its lease. It
 * may never claim it again in this term, whatever comes of the campaign: the message or the votes may arrive
 * late. So if the transfer does not happen in time, the leader steps down when TIMEOUT_NOW may be out, and
 * goes on as before when it is not.
 *
 * When a majority of the members cannot take what the leader has proposed, it will never be committed, and
 * nothing that comes behind it either. Then one of them is told to campaign as it is (raft_transfer_short()):
 * the others, who lack the same, elect it, and what they lack is replaced. It is an election like any other,
 * so what may be committed is not given up, whatever the leader thinks of it.
 *
 * The flag is good for one campaign, in the term right behind the leader's: in a later one there may be other
 * promises.
 */
#include "raft/internal.h"
#include "base/error.h"

/* Can it lead soon? */
static bool ready(const struct raft *r, const struct raft_member *m)
{
    return m->replica != r->self && m->flags & GROUP_VOTER && !m->recovering && !m->unreachable &&
           m->progress != RAFT_BEHIND;
}

/* Or proposals would be refused for nothing until the transfer is given up. */
static bool in_contact(const struct raft *r, const struct raft_member *m)
{
    return m->contact_ns + r->config.promise_ns + r->rest_ns > r->now_ns;
}

static int begin(struct raft *r, uint32_t replica, bool is_short, uint64_t now_ns)
{
    struct raft_member *best = NULL;

    raft_time(r, now_ns);
    if (r->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (r->transfer_to || r->transfer_sent)
        return -ERR_RETRY;
    if (replica) {
        best = raft_member_find(r, replica);
        if (!best || replica == r->self || !(best->flags & GROUP_VOTER))
            return -ERR_INVALID;
        if (!ready(r, best) || !in_contact(r, best) || (best->progress != RAFT_REPLICATE && !is_short))
            return -ERR_RETRY;
    } else {
        for (uint32_t i = 0; i < r->member_count; i++) {
            struct raft_member *m = &r->members[i];

            if (ready(r, m) && in_contact(r, m) && (!best || m->match > best->match))
                best = m;
        }
        if (!best)
            return -ERR_RETRY;
    }
    r->transfer_to = best->replica;
    r->transfer_short = is_short;
    r->transfer_deadline_ns = r->now_ns + r->config.election_max_ns;
    raft_transfer_progress(r);
    return 0;
}

int raft_transfer(struct raft *r, uint32_t replica, uint64_t now_ns)
{
    return begin(r, replica, false, now_ns);
}

int raft_transfer_short(struct raft *r, uint32_t replica, uint64_t now_ns)
{
    return begin(r, replica, true, now_ns);
}

void raft_transfer_progress(struct raft *r)
{
    struct raft_member *m;

    if (r->role != RAFT_LEADER || !r->transfer_to)
        return;
    m = raft_member_find(r, r->transfer_to);
    /* It has answered, in our term, what we sent well after TIMEOUT_NOW: that was lost. */
    if (r->transfer_sent && m->contact_ns < r->transfer_sent_ns + r->config.heartbeat_ns)
        return;
    m->timeout_now_due = ready(r, m) && m->match >= (r->transfer_short ? r->commit_index : r->last_index);
}

bool raft_transfer_next(struct raft *r, struct raft_member *m, struct raft_msg *ret)
{
    if (!m->timeout_now_due)
        return false;
    m->timeout_now_due = false;
    r->transfer_sent = true;
    r->transfer_sent_ns = r->now_ns;
    *ret = (struct raft_msg){.type = RAFT_TIMEOUT_NOW, .term = r->term, .sent_ns = r->now_ns};
    return true;
}

void raft_transfer_tick(struct raft *r)
{
    if (r->role != RAFT_LEADER || !r->transfer_to || r->now_ns < r->transfer_deadline_ns)
        return;
    if (r->transfer_sent || raft_leader_is_out(r)) {
        raft_become_follower(r, r->term, 0);
    } else {
        raft_member_find(r, r->transfer_to)->timeout_now_due = false;
        r->transfer_to = 0;
    }
}

void raft_on_timeout_now(struct raft *r, const struct raft_msg *msg)
{
    if (r->role != RAFT_FOLLOWER || r->leader != msg->from || !raft_may_lead(r))
        return;
    r->promise_until_ns = 0; /* it was to this leader */
    raft_become_candidate(r, RAFT_TRANSFER);
}
