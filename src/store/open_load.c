/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a slice, the first half: superblock, PG table, blob, checkpoint. Each comes in two copies; what a
 * crash while one of them was written leaves is no problem, two bad copies are.
 */
#include <stdlib.h>
#include <string.h>

#include "store/opening.h"

void open_read(struct store_open *o, uint64_t block, uint64_t blocks)
{
    struct store_opening *p = o->opening;

    io_start(p->config.blk, &p->io, &p->iov, BLK_READ, 0, block, p->work, blocks, &o->op);
}

int open_superblock(struct store_opening *p, int copy)
{
    const struct disk_superblock *sb = (const struct disk_superblock *)p->work;
    const char *name = copy ? "B" : "A";
    struct store *s = p->s;
    struct geometry g;
    int rc = p->io.result ? -ERR_IO : superblock_decode(sb, p->config.blk->size_bytes, &g);

    if (rc) {
        /* One that does not come may be there: nobody is to take the device for an empty one. */
        if (!p->super_error || rc == -ERR_VERSION || (rc == -ERR_IO && p->super_error == -ERR_FORMAT))
            p->super_error = rc;
        if (s->report || p->have_super)
            store_problem(s, "superblock copy %s: %s", name, error_text(rc));
        /* What another version wrote is not ours to change. */
        p->super_heal |= rc == -ERR_VERSION ? 0 : 1u << copy;
        return 0;
    }
    if (p->have_super) {
        if (memcmp(sb, &p->super, sizeof(*sb)) == 0)
            return 0;
        store_problem(s, "superblock copy %s: differs from copy A", name);
        p->super_heal |= 1u << copy;
        return 0;
    }
    p->have_super = true;
    p->super = *sb;
    s->g = g;
    memcpy(s->format_id, sb->format_id, FORMAT_ID_BYTES);
    if (!p->read_only &&
        (memcmp(sb->osd_uuid, p->config.osd_uuid, sizeof(sb->osd_uuid)) != 0 || sb->slice != p->config.slice))
        return -ERR_IDENTITY;
    if (p->read_only)
        s->config.slice = sb->slice;
    return 0;
}

int open_prepare(struct store_opening *p)
{
    struct store *s = p->s;

    if (!p->have_super)
        return p->super_error;
    if (s->config.pgs_max == 0 || s->config.pgs_max > s->g.pgs_max)
        s->config.pgs_max = s->g.pgs_max;
    s->table = calloc(s->g.table_blocks, sizeof(*s->table));
    p->heal = calloc(s->g.table_blocks, 1);
    if (!s->table || !p->heal || pages_init(s))
        return -ERR_NO_MEMORY;
    return space_init(s);
}

static uint32_t table_piece(const struct store_opening *p)
{
    if (p->table_at < p->table_single)
        return 1;
    return (uint32_t)MIN(TABLE_PIECE, p->s->g.table_blocks - p->table_at);
}

static uint8_t *table_work(const struct store_opening *p, int copy)
{
    return p->work + (copy ? WORK_BUF_BYTES / 2 : 0);
}

void open_table_read(struct store_open *o, int copy)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;

    io_start(s->blk, &p->io, &p->iov, BLK_READ, 0,
             s->g.table_block + (uint64_t)copy * s->g.table_blocks + p->table_at, table_work(p, copy),
             table_piece(p), &o->op);
}

bool open_table_came(struct store_opening *p, int copy)
{
    uint32_t blocks = table_piece(p);

    if (!p->io.result)
        return true;
    if (blocks > 1 && !PLANT(STORE_TABLE_BY_PIECES)) {
        p->table_single = p->table_at + blocks;
        return false;
    }
    memset(table_work(p, copy), 0, blocks * BLOCK_SIZE);
    return true;
}

static int open_table_block(struct store_opening *p, uint32_t at, uint32_t block)
{
    struct store *s = p->s;
    bool heal_a, heal_b;
    const struct disk_table_block *read = (const struct disk_table_block *)p->work;
    int rc = table_load(s, &read[at], &read[TABLE_PIECE + at], block, &heal_a, &heal_b);

    if (rc) {
        store_problem(s, "PG table: block %u: %s", block, error_text(rc));
        return s->report && rc == -ERR_DAMAGED ? 0 : rc;
    }
    p->heal[block] = (uint8_t)(heal_a | heal_b << 1);
    /* As a crash between the two leaves it. */
    if (heal_a || heal_b)
        core_log(s->core, LOG_INFO, "store", "slice %u: PG table: block %u: copy %s is written again",
                 s->config.slice, block, heal_a ? "A" : "B");
    return 0;
}

int open_table(struct store_opening *p)
{
    uint32_t blocks = table_piece(p);
    int rc = 0;

    for (uint32_t i = 0; i < blocks && rc == 0; i++)
        rc = open_table_block(p, i, p->table_at + i);
    p->table_at += blocks;
    return rc;
}

/* The superblock by which the PG table was found readable. */
static void open_heal_super(struct store_open *o, int copy)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;

    core_log(s->core, LOG_INFO, "store", "slice %u: superblock copy %s is written again", s->config.slice,
             copy ? "B" : "A");
    memcpy(p->work, &p->super, BLOCK_SIZE);
    io_start(s->blk, &p->io, &p->iov, BLK_WRITE, fua(s), copy ? SUPERBLOCK_B_BLOCK : SUPERBLOCK_A_BLOCK,
             p->work, 1, &o->op);
}

/* It may be one that the device gives again later. */
static void open_void_checkpoint(struct store_open *o, int copy)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;

    memset(p->work, 0, BLOCK_SIZE);
    io_start(s->blk, &p->io, &p->iov, BLK_WRITE, fua(s),
             s->g.checkpoint_block + (uint64_t)copy * s->g.checkpoint_blocks, p->work, 1, &o->op);
}

/* Writes the next copy that needs it; false: none, or nothing is to be written. */
bool open_heal(struct store_open *o)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;

    if (p->read_only)
        return false;
    if (p->super_heal) {
        int copy = p->super_heal & 1 ? 0 : 1;
        p->super_heal &= ~(1u << copy);
        open_heal_super(o, copy);
        return true;
    }
    if (p->ckpt_void) {
        int copy = p->ckpt_void & 1 ? 0 : 1;
        p->ckpt_void = 0; /* the other one is what was loaded */
        open_void_checkpoint(o, copy);
        return true;
    }
    for (; p->heal_at < s->g.table_blocks; p->heal_at++) {
        if (!p->heal[p->heal_at])
            continue;
        int copy = p->heal[p->heal_at] & 1 ? 0 : 1;
        p->heal[p->heal_at] &= (uint8_t) ~(copy ? 2 : 1);
        memcpy(p->work, &s->table[p->heal_at].disk, BLOCK_SIZE);
        io_start(s->blk, &p->io, &p->iov, BLK_WRITE, fua(s),
                 s->g.table_block + (uint64_t)copy * s->g.table_blocks + p->heal_at, p->work, 1, &o->op);
        return true;
    }
    return false;
}

/* PGs whose log was found damaged, and those that a split was about to change: open_heal() shall write their
 * records. And what counts from now on though the table does not tell that it was durable: at the next start
 * it would have to prove itself, by chunks too of what it has cut off, which are free now. A header may tell,
 * but of the end of the log only one that does not count, which the next batch is written over. */
void open_damage(struct store_opening *p)
{
    struct store *s = p->s;

    p->heal_at = 0;
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        if (p->read_only)
            continue;
        if (pg->pub.damaged)
            pg->pub.record.state = STORE_PG_DAMAGED;
        if (table_differs(s, pg))
            p->heal[table_set_state(s, pg)] = 3;
    }
    if (!p->read_only && s->durable_seq > p->table_proven && !PLANT(STORE_START_UNPROVEN))
        p->heal[table_prove(s)] = 3;
}

/* What was being split off and is not said to be born never was: its parent has everything. */
void open_unborn(struct store_opening *p)
{
    struct store *s = p->s;

    list_for_each_safe (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        if (pg->pub.record.state != STORE_PG_UNBORN || s->failed)
            continue;
        for (struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number))
            o->slot = 0; /* the parent's */
        if (pg->pub.last_index >= pg->pub.first_index)
            store_problem(s, "PG %llx: has a log, and nothing says that it was born",
                          (unsigned long long)pg->pub.record.pg);
        replay_drop_from(pg, pg->pub.first_index);
        uint32_t block = table_forget(s, pg);
        if (!p->read_only)
            p->heal[block] = 3;
        pg_free(pg);
    }
}

bool open_blob_header(struct store_opening *p, int copy)
{
    const struct disk_blob_header *h = (const struct disk_blob_header *)p->work;

    p->blobs[copy] = *h;
    p->blob_ok[copy] = !p->io.result && h->magic == MAGIC_BLOB && FORMAT_SEALED(h) &&
                       h->len <= STORE_BLOB_MAX && h->seq < FORMAT_NUMBER_MAX &&
                       memcmp(h->format_id, p->s->format_id, FORMAT_ID_BYTES) == 0;
    /* One error, or one wrong read, is none: the other copy is an older map. */
    p->blob_again = !p->blob_ok[copy] && !p->blob_again;
    if (p->blob_ok[copy])
        p->s->blob_seq = MAX(p->s->blob_seq, h->seq);
    return !p->blob_again;
}

/* Chooses the newest copy that may count; false: none. */
bool open_blob_choose(struct store_opening *p)
{
    if (!p->blob_ok[0] && !p->blob_ok[1])
        return false;
    p->blob_copy = p->blob_ok[0] && (!p->blob_ok[1] || p->blobs[0].seq > p->blobs[1].seq) ? 0 : 1;
    p->blob_done = 0;
    free(p->blob_data);
    p->blob_data = malloc(p->blobs[p->blob_copy].len + 1);
    if (!p->blob_data)
        store_fail(p->s, -ERR_NO_MEMORY, "no memory for the cluster map");
    return p->blob_data != NULL;
}

void open_blob_read(struct store_open *o)
{
    struct store_opening *p = o->opening;
    uint32_t left = p->blobs[p->blob_copy].len - p->blob_done;

    open_read(
        o, p->s->g.blob_block + (uint64_t)p->blob_copy * p->s->g.blob_blocks + 1 + p->blob_done / BLOCK_SIZE,
        MIN(DIV_UP(left, BLOCK_SIZE), WORK_BLOCKS));
}

/* The blob is whole: true. Otherwise it is tried once more, or does not count. */
bool open_blob_take(struct store_opening *p)
{
    const struct disk_blob_header *h = &p->blobs[p->blob_copy];
    bool whole = crc32c(0, p->blob_data, h->len) == h->data_crc;

    p->blob_again = !whole && !p->blob_again;
    if (!whole && !p->blob_again) {
        store_problem(p->s, "cluster map: copy %s is damaged", p->blob_copy ? "B" : "A");
        p->blob_ok[p->blob_copy] = false;
    }
    if (!whole)
        return false;
    p->s->blob = p->blob_data;
    p->s->blob_len = h->len;
    p->s->blob_copy = !p->blob_copy;
    p->blob_data = NULL;
    return true;
}

static uint64_t ckpt_blocks(const struct disk_checkpoint *c)
{
    return DIV_UP(c->record_count, (uint64_t)CKPT_RECORDS_PER_BLOCK);
}

void open_ckpt_header(struct store_opening *p, int copy)
{
    const struct disk_checkpoint *c = (const struct disk_checkpoint *)p->work;
    struct store *s = p->s;

    p->ckpt[copy] = *c;
    p->ckpt_ok[copy] = !p->io.result && c->magic == MAGIC_CHECKPOINT && FORMAT_SEALED(c) && c->replay_seq &&
                       c->replay_seq < FORMAT_NUMBER_MAX && c->number < FORMAT_NUMBER_MAX &&
                       c->ring_seq < FORMAT_NUMBER_MAX &&
                       memcmp(c->format_id, s->format_id, FORMAT_ID_BYTES) == 0 &&
                       c->record_count < s->g.checkpoint_blocks * CKPT_RECORDS_PER_BLOCK &&
                       ckpt_blocks(c) < s->g.checkpoint_blocks;
    if (!p->ckpt_ok[copy]) {
        /* A crash while it was written looks like that too. */
        if (s->report)
            core_log(s->core, LOG_INFO, "store", "checkpoint copy %s is not valid", copy ? "B" : "A");
        if (!PLANT(STORE_CHECKPOINT_RETURNS))
            p->ckpt_void = 1u << copy;
        return;
    }
    s->ckpt_number[copy] = c->number;
    s->ckpt_replay[copy] = c->replay_seq;
    s->ckpt_last = MAX(s->ckpt_last, c->number);
    p->scan.durable_seq = MAX(p->scan.durable_seq, c->ring_seq);
    /* A batch may be torn that was under way then. Another one of its number would count as being in here. */
    if (!PLANT(STORE_NUMBER_AGAIN))
        s->next_seq = MAX(s->next_seq, c->replay_seq);
}

bool open_ckpt_choose(struct store_opening *p)
{
    if (!p->ckpt_ok[0] && !p->ckpt_ok[1])
        return false;
    p->ckpt_copy = p->ckpt_ok[0] && (!p->ckpt_ok[1] || p->ckpt[0].number > p->ckpt[1].number) ? 0 : 1;
    p->ckpt_done = 0;
    p->replay_seq = p->ckpt[p->ckpt_copy].replay_seq;
    return true;
}

bool open_ckpt_read(struct store_open *o)
{
    struct store_opening *p = o->opening;
    uint64_t left = ckpt_blocks(&p->ckpt[p->ckpt_copy]) - p->ckpt_done;

    if (!left)
        return false;
    p->ckpt_reading = MIN(left, (uint64_t)WORK_BLOCKS);
    open_read(
        o, p->s->g.checkpoint_block + (uint64_t)p->ckpt_copy * p->s->g.checkpoint_blocks + 1 + p->ckpt_done,
        p->ckpt_reading);
    return true;
}

bool open_ckpt_verify(struct store_opening *p, bool load)
{
    const struct disk_checkpoint *c = &p->ckpt[p->ckpt_copy];

    if (p->ckpt_done == 0)
        p->ckpt_crc = 0;
    for (uint64_t i = 0; i < p->ckpt_reading; i++) {
        const struct disk_checkpoint_block *b = (const struct disk_checkpoint_block *)p->work + i;
        if (p->io.result || b->magic != MAGIC_CKPT_BLOCK || !FORMAT_SEALED(b) || b->number != c->number ||
            b->block != p->ckpt_done + i || b->record_count > CKPT_RECORDS_PER_BLOCK ||
            memcmp(b->format_id, p->s->format_id, FORMAT_ID_BYTES) != 0) {
            store_problem(p->s, "checkpoint copy %s: block %llu is damaged", p->ckpt_copy ? "B" : "A",
                          (unsigned long long)(p->ckpt_done + i));
            return false;
        }
        p->ckpt_crc = crc32c(p->ckpt_crc, &b->crc, sizeof(b->crc));
        for (uint32_t r = 0; load && r < b->record_count; r++)
            replay_record(p->s, &b->records[r], 0);
    }
    p->ckpt_done += p->ckpt_reading;
    /* An earlier one may have had its number, of which no header told, or none that a start could read. */
    if (p->ckpt_done == ckpt_blocks(c) && c->blocks_crc && p->ckpt_crc != c->blocks_crc) {
        store_problem(p->s, "checkpoint copy %s: some of its blocks are of another one",
                      p->ckpt_copy ? "B" : "A");
        return false;
    }
    return true;
}
