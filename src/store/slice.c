/* SPDX-License-Identifier: Apache-2.0
 *
 * A slice's geometry, its superblock, and formatting.
 *
 * Formatting writes the superblock copies last: until both are durable the slice is what it was before, or
 * nothing. A slice that is formatted again gets a fresh format id, so nothing that the old one left is ever
 * taken for current, and neither ring nor chunks are touched.
 */
#include <string.h>

#include "store/internal.h"

#define RING_BYTES_DEFAULT_MIN (64ull << 20)
#define RING_BYTES_DEFAULT_MAX (4ull << 30)
#define IMAGES_MIN             65536u /* in as many PGs as a slice may have: of four images */
#define IMAGES_MIN_SMALL       8192u
#define SMALL_BYTES            (512ull << 20)

int geometry_layout(uint64_t size_bytes, uint64_t ring_bytes, struct geometry *ret)
{
    struct geometry g = {.slice_blocks = size_bytes / BLOCK_SIZE,
                         .pgs_max = size_bytes < SMALL_BYTES ? STORE_PGS_MAX_SMALL : STORE_PGS_MAX};

    if (ring_bytes == 0)
        ring_bytes = MAX(RING_BYTES_DEFAULT_MIN, MIN(RING_BYTES_DEFAULT_MAX, size_bytes / 8));
    g.ring_blocks = ring_bytes / BLOCK_SIZE;
    if (g.ring_blocks < RING_BLOCKS_MIN)
        return -ERR_TOO_SMALL;
    uint64_t chunks_most = MIN(size_bytes / CHUNK_SIZE, (uint64_t)UINT32_MAX / SLOTS_PER_CHUNK - 2);
    g.objects_max = (uint32_t)chunks_most;
    g.images_max =
        MAX(size_bytes < SMALL_BYTES ? IMAGES_MIN_SMALL : IMAGES_MIN, (uint32_t)(chunks_most / 16));
    g.table_block = SUPERBLOCK_BLOCKS;
    g.table_blocks = DIV_UP(g.pgs_max, TABLE_RECORDS_PER_BLOCK);
    g.blob_block = g.table_block + 2 * g.table_blocks;
    g.blob_blocks = 1 + STORE_BLOB_MAX / BLOCK_SIZE;
    g.checkpoint_block = g.blob_block + 2 * g.blob_blocks;
    /* A checkpoint is written while state changes: what moves between its parts may be in it twice. */
    g.checkpoint_blocks =
        2 + DIV_UP(2ull * (g.objects_max + g.images_max + g.pgs_max), (uint64_t)CKPT_RECORDS_PER_BLOCK);
    g.ring_block = g.checkpoint_block + 2 * g.checkpoint_blocks;
    g.chunk_block = ALIGN_UP(g.ring_block + g.ring_blocks, (uint64_t)BLOCKS_PER_CHUNK);
    if (g.chunk_block + 256 * BLOCKS_PER_CHUNK > g.slice_blocks)
        return -ERR_TOO_SMALL;
    g.chunk_count = MIN((g.slice_blocks - g.chunk_block) / BLOCKS_PER_CHUNK, chunks_most);
    *ret = g;
    return 0;
}

void superblock_encode(const struct geometry *g, const struct store_config *config, const uint8_t *format_id,
                       struct disk_superblock *ret)
{
    *ret = (struct disk_superblock){.magic = MAGIC_SUPERBLOCK,
                                    .version = FORMAT_VERSION,
                                    .slice = config->slice,
                                    .pgs_max = g->pgs_max,
                                    .slice_blocks = g->slice_blocks,
                                    .table_block = g->table_block,
                                    .table_blocks = g->table_blocks,
                                    .blob_block = g->blob_block,
                                    .blob_blocks = g->blob_blocks,
                                    .checkpoint_block = g->checkpoint_block,
                                    .checkpoint_blocks = g->checkpoint_blocks,
                                    .ring_block = g->ring_block,
                                    .ring_blocks = g->ring_blocks,
                                    .chunk_block = g->chunk_block,
                                    .chunk_count = g->chunk_count,
                                    .objects_max = g->objects_max,
                                    .images_max = g->images_max};
    memcpy(ret->format_id, format_id, FORMAT_ID_BYTES);
    memcpy(ret->osd_uuid, config->osd_uuid, sizeof(ret->osd_uuid));
    FORMAT_SEAL(ret);
}

/* [block, block + blocks) lies behind `from` and within the slice; returns its end, 0 if not. */
static uint64_t area_end(uint64_t from, uint64_t block, uint64_t blocks, uint64_t slice_blocks)
{
    if (from == 0 || block < from || block > slice_blocks || blocks > slice_blocks - block)
        return 0;
    return block + blocks;
}

int superblock_decode(const struct disk_superblock *sb, uint64_t size_bytes, struct geometry *ret)
{
    uint64_t blocks = sb->slice_blocks;

    if (sb->magic != MAGIC_SUPERBLOCK || !FORMAT_SEALED(sb))
        return -ERR_FORMAT;
    if (sb->version != FORMAT_VERSION)
        return -ERR_VERSION;
    if (blocks > size_bytes / BLOCK_SIZE || sb->pgs_max == 0 || sb->pgs_max > STORE_PGS_MAX ||
        sb->table_blocks != DIV_UP(sb->pgs_max, TABLE_RECORDS_PER_BLOCK) ||
        sb->blob_blocks != 1 + STORE_BLOB_MAX / BLOCK_SIZE || sb->checkpoint_blocks < 2 ||
        sb->checkpoint_blocks > blocks / 2 || sb->ring_blocks < RING_BLOCKS_MIN || sb->chunk_count < 256 ||
        sb->chunk_count > blocks / BLOCKS_PER_CHUNK || sb->chunk_count > UINT32_MAX / SLOTS_PER_CHUNK - 2 ||
        sb->objects_max == 0 || sb->images_max == 0)
        return -ERR_FORMAT;
    uint64_t end = area_end(SUPERBLOCK_BLOCKS, sb->table_block, 2 * sb->table_blocks, blocks);
    end = area_end(end, sb->blob_block, 2 * sb->blob_blocks, blocks);
    end = area_end(end, sb->checkpoint_block, 2 * sb->checkpoint_blocks, blocks);
    end = area_end(end, sb->ring_block, sb->ring_blocks, blocks);
    end = area_end(end, sb->chunk_block, sb->chunk_count * BLOCKS_PER_CHUNK, blocks);
    if (end == 0)
        return -ERR_FORMAT;
    *ret = (struct geometry){.slice_blocks = blocks,
                             .table_block = sb->table_block,
                             .table_blocks = sb->table_blocks,
                             .blob_block = sb->blob_block,
                             .blob_blocks = sb->blob_blocks,
                             .checkpoint_block = sb->checkpoint_block,
                             .checkpoint_blocks = sb->checkpoint_blocks,
                             .ring_block = sb->ring_block,
                             .ring_blocks = sb->ring_blocks,
                             .chunk_block = sb->chunk_block,
                             .chunk_count = sb->chunk_count,
                             .objects_max = sb->objects_max,
                             .images_max = sb->images_max,
                             .pgs_max = sb->pgs_max};
    return 0;
}

/* PG table, copies A and B -> checkpoint headers -> flush -> superblocks -> flush -> done */
enum {
    FORMAT_START,
    FORMAT_TABLE,
    FORMAT_CKPT_A,
    FORMAT_CKPT_B,
    FORMAT_FLUSH,
    FORMAT_SUPER_A,
    FORMAT_SUPER_B,
    FORMAT_FLUSH_LAST
};

static const char *format_state(int state)
{
    static const char *const names[] = {"start", "PG table",     "checkpoint A", "checkpoint B",
                                        "flush", "superblock A", "superblock B", "last flush"};
    return names[state];
}

/* Writes the next piece of the two copies, which follow one another. */
static void format_table_piece(struct store_format *f, const struct geometry *g)
{
    struct disk_table_block *table = (struct disk_table_block *)f->buf->data;
    uint32_t blocks = (uint32_t)MIN(TABLE_PIECE, 2 * g->table_blocks - f->table_at);

    memset(table, 0, (size_t)blocks * BLOCK_SIZE);
    for (uint32_t i = 0; i < blocks; i++) {
        table[i].magic = MAGIC_PG_TABLE;
        table[i].block = (f->table_at + i) % (uint32_t)g->table_blocks;
        table[i].seq = 1;
        memcpy(table[i].format_id, f->format_id, FORMAT_ID_BYTES);
        FORMAT_SEAL(&table[i]);
    }
    io_start(f->config.blk, &f->io, &f->iov, BLK_WRITE, 0, g->table_block + f->table_at, f->buf->data, blocks,
             &f->op);
    f->table_at += blocks;
}

static void format_checkpoint(struct store_format *f, uint64_t number)
{
    struct disk_checkpoint *c = (struct disk_checkpoint *)f->buf->data;

    *c = (struct disk_checkpoint){.magic = MAGIC_CHECKPOINT, .number = number, .replay_seq = 1};
    memcpy(c->format_id, f->format_id, FORMAT_ID_BYTES);
    FORMAT_SEAL(c);
}

static int format_prepare(struct store_format *f)
{
    struct geometry g;
    int rc = geometry_layout(f->config.blk->size_bytes, f->ring_bytes, &g);

    if (rc)
        return rc;
    f->buf = buf_new(f->op.core->arena, WORK_BUF_BYTES);
    if (!f->buf)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < FORMAT_ID_BYTES; i += 8) {
        uint64_t word = core_random_u64(f->op.core);
        memcpy(f->format_id + i, &word, 8);
    }
    return 0;
}

static void store_format_step(struct op *op)
{
    struct store_format *f = container_of(op, struct store_format, op);
    struct blk *blk = f->config.blk;
    struct geometry g;

    if (op->state != FORMAT_START) {
        if (f->io.pending)
            return;
        if (f->io.result || op->state == FORMAT_FLUSH_LAST) {
            buf_unref(f->buf);
            f->buf = NULL;
            op_done(op, f->io.result ? -ERR_IO : 0);
            return;
        }
    } else {
        int rc = format_prepare(f);
        if (rc) {
            op_done(op, rc);
            return;
        }
    }
    int rc = geometry_layout(blk->size_bytes, f->ring_bytes, &g);
    ASSERT(rc == 0);
    if (op->state != FORMAT_TABLE || f->table_at == 2 * g.table_blocks)
        op->state++;
    switch (op->state) {
    case FORMAT_TABLE:
        format_table_piece(f, &g);
        return;
    case FORMAT_CKPT_A:
    case FORMAT_CKPT_B:
        format_checkpoint(f, (uint64_t)(op->state - FORMAT_CKPT_A + 1));
        io_start(blk, &f->io, &f->iov, BLK_WRITE, 0,
                 g.checkpoint_block + (op->state == FORMAT_CKPT_B ? g.checkpoint_blocks : 0), f->buf->data, 1,
                 op);
        return;
    case FORMAT_SUPER_A:
    case FORMAT_SUPER_B:
        superblock_encode(&g, &f->config, f->format_id, (struct disk_superblock *)f->buf->data);
        io_start(blk, &f->io, &f->iov, BLK_WRITE, 0,
                 op->state == FORMAT_SUPER_A ? SUPERBLOCK_A_BLOCK : SUPERBLOCK_B_BLOCK, f->buf->data, 1, op);
        return;
    case FORMAT_FLUSH:
    case FORMAT_FLUSH_LAST:
        io_start(blk, &f->io, &f->iov, BLK_FLUSH, 0, 0, NULL, 0, op);
        return;
    }
}

static const struct op_kind STORE_FORMAT = {"store.format", format_state, store_format_step};

void store_format_start(struct store_format *f, const struct store_config *config, uint64_t ring_bytes,
                        struct op *parent)
{
    f->config = *config;
    f->ring_bytes = ring_bytes;
    f->buf = NULL;
    f->table_at = 0;
    op_start(&f->op, config->core, &STORE_FORMAT, parent);
}
