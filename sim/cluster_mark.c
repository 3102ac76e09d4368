/* SPDX-License-Identifier: Apache-2.0
 *
 * A replica lags behind, and has copied some of what it lacks, when its source hands over to the one whose
 * disk is damaged, and dies: what that one finds lost then nobody can help it with but the one that recovers
 * from it. In runs whose rings are small and a disk of which rots.
 */
#include "sim/cluster.h"

#include <stdlib.h>

#include "raft/raft.h"
#include "store/opening.h"

#define FIRST_NS    NS_PER_S
#define EVERY_NS    (1500 * NS_PER_MS)
#define LOOK_NS     (100 * NS_PER_US)
#define LAG_NS      (3500 * NS_PER_MS)
#define LAG_LOOK_NS NS_PER_MS
#define RECOVER_NS  (500 * NS_PER_MS) /* from when it hears again */
#define LEAD_NS     (500 * NS_PER_MS)
#define MOVE_TRIES  3

struct mark {
    struct cluster *c;
    struct sim_rng rng;
    uint64_t pg, last_index; /* of the log of the one that lags */
    struct cluster_osd *source, *victim, *late;
    uint64_t until_ns;
};

static void mark_fire(void *owner);

static uint64_t between_ms(struct mark *m, uint64_t min_ms, uint64_t max_ms)
{
    return sim_rng_range(&m->rng, min_ms * NS_PER_MS, max_ms * NS_PER_MS);
}

static void mark_again(struct mark *m)
{
    sim_after(m->c->sim, sim_rng_below(&m->rng, EVERY_NS), mark_fire, m);
}

static bool view(const struct mark *m, const struct cluster_osd *osd, struct osd_pg_view *ret)
{
    for (uint32_t i = 0; i < m->c->shard_count; i++)
        if (osd->shards[i] && osd_pg_view(osd->shards[i], m->pg, ret))
            return true;
    return false;
}

static bool leads(const struct mark *m, const struct cluster_osd *osd)
{
    struct osd_pg_view v;

    return view(m, osd, &v) && v.role == RAFT_LEADER;
}

static struct store_pg *replica(const struct mark *m, const struct cluster_osd *osd)
{
    for (uint32_t i = 0; i < m->c->shard_count; i++) {
        const struct osd_shard *shard = osd->shards[i];
        struct store_pg *pg = shard ? store_pg_find(osd_shard_store(shard), m->pg) : NULL;
        if (pg)
            return pg;
    }
    return NULL;
}

static void hold_late(struct mark *m, uint64_t for_ns)
{
    struct cluster *c = m->c;

    for (uint32_t i = 0; i < c->osd_count; i++)
        if (&c->osds[i] != m->late)
            sim_net_hold(c->net, c->osds[i].process.host, m->late->process.host, for_ns, true);
}

/* Whose disk is damaged leads: what is read of it from now on is lost. */
static void source_dies(void *owner)
{
    struct mark *m = owner;

    if (!m->c->quiet && leads(m, m->victim)) {
        damage_strike_pg(m->c, m->pg);
        process_kill(&m->source->process, SIM_CRASH_PROCESS, between_ms(m, 500, 2000));
    }
    hold_late(m, 0);
    mark_again(m);
}

static void lead_watch(void *owner)
{
    struct mark *m = owner;

    if (leads(m, m->victim)) {
        sim_after(m->c->sim, between_ms(m, 10, 150), source_dies, m);
    } else if (m->c->sim->now_ns < m->until_ns && !m->c->quiet) {
        sim_after(m->c->sim, LOOK_NS, lead_watch, m);
    } else {
        hold_late(m, 0);
        mark_again(m);
    }
}

/* It has copied some, and has to begin again with another source, which has gone on meanwhile. */
static void hand_over(struct mark *m)
{
    struct cluster *c = m->c;

    sim_log(c->sim, "%s recovers from %s, which is to hand over to %s", m->late->process.name,
            m->source->process.name, m->victim->process.name);
    hold_late(m, 2 * LEAD_NS);
    admin_ask(c, &(struct admin_job){
                     .kind = ADMIN_JOB_MOVE, .pg = m->pg, .osd = m->victim->id, .tries = MOVE_TRIES});
    m->until_ns = c->sim->now_ns + LEAD_NS;
    lead_watch(m);
}

static bool has_copied(const struct mark *m)
{
    struct store_pg *pub = replica(m, m->late);
    struct store_object_info at = {0};

    for (bool start = true; pub && store_object_next(pub, start, at.image, at.object, &at); start = false)
        if (object_find(pg_of(pub), at.image, at.object)->index > m->last_index)
            return true;
    return false;
}

static void recovery_watch(void *owner)
{
    struct mark *m = owner;
    struct osd_pg_view v;

    if (view(m, m->late, &v) && v.recovering && leads(m, m->source) && has_copied(m))
        hand_over(m);
    else if (m->c->sim->now_ns < m->until_ns && !m->c->quiet)
        sim_after(m->c->sim, LOOK_NS, recovery_watch, m);
    else
        mark_again(m);
}

/* It hears again when the log of the others has gone on. */
static void lag_watch(void *owner)
{
    struct mark *m = owner;
    const struct store_pg *source = replica(m, m->source), *late = replica(m, m->late);
    bool behind = source && late && source->first_index > late->last_index + 1;

    if (!behind && m->c->sim->now_ns < m->until_ns && !m->c->quiet) {
        sim_after(m->c->sim, LAG_LOOK_NS, lag_watch, m);
        return;
    }
    hold_late(m, 0);
    m->last_index = late ? late->last_index : UINT64_MAX;
    m->until_ns = m->c->sim->now_ns + RECOVER_NS;
    recovery_watch(m);
}

/* A PG that the victim has a replica of, and does not lead, and one more OSD than its leader's has. */
static bool choose(struct mark *m)
{
    struct cluster *c = m->c;
    uint32_t seen = 0, others;

    m->source = m->victim = m->late = NULL;
    m->pg = 0;
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (damage_is_victim(c, i))
            m->victim = &c->osds[i];
    for (uint32_t i = 0; i < c->shard_count; i++) {
        const struct osd_shard *shard = m->victim->shards[i];
        for (struct store_pg *pg = NULL; shard && (pg = store_pg_next(osd_shard_store(shard), pg));)
            if (pg->object_count && sim_rng_below(&m->rng, ++seen) == 0)
                m->pg = pg->record.pg;
    }
    others = seen = 0;
    for (uint32_t i = 0; i < c->osd_count && m->pg; i++) {
        struct cluster_osd *osd = &c->osds[i];
        struct osd_pg_view v;
        if (osd == m->victim || !view(m, osd, &v))
            continue;
        if (v.role == RAFT_LEADER)
            m->source = osd;
        else if (sim_rng_below(&m->rng, ++others) == 0)
            m->late = osd;
    }
    return m->source && m->late;
}

static void mark_fire(void *owner)
{
    struct mark *m = owner;
    struct cluster *c = m->c;

    if (c->quiet) {
        free(m);
        return;
    }
    if (!admin_takes(c) || !choose(m)) {
        mark_again(m);
        return;
    }
    sim_log(c->sim, "%s lags behind %s, and %s will be damaged", m->late->process.name,
            m->source->process.name, m->victim->process.name);
    hold_late(m, LAG_NS);
    m->until_ns = c->sim->now_ns + LAG_NS;
    lag_watch(m);
}

void mark_start(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "cluster.mark", 0);

    if (c->profile != PROFILE_LAG || !sim_fault_intensity(c->sim, SIM_FAULT_DISK_ROT) ||
        sim_rng_below(&rng, 2))
        return;
    struct mark *m = sim_alloc(sizeof(*m));
    *m = (struct mark){.c = c, .rng = rng};
    sim_after(c->sim, FIRST_NS + sim_rng_below(&m->rng, EVERY_NS), mark_fire, m);
}
