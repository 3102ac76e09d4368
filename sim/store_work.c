/* SPDX-License-Identifier: Apache-2.0
 *
 * The load: entries of several PGs at random. Logs are cut and replaced above what is committed, PGs lose
 * their quorum and hold the ring, replicas fall behind.
 */
#include "sim/store_world.h"

#include <string.h>

#include "base/crc32c.h"

#define REFUSED_MAX 1000u /* 100 ms long */
#define REST_MAX_NS (250 * NS_PER_MS)

/* ---- the log ------------------------------------------------------------------------------------------- */

int work_append(struct driver *d, uint32_t i, uint64_t index, uint32_t term)
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
    if (e.type == ENTRY_SPLIT) {
        struct entry group_entry;
        struct group group;
        model_group(m, index, term, &group);
        group_to_entry(&group, d->crc, &group_entry);
        e.crc = d->crc;
    }
    int rc = store_append(pg_now(d, i), &e, payload.buf ? &payload : NULL);
    slice_unref(&payload);
    if (rc == 0)
        model_unbury(m, index, term);
    if (rc == 0)
        w->entries++;
    else if (rc == -ERR_NO_SPACE)
        w->no_space++;
    else
        w->retries++;
    if (rc && index > m->commit && index <= m->last) { /* what it would have replaced is gone all the same */
        m->last = index - 1;
        m->cuts++;
        model_cut(m, index);
    }
    return rc;
}

/* What a crash brought back of other PGs, though it had been cut off, may leave no room to go on: their
 * leaders commit it now. */
static void commit_others(struct driver *d)
{
    struct world *w = d->world;

    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        struct store_pg *pg = pg_now(d, i);
        if (i == d->pg || !pg || w->recovering[i] || w->fell_behind[i] || pg->damaged ||
            pg->applied_index != m->commit)
            continue;
        for (uint64_t index = m->commit + 1; index <= pg->last_index; index++)
            m->term[index] = (uint32_t)store_log_term(pg, index);
        m->last = pg->last_index;
        m->commit = pg->durable_index;
        m->acked = m->commit;
        model_apply(m, m->commit);
        world_apply(pg, m->applied);
    }
}

/* What a PG that is to recover has in its log, and does not apply, may leave no room either: its recovery,
 * which waits for no other PG, comes first. */
static void recover_first(struct driver *d)
{
    struct world *w = d->world;

    for (uint32_t i = 0; i < MODEL_PGS; i++)
        if (w->recovering[i] || w->fell_behind[i]) {
            d->pg = i;
            d->refused = 0;
            d->op.state = DRIVE_RECOVER;
            return;
        }
}

/* All that is applied in this PG is what comes before a split. */
static void again_split(struct driver *d, uint32_t i)
{
    struct model_pg *m = &d->world->pgs[i];

    model_apply(m, m->commit);
    split_begin(d, i);
    d->op.state = DRIVE_SPLIT;
}

/* So may what another PG has behind a split. */
static bool split_first(struct driver *d)
{
    const struct world *w = d->world;

    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        const struct model_pg *m = &w->pgs[i];
        const struct store_pg *pg = pg_now(d, i);
        uint64_t next = pg ? pg->applied_index + 1 : 0;
        if (i == d->pg || !pg || w->recovering[i] || w->fell_behind[i] || pg->damaged ||
            next > MIN(pg->durable_index, m->commit) || store_log_term(pg, next) != m->term[next])
            continue;
        d->refused = 0;
        again_split(d, i);
        return true;
    }
    return false;
}

/* After a crash: what was committed is appended again where it is missing or other. True: all PGs are
 * through. */
bool work_append_again(struct driver *d)
{
    struct world *w = d->world;

    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        struct store_pg *pg = pg_now(d, i);
        if (!pg)
            continue;
        uint64_t index = pg->applied_index + 1;
        while (!w->recovering[i] && !w->fell_behind[i] && index <= MIN(pg->durable_index, m->commit) &&
               store_log_term(pg, index) == m->term[index])
            world_apply(pg, index++);
    }
    for (; d->pg < MODEL_PGS; d->pg++) {
        struct model_pg *m = &w->pgs[d->pg];
        struct store_pg *pg = pg_now(d, d->pg);
        if (!pg || w->recovering[d->pg] || w->fell_behind[d->pg])
            continue;
        uint64_t index = pg->applied_index + 1;
        while (index <= MIN(pg->last_index, m->commit) && store_log_term(pg, index) == m->term[index])
            index++;
        uint64_t upto = MAX(pg->applied_index, MIN(pg->durable_index, index - 1));
        world_apply(pg, upto);
        while (index <= m->commit) {
            int rc = work_append(d, d->pg, index, m->term[index]);
            if (rc == -ERR_NO_SPACE) {
                /* Others had room for it, we have not: as in a real group there is no way on from here. */
                w->stop = true;
                d->op.state = DRIVE_FAILED;
                return false;
            }
            if (rc && (rc != -ERR_RETRY || store_failed(d->store))) {
                driver_fail(d, "append again", rc);
                return false;
            }
            if (rc) {
                /* What there is behind a split may hold the ring until that is done. */
                if (pg->applied_index < upto)
                    again_split(d, d->pg);
                else if (++d->refused == REFUSED_MAX)
                    commit_others(d);
                else if (d->refused == 2 * REFUSED_MAX && !split_first(d))
                    recover_first(d);
                return false;
            }
            d->refused = 0;
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
        world_apply(pg, m->commit);
        if (pg->applied_index < m->commit) {
            again_split(d, d->pg);
            return false;
        }
        model_apply(m, m->commit);
        if (m->applied != m->commit)
            sim_fail(w->sim, "PG %u: applied %lu without the split at %lu", d->pg, pg->applied_index,
                     m->applied + 1);
    }
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void read_random(struct driver *d)
{
    for (uint32_t i = 0; i < STORE_READS; i++) {
        struct reading *r = &d->reads[i];
        struct world *w = d->world;
        if (r->busy)
            continue;
        r->pg = any_pg(d);
        struct model_pg *m = &w->pgs[r->pg];
        struct store_pg *pg = pg_now(d, r->pg);
        if (!pg || w->recovering[r->pg] || w->fell_behind[r->pg])
            return;
        struct entry e;
        uint64_t near = m->last > 200 ? m->last - below(d, 200) : 1 + below(d, 200);
        model_entry(m, near, 1, &e);
        r->image = e.type == ENTRY_SPLIT ? 1 : e.image;
        r->object = below(d, m->objects);
        if (split_is_mine(d, r->pg, r->image, r->object))
            return;
        r->proposed = chance(d, 30);
        r->model_index = m->object[r->image][r->object].index;
        r->copies = m->object[r->image][r->object].copies;
        r->last = m->last;
        r->applied = m->applied;
        r->cuts = m->cuts;
        r->term = m->term[m->last];
        r->busy = true;
        uint32_t count = 1 + (uint32_t)below(d, chance(d, 20) ? IO_BLOCKS_MAX : 4);
        (sim_rng_below(&w->reads, 4) ? store_read_start : store_read_written_start)(
            &r->op, pg, r->image, r->object, (uint32_t)below(d, BLOCKS_PER_OBJECT - count + 1), count,
            r->proposed, &d->op);
        return;
    }
}

static void data_reap(struct driver *d)
{
    for (uint32_t i = 0; i < STORE_READS; i++) {
        struct reading *r = &d->reads[i];
        struct model_pg *m = &d->world->pgs[r->pg];
        if (!r->busy || op_live(&r->op.op))
            continue;
        r->busy = false;
        if (r->op.op.result == -ERR_DAMAGED && !d->world->rot && !d->world->hurt && !d->world->wounds &&
            !d->world->lossy[r->image][r->object])
            sim_fail(d->world->sim, "PG %u: object %lu/%lu is damaged, and nothing was", r->pg, r->image,
                     r->object);
        /* Only if nothing happened to the object meanwhile. */
        const struct model_object *o = &m->object[r->image][r->object];
        bool same = o->index == r->model_index && o->copies == r->copies && !d->world->fell_behind[r->pg] &&
                    !split_is_mine(d, r->pg, r->image, r->object);
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
        !verify_log_excused(d, r->op.result))
        sim_fail(w->sim, "PG %u: reading entry %lu: %s", d->lag_pg, d->lag_first, error_name(r->op.result));
    if (same)
        verify_log_amount(d, r);
    for (uint32_t i = 0; i < r->ret_count; i++) {
        verify_entry(d, m, &r->ret_entries[i], &r->ret_payloads[i], same);
        slice_unref(&r->ret_payloads[i]);
    }
    w->lag_reads += r->ret_count;
}

void work_reads_reap(struct driver *d)
{
    data_reap(d);
    lag_reap(d);
}

static void lag_read(struct driver *d)
{
    struct world *w = d->world;

    if (d->lag_busy)
        return;
    d->lag_pg = any_pg(d);
    struct store_pg *pg = pg_now(d, d->lag_pg);
    if (!pg || w->recovering[d->lag_pg] || w->fell_behind[d->lag_pg] || pg->last_index < pg->first_index)
        return;
    uint64_t from = pg->first_index;
    if (pg->applied_index >= from && pg->applied_index < pg->last_index && sim_rng_below(&w->keeps, 2))
        from = pg->applied_index + 1; /* what may be replaced meanwhile */
    d->lag_first = from + below(d, pg->last_index - from + 1);
    d->lag_cuts = w->pgs[d->lag_pg].cuts;
    d->lag_busy = true;
    store_log_read_start(&d->lag_read, pg, d->lag_first, pg->last_index, 512u << 10, &d->op);
}

/* ---- the workload -------------------------------------------------------------------------------------- */

static void append_next(struct driver *d, uint32_t i, uint64_t index, uint32_t term)
{
    struct model_pg *m = &d->world->pgs[i];

    if (work_append(d, i, index, term) == 0)
        model_append(m, index, term);
    if (pg_now(d, i)->last_index != m->last)
        sim_fail(d->world->sim, "PG %u: last %lu, should be %lu", i, pg_now(d, i)->last_index, m->last);
}

static void work_log(struct driver *d, uint32_t i)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[i];
    uint64_t index = m->last + 1;
    uint32_t term = m->term[m->last] ? m->term[m->last] : 1;

    if (index + 1 >= MODEL_LOG_MAX || index / MODEL_IMAGE_SPAN * 2 + 3 >= MODEL_IMAGES)
        return;
    if (chance(d, 2))
        term++;
    if (chance(d, d->lag_busy && d->lag_pg == i ? 30 : d->world->cuts) && m->last > m->commit) {
        /* A new leader has another log. */
        index = m->commit + 1 + below(d, m->last - m->commit);
        term = MAX(term, m->term[m->last]) + 1;
        if (m->history[index][MODEL_TERMS - 1])
            return;
    }
    if (m->history[index][MODEL_TERMS - 1] && !model_had(m, index, term))
        return;
    if (index > m->last)
        split_plan(d, i);
    append_next(d, i, index, term);
}

static void work_commit(struct driver *d, uint32_t i)
{
    struct model_pg *m = &d->world->pgs[i];
    struct store_pg *pg = pg_now(d, i);
    uint64_t upto = chance(d, 10) ? m->last : MIN(pg->durable_index, m->last);

    if (d->stalled >> i & 1 || upto <= m->commit)
        return;
    m->commit += 1 + below(d, upto - m->commit);
    if (d->splitting && d->split_pg == i)
        return;
    world_apply_durable(m, pg);
    if (pg->applied_index != m->applied && !store_failed(d->store))
        sim_fail(d->world->sim, "PG %u: applied %lu, should be %lu", i, pg->applied_index, m->applied);
}

/* A PG that holds the tail, with what is not committed; or any. */
static uint32_t oldest_waits(struct driver *d)
{
    const struct batch *b = list_first(&d->store->batches, struct batch, link);
    uint32_t i = (uint32_t)sim_rng_below(&d->world->floods, MODEL_PGS);

    if (!b || sim_rng_below(&d->world->floods, 4) == 0)
        return i;
    list_for_each (&b->entries, node) {
        const struct log_entry *e = list_entry(node, struct log_entry, batch_link);
        if (e->in_log && !e->applied)
            return (uint32_t)(e->pg->pub.record.pg & UINT32_MAX);
    }
    return i;
}

/* More records than fit into a batch wait at once, as when a recovery takes over those of many images, and
 * behind them the one that says that the end of a log is void; at a time when the tail is on its way. */
static void work_flood(struct driver *d)
{
    struct world *w = d->world;
    struct sim_rng *rng = &w->floods;

    if (!w->flood_rarely || store_failed(d->store) || !trim_wanted(d->store) ||
        sim_rng_below(rng, w->flood_rarely))
        return;
    uint32_t i = oldest_waits(d), records = 256 + (uint32_t)sim_rng_below(rng, 1200);
    struct model_pg *m = &w->pgs[i];
    struct store_pg *pg = pg_now(d, i);
    uint64_t index = m->commit + 1;
    if (!m->exists || m->last <= m->commit || m->history[index][MODEL_TERMS - 1])
        return;
    while (records--)
        store_recover_floor(pg, pg->floor_epoch + 1);
    append_next(d, i, index, m->term[m->last] + 1);
    w->flooded++;
}

/* Some member lags, or none does: what is removed waits for it. */
static void work_keep(struct driver *d)
{
    struct sim_rng *rng = &d->world->keeps;
    struct store_pg *pg = pg_now(d, (uint32_t)sim_rng_below(rng, MODEL_PGS));

    if (!pg)
        return;
    store_keep(pg, sim_rng_below(rng, 2) || pg->last_index < pg->first_index
                       ? 0
                       : pg->first_index + sim_rng_below(rng, pg->last_index - pg->first_index + 1));
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
    verify_durable(d);
    verify_table_begins(d);
    store_pg_write_start(&d->pg_write, d->store, &record, &d->op);
}

static void pg_write_reap(struct driver *d)
{
    if (!d->pg_writing || op_live(&d->pg_write.op))
        return;
    d->pg_writing = false;
    if (d->pg_write.op.result == 0) {
        d->world->term_acked[d->pg] = d->pg_write.record.term;
        verify_table_ends(d);
        if (d->pg_write.ret_pg->record.term != d->pg_write.record.term)
            sim_fail(d->world->sim, "PG %u: record does not show its term", d->pg);
    } else if (!verify_excused(d, d->pg_write.op.result)) {
        sim_fail(d->world->sim, "PG %u: record: %s", d->pg, error_name(d->pg_write.op.result));
    }
}

void work_blob(struct driver *d)
{
    struct world *w = d->world;

    if (d->blob_writing) {
        if (op_live(&d->blob_write.op))
            return;
        d->blob_writing = false;
        if (d->blob_write.op.result == 0)
            w->blob_acked = w->blob_sent;
        else if (d->blob_write.op.result != -ERR_NO_MEMORY && !verify_excused(d, d->blob_write.op.result))
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
bool work_fall_behind(struct driver *d, uint32_t i)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[i];
    uint64_t n = sim_rng_below(&w->scars, w->restless ? 8 : 3) < (w->restless ? 1 : 2)
                     ? 20 + below(d, 400)
                     : 1 + sim_rng_below(&w->scars, 3);

    for (uint32_t r = 0; r < STORE_READS; r++)
        if (d->reads[r].busy)
            return false;
    if (d->lag_busy || d->splitting || d->removing || d->mend.state != MEND_NONE || !m->exists ||
        model_split_due(m))
        return false;
    if (m->commit + n + 2 >= MODEL_LOG_MAX || d->pg_writing ||
        (m->commit + n) / MODEL_IMAGE_SPAN * 2 + 3 >= MODEL_IMAGES)
        return false;
    for (uint64_t index = m->commit + 1; index <= m->commit + n; index++)
        if (m->history[index][MODEL_TERMS - 1])
            return false;
    uint32_t term = m->term[m->last] + 1;
    /* A start calls this before anything is applied. */
    bool start = d->op.state < DRIVE_WORK;
    split_plan_missed(d, i, m->commit + 1 + below(d, n), start);
    for (uint64_t index = m->commit + 1; index <= m->commit + n; index++)
        model_append(m, index, term);
    m->commit += n;
    model_apply(m, m->commit);
    split_miss(d, i);
    w->fell_behind[i] = true;
    d->pg = i;
    return true;
}

bool work_settled(struct driver *d)
{
    const struct entry noop = {.type = ENTRY_NOOP};
    bool all = true;

    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct store_pg *pg = pg_now(d, i);
        if (!pg || d->world->removed[i])
            continue;
        /* It is hurried once: what that has to wait for wakes it. */
        if (d->hurried[i] != pg->applied_index)
            store_destage_soon(pg);
        d->hurried[i] = pg->applied_index;
        all &= store_complete_index(pg) >= pg->applied_index;
        /* A log that has too many entries gives those up that are complete, though there is room. */
        all &= pg->applied_index + 1 - MIN(pg->first_index, pg->applied_index + 1) <=
               pg->store->log_entries_max / 2;
        /* There is always room for what a new leader begins with. */
        all &= pg->applied_index < pg->last_index || store_can_append(pg, &noop) == 0;
    }
    return all;
}

/* Now and then nothing new comes until all that is applied is destaged. */
static void rest(struct driver *d)
{
    struct world *w = d->world;
    uint64_t now_ns = w->sim->now_ns;

    if (!d->rest_ns && (!w->clean || w->stop || sim_rng_below(&w->rests, 300)))
        return;
    d->rest_ns = d->rest_ns ? d->rest_ns : now_ns;
    if (work_settled(d))
        d->rest_ns = 0;
    else if (now_ns - d->rest_ns > REST_MAX_NS + 20 * w->late_ns)
        sim_fail(w->sim, "something that is applied is not destaged");
}

/* The tail comes by with little under way, so that what it copies meets what is new. */
static bool is_ebb(struct driver *d)
{
    const struct store *s = d->store;
    bool forward = d->world->moment == MOMENT_FORWARD || d->world->moment == MOMENT_ROTTEN;

    return forward && MAX(ring_used(s), ring_held(s)) > ring_usable(s) / 8 * 7 &&
           sim_rng_below(&d->world->turns, 4);
}

bool work(struct driver *d)
{
    struct world *w = d->world;

    verify_durable(d);
    scars_settle(d);
    work_reads_reap(d);
    pg_write_reap(d);
    remove_reap(d);
    work_blob(d);
    if (!store_failed(d->store))
        split_reap(d);
    if (!store_failed(d->store))
        mend_step(d);
    if (!store_failed(d->store))
        look_step(d);
    if (!d->rest_ns)
        work_flood(d);
    if (store_failed(d->store)) {
        if (!w->errors)
            sim_fail(w->sim, "the store failed");
        return false;
    }
    verify_order(d);
    if (sim_rng_below(&w->audit, 30) == 0)
        verify_counts(d);
    rest(d);
    if (d->rest_ns)
        return true;
    for (uint32_t n = 0; n < w->burst; n++) {
        uint32_t i = any_pg(d);
        uint32_t what = (uint32_t)below(d, 100);
        if (what < 60 && is_ebb(d))
            continue;
        if (what < 60)
            work_log(d, i);
        else if (what < 85)
            work_commit(d, i);
        else if (d->leaving)
            continue;
        else if (what < 96)
            read_random(d);
        else if (what < 97)
            lag_read(d);
        else if (!w->calm || sim_rng_below(&w->scars, 30) == 0)
            work_pg_write(d, i);
    }
    if (sim_rng_below(&w->keeps, 10) == 0)
        work_keep(d);
    remove_some(d);
    if (chance(d, 1))
        d->stalled ^= 1ull << below(d, MODEL_PGS);
    return true;
}
