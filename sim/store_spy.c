/* SPDX-License-Identifier: Apache-2.0
 *
 * What the store writes is looked at as it goes to the disk, and what it builds on by then: harm would come
 * of a write to the wrong place, or too early, only in front of a crash of the right kind, or when somebody
 * else has got that place.
 */
#include "sim/store_world.h"

#include "base/crc32c.h"
#include "store/opening.h"

static void spy_fail(struct driver *d, uint64_t block, const char *what)
{
    if (!d->world->sim->failed)
        sim_fail(d->world->sim, "spy: block %lu is written, %s", block, what);
}

static bool is_settled(const struct driver *d, uint64_t block, uint64_t blocks)
{
    return sim_disk_is_settled(d->world->disk, block_offset(block), block_offset(blocks));
}

/* ---- pages and chunks ---------------------------------------------------------------------------------- */

static bool is_copys(const struct driver *d, const struct object *o)
{
    const struct destage *round = &d->store->destage;
    const struct store_copy *c = d->copy_end.copy;

    for (uint32_t i = 0; i < round->object_count; i++)
        if (round->objects[i].object == o)
            return false;
    return op_live(&d->copy_end.op) && c->key == o->pg->key && c->image == o->image && c->object == o->number;
}

/* It never takes the place of the live one, and whoever writes it has the object to himself. */
static void page_look(struct driver *d, uint64_t block, uint32_t slot, const struct disk_page *page)
{
    const struct store *s = d->store;
    const struct pg *pg = pg_by_key(s, page->key);
    const struct object *o = pg ? object_find(pg, page->image, page->object) : NULL;

    if (page->magic != MAGIC_PAGE || page->slot != slot)
        spy_fail(d, block, "which is to be a page's");
    else if (!(s->page_chunk_used[slot / SLOTS_PER_CHUNK] >> slot % SLOTS_PER_CHUNK & 1))
        spy_fail(d, block, "a page whose place is free");
    else if (!o || !o->busy)
        spy_fail(d, block, "the page of an object that nobody holds");
    else if (o->slot == slot || page->version <= o->version)
        spy_fail(d, block, "over a page that counts, or as an older one");
    else if (is_copys(d, o) && page->version < d->copy_seq)
        spy_fail(d, block, "a copy with a version from before it");
}

static void chunks_look(struct driver *d, const struct blk_io *io)
{
    const struct store *s = d->store;
    uint64_t block = io->offset / BLOCK_SIZE;

    for (uint32_t i = 0; i < io->iov_count; i++)
        for (size_t at = 0; at < io->iov[i].iov_len; at += BLOCK_SIZE, block++) {
            uint64_t in = block - s->g.chunk_block;
            uint32_t chunk = (uint32_t)(in / BLOCKS_PER_CHUNK) + 1;
            if (!s->chunk_refs[chunk])
                spy_fail(d, block, "in a chunk that is free");
            else if (s->page_chunk_used[chunk])
                page_look(d, block, chunk * SLOTS_PER_CHUNK + (uint32_t)(in % SLOTS_PER_CHUNK),
                          (const void *)((const uint8_t *)io->iov[i].iov_base + at));
        }
    if (io != &d->repair.io)
        return;
    const struct store_pg *pg = store_pg_find(s, d->repair.pg);
    const struct object *o = pg ? object_find(pg_of(pg), d->repair.image, d->repair.object) : NULL;
    if (!o || !o->busy)
        spy_fail(d, io->offset / BLOCK_SIZE, "in place, and destage may have the object");
    d->repaired = io->offset / BLOCK_SIZE;
}

/* ---- the ring ------------------------------------------------------------------------------------------ */

/* The record is of a page that is on the medium, as are its blocks. */
static void slot_look(struct driver *d, uint64_t block, const struct disk_record *r)
{
    const struct store *s = d->store;
    struct world *w = d->world;
    struct disk_page page;
    uint64_t at = slot_place(s, r->slot);

    sim_disk_peek(w->disk, block_offset(at), &page, sizeof(page));
    if (!is_settled(d, at, 1) ||
        (w->clean &&
         (page.magic != MAGIC_PAGE || page.image != r->image || page.object != r->slot_of.object ||
          page.index != r->slot_of.index || page.version != r->slot_of.version)))
        spy_fail(d, block, "with a page that is not there yet");
    if (!w->clean || page.magic != MAGIC_PAGE)
        return;
    uint32_t b = (uint32_t)sim_rng_below(&w->spies, BLOCKS_PER_OBJECT), tries = 0;
    while (tries++ < BLOCKS_PER_OBJECT && !(bit_get(page.written, b) && !bit_get(page.lost, b)))
        b = (b + 1) % BLOCKS_PER_OBJECT;
    if (tries > BLOCKS_PER_OBJECT)
        return;
    at = chunk_place(s, page.chunk[b / BLOCKS_PER_CHUNK], b);
    uint8_t data[BLOCK_SIZE];
    sim_disk_peek(w->disk, block_offset(at), data, sizeof(data));
    if (!is_settled(d, at, 1) || crc32c(0, data, BLOCK_SIZE) != page.block_crc[b])
        spy_fail(d, block, "with a page whose blocks are not there yet");
}

/* What the tail has passed only the newest checkpoint has. */
static void checkpoint_look(struct driver *d, uint64_t block)
{
    const struct store *s = d->store;

    for (uint32_t copy = 0; s->ckpt_last && copy < 2; copy++)
        if (s->ckpt_number[copy] == s->ckpt_last &&
            !is_settled(d, s->g.checkpoint_block + copy * s->g.checkpoint_blocks, s->g.checkpoint_blocks))
            spy_fail(d, block, "and the newest checkpoint may be gone when power fails");
}

/* What lies behind the tail that a durable header has told is wanted by a start. */
static void batch_look(struct driver *d, const struct blk_io *io)
{
    const struct store *s = d->store;
    struct spied_batch *now, *told = NULL;
    const struct disk_batch *h = (const void *)io->iov[0].iov_base;

    now = &d->spied[h->seq % SPIED_BATCHES];
    *now = (struct spied_batch){.seq = h->seq, .position = h->position, .tail_seq = h->tail_seq};
    for (uint64_t seq = s->durable_seq; !told && seq + SPIED_BATCHES > h->seq; seq--)
        if (d->spied[seq % SPIED_BATCHES].seq == seq && d->spied[seq % SPIED_BATCHES].tail_seq)
            told = &d->spied[seq % SPIED_BATCHES];
    const struct spied_batch *tail = told ? &d->spied[told->tail_seq % SPIED_BATCHES] : NULL;
    if (tail && tail->seq == told->tail_seq &&
        (h->position + h->header_blocks + h->payload_blocks > tail->position + s->g.ring_blocks ||
         s->tail_durable > tail->position))
        spy_fail(d, io->offset / BLOCK_SIZE,
                 "and a start may need what gives way, as the newest header tells");
    checkpoint_look(d, io->offset / BLOCK_SIZE);
    for (uint32_t i = 0; i < h->record_count; i++)
        if (batch_records(h)[i].type == RECORD_SLOT && sim_rng_below(&d->world->spies, 4) == 0)
            slot_look(d, io->offset / BLOCK_SIZE, &batch_records(h)[i]);
}

/* ---- what there are two copies of ---------------------------------------------------------------------- */

static void table_look(struct driver *d, const struct blk_io *io)
{
    const struct geometry *g = &d->store->g;
    uint64_t block = io->offset / BLOCK_SIZE, first = block - g->table_block;

    if (!is_settled(d, first >= g->table_blocks ? block - g->table_blocks : block + g->table_blocks,
                    io->len / BLOCK_SIZE))
        spy_fail(d, block, "and so is the other copy");
}

static void write_look(struct driver *d, const struct blk_io *io)
{
    const struct geometry *g = &d->store->g;
    uint64_t block = io->offset / BLOCK_SIZE;

    if (block >= g->chunk_block)
        chunks_look(d, io);
    else if (block >= g->ring_block && block < g->ring_block + g->ring_blocks)
        batch_look(d, io);
    else if (block >= g->table_block && block < g->table_block + 2 * g->table_blocks)
        table_look(d, io);
}

static void spy_submit(struct blk *blk, struct blk_io *io)
{
    struct driver *d = container_of(blk, struct driver, spy);

    if (io->type == BLK_WRITE && d->store && !store_failed(d->store))
        write_look(d, io);
    d->blk->ops->submit(d->blk, io);
}

static const struct blk_ops SPY_OPS = {spy_submit, NULL};

void spy_start(struct driver *d)
{
    d->spy = *d->blk;
    d->spy.ops = &SPY_OPS;
}

void spy_open(struct driver *d)
{
    list_for_each (&d->store->batches, node) {
        const struct batch *b = list_entry(node, const struct batch, link);
        d->spied[b->seq % SPIED_BATCHES] = (struct spied_batch){.seq = b->seq, .position = b->position};
    }
}

void spy_step(struct driver *d)
{
    if (!d->repaired || op_live(&d->repair.op))
        return;
    if (d->repair.op.result == 0 && !is_settled(d, d->repaired, 1))
        spy_fail(d, d->repaired, "counts as repaired, and may be gone when power fails");
    d->repaired = 0;
}
