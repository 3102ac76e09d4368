/* SPDX-License-Identifier: Apache-2.0
 *
 * The device's label: two copies in the first mebibyte; the slices follow, all of one size.
 *
 * The label changes at each start (its counter rises). The older copy is written first, then the other: a
 * crash leaves at least one whole copy, and the newer valid one is the label.
 */
#include <string.h>

#include "store/internal.h"

int device_layout(uint64_t size_bytes, uint32_t slice_count, struct device_label *label)
{
    if (slice_count == 0 || slice_count > DEVICE_SLICES_MAX)
        return -ERR_INVALID;
    if (size_bytes < DEVICE_HEADER_SIZE)
        return -ERR_TOO_SMALL;
    uint64_t size = ALIGN_DOWN((size_bytes - DEVICE_HEADER_SIZE) / slice_count, (uint64_t)CHUNK_SIZE);
    if (size < DEVICE_SLICE_MIN)
        return -ERR_TOO_SMALL;
    label->slice_count = slice_count;
    label->slice_size = size;
    memset(label->slice_offset, 0, sizeof(label->slice_offset));
    for (uint32_t i = 0; i < slice_count; i++)
        label->slice_offset[i] = DEVICE_HEADER_SIZE + i * size;
    return 0;
}

static void label_encode(const struct device_label *label, struct disk_label *ret)
{
    *ret = (struct disk_label){.magic = MAGIC_LABEL,
                               .version = FORMAT_VERSION,
                               .start_counter = label->start_counter,
                               .osd = label->osd,
                               .slice_count = label->slice_count,
                               .slice_size = label->slice_size};
    memcpy(ret->cluster, label->cluster, sizeof(ret->cluster));
    memcpy(ret->osd_uuid, label->osd_uuid, sizeof(ret->osd_uuid));
    memcpy(ret->slice_offset, label->slice_offset, sizeof(ret->slice_offset));
    FORMAT_SEAL(ret);
}

static int label_decode(const struct disk_label *disk, uint64_t size_bytes, struct device_label *ret)
{
    if (disk->magic != MAGIC_LABEL || !FORMAT_SEALED(disk))
        return -ERR_FORMAT;
    if (disk->version != FORMAT_VERSION)
        return -ERR_VERSION;
    if (disk->slice_count == 0 || disk->slice_count > DEVICE_SLICES_MAX ||
        disk->start_counter >= FORMAT_NUMBER_MAX)
        return -ERR_FORMAT;
    for (uint32_t i = 0; i < disk->slice_count; i++) {
        uint64_t offset = disk->slice_offset[i];
        if (!IS_ALIGNED(offset, (uint64_t)BLOCK_SIZE) ||
            !IS_ALIGNED(disk->slice_size, (uint64_t)BLOCK_SIZE) || offset < DEVICE_HEADER_SIZE ||
            disk->slice_size > UINT64_MAX - offset)
            return -ERR_FORMAT;
        if (offset + disk->slice_size > size_bytes)
            return -ERR_TOO_SMALL;
    }
    *ret = (struct device_label){.osd = disk->osd,
                                 .slice_count = disk->slice_count,
                                 .slice_size = disk->slice_size,
                                 .start_counter = disk->start_counter};
    memcpy(ret->cluster, disk->cluster, sizeof(ret->cluster));
    memcpy(ret->osd_uuid, disk->osd_uuid, sizeof(ret->osd_uuid));
    memcpy(ret->slice_offset, disk->slice_offset, sizeof(ret->slice_offset));
    return 0;
}

/* Which copy is the label? -1: none; `ret` is filled in otherwise. */
static int label_choose(const struct disk_label *a, const struct disk_label *b, uint64_t size_bytes,
                        struct device_label *ret, int *ret_error)
{
    struct device_label la, lb;
    int ea = label_decode(a, size_bytes, &la);
    int eb = label_decode(b, size_bytes, &lb);

    if (ea && eb) {
        *ret_error = ea == -ERR_VERSION || ea == -ERR_TOO_SMALL ? ea : eb;
        return -1;
    }
    bool first = !ea && (eb || la.start_counter >= lb.start_counter);
    *ret = first ? la : lb;
    return first ? 0 : 1;
}

/* read A -> read B -> done */
enum { READ_START, READ_A, READ_B };

static const char *device_read_state(int state)
{
    static const char *const names[] = {"start", "copy A", "copy B"};
    return names[state];
}

static void device_read_finish(struct device_read *r, int result)
{
    buf_unref(r->buf);
    r->buf = NULL;
    op_done(&r->op, result);
}

static void device_read_step(struct op *op)
{
    struct device_read *r = container_of(op, struct device_read, op);

    switch (op->state) {
    case READ_START:
        if (r->blk->size_bytes < DEVICE_HEADER_SIZE) {
            op_done(op, -ERR_FORMAT);
            return;
        }
        r->buf = buf_new(op->core->arena, 2 * BLOCK_SIZE);
        if (!r->buf) {
            op_done(op, -ERR_NO_MEMORY);
            return;
        }
        op->state = READ_A;
        io_start(r->blk, &r->io, &r->iov, BLK_READ, 0, LABEL_OFFSET_A / BLOCK_SIZE, r->buf->data, 1, op);
        return;
    case READ_A:
        if (r->io.pending)
            return;
        r->error = r->io.result;
        if (r->error)
            memset(r->buf->data, 0, BLOCK_SIZE);
        op->state = READ_B;
        io_start(r->blk, &r->io, &r->iov, BLK_READ, 0, LABEL_OFFSET_B / BLOCK_SIZE, r->buf->data + BLOCK_SIZE,
                 1, op);
        return;
    case READ_B:
        if (r->io.pending)
            return;
        if (r->io.result) {
            if (r->error) {
                device_read_finish(r, -ERR_IO);
                return;
            }
            memset(r->buf->data + BLOCK_SIZE, 0, BLOCK_SIZE);
        }
        struct device_label label;
        int error = 0;
        if (label_choose((void *)r->buf->data, (void *)(r->buf->data + BLOCK_SIZE), r->blk->size_bytes,
                         &label, &error) < 0) {
            device_read_finish(r, r->error || r->io.result ? -ERR_IO : error);
            return;
        }
        r->ret_label = label;
        device_read_finish(r, 0);
        return;
    }
}

static const struct op_kind DEVICE_READ = {"store.device_read", device_read_state, device_read_step};

void device_read_start(struct device_read *r, struct core *core, struct blk *blk, struct op *parent)
{
    r->blk = blk;
    r->buf = NULL;
    op_start(&r->op, core, &DEVICE_READ, parent);
}

/* read both copies -> write the older -> write the other -> done */
enum {
    WRITE_START,
    WRITE_READ_A,
    WRITE_READ_B,
    WRITE_FIRST,
    WRITE_FLUSH_FIRST,
    WRITE_SECOND,
    WRITE_FLUSH_SECOND
};

static const char *device_write_state(int state)
{
    static const char *const names[] = {"start", "read A",      "read B", "first copy",
                                        "flush", "second copy", "flush"};
    return names[state];
}

static void device_write_copy(struct device_write *w, int copy)
{
    io_start(w->blk, &w->io, &w->iov, BLK_WRITE, 0, (copy ? LABEL_OFFSET_B : LABEL_OFFSET_A) / BLOCK_SIZE,
             w->buf->data, 1, &w->op);
}

static void device_write_finish(struct device_write *w, int result)
{
    buf_unref(w->buf);
    w->buf = NULL;
    op_done(&w->op, result);
}

static void device_write_step(struct op *op)
{
    struct device_write *w = container_of(op, struct device_write, op);
    uint8_t *data = w->buf ? w->buf->data : NULL;

    switch (op->state) {
    case WRITE_START:
        if (w->blk->size_bytes < DEVICE_HEADER_SIZE) {
            op_done(op, -ERR_TOO_SMALL);
            return;
        }
        w->buf = buf_new(op->core->arena, 2 * BLOCK_SIZE);
        if (!w->buf) {
            op_done(op, -ERR_NO_MEMORY);
            return;
        }
        op->state = WRITE_READ_A;
        io_start(w->blk, &w->io, &w->iov, BLK_READ, 0, LABEL_OFFSET_A / BLOCK_SIZE, w->buf->data, 1, op);
        return;
    case WRITE_READ_A:
        if (w->io.pending)
            return;
        if (w->io.result)
            memset(data, 0, BLOCK_SIZE);
        op->state = WRITE_READ_B;
        io_start(w->blk, &w->io, &w->iov, BLK_READ, 0, LABEL_OFFSET_B / BLOCK_SIZE, data + BLOCK_SIZE, 1, op);
        return;
    case WRITE_READ_B: {
        if (w->io.pending)
            return;
        if (w->io.result)
            memset(data + BLOCK_SIZE, 0, BLOCK_SIZE);
        struct device_label now;
        int error;
        int newer = label_choose((void *)data, (void *)(data + BLOCK_SIZE), w->blk->size_bytes, &now, &error);
        w->copy = newer == 0 ? 1 : 0;
        label_encode(&w->label, (struct disk_label *)data);
        op->state = WRITE_FIRST;
        device_write_copy(w, w->copy);
        return;
    }
    case WRITE_FIRST:
    case WRITE_SECOND:
        if (w->io.pending)
            return;
        if (w->io.result) {
            device_write_finish(w, -ERR_IO);
            return;
        }
        op->state++;
        io_start(w->blk, &w->io, &w->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
        return;
    case WRITE_FLUSH_FIRST:
    case WRITE_FLUSH_SECOND:
        if (w->io.pending)
            return;
        if (w->io.result || op->state == WRITE_FLUSH_SECOND) {
            device_write_finish(w, w->io.result ? -ERR_IO : 0);
            return;
        }
        op->state = WRITE_SECOND;
        device_write_copy(w, !w->copy);
        return;
    }
}

static const struct op_kind DEVICE_WRITE = {"store.device_write", device_write_state, device_write_step};

void device_write_start(struct device_write *w, struct core *core, struct blk *blk,
                        const struct device_label *label, struct op *parent)
{
    w->blk = blk;
    w->label = *label;
    w->buf = NULL;
    op_start(&w->op, core, &DEVICE_WRITE, parent);
}
