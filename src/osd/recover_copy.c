/* SPDX-License-Identifier: Apache-2.0
 *
 *      ASK <--> ANSWER --> WRITE --(next window)--> ASK
 *                 |          '--(was the last)----> END --> done
 *                 '-- does not fit: throw away ---> END --> ASK from the first window
 */
#include "osd/recover_copy.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"

enum { COPY_ASK, COPY_ANSWER, COPY_WRITE, COPY_END };
#define COPY_TRIES_MAX 20
#define COPY_RETRY_NS  (20 * NS_PER_MS)

static const char *copy_state_name(int state)
{
    static const char *const names[] = {"ask", "answer", "write", "end"};
    return names[state];
}
static void copy_step(struct op *op);
static const struct op_kind copy_kind = {"osd.recover-copy", copy_state_name, copy_step};

int recover_read_send(struct pg *pg, uint32_t source, uint64_t image, uint64_t object, uint32_t first_block,
                      uint32_t block_count, uint8_t *frame, struct rpc_call *call, struct op *waiter)
{
    struct pg_member *member = pg_member_find(pg, source);
    Fb__RecoverReadRequest request = FB__RECOVER_READ_REQUEST__INIT;
    uint32_t len;

    if (!member || !member->peer || !member->peer->rpc)
        return -ERR_CLOSED;
    request.pg = pg->id;
    request.from = pg->replica;
    request.to = source;
    request.term = pg->raft.term;
    request.image = image;
    request.object = object;
    request.first_block = first_block;
    request.block_count = block_count;
    int error = wire_cold_encode(&request.base, rpc_body(frame), 128, &len);
    if (error)
        return error;
    return rpc_call_start(call, member->peer->rpc, waiter, METHOD_RECOVER_READ, rpc_body(frame), len, NULL, 0,
                          core_now_ns(pg->shard->core) + RECOVER_CALL_NS);
}

int recover_read_decode(const struct rpc_call *call, uint32_t block_count, struct recover_window *ret)
{
    uint64_t memory[512];
    struct wire_arena arena;
    Fb__RecoverReadReply *in;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__recover_read_reply__descriptor, call->reply, call->reply_len, &arena, &in);
    memset(ret, 0, sizeof(*ret));
    if (!error && (in->written.len > sizeof(ret->written) || in->damaged.len > sizeof(ret->damaged)))
        error = -ERR_PROTOCOL;
    if (!error) {
        ret->index = in->index;
        ret->applied_index = in->applied_index;
        ret->absent = in->absent;
        if (in->written.len)
            memcpy(ret->written, in->written.data, in->written.len);
        if (in->damaged.len)
            memcpy(ret->damaged, in->damaged.data, in->damaged.len);
        for (uint32_t i = 0; i < RECOVER_WINDOW; i++) {
            bool written = ret->written[i / 64] >> i % 64 & 1;
            bool damaged = ret->damaged[i / 64] >> i % 64 & 1;
            if ((written && i >= block_count) || (damaged && !written))
                error = -ERR_PROTOCOL;
            ret->written_count += written;
            ret->damaged_count += damaged;
        }
        if (in->n_crc != ret->written_count || call->reply_payload.len != ret->written_count * BLOCK_SIZE ||
            (ret->absent && ret->written_count))
            error = -ERR_PROTOCOL;
        if (!error && in->n_crc)
            memcpy(ret->crc, in->crc, in->n_crc * sizeof(uint32_t));
    }
    wire_arena_fini(&arena);
    return error;
}

void recover_copy_start(struct recover_copy *c, struct pg *pg, uint32_t source, uint64_t image,
                        uint64_t object, uint64_t min_applied, struct op *parent)
{
    c->pg = pg;
    c->source = source;
    c->image = image;
    c->object = object;
    c->min_applied = min_applied;
    c->ret_absent = false;
    c->first_block = c->tries = c->damaged_count = 0;
    c->error = 0;
    c->restart = false;
    c->copy = NULL;
    op_start(&c->op, pg->shard->core, &copy_kind, parent);
}

static void copy_done(struct recover_copy *c)
{
    timer_cancel(c->op.core, &c->timer);
    slice_unref(&c->data);
    slice_unref(&c->call.reply_payload);
    op_done(&c->op, c->error);
}

/* What was copied so far is thrown away, if anything was. */
static void copy_give_up(struct recover_copy *c, int error, bool restart)
{
    c->error = error;
    c->restart = restart;
    c->op.state = COPY_END;
    slice_unref(&c->data);
    if (c->copy) {
        store_copy_end_start(&c->end, c->copy, false, &c->op);
        c->copy = NULL;
    } else {
        op_wake(&c->op);
    }
}

static void copy_again(struct recover_copy *c, int error)
{
    if (c->tries++ >= COPY_TRIES_MAX) {
        copy_give_up(c, error, false);
        return;
    }
    c->op.state = COPY_ASK;
    timer_arm(c->op.core, &c->timer, &c->op, core_now_ns(c->op.core) + COPY_RETRY_NS);
}

static void copy_ask(struct recover_copy *c)
{
    int error;

    if (timer_armed(&c->timer) && !c->op.cancelled)
        return;
    timer_cancel(c->op.core, &c->timer);
    c->call.reply = c->reply;
    c->call.reply_cap = sizeof(c->reply);
    error = c->op.cancelled ? -ERR_CANCELLED
                            : recover_read_send(c->pg, c->source, c->image, c->object, c->first_block,
                                                RECOVER_WINDOW, c->frame, &c->call, &c->op);
    if (error == -ERR_BUSY)
        copy_again(c, error);
    else if (error)
        copy_give_up(c, error, false);
    else
        c->op.state = COPY_ANSWER;
}

static void copy_answer(struct recover_copy *c)
{
    struct recover_window window;
    int error = c->call.result;

    if (c->op.cancelled && c->call.pending) {
        rpc_call_abandon(&c->call);
        error = c->call.result;
    }
    if (c->call.pending)
        return;
    if (!error)
        error = recover_read_decode(&c->call, RECOVER_WINDOW, &window);
    c->data = c->call.reply_payload;
    c->call.reply_payload = (struct slice){0};
    if (error || c->op.cancelled) {
        slice_unref(&c->data);
        if (error == -ERR_RETRY && c->call.remote && !c->op.cancelled)
            copy_again(c, error);
        else
            copy_give_up(c, error ? error : -ERR_CANCELLED, false);
        return;
    }
    if (window.applied_index < c->min_applied) {
        copy_give_up(c, -ERR_RECOVERING, false);
        return;
    }
    if (window.absent && !c->copy) {
        c->ret_absent = true;
        copy_give_up(c, 0, false);
        return;
    }
    bool exact = c->pg->sp->record.state == STORE_PG_NORMAL;
    if (exact && window.damaged_count) {
        copy_give_up(c, -ERR_DAMAGED, false);
        return;
    }
    if (c->copy && (window.absent || window.index < c->index || (exact && window.index != c->index))) {
        copy_give_up(c, c->tries >= COPY_TRIES_MAX ? -ERR_CONFLICT : 0, c->tries < COPY_TRIES_MAX);
        c->tries++;
        return;
    }
    if (!c->copy) {
        c->index = window.index;
        error = store_copy_new(c->pg->sp, c->image, c->object, c->index, &c->copy);
        if (error) {
            c->copy = NULL;
            copy_give_up(c, error, false);
            return;
        }
    }
    memcpy(c->written, window.written, sizeof(c->written));
    memcpy(c->damaged, window.damaged, sizeof(c->damaged));
    memcpy(c->crc, window.crc, sizeof(c->crc));
    c->damaged_count += window.damaged_count;
    c->op.state = COPY_WRITE;
    if (window.written_count)
        store_copy_write_start(&c->write, c->copy, c->first_block, RECOVER_WINDOW, c->written, c->damaged,
                               c->crc, &c->data, &c->op);
    else
        op_wake(&c->op);
}

static void copy_written(struct recover_copy *c)
{
    int error = c->op.child_result;

    c->op.child_result = 0;
    slice_unref(&c->data);
    if (error || c->op.cancelled) {
        copy_give_up(c, error ? error : -ERR_CANCELLED, false);
        return;
    }
    c->first_block += RECOVER_WINDOW;
    if (c->first_block < BLOCKS_PER_OBJECT) {
        c->op.state = COPY_ASK;
        op_wake(&c->op);
        return;
    }
    c->op.state = COPY_END;
    store_copy_end_start(&c->end, c->copy, true, &c->op);
    c->copy = NULL;
}

static void copy_step(struct op *op)
{
    struct recover_copy *c = container_of(op, struct recover_copy, op);

    if (op->children)
        return;
    switch (op->state) {
    case COPY_ASK:
        copy_ask(c);
        return;
    case COPY_ANSWER:
        copy_answer(c);
        return;
    case COPY_WRITE:
        copy_written(c);
        return;
    case COPY_END:
        if (!c->error)
            c->error = op->child_result;
        op->child_result = 0;
        if (c->restart && !c->error && !op->cancelled) {
            c->restart = false;
            c->first_block = c->damaged_count = 0;
            op->state = COPY_ASK;
            op_wake(op);
            return;
        }
        if (c->damaged_count && !c->error)
            core_log(op->core, LOG_ERROR, "osd",
                     PG_FMT ": image %" PRIu64 " object %" PRIu64
                            ": %u blocks are damaged at replica %u, too",
                     PG_ARGS(c->pg->id), c->image, c->object, c->damaged_count, c->source);
        copy_done(c);
        return;
    }
}
