/* SPDX-License-Identifier: Apache-2.0
 *
 * The client of the osd tests: one request each, with as much patience and as much wrongness as the test
 * wants.
 */
#include <string.h>

#include "base/crc32c.h"
#include "tests/osd/world.h"

enum { IO_SEND, IO_WAIT, IO_PAUSE };
#define IO_PATIENCE_NS (20 * NS_PER_S)
#define IO_CALL_NS     (2 * NS_PER_S)
#define IO_PAUSE_NS    (20 * NS_PER_MS)

static void io_step(struct op *op);
static const struct op_kind io_kind = {"test.io", NULL, io_step};

struct io io_make(struct world *w, enum io_type type, uint64_t object, uint32_t offset, uint32_t length)
{
    return (struct io){.world = w,
                       .type = type,
                       .image = IMAGE,
                       .epoch = w->epoch,
                       .object = object,
                       .generation = 1,
                       .incarnation = 1,
                       .size_bytes = 1ull << 30,
                       .offset = offset,
                       .length = length};
}

void io_begin(struct io *io)
{
    struct world *w = io->world;

    io->pg = io->force_pg ? io->force_pg : world_pg(w, io->object);
    io->done = false;
    sim_node_enter(w->client);
    io->give_up_ns = core_now_ns(&w->client->core) + IO_PATIENCE_NS;
    op_start(&io->op, &w->client->core, &io_kind, NULL);
    sim_node_leave(w->client);
}

int io_run(struct io *io)
{
    io_begin(io);
    WAIT_FOR(io->world, 60000, io->done);
    return io->result;
}

static uint32_t *known_leader(struct io *io)
{
    return &io->world->leader[(uint32_t)io->pg % PGS_MAX];
}

static uint64_t *known_term(struct io *io)
{
    return &io->world->term[(uint32_t)io->pg % PGS_MAX];
}

static int send_write(struct io *io, uint8_t *frame, struct rpc_peer *peer, uint64_t deadline_ns)
{
    uint32_t crc[WIRE_CRC_MAX], count = 0;
    struct wire_write_request request = {
        .pg = io->pg,
        .term = io->force_term ? io->force_term : *known_term(io),
        .image = io->image,
        .object = io->object,
        .generation = io->generation,
        .incarnation = io->incarnation,
        .offset = io->offset,
        .length = io->length,
        .crc = crc,
    };
    struct buf *buf = buf_new(io->op.core->arena, io->length);

    if (!buf)
        return -ERR_BUSY;
    memcpy(buf->data, io->data, io->length);
    for (uint32_t at = io->offset; at < io->offset + io->length;) {
        uint32_t next = MIN(ALIGN_DOWN(at, BLOCK_SIZE) + BLOCK_SIZE, io->offset + io->length);
        crc[count++] = crc32c(0, buf->data + (at - io->offset), next - at) ^ io->bad_crc;
        at = next;
    }
    request.crc_count = count;
    size_t len = wire_write_request_encode(rpc_body(frame), &request);
    struct slice slice = {buf, 0, io->length};
    int error = rpc_call_start(&io->call, peer, &io->op, METHOD_WRITE, rpc_body(frame), (uint32_t)len, &slice,
                               1, deadline_ns);
    buf_unref(buf);
    return error;
}

static int send_cold(struct io *io, uint8_t *frame, struct rpc_peer *peer, enum method method,
                     const ProtobufCMessage *message, uint64_t deadline_ns)
{
    uint32_t len;
    int error = wire_cold_encode(message, rpc_body(frame), 512, &len);

    return error
               ? error
               : rpc_call_start(&io->call, peer, &io->op, method, rpc_body(frame), len, NULL, 0, deadline_ns);
}

static int io_send(struct io *io)
{
    static uint8_t frame[FRAME_HEADER_SIZE + 4096];
    uint64_t deadline_ns = core_now_ns(io->op.core) + IO_CALL_NS;
    uint64_t term = io->force_term ? io->force_term : *known_term(io);

    io->target = io->force_osd ? io->force_osd - 1 : *known_leader(io) % OSDS;
    struct rpc_peer *peer = io->world->peers[io->target];
    io->call.reply = io->reply;
    io->call.reply_cap = sizeof(io->reply);
    if (io->type == IO_WRITE)
        return send_write(io, frame, peer, deadline_ns);
    if (io->type == IO_READ) {
        struct wire_read_request request = {
            .pg = io->pg,
            .term = term,
            .image = io->image,
            .object = io->object,
            .generation = io->generation,
            .first_block = io->offset / BLOCK_SIZE,
            .block_count = io->length / BLOCK_SIZE,
            .epoch = io->epoch,
        };
        size_t len = wire_read_request_encode(rpc_body(frame), &request);
        return rpc_call_start(&io->call, peer, &io->op, METHOD_READ, rpc_body(frame), (uint32_t)len, NULL, 0,
                              deadline_ns);
    }
    if (io->type == IO_CLEAR) {
        Fb__ClearRequest request = FB__CLEAR_REQUEST__INIT;
        request.pg = io->pg;
        request.term = term;
        request.image = io->image;
        request.object = io->object;
        request.generation = io->generation;
        request.incarnation = io->incarnation;
        request.offset = io->offset;
        request.length = io->length;
        request.exact = io->exact;
        return send_cold(io, frame, peer, METHOD_CLEAR, &request.base, deadline_ns);
    }
    if (io->type == IO_STATUS) {
        Fb__BlockStatusRequest status = FB__BLOCK_STATUS_REQUEST__INIT;
        status.pg = io->pg;
        status.term = term;
        status.image = io->image;
        status.object = io->object;
        status.generation = io->generation;
        status.epoch = io->epoch;
        return send_cold(io, frame, peer, METHOD_BLOCK_STATUS, &status.base, deadline_ns);
    }
    Fb__AttachRequest request = FB__ATTACH_REQUEST__INIT;
    request.pg = io->pg;
    request.term = term;
    request.image = io->image;
    request.generation = io->generation;
    request.incarnation = io->incarnation;
    request.size_bytes = io->size_bytes;
    request.epoch = io->epoch;
    request.pg_count = io->world->pg_count;
    return send_cold(io, frame, peer, METHOD_ATTACH, &request.base, deadline_ns);
}

static int read_take(struct io *io)
{
    struct wire_read_reply reply;
    uint32_t crc[WIRE_CRC_MAX];
    int error = wire_read_reply_decode(io->reply, io->call.reply_len, &reply, crc);

    if (error)
        return error;
    if (!io->call.reply_payload.buf) {
        memset(io->ret_data, 0, io->length);
        return 0;
    }
    if (io->call.reply_payload.len != io->length || reply.crc_count != io->length / BLOCK_SIZE)
        return -ERR_PROTOCOL;
    memcpy(io->ret_data, slice_data(&io->call.reply_payload), io->length);
    for (uint32_t i = 0; i < reply.crc_count; i++)
        if (crc32c(0, io->ret_data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE) != crc[i])
            return -ERR_CHECKSUM;
    return 0;
}

static bool is_final(int error)
{
    switch (-error) {
    case 0:
    case ERR_NOT_ATTACHED:
    case ERR_STALE_GENERATION:
    case ERR_FENCED:
    case ERR_RANGE:
    case ERR_WRONG_PG:
    case ERR_CHECKSUM:
    case ERR_PROTOCOL:
    case ERR_INVALID:
    case ERR_NO_SPACE:
    case ERR_NO_RECORDS:
    case ERR_DAMAGED:
        return true;
    default:
        return false;
    }
}

/* The OSD of that replica; UINT32_MAX: not known. */
static uint32_t osd_of(const struct io *io, uint32_t replica)
{
    const struct world_pg *pg = &io->world->pgs[(uint32_t)io->pg % PGS_MAX];
    const Fb__PgMember *m = world_member_find(&pg->member, replica);

    m = m ? m : world_member_find(&pg->wanted, replica);
    return m ? m->osd : UINT32_MAX;
}

/* What an error's body says about the PG. */
static void learn(struct io *io)
{
    uint64_t memory[32];
    struct wire_arena arena;
    Fb__PgReply *reply;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    if (io->call.remote &&
        !wire_cold_decode(&fb__pg_reply__descriptor, io->reply, io->call.reply_len, &arena, &reply)) {
        *known_term(io) = MAX(*known_term(io), reply->term);
        uint32_t osd = osd_of(io, reply->leader);
        *known_leader(io) = osd != UINT32_MAX && osd != io->target ? osd : (io->target + 1) % OSDS;
    } else {
        *known_leader(io) = (io->target + 1) % OSDS;
    }
    wire_arena_fini(&arena);
}

static void io_step(struct op *op)
{
    struct io *io = container_of(op, struct io, op);
    int error;

    switch (op->state) {
    case IO_PAUSE:
        if (timer_armed(&io->timer))
            return;
        __attribute__((fallthrough));
    case IO_SEND:
        error = io->world->ended ? -ERR_CANCELLED : io_send(io);
        op->state = IO_WAIT;
        if (!error)
            return;
        io->call.result = error;
        io->call.remote = false;
        __attribute__((fallthrough));
    case IO_WAIT:
        if (io->call.pending)
            return;
        io->tries++;
        error = io->call.result;
        if (!error && io->type == IO_READ)
            error = read_take(io);
        slice_unref(&io->call.reply_payload);
        if (is_final(error) || (io->once && io->call.remote) || core_now_ns(op->core) >= io->give_up_ns ||
            io->world->ended) {
            io->result = error;
            io->done = true;
            op_done(op, 0);
            return;
        }
        learn(io);
        op->state = IO_PAUSE;
        timer_arm(op->core, &io->timer, op, core_now_ns(op->core) + (io->tries < 3 ? 1 : IO_PAUSE_NS));
        return;
    }
}

int world_attach(struct world *w, uint64_t generation, uint64_t incarnation)
{
    for (uint32_t p = 0; p < w->pg_count; p++) {
        struct io io = io_make(w, IO_ATTACH, 0, 0, 0);
        io.force_pg = placement_pg_id(POOL, p);
        io.generation = generation;
        io.incarnation = incarnation;
        int error = io_run(&io);
        if (error)
            return error;
    }
    return 0;
}

int world_write(struct world *w, uint64_t object, uint32_t offset, uint32_t length, const uint8_t *data)
{
    struct io io = io_make(w, IO_WRITE, object, offset, length);
    io.data = data;
    return io_run(&io);
}

int world_read(struct world *w, uint64_t object, uint32_t first_block, uint32_t blocks, uint8_t *ret_data)
{
    struct io io = io_make(w, IO_READ, object, first_block * BLOCK_SIZE, blocks * BLOCK_SIZE);
    io.ret_data = ret_data;
    return io_run(&io);
}
