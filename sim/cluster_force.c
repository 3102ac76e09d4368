/* SPDX-License-Identifier: Apache-2.0
 *
 * Two OSDs are destroyed at one moment, and with them the majority of some PGs: the operator gives them up,
 * has those PGs go on with the replica that is left, and puts new devices in their place.
 *
 * It happens at a moment at which what is left has all that was ever acknowledged: so nothing may be lost,
 * and histories are judged as always. The new devices are those of the old OSDs, formatted anew.
 */
#include "sim/cluster_boot.h"

#include "store/store.h"

#define FORCE_FIRST_NS (1500 * NS_PER_MS) /* at most, after faults began */
#define FORCE_LAST_NS  (6 * NS_PER_S)     /* if there was no such moment until then, there will be none */
#define FORCE_EVERY_NS (10 * NS_PER_MS)
#define FORCE_OSDS_MIN 5

struct holding {
    const struct store_pg *pg;
    struct osd_pg_view view;
};

/* The replica of the PG on that OSD; false: it has none that is whole and votes. `ret_any`: it has some. */
static bool holding_on(const struct cluster *c, uint32_t osd, uint64_t pg, struct holding *ret, bool *ret_any)
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

/* Of a PG that both have: is there exactly one more, which has all that may have been acknowledged? */
static bool survives(const struct cluster *c, uint64_t pg, const uint32_t lost[2])
{
    struct holding survivor = {0}, other;
    uint64_t committed = 0;
    uint32_t others = 0;
    bool any;

    for (uint32_t i = 0; i < c->osd_count; i++) {
        bool good = holding_on(c, i, pg, &other, &any);
        if (any && !good)
            return false;
        if (!good)
            continue;
        committed = MAX(committed, other.view.commit_index);
        if (other.pg->record.group.count != 3)
            return false;
        if (i == lost[0] || i == lost[1])
            continue;
        survivor = other;
        others++;
    }
    return others == 1 && survivor.pg->durable_index >= committed;
}

/* The PGs that both have; false: one of them would not survive. */
static bool find_pgs(struct cluster *c, const uint32_t lost[2])
{
    struct force *f = &c->force;

    f->pg_count = 0;
    for (uint32_t j = 0; j < c->shard_count; j++) {
        const struct store *store = osd_shard_store(c->osds[lost[0]].shards[j]);
        for (const struct store_pg *sp = NULL; (sp = store_pg_next(store, sp));) {
            struct holding other;
            bool any;
            (void)holding_on(c, lost[1], sp->record.pg, &other, &any);
            if (!any)
                continue;
            if (f->pg_count == CLUSTER_FORCE_PGS_MAX || !survives(c, sp->record.pg, lost))
                return false;
            f->pgs[f->pg_count++] = sp->record.pg;
        }
    }
    return f->pg_count;
}

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

static void destroy(struct cluster *c, uint32_t number)
{
    struct cluster_osd *osd = &c->osds[number];

    osd->process.wanted = false;
    process_kill(&osd->process, SIM_CRASH_POWER, NS_PER_S);
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_LOST, .osd = osd->id});
    osd->formatted = false;
    osd->label_incarnation = 0;
    for (uint32_t i = 0; i < sizeof(osd->uuid); i++)
        osd->uuid[i] = (uint8_t)sim_rng_u64(&c->force.rng);
    c->out[number] = false;
}

static void force_fire(void *owner)
{
    struct cluster *c = owner;
    uint32_t lost[2];

    if (c->quiet || c->sim->now_ns > c->force.until_ns)
        return;
    lost[0] = (uint32_t)sim_rng_below(&c->force.rng, c->osd_count);
    lost[1] = (lost[0] + 1 + (uint32_t)sim_rng_below(&c->force.rng, c->osd_count - 1)) % c->osd_count;
    if (!admin_idle(c) || !all_serve(c) || !find_pgs(c, lost)) {
        sim_after(c->sim, FORCE_EVERY_NS, force_fire, c);
        return;
    }
    sim_log(c->sim, "%s and %s are destroyed: %u PGs lose their majority", c->osds[lost[0]].process.name,
            c->osds[lost[1]].process.name, c->force.pg_count);
    sim_injected(c->sim, SIM_FAULT_FORCE);
    for (uint32_t i = 0; i < 2; i++)
        destroy(c, lost[i]);
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_FORCE});
    for (uint32_t i = 0; i < 2; i++)
        admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_REPLACE, .osd = lost[i], .done = replaced});
}

void force_start(struct cluster *c)
{
    if (!sim_fault_intensity(c->sim, SIM_FAULT_FORCE) || c->osd_count < FORCE_OSDS_MIN || c->damage ||
        c->profile == PROFILE_FULL)
        return;
    c->force.rng = sim_rng_make(c->sim->seed, "cluster.force", 0);
    c->force.until_ns = c->sim->now_ns + FORCE_LAST_NS;
    sim_after(c->sim, sim_rng_below(&c->force.rng, FORCE_FIRST_NS), force_fire, c);
}
