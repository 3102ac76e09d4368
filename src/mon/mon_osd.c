/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs: registration, boot, reports.
 *
 * An OSD is up when one of its shards has booted and is heard of. A start of an OSD is known by its
 * incarnation, the start counter of its device, which only grows: a lower one is a copy of the device from an
 * earlier time, the same one from another address is a copy that runs beside the original. With a new
 * incarnation all shard addresses are forgotten until each shard has booted.
 *
 * The proof. A monitor whose data is from a backup must not give out ids that are in use. At the start it
 * asks the WITNESSES: the OSDs that the loaded map calls up, or, if it calls none up, all that were ever
 * started. Only the first word of a shard counts, for later ones it may have from us. The data is taken for
 * the newest when nobody who came knows more, and there are no witnesses (a new cluster), or a shard knows
 * the very epoch that was loaded, or all witnesses have come (a monitor that died between commit and
 * publication is ahead of all of them), or MON_WITNESS_NS have passed since the first witness came: the
 * others are out of reach. An OSD that was just formatted, or that was down when the data was written, is
 * none, and proves nothing.
 *
 * A witness that an operator gives up as lost is waited for no longer: that word stands for the proof which
 * it can give no more, so a monitor never waits for ever for the dead. Where another OSD is given up, or one
 * is removed because the map shows no replicas there, it is the map that is relied upon, and that must be
 * proven first (mon_osd_change_method()). Should what was given up come back and know more, it is heard
 * nevertheless (on_greet()).
 *
 * OSDs get maps from the monitor that leads alone, and lose their sessions when it ceases to. So what a
 * shard knows when it first speaks to a leader is from an earlier one, and is in the metadata that was loaded
 * when this one began, or that is not the newest.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/level.h"
#include "base/text.h"
#include "base/uuid.h"
#include "base/plant.h"

/* ---- the proof ---- */

void mon_osd_witnesses(struct mon *mon)
{
    bool up = false;

    mon->start_epoch = mon->state.epoch;
    mon_for_each(mon, MON_OSD, node) up |= mon_osd_item(mon_osd_of(node))->up;
    mon_for_each(mon, MON_OSD, node)
    {
        const Fb__Osd *osd = mon_osd_item(mon_osd_of(node));
        mon_osd_of(node)->witness = !osd->removed && (up ? osd->up : osd->incarnation > 0);
    }
}

static bool has_spoken(const struct mon_osd *o)
{
    for (uint32_t s = 0; s < PLACEMENT_SHARDS_MAX; s++)
        if (o->shard[s].spoke)
            return true;
    return false;
}

void mon_osd_speaks(struct mon *mon, struct mon_osd *o, uint32_t shard, uint64_t epoch, uint64_t image_id_max)
{
    char name[32];

    if (shard >= mon_osd_item(o)->n_shard)
        return;
    bool first = !o->shard[shard].spoke;
    o->shard[shard].spoke = true;
    snprintf(name, sizeof(name), "osd.%u", mon_osd_item(o)->id);
    mon_note_knowledge(mon, name, first ? mon->start_epoch : mon->state.epoch, epoch, image_id_max);
    mon->proven |= first && epoch >= mon->start_epoch;
    if (o->witness && !mon->witness_ns)
        mon->witness_ns = mon->alive_ns;
}

bool mon_osd_awaited(const struct mon_osd *o)
{
    return o->witness && !has_spoken(o);
}

bool mon_osd_proven(struct mon *mon)
{
    bool all = true;

    mon_for_each(mon, MON_OSD, node)
    {
        const struct mon_osd *o = mon_osd_of(node);
        all &= !mon_osd_awaited(o) || mon_osd_item(o)->removed;
    }
    mon->proven |=
        PLANT(MON_UNPROVEN) || all || (mon->witness_ns && mon->alive_ns - mon->witness_ns >= MON_WITNESS_NS);
    return mon->proven;
}

/* ---- a new device ---- */

static struct mon_osd *osd_by_uuid(const struct mon *mon, const ProtobufCBinaryData *uuid)
{
    mon_for_each(mon, MON_OSD, node)
    {
        struct mon_osd *o = mon_osd_of(node);
        if (!memcmp(mon_osd_item(o)->uuid.data, uuid->data, 16))
            return o;
    }
    return NULL;
}

static int osd_new_build(struct mon_request *r)
{
    const Fb__OsdNew *call = r->call->osd_new;
    struct mon_change *c = &r->change;

    r->reply.cluster.data = r->mon->cluster;
    r->reply.cluster.len = 16;
    if (call->uuid.len != 16 || uuid_is_zero((const struct uuid *)call->uuid.data))
        return mon_fail(r, -ERR_INVALID, "a new OSD needs a uuid of 16 bytes");
    if (call->shards < 1 || call->shards > PLACEMENT_SHARDS_MAX)
        return mon_fail(r, -ERR_INVALID, "%u shards: it must be 1 to %u", call->shards, PLACEMENT_SHARDS_MAX);
    if (!mon_text_valid(call->host) || !mon_text_valid(call->rack) || !mon_text_valid(call->zone))
        return mon_fail(r, -ERR_INVALID, "host, rack and zone are at most %u printable characters",
                        MON_TEXT_MAX - 1);
    struct mon_osd *known = osd_by_uuid(r->mon, &call->uuid);
    if (known && mon_osd_item(known)->removed)
        return mon_fail(
            r, -ERR_IDENTITY,
            "this device was osd.%u, which was removed from the cluster: format it anew, with a new uuid",
            mon_osd_item(known)->id);
    if (known) {
        if (mon_osd_item(known)->n_shard != call->shards)
            return mon_fail(r, -ERR_EXISTS, "osd.%u has this uuid already, with %zu shards",
                            mon_osd_item(known)->id, mon_osd_item(known)->n_shard);
        r->reply.osd = mon_osd_item(known)->id;
        r->nothing = true;
        return 0;
    }
    if (r->mon->items[MON_OSD].count >= MON_OSDS_MAX)
        return mon_fail(r, -ERR_TOO_LARGE, "the cluster has %u OSDs, which is the limit", MON_OSDS_MAX);

    Fb__Osd osd = FB__OSD__INIT;
    Fb__OsdShard shard = FB__OSD_SHARD__INIT, *shards[PLACEMENT_SHARDS_MAX];
    shard.size_bytes = call->size_bytes / call->shards;
    for (uint32_t s = 0; s < call->shards; s++)
        shards[s] = &shard;
    osd.id = c->state.osd_next++;
    osd.epoch = c->state.epoch;
    osd.uuid = call->uuid;
    osd.host = call->host;
    osd.rack = call->rack;
    osd.zone = call->zone;
    osd.size_bytes = call->size_bytes;
    osd.shard = shards;
    osd.n_shard = call->shards;
    osd.weight = MON_WEIGHT_MAX;
    r->reply.osd = osd.id;
    mon_change_put(c, MON_OSD, osd.id, &osd.base);
    return 0;
}

static void osd_new_done(struct mon_request *r)
{
    const Fb__OsdNew *new_osd = r->call->osd_new;
    char size[TEXT_SIZE_MAX];

    if (!r->nothing)
        mon_note(r->mon, LOG_INFO, "osd.%u is new: host %s, %u shard%s, %s", r->reply.osd, new_osd->host,
                 new_osd->shards, new_osd->shards == 1 ? "" : "s",
                 text_format_size(new_osd->size_bytes, size));
}

const struct mon_method mon_osd_new = {.build = osd_new_build, .done = osd_new_done, .needs_proof = true};

/* ---- boot ---- */

static int boot_check(struct mon_request *r, const Fb__OsdBoot *call, const Fb__Osd *osd)
{
    if (call->uuid.len != 16 || memcmp(call->uuid.data, osd->uuid.data, 16))
        return mon_fail(
            r, -ERR_IDENTITY,
            "osd.%u of this cluster is another device (its uuid differs): this device is from another cluster, or was replaced",
            call->osd);
    if (call->shards != osd->n_shard || call->shard >= call->shards)
        return mon_fail(r, -ERR_IDENTITY,
                        "osd.%u was registered with %zu shards, its device says shard %u of %u", call->osd,
                        osd->n_shard, call->shard, call->shards);
    if (call->incarnation == 0 || call->incarnation < osd->incarnation)
        return mon_fail(
            r, -ERR_ROLLED_BACK,
            "osd.%u has been started %" PRIu64 " times, this device %" PRIu64
            " times: it is a copy from an earlier time, and writes that were acknowledged are missing on it. Use the original, or "
            "format this one as a new OSD",
            call->osd, osd->incarnation, call->incarnation);
    if (!call->address[0] || !mon_text_valid(call->address) || !mon_text_valid(call->host) ||
        !mon_text_valid(call->rack) || !mon_text_valid(call->zone))
        return mon_fail(
            r, -ERR_INVALID,
            "osd.%u: address, host, rack and zone are at most %u printable characters, the address not empty",
            call->osd, MON_TEXT_MAX - 1);
    if (call->level > LEVEL)
        return mon_fail(r, -ERR_UNSUPPORTED,
                        "osd.%u runs a newer version than this monitor (%s): upgrade the monitors first",
                        call->osd, r->mon->config.version);
    if (call->level < r->mon->state.level && !PLANT(MON_ANY_LEVEL))
        return mon_fail(
            r, -ERR_UNSUPPORTED,
            "osd.%u runs a version that does not know what the cluster does by now (level %u, and "
            "%u is needed): upgrade it",
            call->osd, call->level, r->mon->state.level);
    const char *address = osd->shard[call->shard]->address;
    /* A process keeps its token and its address, and every start is counted on the device: with as many
     * starts and another token this is another device, though it may listen where the first one did. */
    bool same_start =
        call->start_token == osd->start_token && (!address[0] || !strcmp(address, call->address));
    if (call->incarnation != osd->incarnation || same_start)
        return 0;
    if (osd->up)
        return mon_fail(
            r, -ERR_LOCKED,
            "osd.%u (start %" PRIu64
            ") is running at %s already: a copy of its device must not run beside it. Use the original, or "
            "format this one as a new OSD",
            call->osd, call->incarnation, address);
    return mon_fail(
        r, -ERR_ROLLED_BACK,
        "osd.%u has been started %" PRIu64
        " times, the last time at %s, and this device as often, but not then: it is a copy, and writes that were "
        "acknowledged may be missing on it. Use the original, or format this one as a new OSD",
        call->osd, osd->incarnation, address);
}

static int osd_boot_build(struct mon_request *r)
{
    const Fb__OsdBoot *call = r->call->osd_boot;
    struct mon_osd *o = mon_osd_find(r->mon, call->osd);

    if (o && mon_osd_item(o)->removed)
        return mon_fail(
            r, -ERR_NOT_FOUND,
            "osd.%u was removed from the cluster and never comes back: format the device anew, as a new OSD",
            call->osd);
    if (!o)
        return mon_fail(
            r, -ERR_NOT_FOUND,
            "this cluster has no osd.%u: the device was formatted for another cluster, or by another monitor's data",
            call->osd);
    Fb__Osd osd = *mon_osd_item(o);
    int error = boot_check(r, call, &osd);
    if (error)
        return error;
    mon_osd_speaks(r->mon, o, call->shard, call->epoch, 0);
    if (r->mon->behind[0])
        return mon_fail(r, -ERR_BEHIND, "%s: it was restored from a backup; start it on its newest data",
                        r->mon->behind);

    r->reply.osd = osd.id;
    r->reply.cluster.data = r->mon->cluster;
    r->reply.cluster.len = 16;
    /* A shard that does not say where it stands stays where `format` said. */
    char *host = call->host[0] ? call->host : osd.host, *rack = call->rack[0] ? call->rack : osd.rack,
         *zone = call->zone[0] ? call->zone : osd.zone;
    if (osd.up && osd.incarnation == call->incarnation &&
        !strcmp(osd.shard[call->shard]->address, call->address) && !strcmp(osd.host, host) &&
        !strcmp(osd.rack, rack) && !strcmp(osd.zone, zone) &&
        osd.shard[call->shard]->pgs_max == call->pgs_max && osd.level == call->level) {
        r->nothing = true;
        return 0;
    }

    Fb__OsdShard shard[PLACEMENT_SHARDS_MAX], *shards[PLACEMENT_SHARDS_MAX];
    for (size_t s = 0; s < osd.n_shard; s++) {
        shard[s] = *osd.shard[s];
        shards[s] = &shard[s];
        if (call->incarnation != osd.incarnation)
            shard[s].address = (char *)protobuf_c_empty_string;
    }
    shard[call->shard].address = call->address;
    shard[call->shard].size_bytes = call->size_bytes;
    shard[call->shard].pgs_max = call->pgs_max;
    osd.shard = shards;
    osd.epoch = r->change.state.epoch;
    osd.up = true;
    osd.incarnation = call->incarnation;
    osd.start_token = call->start_token;
    osd.level = call->level;
    osd.host = host;
    osd.rack = rack;
    osd.zone = zone;
    mon_change_put(&r->change, MON_OSD, osd.id, &osd.base);
    return 0;
}

/* The session speaks for the shard from now on. */
static void bind_session(struct mon *mon, struct mon_session *s, struct mon_osd *o, uint32_t shard)
{
    s->has_shard = true;
    s->osd = mon_osd_item(o)->id;
    s->shard = shard;
    o->shard[shard].session = s->serial;
    o->gone_ns = 0;
    o->shard[shard].heard_ns = mon->alive_ns;
    o->heard_ns = mon->alive_ns;
}

static void osd_boot_done(struct mon_request *r)
{
    const Fb__OsdBoot *call = r->call->osd_boot;
    struct mon_osd *o = mon_osd_find(r->mon, call->osd);
    struct mon_session *s = mon_session_find(r->mon, r->session);

    if (!o)
        return;
    if (o->shard[call->shard].failed[0])
        mon_plan_forget(r->mon);
    o->shard[call->shard].failed[0] = 0;
    o->shard[call->shard].given_up = false;
    if (!r->nothing) {
        o->up_ns = r->mon->alive_ns;
        o->demoted_ns = 0;
    }
    if (s) {
        bind_session(r->mon, s, o, call->shard);
    } else { /* it went while the change was written: as if it had gone just now */
        o->heard_ns = r->mon->alive_ns;
        o->gone_ns = r->mon->alive_ns;
    }
    mon_note(r->mon, LOG_INFO, "osd.%u shard %u is up at %s (start %" PRIu64 ")", call->osd, call->shard,
             call->address, call->incarnation);
}

const struct mon_method mon_osd_boot = {.build = osd_boot_build, .done = osd_boot_done};

void mon_osd_session_closed(struct mon *mon, struct mon_session *s)
{
    struct mon_osd *o = mon_osd_find(mon, s->osd);

    if (!o || o->shard[s->shard].session != s->serial)
        return;
    o->shard[s->shard].session = 0;
    for (size_t i = 0; i < mon_osd_item(o)->n_shard; i++)
        if (o->shard[i].session)
            return;
    o->gone_ns = mon->alive_ns;
    if (o->suspected_ns && o->suspected_ns + MON_RETURN_NS >= mon->alive_ns)
        mon_settle_soon(mon);
}

/* ---- reports ---- */

static void take_pg_report(struct mon *mon, uint32_t osd, uint32_t number, const struct mon_shard *shard,
                           const Fb__PgReport *report)
{
    struct mon_pg *pg = mon_pg_find(mon, report->pg);

    if (report->unlisted) {
        mon_split_report(mon, report);
        return;
    }
    if (!pg || !mon_member_is(mon_pg_item(pg), osd) || (report->term < pg->term && mon_pg_reported(mon, pg)))
        return;
    if (!mon_force_report(mon, pg, report))
        return;
    pg->reported_ns = mon->alive_ns;
    pg->term = report->term;
    pg->leader_osd = osd;
    pg->leader_shard = number;
    pg->whole = shard->whole;
    pg->in_contact = report->in_contact;
    pg->recovering = report->recovering;
    pg->damaged = report->state == FB__PG_STATE__PG_DAMAGED;
    pg->damaged_osd = report->damaged_osd;
    pg->objects = report->objects;
    mon_scrub_report(mon, pg, report);
    mon_member_report(mon, pg, report);
}

static void confirm_order(struct mon *mon, const Fb__PgConfirm *confirm)
{
    struct mon_order *order = mon_order_find(mon, confirm->image);
    struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(confirm->pg));

    if (!order || !pool || mon_order_item(order)->removed ||
        mon_order_item(order)->pool != mon_pg_pool(confirm->pg))
        return;
    const Fb__ImageOrder *item = mon_order_item(order);
    uint32_t count = mon_pool_item(pool)->pg_count, n = mon_pg_number(confirm->pg);
    /* A PG that was split off may lack what its parent has done since, and is not counted yet. */
    if (confirm->split_count > count)
        return;
    if (n >= count || confirm->generation < item->generation || (item->deleted && !confirm->deleted))
        return;
    if (order->generation != item->generation || order->deleted != (bool)item->deleted ||
        order->pg_count != count)
        mon_order_forget(order);
    if (!order->confirmed)
        order->confirmed = calloc((count + 7) / 8, 1);
    if (!order->confirmed)
        return; /* no memory: they confirm again */
    order->generation = item->generation;
    order->deleted = item->deleted;
    order->pg_count = count;
    if (order->confirmed[n / 8] & 1u << n % 8)
        return;
    order->confirmed[n / 8] |= (uint8_t)(1u << n % 8);
    if (++order->confirmed_count == count)
        mon_settle_soon(mon);
}

static void take_confirm(struct mon *mon, uint32_t osd, uint32_t shard, const Fb__PgConfirm *confirm)
{
    struct mon_pg *pg = mon_pg_find(mon, confirm->pg);

    if (!pg || mon_pg_item(pg)->removed || !mon_member_is(mon_pg_item(pg), osd))
        return;
    if (confirm->image)
        confirm_order(mon, confirm);
    else
        mon_member_confirm(mon, pg, osd, shard, confirm);
}

void mon_shard_report(struct mon_request *r)
{
    const Fb__ShardReport *report = r->call->shard_report;
    struct mon *mon = r->mon;
    struct mon_osd *o = mon_osd_find(mon, report->osd);
    struct mon_session *s = mon_session_find(mon, r->session);

    if (!o || mon_osd_item(o)->removed || report->shard >= mon_osd_item(o)->n_shard) {
        mon_reply(r, mon_fail(r, -ERR_NOT_FOUND, "this cluster has no osd.%u with a shard %u", report->osd,
                              report->shard));
        return;
    }
    const Fb__Osd *item = mon_osd_item(o);
    if (report->incarnation < item->incarnation) {
        mon_reply(r, mon_fail(r, -ERR_ROLLED_BACK,
                              "osd.%u has been started again since (start %" PRIu64 ", this is %" PRIu64 ")",
                              report->osd, item->incarnation, report->incarnation));
        return;
    }
    struct mon_shard *shard = &o->shard[report->shard];
    if (report->incarnation > item->incarnation || !item->shard[report->shard]->address[0] || !s ||
        shard->session != s->serial) {
        mon_reply(r, mon_fail(r, -ERR_RETRY,
                              "osd.%u shard %u must announce itself (boot) on this connection first",
                              report->osd, report->shard));
        return;
    }
    shard->heard_ns = o->heard_ns = mon->alive_ns;
    shard->reported = true;
    shard->epoch = report->epoch;
    shard->free_bytes = report->free_bytes;
    shard->lacks_room = report->lacks_room;
    shard->lacks_room_pg = report->lacks_room_pg;
    shard->damaged_logs = report->damaged_logs;
    shard->damaged_objects = report->damaged_objects;
    shard->repaired_blocks = report->repaired_blocks;
    shard->unrepaired_reads = report->unrepaired_reads;
    if (report->failed[0] && !shard->failed[0]) {
        shard->failed_ns = mon->alive_ns;
        mon_plan_forget(mon);
        mon_note(mon, LOG_ERROR, "osd.%u shard %u took itself out of service: %.183s", report->osd,
                 report->shard, report->failed);
    }
    snprintf(shard->failed, sizeof(shard->failed), "%.*s", (int)sizeof(shard->failed) - 1, report->failed);
    for (size_t i = 0; i < report->n_suspect_osd; i++) {
        struct mon_osd *suspect = mon_osd_find(mon, report->suspect_osd[i]);
        if (!suspect || suspect == o)
            continue;
        suspect->suspected_ns = mon->alive_ns;
        if (suspect->gone_ns && mon_osd_item(suspect)->up)
            mon_settle_soon(mon);
    }
    r->reply.epoch = mon->state.epoch;
    r->reply.scrub_paused = mon->state.scrub_paused;
    if (report->unchanged) {
        r->reply.report_all = shard->whole_session != s->serial || shard->scrub_news;
        if (shard->whole_session == s->serial)
            shard->unchanged_ns = mon->alive_ns;
        mon_reply(r, 0);
        return;
    }
    shard->whole++;
    shard->whole_session = s->serial;
    shard->scrub_news = false;
    for (size_t i = 0; i < report->n_pg; i++)
        take_pg_report(mon, report->osd, report->shard, shard, report->pg[i]);
    for (size_t i = 0; i < report->n_confirm; i++)
        take_confirm(mon, report->osd, report->shard, report->confirm[i]);
    for (size_t i = 0; i < report->n_standing; i++)
        mon_force_standing(mon, report, report->standing[i]);
    mon_scrub_orders(r, report);
    mon_reply(r, 0);
}
