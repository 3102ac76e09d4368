/* SPDX-License-Identifier: Apache-2.0
 *
 * An image is removed, and made again; and when its tombstone is about to be forgotten, a replica dies or
 * hears nothing any more that has yet to be told: for so long, perhaps, that it must recover, from a leader
 * which knows nothing of that image. In half of the runs whose rings are small.
 */
#include "sim/cluster.h"

#include <stdlib.h>

#include "base/entry.h"
#include "raft/raft.h"

#define FIRST_NS (2 * NS_PER_S)
#define EVERY_NS (1500 * NS_PER_MS)
#define LOOK_NS  (100 * NS_PER_US)
#define WATCH_NS (2500 * NS_PER_MS) /* a leader looks once in a second whether all have the tombstone */

struct forget {
    struct cluster *c;
    struct sim_rng rng;
    uint32_t image;
    uint64_t until_ns;
};

static void forget_fire(void *owner);

static void forget_again(struct forget *f)
{
    sim_after(f->c->sim, sim_rng_below(&f->rng, EVERY_NS), forget_fire, f);
}

/* Does its log forget an image behind what is applied on that one? */
static bool is_to_forget(const struct store_pg *leader, const struct store_pg *other)
{
    struct entry entry;
    struct slice payload;

    for (uint64_t i = MAX(other->applied_index + 1, leader->first_index); i <= leader->last_index; i++)
        if (!store_log_get(leader, i, &entry, &payload) && entry.type == ENTRY_FORGET)
            return true;
    return false;
}

static struct cluster_osd *find_late(struct cluster *c, const struct cluster_osd *leader,
                                     const struct store_pg *pg)
{
    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++) {
        struct cluster_osd *osd = &c->osds[i / c->shard_count];
        const struct osd_shard *shard = osd->shards[i % c->shard_count];
        const struct store_pg *sp =
            shard && osd != leader ? store_pg_find(osd_shard_store(shard), pg->record.pg) : NULL;

        if (sp && is_to_forget(pg, sp))
            return osd;
    }
    return NULL;
}

static struct cluster_osd *find_any_late(struct cluster *c)
{
    struct osd_pg_view view;
    struct cluster_osd *late = NULL;

    for (uint32_t i = 0; i < c->osd_count * c->shard_count && !late; i++) {
        struct cluster_osd *osd = &c->osds[i / c->shard_count];
        const struct osd_shard *shard = osd->shards[i % c->shard_count];
        for (const struct store_pg *sp = NULL;
             shard && !late && (sp = store_pg_next(osd_shard_store(shard), sp));)
            if (osd_pg_view(shard, sp->record.pg, &view) && view.role == RAFT_LEADER)
                late = find_late(c, osd, sp);
    }
    return late;
}

static void forget_watch(void *owner)
{
    struct forget *f = owner;
    struct cluster *c = f->c;
    struct cluster_osd *osd = c->quiet ? NULL : find_any_late(c);

    if (!osd && !c->quiet && c->sim->now_ns < f->until_ns) {
        sim_after(c->sim, LOOK_NS, forget_watch, f);
        return;
    }
    if (osd) {
        uint64_t away_ns = sim_rng_range(&f->rng, 500 * NS_PER_MS, 3 * NS_PER_S);
        sim_log(c->sim, "%s is to forget an image, and is away", osd->process.name);
        if (sim_rng_below(&f->rng, 2))
            process_kill(&osd->process, sim_rng_below(&f->rng, 2) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS,
                         away_ns);
        for (uint32_t i = 0; i < c->osd_count; i++)
            if (&c->osds[i] != osd)
                sim_net_hold(c->net, c->osds[i].process.host, osd->process.host, away_ns, true);
    }
    forget_again(f);
}

static void forget_created(struct cluster *c, const struct admin_job *job)
{
    struct forget *f = job->owner;

    c->recreations++;
    load_image_cleared(c, f->image, 0);
    c->images[f->image].evict = false;
    f->until_ns = c->sim->now_ns + WATCH_NS;
    forget_watch(f);
}

static void forget_fire(void *owner)
{
    struct forget *f = owner;
    struct cluster *c = f->c;

    if (c->quiet) {
        free(f);
        return;
    }
    f->image = (uint32_t)sim_rng_below(&f->rng, c->image_count);
    if (!admin_takes(c) || !load_writer(c, f->image)) {
        forget_again(f);
        return;
    }
    sim_log(c->sim, "%s is to be removed, and forgotten", c->images[f->image].name);
    c->images[f->image].evict = true;
    load_image_changes(c, f->image, c->image_sectors);
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_REMOVE, .image = f->image});
    admin_ask(c, &(struct admin_job){
                     .kind = ADMIN_JOB_CREATE, .image = f->image, .done = forget_created, .owner = f});
}

void forget_start(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "cluster.forget", 0);

    if (c->profile != PROFILE_LAG || sim_rng_below(&rng, 2))
        return;
    struct forget *f = sim_alloc(sizeof(*f));
    *f = (struct forget){.c = c, .rng = rng};
    sim_after(c->sim, FIRST_NS + sim_rng_below(&f->rng, EVERY_NS), forget_fire, f);
}
