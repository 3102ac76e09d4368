/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions, subscribers, and the map as they get it.
 *
 * A map message holds the items with an epoch in (base, to], whole epochs only: `to` is the newest epoch
 * unless that is more than MON_MAP_BYTES, and then the next message goes on from there. So a map of any size
 * is a sequence of deltas, and the receiver needs no rule but "apply, then remember the epoch"; each says
 * what the newest epoch is, since from what is absent from a part nothing follows. A subscriber is remembered
 * by the epoch it was sent last. What is more than a link takes at once goes into it as it empties; one that
 * has no room for an event is closed.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the map since an epoch ---- */

struct map_row {
    uint64_t epoch;
    enum mon_kind kind;
    ProtobufCMessage *message;
};

struct map_part {
    Fb__ClusterMap map;
    struct map_row *rows;
    void **pointers;
};

static int compare_rows(const void *a, const void *b)
{
    const struct map_row *left = a, *right = b;

    if (left->epoch != right->epoch)
        return left->epoch < right->epoch ? -1 : 1;
    return (left->kind > right->kind) - (left->kind < right->kind);
}

static bool is_marker(enum mon_kind kind, const ProtobufCMessage *message)
{
    return (kind == MON_PG && ((const Fb__Pg *)message)->removed) ||
           (kind == MON_POOL && ((const Fb__Pool *)message)->removed &&
            !((const Fb__Pool *)message)->pg_count) ||
           (kind == MON_ORDER && ((const Fb__ImageOrder *)message)->removed);
}

static size_t collect_rows(const struct mon *mon, uint64_t since, struct map_row *rows)
{
    size_t count = 0;

    if (since >= mon->state.epoch)
        return 0; /* as a rule: every client asks every few seconds */
    for (int k = 0; k < MON_KINDS; k++) {
        if (k == MON_IMAGE || k == MON_SCRUB)
            continue;
        mon_for_each(mon, k, node)
        {
            ProtobufCMessage *message = mon_node_item(node)->message;
            uint64_t epoch = mon_item_epoch((enum mon_kind)k, message);
            if (epoch <= since || (since == 0 && is_marker((enum mon_kind)k, message)))
                continue;
            if (rows)
                rows[count] = (struct map_row){epoch, (enum mon_kind)k, message};
            count++;
        }
    }
    return count;
}

/* How many of the sorted rows go into one message, and up to which epoch: never beyond the state's, for
 * of what comes later memory may have parts only, during a load and for a while after it (mon_publish()). */
static size_t cut_rows(const struct mon *mon, const struct map_row *rows, size_t count, uint64_t *ret_epoch)
{
    size_t bytes = 0, whole = 0;

    for (size_t i = 0; i < count; i++) {
        if (i && rows[i].epoch != rows[i - 1].epoch)
            whole = i;
        bytes += protobuf_c_message_get_packed_size(rows[i].message) + 6;
        if (bytes > MON_MAP_BYTES && whole) {
            *ret_epoch = MIN(rows[whole - 1].epoch, mon->state.epoch);
            return whole;
        }
    }
    *ret_epoch = mon->state.epoch;
    return count;
}

static int map_part_init(struct map_part *p, const struct mon *mon, uint64_t since)
{
    size_t count = collect_rows(mon, since, NULL), used = 0;

    *p = (struct map_part){.map = FB__CLUSTER_MAP__INIT};
    p->rows = malloc((count + 1) * sizeof(*p->rows));
    p->pointers = malloc((count + 1) * sizeof(*p->pointers));
    if (!p->rows || !p->pointers) {
        free(p->rows);
        free(p->pointers);
        return -ERR_NO_MEMORY;
    }
    collect_rows(mon, since, p->rows);
    qsort(p->rows, count, sizeof(*p->rows), compare_rows);
    /* With items beyond the epoch of the state (cut_rows()) this is a part, wherever it is cut. */
    p->map.newest_epoch = MAX(mon->state.epoch, count ? p->rows[count - 1].epoch : 0);
    count = cut_rows(mon, p->rows, count, &p->map.epoch);

    size_t first[MON_KINDS], number[MON_KINDS];
    for (int k = 0; k < MON_KINDS; k++) {
        first[k] = used;
        for (size_t i = 0; i < count; i++)
            if ((int)p->rows[i].kind == k)
                p->pointers[used++] = p->rows[i].message;
        number[k] = used - first[k];
    }
    p->map.cluster.data = (uint8_t *)mon->cluster;
    p->map.cluster.len = 16;
    p->map.base_epoch = since;
    p->map.image_id_max = mon->state.image_id_max;
    p->map.paused = mon->state.paused;
    p->map.osd = (Fb__Osd **)(p->pointers + first[MON_OSD]);
    p->map.n_osd = number[MON_OSD];
    p->map.pool = (Fb__Pool **)(p->pointers + first[MON_POOL]);
    p->map.n_pool = number[MON_POOL];
    p->map.pg = (Fb__Pg **)(p->pointers + first[MON_PG]);
    p->map.n_pg = number[MON_PG];
    if (number[MON_MONITORS])
        p->map.monitors = (Fb__MonitorList *)p->pointers[first[MON_MONITORS]];
    p->map.order = (Fb__ImageOrder **)(p->pointers + first[MON_ORDER]);
    p->map.n_order = number[MON_ORDER];
    return 0;
}

static void map_part_fini(struct map_part *p)
{
    free(p->rows);
    free(p->pointers);
}

/* ---- sessions ---- */

void mon_session_opened(void *owner, struct rpc_session *session)
{
    struct mon *mon = owner;
    struct mon_session *s = calloc(1, sizeof(*s));

    rpc_session_set_context(session, s);
    if (!s) {
        core_log(mon->core, LOG_WARN, "mon", "no memory for the session of %s", rpc_session_address(session));
        return; /* its calls are refused */
    }
    s->rpc = session;
    s->serial = ++mon->session_serial;
    list_push_back(&mon->sessions, &s->link);
    mon->client_count += rpc_session_identity(session)->role != RPC_OSD;
}

void mon_session_closed(void *owner, struct rpc_session *session)
{
    struct mon *mon = owner;
    struct mon_session *s = rpc_session_context(session);

    if (!s)
        return;
    list_remove(&s->link);
    mon->client_count -= rpc_session_identity(session)->role != RPC_OSD;
    rpc_session_set_context(session, NULL);
    if (s->has_shard)
        mon_osd_session_closed(mon, s);
    const struct rpc_identity *who = rpc_session_identity(session);
    if (who->role == RPC_CLIENT && !mon_client_connected(mon, who->client_uuid))
        mon_image_client_gone(mon, who->client_uuid);
    free(s);
}

void mon_sessions_close(struct mon *mon)
{
    list_for_each_safe (&mon->sessions, node)
        rpc_session_close(list_entry(node, struct mon_session, link)->rpc);
}

struct mon_session *mon_session_find(const struct mon *mon, uint64_t serial)
{
    list_for_each (&mon->sessions, node) {
        struct mon_session *s = list_entry(node, struct mon_session, link);
        if (s->serial == serial)
            return s;
    }
    return NULL;
}

bool mon_client_connected(const struct mon *mon, const uint8_t client[16])
{
    list_for_each (&mon->sessions, node) {
        const struct rpc_identity *who =
            rpc_session_identity(list_entry(node, struct mon_session, link)->rpc);
        if (who->role == RPC_CLIENT && !memcmp(who->client_uuid, client, 16))
            return true;
    }
    return false;
}

/* ---- events ---- */

static uint8_t *event_encode(const Fb__MonEvent *event, uint32_t *ret_len)
{
    size_t size = fb__mon_event__get_packed_size(event);
    uint8_t *frame = size <= FRAME_BODY_MAX ? malloc(FRAME_HEADER_SIZE + size + 1) : NULL;

    if (frame)
        *ret_len = (uint32_t)fb__mon_event__pack(event, rpc_body(frame));
    return frame;
}

/* False: the session was closed. */
static bool event_put(struct mon *mon, struct mon_session *s, uint8_t *frame, uint32_t len)
{
    int error = frame ? rpc_session_send(s->rpc, METHOD_MON_EVENT, false, rpc_body(frame), len, NULL, 0)
                      : -ERR_NO_MEMORY;

    if (!error)
        return true;
    core_log(mon->core, LOG_WARN, "mon", "closing the session of %s, which cannot take an event: %s",
             rpc_session_address(s->rpc), error_text(error));
    s->subscribed = false; /* it stays in the list until the rpc room says that it is closed */
    s->open_count = 0;
    rpc_session_close(s->rpc);
    return false;
}

void mon_event_send(struct mon *mon, struct mon_session *s, const Fb__MonEvent *event)
{
    uint32_t len = 0;
    uint8_t *frame = event_encode(event, &len);

    event_put(mon, s, frame, len);
    free(frame);
}

void mon_event_image(struct mon *mon, uint64_t image, const uint8_t *client)
{
    struct mon_image *i = mon_image_find(mon, image);
    Fb__MonEvent event = FB__MON_EVENT__INIT;

    if (!i)
        return;
    event.image = mon_image_item(i);
    list_for_each_safe (&mon->sessions, node) {
        struct mon_session *s = list_entry(node, struct mon_session, link);
        const struct rpc_identity *who = rpc_session_identity(s->rpc);
        bool concerned = client && who->role == RPC_CLIENT && !memcmp(who->client_uuid, client, 16);
        for (uint32_t n = 0; n < s->open_count && !concerned; n++)
            concerned = s->opens[n] == image;
        if (concerned)
            mon_event_send(mon, s, &event);
    }
}

/* ---- subscribers ---- */

void mon_publish(struct mon *mon)
{
    /* Subscribers are as a rule all at the same epoch: what was encoded for one serves the others. */
    uint64_t from = UINT64_MAX, to = 0;
    uint8_t *frame = NULL;
    uint32_t len = 0;

    if (mon->state_revision < mon->follow.whole_revision)
        return; /* the load has shown parts of changes that are told of now */
    mon->publish_due = false;
    list_for_each_safe (&mon->sessions, node) {
        struct mon_session *s = list_entry(node, struct mon_session, link);
        while (s->subscribed && s->sent_epoch < mon->state.epoch) {
            if (rpc_session_unsent_bytes(s->rpc) >= MON_UNSENT_BYTES) {
                mon->publish_due = true; /* the tick goes on */
                break;
            }
            if (s->sent_epoch != from) {
                struct map_part part;
                free(frame);
                frame = NULL;
                if (!map_part_init(&part, mon, s->sent_epoch)) {
                    Fb__MonEvent event = FB__MON_EVENT__INIT;
                    event.map = &part.map;
                    frame = event_encode(&event, &len);
                    from = s->sent_epoch;
                    to = part.map.epoch;
                    map_part_fini(&part);
                }
            }
            if (!event_put(mon, s, frame, len))
                break;
            s->sent_epoch = to;
        }
    }
    free(frame);
}

/* A delta cannot be made for someone who knows more than we do. Whether he does, or only says so, is known of
 * him alone who named this cluster in his handshake. */
static bool since_valid(struct mon_request *r, uint64_t since)
{
    static const uint8_t unknown[16];

    if (since <= r->mon->state.epoch)
        return true;
    if (!mon_leads(r->mon) || since <= r->mon->state.epoch + mon_epochs_under_way(r->mon)) {
        mon_reply(r, mon_fail(r, -ERR_RETRY,
                              "this monitor is a moment behind, and has come to epoch %" PRIu64 " so far",
                              r->mon->state.epoch));
        return false;
    }
    if (memcmp(r->who.cluster, unknown, 16))
        mon_note_knowledge(r->mon, r->who.name[0] && mon_text_valid(r->who.name) ? r->who.name : "a client",
                           r->mon->state.epoch, since, 0);
    mon_reply(
        r, mon_fail(r, -ERR_BEHIND,
                    "this monitor's map has epoch %" PRIu64 ", not yet %" PRIu64
                    ": it is of another cluster, or was restored from a backup; start it on its newest data",
                    r->mon->state.epoch, since));
    return false;
}

static int map_reply(struct mon_request *r, uint64_t since, uint64_t *ret_epoch)
{
    struct map_part part;

    if (!since_valid(r, since))
        return -ERR_BEHIND;
    int error = map_part_init(&part, r->mon, since);
    if (error) {
        mon_reply(r, error);
        return error;
    }
    r->reply.map = &part.map;
    mon_reply(r, 0);
    *ret_epoch = part.map.epoch;
    map_part_fini(&part);
    return 0;
}

void mon_map_get(struct mon_request *r)
{
    uint64_t epoch;

    (void)map_reply(r, r->call->map_get->since_epoch, &epoch); /* answered either way */
}

void mon_subscribe(struct mon_request *r)
{
    struct mon_session *s = mon_session_find(r->mon, r->session);
    const Fb__Subscribe *call = r->call->subscribe;
    uint64_t epoch;

    r->reply.leader = r->mon->follow.leader;
    r->reply.epoch = r->mon->state.epoch;
    if (s && r->who.role == RPC_CLIENT && mon_leads(r->mon))
        mon_image_client_writes(r->mon, r->who.client_uuid, call->writing, call->n_writing);
    if (!s || map_reply(r, call->since_epoch, &epoch))
        return;
    s->subscribed = true;
    s->sent_epoch = epoch;
    if (epoch < r->mon->state.epoch)
        mon_publish(r->mon); /* the rest of a large map */
}
