/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash table's slow half: growth, removal, iteration.
 */
#include "base/map.h"

#include <stdlib.h>

#include "base/error.h"

#define MAP_BITS_FIRST 4
#define MAP_BITS_SMALL 16
#define MAP_BITS_MAX   40

void map_init(struct map *map)
{
    *map = (struct map){.chains = &map->only_chain};
}

void map_fini(struct map *map)
{
    if (map->chains != &map->only_chain)
        free(map->chains);
    map_init(map);
}

int map_reserve(struct map *map, uint64_t count)
{
    uint32_t bits = 0;

    ASSERT(map->count == 0);
    while (bits < MAP_BITS_MAX && (1ull << bits) < count)
        bits++;
    struct map_node **chains = calloc(1ull << bits, sizeof(struct map_node *));
    if (!chains)
        return -ERR_NO_MEMORY;
    map_fini(map);
    map->chains = chains;
    map->bits = bits;
    map->fixed = true;
    return 0;
}

static void map_grow(struct map *map)
{
    struct map old = *map;
    uint64_t old_chains = 1ull << old.bits;
    uint32_t bits = old.bits ? old.bits + 1 : MAP_BITS_FIRST;

    if (bits > MAP_BITS_MAX)
        return;
    struct map_node **chains = calloc(1ull << bits, sizeof(struct map_node *));
    if (!chains)
        return;
    map->chains = chains;
    map->bits = bits;
    for (uint64_t i = 0; i < old_chains; i++) {
        struct map_node *node = old.chains[i];
        while (node) {
            struct map_node *next = node->next;
            uint64_t chain = map_chain(map, node->key);
            node->next = chains[chain];
            chains[chain] = node;
            node = next;
        }
    }
    if (old.chains == &map->only_chain)
        map->only_chain = NULL;
    else
        free(old.chains);
}

static bool map_is_full(const struct map *map)
{
    return map->count >> map->bits || (map->bits < MAP_BITS_SMALL && 2 * map->count >> map->bits);
}

void map_put(struct map *map, struct map_node *node, uint64_t key)
{
    ASSERT(!map_get(map, key));
    if (!map->fixed && map_is_full(map))
        map_grow(map);
    struct map_node **chain = &map->chains[map_chain(map, key)];
    node->key = key;
    node->next = *chain;
    *chain = node;
    map->count++;
}

struct map_node *map_remove(struct map *map, uint64_t key)
{
    struct map_node **at = &map->chains[map_chain(map, key)];

    while (*at && (*at)->key != key)
        at = &(*at)->next;
    struct map_node *node = *at;
    if (node) {
        *at = node->next;
        node->next = NULL;
        map->count--;
    }
    return node;
}

static struct map_node *map_first_from(const struct map *map, uint64_t chain)
{
    for (; chain < 1ull << map->bits; chain++)
        if (map->chains[chain])
            return map->chains[chain];
    return NULL;
}

struct map_node *map_first(const struct map *map)
{
    return map->count ? map_first_from(map, 0) : NULL;
}

struct map_node *map_next(const struct map *map, const struct map_node *node)
{
    if (!node)
        return NULL;
    return node->next ? node->next : map_first_from(map, map_chain(map, node->key) + 1);
}
