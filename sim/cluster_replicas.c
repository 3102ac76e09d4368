/* SPDX-License-Identifier: Apache-2.0
 *
 * All replicas of a PG hold the same objects, blocks and image records at rest, read from their stores with
 * checksums verified. After a deep scrub of everything no block is damaged on one of them and whole on
 * another.
 */
#include "sim/cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "osd/shard.h"

#define COMPARE_NS  (500 * NS_PER_MS)
#define SNAPSHOT_NS (30 * NS_PER_S)
#define PGS_MAX     64
#define OBJECTS_MAX 256

#define ULL(x) ((unsigned long long)(x))

/* What a shard holds of an object. `value`: 0 not written, else checksum + 1, as its page says; verified,
 * where the block is not damaged. */
struct held_object {
    uint64_t image, object, index;
    uint64_t value[BLOCKS_PER_OBJECT];
    bool damaged[BLOCKS_PER_OBJECT];
};

struct held_pg {
    uint64_t pg, applied, tombstones;
    uint64_t images; /* hash of the records, and of what is forgotten */
    enum store_pg_state state;
    uint32_t object_count;
    struct held_object *objects[OBJECTS_MAX];
};

/* What one shard holds; outlives the node. */
struct holdings {
    struct held_pg pgs[PGS_MAX];
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

static uint64_t images_hash(const struct store_pg *pg)
{
    uint64_t hash = pg->floor_epoch;

    for (const struct image_record *image = NULL; (image = store_image_next(pg, image ? image->image : 0));) {
        hash = hash_pair(hash, image->image);
        hash = hash_pair(hash, image->incarnation);
        hash = hash_pair(hash, image->generation);
        hash = hash_pair(hash, image->size_bytes);
        hash = hash_pair(hash, image->deleted);
    }
    return hash;
}

static struct held_object *snapshot_object(struct snapshot *s)
{
    struct held_pg *held = &s->ret->pgs[s->ret->count - 1];

    return held->objects[held->object_count - 1];
}

static void take_read(struct snapshot *s)
{
    struct held_object *o = snapshot_object(s);

    for (uint32_t i = 0; i < s->read.block_count; i++) {
        bool written = (s->read.ret_written[i / 64] >> (i % 64)) & 1;
        o->value[s->first_block + i] = written ? s->read.ret_crc[i] + 1ull : 0;
        o->damaged[s->first_block + i] = (s->read.ret_damaged[i / 64] >> (i % 64)) & 1;
    }
}

static void snapshot_pg(struct snapshot *s)
{
    struct held_pg *held = &s->ret->pgs[s->ret->count++];

    ASSERT(s->ret->count <= PGS_MAX);
    *held = (struct held_pg){.pg = s->pg->record.pg,
                             .applied = s->pg->applied_index,
                             .tombstones = s->pg->tombstone_count,
                             .images = images_hash(s->pg),
                             .state = s->pg->record.state};
}

static void snapshot_object_begin(struct snapshot *s)
{
    struct held_pg *held = &s->ret->pgs[s->ret->count - 1];

    ASSERT(held->object_count < OBJECTS_MAX);
    struct sim_heap *heap = sim_heap_enter(NULL);
    struct held_object *o = sim_alloc(sizeof(*o));
    sim_heap_enter(heap);
    o->image = s->at.image;
    o->object = s->at.object;
    o->index = s->at.index;
    held->objects[held->object_count++] = o;
}

static void holdings_free(struct holdings *h)
{
    for (uint32_t i = 0; i < h->count; i++)
        for (uint32_t j = 0; j < h->pgs[i].object_count; j++)
            free(h->pgs[i].objects[j]);
    free(h);
}

/* An object without blocks is as good as none: the one is what a discard leaves, the other what a copy makes
 * of it. */
static void snapshot_object_end(struct snapshot *s)
{
    struct held_pg *held = &s->ret->pgs[s->ret->count - 1];
    struct held_object *o = snapshot_object(s);

    for (uint32_t i = 0; i < BLOCKS_PER_OBJECT; i++)
        if (o->value[i] || o->damaged[i])
            return;
    struct sim_heap *heap = sim_heap_enter(NULL);
    free(o);
    sim_heap_enter(heap);
    held->object_count--;
}

/* Starts the next read; false when there is nothing more. */
static bool snapshot_next(struct snapshot *s)
{
    for (;;) {
        if (s->has_object && s->first_block < BLOCKS_PER_OBJECT) {
            memset(&s->read, 0, sizeof(s->read));
            store_read_start(&s->read, (struct store_pg *)(uintptr_t)s->pg, s->at.image, s->at.object,
                             s->first_block, IO_BLOCKS_MAX, false, &s->op);
            return true;
        }
        if (s->has_object)
            snapshot_object_end(s);
        if (s->pg && store_object_next(s->pg, !s->has_object, s->at.image, s->at.object, &s->at)) {
            s->has_object = true;
            s->first_block = 0;
            snapshot_object_begin(s);
            continue;
        }
        s->pg = store_pg_next(s->store, s->pg);
        s->has_object = false;
        if (!s->pg)
            return false;
        snapshot_pg(s);
    }
}

static void snapshot_step(struct op *op)
{
    struct snapshot *s = container_of(op, struct snapshot, op);

    if (op->children)
        return;
    if (op->state == 1) {
        int error = s->read.op.result;
        op->child_result = 0;
        slice_unref(&s->read.ret_data);
        if (error && error != -ERR_DAMAGED) {
            s->ret->error = error;
            s->ret->done = true;
            op_done(op, 0);
            free(s);
            return;
        }
        take_read(s);
        s->first_block += IO_BLOCKS_MAX;
    }
    op->state = 1;
    if (!snapshot_next(s)) {
        s->ret->done = true;
        op_done(op, 0);
        free(s);
    }
}

static const struct op_kind SNAPSHOT = {"sim.snapshot", NULL, snapshot_step};

struct comparison {
    struct cluster *cluster;
    struct holdings *holdings[CLUSTER_OSDS_MAX][CLUSTER_SHARDS_MAX];
    uint64_t damaged; /* blocks, where that may be */
    char what[256];   /* the difference found last */
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

static bool differs(struct comparison *cmp, const char *format, ...) PRINTF_LIKE(2, 3);
static bool differs(struct comparison *cmp, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(cmp->what, sizeof(cmp->what), format, args);
    va_end(args);
    return false;
}

/* One shard's own: nothing is damaged that must not be, and removed images are forgotten. */
static bool holdings_sound(struct comparison *cmp, uint32_t osd, uint32_t shard)
{
    const struct cluster *c = cmp->cluster;
    const struct holdings *h = cmp->holdings[osd][shard];
    /* Who recovers takes what there is: blocks that are damaged at the victim, when nobody else answers. */
    bool may = c->damage;

    if (!h || h->error)
        return differs(cmp, "osd.%u.%u cannot be read: %s", osd, shard, h ? error_text(h->error) : "");
    for (uint32_t i = 0; i < h->count; i++) {
        const struct held_pg *pg = &h->pgs[i];
        if (pg->state != STORE_PG_NORMAL)
            return differs(cmp, "PG %llx on osd.%u.%u is still to recover", ULL(pg->pg), osd, shard);
        if (pg->tombstones && !damage_is_uncovered(c))
            return differs(cmp, "PG %llx on osd.%u.%u: %llu removed images are not forgotten", ULL(pg->pg),
                           osd, shard, ULL(pg->tombstones));
        for (uint32_t j = 0; j < pg->object_count; j++) {
            for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++) {
                cmp->damaged += pg->objects[j]->damaged[b];
                if (pg->objects[j]->damaged[b] && !may)
                    return differs(cmp, "PG %llx on osd.%u.%u: block %u of object %llu is damaged",
                                   ULL(pg->pg), osd, shard, b, ULL(pg->objects[j]->object));
            }
        }
    }
    return true;
}

/* A damaged block may be anything, but where its checksum is known that must be the right one. */
static bool block_agrees(const struct held_object *a, const struct held_object *b, uint32_t block)
{
    return a->value[block] == b->value[block] || (a->damaged[block] && a->value[block] == 1) ||
           (b->damaged[block] && b->value[block] == 1);
}

static bool pgs_agree(struct comparison *cmp, const struct held_pg *a, const struct held_pg *b)
{
    if (a->applied != b->applied)
        return differs(cmp, "PG %llx: applied to %llu and %llu", ULL(a->pg), ULL(a->applied),
                       ULL(b->applied));
    if (a->images != b->images)
        return differs(cmp, "PG %llx: image records differ", ULL(a->pg));
    if (a->object_count != b->object_count)
        return differs(cmp, "PG %llx: %u and %u objects", ULL(a->pg), a->object_count, b->object_count);
    for (uint32_t i = 0; i < a->object_count; i++) {
        const struct held_object *x = a->objects[i], *y = b->objects[i];
        if (x->image != y->image || x->object != y->object || x->index != y->index)
            return differs(cmp, "PG %llx: object %llu/%llu of index %llu, and %llu/%llu of %llu", ULL(a->pg),
                           ULL(x->image), ULL(x->object), ULL(x->index), ULL(y->image), ULL(y->object),
                           ULL(y->index));
        for (uint32_t block = 0; block < BLOCKS_PER_OBJECT; block++) {
            if (x->damaged[block] != y->damaged[block])
                return differs(
                    cmp, "PG %llx: object %llu/%llu: block %u is damaged on one replica, and not repaired",
                    ULL(a->pg), ULL(x->image), ULL(x->object), block);
            if (!block_agrees(x, y, block))
                return differs(cmp, "PG %llx: object %llu/%llu: block %u differs", ULL(a->pg), ULL(x->image),
                               ULL(x->object), block);
        }
    }
    return true;
}

/* Whether all replicas that exist agree, and every PG has as many as it should. */
static bool holdings_agree(struct comparison *cmp)
{
    struct cluster *c = cmp->cluster;
    uint32_t shards = c->osd_count * c->shard_count, replicas = 0;

    cmp->damaged = 0;
    for (uint32_t i = 0; i < shards; i++)
        if (!holdings_sound(cmp, i / c->shard_count, i % c->shard_count))
            return false;
    for (uint32_t i = 0; i < shards; i++) {
        const struct holdings *h = cmp->holdings[i / c->shard_count][i % c->shard_count];
        replicas += h->count;
        for (uint32_t j = 0; j < h->count; j++) {
            uint32_t others = 0;
            for (uint32_t k = 0; k < shards; k++) {
                const struct holdings *other = cmp->holdings[k / c->shard_count][k % c->shard_count];
                for (uint32_t l = 0; l < other->count; l++) {
                    if (k == i || other->pgs[l].pg != h->pgs[j].pg)
                        continue;
                    others++;
                    if (k > i && !pgs_agree(cmp, &h->pgs[j], &other->pgs[l]))
                        return false;
                }
            }
            if (others + 1 != c->replicas)
                return differs(cmp, "PG %llx has %u replicas", ULL(h->pgs[j].pg), others + 1);
        }
    }
    differs(cmp, "%u replicas of %u PGs", replicas, c->pg_count);
    return replicas == c->replicas * c->pg_count;
}

void replicas_check(struct cluster *c, uint64_t until_ns)
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
                else if (cmp.holdings[i][j])
                    holdings_free(cmp.holdings[i][j]);
                cmp.holdings[i][j] = NULL;
            }
        }
    }
    c->damaged_blocks = cmp.damaged;
    if (!equal && !c->sim->failed)
        sim_fail(c->sim, "at rest the replicas are not equal: %s", cmp.what);
}
