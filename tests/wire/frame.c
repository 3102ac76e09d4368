/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame header: its bytes, and every field out of bounds.
 */
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/le.h"
#include "tests/tap.h"
#include "wire/frame.h"

static const struct frame_header header = {
    .method = METHOD_APPEND,
    .flags = FRAME_REPLY,
    .result = -ERR_RETRY,
    .request_id = 0x1122334455667788,
    .body_len = 5,
    .payload_len = 8192,
    .payload_crc = 0xdeadbeef,
};

static void encode(uint8_t frame[FRAME_HEADER_SIZE + 5])
{
    memcpy(frame + FRAME_HEADER_SIZE, "hello", 5);
    frame_encode(frame, &header);
}

static void bytes(void)
{
    static const uint8_t expected[40] = {
        'F',  'B',  'B',  'K',  1, 0, 32, 0, 2, 0,    48, 0, 0xf9, 0xff, 0xff, 0xff, 0x88, 0x77, 0x66, 0x55,
        0x44, 0x33, 0x22, 0x11, 5, 0, 0,  0, 0, 0x20, 0,  0, 0xef, 0xbe, 0xad, 0xde, 0,    0,    0,    0,
    };
    uint8_t frame[FRAME_HEADER_SIZE + 5], zeroed[FRAME_HEADER_SIZE + 5];

    encode(frame);
    CHECK(memcmp(frame, expected, sizeof(expected)) == 0);
    memcpy(zeroed, frame, sizeof(frame));
    le_store_u32(zeroed + 40, 0);
    CHECK_EQ(le_load_u32(frame + 40), crc32c(0, zeroed, sizeof(zeroed)));
    CHECK_EQ(le_load_u32(frame + 44), 0);
}

static void round_trip(void)
{
    uint8_t frame[FRAME_HEADER_SIZE + 5];
    struct frame_header got;

    encode(frame);
    CHECK_EQ(frame_validate_header(frame, &got), 0);
    CHECK_EQ(frame_validate_body(frame, &got), 0);
    CHECK_EQ(got.method, header.method);
    CHECK_EQ(got.flags, header.flags);
    CHECK_EQ(got.result, header.result);
    CHECK_EQ(got.request_id, header.request_id);
    CHECK_EQ(got.body_len, header.body_len);
    CHECK_EQ(got.payload_len, header.payload_len);
    CHECK_EQ(got.payload_crc, header.payload_crc);
}

/* Each single bit of header and body is covered by a rule or by the checksum. */
static void every_bit_counts(void)
{
    uint8_t frame[FRAME_HEADER_SIZE + 5];
    struct frame_header got;

    encode(frame);
    for (size_t bit = 0; bit < sizeof(frame) * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        /* A wrong body length would have the link wait for more bytes: here there are no more. */
        bool caught =
            frame_validate_header(frame, &got) || got.body_len != 5 || frame_validate_body(frame, &got);
        CHECK(caught);
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void out_of_bounds(void)
{
    static const struct {
        uint8_t at, size;
        uint32_t value;
        int error;
    } cases[] = {
        {0, 4, FRAME_MAGIC + 1, -ERR_PROTOCOL},
        {4, 2, FRAME_VERSION + 1, -ERR_VERSION},
        {4, 2, 0, -ERR_VERSION},
        {8, 2, 0, -ERR_PROTOCOL},
        {8, 2, FRAME_REQUEST | FRAME_REPLY, -ERR_PROTOCOL},
        {8, 2, 8, -ERR_PROTOCOL},
        {8, 2, FRAME_REQUEST, -ERR_PROTOCOL}, /* with a result */
        {10, 2, 52, -ERR_PROTOCOL},
        {12, 4, 1, -ERR_PROTOCOL},
        {12, 4, 0x80000000u, -ERR_PROTOCOL},
        {12, 4, 0, 0},
        {24, 4, FRAME_BODY_MAX, 0},
        {24, 4, FRAME_BODY_MAX + 1, -ERR_PROTOCOL},
        {24, 4, UINT32_MAX, -ERR_PROTOCOL},
        {28, 4, FRAME_PAYLOAD_MAX, 0},
        {28, 4, FRAME_PAYLOAD_MAX + 1, -ERR_PROTOCOL},
        {28, 4, 0, -ERR_PROTOCOL}, /* with a checksum */
        {36, 4, 1, -ERR_PROTOCOL},
        {44, 4, 1, -ERR_PROTOCOL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t frame[FRAME_HEADER_SIZE + 5];
        struct frame_header got;
        encode(frame);
        if (cases[i].size == 2)
            le_store_u16(frame + cases[i].at, (uint16_t)cases[i].value);
        else
            le_store_u32(frame + cases[i].at, cases[i].value);
        CHECK_EQ(frame_validate_header(frame, &got), cases[i].error);
    }
}

int main(void)
{
    TEST(bytes);
    TEST(round_trip);
    TEST(every_bit_counts);
    TEST(out_of_bounds);
    return tap_done();
}
