/* SPDX-License-Identifier: Apache-2.0
 *
 *      COPY (if asked) --> OBJECT <--> PACE --> READ --> (the next window, or object)
 *                             |                   |  ^
 *                             '-- none left       |  AGAIN: what is still damaged
 *                                 --> done        '--> REPAIR --'
 *
 * An object is only read in a deep look, or if something of it is known to be lost. Blocks whose newest
 * version is still in memory are not on the medium yet; the store answers for them from there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "osd/recover_copy.h"
#include "osd/repair.h"
#include "osd/scrub.h"

enum { LOOK_COPY, LOOK_OBJECT, LOOK_DIGEST, LOOK_PACE, LOOK_READ, LOOK_REPAIR, LOOK_AGAIN };
#define LOOK_ROWS       PLANT_SCARCE(SCRUB_ROWS_MAX, 2u) /* objects in one answer */
#define LOOK_WINDOW     64 /* blocks read at once: more would stand in front of clients' reads */
#define LOOK_IDLE_PER_S (64u << 20)
#define LOOK_BUSY_PER_S (8u << 20) /* bytes, while the shard has other work */
#define LOOK_RETRY_NS   (10 * NS_PER_MS)

static const char *look_state_name(int state)
{
    static const char *const names[] = {"copy", "object", "digest", "pace", "read", "repair", "again"};
    return names[state];
}
static void look_step(struct op *op);
static const struct op_kind look_kind = {"osd.scrub-look", look_state_name, look_step};

void scrub_look_start(struct scrub_look *l, struct pg *pg, const struct scrub_range *range,
                      const struct content_key *key, uint32_t copy_from, struct op *parent)
{
    l->pg = pg;
    l->range = *range;
    l->deep = key;
    l->hasher = key ? content_hasher_new(key) : NULL;
    l->copy_from = copy_from;
    l->ret.applied_index = pg->sp->applied_index;
    l->ret.bytes = l->ret.found = l->ret.repaired = 0;
    l->ret.row_count = 0;
    l->ret.more = false;
    l->image = range->image;
    l->object = range->object;
    l->has_object = range->has_cursor;
    list_init(&l->link);
    list_push_back(&pg->looks, &l->link);
    op_start(&l->op, pg->shard->core, &look_kind, parent);
}

void scrub_wake_looks(struct pg *pg)
{
    list_for_each (&pg->looks, node)
        op_wake(&list_entry(node, struct scrub_look, link)->op);
}

struct scrub_range scrub_range_of(uint64_t image, uint64_t object)
{
    return (struct scrub_range){
        .has_cursor = image || object,
        .has_end = true,
        .image = object ? image : image - 1,
        .object = object ? object - 1 : UINT64_MAX,
        .end_image = image,
        .end_object = object,
    };
}

static bool is_after(uint64_t image, uint64_t object, uint64_t than_image, uint64_t than_object)
{
    return image != than_image ? image > than_image : object > than_object;
}

bool scrub_range_has(const struct scrub_range *range, uint64_t image, uint64_t object)
{
    return (!range->has_cursor || is_after(image, object, range->image, range->object)) &&
           (!range->has_end || !is_after(image, object, range->end_image, range->end_object));
}

static void look_end(struct scrub_look *l, int error)
{
    struct pg *pg = l->pg;

    timer_cancel(l->op.core, &l->timer);
    slice_unref(&l->read.ret_data);
    free(l->copy);
    l->copy = NULL;
    content_hasher_free(l->hasher);
    l->hasher = NULL;
    list_remove(&l->link);
    pg->shard->perf.scrub_bytes += l->ret.bytes;
    pg->shard->perf.scrub_found += l->ret.found;
    op_done(&l->op, error);
    pg_wake(pg);
}

/* What is here must be what the log makes of it: not when objects are being copied, not while a store that
 * was opened again has less applied than its objects may know of, and not while an entry that is not applied
 * yet clears objects: whoever lacks one has applied what deleted it. */
static bool look_settled(const struct pg *pg)
{
    bool clearing = store_applying(pg->sp) && !PLANT(OSD_SCRUB_CLEARED);

    return pg->sp->record.state == STORE_PG_NORMAL && !pg->sp->damaged && !recover_active(pg) && !clearing &&
           pg->sp->applied_index >= pg->settled_index;
}

static uint32_t count_bits(const uint64_t *bits, uint32_t words)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < words; i++)
        count += (uint32_t)__builtin_popcountll(bits[i]);
    return count;
}

static void row_add(struct scrub_look *l)
{
    const struct store_digest *d = &l->digest;

    /* One without blocks may be a tombstone, which the other replicas may or may not have any more. */
    if (!d->ret_written && !count_bits(d->ret_lost, ARRAY_LEN(d->ret_lost)))
        return;
    struct scrub_row *row = &l->ret.rows[l->ret.row_count++];
    *row = (struct scrub_row){.image = l->image,
                              .object = l->object,
                              .index = d->ret_index,
                              .applied_index = l->digest_applied_index,
                              .digest = d->ret_digest};
    for (uint32_t i = 0; i < ARRAY_LEN(row->damaged); i++)
        row->damaged[i] = d->ret_lost[i] | l->left[i];
    row->damaged_count = count_bits(row->damaged, ARRAY_LEN(row->damaged));
    row->has_content = l->read_through && l->hashed && l->hashed_index == d->ret_index;
    if (row->has_content)
        content_hash(l->hasher, &l->contents, sizeof(l->contents), &row->content);
}

/* The contents of the window become part of what is hashed of the object. */
static void window_hash(struct scrub_look *l)
{
    const struct store_read *r = &l->read;
    uint64_t whole = r->ret_written[0] & ~r->ret_damaged[0];

    if (!l->hasher || !r->ret_data.buf)
        return;
    l->hashed = !l->hashed_index || (l->hashed && l->hashed_index == r->ret_index);
    l->hashed_index = r->ret_index;
    l->contents.written[l->first_block / 64] = whole;
    for (uint32_t i = 0; i < LOOK_WINDOW; i++)
        if (whole >> i & 1)
            content_hash(l->hasher, slice_data(&r->ret_data) + (size_t)i * BLOCK_SIZE, BLOCK_SIZE,
                         &l->contents.block[l->first_block + i]);
}

/* The next window with something in it; false: there is none. */
static bool window_find(struct scrub_look *l)
{
    while (l->first_block < BLOCKS_PER_OBJECT && !l->written[l->first_block / 64])
        l->first_block += LOOK_WINDOW;
    return l->first_block < BLOCKS_PER_OBJECT;
}
_Static_assert(LOOK_WINDOW == 64, "a window is a word of the bitmaps");

/* Not before what was read last has had its time. */
static void pace(struct scrub_look *l)
{
    struct osd_shard *shard = l->pg->shard;

    l->op.state = LOOK_PACE;
    timer_arm(l->op.core, &l->timer, &l->op, MAX(shard->scrub_next_ns, core_now_ns(l->op.core)));
}

static void pace_count(struct osd_shard *shard, uint32_t blocks)
{
    uint64_t traffic =
        shard->perf.writes + shard->perf.reads + shard->perf.clears + shard->perf.append_entries_received;
    uint64_t per_s = traffic != shard->scrub_traffic ? LOOK_BUSY_PER_S : LOOK_IDLE_PER_S;

    shard->scrub_traffic = traffic;
    shard->scrub_next_ns = MAX(shard->scrub_next_ns, core_now_ns(shard->core)) +
                           (uint64_t)blocks * BLOCK_SIZE * NS_PER_S / per_s;
}

static void digest_begin(struct scrub_look *l)
{
    l->op.state = LOOK_DIGEST;
    l->op.child_result = 0;
    l->digest_applied_index = l->pg->sp->applied_index;
    store_digest_start(&l->digest, l->pg->sp, l->image, l->object, &l->op);
}

/* Reads the object, if there is something to be read. */
static bool object_read(struct scrub_look *l)
{
    l->first_block = 0;
    l->read_through = true;
    l->hashed = false;
    l->hashed_index = 0;
    memset(&l->contents, 0, sizeof(l->contents));
    if (!store_block_status(l->pg->sp, l->image, l->object, l->written) || !window_find(l))
        return false;
    pace(l);
    return true;
}

static void look_object(struct scrub_look *l)
{
    struct pg *pg = l->pg;
    struct store_object_info info;

    if (!look_settled(pg)) {
        look_end(l, -ERR_RECOVERING);
        return;
    }
    if (!store_object_next(pg->sp, !l->has_object, l->image, l->object, &info) ||
        !scrub_range_has(&l->range, info.image, info.object)) {
        look_end(l, 0);
        return;
    }
    if (l->ret.row_count == LOOK_ROWS) {
        l->ret.more = true;
        look_end(l, 0);
        return;
    }
    l->image = info.image;
    l->object = info.object;
    l->has_object = true;
    l->read_through = false;
    memset(l->left, 0, sizeof(l->left));
    if (!((l->deep || info.damaged) && object_read(l)))
        digest_begin(l);
}

static void look_digest(struct scrub_look *l)
{
    int error = l->op.child_result;

    l->op.child_result = 0;
    if (error && error != -ERR_NOT_FOUND) {
        look_end(l, error == -ERR_RETRY ? -ERR_RECOVERING : error);
        return;
    }
    /* Its page was found unreadable just now. */
    if (!error && !l->read_through && count_bits(l->digest.ret_lost, ARRAY_LEN(l->digest.ret_lost)) &&
        object_read(l))
        return;
    if (!error)
        row_add(l);
    l->op.state = LOOK_OBJECT;
    look_object(l);
}

static void window_read(struct scrub_look *l, int state)
{
    l->op.state = state;
    l->op.child_result = 0;
    pace_count(l->pg->shard, LOOK_WINDOW);
    store_read_start(&l->read, l->pg->sp, l->image, l->object, l->first_block, LOOK_WINDOW, false, &l->op);
}

static void window_next(struct scrub_look *l)
{
    l->op.child_result = 0;
    l->first_block += LOOK_WINDOW;
    if (window_find(l)) {
        pace(l);
        return;
    }
    digest_begin(l);
}

/* Every read's end, before and after a repair. */
static void window_done(struct scrub_look *l)
{
    int error = l->op.child_result;
    bool again = l->op.state == LOOK_AGAIN;
    uint32_t damaged = error == -ERR_DAMAGED ? count_bits(l->read.ret_damaged, 1) : 0;

    if (!error || damaged)
        window_hash(l);
    slice_unref(&l->read.ret_data);
    if (error && !damaged && !again) { /* no memory now, or the object changes all the time */
        l->op.child_result = 0;
        l->op.state = LOOK_PACE;
        timer_arm(l->op.core, &l->timer, &l->op, core_now_ns(l->op.core) + LOOK_RETRY_NS);
        return;
    }
    if (again) {
        l->ret.repaired += l->damaged_now - MIN(damaged, l->damaged_now);
        l->left[l->first_block / 64] = damaged ? l->read.ret_damaged[0] : 0;
        window_next(l);
        return;
    }
    l->ret.bytes += count_bits(l->read.ret_written, 1) * BLOCK_SIZE;
    if (!damaged) {
        window_next(l);
        return;
    }
    l->ret.found += damaged;
    l->damaged_now = damaged;
    l->op.child_result = 0;
    l->op.state = LOOK_REPAIR;
    repair_start(l->pg, &l->read, &l->op);
}

static void look_copy(struct scrub_look *l)
{
    struct pg *pg = l->pg;

    if (!l->copy_from) {
        l->op.state = LOOK_OBJECT;
        look_object(l);
        return;
    }
    if (!l->copy) {
        l->copy = look_settled(pg) ? calloc(1, sizeof(*l->copy)) : NULL;
        if (!l->copy) {
            look_end(l, look_settled(pg) ? -ERR_NO_MEMORY : -ERR_RECOVERING);
            return;
        }
        core_log(pg->shard->core, LOG_WARN, "osd",
                 PG_FMT ": image %llu object %llu is replaced by the version of replica %u, as ordered",
                 PG_ARGS(pg->id), (unsigned long long)l->range.end_image,
                 (unsigned long long)l->range.end_object, l->copy_from);
        recover_copy_start(l->copy, pg, l->copy_from, l->range.end_image, l->range.end_object,
                           pg->raft.commit_index, &l->op);
        return;
    }
    int error = l->op.child_result;
    if (error) {
        look_end(l, error == -ERR_RETRY ? -ERR_RECOVERING : error);
        return;
    }
    l->op.state = LOOK_OBJECT;
    look_object(l);
}

static void look_step(struct op *op)
{
    struct scrub_look *l = container_of(op, struct scrub_look, op);
    struct pg *pg = l->pg;

    if (pg->stopping && l->copy && op_live(&l->copy->op) && !l->copy->op.cancelled)
        op_cancel(&l->copy->op);
    if (op->children)
        return;
    if (pg->stopping || pg->shard->failed) {
        look_end(l, pg->stopping ? -ERR_NO_PG : -ERR_STOPPED);
        return;
    }
    switch (op->state) {
    case LOOK_COPY:
        look_copy(l);
        return;
    case LOOK_OBJECT:
        look_object(l);
        return;
    case LOOK_DIGEST:
        look_digest(l);
        return;
    case LOOK_PACE:
        if (timer_armed(&l->timer))
            return;
        if (core_now_ns(op->core) < pg->shard->scrub_next_ns) {
            pace(l); /* another look was faster */
            return;
        }
        window_read(l, LOOK_READ);
        return;
    case LOOK_READ:
    case LOOK_AGAIN:
        window_done(l);
        return;
    case LOOK_REPAIR:
        window_read(l, LOOK_AGAIN);
        return;
    }
}
