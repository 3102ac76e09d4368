/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock mon collect, rebuild: the metadata made anew when all of it is lost, from what the OSDs' devices
 * know: each shard's saved map (OSDs, pools, its own PGs, orders), and the records of images in its PGs (id,
 * size, generation, incarnation). Of every item the newest counts. Names of images are nowhere but in the
 * metadata: they come from a backup, if there is one, as the flags of the cluster do.
 *
 * What was given out and is not seen here must not be given out again: epoch, ids, generations and
 * incarnations begin well above all that is seen.
 *
 * Every shard's map has all pools that there were at its epoch; of removed ones nothing remains. So a pool
 * that the newest map lacks, and of which no device has a replica, was removed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/level.h"
#include "cmd/meta_set.h"
#include "mon/mon.h"
#include "store/store.h"

#define LEAP 1000 /* above all that is seen */

/* ---- from a device: keys "map/OSD/SLICE", "replica/OSD/SLICE/PG", "record/OSD/SLICE/PG/IMAGE/INDEX" ---- */

struct collecting {
    struct uring_core *uring;
    struct meta_set *set;
    uint32_t osd, slice;
    int error;
};

/* A record may be found twice: in the table, and in the log as the entry that it came from. */
static void put(struct collecting *k, const char *key, const void *value, size_t len)
{
    if (!k->error && !meta_set_get(k->set, key))
        k->error = meta_set_put(k->set, key, value, len);
}

static void put_record(struct collecting *k, uint64_t pg, const struct image_record *record)
{
    Fb__Image image = FB__IMAGE__INIT;
    uint8_t value[128];
    char key[128];

    image.id = record->image;
    image.pool = (uint32_t)(pg >> 32);
    image.incarnation = record->incarnation;
    image.generation = record->generation;
    image.size_bytes = record->deleted ? 0 : record->size_bytes;
    image.shared = record->deleted; /* in this file alone: it is gone */
    snprintf(key, sizeof(key), "record/%u/%u/%016" PRIx64 "/%016" PRIx64 "/%" PRIu64, k->osd, k->slice, pg,
             record->image, record->index);
    put(k, key, value, fb__image__pack(&image, value));
}

/* What the log says of images: of a new one it is all that there is, until it is destaged. What is not
 * committed does no harm, for the monitor had vouched for the image, or ordered its removal. */
static void put_log(struct collecting *k, const struct store_pg *pg)
{
    struct entry entry;
    struct slice payload;

    for (uint64_t i = pg->first_index; i <= pg->last_index; i++) {
        if (store_log_get(pg, i, &entry, &payload) || entry.type != ENTRY_IMAGE)
            continue;
        struct image_record record = {.image = entry.image,
                                      .incarnation = entry.incarnation,
                                      .generation = entry.generation,
                                      .size_bytes = entry.size_bytes,
                                      .index = i,
                                      .deleted = entry.flags & ENTRY_IMAGE_DELETED};
        put_record(k, pg->record.pg, &record);
    }
}

static void slice_opened(void *owner, const struct store *store)
{
    struct collecting *k = owner;
    uint32_t len = 0;
    const void *blob = store_blob(store, &len);
    Fb__ClusterMap *map = blob ? fb__cluster_map__unpack(NULL, len, blob) : NULL;
    char key[64];

    if (!map)
        return; /* it never saved one */
    snprintf(key, sizeof(key), "map/%u/%u", k->osd, k->slice);
    put(k, key, blob, len);
    for (const struct store_pg *pg = NULL; (pg = store_pg_next(store, pg));) {
        const struct image_record *record = store_image_next(pg, 0);
        snprintf(key, sizeof(key), "replica/%u/%u/%016" PRIx64, k->osd, k->slice, pg->record.pg);
        put(k, key, NULL, 0);
        for (; record; record = store_image_next(pg, record->image))
            put_record(k, pg->record.pg, record);
        put_log(k, pg);
    }
    fb__cluster_map__free_unpacked(map, NULL);
}

static void ignore_line(void *owner, bool problem, const char *text)
{
}

static int collect_slices(struct collecting *k, struct uring_dev *dev)
{
    struct blk *blk;
    struct device_read read = {0};
    int error = uring_blk_new(k->uring, dev, 0, ALIGN_DOWN(uring_dev_size(dev), (uint64_t)BLOCK_SIZE), &blk);

    if (error)
        return error;
    device_read_start(&read, uring_core_core(k->uring), blk, NULL);
    error = uring_core_run_op(k->uring, &read.op);
    blk->ops->close(blk);
    k->osd = read.ret_label.osd;
    for (k->slice = 0; !error && k->slice < read.ret_label.slice_count; k->slice++) {
        struct store_check check = {.opened = slice_opened};
        error = uring_blk_new(k->uring, dev, read.ret_label.slice_offset[k->slice], read.ret_label.slice_size,
                              &blk);
        if (error)
            break;
        store_check_start(&check, uring_core_core(k->uring), blk, false, ignore_line, k, NULL);
        error = uring_core_run_op(k->uring, &check.op);
        blk->ops->close(blk);
    }
    return error ? error : k->error;
}

static int collect_device(struct meta_set *set, const char *path)
{
    struct uring_core_opts opts = {.arena_bytes = 64u << 20, .log_level = LOG_ERROR};
    struct collecting k = {.set = set};
    struct uring_dev *dev;
    int error = uring_dev_open(path, URING_CACHE_ASK, true, &dev);

    if (error)
        return cmd_fail("cannot open %s: %s%s", path, error_text(error),
                        error == -ERR_LOCKED ? " (stop its OSD first)" : "");
    error = uring_core_new(&opts, &k.uring);
    int result = CMD_OK;
    if (error) {
        result = cmd_fail("cannot start: %s", uring_core_error_text(error));
    } else {
        error = collect_slices(&k, dev);
        uring_core_free(k.uring);
        if (error)
            result = cmd_fail("cannot read %s: %s", path, error_text(error));
    }
    uring_dev_close(dev);
    return result;
}

int cmd_mon_collect(struct cmd_args *args)
{
    struct meta_set set = {0};
    int result = collect_device(&set, args->positional[0]);

    if (!result)
        result = meta_set_write(&set, args->positional[1]);
    if (!result && args->json)
        cmd_print_json(json_pack("{s:s, s:I}", "file", args->positional[1], "keys", (json_int_t)set.count));
    else if (!result)
        printf("%u keys written to %s\n", set.count, args->positional[1]);
    meta_set_free(&set);
    return result;
}

/* ---- putting it together ---- */

struct rebuilding {
    struct meta_set *to;
    Fb__MonState state;
    uint8_t cluster[16];
    uint32_t maps, named, unnamed;
    uint64_t newest; /* epoch of the newest map */
    int error;
};

/* The item replaces what is there under its key, if it is newer: by `version` of what is there. */
static void offer(struct rebuilding *b, const char *key, const ProtobufCMessage *message, uint64_t epoch,
                  uint64_t (*epoch_of)(const struct meta_kv *kv))
{
    const struct meta_kv *there = meta_set_get(b->to, key);
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *value = malloc(len + 1);

    if (!value)
        b->error = -ERR_NO_MEMORY;
    if (value && (!there || epoch_of(there) < epoch)) {
        meta_set_remove(b->to, key);
        b->error = meta_set_put(b->to, key, value, protobuf_c_message_pack(message, value));
    }
    free(value);
}

#define EPOCH_OF(name, type)                                                                                 \
    static uint64_t name##_epoch(const struct meta_kv *kv)                                                   \
    {                                                                                                        \
        type *message = name##__unpack(NULL, kv->value_len, kv->value);                                      \
        uint64_t epoch = message ? message->epoch : 0;                                                       \
        if (message)                                                                                         \
            name##__free_unpacked(message, NULL);                                                            \
        return epoch;                                                                                        \
    }
EPOCH_OF(fb__osd, Fb__Osd)
EPOCH_OF(fb__pool, Fb__Pool)
EPOCH_OF(fb__pg, Fb__Pg)
EPOCH_OF(fb__image_order, Fb__ImageOrder)

static int take_map(struct rebuilding *b, const Fb__ClusterMap *map)
{
    char key[64];

    if (map->cluster.len != 16 || (b->state.epoch && memcmp(b->cluster, map->cluster.data, 16)))
        return cmd_fail("the sources are of different clusters");
    memcpy(b->cluster, map->cluster.data, 16);
    b->state.epoch = MAX(b->state.epoch, map->epoch);
    b->state.image_id_max = MAX(b->state.image_id_max, map->image_id_max);
    for (size_t i = 0; i < map->n_osd; i++) {
        snprintf(key, sizeof(key), "osd/%08x", map->osd[i]->id);
        offer(b, key, &map->osd[i]->base, map->osd[i]->epoch, fb__osd_epoch);
        b->state.osd_next = MAX(b->state.osd_next, map->osd[i]->id + 1);
    }
    for (size_t i = 0; i < map->n_pool; i++) {
        snprintf(key, sizeof(key), "pool/%08x", map->pool[i]->id);
        offer(b, key, &map->pool[i]->base, map->pool[i]->epoch, fb__pool_epoch);
        b->state.pool_next = MAX(b->state.pool_next, map->pool[i]->id + 1);
    }
    for (size_t i = 0; i < map->n_pg; i++) {
        snprintf(key, sizeof(key), "pg/%08x/%08x", (unsigned)(map->pg[i]->id >> 32),
                 (unsigned)map->pg[i]->id);
        offer(b, key, &map->pg[i]->base, map->pg[i]->epoch, fb__pg_epoch);
    }
    for (size_t i = 0; i < map->n_order; i++) {
        snprintf(key, sizeof(key), "order/%016" PRIx64, map->order[i]->image);
        offer(b, key, &map->order[i]->base, map->order[i]->epoch, fb__image_order_epoch);
    }
    b->maps++;
    b->newest = MAX(b->newest, map->epoch);
    return b->error ? cmd_fail("%s", error_text(b->error)) : CMD_OK;
}

static bool map_has_pool(const Fb__ClusterMap *map, uint32_t pool)
{
    for (size_t i = 0; i < map->n_pool; i++)
        if (map->pool[i]->id == pool)
            return true;
    return false;
}

/* Does the newest map have it, or a device a replica of it? */
static int pool_is_there(const struct rebuilding *b, const struct meta_set *from, uint32_t pool, bool *ret)
{
    *ret = false;
    for (uint32_t i = 0; i < from->count && !*ret; i++) {
        const struct meta_kv *kv = &from->kvs[i];
        uint32_t osd, slice;
        uint64_t pg;
        if (sscanf(kv->key, "replica/%u/%u/%" SCNx64, &osd, &slice, &pg) == 3)
            *ret = pg >> 32 == pool;
        if (strncmp(kv->key, "map/", 4) != 0)
            continue;
        Fb__ClusterMap *map = fb__cluster_map__unpack(NULL, kv->value_len, kv->value);
        if (!map)
            return -ERR_NO_MEMORY; /* it could be read before */
        *ret = map->epoch == b->newest && map_has_pool(map, pool);
        fb__cluster_map__free_unpacked(map, NULL);
    }
    return 0;
}

static void forget_pool(struct rebuilding *b, uint32_t pool)
{
    char key[64];

    snprintf(key, sizeof(key), "pg/%08x/", pool);
    for (uint32_t i = b->to->count; i-- > 0;)
        if (!strncmp(b->to->kvs[i].key, key, strlen(key))) {
            char row[64];
            snprintf(row, sizeof(row), "%.63s", b->to->kvs[i].key);
            meta_set_remove(b->to, row);
        }
    snprintf(key, sizeof(key), "pool/%08x", pool);
    meta_set_remove(b->to, key);
}

/* Its PGs have been deleted everywhere, but an OSD that was away may know the pool still. */
static int forget_removed_pools(struct rebuilding *b, const struct meta_set *from)
{
    for (uint32_t pool = 1; pool < b->state.pool_next; pool++) {
        char key[32];
        bool there;
        snprintf(key, sizeof(key), "pool/%08x", pool);
        if (!meta_set_get(b->to, key))
            continue;
        int error = pool_is_there(b, from, pool, &there);
        if (error)
            return cmd_fail("%s", error_text(error));
        if (!there)
            forget_pool(b, pool);
    }
    return CMD_OK;
}

/* What a PG knows of an image. */
static int take_record(struct rebuilding *b, const Fb__Image *record)
{
    char key[40], name[40];
    uint8_t *value;

    snprintf(key, sizeof(key), "image/%016" PRIx64, record->id);
    b->state.image_id_max = MAX(b->state.image_id_max, record->id);
    const struct meta_kv *there = meta_set_get(b->to, key);
    Fb__Image *old = there ? fb__image__unpack(NULL, there->value_len, there->value) : NULL;
    Fb__Image image = FB__IMAGE__INIT;
    if (old)
        image = *old;
    snprintf(name, sizeof(name), "recovered-%" PRIu64, record->id);
    if (!old) {
        image.id = image.placement_key = record->id;
        image.pool = record->pool;
        image.name = name;
        image.size_bytes = record->size_bytes;
        image.generation = record->generation;
    }
    if (record->generation >= image.generation) {
        image.generation = record->generation;
        image.size_bytes = record->size_bytes;
        image.shared = record->shared; /* gone: see rebuild_images() */
    }
    image.incarnation = MAX(image.incarnation, record->incarnation);
    size_t len = fb__image__get_packed_size(&image);
    if ((value = malloc(len + 1))) {
        meta_set_remove(b->to, key);
        b->error = meta_set_put(b->to, key, value, fb__image__pack(&image, value));
        free(value);
    } else {
        b->error = -ERR_NO_MEMORY;
    }
    if (old)
        fb__image__free_unpacked(old, NULL);
    return b->error ? cmd_fail("%s", error_text(b->error)) : CMD_OK;
}

static int take_source(struct rebuilding *b, const struct meta_set *from, const char *prefix)
{
    int result = CMD_OK;

    for (uint32_t i = 0; i < from->count && !result; i++) {
        const struct meta_kv *kv = &from->kvs[i];
        if (strncmp(kv->key, prefix, strlen(prefix)) != 0)
            continue;
        if (prefix[0] == 'm') {
            Fb__ClusterMap *map = fb__cluster_map__unpack(NULL, kv->value_len, kv->value);
            result = map ? take_map(b, map) : cmd_fail("a map in the sources is damaged");
            if (map)
                fb__cluster_map__free_unpacked(map, NULL);
        } else {
            Fb__Image *record = fb__image__unpack(NULL, kv->value_len, kv->value);
            result = record ? take_record(b, record) : cmd_fail("a record in the sources is damaged");
            if (record)
                fb__image__free_unpacked(record, NULL);
        }
    }
    return result;
}

/* The images that a backup names; also what it says of flags. Everything else is newer in the maps. */
static int take_backup(struct rebuilding *b, const char *path)
{
    struct meta_set set;
    int result = meta_set_read(&set, path);

    if (result)
        return result;
    const struct meta_kv *kv = meta_set_get(&set, "cluster");
    Fb__MonState *state = kv ? fb__mon_state__unpack(NULL, kv->value_len, kv->value) : NULL;
    if (!state || state->cluster.len != 16 || memcmp(state->cluster.data, b->cluster, 16)) {
        result = cmd_fail("the backup is of another cluster");
    } else {
        b->state.epoch = MAX(b->state.epoch, state->epoch);
        b->state.osd_next = MAX(b->state.osd_next, state->osd_next);
        b->state.pool_next = MAX(b->state.pool_next, state->pool_next);
        b->state.image_id_max = MAX(b->state.image_id_max, state->image_id_max);
        b->state.noout = state->noout;
        b->state.norebalance = state->norebalance;
        b->state.paused = state->paused;
        b->state.scrub_paused = state->scrub_paused;
        b->state.moves_max = state->moves_max;
    }
    for (uint32_t i = 0; i < set.count && !result; i++)
        if (!strncmp(set.kvs[i].key, "image/", 6) &&
            meta_set_put(b->to, set.kvs[i].key, set.kvs[i].value, set.kvs[i].value_len))
            result = cmd_fail("%s", error_text(-ERR_NO_MEMORY));
    if (state)
        fb__mon_state__free_unpacked(state, NULL);
    meta_set_free(&set);
    return result;
}

/* An order may be newer than what the PGs have recorded. */
static void apply_order(const struct rebuilding *b, Fb__Image *image)
{
    char key[40];

    snprintf(key, sizeof(key), "order/%016" PRIx64, image->id);
    const struct meta_kv *kv = meta_set_get(b->to, key);
    Fb__ImageOrder *order = kv ? fb__image_order__unpack(NULL, kv->value_len, kv->value) : NULL;
    if (order && order->generation > image->generation) {
        image->generation = order->generation;
        image->size_bytes = order->size_bytes;
    }
    image->shared |= order && order->deleted;
    if (order)
        fb__image_order__free_unpacked(order, NULL);
}

/* Those that are gone, or whose pool is, go; the others get an incarnation and a generation above all that
 * was given out: of a resize that no device here knows, another one may know. */
static int finish_images(struct rebuilding *b)
{
    char pool_key[32];
    int error = 0;

    for (uint32_t i = b->to->count; i-- > 0 && !error;) {
        const struct meta_kv *kv = &b->to->kvs[i];
        if (strncmp(kv->key, "image/", 6) != 0)
            continue;
        Fb__Image *image = fb__image__unpack(NULL, kv->value_len, kv->value);
        if (!image)
            return cmd_fail("an image is damaged");
        char key[40];
        snprintf(key, sizeof(key), "%s", kv->key);
        snprintf(pool_key, sizeof(pool_key), "pool/%08x", image->pool);
        const struct meta_kv *pool_kv = meta_set_get(b->to, pool_key);
        Fb__Pool *pool = pool_kv ? fb__pool__unpack(NULL, pool_kv->value_len, pool_kv->value) : NULL;
        apply_order(b, image);
        bool lives = !image->shared && pool && !pool->removed;
        image->incarnation += LEAP;
        image->generation += LEAP;
        size_t len = fb__image__get_packed_size(image);
        uint8_t *value = malloc(len + 1);
        meta_set_remove(b->to, key);
        if (lives && value)
            error = meta_set_put(b->to, key, value, fb__image__pack(image, value));
        if (lives)
            ++*(strncmp(image->name, "recovered-", 10) ? &b->named : &b->unnamed);
        if (!value)
            error = -ERR_NO_MEMORY;
        free(value);
        if (pool)
            fb__pool__free_unpacked(pool, NULL);
        fb__image__free_unpacked(image, NULL);
    }
    return error ? cmd_fail("%s", error_text(error)) : CMD_OK;
}

static uint32_t above(Fb__PgMember *const *rows, size_t count, uint32_t next)
{
    for (size_t i = 0; i < count; i++)
        next = MAX(next, rows[i]->replica + 1);
    return next;
}

/* Numbers of replicas may have been given out that no source knows of. */
static int finish_pg(struct rebuilding *b, uint32_t at)
{
    Fb__Pg *pg = fb__pg__unpack(NULL, b->to->kvs[at].value_len, b->to->kvs[at].value);
    char key[40];

    if (!pg)
        return -ERR_FORMAT;
    pg->replica_next = above(pg->member, pg->n_member, MAX(pg->replica_next, 1u));
    pg->replica_next = above(pg->wanted, pg->n_wanted, pg->replica_next);
    pg->replica_next = above(pg->leaving, pg->n_leaving, pg->replica_next);
    pg->replica_next = above(pg->dropped, pg->n_dropped, pg->replica_next) + LEAP;
    snprintf(key, sizeof(key), "%s", b->to->kvs[at].key);
    size_t len = fb__pg__get_packed_size(pg);
    uint8_t *value = malloc(len + 1);
    int error = value ? 0 : -ERR_NO_MEMORY;
    if (value) {
        meta_set_remove(b->to, key);
        error = meta_set_put(b->to, key, value, fb__pg__pack(pg, value));
    }
    free(value);
    fb__pg__free_unpacked(pg, NULL);
    return error;
}

static int finish_pgs(struct rebuilding *b)
{
    int error = 0;

    /* One that is put anew goes to the end, the one from there comes in its place: from the end on, each
     * once. */
    for (uint32_t i = b->to->count; i-- > 0 && !error;)
        if (!strncmp(b->to->kvs[i].key, "pg/", 3))
            error = finish_pg(b, i);
    return error ? cmd_fail("a PG in the sources: %s", error_text(error)) : CMD_OK;
}

static int finish(struct rebuilding *b)
{
    uint8_t value[256];
    int result = finish_images(b);

    if (!result)
        result = finish_pgs(b);
    if (result)
        return result;
    b->state.format = MON_FORMAT;
    b->state.level =
        LEVEL; /* what the cluster did, no map tells: nobody is let in who might not know of it */
    b->state.cluster = (ProtobufCBinaryData){16, b->cluster};
    b->state.epoch += LEAP;
    b->state.image_id_max += LEAP;
    b->state.pool_next += LEAP;
    b->state.osd_next += LEAP;
    if (meta_set_put(b->to, "cluster", value, fb__mon_state__pack(&b->state, value)))
        return cmd_fail("%s", error_text(-ERR_NO_MEMORY));
    return CMD_OK;
}

/* A file that `mon collect` made, or a device. */
static int read_source(struct meta_set *ret_set, const char *path)
{
    char magic[8] = "";
    FILE *file = fopen(path, "re");

    *ret_set = (struct meta_set){0};
    if (file) {
        size_t got = fread(magic, 1, sizeof(magic), file);
        fclose(file);
        if (got == sizeof(magic) && !memcmp(magic, "FBMETA1\n", 8))
            return meta_set_read(ret_set, path);
    }
    return collect_device(ret_set, path);
}

static int rebuild(struct rebuilding *b, char *sources, const char *backup)
{
    struct meta_set all = {0};
    int result = CMD_OK;

    for (char *save, *path = strtok_r(sources, ",", &save); path && !result;
         path = strtok_r(NULL, ",", &save)) {
        struct meta_set one;
        result = read_source(&one, path);
        for (uint32_t i = 0; i < one.count && !result; i++)
            if (meta_set_get(&all, one.kvs[i].key))
                result =
                    cmd_fail("%s is of an OSD that another source is of, too: name each of them once", path);
            else if (meta_set_put(&all, one.kvs[i].key, one.kvs[i].value, one.kvs[i].value_len))
                result = cmd_fail("%s", error_text(-ERR_NO_MEMORY));
        meta_set_free(&one);
    }
    if (!result)
        result = take_source(b, &all, "map/");
    if (!result && !b->maps)
        result = cmd_fail("no OSD among the sources has ever had a map");
    if (!result)
        result = forget_removed_pools(b, &all);
    if (!result && backup)
        result = take_backup(b, backup);
    if (!result)
        result = take_source(b, &all, "record/");
    meta_set_free(&all);
    return result ? result : finish(b);
}

int cmd_mon_rebuild(struct cmd_args *args)
{
    const char *to = cmd_option(args, "to");
    struct meta_set set = {0};
    struct rebuilding b = {.to = &set, .state = FB__MON_STATE__INIT};
    struct meta_place place;
    char *sources = to ? strdup(args->positional[0]) : NULL;

    if (!to)
        return cmd_usage("--to STORE is needed: a new data directory, or etcd://...");
    int result = sources ? rebuild(&b, sources, cmd_option(args, "backup")) : cmd_fail("out of memory");
    free(sources);
    if (!result && !(result = meta_place_open(&place, to, true))) {
        result = meta_place_fill(&place, &set);
        meta_place_close(&place);
    }
    if (!result && args->json)
        cmd_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I}", "store", to, "maps", (json_int_t)b.maps,
                                 "epoch", (json_int_t)b.state.epoch, "images", (json_int_t)b.named,
                                 "images_without_name", (json_int_t)b.unnamed));
    else if (!result)
        printf("made of %u saved maps: epoch %llu, %u images with their names, %u without (recovered-ID)\n",
               b.maps, (unsigned long long)b.state.epoch, b.named, b.unnamed);
    meta_set_free(&set);
    return result;
}
