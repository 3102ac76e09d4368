/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device does not give at the start, once or for good, right after the process died: no log becomes
 * shorter by it that is not known to be damaged. Whoever acknowledged what is gone would be elected without.
 */
#include "store/opening.h"
#include "tests/plants.h"
#include "tests/store/slice.h"

enum { ENTRIES = 6, LARGE = 4 }; /* number LARGE has chunks of its own */

/* Entries of which no header says yet that the last ones are durable. */
static void set_up_unproven(uint32_t at_once)
{
    set_up();
    for (uint32_t n = 1; n <= ENTRIES; n++) {
        CHECK_EQ(n == LARGE ? write_blocks(n, 0, 32) : write_blocks(n, 0, 1), 0);
        if (n % at_once == 0)
            rig_settle(&rig);
    }
    rig_settle(&rig);
    CHECK_EQ(pg->durable_index, ENTRIES);
}

/* Opens what the crash left; false: it cannot be opened now. */
static bool comes_back(const uint8_t *left)
{
    if (s)
        CHECK_EQ(close_store(), 0);
    memcpy(rig.device.data, left, SIZE);
    return open_store() == 0;
}

static uint8_t *crash(void)
{
    uint8_t *left = malloc(SIZE);

    memcpy(left, rig.device.data, SIZE);
    return left;
}

static void an_error_that_passes_costs_nothing(void)
{
    set_up_unproven(1);
    uint8_t *left = crash();
    CHECK(comes_back(left));
    uint64_t before = rig.device.requests;
    CHECK(comes_back(left));
    uint64_t requests = rig.device.requests - before, opened = 0;

    for (uint64_t n = 1; n <= requests; n++) {
        if (s)
            CHECK_EQ(close_store(), 0);
        rig.device.fail_at = rig.device.requests + n;
        if (!comes_back(left))
            continue;
        opened++;
        CHECK_EQ(pg->last_index, ENTRIES);
        CHECK(!pg->damaged);
    }
    CHECK(opened > requests / 2);
    rig.device.fail_at = 0;
    CHECK(comes_back(left));
    free(left);
    tear_down();
}

/* At any read of each block of the newest batches, and of the chunk that one of them brought; but for the
 * first of a header: that there is none looks like the end. */
static void a_wrong_read_costs_nothing(void)
{
    static const uint32_t at_once[] = {1, ENTRIES};

    for (uint32_t i = 0; i < ARRAY_LEN(at_once); i++) {
        set_up_unproven(at_once[i]);
        uint64_t first = s->g.ring_block + log_at(pg_of(pg), 1)->batch->position,
                 end = s->g.ring_block + s->head, chunk = entry_place(s, log_at(pg_of(pg), LARGE), 0);
        uint8_t *left = crash();
        for (uint64_t n = 0; n < end - first + BLOCKS_PER_CHUNK; n++)
            for (rig.device.wrong_read = 2; rig.device.wrong_read < 5; rig.device.wrong_read++) {
                rig.device.wrong_at =
                    block_offset(first + n < end ? first + n : chunk + n - (end - first)) + 9;
                rig.device.reads = 0;
                CHECK(comes_back(left));
                CHECK(pg->last_index == ENTRIES || pg->damaged);
            }
        rig.device.wrong_at = 0;
        CHECK(comes_back(left));
        CHECK_EQ(pg->last_index, ENTRIES);
        free(left);
        tear_down();
    }
}

/* Each block that the newest batches have, and those behind them. */
static void an_error_that_stays_is_damage(void)
{
    static const uint32_t at_once[] = {1, 3, ENTRIES};

    for (uint32_t i = 0; i < ARRAY_LEN(at_once); i++) {
        set_up_unproven(at_once[i]);
        uint64_t ring = s->g.ring_block, first = log_at(pg_of(pg), 1)->batch->position, end = s->head;
        uint32_t damaged = 0;
        uint8_t *left = crash();
        rig.device.bad_len = BLOCK_SIZE;
        for (uint64_t at = first; at < end + 4; at++) {
            rig.device.bad_from = block_offset(ring + at);
            CHECK(comes_back(left));
            CHECK(at < end ? pg->last_index == ENTRIES || pg->damaged : pg->last_index == ENTRIES);
            damaged += pg->damaged;
            /* Nothing is behind the end, but that cannot be known of the first block there. */
            CHECK(at <= end || !pg->damaged);
        }
        CHECK(damaged > 0);
        rig.device.bad_len = 0;
        CHECK(comes_back(left));
        CHECK_EQ(pg->last_index, ENTRIES);
        CHECK(!pg->damaged);
        free(left);
        tear_down();
    }
}

/* Headers of more than one block, of which the second one is not to be had. */
static void half_a_header_is_damage(void)
{
    set_up();
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(write_blocks(i, 0, 1), 0);
    rig_settle(&rig);
    uint64_t at = log_at(pg_of(pg), pg->last_index)->batch->position;
    const struct disk_batch *h =
        (const struct disk_batch *)(rig.device.data + block_offset(ring_place(s, at)));
    CHECK(h->header_blocks > 1);
    uint8_t *left = crash();
    rig.device.bad_from = block_offset(ring_place(s, at + 1));
    rig.device.bad_len = BLOCK_SIZE;
    CHECK(comes_back(left));
    CHECK(pg->damaged);
    rig.device.bad_len = 0;
    free(left);
    tear_down();
}

static void set_up_large(void)
{
    set_up();
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(write_blocks(2, 0, 16), 0);
    rig_settle(&rig);
    CHECK_EQ(log_at(pg_of(pg), 2)->chunk_count, 1);
}

/* The newest entry's chunk, at a start. */
static uint8_t *chunk_is_unread(void)
{
    set_up_large();
    uint8_t *left = crash();
    rig.device.bad_from = block_offset(s->g.chunk_block);
    rig.device.bad_len = s->g.chunk_count * BLOCKS_PER_CHUNK * BLOCK_SIZE;
    CHECK(comes_back(left));
    CHECK(pg->damaged);
    return left;
}

/* A chunk that the newest entry brought. */
static void a_chunk_that_cannot_be_read_is_damage(void)
{
    uint8_t *left = chunk_is_unread();
    rig.device.bad_len = 0;
    CHECK(comes_back(left));
    CHECK_EQ(pg->last_index, 2);
    free(left);
    tear_down();
}

/* At a later start it may be read. Then its entry must have it still, though that will not be applied here:
 * if another PG's had got it meanwhile, this one's log would be called damaged, too. */
static void a_chunk_that_cannot_be_read_stays_where_it_is(void)
{
    uint8_t *left = chunk_is_unread();
    free(left);
    rig.device.bad_len = 0;
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    pg = store_pg_find(s, 2);
    CHECK_EQ(write_blocks(1, 0, 16), 0);
    CHECK_EQ(log_at(pg_of(pg), 1)->chunk_count, 1);
    rig_settle(&rig);
    power_fails();
    pg = store_pg_find(s, 2);
    CHECK_EQ(pg->last_index, 1);
    CHECK(!pg->damaged);
    tear_down();
}

/* The crash came before that chunk was written: an error that passes makes no entry of it. */
static void a_torn_chunk_is_torn(void)
{
    set_up_large();
    uint64_t place = entry_place(s, log_at(pg_of(pg), 2), 0);
    uint8_t *left = crash();
    memset(left + block_offset(place), 0, CHUNK_SIZE);
    CHECK(comes_back(left));
    CHECK_EQ(pg->last_index, 1);
    uint64_t before = rig.device.requests;
    CHECK(comes_back(left));
    uint64_t requests = rig.device.requests - before;

    for (uint64_t n = 1; n <= requests; n++) {
        if (s)
            CHECK_EQ(close_store(), 0);
        rig.device.fail_at = rig.device.requests + n;
        if (comes_back(left))
            CHECK(pg->last_index == 1 || pg->damaged);
    }
    rig.device.fail_at = 0;
    CHECK(comes_back(left));
    free(left);
    tear_down();
}

/* Of two batches that were under way the crash tore the header of one, and the other one cannot be read: it
 * has the number behind that which nobody has seen. */
static void what_cannot_be_read_keeps_its_number(void)
{
    set_up();
    rig.device.blk.queue_depth_hint = 4;
    reopen();
    uint64_t torn = block_offset(ring_place(s, s->head));
    rig.device.held_from = block_offset(s->g.ring_block);
    rig.device.held_len = block_offset(s->g.ring_blocks);
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    uint64_t unread = block_offset(ring_place(s, s->head)), seq = s->next_seq;
    CHECK_EQ(write_blocks(2, 0, 1), 0);
    rig_settle(&rig);
    CHECK_EQ(s->inflight_count, 2);
    uint64_t behind = block_offset(ring_place(s, s->head));
    rig.device.held_len = 0;
    while (pg->durable_index < 2)
        rig_turn(&rig);
    CHECK_EQ(close_store(), 0);
    memset(rig.device.data + torn, 0, BLOCK_SIZE);
    memset(rig.device.data + behind, 0, BLOCK_SIZE);
    rig.device.bad_from = unread;
    rig.device.bad_len = BLOCK_SIZE;
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(pg->last_index, 0);
    CHECK(s->next_seq > seq);
    rig.device.bad_len = 0;
    tear_down();
}

/* Until the next batch of so many blocks has no room in front of the ring's end, and a small one has. */
static void near_the_end_of_the_ring(uint64_t blocks)
{
    uint64_t left;

    while ((left = s->g.ring_blocks - s->head % s->g.ring_blocks) > blocks || left < 10) {
        CHECK_EQ(write_blocks(1, 1, 15), 0);
        apply_all();
    }
}

/* The newest batch has no room before the ring's end, so it is at its beginning, and cannot be read. The next
 * one, which is small, has room in front of that. When the other is readable again it is not to be taken for
 * it, though both follow the same one: it was given up. */
static void what_is_read_again_later_does_not_return(void)
{
    set_up();
    near_the_end_of_the_ring(60);
    for (uint32_t n = 0; n < 5; n++)
        CHECK_EQ(write_blocks(n, 1, 15), 0);
    while (pg->durable_index < pg->last_index)
        rig_turn(&rig);
    CHECK_EQ(log_at(pg_of(pg), pg->last_index)->batch->position % s->g.ring_blocks, 0);
    CHECK_EQ(log_at(pg_of(pg), pg->last_index)->batch->seq, s->last_seq);
    rig.device.bad_from = block_offset(s->g.ring_block);
    rig.device.bad_len = BLOCK_SIZE;
    power_fails();
    CHECK(pg->damaged);
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 2, .replica = 1, .birth = 3}), 0);
    pg = store_pg_find(s, 2);
    CHECK_EQ(write_blocks(1, 0, 1), 0);
    rig_settle(&rig);
    CHECK(log_at(pg_of(pg), 1)->batch->position % s->g.ring_blocks);
    rig.device.bad_len = 0;
    power_fails();
    CHECK(pg->record.state == STORE_PG_DAMAGED);
    pg = store_pg_find(s, 2);
    CHECK_EQ(pg->last_index, 1);
    CHECK(!pg->damaged);
    tear_down();
}

/* Of each block of the table one copy is whole: of the first block not `spoiled`, and of the second not the
 * other. */
static bool opens_with_one_copy_of_each(uint64_t spoiled, uint64_t other)
{
    CHECK_EQ(close_store(), 0);
    memset(rig.device.data + spoiled * BLOCK_SIZE, 0x55, BLOCK_SIZE);
    rig.device.bad_from = (other + 1) * BLOCK_SIZE;
    rig.device.bad_len = BLOCK_SIZE;
    int error = open_store();
    CHECK_EQ(error, 0);
    if (!error)
        CHECK_EQ(pg->record.term, 9);
    return !error;
}

static void a_table_block_that_cannot_be_read_costs_itself(void)
{
    set_up();
    struct store_pg_record record = pg->record;
    record.term = 9;
    CHECK_EQ(write_record(&record), 0);
    uint64_t copy_a = s->g.table_block, copy_b = copy_a + s->g.table_blocks;
    CHECK(s->g.table_blocks > 1);
    if (opens_with_one_copy_of_each(copy_b, copy_a) && opens_with_one_copy_of_each(copy_a, copy_b))
        tear_down();
}

/* Of two superblocks one is damaged, and the other does not come, once: that is no device without any. */
static void a_superblock_may_be_there(void)
{
    for (uint64_t bad = 0; bad < 2; bad++) {
        set_up();
        CHECK_EQ(close_store(), 0);
        rig.device.data[(bad ? SUPERBLOCK_B_BLOCK : SUPERBLOCK_A_BLOCK) * BLOCK_SIZE] ^= 1;
        rig.device.fail_at = rig.device.requests + (bad ? 1 : 2);
        CHECK_EQ(open_store(), -ERR_IO);
        CHECK_EQ(open_store(), 0);
        tear_down();
    }
}

/* Of what is on the device of the cluster map no older one comes of it, whichever copy has the newest: the
 * first bytes of the header and of the data of both, and any request of the start. */
static void the_newest_map_comes_back(void)
{
    for (uint32_t writes = 2; writes <= 3; writes++) {
        set_up();
        for (uint32_t n = 1; n <= writes; n++)
            write_blob(n == writes ? "newest" : "before");
        uint8_t *left = crash();
        for (uint32_t n = 0; n < 4; n++) {
            rig.device.wrong_at = block_offset(s->g.blob_block + (n / 2 ? s->g.blob_blocks : 0) + n % 2) + 3;
            for (rig.device.wrong_read = 1; rig.device.wrong_read < 4; rig.device.wrong_read++) {
                rig.device.reads = 0;
                CHECK(comes_back(left));
                CHECK(blob_is("newest"));
            }
        }
        rig.device.wrong_at = 0;
        uint64_t before = rig.device.requests;
        CHECK(comes_back(left));
        uint64_t requests = rig.device.requests - before;
        for (uint64_t n = 1; n <= requests; n++) {
            if (s)
                CHECK_EQ(close_store(), 0);
            rig.device.fail_at = rig.device.requests + n;
            if (comes_back(left))
                CHECK(blob_is("newest"));
        }
        rig.device.fail_at = 0;
        CHECK(comes_back(left));
        free(left);
        tear_down();
    }
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(a_table_block_that_cannot_be_read_costs_itself);
    TEST(an_error_that_passes_costs_nothing);
    TEST(a_superblock_may_be_there);
    TEST(the_newest_map_comes_back);
    TEST(a_wrong_read_costs_nothing);
    TEST(an_error_that_stays_is_damage);
    TEST(half_a_header_is_damage);
    TEST(a_chunk_that_cannot_be_read_is_damage);
    TEST(a_chunk_that_cannot_be_read_stays_where_it_is);
    TEST(a_torn_chunk_is_torn);
    TEST(what_is_read_again_later_does_not_return);
    TEST(what_cannot_be_read_keeps_its_number);
    return tap_done();
}
