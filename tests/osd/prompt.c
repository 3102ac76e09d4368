/* SPDX-License-Identifier: Apache-2.0
 *
 * A lone write is sent at once to no more members than commit it, and nobody notices: not when the one that
 * is relied upon hangs or is slow, and the others have it a moment later.
 */
#include <string.h>

#include "base/placement.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

static uint8_t data[BLOCK_SIZE];

static struct pg *group_at(struct world *w, uint32_t osd, uint64_t object)
{
    return pg_find(w->osds[osd].shard, world_pg(w, object));
}

static bool has_all(struct world *w, uint32_t osd, uint64_t object)
{
    uint64_t last = group_at(w, world_leader(w, world_pg(w, object)), object)->raft.last_index;

    return group_at(w, osd, object)->raft.last_index == last;
}

/* How many members have the newest entry of the object's group. */
static uint32_t members_with_all(struct world *w, uint64_t object)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        count += has_all(w, i, object);
    return count;
}

/* Every leader knows that all members have everything. */
static bool all_acknowledged(struct world *w)
{
    for (uint32_t i = 0; i < w->pg_count; i++) {
        uint64_t id = placement_pg_id(POOL, i);
        const struct raft *r = &pg_find(w->osds[world_leader(w, id)].shard, id)->raft;
        for (uint32_t m = 0; m < r->member_count; m++)
            if (r->members[m].match != r->last_index)
                return false;
    }
    return true;
}

static struct world *world_led_by_all(uint64_t seed)
{
    struct world *w = world_new(seed, PGS_MAX);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < PGS_MAX; i++)
        world_lead(w, placement_pg_id(POOL, i), i % OSDS);
    return w;
}

/* One write after the other to groups that others than `osd` lead. The longest of them. */
static uint64_t writes_ns(struct world *w, uint32_t count, uint32_t osd)
{
    uint64_t longest_ns = 0;

    for (uint64_t object = 0; count; object = (object + 1) % 64) {
        if (world_leader(w, world_pg(w, object)) == osd)
            continue;
        uint64_t begun_ns = w->sim->now_ns;
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
        longest_ns = MAX(longest_ns, w->sim->now_ns - begun_ns);
        count--;
    }
    return longest_ns;
}

static void test_second_follower_waits(void)
{
    struct world *w = world_led_by_all(91);
    uint32_t alone = 0, waited[OSDS][OSDS] = {0};

    writes_ns(w, 64, OSDS);
    for (uint64_t object = 0; object < 64; object++) {
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
        CHECK(members_with_all(w, object) >= 2);
        alone += members_with_all(w, object) == 2;
        for (uint32_t i = 0; i < OSDS; i++)
            waited[world_leader(w, world_pg(w, object))][i] += !has_all(w, i, object);
    }
    /* Each leader relies on each of the others, for some of its groups. */
    for (uint32_t i = 0; i < OSDS * OSDS; i++)
        CHECK_EQ(waited[i / OSDS][i % OSDS] > 0, i / OSDS != i % OSDS);
    printf("# of 64 lone writes %u were answered before the third member had them\n", alone);
    CHECK(alone > 32);
    WAIT_FOR(w, 3, all_acknowledged(w));
    world_free(w);
}

/* Under load nothing waits. */
static void test_load(void)
{
    struct world *w = world_led_by_all(92);
    static struct io ios[48];
    uint32_t alone = 0;

    for (uint32_t i = 0; i < 48; i++) {
        ios[i] = io_make(w, IO_WRITE, i, 0, BLOCK_SIZE);
        ios[i].data = data;
        io_begin(&ios[i]);
    }
    for (uint32_t i = 0; i < 24; i++) {
        WAIT_FOR(w, 100, ios[i].done);
        CHECK_EQ(ios[i].result, 0);
    }
    for (uint32_t i = 0; i < 24; i++)
        alone += members_with_all(w, i) == 2;
    printf("# of 24 writes among 48 the third member lacked %u\n", alone);
    CHECK(alone < 12);
    for (uint32_t i = 24; i < 48; i++)
        WAIT_FOR(w, 100, ios[i].done);
    world_free(w);
}

static void test_relied_upon_hangs(void)
{
    for (uint32_t osd = 0; osd < OSDS; osd++) {
        struct world *w = world_led_by_all(93 + osd);

        writes_ns(w, 64, osd);
        sim_node_pause(w->osds[osd].node);
        uint64_t first_ns = writes_ns(w, 12, osd), later_ns = writes_ns(w, 40, osd);
        printf("# osd.%u hangs: %u us at first, %u us later\n", osd, (unsigned)(first_ns / NS_PER_US),
               (unsigned)(later_ns / NS_PER_US));
        CHECK(first_ns < 4 * NS_PER_MS);
        CHECK(later_ns < NS_PER_MS);
        sim_node_resume(w->osds[osd].node);
        WAIT_FOR(w, 2000, all_acknowledged(w));
        world_free(w);
    }
}

/* Who is slow is not relied upon, though it answers. */
static void test_slow_member(void)
{
    for (uint32_t osd = 0; osd < OSDS; osd++) {
        struct world *w = world_led_by_all(96 + osd);

        sim_net_set_lag(w->net, w->osds[osd].node->host, 500 * NS_PER_US);
        writes_ns(w, 100, osd);
        uint64_t longest_ns = writes_ns(w, 100, osd);
        printf("# osd.%u is slow: %u us\n", osd, (unsigned)(longest_ns / NS_PER_US));
        CHECK(longest_ns < 500 * NS_PER_US);
        world_free(w);
    }
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_second_follower_waits);
    TEST(test_load);
    TEST(test_relied_upon_hangs);
    TEST(test_slow_member);
    fake_store_forget_all();
    return tap_done();
}
