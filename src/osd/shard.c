/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a shard.
 *
 *      start:  OPEN (the store) --> WAIT (for the monitor's word, for a bounded time) --> serving
 *                  |                  '-- refused --> UNDO --> failed
 *                  '-- cannot --> failed
 *
 *      stop:   TRANSFER (leaders move away, for a bounded time) --> END (own ops) --> CLOSE (the store) -->
 * freed
 *
 * Nothing votes or answers before the monitor has had the chance to say that this device is a restored copy
 * of an earlier time; a monitor that does not answer does not keep the cluster from coming back.
 */
#include "osd/scrub.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define START_WAIT_NS     (2 * NS_PER_S)
#define FAIL_HAND_OVER_NS (500 * NS_PER_MS)

/* ---- out of service ---- */

void shard_op_ended(struct osd_shard *shard)
{
    op_wake(shard->waiter);
    if (op_live(&shard->orders.op))
        op_wake(&shard->orders.op);
}

bool shard_mute(struct osd_shard *shard)
{
    return shard->failed && core_now_ns(shard->core) - shard->failed_ns > FAIL_HAND_OVER_NS;
}

void shard_fail(struct osd_shard *shard, int error, const char *text)
{
    if (shard->failed)
        return;
    shard->failed = error;
    shard->failed_ns = core_now_ns(shard->core);
    snprintf(shard->failed_text, sizeof(shard->failed_text), "%s (%s)", text, error_text(error));
    core_log(shard->core, LOG_ERROR, "osd", "osd.%u shard %u takes itself out of service: %s",
             shard->label.osd, shard->number, shard->failed_text);
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        pg_requests_fail(pg, -ERR_STOPPED);
        pg_touched(pg); /* hands over, if it leads */
    }
    shard_mon_report(shard);
}

/* ---- service ---- */

void shard_pgs_open(struct osd_shard *shard)
{
    for (struct store_pg *sp = store_pg_next(shard->store, NULL); sp; sp = store_pg_next(shard->store, sp)) {
        const Fb__Pg *item = shard_map_pg(shard, sp->record.pg);
        int error;

        /* Of what was split off the map may have yet to hear: that was no order of the map's. */
        if ((!item && sp->record.birth) ||
            (item && shard_map_replica_dropped(shard, item, sp->record.replica)) ||
            map_get(&shard->pgs, sp->record.pg))
            continue;
        error = pg_open(shard, sp, false);
        if (error)
            core_log(shard->core, LOG_ERROR, "osd", PG_FMT ": replica %u cannot be started: %s",
                     PG_ARGS(sp->record.pg), sp->record.replica, error_text(error));
    }
}

static void shard_serve(struct osd_shard *shard)
{
    shard->serving = true;
    shard_pgs_open(shard);
    op_wake(&shard->orders.op);
    core_log(shard->core, LOG_INFO, "osd",
             "osd.%u shard %u serves %" PRIu64 " placement groups at %s, map epoch %" PRIu64,
             shard->label.osd, shard->number, shard->pgs.count, rpc_server_address(shard->server),
             shard->map.epoch);
}

static void shard_free(struct osd_shard *shard)
{
    shard_map_fini(&shard->map);
    map_fini(&shard->pgs);
    map_fini(&shard->peers);
    pool_fini(&shard->requests);
    image_perf_fini(&shard->image_perf);
    free(shard);
}

static int shard_new(const struct osd_shard_config *config, struct osd_shard **ret_shard)
{
    struct osd_shard *shard = calloc(1, sizeof(*shard));
    int error;

    if (!shard)
        return -ERR_NO_MEMORY;
    shard->core = config->core;
    shard->net = config->net;
    shard->blk = config->blk;
    shard->label = *config->label;
    shard->number = config->shard;
    shard->cache_bytes = config->cache_bytes;
    shard->pages_max = config->pages_max;
    map_init(&shard->pgs);
    list_init(&shard->led);
    map_init(&shard->peers);
    list_init(&shard->turns.waiting);
    list_init(&shard->elections.wanted.fresh);
    list_init(&shard->elections.wanted.failed);
    list_init(&shard->elections.waiting.fresh);
    list_init(&shard->elections.waiting.failed);
    shard->elections.max = ELECTIONS_MAX;
    shard_map_init(&shard->map);
    shard->self = (struct rpc_identity){
        .role = RPC_OSD,
        .osd = shard->label.osd,
        .shard = shard->number,
        .incarnation = shard->label.start_counter,
        .start_token = shard->label.start_token,
    };
    memcpy(shard->self.cluster, shard->label.cluster, 16);
    memcpy(shard->self.osd_uuid, shard->label.osd_uuid, 16);
    snprintf(shard->self.name, sizeof(shard->self.name), "osd.%u", shard->label.osd);
    error = pool_init(&shard->requests, sizeof(struct pg_request), SHARD_REQUESTS_MAX);
    if (!error)
        error = image_perf_init(&shard->image_perf);
    if (!error)
        error = text_copy(shard->host, sizeof(shard->host), config->host ? config->host : "");
    if (!error)
        error = text_copy(shard->rack, sizeof(shard->rack), config->rack ? config->rack : "");
    if (!error)
        error = text_copy(shard->zone, sizeof(shard->zone), config->zone ? config->zone : "");
    if (!error)
        error = text_copy(shard->listen, sizeof(shard->listen), config->listen);
    if (!error && config->monitor_count)
        error = rpc_monitors_init(&shard->monitors, config->monitors, config->monitor_count);
    if (error) {
        shard_free(shard);
        return error;
    }
    *ret_shard = shard;
    return 0;
}

/* ---- start ---- */

enum { START_INIT, START_OPEN, START_WAIT, START_UNDO };

static const char *start_state_name(int state)
{
    static const char *const names[] = {"init", "open", "wait", "undo"};
    return names[state];
}
static void start_step(struct op *op);
static const struct op_kind start_kind = {"osd.start", start_state_name, start_step};

void osd_shard_start_start(struct osd_shard_start *s, const struct osd_shard_config *config,
                           struct op *parent)
{
    s->config = *config;
    s->ret_shard = NULL;
    s->ret_message[0] = 0;
    op_start(&s->op, config->core, &start_kind, parent);
}

static void start_failed(struct osd_shard_start *s, int error, const char *text)
{
    if (!s->ret_message[0])
        snprintf(s->ret_message, sizeof(s->ret_message), "osd.%u shard %u: %s: %s", s->config.label->osd,
                 s->config.shard, text, error_text(error));
    free(s->private_state.store_open);
    s->private_state.store_open = NULL;
    op_done(&s->op, error);
}

static void start_open(struct osd_shard_start *s)
{
    struct osd_shard *shard = s->private_state.shard;
    struct store_config config = {
        .core = shard->core,
        .blk = shard->blk,
        .slice = shard->number,
        .cache_bytes = shard->cache_bytes,
        .pages_max = shard->pages_max,
        .pgs_max = STORE_PGS_MAX,
    };

    memcpy(config.osd_uuid, shard->label.osd_uuid, 16);
    store_open_start(s->private_state.store_open, &config, &s->op);
}

/* The store is open: everything else comes to life. */
static int start_parts(struct osd_shard *shard)
{
    int error = shard_map_load(shard);

    if (error)
        /* The monitor has a newer one anyway; until then the replicas here wait. */
        core_log(shard->core, LOG_ERROR, "osd", "the saved cluster map cannot be used: %s",
                 error_text(error));
    error = shard_server_start(shard);
    if (error)
        return error;
    shard_orders_start(shard);
    shard_heartbeat_start(shard);
    error = scrub_start(shard);
    return error ? error : shard_mon_start(shard);
}

static void start_step(struct op *op)
{
    struct osd_shard_start *s = container_of(op, struct osd_shard_start, op);
    struct osd_shard *shard = s->private_state.shard;
    int error;

    if (op->children)
        return;
    switch (op->state) {
    case START_INIT:
        s->private_state.store_open = calloc(1, sizeof(struct store_open));
        error = s->private_state.store_open ? shard_new(&s->config, &s->private_state.shard) : -ERR_NO_MEMORY;
        if (error) {
            start_failed(s, error, "cannot start");
            return;
        }
        op->state = START_OPEN;
        start_open(s);
        return;

    case START_OPEN:
        error = s->private_state.store_open->op.result;
        if (error) {
            shard_free(shard);
            start_failed(s, error, "cannot open the store");
            return;
        }
        shard->store = s->private_state.store_open->ret_store;
        shard->waiter = op;
        s->private_state.error = start_parts(shard);
        op->state = START_WAIT;
        timer_arm(op->core, &s->private_state.timer, op, core_now_ns(op->core) + START_WAIT_NS);
        __attribute__((fallthrough));

    case START_WAIT:
        if (shard->mon.verdict && !s->private_state.error) {
            s->private_state.error = shard->mon.verdict;
            snprintf(s->ret_message, sizeof(s->ret_message), "%s", shard->mon.verdict_text);
        }
        if (!s->private_state.error && shard->monitors.count && !shard->mon.answered &&
            !s->private_state.timer.fired)
            return;
        timer_cancel(op->core, &s->private_state.timer);
        shard->waiter = NULL;
        if (s->private_state.error) {
            op->state = START_UNDO;
            osd_shard_stop_start(&s->private_state.stop, shard, op);
            return;
        }
        shard_serve(shard);
        s->ret_shard = shard;
        free(s->private_state.store_open);
        s->private_state.store_open = NULL;
        op_done(op, 0);
        return;

    case START_UNDO:
        start_failed(s, s->private_state.error, "cannot start");
        return;
    }
}

/* ---- stop ---- */

enum { STOP_TRANSFER, STOP_WAIT, STOP_END, STOP_CLOSE };

static const char *stop_state_name(int state)
{
    static const char *const names[] = {"transfer", "wait", "end", "close"};
    return names[state];
}
static void stop_step(struct op *op);
static const struct op_kind stop_kind = {"osd.stop", stop_state_name, stop_step};

void osd_shard_stop_start(struct osd_shard_stop *s, struct osd_shard *shard, struct op *parent)
{
    s->shard = shard;
    op_start(&s->op, shard->core, &stop_kind, parent);
}

static uint32_t led_count(const struct osd_shard *shard)
{
    uint32_t count = 0;

    map_for_each (&shard->pgs, node)
        count += map_entry(node, struct pg, node)->raft.role == RAFT_LEADER;
    return count;
}

static void stop_transfer(struct osd_shard *shard)
{
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        pg_unpark(pg);
        if (pg->raft.role == RAFT_LEADER && pg->member_count > 1)
            (void)!raft_transfer(&pg->raft, 0, core_now_ns(shard->core));
        pg_touched(pg);
    }
}

/* Asks everything to end; asks again harmlessly. */
static bool stop_ended(struct osd_shard *shard)
{
    struct op *ops[] = {&shard->mon.op, &shard->heartbeat.op, &shard->orders.op, scrub_op(shard)};
    bool ended = true;

    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (!ops[i] || !op_live(ops[i]))
            continue;
        ended = false;
        if (!ops[i]->cancelled)
            op_cancel(ops[i]);
    }
    map_for_each (&shard->pgs, node)
        pg_stop(map_entry(node, struct pg, node));
    return ended && !shard->pgs.count && !pool_out_count(&shard->requests) && !shard->side_ops;
}

/* What is bounded by being counted: whoever took a share of it has given it back. */
static void shares_check(const struct osd_shard *shard)
{
    ASSERT(!shard->client_count && !shard->request_bytes && !shard->awake_count);
    ASSERT(!shard->elections.taken && !shard->recoveries);
    ASSERT(!shard->turns.active && !shard->turns.waiting_count);
    map_for_each (&shard->peers, node)
        ASSERT(!map_entry(node, struct peer, node)->led_parked);
}

static void stop_step(struct op *op)
{
    struct osd_shard_stop *s = container_of(op, struct osd_shard_stop, op);
    struct osd_shard *shard = s->shard;

    for (;;) {
        switch (op->state) {
        case STOP_TRANSFER:
            shard->waiter = op;
            if (shard->serving && !shard->failed && led_count(shard)) {
                stop_transfer(shard);
                timer_arm(op->core, &s->timer, op, core_now_ns(op->core) + SHARD_STOP_NS);
                shard->leaving = true;
            }
            op->state = STOP_WAIT;
            continue;
        case STOP_WAIT:
            if (timer_armed(&s->timer) && led_count(shard))
                return;
            timer_cancel(op->core, &s->timer);
            shard->stopping = true;
            shard->serving = false;
            op->state = STOP_END;
            continue;
        case STOP_END:
            if (!stop_ended(shard))
                return;
            if (shard->server)
                rpc_server_free(shard->server);
            shares_check(shard);
            shard->server = NULL;
            shard_peers_free(shard);
            scrub_free(shard);
            shard->waiter = NULL;
            op->state = STOP_CLOSE;
            store_close_start(&s->close, shard->store, op);
            return;
        case STOP_CLOSE:
            if (op->children)
                return;
            shard_free(shard);
            op_done(op, 0);
            return;
        }
    }
}

/* ---- for others ---- */

int shard_feed_map(struct osd_shard *shard, const Fb__ClusterMap *map)
{
    return shard_map_take(shard, map);
}

bool osd_pg_view(const struct osd_shard *shard, uint64_t id, struct osd_pg_view *ret)
{
    const struct pg *pg = pg_find(shard, id);

    if (!pg)
        return false;
    *ret = (struct osd_pg_view){
        .pg = id,
        .replica = pg->replica,
        .leader = pg->raft.leader,
        .role = pg->raft.role,
        .term = pg->raft.term,
        .commit_index = pg->raft.commit_index,
        .applied_index = pg->sp->applied_index,
        .last_index = pg->raft.last_index,
        .durable_index = pg->raft.durable_index,
        .recovering = pg->sp->record.state != STORE_PG_NORMAL,
        .damaged = pg->sp->damaged,
    };
    return true;
}

struct store *osd_shard_store(const struct osd_shard *shard)
{
    return shard->store;
}

const char *osd_shard_address(const struct osd_shard *shard)
{
    return rpc_server_address(shard->server);
}

int osd_shard_failed(const struct osd_shard *shard)
{
    return shard->failed;
}
