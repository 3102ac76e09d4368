/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is remembered, who is forgotten, and that no entry with an open session ever is.
 */
#include "rpc/seen.h"

#include <string.h>

#include "base/hash.h"
#include "base/le.h"
#include "tests/tap.h"

#define MAX_SEEN 4

static struct rpc_seen_table table;
static struct list nodes[16];

static const uint8_t *id_of(uint64_t n)
{
    static uint8_t id[16];

    memset(id, 0, sizeof(id));
    le_store_u64(id, n);
    return id;
}

static void begin(void)
{
    CHECK_EQ(rpc_seen_init(&table, MAX_SEEN), 0);
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        list_init(&nodes[i]);
}

static void forgets_the_longest_idle(void)
{
    begin();
    struct rpc_seen *seen[MAX_SEEN];
    for (uint64_t n = 0; n < MAX_SEEN; n++) {
        CHECK(rpc_seen_find(&table, id_of(n)) == NULL);
        seen[n] = rpc_seen_add(&table, id_of(n));
        seen[n]->highest = 100 + n;
        rpc_seen_open(seen[n], &nodes[n]);
    }
    /* 2 is idle for longest, then 0. */
    rpc_seen_close(&table, seen[2], &nodes[2]);
    rpc_seen_close(&table, seen[0], &nodes[0]);
    CHECK_EQ(rpc_seen_find(&table, id_of(2))->highest, 102);
    struct rpc_seen *four = rpc_seen_add(&table, id_of(4));
    CHECK(four->highest == 0 && list_empty(&four->sessions));
    CHECK(rpc_seen_find(&table, id_of(2)) == NULL);
    CHECK(rpc_seen_find(&table, id_of(0)) == seen[0]);
    rpc_seen_open(four, &nodes[4]);
    rpc_seen_open(seen[0], &nodes[0]);
    rpc_seen_close(&table, four, &nodes[4]);
    rpc_seen_add(&table, id_of(5));
    CHECK(rpc_seen_find(&table, id_of(4)) == NULL);
    for (uint64_t n = 0; n < MAX_SEEN; n++)
        CHECK_EQ(rpc_seen_find(&table, id_of(n)) != NULL, n != 2);
    rpc_seen_fini(&table);
}

static void several_sessions(void)
{
    begin();
    struct rpc_seen *seen = rpc_seen_add(&table, id_of(9));
    rpc_seen_open(seen, &nodes[0]);
    rpc_seen_open(seen, &nodes[1]);
    rpc_seen_close(&table, seen, &nodes[0]);
    CHECK(!list_linked(&seen->idle) && list_linked(&nodes[1]));
    for (uint64_t n = 10; n < 30; n++)
        rpc_seen_add(&table, id_of(n));
    CHECK(rpc_seen_find(&table, id_of(9)) == seen);
    rpc_seen_close(&table, seen, &nodes[1]);
    for (uint64_t n = 30; n < 50; n++)
        rpc_seen_add(&table, id_of(n));
    CHECK(rpc_seen_find(&table, id_of(9)) == NULL);
    rpc_seen_fini(&table);
}

/* An id made to have the hash of another: hash_pair() can be solved for its last word. */
static uint64_t unmix(uint64_t x)
{
    x ^= x >> 31 ^ x >> 62;
    x *= 0x319642b2d24d8ec3ull;
    x ^= x >> 27 ^ x >> 54;
    x *= 0x96de1b173f119089ull;
    x ^= x >> 30 ^ x >> 60;
    return x;
}

static void same_hash(void)
{
    uint8_t a[16] = {1, 2, 3}, b[16] = {0};
    uint64_t goal = hash_bytes(0, a, 16);

    b[0] = 77;
    /* hash_bytes: h = hash_pair(hash_pair(hash_pair(0, 16), first), second), and hash_pair(h, w) = mix(mix(h
     * + c) + w). */
    uint64_t h = hash_pair(hash_pair(0, 16), le_load_u64(b));
    le_store_u64(b + 8, unmix(goal) - hash_u64(h + 0x9e3779b97f4a7c15ull));
    CHECK(hash_bytes(0, b, 16) == goal);

    begin();
    struct rpc_seen *first = rpc_seen_add(&table, a);
    rpc_seen_open(first, &nodes[0]);
    CHECK(rpc_seen_find(&table, b) == NULL);
    CHECK(rpc_seen_add(&table, b) == NULL);
    rpc_seen_close(&table, first, &nodes[0]);
    struct rpc_seen *second = rpc_seen_add(&table, b);
    CHECK(second && rpc_seen_find(&table, b) == second && rpc_seen_find(&table, a) == NULL);
    rpc_seen_fini(&table);
}

int main(void)
{
    TEST(forgets_the_longest_idle);
    TEST(several_sessions);
    TEST(same_hash);
    return tap_done();
}
