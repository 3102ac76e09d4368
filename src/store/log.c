/* SPDX-License-Identifier: Apache-2.0
 *
 * Log entries in memory: append, truncate, trim, and the cache of payloads.
 *
 * An entry lives while it is in its PG's log or holds something: an overlay place, an image record (`holds`).
 * Its payload is a reference on the buffer it came in; when the cache is over its limit the oldest durable
 * ones are given back, and from then on the ring is where the data is.
 *
 * A PG's share of the ring. What is not applied holds the tail (it is copied forward when the tail comes by),
 * so its sum is bounded by half of the ring. A PG may have an eighth of the ring while little is held in all;
 * when much is held, by PGs without a quorum say, each one is cut to its fair part, so that the others go on;
 * one entry at a time at the least. Small entries are also bounded by number: a quarter of what a log may
 * have waits to be applied, and when half of it is applied the tail moves whatever room there is (trim.c).
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

#define LOG_CAP_FIRST 64u
/* What is given back when a buffer was wanted in vain: a part large enough for whole ones to be among it. */
#define CACHE_RELIEF_PART 8u
#define SHARE_MIN_BYTES   (9ull << 18) /* two entries of the largest size */

size_t entry_size(uint32_t words, uint32_t chunks)
{
    return sizeof(struct log_entry) + 4ull * (words + chunks);
}

struct log_entry *entry_new(struct store *s, const struct entry *from, uint32_t chunk_count)
{
    uint32_t words = entry_crc_count(from);
    struct log_entry *e = slab_get(&s->slab, entry_size(words, chunk_count));

    if (!e)
        return NULL;
    list_init(&e->batch_link);
    list_init(&e->copy_link);
    list_init(&e->cache_link);
    list_init(&e->obj_link);
    e->index = from->index;
    e->term = from->term;
    e->type = from->type;
    e->flags = from->flags;
    e->image = from->image;
    e->object = from->object;
    e->first_block = from->first_block;
    e->block_count = from->block_count;
    e->incarnation = from->incarnation;
    e->generation = from->generation;
    e->size_bytes = from->size_bytes;
    e->chunk_count = chunk_count;
    if (words)
        memcpy(e->crc, from->crc, 4ull * words);
    return e;
}

/* ---- payloads in memory -------------------------------------------------------------------------------- */

void entry_cache(struct log_entry *e, const struct slice *payload)
{
    struct store *s = store_of(e->pg);

    ASSERT(!e->payload.buf);
    e->payload = slice_sub(payload, 0, payload->len);
    list_push_back(&s->cached, &e->cache_link);
    s->cache_used += payload->len;
    s->counters.cache_bytes = s->cache_used;
}

void entry_uncache(struct log_entry *e)
{
    struct store *s = store_of(e->pg);

    if (!e->payload.buf)
        return;
    s->cache_used -= e->payload.len;
    s->counters.cache_bytes = s->cache_used;
    list_remove(&e->cache_link);
    slice_unref(&e->payload);
}

/* The ring has it, and nobody is about to look at it. */
static bool entry_evictable(const struct log_entry *e)
{
    return e->durable && e->batch && !e->pins && !list_linked(&e->copy_link);
}

void cache_evict(struct store *s)
{
    while (s->cache_used > s->config.cache_bytes) {
        struct log_entry *e = list_first(&s->cached, struct log_entry, cache_link);
        if (!e || !entry_evictable(e))
            return;
        /* The next ones in line are the longest unused of all. */
        struct log_entry *next = list_entry(e->cache_link.next, struct log_entry, cache_link);
        if (e->cache_link.next != &s->cached) {
            PREFETCH(next->payload.buf, 0);
            PREFETCH(next->cache_link.next, 0);
            entry_prefetch(list_entry(next->cache_link.next, struct log_entry, cache_link), false);
        }
        entry_uncache(e);
    }
}

void cache_relieve(struct store *s)
{
    uint64_t least = s->cache_used - s->cache_used / CACHE_RELIEF_PART;

    /* Not stopping at those that a round holds, which are the oldest, as a rule. */
    list_for_each_safe (&s->cached, node) {
        struct log_entry *e = list_entry(node, struct log_entry, cache_link);
        if (s->cache_used <= least)
            return;
        if (entry_evictable(e))
            entry_uncache(e);
    }
}

/* ---- an entry's life ----------------------------------------------------------------------------------- */

void entry_reserve(struct log_entry *e)
{
    if (e->type != ENTRY_WRITE || e->reserved)
        return;
    uint32_t last = (e->first_block + e->block_count - 1) / BLOCKS_PER_CHUNK;
    for (uint32_t c = e->first_block / BLOCKS_PER_CHUNK; c <= last; c++)
        space_hold(e->obj, c);
    e->reserved = true;
}

void entry_unreserve(struct log_entry *e)
{
    if (!e->reserved)
        return;
    uint32_t last = (e->first_block + e->block_count - 1) / BLOCKS_PER_CHUNK;
    for (uint32_t c = e->first_block / BLOCKS_PER_CHUNK; c <= last; c++)
        space_unhold(e->obj, c);
    e->reserved = false;
}

static void entry_free(struct log_entry *e)
{
    struct store *s = store_of(e->pg);

    /* Not before: a destage round may be writing from it. */
    entry_uncache(e);
    if (e->chunks_held)
        large_release(s, e);
    else
        slab_put(&s->slab, e, entry_size(entry_words(e), e->chunk_count));
}

void entry_drop(struct log_entry *e)
{
    struct store *s = store_of(e->pg);
    struct object *o = e->obj;

    ASSERT(e->holds == 0 && !e->in_log);
    if (e->queued)
        s->queue_blocks -= entry_blocks(e) + 1;
    e->queued = false;
    list_remove(&e->batch_link);
    list_remove(&e->copy_link);
    list_remove(&e->obj_link);
    entry_unreserve(e);
    large_drop(e);
    e->batch = NULL;
    e->obj = NULL;
    if (o)
        object_settle(o);
    e->dead = true;
    if (!e->pins)
        entry_free(e);
}

void entry_pin(struct log_entry *e)
{
    e->pins++;
}

void entry_unpin(struct log_entry *e)
{
    ASSERT(e->pins);
    if (--e->pins == 0 && e->dead)
        entry_free(e);
}

/* Object and overlay may be in the middle of a change: they are settled by whoever changes them. */
void entry_release(struct log_entry *e)
{
    ASSERT(e->holds);
    if (--e->holds)
        return;
    entry_unreserve(e);
    e->obj = NULL;
    if (e->in_log)
        return;
    e->pg->offlog_holds--;
    entry_drop(e);
}

/* The entry leaves its PG's log, not necessarily the memory. */
static void entry_detach(struct log_entry *e)
{
    struct pg *pg = e->pg;

    ASSERT(e->in_log);
    e->in_log = false;
    pg->log[e->index & (pg->log_cap - 1)] = NULL;
    pg->pub.ring_bytes -= entry_ring_bytes(e);
    if (!e->applied) {
        pg->unapplied_bytes -= entry_ring_bytes(e);
        store_of(pg)->unapplied_bytes -= entry_ring_bytes(e);
        list_remove(&e->obj_link); /* it may hold objects that it was about to clear */
    }
    if (e->holds)
        pg->offlog_holds++;
    else
        entry_drop(e);
}

/* ---- a PG's log ---------------------------------------------------------------------------------------- */

struct log_entry *log_at(const struct pg *pg, uint64_t index)
{
    if (index < pg->pub.first_index || index > pg->pub.last_index)
        return NULL;
    return pg->log[index & (pg->log_cap - 1)];
}

int log_reserve(struct pg *pg, uint64_t count)
{
    if (count <= pg->log_cap)
        return 0;
    uint32_t cap = pg->log_cap ? pg->log_cap : LOG_CAP_FIRST;
    while (cap < count)
        cap *= 2;
    struct log_entry **log = calloc(cap, sizeof(*log));
    if (!log)
        return -ERR_NO_MEMORY;
    for (uint64_t i = pg->pub.first_index; i <= pg->pub.last_index; i++)
        log[i & (cap - 1)] = pg->log[i & (pg->log_cap - 1)];
    free(pg->log);
    pg->log = log;
    pg->log_cap = cap;
    return 0;
}

void log_prefetch(const struct pg *pg, uint64_t index, bool whole)
{
    if (pg->log_cap)
        entry_prefetch(pg->log[index & (pg->log_cap - 1)], whole);
}

int log_put(struct pg *pg, struct log_entry *e)
{
    int rc = log_reserve(pg, e->index - pg->pub.first_index + 1);

    if (rc)
        return rc;
    ASSERT(e->index == pg->pub.last_index + 1);
    pg->log[e->index & (pg->log_cap - 1)] = e;
    pg->pub.last_index = e->index;
    pg->last_term = e->term;
    pg->pub.ring_bytes += entry_ring_bytes(e);
    e->in_log = true;
    pg->unapplied_bytes += entry_ring_bytes(e);
    store_of(pg)->unapplied_bytes += entry_ring_bytes(e);
    return 0;
}

void log_truncate(struct pg *pg, uint64_t index)
{
    while (pg->pub.last_index >= index && pg->pub.last_index >= pg->pub.first_index) {
        entry_detach(log_at(pg, pg->pub.last_index));
        pg->pub.last_index--;
    }
    pg->last_term = 0;
    pg->pub.durable_index = MIN(pg->pub.durable_index, pg->pub.last_index);
}

void log_trim(struct pg *pg, uint64_t first)
{
    /* Who has what goes, and who is away, is not in a hurry. */
    if (pg->pub.wanted_index && first > pg->pub.wanted_index)
        op_wake(pg->pub.waiter);
    while (pg->pub.first_index < first && pg->pub.first_index <= pg->pub.last_index) {
        struct log_entry *e = log_at(pg, pg->pub.first_index);
        log_prefetch(pg, e->index + LOG_AHEAD, true);
        pg->pub.record.base_index = e->index;
        pg->pub.record.base_term = e->term;
        entry_detach(e);
        pg->pub.first_index++;
    }
    log_measure(pg);
}

void log_measure(struct pg *pg)
{
    struct store *s = store_of(pg);
    uint64_t applied = pg->pub.applied_index + 1 - MIN(pg->pub.first_index, pg->pub.applied_index + 1);
    bool is_long = applied > s->log_entries_max / 8 * (pg->long_log ? 3 : 4);

    s->long_logs += (uint32_t)is_long - (uint32_t)pg->long_log;
    pg->long_log = is_long;
}

void store_pg_prefetch(const struct store_pg *pub)
{
    for (size_t at = 0; at < sizeof(struct pg); at += 64)
        PREFETCH(pub, at);
}

/* ---- appending ----------------------------------------------------------------------------------------- */

static bool share_allows(const struct pg *pg, uint64_t bytes)
{
    const struct store *s = store_of(pg);
    uint64_t ring = ring_usable(s) * BLOCK_SIZE;
    uint64_t mine = pg->unapplied_bytes + bytes, all = s->unapplied_bytes + bytes;
    uint64_t much = MAX(ring / 8, SHARE_MIN_BYTES);
    uint64_t fair = MAX(ring / 4 / MAX(s->pg_count, 1u), SHARE_MIN_BYTES);

    if (pg->pub.last_index - pg->pub.applied_index >= s->log_entries_max / 4)
        return false;
    if (mine <= much && all <= ring / 4)
        return true;
    return mine <= fair && (all <= ring / 2 || mine == bytes);
}

/* What a PG needs to get anywhere, or to change. */
static bool entry_is_small(const struct entry *e)
{
    return e->type == ENTRY_NOOP || e->type == ENTRY_GROUP || e->type == ENTRY_SPLIT ||
           entry_is_image(e->type);
}

/* Is there room at all? What holds for a replicated entry too, which its leader has admitted to the PG's
 * share already: the share of a follower's ring is only bounded so that what is not applied can always be
 * copied forward. A leader's first entry, image records and groups are small and what a PG needs to get
 * anywhere: they pass as long as the ring has room. */
static int room_allows(struct pg *pg, const struct entry *entry)
{
    struct store *s = store_of(pg);
    uint64_t payload = entry_payload_bytes(entry);
    bool small = entry_is_small(entry);

    if (s->failed)
        return -ERR_STOPPED;
    if (pg->removing || (!small && s->unapplied_bytes + payload > ring_usable(s) * BLOCK_SIZE / 4 * 3))
        return -ERR_RETRY;
    if (pg->pub.last_index + 1 - pg->pub.first_index >= s->log_entries_max)
        return -ERR_RETRY;
    if (MAX(ring_used(s), ring_held(s)) + s->queue_blocks + payload / BLOCK_SIZE + 2 > ring_usable(s)) {
        s->room_wanted = true;
        destage_wake(s);
        op_wake(&s->ring_op); /* where the tail is may only have to be told */
        return -ERR_RETRY;
    }
    return space_admit(pg, entry);
}

int store_can_append(const struct store_pg *pub, const struct entry *entry)
{
    struct pg *pg = pg_of(pub);
    uint64_t payload = entry_payload_bytes(entry);
    bool small = entry_is_small(entry);

    if (!small && !store_of(pg)->failed &&
        !share_allows(pg, payload + payload / 1024 + sizeof(struct disk_entry)))
        return -ERR_RETRY;
    return room_allows(pg, entry);
}

static void check_shape(const struct store_pg *pg, const struct entry *entry, const struct slice *payload)
{
    ASSERT(entry->index > pg->applied_index && entry->index <= pg->last_index + 1);
    ASSERT(entry->term > 0);
    switch (entry->type) {
    case ENTRY_WRITE:
        ASSERT(payload && payload->buf && payload->len == entry->block_count * BLOCK_SIZE &&
               IS_ALIGNED(payload->offset, BLOCK_SIZE) && entry->block_count <= IO_BLOCKS_MAX && entry->crc);
        /* fall through */
    case ENTRY_CLEAR:
        ASSERT(entry->block_count && entry->first_block < BLOCKS_PER_OBJECT &&
               entry->block_count <= BLOCKS_PER_OBJECT - entry->first_block);
        return;
    case ENTRY_NOOP:
    case ENTRY_IMAGE:
    case ENTRY_FORGET:
        return;
    case ENTRY_GROUP:
    case ENTRY_SPLIT:
        ASSERT(entry->crc && entry->block_count && entry->block_count <= GROUP_WORDS_MAX);
        return;
    default:
        UNREACHABLE();
    }
}

/* What is cut off stays in the ring, and parts of it may be trimmed before others: the record says that all
 * of it is void. A header that moves the tail carries it, or comes later. */
static void log_cut(struct pg *pg, uint64_t index)
{
    struct disk_record r = {.type = RECORD_TRUNCATE, .key = pg->key, .log_of = {.index = index}};

    ring_record(store_of(pg), &r);
    log_truncate(pg, index);
}

int store_append(struct store_pg *pub, const struct entry *entry, const struct slice *payload)
{
    struct pg *pg = pg_of(pub);
    struct store *s = store_of(pg);
    struct object *o = NULL;

    check_shape(pub, entry, payload);
    /* First, so that what is replaced holds no room against what replaces it, and is never taken for it. */
    if (entry->index <= pub->last_index && !s->failed)
        log_cut(pg, entry->index);
    int rc = room_allows(pg, entry);
    if (rc)
        return rc;
    if (log_reserve(pg, entry->index - pub->first_index + 1))
        return -ERR_RETRY;
    struct log_entry *e = entry_new(s, entry, large_chunks_wanted(s, entry));
    if (e && (entry->type == ENTRY_WRITE || entry->type == ENTRY_CLEAR))
        o = object_get(pg, entry->image, entry->object);
    bool no_room = o && entry->type == ENTRY_WRITE && space_need(o);
    if (!e || no_room || (!o && (entry->type == ENTRY_WRITE || entry->type == ENTRY_CLEAR))) {
        if (e)
            slab_put(&s->slab, e, entry_size(entry_words(e), e->chunk_count));
        if (o)
            object_settle(o);
        return -ERR_RETRY;
    }
    e->pg = pg;
    e->prev_term = pg->last_term ? pg->last_term : store_log_term(pub, entry->index - 1);
    e->obj = o;
    rc = log_put(pg, e);
    ASSERT(rc == 0);
    if (o)
        list_push_back(&o->unapplied, &e->obj_link);
    else if (e->type == ENTRY_IMAGE)
        list_push_back(&pg->pending_images, &e->obj_link);
    entry_reserve(e);
    large_take(s, e);
    if (payload && e->type == ENTRY_WRITE) {
        entry_cache(e, payload);
        s->counters.payload_bytes += payload->len;
    }
    if (o && o->overlay)
        PREFETCH(&o->overlay->block[e->first_block], 0);
    e->queued = true;
    list_push_back(&s->queue, &e->batch_link);
    s->queue_blocks += entry_blocks(e) + 1;
    op_wake(&s->ring_op);
    if (PLANT(STORE_EARLY_DESTAGE))
        entry_apply(e);
    return 0;
}

int store_log_get(const struct store_pg *pub, uint64_t index, struct entry *ret_entry,
                  struct slice *ret_payload)
{
    const struct log_entry *e = log_at(pg_of(pub), index);

    if (!e)
        return index > pub->last_index ? -ERR_NOT_FOUND : -ERR_COMPACTED;
    if (e->type == ENTRY_WRITE && (e->lost || !e->payload.buf))
        return -ERR_RETRY;
    entry_export(e, ret_entry);
    *ret_payload = e->payload;
    return 0;
}

uint64_t store_log_term(const struct store_pg *pub, uint64_t index)
{
    const struct log_entry *e = log_at(pg_of(pub), index);

    if (e)
        return e->term;
    return index == pub->record.base_index && index + 1 == pub->first_index ? pub->record.base_term : 0;
}

void store_reset_base(struct store_pg *pub, uint64_t index, uint64_t term, const struct group *group,
                      uint32_t split_count)
{
    struct pg *pg = pg_of(pub);
    struct disk_record r = {.type = RECORD_RESET,
                            .key = pg->key,
                            .log_of = {.index = index, .term = term, .split_count = split_count}};

    ASSERT(!pg->splitting);

    if (!store_of(pg)->failed) {
        images_save(pg);
        ring_record(store_of(pg), &r);
    }
    for (uint64_t i = pub->first_index; i <= pub->last_index; i++) {
        log_at(pg, i)->release_late = true; /* it is the reset that makes it complete, once durable */
        entry_detach(log_at(pg, i));
    }
    /* What is here may be of what was applied, which the log has yet to get again. */
    pub->newest_index = MAX(pub->newest_index, pub->applied_index);
    pub->first_index = index + 1;
    pub->last_index = pub->durable_index = pub->applied_index = index;
    pub->record.base_index = index;
    pub->record.base_term = term;
    pub->gone_index = MAX(pub->gone_index, index);
    pub->record.split_count = split_count;
    struct disk_pg *d = table_record(store_of(pg), pg->table_index);
    if (index < d->base_index) { /* as the log had been trimmed */
        d->base_index = index;
        d->base_term = term;
    }
    (void)table_split_set(pg);
    table_group_set(pg, group);
    pg->last_term = 0;
    pg->complete_index = index;
    pg->complete_term = term;
    pg->complete_durable = index;
    pg->destage_limit = pg->collected_index = pg->clear_index = pg->collect_index = 0;
    pg->complete_pushed = index;
    pub->damaged = false;
    log_measure(pg);
}
