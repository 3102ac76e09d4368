/* SPDX-License-Identifier: Apache-2.0
 *
 * Comparing what the members of a PG say of a range of objects.
 *
 * Replicas are at different points of the same log, so what is not the same is looked at again: objects of
 * the same index have the same blocks, and in a moment without a write to them they have the same index. What
 * has the same versions on every member when it is looked at again, all of them having applied that much, and
 * is not equal, differs: that must never happen. An object that some have not may have been deleted, by an
 * entry that no row tells of. It is one that whoever had not got the object in one look had applied when the
 * next one began; so it takes a third, in which all have applied that much.
 */
#include <inttypes.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/plant.h"
#include "osd/scrub_lead.h"

struct scrub_object *scrub_object_find(struct scrub_objects *objects, uint64_t image, uint64_t object)
{
    for (uint32_t i = 0; i < objects->count; i++)
        if (objects->at[i].image == image && objects->at[i].object == object)
            return &objects->at[i];
    return NULL;
}

/* What the member told of the object; NULL: nothing, or it has not answered. */
static const struct scrub_row *row_find(const struct scrub_asked *a, uint64_t image, uint64_t object)
{
    for (uint32_t i = 0; a->answered && i < a->view.row_count; i++)
        if (a->view.rows[i].image == image && a->view.rows[i].object == object)
            return &a->view.rows[i];
    return NULL;
}

static bool contents_equal(const struct scrub_row *a, const struct scrub_row *b)
{
    return !a->has_content || !b->has_content || content_hash_equal(&a->content, &b->content) ||
           PLANT(OSD_SCRUB_TRUSTS_CRC);
}

static bool rows_equal(const struct scrub_row *a, const struct scrub_row *b)
{
    return a->index == b->index && a->digest == b->digest && contents_equal(a, b);
}

/* ---- objects ---- */

bool scrub_range_cut(struct scrub *s)
{
    struct scrub_range *range = &s->range;
    bool cut = false;

    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        if (!a->answered || !a->view.more || !a->view.row_count)
            continue;
        const struct scrub_row *last = &a->view.rows[a->view.row_count - 1];
        /* There cannot be more behind the end; who says so would have it asked for again and again. */
        bool end = range->has_end && last->image == range->end_image && last->object == range->end_object;
        if (end || !scrub_range_has(range, last->image, last->object))
            continue;
        range->has_end = cut = true;
        range->end_image = last->image;
        range->end_object = last->object;
    }
    return cut;
}

/* All objects that some member told of. */
static void collect(const struct scrub *s, struct scrub_objects *ret)
{
    ret->count = 0;
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        for (uint32_t j = 0; a->answered && j < a->view.row_count; j++) {
            const struct scrub_row *row = &a->view.rows[j];
            if (!scrub_object_find(ret, row->image, row->object))
                ret->at[ret->count++] = (struct scrub_object){.image = row->image, .object = row->object};
        }
    }
}

/* Which of the contents that differ the row has: keys differ from question to question, this does not. */
static uint32_t content_number(const struct scrub *s, const struct scrub_object *o,
                               const struct scrub_row *row)
{
    uint32_t i = 0;

    for (; row->has_content && i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_row *other = row_find(&s->asked[i], o->image, o->object);
        if (other && other->has_content && content_hash_equal(&row->content, &other->content))
            break;
    }
    return row->has_content ? i : UINT32_MAX;
}

/* What the members say of one object. */
struct opinion {
    uint64_t newest, applied; /* the highest index; the lowest that was applied */
    uint64_t reached;         /* newest, and what those that have not got it have applied */
    uint32_t rows, told,
        unhashed;         /* answers; of these that have the object whole; of these without contents */
    bool absent, damaged; /* for some */
    bool settled;         /* the same index and checksums */
    bool equal;           /* and contents, as far as they are known */
};

/* Sets o->versions. `ret_damaged`: blocks that some member lost for good. */
static struct opinion opinion_of(const struct scrub *s, struct scrub_object *o, uint64_t *ret_damaged)
{
    struct opinion op = {.applied = UINT64_MAX, .settled = true, .equal = true};
    const struct scrub_row *first = NULL;
    uint32_t hash = 0;

    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        const struct scrub_row *row = row_find(a, o->image, o->object);
        if (!a->answered)
            continue;
        op.rows++;
        op.applied = MIN(op.applied, a->view.applied_index);
        uint64_t told[4] = {row ? row->index : 0, row ? row->digest : 0, row ? content_number(s, o, row) : 0,
                            a->replica};
        hash = crc32c(hash, told, sizeof(told));
        if (!row) {
            op.absent = true;
            op.reached = MAX(op.reached, a->view.applied_index);
            continue;
        }
        op.newest = MAX(op.newest, row->index);
        for (uint32_t w = 0; w < BLOCKS_PER_OBJECT / 64; w++)
            ret_damaged[w] |= row->damaged[w];
        if (row->damaged_count) { /* its digest lacks what its page may not say any more */
            op.damaged = true;
            continue;
        }
        op.told++;
        op.unhashed += !row->has_content;
        op.settled &= !first || (row->index == first->index && row->digest == first->digest);
        op.equal &= !first || rows_equal(row, first);
        first = first ? first : row;
    }
    o->versions = (uint64_t)hash << 32 | (uint32_t)op.newest;
    o->reached = op.reached = MAX(op.reached, op.newest);
    op.settled &= !op.absent || op.damaged;
    return op;
}

static enum scrub_verdict judge(struct scrub *s, struct scrub_object *o, uint64_t *ret_damaged,
                                bool *ret_unread)
{
    struct opinion op = opinion_of(s, o, ret_damaged);
    bool known = !s->deep || op.told < 2 || !op.unhashed;

    *ret_unread = op.settled && (!known || !op.equal);
    if (op.settled && op.equal)
        return known ? SCRUB_SAME : SCRUB_UNREAD;
    const struct scrub_object *before = scrub_object_find(&s->before, o->image, o->object);
    if (!before || before->versions != o->versions)
        return SCRUB_MOVES;
    o->looks = before->looks + 1;
    bool shown = op.absent ? o->looks > 1 && op.applied >= before->reached : op.applied >= op.newest;
    return shown ? SCRUB_DIFFERS : SCRUB_MOVES;
}

bool scrub_is_same(struct scrub *s, uint64_t image, uint64_t object)
{
    struct scrub_object o = {.image = image, .object = object};
    uint64_t damaged[BLOCKS_PER_OBJECT / 64] = {0};
    bool unread;

    return judge(s, &o, damaged, &unread) == SCRUB_SAME;
}

void scrub_compare_all(struct scrub *s, const struct pg *pg, struct scrub_comparison *cmp)
{
    memset(cmp, 0, sizeof(*cmp));
    collect(s, &cmp->objects);
    cmp->all = true;
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        bool good = a->answered && a->view.applied_index >= pg->raft.term_start_index;
        cmp->all &= !a->there || good;
        cmp->mine |= good && a->replica == pg->replica;
    }
    for (uint32_t i = 0; i < cmp->objects.count; i++) {
        bool unread;
        cmp->verdicts[i] = judge(s, &cmp->objects.at[i], cmp->damaged[i], &unread);
        cmp->moving += cmp->verdicts[i] == SCRUB_MOVES;
        cmp->skipped += cmp->verdicts[i] == SCRUB_MOVES || cmp->verdicts[i] == SCRUB_UNREAD;
        cmp->unread += unread;
        for (uint32_t w = 0; w < BLOCKS_PER_OBJECT / 64; w++)
            cmp->left += (uint32_t)__builtin_popcountll(cmp->damaged[i][w]);
    }
}

/* ---- what differs ---- */

/* For people: what is not the same has another number. */
static uint32_t version_number(const struct scrub_row *row)
{
    return row->has_content ? crc32c(row->digest, row->content.bytes, sizeof(row->content.bytes))
                            : row->digest;
}

void scrub_difference_note(struct scrub *s, struct pg *pg, const struct scrub_object *o)
{
    struct pg_scrub *total = &pg->scrub;
    struct pg_difference *d = NULL;

    core_log(s->op.core, LOG_ERROR, "osd",
             PG_FMT ": image %" PRIu64 " object %" PRIu64
                    " is not the same on all replicas, though its checksums are right",
             PG_ARGS(pg->id), o->image, o->object);
    total->differing++;
    s->shard->perf.scrub_differing++;
    if (total->difference_count < PG_SCRUB_DIFFERENCES)
        d = &total->difference[total->difference_count++];
    if (d)
        *d = (struct pg_difference){.image = o->image, .object = o->object};
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        if (!a->answered)
            continue;
        const struct scrub_row *row = row_find(a, o->image, o->object);
        struct pg_version version = {.replica = a->replica, .osd = a->osd, .absent = !row};
        if (row) {
            version.index = row->index;
            version.digest = version_number(row);
        }
        core_log(s->op.core, LOG_ERROR, "osd",
                 PG_FMT ":   replica %u on osd.%u: %s index %" PRIu64 " digest %08x", PG_ARGS(pg->id),
                 a->replica, a->osd, row ? "" : "absent", version.index, version.digest);
        if (d)
            d->version[d->version_count++] = version;
    }
}

/* The row that more than half of all members have. */
static const struct scrub_row *majority_of(const struct scrub *s, const struct pg *pg,
                                           const struct scrub_object *o, uint32_t *ret_replica)
{
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_row *row = row_find(&s->asked[i], o->image, o->object);
        uint32_t count = 0;
        for (uint32_t j = 0; row && !row->damaged_count && j < ARRAY_LEN(s->asked); j++) {
            const struct scrub_row *other = row_find(&s->asked[j], o->image, o->object);
            count += other && !other->damaged_count && rows_equal(other, row);
        }
        if (count * 2 > pg->member_count) {
            *ret_replica = s->asked[i].replica;
            return row;
        }
    }
    return NULL;
}

uint32_t scrub_equalize(struct scrub *s, const struct pg *pg, const struct scrub_object *o)
{
    uint32_t source = 0;
    const struct scrub_row *good = majority_of(s, pg, o, &source);

    for (uint32_t i = 0; good && i < ARRAY_LEN(s->asked); i++) {
        struct scrub_asked *a = &s->asked[i];
        const struct scrub_row *row = row_find(a, o->image, o->object);
        a->copy_from = a->answered && !(row && rows_equal(row, good)) ? source : 0;
    }
    return source;
}

/* ---- damage ---- */

void scrub_list_damage(struct scrub *s, struct pg *pg, const struct scrub_comparison *cmp)
{
    static const uint64_t none[BLOCKS_PER_OBJECT / 64];
    const struct scrub_objects *objects = &cmp->objects;

    if (!cmp->mine)
        return;
    for (uint32_t i = 0; i < objects->count; i++)
        damage_set(pg, objects->at[i].image, objects->at[i].object, cmp->damaged[i]);
    list_for_each (&pg->damages, node) {
        struct pg_damage *d = list_entry(node, struct pg_damage, link);
        bool found = false;
        for (uint32_t i = 0; i < objects->count; i++)
            found |= objects->at[i].image == d->image && objects->at[i].object == d->object;
        if (!found && (s->recheck || pg->scrub.deep) && scrub_range_has(&s->range, d->image, d->object))
            damage_set(pg, d->image, d->object, none);
    }
}
