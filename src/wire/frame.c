/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame header at its offsets. See docs/format/wire.md.
 */
#include "wire/frame.h"

#include "base/crc32c.h"
#include "base/error.h"
#include "base/le.h"

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_METHOD = 6,
    AT_FLAGS = 8,
    AT_HEADER_LEN = 10,
    AT_RESULT = 12,
    AT_REQUEST_ID = 16,
    AT_BODY_LEN = 24,
    AT_PAYLOAD_LEN = 28,
    AT_PAYLOAD_CRC = 32,
    AT_RESERVED_1 = 36,
    AT_CHECKSUM = 40,
    AT_RESERVED_2 = 44,
    AT_END = 48,
};
_Static_assert(AT_END == FRAME_HEADER_SIZE, "the header fills its size");

/* Of a frame that has its checksum in place already. */
static uint32_t frame_checksum(const uint8_t *frame, uint32_t body_len)
{
    static const uint8_t zero[AT_RESERVED_2 - AT_CHECKSUM];
    uint32_t crc = crc32c(0, frame, AT_CHECKSUM);

    crc = crc32c(crc, zero, sizeof(zero));
    return crc32c(crc, frame + AT_RESERVED_2, AT_END - AT_RESERVED_2 + (size_t)body_len);
}

void frame_encode(uint8_t *frame, const struct frame_header *header)
{
    ASSERT(header->body_len <= FRAME_BODY_MAX && header->payload_len <= FRAME_PAYLOAD_MAX);
    le_store_u32(frame + AT_MAGIC, FRAME_MAGIC);
    le_store_u16(frame + AT_VERSION, FRAME_VERSION);
    le_store_u16(frame + AT_METHOD, header->method);
    le_store_u16(frame + AT_FLAGS, header->flags);
    le_store_u16(frame + AT_HEADER_LEN, FRAME_HEADER_SIZE);
    le_store_u32(frame + AT_RESULT, (uint32_t)header->result);
    le_store_u64(frame + AT_REQUEST_ID, header->request_id);
    le_store_u32(frame + AT_BODY_LEN, header->body_len);
    le_store_u32(frame + AT_PAYLOAD_LEN, header->payload_len);
    le_store_u32(frame + AT_PAYLOAD_CRC, header->payload_crc);
    le_store_u32(frame + AT_RESERVED_1, 0);
    le_store_u32(frame + AT_RESERVED_2, 0);
    le_store_u32(frame + AT_CHECKSUM, 0);
    le_store_u32(frame + AT_CHECKSUM, crc32c(0, frame, FRAME_HEADER_SIZE + (size_t)header->body_len));
}

int frame_validate_header(const uint8_t bytes[FRAME_HEADER_SIZE], struct frame_header *ret_header)
{
    if (le_load_u32(bytes + AT_MAGIC) != FRAME_MAGIC)
        return -ERR_PROTOCOL;
    if (le_load_u16(bytes + AT_VERSION) != FRAME_VERSION)
        return -ERR_VERSION;
    struct frame_header header = {
        .method = le_load_u16(bytes + AT_METHOD),
        .flags = le_load_u16(bytes + AT_FLAGS),
        .result = (int32_t)le_load_u32(bytes + AT_RESULT),
        .request_id = le_load_u64(bytes + AT_REQUEST_ID),
        .body_len = le_load_u32(bytes + AT_BODY_LEN),
        .payload_len = le_load_u32(bytes + AT_PAYLOAD_LEN),
        .payload_crc = le_load_u32(bytes + AT_PAYLOAD_CRC),
    };
    bool one_flag =
        header.flags == FRAME_REQUEST || header.flags == FRAME_REPLY || header.flags == FRAME_ONEWAY;
    if (!one_flag || le_load_u16(bytes + AT_HEADER_LEN) != FRAME_HEADER_SIZE)
        return -ERR_PROTOCOL;
    if (header.result > 0 || header.result == INT32_MIN || (header.result && header.flags != FRAME_REPLY))
        return -ERR_PROTOCOL;
    if (header.body_len > FRAME_BODY_MAX || header.payload_len > FRAME_PAYLOAD_MAX)
        return -ERR_PROTOCOL;
    if (header.payload_crc && !header.payload_len)
        return -ERR_PROTOCOL;
    if (le_load_u32(bytes + AT_RESERVED_1) || le_load_u32(bytes + AT_RESERVED_2))
        return -ERR_PROTOCOL;
    *ret_header = header;
    return 0;
}

int frame_validate_body(const uint8_t *frame, const struct frame_header *header)
{
    if (le_load_u32(frame + AT_CHECKSUM) != frame_checksum(frame, header->body_len))
        return -ERR_CHECKSUM;
    return 0;
}
