/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads, and the map of written blocks.
 *
 *      START ---> WAIT --- leads for sure, and has applied what was committed ---> READ ---> answered
 *                                                                                  |  ^
 *                                                          damaged blocks: repair.c '--'
 *
 * A read must show every write that was answered before the read was sent. It does if this replica was the
 * leader at some moment after the read arrived, and everything committed by then is applied. The lease proves
 * the first at once, by the clock read now; without it a majority must answer something that was sent after
 * the arrival (raft's ReadIndex).
 *
 * What is read leaves as it lies in the store's buffers, without a copy.
 */
#include "osd/pg.h"

#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "base/trace.h"
#include "osd/repair.h"
#include "osd/scrub.h"

enum { READ_START, READ_WAIT, READ_DATA, READ_REPAIR };
#define READ_REPAIRS_MAX 2 /* attempts on one request */

static const char *read_state_name(int state)
{
    static const char *const names[] = {"start", "wait", "data", "repair"};
    return names[state];
}
static void read_step(struct op *op);
static const struct op_kind read_kind = {"osd.read", read_state_name, read_step};

static int read_check_image(const struct pg_request *req)
{
    const struct image_record *record = store_image_get(req->pg->sp, req->image);

    /* A removal or resize has begun to clear objects, and the record is still the old one. */
    if (store_clearing(req->pg->sp, req->image) && !PLANT(OSD_READS_CLEARED))
        return -ERR_RETRY;
    if (!req->generation)
        return 0;
    /* Readers do not attach: an image that nobody has written to here is unknown, and reads as zeros; but not
     * one that was removed. */
    bool stale = record ? record->deleted || req->generation < record->generation
                        : !pg_image_vouched(req->pg, req->epoch);
    return stale ? -ERR_STALE_GENERATION : 0;
}

static int read_check(struct pg_request *req)
{
    int error = pg_request_check(req, false);

    if (!error)
        error = pg_request_check_object(req);
    return error ? error : read_check_image(req);
}

static bool read_leads(struct pg_request *req)
{
    const struct raft *r = &req->pg->raft;
    uint64_t now_ns = core_now_ns(req->shard->core);

    return raft_lease_valid(r, now_ns) || raft_quorum_contact_ns(r, now_ns) >= req->taken_ns ||
           PLANT(OSD_NO_LEASE);
}

static void read_wait_begin(struct pg_request *req)
{
    struct pg *pg = req->pg;

    req->waited = true;
    list_push_back(&pg->reading, &req->link);
    timer_arm(req->shard->core, &req->timer, &req->op, core_now_ns(req->shard->core) + PG_WAIT_NS);
    if (!read_leads(req)) {
        req->shard->perf.read_index++;
        raft_probe(&pg->raft);
        pg_wake(pg);
    }
}

static void read_data_start(struct pg_request *req)
{
    req->reads[0].ret_data = (struct slice){0};
    list_push_back(&req->pg->fetching, &req->link);
    store_read_start(&req->reads[0], req->pg->sp, req->image, req->object, req->first_block, req->block_count,
                     false, &req->op);
}

static void read_answer(struct pg_request *req)
{
    struct osd_shard *shard = req->shard;
    struct store_read *read = &req->reads[0];
    struct wire_read_reply reply = {
        .term = req->pg->raft.term,
        .leader = req->pg->raft.leader,
        .crc_count = read->ret_data.buf ? req->block_count : 0,
        .crc = read->ret_crc,
    };
    size_t len = wire_read_reply_encode(rpc_body(shard->frame), &reply);

    shard->perf.reads++;
    shard->perf.read_bytes += req->length;
    uint64_t now_ns = core_now_ns(shard->core), took_ns = now_ns - req->taken_ns;
    histogram_record(&shard->perf.read_total, took_ns);
    struct image_perf_row *row = image_perf_row(&shard->image_perf, req->image, req->pg->id, now_ns);
    row->reads++;
    row->read_bytes += req->length;
    row->read_ns += took_ns;
    row->read_buckets[histogram_coarse_bucket(took_ns)]++;
    TRACE(read_answered, req->pg->id, req->length, took_ns);
    rpc_reply(&req->ticket, 0, rpc_body(shard->frame), (uint32_t)len, &read->ret_data,
              read->ret_data.buf ? 1 : 0);
    slice_unref(&read->ret_data);
}

static void block_status_answer(struct pg_request *req)
{
    struct osd_shard *shard = req->shard;
    Fb__BlockStatusReply reply = FB__BLOCK_STATUS_REPLY__INIT;
    uint64_t written[BLOCKS_PER_OBJECT / 64];

    reply.term = req->pg->raft.term;
    reply.leader = req->pg->raft.leader;
    if (store_block_status(req->pg->sp, req->image, req->object, written)) {
        reply.written.data = (uint8_t *)written;
        reply.written.len = sizeof(written);
    }
    reply.next_object = store_object_after(req->pg->sp, req->image, req->object);
    reply.split_count = pg_split_count(req->pg);
    shard_reply_cold(shard, &req->ticket, 0, &reply.base);
}

/* All that was damaged has come from other replicas. */
static bool read_is_whole(const struct store_read *read)
{
    uint64_t damaged = 0;

    for (size_t i = 0; i < ARRAY_LEN(read->ret_damaged); i++)
        damaged |= read->ret_damaged[i];
    return read->ret_data.buf && !damaged;
}

/* The store's word, or what a repair made of it. */
static void read_data_end(struct pg_request *req)
{
    int error = req->op.child_result, moved = pg_request_check_object(req);

    req->op.child_result = 0;
    /* What is another PG's since may have been read as absent. */
    if (moved && !PLANT(OSD_SPLIT_READS)) {
        slice_unref(&req->reads[0].ret_data);
        pg_request_fail(req, moved);
        return;
    }
    /* A removal or resize may have been applied meanwhile, and its zeros are no data. */
    if (!error)
        error = read_check_image(req);
    if (error == -ERR_DAMAGED && req->repair_tries++ < READ_REPAIRS_MAX) {
        req->op.state = READ_REPAIR;
        repair_start(req->pg, &req->reads[0], &req->op);
        return;
    }
    if (error) {
        if (error == -ERR_DAMAGED) {
            req->shard->perf.unrepaired_reads++;
            damage_note(req->pg, req->image, req->object, req->first_block, req->block_count,
                        req->reads[0].ret_damaged);
        }
        slice_unref(&req->reads[0].ret_data);
        pg_request_fail(req, error);
        return;
    }
    read_answer(req);
    pg_request_end(req, 0);
}

static void read_step(struct op *op)
{
    struct pg_request *req = container_of(op, struct pg_request, op);
    struct pg *pg = req->pg;
    int error;

    for (;;) {
        switch (op->state) {
        case READ_START:
            error = read_check(req);
            if (error) {
                pg_request_fail(req, error);
                return;
            }
            pg_apply(pg);
            req->index = pg->raft.commit_index;
            req->proposed_term = pg->raft.term;
            op->state = READ_WAIT;
            continue;

        case READ_WAIT:
            error = read_check(req);
            /* Only as leader of the term that the index was taken in does a later majority prove anything. */
            if (!error && (req->error || req->timer.fired || req->proposed_term != pg->raft.term))
                error = -ERR_RETRY;
            if (error) {
                pg_request_fail(req, error);
                return;
            }
            if (pg->sp->applied_index < req->index || !read_leads(req)) {
                if (!req->waited)
                    read_wait_begin(req);
                return;
            }
            if (list_linked(&req->link))
                list_remove(&req->link);
            timer_cancel(op->core, &req->timer);
            if (req->kind == PG_BLOCK_STATUS) {
                block_status_answer(req);
                pg_request_end(req, 0);
                return;
            }
            read_data_start(req);
            op->state = READ_DATA;
            return;

        case READ_DATA:
            if (op->children) {
                /* We lead no more, and the device may hang. */
                if (req->error && !req->answered)
                    pg_reply(req->shard, &req->ticket, pg, req->error);
                req->answered = req->error;
                return;
            }
            list_remove(&req->link);
            if (req->answered) {
                slice_unref(&req->reads[0].ret_data);
                pg_request_end(req, req->error);
                return;
            }
            read_data_end(req);
            return;

        case READ_REPAIR:
            if (op->children)
                return;
            error = op->child_result;
            op->child_result = 0;
            /* The last word is the store's: what is damaged no more has been overwritten meanwhile. */
            if (error == -ERR_DAMAGED) {
                req->repair_tries = READ_REPAIRS_MAX;
                error = 0;
            }
            if (!error)
                error = read_check(req);
            if (!error && read_is_whole(&req->reads[0])) {
                read_data_end(req);
                return;
            }
            slice_unref(&req->reads[0].ret_data);
            if (error) {
                pg_request_fail(req, error);
                return;
            }
            read_data_start(req);
            op->state = READ_DATA;
            return;
        }
    }
}

void pg_read_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                     const struct rpc_message *message)
{
    struct wire_read_request in = {0};
    int error = wire_read_request_decode(message->body, message->body_len, &in);

    if (!error && (!in.block_count || in.block_count > IO_BLOCKS_MAX || in.first_block >= BLOCKS_PER_OBJECT ||
                   in.first_block + in.block_count > BLOCKS_PER_OBJECT))
        error = -ERR_INVALID;
    if (error) {
        pg_reply(shard, ticket, pg_find(shard, in.pg), error);
        return;
    }
    /* Who does not take what was read for it is not worth reading for. */
    if (UNLIKELY(!rpc_ticket_has_room(ticket, in.block_count * BLOCK_SIZE))) {
        shard->perf.turned_away++;
        pg_reply(shard, ticket, pg_find(shard, in.pg), -ERR_RETRY);
        return;
    }
    struct pg_request *req = pg_request_new(shard, ticket, in.pg, PG_READ, NULL, in.block_count * BLOCK_SIZE);
    if (!req)
        return;
    req->image = in.image;
    req->object = in.object;
    req->generation = in.generation;
    req->epoch = in.epoch;
    req->first_block = in.first_block;
    req->block_count = in.block_count;
    req->length = in.block_count * BLOCK_SIZE;
    pg_request_go(req, &read_kind);
}

void pg_block_status_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                             const struct rpc_message *message)
{
    uint64_t memory[32];
    struct wire_arena arena;
    Fb__BlockStatusRequest *in;
    struct pg_request *req;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error = wire_cold_decode(&fb__block_status_request__descriptor, message->body, message->body_len,
                                 &arena, &in);
    if (error) {
        pg_reply(shard, ticket, NULL, error);
    } else if ((req = pg_request_new(shard, ticket, in->pg, PG_BLOCK_STATUS, NULL, 0)) != NULL) {
        req->image = in->image;
        req->object = in->object;
        req->generation = in->generation;
        req->epoch = in->epoch;
        pg_request_go(req, &read_kind);
    }
    wire_arena_fini(&arena);
}
