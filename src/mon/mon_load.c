/* SPDX-License-Identifier: Apache-2.0
 *
 * The load: the whole store is read into memory at the start, and again whenever the outcome of a transaction
 * is not known (soft state of items that are still there is kept).
 *
 *   START -> STATE -> [CREATE ->] RANGE (kind by kind, page by page) -> RECHECK -> [ORPHANS ...] -> done
 *
 * RECHECK reads the state again: if it changed while the ranges were read, what they show is of no one
 * moment. The monitor that leads reads all anew, and as nobody else writes, that ends. One that follows would
 * go on for ever where changes come faster than it reads: it keeps the state that it read first, and is told
 * what happened since (mon_follow.c). Orphans are the PGs of a pool whose creation was interrupted before its
 * last transaction: no map ever showed them, and the monitor that leads deletes them here. For one that
 * follows they may belong to a change that is under way.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"

#define LOAD_PAGE MON_LIMIT(512, 8)
#define STATE_KEY "cluster"
#define STATE_END "cluster0" /* behind all keys "cluster/..." */

enum load_state { LOAD_START, LOAD_STATE, LOAD_CREATE, LOAD_RANGE, LOAD_RECHECK, LOAD_ORPHANS };

static const char *load_state_name(int state)
{
    static const char *const names[] = {"start", "state", "create", "range", "recheck", "orphans"};
    return names[state];
}

static void range_start(struct mon_load *l, const char *first, const char *end)
{
    snprintf(l->first, sizeof(l->first), "%s", first);
    if (end)
        snprintf(l->end, sizeof(l->end), "%s", end);
    l->range = (struct meta_range){.first = l->first,
                                   .end = end ? l->end : NULL,
                                   .limit = end ? LOAD_PAGE : 0,
                                   .waiter = &l->op,
                                   .pending = true};
    l->mon->config.meta->ops->range(l->mon->config.meta, &l->range);
}

static void range_end(struct mon_load *l)
{
    l->mon->config.meta->ops->range_fini(l->mon->config.meta, &l->range);
}

static void range_start_kind(struct mon_load *l)
{
    char end[16];

    snprintf(end, sizeof(end), "%s", mon_kind_prefix((enum mon_kind)l->kind));
    end[strlen(end) - 1]++; /* behind every key with the prefix */
    range_start(l, mon_kind_prefix((enum mon_kind)l->kind), end);
}

/* The answer to a read of the keys "cluster" and "cluster/...": 1: the state is there and taken over; 0: it
 * is not there. */
static int take_state(struct mon_load *l)
{
    struct mon *mon = l->mon;
    Fb__MonState *state = NULL;
    int error = 0;

    if (l->range.result)
        return l->range.result;
    mon_follow_forget(mon, l->range.ret_revision);
    for (uint32_t i = 0; i < l->range.ret_count; i++) {
        const struct meta_kv *kv = &l->range.ret_kvs[i];
        if (!strcmp(kv->key, STATE_KEY)) {
            state = mon_state_decode(kv->value, kv->value_len, &error);
            l->revision = kv->mod_revision;
        } else {
            mon_follow_note(mon, kv);
        }
    }
    mon_lead_look(mon);
    if (error == -ERR_VERSION)
        snprintf(l->message, sizeof(l->message),
                 "a newer version has written the metadata (this one knows format %u): upgrade this monitor",
                 MON_FORMAT);
    else if (error)
        snprintf(l->message, sizeof(l->message), "the value of key '%s' is not this program's, or damaged",
                 STATE_KEY);
    if (!state)
        return error;
    if (l->state)
        fb__mon_state__free_unpacked(l->state, &mon_allocator);
    l->state = state;
    return 1;
}

/* As take_state(), but what was read first stays: the ranges show all of it. */
static int recheck(struct mon_load *l)
{
    Fb__MonState *first = l->state;
    uint64_t revision = l->revision;

    l->state = NULL;
    int got = take_state(l);
    if (l->state)
        fb__mon_state__free_unpacked(l->state, &mon_allocator);
    l->whole_revision = l->revision;
    l->state = first;
    l->revision = revision;
    return got;
}

static void create_start(struct mon_load *l)
{
    struct mon *mon = l->mon;
    struct uuid uuid = uuid_make(core_random_u64(mon->core), core_random_u64(mon->core));
    Fb__MonState state = FB__MON_STATE__INIT;

    state.format = MON_FORMAT;
    state.cluster.data = uuid.bytes;
    state.cluster.len = 16;
    state.epoch = 1;
    state.pool_next = 1;
    ASSERT(fb__mon_state__get_packed_size(&state) <= sizeof(l->value));
    l->changes[0] = (struct meta_change){
        .key = STATE_KEY, .value = l->value, .value_len = (uint32_t)fb__mon_state__pack(&state, l->value)};
    l->conditions[0] = (struct meta_condition){.key = STATE_KEY};
    l->txn = (struct meta_txn){.conditions = l->conditions,
                               .condition_count = 1,
                               .changes = l->changes,
                               .change_count = 1,
                               .waiter = &l->op,
                               .pending = true};
    mon->config.meta->ops->txn(mon->config.meta, &l->txn);
}

static int add_orphan(struct mon_load *l, const char *key)
{
    if (l->orphan_count == l->orphan_cap) {
        uint32_t cap = MAX(l->orphan_cap * 2, 64u);
        char(*more)[40] = realloc(l->orphans, cap * sizeof(*more));
        if (!more)
            return -ERR_NO_MEMORY;
        l->orphans = more;
        l->orphan_cap = cap;
    }
    snprintf(l->orphans[l->orphan_count++], sizeof(*l->orphans), "%.39s", key);
    return 0;
}

static int install_loaded(struct mon_load *l, const struct meta_kv *kv)
{
    int error = mon_item_load(l->mon, kv);

    if (error == -ERR_FORMAT)
        snprintf(l->message, sizeof(l->message), "the value of key '%.40s' is damaged", kv->key);
    if (error != -ERR_NOT_FOUND)
        return error;
    if (l->mon->config.meta->ops->lease) /* who leads now may follow when the load ends */
        mon_follow_keep(l->mon, kv);
    return add_orphan(l, kv->key);
}

static void forget_unseen(struct mon *mon, enum mon_kind kind)
{
    mon_for_each(mon, kind, node)
    {
        if (!mon_node_item(node)->seen)
            mon_item_forget(mon, kind, node->key);
    }
}

/* One page of a kind. 1: the kind is complete. */
static int take_page(struct mon_load *l)
{
    if (l->range.result)
        return l->range.result;
    int error = 0;
    for (uint32_t i = 0; i < l->range.ret_count && !error; i++)
        error = install_loaded(l, &l->range.ret_kvs[i]);
    if (error)
        return error;
    if (!l->range.ret_more || l->range.ret_count == 0) {
        forget_unseen(l->mon, (enum mon_kind)l->kind);
        return 1;
    }
    /* The next key in byte order is the last one plus the smallest printable character. */
    char first[META_KEY_MAX + 2];
    snprintf(first, sizeof(first), "%s ", l->range.ret_kvs[l->range.ret_count - 1].key);
    snprintf(l->first, sizeof(l->first), "%s", first);
    return 0;
}

static void orphans_start(struct mon_load *l)
{
    l->orphan_batch = MIN(l->orphan_count, (uint32_t)META_TXN_OPS_MAX);
    for (uint32_t i = 0; i < l->orphan_batch; i++)
        l->changes[i] = (struct meta_change){.key = l->orphans[l->orphan_count - l->orphan_batch + i]};
    l->txn = (struct meta_txn){.conditions = l->conditions,
                               .condition_count = mon_fence(l->mon, l->revision, l->conditions),
                               .changes = l->changes,
                               .change_count = l->orphan_batch,
                               .waiter = &l->op,
                               .pending = true};
    l->mon->config.meta->ops->txn(l->mon->config.meta, &l->txn);
}

static void load_end(struct mon_load *l, int result)
{
    struct mon *mon = l->mon;

    if (result == 0) {
        mon_state_install(mon, l->state, l->revision);
        mon->follow.whole_revision = l->whole_revision;
        mon->stale = false;
    } else if (!mon->load_failed) { /* once, not every second that the store is away */
        core_log(mon->core, LOG_ERROR, "mon", "cannot load the metadata: %s%s%s", error_text(result),
                 l->message[0] ? ": " : "", l->message);
    }
    mon->load_failed = result;
    mon->outdated = result == -ERR_VERSION;
    if (mon->outdated) {
        mon_lead_end(mon, "its version is older than that of the metadata");
        mon_sessions_close(mon);
    }
    if (l->state)
        fb__mon_state__free_unpacked(l->state, &mon_allocator);
    free(l->orphans);
    l->state = NULL;
    l->orphans = NULL;
    op_done(&l->op, result);
}

static bool leads(const struct mon *mon)
{
    return mon->leads || mon->lead.revision;
}

static void load_begin(struct mon_load *l)
{
    for (int k = 0; k < MON_KINDS; k++)
        mon_for_each(l->mon, k, node) mon_node_item(node)->seen = false;
    mon_follow_drop(l->mon);
    l->kind = 0;
    l->orphan_count = 0;
    range_start(l, STATE_KEY, STATE_END);
    l->op.state = LOAD_STATE;
}

static void load_step(struct op *op)
{
    struct mon_load *l = container_of(op, struct mon_load, op);
    int got;

    for (;;) {
        if (l->range.pending || l->txn.pending)
            return;
        switch ((enum load_state)op->state) {
        case LOAD_START:
            load_begin(l);
            continue;
        case LOAD_STATE:
            got = take_state(l);
            l->from_revision = l->range.ret_revision;
            range_end(l);
            if (got == 0 && l->create) {
                create_start(l);
                op->state = LOAD_CREATE;
                continue;
            }
            if (got <= 0) {
                if (got == 0)
                    snprintf(l->message, sizeof(l->message), "the store is empty");
                load_end(l, got ? got : -ERR_FORMAT);
                return;
            }
            range_start_kind(l);
            op->state = LOAD_RANGE;
            continue;
        case LOAD_CREATE:
            if (l->txn.result && l->txn.result != -ERR_CONFLICT) {
                load_end(l, l->txn.result);
                return;
            }
            load_begin(l);
            continue;
        case LOAD_RANGE:
            got = take_page(l);
            range_end(l);
            if (got < 0) {
                load_end(l, got);
                return;
            }
            if (got == 0) {
                char first[META_KEY_MAX + 2], end[META_KEY_MAX + 2];
                memcpy(first, l->first, sizeof(first));
                memcpy(end, l->end, sizeof(end));
                range_start(l, first, end);
            } else if (++l->kind < MON_KINDS) {
                range_start_kind(l);
            } else {
                range_start(l, STATE_KEY, STATE_END);
                op->state = LOAD_RECHECK;
            }
            continue;
        case LOAD_RECHECK:
            got = recheck(l);
            range_end(l);
            if (got <= 0) {
                load_end(l, got ? got : -ERR_FORMAT);
                return;
            }
            if (l->revision != l->whole_revision && leads(l->mon)) {
                load_begin(l);
                continue;
            }
            op->state = LOAD_ORPHANS;
            if (l->orphan_count && leads(l->mon)) {
                core_log(l->mon->core, LOG_INFO, "mon",
                         "an interrupted creation of a pool left %u PGs: deleting them", l->orphan_count);
                orphans_start(l);
                continue;
            }
            load_end(l, 0);
            return;
        case LOAD_ORPHANS:
            if (l->txn.result) {
                mon_doubt(l->mon, l->txn.result);
                load_end(l, l->txn.result);
                return;
            }
            l->orphan_count -= l->orphan_batch;
            if (l->orphan_count) {
                orphans_start(l);
                continue;
            }
            load_end(l, 0);
            return;
        }
    }
}

static const struct op_kind load_kind = {"mon.load", load_state_name, load_step};

void mon_load_start(struct mon *mon, bool create, struct op *parent)
{
    struct mon_load *l = &mon->load;

    ASSERT(!op_live(&l->op));
    *l = (struct mon_load){.mon = mon, .create = create};
    op_start(&l->op, mon->core, &load_kind, parent);
}
