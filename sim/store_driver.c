/* SPDX-License-Identifier: Apache-2.0
 *
 * The process: opens the store, verifies all that is in it, has every PG recover that fell behind, works
 * until it dies or is told to stop, and then closes in good order. From time to time it has an offline check
 * first.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/store_world.h"

void driver_fail(struct driver *d, const char *what, int result)
{
    if (!verify_excused(d, result))
        sim_fail(d->world->sim, "%s: %s", what, error_name(result));
    d->op.state = DRIVE_FAILED;
}

/* Of the PG at hand. An object that nobody knows costs no reads. */
static bool read_next_of(struct driver *d, const struct model_pg *m)
{
    struct store_pg *pg = pg_now(d, d->pg);

    for (; d->image < MODEL_IMAGES; d->image++, d->object = 0)
        for (; d->object < m->objects; d->object++, d->block = 0) {
            uint64_t written[BLOCKS_PER_OBJECT / 64];
            if (d->block == 0 && !m->object[d->image][d->object].index &&
                !store_block_status(pg, d->image, d->object, written))
                continue;
            if (d->block == BLOCKS_PER_OBJECT)
                continue;
            store_read_start(&d->read, pg, d->image, d->object, d->block, IO_BLOCKS_MAX, false, &d->op);
            d->block += IO_BLOCKS_MAX;
            return true;
        }
    return false;
}

/* A PG that lacks some of what is committed may be the only one that is left, and go on alone: it must have
 * what its log has, and not less because it was about to have more. */
static bool alone_can_be(struct driver *d, uint32_t i, uint64_t *ret_upto)
{
    struct world *w = d->world;
    const struct model_pg *m = &w->pgs[i];
    struct store_pg *pg = pg_now(d, i);

    if (!m->exists || m->splits || m->born || !pg || w->recovering[i] || w->fell_behind[i] || pg->damaged ||
        w->rot)
        return false;
    uint64_t upto = pg->applied_index, most = MIN(pg->durable_index, m->commit);
    while (upto < most && store_log_term(pg, upto + 1) == m->term[upto + 1])
        upto++;
    *ret_upto = upto;
    /* Behind a recovery it may have objects that are newer than its log, which has to get there first. */
    return upto < m->commit && pg->newest_index <= upto && upto >= w->mixed[i];
}

static bool alone_begin(struct driver *d)
{
    struct world *w = d->world;
    uint32_t i = (uint32_t)sim_rng_below(&w->choices, MODEL_PGS), tries = 0;
    uint64_t upto;

    while (!alone_can_be(d, i, &upto) && tries++ < MODEL_PGS)
        i = (i + 1) % MODEL_PGS;
    if (tries > MODEL_PGS)
        return false;
    world_apply(pg_now(d, i), upto);
    if (!w->alone)
        w->alone = sim_alloc(sizeof(*w->alone));
    model_replay(&w->pgs[i], upto, w->alone);
    d->pg = i;
    d->image = d->object = d->block = 0;
    w->loners++;
    return true;
}

/* Destage got further than the store can say it did; `shared`: with what an entry brought. */
static bool is_ahead(struct driver *d, uint32_t i, bool shared)
{
    const struct store_pg *pg = pg_now(d, i);

    for (const struct object *o = pg ? object_after(pg_of(pg), true, 0, 0) : NULL; o;
         o = object_after(pg_of(pg), false, o->image, o->number))
        if (o->index > pg->applied_index && (!shared || o->brought_index > pg->applied_index))
            return true;
    return false;
}

/* The others have gone on while the process was away: a PG has fallen behind, with what its start has found.
 */
static void start_behind(struct driver *d)
{
    struct world *w = d->world;
    uint32_t i = (uint32_t)sim_rng_below(&w->turns, MODEL_PGS);
    bool shared = false;

    for (uint32_t n = 0; n < MODEL_PGS && !shared; n++)
        if (!(shared = is_ahead(d, i, true)))
            i = (i + 1) % MODEL_PGS;
    for (uint32_t n = 0; n < MODEL_PGS && !is_ahead(d, i, false); n++)
        i = (i + 1) % MODEL_PGS;
    if (!pg_now(d, i) || w->rot || w->stop ||
        (!shared && sim_rng_below(&w->turns, w->damaged[i] || is_ahead(d, i, false) ? 3 : 10)))
        return;
    if (!w->recovering[i] && w->fell_behind[i] == w->damaged[i])
        w->misses_one = work_fall_behind(d, i);
}

static bool read_next(struct driver *d)
{
    struct world *w = d->world;

    for (; d->pg < MODEL_PGS; d->pg++, d->image = d->object = d->block = 0) {
        if (!pg_now(d, d->pg) || w->recovering[d->pg] || w->fell_behind[d->pg])
            continue;
        if (d->image == 0 && d->object == 0 && d->block == 0)
            verify_images(d, d->pg);
        if (read_next_of(d, &w->pgs[d->pg]))
            return true;
    }
    return false;
}

static bool recover_due(const struct world *w)
{
    for (uint32_t i = 0; i < MODEL_PGS; i++)
        if (w->recovering[i] || w->fell_behind[i] || w->damaged[i])
            return true;
    return false;
}

/* A block that rotted is written in place; or the object replaced by a copy. */
static void heal(struct driver *d)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[d->pg];
    struct slice data = {.buf = d->buf, .len = BLOCK_SIZE};
    uint32_t i = 0;

    if (++d->heals > 3 * BLOCKS_PER_OBJECT)
        sim_fail(w->sim, "PG %u: object %lu/%lu stays damaged", d->pg, d->image, d->object);
    while (!(d->read.ret_damaged[i / 64] >> (i % 64) & 1))
        i++;
    uint32_t block = d->read.first_block + i;
    bool whole = !w->rot && (d->heals % 2 == 0 || sim_rng_below(&w->scars, 2));
    if (whole || !m->object[d->image][d->object].tag[block]) {
        d->op.state = DRIVE_HEAL;
        timer_arm(d->op.core, &d->timer, &d->op, core_now_ns(d->op.core));
        return;
    }
    model_fill(m->object[d->image][d->object].tag[block], d->buf->data);
    d->op.state = DRIVE_REPAIR;
    store_repair_start(&d->repair, pg_now(d, d->pg), d->image, d->object, block, d->read.ret_index, &data,
                       &d->op);
}

static void start_check(struct driver *d)
{
    d->op.state = DRIVE_CHECK;
    d->world->checks++;
    store_check_start(&d->check, d->op.core, d->blk, true, verify_check_line, d, &d->op);
}

static bool drive(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;

    switch (op->state) {
    case DRIVE_START:
        if (!w->formatted) {
            op->state = w->formatting ? DRIVE_HALF : DRIVE_FORMAT;
            if (w->formatting)
                store_open_start(&d->open, &w->config, op);
            else
                store_format_start(&d->format, &w->config, w->ring_bytes, op);
            w->formatting = true;
            return false;
        }
        if (chance(d, 15)) {
            start_check(d);
            return false;
        }
        /* fall through */
    case DRIVE_HALF:
        /* All of it is there, or none is a slice. */
        if (op->state == DRIVE_HALF && d->open.op.result == -ERR_FORMAT) {
            op->state = DRIVE_FORMAT;
            store_format_start(&d->format, &w->config, w->ring_bytes, op);
            return false;
        }
        if (op->state == DRIVE_HALF) {
            w->formatted = d->open.op.result == 0;
            op->state = DRIVE_OPEN;
            return true;
        }
        /* fall through */
    case DRIVE_FORMAT:
        if (op->state == DRIVE_FORMAT && d->format.op.result) {
            driver_fail(d, "format", d->format.op.result);
            return false;
        }
        w->formatted = true;
        op->state = DRIVE_OPEN;
        store_open_start(&d->open, &w->config, op);
        return false;
    case DRIVE_OPEN:
        if (d->open.op.result) {
            driver_fail(d, "open", d->open.op.result);
            return false;
        }
        d->store = d->open.ret_store;
        sim_disk_fail_once(w->disk, w->once_ppm);
        if (w->log_max)
            d->store->log_entries_max = w->log_max;
        w->opens++;
        spy_open(d);
        verify_open(d);
        before_compare(d);
        if (w->clean)
            verify_brought(d);
        verify_newest(d);
        op->state = DRIVE_REMOVE;
        return true;
    case DRIVE_REMOVE:
        remove_reap(d);
        if (store_failed(d->store)) {
            driver_fail(d, "store", -ERR_STOPPED);
            return false;
        }
        if (remove_again(d))
            return false;
        d->pg = 0;
        op->state = DRIVE_CREATE;
        return true;
    case DRIVE_CREATE:
        if (d->pg_writing) {
            d->pg_writing = false;
            if (d->pg_write.op.result) {
                driver_fail(d, "create", d->pg_write.op.result);
                return false;
            }
            w->created[d->pg] = true;
        }
        for (; d->pg < MODEL_PGS_FIRST; d->pg++)
            if (!pg_now(d, d->pg) && !w->removed[d->pg]) {
                struct store_pg_record r = {.pg = w->pgs[d->pg].id, .replica = 1, .birth = 1};
                model_group(&w->pgs[d->pg], 0, 0, &r.group);
                d->pg_writing = true;
                store_pg_write_start(&d->pg_write, d->store, &r, op);
                return false;
            }
        d->pg = 0;
        d->index = 0;
        op->state = DRIVE_LOG_NEXT;
        return true;
    case DRIVE_LOG_NEXT: {
        if (d->pg == MODEL_PGS) {
            op->state = DRIVE_ALONE;
            return true;
        }
        struct store_pg *pg = pg_now(d, d->pg);
        d->index = pg ? MAX(d->index, pg->first_index) : 0;
        if (!pg || d->index > pg->last_index || w->recovering[d->pg] || w->fell_behind[d->pg]) {
            d->pg++;
            d->index = 0;
            return true;
        }
        op->state = DRIVE_LOG;
        store_log_read_start(&d->log_read, pg, d->index, pg->last_index, 512u << 10, op);
        return false;
    }
    case DRIVE_LOG:
        verify_log_read(d);
        op->state = DRIVE_LOG_NEXT;
        return true;
    case DRIVE_ALONE:
        if (alone_begin(d)) {
            op->state = DRIVE_ALONE_NEXT;
            return true;
        }
        start_behind(d);
        d->pg = 0;
        op->state = DRIVE_AGAIN;
        return true;
    case DRIVE_ALONE_NEXT:
        if (read_next_of(d, w->alone)) {
            op->state = DRIVE_ALONE_READ;
            return false;
        }
        start_behind(d);
        d->pg = 0;
        op->state = DRIVE_AGAIN;
        return true;
    case DRIVE_ALONE_READ:
        verify_data(d, &d->read, w->alone, false);
        slice_unref(&d->read.ret_data);
        op->state = DRIVE_ALONE_NEXT;
        return true;
    case DRIVE_AGAIN:
        if (store_failed(d->store)) {
            driver_fail(d, "store", -ERR_STOPPED);
            return false;
        }
        if (!work_append_again(d)) {
            if (op->state == DRIVE_AGAIN)
                timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + 100 * NS_PER_US);
            return op->state == DRIVE_RECOVER;
        }
        d->pg = 0;
        d->image = d->object = d->block = 0;
        op->state = DRIVE_READ_NEXT;
        return true;
    case DRIVE_SPLIT: {
        int rc = split_end(d);
        if (rc == -ERR_NO_SPACE || rc == -ERR_NO_MEMORY) {
            w->stop = true;
            op->state = DRIVE_FAILED;
            return false;
        }
        if (rc) {
            driver_fail(d, "split", rc);
            return false;
        }
        /* What comes behind it is next, though the PG may have had its turn (split_first()). */
        d->pg = MIN(d->pg, d->split_pg);
        op->state = DRIVE_AGAIN;
        return true;
    }
    case DRIVE_READ_NEXT:
        if (read_next(d)) {
            op->state = DRIVE_READ;
            return false;
        }
        w->verified = true;
        op->state = DRIVE_RECOVER;
        d->pg = 0;
        return true;
    case DRIVE_READ:
        verify_data(d, &d->read, &w->pgs[d->pg], false);
        slice_unref(&d->read.ret_data);
        marks_found(&w->pgs[d->pg].object[d->image][d->object], &d->read);
        if (w->clean) { /* what is lost stays so */
            op->state = DRIVE_READ_NEXT;
            return true;
        }
        d->lazy |= d->read.op.result == -ERR_DAMAGED && !w->rot && sim_rng_below(&w->scars, 8) == 0;
        if (d->read.op.result == -ERR_DAMAGED && !d->lazy && (!w->rot || chance(d, 50))) {
            heal(d);
            return false;
        }
        d->heals = 0;
        op->state = DRIVE_READ_NEXT;
        return true;
    case DRIVE_REPAIR:
        if (d->repair.op.result == -ERR_CHECKSUM && !w->rot)
            sim_fail(w->sim, "repair: %s", error_name(d->repair.op.result));
        w->repairs += d->repair.op.result == 0;
        if (d->repair.op.result == 0 || !w->rot)
            d->block -= IO_BLOCKS_MAX; /* is it well now? */
        op->state = DRIVE_READ_NEXT;
        return true;
    case DRIVE_HEAL:
        if (!recover_copy_begin(d))
            return false;
        d->healing = true;
        d->source = &w->pgs[d->pg];
        op->state = DRIVE_COPY_LOOK;
        return true;
    case DRIVE_RECOVER:
        /* Who has recovered is whole when it has caught up, too. */
        while (d->pg < MODEL_PGS && !w->recovering[d->pg] && !w->fell_behind[d->pg] &&
               !(w->damaged[d->pg] && w->verified))
            d->pg++;
        if (d->pg == MODEL_PGS) {
            d->pg = 0;
            /* Reading the log may have found what the start did not. */
            bool due = recover_due(w) || (w->verified && scars_take(d));
            op->state = !w->verified ? DRIVE_AGAIN : due ? DRIVE_RECOVER : DRIVE_WORK;
            if (op->state == DRIVE_WORK)
                scars_found(d);
            return true;
        }
        if (!w->recovering[d->pg] && !w->fell_behind[d->pg]) {
            op->state = DRIVE_WHOLE;
            w->healthy[d->pg] = true;
            recover_record(d, STORE_PG_NORMAL);
            return false;
        }
        op->state = DRIVE_MARK;
        recover_record(d, w->damaged[d->pg] ? STORE_PG_DAMAGED : STORE_PG_RECOVERING);
        return false;
    case DRIVE_WHOLE:
        d->pg_writing = false;
        if (d->pg_write.op.result) {
            driver_fail(d, "whole", d->pg_write.op.result);
            return false;
        }
        w->term_acked[d->pg] = d->pg_write.record.term;
        w->damaged[d->pg] = w->healthy[d->pg] = w->marked[d->pg] = false;
        op->state = DRIVE_RECOVER;
        return true;
    case DRIVE_MARK:
    case DRIVE_BEHIND:
    case DRIVE_HELD:
    case DRIVE_COPY_NEXT:
    case DRIVE_COPY_LOOK:
    case DRIVE_COPY_WRITE:
    case DRIVE_COPY_END:
    case DRIVE_RECOVERED:
        return recover_drive(d);
    case DRIVE_WORK: {
        if (!work(d)) {
            op->state = DRIVE_FAILED;
            return false;
        }
        const struct store_counters *c = store_counters(d->store);
        w->checkpoints = MAX(w->checkpoints, c->checkpoints);
        w->forward = MAX(w->forward, c->copied_forward);
        w->moves = MAX(w->moves, c->tail_moves);
        w->large = MAX(w->large, c->large_entries);
        w->page_reads = MAX(w->page_reads, c->page_reads);
        w->page_hits = MAX(w->page_hits, c->page_hits);
        if (w->stop && op->children == 0 && d->mend.state == MEND_NONE && !d->held) {
            work_reads_reap(d);
            op->state = DRIVE_SETTLE;
            return true;
        }
        if (sim_rng_below(&w->misses, w->absent_rarely) == 0 ||
            (w->restless && sim_rng_below(&w->scars, 200) == 0))
            d->leaving = 50;
        d->leaving -= d->leaving > 0;
        bool absent = d->leaving && !w->stop;
        if (scars_work(d) || (absent && work_fall_behind(d, d->held ? d->held_of.pg : any_pg(d)))) {
            d->leaving = 0;
            op->state = DRIVE_RECOVER;
            return op->children == 0;
        }
        timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + below(d, 300) * NS_PER_US);
        return false;
    }
    case DRIVE_SETTLE:
        if (store_failed(d->store))
            sim_fail(w->sim, "the store failed");
        if (w->settles && w->clean && !work_settled(d)) {
            timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + NS_PER_MS);
            return false;
        }
        sim_disk_fail_once(w->disk, 0);
        op->state = DRIVE_CLOSE;
        store_close_start(&d->close, d->store, op);
        return false;
    case DRIVE_CLOSE:
        d->store = NULL;
        d->closing_down = true;
        start_check(d);
        return false;
    case DRIVE_CHECK:
        if (d->check.op.result)
            driver_fail(d, "check", d->check.op.result);
        if (op->state == DRIVE_FAILED)
            return false;
        if (d->closing_down) {
            w->stopped = true;
            buf_unref(d->buf);
            op_done(op, 0);
            w->driver = NULL;
            free(d);
            return false;
        }
        op->state = DRIVE_OPEN;
        store_open_start(&d->open, &w->config, op);
        return false;
    case DRIVE_FAILED:
        return false;
    }
    UNREACHABLE();
}

static void drive_step(struct op *op)
{
    struct driver *d = container_of(op, struct driver, op);
    struct world *w = d->world;

    spy_step(d);
    if (op->state == DRIVE_COPY_END && op->children)
        recover_beside(d);
    /* Waits for its children, except where it goes on beside them. */
    if (op->state != DRIVE_WORK && op->children)
        return;
    if (op->state == DRIVE_WORK && timer_armed(&d->timer))
        return;
    if (op->state == DRIVE_RECOVER) {
        work_reads_reap(d);
        if (d->blob_writing)
            work_blob(d);
    }
    while (drive(d))
        ;
    if (w->driver && d->op.state != d->seen_state) {
        d->seen_state = d->op.state;
        d->since_ns = w->sim->now_ns;
    }
    if (w->driver && w->driver->op.state != DRIVE_WORK) /* what it does then does not expect that */
        sim_node_give_back(w->node);
}

static const struct op_kind DRIVER = {"sim.store", NULL, drive_step};

void driver_start(struct world *w, struct sim_node *node)
{
    struct driver *d = calloc(1, sizeof(*d));

    ASSERT(d);
    w->driver = d;
    d->world = w;
    d->blk = sim_disk_open(w->disk, node, 0, sim_disk_size(w->disk));
    spy_start(d);
    d->buf = buf_new(node->core.arena, IO_SIZE_MAX);
    ASSERT(d->buf);
    sim_disk_fail_once(w->disk, 0);
    w->config.core = &node->core;
    w->config.blk = &d->spy;
    w->verified = false;
    op_start(&d->op, &node->core, &DRIVER, NULL);
}
