/* SPDX-License-Identifier: Apache-2.0
 *
 * The network: order within a link, the fates of one-way frames, partitions, refusals, and what peers of a
 * crashed node see.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "sim/sim_net.h"
#include "tests/tap.h"
#include "wire/frame.h"

#define SERVER "10.0.0.1:7000"

static struct {
    struct sim *sim;
    struct sim_net *net;
    struct sim_node *server, *client;
    struct link *at_server, *at_client;
    bool opened;
    int client_closed, server_closed; /* the error, 1: not yet */
    uint64_t got[4096];
    uint32_t got_count;
    uint32_t payloads_dropped, payload_bytes;
    uint8_t *place; /* where payloads are to land; NULL: in buffers */
    uint32_t placed;
} t;

static void server_message(void *owner, struct link *link, const struct frame *frame)
{
    struct frame_header header;

    CHECK_EQ(frame_validate_header(frame->head, &header), 0);
    CHECK_EQ(le_load_u64(frame->head + FRAME_HEADER_SIZE), header.request_id);
    if (t.got_count < ARRAY_LEN(t.got))
        t.got[t.got_count++] = header.request_id;
    t.payloads_dropped += frame->payload_dropped;
    t.payload_bytes += frame->payload.len;
    t.placed += frame->placed != NULL;
    for (uint32_t i = 0; i < frame->payload.len; i++)
        CHECK(slice_data(&frame->payload)[i] == 0x5c);
}

static void server_gone(void *owner, struct link *link, int error)
{
    t.server_closed = error;
    t.at_server = NULL;
}

static uint8_t *server_place(void *owner, struct link *link, const uint8_t *head, uint32_t head_len,
                             uint32_t payload_len)
{
    return t.place;
}

static const struct link_events SERVER_EVENTS = {
    .message = server_message, .closed = server_gone, .place = server_place};

static void server_accepted(void *owner, struct link *link)
{
    t.at_server = link;
    link_own(link, &SERVER_EVENTS, NULL);
}

static void client_message(void *owner, struct link *link, const struct frame *frame)
{
}

static void client_opened(void *owner, struct link *link)
{
    t.opened = true;
}

static void client_gone(void *owner, struct link *link, int error)
{
    t.client_closed = error;
    t.at_client = NULL;
}

static const struct link_events CLIENT_EVENTS = {
    .message = client_message, .opened = client_opened, .closed = client_gone};

static void server_start(void *owner, struct sim_node *node)
{
    struct net *net = sim_net_port(t.net, node);
    char bound[64];

    CHECK_EQ(net->ops->listen(net, SERVER, server_accepted, NULL, bound, sizeof(bound)), 0);
    CHECK(strcmp(bound, SERVER) == 0);
}

static void client_connect(void)
{
    t.opened = false;
    t.client_closed = t.server_closed = 1;
    sim_node_enter(t.client);
    t.at_client = link_connect(sim_net_port(t.net, t.client), SERVER, &CLIENT_EVENTS, NULL);
    sim_node_leave(t.client);
    CHECK(t.at_client);
}

static void nothing(void *owner, struct sim_node *node)
{
}

static void crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    if (node == t.client)
        t.at_client = NULL;
    else
        t.at_server = NULL;
}

static void set_up(uint64_t seed, const struct sim_net_faults *faults)
{
    memset(&t, 0, sizeof(t));
    t.sim = sim_new(seed, false);
    t.net =
        sim_net_new(t.sim, &(struct sim_net_config){.faults = faults ? *faults : (struct sim_net_faults){0}});
    t.server = sim_node_new(t.sim, &(struct sim_node_config){.name = "server",
                                                             .host = "10.0.0.1",
                                                             .arena_bytes = BUF_SIZE_MAX,
                                                             .start = server_start,
                                                             .crashed = crashed});
    t.client = sim_node_new(t.sim, &(struct sim_node_config){.name = "client",
                                                             .host = "10.0.0.2",
                                                             .arena_bytes = BUF_SIZE_MAX,
                                                             .start = nothing,
                                                             .crashed = crashed});
    sim_net_port(t.net, t.server);
    sim_net_port(t.net, t.client);
    sim_node_start(t.server);
    sim_node_start(t.client);
    client_connect();
}

static void set_up_open(uint64_t seed, const struct sim_net_faults *faults)
{
    set_up(seed, faults);
    sim_run_for(t.sim, NS_PER_S);
    CHECK(t.opened && t.at_server);
}

static void tear_down(void)
{
    sim_net_free(t.net);
    sim_free(t.sim);
}

static int send_frame(uint16_t flags, uint64_t id, uint32_t payload_len)
{
    uint8_t head[FRAME_HEADER_SIZE + 8];
    struct frame frame = {.head = head, .head_len = sizeof(head)};
    struct slice piece = {0};

    le_store_u64(head + FRAME_HEADER_SIZE, id);
    frame_encode(head, &(struct frame_header){.method = METHOD_PING,
                                              .flags = flags,
                                              .request_id = id,
                                              .body_len = 8,
                                              .payload_len = payload_len});
    sim_node_enter(t.client);
    if (payload_len) {
        piece = (struct slice){buf_new(t.client->core.arena, payload_len), 0, payload_len};
        memset(piece.buf->data, 0x5c, payload_len);
        frame.pieces = &piece;
        frame.piece_count = 1;
    }
    int error = link_send(t.at_client, &frame);
    buf_unref(piece.buf);
    sim_node_leave(t.client);
    return error;
}

static void requests_keep_order(void)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        set_up_open(seed, &(struct sim_net_faults){.slow_ppm = 100000, .slow_ns = 5 * NS_PER_MS});
        for (uint64_t i = 0; i < 1000; i++)
            CHECK_EQ(send_frame(FRAME_REQUEST, i, 0), 0);
        sim_run_for(t.sim, 10 * NS_PER_S);
        CHECK_EQ(t.got_count, 1000);
        for (uint32_t i = 0; i < t.got_count; i++)
            CHECK_EQ(t.got[i], i);
        tear_down();
    }
}

static void oneway_frames_suffer(void)
{
    uint32_t seen[1000] = {0}, lost = 0, twice = 0, overtaken = 0;

    set_up_open(1, &(struct sim_net_faults){
                       .oneway_drop_ppm = 100000, .oneway_dup_ppm = 100000, .oneway_reorder_ppm = 100000});
    for (uint64_t i = 0; i < 1000; i++)
        CHECK_EQ(send_frame(FRAME_ONEWAY, i, 0), 0);
    sim_run_for(t.sim, NS_PER_S);
    for (uint32_t i = 0; i < t.got_count; i++) {
        seen[t.got[i]]++;
        overtaken += i && t.got[i] < t.got[i - 1];
    }
    for (uint32_t i = 0; i < 1000; i++) {
        lost += seen[i] == 0;
        twice += seen[i] == 2;
    }
    CHECK(lost > 20 && twice > 20 && overtaken > 20);
    tear_down();
}

static void payloads(void)
{
    set_up_open(1, NULL);
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 3 * BLOCK_SIZE), 0);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.payload_bytes, 3 * BLOCK_SIZE);
    CHECK_EQ(t.payloads_dropped, 0);
    struct buf *all = buf_new(t.server->core.arena, BUF_SIZE_MAX);
    CHECK_EQ(send_frame(FRAME_REQUEST, 2, BLOCK_SIZE), 0);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.got_count, 2);
    CHECK_EQ(t.payloads_dropped, 1);
    buf_unref(all);
    tear_down();
}

static void partition_delays(void)
{
    set_up_open(1, NULL);
    sim_net_set_path(t.net, "10.0.0.2", "10.0.0.1", SIM_PATH_BLOCK);
    for (uint64_t i = 0; i < 10; i++)
        CHECK_EQ(send_frame(FRAME_REQUEST, i, 0), 0);
    sim_run_for(t.sim, 2 * NS_PER_S);
    CHECK_EQ(t.got_count, 0);
    sim_net_heal(t.net);
    CHECK_EQ(send_frame(FRAME_REQUEST, 10, 0), 0);
    sim_run_for(t.sim, 5 * NS_PER_S);
    CHECK_EQ(t.got_count, 11);
    for (uint32_t i = 0; i < t.got_count; i++)
        CHECK_EQ(t.got[i], i);
    tear_down();
}

static void long_partition_breaks(void)
{
    set_up_open(1, NULL);
    sim_net_isolate(t.net, "10.0.0.1", SIM_PATH_BLOCK);
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
    sim_run_for(t.sim, 30 * NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_TIMEOUT);
    CHECK_EQ(t.server_closed, 1); /* it knows nothing: it sent nothing */
    client_connect();
    sim_run_for(t.sim, 30 * NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_TIMEOUT);
    tear_down();
}

static void refusals(void)
{
    set_up_open(1, NULL);
    sim_node_crash(t.server, SIM_CRASH_POWER);
    client_connect();
    sim_run_for(t.sim, 30 * NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_TIMEOUT); /* no machine, no answer */
    sim_node_start(t.server);
    client_connect();
    sim_run_for(t.sim, NS_PER_S);
    CHECK(t.opened);
    sim_net_isolate(t.net, "10.0.0.1", SIM_PATH_REJECT);
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_CLOSED);
    client_connect();
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_UNREACHABLE);
    sim_net_heal(t.net);
    /* The machine lives, nobody listens. */
    t.server->config.start = nothing;
    sim_node_crash(t.server, SIM_CRASH_PROCESS);
    sim_node_start(t.server);
    client_connect();
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_UNREACHABLE);
    sim_node_enter(t.client);
    CHECK(!link_connect(sim_net_port(t.net, t.client), "nonsense", &CLIENT_EVENTS, NULL));
    sim_node_leave(t.client);
    tear_down();
}

static void peers_of_the_dead(void)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        set_up_open(seed, NULL);
        sim_node_crash(t.server, SIM_CRASH_PROCESS);
        sim_node_start(t.server);
        sim_run_for(t.sim, NS_PER_S);
        CHECK_EQ(t.client_closed, -ERR_CLOSED);
        tear_down();
        /* No power: silence, until the machine is back and does not know the link. */
        set_up_open(seed, NULL);
        sim_node_crash(t.server, SIM_CRASH_POWER);
        sim_run_for(t.sim, NS_PER_S);
        CHECK_EQ(t.client_closed, 1);
        CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
        sim_run_for(t.sim, NS_PER_S);
        CHECK_EQ(t.client_closed, 1);
        sim_node_start(t.server);
        sim_run_for(t.sim, 5 * NS_PER_S);
        CHECK_EQ(t.client_closed, -ERR_CLOSED);
        CHECK_EQ(t.got_count, 0);
        tear_down();
    }
}

static void frames_outlive_their_sender(void)
{
    uint32_t late = 0;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        set_up_open(seed, NULL);
        CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
        sim_node_enter(t.client);
        link_close(t.at_client);
        sim_node_leave(t.client);
        sim_run_for(t.sim, NS_PER_S);
        late += t.got_count;
        CHECK_EQ(t.server_closed, -ERR_CLOSED);
        CHECK_EQ(sim_net_stats(t.net).late, t.got_count);
        tear_down();
    }
    CHECK(late > 0 && late < 20);
}

static void paused_receiver_gets_it_later(void)
{
    set_up_open(1, NULL);
    sim_node_pause(t.server);
    for (uint64_t i = 0; i < 20; i++)
        CHECK_EQ(send_frame(FRAME_REQUEST, i, 0), 0);
    sim_run_for(t.sim, 3 * NS_PER_S);
    CHECK_EQ(t.got_count, 0);
    sim_node_resume(t.server);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.got_count, 20);
    for (uint32_t i = 0; i < t.got_count; i++)
        CHECK_EQ(t.got[i], i);
    CHECK_EQ(t.client_closed, 1);
    sim_node_pause(t.server);
    CHECK_EQ(send_frame(FRAME_REQUEST, 20, 0), 0);
    sim_run_for(t.sim, NS_PER_S);
    tear_down(); /* with a frame that waits for it */
}

/* The kernel of a process that is stopped accepts, and keeps what comes. */
static void paused_listener_is_connected_to(void)
{
    for (int dies = 0; dies < 2; dies++) {
        set_up(1, NULL);
        sim_node_pause(t.server);
        sim_run_for(t.sim, NS_PER_S);
        CHECK(t.opened && !t.at_server);
        CHECK_EQ(send_frame(FRAME_REQUEST, 0, 0), 0);
        sim_run_for(t.sim, NS_PER_S);
        CHECK(!t.at_server);
        CHECK_EQ(t.client_closed, 1);
        if (dies)
            sim_node_crash(t.server, SIM_CRASH_PROCESS);
        else
            sim_node_resume(t.server);
        sim_run_for(t.sim, NS_PER_S);
        CHECK_EQ(t.got_count, !dies);
        CHECK_EQ(t.client_closed, dies ? -ERR_CLOSED : 1);
        tear_down();
    }
}

/* Memory for a payload is filled from when its head has come; a link that is closed before the end writes to
 * it no more. */
static void payloads_are_placed_bit_by_bit(void)
{
    static uint8_t memory[4 * BLOCK_SIZE];

    for (int close = 0; close < 2; close++) {
        set_up_open(1, &(struct sim_net_faults){.slow_ppm = 1000000, .slow_ns = NS_PER_S});
        memset(memory, 0, sizeof(memory));
        t.place = memory;
        CHECK_EQ(send_frame(FRAME_REQUEST, 0, sizeof(memory)), 0);
        sim_run_for(t.sim, NS_PER_S / 2);
        CHECK_EQ(t.got_count, 0);
        CHECK_EQ(memory[0], 0x5c);
        CHECK_EQ(memory[sizeof(memory) - 1], 0);
        if (close) {
            sim_node_enter(t.server);
            link_close(t.at_server);
            sim_node_leave(t.server);
            memset(memory, 0, sizeof(memory));
        }
        sim_run_for(t.sim, 2 * NS_PER_S);
        CHECK_EQ(t.got_count, !close);
        CHECK_EQ(t.placed, !close);
        CHECK_EQ(memory[0], close ? 0 : 0x5c);
        CHECK_EQ(memory[sizeof(memory) - 1], close ? 0 : 0x5c);
        tear_down();
    }
}

static void corrupt_frames_close(void)
{
    set_up_open(1, NULL);
    sim_net_set_faults(t.net, &(struct sim_net_faults){.corrupt_ppm = 1000000});
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.got_count, 0);
    CHECK_EQ(t.server_closed, -ERR_PROTOCOL);
    CHECK_EQ(t.client_closed, -ERR_CLOSED);
    tear_down();
}

static void blackhole_and_break(void)
{
    set_up_open(1, &(struct sim_net_faults){.blackhole_ppm = 1000000});
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
    sim_run_for(t.sim, 30 * NS_PER_S);
    CHECK_EQ(t.got_count, 0);
    CHECK_EQ(t.client_closed, -ERR_TIMEOUT);
    tear_down();
    set_up_open(1, &(struct sim_net_faults){.break_ppm = 1000000});
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), 0);
    CHECK_EQ(send_frame(FRAME_REQUEST, 1, 0), -ERR_CLOSED);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(t.client_closed, -ERR_CLOSED);
    CHECK_EQ(t.server_closed, -ERR_CLOSED);
    tear_down();
}

static void queue_is_bounded(void)
{
    set_up_open(1, NULL);
    sim_net_isolate(t.net, "10.0.0.1", SIM_PATH_BLOCK);
    int error = 0;
    for (uint64_t i = 0; i < 100 && !error; i++)
        error = send_frame(FRAME_REQUEST, i, 1u << 20);
    CHECK_EQ(error, -ERR_BUSY);
    tear_down();
}

int main(void)
{
    TEST(requests_keep_order);
    TEST(oneway_frames_suffer);
    TEST(payloads);
    TEST(partition_delays);
    TEST(long_partition_breaks);
    TEST(refusals);
    TEST(peers_of_the_dead);
    TEST(frames_outlive_their_sender);
    TEST(paused_receiver_gets_it_later);
    TEST(paused_listener_is_connected_to);
    TEST(payloads_are_placed_bit_by_bit);
    TEST(corrupt_frames_close);
    TEST(blackhole_and_break);
    TEST(queue_is_bounded);
    return tap_done();
}
