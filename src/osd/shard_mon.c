/* SPDX-License-Identifier: Apache-2.0
 *
 * The shard's session with the monitor.
 *
 *      CONNECT --> BOOT --> SUBSCRIBE --> RUN <--> REPORT
 *         ^---------'----------'-----------'---------'   the session broke, or an answer did not come
 *
 * BOOT tells who we are; the answer can be a verdict: this device does not belong here, or is a copy from an
 * earlier time. Then the shard does not serve, or stops serving. Every other failure is only a reason to try
 * again: without a monitor the shard goes on with the map that it has. A monitor that belongs to another
 * cluster has no say once the shard serves: someone has mistaken an address, or begun anew in an empty
 * directory.
 *
 * The monitor that leads, that is: others only tell who does. A failure, or such an answer, makes another one
 * the current one.
 *
 * Everything in a report is the whole truth of that moment, so reports may be lost or repeated. Its answer
 * names the newest epoch, so events may be lost, too. While all groups are parked (pg_park.c), as they were
 * when the last whole report was made, reports only say so: they do not grow with the number of groups.
 */
#include "osd/scrub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/level.h"

enum { MON_CONNECT, MON_BOOT, MON_SUBSCRIBE, MON_RUN, MON_REPORT };
#define MON_CALL_NS      (3 * NS_PER_S)
#define MON_ROTATE_NS    (2 * NS_PER_S) /* an address that does not answer for so long: try the next */
#define MON_PAUSE_NS     (200 * NS_PER_MS)
#define MON_FOREIGN_NS   (60 * NS_PER_S) /* how often a monitor of another cluster is worth a log line */
#define MON_CONFIRMS_MAX 8192

static const char *mon_state_name(int state)
{
    static const char *const names[] = {"connect", "boot", "subscribe", "run", "report"};
    return names[state];
}
static void mon_step(struct op *op);
static const struct op_kind mon_kind = {"osd.monitor", mon_state_name, mon_step};

int shard_mon_start(struct osd_shard *shard)
{
    struct shard_mon *mon = &shard->mon;

    mon->shard = shard;
    mon->confirms_max = MON_CONFIRMS_MAX;
    if (!shard->monitors.count)
        return 0;
    mon->reply = malloc(FRAME_BODY_MAX);
    mon->scratch = malloc(FRAME_HEADER_SIZE + FRAME_BODY_MAX);
    if (!mon->reply || !mon->scratch)
        return -ERR_NO_MEMORY;
    op_start(&mon->op, shard->core, &mon_kind, NULL);
    return 0;
}

void shard_mon_report(struct osd_shard *shard)
{
    shard->mon.report_due = shard->mon.stirred = true;
    if (op_live(&shard->mon.op))
        op_wake(&shard->mon.op);
}

/* ---- what the monitor says ---- */

static bool is_verdict(int error)
{
    return error == -ERR_IDENTITY || error == -ERR_CLUSTER || error == -ERR_ROLLED_BACK ||
           error == -ERR_NOT_FOUND || error == -ERR_LOCKED;
}

static void verdict_take(struct shard_mon *mon, int error, const char *text)
{
    struct osd_shard *shard = mon->shard;

    mon->verdict = error;
    snprintf(mon->verdict_text, sizeof(mon->verdict_text), "%s", text && text[0] ? text : error_text(error));
    core_log(shard->core, LOG_ERROR, "osd", "the monitor refuses this shard: %s", mon->verdict_text);
    if (shard->serving)
        shard_fail(shard, error, mon->verdict_text);
    op_wake(shard->waiter);
}

/* The handshake showed that this is not a monitor of our cluster. */
static void foreign_refused(struct shard_mon *mon, int error)
{
    struct osd_shard *shard = mon->shard;
    uint64_t now_ns = core_now_ns(shard->core);

    if (mon->foreign_logged_ns && now_ns - mon->foreign_logged_ns < MON_FOREIGN_NS)
        return;
    mon->foreign_logged_ns = now_ns;
    core_log(
        shard->core, LOG_ERROR, "osd",
        "the monitor at %s is not one of this cluster (%s); osd.%u shard %u goes on with the map that it has: "
        "check the monitors' addresses",
        rpc_monitors_current(&shard->monitors), error_text(error), shard->label.osd, shard->number);
}

static void map_offer(struct shard_mon *mon, const Fb__ClusterMap *map)
{
    struct osd_shard *shard = mon->shard;
    int error = map ? shard_map_take(shard, map) : 0;

    if (error == -ERR_CONFLICT)
        mon->resubscribe = true;
    if (error)
        core_log(shard->core, LOG_WARN, "osd", "cannot take the cluster map of epoch %" PRIu64 " over: %s",
                 map->epoch, error_text(error));
}

static void mon_opened(void *owner, struct rpc_peer *rpc, const struct rpc_identity *who)
{
    op_wake(&((struct shard_mon *)owner)->op);
}

static void mon_closed(void *owner, struct rpc_peer *rpc, int error)
{
    struct shard_mon *mon = owner;

    mon->booted = false;
    if (!mon->elsewhere && mon->shard->monitors.count > 1) {
        rpc_monitors_next(&mon->shard->monitors);
        mon->elsewhere = true;
    }
    if (mon->shard->serving && (error == -ERR_CLUSTER || error == -ERR_IDENTITY))
        foreign_refused(mon, error);
    else if (is_verdict(error) && !mon->verdict)
        verdict_take(mon, error, NULL);
    op_wake(&mon->op);
}

static void mon_oneway(void *owner, struct rpc_peer *rpc, const struct rpc_message *message)
{
    struct shard_mon *mon = owner;
    struct osd_shard *shard = mon->shard;
    struct wire_arena arena;
    Fb__MonEvent *event;

    if (message->method != METHOD_MON_EVENT)
        return;
    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    int error =
        wire_cold_decode(&fb__mon_event__descriptor, message->body, message->body_len, &arena, &event);
    if (error) {
        core_log(shard->core, LOG_ERROR, "osd", "event from the monitor: %s", error_text(error));
    } else if (mon->booted) {
        map_offer(mon, event->map);
        if (event->transfer)
            (void)pg_transfer(
                shard,
                event->transfer); /* what cannot be moved now, stays: the monitor sees it in the reports */
    }
    wire_arena_fini(&arena);
    op_wake(&mon->op);
}

/* ---- calls ---- */

static bool call_send(struct shard_mon *mon, const Fb__MonRequest *request)
{
    struct osd_shard *shard = mon->shard;
    uint32_t len;

    if (wire_cold_encode(&request->base, rpc_body(mon->scratch), FRAME_BODY_MAX, &len))
        return false;
    mon->call.reply = mon->reply;
    mon->call.reply_cap = FRAME_BODY_MAX;
    return !rpc_call_start(&mon->call, mon->rpc, &mon->op, METHOD_MON, rpc_body(mon->scratch), len, NULL, 0,
                           core_now_ns(shard->core) + MON_CALL_NS);
}

static bool boot_send(struct shard_mon *mon)
{
    struct osd_shard *shard = mon->shard;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__OsdBoot boot = FB__OSD_BOOT__INIT;

    boot.osd = shard->label.osd;
    boot.uuid = (ProtobufCBinaryData){16, shard->label.osd_uuid};
    boot.shard = shard->number;
    boot.shards = shard->label.slice_count;
    boot.incarnation = shard->label.start_counter;
    boot.start_token = shard->label.start_token;
    boot.address = (char *)rpc_server_address(shard->server);
    boot.host = shard->host;
    boot.rack = shard->rack;
    boot.zone = shard->zone;
    boot.size_bytes = store_space(shard->store).total_bytes;
    boot.epoch = shard->map.epoch;
    boot.pgs_max = store_pgs_max(shard->store);
    boot.level = LEVEL;
    request.call_case = FB__MON_REQUEST__CALL_OSD_BOOT;
    request.osd_boot = &boot;
    return call_send(mon, &request);
}

static bool subscribe_send(struct shard_mon *mon)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__Subscribe subscribe = FB__SUBSCRIBE__INIT;

    subscribe.since_epoch = mon->shard->map.epoch;
    request.call_case = FB__MON_REQUEST__CALL_SUBSCRIBE;
    request.subscribe = &subscribe;
    mon->resubscribe = false;
    return call_send(mon, &request);
}

/* The answer to the call, in the arena; NULL: none came. */
static Fb__MonReply *call_reply(struct shard_mon *mon, struct wire_arena *arena)
{
    Fb__MonReply *reply = NULL;

    slice_unref(&mon->call.reply_payload);
    if (!mon->call.remote ||
        wire_cold_decode(&fb__mon_reply__descriptor, mon->reply, mon->call.reply_len, arena, &reply))
        return NULL;
    return reply;
}

/* It follows another one, or nobody leads just now. */
static void other_monitor(struct shard_mon *mon, const Fb__MonReply *reply)
{
    struct rpc_monitors *monitors = &mon->shard->monitors;

    mon->booted = false;
    mon->elsewhere = rpc_monitors_follow(monitors, reply ? reply->leader : "", core_now_ns(mon->shard->core));
    if (!mon->elsewhere && monitors->count > 1) {
        rpc_monitors_next(monitors);
        mon->elsewhere = true;
    }
}

static bool boot_end(struct shard_mon *mon)
{
    struct wire_arena arena;
    int result = mon->call.result;

    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    Fb__MonReply *reply = call_reply(mon, &arena);
    if (result && mon->call.remote) {
        if (is_verdict(result))
            verdict_take(mon, result, reply ? reply->message : NULL);
        else if (result == -ERR_OTHER_MONITOR)
            other_monitor(mon, reply);
        else
            core_log(mon->shard->core, LOG_WARN, "osd", "the monitor does not take us now: %s",
                     reply && reply->message[0] ? reply->message : error_text(result));
    }
    wire_arena_fini(&arena);
    mon->booted = !result;
    mon->told = false;
    if (mon->booted)
        mon->failures = 0;
    return !result;
}

static bool subscribe_end(struct shard_mon *mon)
{
    struct wire_arena arena;

    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    Fb__MonReply *reply = call_reply(mon, &arena);
    bool ok = !mon->call.result && reply;
    if (ok) {
        map_offer(mon, reply->map);
        mon->answered = true;
        op_wake(mon->shard->waiter);
    }
    wire_arena_fini(&arena);
    return ok;
}

/* ---- reports ---- */

/* Of the few PGs that are being scrubbed, or have damage to tell of. */
#define REPORT_DAMAGE_MAX 8                    /* of one PG; the next report has more */
#define REPORT_SCRUB_MAX  (FRAME_BODY_MAX / 4) /* bytes; the rest comes when this is known */
struct report_scrub {
    struct report_scrub *next;
    struct scrub_result_rows result;
    Fb__PgDamage damage[REPORT_DAMAGE_MAX], *damages[REPORT_DAMAGE_MAX];
};

struct report_group {
    struct report_group *next;
    Fb__PgMember members[GROUP_MEMBERS_MAX], *pointers[GROUP_MEMBERS_MAX];
};

struct report {
    Fb__ShardReport message;
    struct report_scrub *scrubs;
    struct report_group *groups;
    size_t scrub_bytes;
    Fb__PgReport *pgs, **pg_pointers;
    Fb__PgConfirm *confirms, **confirm_pointers;
    uint32_t confirms_max;
    uint32_t confirm_from;  /* those in front of it were in the last report */
    uint32_t confirm_count; /* of what there is to say */
    uint32_t suspects[64];
    Fb__PgStanding *standings, **standing_pointers;
};

static void report_pg(const struct pg *pg, Fb__PgReport *to)
{
    const struct raft *r = &pg->raft;
    uint64_t now_ns = core_now_ns(pg->shard->core);

    *to = (Fb__PgReport)FB__PG_REPORT__INIT;
    to->pg = pg->id;
    to->term = r->term;
    to->leader_osd = pg->shard->label.osd;
    to->objects = pg->sp->object_count;
    to->replica = pg->replica;
    to->commit_index = r->commit_index;
    to->in_contact = 1;
    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *member = &r->members[i];
        if (member->replica == r->self)
            continue;
        to->in_contact += member->flags && pg_in_contact(pg, member, now_ns);
        to->recovering += member->recovering || member->progress == RAFT_BEHIND;
    }
}

/* The group, until the map has it. What is applied is committed. */
static void report_pg_group(struct report *report, const struct pg *pg, Fb__PgReport *to)
{
    const struct group *group = &pg->sp->record.group;
    const Fb__Pg *item = shard_map_pg(pg->shard, pg->id);
    bool news = !item || (group->index > item->group_index && !group_joint(group));
    struct report_group *rows = news ? calloc(1, sizeof(*rows)) : NULL;

    if (!rows)
        return;
    rows->next = report->groups;
    report->groups = rows;
    to->unlisted = !item;
    to->group_index = group->index;
    to->group_epoch = group->epoch;
    to->group = rows->pointers;
    to->n_group = group->count;
    for (uint32_t i = 0; i < group->count; i++) {
        rows->members[i] = (Fb__PgMember)FB__PG_MEMBER__INIT;
        rows->members[i].replica = group->members[i].replica;
        rows->members[i].osd = group->members[i].osd;
        rows->members[i].shard = group->members[i].shard;
        rows->members[i].learner = !group->members[i].flags;
        rows->pointers[i] = &rows->members[i];
    }
}

static void report_pg_scrub(struct report *report, struct pg *pg, Fb__PgReport *to)
{
    bool scrubs = pg->scrub_order && pg->scrub.order == pg->scrub_order;
    struct report_scrub *rows = scrubs || pg->damage_count ? calloc(1, sizeof(*rows)) : NULL;

    if (!rows)
        return; /* nothing to say; or no memory, then the next report says it */
    rows->next = report->scrubs;
    report->scrubs = rows;
    if (scrubs) {
        scrub_result_fill(&pg->scrub, &rows->result);
        to->scrub = &rows->result.result;
        to->scrub_done = pg->scrub.done;
    }
    to->damage = rows->damages;
    to->n_damage = damage_report(pg, rows->damage, rows->damages, REPORT_DAMAGE_MAX);
    report->scrub_bytes += wire_cold_size(&to->base);
    if (report->scrub_bytes > REPORT_SCRUB_MAX) {
        to->scrub = NULL;
        to->n_damage = 0;
    }
}

/* NULL: another report has room for it. Each begins where the last one stopped, because what is confirmed may
 * long remain in the map: until the other members and PGs have confirmed it too. */
static Fb__PgConfirm *confirm_add(struct report *report, uint64_t pg, uint32_t osd)
{
    if (report->confirm_count++ < report->confirm_from || report->message.n_confirm == report->confirms_max)
        return NULL;
    Fb__PgConfirm *confirm = &report->confirms[report->message.n_confirm];

    *confirm = (Fb__PgConfirm)FB__PG_CONFIRM__INIT;
    confirm->pg = pg;
    confirm->osd = osd;
    report->confirm_pointers[report->message.n_confirm++] = confirm;
    return confirm;
}

static Fb__PgConfirm *confirm_replica(struct osd_shard *shard, struct report *report, const Fb__Pg *item,
                                      uint32_t replica)
{
    Fb__PgConfirm *confirm = confirm_add(report, item->id, shard->label.osd);

    if (confirm)
        confirm->replica = replica;
    return confirm;
}

static void report_replica(struct osd_shard *shard, struct report *report, const Fb__Pg *item)
{
    const Fb__PgMember *self = shard_map_member(shard, item), *wanted = shard_map_wanted(shard, item);
    const struct store_pg *sp = store_pg_find(shard->store, item->id);
    uint32_t replica = sp ? sp->record.replica : 0;
    /* Its record is durable: it is opened only then. */
    bool there = pg_find(shard, item->id);
    Fb__PgConfirm *confirm;

    if (there && self && replica == self->replica && !item->born &&
        (confirm = confirm_replica(shard, report, item, replica)))
        confirm->born = true;
    /* It has taken its number over from the replica that it was. */
    if (there && self && replica == self->replica && item->born && self->birth && !self->born &&
        (confirm = confirm_replica(shard, report, item, replica)))
        confirm->born = true;
    if (there && wanted && replica == wanted->replica && wanted->birth && !wanted->born &&
        (confirm = confirm_replica(shard, report, item, replica)))
        confirm->born = true;
    bool pending = !sp && pg_split_pending(shard, item);
    if (self && !sp && item->born && (!self->birth || self->born) && !shard_map_pg_removed(shard, item) &&
        !pending && (confirm = confirm_replica(shard, report, item, self->replica)))
        confirm->lost = true;
    /* An older map, to which a restart might go back, may order to create it. */
    for (size_t i = 0; i < item->n_dropped && item->epoch <= shard->map.saved_epoch && !pending; i++) {
        const Fb__PgMember *dropped = item->dropped[i];
        if (dropped->osd == shard->label.osd && dropped->shard == shard->number &&
            dropped->replica != replica && (confirm = confirm_replica(shard, report, item, dropped->replica)))
            confirm->dropped = true;
    }
}

static void report_replicas(struct osd_shard *shard, struct report *report)
{
    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        Fb__PgConfirm *confirm;

        if (item->removed)
            continue;
        bool removed = shard_map_pg_removed(shard, item);
        if (!removed || shard_map_dropped(shard, item))
            report_replica(shard, report, item);
        if (removed && shard_map_member(shard, item) && !store_pg_find(shard->store, item->id) &&
            !pg_split_pending(shard, item) && (confirm = confirm_add(report, item->id, shard->label.osd)))
            confirm->pg_removed = true;
    }
}

static void report_orders(struct osd_shard *shard, struct report *report)
{
    map_for_each (&shard->map.orders, node) {
        const Fb__ImageOrder *order = map_entry(node, struct map_item, node)->order;
        map_for_each (&shard->pgs, pg_node) {
            struct pg *pg = map_entry(pg_node, struct pg, node);
            Fb__PgConfirm *confirm;

            if (pg->id >> 32 != order->pool || !pg_serves(pg))
                continue;
            if (!pg_order_done(pg, order)) {
                pg->orders_due = true;
                pg_wake(pg);
            } else if ((confirm = confirm_add(report, pg->id, shard->label.osd)) != NULL) {
                confirm->image = order->image;
                confirm->generation = order->generation;
                confirm->deleted = order->deleted;
                confirm->split_count = pg_split_count(pg);
            }
        }
    }
}

static void report_suspects(struct osd_shard *shard, struct report *report)
{
    report->message.suspect_osd = report->suspects;
    map_for_each (&shard->peers, node) {
        const struct peer *peer = map_entry(node, struct peer, node);
        if (peer->lost && peer->rpc && !rpc_peer_is_open(peer->rpc) &&
            report->message.n_suspect_osd < ARRAY_LEN(report->suspects))
            report->suspects[report->message.n_suspect_osd++] = peer->osd;
    }
}

static void report_shard(struct osd_shard *shard, struct report *report)
{
    struct store_space space = store_space(shard->store);

    *report = (struct report){.message = FB__SHARD_REPORT__INIT};
    report->message.osd = shard->label.osd;
    report->message.shard = shard->number;
    report->message.incarnation = shard->label.start_counter;
    report->message.epoch = shard->map.saved_epoch;
    report->message.used_bytes = space.used_bytes;
    report->message.free_bytes = space.free_bytes;
    report->message.damaged_objects = store_counters(shard->store)->damaged_objects;
    report->message.repaired_blocks = shard->perf.repaired_blocks;
    report->message.unrepaired_reads = shard->perf.unrepaired_reads;
    report->message.failed = shard->failed ? shard->failed_text : (char *)protobuf_c_empty_string;
}

/* What is parked has nothing new to say. */
static bool report_is_known(const struct osd_shard *shard)
{
    return shard->mon.told && !shard->mon.stirred && list_empty(&shard->awake) && !shard->failed;
}

static bool report_fill(struct osd_shard *shard, struct report *report)
{
    size_t pgs = shard->pgs.count + 1;

    shard->mon.told = false;
    shard->mon.stirred = !list_empty(&shard->awake);
    shard->mon.report_partial = true;
    /* Filled entry by entry: what is not used is not touched. */
    report->pgs = malloc(pgs * sizeof(*report->pgs));
    report->pg_pointers = malloc(pgs * sizeof(void *));
    report->confirms_max = shard->mon.confirms_max;
    report->confirm_from = shard->mon.confirm_next;
    report->confirm_count = 0;
    report->confirms = malloc(report->confirms_max * sizeof(*report->confirms));
    report->confirm_pointers = malloc(report->confirms_max * sizeof(void *));
    if (!report->pgs || !report->pg_pointers || !report->confirms || !report->confirm_pointers)
        return false;
    report->message.pg = report->pg_pointers;
    report->message.confirm = report->confirm_pointers;
    if (shard->failed)
        return true;
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        if ((!pg->led_term && shard_map_pg(shard, pg->id)) || pg->stopping)
            continue;
        report_pg(pg, &report->pgs[report->message.n_pg]);
        report_pg_scrub(report, pg, &report->pgs[report->message.n_pg]);
        report_pg_group(report, pg, &report->pgs[report->message.n_pg]);
        report->pg_pointers[report->message.n_pg] = &report->pgs[report->message.n_pg];
        report->message.n_pg++;
    }
    report_replicas(shard, report);
    report_orders(shard, report);
    uint32_t end = report->confirm_from + (uint32_t)report->message.n_confirm;
    shard->mon.confirm_next = end < report->confirm_count ? end : 0;
    report->message.n_standing = pg_standings(shard, &report->standings, &report->standing_pointers);
    report->message.standing = report->standing_pointers;
    /* What may have to be said again is said in each. */
    shard->mon.report_partial =
        report->confirm_count || report->message.n_standing || report->scrubs || report->groups;
    return true;
}

/* An event of the map may have been lost, and it may be long until the next one shows that. */
static bool report_end(struct shard_mon *mon)
{
    struct wire_arena arena;

    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    const Fb__MonReply *reply = call_reply(mon, &arena);
    bool ok = !mon->call.result && reply;
    mon->resubscribe |= ok && reply->epoch > mon->shard->map.epoch;
    if (mon->call.remote && mon->call.result == -ERR_OTHER_MONITOR)
        other_monitor(mon, reply);
    if (ok && mon->report_unchanged) {
        mon->report_due |= reply->report_all;
        mon->stirred |= reply->report_all;
        scrub_take_pause(mon->shard, reply->scrub_paused);
    } else if (ok) {
        mon->told = !mon->report_partial && !reply->n_scrub_order;
        scrub_take_orders(mon->shard, reply->scrub_order, reply->n_scrub_order);
        scrub_take_pause(mon->shard, reply->scrub_paused);
    }
    wire_arena_fini(&arena);
    return ok;
}

static bool report_send(struct shard_mon *mon)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    struct report report;
    bool sent = false;

    report_shard(mon->shard, &report);
    report_suspects(mon->shard, &report);
    report.message.unchanged = mon->report_unchanged = report_is_known(mon->shard);
    if (mon->report_unchanged || report_fill(mon->shard, &report)) {
        request.call_case = FB__MON_REQUEST__CALL_SHARD_REPORT;
        request.shard_report = &report.message;
        sent = call_send(mon, &request);
    }
    for (struct report_scrub *next; report.scrubs; report.scrubs = next) {
        next = report.scrubs->next;
        free(report.scrubs);
    }
    for (struct report_group *next; report.groups; report.groups = next) {
        next = report.groups->next;
        free(report.groups);
    }
    free(report.pgs);
    free(report.pg_pointers);
    free(report.confirms);
    free(report.confirm_pointers);
    free(report.standings);
    free(report.standing_pointers);
    return sent;
}

/* ---- the op ---- */

static void mon_connect(struct shard_mon *mon)
{
    struct osd_shard *shard = mon->shard;
    uint64_t now_ns = core_now_ns(shard->core);

    bool silent = shard->monitors.count > 1 && now_ns - mon->tried_ns >= MON_ROTATE_NS;
    if (mon->rpc && (mon->elsewhere || silent)) {
        rpc_peer_free(mon->rpc);
        mon->rpc = NULL;
        if (!mon->elsewhere)
            rpc_monitors_next(&shard->monitors);
    }
    mon->elsewhere = false;
    if (!mon->rpc) {
        struct rpc_peer_config config = {
            .core = shard->core,
            .net = shard->net,
            .address = rpc_monitors_current(&shard->monitors),
            .self = &shard->self,
            .calls_max = 4,
            .opened = mon_opened,
            .closed = mon_closed,
            .oneway = mon_oneway,
            .owner = mon,
        };
        mon->rpc = rpc_peer_new(&config);
        mon->tried_ns = now_ns;
    }
}

static void mon_end(struct shard_mon *mon)
{
    struct osd_shard *shard = mon->shard;

    timer_cancel(mon->op.core, &mon->timer);
    if (mon->rpc)
        rpc_peer_free(mon->rpc);
    mon->rpc = NULL;
    slice_unref(&mon->call.reply_payload);
    op_done(&mon->op, 0);
    free(mon->reply);
    free(mon->scratch);
    mon->reply = mon->scratch = NULL;
    shard_op_ended(shard);
}

/* `failed`: not even an open session ends the pause. */
static void mon_pause(struct shard_mon *mon, bool failed)
{
    /* Once all have been tried in vain there is less hurry. */
    uint32_t rounds = mon->failures / MAX(mon->shard->monitors.count, 1u);
    uint64_t ns = failed ? MON_PAUSE_NS << MIN(rounds, 2u) : MON_ROTATE_NS;

    mon->op.state = MON_CONNECT;
    mon->paused = failed;
    timer_arm(mon->op.core, &mon->timer, &mon->op, core_now_ns(mon->op.core) + ns);
}

static void mon_step(struct op *op)
{
    struct shard_mon *mon = container_of(op, struct shard_mon, op);
    uint64_t now_ns = core_now_ns(op->core);

    if (op->cancelled) {
        rpc_call_abandon(&mon->call);
        mon_end(mon);
        return;
    }
    if (mon->call.pending)
        return;
    switch (op->state) {
    case MON_CONNECT:
        if (mon->elsewhere && !mon->paused) { /* found out while it was waited for */
            mon_pause(mon, true);
            return;
        }
        if (timer_armed(&mon->timer) && (mon->paused || !rpc_peer_is_open(mon->rpc)))
            return;
        mon_connect(mon);
        if (mon->rpc && rpc_peer_is_open(mon->rpc) && !mon->verdict && boot_send(mon)) {
            op->state = MON_BOOT;
            return;
        }
        mon->failures++;
        mon_pause(mon, !mon->rpc || mon->verdict);
        return;
    case MON_BOOT:
        if (!boot_end(mon) || !subscribe_send(mon)) {
            mon_pause(mon, true);
            return;
        }
        mon->report_due = true;
        op->state = MON_SUBSCRIBE;
        return;
    case MON_SUBSCRIBE:
        mon->tried_ns = now_ns;
        if (!subscribe_end(mon)) {
            mon_pause(mon, true);
            return;
        }
        break;
    case MON_REPORT:
        if (!report_end(mon)) {
            mon_pause(mon, mon->elsewhere);
            return;
        }
        break;
    case MON_RUN:
        break;
    }
    op->state = MON_RUN;
    mon->tried_ns = now_ns;
    if (!mon->booted) {
        mon_pause(mon, mon->elsewhere);
        return;
    }
    if (mon->resubscribe && subscribe_send(mon)) {
        op->state = MON_SUBSCRIBE;
        return;
    }
    if (now_ns >= mon->report_ns || mon->report_due) {
        mon->report_due = false;
        mon->report_ns = now_ns + SHARD_REPORT_NS;
        if (!report_send(mon)) {
            mon_pause(mon, true);
            return;
        }
        op->state = MON_REPORT;
        return;
    }
    timer_arm(op->core, &mon->timer, op, mon->report_ns);
}
