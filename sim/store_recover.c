/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery by copies of a PG that fell behind, as osd/recover_copy.c does it, with the model as the source.
 */
#include "sim/store_world.h"

#include <string.h>

#include "base/crc32c.h"

void recover_record(struct driver *d, enum store_pg_state state)
{
    struct world *w = d->world;
    struct store_pg_record record = pg_now(d, d->pg)->record;

    record.state = state;
    record.term = ++w->term_sent[d->pg];
    record.vote = (uint32_t)record.term % 7;
    d->pg_writing = true;
    store_pg_write_start(&d->pg_write, d->store, &record, &d->op);
}

/* Often an earlier state than what was copied: the log brings the rest again. One whose log is damaged may go
 * back behind what it had: others had destaged less. */
static uint64_t choose_base(struct driver *d)
{
    struct world *w = d->world;
    const struct model_pg *m = &w->pgs[d->pg];
    uint64_t low = MAX(m->born, w->damaged[d->pg] ? 1 : pg_now(d, d->pg)->last_index);

    for (uint32_t i = 0; i < m->splits; i++)
        low = m->split[i].index <= m->commit ? MAX(low, m->split[i].index) : low;
    for (uint32_t i = 0; i < MODEL_IMAGES; i++)
        low = MAX(low, m->forgotten[i]);
    if (low >= m->commit || sim_rng_below(&w->scars, 2))
        return m->commit;
    return m->commit - sim_rng_below(&w->scars, MIN(m->commit - low, 300) + 1);
}

/* In a run without damage it is often one that has not got all yet that is committed; the rest then comes
 * with the log. What an earlier recovery has brought, before a crash, may be newer. */
static void choose_source(struct driver *d)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[d->pg];
    uint64_t least = pg_now(d, d->pg)->applied_index;

    d->source = m;
    d->base = choose_base(d);
    w->mixed[d->pg] = m->commit;
    /* It may even have applied less. */
    if (sim_rng_below(&w->sources, 2))
        least -= MIN(least, 30u);
    if (m->born || !w->clean || MAX(least, 1u) >= m->commit || sim_rng_below(&w->sources, 2))
        return;
    d->base = m->commit - sim_rng_below(&w->sources, m->commit - MAX(least, 1u) + 1);
    if (!w->earlier)
        w->earlier = sim_alloc(sizeof(*w->earlier));
    model_replay(m, d->base, w->earlier);
    d->source = w->earlier;
}

/* The next object that is not as new here as it should be; false: none. */
static bool find_next(struct driver *d)
{
    const struct model_pg *m = d->source;

    for (; d->image < MODEL_IMAGES; d->image++, d->object = 0)
        for (; d->object < m->objects; d->object++) {
            const struct model_object *o = &m->object[d->image][d->object];
            struct store_object_info info = {0};
            bool found =
                store_object_next(pg_now(d, d->pg), false, d->image, d->object ? d->object - 1 : 0, &info);
            if (d->object == 0) {
                found = store_object_next(pg_now(d, d->pg), d->image == 0, d->image - 1, UINT64_MAX, &info);
            }
            bool have = found && info.image == d->image && info.object == d->object;
            if (o->index == 0 || m->images[d->image].deleted ||
                (have && info.index >= o->index && !info.damaged) || (have && info.index > o->index))
                continue;
            return true;
        }
    return false;
}

/* As recover_copy.c does it, with the model as the source. Of what that lacks anything may come. */
void recover_window(struct driver *d, const struct model_object *o)
{
    struct content_key key;
    uint32_t count = 0;

    memset(d->written, 0, sizeof(d->written));
    memset(d->same, 0, sizeof(d->same));
    marks_draw(d, o);
    store_copy_have(d->copy, d->block, IO_BLOCKS_MAX, d->have, d->have_crc, &key);
    struct content_hasher *hasher = content_hasher_new(&key);
    for (uint32_t i = 0; i < IO_BLOCKS_MAX; i++) {
        bool lost = bit_get(d->marks.lost, d->block + i);
        uint64_t tag = o->tag[d->block + i];
        if (!tag)
            continue;
        d->written[i / 64] |= 1ull << (i % 64);
        model_fill(lost ? ~tag : tag, d->buf->data + count * BLOCK_SIZE);
        d->copy_crc[i] = crc32c(0, d->buf->data + count * BLOCK_SIZE, BLOCK_SIZE);
        content_hash(hasher, d->buf->data + count * BLOCK_SIZE, BLOCK_SIZE, &d->hash[i]);
        if (!lost && d->have[i / 64] >> (i % 64) & 1 && d->have_crc[i] == d->copy_crc[i])
            d->same[i / 64] |= 1ull << (i % 64);
        else
            count++;
    }
    content_hasher_free(hasher);
    struct slice data = {.buf = d->buf, .len = count * BLOCK_SIZE};
    store_copy_write_start(&d->copy_write, d->copy, d->block, IO_BLOCKS_MAX, d->written, d->damaged,
                           d->marks.index, d->same, d->hash, d->copy_crc, count ? &data : NULL, &d->op);
}

static void take_images(struct driver *d)
{
    const struct model_pg *m = d->source;

    store_recover_floor(pg_now(d, d->pg), m->floor_epoch);
    for (uint32_t i = 0; i < MODEL_IMAGES; i++) {
        int rc = m->forgotten[i] ? store_recover_forget(pg_now(d, d->pg), i, m->forgotten[i]) : 0;
        if (rc == 0 && m->images[i].index)
            rc = store_recover_image(pg_now(d, d->pg), &m->images[i]);
        if (rc)
            driver_fail(d, "image record", rc);
    }
    if (m->splits && store_recover_shed(pg_now(d, d->pg), model_count(m, m->applied), d->base))
        driver_fail(d, "what is another PG's", -ERR_STOPPED);
    verify_records(d, d->pg);
}

/* What else was to make the object comes, and is replaced: it is not the log's alone. */
void recover_beside(struct driver *d)
{
    struct world *w = d->world;
    const struct model_pg *m = &w->pgs[d->pg];
    struct store_pg *pg = pg_now(d, d->pg);
    uint64_t index = pg->last_index + 1;
    struct entry e;

    if (d->healing || w->damaged[d->pg] || store_failed(d->store) || index > MIN(m->commit, d->base) ||
        sim_rng_below(&w->turns, 4))
        return;
    for (uint32_t term = m->term[index] + 1, tries = 0; tries < 100; term++, tries++) {
        model_entry(m, index, term, &e);
        if ((e.type != ENTRY_WRITE && e.type != ENTRY_CLEAR) || e.image != d->image || e.object != d->object)
            continue;
        if (work_append(d, d->pg, index, term) == 0)
            (void)work_append(d, d->pg, index, term + 1);
        return;
    }
}

static void verify_shed(struct driver *d)
{
    const struct model_pg *m = d->source;
    struct store_object_info at = {0};

    for (bool start = true; m->splits && store_object_next(pg_now(d, d->pg), start, at.image, at.object, &at);
         start = false)
        if (!model_belongs(m, m->applied, at.image, at.object))
            sim_fail(d->world->sim, "PG %u: object %lu/%lu is another PG's, and its recovery leaves it",
                     d->pg, at.image, at.object);
}

/* ---- one step after the other ---- */

/* What the recovery's source has of it. */
static const struct model_object *original(const struct driver *d)
{
    return &d->source->object[d->image][d->object];
}

static struct model_object *copied(struct driver *d)
{
    return &d->world->pgs[d->pg].object[d->image][d->object];
}

bool recover_copy_begin(struct driver *d)
{
    struct world *w = d->world;
    int rc = store_copy_new(pg_now(d, d->pg), d->image, d->object, &d->copy);

    if (rc == -ERR_NO_SPACE) {
        /* The workload's objects may be more than fit: nothing to do but to end here. */
        w->stop = true;
        d->op.state = DRIVE_FAILED;
    } else if (rc == -ERR_RETRY) {
        timer_arm(d->op.core, &d->timer, &d->op, core_now_ns(d->op.core) + 100 * NS_PER_US);
    } else if (rc) {
        driver_fail(d, "copy", rc);
    }
    marks_new(d);
    d->block = 0;
    return rc == 0;
}

static bool marked(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;

    d->pg_writing = false;
    if (d->pg_write.op.result) {
        driver_fail(d, "recovering mark", d->pg_write.op.result);
        return false;
    }
    w->term_acked[d->pg] = d->pg_write.record.term;
    w->marked[d->pg] = w->damaged[d->pg];
    w->recovering[d->pg] = true;
    w->fell_behind[d->pg] = true;
    op->state = DRIVE_BEHIND;
    /* What it has itself may be on its way to the device. */
    if (w->rot || sim_rng_below(&w->sources, 2))
        return true;
    store_destage_soon(pg_now(d, d->pg));
    timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + sim_rng_below(&w->sources, NS_PER_MS));
    return false;
}

/* It is split, one after the other, by what it has missed; then its copies begin. */
static bool behind_split(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;
    int rc = d->behind ? split_behind_end(d) : 0;

    if (rc == -ERR_NO_SPACE || rc == -ERR_NO_MEMORY) {
        w->stop = true;
        op->state = DRIVE_FAILED;
        return false;
    }
    if (rc) {
        driver_fail(d, "split behind", rc);
        return false;
    }
    if (split_behind(d))
        return false;
    /* Its children may be through with it first. */
    if (w->misses_splits && w->pgs[d->pg].splits && sim_rng_below(&w->misses, 2)) {
        d->pg++;
        op->state = DRIVE_RECOVER;
        return true;
    }
    choose_source(d);
    take_images(d);
    d->image = d->object = 0;
    op->state = DRIVE_COPY_NEXT;
    if (mend_held(d))
        op->state = DRIVE_HELD;
    return op->state == DRIVE_COPY_NEXT;
}

static bool copy_next(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;

    if (!find_next(d)) {
        if (!store_recover_settled(pg_now(d, d->pg))) {
            timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + 100 * NS_PER_US);
            return false;
        }
        const struct model_pg *m = d->source;
        struct group group;
        verify_shed(d);
        model_group_at(m, d->base, &group);
        d->table_base = table_record(d->store, pg_of(pg_now(d, d->pg))->table_index)->base_index;
        store_reset_base(pg_now(d, d->pg), d->base, m->term[d->base], &group,
                         m->splits ? model_count(m, d->base) : 0);
        op->state = DRIVE_RECOVERED;
        recover_record(d, w->damaged[d->pg] ? STORE_PG_DAMAGED : STORE_PG_NORMAL);
        return false;
    }
    if (!recover_copy_begin(d))
        return false;
    op->state = DRIVE_COPY_LOOK;
    if (below(d, 4)) { /* only what differs comes */
        store_copy_look_start(&d->copy_look, d->copy, op);
        return false;
    }
    return true;
}

static bool copy_written(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;

    /* What was thought to be here is damaged: once more without that. */
    if (d->copy_write.op.result != -ERR_CONFLICT)
        d->block += IO_BLOCKS_MAX;
    if (d->copy_write.op.result == -ERR_CONFLICT ||
        (d->copy_write.op.result == 0 && d->block < BLOCKS_PER_OBJECT)) {
        if (d->copy_write.op.result)
            marks_conflict(d);
        recover_window(d, original(d));
        return false;
    }
    op->state = DRIVE_COPY_END;
    if (!d->copy_write.op.result)
        marks_begin(d, copied(d), original(d), d->image, d->object);
    d->copy_seq = d->copy_write.op.result || !original(d)->index ? 0 : d->store->next_seq;
    store_copy_end_start(&d->copy_end, d->copy, d->copy_write.op.result ? 0 : original(d)->index, op);
    timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + sim_rng_below(&w->turns, 400) * NS_PER_US);
    return false;
}

static bool copy_ended(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;

    timer_cancel(op->core, &d->timer);
    if (!d->copy_write.op.result)
        marks_end(d, copied(d), original(d), d->copy_end.op.result);
    if (d->copy_write.op.result == -ERR_NO_SPACE || d->copy_end.op.result == -ERR_NO_SPACE) {
        w->stop = true;
        op->state = DRIVE_FAILED;
        return false;
    }
    if (d->healing && d->copy_end.op.result != -ERR_STOPPED) {
        d->healing = false;
        w->healed += d->copy_end.op.result == 0;
        d->block = 0;
        op->state = DRIVE_READ_NEXT;
        return true;
    }
    if (d->copy_write.op.result == 0 && d->copy_end.op.result == -ERR_CONFLICT) {
        op->state = DRIVE_COPY_NEXT; /* destage was there in between: once more */
        return true;
    }
    if (d->copy_write.op.result || d->copy_end.op.result) {
        driver_fail(d, "copy", d->copy_write.op.result ? d->copy_write.op.result : d->copy_end.op.result);
        return false;
    }
    w->copies++;
    d->object++;
    op->state = DRIVE_COPY_NEXT;
    return true;
}

static bool recovered(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;
    struct model_pg *m = &w->pgs[d->pg];

    d->pg_writing = false;
    if (d->pg_write.op.result) {
        driver_fail(d, "recovered", d->pg_write.op.result);
        return false;
    }
    w->term_acked[d->pg] = d->pg_write.record.term;
    w->recovering[d->pg] = w->fell_behind[d->pg] = false;
    w->reset_since[d->pg] = true;
    d->rest_ns = 0; /* what came meanwhile has just been applied */
    memset(w->behind[d->pg], 0, sizeof(w->behind[d->pg]));
    m->last = m->commit;
    model_cut(m, pg_now(d, d->pg)->record.base_index + 1);
    if (!w->damaged[d->pg]) /* what it says to have now it has for good */
        m->acked = MAX(m->acked, pg_now(d, d->pg)->record.base_index);
    if (pg_now(d, d->pg)->last_index != pg_now(d, d->pg)->record.base_index)
        sim_fail(w->sim, "PG %u: base is not what was set", d->pg);
    verify_newest(d);
    w->recovered++;
    d->pg = 0;
    op->state = DRIVE_AGAIN;
    w->verified = false;
    return true;
}

bool recover_drive(struct driver *d)
{
    struct op *op = &d->op;

    switch (op->state) {
    case DRIVE_MARK:
        return marked(d);
    case DRIVE_BEHIND:
        return behind_split(d);
    case DRIVE_HELD:
        mend_held_end(d);
        op->state = DRIVE_COPY_NEXT;
        return true;
    case DRIVE_COPY_NEXT:
        return copy_next(d);
    case DRIVE_COPY_LOOK:
        op->state = DRIVE_COPY_WRITE;
        recover_window(d, original(d));
        return false;
    case DRIVE_COPY_WRITE:
        return copy_written(d);
    case DRIVE_COPY_END:
        return copy_ended(d);
    case DRIVE_RECOVERED:
        return recovered(d);
    }
    UNREACHABLE();
}
