/* SPDX-License-Identifier: Apache-2.0
 *
 * Two OSDs are destroyed at one moment, and with them the majority of some PGs: the operator gives them up,
 * has those PGs go on with the replica that is left, and puts new devices in their place. Later the two come
 * back, with all that they had, at the addresses that they had: nobody may listen to them.
 *
 * In some runs the moment is one at which what is left has all that was ever acknowledged: nothing may be
 * lost, and histories are judged as always. In the others nothing of what the two send gets to the others for
 * a while before, so that what is left lacks some of what was acknowledged. Then this may be lost, and
 * nothing else: what was acknowledged before the last moment at which the survivor had all; and all of those
 * objects of which the survivor has the newest entry.
 */
#include "sim/cluster_boot.h"

#include <string.h>

#include "base/entry.h"
#include "base/placement.h"
#include "raft/raft.h"
#include "store/internal.h"

#define FORCE_FIRST_NS (1500 * NS_PER_MS) /* at most, after faults began */
#define FORCE_LAST_NS  (6 * NS_PER_S)     /* if there was no such moment until then, there will be none */
#define FORCE_EVERY_NS (10 * NS_PER_MS)
#define FORCE_LOOK_NS  (2 * NS_PER_MS)   /* while some are held up */
#define HOLD_LONGER_NS (300 * NS_PER_MS) /* until the operator has time for it */
#define FORCE_OSDS_MIN 5
#define SPLIT_LAST_NS  (8 * NS_PER_S)    /* likewise, if a PG is to be split then */
#define SPLIT_LOOK_NS  (200 * NS_PER_US) /* while one is to be */
#define OBJECT_SECTORS (OBJECT_SIZE / CLUSTER_SECTOR)

struct holding {
    const struct store_pg *pg;
    struct osd_pg_view view;
    bool in_parent; /* it has yet to be split off: these are its parent's */
};

/* The PG that it was split off; 0: the pool was made with it. */
static uint64_t parent_of(const struct cluster *c, uint64_t pg)
{
    bool split = c->split.pool && pg >> 32 == c->split.pool && (uint32_t)pg >= c->split.made;

    return split ? placement_pg_id((uint32_t)(pg >> 32), placement_pg_parent((uint32_t)pg)) : 0;
}

static bool holding_at(const struct cluster *c, uint32_t osd, uint64_t pg, struct holding *ret, bool *ret_any)
{
    *ret_any = false;
    for (uint32_t j = 0; j < c->shard_count; j++) {
        const struct osd_shard *shard = c->osds[osd].shards[j];
        const struct store_pg *sp = shard ? store_pg_find(osd_shard_store(shard), pg) : NULL;

        if (!sp)
            continue;
        *ret_any = true;
        const struct group_member *m = group_find(&sp->record.group, sp->record.replica);
        ret->pg = sp;
        return osd_pg_view(shard, pg, &ret->view) && !ret->view.recovering && !ret->view.damaged &&
               sp->record.state == STORE_PG_NORMAL && m && m->flags == GROUP_VOTER;
    }
    return false;
}

/* The replica of the PG on that OSD; false: it has none that is whole and votes. `ret_any`: it has some. */
static bool holding_on(const struct cluster *c, uint32_t osd, uint64_t pg, struct holding *ret, bool *ret_any)
{
    uint64_t parent = parent_of(c, pg);

    ret->in_parent = false;
    if (holding_at(c, osd, pg, ret, ret_any))
        return true;
    if (*ret_any || !parent)
        return false;
    ret->in_parent = true;
    bool good = holding_at(c, osd, parent, ret, ret_any);
    if (!*ret_any || ret->pg->record.split_count <= (uint32_t)pg)
        return good;
    *ret_any = pg_of(ret->pg)->splitting; /* it is being born: one thing at a time */
    return false;
}

/* Is the entry that splits the PG off in that log, of its parent? */
static bool has_split(const struct store_pg *sp, const struct store_pg *child)
{
    uint64_t index = child->record.base_index;
    struct entry entry;
    struct slice payload;

    return sp->durable_index >= index && !store_log_get(sp, index, &entry, &payload) &&
           entry.type == ENTRY_SPLIT && entry.image == (uint32_t)child->record.pg &&
           entry.term == child->record.base_term;
}

/* Of a PG that both have: is there exactly one more that could go on? `ret_has_all`: it has all that may have
 * been acknowledged. */
static bool survives(const struct cluster *c, uint64_t pg, const uint32_t lost[2], struct holding *ret,
                     bool *ret_has_all)
{
    struct holding survivor = {0}, other, newest = {0};
    uint64_t committed = 0;
    uint32_t others = 0;
    bool any;

    *ret_has_all = false;
    for (uint32_t i = 0; i < c->osd_count; i++) {
        bool good = holding_on(c, i, pg, &other, &any);
        if (any && !good)
            return false;
        if (!good)
            continue;
        /* A split that not all have made: one thing at a time. */
        if (newest.pg && !c->force.at_split &&
            (other.in_parent || other.pg->record.split_count != newest.pg->record.split_count))
            return false;
        if (!other.in_parent && (!newest.pg || other.view.commit_index > committed)) {
            newest = other;
            committed = other.view.commit_index;
        }
        if (other.pg->record.group.count != 3)
            return false;
        if (i == lost[0] || i == lost[1])
            continue;
        survivor = other;
        others++;
    }
    if (others != 1 || !newest.pg)
        return false;
    *ret = survivor;
    if (survivor.in_parent) {
        *ret_has_all = committed <= newest.pg->record.base_index && has_split(survivor.pg, newest.pg);
        return true;
    }
    *ret_has_all = survivor.pg->durable_index >= committed &&
                   store_log_term(survivor.pg, committed) == store_log_term(newest.pg, committed);
    return true;
}

/* One of those leads it, and it is not empty: it can go on without the others, for a while. */
static bool is_led_by(const struct cluster *c, const uint32_t lost[2], uint64_t pg)
{
    struct holding h;
    bool any;

    for (uint32_t i = 0; i < 2; i++)
        if (holding_on(c, lost[i], pg, &h, &any) && h.view.role == RAFT_LEADER && h.pg->object_count)
            return true;
    return false;
}

static void note_since(struct cluster *c, struct force_pg *pg)
{
    for (uint32_t i = 0; i < c->image_count; i++)
        pg->since[i] = linear_stamp(c->images[i].history);
}

static struct force_pg *listed(struct force *f, uint64_t pg)
{
    for (uint32_t k = 0; k < f->pg_count; k++)
        if (f->pgs[k].id == pg)
            return &f->pgs[k];
    return NULL;
}

/* It was split off, and has committed the first entry of its first leader at most: nothing else. */
static bool is_newborn(const struct holding *h)
{
    return !h->in_parent && h->pg->record.base_term < h->view.term &&
           h->view.commit_index <= h->pg->record.base_index + 1;
}

/* One that both have, and that is not listed yet: it is new, or has just been split off, or since the `last`
 * look at its parent. False: it would not survive, or lose something that its parent had. */
static bool list_pg(struct cluster *c, uint64_t pg, bool last)
{
    struct force *f = &c->force;
    const struct force_pg *parent = listed(f, parent_of(c, pg));
    struct holding other = {0};
    bool there[2], has_all, newborn = true;

    for (uint32_t i = 0; i < 2; i++) {
        (void)holding_on(c, f->lost[i], pg, &other, &there[i]);
        newborn &= there[i] && is_newborn(&other);
    }
    if (!there[0] || !there[1] || listed(f, pg))
        return true;
    if (f->pg_count == CLUSTER_FORCE_PGS_MAX || !survives(c, pg, f->lost, &other, &has_all) ||
        (!has_all && !(parent && (last || newborn))))
        return false;
    struct force_pg *to = &f->pgs[f->pg_count++];
    *to = (struct force_pg){.id = pg};
    if (has_all)
        note_since(c, to);
    else
        memcpy(to->since, parent->since, sizeof(to->since));
    return true;
}

/* The PGs that both have; false: one of them would not survive, or lose something now. */
static bool list_pgs(struct cluster *c, bool last)
{
    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        for (const struct store_pg *sp = NULL; (sp = store_pg_next(osd_shard_store(s.is), sp));)
            if (!list_pg(c, sp->record.pg, last))
                return false;
    return true;
}

static bool find_pgs(struct cluster *c)
{
    struct force *f = &c->force;
    bool led = false;

    f->pg_count = 0;
    if (!list_pgs(c, false))
        return false;
    for (uint32_t k = 0; k < f->pg_count; k++)
        led |= is_led_by(c, f->lost, f->pgs[k].id);
    return f->pg_count && (led || !f->loses);
}

/* They could go on still. Notes which has all that was acknowledged until now. What is new comes first: its
 * parent had all of it when that was last looked at, and need not have now. */
static bool look_at_pgs(struct cluster *c)
{
    struct force *f = &c->force;

    if (!list_pgs(c, true))
        return false;
    for (uint32_t k = 0; k < f->pg_count; k++) {
        struct holding survivor;
        bool has_all;
        if (!survives(c, f->pgs[k].id, f->lost, &survivor, &has_all))
            return false;
        if (has_all)
            note_since(c, &f->pgs[k]);
    }
    return true;
}

/* ---- what may be lost ---- */

/* Up to where the survivor has the same log as the others have. */
static void note_match(struct cluster *c, struct force_pg *pg)
{
    struct holding survivor, other;
    bool any, has_all;

    bool there = survives(c, pg->id, c->force.lost, &survivor, &has_all);
    if (!there && !parent_of(c, pg->id))
        return;
    if (!there || survivor.in_parent) { /* up to where it was split off */
        struct force_pg parent = {.id = parent_of(c, pg->id)};
        note_match(c, &parent);
        pg->survivor = parent.survivor;
        pg->survivor_osd = parent.survivor_osd;
        pg->match = parent.match;
        pg->diverged = parent.diverged;
        pg->in_parent = true;
        for (uint32_t i = 0; i < 2; i++)
            if (holding_on(c, c->force.lost[i], pg->id, &other, &any) && !other.in_parent)
                pg->match = MIN(pg->match, other.pg->record.base_index);
        return;
    }
    pg->survivor = survivor.pg->record.replica;
    pg->survivor_osd = group_find(&survivor.pg->record.group, pg->survivor)->osd;
    pg->match = survivor.pg->durable_index;
    for (uint32_t i = 0; i < 2; i++) {
        if (!holding_on(c, c->force.lost[i], pg->id, &other, &any) || other.in_parent)
            continue;
        uint64_t both = MIN(survivor.pg->last_index, other.pg->last_index), at = both;
        while (at >= MAX(survivor.pg->first_index, other.pg->first_index) &&
               store_log_term(survivor.pg, at) != store_log_term(other.pg, at))
            at--;
        if (at < both)
            pg->match = MIN(pg->match, at);
        pg->diverged |= at < both;
    }
}

static void doom_object(struct cluster *c, const struct force_pg *pg, uint64_t image, uint64_t object)
{
    struct force *f = &c->force;

    for (uint32_t i = 0; i < f->doomed_count; i++)
        if (f->doomed[i].image == image && f->doomed[i].object == object)
            return;
    ASSERT(f->doomed_count < CLUSTER_DOOMED_MAX);
    f->doomed[f->doomed_count++] = (struct force_doomed){pg->id, image, object};
}

/* The objects of which a newer entry was applied than the survivor has. */
static void doom_objects(struct cluster *c, const struct force_pg *pg)
{
    struct store_object_info o = {0};
    struct holding other;
    bool any;

    for (uint32_t i = 0; i < 2; i++) {
        if (!holding_on(c, c->force.lost[i], pg->id, &other, &any) || other.in_parent)
            continue;
        for (bool start = true; store_object_next(other.pg, start, o.image, o.object, &o); start = false)
            if (pg->diverged || o.index > pg->match)
                doom_object(c, pg, o.image, o.object);
    }
}

static void object_back(struct cluster *c, const struct force_pg *pg, const struct force_doomed *d)
{
    for (uint32_t i = 0; i < c->image_count; i++)
        if (c->images[i].id_seen == d->image)
            c->force.lost_writes +=
                check_rollback(c, i, (uint32_t)d->object * OBJECT_SECTORS, OBJECT_SECTORS, pg->since[i]);
}

/* The survivor has its new number, and will lead at once: from now on its state is that of the PG. */
static bool has_gone_on(const struct cluster *c, const struct force_pg *pg)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->shard_count && c->osds[i].id == pg->survivor_osd; j++) {
            const struct osd_shard *shard = c->osds[i].shards[j];
            const struct store_pg *sp = shard ? store_pg_find(osd_shard_store(shard), pg->id) : NULL;
            if (sp)
                return sp->record.replica != pg->survivor;
        }
    return false;
}

void force_watch(struct cluster *c)
{
    struct force *f = &c->force;

    if (!f->destroyed || f->on_count == f->pg_count)
        return;
    for (uint32_t k = 0; k < f->pg_count; k++) {
        struct force_pg *pg = &f->pgs[k];
        /* Until it is split off, who has an older map asks its parent. */
        const struct force_pg *by = pg->in_parent ? listed(f, parent_of(c, pg->id)) : pg;
        if (pg->went_on || !has_gone_on(c, by))
            continue;
        pg->went_on = true;
        f->on_count++;
        for (uint32_t i = 0; i < f->doomed_count; i++)
            if (f->doomed[i].pg == pg->id)
                object_back(c, pg, &f->doomed[i]);
    }
}

bool force_goes_on(const struct cluster *c, uint64_t pg)
{
    const struct force_pg *known = listed((struct force *)(uintptr_t)&c->force, pg);

    return known && has_gone_on(c, known);
}

uint64_t force_pg_name(const struct cluster *c, uint64_t pg)
{
    for (uint32_t k = 0; c->force.destroyed && k < c->force.pg_count; k++)
        if (c->force.pgs[k].id == pg)
            return ~pg;
    return pg;
}

/* ---- those that come back ---- */

static void ghost_part(struct cluster_osd *ghost, enum sim_path path)
{
    struct cluster *c = ghost->process.cluster;

    for (uint32_t i = 0; i < c->mon_count; i++)
        sim_net_set_path(c->net, ghost->process.host, c->mons[i].host, path);
}

static void ghost_told_fire(void *owner)
{
    ghost_part(owner, SIM_PATH_OPEN);
}

/* Perhaps the monitor cannot tell it at once what it is. */
static void ghost_fire(void *owner)
{
    struct cluster_osd *ghost = owner;
    struct cluster *c = ghost->process.cluster;

    if (c->quiet)
        return;
    sim_log(c->sim, "%s comes back from the dead", ghost->process.name);
    if (sim_rng_below(&c->force.rng, 2)) {
        ghost_part(ghost, SIM_PATH_BLOCK);
        sim_after(c->sim, sim_rng_range(&c->force.rng, 2 * NS_PER_S, 5 * NS_PER_S), ghost_told_fire, ghost);
    }
    process_start(&ghost->process);
}

/* It has been given up. */
static void given_up(struct cluster *c, const struct admin_job *job)
{
    for (uint32_t i = 0; i < 2; i++)
        if (c->force.ghosts[i].id == job->osd)
            sim_after(c->sim, sim_rng_below(&c->force.rng, 4 * NS_PER_S), ghost_fire, &c->force.ghosts[i]);
}

void force_stop(struct cluster *c)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct process *p = &c->force.ghosts[i].process;
        p->wanted = false;
        if (process_running(p))
            process_kill(p, SIM_CRASH_PROCESS, NS_PER_S);
    }
}

void force_fini(struct cluster *c)
{
    for (uint32_t i = 0; i < 2 && c->force.destroyed; i++)
        sim_disk_free(c->force.ghosts[i].disk);
}

/* ---- destruction ---- */

static bool all_serve(const struct cluster *c)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->shard_count; j++)
            if (!c->osds[i].shards[j] || osd_shard_failed(c->osds[i].shards[j]))
                return false;
    return true;
}

static void replaced(struct cluster *c, const struct admin_job *job)
{
    process_start(&c->osds[job->osd].process);
}

static void destroy(struct cluster *c, uint32_t which)
{
    struct cluster_osd *osd = &c->osds[c->force.lost[which]];

    osd->process.wanted = false;
    process_kill(&osd->process, SIM_CRASH_POWER, NS_PER_S);
    osd_ghost_init(&c->force.ghosts[which], osd);
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_LOST, .osd = osd->id, .done = given_up});
    for (uint32_t i = 0; i < sizeof(osd->uuid); i++)
        osd->uuid[i] = (uint8_t)sim_rng_u64(&c->force.rng);
    c->out[osd->number] = false;
}

/* What a survivor is about to split off will have lost its majority when it is born. */
static void list_unborn(struct cluster *c, const struct force_pg *parent)
{
    struct force *f = &c->force;
    struct holding survivor;
    struct entry entry;
    struct slice payload;
    bool has_all;

    if (!survives(c, parent->id, f->lost, &survivor, &has_all) || survivor.in_parent)
        return;
    for (uint64_t i = survivor.pg->applied_index + 1; i <= survivor.pg->last_index; i++) {
        uint64_t child = store_log_get(survivor.pg, i, &entry, &payload) || entry.type != ENTRY_SPLIT
                             ? 0
                             : placement_pg_id((uint32_t)(parent->id >> 32), (uint32_t)entry.image);
        if (!child || listed(f, child) || f->pg_count == CLUSTER_FORCE_PGS_MAX)
            continue;
        f->pgs[f->pg_count] = *parent;
        f->pgs[f->pg_count++].id = child;
    }
}

static void strike(struct cluster *c)
{
    struct force *f = &c->force;

    sim_injected(c->sim, SIM_FAULT_FORCE);
    for (uint32_t k = 0; k < f->pg_count; k++)
        list_unborn(c, &f->pgs[k]);
    for (uint32_t k = 0; k < f->pg_count; k++) {
        note_match(c, &f->pgs[k]);
        doom_objects(c, &f->pgs[k]);
    }
    sim_log(c->sim,
            "%s and %s are destroyed: %u PGs lose their majority, and %u objects some of what was written",
            c->osds[f->lost[0]].process.name, c->osds[f->lost[1]].process.name, f->pg_count, f->doomed_count);
    f->destroyed = true;
    for (uint32_t i = 0; i < 2; i++)
        destroy(c, i);
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_FORCE});
    for (uint32_t i = 0; i < 2; i++)
        admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_REPLACE, .osd = f->lost[i], .done = replaced});
}

static void force_fire(void *owner);

/* The survivors hear nothing any more; the others go on without them, until they are destroyed. */
static void hold_fire(void *owner)
{
    struct cluster *c = owner;
    struct force *f = &c->force;

    if (c->quiet)
        return;
    if (!all_serve(c) || !look_at_pgs(c) || c->sim->now_ns > f->strike_ns + HOLD_LONGER_NS) {
        sim_after(c->sim, FORCE_EVERY_NS, force_fire, c);
        return;
    }
    if (c->sim->now_ns >= f->strike_ns && admin_idle(c))
        strike(c);
    else
        sim_after(c->sim, FORCE_LOOK_NS, hold_fire, c);
}

static void hold_begin(struct cluster *c)
{
    struct force *f = &c->force;
    uint64_t for_ns = sim_rng_range(&f->rng, 50 * NS_PER_MS, 2000 * NS_PER_MS);

    f->strike_ns = c->sim->now_ns + for_ns;
    sim_log(c->sim, "nothing that %s and %s send gets to the other OSDs any more",
            c->osds[f->lost[0]].process.name, c->osds[f->lost[1]].process.name);
    for (uint32_t k = 0; k < 2; k++)
        for (uint32_t i = 0; i < c->osd_count; i++)
            if (i != f->lost[0] && i != f->lost[1])
                sim_net_hold(c->net, c->osds[f->lost[k]].process.host, c->osds[i].process.host,
                             for_ns + HOLD_LONGER_NS, true);
    hold_fire(c);
}

bool force_waits(const struct cluster *c)
{
    return c->force.at_split && !c->force.destroyed && !c->quiet && c->sim->now_ns <= c->force.until_ns;
}

/* When a PG is split, or is about to be and one of its members hears nothing of it. */
static void split_fire(void *owner)
{
    struct cluster *c = owner;
    struct force *f = &c->force;
    uint32_t osds[3];

    if (!force_waits(c))
        return;
    if (!admin_idle(c) || !all_serve(c) || !split_moment(c, !f->loses, osds)) {
        sim_after(c->sim, c->split.next == c->pg_count ? FORCE_LOOK_NS : SPLIT_LOOK_NS, split_fire, c);
        return;
    }
    uint32_t left = f->loses ? 1 + (uint32_t)sim_rng_below(&f->rng, 2) : (uint32_t)sim_rng_below(&f->rng, 3);
    f->lost[0] = osds[(left + 1) % 3];
    f->lost[1] = osds[(left + 2) % 3];
    if (!find_pgs(c))
        sim_after(c->sim, SPLIT_LOOK_NS, split_fire, c);
    else if (f->loses)
        hold_begin(c);
    else
        strike(c);
}

static void force_fire(void *owner)
{
    struct cluster *c = owner;
    struct force *f = &c->force;

    if (f->at_split) {
        split_fire(c);
        return;
    }
    if (c->quiet || c->sim->now_ns > f->until_ns)
        return;
    f->lost[0] = (uint32_t)sim_rng_below(&f->rng, c->osd_count);
    f->lost[1] = (f->lost[0] + 1 + (uint32_t)sim_rng_below(&f->rng, c->osd_count - 1)) % c->osd_count;
    if (!admin_idle(c) || !all_serve(c) || !find_pgs(c))
        sim_after(c->sim, FORCE_EVERY_NS, force_fire, c);
    else if (f->loses)
        hold_begin(c);
    else
        strike(c);
}

void force_start(struct cluster *c)
{
    if (!sim_fault_intensity(c->sim, SIM_FAULT_FORCE) || c->osd_count < FORCE_OSDS_MIN || c->damage ||
        c->profile == PROFILE_FULL)
        return;
    c->force.rng = sim_rng_make(c->sim->seed, "cluster.force", 0);
    c->force.until_ns = c->sim->now_ns + FORCE_LAST_NS;
    /* Fences and sizes are not lost in vain: what they keep out might come back in. */
    c->force.loses =
        sim_rng_below(&c->force.rng, 2) && c->profile != PROFILE_FENCE && c->profile != PROFILE_RESIZE;
    uint64_t first_ns = sim_rng_below(&c->force.rng, FORCE_FIRST_NS);
    c->force.at_split = splits_happen(c) && sim_rng_below(&c->force.rng, 2);
    if (c->force.at_split)
        c->force.until_ns = c->sim->now_ns + SPLIT_LAST_NS;
    sim_after(c->sim, first_ns, force_fire, c);
}
