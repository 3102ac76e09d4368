/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash table against an array, growing and presized; and the hashes that placement depends on.
 */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "tests/tap.h"

#define KEYS 2000

struct item {
    struct map_node node;
    bool in;
    uint32_t seen;
};

static struct item items[KEYS];

static uint64_t key_of(uint32_t i)
{
    /* Runs of neighbours, as object numbers are, and keys that differ in high bits only. */
    return i & 1 ? i / 2 : (uint64_t)i << 40;
}

static void history(struct map *map)
{
    uint64_t count = 0;

    memset(items, 0, sizeof(items));
    srand(3);
    for (int round = 0; round < 60000 && tap_ok; round++) {
        uint32_t i = (uint32_t)rand() % (KEYS - 1) + 1;
        struct item *item = &items[i];
        struct map_node *found = map_get(map, key_of(i));
        CHECK(found == (item->in ? &item->node : NULL));
        if (!item->in) {
            map_put(map, &item->node, key_of(i));
            count++;
        } else if (rand() & 1) {
            CHECK(map_remove(map, key_of(i)) == &item->node);
            CHECK(map_remove(map, key_of(i)) == NULL);
            count--;
        } else {
            continue;
        }
        item->in = !item->in;
        CHECK_EQ(map->count, count);
    }
    /* Iteration meets each once, and the current one may go. */
    uint64_t met = 0;
    map_for_each (map, node) {
        struct item *item = map_entry(node, struct item, node);
        CHECK(item->in);
        item->seen++;
        met++;
        if (met & 1) {
            map_remove(map, node->key);
            item->in = false;
            memset(&item->node, 0xee, sizeof(item->node));
        }
    }
    CHECK_EQ(met, count);
    CHECK_EQ(map->count, count / 2);
    for (uint32_t i = 0; i < KEYS; i++)
        CHECK(items[i].seen <= 1);
}

static void growing(void)
{
    struct map map;

    map_init(&map);
    CHECK(map_first(&map) == NULL);
    CHECK(map_get(&map, 0) == NULL);
    history(&map);
    CHECK(map.bits >= 9);
    map_fini(&map);
}

static void presized(void)
{
    struct map map;

    map_init(&map);
    CHECK_EQ(map_reserve(&map, 100), 0);
    uint32_t bits = map.bits;
    struct map_node **chains = map.chains;
    history(&map);
    CHECK(map.bits == bits && map.chains == chains);
    map_fini(&map);
}

/* Placement depends on these: they never change. */
static void hashes_are_fixed(void)
{
    CHECK(hash_u64(0) == 0);
    CHECK(hash_u64(1) == 0x5692161d100b05e5ull);
    CHECK(hash_pair(1, 2) != hash_pair(2, 1));
    CHECK(hash_bytes(0, "abc", 3) != hash_bytes(0, "abc\0", 4));
    CHECK(hash_bytes(0, "abc", 3) != hash_bytes(1, "abc", 3));
    CHECK(hash_bytes(5, "123456789", 9) == hash_bytes(5, "123456789", 9));
    /* Low bits of neighbours spread over buckets. */
    uint32_t buckets[64] = {0};
    for (uint64_t i = 0; i < 6400; i++)
        buckets[hash_u64(i) & 63]++;
    for (int i = 0; i < 64; i++)
        CHECK(buckets[i] > 50 && buckets[i] < 160);
}

int main(void)
{
    TEST(growing);
    TEST(presized);
    TEST(hashes_are_fixed);
    return tap_done();
}
