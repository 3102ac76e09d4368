/* SPDX-License-Identifier: Apache-2.0
 *
 * A store in memory, for tests of the osd room alone: everything that store.h promises to the host and
 * nothing behind it. What is durable is kept outside of the node, per OSD uuid, and so survives its crashes;
 * what was appended and not yet durable does not. A PG keeps only the last FAKE_LOG_KEEP applied entries, so
 * that recovery by copying is soon needed.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/placement.h"
#include "sim/heap.h"
#include "store/store.h"
#include "tests/osd/fake_store.h"

#define DEVICES_MAX 8
#define READ_NS     (40 * NS_PER_US)
#define DURABLE_NS  (60 * NS_PER_US)
#define TOTAL_BYTES (1ull << 30)

struct fake_entry {
    struct entry entry;
    uint32_t crc[IO_BLOCKS_MAX];
    uint8_t *data;        /* outside of the node */
    struct slice payload; /* in the node's arena, until applied */
};

struct fake_object {
    struct store_object_info info;
    uint64_t written[BLOCKS_PER_OBJECT / 64];
    uint64_t lost[BLOCKS_PER_OBJECT / 64]; /* of these: the page is readable, and knows no content of them */
    uint64_t bad[BLOCKS_PER_OBJECT / 64];  /* found damaged, the checksum is known */
    uint64_t lost_index;                   /* since when both are what they are */
    bool shed;                             /* empty, and about to go */
    uint8_t *blocks[BLOCKS_PER_OBJECT];
    uint32_t crc[BLOCKS_PER_OBJECT];
};

struct fake_pg {
    struct store_pg pub; /* first */
    bool used, refuse;
    uint64_t destaged_index; /* of one that is lazy */
    struct fake_entry *log;  /* [first_index .. last_index], ring of FAKE_LOG_MAX */
    struct image_record images[FAKE_IMAGES_MAX];
    uint32_t image_count;
    struct fake_object *objects[FAKE_OBJECTS_MAX]; /* ascending */
    uint32_t object_count;
};

struct fake_device {
    bool used;
    uint8_t uuid[16];
    struct fake_pg pgs[FAKE_PGS_MAX];
    uint8_t *blob;
    uint32_t blob_len;
};
static struct fake_device devices[DEVICES_MAX];

struct store {
    struct op op; /* makes things durable */
    struct core *core;
    struct fake_device *device;
    struct timer timer;
    bool closing, refuse, refuse_splits, refuse_blobs, refuse_copies, no_room, lazy, hold_records;
    struct list held_records; /* struct store_pg_write, by its waiter */
    uint64_t taken_bytes;
    int failed;
    struct op *close_waiter;
    struct store_counters counters;
    bool forgets;     /* what repairs write is damaged again at once */
    uint64_t read_ns; /* that a read takes */
    bool read_early;
};

static struct fake_entry *log_at(const struct fake_pg *pg, uint64_t index)
{
    return &pg->log[index % FAKE_LOG_MAX];
}

static bool bit(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}

static void bit_set(uint64_t *bits, uint32_t i, bool on)
{
    if (on)
        bits[i / 64] |= 1ull << i % 64;
    else
        bits[i / 64] &= ~(1ull << i % 64);
}

static struct fake_device *device_of(const uint8_t *uuid)
{
    for (int i = 0; i < DEVICES_MAX; i++)
        if (devices[i].used && !memcmp(devices[i].uuid, uuid, 16))
            return &devices[i];
    return NULL;
}

/* ---- objects ---- */

static uint32_t object_place(const struct fake_pg *pg, uint64_t image, uint64_t object)
{
    uint32_t i = 0;
    while (i < pg->object_count &&
           (pg->objects[i]->info.image < image ||
            (pg->objects[i]->info.image == image && pg->objects[i]->info.object < object)))
        i++;
    return i;
}

static struct fake_object *object_find(const struct fake_pg *pg, uint64_t image, uint64_t object)
{
    uint32_t i = object_place(pg, image, object);
    return i < pg->object_count && pg->objects[i]->info.image == image &&
                   pg->objects[i]->info.object == object
               ? pg->objects[i]
               : NULL;
}

static struct fake_object *object_get(struct fake_pg *pg, uint64_t image, uint64_t object)
{
    struct fake_object *o = object_find(pg, image, object);
    uint32_t i = object_place(pg, image, object);

    if (o)
        return o;
    ASSERT(pg->object_count < FAKE_OBJECTS_MAX);
    o = sim_alloc(sizeof(*o));
    o->info.image = image;
    o->info.object = object;
    memmove(&pg->objects[i + 1], &pg->objects[i], (pg->object_count - i) * sizeof(o));
    pg->objects[i] = o;
    pg->object_count++;
    pg->pub.object_count++;
    return o;
}

static void block_put(struct fake_object *o, uint32_t block, const uint8_t *data, uint32_t crc)
{
    if (data && !o->blocks[block])
        o->blocks[block] = sim_alloc(BLOCK_SIZE);
    if (data)
        memcpy(o->blocks[block], data, BLOCK_SIZE);
    o->crc[block] = crc;
    bit_set(o->written, block, data);
    bit_set(o->lost, block, false);
    bit_set(o->bad, block, false);
}

/* The object's newest entry that may have touched a block that is damaged. */
static uint64_t block_index(const struct fake_object *o, uint32_t block)
{
    return !o->info.damaged && (bit(o->lost, block) || bit(o->bad, block)) ? o->lost_index : o->info.index;
}

/* No entry above it has touched the block, as far as the log knows. */
static uint64_t block_since(const struct fake_pg *pg, const struct fake_object *o, uint32_t block)
{
    uint64_t index = o->info.index;

    if (index > pg->pub.applied_index)
        return index;
    for (; index > 1 && index >= pg->pub.first_index; index--) {
        const struct entry *e = &log_at(pg, index)->entry;
        bool object = e->type == ENTRY_WRITE || e->type == ENTRY_CLEAR;
        if (e->image == o->info.image &&
            (!object || (e->object == o->info.object && block - e->first_block < e->block_count)))
            break;
    }
    return index;
}

static void object_drop(struct fake_pg *pg, uint32_t i)
{
    struct fake_object *o = pg->objects[i];

    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
        free(o->blocks[b]);
    free(o);
    memmove(&pg->objects[i], &pg->objects[i + 1], (pg->object_count - i - 1) * sizeof(o));
    pg->object_count--;
    pg->pub.object_count--;
}

static struct image_record *image_find(const struct fake_pg *pg, uint64_t image)
{
    for (uint32_t i = 0; i < pg->image_count; i++)
        if (pg->images[i].image == image)
            return (struct image_record *)&pg->images[i];
    return NULL;
}

static void image_set(struct fake_pg *pg, const struct image_record *record)
{
    struct image_record *had = image_find(pg, record->image);

    if (!had) {
        ASSERT(pg->image_count < ARRAY_LEN(pg->images));
        had = &pg->images[pg->image_count++];
        had->deleted = false;
    } else if (had->generation > record->generation ||
               (had->generation == record->generation && had->incarnation >= record->incarnation)) {
        return;
    }
    pg->pub.tombstone_count += (uint64_t)record->deleted - (uint64_t)had->deleted;
    *had = *record;
    for (uint32_t i = pg->object_count; i-- > 0;) {
        struct fake_object *o = pg->objects[i];
        if (o->info.image != record->image)
            continue;
        if (record->deleted || o->info.object * OBJECT_SIZE >= record->size_bytes) {
            object_drop(pg, i);
            continue;
        }
        for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
            if (o->info.object * OBJECT_SIZE + (uint64_t)b * BLOCK_SIZE >= record->size_bytes)
                block_put(o, b, NULL, 0);
    }
}

static void image_forget(struct fake_pg *pg, uint64_t image, uint64_t index)
{
    struct image_record *had = image_find(pg, image);

    if (had && had->index <= index) {
        pg->pub.tombstone_count -= had->deleted;
        *had = pg->images[--pg->image_count];
    }
    for (uint32_t i = pg->object_count; i-- > 0;)
        if (pg->objects[i]->info.image == image && pg->objects[i]->info.index <= index)
            object_drop(pg, i);
}

static void entry_apply(struct fake_pg *pg, const struct fake_entry *e)
{
    const struct entry *entry = &e->entry;

    if (entry->type == ENTRY_IMAGE) {
        struct image_record record = {.image = entry->image,
                                      .incarnation = entry->incarnation,
                                      .generation = entry->generation,
                                      .size_bytes = entry->size_bytes,
                                      .index = entry->index,
                                      .deleted = entry->flags & ENTRY_IMAGE_DELETED};
        image_set(pg, &record);
    }
    if (entry->type == ENTRY_FORGET) {
        pg->pub.floor_epoch = MAX(pg->pub.floor_epoch, entry->epoch);
        image_forget(pg, entry->image, entry->index);
    }
    if (entry->type == ENTRY_GROUP) {
        struct group group;
        int error = group_from_entry(entry, &group);
        ASSERT(!error);
        if (group.index > pg->pub.record.group.index)
            pg->pub.record.group = group;
    }
    if (entry->type != ENTRY_WRITE && entry->type != ENTRY_CLEAR)
        return;
    struct fake_object *o = object_get(pg, entry->image, entry->object);
    if (o->info.index >= entry->index)
        return;
    o->info.index = entry->index;
    for (uint32_t i = 0; i < entry->block_count; i++)
        block_put(o, entry->first_block + i,
                  entry->type == ENTRY_WRITE ? e->data + (size_t)i * BLOCK_SIZE : NULL,
                  entry->type == ENTRY_WRITE ? e->crc[i] : 0);
}

/* ---- life ---- */

static void ok_step(struct op *op)
{
    op_done(op, 0);
}
static const struct op_kind ok_kind = {"fake.ok", NULL, ok_step};

static void busy_step(struct op *op)
{
    op_done(op, -ERR_NO_MEMORY);
}
static const struct op_kind busy_kind = {"fake.busy", NULL, busy_step};

void store_format_start(struct store_format *f, const struct store_config *config, uint64_t ring_bytes,
                        struct op *parent)
{
    struct fake_device *device = NULL;

    for (int i = 0; i < DEVICES_MAX && !device; i++)
        if (!devices[i].used)
            device = &devices[i];
    ASSERT(device);
    device->used = true;
    memcpy(device->uuid, config->osd_uuid, 16);
    op_start(&f->op, config->core, &ok_kind, parent);
}

static void fake_step(struct op *op)
{
    struct store *store = container_of(op, struct store, op);

    if (store->closing) {
        struct op *waiter = store->close_waiter;
        timer_cancel(op->core, &store->timer);
        op_done(op, 0);
        op_wake(waiter);
        return;
    }
    if (timer_armed(&store->timer))
        return;
    for (int i = 0; i < FAKE_PGS_MAX; i++) {
        struct fake_pg *pg = &store->device->pgs[i];
        if (!pg->used || pg->pub.durable_index == pg->pub.last_index)
            continue;
        pg->pub.durable_index = pg->pub.last_index;
        pg->pub.durable_ns = core_now_ns(store->core);
        if (!pg->pub.durable_unawaited)
            op_wake(pg->pub.waiter);
    }
}
static const struct op_kind fake_kind = {"fake.store", NULL, fake_step};

static void open_step(struct op *op)
{
    struct store_open *o = container_of(op, struct store_open, op);
    struct fake_device *device = device_of(o->config.osd_uuid);
    struct store *store = device ? calloc(1, sizeof(*store)) : NULL;

    if (!store) {
        op_done(op, -ERR_FORMAT);
        return;
    }
    store->core = op->core;
    store->device = device;
    list_init(&store->held_records);
    for (int i = 0; i < FAKE_PGS_MAX; i++) {
        struct fake_pg *pg = &device->pgs[i];
        if (!pg->used)
            continue;
        pg->pub.store = store;
        for (uint64_t n = pg->pub.durable_index + 1; n <= pg->pub.last_index; n++) {
            free(log_at(pg, n)->data);
            log_at(pg, n)->data = NULL;
        }
        pg->pub.last_index = pg->pub.durable_index;
        pg->pub.waiter = NULL;
        pg->pub.host = NULL;
        for (uint64_t n = pg->pub.first_index; n <= pg->pub.last_index; n++)
            log_at(pg, n)->payload = (struct slice){0};
    }
    op_start(&store->op, op->core, &fake_kind, NULL);
    o->ret_store = store;
    op_done(op, 0);
}
static const struct op_kind open_kind = {"fake.open", NULL, open_step};

void store_open_start(struct store_open *o, const struct store_config *config, struct op *parent)
{
    o->config = *config;
    op_start(&o->op, config->core, &open_kind, parent);
}

static void close_step(struct op *op)
{
    struct store_close *c = container_of(op, struct store_close, op);
    struct store *store = c->store;

    store->closing = true;
    store->close_waiter = op;
    if (op_live(&store->op)) {
        op_wake(&store->op);
        return;
    }
    for (int i = 0; i < FAKE_PGS_MAX; i++) {
        struct fake_pg *pg = &store->device->pgs[i];
        for (uint64_t n = pg->used ? pg->pub.first_index : 1; pg->used && n <= pg->pub.last_index; n++)
            slice_unref(&log_at(pg, n)->payload);
    }
    free(store);
    op_done(op, 0);
}
static const struct op_kind close_kind = {"fake.close", NULL, close_step};

void store_close_start(struct store_close *c, struct store *store, struct op *parent)
{
    c->store = store;
    op_start(&c->op, store->core, &close_kind, parent);
}

int store_failed(const struct store *store)
{
    return store->failed;
}

void fake_store_fail(struct store *store)
{
    store->failed = -ERR_IO;
    for (int i = 0; i < FAKE_PGS_MAX; i++)
        if (store->device->pgs[i].used)
            op_wake(store->device->pgs[i].pub.waiter);
}

void fake_store_refuse(struct store *store, bool refuse)
{
    store->refuse = refuse;
}

void fake_store_hold_records(struct store *store, bool hold)
{
    store->hold_records = hold;
    while (!hold && !list_empty(&store->held_records)) {
        struct list *first = list_pop_front(&store->held_records);
        op_wake(&list_entry(first, struct store_pg_write, waiter.link)->op);
    }
}

void fake_store_refuse_splits(struct store *store, bool refuse)
{
    store->refuse_splits = refuse;
}

void fake_store_be_lazy(struct store *store, bool lazy)
{
    store->lazy = lazy;
}

void fake_store_refuse_copies(struct store *store, bool refuse)
{
    store->refuse_copies = refuse;
}

void fake_store_refuse_blobs(struct store *store, bool refuse)
{
    store->refuse_blobs = refuse;
}

void fake_store_set_room(struct store *store, bool room)
{
    store->no_room = !room;
}

void fake_store_refuse_pg(struct store *store, uint64_t pg, bool refuse)
{
    ((struct fake_pg *)store_pg_find(store, pg))->refuse = refuse;
}

void fake_store_set_free(struct store *store, uint64_t free_bytes)
{
    store->taken_bytes = TOTAL_BYTES - free_bytes;
}

struct store_space store_space(const struct store *store)
{
    return (struct store_space){TOTAL_BYTES, store->taken_bytes, TOTAL_BYTES - store->taken_bytes, 1u << 20};
}

void store_blob_write_start(struct store_blob_write *w, struct store *store, const void *data, uint32_t len,
                            struct op *parent)
{
    struct fake_device *device = store->device;

    if (store->refuse_blobs) {
        op_start(&w->op, store->core, &busy_kind, parent);
        return;
    }
    free(device->blob);
    device->blob = sim_alloc(len + 1);
    memcpy(device->blob, data, len);
    device->blob_len = len;
    op_start(&w->op, store->core, &ok_kind, parent);
}

const void *store_blob(const struct store *store, uint32_t *ret_len)
{
    *ret_len = store->device->blob_len;
    return store->device->blob;
}

const struct store_counters *store_counters(const struct store *store)
{
    return &store->counters;
}

/* ---- PGs ---- */

struct store_pg *store_pg_find(const struct store *store, uint64_t id)
{
    for (int i = 0; i < FAKE_PGS_MAX; i++)
        if (store->device->pgs[i].used && store->device->pgs[i].pub.record.pg == id)
            return &store->device->pgs[i].pub;
    return NULL;
}

uint32_t store_pgs_max(const struct store *s)
{
    return STORE_PGS_MAX;
}

struct store_pg *store_pg_next(const struct store *store, const struct store_pg *after)
{
    int i = after ? (int)((const struct fake_pg *)after - store->device->pgs) + 1 : 0;

    for (; i < FAKE_PGS_MAX; i++)
        if (store->device->pgs[i].used)
            return &store->device->pgs[i].pub;
    return NULL;
}

static struct store_pg *pg_make(struct store *store)
{
    struct fake_pg *pg = store->device->pgs;

    while (pg < store->device->pgs + FAKE_PGS_MAX && pg->used)
        pg++;
    ASSERT(pg < store->device->pgs + FAKE_PGS_MAX);
    *pg = (struct fake_pg){.used = true};
    pg->log = sim_alloc(FAKE_LOG_MAX * sizeof(*pg->log));
    pg->pub.store = store;
    pg->pub.first_index = 1;
    return &pg->pub;
}

static void pg_write_step(struct op *op)
{
    struct store_pg_write *w = container_of(op, struct store_pg_write, op);
    struct store_pg *sp = store_pg_find(w->store, w->record.pg);

    if (w->store->failed) {
        op_done(op, -ERR_STOPPED);
        return;
    }
    if (w->store->hold_records && !op->state) {
        op->state = 1;
        list_push_back(&w->store->held_records, &w->waiter.link);
        return;
    }
    if (!sp)
        sp = pg_make(w->store);
    ASSERT(group_validate(&w->record.group));
    if (sp->record.pg)
        w->record.group = sp->record.group;
    w->record.split_count = sp->record.split_count;
    sp->record = w->record;
    w->ret_pg = sp;
    op_done(op, 0);
}
static const struct op_kind pg_write_kind = {"fake.pg-write", NULL, pg_write_step};

void store_pg_write_start(struct store_pg_write *w, struct store *store, const struct store_pg_record *record,
                          struct op *parent)
{
    w->store = store;
    w->record = *record;
    op_start(&w->op, store->core, &pg_write_kind, parent);
}

static void pg_force_step(struct op *op)
{
    struct store_pg_write *w = container_of(op, struct store_pg_write, op);
    struct store_pg *sp = store_pg_find(w->store, w->record.pg);

    if (w->store->failed || sp->damaged || sp->record.state != STORE_PG_NORMAL) {
        op_done(op, w->store->failed ? -ERR_STOPPED : -ERR_DAMAGED);
        return;
    }
    if (sp->durable_index != sp->last_index) {
        op_done(op, -ERR_RETRY);
        return;
    }
    sp->record.replica = w->record.replica;
    sp->record.term = w->record.term;
    sp->record.vote = 0;
    sp->record.group = w->record.group;
    sp->record.group.index = sp->last_index;
    w->ret_pg = sp;
    op_done(op, 0);
}
static const struct op_kind pg_force_kind = {"fake.pg-force", NULL, pg_force_step};

void store_pg_force_start(struct store_pg_write *w, struct store *store, const struct store_pg_record *record,
                          struct op *parent)
{
    w->store = store;
    w->record = *record;
    op_start(&w->op, store->core, &pg_force_kind, parent);
}

static void pg_clear(struct fake_pg *pg)
{
    for (uint64_t n = pg->pub.first_index; n <= pg->pub.last_index; n++) {
        slice_unref(&log_at(pg, n)->payload);
        free(log_at(pg, n)->data);
        log_at(pg, n)->data = NULL;
    }
}

void store_pg_remove_start(struct store_pg_remove *r, struct store_pg *sp, struct op *parent)
{
    struct fake_pg *pg = (struct fake_pg *)sp;

    pg_clear(pg);
    while (pg->object_count)
        object_drop(pg, 0);
    free(pg->log);
    pg->used = false;
    op_start(&r->op, sp->store->core, &ok_kind, parent);
}

static void pg_lose(struct fake_pg *pg)
{
    for (uint64_t n = pg->pub.first_index; n <= pg->pub.last_index; n++)
        free(log_at(pg, n)->data);
    while (pg->object_count)
        object_drop(pg, 0);
    free(pg->log);
    *pg = (struct fake_pg){0};
}

static void copying_forget(void);

void fake_store_forget_all(void)
{
    copying_forget();
    for (int d = 0; d < DEVICES_MAX; d++) {
        struct fake_device *device = &devices[d];
        for (int i = 0; i < FAKE_PGS_MAX; i++) {
            struct fake_pg *pg = &device->pgs[i];
            if (pg->used)
                pg_lose(pg);
        }
        free(device->blob);
        *device = (struct fake_device){0};
    }
}

void fake_store_damage_log(const uint8_t *uuid, uint64_t id, uint32_t keep)
{
    struct fake_device *device = device_of(uuid);

    for (int i = 0; i < FAKE_PGS_MAX; i++) {
        struct fake_pg *pg = &device->pgs[i];
        if (!pg->used || pg->pub.record.pg != id)
            continue;
        pg->pub.damaged = true;
        while (pg->pub.durable_index > pg->pub.applied_index && pg->pub.durable_index > keep)
            pg->pub.durable_index--;
    }
}

void fake_store_lose_log(const uint8_t *uuid, uint64_t id)
{
    struct fake_device *device = device_of(uuid);

    for (int i = 0; i < FAKE_PGS_MAX; i++)
        if (device->pgs[i].used && device->pgs[i].pub.record.pg == id)
            device->pgs[i].pub.durable_index = device->pgs[i].pub.applied_index;
}

void fake_store_lose_pg(const uint8_t *uuid, uint64_t id)
{
    struct fake_device *device = device_of(uuid);

    for (int i = 0; i < FAKE_PGS_MAX; i++)
        if (device->pgs[i].used && device->pgs[i].pub.record.pg == id)
            pg_lose(&device->pgs[i]);
}

void fake_store_lose_map(const uint8_t *uuid)
{
    struct fake_device *device = device_of(uuid);

    free(device->blob);
    device->blob = NULL;
    device->blob_len = 0;
}

void fake_store_resurrect(const uint8_t *uuid, uint64_t id, uint64_t image, uint64_t index, bool record)
{
    struct fake_device *device = device_of(uuid);

    for (int i = 0; i < FAKE_PGS_MAX; i++) {
        struct fake_pg *pg = &device->pgs[i];
        if (!pg->used || pg->pub.record.pg != id)
            continue;
        if (record)
            image_set(pg, &(struct image_record){.image = image,
                                                 .incarnation = 1,
                                                 .generation = 1,
                                                 .size_bytes = OBJECT_SIZE,
                                                 .index = index});
        object_get(pg, image, 0)->info.index = index;
    }
}

void fake_store_damage_block(struct store *store, uint64_t id, uint64_t image, uint64_t object,
                             uint32_t block, bool page)
{
    const struct fake_pg *pg = (struct fake_pg *)store_pg_find(store, id);
    struct fake_object *o = object_find(pg, image, object);

    o->info.damaged = page;
    if (page)
        return;
    o->blocks[block][17] ^= 1;
    o->lost_index = block_since(pg, o, block);
    bit_set(o->bad, block, true);
}

void fake_store_set_block(struct store *store, uint64_t id, uint64_t image, uint64_t object, uint32_t block,
                          const uint8_t *data)
{
    struct fake_object *o = object_find((struct fake_pg *)store_pg_find(store, id), image, object);

    block_put(o, block, data, crc32c(0, data, BLOCK_SIZE));
}

void fake_store_lose_block(struct store *store, uint64_t id, uint64_t image, uint64_t object, uint32_t block)
{
    const struct fake_pg *pg = (struct fake_pg *)store_pg_find(store, id);
    struct fake_object *o = object_find(pg, image, object);

    bit_set(o->lost, block, true);
    o->lost_index = block_since(pg, o, block);
}

void fake_store_drop_object(struct store *store, uint64_t id, uint64_t image, uint64_t object)
{
    struct fake_pg *pg = (struct fake_pg *)store_pg_find(store, id);

    object_drop(pg, object_place(pg, image, object));
}

void fake_store_set_read_ns(struct store *store, uint64_t read_ns)
{
    store->read_ns = read_ns;
}

void fake_store_read_early(struct store *store)
{
    store->read_early = true;
}

void fake_store_forget_repairs(struct store *store)
{
    store->forgets = true;
}

void fake_store_change_block(struct store *store, uint64_t id, uint64_t image, uint64_t object,
                             uint32_t block)
{
    struct fake_object *o = object_find((struct fake_pg *)store_pg_find(store, id), image, object);

    o->blocks[block][17] ^= 1;
    o->crc[block] = crc32c(0, o->blocks[block], BLOCK_SIZE);
}

/* ---- the log ---- */

int store_can_append(const struct store_pg *sp, const struct entry *entry)
{
    if (sp->store->failed)
        return -ERR_STOPPED;
    const struct fake_pg *pg = (const struct fake_pg *)sp;
    return sp->store->refuse || pg->refuse || sp->last_index + 1 - sp->first_index >= FAKE_LOG_MAX - 8
               ? -ERR_RETRY
               : 0;
}

int store_append(struct store_pg *sp, const struct entry *entry, const struct slice *payload)
{
    struct fake_pg *pg = (struct fake_pg *)sp;

    ASSERT(entry->index && entry->index <= sp->last_index + 1 && entry->index > sp->applied_index);
    for (uint64_t n = entry->index; n <= sp->last_index; n++) {
        slice_unref(&log_at(pg, n)->payload);
        free(log_at(pg, n)->data);
        log_at(pg, n)->data = NULL;
        log_at(pg, n)->payload = (struct slice){0};
    }
    sp->last_index = entry->index - 1;
    sp->durable_index = MIN(sp->durable_index, sp->last_index);
    if (store_can_append(sp, entry))
        return store_can_append(sp, entry);
    struct fake_entry *e = log_at(pg, entry->index);
    e->entry = *entry;
    e->entry.crc = e->crc;
    e->payload = (struct slice){0};
    e->data = NULL;
    if (entry->type == ENTRY_GROUP || entry->type == ENTRY_SPLIT)
        memcpy(e->crc, entry->crc, entry->block_count * sizeof(uint32_t));
    if (entry->type == ENTRY_WRITE) {
        uint32_t len = entry_payload_bytes(entry);
        ASSERT(payload->len >= len && IS_ALIGNED(payload->offset, BLOCK_SIZE) &&
               entry->block_count <= IO_BLOCKS_MAX);
        memcpy(e->crc, entry->crc, entry->block_count * sizeof(uint32_t));
        e->data = sim_alloc(len);
        memcpy(e->data, slice_data(payload), len);
        e->payload = slice_sub(payload, 0, len);
    }
    sp->last_index = entry->index;
    if (!timer_armed(&sp->store->timer))
        timer_arm(sp->store->core, &sp->store->timer, &sp->store->op,
                  core_now_ns(sp->store->core) + DURABLE_NS);
    return 0;
}

int store_log_get(const struct store_pg *sp, uint64_t index, struct entry *ret_entry,
                  struct slice *ret_payload)
{
    const struct fake_pg *pg = (const struct fake_pg *)sp;

    if (index < sp->first_index)
        return -ERR_COMPACTED;
    if (index > sp->last_index)
        return -ERR_NOT_FOUND;
    const struct fake_entry *e = log_at(pg, index);
    if (e->entry.type == ENTRY_WRITE && !e->payload.buf)
        return -ERR_RETRY;
    *ret_entry = e->entry;
    *ret_payload = e->payload;
    return 0;
}

void store_pg_prefetch(const struct store_pg *pg)
{
}

uint64_t store_log_term(const struct store_pg *sp, uint64_t index)
{
    if (index == sp->record.base_index)
        return sp->record.base_term;
    return index < sp->first_index || index > sp->last_index
               ? 0
               : log_at((const struct fake_pg *)sp, index)->entry.term;
}

static void log_read_step(struct op *op)
{
    struct store_log_read *r = container_of(op, struct store_log_read, op);
    struct store_pg *sp = store_pg_find(r->store, r->pg);
    uint32_t bytes = 0, crcs = 0;

    r->ret_count = 0;
    for (uint64_t n = r->first; sp && n <= r->last && n <= sp->last_index && n >= sp->first_index; n++) {
        struct fake_entry *e = log_at((struct fake_pg *)sp, n);
        uint32_t len = entry_payload_bytes(&e->entry), i = r->ret_count;
        if (i == STORE_LOG_READ_MAX || (i && bytes + len > r->bytes_max))
            break;
        r->ret_entries[i] = e->entry;
        r->ret_payloads[i] = (struct slice){0};
        memcpy(&r->ret_crc[crcs], e->crc, entry_crc_count(&e->entry) * 4);
        r->ret_entries[i].crc = &r->ret_crc[crcs];
        crcs += entry_crc_count(&e->entry);
        if (len) {
            struct buf *buf = buf_new(op->core->arena, len);
            if (!buf)
                break;
            memcpy(buf->data, e->data, len);
            r->ret_payloads[i] = (struct slice){buf, 0, len};
        }
        bytes += len;
        r->ret_count++;
    }
    op_done(op, r->ret_count ? 0 : -ERR_COMPACTED);
}
static const struct op_kind log_read_kind = {"fake.log-read", NULL, log_read_step};

void store_log_read_start(struct store_log_read *r, struct store_pg *sp, uint64_t first, uint64_t last,
                          uint32_t bytes_max, struct op *parent)
{
    r->store = sp->store;
    r->pg = sp->record.pg;
    r->first = first;
    r->last = last;
    r->bytes_max = bytes_max;
    op_start(&r->op, sp->store->core, &log_read_kind, parent);
}

bool store_applying(const struct store_pg *sp)
{
    return false;
}

bool store_clearing(const struct store_pg *sp, uint64_t image)
{
    return false;
}

void store_apply(struct store_pg *sp, uint64_t index)
{
    struct fake_pg *pg = (struct fake_pg *)sp;

    ASSERT(index <= sp->durable_index);
    for (; sp->applied_index < index && log_at(pg, sp->applied_index + 1)->entry.type != ENTRY_SPLIT;
         sp->applied_index++) {
        entry_apply(pg, log_at(pg, sp->applied_index + 1));
        slice_unref(&log_at(pg, sp->applied_index + 1)->payload);
    }
    while (sp->first_index + FAKE_LOG_KEEP <= sp->applied_index) {
        sp->record.base_index = sp->first_index;
        sp->record.base_term = log_at(pg, sp->first_index)->entry.term;
        free(log_at(pg, sp->first_index)->data);
        log_at(pg, sp->first_index++)->data = NULL;
        op_wake(sp->waiter);
    }
}

/* ---- splits ---- */

static bool belongs(const struct store_pg *sp, const struct fake_object *o, uint32_t split_count)
{
    return placement_pg_number(o->info.image, o->info.object, split_count) == (uint32_t)sp->record.pg;
}

static void objects_leave(struct fake_pg *pg, struct fake_pg *child, uint32_t split_count)
{
    for (uint32_t i = pg->object_count; i-- > 0;) {
        struct fake_object *o = pg->objects[i];
        if (belongs(&pg->pub, o, split_count))
            continue;
        if (!child || !belongs(&child->pub, o, split_count)) {
            object_drop(pg, i);
            continue;
        }
        uint32_t at = object_place(child, o->info.image, o->info.object);
        memmove(&child->objects[at + 1], &child->objects[at], (child->object_count++ - at) * sizeof(o));
        child->objects[at] = o;
        child->pub.object_count++;
        memmove(&pg->objects[i], &pg->objects[i + 1], (--pg->object_count - i) * sizeof(o));
        pg->pub.object_count--;
    }
}

static void split_step(struct op *op)
{
    struct store_split *w = container_of(op, struct store_split, op);
    struct fake_pg *pg = (struct fake_pg *)store_pg_find(w->store, w->pg), *child = NULL;
    const struct entry *entry = &log_at(pg, pg->pub.applied_index + 1)->entry;
    uint64_t index = w->behind ? pg->pub.applied_index : entry->index;
    uint64_t term = w->behind ? store_log_term(&pg->pub, index) : entry->term;
    uint32_t number = w->behind ? w->split_count - 1 : (uint32_t)entry->image;

    ASSERT(w->behind ? pg->pub.record.state == STORE_PG_RECOVERING : entry->type == ENTRY_SPLIT);
    if (w->store->refuse_splits && (w->births || !w->behind)) {
        op_done(op, -ERR_NO_SPACE);
        return;
    }
    if (w->store->failed) {
        op_done(op, -ERR_STOPPED);
        return;
    }
    if (w->births && !store_pg_find(w->store, w->child.pg) && pg->pub.record.split_count <= number) {
        child = (struct fake_pg *)pg_make(w->store);
        child->pub.record = w->child;
        child->pub.record.state = w->behind ? STORE_PG_RECOVERING : STORE_PG_NORMAL;
        child->pub.record.term = child->pub.record.base_term = term;
        child->pub.record.base_index = child->pub.last_index = child->pub.durable_index =
            child->pub.applied_index = index;
        child->pub.first_index = index + 1;
        w->ret_child = &child->pub;
    }
    if (child && !w->behind) {
        child->image_count = pg->image_count;
        memcpy(child->images, pg->images, sizeof(pg->images));
        child->pub.tombstone_count = pg->pub.tombstone_count;
        child->pub.floor_epoch = pg->pub.floor_epoch;
    }
    objects_leave(pg, child, number + 1);
    pg->pub.record.split_count = MAX(pg->pub.record.split_count, number + 1);
    pg->pub.applied_index += !w->behind;
    op_done(op, 0);
}
static const struct op_kind split_kind = {"fake.split", NULL, split_step};

static void split_begin(struct store_split *w, struct store_pg *sp, bool behind, uint32_t split_count,
                        const struct store_pg_record *child, struct op *parent)
{
    w->store = sp->store;
    w->pg = sp->record.pg;
    w->behind = behind;
    w->split_count = split_count;
    w->births = child;
    w->child = child ? *child : (struct store_pg_record){0};
    w->ret_child = NULL;
    op_start(&w->op, sp->store->core, &split_kind, parent);
}

void store_split_start(struct store_split *w, struct store_pg *sp, const struct store_pg_record *child,
                       struct op *parent)
{
    split_begin(w, sp, false, 0, child, parent);
}

void store_split_behind_start(struct store_split *w, struct store_pg *sp, uint32_t split_count,
                              const struct store_pg_record *child, struct op *parent)
{
    split_begin(w, sp, true, split_count, child, parent);
}

int store_can_split(const struct store_pg *sp)
{
    return sp->store->no_room ? -ERR_NO_SPACE : 0;
}

void store_destage_soon(struct store_pg *sp)
{
    ((struct fake_pg *)sp)->destaged_index = sp->applied_index;
}

int store_recover_shed(struct store_pg *sp, uint32_t split_count, uint64_t index)
{
    const struct fake_pg *pg = (const struct fake_pg *)sp;

    for (uint32_t i = 0; i < pg->object_count; i++) {
        struct fake_object *o = pg->objects[i];
        if (belongs(sp, o, split_count))
            continue;
        for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
            block_put(o, b, NULL, 0);
        o->info.index = MAX(o->info.index, index);
        o->shed = true;
    }
    return 0;
}

void store_reset_base(struct store_pg *sp, uint64_t index, uint64_t term, const struct group *group,
                      uint32_t split_count)
{
    pg_clear((struct fake_pg *)sp);
    sp->first_index = index + 1;
    sp->last_index = sp->durable_index = sp->applied_index = index;
    sp->record.base_index = index;
    sp->record.base_term = term;
    sp->record.group = *group;
    sp->record.split_count = split_count;
    sp->damaged = false;
}

/* ---- state ---- */

uint64_t store_complete_index(const struct store_pg *sp)
{
    return sp->store->lazy ? ((const struct fake_pg *)sp)->destaged_index : sp->applied_index;
}

const struct image_record *store_image_get(const struct store_pg *sp, uint64_t image)
{
    return image_find((const struct fake_pg *)sp, image);
}

const struct image_record *store_image_next(const struct store_pg *sp, uint64_t after)
{
    const struct fake_pg *pg = (const struct fake_pg *)sp;
    const struct image_record *next = NULL;

    for (uint32_t i = 0; i < pg->image_count; i++)
        if (pg->images[i].image > after && (!next || pg->images[i].image < next->image))
            next = &pg->images[i];
    return next;
}

bool store_object_next(const struct store_pg *sp, bool start, uint64_t image, uint64_t object,
                       struct store_object_info *ret)
{
    const struct fake_pg *pg = (const struct fake_pg *)sp;
    uint32_t i = start ? 0 : object_place(pg, image, object);

    if (!start && i < pg->object_count && pg->objects[i]->info.image == image &&
        pg->objects[i]->info.object == object)
        i++;
    if (i == pg->object_count)
        return false;
    *ret = pg->objects[i]->info;
    return true;
}

/* The newest appended version of a block, or NULL for zeros. */
static const uint8_t *block_find(const struct fake_pg *pg, const struct store_read *r, uint32_t block,
                                 uint32_t *ret_crc, uint64_t *ret_index)
{
    for (uint64_t n = pg->pub.last_index; r->proposed && n > pg->pub.applied_index; n--) {
        const struct fake_entry *e = log_at(pg, n);
        bool object = e->entry.type == ENTRY_WRITE || e->entry.type == ENTRY_CLEAR;
        if (!object || e->entry.image != r->image || e->entry.object != r->object)
            continue;
        *ret_index = MAX(*ret_index, n);
        if (block < e->entry.first_block || block >= e->entry.first_block + e->entry.block_count)
            continue;
        *ret_crc = e->crc[block - e->entry.first_block];
        return e->entry.type == ENTRY_CLEAR ? NULL
                                            : e->data + (size_t)(block - e->entry.first_block) * BLOCK_SIZE;
    }
    const struct fake_object *o = object_find(pg, r->image, r->object);
    if (!o)
        return NULL;
    *ret_index = MAX(*ret_index, o->info.index);
    *ret_crc = o->crc[block];
    return bit(o->written, block) ? o->blocks[block] : NULL;
}

static int read_now(struct store_read *r)
{
    struct store_pg *sp = store_pg_find(r->store, r->pg);
    struct fake_pg *pg = (struct fake_pg *)sp;
    struct buf *buf;
    bool any = false, damaged = false;

    r->ret_data = (struct slice){0};
    r->ret_index = r->ret_lost_index = 0;
    memset(r->ret_written, 0, sizeof(r->ret_written));
    memset(r->ret_damaged, 0, sizeof(r->ret_damaged));
    buf = sp ? buf_new(r->op.core->arena, r->block_count * BLOCK_SIZE) : NULL;
    if (!buf)
        return sp ? -ERR_NO_MEMORY : -ERR_NO_PG;
    const struct fake_object *o = object_find(pg, r->image, r->object);
    for (uint32_t i = 0; i < r->block_count; i++) {
        const uint8_t *data = block_find(pg, r, r->first_block + i, &r->ret_crc[i], &r->ret_index);
        if (data) {
            any = true;
            bit_set(r->ret_written, i, true);
            memcpy(buf->data + (size_t)i * BLOCK_SIZE, data, BLOCK_SIZE);
        } else {
            memset(buf->data + (size_t)i * BLOCK_SIZE, 0, BLOCK_SIZE);
            r->ret_crc[i] = CRC32C_ZERO_BLOCK;
        }
        if ((o && (o->info.damaged || bit(o->lost, r->first_block + i))) ||
            crc32c(0, buf->data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE) != r->ret_crc[i]) {
            damaged = true;
            r->ret_lost_index = MAX(r->ret_lost_index, o ? block_index(o, r->first_block + i) : 0);
            bit_set(r->ret_damaged, i, true);
            bit_set(r->ret_written, i, true);
        }
    }
    if (any || damaged)
        r->ret_data = (struct slice){buf, 0, r->block_count * BLOCK_SIZE};
    else
        buf_unref(buf);
    return damaged ? -ERR_DAMAGED : 0;
}

struct fake_read {
    struct timer timer;
    bool early;
    int result;
};

static void read_step(struct op *op)
{
    struct store_read *r = container_of(op, struct store_read, op);
    struct fake_read *state = r->private_state;

    if (op->state == 0) {
        r->private_state = state = calloc(1, sizeof(*state));
        state->early = r->store->read_early;
        state->result = state->early ? read_now(r) : 0;
        timer_arm(op->core, &state->timer, op, core_now_ns(op->core) + MAX(READ_NS, r->store->read_ns));
        op->state = 1;
    }
    if (timer_armed(&state->timer))
        return;
    int result = state->early ? state->result : read_now(r);
    free(state);
    op_done(op, result);
}
static const struct op_kind read_kind = {"fake.read", NULL, read_step};

void store_read_start(struct store_read *r, struct store_pg *sp, uint64_t image, uint64_t object,
                      uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent)
{
    store_read_written_start(r, sp, image, object, first_block, block_count, proposed, parent);
}

void store_read_written_start(struct store_read *r, struct store_pg *sp, uint64_t image, uint64_t object,
                              uint32_t first_block, uint32_t block_count, bool proposed, struct op *parent)
{
    r->store = sp->store;
    r->pg = sp->record.pg;
    r->image = image;
    r->object = object;
    r->first_block = first_block;
    r->block_count = block_count;
    r->proposed = proposed;
    op_start(&r->op, sp->store->core, &read_kind, parent);
}

uint64_t store_reads_waiting_ns(const struct store *store, uint64_t now_ns)
{
    return 0;
}

uint64_t store_object_after(const struct store_pg *sp, uint64_t image, uint64_t object)
{
    struct store_object_info info;

    return store_object_next(sp, false, image, object, &info) && info.image == image ? info.object
                                                                                     : UINT64_MAX;
}

bool store_block_status(const struct store_pg *sp, uint64_t image, uint64_t object,
                        uint64_t ret_written[BLOCKS_PER_OBJECT / 64])
{
    const struct fake_object *o = object_find((const struct fake_pg *)sp, image, object);

    if (o)
        memcpy(ret_written, o->written, sizeof(o->written));
    return o;
}

static void digest_step(struct op *op)
{
    struct store_digest *d = container_of(op, struct store_digest, op);
    struct store_pg *sp = store_pg_find(d->store, d->pg);
    const struct fake_object *o = sp ? object_find((struct fake_pg *)sp, d->image, d->object) : NULL;
    uint32_t rows[BLOCKS_PER_OBJECT][2];

    if (!o) {
        op_done(op, -ERR_NOT_FOUND);
        return;
    }
    store_object_lost(sp, d->image, d->object, &d->ret_index, d->ret_lost);
    for (uint32_t b = 0; b < BLOCKS_PER_OBJECT && !o->info.damaged; b++) {
        if (bit(o->written, b) && !bit(o->lost, b)) {
            rows[d->ret_written][0] = b;
            rows[d->ret_written++][1] = o->crc[b];
        }
    }
    d->ret_digest = crc32c(0, rows, d->ret_written * sizeof(rows[0]));
    op_done(op, 0);
}
static const struct op_kind digest_kind = {"fake.digest", NULL, digest_step};

void store_digest_start(struct store_digest *d, struct store_pg *sp, uint64_t image, uint64_t object,
                        struct op *parent)
{
    *d = (struct store_digest){.store = sp->store, .pg = sp->record.pg, .image = image, .object = object};
    op_start(&d->op, sp->store->core, &digest_kind, parent);
}

bool store_object_lost(const struct store_pg *sp, uint64_t image, uint64_t object, uint64_t *ret_index,
                       uint64_t ret_lost[BLOCKS_PER_OBJECT / 64])
{
    const struct fake_object *o = object_find((const struct fake_pg *)sp, image, object);

    memset(ret_lost, o && o->info.damaged ? 0xff : 0, BLOCKS_PER_OBJECT / 8);
    if (o && !o->info.damaged)
        memcpy(ret_lost, o->lost, sizeof(o->lost));
    if (o)
        *ret_index = o->info.index;
    return o;
}

void store_blocks_coming(const struct store_pg *sp, uint64_t image, uint64_t object, uint32_t first_block,
                         uint32_t block_count, uint64_t ret_coming[IO_BLOCKS_MAX / 64])
{
    memset(ret_coming, 0, IO_BLOCKS_MAX / 8); /* nothing is destaged here */
}

/* ---- repair and copies ---- */

static void repair_step(struct op *op)
{
    struct store_repair *r = container_of(op, struct store_repair, op);
    struct fake_object *o =
        object_find((struct fake_pg *)store_pg_find(r->store, r->pg), r->image, r->object);

    bool old = r->index < block_index(o, r->block);

    if (r->store->refuse_copies) {
        op_done(op, -ERR_NO_MEMORY);
        return;
    }
    if (old || crc32c(0, slice_data(&r->data), BLOCK_SIZE) != o->crc[r->block]) {
        op_done(op, old ? -ERR_RETRY : -ERR_CHECKSUM);
        return;
    }
    memcpy(o->blocks[r->block], slice_data(&r->data), BLOCK_SIZE);
    o->blocks[r->block][17] ^= r->store->forgets;
    bit_set(o->bad, r->block, r->store->forgets);
    r->store->counters.repaired_blocks++;
    op_done(op, 0);
}
static const struct op_kind repair_kind = {"fake.repair", NULL, repair_step};

void store_repair_start(struct store_repair *r, struct store_pg *sp, uint64_t image, uint64_t object,
                        uint32_t block, uint64_t index, const struct slice *data, struct op *parent)
{
    r->store = sp->store;
    r->pg = sp->record.pg;
    r->image = image;
    r->object = object;
    r->block = block;
    r->index = index;
    r->data = *data;
    op_start(&r->op, sp->store->core, &repair_kind, parent);
}

/* What copies under way have so far: a crash leaves it to fake_store_forget_all(). */
static struct fake_object *copying[256];

static void copying_replace(const struct fake_object *from, struct fake_object *to)
{
    uint32_t i = 0;

    while (copying[i] != from)
        ASSERT(++i < ARRAY_LEN(copying));
    copying[i] = to;
}

static void copying_forget(void)
{
    for (uint32_t i = 0; i < ARRAY_LEN(copying); i++) {
        for (uint32_t b = 0; copying[i] && b < BLOCKS_PER_OBJECT; b++)
            free(copying[i]->blocks[b]);
        free(copying[i]);
        copying[i] = NULL;
    }
}

struct store_copy {
    struct fake_pg *pg;
    struct core *core;
    struct store_counters *counters;
    struct fake_object *object;
    uint64_t bad[BLOCKS_PER_OBJECT / 64]; /* of the old object: found damaged, or different */
    struct content_hasher *hasher;
    struct content_key key;
};

int store_copy_new(struct store_pg *sp, uint64_t image, uint64_t object, struct store_copy **ret_copy)
{
    struct store_copy *copy;

    if (sp->store->refuse_copies)
        return -ERR_RETRY;
    if (sp->store->no_room)
        return -ERR_NO_SPACE;
    copy = calloc(1, sizeof(*copy));
    copy->pg = (struct fake_pg *)sp;
    copy->core = sp->store->core;
    copy->counters = &sp->store->counters;
    copy->object = sim_alloc(sizeof(*copy->object));
    copying_replace(NULL, copy->object);
    copy->object->info = (struct store_object_info){image, object, 0, false};
    *ret_copy = copy;
    return 0;
}

void store_copy_look_start(struct store_copy_look *l, struct store_copy *copy, struct op *parent)
{
    copy->key = content_key_make(core_random_u64(copy->core), core_random_u64(copy->core));
    copy->hasher = content_hasher_new(&copy->key);
    op_start(&l->op, copy->core, &ok_kind, parent);
}

void store_copy_have(const struct store_copy *copy, uint32_t first_block, uint32_t block_count,
                     uint64_t *ret_have, uint32_t *ret_crc, struct content_key *ret_key)
{
    const struct fake_object *o = object_find(copy->pg, copy->object->info.image, copy->object->info.object);

    memset(ret_have, 0, DIV_UP(block_count, 64u) * sizeof(*ret_have));
    for (uint32_t i = 0; o && !o->info.damaged && copy->hasher && i < block_count; i++) {
        uint32_t b = first_block + i;
        ret_crc[i] = o->crc[b];
        bit_set(ret_have, i, bit(o->written, b) && !bit(copy->bad, b) && !bit(o->lost, b));
    }
    *ret_key = copy->key;
}

static bool content_is(const struct store_copy *copy, const uint8_t *data,
                       const struct content_hash *expected)
{
    struct content_hash hash;

    content_hash(copy->hasher, data, BLOCK_SIZE, &hash);
    return content_hash_equal(&hash, expected);
}

static void conflict_step(struct op *op)
{
    op_done(op, -ERR_CONFLICT);
}
static const struct op_kind conflict_kind = {"fake.copy-write", NULL, conflict_step};

void store_copy_write_start(struct store_copy_write *w, struct store_copy *copy, uint32_t first_block,
                            uint32_t block_count, const uint64_t *written, const uint64_t *damaged,
                            uint64_t lost_index, const uint64_t *same, const struct content_hash *hash,
                            const uint32_t *crc, const struct slice *data, struct op *parent)
{
    const struct fake_object *o = object_find(copy->pg, copy->object->info.image, copy->object->info.object);
    bool conflict = false;

    for (uint32_t i = 0, at = 0; i < block_count; i++) {
        uint32_t b = first_block + i;
        if (!bit(written, i)) {
            block_put(copy->object, b, NULL, 0);
            continue;
        }
        bool lost = damaged && bit(damaged, i), is_same = same && bit(same, i);
        const uint8_t *from = is_same ? o->blocks[b] : slice_data(data) + (size_t)at++ * BLOCK_SIZE;
        if (is_same && !content_is(copy, from, &hash[i])) {
            conflict = true;
            bit_set(copy->bad, b, true);
        }
        ASSERT(lost || is_same || crc32c(0, from, BLOCK_SIZE) == crc[i]);
        block_put(copy->object, b, from, lost ? ~crc32c(0, from, BLOCK_SIZE) : crc[i]);
        bit_set(copy->object->lost, b, lost);
        if (lost)
            copy->object->lost_index = MAX(copy->object->lost_index, lost_index);
        copy->counters->copy_written += !is_same;
        copy->counters->copy_shared += is_same;
    }
    op_start(&w->op, copy->core, conflict ? &conflict_kind : &ok_kind, parent);
}

void store_copy_end_start(struct store_copy_end *e, struct store_copy *copy, uint64_t index,
                          struct op *parent)
{
    struct fake_object *from = copy->object;

    copying_replace(from, NULL);
    if (index) {
        from->info.index = index;
        copy->pg->pub.newest_index = MAX(copy->pg->pub.newest_index, index);
        from->lost_index = MIN(from->lost_index, index);
        struct fake_object *to = object_get(copy->pg, from->info.image, from->info.object);
        for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
            free(to->blocks[b]);
        *to = *from;
    } else {
        for (uint32_t b = 0; b < BLOCKS_PER_OBJECT; b++)
            free(from->blocks[b]);
    }
    free(from);
    op_start(&e->op, copy->core, &ok_kind, parent);
    content_hasher_free(copy->hasher);
    free(copy);
}

int store_recover_image(struct store_pg *sp, const struct image_record *record)
{
    image_set((struct fake_pg *)sp, record);
    sp->newest_index = MAX(sp->newest_index, record->index);
    return 0;
}

int store_recover_forget(struct store_pg *sp, uint64_t image, uint64_t index)
{
    image_forget((struct fake_pg *)sp, image, index);
    return 0;
}

void store_recover_floor(struct store_pg *sp, uint64_t epoch)
{
    sp->floor_epoch = MAX(sp->floor_epoch, epoch);
}

void store_keep(struct store_pg *pub, uint64_t from)
{
    pub->wanted_index = from;
}

bool store_recover_settled(struct store_pg *sp)
{
    struct fake_pg *pg = (struct fake_pg *)sp;
    bool settled = true;

    for (uint32_t i = pg->object_count; i-- > 0;) {
        if (!pg->objects[i]->shed)
            continue;
        object_drop(pg, i);
        settled = false;
    }
    return settled;
}
