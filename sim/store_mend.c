/* SPDX-License-Identifier: Apache-2.0
 *
 * Beside the load: objects are mended, as osd/repair.c does it, with the model as the source. A block is
 * written in place, or the whole object replaced by a copy, of the state that it had when that began. Nothing
 * is wrong with them: what matters is that entries, destage, splits, removals and crashes meet them.
 */
#include "sim/store_world.h"

/* An object that there is, and that stays the PG's; false: none was found. */
static bool choose(struct driver *d)
{
    struct world *w = d->world;
    struct mending *mend = &d->mend;

    /* A split waits for those that are under way. */
    bool with_split = d->splitting && sim_rng_below(&w->mends, 2);
    mend->pg = with_split ? d->split_pg : (uint32_t)sim_rng_below(&w->mends, MODEL_PGS);
    const struct model_pg *m = &w->pgs[mend->pg];
    struct store_pg *pg = pg_now(d, mend->pg);
    if (!m->exists || !pg || w->recovering[mend->pg] || w->fell_behind[mend->pg] || store_applying(pg))
        return false;
    for (uint32_t tries = 0; tries < 20; tries++) {
        uint64_t image = 1 + (m->applied / MODEL_IMAGE_SPAN) * 2 + sim_rng_below(&w->mends, 2);
        mend->image =
            sim_rng_below(&w->mends, 4) ? image % MODEL_IMAGES : sim_rng_below(&w->mends, MODEL_IMAGES);
        mend->object = sim_rng_below(&w->mends, m->objects);
        const struct model_object *o = &m->object[mend->image][mend->object];
        if (!o->index || w->behind[mend->pg][mend->image][mend->object] || m->images[mend->image].deleted)
            continue;
        mend->index = o->index;
        mend->was = *o;
        return true;
    }
    return false;
}

static bool repair_begin(struct driver *d)
{
    struct mending *mend = &d->mend;
    uint32_t block = (uint32_t)sim_rng_below(&d->world->mends, BLOCKS_PER_OBJECT);
    struct slice data = {.buf = d->buf, .len = BLOCK_SIZE};

    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT && !mend->was.tag[block]; i++)
        block = (block + 1) % BLOCKS_PER_OBJECT;
    if (!mend->was.tag[block])
        return false;
    mend->other = sim_rng_below(&d->world->mends, 4) == 0;
    model_fill(mend->was.tag[block] + 2 * mend->other, d->buf->data);
    store_repair_start(&d->repair, pg_now(d, mend->pg), mend->image, mend->object, block, mend->index, &data,
                       &d->op);
    return true;
}

static struct model_object *mended(struct driver *d)
{
    const struct mending *mend = &d->mend;

    return &d->world->pgs[mend->pg].object[mend->image][mend->object];
}

static void copy_end(struct driver *d, uint64_t index)
{
    struct mending *mend = &d->mend;

    mend->state = MEND_END;
    mend->index = index;
    if (index)
        marks_begin(d, mended(d), &mend->was, mend->image, mend->object);
    d->copy_seq = index ? d->store->next_seq : 0;
    store_copy_end_start(&d->copy_end, d->copy, index, &d->op);
}

static void judge(struct driver *d, const char *what, int result)
{
    /* The object changed meanwhile, is another PG's, or went with its PG; or there is no room. */
    if (result == -ERR_RETRY || result == -ERR_CONFLICT || result == -ERR_NO_PG || result == -ERR_NO_SPACE ||
        result == -ERR_NO_MEMORY || verify_excused(d, result) || d->world->hurt || d->world->wounds)
        return;
    sim_fail(d->world->sim, "PG %u: object %lu/%lu: %s: %s", d->mend.pg, d->mend.image, d->mend.object, what,
             error_name(result));
}

static bool is_lost(const struct model_object *o, uint32_t block)
{
    return bit_get(o->lost, block) || bit_get(o->unsure, block);
}

/* It ends when its PG has fallen behind and recovers; or never, if it does not. */
static bool hold(struct driver *d)
{
    const struct model_object *was = &d->mend.was;
    uint64_t lost = 0;

    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++)
        lost |= d->marks.lost[i] | was->lost[i] | was->unsure[i];
    if (lost || d->held || d->leaving || d->world->stop || !d->world->clean ||
        sim_rng_below(&d->world->mends, 8))
        return false;
    d->held = d->copy;
    d->held_of = d->mend;
    d->mend.state = MEND_NONE;
    d->leaving = 50;
    return true;
}

bool mend_held(struct driver *d)
{
    struct store_copy *held = d->held;

    if (!held || d->held_of.pg != d->pg)
        return false;
    d->held = NULL;
    d->copy_seq = d->store->next_seq;
    store_copy_end_start(&d->copy_end, held, d->held_of.index, &d->op);
    return true;
}

void mend_held_end(struct driver *d)
{
    d->mend = d->held_of;
    d->mend.state = MEND_NONE;
    judge(d, "the end of an earlier copy", d->copy_end.op.result);
}

static void begin(struct driver *d)
{
    struct world *w = d->world;
    struct mending *mend = &d->mend;

    if (d->held && !d->leaving) {
        d->mend = d->held_of;
        d->copy = d->held;
        d->held = NULL;
        marks_new(d);
        copy_end(d, 0);
        return;
    }
    uint32_t rarely = d->splitting ? MIN(w->mend_rarely, 3u) : w->mend_rarely;
    if (w->stop || w->rot || d->leaving || sim_rng_below(&w->mends, rarely) || !choose(d))
        return;
    if (sim_rng_below(&w->mends, 2)) {
        mend->state = repair_begin(d) ? MEND_REPAIR : MEND_NONE;
        return;
    }
    if (store_copy_new(pg_now(d, mend->pg), mend->image, mend->object, &d->copy))
        return;
    mend->state = MEND_LOOK;
    marks_new(d);
    d->block = 0;
    if (sim_rng_below(&w->mends, 2)) /* only what differs comes */
        store_copy_look_start(&d->copy_look, d->copy, &d->op);
}

void mend_step(struct driver *d)
{
    struct mending *mend = &d->mend;
    int result;

    switch (mend->state) {
    case MEND_NONE:
        begin(d);
        return;
    case MEND_REPAIR:
        if (op_live(&d->repair.op))
            return;
        mend->state = MEND_NONE;
        if (mend->other && d->repair.op.result == 0)
            sim_fail(d->world->sim, "PG %u: object %lu/%lu: repaired with other data", mend->pg, mend->image,
                     mend->object);
        /* What is lost is not repaired block by block. */
        bool lost = is_lost(&mend->was, d->repair.block) || is_lost(mended(d), d->repair.block);
        if (!mend->other && !(lost && d->repair.op.result == -ERR_DAMAGED))
            judge(d, "repair", d->repair.op.result);
        d->world->mended += d->repair.op.result == 0;
        return;
    case MEND_LOOK:
        if (op_live(&d->copy_look.op))
            return;
        mend->state = MEND_WRITE;
        recover_window(d, &mend->was);
        return;
    case MEND_WRITE:
        if (op_live(&d->copy_write.op))
            return;
        result = d->copy_write.op.result;
        judge(d, "copy", result);
        if (result == 0)
            d->block += IO_BLOCKS_MAX;
        else if (result == -ERR_CONFLICT)
            marks_conflict(d);
        if (result && result != -ERR_CONFLICT)
            copy_end(d, 0);
        else if (d->block < BLOCKS_PER_OBJECT)
            recover_window(d, &mend->was);
        else if (!hold(d))
            copy_end(d, mend->index);
        return;
    case MEND_END:
        if (op_live(&d->copy_end.op))
            return;
        mend->state = MEND_NONE;
        judge(d, "copy's end", d->copy_end.op.result);
        if (mend->index)
            marks_end(d, mended(d), &mend->was, d->copy_end.op.result);
        d->world->mended += mend->index && d->copy_end.op.result == 0;
        return;
    }
}
