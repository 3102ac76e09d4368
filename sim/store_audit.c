/* SPDX-License-Identifier: Apache-2.0
 *
 * Whatever the store counts is counted anew, from what it is the count of: references on chunks, slots, what
 * is reserved, objects, bytes. A count that leaks does no harm until the device is full, or the ring, and no
 * run is as long as that.
 */
#include "sim/store_audit.h"

#include <stdlib.h>

#include "sim/store_world.h"

struct audit {
    struct sim *sim;
    const struct store *s;
    uint8_t *refs;
    uint16_t *slots;
    uint64_t reserving; /* chunks that entries hold room for */
    uint64_t roomless;  /* entries that will need some, and hold none */
};

static void same(const struct audit *a, const char *what, uint64_t counted, uint64_t should_be)
{
    if (counted != should_be && !a->sim->failed)
        sim_fail(a->sim, "audit: %s: %lu, should be %lu", what, counted, should_be);
}

static void entry_audit(struct audit *a, struct log_entry *e)
{
    for (uint32_t i = 0; e->chunks_held && i < e->chunk_count; i++)
        a->refs[entry_chunks(e)[i]]++;
    if (e->reserved)
        a->reserving +=
            (e->first_block + e->block_count - 1) / BLOCKS_PER_CHUNK - e->first_block / BLOCKS_PER_CHUNK + 1;
}

/* Entries that are in no log any more, and are the newest there is of a block. */
static void overlay_audit(struct audit *a, const struct object *o)
{
    uint32_t count = o->overlay->whole != NULL;

    overlay_for_each (o->overlay, b) {
        struct log_entry *e = o->overlay->block[b];
        bool first = true;
        for (uint32_t i = e->first_block; i < b && first; i++)
            first = o->overlay->block[i] != e;
        if (first && !e->in_log && e->type == ENTRY_WRITE)
            entry_audit(a, e);
        count++;
    }
    same(a, "blocks in an overlay", o->overlay->count, count);
}

static void object_audit(struct audit *a, const struct object *o, uint64_t *chunks, uint64_t *slots,
                         uint64_t *pending)
{
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        a->refs[object_chunk(o, c)]++;
        *chunks += o->pending && o->pending[c] && !object_chunk(o, c);
        *pending += o->pending ? o->pending[c] : 0;
    }
    if (o->slot)
        a->slots[o->slot / SLOTS_PER_CHUNK] |= (uint16_t)(1u << o->slot % SLOTS_PER_CHUNK);
    *slots += (o->pending_total || o->overlay) && !o->slot;
    if (o->overlay)
        overlay_audit(a, o);
}

static void log_audit(struct audit *a, const struct pg *pg)
{
    uint64_t ring = 0, unapplied = 0, large = 0;

    for (uint64_t i = pg->pub.first_index; i <= pg->pub.last_index; i++) {
        struct log_entry *e = log_at(pg, i);
        entry_audit(a, e);
        ring += entry_ring_bytes(e);
        unapplied += e->applied ? 0 : entry_ring_bytes(e);
        a->roomless += !e->applied && e->type == ENTRY_WRITE && !e->reserved &&
                       split_belongs(pg, pg->pub.record.split_count, e->image, e->object);
        large += e->chunks_held;
    }
    same(a, "bytes of a log", pg->pub.ring_bytes, ring);
    same(a, "bytes of a log that are not applied", pg->unapplied_bytes, unapplied);
    if (!pg->offlog_holds) /* which may have chunks, too */
        same(a, "entries with chunks", pg->large_count, large);
}

/* What checkpoints have of it does not give way to an older record. */
static void image_audit(struct audit *a, const struct image *image)
{
    if (image->is_saved &&
        ((image->is_pushed && image->pushed.index < image->saved.index) ||
         (image->forgotten_index && image->forgotten_index < image->saved.index)) &&
        !a->sim->failed)
        sim_fail(a->sim, "audit: the record of image %lu of entry %lu is to give way to that of %lu",
                 image->record.image, image->saved.index,
                 image->is_pushed ? image->pushed.index : image->forgotten_index);
}

static void pgs_audit(struct audit *a)
{
    uint64_t chunks = 0, slots = 0, pending = 0, images = 0, unapplied = 0;

    list_for_each (&a->s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        uint64_t mine = 0, tombstones = 0;
        for (struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number)) {
            object_audit(a, o, &chunks, &slots, &pending);
            mine += o->exists;
            same(a, "objects that nobody works on, and that are held", o->busy, 0);
        }
        for (uint32_t i = 0; i < pg->image_count; i++) {
            tombstones += pg->images[i]->record.deleted;
            image_audit(a, pg->images[i]);
        }
        log_audit(a, pg);
        same(a, "objects of a PG", pg->pub.object_count, mine);
        same(a, "deleted images of a PG", pg->pub.tombstone_count, tombstones);
        images += pg->image_count;
        unapplied += pg->unapplied_bytes;
    }
    same(a, "image records", a->s->image_count, images);
    same(a, "bytes that are not applied", a->s->unapplied_bytes, unapplied);
    same(a, "reserved chunks", a->s->chunks_reserved, chunks);
    same(a, "reserved slots", a->s->slots_reserved, slots);
    same(a, "chunks that entries may need", pending, a->reserving);
    same(a, "entries without room", a->roomless, 0);
}

static void queue_audit(struct audit *a)
{
    uint64_t queued = 0, cached = 0;

    list_for_each (&a->s->queue, node)
        queued += entry_blocks(list_entry(node, struct log_entry, batch_link)) + 1;
    list_for_each (&a->s->cached, node)
        cached += list_entry(node, struct log_entry, cache_link)->payload.len;
    same(a, "blocks in the queue", a->s->queue_blocks, queued);
    same(a, "bytes in the cache", a->s->cache_used, cached);
}

/* What is in no log, and holds nothing, keeps the ring's tail from moving for ever. */
static void batches_audit(struct audit *a)
{
    uint64_t stray = 0;

    list_for_each (&a->s->batches, node) {
        const struct batch *b = list_entry(node, struct batch, link);
        list_for_each (&b->entries, item) {
            const struct log_entry *e = list_entry(item, struct log_entry, batch_link);
            stray += !e->in_log && !e->holds;
        }
    }
    same(a, "entries that nobody needs", stray, 0);
}

/* What entries hold counts as ring space until their batch has left it. */
static void volume_audit(struct audit *a)
{
    const struct store *s = a->s;
    uint64_t volume = s->volume_tail, end = s->tail;

    list_for_each (&s->batches, node) {
        const struct batch *b = list_entry(node, struct batch, link);
        uint64_t least = b->end - b->position, most = b->end - end + BATCH_PAYLOAD_BLOCKS_MAX;
        list_for_each (&b->entries, item)
            least += entry_large_blocks(list_entry(item, struct log_entry, batch_link));
        uint64_t counted = b->volume_end - volume;
        if ((counted < least || counted > most) && !a->sim->failed)
            sim_fail(a->sim, "audit: batch %lu counts as %lu blocks, should be %lu to %lu", b->seq, counted,
                     least, most);
        volume = b->volume_end;
        end = b->end;
    }
    same(a, "blocks of the ring and of entries", s->volume, list_empty(&s->batches) ? s->volume : volume);
}

static void space_audit(struct audit *a)
{
    const struct store *s = a->s;
    uint64_t unused = 0, slots = 0;

    list_for_each (&s->releases, node)
        entry_audit(a, list_entry(node, struct log_entry, batch_link));
    for (uint32_t i = 0; i < s->page_chunk_count; i++)
        a->refs[s->page_chunks[i]]++;
    for (uint32_t c = 1; c <= s->g.chunk_count; c++) {
        same(a, "references on a chunk", s->chunk_refs[c], a->refs[c]);
        same(a, "slots of a chunk", s->page_chunk_used[c], a->slots[c]);
        slots += (uint64_t)__builtin_popcount(a->slots[c]);
        unused += !a->refs[c];
    }
    same(a, "free chunks", s->chunks_free, unused);
    same(a, "slots", s->slots_used, slots);
}

/* Of what is free some is promised to entries, to their objects' pages, and to a round and a copy. */
static void promises_audit(struct sim *sim, const struct store *s)
{
    uint64_t pages =
        DIV_UP(s->slots_used + s->slots_reserved + DESTAGE_OBJECTS_MAX, (uint64_t)SLOTS_PER_CHUNK);
    uint64_t promised = s->chunks_reserved + pages - MIN(pages, s->page_chunk_count);

    if (s->chunks_free < promised)
        sim_fail(sim, "audit: %lu chunks are promised, %lu are free", promised, s->chunks_free);
}

/* What a round or a copy holds is known to them alone. */
static bool destage_holds(const struct store *s)
{
    return s->failed || s->destage.object_count || s->destage.copy_buf;
}

static bool is_held(const struct driver *d)
{
    return destage_holds(d->store) || d->mend.state != MEND_NONE || d->held;
}

/* What a survivor that goes on alone goes by: of nothing later is anything here. */
static void newest_audit(struct sim *sim, const struct pg *pg)
{
    uint64_t newest = MAX(pg->pub.newest_index, pg->pub.applied_index);

    for (const struct object *o = object_after(pg, true, 0, 0); o && !sim->failed;
         o = object_after(pg, false, o->image, o->number))
        if (o->exists && o->index > newest)
            sim_fail(sim, "audit: PG %lx: object %lu/%lu is of entry %lu, the newest is said to be %lu",
                     pg->pub.record.pg, o->image, o->number, o->index, newest);
    for (uint32_t i = 0; i < pg->image_count && !sim->failed; i++)
        if (pg->images[i]->record.index > newest)
            sim_fail(sim, "audit: PG %lx: image %lu is of entry %lu, the newest is said to be %lu",
                     pg->pub.record.pg, pg->images[i]->record.image, pg->images[i]->record.index, newest);
}

void verify_records(struct driver *d, uint32_t pg)
{
    const struct pg *of = pg_of(pg_now(d, pg));
    struct audit a = {.sim = d->world->sim, .s = d->store};

    for (uint32_t i = 0; i < of->image_count; i++)
        image_audit(&a, of->images[i]);
}

void verify_brought(struct driver *d)
{
    const struct store *s = d->store;
    uint8_t data[BLOCK_SIZE];
    uint32_t batches = 8;

    for (const struct list *node = s->batches.prev; node != &s->batches && batches--; node = node->prev)
        list_for_each (&list_entry(node, const struct batch, link)->entries, item) {
            const struct log_entry *e = list_entry(item, const struct log_entry, batch_link);
            if (e->type != ENTRY_WRITE || !e->in_log || e->applied || e->lost ||
                e->pg->pub.record.state == STORE_PG_DAMAGED || e->pg->pub.damaged)
                continue;
            for (uint32_t b = 0; b < e->block_count; b++) {
                sim_disk_peek(d->world->disk, block_offset(entry_place(s, e, b)), data, sizeof(data));
                if (crc32c(0, data, BLOCK_SIZE) != e->crc[b] && !d->world->sim->failed)
                    sim_fail(d->world->sim, "audit: PG %lx: entry %lu counts, and its block %u is not there",
                             e->pg->pub.record.pg, e->index, b);
            }
        }
}

void verify_child(struct driver *d, uint32_t pg)
{
    newest_audit(d->world->sim, pg_of(pg_now(d, pg)));
}

void verify_newest(struct driver *d)
{
    list_for_each (&d->store->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        if (pg->pub.record.state == STORE_PG_NORMAL && !pg->removing)
            newest_audit(d->world->sim, pg);
    }
}

bool store_audit(struct sim *sim, const struct store *s)
{
    struct audit a = {.sim = sim, .s = s};

    if (destage_holds(s))
        return false;
    a.refs = sim_alloc(s->g.chunk_count + 1);
    a.slots = sim_alloc((s->g.chunk_count + 1) * sizeof(*a.slots));
    queue_audit(&a);
    batches_audit(&a);
    volume_audit(&a);
    pgs_audit(&a);
    space_audit(&a);
    free(a.refs);
    free(a.slots);
    return true;
}

void verify_counts(struct driver *d)
{
    if (is_held(d) || !store_audit(d->world->sim, d->store))
        return;
    verify_newest(d);
    d->world->audits++;
}

static void taken_audit(struct driver *d, const struct log_entry *e)
{
    if (!e->applied || !e->durable)
        sim_fail(d->world->sim, "audit: destage has entry %lu of PG %lx, which is %s", e->index,
                 e->pg->pub.record.pg, e->applied ? "not durable here" : "not committed");
}

/* The group of what is complete is in both copies of the table, as a start would read them. */
static void group_audit(struct driver *d, const struct pg *pg)
{
    const struct store *s = d->store;
    struct disk_table_block block;

    if (pg->pub.record.state != STORE_PG_NORMAL || pg->pub.record.group.index > pg->complete_durable)
        return;
    for (uint64_t copy = 0; copy < 2; copy++) {
        uint64_t at = s->g.table_block + copy * s->g.table_blocks + pg->table_index / TABLE_RECORDS_PER_BLOCK;
        sim_disk_peek(d->world->disk, block_offset(at), &block, sizeof(block));
        const struct disk_pg *there = &block.records[pg->table_index % TABLE_RECORDS_PER_BLOCK];
        if (there->key == pg->key && there->group_index < pg->pub.record.group.index)
            sim_fail(d->world->sim,
                     "audit: PG %lx is complete up to %lu, its group of %lu is not in the table",
                     pg->pub.record.pg, pg->complete_durable, pg->pub.record.group.index);
    }
}

/* What a PG has to itself, without the log, is what its log had, and the table has its group. */
static void complete_audit(struct driver *d, const struct pg *pg)
{
    if (pg->removing) /* of which nothing counts, and parts are gone */
        return;
    if (pg->complete_index > pg->pub.durable_index)
        sim_fail(d->world->sim, "audit: PG %lx is complete up to %lu, durable up to %lu", pg->pub.record.pg,
                 pg->complete_index, pg->pub.durable_index);
    if (sim_rng_below(&d->world->audit, 20) == 0)
        group_audit(d, pg);
    if (pg->pub.record.state == STORE_PG_NORMAL && pg->pub.record.group.index <= pg->complete_index &&
        !table_group_durable(pg))
        sim_fail(d->world->sim, "audit: PG %lx is complete up to %lu, its group of %lu is not durable",
                 pg->pub.record.pg, pg->complete_index, pg->pub.record.group.index);
}

void verify_order(struct driver *d)
{
    const struct destage *round = &d->store->destage;

    if (d->store->records_durable > d->store->records_taken)
        sim_fail(d->world->sim, "audit: %lu records are durable, of %lu that were written",
                 d->store->records_durable, d->store->records_taken);
    if (!is_held(d))
        promises_audit(d->world->sim, d->store);
    list_for_each (&d->store->pgs, node)
        complete_audit(d, list_entry(node, struct pg, link));

    for (uint32_t i = 0; i < round->object_count && !d->world->sim->failed; i++) {
        const struct overlay *snap = round->objects[i].snap;
        overlay_for_each (snap, b)
            taken_audit(d, snap->block[b]);
        if (snap->whole)
            taken_audit(d, snap->whole);
    }
}
