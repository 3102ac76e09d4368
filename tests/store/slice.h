/* SPDX-License-Identifier: Apache-2.0
 *
 * One slice on a device in memory, with PG 1 in it, and short words for what tests do with it.
 */
#ifndef TESTS_STORE_SLICE_H
#define TESTS_STORE_SLICE_H

#include "base/crc32c.h"
#include "store/internal.h"
#include "tests/store/device.h"
#include "tests/tap.h"

#ifndef SIZE
#define SIZE (40ull << 20)
#endif

static struct rig rig;
static struct store_config config;
static struct store *s;
static struct store_pg *pg; /* the one that is written to */
static uint8_t fill;        /* of the next write's first block; rises */
static bool sealed;         /* its blocks end with their own checksum, so that all have one and the same */

static inline int open_store(void)
{
    struct store_open o = {0};

    store_open_start(&o, &config, NULL);
    int rc = rig_wait(&rig, &o.op);
    s = rc ? NULL : o.ret_store;
    pg = s ? store_pg_find(s, 1) : NULL;
    return rc;
}

static inline int close_store(void)
{
    struct store_close c = {0};

    store_close_start(&c, s, NULL);
    s = NULL;
    return rig_wait(&rig, &c.op);
}

/* A group, where it does not matter. */
static const struct group ALONE = {.count = 1, .members = {{.replica = 1, .flags = GROUP_VOTER}}};

static inline int write_record(const struct store_pg_record *record)
{
    struct store_pg_write w = {0};
    struct store_pg_record r = *record;

    if (!r.group.count)
        r.group = ALONE;
    store_pg_write_start(&w, s, &r, NULL);
    int rc = rig_wait(&rig, &w.op);
    pg = rc ? pg : store_pg_find(s, 1);
    return rc;
}

static inline int format_store(void)
{
    struct store_format f = {0};

    store_format_start(&f, &config, 8u << 20, NULL);
    return rig_wait(&rig, &f.op);
}

static inline void set_up(void)
{
    rig_init(&rig, 64u << 20, SIZE);
    config = (struct store_config){
        .core = &rig.core, .blk = &rig.device.blk, .cache_bytes = 2u << 20, .pgs_max = 8, .pages_max = 2};
    CHECK_EQ(format_store(), 0);
    CHECK_EQ(open_store(), 0);
    CHECK_EQ(write_record(&(struct store_pg_record){.pg = 1, .replica = 1, .birth = 3}), 0);
}

static inline void tear_down(void)
{
    if (s)
        CHECK_EQ(close_store(), 0);
    rig_fini(&rig);
}

static inline void reopen(void)
{
    CHECK_EQ(close_store(), 0);
    CHECK_EQ(open_store(), 0);
}

static inline void write_blob(const char *text)
{
    struct store_blob_write w = {0};

    store_blob_write_start(&w, s, text, (uint32_t)strlen(text), NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
}

static inline bool blob_is(const char *text)
{
    uint32_t len;
    const void *blob = store_blob(s, &len);

    return blob && len == strlen(text) && memcmp(blob, text, len) == 0;
}

/* What the device has now is what a start finds. */
static inline void power_goes(void)
{
    uint8_t *left = malloc(SIZE);

    memcpy(left, rig.device.data, SIZE);
    rig.device.held_len = 0;
    CHECK_EQ(close_store(), 0);
    memcpy(rig.device.data, left, SIZE);
    free(left);
}

static inline void power_fails(void)
{
    power_goes();
    CHECK_EQ(open_store(), 0);
}

static inline uint32_t block_fill(uint8_t *block, int byte)
{
    memset(block, byte, BLOCK_SIZE);
    uint32_t crc = crc32c(0, block, BLOCK_SIZE - sizeof(crc));
    if (sealed)
        memcpy(block + BLOCK_SIZE - sizeof(crc), &crc, sizeof(crc));
    return crc32c(0, block, BLOCK_SIZE);
}

static inline int put(struct entry e, uint32_t blocks)
{
    struct slice payload = {0};
    uint32_t crc[IO_BLOCKS_MAX];

    e.index = e.index ? e.index : pg->last_index + 1;
    e.term = e.term ? e.term : 1;
    if (blocks) {
        e.type = ENTRY_WRITE;
        e.block_count = blocks;
        payload =
            (struct slice){.buf = buf_new(rig.core.arena, blocks * BLOCK_SIZE), .len = blocks * BLOCK_SIZE};
        if (!payload.buf)
            return -ERR_RETRY;
        for (uint32_t i = 0; i < blocks; i++)
            crc[i] = block_fill(payload.buf->data + i * BLOCK_SIZE, fill + (int)i);
        fill++;
        e.crc = crc;
    }
    int rc = store_append(pg, &e, blocks ? &payload : NULL);
    slice_unref(&payload);
    return rc;
}

static inline int write_blocks(uint64_t object, uint32_t first, uint32_t count)
{
    return put((struct entry){.image = 1, .object = object, .first_block = first}, count);
}

/* An object with a page and without a chunk. */
static inline void put_hollow(uint64_t object)
{
    struct entry clear = {
        .type = ENTRY_CLEAR, .image = 1, .object = object, .block_count = BLOCKS_PER_OBJECT};

    CHECK_EQ(write_blocks(object, 0, 1), 0);
    CHECK_EQ(put(clear, 0), 0);
}

/* An entry that removes or cuts off an image may take several turns. */
static inline void apply_all(void)
{
    rig_settle(&rig);
    do {
        store_apply(pg, pg->last_index);
        rig_settle(&rig);
    } while (store_applying(pg) && !store_failed(s));
}

/* The byte that block `block` is full of; -1: not written; other negatives: the error. */
static inline int block_is(uint64_t object, uint32_t block, bool proposed)
{
    struct store_read r = {0};

    store_read_start(&r, pg, 1, object, block, 1, proposed, NULL);
    int rc = rig_wait(&rig, &r.op);
    if (rc == 0)
        rc = r.ret_written[0] & 1 ? *slice_data(&r.ret_data) : -1;
    slice_unref(&r.ret_data);
    return rc;
}

/* One, because the tail is to move. */
static inline void make_checkpoint(void)
{
    uint64_t number = s->destage.ckpt_number;

    s->long_logs++;
    destage_wake(s);
    while (s->destage.ckpt_number == number)
        rig_turn(&rig);
    s->long_logs--;
    rig_settle(&rig);
}

#endif
