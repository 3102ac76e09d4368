/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock mon ls, status, rm: the monitors themselves.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "cmd/cmd.h"
#include "rpc/rpc.h"

#define ANSWER_NS (2 * NS_PER_S) /* how long `status` waits for each */

static Fb__MonReply *list_call(struct cmd_session *s, struct cmd_call *call)
{
    Fb__MonList list = FB__MON_LIST__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    request.call_case = FB__MON_REQUEST__CALL_MON_LIST;
    request.mon_list = &list;
    return cmd_mon_call(s, call, &request, "cannot list the monitors");
}

static const char *since_text(uint64_t since_us)
{
    uint64_t now_s = (uint64_t)time(NULL), since_s = since_us / 1000000;

    if (!since_us || since_s > now_s)
        return "-";
    return cmd_text("%llu s", (unsigned long long)(now_s - since_s));
}

int cmd_mon_ls(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonReply *reply = list_call(&s, &call);
    if (reply) {
        json_t *list = json_array();
        struct cmd_table *table = cmd_table_new("lllr", "ADDRESS", "STATE", "VERSION", "FOR", NULL);
        for (size_t i = 0; i < reply->n_monitors; i++) {
            const Fb__MonitorInfo *m = reply->monitors[i];
            json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:s, s:I}", "address", m->address, "alive",
                                                  m->alive, "leads", m->leads, "version", m->version,
                                                  "since_us", (json_int_t)m->since_us));
            cmd_table_row(table, m->address,
                          m->leads   ? "leads"
                          : m->alive ? "follows"
                                     : "does not run",
                          m->version, since_text(m->since_us));
        }
        cmd_table_print(table, args, list);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return reply ? CMD_OK : CMD_FAILED;
}

int cmd_mon_rm(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;
    Fb__MonRemove remove = FB__MON_REMOVE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    int result = CMD_FAILED;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    remove.address = (char *)args->positional[0];
    request.call_case = FB__MON_REQUEST__CALL_MON_REMOVE;
    request.mon_remove = &remove;
    if (cmd_mon_call(&s, &call, &request, cmd_text("cannot remove monitor %s", remove.address))) {
        result = CMD_OK;
        if (args->json)
            cmd_print_json(json_pack("{s:s}", "removed", remove.address));
        else
            printf("monitor %s removed\n", remove.address);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return result;
}

/* ---- each by itself: the client always goes to the one that leads ---- */

struct probe {
    struct op op;
    struct timer timer;
    struct rpc_peer *peer;
    struct rpc_identity self;
    struct rpc_call call;
    bool sent;
    int error;
    RPC_FRAME_SCRATCH(body, 64);
    uint8_t reply[64u << 10];
};

static void probe_opened(void *owner, struct rpc_peer *peer, const struct rpc_identity *who)
{
    op_wake(&((struct probe *)owner)->op);
}

static void probe_closed(void *owner, struct rpc_peer *peer, int error)
{
    struct probe *p = owner;

    p->error = error;
    op_wake(&p->op);
}

static int probe_send(struct probe *p)
{
    Fb__MonList list = FB__MON_LIST__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    request.call_case = FB__MON_REQUEST__CALL_MON_LIST;
    request.mon_list = &list;
    p->call.reply = p->reply;
    p->call.reply_cap = sizeof(p->reply);
    p->sent = true;
    return rpc_call_start(&p->call, p->peer, &p->op, METHOD_MON, rpc_body(p->body),
                          (uint32_t)fb__mon_request__pack(&request, rpc_body(p->body)), NULL, 0,
                          core_now_ns(p->op.core) + ANSWER_NS);
}

static void probe_step(struct op *op)
{
    struct probe *p = container_of(op, struct probe, op);
    int result = -ERR_TIMEOUT;

    if (p->call.pending)
        return;
    if (p->sent) {
        result = p->call.result;
    } else if (p->peer && rpc_peer_is_open(p->peer)) {
        if (!(result = probe_send(p)))
            return;
    } else if (!p->error && !p->timer.fired && p->peer) {
        return;
    } else if (p->error) {
        result = p->error;
    }
    timer_cancel(op->core, &p->timer);
    op_done(op, result);
}

static const struct op_kind probe_kind = {"cmd.probe", NULL, probe_step};

/* What the monitor at this address says itself. */
static int probe(struct cmd_session *s, struct probe *p, const char *address, Fb__MonReply **ret_reply)
{
    uint64_t words[2] = {core_random_u64(s->core), core_random_u64(s->core)};

    *p = (struct probe){.self = {.role = RPC_CLIENT, .name = "fastblock mon status"}};
    memcpy(p->self.client_uuid, words, 16);
    struct rpc_peer_config config = {.core = s->core,
                                     .net = s->net,
                                     .address = address,
                                     .self = &p->self,
                                     .calls_max = 1,
                                     .opened = probe_opened,
                                     .closed = probe_closed,
                                     .owner = p};
    p->peer = rpc_peer_new(&config);
    op_start(&p->op, s->core, &probe_kind, NULL);
    timer_arm(s->core, &p->timer, &p->op, core_now_ns(s->core) + ANSWER_NS);
    int error = cmd_wait(s, &p->op);
    if (p->peer)
        rpc_peer_free(p->peer);
    slice_unref(&p->call.reply_payload);
    if (!error && !(*ret_reply = fb__mon_reply__unpack(NULL, p->call.reply_len, p->reply)))
        error = -ERR_PROTOCOL;
    return error;
}

static void status_row(struct cmd_table *table, json_t *list, const char *address, int error,
                       const Fb__MonReply *reply)
{
    const char *leader = reply ? reply->leader : "", *version = "",
               *state = error ? error_text(error) : "follows";

    for (size_t i = 0; reply && i < reply->n_monitors; i++)
        if (!strcmp(reply->monitors[i]->address, address))
            version = reply->monitors[i]->version;
    if (reply && !strcmp(leader, address))
        state = "leads";
    json_array_append_new(list,
                          json_pack("{s:s, s:b, s:b, s:s, s:s, s:s, s:I}", "address", address, "answers",
                                    !error, "leads", reply && !strcmp(leader, address), "leader", leader,
                                    "error", error ? error_name(error) : "", "version", version, "epoch",
                                    (json_int_t)(reply ? reply->epoch : 0)));
    cmd_table_row(table, address, state, *leader ? leader : "-",
                  cmd_text("%llu", reply ? (unsigned long long)reply->epoch : 0), version);
}

int cmd_mon_status(struct cmd_args *args)
{
    struct cmd_session s;
    struct cmd_call call;
    static struct probe p;
    int result = CMD_OK;

    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    Fb__MonReply *reply = list_call(&s, &call);
    if (reply) {
        json_t *list = json_array();
        struct cmd_table *table =
            cmd_table_new("lllrl", "ADDRESS", "STATE", "SAYS THAT THIS LEADS", "EPOCH", "VERSION", NULL);
        for (size_t i = 0; i < reply->n_monitors; i++) {
            Fb__MonReply *own = NULL;
            int error = probe(&s, &p, reply->monitors[i]->address, &own);
            status_row(table, list, reply->monitors[i]->address, error, own);
            if (error)
                result = CMD_FAILED;
            if (own)
                fb__mon_reply__free_unpacked(own, NULL);
        }
        cmd_table_print(table, args, list);
        cmd_call_end(&call);
    }
    cmd_session_close(&s);
    return reply ? result : CMD_FAILED;
}
