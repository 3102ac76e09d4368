/* SPDX-License-Identifier: Apache-2.0
 *
 * The map as placement sees it (placement.h).
 */
#include "mon/impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                                .zone = osd->zone,
                                .size_bytes = osd->size_bytes / MON_WEIGHT_MAX * osd->weight,
                                .shard_count = (uint32_t)osd->n_shard};
    for (uint32_t s = 0; s < p->shard_count; s++) {
        p->shard_usable[s] = osd->shard[s]->address[0] && !o->shard[s].failed[0];
        p->shard_pgs_max[s] = osd->shard[s]->pgs_max;
    }
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
    *ret_count = count;
    return osds;
}

/* ---- the whole map ---- */

const struct placement_chooser *mon_chooser_find(const struct mon *mon, const char *name)
{
    for (uint32_t i = 0; i < mon->config.chooser_count; i++)
        if (!strcmp(mon->config.choosers[i]->name, name))
            return mon->config.choosers[i];
    return NULL;
}

static int compare_pools(const void *a, const void *b)
{
    const struct placement_pool *left = a, *right = b;

    return (left->id > right->id) - (left->id < right->id);
}

static int compare_pgs(const void *a, const void *b)
{
    const struct placement_pg *left = a, *right = b;

    return (left->id > right->id) - (left->id < right->id);
}

/* The plan may outlive the items. */
static const char *keep(char *to, const char *text)
{
    snprintf(to, MON_TEXT_MAX, "%.*s", MON_TEXT_MAX - 1, text);
    return to;
}

static void add_all_osds(struct mon_place *place, const struct mon *mon)
{
    struct mon_location *at = place->locations;

    mon_for_each(mon, MON_OSD, node)
    {
        const struct mon_osd *o = mon_osd_of(node);
        if (mon_osd_item(o)->removed)
            continue;
        struct placement_osd *p = &place->osds[place->input.osd_count++];
        add_osd(p, o);
        p->host = keep(at->host, p->host);
        p->rack = keep(at->rack, p->rack);
        p->zone = keep(at->zone, p->zone);
        at++;
        p->size_bytes = mon_osd_item(o)->size_bytes;
        p->weight = mon_osd_in(mon_osd_item(o)) ? mon_osd_item(o)->weight : 0;
        p->up = mon_osd_item(o)->up;
    }
    qsort(place->osds, place->input.osd_count, sizeof(*place->osds), compare_osds);
}

static void add_pool(struct mon_place *place, const struct mon *mon, const Fb__Pool *pool)
{
    struct placement_pool *p = &place->pools[place->input.pool_count];

    *p = (struct placement_pool){
        .id = pool->id, .replicas = pool->replicas, .chooser = mon_chooser_find(mon, pool->placement)};
    if (!placement_domain_parse(pool->failure_domain, &p->domain))
        place->input.pool_count++;
}

static void add_pools(struct mon_place *place, const struct mon *mon)
{
    mon_for_each(mon, MON_POOL, node)
    {
        const Fb__Pool *pool = mon_pool_item(mon_pool_of(node));
        if (!pool->removed)
            add_pool(place, mon, pool);
    }
    qsort(place->pools, place->input.pool_count, sizeof(*place->pools), compare_pools);
}

/* What the PG is on its way to, or what it is. */
static void fill_pg(struct placement_pg *p, const struct mon *mon, const struct mon_pg *pg)
{
    const Fb__Pg *item = mon_pg_item(pg);
    const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(item->id));
    bool moves = item->n_wanted;
    size_t count = moves ? item->n_wanted : item->n_member;

    *p = (struct placement_pg){.id = item->id, .pinned = moves && count == mon_pool_item(pool)->replicas};
    for (size_t m = 0; m < count && p->member_count < PLACEMENT_REPLICAS_MAX; m++) {
        const Fb__PgMember *row = moves ? item->wanted[m] : item->member[m];
        const struct mon_osd *o = mon_osd_find(mon, row->osd);
        if (!o || !mon_osd_in(mon_osd_item(o)))
            p->pinned = false;
        bool lost =
            mon_confirmed(&mon_news(pg)->lost, row->replica) || (o && mon_shard_given_up(o, row->shard));
        if (lost)
            p->pinned = false;
        if (moves ? mon_move_failed(mon, pg, row) : row->learner) {
            p->pinned = false;
            continue;
        }
        p->lost |= (uint8_t)((uint32_t)lost << p->member_count);
        p->member[p->member_count++] = (struct placement_member){row->osd, row->shard};
    }
}

static void add_pgs(struct mon_place *place, const struct mon *mon)
{
    uint32_t count = 0;

    mon_for_each(mon, MON_PG, node)
    {
        struct mon_pg *pg = mon_pg_of(node);
        const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(node->key));
        if (!mon_pg_item(pg)->removed && pool && !mon_pool_item(pool)->removed)
            fill_pg(&place->pgs[count++], mon, pg);
    }
    qsort(place->pgs, count, sizeof(*place->pgs), compare_pgs);
    place->input.pg_count = count;
}

int mon_place_init(struct mon_place *place, const struct mon *mon)
{
    *place =
        (struct mon_place){.osds = calloc(mon->items[MON_OSD].count + 1, sizeof(*place->osds)),
                           .pools = calloc(mon->items[MON_POOL].count + 1, sizeof(*place->pools)),
                           .pgs = calloc(mon->items[MON_PG].count + 1, sizeof(*place->pgs)),
                           .locations = calloc(mon->items[MON_OSD].count + 1, sizeof(*place->locations))};
    if (!place->osds || !place->pools || !place->pgs || !place->locations) {
        mon_place_fini(place);
        *place = (struct mon_place){0};
        return -ERR_NO_MEMORY;
    }
    add_all_osds(place, mon);
    add_pools(place, mon);
    add_pgs(place, mon);
    place->input.osds = place->osds;
    place->input.pools = place->pools;
    place->input.pgs = place->pgs;
    place->input.repair_only = mon->state.norebalance;
    return 0;
}

int mon_place_pool(struct mon_place *place, const struct mon *mon, const Fb__Pool *pool,
                   struct placement_plan *ret_plan)
{
    struct placement_input *in = &place->input;
    struct placement_pg *pgs = realloc(place->pgs, (in->pg_count + pool->pg_count) * sizeof(*pgs));

    if (!pgs)
        return -ERR_NO_MEMORY;
    place->pgs = pgs;
    for (uint32_t i = 0; i < in->pg_count; i++)
        pgs[i].pinned = true;
    for (uint32_t n = 0; n < pool->pg_count; n++)
        pgs[in->pg_count + n] = (struct placement_pg){.id = (uint64_t)pool->id << 32 | n};
    add_pool(place, mon, pool);
    in->pgs = pgs;
    in->pg_count += pool->pg_count;
    in->repair_only = false;
    in->only = pool->id;
    return placement_plan(in, ret_plan);
}

void mon_place_fini(struct mon_place *place)
{
    free(place->osds);
    free(place->pools);
    free(place->pgs);
    free(place->locations);
}
