/* SPDX-License-Identifier: Apache-2.0
 *
 * The store: keys in a sorted array, a history of changes for watches, requests on their way.
 *
 * A request has two events: it takes effect (the simulator's own: it happens whether its node lives or not),
 * and it is answered (the node's). Watches are fed by an event per handle that runs a little after each
 * change.
 */
#include "sim/sim_meta.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define DOWN_ANSWER_NS (500 * NS_PER_MS)

struct item {
    char *key;
    uint8_t *value;
    uint32_t value_len;
    uint64_t mod_revision;
    uint64_t lease; /* 0: none */
};

struct lease {
    struct list link;
    struct sim_event end;
    struct sim_meta *store;
    uint64_t id, ttl_ns;
};

struct change {
    uint64_t revision;
    char *key;
    uint8_t *value; /* NULL: deleted */
    uint32_t value_len;
};

struct sim_meta {
    struct sim *sim;
    struct sim_meta_config config;
    struct sim_rng rng;
    struct item *items; /* by key */
    uint32_t item_count, item_cap;
    struct change *history; /* of revisions above oldest_revision */
    uint32_t change_count, change_cap;
    uint64_t oldest_revision;
    uint64_t revision;
    bool down;
    struct list handles;
    struct list requests;
    struct list leases;
    uint64_t lease_next;
};

struct handle {
    struct meta meta;
    struct sim_meta *store;
    struct sim_node *node;
    struct list link;
    struct list watches;
    struct sim_event feed;
    struct sim_crash_hook hook;
};

struct watcher {
    struct list link;
    struct meta_watch *watch;
    uint64_t seen_revision;
};

struct request {
    struct list link;
    struct sim_event effect, answer;
    struct sim_meta *store;
    struct handle *handle; /* NULL: its node is gone */
    struct meta_range *range;
    struct meta_txn *txn;
    struct meta_lease *lease;
    enum meta_lease_verb verb; /* of a lease, with the two below: copies, too */
    uint64_t lease_id, ttl_ns;
    /* Copies of a transaction's parts. */
    struct meta_condition *conditions;
    struct meta_change *changes;
    uint32_t condition_count, change_count;
    int result;
    uint64_t revision;
    bool fails, fails_after;
};

static void *bytes_copy(const void *bytes, size_t len)
{
    void *copy = sim_alloc(len);

    memcpy(copy, bytes, len);
    return copy;
}

static char *key_copy(const char *key)
{
    return bytes_copy(key, strlen(key) + 1);
}

/* ---- contents
 * ------------------------------------------------------------------------------------------------- */

/* The place of `key`, or of the first key above it. */
static uint32_t item_at(const struct sim_meta *store, const char *key)
{
    uint32_t low = 0, high = store->item_count;

    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (strcmp(store->items[mid].key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct item *item_find(const struct sim_meta *store, const char *key)
{
    uint32_t at = item_at(store, key);

    return at < store->item_count && strcmp(store->items[at].key, key) == 0 ? &store->items[at] : NULL;
}

static void item_put(struct sim_meta *store, const struct meta_change *change)
{
    struct item *item = item_find(store, change->key);

    if (!item) {
        if (store->item_count == store->item_cap) {
            store->item_cap = store->item_cap ? store->item_cap * 2 : 64;
            store->items = realloc(store->items, store->item_cap * sizeof(struct item));
            ASSERT(store->items);
        }
        uint32_t at = item_at(store, change->key);
        memmove(&store->items[at + 1], &store->items[at], (store->item_count - at) * sizeof(struct item));
        store->item_count++;
        item = &store->items[at];
        *item = (struct item){.key = key_copy(change->key)};
    }
    free(item->value);
    item->value = bytes_copy(change->value, change->value_len);
    item->value_len = change->value_len;
    item->mod_revision = store->revision;
    item->lease = change->lease;
}

static bool item_delete(struct sim_meta *store, const char *key)
{
    struct item *item = item_find(store, key);

    if (!item)
        return false;
    free(item->key);
    free(item->value);
    uint32_t at = (uint32_t)(item - store->items);
    memmove(item, item + 1, (store->item_count - at - 1) * sizeof(struct item));
    store->item_count--;
    return true;
}

static void history_drop(struct sim_meta *store, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        store->oldest_revision = store->history[i].revision;
        free(store->history[i].key);
        free(store->history[i].value);
    }
    memmove(store->history, store->history + count, (store->change_count - count) * sizeof(struct change));
    store->change_count -= count;
}

static void history_add(struct sim_meta *store, const struct meta_change *change)
{
    if (store->change_count == store->change_cap) {
        store->change_cap = store->change_cap ? store->change_cap * 2 : 256;
        store->history = realloc(store->history, store->change_cap * sizeof(struct change));
        ASSERT(store->history);
    }
    store->history[store->change_count++] = (struct change){
        .revision = store->revision,
        .key = key_copy(change->key),
        .value = change->value ? bytes_copy(change->value, change->value_len) : NULL,
        .value_len = change->value_len,
    };
    if (store->revision > store->config.history_max) {
        uint32_t old = 0;
        while (old < store->change_count &&
               store->history[old].revision <= store->revision - store->config.history_max)
            old++;
        if (old)
            history_drop(store, old);
    }
}

static void feed_all(struct sim_meta *store)
{
    list_for_each (&store->handles, node) {
        struct handle *handle = list_entry(node, struct handle, link);
        if (!handle->feed.heap_index && !(handle->feed.deferred.next && list_linked(&handle->feed.deferred)))
            sim_schedule(
                store->sim, &handle->feed,
                sim_rng_latency(&store->rng, store->config.latency_min_ns, store->config.latency_typical_ns));
    }
}

static struct lease *lease_find(const struct sim_meta *store, uint64_t id)
{
    list_for_each (&store->leases, node) {
        struct lease *lease = list_entry(node, struct lease, link);
        if (lease->id == id)
            return lease;
    }
    return NULL;
}

static int txn_apply(struct sim_meta *store, const struct meta_condition *conditions,
                     uint32_t condition_count, const struct meta_change *changes, uint32_t change_count)
{
    for (uint32_t i = 0; i < condition_count; i++) {
        const struct item *item = item_find(store, conditions[i].key);
        if ((item ? item->mod_revision : 0) != conditions[i].mod_revision)
            return -ERR_CONFLICT;
    }
    for (uint32_t i = 0; i < change_count; i++)
        if (changes[i].value && changes[i].lease && !lease_find(store, changes[i].lease))
            return -ERR_NOT_FOUND;
    /* Deletes of what is not there change nothing. */
    bool changes_something = false;
    for (uint32_t i = 0; i < change_count; i++)
        if (changes[i].value || item_find(store, changes[i].key))
            changes_something = true;
    if (!changes_something)
        return 0;
    store->revision++;
    for (uint32_t i = 0; i < change_count; i++) {
        if (changes[i].value)
            item_put(store, &changes[i]);
        else if (!item_delete(store, changes[i].key))
            continue;
        history_add(store, &changes[i]);
    }
    feed_all(store);
    return 0;
}

/* ---- leases
 * ------------------------------------------------------------------------------------------------- */

/* All keys under it go, in one transaction. */
static void lease_end(struct lease *lease)
{
    struct sim_meta *store = lease->store;
    struct meta_change *changes = sim_alloc(store->item_count * sizeof(*changes) + 1);
    uint32_t count = 0;

    for (uint32_t i = 0; i < store->item_count; i++)
        if (store->items[i].lease == lease->id)
            changes[count++] = (struct meta_change){.key = key_copy(store->items[i].key)};
    int error = txn_apply(store, NULL, 0, changes, count);
    ASSERT(!error);
    for (uint32_t i = 0; i < count; i++)
        free((void *)(uintptr_t)changes[i].key);
    free(changes);
    sim_unschedule(store->sim, &lease->end);
    list_remove(&lease->link);
    free(lease);
}

static void lease_renew(struct lease *lease)
{
    sim_unschedule(lease->store->sim, &lease->end);
    sim_schedule(lease->store->sim, &lease->end, lease->ttl_ns);
}

static void lease_expired(struct sim_event *event)
{
    struct lease *lease = container_of(event, struct lease, end);

    if (lease->store->down)
        return; /* sim_meta_set_down() gives it its time again */
    sim_trace(lease->store->sim, "lease ends", lease->id, 0);
    lease_end(lease);
}

/* Somebody else writes a key of the conditions again, with the value that it has. */
static void txn_interfere(struct sim_meta *store, const struct request *request)
{
    if (!request->condition_count)
        return;
    const char *key = request->conditions[sim_rng_below(&store->rng, request->condition_count)].key;
    const struct item *item = item_find(store, key);
    if (!item)
        return;
    void *value = bytes_copy(item->value, item->value_len);
    struct meta_change change = {key, value, item->value_len, item->lease};
    int error = txn_apply(store, NULL, 0, &change, 1);
    ASSERT(!error);
    free(value);
}

static int range_answer(const struct sim_meta *store, struct meta_range *range)
{
    uint32_t from = item_at(store, range->first), to = from, count;

    if (range->end)
        to = MAX(from, item_at(store, range->end));
    else if (item_find(store, range->first))
        to = from + 1;
    count = to - from;
    range->ret_more = range->limit && count > range->limit;
    if (range->ret_more)
        count = range->limit;
    /* The node's own memory: it goes with the node, or by range_fini(). */
    struct meta_kv *kvs = calloc(count ? count : 1, sizeof(*kvs));
    ASSERT(kvs);
    for (uint32_t i = 0; i < count; i++) {
        const struct item *item = &store->items[from + i];
        char *key = strdup(item->key);
        void *value = malloc(item->value_len ? item->value_len : 1);
        ASSERT(key && value);
        memcpy(value, item->value, item->value_len);
        kvs[i] = (struct meta_kv){key, value, item->value_len, item->mod_revision};
    }
    range->ret_kvs = kvs;
    range->ret_count = count;
    range->ret_revision = store->revision;
    return 0;
}

/* ---- requests
 * ------------------------------------------------------------------------------------------------- */

static void request_free(struct request *request)
{
    struct sim *sim = request->store->sim;

    sim_unschedule(sim, &request->effect);
    sim_unschedule(sim, &request->answer);
    list_remove(&request->link);
    for (uint32_t i = 0; i < request->condition_count; i++)
        free((void *)(uintptr_t)request->conditions[i].key);
    for (uint32_t i = 0; i < request->change_count; i++) {
        free((void *)(uintptr_t)request->changes[i].key);
        free((void *)(uintptr_t)request->changes[i].value);
    }
    free(request->conditions);
    free(request->changes);
    free(request);
}

static bool meta_fault(struct sim_meta *store, uint32_t ppm)
{
    bool strikes = sim_rng_chance(&store->rng, ppm);

    if (strikes)
        sim_injected(store->sim, SIM_FAULT_META);
    return strikes;
}

static int lease_serve(struct sim_meta *store, struct request *request)
{
    struct lease *lease = lease_find(store, request->lease_id);

    if (request->verb == META_LEASE_GRANT) {
        lease = sim_alloc(sizeof(*lease));
        *lease = (struct lease){.store = store, .id = ++store->lease_next, .ttl_ns = request->ttl_ns};
        lease->end.fire = lease_expired;
        list_push_back(&store->leases, &lease->link);
        request->lease_id = lease->id;
    }
    if (!lease)
        return -ERR_NOT_FOUND;
    bool lost = request->verb == META_LEASE_RENEW && meta_fault(store, store->config.faults.lost_ppm);
    if (request->verb == META_LEASE_REVOKE || lost)
        lease_end(lease);
    else
        lease_renew(lease);
    return lost ? -ERR_NOT_FOUND : 0;
}

static void request_effect(struct sim_event *event)
{
    struct request *request = container_of(event, struct request, effect);
    struct sim_meta *store = request->store;
    bool before = request->fails && !request->fails_after;

    if (request->txn && !before && !store->down) {
        if (meta_fault(store, store->config.faults.conflict_ppm))
            txn_interfere(store, request);
        request->result = txn_apply(store, request->conditions, request->condition_count, request->changes,
                                    request->change_count);
        request->revision = store->revision;
    } else if (request->lease && !before && !store->down) {
        request->result = lease_serve(store, request);
    }
    if (request->fails || store->down)
        request->result = -ERR_IO;
    sim_trace(store->sim, "meta", store->revision, (uint64_t)request->result);
    if (!request->handle) {
        request_free(request);
        return;
    }
    uint64_t delay_ns =
        store->down ? DOWN_ANSWER_NS : sim_rng_below(&store->rng, store->config.latency_typical_ns + 1);
    sim_schedule(store->sim, &request->answer, delay_ns);
}

static void request_answer(struct sim_event *event)
{
    struct request *request = container_of(event, struct request, answer);
    struct op *waiter;

    if (request->range) {
        struct meta_range *range = request->range;
        /* Linearizable: what is shown is the state of a moment between question and answer, here the last
         * one. */
        range->result = request->result ? request->result : range_answer(request->store, range);
        range->pending = false;
        waiter = range->waiter;
    } else if (request->lease) {
        struct meta_lease *lease = request->lease;
        lease->result = request->result;
        lease->id = request->lease_id;
        lease->pending = false;
        waiter = lease->waiter;
    } else {
        struct meta_txn *txn = request->txn;
        txn->result = request->result;
        txn->ret_revision = request->revision;
        txn->pending = false;
        waiter = txn->waiter;
    }
    request_free(request);
    op_wake(waiter);
}

static struct request *request_new(struct handle *handle)
{
    struct sim_meta *store = handle->store;
    struct request *request = sim_alloc(sizeof(*request));

    request->store = store;
    request->handle = handle;
    request->effect.fire = request_effect;
    request->answer.fire = request_answer;
    request->answer.node = handle->node;
    request->fails = meta_fault(store, store->config.faults.error_ppm);
    request->fails_after = request->fails && sim_rng_below(&store->rng, 2);
    list_push_back(&store->requests, &request->link);
    return request;
}

static void request_send(struct request *request)
{
    struct sim_meta *store = request->store;
    uint64_t delay_ns =
        sim_rng_latency(&store->rng, store->config.latency_min_ns, store->config.latency_typical_ns);

    if (meta_fault(store, store->config.faults.slow_ppm))
        delay_ns += store->config.faults.slow_ns;
    sim_schedule(store->sim, &request->effect, delay_ns);
}

static void key_check(const char *key)
{
    ASSERT(key && strlen(key) > 0 && strlen(key) <= META_KEY_MAX);
}

static void meta_sim_range(struct meta *meta, struct meta_range *range)
{
    struct handle *handle = container_of(meta, struct handle, meta);

    key_check(range->first);
    struct request *request = request_new(handle);
    request->range = range;
    range->pending = true;
    range->ret_kvs = NULL;
    range->ret_count = 0;
    range->ret_more = false;
    request_send(request);
}

static void meta_sim_range_fini(struct meta *meta, struct meta_range *range)
{
    for (uint32_t i = 0; i < range->ret_count; i++) {
        free((void *)(uintptr_t)range->ret_kvs[i].key);
        free((void *)(uintptr_t)range->ret_kvs[i].value);
    }
    free(range->ret_kvs);
    range->ret_kvs = NULL;
    range->ret_count = 0;
}

static void meta_sim_txn(struct meta *meta, struct meta_txn *txn)
{
    struct handle *handle = container_of(meta, struct handle, meta);

    ASSERT(txn->condition_count <= META_TXN_OPS_MAX && txn->change_count <= META_TXN_OPS_MAX);
    struct request *request = request_new(handle);
    request->txn = txn;
    txn->pending = true;
    request->conditions = sim_alloc(txn->condition_count * sizeof(*request->conditions));
    request->changes = sim_alloc(txn->change_count * sizeof(*request->changes));
    for (uint32_t i = 0; i < txn->condition_count; i++, request->condition_count++) {
        key_check(txn->conditions[i].key);
        request->conditions[i] = txn->conditions[i];
        request->conditions[i].key = key_copy(txn->conditions[i].key);
    }
    for (uint32_t i = 0; i < txn->change_count; i++, request->change_count++) {
        const struct meta_change *change = &txn->changes[i];
        key_check(change->key);
        ASSERT(change->value_len <= META_VALUE_MAX);
        request->changes[i] = *change;
        request->changes[i].key = key_copy(change->key);
        if (change->value)
            request->changes[i].value = bytes_copy(change->value, change->value_len);
    }
    request_send(request);
}

static void meta_sim_lease(struct meta *meta, struct meta_lease *lease)
{
    struct request *request = request_new(container_of(meta, struct handle, meta));

    request->lease = lease;
    request->verb = lease->verb;
    request->lease_id = lease->id;
    request->ttl_ns = lease->ttl_ns;
    lease->pending = true;
    request_send(request);
}

/* ---- watches
 * -------------------------------------------------------------------------------------------------- */

static bool watch_covers(const struct meta_watch *watch, const char *key)
{
    if (!watch->end)
        return strcmp(key, watch->first) == 0;
    return strcmp(key, watch->first) >= 0 && strcmp(key, watch->end) < 0;
}

/* True while there is more for this watch; one event at a time, because a callback may end any watch. */
static bool watcher_feed(struct sim_meta *store, struct watcher *watcher)
{
    struct meta_watch *watch = watcher->watch;

    if (watcher->seen_revision < store->oldest_revision) {
        watcher->seen_revision = UINT64_MAX;
        watch->compacted(watch->owner, store->oldest_revision);
        return true;
    }
    uint32_t at = 0;
    while (at < store->change_count && store->history[at].revision <= watcher->seen_revision)
        at++;
    for (; at < store->change_count; at++)
        if (watch_covers(watch, store->history[at].key))
            break;
    if (at == store->change_count) {
        if (watcher->seen_revision != UINT64_MAX)
            watcher->seen_revision = store->revision;
        return false;
    }
    /* All changes of one revision together. */
    uint64_t revision = store->history[at].revision;
    watcher->seen_revision = revision;
    for (; at < store->change_count && store->history[at].revision == revision; at++) {
        const struct change *change = &store->history[at];
        if (!watch_covers(watch, change->key))
            continue;
        struct meta_kv kv = {change->key, change->value, change->value_len, revision};
        watch->changed(watch->owner, &kv);
        if (watch->port_private != watcher)
            break;
    }
    return true;
}

static void handle_feed(struct sim_event *event)
{
    struct handle *handle = container_of(event, struct handle, feed);
    bool again = true;

    if (handle->store->down)
        return;
    while (again) {
        again = false;
        list_for_each (&handle->watches, node) {
            if (watcher_feed(handle->store, list_entry(node, struct watcher, link))) {
                again = true;
                break;
            }
        }
    }
}

static void meta_sim_watch(struct meta *meta, struct meta_watch *watch)
{
    struct handle *handle = container_of(meta, struct handle, meta);
    struct watcher *watcher = sim_alloc(sizeof(*watcher));

    key_check(watch->first);
    watcher->watch = watch;
    watcher->seen_revision = watch->from_revision;
    watch->port_private = watcher;
    list_push_back(&handle->watches, &watcher->link);
    feed_all(handle->store);
}

static void meta_sim_unwatch(struct meta *meta, struct meta_watch *watch)
{
    struct watcher *watcher = watch->port_private;

    watch->port_private = NULL;
    list_remove(&watcher->link);
    free(watcher);
}

/* ---- handles
 * -------------------------------------------------------------------------------------------------- */

static void handle_free(struct handle *handle)
{
    for (struct list *node; (node = list_pop_front(&handle->watches));)
        free(list_entry(node, struct watcher, link));
    sim_unschedule(handle->store->sim, &handle->feed);
    list_remove(&handle->hook.link);
    list_remove(&handle->link);
    free(handle);
}

static void handle_crashed(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind)
{
    struct handle *handle = container_of(hook, struct handle, hook);

    list_for_each_safe (&handle->store->requests, item) {
        struct request *request = list_entry(item, struct request, link);
        if (request->handle != handle)
            continue;
        /* What has been sent may still take effect. */
        if (!request->range && request->effect.heap_index && sim_rng_below(&handle->store->rng, 2))
            request->handle = NULL;
        else
            request_free(request);
    }
    handle_free(handle);
}

static void meta_sim_close(struct meta *meta)
{
    struct handle *handle = container_of(meta, struct handle, meta);

    list_for_each (&handle->store->requests, node)
        ASSERT(list_entry(node, struct request, link)->handle != handle);
    handle_free(handle);
}

static const struct meta_ops SIM_META_OPS = {meta_sim_range, meta_sim_range_fini, meta_sim_txn,
                                             meta_sim_watch, meta_sim_unwatch,    meta_sim_lease,
                                             meta_sim_close};

static const struct meta_ops SIM_META_OPS_ALONE = {.range = meta_sim_range,
                                                   .range_fini = meta_sim_range_fini,
                                                   .txn = meta_sim_txn,
                                                   .watch = meta_sim_watch,
                                                   .unwatch = meta_sim_unwatch,
                                                   .close = meta_sim_close};

struct meta *sim_meta_open(struct sim_meta *store, struct sim_node *node)
{
    struct handle *handle = sim_alloc(sizeof(*handle));

    handle->meta.ops = store->config.alone ? &SIM_META_OPS_ALONE : &SIM_META_OPS;
    handle->store = store;
    handle->node = node;
    handle->feed.node = node;
    handle->feed.fire = handle_feed;
    handle->hook.crashed = handle_crashed;
    list_init(&handle->watches);
    list_push_back(&store->handles, &handle->link);
    list_push_back(&node->crash_hooks, &handle->hook.link);
    return &handle->meta;
}

struct sim_meta *sim_meta_new(struct sim *sim, const struct sim_meta_config *config)
{
    struct sim_meta *store = sim_alloc(sizeof(*store));

    store->sim = sim;
    store->config = *config;
    if (!config->latency_min_ns && !config->latency_typical_ns) {
        store->config.latency_min_ns = 50 * NS_PER_US;
        store->config.latency_typical_ns = 200 * NS_PER_US;
    }
    if (!config->history_max)
        store->config.history_max = 100000;
    store->rng = sim_rng_make(sim->seed, "meta", 0);
    list_init(&store->handles);
    list_init(&store->requests);
    list_init(&store->leases);
    return store;
}

void sim_meta_free(struct sim_meta *store)
{
    list_for_each_safe (&store->requests, node)
        request_free(list_entry(node, struct request, link));
    list_for_each_safe (&store->handles, node)
        handle_free(list_entry(node, struct handle, link));
    list_for_each_safe (&store->leases, node)
        lease_end(list_entry(node, struct lease, link));
    history_drop(store, store->change_count);
    for (uint32_t i = 0; i < store->item_count; i++) {
        free(store->items[i].key);
        free(store->items[i].value);
    }
    free(store->items);
    free(store->history);
    free(store);
}

void sim_meta_set_faults(struct sim_meta *store, const struct sim_meta_faults *faults)
{
    store->config.faults = *faults;
}

void sim_meta_set_down(struct sim_meta *store, bool down)
{
    store->down = down;
    if (down)
        return;
    list_for_each (&store->leases, node)
        lease_renew(list_entry(node, struct lease, link));
    feed_all(store);
}

void sim_meta_compact(struct sim_meta *store)
{
    history_drop(store, store->change_count);
    store->oldest_revision = store->revision;
    feed_all(store);
}

uint64_t sim_meta_revision(const struct sim_meta *store)
{
    return store->revision;
}
