/* SPDX-License-Identifier: Apache-2.0
 *
 * A PG is to move to a shard that has not room for all of it. With the real store.
 */
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/real_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

void fake_store_forget_all(void)
{
}

enum { OBJECTS = 300, TARGET = 3 };

static const struct group_member *joining(struct world *w, uint64_t pg)
{
    uint32_t leader = world_leader(w, pg);
    struct pg *leads = leader == UINT32_MAX ? NULL : pg_find(w->osds[leader].shard, pg);

    return leads ? group_find(&leads->raft.group, w->pgs[0].replica_next) : NULL;
}

/* It takes what leaves room for others to write, waits, and becomes a member when there is more. */
static void test_leaves_room(void)
{
    struct world *w = world_new(71, 1);
    struct world_pg *map = &w->pgs[0];
    uint64_t pg = world_pg(w, 0);
    static uint8_t data[BLOCK_SIZE];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < OBJECTS; i++)
        CHECK_EQ(world_write(w, i, 0, BLOCK_SIZE, data), 0);
    struct store *store = osd_shard_store(w->osds[TARGET].shard);
    uint32_t taken = real_store_take(store, OBJECTS * CHUNK_SIZE / 2);
    map->wanted = map->member;
    map->wanted.row[map->wanted.count++] = (Fb__PgMember){
        .base = map->member.row[0].base, .replica = map->replica_next, .osd = TARGET, .birth = w->epoch + 1};
    map->wanted_epoch = w->epoch + 1;
    world_feed_map(w);
    WAIT_FOR(w, 5000, world_replica(w, TARGET, pg));
    map->wanted.row[map->wanted.count - 1].born = true;
    world_feed_map(w);
    WAIT_FOR(w, 5000, joining(w, pg) && world_replica(w, TARGET, pg)->object_count > OBJECTS / 10);
    for (uint32_t i = 0; i < 500; i++) {
        sim_run_for(w->sim, 10 * NS_PER_MS);
        CHECK(store_space(store).free_bytes >= PG_SPACE_MARGIN);
    }
    CHECK_EQ(joining(w, pg)->flags, 0);
    real_store_give_back(store, taken);
    WAIT_FOR(w, 10000, joining(w, pg)->flags == GROUP_VOTER && world_settled(w));
    CHECK_EQ(world_replica(w, TARGET, pg)->object_count, OBJECTS);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_leaves_room);
    return tap_done();
}
