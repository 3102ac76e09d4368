/* SPDX-License-Identifier: Apache-2.0
 *
 * Which of the two sessions between a pair of shards carries the one-way frames.
 *
 * The first choice is the one that the lower numbered shard has opened, so that both sides choose the same.
 * It may fail alone: a network that spreads connections over several paths loses all of one connection and
 * nothing of the other, and no kernel says so for seconds. So:
 *
 *     HEARD ---- nothing came for SILENT_NS since a frame left that is answered: ping by both ---> DOUBTED
 *     DOUBTED -- it gave a sign ----------------------------------------------------------------> HEARD
 *     DOUBTED -- the other one answered: ping by both once more --------------------------------> SUSPECT
 *     SUSPECT -- it gave a sign ----------------------------------------------------------------> HEARD
 *     SUSPECT -- the other one answered again --------------------------------------------------> closed
 *
 * (peer->pings is 0, 1 or 2 in these; it is 1 again when the other one has not answered either.)
 * A shard that is busy, hangs, or is cut off answers by neither, and nothing changes; two questions, because
 * one that was busy begins again with what came by either. Only who asks can tell: the members, which answer,
 * follow. A frame that comes by the second choice later than anything by the first says that the other side
 * has left that, perhaps without being able to tell us. Whoever opened the closed session opens it anew.
 */
#include "osd/pg.h"

#include "base/error.h"
#include "base/plant.h"

#define SILENT_NS  (4 * SHARD_HEARTBEAT_NS)
#define CONFIRM_NS (2 * SHARD_HEARTBEAT_NS)

/* Is the session that we have opened the first choice? */
static bool ours_first(const struct peer *peer)
{
    return peer_key(peer->shard->label.osd, peer->shard->number) < peer_key(peer->osd, peer->number);
}

/* When something last came by our session, or theirs; 0: it is not there. */
static uint64_t heard_ns(const struct peer *peer, bool ours)
{
    if (ours)
        return peer->rpc ? rpc_peer_heard_ns(peer->rpc) : 0;
    return peer->session ? rpc_session_heard_ns(peer->session) : 0;
}

static bool carries_ours(const struct peer *peer)
{
    bool first = ours_first(peer);
    uint64_t first_ns = heard_ns(peer, first), second_ns = heard_ns(peer, !first);

    return first_ns && !(second_ns && peer->detour_ns > first_ns) ? first : !first;
}

bool shard_peer_reachable(const struct peer *peer)
{
    return heard_ns(peer, true) || heard_ns(peer, false);
}

/* The first choice is to show that it is alive, from now on. */
static void carrier_ask(struct peer *peer, uint64_t now_ns)
{
    uint64_t first_ns = heard_ns(peer, ours_first(peer));

    if (peer->asked_ns > first_ns)
        return; /* it already is */
    peer->asked_ns = now_ns;
    peer->pings = 0;
    shard_heartbeat_by(peer->shard, now_ns + SILENT_NS);
}

static bool is_answered(enum method method)
{
    return method != METHOD_APPEND_REPLY && method != METHOD_HEARTBEAT_REPLY;
}

int shard_peer_send(struct peer *peer, enum method method, bool patient, const uint8_t *body,
                    uint32_t body_len, const struct slice *pieces, uint32_t piece_count)
{
    bool ours = carries_ours(peer);
    int error;

    if (!heard_ns(peer, ours))
        return -ERR_CLOSED;
    error = ours ? rpc_peer_send(peer->rpc, method, patient, body, body_len, pieces, piece_count)
                 : rpc_session_send(peer->session, method, patient, body, body_len, pieces, piece_count);
    if (!error && ours == ours_first(peer) && is_answered(method))
        carrier_ask(peer, core_recent_ns(peer->shard->core));
    return error;
}

void shard_peer_heard(struct peer *peer, bool ours)
{
    uint64_t now_ns = core_recent_ns(peer->shard->core);

    if (ours == ours_first(peer))
        return;
    peer->detour_ns = now_ns;
    if (heard_ns(peer, !ours))
        carrier_ask(peer, now_ns);
}

/* Is there an answer that is waited for? */
static bool carrier_owes(const struct peer *peer)
{
    uint64_t first_ns = heard_ns(peer, ours_first(peer));

    return first_ns && peer->asked_ns > first_ns;
}

uint64_t shard_carrier_due_ns(const struct peer *peer)
{
    if (!carrier_owes(peer))
        return UINT64_MAX;
    return peer->pings ? peer->pinged_ns + CONFIRM_NS : peer->asked_ns + SILENT_NS;
}

static void carrier_close(struct peer *peer)
{
    core_log(peer->shard->core, LOG_WARN, "osd",
             "osd.%u shard %u: nothing comes by the session that %s opened, but by the other one: closing it",
             peer->osd, peer->number, ours_first(peer) ? "we" : "it");
    if (ours_first(peer))
        rpc_peer_renew(peer->rpc);
    else
        rpc_session_close(peer->session);
}

void shard_carrier_watch(struct peer *peer, uint64_t now_ns)
{
    if (now_ns < shard_carrier_due_ns(peer))
        return;
    bool answered = peer->pings && heard_ns(peer, !ours_first(peer)) > peer->pinged_ns;
    if (answered && peer->pings == 2 && !PLANT(OSD_KEEPS_SILENT)) {
        carrier_close(peer);
        return;
    }
    peer->pings = answered ? 2 : 1;
    peer->pinged_ns = now_ns;
    if (peer->rpc)
        rpc_peer_ping(peer->rpc);
    if (peer->session)
        rpc_session_ping(peer->session);
}
