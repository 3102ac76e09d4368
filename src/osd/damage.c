/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of blocks that no replica in contact has: reads of them fail, everything else goes on. The monitor
 * keeps it. The leader says what is to change of it, object by object, until the monitor's list shows it;
 * about objects that it has not looked at it has no opinion, so a new leader first looks at what is listed.
 *
 * A block leaves the list when a look at its object, on all members, finds it whole: written to since, or
 * restored from a replica that was away. So an object is looked at again when its index has changed, and now
 * and then.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "osd/scrub.h"

#define DAMAGE_OBJECTS_MAX 32             /* of one PG; the rest is found again when there is room */
#define DAMAGE_AGAIN_NS    (2 * NS_PER_S) /* an object is not looked at more often */
#define DAMAGE_VAIN_NS     (2 * NS_PER_S) /* nor are whole copies of it asked for */
#define DAMAGE_OLD_NS      (120 * NS_PER_S)

struct pg_damage *damage_find(struct pg *pg, uint64_t image, uint64_t object)
{
    list_for_each (&pg->damages, node) {
        struct pg_damage *d = list_entry(node, struct pg_damage, link);
        if (d->image == image && d->object == object)
            return d;
    }
    return NULL;
}

static bool is_empty(const struct pg_damage *d)
{
    for (uint32_t i = 0; i < ARRAY_LEN(d->blocks); i++)
        if (d->blocks[i])
            return false;
    return true;
}

static struct pg_damage *damage_get(struct pg *pg, uint64_t image, uint64_t object)
{
    struct pg_damage *d = damage_find(pg, image, object);

    if (d || pg->damage_count == DAMAGE_OBJECTS_MAX)
        return d;
    d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->image = image;
    d->object = object;
    list_init(&d->link);
    list_push_back(&pg->damages, &d->link);
    pg->damage_count++;
    return d;
}

static void damage_drop(struct pg *pg, struct pg_damage *d)
{
    list_remove(&d->link);
    pg->damage_count--;
    free(d);
}

static uint64_t object_index(const struct pg *pg, uint64_t image, uint64_t object)
{
    uint64_t lost[BLOCKS_PER_OBJECT / 64], index = 0;

    store_object_lost(pg->sp, image, object, &index, lost);
    return index;
}

static void damage_know(struct pg *pg, struct pg_damage *d)
{
    d->known = true;
    d->listed = false;
    d->looked_ns = core_now_ns(pg->shard->core);
    d->index = object_index(pg, d->image, d->object);
    shard_mon_report(pg->shard);
}

void damage_note(struct pg *pg, uint64_t image, uint64_t object, uint32_t first_block, uint32_t block_count,
                 const uint64_t *blocks)
{
    struct pg_damage *d = pg->led_term ? damage_get(pg, image, object) : NULL;

    for (uint32_t i = 0; d && i < block_count; i++) {
        uint32_t b = first_block + i;
        if ((blocks[i / 64] >> i % 64 & 1) && !(d->blocks[b / 64] >> b % 64 & 1))
            d->known = d->listed = false;
    }
    scrub_wake(pg->shard);
}

void damage_set(struct pg *pg, uint64_t image, uint64_t object, const uint64_t *blocks)
{
    static const uint64_t none[BLOCKS_PER_OBJECT / 64];
    struct pg_damage *d = damage_find(pg, image, object);

    if (!d && memcmp(blocks, none, sizeof(none)))
        d = damage_get(pg, image, object);
    if (!d)
        return;
    if ((d->known || d->listed) && !memcmp(d->blocks, blocks, sizeof(d->blocks))) {
        d->known = true;
        d->looked_ns = core_now_ns(pg->shard->core);
        d->index = object_index(pg, image, object);
        return;
    }
    memcpy(d->blocks, blocks, sizeof(d->blocks));
    damage_know(pg, d);
}

static const Fb__PgDamage *listed_find(Fb__PgDamage *const *list, size_t count, const struct pg_damage *d)
{
    for (size_t i = 0; i < count; i++)
        if (list[i]->image == d->image && list[i]->object == d->object)
            return list[i];
    return NULL;
}

void damage_take_list(struct pg *pg, Fb__PgDamage *const *list, size_t count)
{
    list_for_each_safe (&pg->damages, node) {
        struct pg_damage *d = list_entry(node, struct pg_damage, link);
        const Fb__PgDamage *there = listed_find(list, count, d);
        if (d->known)
            d->listed = there ? there->blocks.len == sizeof(d->blocks) &&
                                    !memcmp(there->blocks.data, d->blocks, sizeof(d->blocks))
                              : is_empty(d);
        if (!there && d->listed)
            damage_drop(pg, d);
    }
    for (size_t i = 0; i < count; i++) {
        if (list[i]->blocks.len != BLOCKS_PER_OBJECT / 8 || damage_find(pg, list[i]->image, list[i]->object))
            continue;
        struct pg_damage *d = damage_get(pg, list[i]->image, list[i]->object);
        if (!d)
            return;
        memcpy(d->blocks, list[i]->blocks.data, sizeof(d->blocks));
        d->listed = true;
    }
}

struct pg_damage *damage_due(struct pg *pg, uint64_t now_ns)
{
    list_for_each (&pg->damages, node) {
        struct pg_damage *d = list_entry(node, struct pg_damage, link);
        uint64_t age_ns = now_ns - d->looked_ns;
        bool changed = !d->known || (!is_empty(d) && object_index(pg, d->image, d->object) != d->index);
        if (!d->looked_ns || age_ns >= (changed ? DAMAGE_AGAIN_NS : DAMAGE_OLD_NS))
            return d;
    }
    return NULL;
}

void damage_note_vain(struct pg *pg, uint64_t image, uint64_t object)
{
    struct pg_damage *d = pg->led_term ? damage_get(pg, image, object) : NULL;

    if (d)
        d->vain_ns = core_now_ns(pg->shard->core);
}

bool damage_is_vain(struct pg *pg, uint64_t image, uint64_t object, uint64_t now_ns)
{
    const struct pg_damage *d = damage_find(pg, image, object);

    return d && d->vain_ns && now_ns - d->vain_ns < DAMAGE_VAIN_NS;
}

void damage_tried(struct pg *pg, struct pg_damage *d)
{
    d->looked_ns = core_now_ns(pg->shard->core);
}

size_t damage_report(struct pg *pg, Fb__PgDamage *rows, Fb__PgDamage **pointers, size_t max)
{
    size_t count = 0;

    list_for_each (&pg->damages, node) {
        struct pg_damage *d = list_entry(node, struct pg_damage, link);
        if (!d->known || d->listed || count == max)
            continue;
        pointers[count] = &rows[count];
        rows[count] = (Fb__PgDamage)FB__PG_DAMAGE__INIT;
        rows[count].image = d->image;
        rows[count].object = d->object;
        if (!is_empty(d))
            rows[count].blocks = (ProtobufCBinaryData){sizeof(d->blocks), (uint8_t *)d->blocks};
        count++;
    }
    return count;
}

void damage_forget(struct pg *pg)
{
    list_for_each_safe (&pg->damages, node)
        damage_drop(pg, list_entry(node, struct pg_damage, link));
}
