/* SPDX-License-Identifier: Apache-2.0
 *
 * When memory runs out. Opening a slice, each allocation fails in turn: the open ends with ERR_NO_MEMORY, or
 * does without; it never takes the shortage for damage. Destage waits.
 */
#include "store/internal.h"
#include "tests/store/slice.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static uint64_t allocations, fail_at; /* 0: none fails */
static bool fail_all;

static bool refuse(void)
{
    return ++allocations == fail_at || fail_all;
}

void *__wrap_malloc(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return refuse() ? NULL : __real_realloc(ptr, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return refuse() ? NULL : __real_aligned_alloc(alignment, size);
}

/* Objects with pages, entries that are applied and others that are not, image records, a blob. */
static void fill_up(void)
{
    struct store_blob_write w = {0};

    store_blob_write_start(&w, s, "map", 3, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    for (uint64_t id = 1; id <= 20; id++)
        CHECK_EQ(put((struct entry){.type = ENTRY_IMAGE,
                                    .image = id,
                                    .incarnation = 1,
                                    .generation = 1,
                                    .size_bytes = 1ull << 40},
                     0),
                 0);
    for (uint32_t n = 0; n < 900; n++) {
        CHECK_EQ(write_blocks(n % 70, n % 30, 2), 0);
        if (n % 8 == 0)
            apply_all();
    }
    apply_all();
    CHECK(store_counters(s)->page_writes > 0);
    for (uint32_t n = 0; n < 400; n++) {
        CHECK_EQ(
            put((struct entry){.type = ENTRY_CLEAR, .image = 1, .object = 1000 + n, .block_count = 7}, 0), 0);
        rig_settle(&rig);
    }
}

static void an_open_without_memory_fails_cleanly(void)
{
    set_up();
    fill_up();
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 1, .replica = 1, .birth = 3, .term = 1}), 0);
    uint64_t last = pg->last_index, objects = pg->object_count, refused = 0;
    CHECK_EQ(close_store(), 0);
    for (uint64_t n = 1;; n++) {
        allocations = 0;
        fail_at = n;
        int rc = open_store();
        fail_at = 0;
        if (rc) {
            CHECK_EQ(rc, -ERR_NO_MEMORY);
            refused++;
            continue;
        }
        CHECK_EQ(pg->last_index, last);
        CHECK_EQ(pg->object_count, objects);
        CHECK(!pg->damaged && pg->record.state == STORE_PG_NORMAL);
        uint32_t len;
        CHECK(store_blob(s, &len) && len == 3);
        if (allocations < n)
            break;
        CHECK_EQ(close_store(), 0);
    }
    CHECK(refused > 20);
    tear_down();
}

/* The checkpoint can be read once but not twice: objects are known, their slots are not claimed yet. */
static void an_open_that_fails_between_checkpoint_and_pages(void)
{
    set_up();
    fill_up();
    CHECK_EQ(close_store(), 0);
    for (uint64_t n = 1;; n++) {
        rig.device.fail_at = rig.device.requests + n;
        int rc = open_store();
        bool failed = rig.device.requests >= rig.device.fail_at;
        rig.device.fail_at = 0;
        if (rc == 0)
            CHECK_EQ(close_store(), 0);
        if (!failed)
            break;
    }
    tear_down();
}

static void destage_without_memory_waits(void)
{
    set_up();
    for (uint32_t n = 0; n < 100; n++)
        CHECK_EQ(write_blocks(n, 0, 2), 0);
    apply_all();
    struct timer timer = {0}; /* the core's heap of timers is no concern of this test */
    timer_arm(&rig.core, &timer, NULL, UINT64_MAX);
    timer_cancel(&rig.core, &timer);
    fail_all = true;
    s->slab.left = 0; /* nor has the store any that it has taken already */
    destage_up_to(pg_of(pg), pg->last_index);
    rig_settle(&rig);
    CHECK_EQ(store_counters(s)->page_writes, 0);
    rig.now_ns += NS_PER_S;
    rig_settle(&rig);
    CHECK_EQ(store_counters(s)->page_writes, 0);
    CHECK_EQ(store_failed(s), 0);
    fail_all = false;
    rig.now_ns += NS_PER_S;
    rig_settle(&rig);
    CHECK_EQ(store_counters(s)->page_writes, 100);
    CHECK_EQ(store_complete_index(pg), pg->last_index);
    tear_down();
}

int main(void)
{
    TEST(an_open_without_memory_fails_cleanly);
    TEST(an_open_that_fails_between_checkpoint_and_pages);
    TEST(destage_without_memory_waits);
    return tap_done();
}
