/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the raft room tell each other. One file per idea: terms.c which term each index has,
 * group.c who is in the
 * group, election.c roles and votes, lease.c promises, contact and reads, follow.c a follower's log,
 * replicate.c a leader's members and the commit index, transfer.c leadership handed over, raft.c the inputs
 * and outputs that tie them together, check.c what must hold.
 */
#ifndef RAFT_INTERNAL_H
#define RAFT_INTERNAL_H

#include "raft/raft.h"

/* ---- raft.c: time, members, randomness ---- */

struct raft_member *raft_member_find(struct raft *r, uint32_t replica); /* NULL: not a member */
struct raft_member *raft_member_self(struct raft *r);
bool raft_is_voter(const struct raft *r, uint32_t replica);
uint64_t raft_random_below(struct raft *r, uint64_t n);
/* Time never goes back for raft, whatever order the host's inputs come in. */
static inline void raft_time(struct raft *r, uint64_t now_ns)
{
    r->now_ns = MAX(r->now_ns, now_ns);
}
/* The k-th largest of n values, k from 1; reorders them. */
uint64_t raft_kth_largest(uint64_t *values, uint32_t n, uint32_t k);
/* Is the vote of this term on disk, too (raft_term_durable()). */
bool raft_vote_durable(const struct raft *r);
/* Queues an answer to a message, in our own term unless it is the grant of a pre-vote. */
void raft_answer(struct raft *r, const struct raft_msg *msg, enum raft_msg_type type, uint64_t term,
                 bool reject);

/* ---- group.c ---- */

void raft_group_init(struct raft *r, const struct group *group);
void raft_group_take(struct raft *r, const struct group *group); /* an entry of the log sets it */
/* The log will end at `last`: is the group in force there known? It is, unless what is committed is dropped.
 */
bool raft_group_may_truncate(const struct raft *r, uint64_t last);
void raft_group_truncate(struct raft *r, uint64_t last);
/* The largest value that a majority of the voters has at least; of both sets of voters while the group is
 * joint. `values` by place in r->members. */
uint64_t raft_majority(const struct raft *r, const uint64_t *values);
/* Is the replica a voter, or was it before the newest group, which is not known to be committed? Such a one
 * may be the only one with a log that the others can follow. */
bool raft_group_needs(const struct raft *r, uint32_t replica);
bool raft_leader_is_out(const struct raft *r); /* it leads, and is no voter of a committed group */

/* ---- terms.c ---- */

MUST_CHECK bool raft_terms_reserve(struct raft *r,
                                   uint32_t more); /* room for that many more runs; false: no memory */
void raft_terms_append(struct raft *r, uint64_t last,
                       uint64_t term); /* never allocates within what was reserved */
void raft_terms_truncate(struct raft *r, uint64_t last);
void raft_terms_compact(struct raft *r, uint64_t first_index);
/* The largest index <= `index` whose term is <= `term`; false if that lies below the log's base. */
bool raft_terms_floor(const struct raft *r, uint64_t index, uint64_t term, uint64_t *ret_index);

/* ---- election.c ---- */

void raft_become_follower(struct raft *r, uint64_t term, uint32_t leader);
void raft_become_candidate(struct raft *r, uint32_t flags);
void raft_election_timer_reset(struct raft *r, uint64_t from_ns);
void raft_election_tick(struct raft *r);
bool raft_may_lead(const struct raft *r);
void raft_election_count(struct raft *r); /* enough votes? */
void raft_on_pre_vote(struct raft *r, const struct raft_msg *msg);
void raft_on_vote(struct raft *r, const struct raft_msg *msg);
void raft_on_vote_reply(struct raft *r, struct raft_member *m, const struct raft_msg *msg);
bool raft_vote_next(struct raft *r, struct raft_member *m, struct raft_msg *ret);

/* ---- lease.c ---- */

bool raft_promise_holds(const struct raft *r,
                        uint32_t flags); /* may this replica not vote? flags of the VOTE */
void raft_promise(struct raft *r, uint32_t leader, uint64_t from_ns);
/* Leader: since when a majority has been silent; UINT64_MAX: it is its own majority. */
uint64_t raft_check_quorum_from(const struct raft *r);
uint64_t raft_check_quorum_deadline(const struct raft *r);

/* ---- follow.c ---- */

uint64_t raft_on_append(struct raft *r, const struct raft_msg *msg);
void raft_on_install(struct raft *r, const struct raft_msg *msg);
bool raft_reply_next(struct raft *r, struct raft_msg *ret);
void raft_commit_learn(struct raft *r, uint64_t commit); /* the leader of our term says so */
void raft_follower_durable(struct raft *r, uint64_t before);
void raft_follower_tell(struct raft *r); /* our flags have changed: an idle leader would not hear of it */

/* ---- replicate.c ---- */

void raft_replicate_start(struct raft *r);
void raft_replicate_member(struct raft *r, struct raft_member *m); /* begins with it */
void raft_replicate_tick(struct raft *r);
uint64_t raft_replicate_deadline(const struct raft *r);
void raft_on_append_reply(struct raft *r, struct raft_member *m, const struct raft_msg *msg);
bool raft_append_next(struct raft *r, struct raft_member *m, struct raft_msg *ret);
void raft_commit_advance(struct raft *r);
void raft_replicate_compacted(struct raft *r);
void raft_replicate_lost(struct raft *r, struct raft_member *m);

/* ---- transfer.c ---- */

void raft_transfer_progress(struct raft *r); /* the target may have caught up */
void raft_transfer_tick(struct raft *r);
bool raft_transfer_next(struct raft *r, struct raft_member *m, struct raft_msg *ret);
void raft_on_timeout_now(struct raft *r, const struct raft_msg *msg);

#endif
