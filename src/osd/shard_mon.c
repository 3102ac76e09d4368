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
 * The answer to a report (shard_report.c) names the newest epoch, so events of the map may be lost.
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
#define MON_CONFIRMS_MAX PLANT_SCARCE(8192u, 8u)
/* A report tells of all PGs, and looks at orders for images. While thousands of elections are under way, or
 * images are removed, each one is news, and reporting is not to take the processor from them. */
#define MON_REPORT_PG_NS (20 * NS_PER_US)

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
    mon->report_max = FRAME_BODY_MAX;
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

bool shard_mon_hears(const struct osd_shard *shard)
{
    return shard->mon.booted || !shard->monitors.count;
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

bool shard_mon_call(struct shard_mon *mon, const Fb__MonRequest *request)
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
    boot.epoch = MAX(shard->map.epoch, shard->map.loaded_epoch);
    boot.pgs_max = store_pgs_max(shard->store);
    boot.level = LEVEL;
    request.call_case = FB__MON_REQUEST__CALL_OSD_BOOT;
    request.osd_boot = &boot;
    return shard_mon_call(mon, &request);
}

static bool subscribe_send(struct shard_mon *mon)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__Subscribe subscribe = FB__SUBSCRIBE__INIT;

    subscribe.since_epoch = mon->shard->map.epoch;
    request.call_case = FB__MON_REQUEST__CALL_SUBSCRIBE;
    request.subscribe = &subscribe;
    mon->resubscribe = false;
    return shard_mon_call(mon, &request);
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
    if (mon->elsewhere) {
        mon->failures = 0; /* it is waited for there, and not for long: MON_PROOF_NS in mon/items.h */
    } else if (monitors->count > 1) {
        rpc_monitors_next(monitors);
        mon->elsewhere = true;
    }
}

/* It is tried all the time, and said once. */
static void refused(struct shard_mon *mon, int error, const char *text)
{
    if (error != mon->refused)
        core_log(mon->shard->core, LOG_WARN, "osd", "the monitor does not take us now: %s", text);
    mon->refused = error;
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
            refused(mon, result, reply && reply->message[0] ? reply->message : error_text(result));
    }
    wire_arena_fini(&arena);
    mon->booted = !result;
    mon->told = false;
    if (mon->booted) {
        mon->failures = 0;
        mon->refused = 0;
    }
    return !result;
}

static bool subscribe_end(struct shard_mon *mon)
{
    struct wire_arena arena;

    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    Fb__MonReply *reply = call_reply(mon, &arena);
    bool ok = !mon->call.result && reply;
    if (ok) {
        /* A part of what is newer may have come while the answer was on its way. */
        mon->shard->map.newest_epoch = MAX(mon->shard->map.newest_epoch, reply->epoch);
        map_offer(mon, reply->map);
        mon->answered = true;
        op_wake(mon->shard->waiter);
    }
    wire_arena_fini(&arena);
    return ok;
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
    if (mon->report_due)
        mon->report_ns = MIN(mon->report_ns, mon->report_early_ns);
    if (now_ns >= mon->report_ns) {
        mon->report_due = false;
        mon->report_ns = now_ns + SHARD_REPORT_NS;
        mon->report_early_ns =
            now_ns + (mon->shard->pgs.count + mon->shard->map.orders.count) * MON_REPORT_PG_NS;
        if (!shard_report_send(mon)) {
            mon_pause(mon, true);
            return;
        }
        op->state = MON_REPORT;
        return;
    }
    timer_arm(op->core, &mon->timer, op, mon->report_ns);
}
