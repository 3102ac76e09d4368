/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions over TCP on loopback, both ends on one core: what the simulated network cannot show is that the
 * real links bear being closed from wherever this room closes them.
 */
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "rpc/rpc.h"
#include "tests/tap.h"

#define CALLS 32

static struct uring_core *uc;
static struct core *core;
static struct net *net;
static struct rpc_identity server_self = {.role = RPC_OSD, .osd = 1, .incarnation = 1};
static struct rpc_identity client_self = {.role = RPC_CLIENT, .client_uuid = {1}};
static struct rpc_server *server;
static struct rpc_peer *peer;
static bool hold, close_in_handler, close_in_opened;
static int handled, server_opened, server_closed, peer_opened, peer_closed, last_error;
static struct rpc_ticket held;

static void on_opened(void *owner, struct rpc_session *session)
{
    server_opened++;
    if (close_in_opened)
        rpc_session_close(session);
}

static void on_closed(void *owner, struct rpc_session *session)
{
    server_closed++;
}

static void on_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    RPC_FRAME_SCRATCH(scratch, 4096);

    handled++;
    held = rpc_ticket(session, message);
    if (close_in_handler)
        rpc_session_close(session);
    if (hold || close_in_handler)
        return;
    memcpy(rpc_body(scratch), message->body, message->body_len);
    rpc_reply(&held, 0, rpc_body(scratch), message->body_len, &message->payload,
              message->payload.buf ? 1 : 0);
}

static void on_peer_opened(void *owner, struct rpc_peer *self, const struct rpc_identity *who)
{
    peer_opened++;
}

static void on_peer_closed(void *owner, struct rpc_peer *self, int error)
{
    peer_closed++;
    last_error = error;
}

/* Real time, but only as the bound of a failure. */
#define WAIT_FOR(condition)                                                                                  \
    do {                                                                                                     \
        uint64_t until_ns_ = core_now_ns(core) + 10 * NS_PER_S;                                              \
        while (!(condition) && core_now_ns(core) < until_ns_)                                                \
            uring_core_turn(uc, 100 * NS_PER_MS);                                                            \
        CHECK(condition);                                                                                    \
    } while (0)

static void begin(void)
{
    hold = close_in_handler = close_in_opened = false;
    handled = server_opened = server_closed = peer_opened = peer_closed = last_error = 0;
    CHECK_EQ(uring_core_new(&(struct uring_core_opts){.arena_bytes = 64u << 20, .log_level = LOG_ERROR}, &uc),
             0);
    core = uring_core_core(uc);
    net = tcp_net_new(uc);
    struct rpc_server_config config = {.core = core,
                                       .net = net,
                                       .address = "127.0.0.1:0",
                                       .self = &server_self,
                                       .sessions_max = 8,
                                       .requests_max = CALLS,
                                       .opened = on_opened,
                                       .closed = on_closed,
                                       .message = on_message};
    CHECK_EQ(rpc_server_new(&config, &server), 0);
    peer = rpc_peer_new(&(struct rpc_peer_config){.core = core,
                                                  .net = net,
                                                  .address = rpc_server_address(server),
                                                  .self = &client_self,
                                                  .calls_max = CALLS,
                                                  .opened = on_peer_opened,
                                                  .closed = on_peer_closed});
    WAIT_FOR(peer_opened == 1);
}

static void end(void)
{
    rpc_peer_free(peer);
    if (server)
        rpc_server_free(server);
    CHECK_EQ(server_opened, server_closed);
    tcp_net_free(net);
    /* Buffers of frames that were on their way come back with the links. */
    for (int i = 0; i < 10; i++)
        uring_core_turn(uc, 0);
    uring_core_free(uc);
}

static int call(struct rpc_call *c, uint32_t body_len, const struct slice *payload, uint64_t timeout_ms)
{
    RPC_FRAME_SCRATCH(scratch, 4096);

    memset(rpc_body(scratch), (int)body_len, body_len);
    return rpc_call_start(c, peer, NULL, METHOD_WRITE, rpc_body(scratch), body_len, payload, payload ? 1 : 0,
                          core_now_ns(core) + timeout_ms * NS_PER_MS);
}

static bool any_pending(const struct rpc_call *calls)
{
    for (int i = 0; i < CALLS; i++)
        if (calls[i].pending)
            return true;
    return false;
}

static void many_calls(void)
{
    static struct rpc_call calls[CALLS];
    static uint8_t replies[CALLS][4096];

    begin();
    struct slice payload = {buf_new(core->arena, 65536), 0, 65536};
    memset(slice_data(&payload), 0x5a, payload.len);
    for (int round = 0; round < 50 && tap_ok; round++) {
        for (int i = 0; i < CALLS; i++) {
            calls[i].reply = replies[i];
            calls[i].reply_cap = sizeof(replies[i]);
            CHECK_EQ(call(&calls[i], (uint32_t)(i * 100), i % 4 == 0 ? &payload : NULL, 10000), 0);
        }
        WAIT_FOR(!any_pending(calls));
        for (int i = 0; i < CALLS; i++) {
            CHECK(calls[i].result == 0 && calls[i].reply_len == (uint32_t)(i * 100));
            CHECK(i == 0 || replies[i][i * 100 - 1] == (uint8_t)(i * 100));
            CHECK_EQ(calls[i].reply_payload.len, i % 4 == 0 ? 65536 : 0);
            CHECK(i % 4 || slice_data(&calls[i].reply_payload)[65535] == 0x5a);
            slice_unref(&calls[i].reply_payload);
        }
    }
    slice_unref(&payload);
    CHECK_EQ(handled, 50 * CALLS);
    end();
}

static void retire(void)
{
    struct rpc_call first = {0}, second = {0};

    begin();
    hold = true;
    CHECK_EQ(call(&first, 10, NULL, 10000), 0);
    WAIT_FOR(handled == 1);
    CHECK_EQ(call(&second, 10, NULL, 20), 0);
    WAIT_FOR(!second.pending);
    CHECK(second.result == -ERR_TIMEOUT && first.result == -ERR_CLOSED && !first.pending);
    WAIT_FOR(peer_opened == 2 && server_closed == 1);
    CHECK(!rpc_ticket_alive(&held));
    rpc_reply(&held, 0, NULL, 0, NULL, 0);
    CHECK_EQ(call(&first, 10, NULL, 10000), 0);
    WAIT_FOR(handled >= 2);
    rpc_call_abandon(&first);
    CHECK_EQ(first.result, -ERR_CANCELLED);
    WAIT_FOR(peer_opened == 3);
    end();
}

static void closed_in_the_handler(void)
{
    struct rpc_call calls[CALLS] = {0};

    begin();
    close_in_handler = true;
    /* They come in one receive: what stands behind the first must not be looked at. */
    for (int i = 0; i < CALLS; i++)
        CHECK_EQ(call(&calls[i], 100, NULL, 10000), 0);
    WAIT_FOR(!any_pending(calls));
    for (int i = 0; i < CALLS; i++)
        CHECK_EQ(calls[i].result, -ERR_CLOSED);
    CHECK_EQ(handled, 1);
    WAIT_FOR(peer_opened == 2);
    close_in_opened = true;
    rpc_call_abandon(&calls[0]);
    close_in_handler = false;
    CHECK_EQ(call(&calls[0], 100, NULL, 100), 0);
    rpc_call_abandon(&calls[0]);
    WAIT_FOR(server_opened >= 4);
    end();
}

static void server_goes_and_comes(void)
{
    struct rpc_call one = {0};
    char address[64];

    begin();
    hold = true;
    CHECK_EQ(call(&one, 10, NULL, 10000), 0);
    WAIT_FOR(handled == 1);
    memcpy(address, rpc_server_address(server), strlen(rpc_server_address(server)) + 1);
    rpc_server_free(server);
    server = NULL;
    WAIT_FOR(!one.pending);
    CHECK_EQ(one.result, -ERR_CLOSED);
    WAIT_FOR(peer_closed >= 3);
    CHECK_EQ(last_error, -ERR_UNREACHABLE);
    CHECK_EQ(rpc_peer_error(peer), -ERR_UNREACHABLE);
    hold = false;
    struct rpc_server_config config = {.core = core,
                                       .net = net,
                                       .address = address,
                                       .self = &server_self,
                                       .sessions_max = 8,
                                       .requests_max = CALLS,
                                       .opened = on_opened,
                                       .closed = on_closed,
                                       .message = on_message};
    CHECK_EQ(rpc_server_new(&config, &server), 0);
    WAIT_FOR(peer_opened == 2);
    CHECK_EQ(call(&one, 10, NULL, 10000), 0);
    WAIT_FOR(!one.pending);
    CHECK_EQ(one.result, 0);
    end();
}

int main(void)
{
    TEST(many_calls);
    TEST(retire);
    TEST(closed_in_the_handler);
    TEST(server_goes_and_comes);
    return tap_done();
}
