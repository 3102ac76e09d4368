/* SPDX-License-Identifier: Apache-2.0
 *
 * Scrub: damage that nobody read is found on every replica and repaired; objects that differ are told, and
 * made equal on order only; what no replica has is listed until it is whole again; a new leader goes on where
 * the old one was.
 */
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "osd/scrub_lead.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define OBJECTS 40

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];
static uint64_t order_number;

static struct pg *pg_on(struct world *w, uint32_t osd)
{
    return w->osds[osd].shard ? pg_find(w->osds[osd].shard, world_pg(w, 0)) : NULL;
}

static struct store *store_on(struct world *w, uint32_t osd)
{
    return osd_shard_store(w->osds[osd].shard);
}

/* What a monitor would say to all that lead. */
static void tell_orders(struct world *w, Fb__ScrubOrder **orders, size_t count, bool paused)
{
    for (uint32_t i = 0; i < OSDS; i++) {
        if (!w->osds[i].shard)
            continue;
        sim_node_enter(w->osds[i].node);
        scrub_take_orders(w->osds[i].shard, orders, count);
        scrub_take_pause(w->osds[i].shard, paused);
        sim_node_leave(w->osds[i].node);
    }
}

static void tell(struct world *w, bool deep, bool repair, bool paused, Fb__PgDamage *damage)
{
    Fb__ScrubOrder order = FB__SCRUB_ORDER__INIT, *orders[] = {&order};

    order.pg = world_pg(w, 0);
    order.order = order_number;
    order.deep = deep;
    order.repair = repair;
    order.damage = &damage;
    order.n_damage = damage ? 1 : 0;
    tell_orders(w, orders, 1, paused);
}

static bool is_done_pg(struct world *w, uint64_t id)
{
    uint32_t leader = world_leader(w, id);
    const struct pg *pg = leader == UINT32_MAX ? NULL : pg_find(w->osds[leader].shard, id);

    return pg && pg->scrub.done && pg->scrub.order == order_number;
}

static bool is_done(struct world *w)
{
    return is_done_pg(w, world_pg(w, 0));
}

static const struct pg_scrub *scrub(struct world *w, bool deep, bool repair)
{
    order_number++;
    tell(w, deep, repair, false, NULL);
    WAIT_FOR(w, 60000, is_done(w));
    const struct pg_scrub *s = &pg_on(w, world_leader(w, world_pg(w, 0)))->scrub;
    CHECK_EQ(s->skipped, 0);
    return s;
}

static struct world *world_written(uint64_t seed, uint32_t *ret_leader)
{
    struct world *w = world_new(seed, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        memset(data, (int)object + 1, BLOCK_SIZE);
        CHECK_EQ(world_write(w, object, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        CHECK_EQ(world_write(w, object, 300 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    }
    WAIT_FOR(w, 5000, world_settled(w));
    *ret_leader = world_leader(w, world_pg(w, 0));
    return w;
}

static void lead(struct world *w, uint32_t osd)
{
    world_lead(w, world_pg(w, 0), osd);
}

static void check_all(struct world *w)
{
    for (uint64_t object = 0; object < OBJECTS; object++) {
        for (uint32_t block = 9; block <= 300; block += 291) {
            CHECK_EQ(world_read(w, object, block, 1, got), 0);
            CHECK(got[0] == (uint8_t)(object + 1) && got[BLOCK_SIZE - 1] == (uint8_t)(object + 1));
        }
    }
}

static uint64_t repaired(struct world *w)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        count += w->osds[i].shard->perf.repaired_blocks;
    return count;
}

static void test_clean(void)
{
    uint32_t leader;
    struct world *w = world_written(61, &leader);
    const struct pg_scrub *s = scrub(w, false, false);

    CHECK_EQ(s->objects, OBJECTS);
    CHECK_EQ(s->bytes, 0);
    CHECK_EQ(s->found + s->left + s->differing, 0);
    CHECK_EQ(s->replicas, OSDS);
    s = scrub(w, true, false);
    CHECK_EQ(s->objects, OBJECTS);
    CHECK_EQ(s->bytes, OSDS * OBJECTS * 2 * BLOCK_SIZE);
    CHECK_EQ(s->found + s->left + s->differing, 0);
    world_free(w);
}

/* Nobody reads at the followers. */
static void test_followers(void)
{
    uint32_t leader;
    struct world *w = world_written(62, &leader);
    uint32_t one = (leader + 1) % OSDS, two = (leader + 2) % OSDS;
    uint64_t pg = world_pg(w, 0);

    fake_store_damage_block(store_on(w, one), pg, IMAGE, 3, 9, false);
    fake_store_damage_block(store_on(w, two), pg, IMAGE, 3, 300, false);
    fake_store_damage_block(store_on(w, two), pg, IMAGE, 11, 9, false);
    fake_store_damage_block(store_on(w, leader), pg, IMAGE, 12, 9, false);
    const struct pg_scrub *s = scrub(w, false, false); /* does not read */
    CHECK_EQ(s->found, 0);
    s = scrub(w, true, false);
    CHECK_EQ(s->found, 4);
    CHECK_EQ(s->repaired, 4);
    CHECK_EQ(s->left + s->differing, 0);
    CHECK_EQ(repaired(w), 4);
    s = scrub(w, true, false);
    CHECK_EQ(s->found, 0);
    lead(w, one);
    check_all(w);
    lead(w, two);
    check_all(w);
    CHECK_EQ(repaired(w), 4);
    world_free(w);
}

/* What a start has found lost needs no reading. */
static void test_lost_page(void)
{
    uint32_t leader;
    struct world *w = world_written(63, &leader);
    uint32_t one = (leader + 1) % OSDS;

    fake_store_damage_block(store_on(w, one), world_pg(w, 0), IMAGE, 5, 0, true);
    const struct pg_scrub *s = scrub(w, false, false);
    CHECK(s->found > 0 && s->repaired == s->found && !s->left);
    lead(w, one);
    check_all(w);
    world_free(w);
}

static void test_differs(void)
{
    uint32_t leader;
    struct world *w = world_written(64, &leader);
    uint32_t one = (leader + 1) % OSDS;

    fake_store_change_block(store_on(w, one), world_pg(w, 0), IMAGE, 7, 9);
    fake_store_change_block(store_on(w, leader), world_pg(w, 0), IMAGE, 21, 300);
    for (uint32_t i = 0; i < 2; i++) {
        const struct pg_scrub *s = scrub(w, i, false);
        CHECK_EQ(s->differing, 2);
        CHECK_EQ(s->equalized + s->found, 0);
        CHECK_EQ(s->difference_count, 2);
        const struct pg_difference *d = &s->difference[0];
        CHECK_EQ(d->object, 7);
        CHECK_EQ(d->version_count, OSDS);
        for (uint32_t v = 0; v < OSDS; v++)
            CHECK((d->version[v].osd == one) == (d->version[v].digest != d->version[(v + 1) % OSDS].digest &&
                                                 d->version[v].digest != d->version[(v + 2) % OSDS].digest));
    }
    const struct pg_scrub *s = scrub(w, true, true);
    CHECK_EQ(s->differing, 0);
    CHECK_EQ(s->equalized, 2);
    check_all(w);
    lead(w, one);
    check_all(w);
    s = scrub(w, true, false);
    CHECK_EQ(s->differing + s->equalized + s->found, 0);
    world_free(w);
}

/* Blocks that end with their own checksum, as metadata of file systems does, all have the same crc32c: only
 * their contents tell them apart. */
static void test_equal_checksums(void)
{
    uint32_t leader;
    struct world *w = world_written(74, &leader);
    uint32_t one = (leader + 1) % OSDS, crc;

    memset(data, 77, BLOCK_SIZE);
    crc = crc32c(0, data, BLOCK_SIZE - 4);
    memcpy(data + BLOCK_SIZE - 4, &crc, 4);
    uint32_t sum = crc32c(0, data, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 7, 20 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    data[1000]++;
    crc = crc32c(0, data, BLOCK_SIZE - 4);
    memcpy(data + BLOCK_SIZE - 4, &crc, 4);
    CHECK_EQ(crc32c(0, data, BLOCK_SIZE), sum);
    fake_store_set_block(store_on(w, one), world_pg(w, 0), IMAGE, 7, 20, data);
    const struct pg_scrub *s = scrub(w, false, false); /* looks at checksums only */
    CHECK_EQ(s->differing, 0);
    s = scrub(w, true, false);
    CHECK_EQ(s->differing, 1);
    CHECK_EQ(s->difference[0].object, 7);
    for (uint32_t v = 0; v < OSDS; v++)
        CHECK((s->difference[0].version[v].osd == one) ==
              (s->difference[0].version[v].digest != s->difference[0].version[(v + 1) % OSDS].digest &&
               s->difference[0].version[v].digest != s->difference[0].version[(v + 2) % OSDS].digest));
    s = scrub(w, true, true);
    CHECK_EQ(s->equalized, 1);
    CHECK_EQ(s->differing, 0);
    lead(w, one);
    CHECK_EQ(world_read(w, 7, 20, 1, got), 0);
    CHECK_EQ(got[1000], 77);
    check_all(w);
    world_free(w);
}

/* No version is the majority's. */
static void test_all_differ(void)
{
    uint32_t leader;
    struct world *w = world_written(65, &leader);

    fake_store_change_block(store_on(w, 0), world_pg(w, 0), IMAGE, 7, 9);
    fake_store_change_block(store_on(w, 1), world_pg(w, 0), IMAGE, 7, 300);
    const struct pg_scrub *s = scrub(w, true, true);
    CHECK_EQ(s->differing, 1);
    CHECK_EQ(s->equalized, 0);
    world_free(w);
}

static const struct pg_damage *listed(struct world *w, uint32_t leader)
{
    Fb__PgDamage rows[4], *pointers[4];
    struct pg *pg = pg_on(w, leader);

    return damage_report(pg, rows, pointers, 4) == 1 ? damage_find(pg, IMAGE, 4) : NULL;
}

/* It costs one read an error, at once; is listed until it is written. */
static void test_nobody_has_it(void)
{
    uint32_t leader;
    struct world *w = world_written(66, &leader);
    uint64_t pg = world_pg(w, 0);

    for (uint32_t i = 0; i < OSDS; i++)
        fake_store_damage_block(store_on(w, i), pg, IMAGE, 4, 9, false);
    uint64_t began_ns = w->sim->now_ns;
    CHECK_EQ(world_read(w, 4, 9, 1, got), -ERR_DAMAGED);
    printf("# an error after %d us\n", (int)((w->sim->now_ns - began_ns) / 1000));
    CHECK(w->sim->now_ns - began_ns < 20 * NS_PER_MS);
    CHECK_EQ(world_read(w, 4, 300, 1, got), 0);
    WAIT_FOR(w, 5000, listed(w, leader));
    const struct pg_damage *d = listed(w, leader);
    CHECK_EQ(d->blocks[0], 1ull << 9);
    /* The monitor has it on its list, and a new leader asks for it there. */
    Fb__PgDamage row = FB__PG_DAMAGE__INIT;
    uint64_t blocks[BLOCKS_PER_OBJECT / 64] = {1ull << 9};
    row.image = IMAGE;
    row.object = 4;
    row.blocks = (ProtobufCBinaryData){sizeof(blocks), (uint8_t *)blocks};
    tell(w, false, false, false, &row);
    CHECK(!listed(w, leader));
    uint32_t one = (leader + 1) % OSDS;
    lead(w, one);
    tell(w, false, false, false, &row);
    WAIT_FOR(w, 5000, damage_find(pg_on(w, one), IMAGE, 4)->known);
    CHECK(!listed(w, one)); /* nothing new */
    const struct pg_scrub *s = scrub(w, true, false);
    CHECK_EQ(s->found, 1);
    CHECK_EQ(s->left, 1);
    CHECK_EQ(s->repaired, 0);
    memset(data, 5, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 4, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    tell(w, false, false, false, &row);
    WAIT_FOR(w, 10000, listed(w, one));
    CHECK_EQ(listed(w, one)->blocks[0], 0);
    tell(w, false, false, false, NULL);
    CHECK(!damage_find(pg_on(w, one), IMAGE, 4));
    check_all(w);
    world_free(w);
}

/* The others have it, and there is no room now to copy it, or no memory to repair the block: that is no loss,
 * for a read nor for who writes a part of it. */
static void test_no_room_for_a_copy(void)
{
    uint32_t leader;
    struct world *w = world_written(85, &leader);
    struct io read = io_make(w, IO_READ, 5, 9 * BLOCK_SIZE, BLOCK_SIZE);
    struct io part = io_make(w, IO_WRITE, 5, 300 * BLOCK_SIZE, 100);
    struct io block = io_make(w, IO_WRITE, 4, 9 * BLOCK_SIZE, 100);

    fake_store_damage_block(store_on(w, leader), world_pg(w, 0), IMAGE, 5, 0, true);
    fake_store_damage_block(store_on(w, leader), world_pg(w, 0), IMAGE, 4, 9, false);
    fake_store_refuse_copies(store_on(w, leader), true);
    memset(data, 6, BLOCK_SIZE);
    read.ret_data = got;
    part.data = data;
    read.once = part.once = block.once = true;
    CHECK_EQ(io_run(&read), -ERR_RETRY);
    CHECK_EQ(io_run(&part), -ERR_RETRY);
    block.data = data;
    CHECK_EQ(io_run(&block), -ERR_RETRY);
    CHECK(!listed(w, leader));
    fake_store_refuse_copies(store_on(w, leader), false);
    CHECK_EQ(world_write(w, 5, 300 * BLOCK_SIZE, 100, data), 0);
    CHECK_EQ(world_read(w, 5, 9, 1, got), 0);
    memset(data, 5, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 4, 9 * BLOCK_SIZE, 100, data), 0);
    check_all(w);
    world_free(w);
}

/* Nor is it lost while the others have so much to do for us already that they cannot be asked. */
static void test_too_busy_to_be_asked(void)
{
    enum { READS = 160 };
    static struct io reads[READS];
    uint32_t leader, later = 0, done = 0;
    struct world *w = world_written(86, &leader);

    fake_store_damage_block(store_on(w, leader), world_pg(w, 0), IMAGE, 4, 9, false);
    for (uint32_t osd = 0; osd < OSDS; osd++)
        if (osd != leader)
            fake_store_set_read_ns(store_on(w, osd), NS_PER_S);
    for (uint32_t i = 0; i < READS; i++) {
        reads[i] = io_make(w, IO_READ, 4, 9 * BLOCK_SIZE, BLOCK_SIZE);
        reads[i].ret_data = got;
        reads[i].once = true;
        io_begin(&reads[i]);
    }
    while (done < READS) {
        CHECK(sim_step(w->sim, UINT64_MAX));
        done = later = 0;
        for (uint32_t i = 0; i < READS; i++) {
            done += reads[i].done;
            later += reads[i].done && reads[i].result == -ERR_RETRY;
            CHECK(!reads[i].done || reads[i].result != -ERR_DAMAGED);
        }
    }
    printf("# %d of %d are to be sent again\n", (int)later, READS);
    CHECK(later > 0 && later < READS);
    CHECK(!listed(w, leader));
    check_all(w);
    world_free(w);
}

/* Half way another leads. */
static void test_goes_on(void)
{
    uint32_t leader;
    struct world *w = world_written(67, &leader);
    uint32_t one = (leader + 1) % OSDS, two = (leader + 2) % OSDS;

    fake_store_damage_block(store_on(w, two), world_pg(w, 0), IMAGE, 3, 9, false);
    order_number++;
    tell(w, true, false, false, NULL);
    WAIT_FOR(w, 20000, pg_on(w, leader)->scrub.object >= OBJECTS / 2);
    tell(w, true, false, true, NULL); /* paused */
    sim_run_for(w->sim, NS_PER_S);
    uint64_t object = pg_on(w, leader)->scrub.object;
    sim_run_for(w->sim, 3 * NS_PER_S);
    CHECK_EQ(pg_on(w, leader)->scrub.object, object);
    lead(w, one);
    CHECK(pg_on(w, one)->scrub.object + 1 >= object);
    uint64_t before = w->osds[one].shard->perf.scrub_objects;
    tell(w, true, false, false, NULL);
    WAIT_FOR(w, 20000, is_done(w));
    const struct pg_scrub *s = &pg_on(w, one)->scrub;
    CHECK_EQ(s->repaired, 1);
    CHECK(s->objects >= OBJECTS && s->objects <= OBJECTS + 1);
    CHECK(w->osds[one].shard->perf.scrub_objects - before < OBJECTS * 3 / 4);
    world_free(w);
}

/* Scrubs beside writers, members that die: whatever comes, nothing differs. */
static void test_busy(void)
{
    uint32_t leader;
    struct world *w = world_written(68, &leader);

    for (uint32_t round = 0; round < 6; round++) {
        uint32_t victim = round % OSDS;
        order_number++;
        tell(w, round & 1, false, false, NULL);
        for (uint32_t i = 0; i < 200; i++) {
            memset(data, (int)(i % OBJECTS) + 1, BLOCK_SIZE);
            CHECK_EQ(world_write(w, i % OBJECTS, (i & 1 ? 9 : 300) * BLOCK_SIZE, BLOCK_SIZE, data), 0);
            if (i == 50)
                world_osd_kill(w, victim, SIM_CRASH_PROCESS);
            if (i == 120)
                world_osd_start(w, victim);
            if (i % 40 == 0)
                tell(w, round & 1, false, false, NULL);
        }
        WAIT_FOR(w, 10000, world_settled(w));
        tell(w, round & 1, false, false, NULL);
        WAIT_FOR(w, 60000, is_done(w));
        const struct pg_scrub *s = &pg_on(w, world_leader(w, world_pg(w, 0)))->scrub;
        CHECK_EQ(s->differing + s->found, 0);
    }
    check_all(w);
    world_free(w);
}

/* Several of a range: each is made equal that can be, whatever comes of the others. */
static void test_several_differ(void)
{
    uint32_t leader;
    struct world *w = world_written(69, &leader);

    fake_store_change_block(store_on(w, 0), world_pg(w, 0), IMAGE, 2, 9); /* object 2: three versions */
    fake_store_change_block(store_on(w, 1), world_pg(w, 0), IMAGE, 2, 300);
    fake_store_change_block(store_on(w, 0), world_pg(w, 0), IMAGE, 3, 9);
    fake_store_change_block(store_on(w, 1), world_pg(w, 0), IMAGE, 5, 9);
    fake_store_change_block(store_on(w, 2), world_pg(w, 0), IMAGE, 9, 300);
    const struct pg_scrub *s = scrub(w, false, true); /* light: many objects are a range */
    CHECK_EQ(s->equalized, 3);
    CHECK_EQ(s->differing, 1);
    CHECK_EQ(s->difference_count, 4);
    for (uint32_t i = 0; i < s->difference_count; i++)
        CHECK_EQ(s->difference[i].equalized, s->difference[i].object != 2);
    s = scrub(w, false, false);
    CHECK_EQ(s->differing, 1);
    world_free(w);
}

/* The leader has few objects in a range, another member more than fit in an answer. */
static void test_long_range(void)
{
    uint32_t leader;
    struct world *w = world_new(70, 1);
    uint32_t count = 3 * SCRUB_ROWS_MAX;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 1, BLOCK_SIZE);
    for (uint64_t object = 0; object < count; object++)
        CHECK_EQ(world_write(w, object, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    leader = world_leader(w, world_pg(w, 0));
    for (uint64_t object = 1; object + 1 < count; object++)
        fake_store_drop_object(store_on(w, leader), world_pg(w, 0), IMAGE, object);
    const struct pg_scrub *s = scrub(w, false, false);
    CHECK_EQ(s->objects, count);
    CHECK_EQ(s->differing, count - 2);
    world_free(w);
}

/* A member that takes nothing new for a while has objects still that the others have deleted: that is no
 * difference. */
static void test_behind_a_removal(void)
{
    uint32_t leader;
    struct world *w = world_written(75, &leader);
    uint32_t one = (leader + 1) % OSDS;

    fake_store_refuse(store_on(w, one), true);
    world_order(w, IMAGE, 0, true);
    WAIT_FOR(w, 5000, !pg_on(w, leader)->sp->object_count);
    CHECK_EQ(pg_on(w, one)->sp->object_count, OBJECTS);
    order_number++;
    tell(w, false, false, false, NULL);
    WAIT_FOR(w, 60000, is_done(w));
    const struct pg_scrub *s = &pg_on(w, leader)->scrub;
    CHECK_EQ(s->differing, 0);
    CHECK(s->skipped > 0);
    fake_store_refuse(store_on(w, one), false);
    WAIT_FOR(w, 10000, !pg_on(w, one)->sp->object_count);
    s = scrub(w, false, false);
    CHECK_EQ(s->differing + s->objects, 0);
    world_free(w);
}

/* A member whose look takes longer than a question may is asked by two leaders: each object is read once. */
static void test_two_leaders(void)
{
    struct world *w = world_new(71, 2);
    uint64_t pgs[2] = {(uint64_t)POOL << 32, (uint64_t)POOL << 32 | 1};

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = 0; object < 12; object++) {
        memset(data, (int)object + 1, BLOCK_SIZE);
        CHECK_EQ(world_write(w, object, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    }
    WAIT_FOR(w, 5000, world_settled(w));
    if (world_leader(w, pgs[0]) == world_leader(w, pgs[1]))
        world_lead(w, pgs[1], (world_leader(w, pgs[0]) + 1) % OSDS);
    uint32_t one = world_leader(w, pgs[0]), two = world_leader(w, pgs[1]), third = OSDS - one - two;
    fake_store_set_read_ns(store_on(w, third), 1500 * NS_PER_MS);
    order_number++;
    Fb__ScrubOrder rows[2], *orders[2] = {&rows[0], &rows[1]};
    for (uint32_t i = 0; i < 2; i++) {
        fb__scrub_order__init(&rows[i]);
        rows[i].pg = pgs[i];
        rows[i].order = order_number;
        rows[i].deep = true;
    }
    tell_orders(w, orders, 2, false);
    WAIT_FOR(w, 120000, is_done_pg(w, pgs[0]) && is_done_pg(w, pgs[1]));
    CHECK_EQ(w->osds[third].shard->perf.scrub_bytes, 12 * BLOCK_SIZE);
    CHECK_EQ(pg_find(w->osds[one].shard, pgs[0])->scrub.replicas, OSDS);
    CHECK_EQ(pg_find(w->osds[two].shard, pgs[1])->scrub.replicas, OSDS);
    world_free(w);
}

/* A member that never gets done with it, and one that is away, hold nothing up, and are missing in the
 * result. */
static void test_without_a_member(void)
{
    struct world *w = world_new(72, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 1, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, world_pg(w, 0)), one = (leader + 1) % OSDS;
    fake_store_set_read_ns(store_on(w, one), 1000 * NS_PER_S);
    order_number++;
    tell(w, true, false, false, NULL);
    WAIT_FOR(w, 400000, is_done(w));
    CHECK_EQ(pg_on(w, leader)->scrub.replicas, OSDS - 1);
    fake_store_set_read_ns(store_on(w, one), 0);
    sim_run_for(w->sim, 1000 * NS_PER_S);
    CHECK_EQ(scrub(w, true, false)->replicas, OSDS);
    world_osd_kill(w, one, SIM_CRASH_PROCESS);
    CHECK_EQ(scrub(w, true, false)->replicas, OSDS - 1);
    world_osd_start(w, one);
    WAIT_FOR(w, 5000, world_settled(w));
    world_free(w);
}

/* Replicas lost different blocks of an object: each block that one of them has all of them get. */
static void test_lost_here_and_there(void)
{
    uint32_t leader;
    struct world *w = world_written(73, &leader);
    uint32_t one = (leader + 1) % OSDS, two = (leader + 2) % OSDS;
    uint64_t pg = world_pg(w, 0), lost[BLOCKS_PER_OBJECT / 64], index;

    /* Two have one each, the third has neither. */
    fake_store_lose_block(store_on(w, leader), pg, IMAGE, 6, 9);
    fake_store_lose_block(store_on(w, one), pg, IMAGE, 6, 300);
    fake_store_lose_block(store_on(w, two), pg, IMAGE, 6, 9);
    fake_store_lose_block(store_on(w, two), pg, IMAGE, 6, 300);
    /* Here the third has both. */
    fake_store_lose_block(store_on(w, leader), pg, IMAGE, 7, 9);
    fake_store_lose_block(store_on(w, one), pg, IMAGE, 7, 300);
    /* Nobody has block 9. */
    for (uint32_t i = 0; i < OSDS; i++)
        fake_store_lose_block(store_on(w, i), pg, IMAGE, 8, 9);
    fake_store_lose_block(store_on(w, one), pg, IMAGE, 8, 300);
    const struct pg_scrub *s = scrub(w, true, false);
    CHECK_EQ(s->left, 1);
    CHECK_EQ(s->differing, 0);
    for (uint32_t i = 0; i < OSDS; i++) {
        for (uint64_t object = 6; object <= 8; object++) {
            store_object_lost(pg_on(w, i)->sp, IMAGE, object, &index, lost);
            CHECK_EQ(lost[0], object == 8 ? 1ull << 9 : 0);
            CHECK(!lost[300 / 64]);
        }
    }
    CHECK_EQ(world_read(w, 8, 9, 1, got), -ERR_DAMAGED);
    memset(data, 9, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 8, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    check_all(w);
    world_free(w);
}

/* A leader alone, whose newest entries nobody else has, is started again, and still alone: its objects may be
 * of any state between what it has applied and the end of its log, so they are not compared. */
static void test_just_opened(void)
{
    static struct scrub_look look;
    const struct scrub_range all = {0};
    struct world *w = world_filled(45, OBJECTS);
    uint32_t leader = world_leader(w, world_pg(w, 0));

    for (uint32_t i = 1; i < OSDS; i++)
        world_osd_kill(w, (leader + i) % OSDS, SIM_CRASH_PROCESS);
    struct io io = io_make(w, IO_WRITE, 0, 0, BLOCK_SIZE);
    io.data = data;
    io.force_term = pg_on(w, leader)->raft.term; /* not sent again in another */
    io_begin(&io);
    sim_run_for(w->sim, 20 * NS_PER_MS);
    world_osd_kill(w, leader, SIM_CRASH_PROCESS);
    world_osd_start(w, leader);
    WAIT_FOR(w, 5000, pg_on(w, leader));
    CHECK(pg_on(w, leader)->sp->applied_index < pg_on(w, leader)->sp->last_index);
    sim_node_enter(w->osds[leader].node);
    scrub_look_start(&look, pg_on(w, leader), &all, NULL, 0, NULL);
    sim_node_leave(w->osds[leader].node);
    WAIT_FOR(w, 1000, !op_live(&look.op));
    CHECK_EQ(look.op.result, -ERR_RECOVERING);
    CHECK_EQ(look.ret.row_count, 0);
    for (uint32_t i = 1; i < OSDS; i++)
        world_osd_start(w, (leader + i) % OSDS);
    io.force_term = 0;
    WAIT_FOR(w, 10000, io.done && world_settled(w));
    world_free(w);
}

/* A member says that there is more in a range than it tells: the range gets smaller each time, or is taken as
 * it is. */
static void test_more_without_end(void)
{
    static struct scrub s;
    struct scrub_view *view = &s.asked[0].view;

    s.range = scrub_range_of(IMAGE, 9);
    s.range.has_cursor = false;
    s.asked[0].answered = view->more = true;
    view->row_count = 2;
    view->rows[0] = (struct scrub_row){.image = IMAGE, .object = 4};
    view->rows[1] = (struct scrub_row){.image = IMAGE, .object = 5};
    CHECK(scrub_range_cut(&s));
    CHECK_EQ(s.range.end_object, 5);
    CHECK(!scrub_range_cut(&s));
    view->row_count = 1;
    CHECK(scrub_range_cut(&s));
    CHECK_EQ(s.range.end_object, 4);
    CHECK(!scrub_range_cut(&s));
}

/* What is said is what is heard: of a range by a member, of a scrub so far by the leader. */
static void test_messages(void)
{
    static struct scrub_view said, heard;
    static struct scrub_result_rows rows;
    static uint8_t bytes[SCRUB_REPLY_MAX];
    struct pg_scrub scrub = {.order = 3,
                             .deep = true,
                             .objects = 4,
                             .bytes = 5,
                             .found = 6,
                             .repaired = 7,
                             .left = 8,
                             .skipped = 9,
                             .differing = 2,
                             .equalized = 1,
                             .replicas = 3},
                    taken;
    uint32_t len;

    said.applied_index = 77;
    said.bytes = 1;
    said.found = 2;
    said.repaired = 3;
    said.more = true;
    said.row_count = 3;
    for (uint32_t i = 0; i < said.row_count; i++)
        said.rows[i] = (struct scrub_row){
            .image = 1, .object = i, .index = 10 + i, .applied_index = 70 + i, .digest = 1000 + i};
    said.rows[1].damaged_count = 2;
    said.rows[1].damaged[0] = 1;
    said.rows[1].damaged[BLOCKS_PER_OBJECT / 64 - 1] = 1ull << 63;
    said.rows[2].has_content = true;
    memset(&said.rows[2].content, 0x5a, sizeof(said.rows[2].content));
    CHECK_EQ(scrub_view_encode(&said, bytes, &len), 0);
    CHECK_EQ(scrub_view_decode(bytes, len, &heard), 0);
    CHECK(heard.applied_index == 77 && heard.bytes == 1 && heard.found == 2 && heard.repaired == 3 &&
          heard.more);
    CHECK_EQ(heard.row_count, said.row_count);
    for (uint32_t i = 0; i < said.row_count; i++) {
        const struct scrub_row *a = &said.rows[i], *b = &heard.rows[i];
        CHECK(a->image == b->image && a->object == b->object && a->index == b->index &&
              a->applied_index == b->applied_index && a->digest == b->digest &&
              a->damaged_count == b->damaged_count && a->has_content == b->has_content);
        CHECK(!memcmp(a->damaged, b->damaged, sizeof(a->damaged)));
        CHECK(!memcmp(&a->content, &b->content, sizeof(a->content)));
    }
    scrub.difference_count = 2;
    for (uint32_t i = 0; i < 2; i++) {
        scrub.difference[i] =
            (struct pg_difference){.image = 1, .object = i, .equalized = i, .version_count = 2};
        scrub.difference[i].version[0] = (struct pg_version){1, 2, 3, 4, false};
        scrub.difference[i].version[1] = (struct pg_version){2, 3, 0, 0, true};
    }
    scrub_result_fill(&scrub, &rows);
    CHECK_EQ(scrub_result_take(&rows.result, &taken), 0);
    CHECK_EQ(taken.difference_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const struct pg_difference *d = &taken.difference[i];
        CHECK(d->image == 1 && d->object == i && d->equalized == i && d->version_count == 2);
        CHECK(d->version[0].replica == 1 && d->version[0].index == 3 && d->version[0].digest == 4 &&
              !d->version[0].absent);
        CHECK(d->version[1].osd == 3 && d->version[1].absent);
    }
    CHECK(taken.order == 3 && taken.deep && taken.objects == 4 && taken.bytes == 5 && taken.found == 6 &&
          taken.repaired == 7 && taken.left == 8 && taken.skipped == 9 && taken.differing == 2 &&
          taken.equalized == 1 && taken.replicas == 3);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_messages);
    TEST(test_clean);
    TEST(test_followers);
    TEST(test_lost_page);
    TEST(test_differs);
    TEST(test_equal_checksums);
    TEST(test_all_differ);
    TEST(test_nobody_has_it);
    TEST(test_no_room_for_a_copy);
    TEST(test_too_busy_to_be_asked);
    TEST(test_goes_on);
    TEST(test_busy);
    TEST(test_several_differ);
    TEST(test_long_range);
    TEST(test_behind_a_removal);
    TEST(test_two_leaders);
    TEST(test_without_a_member);
    TEST(test_lost_here_and_there);
    TEST(test_just_opened);
    TEST(test_more_without_end);
    fake_store_forget_all();
    return tap_done();
}
