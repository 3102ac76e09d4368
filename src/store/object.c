/* SPDX-License-Identifier: Apache-2.0
 *
 * The object index and the overlay.
 *
 * Objects are found by hash, and walked in order of (image, number) through a treap per PG whose priorities
 * are the hashes. All objects are in memory: 176 bytes, 8 more for each chunk that they have (page.c), 112
 * more while there is something applied that is not destaged, and 4 KiB if that is not only the object as a
 * whole.
 */
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"

static uint64_t object_hash(const struct pg *pg, uint64_t image, uint64_t number)
{
    return hash_pair(hash_pair(pg->key, image), number);
}

struct object *object_find(const struct pg *pg, uint64_t image, uint64_t number)
{
    struct map_node *node = map_get(&store_of(pg)->objects, object_hash(pg, image, number));
    struct object *o = node ? map_entry(node, struct object, node) : NULL;

    while (o && (o->pg != pg || o->image != image || o->number != number))
        o = o->same;
    return o;
}

/* ---- the treap ----------------------------------------------------------------------------------------- */

static int object_compare(const struct object *o, uint64_t image, uint64_t number)
{
    if (o->image != image)
        return o->image < image ? -1 : 1;
    return o->number == number ? 0 : o->number < number ? -1 : 1;
}

static struct object *treap_join(struct object *a, struct object *b)
{
    struct object *root = NULL, **at = &root;

    while (a && b) {
        if (a->node.key > b->node.key) {
            *at = a;
            at = &a->right;
            a = a->right;
        } else {
            *at = b;
            at = &b->left;
            b = b->left;
        }
    }
    *at = a ? a : b;
    return root;
}

static void treap_put(struct pg *pg, struct object *o)
{
    struct object **at = &pg->root;

    while (*at && (*at)->node.key >= o->node.key)
        at = object_compare(*at, o->image, o->number) < 0 ? &(*at)->right : &(*at)->left;
    struct object *rest = *at;
    *at = o;
    /* What stood there is split around the new one. */
    struct object **less = &o->left, **more = &o->right;
    while (rest) {
        if (object_compare(rest, o->image, o->number) < 0) {
            *less = rest;
            less = &rest->right;
            rest = rest->right;
        } else {
            *more = rest;
            more = &rest->left;
            rest = rest->left;
        }
    }
    *less = *more = NULL;
}

static void treap_remove(struct pg *pg, struct object *o)
{
    struct object **at = &pg->root;

    while (*at != o)
        at = object_compare(*at, o->image, o->number) < 0 ? &(*at)->right : &(*at)->left;
    *at = treap_join(o->left, o->right);
}

struct object *object_after(const struct pg *pg, bool start, uint64_t image, uint64_t number)
{
    struct object *found = NULL;

    for (struct object *o = pg->root; o;) {
        if (start || object_compare(o, image, number) > 0) {
            found = o;
            o = o->left;
        } else {
            o = o->right;
        }
    }
    return found;
}

/* ---- the index ----------------------------------------------------------------------------------------- */

static void index_put(struct store *s, struct object *o)
{
    uint64_t hash = object_hash(o->pg, o->image, o->number);
    struct map_node *head = map_get(&s->objects, hash);

    if (head) {
        struct object *first = map_entry(head, struct object, node);
        o->node.key = hash;
        o->same = first->same;
        first->same = o;
    } else {
        map_put(&s->objects, &o->node, hash);
    }
    treap_put(o->pg, o);
}

static void index_remove(struct store *s, struct object *o)
{
    struct object *head = map_entry(map_get(&s->objects, o->node.key), struct object, node);

    treap_remove(o->pg, o);
    if (head == o) {
        map_remove(&s->objects, o->node.key);
        if (o->same)
            map_put(&s->objects, &o->same->node, o->same->node.key);
    } else {
        while (head->same != o)
            head = head->same;
        head->same = o->same;
    }
    o->same = NULL;
}

void object_move(struct object *o, struct pg *to)
{
    struct store *s = store_of(to);
    bool exists = o->exists;

    object_set_exists(o, false);
    index_remove(s, o);
    o->pg = to;
    index_put(s, o);
    object_set_exists(o, exists);
}

struct object *object_get(struct pg *pg, uint64_t image, uint64_t number)
{
    struct store *s = store_of(pg);
    struct object *o = object_find(pg, image, number);

    if (o)
        return o;
    o = slab_get(&s->slab, sizeof(*o));
    if (!o)
        return NULL;
    o->pg = pg;
    o->image = image;
    o->number = number;
    list_init(&o->unapplied);
    index_put(s, o);
    return o;
}

/* Gives back the memory only: places in overlay and unapplied entries are gone already. */
void object_free(struct object *o)
{
    struct store *s = store_of(o->pg);

    ASSERT(list_empty(&o->unapplied) && !o->overlay && !o->pending && !o->map.chunks && !o->slot);
    object_set_exists(o, false);
    index_remove(s, o);
    slab_put(&s->slab, o, sizeof(*o));
}

void object_set_exists(struct object *o, bool exists)
{
    if (o->exists == exists)
        return;
    o->exists = exists;
    o->pg->pub.object_count += exists ? 1 : (uint64_t)-1;
}

void object_settle(struct object *o)
{
    overlay_settle(o);
    if (o->overlay || o->busy)
        return;
    object_set_exists(o, o->slot || o->map.chunks);
    if (o->slot || o->map.chunks || o->pending_total || !list_empty(&o->unapplied))
        return;
    object_free(o);
}

uint64_t store_object_after(const struct store_pg *pub, uint64_t image, uint64_t object)
{
    const struct object *o = object_after(pg_of(pub), false, image, object);

    return o && o->image == image ? o->number : UINT64_MAX;
}

bool store_object_next(const struct store_pg *pub, bool start, uint64_t image, uint64_t object,
                       struct store_object_info *ret)
{
    struct object *o = object_after(pg_of(pub), start, image, object);

    while (o && (!o->exists || split_hides(o)))
        o = object_after(pg_of(pub), false, o->image, o->number);
    if (!o)
        return false;
    *ret = (struct store_object_info){.image = o->image, .object = o->number, .index = o->index};
    /* Who goes through all objects in one turn should not look at each block of each. */
    bool marked = o->unreadable || page_map_marked(&o->map);
    for (uint32_t b = 0; marked && !ret->damaged && b < BLOCKS_PER_OBJECT; b++)
        if (o->unreadable || page_map_get(&o->map, b / BLOCKS_PER_CHUNK).lost >> b % BLOCKS_PER_CHUNK & 1)
            ret->damaged = object_lacks_block(o, b);
    return true;
}

bool store_block_status(const struct store_pg *pub, uint64_t image, uint64_t object,
                        uint64_t ret_written[BLOCKS_PER_OBJECT / 64])
{
    struct object *o = object_find(pg_of(pub), image, object);

    if (!o || !o->exists)
        return false;
    memset(ret_written, 0, BLOCKS_PER_OBJECT / 8);
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
        if (object_where(o, b, false).written)
            bit_set(ret_written, b);
    return true;
}

/* ---- the overlay --------------------------------------------------------------------------------------- */

/* Of an overlay without memory for them. Only read. */
static struct log_entry *no_blocks[BLOCKS_PER_OBJECT];
#define OVERLAY_BLOCKS_BYTES (BLOCKS_PER_OBJECT * sizeof(struct log_entry *))

int overlay_need_blocks(struct object *o)
{
    if (overlay_need(o))
        return -ERR_NO_MEMORY;
    if (o->overlay->block != no_blocks)
        return 0;
    struct log_entry **block = slab_get(&store_of(o->pg)->slab, OVERLAY_BLOCKS_BYTES);
    if (!block)
        return -ERR_NO_MEMORY;
    o->overlay->block = block;
    return 0;
}

int overlay_need(struct object *o)
{
    struct store *s = store_of(o->pg);

    if (o->overlay)
        return 0;
    o->overlay = slab_get(&s->slab, sizeof(*o->overlay));
    if (!o->overlay)
        return -ERR_NO_MEMORY;
    o->overlay->object = o;
    o->overlay->block = no_blocks;
    list_init(&o->overlay->link);
    list_push_back(&s->overlays, &o->overlay->link);
    space_slot_settle(o);
    return 0;
}

void overlay_take(struct object *o, uint32_t block)
{
    struct log_entry *e = o->overlay ? o->overlay->block[block] : NULL;

    if (!e)
        return;
    o->overlay->block[block] = NULL;
    bit_clear(o->overlay->used, block);
    o->overlay->count--;
    entry_release(e);
}

void overlay_take_whole(struct object *o)
{
    struct log_entry *e = o->overlay ? o->overlay->whole : NULL;

    if (!e)
        return;
    o->overlay->whole = NULL;
    o->overlay->count--;
    entry_release(e);
}

void overlay_put(struct object *o, uint32_t block, struct log_entry *e)
{
    e->holds++;
    overlay_take(o, block);
    o->overlay->block[block] = e;
    bit_set(o->overlay->used, block);
    o->overlay->count++;
}

void overlay_put_whole(struct object *o, struct log_entry *e)
{
    e->holds++;
    overlay_for_each (o->overlay, b)
        overlay_take(o, b);
    overlay_take_whole(o);
    o->overlay->whole = e;
    o->overlay->count++;
}

void overlay_settle(struct object *o)
{
    if (!o->overlay || o->overlay->count)
        return;
    list_remove(&o->overlay->link);
    if (o->overlay->block != no_blocks)
        slab_put(&store_of(o->pg)->slab, o->overlay->block, OVERLAY_BLOCKS_BYTES);
    slab_put(&store_of(o->pg)->slab, o->overlay, sizeof(*o->overlay));
    o->overlay = NULL;
    space_slot_settle(o);
}

/* ---- where a block is ---------------------------------------------------------------------------------- */

static struct where entry_where(const struct store *s, const struct log_entry *e, uint32_t block)
{
    if (e->type != ENTRY_WRITE)
        return (struct where){.source = WHERE_ZERO};
    uint32_t i = block - e->first_block;
    bool in_chunk = large_chunk(e, block / BLOCKS_PER_CHUNK);
    struct where w = {.source = in_chunk ? WHERE_CHUNK : WHERE_RING,
                      .crc = e->crc[i],
                      .entry = e,
                      .written = true,
                      .crc_known = true};
    if (e->lost || (!e->payload.buf && !e->batch))
        w.source = WHERE_LOST;
    else if (e->payload.buf)
        w.source = WHERE_MEMORY;
    else
        w.place = entry_place(s, e, i);
    return w;
}

/* A proposed IMAGE entry that voids what the entries below `index` did to the object. */
static bool image_pending(const struct object *o, uint32_t block, uint64_t index)
{
    list_for_each (&o->pg->pending_images, node) {
        const struct log_entry *e = list_entry(node, struct log_entry, obj_link);
        uint64_t end = image_end(e->size_bytes);
        if (e->image == o->image && e->index > index &&
            (e->flags & ENTRY_IMAGE_DELETED || o->number * BLOCKS_PER_OBJECT + block >= end))
            return true;
    }
    return false;
}

struct where object_where(const struct object *o, uint32_t block, bool proposed)
{
    const struct store *s = store_of(o->pg);

    if (proposed) {
        /* A copy has what the log had below its index, and is not applied yet. */
        uint64_t applied = PLANT(STORE_PROPOSED_OLD) ? 0 : o->index;
        for (const struct list *node = o->unapplied.prev; node != &o->unapplied; node = node->prev) {
            const struct log_entry *e = list_entry(node, struct log_entry, obj_link);
            if (e->index <= applied)
                break;
            if (block - e->first_block < e->block_count)
                return image_pending(o, block, e->index) ? (struct where){.source = WHERE_ZERO}
                                                         : entry_where(s, e, block);
        }
        if (!list_empty(&o->pg->pending_images) && image_pending(o, block, applied))
            return (struct where){.source = WHERE_ZERO};
    }
    if (o->overlay && o->overlay->block[block])
        return entry_where(s, o->overlay->block[block], block);
    if (o->overlay && o->overlay->whole)
        return (struct where){.source = WHERE_ZERO};
    struct page_chunk chunk = page_map_get(&o->map, block / BLOCKS_PER_CHUNK);
    if ((chunk.lost & ~chunk.written) >> block % BLOCKS_PER_CHUNK & 1)
        return (struct where){.source = WHERE_LOST, .written = true};
    if (!(chunk.written >> block % BLOCKS_PER_CHUNK & 1))
        return (struct where){.source = WHERE_ZERO};
    return (struct where){.source = WHERE_CHUNK,
                          .place = chunk_place(s, chunk.number, block),
                          .crc = o->crcs ? o->crcs->crc[block] : 0,
                          .written = true,
                          .crc_known = o->crcs};
}
