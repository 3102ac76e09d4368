/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and checking devices with arbitrary contents: a slice that was in use, with blocks of its
 * structures changed at random, most of them with a checksum that fits again, so that what lies behind the
 * checksums is reached. No crash, no hang, no memory error (run it under the sanitizers); what opens must
 * work on. With arguments FIRST COUNT: those inputs.
 */
#include "base/hash.h"
#include "base/crc32c.h"
#include "store/internal.h"
#include "tests/store/device.h"
#include "tests/tap.h"

#define SIZE   (40ull << 20)
#define INPUTS 150

static struct rig rig;
static struct store_config config;
static uint8_t *saved;
static uint64_t rng;
static uint64_t *places; /* of blocks that begin with a magic number of ours */
static uint32_t place_count;

static uint64_t draw(uint64_t n)
{
    rng += 0x9e3779b97f4a7c15ull;
    return hash_u64(rng) % n;
}

static bool ours(uint64_t magic)
{
    static const uint64_t magics[] = {MAGIC_SUPERBLOCK, MAGIC_PG_TABLE, MAGIC_BLOB, MAGIC_CHECKPOINT,
                                      MAGIC_CKPT_BLOCK, MAGIC_BATCH,    MAGIC_PAGE};

    for (uint32_t i = 0; i < ARRAY_LEN(magics); i++)
        if (magic == magics[i])
            return true;
    return false;
}

static struct store *open_store(int *ret_result)
{
    struct store_open o = {0};

    store_open_start(&o, &config, NULL);
    *ret_result = rig_wait(&rig, &o.op);
    return *ret_result ? NULL : o.ret_store;
}

static void close_store(struct store *s)
{
    struct store_close c = {0};

    store_close_start(&c, s, NULL);
    CHECK_EQ(rig_wait(&rig, &c.op), 0);
}

/* PG 1 has been split once, PG 2 is about to be. */
#define CHILD_OF(pg) ((pg) + 4)

static void append_split(struct store_pg *pg)
{
    const struct group group = {.count = 1, .members = {{.replica = 1, .flags = GROUP_VOTER}}};
    uint32_t words[GROUP_WORDS_MAX];
    struct entry e;

    group_to_entry(&group, words, &e);
    e.type = ENTRY_SPLIT;
    e.index = pg->last_index + 1;
    e.term = MAX(store_log_term(pg, pg->last_index), 1);
    e.image = CHILD_OF(pg->record.pg);
    e.epoch = 0;
    (void)!store_append(pg, &e, NULL);
}

/* If a split is what applies next, as a host does it. */
static void split(struct store_pg *pg)
{
    struct store_pg_record child = {.replica = 1};
    struct store_split w = {0};
    struct entry e;
    struct slice payload;

    if (pg->applied_index == pg->durable_index || store_log_get(pg, pg->applied_index + 1, &e, &payload) ||
        e.type != ENTRY_SPLIT)
        return;
    CHECK_EQ(group_from_entry(&e, &child.group), 0);
    child.pg = pg->record.pg >> 32 << 32 | e.image;
    store_split_start(&w, pg, &child, NULL);
    CHECK(rig_wait(&rig, &w.op) != -ERR_TIMEOUT);
}

static void append(struct store_pg *pg, uint64_t n)
{
    struct entry e = {.index = pg->last_index + 1,
                      .term = MAX(store_log_term(pg, pg->last_index), 1),
                      .image = 1 + n % 3,
                      .object = n % 7};
    uint32_t crc[4];
    struct slice payload = {0};

    while (!split_belongs(pg_of(pg), pg->record.split_count, e.image, e.object))
        e.object++;
    e.type = n % 11 == 3 ? ENTRY_CLEAR : n % 31 == 5 ? ENTRY_IMAGE : ENTRY_WRITE;
    e.generation = e.incarnation = n;
    e.size_bytes = 5 * OBJECT_SIZE + 12345;
    if (e.type != ENTRY_IMAGE) {
        e.first_block = (uint32_t)(n * 37 % 500);
        e.block_count = 4;
    }
    if (e.type == ENTRY_WRITE) {
        payload = (struct slice){.buf = buf_new(rig.core.arena, 4 * BLOCK_SIZE), .len = 4 * BLOCK_SIZE};
        if (!payload.buf)
            return;
        for (uint32_t i = 0; i < 4; i++) {
            memset(payload.buf->data + i * BLOCK_SIZE, (int)(n + i), BLOCK_SIZE);
            crc[i] = crc32c(0, payload.buf->data + i * BLOCK_SIZE, BLOCK_SIZE);
        }
        e.crc = crc;
    }
    if (store_append(pg, &e, payload.buf ? &payload : NULL) == 0 && n % 5 == 0)
        store_apply(pg, pg->durable_index);
    slice_unref(&payload);
}

static void read_object(struct store_pg *pg, uint64_t image, uint64_t object)
{
    struct store_read r = {0};

    store_read_start(&r, pg, image, object, (uint32_t)draw(257), 256, draw(2), NULL);
    CHECK(rig_wait(&rig, &r.op) != -ERR_TIMEOUT);
    slice_unref(&r.ret_data);
}

static void prepare(void)
{
    struct store_format f = {0};
    int rc;

    rig_init(&rig, 64u << 20, SIZE);
    config = (struct store_config){
        .core = &rig.core, .blk = &rig.device.blk, .cache_bytes = 1u << 20, .pgs_max = 8, .pages_max = 2};
    store_format_start(&f, &config, 8u << 20, NULL);
    CHECK_EQ(rig_wait(&rig, &f.op), 0);
    struct store *s = open_store(&rc);
    CHECK_EQ(rc, 0);
    struct store_blob_write w = {0};
    store_blob_write_start(&w, s, "the map", 8, NULL);
    CHECK_EQ(rig_wait(&rig, &w.op), 0);
    for (uint64_t pg = 1; pg <= 3; pg++) {
        struct store_pg_write p = {0};
        struct store_pg_record r = {.pg = pg,
                                    .replica = 1,
                                    .term = 1,
                                    .birth = 1,
                                    .group = {.count = 1, .members = {{.replica = 1, .flags = GROUP_VOTER}}}};
        store_pg_write_start(&p, s, &r, NULL);
        CHECK_EQ(rig_wait(&rig, &p.op), 0);
    }
    for (uint64_t n = 0; n < 1500; n++) {
        append(store_pg_find(s, 1 + n % 3), n);
        rig_settle(&rig);
        if (n != 1000)
            continue;
        store_apply(store_pg_find(s, 1), store_pg_find(s, 1)->durable_index);
        append_split(store_pg_find(s, 1));
        rig_settle(&rig);
        split(store_pg_find(s, 1));
    }
    CHECK_EQ(store_pg_find(s, 1)->record.split_count, CHILD_OF(1) + 1);
    CHECK(store_pg_find(s, CHILD_OF(1)));
    append_split(store_pg_find(s, 2));
    rig_settle(&rig);
    CHECK(store_counters(s)->checkpoints > 0 && store_counters(s)->page_writes > 0);
    close_store(s);
    saved = malloc(SIZE);
    places = malloc(SIZE / BLOCK_SIZE * sizeof(*places));
    memcpy(saved, rig.device.data, SIZE);
    for (uint64_t at = 0; at < SIZE; at += BLOCK_SIZE) {
        uint64_t magic;
        memcpy(&magic, saved + at, 8);
        if (magic == MAGIC_CHECKPOINT) {
            struct disk_checkpoint *c = (struct disk_checkpoint *)(saved + at);
            c->blocks_crc = 0; /* its blocks count, though they are changed */
            FORMAT_SEAL(c);
        }
        if (ours(magic))
            places[place_count++] = at;
    }
}

static void seal(uint8_t *block)
{
    struct disk_batch *h = (struct disk_batch *)block;

    /* All have it at offset 8, or at 12 behind a version. */
    switch (h->magic) {
    case MAGIC_SUPERBLOCK:
        FORMAT_SEAL((struct disk_superblock *)block);
        return;
    case MAGIC_PG_TABLE:
        FORMAT_SEAL((struct disk_table_block *)block);
        return;
    case MAGIC_BATCH:
        if (h->used_bytes >= sizeof(*h) && h->used_bytes <= BATCH_HEADER_BLOCKS_MAX * BLOCK_SIZE)
            h->crc = format_crc(h, h->used_bytes, offsetof(struct disk_batch, crc));
        return;
    case MAGIC_PAGE:
        FORMAT_SEAL((struct disk_page *)block);
        return;
    case MAGIC_BLOB:
        FORMAT_SEAL((struct disk_blob_header *)block);
        return;
    case MAGIC_CHECKPOINT:
        FORMAT_SEAL((struct disk_checkpoint *)block);
        return;
    case MAGIC_CKPT_BLOCK:
        FORMAT_SEAL((struct disk_checkpoint_block *)block);
        return;
    }
}

static void mutate(void)
{
    uint64_t what = draw(20);
    uint8_t *block = rig.device.data + places[draw(place_count)];

    /* The few structures that everything hangs on come up more often than their number. */
    if (what < 6)
        block = rig.device.data + places[draw(MIN(place_count, 600))];
    for (uint64_t n = 1 + draw(4); n > 0; n--) {
        uint64_t at = 8 + draw(draw(2) ? 120 : BLOCK_SIZE - 16);
        uint64_t value = hash_u64(rng + n);
        switch (draw(6)) {
        case 0:
            block[at] ^= (uint8_t)(1u << draw(8));
            break;
        case 1:
            block[at] = (uint8_t)value;
            break;
        case 2:
            value = draw(4);
            memcpy(block + ALIGN_DOWN(at, 8), &value, 8);
            break;
        case 3:
            value = ~draw(3);
            memcpy(block + ALIGN_DOWN(at, 4), &value, 4);
            break;
        case 4: /* a number next to the largest */
            value = draw(2) ? ~draw(3) : FORMAT_NUMBER_MAX - 1 - draw(3);
            memcpy(block + ALIGN_DOWN(at, 8), &value, 8);
            break;
        case 5: /* another block's content */
            memcpy(block + at, rig.device.data + places[draw(place_count)] + at, draw(BLOCK_SIZE - at));
            break;
        }
    }
    if (draw(8))
        seal(block);
}

static void check_line(void *owner, bool problem, const char *text)
{
    if (getenv("VERBOSE"))
        printf("# %s%s\n", problem ? "PROBLEM " : "", text);
}

static void check(void)
{
    struct store_check c = {0};

    store_check_start(&c, &rig.core, &rig.device.blk, true, check_line, NULL, NULL);
    CHECK(rig_wait(&rig, &c.op) != -ERR_TIMEOUT);
}

static void use(struct store *s)
{
    for (struct store_pg *pg = NULL; (pg = store_pg_next(s, pg));) {
        struct store_object_info info;
        uint64_t image = 0, object = 0;
        for (bool start = true; store_object_next(pg, start, image, object, &info); start = false) {
            image = info.image;
            object = info.object;
            read_object(pg, image, object);
        }
        if (pg->last_index > pg->applied_index)
            store_apply(pg, pg->durable_index);
        split(pg);
        if (pg->first_index <= pg->last_index) {
            struct store_log_read r = {0};
            store_log_read_start(&r, pg, pg->first_index, pg->last_index, 1u << 20, NULL);
            CHECK(rig_wait(&rig, &r.op) != -ERR_TIMEOUT);
            for (uint32_t i = 0; i < r.ret_count; i++)
                slice_unref(&r.ret_payloads[i]);
        }
    }
    for (uint64_t n = 0; n < 300; n++) {
        struct store_pg *pg = store_pg_find(s, 1 + n % 3);
        if (pg && !pg->damaged)
            append(pg, n);
        rig_turn(&rig);
    }
    for (int i = 0; i < 3000; i++)
        rig_turn(&rig);
}

static void input(uint64_t number)
{
    int rc;

    rng = hash_u64(number + 7);
    memcpy(rig.device.data, saved, SIZE);
    for (uint64_t n = draw(6); n + 1 > 0 && n != UINT64_MAX; n--)
        mutate();
    check();
    struct store *s = open_store(&rc);
    CHECK(rc != -ERR_TIMEOUT);
    if (!s)
        return;
    use(s);
    close_store(s);
}

static uint64_t first = 0, count = INPUTS;

static void changed_devices_are_survived(void)
{
    for (uint64_t n = first; n < first + count; n++) {
        if (getenv("VERBOSE"))
            printf("# input %llu\n", (unsigned long long)n);
        input(n);
    }
}

static void noise_is_survived(void)
{
    int rc;

    for (uint32_t i = 0; i < SIZE / 8; i++) {
        uint64_t word = hash_u64(i + 1);
        memcpy(rig.device.data + i * 8ull, &word, 8);
    }
    check();
    CHECK(open_store(&rc) == NULL);
    CHECK_EQ(rc, -ERR_FORMAT);
}

int main(int argc, char **argv)
{
    if (argc > 2) {
        first = strtoull(argv[1], NULL, 10);
        count = strtoull(argv[2], NULL, 10);
    }
    TEST(prepare);
    TEST(changed_devices_are_survived);
    TEST(noise_is_survived);
    rig_fini(&rig);
    free(saved);
    free(places);
    return tap_done();
}
