/* SPDX-License-Identifier: Apache-2.0
 *
 * Peers: one for each shard elsewhere that has a replica of a group that we have.
 *
 * Between two shards there are two sessions, one that we opened and one that the other opened. Requests go by
 * our own. One-way frames, which are all of raft, go both ways by one of the two (shard_carrier.c): what a
 * turn has for the other, as leader and as follower, then leaves in one call and arrives in one. What a
 * session carried when it ended raft sends again, at once if the other one is there. Both handshakes tell the
 * incarnation of the other process: the first one to show a newer one tells the groups that whatever the old
 * process promised, or was promised as leader, is void.
 */
#include "osd/pg.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define PEER_CALLS_MAX PLANT_SCARCE(64u, 3u)

struct peer *shard_peer_find(struct osd_shard *shard, uint32_t osd, uint32_t number)
{
    struct map_node *node = map_get(&shard->peers, peer_key(osd, number));
    return node ? map_entry(node, struct peer, node) : NULL;
}

void shard_peer_seen(struct peer *peer, const struct rpc_identity *who)
{
    bool newer = peer->incarnation && who->incarnation > peer->incarnation;

    if (who->incarnation >= peer->incarnation)
        peer->start_token = who->start_token;
    if (who->incarnation > peer->incarnation)
        peer->incarnation = who->incarnation;
    if (newer) {
        peer->pace = (struct pace){0};
        core_log(peer->shard->core, LOG_INFO, "osd", "osd.%u shard %u: a new process, incarnation %" PRIu64,
                 peer->osd, peer->number, who->incarnation);
        pg_peer_lost(peer->shard, peer, true);
    }
    pg_peer_found(peer->shard, peer);
    shard_heartbeat_soon(peer->shard);
}

/* Every start is counted on the device and draws a token: as many starts and another token are another
 * device, a copy or the original of this one. The monitor has decided which is which; without its word, who
 * came first is as good, as long as the two are not both listened to. */
static bool is_other_start(const struct peer *peer, const Fb__Osd *osd, const struct rpc_identity *who)
{
    uint64_t known = 0;

    if (who->incarnation == osd->incarnation)
        known = osd->start_token;
    else if (peer && who->incarnation == peer->incarnation)
        known = peer->start_token;
    return known && who->start_token && known != who->start_token;
}

int shard_peer_check(struct osd_shard *shard, const struct rpc_identity *who)
{
    const struct peer *peer = shard_peer_find(shard, who->osd, who->shard);
    const Fb__Osd *osd = shard_map_osd(shard, who->osd);

    if (!osd || who->shard >= osd->n_shard)
        return -ERR_RETRY;
    if (osd->removed) /* whatever it believes to be */
        return -ERR_IDENTITY;
    if (osd->uuid.len == 16 && memcmp(osd->uuid.data, who->osd_uuid, 16))
        return -ERR_IDENTITY;
    if (who->incarnation < osd->incarnation || (peer && who->incarnation < peer->incarnation))
        return -ERR_ROLLED_BACK;
    return is_other_start(peer, osd, who) ? -ERR_ROLLED_BACK : 0;
}

static int peer_check(void *owner, const struct rpc_identity *who)
{
    struct peer *peer = owner;

    return shard_peer_check(peer->shard, who);
}

static void peer_opened(void *owner, struct rpc_peer *rpc, const struct rpc_identity *who)
{
    struct peer *peer = owner;

    peer->lost = false;
    shard_peer_seen(peer, who);
}

static void peer_closed(void *owner, struct rpc_peer *rpc, int error)
{
    struct peer *peer = owner;

    if (!peer->lost)
        core_log(peer->shard->core, error == -ERR_CANCELLED ? LOG_DEBUG : LOG_INFO, "osd",
                 "osd.%u shard %u at %s: %s", peer->osd, peer->number, peer->address, error_text(error));
    /* Each failed attempt says the same thing again: it is news only once. */
    bool news = !peer->lost;
    peer->lost = true;
    if (news || error == -ERR_UNREACHABLE)
        pg_peer_lost(peer->shard, peer, false);
    if (!shard_peer_reachable(peer))
        pg_peer_unreachable(peer->shard, peer);
    else if (news)
        pg_peer_moved(peer->shard, peer);
}

static void peer_oneway(void *owner, struct rpc_peer *rpc, const struct rpc_message *message)
{
    shard_peer_heard(owner, true);
    shard_oneway(owner, message);
}

/* Connects, if the map knows where to. */
static void peer_connect(struct peer *peer)
{
    struct osd_shard *shard = peer->shard;
    const Fb__Osd *osd = shard_map_osd(shard, peer->osd);
    const char *address = osd && peer->number < osd->n_shard ? osd->shard[peer->number]->address : "";

    if (shard->stopping || !address[0] || osd->removed || (peer->rpc && !strcmp(address, peer->address)))
        return;
    if (peer->rpc)
        rpc_peer_free(peer->rpc);
    peer->rpc = NULL;
    if (text_copy(peer->address, sizeof(peer->address), address))
        return;
    struct rpc_peer_config config = {
        .core = shard->core,
        .net = shard->net,
        .address = peer->address,
        .self = &shard->self,
        .has_target = true,
        .target_osd = peer->osd,
        .target_shard = peer->number,
        .calls_max = PEER_CALLS_MAX,
        .check = peer_check,
        .opened = peer_opened,
        .closed = peer_closed,
        .oneway = peer_oneway,
        .owner = peer,
    };
    peer->rpc = rpc_peer_new(&config);
}

struct peer *shard_peer_get(struct osd_shard *shard, uint32_t osd, uint32_t number)
{
    struct peer *peer = shard_peer_find(shard, osd, number);

    if (!peer) {
        peer = calloc(1, sizeof(*peer));
        if (!peer)
            return NULL;
        peer->shard = shard;
        peer->osd = osd;
        peer->number = number;
        peer->free_bytes = UINT64_MAX;
        heartbeat_out_init(&peer->out);
        heartbeat_in_init(&peer->in);
        map_put(&shard->peers, &peer->node, peer_key(osd, number));
    }
    peer_connect(peer);
    return peer;
}

void shard_peers_map_changed(struct osd_shard *shard)
{
    map_for_each (&shard->peers, node) {
        struct peer *peer = map_entry(node, struct peer, node);
        const Fb__Osd *osd = shard_map_osd(shard, peer->osd);

        if (osd && osd->removed && peer->rpc) {
            rpc_peer_free(peer->rpc);
            peer->rpc = NULL;
        }
        if (osd && osd->removed && peer->session)
            rpc_session_close(peer->session);
        peer_connect(peer);
        /* It has just come up: no need to wait for the back-off. */
        if (peer->rpc && osd && osd->up && osd->incarnation > peer->incarnation)
            rpc_peer_kick(peer->rpc);
    }
}

void shard_peers_free(struct osd_shard *shard)
{
    map_for_each (&shard->peers, node) {
        struct peer *peer = map_entry(node, struct peer, node);
        if (peer->rpc)
            rpc_peer_free(peer->rpc);
        map_remove(&shard->peers, node->key);
        heartbeat_out_fini(&peer->out);
        heartbeat_in_fini(&peer->in);
        free(peer);
    }
}
