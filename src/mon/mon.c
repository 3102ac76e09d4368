/* SPDX-License-Identifier: Apache-2.0
 *
 * The monitor's life: its start and its end. Calls: mon_request.c; what it does by itself: mon_tick.c.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSION_REQUESTS 256
#define LISTEN_WAIT_NS   (3 * NS_PER_S)
#define LISTEN_PAUSE_NS  (50 * NS_PER_MS)

enum start_state { START_LOAD, START_LISTEN };

static const char *start_state_name(int state)
{
    static const char *const names[] = {"load", "listen"};
    return names[state];
}

static struct mon *mon_new(const struct mon_config *config)
{
    struct mon *mon = calloc(1, sizeof(*mon));

    if (!mon)
        return NULL;
    mon->config = *config;
    if (!mon->config.version)
        mon->config.version = "unknown";
    if (!mon->config.osd_down_after_ns)
        mon->config.osd_down_after_ns = 3 * NS_PER_S;
    if (!mon->config.writer_lost_after_ns)
        mon->config.writer_lost_after_ns = 10 * NS_PER_S;
    if (!mon->config.lease_ns)
        mon->config.lease_ns = 5 * NS_PER_S;
    if (!mon->config.orders_max)
        mon->config.orders_max = 100000;
    mon->leads = !config->meta->ops->lease;
    mon->core = config->core;
    mon->self = (struct rpc_identity){.role = RPC_MON, .name = "fastblock-mon"};
    mon->alive_ns = MON_TICK_NS; /* 0 means "never" everywhere */
    mon->tick_last_ns = core_now_ns(mon->core);
    mon->settle_soon = mon->settle_due = true;
    fb__mon_state__init(&mon->state);
    list_init(&mon->sessions);
    list_init(&mon->turns);
    list_init(&mon->waiting);
    for (int k = 0; k < MON_KINDS; k++)
        map_init(&mon->items[k]);
    return mon;
}

void mon_memory_free(struct mon *mon)
{
    if (mon->request_count || op_live(&mon->tick) || op_live(&mon->lead.op))
        return;
    mon_follow_stop(mon);
    for (int k = 0; k < MON_KINDS; k++) {
        mon_for_each(mon, k, node) mon_item_forget(mon, (enum mon_kind)k, node->key);
        map_fini(&mon->items[k]);
    }
    list_for_each_safe (&mon->sessions, node)
        free(list_entry(node, struct mon_session, link));
    mon_plan_free(mon->plan);
    mon_plan_free(mon->planning);
    free(mon);
}

static int mon_listen(struct mon *mon, const char *listen)
{
    return rpc_server_new(&(struct rpc_server_config){.core = mon->core,
                                                      .net = mon->config.net,
                                                      .address = listen,
                                                      .self = &mon->self,
                                                      .sessions_max = MON_SESSIONS_MAX,
                                                      .requests_max = SESSION_REQUESTS,
                                                      .greet = mon_on_greet,
                                                      .opened = mon_session_opened,
                                                      .closed = mon_session_closed,
                                                      .message = mon_on_message,
                                                      .owner = mon},
                          &mon->server);
}

static void start_fail(struct mon_start *s, int error)
{
    struct mon *mon = s->ret_mon;

    s->ret_mon = NULL;
    mon->closing = true;
    mon_memory_free(mon);
    op_done(&s->op, error);
}

/* A process that was killed keeps its port for a while after it has gone: the kernel ends in the background
 * what its io_uring had under way. */
static bool start_listens_again(struct mon_start *s)
{
    uint64_t now_ns = core_now_ns(s->op.core);

    if (!s->listen_until_ns)
        s->listen_until_ns = now_ns + LISTEN_WAIT_NS;
    if (now_ns >= s->listen_until_ns)
        return false;
    timer_arm(s->op.core, &s->timer, &s->op, now_ns + LISTEN_PAUSE_NS);
    return true;
}

static void start_step(struct op *op)
{
    struct mon_start *s = container_of(op, struct mon_start, op);
    struct mon *mon = s->ret_mon;
    int error;

    switch ((enum start_state)op->state) {
    case START_LOAD:
        mon = s->ret_mon = mon_new(&s->config);
        if (!mon) {
            op_done(op, -ERR_NO_MEMORY);
            return;
        }
        mon_load_start(mon, true, op);
        op->state = START_LISTEN;
        return;
    case START_LISTEN:
        if (op->children)
            return;
        if (op->child_result) {
            snprintf(s->ret_message, sizeof(s->ret_message), "cannot load the metadata: %s%s%s",
                     error_text(op->child_result), mon->load.message[0] ? ": " : "", mon->load.message);
            start_fail(s, op->child_result);
            return;
        }
        mon->tick_last_ns = core_now_ns(mon->core);
        error = mon_listen(mon, s->config.listen);
        if (error == -ERR_EXISTS && start_listens_again(s))
            return;
        if (error) {
            snprintf(s->ret_message, sizeof(s->ret_message), "cannot listen on %.64s: %s", s->config.listen,
                     error == -ERR_EXISTS
                         ? "another program listens there already; stop it, or use another port"
                         : error_listen_text(error));
            start_fail(s, error);
            return;
        }
        mon->config.listen = NULL;
        snprintf(mon->own_address, sizeof(mon->own_address), "%s",
                 s->config.advertise ? s->config.advertise : mon_address(mon));
        mon->config.advertise = NULL;
        mon_tick_start(mon);
        mon_lead_start(mon);
        mon_follow_start(mon);
        core_log(mon->core, LOG_INFO, "mon",
                 "listening on %s: epoch %" PRIu64 ", %" PRIu64 " OSDs, %" PRIu64 " images", mon_address(mon),
                 mon->state.epoch, mon->items[MON_OSD].count, mon->items[MON_IMAGE].count);
        op_done(op, 0);
        return;
    }
}

static const struct op_kind start_kind = {"mon.start", start_state_name, start_step};

void mon_start_start(struct mon_start *s, const struct mon_config *config, struct op *parent)
{
    s->config = *config;
    s->ret_mon = NULL;
    s->ret_message[0] = 0;
    s->timer = (struct timer){0};
    s->listen_until_ns = 0;
    op_start(&s->op, config->core, &start_kind, parent);
}

void mon_free(struct mon *mon)
{
    if (!mon)
        return;
    mon->closing = true;
    rpc_server_free(mon->server);
    mon->server = NULL;
    op_wake(&mon->tick);
    if (op_live(&mon->lead.op))
        op_wake(&mon->lead.op);
    list_for_each (&mon->turns, node)
        op_wake(list_entry(node, struct mon_turn, link)->op);
    list_for_each (&mon->waiting, node)
        op_wake(&list_entry(node, struct mon_request, waiting)->op);
}

const char *mon_address(const struct mon *mon)
{
    return rpc_server_address(mon->server);
}
