/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups that cost nothing while nothing happens.
 *
 *      AWAKE --- settled, and its heartbeats are as before ---> PARKED
 *      AWAKE <-- anything is to be looked at -------------------- PARKED
 *
 * To an awake group each heartbeat is told, and it has a timer. A parked one is told nothing and has none:
 * what it would have been told is the same for all groups of the pair of shards, and is noted with the pair.
 * Coming back it is told the last of it, and that is all that counts: promises and contacts only move
 * forward. So no word of a parked group is worth less, or more, than if it had been awake.
 *
 * At the leader: what was acknowledged of the group is in the member's copy of the set (heartbeat.h) and was
 * not refused since; each answer that counts is a contact at its send time (peer->contact_ns). Before an
 * answer counts that refuses the group, or shows that the copy is gone, the group comes back.
 *
 * At the member: each heartbeat that was taken is a promise from its receipt on (peer->heard_ns). The group
 * comes back before a heartbeat is taken that changes what the copy says of it.
 *
 * A member to which there is no session does not keep the group awake, if it is one of a minority of the
 * voters: nothing is counted on it, and when there is a session again the group comes back and asks it.
 *
 * When the other side falls silent, all that are parked with it come back, as early as the first of their own
 * timers could have fired; who stands up, and when, is then raft's business as ever.
 *
 * Whoever gives raft anything, or asks it about time, calls pg_unpark() first: the op's step, messages,
 * requests.
 */
#include "osd/pg.h"

#include "base/plant.h"

/* Nothing is under way or due, by what all replicas have in common. */
static bool is_settled(const struct pg *pg)
{
    const struct raft *r = &pg->raft;
    const struct store_pg *sp = pg->sp;

    return !pg->stopping && !list_linked(&pg->op.run) && !pg->op.children && !pg->request_count &&
           !pg->record_writing && !pg->record_wanted && !pg->recover && !pg->catchup &&
           list_empty(&pg->repairs) && list_empty(&pg->looks) && !sp->damaged &&
           sp->record.state == STORE_PG_NORMAL && !r->abstain && !r->recovering && raft_term_durable(r) &&
           r->commit_index == r->last_index && r->durable_index == r->last_index &&
           sp->applied_index == r->last_index && !pg->split_look_ns && !pg->shard->failed;
}

static void park(struct pg *pg)
{
    pg->parked = true;
    pg->shard->awake_count--;
    list_remove(&pg->led);
    timer_cancel(pg->shard->core, &pg->timer);
}

/* ---- leader ---- */

/* As long as a group at rest waits for a member before it does anything about it. */
static bool is_silent(const struct peer *peer, uint64_t now_ns)
{
    return now_ns >= peer->contact_ns + RAFT_CONFIG_DEFAULT.election_min_ns + SHARD_REST_MS * NS_PER_MS;
}

/* The set's entry of the group, acknowledged as it is. */
static struct heartbeat_entry *entry_settled(const struct pg *pg, const struct raft_member *known,
                                             struct peer *peer)
{
    struct heartbeat_entry *entry = heartbeat_out_find(&peer->out, pg->id);
    bool has_all = known->progress == RAFT_REPLICATE && known->match == pg->raft.last_index &&
                   !known->inflight_count && !known->recovering && !known->contact_due;

    return has_all && entry && heartbeat_out_contact(&peer->out, entry) &&
                   entry->group.term == pg->raft.term && entry->group.commit == pg->raft.commit_index
               ? entry
               : NULL;
}

static bool all_vote(const struct raft *r)
{
    for (uint32_t i = 0; i < r->member_count; i++)
        if (r->members[i].flags != GROUP_VOTER)
            return false;
    return true;
}

void pg_park_leader(struct pg *pg, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    struct heartbeat_entry *entries[RAFT_MEMBERS_MAX + 1];
    struct peer *peers[RAFT_MEMBERS_MAX + 1];
    uint32_t count = 0, away = 0;

    /* What was read for a member that lagged is not needed any more. */
    pg_catchup_drop(pg);
    if (!is_settled(pg) || !pg_serves(pg) || r->transfer_to || r->transfer_sent || pg->orders_due ||
        pg->group_due)
        return;
    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *known = &r->members[i];
        if (known->replica == r->self)
            continue;
        peers[count] = pg_peer(pg, known->replica);
        if (known->unreachable && known->flags == GROUP_VOTER && peers[count]) {
            away++;
            continue;
        }
        if (!peers[count] || is_silent(peers[count], now_ns))
            return;
        entries[count] = entry_settled(pg, known, peers[count]);
        if (!entries[count++])
            return;
    }
    /* Who is without a majority stays awake to step down. With members away only groups rest that have
     * nothing but voters, and one majority. */
    if (2 * away >= r->member_count || (away && !all_vote(r)))
        return;
    /* What is left of removed images is asked for until it can be forgotten: not before all are here. */
    if (pg->sp->tombstone_count && !away)
        return;
    for (uint32_t i = 0; i < count; i++) {
        list_remove(&entries[i]->awake);
        peers[i]->led_parked++;
    }
    pg_keep_ring(pg, now_ns);
    park(pg);
}

static void leader_return(struct pg *pg)
{
    for (uint32_t i = 0; i < pg->raft.member_count; i++) {
        uint32_t replica = pg->raft.members[i].replica;
        struct peer *peer = pg_peer(pg, replica);
        if (!peer)
            continue;                    /* ourselves */
        if (!shard_peer_reachable(peer)) /* it may have died while nobody told us */
            raft_peer_unreachable(&pg->raft, replica);
        struct heartbeat_entry *entry = heartbeat_out_find(&peer->out, pg->id);
        if (!entry || list_linked(&entry->awake))
            continue; /* away when the group was parked */
        list_push_back(&peer->out.awake, &entry->awake);
        peer->led_parked--;
        raft_contact(&pg->raft, replica,
                     PLANT(OSD_PARKED_CONTACT) ? core_now_ns(pg->shard->core) : peer->contact_ns);
    }
}

static void unpark_led(struct peer *peer)
{
    if (!peer->led_parked)
        return;
    list_for_each (&peer->out.entries, node) {
        struct pg *pg = pg_find(peer->shard, list_entry(node, struct heartbeat_entry, link)->group.pg);
        if (pg && pg->raft.role == RAFT_LEADER)
            pg_unpark(pg);
    }
}

void pg_unpark_refused(struct peer *peer, const struct wire_heartbeat_reply *reply)
{
    for (uint32_t i = 0; i < reply->refused_count; i++) {
        struct pg *pg = pg_find(peer->shard, reply->refused[i]);
        if (pg)
            pg_unpark(pg);
    }
    if (reply->set_version < peer->out.acked_version)
        unpark_led(peer);
}

/* ---- follower ---- */

void pg_park_follower(struct pg *pg, struct peer *leader, struct heartbeat_heard *heard)
{
    /* One that is busy would be back at once. */
    bool stirred = pg->stirred;

    pg->stirred = false;
    if (stirred || !is_settled(pg) || pg->raft.commit_index < heard->group.commit)
        return;
    pg->leader_peer = leader;
    pg->heard = heard;
    heard->parked = pg;
    list_remove(&heard->link);
    list_push_back(&leader->in.parked, &heard->link);
    park(pg);
}

static void follower_return(struct pg *pg)
{
    struct heartbeat_heard *heard = pg->heard;
    const struct wire_heartbeat_group *group = &heard->group;
    struct peer *peer = pg->leader_peer;

    pg->heard = NULL;
    heard->parked = NULL;
    list_remove(&heard->link);
    list_push_back(&peer->in.awake, &heard->link);
    if (!PLANT(OSD_PARKED_PROMISE))
        raft_leader_alive(&pg->raft, group->from, group->term, group->commit, peer->heard_ns,
                          peer->heard_rest_ns);
}

static void unpark_followed(struct peer *peer)
{
    while (!list_empty(&peer->in.parked))
        pg_unpark(list_entry(peer->in.parked.next, struct heartbeat_heard, link)->parked);
}

void pg_unpark_changes(struct peer *peer, const struct wire_heartbeat *message)
{
    if (heartbeat_in_clears(&peer->in, message))
        unpark_followed(peer);
    for (uint32_t i = 0; i < message->group_count; i++) {
        struct heartbeat_heard *heard = heartbeat_in_find(&peer->in, message->groups[i].pg);
        if (heard && heard->parked)
            pg_unpark(heard->parked);
    }
}

uint64_t pg_parked_silence_ns(const struct peer *peer)
{
    return list_empty(&peer->in.parked)
               ? UINT64_MAX
               : peer->heard_ns + peer->heard_rest_ns + RAFT_CONFIG_DEFAULT.election_min_ns;
}

/* ---- both ---- */

void pg_unpark(struct pg *pg)
{
    if (!pg->parked)
        return;
    pg->parked = false;
    pg->shard->mon.stirred = true;
    pg->shard->awake_count++;
    if (pg->led_term)
        list_push_back(&pg->shard->led, &pg->led);
    if (pg->heard)
        follower_return(pg);
    else
        leader_return(pg);
    pg_timer(pg, core_now_ns(pg->shard->core));
}

void pg_unpark_silent(struct osd_shard *shard, uint64_t now_ns)
{
    map_for_each (&shard->peers, node) {
        struct peer *peer = map_entry(node, struct peer, node);

        if (is_silent(peer, now_ns))
            unpark_led(peer);
        if (now_ns >= pg_parked_silence_ns(peer))
            unpark_followed(peer);
    }
}

bool pg_in_contact(const struct pg *pg, const struct raft_member *member, uint64_t now_ns)
{
    return (pg->parked && !member->unreachable) || raft_in_contact(&pg->raft, member, now_ns);
}
