/* SPDX-License-Identifier: Apache-2.0
 *
 * An image of very many objects is removed or cut off, and a PG of very many objects is deleted: no turn
 * looks at more than a few of them, and what is not destaged yet of it takes little memory. Work is counted:
 * the device takes no time.
 */
#define SIZE (128ull << 20) /* room for many objects */

#include "store/internal.h"
#include "tests/store/slice.h"

#define MANY 1024u
#define STEP 128u

static void put_image(uint64_t generation, uint64_t size_bytes, bool deleted)
{
    CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                .flags = deleted ? ENTRY_IMAGE_DELETED : 0,
                                .image = 1,
                                .incarnation = 4,
                                .generation = generation,
                                .size_bytes = size_bytes},
                 0),
             0);
}

/* With a page and without a chunk each. */
static void put_objects(uint64_t count)
{
    put_image(1, 1ull << 40, false);
    for (uint64_t object = 0; object < count;) {
        put_hollow(object);
        if (++object % 64)
            continue;
        apply_all();
        store_destage_soon(pg);
        rig_settle(&rig);
    }
    CHECK_EQ(pg->object_count, count);
    CHECK(list_empty(&s->overlays));
}

static void put_many(void)
{
    set_up();
    put_objects(MANY);
}

/* The store may look at some more. */
static void turn(bool may_destage)
{
    if (may_destage) {
        rig_turn(&rig);
        return;
    }
    timer_cancel(s->core, &s->clear);
    clear_go_on(s);
}

static uint32_t overlays(bool with_blocks)
{
    uint32_t count = 0;

    list_for_each (&s->overlays, node) {
        const struct overlay *overlay = list_entry(node, struct overlay, link);
        count += !with_blocks || overlay_next(overlay, 0) < BLOCKS_PER_OBJECT;
    }
    return count;
}

/* Applies all, turn by turn; at most so many turns. Returns how many objects were cleared. */
static uint32_t apply_in_turns(uint32_t turns_max, bool may_destage)
{
    uint32_t cleared = 0;

    rig_settle(&rig);
    for (uint32_t turns = 0; pg->applied_index < pg->last_index && turns < turns_max; turns++) {
        uint32_t before = overlays(false);
        store_apply(pg, pg->last_index);
        uint32_t now = overlays(false) - before;
        CHECK(now <= STEP + 1);
        CHECK_EQ(store_applying(pg), pg->applied_index < pg->last_index);
        cleared += now;
        turn(may_destage);
    }
    return cleared;
}

/* What is behind it in the log waits, and finds nothing left. */
static void a_removed_image(void)
{
    put_many();
    put_image(2, 0, true);
    uint64_t removal = pg->last_index;
    CHECK_EQ(put((struct entry){.type = ENTRY_NOOP}, 0), 0);
    rig_settle(&rig);
    store_apply(pg, pg->last_index);
    CHECK_EQ(pg->applied_index, removal - 1);
    CHECK(!store_image_get(pg, 1)->deleted);
    CHECK_EQ(overlays(false), STEP);
    CHECK_EQ(apply_in_turns(MANY, false), MANY - STEP);
    CHECK(store_image_get(pg, 1)->deleted);
    CHECK_EQ(overlays(false), MANY);
    CHECK_EQ(overlays(true), 0); /* no memory for the blocks of each */
    rig_settle(&rig);
    CHECK_EQ(pg->object_count, 0);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    reopen();
    CHECK_EQ(pg->object_count, 0);
    tear_down();
}

/* Beside destage, which takes them one after the other. */
static void an_image_is_cut_off(void)
{
    put_many();
    put_image(2, 5 * BLOCK_SIZE, false);
    CHECK(apply_in_turns(MANY, true) > STEP);
    rig_settle(&rig);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    CHECK(list_empty(&s->overlays));
    CHECK_EQ(store_image_get(pg, 1)->generation, 2);
    tear_down();
}

/* The process ends in the middle: the rest is cleared by the next one. */
static void not_to_the_end(void)
{
    put_many();
    put_image(2, 0, true);
    (void)apply_in_turns(3, true);
    CHECK(store_applying(pg));
    reopen();
    CHECK(!store_image_get(pg, 1)->deleted);
    (void)apply_in_turns(MANY, true);
    CHECK(store_image_get(pg, 1)->deleted);
    rig_settle(&rig);
    struct store_object_info info = {0};
    for (bool start = true; store_object_next(pg, start, info.image, info.object, &info); start = false)
        CHECK_EQ(info.index, pg->last_index);
    CHECK_EQ(put((struct entry){.type = ENTRY_FORGET, .image = 1, .size_bytes = 9}, 0), 0);
    (void)apply_in_turns(MANY, true);
    rig_settle(&rig);
    CHECK_EQ(pg->object_count, 0);
    tear_down();
}

/* What is cleared already, and destaged before the record says why, leaves no page behind. */
static void destaged_in_the_middle(void)
{
    put_many();
    put_image(2, 0, true);
    for (uint32_t turns = 0; pg->applied_index < pg->last_index && turns < MANY; turns++) {
        (void)apply_in_turns(1, false);
        destage_pg(pg_of(pg));
        rig_settle(&rig);
        if (store_applying(pg))
            CHECK_EQ(pg->object_count, MANY - (turns + 1) * STEP);
    }
    CHECK(store_image_get(pg, 1)->deleted);
    rig_settle(&rig);
    CHECK_EQ(pg->object_count, 0);
    CHECK_EQ(s->slots_used, 0);
    tear_down();
}

/* The log is given up in the middle, for a state of somebody else. */
static void a_recovery_meanwhile(void)
{
    put_many();
    put_image(2, 0, true);
    (void)apply_in_turns(3, true);
    CHECK(store_applying(pg));
    struct group group = ALONE;
    store_reset_base(pg, pg->last_index + 10, 2, &group, 0);
    CHECK(!store_applying(pg) && list_empty(&pg_of(pg)->pending_images));
    rig_settle(&rig);
    CHECK(store_recover_settled(pg) || (rig_settle(&rig), store_recover_settled(pg)));
    tear_down();
}

struct host {
    struct op op;
    struct store_pg *pg;
};

static void host_step(struct op *op)
{
    struct store_pg *hosted = container_of(op, struct host, op)->pg;

    if (hosted)
        store_apply(hosted, hosted->last_index);
}

static const struct op_kind host_kind = {"test.host", NULL, host_step};

enum { PGS = 6, EACH = 256, SMALL = 64, ALL = (PGS - 1) * EACH + SMALL };

static uint64_t count_of(uint32_t i)
{
    return i == PGS - 1 ? SMALL : EACH;
}

static uint64_t cleared_of(struct store_pg *of, uint64_t count)
{
    return of->applied_index == of->last_index ? count : store_applying(of) ? pg_of(of)->clear_number : 0;
}

/* Each with an image that is to be removed, and a host. */
static void many_removals(struct host *hosts)
{
    set_up();
    memset(hosts, 0, PGS * sizeof(*hosts));
    for (uint32_t i = 0; i < PGS; i++) {
        if (i > 0)
            CHECK_EQ(write_record(&(struct store_pg_record){.pg = i + 1, .replica = 1, .birth = 3}), 0);
        pg = store_pg_find(s, i + 1);
        put_objects(count_of(i));
        put_image(2, 0, true);
        hosts[i].pg = pg;
    }
    rig_settle(&rig);
    for (uint32_t i = 0; i < PGS; i++) {
        op_start(&hosts[i].op, s->core, &host_kind, NULL);
        hosts[i].pg->waiter = &hosts[i].op;
    }
}

/* Of many PGs at once no turn clears more than of one, and none waits until all the others have ended. */
static void many_pgs(void)
{
    static struct host hosts[PGS];
    uint64_t before = 0, most = 0;
    uint32_t turns_of_small = 0, turns = 0;

    many_removals(hosts);
    for (; before < ALL && turns < 1000; turns++) {
        rig_turn(&rig);
        uint64_t cleared = 0;
        for (uint32_t i = 0; i < PGS; i++)
            cleared += cleared_of(hosts[i].pg, count_of(i));
        if (cleared_of(hosts[PGS - 1].pg, SMALL) < SMALL)
            turns_of_small = turns;
        most = MAX(most, cleared - before);
        before = cleared;
    }
    printf("# %u turns, at most %u objects in one; the smallest took %u\n", turns, (uint32_t)most,
           turns_of_small);
    CHECK_EQ(before, ALL);
    CHECK(most <= STEP + PGS);
    CHECK(turns_of_small < turns * 3 / 4);
    for (uint32_t i = 0; i < PGS; i++) {
        hosts[i].pg->waiter = NULL;
        op_done(&hosts[i].op, 0);
    }
    tear_down();
}

/* One is deleted while it waits for its turn: the others go on. */
static void one_of_many_is_deleted(void)
{
    static struct host hosts[PGS];
    struct store_pg_remove r = {0};
    uint32_t waits = 0;

    many_removals(hosts);
    rig_turn(&rig);
    while (waits < PGS && !list_linked(&pg_of(hosts[waits].pg)->clear_link))
        waits++;
    CHECK(waits < PGS);
    hosts[waits].pg->waiter = NULL;
    op_done(&hosts[waits].op, 0);
    store_pg_remove_start(&r, hosts[waits].pg, NULL);
    timer_arm(s->core, &s->clear, &s->ring_op, core_now_ns(s->core) + 3600 * NS_PER_S); /* no turn comes */
    while (op_live(&r.op))
        rig_turn(&rig);
    CHECK_EQ(r.op.result, 0);
    timer_arm(s->core, &s->clear, &s->ring_op, core_now_ns(s->core));
    rig_settle(&rig);
    CHECK(list_empty(&s->clearing));
    for (uint32_t i = 0; i < PGS; i++) {
        if (i == waits)
            continue;
        CHECK_EQ(hosts[i].pg->applied_index, hosts[i].pg->last_index);
        hosts[i].pg->waiter = NULL;
        op_done(&hosts[i].op, 0);
    }
    tear_down();
}

static void a_deleted_pg(void)
{
    struct store_pg_remove r = {0};
    uint64_t most = 0;

    put_many();
    store_pg_remove_start(&r, pg, NULL);
    while (op_live(&r.op)) {
        uint64_t before = s->objects.count;
        rig_turn(&rig);
        most = MAX(most, before - s->objects.count);
    }
    CHECK_EQ(r.op.result, 0);
    CHECK_EQ(most, STEP);
    CHECK_EQ(s->objects.count, 0);
    CHECK_EQ(s->slots_used, 0);
    reopen();
    CHECK(!pg);
    tear_down();
}

int main(void)
{
    TEST(a_removed_image);
    TEST(an_image_is_cut_off);
    TEST(not_to_the_end);
    TEST(destaged_in_the_middle);
    TEST(a_recovery_meanwhile);
    TEST(many_pgs);
    TEST(one_of_many_is_deleted);
    TEST(a_deleted_pg);
    return tap_done();
}
