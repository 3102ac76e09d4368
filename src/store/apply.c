/* SPDX-License-Identifier: Apache-2.0
 *
 * Applying committed entries, in memory: writes and clears take overlay places of their object, an IMAGE
 * entry changes the image's record (what that voids: clear.c). Image records.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

/* ---- image records ------------------------------------------------------------------------------------- */

uint32_t image_place(const struct pg *pg, uint64_t id)
{
    uint32_t low = 0, high = pg->image_count;

    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (pg->images[mid]->record.image < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct image *image_slot(const struct pg *pg, uint64_t id)
{
    uint32_t at = image_place(pg, id);

    return at < pg->image_count && pg->images[at]->record.image == id ? pg->images[at] : NULL;
}

struct image *image_find(const struct pg *pg, uint64_t id)
{
    struct image *image = image_slot(pg, id);

    return image && !image->record.forgotten ? image : NULL;
}

const struct image_record *store_image_get(const struct store_pg *pub, uint64_t id)
{
    const struct image *image = image_find(pg_of(pub), id);

    return image ? &image->record : NULL;
}

const struct image_record *store_image_next(const struct store_pg *pub, uint64_t after)
{
    const struct pg *pg = pg_of(pub);
    uint32_t at = after == UINT64_MAX ? pg->image_count : image_place(pg, after + 1);

    /* Image 0 is the first when asked from the start. */
    if (after == 0 && pg->image_count && pg->images[0]->record.image == 0)
        at = 0;
    while (at < pg->image_count && pg->images[at]->record.forgotten)
        at++;
    return at < pg->image_count ? &pg->images[at]->record : NULL;
}

uint64_t store_complete_index(const struct store_pg *pub)
{
    return pg_of(pub)->complete_durable;
}

void image_set(struct pg *pg, struct image *image, const struct image_record *record)
{
    pg->pub.tombstone_count += (uint64_t)record->deleted - (uint64_t)image->record.deleted;
    image->record = *record;
}

void image_free(struct pg *pg, struct image *image)
{
    struct store *s = store_of(pg);

    pg->pub.tombstone_count -= image->record.deleted;
    if (image->holder)
        entry_release(image->holder);
    s->image_count--;
    slab_put(&s->slab, image, sizeof(*image));
}

static bool record_newer(const struct image_record *a, const struct image_record *b)
{
    if (a->forgotten || b->forgotten)
        return a->index > b->index;
    if (a->generation != b->generation)
        return a->generation > b->generation;
    if (a->incarnation != b->incarnation)
        return a->incarnation > b->incarnation;
    return a->index > b->index;
}

bool image_takes(const struct pg *pg, const struct image_record *record)
{
    const struct image *image = image_slot(pg, record->image);

    /* A tombstone stays one until it is forgotten. */
    return image ? record_newer(record, &image->record) &&
                       (!image->record.deleted || record->deleted || record->forgotten)
                 : !record->forgotten;
}

int image_put(struct pg *pg, const struct image_record *record, struct log_entry *holder)
{
    struct store *s = store_of(pg);
    struct image *image = image_slot(pg, record->image);

    if (!image_takes(pg, record))
        return -ERR_CONFLICT;
    if (!image) {
        uint32_t at = image_place(pg, record->image);
        if (pg->image_count == pg->image_cap) {
            uint32_t cap = pg->image_cap ? pg->image_cap * 2 : 8;
            struct image **grown = realloc(pg->images, cap * sizeof(*grown));
            if (!grown)
                return -ERR_NO_MEMORY;
            pg->images = grown;
            pg->image_cap = cap;
        }
        image = slab_get(&s->slab, sizeof(*image));
        if (!image)
            return -ERR_NO_MEMORY;
        memmove(&pg->images[at + 1], &pg->images[at], (pg->image_count - at) * sizeof(*pg->images));
        pg->images[at] = image;
        pg->image_count++;
        s->image_count++;
    }
    if (image->record.forgotten && !record->forgotten)
        image->forgotten_index = image->record.index;
    image_set(pg, image, record);
    struct log_entry *old = image->holder;
    image->holder = holder;
    if (holder)
        holder->holds++;
    if (old)
        entry_release(old);
    return 0;
}

struct disk_record image_encode(const struct pg *pg, const struct image_record *r)
{
    return (struct disk_record){.type = RECORD_IMAGE,
                                .flags = (r->deleted ? RECORD_IMAGE_DELETED : 0) |
                                         (r->forgotten ? RECORD_IMAGE_FORGOTTEN : 0),
                                .key = pg->key,
                                .image = r->image,
                                .image_of = {.index = r->index,
                                             .incarnation = r->incarnation,
                                             .generation = r->generation,
                                             .size_bytes = r->size_bytes}};
}

int image_decode(const struct disk_record *r, struct image_record *ret)
{
    if (r->type != RECORD_IMAGE)
        return -ERR_FORMAT;
    *ret = (struct image_record){.image = r->image,
                                 .incarnation = r->image_of.incarnation,
                                 .generation = r->image_of.generation,
                                 .size_bytes = r->image_of.size_bytes,
                                 .index = r->image_of.index,
                                 .deleted = r->flags & RECORD_IMAGE_DELETED,
                                 .forgotten = r->flags & RECORD_IMAGE_FORGOTTEN};
    return 0;
}

/* ---- effects on objects -------------------------------------------------------------------------------- */

void object_out_of_memory(struct object *o)
{
    store_fail(store_of(o->pg), -ERR_NO_MEMORY, "no memory for an applied entry");
}

/* An entry that is in no log, for effects that came by another way. */
struct log_entry *entry_synthetic(struct pg *pg, const struct image_record *r)
{
    struct entry from = {.index = r->index,
                         .term = 1,
                         .type = r->forgotten ? ENTRY_FORGET : ENTRY_IMAGE,
                         .flags = r->deleted ? ENTRY_IMAGE_DELETED : 0,
                         .image = r->image,
                         .incarnation = r->incarnation,
                         .generation = r->generation,
                         .size_bytes = r->size_bytes};
    struct log_entry *e = entry_new(store_of(pg), &from, 0);

    if (!e)
        return NULL;
    e->pg = pg;
    e->applied = e->durable = true;
    e->holds = 1; /* its maker's */
    pg->offlog_holds++;
    return e;
}

struct image_record image_of_entry(const struct log_entry *e)
{
    if (e->type == ENTRY_FORGET)
        return (struct image_record){.image = e->image, .index = e->index, .forgotten = true};
    return (struct image_record){.image = e->image,
                                 .incarnation = e->incarnation,
                                 .generation = e->generation,
                                 .size_bytes = e->size_bytes,
                                 .index = e->index,
                                 .deleted = e->flags & ENTRY_IMAGE_DELETED};
}

static void image_apply(struct log_entry *e)
{
    struct pg *pg = e->pg;
    struct image_record r = image_of_entry(e);
    int rc = image_put(pg, &r, e); /* what it voids is cleared already: clear_ahead() */

    if (rc == -ERR_NO_MEMORY)
        store_fail(store_of(pg), rc, "no memory for an image record");
    /* What was deleted or cut off gives its chunks back when this is destaged: now, and not when the ring
     * fills. */
    if (rc || (!r.deleted && e->generation <= 1))
        return;
    if (e->holds > 1) /* not its record alone */
        pg->gives_back = e->index;
    destage_up_to(pg, e->index);
}

static void floor_raise(struct pg *pg, uint64_t epoch)
{
    struct disk_record r = {.type = RECORD_FLOOR, .key = pg->key, .floor_of = {.epoch = epoch}};

    if (epoch <= pg->pub.floor_epoch)
        return;
    pg->pub.floor_epoch = epoch;
    /* At once, and so in front of the news that the entry is complete: to know a committed entry's floor too
     * early does no harm. */
    ring_record(store_of(pg), &r);
}

/* The image is gone, whatever of it should be left here. Its record's place stays until the device knows. */
static void forget_apply(struct log_entry *e)
{
    struct pg *pg = e->pg;
    struct image_record gone = image_of_entry(e);

    floor_raise(pg, e->epoch);
    if (!e->image)
        return;
    int rc = image_put(pg, &gone, e);
    ASSERT(rc == 0 || rc == -ERR_CONFLICT); /* nothing is made */
    if (e->holds)
        destage_up_to(pg, e->index);
}

static void write_apply(struct log_entry *e, struct object *o)
{
    /* Of few PGs any image is deleted. */
    const struct image *image = e->pg->pub.tombstone_count ? image_find(e->pg, e->image) : NULL;

    if (e->index <= o->index || (image && image->record.deleted))
        return;
    if (e->type == ENTRY_CLEAR && !object_takes(o)) {
        e->pg->pub.gone_index = e->index;
        return;
    }
    bool whole = e->type == ENTRY_CLEAR && e->block_count == BLOCKS_PER_OBJECT;
    if (whole ? overlay_need(o) : overlay_need_blocks(o)) {
        object_out_of_memory(o);
        return;
    }
    if (whole)
        overlay_put_whole(o, e);
    else
        for (uint32_t b = e->first_block; b < e->first_block + e->block_count; b++)
            overlay_put(o, b, e);
    o->index = e->index;
    object_set_exists(o, true);
}

/* Not complete before the table has it: until then a restart finds the entry in the log. */
static void group_apply(struct log_entry *e)
{
    struct entry entry;
    struct group group;

    entry_export(e, &entry);
    int rc = group_from_entry(&entry, &group);
    ASSERT(rc == 0); /* validated wherever it came from */
    if (group.index > e->pg->pub.record.group.index)
        table_group_set(e->pg, &group);
}

void entry_apply(struct log_entry *e)
{
    struct pg *pg = e->pg;
    struct object *o = NULL;

    ASSERT(!e->applied);
    e->applied = true;
    pg->unapplied_bytes -= entry_ring_bytes(e);
    store_of(pg)->unapplied_bytes -= entry_ring_bytes(e);
    list_remove(&e->obj_link);
    list_remove(&e->copy_link);
    if (e->type == ENTRY_WRITE || e->type == ENTRY_CLEAR) {
        o = e->obj;
        write_apply(e, o);
    } else if (e->type == ENTRY_IMAGE) {
        image_apply(e);
    } else if (e->type == ENTRY_FORGET) {
        forget_apply(e);
    } else if (e->type == ENTRY_GROUP) {
        group_apply(e);
    }
    if (e->holds == 0) {
        entry_unreserve(e);
        e->obj = NULL;
    }
    if (o)
        object_settle(o);
}

void store_apply(struct store_pg *pub, uint64_t index)
{
    struct pg *pg = pg_of(pub);
    struct store *s = store_of(pg);

    ASSERT(index <= pub->durable_index);
    while (pub->applied_index < index && !s->failed) {
        struct log_entry *e = log_at(pg, pub->applied_index + 1);
        if (e && !e->applied && e->type == ENTRY_SPLIT)
            break;
        if (e && !e->applied && entry_is_image(e->type) && !clear_ahead(e))
            break;
        pub->applied_index++;
        /* Below first_index: destaged before the last restart. */
        if (e && !e->applied)
            entry_apply(e);
    }
    log_measure(pg);
    if (destage_wanted(s))
        destage_wake(s);
}

int store_recover_image(struct store_pg *pub, const struct image_record *record)
{
    struct pg *pg = pg_of(pub);
    struct store *s = store_of(pg);

    if (s->failed)
        return -ERR_STOPPED;
    if (!record->deleted && !image_find(pg, record->image) && s->image_count >= s->g.images_max)
        return -ERR_NO_RECORDS;
    struct log_entry *e = entry_synthetic(pg, record);
    if (!e)
        return -ERR_NO_MEMORY;
    int rc = image_put(pg, record, e);
    struct image *image = image_find(pg, record->image);
    if (rc == 0) {
        struct disk_record r = image_encode(pg, record);
        r.flags |= RECORD_IMAGE_NOW;
        image->saved = *record;
        image->is_saved = true;
        image->is_pushed = false; /* what is on its way is older */
        image->forgotten_index = 0;
        image->holder = NULL;
        entry_release(e);
        ring_record(s, &r);
        pub->newest_index = MAX(pub->newest_index, record->index);
    }
    /* Also when the record is known, but a crash came before its effects were destaged. */
    if (rc == 0 || (rc == -ERR_CONFLICT && image && image->record.index == record->index))
        image_enforce(pg, record, e, true);
    entry_release(e);
    return rc == -ERR_CONFLICT ? 0 : rc;
}

int store_recover_forget(struct store_pg *pub, uint64_t id, uint64_t index)
{
    struct pg *pg = pg_of(pub);
    struct store *s = store_of(pg);
    struct image_record gone = {.image = id, .index = index, .forgotten = true};
    uint32_t at = image_place(pg, id);

    if (s->failed)
        return -ERR_STOPPED;
    struct log_entry *e = entry_synthetic(pg, &gone);
    if (!e)
        return -ERR_NO_MEMORY;
    if (image_slot(pg, id) && pg->images[at]->record.index <= index) {
        struct disk_record r = image_encode(pg, &gone);
        r.flags |= RECORD_IMAGE_NOW;
        ring_record(s, &r);
        image_free(pg, pg->images[at]);
        pg->image_count--;
        memmove(&pg->images[at], &pg->images[at + 1], (pg->image_count - at) * sizeof(*pg->images));
    }
    image_enforce(pg, &gone, e, false);
    entry_release(e);
    return 0;
}

void images_save(struct pg *pg)
{
    struct store *s = store_of(pg);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < pg->image_count; i++) {
        struct image *image = pg->images[i];
        pg->images[kept++] = image;
        if (!image->holder)
            continue;
        struct disk_record r = image_encode(pg, &image->record);
        r.flags |= RECORD_IMAGE_NOW;
        ring_record(s, &r);
        if (image->record.forgotten) {
            image_free(pg, image);
            kept--;
            continue;
        }
        struct log_entry *holder = image->holder;
        image->saved = image->record;
        image->is_saved = true;
        image->is_pushed = false; /* what is on its way is not newer */
        image->forgotten_index = 0;
        image->holder = NULL;
        entry_release(holder);
    }
    pg->image_count = kept;
}

void store_recover_floor(struct store_pg *pub, uint64_t epoch)
{
    if (!pub->store->failed)
        floor_raise(pg_of(pub), epoch);
}

int store_recover_shed(struct store_pg *pub, uint32_t split_count, uint64_t index)
{
    struct pg *pg = pg_of(pub);
    struct image_record gone = {.index = index, .forgotten = true};

    if (pub->store->failed)
        return -ERR_STOPPED;
    /* Some may have been cleared already, by a record that is newer than the base. */
    for (const struct object *o = object_after(pg, true, 0, 0); o;
         o = object_after(pg, false, o->image, o->number))
        if (!split_belongs(pg, split_count, o->image, o->number))
            gone.index = MAX(gone.index, o->index + 1);
    struct log_entry *e = entry_synthetic(pg, &gone);
    if (!e)
        return -ERR_NO_MEMORY;
    pg->removals++;
    for (struct object *o = object_after(pg, true, 0, 0), *next; o; o = next) {
        next = object_after(pg, false, o->image, o->number);
        if (!split_belongs(pg, split_count, o->image, o->number))
            object_clear(o, 0, e);
    }
    entry_release(e);
    return 0;
}

void store_destage_soon(struct store_pg *pub)
{
    struct pg *pg = pg_of(pub);

    if (pg->complete_durable < pub->applied_index)
        destage_up_to(pg, pub->applied_index);
}

bool store_recover_settled(struct store_pg *pub)
{
    struct pg *pg = pg_of(pub);

    if (!pg->offlog_holds)
        return true;
    destage_pg(pg);
    return false;
}
