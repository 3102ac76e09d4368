/* SPDX-License-Identifier: Apache-2.0
 *
 * An OSD is taken out of service for good, as the handbook says: out, until no PG has it any more; then its
 * process is stopped, and it is removed. A new device takes its place. The old one comes back later, at its
 * old address, and nobody may listen to it.
 */
#include "sim/cluster_boot.h"

#include "mon/impl.h"
#include "osd/pg.h"

#define OSDS_MIN  5 /* so many stay that PGs can move */
#define FIRST_NS  (3 * NS_PER_S)
#define LOOK_NS   (20 * NS_PER_MS)
#define TRIES     60 /* it must be noticed to be down */
#define GHOST_NS  (4 * NS_PER_S)
#define OUT_TRIES 3

static void look_fire(void *owner);

bool retire_is_under_way(const struct cluster *c, uint32_t osd)
{
    return c->retire.under_way && c->retire.osd == osd;
}

bool retire_ends(const struct cluster *c)
{
    return c->retire.under_way && !c->osds[c->retire.osd].process.wanted;
}

static void ghost_fire(void *owner)
{
    struct cluster_osd *ghost = owner;

    if (ghost->process.cluster->quiet)
        return;
    sim_log(ghost->process.cluster->sim, "%s comes back from the dead", ghost->process.name);
    process_start(&ghost->process);
}

static void replaced(struct cluster *c, const struct admin_job *job)
{
    process_start(&c->osds[job->osd].process);
}

/* In which anybody leads the PG: who leads in an earlier one has not heard of that yet, nor of who is a
 * member by now. */
static uint64_t newest_term(struct cluster *c, uint64_t id)
{
    uint64_t term = 0;

    for (struct shard_at s = {0}; cluster_shard_next(c, &s);) {
        const struct pg *pg = pg_find(s.is, id);
        term = MAX(term, pg ? pg->led_term : 0);
    }
    return term;
}

/* No group has it any more. Who has heard in the newest term may have died: then who leads in an earlier one
 * has an older group than the map. */
static void check_gone(struct cluster *c, const struct mon *mon, uint32_t id)
{
    for (struct shard_at s = {0}; cluster_shard_next(c, &s);) {
        map_for_each (&s.is->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            const struct mon_pg *known = mon_pg_find(mon, pg->id);
            bool leads = pg->led_term && pg->led_term == newest_term(c, pg->id) &&
                         (!known || pg->raft.group.index >= mon_pg_item(known)->group_index);
            for (uint32_t m = 0; leads && m < pg->raft.group.count; m++)
                if (pg->raft.group.members[m].osd == id)
                    sim_fail(c->sim, "osd.%u is removed, and is a member of PG %llx", id,
                             (unsigned long long)pg->id);
        }
    }
}

/* It was removed, or could not be. */
static void retired(struct cluster *c, const struct admin_job *job)
{
    struct retire *r = &c->retire;
    struct cluster_osd *osd = &c->osds[r->osd];
    const struct mon *mon = mon_leader(c);
    const struct mon_osd *item = mon ? mon_osd_find(mon, job->osd) : NULL;

    r->under_way = false;
    if (!item) { /* look again, when somebody can tell */
        r->under_way = true;
        admin_ask(c, &(struct admin_job){
                         .kind = ADMIN_JOB_RETIRE, .osd = osd->id, .tries = TRIES, .done = retired});
        return;
    }
    if (!mon_osd_item(item)->removed) {
        process_start(&osd->process);
        return;
    }
    check_gone(c, mon, job->osd);
    sim_log(c->sim, "%s was removed", osd->process.name);
    osd_ghost_init(&r->ghost, osd);
    r->gone = true;
    for (uint32_t i = 0; i < sizeof(osd->uuid); i++)
        osd->uuid[i] = (uint8_t)sim_rng_u64(&r->rng);
    c->out[r->osd] = false;
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_REPLACE, .osd = r->osd, .done = replaced});
    sim_after(c->sim, sim_rng_below(&r->rng, GHOST_NS), ghost_fire, &r->ghost);
}

static void look_fire(void *owner)
{
    struct cluster *c = owner;
    struct retire *r = &c->retire;
    struct cluster_osd *osd = &c->osds[r->osd];
    const struct mon *mon = mon_leader(c);
    const struct mon_osd *item = mon ? mon_osd_find(mon, osd->id) : NULL;

    if (c->quiet) {
        r->under_way = false;
        return;
    }
    if (!item || mon_osd_item(item)->out != MON_OUT_ORDERED || mon_osd_replicas(mon, osd->id) ||
        !admin_takes(c)) {
        sim_after(c->sim, LOOK_NS, look_fire, c);
        return;
    }
    osd->process.wanted = false;
    process_kill(&osd->process, SIM_CRASH_PROCESS, 0);
    admin_ask(c,
              &(struct admin_job){.kind = ADMIN_JOB_RETIRE, .osd = osd->id, .tries = TRIES, .done = retired});
}

static void retire_fire(void *owner)
{
    struct cluster *c = owner;
    struct retire *r = &c->retire;

    if (c->quiet)
        return;
    r->osd = (uint32_t)sim_rng_below(&r->rng, c->osd_count);
    if (!c->osds[r->osd].formatted) {
        sim_after(c->sim, LOOK_NS, retire_fire, c);
        return;
    }
    sim_log(c->sim, "%s is to be removed", c->osds[r->osd].process.name);
    r->under_way = true;
    c->out[r->osd] = true;
    admin_ask(c, &(struct admin_job){
                     .kind = ADMIN_JOB_OSD, .osd = c->osds[r->osd].id, .out = true, .tries = OUT_TRIES});
    look_fire(c);
}

void retire_start(struct cluster *c)
{
    struct retire *r = &c->retire;

    if (!sim_fault_intensity(c->sim, SIM_FAULT_MEMBER) || sim_fault_intensity(c->sim, SIM_FAULT_FORCE) ||
        c->osd_count < OSDS_MIN || c->damage || c->profile == PROFILE_FULL)
        return;
    r->rng = sim_rng_make(c->sim->seed, "cluster.retire", 0);
    sim_after(c->sim, sim_rng_below(&r->rng, FIRST_NS), retire_fire, c);
}

void retire_stop(struct cluster *c)
{
    struct process *p = &c->retire.ghost.process;

    if (!c->retire.gone)
        return;
    p->wanted = false;
    if (process_running(p))
        process_kill(p, SIM_CRASH_PROCESS, NS_PER_S);
}

void retire_fini(struct cluster *c)
{
    if (c->retire.gone)
        sim_disk_free(c->retire.ghost.disk);
}
