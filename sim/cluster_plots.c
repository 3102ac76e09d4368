/* SPDX-License-Identifier: Apache-2.0
 *
 * Plots: several things go wrong together, in the order that would hurt most if a rule were left out. What a
 * run's profile says is plotted again and again; a plot ends before the next one begins. Between the steps of
 * a plot everything else goes on, so it may come to nothing.
 */
#include "sim/cluster_plots.h"

#include <stdlib.h>

#include "raft/raft.h"

#define GAP_MAX_NS (600 * NS_PER_MS)

struct plot *plot_new(struct cluster *c)
{
    struct plot *p = sim_alloc(sizeof(*p));

    p->c = c;
    c->plot = true;
    c->plots++;
    return p;
}

void plot_end(void *owner)
{
    struct plot *p = owner;

    p->c->plot = false;
    p->over = true;
    if (!p->watches)
        free(p);
}

uint64_t plot_between(struct cluster *c, uint64_t min_ms, uint64_t max_ms)
{
    return sim_rng_range(&c->rng, min_ms * NS_PER_MS, max_ms * NS_PER_MS);
}

/* ---- who is who ---- */

bool plot_leads(const struct osd_shard *shard, uint64_t pg)
{
    struct osd_pg_view view;

    return osd_pg_view(shard, pg, &view) && view.role == RAFT_LEADER;
}

bool plot_has_replica(const struct cluster *c, const struct cluster_osd *osd, uint64_t pg)
{
    for (uint32_t i = 0; i < c->shard_count; i++)
        if (osd->shards[i] && store_pg_find(osd_shard_store(osd->shards[i]), pg))
            return true;
    return false;
}

uint32_t plot_find_led(const struct cluster *c, const struct cluster_osd *osd, uint64_t pgs[PLOT_PGS_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < c->shard_count; i++) {
        if (!osd->shards[i])
            continue;
        const struct store *store = osd_shard_store(osd->shards[i]);
        for (const struct store_pg *pg = NULL; (pg = store_pg_next(store, pg));)
            if (count < PLOT_PGS_MAX && pg->object_count && plot_leads(osd->shards[i], pg->record.pg))
                pgs[count++] = pg->record.pg;
    }
    return count;
}

struct cluster_osd *plot_find_leader(struct cluster *c, uint64_t pgs[PLOT_PGS_MAX], uint32_t *ret_count)
{
    uint32_t from = (uint32_t)sim_rng_below(&c->rng, c->osd_count);

    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *osd = &c->osds[(from + i) % c->osd_count];
        *ret_count = process_running(&osd->process) ? plot_find_led(c, osd, pgs) : 0;
        if (*ret_count)
            return osd;
    }
    return NULL;
}

struct cluster_osd *plot_find_other(struct cluster *c, const struct cluster_osd *osd, uint64_t pg)
{
    uint32_t from = (uint32_t)sim_rng_below(&c->rng, c->osd_count);

    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *other = &c->osds[(from + i) % c->osd_count];
        if (other != osd && plot_has_replica(c, other, pg))
            return other;
    }
    return NULL;
}

struct cluster_osd *plot_find_third(struct cluster *c, const struct cluster_osd *one,
                                    const struct cluster_osd *two, uint64_t pg)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (&c->osds[i] != one && &c->osds[i] != two && plot_has_replica(c, &c->osds[i], pg))
            return &c->osds[i];
    return NULL;
}

void plot_hold_to_all(struct cluster *c, const struct process *from, uint64_t for_ns, bool new_links)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        sim_net_hold(c->net, from->host, c->osds[i].process.host, for_ns, new_links);
}

/* ---- one after the other ---- */

static bool plot_begin(struct cluster *c)
{
    struct sim_rng kinds = sim_rng_make(c->sim->seed, "kinds of plots", 0);
    bool other = sim_rng_below(&kinds, 2); /* in half of the runs some of them are */

    switch (c->profile) {
    case PROFILE_LATE:
        return other && sim_rng_below(&c->rng, 2) ? plot_greeting(c) : plot_late(c);
    case PROFILE_FENCE:
        return plot_fence(c);
    case PROFILE_TERM:
        if (other && sim_rng_below(&c->rng, 2))
            return plot_handed(c);
        return sim_rng_below(&c->rng, 2) ? plot_term(c) : plot_unwon(c);
    case PROFILE_RESIZE:
        return plot_resize(c);
    case PROFILE_LEADER:
        return plot_leader(c);
    case PROFILE_LAG:
        return plot_lag(c);
    case PROFILE_REST:
        return plot_rest(c);
    case PROFILE_ANY:
    case PROFILE_MERGE:
    case PROFILE_FULL:
    case PROFILE_COUNT:
        break;
    }
    return false;
}

static void plots_fire(void *owner)
{
    struct cluster *c = owner;

    if (c->quiet)
        return;
    if (!c->plot)
        (void)plot_begin(c);
    sim_after(c->sim, sim_rng_below(&c->rng, GAP_MAX_NS), plots_fire, c);
}

void plots_start(struct cluster *c)
{
    sim_after(c->sim, sim_rng_below(&c->rng, GAP_MAX_NS), plots_fire, c);
}
