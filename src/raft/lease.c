/* SPDX-License-Identifier: Apache-2.0
 *
 * Promises and the lease: how a leader knows, without asking, that nobody else leads.
 *
 * A follower that hears from its leader promises to vote for nobody (and to encourage nobody by a pre-vote,
 * itself included) for promise_ns from the moment of receipt. The leader remembers per member the time at
 * which it *sent* the newest message that the member has answered: that is earlier than the receipt, so the
 * promise lasts at least until then plus promise_ns on the member's clock; the rate of two clocks differs by
 * at most clock_drift_ppm, which is taken off. While a majority, the leader included, has so promised, no
 * other majority can elect: each two share a member. That member may be the leader itself: while its lease
 * may hold it refuses votes like everybody else, and when it stops leading for whatever reason its lease is
 * gone with its role.
 *
 * A restarted replica does not remember its promise and keeps one to nobody in particular for a full
 * promise_ns. Two things make promises void: proof that the leader's process was replaced (its lease died
 * with it), and a campaign that the leader itself asked for (transfer.c): it gave up its lease, for the rest
 * of its term, before it asked.
 *
 * The same contact times serve ReadIndex (a majority answered something sent after the read was taken) and
 * check-quorum (a leader that a majority has not answered for election_max_ns steps down, so that its clients
 * look elsewhere).
 */
#include "raft/internal.h"
#include "base/plant.h"

bool raft_promise_holds(const struct raft *r, uint32_t flags)
{
    if (PLANT(RAFT_NO_PROMISE) || (flags & RAFT_TRANSFER))
        return false;
    if (r->role == RAFT_LEADER) {
        uint64_t contact_ns = raft_quorum_contact_ns(r, r->now_ns);

        return contact_ns && r->now_ns < contact_ns + r->config.promise_ns;
    }
    return r->now_ns < r->promise_until_ns;
}

void raft_promise(struct raft *r, uint32_t leader, uint64_t from_ns)
{
    r->promise_to = leader;
    r->promise_until_ns = MAX(r->promise_until_ns, from_ns + r->config.promise_ns);
}

static uint64_t quorum_contact(const struct raft *r, uint64_t self_ns)
{
    uint64_t contact[RAFT_MEMBERS_MAX + 1];

    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];

        contact[i] = m->replica == r->self ? self_ns : MIN(m->contact_ns, self_ns);
    }
    return raft_majority(r, contact);
}

uint64_t raft_quorum_contact_ns(const struct raft *r, uint64_t now_ns)
{
    return r->role == RAFT_LEADER ? quorum_contact(r, now_ns) : 0;
}

uint64_t raft_check_quorum_from(const struct raft *r)
{
    return MAX(quorum_contact(r, UINT64_MAX), r->leader_since_ns);
}

/* When a leader whom nobody answers any more steps down. UINT64_MAX: it is its own majority. */
uint64_t raft_check_quorum_deadline(const struct raft *r)
{
    uint64_t from_ns = raft_check_quorum_from(r);

    if (from_ns == UINT64_MAX)
        return UINT64_MAX;
    return MAX(from_ns, r->excused_ns) + r->config.election_max_ns + r->rest_ns;
}

bool raft_can_read(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->commit_index >= r->term_start_index;
}

bool raft_lease_valid(const struct raft *r, uint64_t now_ns)
{
    const struct raft_config *c = &r->config;
    uint64_t contact_ns;

    if (!raft_can_read(r))
        return false;
    if (PLANT(RAFT_STALE_LEASE))
        return true;
    if (r->transfer_to || r->transfer_sent)
        return false;
    contact_ns = raft_quorum_contact_ns(r, now_ns);
    return contact_ns && now_ns < contact_ns + c->promise_ns - c->promise_ns / 1000000 * c->clock_drift_ppm;
}

/* ---- merged heartbeats ---- */

void raft_leader_alive(struct raft *r, uint32_t leader, uint64_t term, uint64_t commit, uint64_t received_ns,
                       uint64_t rest_ns)
{
    if (term != r->term || leader == r->self || !leader || r->role == RAFT_LEADER)
        return;
    if (r->leader && r->leader != leader)
        return;
    if (!r->leader) {
        /* We stood up against it, or have not heard from it yet. An answer may have got lost meanwhile. */
        raft_become_follower(r, term, leader);
        r->reply_due = true;
        r->reply_reject = false;
    }
    raft_promise(r, leader, received_ns);
    raft_election_timer_reset(r, MAX(received_ns, r->now_ns) + rest_ns);
    raft_commit_learn(r, commit);
}

void raft_rest(struct raft *r, uint64_t rest_ns)
{
    r->rest_ns = rest_ns;
}

bool raft_in_contact(const struct raft *r, const struct raft_member *member, uint64_t now_ns)
{
    return now_ns < member->contact_ns + r->config.election_max_ns + r->rest_ns;
}

void raft_contact(struct raft *r, uint32_t replica, uint64_t sent_ns)
{
    struct raft_member *m = raft_member_find(r, replica);

    /* What was sent before we led cannot have been taken for a promise to us. */
    if (r->role == RAFT_LEADER && m && replica != r->self && sent_ns >= r->leader_since_ns)
        m->contact_ns = MAX(m->contact_ns, sent_ns);
    raft_transfer_progress(r);
}

void raft_probe(struct raft *r)
{
    if (r->role != RAFT_LEADER)
        return;
    for (uint32_t i = 0; i < r->member_count; i++) {
        struct raft_member *m = &r->members[i];

        m->contact_due = m->replica != r->self && m->progress != RAFT_BEHIND;
    }
}
