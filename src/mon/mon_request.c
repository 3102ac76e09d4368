/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a call, from the frame to the reply. Calls that only look are answered in the handler of the
 * frame; those that change something are ops:
 *
 *   [WAITING (for an OSD to tell what it knows) ->] QUEUED (waits for the turn) -> [LOADING] -> COMMITTING ->
 * answered
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

#define CONFLICTS_MAX     8
#define REQUEST_ARENA_MAX (4u << 20)

/* ---- small checks ---- */

bool mon_name_valid(const char *name)
{
    size_t len = strlen(name);

    return len >= 1 && len <= MON_NAME_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

bool mon_text_valid(const char *text)
{
    size_t len = 0;

    for (; text[len]; len++)
        if (len + 1 >= MON_TEXT_MAX || text[len] < ' ' || text[len] > '~')
            return false;
    return true;
}

uint64_t mon_epochs_under_way(const struct mon *mon)
{
    bool under_way = op_live(&mon->commit.op) || mon->stale || mon->doubtful;

    return under_way && mon->commit.epoch > mon->state.epoch ? mon->commit.epoch - mon->state.epoch : 0;
}

void mon_note_knowledge(struct mon *mon, const char *who, uint64_t since, uint64_t epoch,
                        uint64_t image_id_max)
{
    uint64_t ours = mon_epochs_under_way(mon);

    if (PLANT(MON_NEVER_BEHIND) || mon->behind[0] ||
        (epoch <= since + ours && image_id_max <= mon->state.image_id_max + ours))
        return;
    snprintf(mon->behind, sizeof(mon->behind),
             "this monitor's map (epoch %" PRIu64 ", images up to %" PRIu64
             ") is older than the one %.64s knows (epoch %" PRIu64 ", images up to %" PRIu64 ")",
             since, mon->state.image_id_max, who, epoch, image_id_max);
    core_log(
        mon->core, LOG_ERROR, "mon",
        "%s: its data was restored from a backup. Nothing is changed any more; stop it and start it on the newest data",
        mon->behind);
}

/* ---- one call ---- */

int mon_fail(struct mon_request *r, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(r->message, sizeof(r->message), format, args);
    va_end(args);
    return error;
}

size_t mon_page(struct mon_request *r, ProtobufCMessage *const *messages, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += protobuf_c_message_get_packed_size(messages[i]) + 6; /* its tag and length */
        if (bytes > MON_PAGE_BYTES) {
            r->reply.more = true;
            return i;
        }
    }
    return count;
}

static void request_free(struct mon_request *r)
{
    mon_change_fini(&r->change);
    wire_arena_fini(&r->arena);
    free(r);
}

static int reply_encode(const Fb__MonReply *reply, uint8_t **ret_frame, uint32_t *ret_len)
{
    size_t size = fb__mon_reply__get_packed_size(reply);

    if (size > FRAME_BODY_MAX)
        return -ERR_TOO_LARGE;
    uint8_t *frame = malloc(FRAME_HEADER_SIZE + size + 1);
    if (!frame)
        return -ERR_NO_MEMORY;
    *ret_len = (uint32_t)fb__mon_reply__pack(reply, rpc_body(frame));
    *ret_frame = frame;
    return 0;
}

/* Also when the reply itself does not fit: then it is an error that says so. */
void mon_reply(struct mon_request *r, int result)
{
    uint8_t *frame = NULL;
    uint32_t len = 0;

    if (r->mon->closing)
        return;
    r->reply.message = r->message;
    if (result && !r->message[0])
        mon_fail(r, result, "%s", error_text(result));
    int error = reply_encode(&r->reply, &frame, &len);
    if (error) {
        result = error;
        mon_fail(r, error, "the answer is too large for one message");
        fb__mon_reply__init(&r->reply);
        r->reply.message = r->message;
        if (reply_encode(&r->reply, &frame, &len))
            len = 0;
    }
    rpc_reply(&r->ticket, result, frame ? rpc_body(frame) : NULL, len, NULL, 0);
    free(frame);
}

enum request_state { REQUEST_WAITING, REQUEST_QUEUED, REQUEST_LOADING, REQUEST_COMMITTING };

static const char *request_state_name(int state)
{
    static const char *const names[] = {"waiting", "queued", "loading", "committing"};
    return names[state];
}

static void request_end(struct mon_request *r, int result)
{
    struct mon *mon = r->mon;

    mon_reply(r, result);
    mon_turn_give(mon, &r->turn);
    mon->request_count--;
    op_done(&r->op, 0);
    request_free(r);
    if (mon->closing)
        mon_memory_free(mon);
}

/* Says who leads. */
static int other_monitor(struct mon_request *r)
{
    const char *leader = r->mon->follow.leader;

    if (!strcmp(leader, r->mon->own_address))
        leader = ""; /* we have just lost it, or are about to begin */
    r->reply.leader = (char *)leader;
    if (leader[0])
        return mon_fail(r, -ERR_OTHER_MONITOR, "the monitor at %.64s leads: ask there", leader);
    return mon_fail(r, -ERR_OTHER_MONITOR, "no monitor leads at the moment: try again in a few seconds");
}

/* 1: wait for the commit; 0 or an error: answered with that. */
static int request_build(struct mon_request *r)
{
    struct mon *mon = r->mon;

    /* Who asked has gone, and may have asked somebody else since: what nobody waits for is not done. */
    if (!rpc_ticket_alive(&r->ticket))
        return -ERR_CANCELLED;
    if (!mon_leads(mon))
        return other_monitor(r);
    if (mon->behind[0])
        return mon_fail(
            r, -ERR_BEHIND,
            "%s: its data was restored from a backup. Stop the monitor and start it on its newest data directory; "
            "until then nothing can be changed, reads and writes of open images go on",
            mon->behind);
    mon_change_fini(&r->change);
    mon_change_init(&r->change, mon);
    r->nothing = false;
    r->message[0] = 0;
    int error = r->method->build(r);
    if (error)
        return error;
    if (r->nothing) {
        r->method->done(r);
        return 0;
    }
    mon_commit_start(mon, &r->change, &r->op);
    return 1;
}

/* True: wait on. `since_ns`: the alive time at which this wait began. */
static bool wait_on(struct mon_request *r, uint64_t *since_ns, uint64_t most_ns)
{
    if (!*since_ns)
        *since_ns = r->mon->alive_ns;
    if (list_empty(&r->waiting))
        list_push_back(&r->mon->waiting, &r->waiting);
    return r->mon->alive_ns - *since_ns < most_ns;
}

/* 1: wait on; 0: go on; or an error. */
static int request_wait(struct mon_request *r)
{
    struct mon *mon = r->mon;

    if (mon->behind[0])
        return 0; /* and be refused */
    if (r->method->needs_proof && !mon_osd_proven(mon)) {
        if (wait_on(r, &r->waiting_ns, MON_PROOF_NS))
            return 1;
        return mon_fail(
            r, -ERR_RETRY,
            "%s since this monitor started, so that it cannot know whether its data is the newest: start the OSDs, "
            "then try again in a few seconds",
            mon->witness_ns ? "not every OSD that could tell has connected"
                            : "no OSD that could tell has connected");
    }
    return r->method->waits && r->method->waits(r) && wait_on(r, &r->leaving_ns, MON_LEAVE_NS);
}

static void request_step(struct op *op)
{
    struct mon_request *r = container_of(op, struct mon_request, op);
    struct mon *mon = r->mon;
    int error;

    for (;;) {
        if (op->children)
            return;
        if (mon->closing) {
            list_remove(&r->waiting);
            request_end(r, -ERR_CANCELLED);
            return;
        }
        switch ((enum request_state)op->state) {
        case REQUEST_WAITING:
            error = mon_leads(mon) ? request_wait(r) : 0;
            if (error > 0)
                return;
            list_remove(&r->waiting);
            if (error) {
                request_end(r, error);
                return;
            }
            op->state = REQUEST_QUEUED;
            continue;
        case REQUEST_QUEUED:
            if (!mon_turn_take(mon, &r->turn, op))
                return;
            op->state = REQUEST_LOADING;
            if (mon->stale && mon_leads(mon))
                mon_load_start(mon, false, op);
            continue;
        case REQUEST_LOADING:
            if (op->child_result) {
                error = op->child_result;
                request_end(
                    r, mon_fail(r, error, "the monitor cannot read its metadata: %s", error_text(error)));
                return;
            }
            mon_publish(mon);         /* if the load showed a change whose outcome was not known */
            error = request_build(r); /* or that we do not lead any more */
            if (error <= 0) {
                request_end(r, error);
                return;
            }
            op->state = REQUEST_COMMITTING;
            continue;
        case REQUEST_COMMITTING:
            error = op->child_result;
            op->child_result = 0;
            if (error == -ERR_CONFLICT && r->conflicts++ < CONFLICTS_MAX) {
                op->state =
                    REQUEST_QUEUED; /* certainly not done: look and try again; the turn is still ours */
                continue;
            }
            if (error) {
                request_end(
                    r,
                    mon_fail(
                        r, error,
                        "the monitor could not write its metadata (%s): the change may or may not have been made; "
                        "look before you try again",
                        mon_store_error(error)));
                return;
            }
            r->method->done(r);
            mon_publish(mon);
            request_end(r, 0);
            return;
        }
    }
}

static const struct op_kind request_kind = {"mon.request", request_state_name, request_step};

static void request_queue(struct mon_request *r, const struct mon_method *method)
{
    struct mon *mon = r->mon;

    if (mon->request_count >= MON_REQUESTS_MAX) {
        mon_reply(r, mon_fail(r, -ERR_BUSY, "the monitor has %u changes waiting already: try again",
                              MON_REQUESTS_MAX));
        request_free(r);
        return;
    }
    mon->request_count++;
    r->method = method;
    list_init(&r->waiting);
    op_start(&r->op, mon->core, &request_kind, NULL);
}

/* May be asked of a monitor that follows, too; but OSDs hear of the map from the leader alone (mon_osd.c). */
static bool is_for_all(const struct mon_request *r)
{
    const Fb__MonRequest *call = r->call;

    if (r->who.role == RPC_OSD)
        return false;
    return call->call_case == FB__MON_REQUEST__CALL_MAP_GET ||
           call->call_case == FB__MON_REQUEST__CALL_SUBSCRIBE ||
           call->call_case == FB__MON_REQUEST__CALL_IMAGE_LIST ||
           call->call_case == FB__MON_REQUEST__CALL_MON_LIST;
}

static void dispatch(struct mon_request *r)
{
    const struct mon_method *method = NULL;

    if (!mon_leads(r->mon) && !is_for_all(r) && !PLANT(MON_FOLLOWER_ACTS)) {
        mon_reply(r, other_monitor(r));
        request_free(r);
        return;
    }
    switch (r->call->call_case) {
    case FB__MON_REQUEST__CALL_MAP_GET:
        mon_map_get(r);
        break;
    case FB__MON_REQUEST__CALL_SUBSCRIBE:
        mon_subscribe(r);
        break;
    case FB__MON_REQUEST__CALL_SHARD_REPORT:
        mon_shard_report(r);
        break;
    case FB__MON_REQUEST__CALL_IMAGE_LIST:
        mon_image_list(r);
        break;
    case FB__MON_REQUEST__CALL_IMAGE_GET:
        mon_image_get(r);
        break;
    case FB__MON_REQUEST__CALL_OSD_DEMOTE:
        mon_osd_demote(r);
        break;
    case FB__MON_REQUEST__CALL_PG_LEADER:
        mon_pg_leader(r);
        break;
    case FB__MON_REQUEST__CALL_STATUS:
        mon_status(r);
        break;
    case FB__MON_REQUEST__CALL_PG_LIST:
        mon_pg_list(r);
        break;
    case FB__MON_REQUEST__CALL_PG_SHOW:
        mon_pg_show(r);
        break;
    case FB__MON_REQUEST__CALL_MON_LIST:
        mon_list(r);
        break;
    case FB__MON_REQUEST__CALL_MON_DUMP:
        mon_dump(r);
        break;
    case FB__MON_REQUEST__CALL_MON_REMOVE:
        method = &mon_remove;
        break;
    case FB__MON_REQUEST__CALL_PG_FORCE_LOOK:
        mon_force_look(r);
        break;
    case FB__MON_REQUEST__CALL_PG_FORCE_ORDER:
        method = &mon_force_order;
        break;
    case FB__MON_REQUEST__CALL_PG_FORCE_ACKNOWLEDGE:
        method = &mon_force_acknowledge;
        break;
    case FB__MON_REQUEST__CALL_PG_SCRUB:
        method = &mon_pg_scrub;
        break;
    case FB__MON_REQUEST__CALL_SCRUB_PAUSE:
        method = &mon_scrub_pause;
        break;
    case FB__MON_REQUEST__CALL_EVENT_LIST:
        mon_event_list(r);
        break;
    case FB__MON_REQUEST__CALL_REBALANCE_PLAN:
        mon_rebalance_plan(r);
        break;
    case FB__MON_REQUEST__CALL_POOL_SET:
        method = &mon_pool_set;
        break;
    case FB__MON_REQUEST__CALL_MOVES_LIMIT:
        method = &mon_moves_limit;
        break;
    case FB__MON_REQUEST__CALL_OSD_CHANGE:
        method = mon_osd_change_method(r->mon, r->call->osd_change);
        break;
    case FB__MON_REQUEST__CALL_HOST_MAINTENANCE:
        method = &mon_host_maintenance;
        break;
    case FB__MON_REQUEST__CALL_CLUSTER_SET:
        method = &mon_cluster_set;
        break;
    case FB__MON_REQUEST__CALL_OSD_NEW:
        method = &mon_osd_new;
        break;
    case FB__MON_REQUEST__CALL_OSD_BOOT:
        method = &mon_osd_boot;
        break;
    case FB__MON_REQUEST__CALL_POOL_CREATE:
        method = &mon_pool_create;
        break;
    case FB__MON_REQUEST__CALL_POOL_REMOVE:
        method = &mon_pool_remove;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_CREATE:
        method = &mon_image_create;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_OPEN:
        method = &mon_image_open;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_CLOSE:
        method = &mon_image_close;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_RESIZE:
        method = &mon_image_resize;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_REMOVE:
        method = &mon_image_remove;
        break;
    case FB__MON_REQUEST__CALL__NOT_SET:
    default:
        mon_reply(r, mon_fail(r, -ERR_UNSUPPORTED, "the monitor (version %s) does not know this call",
                              r->mon->config.version));
        break;
    }
    if (method)
        request_queue(r, method);
    else
        request_free(r);
}

void mon_on_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    struct mon *mon = owner;
    struct mon_session *s = rpc_session_context(session);

    if (!(message->flags & FRAME_REQUEST))
        return;
    struct rpc_ticket ticket = rpc_ticket(session, message);
    if (message->method != METHOD_MON || !s) {
        rpc_reply(&ticket, message->method == METHOD_PING ? 0 : -ERR_UNSUPPORTED, NULL, 0, NULL, 0);
        return;
    }
    struct mon_request *r = calloc(1, sizeof(*r));
    if (!r) {
        rpc_reply(&ticket, -ERR_NO_MEMORY, NULL, 0, NULL, 0);
        return;
    }
    r->mon = mon;
    r->ticket = ticket;
    r->who = *rpc_session_identity(session);
    r->session = s->serial;
    fb__mon_reply__init(&r->reply);
    wire_arena_init(&r->arena, NULL, 0, REQUEST_ARENA_MAX);
    int error =
        wire_cold_decode(&fb__mon_request__descriptor, message->body, message->body_len, &r->arena, &r->call);
    if (error) {
        mon_reply(r, mon_fail(r, error, "the monitor cannot read this call: %s", error_text(error)));
        request_free(r);
        return;
    }
    dispatch(r);
}

/* How many that are no OSDs may be connected for one like this to come. */
static uint32_t clients_max(const struct mon *mon, const struct rpc_identity *who)
{
    uint32_t shards = 0, most = MON_SESSIONS_MAX;

    mon_for_each(mon, MON_OSD, node)
    {
        const Fb__Osd *osd = mon_osd_item(mon_osd_of(node));
        shards += osd->removed ? 0 : (uint32_t)osd->n_shard;
    }
    /* With more shards than there are sessions some are left all the same, or nobody could be let in who
     * changes that. */
    most -= MIN(MAX(shards, (uint32_t)MON_SESSIONS_OSDS), most - 2 * MON_SESSIONS_COMMANDS);
    return who->command ? most : most - MON_SESSIONS_COMMANDS;
}

int mon_on_greet(void *owner, const struct rpc_identity *who)
{
    static const uint8_t unknown[16];
    struct mon *mon = owner;
    char name[96];

    if (memcmp(who->cluster, unknown, 16) && memcmp(who->cluster, mon->cluster, 16))
        return -ERR_CLUSTER;
    if (mon->outdated)
        return -ERR_OTHER_MONITOR;
    if (who->role != RPC_OSD && mon->client_count >= clients_max(mon, who))
        return -ERR_BUSY;
    /* What someone knows of a cluster that he does not name says nothing about this one; and one that follows
     * may be a moment behind. */
    if (mon_leads(mon) && memcmp(who->cluster, unknown, 16)) {
        struct mon_osd *o = who->role == RPC_OSD ? mon_osd_find(mon, who->osd) : NULL;
        if (o && !memcmp(mon_osd_item(o)->uuid.data, who->osd_uuid, 16)) {
            mon_osd_speaks(mon, o, who->shard, who->epoch, who->image_id_max);
        } else if (who->role == RPC_OSD) { /* made since the backup, perhaps; and never served by us */
            snprintf(name, sizeof(name), "osd.%u", who->osd);
            mon_note_knowledge(mon, name, mon->start_epoch, who->epoch, who->image_id_max);
        } else {
            snprintf(name, sizeof(name), "client %.64s", mon_text_valid(who->name) ? who->name : "?");
            mon_note_knowledge(mon, name, mon->state.epoch, who->epoch, who->image_id_max);
        }
    }
    return 0;
}
