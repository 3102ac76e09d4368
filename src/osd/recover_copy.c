/* SPDX-License-Identifier: Apache-2.0
 *
 *      (LOOK) --> ASK <--> ANSWER --> (OWN) --> WRITE --(next window, or the same once more)--> ASK
 *                            |                    '--(was the last)----> END --> done
 *                            '-- does not fit: throw away -------------> END --> from the first window
 */
#include "osd/recover_copy.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"

enum { COPY_LOOK, COPY_ASK, COPY_ANSWER, COPY_OWN, COPY_WRITE, COPY_END };
#define COPY_TRIES_MAX 20
#define COPY_RETRY_NS  (20 * NS_PER_MS)

static const char *copy_state_name(int state)
{
    static const char *const names[] = {"look", "ask", "answer", "own", "write", "end"};
    return names[state];
}
static void copy_step(struct op *op);
static const struct op_kind copy_kind = {"osd.recover-copy", copy_state_name, copy_step};

static bool has_bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

int recover_read_send(struct pg *pg, uint32_t source, uint64_t image, uint64_t object, uint32_t first_block,
                      uint32_t block_count, const struct recover_have *have, bool recovery, uint8_t *frame,
                      struct rpc_call *call, struct op *waiter)
{
    struct peer *peer = pg_peer(pg, source);
    Fb__RecoverReadRequest request = FB__RECOVER_READ_REQUEST__INIT;
    uint32_t len, crcs[RECOVER_WINDOW];

    if (!peer || !peer->rpc)
        return -ERR_CLOSED;
    request.pg = pg->id;
    request.from = pg->replica;
    request.to = source;
    request.term = pg->raft.term;
    request.image = image;
    request.object = object;
    request.first_block = first_block;
    request.block_count = block_count;
    request.recovery = recovery;
    request.have_crc = crcs;
    for (uint32_t i = 0; have && i < block_count; i++)
        if (has_bit(have->bits, i))
            crcs[request.n_have_crc++] = have->crc[i];
    if (request.n_have_crc) {
        request.have = (ProtobufCBinaryData){RECOVER_WINDOW / 8, (uint8_t *)have->bits};
        request.key = (ProtobufCBinaryData){CONTENT_KEY_BYTES, (uint8_t *)have->key.bytes};
    }
    int error = wire_cold_encode(&request.base, rpc_body(frame), RECOVER_READ_BODY, &len);
    if (error)
        return error;
    return rpc_call_start(call, peer->rpc, waiter, METHOD_RECOVER_READ, rpc_body(frame), len, NULL, 0,
                          core_now_ns(pg->shard->core) + RECOVER_CALL_NS);
}

/* A bitmap of the window. False: longer than that. */
static bool take_bits(const ProtobufCBinaryData *from, uint64_t to[RECOVER_WINDOW / 64])
{
    if (from->len > RECOVER_WINDOW / 8)
        return false;
    if (from->len)
        memcpy(to, from->data, from->len);
    return true;
}

static int window_take(const Fb__RecoverReadReply *in, const struct rpc_call *call, uint32_t block_count,
                       const struct recover_have *have, struct recover_window *ret)
{
    uint32_t sent = 0;

    ret->index = in->index;
    ret->applied_index = in->applied_index;
    ret->absent = in->absent;
    ret->lost_index = in->lost_index ? in->lost_index : in->index;
    if (!take_bits(&in->written, ret->written) || !take_bits(&in->damaged, ret->damaged) ||
        !take_bits(&in->same, ret->same))
        return -ERR_PROTOCOL;
    for (uint32_t i = 0; i < RECOVER_WINDOW; i++) {
        bool written = has_bit(ret->written, i), damaged = has_bit(ret->damaged, i);
        bool same = has_bit(ret->same, i);
        if ((written && i >= block_count) || (damaged && !written) ||
            (same && (!written || damaged || !have || !has_bit(have->bits, i) ||
                      in->hash.len < (ret->same_count + 1) * CONTENT_HASH_BYTES)))
            return -ERR_PROTOCOL;
        ret->written_count += written;
        ret->damaged_count += damaged;
        if (same) {
            ret->crc[i] = have->crc[i];
            memcpy(&ret->hash[i], in->hash.data + ret->same_count++ * CONTENT_HASH_BYTES, CONTENT_HASH_BYTES);
        }
        if (!written || same)
            continue;
        if (sent == in->n_crc)
            return -ERR_PROTOCOL;
        ret->crc[i] = in->crc[sent++];
    }
    if (in->n_crc != sent || in->hash.len != ret->same_count * CONTENT_HASH_BYTES ||
        call->reply_payload.len != sent * BLOCK_SIZE || (ret->absent && ret->written_count) ||
        ret->lost_index > ret->index)
        return -ERR_PROTOCOL;
    return 0;
}

int recover_read_decode(const struct rpc_call *call, uint32_t block_count, const struct recover_have *have,
                        struct recover_window *ret)
{
    uint64_t memory[1024];
    struct wire_arena arena;
    Fb__RecoverReadReply *in;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__recover_read_reply__descriptor, call->reply, call->reply_len, &arena, &in);
    memset(ret, 0, sizeof(*ret));
    if (!error)
        error = window_take(in, call, block_count, have, ret);
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
    c->index = 0;
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
        store_copy_end_start(&c->end, c->copy, 0, &c->op);
        c->copy = NULL;
    } else {
        op_wake(&c->op);
    }
}

/* A moment later. `counts`: not for ever. */
static void copy_again(struct recover_copy *c, int error, bool counts)
{
    if (counts && c->tries++ >= COPY_TRIES_MAX) {
        copy_give_up(c, error, false);
        return;
    }
    c->op.state = COPY_ASK;
    timer_arm(c->op.core, &c->timer, &c->op, core_now_ns(c->op.core) + COPY_RETRY_NS);
}

static int copy_send(struct recover_copy *c)
{
    if (c->recovers)
        store_copy_have(c->copy, c->first_block, RECOVER_WINDOW, c->have.bits, c->have.crc, &c->have.key);
    else
        memset(c->have.bits, 0, sizeof(c->have.bits));
    c->call.reply = c->reply;
    c->call.reply_cap = sizeof(c->reply);
    return recover_read_send(c->pg, c->source, c->image, c->object, c->first_block, RECOVER_WINDOW, &c->have,
                             c->recovers, c->frame, &c->call, &c->op);
}

static void copy_look(struct recover_copy *c)
{
    int error = c->op.cancelled ? -ERR_CANCELLED : 0;

    /* A recovery that has begun since takes the object from its own source, if it is to be here at all. */
    if (!error && !c->recovers && c->pg->sp->record.state != STORE_PG_NORMAL)
        error = -ERR_RECOVERING;
    /* Nor may it come back from a member that has yet to apply what it has gone with here. If it is here that
     * was, if anything, the entry which it shows: other objects that go meanwhile are not waited for. */
    if (!c->recovers) {
        uint64_t gone = c->pg->sp->gone_index, index = 0, lost[BLOCKS_PER_OBJECT / 64];
        bool here = store_object_lost(c->pg->sp, c->image, c->object, &index, lost);
        c->min_applied = MAX(c->min_applied, here ? MIN(gone, index) : gone);
    }
    if (!error)
        error = store_copy_new(c->pg->sp, c->image, c->object, &c->copy);
    if (error) {
        c->copy = NULL;
        copy_give_up(c, error, false);
        return;
    }
    c->op.state = COPY_ASK;
    if (c->recovers)
        store_copy_look_start(&c->look, c->copy, &c->op);
    else
        op_wake(&c->op);
}

static void copy_ask(struct recover_copy *c)
{
    int error = c->op.child_result;

    c->op.child_result = 0;
    if (timer_armed(&c->timer) && !c->op.cancelled)
        return;
    timer_cancel(c->op.core, &c->timer);
    if (!error)
        error = c->op.cancelled ? -ERR_CANCELLED : copy_send(c);
    if (error == -ERR_BUSY)
        copy_again(c, error, true);
    else if (error)
        copy_give_up(c, error, false);
    else
        c->op.state = COPY_ANSWER;
}

/* Does the source lack a block of the window that may be whole here? A copy of the object would lose it. */
static bool lacks_more(const struct recover_copy *c)
{
    uint64_t index, lost[BLOCKS_PER_OBJECT / 64] = {0};

    (void)!store_object_lost(c->pg->sp, c->image, c->object, &index, lost);
    for (uint32_t i = 0; i < RECOVER_WINDOW; i++)
        if (has_bit(c->window.damaged, i) && !has_bit(lost, c->first_block + i))
            return true;
    return false;
}

/* Is the answer of use? Otherwise the copy has been given up. */
static bool answer_fits(struct recover_copy *c)
{
    const struct recover_window *window = &c->window;
    bool exact = !c->recovers;

    if (window->applied_index < c->min_applied) {
        copy_give_up(c, -ERR_RECOVERING, false);
    } else if (window->absent && !c->index) {
        c->ret_absent = true;
        copy_give_up(c, 0, false);
    } else if (exact && (c->damaged_count + window->damaged_count > c->damaged_max || lacks_more(c))) {
        copy_give_up(c, -ERR_DAMAGED, false);
    } else if (c->index &&
               (window->absent || window->index < c->index || (exact && window->index != c->index))) {
        copy_give_up(c, c->tries >= COPY_TRIES_MAX ? -ERR_CONFLICT : 0, c->tries < COPY_TRIES_MAX);
        c->tries++;
    } else {
        return true;
    }
    return false;
}

/* The window is as the source has it. */
static void copy_count(struct recover_copy *c)
{
    struct perf *perf = &c->pg->shard->perf;
    uint32_t compared = 0;

    for (uint32_t i = 0; i < RECOVER_WINDOW; i++)
        compared += has_bit(c->have.bits, i) && has_bit(c->window.written, i);
    perf->recover_compared += compared;
    perf->recover_same += c->window.same_count;
    c->damaged_count += c->window.damaged_count;
}

/* What came, and was added, becomes part of the copy, if it is of use. */
static void copy_take(struct recover_copy *c)
{
    struct recover_window *window = &c->window;

    if (!answer_fits(c))
        return;
    c->index = c->index ? c->index : window->index;
    c->pg->shard->perf.recover_received += window->written_count - window->same_count;
    c->op.state = COPY_WRITE;
    store_copy_write_start(&c->write, c->copy, c->first_block, RECOVER_WINDOW, window->written,
                           window->damaged, window->lost_index, window->same, window->hash, window->crc,
                           &c->data, &c->op);
}

static void copy_answer(struct recover_copy *c)
{
    struct recover_window *window = &c->window;
    int error = c->call.result;

    if (c->op.cancelled && c->call.pending) {
        rpc_call_abandon(&c->call);
        error = c->call.result;
    }
    if (c->call.pending)
        return;
    if (!error)
        error = recover_read_decode(&c->call, RECOVER_WINDOW, &c->have, window);
    c->data = c->call.reply_payload;
    c->call.reply_payload = (struct slice){0};
    if (error || c->op.cancelled) {
        slice_unref(&c->data);
        bool again = (error == -ERR_RETRY || error == -ERR_BUSY) && c->call.remote && !c->op.cancelled;
        if (again)
            copy_again(c, error, error == -ERR_RETRY);
        else
            copy_give_up(c, error ? error : -ERR_CANCELLED, false);
        return;
    }
    if (window->damaged_count) {
        c->op.state = COPY_OWN;
        store_read_written_start(&c->own, c->pg->sp, c->image, c->object, c->first_block, RECOVER_WINDOW,
                                 c->log_committed, &c->op);
        return;
    }
    copy_take(c);
}

/* Is what is here of what the source lacks the same as there? It is, if this is the same state of the object,
 * or an older one that is not older than the last entry which can have touched those blocks. */
static bool own_is_current(const struct recover_copy *c)
{
    const struct recover_window *window = &c->window;
    uint64_t index = c->own.ret_index;

    if (c->recovers && PLANT(OSD_MARK_WINS))
        return false;
    return index && index <= window->index && (index >= window->lost_index || PLANT(OSD_MARK_OLD));
}

/* What the source lacks may be whole here: then it is put where the source's damaged block came, or left out
 * if it was never written. So replicas that lost different blocks are made whole from one another, and none
 * gives up what nobody else has. */
static void copy_own(struct recover_copy *c)
{
    struct recover_window *window = &c->window;
    const struct store_read *own = &c->own;
    int error = c->op.child_result == -ERR_DAMAGED ? 0 : c->op.child_result;
    bool usable = !error && own_is_current(c);
    uint8_t *to = slice_data(&c->data), *from = to;

    c->op.child_result = 0;
    for (uint32_t i = 0; usable && i < RECOVER_WINDOW; i++) {
        if (!has_bit(window->written, i) || has_bit(window->same, i))
            continue;
        bool take = has_bit(window->damaged, i) && !has_bit(own->ret_damaged, i);
        bool empty = take && !has_bit(own->ret_written, i);
        if (take) {
            window->damaged[i / 64] &= ~(1ull << i % 64);
            window->damaged_count--;
        }
        if (empty) {
            window->written[i / 64] &= ~(1ull << i % 64);
            window->written_count--;
        } else if (take) {
            memcpy(to, slice_data(&own->ret_data) + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
            window->crc[i] = own->ret_crc[i];
        } else if (to != from) {
            memcpy(to, from, BLOCK_SIZE);
        }
        from += BLOCK_SIZE;
        to += empty ? 0 : BLOCK_SIZE;
    }
    slice_unref(&c->own.ret_data);
    if (c->op.cancelled) {
        copy_give_up(c, -ERR_CANCELLED, false);
    } else if (error) {
        /* What is here must not be given up for want of memory. */
        slice_unref(&c->data);
        copy_again(c, error, true);
    } else {
        copy_take(c);
    }
}

static void copy_written(struct recover_copy *c)
{
    int error = c->op.child_result;

    c->op.child_result = 0;
    slice_unref(&c->data);
    if (error == -ERR_CONFLICT && !c->op.cancelled) {
        /* Some of what we had differs, or is damaged: it is to come, too. */
        if (c->tries++ >= COPY_TRIES_MAX) {
            copy_give_up(c, error, false);
            return;
        }
        c->op.state = COPY_ASK;
        op_wake(&c->op);
        return;
    }
    if (error || c->op.cancelled) {
        copy_give_up(c, error ? error : -ERR_CANCELLED, false);
        return;
    }
    copy_count(c);
    c->first_block += RECOVER_WINDOW;
    if (c->first_block < BLOCKS_PER_OBJECT) {
        c->op.state = COPY_ASK;
        op_wake(&c->op);
        return;
    }
    c->op.state = COPY_END;
    store_copy_end_start(&c->end, c->copy, c->index, &c->op);
    c->copy = NULL;
}

/* The source was started anew, say, and had destaged less than the one from which ours came. Its copy cannot
 * mend what of ours is damaged: that is for a repair, once it has as much. */
static bool own_is_newer(const struct recover_copy *c)
{
    uint64_t index, lost[BLOCKS_PER_OBJECT / 64];

    return c->index && store_object_lost(c->pg->sp, c->image, c->object, &index, lost) && index > c->index;
}

static void copy_step(struct op *op)
{
    struct recover_copy *c = container_of(op, struct recover_copy, op);

    if (op->children)
        return;
    switch (op->state) {
    case COPY_LOOK:
        copy_look(c);
        return;
    case COPY_ASK:
        copy_ask(c);
        return;
    case COPY_ANSWER:
        copy_answer(c);
        return;
    case COPY_OWN:
        copy_own(c);
        return;
    case COPY_WRITE:
        copy_written(c);
        return;
    case COPY_END:
        if (!c->error)
            c->error = op->child_result;
        op->child_result = 0;
        /* What stays of the old object was changed by destage meanwhile; or that is newer than the copy. */
        if (c->error == -ERR_CONFLICT && c->recovers && c->tries < COPY_TRIES_MAX) {
            c->tries++;
            c->error = 0;
            c->restart = true;
        } else if (c->error == -ERR_CONFLICT && c->recovers && own_is_newer(c)) {
            c->error = 0;
        }
        if (c->restart && !c->error && !op->cancelled) {
            c->restart = false;
            c->index = 0;
            c->first_block = c->damaged_count = 0;
            op->state = COPY_LOOK;
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
