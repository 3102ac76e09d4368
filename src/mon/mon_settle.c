/* SPDX-License-Identifier: Apache-2.0
 *
 * What follows from reports: OSDs up and down, PGs born, PGs of removed pools gone, image orders done.
 *
 * A comparison of items with soft state, so it does not matter which event made it run, or how often; what
 * does not fit in one transaction is found again by the next run. OSDs and markers (of orders that are done,
 * of PGs and pools that are gone) are looked at on every tick, the rest only after a report that completed
 * something.
 */
#include "mon/impl.h"

#include <stdlib.h>

#define OUT_LOOK_NS NS_PER_S

static bool room(const struct mon_change *c)
{
    return c->count < MON_PUTS_PER_TXN;
}

/* ---- OSDs ---- */

/* NULL: nothing speaks against it. Nobody is judged before this monitor has itself been alive for the time
 * allowed. */
static const char *why_down(const struct mon *mon, const struct mon_osd *o)
{
    uint64_t heard = MAX(o->heard_ns, (uint64_t)MON_TICK_NS);

    if (mon->alive_ns - heard >= mon->config.osd_down_after_ns)
        return "it does not report";
    if (!o->gone_ns)
        return NULL;
    if (o->suspected_ns && o->suspected_ns + MON_RETURN_NS >= o->gone_ns)
        return "its connection is gone and its peers do not reach it";
    if (mon->alive_ns - o->gone_ns >= MON_RETURN_NS)
        return "its connection is gone and it did not come back";
    return NULL;
}

/* An OSD that was down and is heard of again, by this monitor. */
static bool is_back(const struct mon *mon, const struct mon_osd *o)
{
    return o->heard_ns && o->heard_ns > o->down_ns && !o->gone_ns && !why_down(mon, o);
}

static void settle_osds(struct mon *mon, struct mon_change *c)
{
    bool look = mon->alive_ns - mon->out_looked_ns >= OUT_LOOK_NS && mon_osd_proven(mon);

    mon_for_each(mon, MON_OSD, node)
    {
        struct mon_osd *o = mon_osd_of(node);
        Fb__Osd osd = *mon_osd_item(o);
        const char *why = osd.up ? why_down(mon, o) : NULL;
        bool back = !osd.up && osd.incarnation && is_back(mon, o);

        if (!room(c) || osd.removed)
            continue;
        if (look)
            mon_out_shards(mon, o);
        if (why || back)
            osd.up = back;
        bool moved = look && mon_out_settle(mon, o, &osd);
        if (!moved && !why && !back)
            continue;
        osd.epoch = c->state.epoch;
        mon_change_put(c, MON_OSD, osd.id, &osd.base);
    }
}

/* ---- pools and orders ---- */

static bool pool_has_pgs(const struct mon *mon, uint32_t pool, bool markers)
{
    mon_for_each(mon, MON_PG, node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(node));
        if (mon_pg_pool(pg->id) == pool && (markers || !pg->removed))
            return true;
    }
    return false;
}

/* A removed pool whose PGs have all gone is of no more use to anybody: its marker says so. */
static void settle_pools(struct mon *mon, struct mon_change *c)
{
    mon_for_each(mon, MON_POOL, node)
    {
        Fb__Pool pool = *mon_pool_item(mon_pool_of(node));

        if (!pool.removed || !pool.pg_count || !room(c) || pool_has_pgs(mon, pool.id, false))
            continue;
        pool.pg_count = 0;
        pool.epoch = c->state.epoch;
        mon_change_put(c, MON_POOL, pool.id, &pool.base);
    }
}

static void settle_orders(struct mon *mon, struct mon_change *c)
{
    mon_for_each(mon, MON_ORDER, node)
    {
        struct mon_order *o = mon_order_of(node);
        Fb__ImageOrder order = *mon_order_item(o);
        struct mon_pool *pool = mon_pool_find(mon, order.pool);
        bool confirmed = pool && o->generation == order.generation && o->deleted == (bool)order.deleted &&
                         o->confirmed_count == mon_pool_item(pool)->pg_count;

        if (!room(c) || order.removed || (!confirmed && pool && !mon_pool_item(pool)->removed))
            continue;
        order.removed = true;
        order.epoch = c->state.epoch;
        mon_change_put(c, MON_ORDER, order.image, &order.base);
    }
}

/* The epoch of the map that every shard has saved. An OSD that was never started starts with a whole map. */
static uint64_t epoch_everywhere(const struct mon *mon)
{
    uint64_t least = UINT64_MAX;

    mon_for_each(mon, MON_OSD, node)
    {
        const struct mon_osd *o = mon_osd_of(node);
        const Fb__Osd *osd = mon_osd_item(o);
        for (size_t s = 0; s < osd->n_shard && osd->incarnation && !osd->removed; s++)
            least = MIN(least, o->shard[s].epoch);
    }
    return least;
}

/* Markers that every shard has: PGs, and when they are gone their pool. A subscriber that slept through them
 * all has a pool in its map that leads nowhere; its name and its id mean nothing any more. */
static void prune_pools(struct mon *mon, struct mon_change *c, uint64_t everywhere)
{
    bool any = false;

    mon_for_each(mon, MON_POOL, node)
    {
        const Fb__Pool *pool = mon_pool_item(mon_pool_of(node));
        any |= pool->removed;
        if (pool->removed && !pool->pg_count && pool->epoch <= everywhere && room(c) &&
            !pool_has_pgs(mon, pool->id, true))
            mon_change_put(c, MON_POOL, pool->id, NULL);
    }
    if (!any)
        return;
    mon_for_each(mon, MON_PG, node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(node));
        if (pg->removed && pg->epoch <= everywhere && room(c))
            mon_change_put(c, MON_PG, pg->id, NULL);
    }
}

static void prune_orders(struct mon *mon, struct mon_change *c, uint64_t everywhere)
{
    mon_for_each(mon, MON_ORDER, node)
    {
        const Fb__ImageOrder *order = mon_order_item(mon_order_of(node));
        if (order->removed && order->epoch <= everywhere && room(c))
            mon_change_put(c, MON_ORDER, order->image, NULL);
    }
}

void mon_settle(struct mon *mon, struct mon_change *c)
{
    uint64_t everywhere = epoch_everywhere(mon);

    settle_osds(mon, c);
    prune_orders(mon, c, everywhere);
    prune_pools(mon, c, everywhere);
    mon_scrub_settle(mon, c);
    mon_monitors_settle(mon, c);
    if (!c->count && mon->alive_ns - mon->out_looked_ns >= OUT_LOOK_NS)
        mon->out_looked_ns = mon->alive_ns; /* what was found is looked for again, with the turn */
    if (mon->settle_due) {
        mon_split_settle(mon, c);
        mon_member_settle(mon, c);
        settle_pools(mon, c);
        settle_orders(mon, c);
    }
    mon_move_settle(mon, c);
}

void mon_osd_went_down(const struct mon *mon, struct mon_osd *o)
{
    o->down_ns = mon->alive_ns;
    o->down_since_us = mon->core->env->wall_us(mon->core->env_self);
}

/* `was`: the item before the change. */
static void osd_settled(struct mon *mon, struct mon_osd *o, const Fb__Osd *was)
{
    const Fb__Osd *osd = mon_osd_item(o);

    if (osd->out != was->out)
        mon_note(mon, osd->out ? LOG_WARN : LOG_INFO, "osd.%u is %s", osd->id,
                 osd->out ? "out: it was down for too long; its data is made anew on other OSDs"
                          : "in again, for it is up");
    if (!osd->up && !mon_osd_in(osd))
        mon_settle_soon(mon); /* PGs may have waited for it to be born */
    if (osd->up == was->up)
        return;
    if (osd->up) {
        o->up_ns = mon->alive_ns;
        mon_note(mon, LOG_INFO, "osd.%u is up: it reports again", osd->id);
        return;
    }
    const char *why = why_down(mon, o);
    mon_note(mon, LOG_WARN, "osd.%u is down: %s", osd->id, why ? why : "it was silent");
    mon_osd_went_down(mon, o);
}

void mon_order_forget(struct mon_order *order)
{
    free(order->confirmed);
    order->confirmed = NULL;
    order->confirmed_count = 0;
    order->generation = 0;
}

void mon_settle_done(struct mon *mon, const struct mon_change *c)
{
    mon_move_done(mon);
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->puts[i].kind == MON_ORDER) {
            struct mon_order *order = mon_order_find(mon, c->puts[i].id);
            if (!order)
                continue; /* pruned */
            mon_order_forget(order);
        }
        if (c->puts[i].kind == MON_POOL)
            mon_split_done(mon, c->puts[i].id);
        if (c->puts[i].kind == MON_PG && mon_pg_find(mon, c->puts[i].id))
            mon_member_settled(mon, mon_pg_find(mon, c->puts[i].id));
        if (c->puts[i].kind == MON_OSD)
            osd_settled(mon, mon_osd_find(mon, c->puts[i].id), (const Fb__Osd *)c->puts[i].message);
    }
}

uint64_t mon_pg_said_ns(const struct mon *mon, const struct mon_pg *pg)
{
    const struct mon_osd *o = pg->reported_ns ? mon_osd_find(mon, pg->leader_osd) : NULL;
    const struct mon_shard *shard = o ? &o->shard[pg->leader_shard] : NULL;

    return shard && shard->whole == pg->whole ? MAX(pg->reported_ns, shard->unchanged_ns) : pg->reported_ns;
}

bool mon_pg_reported(const struct mon *mon, const struct mon_pg *pg)
{
    return pg->reported_ns && mon->alive_ns - mon_pg_said_ns(mon, pg) < mon->config.osd_down_after_ns;
}
