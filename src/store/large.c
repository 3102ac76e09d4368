/* SPDX-License-Identifier: Apache-2.0
 *
 * Large writes: entries that bring chunks along.
 *
 * A write that covers whole chunks of its object is given fresh ones when it enters the log; what it has
 * before the first and behind the last stays payload of the ring. Its batch is the header, the ring's payload
 * and the writes of these chunks, all under way together, and counts when all of them are done; after a crash
 * a batch that is not proven durable counts only if its chunks, too, have the right checksums. Destage makes
 * the chunk the object's and writes nothing, if all blocks of it are still the newest there are; otherwise
 * they are payload like any other, and the chunk goes with the entry.
 *
 * The entry holds a reference on its chunks while it is in the log, so that followers can be served, and what
 * is held counts as ring space (`volume`), which bounds it. A chunk is not written in place while it has two
 * references: destage first lets the log go, once all up to that entry is complete. Where another PG's log
 * keeps it, from before a split, what stays of its blocks moves to a fresh one.
 *
 * When is a chunk free whose entry has left the log? If the entry is complete: at once, as the record that
 * says so comes after its batch was known durable. Otherwise (cut off, reset, or its PG removed) writes of
 * it may be under way, a crash may still bring it back, and its batch may have to prove itself by this very
 * chunk: so it waits in `releases` until a batch is durable that comes after all that name the chunk and has
 * the record that voids it, and then until a header is durable that proves that batch.
 */
#include "store/internal.h"

/* So many chunks in one write are worth it. Measured: docs/performance.md. */
#define LARGE_CHUNKS_MIN 1u

/* Fewer chunks than this part of the slice are free: the log keeps none for followers. */
#define SPACE_LOW_PART 8u

/* ---- which, and where ---------------------------------------------------------------------------------- */

static uint32_t whole_chunks(uint32_t first_block, uint32_t block_count)
{
    uint32_t first = DIV_UP(first_block, BLOCKS_PER_CHUNK),
             end = (first_block + block_count) / BLOCKS_PER_CHUNK;

    return end > first ? end - first : 0;
}

/* How many chunks such an entry is to bring. They are beyond what the entry reserves like any other, as
 * destage needs that if they turn out to be of no use; so only what is really spare is given away. */
uint32_t large_chunks_wanted(const struct store *s, const struct entry *entry)
{
    uint32_t n = entry->type == ENTRY_WRITE ? whole_chunks(entry->first_block, entry->block_count) : 0;

    /* Its reservation: the chunks, parts in front and behind, a slot. */
    return n >= MAX(s->config.large_chunks_min, LARGE_CHUNKS_MIN) && space_available(s) >= 2 * (int64_t)n + 3
               ? n
               : 0;
}

/* Blocks of the entry in front of its first chunk. */
uint32_t entry_head(const struct log_entry *e)
{
    return DIV_UP(e->first_block, BLOCKS_PER_CHUNK) * BLOCKS_PER_CHUNK - e->first_block;
}

/* The chunk that the entry brings for this one of its object; 0: none. */
uint32_t large_chunk(const struct log_entry *e, uint32_t chunk)
{
    uint32_t i = chunk - DIV_UP(e->first_block, BLOCKS_PER_CHUNK);

    return e->chunk_count && i < e->chunk_count ? e->crc[e->block_count + i] : 0;
}

/* Where block i of the entry is on the device. */
uint64_t entry_place(const struct store *s, const struct log_entry *e, uint32_t i)
{
    uint32_t block = e->first_block + i, chunk = large_chunk(e, block / BLOCKS_PER_CHUNK);

    if (chunk)
        return chunk_place(s, chunk, block);
    if (e->chunk_count && i >= entry_head(e))
        i -= entry_large_blocks(e);
    return ring_place(s, e->position) + i;
}

/* How many of `count` blocks from i on lie together. */
uint32_t entry_run(const struct store *s, const struct log_entry *e, uint32_t i, uint32_t count)
{
    uint64_t place = entry_place(s, e, i);
    uint32_t n = 1;

    if (!e->chunk_count)
        return count;
    while (n < count && entry_place(s, e, i + n) == place + n)
        n++;
    return n;
}

/* Pieces in which its chunks lie. */
uint32_t entry_runs(const struct log_entry *e)
{
    const uint32_t *chunks = e->crc + e->block_count;
    uint32_t runs = e->chunk_count ? 1 : 0;

    for (uint32_t i = 1; i < e->chunk_count; i++)
        runs += chunks[i] != chunks[i - 1] + 1;
    return runs;
}

/* ---- taking -------------------------------------------------------------------------------------------- */

void large_take(struct store *s, struct log_entry *e)
{
    for (uint32_t i = 0; i < e->chunk_count; i++) {
        entry_chunks(e)[i] = chunk_alloc(s);
        ASSERT(entry_chunks(e)[i]);
    }
    e->chunks_held = e->chunk_count;
    e->pg->large_count += e->chunks_held;
    s->counters.large_entries += e->chunks_held;
}

/* ---- letting go ---------------------------------------------------------------------------------------- */

/* The entry has left its log; a record that voids it, if it takes one, was pushed before. */
void large_drop(struct log_entry *e)
{
    struct store *s = store_of(e->pg);

    if (!e->chunks_held)
        return;
    e->pg->large_count--;
    bool complete = e->durable && !e->release_late && e->applied && e->index <= e->pg->complete_durable;
    e->release_ticket = complete || PLANT(STORE_LARGE_FREE) ? 0 : s->records_pushed;
    e->release_seq = complete || PLANT(STORE_LARGE_FREE) ? 0 : s->last_seq;
}

static void chunks_free(struct store *s, struct log_entry *e)
{
    for (uint32_t i = 0; i < e->chunk_count; i++)
        chunk_free(s, entry_chunks(e)[i]);
    slab_put(&s->slab, e, entry_size(entry_words(e), e->chunk_count));
}

/* The last of an entry that holds chunks. */
void large_release(struct store *s, struct log_entry *e)
{
    if (!e->release_seq) {
        chunks_free(s, e);
        return;
    }
    list_push_back(&s->releases, &e->batch_link);
    if (op_live(&s->ring_op))
        op_wake(&s->ring_op);
}

/* A batch is durable, and so are all before it; its header proves those up to `proven_seq`. */
void large_settle(struct store *s, uint64_t seq, uint64_t proven_seq)
{
    list_for_each_safe (&s->releases, node) {
        struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        if (e->release_ticket == UINT64_MAX && e->release_seq <= proven_seq) {
            list_remove(&e->batch_link);
            chunks_free(s, e);
        } else if (e->release_ticket <= s->records_durable && e->release_seq <= seq) {
            e->release_ticket = UINT64_MAX;
            e->release_seq = seq;
        }
    }
}

/* Chunks wait for no more than a header. */
bool large_unproven(const struct store *s)
{
    return !list_empty(&s->releases) && s->inflight_count == 0 && ring_used(s) < ring_usable(s);
}

static void log_let_go(struct pg *pg, uint64_t first)
{
    if (!pg->large_count || pg->removing || first <= pg->pub.first_index)
        return;
    log_trim(pg, first);
}

/* What was removed is not to take space until the log is short of it; but members in contact get the entries
 * first, so that none has to recover for it. */
void large_give_back(struct pg *pg)
{
    uint64_t upto = pg->gives_back, wanted = pg->pub.wanted_index;

    if (!upto || upto > pg->complete_durable)
        return;
    log_let_go(pg, wanted ? MIN(upto + 1, wanted) : upto + 1);
    if (!wanted || wanted > upto)
        pg->gives_back = 0;
}

void store_keep(struct store_pg *pub, uint64_t from)
{
    pub->wanted_index = from;
    large_give_back(pg_of(pub));
}

/* When space is low the log's past, which only serves followers that lag, is given up for it. */
void large_relieve(struct store *s)
{
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        log_let_go(pg, pg->complete_durable + 1);
    }
}

bool large_space_low(const struct store *s)
{
    return space_available(s) < (int64_t)(s->g.chunk_count / SPACE_LOW_PART);
}

/* ---- at open ------------------------------------------------------------------------------------------- */

/* The entry's object, if it has that chunk there. It may be another PG's by now, while the entry is the PG's
 * that this one was split off (split.c). */
static struct object *object_brought(struct store *s, const struct log_entry *e, uint32_t chunk, uint32_t at)
{
    struct object *o = object_find(e->pg, e->image, e->object);

    if (o && object_chunk(o, at) == chunk)
        return o;
    list_for_each (&s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        o = key_is_family(pg->key, e->pg->key) ? object_find(pg, e->image, e->object) : NULL;
        if (o && object_chunk(o, at) == chunk)
            return o;
    }
    return NULL;
}

/* The chunk is free, or the very one that the entry's object has there. */
static bool chunk_claim_for(struct store *s, struct log_entry *e, uint32_t i)
{
    uint32_t chunk = entry_chunks(e)[i], at = DIV_UP(e->first_block, BLOCKS_PER_CHUNK) + i;
    struct object *o = s->chunk_refs[chunk] ? object_brought(s, e, chunk, at) : NULL;

    if (s->chunk_refs[chunk] > (o != NULL))
        return false;
    chunk_ref(s, chunk);
    if (o)
        o->brought_index = MAX(o->brought_index, e->index);
    return true;
}

static void entry_claim(struct store *s, struct log_entry *e)
{
    uint32_t i = 0;

    while (i < e->chunk_count && chunk_claim_for(s, e, i))
        i++;
    if (i == e->chunk_count) {
        e->chunks_held = true;
        e->pg->large_count++;
        return;
    }
    while (i > 0)
        chunk_free(s, entry_chunks(e)[--i]);
    store_problem(s, "PG %llx: log: another has a chunk of entry %llu",
                  (unsigned long long)e->pg->pub.record.pg, (unsigned long long)e->index);
    e->lost = true;
    e->pg->pub.damaged = true;
}

/* What the entries of these PGs' logs hold, after the live pages of their families have claimed theirs.
 * Complete ones hold nothing: the log begins behind them. One that is lost may be read at a later start. */
void large_claim(struct store *s, enum claim_turn turn)
{
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        if (pg->turn != turn)
            continue;
        for (uint64_t i = pg->pub.first_index; i <= pg->pub.last_index; i++) {
            struct log_entry *e = log_at(pg, i);
            if (e->chunk_count)
                entry_claim(s, e);
        }
    }
}
