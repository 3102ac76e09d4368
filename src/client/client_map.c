/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster map as the client keeps it: one Fb__ClusterMap on the heap, and tables from ids to its items.
 *
 * Applying a map or a delta moves the items out of the received message (pointers, no copies): an item with a
 * known id takes the place of the old one, a new one is appended, a removed one goes away. A whole map
 * replaces everything, but what was learned about PGs (term, leader) stays, because it is not in the map.
 */
#include <stdlib.h>
#include <string.h>

#include "client/impl.h"

struct client_osd {
    struct map_node node; /* by id */
    Fb__Osd *osd;
};

int client_map_init(struct client *client)
{
    map_init(&client->pgs);
    map_init(&client->osds);
    list_init(&client->map_waiters);
    client->map = calloc(1, sizeof(*client->map));
    if (!client->map)
        return -ERR_NO_MEMORY;
    fb__cluster_map__init(client->map);
    return 0;
}

static void map_free_pg(struct client *client, struct client_pg *pg)
{
    map_remove(&client->pgs, pg->node.key);
    free(pg);
}

void client_map_fini(struct client *client)
{
    map_for_each (&client->pgs, node) {
        map_free_pg(client, map_entry(node, struct client_pg, node));
    }
    map_for_each (&client->osds, node) {
        map_remove(&client->osds, node->key);
        free(map_entry(node, struct client_osd, node));
    }
    map_fini(&client->pgs);
    map_fini(&client->osds);
    if (client->map)
        fb__cluster_map__free_unpacked(client->map, CLIENT_ALLOCATOR);
    client->map = NULL;
}

const struct client_perf *client_perf(const struct client *client)
{
    return &client->perf;
}

const Fb__ClusterMap *client_map(const struct client *client)
{
    return client->map;
}

const Fb__Osd *client_map_osd(const struct client *client, uint32_t osd)
{
    struct map_node *node = map_get(&client->osds, osd);

    return node ? map_entry(node, struct client_osd, node)->osd : NULL;
}

const Fb__Pool *client_map_pool(const struct client *client, uint32_t pool)
{
    for (size_t i = 0; i < client->map->n_pool; i++)
        if (client->map->pool[i]->id == pool)
            return client->map->pool[i];
    return NULL;
}

struct client_pg *client_map_pg(const struct client *client, uint64_t pg)
{
    struct map_node *node = map_get(&client->pgs, pg);

    return node ? map_entry(node, struct client_pg, node) : NULL;
}

/* One kind of items of the map, for the code that moves them: the arrays of both sides, and what tells items
 * apart. */
struct item_kind {
    size_t count_offset, array_offset; /* in Fb__ClusterMap */
    uint64_t (*id)(const void *item);
    bool (*removed)(const void *item);
};

static uint64_t osd_id(const void *item)
{
    return ((const Fb__Osd *)item)->id;
}
static bool osd_removed(const void *item)
{
    return ((const Fb__Osd *)item)->removed;
}
static uint64_t pool_id(const void *item)
{
    return ((const Fb__Pool *)item)->id;
}
static bool pool_removed(const void *item)
{
    return ((const Fb__Pool *)item)->removed;
}
static uint64_t pg_id(const void *item)
{
    return ((const Fb__Pg *)item)->id;
}
static bool pg_removed(const void *item)
{
    return ((const Fb__Pg *)item)->removed;
}

static const struct item_kind osd_kind = {offsetof(Fb__ClusterMap, n_osd), offsetof(Fb__ClusterMap, osd),
                                          osd_id, osd_removed};
static const struct item_kind pool_kind = {offsetof(Fb__ClusterMap, n_pool), offsetof(Fb__ClusterMap, pool),
                                           pool_id, pool_removed};
static const struct item_kind pg_kind = {offsetof(Fb__ClusterMap, n_pg), offsetof(Fb__ClusterMap, pg), pg_id,
                                         pg_removed};

static size_t *kind_count(const struct item_kind *kind, Fb__ClusterMap *map)
{
    return (size_t *)((char *)map + kind->count_offset);
}

static ProtobufCMessage ***kind_array(const struct item_kind *kind, Fb__ClusterMap *map)
{
    return (ProtobufCMessage ***)((char *)map + kind->array_offset);
}

/* Both sides are put in one sorted order of (id, newer first); the first of each id stays. */
struct sort_item {
    ProtobufCMessage *item;
    uint64_t id;
    bool old;
};

static int sort_compare(const void *a_, const void *b_)
{
    const struct sort_item *a = a_, *b = b_;

    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return (int)a->old - (int)b->old;
}

static int map_merge(Fb__ClusterMap *to, Fb__ClusterMap *from, const struct item_kind *kind)
{
    size_t *to_count = kind_count(kind, to), *from_count = kind_count(kind, from);
    ProtobufCMessage ***to_array = kind_array(kind, to), ***from_array = kind_array(kind, from);
    size_t count = *to_count + *from_count, kept = 0;

    if (*from_count == 0)
        return 0;
    struct sort_item *items = calloc(count, sizeof(*items));
    ProtobufCMessage **array = calloc(count, sizeof(*array));
    if (!items || !array) {
        free(items);
        free(array);
        return -ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < *from_count; i++)
        items[i] = (struct sort_item){(*from_array)[i], kind->id((*from_array)[i]), false};
    for (size_t i = 0; i < *to_count; i++)
        items[*from_count + i] = (struct sort_item){(*to_array)[i], kind->id((*to_array)[i]), true};
    qsort(items, count, sizeof(*items), sort_compare);
    for (size_t i = 0; i < count; i++) {
        bool outdated = i > 0 && items[i].id == items[i - 1].id;
        if (outdated || kind->removed(items[i].item))
            protobuf_c_message_free_unpacked(items[i].item, CLIENT_ALLOCATOR);
        else
            array[kept++] = items[i].item;
    }
    free(items);
    free(*to_array);
    *to_array = array;
    *to_count = kept;
    *from_count = 0; /* the items are ours now; the array itself is freed with the message */
    return 0;
}

/* The tables follow the map; entries of PGs that remain keep what was learned. Without memory some items are
 * missing, and whatever is there is valid. */
static int map_index(struct client *client)
{
    int error = 0;

    map_for_each (&client->pgs, node) {
        map_entry(node, struct client_pg, node)->pg = NULL;
    }
    for (size_t i = 0; i < client->map->n_pg; i++) {
        Fb__Pg *pg = client->map->pg[i];
        struct client_pg *entry = client_map_pg(client, pg->id);
        if (!entry) {
            entry = calloc(1, sizeof(*entry));
            if (!entry) {
                error = -ERR_NO_MEMORY;
                continue;
            }
            map_put(&client->pgs, &entry->node, pg->id);
        }
        entry->pg = pg;
    }
    map_for_each (&client->pgs, node) {
        if (!map_entry(node, struct client_pg, node)->pg)
            map_free_pg(client, map_entry(node, struct client_pg, node));
    }
    map_for_each (&client->osds, node) {
        map_remove(&client->osds, node->key);
        free(map_entry(node, struct client_osd, node));
    }
    for (size_t i = 0; i < client->map->n_osd; i++) {
        struct client_osd *entry = calloc(1, sizeof(*entry));
        if (!entry) {
            error = -ERR_NO_MEMORY;
            continue;
        }
        entry->osd = client->map->osd[i];
        map_put(&client->osds, &entry->node, entry->osd->id);
    }
    return error;
}

static int map_take_cluster(struct client *client, const Fb__ClusterMap *from)
{
    static const uint8_t none[16];

    if (from->cluster.len == 0)
        return 0;
    if (from->cluster.len != sizeof(client->self.cluster))
        return -ERR_PROTOCOL;
    if (memcmp(client->self.cluster, none, sizeof(none)) == 0)
        memcpy(client->self.cluster, from->cluster.data, sizeof(client->self.cluster));
    else if (memcmp(client->self.cluster, from->cluster.data, sizeof(client->self.cluster)) != 0)
        return -ERR_CLUSTER;
    return 0;
}

static void map_clear(Fb__ClusterMap *map)
{
    const struct item_kind *kinds[] = {&osd_kind, &pool_kind, &pg_kind};

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        size_t *count = kind_count(kinds[k], map);
        for (size_t i = 0; i < *count; i++)
            protobuf_c_message_free_unpacked((*kind_array(kinds[k], map))[i], CLIENT_ALLOCATOR);
        *count = 0;
    }
}

int client_map_apply(struct client *client, Fb__ClusterMap *from)
{
    int error = map_take_cluster(client, from);
    /* Most epochs change nothing that we keep: somewhere an image was opened. */
    bool any = !from->base_epoch || from->n_osd || from->n_pool || from->n_pg;

    if (error)
        return error;
    if (from->base_epoch) {
        if (!client->has_map || from->base_epoch > client->map->epoch)
            return -ERR_CONFLICT;
        if (from->epoch <= client->map->epoch)
            return 0; /* known already */
    } else {
        /* A monitor that is behind another: the newer map stays. The first part of a large map has an older
         * epoch than there is, and is taken from one that is not behind when all has to come anew. */
        if (MAX(from->epoch, from->newest_epoch) < client->self.epoch ||
            (client->has_map && from->epoch < client->map->epoch))
            return -ERR_BEHIND;
        map_clear(client->map);
    }
    client->has_map = false; /* without memory for all of it: the next is a whole one again */
    error = map_merge(client->map, from, &osd_kind);
    if (!error)
        error = map_merge(client->map, from, &pool_kind);
    if (!error)
        error = map_merge(client->map, from, &pg_kind);
    int index_error = any ? map_index(client) : 0;
    if (error || index_error)
        return error ? error : index_error;
    client->map->epoch = from->epoch;
    client->map->paused = from->paused;
    client->map->image_id_max = MAX(client->map->image_id_max, from->image_id_max);
    client->self.epoch = MAX(client->self.epoch, client->map->epoch);
    if (from->monitors)
        rpc_monitors_learn(&client->monitors, from->monitors->address, from->monitors->n_address);
    client->self.image_id_max = client->map->image_id_max;
    client->has_map = true;
    client_peers_map_changed(client);
    op_wake(client->opener);
    for (struct list *node; (node = list_pop_front(&client->map_waiters));)
        op_wake(list_entry(node, struct client_wait, link)->op);
    return 0;
}
