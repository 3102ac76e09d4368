/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions with shards: one per shard, made when first needed, shared by all images of the client.
 *
 * How long an answer may take (`patience_ns`) belongs to the session, not to the request: whoever loses
 * patience closes the session for all, so a busy shard must not be given less time by the newcomers than by
 * those who wait for it already. It doubles when a session was closed for it, once for all that it kept
 * waiting, and returns to the least when answers come fast again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "client/impl.h"

#define PATIENCE_MIN_NS (1 * NS_PER_S)
#define PATIENCE_MAX_NS (8 * NS_PER_S)
#define KICK_NS         (20 * NS_PER_MS)
#define BUSY_NS         (1 * NS_PER_MS) /* and the queue to the shard may have room again */
#define PEER_CALLS_ROOM 64              /* beyond the pieces under way: calls by number */

static void peer_wake_waiters(struct client_peer *peer)
{
    for (struct list *node; (node = list_pop_front(&peer->waiters));)
        op_wake(list_entry(node, struct client_wait, link)->op);
}

static void peer_opened(void *owner, struct rpc_peer *rpc, const struct rpc_identity *who)
{
    struct client_peer *peer = owner;

    peer->kicked_ns = 0;
    peer->timed_out = false;
    peer_wake_waiters(peer);
}

static void peer_closed(void *owner, struct rpc_peer *rpc, int error)
{
    peer_wake_waiters(owner);
}

static uint64_t peer_key(uint32_t osd, uint32_t shard)
{
    return (uint64_t)osd << 32 | shard;
}

static bool peer_open(struct client_peer *peer, uint32_t osd, uint32_t shard)
{
    struct client *client = peer->client;
    struct rpc_peer_config config = {
        .core = client->core,
        .net = client->net,
        .address = peer->address,
        .self = &client->self,
        .has_target = true,
        .target_osd = osd,
        .target_shard = shard,
        .calls_max = client->config.inflight_max + PEER_CALLS_ROOM,
        .opened = peer_opened,
        .closed = peer_closed,
        .owner = peer,
    };

    peer->kicked_ns = core_now_ns(client->core);
    peer->rpc = rpc_peer_new(&config);
    return peer->rpc != NULL;
}

static void peer_close(struct client_peer *peer)
{
    rpc_peer_free(peer->rpc);
    peer->rpc = NULL;
    peer_wake_waiters(peer);
}

struct client_peer *client_peer_get(struct client *client, uint32_t osd_id, uint32_t shard)
{
    const Fb__Osd *osd = client_map_osd(client, osd_id);
    struct map_node *node = map_get(&client->peers, peer_key(osd_id, shard));
    struct client_peer *peer = node ? map_entry(node, struct client_peer, node) : NULL;

    if (!osd)
        return NULL;
    if (shard >= osd->n_shard || osd->shard[shard]->address[0] == '\0')
        return peer && peer->rpc ? peer : NULL;
    const char *address = osd->shard[shard]->address;
    if (LIKELY(peer && peer->rpc && strcmp(peer->address, address) == 0))
        return peer;
    if (!peer) {
        peer = calloc(1, sizeof(*peer));
        if (!peer)
            return NULL;
        peer->client = client;
        peer->patience_ns = PATIENCE_MIN_NS;
        list_init(&peer->waiters);
        map_put(&client->peers, &peer->node, peer_key(osd_id, shard));
    }
    if (peer->rpc) {
        /* The OSD came back at another address: what is on the old session ends with ERR_CANCELLED and is
         * sent again. */
        peer_close(peer);
    }
    if (text_copy(peer->address, sizeof(peer->address), address) != 0 || !peer_open(peer, osd_id, shard))
        return NULL;
    return peer;
}

bool client_peer_connect(struct client_peer *peer)
{
    uint64_t now_ns = core_now_ns(peer->client->core);

    if (rpc_peer_error(peer->rpc) == 0)
        return true;
    if (now_ns < peer->kicked_ns + KICK_NS)
        return false;
    peer->kicked_ns = now_ns;
    rpc_peer_kick(peer->rpc);
    return true;
}

void client_peer_answered(struct client_peer *peer, uint64_t latency_ns)
{
    if (latency_ns < PATIENCE_MIN_NS / 2)
        peer->patience_ns = PATIENCE_MIN_NS;
}

void client_peer_timed_out(struct client_peer *peer)
{
    if (!peer->timed_out)
        peer->patience_ns = MIN(peer->patience_ns * 2, PATIENCE_MAX_NS);
    peer->timed_out = true;
}

void client_peers_map_changed(struct client *client)
{
    map_for_each (&client->peers, node) {
        struct client_peer *peer = map_entry(node, struct client_peer, node);
        if (peer->rpc && !client_map_osd(client, (uint32_t)(node->key >> 32)))
            peer_close(peer);
    }
}

void client_peers_fini(struct client *client)
{
    map_for_each (&client->peers, node) {
        struct client_peer *peer = map_entry(node, struct client_peer, node);
        map_remove(&client->peers, node->key);
        ASSERT(list_empty(&peer->waiters));
        if (peer->rpc)
            rpc_peer_free(peer->rpc);
        free(peer);
    }
    map_fini(&client->peers);
}

/* ---- a call to a shard by number ---- */

enum shard_call_state { SHARD_CALL_CONNECT, SHARD_CALL_REPLY };

static const char *shard_call_state_name(int state)
{
    static const char *const names[] = {"connect", "reply"};
    return names[state];
}

struct shard_call_private {
    struct client_wait wait;
    struct timer timer;
    struct rpc_call call;
    uint64_t deadline_ns;
    uint8_t *frame; /* the body, with room for the header */
    uint8_t reply[FRAME_BODY_MAX];
};

static void shard_call_end(struct client_shard_call *c, int result)
{
    struct shard_call_private *p = c->private_state;

    if (p) {
        timer_cancel(c->op.core, &p->timer);
        list_remove(&p->wait.link);
        slice_unref(&p->call.reply_payload);
        free(p->frame);
        free(p);
    }
    c->private_state = NULL;
    op_done(&c->op, result);
}

static int shard_call_begin(struct client_shard_call *c)
{
    struct shard_call_private *p;

    if (c->body_len > FRAME_BODY_MAX)
        return -ERR_TOO_LARGE;
    if (!client_peer_get(c->client, c->osd, c->shard))
        return -ERR_NOT_FOUND;
    p = malloc(sizeof(*p));
    if (!p)
        return -ERR_NO_MEMORY;
    memset(p, 0, offsetof(struct shard_call_private, reply));
    c->private_state = p;
    list_init(&p->wait.link);
    p->wait.op = &c->op;
    p->frame = malloc(FRAME_HEADER_SIZE + c->body_len + 1);
    if (!p->frame)
        return -ERR_NO_MEMORY;
    if (c->body_len)
        memcpy(p->frame + FRAME_HEADER_SIZE, c->body, c->body_len);
    p->deadline_ns = core_now_ns(c->op.core) + CLIENT_SHARD_TIMEOUT_NS;
    timer_arm(c->op.core, &p->timer, &c->op, p->deadline_ns);
    return 0;
}

static int shard_call_take_reply(struct client_shard_call *c)
{
    struct shard_call_private *p = c->private_state;

    if (p->call.result)
        return p->call.result;
    c->ret_reply = malloc(p->call.reply_len + 1);
    if (!c->ret_reply)
        return -ERR_NO_MEMORY;
    memcpy(c->ret_reply, p->reply, p->call.reply_len);
    c->ret_reply_len = p->call.reply_len;
    return 0;
}

static void shard_call_step(struct op *op)
{
    struct client_shard_call *c = container_of(op, struct client_shard_call, op);

    if (!c->private_state) {
        int error = shard_call_begin(c);
        if (error) {
            shard_call_end(c, error);
            return;
        }
    }
    struct shard_call_private *p = c->private_state;
    for (;;) {
        switch ((enum shard_call_state)op->state) {
        case SHARD_CALL_CONNECT: {
            struct client_peer *peer = client_peer_get(c->client, c->osd, c->shard);
            uint64_t now_ns = core_now_ns(op->core);
            if (!peer || now_ns >= p->deadline_ns) {
                shard_call_end(c, -ERR_UNREACHABLE);
                return;
            }
            p->call.reply = p->reply;
            p->call.reply_cap = sizeof(p->reply);
            int error = rpc_call_start(&p->call, peer->rpc, op, (enum method)c->method,
                                       p->frame + FRAME_HEADER_SIZE, c->body_len, NULL, 0, p->deadline_ns);
            if (error == -ERR_BUSY) { /* nobody tells when there is room */
                timer_arm(op->core, &p->timer, op, MIN(now_ns + BUSY_NS, p->deadline_ns));
                return;
            }
            if (error) {
                error = rpc_peer_error(peer->rpc);
                if (error == -ERR_UNREACHABLE || error == -ERR_CLUSTER || error == -ERR_IDENTITY) {
                    shard_call_end(c, error);
                    return;
                }
                timer_arm(op->core, &p->timer, op, p->deadline_ns);
                if (!list_linked(&p->wait.link))
                    list_push_back(&peer->waiters, &p->wait.link);
                return;
            }
            op->state = SHARD_CALL_REPLY;
            break;
        }
        case SHARD_CALL_REPLY:
            if (p->call.pending)
                return;
            shard_call_end(c, shard_call_take_reply(c));
            return;
        }
    }
}

static const struct op_kind shard_call_kind = {"client.shard_call", shard_call_state_name, shard_call_step};

void client_shard_call_start(struct client_shard_call *c, struct client *client, uint32_t osd, uint32_t shard,
                             uint32_t method, const uint8_t *body, uint32_t body_len, struct op *parent)
{
    c->client = client;
    c->osd = osd;
    c->shard = shard;
    c->method = method;
    c->body = body;
    c->body_len = body_len;
    c->ret_reply = NULL;
    c->ret_reply_len = 0;
    c->private_state = NULL;
    op_start(&c->op, client->core, &shard_call_kind, parent);
}
