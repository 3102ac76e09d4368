/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests and replies, their limits and deadlines, one-way frames, silence, and owners that close and free
 * things where it is least expected.
 */
#include <string.h>

#include "rpc/session.h"
#include "tests/rpc/world.h"

#define REPLY_MAX 1024

static struct world *w;
static struct client c;
static struct rpc_call calls[64];
static uint8_t replies[64][REPLY_MAX];

static void begin(const struct sim_net_config *config, void (*adjust)(struct rpc_peer_config *config))
{
    w = world_new(100, config);
    c = (struct client){0};
    memset(calls, 0, sizeof(calls));
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        calls[i].reply = replies[i];
        calls[i].reply_cap = REPLY_MAX;
    }
    client_start(&c, w, adjust);
    WAIT_FOR(w, 100, c.opened == 1);
}

static void end(void)
{
    client_stop(&c);
    world_free(w);
}

static void echo(void)
{
    begin(NULL, NULL);
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 7, 100, 1000), 0);
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 8, 0, 1000), 0);
    CHECK(calls[0].pending && calls[1].pending);
    WAIT_FOR(w, 100, !calls[0].pending && !calls[1].pending);
    CHECK(calls[0].result == 0 && calls[0].remote);
    CHECK_EQ(calls[0].reply_len, 100);
    CHECK(replies[0][0] == 7 && replies[0][99] == 7);
    CHECK(calls[1].result == 0 && calls[1].remote && calls[1].reply_len == 0);
    /* The same struct again. */
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 9, 3, 1000), 0);
    WAIT_FOR(w, 100, !calls[0].pending);
    CHECK(calls[0].reply_len == 3 && replies[0][0] == 9);
    end();
}

/* A gather list goes out and comes back in one piece; METHOD_MON has a checksum in the header, METHOD_WRITE
 * has not. */
static void payloads(void)
{
    struct slice pieces[3];
    uint8_t head[FRAME_HEADER_SIZE];

    begin(NULL, NULL);
    sim_node_enter(w->client_node);
    for (uint32_t i = 0; i < 3; i++) {
        pieces[i] = (struct slice){buf_new(w->client_node->core.arena, 8192), 512 * i, 4096 + i};
        memset(slice_data(&pieces[i]), (int)i + 1, pieces[i].len);
    }
    uint64_t deadline_ns = core_now_ns(&w->client_node->core) + NS_PER_S;
    CHECK_EQ(rpc_call_start(&calls[0], c.peer, NULL, METHOD_MON, rpc_body(head), 0, pieces, 3, deadline_ns),
             0);
    CHECK_EQ(rpc_call_start(&calls[1], c.peer, NULL, METHOD_WRITE, NULL, 0, pieces, 2, deadline_ns), 0);
    struct slice big[2] = {{pieces[0].buf, 0, 8192}, {pieces[0].buf, 0, FRAME_PAYLOAD_MAX}};
    CHECK_EQ(rpc_call_start(&calls[2], c.peer, NULL, METHOD_WRITE, NULL, 0, big, 2, deadline_ns),
             -ERR_TOO_LARGE);
    CHECK(!calls[2].pending);
    for (uint32_t i = 0; i < 3; i++)
        slice_unref(&pieces[i]);
    sim_node_leave(w->client_node);
    WAIT_FOR(w, 100, !calls[0].pending && !calls[1].pending);
    CHECK_EQ(calls[0].result, 0);
    CHECK_EQ(calls[0].reply_payload.len, 3 * 4096 + 3);
    CHECK_EQ(calls[1].reply_payload.len, 2 * 4096 + 1);
    if (calls[0].reply_payload.buf) {
        const uint8_t *data = slice_data(&calls[0].reply_payload);
        CHECK(data[0] == 1 && data[4095] == 1 && data[4096] == 2 && data[8192] == 2 && data[8193] == 3 &&
              data[12290] == 3);
    }
    IN_CLIENT(w, slice_unref(&calls[0].reply_payload));
    IN_CLIENT(w, slice_unref(&calls[1].reply_payload));
    end();
}

/* Replies that do not fit, or are not wanted. */
static void reply_room(void)
{
    begin(NULL, NULL);
    calls[0].reply_cap = 9;
    calls[1].reply_cap = 10;
    calls[2].reply_cap = 0;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(client_call(&c, &calls[i], METHOD_MON, 5, 10, 1000), 0);
    WAIT_FOR(w, 100, !calls[0].pending && !calls[1].pending && !calls[2].pending);
    CHECK(calls[0].result == -ERR_TOO_LARGE && !calls[0].remote && calls[0].reply_len == 0);
    CHECK(calls[1].result == 0 && calls[1].reply_len == 10);
    CHECK(calls[2].result == 0 && calls[2].remote && calls[2].reply_len == 0);
    end();
}

/* Answers the request that came last, with so many bytes. */
static void answer_with(uint32_t len)
{
    sim_node_enter(w->server_node);
    struct slice payload = {buf_new(w->server_node->core.arena, MAX(len, 1u)), 0, len};
    memset(slice_data(&payload), 7, len);
    rpc_reply(&w->tickets[w->ticket_count - 1], 0, NULL, 0, &payload, 1);
    slice_unref(&payload);
    sim_node_leave(w->server_node);
}

/* The payload of an answer finds no memory: the asker is told to ask again, not that there is none. */
static void no_memory_for_a_payload(void)
{
    static struct buf *taken[8192];
    uint32_t count = 0;

    begin(NULL, NULL);
    w->handling = HOLD;
    for (int room = 0; room < 2; room++) {
        CHECK_EQ(client_call(&c, &calls[room], METHOD_READ, 1, 1, 1000), 0);
        WAIT_FOR(w, 100, w->ticket_count == room + 1);
        sim_node_enter(w->client_node);
        while (!room && count < ARRAY_LEN(taken) &&
               (taken[count] = buf_new(w->client_node->core.arena, 65536)) != NULL)
            count++;
        sim_node_leave(w->client_node);
        answer_with(65536);
        WAIT_FOR(w, 100, !calls[room].pending);
        CHECK(calls[room].result == (room ? 0 : -ERR_RETRY) && calls[room].remote);
        CHECK_EQ(calls[room].reply_payload.len, room ? 65536 : 0);
        IN_CLIENT(w, slice_unref(&calls[room].reply_payload));
        for (; count; count--)
            IN_CLIENT(w, buf_unref(taken[count - 1]));
    }
    end();
}

/* A payload goes to where the caller wants it if it is just as long; else it comes like any other. */
static void placed_if_it_fits(void)
{
    static const uint32_t lens[] = {1000, 1001, 999, 5000};
    static uint8_t place[8192];

    begin(NULL, NULL);
    w->handling = HOLD;
    for (int i = 0; i < (int)ARRAY_LEN(lens); i++) {
        bool fits = lens[i] == 1000;
        memset(place, 0xee, sizeof(place));
        calls[i].place = place;
        calls[i].place_len = 1000;
        CHECK_EQ(client_call(&c, &calls[i], METHOD_READ, 1, 1, 1000), 0);
        WAIT_FOR(w, 100, w->ticket_count == i + 1);
        answer_with(lens[i]);
        WAIT_FOR(w, 100, !calls[i].pending);
        CHECK_EQ(calls[i].result, 0);
        CHECK_EQ(calls[i].placed, fits);
        CHECK_EQ(calls[i].reply_payload.len, fits ? 0 : lens[i]);
        for (uint32_t at = 0; at < sizeof(place); at++)
            CHECK(place[at] == (fits && at < 1000 ? 7 : 0xee));
        IN_CLIENT(w, slice_unref(&calls[i].reply_payload));
    }
    end();
}

static void few_calls(struct rpc_peer_config *config)
{
    config->calls_max = 3;
}

static void limit_of_the_caller(void)
{
    begin(NULL, few_calls);
    w->handling = HOLD;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(client_call(&c, &calls[i], METHOD_MON, 0, 0, 1000), 0);
    CHECK_EQ(client_call(&c, &calls[3], METHOD_MON, 0, 0, 1000), -ERR_BUSY);
    CHECK(!calls[3].pending);
    WAIT_FOR(w, 100, w->ticket_count == 3);
    IN_SERVER(w, rpc_reply(&w->tickets[1], -ERR_NOT_FOUND, NULL, 0, NULL, 0));
    WAIT_FOR(w, 100, !calls[1].pending);
    CHECK(calls[1].result == -ERR_NOT_FOUND && calls[1].remote);
    CHECK_EQ(client_call(&c, &calls[3], METHOD_MON, 0, 0, 1000), 0);
    end();
    CHECK(calls[0].result == -ERR_CANCELLED && !calls[0].remote && !calls[0].pending);
    CHECK(calls[3].result == -ERR_CANCELLED);
}

static void limit_of_the_server(void)
{
    begin(NULL, NULL);
    w->handling = HOLD;
    for (int i = 0; i < 18; i++)
        CHECK_EQ(client_call(&c, &calls[i], METHOD_MON, 0, 0, 1000), 0);
    WAIT_FOR(w, 100, !calls[16].pending && !calls[17].pending);
    CHECK(calls[16].result == -ERR_BUSY && calls[16].remote && calls[17].result == -ERR_BUSY);
    CHECK_EQ(w->handled, 16);
    for (int i = 0; i < 16; i++)
        IN_SERVER(w, rpc_reply(&w->tickets[i], 0, NULL, 0, NULL, 0));
    WAIT_FOR(w, 100, !calls[15].pending);
    w->handling = ANSWER;
    CHECK_EQ(client_call(&c, &calls[16], METHOD_MON, 0, 0, 1000), 0);
    WAIT_FOR(w, 100, !calls[16].pending);
    CHECK_EQ(calls[16].result, 0);
    end();
}

static void full_queue(void)
{
    struct sim_net_config config = {.queue_max_bytes = 2000};
    int i = 0, error = 0;

    begin(&config, NULL);
    while (i < 32 && !(error = client_call(&c, &calls[i], METHOD_MON, 1, 500, 1000)))
        i++;
    CHECK_EQ(error, -ERR_BUSY);
    CHECK_EQ(i, 4);
    CHECK(!calls[4].pending);
    IN_CLIENT(w, error = rpc_peer_send(c.peer, METHOD_HEARTBEAT, false, NULL, 0, NULL, 0));
    CHECK_EQ(error, -ERR_BUSY);
    WAIT_FOR(w, 100, !calls[3].pending);
    CHECK_EQ(client_call(&c, &calls[4], METHOD_MON, 1, 500, 1000), 0);
    WAIT_FOR(w, 100, !calls[4].pending);
    CHECK_EQ(calls[4].result, 0);
    end();
}

/* Replies for which the link has no room wait and all arrive; when the session ends instead, their buffers
 * come back (world_free() looks). */
static void backlog(void)
{
    struct sim_net_config config = {.queue_max_bytes = 10000};

    for (int round = 0; round < 2; round++) {
        begin(&config, NULL);
        w->handling = HOLD;
        for (int i = 0; i < 16; i++)
            CHECK_EQ(client_call(&c, &calls[i], METHOD_READ, 1, 1, 5000), 0);
        WAIT_FOR(w, 100, w->ticket_count == 16);
        sim_node_enter(w->server_node);
        struct slice payload = {buf_new(w->server_node->core.arena, 65536), 4096, 40000};
        RPC_FRAME_SCRATCH(scratch, 16);
        for (int i = 0; i < 16; i++) {
            rpc_body(scratch)[0] = (uint8_t)i;
            rpc_reply(&w->tickets[i], 0, rpc_body(scratch), 1, &payload, 1);
        }
        memset(scratch, 0xee, sizeof(scratch));
        slice_unref(&payload);
        sim_node_leave(w->server_node);
        if (round == 0) {
            WAIT_FOR(w, 1000, !calls[15].pending);
            for (int i = 0; i < 16; i++) {
                CHECK(!calls[i].pending && calls[i].result == 0 && calls[i].reply_payload.len == 40000);
                CHECK_EQ(replies[i][0], i);
            }
            IN_CLIENT(w, slice_unref(&calls[0].reply_payload));
            w->handling = ANSWER;
            CHECK_EQ(client_call(&c, &calls[0], METHOD_READ, 1, 1, 1000), 0);
            WAIT_FOR(w, 100, !calls[0].pending);
        }
        for (int i = 0; i < 16; i++)
            IN_CLIENT(w, slice_unref(&calls[i].reply_payload));
        end();
    }
}

/* So many answers of so many bytes each at once. */
static void backlog_fill(int count, uint32_t len)
{
    int whole = 0, busy = 0, first = w->ticket_count;

    w->handling = HOLD;
    for (int i = 0; i < count; i++)
        CHECK_EQ(client_call(&c, &calls[i], METHOD_READ, 1, 1, 5000), 0);
    WAIT_FOR(w, 100, w->ticket_count == first + count);
    sim_node_enter(w->server_node);
    struct slice payload = {buf_new(w->server_node->core.arena, len), 0, len};
    RPC_FRAME_SCRATCH(scratch, 16);
    for (int i = 0; i < count; i++)
        rpc_reply(&w->tickets[first + i], 0, rpc_body(scratch), 1, &payload, 1);
    slice_unref(&payload);
    sim_node_leave(w->server_node);
    for (int i = 0; i < count; i++) {
        WAIT_FOR(w, 3000, !calls[i].pending);
        whole += !calls[i].result && calls[i].reply_payload.len == len;
        busy += calls[i].result == -ERR_BUSY && calls[i].remote && !calls[i].reply_payload.buf;
        IN_CLIENT(w, slice_unref(&calls[i].reply_payload));
    }
    CHECK_EQ(whole + busy, count);
    CHECK(whole >= 16 && busy >= 4);
}

/* Payloads that a shard does not read are kept up to a limit; past it the answer is that there is no room. */
static void backlog_limit(void)
{
    enum { COUNT = 24, LEN = 2 << 20 }; /* the limit is 32 MiB */
    struct sim_net_config config = {.queue_max_bytes = 3u << 20};

    begin(&config, NULL);
    w->client_self.role = RPC_OSD;
    w->server_config.requests_max = COUNT;
    world_restart_server(w);
    WAIT_FOR(w, 1000, c.opened == 2);
    for (int round = 0; round < 2; round++)
        backlog_fill(COUNT, LEN);
    /* And then there is room again. */
    w->handling = ANSWER;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_READ, 1, 1, 1000), 0);
    WAIT_FOR(w, 100, !calls[0].pending);
    CHECK_EQ(calls[0].result, 0);
    end();
}

/* Three that read much and take nothing share a quarter of the arena, less each than the one before; who
 * takes what it gets is answered all the same, and so are they when they have. */
static void slow_sessions(void)
{
    enum { SLOW = 3, EACH = 16, LEN = 1 << 20 };
    struct sim_net_config config = {.queue_max_bytes = 3u << 20};
    static struct rpc_identity selves[SLOW];
    static struct rpc_call slow[SLOW][EACH];
    struct client clients[SLOW] = {0};
    int whole[SLOW] = {0};

    begin(&config, NULL);
    w->handling = HOLD;
    struct arena *arena = w->server_node->core.arena;
    for (int s = 0; s < SLOW; s++) {
        selves[s] = w->client_self;
        selves[s].client_uuid[1] = (uint8_t)(s + 1);
        clients[s].self = &selves[s];
        client_start(&clients[s], w, NULL);
        WAIT_FOR(w, 100, clients[s].opened == 1);
        memset(slow[s], 0, sizeof(slow[s]));
        for (int i = 0; i < EACH; i++)
            CHECK_EQ(client_call(&clients[s], &slow[s][i], METHOD_READ, 1, 1, 5000), 0);
        WAIT_FOR(w, 100, w->ticket_count == (s + 1) * EACH);
    }
    CHECK_EQ(client_call(&c, &calls[0], METHOD_READ, 1, 1, 1000), 0);
    WAIT_FOR(w, 100, w->ticket_count == SLOW * EACH + 1);
    sim_node_enter(w->server_node);
    for (int i = 0; i <= SLOW * EACH; i++) { /* nothing leaves meanwhile */
        struct slice payload = {buf_new(arena, LEN), 0, LEN};
        CHECK(payload.buf);
        memset(slice_data(&payload), 7, LEN);
        rpc_reply(&w->tickets[i], 0, NULL, 0, &payload, 1);
        slice_unref(&payload);
    }
    CHECK(!rpc_ticket_has_room(&w->tickets[0], LEN) && !rpc_ticket_has_room(&w->tickets[2 * EACH], LEN));
    CHECK(arena_free_bytes(arena) >= arena_size(arena) / 4 * 3);
    uint64_t unsent_bytes = rpc_server_unsent_bytes(w->server);
    CHECK(unsent_bytes > arena_size(arena) / 8 && unsent_bytes <= arena_size(arena) / 4 + LEN + 4096);
    sim_node_leave(w->server_node);
    WAIT_FOR(w, 1000, !calls[0].pending);
    CHECK(calls[0].result == 0 && calls[0].reply_payload.len == LEN);
    IN_CLIENT(w, slice_unref(&calls[0].reply_payload));
    for (int s = 0; s < SLOW; s++)
        for (int i = 0; i < EACH; i++) {
            WAIT_FOR(w, 1000, !slow[s][i].pending);
            whole[s] += slow[s][i].result == 0;
            CHECK(slow[s][i].result == (slow[s][i].reply_payload.buf ? 0 : -ERR_BUSY) && slow[s][i].remote);
            IN_CLIENT(w, slice_unref(&slow[s][i].reply_payload));
        }
    printf("# they had room for %d, %d and %d\n", whole[0], whole[1], whole[2]);
    /* Of 16 MiB half, of the rest half, and so on; but frames have heads. */
    CHECK(whole[0] == EACH / 2 - 1 && whole[1] == EACH / 4 && whole[2] == EACH / 8);
    world_run_ms(w, 5);
    CHECK_EQ(rpc_server_unsent_bytes(w->server), 0);
    CHECK(rpc_ticket_has_room(&w->tickets[2 * EACH], LEN));
    for (int s = 0; s < SLOW; s++)
        client_stop(&clients[s]);
    end();
}

static void all_calls(struct rpc_peer_config *config)
{
    config->calls_max = ARRAY_LEN(calls);
}

/* Nor does what waits keep the large buffers that it is a small part of, once a quarter of the arena is left.
 */
static void small_parts_of_large_buffers(void)
{
    enum { COUNT = ARRAY_LEN(calls), LARGE = 1 << 20, SMALL = 32 << 10 };
    struct sim_net_config config = {.queue_max_bytes = 1000};

    begin(&config, all_calls);
    w->server_config.requests_max = COUNT;
    world_restart_server(w);
    WAIT_FOR(w, 1000, c.opened == 2);
    w->handling = HOLD;
    for (int i = 0; i < COUNT; i++)
        while (client_call(&c, &calls[i], METHOD_READ, 1, 1, 5000) == -ERR_BUSY)
            world_run_ms(w, 1);
    WAIT_FOR(w, 100, w->ticket_count == COUNT);
    struct arena *arena = w->server_node->core.arena;
    sim_node_enter(w->server_node);
    for (int i = 0; i < COUNT; i++) {
        struct slice large = {buf_new(arena, LARGE), 0, LARGE};
        CHECK(large.buf);
        memset(slice_data(&large), 0, LARGE);
        struct slice small = slice_sub(&large, 4096 * (uint32_t)i, SMALL);
        slice_unref(&large);
        memset(slice_data(&small), i + 1, SMALL);
        rpc_reply(&w->tickets[i], 0, NULL, 0, &small, 1);
        slice_unref(&small);
    }
    CHECK(arena_free_bytes(arena) >= arena_size(arena) / 4 - LARGE - COUNT * SMALL);
    sim_node_leave(w->server_node);
    for (int i = 0; i < COUNT; i++) {
        WAIT_FOR(w, 1000, !calls[i].pending);
        CHECK(calls[i].result == 0 && calls[i].reply_payload.len == SMALL);
        const uint8_t *data = slice_data(&calls[i].reply_payload);
        CHECK(data[0] == i + 1 && data[SMALL - 1] == i + 1);
        IN_CLIENT(w, slice_unref(&calls[i].reply_payload));
    }
    end();
}

/* Nor is what must not be refused kept without end: bodies of answers, which may be the only word of what was
 * done. */
static void bodies_without_end(void)
{
    enum { LEN = FRAME_BODY_MAX, KEPT = RPC_BACKLOG_BYTES_MAX / LEN + 1 }; /* one of them in the link */
    struct sim_net_config config = {.queue_max_bytes = 1000};
    static uint8_t body[FRAME_HEADER_SIZE + LEN];

    begin(&config, all_calls);
    w->server_config.requests_max = ARRAY_LEN(calls);
    world_restart_server(w);
    WAIT_FOR(w, 1000, c.opened == 2);
    w->handling = HOLD;
    for (int i = 0; i <= KEPT; i++)
        while (client_call(&c, &calls[i], METHOD_MON, 0, 0, 5000) == -ERR_BUSY)
            world_run_ms(w, 1);
    WAIT_FOR(w, 100, w->ticket_count == KEPT + 1);
    sim_node_enter(w->server_node);
    for (int i = 0; i < KEPT; i++)
        rpc_reply(&w->tickets[i], 0, rpc_body(body), LEN, NULL, 0);
    CHECK(rpc_ticket_alive(&w->tickets[0]));
    rpc_reply(&w->tickets[KEPT], 0, rpc_body(body), LEN, NULL, 0);
    CHECK(!rpc_ticket_alive(&w->tickets[0]));
    sim_node_leave(w->server_node);
    end();
}

static void deadlines(void)
{
    begin(NULL, NULL);
    w->handling = HOLD;
    world_run_ms(w, 5); /* the timer is set for a time at which nothing was heard for long */
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 500), 0);
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 0, 0, 100), 0);
    CHECK_EQ(client_call(&c, &calls[2], METHOD_MON, 0, 0, 100), 0);
    CHECK_EQ(client_call(&c, &calls[3], METHOD_MON, 0, 0, 0), -ERR_TIMEOUT);
    uint64_t sent_ns = w->sim->now_ns;
    WAIT_FOR(w, 150, !calls[1].pending);
    uint64_t after_ns = w->sim->now_ns - sent_ns;
    CHECK(after_ns >= 100 * NS_PER_MS && after_ns < 102 * NS_PER_MS);
    /* The session is gone already, with all that was on it. */
    CHECK(!rpc_peer_is_open(c.peer));
    CHECK(calls[1].result == -ERR_TIMEOUT && !calls[1].remote);
    CHECK(calls[2].result == -ERR_TIMEOUT && !calls[2].remote);
    CHECK(calls[0].result == -ERR_CLOSED && !calls[0].remote && !calls[0].pending);
    CHECK_EQ(client_call(&c, &calls[3], METHOD_MON, 0, 0, 10), -ERR_CLOSED);
    WAIT_FOR(w, 10, c.opened == 2);
    CHECK_EQ(c.closed, 1);
    CHECK_EQ(c.last_error, -ERR_TIMEOUT);
    CHECK_EQ(rpc_session_identity(w->last_opened)->session, 2);
    /* What the server had kept is worth nothing now. */
    for (int i = 0; i < 3; i++) {
        CHECK(!rpc_ticket_alive(&w->tickets[i]));
        IN_SERVER(w, rpc_reply(&w->tickets[i], 0, NULL, 0, NULL, 0));
    }
    world_run_ms(w, 10);
    CHECK_EQ(calls[1].result, -ERR_TIMEOUT);
    w->handling = ANSWER;
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 0, 0, 100), 0);
    WAIT_FOR(w, 10, !calls[1].pending);
    CHECK_EQ(calls[1].result, 0);
    end();
}

/* A reply that comes after the deadline of its call finds a closed link; one with an id of nobody is ignored.
 */
static void late_reply(void)
{
    begin(NULL, NULL);
    w->handling = HOLD;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 10), 0);
    WAIT_FOR(w, 5, w->ticket_count == 1);
    struct sim_net_faults slow = {.slow_ppm = 1000000, .slow_ns = 50 * NS_PER_MS};
    sim_net_set_faults(w->net, &slow);
    IN_SERVER(w, rpc_reply(&w->tickets[0], 0, NULL, 0, NULL, 0));
    sim_net_set_faults(w->net, &(struct sim_net_faults){0});
    WAIT_FOR(w, 20, !calls[0].pending);
    CHECK_EQ(calls[0].result, -ERR_TIMEOUT);
    WAIT_FOR(w, 20, c.opened == 2);
    w->handling = HOLD;
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 0, 0, 1000), 0);
    WAIT_FOR(w, 5, w->ticket_count == 2);
    struct rpc_ticket forged = w->tickets[1];
    forged.request_id += 1000;
    IN_SERVER(w, rpc_reply(&forged, 0, NULL, 0, NULL, 0));
    world_run_ms(w, 100);
    CHECK(calls[1].pending && rpc_peer_is_open(c.peer));
    end();
}

static void abandon(void)
{
    begin(NULL, NULL);
    w->handling = HOLD;
    IN_CLIENT(w, rpc_call_abandon(&calls[0])); /* not pending: nothing */
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 500), 0);
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 0, 0, 500), 0);
    WAIT_FOR(w, 10, w->ticket_count == 2);
    sim_node_enter(w->client_node);
    rpc_call_abandon(&calls[0]);
    CHECK(!calls[0].pending && calls[0].result == -ERR_CANCELLED);
    CHECK(!calls[1].pending && calls[1].result == -ERR_CLOSED);
    CHECK(!rpc_peer_is_open(c.peer));
    CHECK_EQ(c.closed, 0); /* comes later */
    sim_node_leave(w->client_node);
    WAIT_FOR(w, 10, c.opened == 2);
    CHECK_EQ(c.closed, 1);
    CHECK(!rpc_ticket_alive(&w->tickets[0]));
    end();
}

static void server_dies(void)
{
    begin(NULL, NULL);
    w->handling = HOLD;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 5000), 0);
    WAIT_FOR(w, 10, w->ticket_count == 1);
    w->opened = w->closed = 0;
    sim_node_crash(w->server_node, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 100, !calls[0].pending);
    CHECK(calls[0].result == -ERR_CLOSED && !calls[0].remote);
    world_run_ms(w, 3000);
    CHECK(c.closed > 3 && c.closed < 10); /* nobody answers at all: the machine is gone */
    CHECK_EQ(c.last_error, -ERR_TIMEOUT);
    w->handling = ANSWER;
    w->server_self.incarnation++;
    sim_node_start(w->server_node);
    WAIT_FOR(w, 1000, c.opened == 2);
    CHECK_EQ(rpc_peer_identity(c.peer)->incarnation, 6);
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 5000), 0);
    WAIT_FOR(w, 10, !calls[0].pending);
    CHECK_EQ(calls[0].result, 0);
    end();
}

static void idle_lives(void)
{
    begin(NULL, NULL);
    w->handling = HOLD;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 200000), 0);
    world_run_ms(w, 120000);
    CHECK(calls[0].pending);
    CHECK_EQ(c.closed + w->closed, 0);
    end();
}

/* What the server sends arrives later and later, as through a queue that grows: its PING stands behind that,
 * and the client, which hears something all the time and asks nothing, lives all the same. */
static void answers_taken_slowly(void)
{
    begin(NULL, NULL);
    for (uint64_t s = 0; s < 9 && w->last_opened; s++) {
        int error;
        sim_net_set_path_lag(w->net, "10.0.0.1", "10.0.0.2", 900 * s * NS_PER_MS);
        IN_SERVER(w, error = rpc_session_send(w->last_opened, METHOD_MON_EVENT, false, NULL, 0, NULL, 0));
        CHECK_EQ(error, 0);
        world_run_ms(w, 1000);
    }
    CHECK_EQ(c.closed + w->closed, 0);
    CHECK_EQ(c.oneways, 5); /* the others are on the way */
    end();
}

/* The link swallows everything, one way, the other way, or both: both ends notice. */
static void silence(void)
{
    for (int way = 0; way < 3; way++) {
        begin(NULL, NULL);
        w->handling = HOLD;
        CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 60000), 0);
        world_run_ms(w, 3000);
        if (way != 0)
            sim_net_set_path(w->net, "10.0.0.1", "10.0.0.2", SIM_PATH_BLOCK);
        if (way != 1)
            sim_net_set_path(w->net, "10.0.0.2", "10.0.0.1", SIM_PATH_BLOCK);
        WAIT_FOR(w, 6500, c.closed >= 1);
        /* When the server hears nothing, its goodbye may get here first. */
        CHECK(c.last_error == -ERR_TIMEOUT || (way == 0 && c.last_error == -ERR_CLOSED));
        CHECK_EQ(calls[0].result, -ERR_CLOSED);
        WAIT_FOR(w, 7000, w->closed >= 1);
        sim_net_heal(w->net);
        WAIT_FOR(w, 8000, c.opened >= 2 && rpc_peer_is_open(c.peer));
        end();
    }
}

/* Whoever has reason to doubt a session asks, and gives it up: without waiting for silence to last. */
static void doubt(void)
{
    begin(NULL, NULL);
    world_run_ms(w, 1000);
    uint64_t asked_ns = core_now_ns(&w->client_node->core);
    CHECK(rpc_peer_heard_ns(c.peer) && rpc_peer_heard_ns(c.peer) < asked_ns);
    IN_CLIENT(w, rpc_peer_ping(c.peer));
    WAIT_FOR(w, 10, rpc_peer_heard_ns(c.peer) >= asked_ns);
    world_run_ms(w, 1000);
    asked_ns = core_now_ns(&w->server_node->core);
    CHECK(rpc_session_heard_ns(w->last_opened) < asked_ns);
    IN_SERVER(w, rpc_session_ping(w->last_opened));
    WAIT_FOR(w, 10, rpc_session_heard_ns(w->last_opened) >= asked_ns);
    /* By this connection nothing comes any more, by another one it does. */
    sim_net_silence(w->net, "10.0.0.2", "10.0.0.1");
    asked_ns = core_now_ns(&w->client_node->core);
    IN_CLIENT(w, rpc_peer_ping(c.peer));
    world_run_ms(w, 300);
    CHECK(rpc_peer_heard_ns(c.peer) < asked_ns);
    w->handling = HOLD;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 60000), 0);
    IN_CLIENT(w, rpc_peer_renew(c.peer));
    CHECK(!rpc_peer_is_open(c.peer) && !rpc_peer_heard_ns(c.peer));
    WAIT_FOR(w, 10, c.opened == 2);
    CHECK_EQ(calls[0].result, -ERR_CLOSED);
    CHECK_EQ(c.last_error, -ERR_TIMEOUT);
    w->handling = ANSWER;
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 1, 1, 1000), 0);
    WAIT_FOR(w, 10, !calls[1].pending);
    CHECK_EQ(calls[1].result, 0);
    end();
}

static void oneway_frames(void)
{
    struct sim_net_faults faults = {
        .oneway_drop_ppm = 200000, .oneway_dup_ppm = 300000, .oneway_reorder_ppm = 300000};
    int error;

    begin(NULL, NULL);
    sim_net_set_faults(w->net, &faults);
    for (int i = 0; i < 300; i++) {
        IN_CLIENT(w, error = rpc_peer_send(c.peer, METHOD_HEARTBEAT, false, NULL, 0, NULL, 0));
        CHECK_EQ(error, 0);
        IN_SERVER(w,
                  error = rpc_session_send(w->last_opened, METHOD_HEARTBEAT_REPLY, false, NULL, 0, NULL, 0));
        CHECK_EQ(error, 0);
        if (i % 30 == 0 && !calls[i / 30].pending)
            CHECK_EQ(client_call(&c, &calls[i / 30], METHOD_MON, 0, 0, 1000), 0);
    }
    world_run_ms(w, 100);
    for (int i = 0; i < 10; i++)
        CHECK(!calls[i].pending && calls[i].result == 0);
    CHECK(w->oneways > 200 && c.oneways > 200);
    CHECK_EQ(c.closed, 0);
    end();
}

static void closed_in_the_handler(void)
{
    begin(NULL, NULL);
    w->handling = CLOSE_SESSION;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 1000), 0);
    WAIT_FOR(w, 100, !calls[0].pending);
    CHECK(calls[0].result == -ERR_CLOSED && !calls[0].remote);
    WAIT_FOR(w, 100, c.opened == 2);
    CHECK_EQ(w->closed, 1);

    w->handling = CLOSE_AND_HOLD;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 1000), 0);
    CHECK_EQ(client_call(&c, &calls[1], METHOD_MON, 0, 0, 1000), 0);
    WAIT_FOR(w, 1000, c.opened == 3);
    CHECK_EQ(w->handled, 2); /* the second one came too late */
    CHECK(!rpc_ticket_alive(&w->tickets[0]));
    IN_SERVER(w, rpc_reply(&w->tickets[0], 0, NULL, 0, NULL, 0));
    end();
}

static void closed_in_opened(void)
{
    begin(NULL, NULL);
    w->close_in_opened = true;
    IN_SERVER(w, rpc_session_close(w->last_opened));
    world_run_ms(w, 10000);
    /* A server that greets and closes does not make the caller spin. */
    CHECK(w->opened > 10 && w->opened < 60);
    CHECK_EQ(w->opened, w->closed);
    end();
}

static void freed_in_callbacks(void)
{
    static const enum peer_reaction reactions[] = {FREE_IN_OPENED, FREE_IN_CLOSED, FREE_IN_ONEWAY};

    for (size_t i = 0; i < ARRAY_LEN(reactions); i++) {
        begin(NULL, NULL);
        w->handling = HOLD;
        c.reaction = reactions[i];
        if (reactions[i] != FREE_IN_OPENED)
            CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 1000), 0);
        world_run_ms(w, 5);
        int error = 0;
        if (reactions[i] == FREE_IN_ONEWAY)
            IN_SERVER(w, error = rpc_session_send(w->last_opened, METHOD_MON_EVENT, false, NULL, 0, NULL, 0));
        else
            IN_SERVER(w, rpc_session_close(w->last_opened));
        CHECK_EQ(error, 0);
        WAIT_FOR(w, 100, c.peer == NULL);
        world_run_ms(w, 100);
        CHECK(!calls[0].pending);
        end();
    }
}

static void abandoned_in_a_callback(void)
{
    int error;

    begin(NULL, NULL);
    w->handling = HOLD;
    CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 0, 0, 1000), 0);
    world_run_ms(w, 5);
    c.reaction = ABANDON_IN_ONEWAY;
    c.to_abandon = &calls[0];
    IN_SERVER(w, error = rpc_session_send(w->last_opened, METHOD_MON_EVENT, false, NULL, 0, NULL, 0));
    CHECK_EQ(error, 0);
    WAIT_FOR(w, 100, c.opened == 2);
    CHECK_EQ(calls[0].result, -ERR_CANCELLED);
    end();
}

/* A bit that flips on the way ends the session; the frame is not acted on. */
static void flipped_bits(void)
{
    struct sim_net_faults faults = {.corrupt_ppm = 1000000};

    begin(NULL, NULL);
    for (int i = 0; i < 20; i++) {
        sim_net_set_faults(w->net, &faults);
        CHECK_EQ(client_call(&c, &calls[0], METHOD_MON, 3, 200, 100), 0);
        WAIT_FOR(w, 200, !calls[0].pending);
        CHECK(calls[0].result == -ERR_CLOSED && !calls[0].remote);
        sim_net_set_faults(w->net, &(struct sim_net_faults){0});
        WAIT_FOR(w, 2000, rpc_peer_is_open(c.peer));
    }
    CHECK_EQ(w->handled, 0);
    end();
}

/* Calls and replies take no memory. */
static void no_allocation(void)
{
    begin(NULL, NULL);
    for (int i = 0; i < 2; i++) {
        uint64_t client_allocs = w->client_node->heap.allocs, server_allocs = w->server_node->heap.allocs;
        for (int n = 0; n < 200; n++) {
            CHECK_EQ(client_call(&c, &calls[n % 8], METHOD_WRITE, 1, 100, 1000), 0);
            WAIT_FOR(w, 10, !calls[n % 8].pending);
        }
        /* The first round warms up what grows once. */
        if (i == 1) {
            CHECK_EQ(w->client_node->heap.allocs, client_allocs);
            CHECK_EQ(w->server_node->heap.allocs, server_allocs);
        }
    }
    end();
}

int main(void)
{
    TEST(echo);
    TEST(payloads);
    TEST(reply_room);
    TEST(no_memory_for_a_payload);
    TEST(placed_if_it_fits);
    TEST(limit_of_the_caller);
    TEST(limit_of_the_server);
    TEST(full_queue);
    TEST(backlog);
    TEST(backlog_limit);
    TEST(slow_sessions);
    TEST(small_parts_of_large_buffers);
    TEST(bodies_without_end);
    TEST(deadlines);
    TEST(late_reply);
    TEST(abandon);
    TEST(server_dies);
    TEST(idle_lives);
    TEST(answers_taken_slowly);
    TEST(silence);
    TEST(doubt);
    TEST(oneway_frames);
    TEST(closed_in_the_handler);
    TEST(closed_in_opened);
    TEST(freed_in_callbacks);
    TEST(abandoned_in_a_callback);
    TEST(flipped_bits);
    TEST(no_allocation);
    return tap_done();
}
