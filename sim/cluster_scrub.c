/* SPDX-License-Identifier: Apache-2.0
 *
 * What scrubs tell. In the end a deep one of everything has looked at each object, on all replicas, and what
 * it could not repair is listed, block by block, and nothing else. Whoever looks at less says that all is
 * well, and nothing else would notice.
 */
#include <stdlib.h>
#include <string.h>

#include "mon/impl.h"
#include "osd/scrub_lead.h"
#include "sim/cluster.h"

#define LIST_NS (20 * NS_PER_S) /* until a read that failed is looked at and told */

#define ULL(x) ((unsigned long long)(x))

/* One that is done is not begun again. */
void scrub_audit(struct cluster *c, const struct osd_shard *shard, const char *who)
{
    const struct scrub *s = shard->scrub;
    const struct pg *pg = s && s->pg && !s->recheck ? pg_find(shard, s->pg) : NULL;

    if (pg && pg->scrub.done && pg->scrub.order == pg->scrub_order)
        sim_fail(c->sim, "%s scrubs PG %llx by an order that is done", who, ULL(s->pg));
}

/* Some block is written, or lost. */
static bool is_there(const struct store_pg *sp, const struct store_object_info *o)
{
    uint64_t written[BLOCKS_PER_OBJECT / 64] = {0}, lost[BLOCKS_PER_OBJECT / 64] = {0}, index, any = 0;

    (void)!store_block_status(sp, o->image, o->object, written);
    (void)!store_object_lost((struct store_pg *)(uintptr_t)sp, o->image, o->object, &index, lost);
    for (uint32_t w = 0; w < BLOCKS_PER_OBJECT / 64; w++)
        any |= written[w] | lost[w];
    return any;
}

static uint64_t objects_of(const struct store_pg *sp)
{
    struct store_object_info at = {0};
    uint64_t count = 0;

    for (bool start = true; store_object_next(sp, start, at.image, at.object, &at); start = false)
        count += is_there(sp, &at);
    return count;
}

static void check_result(struct cluster *c, const struct mon *mon, const struct pg *pg)
{
    const struct mon_scrub *s = mon_scrub_find(mon, pg->id);
    const Fb__ScrubResult *r = s ? mon_scrub_item(s)->result : NULL;
    uint64_t objects = objects_of(pg->sp);

    if (!r || !r->deep || r->replicas != c->replicas || r->objects != objects)
        sim_fail(c->sim,
                 "PG %llx: a %s scrub of everything looked at %llu objects of %u replicas, of %llu and %u",
                 ULL(pg->id), r && r->deep ? "deep" : "light", ULL(r ? r->objects : 0), r ? r->replicas : 0,
                 ULL(objects), c->replicas);
}

void scrub_check_done(struct cluster *c)
{
    const struct mon *mon = mon_leader(c);
    struct shard_at at = {0};

    for (const struct pg *pg; mon && !c->sim->failed && (pg = cluster_led_next(c, &at));)
        check_result(c, mon, pg);
}

static uint64_t blocks_listed(const struct cluster *c)
{
    const struct mon *mon = mon_leader(c);
    uint64_t count = 0;

    if (!mon)
        return UINT64_MAX;
    mon_for_each(mon, MON_SCRUB, node)
    {
        const Fb__PgScrub *item = mon_scrub_item(mon_scrub_of(node));
        for (size_t i = 0; i < item->n_damage; i++)
            for (size_t at = 0; at < item->damage[i]->blocks.len; at++)
                count += (uint64_t)__builtin_popcount(item->damage[i]->blocks.data[at]);
    }
    return count;
}

/* A report that says that a scrub is done may have no room for all that it has found. */
static bool is_told(void *owner)
{
    const struct cluster *c = owner;
    struct shard_at at = {0};

    for (const struct pg *pg; (pg = cluster_led_next(c, &at));)
        list_for_each (&pg->damages, node) {
            const struct pg_damage *d = list_entry(node, struct pg_damage, link);
            if (d->known && !d->listed)
                return false;
        }
    return true;
}

void scrub_wait_told(struct cluster *c)
{
    if (is_told(c))
        return;
    (void)sim_run_while(c->sim, is_told, c, c->sim->now_ns + LIST_NS);
    c->listed_blocks = mon_leader(c) ? blocks_listed(c) : c->listed_blocks;
}

static bool is_listed(void *owner)
{
    const struct cluster *c = owner;

    return blocks_listed(c) * c->replicas == c->damaged_blocks;
}

void scrub_check_list(struct cluster *c)
{
    if (!sim_run_while(c->sim, is_listed, c, c->sim->now_ns + LIST_NS) && !c->sim->failed)
        sim_fail(c->sim, "%llu blocks are damaged on %u replicas, and the monitor lists %llu",
                 ULL(c->damaged_blocks / c->replicas), c->replicas, ULL(blocks_listed(c)));
}
