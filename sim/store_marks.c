/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that are lost. A copy's source may have no content for some blocks; then none is known here either
 * from then on, until they are written, cleared, or come with another copy. The model knows which these are,
 * so that what should be there is not excused, and what should be gone is not found again.
 */
#include "sim/store_world.h"

#include <string.h>

void marks_new(struct driver *d)
{
    d->marks = (struct marking){0};
}

void marks_conflict(struct driver *d)
{
    /* Each time it is another block at least. */
    if (++d->marks.conflicts > BLOCKS_PER_OBJECT)
        sim_fail(d->world->sim, "a copy has the same asked for again and again");
}

void marks_draw(struct driver *d, const struct model_object *source)
{
    struct sim_rng *rng = &d->world->marks;
    struct marking *marks = &d->marks;
    uint32_t one_in = 1u << sim_rng_below(rng, 4);

    memset(d->damaged, 0, sizeof(d->damaged));
    for (uint32_t i = 0; i < IO_BLOCKS_MAX; i++)
        bit_clear(marks->lost, d->block + i);
    if (!d->world->marks_rarely || marks->conflicts || sim_rng_below(rng, d->world->marks_rarely))
        return;
    for (uint32_t b = d->block; b < d->block + IO_BLOCKS_MAX; b++) {
        if (!source->tag[b] || sim_rng_below(rng, one_in))
            continue;
        bit_set(marks->lost, b);
        bit_set(d->damaged, b - d->block);
        marks->index = MAX(marks->index, source->at[b]);
    }
    /* It may not know so well since when. */
    if (marks->index && sim_rng_below(rng, 3) == 0)
        marks->index += sim_rng_below(rng, source->index - marks->index + 1);
}

/* Nothing has touched it since the copy was made. */
static bool is_copys(const struct model_object *o, const struct model_object *was, uint32_t block)
{
    return o->tag[block] && o->tag[block] == was->tag[block];
}

void marks_begin(struct driver *d, struct model_object *o, const struct model_object *was, uint64_t image,
                 uint64_t object)
{
    struct marking *marks = &d->marks;

    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        d->world->lossy[image][object] |= bit_get(marks->lost, b);
        if (!is_copys(o, was, b) || bit_get(o->lost, b) == bit_get(marks->lost, b) || bit_get(o->unsure, b))
            continue;
        bit_set(marks->unsure, b);
        bit_set(o->unsure, b);
    }
    marks->index_before = o->lost_index;
    o->lost_index = MAX(o->lost_index, marks->index);
    o->copies++;
}

void marks_end(struct driver *d, struct model_object *o, const struct model_object *was, int result)
{
    const struct marking *marks = &d->marks;

    o->copies++;
    if (result == -ERR_STOPPED)
        return; /* the next start tells */
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        bool lost = bit_get(marks->lost, b) && is_copys(o, was, b);
        if (!result || (is_copys(o, was, b) && bit_get(marks->unsure, b)))
            bit_clear(o->unsure, b);
        if (result)
            continue;
        /* What has touched it since, or comes with the log again, makes it whole. */
        bit_clear(o->lost, b);
        if (lost)
            bit_set(o->lost, b);
        d->world->marked_blocks += lost;
    }
    o->lost_index = result ? marks->index_before : marks->index;
}

void marks_found(struct model_object *o, const struct store_read *r)
{
    for (uint32_t i = 0; i < r->block_count && (r->op.result == 0 || r->op.result == -ERR_DAMAGED); i++) {
        uint32_t b = r->first_block + i;
        if (!bit_get(o->unsure, b))
            continue;
        bit_clear(o->unsure, b);
        bit_clear(o->lost, b);
        if (bit_get(r->ret_damaged, i))
            bit_set(o->lost, b);
    }
}
