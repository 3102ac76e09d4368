/* SPDX-License-Identifier: Apache-2.0
 *
 * The suite of rt/meta.h, on side 0 of the world, on an empty store that keeps META_SUITE_HISTORY revisions
 * or more for watches. Included by the one program per implementation.
 */
#ifndef TESTS_PORT_META_SUITE_H
#define TESTS_PORT_META_SUITE_H

#include <stdlib.h>
#include <string.h>

#include "rt/meta.h"
#include "tests/port/world.h"
#include "tests/tap.h"

#define META_SUITE_HISTORY 100

struct meta_suite {
    struct world *world;
    struct meta *meta;
    /* Makes the store forget the history that it may forget. NULL: it does by itself after some hundred
     * revisions. */
    void (*compact)(struct meta_suite *suite);
};

static struct meta_suite *meta_suite_now;
static struct waiter meta_waiter;

static bool range_done(void *owner)
{
    return !((struct meta_range *)owner)->pending;
}

static bool txn_done(void *owner)
{
    return !((struct meta_txn *)owner)->pending;
}

static void meta_enter(void)
{
    meta_suite_now->world->enter(meta_suite_now->world, 0);
}

static void meta_leave(void)
{
    meta_suite_now->world->leave(meta_suite_now->world, 0);
}

static void range_start(struct meta_range *range)
{
    range->waiter = &meta_waiter.op;
    range->pending = true;
    meta_enter();
    meta_suite_now->meta->ops->range(meta_suite_now->meta, range);
    meta_leave();
}

static int do_range(struct meta_range *range)
{
    range_start(range);
    CHECK(meta_suite_now->world->run(meta_suite_now->world, range_done, range, WORLD_WAIT_NS));
    return range->result;
}

static void range_end(struct meta_range *range)
{
    meta_enter();
    meta_suite_now->meta->ops->range_fini(meta_suite_now->meta, range);
    meta_leave();
}

static void txn_start(struct meta_txn *txn)
{
    txn->waiter = &meta_waiter.op;
    txn->pending = true;
    meta_enter();
    meta_suite_now->meta->ops->txn(meta_suite_now->meta, txn);
    meta_leave();
}

static int do_txn(struct meta_txn *txn)
{
    txn_start(txn);
    CHECK(meta_suite_now->world->run(meta_suite_now->world, txn_done, txn, WORLD_WAIT_NS));
    return txn->result;
}

/* Puts (or, with value NULL, deletes) one key; the revision after it. */
static uint64_t put(const char *key, const char *value)
{
    struct meta_change change = {key, value, value ? (uint32_t)strlen(value) : 0, 0};
    struct meta_txn txn = {.changes = &change, .change_count = 1};

    CHECK_EQ(do_txn(&txn), 0);
    return txn.ret_revision;
}

/* The key's mod_revision, 0 if it is not there; checks its value. */
static uint64_t get(const char *key, const char *value)
{
    struct meta_range range = {.first = key};
    uint64_t revision = 0;

    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, value ? 1 : 0);
    if (range.ret_count && value) {
        CHECK(strcmp(range.ret_kvs[0].key, key) == 0);
        CHECK_EQ(range.ret_kvs[0].value_len, strlen(value));
        CHECK(memcmp(range.ret_kvs[0].value, value, strlen(value)) == 0);
        revision = range.ret_kvs[0].mod_revision;
        CHECK(revision <= range.ret_revision);
    }
    range_end(&range);
    return revision;
}

static void keys_are_put_read_and_deleted(void)
{
    CHECK_EQ(get("a/1", NULL), 0);
    uint64_t first = put("a/1", "one");
    CHECK_EQ(get("a/1", "one"), first);
    uint64_t second = put("a/1", "two");
    CHECK_EQ(second, first + 1);
    CHECK_EQ(get("a/1", "two"), second);
    CHECK_EQ(put("a/2", ""), second + 1);
    CHECK_EQ(get("a/2", ""), second + 1);
    CHECK_EQ(get("a/1", "two"), second);
    CHECK_EQ(put("a/1", NULL), second + 2);
    CHECK_EQ(get("a/1", NULL), 0);
    /* Deleting what is not there changes nothing. */
    CHECK_EQ(put("a/1", NULL), second + 2);
    CHECK_EQ(put("a/2", NULL), second + 3);
}

static void ranges_are_ordered_and_bounded(void)
{
    static const char *const keys[] = {"r/b", "r/a", "r/aa", "r/c", "r", "r0", "q/z"};
    static const char *const expected[] = {"r/a", "r/aa", "r/b", "r/c"};
    struct meta_range range = {.first = "r/", .end = "r0"};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put(keys[i], keys[i]);
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, 4);
    CHECK(!range.ret_more);
    for (uint32_t i = 0; i < range.ret_count && i < 4; i++)
        CHECK(strcmp(range.ret_kvs[i].key, expected[i]) == 0);
    range_end(&range);
    range = (struct meta_range){.first = "r/", .end = "r0", .limit = 3};
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, 3);
    CHECK(range.ret_more);
    range_end(&range);
    range = (struct meta_range){.first = "r/", .end = "r0", .limit = 4};
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, 4);
    CHECK(!range.ret_more);
    range_end(&range);
    range = (struct meta_range){.first = "r/zz", .end = "r0"};
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, 0);
    range_end(&range);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put(keys[i], NULL);
}

static void conditions_guard_all_or_nothing(void)
{
    uint64_t revision = put("c/1", "x");
    struct meta_condition conditions[] = {{"c/1", revision}, {"c/2", 0}};
    struct meta_change changes[] = {{"c/1", "y", 1, 0}, {"c/2", "z", 1, 0}};
    struct meta_txn txn = {
        .conditions = conditions, .condition_count = 2, .changes = changes, .change_count = 2};

    CHECK_EQ(do_txn(&txn), 0);
    CHECK_EQ(txn.ret_revision, revision + 1);
    CHECK_EQ(get("c/1", "y"), revision + 1);
    CHECK_EQ(get("c/2", "z"), revision + 1);
    /* The same again: both conditions are stale now. */
    CHECK_EQ(do_txn(&txn), -ERR_CONFLICT);
    conditions[0].mod_revision = revision + 1; /* one holds, the other does not */
    changes[0].value = "w";
    CHECK_EQ(do_txn(&txn), -ERR_CONFLICT);
    CHECK_EQ(get("c/1", "y"), revision + 1);
    CHECK_EQ(get("c/2", "z"), revision + 1);
    conditions[1].mod_revision = revision + 1;
    changes[1].value = NULL;
    CHECK_EQ(do_txn(&txn), 0);
    CHECK_EQ(get("c/1", "w"), revision + 2);
    CHECK_EQ(get("c/2", NULL), 0);
    /* Conditions alone. */
    txn.change_count = 0;
    conditions[0].mod_revision = revision + 2;
    conditions[1].mod_revision = 0;
    CHECK_EQ(do_txn(&txn), 0);
    CHECK_EQ(txn.ret_revision, revision + 2);
    put("c/1", NULL);
}

static void the_last_change_of_a_key_counts(void)
{
    struct meta_change changes[] = {
        {"d/1", "a", 1, 0}, {"d/2", "b", 1, 0}, {"d/1", NULL, 0, 0}, {"d/2", "c", 1, 0}};
    struct meta_txn txn = {.changes = changes, .change_count = 4};

    CHECK_EQ(do_txn(&txn), 0);
    CHECK_EQ(get("d/1", NULL), 0);
    CHECK_EQ(get("d/2", "c"), txn.ret_revision);
    put("d/2", NULL);
}

/* Two that want the same: one wins. */
static void of_two_at_once_one_wins(void)
{
    struct meta_condition none = {"race", 0};
    struct meta_change changes[2] = {{"race", "a", 1, 0}, {"race", "b", 1, 0}};
    struct meta_txn txns[2] = {
        {.conditions = &none, .condition_count = 1, .changes = &changes[0], .change_count = 1},
        {.conditions = &none, .condition_count = 1, .changes = &changes[1], .change_count = 1}};
    struct meta_range range = {.first = "race"};

    txn_start(&txns[0]);
    txn_start(&txns[1]);
    for (int i = 0; i < 2; i++)
        CHECK(meta_suite_now->world->run(meta_suite_now->world, txn_done, &txns[i], WORLD_WAIT_NS));
    int winner = txns[0].result == 0 ? 0 : 1;
    CHECK_EQ(txns[winner].result, 0);
    CHECK_EQ(txns[!winner].result, -ERR_CONFLICT);
    CHECK_EQ(do_range(&range), 0);
    CHECK(range.ret_count == 1 && memcmp(range.ret_kvs[0].value, changes[winner].value, 1) == 0);
    range_end(&range);
    put("race", NULL);
}

static void limits_hold(void)
{
    char *large = malloc(META_VALUE_MAX + 1);
    struct meta_change change = {"large", large, META_VALUE_MAX, 0};
    struct meta_txn txn = {.changes = &change, .change_count = 1};
    struct meta_change many[META_TXN_OPS_MAX];
    char keys[META_TXN_OPS_MAX][32];

    memset(large, 'x', META_VALUE_MAX + 1);
    CHECK_EQ(do_txn(&txn), 0);
    struct meta_range range = {.first = "large"};
    CHECK_EQ(do_range(&range), 0);
    CHECK(range.ret_count == 1 && range.ret_kvs[0].value_len == META_VALUE_MAX);
    CHECK(range.ret_count == 1 && memcmp(range.ret_kvs[0].value, large, META_VALUE_MAX) == 0);
    range_end(&range);
    put("large", NULL);
    for (int i = 0; i < META_TXN_OPS_MAX; i++) {
        snprintf(keys[i], sizeof(keys[i]), "many/%03d", i);
        many[i] = (struct meta_change){keys[i], "v", 1, 0};
    }
    txn = (struct meta_txn){.changes = many, .change_count = META_TXN_OPS_MAX};
    CHECK_EQ(do_txn(&txn), 0);
    range = (struct meta_range){.first = "many/", .end = "many0"};
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, META_TXN_OPS_MAX);
    range_end(&range);
    for (int i = 0; i < META_TXN_OPS_MAX; i++)
        many[i].value = NULL;
    uint64_t before = txn.ret_revision;
    CHECK_EQ(do_txn(&txn), 0);
    CHECK_EQ(txn.ret_revision, before + 1);
    free(large);
}

struct watching {
    struct meta_watch watch;
    uint32_t count, deletes;
    uint64_t last_revision, compacted_at;
    bool disorder, foreign;
    uint32_t stop_after; /* gives up inside the event of this number */
};

static void watch_changed(void *owner, const struct meta_kv *kv)
{
    struct watching *w = owner;

    w->count++;
    w->disorder |= kv->mod_revision < w->last_revision || kv->mod_revision <= w->watch.from_revision;
    w->last_revision = kv->mod_revision;
    w->deletes += !kv->value;
    w->foreign |= kv->key[0] != 'w';
    if (w->stop_after && w->count == w->stop_after)
        meta_suite_now->meta->ops->unwatch(meta_suite_now->meta, &w->watch);
}

static void watch_compacted(void *owner, uint64_t oldest_revision)
{
    struct watching *w = owner;
    w->compacted_at = oldest_revision;
}

static void watch_start(struct watching *w, uint64_t from_revision)
{
    w->watch = (struct meta_watch){"w/", "w0", from_revision, watch_changed, watch_compacted, w, NULL};
    meta_enter();
    meta_suite_now->meta->ops->watch(meta_suite_now->meta, &w->watch);
    meta_leave();
}

static void watch_stop(struct watching *w)
{
    meta_enter();
    meta_suite_now->meta->ops->unwatch(meta_suite_now->meta, &w->watch);
    meta_leave();
}

struct watch_goal {
    const struct watching *w;
    uint32_t count;
};

static bool watch_reached(void *owner)
{
    const struct watch_goal *goal = owner;
    return goal->w->count >= goal->count;
}

static bool watch_run(const struct watching *w, uint32_t count)
{
    struct watch_goal goal = {w, count};
    return meta_suite_now->world->run(meta_suite_now->world, watch_reached, &goal, WORLD_WAIT_NS);
}

static bool watch_lost(void *owner)
{
    return ((struct watching *)owner)->compacted_at;
}

static void watches_tell_every_change_in_order(void)
{
    uint64_t start = put("w/0", "0");
    struct watching late = {0}, early = {0}, stopping = {.stop_after = 2};

    watch_start(&early, start);
    put("w/1", "1");
    put("x/1", "not watched");
    put("w/1", "2");
    struct meta_change changes[] = {
        {"w/1", NULL, 0, 0}, {"w/2", "a", 1, 0}, {"w/3", "b", 1, 0}, {"v", "c", 1, 0}};
    struct meta_txn txn = {.changes = changes, .change_count = 4};
    CHECK_EQ(do_txn(&txn), 0);
    CHECK(watch_run(&early, 5));
    CHECK_EQ(early.deletes, 1);
    CHECK_EQ(early.last_revision, txn.ret_revision);
    /* One that begins in the past is told the past first. */
    watch_start(&late, start);
    watch_start(&stopping, start - 1);
    CHECK(watch_run(&late, 5));
    CHECK_EQ(late.deletes, 1);
    put("w/9", "9");
    CHECK(watch_run(&late, 6));
    CHECK(watch_run(&early, 6));
    watch_stop(&early);
    CHECK(watch_run(&stopping, 2));
    put("w/9", "10");
    CHECK(watch_run(&late, 7));
    world_settle(meta_suite_now->world);
    CHECK_EQ(early.count, 6);
    CHECK_EQ(late.count, 7);
    CHECK_EQ(stopping.count, 2);
    CHECK(!early.disorder && !late.disorder && !stopping.disorder);
    CHECK(!early.foreign && !late.foreign && !stopping.foreign);
    watch_stop(&late);
}

static void lost_history_is_told(void)
{
    uint64_t start = put("w/0", "0");
    struct watching w = {0}, recent = {0};
    uint64_t last = start;

    for (int i = 0; i < 400; i++)
        last = put("w/0", "again");
    if (meta_suite_now->compact)
        meta_suite_now->compact(meta_suite_now);
    watch_start(&w, start);
    CHECK(meta_suite_now->world->run(meta_suite_now->world, watch_lost, &w, WORLD_WAIT_NS));
    CHECK(w.compacted_at > start + 1);
    CHECK_EQ(w.count, 0);
    watch_stop(&w);
    watch_start(&recent, last);
    put("w/0", "new");
    CHECK(watch_run(&recent, 1));
    CHECK_EQ(recent.compacted_at, 0);
    watch_stop(&recent);
}

/* ---- leases ---- */

static bool lease_done(void *owner)
{
    return !((struct meta_lease *)owner)->pending;
}

static int do_lease(struct meta_lease *lease, enum meta_lease_verb verb)
{
    lease->verb = verb;
    lease->waiter = &meta_waiter.op;
    lease->pending = true;
    meta_enter();
    meta_suite_now->meta->ops->lease(meta_suite_now->meta, lease);
    meta_leave();
    CHECK(meta_suite_now->world->run(meta_suite_now->world, lease_done, lease, WORLD_WAIT_NS));
    return lease->result;
}

static int put_under(const char *key, uint64_t lease)
{
    struct meta_condition none = {key, 0};
    struct meta_change change = {key, "mine", 4, lease};
    struct meta_txn txn = {.conditions = &none, .condition_count = 1, .changes = &change, .change_count = 1};

    return do_txn(&txn);
}

/* What is under a lease goes with it, is told to watches, and lives as long as it is renewed. */
static void leases_end(void)
{
    struct meta_lease held = {.ttl_ns = 2 * NS_PER_S}, left = {.ttl_ns = 2 * NS_PER_S};
    uint64_t start = put("w/0", "0");
    struct watching w = {0};

    watch_start(&w, start);
    CHECK_EQ(do_lease(&held, META_LEASE_GRANT), 0);
    CHECK_EQ(do_lease(&left, META_LEASE_GRANT), 0);
    CHECK(held.id && left.id && held.id != left.id);
    CHECK_EQ(put_under("w/held", held.id), 0);
    CHECK_EQ(put_under("w/left", left.id), 0);
    CHECK_EQ(put_under("w/left", held.id), -ERR_CONFLICT);
    CHECK(get("w/held", "mine") > 0);
    /* Renewed again and again until the other one has gone by itself. */
    while (w.deletes == 0 && w.count < 3 && tap_ok) {
        CHECK_EQ(do_lease(&held, META_LEASE_RENEW), 0);
        meta_suite_now->world->run(meta_suite_now->world, watch_lost, &w, 200 * NS_PER_MS);
    }
    CHECK_EQ(w.deletes, 1);
    CHECK_EQ(get("w/left", NULL), 0);
    CHECK(get("w/held", "mine") > 0);
    CHECK_EQ(do_lease(&left, META_LEASE_RENEW), -ERR_NOT_FOUND);
    CHECK_EQ(put_under("w/left", left.id), -ERR_NOT_FOUND);
    CHECK_EQ(get("w/left", NULL), 0);
    CHECK_EQ(do_lease(&held, META_LEASE_REVOKE), 0);
    CHECK_EQ(get("w/held", NULL), 0);
    CHECK_EQ(do_lease(&held, META_LEASE_RENEW), -ERR_NOT_FOUND);
    CHECK_EQ(do_lease(&held, META_LEASE_REVOKE), -ERR_NOT_FOUND);
    /* A key that is put again without a lease stays. */
    CHECK_EQ(do_lease(&held, META_LEASE_GRANT), 0);
    CHECK_EQ(put_under("kept", held.id), 0);
    uint64_t kept = put("kept", "on");
    CHECK_EQ(do_lease(&held, META_LEASE_REVOKE), 0);
    CHECK_EQ(get("kept", "on"), kept);
    put("kept", NULL);
    watch_stop(&w);
}

/* The holder's transactions carry the key of his lease as a condition: none of them counts after its end,
 * though nobody else has changed anything. */
static void a_lease_fences(void)
{
    struct meta_lease lease = {.ttl_ns = 2 * NS_PER_S};

    CHECK_EQ(do_lease(&lease, META_LEASE_GRANT), 0);
    struct meta_change lead = {"lead", "me", 2, lease.id}, work = {"work", "done", 4, 0};
    struct meta_txn txn = {.changes = &lead, .change_count = 1};
    CHECK_EQ(do_txn(&txn), 0);
    struct meta_condition fence = {"lead", txn.ret_revision};
    txn = (struct meta_txn){.conditions = &fence, .condition_count = 1, .changes = &work, .change_count = 1};
    CHECK_EQ(do_txn(&txn), 0);
    CHECK_EQ(do_lease(&lease, META_LEASE_REVOKE), 0);
    CHECK_EQ(do_txn(&txn), -ERR_CONFLICT);
    CHECK_EQ(put_under("lead", 0), 0); /* somebody else */
    CHECK_EQ(do_txn(&txn), -ERR_CONFLICT);
    put("lead", NULL);
    put("work", NULL);
}

static void meta_suite(struct meta_suite *suite)
{
    meta_suite_now = suite;
    waiter_start(suite->world, &meta_waiter);
    TEST(keys_are_put_read_and_deleted);
    TEST(ranges_are_ordered_and_bounded);
    TEST(conditions_guard_all_or_nothing);
    TEST(the_last_change_of_a_key_counts);
    TEST(of_two_at_once_one_wins);
    TEST(limits_hold);
    TEST(watches_tell_every_change_in_order);
    TEST(lost_history_is_told);
    if (suite->meta->ops->lease) {
        TEST(leases_end);
        TEST(a_lease_fences);
    }
    waiter_stop(suite->world, &meta_waiter);
}

#endif
