/* SPDX-License-Identifier: Apache-2.0
 *
 * Removed images are forgotten: once every member has the tombstone on its device, and not before; nothing
 * that comes late makes the image anew; a member that has missed it all gives up what it has, and one whose
 * leader cannot have forgotten anything keeps it.
 */
#include <string.h>

#include "base/placement.h"
#include "sim/rng.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define OTHER (IMAGE + 1) /* an image that nobody has written to yet */

static uint8_t data[BLOCK_SIZE];

static struct store_pg *replica(struct world *w, uint32_t osd, uint32_t pg)
{
    return world_replica(w, osd, placement_pg_id(POOL, pg));
}

/* No running replica knows anything of IMAGE, but its floor. */
static bool forgotten(struct world *w)
{
    for (uint32_t p = 0; p < w->pg_count; p++)
        for (uint32_t i = 0; i < OSDS; i++) {
            const struct store_pg *sp = replica(w, i, p);
            if (sp &&
                (store_image_get(sp, IMAGE) || sp->tombstone_count || sp->object_count || !sp->floor_epoch))
                return false;
        }
    return true;
}

static bool deleted(struct world *w)
{
    for (uint32_t p = 0; p < w->pg_count; p++)
        for (uint32_t i = 0; i < OSDS; i++) {
            const struct store_pg *sp = replica(w, i, p);
            const struct image_record *r = sp ? store_image_get(sp, IMAGE) : NULL;
            if (sp && (!r || !r->deleted))
                return false;
        }
    return true;
}

static void write_some(struct world *w)
{
    memset(data, 7, sizeof(data));
    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = 0; object < 6; object++)
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
}

/* The monitor removes the image. */
static void order_removal_of(struct world *w, uint64_t image)
{
    world_order(w, image, 0, true);
}

static void order_removal(struct world *w)
{
    order_removal_of(w, IMAGE);
}

/* The order is done, and leaves the map: it would be repeated at an epoch of its own by each feed. */
static void order_done(struct world *w)
{
    w->order.removed = true;
    world_feed_map(w);
}

static int ask(struct world *w, enum io_type type, uint64_t image, uint64_t epoch)
{
    struct io io = io_make(w, type, 0, 0, BLOCK_SIZE);
    uint8_t read[BLOCK_SIZE];

    io.image = image;
    io.epoch = epoch;
    io.data = data;
    io.ret_data = read;
    io.once = true;
    return io_run(&io);
}

static void test_late_comers(void)
{
    struct world *w = world_new(31, 2);

    write_some(w);
    uint64_t before = w->epoch;
    CHECK_EQ(ask(w, IO_READ, OTHER, before), 0);
    order_removal(w);
    uint64_t removed = w->epoch;
    WAIT_FOR(w, 5000, forgotten(w));
    order_done(w);
    CHECK_EQ(replica(w, 0, 0)->floor_epoch, removed);
    /* Whoever last heard of the image before it was removed. */
    CHECK_EQ(ask(w, IO_ATTACH, IMAGE, before), -ERR_STALE_GENERATION);
    CHECK_EQ(ask(w, IO_WRITE, IMAGE, before), -ERR_NOT_ATTACHED);
    CHECK_EQ(ask(w, IO_CLEAR, IMAGE, before), -ERR_NOT_ATTACHED);
    CHECK_EQ(ask(w, IO_READ, IMAGE, before), -ERR_STALE_GENERATION);
    CHECK_EQ(ask(w, IO_STATUS, IMAGE, before), -ERR_STALE_GENERATION);
    /* So, too, of an image that lives; the monitor then gives a newer epoch. */
    CHECK_EQ(ask(w, IO_READ, OTHER, before), -ERR_STALE_GENERATION);
    CHECK_EQ(ask(w, IO_ATTACH, OTHER, before), -ERR_STALE_GENERATION);
    CHECK_EQ(ask(w, IO_READ, OTHER, removed), 0);
    CHECK_EQ(ask(w, IO_ATTACH, OTHER, removed), 0);
    CHECK_EQ(ask(w, IO_WRITE, OTHER, before), 0); /* what is attached needs no word */
    CHECK(!store_image_get(replica(w, 0, 0), IMAGE));
    world_free(w);
}

/* An order for an image that a PG knows nothing of leaves no record there, only the floor. */
static void test_unknown_image(void)
{
    struct world *w = world_new(32, 2);

    order_removal(w);
    WAIT_FOR(w, 3000, forgotten(w));
    w->order.image = OTHER;
    w->order.deleted = false;
    w->order.size_bytes = OBJECT_SIZE;
    world_feed_map(w);
    uint64_t resized = w->epoch;
    for (uint32_t p = 0; p < w->pg_count; p++)
        WAIT_FOR(w, 3000, replica(w, 0, p)->floor_epoch == resized);
    CHECK_EQ(ask(w, IO_ATTACH, OTHER, resized - 1), -ERR_STALE_GENERATION);
    CHECK_EQ(ask(w, IO_ATTACH, OTHER, resized), 0);
    world_free(w);
}

/* As long as a member is away, with or without its part of the log still there when it is back. */
static void waits_for_a_member(uint64_t seed, uint32_t writes, bool by_recovery)
{
    struct world *w = world_new(seed, 1);

    write_some(w);
    CHECK_EQ(ask(w, IO_ATTACH, OTHER, w->epoch), 0);
    uint32_t away = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;
    world_osd_kill(w, away, SIM_CRASH_POWER);
    order_removal(w);
    WAIT_FOR(w, 3000, deleted(w));
    for (uint32_t i = 0; i < writes; i++)
        CHECK_EQ(ask(w, IO_WRITE, OTHER, 0), 0);
    sim_run_for(w->sim, 10 * NS_PER_S);
    CHECK(deleted(w));
    CHECK_EQ(replica(w, (away + 1) % OSDS, 0)->tombstone_count, 1);
    order_done(w);
    world_osd_start(w, away);
    WAIT_FOR(w, 8000, replica(w, away, 0) && world_settled(w));
    CHECK_EQ(w->osds[away].shard->perf.recoveries > 0, by_recovery);
    for (uint32_t i = 0; i < OSDS; i++)
        WAIT_FOR(w, 5000, !store_image_get(replica(w, i, 0), IMAGE));
    CHECK_EQ(replica(w, away, 0)->object_count, 1); /* that of OTHER */
    CHECK_EQ(replica(w, away, 0)->tombstone_count, 0);
    world_free(w);
}

static void test_waits_for_the_log(void)
{
    waits_for_a_member(33, 2, false);
}

static void test_waits_for_recovery(void)
{
    waits_for_a_member(34, 3 * FAKE_LOG_KEEP, true);
}

/* A floor that was raised while a member was away, by an order for an image that the PG knows nothing of: no
 * record comes with it. */
static void test_floor_by_recovery(void)
{
    struct world *w = world_new(40, 1);

    write_some(w);
    uint32_t away = (world_leader(w, world_pg(w, 0)) + 1) % OSDS, other = (away + 1) % OSDS;
    world_osd_kill(w, away, SIM_CRASH_POWER);
    order_removal_of(w, OTHER);
    WAIT_FOR(w, 5000, replica(w, other, 0)->floor_epoch == w->epoch);
    order_done(w);
    for (uint32_t i = 0; i < 3 * FAKE_LOG_KEEP; i++)
        CHECK_EQ(ask(w, IO_WRITE, IMAGE, 0), 0);
    world_osd_start(w, away);
    WAIT_FOR(w, 8000, replica(w, away, 0) && world_settled(w));
    CHECK(w->osds[away].shard->perf.recoveries > 0);
    CHECK_EQ(replica(w, away, 0)->floor_epoch, replica(w, other, 0)->floor_epoch);
    world_free(w);
}

/* A device that has lost what it confirmed, and shows the image as it was before, with its record or only an
 * object of it. */
static void comes_back_old(uint64_t seed, bool removed, bool record)
{
    struct world *w = world_new(seed, 1);
    uint32_t old = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;

    write_some(w);
    CHECK_EQ(ask(w, IO_ATTACH, OTHER, w->epoch), 0);
    if (removed) {
        order_removal(w);
        for (uint32_t i = 0; i < OSDS; i++)
            WAIT_FOR(w, 5000, !store_image_get(replica(w, i, 0), IMAGE));
        order_done(w);
    }
    WAIT_FOR(w, 3000, world_settled(w));
    world_osd_kill(w, old, SIM_CRASH_POWER);
    fake_store_damage_log(w->osds[old].label.osd_uuid, world_pg(w, 0), 0);
    uint64_t stray = removed ? IMAGE : IMAGE + 5;
    fake_store_resurrect(w->osds[old].label.osd_uuid, world_pg(w, 0), stray, 2, record);
    world_osd_start(w, old);
    if (removed) {
        WAIT_FOR(w, 8000, replica(w, old, 0) && world_settled(w));
        WAIT_FOR(w, 3000, replica(w, old, 0)->record.state == STORE_PG_NORMAL);
        CHECK(!store_image_get(replica(w, old, 0), stray));
        CHECK_EQ(replica(w, old, 0)->object_count, 0);
        CHECK_EQ(replica(w, old, 0)->floor_epoch, replica(w, (old + 1) % OSDS, 0)->floor_epoch);
    } else {
        /* Nobody can have removed it: something is very wrong, and nothing is deleted. */
        sim_run_for(w->sim, 5 * NS_PER_S);
        CHECK_EQ(store_image_get(replica(w, old, 0), stray) != NULL, record);
        CHECK_EQ(replica(w, old, 0)->object_count, 1 + replica(w, (old + 1) % OSDS, 0)->object_count);
        CHECK(replica(w, old, 0)->record.state != STORE_PG_NORMAL);
    }
    world_free(w);
}

static void test_removed_and_back(void)
{
    comes_back_old(35, true, true);
    comes_back_old(38, true, false);
}

static void test_absence_proves_nothing(void)
{
    comes_back_old(36, false, true);
    comes_back_old(39, false, false);
}

static bool asks_for_the_list(struct world *w, uint32_t osd)
{
    struct pg *pg = w->osds[osd].shard ? pg_find(w->osds[osd].shard, world_pg(w, 0)) : NULL;
    const struct op *op = pg ? (const struct op *)pg->recover : NULL; /* its first member */

    return op && !strcmp(op->kind->state_name(op->state), "list");
}

/* The records come in several answers, and while they do an image is attached whose place in the list has
 * been passed. Of it the damaged member has an object, but not the record. The last answer shows the leader's
 * state later than the one that lacks the record: both together do not show that the image was removed. */
static void test_young_image(void)
{
    struct world *w = world_new(37, 1);
    uint32_t old = (world_leader(w, world_pg(w, 0)) + 1) % OSDS, other = (old + 1) % OSDS;
    struct io attach = io_make(w, IO_ATTACH, 0, 0, BLOCK_SIZE);

    write_some(w);
    order_removal(w);
    for (uint32_t i = 0; i < OSDS; i++)
        WAIT_FOR(w, 5000, !store_image_get(replica(w, i, 0), IMAGE));
    order_done(w);
    for (uint64_t i = 1; i < FAKE_IMAGES_MAX; i++)
        CHECK_EQ(ask(w, IO_ATTACH, OTHER + i, w->epoch), 0);
    WAIT_FOR(w, 3000, world_settled(w));
    world_osd_kill(w, old, SIM_CRASH_POWER);
    WAIT_FOR(w, 3000, world_leader(w, world_pg(w, 0)) != UINT32_MAX);
    uint64_t next = replica(w, other, 0)->last_index + 1;
    fake_store_damage_log(w->osds[old].label.osd_uuid, world_pg(w, 0), 0);
    fake_store_resurrect(w->osds[old].label.osd_uuid, world_pg(w, 0), OTHER, next, false);
    world_osd_start(w, old);
    WAIT_FOR(w, 3000, asks_for_the_list(w, old));
    CHECK_EQ(replica(w, other, 0)->last_index, next - 1);
    attach.image = OTHER;
    attach.epoch = w->epoch;
    io_begin(&attach);
    WAIT_FOR(w, 8000, attach.done && world_settled(w));
    CHECK_EQ(attach.result, 0);
    WAIT_FOR(w, 3000, replica(w, old, 0)->record.state == STORE_PG_NORMAL);
    CHECK_EQ(store_image_get(replica(w, old, 0), OTHER)->index, next);
    CHECK_EQ(replica(w, old, 0)->object_count, 1);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_late_comers);
    TEST(test_unknown_image);
    TEST(test_waits_for_the_log);
    TEST(test_waits_for_recovery);
    TEST(test_floor_by_recovery);
    TEST(test_removed_and_back);
    TEST(test_absence_proves_nothing);
    TEST(test_young_image);
    fake_store_forget_all();
    return tap_done();
}
