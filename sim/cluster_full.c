/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices that are too small, each of another size. Whoever is away has no say: the others write on, up to
 * what they have themselves, and when it is back it may have no room for what is in their logs. In half of
 * those runs.
 */
#include "sim/cluster.h"

#include <stdlib.h>

#define EVERY_NS (3 * NS_PER_S)

struct full {
    struct cluster *c;
    struct sim_rng rng;
};

/* Mostly the one that has least. */
static struct cluster_osd *find_small(struct full *f)
{
    struct cluster *c = f->c;
    struct cluster_osd *small = &c->osds[sim_rng_below(&f->rng, c->osd_count)];

    for (uint32_t i = 0; i < c->osd_count && sim_rng_below(&f->rng, 4); i++)
        if (sim_disk_size(c->osds[i].disk) < sim_disk_size(small->disk))
            small = &c->osds[i];
    return small;
}

static void full_fire(void *owner)
{
    struct full *f = owner;
    struct cluster *c = f->c;
    struct cluster_osd *osd = find_small(f);

    if (c->quiet) {
        free(f);
        return;
    }
    if (process_running(&osd->process))
        process_kill(&osd->process, SIM_CRASH_PROCESS, sim_rng_range(&f->rng, NS_PER_S, 5 * NS_PER_S));
    sim_after(c->sim, NS_PER_S + sim_rng_below(&f->rng, EVERY_NS), full_fire, f);
}

void full_start(struct cluster *c)
{
    struct sim_rng rng = sim_rng_make(c->sim->seed, "cluster.full", 0);

    if (c->profile != PROFILE_FULL || sim_rng_below(&rng, 2))
        return;
    struct full *f = sim_alloc(sizeof(*f));
    *f = (struct full){.c = c, .rng = rng};
    sim_after(c->sim, sim_rng_below(&f->rng, EVERY_NS), full_fire, f);
}
