/* SPDX-License-Identifier: Apache-2.0
 *
 * raft: the consensus core of one placement group. Pure: no I/O, no clock, no thread, no callback; allocation
 * only when a term begins. May include: base.
 *
 * In go messages, proposals, the time, and "this much of the log is durable here"; out come the entries to
 * append, the term and vote to make durable, the commit index, and messages. The host (src/osd) owns the
 * entries; raft knows only which term each index has, as runs of equal terms. The host's loop after any
 * input:
 *
 *     first = raft_step(r, &msg, now)
 *         if not 0: append the message's entries from `first` on, replacing what the log held from there
 *     raft_noop_due(r)
 *         a new leader: propose a NOOP before anything else
 *     raft_hard_state_pending(r, &hs)
 *         make term and vote durable, then raft_hard_state_durable(r, hs)
 *     r->commit_index
 *         apply up to here, once durable here too
 *     while (raft_next_msg(r, now, &msg))
 *         fill in the entries of an APPEND from the log, send, raft_append_sent()
 *
 * Messages that depend on a term or vote are held back by raft itself until that is durable; an APPEND_REPLY
 * acknowledges only what raft_log_durable() has reported. The leader's own vote for an entry counts by the
 * same call.
 *
 * Sources: Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended), sections 5
 * 6 (joint consensus) and 8; Ongaro's thesis, 3.10 (leadership transfer), 4.2.2, 4.3 (members), 6.4
 * (ReadIndex, leases), 9.6 (pre-vote), 10.2.1 (writing to disk in parallel).
 *
 * Time: all times are nanoseconds of this replica's own clock. Clocks of two machines may differ in rate by
 * clock_drift_ppm.
 *
 * A follower that accepts a leader's message promises not to vote for anyone else for promise_ns from then
 * (raft_step of APPEND, raft_leader_alive). A restarted replica has promised to whoever was there before: it
 * grants no vote for promise_ns after raft_init, unless the group is just born, or it is alone in it.
 *
 * A leader holds a lease while a majority (itself included) has, by messages that it SENT no longer than
 * promise_ns ago (less drift), promised. `contact` is the newest such send time per member;
 * raft_quorum_contact_ns() is the majority's. A leader without contact to a majority for election_max_ns
 * steps down (check-quorum).
 */
#ifndef RAFT_RAFT_H
#define RAFT_RAFT_H

#include "base/base.h"
#include "base/entry.h"
#include "base/group.h"

#define RAFT_MEMBERS_MAX  GROUP_MEMBERS_MAX
#define RAFT_INFLIGHT_MAX 128              /* APPENDs under way to one member */
#define RAFT_TERM_MAX     (UINT64_MAX / 2) /* messages of a higher one are dropped: terms never wrap */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

enum raft_msg_type {
    RAFT_PRE_VOTE = 1,
    RAFT_PRE_VOTE_REPLY,
    RAFT_VOTE,
    RAFT_VOTE_REPLY,
    RAFT_APPEND,
    RAFT_APPEND_REPLY,
    RAFT_TIMEOUT_NOW, /* transfer: campaign now */
    RAFT_INSTALL,     /* the log no longer reaches back to you: recover from me */
};

enum raft_msg_flags {
    /* A campaign that the leader asked for: its lease is given up, promises to it do not count. */
    RAFT_TRANSFER = 1,
    /* APPEND_REPLY: the sender is recovering, its state is not complete. */
    RAFT_RECOVERING = 2,
};

struct raft_msg {
    enum raft_msg_type type;
    uint32_t from, to; /* replica numbers; a mismatch is dropped */
    uint64_t term;
    uint64_t index;    /* votes: last log index; APPEND: index before the entries; APPEND_REPLY: match, or the
                        * hint of a reject: the sender's log may agree up to here; INSTALL: first index that the
                        * leader still has */
    uint64_t log_term; /* term at `index` in the sender's log; 0 in an APPEND_REPLY that is no reject */
    uint64_t last;     /* APPEND: index of the last entry carried; == index: none */
    uint64_t commit;
    uint64_t
        sent_ns; /* APPEND: leader's clock; PRE_VOTE: when the round began; replies to both: their echo */
    bool reject;
    uint32_t flags;
    /* APPEND received: last - index of them; only their terms are looked at. NULL when sent. */
    const struct entry *entries;
    /* APPEND received: the group that the last of the entries sets; NULL: it sets none. No other may. */
    const struct group *group;
};

struct raft_config {
    uint64_t promise_ns;      /* 150 ms */
    uint64_t heartbeat_ns;    /* 30 ms: the host's merged heartbeats; raft itself sends none */
    uint64_t election_min_ns; /* randomized election timeout, in [min, max): 200..350 ms; min >= promise */
    uint64_t election_max_ns;
    uint32_t clock_drift_ppm; /* 2000 */
    uint32_t window_bytes;    /* in flight to one member */
    uint32_t window_entries;
};
extern const struct raft_config RAFT_CONFIG_DEFAULT;

struct raft_hard_state {
    uint64_t term;
    uint32_t vote; /* replica number; 0: none */
};

enum raft_progress { RAFT_PROBE, RAFT_REPLICATE, RAFT_BEHIND }; /* BEHIND: needs recovery, told by INSTALL */

struct raft_member {
    uint32_t replica;
    uint32_t flags; /* as in the group; ourselves: 0 also if the group does not have us */
    enum raft_progress progress;
    uint64_t match;      /* durable there, in this leader's term */
    uint64_t next;       /* next index to send */
    uint64_t contact_ns; /* send time of the newest message of ours that it answered */
    uint64_t inflight_bytes;
    bool recovering; /* said so in its last answer */
    bool lost; /* it acknowledged entries in this term, does not have them any more, and did not say that it
                * recovers: its disk lies. For the host to report */
    /* The rest is raft's own. What is looked at in every step is in a few lines of the cache, here and below.
     */
    uint32_t inflight_head, inflight_count;
    uint64_t inflight_base; /* index before the first entry under way */
    uint64_t wait_ns;       /* when the oldest thing it has not answered was sent */
    uint64_t rewound_ns;    /* when `next` last went back: rejections of what was sent before are old news */
    uint64_t
        forgotten_ns;   /* raft_member_forgotten(): acknowledgements of what was sent before do not count */
    uint64_t acked_ns;  /* send time of the newest message that it accepted */
    uint32_t probe_max; /* entries that the probe may carry */
    bool probe_due, contact_due, install_due, timeout_now_due;
    bool unreachable;                /* raft_peer_unreachable() */
    bool vote_due, pre_vote_granted; /* of this round */
    bool vote_granted;               /* of this term, in which we stand */
    struct {
        uint64_t last;
        uint32_t bytes;
    } inflight[RAFT_INFLIGHT_MAX]; /* a ring: APPENDs under way, by the last entry that they carry */
};

/* An answer that is due, other than to our leader's APPEND. */
struct raft_answer {
    uint32_t to; /* 0: none */
    enum raft_msg_type type;
    uint64_t term, sent_ns;
    bool reject;
};

struct raft_run {
    uint64_t first_index, term;
};

/* Of a term that the log has left behind: the last index that had it. */
struct raft_past {
    uint64_t last_index, term;
};
#define RAFT_PAST_MAX 4

struct raft {
    struct raft_config config;
    uint32_t self; /* replica number */
    enum raft_role role;
    uint64_t term; /* current; durable once hard_state_durable says so */
    uint32_t vote;
    uint32_t leader; /* replica number; 0: unknown */
    uint64_t commit_index;
    uint64_t first_index; /* of the log; first_index - 1 is the base, whose term base_term is */
    uint64_t last_index;
    uint64_t base_term;
    uint64_t durable_index; /* of this replica's log */
    uint64_t
        rest_ns;  /* leader: silence beyond the usual that the host's heartbeats now leave, see raft_rest() */
    bool abstain; /* the log cannot be proven whole: no vote, no campaign */
    bool held;    /* the host may drop the entries that it has */
    bool recovering; /* the log is whole, what it was applied to is not: votes, but does not campaign */
    bool joint;      /* the group is */
    uint32_t member_count;

    /* All from here to the members is raft's own. */
    uint32_t run_count, run_cap;
    struct raft_run *runs; /* term runs of [first_index, last_index], ascending */
    uint64_t now_ns, election_deadline_ns;
    struct raft_hard_state taken_hs, durable_hs; /* given to the host to write; written */
    uint64_t matched_index; /* follower: up to here the log is known to agree with the leader of this term */
    uint64_t acked_sent_ns; /* newest sent_ns of an APPEND of this term, to be echoed */
    bool reply_due, reply_reject;
    bool standing; /* a candidate of this term, though it may ask for pre-votes of the next one meanwhile */
    bool transfer_short;  /* the target need not have what is not committed */
    bool transfer_sent;   /* TIMEOUT_NOW may be out: no lease in this term any more */
    uint32_t answers_due; /* of `answers` */
    uint32_t offered_to;  /* the APPEND given out that raft_append_sent() has yet to report on */
    uint32_t transfer_to;
    uint64_t offered_index, offered_last;
    uint64_t leader_since_ns;
    uint64_t term_start_index; /* leader: its first index in this term */
    uint64_t heard_ns;   /* follower: from when on the deadline counts. UINT64_MAX: it is not to be put off */
    uint64_t excused_ns; /* silence before that was excused by raft_away() */
    uint64_t promise_until_ns;
    uint32_t promise_to;                  /* 0: to whom we do not know any more */
    uint32_t campaign_rounds;             /* since a leader was last known */
    uint32_t campaign_flags;              /* RAFT_TRANSFER */
    uint64_t reply_index, reply_log_term; /* of a reject */
    uint64_t transfer_deadline_ns, transfer_sent_ns;
    uint64_t asked_ns; /* when this round of (pre-)votes began */
    uint64_t random_state;

    struct raft_member members[RAFT_MEMBERS_MAX + 1]; /* the group's, and self in any case */
    struct group group;                               /* the newest of the log */
    /* Raft's own, too. */
    struct group group_before; /* the one before it: what it goes back to if its entry is replaced */
    struct raft_answer answers[RAFT_MEMBERS_MAX]; /* full: the asker asks again */
    struct raft_past past[RAFT_PAST_MAX]; /* below the log, since the start, newest first; term 0: none */
};

/* A replica that starts: a follower. `group`: the one in force at the base; valid (group_validate()).
 * `hs` as found on disk; the log begins as empty above (base_index, base_term); raft_restore() then adds what
 * the store found. `seed` randomizes timeouts. `born_now`: the group is new and no promise can exist. */
void raft_init(struct raft *r, const struct raft_config *config, uint32_t self, const struct group *group,
               struct raft_hard_state hs, uint64_t base_index, uint64_t base_term, bool born_now,
               uint64_t seed, uint64_t now_ns);
void raft_fini(struct raft *r);
/* Entries [last_index + 1 .. last] are in the log with this term, durable as far as raft_log_durable() says
 * then; `group`: the last of them sets it, NULL: none of them sets one. Raises the term to theirs, if hs was
 * written too late: look at raft_hard_state_pending() afterwards. */
void raft_restore(struct raft *r, uint64_t last, uint64_t term, const struct group *group);

/* ---- inputs ---- */

/* A message, already validated in form; nothing in it can make raft assert. Returns the index of the first of
 * its entries that must be appended to the log (replacing what is there from that index on), 0 if none.
 * Wrong `to` is dropped, and of senders that are not in our group what only a member may say; a leader or
 * candidate of an old term is told the new one. That senders are who they say they are is for the host to
 * know. Entries after the returned one are appended too: [first, msg->last]. */
uint64_t raft_step(struct raft *r, const struct raft_msg *msg, uint64_t now_ns);

/* Time passes; call at raft_deadline_ns() at the latest. */
void raft_tick(struct raft *r, uint64_t now_ns);
uint64_t raft_deadline_ns(const struct raft *r);
/* Until `back_ns` the host could for a while neither hear anybody nor say anything, and others may have been
 * in the same trouble: if that was during the silence of our leader, or of those that we lead, an election
 * timeout begins anew there; once for each silence, so that a host that is always late comes to leaders, too.
 * Promises and leases last as long as ever. */
void raft_away(struct raft *r, uint64_t back_ns);

/* Leader: takes a new entry's place in the log; its term is r->term. -ERR_NOT_LEADER; -ERR_RETRY while
 * leadership is being handed over. */
MUST_CHECK int raft_propose(struct raft *r, uint64_t *ret_index);
/* Leader: the same for an entry that sets the group (index is ignored, order free). From a group that is not
 * joint, either only learners come or go, or all voters are given as VOTER_OLD and those that are to be as
 * VOTER; then the group is joint, until it is followed by what raft_group_left() says. -ERR_INVALID: it may
 * not follow the one in force; -ERR_RETRY: the one in force is not committed yet, nothing of this term is,
 * or one that is to vote has not caught up or is not in contact. */
MUST_CHECK int raft_propose_group(struct raft *r, const struct group *group, uint64_t *ret_index);
/* Would it be taken now? As raft_propose_group(), without the rest: for a host that asks its store first. */
MUST_CHECK int raft_may_propose_group(struct raft *r, const struct group *group);
/* Leader: the joint group is committed: propose what raft_group_left() says. */
bool raft_group_leave_due(const struct raft *r);
/* The group that follows the joint one in force: without those that were only VOTER_OLD. */
void raft_group_left(const struct raft *r, struct group *ret);
/* A new leader: the next proposal must be a NOOP. Look after every input; nothing of an earlier term can be
 * committed, and no read served, before it is. Others may be proposed right behind it. */
bool raft_noop_due(const struct raft *r);

/* The log of this replica, as it stands now, is durable up to `index`. A write of entries that have been
 * replaced since must not be reported. Lower than before: no effect (raft itself takes the mark back when it
 * replaces entries). */
void raft_log_durable(struct raft *r, uint64_t index);
/* May anything follow from more of our log being durable? Of a leader's nothing does while the others have
 * not acknowledged what is to be committed: the host may then tell raft later, before their next answer is
 * stepped. To be asked anew after each input. */
bool raft_awaits_log(const struct raft *r);
/* May come late and in any order; a candidate may lead by it. */
void raft_hard_state_durable(struct raft *r, struct raft_hard_state hs);

/* Follower: the leader's process said at `received_ns` that it still leads in our term (merged heartbeat),
 * and that its next word comes up to `rest_ns` later than usual: the election timeout is that much longer,
 * the promise is not. */
void raft_leader_alive(struct raft *r, uint32_t leader, uint64_t term, uint64_t commit, uint64_t received_ns,
                       uint64_t rest_ns);
/* Leader of a group without traffic: the host's heartbeats come up to `rest_ns` later than usual, so silence
 * of a member or of a majority means that much less. There is no lease meanwhile. Before the host sets it
 * back to 0, members must have had an election timeout's time to answer heartbeats at the usual pace. */
void raft_rest(struct raft *r, uint64_t rest_ns);
/* Leader: has the member answered lately? Of ourselves: no. */
bool raft_in_contact(const struct raft *r, const struct raft_member *member, uint64_t now_ns);
/* Leader: `replica` answered a message of ours (merged heartbeat) sent at `sent_ns`, and follows us in our
 * term. */
void raft_contact(struct raft *r, uint32_t replica, uint64_t sent_ns);
/* The connection to `replica` broke or was refused. If it leads us: pre-vote as soon as our own promise to it
 * has run out, at once if none runs. `new_incarnation`: a handshake proved that its process was replaced, so
 * its lease is gone and promises to it do not count. If we lead it: probe before sending more. */
void raft_peer_lost(struct raft *r, uint32_t replica, bool new_incarnation, uint64_t now_ns);
/* There is no connection to `replica`: a leader asks it nothing by itself, and does not hand over to it, until
 * there is one, or something of it is heard. So a member that is away costs nothing, in however many groups.
 */
void raft_peer_unreachable(struct raft *r, uint32_t replica);
/* There is one again: a leader that has tried in vain asks it at once. True: this one does. */
bool raft_peer_found(struct raft *r, uint32_t replica);
/* A connection to `replica` broke, and there is another: a leader asks at once what has got there. */
void raft_peer_moved(struct raft *r, uint32_t replica, uint64_t now_ns);

/* Leader: hand leadership to `replica` (0: the most up to date of those in contact). -ERR_NOT_LEADER;
 * -ERR_INVALID: no such voter, or ourselves; -ERR_RETRY: under way already, or it is recovering, silent or
 * unreachable.
 * Proposals are refused and the lease is given up at once; if it has not happened within election_max_ns, and
 * TIMEOUT_NOW was sent, we step down: that term's lease never comes back. */
MUST_CHECK int raft_transfer(struct raft *r, uint32_t replica, uint64_t now_ns);
/* Leader: the same, but the member need not have what is not committed. For when a majority cannot take that:
 * the one of these that has most of the log is elected as it is, if they all lack the rest. */
MUST_CHECK int raft_transfer_short(struct raft *r, uint32_t replica, uint64_t now_ns);

/* The host dropped the log below `first_index`; all of that was committed and durable here. */
void raft_compacted(struct raft *r, uint64_t first_index);
/* The replica recovered: state is that of (index, term); the log is empty above it. The state must come from
 * a leader whose term this replica has reached (an INSTALL or APPEND of it was stepped): acknowledging it to
 * a leader of an older term would not be safe. All of it must be committed, and raft_may_reset_base() must
 * hold: entries that were acknowledged must not get lost with the old log. Tells our leader to go on from
 * here.
 *
 * A replica that votes may only drop a log that ends at or below `index`, or that contradicts the state
 * there: what lies above can then never be committed. One that abstains may drop more: what its leader has
 * been told to forget (raft_member_forgotten()), so all but what it acknowledged since. It goes on abstaining
 * until raft_is_whole() by the target of the recovery: what a raft_member_forgotten() for us returned, in the
 * term of this round, in this life of our process, after raft_set_held() and before the reset. All that was
 * committed by counting us, by this leader or an earlier one, is at or below that target; what we
 * acknowledged and was not counted by then never will be. raft_reset_base() ends raft_set_held(). */
bool raft_may_reset_base(const struct raft *r, uint64_t index, uint64_t term);
/* `group`: the one in force at `index`. */
void raft_reset_base(struct raft *r, uint64_t index, uint64_t term, const struct group *group);
/* Is all that was ever committed by counting us in our log again, which was reset in a round of that term
 * with that target? Up to the target it is. It is, too, with any entry of a later term: its leader was
 * elected without us, by others who have all of it, and what was never committed of the way to the target may
 * be gone with the leader that named it. */
bool raft_is_whole(const struct raft *r, uint64_t target, uint64_t term);
/* A follower whose host could not store some of the entries that raft just took: its log is cut to `index`,
 * the last that the host's store has (at least durable_index), as if the rest had been lost on the way. Also
 * the commit index goes back there, if it was beyond. The host's log must end at `index`, too: old entries
 * that the refused ones were to replace must be dropped there. Nothing happens, and false is returned, if we
 * are none but a follower. Safe, because it leaves what a restart would find: what lies behind durable_index
 * was never acknowledged to anybody, so nobody counted it as ours, and neither commit index nor a longer log
 * was ever promised. No further than behind the entries of the APPEND that was just stepped, so at most one
 * group goes back. The leader is not told by this: it learns it by a rejection, or the host's answer. */
bool raft_cut(struct raft *r, uint64_t index);
/* Sets or clears `abstain`: something that was acknowledged may be missing in the log (damage), so a vote
 * might elect a leader without it. To be cleared when raft_is_whole(). */
void raft_set_abstain(struct raft *r, bool abstain);
/* Sets or clears `recovering`. Such a replica can vote, and must: with two of three recovering, the third
 * could else never be elected again. */
void raft_set_recovering(struct raft *r, bool recovering);
/* Sets or clears `held`: the host may drop the log that it has, for a state that it asks its leader for; to
 * be set before it asks. The commit index stays meanwhile. One that also abstains acknowledges nothing; any
 * other acknowledges as ever, for what is durable is not dropped, and may take entries while no state is on
 * its way. */
void raft_set_held(struct raft *r, bool held);
/* Leader: `replica` recovers, and may have lost what it acknowledged: that does not count any more, nor do
 * acknowledgements of messages sent before now_ns. Returns the target of its recovery: the commit index, or
 * the end of what earlier terms may have committed, while nothing of our own term is; 0: we do not lead. The
 * host calls this in the same step in which it answers a question for its list of objects (each page), and
 * sends the target with the answer. Neither raft_can_read() nor a lease is needed to serve a recovery: a
 * leader whose others are all behind or damaged can commit nothing before they have recovered from it. */
uint64_t raft_member_forgotten(struct raft *r, uint32_t replica, uint64_t now_ns);
/* Leader: make raft_next_msg() produce an empty APPEND to everyone (for ReadIndex when there are no
 * heartbeats). */
void raft_probe(struct raft *r);
/* `msg` is an INSTALL that raft_step() was just given: must this replica recover from msg->from? False for
 * old ones and when the log reaches far enough after all. */
bool raft_install_needed(const struct raft *r, const struct raft_msg *msg);

/* ---- outputs ---- */

/* True if term or vote is newer than what was last taken: write *ret and report raft_hard_state_durable(). */
MUST_CHECK bool raft_hard_state_pending(struct raft *r, struct raft_hard_state *ret);

/* Is r->term on disk? Raft's own messages wait for that; the host must not answer a leader's heartbeat in
 * this term, or say anything else in it, before it is. */
bool raft_term_durable(const struct raft *r);

/* The next message to send, if any. For an APPEND, [index + 1, last] are chosen by window_entries; the host
 * may cut `last` (bytes, what it has at hand; down to `index`: an empty APPEND), must cut it behind an entry
 * that sets the group, and MUST, before the next
 * raft_next_msg(), call raft_append_sent() with what it really sent, or raft_append_failed(). After a cut to
 * nothing the member is asked about again when it has answered the empty APPEND. Commit: followers learn it
 * by the next APPEND or heartbeat; no message is sent for its sake. Losses: an APPEND without answer for 3
 * heartbeats, and a member without contact for election_min_ns, makes an empty APPEND that asks; a member
 * gone for long is asked once per election_max_ns. So the host need not tell of lost messages. */
MUST_CHECK bool raft_next_msg(struct raft *r, uint64_t now_ns, struct raft_msg *ret);
void raft_append_sent(struct raft *r, uint32_t replica, uint64_t last, uint32_t bytes);
/* An APPEND could not be sent at all (link busy or down): go back to `index` + 1 and probe a quarter of a
 * heartbeat later. */
void raft_append_failed(struct raft *r, uint32_t replica, uint64_t index);

/* Leader: newest time such that a majority has answered messages sent at or after it; self counts as now. 0:
 * none. */
uint64_t raft_quorum_contact_ns(const struct raft *r, uint64_t now_ns);
/* A linearizable read may be served at `now_ns` (taken after the request) from state applied to commit_index.
 */
bool raft_lease_valid(const struct raft *r, uint64_t now_ns);
/* Leader that has committed an entry of its own term. */
bool raft_can_read(const struct raft *r);

uint64_t raft_term_at(const struct raft *r, uint64_t index); /* 0 if outside [first_index - 1, last_index] */
/* Is any log that ends with such an entry committed, all of it? Of what is below this log, false may be
 * ignorance. */
bool raft_is_committed(const struct raft *r, uint64_t index, uint64_t term);
const struct raft_member *raft_member(const struct raft *r, uint32_t replica); /* NULL: not a member */

/* What must hold at any time; asserts. Called after every input in debug and simulator builds. */
void raft_check(const struct raft *r);

#endif
