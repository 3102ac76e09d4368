/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies that the link has no room for wait in a backlog of their session and are offered again every
 * millisecond by the server's op; they count as outstanding requests, whose number bounds them, and the bytes
 * of their payloads are bounded too: past that the asker is told to ask again later, which nothing forbids,
 * because only what reads has a payload in its reply. This is the one place of the room that allocates after
 * the start, and only for a client that asks for more than it reads.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "rpc/session.h"

/* A reply that waits for room in the link's queue. */
struct held_reply {
    struct list link;
    struct rpc_envelope envelope;
    uint32_t body_len, piece_count;
    struct slice *pieces; /* references of its own */
    uint8_t *body;        /* with room in front */
};

static void held_free(struct rpc_session *session, struct held_reply *held)
{
    for (uint32_t i = 0; i < held->piece_count; i++) {
        session->backlog_bytes -= held->pieces[i].len;
        slice_unref(&held->pieces[i]);
    }
    session->server->held_replies--;
    free(held);
}

bool rpc_backlog_hold(struct rpc_session *session, const struct rpc_envelope *envelope, const uint8_t *body,
                      uint32_t body_len, const struct slice *pieces, uint32_t piece_count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < piece_count; i++)
        bytes += pieces[i].len;
    bool refuse = bytes && session->backlog_bytes + bytes > RPC_BACKLOG_BYTES_MAX;
    if (refuse)
        body_len = piece_count = 0;
    size_t pieces_size = piece_count * sizeof(*pieces);
    struct held_reply *held = calloc(1, sizeof(*held) + pieces_size + FRAME_HEADER_SIZE + body_len);

    if (!held)
        return false;
    session->server->config.core->counters.allocs++;
    held->envelope = *envelope;
    if (refuse)
        held->envelope.result = -ERR_BUSY;
    held->pieces = (struct slice *)(held + 1);
    held->body = (uint8_t *)(held + 1) + pieces_size + FRAME_HEADER_SIZE;
    held->body_len = body_len;
    if (body_len)
        memcpy(held->body, body, body_len);
    for (uint32_t i = 0; i < piece_count; i++)
        if (pieces[i].buf && pieces[i].len) {
            held->pieces[held->piece_count++] = slice_sub(&pieces[i], 0, pieces[i].len);
            session->backlog_bytes += pieces[i].len;
        }
    list_push_back(&session->backlog, &held->link);
    session->server->held_replies++;
    op_wake(&session->server->op);
    return true;
}

void rpc_backlog_drop(struct rpc_session *session)
{
    struct list *node;

    while ((node = list_pop_front(&session->backlog)))
        held_free(session, list_entry(node, struct held_reply, link));
}

void rpc_backlog_send(struct rpc_session *session)
{
    struct held_reply *held;

    while ((held = list_first(&session->backlog, struct held_reply, link))) {
        int error = rpc_frame_send(session->link, &held->envelope, held->body, held->body_len, held->pieces,
                                   held->piece_count);
        if (error == -ERR_BUSY)
            return;
        /* Sent; or the link is broken and its end will be reported. */
        list_remove(&held->link);
        held_free(session, held);
        session->requests--;
    }
}
