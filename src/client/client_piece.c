/* SPDX-License-Identifier: Apache-2.0
 *
 * A piece: one request to one PG, until there is a definite answer or the time is up.
 *
 *     ORDER -> ROUTE -> CONNECT -> ROUTE ...          ORDER: an older write to the same bytes is under way
 *               | |        \-> PAUSE -> ROUTE         CONNECT: the shard's session is being made
 *               | \-> ATTACH / REFRESH -> ROUTE       PAUSE: nobody leads just now
 *               \-> REPLY -> done                     ATTACH: another piece announces the writer to the PG
 *                     \-> ROUTE, PAUSE, REFRESH ...   REFRESH: the monitor is asked about the image
 *
 * Who is asked is in client_leader.c; who gets a piece at all in client_share.c.
 *
 * Why sending again is safe. The outcome of an attempt is unknown when its session broke or was given up; the
 * same bytes are then sent again, and the first attempt may yet take effect, or have done so. It must not do
 * so after a newer write.
 *   - Newer writes of this client to the same bytes wait (ORDER) until this piece has ended, so while it is
 * retried there is none.
 *   - When it has ended, no earlier attempt of it can be proposed any more. It was aimed at a term T of one
 * shard, which proposes it only while it leads in T. Whatever ends the piece, or the write after it, is
 * committed by that shard in T over a later session, and greeting that one retired all earlier ones (rpc.h);
 * or by a leader of a later term, and then nothing proposed in T from then on can be committed. It is not by
 * a leader of an earlier term, with T won afterwards: see client_piece_term().
 *   - Writes of a former process of this writer, or of another writer, are fenced by incarnation: it is
 * announced to each PG before the first write there (attaching), and to all PGs when an image is opened that
 * has had a writer before.
 *   - A resize or removal raises the generation, which every request carries.
 *
 * A shard that hangs costs the patience of its session (client_peer.c); one that is dead nothing but the
 * round trip to the next member.
 */
#include "base/crc32c.h"
#include "base/trace.h"
#include "client/impl.h"

#define CONNECT_NS            (50 * NS_PER_MS)
#define PAUSE_MIN_NS          (5 * NS_PER_MS)
#define PAUSE_MAX_NS          (100 * NS_PER_MS)
#define PAUSE_HELD_NS         (100 * NS_PER_MS)
#define PAUSE_BUSY_NS         (1 * NS_PER_MS)
#define CHECKSUM_FAILURES_MAX 3

enum piece_state {
    PIECE_STATE_ORDER,
    PIECE_STATE_ROUTE,
    PIECE_STATE_CONNECT,
    PIECE_STATE_REPLY,
    PIECE_STATE_PAUSE,
    PIECE_STATE_WAIT_ATTACH,
    PIECE_STATE_WAIT_REFRESH,
    PIECE_STATE_END,
};

static const char *piece_state_name(int state)
{
    static const char *const names[] = {"order", "route",  "connect", "reply",
                                        "pause", "attach", "refresh", "end"};
    return names[state];
}

static bool piece_changes_data(const struct client_piece *p)
{
    return p->type == PIECE_WRITE || p->type == PIECE_DISCARD || p->type == PIECE_ZERO;
}

/* ---- the order of writes ---- */

static struct list *piece_chain(struct client_piece *p)
{
    return &p->client->order[hash_pair(p->image->id, p->object) & (CLIENT_ORDER_CHAINS - 1)];
}

static bool piece_overlaps(const struct client_piece *a, const struct client_piece *b)
{
    return a->image->id == b->image->id && a->object == b->object && a->offset < b->offset + b->len &&
           b->offset < a->offset + a->len;
}

/* No older write to any of its bytes is under way. */
static bool piece_in_order(struct client_piece *p)
{
    list_for_each (piece_chain(p), node) {
        struct client_piece *other = list_entry(node, struct client_piece, order);
        if (other == p)
            break;
        if (piece_overlaps(other, p))
            return false;
    }
    return true;
}

static void piece_leave_order(struct client_piece *p)
{
    bool younger = false;

    if (!list_linked(&p->order))
        return;
    struct list *chain = piece_chain(p);
    list_for_each (chain, node) {
        struct client_piece *other = list_entry(node, struct client_piece, order);
        if (other == p)
            younger = true;
        else if (younger && other->op.state == PIECE_STATE_ORDER && piece_overlaps(other, p))
            op_wake(&other->op);
    }
    list_remove(&p->order);
}

/* ---- attaching ---- */

static struct client_image_pg *piece_image_pg(struct client_piece *p)
{
    return &p->image->pgs[p->pg_number];
}

static void piece_end_attach(struct client_piece *p)
{
    struct client_image_pg *pg = piece_image_pg(p);

    if (!p->attaching)
        return;
    ASSERT(pg->attacher == p);
    p->attaching = false;
    pg->attacher = NULL;
    for (struct list *node; (node = list_pop_front(&pg->waiters));)
        op_wake(&list_entry(node, struct client_piece, wait)->op);
}

static bool piece_needs_attach(struct client_piece *p)
{
    return (piece_changes_data(p) || p->type == PIECE_ATTACH) &&
           piece_image_pg(p)->attached_generation != p->image->generation;
}

/* ---- steps ---- */

static void piece_pause(struct client_piece *p, uint64_t least_ns)
{
    struct core *core = p->op.core;
    uint64_t pause_ns = MIN(least_ns << MIN(p->pauses, 8u), PAUSE_MAX_NS);

    /* Half of it is chance, so that pieces and clients do not come back all at once. */
    pause_ns = pause_ns / 2 + core_random_u64(core) % (pause_ns / 2 + 1);
    p->pauses++;
    p->hops = 0;
    timer_arm(core, &p->timer, &p->op, MIN(core_now_ns(core) + pause_ns, p->deadline_ns));
    p->op.state = PIECE_STATE_PAUSE;
}

static struct client_peer *piece_peer(struct client_piece *p)
{
    return client_peer_get(p->client, p->target_osd, p->target_shard);
}

static void piece_try_next(struct client_piece *p)
{
    if (client_piece_next(p))
        piece_pause(p, PAUSE_MIN_NS);
    else
        p->op.state = PIECE_STATE_ROUTE;
}

static void piece_send(struct client_piece *p, struct client_peer *peer)
{
    uint64_t now_ns = core_recent_ns(p->op.core);
    int error = client_piece_send(p, peer->rpc, client_piece_pg(p), client_piece_term(p),
                                  MIN(now_ns + peer->patience_ns, p->deadline_ns));

    if (error == 0)
        p->op.state = PIECE_STATE_REPLY;
    else if (error == -ERR_BUSY)
        piece_pause(p, PAUSE_BUSY_NS); /* the queue to the shard is full; it empties in the meantime */
    else
        piece_try_next(p);
}

/* Sends, or says what has to come first. */
static void piece_route(struct client_piece *p)
{
    struct op *op = &p->op;

    if (piece_needs_attach(p) && !p->attaching) {
        struct client_image_pg *image_pg = piece_image_pg(p);
        if (image_pg->attacher) {
            list_push_back(&image_pg->waiters, &p->wait);
            timer_arm(op->core, &p->timer, op, p->deadline_ns);
            op->state = PIECE_STATE_WAIT_ATTACH;
            return;
        }
        image_pg->attacher = p;
        p->attaching = true;
    }
    if (!client_piece_choose(p)) {
        piece_pause(p, PAUSE_MIN_NS);
        return;
    }
    struct client_peer *peer = piece_peer(p);
    if (!peer) {
        piece_try_next(p);
    } else if (LIKELY(rpc_peer_is_open(peer->rpc))) {
        piece_send(p, peer);
    } else if (client_peer_connect(peer)) {
        list_push_back(&peer->waiters, &p->peer_wait.link);
        timer_arm(op->core, &p->timer, op, MIN(core_now_ns(op->core) + CONNECT_NS, p->deadline_ns));
        op->state = PIECE_STATE_CONNECT;
    } else {
        piece_try_next(p);
    }
}

static void piece_connected(struct client_piece *p)
{
    struct client_peer *peer = piece_peer(p);

    timer_cancel(p->op.core, &p->timer);
    list_remove(&p->peer_wait.link);
    if (peer && rpc_peer_is_open(peer->rpc))
        piece_send(p, peer);
    else
        piece_try_next(p);
}

static void piece_wait_refresh(struct client_piece *p)
{
    client_image_refresh(p->image);
    list_push_back(&p->image->refresh_waiters, &p->wait);
    timer_arm(p->op.core, &p->timer, &p->op, p->deadline_ns);
    p->op.state = PIECE_STATE_WAIT_REFRESH;
}

static void piece_end(struct client_piece *p, int result)
{
    p->op.result = result;
    p->op.state = PIECE_STATE_END;
}

static void piece_count(struct client_piece *p, uint64_t took_ns)
{
    struct client_perf *perf = &p->client->perf;
    uint64_t waited_ns = p->call.sent_ns - p->op.started_ns;

    if (p->type != PIECE_READ && p->type != PIECE_WRITE)
        return;
    histogram_record(&perf->wait, waited_ns);
    histogram_record(p->type == PIECE_READ ? &perf->read : &perf->write, took_ns);
    TRACE(client_answered, client_piece_pg(p), p->type, p->len, waited_ns, took_ns);
}

static void piece_succeeded(struct client_piece *p, const struct client_answer *answer)
{
    struct client_peer *peer = piece_peer(p);
    uint64_t took_ns = core_now_ns(p->op.core) - p->call.sent_ns;

    client_piece_learn(p, answer);
    if (peer)
        client_peer_answered(peer, took_ns);
    p->hops = 0;
    if (p->attaching) {
        piece_image_pg(p)->attached_generation = p->sent_generation;
        piece_end_attach(p);
        p->op.state = PIECE_STATE_ROUTE;
        if (p->type != PIECE_ATTACH || piece_needs_attach(p))
            return;
    }
    piece_count(p, took_ns);
    piece_end(p, 0);
}

/* No answer: the outcome is unknown, and the session is gone. */
static void piece_unanswered(struct client_piece *p, int result)
{
    struct client_peer *peer = piece_peer(p);

    p->client->perf.retries++;
    if (result == -ERR_TIMEOUT && peer)
        client_peer_timed_out(peer);
    piece_try_next(p);
}

/* The PG was split, so the object is another one's; or a writer that attaches does not know of one that was
 * split off. The map may have yet to tell. */
static void piece_find_pg(struct client_piece *p)
{
    uint32_t was = p->pg_number;
    bool grown = client_image_grow(p->image);

    piece_end_attach(p);
    if (p->type != PIECE_ATTACH)
        p->pg_number = client_image_pg_number(p->image, p->object);
    p->cursor = p->hops = 0;
    if (grown || p->pg_number != was)
        p->op.state = PIECE_STATE_ROUTE;
    else
        piece_pause(p, PAUSE_MIN_NS);
}

static void piece_refused(struct client_piece *p, int result, const struct client_answer *answer)
{
    p->client->perf.retries++;
    if (result == -ERR_NO_PG || result == -ERR_WRONG_PG)
        client_mon_ask(p->client, answer->epoch);
    switch (-result) {
    case ERR_NOT_LEADER:
    case ERR_STALE_TERM:
        if (client_piece_redirect(p, answer))
            piece_pause(p, PAUSE_MIN_NS);
        else
            p->op.state = PIECE_STATE_ROUTE;
        return;
    case ERR_NO_PG:
    case ERR_RECOVERING:
    case ERR_STOPPED:
        piece_try_next(p);
        return;
    case ERR_RETRY:
    case ERR_BUSY:
    case ERR_NO_MEMORY:
    case ERR_CONFLICT:
        piece_pause(p, PAUSE_BUSY_NS);
        return;
    case ERR_PAUSED:
        /* If it has a newer map than we, that waits however long, as if we had it. If ours is the newer one
         * the pause is over, and it is cut off from the monitors: no reason to wait longer than for a dead
         * one. */
        if (!answer->epoch || answer->epoch >= p->client->map->epoch)
            p->client->held_ns = core_now_ns(p->op.core);
        piece_pause(p, PAUSE_HELD_NS);
        return;
    case ERR_WRONG_PG:
        piece_find_pg(p);
        return;
    case ERR_NOT_ATTACHED:
        if (!p->image->writable)
            break;
        if (piece_image_pg(p)->attached_generation == p->sent_generation)
            piece_image_pg(p)->attached_generation = 0;
        p->op.state = PIECE_STATE_ROUTE;
        return;
    case ERR_STALE_GENERATION:
        /* Either the image has changed, or the PG has yet to hear of the change that we know. */
        if (p->image->generation != p->sent_generation)
            p->op.state = PIECE_STATE_ROUTE;
        else
            piece_wait_refresh(p);
        return;
    case ERR_FENCED:
        client_image_fail(p->image, result);
        break;
    case ERR_CHECKSUM:
        if (p->checksum_failures++ < CHECKSUM_FAILURES_MAX) {
            p->op.state = PIECE_STATE_ROUTE;
            return;
        }
        break;
    default:
        break;
    }
    piece_end(p, result);
}

static void piece_answered(struct client_piece *p)
{
    struct client_answer answer;
    bool remote = p->call.remote;
    int result = client_piece_receive(p, &answer);

    if (result == 0)
        piece_succeeded(p, &answer);
    else if (remote)
        piece_refused(p, result, &answer);
    else
        piece_unanswered(p, result);
}

/* This process may have been away itself (a suspended laptop, a virtual machine that was paused): what was
 * not served meanwhile is not the cluster's fault, and after an absence of half the limit or more that counts
 * anew. So it does after a pause of the cluster, also for what has waited meanwhile for a write that was
 * held. */
static void piece_note_absence(struct client_piece *p)
{
    const struct core *core = p->op.core;
    uint64_t timeout_ns = p->client->config.timeout_ns;

    if (core->back_ns - core->gone_ns >= timeout_ns / 2)
        p->client->held_ns = MAX(p->client->held_ns, core->back_ns);
    p->deadline_ns = MAX(p->deadline_ns, p->client->held_ns + timeout_ns);
}

/* Nothing may be sent any more: the image has failed, or the time is up. */
static int piece_verdict(struct client_piece *p)
{
    if (p->image->failed)
        return p->image->failed;
    piece_note_absence(p);
    if (core_recent_ns(p->op.core) >= p->deadline_ns)
        return -ERR_TIMEOUT;
    return 0;
}

/* An operator has paused the cluster: what is not sent yet waits, however long. */
static bool piece_is_held(struct client_piece *p)
{
    if (LIKELY(!p->client->map->paused) || !(piece_changes_data(p) || p->type == PIECE_READ))
        return false;
    p->client->held_ns = core_now_ns(p->op.core);
    return true;
}

static void piece_give_back(struct client_piece *p)
{
    int result = p->op.result;

    timer_cancel(p->op.core, &p->timer);
    piece_end_attach(p);
    piece_leave_order(p);
    list_remove(&p->wait);
    list_remove(&p->peer_wait.link);
    op_done(&p->op, result);
    client_piece_put(p);
}

static void piece_step(struct op *op)
{
    struct client_piece *p = container_of(op, struct client_piece, op);

    for (;;) {
        switch ((enum piece_state)op->state) {
        case PIECE_STATE_ORDER:
            if (piece_changes_data(p) && !piece_in_order(p))
                return;
            op->state = PIECE_STATE_ROUTE;
            break;
        case PIECE_STATE_ROUTE: {
            int verdict = piece_verdict(p);
            if (verdict)
                piece_end(p, verdict);
            else if (piece_is_held(p))
                piece_pause(p, PAUSE_MAX_NS);
            else
                piece_route(p);
            break;
        }
        case PIECE_STATE_CONNECT:
            if (list_linked(&p->peer_wait.link) && !p->timer.fired)
                return;
            piece_connected(p);
            break;
        case PIECE_STATE_REPLY:
            if (p->call.pending)
                return;
            piece_answered(p);
            break;
        case PIECE_STATE_PAUSE:
            if (!p->timer.fired)
                return;
            op->state = PIECE_STATE_ROUTE;
            break;
        case PIECE_STATE_WAIT_ATTACH:
            if (list_linked(&p->wait) && !p->timer.fired)
                return;
            list_remove(&p->wait);
            timer_cancel(op->core, &p->timer);
            op->state = PIECE_STATE_ROUTE;
            break;
        case PIECE_STATE_WAIT_REFRESH:
            if (list_linked(&p->wait) && !p->timer.fired)
                return;
            list_remove(&p->wait);
            timer_cancel(op->core, &p->timer);
            if (p->image->generation != p->sent_generation)
                op->state = PIECE_STATE_ROUTE;
            else
                piece_pause(p, PAUSE_MIN_NS);
            break;
        case PIECE_STATE_END:
            piece_give_back(p);
            return;
        }
    }
}

static const struct op_kind piece_kind = {"client.piece", piece_state_name, piece_step};

/* One checksum for each part between block boundaries. */
static void piece_checksum(struct client_piece *p)
{
    const uint8_t *data = slice_data(&p->data);
    uint32_t at = p->offset, end = p->offset + p->len;

    p->crc_count = 0;
    while (at < end) {
        uint32_t next = MIN(ALIGN_DOWN(at, BLOCK_SIZE) + BLOCK_SIZE, end);
        ASSERT(p->crc_count < WIRE_CRC_MAX);
        p->crc[p->crc_count++] = crc32c(0, data + (at - p->offset), next - at);
        at = next;
    }
}

void client_piece_start(struct client_piece *p, struct op *parent)
{
    struct client *client = p->client;

    if (p->type == PIECE_WRITE)
        piece_checksum(p);
    op_start(&p->op, client->core, &piece_kind, parent);
    p->deadline_ns = p->asked_ns + client->config.timeout_ns;
    if (piece_changes_data(p))
        list_push_back(piece_chain(p), &p->order);
}
