/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may have a session, and which older ones it ends.
 *
 * A refused session keeps its link for a while, because closing could lose the refusal; nothing it sends is
 * looked at.
 */
#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "rpc/hello.h"
#include "rpc/session.h"

/* The name under which a session's maker is remembered; NULL table: not at all. */
static struct rpc_seen_table *seen_id(struct rpc_server *server, const struct rpc_identity *who,
                                      uint8_t ret_id[16])
{
    switch (who->role) {
    case RPC_CLIENT:
        memcpy(ret_id, who->client_uuid, 16);
        return &server->clients;
    case RPC_OSD:
        memset(ret_id, 0, 16);
        memcpy(ret_id, &who->osd, sizeof(who->osd));
        memcpy(ret_id + sizeof(who->osd), &who->shard, sizeof(who->shard));
        return &server->osds;
    case RPC_MON:
        break;
    }
    return NULL;
}

static int check_seen(const struct rpc_seen *seen, const struct rpc_identity *who)
{
    if (who->role == RPC_CLIENT)
        return who->session > seen->highest ? 0 : -ERR_FENCED;
    if (memcmp(who->osd_uuid, seen->osd_uuid, sizeof(seen->osd_uuid)) != 0)
        return -ERR_IDENTITY;
    return who->incarnation >= seen->highest ? 0 : -ERR_ROLLED_BACK;
}

/* Decides about a newcomer, without changing anything. */
static int session_check(struct rpc_session *session, const struct rpc_hello *hello)
{
    static const uint8_t no_uuid[16];
    struct rpc_server *server = session->server;
    const struct rpc_identity *self = server->config.self, *who = &hello->who;
    uint8_t id[16];

    int error = rpc_hello_check_cluster(self, who);
    if (error)
        return error;
    if (server->open_count >= server->config.sessions_max)
        return -ERR_BUSY;
    if (hello->has_target &&
        (self->role != RPC_OSD || self->osd != hello->target_osd || self->shard != hello->target_shard))
        return -ERR_IDENTITY;
    if (who->role == RPC_CLIENT && memcmp(who->client_uuid, no_uuid, sizeof(no_uuid)) == 0)
        return -ERR_IDENTITY;
    struct rpc_seen_table *table = seen_id(server, who, id);
    struct rpc_seen *seen = table ? rpc_seen_find(table, id) : NULL;
    if (seen && (error = check_seen(seen, who)))
        return error;
    return server->config.greet ? server->config.greet(server->config.owner, who) : 0;
}

/* Remembers the newcomer and retires the sessions that it replaces: all others of a client, those of an OSD
 * shard's former starts. */
static int session_replace(struct rpc_session *session)
{
    struct rpc_server *server = session->server;
    const struct rpc_identity *who = &session->who;
    uint8_t id[16];
    struct rpc_seen_table *table = seen_id(server, who, id);
    struct rpc_seen *seen;

    if (!table)
        return 0;
    if (!(seen = rpc_seen_find(table, id)) && !(seen = rpc_seen_add(table, id)))
        return -ERR_BUSY;
    /* Opened first, so that the entry does not become idle in between. */
    rpc_seen_open(seen, &session->of_seen);
    session->seen_table = table;
    session->seen = seen;
    seen->highest = who->role == RPC_CLIENT ? who->session : who->incarnation;
    memcpy(seen->osd_uuid, who->osd_uuid, sizeof(seen->osd_uuid));
    list_for_each_safe (&seen->sessions, node) {
        struct rpc_session *other = list_entry(node, struct rpc_session, of_seen);
        if (PLANT(RPC_NO_RETIRE))
            break;
        if (other != session && (who->role == RPC_CLIENT || other->who.incarnation < who->incarnation))
            rpc_session_kill(other);
    }
    rpc_server_bury(server);
    return 0;
}

void rpc_session_greet(struct rpc_session *session, const struct rpc_message *message)
{
    struct rpc_server *server = session->server;
    RPC_FRAME_SCRATCH(scratch, HELLO_BODY_MAX);
    struct rpc_envelope envelope = {METHOD_HELLO, FRAME_REPLY, 0, message->request_id, false};
    struct rpc_hello hello;

    if (message->method != METHOD_HELLO || message->flags != FRAME_REQUEST) {
        rpc_session_fail(session, -ERR_PROTOCOL, "not greeted first");
        return;
    }
    int error = rpc_hello_decode(message->body, message->body_len, &hello);
    if (!error) {
        session->who = hello.who;
        error = session_check(session, &hello);
    }
    if (!error)
        error = session_replace(session);
    if (error) {
        if (error == -ERR_BUSY)
            rpc_server_log_full(server, session->address, "refused: there are as many sessions as may be");
        else
            core_log(server->config.core, LOG_WARN, "rpc", "%s (%s): refused: %s", session->address,
                     session->who.name[0] ? session->who.name : "no name", error_text(error));
        session->state = SESSION_REFUSED;
        envelope.result = error;
        if (rpc_frame_send(session->link, &envelope, NULL, 0, NULL, 0))
            rpc_session_kill(session);
        return;
    }
    uint32_t len = rpc_hello_encode(rpc_body(scratch), &(struct rpc_hello){
                                                           .protocol = RPC_PROTOCOL,
                                                           .who = *server->config.self,
                                                       });
    if (rpc_frame_send(session->link, &envelope, rpc_body(scratch), len, NULL, 0)) {
        rpc_session_kill(session);
        return;
    }
    session->state = SESSION_OPEN;
    session->was_open = true;
    list_remove(&session->all);
    list_push_back(&server->sessions, &session->all);
    server->open_count++;
    if (server->config.opened)
        server->config.opened(server->config.owner, session);
}
