/* SPDX-License-Identifier: Apache-2.0
 *
 * Raft's messages on the wire, both ways.
 *
 * Out: an APPEND is filled from the log's memory, as many entries as one frame carries; what has left memory
 * is read from the ring by one `pg_catchup` per PG while the member is asked to be patient with an empty
 * APPEND. A link that is busy is told to raft, which asks again later; one that is down, too, and when it is
 * up again (pg_peer_found()).
 *
 * In: checksums of the payload are verified before raft sees an entry. Raft then says from which entry on the
 * log is replaced, and what the store lacks of that is appended. The store can refuse (no room): then raft's
 * log is cut to what the store has, as if the rest had been lost on the way: nobody has been told that it was
 * here. The leader is told by APPEND_NO_MEMORY, once for each frame refused, and tries again a moment later.
 */
#include "osd/pg.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/trace.h"

/* ---- old entries from the ring ---- */

static void catchup_step(struct op *op);
static const struct op_kind catchup_kind = {"osd.catchup", NULL, catchup_step};
enum { CATCHUP_START, CATCHUP_READING, CATCHUP_FAILED, CATCHUP_READY };
#define CATCHUP_RETRY_NS (50 * NS_PER_MS)

static void catchup_free(struct pg_catchup *catchup)
{
    struct pg *pg = catchup->pg;

    for (uint32_t i = 0; i < catchup->read.ret_count; i++)
        slice_unref(&catchup->read.ret_payloads[i]);
    timer_cancel(pg->shard->core, &catchup->timer);
    pg->catchup = NULL;
    op_done(&catchup->op, 0);
    free(catchup);
}

static void catchup_step(struct op *op)
{
    struct pg_catchup *catchup = container_of(op, struct pg_catchup, op);
    struct pg *pg = catchup->pg;

    switch (op->state) {
    case CATCHUP_START:
        if (op->cancelled) {
            catchup_free(catchup);
            pg_wake(pg);
            return;
        }
        op->state = CATCHUP_READING;
        store_log_read_start(&catchup->read, pg->sp, catchup->read.first, catchup->read.last,
                             PG_CATCHUP_BYTES, op);
        return;
    case CATCHUP_READING:
        if (op->children)
            return;
        op->state = CATCHUP_READY;
        if (catchup->read.op.result) {
            core_log(pg->shard->core, LOG_WARN, "osd", PG_FMT ": reading the log at %" PRIu64 ": %s",
                     PG_ARGS(pg->id), catchup->read.first, error_text(catchup->read.op.result));
            op->state = CATCHUP_FAILED;
            timer_arm(op->core, &catchup->timer, op, core_now_ns(op->core) + CATCHUP_RETRY_NS);
        } else {
            catchup->ready = true;
            pg_wake(pg);
        }
        if (!op->cancelled)
            return;
        __attribute__((fallthrough));
    case CATCHUP_FAILED:
    case CATCHUP_READY:
        if (op->cancelled || (op->state == CATCHUP_FAILED && !timer_armed(&catchup->timer))) {
            catchup_free(catchup);
            pg_wake(pg);
        }
        return;
    }
}

void pg_catchup_drop(struct pg *pg)
{
    if (pg->catchup && !pg->catchup->op.cancelled)
        op_cancel(&pg->catchup->op);
}

static void catchup_begin(struct pg *pg, uint64_t first, uint64_t last)
{
    if (pg->catchup || pg->stopping)
        return;
    pg->catchup = calloc(1, sizeof(*pg->catchup));
    if (!pg->catchup)
        return;
    pg->catchup->pg = pg;
    pg->catchup->read.first = first;
    pg->catchup->read.last = last;
    pg->shard->perf.log_reads++;
    op_start(&pg->catchup->op, pg->shard->core, &catchup_kind, NULL);
}

/* Finds an entry in what was read. Borrowed. */
static bool catchup_get(struct pg *pg, uint64_t index, struct entry *ret_entry, struct slice *ret_payload)
{
    const struct pg_catchup *catchup = pg->catchup;

    if (!catchup || !catchup->ready || catchup->op.cancelled || index < catchup->read.first ||
        index - catchup->read.first >= catchup->read.ret_count)
        return false;
    *ret_entry = catchup->read.ret_entries[index - catchup->read.first];
    *ret_payload = catchup->read.ret_payloads[index - catchup->read.first];
    return raft_term_at(&pg->raft, index) == ret_entry->term;
}

/* ---- APPEND out ---- */

/* Gathers entries from `first` to at most `last` into the shard's scratch. Returns how many. */
static uint32_t append_gather(struct pg *pg, uint64_t first, uint64_t last, uint32_t *ret_pieces,
                              uint32_t *ret_bytes)
{
    struct osd_shard *shard = pg->shard;
    uint32_t count = 0, crcs = 0, pieces = 0, bytes = 0;

    for (uint64_t index = first; index <= last && count < WIRE_ENTRIES_MAX; index++, count++) {
        struct entry *entry = &shard->entries[count];
        struct slice payload = {0};
        int error = store_log_get(pg->sp, index, entry, &payload);

        if (error == -ERR_RETRY && catchup_get(pg, index, entry, &payload))
            error = 0;
        if (error) {
            if (error == -ERR_RETRY && !count) {
                if (pg->catchup && pg->catchup->ready)
                    pg_catchup_drop(pg); /* it holds other entries: make room for these */
                else
                    catchup_begin(pg, index, last);
            }
            break;
        }
        uint32_t numbers = entry_crc_count(entry);
        if (!numbers)
            continue;
        uint32_t len = entry_payload_bytes(entry);
        if (crcs + numbers > WIRE_APPEND_CRC_MAX || bytes + len > FRAME_PAYLOAD_MAX ||
            pieces == FRAME_PIECES_MAX)
            break;
        memcpy(&shard->crcs[crcs], entry->crc, numbers * sizeof(uint32_t));
        entry->crc = &shard->crcs[crcs];
        crcs += numbers;
        if (entry->type == ENTRY_GROUP || entry->type == ENTRY_SPLIT) {
            count++; /* the last one of an APPEND */
            break;
        }
        shard->pieces[pieces] = payload;
        shard->pieces[pieces++].len = len;
        bytes += len;
    }
    *ret_pieces = pieces;
    *ret_bytes = bytes;
    return count;
}

static void send_append(struct pg *pg, const struct raft_msg *msg)
{
    struct osd_shard *shard = pg->shard;
    struct pg_member *member = pg_member_find(pg, msg->to); /* NULL: nobody that we could send to */
    uint32_t pieces, bytes;
    uint32_t count = append_gather(pg, msg->index + 1, msg->last, &pieces, &bytes);
    bool patient = member && count && pg_append_may_wait(pg, member, msg->index + count, msg->sent_ns);
    struct wire_append_request request = {
        .pg = pg->id,
        .from = msg->from,
        .to = msg->to,
        .term = msg->term,
        .prev_index = msg->index,
        .prev_term = msg->log_term,
        .commit = msg->commit,
        .sent_ns = msg->sent_ns,
        .patient = patient,
        .entry_count = count,
        .entries = shard->entries,
    };
    size_t len = wire_append_request_size(&request);

    ASSERT(len <= SHARD_BODY_MAX);
    wire_append_request_encode(rpc_body(shard->frame), &request);
    int error = member ? shard_peer_send(member->peer, METHOD_APPEND, patient, rpc_body(shard->frame),
                                         (uint32_t)len, shard->pieces, pieces)
                       : -ERR_CLOSED;
    if (error) {
        raft_append_failed(&pg->raft, msg->to, msg->index);
        if (member && !shard_peer_reachable(member->peer))
            raft_peer_unreachable(&pg->raft, msg->to);
        return;
    }
    shard_heartbeat_traffic(pg); /* the follower's election timeout is now the usual one */
    shard->perf.appends_sent++;
    shard->perf.append_entries_sent += count;
    if (count && !patient) {
        pg_prompt_sent(member->peer, msg->sent_ns);
        if (perf_mark_wanted(&member->acknowledged, msg->term))
            member->acknowledged = (struct perf_mark){msg->index + count, msg->term, msg->sent_ns};
    }
    TRACE(append_sent, pg->id, msg->to, msg->index + count, count, bytes);
    raft_append_sent(&pg->raft, msg->to, msg->index + count, bytes);
}

/* ---- APPEND in ---- */

/* Verifies what came with it, before anything is done: forms, checksums. Fills in the indexes. */
static int append_validate(struct osd_shard *shard, struct wire_append_request *request,
                           const struct rpc_message *message)
{
    uint64_t offset = 0;

    for (uint32_t i = 0; i < request->entry_count; i++) {
        struct entry *entry = &shard->entries[i];
        int error = wire_entry_validate(entry);
        if (error)
            return error;
        if (entry->type == ENTRY_GROUP && i + 1 < request->entry_count)
            return -ERR_PROTOCOL; /* raft takes one at a time */
        entry->index = request->prev_index + 1 + i;
        uint32_t len = entry_payload_bytes(entry);
        if (message->payload_dropped || !len)
            continue;
        if (offset + len > message->payload.len)
            return -ERR_PROTOCOL;
        const uint8_t *data = slice_data(&message->payload) + offset;
        for (uint32_t block = 0; block < entry->block_count; block++)
            if (crc32c(0, data + (size_t)block * BLOCK_SIZE, BLOCK_SIZE) != entry->crc[block])
                return -ERR_CHECKSUM;
        offset += len;
    }
    return !message->payload_dropped && offset != message->payload.len ? -ERR_PROTOCOL : 0;
}

/* Nothing is applied before there is a turn for our recovery (recover_takes_log()). What the leader needs to
 * get to a newer state comes first, and is taken. What it adds behind that is to leave the ring to other PGs.
 */
static int append_may_wait(const struct pg *pg, const struct entry *entry)
{
    bool added = entry->term == pg->raft.term && entry->index > pg->sp->last_index;

    return added && recover_holds_log(pg) ? store_can_append(pg->sp, entry) : 0;
}

/* Gives the store what raft has taken, from `first` on. An error: not all of it, and raft's log is cut to
 * that. */
static int append_store(struct pg *pg, const struct wire_append_request *request, const struct slice *payload,
                        uint64_t first)
{
    struct osd_shard *shard = pg->shard;
    uint64_t next = first;
    uint32_t offset = 0;

    ASSERT(first <= pg->sp->last_index + 1);
    /* What is replaced is never applied. */
    pg->settled_index = MIN(pg->settled_index, first - 1);
    for (uint32_t i = 0; i < request->entry_count; i++) {
        const struct entry *entry = &shard->entries[i];
        uint32_t len = entry_payload_bytes(entry);
        struct slice part = {payload->buf, payload->offset + offset, len};

        offset += len;
        if (entry->index != next)
            continue;
        int error = append_may_wait(pg, entry);
        if (!error)
            error = store_append(pg->sp, entry, len ? &part : NULL);
        if (error) {
            shard->perf.append_refusals++;
            bool cut = raft_cut(&pg->raft, next - 1);
            /* One that has failed cuts nothing any more, and the shard is about to notice. */
            ASSERT(cut && (pg->sp->last_index == next - 1 || store_failed(shard->store)));
            return error;
        }
        next++;
    }
    return 0;
}

static void send_append_reply(struct pg *pg, const struct raft_msg *msg, uint32_t more_flags)
{
    struct osd_shard *shard = pg->shard;
    struct peer *peer = pg_peer(pg, msg->to);
    struct store_space space = store_space(shard->store);
    struct wire_append_reply reply = {
        .pg = pg->id,
        .from = pg->replica,
        .to = msg->to,
        .term = msg->term,
        .match = msg->index,
        .hint_term = msg->log_term,
        .sent_ns = msg->sent_ns,
        .free_bytes = pg_room_free(&space),
        .complete = recover_active(pg) || recover_holds_log(pg) ? 0 : store_complete_index(pg->sp),
        .flags = more_flags | (msg->reject ? APPEND_REJECT : 0) |
                 (msg->flags & RAFT_RECOVERING ? APPEND_RECOVERING : 0) |
                 (msg->flags & RAFT_RECOVERING && pg_log_damaged(pg) ? APPEND_DAMAGED : 0) |
                 (pg_split_fits(pg) ? 0 : APPEND_NO_ROOM) | (recover_lacks_room(pg) ? APPEND_LACKS_ROOM : 0) |
                 (space.free_records < PG_RECORDS_MARGIN ? APPEND_NO_RECORDS : 0),
    };
    size_t len = wire_append_reply_encode(rpc_body(shard->frame), &reply);

    bool patient = pg_reply_may_wait(pg, msg->index) && !(reply.flags & ~APPEND_NO_RECORDS);
    /* A lost one is asked for again. */
    if (peer &&
        !shard_peer_send(peer, METHOD_APPEND_REPLY, patient, rpc_body(shard->frame), (uint32_t)len, NULL, 0))
        shard->perf.append_replies_sent++;
}

/* Follows that leader in that term, and has the timer for it. */
static bool append_follows(const struct pg *pg, const struct wire_append_request *request)
{
    const struct raft *r = &pg->raft;

    return r->role == RAFT_FOLLOWER && r->leader == request->from && r->term == request->term &&
           timer_armed(&pg->timer) && pg->timer.deadline_ns <= raft_deadline_ns(r);
}

void pg_receive_append(struct peer *peer, const struct rpc_message *message)
{
    struct osd_shard *shard = peer->shard;
    struct wire_append_request request;
    uint64_t began_ns = core_recent_ns(shard->core);
    int error =
        wire_append_request_decode(message->body, message->body_len, &request, shard->entries, shard->crcs);

    if (!error) {
        pg_prefetch(shard, request.pg);
        error = append_validate(shard, &request, message);
    }
    if (error) {
        shard->perf.crc_errors += error == -ERR_CHECKSUM;
        core_log(shard->core, LOG_ERROR, "osd", "APPEND from osd.%u shard %u: %s", peer->osd, peer->number,
                 error_text(error));
        return;
    }
    struct pg *pg = pg_addressed(peer, request.pg, request.from, request.to);
    if (!pg)
        return;
    pg->stirred = true;
    store_pg_prefetch(pg->sp);
    pg_prompt_asked(pg, &request);
    struct raft_msg msg = {
        .type = RAFT_APPEND,
        .from = request.from,
        .to = request.to,
        .term = request.term,
        .index = request.prev_index,
        .log_term = request.prev_term,
        .last = request.prev_index + request.entry_count,
        .commit = request.commit,
        .sent_ns = request.sent_ns,
        .entries = shard->entries,
    };
    struct group group;
    const struct entry *last = request.entry_count ? &shard->entries[request.entry_count - 1] : NULL;
    if (last && last->type == ENTRY_GROUP && !group_from_entry(last, &group))
        msg.group = &group;
    shard->perf.appends_received++;
    shard->perf.append_entries_received += request.entry_count;
    /* While objects are copied there is no log to append to; and what was dropped was never here. Time and
     * term still count. */
    bool refused = message->payload_dropped || !recover_takes_log(pg) || shard->failed;
    if (refused) {
        msg.last = msg.index;
        msg.entries = NULL;
        msg.group = NULL;
        shard->perf.payload_drops += message->payload_dropped;
    }
    uint64_t now_ns = core_now_ns(shard->core);
    if (request.entry_count)
        shard->client_ns = now_ns;
    histogram_record(&shard->perf.append_receive, now_ns - began_ns);
    TRACE(append_received, pg->id, msg.last, request.entry_count, message->payload.len);
    bool followed = append_follows(pg, &request);
    uint64_t group_index = pg->raft.group.index;
    uint64_t first = raft_step(&pg->raft, &msg, now_ns);
    bool lost = message->payload_dropped;
    if (first) {
        int refusal = append_store(pg, &request, &message->payload, first);
        if (!refusal)
            pg_mark_append(pg, pg->sp->last_index, now_ns);
        else
            pg_room_refused(pg, refusal, request.commit, now_ns);
        lost |= refusal != 0;
    }
    if (group_index != pg->raft.group.index || msg.group)
        pg_members_sync(pg);
    /* It is the leader that we follow, so we have promised, and may say so. */
    if (lost && pg->raft.leader == request.from && pg->raft.term == request.term &&
        raft_term_durable(&pg->raft)) {
        struct raft_msg reply = {.to = request.from, .term = pg->raft.term, .sent_ns = request.sent_ns};
        reply.flags = pg->raft.abstain || pg->raft.recovering ? RAFT_RECOVERING : 0;
        send_append_reply(pg, &reply, APPEND_NO_MEMORY);
    }
    /* Nothing follows from entries that were expected until they are durable: the store wakes us then. */
    if (!first || lost || !followed || !append_follows(pg, &request) || pg->raft.reply_due)
        pg_touched(pg);
}

/* Nothing follows from such an acknowledgement but that the ring need not keep what it confirms: that is how
 * the second of two followers is heard of. */
static bool reply_is_late(const struct pg *pg, const struct wire_append_reply *reply,
                          const struct raft_member *member, uint64_t commit)
{
    const struct raft *r = &pg->raft;

    return r->role == RAFT_LEADER && r->term == reply->term && r->commit_index == commit &&
           !(reply->flags & ~APPEND_NO_RECORDS) && member->flags == GROUP_VOTER && !member->lost &&
           member->progress == RAFT_REPLICATE && member->next > r->last_index && !r->transfer_to &&
           list_empty(&pg->reading) && !pg->catchup;
}

void pg_receive_append_reply(struct peer *peer, const struct rpc_message *message)
{
    struct wire_append_reply reply;
    int error = wire_append_reply_decode(message->body, message->body_len, &reply);

    if (error) {
        core_log(peer->shard->core, LOG_ERROR, "osd", "APPEND_REPLY from osd.%u shard %u: %s", peer->osd,
                 peer->number, error_text(error));
        return;
    }
    struct pg *pg = pg_addressed(peer, reply.pg, reply.from, reply.to);
    if (!pg)
        return;
    struct pg_member *m = pg_member_find(pg, reply.from);
    uint64_t now_ns = core_now_ns(peer->shard->core);
    struct raft_msg msg = {
        .type = RAFT_APPEND_REPLY,
        .from = reply.from,
        .to = reply.to,
        .term = reply.term,
        .index = reply.match,
        .log_term = reply.hint_term,
        .sent_ns = reply.sent_ns,
        .reject = reply.flags & APPEND_REJECT,
        .flags = reply.flags & APPEND_RECOVERING ? RAFT_RECOVERING : 0,
    };
    if (!m) { /* it has left: only its term matters */
        raft_step(&pg->raft, &msg, now_ns);
        pg_touched(pg);
        return;
    }
    if (!msg.reject)
        pg_prompt_answered(peer);
    m->no_room = reply.flags & APPEND_NO_ROOM;
    if (reply.term == pg->raft.term) {
        m->complete = reply.complete;
        m->damaged = reply.flags & APPEND_DAMAGED;
    }
    const struct raft_member *member = raft_member(&pg->raft, reply.from);
    uint64_t commit = pg->raft.commit_index;
    bool recovering = member && member->recovering, lost = member && member->lost;
    pg_log_progress(pg, now_ns);
    raft_step(&pg->raft, &msg, now_ns);
    if (member && member->lost && !lost) {
        peer->shard->perf.lost_acks++;
        core_log(peer->shard->core, LOG_ERROR, "osd",
                 PG_FMT ": replica %u on osd.%u has acknowledged up to %" PRIu64 ", and has up to %" PRIu64
                        " now: its device loses what it has written, or is a copy",
                 PG_ARGS(pg->id), reply.from, peer->osd, m->match, reply.match);
    }
    if (member) {
        if (member->match > m->match || member->match == pg->raft.last_index)
            m->match_ns = now_ns;
        pg_room_told(m, &reply, member->match);
        m->match = member->match;
    }
    uint64_t took_ns =
        msg.reject ? 0
                   : perf_mark_reach(&m->acknowledged, reply.match, reply.term, now_ns, &peer->append_ack);
    if (took_ns)
        pace_add(&peer->pace, took_ns, now_ns);
    TRACE(append_acknowledged, pg->id, reply.from, reply.match, reply.flags);
    if (reply.flags & APPEND_NO_MEMORY && reply.term == pg->raft.term && member)
        raft_append_failed(&pg->raft, reply.from, member->match);
    if (member && !recovering && reply_is_late(pg, &reply, member, commit)) {
        pg_keep_ring(pg, now_ns);
        if (!PLANT(OSD_LOG_UNAWAITED))
            pg_await_log(pg);
    } else {
        pg_touched(pg);
    }
}

/* ---- the rest ---- */

static void send_raft(struct pg *pg, const struct raft_msg *msg)
{
    struct osd_shard *shard = pg->shard;
    struct peer *peer = pg_peer(pg, msg->to);
    Fb__RaftMessage out = FB__RAFT_MESSAGE__INIT;
    uint32_t len;

    out.pg = pg->id;
    out.from = msg->from;
    out.to = msg->to;
    out.type = msg->type;
    out.term = msg->term;
    out.index = msg->index;
    out.log_term = msg->log_term;
    out.commit = msg->commit;
    out.reject = msg->reject;
    out.sent_ns = msg->sent_ns;
    out.incarnation = shard->self.incarnation;
    out.flags = msg->flags;
    /* Lost votes and questions are raft's business. */
    if (peer && !wire_cold_encode(&out.base, rpc_body(shard->frame), SHARD_BODY_MAX, &len))
        (void)!shard_peer_send(peer, METHOD_RAFT, false, rpc_body(shard->frame), len, NULL, 0);
}

void pg_receive_raft(struct peer *peer, const struct rpc_message *message)
{
    struct osd_shard *shard = peer->shard;
    uint64_t memory[64];
    struct wire_arena arena;
    Fb__RaftMessage *in;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__raft_message__descriptor, message->body, message->body_len, &arena, &in);
    struct pg *pg = error ? NULL : pg_addressed(peer, in->pg, in->from, in->to);
    bool known = !error && in->type >= RAFT_PRE_VOTE && in->type <= RAFT_INSTALL && in->type != RAFT_APPEND &&
                 in->type != RAFT_APPEND_REPLY;
    if (error || !known)
        core_log(shard->core, LOG_ERROR, "osd", "raft message from osd.%u shard %u: %s", peer->osd,
                 peer->number, error_text(error ? error : -ERR_PROTOCOL));
    /* Of an older process of that shard: whatever it said, it is dead. */
    if (pg && known && in->incarnation >= peer->incarnation) {
        struct raft_msg msg = {
            .type = (enum raft_msg_type)in->type,
            .from = in->from,
            .to = in->to,
            .term = in->term,
            .index = in->index,
            .log_term = in->log_term,
            .last = in->index,
            .commit = in->commit,
            .sent_ns = in->sent_ns,
            .reject = in->reject,
            .flags = in->flags,
        };
        raft_step(&pg->raft, &msg, core_now_ns(shard->core));
        if (raft_install_needed(&pg->raft, &msg))
            recover_start(pg);
        pg_touched(pg);
    }
    wire_arena_fini(&arena);
}

void pg_send_messages(struct pg *pg, uint64_t now_ns)
{
    struct raft_msg msg;

    while (raft_next_msg(&pg->raft, now_ns, &msg)) {
        if (msg.type == RAFT_APPEND)
            send_append(pg, &msg);
        else if (msg.type == RAFT_APPEND_REPLY)
            send_append_reply(pg, &msg, 0);
        else
            send_raft(pg, &msg);
    }
}
