/* SPDX-License-Identifier: Apache-2.0
 *
 * The giving side of recovery and repair: lists of objects, and windows of them. Only for members of the
 * group.
 *
 * LIST is for the leader alone: what it has applied is the state that the asker will have. READ is answered
 * by every replica; the asker knows by applied_index, which is 0 where objects are of no common index, and by
 * checksums whether it is of use.
 *
 *      START ---> (TURN) ---> READ ---> answered
 *                   ^          |
 *                   '------- REPAIR: damaged blocks, first. The leader's only: it may be that no client ever
 *                                    reads them
 *
 * Blocks that stay damaged are marked in the answer, for a recovery must not wait for what nobody has. Of
 * what the asker has with the same checksum only a hash of the contents is sent.
 *
 * A recovery takes its turns. While the shard works for clients there is one window at a time, and after each
 * a pause that is a multiple of what it took: so recoveries have a bounded share, whatever the device and the
 * members that ask can do. Without clients they are only bounded in number. What a member asks for without
 * whose word its group can commit nothing comes first and without pauses, a few at once, for the clients of
 * that group wait for nothing else.
 */
#include "osd/recover_copy.h"
#include "osd/repair.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"

#define LIST_OBJECTS_MAX 1024
#define LIST_RECORDS_MAX 1024

struct pg *pg_asked(struct peer *peer, struct osd_shard *shard, uint64_t id, uint32_t from, uint32_t to,
                    int *ret_error)
{
    struct pg *pg = shard->serving ? pg_find(shard, id) : NULL;
    struct pg_member *member = pg ? pg_member_find(pg, from) : NULL;

    *ret_error = 0;
    if (!pg)
        *ret_error = -ERR_NO_PG;
    else if (!member || !peer || member->peer != peer || pg->replica != to)
        *ret_error = -ERR_DENIED;
    else if (shard->failed)
        *ret_error = -ERR_STOPPED;
    if (*ret_error)
        return NULL;
    pg_unpark(pg);
    return pg;
}

/* ---- LIST ---- */

struct list_rows {
    Fb__RecoverListReply reply;
    uint32_t group[GROUP_WORDS_MAX];
    Fb__ImageRecord images[LIST_RECORDS_MAX], *image_pointers[LIST_RECORDS_MAX];
    Fb__RecoverObject objects[LIST_OBJECTS_MAX], *object_pointers[LIST_OBJECTS_MAX];
};

/* The group at S. What is on record is committed, and after a restart may be newer than the state: then it is
 * the one to begin with, here (pg_raft_init()) as there, and the log after S sets it once more. */
static void list_group(const struct store_pg *sp, struct list_rows *rows)
{
    const struct group *group = &sp->record.group;
    struct entry entry;

    group_to_entry(group, rows->group, &entry);
    rows->reply.group_index = MIN(group->index, sp->applied_index);
    rows->reply.group_epoch = group->epoch;
    rows->reply.group = rows->group;
    rows->reply.n_group = entry.block_count;
}

static void list_records(const struct store_pg *sp, const Fb__RecoverListRequest *in, struct list_rows *rows)
{
    const struct image_record *r;

    rows->reply.image = rows->image_pointers;
    for (r = store_image_next(sp, in->after_record); r; r = store_image_next(sp, r->image)) {
        if (rows->reply.n_image == PLANT_LIMIT(LIST_RECORDS_MAX, 2u)) {
            rows->reply.more = true;
            break;
        }
        Fb__ImageRecord *to = &rows->images[rows->reply.n_image];
        *to = (Fb__ImageRecord)FB__IMAGE_RECORD__INIT;
        to->image = r->image;
        to->incarnation = r->incarnation;
        to->generation = r->generation;
        to->size_bytes = r->size_bytes;
        to->deleted = r->deleted;
        to->index = r->index;
        rows->image_pointers[rows->reply.n_image++] = to;
    }
}

static void list_objects(const struct store_pg *sp, const Fb__RecoverListRequest *in, struct list_rows *rows)
{
    uint32_t limit = MIN(in->limit, LIST_OBJECTS_MAX);
    uint64_t image = in->after_image, object = in->after_object;
    bool start = !in->has_cursor;
    struct store_object_info info;

    rows->reply.object = rows->object_pointers;
    while (store_object_next(sp, start, image, object, &info)) {
        if (rows->reply.n_object == limit) {
            rows->reply.more = true;
            break;
        }
        Fb__RecoverObject *to = &rows->objects[rows->reply.n_object];
        *to = (Fb__RecoverObject)FB__RECOVER_OBJECT__INIT;
        to->image = image = info.image;
        to->object = object = info.object;
        to->index = info.index;
        rows->object_pointers[rows->reply.n_object++] = to;
        start = false;
    }
}

void recover_list_receive(struct peer *peer, struct osd_shard *shard, const struct rpc_ticket *ticket,
                          const struct rpc_message *message)
{
    uint64_t memory[64];
    struct wire_arena arena;
    Fb__RecoverListRequest *in;
    struct list_rows *rows = calloc(1, sizeof(*rows));
    uint8_t *frame = malloc(FRAME_HEADER_SIZE + FRAME_BODY_MAX);
    struct pg *pg = NULL;
    uint32_t len = 0;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error = wire_cold_decode(&fb__recover_list_request__descriptor, message->body, message->body_len,
                                 &arena, &in);
    if (!error && (!rows || !frame))
        error = -ERR_NO_MEMORY;
    if (!error)
        pg = pg_asked(peer, shard, in->pg, in->from, in->to, &error);
    /* What it has applied is committed, also before it has committed anything in its own term: it may be able
     * to do that only with the asker. The asker sees by applied_term which it is. */
    if (!error && (pg->raft.role != RAFT_LEADER || pg->raft.term != in->term || recover_holds_log(pg)))
        error = -ERR_NOT_LEADER;
    if (!error) {
        rows->reply = (Fb__RecoverListReply)FB__RECOVER_LIST_REPLY__INIT;
        rows->reply.applied_index = pg->sp->applied_index;
        rows->reply.applied_term = raft_term_at(&pg->raft, pg->sp->applied_index);
        rows->reply.term = pg->raft.term;
        list_group(pg->sp, rows);
        /* What it acknowledged so far counts no more, and the target is taken in the same moment. */
        rows->reply.commit_index = raft_member_forgotten(&pg->raft, in->from, core_now_ns(shard->core));
        pg_member_find(pg, in->from)->complete = 0;
        rows->reply.floor_epoch = pg->sp->floor_epoch;
        rows->reply.object_count = pg->sp->object_count;
        rows->reply.split_count = pg->sp->record.split_count;
        rows->reply.log_committed = raft_is_committed(&pg->raft, in->log_index, in->log_term);
        if (in->records)
            list_records(pg->sp, in, rows);
        else
            list_objects(pg->sp, in, rows);
        error = wire_cold_encode(&rows->reply.base, rpc_body(frame), FRAME_BODY_MAX, &len);
    }
    rpc_reply(ticket, error, error ? NULL : rpc_body(frame), error ? 0 : len, NULL, 0);
    wire_arena_fini(&arena);
    free(rows);
    free(frame);
}

/* ---- READ ---- */

struct serve {
    struct op op;
    struct osd_shard *shard;
    uint64_t pg;
    struct rpc_ticket ticket;
    struct store_read read;
    uint64_t applied_index; /* when it began */
    bool recovery;
    bool needed;       /* its group commits nothing before the asker has recovered */
    struct list link;  /* in shard->turns.waiting */
    bool turn;         /* it is ours */
    uint64_t taken_ns; /* began to wait; later: began to read */
    struct recover_have have;
    bool has_key;  /* it is not empty */
    bool repaired; /* as far as it could be */
    bool answered; /* the repair takes too long */
    uint32_t sent_bytes;
    struct timer timer;
    uint64_t same[RECOVER_WINDOW / 64];
    uint32_t same_count;
    struct content_hash hash[RECOVER_WINDOW]; /* of these, in order */
    uint32_t crc[RECOVER_WINDOW];
    struct slice pieces[FRAME_PIECES_MAX];
    uint8_t frame[FRAME_HEADER_SIZE + RECOVER_READ_BODY];
};
enum { SERVE_START, SERVE_TURN, SERVE_READ, SERVE_REPAIR };
#define SERVE_REPAIR_NS NS_PER_S          /* the asker is told to come again */
#define SERVE_WAIT_NS   (450 * NS_PER_MS) /* for a turn, also for the second after a repair; then as well */
_Static_assert(SERVE_REPAIR_NS + 2 * SERVE_WAIT_NS < RECOVER_CALL_NS,
               "a call that times out closes its link");

#define TURNS_MAX         PLANT_SCARCE(32u, 2u) /* at once, without clients */
#define TURNS_NEEDED      PLANT_SCARCE(4u, 1u) /* beside clients, of those without which nothing is committed */
#define TURNS_WAITING_MAX PLANT_SCARCE(256u, 2u) /* more are told to come again at once */
#define TURN_PAUSE        4                      /* times what it took, while there are clients */
#define TURN_PAUSE_MAX_NS (500 * NS_PER_MS)
#define TURN_BYTE_NS      1                 /* at least so long for each byte */
#define TURN_CLIENT_NS    (100 * NS_PER_MS) /* so long after its last request there are clients */

static const char *serve_state_name(int state)
{
    static const char *const names[] = {"start", "turn", "read", "repair"};
    return names[state];
}
static void serve_step(struct op *op);
static const struct op_kind serve_kind = {"osd.recover-serve", serve_state_name, serve_step};

/* ---- turns ---- */

static bool turn_pauses(const struct osd_shard *shard, uint64_t now_ns)
{
    return now_ns - shard->client_ns < TURN_CLIENT_NS;
}

static bool turn_free(const struct serve *s, uint64_t now_ns)
{
    const struct osd_shard *shard = s->shard;
    const struct recover_turns *turns = &shard->turns;

    if (!turn_pauses(shard, now_ns))
        return turns->active < TURNS_MAX;
    return s->needed ? turns->active < TURNS_NEEDED : !turns->active && now_ns >= turns->next_ns;
}

static void turn_wake_next(struct recover_turns *turns)
{
    if (!list_empty(&turns->waiting))
        op_wake(&list_entry(turns->waiting.next, struct serve, link)->op);
}

/* When it may become free without that anyone ends. */
static uint64_t turn_free_ns(const struct osd_shard *shard, uint64_t now_ns)
{
    const struct recover_turns *turns = &shard->turns;
    uint64_t alone_ns = shard->client_ns + TURN_CLIENT_NS;

    if (!turn_pauses(shard, now_ns))
        return UINT64_MAX;
    return turns->active ? alone_ns : MIN(turns->next_ns, alone_ns);
}

static void turn_wait(struct serve *s)
{
    s->op.state = SERVE_TURN;
    s->taken_ns = core_now_ns(s->op.core);
    struct recover_turns *turns = &s->shard->turns;
    struct list *at = turns->waiting.next;

    while (at != &turns->waiting && (!s->needed || list_entry(at, struct serve, link)->needed))
        at = at->next;
    list_insert_before(at, &s->link);
    turns->waiting_count++;
}

/* True: it is ours. */
static bool turn_take(struct serve *s, uint64_t now_ns)
{
    struct recover_turns *turns = &s->shard->turns;

    if (turns->waiting.next != &s->link || !turn_free(s, now_ns))
        return false;
    list_remove(&s->link);
    turns->waiting_count--;
    turns->active++;
    s->turn = true;
    s->taken_ns = now_ns;
    turn_wake_next(turns);
    return true;
}

static void turn_end(struct serve *s)
{
    struct recover_turns *turns = &s->shard->turns;
    uint64_t now_ns = core_now_ns(s->op.core);

    if (list_linked(&s->link)) {
        list_remove(&s->link);
        turns->waiting_count--;
    } else if (s->turn) {
        s->turn = false;
        turns->active--;
        turns->next_ns = now_ns + MIN(TURN_PAUSE * MAX(now_ns - s->taken_ns, s->sent_bytes * TURN_BYTE_NS),
                                      TURN_PAUSE_MAX_NS);
    }
    turn_wake_next(turns);
}

static void serve_end(struct serve *s)
{
    struct osd_shard *shard = s->shard;

    turn_end(s);
    timer_cancel(s->op.core, &s->timer);

    slice_unref(&s->read.ret_data);
    shard->side_ops--;
    op_done(&s->op, 0);
    free(s);
    if (shard->stopping)
        shard_op_ended(shard);
}

static bool has_bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

/* Does the block go into the answer? */
static bool is_sent(const struct serve *s, uint32_t block)
{
    return has_bit(s->read.ret_written, block) && !has_bit(s->same, block);
}

/* What the asker may have: by the checksum; the hash will tell. */
static void serve_compare(struct serve *s)
{
    const struct store_read *read = &s->read;
    struct content_hasher *hasher = content_hasher_new(&s->have.key);

    for (uint32_t i = 0; hasher && i < read->block_count; i++) {
        if (!has_bit(s->have.bits, i) || !has_bit(read->ret_written, i) || has_bit(read->ret_damaged, i) ||
            s->have.crc[i] != read->ret_crc[i])
            continue;
        s->same[i / 64] |= 1ull << i % 64;
        content_hash(hasher, slice_data(&read->ret_data) + (size_t)i * BLOCK_SIZE, BLOCK_SIZE,
                     &s->hash[s->same_count++]);
    }
    content_hasher_free(hasher);
}

/* The blocks one after the other: as pieces if they are few, else in a new buffer. */
static int serve_gather(struct serve *s, struct slice *ret_packed, uint32_t *ret_pieces, uint32_t *ret_blocks)
{
    struct store_read *read = &s->read;
    uint32_t pieces = 0, blocks = 0;
    bool fits = true;

    for (uint32_t i = 0; i < read->block_count; i++) {
        if (!is_sent(s, i))
            continue;
        s->crc[blocks++] = read->ret_crc[i];
        if (!fits)
            continue;
        if (pieces && i && is_sent(s, i - 1)) {
            s->pieces[pieces - 1].len += BLOCK_SIZE;
        } else if (pieces == FRAME_PIECES_MAX) {
            fits = false;
        } else {
            s->pieces[pieces++] =
                (struct slice){read->ret_data.buf, read->ret_data.offset + i * BLOCK_SIZE, BLOCK_SIZE};
        }
    }
    *ret_blocks = blocks;
    *ret_pieces = pieces;
    if (fits)
        return 0;
    struct buf *buf = buf_new(s->shard->core->arena, blocks * BLOCK_SIZE);
    if (!buf)
        return -ERR_RETRY;
    for (uint32_t i = 0, at = 0; i < read->block_count; i++)
        if (is_sent(s, i))
            memcpy(buf->data + (size_t)at++ * BLOCK_SIZE,
                   slice_data(&read->ret_data) + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
    *ret_packed = (struct slice){buf, 0, blocks * BLOCK_SIZE};
    s->pieces[0] = *ret_packed;
    *ret_pieces = 1;
    return 0;
}

/* What objects show, if they are of one index. */
static uint64_t applied_index(const struct store_pg *sp)
{
    return sp->record.state != STORE_PG_NORMAL || sp->damaged ? 0 : sp->applied_index;
}

static void serve_answer(struct serve *s)
{
    struct store_read *read = &s->read;
    struct pg *pg = pg_find(s->shard, s->pg);
    Fb__RecoverReadReply reply = FB__RECOVER_READ_REPLY__INIT;
    struct slice packed = {0};
    uint32_t pieces = 0, blocks = 0, len = 0;
    int error = pg ? s->op.child_result : -ERR_NO_PG;
    bool damaged = error == -ERR_DAMAGED;

    if (damaged)
        error = 0;
    if (!error && s->has_key)
        serve_compare(s);
    if (!error)
        error = serve_gather(s, &packed, &pieces, &blocks);
    if (!error) {
        reply.index = read->ret_index;
        /* What was applied while it was read need not be in what was read. */
        reply.applied_index = MIN(s->applied_index, applied_index(pg->sp));
        reply.absent = read->ret_index == 0;
        reply.written = (ProtobufCBinaryData){RECOVER_WINDOW / 8, (uint8_t *)read->ret_written};
        if (s->same_count) {
            reply.same = (ProtobufCBinaryData){RECOVER_WINDOW / 8, (uint8_t *)s->same};
            reply.hash = (ProtobufCBinaryData){s->same_count * CONTENT_HASH_BYTES, s->hash[0].bytes};
        }
        if (damaged)
            reply.damaged = (ProtobufCBinaryData){RECOVER_WINDOW / 8, (uint8_t *)read->ret_damaged};
        /* What they were in the state that the answer shows; the object may have changed since. */
        reply.lost_index = MIN(read->ret_lost_index, read->ret_index);
        reply.crc = s->crc;
        reply.n_crc = blocks;
        error = wire_cold_encode(&reply.base, rpc_body(s->frame), RECOVER_READ_BODY, &len);
    }
    if (!error && s->recovery)
        s->shard->perf.recover_sent += blocks;
    s->sent_bytes = error ? 0 : blocks * BLOCK_SIZE;
    rpc_reply(&s->ticket, error, error ? NULL : rpc_body(s->frame), error ? 0 : len, s->pieces,
              error ? 0 : pieces);
    slice_unref(&packed);
}

static void serve_read(struct serve *s, struct pg *pg)
{
    s->op.state = SERVE_READ;
    s->applied_index = applied_index(pg->sp);
    store_read_written_start(&s->read, pg->sp, s->read.image, s->read.object, s->read.first_block,
                             s->read.block_count, false, &s->op);
}

/* Is there damage that the log will not mend by itself? Only that is left in ret_damaged, for the repair;
 * afterwards all is read again. */
static bool serve_is_damaged(struct serve *s, const struct pg *pg)
{
    uint64_t coming[IO_BLOCKS_MAX / 64], rest = 0;

    store_blocks_coming(pg->sp, s->read.image, s->read.object, s->read.first_block, s->read.block_count,
                        coming);
    for (uint32_t i = 0; i < ARRAY_LEN(coming); i++)
        rest |= s->read.ret_damaged[i] & ~coming[i];
    for (uint32_t i = 0; rest && i < ARRAY_LEN(coming); i++)
        s->read.ret_damaged[i] &= ~coming[i];
    return rest;
}

static bool serve_repair(struct serve *s, struct pg *pg)
{
    if (s->repaired || s->op.child_result != -ERR_DAMAGED || !pg || pg->stopping ||
        pg->raft.role != RAFT_LEADER || !serve_is_damaged(s, pg))
        return false;
    s->repaired = true;
    s->op.child_result = 0;
    slice_unref(&s->read.ret_data);
    s->op.state = SERVE_REPAIR;
    turn_end(s); /* it may take long, and is no load */
    timer_arm(s->op.core, &s->timer, &s->op, core_now_ns(s->op.core) + SERVE_REPAIR_NS);
    repair_start(pg, &s->read, &s->op);
    return true;
}

static void serve_refuse(struct serve *s, int error)
{
    rpc_reply(&s->ticket, error, NULL, 0, NULL, 0);
    serve_end(s);
}

static void serve_turn(struct serve *s, struct pg *pg)
{
    uint64_t now_ns = core_now_ns(s->op.core);

    if (!pg) {
        serve_refuse(s, -ERR_NO_PG);
    } else if (turn_take(s, now_ns)) {
        timer_cancel(s->op.core, &s->timer);
        serve_read(s, pg);
    } else if (now_ns - s->taken_ns >= SERVE_WAIT_NS) {
        serve_refuse(s, -ERR_BUSY);
    } else {
        /* The first in the row wakes itself when the pause is over, or the clients are gone; those behind it,
         * and it, too, if it waits for one that is served, are woken. */
        bool first = s->shard->turns.waiting.next == &s->link;
        timer_arm(s->op.core, &s->timer, &s->op,
                  MIN(first ? turn_free_ns(s->shard, now_ns) : UINT64_MAX, s->taken_ns + SERVE_WAIT_NS));
    }
}

static void serve_step(struct op *op)
{
    struct serve *s = container_of(op, struct serve, op);
    struct pg *pg = pg_find(s->shard, s->pg);

    switch (op->state) {
    case SERVE_START:
        if (!pg) {
            serve_refuse(s, -ERR_NO_PG);
        } else if (!s->recovery) {
            serve_read(s, pg);
        } else if (s->shard->turns.waiting_count == TURNS_WAITING_MAX) {
            serve_refuse(s, -ERR_BUSY);
        } else {
            turn_wait(s);
            serve_turn(s, pg);
        }
        return;
    case SERVE_TURN:
        serve_turn(s, pg);
        return;
    case SERVE_READ:
        if (op->children || serve_repair(s, pg))
            return;
        serve_answer(s);
        serve_end(s);
        return;
    case SERVE_REPAIR:
        if (!s->answered && (s->timer.fired || (!op->children && !pg))) {
            rpc_reply(&s->ticket, pg ? -ERR_RETRY : -ERR_NO_PG, NULL, 0, NULL, 0);
            s->answered = true;
        }
        if (op->children)
            return;
        timer_cancel(op->core, &s->timer);
        s->shard->perf.unrepaired_reads += op->child_result == -ERR_DAMAGED;
        op->child_result = 0;
        if (s->answered) {
            serve_end(s);
        } else if (!s->recovery) {
            serve_read(s, pg);
        } else {
            turn_wait(s);
            serve_turn(s, pg);
        }
        return;
    }
}

/* Is the asker a voter, and are those that are whole, and in contact, no majority without it? */
static bool is_needed(const struct pg *pg, uint32_t asker, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    uint32_t voters = 0, whole = 0;
    bool votes = false;

    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];
        if (!(m->flags & GROUP_VOTER))
            continue;
        voters++;
        votes |= m->replica == asker;
        whole += m->replica == r->self || (m->replica != asker && !m->recovering &&
                                           m->progress != RAFT_BEHIND && raft_in_contact(r, m, now_ns));
    }
    return r->role == RAFT_LEADER && votes && 2 * whole <= voters;
}

/* What the asker has, by block. False: the message does not fit itself. */
static bool take_have(struct serve *s, const Fb__RecoverReadRequest *in)
{
    size_t at = 0;

    if (in->have.len > sizeof(s->have.bits) || in->key.len != (in->have.len ? CONTENT_KEY_BYTES : 0))
        return false;
    if (in->have.len) {
        memcpy(s->have.bits, in->have.data, in->have.len);
        memcpy(s->have.key.bytes, in->key.data, CONTENT_KEY_BYTES);
        s->has_key = true;
    }
    for (uint32_t i = 0; i < RECOVER_WINDOW; i++) {
        if (!has_bit(s->have.bits, i))
            continue;
        if (i >= in->block_count || at == in->n_have_crc)
            return false;
        s->have.crc[i] = in->have_crc[at++];
    }
    return at == in->n_have_crc;
}

void recover_read_receive(struct peer *peer, struct osd_shard *shard, const struct rpc_ticket *ticket,
                          const struct rpc_message *message)
{
    uint64_t memory[512];
    struct wire_arena arena;
    Fb__RecoverReadRequest *in;
    struct serve *s = calloc(1, sizeof(*s));

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error = wire_cold_decode(&fb__recover_read_request__descriptor, message->body, message->body_len,
                                 &arena, &in);
    if (!error && !s)
        error = -ERR_NO_MEMORY;
    if (!error &&
        (!in->block_count || in->block_count > RECOVER_WINDOW || in->first_block >= BLOCKS_PER_OBJECT ||
         in->first_block + in->block_count > BLOCKS_PER_OBJECT || !take_have(s, in)))
        error = -ERR_INVALID;
    const struct pg *pg = error ? NULL : pg_asked(peer, shard, in->pg, in->from, in->to, &error);
    if (error) {
        rpc_reply(ticket, error, NULL, 0, NULL, 0);
        free(s);
    } else {
        s->shard = shard;
        s->pg = in->pg;
        s->ticket = *ticket;
        s->recovery = in->recovery;
        s->needed = in->recovery && is_needed(pg, in->from, core_now_ns(shard->core));
        s->read.image = in->image;
        s->read.object = in->object;
        s->read.first_block = in->first_block;
        s->read.block_count = in->block_count;
        list_init(&s->link);
        shard->side_ops++;
        op_start(&s->op, shard->core, &serve_kind, NULL);
    }
    wire_arena_fini(&arena);
}
