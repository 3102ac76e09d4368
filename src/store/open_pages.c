/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a slice: the pages of all objects are read, which rebuilds allocation. Those that the device does
 * not give, or not as they were written, are tried again for half a second, and are lost then.
 *
 * A PG that is damaged may lack records that said what it gave back: it would claim slots and chunks that
 * others have by now. So these come first, their pages and their logs; but the logs of its family, whose
 * chunks may be pages' of any of them, come when all of these have claimed theirs.
 */
#include <stdlib.h>
#include <string.h>

#include "store/opening.h"

#define PAGE_ROUNDS   5 /* after the first */
#define PAGE_ROUND_NS (100 * NS_PER_MS)
#define UNREADABLE_SHARE                                                                                     \
    16 /* one page of so many may be lost; of few pages half, but no more than so many: */
#define UNREADABLE_MIN 64u
#define UNREADABLE_FEW 4u /* and so many in any case */

static int by_slot(const void *a, const void *b)
{
    const struct open_slot *x = a, *y = b;

    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static int by_key(const void *a, const void *b)
{
    const struct pg *x = *(struct pg *const *)a, *y = *(struct pg *const *)b;

    return x->key < y->key ? -1 : x->key > y->key;
}

static void page_lost(const struct object *o, struct page_mem *ret)
{
    *ret = (struct page_mem){.lost_index = o->page_index};
    memset(ret->lost, 0xff, sizeof(ret->lost));
}

/* Nothing is known of the object's content any more, but that there was some. */
static void object_lost(struct object *o, const char *what)
{
    struct store *s = store_of(o->pg);

    store_problem(s, "PG %llx: page of object %llu/%llu: %s", (unsigned long long)o->pg->pub.record.pg,
                  (unsigned long long)o->image, (unsigned long long)o->number, what);
    s->counters.damaged_objects++;
    struct page_mem page;
    struct page_map map;
    page_lost(o, &page);
    o->lost_index = page.lost_index;
    if (page_map_make(s, &page, &map))
        store_fail(s, -ERR_NO_MEMORY, "no memory to open the slice");
    else
        space_switch(o, &map, o->slot);
}

static bool pg_may_lack_records(const struct pg *pg)
{
    return pg->pub.damaged || pg->pub.record.state == STORE_PG_DAMAGED;
}

/* These, and their families, with which they share chunks. All of some thousand PGs may be damaged at once:
 * in order of their keys families stand together. */
static int pgs_put_off(struct store *s)
{
    struct pg **pgs = calloc(s->pg_count + 1, sizeof(*pgs));
    uint32_t count = 0;

    if (!pgs)
        return -ERR_NO_MEMORY;
    list_for_each (&s->pgs, node)
        pgs[count++] = list_entry(node, struct pg, link);
    qsort(pgs, count, sizeof(*pgs), by_key);
    for (uint32_t first = 0, end; first < count; first = end) {
        bool put_off = false;
        for (end = first; end < count && key_is_family(pgs[end]->key, pgs[first]->key); end++)
            put_off |= pg_may_lack_records(pgs[end]) && !PLANT(STORE_DAMAGED_CLAIM_FIRST);
        for (uint32_t i = first; i < end && put_off; i++)
            pgs[i]->turn = pg_may_lack_records(pgs[i]) ? CLAIM_DAMAGED : CLAIM_KIN;
    }
    free(pgs);
    return 0;
}

static int slots_new(struct store_opening *p)
{
    list_for_each (&p->s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        for (struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number))
            p->slots_all += o->slot != 0;
    }
    p->slots = calloc(p->slots_all + 1, sizeof(*p->slots));
    return p->slots ? 0 : -ERR_NO_MEMORY;
}

/* Of the PGs whose turn it is. */
int open_slots(struct store_opening *p)
{
    struct store *s = p->s;
    uint64_t first = p->slot_count;

    if (p->turn == CLAIM_WHOLE) {
        int rc = pgs_put_off(s);
        if (!rc)
            rc = slots_new(p);
        if (rc)
            return rc;
    }
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        if (pg->turn != p->turn)
            continue;
        for (struct object *o = object_after(pg, true, 0, 0), *next; o; o = next) {
            next = object_after(pg, false, o->image, o->number);
            if (!o->slot) {
                object_settle(o);
                continue;
            }
            object_set_exists(o, true);
            int rc = slot_claim(s, o->slot);
            if (rc == -ERR_NO_MEMORY)
                return rc;
            if (rc) {
                /* Nothing on the device tells of it any more. */
                pg->pub.damaged = true;
                o->slot = 0;
                object_lost(o, "another object has its slot");
                continue;
            }
            space_switch(o, NULL, o->slot);
            p->slots[p->slot_count++] = (struct open_slot){.object = o, .slot = o->slot};
        }
    }
    qsort(p->slots + first, p->slot_count - first, sizeof(*p->slots), by_slot);
    p->page_rounds = 0;
    p->pages_missing = false;
    p->slot_next = first;
    return 0;
}

/* Not 0: it is not this object's page. */
static int open_page(struct store_opening *p, struct open_slot *slot, const struct disk_page *disk)
{
    struct store *s = p->s;
    struct object *o = slot->object;
    int rc = page_validate(s, o, disk);

    if (rc)
        return rc;
    slot->page = OPEN_PAGE_HERE;
    for (uint32_t c = 0; c < CHUNKS_PER_OBJECT; c++) {
        if (!disk->chunk[c] || chunk_claim(s, disk->chunk[c]) == 0)
            continue;
        for (uint32_t i = 0; i < c; i++)
            if (disk->chunk[i])
                chunk_free(s, disk->chunk[i]);
        slot->page = OPEN_PAGE_LOST;
        object_lost(o, "another object has one of its chunks");
        return 0;
    }
    struct page_mem page;
    struct page_map map;
    page_decode(disk, &page);
    if (page_map_make(s, &page, &map)) {
        store_fail(s, -ERR_NO_MEMORY, "no memory to open the slice");
        return 0;
    }
    o->lost_index = page.lost_index;
    space_switch(o, &map, o->slot);
    /* Which ones will be wanted nobody knows: the first that come. */
    if (!page_is_empty(&page) && !pages_full(s))
        page_keep(o, page.crc);
    return 0;
}

#define PAGES_PER_READ (WORK_BLOCKS / SCATTER_IOS)

static void pages_reap(struct store_opening *p, int slot)
{
    uint64_t first = p->pages.at[slot].tag >> 32, count = (uint32_t)p->pages.at[slot].tag;
    const struct disk_page *pages = p->pages.at[slot].iov[0].iov_base;

    for (uint64_t i = first; i < first + count; i++) {
        struct open_slot *at = &p->slots[i];
        /* Whatever the device calls it: what counts is that it does not give the page. */
        at->error = p->pages.at[slot].io.result ? -ERR_IO : open_page(p, at, &pages[i - first]);
        p->pages_missing |= at->error != 0;
    }
}

/* What is wanted still; in the first round in long runs, which one bad block spoils, then one by one. */
static void pages_submit(struct store_opening *p)
{
    uint32_t max = p->page_rounds ? 1 : PAGES_PER_READ;
    int slot;

    while (p->slot_next < p->slot_count && (slot = scatter_slot(&p->pages)) >= 0) {
        uint64_t first = p->slot_next, place = slot_place(p->s, p->slots[first].slot);
        uint32_t n = 1;
        if (p->slots[first].page != OPEN_PAGE_WANTED) {
            p->slot_next++;
            continue;
        }
        while (n < max && first + n < p->slot_count &&
               slot_place(p->s, p->slots[first + n].slot) == place + n)
            n++;
        p->pages.at[slot].iov[0] =
            (struct iovec){.iov_base = p->work + (size_t)slot * PAGES_PER_READ * BLOCK_SIZE,
                           .iov_len = (size_t)n * BLOCK_SIZE};
        scatter_submit(&p->pages, slot, BLK_READ, 0, place, 1, first << 32 | n);
        p->slot_next += n;
    }
}

/* After the last round: those that did not come are lost. But a device that gives so few is better left as it
 * is: it may be a cable. */
static int pages_give_up(struct store_opening *p)
{
    struct store *s = p->s;
    uint64_t few = MAX(MIN(p->slots_all / 2, UNREADABLE_MIN), UNREADABLE_FEW);
    uint64_t count = 0;

    /* Of those whose turn it was before, too. */
    for (uint64_t i = 0; i < p->slot_count; i++)
        count += p->slots[i].page != OPEN_PAGE_HERE && p->slots[i].error == -ERR_IO;
    if (!p->read_only && count > MAX(p->slots_all / UNREADABLE_SHARE, few)) {
        store_problem(s, "%llu of %llu object pages cannot be read: the slice is not opened",
                      (unsigned long long)count, (unsigned long long)p->slots_all);
        return -ERR_IO;
    }
    for (uint64_t i = 0; i < p->slot_count; i++) {
        if (p->slots[i].page != OPEN_PAGE_WANTED)
            continue;
        p->slots[i].page = OPEN_PAGE_LOST;
        object_lost(p->slots[i].object, error_text(p->slots[i].error));
    }
    return 0;
}

int open_pages(struct store_opening *p)
{
    struct store *s = p->s;
    int slot;

    while ((slot = scatter_reap(&p->pages)) >= 0)
        pages_reap(p, slot);
    if (timer_armed(&p->retry))
        return 1;
    pages_submit(p);
    if (p->pages.pending)
        return 1;
    if (!p->pages_missing)
        return 0;
    if (p->page_rounds++ == PAGE_ROUNDS)
        return pages_give_up(p);
    p->pages_missing = false;
    p->slot_next = 0;
    timer_arm(s->core, &p->retry, p->pages.op, core_now_ns(s->core) + PAGE_ROUND_NS);
    return 1;
}

/* Its chunks count as free from now on. If the device gave the page at a later start, it would claim them,
 * whatever they are by then: so it is written over, in place, with one that says what is known. */
bool open_lost_write(struct store_open *o)
{
    struct store_opening *p = o->opening;
    struct store *s = p->s;
    struct page_mem page;

    while (p->slot_next < p->slot_count && p->slots[p->slot_next].page != OPEN_PAGE_LOST)
        p->slot_next++;
    if (p->slot_next == p->slot_count || p->read_only || PLANT(STORE_LOST_RETURNS))
        return false;
    const struct object *object = p->slots[p->slot_next++].object;
    page_lost(object, &page);
    page_encode(s, object, &page, object->slot, object->page_index, object->version,
                (struct disk_page *)p->work);
    io_start(s->blk, &p->io, &p->iov, BLK_WRITE, fua(s), slot_place(s, object->slot), p->work, 1, &o->op);
    return true;
}
