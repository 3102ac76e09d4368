/* SPDX-License-Identifier: Apache-2.0
 *
 * Replicas of PGs: in memory, and how they are made, changed and removed. What has to last goes to the PG
 * table (table.c) first.
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
    bool known = table_group_decode(d, &pg->pub.record.group);
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
        table_group_encode(d, &r->group);
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
        table_group_encode(d, &w->record.group);
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
/* Objects: not a millisecond's work. In the simulator PGs are small. */
#define PG_SHED_STEP PLANT_LIMIT(128u, 4u)

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
