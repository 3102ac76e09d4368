/* SPDX-License-Identifier: Apache-2.0
 *
 * A fixed array of entries; a hash table finds them, a list keeps the idle ones in the order of their last
 * close.
 */
#include "rpc/seen.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"

/* The hash is no secret, so two ids may be made to have one key: then the one that is idle gives way. */
static uint64_t id_key(const uint8_t id[16])
{
    return hash_bytes(0, id, 16);
}

int rpc_seen_init(struct rpc_seen_table *table, uint32_t max)
{
    *table = (struct rpc_seen_table){.max = max};
    map_init(&table->by_id);
    list_init(&table->idle);
    table->entries = calloc(max, sizeof(*table->entries));
    int error = table->entries ? map_reserve(&table->by_id, max) : -ERR_NO_MEMORY;
    if (error)
        rpc_seen_fini(table);
    return error;
}

void rpc_seen_fini(struct rpc_seen_table *table)
{
    map_fini(&table->by_id);
    free(table->entries);
    table->entries = NULL;
}

struct rpc_seen *rpc_seen_find(const struct rpc_seen_table *table, const uint8_t id[16])
{
    struct map_node *node = map_get(&table->by_id, id_key(id));

    if (!node)
        return NULL;
    struct rpc_seen *seen = map_entry(node, struct rpc_seen, by_id);
    return memcmp(seen->id, id, 16) == 0 ? seen : NULL;
}

struct rpc_seen *rpc_seen_add(struct rpc_seen_table *table, const uint8_t id[16])
{
    struct map_node *same_key = map_get(&table->by_id, id_key(id));
    struct rpc_seen *seen;

    if (same_key) {
        seen = map_entry(same_key, struct rpc_seen, by_id);
        ASSERT(memcmp(seen->id, id, 16) != 0);
        if (!list_empty(&seen->sessions))
            return NULL;
    } else if (table->used < table->max) {
        seen = &table->entries[table->used++];
        list_init(&seen->idle);
    } else {
        seen = list_first(&table->idle, struct rpc_seen, idle);
        ASSERT(seen);
    }
    if (list_linked(&seen->idle)) {
        list_remove(&seen->idle);
        map_remove(&table->by_id, seen->by_id.key);
    }
    *seen = (struct rpc_seen){0};
    memcpy(seen->id, id, 16);
    list_init(&seen->sessions);
    list_init(&seen->idle);
    list_push_back(&table->idle, &seen->idle);
    map_put(&table->by_id, &seen->by_id, id_key(id));
    return seen;
}

void rpc_seen_open(struct rpc_seen *seen, struct list *of_seen)
{
    list_remove(&seen->idle);
    list_push_back(&seen->sessions, of_seen);
}

void rpc_seen_close(struct rpc_seen_table *table, struct rpc_seen *seen, struct list *of_seen)
{
    list_remove(of_seen);
    if (list_empty(&seen->sessions))
        list_push_back(&table->idle, &seen->idle);
}
