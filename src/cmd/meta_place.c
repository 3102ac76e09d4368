/* SPDX-License-Identifier: Apache-2.0
 *
 * A metadata store, opened by a command: read as a whole, or filled.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/etcd_meta.h"
#include "base/error.h"
#include "cmd/meta_set.h"

#define HISTORY_MAX 10000
#define PAGE        512
#define FIRST_KEY   "!"
#define END_KEY     "~"

/* ---- waiting ---- */

struct waiting {
    struct op op;
    const bool *pending;
};

static void waiting_step(struct op *op)
{
    if (!*container_of(op, struct waiting, op)->pending)
        op_done(op, 0);
}

static const struct op_kind waiting_kind = {"cmd.meta", NULL, waiting_step};

static void wait_start(struct meta_place *place, struct waiting *w, const bool *pending)
{
    *w = (struct waiting){.pending = pending};
    op_start(&w->op, uring_core_core(place->uring), &waiting_kind, NULL);
}

/* ---- opening ---- */

static int open_sqlite(struct meta_place *place, const char *folder, bool fresh)
{
    if (fresh && mkdir(folder, 0700) < 0 && errno != EEXIST)
        return cmd_fail("cannot make the data directory %s: %s", folder, strerror(errno));
    if (snprintf(place->path, sizeof(place->path), "%s/metadata.sqlite", folder) >= (int)sizeof(place->path))
        return cmd_fail("the name of the data directory is too long");
    if (!fresh && access(place->path, F_OK) < 0)
        return cmd_fail("there is no metadata of a monitor in %s: %s", folder, strerror(errno));
    int error = sqlite_meta_open(uring_core_core(place->uring), place->path, HISTORY_MAX, &place->meta);
    if (error)
        return cmd_fail("cannot use %s: %s%s", place->path, error_text(error),
                        error == -ERR_LOCKED ? ". Stop the monitor first" : "");
    return CMD_OK;
}

int meta_place_open(struct meta_place *place, const char *text, bool fresh)
{
    struct uring_core_opts opts = {.arena_bytes = 8u << 20, .log_level = LOG_ERROR};
    char message[256];

    *place = (struct meta_place){0};
    int error = uring_core_new(&opts, &place->uring);
    if (error)
        return cmd_fail("cannot start: %s", uring_core_error_text(error));
    int result = CMD_OK;
    if (strncmp(text, "etcd://", 7) != 0)
        result = open_sqlite(place, text, fresh);
    else if (etcd_meta_open(place->uring, text, &place->meta, message, sizeof(message)))
        result = cmd_fail("%s", message);
    if (result)
        uring_core_free(place->uring);
    return result;
}

void meta_place_close(struct meta_place *place)
{
    place->meta->ops->close(place->meta);
    uring_core_free(place->uring);
}

/* ---- reading ---- */

static int range(struct meta_place *place, struct meta_range *r)
{
    struct waiting w;

    wait_start(place, &w, &r->pending);
    r->waiter = &w.op;
    r->pending = true;
    place->meta->ops->range(place->meta, r);
    uring_core_run_op(place->uring, &w.op);
    return r->result;
}

int meta_place_load(struct meta_place *place, struct meta_set *ret_set)
{
    struct meta_set set = {0};
    char first[META_KEY_MAX + 2] = FIRST_KEY;
    int error = 0;

    for (bool more = true; more && !error;) {
        struct meta_range r = {.first = first, .end = END_KEY, .limit = PAGE};
        error = range(place, &r);
        for (uint32_t i = 0; i < r.ret_count && !error; i++) {
            if (strncmp(r.ret_kvs[i].key, "cluster/", 8) != 0) /* who runs at the moment */
                error = meta_set_put(&set, r.ret_kvs[i].key, r.ret_kvs[i].value, r.ret_kvs[i].value_len);
            /* The next key in byte order is this one and the smallest printable character. */
            snprintf(first, sizeof(first), "%.*s ", META_KEY_MAX, r.ret_kvs[i].key);
        }
        more = r.ret_more && r.ret_count;
        place->meta->ops->range_fini(place->meta, &r);
    }
    if (error) {
        meta_set_free(&set);
        return cmd_fail("cannot read the metadata: %s", error_text(error));
    }
    *ret_set = set;
    return CMD_OK;
}

/* ---- writing ---- */

static int put_some(struct meta_place *place, const struct meta_kv *kvs, uint32_t count)
{
    struct meta_condition none = {.key = "cluster"};
    struct meta_change changes[META_TXN_OPS_MAX];
    struct meta_txn txn = {
        .conditions = &none, .condition_count = 1, .changes = changes, .change_count = count};
    struct waiting w;

    for (uint32_t i = 0; i < count; i++)
        changes[i] =
            (struct meta_change){.key = kvs[i].key, .value = kvs[i].value, .value_len = kvs[i].value_len};
    wait_start(place, &w, &txn.pending);
    txn.waiter = &w.op;
    txn.pending = true;
    place->meta->ops->txn(place->meta, &txn);
    uring_core_run_op(place->uring, &w.op);
    return txn.result;
}

/* How many of them go into one transaction: its size is bounded, too. */
static uint32_t batch(const struct meta_kv *kvs, uint32_t count)
{
    size_t bytes = 0;
    uint32_t n = 0;

    while (n < count && n < META_TXN_OPS_MAX && (n == 0 || bytes + kvs[n].value_len < META_VALUE_MAX / 2))
        bytes += kvs[n++].value_len + META_KEY_MAX;
    return n;
}

int meta_place_fill(struct meta_place *place, const struct meta_set *set)
{
    const struct meta_kv *state = meta_set_get(set, "cluster");
    struct meta_range any = {.first = FIRST_KEY, .end = END_KEY, .limit = 1};
    uint32_t last = state ? (uint32_t)(state - set->kvs) : 0;

    if (!state)
        return cmd_fail("the metadata is not whole: it has no state of a cluster");
    int error = range(place, &any);
    bool empty = any.ret_count == 0;
    place->meta->ops->range_fini(place->meta, &any);
    if (error)
        return cmd_fail("cannot read the metadata store: %s", error_text(error));
    if (!empty)
        return cmd_fail("the metadata store is not empty: use another directory, or another prefix in etcd");
    for (uint32_t i = 0; i < set->count; i++)
        if (set->kvs[i].value_len > META_VALUE_MAX)
            return cmd_fail("%.64s is larger than a metadata store takes: this is no monitor's metadata",
                            set->kvs[i].key);
    for (uint32_t at = 0; at < set->count && !error;) {
        uint32_t end = at < last ? last : set->count, n = batch(set->kvs + at, end - at);
        if (at == last)
            n = 1;
        error = at == last ? 0 : put_some(place, set->kvs + at, n);
        at += n;
    }
    if (!error)
        error = put_some(place, state, 1);
    if (error)
        return cmd_fail(
            "cannot write the metadata: %s. The store is not complete: empty it before the next attempt",
            error_text(error));
    return CMD_OK;
}
