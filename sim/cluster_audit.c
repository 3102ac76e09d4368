/* SPDX-License-Identifier: Apache-2.0
 *
 * What the processes keep of themselves, looked at between two steps, whatever they are at. Nothing here
 * knows of a single bug:
 *
 *  - Who waits waits for something. An op that is not to be stepped has a timer, or is in somebody's list for
 * a reason that still holds; a wake-up that gets lost would else be hidden by whoever asks again.
 *  - What is counted is what there is: bytes and ops that requests hold, groups that are awake, turns,
 * sessions, and all that stores count.
 */
#include "sim/cluster.h"

#include <string.h>

#include "base/hash.h"
#include "client/impl.h"
#include "mon/impl.h"
#include "osd/pg.h"
#include "rpc/session.h"
#include "sim/cluster_load.h"
#include "sim/store_audit.h"

#define ULL(x) ((unsigned long long)(x))
/* A request of a shard that waits for others: a merge, a majority, the commit. */
#define REQUEST_MAX_NS (2 * PG_WAIT_NS + PG_COMMIT_NS + NS_PER_S)
#define PIECE_LATE_NS  (2 * NS_PER_S) /* after its deadline */
#define CALL_LATE_NS   (20 * NS_PER_MS)
#define ROOM_KNOWN_NS  (500 * NS_PER_MS)
#define LOOKED_NS      (5 * NS_PER_MS) /* it is looked at every two */
#define STORE_EVERY    4               /* times that tables are looked at */

static bool is_kind(const struct op *op, const char *name)
{
    return !strcmp(op->kind->name, name);
}

/* It is stepped at once, or when something ends that it has begun. */
static bool goes_on(const struct op *op)
{
    return list_linked(&op->run) || op->children;
}

static void waits_in_vain(struct cluster *c, const char *who, const struct op *op)
{
    const char *state = op->kind->state_name ? op->kind->state_name(op->state) : "";

    sim_fail(c->sim, "%s: an op %s/%s (%d) waits for nothing", who, op->kind->name, state, op->state);
}

bool audit_is_behind(const struct sim_node *node)
{
    return node->state != SIM_NODE_UP ||
           core_next_deadline_ns(&node->core) + NS_PER_MS < sim_node_now_ns(node);
}

static uint32_t list_count(const struct list *list)
{
    uint32_t count = 0;

    list_for_each (list, node)
        count++;
    return count;
}

/* ---- requests at a shard ---- */

enum { WRITE_BLOCKED = 1, WRITE_PROPOSED = 4, READ_WAIT = 1, ATTACH_PROPOSED = 1 }; /* states of pg_*.c */

static bool overlap(const struct pg_request *a, const struct pg_request *b)
{
    return a->image == b->image && a->object == b->object &&
           a->first_block < b->first_block + b->block_count &&
           b->first_block < a->first_block + a->block_count;
}

static bool merges_before(const struct pg_request *req)
{
    list_for_each (&req->pg->merging, node) {
        if (overlap(req, list_entry(node, struct pg_request, link)))
            return true;
    }
    return false;
}

/* Of two requests that merge with the same block at once one would undo the other. */
static bool merges_collide(const struct pg *pg)
{
    list_for_each (&pg->merging, node)
        for (const struct list *at = node->next; at != &pg->merging; at = at->next)
            if (overlap(list_entry(node, struct pg_request, link), list_entry(at, struct pg_request, link)))
                return true;
    return false;
}

/* Its entry is not applied yet, or its group is about to tell it. */
static bool proposed_waits(const struct pg_request *req)
{
    const struct pg *pg = req->pg;

    return list_linked(&req->link) && !req->committed && !req->error &&
           (req->index > pg->sp->applied_index || goes_on(&pg->op));
}

static bool request_waits(const struct op *op)
{
    const struct pg_request *req = container_of(op, struct pg_request, op);

    if (is_kind(op, "osd.write") && op->state == WRITE_BLOCKED)
        return list_linked(&req->link) && timer_armed(&req->timer) && merges_before(req);
    if (is_kind(op, "osd.write") && op->state == WRITE_PROPOSED)
        return proposed_waits(req);
    if (is_kind(op, "osd.attach") && op->state == ATTACH_PROPOSED)
        return proposed_waits(req);
    if (is_kind(op, "osd.read") && op->state == READ_WAIT)
        return list_linked(&req->link) && timer_armed(&req->timer);
    return false;
}

static void audit_requests(struct cluster *c, const struct osd_shard *shard, const char *who, uint64_t now_ns)
{
    uint64_t bytes = 0;
    uint32_t count = 0;

    list_for_each (&shard->core->live_ops, node) {
        const struct op *op = list_entry(node, struct op, live);
        if (!is_kind(op, "osd.write") && !is_kind(op, "osd.read") && !is_kind(op, "osd.attach"))
            continue;
        const struct pg_request *req = container_of(op, struct pg_request, op);
        bytes += req->held_bytes;
        count++;
        if (goes_on(op))
            continue;
        if (!request_waits(op))
            waits_in_vain(c, who, op);
        else if (now_ns > MAX(req->taken_ns, shard->core->back_ns) + REQUEST_MAX_NS)
            sim_fail(c->sim, "%s keeps a request (%s/%d) for too long", who, op->kind->name, op->state);
    }
    if (bytes != shard->request_bytes || count != pool_out_count(&shard->requests))
        sim_fail(c->sim, "%s: %u requests hold %llu bytes; it counts %llu, of %llu", who, count, ULL(bytes),
                 ULL(pool_out_count(&shard->requests)), ULL(shard->request_bytes));
}

/* ---- elections ---- */

static bool reaches_majority(const struct pg *pg)
{
    uint32_t voters = 0, there = 0;

    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct pg_member *member = &pg->members[i];
        const struct raft_member *known = raft_member(&pg->raft, member->replica);
        if (!known || !known->flags)
            continue;
        voters++;
        there += !member->peer || shard_peer_reachable(member->peer);
    }
    return 2 * there > voters;
}

/* Who can ask no majority begins no round on a turn: others would wait for it. */
static void audit_turn(struct cluster *c, const struct pg *pg, const char *who, uint64_t now_ns)
{
    uint64_t key = hash_pair(hash_pair(pg->id, pg->replica), pg->shard->label.start_counter);
    uint64_t *alone_ns = check_note(c, key, 0), *looked_ns = check_note(c, hash_pair(key, 1), 0);
    uint64_t *asked_ns = check_note(c, hash_pair(key, 7), 0);
    bool looked = *looked_ns && now_ns - *looked_ns <= LOOKED_NS;

    *looked_ns = now_ns;
    if (pg->election != PG_ELECTION_STANDING || reaches_majority(pg))
        *alone_ns = 0;
    else if (!*alone_ns || !looked)
        *alone_ns = *asked_ns = now_ns;
    else if (pg->raft.role == RAFT_PRE_CANDIDATE && pg->raft.asked_ns > *asked_ns) {
        /* Once a link may have come and gone between two looks. */
        if (*asked_ns > *alone_ns)
            sim_fail(c->sim, "%s: PG %llx reaches no majority and has a turn in the elections", who,
                     ULL(pg->id));
        *asked_ns = pg->raft.asked_ns;
    }
}

/* In front stand those that have not had theirs. One that was told to stand may be a candidate all the same.
 */
static void audit_fresh(struct cluster *c, const struct list *fresh, const char *who)
{
    list_for_each (fresh, node) {
        const struct pg *pg = list_entry(node, struct pg, election_link);
        if (pg->raft.campaign_rounds && pg->raft.role == RAFT_PRE_CANDIDATE)
            sim_fail(c->sim, "%s: PG %llx has had its turn and stands in front of those that have not", who,
                     ULL(pg->id));
    }
}

/* ---- groups of a shard ---- */

static uint32_t members_away(const struct pg *pg)
{
    uint32_t away = 0;

    for (uint32_t i = 0; i < pg->raft.member_count; i++)
        away += pg->raft.members[i].unreachable;
    return away;
}

/* A leader that knows that a voter has no room for a write, and knows nothing else since, proposes none. */
static void audit_room(struct cluster *c, const struct pg *pg, const char *who, uint64_t now_ns)
{
    uint64_t key = hash_pair(hash_pair(pg->id, pg->replica), pg->shard->label.start_counter), lacks = 0;
    uint64_t *lacked = check_note(c, hash_pair(key, 2), 0), *last = check_note(c, hash_pair(key, 3), 0);
    uint64_t *since_ns = check_note(c, hash_pair(key, 4), 0);
    uint64_t *once_ns = check_note(c, hash_pair(key, 5), 0), *twice_ns = check_note(c, hash_pair(key, 6), 0);
    bool taken = false;
    struct entry entry;
    struct slice payload;

    for (uint32_t i = 0; i < pg->member_count && pg->raft.role == RAFT_LEADER; i++) {
        const struct peer *peer = pg->members[i].peer;
        const struct raft_member *known = raft_member(&pg->raft, pg->members[i].replica);
        if (peer && known && known->flags && peer->free_bytes < PG_SPACE_MARGIN &&
            raft_in_contact(&pg->raft, known, now_ns + LOOKED_NS))
            lacks = hash_pair(hash_pair(lacks, i), hash_pair(peer->free_bytes, pg->raft.term));
    }
    if (lacks != *lacked)
        *since_ns = now_ns;
    /* What was taken on before may read the rest of its blocks first. */
    bool known = lacks && now_ns > *since_ns + ROOM_KNOWN_NS;
    for (uint64_t i = *last + 1; known && i <= pg->sp->last_index; i++)
        taken |= !store_log_get(pg->sp, i, &entry, &payload) && entry.type == ENTRY_WRITE;
    /* Once it may be between two words of the member that were heard since the last look, the second as
     * before (cluster, seed 47 with --profile full, of c9c9355), and where it says now this and now that also
     * again (1494162), but not one time after the other. */
    if (taken && *twice_ns && now_ns - *twice_ns < ROOM_KNOWN_NS)
        sim_fail(c->sim, "%s: PG %llx takes writes for which a member has no room", who, ULL(pg->id));
    if (taken) {
        *twice_ns = *once_ns;
        *once_ns = now_ns;
    }
    *lacked = lacks;
    *last = pg->sp->last_index;
}

/* What a group that rests owes nobody: its log, the tombstones of what was removed, the office of a leader
 * that nobody follows. */
static void audit_parked(struct cluster *c, const struct pg *pg, const char *who)
{
    uint32_t away = members_away(pg);

    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct peer *peer = pg->members[i].peer;
        const struct heartbeat_entry *entry = peer ? heartbeat_out_find(&peer->out, pg->id) : NULL;
        if (entry && !list_linked(&entry->awake) && heartbeat_out_refused(&peer->out, entry))
            sim_fail(c->sim, "%s: PG %llx is parked and is refused by osd.%u", who, ULL(pg->id), peer->osd);
    }
    if (pg->sp->wanted_index)
        sim_fail(c->sim, "%s: PG %llx is parked and keeps its log from entry %llu on", who, ULL(pg->id),
                 ULL(pg->sp->wanted_index));
    if (pg->sp->tombstone_count && !away)
        sim_fail(c->sim, "%s: PG %llx is parked and has not forgotten what was removed", who, ULL(pg->id));
    if (2 * away >= pg->raft.member_count)
        sim_fail(c->sim, "%s: PG %llx is parked and leads without a majority", who, ULL(pg->id));
}

static void audit_groups(struct cluster *c, const struct osd_shard *shard, const char *who, uint64_t now_ns)
{
    uint32_t awake = 0, led = 0, turns = 0, waiting = 0, requests = 0;
    uint64_t bytes = 0;

    map_for_each (&shard->pgs, node) {
        const struct pg *pg = map_entry(node, struct pg, node);
        awake += !pg->parked;
        led += pg->led_term && !pg->parked;
        turns += pg->election == PG_ELECTION_CALLED || pg->election == PG_ELECTION_STANDING;
        waiting += pg->election == PG_ELECTION_WAITING;
        requests += pg->request_count;
        audit_turn(c, pg, who, now_ns);
        if (merges_collide(pg))
            sim_fail(c->sim, "%s: PG %llx merges with the same block twice at once", who, ULL(pg->id));
        bytes += pg->request_bytes;
        if (pg->parked ? timer_armed(&pg->timer)
                       : !pg->stopping && !timer_armed(&pg->timer) && !goes_on(&pg->op))
            sim_fail(c->sim, "%s: PG %llx is %s", who, ULL(pg->id),
                     pg->parked ? "parked and has a timer" : "awake and nothing wakes it");
        if (pg->parked && pg->led_term)
            audit_parked(c, pg, who);
        if (c->profile == PROFILE_FULL)
            audit_room(c, pg, who, now_ns);
    }
    const struct shard_elections *e = &shard->elections;
    uint32_t queued = list_count(&e->wanted.fresh) + list_count(&e->wanted.failed) +
                      list_count(&e->waiting.fresh) + list_count(&e->waiting.failed);
    if (awake != shard->awake_count || led != list_count(&shard->led))
        sim_fail(c->sim, "%s: %u groups are awake, %u of them led; it counts %u and %u", who, awake, led,
                 shard->awake_count, list_count(&shard->led));
    if (turns != e->taken || waiting != queued || (queued && e->taken < e->max))
        sim_fail(c->sim, "%s: %u of %u turns are taken, %u groups wait; it counts %u and %u", who, turns,
                 e->max, waiting, e->taken, queued);
    audit_fresh(c, &e->wanted.fresh, who);
    audit_fresh(c, &e->waiting.fresh, who);
    if (requests != pool_out_count(&shard->requests) || bytes != shard->request_bytes)
        sim_fail(c->sim, "%s: its groups count %u requests of %llu bytes", who, requests, ULL(bytes));
}

/* ---- recoveries of a shard, and those that it serves ---- */

enum { SERVE_READ = 2 }; /* a state of recover_serve.c: it may have a turn */

static void audit_recoveries(struct cluster *c, const struct osd_shard *shard, const char *who)
{
    const struct recover_turns *turns = &shard->turns;
    uint32_t recover = 0, reads = 0;

    list_for_each (&shard->core->live_ops, node) {
        const struct op *op = list_entry(node, struct op, live);
        recover += is_kind(op, "osd.recover");
        reads += is_kind(op, "osd.recover-serve") && op->state == SERVE_READ;
    }
    if (shard->recoveries > recover || turns->active > reads ||
        turns->waiting_count != list_count(&turns->waiting))
        sim_fail(c->sim, "%s has %u recoveries and serves %u; it counts %u and %u", who, recover, reads,
                 shard->recoveries, turns->active);
}

/* ---- stores ---- */

static bool copies(const struct osd_shard *shard)
{
    list_for_each (&shard->core->live_ops, node) {
        const struct op *op = list_entry(node, struct op, live);
        if (is_kind(op, "osd.recover-copy") || is_kind(op, "store.repair"))
            return true;
    }
    return false;
}

/* One after the other, and not each time: it looks at all of a store. */
static void audit_store(struct cluster *c, const struct shard_at *at)
{
    uint32_t turn = c->audits / STORE_EVERY % (c->osd_count * c->shard_count);

    if (c->audits % STORE_EVERY == 0 && at->osd * c->shard_count + at->shard == turn && !copies(at->is))
        (void)store_audit(c->sim, osd_shard_store(at->is));
}

/* ---- sessions of a shard ---- */

/* Of one who comes again only the newest session counts, and that is remembered: numbers go up, and each is
 * given once. */
static void audit_newest(struct cluster *c, const struct osd_shard *shard, const struct rpc_session *s,
                         const char *who)
{
    uint64_t number = s->who.role == RPC_CLIENT ? s->who.session : s->who.incarnation;
    uint64_t id = hash_bytes(s->who.role, s->seen->id, sizeof(s->seen->id));
    uint64_t key =
        hash_pair(hash_pair(shard->label.osd, shard->number), hash_pair(shard->label.start_counter, id));
    uint64_t *highest = check_note(c, hash_pair(key, 4), number);
    uint64_t *accepted = check_note(c, hash_pair(key, 5), s->accepted_ns);

    if (number != s->seen->highest || number < *highest)
        sim_fail(c->sim, "%s has session %llu of %s, remembers %llu, and had %llu", who, ULL(number),
                 s->who.name, ULL(s->seen->highest), ULL(*highest));
    else if (s->who.role == RPC_CLIENT && number == *highest && s->accepted_ns != *accepted)
        sim_fail(c->sim, "%s has had two sessions %llu of %s", who, ULL(number), s->who.name);
    *highest = number;
    *accepted = s->accepted_ns;
}

/* Nor is it forgotten when its session has ended. A table that is full forgets who has none. */
static void audit_seen(struct cluster *c, const struct osd_shard *shard, const struct rpc_seen_table *table,
                       uint32_t role, const char *who)
{
    map_for_each (&table->by_id, node) {
        const struct rpc_seen *seen = map_entry(node, struct rpc_seen, by_id);
        uint64_t key = hash_pair(hash_pair(shard->label.osd, shard->number),
                                 hash_pair(shard->label.start_counter, hash_bytes(role, seen->id, 16)));
        uint64_t *highest = check_note(c, hash_pair(key, 6), seen->highest);
        if (seen->highest < *highest && table->used < table->max)
            sim_fail(c->sim, "%s has seen session %llu and goes by session %llu", who, ULL(*highest),
                     ULL(seen->highest));
        *highest = seen->highest;
    }
}

static void audit_sessions(struct cluster *c, const struct osd_shard *shard, const char *who)
{
    static const uint8_t no_uuid[16];
    const struct rpc_server *server = shard->server;
    uint32_t open = 0, clients = 0, held = 0;

    list_for_each (&server->sessions, node) {
        const struct rpc_session *s = list_entry(node, struct rpc_session, all);
        const Fb__Osd *osd = s->who.role == RPC_OSD ? shard_map_osd(shard, s->who.osd) : NULL;
        const struct peer *peer = osd ? s->context : NULL;
        /* Another one than the one that counts may be left, on a link that is dead: nobody is heard by it. */
        if (peer && osd->removed && peer->session == s)
            sim_fail(c->sim, "%s listens to osd.%u, which was removed", who, osd->id);
        open++;
        clients += s->who.role != RPC_OSD;
        held += list_count(&s->backlog);
        if (s->seen)
            audit_newest(c, shard, s, who);
        if (s->backlog_bytes && list_empty(&s->backlog))
            sim_fail(c->sim, "%s counts %llu bytes that it holds back from %s, and there are none", who,
                     ULL(s->backlog_bytes), s->who.name);
        if (s->who.role != RPC_CLIENT || !memcmp(s->who.client_uuid, no_uuid, sizeof(no_uuid)))
            continue;
        for (const struct list *at = node->next; at != &server->sessions; at = at->next) {
            const struct rpc_session *other = list_entry(at, struct rpc_session, all);
            if (other->who.role == RPC_CLIENT && !memcmp(other->who.client_uuid, s->who.client_uuid, 16))
                sim_fail(c->sim, "%s listens to two sessions of %s", who, s->who.name);
        }
    }
    list_for_each (&server->dead, node) {
        const struct rpc_session *s = list_entry(node, struct rpc_session, all);
        clients += s->was_open && s->who.role != RPC_OSD;
    }
    if (open != server->open_count || clients != shard->client_count || held != server->held_replies)
        sim_fail(c->sim, "%s: %u sessions, %u of clients, %u replies held back; it counts %u, %u and %u", who,
                 open, clients, held, server->open_count, shard->client_count, server->held_replies);
    map_for_each (&shard->peers, node) {
        const struct peer *peer = map_entry(node, struct peer, node);
        uint32_t led_count = 0, dropped = 0, parked = 0;
        list_for_each (&peer->out.entries, at) {
            const struct heartbeat_entry *entry = list_entry(at, struct heartbeat_entry, link);
            led_count += entry->group.term != 0;
            dropped += entry->group.term == 0;
            parked += !list_linked(&entry->awake);
        }
        if (led_count != peer->out.led_count || dropped != peer->out.dropped_count ||
            parked != peer->led_parked)
            sim_fail(c->sim, "%s tells osd.%u.%u of %u groups, %u of them parked; it counts %u and %u", who,
                     peer->osd, peer->number, led_count, parked, peer->out.led_count, peer->led_parked);
    }
}

/* ---- shards and clients ---- */

/* Whoever has a map takes no older one for it. */
static void audit_epochs(struct cluster *c, const struct sim_node *node, uint64_t epoch)
{
    uint64_t *newest =
        check_note(c, hash_pair(hash_bytes(6, node->name, strlen(node->name)), node->incarnation), epoch);

    if (epoch < *newest)
        sim_fail(c->sim, "%s had the map of epoch %llu and has that of %llu", node->name, ULL(*newest),
                 ULL(epoch));
    *newest = epoch;
}

/* A call ends when its time is up. */
static void audit_call(struct cluster *c, const struct rpc_call *call, const char *who, uint64_t now_ns)
{
    if (call->pending && now_ns > call->deadline_ns + CALL_LATE_NS)
        sim_fail(c->sim, "%s still waits for an answer %llu ms after its deadline", who,
                 ULL((now_ns - call->deadline_ns) / NS_PER_MS));
}

/* ---- clients ---- */

enum { PIECE_ORDER, PIECE_ROUTE, PIECE_CONNECT, PIECE_REPLY, PIECE_PAUSE, PIECE_ATTACHES, PIECE_REFRESHES };

/* An older write to some of its bytes is under way. */
static bool order_waits(const struct client_piece *p)
{
    const struct list *chain =
        &p->client->order[hash_pair(p->image->id, p->object) & (CLIENT_ORDER_CHAINS - 1)];

    list_for_each (chain, node) {
        const struct client_piece *other = list_entry(node, struct client_piece, order);
        if (other == p)
            return false;
        if (other->image->id == p->image->id && other->object == p->object &&
            other->offset < p->offset + p->len && p->offset < other->offset + other->len)
            return true;
    }
    return false;
}

static bool piece_waits(const struct client_piece *p)
{
    switch (p->op.state) {
    case PIECE_ORDER:
        return order_waits(p);
    case PIECE_CONNECT:
        return list_linked(&p->peer_wait.link) && timer_armed(&p->timer);
    case PIECE_REPLY:
        return p->call.pending;
    case PIECE_PAUSE:
        return timer_armed(&p->timer);
    case PIECE_ATTACHES:
        return list_linked(&p->wait) && timer_armed(&p->timer) && p->image->pgs[p->pg_number].attacher;
    case PIECE_REFRESHES:
        return list_linked(&p->wait) && timer_armed(&p->timer) && op_live(&p->image->refresh_op);
    }
    return false;
}

static void audit_pieces(struct cluster *c, const struct client *client, const char *who, uint64_t now_ns)
{
    uint32_t count = 0, shared = 0;
    bool stopped = client->pieces.free_count > 0;

    list_for_each (&client->core->live_ops, node) {
        const struct op *op = list_entry(node, struct op, live);
        if (!is_kind(op, "client.piece"))
            continue;
        const struct client_piece *p = container_of(op, struct client_piece, op);
        count++;
        if (!goes_on(op) && !piece_waits(p))
            waits_in_vain(c, who, op);
        else if (list_linked(&p->order) && op->state != PIECE_ORDER && order_waits(p))
            sim_fail(c->sim, "%s: a write does not wait for an older one to the same bytes", who);
        if (op->state == PIECE_REPLY && (p->type == PIECE_WRITE || p->type == PIECE_DISCARD) &&
            !p->attaching && p->image->pgs[p->pg_number].attached_generation &&
            p->image->pgs[p->pg_number].attached_generation < p->sent_generation)
            sim_fail(c->sim, "%s writes before it is announced for the image's generation", who);
        audit_call(c, &p->call, who, now_ns);
        if (op->state != PIECE_ORDER &&
            now_ns > MAX(p->deadline_ns, client->core->back_ns + client->config.timeout_ns) + PIECE_LATE_NS)
            sim_fail(c->sim, "%s: a piece (state %d) outlives its deadline", who, op->state);
    }
    for (uint32_t i = 0; i < CLIENT_SHARES; i++) {
        const struct client_share *share = &client->shares[i];
        const struct client_wait *first = list_first(&share->waiters, struct client_wait, link);
        shared += share->count;
        if (first && !goes_on(first->op) && !share->count)
            waits_in_vain(c, who, first->op);
    }
    const struct client_wait *first = list_first(&client->piece_waiters, struct client_wait, link);
    if (first && stopped && !list_linked(&first->op->run))
        waits_in_vain(c, who, first->op);
    if (count != shared || count != pool_out_count(&client->pieces))
        sim_fail(c->sim, "%s: %u pieces; it counts %u and %u", who, count, shared,
                 (uint32_t)pool_out_count(&client->pieces));
}

/* Of the newest generation it knows the size, too. */
static void audit_images(struct cluster *c, const struct client *client, const char *who)
{
    const struct mon *mon = mon_leader(c);

    list_for_each (&client->images, node) {
        const struct client_image *image = list_entry(node, struct client_image, link);
        const struct mon_image *known = mon ? mon_image_find(mon, image->id) : NULL;
        if (known && mon_image_item(known)->generation == image->generation &&
            mon_image_item(known)->size_bytes != image->size_bytes)
            sim_fail(c->sim, "%s takes image %llu for %llu bytes large in generation %llu", who,
                     ULL(image->id), ULL(image->size_bytes), ULL(image->generation));
    }
}

static void audit_client(struct cluster *c, const struct cluster_client *owner)
{
    const struct sim_node *node = owner->process.nodes[0];
    const struct client *client = owner->load ? owner->load->client : NULL;

    if (!client || audit_is_behind(node))
        return;
    audit_pieces(c, client, owner->process.name, sim_node_now_ns(node));
    audit_images(c, client, owner->process.name);
    if (client->has_map)
        audit_epochs(c, node, client->map->epoch);
}

void audit_always(struct cluster *c, bool tables)
{
    orders_audit(c);
    c->audits += tables;
    for (struct shard_at at = {0}; !c->sim->failed && cluster_shard_next(c, &at);) {
        const struct osd_shard *shard = at.is;
        const struct sim_node *node = at.node;
        if (audit_is_behind(node) || shard->stopping)
            continue;
        c->osds[at.osd].saved_epochs[at.shard] = shard->map.saved_epoch;
        audit_requests(c, shard, node->name, sim_node_now_ns(node));
        audit_groups(c, shard, node->name, sim_node_now_ns(node));
        audit_recoveries(c, shard, node->name);
        scrub_audit(c, shard, node->name);
        audit_sessions(c, shard, node->name);
        if (tables) {
            audit_store(c, &at);
            audit_seen(c, shard, &shard->server->clients, RPC_CLIENT, node->name);
            audit_seen(c, shard, &shard->server->osds, RPC_OSD, node->name);
        }
        audit_epochs(c, at.node, shard->map.epoch);
        audit_call(c, &shard->mon.call, node->name, sim_node_now_ns(node));
    }
    for (uint32_t i = 0; i < c->client_count && !c->sim->failed; i++)
        audit_client(c, &c->clients[i]);
}
