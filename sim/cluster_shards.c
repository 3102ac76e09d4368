/* SPDX-License-Identifier: Apache-2.0
 *
 * What shards keep of one another and of themselves, looked at between two steps, whatever they are at:
 *
 *  - Who does not lead, or not any more, has nothing that it proposed, and nobody waits for it.
 *  - Of two shards that have come to the same version of a set of heartbeats, both have the same set.
 *  - Nobody has heard more heartbeats of a process than it has sent.
 *  - The newest group of the log counts, and the newest record of an image that a leader has proposed.
 *  - What raft takes for written of its term and vote is on record.
 *  - A replica whose log was damaged is on record as such until it is whole, also when its process dies.
 *  - A leader whose device has hung for a second has tried to hand over.
 *  - What there is a limit of there is not more of.
 *  - While a leader may read without asking, nobody leads in a later term, whether somebody reads or not.
 *  - What a leader takes for committed, a majority of its voters has on disk.
 *  - Who believes that he was away was stopped for that time.
 */
#include "sim/cluster.h"

#include <string.h>

#include "base/hash.h"
#include "osd/pg.h"

#define ULL(x)           ((unsigned long long)(x))
#define NOTICE_NS        (PG_STALL_NS + 400 * NS_PER_MS) /* a leader looks at its device now and then */
#define ABSENCE_SLACK_NS NS_PER_MS /* a node is polled a little later than it has to do */
#define PGS_MAX          64

/* ---- groups ---- */

static void check_role(struct cluster *c, const struct pg *pg, const char *who)
{
    if (pg->led_term || pg->raft.role == RAFT_LEADER)
        return;
    if (!list_empty(&pg->images) || pg->floor_epoch)
        sim_fail(c->sim, "%s: PG %llx does not lead, and keeps what it proposed", who, ULL(pg->id));
    list_for_each (&pg->waiting, node) {
        if (!list_entry(node, struct pg_request, link)->error) {
            sim_fail(c->sim, "%s: PG %llx does not lead, and a request is not told", who, ULL(pg->id));
            return;
        }
    }
}

static void check_record(struct cluster *c, const struct pg *pg, const char *who)
{
    const struct raft_hard_state *hs = &pg->raft.durable_hs;
    const struct store_pg_record *record = &pg->sp->record;
    uint64_t *state = check_note(c, hash_pair(hash_pair(pg->id, pg->replica), 22), record->state);

    if (hs->term > record->term || (hs->term == record->term && hs->vote && hs->vote != record->vote))
        sim_fail(c->sim,
                 "%s: PG %llx takes term %llu and a vote for %u for written, and has %llu and %u on record",
                 who, ULL(pg->id), ULL(hs->term), hs->vote, ULL(record->term), record->vote);
    if (*state == STORE_PG_DAMAGED && record->state == STORE_PG_RECOVERING)
        sim_fail(c->sim,
                 "%s: PG %llx: the log of replica %u was damaged, and is whole with nothing done about it",
                 who, ULL(pg->id), pg->replica);
    *state = record->state;
}

static bool is_noted(const struct pg *pg, const struct entry *entry)
{
    list_for_each (&pg->images, node)
        if (list_entry(node, struct pg_image, link)->record.index == entry->index)
            return true;
    return false;
}

/* What the log has and is not applied yet counts: the newest group, also behind a start, and for its leader
 * what it has proposed to fence. */
static void check_unapplied(struct cluster *c, const struct pg *pg, const char *who)
{
    const struct raft *r = &pg->raft;
    struct entry entry;
    struct slice payload;

    for (uint64_t i = MIN(pg->sp->last_index, r->last_index); i > pg->sp->applied_index; i--) {
        if (store_log_get(pg->sp, i, &entry, &payload))
            continue;
        if (entry.type == ENTRY_GROUP && i > MAX(r->group.index, pg->sp->record.group.index))
            sim_fail(c->sim, "%s: PG %llx has the group of entry %llu, and a newer one in its log at %llu",
                     who, ULL(pg->id), ULL(r->group.index), ULL(i));
        if (entry.type == ENTRY_IMAGE && pg->led_term == entry.term && !is_noted(pg, &entry))
            sim_fail(c->sim,
                     "%s: PG %llx has proposed a record of image %llu at %llu, and goes by an older one", who,
                     ULL(pg->id), ULL(entry.image), ULL(i));
    }
}

/* The others commit what does not become durable here. */
static void check_hang(struct cluster *c, const struct pg *pg, uint64_t key, const char *who, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    uint64_t *durable = check_note(c, hash_pair(key, 20), 0),
             *since_ns = check_note(c, hash_pair(key, 21), 0);
    bool waits = r->role == RAFT_LEADER && r->commit_index > r->durable_index;

    if (!waits || *durable != hash_pair(r->durable_index, r->term)) {
        *durable = hash_pair(r->durable_index, r->term);
        *since_ns = now_ns;
    }
    uint64_t last_ns = MAX(MAX(*since_ns, pg->reads_hang_ns), pg->shard->core->back_ns);
    if (waits && now_ns > last_ns + NOTICE_NS)
        sim_fail(c->sim, "%s: PG %llx leads, its device has hung for %llu ms, and nothing is done about it",
                 who, ULL(pg->id), ULL((now_ns - *since_ns) / NS_PER_MS));
}

static void check_groups(struct cluster *c, const struct osd_shard *shard, const char *who, uint64_t now_ns)
{
    map_for_each (&shard->pgs, node) {
        const struct pg *pg = map_entry(node, struct pg, node);
        uint64_t key = hash_pair(hash_pair(pg->id, pg->replica), shard->label.start_counter);
        check_role(c, pg, who);
        if (pg->stopping)
            continue;
        check_hang(c, pg, key, who, now_ns);
        /* Each may have had a quarter when it came (request_fits()). */
        if (pg->request_count > SHARD_REQUESTS_MAX / 4 + 1)
            sim_fail(c->sim, "%s: PG %llx has %u of %u requests", who, ULL(pg->id), pg->request_count,
                     SHARD_REQUESTS_MAX);
    }
    if (shard->client_count > SHARD_CLIENTS_MAX)
        sim_fail(c->sim, "%s has sessions of %u clients", who, shard->client_count);
}

/* ---- pairs ---- */

static const struct osd_shard *shard_there(const struct cluster *c, const struct peer *peer)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (c->osds[i].id == peer->osd && peer->number < c->shard_count)
            return c->osds[i].shards[peer->number];
    return NULL;
}

/* What was told up to a version is known there as it was told. */
static void check_set(struct cluster *c, const struct osd_shard *shard, const struct peer *peer,
                      const char *who)
{
    const struct heartbeat_out *out = &peer->out;
    const struct osd_shard *there = shard_there(c, peer);
    const struct peer *back = there && !there->stopping ? shard_peer_find((struct osd_shard *)there,
                                                                          shard->label.osd, shard->number)
                                                        : NULL;

    if (!back || back->in.incarnation != shard->label.start_counter)
        return;
    if (back->in.seq > out->seq)
        sim_fail(c->sim, "osd.%u.%u has heard heartbeat %llu of %s, which has sent %llu", peer->osd,
                 peer->number, ULL(back->in.seq), who, ULL(out->seq));
    if (back->in.version != out->version)
        return;
    uint32_t count = 0;
    list_for_each (&out->entries, node) {
        const struct heartbeat_entry *e = list_entry(node, struct heartbeat_entry, link);
        const struct heartbeat_heard *heard = heartbeat_in_find(&back->in, e->group.pg);
        count += heard != NULL;
        if (e->group.term ? !heard || heard->group.term != e->group.term ||
                                heard->group.commit != e->group.commit || heard->group.to != e->group.to
                          : heard != NULL)
            sim_fail(c->sim, "osd.%u.%u knows version %llu of what %s leads, and PG %llx otherwise",
                     peer->osd, peer->number, ULL(out->version), who, ULL(e->group.pg));
    }
    if (count != back->in.groups.count)
        sim_fail(c->sim, "osd.%u.%u knows version %llu of what %s leads, and groups that are not in it",
                 peer->osd, peer->number, ULL(out->version), who);
}

/* ---- clocks ---- */

/* The core (core_fire_timers()) takes the time from `gone_ns` to `back_ns` of the node's clock for an
 * absence. */
static void check_absence(struct cluster *c, const struct sim_node *node)
{
    const struct core *core = &node->core;
    uint64_t key = hash_pair(hash_bytes(24, node->name, strlen(node->name)), node->incarnation);
    uint64_t *known_ns = check_note(c, key, 0);

    if (core->back_ns == *known_ns)
        return;
    *known_ns = core->back_ns;
    uint64_t back_ns = c->sim->now_ns - (sim_node_now_ns(node) - core->back_ns);
    uint64_t stopped_ns = node->stopped_ns, away_ns = core->back_ns - core->gone_ns;
    if (!node->resumed_ns || back_ns > node->resumed_ns + ABSENCE_SLACK_NS ||
        away_ns > stopped_ns + stopped_ns / 100 + ABSENCE_SLACK_NS)
        sim_fail(c->sim,
                 "%s believes that it was away for %llu us until %llu us after it was stopped for %llu us",
                 node->name, ULL(away_ns / NS_PER_US), ULL((back_ns - node->resumed_ns) / NS_PER_US),
                 ULL(stopped_ns / NS_PER_US));
}

/* ---- who leads ---- */

/* Who has told another one to campaign has given up its lease for the rest of the term: that may come late.
 */
static void check_handed(struct cluster *c, const struct pg *pg, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;

    if (r->role == RAFT_LEADER && r->transfer_sent_ns > r->leader_since_ns && raft_lease_valid(r, now_ns))
        sim_fail(c->sim, "PG %llx: replica %u has handed over in term %llu, and has its lease", ULL(pg->id),
                 pg->replica, ULL(r->term));
}

/* Who may read at once, in which term. */
struct reader {
    uint64_t pg, term;
    uint32_t replica;
};

static bool may_read(const struct pg *pg, const struct sim_node *node)
{
    return !pg->stopping && raft_lease_valid(&pg->raft, sim_node_now_ns(node));
}

static void check_leases(struct cluster *c)
{
    struct reader readers[PGS_MAX];
    struct shard_at at = {0};
    uint32_t count = 0;

    for (const struct pg *pg; (pg = cluster_led_next(c, &at));) {
        check_handed(c, pg, sim_node_now_ns(at.node));
        if (may_read(pg, at.node) && count < PGS_MAX)
            readers[count++] = (struct reader){force_pg_name(c, pg->id), pg->raft.term, pg->replica};
    }
    at = (struct shard_at){0};
    for (const struct pg *pg; count && (pg = cluster_led_next(c, &at));) {
        uint64_t name = force_pg_name(c, pg->id);
        for (uint32_t j = 0; j < count; j++)
            if (readers[j].pg == name && readers[j].term < pg->raft.term && pg->raft.role == RAFT_LEADER)
                sim_fail(
                    c->sim, "PG %llx: replica %u leads in term %llu, while %u has its lease in term %llu",
                    ULL(pg->id), pg->replica, ULL(pg->raft.term), readers[j].replica, ULL(readers[j].term));
    }
}

/* May that voter have the entry on its device? Who is down, recovers or has been replaced cannot be asked. */
static bool may_have(struct cluster *c, uint64_t pg, const struct group_member *m, uint64_t index,
                     uint64_t term)
{
    for (uint32_t i = 0; i < c->osd_count; i++) {
        const struct osd_shard *shard = c->osds[i].id == m->osd ? c->osds[i].shards[m->shard] : NULL;
        const struct store_pg *sp = shard ? store_pg_find(osd_shard_store(shard), pg) : NULL;
        if (!sp || sp->record.replica != m->replica || sp->damaged || sp->record.state != STORE_PG_NORMAL)
            continue;
        uint64_t has = index >= sp->first_index ? store_log_term(sp, index) : term;
        return sp->durable_index >= index && has == term;
    }
    return true;
}

static bool majority_has(struct cluster *c, const struct pg *pg, const struct group *group, uint32_t flag)
{
    const struct raft *r = &pg->raft;
    uint64_t term = raft_term_at(r, r->commit_index);
    uint32_t voters = 0, have = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        if (!(group->members[i].flags & flag))
            continue;
        voters++;
        have += may_have(c, pg->id, &group->members[i], r->commit_index, term);
    }
    return have > voters / 2;
}

static bool group_has(struct cluster *c, const struct pg *pg, const struct group *group)
{
    return majority_has(c, pg, group, GROUP_VOTER) &&
           (!group_joint(group) || majority_has(c, pg, group, GROUP_VOTER_OLD));
}

/* By its newest group, whether that is committed or not, or the one before, if that was the newest then. */
static void check_commit(struct cluster *c, const struct pg *pg)
{
    const struct raft *r = &pg->raft;

    if (!group_has(c, pg, &r->group) &&
        (r->group.index <= r->commit_index || !group_has(c, pg, &r->group_before)))
        sim_fail(c->sim, "PG %llx: replica %u takes entry %llu for committed, and no majority has it",
                 ULL(pg->id), pg->replica, ULL(r->commit_index));
}

static void check_commits(struct cluster *c)
{
    struct shard_at at = {0};

    for (const struct pg *pg; (pg = cluster_led_next(c, &at));)
        if (!at.is->stopping && pg->raft.role == RAFT_LEADER)
            check_commit(c, pg);
}

void shards_check_often(struct cluster *c)
{
    for (struct shard_at s = {0}; !c->sim->failed && cluster_shard_next(c, &s);) {
        if (s.is->stopping || audit_is_behind(s.node))
            continue;
        map_for_each (&s.is->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            check_record(c, pg, s.node->name);
            check_unapplied(c, pg, s.node->name);
        }
    }
}

void shards_check(struct cluster *c, bool pairs)
{
    check_leases(c);
    check_commits(c);
    for (uint32_t i = 0; i < c->sim->node_count && !c->sim->failed; i++)
        if (c->sim->nodes[i]->state != SIM_NODE_DOWN) /* it may have been stopped once more at once */
            check_absence(c, c->sim->nodes[i]);
    for (struct shard_at s = {0}; !c->sim->failed && cluster_shard_next(c, &s);) {
        const struct osd_shard *shard = s.is;
        const struct sim_node *node = s.node;
        if (shard->stopping || audit_is_behind(node))
            continue;
        check_groups(c, shard, node->name, sim_node_now_ns(node));
        if (!pairs)
            continue;
        map_for_each (&shard->peers, at)
            check_set(c, shard, map_entry(at, struct peer, node), node->name);
    }
}
