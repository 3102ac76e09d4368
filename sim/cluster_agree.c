/* SPDX-License-Identifier: Apache-2.0
 *
 * What must be so when all is well.
 *
 * While the load goes on after the last fault: requests are answered, and soon. Whatever asks again, by
 * chance or by a timer, hides what went wrong the first time from a history of requests, but not from a
 * clock. And when all pause, for longer than anybody takes to say again what he has said, those who have
 * images open are known as their writers all the same, and go on at once.
 *
 * When the load has ended: everybody knows the same. The map is the same everywhere, and says of OSDs and
 * groups what they are; each pair of shards that has a group together has its sessions, and takes for led and
 * followed what is; all groups are parked. So it is again when images have been removed, though nobody hears
 * of the first at once, and when processes have died. And so it stays: nobody is elected while nothing
 * happens.
 */
#include "sim/cluster_boot.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "client/impl.h"
#include "mon/impl.h"
#include "osd/pg.h"
#include "sim/cluster_load.h"

#define CALM_AFTER_NS (NS_PER_S / 2)     /* leaders go back where they belong, caches are warm */
#define CALM_LINKS_NS (5 * NS_PER_S / 2) /* a link that is dead, or to one that was, is given up in 2 s */
#define CALM_MAX_NS   (200 * NS_PER_MS)  /* that a request takes */
#define PLOT_MAX_NS   (10 * NS_PER_S)
#define PAUSE_NS      (5 * NS_PER_S) /* the client's MON_FOLLOW_NS, and more */
#define KNOWN_NS      (2 * NS_PER_S) /* an image may be taken over just then */
#define GO_ON_NS      (NS_PER_S / 2)
#define AGREE_NS      (30 * NS_PER_S)
#define SILENT_NS     (2 * NS_PER_S)
#define DEAD_NS       (1500 * NS_PER_MS)
#define UNHEARD_NS    (50 * NS_PER_MS)
#define LOOK_NS       (20 * NS_PER_MS)
#define PGS_MAX       64

#define ULL(x) ((unsigned long long)(x))

/* What is not so is told if it stays so. */
static bool differs(struct cluster *c, const char *format, ...) PRINTF_LIKE(2, 3);
static bool differs(struct cluster *c, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(c->not_clean, sizeof(c->not_clean), format, args);
    va_end(args);
    return false;
}

/* ---- requests while all is well ---- */

/* Does a leader repair blocks while a member recovers? What that one alone has is waited for, and as long as
 * it was away the log may have gone on beyond it once more. What all have lost is waited for, too, until all
 * have been asked. */
static bool blocks_awaited(const struct cluster *c)
{
    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        map_for_each (&s.is->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            const struct raft *r = &pg->raft;
            if (list_empty(&pg->repairs) || r->role != RAFT_LEADER)
                continue;
            if (damage_is_uncovered(c))
                return true;
            for (uint32_t m = 0; m < r->member_count; m++)
                if (r->members[m].recovering || r->members[m].progress == RAFT_BEHIND)
                    return true;
        }
    return false;
}

void calm_watch(struct cluster *c)
{
    if (c->calm_since_ns && c->damage && blocks_awaited(c))
        c->awaited_ns = c->sim->now_ns;
}

void calm_ended(struct cluster *c, const char *who, uint64_t took_ns, int result)
{
    /* What all have lost is an error when all have been asked, and those that had no memory once more. */
    bool lost = result == -ERR_DAMAGED && damage_is_uncovered(c);

    /* Who waited for such, or behind who did, may have them by now. */
    calm_watch(c);
    if ((took_ns > CALM_MAX_NS || result == -ERR_TIMEOUT) && c->awaited_ns &&
        c->sim->now_ns - c->awaited_ns < CALM_MAX_NS)
        return;
    if (took_ns > CALM_MAX_NS && !lost)
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

/* Who has an image open for writing is its writer by the word of the monitor. */
static bool writers_known(void *owner)
{
    struct cluster *c = owner;
    const struct mon *mon = mon_leader(c);

    for (uint32_t i = 0; i < c->writer_count; i++) {
        const struct load *l = c->clients[i].load;
        if (!l || l->op.state != LOAD_RUN || client_image_failed(l->image))
            continue;
        const struct mon_image *image = mon ? mon_image_find(mon, l->image->id) : NULL;
        if (!image || !image->writer_here || mon_image_item(image)->incarnation != l->image->incarnation)
            return differs(c, "%s has %s open for writing, and the monitor does not know", l->writer,
                           c->images[c->clients[i].image].name);
    }
    return true;
}

static void calm_pause(struct cluster *c)
{
    load_pause(c, true, true);
    sim_run_for(c->sim, PAUSE_NS);
    if (!sim_run_while(c->sim, writers_known, c, c->sim->now_ns + KNOWN_NS) && !c->sim->failed)
        sim_fail(c->sim, "all is well, but %s", c->not_clean);
    load_pause(c, false, false);
    sim_run_for(c->sim, GO_ON_NS);
}

void calm_run(struct cluster *c, uint64_t for_ns)
{
    /* What it held up may still be so. */
    (void)sim_run_while(c->sim, plot_is_over, c, c->sim->now_ns + PLOT_MAX_NS);
    uint64_t links_ns = MAX(c->quiet_ns, c->started_ns) + CALM_LINKS_NS;
    sim_run_until(c->sim, MAX(c->sim->now_ns + CALM_AFTER_NS, links_ns));
    c->calm_since_ns = c->sim->now_ns;
    sim_run_for(c->sim, for_ns - CALM_AFTER_NS);
    calm_pause(c);
    sizes_check(c);
}

/* ---- everybody knows the same ---- */

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
        if (osd->shards[i] && (!item->up || item->out))
            return differs(c, "%s takes osd.%u for %s", who, item->id, item->up ? "out" : "down");
        else if (osd->shards[i] && strcmp(item->shard[i]->address, osd_shard_address(osd->shards[i])))
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
    for (size_t i = 0; i < client->map->n_pg; i++) {
        /* Who was away when a pool went, and until nothing was left to tell of it, keeps it: it leads
         * nowhere. */
        const Fb__Pool *pool = shard_map_pool(c->osds[0].shards[0], (uint32_t)(client->map->pg[i]->id >> 32));
        if (pool && !pool->removed && !members_agree(c, who, client->map->pg[i]))
            return false;
    }
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

/* Those that follow, too, know what the metadata store has. */
static bool monitors_agree(struct cluster *c)
{
    char key[META_KEY_MAX + 1];

    for (uint32_t i = 0; i < c->mon_count; i++)
        if (!mon_at(c, i) || !map_is_held(c, mon_at(c, i), key))
            return differs(c, "%s does not know what the store has of %s", c->mons[i].name,
                           mon_at(c, i) ? key : "anything");
    return true;
}

/* What health says of PGs follows from what their leaders said last. */
static bool reports_agree(struct cluster *c, const struct mon *mon)
{
    mon_for_each(mon, MON_PG, node)
    {
        const struct mon_pg *p = mon_pg_of(node);
        const Fb__Pg *item = mon_pg_item(p);
        const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(item->id));
        if (item->removed || !pool || mon_pool_item(pool)->removed)
            continue;
        if (!mon_pg_reported(mon, p) || p->in_contact < item->n_member || p->recovering || p->damaged)
            return differs(c, "the monitor takes PG %llx for one %s", ULL(item->id),
                           !mon_pg_reported(mon, p) ? "without a leader"
                           : p->damaged             ? "with a replica whose log is damaged"
                           : p->recovering          ? "with a replica that recovers"
                                                    : "that lacks a replica");
    }
    return true;
}

static bool all_agree(struct cluster *c)
{
    const struct mon *mon = mon_leader(c);
    uint64_t epoch = mon ? mon->state.epoch : 0;

    if (!mon)
        return differs(c, "no monitor leads");
    if (!monitors_agree(c) || !reports_agree(c, mon))
        return false;
    mon_for_each(mon, MON_ORDER, node)
    {
        if (!mon_order_item(mon_order_of(node))->removed)
            return differs(c, "an order of the map is not carried out");
    }
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

/* `but`: not of those led by that OSD; NULL: of all. */
static void terms_note(const struct cluster *c, struct terms *t, const struct cluster_osd *but)
{
    t->count = 0;
    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++)
        map_for_each (&c->osds[i / c->shard_count].shards[i % c->shard_count]->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            if (!pg->led_term || &c->osds[i / c->shard_count] == but)
                continue;
            ASSERT(t->count < PGS_MAX);
            t->pg[t->count] = pg->id;
            t->term[t->count++] = pg->raft.term;
        }
}

/* The monitor may bring leaderships back; whoever is elected without that has missed its leader. */
static void terms_compare(struct cluster *c, const struct terms *t, const char *when)
{
    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++)
        map_for_each (&c->osds[i / c->shard_count].shards[i % c->shard_count]->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            for (uint32_t j = 0; j < t->count; j++)
                if (t->pg[j] == pg->id && pg->led_term > t->term[j] &&
                    !(pg->raft.campaign_flags & RAFT_TRANSFER))
                    sim_fail(c->sim, "PG %llx: replica %u was elected while %s", ULL(pg->id), pg->replica,
                             when);
        }
}

static bool come_to_agree(struct cluster *c)
{
    if (sim_run_while(c->sim, looks_agreed, c, c->sim->now_ns + AGREE_NS))
        return true;
    if (!c->sim->failed)
        sim_fail(c->sim, "long after the end %s", c->not_clean);
    return false;
}

static void spare_gone(struct cluster *c, const struct admin_job *job)
{
    c->spares_gone++;
}

static bool spare_is_gone(void *owner)
{
    const struct cluster *c = owner;

    return admin_idle(c) && c->spares_gone;
}

/* An image is made and removed, and what is sent unasked meanwhile is lost. */
static void spare_comes_and_goes(struct cluster *c, bool heard)
{
    c->spares_gone = 0;
    sim_net_set_faults(c->net, &(struct sim_net_faults){.oneway_drop_ppm = heard ? 0 : 1000000});
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_CREATE, .image = CLUSTER_SPARE});
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_REMOVE, .image = CLUSTER_SPARE, .done = spare_gone});
    bool gone = sim_run_while(c->sim, spare_is_gone, c, c->sim->now_ns + AGREE_NS);
    sim_run_for(c->sim, UNHEARD_NS);
    sim_net_set_faults(c->net, &(struct sim_net_faults){0});
    if (!gone && !c->sim->failed)
        sim_fail(c->sim, "an image cannot be removed long after the end");
}

/* The next change that is heard of may be the first that was not, or follow it. */
static void unheard_change(struct cluster *c, struct sim_rng *rng)
{
    spare_comes_and_goes(c, false);
    if (!c->sim->failed && sim_rng_below(rng, 2))
        spare_comes_and_goes(c, true);
}

/* One dies, or two, which may be a majority; and comes back when nobody writes anything any more. One alone
 * disturbs only what it leads. An image may be made and removed before. */
static void deaths_at_rest(struct cluster *c, struct sim_rng *rng, struct terms *undisturbed)
{
    uint32_t first = (uint32_t)sim_rng_below(rng, c->osd_count), count = (uint32_t)sim_rng_range(rng, 1, 2);

    undisturbed->count = 0;
    if (count == 1 && c->replicas > 2)
        terms_note(c, undisturbed, &c->osds[first]);
    for (uint32_t i = 0; i < count; i++)
        process_kill(&c->osds[(first + i) % c->osd_count].process, SIM_CRASH_PROCESS,
                     sim_rng_range(rng, 20 * NS_PER_MS, DEAD_NS));
    /* Who was away is told when it is back. */
    if (sim_rng_below(rng, 2))
        spare_comes_and_goes(c, true);
}

void agree_check(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "cluster.end", 0);
    struct terms terms, undisturbed;

    if (!come_to_agree(c))
        return;
    unheard_change(c, &rng);
    if (c->sim->failed || !come_to_agree(c))
        return;
    deaths_at_rest(c, &rng, &undisturbed);
    if (!come_to_agree(c))
        return;
    terms_compare(c, &undisturbed, "its leader was there, and another one died and came back");
    terms_note(c, &terms, NULL);
    sim_run_for(c->sim, SILENT_NS);
    if (!c->sim->failed)
        terms_compare(c, &terms, "nothing happened");
}
