/* SPDX-License-Identifier: Apache-2.0
 *
 * What an object is, without its data. The checksums of its blocks may have to be read, from its page; they
 * are looked at in the step that finds them in memory, so that they cannot leave it in between.
 */
#include <string.h>

#include "store/internal.h"

#define ROUNDS_MAX 64 /* an object whose page changes that often while it is read */

static struct object *digest_object(const struct store_digest *d)
{
    struct store_pg *pub = store_pg_find(d->store, d->pg);
    struct object *o = pub ? object_find(pg_of(pub), d->image, d->object) : NULL;

    return o && o->exists ? o : NULL;
}

static void digest_end(struct store_digest *d, int result)
{
    buf_unref(d->page);
    d->page = NULL;
    op_done(&d->op, result);
}

bool store_object_lost(const struct store_pg *pub, uint64_t image, uint64_t object, uint64_t *ret_index,
                       uint64_t ret_lost[BLOCKS_PER_OBJECT / 64])
{
    const struct object *o = object_find(pg_of(pub), image, object);

    memset(ret_lost, 0, BLOCKS_PER_OBJECT / 8);
    if (!o || !o->exists)
        return false;
    *ret_index = o->index;
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
        if (object_lacks_block(o, b))
            bit_set(ret_lost, b);
    return true;
}

void store_blocks_coming(const struct store_pg *pub, uint64_t image, uint64_t object, uint32_t first_block,
                         uint32_t block_count, uint64_t ret_coming[IO_BLOCKS_MAX / 64])
{
    const struct object *o = object_find(pg_of(pub), image, object);

    memset(ret_coming, 0, IO_BLOCKS_MAX / 8);
    if (!o || PLANT(STORE_COMING_LOST))
        return;
    for (uint64_t i = MAX(pub->applied_index, o->index) + 1; i <= pub->last_index; i++) {
        uint32_t first, end;
        log_prefetch(o->pg, i + LOG_AHEAD, true);
        entry_reach(log_at(o->pg, i), o, &first, &end);
        for (uint32_t b = MAX(first, first_block); b < MIN(end, first_block + block_count); b++)
            bit_set(ret_coming, b - first_block);
    }
}

/* False: the page must be read first. */
static bool digest_take(struct store_digest *d, struct object *o)
{
    struct {
        uint32_t block, crc;
    } rows[BLOCKS_PER_OBJECT];

    d->ret_index = o->index;
    d->ret_written = 0;
    memset(d->ret_lost, 0, sizeof(d->ret_lost));
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
        struct where w = object_where(o, b, false);
        if (w.source == WHERE_LOST || (d->unreadable && w.source == WHERE_CHUNK && !w.crc_known)) {
            bit_set(d->ret_lost, b);
        } else if (w.written) {
            if (w.source == WHERE_CHUNK && !w.crc_known)
                return false;
            rows[d->ret_written].block = b;
            rows[d->ret_written++].crc = w.crc;
        }
    }
    d->ret_digest = crc32c(0, rows, d->ret_written * sizeof(rows[0]));
    return true;
}

static void digest_step(struct op *op)
{
    struct store_digest *d = container_of(op, struct store_digest, op);
    struct store *s = d->store;
    struct object *o;

    if (d->io.pending)
        return;
    if (s->failed) {
        digest_end(d, -ERR_STOPPED);
        return;
    }
    o = digest_object(d);
    d->loaded = d->reading && o && !o->crcs;
    if (d->reading && o)
        d->unreadable = page_take(o, d->version, (const struct disk_page *)d->page->data, d->io.result,
                                  &d->page_failed) == PAGE_UNREADABLE;
    d->reading = false;
    if (!o) {
        digest_end(d, -ERR_NOT_FOUND);
        return;
    }
    if (digest_take(d, o)) {
        if (d->loaded)
            page_drop(o); /* whoever looks at all objects must not drive out what others use */
        digest_end(d, 0);
        return;
    }
    d->page = d->page ? d->page : buf_new(s->core->arena, BLOCK_SIZE);
    if (!d->page || ++d->rounds > ROUNDS_MAX) {
        digest_end(d, -ERR_RETRY);
        return;
    }
    d->reading = true;
    d->version = o->version;
    s->counters.page_reads++;
    io_start(s->blk, &d->io, &d->iov, BLK_READ, 0, slot_place(s, o->slot), d->page->data, 1, op);
}

static const struct op_kind DIGEST = {"store.digest", NULL, digest_step};

void store_digest_start(struct store_digest *d, struct store_pg *pg, uint64_t image, uint64_t object,
                        struct op *parent)
{
    *d = (struct store_digest){.store = pg->store, .pg = pg->record.pg, .image = image, .object = object};
    op_start(&d->op, pg->store->core, &DIGEST, parent);
}
