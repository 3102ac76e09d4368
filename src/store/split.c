/* SPDX-License-Identifier: Apache-2.0
 *
 * A PG is split: a part of its objects goes to a new replica, the child.
 *
 *   start -> complete (all that was applied is destaged) -> table (the child, UNBORN) -> records -> ring
 *     -> move -> commit -> done
 *
 * What goes is clean by then: each object is its page, so the child gets a record that says which slot the
 * page is in, and copies of the image records; nothing on the device moves. These records go first, then one
 * that says that the parent has none of these objects any more, and that the child is born. With that one
 * durable it is done: from that turn on the parent shows none of them, and the entry is applied. What follows
 * in the table only lets the record go. Without it the child is forgotten at the next start; and what the
 * ring has of it then is void by the record with which the next attempt begins, for the key is the same. The
 * child's state so hangs on nothing that is its parent's: either may leave the device first.
 *
 * A PG may have very many objects. So their records are pushed, and they change hands in memory, a few in
 * each turn; from before the first until after the last of these nobody changes anything about them
 * (`splitting`).
 *
 * Pages keep the key that they were written with, their first PG's: of a family all keys are alike but for
 * the numbers of the PGs, and each object has one page that is live.
 *
 * A replica that recovers to a state behind a split is split in front of that, without the entry
 * (store_split_behind_start()). Its log stays, for it is what it votes by, but will not be applied: entries
 * for what goes stay with the parent. The child is RECOVERING from its birth on, and takes no records along.
 */
#include "base/placement.h"
#include "store/opening.h"

bool split_belongs(const struct pg *pg, uint32_t split_count, uint64_t image, uint64_t number)
{
    return !split_count || placement_pg_number(image, number, split_count) == (uint32_t)pg->pub.record.pg;
}

bool split_hides(const struct object *o)
{
    const struct pg *pg = o->pg;

    return pg->splitting && !split_belongs(pg, pg->pub.record.split_count, o->image, o->number);
}

/* ---- a few objects, or images, in each turn -------------------------------------------------------------
 */

/* That are looked at: not a millisecond's work, be none of them in the processor's cache. */
#define SPLIT_STEP PLANT_SCARCE(128u, 3u)

static void cursor_reset(struct store_split *w)
{
    w->begun = false;
    w->image = w->object = 0;
    w->images = 0;
}

/* The next object of the parent that goes. NULL: there is none among those that may be looked at in this
 * turn, whose number is `left`; which is then not 0 if that were all. */
static struct object *object_next(struct store_split *w, const struct pg *parent, uint32_t *left)
{
    while (*left) {
        struct object *o = object_after(parent, !w->begun, w->image, w->object);
        if (!o)
            return NULL;
        (*left)--;
        w->begun = true;
        w->image = o->image;
        w->object = o->number;
        if (!split_belongs(parent, w->split_count, o->image, o->number))
            return o;
    }
    return NULL;
}

/* In the next turn: requests come first. */
static void split_pause(struct store_split *w)
{
    timer_arm(w->store->core, &w->timer, &w->op, core_now_ns(w->store->core));
}

/* ---- the child's state, as records --------------------------------------------------------------------- */

/* Is it its page, and nobody is about to change that? */
static bool object_is_clean(const struct object *o)
{
    return !o->overlay && !o->pending && !o->busy && list_empty(&o->unapplied);
}

/* What is there of others has come back with the copy of an earlier state (osd/recover.c), and only goes. */
static bool is_childs(const struct store_split *w, const struct object *o)
{
    return w->births && placement_pg_number(o->image, o->number, w->split_count) == (uint32_t)w->child.pg;
}

/* ERR_FORMAT: the log has entries for what is not the PG's any more. */
static int push_objects(struct store_split *w, const struct pg *parent, uint32_t *left)
{
    for (const struct object *o; (o = object_next(w, parent, left));) {
        struct disk_record r = {
            .type = RECORD_SLOT,
            .slot = o->slot,
            .key = w->key,
            .image = o->image,
            .slot_of = {.object = o->number, .index = o->page_index, .version = o->version}};
        if (!w->behind && !object_is_clean(o))
            return -ERR_FORMAT;
        if (o->slot && is_childs(w, o))
            ring_record_later(w->store, &r);
    }
    return 0;
}

static void push_image(struct store *s, struct pg *child, const struct image *from)
{
    if (from->record.forgotten || PLANT(STORE_SPLIT_NO_RECORDS))
        return;
    if (image_put(child, &from->record, NULL)) {
        store_fail(s, -ERR_NO_MEMORY, "no memory for an image record");
        return;
    }
    struct image *image = image_find(child, from->record.image);
    struct disk_record r = image_encode(child, &image->record);
    r.flags |= RECORD_IMAGE_NOW;
    image->saved = image->record;
    image->is_saved = true;
    ring_record_later(s, &r);
}

static void push_images(struct store_split *w, const struct pg *parent, struct pg *child, uint32_t *left)
{
    for (; *left && w->images < parent->image_count && !w->store->failed; (*left)--)
        push_image(w->store, child, parent->images[w->images++]);
}

static void push_floor(struct store *s, const struct pg *parent, struct pg *child)
{
    struct disk_record r = {
        .type = RECORD_FLOOR, .key = child->key, .floor_of = {.epoch = parent->pub.floor_epoch}};

    child->pub.floor_epoch = parent->pub.floor_epoch;
    if (child->pub.floor_epoch)
        ring_record_later(s, &r);
}

/* What an earlier attempt has left in the ring, before a crash, is void. */
static void push_birth(struct store_split *w)
{
    struct disk_record r = {.type = RECORD_RESET,
                            .flags = RECORD_RESET_BIRTH,
                            .key = w->key,
                            .log_of = {.index = w->index, .term = w->term}};

    if (w->births)
        ring_record_later(w->store, &r);
}

static void push_split(struct store_split *w, const struct pg *parent)
{
    struct disk_record r = {.type = RECORD_SPLIT,
                            .flags = w->behind ? RECORD_SPLIT_RECOVERING : 0,
                            .key = parent->key,
                            .split_of = {.parent_key = parent->key,
                                         .child_key = w->births ? w->key : 0,
                                         .split_count = w->split_count}};

    ring_record_later(w->store, &r);
    /* If the batch is lost the next one names both, and either record will do. */
    r.key = w->key;
    if (w->births)
        ring_record_later(w->store, &r);
}

/* 1: those of this turn; 0: all of them. */
static int push_some(struct store_split *w, const struct pg *parent, struct pg *child)
{
    uint32_t left = SPLIT_STEP;
    int rc = push_objects(w, parent, &left);
    bool records = child && !w->behind;

    if (rc == 0 && records)
        push_images(w, parent, child, &left);
    bool all = rc == 0 && left;
    if (all && records)
        push_floor(w->store, parent, child);
    if (all)
        push_split(w, parent);
    ring_wait_more(w->store, w->wait);
    ring_hurry(w->store);
    return rc ? rc : !all;
}

/* ---- in memory ----------------------------------------------------------------------------------------- */

static enum store_pg_state child_state(const struct store_split *w)
{
    return w->behind ? STORE_PG_RECOVERING : STORE_PG_NORMAL;
}

/* The entry is applied, in one turn. Those that go are out of sight from here on. */
static void hand_over(struct store_split *w, struct pg *parent, struct pg *child)
{
    parent->pub.record.split_count = MAX(parent->pub.record.split_count, w->split_count);
    w->parent_gen = table_split_set(parent);
    w->child_gen = child ? table_state_set(child, child_state(w)) : 0;
    if (child)
        child->pub.newest_index = parent->pub.newest_index;
    if (w->behind)
        return;
    entry_apply(log_at(parent, parent->pub.applied_index + 1));
    parent->pub.applied_index++;
}

/* What the log has for the object will not be applied, and needs no room. */
static void give_up_room(struct object *o)
{
    list_for_each (&o->unapplied, node)
        entry_unreserve(list_entry(node, struct log_entry, obj_link));
}

/* It stays with the parent. */
static void leave_log(struct object *o, struct pg *child)
{
    struct pg *parent = o->pg;
    struct object *rest = NULL;
    struct list entries;

    list_init(&entries);
    list_splice_back(&entries, &o->unapplied);
    object_move(o, child);
    while (!list_empty(&entries)) {
        struct log_entry *e = list_entry(entries.next, struct log_entry, obj_link);
        list_remove(&e->obj_link);
        rest = rest ? rest : object_get(parent, o->image, o->number);
        e->obj = rest;
        if (rest)
            list_push_back(&rest->unapplied, &e->obj_link);
        else
            store_fail(store_of(parent), -ERR_NO_MEMORY, "no memory for what a log has of objects");
    }
    object_settle(o); /* it may have been in the log alone */
}

/* False: those of this turn. */
static bool move_some(struct store_split *w, struct pg *parent, struct pg *child)
{
    uint32_t left = SPLIT_STEP;

    for (struct object *o; (o = object_next(w, parent, &left));) {
        if (child && PLANT(STORE_SPLIT_KEEPS) && o->number % 2)
            continue;
        give_up_room(o);
        if (is_childs(w, o)) {
            leave_log(o, child);
        } else {
            space_switch(o, NULL, 0);
            o->index = o->page_index = 0;
            object_settle(o);
        }
    }
    return left;
}

/* ---- the op -------------------------------------------------------------------------------------------- */

enum { SPLIT_START, SPLIT_COMPLETE, SPLIT_TABLE, SPLIT_RECORDS, SPLIT_RING, SPLIT_MOVE, SPLIT_COMMIT };

static const char *split_state(int state)
{
    static const char *const names[] = {"start", "complete", "table", "records", "ring", "move", "commit"};
    return names[state];
}

static bool table_has(const struct store *s, const struct pg *pg, uint64_t gen)
{
    return !pg || s->table[pg->table_index / TABLE_RECORDS_PER_BLOCK].written_gen >= gen;
}

static void split_await(struct store_split *w)
{
    list_remove(&w->waiter.link);
    list_push_back(&w->store->table_waiters, &w->waiter.link);
}

static void split_end(struct store_split *w, struct pg *parent, int result)
{
    struct store *s = w->store;

    list_remove(&w->waiter.link);
    timer_cancel(s->core, &w->timer);
    if (w->wait) {
        ring_reflected(w->wait);
        slab_put(&s->slab, w->wait, sizeof(*w->wait));
        w->wait = NULL;
    }
    parent->splitting = false;
    table_wake(s);
    destage_wake(s);
    op_done(&w->op, result);
}

static void split_start(struct store_split *w, struct pg *parent)
{
    const struct log_entry *e = log_at(parent, parent->pub.applied_index + 1);

    if (w->behind) {
        ASSERT(parent->pub.record.state == STORE_PG_RECOVERING);
        w->index = parent->pub.applied_index;
        w->term = store_log_term(&parent->pub, w->index);
    } else {
        ASSERT(e && e->type == ENTRY_SPLIT && !e->applied);
        w->index = e->index;
        w->term = e->term;
        w->split_count = (uint32_t)e->image + 1;
    }
    w->key = parent->key ^ (uint32_t)parent->pub.record.pg ^ (w->split_count - 1);
    /* Applied once more after a restart: what was born then may have gone since. */
    w->births &= parent->pub.record.split_count < w->split_count;
}

/* 0: not yet. */
static int split_prepare(struct store_split *w, struct pg *parent)
{
    struct store *s = w->store;

    if (parent->complete_durable < parent->pub.applied_index || parent->offlog_holds) {
        if (parent->offlog_holds)
            destage_pg(parent);
        /* Once: what destage then has to wait for, and the table, wakes it. */
        if (!w->asked)
            destage_up_to(parent, parent->pub.applied_index);
        w->asked = true;
        return 0;
    }
    if (parent->busy_ops)
        return 0;
    /* It may also have come by an order while we waited. */
    w->births &= !pg_by_id(s, w->child.pg);
    w->wait = slab_get(&s->slab, sizeof(*w->wait));
    if (!w->wait)
        return -ERR_NO_MEMORY;
    list_init(&w->wait->link);
    if (w->births && s->image_count > s->g.images_max)
        return -ERR_NO_SPACE;
    w->child.term = w->term;
    w->child.vote = 0;
    w->child.base_index = w->index;
    w->child.base_term = w->term;
    struct pg *child = w->births ? pg_create(s, &w->child, w->key, STORE_PG_UNBORN) : NULL;
    if (w->births && !child)
        return -ERR_NO_SPACE;
    parent->splitting = true;
    w->child_gen = child ? table_split_set(child) : 0;
    return 1;
}

static void split_step(struct op *op)
{
    struct store_split *w = container_of(op, struct store_split, op);
    struct store *s = w->store;
    struct pg *parent = pg_by_id(s, w->pg), *child = w->births ? pg_by_key(s, w->key) : NULL;
    int rc;

    for (;;) {
        if (s->failed) {
            split_end(w, parent, -ERR_STOPPED);
            return;
        }
        switch (op->state) {
        case SPLIT_START:
            split_start(w, parent);
            op->state = SPLIT_COMPLETE;
            break;
        case SPLIT_COMPLETE:
            rc = split_prepare(w, parent);
            if (rc < 0) {
                split_end(w, parent, rc);
                return;
            }
            if (rc == 0) {
                split_await(w);
                return;
            }
            child = w->births ? pg_by_key(s, w->key) : NULL;
            op->state = SPLIT_TABLE;
            break;
        case SPLIT_TABLE:
            if (!table_has(s, child, w->child_gen)) {
                split_await(w);
                return;
            }
            cursor_reset(w);
            ring_wait(s, w->wait, op);
            push_birth(w);
            op->state = SPLIT_RECORDS;
            break;
        case SPLIT_RECORDS:
            if (timer_armed(&w->timer))
                return;
            /* No more than a batch takes at once: entries of others want to go with them. */
            if (s->record_count >= SPLIT_STEP) {
                ring_wait_more(s, w->wait);
                ring_hurry(s);
                return;
            }
            rc = push_some(w, parent, child);
            if (rc < 0)
                store_fail(s, rc, "a PG that is split has entries for objects that are not its own");
            else if (rc > 0)
                split_pause(w);
            else
                op->state = SPLIT_RING;
            break;
        case SPLIT_RING:
            if (!w->wait->done && !PLANT(STORE_SPLIT_EARLY))
                return;
            hand_over(w, parent, child);
            cursor_reset(w);
            op->state = SPLIT_MOVE;
            break;
        case SPLIT_MOVE:
            if (timer_armed(&w->timer))
                return;
            if (move_some(w, parent, child))
                op->state = SPLIT_COMMIT;
            else
                split_pause(w);
            break;
        case SPLIT_COMMIT:
            /* A checkpoint that was begun before may have half of what moved. It is completed by the records,
             * which it does not claim; so the tail stays in front of them until it is written over. */
            if (!table_has(s, parent, w->parent_gen) || !table_has(s, child, w->child_gen)) {
                split_await(w);
                return;
            }
            if (child)
                child->pub.record.state = child_state(w);
            w->ret_child = child ? &child->pub : NULL;
            split_end(w, parent, 0);
            return;
        }
    }
}

static const struct op_kind SPLIT = {"store.split", split_state, split_step};

static void split_op_start(struct store_split *w, struct store_pg *pg, bool behind, uint32_t split_count,
                           const struct store_pg_record *child, struct op *parent)
{
    w->store = pg->store;
    w->pg = pg->record.pg;
    w->behind = behind;
    w->split_count = split_count;
    w->births = child != NULL;
    w->asked = false;
    w->child = child ? *child : (struct store_pg_record){0};
    w->ret_child = NULL;
    w->wait = NULL;
    list_init(&w->waiter.link);
    w->waiter.op = &w->op;
    op_start(&w->op, pg->store->core, &SPLIT, parent);
}

void store_split_start(struct store_split *w, struct store_pg *pg, const struct store_pg_record *child,
                       struct op *parent)
{
    split_op_start(w, pg, false, 0, child, parent);
}

void store_split_behind_start(struct store_split *w, struct store_pg *pg, uint32_t split_count,
                              const struct store_pg_record *child, struct op *parent)
{
    split_op_start(w, pg, true, split_count, child, parent);
}

int store_can_split(const struct store_pg *pub)
{
    const struct store *s = pub->store;

    return s->pg_count < s->config.pgs_max && s->image_count + pg_of(pub)->image_count <= s->g.images_max
               ? 0
               : -ERR_NO_SPACE;
}

/* ---- at the start -------------------------------------------------------------------------------------- */

void replay_split(struct store *s, const struct disk_record *r, uint64_t seq)
{
    struct pg *parent = pg_by_key(s, r->split_of.parent_key);
    struct pg *child = r->split_of.child_key ? pg_by_key(s, r->split_of.child_key) : NULL;

    if (r->split_of.split_count < 2 || r->split_of.split_count > UINT32_MAX) {
        store_problem(s, "a split at the impossible count %llu", (unsigned long long)r->split_of.split_count);
        return;
    }
    if (child && child->pub.record.state == STORE_PG_UNBORN)
        child->pub.record.state = r->flags & RECORD_SPLIT_RECOVERING && !PLANT(STORE_SPLIT_BORN_WHOLE)
                                      ? STORE_PG_RECOVERING
                                      : STORE_PG_NORMAL;
    if (!parent)
        return;
    uint32_t split_count = (uint32_t)r->split_of.split_count;
    parent->pub.record.split_count = MAX(parent->pub.record.split_count, split_count);
    for (struct object *o = object_after(parent, true, 0, 0); o;
         o = object_after(parent, false, o->image, o->number))
        /* What came back since then is in the checkpoint: each page has at least the number of the batch that
         * was next when it was made, and an earlier one that of a batch before this one. */
        if (o->version <= seq && !split_belongs(parent, split_count, o->image, o->number)) {
            o->slot = 0;
            o->index = o->page_index = 0;
        }
}
