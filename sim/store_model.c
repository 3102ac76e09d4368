/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries and blocks as functions of numbers, and what applying entries makes of objects.
 */
#include "sim/store_model.h"

#include <string.h>

#include "base/placement.h"

#define WORD_STEP 0x9e3779b97f4a7c15ull

static uint64_t entry_hash(const struct model_pg *pg, uint64_t index, uint32_t term)
{
    return hash_pair(hash_pair(pg->seed, index), term);
}

void model_group(const struct model_pg *pg, uint64_t index, uint32_t term, struct group *ret)
{
    uint64_t h = hash_pair(entry_hash(pg, index, term), 1);

    *ret = (struct group){
        .index = index, .epoch = index ? index / 2 : 0, .count = 1 + (uint32_t)(h % GROUP_MEMBERS_MAX)};
    for (uint32_t i = 0; i < ret->count; i++)
        ret->members[i] = (struct group_member){.replica = 1 + (uint32_t)(h >> 8 & 0xff) + i,
                                                .osd = (uint32_t)(h >> 16 & 0xff) + i,
                                                .shard = (uint32_t)(h >> 24 & 63),
                                                .flags = i ? (uint32_t)(h >> (30 + 2 * i) & 3) : GROUP_VOTER};
}

void model_group_at(const struct model_pg *pg, uint64_t index, struct group *ret)
{
    struct entry e;

    for (; index > pg->born; index--) {
        model_entry(pg, index, pg->term[index], &e);
        if (e.type == ENTRY_GROUP)
            break;
    }
    if (index <= pg->born && pg->born)
        *ret = pg->born_with;
    else
        model_group(pg, index, pg->term[index], ret);
}

uint32_t model_count(const struct model_pg *pg, uint64_t index)
{
    uint32_t count = MAX(pg->number + 1, MODEL_PGS_FIRST);

    for (uint32_t i = 0; i < pg->splits; i++)
        if (pg->split[i].index <= index)
            count = pg->split[i].child + 1;
    return count;
}

bool model_belongs(const struct model_pg *pg, uint64_t index, uint64_t image, uint64_t object)
{
    return placement_pg_number(image, object, model_count(pg, index)) == pg->number;
}

uint32_t model_next_child(const struct model_pg *pg)
{
    uint32_t child = pg->splits ? pg->split[pg->splits - 1].child + 1 : MAX(pg->number + 1, MODEL_PGS_FIRST);

    for (; pg->splits < MODEL_SPLITS && child < MODEL_PGS; child++)
        if (placement_pg_parent(child) == pg->number)
            return child;
    return 0;
}

static void split_entry(const struct model_pg *pg, const struct model_split *split, uint32_t term,
                        struct entry *ret)
{
    struct group group;

    model_group(pg, split->index, term, &group);
    *ret = (struct entry){.index = split->index,
                          .term = term,
                          .type = ENTRY_SPLIT,
                          .image = split->child,
                          .block_count = group.count * GROUP_WORDS};
}

void model_entry(const struct model_pg *pg, uint64_t index, uint32_t term, struct entry *ret)
{
    uint64_t h = entry_hash(pg, index, term);
    uint64_t image = (1 + (index / MODEL_IMAGE_SPAN) * 2 + (h >> 8 & 1)) % MODEL_IMAGES;

    /* Late writes to an old image now and then. */
    if (image > 2 && (h >> 9 & 15) == 0)
        image -= 2;
    for (uint32_t i = 0; i < pg->splits; i++)
        if (pg->split[i].index == index) {
            split_entry(pg, &pg->split[i], term, ret);
            return;
        }
    *ret = (struct entry){.index = index, .term = term, .image = image};
    uint32_t kind = (uint32_t)(h >> 16 & 127);
    if (pg->quiet && (h >> 40 & 7)) /* complete as soon as they are applied: nothing is to be destaged */
        kind = h >> 43 & 3 ? 1 : 0;
    if (pg->imaged && (h >> 44 & 7) == 0)
        kind = 3 + (uint32_t)(h >> 47 & 3);
    if (pg->restless && (h >> 40 & 1))
        kind = pg->restless == 1 ? 3 + (uint32_t)(h >> 43 & 3) : 4;
    if (kind == 0) {
        struct group group;
        model_group(pg, index, term, &group);
        *ret = (struct entry){.index = index,
                              .term = term,
                              .type = ENTRY_GROUP,
                              .block_count = group.count * GROUP_WORDS,
                              .epoch = group.epoch};
        return;
    }
    if (kind < 3) {
        ret->type = ENTRY_NOOP;
        return;
    }
    if (kind == 3) {
        ret->type = ENTRY_FORGET;
        ret->epoch = index / 2;
        return;
    }
    if (kind < 7) {
        ret->type = ENTRY_IMAGE;
        ret->generation = index >> 8;
        ret->incarnation = index;
        ret->flags = (h >> 24 & (pg->restless == 1 ? 1 : 7)) == 0 ? ENTRY_IMAGE_DELETED : 0;
        if (pg->restless == 2)
            ret->flags = 0;
        ret->size_bytes = (h >> 32) % ((uint64_t)pg->objects * OBJECT_SIZE + 1);
        return;
    }
    ret->type = kind < 20 ? ENTRY_CLEAR : ENTRY_WRITE;
    ret->object = (h >> 24 & 0xff) % pg->objects;
    for (uint32_t tries = 0; !model_belongs(pg, index, image, ret->object); tries++) {
        if (tries == pg->objects) {
            *ret = (struct entry){.index = index, .term = term, .type = ENTRY_NOOP, .image = image};
            return;
        }
        ret->object = (ret->object + 1) % pg->objects;
    }
    uint32_t most = (h >> 32 & (pg->bulky ? 3 : 31)) == 0 ? 256 : (h >> 32 & 7) == 0 ? 32 : 3;
    ret->block_count = 1 + (uint32_t)((h >> 40) % most);
    if (ret->type == ENTRY_CLEAR && (h >> 32 & 15) == 0)
        ret->block_count = BLOCKS_PER_OBJECT;
    ret->first_block = (uint32_t)((h >> 48) % (BLOCKS_PER_OBJECT - ret->block_count + 1));
    /* Whole chunks, often. */
    if (ret->block_count >= BLOCKS_PER_CHUNK && (h >> 12 & 1)) {
        ret->block_count = ALIGN_DOWN(ret->block_count, BLOCKS_PER_CHUNK);
        ret->first_block = ALIGN_DOWN(ret->first_block, BLOCKS_PER_CHUNK);
    }
}

uint64_t model_tag(const struct model_pg *pg, uint64_t index, uint32_t term, uint32_t block)
{
    return hash_pair(hash_pair(pg->seed ^ 0x5eed, index), (uint64_t)term << 32 | block) | 1;
}

void model_fill(uint64_t tag, uint8_t *block)
{
    for (uint32_t i = 0; i < BLOCK_SIZE / 8; i++) {
        uint64_t word = tag ? tag + i * WORD_STEP : 0;
        memcpy(block + i * 8, &word, 8);
    }
}

bool model_matches(uint64_t tag, const uint8_t *block)
{
    for (uint32_t i = 0; i < BLOCK_SIZE / 8; i++) {
        uint64_t word = tag ? tag + i * WORD_STEP : 0;
        if (memcmp(block + i * 8, &word, 8) != 0)
            return false;
    }
    return true;
}

void model_cut(struct model_pg *pg, uint64_t index)
{
    pg->acked = MIN(pg->acked, index - 1);
    pg->proven = MIN(pg->proven, index - 1);
    pg->provable = MIN(pg->provable, index - 1);
    pg->table_proven = MIN(pg->table_proven, index - 1);
    pg->table_provable = MIN(pg->table_provable, index - 1);
    pg->checkpoint_proven = MIN(pg->checkpoint_proven, index - 1);
    pg->checkpoint_provable = MIN(pg->checkpoint_provable, index - 1);
}

void model_append(struct model_pg *pg, uint64_t index, uint32_t term)
{
    uint32_t *history = pg->history[index];

    pg->cuts += index <= pg->last;
    pg->term[index] = term;
    pg->last = index;
    pg->high = MAX(pg->high, index);
    model_cut(pg, index);
    for (uint32_t i = 0; i < MODEL_TERMS; i++) {
        if (history[i] == term)
            return;
        if (history[i] == 0) {
            history[i] = term;
            return;
        }
    }
    /* Full: the caller does not replace an entry that often. */
    UNREACHABLE();
}

bool model_had(const struct model_pg *pg, uint64_t index, uint64_t term)
{
    for (uint32_t i = 0; index < MODEL_LOG_MAX && i < MODEL_TERMS; i++)
        if (term && pg->history[index][i] == term)
            return true;
    return false;
}

bool model_bury(struct model_pg *pg, uint64_t index, uint64_t term_there)
{
    bool back = false;

    for (uint32_t i = 0; i < MODEL_TERMS && pg->history[index][i]; i++)
        if (pg->history[index][i] == term_there)
            back = pg->buried[index] >> i & 1;
        else
            pg->buried[index] |= (uint8_t)(1u << i);
    return back;
}

void model_unbury(struct model_pg *pg, uint64_t index, uint32_t term)
{
    for (uint32_t i = 0; i < MODEL_TERMS; i++)
        if (pg->history[index][i] == term)
            pg->buried[index] &= (uint8_t) ~(1u << i);
}

static void object_touch(struct model_object *o, uint32_t first, uint32_t count, uint64_t index)
{
    for (uint32_t b = first; b < first + count; b++) {
        o->at[b] = (uint32_t)index;
        o->lost[b / 64] &= ~(1ull << b % 64);
        o->unsure[b / 64] &= ~(1ull << b % 64);
    }
    o->index = index;
}

static void object_clear(struct model_object *o, uint32_t first, uint32_t count, uint64_t index)
{
    if (o->index == 0)
        return;
    memset(o->tag + first, 0, count * sizeof(*o->tag));
    object_touch(o, first, count, index);
}

static void image_apply(struct model_pg *pg, const struct entry *e)
{
    struct image_record *r = &pg->images[e->image];

    if (r->deleted && !(e->flags & ENTRY_IMAGE_DELETED))
        return;
    *r = (struct image_record){.image = e->image,
                               .incarnation = e->incarnation,
                               .generation = e->generation,
                               .size_bytes = e->size_bytes,
                               .index = e->index,
                               .deleted = e->flags & ENTRY_IMAGE_DELETED};
    uint64_t end = r->deleted ? 0 : DIV_UP(r->size_bytes, (uint64_t)BLOCK_SIZE);
    for (uint32_t n = 0; n < MODEL_OBJECTS; n++) {
        uint64_t first = end > n * BLOCKS_PER_OBJECT ? end - n * BLOCKS_PER_OBJECT : 0;
        bool boundary = n == end / BLOCKS_PER_OBJECT;
        if (first < BLOCKS_PER_OBJECT || boundary)
            object_clear(&pg->object[e->image][n], (uint32_t)first, BLOCKS_PER_OBJECT - (uint32_t)first,
                         e->index);
    }
}

static void forget_apply(struct model_pg *pg, const struct entry *e)
{
    pg->images[e->image] = (struct image_record){0};
    pg->forgotten[e->image] = e->index;
    pg->floor_epoch = MAX(pg->floor_epoch, e->epoch);
    for (uint32_t n = 0; n < MODEL_OBJECTS; n++)
        pg->object[e->image][n] = (struct model_object){0};
}

void model_apply(struct model_pg *pg, uint64_t index)
{
    while (pg->applied < index) {
        struct entry e;
        model_entry(pg, pg->applied + 1, pg->term[pg->applied + 1], &e);
        if (e.type == ENTRY_SPLIT)
            return;
        pg->applied++;
        if (e.type == ENTRY_IMAGE)
            image_apply(pg, &e);
        if (e.type == ENTRY_FORGET)
            forget_apply(pg, &e);
        if (e.type != ENTRY_WRITE && e.type != ENTRY_CLEAR)
            continue;
        struct model_object *o = &pg->object[e.image][e.object];
        if (pg->images[e.image].deleted)
            continue;
        if (e.type == ENTRY_CLEAR) {
            object_clear(o, e.first_block, e.block_count, e.index);
            continue;
        }
        for (uint32_t b = 0; b < e.block_count; b++)
            o->tag[e.first_block + b] = model_tag(pg, e.index, (uint32_t)e.term, b);
        object_touch(o, e.first_block, e.block_count, e.index);
    }
}

void model_replay(const struct model_pg *pg, uint64_t index, struct model_pg *ret)
{
    memcpy(ret, pg, offsetof(struct model_pg, images));
    memset(ret->images, 0, sizeof(*ret) - offsetof(struct model_pg, images));
    ret->applied = 0;
    for (model_apply(ret, index); ret->applied < index; model_apply(ret, index))
        model_split(ret, NULL);
}

const struct model_split *model_split_due(const struct model_pg *pg)
{
    for (uint32_t i = 0; i < pg->splits; i++)
        if (pg->split[i].index == pg->applied + 1 && pg->applied < pg->commit)
            return &pg->split[i];
    return NULL;
}

static void child_born(const struct model_pg *pg, struct model_pg *child)
{
    child->exists = true;
    child->born = child->last = child->commit = child->applied = child->acked = child->high = pg->applied;
    child->term[child->born] = pg->term[child->born];
    model_group(pg, child->born, pg->term[child->born], &child->born_with);
    child->born_with.index = child->born_with.epoch = 0;
    child->objects = pg->objects;
    child->floor_epoch = pg->floor_epoch;
    memcpy(child->images, pg->images, sizeof(child->images));
    memcpy(child->forgotten, pg->forgotten, sizeof(child->forgotten));
}

void model_split(struct model_pg *pg, struct model_pg *child)
{
    uint64_t index = ++pg->applied;

    if (child)
        child_born(pg, child);
    for (uint32_t image = 0; image < MODEL_IMAGES; image++)
        for (uint32_t n = 0; n < pg->objects; n++) {
            struct model_object *o = &pg->object[image][n];
            if (!o->index || model_belongs(pg, index, image, n))
                continue;
            if (child)
                child->object[image][n] = *o;
            *o = (struct model_object){0};
        }
}

bool model_proposed(const struct model_pg *pg, uint64_t image, uint64_t object, uint32_t block,
                    uint64_t *ret_tag)
{
    for (uint64_t i = pg->last; i > pg->applied; i--) {
        struct entry e;
        model_entry(pg, i, pg->term[i], &e);
        if (e.image != image)
            continue;
        *ret_tag = 0;
        if (e.type == ENTRY_IMAGE &&
            (e.flags & ENTRY_IMAGE_DELETED ||
             object * BLOCKS_PER_OBJECT + block >= DIV_UP(e.size_bytes, (uint64_t)BLOCK_SIZE)))
            return true;
        if (e.object != object || block - e.first_block >= e.block_count)
            continue;
        if (e.type == ENTRY_WRITE)
            *ret_tag = model_tag(pg, i, (uint32_t)e.term, block - e.first_block);
        if (e.type == ENTRY_WRITE || e.type == ENTRY_CLEAR)
            return true;
    }
    return false;
}
