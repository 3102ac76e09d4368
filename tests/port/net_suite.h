/* SPDX-License-Identifier: Apache-2.0
 *
 * The suite of rt/net.h: side 1 listens, side 0 connects. Included by the one program per implementation.
 */
#ifndef TESTS_PORT_NET_SUITE_H
#define TESTS_PORT_NET_SUITE_H

#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "rt/net.h"
#include "tests/port/world.h"
#include "tests/tap.h"
#include "wire/frame.h"

struct net_suite {
    struct world *world;
    struct net *net[2];
    const char *listen_address; /* side 1 may listen here; port 0 */
    const char *dead_address;   /* nobody listens here */
};

#define ENDS_MAX 64

/* One end of a link, and what it saw. */
struct end {
    struct link *link;
    int side;
    bool opened, closed;
    int closed_count, error;
    uint32_t received;
    uint32_t next; /* the number that the next frame must bear */
    uint32_t dropped;
    bool disorder, damaged, close_at_message, close_at_opened, echo;
    struct slice kept; /* the last payload, if keep is set */
    bool keep;
    uint8_t *place; /* payloads of even frames are to land here; FRAME_PAYLOAD_MAX */
    uint32_t placed;
};

static struct net_suite *suite;
static struct end server_ends[ENDS_MAX];
static uint32_t server_count;
static bool server_ignores, server_closes;
static char server_address[128];

/* Frames of the suite carry their number as request id; body and payload follow from it. */
static void pattern(uint8_t *to, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static bool pattern_holds(const uint8_t *at, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] != (uint8_t)(seed + i * 7 + (i >> 8)))
            return false;
    return true;
}

static bool send_patient; /* frames may wait for others */

/* The payload is cut into pieces of `piece_len` each, in buffers of their own. -ERR_NO_MEMORY: none could be
 * had. */
static int send_cut(struct end *end, uint32_t number, uint32_t body_len, uint32_t payload_len,
                    uint32_t piece_len)
{
    struct arena *arena = suite->world->core[end->side]->arena;
    struct slice pieces[FRAME_PIECES_MAX] = {{0}};
    uint8_t *head = malloc(FRAME_HEADER_SIZE + body_len), *payload = malloc(payload_len + 1);
    struct frame_header header = {.method = METHOD_PING,
                                  .flags = FRAME_REQUEST,
                                  .request_id = number,
                                  .body_len = body_len,
                                  .payload_len = payload_len};
    struct frame frame = {
        .head = head, .head_len = FRAME_HEADER_SIZE + body_len, .pieces = pieces, .patient = send_patient};
    int result = 0;

    pattern(head + FRAME_HEADER_SIZE, body_len, number);
    pattern(payload, payload_len, number + 1);
    frame_encode(head, &header);
    suite->world->enter(suite->world, end->side);
    for (uint32_t at = 0; at < payload_len && !result; at += piece_len) {
        uint32_t len = MIN(piece_len, payload_len - at);
        struct buf *buf = buf_new(arena, len);
        if (!buf) {
            result = -ERR_NO_MEMORY;
            break;
        }
        memcpy(buf->data, payload + at, len);
        pieces[frame.piece_count++] = (struct slice){.buf = buf, .len = len};
    }
    if (!result)
        result = link_send(end->link, &frame);
    /* The link has taken references and copies of its own. */
    for (uint32_t i = 0; i < frame.piece_count; i++)
        slice_unref(&pieces[i]);
    suite->world->leave(suite->world, end->side);
    free(head);
    free(payload);
    return result;
}

static int send_one(struct end *end, uint32_t number, uint32_t body_len, uint32_t payload_len)
{
    return send_cut(end, number, body_len, payload_len, payload_len);
}

static void on_message(void *owner, struct link *link, const struct frame *frame)
{
    struct end *end = owner;
    struct frame_header header;

    if (frame_validate_header(frame->head, &header) || frame_validate_body(frame->head, &header) ||
        frame->head_len != FRAME_HEADER_SIZE + header.body_len) {
        end->damaged = true;
        return;
    }
    uint32_t number = (uint32_t)header.request_id;
    end->disorder |= number != end->next;
    end->next = number + 1;
    end->received++;
    end->damaged |= !pattern_holds(frame->head + FRAME_HEADER_SIZE, header.body_len, number);
    if (frame->payload_dropped) {
        end->dropped++;
        end->damaged |= frame->payload.buf != NULL;
    } else if (frame->placed) {
        end->placed++;
        end->damaged |= frame->payload.buf != NULL || frame->placed != end->place;
        end->damaged |= !pattern_holds(end->place, header.payload_len, number + 1);
    } else if (header.payload_len) {
        end->damaged |= frame->payload.len != header.payload_len;
        end->damaged |= !IS_ALIGNED((uintptr_t)slice_data(&frame->payload), BLOCK_SIZE);
        end->damaged |= !pattern_holds(slice_data(&frame->payload), header.payload_len, number + 1);
        if (end->keep) {
            slice_unref(&end->kept);
            end->kept = slice_sub(&frame->payload, 0, frame->payload.len);
        }
    }
    if (end->close_at_message) {
        end->closed = true;
        link_close(link);
        /* The frame outlives the link until the event returns. */
        end->damaged |= !pattern_holds(frame->head + FRAME_HEADER_SIZE, header.body_len, number);
    }
}

static void on_opened(void *owner, struct link *link)
{
    struct end *end = owner;
    end->opened = true;
    if (end->close_at_opened) {
        end->closed = true;
        link_close(link);
    }
}

static void on_closed(void *owner, struct link *link, int error)
{
    struct end *end = owner;
    end->closed = true;
    end->closed_count++;
    end->error = error;
}

static uint8_t *on_place(void *owner, struct link *link, const uint8_t *head, uint32_t head_len,
                         uint32_t payload_len)
{
    struct end *end = owner;
    struct frame_header header;

    end->damaged |= frame_validate_header(head, &header) || frame_validate_body(head, &header) ||
                    head_len != FRAME_HEADER_SIZE + header.body_len || payload_len != header.payload_len ||
                    payload_len == 0;
    return header.request_id % 2 == 0 ? end->place : NULL;
}

static const struct link_events end_events = {on_message, on_opened, on_closed, on_place};

static void on_accepted(void *owner, struct link *link)
{
    if (server_ignores)
        return;
    struct end *end = &server_ends[server_count++];
    *end = (struct end){.link = link, .side = 1, .opened = true};
    link_own(link, &end_events, end);
    if (server_closes) {
        end->closed = true;
        link_close(link);
    }
}

static void connect_end(struct end *end, const char *address)
{
    *end = (struct end){.side = 0};
    suite->world->enter(suite->world, 0);
    end->link = link_connect(suite->net[0], address, &end_events, end);
    suite->world->leave(suite->world, 0);
}

static void close_end(struct end *end)
{
    if (!end->closed) {
        suite->world->enter(suite->world, end->side);
        link_close(end->link);
        suite->world->leave(suite->world, end->side);
        end->closed = true;
    }
}

static bool run_until(bool *flag)
{
    return suite->world->run(suite->world, world_is, flag, WORLD_WAIT_NS);
}

struct at_least {
    const uint32_t *counter;
    uint32_t count;
};

static bool is_at_least(void *owner)
{
    const struct at_least *wanted = owner;
    return *wanted->counter >= wanted->count;
}

static bool run_count(const uint32_t *counter, uint32_t count)
{
    struct at_least wanted = {counter, count};
    return suite->world->run(suite->world, is_at_least, &wanted, WORLD_WAIT_NS);
}

/* A fresh pair of ends. */
static struct end *pair(struct end *client)
{
    server_count = 0;
    connect_end(client, server_address);
    CHECK(client->link != NULL);
    CHECK(run_until(&client->opened));
    CHECK(run_count(&server_count, 1));
    return &server_ends[0];
}

static void unpair(struct end *client, struct end *server)
{
    close_end(client);
    close_end(server);
    world_settle(suite->world);
    for (int side = 0; side < 2; side++) {
        struct arena *arena = suite->world->core[side]->arena;
        CHECK_EQ(arena_free_bytes(arena), arena_size(arena));
    }
}

static void frames_arrive_whole(void)
{
    static const uint32_t bodies[] = {0, 1, 200, 5000, 70000, FRAME_BODY_MAX};
    static const uint32_t payloads[] = {0, 1, 4095, 4096, 4097, 20000, 65536, 1 << 20, FRAME_PAYLOAD_MAX};
    struct end client, *server = pair(&client);
    uint32_t number = 0;

    for (size_t b = 0; b < ARRAY_LEN(bodies); b++) {
        for (size_t p = 0; p < ARRAY_LEN(payloads); p++, number++) {
            CHECK_EQ(send_one(&client, number, bodies[b], payloads[p]), 0);
            CHECK_EQ(send_one(server, number, bodies[b], payloads[p]), 0);
            CHECK(run_count(&server->received, number + 1));
            CHECK(run_count(&client.received, number + 1));
        }
    }
    CHECK(!server->damaged && !client.damaged && !server->disorder && !client.disorder);
    CHECK(*link_peer_address(server->link) != 0);
    unpair(&client, server);
}

static void bursts_keep_their_order(void)
{
    struct end client, *server = pair(&client);
    uint32_t sent = 0;

    while (sent < 3000 && tap_ok) {
        uint32_t random = sent * 2654435761u >> 8;
        uint32_t payload_len = random & 1 ? (random >> 1) % 9000 : random & 2 ? (random >> 2) % 60000 : 0;
        int result = send_one(&client, sent, random % 300, payload_len);
        if (result == 0) {
            sent++;
        } else {
            /* Full, or the arena is: both pass. */
            CHECK(result == -ERR_BUSY || result == -ERR_NO_MEMORY);
            CHECK(run_count(&server->received, server->received + 1));
        }
    }
    CHECK(run_count(&server->received, sent));
    CHECK(!server->damaged && !server->disorder && server->dropped == 0);
    unpair(&client, server);
}

/* Frames that may wait keep their place among the others, and go without any. */
static void patient_frames_arrive(void)
{
    struct end client, *server = pair(&client);
    uint32_t number = 0;

    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < round % 4; i++)
            CHECK_EQ(send_one(&client, number++, 100, i * 5000), 0);
        send_patient = true;
        for (uint32_t i = 0; i <= round % 3; i++)
            CHECK_EQ(send_one(&client, number++, 100, i * 5000), 0);
        send_patient = false;
        if (round & 1)
            CHECK_EQ(send_one(&client, number++, 100, 0), 0);
        if (round % 5)
            CHECK(run_count(&server->received, number));
    }
    CHECK(run_count(&server->received, number));
    CHECK(!server->damaged && !server->disorder);
    unpair(&client, server);
}

static void payloads_are_gathered(void)
{
    struct end client, *server = pair(&client);

    CHECK_EQ(send_cut(&client, 0, 10, FRAME_PIECES_MAX * 1000, 1000), 0);
    CHECK_EQ(send_cut(&client, 1, 10, FRAME_PIECES_MAX * BLOCK_SIZE, BLOCK_SIZE), 0);
    CHECK_EQ(send_cut(&client, 2, 0, 3 * 100000 + 1, 100000), 0);
    CHECK(run_count(&server->received, 3));
    CHECK(!server->damaged && !server->disorder);
    unpair(&client, server);
}

static void payloads_can_be_kept(void)
{
    struct end client, *server = pair(&client);

    server->keep = true;
    CHECK_EQ(send_one(&client, 0, 10, 5000), 0);
    CHECK_EQ(send_one(&client, 1, 10, 5000), 0);
    CHECK(run_count(&server->received, 2));
    CHECK(server->kept.buf && server->kept.buf->refs == 1);
    CHECK(pattern_holds(slice_data(&server->kept), 5000, 2));
    suite->world->enter(suite->world, 1);
    slice_unref(&server->kept);
    suite->world->leave(suite->world, 1);
    unpair(&client, server);
}

static void payloads_land_where_the_owner_wants_them(void)
{
    static const uint32_t payloads[] = {1, 4096, 5000, 20000, 100000, 300001, FRAME_PAYLOAD_MAX};
    static uint8_t place[FRAME_PAYLOAD_MAX + 1]; /* any alignment will do */
    struct end client, *server = pair(&client);
    struct arena *arena = suite->world->core[1]->arena;
    uint32_t number = 0;

    server->place = place + 1;
    for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
        place[0] = 0x5a;
        memset(place + 1, 0xee, sizeof(place) - 1);
        CHECK_EQ(send_one(&client, number++, 10, payloads[i]), 0);
        CHECK_EQ(send_one(&client, number++, 10, payloads[i]), 0);
        CHECK_EQ(send_one(&client, number++, 10, 0), 0);
        CHECK_EQ(send_one(&client, number++, 10, 0), 0);
        CHECK(run_count(&server->received, number));
        CHECK_EQ(place[0], 0x5a);
        for (size_t at = payloads[i] + 1; at < sizeof(place); at++)
            CHECK(place[at] == 0xee);
        CHECK_EQ(arena_free_bytes(arena), arena_size(arena));
    }
    CHECK_EQ(server->placed, ARRAY_LEN(payloads));
    CHECK(!server->damaged && !server->disorder && server->dropped == 0);
    unpair(&client, server);
}

static void without_memory_payloads_are_dropped(void)
{
    struct end client, *server = pair(&client);
    struct arena *arena = suite->world->core[1]->arena;
    static struct buf *all[WORLD_ARENA_SIZE / BLOCK_SIZE + 1];
    uint32_t count = 0, number = 0;

    CHECK_EQ(send_one(&client, number++, 10, 4096), 0);
    CHECK_EQ(send_one(&client, number++, 10, 300000), 0);
    CHECK_EQ(send_one(&client, number++, 10, 0), 0);
    suite->world->enter(suite->world, 1);
    while ((all[count] = buf_new(arena, BLOCK_SIZE)))
        count++;
    suite->world->leave(suite->world, 1);
    CHECK(run_count(&server->received, 3));
    CHECK_EQ(server->dropped, 2);
    suite->world->enter(suite->world, 1);
    while (count)
        buf_unref(all[--count]);
    suite->world->leave(suite->world, 1);
    CHECK_EQ(send_one(&client, number++, 10, 300000), 0);
    CHECK(run_count(&server->received, 4));
    CHECK_EQ(server->dropped, 2);
    CHECK(!server->damaged && !server->disorder);
    unpair(&client, server);
}

static void the_queue_is_bounded(void)
{
    struct end client, *server = pair(&client);
    uint32_t sent = 0;
    int result;

    /* Nothing runs meanwhile, so nothing leaves. */
    while ((result = send_one(&client, sent, 100, 8192)) == 0 && sent < 100000)
        sent++;
    CHECK(result == -ERR_BUSY);
    CHECK(sent > 16);
    CHECK(link_queued_bytes(client.link) >= sent * (100 + 8192));
    CHECK(run_count(&server->received, sent));
    world_settle(suite->world);
    CHECK_EQ(link_queued_bytes(client.link), 0);
    CHECK_EQ(send_one(&client, sent, 100, 8192), 0);
    CHECK(run_count(&server->received, sent + 1));
    CHECK(!server->damaged && !server->disorder);
    /* And a full one may be closed. */
    while (send_one(&client, sent, 100, 8192) == 0)
        sent++;
    unpair(&client, server);
}

static void refused_and_malformed_addresses(void)
{
    static const char *const bad[] = {"",        "localhost:1", "1.2.3.4",   "1.2.3.4:", "1.2.3.4:99999",
                                      "1.2.3:5", ":7",          "1.2.3.4:7x"};
    struct end client;

    connect_end(&client, suite->dead_address);
    CHECK(client.link != NULL);
    CHECK(!client.closed);
    CHECK(run_until(&client.closed));
    CHECK_EQ(client.error, -ERR_UNREACHABLE);
    CHECK(!client.opened);
    world_settle(suite->world);
    CHECK_EQ(client.closed_count, 1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        connect_end(&client, bad[i]);
        CHECK(client.link == NULL);
        close_end(&(struct end){.closed = true});
    }
}

static void the_peer_learns_of_a_close(void)
{
    struct end client, *server = pair(&client);

    close_end(server);
    CHECK(run_until(&client.closed));
    CHECK_EQ(client.error, -ERR_CLOSED);
    world_settle(suite->world);
    CHECK_EQ(client.closed_count, 1);
    CHECK_EQ(server->closed_count, 0);

    server = pair(&client);
    close_end(&client);
    CHECK(run_until(&server->closed));
    CHECK_EQ(server->error, -ERR_CLOSED);
    CHECK_EQ(client.closed_count, 0);
    unpair(&client, server);
}

static void closing_inside_a_message(void)
{
    struct end client, *server = pair(&client);

    server->close_at_message = true;
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(send_one(&client, i, 50, i & 1 ? 5000 : 0), 0);
    CHECK(run_until(&client.closed));
    world_settle(suite->world);
    CHECK_EQ(server->received, 1);
    CHECK_EQ(server->closed_count, 0);
    CHECK(!server->damaged);
    unpair(&client, server);
}

static void closing_at_the_beginning(void)
{
    struct end client, *server;

    /* Inside `opened`. */
    server_count = 0;
    connect_end(&client, server_address);
    client.close_at_opened = true;
    CHECK(run_until(&client.closed));
    /* At once. */
    connect_end(&client, server_address);
    close_end(&client);
    world_settle(suite->world);
    CHECK(!client.opened && client.closed_count == 0);
    for (uint32_t i = 0; i < server_count; i++)
        close_end(&server_ends[i]);
    /* Inside `accepted`. */
    server_count = 0;
    server_closes = true;
    connect_end(&client, server_address);
    CHECK(run_until(&client.closed));
    server_closes = false;
    world_settle(suite->world);
    CHECK_EQ(server_ends[0].closed_count, 0);
    server = pair(&client);
    CHECK_EQ(send_one(&client, 0, 5, 5), 0);
    CHECK(run_count(&server->received, 1));
    unpair(&client, server);
}

static void listeners_stop(void)
{
    struct end client;
    int other;
    char address[128];
    struct world *world = suite->world;

    world->enter(world, 1);
    CHECK_EQ(suite->net[1]->ops->listen(suite->net[1], suite->listen_address, on_accepted, &other, address,
                                        sizeof(address)),
             0);
    world->leave(world, 1);
    server_count = 0;
    connect_end(&client, address);
    CHECK(run_until(&client.opened));
    CHECK(run_count(&server_count, 1));
    world->enter(world, 1);
    suite->net[1]->ops->unlisten(suite->net[1], &other);
    world->leave(world, 1);
    world_settle(world);
    /* What was accepted goes on. */
    CHECK_EQ(send_one(&client, 0, 5, 5), 0);
    CHECK(run_count(&server_ends[0].received, 1));
    struct end late;
    connect_end(&late, address);
    CHECK(run_until(&late.closed));
    CHECK_EQ(late.error, -ERR_UNREACHABLE);
    unpair(&client, &server_ends[0]);
    /* The other listener is untouched. */
    struct end *server = pair(&client);
    unpair(&client, server);
}

static void net_suite(struct net_suite *in_suite)
{
    int result;

    suite = in_suite;
    struct world *world = suite->world;
    world->enter(world, 1);
    result = suite->net[1]->ops->listen(suite->net[1], suite->listen_address, on_accepted, NULL,
                                        server_address, sizeof(server_address));
    world->leave(world, 1);
    if (result) {
        printf("Bail out! cannot listen: %s\n", error_name(result));
        return;
    }
    TEST(frames_arrive_whole);
    TEST(bursts_keep_their_order);
    TEST(patient_frames_arrive);
    TEST(payloads_are_gathered);
    TEST(payloads_can_be_kept);
    TEST(payloads_land_where_the_owner_wants_them);
    TEST(without_memory_payloads_are_dropped);
    TEST(the_queue_is_bounded);
    TEST(refused_and_malformed_addresses);
    TEST(the_peer_learns_of_a_close);
    TEST(closing_inside_a_message);
    TEST(closing_at_the_beginning);
    TEST(listeners_stop);
}

#endif
