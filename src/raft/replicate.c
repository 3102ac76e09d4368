/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader's side of the log: what each member is sent next, and what is committed.
 *
 *     PROBE      --- the member has what comes before `next` ----------------> REPLICATE
 *     REPLICATE  --- it has not, or has been silent for RESEND heartbeats ---> PROBE
 *     both       --- our log begins after `next` ----------------------------> BEHIND
 *     BEHIND     --- an answer shows that the log reaches it again ----------> PROBE
 *
 * REPLICATE is the normal case: APPENDs go out one behind the other without waiting, within a window of
 * bytes, entries and messages per member, so that a slow member delays nobody and ties up a bounded amount of
 * memory. PROBE sends one and waits. After a rejection it carries entries from where the hint says; after a
 * silence it is empty and asks whether the member has what we sent last: silence is more often a slow disk
 * than a loss, and then nothing is sent twice. BEHIND sends no entries, but INSTALL now and then: our log no
 * longer reaches back far enough.
 *
 * Rejections of messages sent before `next` last went back are old news and ignored (a lost APPEND makes all
 * that were sent behind it be rejected, and each would start the same entries again). `match` only grows:
 * what a member has acknowledged, in our term, is on its disk. The exception is a member that recovers: from
 * the moment that we give it our state (raft_member_forgotten()) it counts for nothing but what it
 * acknowledges in answer to later messages, and if it says that it has less, it is never old news. A member
 * that rejects what it has acknowledged and does not recover has a disk that lies: it is believed, and
 * reported.
 *
 * Committed is what a majority of voters has on disk, our own disk counted like any other, if it is of our
 * own term: entries of earlier terms are committed by the first of ours behind them (Figure 8 of the paper),
 * which is why a leader begins with a NOOP.
 */
#include "raft/internal.h"
#include "base/error.h"
#include "base/plant.h"

enum { RESEND = 3 }; /* heartbeats */

/* `next` goes back to `next`, and nothing from there on counts as under way. */
static void rewind_to(struct raft *r, struct raft_member *m, uint64_t next)
{
    while (m->inflight_count) {
        uint32_t tail = (m->inflight_head + m->inflight_count - 1) % RAFT_INFLIGHT_MAX;

        if (m->inflight[tail].last < next)
            break;
        m->inflight_bytes -= m->inflight[tail].bytes;
        m->inflight_count--;
    }
    m->next = next;
    if (!m->inflight_count)
        m->inflight_base = next - 1;
    m->rewound_ns = r->now_ns;
    m->contact_due = false;
    if (next < r->first_index) {
        m->progress = RAFT_BEHIND;
        m->probe_due = false;
        m->install_due = true;
    } else {
        m->progress = RAFT_PROBE;
        m->install_due = false;
    }
}

void raft_replicate_member(struct raft *r, struct raft_member *m)
{
    m->match = m->replica == r->self ? r->durable_index : 0;
    m->contact_ns = m->wait_ns = m->rewound_ns = m->forgotten_ns = m->acked_ns = 0;
    m->inflight_count = 0;
    m->inflight_bytes = 0;
    m->inflight_base = r->last_index;
    m->next = r->last_index + 1;
    m->progress = RAFT_PROBE;
    m->probe_due = m->replica != r->self;
    m->probe_max = UINT32_MAX;
    m->contact_due = m->install_due = m->timeout_now_due = m->recovering = m->lost = m->unreachable = false;
}

void raft_replicate_start(struct raft *r)
{
    for (uint32_t i = 0; i < r->member_count; i++)
        raft_replicate_member(r, &r->members[i]);
}

/* ---- commit ---- */

void raft_commit_advance(struct raft *r)
{
    uint64_t match[RAFT_MEMBERS_MAX + 1], index;

    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];

        match[i] = PLANT(RAFT_UNDURABLE_SELF) && m->replica == r->self ? r->last_index : m->match;
    }
    index = raft_majority(r, match);
    if (index <= r->commit_index || (index < r->term_start_index && !PLANT(RAFT_COMMIT_OLD_TERM)))
        return;
    r->commit_index = index;
    /* Its last act: the others go on at once, and learn of this commit by the next leader's NOOP. */
    if (raft_leader_is_out(r) && !r->transfer_to && !r->transfer_sent && raft_transfer(r, 0, r->now_ns))
        raft_become_follower(r, r->term, 0);
}

bool raft_awaits_log(const struct raft *r)
{
    uint64_t match[RAFT_MEMBERS_MAX + 1];

    if (r->role != RAFT_LEADER || r->commit_index > r->durable_index)
        return true;
    for (uint32_t i = 0; i < r->member_count; i++)
        match[i] = r->members[i].replica == r->self ? r->last_index : r->members[i].match;
    return raft_majority(r, match) > r->commit_index;
}

int raft_propose(struct raft *r, uint64_t *ret_index)
{
    if (r->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (r->transfer_to || r->transfer_sent)
        return -ERR_RETRY;
    raft_terms_append(r, r->last_index + 1, r->term);
    *ret_index = r->last_index;
    return 0;
}

bool raft_noop_due(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->last_index < r->term_start_index;
}

/* ---- answers ---- */

static void on_reject(struct raft *r, struct raft_member *m, const struct raft_msg *msg)
{
    uint64_t index;
    bool behind = m->progress == RAFT_BEHIND; /* its log reaches ours after all? Then our base may agree */

    if (msg->index < m->match && (m->recovering || msg->sent_ns > m->acked_ns)) {
        m->lost |= !m->recovering;
        m->match = raft_term_at(r, msg->index) == msg->log_term ? msg->index : 0;
    }
    if (msg->sent_ns < m->rewound_ns)
        return;
    if (m->progress == RAFT_BEHIND && msg->index + 1 < r->first_index)
        return;
    /* Below what we still have? Then it may yet agree with our base, if it reaches there; if it has just
     * denied that too, its hint lies below. (first_index > 1 here, or the base would have done.) */
    if (behind && raft_term_at(r, msg->index) != msg->log_term)
        index = r->first_index - 1;
    else if (!raft_terms_floor(r, msg->index, msg->log_term, &index))
        index = r->first_index - (msg->index + 1 >= r->first_index ? 1 : 2);
    if (m->recovering)
        m->match = MIN(m->match, index);
    rewind_to(r, m, MAX(index, m->match) + 1);
    m->probe_due = m->progress == RAFT_PROBE;
    m->probe_max = behind ? 0 : UINT32_MAX;
}

static void on_accept(struct raft *r, struct raft_member *m, const struct raft_msg *msg)
{
    if (msg->index > r->last_index || (msg->sent_ns < m->forgotten_ns && !PLANT(RAFT_OLD_ACK)))
        return;
    m->acked_ns = MAX(m->acked_ns, msg->sent_ns);
    if (msg->index > m->match) {
        m->match = msg->index;
        m->wait_ns = r->now_ns;
        while (m->inflight_count && m->inflight[m->inflight_head].last <= m->match) {
            m->inflight_bytes -= m->inflight[m->inflight_head].bytes;
            m->inflight_base = m->inflight[m->inflight_head].last;
            m->inflight_head = (m->inflight_head + 1) % RAFT_INFLIGHT_MAX;
            m->inflight_count--;
        }
        m->next = MAX(m->next, m->match + 1);
        if (!m->inflight_count)
            m->inflight_base = m->next - 1;
    }
    if (m->progress == RAFT_BEHIND && m->match + 1 >= r->first_index)
        rewind_to(r, m, m->match + 1);
    if (m->progress == RAFT_PROBE && msg->sent_ns >= m->rewound_ns) {
        m->progress = RAFT_REPLICATE;
        m->probe_due = false;
        m->wait_ns = r->now_ns;
    }
    raft_commit_advance(r);
}

void raft_on_append_reply(struct raft *r, struct raft_member *m, const struct raft_msg *msg)
{
    if (r->role != RAFT_LEADER || msg->sent_ns > r->now_ns)
        return;
    if (msg->sent_ns >= r->leader_since_ns)
        m->contact_ns = MAX(m->contact_ns, msg->sent_ns);
    m->unreachable = false;
    m->recovering = msg->flags & RAFT_RECOVERING;
    if (msg->reject)
        on_reject(r, m, msg);
    else
        on_accept(r, m, msg);
    raft_transfer_progress(r);
}

uint64_t raft_member_forgotten(struct raft *r, uint32_t replica, uint64_t now_ns)
{
    struct raft_member *m = raft_member_find(r, replica);

    raft_time(r, now_ns);
    if (r->role != RAFT_LEADER || !m || replica == r->self)
        return 0;
    if (!PLANT(RAFT_NO_FORGET))
        m->match = 0;
    m->recovering = true;
    m->forgotten_ns = r->now_ns;
    raft_transfer_progress(r);
    return MAX(r->commit_index, r->term_start_index - 1);
}

void raft_replicate_lost(struct raft *r, struct raft_member *m)
{
    m->rewound_ns =
        r->now_ns; /* what was sent before is gone, and an answer to it says nothing of what comes */
    if (m->progress == RAFT_REPLICATE) {
        m->progress = RAFT_PROBE;
        m->probe_due = m->contact_due = false;
        m->wait_ns = r->now_ns;
    }
}

void raft_replicate_compacted(struct raft *r)
{
    for (uint32_t i = 0; i < r->member_count; i++) {
        struct raft_member *m = &r->members[i];

        if (m->replica != r->self && m->progress != RAFT_BEHIND && m->next < r->first_index)
            rewind_to(r, m, m->next);
    }
}

/* ---- time ---- */

/* It has all that was sent, as far as we know: only contact is to be kept. */
static bool at_rest(const struct raft_member *m)
{
    return m->progress == RAFT_REPLICATE && !m->inflight_count && m->next == m->match + 1;
}

/* When the silence of a member makes us ask. */
static uint64_t member_deadline(const struct raft *r, const struct raft_member *m)
{
    const struct raft_config *c = &r->config;
    uint64_t contact_ns = MAX(m->contact_ns, r->leader_since_ns);
    bool gone = r->now_ns >= contact_ns + c->election_max_ns + r->rest_ns;

    if (m->replica == r->self || m->probe_due || m->contact_due || m->install_due || m->unreachable)
        return UINT64_MAX;
    if (at_rest(m))
        return MAX(contact_ns, m->wait_ns) + c->election_min_ns + r->rest_ns;
    return m->wait_ns + (gone ? c->election_max_ns : RESEND * c->heartbeat_ns);
}

uint64_t raft_replicate_deadline(const struct raft *r)
{
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t i = 0; i < r->member_count; i++)
        deadline_ns = MIN(deadline_ns, member_deadline(r, &r->members[i]));
    return deadline_ns;
}

static void member_ask(struct raft_member *m)
{
    if (m->progress == RAFT_BEHIND) {
        m->install_due = true;
    } else if (at_rest(m)) {
        m->contact_due = true;
    } else {
        m->progress = RAFT_PROBE;
        /* Nothing sent that it may have: one entry costs little more than a question, and gets on when a
         * member that refused entries takes them again. */
        m->probe_due = true;
        m->probe_max = m->next == m->match + 1;
    }
}

void raft_replicate_tick(struct raft *r)
{
    for (uint32_t i = 0; i < r->member_count; i++) {
        struct raft_member *m = &r->members[i];

        if (r->now_ns >= member_deadline(r, m))
            member_ask(m);
    }
}

void raft_peer_unreachable(struct raft *r, uint32_t replica)
{
    struct raft_member *m = raft_member_find(r, replica);

    if (r->role == RAFT_LEADER && m && replica != r->self)
        m->unreachable = true;
}

bool raft_peer_found(struct raft *r, uint32_t replica)
{
    struct raft_member *m = raft_member_find(r, replica);

    if (r->role != RAFT_LEADER || !m || !m->unreachable)
        return false;
    m->unreachable = false;
    member_ask(m);
    return true;
}

void raft_peer_moved(struct raft *r, uint32_t replica, uint64_t now_ns)
{
    struct raft_member *m = raft_member_find(r, replica);

    raft_time(r, now_ns);
    if (r->role != RAFT_LEADER || !m || replica == r->self)
        return;
    raft_replicate_lost(r, m);
    member_ask(m);
}

/* ---- what to send ---- */

static bool window_open(const struct raft *r, const struct raft_member *m)
{
    return m->next <= r->last_index && m->inflight_count < RAFT_INFLIGHT_MAX &&
           m->inflight_bytes < r->config.window_bytes &&
           m->next - 1 - m->inflight_base < r->config.window_entries;
}

bool raft_append_next(struct raft *r, struct raft_member *m, struct raft_msg *ret)
{
    bool carry = m->progress == RAFT_REPLICATE || (m->probe_due && m->probe_max);
    uint64_t index, last;

    if (m->install_due) {
        m->install_due = false;
        m->wait_ns = r->now_ns;
        *ret = (struct raft_msg){
            .type = RAFT_INSTALL, .term = r->term, .index = r->first_index, .sent_ns = r->now_ns};
        return true;
    }
    if (m->progress == RAFT_BEHIND)
        return false;
    carry = carry && window_open(r, m);
    if (!carry && !m->probe_due && !m->contact_due)
        return false;

    index = m->next - 1;
    last = index;
    if (carry) {
        last = MIN(r->last_index, m->inflight_base + r->config.window_entries);
        if (m->progress == RAFT_PROBE && m->probe_max < last - index)
            last = index + m->probe_max;
    } else if (!m->probe_due && m->match + 1 >= r->first_index) {
        index = last = m->match; /* to be in contact only: what it cannot reject */
    }
    m->contact_due = false;
    m->probe_due = false;
    r->offered_to = m->replica;
    r->offered_index = index;
    r->offered_last = last;
    *ret = (struct raft_msg){
        .type = RAFT_APPEND,
        .term = r->term,
        .index = index,
        .log_term = raft_term_at(r, index),
        .last = last,
        .commit = r->commit_index,
        .sent_ns = r->now_ns,
    };
    return true;
}

void raft_append_sent(struct raft *r, uint32_t replica, uint64_t last, uint32_t bytes)
{
    struct raft_member *m = raft_member_find(r, replica);

    ASSERT(m && r->role == RAFT_LEADER && r->offered_to == replica);
    ASSERT(last >= r->offered_index && last <= r->offered_last);
    r->offered_to = 0;
    if (!m->inflight_count)
        m->wait_ns = r->now_ns;
    if (last > r->offered_index) {
        uint32_t tail = (m->inflight_head + m->inflight_count++) % RAFT_INFLIGHT_MAX;

        m->inflight[tail].last = last;
        m->inflight[tail].bytes = bytes;
        m->inflight_bytes += bytes;
        m->next = last + 1;
    } else if (r->offered_last > last) {
        m->progress = RAFT_PROBE;
    }
    if (m->progress == RAFT_PROBE)
        m->wait_ns = r->now_ns;
}

void raft_append_failed(struct raft *r, uint32_t replica, uint64_t index)
{
    struct raft_member *m = raft_member_find(r, replica);

    if (r->offered_to == replica)
        r->offered_to = 0;
    if (r->role != RAFT_LEADER || !m || m->progress == RAFT_BEHIND)
        return;
    index = MAX(index, m->match);
    rewind_to(r, m, MIN(m->next, index + 1));
    m->probe_due = false;
    /* A link that is full is free again soon: not the whole wait of a loss. */
    m->wait_ns = r->now_ns - MIN(r->now_ns, RESEND * r->config.heartbeat_ns - r->config.heartbeat_ns / 4);
}
