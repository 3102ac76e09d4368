/* SPDX-License-Identifier: Apache-2.0
 *
 * What an image's record voids: the objects of one that is removed, or lies behind its end now.
 *
 * They may be very many, of many PGs at once, and a turn is to look at only a few of them. So the entry that
 * sets the record clears them before it is applied, some in each turn, in the order of their numbers;
 * meanwhile it is the next one that applies, what is behind it waits, and readers still meet the old record.
 * After a crash it is done again, and finds what is as new as the entry already. PGs that clear take turns;
 * one that has nothing to clear waits for nothing.
 */
#include "store/internal.h"

#include "base/plant.h"

/* Objects in each turn: not a millisecond's work, be none of them in the processor's cache. In the
 * simulator images are small. */
#define CLEAR_STEP PLANT_LIMIT(128u, 2u)

void object_clear(struct object *o, uint32_t first, struct log_entry *e)
{
    if (!object_takes(o) || o->index >= e->index)
        return;
    if (first ? overlay_need_blocks(o) : overlay_need(o)) {
        object_out_of_memory(o);
        return;
    }
    if (first == 0)
        overlay_put_whole(o, e);
    for (uint32_t b = first; first && b < BLOCKS_PER_OBJECT; b++)
        overlay_put(o, b, e);
    o->index = e->index;
}

/* From object *next on, *left of them, which is brought up to date. True: those were all. */
static bool clear_some(struct pg *pg, const struct image_record *r, struct log_entry *e, bool whole_only,
                       uint64_t *next, uint64_t *left)
{
    uint64_t end = r->deleted || r->forgotten ? 0 : image_end(r->size_bytes);
    uint64_t number = end / BLOCKS_PER_OBJECT, from = MAX(*next, number);
    uint32_t first = (uint32_t)(end % BLOCKS_PER_OBJECT);
    struct object *o = object_find(pg, r->image, from);

    if (!o)
        o = object_after(pg, false, r->image, from);
    for (; o && o->image == r->image; o = object_after(pg, false, o->image, o->number)) {
        *next = o->number;
        if (*left == 0)
            return false;
        --*left;
        if (o->number != number || first == 0 || !whole_only)
            object_clear(o, o->number == number ? first : 0, e);
    }
    return true;
}

void image_enforce(struct pg *pg, const struct image_record *r, struct log_entry *e, bool whole_only)
{
    uint64_t next = 0, all = UINT64_MAX;

    pg->removals += r->deleted || r->forgotten;
    pg->pub.gone_index = MAX(pg->pub.gone_index, r->index);
    (void)clear_some(pg, r, e, whole_only, &next, &all);
}

/* Who waits longest comes again, sooner or later: it is not waited for. */
static void clear_call(struct store *s)
{
    struct list *first = list_pop_front(&s->clearing);
    const struct pg *pg = first ? list_entry(first, struct pg, clear_link) : NULL;

    if (pg && pg->pub.waiter)
        op_wake(pg->pub.waiter);
}

/* The record of that entry, or of a later one, may be known before the entry applies: a recovery brings
 * records ahead of the log, without all that they void. The next one may go on from an earlier state. */
static bool record_voids(const struct pg *pg, const struct image_record *r)
{
    const struct image *image = image_slot(pg, r->image);

    return image_takes(pg, r) || (image && image->record.index >= r->index);
}

bool clear_ahead(struct log_entry *e)
{
    struct pg *pg = e->pg;
    struct store *s = store_of(pg);
    struct image_record r = image_of_entry(e);

    if (r.forgotten ? !e->image : !record_voids(pg, &r))
        return true;
    if (pg->clear_index != e->index)
        pg->clear_number = 0;
    pg->clear_index = e->index;
    pg->pub.gone_index = e->index;
    pg->removals += r.deleted || r.forgotten;
    if (list_linked(&pg->clear_link))
        return false;
    bool done = clear_some(pg, &r, e, false, &pg->clear_number, &s->clear_left);
    if (!done)
        list_push_back(&s->clearing, &pg->clear_link);
    else if (s->clear_left > 0)
        clear_call(s);
    if (!timer_armed(&s->clear))
        timer_arm(s->core, &s->clear, &s->ring_op, core_now_ns(s->core)); /* requests come first */
    return done;
}

bool store_applying(const struct store_pg *pub)
{
    return pg_of(pub)->clear_index == pub->applied_index + 1;
}

bool store_clearing(const struct store_pg *pub, uint64_t image)
{
    const struct log_entry *e = store_applying(pub) ? log_at(pg_of(pub), pub->applied_index + 1) : NULL;

    return e && e->image == image;
}

void clear_go_on(struct store *s)
{
    if (timer_armed(&s->clear))
        return;
    s->clear_left = CLEAR_STEP;
    clear_call(s);
    if (!list_empty(&s->clearing))
        timer_arm(s->core, &s->clear, &s->ring_op, core_now_ns(s->core));
}
