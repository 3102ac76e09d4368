/* SPDX-License-Identifier: Apache-2.0
 *
 * The shard's listening side: who may come in, and which file handles what they send.
 */
#include "osd/scrub.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"

static int server_greet(void *owner, const struct rpc_identity *who)
{
    static const uint8_t none[16];
    struct osd_shard *shard = owner;

    if (memcmp(who->cluster, none, 16) && memcmp(who->cluster, shard->label.cluster, 16))
        return -ERR_CLUSTER;
    if (who->role != RPC_OSD && shard->client_count >= SHARD_CLIENTS_MAX)
        return -ERR_BUSY;
    if (who->role != RPC_OSD)
        return shard->failed ? -ERR_STOPPED : 0;
    return shard_peer_check(shard, who);
}

static void server_opened(void *owner, struct rpc_session *session)
{
    struct osd_shard *shard = owner;
    const struct rpc_identity *who = rpc_session_identity(session);
    struct peer *peer;

    shard->client_count += who->role != RPC_OSD;
    if (who->role != RPC_OSD)
        return;
    peer = shard_peer_get(shard, who->osd, who->shard);
    if (!peer)
        return; /* no memory: what it sends is ignored */
    rpc_session_set_context(session, peer);
    peer->session = session;
    shard_peer_seen(peer, who);
    /* It is there: so it can be reached. */
    if (peer->rpc)
        rpc_peer_kick(peer->rpc);
}

static void server_closed(void *owner, struct rpc_session *session)
{
    struct osd_shard *shard = owner;
    struct peer *peer = rpc_session_context(session);

    shard->client_count -= rpc_session_identity(session)->role != RPC_OSD;
    if (!peer || peer->session != session)
        return;
    peer->session = NULL;
    if (shard_peer_reachable(peer))
        pg_peer_moved(peer->shard, peer);
    else
        pg_peer_unreachable(peer->shard, peer);
}

void shard_oneway(struct peer *peer, const struct rpc_message *message)
{
    switch (message->method) {
    case METHOD_APPEND:
        pg_receive_append(peer, message);
        break;
    case METHOD_APPEND_REPLY:
        pg_receive_append_reply(peer, message);
        break;
    case METHOD_RAFT:
        pg_receive_raft(peer, message);
        break;
    case METHOD_HEARTBEAT:
        shard_heartbeat_receive(peer, message);
        break;
    case METHOD_HEARTBEAT_REPLY:
        shard_heartbeat_reply_receive(peer, message);
        break;
    default:
        core_log(peer->shard->core, LOG_WARN, "osd", "one-way method %d from osd.%u shard %u is unknown",
                 message->method, peer->osd, peer->number);
    }
}

/* What an operator's pause holds back, also of clients that have not heard of it. Those that attach, ask and
 * look go on, and so does what shards do among themselves. */
static bool begins_io(enum method method)
{
    return method == METHOD_WRITE || method == METHOD_READ || method == METHOD_CLEAR;
}

static void server_request(struct osd_shard *shard, struct rpc_session *session,
                           const struct rpc_message *message)
{
    struct rpc_ticket ticket = rpc_ticket(session, message);
    struct peer *peer = rpc_session_context(session);

    if (UNLIKELY(shard->map.paused) && begins_io(message->method) && !PLANT(OSD_SERVES_PAUSED)) {
        Fb__PgReply reply = FB__PG_REPLY__INIT;
        reply.epoch = shard->map.epoch;
        shard_reply_cold(shard, &ticket, -ERR_PAUSED, &reply.base);
        return;
    }
    switch (message->method) {
    case METHOD_WRITE:
        pg_write_receive(shard, &ticket, message);
        break;
    case METHOD_READ:
        pg_read_receive(shard, &ticket, message);
        break;
    case METHOD_CLEAR:
        pg_clear_receive(shard, &ticket, message);
        break;
    case METHOD_ATTACH:
        pg_attach_receive(shard, &ticket, message);
        break;
    case METHOD_BLOCK_STATUS:
        pg_block_status_receive(shard, &ticket, message);
        break;
    case METHOD_PING:
        rpc_reply(&ticket, 0, NULL, 0, NULL, 0);
        break;
    case METHOD_PERF:
        shard_perf_receive(shard, &ticket, message);
        break;
    case METHOD_PG_STATUS:
        pg_status_receive(shard, &ticket, message);
        break;
    case METHOD_PG_TRANSFER:
        pg_transfer_receive(shard, &ticket, message);
        break;
    case METHOD_RECOVER_LIST:
        recover_list_receive(peer, shard, &ticket, message);
        break;
    case METHOD_RECOVER_READ:
        recover_read_receive(peer, shard, &ticket, message);
        break;
    case METHOD_SCRUB:
        scrub_receive(peer, shard, &ticket, message);
        break;
    default:
        rpc_reply(&ticket, -ERR_UNSUPPORTED, NULL, 0, NULL, 0);
    }
}

/* One session of a peer counts. Its process may have another one that is older, or was greeted before one
 * that it had given up: with the one that counted gone it is all that the peer speaks by. */
static bool is_heard(struct osd_shard *shard, struct peer *peer, struct rpc_session *session)
{
    const struct rpc_identity *who = rpc_session_identity(session);

    if (UNLIKELY(!peer->session) && !shard_peer_check(shard, who)) {
        peer->session = session;
        shard_peer_seen(peer, who);
    }
    return peer->session == session;
}

static void server_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    struct osd_shard *shard = owner;
    struct peer *peer = rpc_session_context(session);

    if (message->flags & FRAME_REQUEST)
        server_request(shard, session, message);
    else if (peer && is_heard(shard, peer, session)) {
        shard_peer_heard(peer, false);
        shard_oneway(peer, message);
    }
}

/* Where the saved map says that we are, if we may listen there: any port will do, but the others know that
 * one, also while no monitor can tell them another. */
static const char *known_address(const struct osd_shard *shard)
{
    const Fb__Osd *osd = shard_map_osd(shard, shard->label.osd);
    const char *colon = strrchr(shard->listen, ':');

    if (!osd || !colon || strcmp(colon, ":0"))
        return NULL;
    for (size_t i = 0; i < osd->n_shard; i++) {
        const char *address = osd->shard[i]->address;
        if (i == shard->number && !strncmp(address, shard->listen, (size_t)(colon + 1 - shard->listen)))
            return address;
    }
    return NULL;
}

int shard_server_start(struct osd_shard *shard)
{
    const char *known = known_address(shard);
    struct rpc_server_config config = {
        .core = shard->core,
        .net = shard->net,
        .address = known ? known : shard->listen,
        .self = &shard->self,
        .sessions_max = SHARD_SESSIONS_MAX,
        .requests_max = SHARD_SESSION_REQUESTS,
        .greet = server_greet,
        .opened = server_opened,
        .closed = server_closed,
        .message = server_message,
        .owner = shard,
    };
    int error = rpc_server_new(&config, &shard->server);
    if (error && known) {
        core_log(shard->core, LOG_INFO, "osd", "%s, where this shard was, is taken: any other port", known);
        config.address = shard->listen;
        error = rpc_server_new(&config, &shard->server);
    }
    if (error)
        core_log(shard->core, LOG_ERROR, "osd", "cannot listen on %s: %s", config.address,
                 error_listen_text(error));
    return error;
}
