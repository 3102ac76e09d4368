/* SPDX-License-Identifier: Apache-2.0
 *
 * The PG table: which replicas this shard has, with their terms and votes; and replicas in memory.
 *
 * Changed blocks are written to copy A and, when that is durable, to copy B; only then does the change count.
 * Both copies so hold everything that was ever acknowledged, and either may tear or rot without a vote being
 * forgotten. (Alternating between the copies would halve the writes, but one rotten block would then bring
 * back an older vote unnoticed.) Updates that arrive while a block is being written go together with its next
 * round. A round takes the blocks from the next changed one on, up to TABLE_RUN of them and round in turn:
 * when thousands of replicas vote at once it takes a few rounds, however they are spread. At open, if the
 * copies differ, the newer one is written to both before anything is done with it.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

struct pg *pg_by_key(const struct store *s, uint64_t key)
{
    struct map_node *node = map_get(&s->pgs_by_key, key);

    return node ? map_entry(node, struct pg, by_key) : NULL;
}

struct pg *pg_by_id(const struct store *s, uint64_t id)
{
    struct map_node *node = map_get(&s->pgs_by_id, id);

    return node ? map_entry(node, struct pg, by_id) : NULL;
}

struct store_pg *store_pg_find(const struct store *s, uint64_t id)
{
    struct pg *pg = pg_by_id(s, id);

    return pg && pg->pub.record.state != STORE_PG_UNBORN ? &pg->pub : NULL;
}

uint32_t store_pgs_max(const struct store *s)
{
    return s->config.pgs_max;
}

struct store_pg *store_pg_next(const struct store *s, const struct store_pg *after)
{
    const struct list *node = after ? pg_of(after)->link.next : s->pgs.next;

    while (node != &s->pgs && list_entry(node, struct pg, link)->pub.record.state == STORE_PG_UNBORN)
        node = node->next;
    return node == &s->pgs ? NULL : &list_entry(node, struct pg, link)->pub;
}

/* False: it cannot be one. */
static bool group_decode(const struct disk_pg *d, struct group *ret)
{
    *ret = (struct group){.index = d->group_index, .epoch = d->group_epoch, .count = d->group_count};
    for (uint32_t i = 0; i < MIN(d->group_count, GROUP_MEMBERS_MAX); i++) {
        const struct disk_group_member *m = &d->group[i];
        ret->members[i] = (struct group_member){m->replica, m->osd, m->shard, m->flags};
    }
    return d->group_index < FORMAT_NUMBER_MAX && group_validate(ret);
}

static void group_encode(struct disk_pg *d, const struct group *group)
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

struct pg *pg_new(struct store *s, const struct disk_pg *d, uint32_t table_index)
{
    struct pg *pg = calloc(1, sizeof(*pg));

    if (!pg)
        return NULL;
    pg->pub.store = s;
    pg->pub.record = (struct store_pg_record){.pg = d->pg,
                                              .replica = d->replica,
                                              .vote = d->vote,
                                              .term = d->term,
                                              .birth = d->birth,
                                              .state = (enum store_pg_state)d->state,
                                              .base_index = d->base_index,
                                              .base_term = d->base_term,
                                              .split_count = d->split_count};
    bool known = group_decode(d, &pg->pub.record.group);
    ASSERT(known); /* looked at before, or the host's */
    pg->pub.first_index = d->base_index + 1;
    pg->pub.last_index = pg->pub.durable_index = pg->pub.applied_index = d->base_index;
    pg->complete_index = pg->complete_durable = d->base_index;
    pg->complete_term = d->base_term;
    pg->key = d->key;
    pg->order = d->order;
    pg->table_index = table_index;
    list_init(&pg->pending_images);
    list_init(&pg->clear_link);
    struct list *at = s->pgs.prev;
    while (at != &s->pgs && list_entry(at, struct pg, link)->order > pg->order)
        at = at->prev;
    list_insert_before(at->next, &pg->link);
    map_put(&s->pgs_by_id, &pg->by_id, d->pg);
    map_put(&s->pgs_by_key, &pg->by_key, d->key);
    s->pg_count++;
    s->pg_order = MAX(s->pg_order, d->order);
    return pg;
}

/* Some of its objects go, with chunks and slots. True: there are no more. */
static bool pg_shed(struct pg *pg, uint64_t count)
{
    if (pg->log_cap)
        log_truncate(pg, pg->pub.first_index);
    for (struct object *o; (o = pg->root);) {
        if (!count--)
            return false;
        for (uint32_t b = 0; o->overlay && (b = overlay_next(o->overlay, b)) < BLOCKS_PER_OBJECT;)
            overlay_take(o, b);
        overlay_take_whole(o);
        overlay_settle(o);
        space_switch(o, NULL, 0);
        object_free(o);
    }
    return true;
}

/* Everything that is in memory of the replica goes, its chunks and slots become free. */
void pg_free(struct pg *pg)
{
    struct store *s = store_of(pg);

    (void)pg_shed(pg, UINT64_MAX);
    for (uint32_t i = 0; i < pg->image_count; i++)
        image_free(pg, pg->images[i]);
    free(pg->images);
    ASSERT(pg->offlog_holds == 0);
    s->long_logs -= pg->long_log;
    free(pg->log);
    list_remove(&pg->link);
    list_remove(&pg->clear_link);
    map_remove(&s->pgs_by_id, pg->pub.record.pg);
    map_remove(&s->pgs_by_key, pg->key);
    s->pg_count--;
    free(pg);
}

/* ---- table blocks -------------------------------------------------------------------------------------- */

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
            !group_decode(d, &group))
            return -ERR_FORMAT;
        if (!pg_new(s, d, index))
            return -ERR_NO_MEMORY;
    }
    return 0;
}

static struct disk_pg *table_record(struct store *s, uint32_t index)
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
    table_seal(s, block);
    return block;
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

/* The record changed: it goes out with the block's next round. Returns what written_gen will be then. */
static uint64_t table_touch(struct store *s, uint32_t index)
{
    struct table_block *b = &s->table[index / TABLE_RECORDS_PER_BLOCK];

    b->dirty = true;
    op_wake(&s->table_op);
    return ++b->gen;
}

void table_group_set(struct pg *pg, const struct group *group)
{
    pg->pub.record.group = *group;
    group_encode(table_record(store_of(pg), pg->table_index), group);
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

/* ---- creating and changing a record -------------------------------------------------------------------- */

/* start -> (a recovery's end: destage what the log left behind -> ring records durable) -> table -> done */
enum { PG_WRITE_START, PG_WRITE_DESTAGE, PG_WRITE_RING, PG_WRITE_TABLE };

static const char *pg_write_state(int state)
{
    static const char *const names[] = {"start", "destage", "ring", "table"};
    return names[state];
}

/* A key that is of no family here. */
static uint64_t key_new(const struct store *s)
{
    for (;;) {
        uint64_t key = core_random_u64(s->core);
        bool taken = key_is_family(key, 0);
        list_for_each (&s->pgs, node)
            taken |= key_is_family(key, list_entry(node, struct pg, link)->key);
        if (!taken)
            return key;
    }
}

struct pg *pg_create(struct store *s, const struct store_pg_record *r, uint64_t key,
                     enum store_pg_state state)
{
    for (uint32_t i = 0; i < s->g.pgs_max; i++) {
        struct disk_pg *d = table_record(s, i);
        if (d->key || s->pg_count >= s->config.pgs_max)
            continue;
        /* A record that is being removed has its key still; one whose removal is under way is zero but may be
         * on the device yet: the next round of its block decides about both at once. */
        *d = (struct disk_pg){.key = key ? key : key_new(s),
                              .pg = r->pg,
                              .replica = r->replica,
                              .vote = r->vote,
                              .term = r->term,
                              .birth = r->birth,
                              .order = s->pg_order + 1,
                              .state = (uint32_t)state,
                              .base_index = r->base_index,
                              .base_term = r->base_term};
        group_encode(d, &r->group);
        struct pg *pg = pg_new(s, d, i);
        if (!pg)
            memset(d, 0, sizeof(*d));
        return pg;
    }
    return NULL;
}

/* Can it become another replica? */
static int pg_force_check(const struct pg *pg)
{
    if (pg->pub.damaged || pg->pub.record.state != STORE_PG_NORMAL)
        return -ERR_DAMAGED;
    return pg->pub.durable_index == pg->pub.last_index ? 0 : -ERR_RETRY;
}

static void pg_write_table(struct store_pg_write *w, struct pg *pg)
{
    struct disk_pg *d = table_record(w->store, pg->table_index);

    if (w->force) {
        w->record.group.index = pg->pub.last_index;
        d->replica = w->record.replica;
        group_encode(d, &w->record.group);
    }
    d->vote = w->record.vote;
    d->term = w->record.term;
    d->state = (uint32_t)w->record.state;
    d->split_count = pg->pub.record.split_count;
    if (w->record.base_index >= d->base_index) {
        d->base_index = w->record.base_index;
        d->base_term = w->record.base_term;
    }
    w->table_index = pg->table_index;
    w->gen = table_touch(w->store, pg->table_index);
}

static void pg_write_end(struct store_pg_write *w, int result)
{
    if (w->wait) {
        ring_reflected(w->wait);
        slab_put(&w->store->slab, w->wait, sizeof(*w->wait));
        w->wait = NULL;
    }
    op_done(&w->op, result);
}

static void pg_write_step(struct op *op)
{
    struct store_pg_write *w = container_of(op, struct store_pg_write, op);
    struct store *s = w->store;

    for (;;) {
        struct pg *pg = pg_by_id(s, w->record.pg);
        if (s->failed) {
            list_remove(&w->waiter.link);
            pg_write_end(w, -ERR_STOPPED);
            return;
        }
        if (!pg && op->state != PG_WRITE_START) {
            pg_write_end(w, -ERR_NO_PG);
            return;
        }
        switch (op->state) {
        case PG_WRITE_START:
            if (!pg)
                pg = pg_create(s, &w->record, 0, STORE_PG_NORMAL);
            if (!pg || pg->removing || pg->pub.record.state == STORE_PG_UNBORN) {
                pg_write_end(w, pg ? -ERR_BUSY : -ERR_NO_MEMORY);
                return;
            }
            ASSERT(w->force || pg->pub.record.replica == w->record.replica);
            if (w->force && pg_force_check(pg)) {
                pg_write_end(w, pg_force_check(pg));
                return;
            }
            op->state = w->record.state == STORE_PG_NORMAL && pg->pub.record.state != STORE_PG_NORMAL
                            ? PG_WRITE_DESTAGE
                            : PG_WRITE_TABLE;
            if (op->state == PG_WRITE_TABLE)
                pg_write_table(w, pg);
            break;
        case PG_WRITE_DESTAGE:
            if (pg->offlog_holds) {
                list_remove(&w->waiter.link);
                list_push_back(&s->table_waiters, &w->waiter.link);
                destage_pg(pg);
                return;
            }
            w->wait = slab_get(&s->slab, sizeof(*w->wait));
            if (!w->wait) {
                pg_write_end(w, -ERR_NO_MEMORY);
                return;
            }
            ring_wait(s, w->wait, op);
            ring_hurry(s);
            op->state = PG_WRITE_RING;
            break;
        case PG_WRITE_RING:
            if (!w->wait->done)
                return;
            pg_write_table(w, pg);
            op->state = PG_WRITE_TABLE;
            break;
        case PG_WRITE_TABLE:
            if (s->table[w->table_index / TABLE_RECORDS_PER_BLOCK].written_gen < w->gen) {
                list_remove(&w->waiter.link);
                list_push_back(&s->table_waiters, &w->waiter.link);
                return;
            }
            if (w->gen > pg->record_gen) {
                pg->record_gen = w->gen;
                pg->pub.record.vote = w->record.vote;
                pg->pub.record.term = w->record.term;
                pg->pub.record.state = w->record.state;
            }
            if (w->force) {
                pg->pub.record.replica = w->record.replica;
                pg->pub.record.group = w->record.group;
            }
            w->ret_pg = &pg->pub;
            pg_write_end(w, 0);
            return;
        }
    }
}

static const struct op_kind PG_WRITE = {"store.pg_write", pg_write_state, pg_write_step};

static void pg_write_start(struct store_pg_write *w, struct store *store,
                           const struct store_pg_record *record, bool force, struct op *parent)
{
    w->store = store;
    w->record = *record;
    w->force = force;
    w->ret_pg = NULL;
    w->wait = NULL;
    list_init(&w->waiter.link);
    w->waiter.op = &w->op;
    op_start(&w->op, store->core, &PG_WRITE, parent);
}

void store_pg_write_start(struct store_pg_write *w, struct store *store, const struct store_pg_record *record,
                          struct op *parent)
{
    pg_write_start(w, store, record, false, parent);
}

void store_pg_force_start(struct store_pg_write *w, struct store *store, const struct store_pg_record *record,
                          struct op *parent)
{
    struct store_pg_record forced = *record;

    forced.vote = 0;
    forced.state = STORE_PG_NORMAL;
    pg_write_start(w, store, &forced, true, parent);
}

/* ---- removing ------------------------------------------------------------------------------------------ */

/* wait for destage to let go -> table -> memory, some objects in each turn -> done */
enum { PG_REMOVE_START, PG_REMOVE_TABLE, PG_REMOVE_MEMORY };
#define PG_SHED_STEP 128u /* objects: not a millisecond's work */

static const char *pg_remove_state(int state)
{
    static const char *const names[] = {"destage", "table", "memory"};
    return names[state];
}

static void pg_remove_step(struct op *op)
{
    struct store_pg_remove *r = container_of(op, struct store_pg_remove, op);
    struct pg *pg = pg_of(r->pg);
    struct store *s = store_of(pg);

    if (s->failed) {
        list_remove(&r->waiter.link);
        timer_cancel(s->core, &r->timer);
        op_done(op, -ERR_STOPPED);
        return;
    }
    switch (op->state) {
    case PG_REMOVE_START:
        pg->removing = true;
        if (s->destage.active || pg->busy_ops) {
            list_remove(&r->waiter.link);
            list_push_back(&s->table_waiters, &r->waiter.link);
            return;
        }
        memset(table_record(s, pg->table_index), 0, sizeof(struct disk_pg));
        r->table_index = pg->table_index;
        r->gen = table_touch(s, pg->table_index);
        op->state = PG_REMOVE_TABLE;
        /* fall through */
    case PG_REMOVE_TABLE:
        /* What the record named is garbage once it is durable that it is gone. */
        if (s->table[r->table_index / TABLE_RECORDS_PER_BLOCK].written_gen < r->gen || s->destage.active ||
            pg->busy_ops) {
            list_remove(&r->waiter.link);
            list_push_back(&s->table_waiters, &r->waiter.link);
            return;
        }
        op->state = PG_REMOVE_MEMORY;
        /* fall through */
    case PG_REMOVE_MEMORY:
        if (timer_armed(&r->timer))
            return;
        if (!pg_shed(pg, PG_SHED_STEP)) {
            timer_arm(s->core, &r->timer, op, core_now_ns(s->core));
            return;
        }
        pg_free(pg);
        destage_wake(s); /* it may have held the tail of the ring */
        op_done(op, 0);
        return;
    }
}

static const struct op_kind PG_REMOVE = {"store.pg_remove", pg_remove_state, pg_remove_step};

void store_pg_remove_start(struct store_pg_remove *r, struct store_pg *pg, struct op *parent)
{
    list_init(&r->waiter.link);
    r->waiter.op = &r->op;
    op_start(&r->op, pg->store->core, &PG_REMOVE, parent);
    r->pg = pg;
}
