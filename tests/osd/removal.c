/* SPDX-License-Identifier: Apache-2.0
 *
 * An image of many objects is removed, or cut off, while it is read: its objects are cleared a few in each
 * turn, and until that is done the record does not tell. Whoever knew the image gets what was written, or is
 * refused; what is cleared is no data. Nor does a scrub compare it. With the real store, on processors that
 * take their time.
 */
#include <string.h>

#include "base/error.h"
#include "osd/scrub.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define OBJECTS 60u
#define READS   64u
#define WORK_NS (10 * NS_PER_US)
#define DISK_NS (2 * NS_PER_MS)
#define CACHE   (1u << 20)

void fake_store_forget_all(void)
{
}

static uint8_t data[BLOCK_SIZE], got[READS][BLOCK_SIZE];
static struct io reads[READS];

static bool applied(const struct world *w, uint64_t generation)
{
    for (uint32_t i = 0; i < OSDS; i++) {
        const struct store_pg *sp = world_replica(w, i, world_pg(w, 0));
        const struct image_record *record = store_image_get(sp, IMAGE);
        if (record && !record->deleted && record->generation < generation)
            return false;
    }
    return true;
}

static bool all_done(void)
{
    bool done = true;

    for (uint32_t i = 0; i < READS; i++)
        done &= reads[i].done;
    return done;
}

static void check_reads(const struct world *w)
{
    uint32_t read = 0, refused = 0;

    for (uint32_t i = 0; i < READS; i++)
        if (reads[i].result) {
            CHECK(reads[i].result == -ERR_STALE_GENERATION || reads[i].result == -ERR_RETRY);
            refused++;
        } else {
            CHECK_EQ(memcmp(got[i], data, BLOCK_SIZE), 0);
            read++;
        }
    printf("# %u reads: %u read, %u refused\n", READS, read, refused);
    CHECK(read && refused);
}

static void set_trouble(struct world *w, uint64_t work_ns, uint64_t disk_ns)
{
    struct sim_disk_faults slow = {.slow_ppm = disk_ns ? 1000000 : 0, .slow_ns = disk_ns};

    for (uint32_t i = 0; i < OSDS; i++) {
        w->osds[i].node->config.work_ns = work_ns;
        sim_disk_set_faults(w->osds[i].disk, &slow);
    }
}

static struct world *begin(uint64_t seed)
{
    struct world *w = world_new(seed, 1);

    for (uint32_t i = 0; i < OSDS; i++) {
        world_osd_stop(w, i);
        w->cache_bytes = CACHE;
        world_osd_start(w, i);
    }
    WAIT_FOR(w, 5000, world_settled(w));
    memset(data, 7, sizeof(data));
    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < OBJECTS; i++)
        CHECK_EQ(world_write(w, i, 0, BLOCK_SIZE, data), 0);
    for (uint32_t i = 0; i < 2 * CACHE / BLOCK_SIZE; i++) /* of these nothing is in memory any more */
        CHECK_EQ(world_write(w, OBJECTS, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    return w;
}

static void order(struct world *w, bool deleted)
{
    world_order(w, IMAGE, 0, deleted);
}

static void read_beside(uint64_t seed, bool deleted)
{
    struct world *w = begin(seed);
    uint32_t leader = world_leader(w, world_pg(w, 0));

    set_trouble(w, WORK_NS, DISK_NS);
    for (uint32_t i = 0; i < READS; i++) {
        if (i == READS / 4)
            order(w, deleted);
        reads[i] = io_make(w, IO_READ, i % OBJECTS, 0, BLOCK_SIZE);
        reads[i].ret_data = got[i];
        reads[i].once = true;
        reads[i].force_osd = leader + 1;
        io_begin(&reads[i]);
        sim_run_for(w->sim, 2 * WORK_NS);
    }
    WAIT_FOR(w, 5000, all_done() && applied(w, 2));
    check_reads(w);
    set_trouble(w, 0, 0);
    world_free(w);
}

static void test_removed(void)
{
    for (uint64_t seed = 81; seed < 86; seed++)
        read_beside(seed, true);
}

static void test_cut_off(void)
{
    for (uint64_t seed = 86; seed < 91; seed++)
        read_beside(seed, false);
}

static int look(struct world *w, uint32_t osd)
{
    static struct scrub_look l;
    const struct scrub_range all = {0};

    sim_node_enter(w->osds[osd].node);
    scrub_look_start(&l, pg_find(w->osds[osd].shard, world_pg(w, 0)), &all, NULL, 0, NULL);
    sim_node_leave(w->osds[osd].node);
    WAIT_FOR(w, 5000, !op_live(&l.op));
    return l.op.result;
}

static void test_scrubbed(void)
{
    struct world *w = begin(91);
    const struct store_pg *sp = world_replica(w, 1, world_pg(w, 0));

    CHECK_EQ(look(w, 1), 0);
    set_trouble(w, 10 * WORK_NS, 0);
    order(w, true);
    WAIT_FOR(w, 5000, store_applying(sp));
    CHECK_EQ(look(w, 1), -ERR_RECOVERING);
    WAIT_FOR(w, 5000, applied(w, 2));
    CHECK_EQ(look(w, 1), 0);
    set_trouble(w, 0, 0);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_removed);
    TEST(test_cut_off);
    TEST(test_scrubbed);
    return tap_done();
}
