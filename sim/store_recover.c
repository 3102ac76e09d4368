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
static uint64_t recover_base(struct driver *d)
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
void recover_source(struct driver *d)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[d->pg];
    uint64_t least = pg_now(d, d->pg)->applied_index;

    d->source = m;
    d->base = recover_base(d);
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
bool recover_find(struct driver *d)
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

void recover_images(struct driver *d)
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

void recover_verify_shed(struct driver *d)
{
    const struct model_pg *m = d->source;
    struct store_object_info at = {0};

    for (bool start = true; m->splits && store_object_next(pg_now(d, d->pg), start, at.image, at.object, &at);
         start = false)
        if (!model_belongs(m, m->applied, at.image, at.object))
            sim_fail(d->world->sim, "PG %u: object %lu/%lu is another PG's, and its recovery leaves it",
                     d->pg, at.image, at.object);
}
