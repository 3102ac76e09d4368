/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunks, page slots, and the promise that an entry taken into the log can be destaged.
 *
 * A write reserves, when it enters the log, one chunk for each chunk of its object that the page lacks and no
 * other waiting entry has reserved already (`pending` counts the entries per chunk), and a page slot if the
 * object has none. Beyond that enough chunks are kept back for the slots that one destage round needs before
 * it frees the old ones; so destage, clears and deletes work on a full device.
 *
 * Slots live in page chunks, 16 in each, taken from the common pool and given back when the last slot is
 * free. The chunks that hold pages are numbered by a map; a full one costs nothing to skip because of the
 * hint.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

/* A round's slots, a copy's, and chunks that destage may need for a moment. */
#define SLOTS_KEPT  (DESTAGE_OBJECTS_MAX + 4 * SLOTS_PER_CHUNK)
#define CHUNKS_KEPT 4

#define PENDING_SIZE (CHUNKS_PER_OBJECT * sizeof(uint32_t))

int space_init(struct store *s)
{
    s->chunk_refs = calloc(s->g.chunk_count + 1, 1);
    s->page_chunk_used = calloc(s->g.chunk_count + 1, sizeof(uint16_t));
    s->chunks_free = s->g.chunk_count;
    s->chunk_hint = 1;
    return s->chunk_refs && s->page_chunk_used ? 0 : -ERR_NO_MEMORY;
}

void space_fini(struct store *s)
{
    free(s->chunk_refs);
    free(s->page_chunk_used);
    free(s->page_chunks);
}

void chunk_ref(struct store *s, uint32_t chunk)
{
    ASSERT(s->chunk_refs[chunk] < UINT8_MAX);
    if (s->chunk_refs[chunk]++ == 0)
        s->chunks_free--;
    s->chunk_high = MAX(s->chunk_high, chunk);
}

uint32_t chunk_alloc(struct store *s)
{
    if (s->chunks_free == 0)
        return 0;
    /* Next fit: what is written together lies together. But what was never used is left alone while enough is
     * free below it, so that overwriting a small image does not walk over the whole device. */
    uint64_t below = s->chunk_high - MIN(s->chunk_high, s->g.chunk_count - s->chunks_free);
    if (s->chunk_hint > s->chunk_high && below > s->chunk_high / 8 + s->g.chunk_count / 64)
        s->chunk_hint = 1;
    for (uint64_t i = 0; i < s->g.chunk_count; i++) {
        uint64_t chunk = s->chunk_hint++;
        if (s->chunk_hint > s->g.chunk_count)
            s->chunk_hint = 1;
        if (!s->chunk_refs[chunk]) {
            chunk_ref(s, (uint32_t)chunk);
            return (uint32_t)chunk;
        }
    }
    UNREACHABLE();
}

int chunk_claim(struct store *s, uint32_t chunk)
{
    if (s->chunk_refs[chunk])
        return -ERR_CONFLICT;
    chunk_ref(s, chunk);
    return 0;
}

void chunk_free(struct store *s, uint32_t chunk)
{
    ASSERT(s->chunk_refs[chunk]);
    if (--s->chunk_refs[chunk] == 0)
        s->chunks_free++;
}

/* ---- slots --------------------------------------------------------------------------------------------- */

static int page_chunk_note(struct store *s, uint32_t chunk)
{
    if (s->page_chunk_count == s->page_chunk_cap) {
        uint32_t cap = s->page_chunk_cap ? s->page_chunk_cap * 2 : 64;
        uint32_t *grown = realloc(s->page_chunks, cap * sizeof(*grown));
        if (!grown)
            return -ERR_NO_MEMORY;
        s->page_chunks = grown;
        s->page_chunk_cap = cap;
    }
    s->page_chunks[s->page_chunk_count++] = chunk;
    return 0;
}

static uint32_t slot_take(struct store *s, uint32_t chunk)
{
    uint32_t i = (uint32_t)__builtin_ctz(~(uint32_t)s->page_chunk_used[chunk]);

    s->page_chunk_used[chunk] |= (uint16_t)(1u << i);
    s->slots_used++;
    return chunk * SLOTS_PER_CHUNK + i;
}

uint32_t slot_alloc(struct store *s)
{
    if (s->slots_used < (uint64_t)s->page_chunk_count * SLOTS_PER_CHUNK) {
        for (uint32_t n = 0; n < s->page_chunk_count; n++) {
            if (s->slot_hint >= s->page_chunk_count)
                s->slot_hint = 0;
            uint32_t chunk = s->page_chunks[s->slot_hint];
            if (s->page_chunk_used[chunk] != UINT16_MAX)
                return slot_take(s, chunk);
            s->slot_hint++;
        }
    }
    uint32_t chunk = chunk_alloc(s);
    if (!chunk)
        return 0;
    if (page_chunk_note(s, chunk)) {
        chunk_free(s, chunk);
        return 0;
    }
    s->slot_hint = s->page_chunk_count - 1;
    return slot_take(s, chunk);
}

void slot_free(struct store *s, uint32_t slot)
{
    uint32_t chunk = slot / SLOTS_PER_CHUNK;
    uint16_t bit = (uint16_t)(1u << slot % SLOTS_PER_CHUNK);

    ASSERT(s->page_chunk_used[chunk] & bit);
    s->page_chunk_used[chunk] &= (uint16_t)~bit;
    s->slots_used--;
    if (s->page_chunk_used[chunk])
        return;
    for (uint32_t n = 0; n < s->page_chunk_count; n++)
        if (s->page_chunks[n] == chunk) {
            s->page_chunks[n] = s->page_chunks[--s->page_chunk_count];
            break;
        }
    chunk_free(s, chunk);
}

/* At open, before chunks are claimed for data. */
int slot_claim(struct store *s, uint32_t slot)
{
    uint32_t chunk = slot / SLOTS_PER_CHUNK;
    uint16_t bit = (uint16_t)(1u << slot % SLOTS_PER_CHUNK);

    if (chunk == 0 || chunk > s->g.chunk_count || s->page_chunk_used[chunk] & bit)
        return -ERR_CONFLICT;
    if (!s->page_chunk_used[chunk]) {
        if (chunk_claim(s, chunk))
            return -ERR_CONFLICT;
        int rc = page_chunk_note(s, chunk);
        if (rc)
            return rc;
    }
    s->page_chunk_used[chunk] |= bit;
    s->slots_used++;
    return 0;
}

/* ---- reservations -------------------------------------------------------------------------------------- */

/* Page chunks that must still be taken if every slot that may be needed is, and `more` besides. */
static int64_t page_chunks_missing(const struct store *s, uint64_t more)
{
    uint64_t need = DIV_UP(s->slots_used + s->slots_reserved + more + SLOTS_KEPT, (uint64_t)SLOTS_PER_CHUNK);

    return need > s->page_chunk_count ? (int64_t)(need - s->page_chunk_count) : 0;
}

static int64_t available(const struct store *s, uint64_t more_slots)
{
    return (int64_t)s->chunks_free - (int64_t)s->chunks_reserved - page_chunks_missing(s, more_slots) -
           CHUNKS_KEPT;
}

int64_t space_available(const struct store *s)
{
    return available(s, 0);
}

uint64_t space_slots_left(const struct store *s)
{
    return s->g.objects_max - MIN(s->slots_used + s->slots_reserved, s->g.objects_max);
}

bool space_spare(struct store *s)
{
    if (space_available(s) < 1)
        large_relieve(s);
    return space_available(s) >= 1;
}

/* Whatever waits for destage gets a page, also if all of it is cleared by now. */
void space_slot_settle(struct object *o)
{
    struct store *s = store_of(o->pg);
    bool want = (o->pending_total || o->overlay) && !o->slot;

    if (want == o->slot_reserved)
        return;
    o->slot_reserved = want;
    s->slots_reserved += want ? 1 : (uint64_t)-1;
}

static bool chunk_missing(const struct object *o, uint32_t chunk)
{
    return !(o->map.held >> chunk & 1);
}

int space_need(struct object *o)
{
    if (!o->pending)
        o->pending = slab_get(&store_of(o->pg)->slab, PENDING_SIZE);
    return o->pending ? 0 : -ERR_NO_MEMORY;
}

void space_hold(struct object *o, uint32_t chunk)
{
    o->pending_total++;
    if (o->pending[chunk]++ == 0 && chunk_missing(o, chunk))
        store_of(o->pg)->chunks_reserved++;
    space_slot_settle(o);
}

void space_unhold(struct object *o, uint32_t chunk)
{
    struct store *s = store_of(o->pg);

    ASSERT(o->pending && o->pending[chunk]);
    o->pending_total--;
    if (--o->pending[chunk] == 0 && chunk_missing(o, chunk))
        s->chunks_reserved--;
    if (!o->pending_total) {
        slab_put(&s->slab, o->pending, PENDING_SIZE);
        o->pending = NULL;
    }
    space_slot_settle(o);
}

void space_switch(struct object *o, const struct page_map *map, uint32_t slot)
{
    struct store *s = store_of(o->pg);
    struct page_map next = map ? *map : (struct page_map){0};

    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        uint32_t old = object_chunk(o, c), new = page_map_get(&next, c).number;
        if (o->pending && o->pending[c])
            s->chunks_reserved += (new == 0) - (old == 0);
        if (old && old != new)
            chunk_free(s, old);
    }
    page_drop(o);
    page_map_free(s, &o->map);
    o->map = next;
    o->unreadable = 0;
    if (o->slot && o->slot != slot)
        slot_free(s, o->slot);
    o->slot = slot;
    space_slot_settle(o);
}

int space_admit(const struct pg *pg, const struct entry *entry)
{
    const struct store *s = store_of(pg);

    /* What deletes or forgets passes always: it is what makes room again. */
    if (entry->type == ENTRY_IMAGE && !(entry->flags & ENTRY_IMAGE_DELETED))
        return s->image_count < s->g.images_max || image_find(pg, entry->image) ? 0 : -ERR_NO_RECORDS;
    if (entry->type != ENTRY_WRITE)
        return 0;
    const struct object *o = object_find(pg, entry->image, entry->object);
    uint32_t last = (entry->first_block + entry->block_count - 1) / BLOCKS_PER_CHUNK;
    int64_t need = 0;
    for (uint32_t c = entry->first_block / BLOCKS_PER_CHUNK; c <= last; c++)
        if (!o || (chunk_missing(o, c) && !(o->pending && o->pending[c])))
            need++;
    uint64_t slots = !o || (!o->slot && !o->slot_reserved);
    if (slots && !space_slots_left(s))
        return -ERR_NO_SPACE;
    if ((!need && !slots) || available(s, slots) >= need)
        return 0;
    large_relieve(store_of(pg));
    return available(s, slots) >= need ? 0 : -ERR_NO_SPACE;
}

struct store_space store_space(const struct store *s)
{
    int64_t free_chunks = MIN(space_available(s), (int64_t)space_slots_left(s));

    return (struct store_space){.total_bytes = s->g.chunk_count * CHUNK_SIZE,
                                .used_bytes = (s->g.chunk_count - s->chunks_free) * CHUNK_SIZE,
                                .free_bytes = free_chunks > 0 ? (uint64_t)free_chunks * CHUNK_SIZE : 0,
                                .free_records = s->g.images_max - MIN(s->image_count, s->g.images_max)};
}
