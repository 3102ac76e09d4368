/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks that nobody has any more, though only one disk is damaged: which of them may be.
 *
 * The victim's disk (cluster_damage.c) loses a block; another member takes the mark of that along when it has
 * to recover; and the third, which has the block, is away for so long that it must recover, too. If what it
 * has is then older than the newest entry that may have touched the block, it may be an older block, and
 * gives way (docs/reliability.md, rule 5.52). That is all that may happen, so it is looked at while it does:
 * of each object on each shard what is known here is its index and which of its blocks are lost. A block that
 * a member of the others loses must have been of an object that was older than the mark which it has got, as
 * that mark's index says: that a block of a newer one gives way is a failure at once, whoever else has it. So
 * is everything else that cannot be read in the end.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sim/cluster.h"
#include "store/opening.h"

#define LOOK_NS (10 * NS_PER_MS)
#define WORDS   (BLOCKS_PER_OBJECT / 64)

/* An object on a shard. */
struct known {
    struct map_node node; /* by hash of shard, image and number */
    uint64_t look;        /* of its shard's, when it was last there */
    uint64_t index;
    uint64_t lost[WORDS];
    uint64_t excused[WORDS]; /* of these: it was older than the mark that took its place */
};

struct lost {
    struct map known;
    uint64_t next_ns;
    uint64_t incarnations[CLUSTER_OSDS_MAX][CLUSTER_SHARDS_MAX], looks[CLUSTER_OSDS_MAX][CLUSTER_SHARDS_MAX];
};

void lost_init(struct cluster *c)
{
    if (!c->damage)
        return;
    c->lost = sim_alloc(sizeof(*c->lost));
    map_init(&c->lost->known);
}

void lost_fini(struct cluster *c)
{
    if (!c->lost)
        return;
    map_for_each (&c->lost->known, node) {
        map_remove(&c->lost->known, node->key);
        free(map_entry(node, struct known, node));
    }
    map_fini(&c->lost->known);
    free(c->lost);
}

static uint64_t known_key(uint32_t osd, uint32_t shard, uint64_t image, uint64_t object)
{
    return hash_pair(hash_pair(osd * CLUSTER_SHARDS_MAX + shard, 9), hash_pair(image, object));
}

static struct known *known_of(struct lost *l, uint64_t key)
{
    struct map_node *node = map_get(&l->known, key);

    if (node)
        return map_entry(node, struct known, node);
    struct known *k = sim_alloc(sizeof(*k));
    map_put(&l->known, &k->node, key);
    return k;
}

static bool has_bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void lost_now(const struct object *o, uint64_t ret_lost[WORDS])
{
    memset(ret_lost, 0, WORDS * sizeof(*ret_lost));
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
        if (page_map_get(&o->map, b / BLOCKS_PER_CHUNK).lost >> b % BLOCKS_PER_CHUNK & 1 &&
            object_lacks_block(o, b))
            ret_lost[b / 64] |= 1ull << b % 64;
}

static void look_at_object(struct cluster *c, uint32_t osd, uint32_t shard, bool started,
                           const struct object *o)
{
    uint64_t look = c->lost->looks[osd][shard];
    struct known *k = known_of(c->lost, known_key(osd, shard, o->image, o->number));
    uint64_t lost[WORDS];
    uint32_t gave_way = 0;

    if (k->look + 1 != look) /* it was gone meanwhile */
        *k = (struct known){.node = k->node};
    k->look = look;
    lost_now(o, lost);
    for (uint32_t w = 0; w < WORDS; w++) {
        uint64_t new = lost[w] & ~k->lost[w];
        k->excused[w] &= lost[w];
        if (k->index < o->lost_index)
            k->excused[w] |= new;
        gave_way += (uint32_t)__builtin_popcountll(new);
        k->lost[w] = lost[w];
    }
    /* At a start a block is lost again that was written over, until that is applied anew. */
    if (gave_way && k->index > o->lost_index && !started && !damage_is_victim(c, osd) &&
        !damage_is_uncovered(c))
        sim_fail(c->sim, "osd.%u: %u blocks of object %llu/%llu, at %llu, gave way to a mark of %llu", osd,
                 gave_way, (unsigned long long)o->image, (unsigned long long)o->number,
                 (unsigned long long)k->index, (unsigned long long)o->lost_index);
    k->index = o->index;
}

/* False: not now. */
static bool look_at_shard(struct cluster *c, uint32_t osd, uint32_t shard, bool started)
{
    const struct store *s = osd_shard_store(c->osds[osd].shards[shard]);

    /* What goes to another PG just now is in neither. */
    for (struct store_pg *pg = NULL; (pg = store_pg_next(s, pg));)
        if (pg_of(pg)->splitting)
            return false;
    c->lost->looks[osd][shard]++;
    for (struct store_pg *pg = NULL; (pg = store_pg_next(s, pg));) {
        struct store_object_info at = {0};
        for (bool start = true; store_object_next(pg, start, at.image, at.object, &at); start = false)
            look_at_object(c, osd, shard, started, object_find(pg_of(pg), at.image, at.object));
    }
    return true;
}

void lost_watch(struct cluster *c)
{
    struct lost *l = c->lost;
    bool all = l && c->sim->now_ns >= l->next_ns;

    for (uint32_t i = 0; l && i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->shard_count; j++) {
            if (!c->osds[i].shards[j])
                continue;
            /* What was applied and not on a page is not its own any more. */
            uint64_t incarnation = c->osds[i].process.nodes[j]->incarnation;
            bool started = incarnation != l->incarnations[i][j];
            if ((all || started) && look_at_shard(c, i, j, started))
                l->incarnations[i][j] = incarnation;
        }
    if (all)
        l->next_ns = c->sim->now_ns + LOOK_NS;
}

bool lost_may(const struct cluster *c, uint64_t image, uint64_t object, uint32_t block)
{
    uint32_t excused = 0;

    for (uint32_t i = 0; c->lost && i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->shard_count; j++) {
            if (damage_is_victim(c, i) || !c->osds[i].shards[j])
                continue;
            const struct map_node *node = map_get(&c->lost->known, known_key(i, j, image, object));
            const struct known *k = node ? map_entry(node, struct known, node) : NULL;
            if (!k || k->look != c->lost->looks[i][j])
                continue;
            if (!has_bit(k->excused, block))
                return false;
            excused++;
        }
    return excused;
}
