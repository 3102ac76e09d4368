/* SPDX-License-Identifier: Apache-2.0
 *
 * The PG table: which replicas this shard has, with their terms and votes.
 *
 * Changed blocks are written to copy A and, when that is durable, to copy B; only then does the change count.
 * Both copies so hold everything that was ever acknowledged, and either may tear or rot without a vote being
 * forgotten. (Alternating between the copies would halve the writes, but one rotten block would then bring
 * back an older vote unnoticed.) Updates that arrive while a block is being written go together with its next
 * round. A round takes the blocks from the next changed one on, up to TABLE_RUN of them and round in turn:
 * when thousands of replicas vote at once it takes a few rounds, however they are spread. At open, if the
 * copies differ, the newer one is written to both before anything is done with it.
 */
#include <string.h>

#include "store/internal.h"

bool table_group_decode(const struct disk_pg *d, struct group *ret)
{
    *ret = (struct group){.index = d->group_index, .epoch = d->group_epoch, .count = d->group_count};
    for (uint32_t i = 0; i < MIN(d->group_count, GROUP_MEMBERS_MAX); i++) {
        const struct disk_group_member *m = &d->group[i];
        ret->members[i] = (struct group_member){m->replica, m->osd, m->shard, m->flags};
    }
    return d->group_index < FORMAT_NUMBER_MAX && group_validate(ret);
}

void table_group_encode(struct disk_pg *d, const struct group *group)
{
    d->group_index = group->index;
    d->group_epoch = group->epoch;
    d->group_count = group->count;
    memset(d->group, 0, sizeof(d->group));
    for (uint32_t i = 0; i < group->count; i++) {
        const struct group_member *m = &group->members[i];
        d->group[i] = (struct disk_group_member){m->replica, m->osd, (uint16_t)m->shard, (uint16_t)m->flags};
    }
}

static int table_block_validate(const struct store *s, const struct disk_table_block *b, uint32_t block)
{
    if (b->magic != MAGIC_PG_TABLE || !FORMAT_SEALED(b) || b->block != block ||
        memcmp(b->format_id, s->format_id, FORMAT_ID_BYTES) != 0 || b->seq >= FORMAT_NUMBER_MAX ||
        b->ring_seq >= FORMAT_NUMBER_MAX)
        return -ERR_CHECKSUM;
    return 0;
}

int table_load(struct store *s, const struct disk_table_block *a, const struct disk_table_block *b,
               uint32_t block, bool *ret_heal_a, bool *ret_heal_b)
{
    bool ok_a = table_block_validate(s, a, block) == 0, ok_b = table_block_validate(s, b, block) == 0;

    *ret_heal_a = *ret_heal_b = false;
    if (!ok_a && !ok_b)
        return -ERR_DAMAGED;
    const struct disk_table_block *newer = !ok_b || (ok_a && a->seq >= b->seq) ? a : b;
    *ret_heal_a = !ok_a || a->seq != newer->seq;
    *ret_heal_b = !ok_b || b->seq != newer->seq;
    s->table[block].disk = *newer;
    s->durable_seq = MAX(s->durable_seq, newer->ring_seq);
    for (uint32_t i = 0; i < TABLE_RECORDS_PER_BLOCK; i++) {
        const struct disk_pg *d = &newer->records[i];
        struct group group;
        uint32_t index = block * TABLE_RECORDS_PER_BLOCK + i;
        if (d->key == 0)
            continue;
        if (index >= s->g.pgs_max || d->state > STORE_PG_UNBORN || d->base_index >= FORMAT_NUMBER_MAX ||
            d->order >= FORMAT_NUMBER_MAX || pg_by_id(s, d->pg) || pg_by_key(s, d->key) ||
            !table_group_decode(d, &group))
            return -ERR_FORMAT;
        if (!pg_new(s, d, index))
            return -ERR_NO_MEMORY;
    }
    return 0;
}

struct disk_pg *table_record(struct store *s, uint32_t index)
{
    return &s->table[index / TABLE_RECORDS_PER_BLOCK].disk.records[index % TABLE_RECORDS_PER_BLOCK];
}

static void table_seal(struct store *s, uint32_t block)
{
    struct disk_table_block *disk = &s->table[block].disk;

    disk->magic = MAGIC_PG_TABLE;
    disk->block = block;
    disk->seq++;
    memcpy(disk->format_id, s->format_id, FORMAT_ID_BYTES);
    FORMAT_SEAL(disk);
}

uint32_t table_set_state(struct store *s, const struct pg *pg)
{
    uint32_t block = pg->table_index / TABLE_RECORDS_PER_BLOCK;
    struct disk_pg *d = table_record(s, pg->table_index);

    d->state = (uint32_t)pg->pub.record.state;
    d->split_count = pg->pub.record.split_count;
    /* What says so is in the ring, and must not get lost unnoticed. */
    s->table[block].disk.ring_seq = MAX(s->table[block].disk.ring_seq, s->durable_seq);
    table_seal(s, block);
    return block;
}

uint32_t table_prove(struct store *s)
{
    s->table[0].disk.ring_seq = MAX(s->table[0].disk.ring_seq, s->durable_seq);
    table_seal(s, 0);
    return 0;
}

bool table_differs(const struct store *s, const struct pg *pg)
{
    const struct disk_pg *d = &s->table[pg->table_index / TABLE_RECORDS_PER_BLOCK]
                                   .disk.records[pg->table_index % TABLE_RECORDS_PER_BLOCK];

    return d->state != (uint32_t)pg->pub.record.state || d->split_count != pg->pub.record.split_count;
}

uint32_t table_forget(struct store *s, const struct pg *pg)
{
    uint32_t block = pg->table_index / TABLE_RECORDS_PER_BLOCK;

    memset(table_record(s, pg->table_index), 0, sizeof(struct disk_pg));
    table_seal(s, block);
    return block;
}

uint64_t table_touch(struct store *s, uint32_t index)
{
    struct table_block *b = &s->table[index / TABLE_RECORDS_PER_BLOCK];

    b->dirty = true;
    op_wake(&s->table_op);
    return ++b->gen;
}

void table_group_set(struct pg *pg, const struct group *group)
{
    pg->pub.record.group = *group;
    table_group_encode(table_record(store_of(pg), pg->table_index), group);
    pg->group_gen = table_touch(store_of(pg), pg->table_index);
}

uint64_t table_split_set(struct pg *pg)
{
    struct disk_pg *d = table_record(store_of(pg), pg->table_index);

    d->split_count = pg->pub.record.split_count;
    return table_touch(store_of(pg), pg->table_index);
}

uint64_t table_state_set(struct pg *pg, enum store_pg_state state)
{
    table_record(store_of(pg), pg->table_index)->state = (uint32_t)state;
    return table_touch(store_of(pg), pg->table_index);
}

bool table_group_durable(const struct pg *pg)
{
    return store_of(pg)->table[pg->table_index / TABLE_RECORDS_PER_BLOCK].written_gen >= pg->group_gen;
}

/* idle -> copy A -> copy B -> idle. On a device with a volatile cache the writes are FUA. */
enum { TABLE_IDLE, TABLE_A, TABLE_B };

static const char *table_state(int state)
{
    static const char *const names[] = {"idle", "copy A", "copy B"};
    return names[state];
}

/* The next round: from a changed block to the last one that is near enough. Those between are written as they
 * are. */
static bool table_next(struct store *s)
{
    uint32_t blocks = (uint32_t)s->g.table_blocks, first = s->table_at + s->table_count, count = 0;

    for (uint32_t looked = 0; looked < blocks && !count; looked++) {
        first = first < blocks ? first : 0;
        if (s->table[first].dirty)
            count = 1;
        else
            first++;
    }
    if (!count)
        return false;
    for (uint32_t i = 1; i < MIN(TABLE_RUN, blocks - first); i++)
        count = s->table[first + i].dirty ? i + 1 : count;
    for (uint32_t i = 0; i < count; i++) {
        struct table_block *b = &s->table[first + i];
        b->dirty = false;
        b->disk.ring_seq = s->durable_seq;
        table_seal(s, first + i);
        memcpy(s->table_buf->data + (size_t)i * BLOCK_SIZE, &b->disk, BLOCK_SIZE);
        b->writing_gen = b->gen;
    }
    s->table_at = first;
    s->table_count = count;
    return true;
}

static void table_write(struct store *s, int copy)
{
    io_start(s->blk, &s->table_io, &s->table_iov, BLK_WRITE, PLANT(STORE_NO_FLUSH) ? 0 : fua(s),
             s->g.table_block + (uint64_t)copy * s->g.table_blocks + s->table_at, s->table_buf->data,
             s->table_count, &s->table_op);
}

void table_wake(struct store *s)
{
    struct list woken;

    list_init(&woken);
    list_splice_back(&woken, &s->table_waiters);
    for (struct list *node; (node = list_pop_front(&woken));) {
        op_wake(list_entry(node, struct store_waiter, link)->op);
    }
}

static void table_written(struct store *s)
{
    for (uint32_t i = s->table_at; i < s->table_at + s->table_count; i++)
        s->table[i].written_gen = s->table[i].writing_gen;
    table_wake(s);
    destage_wake(s); /* the entry of a group may have held the tail */
}

static void table_step(struct op *op)
{
    struct store *s = container_of(op, struct store, table_op);

    for (;;) {
        switch (op->state) {
        case TABLE_IDLE:
            if (s->closing) {
                struct op *waiter = s->close_waiter;
                op_done(op, 0);
                op_wake(waiter);
                return;
            }
            if (s->failed || !table_next(s))
                return;
            op->state = TABLE_A;
            table_write(s, 0);
            return;
        case TABLE_A:
        case TABLE_B:
            if (s->table_io.pending)
                return;
            if (s->table_io.result) {
                store_fail(s, s->table_io.result, "a write to the PG table failed");
                op->state = TABLE_IDLE;
                break;
            }
            if (op->state == TABLE_A) {
                op->state = TABLE_B;
                table_write(s, 1);
                return;
            }
            table_written(s);
            op->state = TABLE_IDLE;
            break;
        }
    }
}

static const struct op_kind TABLE = {"store.table", table_state, table_step};

void table_start(struct store *s)
{
    op_start(&s->table_op, s->core, &TABLE, NULL);
}
