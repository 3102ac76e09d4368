/* SPDX-License-Identifier: Apache-2.0
 *
 * The disk: coherent reads, durability by flush and FUA alone, and a crash model that really loses and tears.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sim/sim_blk.h"
#include "tests/tap.h"

#define SIZE (64u << 20)

static struct {
    struct sim *sim;
    struct sim_node *node;
    struct sim_disk *disk;
    struct blk *blk;
    bool allow_damage;
} t;

/* A waiter that does nothing: requests are looked at by polling `pending`. */
static void node_started(void *owner, struct sim_node *node)
{
    t.blk = sim_disk_open(t.disk, node, 0, SIZE);
}

static bool may_damage(void *owner, struct sim_disk *disk, enum sim_damage damage, uint64_t offset,
                       uint64_t len)
{
    return t.allow_damage;
}

static void set_up(uint64_t seed, bool volatile_cache, const struct sim_disk_faults *faults)
{
    t.sim = sim_new(seed, false);
    t.disk = sim_disk_new(t.sim,
                          &(struct sim_disk_config){.name = "disk",
                                                    .size_bytes = SIZE,
                                                    .volatile_cache = volatile_cache,
                                                    .keep_older = true,
                                                    .faults = faults ? *faults : (struct sim_disk_faults){0},
                                                    .may_damage = may_damage});
    t.node = sim_node_new(t.sim, &(struct sim_node_config){.name = "n", .host = "h", .start = node_started});
    sim_node_start(t.node);
    t.allow_damage = false;
}

static void tear_down(void)
{
    sim_disk_free(t.disk);
    sim_free(t.sim);
}

static void crash(enum sim_crash kind)
{
    sim_node_crash(t.node, kind);
    sim_node_start(t.node);
}

struct request {
    struct blk_io io;
    struct iovec iov;
};

static void submit(struct request *r, enum blk_type type, uint32_t flags, uint64_t block, void *memory,
                   uint32_t blocks)
{
    *r = (struct request){.io = {.type = type, .flags = flags}};
    r->iov = (struct iovec){memory, blocks * BLOCK_SIZE};
    r->io.offset = block * BLOCK_SIZE;
    r->io.len = (uint64_t)blocks * BLOCK_SIZE;
    r->io.iov = &r->iov;
    r->io.iov_count = 1;
    sim_node_enter(t.node);
    blk_submit(t.blk, &r->io, NULL);
    sim_node_leave(t.node);
    CHECK(r->io.pending);
}

static bool finished(void *owner)
{
    struct request *r = owner;

    return !r->io.pending;
}

static int await(struct request *r)
{
    CHECK(sim_run_while(t.sim, finished, r, t.sim->now_ns + 10 * NS_PER_S));
    return r->io.result;
}

static int run(enum blk_type type, uint32_t flags, uint64_t block, void *memory, uint32_t blocks)
{
    struct request r;

    submit(&r, type, flags, block, memory, blocks);
    return await(&r);
}

static uint8_t *memory_new(uint32_t blocks, uint8_t fill)
{
    uint8_t *memory = aligned_alloc(BLOCK_SIZE, blocks * BLOCK_SIZE);

    memset(memory, fill, blocks * BLOCK_SIZE);
    return memory;
}

/* How many sectors of the range hold `fill`, looked at from outside. */
static uint32_t sectors_with(uint64_t block, uint32_t blocks, uint8_t fill)
{
    uint32_t count = 0;
    uint8_t sector[512];

    for (uint32_t i = 0; i < blocks * 8; i++) {
        sim_disk_peek(t.disk, block * BLOCK_SIZE + i * 512, sector, sizeof(sector));
        bool all = true;
        for (uint32_t j = 0; j < sizeof(sector); j++)
            all &= sector[j] == fill;
        count += all;
    }
    return count;
}

static void reads_see_writes(void)
{
    uint8_t *a = memory_new(4, 0x11), *b = memory_new(4, 0);

    for (int cached = 0; cached < 2; cached++) {
        set_up(1, cached, NULL);
        CHECK_EQ(run(BLK_READ, 0, 8, b, 4), 0);
        CHECK(b[0] == 0 && b[4 * BLOCK_SIZE - 1] == 0);
        CHECK_EQ(run(BLK_WRITE, 0, 10, a, 4), 0);
        CHECK_EQ(run(BLK_READ, 0, 10, b, 4), 0);
        CHECK(memcmp(a, b, 4 * BLOCK_SIZE) == 0);
        CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), 0);
        CHECK_EQ(run(BLK_READ, 0, 10, b, 4), 0);
        CHECK(memcmp(a, b, 4 * BLOCK_SIZE) == 0);
        CHECK_EQ(sim_disk_cached_bytes(t.disk), 0);
        tear_down();
    }
    free(a);
    free(b);
}

static void flushed_is_durable(void)
{
    uint8_t *a = memory_new(8, 0x22);

    for (uint64_t seed = 1; seed <= 30; seed++) {
        set_up(seed, true, NULL);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 8), 0);
        CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), 0);
        CHECK_EQ(run(BLK_WRITE, BLK_FUA, 100, a, 8), 0);
        crash(SIM_CRASH_POWER);
        CHECK_EQ(sectors_with(0, 8, 0x22), 64);
        CHECK_EQ(sectors_with(100, 8, 0x22), 64);
        tear_down();
        /* Without a cache every completed write is. */
        set_up(seed, false, NULL);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 8), 0);
        crash(SIM_CRASH_POWER);
        CHECK_EQ(sectors_with(0, 8, 0x22), 64);
        tear_down();
    }
    free(a);
}

static void unflushed_is_kept_lost_or_torn(void)
{
    uint8_t *a = memory_new(8, 0x33);
    uint32_t kept = 0, lost = 0, torn = 0;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        set_up(seed, true, NULL);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 8), 0);
        crash(SIM_CRASH_POWER);
        uint32_t sectors = sectors_with(0, 8, 0x33);
        CHECK_EQ(sectors + sectors_with(0, 8, 0), 64);
        kept += sectors == 64;
        lost += sectors == 0;
        torn += sectors > 0 && sectors < 64;
        tear_down();
    }
    CHECK(kept > 5 && lost > 5 && torn > 5);
    free(a);
}

static void process_crash_keeps_the_cache(void)
{
    uint8_t *a = memory_new(8, 0x44);

    for (uint64_t seed = 1; seed <= 20; seed++) {
        set_up(seed, true, NULL);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 8), 0);
        crash(SIM_CRASH_PROCESS);
        CHECK_EQ(sectors_with(0, 8, 0x44), 64);
        tear_down();
    }
    free(a);
}

static void flush_covers_what_completed_before(void)
{
    uint8_t *a = memory_new(1, 0x55), *b = memory_new(1, 0x66);
    bool lost = false;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct request write, flush;
        set_up(seed, true, NULL);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), 0);
        /* This one is in flight when the flush is submitted: the flush says nothing about it. */
        submit(&write, BLK_WRITE, 0, 1, b, 1);
        submit(&flush, BLK_FLUSH, 0, 0, NULL, 0);
        await(&flush);
        await(&write);
        crash(SIM_CRASH_POWER);
        CHECK_EQ(sectors_with(0, 1, 0x55), 8);
        lost |= sectors_with(1, 1, 0x66) != 8;
        tear_down();
    }
    CHECK(lost);
    free(a);
    free(b);
}

static void older_cached_write_never_covers_newer_durable(void)
{
    uint8_t *a = memory_new(1, 0x77), *b = memory_new(1, 0x88);

    for (uint64_t seed = 1; seed <= 60; seed++) {
        set_up(seed, true, NULL);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), 0);
        CHECK_EQ(run(BLK_WRITE, BLK_FUA, 0, b, 1), 0);
        CHECK_EQ(sectors_with(0, 1, 0x88), 8);
        crash(SIM_CRASH_POWER);
        CHECK_EQ(sectors_with(0, 1, 0x88), 8);
        tear_down();
    }
    free(a);
    free(b);
}

static void completions_are_reordered(void)
{
    uint8_t *a = memory_new(1, 0x99);
    bool overtaken = false;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct request first, second;
        set_up(seed, true, NULL);
        submit(&first, BLK_WRITE, 0, 0, a, 1);
        submit(&second, BLK_WRITE, 0, 1, a, 1);
        await(&second);
        overtaken |= first.io.pending;
        await(&first);
        tear_down();
    }
    CHECK(overtaken);
    free(a);
}

static void lying_flush_loses(void)
{
    uint8_t *a = memory_new(1, 0xaa);
    bool lost = false;

    for (uint64_t seed = 1; seed <= 30; seed++) {
        set_up(seed, true, &(struct sim_disk_faults){.lying_flush = true});
        CHECK_EQ(run(BLK_WRITE, BLK_FUA, 0, a, 1), 0);
        CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), 0);
        crash(SIM_CRASH_POWER);
        lost |= sectors_with(0, 1, 0xaa) != 8;
        tear_down();
    }
    CHECK(lost);
    free(a);
}

static void injected_errors(void)
{
    uint8_t *a = memory_new(1, 0xbb), *b = memory_new(1, 0);

    set_up(1, true, &(struct sim_disk_faults){.read_error_ppm = 1000000});
    CHECK_EQ(run(BLK_READ, 0, 0, b, 1), 0); /* the atlas does not allow it */
    t.allow_damage = true;
    CHECK_EQ(run(BLK_READ, 0, 0, b, 1), -ERR_IO);
    tear_down();
    set_up(1, true, &(struct sim_disk_faults){.write_error_ppm = 1000000, .flush_error_ppm = 1000000});
    CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), -ERR_IO);
    CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), -ERR_IO);
    tear_down();
    set_up(1, true, NULL);
    CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), 0);
    CHECK(!sim_disk_rot(t.disk, 0, SIZE));
    t.allow_damage = true;
    CHECK(sim_disk_rot(t.disk, 0, SIZE));
    CHECK_EQ(run(BLK_READ, 0, 0, b, 1), 0);
    CHECK(memcmp(a, b, BLOCK_SIZE) != 0);
    CHECK_EQ(sectors_with(0, 1, 0xbb), 7);
    tear_down();
    set_up(1, true, &(struct sim_disk_faults){.misdirect_ppm = 1000000});
    t.allow_damage = true;
    CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), 0);
    CHECK_EQ(sim_disk_stats(t.disk).misdirected, 1);
    CHECK_EQ(sim_disk_stats(t.disk).misdirected, 1);
    tear_down();
    set_up(1, true, &(struct sim_disk_faults){.lose_ppm = 1000000});
    t.allow_damage = true;
    CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), 0);
    CHECK_EQ(sim_disk_stats(t.disk).taken_back, 1);
    CHECK_EQ(sectors_with(0, 1, 0), 8);
    tear_down();
    free(a);
    free(b);
}

/* The last write of a place is undone, all of it and nothing else. */
static void writes_taken_back(void)
{
    uint8_t *a = memory_new(4, 0x11), *b = memory_new(2, 0x22);

    set_up(1, true, NULL);
    t.allow_damage = true;
    CHECK_EQ(run(BLK_WRITE, 0, 0, a, 4), 0);
    CHECK(!sim_disk_is_settled(t.disk, 3 * BLOCK_SIZE, BLOCK_SIZE));
    CHECK(sim_disk_is_settled(t.disk, 4 * BLOCK_SIZE, BLOCK_SIZE));
    CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), 0);
    CHECK(sim_disk_is_settled(t.disk, 0, SIZE));
    CHECK_EQ(run(BLK_WRITE, 0, 1, b, 2), 0);
    CHECK(!sim_disk_lose(t.disk, BLOCK_SIZE, BLOCK_SIZE)); /* in the cache */
    CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), 0);
    CHECK_EQ(sim_disk_written(t.disk, 0), 1);
    CHECK_EQ(sim_disk_written(t.disk, 2 * BLOCK_SIZE), sim_disk_writes(t.disk));
    t.allow_damage = false;
    CHECK(!sim_disk_lose(t.disk, BLOCK_SIZE, BLOCK_SIZE));
    t.allow_damage = true;
    CHECK(sim_disk_lose(t.disk, BLOCK_SIZE, BLOCK_SIZE));
    CHECK_EQ(sectors_with(0, 4, 0x11), 32);
    CHECK(!sim_disk_lose(t.disk, BLOCK_SIZE, BLOCK_SIZE)); /* what was before that is forgotten */
    tear_down();
    free(a);
    free(b);
}

static void stuck_and_hung(void)
{
    uint8_t *a = memory_new(1, 0xcc);
    struct request r;

    set_up(1, true, &(struct sim_disk_faults){.stuck_ppm = 1000000});
    submit(&r, BLK_WRITE, 0, 0, a, 1);
    sim_run_for(t.sim, 100 * NS_PER_S);
    CHECK(r.io.pending);
    crash(SIM_CRASH_PROCESS);
    tear_down();
    set_up(1, true, NULL);
    sim_disk_hang(t.disk, true);
    submit(&r, BLK_WRITE, 0, 0, a, 1);
    sim_run_for(t.sim, 100 * NS_PER_S);
    CHECK(r.io.pending);
    sim_disk_hang(t.disk, false);
    CHECK_EQ(await(&r), 0);
    tear_down();
    free(a);
}

/* What is in the cache is decided then, whoever wrote it; no later flush makes up for that, until the device
 * is opened again. */
static void a_failed_flush_loses_and_stays(void)
{
    uint8_t *a = memory_new(1, 0xaa);
    bool lost = false, kept = false;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        set_up(seed, true, NULL);
        CHECK_EQ(run(BLK_WRITE, BLK_FUA, 1, a, 1), 0);
        CHECK_EQ(run(BLK_WRITE, 0, 0, a, 1), 0);
        sim_disk_set_faults(t.disk, &(struct sim_disk_faults){.flush_error_ppm = 1000000});
        CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), -ERR_IO);
        sim_disk_set_faults(t.disk, &(struct sim_disk_faults){0});
        CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), -ERR_IO);
        lost |= sectors_with(0, 1, 0xaa) == 0;
        kept |= sectors_with(0, 1, 0xaa) == 8;
        CHECK_EQ(sectors_with(1, 1, 0xaa), 8);
        crash(SIM_CRASH_PROCESS);
        CHECK_EQ(run(BLK_FLUSH, 0, 0, NULL, 0), 0);
        tear_down();
    }
    CHECK(lost && kept);
    free(a);
}

static void nobody_writes_a_place_twice_at_once(void)
{
    uint8_t *a = memory_new(4, 0xaa);
    struct request r, s;

    set_up(1, true, NULL);
    submit(&r, BLK_WRITE, 0, 0, a, 4);
    submit(&s, BLK_WRITE, 0, 4, a, 4);
    CHECK_EQ(await(&r), 0);
    CHECK_EQ(await(&s), 0);
    submit(&r, BLK_WRITE, 0, 2, a, 4);
    CHECK(!t.sim->failed);
    submit(&s, BLK_WRITE, 0, 5, a, 1);
    CHECK(t.sim->failed);
    tear_down();
    free(a);
}

int main(void)
{
    TEST(reads_see_writes);
    TEST(flushed_is_durable);
    TEST(unflushed_is_kept_lost_or_torn);
    TEST(process_crash_keeps_the_cache);
    TEST(flush_covers_what_completed_before);
    TEST(older_cached_write_never_covers_newer_durable);
    TEST(completions_are_reordered);
    TEST(lying_flush_loses);
    TEST(injected_errors);
    TEST(writes_taken_back);
    TEST(stuck_and_hung);
    TEST(a_failed_flush_loses_and_stays);
    TEST(nobody_writes_a_place_twice_at_once);
    return tap_done();
}
