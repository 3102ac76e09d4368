/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of a piece: requests encoded into a scratch on the stack, answers decoded from the piece's
 * reply memory.
 *
 * Data is verified here: each block of a read against the checksum that came with it, where it lies. Whole
 * blocks have landed where the caller wants them; parts of blocks are copied out.
 */
#include <string.h>

#include "base/crc32c.h"
#include "base/placement.h"
#include "base/plant.h"
#include "client/impl.h"
#include "wire/cold.h"

#define BODY_MAX 2048 /* a write request with all checksums is the largest */

static uint32_t piece_first_block(const struct client_piece *p)
{
    return p->offset / BLOCK_SIZE;
}

static uint32_t piece_block_count(const struct client_piece *p)
{
    return (p->offset + p->len - 1) / BLOCK_SIZE - piece_first_block(p) + 1;
}

/* It reads whole blocks only, which then can be received in place. */
static bool piece_is_whole_blocks(const struct client_piece *p)
{
    return IS_ALIGNED(p->offset, BLOCK_SIZE) && IS_ALIGNED(p->len, BLOCK_SIZE);
}

static int encode_clear(const struct client_piece *p, uint64_t pg, uint64_t term, uint8_t *body,
                        uint32_t *ret_len)
{
    Fb__ClearRequest m = FB__CLEAR_REQUEST__INIT;

    m.pg = pg;
    m.term = term;
    m.image = p->image->id;
    m.object = p->object;
    m.generation = p->sent_generation;
    m.incarnation = p->image->incarnation;
    m.offset = p->offset;
    m.length = p->len;
    m.exact = p->type == PIECE_ZERO;
    return wire_cold_encode(&m.base, body, BODY_MAX, ret_len);
}

static int encode_attach(const struct client_piece *p, uint64_t pg, uint64_t term, uint8_t *body,
                         uint32_t *ret_len)
{
    Fb__AttachRequest m = FB__ATTACH_REQUEST__INIT;

    m.pg = pg;
    m.term = term;
    m.image = p->image->id;
    m.generation = p->sent_generation;
    m.incarnation = p->image->incarnation;
    m.size_bytes = p->image->size_bytes;
    m.epoch = p->image->epoch;
    m.pg_count = p->image->pg_count;
    return wire_cold_encode(&m.base, body, BODY_MAX, ret_len);
}

static int encode_status(const struct client_piece *p, uint64_t pg, uint64_t term, uint8_t *body,
                         uint32_t *ret_len)
{
    Fb__BlockStatusRequest m = FB__BLOCK_STATUS_REQUEST__INIT;

    m.pg = pg;
    m.term = term;
    m.image = p->image->id;
    m.object = p->object;
    m.generation = p->sent_generation;
    m.epoch = p->image->epoch;
    return wire_cold_encode(&m.base, body, BODY_MAX, ret_len);
}

static int encode_write(const struct client_piece *p, uint64_t pg, uint64_t term, uint8_t *body,
                        uint32_t *ret_len)
{
    struct wire_write_request m = {
        .pg = pg,
        .term = term,
        .image = p->image->id,
        .object = p->object,
        .generation = p->sent_generation,
        .incarnation = p->image->incarnation,
        .offset = p->offset,
        .length = p->len,
        .crc_count = p->crc_count,
        .crc = p->crc,
    };

    ASSERT(wire_write_request_size(&m) <= BODY_MAX);
    *ret_len = (uint32_t)wire_write_request_encode(body, &m);
    return 0;
}

static int encode_read(const struct client_piece *p, uint64_t pg, uint64_t term, uint8_t *body,
                       uint32_t *ret_len)
{
    struct wire_read_request m = {
        .pg = pg,
        .term = term,
        .image = p->image->id,
        .object = p->object,
        .generation = p->sent_generation,
        .first_block = piece_first_block(p),
        .block_count = piece_block_count(p),
        .epoch = p->image->epoch,
    };

    *ret_len = (uint32_t)wire_read_request_encode(body, &m);
    return 0;
}

int client_piece_send(struct client_piece *p, struct rpc_peer *peer, uint64_t pg, uint64_t term,
                      uint64_t deadline_ns)
{
    RPC_FRAME_SCRATCH(scratch, BODY_MAX);
    uint8_t *body = rpc_body(scratch);
    enum method method = METHOD_ATTACH;
    uint32_t len = 0, data_count = 0;
    int error = 0;

    p->sent_generation = p->image->generation;
    if (p->attaching) {
        error = encode_attach(p, pg, term, body, &len);
    } else {
        switch (p->type) {
        case PIECE_READ:
            method = METHOD_READ;
            if (piece_is_whole_blocks(p)) {
                p->call.place = p->memory;
                p->call.place_len = p->len;
            }
            error = encode_read(p, pg, term, body, &len);
            break;
        case PIECE_WRITE:
            method = METHOD_WRITE;
            error = encode_write(p, pg, term, body, &len);
            data_count = 1;
            break;
        case PIECE_DISCARD:
        case PIECE_ZERO:
            method = METHOD_CLEAR;
            error = encode_clear(p, pg, term, body, &len);
            break;
        case PIECE_STATUS:
            method = METHOD_BLOCK_STATUS;
            error = encode_status(p, pg, term, body, &len);
            break;
        case PIECE_ATTACH:
            UNREACHABLE(); /* announces only */
        }
    }
    if (error)
        return error;
    p->call.reply = p->reply;
    p->call.reply_cap = sizeof(p->reply);
    return rpc_call_start(&p->call, peer, &p->op, method, body, len, &p->data, data_count, deadline_ns);
}

/* ---- answers ---- */

static int read_take(struct client_piece *p, const struct wire_read_reply *m)
{
    const struct slice *payload = &p->call.reply_payload;
    const uint8_t *data = p->memory;
    uint32_t count = piece_block_count(p);

    if (!p->call.placed) {
        if (payload->len == 0) {
            memset(p->memory, 0, p->len);
            return 0;
        }
        if (payload->len != count * BLOCK_SIZE)
            return -ERR_PROTOCOL;
        data = slice_data(payload);
    }
    if (m->crc_count != count)
        return -ERR_PROTOCOL;
    for (uint32_t i = 0; i < count; i++)
        if (crc32c(0, data + i * BLOCK_SIZE, BLOCK_SIZE) != m->crc[i])
            return -ERR_CHECKSUM;
    if (!p->call.placed) {
        memcpy(p->memory, data + p->offset % BLOCK_SIZE, p->len);
        p->client->core->counters.copied_bytes += p->len;
    }
    return 0;
}

static int receive_read(struct client_piece *p, struct client_answer *answer)
{
    struct wire_read_reply m;
    uint32_t crc[WIRE_CRC_MAX];
    int error = wire_read_reply_decode(p->reply, p->call.reply_len, &m, crc);

    if (error)
        return error;
    *answer = (struct client_answer){m.term, m.leader, 0};
    return read_take(p, &m);
}

static int receive_write(struct client_piece *p, struct client_answer *answer)
{
    struct wire_write_reply m;
    int error = wire_write_reply_decode(p->reply, p->call.reply_len, &m);

    if (!error)
        *answer = (struct client_answer){m.term, m.leader, 0};
    return error;
}

static int receive_pg(struct client_piece *p, struct client_answer *answer)
{
    uint8_t memory[256];
    struct wire_arena arena;
    Fb__PgReply *m;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error = wire_cold_decode(&fb__pg_reply__descriptor, p->reply, p->call.reply_len, &arena, &m);
    if (!error)
        *answer = (struct client_answer){m->term, m->leader, m->epoch};
    wire_arena_fini(&arena);
    return error;
}

static int receive_status(struct client_piece *p, struct client_answer *answer)
{
    struct client_status_row *row = p->status;
    uint8_t memory[512];
    struct wire_arena arena;
    Fb__BlockStatusReply *m;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__block_status_reply__descriptor, p->reply, p->call.reply_len, &arena, &m);
    if (!error) {
        *answer = (struct client_answer){m->term, m->leader, 0};
        /* Of what it has handed to another PG that we do not know of it says nothing. */
        row->next =
            m->split_count <= p->image->pg_count || PLANT(CLIENT_STATUS_OVER_SPLIT) ? m->next_object : 0;
        if (m->written.len == sizeof(row->written))
            memcpy(row->written, m->written.data, sizeof(row->written));
        else if (m->written.len == 0)
            memset(row->written, 0, sizeof(row->written));
        else
            error = -ERR_PROTOCOL;
    }
    wire_arena_fini(&arena);
    return error;
}

int client_piece_receive(struct client_piece *p, struct client_answer *ret_answer)
{
    struct client_answer answer = {0};
    int result = p->call.result;

    if (result == 0) {
        if (p->attaching || p->type == PIECE_DISCARD || p->type == PIECE_ZERO)
            result = receive_pg(p, &answer);
        else if (p->type == PIECE_READ)
            result = receive_read(p, &answer);
        else if (p->type == PIECE_WRITE)
            result = receive_write(p, &answer);
        else
            result = receive_status(p, &answer);
    } else if (p->call.remote) {
        (void)!receive_pg(p, &answer); /* the error counts, whatever came with it */
    }
    slice_unref(&p->call.reply_payload);
    *ret_answer = answer;
    return result;
}
