/* SPDX-License-Identifier: Apache-2.0
 *
 * While the process is away, and sometimes beside it, a block of the disk, or a few, rot, or turn out never
 * to have been written. Of what there are two copies of it is one, so nothing is lost. What the log had, and
 * what had reached chunks and pages, may be: then the store has to know it. A PG whose log is damaged
 * recovers by copies, and objects are mended, with the model as the source, as long as the run goes on; and
 * from then on all is to be as if nothing had been.
 */
#include "sim/store_world.h"

#include <string.h>

/* The newest batch that a header proves, which is not damaged meanwhile. */
static uint64_t proven_seq(const struct world *w, const struct store *s)
{
    struct disk_batch header;

    for (const struct list *node = s->batches.prev; node != &s->batches; node = node->prev) {
        const struct batch *b = list_entry(node, const struct batch, link);
        if (!b->durable)
            continue;
        sim_disk_peek(w->disk, block_offset(ring_place(s, b->position)), &header, sizeof(header));
        return header.durable_seq;
    }
    return 0;
}

static void choose(struct world *w, uint64_t block)
{
    struct scar *scar = &w->scar[w->scar_count++];

    scar->block = block;
    scar->lose = sim_fault_intensity(w->sim, SIM_FAULT_DISK_LOSE) &&
                 (!sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT) || sim_rng_below(&w->scars, 2));
}

/* Records of it are in no checkpoint. */
static bool is_needed(const struct store *s, const struct batch *b)
{
    return b->record_count && b->seq >= MAX(s->ckpt_replay[0], s->ckpt_replay[1]);
}

/* The first behind the newest start, or the last in front of it: numbers jump there. NULL: neither is there.
 */
static const struct batch *batch_at_start(struct world *w, const struct store *s)
{
    bool before = sim_rng_below(&w->blows, 2);

    for (const struct list *node = s->batches.prev; node != &s->batches; node = node->prev) {
        const struct batch *b = list_entry(node, const struct batch, link);
        const struct batch *last =
            node->prev == &s->batches ? NULL : list_entry(node->prev, const struct batch, link);
        if (last && b->durable && b->seq != last->seq + 1)
            return before ? last : b;
    }
    return NULL;
}

/* One of the batches that are there, often a new one, or one with records that are wanted; its header, or
 * anything of it. */
static void choose_batch(struct world *w, const struct store *s)
{
    const struct batch *found = sim_rng_below(&w->blows, 3) ? NULL : batch_at_start(w, s);
    bool needed = sim_rng_below(&w->scars, 2), newest = sim_rng_below(&w->scars, 2), aimed = found;
    uint32_t seen = 0;

    for (const struct list *node = s->batches.prev; node != &s->batches && !aimed; node = node->prev) {
        const struct batch *b = list_entry(node, const struct batch, link);
        if (b->durable && (!needed || is_needed(s, b)) && sim_rng_below(&w->scars, ++seen) == 0)
            found = b;
        if (newest && seen == 4)
            break;
    }
    if (!found)
        return;
    struct disk_batch header;
    sim_disk_peek(w->disk, block_offset(ring_place(s, found->position)), &header, sizeof(header));
    uint64_t blocks = sim_rng_below(&w->scars, 3) ? header.header_blocks : found->end - found->position;
    choose(w, ring_place(s, found->position + (blocks ? sim_rng_below(&w->scars, blocks) : 0)));
    w->gap = w->scarred = true;
    w->torn |= found->seq > proven_seq(w, s);
}

/* Some that lie one behind the other; often the newest ones, of which the PG table and the checkpoint may
 * tell, and nothing else any more. */
static void choose_batches(struct world *w, const struct store *s)
{
    uint64_t count = 1 + sim_rng_below(&w->scars, 6);
    uint64_t skip = sim_rng_below(&w->scars, 2) ? sim_rng_below(&w->scars, 8) : 0;

    for (const struct list *node = s->batches.prev; node != &s->batches && count; node = node->prev) {
        const struct batch *b = list_entry(node, const struct batch, link);
        if (!b->durable || skip) {
            skip -= b->durable;
            continue;
        }
        choose(w, ring_place(s, b->position));
        w->gap = w->scarred = w->proof_hit = true;
        w->torn |= b->seq > proven_seq(w, s);
        count--;
    }
}

/* In the middle of a write both copies may be bad; of the checkpoint also behind a crash in the middle of
 * one, until the next has been written. */
static void choose_copy(struct world *w, const struct store *s)
{
    uint64_t copy = sim_rng_below(&w->scars, 2);

    switch (sim_rng_below(&w->scars, w->hurt ? 2 : 4)) {
    case 0:
        if (!s->table_io.pending)
            choose(w, s->g.table_block + copy * s->g.table_blocks);
        return;
    case 1:
        choose(w, copy ? SUPERBLOCK_B_BLOCK : SUPERBLOCK_A_BLOCK);
        return;
    default:
        if (!s->counters.checkpoints || s->destage.ckpt_number > s->ckpt_last ||
            s->ckpt_last < w->struck_number)
            return;
        choose(w, s->g.checkpoint_block + copy * s->g.checkpoint_blocks + sim_rng_below(&w->scars, 2));
        w->struck_number = s->ckpt_last + 2; /* then both have been written again */
        w->checkpoint_hit = true;
    }
}

/* The page of an object, or a block of it. `dirty`: a page that destage is to read. */
static void choose_object(struct world *w, const struct store *s, bool dirty)
{
    const struct object *found = NULL;
    uint64_t seen = 0;

    list_for_each (&s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        for (const struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number))
            if (o->slot && (!dirty || (o->overlay && !o->crcs)) && sim_rng_below(&w->scars, ++seen) == 0)
                found = o;
    }
    if (!found)
        return;
    uint32_t chunk = object_chunk(found, (uint32_t)sim_rng_below(&w->scars, CHUNKS_PER_OBJECT));
    if (dirty || !chunk || sim_rng_below(&w->scars, 2)) {
        choose(w, slot_place(s, found->slot));
        return;
    }
    choose(w, chunk_place(s, chunk, (uint32_t)sim_rng_below(&w->scars, BLOCKS_PER_CHUNK)));
    w->scarred |= s->chunk_refs[chunk] > 1; /* it is an entry's, too */
}

static const struct batch *first_batch(const struct world *w, const struct store *s)
{
    list_for_each (&s->batches, node) {
        const struct batch *b = list_entry(node, const struct batch, link);
        if (b->seq >= w->start_seq)
            return b;
    }
    return NULL;
}

bool scars_first_proven(const struct world *w, const struct store *s)
{
    const struct batch *b = first_batch(w, s);

    return b && proven_seq(w, s) >= b->seq;
}

void scars_choose(struct world *w)
{
    const struct store *s = w->driver ? w->driver->store : NULL;
    bool possible =
        sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT) || sim_fault_intensity(w->sim, SIM_FAULT_DISK_LOSE);

    w->scar_count = 0;
    if (s && w->cut_off_struck && !w->rot && !w->hurt && scars_first_proven(w, s)) {
        choose(w, ring_place(s, first_batch(w, s)->position));
        w->gap = w->scarred = true;
        w->cut_off_struck = false;
        return;
    }
    w->cut_off_struck = false;
    if (!s || w->rot || !possible || w->spared || sim_rng_below(&w->scars, 2))
        return;
    if (sim_rng_below(&w->scars, 2) == 0)
        choose_copy(w, s);
    if (sim_rng_below(&w->scars, 2) == 0)
        choose_object(w, s, false);
    if (sim_rng_below(&w->scars, 3) == 0)
        choose_batches(w, s);
    else if (sim_rng_below(&w->scars, 2))
        choose_batch(w, s);
}

void scars_blind(struct world *w)
{
    w->starts_blind = w->hurt = w->shown = w->gap = w->scarred = true;
    memset(w->reset_since, 0, sizeof(w->reset_since));
}

void scars_strike(struct world *w)
{
    w->striking = true;
    for (uint32_t i = 0; i < w->scar_count; i++) {
        const struct scar *scar = &w->scar[i];
        bool done = scar->lose ? sim_disk_lose(w->disk, block_offset(scar->block), BLOCK_SIZE)
                               : sim_disk_rot(w->disk, block_offset(scar->block), BLOCK_SIZE);
        w->hurt |= done;
        w->shown |= done;
        w->scars_made += done;
        if (done)
            memset(w->reset_since, 0, sizeof(w->reset_since));
    }
    w->striking = false;
    w->scar_count = 0;
}

static bool is_in_ring_alone(const struct log_entry *e)
{
    return e->in_log && !e->applied && e->durable && e->type == ENTRY_WRITE && e->batch && !e->payload.buf &&
           !e->lost;
}

/* The first that is to be copied forward when the tail moves. */
static const struct log_entry *oldest_entry(const struct store *s)
{
    list_for_each (&s->batches, node) {
        const struct batch *b = list_entry(node, const struct batch, link);
        list_for_each (&b->entries, item) {
            const struct log_entry *e = list_entry(item, const struct log_entry, batch_link);
            if (is_in_ring_alone(e) && e->block_count > e->chunk_count * BLOCKS_PER_CHUNK)
                return e;
        }
    }
    return NULL;
}

/* A block that an entry brought which is not applied, and is not in memory any more. */
static void choose_entry(struct world *w, const struct store *s)
{
    bool first = w->moment == MOMENT_ROTTEN || sim_rng_below(&w->turns, 2);
    const struct log_entry *found = first ? oldest_entry(s) : NULL;
    uint64_t seen = 0;

    first = found;
    if (!first)
        list_for_each (&s->pgs, node) {
            const struct pg *pg = list_entry(node, struct pg, link);
            for (uint64_t i = pg->pub.applied_index + 1; i <= pg->pub.durable_index; i++) {
                const struct log_entry *e = log_at(pg, i);
                if (e && is_in_ring_alone(e) && sim_rng_below(&w->scars, ++seen) == 0)
                    found = e;
            }
        }
    if (!found)
        return;
    choose(w, entry_place(s, found, (uint32_t)sim_rng_below(&w->scars, found->block_count)));
    w->gap = w->scarred = true;
    w->torn |= found->batch->seq > proven_seq(w, s);
}

/* What is in the ring, and may be in memory no more, rots while the process lives; or a page, or a block of
 * an object. */
static void strike_alive(struct world *w)
{
    if (w->pages_hit || (w->moment != MOMENT_ROTTEN && sim_rng_below(&w->blows, 3) == 0))
        choose_object(w, w->driver->store, w->pages_hit);
    else if (w->moment == MOMENT_ROTTEN || sim_rng_below(&w->scars, 2))
        choose_entry(w, w->driver->store);
    else
        choose_batch(w, w->driver->store);
    for (uint32_t i = 0; i < w->scar_count; i++)
        w->scar[i].lose = false;
    scars_strike(w);
    w->alive_hit |= w->hurt;
    w->proof_hit |= w->hurt;
}

static bool is_busy(const struct driver *d)
{
    bool busy = d->lag_busy || d->splitting || d->removing || d->pg_writing || d->mend.state != MEND_NONE;

    for (uint32_t i = 0; i < STORE_READS; i++)
        busy |= d->reads[i].busy;
    return busy;
}

bool scars_take(struct driver *d)
{
    struct world *w = d->world;

    for (uint32_t i = 0; (w->hurt || w->scarred) && !w->rot && i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        struct store_pg *pg = m->exists ? pg_now(d, i) : NULL;
        if (!pg || !pg->damaged || w->fell_behind[i])
            continue;
        w->hurt_logs++;
        w->damaged[i] = w->fell_behind[i] = true;
        model_apply(m, m->commit);
        split_miss(d, i);
        d->pg = i;
        return true;
    }
    return false;
}

bool scars_work(struct driver *d)
{
    struct world *w = d->world;

    if (w->rot || w->stop)
        return false;
    if (sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT) &&
        sim_rng_below(&w->scars, w->pages_hit || (w->moment == MOMENT_ROTTEN && !w->alive_hit) ? 100 : 700) ==
            0)
        strike_alive(w);
    return w->hurt && !is_busy(d) && scars_take(d);
}

void scars_found(struct driver *d)
{
    struct world *w = d->world;

    if (store_failed(d->store)) /* then reads have found nothing */
        return;
    w->wounds = d->lazy || (w->alive_hit && w->hurt);
    w->hurt = w->torn = w->checkpoint_hit = w->proof_hit = w->alive_hit;
    w->gap_number = d->store->ckpt_last;
    w->gap_head = d->store->head;
    w->gap_covered = false;
}

void scars_settle(struct driver *d)
{
    struct world *w = d->world;
    const struct store *s = d->store;

    /* What cannot be read in front of the head of the ring may be a batch, for all that a start knows. */
    if ((!w->gap && !w->shown) || s->ckpt_last <= w->gap_number ||
        !sim_disk_is_readable(w->disk, block_offset(s->g.ring_block), block_offset(s->g.ring_blocks)))
        return;
    w->gap_covered = true;
    if (!w->alive_hit && s->ckpt_last >= w->gap_number + 2 && s->tail_durable >= w->gap_head)
        w->gap = w->shown = false;
}

bool scars_show(const struct world *w)
{
    bool show = w->shown || w->wounds || w->hurt;

    for (uint32_t i = 0; i < MODEL_PGS; i++)
        show |= w->damaged[i];
    return show;
}
