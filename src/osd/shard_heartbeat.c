/* SPDX-License-Identifier: Apache-2.0
 *
 * Merged heartbeats at work: every 30 ms one frame to each shard that has members of groups which we lead.
 * heartbeat.h explains the sets; here they are filled from the PGs, and what was promised is told to raft.
 *
 * A group without traffic is at rest. A pair of shards whose groups all rest beats every 500 ms only, and
 * says so in each heartbeat, so that followers wait that much longer before they stand up, and the leader
 * before it steps down. There is no lease then: the first read asks the members (ReadIndex), and with the
 * first request the usual pace is back. The slow pace follows upon a heartbeat that said so and was answered;
 * until then the next one comes after 30 ms. Promises last as long as ever, so nothing of this bears on
 * safety; a leader that hangs while its groups rest is replaced within a second.
 *
 * Wake-ups are what an idle shard costs, so a slow heartbeat leaves early with any other, also with those
 * that answer a neighbour's: all shards of a cluster at rest come to beat at the same moments. And what a
 * heartbeat says about a group moves the group's timer (pg_heard), which otherwise would fire in vain.
 *
 * The receiver looks at every group of the set that is awake with every heartbeat, not just at those in the
 * message: whether it still follows that leader in that term decides between acknowledging and refusing. What
 * is parked (pg_park.c) costs nothing on either side.
 */
#include "osd/pg.h"

#include <inttypes.h>

#include "base/error.h"

_Static_assert(WIRE_REFUSED_MAX >= STORE_PGS_MAX, "a shard can refuse all that it has");

static void heartbeat_step(struct op *op);
static const struct op_kind heartbeat_kind = {"osd.heartbeat", NULL, heartbeat_step};

void shard_heartbeat_start(struct osd_shard *shard)
{
    shard->heartbeat.shard = shard;
    shard->heartbeat.soon_ns = UINT64_MAX;
    op_start(&shard->heartbeat.op, shard->core, &heartbeat_kind, NULL);
}

void shard_heartbeat_traffic(struct pg *pg)
{
    struct osd_shard *shard = pg->shard;
    uint64_t now_ns = core_recent_ns(shard->core);

    if (now_ns - pg->traffic_ns >= SHARD_REST_AFTER_NS) {
        pg->woken_ns = now_ns;
        for (uint32_t i = 0; i < pg->member_count; i++)
            if (pg->members[i].peer)
                pg->members[i].peer->busy = true;
    }
    pg->traffic_ns = now_ns;
    shard_heartbeat_soon(shard);
}

void shard_heartbeat_soon(struct osd_shard *shard)
{
    struct timer *timer = &shard->heartbeat.timer;
    uint64_t now_ns = core_recent_ns(shard->core);

    if (!timer_armed(timer))
        return;
    if (timer->deadline_ns > now_ns + SHARD_HEARTBEAT_NS)
        timer_arm(shard->core, timer, &shard->heartbeat.op, now_ns);
    /* Also if it would have fired in time by chance, for somebody's silence. */
    shard->heartbeat.soon_ns = MIN(shard->heartbeat.soon_ns, timer->deadline_ns);
}

void shard_heartbeat_by(struct osd_shard *shard, uint64_t at_ns)
{
    struct timer *timer = &shard->heartbeat.timer;

    if (timer_armed(timer) && timer->deadline_ns > at_ns)
        timer_arm(shard->core, timer, &shard->heartbeat.op, at_ns);
}

/* A group at rest, and one that was until a moment ago and whose members have yet to answer, excuse silence.
 */
static bool group_rests(struct pg *pg, uint64_t now_ns)
{
    struct raft *r = &pg->raft;
    bool rests = now_ns - pg->traffic_ns >= SHARD_REST_AFTER_NS && r->commit_index == r->last_index;

    if (rests)
        raft_rest(r, SHARD_REST_MS * NS_PER_MS);
    else if (now_ns - pg->woken_ns >= r->config.election_max_ns)
        raft_rest(r, 0);
    return rests;
}

/* The commit index goes out only as far as the member is known to have the log: it needs no proof of its own
 * then. */
static void groups_collect(struct osd_shard *shard, uint64_t now_ns)
{
    map_for_each (&shard->peers, node)
        map_entry(node, struct peer, node)->busy = false;
    list_for_each_safe (&shard->led, node) {
        struct pg *pg = list_entry(node, struct pg, led);
        if (pg->led_term != pg->raft.term || pg->raft.role != RAFT_LEADER || pg->stopping)
            continue;
        bool rests = group_rests(pg, now_ns);
        for (uint32_t i = 0; i < pg->member_count; i++) {
            struct pg_member *member = &pg->members[i];
            if (!member->peer)
                continue;
            member->peer->busy |=
                !rests || raft_member(&pg->raft, member->replica)->match < pg->raft.last_index;
            struct wire_heartbeat_group group = {
                .pg = pg->id,
                .term = pg->raft.term,
                .commit = MIN(pg->raft.commit_index, raft_member(&pg->raft, member->replica)->match),
                .from = pg->replica,
                .to = member->replica,
            };
            /* Without memory the group has no contact by heartbeats for now; APPENDs still make some. */
            (void)!heartbeat_out_set(&member->peer->out, &group);
        }
        if (rests)
            pg_park_leader(pg, now_ns);
    }
}

static void heartbeat_send(struct osd_shard *shard, struct peer *peer)
{
    struct shard_heartbeat *heartbeat = &shard->heartbeat;
    struct wire_heartbeat message;

    heartbeat_out_next(&peer->out, &message, heartbeat->groups);
    message.incarnation = shard->self.incarnation;
    message.sent_ns = core_now_ns(shard->core);
    peer->beat_rests = !peer->busy;
    message.rest_ms = peer->beat_rests ? SHARD_REST_MS : 0;
    size_t len = wire_heartbeat_size(&message);
    ASSERT(FRAME_HEADER_SIZE + len <= sizeof(heartbeat->frame));
    wire_heartbeat_encode(rpc_body(heartbeat->frame), &message);
    /* Patient: it is sent, and answered, well before anybody misses it. */
    if (!shard_peer_send(peer, METHOD_HEARTBEAT, true, rpc_body(heartbeat->frame), (uint32_t)len, NULL, 0))
        shard->perf.heartbeats_sent++;
}

/* The last heartbeat to this peer announced that the next one comes late, and was answered; or none can be
 * sent. */
static bool heartbeat_slow(const struct peer *peer)
{
    if (!shard_peer_reachable(peer))
        return true;
    return !peer->busy && peer->beat_rests && peer->out.answered_seq == peer->out.seq &&
           peer->out.acked_version == peer->out.version;
}

/* When the next heartbeat to this peer is due. */
static uint64_t heartbeat_due_ns(const struct peer *peer)
{
    return peer->beat_ns + SHARD_HEARTBEAT_NS + (heartbeat_slow(peer) ? SHARD_REST_MS * NS_PER_MS : 0);
}

/* How much earlier it may leave, with the others, to wake up once. */
static uint64_t heartbeat_slack_ns(const struct peer *peer)
{
    return SHARD_HEARTBEAT_NS / 2 + (heartbeat_slow(peer) ? SHARD_REST_MS * NS_PER_MS / 2 : 0);
}

static void heartbeat_timer(struct osd_shard *shard, uint64_t now_ns)
{
    uint64_t next_ns = MIN(shard->heartbeat.soon_ns, now_ns + SHARD_HEARTBEAT_NS + SHARD_REST_MS * NS_PER_MS);
    uint64_t silence_ns = UINT64_MAX;

    map_for_each (&shard->peers, node) {
        const struct peer *peer = map_entry(node, struct peer, node);
        silence_ns = MIN(silence_ns, MIN(pg_parked_silence_ns(peer), shard_carrier_due_ns(peer)));
        if (heartbeat_out_due(&peer->out))
            next_ns = MIN(next_ns, heartbeat_due_ns(peer));
    }
    shard->heartbeat.next_ns = next_ns;
    timer_arm(shard->core, &shard->heartbeat.timer, &shard->heartbeat.op, MIN(next_ns, silence_ns));
}

static void heartbeat_step(struct op *op)
{
    struct shard_heartbeat *heartbeat = container_of(op, struct shard_heartbeat, op);
    struct osd_shard *shard = heartbeat->shard;
    uint64_t now_ns = core_now_ns(shard->core);

    if (op->cancelled) {
        timer_cancel(op->core, &heartbeat->timer);
        op_done(op, 0);
        shard_op_ended(shard);
        return;
    }
    if (timer_armed(&heartbeat->timer))
        return;
    if (!shard->serving || shard_mute(shard)) {
        timer_arm(op->core, &heartbeat->timer, op, now_ns + SHARD_HEARTBEAT_NS);
        return;
    }
    heartbeat->soon_ns = UINT64_MAX;
    pg_unpark_silent(shard, now_ns);
    groups_collect(shard, now_ns);
    map_for_each (&shard->peers, node) {
        struct peer *peer = map_entry(node, struct peer, node);
        shard_carrier_watch(peer, now_ns);
        if (!heartbeat_out_due(&peer->out))
            continue;
        uint64_t due_ns = heartbeat_due_ns(peer);
        if (due_ns > now_ns + heartbeat_slack_ns(peer))
            continue;
        heartbeat_send(shard, peer);
        /* At a steady pace, but never two at once after a pause. */
        peer->beat_ns = MAX(MIN(due_ns, now_ns), now_ns - SHARD_HEARTBEAT_NS / 2);
    }
    heartbeat_timer(shard, now_ns);
}

/* By when the next heartbeat should have come, with some slack, after one that announced a pace slower by
 * `rest_ns`. */
static uint64_t next_beat_ns(uint64_t now_ns, uint64_t rest_ns)
{
    return now_ns + 2 * SHARD_HEARTBEAT_NS + rest_ns;
}

/* Tells the group's raft that its leader is alive. True: it follows that leader in that term, and has
 * promised. Not while the term may yet be forgotten by a crash, and the promise with it. */
static bool group_alive(struct pg *pg, const struct wire_heartbeat_group *group, struct peer *peer,
                        uint64_t now_ns, uint64_t rest_ns)
{

    /* What an old leader says wakes nobody up. */
    if (!pg || pg->raft.term != group->term || !pg_addressed(peer, group->pg, group->from, group->to))
        return false;
    struct raft *r = &pg->raft;
    uint64_t commit = r->commit_index;
    bool followed = r->leader == group->from;

    raft_leader_alive(r, group->from, group->term, group->commit, now_ns, rest_ns);
    if (r->commit_index != commit || !followed)
        pg_touched(pg);
    pg_heard(pg, now_ns, next_beat_ns(now_ns, rest_ns));
    return r->role == RAFT_FOLLOWER && r->leader == group->from && r->term == group->term &&
           raft_term_durable(r);
}

void shard_heartbeat_receive(struct peer *peer, const struct rpc_message *in)
{
    struct osd_shard *shard = peer->shard;
    struct shard_heartbeat *heartbeat = &shard->heartbeat;
    struct wire_heartbeat message;
    uint64_t now_ns = core_now_ns(shard->core);
    int error = wire_heartbeat_decode(in->body, in->body_len, &message, heartbeat->groups);

    if (error) {
        core_log(shard->core, LOG_ERROR, "osd", "heartbeat from osd.%u shard %u: %s", peer->osd, peer->number,
                 error_text(error));
        return;
    }
    shard->perf.heartbeats_received++;
    if (message.incarnation < peer->incarnation || shard->failed || !shard->serving)
        return;
    pg_unpark_changes(peer, &message);
    if (!heartbeat_in_take(&peer->in, &message))
        return;
    struct wire_heartbeat_reply reply = {
        .incarnation = message.incarnation,
        .seq = message.seq,
        .sent_ns = message.sent_ns,
        .set_version = peer->in.version,
        .refused = heartbeat->refused,
    };
    uint64_t rest_ns = MIN(message.rest_ms, SHARD_REST_MS) * NS_PER_MS;
    bool all = true;
    peer->heard_ns = now_ns;
    peer->heard_rest_ns = rest_ns;
    list_for_each_safe (&peer->in.awake, node) {
        struct heartbeat_heard *heard = list_entry(node, struct heartbeat_heard, link);
        struct pg *pg = pg_find(shard, heard->group.pg);
        if (group_alive(pg, &heard->group, peer, now_ns, rest_ns))
            pg_park_follower(pg, peer, heard);
        else if (reply.refused_count == WIRE_REFUSED_MAX)
            all = false;
        else
            heartbeat->refused[reply.refused_count++] = heard->group.pg;
    }
    if (!all)
        return; /* more than a shard can have; an answer that named some of them would acknowledge the others
                 */
    size_t len = wire_heartbeat_reply_size(&reply);
    ASSERT(FRAME_HEADER_SIZE + len <= sizeof(heartbeat->frame));
    wire_heartbeat_reply_encode(rpc_body(heartbeat->frame), &reply);
    /* Ours leave in the same turn when they may: shards at rest wake up together. */
    struct timer *timer = &heartbeat->timer;
    if (rest_ns && timer_armed(timer) && heartbeat->next_ns <= now_ns + SHARD_REST_MS * NS_PER_MS / 2)
        timer_arm(shard->core, timer, &heartbeat->op, now_ns);
    else if (timer_armed(timer) &&
             (timer->deadline_ns < heartbeat->next_ns || timer->deadline_ns > pg_parked_silence_ns(peer)))
        heartbeat_timer(shard, now_ns);
    /* A lost answer is a lost heartbeat. */
    (void)!shard_peer_send(peer, METHOD_HEARTBEAT_REPLY, true, rpc_body(heartbeat->frame), (uint32_t)len,
                           NULL, 0);
}

void shard_heartbeat_reply_receive(struct peer *peer, const struct rpc_message *in)
{
    struct osd_shard *shard = peer->shard;
    struct wire_heartbeat_reply reply;
    int error = wire_heartbeat_reply_decode(in->body, in->body_len, &reply, shard->heartbeat.reply_refused);

    if (error) {
        core_log(shard->core, LOG_ERROR, "osd", "heartbeat reply from osd.%u shard %u: %s", peer->osd,
                 peer->number, error_text(error));
        return;
    }
    uint64_t now_ns = core_now_ns(shard->core);
    if (reply.incarnation != shard->self.incarnation || reply.sent_ns > now_ns)
        return;
    shard_elections_pace(shard, reply.sent_ns, now_ns);
    pg_unpark_refused(peer, &reply);
    if (!heartbeat_out_answer(&peer->out, &reply))
        return;
    peer->contact_ns = MAX(peer->contact_ns, reply.sent_ns);
    list_for_each (&peer->out.awake, node) {
        const struct heartbeat_entry *entry = list_entry(node, struct heartbeat_entry, awake);
        struct pg *pg = pg_find(shard, entry->group.pg);

        if (!pg || pg->raft.term != entry->group.term || pg->raft.role != RAFT_LEADER)
            continue;
        if (heartbeat_out_contact(&peer->out, entry)) {
            raft_contact(&pg->raft, entry->group.to, reply.sent_ns);
            pg_heard(pg, now_ns, next_beat_ns(now_ns, pg->raft.rest_ns));
            if (!list_empty(&pg->reading))
                pg_wake(pg);
        } else if (heartbeat_out_refused(&peer->out, entry)) {
            /* It does not know that we lead, or follows somebody else: an APPEND finds out. */
            raft_probe(&pg->raft);
            pg_wake(pg);
        }
    }
    /* Now that it is answered the next one comes late, perhaps. */
    if (peer->beat_rests && timer_armed(&shard->heartbeat.timer))
        heartbeat_timer(shard, now_ns);
}
