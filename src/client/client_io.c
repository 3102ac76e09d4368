/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests: cut into pieces that lie within one object and, when they carry data, within one of its aligned
 * halves of IO_SIZE_MAX, so that no piece touches more blocks than a log entry may have.
 *
 *     CUT -> (no free piece: wait) CUT ... -> WAIT for the pieces -> done
 *
 * The first error ends the cutting; what was started is awaited all the same.
 */
#include <string.h>

#include "client/impl.h"

enum io_state { IO_BEGIN, IO_CUT, IO_WAIT };

static const char *io_state_name(int state)
{
    static const char *const names[] = {"begin", "cut", "wait"};
    return names[state];
}

static bool io_has_data(const struct client_io *io)
{
    return io->type == CLIENT_READ || io->type == CLIENT_WRITE;
}

static int io_validate(const struct client_io *io)
{
    const struct client_image *image = io->image;

    if (image->failed)
        return image->failed;
    if (io->type == CLIENT_FLUSH)
        return 0;
    if (io->type != CLIENT_READ && !image->writable)
        return -ERR_READ_ONLY;
    if (io->offset > image->size_bytes || io->len > image->size_bytes - io->offset)
        return -ERR_RANGE;
    if (io_has_data(io) && (io->len > BUF_SIZE_MAX || (io->type == CLIENT_WRITE && io->data.len < io->len)))
        return -ERR_TOO_LARGE;
    return 0;
}

/* Where the piece that starts at `at` ends. */
static uint64_t io_cut(const struct client_io *io, uint64_t at, uint64_t end)
{
    uint64_t unit = io_has_data(io) ? IO_SIZE_MAX : OBJECT_SIZE;

    return MIN(ALIGN_DOWN(at, unit) + unit, end);
}

static void io_start_piece(struct client_io *io, struct client_piece *p, uint64_t end)
{
    static const enum client_piece_type types[] = {
        [CLIENT_READ] = PIECE_READ,
        [CLIENT_WRITE] = PIECE_WRITE,
        [CLIENT_DISCARD] = PIECE_DISCARD,
        [CLIENT_ZERO] = PIECE_ZERO,
    };
    uint32_t done = (uint32_t)(io->at - io->offset);

    p->type = types[io->type];
    p->object = io->at / OBJECT_SIZE;
    p->offset = (uint32_t)(io->at % OBJECT_SIZE);
    p->len = (uint32_t)(end - io->at);
    if (io->type == CLIENT_READ)
        p->memory = io->memory + done;
    else if (io->type == CLIENT_WRITE)
        p->data = (struct slice){io->data.buf, io->data.offset + done, p->len};
    client_piece_start(p, &io->op);
}

/* Discarding concerns whole blocks only. */
static void io_round_inward(struct client_io *io)
{
    uint64_t first = ALIGN_UP(io->offset, (uint64_t)BLOCK_SIZE);
    uint64_t end = ALIGN_DOWN(io->offset + io->len, (uint64_t)BLOCK_SIZE);

    io->offset = first;
    io->len = end > first ? end - first : 0;
}

static void io_finish(struct client_io *io, int result)
{
    client_piece_wait_end(&io->wait);
    client_image_request_end(io->image);
    op_done(&io->op, result);
}

static void io_step(struct op *op)
{
    struct client_io *io = container_of(op, struct client_io, op);

    for (;;) {
        switch ((enum io_state)op->state) {
        case IO_BEGIN: {
            int error = io_validate(io);
            if (error || io->type == CLIENT_FLUSH) {
                io_finish(io, error);
                return;
            }
            if (io->type == CLIENT_DISCARD)
                io_round_inward(io);
            io->at = io->offset;
            op->state = IO_CUT;
            break;
        }
        case IO_CUT: {
            uint64_t end = io->offset + io->len;
            while (io->at < end && op->child_result == 0 && !op->cancelled) {
                uint32_t pg = client_image_pg_number(io->image, io->at / OBJECT_SIZE);
                struct client_piece *p = client_piece_get(io->image, pg, &io->wait);
                if (!p)
                    return;
                uint64_t next = io_cut(io, io->at, end);
                io_start_piece(io, p, next);
                io->at = next;
            }
            client_piece_wait_end(&io->wait);
            op->state = IO_WAIT;
            break;
        }
        case IO_WAIT:
            if (op->children)
                return;
            io_finish(io, op->cancelled && !op->child_result ? -ERR_CANCELLED : op->child_result);
            return;
        }
    }
}

static const struct op_kind io_kind = {"client.io", io_state_name, io_step};

static void io_start(struct client_io *io, struct client_image *image, enum client_io_type type,
                     uint64_t offset, uint64_t len, struct op *parent)
{
    io->image = image;
    io->type = type;
    io->offset = offset;
    io->len = len;
    io->at = 0;
    list_init(&io->wait.link);
    io->wait.op = &io->op;
    client_image_request_begin(image);
    op_start(&io->op, image->client->core, &io_kind, parent);
}

void client_io_start(struct client_io *io, struct client_image *image, enum client_io_type type,
                     uint64_t offset, uint64_t len, const struct slice *data, struct op *parent)
{
    ASSERT(type != CLIENT_READ);
    io->data = data ? *data : (struct slice){0};
    io_start(io, image, type, offset, len, parent);
}

void client_read_start(struct client_io *io, struct client_image *image, uint64_t offset, uint64_t len,
                       void *memory, struct op *parent)
{
    io->memory = memory;
    io_start(io, image, CLIENT_READ, offset, len, parent);
}
