/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs in and out, and what operators say of them: weights, maintenance, removal, the flags of the cluster.
 *
 *   formatted -> in <---------- it is up again ----------.
 *                 |--- down for osd_out_after_ns ---> OUT_DOWN
 *                 |<-- `osd in` --.
 *                 '--- `osd out`, `osd drain` ---> OUT_ORDERED --- no replicas left, down: `osd remove` --->
 * removed
 *
 * Data is to be on OSDs that are in. Of one that is out every replica is made anew elsewhere, while it serves
 * as long as it is up; nothing is deleted for it (mon_move.c). What goes out by itself is kept small: if more
 * OSDs are down than one in four, it is not the OSDs that are broken but a switch or a room, and copying what
 * they hold onto the others helps nobody. And where a pool would have fewer failure domains left than
 * replicas, nothing could be moved. Then all stay in, and status says so.
 *
 * A shard that took itself out of service, while its OSD is up, is as one that is down: after the same time,
 * and unless the same things speak against it, its replicas count as lost and are made anew. This is no part
 * of the map: who restarts the OSD has its replicas back, as far as they have not been replaced.
 *
 * A removed OSD stays in the map as a marker for ever, with its uuid, so that its device never comes back
 * under that id. One that is lost is removed with the replicas that it has: they count as ended, and their
 * PGs go on with what else they have (mon_force.c, when that is no majority).
 */
#include "mon/impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

#define OUT_ONE_IN 4

bool mon_osd_in(const Fb__Osd *osd)
{
    return !osd->removed && osd->out == MON_IN && osd->weight;
}

uint64_t mon_osd_down_ns(const struct mon *mon, const struct mon_osd *o)
{
    return mon->alive_ns - MAX(o->down_ns, (uint64_t)MON_TICK_NS);
}

uint32_t mon_osd_replicas(const struct mon *mon, uint32_t osd)
{
    uint32_t count = 0;

    mon_for_each(mon, MON_PG, node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(node));
        bool there = false;
        for (size_t m = 0; m < pg->n_member; m++)
            there |= pg->member[m]->osd == osd;
        for (size_t m = 0; m < pg->n_wanted; m++)
            there |= pg->wanted[m]->osd == osd;
        /* A leader that has an older list may yet let it vote, and a group that loses it then stands still.
         */
        for (size_t m = 0; m < pg->n_leaving; m++)
            there |= pg->leaving[m]->osd == osd;
        count += there && !pg->removed;
    }
    return count;
}

/* ---- out by itself ---- */

static bool down_in(const Fb__Osd *osd)
{
    return !osd->removed && osd->incarnation && !osd->up && osd->out == MON_IN;
}

/* Whose data an operator has ordered away is as good as gone, whether it has failed or not. */
static bool failed_in(const struct mon_osd *o)
{
    const Fb__Osd *osd = mon_osd_item(o);

    for (size_t s = 0; s < osd->n_shard; s++)
        if (o->shard[s].failed[0])
            return osd->up && osd->out == MON_IN;
    return false;
}

static bool too_many(const struct mon *mon)
{
    uint32_t all = 0, gone = 0;

    mon_for_each(mon, MON_OSD, node)
    {
        const struct mon_osd *o = mon_osd_of(node);
        const Fb__Osd *osd = mon_osd_item(o);
        all += !osd->removed && osd->incarnation;
        gone += !osd->removed && (down_in(osd) || osd->out == MON_OUT_DOWN || failed_in(o));
    }
    return gone > MAX(all / OUT_ONE_IN, 1u) && !PLANT(MON_OUT_MANY);
}

/* Has each pool as many failure domains as replicas among the OSDs that are up and in? */
static bool domains_left(const struct mon *mon)
{
    uint32_t count;
    struct placement_osd *osds = mon_place_osds(mon, &count);
    bool enough = osds || PLANT(MON_OUT_DOMAINS);

    mon_for_each(mon, MON_POOL, node)
    {
        const Fb__Pool *pool = mon_pool_item(mon_pool_of(node));
        enum placement_domain domain;
        if (enough && !pool->removed && !placement_domain_parse(pool->failure_domain, &domain))
            enough = placement_domain_count(osds, count, domain) >= pool->replicas || PLANT(MON_OUT_DOMAINS);
    }
    free(osds);
    return enough;
}

/* What speaks against moving by itself what is on the OSD, of which something has been away for so long? */
static enum mon_stays stays(const struct mon *mon, const Fb__Osd *osd, uint64_t away_ns)
{
    if (!mon->config.osd_out_after_ns)
        return MON_STAYS_NEVER_OUT;
    if (mon->state.noout)
        return MON_STAYS_NOOUT;
    if (osd->maintenance)
        return MON_STAYS_MAINTENANCE;
    if (too_many(mon))
        return MON_STAYS_MANY;
    return away_ns < mon->config.osd_out_after_ns || !mon->proven || mon->behind[0] ? MON_STAYS_WAITS
                                                                                    : MON_STAYS_NOT;
}

enum mon_stays mon_out_stays(const struct mon *mon, const struct mon_osd *o)
{
    if (!down_in(mon_osd_item(o)))
        return MON_STAYS_NOT;
    enum mon_stays why = stays(mon, mon_osd_item(o), mon_osd_down_ns(mon, o));
    return why == MON_STAYS_NOT && !domains_left(mon) ? MON_STAYS_DOMAINS : why;
}

enum mon_stays mon_shard_stays(const struct mon *mon, const struct mon_osd *o, uint32_t shard)
{
    return stays(mon, mon_osd_item(o), mon->alive_ns - o->shard[shard].failed_ns);
}

bool mon_shard_given_up(const struct mon_osd *o, uint32_t shard)
{
    return shard < mon_osd_item(o)->n_shard && o->shard[shard].given_up;
}

void mon_out_shards(struct mon *mon, struct mon_osd *o)
{
    for (uint32_t s = 0; s < mon_osd_item(o)->n_shard; s++) {
        struct mon_shard *shard = &o->shard[s];
        bool given_up =
            shard->failed[0] && mon_osd_item(o)->up && mon_shard_stays(mon, o, s) == MON_STAYS_NOT;

        if (given_up == shard->given_up || PLANT(MON_KEEPS_FAILED))
            continue;
        shard->given_up = given_up;
        mon->settle_due = true; /* PGs may have waited for it to be born */
        mon_plan_forget(mon);
        if (given_up)
            mon_note(mon, LOG_WARN,
                     "osd.%u shard %u has failed for too long: its data is made anew elsewhere",
                     mon_osd_item(o)->id, s);
    }
}

bool mon_out_settle(const struct mon *mon, const struct mon_osd *o, Fb__Osd *osd)
{
    if (osd->out == MON_OUT_DOWN && osd->up)
        osd->out = MON_IN;
    else if (down_in(mon_osd_item(o)) && !osd->up && mon_out_stays(mon, o) == MON_STAYS_NOT)
        osd->out = MON_OUT_DOWN;
    else
        return false;
    return true;
}

/* ---- what operators say of an OSD ---- */

static int remove_check(struct mon_request *r, const Fb__Osd *osd)
{
    uint32_t replicas = mon_osd_replicas(r->mon, osd->id);

    if (replicas && !PLANT(MON_REMOVES_HOLDER))
        return mon_fail(
            r, -ERR_NOT_EMPTY,
            "osd.%u has replicas of %u PGs: `fastblock osd drain osd.%u` has them made anew on other OSDs; "
            "remove it when that is done",
            osd->id, replicas, osd->id);
    if (osd->up)
        return mon_fail(r, -ERR_LOCKED, "osd.%u is running: stop its process first", osd->id);
    return 0;
}

static int osd_change_apply(struct mon_request *r, const Fb__OsdChange *call, Fb__Osd *osd)
{
    switch (call->action) {
    case FB__OSD_ACTION__OSD_ACTION_OUT:
        osd->out = MON_OUT_ORDERED;
        return 0;
    case FB__OSD_ACTION__OSD_ACTION_IN:
        osd->out = MON_IN;
        return 0;
    case FB__OSD_ACTION__OSD_ACTION_REWEIGHT:
        if (call->weight > MON_WEIGHT_MAX)
            return mon_fail(r, -ERR_INVALID, "a weight is 0 to 1");
        osd->weight = call->weight;
        return 0;
    case FB__OSD_ACTION__OSD_ACTION_REMOVE:
        osd->removed = true;
        return remove_check(r, osd);
    case FB__OSD_ACTION__OSD_ACTION_LOST:
        osd->removed = true;
        return osd->up
                   ? mon_fail(
                         r, -ERR_LOCKED,
                         "osd.%u is running: it is not lost. To have it go: `fastblock osd drain osd.%u`. If a shard "
                         "of it has failed for good: stop its process first",
                         osd->id, osd->id)
                   : 0;
    default:
        return mon_fail(r, -ERR_UNSUPPORTED, "the monitor (version %s) does not know this change of an OSD",
                        r->mon->config.version);
    }
}

static int osd_change_build(struct mon_request *r)
{
    const Fb__OsdChange *call = r->call->osd_change;
    const struct mon_osd *o = mon_osd_find(r->mon, call->osd);

    if (!o)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no osd.%u", call->osd);
    Fb__Osd osd = *mon_osd_item(o);
    if (osd.removed && (call->action == FB__OSD_ACTION__OSD_ACTION_REMOVE ||
                        call->action == FB__OSD_ACTION__OSD_ACTION_LOST)) {
        r->nothing = true;
        return 0;
    }
    if (osd.removed)
        return mon_fail(r, -ERR_NOT_FOUND, "osd.%u was removed from the cluster", call->osd);
    int error = osd_change_apply(r, call, &osd);
    if (error)
        return error;
    r->nothing = osd.out == mon_osd_item(o)->out && osd.weight == mon_osd_item(o)->weight && !osd.removed;
    osd.epoch = r->change.state.epoch;
    mon_change_put(&r->change, MON_OSD, osd.id, &osd.base);
    return 0;
}

static void osd_change_done(struct mon_request *r)
{
    const Fb__OsdChange *call = r->call->osd_change;
    const Fb__Osd *osd = mon_osd_item(mon_osd_find(r->mon, call->osd));

    if (r->nothing)
        return;
    if (call->action == FB__OSD_ACTION__OSD_ACTION_LOST)
        mon_note(r->mon, LOG_WARN,
                 "osd.%u is lost with all its replicas, as an operator said: it never comes back", osd->id);
    else if (osd->removed)
        mon_note(r->mon, LOG_INFO, "osd.%u is removed from the cluster", osd->id);
    else
        mon_note(r->mon, LOG_INFO, "osd.%u is %s with weight %u.%03u, as an operator said", osd->id,
                 osd->out ? "out" : "in", osd->weight / MON_WEIGHT_MAX, osd->weight % MON_WEIGHT_MAX);
    mon_plan_forget(r->mon);
    mon_settle_soon(r->mon);
}

const struct mon_method *mon_osd_change_method(const struct mon *mon, const Fb__OsdChange *call)
{
    static const struct mon_method change = {.build = osd_change_build, .done = osd_change_done};
    static const struct mon_method end = {
        .build = osd_change_build, .done = osd_change_done, .needs_proof = true};
    const struct mon_osd *o = mon_osd_find(mon, call->osd);

    if (call->action == FB__OSD_ACTION__OSD_ACTION_REMOVE)
        return &end;
    return call->action == FB__OSD_ACTION__OSD_ACTION_LOST && o && !mon_osd_awaited(o) ? &end : &change;
}

/* ---- maintenance of a host ---- */

static int host_maintenance_build(struct mon_request *r)
{
    const Fb__HostMaintenance *call = r->call->host_maintenance;
    uint32_t there = 0;

    r->nothing = true;
    mon_for_each(r->mon, MON_OSD, node)
    {
        Fb__Osd osd = *mon_osd_item(mon_osd_of(node));
        if (osd.removed || strcmp(osd.host, call->host))
            continue;
        there++;
        if (osd.maintenance == call->on)
            continue;
        r->nothing = false;
        osd.maintenance = call->on;
        osd.epoch = r->change.state.epoch;
        mon_change_put(&r->change, MON_OSD, osd.id, &osd.base);
    }
    return there ? 0
                 : mon_fail(r, -ERR_NOT_FOUND,
                            "there is no OSD on a host '%.64s': `fastblock osd tree` shows them", call->host);
}

static void host_maintenance_done(struct mon_request *r)
{
    const Fb__HostMaintenance *call = r->call->host_maintenance;

    if (!r->nothing)
        mon_note(r->mon, LOG_INFO, "maintenance of host %.64s %s", call->host,
                 call->on ? "begins" : "has ended");
}

const struct mon_method mon_host_maintenance = {.build = host_maintenance_build,
                                                .done = host_maintenance_done};

/* ---- flags of the cluster ---- */

/* The flag's place in the state. NULL: there is no such flag. */
static protobuf_c_boolean *flag_of(Fb__MonState *state, Fb__ClusterFlag flag)
{
    switch (flag) {
    case FB__CLUSTER_FLAG__CLUSTER_FLAG_NOOUT:
        return &state->noout;
    case FB__CLUSTER_FLAG__CLUSTER_FLAG_NOREBALANCE:
        return &state->norebalance;
    case FB__CLUSTER_FLAG__CLUSTER_FLAG_PAUSE:
        return &state->paused;
    default:
        return NULL;
    }
}

static int cluster_set_build(struct mon_request *r)
{
    const Fb__ClusterSet *call = r->call->cluster_set;
    protobuf_c_boolean *flag = flag_of(&r->change.state, call->flag);

    if (!flag)
        return mon_fail(r, -ERR_UNSUPPORTED, "the monitor (version %s) does not know this flag",
                        r->mon->config.version);
    r->nothing = *flag == call->on;
    *flag = call->on;
    return 0;
}

static void cluster_set_done(struct mon_request *r)
{
    static const char *const names[] = {"", "noout", "norebalance", "pause"};
    const Fb__ClusterSet *call = r->call->cluster_set;

    if (r->nothing)
        return;
    mon_note(r->mon, LOG_INFO, "flag %s is %s", names[call->flag], call->on ? "set" : "not set any more");
    mon_plan_forget(r->mon);
    mon_settle_soon(r->mon);
}

const struct mon_method mon_cluster_set = {.build = cluster_set_build, .done = cluster_set_done};
