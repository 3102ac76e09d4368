/* SPDX-License-Identifier: Apache-2.0
 *
 * What newer sessions do to older ones: no frame of a retired session is acted on, however late it comes.
 */
#include <string.h>

#include "rpc/hello.h"
#include "tests/rpc/world.h"

static const struct rpc_identity somebody = {.role = RPC_CLIENT, .client_uuid = {42}};

static struct rpc_identity session_of(struct rpc_identity who, uint64_t session)
{
    who.session = session;
    return who;
}

/* From here on what is sent takes `ms` longer. */
static void slow_down(struct world *w, uint64_t ms)
{
    struct sim_net_faults faults = {.slow_ppm = ms ? 1000000 : 0, .slow_ns = ms * NS_PER_MS};
    sim_net_set_faults(w->net, &faults);
}

/* The request of a call that timed out arrives after the new session was greeted. */
static void late_request(void)
{
    struct world *w = world_new(200, NULL);
    struct client c = {0};
    struct rpc_call call = {0};

    client_start(&c, w, NULL);
    WAIT_FOR(w, 100, c.opened == 1);
    slow_down(w, 100);
    CHECK_EQ(client_call(&c, &call, METHOD_WRITE, 1, 10, 20), 0);
    slow_down(w, 0);
    WAIT_FOR(w, 50, !call.pending);
    CHECK_EQ(call.result, -ERR_TIMEOUT);
    WAIT_FOR(w, 50, c.opened == 2);
    CHECK_EQ(w->handled, 0);
    world_run_ms(w, 1000);
    CHECK_EQ(w->handled, 0);
    CHECK_EQ(w->stale_handled, 0);
    client_stop(&c);
    world_free(w);
}

/* The same without the caller's help: the old link stays open at its side. */
static void server_closes_the_older(void)
{
    struct world *w = world_new(201, NULL);
    struct raw old, new;
    struct rpc_identity who = session_of(somebody, 5);

    raw_connect(&old, w);
    CHECK_EQ(raw_hello(&old, &who, RPC_PROTOCOL), 0);
    w->handling = HOLD;
    raw_send(&old, METHOD_WRITE, FRAME_REQUEST, 2, NULL, 0);
    WAIT_FOR(w, 10, w->ticket_count == 1);
    CHECK(rpc_ticket_alive(&w->tickets[0]));
    raw_connect(&new, w);
    slow_down(w, 100);
    raw_send(&old, METHOD_WRITE, FRAME_REQUEST, 3, NULL, 0);
    raw_send(&old, METHOD_HEARTBEAT, FRAME_ONEWAY, 0, NULL, 0);
    slow_down(w, 0);
    who.session = 6;
    CHECK_EQ(raw_hello(&new, &who, RPC_PROTOCOL), 0);
    CHECK_EQ(w->opened, 2);
    CHECK_EQ(w->closed, 1);
    CHECK(!rpc_ticket_alive(&w->tickets[0]));
    WAIT_FOR(w, 1000, !old.link);
    world_run_ms(w, 1000);
    CHECK_EQ(w->handled, 1);
    CHECK_EQ(w->oneways, 0);
    raw_send(&new, METHOD_WRITE, FRAME_REQUEST, 2, NULL, 0);
    WAIT_FOR(w, 10, w->ticket_count == 2);
    raw_close(&new);
    world_free(w);
}

/* A greeting that was overtaken by the next one, and one with a number that was there before. */
static void older_numbers(void)
{
    struct world *w = world_new(202, NULL);
    struct raw raw[4];

    for (int i = 0; i < 4; i++)
        raw_connect(&raw[i], w);
    struct rpc_identity five = session_of(somebody, 5), four = session_of(somebody, 4), other = five;
    other.client_uuid[15] = 1;
    CHECK_EQ(raw_hello(&raw[0], &five, RPC_PROTOCOL), 0);
    CHECK_EQ(raw_hello(&raw[1], &four, RPC_PROTOCOL), -ERR_FENCED);
    CHECK_EQ(raw_hello(&raw[2], &five, RPC_PROTOCOL), -ERR_FENCED);
    CHECK_EQ(raw_hello(&raw[3], &other, RPC_PROTOCOL), 0);
    CHECK(raw[0].link && raw[3].link);
    CHECK_EQ(w->closed, 0);
    /* Also when the highest one is gone already. */
    raw_close(&raw[0]);
    WAIT_FOR(w, 100, w->closed == 1);
    raw_close(&raw[1]);
    raw_connect(&raw[1], w);
    CHECK_EQ(raw_hello(&raw[1], &four, RPC_PROTOCOL), -ERR_FENCED);
    for (int i = 0; i < 4; i++)
        raw_close(&raw[i]);
    WAIT_FOR(w, 100, w->closed == 2);
    world_free(w);
}

/* Sessions of one start of an OSD shard stand side by side; a newer start ends them, an older one is refused.
 */
static void osd_starts(void)
{
    struct world *w = world_new(203, NULL);
    struct raw raw[5];
    struct rpc_identity osd = {.role = RPC_OSD, .osd = 7, .shard = 2, .osd_uuid = {3}, .incarnation = 10},
                        other;

    for (int i = 0; i < 5; i++)
        raw_connect(&raw[i], w);
    CHECK_EQ(raw_hello(&raw[0], &osd, RPC_PROTOCOL), 0);
    CHECK_EQ(raw_hello(&raw[1], &osd, RPC_PROTOCOL), 0);
    other = osd;
    other.shard = 3;
    CHECK_EQ(raw_hello(&raw[2], &other, RPC_PROTOCOL), 0);
    CHECK_EQ(w->closed, 0);
    osd.incarnation = 11;
    CHECK_EQ(raw_hello(&raw[3], &osd, RPC_PROTOCOL), 0);
    CHECK_EQ(w->closed, 2);
    WAIT_FOR(w, 100, !raw[0].link && !raw[1].link);
    CHECK(raw[2].link != NULL);
    osd.incarnation = 10;
    CHECK_EQ(raw_hello(&raw[4], &osd, RPC_PROTOCOL), -ERR_ROLLED_BACK);
    raw_close(&raw[4]);
    raw_connect(&raw[4], w);
    osd.incarnation = 12;
    osd.osd_uuid[0] = 4;
    CHECK_EQ(raw_hello(&raw[4], &osd, RPC_PROTOCOL), -ERR_IDENTITY);
    CHECK(raw[3].link != NULL);
    for (int i = 0; i < 5; i++)
        raw_close(&raw[i]);
    WAIT_FOR(w, 100, w->closed == w->opened);
    world_free(w);
}

/* Far more clients come by than the server remembers; those that stay are never forgotten. */
static void many_clients(void)
{
    struct world *w = world_new(204, NULL);
    struct raw stays, comes, late;
    struct rpc_identity who = session_of(somebody, 9);

    raw_connect(&stays, w);
    CHECK_EQ(raw_hello(&stays, &who, RPC_PROTOCOL), 0);
    for (int i = 0; i < 2500; i++) {
        struct rpc_identity passing = {.role = RPC_CLIENT, .client_uuid = {1, (uint8_t)i, (uint8_t)(i >> 8)}};
        passing.session = 1;
        raw_connect(&comes, w);
        int result = raw_hello(&comes, &passing, RPC_PROTOCOL);
        raw_close(&comes);
        if (result) {
            CHECK_EQ(result, 0);
            break;
        }
    }
    raw_connect(&late, w);
    who.session = 8;
    CHECK_EQ(raw_hello(&late, &who, RPC_PROTOCOL), -ERR_FENCED);
    raw_close(&late);
    raw_connect(&late, w);
    who.session = 10;
    CHECK_EQ(raw_hello(&late, &who, RPC_PROTOCOL), 0);
    WAIT_FOR(w, 100, !stays.link);
    raw_close(&late);
    WAIT_FOR(w, 1000, w->closed == w->opened);
    world_free(w);
}

/* Peers of one client, to one server after the other or at the same time, never use a number twice. */
static void numbers_of_all_peers(void)
{
    struct world *w = world_new(205, NULL);
    struct client a = {0}, b = {0};

    client_start(&a, w, NULL);
    WAIT_FOR(w, 100, a.opened == 1);
    client_stop(&a);
    client_start(&b, w, NULL);
    WAIT_FOR(w, 100, b.opened == 1);
    CHECK_EQ(b.closed, 0);
    CHECK_EQ(rpc_session_identity(w->last_opened)->session, 2);
    client_stop(&b);
    world_free(w);
}

/* ---- everything at once ---- */

#define CALLS 8

static struct rpc_call calls[CALLS];
static struct rpc_ticket held[CALLS];

/* A client that times out, abandons and asks on, over a network with every fault, to a server that answers
 * now or later and sometimes restarts. The server counts requests of sessions that a newer one has replaced:
 * there must be none; and no answer may come to a call that was not asked. */
static int soak(uint64_t seed)
{
    struct sim_net_faults faults = {.oneway_drop_ppm = 50000,
                                    .oneway_dup_ppm = 50000,
                                    .oneway_reorder_ppm = 50000,
                                    .break_ppm = 5000,
                                    .blackhole_ppm = 2000,
                                    .corrupt_ppm = 3000,
                                    .busy_ppm = 20000,
                                    .slow_ppm = 60000,
                                    .slow_ns = 30 * NS_PER_MS};
    struct world *w = world_new(seed, &(struct sim_net_config){.queue_max_bytes = 20000});
    struct sim_rng rng = sim_rng_make(seed, "soak", 0);
    struct client c = {0};
    uint8_t reply[CALLS][64];
    int answered = 0;

    memset(calls, 0, sizeof(calls));
    for (int i = 0; i < CALLS; i++) {
        calls[i].reply = reply[i];
        calls[i].reply_cap = sizeof(reply[i]);
    }
    client_start(&c, w, NULL);
    sim_net_set_faults(w->net, &faults);
    for (int n = 0; n < 1500 && tap_ok && !w->sim->failed; n++) {
        struct rpc_call *call = &calls[sim_rng_below(&rng, CALLS)];
        uint32_t i = (uint32_t)(call - calls);
        uint64_t what = sim_rng_below(&rng, 100);
        w->handling = sim_rng_below(&rng, 3) ? ANSWER : HOLD;
        if (!call->pending && call->remote && call->result == 0) {
            CHECK(call->reply_len == 10 + i && reply[i][0] == i + 1);
            call->remote = false;
            answered++;
        }
        if (what < 60 && !call->pending) {
            int error =
                client_call(&c, call, METHOD_WRITE, (uint8_t)(i + 1), 10 + i, sim_rng_range(&rng, 1, 60));
            CHECK(error == 0 || error == -ERR_CLOSED || error == -ERR_BUSY);
        } else if (what < 63) {
            IN_CLIENT(w, rpc_call_abandon(call));
        } else if (what < 80 && w->ticket_count) {
            struct rpc_ticket *ticket = &w->tickets[--w->ticket_count];
            held[0] = *ticket;
            IN_SERVER(w, rpc_reply(&held[0], -ERR_RETRY, NULL, 0, NULL, 0));
        } else if (what == 80 && w->last_opened) {
            IN_SERVER(w, rpc_session_close(w->last_opened));
        } else if (what == 81 && sim_rng_below(&rng, 4) == 0) {
            sim_node_crash(w->server_node, SIM_CRASH_PROCESS);
            w->opened = w->closed = w->ticket_count = 0;
            w->highest_opened = 0;
            world_run_ms(w, sim_rng_below(&rng, 100));
            sim_node_start(w->server_node);
        }
        sim_run_for(w->sim, sim_rng_below(&rng, 4) * NS_PER_MS);
    }
    CHECK_EQ(w->stale_handled, 0);
    sim_net_set_faults(w->net, &(struct sim_net_faults){0});
    client_stop(&c);
    for (int i = 0; i < CALLS; i++)
        CHECK(!calls[i].pending);
    world_run_ms(w, 20000);
    world_free(w);
    return answered;
}

static void soak_seeds(void)
{
    int answered = 0;

    for (uint64_t seed = 1; seed <= 40 && tap_ok; seed++) {
        answered += soak(seed);
        if (!tap_ok)
            printf("# soak: seed %llu\n", (unsigned long long)seed);
    }
    CHECK(answered > 40 * 50);
}

int main(void)
{
    TEST(late_request);
    TEST(server_closes_the_older);
    TEST(older_numbers);
    TEST(osd_starts);
    TEST(many_clients);
    TEST(numbers_of_all_peers);
    TEST(soak_seeds);
    return tap_done();
}
