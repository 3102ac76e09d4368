/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys in a sorted array, and the changes of the last revisions.
 */
#include "sim/sim_meta_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sim/sim.h"

void *sim_meta_bytes_copy(const void *bytes, size_t len)
{
    void *copy = sim_alloc(len);

    memcpy(copy, bytes, len);
    return copy;
}

char *sim_meta_key_copy(const char *key)
{
    return sim_meta_bytes_copy(key, strlen(key) + 1);
}

/* The place of `key`, or of the first key above it. */
static uint32_t item_at(const struct sim_meta_keys *keys, const char *key)
{
    uint32_t low = 0, high = keys->item_count;

    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (strcmp(keys->items[mid].key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct sim_meta_item *item_find(const struct sim_meta_keys *keys, const char *key)
{
    uint32_t at = item_at(keys, key);

    return at < keys->item_count && strcmp(keys->items[at].key, key) == 0 ? &keys->items[at] : NULL;
}

static void item_put(struct sim_meta_keys *keys, const struct meta_change *change)
{
    struct sim_meta_item *item = item_find(keys, change->key);

    if (!item) {
        if (keys->item_count == keys->item_cap) {
            keys->item_cap = keys->item_cap ? keys->item_cap * 2 : 64;
            keys->items = realloc(keys->items, keys->item_cap * sizeof(struct sim_meta_item));
            ASSERT(keys->items);
        }
        uint32_t at = item_at(keys, change->key);
        memmove(&keys->items[at + 1], &keys->items[at],
                (keys->item_count - at) * sizeof(struct sim_meta_item));
        keys->item_count++;
        item = &keys->items[at];
        *item = (struct sim_meta_item){.key = sim_meta_key_copy(change->key)};
    }
    free(item->value);
    item->value = sim_meta_bytes_copy(change->value, change->value_len);
    item->value_len = change->value_len;
    item->mod_revision = keys->revision;
    item->lease = change->lease;
}

static bool item_delete(struct sim_meta_keys *keys, const char *key)
{
    struct sim_meta_item *item = item_find(keys, key);

    if (!item)
        return false;
    free(item->key);
    free(item->value);
    uint32_t at = (uint32_t)(item - keys->items);
    memmove(item, item + 1, (keys->item_count - at - 1) * sizeof(struct sim_meta_item));
    keys->item_count--;
    return true;
}

static void history_drop(struct sim_meta_keys *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        keys->oldest_revision = keys->history[i].revision;
        free(keys->history[i].key);
        free(keys->history[i].value);
    }
    memmove(keys->history, keys->history + count,
            (keys->change_count - count) * sizeof(struct sim_meta_change));
    keys->change_count -= count;
}

static void history_add(struct sim_meta_keys *keys, const struct meta_change *change)
{
    if (keys->change_count == keys->change_cap) {
        keys->change_cap = keys->change_cap ? keys->change_cap * 2 : 256;
        keys->history = realloc(keys->history, keys->change_cap * sizeof(struct sim_meta_change));
        ASSERT(keys->history);
    }
    keys->history[keys->change_count++] = (struct sim_meta_change){
        .revision = keys->revision,
        .key = sim_meta_key_copy(change->key),
        .value = change->value ? sim_meta_bytes_copy(change->value, change->value_len) : NULL,
        .value_len = change->value_len,
    };
    if (keys->revision > keys->history_max) {
        uint32_t old = 0;
        while (old < keys->change_count && keys->history[old].revision <= keys->revision - keys->history_max)
            old++;
        if (old)
            history_drop(keys, old);
    }
}

const struct sim_meta_item *sim_meta_keys_find(const struct sim_meta_keys *keys, const char *key)
{
    return item_find(keys, key);
}

bool sim_meta_keys_match(const struct sim_meta_keys *keys, const struct meta_condition *conditions,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct sim_meta_item *item = item_find(keys, conditions[i].key);
        if ((item ? item->mod_revision : 0) != conditions[i].mod_revision)
            return false;
    }
    return true;
}

bool sim_meta_keys_change(struct sim_meta_keys *keys, const struct meta_change *changes, uint32_t count)
{
    bool changes_something = false;

    /* Deletes of what is not there change nothing. */
    for (uint32_t i = 0; i < count; i++)
        if (changes[i].value || item_find(keys, changes[i].key))
            changes_something = true;
    if (!changes_something)
        return false;
    keys->revision++;
    for (uint32_t i = 0; i < count; i++) {
        if (changes[i].value)
            item_put(keys, &changes[i]);
        else if (!item_delete(keys, changes[i].key))
            continue;
        history_add(keys, &changes[i]);
    }
    return true;
}

void sim_meta_keys_range(const struct sim_meta_keys *keys, struct meta_range *range)
{
    uint32_t from = item_at(keys, range->first), to = from, count;

    if (range->end)
        to = MAX(from, item_at(keys, range->end));
    else if (item_find(keys, range->first))
        to = from + 1;
    count = to - from;
    range->ret_more = range->limit && count > range->limit;
    if (range->ret_more)
        count = range->limit;
    /* The node's own memory: it goes with the node, or by range_fini(). */
    struct meta_kv *kvs = calloc(count ? count : 1, sizeof(*kvs));
    ASSERT(kvs);
    for (uint32_t i = 0; i < count; i++) {
        const struct sim_meta_item *item = &keys->items[from + i];
        char *key = strdup(item->key);
        void *value = malloc(item->value_len ? item->value_len : 1);
        ASSERT(key && value);
        memcpy(value, item->value, item->value_len);
        kvs[i] = (struct meta_kv){key, value, item->value_len, item->mod_revision};
    }
    range->ret_kvs = kvs;
    range->ret_count = count;
    range->ret_revision = keys->revision;
}

void sim_meta_keys_forget(struct sim_meta_keys *keys)
{
    history_drop(keys, keys->change_count);
    keys->oldest_revision = keys->revision;
}

void sim_meta_keys_fini(struct sim_meta_keys *keys)
{
    history_drop(keys, keys->change_count);
    for (uint32_t i = 0; i < keys->item_count; i++) {
        free(keys->items[i].key);
        free(keys->items[i].value);
    }
    free(keys->items);
    free(keys->history);
}
