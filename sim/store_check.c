/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold of a store: after each start every entry that was acknowledged as durable is there with its
 * term and its data, nothing is there that was never appended, terms and votes that were acknowledged are
 * there; every block reads as the model has it, or is said to be damaged where data rotted.
 */
#include "sim/store_world.h"

#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"

/* Errors that faults explain. */
bool verify_excused(struct driver *d, int result)
{
    struct world *w = d->world;

    if (result == 0)
        return true;
    /* ERR_FORMAT: of the superblock one copy is damaged, and the other one does not come. */
    if (w->starts_blind && (result == -ERR_IO || result == -ERR_DAMAGED || result == -ERR_FORMAT))
        return true;
    /* Likewise when all rots: then the start says that it does not come. */
    if (w->rot && result == -ERR_IO && d->op.state == DRIVE_OPEN)
        return true;
    if (result == -ERR_STOPPED || result == -ERR_IO)
        return w->errors;
    return w->rot;
}

/* What rotted is not read back, however long it stays in the log. */
bool verify_log_excused(struct driver *d, int result)
{
    return verify_excused(d, result) || (result == -ERR_CHECKSUM && d->world->scarred);
}

/* What is complete has not got other entries in the log, be it damaged. */
static void verify_terms(struct driver *d, uint32_t i, const struct store_pg *pg)
{
    const struct model_pg *m = &d->world->pgs[i];
    uint64_t most = MIN(pg->applied_index, MIN(pg->last_index, m->commit));

    for (uint64_t index = pg->first_index; pg->record.state != STORE_PG_RECOVERING && index <= most; index++)
        if (store_log_term(pg, index) != m->term[index])
            sim_fail(d->world->sim, "PG %u: entry %lu, which is complete, has term %lu, should be %u", i,
                     index, store_log_term(pg, index), m->term[index]);
}

/* What was damaged stays so until it has recovered, and caught up. */
static void verify_damage(struct driver *d, uint32_t i, const struct store_pg *pg)
{
    struct world *w = d->world;
    struct model_pg *m = &w->pgs[i];
    bool is_damaged = pg->damaged || pg->record.state == STORE_PG_DAMAGED;

    if (w->damaged[i] && w->healthy[i] && pg->record.state == STORE_PG_NORMAL)
        w->damaged[i] = false;
    w->healthy[i] = false;
    w->damaged[i] &= is_damaged || w->marked[i];
    if (w->damaged[i] && !is_damaged && !w->rot)
        sim_fail(w->sim, "PG %u: that its log is damaged is forgotten", i);
    if (!is_damaged)
        return;
    /* Of objects, and of what there are two copies of, a log does not depend. */
    bool struck = w->hurt && (w->gap || w->scarred);
    if (!w->damaged[i] && !w->rot && !struck && (!w->gap || (w->reset_since[i] && w->gap_covered)))
        sim_fail(w->sim, "PG %u: damaged%s", i, w->gap ? " again by what its recovery has made up for" : "");
    w->hurt_logs += !w->damaged[i];
    w->damaged[i] = w->marked[i] = w->fell_behind[i] = true;
    model_apply(m, m->commit);
    split_miss(d, i);
}

static void note_behind(struct world *w, uint32_t i, const struct store_pg *pg)
{
    struct store_object_info at = {0};

    for (uint32_t image = 0; image < MODEL_IMAGES; image++)
        for (uint32_t object = 0; object < MODEL_OBJECTS; object++)
            w->behind[i][image][object] = w->pgs[i].object[image][object].index > 0;
    for (bool start = true; store_object_next(pg, start, at.image, at.object, &at); start = false)
        if (at.image < MODEL_IMAGES && at.object < MODEL_OBJECTS) {
            /* 0: it went with its image, and the record of that is what was lost. */
            uint64_t index = w->pgs[i].object[at.image][at.object].index;
            w->behind[i][at.image][at.object] = at.index < index || !index;
        }
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

/* Up to there no damage looks like a torn end of the log. */
static uint64_t proven_index(const struct world *w, const struct model_pg *m)
{
    uint64_t proven = w->proof_hit ? 0 : m->proven;

    if (!w->rot)
        proven = MAX(proven, MAX(m->table_proven, w->checkpoint_hit ? 0 : m->checkpoint_proven));
    return proven;
}

/* What a start has shown not to be there does not come back: whoever saw that has gone on. But where damage
 * was taken for a torn end, or a torn end, which could not be read this time, for damage: then it is there
 * again. */
static void verify_buried(struct world *w, uint32_t i, const struct store_pg *pg)
{
    struct model_pg *m = &w->pgs[i];
    bool excused = w->rot || w->torn || w->starts_blind || pg->damaged;

    for (uint64_t index = pg->first_index; index <= MAX(m->high, pg->last_index); index++) {
        uint64_t term = index <= pg->last_index ? store_log_term(pg, index) : 0;
        if (excused)
            model_unbury(m, index, (uint32_t)term);
        else if (model_bury(m, index, term))
            sim_fail(w->sim, "PG %u: entry %lu of term %lu, which an earlier start did not find, is back", i,
                     index, term);
    }
}

void verify_open(struct driver *d)
{
    struct world *w = d->world;
    uint32_t len;
    const uint64_t *blob = store_blob(d->store, &len);

    w->proof_seq = 0;
    w->alive_hit = false;
    split_found(d);

    /* What cannot be read is not waited for: then it is the older copy, or none. */
    if (w->starts_blind)
        w->blob_acked = 0;
    if (w->blob_acked && !w->rot && (!blob || len < 8 || *blob < w->blob_acked || *blob > w->blob_sent))
        sim_fail(w->sim, "blob: %lu, acknowledged %lu", blob ? *blob : 0, w->blob_acked);
    if (blob && len >= 8 && !w->rot)
        w->blob_acked = *blob;
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        struct store_pg *pg = pg_now(d, i);
        if (!pg) {
            if (w->created[i])
                sim_fail(w->sim, "PG %u is gone", i);
            continue;
        }
        if (w->removed[i])
            continue;
        if (!m->exists) {
            sim_fail(w->sim, "PG %u is there, and was never born", i);
            continue;
        }
        w->created[i] = true;
        if (w->sim->verbose)
            sim_log(w->sim,
                    "PG %u: first %lu last %lu applied %lu damaged %d; model commit %lu last %lu acked %lu",
                    i, pg->first_index, pg->last_index, pg->applied_index, pg->damaged, m->commit, m->last,
                    m->acked);
        /* A PG that was split off has not voted when it is born. */
        bool newborn = m->born && pg->record.term <= m->term[m->born] && !pg->record.vote;
        if (pg->record.term < w->term_acked[i] || pg->record.term > w->term_sent[i] ||
            (pg->record.vote != (uint32_t)pg->record.term % 7 && !newborn))
            sim_fail(w->sim, "PG %u: term %lu vote %u, acknowledged %lu, sent %lu", i, pg->record.term,
                     pg->record.vote, w->term_acked[i], w->term_sent[i]);
        w->term_acked[i] = MAX(w->term_acked[i], pg->record.term); /* it was seen */
        verify_terms(d, i, pg);
        verify_damage(d, i, pg);
        w->recovering[i] = pg->record.state == STORE_PG_RECOVERING;
        if (pg->damaged)
            note_behind(w, i, pg);
        if (w->recovering[i] || w->fell_behind[i])
            continue;
        verify_group(w, i, pg);
        /* What has rotted is said to be damaged, but for the newest, which may as well be torn. */
        bool torn = w->rot || w->torn;
        if (pg->last_index < (torn ? proven_index(w, m) : m->acked) && !pg->damaged && !w->unreadable)
            sim_fail(w->sim, "PG %u: log ends at %lu, acknowledged %lu", i, pg->last_index, m->acked);
        verify_buried(w, i, pg);
        if (w->torn)
            model_cut(m, pg->last_index + 1);
        if (pg->applied_index > m->commit || pg->first_index > pg->applied_index + 1)
            sim_fail(w->sim, "PG %u: first %lu applied %lu commit %lu", i, pg->first_index, pg->applied_index,
                     m->commit);
        uint64_t base = pg->record.base_index;
        if (pg->first_index != base + 1 || (base && pg->record.base_term != m->term[base]))
            sim_fail(w->sim, "PG %u: base %lu term %lu, first %lu, model's term %u", i, base,
                     pg->record.base_term, pg->first_index, m->term[base]);
    }
}

void verify_entry(struct driver *d, const struct model_pg *m, const struct entry *e,
                  const struct slice *payload, bool newest)
{
    struct world *w = d->world;
    struct entry want;

    /* Rot in the newest batch looks like a torn tail: then an older lineage may be what is left. */
    uint64_t fixed = m->acked;
    if (w->rot || w->torn)
        fixed = !newest || pg_now(d, m->number)->damaged || w->unreadable ? 0 : proven_index(w, m);
    if (!model_had(m, e->index, e->term) || (newest && e->index <= fixed && e->term != m->term[e->index])) {
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
    model_group(m, e->index, (uint32_t)e->term, &group_want);
    if (e->type == ENTRY_SPLIT)
        group_want.index = group_want.epoch = 0;
    if ((e->type == ENTRY_GROUP || e->type == ENTRY_SPLIT) &&
        (group_from_entry(e, &group) || !same_group(&group, &group_want)))
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

void verify_log_amount(struct driver *d, const struct store_log_read *r)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < r->ret_count; i++)
        bytes += r->ret_payloads[i].len;
    if (!r->op.result && !r->ret_count)
        sim_fail(d->world->sim, "PG %lx: reading entries %lu to %lu: none", r->pg, r->first, r->last);
    if (r->ret_count > r->last - r->first + 1 || (r->ret_count > 1 && bytes > r->bytes_max))
        sim_fail(d->world->sim, "PG %lx: reading entries %lu to %lu: %u with %lu bytes", r->pg, r->first,
                 r->last, r->ret_count, bytes);
}

void verify_log_read(struct driver *d)
{
    struct store_log_read *r = &d->log_read;

    bool trimmed = r->op.result == -ERR_COMPACTED && d->index < pg_now(d, d->pg)->first_index;
    if (r->op.result && !trimmed && !verify_log_excused(d, r->op.result))
        sim_fail(d->world->sim, "PG %u: reading entry %lu: %s", d->pg, d->index, error_name(r->op.result));
    verify_log_amount(d, r);
    for (uint32_t i = 0; i < r->ret_count; i++) {
        verify_entry(d, &d->world->pgs[d->pg], &r->ret_entries[i], &r->ret_payloads[i], true);
        slice_unref(&r->ret_payloads[i]);
    }
    d->index += MAX(r->ret_count, 1u);
}

/* Batches that are made from now on say of what is durable now that it is. One of them suffices. */
static void verify_proof(struct driver *d)
{
    struct world *w = d->world;
    const struct store *s = d->store;

    if (!w->verified || (w->proof_seq && s->durable_seq < w->proof_seq))
        return;
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        if (w->proof_seq)
            m->proven = MAX(m->proven, m->provable);
        m->provable = m->acked;
    }
    w->proof_seq = s->next_seq;
}

/* A write to the PG table says, too, what was durable when it began; and so does a checkpoint. */
void verify_table_begins(struct driver *d)
{
    for (uint32_t i = 0; i < MODEL_PGS; i++)
        d->world->pgs[i].table_provable = d->world->pgs[i].acked;
}

void verify_table_ends(struct driver *d)
{
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &d->world->pgs[i];
        m->table_proven = MAX(m->table_proven, m->table_provable);
    }
}

static void verify_checkpoint(struct driver *d)
{
    struct world *w = d->world;
    const struct store *s = d->store;
    bool ended = d->checkpoint && s->ckpt_last >= d->checkpoint;
    bool begins = s->destage.ckpt_number > s->ckpt_last && s->destage.ckpt_number != d->checkpoint;

    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct model_pg *m = &w->pgs[i];
        if (ended)
            m->checkpoint_proven = m->checkpoint_provable;
        if (begins)
            m->checkpoint_provable = m->acked;
    }
    d->checkpoint = begins ? s->destage.ckpt_number : ended ? 0 : d->checkpoint;
}

void verify_durable(struct driver *d)
{
    for (uint32_t i = 0; i < MODEL_PGS; i++) {
        struct store_pg *pg = d->store ? pg_now(d, i) : NULL;
        struct model_pg *m = &d->world->pgs[i];
        if (!pg || !m->exists || d->world->recovering[i] || d->world->fell_behind[i] || !d->world->verified)
            continue;
        if (pg->damaged && d->world->clean && !d->world->errors)
            sim_fail(d->world->sim, "PG %u: damaged while it works", i);
        if (pg->last_index != m->last)
            sim_fail(d->world->sim, "PG %u: last index %lu, should be %lu", i, pg->last_index, m->last);
        m->acked = MAX(m->acked, MIN(pg->durable_index, m->last));
    }
    verify_proof(d);
    verify_checkpoint(d);
}

/* A block is lost, or it is not, as the copies had it. Others that have it must be no older than the last
 * entry that touched it: so much is told with it, and no more, or nobody may have it. */
static void verify_mark(struct driver *d, const struct store_read *r, const struct model_pg *m,
                        uint32_t block, bool is_newer, bool damaged)
{
    struct world *w = d->world;
    const struct model_object *o = &m->object[r->image][r->object];
    bool lost = bit_get(o->lost, block) && !is_newer, unsure = bit_get(o->unsure, block) && !is_newer;

    if (m == w->alone) /* which has none */
        return;
    bool sure = !w->rot && !w->hurt && !w->wounds;
    if (sure && damaged != lost && !unsure)
        sim_fail(w->sim, "PG %lx: object %lu/%lu block %u is %s", m->id, r->image, r->object, block,
                 damaged ? "damaged" : "lost, and there");
    if (!damaged || r->proposed || w->sim->failed)
        return;
    if (r->ret_lost_index < o->at[block] || (sure && r->ret_lost_index > o->lost_index))
        sim_fail(w->sim, "PG %lx: object %lu/%lu block %u: lost since %lu, should be from %u to %lu", m->id,
                 r->image, r->object, block, r->ret_lost_index, o->at[block], o->lost_index);
}

void verify_data(struct driver *d, const struct store_read *r, const struct model_pg *m, bool proposed)
{
    struct world *w = d->world;
    const struct model_object *o = &m->object[r->image][r->object];

    w->read_checks++;
    if (w->behind[m->number][r->image][r->object])
        return;
    if (r->op.result == -ERR_DAMAGED && (w->rot || w->hurt || w->wounds || w->lossy[r->image][r->object]))
        w->damage_reads++;
    else if (r->op.result && !verify_excused(d, r->op.result) && r->op.result != -ERR_RETRY)
        sim_fail(w->sim, "PG %lx: object %lu/%lu: %s", m->id, r->image, r->object, error_name(r->op.result));
    if (r->op.result && r->op.result != -ERR_DAMAGED)
        return;
    /* A recovery goes by that: one that is too old hides what is newer. */
    if (!w->rot && !proposed && r->ret_index && o->index && r->ret_index != o->index)
        sim_fail(w->sim, "PG %lx: object %lu/%lu: index %lu, should be %lu", m->id, r->image, r->object,
                 r->ret_index, o->index);
    for (uint32_t i = 0; i < r->block_count; i++) {
        uint32_t block = r->first_block + i;
        uint64_t tag = o->tag[block], newer;
        bool is_newer = proposed && model_proposed(m, r->image, r->object, block, &newer);
        bool damaged = bit_get(r->ret_damaged, i);
        verify_mark(d, r, m, block, is_newer, damaged);
        if (damaged)
            continue;
        if (is_newer)
            tag = newer;
        bool written = r->ret_written[i / 64] >> (i % 64) & 1;
        bool comes = r->ret_data.buf && (written || !r->written_only);
        const uint8_t *data = comes ? slice_data(&r->ret_data) + i * BLOCK_SIZE : NULL;
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

void verify_check_line(void *owner, bool problem, const char *text)
{
    struct driver *d = owner;
    uint64_t image, object;
    uint32_t block;

    if (sscanf(text, "object %lu/%lu: block %u is", &image, &object, &block) == 3 && image < MODEL_IMAGES &&
        object < MODEL_OBJECTS && d->world->lossy[image][object])
        return;
    if (problem && !d->world->rot && !scars_show(d->world))
        sim_fail(d->world->sim, "check: %s", text);
}

void verify_images(struct driver *d, uint32_t i)
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
    const struct image_record *r = NULL;
    for (uint64_t n = 0; n < MODEL_IMAGES && !d->world->rot; n++) {
        if (!m->images[n].index)
            continue;
        r = store_image_next(pg_now(d, i), r ? r->image : 0);
        if (!r || r->image != n)
            sim_fail(d->world->sim, "PG %u: the image after the one before %lu is %lu", i, n,
                     r ? r->image : 0);
        if (!r)
            return;
    }
}
