/* SPDX-License-Identifier: Apache-2.0
 *
 * What the store writes is looked at as it goes to the disk, and what it builds on by then: harm would come
 * of a write to the wrong place, or too early, only in front of a crash of the right kind, or when somebody
 * else has got that place.
 */
#include "sim/store_world.h"

#include <string.h>

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

    if (page->magic != MAGIC_PAGE || page->slot != slot || !FORMAT_SEALED(page))
        spy_fail(d, block, "which is to be a page's");
    else if (!(s->page_chunk_used[slot / SLOTS_PER_CHUNK] >> slot % SLOTS_PER_CHUNK & 1))
        spy_fail(d, block, "a page whose place is free");
    else if (!o || !o->busy)
        spy_fail(d, block, "the page of an object that nobody holds");
    else if (o->slot == slot || page->version <= o->version)
        spy_fail(d, block, "over a page that counts, or as an older one");
    else if (is_copys(d, o) && page->version < d->copy_seq)
        spy_fail(d, block, "a copy with a version from before it");
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        bool any = page->written[c * BLOCKS_PER_CHUNK / 64] >> c * BLOCKS_PER_CHUNK % 64 & 0xffff;
        if (any != (page->chunk[c] != 0))
            spy_fail(d, block, any ? "a page with blocks in no chunk" : "a page with a chunk for nothing");
        else if (any && (s->page_chunk_used[page->chunk[c]] || !s->chunk_refs[page->chunk[c]]))
            spy_fail(d, block, "a page with a chunk that is not its own");
    }
}

/* What headers that count say of those before them. */
static void proofs_note(struct driver *d)
{
    while (d->spied_seq < d->store->durable_seq) {
        const struct spied_batch *b = &d->spied[++d->spied_seq % SPIED_BATCHES];
        if (b->seq == d->spied_seq)
            d->proven_seq = MAX(d->proven_seq, b->durable_seq);
    }
}

static void chunks_look(struct driver *d, const struct blk_io *io)
{
    const struct store *s = d->store;
    uint64_t block = io->offset / BLOCK_SIZE;

    proofs_note(d);
    for (uint32_t i = 0; i < io->iov_count; i++)
        for (size_t at = 0; at < io->iov[i].iov_len; at += BLOCK_SIZE, block++) {
            uint64_t in = block - s->g.chunk_block;
            uint32_t chunk = (uint32_t)(in / BLOCKS_PER_CHUNK) + 1;
            if (!s->chunk_refs[chunk])
                spy_fail(d, block, "in a chunk that is free");
            else if (d->brought[chunk] > d->proven_seq && io != &d->repair.io)
                spy_fail(d, block, "by which a start would judge a batch that is not proven");
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

/* The record is of a page that is on the medium, as are its blocks, unless destage may be writing them. */
static void slot_look(struct driver *d, uint64_t block, const struct disk_record *r, bool at_rest)
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
    if (!at_rest || !w->clean || page.magic != MAGIC_PAGE)
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
static void newest_checkpoint_look(struct driver *d, uint64_t block)
{
    const struct store *s = d->store;

    for (uint32_t copy = 0; s->ckpt_last && copy < 2; copy++)
        if (s->ckpt_number[copy] == s->ckpt_last &&
            !is_settled(d, s->g.checkpoint_block + copy * s->g.checkpoint_blocks, s->g.checkpoint_blocks))
            spy_fail(d, block, "and the newest checkpoint may be gone when power fails");
}

/* Chunks that entries bring, which a start looks at if nothing proves the batch. */
static void brought_look(struct driver *d, const struct disk_batch *h)
{
    proofs_note(d);
    for (uint32_t c = 1; c <= d->store->g.chunk_count; c++)
        if (d->brought[c] > d->proven_seq && !d->store->chunk_refs[c])
            spy_fail(d, ring_place(d->store, h->position),
                     "and a chunk is free by which a start would judge one before");
    for (const struct disk_entry *e = NULL; (e = batch_entry_next(h, e));) {
        const uint32_t *chunk = batch_entry_crc(e) + e->data.block_count;
        if (e->type != ENTRY_WRITE || e->copied)
            continue;
        for (uint32_t i = 0; i < e->data.chunk_count; i++)
            d->brought[chunk[i]] = h->seq;
    }
}

/* A start that finds two of one number takes the one for the other. */
static void number_look(struct driver *d, const struct disk_batch *h)
{
    struct world *w = d->world;
    uint64_t place = ring_place(d->store, h->position), *last = &w->numbers[h->seq % 64].seq,
             was = ring_place(d->store, w->numbers[h->seq % 64].position);
    struct disk_batch there;

    if (*last == h->seq && was != place && w->clean) {
        sim_disk_peek(w->disk, block_offset(was), &there, sizeof(there));
        if (there.magic == MAGIC_BATCH && there.seq == h->seq && there.used_bytes < BLOCK_SIZE) {
            uint8_t block[BLOCK_SIZE];
            sim_disk_peek(w->disk, block_offset(was), block, sizeof(block));
            if (format_crc(block, there.used_bytes, offsetof(struct disk_batch, crc)) == there.crc)
                spy_fail(d, place, "with the number of a batch that is there");
        }
    }
    *last = h->seq;
    w->numbers[h->seq % 64].position = h->position;
}

static bool is_named(const struct disk_batch_pg *pgs, uint32_t count, uint64_t key)
{
    for (uint32_t i = 0; i < count; i++)
        if (pgs[i].key == key)
            return true;
    return false;
}

/* All of the header is sealed, it follows the one before, and names the PGs that either would be missed by.
 */
static void header_look(struct driver *d, uint64_t block, const struct disk_batch *h)
{
    const struct store *s = d->store;
    const struct disk_batch_pg *pgs = batch_pgs(h);
    const struct spied_batch *before = &d->spied[h->prev_seq % SPIED_BATCHES];
    uint8_t last[BLOCK_SIZE];

    if (h->crc != format_crc(h, h->used_bytes, offsetof(struct disk_batch, crc)))
        spy_fail(d, block, "a header that is not sealed");
    for (uint32_t i = 0; i < h->record_count; i++)
        if (!is_named(pgs, h->pg_count, batch_records(h)[i].key) && pg_by_key(s, batch_records(h)[i].key))
            spy_fail(d, block, "a header with a record of a PG that it does not name");
    if (before->seq != h->prev_seq)
        return;
    sim_disk_peek(d->world->disk, block_offset(ring_place(s, before->position)), last, sizeof(last));
    const struct disk_batch *b = (const void *)last;
    if (b->magic != MAGIC_BATCH || b->seq != h->prev_seq || b->used_bytes > BLOCK_SIZE ||
        b->crc != format_crc(b, b->used_bytes, offsetof(struct disk_batch, crc)))
        return; /* it is under way, or damaged */
    if (h->prev_crc != b->crc)
        spy_fail(d, block, "a header that does not follow the one before");
    for (uint32_t i = 0; i < b->pg_count; i++)
        if (!is_named(pgs + h->pg_count, h->prev_pg_count, batch_pgs(b)[i].key))
            spy_fail(d, block, "a header that does not name a PG of the one before");
}

/* What is copied forward, for moments at which a crash matters. */
static void forward_look(struct driver *d, const struct disk_batch *h)
{
    bool fresh = false, rotten = false;

    for (const struct disk_entry *e = NULL; (e = batch_entry_next(h, e));) {
        const struct pg *pg = pg_by_key(d->store, batch_pgs(h)[e->pg].key);
        const struct log_entry *of = pg ? log_at(pg, e->index) : NULL;
        fresh |= !e->copied;
        rotten |= e->copied && of && of->lost;
        if (e->copied && e->type == ENTRY_WRITE)
            d->forward_seq = h->seq;
    }
    if (fresh && rotten)
        d->rotten_seq = h->seq;
}

/* The object has no page any more; nor may others have of what an image has lost, or what the PG has split
 * off: what comes there again begins anew. */
static void records_forget(struct driver *d, const struct disk_record *of)
{
    for (uint32_t n = 0; n < SPIED_RECORDS; n++) {
        struct spied_record *r = &d->records[n];
        bool of_image = of->type != RECORD_SPLIT, of_object = of->type == RECORD_DROP;
        if (r->key == of->key && (!of_image || r->image == of->image) &&
            (!of_object || r->object == of->slot_of.object))
            r->seq = 0;
    }
}

/* What lies behind the tail that a durable header has told is wanted by a start. */
static void batch_look(struct driver *d, const struct blk_io *io)
{
    const struct store *s = d->store;
    struct spied_batch *now, *told = NULL;
    const struct disk_batch *h = (const void *)io->iov[0].iov_base;

    now = &d->spied[h->seq % SPIED_BATCHES];
    *now = (struct spied_batch){
        .seq = h->seq, .position = h->position, .tail_seq = h->tail_seq, .durable_seq = h->durable_seq};
    number_look(d, h);
    header_look(d, io->offset / BLOCK_SIZE, h);
    brought_look(d, h);
    for (uint64_t seq = s->durable_seq; !told && seq + SPIED_BATCHES > h->seq; seq--)
        if (d->spied[seq % SPIED_BATCHES].seq == seq && d->spied[seq % SPIED_BATCHES].tail_seq)
            told = &d->spied[seq % SPIED_BATCHES];
    const struct spied_batch *tail = told ? &d->spied[told->tail_seq % SPIED_BATCHES] : NULL;
    if (tail && tail->seq == told->tail_seq &&
        (h->position + h->header_blocks + h->payload_blocks > tail->position + s->g.ring_blocks ||
         s->tail_durable > tail->position))
        spy_fail(d, io->offset / BLOCK_SIZE,
                 "and a start may need what gives way, as the newest header tells");
    newest_checkpoint_look(d, io->offset / BLOCK_SIZE);
    forward_look(d, h);
    for (uint32_t i = 0; i < h->record_count; i++) {
        const struct disk_record *r = &batch_records(h)[i];
        if (r->type == RECORD_SPLIT || r->type == RECORD_IMAGE)
            records_forget(d, r);
        if (r->type != RECORD_SLOT && r->type != RECORD_DROP)
            continue;
        /* Until it is durable the page before is what a start finds. */
        const struct pg *pg = pg_by_key(s, r->key);
        const struct object *o = pg ? object_find(pg, r->image, r->slot_of.object) : NULL;
        if (o && o->version >= r->slot_of.version)
            spy_fail(d, io->offset / BLOCK_SIZE, "with the record of a page that counts already");
        if (r->type == RECORD_DROP) {
            records_forget(d, r);
            continue;
        }
        d->records[d->record_at++ % SPIED_RECORDS] =
            (struct spied_record){h->seq, r->key, r->image, r->slot_of.object, r->slot_of.version};
        if (sim_rng_below(&d->world->spies, 4) == 0)
            slot_look(d, io->offset / BLOCK_SIZE, r, !d->behind);
        const struct store_copy *c = op_live(&d->copy_end.op) ? d->copy_end.copy : NULL;
        if (c && r->key == c->key && r->image == c->image && r->slot_of.object == c->object &&
            r->slot_of.version >= d->copy_seq)
            d->copy_record_seq = h->seq;
    }
}

/* ---- what there are two copies of ---------------------------------------------------------------------- */

static void table_look(struct driver *d, const struct blk_io *io)
{
    const struct geometry *g = &d->store->g;
    uint64_t block = io->offset / BLOCK_SIZE, first = block - g->table_block;

    if (!is_settled(d, first >= g->table_blocks ? block - g->table_blocks : block + g->table_blocks,
                    io->len / BLOCK_SIZE))
        spy_fail(d, block, "and so is the other copy");
    if (((const struct disk_table_block *)io->iov[0].iov_base)->ring_seq > d->store->durable_seq)
        spy_fail(d, block, "and says that the ring goes further than it does");
}

/* It stands for all records in batches before it: none is there that memory does not show yet. */
static void claims_look(struct driver *d, uint64_t block)
{
    for (uint32_t i = 0; i < SPIED_RECORDS; i++) {
        const struct spied_record *r = &d->records[i];
        const struct pg *pg = r->seq ? pg_by_key(d->store, r->key) : NULL;
        const struct object *o = pg && !pg->removing ? object_find(pg, r->image, r->object) : NULL;
        if (o && (o->slot || o->busy) && r->seq < d->store->destage.ckpt_replay_seq &&
            o->version < r->version)
            spy_fail(d, block, "a checkpoint that stands for a page which does not count yet");
    }
}

static void checkpoint_look(struct driver *d, const struct blk_io *io)
{
    const struct store *s = d->store;
    uint64_t block = io->offset / BLOCK_SIZE, in = (block - s->g.checkpoint_block) % s->g.checkpoint_blocks;
    const struct disk_checkpoint *c = (const void *)io->iov[0].iov_base;

    if (in == 1) {
        d->checkpoint_seq = s->next_seq;
        claims_look(d, block);
    }
    if (in == 0 && !is_settled(d, block + 1, MAX(DIV_UP(c->record_count, CKPT_RECORDS_PER_BLOCK), 1ull)))
        spy_fail(d, block, "a checkpoint's header in front of what it tells of");
    if (in == 0 && (c->ring_seq > s->durable_seq || (d->checkpoint_seq && c->replay_seq > d->checkpoint_seq)))
        spy_fail(d, block, "a checkpoint that claims what has come since");
    for (uint32_t i = 0; in && i < io->iov_count; i++) {
        const struct disk_checkpoint_block *b = (const void *)io->iov[i].iov_base;
        const struct disk_record *r = &b->records[sim_rng_below(&d->world->spies, MAX(b->record_count, 1u))];
        if (r->type == RECORD_SLOT)
            slot_look(d, block, r, false);
    }
}

/* A slice is one as soon as a superblock says so. */
static void superblock_look(struct driver *d, const struct blk_io *io)
{
    struct geometry g;
    uint64_t block = io->offset / BLOCK_SIZE;

    if (d->op.state != DRIVE_FORMAT || (block != SUPERBLOCK_A_BLOCK && block != SUPERBLOCK_B_BLOCK) ||
        geometry_layout(sim_disk_size(d->world->disk), d->world->ring_bytes, &g))
        return;
    if (!is_settled(d, g.table_block, 2 * g.table_blocks) ||
        !is_settled(d, g.checkpoint_block, 2 * g.checkpoint_blocks))
        spy_fail(d, block, "a superblock in front of what it tells of");
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
    else if (block >= g->checkpoint_block && block < g->checkpoint_block + 2 * g->checkpoint_blocks)
        checkpoint_look(d, io);
}

static void spy_submit(struct blk *blk, struct blk_io *io)
{
    struct driver *d = container_of(blk, struct driver, spy);

    if (io->type == BLK_WRITE && d->store && !store_failed(d->store))
        write_look(d, io);
    else if (io->type == BLK_WRITE && !d->store)
        superblock_look(d, io);
    d->blk->ops->submit(d->blk, io);
}

static const struct blk_ops SPY_OPS = {spy_submit, NULL};

void spy_start(struct driver *d)
{
    d->spy = *d->blk;
    d->spy.ops = &SPY_OPS;
}

/* A start has made both copies what the better one was, and has proven what it found. */
static void copies_look(struct driver *d)
{
    const struct store *s = d->store;
    struct disk_table_block a, b;
    uint64_t proven = 0;

    if (d->world->starts_blind || d->world->rot)
        return;
    for (uint64_t i = 0; i < s->g.table_blocks; i++) {
        uint64_t at = s->g.table_block + i;
        sim_disk_peek(d->world->disk, block_offset(at), &a, sizeof(a));
        sim_disk_peek(d->world->disk, block_offset(at + s->g.table_blocks), &b, sizeof(b));
        if (!FORMAT_SEALED(&a) || memcmp(&a, &b, sizeof(a)) || !is_settled(d, at, 1) ||
            !is_settled(d, at + s->g.table_blocks, 1))
            sim_fail(d->world->sim, "spy: block %lu of the table has one copy, behind a start", i);
        proven = MAX(proven, a.ring_seq);
    }
    if (proven < s->durable_seq)
        sim_fail(d->world->sim, "spy: a start goes by batch %lu, and proves %lu", s->durable_seq, proven);
}

/* Of what a start has cut off no header is left that could count at a later one. */
static void cut_off_look(struct driver *d)
{
    const struct store *s = d->store;
    uint8_t block[BLOCK_SIZE];
    const struct disk_batch *h = (const void *)block;

    for (uint64_t at = 0; at < s->g.ring_blocks && !d->world->starts_blind; at++) {
        uint64_t place = block_offset(s->g.ring_block + at);
        sim_disk_peek(d->world->disk, place, block, sizeof(*h));
        if (h->magic != MAGIC_BATCH || h->seq <= s->last_seq || h->used_bytes > BLOCK_SIZE)
            continue;
        sim_disk_peek(d->world->disk, place, block, sizeof(block));
        if (batch_validate(s, h, at, h->header_blocks) &&
            sim_disk_is_readable(d->world->disk, place, sizeof(block)))
            sim_fail(d->world->sim, "spy: batch %lu is there, and the start went by %lu", h->seq,
                     s->last_seq);
    }
}

void spy_open(struct driver *d)
{
    d->world->cut_off = d->store->next_seq > d->store->last_seq + 1;
    d->world->start_seq = d->store->next_seq;

    ASSERT(d->store->g.chunk_count < SPIED_CHUNKS);
    d->spied_seq = d->proven_seq = d->store->durable_seq;
    copies_look(d);
    cut_off_look(d);
    list_for_each (&d->store->batches, node) {
        const struct batch *b = list_entry(node, const struct batch, link);
        d->spied[b->seq % SPIED_BATCHES] = (struct spied_batch){.seq = b->seq, .position = b->position};
    }
}

static void removal_look(struct driver *d)
{
    const struct geometry *g = &d->store->g;
    struct disk_table_block block;

    for (uint64_t copy = 0; copy < 2; copy++) {
        uint64_t at = g->table_block + copy * g->table_blocks + d->removed_at / TABLE_RECORDS_PER_BLOCK;
        sim_disk_peek(d->world->disk, block_offset(at), &block, sizeof(block));
        if (block.records[d->removed_at % TABLE_RECORDS_PER_BLOCK].key == d->removed_key)
            sim_fail(d->world->sim, "spy: a PG has been removed, and would be there at the next start");
    }
}

void spy_remove(struct driver *d, const struct store_pg *pg)
{
    d->removed_key = pg_of(pg)->key;
    d->removed_at = pg_of(pg)->table_index;
}

void spy_step(struct driver *d)
{
    if (d->removed_key && !op_live(&d->remove.op)) {
        if (d->remove.op.result == 0 && !d->world->rot)
            removal_look(d);
        d->removed_key = 0;
    }
    if (d->copy_seq && !op_live(&d->copy_end.op)) {
        if (d->copy_end.op.result == 0 && (!d->copy_record_seq || d->copy_record_seq > d->store->durable_seq))
            sim_fail(d->world->sim, "spy: a copy counts before its record is durable");
        d->copy_seq = d->copy_record_seq = 0;
    }
    if (!d->repaired || op_live(&d->repair.op))
        return;
    if (d->repair.op.result == 0 && !is_settled(d, d->repaired, 1))
        spy_fail(d, d->repaired, "counts as repaired, and may be gone when power fails");
    d->repaired = 0;
}
