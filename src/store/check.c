/* SPDX-License-Identifier: Apache-2.0
 *
 * Offline inspection: the slice is opened as always, but nothing is written, and whatever opening finds wrong
 * becomes a line; then PGs, objects and allocation are told, and with `deep` every block is read. A block
 * whose chunk does not verify is no problem while an entry in the log covers it: destage was writing it in
 * place when the store stopped. Nor is one that a recovery under way could not get.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/internal.h"

struct checking {
    struct store_open open;
    struct store_read read;
    struct store *s;
    struct pg *pg;
    struct object *object;
    uint32_t block;
    uint64_t damaged_blocks, object_bad, blocks;
};

enum { CHECK_START, CHECK_OPEN, CHECK_READ };

static const char *check_state(int state)
{
    static const char *const names[] = {"start", "opening", "reading objects"};
    return names[state];
}

static void say(struct store_check *c, bool problem, const char *format, ...) PRINTF_LIKE(3, 4);
static void say(struct store_check *c, bool problem, const char *format, ...)
{
    char text[256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    c->ret_problems += problem;
    if (c->line)
        c->line(c->owner, problem, text);
}

static void check_report(void *owner, const char *text)
{
    say(owner, true, "%s", text);
}

static void check_summary(struct store_check *c)
{
    struct checking *k = c->private_state;
    struct store *s = k->s;
    char size[TEXT_SIZE_MAX], ring[TEXT_SIZE_MAX], used[TEXT_SIZE_MAX];
    struct store_space space = store_space(s);

    say(c, false, "slice %u: %s, log ring %s, chunks %" PRIu64 " (%s used)", s->config.slice,
        text_format_size(block_offset(s->g.slice_blocks), size),
        text_format_size(block_offset(s->g.ring_blocks), ring), s->g.chunk_count,
        text_format_size(space.used_bytes, used));
    say(c, false, "log ring: batches up to %" PRIu64 ", %s in use, checkpoints %" PRIu64 " and %" PRIu64,
        s->last_seq, text_format_size(block_offset(s->head - s->tail), used), s->ckpt_number[0],
        s->ckpt_number[1]);
    list_for_each (&s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        const struct store_pg *p = &pg->pub;
        uint64_t entries = p->last_index + 1 - p->first_index;
        c->ret_pgs++;
        c->ret_entries += entries;
        c->ret_objects += p->object_count;
        char split[32] = "";
        if (p->record.split_count)
            snprintf(split, sizeof(split), ", split at %u PGs", p->record.split_count);
        say(c, p->damaged,
            "PG %" PRIx64 ".%" PRIx64 ": replica %u, term %" PRIu64 ", vote %u%s%s, log %" PRIu64 "..%" PRIu64
            ", destaged to %" PRIu64 ", %" PRIu64 " objects, %u images%s",
            p->record.pg >> 32, p->record.pg & UINT32_MAX, p->record.replica, p->record.term, p->record.vote,
            p->record.state == STORE_PG_RECOVERING ? ", recovering" : "", split, p->first_index,
            p->last_index, p->applied_index, p->object_count, pg->image_count,
            p->damaged ? ", its log is damaged" : "");
    }
}

/* Does the allocation that was rebuilt add up? */
static void check_space(struct store_check *c)
{
    struct checking *k = c->private_state;
    struct store *s = k->s;
    uint64_t refs = 0, used = 0, chunks = s->page_chunk_count, held = 0, slots = 0;

    for (uint64_t i = 1; i <= s->g.chunk_count; i++) {
        refs += s->chunk_refs[i];
        used += s->chunk_refs[i] != 0;
    }
    list_for_each (&s->pgs, node) {
        struct pg *pg = list_entry(node, struct pg, link);
        for (uint64_t i = pg->pub.first_index; i <= pg->pub.last_index; i++)
            held += log_at(pg, i)->chunks_held ? log_at(pg, i)->chunk_count : 0;
        for (struct object *o = object_after(pg, true, 0, 0); o;
             o = object_after(pg, false, o->image, o->number)) {
            slots += o->slot != 0;
            for (uint32_t i = 0; i < CHUNKS_PER_OBJECT; i++)
                chunks += object_chunk(o, i) != 0;
        }
    }
    say(c, false, "chunks of entries in the log: %" PRIu64, held);
    if (refs != chunks + held || used + s->chunks_free != s->g.chunk_count || slots != s->slots_used)
        say(c, true,
            "allocation: %" PRIu64 " references on chunks, objects have %" PRIu64 ", the log has %" PRIu64
            "; %" PRIu64 " slots in use, objects have %" PRIu64,
            refs, chunks, held, s->slots_used, slots);
}

/* Has each PG only what is left to it of those that were split off it? But for one that recovers: its source
 * may be yet to be split. */
static void check_splits(struct store_check *c)
{
    struct checking *k = c->private_state;

    list_for_each (&k->s->pgs, node) {
        const struct pg *pg = list_entry(node, struct pg, link);
        if (pg->pub.record.state != STORE_PG_NORMAL)
            continue;
        for (const struct object *o = object_after(pg, true, 0, 0); o && pg->pub.record.split_count;
             o = object_after(pg, false, o->image, o->number))
            if (o->exists && !split_belongs(pg, pg->pub.record.split_count, o->image, o->number))
                say(c, true, "object %" PRIu64 "/%" PRIu64 " is not PG %" PRIx64 ".%" PRIx64 "'s any more",
                    o->image, o->number, pg->pub.record.pg >> 32, pg->pub.record.pg & UINT32_MAX);
    }
}

static bool covered_by_log(const struct object *o, uint32_t block)
{
    const struct store_pg *pub = &o->pg->pub;

    /* One that a recovery has split off has left what was not applied with its parent, and has yet to get it.
     * And what was applied of a log that a recovery's base has voided is being destaged: what that does not
     * come to the end of is older than the base, and comes again. */
    if (pub->record.state != STORE_PG_NORMAL &&
        (!pub->record.birth || pub->last_index < pub->first_index || o->page_index < pub->record.base_index))
        return true;
    /* What the source of a copy lacks its log may have, which comes before the recovery is over. What destage
     * wrote in place may be of entries that come behind that: it can have gone back behind what was here. */
    bool lost = object_where(o, block, false).source == WHERE_LOST;
    if (lost ? pub->record.state != STORE_PG_NORMAL : pub->newest_index > pub->last_index)
        return true;
    for (uint64_t i = MAX(pub->applied_index, o->page_index) + 1; i <= pub->last_index; i++) {
        uint32_t first, end;
        entry_reach(log_at(o->pg, i), o, &first, &end);
        if (block >= first && block < end)
            return true;
    }
    return false;
}

static void check_read_take(struct store_check *c)
{
    struct checking *k = c->private_state;
    struct store_read *r = &k->read;

    if (r->op.result && r->op.result != -ERR_DAMAGED)
        say(c, true, "object %" PRIu64 "/%" PRIu64 ": %s", r->image, r->object, error_text(r->op.result));
    for (uint32_t i = 0; i < r->block_count; i++) {
        k->blocks += bit_get(r->ret_written, i);
        if (!bit_get(r->ret_damaged, i) || covered_by_log(k->object, r->first_block + i))
            continue;
        /* Where the log ends the device does not tell: the leader's may go on. */
        bool lost = object_where(k->object, r->first_block + i, false).source == WHERE_LOST;
        say(c, true, "object %" PRIu64 "/%" PRIu64 ": block %u is %s", r->image, r->object,
            r->first_block + i, lost ? "lost here, unless the log is to bring it" : "damaged");
    }
    slice_unref(&r->ret_data);
}

/* The next window of the next object; false: through. */
static bool check_read_next(struct store_check *c)
{
    struct checking *k = c->private_state;
    struct store *s = k->s;

    if (k->object && k->block < BLOCKS_PER_OBJECT)
        goto read;
    for (;;) {
        if (!k->pg) {
            if (list_empty(&s->pgs))
                return false;
            k->pg = list_entry(s->pgs.next, struct pg, link);
        }
        k->object = k->object ? object_after(k->pg, false, k->object->image, k->object->number)
                              : object_after(k->pg, true, 0, 0);
        while (k->object && !k->object->exists)
            k->object = object_after(k->pg, false, k->object->image, k->object->number);
        if (k->object)
            break;
        if (k->pg->link.next == &s->pgs)
            return false;
        k->pg = list_entry(k->pg->link.next, struct pg, link);
    }
    k->block = 0;
read:
    store_read_start(&k->read, &k->pg->pub, k->object->image, k->object->number, k->block, IO_BLOCKS_MAX,
                     false, &c->op);
    k->block += IO_BLOCKS_MAX;
    return true;
}

static void check_end(struct store_check *c, int result)
{
    struct checking *k = c->private_state;

    if (k) {
        if (k->s)
            store_free(k->s);
        free(k);
    }
    c->private_state = NULL;
    op_done(&c->op, result);
}

static void check_step(struct op *op)
{
    struct store_check *c = container_of(op, struct store_check, op);
    struct checking *k = c->private_state;

    switch (op->state) {
    case CHECK_START: {
        if (!k) {
            op_done(op, -ERR_NO_MEMORY);
            return;
        }
        struct store_config config = {.core = c->core, .blk = c->blk, .cache_bytes = 64u << 20};
        op->state = CHECK_OPEN;
        store_open_read_only(&k->open, &config, op, check_report, c);
        return;
    }
    case CHECK_OPEN:
        if (op->children)
            return;
        if (k->open.op.result) {
            say(c, true, "the slice cannot be opened: %s", error_text(k->open.op.result));
            check_end(c, k->open.op.result);
            return;
        }
        k->s = k->open.ret_store;
        check_summary(c);
        check_space(c);
        check_splits(c);
        op->state = CHECK_READ;
        if (c->opened)
            c->opened(c->owner, k->s);
        if (c->deep && check_read_next(c))
            return;
        check_end(c, 0);
        return;
    case CHECK_READ:
        if (op->children)
            return;
        check_read_take(c);
        if (check_read_next(c))
            return;
        say(c, false, "%" PRIu64 " blocks read", k->blocks);
        check_end(c, 0);
        return;
    }
}

static const struct op_kind CHECK = {"store.check", check_state, check_step};

void store_check_start(struct store_check *c, struct core *core, struct blk *blk, bool deep,
                       void (*line)(void *owner, bool problem, const char *text), void *owner,
                       struct op *parent)
{
    c->core = core;
    c->blk = blk;
    c->deep = deep;
    c->line = line;
    c->owner = owner;
    c->ret_problems = c->ret_objects = c->ret_entries = c->ret_pgs = 0;
    c->private_state = calloc(1, sizeof(struct checking));
    op_start(&c->op, core, &CHECK, parent);
}
