/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold. At any time: a term has one leader, an index that is committed somewhere has one term
 * everywhere, and replicas that have applied as much know the same of their objects. In the end: every
 * history is linearizable, and all replicas of a PG hold the same objects, blocks and image records, read
 * from their stores with checksums verified.
 */
#include "sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/map.h"
#include "raft/raft.h"

#define CHECK_EVERY_NS (2 * NS_PER_MS)
#define OBJECTS_EVERY  10 /* of those checks, one looks at the objects too */
#define COMPARE_NS     (500 * NS_PER_MS)
#define SNAPSHOT_NS    (30 * NS_PER_S)
#define SEARCH_BUDGET  300000
#define PGS_MAX        64

#define ULL(x) ((unsigned long long)(x))

/* ---- at any time
 * ---------------------------------------------------------------------------------------------- */

struct fact {
    struct map_node node; /* by hash of what it is about */
    uint64_t value;
};

struct leader_table {
    struct map facts;
    uint64_t next_ns;
    uint32_t checks;
};

/* The value that was recorded first for this key. */
static uint64_t fact_of(struct leader_table *t, uint64_t key, uint64_t value)
{
    struct map_node *node = map_get(&t->facts, key);

    if (!node) {
        struct fact *fact = sim_alloc(sizeof(*fact));
        fact->value = value;
        map_put(&t->facts, &fact->node, key);
        return value;
    }
    return map_entry(node, struct fact, node)->value;
}

static void check_pg(struct cluster *c, const struct osd_pg_view *view, const struct store_pg *pg)
{
    if (view->role == RAFT_LEADER) {
        uint64_t first = fact_of(c->leaders, hash_pair(hash_pair(view->pg, view->term), 1), view->replica);
        if (first != view->replica)
            sim_fail(c->sim, "PG %llx has two leaders in term %llu: replicas %llu and %u", ULL(view->pg),
                     ULL(view->term), ULL(first), view->replica);
    }
    if (view->recovering || view->commit_index < pg->first_index || view->commit_index > pg->last_index)
        return;
    uint64_t term = store_log_term(pg, view->commit_index);
    if (term && fact_of(c->leaders, hash_pair(hash_pair(view->pg, view->commit_index), 2), term) != term)
        sim_fail(c->sim, "PG %llx: index %llu is committed with two terms, one of them %llu (replica %u)",
                 ULL(view->pg), ULL(view->commit_index), ULL(term), view->replica);
}

/* Replicas that have applied the same entries know the same newest entry of each object. One that is ahead of
 * its own applied index was copied while the log went on; it will agree when the log has caught up. A store
 * that was opened again may have forgotten entries that later ones of its log replace: it is looked at when
 * it has applied what it had then. */
static void check_objects(struct cluster *c, const struct store_pg *pg, uint64_t incarnation)
{
    struct store_object_info at = {0};
    uint64_t key = hash_pair(pg->record.pg, pg->applied_index);
    uint64_t start_key = hash_pair(hash_pair(pg->record.pg, pg->record.replica), hash_pair(incarnation, 4));

    if (pg->applied_index < fact_of(c->leaders, start_key, pg->last_index))
        return;
    for (bool start = true; store_object_next(pg, start, at.image, at.object, &at); start = false) {
        if (at.damaged || at.index > pg->applied_index)
            continue;
        uint64_t object_key = hash_pair(hash_pair(key, at.image), hash_pair(at.object, 3));
        uint64_t first = fact_of(c->leaders, object_key, at.index);
        if (first != at.index) {
            sim_fail(c->sim,
                     "PG %llx, object %llu of image %llu at index %llu: its newest entry is %llu and %llu",
                     ULL(pg->record.pg), ULL(at.object), ULL(at.image), ULL(pg->applied_index), ULL(first),
                     ULL(at.index));
            return;
        }
    }
}

void check_always(struct cluster *c)
{
    if (!c->leaders) {
        c->leaders = sim_alloc(sizeof(*c->leaders));
        map_init(&c->leaders->facts);
    }
    if (c->sim->now_ns < c->leaders->next_ns)
        return;
    c->leaders->next_ns = c->sim->now_ns + CHECK_EVERY_NS;
    bool objects = ++c->leaders->checks % OBJECTS_EVERY == 0;
    load_check(c);
    for (uint32_t i = 0; i < c->osd_count; i++) {
        for (uint32_t j = 0; j < c->shard_count; j++) {
            const struct osd_shard *shard = c->osds[i].shards[j];
            if (!shard)
                continue;
            const struct store *store = osd_shard_store(shard);
            for (const struct store_pg *pg = NULL; (pg = store_pg_next(store, pg));) {
                struct osd_pg_view view;
                if (!osd_pg_view(shard, pg->record.pg, &view))
                    continue;
                check_pg(c, &view, pg);
                if (objects && !view.recovering && !view.damaged && pg->record.state == STORE_PG_NORMAL)
                    check_objects(c, pg, c->osds[i].process.nodes[j]->incarnation);
            }
        }
    }
}

void check_fini(struct cluster *c)
{
    if (!c->leaders)
        return;
    map_for_each (&c->leaders->facts, node) {
        map_remove(&c->leaders->facts, node->key);
        free(map_entry(node, struct fact, node));
    }
    map_fini(&c->leaders->facts);
    free(c->leaders);
}

/* ---- histories
 * ------------------------------------------------------------------------------------------------ */

void check_history(struct cluster *c, uint32_t image, uint32_t first)
{
    struct cluster_image *i = &c->images[image];
    struct linear_report report;
    uint32_t reg;
    uint32_t undecided = linear_history_check(i->history, first, 0, SEARCH_BUDGET, &reg, &report);

    sim_log(c->sim, "%s: %llu operations on sectors, %u sectors undecided", i->name,
            ULL(linear_history_ops(i->history)), undecided);
    if (reg != UINT32_MAX)
        sim_fail(c->sim, "%s, sector %u (block %u of object %u) is not linearizable: %s", i->name, reg,
                 reg % (OBJECT_SIZE / CLUSTER_SECTOR) / (BLOCK_SIZE / CLUSTER_SECTOR),
                 reg / (OBJECT_SIZE / CLUSTER_SECTOR), report.text);
}

/* ---- replicas
 * ------------------------------------------------------------------------------------------------- */

struct digest {
    uint64_t pg, applied, objects, tombstones, hash;
};

/* What one shard holds; outlives the node. */
struct holdings {
    struct digest pgs[PGS_MAX];
    uint32_t count;
    bool done;
    int error;
};

/* Reads all that a shard's store holds. */
struct snapshot {
    struct op op;
    struct store *store;
    struct holdings *ret;
    const struct store_pg *pg;
    struct store_object_info at;
    bool has_object;
    uint32_t first_block;
    struct store_read read;
};

static void fold(struct digest *d, uint64_t value)
{
    d->hash = hash_pair(d->hash, value);
}

static void fold_images(struct digest *d, const struct store_pg *pg)
{
    for (const struct image_record *image = NULL; (image = store_image_next(pg, image ? image->image : 0));) {
        fold(d, image->image);
        fold(d, image->incarnation);
        fold(d, image->generation);
        fold(d, image->size_bytes);
        fold(d, image->deleted);
    }
}

static void fold_read(struct digest *d, const struct store_read *read)
{
    for (uint32_t i = 0; i < read->block_count; i++) {
        bool written = (read->ret_written[i / 64] >> (i % 64)) & 1;
        fold(d, written ? read->ret_crc[i] + 1ull : 0);
    }
}

/* Starts the next read; false when there is nothing more. */
static bool snapshot_next(struct snapshot *s)
{
    struct holdings *ret = s->ret;

    if (s->has_object && s->first_block < BLOCKS_PER_OBJECT) {
        memset(&s->read, 0, sizeof(s->read));
        store_read_start(&s->read, (struct store_pg *)(uintptr_t)s->pg, s->at.image, s->at.object,
                         s->first_block, IO_BLOCKS_MAX, false, &s->op);
        return true;
    }
    for (;;) {
        if (s->pg && store_object_next(s->pg, !s->has_object, s->at.image, s->at.object, &s->at)) {
            struct digest *d = &ret->pgs[ret->count - 1];
            s->has_object = true;
            s->first_block = 0;
            d->objects++;
            fold(d, s->at.image);
            fold(d, s->at.object);
            fold(d, s->at.index);
            return snapshot_next(s);
        }
        s->pg = store_pg_next(s->store, s->pg);
        s->has_object = false;
        if (!s->pg)
            return false;
        ASSERT(ret->count < PGS_MAX);
        ret->pgs[ret->count++] = (struct digest){
            .pg = s->pg->record.pg, .applied = s->pg->applied_index, .tombstones = s->pg->tombstone_count};
        fold(&ret->pgs[ret->count - 1], s->pg->floor_epoch);
        fold_images(&ret->pgs[ret->count - 1], s->pg);
    }
}

static void snapshot_step(struct op *op)
{
    struct snapshot *s = container_of(op, struct snapshot, op);

    if (op->children)
        return;
    if (op->state == 1) {
        if (s->read.op.result) {
            s->ret->error = s->read.op.result;
            s->ret->done = true;
            op_done(op, 0);
            return;
        }
        fold_read(&s->ret->pgs[s->ret->count - 1], &s->read);
        slice_unref(&s->read.ret_data);
        s->first_block += IO_BLOCKS_MAX;
    }
    op->state = 1;
    if (!snapshot_next(s)) {
        s->ret->done = true;
        op_done(op, 0);
    }
}

static const struct op_kind SNAPSHOT = {"sim.snapshot", NULL, snapshot_step};

struct comparison {
    struct cluster *cluster;
    struct holdings *holdings[CLUSTER_OSDS_MAX][CLUSTER_SHARDS_MAX];
    char what[256]; /* the difference found last */
};

static bool snapshots_done(void *owner)
{
    struct comparison *cmp = owner;

    for (uint32_t i = 0; i < cmp->cluster->osd_count; i++)
        for (uint32_t j = 0; j < cmp->cluster->shard_count; j++)
            if (cmp->holdings[i][j] && !cmp->holdings[i][j]->done)
                return false;
    return true;
}

static bool snapshots_start(struct comparison *cmp)
{
    struct cluster *c = cmp->cluster;

    for (uint32_t i = 0; i < c->osd_count; i++) {
        for (uint32_t j = 0; j < c->shard_count; j++) {
            struct sim_node *node = c->osds[i].process.nodes[j];
            if (!c->osds[i].shards[j]) {
                snprintf(cmp->what, sizeof(cmp->what), "%s does not serve", node->name);
                return false;
            }
        }
    }
    for (uint32_t i = 0; i < c->osd_count; i++) {
        for (uint32_t j = 0; j < c->shard_count; j++) {
            struct sim_node *node = c->osds[i].process.nodes[j];
            cmp->holdings[i][j] = sim_alloc(sizeof(struct holdings));
            sim_node_enter(node);
            struct snapshot *s = calloc(1, sizeof(*s));
            s->store = osd_shard_store(c->osds[i].shards[j]);
            s->ret = cmp->holdings[i][j];
            op_start(&s->op, &node->core, &SNAPSHOT, NULL);
            sim_node_leave(node);
        }
    }
    return true;
}

/* Whether all replicas that exist agree, every PG has three, and removed images are forgotten. */
static bool holdings_agree(struct comparison *cmp)
{
    struct cluster *c = cmp->cluster;
    const struct digest *first[PGS_MAX];
    uint32_t replicas[PGS_MAX] = {0}, count = 0;

    for (uint32_t i = 0; i < c->osd_count * c->shard_count; i++) {
        const struct holdings *h = cmp->holdings[i / c->shard_count][i % c->shard_count];
        if (!h || h->error) {
            snprintf(cmp->what, sizeof(cmp->what), "osd.%u.%u cannot be read: %s", i / c->shard_count,
                     i % c->shard_count, h ? error_text(h->error) : "");
            return false;
        }
        for (uint32_t j = 0; j < h->count; j++) {
            uint32_t at = 0;
            while (at < count && first[at]->pg != h->pgs[j].pg)
                at++;
            if (at == count)
                first[count++] = &h->pgs[j];
            replicas[at]++;
            if (first[at]->hash != h->pgs[j].hash || first[at]->applied != h->pgs[j].applied) {
                snprintf(
                    cmp->what, sizeof(cmp->what),
                    "PG %llx on osd.%u.%u: applied %llu, %llu objects, differs from: applied %llu, %llu objects",
                    ULL(h->pgs[j].pg), i / c->shard_count, i % c->shard_count, ULL(h->pgs[j].applied),
                    ULL(h->pgs[j].objects), ULL(first[at]->applied), ULL(first[at]->objects));
                return false;
            }
            if (h->pgs[j].tombstones) {
                snprintf(cmp->what, sizeof(cmp->what),
                         "PG %llx on osd.%u.%u: %llu removed images are not forgotten", ULL(h->pgs[j].pg),
                         i / c->shard_count, i % c->shard_count, ULL(h->pgs[j].tombstones));
                return false;
            }
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (replicas[i] != 3) {
            snprintf(cmp->what, sizeof(cmp->what), "PG %llx has %u replicas", ULL(first[i]->pg), replicas[i]);
            return false;
        }
    }
    snprintf(cmp->what, sizeof(cmp->what), "%u PGs of %u", count, c->pg_count);
    return count == c->pg_count;
}

void check_replicas(struct cluster *c, uint64_t until_ns)
{
    struct comparison cmp = {.cluster = c};
    bool equal = false;

    while (!c->sim->failed && !equal && c->sim->now_ns < until_ns) {
        sim_run_for(c->sim, COMPARE_NS);
        if (c->sim->failed || !snapshots_start(&cmp))
            continue;
        equal =
            sim_run_while(c->sim, snapshots_done, &cmp, c->sim->now_ns + SNAPSHOT_NS) && holdings_agree(&cmp);
        for (uint32_t i = 0; i < c->osd_count; i++) {
            for (uint32_t j = 0; j < c->shard_count; j++) {
                /* One that is not done is still being written to. */
                if (cmp.holdings[i][j] && !cmp.holdings[i][j]->done)
                    sim_fail(c->sim, "osd.%u.%u: its store's objects could not be read in time", i, j);
                else
                    free(cmp.holdings[i][j]);
                cmp.holdings[i][j] = NULL;
            }
        }
    }
    if (!equal && !c->sim->failed)
        sim_fail(c->sim, "at rest the replicas are not equal: %s", cmp.what);
}
