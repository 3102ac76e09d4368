/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a client: its memory, its identity, the first map; and freeing it.
 */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/impl.h"

static void *client_alloc(void *data, size_t size)
{
    return malloc(size);
}

static void client_dealloc(void *data, void *memory)
{
    free(memory);
}

const ProtobufCAllocator client_allocator = {.alloc = client_alloc, .free = client_dealloc};

static void client_identify(struct client *client)
{
    struct rpc_identity *self = &client->self;

    self->role = RPC_CLIENT;
    self->command = client->config.command;
    for (size_t i = 0; i < sizeof(self->client_uuid); i += 8) {
        uint64_t word = core_random_u64(client->core);
        memcpy(self->client_uuid + i, &word, 8);
    }
    snprintf(self->name, sizeof(self->name), "%s", client->config.name ? client->config.name : "");
}

static int client_new(const struct client_config *config, struct client **ret_client)
{
    struct client *client = calloc(1, sizeof(*client));
    if (!client)
        return -ERR_NO_MEMORY;
    if (rpc_monitors_init(&client->monitors, config->monitors, config->monitor_count)) {
        free(client);
        return -ERR_INVALID;
    }
    client->config = *config;
    client->core = config->core;
    client->net = config->net;
    if (!client->config.timeout_ns)
        client->config.timeout_ns = CLIENT_TIMEOUT_NS;
    if (!client->config.inflight_max)
        client->config.inflight_max = CLIENT_INFLIGHT_MAX;
    client_identify(client);
    list_init(&client->images);
    list_init(&client->piece_waiters);
    for (uint32_t i = 0; i < CLIENT_SHARES; i++)
        list_init(&client->shares[i].waiters);
    list_init(&client->mon.waiters);
    map_init(&client->peers);
    for (uint32_t i = 0; i < CLIENT_ORDER_CHAINS; i++)
        list_init(&client->order[i]);
    bool ok = client_map_init(client) == 0 &&
              pool_init(&client->pieces, sizeof(struct client_piece), client->config.inflight_max) == 0;
    client->mon.reply = malloc(FRAME_BODY_MAX);
    client->config.monitors = NULL; /* the caller's: copied */
    client->config.name = client->self.name;
    if (!ok || !client->mon.reply) {
        client_free(client);
        return -ERR_NO_MEMORY;
    }
    *ret_client = client;
    return 0;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    ASSERT(list_empty(&client->images));
    ASSERT(list_empty(&client->piece_waiters));
    client->opener = NULL;
    client_mon_stop(client);
    client_peers_fini(client);
    client_map_fini(client);
    pool_fini(&client->pieces);
    free(client->mon.reply);
    free(client);
}

/* ---- opening: BEGIN -> WAIT for the first map -> done ---- */

enum open_state { OPEN_BEGIN, OPEN_WAIT };

static const char *open_state_name(int state)
{
    static const char *const names[] = {"begin", "wait"};
    return names[state];
}

static void open_explain(struct client_open *o, const struct client *client)
{
    char addresses[160] = "";
    size_t len = 0;

    for (uint32_t i = 0; i < client->monitors.count && len < sizeof(addresses); i++)
        len += (size_t)snprintf(addresses + len, sizeof(addresses) - len, "%s%s", i ? ", " : "",
                                client->monitors.address[i]);
    int error = client->mon.error ? client->mon.error : -ERR_TIMEOUT;
    snprintf(o->ret_message, sizeof(o->ret_message), "no monitor answers at %s: %s", addresses,
             error == -ERR_INVALID ? "not a numeric ADDRESS:PORT"
             : error == -ERR_BUSY  ? "it has as many connections as it takes; try again later"
                                   : error_text(error));
}

static void open_fail(struct client_open *o, int error)
{
    struct client *client = o->ret_client;

    timer_cancel(o->op.core, &o->timer);
    o->ret_client = NULL;
    client_free(client);
    op_done(&o->op, error);
}

/* Refused for a reason that waiting does not change. */
static bool open_is_hopeless(int error)
{
    return error == -ERR_CLUSTER || error == -ERR_VERSION || error == -ERR_IDENTITY || error == -ERR_INVALID;
}

static void open_step(struct op *op)
{
    struct client_open *o = container_of(op, struct client_open, op);
    struct client *client = o->ret_client;

    if (op->state == OPEN_BEGIN) {
        int error = client_new(&o->config, &client);
        if (error) {
            snprintf(o->ret_message, sizeof(o->ret_message), "%s",
                     error == -ERR_INVALID ? "no address of a monitor, or too many" : error_text(error));
            op_done(op, error);
            return;
        }
        o->ret_client = client;
        client->opener = op;
        timer_arm(op->core, &o->timer, op, core_now_ns(op->core) + o->connect_timeout_ns);
        client_mon_start(client);
        op->state = OPEN_WAIT;
        return;
    }
    /* A large map comes in several parts. */
    if (client->has_map && client->mon.ready && client->map->epoch >= client->mon.newest_epoch) {
        timer_cancel(op->core, &o->timer);
        client->opener = NULL;
        op_done(op, 0);
        return;
    }
    if (o->timer.fired || op->cancelled || open_is_hopeless(client->mon.error)) {
        open_explain(o, client);
        open_fail(o, op->cancelled ? -ERR_CANCELLED : -ERR_NO_MONITOR);
    }
}

static const struct op_kind open_kind = {"client.open", open_state_name, open_step};

void client_open_start(struct client_open *o, const struct client_config *config, struct op *parent)
{
    o->config = *config;
    if (!o->connect_timeout_ns)
        o->connect_timeout_ns = CLIENT_CONNECT_TIMEOUT_NS;
    o->ret_client = NULL;
    o->ret_message[0] = '\0';
    memset(&o->timer, 0, sizeof(o->timer));
    op_start(&o->op, config->core, &open_kind, parent);
}
