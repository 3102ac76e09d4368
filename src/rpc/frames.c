/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames are built where the caller encoded the body: the header goes into the room in front of it, and the
 * link copies both once, into its send queue. Nothing here allocates.
 */
#include "rpc/frames.h"

#include "base/crc32c.h"
#include "base/error.h"

/* The bodies of these carry a checksum per block. */
static bool body_vouches(enum method method)
{
    return method == METHOD_WRITE || method == METHOD_READ || method == METHOD_APPEND ||
           method == METHOD_RECOVER_READ;
}

int rpc_frame_send(struct link *link, const struct rpc_envelope *envelope, const uint8_t *body,
                   uint32_t body_len, const struct slice *pieces, uint32_t piece_count)
{
    uint8_t alone[FRAME_HEADER_SIZE];
    uint8_t *head = body_len ? (uint8_t *)body - FRAME_HEADER_SIZE : alone;
    uint64_t payload_len = 0;
    uint32_t payload_crc = 0;

    ASSERT(piece_count <= FRAME_PIECES_MAX);
    for (uint32_t i = 0; i < piece_count; i++)
        payload_len += pieces[i].len;
    if (body_len > FRAME_BODY_MAX || payload_len > FRAME_PAYLOAD_MAX)
        return -ERR_TOO_LARGE;
    if (payload_len && !body_vouches(envelope->method))
        for (uint32_t i = 0; i < piece_count; i++)
            if (pieces[i].len)
                payload_crc = crc32c(payload_crc, slice_data(&pieces[i]), pieces[i].len);
    frame_encode(head, &(struct frame_header){
                           .method = (uint16_t)envelope->method,
                           .flags = (uint16_t)envelope->flags,
                           .result = envelope->result,
                           .request_id = envelope->request_id,
                           .body_len = body_len,
                           .payload_len = (uint32_t)payload_len,
                           .payload_crc = payload_crc,
                       });
    return link_send(link, &(struct frame){
                               .head = head,
                               .head_len = FRAME_HEADER_SIZE + body_len,
                               .pieces = pieces,
                               .piece_count = piece_count,
                               .patient = envelope->patient,
                           });
}

int rpc_frame_open(const struct frame *frame, struct rpc_message *ret)
{
    struct frame_header header;

    if (frame->head_len < FRAME_HEADER_SIZE)
        return -ERR_PROTOCOL;
    int error = frame_validate_header(frame->head, &header);
    if (error)
        return error;
    uint32_t payload_len = frame->payload.buf ? frame->payload.len : 0;
    if (frame->head_len != FRAME_HEADER_SIZE + header.body_len ||
        (!frame->payload_dropped && !frame->placed && payload_len != header.payload_len))
        return -ERR_PROTOCOL;
    const uint8_t *data = frame->placed ? frame->placed : payload_len ? slice_data(&frame->payload) : NULL;
    if (header.payload_crc && !frame->payload_dropped &&
        crc32c(0, data, header.payload_len) != header.payload_crc)
        return -ERR_CHECKSUM;
    *ret = (struct rpc_message){
        .method = header.method,
        .flags = header.flags,
        .result = header.result,
        .request_id = header.request_id,
        .body = frame->head + FRAME_HEADER_SIZE,
        .body_len = header.body_len,
        .payload = frame->payload,
        .payload_dropped = frame->payload_dropped,
        .placed = frame->placed,
    };
    return 0;
}
