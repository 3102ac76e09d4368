/* SPDX-License-Identifier: Apache-2.0
 *
 * Sealing and opening frames, on a link that keeps what it was given.
 */
#include "rpc/frames.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "tests/tap.h"

static uint8_t head[FRAME_HEADER_SIZE + 64];
static uint32_t head_len, payload_len;
static uint8_t payload[3 * BLOCK_SIZE];
static int send_result;

static int keep_send(struct link *link, const struct frame *frame)
{
    if (send_result)
        return send_result;
    memcpy(head, frame->head, frame->head_len);
    head_len = frame->head_len;
    payload_len = 0;
    for (uint32_t i = 0; i < frame->piece_count; i++) {
        if (frame->pieces[i].len)
            memcpy(payload + payload_len, slice_data(&frame->pieces[i]), frame->pieces[i].len);
        payload_len += frame->pieces[i].len;
    }
    return 0;
}

static const struct net_ops keep_ops = {.send = keep_send};
static struct net keep_net = {.ops = &keep_ops};
static struct link keep_link = {.net = &keep_net};

/* A buffer outside of any arena, that nobody gives back. */
static struct buf data_buf = {.refs = 1, .size_bytes = sizeof(payload)};

static struct frame received(void)
{
    static uint8_t copy[sizeof(payload)];
    static struct buf buf = {.refs = 1};

    memcpy(copy, payload, sizeof(copy));
    buf.data = copy;
    struct frame frame = {.head = head, .head_len = head_len};
    if (payload_len)
        frame.payload = (struct slice){&buf, 0, payload_len};
    return frame;
}

static void send_payload(enum method method)
{
    static uint8_t data[sizeof(payload)];
    RPC_FRAME_SCRATCH(scratch, 16);

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    data_buf.data = data;
    struct slice pieces[] = {{&data_buf, 10, 4000}, {NULL, 0, 0}, {&data_buf, 5000, 3000}};
    memcpy(rpc_body(scratch), "0123456789", 10);
    struct rpc_envelope envelope = {method, FRAME_REPLY, -ERR_RETRY, 99, false};
    CHECK_EQ(rpc_frame_send(&keep_link, &envelope, rpc_body(scratch), 10, pieces, 3), 0);
}

static void round_trip(void)
{
    struct rpc_message message;

    send_payload(METHOD_MON);
    struct frame frame = received();
    CHECK_EQ(rpc_frame_open(&frame, &message), 0);
    CHECK_EQ(message.method, METHOD_MON);
    CHECK_EQ(message.flags, FRAME_REPLY);
    CHECK_EQ(message.result, -ERR_RETRY);
    CHECK_EQ(message.request_id, 99);
    CHECK(message.body_len == 10 && memcmp(message.body, "0123456789", 10) == 0);
    CHECK_EQ(message.payload.len, 7000);
}

/* The header vouches for a payload unless the body does. */
static void payload_checksum(void)
{
    static const struct {
        enum method method;
        bool by_header;
    } cases[] = {
        {METHOD_WRITE, false}, {METHOD_READ, false}, {METHOD_APPEND, false}, {METHOD_RECOVER_READ, false},
        {METHOD_MON, true},    {METHOD_PERF, true},  {METHOD_RAFT, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct frame_header header;
        struct rpc_message message;
        send_payload(cases[i].method);
        CHECK_EQ(frame_validate_header(head, &header), 0);
        CHECK_EQ(header.payload_len, 7000);
        CHECK_EQ(header.payload_crc, cases[i].by_header ? crc32c(0, payload, payload_len) : 0);
        payload[4321] ^= 4;
        struct frame frame = received();
        CHECK_EQ(rpc_frame_open(&frame, &message), cases[i].by_header ? -ERR_CHECKSUM : 0);
        frame.payload = (struct slice){0};
        frame.payload_dropped = true;
        CHECK_EQ(rpc_frame_open(&frame, &message), 0);
        CHECK(message.payload_dropped);
    }
}

/* A link is trusted to deliver whole frames, but not at the price of reading beyond one. */
static void lengths(void)
{
    struct rpc_message message;

    send_payload(METHOD_WRITE);
    struct frame frame = received();
    frame.head_len--;
    CHECK_EQ(rpc_frame_open(&frame, &message), -ERR_PROTOCOL);
    frame.head_len = FRAME_HEADER_SIZE - 1;
    CHECK_EQ(rpc_frame_open(&frame, &message), -ERR_PROTOCOL);
    frame = received();
    frame.payload.len--;
    CHECK_EQ(rpc_frame_open(&frame, &message), -ERR_PROTOCOL);
    frame.payload = (struct slice){0};
    CHECK_EQ(rpc_frame_open(&frame, &message), -ERR_PROTOCOL);
}

static void limits(void)
{
    struct rpc_envelope envelope = {METHOD_WRITE, FRAME_REQUEST, 0, 1, false};
    struct slice big = {&data_buf, 0, FRAME_PAYLOAD_MAX + 1};
    struct slice halves[] = {{&data_buf, 0, UINT32_MAX}, {&data_buf, 0, 2}};
    uint8_t *body = malloc(FRAME_HEADER_SIZE + FRAME_BODY_MAX + 1);

    CHECK_EQ(rpc_frame_send(&keep_link, &envelope, NULL, 0, &big, 1), -ERR_TOO_LARGE);
    CHECK_EQ(rpc_frame_send(&keep_link, &envelope, NULL, 0, halves, 2), -ERR_TOO_LARGE);
    CHECK_EQ(rpc_frame_send(&keep_link, &envelope, body + FRAME_HEADER_SIZE, FRAME_BODY_MAX + 1, NULL, 0),
             -ERR_TOO_LARGE);
    send_result = -ERR_BUSY;
    CHECK_EQ(rpc_frame_send(&keep_link, &envelope, NULL, 0, NULL, 0), -ERR_BUSY);
    send_result = 0;
    free(body);
}

int main(void)
{
    TEST(round_trip);
    TEST(payload_checksum);
    TEST(lengths);
    TEST(limits);
    return tap_done();
}
