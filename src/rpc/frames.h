/* SPDX-License-Identifier: Apache-2.0
 *
 * What both ends of a session do with frames: seal and send, open and check. For the files of this room only.
 */
#ifndef RPC_FRAMES_H
#define RPC_FRAMES_H

#include "rpc/rpc.h"

#define RPC_ADDRESS_MAX 128

/* A session without any sign of the other end for this long is closed; PING is sent well before. The calling
 * side asks first, so that one PING and its answer serve both ends; it asks also when it has sent nothing for
 * long, because the server's PING may stand behind much that it has yet to take. */
#define RPC_SILENCE_MAX_NS       (5 * NS_PER_S)
#define RPC_PEER_PING_AFTER_NS   (2 * NS_PER_S)
#define RPC_SERVER_PING_AFTER_NS (3 * NS_PER_S)
#define RPC_PING_EVERY_NS        (1 * NS_PER_S)
#define RPC_GREET_MAX_NS         (5 * NS_PER_S) /* accepting side, from accept to HELLO */

/* What a frame says beside its lengths. */
struct rpc_envelope {
    enum method method;
    uint32_t flags;
    int result;
    uint64_t request_id;
    bool patient; /* as in struct frame */
};

/* `body` has the header's room in front, which is written to; with body_len 0 it may be NULL. 0,
 * ERR_TOO_LARGE, or the error of link_send(). */
MUST_CHECK int rpc_frame_send(struct link *link, const struct rpc_envelope *envelope, const uint8_t *body,
                              uint32_t body_len, const struct slice *pieces, uint32_t piece_count);

/* Views a received frame as a message and checks the payload's checksum if the header has one. ERR_PROTOCOL,
 * ERR_VERSION, ERR_CHECKSUM. */
MUST_CHECK int rpc_frame_open(const struct frame *frame, struct rpc_message *ret);

#endif
