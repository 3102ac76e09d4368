/* SPDX-License-Identifier: Apache-2.0
 *
 * The shard's blob: two copies, the older of which is overwritten, or the one that was found damaged; its
 * header has the checksum of the data.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

/* pieces of the data -> flush -> header -> flush */
enum { BLOB_START, BLOB_DATA, BLOB_DATA_FLUSH, BLOB_HEADER, BLOB_HEADER_FLUSH };

static const char *blob_state(int state)
{
    static const char *const names[] = {"start", "data", "data flush", "header", "header flush"};
    return names[state];
}

static uint64_t blob_place(const struct store *s)
{
    return s->g.blob_block + (uint64_t)s->blob_copy * s->g.blob_blocks;
}

static void blob_piece(struct store_blob_write *w)
{
    uint32_t len = MIN(w->len - w->sent, w->buf->size_bytes);
    uint32_t blocks = DIV_UP(len, BLOCK_SIZE);

    memcpy(w->buf->data, (const uint8_t *)w->data + w->sent, len);
    memset(w->buf->data + len, 0, blocks * BLOCK_SIZE - len);
    io_start(w->store->blk, &w->io, &w->iov, BLK_WRITE, 0, blob_place(w->store) + 1 + w->sent / BLOCK_SIZE,
             w->buf->data, blocks, &w->op);
    w->sent += len;
}

static void blob_header(struct store_blob_write *w)
{
    struct store *s = w->store;
    struct disk_blob_header *h = (struct disk_blob_header *)w->buf->data;

    *h = (struct disk_blob_header){
        .magic = MAGIC_BLOB, .data_crc = crc32c(0, w->data, w->len), .seq = s->blob_seq + 1, .len = w->len};
    memcpy(h->format_id, s->format_id, FORMAT_ID_BYTES);
    FORMAT_SEAL(h);
    io_start(s->blk, &w->io, &w->iov, BLK_WRITE, 0, blob_place(s), w->buf->data, 1, &w->op);
}

static void blob_end(struct store_blob_write *w, int result)
{
    buf_unref(w->buf);
    w->buf = NULL;
    w->store->blob_busy = false;
    table_wake(w->store);
    op_done(&w->op, result);
}

static void blob_step(struct op *op)
{
    struct store_blob_write *w = container_of(op, struct store_blob_write, op);
    struct store *s = w->store;

    if (op->state != BLOB_START) {
        if (w->io.pending)
            return;
        if (w->io.result)
            store_fail(s, w->io.result, "a write of the cluster map failed");
        if (s->failed) {
            blob_end(w, -ERR_STOPPED);
            return;
        }
    }
    switch (op->state) {
    case BLOB_START:
        if (s->failed || w->len > STORE_BLOB_MAX) {
            list_remove(&w->waiter.link);
            op_done(op, s->failed ? -ERR_STOPPED : -ERR_TOO_LARGE);
            return;
        }
        if (s->blob_busy) {
            list_remove(&w->waiter.link);
            list_push_back(&s->table_waiters, &w->waiter.link);
            return;
        }
        w->buf = buf_new(s->core->arena, MAX(BLOCK_SIZE, MIN(w->len, 64u << 10)));
        if (!w->buf) {
            op_done(op, -ERR_NO_MEMORY);
            return;
        }
        s->blob_busy = true;
        op->state = BLOB_DATA;
        /* fall through */
    case BLOB_DATA:
        if (w->sent < w->len) {
            blob_piece(w);
            return;
        }
        op->state = BLOB_DATA_FLUSH;
        io_start(s->blk, &w->io, &w->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
        return;
    case BLOB_DATA_FLUSH:
        op->state = BLOB_HEADER;
        blob_header(w);
        return;
    case BLOB_HEADER:
        op->state = BLOB_HEADER_FLUSH;
        io_start(s->blk, &w->io, &w->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
        return;
    case BLOB_HEADER_FLUSH:
        s->blob_seq++;
        s->blob_copy = !s->blob_copy;
        blob_end(w, 0);
        return;
    }
}

static const struct op_kind BLOB_WRITE = {"store.blob_write", blob_state, blob_step};

void store_blob_write_start(struct store_blob_write *w, struct store *store, const void *data, uint32_t len,
                            struct op *parent)
{
    w->store = store;
    w->data = data;
    w->len = len;
    w->sent = 0;
    w->buf = NULL;
    list_init(&w->waiter.link);
    w->waiter.op = &w->op;
    op_start(&w->op, store->core, &BLOB_WRITE, parent);
}

const void *store_blob(const struct store *s, uint32_t *ret_len)
{
    *ret_len = s->blob_len;
    return s->blob;
}
