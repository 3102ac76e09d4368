/* SPDX-License-Identifier: Apache-2.0
 *
 * The cluster map as this shard has it: items by id, each the decoded message of its kind.
 *
 * A delta carries items with their whole new value, so taking one over is replacing items; nothing is ever
 * removed because it is missing. Of the PGs a shard keeps those that have, had, or are to have a replica
 * here: what it needs to serve while no monitor answers, in a size that does not grow with the cluster. What
 * is done goes when the map says so: an order that every PG has in its log, a PG that every member has
 * removed, a pool whose PGs have all gone. What the map orders (births, removals, image records) is carried
 * out by shard_orders.c and pg_image.c once the map is durable here.
 *
 * `born` of a PG is kept false here until our replica has been created, whatever the map says since: we saw
 * the order before the group was born, so that the replica is not there yet proves no damage. A PG that we
 * first hear of as born and that we do not have is damage, and is not created.
 *
 * Births that are due by a saved map are none before the monitor says so again: if its newest copy was lost,
 * this is an older one, and such a PG may have been born and damaged since, or be gone, so that nobody knows
 * of it any more.
 */
#include "osd/pg.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/placement.h"
#include "base/plant.h"

void shard_map_init(struct shard_map *map)
{
    *map = (struct shard_map){0};
    map_init(&map->osds);
    map_init(&map->pools);
    map_init(&map->pgs);
    map_init(&map->orders);
    list_init(&map->arrivals);
}

/* Our own allocator calls, so that the memory is counted as this node's in the simulator. */
static void *message_alloc(void *owner, size_t len)
{
    return malloc(len);
}

static void message_free(void *owner, void *at)
{
    free(at);
}
static const ProtobufCAllocator message_allocator = {message_alloc, message_free, NULL};

static void message_drop(ProtobufCMessage *message)
{
    protobuf_c_message_free_unpacked(message, (ProtobufCAllocator *)&message_allocator);
}

static void items_fini(struct map *items)
{
    map_for_each (items, node) {
        struct map_item *item = map_entry(node, struct map_item, node);
        map_remove(items, node->key);
        message_drop(item->message);
        free(item);
    }
    map_fini(items);
}

void shard_map_fini(struct shard_map *map)
{
    items_fini(&map->osds);
    items_fini(&map->pools);
    items_fini(&map->pgs);
    items_fini(&map->orders);
}

static struct map_item *item_get(const struct map *items, uint64_t id)
{
    struct map_node *node = map_get(items, id);
    return node ? map_entry(node, struct map_item, node) : NULL;
}

/* A copy of the message, on the heap, takes the item's place. */
static int item_take(struct map *items, uint64_t id, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(len + 1);
    struct map_item *item = item_get(items, id);
    bool is_new = !item;
    ProtobufCMessage *copy;

    if (!bytes)
        return -ERR_NO_MEMORY;
    protobuf_c_message_pack(message, bytes);
    copy =
        protobuf_c_message_unpack(message->descriptor, (ProtobufCAllocator *)&message_allocator, len, bytes);
    free(bytes);
    if (is_new)
        item = calloc(1, sizeof(*item));
    if (!copy || !item) {
        if (copy)
            message_drop(copy);
        if (is_new)
            free(item);
        return -ERR_NO_MEMORY;
    }
    if (is_new)
        list_init(&item->arrival);
    if (is_new)
        map_put(items, &item->node, id);
    else
        message_drop(item->message);
    item->message = copy;
    return 0;
}

static void item_drop(struct map *items, uint64_t id)
{
    struct map_item *item = item_get(items, id);

    if (!item)
        return;
    map_remove(items, id);
    list_remove(&item->arrival);
    message_drop(item->message);
    free(item);
}

/* What raft and the store rely on: replica numbers that are none, or name two members, would be a bug there,
 * and so would be a group without voters. */
static bool members_valid(Fb__PgMember *const *members, size_t count)
{
    bool votes = !count;

    if (count > RAFT_MEMBERS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        votes |= !members[i]->learner;
        if (!members[i]->replica || members[i]->shard > GROUP_SHARD_MAX)
            return false;
        for (size_t j = 0; j < i; j++)
            if (members[i]->replica == members[j]->replica)
                return false;
    }
    return votes;
}

/* Only these are kept: of a cluster's PGs a shard has a few thousand at most. */
static bool pg_concerns(const struct osd_shard *shard, const Fb__Pg *pg)
{
    return store_pg_find(shard->store, pg->id) ||
           (!pg->removed && (shard_map_member(shard, pg) || shard_map_wanted(shard, pg) ||
                             shard_map_leaving(shard, pg) || shard_map_dropped(shard, pg)));
}

static int pg_take(struct osd_shard *shard, const Fb__Pg *message)
{
    const Fb__Pg *had = shard_map_pg(shard, message->id);
    bool unborn =
        had && !had->born && !store_pg_find(shard->store, message->id) && shard_map_member(shard, had);
    int error;

    if (!message->id || !members_valid(message->member, message->n_member) ||
        !members_valid(message->wanted, message->n_wanted) ||
        (message->force && message->force->term > RAFT_TERM_MAX / 16)) /* what a log entry can have */
        return -ERR_PROTOCOL;
    shard->map.changed |= had || pg_concerns(shard, message);
    if (!pg_concerns(shard, message)) {
        item_drop(&shard->map.pgs, message->id);
        return 0;
    }
    error = item_take(&shard->map.pgs, message->id, &message->base);
    if (!error && unborn)
        shard_map_pg(shard, message->id)->born = false;
    return error;
}

/* Of a removed pool nothing is left anywhere: it goes, too, unless one of its PGs is still known here. */
static void pool_settle(struct shard_map *map, const Fb__Pool *pool)
{
    if (!pool->removed || pool->pg_count)
        return;
    map_for_each (&map->pgs, node)
        if (node->key >> 32 == pool->id)
            return;
    item_drop(&map->pools, pool->id);
}

/* Behind those that PGs have looked at. */
static int order_take(struct shard_map *map, const Fb__ImageOrder *order)
{
    int error = item_take(&map->orders, order->image, &order->base);
    struct map_item *item = error ? NULL : item_get(&map->orders, order->image);

    if (error)
        return error;
    list_remove(&item->arrival);
    list_push_back(&map->arrivals, &item->arrival);
    item->arrived = ++map->arrived;
    return 0;
}

static int map_take_items(struct osd_shard *shard, const Fb__ClusterMap *message)
{
    struct shard_map *map = &shard->map;
    int error = 0;

    for (size_t i = 0; i < message->n_osd && !error; i++)
        error = item_take(&map->osds, message->osd[i]->id, &message->osd[i]->base);
    for (size_t i = 0; i < message->n_pool && !error; i++)
        error = item_take(&map->pools, message->pool[i]->id, &message->pool[i]->base);
    for (size_t i = 0; i < message->n_pg && !error; i++)
        error = pg_take(shard, message->pg[i]);
    for (size_t i = 0; i < message->n_order && !error; i++) {
        if (message->order[i]->removed)
            item_drop(&map->orders, message->order[i]->image);
        else
            error = order_take(map, message->order[i]);
    }
    for (size_t i = 0; i < message->n_pool && !error; i++)
        pool_settle(map, message->pool[i]);
    map->changed |= message->n_osd || message->n_pool || message->n_order;
    return error;
}

/* Who may be to split it off once more; NULL: nobody here. */
static struct pg *split_parent(const struct osd_shard *shard, const Fb__Pg *item)
{
    uint32_t number = (uint32_t)item->id;

    return item->split && item->force && number
               ? pg_find(shard, placement_pg_id((uint32_t)(item->id >> 32), placement_pg_parent(number)))
               : NULL;
}

/* What a group that we may lead carries out comes from its own item, its pool's, and the orders for images of
 * that, but for those that are done: only who is concerned is to look, for each look costs the memory of a
 * group. */
static void map_tell_pgs(struct osd_shard *shard, const Fb__ClusterMap *message)
{
    for (size_t i = 0; i < message->n_pg; i++) {
        struct pg *pg = pg_find(shard, message->pg[i]->id), *parent = split_parent(shard, message->pg[i]);
        if (parent) {
            parent->split_due = true;
            pg_wake(parent);
        }
        if (!pg)
            continue;
        pg->group_due = true;
        pg_wake(pg);
    }
    if (!message->n_pool && !message->n_order)
        return;
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        uint64_t pool = pg->id >> 32;
        bool concerned = false;

        for (size_t i = 0; i < message->n_pool && !concerned; i++)
            concerned = message->pool[i]->id == pool;
        for (size_t i = 0; i < message->n_order && !concerned; i++)
            concerned = message->order[i]->pool == pool && !message->order[i]->removed;
        if (!concerned)
            continue;
        pg->orders_due = pg->group_due = pg->split_due = true;
        pg_wake(pg);
    }
}

bool shard_map_is_part(const struct osd_shard *shard)
{
    return shard->map.epoch < shard->map.newest_epoch;
}

int shard_map_take(struct osd_shard *shard, const Fb__ClusterMap *message)
{
    struct shard_map *map = &shard->map;
    int error;

    if (message->cluster.len != 16 || memcmp(message->cluster.data, shard->label.cluster, 16))
        return -ERR_CLUSTER;
    if (message->base_epoch > map->epoch)
        return -ERR_CONFLICT;
    if (message->epoch < map->epoch)
        return -ERR_BEHIND;
    if (message->epoch == map->epoch)
        return 0;
    /* If this fails half way, the epoch stays and the same items come again; until then this is a part. */
    map->newest_epoch = MAX(map->newest_epoch, MAX(message->epoch, message->newest_epoch));
    error = map_take_items(shard, message);
    if (error)
        return error;
    map->epoch = message->epoch;
    map->changed |= map->paused != message->paused;
    map->paused = message->paused;
    shard->mon.stirred = true;
    map->image_id_max = MAX(map->image_id_max, message->image_id_max);
    if (message->monitors) {
        rpc_monitors_learn(&shard->monitors, message->monitors->address, message->monitors->n_address);
        map->changed = true;
    }
    shard->self.epoch = map->epoch;
    shard->self.image_id_max = map->image_id_max;
    shard_peers_map_changed(shard);
    map_tell_pgs(shard, message);
    /* Of an epoch alone, which is saved by the way, nothing follows. */
    if (op_live(&shard->orders.op) && (map->changed || !timer_armed(&shard->orders.lazy)))
        op_wake(&shard->orders.op);
    return 0;
}

/* As a PG that is none of ours, it is not there. What is newer than the epoch before it comes again with it.
 */
static void births_ask_again(struct osd_shard *shard)
{
    struct shard_map *map = &shard->map;

    map_for_each (&map->pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        uint64_t birth;

        if (!shard_birth_due(shard, item, &birth))
            continue;
        map->epoch = MIN(map->epoch, item->epoch ? item->epoch - 1 : 0);
        item_drop(&map->pgs, item->id);
    }
}

int shard_map_load(struct osd_shard *shard)
{
    uint32_t len = 0;
    const void *blob = store_blob(shard->store, &len);
    Fb__ClusterMap *message;
    int error;

    if (!blob)
        return 0;
    message = fb__cluster_map__unpack((ProtobufCAllocator *)&message_allocator, len, blob);
    if (!message)
        return -ERR_FORMAT;
    error = shard_map_take(shard, message);
    message_drop(&message->base);
    shard->map.loaded_epoch = shard->map.epoch;
    births_ask_again(shard);
    shard->map.saved_epoch = shard->map.epoch;
    shard->map.changed = false;
    return error;
}

/* All items of one kind as an array of pointers, on the heap. */
static void *items_array(const struct map *items, size_t *ret_count)
{
    ProtobufCMessage **array = calloc(items->count + 1, sizeof(*array));
    size_t count = 0;

    if (array)
        map_for_each (items, node)
            array[count++] = map_entry(node, struct map_item, node)->message;
    *ret_count = count;
    return array;
}

int shard_map_pack(struct osd_shard *shard, uint8_t **ret_data, uint32_t *ret_len)
{
    Fb__ClusterMap message = FB__CLUSTER_MAP__INIT;
    Fb__MonitorList monitors = FB__MONITOR_LIST__INIT;
    char *addresses[RPC_MONITORS_MAX];
    int error = -ERR_NO_MEMORY;

    for (uint32_t i = 0; i < shard->monitors.count; i++)
        addresses[i] = shard->monitors.address[i];
    monitors.address = addresses;
    monitors.n_address = shard->monitors.count;
    message.monitors = &monitors;
    message.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    message.epoch = shard->map.epoch;
    message.paused = shard->map.paused;
    message.image_id_max = shard->map.image_id_max;
    message.osd = items_array(&shard->map.osds, &message.n_osd);
    message.pool = items_array(&shard->map.pools, &message.n_pool);
    message.pg = items_array(&shard->map.pgs, &message.n_pg);
    message.order = items_array(&shard->map.orders, &message.n_order);
    if (message.osd && message.pool && message.pg && message.order) {
        size_t len = fb__cluster_map__get_packed_size(&message);
        uint8_t *data = len > STORE_BLOB_MAX ? NULL : malloc(len + 1);
        error = len > STORE_BLOB_MAX ? -ERR_TOO_LARGE : -ERR_NO_MEMORY;
        if (data) {
            fb__cluster_map__pack(&message, data);
            *ret_data = data;
            *ret_len = (uint32_t)len;
            error = 0;
        }
    }
    free(message.osd);
    free(message.pool);
    free(message.pg);
    free(message.order);
    return error;
}

const Fb__Osd *shard_map_osd(const struct osd_shard *shard, uint32_t id)
{
    struct map_item *item = item_get(&shard->map.osds, id);
    return item ? item->osd : NULL;
}

const Fb__Pool *shard_map_pool(const struct osd_shard *shard, uint32_t id)
{
    struct map_item *item = item_get(&shard->map.pools, id);
    return item ? item->pool : NULL;
}

Fb__Pg *shard_map_pg(const struct osd_shard *shard, uint64_t id)
{
    struct map_item *item = item_get(&shard->map.pgs, id);
    return item ? item->pg : NULL;
}

static const Fb__PgMember *ours_of(const struct osd_shard *shard, Fb__PgMember *const *members, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (members[i]->osd == shard->label.osd && members[i]->shard == shard->number)
            return members[i];
    return NULL;
}

const Fb__PgMember *shard_map_member(const struct osd_shard *shard, const Fb__Pg *pg)
{
    return ours_of(shard, pg->member, pg->n_member);
}

const Fb__PgMember *shard_map_wanted(const struct osd_shard *shard, const Fb__Pg *pg)
{
    return ours_of(shard, pg->wanted, pg->n_wanted);
}

const Fb__PgMember *shard_map_leaving(const struct osd_shard *shard, const Fb__Pg *pg)
{
    return ours_of(shard, pg->leaving, pg->n_leaving);
}

const Fb__PgMember *shard_map_dropped(const struct osd_shard *shard, const Fb__Pg *pg)
{
    return ours_of(shard, pg->dropped, pg->n_dropped);
}

bool shard_map_replica_dropped(const struct osd_shard *shard, const Fb__Pg *pg, uint32_t replica)
{
    if (shard_map_pg_removed(shard, pg))
        return true;
    for (size_t i = 0; i < pg->n_member + pg->n_wanted; i++) {
        const Fb__PgMember *m = i < pg->n_member ? pg->member[i] : pg->wanted[i - pg->n_member];
        if (m->replica == replica)
            return false; /* an order that contradicts itself is none */
    }
    for (size_t i = 0; i < pg->n_dropped; i++)
        if (pg->dropped[i]->replica == replica && pg->dropped[i]->osd == shard->label.osd &&
            pg->dropped[i]->shard == shard->number)
            return true;
    return PLANT(OSD_DROP_UNNAMED);
}

bool shard_map_pg_removed(const struct osd_shard *shard, const Fb__Pg *pg)
{
    const Fb__Pool *pool = shard_map_pool(shard, (uint32_t)(pg->id >> 32));

    return pg->removed || (pool && pool->removed);
}
