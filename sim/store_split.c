/* SPDX-License-Identifier: Apache-2.0
 *
 * PGs are split, beside the load and after a crash, also while the replica is not there; some of them,
 * parents and children, are removed later.
 */
#include "sim/store_world.h"

#include <string.h>

/* One of those that there are. */
uint32_t any_pg(struct driver *d)
{
    uint32_t i = (uint32_t)below(d, MODEL_PGS);

    while (!d->world->pgs[i].exists)
        i = (i + 1) % MODEL_PGS;
    return i;
}

/* What is to go is nobody's to look at meanwhile. */
bool split_is_mine(const struct driver *d, uint32_t pg, uint64_t image, uint64_t object)
{
    const struct model_pg *m = &d->world->pgs[pg];

    return d->splitting && d->split_pg == pg && !model_belongs(m, m->applied + 1, image, object);
}

/* Is the PG to be born here? Some are not. */
static bool is_wanted(const struct world *w, uint32_t child)
{
    return !w->pgs[child].exists && !w->missed[child] && !w->removed[child] && w->pgs[child].seed % 4;
}

/* What went is not to be seen any more. */
static void verify_split(struct driver *d, uint32_t pg)
{
    struct model_pg *m = &d->world->pgs[pg];
    struct store_object_info at = {0};

    for (bool start = true; store_object_next(pg_now(d, pg), start, at.image, at.object, &at); start = false)
        if (!model_belongs(m, m->applied, at.image, at.object))
            sim_fail(d->world->sim, "PG %u: object %lu/%lu is another PG's since the split at %lu", pg,
                     at.image, at.object, m->applied);
}

void split_always(void *owner, struct sim *sim)
{
    struct world *w = owner;
    const struct driver *d = w->driver;
    struct store_object_info at = {0};

    if (!d || !d->store || !(d->splitting || d->behind) || sim_rng_below(&w->spies, 4))
        return;
    const struct store_pg *pg = store_pg_find(d->store, d->split.pg);
    if (!pg || !pg_of(pg)->splitting || !d->split.split_count ||
        pg->record.split_count < d->split.split_count)
        return;
    for (bool start = true; store_object_next(pg, start, at.image, at.object, &at); start = false)
        if (!split_belongs(pg_of(pg), d->split.split_count, at.image, at.object))
            sim_fail(w->sim, "PG %lx: object %lu/%lu, which goes to another PG, is seen", pg->record.pg,
                     at.image, at.object);
}

static void apply_split(struct driver *d, uint32_t pg, bool born)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[pg];
    uint32_t child = model_split_due(m)->child;

    model_split(m, born ? &w->pgs[child] : NULL);
    w->splits++;
    if (w->sim->verbose)
        sim_log(w->sim, "PG %u: split at %lu, PG %u is %s", pg, m->applied, child,
                born ? "born" : "not wanted");
    if (!born)
        return;
    if (sim_rng_below(&w->moments, 3) == 0)
        d->remove_next = child;
    w->created[child] = true;
    w->term_acked[child] = w->term_sent[child] = m->term[m->applied];
    /* Its parent may have been damaged, and lack what its log does not bring again. */
    memcpy(w->behind[child], w->behind[pg], sizeof(w->behind[child]));
}

/* It is RECOVERING, or DAMAGED when some of the ring is missing, and has what its parent had here. */
static void born_behind(struct driver *d, uint32_t child)
{
    struct world *w = d->world;
    const struct store_pg *pg = pg_now(d, child);

    if (pg->record.state == STORE_PG_NORMAL)
        sim_fail(w->sim, "PG %u: born by a recovery, and whole", child);
    w->missed[child] = false;
    w->pgs[child].exists = w->created[child] = true;
    w->recovering[child] = w->fell_behind[child] = true;
    w->term_acked[child] = w->term_sent[child] = pg->record.term;
    w->behinds++;
}

void split_found(struct driver *d)
{
    struct world *w = d->world;

    for (uint32_t i = 0; i < MODEL_PGS; i++)
        if (w->missed[i] && pg_now(d, i))
            born_behind(d, i);
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        const struct model_split *due = w->pgs[i].exists ? model_split_due(&w->pgs[i]) : NULL;
        if (due && is_wanted(w, due->child) && pg_now(d, due->child))
            apply_split(d, i, true);
        else if (due && !is_wanted(w, due->child) && pg_now(d, i) &&
                 pg_now(d, i)->applied_index >= due->index)
            apply_split(d, i, false);
    }
}

void split_begin(struct driver *d, uint32_t pg)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[pg];
    struct entry e;
    struct slice payload;
    struct store_pg_record child = {.replica = 1, .birth = w->pgs[pg].seed % 2};
    int rc = store_log_get(pg_now(d, pg), pg_now(d, pg)->applied_index + 1, &e, &payload);

    if (rc || e.type != ENTRY_SPLIT || group_from_entry(&e, &child.group)) {
        sim_fail(w->sim, "PG %u: entry %lu is no split", pg, m->applied + 1);
        return;
    }
    child.pg = w->pgs[e.image].id;
    d->splitting = true;
    d->split_pg = pg;
    /* Who has not heard that the one that was born then has gone since wants it, when the entry comes again.
     */
    bool born_once = e.index <= m->applied && w->removed[e.image] && !w->rot && w->mixed[pg] < e.index;
    store_split_start(&d->split, pg_now(d, pg), is_wanted(w, (uint32_t)e.image) || born_once ? &child : NULL,
                      &d->op);
}

int split_end(struct driver *d)
{
    struct world *w = d->world;
    const struct model_split *due = model_split_due(&w->pgs[d->split_pg]);
    int rc = d->split.op.result;

    d->splitting = false;
    if (rc)
        return rc;
    /* After a crash: it had been applied before, though the store does not know for certain. */
    if (!due || due->index != d->split.index) {
        if (d->split.ret_child)
            sim_fail(w->sim, "PG %u: what was split off at %lu is born again", d->split_pg, d->split.index);
        return 0;
    }
    bool wanted = is_wanted(w, due->child);
    if (wanted != (d->split.ret_child != NULL))
        sim_fail(w->sim, "PG %u: split: PG %u is %s", d->split_pg, due->child, wanted ? "not born" : "born");
    else
        apply_split(d, d->split_pg, wanted);
    if (wanted && d->split.ret_child)
        verify_child(d, due->child);
    verify_split(d, d->split_pg);
    return 0;
}

void split_reap(struct driver *d)
{
    struct world *w = d->world;

    if (d->splitting && !op_live(&d->split.op)) {
        int rc = split_end(d);
        if (rc && rc != -ERR_NO_SPACE && rc != -ERR_NO_MEMORY && !verify_excused(d, rc))
            sim_fail(w->sim, "PG %u: split: %s", d->split_pg, error_name(rc));
    }
    for (uint32_t i = 0; i < MODEL_PGS && !d->splitting && !w->sim->failed; i++) {
        struct model_pg *m = &w->pgs[i];
        if (!m->exists || store_failed(d->store))
            continue;
        if (world_apply_durable(m, pg_now(d, i)))
            split_begin(d, i);
    }
}

static bool plan(struct world *w, uint32_t pg, uint64_t index)
{
    struct model_pg *m = &w->pgs[pg];
    uint32_t child = model_next_child(m);

    /* What was ever appended there, or behind, was another entry. One that was refused comes again. */
    if (!child || index <= m->high || (m->splits && m->split[m->splits - 1].index >= index) ||
        w->pgs[child].exists || w->removed[child])
        return false;
    m->split[m->splits++] = (struct model_split){.index = index, .child = child};
    return true;
}

void split_plan(struct driver *d, uint32_t pg)
{
    if (below(d, 300) == 0 && !d->world->misses_splits)
        plan(d->world, pg, d->world->pgs[pg].last + 1);
}

void split_plan_missed(struct driver *d, uint32_t pg, uint64_t index, bool often)
{
    if (chance(d, often ? 80 : 30) || d->world->misses_splits)
        plan(d->world, pg, index);
}

void split_miss(struct driver *d, uint32_t pg)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[pg];

    for (const struct model_split *due; (due = model_split_due(m));) {
        uint32_t child = due->child;
        if (is_wanted(w, child) && sim_rng_below(&w->misses, 4)) {
            apply_split(d, pg, true);
            w->pgs[child].exists = w->created[child] = false;
            w->missed[child] = true;
        } else {
            w->removed[child] = true;
            apply_split(d, pg, false);
        }
        model_apply(m, m->commit);
    }
}

bool split_behind(struct driver *d)
{
    struct world *w = d->world;
    const struct model_pg *m = &w->pgs[d->pg];
    struct store_pg *pg = pg_now(d, d->pg);
    struct store_pg_record child = {.replica = 1, .group = pg->record.group};

    for (uint32_t i = 0; i < m->splits; i++) {
        uint32_t number = m->split[i].child;
        if (m->split[i].index > m->commit || number < pg->record.split_count)
            continue;
        /* One that is damaged has none. */
        bool born = w->missed[number] && !pg->damaged && !w->damaged[d->pg];
        w->removed[number] |= w->missed[number] && !born;
        d->remove_next = d->remove_next == number && !born ? 0 : d->remove_next;
        w->missed[number] &= born;
        if (w->damaged[d->pg])
            continue;
        child.pg = w->pgs[number].id;
        child.group.index = child.group.epoch = 0;
        d->behind = true;
        store_split_behind_start(&d->split, pg, number + 1, born ? &child : NULL, &d->op);
        return true;
    }
    return false;
}

int split_behind_end(struct driver *d)
{
    struct world *w = d->world;

    d->behind = false;
    if (d->split.op.result)
        return d->split.op.result;
    for (uint32_t i = 0; i < MODEL_PGS; i++)
        if (w->missed[i] && d->split.births && d->split.child.pg == w->pgs[i].id) {
            born_behind(d, i);
            verify_child(d, i);
            if (pg_now(d, i)->record.state != STORE_PG_NORMAL && store_image_next(pg_now(d, i), 0))
                sim_fail(w->sim, "PG %u: born by a recovery, and has records of images", i);
        }
    return 0;
}

/* ---- removal ------------------------------------------------------------------------------------------- */

static void remove_begin(struct driver *d, uint32_t pg)
{
    d->removing = true;
    d->remove_pg = pg;
    spy_remove(d, pg_now(d, pg));
    store_pg_remove_start(&d->remove, pg_now(d, pg), &d->op);
}

bool remove_again(struct driver *d)
{
    for (uint32_t i = 0; i < MODEL_PGS; i++)
        if (d->world->removed[i] && pg_now(d, i)) {
            remove_begin(d, i);
            return true;
        }
    return false;
}

void remove_reap(struct driver *d)
{
    struct world *w = d->world;

    if (!d->removing || op_live(&d->remove.op))
        return;
    d->removing = false;
    if (d->remove.op.result && !verify_excused(d, d->remove.op.result))
        sim_fail(w->sim, "PG %u: removal: %s", d->remove_pg, error_name(d->remove.op.result));
    else if (d->remove.op.result == 0 && pg_now(d, d->remove_pg))
        sim_fail(w->sim, "PG %u: removed, and there", d->remove_pg);
}

/* One that was split, or split off. */
void remove_some(struct driver *d)
{
    struct world *w = d->world;
    uint32_t i = d->remove_next ? d->remove_next : any_pg(d);
    struct model_pg *m = &w->pgs[i];

    if (d->removing || d->pg_writing || d->lag_busy || (d->splitting && d->split_pg == i) || i == 0 ||
        model_split_due(m) || (!m->splits && !m->born) || (!d->remove_next && below(d, 500)))
        return;
    for (uint32_t r = 0; r < STORE_READS; r++)
        if (d->reads[r].busy)
            return;
    d->remove_next = 0;
    m->exists = w->created[i] = false;
    w->removed[i] = true;
    w->removals++;
    remove_begin(d, i);
}
