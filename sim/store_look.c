/* SPDX-License-Identifier: Apache-2.0
 *
 * Beside the load: what replicas tell each other of objects without reading their data (osd/scrub_look.c,
 * osd/recover_serve.c): digests, and what the log has anew, or voids.
 */
#include "sim/store_world.h"

#include <string.h>

#include "base/crc32c.h"

static uint32_t model_digest(struct driver *d, const struct model_object *o, uint32_t *ret_written)
{
    struct {
        uint32_t block, crc;
    } rows[BLOCKS_PER_OBJECT];
    uint32_t n = 0;

    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        if (!o->tag[b] || bit_get(o->lost, b)) /* these do not count */
            continue;
        model_fill(o->tag[b], d->look_block);
        rows[n].block = b;
        rows[n++].crc = crc32c(0, d->look_block, BLOCK_SIZE);
    }
    *ret_written = n;
    return crc32c(0, rows, n * sizeof(rows[0]));
}

/* Blocks of which a copy that is taking the object's place, or was when a crash came, says something else. */
static bool is_unsure(const struct model_object *o)
{
    uint64_t any = 0;

    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT / 64; i++)
        any |= o->unsure[i];
    return any;
}

static void digest_reap(struct driver *d)
{
    const struct store_digest *digest = &d->digest;
    const struct model_pg *m = &d->world->pgs[d->look_pg];
    const struct model_object *o = &m->object[digest->image][digest->object];
    uint32_t written;

    d->looking = false;
    if (!m->exists || !pg_now(d, d->look_pg) || o->index != d->look_index ||
        d->world->fell_behind[d->look_pg] || split_is_mine(d, d->look_pg, digest->image, digest->object))
        return;
    if (o->copies != d->look_copies || is_unsure(o))
        return;
    if (d->world->hurt || d->world->wounds || digest->op.result == -ERR_RETRY ||
        (digest->op.result && verify_excused(d, digest->op.result)))
        return;
    uint32_t want = model_digest(d, o, &written);
    if (digest->op.result == -ERR_NOT_FOUND ? written : digest->op.result != 0)
        sim_fail(d->world->sim, "PG %u: object %lu/%lu: digest: %s", d->look_pg, digest->image,
                 digest->object, error_name(digest->op.result));
    else if (!digest->op.result && ((o->index && digest->ret_index != o->index) ||
                                    digest->ret_written != written || digest->ret_digest != want))
        sim_fail(d->world->sim,
                 "PG %u: object %lu/%lu: digest of index %lu with %u blocks, should be of %lu with %u%s",
                 d->look_pg, digest->image, digest->object, digest->ret_index, digest->ret_written, o->index,
                 written, digest->ret_digest == want ? "" : "; it is another");
    else if (!digest->op.result && memcmp(digest->ret_lost, o->lost, sizeof(o->lost)))
        sim_fail(d->world->sim, "PG %u: object %lu/%lu: digest: other blocks are lost", d->look_pg,
                 digest->image, digest->object);
}

/* Blocks of the object that the entry writes or voids. */
static void model_reach(const struct model_pg *m, uint64_t index, uint64_t image, uint64_t object,
                        uint64_t *blocks)
{
    struct entry e;
    uint64_t first = 0, end = 0;

    model_entry(m, index, m->term[index], &e);
    if (e.type == ENTRY_SPLIT || e.image != image)
        return;
    if (e.type == ENTRY_FORGET || e.type == ENTRY_IMAGE) {
        bool whole = e.type == ENTRY_FORGET || e.flags & ENTRY_IMAGE_DELETED;
        uint64_t left = whole ? 0 : DIV_UP(e.size_bytes, (uint64_t)BLOCK_SIZE),
                 before = object * BLOCKS_PER_OBJECT;
        first = left > before ? left - before : 0;
        end = BLOCKS_PER_OBJECT;
    } else if ((e.type == ENTRY_WRITE || e.type == ENTRY_CLEAR) && e.object == object) {
        first = e.first_block;
        end = first + e.block_count;
    }
    for (uint64_t b = first; b < end; b++)
        bit_set(blocks, (uint32_t)b);
}

static void look_coming(struct driver *d, const struct store_pg *pg, uint64_t image, uint64_t object)
{
    const struct model_pg *m = &d->world->pgs[d->look_pg];
    const struct model_object *o = &m->object[image][object];
    uint64_t coming[IO_BLOCKS_MAX / 64], want[BLOCKS_PER_OBJECT / 64] = {0}, index,
                                                                  lost[BLOCKS_PER_OBJECT / 64];
    uint32_t first = (uint32_t)sim_rng_below(&d->world->looks, 2) * (BLOCKS_PER_OBJECT - IO_BLOCKS_MAX);

    if (pg->last_index != m->last || !store_object_lost(pg, image, object, &index, lost))
        return;
    for (uint64_t i = MAX(pg->applied_index, index) + 1; i <= m->last; i++)
        model_reach(m, i, image, object, want);
    store_blocks_coming(pg, image, object, first, IO_BLOCKS_MAX, coming);
    for (uint32_t b = 0; b < IO_BLOCKS_MAX; b++) {
        if (bit_get(coming, b) != bit_get(want, first + b))
            sim_fail(d->world->sim, "PG %u: object %lu/%lu block %u: the log %s it anew", d->look_pg, image,
                     object, first + b, bit_get(want, first + b) ? "has, and does not tell," : "has not");
        bool is_lost = bit_get(lost, first + b);
        if (is_lost != bit_get(o->lost, first + b) && !bit_get(o->unsure, first + b) && !d->world->hurt &&
            !d->world->wounds)
            sim_fail(d->world->sim, "PG %u: object %lu/%lu block %u is %s", d->look_pg, image, object,
                     first + b, is_lost ? "lost" : "lost, and there");
    }
}

void look_step(struct driver *d)
{
    struct world *w = d->world;
    struct sim_rng *rng = &w->looks;
    struct entry e;

    if (d->looking && !op_live(&d->digest.op))
        digest_reap(d);
    if (d->looking || w->rot || w->stop || sim_rng_below(rng, 60))
        return;
    d->look_pg = (uint32_t)sim_rng_below(rng, MODEL_PGS);
    const struct model_pg *m = &w->pgs[d->look_pg];
    struct store_pg *pg = pg_now(d, d->look_pg);
    w->looked++;
    if (!m->exists || !pg || w->recovering[d->look_pg] || w->fell_behind[d->look_pg])
        return;
    model_entry(m, m->last - sim_rng_below(rng, MIN(m->last, 40) + 1), 1, &e);
    uint64_t image = e.type == ENTRY_SPLIT ? 1 : e.image, object = sim_rng_below(rng, m->objects);
    if (split_is_mine(d, d->look_pg, image, object) || store_clearing(pg, image))
        return;
    look_coming(d, pg, image, object);
    if (sim_rng_below(rng, 4))
        return;
    d->look_index = m->object[image][object].index;
    d->look_copies = m->object[image][object].copies;
    d->looking = true;
    store_digest_start(&d->digest, pg, image, object, &d->op);
}
