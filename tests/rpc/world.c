/* SPDX-License-Identifier: Apache-2.0
 *
 * The machines of the rpc tests.
 */
#include "tests/rpc/world.h"

#include <stdlib.h>
#include <string.h>

#include "rpc/hello.h"

#define CLIENT_HOST "10.0.0.2"

/* ---- the server ---- */

static int server_greet(void *owner, const struct rpc_identity *who)
{
    struct world *w = owner;
    return w->greet_result;
}

static void server_opened(void *owner, struct rpc_session *session)
{
    struct world *w = owner;

    w->opened++;
    w->last_opened = session;
    rpc_session_set_context(session, w);
    if (rpc_session_identity(session)->role == RPC_CLIENT)
        w->highest_opened = MAX(w->highest_opened, rpc_session_identity(session)->session);
    if (w->close_in_opened)
        rpc_session_close(session);
}

static void server_closed(void *owner, struct rpc_session *session)
{
    struct world *w = owner;

    w->closed++;
    if (rpc_session_context(session) != w)
        sim_fail(w->sim, "a closed session has lost its context");
    if (w->last_opened == session)
        w->last_opened = NULL;
}

static void server_answer(const struct rpc_ticket *ticket, const struct rpc_message *message)
{
    static uint8_t scratch[FRAME_HEADER_SIZE + FRAME_BODY_MAX];

    memcpy(rpc_body(scratch), message->body, message->body_len);
    rpc_reply(ticket, message->payload_dropped ? -ERR_RETRY : 0, rpc_body(scratch), message->body_len,
              &message->payload, message->payload.buf ? 1 : 0);
}

static void server_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    struct world *w = owner;
    const struct rpc_identity *who = rpc_session_identity(session);

    if (who->role == RPC_CLIENT && who->session < w->highest_opened)
        w->stale_handled++;
    if (message->flags == FRAME_ONEWAY) {
        w->oneways++;
        return;
    }
    w->handled++;
    w->handled_session = who->session;
    struct rpc_ticket ticket = rpc_ticket(session, message);
    switch (w->handling) {
    case ANSWER:
        server_answer(&ticket, message);
        break;
    case CLOSE_AND_HOLD:
        w->tickets[w->ticket_count++ % TICKETS_MAX] = ticket;
        rpc_session_close(session);
        break;
    case HOLD:
        w->tickets[w->ticket_count++ % TICKETS_MAX] = ticket;
        break;
    case CLOSE_SESSION:
        rpc_session_close(session);
        rpc_reply(&ticket, 0, NULL, 0, NULL, 0);
        break;
    }
}

static void server_start(void *owner, struct sim_node *node)
{
    struct world *w = owner;

    w->server_config.core = &node->core;
    w->server_config.net = sim_net_port(w->net, node);
    int error = rpc_server_new(&w->server_config, &w->server);
    if (error)
        sim_fail(w->sim, "the server does not start: %s", error_name(error));
}

static void server_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    struct world *w = owner;
    w->server = NULL;
    w->last_opened = NULL;
}

static void client_node_start(void *owner, struct sim_node *node)
{
}

/* ---- the world ---- */

struct world *world_new(uint64_t seed, const struct sim_net_config *net_config)
{
    struct world *w = sim_alloc(sizeof(*w));

    w->sim = sim_new(seed, getenv("RPC_TEST_VERBOSE") != NULL);
    w->net = sim_net_new(w->sim, net_config ? net_config : &(struct sim_net_config){0});
    w->server_self = (struct rpc_identity){.role = RPC_OSD,
                                           .cluster = {1, 2, 3},
                                           .osd = 4,
                                           .shard = 1,
                                           .osd_uuid = {9},
                                           .incarnation = 5,
                                           .epoch = 77,
                                           .image_id_max = 88,
                                           .name = "osd.4"};
    w->client_self = (struct rpc_identity){.role = RPC_CLIENT, .client_uuid = {42}, .name = "test"};
    w->server_config = (struct rpc_server_config){
        .address = SERVER_ADDRESS,
        .self = &w->server_self,
        .sessions_max = 8,
        .requests_max = 16,
        .greet = server_greet,
        .opened = server_opened,
        .closed = server_closed,
        .message = server_message,
        .owner = w,
    };
    w->server_node = sim_node_new(w->sim, &(struct sim_node_config){.name = "server",
                                                                    .host = "10.0.0.1",
                                                                    .arena_bytes = 64u << 20,
                                                                    .start = server_start,
                                                                    .crashed = server_crashed,
                                                                    .owner = w});
    w->client_node = sim_node_new(w->sim, &(struct sim_node_config){.name = "client",
                                                                    .host = CLIENT_HOST,
                                                                    .arena_bytes = 64u << 20,
                                                                    .start = client_node_start});
    sim_node_start(w->server_node);
    sim_node_start(w->client_node);
    return w;
}

static void server_stop(struct world *w)
{
    if (w->server)
        IN_SERVER(w, rpc_server_free(w->server));
    w->server = NULL;
    sim_node_halt(w->server_node);
}

void world_free(struct world *w)
{
    if (sim_node_running(w->server_node))
        server_stop(w);
    sim_node_halt(w->client_node);
    CHECK_EQ(w->opened, w->closed);
    if (w->sim->failed) {
        printf("# %s\n", w->sim->failure);
        tap_ok = false;
    }
    sim_net_free(w->net);
    sim_free(w->sim);
    free(w);
}

void world_restart_server(struct world *w)
{
    server_stop(w);
    sim_node_start(w->server_node);
}

/* ---- clients ---- */

static void client_free_peer(struct client *client)
{
    struct rpc_peer *peer = client->peer;

    client->peer = NULL;
    rpc_peer_free(peer);
}

static void client_opened(void *owner, struct rpc_peer *peer, const struct rpc_identity *who)
{
    struct client *client = owner;

    client->opened++;
    if (!rpc_peer_is_open(peer) || rpc_peer_error(peer) || rpc_peer_identity(peer) != who)
        sim_fail(client->world->sim, "an opened peer is not open");
    if (client->reaction == FREE_IN_OPENED)
        client_free_peer(client);
}

static void client_closed(void *owner, struct rpc_peer *peer, int error)
{
    struct client *client = owner;

    client->closed++;
    client->last_error = error;
    if (rpc_peer_is_open(peer))
        sim_fail(client->world->sim, "a closed peer is open");
    if (client->reaction == FREE_IN_CLOSED)
        client_free_peer(client);
}

static void client_oneway(void *owner, struct rpc_peer *peer, const struct rpc_message *message)
{
    struct client *client = owner;

    client->oneways++;
    if (client->reaction == FREE_IN_ONEWAY)
        client_free_peer(client);
    if (client->reaction == ABANDON_IN_ONEWAY)
        rpc_call_abandon(client->to_abandon);
}

void client_start(struct client *client, struct world *w, void (*adjust)(struct rpc_peer_config *config))
{
    client->world = w;
    struct rpc_peer_config config = {
        .core = &w->client_node->core,
        .net = sim_net_port(w->net, w->client_node),
        .address = SERVER_ADDRESS,
        .self = client->self ? client->self : &w->client_self,
        .calls_max = 32,
        .opened = client_opened,
        .closed = client_closed,
        .oneway = client_oneway,
        .owner = client,
    };
    if (adjust)
        adjust(&config);
    IN_CLIENT(w, client->peer = rpc_peer_new(&config));
}

void client_stop(struct client *client)
{
    if (client->peer)
        IN_CLIENT(client->world, client_free_peer(client));
}

int client_call(struct client *client, struct rpc_call *call, enum method method, uint8_t fill, uint32_t len,
                uint64_t timeout_ms)
{
    struct world *w = client->world;
    RPC_FRAME_SCRATCH(scratch, 1024);
    int error;

    ASSERT(len <= 1024);
    memset(rpc_body(scratch), fill, len);
    IN_CLIENT(w, error = rpc_call_start(call, client->peer, NULL, method, rpc_body(scratch), len, NULL, 0,
                                        core_now_ns(&w->client_node->core) + timeout_ms * NS_PER_MS));
    return error;
}

/* ---- raw links ---- */

static void raw_message(void *owner, struct link *link, const struct frame *frame)
{
    struct raw *raw = owner;
    struct frame_header header;

    if (frame_validate_header(frame->head, &header))
        sim_fail(raw->world->sim, "a bad frame was delivered");
    if (header.flags == FRAME_REQUEST) {
        raw->requests++;
        return;
    }
    raw->replies++;
    raw->result = header.result;
    raw->body_len = MIN(header.body_len, (uint32_t)sizeof(raw->body));
    memcpy(raw->body, frame->head + FRAME_HEADER_SIZE, raw->body_len);
}

static void raw_opened(void *owner, struct link *link)
{
    ((struct raw *)owner)->open = true;
}

static void raw_closed(void *owner, struct link *link, int error)
{
    struct raw *raw = owner;

    raw->link = NULL;
    raw->open = false;
    raw->closed_error = error;
}

static const struct link_events raw_events = {
    .message = raw_message, .opened = raw_opened, .closed = raw_closed};

void raw_connect(struct raw *raw, struct world *w)
{
    *raw = (struct raw){.world = w};
    IN_CLIENT(w, raw->link =
                     link_connect(sim_net_port(w->net, w->client_node), SERVER_ADDRESS, &raw_events, raw));
    WAIT_FOR(w, 1000, raw->open || !raw->link);
}

void raw_close(struct raw *raw)
{
    if (raw->link)
        IN_CLIENT(raw->world, link_close(raw->link));
    raw->link = NULL;
    raw->open = false;
}

void raw_send(struct raw *raw, enum method method, uint32_t flags, uint64_t id, const uint8_t *body,
              uint32_t len)
{
    uint8_t frame[FRAME_HEADER_SIZE + 1024];
    int error = -ERR_CLOSED;

    ASSERT(len <= 1024);
    if (len)
        memcpy(frame + FRAME_HEADER_SIZE, body, len);
    frame_encode(
        frame, &(struct frame_header){
                   .method = (uint16_t)method, .flags = (uint16_t)flags, .request_id = id, .body_len = len});
    if (raw->link)
        IN_CLIENT(raw->world,
                  error = link_send(raw->link,
                                    &(struct frame){.head = frame, .head_len = FRAME_HEADER_SIZE + len}));
    CHECK_EQ(error, 0);
}

int raw_hello(struct raw *raw, const struct rpc_identity *who, uint32_t protocol)
{
    uint8_t body[HELLO_BODY_MAX];
    int before = raw->replies;
    uint32_t len = rpc_hello_encode(body, &(struct rpc_hello){.protocol = protocol, .who = *who});

    raw_send(raw, METHOD_HELLO, FRAME_REQUEST, 1, body, len);
    WAIT_FOR(raw->world, 1000, raw->replies > before || !raw->link);
    return raw->link ? raw->result : -ERR_CLOSED;
}
