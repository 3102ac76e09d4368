/* SPDX-License-Identifier: Apache-2.0
 *
 * What must be so when all is well.
 *
 * While the load goes on after the last fault: requests are answered, and soon. Whatever asks again, by
 * chance or by a timer, hides what went wrong the first time from a history of requests, but not from a
 * clock.
 *
 * When the load has ended: everybody knows the same. The map is the same everywhere, and says of OSDs and
 * groups what they are; each pair of shards that has a group together has its sessions, and takes for led and
 * followed what is; all groups are parked. And so it stays: nobody is elected while nothing happens.
 */
#include "sim/cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "client/impl.h"
#include "osd/pg.h"
#include "sim/cluster_load.h"

#define CALM_AFTER_NS (NS_PER_S / 2)    /* leaders go back where they belong, caches are warm */
#define CALM_MAX_NS   (200 * NS_PER_MS) /* that a request takes */
#define PLOT_MAX_NS   (10 * NS_PER_S)
#define AGREE_NS      (30 * NS_PER_S)
#define SILENT_NS     (2 * NS_PER_S)
#define LOOK_NS       (20 * NS_PER_MS)
#define PGS_MAX       64

#define ULL(x) ((unsigned long long)(x))

/* ---- requests while all is well ---- */

void calm_ended(struct cluster *c, const char *who, uint64_t took_ns, int result)
{
    if (took_ns > CALM_MAX_NS)
        sim_fail(c->sim, "all is well, and a request of %s took %llu ms", who, ULL(took_ns / NS_PER_MS));
    else if (result && result != -ERR_NO_SPACE && result != -ERR_FENCED && !damage_is_uncovered(c))
        sim_fail(c->sim, "all is well, and a request of %s failed: %s", who, error_name(result));
    c->calm_slowest_ns = MAX(c->calm_slowest_ns, took_ns);
}

/* Who has an image open knows how large it is now. */
static void sizes_check(struct cluster *c)
{
    for (uint32_t i = 0; i < c->client_count && !c->sim->failed; i++) {
        const struct load *l = c->clients[i].load;
        if (l && l->op.state == LOAD_RUN && !client_image_failed(l->image) &&
            client_image_size(l->image) != (uint64_t)c->image_sectors * CLUSTER_SECTOR)
            sim_fail(c->sim, "%s takes %s for %llu bytes large", c->clients[i].process.name,
                     c->images[c->clients[i].image].name, ULL(client_image_size(l->image)));
    }
}

static bool plot_is_over(void *owner)
{
    return !((struct cluster *)owner)->plot;
}

void calm_run(struct cluster *c, uint64_t for_ns)
{
    /* What it held up may still be so. */
    (void)sim_run_while(c->sim, plot_is_over, c, c->sim->now_ns + PLOT_MAX_NS);
    sim_run_for(c->sim, CALM_AFTER_NS);
    c->calm_since_ns = c->sim->now_ns;
    sim_run_for(c->sim, for_ns - CALM_AFTER_NS);
    sizes_check(c);
}

/* ---- everybody knows the same ---- */

static bool differs(struct cluster *c, const char *format, ...) PRINTF_LIKE(2, 3);
static bool differs(struct cluster *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(c->not_clean, sizeof(c->not_clean), format, args);
    va_end(args);
    return false;
}

static struct cluster_osd *osd_of(struct cluster *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (c->osds[i].id == id)
            return &c->osds[i];
    return NULL;
}

static struct osd_shard *shard_of(struct cluster *c, uint32_t osd, uint32_t number)
{
    const struct cluster_osd *o = osd_of(c, osd);

    return o && number < c->shard_count ? o->shards[number] : NULL;
}

static bool addresses_agree(struct cluster *c, const char *who, const Fb__Osd *item)
{
    const struct cluster_osd *osd = osd_of(c, item->id);

    for (size_t i = 0; osd && !item->removed && i < item->n_shard; i++)
        if (osd->shards[i] && strcmp(item->shard[i]->address, osd_shard_address(osd->shards[i])))
            return differs(c, "%s looks for osd.%u.%zu at %s, and it is at %s", who, item->id, i,
                           item->shard[i]->address, osd_shard_address(osd->shards[i]));
    return true;
}

/* The map says of a PG that somebody serves who its members are. */
static bool members_agree(struct cluster *c, const char *who, const Fb__Pg *item)
{
    for (size_t i = 0; i < item->n_member; i++) {
        const Fb__PgMember *m = item->member[i];
        const struct osd_shard *shard = shard_of(c, m->osd, m->shard);
        const struct pg *pg = shard ? pg_find(shard, item->id) : NULL;
        const struct group_member *is = pg ? group_find(&pg->raft.group, m->replica) : NULL;

        if (!item->removed && (!is || pg->replica != m->replica || is->osd != m->osd ||
                               is->shard != m->shard || !is->flags || pg->raft.group.count != item->n_member))
            return differs(c, "%s takes replica %u of PG %llx for a member at osd.%u.%u, and it is none", who,
                           m->replica, ULL(item->id), m->osd, m->shard);
    }
    return true;
}

static bool map_agrees(struct cluster *c, const struct osd_shard *shard, const char *who, uint64_t epoch)
{
    if (shard->map.epoch != epoch)
        return differs(c, "%s has the map of epoch %llu, others that of %llu", who, ULL(shard->map.epoch),
                       ULL(epoch));
    map_for_each (&shard->map.osds, node)
        if (!addresses_agree(c, who, map_entry(node, struct map_item, node)->osd))
            return false;
    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        if (!shard_map_pg_removed(shard, item) && !members_agree(c, who, item))
            return false;
    }
    return true;
}

static bool client_agrees(struct cluster *c, const struct client *client, const char *who, uint64_t epoch)
{
    if (client->map->epoch != epoch)
        return differs(c, "%s has the map of epoch %llu, others that of %llu", who, ULL(client->map->epoch),
                       ULL(epoch));
    for (size_t i = 0; i < client->map->n_osd; i++)
        if (!addresses_agree(c, who, client->map->osd[i]))
            return false;
    for (size_t i = 0; i < client->map->n_pg; i++)
        if (!members_agree(c, who, client->map->pg[i]))
            return false;
    return true;
}

/* What a shard tells another one that it leads, that one has heard, and nothing else. */
static bool sets_agree(struct cluster *c, const struct osd_shard *shard, const struct peer *peer,
                       const char *who)
{
    struct osd_shard *there = shard_of(c, peer->osd, peer->number);
    const struct peer *back = there ? shard_peer_find(there, shard->label.osd, shard->number) : NULL;

    list_for_each (&peer->out.entries, node) {
        const struct heartbeat_entry *e = list_entry(node, struct heartbeat_entry, link);
        const struct pg *pg = pg_find(shard, e->group.pg);
        const struct heartbeat_heard *heard = back ? heartbeat_in_find(&back->in, e->group.pg) : NULL;
        bool leads = pg && pg->raft.role == RAFT_LEADER && pg->raft.term == e->group.term &&
                     raft_member(&pg->raft, e->group.to);
        if (e->group.term && !leads)
            return differs(c, "%s tells osd.%u.%u that it leads PG %llx, and does not", who, peer->osd,
                           peer->number, ULL(e->group.pg));
        if (there && (e->group.term ? !heard || heard->group.term != e->group.term : heard != NULL))
            return differs(c, "osd.%u.%u has not heard whether %s leads PG %llx", peer->osd, peer->number,
                           who, ULL(e->group.pg));
    }
    /* What a former process has said stays until its successor says something. */
    if (!back || back->in.incarnation != shard->label.start_counter)
        return true;
    map_for_each (&back->in.groups, node) {
        const struct heartbeat_heard *heard = map_entry(node, struct heartbeat_heard, by_pg);
        const struct heartbeat_entry *e = heartbeat_out_find(&peer->out, heard->group.pg);
        if (!e || e->group.term != heard->group.term)
            return differs(c, "osd.%u.%u believes that %s leads PG %llx in term %llu", peer->osd,
                           peer->number, who, ULL(heard->group.pg), ULL(heard->group.term));
    }
    return true;
}

static bool groups_agree(struct cluster *c, const struct osd_shard *shard, const char *who)
{
    map_for_each (&shard->pgs, node) {
        const struct pg *pg = map_entry(node, struct pg, node);
        for (uint32_t i = 0; i < pg->member_count; i++) {
            const struct peer *peer = pg->members[i].peer;
            if (peer && (!peer->rpc || !rpc_peer_is_open(peer->rpc) || !peer->session))
                return differs(c, "%s has no session %s osd.%u.%u, which it has a group with", who,
                               peer->session ? "with" : "from", peer->osd, peer->number);
        }
        if (pg->led_term && pg->sp->tombstone_count && !damage_is_uncovered(c))
            return differs(c, "PG %llx is led by %s and has not forgotten what was removed", ULL(pg->id),
                           who);
        if (!pg->parked)
            return differs(c, "PG %llx is not parked at %s", ULL(pg->id), who);
    }
    map_for_each (&shard->peers, node)
        if (!sets_agree(c, shard, map_entry(node, struct peer, node), who))
            return false;
    return true;
}

static bool all_agree(struct cluster *c)
{
    uint64_t epoch = 0;

    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++) {
        const struct osd_shard *shard = c->osds[i / c->shard_count].shards[i % c->shard_count];
        if (!shard)
            return differs(c, "osd.%u does not serve", i / c->shard_count);
        epoch = MAX(epoch, shard->map.epoch);
    }
    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++) {
        const struct cluster_osd *osd = &c->osds[i / c->shard_count];
        const struct osd_shard *shard = osd->shards[i % c->shard_count];
        const char *who = osd->process.nodes[i % c->shard_count]->name;
        if (!map_agrees(c, shard, who, epoch) || !groups_agree(c, shard, who))
            return false;
    }
    for (uint32_t i = 0; i < c->client_count; i++) {
        const struct load *l = c->clients[i].load;
        if (l && l->client && !client_agrees(c, l->client, c->clients[i].process.name, epoch))
            return false;
    }
    return true;
}

static bool looks_agreed(void *owner)
{
    struct cluster *c = owner;

    if (c->sim->now_ns < c->clean_check_ns)
        return false;
    c->clean_check_ns = c->sim->now_ns + LOOK_NS;
    return all_agree(c);
}

/* The term in which each group is led. */
struct terms {
    uint64_t pg[PGS_MAX], term[PGS_MAX];
    uint32_t count;
};

static void terms_note(const struct cluster *c, struct terms *t)
{
    t->count = 0;
    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++)
        map_for_each (&c->osds[i / c->shard_count].shards[i % c->shard_count]->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            if (!pg->led_term)
                continue;
            ASSERT(t->count < PGS_MAX);
            t->pg[t->count] = pg->id;
            t->term[t->count++] = pg->raft.term;
        }
}

/* The monitor may bring leaderships back; whoever is elected without that has missed its leader. */
static void terms_compare(struct cluster *c, const struct terms *t)
{
    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++)
        map_for_each (&c->osds[i / c->shard_count].shards[i % c->shard_count]->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            for (uint32_t j = 0; j < t->count; j++)
                if (t->pg[j] == pg->id && pg->led_term > t->term[j] &&
                    !(pg->raft.campaign_flags & RAFT_TRANSFER))
                    sim_fail(c->sim, "PG %llx: replica %u was elected while nothing happened", ULL(pg->id),
                             pg->replica);
        }
}

void agree_check(struct cluster *c)
{
    struct terms terms;

    if (!sim_run_while(c->sim, looks_agreed, c, c->sim->now_ns + AGREE_NS)) {
        if (!c->sim->failed)
            sim_fail(c->sim, "long after the end %s", c->not_clean);
        return;
    }
    terms_note(c, &terms);
    sim_run_for(c->sim, SILENT_NS);
    if (!c->sim->failed)
        terms_compare(c, &terms);
}
