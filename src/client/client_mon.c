/* SPDX-License-Identifier: Apache-2.0
 *
 * The session with a monitor, and calls to it.
 *
 * One op per client lives as long as the client:
 *
 * The one that leads, if it can be found: the others hold the map, but answer no more than that. A monitor
 * tells who leads with every Subscribe, and when it begins to lead itself.
 *
 *     CONNECT -> OPEN -> SUBSCRIBE -> FOLLOW -> (session gone) CONNECT ...
 *                 |          |          |
 *                 +----------+          +-> SUBSCRIBE every few seconds, when a delta is missing, and
 *                  next address             when a shard refuses us and has a newer map
 *
 * The repeated Subscribe names the epoch that is known, so that its answer is small; it finds a monitor that
 * hangs, makes up for events that were lost, and keeps the registration of the images that are open for
 * writing. While no monitor answers the client goes on with the last map. After each new session the open
 * images are asked about again, because events may have been missed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/impl.h"
#include "wire/cold.h"

#define MON_OPEN_NS      (1 * NS_PER_S)
#define MON_SUBSCRIBE_NS (3 * NS_PER_S)
#define MON_FOLLOW_NS    (4 * NS_PER_S)
#define MON_ASK_EVERY_NS (100 * NS_PER_MS)
#define MON_PAUSE_NS     (20 * NS_PER_MS)
#define MON_PAUSE_MAX_NS (1 * NS_PER_S)
#define MON_CALLS_MAX    64 /* under way; one more is the Subscribe */

/* Who has less time left than this is not sent any more: were it not answered by then, the session would end,
 * and with it what others wait for. */
#define MON_ANSWER_NS (500 * NS_PER_MS)

enum mon_state { MON_CONNECT, MON_OPEN, MON_SUBSCRIBE, MON_SUBSCRIBED, MON_FOLLOW, MON_PAUSE };

static const char *mon_state_name(int state)
{
    static const char *const names[] = {"connect", "open", "subscribe", "subscribed", "follow", "pause"};
    return names[state];
}

static struct client *mon_client(struct client_mon *m)
{
    return container_of(m, struct client, mon);
}

/* False: there is none. */
static bool mon_wake_waiter(struct client_mon *m)
{
    struct list *node = list_pop_front(&m->waiters);

    if (node)
        op_wake(list_entry(node, struct client_wait, link)->op);
    return node;
}

static void mon_opened(void *owner, struct rpc_peer *peer, const struct rpc_identity *who)
{
    struct client_mon *m = owner;

    op_wake(&m->op);
}

static void mon_closed(void *owner, struct rpc_peer *peer, int error)
{
    struct client_mon *m = owner;

    m->closed = true;
    m->ready = false;
    m->error = error;
    op_wake(&m->op);
}

/* Takes the bytes of a reply apart. NULL: not valid. */
static Fb__MonReply *client_mon_reply_decode(const uint8_t *body, uint32_t len)
{
    return len <= FRAME_BODY_MAX ? fb__mon_reply__unpack(CLIENT_ALLOCATOR, len, body) : NULL;
}

static void mon_take_map(struct client_mon *m, Fb__ClusterMap *map)
{
    struct client *client = mon_client(m);
    int error = client_map_apply(client, map);

    if (error == -ERR_CONFLICT) {
        m->resync = true;
        op_wake(&m->op);
    } else if (error) {
        core_log(client->core, LOG_WARN, "client", "map of epoch %llu from monitor %s is not used: %s",
                 (unsigned long long)map->epoch, rpc_monitors_current(&client->monitors), error_text(error));
    }
}

static void mon_refresh_images(struct client *client)
{
    list_for_each (&client->images, node)
        client_image_refresh(list_entry(node, struct client_image, link));
}

/* Thousands of images may be removed one after the other: then it is asked with every Subscribe. */
static void mon_order_seen(struct client_mon *m)
{
    uint64_t now_ns = core_now_ns(mon_client(m)->core);

    m->images_due = m->order_ns && now_ns - m->order_ns < MON_FOLLOW_NS;
    if (m->images_due)
        return;
    m->order_ns = now_ns;
    mon_refresh_images(mon_client(m));
}

static void mon_event(void *owner, struct rpc_peer *peer, const struct rpc_message *message)
{
    struct client_mon *m = owner;

    if (message->method != METHOD_MON_EVENT || message->body_len > FRAME_BODY_MAX)
        return;
    Fb__MonEvent *event = fb__mon_event__unpack(CLIENT_ALLOCATOR, message->body_len, message->body);
    if (!event)
        return;
    if (event->map)
        mon_take_map(m, event->map);
    if (event->leader[0]) {
        mon_refresh_images(mon_client(m));
        m->behind = true; /* it has yet to be told what we have open for writing */
        op_wake(&m->op);
    }
    /* An image was removed or resized, and its PGs will take nobody's word that is older. Without asking now
     * a piece would have to ask later, and perhaps at a time when no monitor answers. */
    for (size_t i = 0; event->map && i < event->map->n_order; i++)
        if (!event->map->order[i]->removed) {
            mon_order_seen(m);
            break;
        }
    if (event->image) {
        struct client *client = mon_client(m);
        list_for_each (&client->images, node) {
            struct client_image *image = list_entry(node, struct client_image, link);
            if (image->id == event->image->id)
                client_image_update(image, event->image);
        }
    }
    fb__mon_event__free_unpacked(event, CLIENT_ALLOCATOR);
}

static void mon_connect(struct client_mon *m)
{
    struct client *client = mon_client(m);
    struct rpc_peer_config config = {
        .core = client->core,
        .net = client->net,
        .address = rpc_monitors_current(&client->monitors),
        .self = &client->self,
        .calls_max = MON_CALLS_MAX + 1,
        .opened = mon_opened,
        .closed = mon_closed,
        .oneway = mon_event,
        .owner = m,
    };

    m->closed = m->ready = false;
    if (m->peer)
        return; /* it connects again by itself */
    m->peer = rpc_peer_new(&config);
    if (!m->peer) {
        m->closed = true;
        m->error = -ERR_INVALID;
    }
}

/* Gives the session up; the next attempt goes to the next address, after a pause once all had their turn. */
static void mon_give_up(struct client_mon *m)
{
    struct client *client = mon_client(m);
    uint32_t count = client->monitors.count;
    uint64_t pause_ns = 0;

    m->ready = false;
    m->failures++;
    if (m->failures >= count)
        pause_ns = MIN(MON_PAUSE_NS << (MIN(m->failures / count, 7u) - 1), MON_PAUSE_MAX_NS);
    if (count > 1 && m->peer) {
        rpc_peer_free(m->peer);
        m->peer = NULL;
        rpc_monitors_next(&client->monitors);
    }
    timer_arm(client->core, &m->timer, &m->op, core_now_ns(client->core) + pause_ns);
    op_wake(client->opener);
}

/* Another monitor leads. */
static void mon_move(struct client_mon *m)
{
    m->moved = m->ready = false;
    if (m->peer)
        rpc_peer_free(m->peer);
    m->peer = NULL;
}

/* A monitor says who leads. */
static void client_mon_leader(struct client *client, const char *leader)
{
    struct client_mon *m = &client->mon;

    if (!rpc_monitors_follow(&client->monitors, leader, core_now_ns(client->core)))
        return;
    m->moved = true;
    op_wake(&m->op);
}

/* The images that are open for writing. They are named every time, so that the monitor finds out what was
 * closed, or never opened, without its knowledge. NULL: no memory. */
static uint64_t *mon_list_writing(struct client *client, size_t *ret_count)
{
    size_t count = 0;

    list_for_each (&client->images, node)
        count++;
    uint64_t *ids = malloc((count + 1) * sizeof(*ids));
    if (!ids)
        return NULL;
    count = 0;
    list_for_each (&client->images, node) {
        const struct client_image *image = list_entry(node, struct client_image, link);
        if (image->writable && !image->failed)
            ids[count++] = image->id;
    }
    *ret_count = count;
    return ids;
}

static int mon_subscribe(struct client_mon *m)
{
    struct client *client = mon_client(m);
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__Subscribe subscribe = FB__SUBSCRIBE__INIT;
    uint32_t len;

    subscribe.since_epoch = client->has_map && !m->resync ? client->map->epoch : 0;
    subscribe.writing = mon_list_writing(client, &subscribe.n_writing);
    request.call_case = FB__MON_REQUEST__CALL_SUBSCRIBE;
    request.subscribe = &subscribe;
    /* The memory of the reply serves the request first. */
    int error = -ERR_NO_MEMORY;
    if (subscribe.writing)
        error = wire_cold_encode(&request.base, rpc_body(m->reply), FRAME_BODY_MAX - FRAME_HEADER_SIZE, &len);
    free(subscribe.writing);
    if (error)
        return error;
    m->resync = m->behind = false;
    m->asked_ns = core_now_ns(client->core);
    m->call.reply = m->reply;
    m->call.reply_cap = FRAME_BODY_MAX;
    return rpc_call_start(&m->call, m->peer, &m->op, METHOD_MON, rpc_body(m->reply), len, NULL, 0,
                          core_now_ns(client->core) + MON_SUBSCRIBE_NS);
}

static int mon_subscribed(struct client_mon *m)
{
    struct client *client = mon_client(m);

    slice_unref(&m->call.reply_payload);
    if (m->call.result)
        return m->call.result;
    Fb__MonReply *reply = client_mon_reply_decode(m->call.reply, m->call.reply_len);
    if (!reply)
        return -ERR_PROTOCOL;
    m->newest_epoch = reply->epoch;
    if (reply->map)
        mon_take_map(m, reply->map);
    client_mon_leader(client, reply->leader);
    fb__mon_reply__free_unpacked(reply, CLIENT_ALLOCATOR);
    m->failures = 0;
    m->error = 0;
    if (m->moved)
        return 0;
    bool fresh = !m->ready;
    m->ready = true;
    while (mon_wake_waiter(m))
        continue;
    op_wake(client->opener);
    if (fresh || m->images_due)
        mon_refresh_images(client);
    m->images_due = false;
    return 0;
}

static void mon_step(struct op *op)
{
    struct client_mon *m = container_of(op, struct client_mon, op);
    struct core *core = op->core;
    int error;

    for (;;) {
        switch ((enum mon_state)op->state) {
        case MON_CONNECT:
            mon_connect(m);
            timer_arm(core, &m->timer, op, core_now_ns(core) + MON_OPEN_NS);
            op->state = MON_OPEN;
            break;
        case MON_OPEN:
            if (m->peer && rpc_peer_is_open(m->peer)) {
                m->closed = false;
                op->state = MON_SUBSCRIBE;
            } else if (m->closed || m->timer.fired) {
                if (!m->closed)
                    m->error = -ERR_TIMEOUT;
                mon_give_up(m);
                op->state = MON_PAUSE;
            } else {
                return;
            }
            break;
        case MON_SUBSCRIBE:
            error = mon_subscribe(m);
            if (error) {
                m->error = error;
                mon_give_up(m);
                op->state = MON_PAUSE;
            } else {
                op->state = MON_SUBSCRIBED;
            }
            break;
        case MON_SUBSCRIBED:
            if (m->call.pending)
                return;
            error = mon_subscribed(m);
            if (error) {
                m->error = error;
                mon_give_up(m);
                op->state = MON_PAUSE;
            } else {
                timer_arm(core, &m->timer, op, core_now_ns(core) + MON_FOLLOW_NS);
                op->state = MON_FOLLOW;
            }
            break;
        case MON_FOLLOW:
            if (m->moved && !m->calls) {
                mon_move(m);
                op->state = MON_CONNECT;
            } else if (m->closed) {
                mon_give_up(m);
                op->state = MON_PAUSE;
            } else if (m->resync || m->behind || m->timer.fired) {
                op->state = MON_SUBSCRIBE;
            } else {
                return;
            }
            break;
        case MON_PAUSE:
            if (!m->timer.fired)
                return;
            op->state = MON_CONNECT;
            break;
        }
    }
}

static const struct op_kind mon_kind = {"client.monitor", mon_state_name, mon_step};

void client_mon_ask(struct client *client, uint64_t epoch)
{
    struct client_mon *m = &client->mon;

    if (epoch <= client->map->epoch || m->op.state != MON_FOLLOW ||
        core_now_ns(client->core) - m->asked_ns < MON_ASK_EVERY_NS)
        return;
    m->behind = true;
    op_wake(&m->op);
}

void client_mon_start(struct client *client)
{
    list_init(&client->mon.waiters);
    op_start(&client->mon.op, client->core, &mon_kind, NULL);
}

void client_mon_stop(struct client *client)
{
    struct client_mon *m = &client->mon;

    ASSERT(list_empty(&m->waiters));
    if (m->peer)
        rpc_peer_free(m->peer);
    m->peer = NULL;
    timer_cancel(client->core, &m->timer);
    if (op_live(&m->op))
        op_done(&m->op, 0);
}

/* ---- calls ---- */

enum mon_call_state { MON_CALL_WAIT, MON_CALL_REPLY, MON_CALL_PAUSE };
#define MON_CALL_PAUSE_NS (100 * NS_PER_MS)

static const char *mon_call_state_name(int state)
{
    static const char *const names[] = {"wait", "reply", "pause"};
    return names[state];
}

struct mon_call_private {
    struct client_wait wait; /* for a session */
    struct timer timer;
    struct rpc_call call;
    uint64_t deadline_ns;
    uint32_t request_len;
    uint8_t *request; /* with room for the frame header */
    uint8_t *reply;   /* FRAME_BODY_MAX bytes while it is under way: thousands may wait to be sent */
};

/* Carrying such a call out twice has the same result as once. */
static bool mon_call_is_idempotent(const Fb__MonRequest *request)
{
    switch (request->call_case) {
    case FB__MON_REQUEST__CALL_POOL_CREATE:
    case FB__MON_REQUEST__CALL_POOL_REMOVE:
    case FB__MON_REQUEST__CALL_IMAGE_CREATE:
    case FB__MON_REQUEST__CALL_IMAGE_RESIZE: /* or would undo what another has done since */
    case FB__MON_REQUEST__CALL_IMAGE_REMOVE:
    case FB__MON_REQUEST__CALL_MON_REMOVE:
        return false;
    case FB__MON_REQUEST__CALL_PG_FORCE_ORDER:
        return !request->pg_force_order->withdraw;
    default:
        return true;
    }
}

static int mon_call_begin(struct client_mon_call *c)
{
    size_t len = wire_cold_size(&c->request->base);

    if (len > FRAME_BODY_MAX)
        return -ERR_TOO_LARGE;
    struct mon_call_private *p = calloc(1, sizeof(*p));
    if (!p)
        return -ERR_NO_MEMORY;
    list_init(&p->wait.link);
    p->wait.op = &c->op;
    c->private_state = p;
    p->request = malloc(FRAME_HEADER_SIZE + len);
    if (!p->request)
        return -ERR_NO_MEMORY;
    int error = wire_cold_encode(&c->request->base, p->request + FRAME_HEADER_SIZE, len, &p->request_len);
    if (error)
        return error;
    p->deadline_ns = core_now_ns(c->op.core) + c->timeout_ns;
    timer_arm(c->op.core, &p->timer, &c->op, p->deadline_ns);
    return 0;
}

static void mon_call_end(struct client_mon_call *c, int result)
{
    struct mon_call_private *p = c->private_state;

    if (p) {
        timer_cancel(c->op.core, &p->timer);
        list_remove(&p->wait.link);
        slice_unref(&p->call.reply_payload);
        free(p->request);
        free(p->reply);
        free(p);
    }
    c->private_state = NULL;
    /* Its place is free, or it was woken for one and does not want it. */
    (void)mon_wake_waiter(&c->client->mon);
    op_done(&c->op, result);
}

static void mon_call_queue(struct client_mon_call *c)
{
    struct mon_call_private *p = c->private_state;

    if (!list_linked(&p->wait.link))
        list_push_back(&c->client->mon.waiters, &p->wait.link);
}

/* 0: sent. */
static int mon_call_send(struct client_mon_call *c)
{
    struct mon_call_private *p = c->private_state;

    if (!c->client->mon.ready || c->client->mon.moved)
        return -ERR_CLOSED;
    if (c->client->mon.calls >= MON_CALLS_MAX)
        return -ERR_BUSY;
    if (!p->reply)
        p->reply = malloc(FRAME_BODY_MAX);
    if (!p->reply)
        return -ERR_NO_MEMORY;
    p->call.reply = p->reply;
    p->call.reply_cap = FRAME_BODY_MAX;
    /* One that may be sent again is given up early enough to try another monitor. */
    uint64_t deadline_ns = p->deadline_ns;
    if (mon_call_is_idempotent(c->request))
        deadline_ns = MIN(deadline_ns, core_now_ns(c->op.core) + MON_SUBSCRIBE_NS);
    int error = rpc_call_start(&p->call, c->client->mon.peer, &c->op, METHOD_MON,
                               p->request + FRAME_HEADER_SIZE, p->request_len, NULL, 0, deadline_ns);
    c->client->mon.calls += !error;
    return error;
}

static void mon_call_step(struct op *op)
{
    struct client_mon_call *c = container_of(op, struct client_mon_call, op);

    if (!c->private_state) {
        int error = mon_call_begin(c);
        if (error) {
            mon_call_end(c, error);
            return;
        }
    }
    struct mon_call_private *p = c->private_state;
    int error;
    for (;;) {
        switch ((enum mon_call_state)op->state) {
        case MON_CALL_WAIT:
            if (op->cancelled || core_now_ns(op->core) + MON_ANSWER_NS >= p->deadline_ns) {
                mon_call_end(c, op->cancelled  ? -ERR_CANCELLED
                                : c->ret_reply ? -ERR_OTHER_MONITOR /* says what it is about */
                                               : -ERR_NO_MONITOR);
                return;
            }
            error = mon_call_send(c);
            if (error == -ERR_NO_MEMORY) {
                mon_call_end(c, error);
                return;
            }
            if (error) {
                free(p->reply);
                p->reply = NULL;
                /* Without a session the next one wakes us; of too many calls the next that ends; and the
                 * timer of the subscription goes on anyhow. */
                mon_call_queue(c);
                return;
            }
            op->state = MON_CALL_REPLY;
            break;
        case MON_CALL_REPLY:
            if (p->call.pending)
                return;
            c->client->mon.calls--;
            if (c->client->mon.moved)
                op_wake(&c->client->mon.op);
            client_mon_call_fini(c); /* what an earlier attempt was told */
            if (p->call.remote) {
                c->ret_reply = client_mon_reply_decode(p->call.reply, p->call.reply_len);
                int result = p->call.result;
                if (!c->ret_reply && !result)
                    result = -ERR_PROTOCOL;
                if (result == -ERR_OTHER_MONITOR && c->ret_reply) { /* certainly not carried out */
                    client_mon_leader(c->client, c->ret_reply->leader);
                    timer_arm(op->core, &p->timer, op, core_now_ns(op->core) + MON_CALL_PAUSE_NS);
                    op->state = MON_CALL_PAUSE;
                    break;
                }
                mon_call_end(c, result);
                return;
            }
            if (!mon_call_is_idempotent(c->request)) {
                mon_call_end(c, p->call.result);
                return;
            }
            timer_arm(op->core, &p->timer, op, p->deadline_ns);
            op->state = MON_CALL_WAIT;
            break;
        case MON_CALL_PAUSE:
            if (timer_armed(&p->timer) && !op->cancelled)
                return;
            timer_arm(op->core, &p->timer, op, p->deadline_ns);
            op->state = MON_CALL_WAIT;
            break;
        }
    }
}

static const struct op_kind mon_call_kind = {"client.mon_call", mon_call_state_name, mon_call_step};

void client_mon_call_start(struct client_mon_call *c, struct client *client, const Fb__MonRequest *request,
                           struct op *parent)
{
    c->client = client;
    c->request = request;
    if (!c->timeout_ns)
        c->timeout_ns = CLIENT_MON_TIMEOUT_NS;
    c->ret_reply = NULL;
    c->private_state = NULL;
    op_start(&c->op, client->core, &mon_call_kind, parent);
}

void client_mon_call_fini(struct client_mon_call *c)
{
    if (c->ret_reply)
        fb__mon_reply__free_unpacked(c->ret_reply, CLIENT_ALLOCATOR);
    c->ret_reply = NULL;
}
