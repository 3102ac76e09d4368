/* SPDX-License-Identifier: Apache-2.0
 *
 * One store on a small disk, driven with entries of several PGs at random, against a model (store_model.h).
 *
 * The process is killed, or the power cut, at any moment; requests fail; data rots. After each start: every
 * entry that was acknowledged as durable is there with its term and its data, nothing is there that was never
 * appended, terms and votes that were acknowledged are there; after the committed entries have been applied
 * again every block of every object reads as the model has it; and from time to time the offline check has
 * nothing to say. During the run applied and proposed blocks are read; reads may end in ERR_DAMAGED where
 * data rotted, never in wrong data. Logs are cut and replaced above what is committed, PGs lose their quorum
 * and hold the ring, replicas fall behind and are recovered by copies, the device fills up.
 */
#include "sim/scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "sim/sim_blk.h"
#include "sim/store_model.h"
#include "store/store.h"

#define READS      4u
#define RUN_MAX_NS (20 * NS_PER_S)
#define ROUNDS_MAX 12u

struct world;

struct reading {
    struct store_read op;
    uint32_t pg;
    uint64_t image, object, model_index, last, applied, cuts;
    uint32_t term;
    bool proposed, busy;
};

/* Lives and dies with the node. */
struct driver {
    struct op op;
    struct world *world;
    struct blk *blk;
    struct store *store;
    struct timer timer;
    struct store_format format;
    struct store_open open;
    struct store_pg_write pg_write;
    struct store_log_read log_read;
    struct store_read read;
    struct store_check check;
    struct store_close close;
    struct store_blob_write blob_write;
    struct store_repair repair;
    struct store_copy *copy;
    struct store_copy_look copy_look;
    struct store_copy_write copy_write;
    struct store_copy_end copy_end;
    uint64_t have[IO_BLOCKS_MAX / 64], same[IO_BLOCKS_MAX / 64];
    uint32_t have_crc[IO_BLOCKS_MAX];
    struct content_hash hash[IO_BLOCKS_MAX];
    struct reading reads[READS];
    struct store_log_read lag_read; /* for a follower that lags */
    uint32_t lag_pg;
    uint64_t lag_first, lag_cuts;
    bool lag_busy;
    struct buf *buf;
    uint32_t crc[IO_BLOCKS_MAX];
    uint64_t written[IO_BLOCKS_MAX / 64];
    uint8_t blob[20000];
    uint32_t pg; /* where verifying, or recovery, is */
    uint64_t index, image, object;
    uint32_t block;
    uint64_t stalled; /* PGs that commit nothing */
    bool full, pg_writing, blob_writing, closing_down;
};

struct world {
    struct sim *sim;
    struct sim_rng rng;
    struct sim_disk *disk;
    struct sim_node *node;
    struct driver *driver;
    struct store_config config;
    uint8_t uuid[16];
    uint64_t ring_bytes;
    bool formatted, verified, stop, rot, errors, stopped, halted;
    struct model_pg pgs[MODEL_PGS];
    uint64_t term_acked[MODEL_PGS], term_sent[MODEL_PGS];
    uint32_t replica[MODEL_PGS];
    /* Of a PG whose log is damaged: objects that are older than the model's are to be copied, not judged.
     * (What its table remembers as destaged may be newer than the slot map, if the ring between them is
     * gone.) */
    bool behind[MODEL_PGS][MODEL_IMAGES][MODEL_OBJECTS];
    bool created[MODEL_PGS], recovering[MODEL_PGS], fell_behind[MODEL_PGS];
    uint64_t blob_acked, blob_sent;
    uint32_t burst;
    uint64_t objects_max;
    uint64_t crashes, opens, entries, read_checks, copies, retries, no_space, damaged, repairs, checkpoints,
        forward, moves, checks, large, lag_reads, page_reads, page_hits;
};

enum {
    DRIVE_START,
    DRIVE_FORMAT,
    DRIVE_OPEN,
    DRIVE_CREATE,
    DRIVE_LOG_NEXT,
    DRIVE_LOG,
    DRIVE_AGAIN,
    DRIVE_READ_NEXT,
    DRIVE_READ,
    DRIVE_RECOVER,
    DRIVE_MARK,
    DRIVE_COPY_NEXT,
    DRIVE_COPY_LOOK,
    DRIVE_COPY_WRITE,
    DRIVE_COPY_END,
    DRIVE_RECOVERED,
    DRIVE_REPAIR,
    DRIVE_WORK,
    DRIVE_CLOSE,
    DRIVE_CHECK,
    DRIVE_FAILED,
};

static uint64_t below(struct driver *d, uint64_t n)
{
    return sim_rng_below(&d->world->rng, n);
}

static bool chance(struct driver *d, uint32_t percent)
{
    return sim_rng_below(&d->world->rng, 100) < percent;
}

static struct store_pg *pg_now(struct driver *d, uint32_t i)
{
    return store_pg_find(d->store, d->world->pgs[i].id);
}

/* Errors that faults explain. */
static bool excused(struct driver *d, int result)
{
    struct world *w = d->world;

    if (result == 0)
        return true;
    if (result == -ERR_STOPPED || result == -ERR_IO)
        return w->errors;
    return w->rot;
}

static void fail_op(struct driver *d, const char *what, int result)
{
    if (!excused(d, result))
        sim_fail(d->world->sim, "%s: %s", what, error_name(result));
    d->op.state = DRIVE_FAILED;
}

/* ---- after opening ------------------------------------------------------------------------------------- */

static void note_behind(struct world *w, uint32_t i, const struct store_pg *pg)
{
    struct store_object_info at = {0};

    for (uint32_t image = 0; image < MODEL_IMAGES; image++)
        for (uint32_t object = 0; object < MODEL_OBJECTS; object++)
            w->behind[i][image][object] = w->pgs[i].object[image][object].index > 0;
    for (bool start = true; store_object_next(pg, start, at.image, at.object, &at); start = false)
        if (at.image < MODEL_IMAGES && at.object < MODEL_OBJECTS)
            w->behind[i][at.image][at.object] = at.index < w->pgs[i].object[at.image][at.object].index;
}

static bool same_group(const struct group *a, const struct group *b)
{
    return a->index == b->index && a->epoch == b->epoch && a->count == b->count &&
           !memcmp(a->members, b->members, a->count * sizeof(a->members[0]));
}

/* That of an applied entry, and no older one than that of the last that need not be in the log any more. */
static void verify_group(struct world *w, uint32_t i, const struct store_pg *pg)
{
    const struct group *group = &pg->record.group;
    struct group oldest, should_be;

    model_group_at(&w->pgs[i], pg->applied_index, &oldest);
    model_group_at(&w->pgs[i], group->index, &should_be);
    if (group->index < oldest.index || group->index > w->pgs[i].commit || !same_group(group, &should_be))
        sim_fail(w->sim, "PG %u: group of index %lu, should be that of %lu; applied %lu, commit %lu", i,
                 group->index, oldest.index, pg->applied_index, w->pgs[i].commit);
}

static void verify_open(struct driver *d)
{
    struct world *w = d->world;
    uint32_t len;
    const uint64_t *blob = store_blob(d->store, &len);

    if (w->blob_acked && !w->rot && (!blob || len < 8 || *blob < w->blob_acked || *blob > w->blob_sent))
        sim_fail(w->sim, "blob: %lu, acknowledged %lu", blob ? *blob : 0, w->blob_acked);
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        struct store_pg *pg = pg_now(d, i);
        if (!pg) {
            if (w->created[i])
                sim_fail(w->sim, "PG %u is gone", i);
            continue;
        }
        w->created[i] = true;
        if (w->sim->verbose)
            sim_log(w->sim,
                    "PG %u: first %lu last %lu applied %lu damaged %d; model commit %lu last %lu acked %lu",
                    i, pg->first_index, pg->last_index, pg->applied_index, pg->damaged, m->commit, m->last,
                    m->acked);
        if (pg->record.term < w->term_acked[i] || pg->record.term > w->term_sent[i] ||
            pg->record.vote != (uint32_t)pg->record.term % 7)
            sim_fail(w->sim, "PG %u: term %lu vote %u, acknowledged %lu, sent %lu", i, pg->record.term,
                     pg->record.vote, w->term_acked[i], w->term_sent[i]);
        w->recovering[i] = pg->record.state == STORE_PG_RECOVERING;
        if (pg->damaged && !w->rot)
            sim_fail(w->sim, "PG %u: damaged", i);
        if (pg->damaged)
            note_behind(w, i, pg);
        if (w->recovering[i] || w->fell_behind[i])
            continue;
        verify_group(w, i, pg);
        if (pg->last_index < m->acked && !w->rot)
            sim_fail(w->sim, "PG %u: log ends at %lu, acknowledged %lu", i, pg->last_index, m->acked);
        if (pg->applied_index > m->commit || pg->first_index > pg->applied_index + 1)
            sim_fail(w->sim, "PG %u: first %lu applied %lu commit %lu", i, pg->first_index, pg->applied_index,
                     m->commit);
        uint64_t base = pg->record.base_index;
        if (pg->first_index != base + 1 || (base && pg->record.base_term != m->term[base]))
            sim_fail(w->sim, "PG %u: base %lu term %lu, first %lu, model's term %u", i, base,
                     pg->record.base_term, pg->first_index, m->term[base]);
    }
}

static void verify_entry(struct driver *d, const struct model_pg *m, const struct entry *e,
                         const struct slice *payload)
{
    struct world *w = d->world;
    struct entry want;

    /* Rot in the newest batch looks like a torn tail: then an older lineage may be what is left. */
    uint64_t fixed = w->rot ? 0 : m->acked;
    if (!model_had(m, e->index, e->term) || (e->index <= fixed && e->term != m->term[e->index])) {
        sim_fail(w->sim, "PG %lx: entry %lu has term %lu, should be %u", m->id, e->index, e->term,
                 m->term[e->index]);
        return;
    }
    model_entry(m, e->index, (uint32_t)e->term, &want);
    if (e->type != want.type || e->flags != want.flags || e->image != want.image ||
        e->object != want.object || e->first_block != want.first_block ||
        e->block_count != want.block_count || e->incarnation != want.incarnation ||
        e->generation != want.generation || e->size_bytes != want.size_bytes)
        sim_fail(w->sim, "PG %lx: entry %lu.%lu is another", m->id, e->term, e->index);
    struct group group, group_want;
    if (e->type == ENTRY_GROUP && (model_group(m, e->index, (uint32_t)e->term, &group_want),
                                   group_from_entry(e, &group) || !same_group(&group, &group_want)))
        sim_fail(w->sim, "PG %lx: entry %lu sets another group", m->id, e->index);
    if (payload->len != entry_payload_bytes(&want))
        sim_fail(w->sim, "PG %lx: entry %lu has %u bytes", m->id, e->index, payload->len);
    for (uint32_t b = 0; b * BLOCK_SIZE < payload->len; b++)
        if (!model_matches(model_tag(m, e->index, (uint32_t)e->term, b),
                           slice_data(payload) + b * BLOCK_SIZE)) {
            sim_fail(w->sim, "PG %lx: entry %lu: wrong data in block %u", m->id, e->index, b);
            return;
        }
}

static void verify_log_read(struct driver *d)
{
    struct store_log_read *r = &d->log_read;

    bool trimmed = r->op.result == -ERR_COMPACTED && d->index < pg_now(d, d->pg)->first_index;
    if (r->op.result && !trimmed && !excused(d, r->op.result))
        sim_fail(d->world->sim, "PG %u: reading entry %lu: %s", d->pg, d->index, error_name(r->op.result));
    for (uint32_t i = 0; i < r->ret_count; i++) {
        verify_entry(d, &d->world->pgs[d->pg], &r->ret_entries[i], &r->ret_payloads[i]);
        slice_unref(&r->ret_payloads[i]);
    }
    d->index += MAX(r->ret_count, 1u);
}

/* ---- the log ------------------------------------------------------------------------------------------- */

/* As the model has it at (index, term); false: not taken. */
static int append(struct driver *d, uint32_t i, uint64_t index, uint32_t term)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[i];
    struct slice payload = {0};
    struct entry e;

    model_entry(m, index, term, &e);
    if (e.type == ENTRY_WRITE) {
        struct buf *buf = buf_new(d->op.core->arena, e.block_count * BLOCK_SIZE);
        if (!buf)
            return -ERR_RETRY;
        payload = (struct slice){.buf = buf, .len = e.block_count * BLOCK_SIZE};
        for (uint32_t b = 0; b < e.block_count; b++) {
            model_fill(model_tag(m, index, term, b), buf->data + b * BLOCK_SIZE);
            d->crc[b] = crc32c(0, buf->data + b * BLOCK_SIZE, BLOCK_SIZE);
        }
        e.crc = d->crc;
    }
    if (e.type == ENTRY_GROUP) {
        struct group group;
        model_group(m, index, term, &group);
        group_to_entry(&group, d->crc, &e);
        e.index = index;
        e.term = term;
    }
    int rc = store_append(pg_now(d, i), &e, payload.buf ? &payload : NULL);
    slice_unref(&payload);
    if (rc == 0)
        w->entries++;
    else if (rc == -ERR_NO_SPACE)
        w->no_space++;
    else
        w->retries++;
    if (rc && index > m->commit && index <= m->last) { /* what it would have replaced is gone all the same */
        m->last = index - 1;
        m->cuts++;
        m->acked = MIN(m->acked, m->last);
    }
    return rc;
}

static void note_durable(struct driver *d)
{
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct store_pg *pg = d->store ? pg_now(d, i) : NULL;
        struct model_pg *m = &d->world->pgs[i];
        if (!pg || d->world->recovering[i] || d->world->fell_behind[i] || !d->world->verified)
            continue;
        if (pg->last_index != m->last)
            sim_fail(d->world->sim, "PG %u: last index %lu, should be %lu", i, pg->last_index, m->last);
        m->acked = MAX(m->acked, MIN(pg->durable_index, m->last));
    }
}

/* After a crash: what was committed is appended again where it is missing or other. True: all PGs are
 * through. */
static bool append_again(struct driver *d)
{
    struct world *w = d->world;

    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        struct store_pg *pg = pg_now(d, i);
        uint64_t index = pg->applied_index + 1;
        while (!w->recovering[i] && !w->fell_behind[i] && index <= MIN(pg->durable_index, m->commit) &&
               store_log_term(pg, index) == m->term[index])
            store_apply(pg, index++);
    }
    for (; d->pg < MODEL_PGS; d->pg++) {
        struct model_pg *m = &w->pgs[d->pg];
        struct store_pg *pg = pg_now(d, d->pg);
        if (!pg || w->recovering[d->pg] || w->fell_behind[d->pg])
            continue;
        uint64_t index = pg->applied_index + 1;
        while (index <= MIN(pg->last_index, m->commit) && store_log_term(pg, index) == m->term[index])
            index++;
        store_apply(pg, MAX(pg->applied_index, MIN(pg->durable_index, index - 1)));
        while (index <= m->commit) {
            int rc = append(d, d->pg, index, m->term[index]);
            if (rc == -ERR_NO_SPACE) {
                /* Others had room for it, we have not: as in a real group there is no way on from here. */
                w->stop = true;
                d->op.state = DRIVE_FAILED;
                return false;
            }
            if (rc && (rc != -ERR_RETRY || store_failed(d->store))) {
                fail_op(d, "append again", rc);
                return false;
            }
            if (rc)
                return false;
            index++;
        }
        /* What the store has above is the log now. */
        m->last = MAX(m->commit, pg->last_index);
        for (index = m->commit + 1; index <= pg->last_index; index++)
            m->term[index] = (uint32_t)store_log_term(pg, index);
        m->acked = MAX(m->acked, MIN(pg->durable_index, pg->last_index));
        m->acked = MIN(m->acked, m->last);
        if (pg->durable_index < m->commit)
            return false;
        store_apply(pg, m->commit);
        if (m->applied != m->commit)
            sim_fail(w->sim, "model");
        pg->damaged = false;
    }
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void verify_data(struct driver *d, const struct store_read *r, const struct model_pg *m, bool proposed)
{
    struct world *w = d->world;
    const struct model_object *o = &m->object[r->image][r->object];

    w->read_checks++;
    if (w->behind[m - w->pgs][r->image][r->object])
        return;
    if (r->op.result == -ERR_DAMAGED && w->rot)
        w->damaged++;
    else if (r->op.result && !excused(d, r->op.result) && r->op.result != -ERR_RETRY)
        sim_fail(w->sim, "PG %lx: object %lu/%lu: %s", m->id, r->image, r->object, error_name(r->op.result));
    if (r->op.result && r->op.result != -ERR_DAMAGED)
        return;
    for (uint32_t i = 0; i < r->block_count; i++) {
        uint32_t block = r->first_block + i;
        uint64_t tag = o->tag[block], newer;
        if (r->ret_damaged[i / 64] >> (i % 64) & 1)
            continue;
        if (proposed && model_proposed(m, r->image, r->object, block, &newer))
            tag = newer;
        bool written = r->ret_written[i / 64] >> (i % 64) & 1;
        const uint8_t *data = r->ret_data.buf ? slice_data(&r->ret_data) + i * BLOCK_SIZE : NULL;
        if (written != (tag != 0) || (data ? !model_matches(tag, data) : tag != 0)) {
            sim_fail(
                w->sim,
                "PG %lx: object %lu/%lu block %u%s: wrong data (written %d, should be %d; index %lu, model's %lu)",
                m->id, r->image, r->object, block, proposed ? " proposed" : "", written, tag != 0,
                r->ret_index, o->index);
            return;
        }
        if (data && crc32c(0, data, BLOCK_SIZE) != r->ret_crc[i])
            sim_fail(w->sim, "PG %lx: object %lu/%lu block %u: checksum is not that of the data", m->id,
                     r->image, r->object, block);
    }
}

static void read_random(struct driver *d)
{
    for (uint32_t i = 0; i < READS; i++) {
        struct reading *r = &d->reads[i];
        struct world *w = d->world;
        if (r->busy)
            continue;
        r->pg = (uint32_t)below(d, MODEL_PGS);
        struct model_pg *m = &w->pgs[r->pg];
        struct store_pg *pg = pg_now(d, r->pg);
        if (!pg || w->recovering[r->pg] || w->fell_behind[r->pg])
            return;
        struct entry e;
        uint64_t near = m->last > 200 ? m->last - below(d, 200) : 1 + below(d, 200);
        model_entry(m, near, 1, &e);
        r->image = e.image;
        r->object = below(d, m->objects);
        r->proposed = chance(d, 30);
        r->model_index = m->object[r->image][r->object].index;
        r->last = m->last;
        r->applied = m->applied;
        r->cuts = m->cuts;
        r->term = m->term[m->last];
        r->busy = true;
        uint32_t count = 1 + (uint32_t)below(d, chance(d, 20) ? IO_BLOCKS_MAX : 4);
        store_read_start(&r->op, pg, r->image, r->object, (uint32_t)below(d, BLOCKS_PER_OBJECT - count + 1),
                         count, r->proposed, &d->op);
        return;
    }
}

static void reads_reap(struct driver *d)
{
    for (uint32_t i = 0; i < READS; i++) {
        struct reading *r = &d->reads[i];
        struct model_pg *m = &d->world->pgs[r->pg];
        if (!r->busy || op_live(&r->op.op))
            continue;
        r->busy = false;
        /* Only if nothing happened to the object meanwhile. */
        bool same = m->object[r->image][r->object].index == r->model_index && !d->world->fell_behind[r->pg];
        if (r->proposed)
            same &= m->applied == r->applied && m->cuts == r->cuts && m->last == r->last &&
                    m->term[m->last] == r->term;
        if (same)
            verify_data(d, &r->op, m, r->proposed);
        slice_unref(&r->op.ret_data);
    }
}

/* A follower that lags is sent what is in the log, old or new. */
static void lag_reap(struct driver *d)
{
    struct store_log_read *r = &d->lag_read;
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[d->lag_pg];

    if (!d->lag_busy || op_live(&r->op))
        return;
    d->lag_busy = false;
    bool same = m->cuts == d->lag_cuts && !w->fell_behind[d->lag_pg];
    struct store_pg *pg = pg_now(d, d->lag_pg);
    if (r->op.result && r->op.result != -ERR_RETRY && same && pg && d->lag_first >= pg->first_index &&
        !excused(d, r->op.result))
        sim_fail(w->sim, "PG %u: reading entry %lu: %s", d->lag_pg, d->lag_first, error_name(r->op.result));
    for (uint32_t i = 0; i < r->ret_count; i++) {
        if (same)
            verify_entry(d, m, &r->ret_entries[i], &r->ret_payloads[i]);
        slice_unref(&r->ret_payloads[i]);
    }
    w->lag_reads += r->ret_count;
}

static void lag_read(struct driver *d)
{
    struct world *w = d->world;

    if (d->lag_busy)
        return;
    d->lag_pg = (uint32_t)below(d, MODEL_PGS);
    struct store_pg *pg = pg_now(d, d->lag_pg);
    if (!pg || w->recovering[d->lag_pg] || w->fell_behind[d->lag_pg] || pg->last_index < pg->first_index)
        return;
    d->lag_first = pg->first_index + below(d, pg->last_index - pg->first_index + 1);
    d->lag_cuts = w->pgs[d->lag_pg].cuts;
    d->lag_busy = true;
    store_log_read_start(&d->lag_read, pg, d->lag_first, pg->last_index, 512u << 10, &d->op);
}

/* ---- the workload -------------------------------------------------------------------------------------- */

static void work_log(struct driver *d, uint32_t i)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[i];
    struct store_pg *pg = pg_now(d, i);
    uint64_t index = m->last + 1;
    uint32_t term = m->term[m->last] ? m->term[m->last] : 1;

    if (index + 1 >= MODEL_LOG_MAX || index / MODEL_IMAGE_SPAN * 2 + 3 >= MODEL_IMAGES)
        return;
    if (chance(d, 2))
        term++;
    if (chance(d, 2) && m->last > m->commit) {
        /* A new leader has another log. */
        index = m->commit + 1 + below(d, m->last - m->commit);
        term = MAX(term, m->term[m->last]) + 1;
        if (m->history[index][MODEL_TERMS - 1])
            return;
    }
    if (m->history[index][MODEL_TERMS - 1] && !model_had(m, index, term))
        return;
    if (append(d, i, index, term) == 0)
        model_append(m, index, term);
    if (pg->last_index != m->last)
        sim_fail(w->sim, "PG %u: last %lu, should be %lu", i, pg->last_index, m->last);
}

static void work_commit(struct driver *d, uint32_t i)
{
    struct model_pg *m = &d->world->pgs[i];
    struct store_pg *pg = pg_now(d, i);
    uint64_t upto = chance(d, 10) ? m->last : MIN(pg->durable_index, m->last);

    if (d->stalled >> i & 1 || upto <= m->commit)
        return;
    m->commit += 1 + below(d, upto - m->commit);
    model_apply(m, m->commit);
    store_apply(pg, m->commit);
    if (pg->applied_index != m->commit && !store_failed(d->store))
        sim_fail(d->world->sim, "PG %u: applied %lu, should be %lu", i, pg->applied_index, m->commit);
}

static void work_pg_write(struct driver *d, uint32_t i)
{
    struct world *w = d->world;
    struct store_pg *pg = pg_now(d, i);

    if (d->pg_writing || !pg)
        return;
    struct store_pg_record record = pg->record;
    record.term = ++w->term_sent[i];
    record.vote = (uint32_t)record.term % 7;
    d->pg_writing = true;
    d->pg = i;
    store_pg_write_start(&d->pg_write, d->store, &record, &d->op);
}

static void pg_write_reap(struct driver *d)
{
    if (!d->pg_writing || op_live(&d->pg_write.op))
        return;
    d->pg_writing = false;
    if (d->pg_write.op.result == 0) {
        d->world->term_acked[d->pg] = d->pg_write.record.term;
        if (d->pg_write.ret_pg->record.term != d->pg_write.record.term)
            sim_fail(d->world->sim, "PG %u: record does not show its term", d->pg);
    } else if (!excused(d, d->pg_write.op.result)) {
        sim_fail(d->world->sim, "PG %u: record: %s", d->pg, error_name(d->pg_write.op.result));
    }
}

static void work_blob(struct driver *d)
{
    struct world *w = d->world;

    if (d->blob_writing) {
        if (op_live(&d->blob_write.op))
            return;
        d->blob_writing = false;
        if (d->blob_write.op.result == 0)
            w->blob_acked = w->blob_sent;
        else if (!excused(d, d->blob_write.op.result))
            sim_fail(w->sim, "blob: %s", error_name(d->blob_write.op.result));
        return;
    }
    if (!chance(d, 2))
        return;
    w->blob_sent++;
    memcpy(d->blob, &w->blob_sent, 8);
    d->blob_writing = true;
    store_blob_write_start(&d->blob_write, d->store, d->blob, 8 + (uint32_t)below(d, sizeof(d->blob) - 8),
                           &d->op);
}

/* A PG falls behind: the others go on without it, further than their logs reach back. */
static bool work_fall_behind(struct driver *d, uint32_t i)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[i];
    uint64_t n = 20 + below(d, 400);

    for (uint32_t r = 0; r < READS; r++)
        if (d->reads[r].busy)
            return false;
    if (d->lag_busy)
        return false;
    if (m->commit + n + 2 >= MODEL_LOG_MAX || d->pg_writing ||
        (m->commit + n) / MODEL_IMAGE_SPAN * 2 + 3 >= MODEL_IMAGES)
        return false;
    for (uint64_t index = m->commit + 1; index <= m->commit + n; index++)
        if (m->history[index][MODEL_TERMS - 1])
            return false;
    uint32_t term = m->term[m->last] + 1;
    for (uint64_t index = m->commit + 1; index <= m->commit + n; index++)
        model_append(m, index, term);
    m->commit += n;
    model_apply(m, m->commit);
    w->fell_behind[i] = true;
    d->pg = i;
    return true;
}

static bool work(struct driver *d)
{
    struct world *w = d->world;

    note_durable(d);
    reads_reap(d);
    lag_reap(d);
    pg_write_reap(d);
    work_blob(d);
    if (store_failed(d->store)) {
        if (!w->errors)
            sim_fail(w->sim, "the store failed");
        return false;
    }
    for (uint32_t n = 0; n < w->burst; n++) {
        uint32_t i = (uint32_t)below(d, MODEL_PGS);
        uint32_t what = (uint32_t)below(d, 100);
        if (what < 60)
            work_log(d, i);
        else if (what < 85)
            work_commit(d, i);
        else if (what < 96)
            read_random(d);
        else if (what < 97)
            lag_read(d);
        else
            work_pg_write(d, i);
    }
    if (chance(d, 1))
        d->stalled ^= 1ull << below(d, MODEL_PGS);
    return true;
}

/* ---- recovery by copies ---------------------------------------------------------------------------------
 */

static void record_start(struct driver *d, enum store_pg_state state)
{
    struct world *w = d->world;
    struct store_pg_record record = pg_now(d, d->pg)->record;

    record.state = state;
    record.term = ++w->term_sent[d->pg];
    record.vote = (uint32_t)record.term % 7;
    if (state == STORE_PG_NORMAL) {
        record.base_index = w->pgs[d->pg].commit;
        record.base_term = w->pgs[d->pg].term[record.base_index];
    }
    d->pg_writing = true;
    store_pg_write_start(&d->pg_write, d->store, &record, &d->op);
}

/* The next object that is not as new here as it should be; false: none. */
static bool copy_find(struct driver *d)
{
    struct model_pg *m = &d->world->pgs[d->pg];

    for (; d->image < MODEL_IMAGES; d->image++, d->object = 0)
        for (; d->object < m->objects; d->object++) {
            const struct model_object *o = &m->object[d->image][d->object];
            struct store_object_info info = {0};
            bool found =
                store_object_next(pg_now(d, d->pg), false, d->image, d->object ? d->object - 1 : 0, &info);
            if (d->object == 0) {
                found = store_object_next(pg_now(d, d->pg), d->image == 0, d->image - 1, UINT64_MAX, &info);
            }
            bool have = found && info.image == d->image && info.object == d->object;
            if (o->index == 0 || m->images[d->image].deleted ||
                (have && info.index >= o->index && !info.damaged))
                continue;
            return true;
        }
    return false;
}

/* As recover_copy.c does it, with the model as the source. */
static void copy_window(struct driver *d)
{
    struct model_pg *m = &d->world->pgs[d->pg];
    const struct model_object *o = &m->object[d->image][d->object];
    struct content_key key;
    uint32_t count = 0;

    memset(d->written, 0, sizeof(d->written));
    memset(d->same, 0, sizeof(d->same));
    store_copy_have(d->copy, d->block, IO_BLOCKS_MAX, d->have, d->have_crc, &key);
    struct content_hasher *hasher = content_hasher_new(&key);
    for (uint32_t i = 0; i < IO_BLOCKS_MAX; i++) {
        uint64_t tag = o->tag[d->block + i];
        if (!tag)
            continue;
        d->written[i / 64] |= 1ull << (i % 64);
        model_fill(tag, d->buf->data + count * BLOCK_SIZE);
        d->crc[i] = crc32c(0, d->buf->data + count * BLOCK_SIZE, BLOCK_SIZE);
        content_hash(hasher, d->buf->data + count * BLOCK_SIZE, BLOCK_SIZE, &d->hash[i]);
        if (d->have[i / 64] >> (i % 64) & 1 && d->have_crc[i] == d->crc[i])
            d->same[i / 64] |= 1ull << (i % 64);
        else
            count++;
    }
    content_hasher_free(hasher);
    struct slice data = {.buf = d->buf, .len = count * BLOCK_SIZE};
    store_copy_write_start(&d->copy_write, d->copy, d->block, IO_BLOCKS_MAX, d->written, NULL, d->same,
                           d->hash, d->crc, count ? &data : NULL, &d->op);
}

static void take_images(struct driver *d)
{
    struct model_pg *m = &d->world->pgs[d->pg];

    store_recover_floor(pg_now(d, d->pg), m->floor_epoch);
    for (uint32_t i = 0; i < MODEL_IMAGES; i++) {
        int rc = m->forgotten[i] ? store_recover_forget(pg_now(d, d->pg), i, m->forgotten[i]) : 0;
        if (rc == 0 && m->images[i].index)
            rc = store_recover_image(pg_now(d, d->pg), &m->images[i]);
        if (rc)
            fail_op(d, "image record", rc);
    }
}

/* ---- the driver ---------------------------------------------------------------------------------------- */

static void check_line(void *owner, bool problem, const char *text)
{
    struct driver *d = owner;

    if (problem && !d->world->rot)
        sim_fail(d->world->sim, "check: %s", text);
}

static void verify_images(struct driver *d, uint32_t i)
{
    struct model_pg *m = &d->world->pgs[i];

    if (pg_now(d, i)->floor_epoch < m->floor_epoch && !d->world->rot)
        sim_fail(d->world->sim, "PG %u: floor %lu, should be %lu", i, pg_now(d, i)->floor_epoch,
                 m->floor_epoch);
    for (uint32_t n = 1; n < MODEL_IMAGES && !d->world->rot; n++) {
        const struct image_record *r = store_image_get(pg_now(d, i), n), *want = &m->images[n];
        if ((r != NULL) != (want->index != 0) ||
            (r && (r->incarnation != want->incarnation || r->generation != want->generation ||
                   r->size_bytes != want->size_bytes || r->deleted != want->deleted)))
            sim_fail(d->world->sim, "PG %u: image %u: record of entry %lu, should be %lu", i, n,
                     r ? r->index : 0, want->index);
    }
}

static bool read_next(struct driver *d)
{
    struct world *w = d->world;

    for (; d->pg < MODEL_PGS; d->pg++, d->image = d->object = d->block = 0) {
        if (!pg_now(d, d->pg) || w->recovering[d->pg] || w->fell_behind[d->pg])
            continue;
        if (d->image == 0 && d->object == 0 && d->block == 0)
            verify_images(d, d->pg);
        for (; d->image < MODEL_IMAGES; d->image++, d->object = 0)
            for (; d->object < w->pgs[d->pg].objects; d->object++, d->block = 0) {
                struct store_pg *pg = pg_now(d, d->pg);
                uint64_t written[BLOCKS_PER_OBJECT / 64];
                /* An object that nobody knows costs no reads. */
                if (d->block == 0 && !w->pgs[d->pg].object[d->image][d->object].index &&
                    !store_block_status(pg, d->image, d->object, written))
                    continue;
                if (d->block == BLOCKS_PER_OBJECT)
                    continue;
                store_read_start(&d->read, pg, d->image, d->object, d->block, IO_BLOCKS_MAX, false, &d->op);
                d->block += IO_BLOCKS_MAX;
                return true;
            }
    }
    return false;
}

static void start_check(struct driver *d)
{
    d->op.state = DRIVE_CHECK;
    d->world->checks++;
    store_check_start(&d->check, d->op.core, d->blk, true, check_line, d, &d->op);
}

static bool drive(struct driver *d)
{
    struct world *w = d->world;
    struct op *op = &d->op;

    switch (op->state) {
    case DRIVE_START:
        if (!w->formatted) {
            op->state = DRIVE_FORMAT;
            store_format_start(&d->format, &w->config, w->ring_bytes, op);
            return false;
        }
        if (chance(d, 15)) {
            start_check(d);
            return false;
        }
        /* fall through */
    case DRIVE_FORMAT:
        if (op->state == DRIVE_FORMAT && d->format.op.result) {
            fail_op(d, "format", d->format.op.result);
            return false;
        }
        w->formatted = true;
        op->state = DRIVE_OPEN;
        store_open_start(&d->open, &w->config, op);
        return false;
    case DRIVE_OPEN:
        if (d->open.op.result) {
            fail_op(d, "open", d->open.op.result);
            return false;
        }
        d->store = d->open.ret_store;
        w->opens++;
        verify_open(d);
        d->pg = 0;
        op->state = DRIVE_CREATE;
        return true;
    case DRIVE_CREATE:
        if (d->pg_writing) {
            d->pg_writing = false;
            if (d->pg_write.op.result) {
                fail_op(d, "create", d->pg_write.op.result);
                return false;
            }
            w->created[d->pg] = true;
        }
        for (; d->pg < MODEL_PGS; d->pg++)
            if (!pg_now(d, d->pg)) {
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
            d->pg = 0;
            op->state = DRIVE_AGAIN;
            return true;
        }
        struct store_pg *pg = pg_now(d, d->pg);
        d->index = MAX(d->index, pg->first_index);
        if (d->index > pg->last_index || w->recovering[d->pg] || w->fell_behind[d->pg]) {
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
    case DRIVE_AGAIN:
        if (store_failed(d->store)) {
            fail_op(d, "store", -ERR_STOPPED);
            return false;
        }
        if (!append_again(d)) {
            if (op->state == DRIVE_AGAIN)
                timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + 100 * NS_PER_US);
            return false;
        }
        d->pg = 0;
        d->image = d->object = d->block = 0;
        op->state = DRIVE_READ_NEXT;
        return true;
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
        if (d->read.op.result == -ERR_DAMAGED && chance(d, 50)) {
            uint32_t i = 0;
            while (!(d->read.ret_damaged[i / 64] >> (i % 64) & 1))
                i++;
            uint32_t block = d->read.first_block + i;
            slice_unref(&d->read.ret_data);
            struct slice data = {.buf = d->buf, .len = BLOCK_SIZE};
            model_fill(w->pgs[d->pg].object[d->image][d->object].tag[block], d->buf->data);
            op->state = DRIVE_REPAIR;
            store_repair_start(&d->repair, pg_now(d, d->pg), d->image, d->object, block, &data, op);
            return false;
        }
        slice_unref(&d->read.ret_data);
        op->state = DRIVE_READ_NEXT;
        return true;
    case DRIVE_REPAIR:
        if (d->repair.op.result == 0) {
            w->repairs++;
            d->block -= IO_BLOCKS_MAX;
        } else if (d->repair.op.result == -ERR_CHECKSUM && !w->rot) {
            sim_fail(w->sim, "repair: %s", error_name(d->repair.op.result));
        }
        op->state = DRIVE_READ_NEXT;
        return true;
    case DRIVE_RECOVER:
        while (d->pg < MODEL_PGS && !w->recovering[d->pg] && !w->fell_behind[d->pg])
            d->pg++;
        if (d->pg == MODEL_PGS) {
            op->state = DRIVE_WORK;
            return true;
        }
        op->state = DRIVE_MARK;
        record_start(d, STORE_PG_RECOVERING);
        return false;
    case DRIVE_MARK:
        d->pg_writing = false;
        if (d->pg_write.op.result) {
            fail_op(d, "recovering mark", d->pg_write.op.result);
            return false;
        }
        w->term_acked[d->pg] = d->pg_write.record.term;
        w->recovering[d->pg] = true;
        w->fell_behind[d->pg] = true;
        take_images(d);
        d->image = d->object = 0;
        op->state = DRIVE_COPY_NEXT;
        return true;
    case DRIVE_COPY_NEXT: {
        if (!copy_find(d)) {
            if (!store_recover_settled(pg_now(d, d->pg))) {
                timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + 100 * NS_PER_US);
                return false;
            }
            struct model_pg *m = &w->pgs[d->pg];
            struct group group;
            model_group_at(m, m->commit, &group);
            store_reset_base(pg_now(d, d->pg), m->commit, m->term[m->commit], &group);
            op->state = DRIVE_RECOVERED;
            record_start(d, STORE_PG_NORMAL);
            return false;
        }
        int rc = store_copy_new(pg_now(d, d->pg), d->image, d->object, &d->copy);
        if (rc == -ERR_NO_SPACE) {
            /* The workload's objects may be more than fit: nothing to do but to end here. */
            w->stop = true;
            op->state = DRIVE_FAILED;
            return false;
        }
        if (rc) {
            fail_op(d, "copy", rc);
            return false;
        }
        d->block = 0;
        op->state = DRIVE_COPY_LOOK;
        if (below(d, 4)) { /* only what differs comes */
            store_copy_look_start(&d->copy_look, d->copy, op);
            return false;
        }
        return true;
    }
    case DRIVE_COPY_LOOK:
        op->state = DRIVE_COPY_WRITE;
        copy_window(d);
        return false;
    case DRIVE_COPY_WRITE:
        /* What was thought to be here is damaged: once more without that. */
        if (d->copy_write.op.result != -ERR_CONFLICT)
            d->block += IO_BLOCKS_MAX;
        if (d->copy_write.op.result == -ERR_CONFLICT ||
            (d->copy_write.op.result == 0 && d->block < BLOCKS_PER_OBJECT)) {
            copy_window(d);
            return false;
        }
        op->state = DRIVE_COPY_END;
        store_copy_end_start(&d->copy_end, d->copy,
                             d->copy_write.op.result ? 0 : w->pgs[d->pg].object[d->image][d->object].index,
                             op);
        return false;
    case DRIVE_COPY_END:
        if (d->copy_write.op.result == -ERR_NO_SPACE || d->copy_end.op.result == -ERR_NO_SPACE) {
            w->stop = true;
            op->state = DRIVE_FAILED;
            return false;
        }
        if (d->copy_write.op.result == 0 && d->copy_end.op.result == -ERR_CONFLICT) {
            op->state = DRIVE_COPY_NEXT; /* destage was there in between: once more */
            return true;
        }
        if (d->copy_write.op.result || d->copy_end.op.result) {
            fail_op(d, "copy", d->copy_write.op.result ? d->copy_write.op.result : d->copy_end.op.result);
            return false;
        }
        w->copies++;
        d->object++;
        op->state = DRIVE_COPY_NEXT;
        return true;
    case DRIVE_RECOVERED: {
        struct model_pg *m = &w->pgs[d->pg];
        d->pg_writing = false;
        if (d->pg_write.op.result) {
            fail_op(d, "recovered", d->pg_write.op.result);
            return false;
        }
        w->term_acked[d->pg] = d->pg_write.record.term;
        w->recovering[d->pg] = w->fell_behind[d->pg] = false;
        m->last = m->acked = m->commit;
        if (pg_now(d, d->pg)->last_index != m->last)
            sim_fail(w->sim, "PG %u: base is not what was set", d->pg);
        d->image = d->object = d->block = 0;
        op->state = DRIVE_READ_NEXT;
        w->verified = false;
        return true;
    }
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
        if (w->stop && op->children == 0) {
            for (uint32_t i = 0; i < READS; i++)
                reads_reap(d);
            lag_reap(d);
            op->state = DRIVE_CLOSE;
            store_close_start(&d->close, d->store, op);
            return false;
        }
        if (!w->stop && chance(d, 1) && below(d, 20) == 0 &&
            work_fall_behind(d, (uint32_t)below(d, MODEL_PGS))) {
            op->state = DRIVE_RECOVER;
            return op->children == 0;
        }
        timer_arm(op->core, &d->timer, op, core_now_ns(op->core) + below(d, 300) * NS_PER_US);
        return false;
    }
    case DRIVE_CLOSE:
        d->store = NULL;
        d->closing_down = true;
        start_check(d);
        return false;
    case DRIVE_CHECK:
        if (d->check.op.result)
            fail_op(d, "check", d->check.op.result);
        if (op->state == DRIVE_FAILED)
            return false;
        if (d->closing_down) {
            w->stopped = true;
            buf_unref(d->buf);
            op_done(op, 0);
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

    /* Waits for its children, except where it goes on beside them. */
    if (op->state != DRIVE_WORK && op->children)
        return;
    if (op->state == DRIVE_WORK && timer_armed(&d->timer))
        return;
    if (op->state == DRIVE_RECOVER) {
        reads_reap(d);
        lag_reap(d);
        if (d->blob_writing)
            work_blob(d);
    }
    while (drive(d))
        ;
}

static const struct op_kind DRIVER = {"sim.store", NULL, drive_step};

static void node_start(void *owner, struct sim_node *node)
{
    struct world *w = owner;
    struct driver *d = calloc(1, sizeof(*d));

    ASSERT(d);
    w->driver = d;
    d->world = w;
    d->blk = sim_disk_open(w->disk, node, 0, sim_disk_size(w->disk));
    d->buf = buf_new(node->core.arena, IO_SIZE_MAX);
    ASSERT(d->buf);
    w->config.core = &node->core;
    w->config.blk = d->blk;
    w->verified = false;
    op_start(&d->op, &node->core, &DRIVER, NULL);
}

static void node_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    struct world *w = owner;

    w->driver = NULL;
    w->crashes++;
}

static bool may_damage(void *owner, struct sim_disk *disk, enum sim_damage damage, uint64_t offset,
                       uint64_t len)
{
    return ((struct world *)owner)->rot;
}

static bool is_stopped(void *owner)
{
    struct world *w = owner;

    return w->stopped || !w->driver || w->driver->op.state == DRIVE_FAILED;
}

/* The process, or the machine, dies; and comes back. */
static void crash(struct world *w)
{
    bool power = sim_rng_below(&w->rng, 2);

    sim_injected(w->sim, power ? SIM_FAULT_POWER : SIM_FAULT_CRASH);
    sim_node_crash(w->node, power ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
    sim_node_start(w->node);
}

static void world_run(struct world *w)
{
    struct sim *sim = w->sim;
    uint32_t rounds = 2 + (uint32_t)sim_rng_below(&w->rng, ROUNDS_MAX);
    struct sim_disk_faults faults = {0};

    for (uint32_t i = 0; i < rounds && !sim->failed && !w->stop; i++) {
        uint64_t most = sim_rng_below(&w->rng, 3) ? 300 * NS_PER_MS : 20 * NS_PER_MS;
        bool errors = (sim_fault_intensity(sim, SIM_FAULT_DISK_ERROR) ||
                       sim_fault_intensity(sim, SIM_FAULT_DISK_FLUSH)) &&
                      sim_rng_below(&w->rng, 3) == 0;
        w->errors |= errors;
        faults = (struct sim_disk_faults){
            .slow_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_SLOW) * 200,
            .slow_ns = 20 * NS_PER_MS,
            .write_error_ppm = errors ? sim_fault_intensity(sim, SIM_FAULT_DISK_ERROR) * 10 : 0,
            .read_error_ppm = 0,
            .flush_error_ppm = errors ? sim_fault_intensity(sim, SIM_FAULT_DISK_FLUSH) * 10 : 0};
        sim_disk_set_faults(w->disk, &faults);
        sim_run_for(sim, sim_rng_range(&w->rng, 1, most));
        w->burst = 1 + (uint32_t)sim_rng_below(&w->rng, 30);
        if (sim->failed)
            break;
        if (i + 1 == rounds && sim_fault_intensity(sim, SIM_FAULT_DISK_ROT)) {
            w->rot = true;
            for (uint32_t n = 0; n < 1 + sim_fault_intensity(sim, SIM_FAULT_DISK_ROT) / 10; n++)
                sim_disk_rot(w->disk, 0, sim_disk_size(w->disk));
        }
        crash(w);
    }
    faults = (struct sim_disk_faults){0};
    if (w->rot && sim_fault_intensity(sim, SIM_FAULT_DISK_READ)) {
        /* What cannot be read at the last start, of the ring above all, is gone like what has rotted. */
        faults.read_error_ppm = sim_fault_intensity(sim, SIM_FAULT_DISK_READ) * 1000;
        w->errors = true;
    }
    sim_disk_set_faults(w->disk, &faults);
    if (w->rot) {
        sim_run_for(sim, 300 * NS_PER_MS);
        return;
    }
    /* Quiet: the store works and ends in order. */
    sim_run_for(sim, 50 * NS_PER_MS);
    if (sim->failed)
        return;
    if (w->driver && w->driver->op.state == DRIVE_FAILED && !w->stop)
        crash(w);
    w->errors = false;
    sim_run_for(sim, 50 * NS_PER_MS);
    w->stop = true;
    if (!sim_run_while(sim, is_stopped, w, sim->now_ns + RUN_MAX_NS) && !sim->failed)
        sim_fail(sim, "stuck in state %d", w->driver ? w->driver->op.state : -1);
    if (w->stopped && !sim->failed)
        sim_node_halt(w->node);
}

void scenario_store_run(const struct sim_args *args, struct sim_result *ret)
{
    struct sim *sim = sim_new(args->seed, args->verbose);
    struct world *w = sim_alloc(sizeof(*w));

    w->sim = sim;
    w->rng = sim_rng_make(sim->seed, "store", 0);
    sim_choose_faults(sim, SIM_FAULT_BIT(DISK_SLOW) | SIM_FAULT_BIT(DISK_ERROR) | SIM_FAULT_BIT(DISK_FLUSH) |
                               SIM_FAULT_BIT(DISK_READ) | SIM_FAULT_BIT(DISK_ROT));
    uint64_t size = (44ull << 20) + (sim_rng_below(&w->rng, 3) << 24);
    bool cached = sim_rng_below(&w->rng, 3) != 0;
    w->ring_bytes = 8ull << 20;
    w->burst = 10;
    w->disk = sim_disk_new(
        sim, &(struct sim_disk_config){.name = "disk",
                                       .size_bytes = size,
                                       .volatile_cache = cached,
                                       .junk = sim_rng_below(&w->rng, 2),
                                       .queue_depth_hint = 1 + (uint32_t)sim_rng_below(&w->rng, 4),
                                       .may_damage = may_damage,
                                       .owner = w});
    /* Few, so that what is in memory of pages comes and goes all the time. */
    struct sim_rng pages = sim_rng_make(sim->seed, "pages", 0);
    w->config = (struct store_config){.cache_bytes = sim_rng_below(&w->rng, 2) ? 2u << 20 : 16u << 20,
                                      .pgs_max = 16,
                                      .pages_max = 1 + (uint32_t)sim_rng_below(&pages, 8),
                                      .large_chunks_min = 1 + (uint32_t)sim_rng_below(&w->rng, 3)};
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        w->pgs[i].id = 7ull << 32 | i;
        w->pgs[i].seed = sim_rng_u64(&w->rng);
        w->pgs[i].objects = 1 + (uint32_t)sim_rng_below(&w->rng, MODEL_OBJECTS);
    }
    w->node = sim_node_new(sim, &(struct sim_node_config){.name = "osd",
                                                          .host = "host",
                                                          .arena_bytes = 48u << 20,
                                                          .start = node_start,
                                                          .crashed = node_crashed,
                                                          .owner = w});
    sim_node_start(w->node);
    world_run(w);
    struct sim_disk_stats stats = sim_disk_stats(w->disk);
    snprintf(
        ret->stats, sizeof(ret->stats),
        "%lu crashes, %lu opens, %lu entries, %lu retries, %lu without space, %lu reads, %lu damaged, %lu repairs, %lu copies, "
        "%lu checkpoints, %lu copied forward, %lu tail moves, %lu large, %lu pages read, %lu in memory, %lu old entries read, %lu checks, %lu lost, %lu torn",
        w->crashes, w->opens, w->entries, w->retries, w->no_space, w->read_checks, w->damaged, w->repairs,
        w->copies, w->checkpoints, w->forward, w->moves, w->large, w->page_reads, w->page_hits, w->lag_reads,
        w->checks, stats.lost, stats.torn);
    sim_result_take(ret, sim);
    sim_disk_free(w->disk);
    sim_free(sim);
    free(w);
}
