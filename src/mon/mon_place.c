/* SPDX-License-Identifier: Apache-2.0
 *
 * The map as placement sees it (placement.h).
 */
#include "mon/impl.h"

#include <stdlib.h>

static int compare_osds(const void *a, const void *b)
{
    const struct placement_osd *left = a, *right = b;

    return (left->osd > right->osd) - (left->osd < right->osd);
}

struct placement_osd *mon_place_find(struct placement_osd *osds, uint32_t count, uint32_t osd)
{
    struct placement_osd key = {.osd = osd};

    return bsearch(&key, osds, count, sizeof(*osds), compare_osds);
}

static void add_osd(struct placement_osd *p, const struct mon_osd *o)
{
    const Fb__Osd *osd = mon_osd_item(o);

    *p = (struct placement_osd){.osd = osd->id,
                                .host = osd->host,
                                .rack = osd->rack,
                                .size_bytes = osd->size_bytes / MON_WEIGHT_MAX * osd->weight,
                                .shard_count = (uint32_t)osd->n_shard};
    for (uint32_t s = 0; s < p->shard_count; s++)
        p->shard_usable[s] = osd->shard[s]->address[0] && !o->shard[s].failed[0];
}

struct placement_osd *mon_place_osds(const struct mon *mon, uint32_t *ret_count)
{
    struct placement_osd *osds = calloc(mon->items[MON_OSD].count + 1, sizeof(*osds));
    uint32_t count = 0;

    if (!osds)
        return NULL;
    mon_for_each(mon, MON_OSD, node)
    {
        const struct mon_osd *o = mon_osd_of(node);
        if (mon_osd_item(o)->up && mon_osd_in(mon_osd_item(o)))
            add_osd(&osds[count++], o);
    }
    qsort(osds, count, sizeof(*osds), compare_osds);
    mon_for_each(mon, MON_PG, pg_node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(pg_node));
        for (size_t m = 0; m < pg->n_member && !pg->removed; m++) {
            struct placement_osd *p = mon_place_find(osds, count, pg->member[m]->osd);
            if (!p || pg->member[m]->shard >= p->shard_count)
                continue;
            p->load++;
            p->shard_load[pg->member[m]->shard]++;
            p->leaders += m == 0;
        }
    }
    *ret_count = count;
    return osds;
}
