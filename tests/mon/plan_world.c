/* SPDX-License-Identifier: Apache-2.0
 *
 * See plan_world.h.
 */
#include "tests/mon/plan_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *get(void *old, size_t count, size_t size)
{
    void *memory = realloc(old, (count + 1) * size);

    if (!memory) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return memory;
}

static const char *name(char kind, uint32_t number)
{
    char *text = get(NULL, 16, 1);

    snprintf(text, 16, "%c%u", kind, number);
    return text;
}

struct placement_osd *plan_world_add_osd(struct plan_world *w, uint32_t host, uint32_t hosts_per_rack,
                                         uint32_t racks_per_zone, uint32_t shards)
{
    ASSERT(w->osd_count < w->osds_max);
    struct placement_osd *o = &w->osds[w->osd_count];

    *o = (struct placement_osd){.osd = w->osd_count++,
                                .host = name('h', host),
                                .rack = name('r', host / hosts_per_rack),
                                .zone = name('z', host / hosts_per_rack / racks_per_zone),
                                .size_bytes = 1ull << 40,
                                .shard_count = shards,
                                .weight = PLACEMENT_WEIGHT_MAX,
                                .up = true};
    for (uint32_t s = 0; s < shards; s++)
        o->shard_usable[s] = true;
    return o;
}

void plan_world_init(struct plan_world *w, uint32_t osds, uint32_t spare, uint32_t per_host,
                     uint32_t hosts_per_rack, uint32_t racks_per_zone, uint32_t shards)
{
    *w = (struct plan_world){.osds_max = osds + spare};
    w->osds = get(NULL, w->osds_max, sizeof(*w->osds));
    for (uint32_t i = 0; i < osds; i++)
        plan_world_add_osd(w, i / per_host, hosts_per_rack, racks_per_zone, shards);
}

void plan_world_fini(struct plan_world *w)
{
    for (uint32_t i = 0; i < w->osd_count; i++) {
        free((char *)w->osds[i].host);
        free((char *)w->osds[i].rack);
        free((char *)w->osds[i].zone);
    }
    free(w->osds);
    free(w->pools);
    free(w->pgs);
}

void plan_world_add_pool(struct plan_world *w, uint32_t replicas, enum placement_domain domain, uint32_t pgs)
{
    w->pools = get(w->pools, w->pool_count + 1, sizeof(*w->pools));
    w->pools[w->pool_count] =
        (struct placement_pool){.id = w->pool_count + 1, .replicas = replicas, .domain = domain};
    w->pool_count++;
    w->pgs = get(w->pgs, w->pg_count + pgs, sizeof(*w->pgs));
    for (uint32_t n = 0; n < pgs; n++)
        w->pgs[w->pg_count++] = (struct placement_pg){.id = (uint64_t)w->pool_count << 32 | n};
}

struct placement_plan plan_world_plan(const struct plan_world *w, bool repair_only)
{
    struct placement_input input = {.osds = w->osds,
                                    .osd_count = w->osd_count,
                                    .pools = w->pools,
                                    .pool_count = w->pool_count,
                                    .pgs = w->pgs,
                                    .pg_count = w->pg_count,
                                    .repair_only = repair_only};
    struct placement_plan plan;

    if (placement_plan(&input, &plan)) {
        fprintf(stderr, "no memory for a plan\n");
        exit(1);
    }
    return plan;
}

void plan_world_apply(struct plan_world *w, const struct placement_change *change)
{
    struct placement_pg *pg = &w->pgs[change->pg];
    uint8_t lost = 0;

    /* What was lost and is not replaced stays lost. */
    for (uint32_t i = 0; i < pg->member_count; i++)
        for (uint32_t k = 0; k + change->added < change->member_count; k++)
            if (pg->lost >> i & 1 && change->member[k].osd == pg->member[i].osd)
                lost |= (uint8_t)(1u << k);
    pg->lost = lost;
    pg->member_count = change->member_count;
    pg->lead = change->lead;
    memcpy(pg->member, change->member, sizeof(pg->member));
}

uint32_t plan_world_settle(struct plan_world *w, uint64_t *ret_added)
{
    if (ret_added)
        *ret_added = 0;
    for (uint32_t plans = 0;; plans++) {
        struct placement_plan plan = plan_world_plan(w, false);
        uint32_t count = plan.change_count;
        for (uint32_t i = 0; i < count; i++)
            plan_world_apply(w, &plan.changes[i]);
        if (ret_added)
            *ret_added += plan.added;
        placement_plan_fini(&plan);
        if (!count || plans == 100)
            return plans;
    }
}

bool plan_world_same_domain(const struct placement_osd *a, const struct placement_osd *b,
                            enum placement_domain domain)
{
    bool zone = !strcmp(a->zone, b->zone), rack = zone && !strcmp(a->rack, b->rack),
         host = rack && !strcmp(a->host, b->host);

    return domain == PLACEMENT_ZONE   ? zone
           : domain == PLACEMENT_RACK ? rack
           : domain == PLACEMENT_HOST ? host
                                      : a->osd == b->osd;
}

bool plan_world_pg_is_whole(const struct plan_world *w, const struct placement_pg *pg)
{
    const struct placement_pool *pool = &w->pools[(pg->id >> 32) - 1];

    if (pg->member_count != pool->replicas || pg->lost || pg->lead >= pg->member_count)
        return false;
    for (uint32_t a = 0; a < pg->member_count; a++) {
        const struct placement_osd *x = &w->osds[pg->member[a].osd];
        if (pg->member[a].osd >= w->osd_count || !x->weight || pg->member[a].shard >= x->shard_count)
            return false;
        for (uint32_t b = 0; b < a; b++)
            if (plan_world_same_domain(x, &w->osds[pg->member[b].osd], pool->domain))
                return false;
    }
    return true;
}

struct plan_spread plan_world_spread(const struct plan_world *w, uint32_t pool)
{
    struct plan_spread s = {1e9, 0, 1e9, 0, 0, 0};
    uint32_t *data = calloc(w->osd_count, sizeof(*data)), *lead = calloc(w->osd_count, sizeof(*lead));
    uint32_t(*shard)[2] = calloc((size_t)w->osd_count * PLACEMENT_SHARDS_MAX, sizeof(*shard));
    double weight = 0, all = 0, leads = 0;

    ASSERT(data && lead && shard);
    for (uint32_t i = 0; i < w->pg_count; i++) {
        const struct placement_pg *pg = &w->pgs[i];
        if (pool != PLAN_ALL_POOLS && pg->id >> 32 != pool)
            continue;
        for (uint32_t m = 0; m < pg->member_count; m++) {
            uint32_t at = pg->member[m].osd * PLACEMENT_SHARDS_MAX + pg->member[m].shard;
            data[pg->member[m].osd]++;
            shard[at][0]++;
            all++;
            lead[pg->member[m].osd] += m == pg->lead;
            shard[at][1] += m == pg->lead;
            leads += m == pg->lead;
        }
    }
    for (uint32_t i = 0; i < w->osd_count; i++)
        weight += (double)w->osds[i].size_bytes * w->osds[i].weight;
    for (uint32_t i = 0; i < w->osd_count; i++) {
        double part = (double)w->osds[i].size_bytes * w->osds[i].weight / weight;
        if (part == 0)
            continue;
        s.data_min = MIN(s.data_min, data[i] / (all * part));
        s.data_max = MAX(s.data_max, data[i] / (all * part));
        s.lead_min = MIN(s.lead_min, lead[i] / (leads * part));
        s.lead_max = MAX(s.lead_max, lead[i] / (leads * part));
        uint32_t shards = w->osds[i].shard_count;
        for (uint32_t k = 0; k < shards; k++) {
            uint32_t at = i * PLACEMENT_SHARDS_MAX + k;
            s.shard_max = MAX(s.shard_max, shard[at][0] / (all * part / shards));
            s.shard_lead_max = MAX(s.shard_lead_max, shard[at][1] / (leads * part / shards));
        }
    }
    free(data);
    free(lead);
    free(shard);
    return s;
}
