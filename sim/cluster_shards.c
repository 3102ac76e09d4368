/* SPDX-License-Identifier: Apache-2.0
 *
 * What shards keep of one another and of themselves, looked at between two steps, whatever they are at:
 *
 *  - Who does not lead, or not any more, has nothing that it proposed, and nobody waits for it.
 *  - Of two shards that have come to the same version of a set of heartbeats, both have the same set.
 *  - A leader whose device has hung for a second has tried to hand over.
 *  - What there is a limit of there is not more of.
 *  - Who believes that he was away was stopped for that time.
 */
#include "sim/cluster.h"

#include <string.h>

#include "base/hash.h"
#include "osd/pg.h"

#define ULL(x)           ((unsigned long long)(x))
#define NOTICE_NS        (PG_STALL_NS + 400 * NS_PER_MS) /* a leader looks at its device now and then */
#define ABSENCE_SLACK_NS NS_PER_MS /* a node is polled a little later than it has to do */

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

    if (!back || back->in.incarnation != shard->label.start_counter || back->in.version != out->version)
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

void shards_check(struct cluster *c, bool pairs)
{
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
