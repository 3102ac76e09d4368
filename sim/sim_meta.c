/* SPDX-License-Identifier: Apache-2.0
 *
 * The store as nodes see it: requests on their way, leases, watches. What it holds is in sim_meta_keys.c.
 *
 * A request has two events: it takes effect (the simulator's own: it happens whether its node lives or not),
 * and it is answered (the node's). Watches are fed by an event per handle that runs a little after each
 * change.
 */
#include "sim/sim_meta.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "sim/sim_meta_keys.h"

#define DOWN_ANSWER_NS (500 * NS_PER_MS)

struct lease {
    struct list link;
    struct sim_event end;
    struct sim_meta *store;
    uint64_t id, ttl_ns;
};

struct sim_meta {
    struct sim *sim;
    struct sim_meta_config config;
    struct sim_rng rng;
    struct sim_meta_keys keys;
    bool down;
    struct list handles;
    struct list requests;
    struct list leases;
    uint64_t lease_next;
    void (*written)(void *owner, const struct meta_change *changes, uint32_t count); /* may be NULL */
    void *written_owner;
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

/* ---- transactions
 * ------------------------------------------------------------------------------------------------- */

static bool meta_fault(struct sim_meta *store, uint32_t ppm)
{
    bool strikes = sim_rng_chance(&store->rng, ppm);

    if (strikes)
        sim_injected(store->sim, SIM_FAULT_META);
    return strikes;
}

/* Whoever watches may hear of a change long after others, whose requests are served meanwhile. */
static void feed_all(struct sim_meta *store)
{
    list_for_each (&store->handles, node) {
        struct handle *handle = list_entry(node, struct handle, link);
        if (handle->feed.heap_index || (handle->feed.deferred.next && list_linked(&handle->feed.deferred)))
            continue;
        uint64_t delay_ns =
            sim_rng_latency(&store->rng, store->config.latency_min_ns, store->config.latency_typical_ns);
        if (meta_fault(store, store->config.faults.slow_ppm))
            delay_ns += store->config.faults.slow_ns;
        sim_schedule(store->sim, &handle->feed, delay_ns);
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
    if (!sim_meta_keys_match(&store->keys, conditions, condition_count))
        return -ERR_CONFLICT;
    for (uint32_t i = 0; i < change_count; i++)
        if (changes[i].value && changes[i].lease && !lease_find(store, changes[i].lease))
            return -ERR_NOT_FOUND;
    if (store->written)
        store->written(store->written_owner, changes, change_count);
    if (sim_meta_keys_change(&store->keys, changes, change_count))
        feed_all(store);
    return 0;
}

/* ---- leases
 * ------------------------------------------------------------------------------------------------- */

/* All keys under it go, in one transaction. */
static void lease_end(struct lease *lease)
{
    struct sim_meta *store = lease->store;
    struct meta_change *changes = sim_alloc(store->keys.item_count * sizeof(*changes) + 1);
    uint32_t count = 0;

    for (uint32_t i = 0; i < store->keys.item_count; i++)
        if (store->keys.items[i].lease == lease->id)
            changes[count++] = (struct meta_change){.key = sim_meta_key_copy(store->keys.items[i].key)};
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
    const struct sim_meta_item *item = sim_meta_keys_find(&store->keys, key);
    if (!item)
        return;
    void *value = sim_meta_bytes_copy(item->value, item->value_len);
    struct meta_change change = {key, value, item->value_len, item->lease};
    int error = txn_apply(store, NULL, 0, &change, 1);
    ASSERT(!error);
    free(value);
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
        request->revision = store->keys.revision;
    } else if (request->lease && !before && !store->down) {
        request->result = lease_serve(store, request);
    }
    if (request->fails || store->down)
        request->result = -ERR_IO;
    sim_trace(store->sim, "meta", store->keys.revision, (uint64_t)request->result);
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
        range->result = request->result;
        if (!range->result)
            sim_meta_keys_range(&request->store->keys, range);
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
        request->conditions[i].key = sim_meta_key_copy(txn->conditions[i].key);
    }
    for (uint32_t i = 0; i < txn->change_count; i++, request->change_count++) {
        const struct meta_change *change = &txn->changes[i];
        key_check(change->key);
        ASSERT(change->value_len <= META_VALUE_MAX);
        request->changes[i] = *change;
        request->changes[i].key = sim_meta_key_copy(change->key);
        if (change->value)
            request->changes[i].value = sim_meta_bytes_copy(change->value, change->value_len);
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

    if (watcher->seen_revision < store->keys.oldest_revision) {
        watcher->seen_revision = UINT64_MAX;
        watch->compacted(watch->owner, store->keys.oldest_revision);
        return true;
    }
    uint32_t at = 0;
    while (at < store->keys.change_count && store->keys.history[at].revision <= watcher->seen_revision)
        at++;
    for (; at < store->keys.change_count; at++)
        if (watch_covers(watch, store->keys.history[at].key))
            break;
    if (at == store->keys.change_count) {
        if (watcher->seen_revision != UINT64_MAX)
            watcher->seen_revision = store->keys.revision;
        return false;
    }
    /* All changes of one revision together. */
    uint64_t revision = store->keys.history[at].revision;
    watcher->seen_revision = revision;
    for (; at < store->keys.change_count && store->keys.history[at].revision == revision; at++) {
        const struct sim_meta_change *change = &store->keys.history[at];
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
    store->keys.history_max = config->history_max ? config->history_max : 100000;
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
    sim_meta_keys_fini(&store->keys);
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
    sim_meta_keys_forget(&store->keys);
    feed_all(store);
}

uint64_t sim_meta_revision(const struct sim_meta *store)
{
    return store->keys.revision;
}

const struct sim_meta_keys *sim_meta_keys_of(const struct sim_meta *store)
{
    return &store->keys;
}

void sim_meta_set_written(struct sim_meta *store,
                          void (*written)(void *owner, const struct meta_change *changes, uint32_t count),
                          void *owner)
{
    store->written = written;
    store->written_owner = owner;
}
