/* SPDX-License-Identifier: Apache-2.0
 *
 * wire: frames and messages: encode, decode, validate. Pure functions on bytes. May include: base.
 *
 * A frame is a fixed header of 48 bytes, a protobuf body and a raw payload that protobuf never sees. The header's
 * checksum covers header and body; the payload of data frames is covered by the crc32c per block that the body carries
 * and that lives as long as the data does. All integers little-endian. See docs/format/wire.md.
 */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/base.h"

#define FRAME_MAGIC         0x4b424246u /* "FBBK" */
#define FRAME_VERSION       1
#define FRAME_HEADER_SIZE   48
#define FRAME_BODY_MAX      (1u << 20)
#define FRAME_PAYLOAD_MAX   (2u << 20)

/* What a frame asks for. Numbers are never reused. */
enum method {
    METHOD_HELLO           = 1,
    METHOD_PING            = 2,
    /* client to shard */
    METHOD_WRITE           = 16,
    METHOD_READ            = 17,
    METHOD_CLEAR           = 18, /* discard and write-zeroes */
    METHOD_ATTACH          = 19, /* announce a writer's incarnation and the image's generation to a PG */
    METHOD_BLOCK_STATUS    = 20, /* which blocks of an object are written */
    METHOD_PERF            = 21,
    METHOD_PG_TRANSFER     = 22, /* ask a PG's leader to hand leadership over */
    METHOD_PG_STATUS       = 23,
    /* shard to shard */
    METHOD_APPEND          = 32, /* one-way, as its reply */
    METHOD_APPEND_REPLY    = 33,
    METHOD_RAFT            = 34, /* one-way: votes, pre-votes, timeout-now, install */
    METHOD_HEARTBEAT       = 35, /* one-way, as its reply */
    METHOD_HEARTBEAT_REPLY = 36,
    METHOD_RECOVER_LIST    = 37,
    METHOD_RECOVER_READ    = 38,
    METHOD_SCRUB           = 39, /* a leader asks a member what its objects are */
    /* anyone to the monitor; one method, the body says which call */
    METHOD_MON             = 64,
    METHOD_MON_EVENT       = 65, /* one-way, monitor to subscriber */
};

enum frame_flags {
    FRAME_REQUEST  = 1, /* wants a reply with the same request id */
    FRAME_REPLY    = 2,
    FRAME_ONEWAY   = 4,
};

/* The header, decoded. On the wire, in this order: magic u32, version u16, method u16, flags u16, header length u16,
 * result i32, request id u64, body length u32, payload length u32, payload crc u32 (0: the body vouches for the payload),
 * reserved u32 (0), checksum u32 (crc32c of the header with this field zero, then of the body), reserved u32 (0). */
struct frame_header {
    uint16_t method;
    uint16_t flags;
    int32_t result;        /* replies: 0 or a negative code of base/error.h */
    uint64_t request_id;
    uint32_t body_len;
    uint32_t payload_len;
    uint32_t payload_crc;
};

/* Writes the header in front of a body that stands at `frame + FRAME_HEADER_SIZE` already and seals both. */
void frame_encode(uint8_t *frame, const struct frame_header *header);

/* Validates the fixed part: magic, version, flags, known lengths against their limits. 0, ERR_PROTOCOL or ERR_VERSION. */
MUST_CHECK int frame_validate_header(const uint8_t bytes[FRAME_HEADER_SIZE], struct frame_header *ret_header);

/* Validates the checksum once header and body are there; ERR_CHECKSUM. */
MUST_CHECK int frame_validate_body(const uint8_t *frame, const struct frame_header *header);

#endif
