/* SPDX-License-Identifier: Apache-2.0
 *
 * What a start finds is what the process knew when it died: objects by their pages, records of images, how
 * far a PG is complete. All that counts in memory is durable, and what is on its way is told apart; so if
 * nothing was damaged either may differ nowhere, be it seen by whoever reads or not.
 */
#include "sim/store_world.h"

#include <string.h>

void before_note(struct world *w)
{
    const struct store *s = w->driver ? w->driver->store : NULL;
    struct known *k = &w->known;

    memset(k, 0, sizeof(*k));
    if (!s || store_failed(s) || w->rot)
        return;
    if (w->driver->op.state == DRIVE_WORK) /* whoever waited for it may have been told */
        verify_durable(w->driver);
    k->valid = true;
    k->settled = s->records_durable == s->records_pushed;
    list_for_each (&s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        struct known_pg *at = &k->pg[(uint32_t)pg->pub.record.pg % MODEL_PGS];
        at->is = !pg->removing && !pg->splitting && pg->pub.record.state != STORE_PG_UNBORN;
        at->complete = pg->complete_durable;
        at->complete_most = MAX(pg->complete_pushed, pg->complete_durable);
        if (w->driver->op.state == DRIVE_RECOVERED && &pg->pub == pg_now(w->driver, w->driver->pg))
            at->table_base = w->driver->table_base;
        at->floor = pg->pub.floor_epoch;
        at->split_count = pg->pub.record.split_count;
        for (const struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number)) {
            if (o->image >= MODEL_IMAGES || o->number >= MODEL_OBJECTS)
                continue;
            struct known_object *known = &at->object[o->image][o->number];
            known->open = o->busy;
            known->slot = o->slot;
            known->version = o->slot ? o->version : 0;
        }
        for (uint32_t i = 0; i < pg->image_count; i++) {
            const struct image *image = pg->images[i];
            struct known_image *known = &at->image[image->record.image % MODEL_IMAGES];
            known->open = image->holder || image->is_pushed || !image->is_saved;
            known->index = image->saved.index;
        }
    }
}

static void objects_compare(struct driver *d, const struct known_pg *k, const struct pg *pg)
{
    for (uint64_t image = 0; image < MODEL_IMAGES; image++)
        for (uint64_t number = 0; number < MODEL_OBJECTS; number++) {
            const struct known_object *known = &k->object[image][number];
            const struct object *o = object_find(pg, image, number);
            uint32_t slot = o ? o->slot : 0;
            if (!known->open && (slot != known->slot || (slot && o->version != known->version)))
                sim_fail(d->world->sim,
                         "PG %lx: object %lu/%lu: a start finds slot %u of version %lu, it was %u of %lu",
                         pg->pub.record.pg, image, number, slot, slot ? o->version : 0, known->slot,
                         known->version);
        }
}

static void images_compare(struct driver *d, const struct known_pg *k, const struct pg *pg)
{
    for (uint64_t i = 0; i < MODEL_IMAGES; i++) {
        const struct image *image = image_find(pg, i);
        if (!k->image[i].open && (image ? image->saved.index : 0) != k->image[i].index)
            sim_fail(d->world->sim, "PG %lx: image %lu: a start finds the record of entry %lu, it was of %lu",
                     pg->pub.record.pg, i, image ? image->saved.index : 0, k->image[i].index);
    }
}

/* A recovery went back, and the table did not say so yet: then its base counts, as before, and the PG
 * recovers once more. */
static bool recovers_again(const struct known_pg *k, const struct pg *pg)
{
    return k->table_base && pg->complete_index == k->table_base &&
           pg->pub.record.state == STORE_PG_RECOVERING;
}

void before_compare(struct driver *d)
{
    struct world *w = d->world;
    struct known *k = &w->known;

    if (!k->valid || w->hurt || w->wounds || w->rot || w->starts_blind || w->unreadable)
        return;
    k->valid = false;
    list_for_each (&d->store->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        const struct known_pg *at = &k->pg[(uint32_t)pg->pub.record.pg % MODEL_PGS];
        if (!at->is || pg->pub.damaged || pg->pub.record.state == STORE_PG_DAMAGED)
            continue;
        objects_compare(d, at, pg);
        if (!k->settled)
            continue;
        /* Below that, an earlier attempt of a recovery may have told of what the log has yet to bring. */
        if (at->complete >= w->mixed[(uint32_t)pg->pub.record.pg % MODEL_PGS])
            images_compare(d, at, pg);
        if ((pg->complete_index < at->complete || pg->complete_index > at->complete_most) &&
            !recovers_again(at, pg))
            sim_fail(w->sim, "PG %lx: a start finds it complete up to %lu, it was up to %lu",
                     pg->pub.record.pg, pg->complete_index, at->complete);
        if (pg->pub.floor_epoch != at->floor || pg->pub.record.split_count != at->split_count)
            sim_fail(w->sim, "PG %lx: a start finds floor %lu and %u PGs, it was %lu and %u",
                     pg->pub.record.pg, pg->pub.floor_epoch, pg->pub.record.split_count, at->floor,
                     at->split_count);
    }
}
