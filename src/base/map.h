/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash table from 64-bit keys to nodes, intrusive and chained: a node is embedded in what it finds, so
 * putting one in needs no memory and cannot fail. A key is in the table at most once.
 *
 * The array of chains doubles when there are as many nodes as chains, in a small table half as many, so that
 * what is looked for is mostly the first of its chain; unless the table was presized by map_reserve(): that
 * one never allocates again, and is what the data path uses. When there is no memory for doubling the chains
 * just get longer. The order of iteration depends only on the history of puts and removes, so it replays.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/base.h"
#include "base/hash.h"

struct map_node {
    uint64_t key;
    struct map_node *next; /* in its chain */
};

struct map {
    struct map_node **chains;
    struct map_node *only_chain; /* before the first growth */
    uint32_t bits;               /* there are 2^bits chains */
    bool fixed;
    uint64_t count;
};

/* Needs no memory. A map must not be moved: an empty one points to itself. */
void map_init(struct map *map);
/* Frees the chains; the nodes that may still be in it are left alone. */
void map_fini(struct map *map);
/* Makes room for `count` nodes, after which the table never allocates again. The map must be empty.
 * ERR_NO_MEMORY. */
MUST_CHECK int map_reserve(struct map *map, uint64_t count);

/* Puts `node` in under `key`, which must not be there. */
void map_put(struct map *map, struct map_node *node, uint64_t key);
/* Takes out and returns the node of `key`, or NULL. */
struct map_node *map_remove(struct map *map, uint64_t key);

static inline uint64_t map_chain(const struct map *map, uint64_t key)
{
    return hash_u64(key) & ((1ull << map->bits) - 1);
}

/* The node of `key`, or NULL. */
static inline struct map_node *map_get(const struct map *map, uint64_t key)
{
    struct map_node *node = map->chains[map_chain(map, key)];
    while (node && node->key != key)
        node = node->next;
    return node;
}

/* What is likely to be the node of `key`, or NULL, without a look at it: to be fetched ahead. */
static inline const struct map_node *map_hint(const struct map *map, uint64_t key)
{
    return map->chains[map_chain(map, key)];
}

/* The first node, and the one after `node`, in the order of iteration, or NULL. map_next(map, NULL) is NULL.
 */
struct map_node *map_first(const struct map *map);
struct map_node *map_next(const struct map *map, const struct map_node *node);

#define map_entry(node, type, member) container_of(node, type, member)

/* The current node may be removed (and freed) inside the loop; nothing may be put in. */
#define map_for_each(map, node)                                                                              \
    for (struct map_node *node = map_first(map), *node##_next = map_next(map, node); node;                   \
         node = node##_next, node##_next = map_next(map, node))

#endif
