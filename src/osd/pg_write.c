/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes and clears, from the frame to the answer.
 *
 *      START --- another merge of these blocks is under way ---> BLOCKED
 *        |  '--- blocks are only partly covered --> MERGE <-> REPAIR |
 *        |<-------------------------------------------+-------------'
 *        '-- checked and proposed --> PROPOSED --> answered
 *
 * Everything is checked in the step that proposes, against the state of that moment: a request that waited
 * before is checked like one that has just come.
 *
 * A block that the request covers partly is merged here into the newest proposed version of the block, and
 * the whole block is proposed. From the read of the old version to the proposal nothing else may be proposed
 * for that block, or it would be undone: such requests wait in the PG's `blocked` list, in order. Whole
 * blocks need none of that: their payload goes from the receive buffer to the log and to the members without
 * a copy.
 */
#include "osd/pg.h"

#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/plant.h"
#include "base/trace.h"
#include "osd/repair.h"

enum { WRITE_START, WRITE_BLOCKED, WRITE_MERGE, WRITE_REPAIR, WRITE_PROPOSED };
#define WRITE_REPAIRS_MAX 4 /* of the blocks that one request merges with */

static const char *write_state_name(int state)
{
    static const char *const names[] = {"start", "blocked", "merge", "repair", "proposed"};
    return names[state];
}
static void write_step(struct op *op);
static const struct op_kind write_kind = {"osd.write", write_state_name, write_step};

/* ---- checks ---- */

static int write_check_image(const struct pg_request *req)
{
    const struct image_record *record = pg_image_newest(req->pg, req->image);

    if (!record)
        return -ERR_NOT_ATTACHED;
    if (record->deleted)
        return -ERR_STALE_GENERATION;
    if (req->generation < record->generation && !PLANT(OSD_NO_GENERATION))
        return -ERR_STALE_GENERATION;
    if (req->generation > record->generation)
        return -ERR_NOT_ATTACHED;
    if (req->incarnation < record->incarnation && !PLANT(OSD_NO_FENCE))
        return -ERR_FENCED;
    if (req->incarnation > record->incarnation)
        return -ERR_NOT_ATTACHED;
    uint64_t first_object_bytes = req->object * (uint64_t)OBJECT_SIZE;
    if (req->object > UINT64_MAX / OBJECT_SIZE - 1 ||
        first_object_bytes + req->offset + req->length > record->size_bytes)
        return -ERR_RANGE;
    return 0;
}

static int write_check(struct pg_request *req)
{
    int error = pg_request_check(req, true);

    if (!error)
        error = pg_request_check_object(req);
    return error ? error : write_check_image(req);
}

/* ---- partial blocks ---- */

static bool overlap(const struct pg_request *a, const struct pg_request *b)
{
    return a->image == b->image && a->object == b->object &&
           a->first_block < b->first_block + b->block_count &&
           b->first_block < a->first_block + a->block_count;
}

static bool write_must_wait(const struct pg_request *req)
{
    if (PLANT(OSD_MERGE_RACE))
        return false;
    list_for_each (&req->pg->merging, node)
        if (overlap(req, list_entry(node, struct pg_request, link)))
            return true;
    return false;
}

void pg_blocked_wake(struct pg *pg)
{
    list_for_each (&pg->blocked, node)
        op_wake(&list_entry(node, struct pg_request, link)->op);
}

static void merge_read(struct pg_request *req)
{
    struct pg *pg = req->pg;

    req->op.state = WRITE_MERGE;
    req->reads[0].ret_data = req->reads[1].ret_data = (struct slice){0};
    if (req->head_partial)
        store_read_start(&req->reads[0], pg->sp, req->image, req->object, req->first_block, 1, true,
                         &req->op);
    if (req->tail_partial)
        store_read_start(&req->reads[1], pg->sp, req->image, req->object,
                         req->first_block + req->block_count - 1, 1, true, &req->op);
}

static void merge_start(struct pg_request *req)
{
    req->shard->perf.merges++;
    list_push_back(&req->pg->merging, &req->link);
    merge_read(req);
}

/* An old block is damaged: another replica has it. False: nothing can be done. */
static bool merge_repair(struct pg_request *req)
{
    if (req->error || req->op.child_result != -ERR_DAMAGED || req->repair_tries++ >= WRITE_REPAIRS_MAX)
        return false;
    bool head = req->head_partial && req->reads[0].op.result == -ERR_DAMAGED;
    slice_unref(&req->reads[0].ret_data);
    slice_unref(&req->reads[1].ret_data);
    req->op.child_result = 0;
    req->op.state = WRITE_REPAIR;
    repair_start(req->pg, &req->reads[head ? 0 : 1], &req->op);
    return true;
}

static void block_fill(uint8_t *block, const struct store_read *read)
{
    if (read->ret_data.buf)
        memcpy(block, slice_data(&read->ret_data), BLOCK_SIZE);
    else
        memset(block, 0, BLOCK_SIZE);
}

/* Whole blocks of what was there and what is new. The checksums of blocks that the request covers wholly stay
 * as they came. */
static int merge_blocks(struct pg_request *req)
{
    struct osd_shard *shard = req->shard;
    uint32_t skip = req->offset - req->first_block * BLOCK_SIZE;
    struct buf *buf = buf_new(shard->core->arena, req->block_count * BLOCK_SIZE);

    if (!buf)
        return -ERR_RETRY;
    uint8_t *last = buf->data + (size_t)(req->block_count - 1) * BLOCK_SIZE;
    if (req->head_partial)
        block_fill(buf->data, &req->reads[0]);
    if (req->tail_partial)
        block_fill(last, &req->reads[1]);
    memcpy(buf->data + skip, slice_data(&req->payload), req->length);
    shard->core->counters.copied_bytes += req->length;
    if (req->head_partial)
        req->crc[0] = crc32c(0, buf->data, BLOCK_SIZE);
    if (req->tail_partial)
        req->crc[req->block_count - 1] = crc32c(0, last, BLOCK_SIZE);
    pg_request_hold(req, (uint64_t)req->block_count * BLOCK_SIZE);
    slice_unref(&req->payload);
    req->payload = (struct slice){buf, 0, req->block_count * BLOCK_SIZE};
    return 0;
}

/* ---- proposing ---- */

static void write_proposed(struct pg_request *req, uint64_t index)
{
    req->index = index;
    req->proposed_term = req->pg->raft.term;
    req->proposed_ns = core_recent_ns(req->shard->core);
    pg_mark_append(req->pg, index, req->proposed_ns);
    list_push_back(&req->pg->waiting, &req->link);
    TRACE(proposed, req->pg->id, index, req->length);
}

static int write_propose(struct pg_request *req)
{
    struct entry entry = {
        .type = ENTRY_WRITE,
        .image = req->image,
        .object = req->object,
        .first_block = req->first_block,
        .block_count = req->block_count,
        .crc = req->crc,
    };
    int error = pg_room_check(req->pg, &entry);

    if (!error)
        error = pg_propose(req->pg, &entry, &req->payload);
    if (error)
        return error;
    write_proposed(req, entry.index);
    /* From now on it is the log's, which has the device: memory must not wait for what may not be committed.
     */
    slice_unref(&req->payload);
    return 0;
}

static int clear_propose_blocks(struct pg_request *req, uint32_t first_block, uint32_t block_count,
                                uint64_t *ret_index)
{
    struct entry entry = {
        .type = ENTRY_CLEAR,
        .image = req->image,
        .object = req->object,
        .first_block = first_block,
        .block_count = block_count,
    };
    int error = pg_room_check(req->pg, &entry);

    if (!error)
        error = pg_propose(req->pg, &entry, NULL);
    if (!error)
        *ret_index = entry.index;
    return error;
}

/* One block, its part [from, to) zeroed. A block that reads as unwritten is cleared as a whole and so stays
 * unwritten. It needs its entry all the same: what was read here may be old, or not committed, and only the
 * commit of an entry behind it proves that it is neither. */
static int clear_propose_block(struct pg_request *req, struct store_read *read, uint32_t from, uint32_t to,
                               uint64_t *ret_index)
{
    struct buf *buf;
    uint32_t crc;
    int error;

    if (!read->ret_data.buf)
        return clear_propose_blocks(req, read->first_block, 1, ret_index);
    buf = buf_new(req->shard->core->arena, BLOCK_SIZE);
    if (!buf)
        return -ERR_RETRY;
    block_fill(buf->data, read);
    memset(buf->data + from, 0, to - from);
    crc = crc32c(0, buf->data, BLOCK_SIZE);
    struct entry entry = {
        .type = ENTRY_WRITE,
        .image = req->image,
        .object = req->object,
        .first_block = read->first_block,
        .block_count = 1,
        .crc = &crc,
    };
    struct slice slice = {buf, 0, BLOCK_SIZE};
    error = pg_room_check(req->pg, &entry);
    if (!error)
        error = pg_propose(req->pg, &entry, &slice);
    if (!error)
        *ret_index = entry.index;
    buf_unref(buf);
    return error;
}

/* Up to three entries: the head's block, whole blocks, the tail's block. If a later one finds no room the
 * request is answered ERR_RETRY although an earlier one was taken: zeros may be written twice. */
static int clear_propose(struct pg_request *req, uint64_t *ret_index)
{
    uint32_t first = req->first_block + req->head_partial;
    uint32_t end = req->first_block + req->block_count - req->tail_partial;
    uint32_t from = req->offset % BLOCK_SIZE, to = (req->offset + req->length) % BLOCK_SIZE;
    int error = 0;

    if (req->head_partial)
        error = clear_propose_block(req, &req->reads[0], from, req->block_count == 1 && to ? to : BLOCK_SIZE,
                                    ret_index);
    if (!error && req->tail_partial)
        error = clear_propose_block(req, &req->reads[1], 0, to, ret_index);
    if (!error && first < end)
        error = clear_propose_blocks(req, first, end - first, ret_index);
    return error;
}

/* ---- the op ---- */

static void write_answer(struct pg_request *req)
{
    struct osd_shard *shard = req->shard;
    struct perf *perf = &shard->perf;
    uint64_t now_ns = core_now_ns(shard->core);

    struct image_perf_row *row = image_perf_row(&shard->image_perf, req->image, req->pg->id, now_ns);

    if (req->kind == PG_CLEAR) {
        perf->clears++;
        row->clears++;
        pg_reply(shard, &req->ticket, req->pg, 0);
        return;
    }
    struct wire_write_reply reply = {.term = req->pg->raft.term, .leader = req->pg->raft.leader};
    size_t len = wire_write_reply_encode(rpc_body(shard->frame), &reply);

    perf->writes++;
    perf->write_bytes += req->length;
    row->writes++;
    row->write_bytes += req->length;
    row->write_ns += now_ns - req->taken_ns;
    row->propose_ns += req->proposed_ns - req->taken_ns;
    row->commit_ns += req->committed_ns - req->proposed_ns;
    row->reply_ns += now_ns - req->committed_ns;
    row->write_buckets[histogram_coarse_bucket(now_ns - req->taken_ns)]++;
    histogram_record(&perf->write_total, now_ns - req->taken_ns);
    histogram_record(&perf->write_propose, req->proposed_ns - req->taken_ns);
    histogram_record(&perf->write_commit, req->committed_ns - req->proposed_ns);
    histogram_record(&perf->write_reply, now_ns - req->committed_ns);
    TRACE(write_answered, req->pg->id, req->index, now_ns - req->taken_ns);
    rpc_reply(&req->ticket, 0, rpc_body(shard->frame), (uint32_t)len, NULL, 0);
}

/* Proposes. True: the request waits for its entry, false: it has been answered. */
static bool write_go(struct pg_request *req, int error)
{
    uint64_t index = 0;

    if (!error)
        error = write_check(req);
    if (!error && req->kind == PG_WRITE)
        error = write_propose(req);
    if (!error && req->kind == PG_CLEAR) {
        error = clear_propose(req, &index);
        if (!error && index)
            write_proposed(req, index);
    }
    if (error) {
        pg_request_fail(req, error);
        return false;
    }
    if (!list_linked(&req->link)) {
        write_answer(req); /* a discard of no whole block: nothing changes */
        pg_request_end(req, 0);
        return false;
    }
    return true;
}

/* The old blocks are read: proposes what came of it. False: it has been answered. */
static bool merge_end(struct pg_request *req)
{
    struct pg *pg = req->pg;
    struct slice head = req->reads[0].ret_data, tail = req->reads[1].ret_data;
    int error = req->error ? req->error : req->op.child_result;
    bool waits;

    list_remove(&req->link);
    if (!error && req->kind == PG_WRITE)
        error = merge_blocks(req);
    req->op.state = WRITE_PROPOSED;
    waits = write_go(req, error);
    slice_unref(&head);
    slice_unref(&tail);
    pg_blocked_wake(pg);
    return waits;
}

/* The old blocks are yet to be read. When we lead no more that may take for ever, for the device may hang;
 * nothing has been proposed. */
static void merge_wait(struct pg_request *req)
{
    if (req->error && !req->answered)
        pg_reply(req->shard, &req->ticket, req->pg, req->error);
    req->answered = req->error;
}

static void write_step(struct op *op)
{
    struct pg_request *req = container_of(op, struct pg_request, op);
    int error;

    for (;;) {
        switch (op->state) {
        case WRITE_START:
            error = write_check(req);
            if (error) {
                pg_request_fail(req, error);
                return;
            }
            if (write_must_wait(req)) {
                req->shard->perf.merge_waits += !req->waited;
                if (!req->waited)
                    timer_arm(op->core, &req->timer, op, req->taken_ns + PG_WAIT_NS);
                req->waited = true;
                list_push_back(&req->pg->blocked, &req->link);
                op->state = WRITE_BLOCKED;
                return;
            }
            timer_cancel(op->core, &req->timer);
            if (req->head_partial || req->tail_partial) {
                merge_start(req);
                return;
            }
            op->state = WRITE_PROPOSED;
            if (!write_go(req, 0))
                return;
            continue;

        case WRITE_BLOCKED:
            if (req->error || req->timer.fired) {
                pg_request_fail(req, req->error ? req->error : -ERR_RETRY);
                return;
            }
            if (write_must_wait(req))
                return;
            list_remove(&req->link);
            op->state = WRITE_START;
            continue;

        case WRITE_MERGE:
            if (op->children) {
                merge_wait(req);
                return;
            }
            if (merge_repair(req) || !merge_end(req))
                return;
            continue;

        case WRITE_REPAIR:
            if (op->children) {
                merge_wait(req);
                return;
            }
            if (!op->child_result && !req->error) {
                merge_read(req);
                return;
            }
            if (!merge_end(req))
                return;
            continue;

        case WRITE_PROPOSED:
            if (req->committed) {
                write_answer(req);
                pg_request_end(req, 0);
            } else if (req->error) {
                pg_request_fail(req, req->error);
            }
            return;
        }
    }
}

/* ---- frames ---- */

/* Which blocks, and which of them partly. */
static void write_set_range(struct pg_request *req, uint32_t offset, uint32_t length)
{
    uint32_t end = offset + length;

    req->offset = offset;
    req->length = length;
    req->first_block = offset / BLOCK_SIZE;
    req->block_count = DIV_UP(end, BLOCK_SIZE) - req->first_block;
    req->head_partial = offset % BLOCK_SIZE != 0;
    req->tail_partial = end % BLOCK_SIZE != 0;
    if (req->block_count == 1 && req->tail_partial) {
        /* One block with two ends: one read. */
        req->head_partial = true;
        req->tail_partial = false;
    }
}

static int write_validate(const struct wire_write_request *in, const struct rpc_message *message)
{
    if (!in->length || in->length > IO_SIZE_MAX || in->offset >= OBJECT_SIZE ||
        in->offset + in->length > OBJECT_SIZE)
        return -ERR_INVALID;
    uint32_t first = in->offset / BLOCK_SIZE, end = DIV_UP(in->offset + in->length, BLOCK_SIZE);
    /* An entry has no room for more; IO_SIZE_MAX bytes that are not aligned would touch one more. */
    if (end - first > IO_BLOCKS_MAX)
        return -ERR_INVALID;
    if (message->payload_dropped)
        return -ERR_RETRY;
    if (message->payload.len != in->length || in->crc_count != end - first)
        return -ERR_PROTOCOL;
    const uint8_t *data = slice_data(&message->payload);
    for (uint32_t i = 0, at = in->offset; i < in->crc_count; i++) {
        uint32_t next = MIN(ALIGN_DOWN(at, BLOCK_SIZE) + BLOCK_SIZE, in->offset + in->length);
        if (crc32c(0, data + (at - in->offset), next - at) != in->crc[i])
            return -ERR_CHECKSUM;
        at = next;
    }
    return 0;
}

void pg_write_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                      const struct rpc_message *message)
{
    struct wire_write_request in = {0};
    uint64_t began_ns = core_recent_ns(shard->core);
    int error = wire_write_request_decode(message->body, message->body_len, &in, shard->crcs);

    if (!error) {
        pg_prefetch(shard, in.pg);
        error = write_validate(&in, message);
    }
    if (error) {
        shard->perf.crc_errors += error == -ERR_CHECKSUM;
        shard->perf.payload_drops += message->payload_dropped;
        pg_reply(shard, ticket, pg_find(shard, in.pg), error);
        return;
    }
    struct pg_request *req = pg_request_new(shard, ticket, in.pg, PG_WRITE, &message->payload, in.length);
    if (!req)
        return;
    histogram_record(&shard->perf.write_receive, req->taken_ns - began_ns);
    req->term = in.term;
    req->image = in.image;
    req->object = in.object;
    req->generation = in.generation;
    req->incarnation = in.incarnation;
    write_set_range(req, in.offset, in.length);
    memcpy(req->crc, in.crc, in.crc_count * sizeof(uint32_t));
    pg_request_go(req, &write_kind);
}

void pg_clear_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                      const struct rpc_message *message)
{
    uint64_t memory[64];
    struct wire_arena arena;
    Fb__ClearRequest *in;
    struct pg_request *req;
    int error;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    error = wire_cold_decode(&fb__clear_request__descriptor, message->body, message->body_len, &arena, &in);
    if (!error && (!in->length || in->length > OBJECT_SIZE || in->offset >= OBJECT_SIZE ||
                   in->offset + in->length > OBJECT_SIZE))
        error = -ERR_INVALID;
    if (error) {
        pg_reply(shard, ticket, NULL, error);
    } else if ((req = pg_request_new(shard, ticket, in->pg, PG_CLEAR, NULL, 0)) != NULL) {
        req->term = in->term;
        req->image = in->image;
        req->object = in->object;
        req->generation = in->generation;
        req->incarnation = in->incarnation;
        req->exact = in->exact;
        write_set_range(req, in->offset, in->length);
        if (!in->exact) {
            /* Inward: what a partial block holds stays. */
            uint32_t from = ALIGN_UP(in->offset, BLOCK_SIZE),
                     to = ALIGN_DOWN(in->offset + in->length, BLOCK_SIZE);
            req->first_block = from / BLOCK_SIZE;
            req->block_count = to > from ? (to - from) / BLOCK_SIZE : 0;
            req->head_partial = req->tail_partial = false;
        }
        pg_request_go(req, &write_kind);
    }
    wire_arena_fini(&arena);
}
