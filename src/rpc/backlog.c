/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies that are not taken. Those that the link has no room for wait in a backlog of their session and are
 * offered again every millisecond by the server's op; they count as outstanding requests, whose number bounds
 * them, and the bytes of their payloads are bounded too: past that the asker is told to ask again later,
 * which nothing forbids, because only what reads has a payload in its reply. Of bodies, which may be the only
 * word of what was done, none is left out: who lets too many wait loses the session. This is the one place of
 * the room that allocates after the start, and only for a client that asks for more than it reads.
 *
 * Payloads in links and backlogs hold memory of the arena that all need. So those of clients share a quarter
 * of it: a session may have as much as it leaves to the others, alone a half, and less the more of them take
 * nothing. Beyond the quarter, up to half of the arena, there is room for who has taken all that it was
 * sent. (Shards, which ask each other for little at a time, are not held back by clients.) Links do not tell
 * when something has left: the sum only grows until it seems to be too much, and is then counted anew.
 *
 * A piece of a large buffer, like a block of what a large write has just brought, keeps all of that buffer.
 * Where memory gets scarce what is to wait behind more than a little is copied, so that it holds about as
 * much as it counts.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "rpc/session.h"

#define COUNT_EVERY_NS (1 * NS_PER_MS)
#define COPY_BEHIND    (256u << 10) /* more than what one turn answers to who takes it at once, as a rule */
#define SCARCE_BYTES   (64u << 20)  /* or a quarter of the arena; a full cache leaves more */

/* A reply that waits for room in the link's queue. */
struct held_reply {
    struct list link;
    struct rpc_envelope envelope;
    uint32_t body_len, piece_count;
    struct slice *pieces; /* references of its own */
    uint8_t *body;        /* with room in front */
};

static uint64_t session_unsent(const struct rpc_session *session)
{
    return link_queued_bytes(session->link) + session->backlog_bytes;
}

/* False: that was a moment ago. */
static bool server_count(struct rpc_server *server)
{
    uint64_t now_ns = core_recent_ns(server->config.core);

    if (server->counted_ns && now_ns - server->counted_ns < COUNT_EVERY_NS)
        return false;
    server->counted_ns = now_ns;
    server->unsent_bytes = 0;
    list_for_each (&server->sessions, node) {
        const struct rpc_session *session = list_entry(node, struct rpc_session, all);
        if (session->who.role != RPC_OSD)
            server->unsent_bytes += session_unsent(session);
    }
    return true;
}

uint64_t rpc_server_unsent_bytes(struct rpc_server *server)
{
    uint64_t little = arena_size(server->config.core->arena) / 16;

    if (server->unsent_bytes <= little || (server_count(server) && server->unsent_bytes <= little))
        return 0;
    return server->unsent_bytes;
}

bool rpc_backlog_has_room(struct rpc_session *session, uint64_t bytes)
{
    struct rpc_server *server = session->server;
    const struct arena *arena = server->config.core->arena;

    if (!arena || session->who.role == RPC_OSD)
        return true;
    uint64_t own = session_unsent(session), most = arena_size(arena) / 4;
    do {
        uint64_t all = server->unsent_bytes + bytes;
        if (own ? own + bytes + all <= most : all <= 2 * most)
            return true;
    } while (server_count(server));
    return false;
}

struct slice rpc_backlog_copy(struct rpc_session *session, const struct slice *piece)
{
    struct arena *arena = piece->buf->arena;
    bool may_stay = piece->buf->size_bytes / 2 <= piece->len || session->who.role == RPC_OSD;
    bool scarce = arena_free_bytes(arena) < MIN(arena_size(arena) / 4, SCARCE_BYTES);

    if (may_stay || !scarce || session_unsent(session) < COPY_BEHIND)
        return (struct slice){0};
    struct buf *buf = buf_new(arena, piece->len);
    if (!buf)
        return (struct slice){0};
    memcpy(buf->data, slice_data(piece), piece->len);
    session->server->config.core->counters.copied_bytes += piece->len;
    return (struct slice){buf, 0, piece->len};
}

static void held_free(struct rpc_session *session, struct held_reply *held)
{
    for (uint32_t i = 0; i < held->piece_count; i++) {
        session->backlog_bytes -= held->pieces[i].len;
        slice_unref(&held->pieces[i]);
    }
    session->backlog_body_bytes -= held->body_len;
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
    if (session->backlog_body_bytes + body_len > RPC_BACKLOG_BYTES_MAX)
        return false;
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
    session->backlog_body_bytes += body_len;
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
