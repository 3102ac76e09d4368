/* SPDX-License-Identifier: Apache-2.0
 *
 *      MEMBER --> ASK ----> BLOCKS ---> MEMBER (the next one, while something is still damaged)
 *         |  '--> COPY (blocks whose checksum is not known) --> MEMBER
 *         '-- none left --> PAUSE --> MEMBER, some rounds: followers may be behind, or out of reach for a
 * moment
 *         |   then the next way: a whole copy of the object; one that lacks less than ours; single blocks
 *         '-- nothing damaged any more, or the last round, or everyone who could help has not got it --> done
 */
#include "osd/repair.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/plant.h"
#include "osd/recover_copy.h"
#include "osd/scrub.h"

enum { REPAIR_MEMBER, REPAIR_ASK, REPAIR_BLOCKS, REPAIR_COPY, REPAIR_PAUSE };
#define REPAIR_ROUNDS_MAX 5 /* a follower learns what is committed with the next heartbeat */
#define REPAIR_PAUSE_NS   (2 * SHARD_HEARTBEAT_NS)

struct repair {
    struct op op;
    struct list link; /* in pg->repairs */
    struct pg *pg;
    struct store_read *read; /* of whoever asked */
    uint64_t image, object;
    uint32_t first_block, block_count;
    uint64_t damaged[IO_BLOCKS_MAX / 64];
    uint64_t committed;  /* what a source of whole objects must have applied */
    uint64_t lost_index; /* what a source of single blocks must have of the object */
    uint32_t member;     /* the next one to ask */
    uint32_t rounds;
    enum { WITH_WHOLE, WITH_LESS, WITH_BLOCKS } with;
    bool hopeless; /* some of it */
    bool later;    /* somebody had no memory, no room, or too much to do, to help: that passes */
    bool in_vain;  /* whole copies were tried shortly before: neither they nor a log line need be repeated */
    bool doubt;    /* in this round somebody could not be asked, or may know better in a moment */
    struct timer timer;
    uint32_t source;
    uint32_t block; /* of the window: being repaired */
    struct rpc_call call;
    struct recover_window window;
    struct store_repair repair;
    struct recover_copy copy;
    uint8_t frame[FRAME_HEADER_SIZE + RECOVER_READ_BODY];
    uint8_t reply[RECOVER_READ_BODY];
};

static const char *repair_state_name(int state)
{
    static const char *const names[] = {"member", "ask", "blocks", "copy", "pause"};
    return names[state];
}
static void repair_step(struct op *op);
static const struct op_kind repair_kind = {"osd.repair", repair_state_name, repair_step};

static bool all_repaired(const struct repair *r);
static bool damaged_are_lost(struct repair *r, bool drop);

static void failed_step(struct op *op)
{
    op_done(op, -ERR_NO_MEMORY);
    free(op);
}
static const struct op_kind failed_kind = {"osd.repair", NULL, failed_step};

void repair_start(struct pg *pg, struct store_read *read, struct op *parent)
{
    struct repair *r = calloc(1, sizeof(*r));

    if (!r) {
        struct op *op = calloc(1, sizeof(*op));
        ASSERT(op); /* a cold path; nothing works any more without so little */
        op_start(op, pg->shard->core, &failed_kind, parent);
        return;
    }
    r->pg = pg;
    r->read = read;
    r->image = read->image;
    r->object = read->object;
    r->first_block = read->first_block;
    r->block_count = read->block_count;
    memcpy(r->damaged, read->ret_damaged, sizeof(r->damaged));
    ASSERT(!all_repaired(r));
    r->committed = pg->raft.commit_index;
    r->lost_index = read->ret_lost_index;
    r->in_vain = damage_is_vain(pg, r->image, r->object, core_now_ns(pg->shard->core));
    r->with = damaged_are_lost(r, false) && !r->in_vain ? WITH_WHOLE : WITH_BLOCKS;
    list_init(&r->link);
    list_push_back(&pg->repairs, &r->link);
    op_start(&r->op, pg->shard->core, &repair_kind, parent);
}

static void repair_end(struct repair *r, int error)
{
    struct pg *pg = r->pg;

    if (!error || (!r->in_vain && error != -ERR_RETRY))
        core_log(pg->shard->core, error ? LOG_ERROR : LOG_WARN, "osd",
                 PG_FMT ": image %" PRIu64 " object %" PRIu64 " was damaged: %s", PG_ARGS(pg->id), r->image,
                 r->object, error ? error_text(error) : "restored from another replica");
    slice_unref(&r->call.reply_payload);
    list_remove(&r->link);
    op_done(&r->op, error);
    free(r);
    pg_wake(pg);
}

/* Some of it is damaged still. It is not said to be lost as long as somebody may have it. */
static void repair_give_up(struct repair *r)
{
    repair_end(r, r->later ? -ERR_RETRY : -ERR_DAMAGED);
}

static void repair_failed(struct repair *r, int error)
{
    r->later |=
        error == -ERR_RETRY || error == -ERR_NO_MEMORY || error == -ERR_BUSY || error == -ERR_NO_SPACE;
}

static bool all_repaired(const struct repair *r)
{
    for (size_t i = 0; i < ARRAY_LEN(r->damaged); i++)
        if (r->damaged[i])
            return false;
    return true;
}

static bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

/* Blocks of which we know no checksum, because the page is unreadable, or lacked them where it came from. */
static uint32_t blocks_lost(const struct repair *r, uint64_t *ret_lost)
{
    uint64_t index;
    uint32_t count = 0;

    store_object_lost(r->pg->sp, r->image, r->object, &index, ret_lost);
    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++)
        count += (uint32_t)__builtin_popcountll(ret_lost[i]);
    return count;
}

/* For these the object must be copied. `drop`: they are given up. */
static bool damaged_are_lost(struct repair *r, bool drop)
{
    uint64_t lost[BLOCKS_PER_OBJECT / 64];
    bool any = false;

    blocks_lost(r, lost);
    for (uint32_t i = 0; i < r->block_count; i++) {
        if (!bit(r->damaged, i) || !bit(lost, r->first_block + i))
            continue;
        any = true;
        if (drop)
            r->damaged[i / 64] &= ~(1ull << i % 64);
    }
    return any;
}

/* Everyone has been asked, as often as there was reason to. */
static void repair_next_way(struct repair *r)
{
    if (r->with == WITH_BLOCKS) {
        repair_give_up(r);
        return;
    }
    if (r->with == WITH_LESS && !r->doubt)
        damage_note_vain(r->pg, r->image, r->object);
    r->rounds = 0;
    r->doubt = false;
    r->with++;
    r->op.state = REPAIR_MEMBER;
    op_wake(&r->op);
}

/* Single blocks help only where the checksum is known. True: there are none, it has ended. */
static bool repair_ends_with_lost(struct repair *r)
{
    r->hopeless |= damaged_are_lost(r, true);
    if (!all_repaired(r))
        return false;
    repair_give_up(r);
    return true;
}

static void repair_member(struct repair *r)
{
    struct pg *pg = r->pg;

    if (pg->stopping || pg->shard->failed || r->op.cancelled) {
        repair_end(r, -ERR_DAMAGED);
        return;
    }
    if (r->with == WITH_BLOCKS && repair_ends_with_lost(r))
        return;
    while (r->member < pg->member_count) {
        struct pg_member *member = &pg->members[r->member++];

        if (member->replica == pg->replica)
            continue;
        if (!member->peer || !member->peer->rpc || !rpc_peer_is_open(member->peer->rpc)) {
            r->doubt = true;
            continue;
        }
        r->source = member->replica;
        if (r->with != WITH_BLOCKS) {
            uint64_t lost[BLOCKS_PER_OBJECT / 64];
            uint32_t count = blocks_lost(r, lost);
            r->op.state = REPAIR_COPY;
            r->copy.damaged_max = r->with == WITH_LESS && count ? count - 1 : 0;
            recover_copy_start(&r->copy, pg, r->source, r->image, r->object, r->committed, &r->op);
            return;
        }
        r->call.reply = r->reply;
        r->call.reply_cap = sizeof(r->reply);
        int error = recover_read_send(pg, r->source, r->image, r->object, r->first_block, r->block_count,
                                      NULL, false, r->frame, &r->call, &r->op);
        if (error) {
            repair_failed(r, error);
            r->doubt = true;
            continue;
        }
        r->op.state = REPAIR_ASK;
        return;
    }
    r->member = 0;
    if (!r->doubt || ++r->rounds == REPAIR_ROUNDS_MAX) {
        repair_next_way(r);
        return;
    }
    r->doubt = false;
    r->op.state = REPAIR_PAUSE;
    timer_arm(r->op.core, &r->timer, &r->op, core_now_ns(r->op.core) + REPAIR_PAUSE_NS);
}

static void next_member(struct repair *r)
{
    slice_unref(&r->call.reply_payload);
    r->op.state = REPAIR_MEMBER;
    op_wake(&r->op);
}

/* The next damaged block that the answer has is written anew. The store refuses what has not the checksum
 * that it expects, or is of an older state than its page. */
static void repair_blocks(struct repair *r)
{
    struct pg *pg = r->pg;
    uint32_t at = 0;

    for (uint32_t i = 0; i < r->block_count; i++) {
        bool there = bit(r->window.written, i);
        if (i >= r->block && bit(r->damaged, i) && there && !bit(r->window.damaged, i) && !pg->stopping) {
            struct slice data = {r->call.reply_payload.buf, r->call.reply_payload.offset + at * BLOCK_SIZE,
                                 BLOCK_SIZE};
            r->block = i;
            r->op.state = REPAIR_BLOCKS;
            store_repair_start(&r->repair, pg->sp, r->image, r->object, r->first_block + i, r->window.index,
                               &data, &r->op);
            return;
        }
        at += there;
    }
    if (!all_repaired(r))
        next_member(r);
    else if (r->hopeless)
        repair_give_up(r);
    else
        repair_end(r, 0);
}

/* Not waiting for the medium to give it back. The checksum tells whether it is what was read for: the block
 * may be another one by now. */
static bool repair_hand_over(struct repair *r)
{
    struct store_read *read = r->read;
    const uint8_t *data = slice_data(&r->repair.data);

    if (!read->ret_data.buf || crc32c(0, data, BLOCK_SIZE) != read->ret_crc[r->block])
        return false;
    memcpy((uint8_t *)slice_data(&read->ret_data) + (size_t)r->block * BLOCK_SIZE, data, BLOCK_SIZE);
    read->ret_damaged[r->block / 64] &= ~(1ull << r->block % 64);
    return true;
}

static void repair_block_end(struct repair *r)
{
    int error = r->repair.op.result;
    bool done = !error || error == -ERR_CONFLICT || error == -ERR_RETRY;

    r->op.child_result = 0;
    /* A conflict: it has been overwritten meanwhile, and is not damaged any more. To be tried again: it lies
     * in the log still, and is written anew once it is destaged; a reader who has it need not wait for that.
     */
    if (done && !repair_hand_over(r) && error == -ERR_RETRY) {
        r->doubt = true;
        done = false;
    }
    if (done) {
        r->pg->shard->perf.repaired_blocks += !error;
        r->damaged[r->block / 64] &= ~(1ull << r->block % 64);
    } else {
        repair_failed(r, error);
    }
    r->block++;
    repair_blocks(r);
}

void repair_wake_all(struct pg *pg)
{
    list_for_each (&pg->repairs, node)
        op_wake(&list_entry(node, struct repair, link)->op);
}

static void repair_step(struct op *op)
{
    struct repair *r = container_of(op, struct repair, op);
    int error;

    if (op->children)
        return;
    switch (op->state) {
    case REPAIR_PAUSE:
        if (timer_armed(&r->timer) && !r->pg->stopping)
            return;
        timer_cancel(op->core, &r->timer);
        op->state = REPAIR_MEMBER;
        repair_member(r);
        return;
    case REPAIR_MEMBER:
        repair_member(r);
        return;
    case REPAIR_ASK:
        if (r->call.pending)
            return;
        error =
            r->call.result ? r->call.result : recover_read_decode(&r->call, r->block_count, NULL, &r->window);
        repair_failed(r, error);
        /* One that has applied all that we know of has no other version to come. */
        r->doubt |= error || r->window.applied_index < r->committed;
        if (error || (r->window.index < r->lost_index && !PLANT(OSD_REPAIR_OLD))) {
            next_member(r);
            return;
        }
        r->block = 0;
        repair_blocks(r);
        return;
    case REPAIR_BLOCKS:
        repair_block_end(r);
        return;
    case REPAIR_COPY:
        error = op->child_result;
        op->child_result = 0;
        if (error || r->copy.ret_absent) {
            repair_failed(r, error);
            r->doubt |= error != -ERR_DAMAGED;
            next_member(r);
            return;
        }
        repair_end(r, 0);
        return;
    }
}
