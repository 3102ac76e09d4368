/* SPDX-License-Identifier: Apache-2.0
 *
 * A monitor's metadata in memory and in files.
 */
#include "cmd/meta_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/le.h"

#define FILE_MAGIC     "FBMETA1\n"
#define FILE_BYTES_MAX (1ull << 30)

void meta_set_free(struct meta_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        free((void *)(uintptr_t)set->kvs[i].key);
    free(set->kvs);
    free(set->index);
    *set = (struct meta_set){0};
}

/* ---- by key ---- */

/* Where the key is in the index, or where it belongs. The index is never more than half full. */
static uint32_t place(const struct meta_set *set, const char *key)
{
    uint32_t places = 2 * set->cap, at = crc32c(0, key, strlen(key)) % places;

    while (set->index[at] && strcmp(set->kvs[set->index[at] - 1].key, key) != 0)
        at = (at + 1) % places;
    return at;
}

static int grow(struct meta_set *set)
{
    uint32_t cap = MAX(set->cap * 2, 256u);
    struct meta_kv *more = realloc(set->kvs, cap * sizeof(*more));
    uint32_t *index = calloc(2 * (size_t)cap, sizeof(*index));

    if (more)
        set->kvs = more;
    if (!more || !index) {
        free(index);
        return -ERR_NO_MEMORY;
    }
    free(set->index);
    set->index = index;
    set->cap = cap;
    for (uint32_t i = 0; i < set->count; i++)
        set->index[place(set, set->kvs[i].key)] = i + 1;
    return 0;
}

const struct meta_kv *meta_set_get(const struct meta_set *set, const char *key)
{
    uint32_t row = set->cap ? set->index[place(set, key)] : 0;

    return row ? &set->kvs[row - 1] : NULL;
}

/* What lies behind the free place on the way of other keys moves up. */
static void index_remove(struct meta_set *set, uint32_t at)
{
    uint32_t places = 2 * set->cap;

    set->index[at] = 0;
    for (at = (at + 1) % places; set->index[at]; at = (at + 1) % places) {
        uint32_t row = set->index[at];
        set->index[at] = 0;
        set->index[place(set, set->kvs[row - 1].key)] = row;
    }
}

void meta_set_remove(struct meta_set *set, const char *key)
{
    const struct meta_kv *there = meta_set_get(set, key);

    if (!there)
        return;
    uint32_t row = (uint32_t)(there - set->kvs), last = set->count - 1;
    index_remove(set, place(set, key));
    free((void *)(uintptr_t)there->key);
    if (row != last) {
        set->index[place(set, set->kvs[last].key)] = row + 1;
        set->kvs[row] = set->kvs[last];
    }
    set->count--;
}

int meta_set_put(struct meta_set *set, const char *key, const void *value, size_t len)
{
    size_t key_size = strlen(key) + 1;

    if (key_size - 1 > META_KEY_MAX || len > FILE_BYTES_MAX)
        return -ERR_TOO_LARGE;
    if (set->count == set->cap && grow(set))
        return -ERR_NO_MEMORY;
    char *memory = malloc(key_size + len);
    if (!memory)
        return -ERR_NO_MEMORY;
    memcpy(memory, key, key_size);
    if (len)
        memcpy(memory + key_size, value, len);
    uint32_t at = place(set, memory);
    set->kvs[set->count++] =
        (struct meta_kv){.key = memory, .value = memory + key_size, .value_len = (uint32_t)len};
    set->index[at] = set->count;
    return 0;
}

/* ---- files ---- */

static bool put_bytes(FILE *file, uint32_t *crc, const void *bytes, size_t len)
{
    *crc = crc32c(*crc, bytes, len);
    return fwrite(bytes, 1, len, file) == len;
}

static bool put_u32(FILE *file, uint32_t *crc, uint32_t value)
{
    uint8_t bytes[4];

    le_store_u32(bytes, value);
    return put_bytes(file, crc, bytes, 4);
}

int meta_set_write(const struct meta_set *set, const char *path)
{
    FILE *file = fopen(path, "wxe");
    uint32_t crc = 0;

    if (!file)
        return cmd_fail("cannot make %s: %s", path,
                        errno == EEXIST ? "there is a file of that name already" : strerror(errno));
    bool good = put_bytes(file, &crc, FILE_MAGIC, 8) && put_u32(file, &crc, set->count);
    for (uint32_t i = 0; i < set->count && good; i++) {
        const struct meta_kv *kv = &set->kvs[i];
        uint32_t key_len = (uint32_t)strlen(kv->key);
        good = put_u32(file, &crc, key_len) && put_u32(file, &crc, kv->value_len) &&
               put_bytes(file, &crc, kv->key, key_len) && put_bytes(file, &crc, kv->value, kv->value_len);
    }
    uint32_t whole = crc;
    good = good && put_u32(file, &crc, whole) && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int failed = errno;
    if (fclose(file) && good) {
        failed = errno;
        good = false;
    }
    if (good)
        return CMD_OK;
    unlink(path);
    return cmd_fail("cannot write %s: %s", path, strerror(failed));
}

static uint8_t *read_whole(const char *path, size_t *ret_len)
{
    FILE *file = fopen(path, "re");
    uint8_t *data = NULL;
    long size;

    if (!file) {
        cmd_fail("cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 && (unsigned long)size <= FILE_BYTES_MAX &&
        fseek(file, 0, SEEK_SET) == 0 && (data = malloc((size_t)size + 1))) {
        *ret_len = fread(data, 1, (size_t)size, file);
    } else {
        cmd_fail("cannot read %s: %s", path, errno ? strerror(errno) : "it is too large");
    }
    fclose(file);
    return data;
}

/* One entry; how many bytes it takes, 0: it does not fit, or breaks a rule. */
static size_t read_entry(const uint8_t *at, size_t left, struct meta_set *set)
{
    char key[META_KEY_MAX + 1];

    if (left < 8)
        return 0;
    uint32_t key_len = le_load_u32(at), value_len = le_load_u32(at + 4);
    if (!key_len || key_len > META_KEY_MAX || left - 8 < (size_t)key_len + value_len)
        return 0;
    memcpy(key, at + 8, key_len);
    key[key_len] = 0;
    for (uint32_t i = 0; i < key_len; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return 0;
    if (meta_set_get(set, key) || meta_set_put(set, key, at + 8 + key_len, value_len))
        return 0;
    return 8 + (size_t)key_len + value_len;
}

int meta_set_read(struct meta_set *ret_set, const char *path)
{
    struct meta_set set = {0};
    size_t len = 0, at = 12;
    uint8_t *data = read_whole(path, &len);

    if (!data)
        return CMD_FAILED;
    bool good =
        len >= 16 && !memcmp(data, FILE_MAGIC, 8) && crc32c(0, data, len - 4) == le_load_u32(data + len - 4);
    for (uint32_t i = 0, count = good ? le_load_u32(data + 8) : 0; i < count && good; i++) {
        size_t size = read_entry(data + at, len - 4 - at, &set);
        good = size;
        at += size;
    }
    free(data);
    if (!good || at != len - 4) {
        meta_set_free(&set);
        return cmd_fail("%s is not a backup of a monitor's metadata, or is damaged", path);
    }
    *ret_set = set;
    return CMD_OK;
}
