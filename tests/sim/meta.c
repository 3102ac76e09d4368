/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata store under faults: what a transaction answered holds, and conditions protect against everyone
 * else.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/le.h"
#include "sim/sim_meta.h"
#include "tests/tap.h"

static struct {
    struct sim *sim;
    struct sim_node *node;
    struct sim_meta *store;
    struct meta *meta;
} t;

static void start(void *owner, struct sim_node *node)
{
    t.meta = sim_meta_open(t.store, node);
}

static void set_up(uint64_t seed)
{
    t.sim = sim_new(seed, false);
    t.store = sim_meta_new(t.sim, &(struct sim_meta_config){0});
    t.node = sim_node_new(t.sim, &(struct sim_node_config){.name = "n", .host = "h", .start = start});
    sim_node_start(t.node);
}

static void tear_down(void)
{
    sim_meta_free(t.store);
    sim_free(t.sim);
}

static bool txn_ended(void *owner)
{
    return !((struct meta_txn *)owner)->pending;
}

static bool range_ended(void *owner)
{
    return !((struct meta_range *)owner)->pending;
}

static int put(const char *key, uint64_t revision, const char *value, bool wait)
{
    static struct meta_txn txn;
    struct meta_condition condition = {key, revision};
    struct meta_change change = {key, value, value ? (uint32_t)strlen(value) : 0, 0};

    txn = (struct meta_txn){
        .conditions = &condition, .condition_count = 1, .changes = &change, .change_count = 1};
    sim_node_enter(t.node);
    t.meta->ops->txn(t.meta, &txn);
    sim_node_leave(t.node);
    if (!wait)
        return 0;
    CHECK(sim_run_while(t.sim, txn_ended, &txn, t.sim->now_ns + 10 * NS_PER_S));
    return txn.result;
}

/* The mod_revision, 0 when the key is not there; the value's first byte in `ret_first`. */
static uint64_t get(const char *key, char *ret_first)
{
    struct meta_range range = {.first = key};
    uint64_t revision = 0;

    sim_node_enter(t.node);
    t.meta->ops->range(t.meta, &range);
    sim_node_leave(t.node);
    CHECK(sim_run_while(t.sim, range_ended, &range, t.sim->now_ns + 10 * NS_PER_S));
    CHECK_EQ(range.result, 0);
    if (range.ret_count) {
        revision = range.ret_kvs[0].mod_revision;
        *ret_first = *(const char *)range.ret_kvs[0].value;
    }
    sim_node_enter(t.node);
    t.meta->ops->range_fini(t.meta, &range);
    sim_node_leave(t.node);
    return revision;
}

static void conditions_protect(void)
{
    char first = 0;

    set_up(1);
    CHECK_EQ(put("a", 0, "1", true), 0);
    CHECK_EQ(put("a", 0, "2", true), -ERR_CONFLICT);
    uint64_t revision = get("a", &first);
    CHECK(revision > 0 && first == '1');
    sim_meta_set_faults(t.store, &(struct sim_meta_faults){.conflict_ppm = 1000000});
    CHECK_EQ(put("a", revision, "2", true), -ERR_CONFLICT);
    sim_meta_set_faults(t.store, &(struct sim_meta_faults){0});
    revision = get("a", &first);
    CHECK_EQ(first, '1');
    CHECK_EQ(put("a", revision, "2", true), 0);
    tear_down();
}

static void survives_crashes(void)
{
    char first = 0;
    uint32_t happened = 0;

    for (uint64_t seed = 1; seed <= 40; seed++) {
        set_up(seed);
        CHECK_EQ(put("sure", 0, "1", true), 0);
        put("open", 0, "1", false);
        sim_run_for(t.sim, 30 * NS_PER_US);
        sim_node_crash(t.node, SIM_CRASH_POWER);
        sim_run_for(t.sim, NS_PER_S);
        sim_node_start(t.node);
        CHECK(get("sure", &first) > 0);
        happened += get("open", &first) > 0;
        tear_down();
    }
    CHECK(happened > 5 && happened < 35);
}

static void failures_leave_the_outcome_open(void)
{
    char first = 0;
    uint32_t happened = 0;

    for (uint64_t seed = 1; seed <= 40; seed++) {
        set_up(seed);
        sim_meta_set_faults(t.store, &(struct sim_meta_faults){.error_ppm = 1000000});
        CHECK_EQ(put("a", 0, "1", true), -ERR_IO);
        sim_meta_set_faults(t.store, &(struct sim_meta_faults){0});
        happened += get("a", &first) > 0;
        tear_down();
    }
    CHECK(happened > 5 && happened < 35);
}

static struct {
    uint32_t changes, compactions;
    char last;
} seen;

static void changed(void *owner, const struct meta_kv *kv)
{
    seen.changes++;
    seen.last = kv->value ? *(const char *)kv->value : '-';
}

static void compacted(void *owner, uint64_t oldest_revision)
{
    seen.compactions++;
}

static void watches(void)
{
    struct meta_watch watch = {.first = "a/", .end = "a0", .changed = changed, .compacted = compacted};

    set_up(1);
    memset(&seen, 0, sizeof(seen));
    CHECK_EQ(put("a/1", 0, "1", true), 0);
    CHECK_EQ(put("b/1", 0, "1", true), 0);
    sim_node_enter(t.node);
    t.meta->ops->watch(t.meta, &watch);
    sim_node_leave(t.node);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(seen.changes, 1);
    sim_meta_set_down(t.store, true);
    CHECK_EQ(put("a/2", 0, "2", true), -ERR_IO);
    sim_meta_set_down(t.store, false);
    CHECK_EQ(put("a/2", 0, "2", true), 0);
    CHECK_EQ(put("a/2", 3, NULL, true), 0);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(seen.changes, 3);
    CHECK_EQ(seen.last, '-');
    sim_node_enter(t.node);
    t.meta->ops->unwatch(t.meta, &watch);
    watch.from_revision = 1;
    sim_meta_compact(t.store);
    t.meta->ops->watch(t.meta, &watch);
    sim_node_leave(t.node);
    sim_run_for(t.sim, NS_PER_S);
    CHECK_EQ(seen.compactions, 1);
    tear_down();
}

int main(void)
{
    TEST(conditions_protect);
    TEST(survives_crashes);
    TEST(failures_leave_the_outcome_open);
    TEST(watches);
    return tap_done();
}
