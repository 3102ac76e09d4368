/* SPDX-License-Identifier: Apache-2.0
 *
 * What there is here already of an object that is to be copied: which blocks, by their checksums. Those that
 * are not of the log stand on the object's page, which is remembered, since the copy may take long.
 */
#include <string.h>

#include "store/copy.h"

#define ROUNDS_MAX 8 /* an object whose page changes that often while it is read is taken as a whole */

static void look_end(struct store_copy_look *l, int result)
{
    buf_unref(l->page);
    l->page = NULL;
    l->copy->writes--;
    op_done(&l->op, result);
}

/* The page is in memory. */
static void look_take(struct store_copy_look *l, struct object *o, bool loaded)
{
    struct store_copy *c = l->copy;

    memcpy(c->old_crc, o->crcs->crc, sizeof(c->old_crc));
    c->old_version = o->version;
    if (loaded)
        page_drop(o); /* a recovery looks at many, and must not drive out what others use */
}

static void look_step(struct op *op)
{
    struct store_copy_look *l = container_of(op, struct store_copy_look, op);
    struct store *s = l->copy->store;
    struct pg *pg;

    if (l->io.pending)
        return;
    struct object *o = copy_object(l->copy, &pg);
    if (s->failed || !pg) {
        look_end(l, s->failed ? -ERR_STOPPED : -ERR_NO_PG);
        return;
    }
    bool loaded = l->reading && o && !o->crcs;
    enum page_taken taken = PAGE_AGAIN;
    if (l->reading && o)
        taken =
            page_take(o, l->version, (const struct disk_page *)l->page->data, l->io.result, &l->page_failed);
    l->reading = false;
    if (o && o->crcs)
        look_take(l, o, loaded);
    l->page = l->page ? l->page : buf_new(s->core->arena, BLOCK_SIZE);
    if (!o || o->crcs || !o->slot || !o->map.chunks || taken != PAGE_AGAIN || !l->page ||
        ++l->rounds > ROUNDS_MAX) {
        look_end(l, 0);
        return;
    }
    l->reading = true;
    l->version = o->version;
    s->counters.page_reads++;
    io_start(s->blk, &l->io, &l->iov, BLK_READ, 0, slot_place(s, o->slot), l->page->data, 1, op);
}

static const struct op_kind LOOK = {"store.copy_look", NULL, look_step};

void store_copy_look_start(struct store_copy_look *l, struct store_copy *copy, struct op *parent)
{
    struct core *core = copy->store->core;

    *l = (struct store_copy_look){.copy = copy};
    copy->content_key = content_key_make(core_random_u64(core), core_random_u64(core));
    if (!copy->hasher)
        copy->hasher = content_hasher_new(&copy->content_key);
    copy->writes++;
    op_start(&l->op, core, &LOOK, parent);
}

struct where copy_block_here(const struct store_copy *c, const struct object *o, uint32_t block)
{
    struct where w = o && c->hasher ? object_where(o, block, true) : (struct where){0};

    if (w.written && !w.crc_known && w.source == WHERE_CHUNK && o->version == c->old_version) {
        w.crc = c->old_crc[block];
        w.crc_known = true;
    }
    if (!w.crc_known || w.source == WHERE_LOST || bit_get(c->bad, block))
        w.written = false;
    return w;
}

void store_copy_have(const struct store_copy *c, uint32_t first_block, uint32_t block_count,
                     uint64_t *ret_have, uint32_t *ret_crc, struct content_key *ret_key)
{
    struct pg *pg;
    const struct object *o = copy_object(c, &pg);

    memset(ret_have, 0, DIV_UP(block_count, 64u) * sizeof(*ret_have));
    for (uint32_t i = 0; i < block_count; i++) {
        struct where w = copy_block_here(c, o, first_block + i);
        ret_crc[i] = w.crc;
        if (w.written)
            bit_set(ret_have, i);
    }
    *ret_key = c->content_key;
}
