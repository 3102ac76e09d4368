/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata store port on SQLite.
 *
 * Requests queue up and are served by one op, all that are there in one SQLite transaction, each seeing what
 * those before it did; they complete when it is durable. After a failure nothing of the transaction stands,
 * and all its requests fail. The file and its statements: sqlite_db.c.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/sqlite_db.h"
#include "base/error.h"

/* Changes older than the history are removed every so many revisions. */
#define META_TRIM_EVERY 64

struct meta_request {
    struct meta_range *range; /* one of the two */
    struct meta_txn *txn;
};

struct watcher {
    struct list link;
    struct meta_watch *watch; /* NULL: given up, freed after the round */
    uint64_t seen_revision;
};

struct sqlite_meta {
    struct meta meta; /* first */
    struct op op;     /* serves requests and watches; lives as long as the store is open */
    struct sqlite_db db;
    uint64_t revision;
    uint64_t oldest_revision; /* of the history; changes before it are gone */
    uint64_t history_max;
    struct meta_request *requests;
    uint32_t request_count, request_cap;
    struct list watchers;
    bool telling; /* inside the events of watches */
};

/* Reading. */

static void meta_range_free(struct meta_range *range)
{
    for (uint32_t i = 0; i < range->ret_count; i++)
        free((void *)(uintptr_t)range->ret_kvs[i].key);
    free(range->ret_kvs);
    range->ret_kvs = NULL;
    range->ret_count = 0;
}

/* One allocation holds key and value. */
static bool meta_kv_copy(sqlite3_stmt *row, struct meta_kv *ret_kv)
{
    size_t key_len = (size_t)sqlite3_column_bytes(row, 0);
    size_t value_len = (size_t)sqlite3_column_bytes(row, 1);
    char *memory = malloc(key_len + 1 + value_len);

    if (!memory)
        return false;
    memcpy(memory, sqlite3_column_text(row, 0), key_len + 1);
    if (value_len)
        memcpy(memory + key_len + 1, sqlite3_column_blob(row, 1), value_len);
    *ret_kv = (struct meta_kv){.key = memory,
                               .value = memory + key_len + 1,
                               .value_len = (uint32_t)value_len,
                               .mod_revision = (uint64_t)sqlite3_column_int64(row, 2)};
    return true;
}

static int meta_serve_range(struct sqlite_meta *m, struct meta_range *range)
{
    sqlite3_stmt *sql = m->db.sql[SQL_RANGE];
    uint32_t cap = 0;
    int result = 0, step;

    sqlite_db_bind_text(&m->db, SQL_RANGE, 1, range->first);
    sqlite_db_bind_text(&m->db, SQL_RANGE, 2, range->end);
    sqlite3_bind_int64(sql, 3, range->limit ? (sqlite3_int64)range->limit + 1 : -1);
    while (!result && (step = sqlite3_step(sql)) != SQLITE_DONE) {
        if (step != SQLITE_ROW) {
            result = sqlite_db_fail(&m->db, "read");
        } else if (range->limit && range->ret_count == range->limit) {
            range->ret_more = true;
        } else {
            if (range->ret_count == cap) {
                uint32_t more = cap ? cap * 2 : 16;
                struct meta_kv *kvs = realloc(range->ret_kvs, more * sizeof(*kvs));
                if (kvs) {
                    range->ret_kvs = kvs;
                    cap = more;
                }
            }
            if (range->ret_count < cap && meta_kv_copy(sql, &range->ret_kvs[range->ret_count]))
                range->ret_count++;
            else
                result = -ERR_NO_MEMORY;
        }
    }
    sqlite3_reset(sql);
    sqlite3_clear_bindings(sql);
    if (result)
        meta_range_free(range);
    range->ret_revision = m->revision;
    return result;
}

/* Transactions. */

static int meta_check(struct sqlite_meta *m, const struct meta_txn *txn)
{
    for (uint32_t i = 0; i < txn->condition_count; i++) {
        uint64_t revision = 0;
        int result = sqlite_db_get_u64(&m->db, SQL_REVISION_OF, txn->conditions[i].key, &revision);
        if (result)
            return result;
        if (revision != txn->conditions[i].mod_revision)
            return -ERR_CONFLICT;
    }
    return 0;
}

/* Deleting what is not there changes nothing. */
static int meta_apply(struct sqlite_meta *m, const struct meta_change *change, uint64_t revision,
                      uint32_t place, bool *ret_changed)
{
    enum sqlite_statement statement = change->value ? SQL_PUT : SQL_DELETE;
    int result;

    sqlite_db_bind_text(&m->db, statement, 1, change->key);
    if (change->value) {
        sqlite_db_bind_value(&m->db, statement, 2, change);
        sqlite_db_bind_u64(&m->db, statement, 3, revision);
    }
    result = sqlite_db_run(&m->db, statement);
    if (result || sqlite3_changes(m->db.handle) == 0)
        return result;
    sqlite_db_bind_u64(&m->db, SQL_RECORD, 1, revision);
    sqlite_db_bind_u64(&m->db, SQL_RECORD, 2, place);
    sqlite_db_bind_text(&m->db, SQL_RECORD, 3, change->key);
    sqlite_db_bind_value(&m->db, SQL_RECORD, 4, change);
    *ret_changed = true;
    return sqlite_db_run(&m->db, SQL_RECORD);
}

static int meta_validate(const struct meta_txn *txn)
{
    if (txn->condition_count > META_TXN_OPS_MAX || txn->change_count > META_TXN_OPS_MAX)
        return -ERR_TOO_LARGE;
    for (uint32_t i = 0; i < txn->change_count; i++)
        if (txn->changes[i].value_len > META_VALUE_MAX || strlen(txn->changes[i].key) > META_KEY_MAX)
            return -ERR_TOO_LARGE;
    return 0;
}

/* 0, or an answer that leaves the transaction around it whole (ERR_CONFLICT, ERR_TOO_LARGE); anything else
 * ends that one. */
static int meta_serve_txn(struct sqlite_meta *m, struct meta_txn *txn)
{
    uint64_t revision = m->revision + 1;
    bool changed = false;
    int result = meta_validate(txn);

    if (!result)
        result = meta_check(m, txn);
    for (uint32_t i = 0; i < txn->change_count && !result; i++)
        result = meta_apply(m, &txn->changes[i], revision, i, &changed);
    if (!result && changed)
        m->revision = revision;
    txn->ret_revision = m->revision;
    return result;
}

static bool meta_result_is_an_answer(int result)
{
    return result == 0 || result == -ERR_CONFLICT || result == -ERR_TOO_LARGE;
}

/* Serves all of `requests`, leaving each one's result in it. Returns the error that failed them all, if any.
 */
static int meta_serve(struct sqlite_meta *m, const struct meta_request *requests, uint32_t count)
{
    uint64_t before = m->revision, oldest = m->oldest_revision;
    int result = sqlite_db_run(&m->db, SQL_BEGIN);

    for (uint32_t i = 0; i < count && !result; i++) {
        if (requests[i].range) {
            result = requests[i].range->result = meta_serve_range(m, requests[i].range);
        } else {
            int answer = requests[i].txn->result = meta_serve_txn(m, requests[i].txn);
            result = meta_result_is_an_answer(answer) ? 0 : answer;
        }
    }
    if (!result && m->revision != before) {
        result = sqlite_db_set(&m->db, "revision", m->revision);
        if (!result && m->revision >= m->oldest_revision + m->history_max + META_TRIM_EVERY) {
            m->oldest_revision = m->revision + 1 - m->history_max;
            sqlite_db_bind_u64(&m->db, SQL_TRIM, 1, m->oldest_revision);
            result = sqlite_db_run(&m->db, SQL_TRIM);
            if (!result)
                result = sqlite_db_set(&m->db, "oldest", m->oldest_revision);
        }
    }
    if (!result)
        result = sqlite_db_run(&m->db, SQL_COMMIT);
    if (result) {
        m->revision = before;
        m->oldest_revision = oldest;
        if (!sqlite3_get_autocommit(m->db.handle))
            (void)!sqlite_db_run(&m->db, SQL_ROLLBACK);
    } else if (m->revision != before) {
        m->db.failed = 0;
    }
    return result;
}

static void meta_serve_all(struct sqlite_meta *m)
{
    struct meta_request *requests = m->requests;
    uint32_t count = m->request_count;

    if (count == 0)
        return;
    m->requests = NULL;
    m->request_count = m->request_cap = 0;
    int failed = meta_serve(m, requests, count);
    for (uint32_t i = 0; i < count; i++) {
        struct meta_range *range = requests[i].range;
        struct meta_txn *txn = requests[i].txn;
        if (range) {
            if (failed) {
                meta_range_free(range);
                range->result = failed;
            }
            range->pending = false;
            op_wake(range->waiter);
        } else {
            if (failed)
                txn->result = failed;
            txn->pending = false;
            op_wake(txn->waiter);
        }
    }
    free(requests);
}

/* Watches. */

static void meta_tell(struct sqlite_meta *m, struct watcher *w)
{
    if (w->seen_revision + 1 < m->oldest_revision) {
        struct meta_watch *watch = w->watch;
        w->watch = NULL;
        watch->port_private = NULL;
        watch->compacted(watch->owner, m->oldest_revision);
        return;
    }
    /* A statement of its own: the events may watch and read. */
    sqlite3_stmt *sql = sqlite_db_changes(&m->db);
    if (!sql)
        return;
    sqlite3_bind_int64(sql, 1, (sqlite3_int64)w->seen_revision);
    sqlite3_bind_text(sql, 2, w->watch->first, -1, SQLITE_STATIC);
    if (w->watch->end)
        sqlite3_bind_text(sql, 3, w->watch->end, -1, SQLITE_STATIC);
    int step = SQLITE_DONE;
    while (w->watch && (step = sqlite3_step(sql)) == SQLITE_ROW) {
        bool put = sqlite3_column_type(sql, 2) != SQLITE_NULL;
        const void *value = put ? sqlite3_column_blob(sql, 2) : NULL;
        struct meta_kv kv = {.key = (const char *)sqlite3_column_text(sql, 1),
                             .value = put && !value ? "" : value,
                             .value_len = (uint32_t)sqlite3_column_bytes(sql, 2),
                             .mod_revision = (uint64_t)sqlite3_column_int64(sql, 0)};
        w->watch->changed(w->watch->owner, &kv);
    }
    if (w->watch && step != SQLITE_DONE)
        /* Told again with the next change: an event may repeat, none is lost. */
        (void)!sqlite_db_fail(&m->db, "watch");
    else
        w->seen_revision = m->revision;
    sqlite3_finalize(sql);
}

static void meta_tell_all(struct sqlite_meta *m)
{
    m->telling = true;
    list_for_each (&m->watchers, node) {
        struct watcher *w = list_entry(node, struct watcher, link);
        if (w->watch && w->seen_revision < m->revision)
            meta_tell(m, w);
    }
    m->telling = false;
    list_for_each_safe (&m->watchers, gone) {
        struct watcher *w = list_entry(gone, struct watcher, link);
        if (w->watch)
            continue;
        list_remove(&w->link);
        free(w);
    }
}

static void meta_step(struct op *op)
{
    struct sqlite_meta *m = container_of(op, struct sqlite_meta, op);

    meta_serve_all(m);
    meta_tell_all(m);
}

static const struct op_kind meta_kind = {"backend.sqlite_meta", NULL, meta_step};

/* The port. */

/* Returns false when there is no memory. */
static bool meta_queue(struct sqlite_meta *m, struct meta_range *range, struct meta_txn *txn)
{
    if (m->request_count == m->request_cap) {
        uint32_t cap = m->request_cap ? m->request_cap * 2 : 16;
        struct meta_request *requests = realloc(m->requests, cap * sizeof(*requests));
        if (!requests)
            return false;
        m->requests = requests;
        m->request_cap = cap;
    }
    m->requests[m->request_count++] = (struct meta_request){range, txn};
    op_wake(&m->op);
    return true;
}

static void sqlite_range(struct meta *meta, struct meta_range *range)
{
    range->pending = true;
    range->result = 0;
    range->ret_kvs = NULL;
    range->ret_count = 0;
    range->ret_more = false;
    if (!meta_queue(container_of(meta, struct sqlite_meta, meta), range, NULL)) {
        range->pending = false;
        range->result = -ERR_NO_MEMORY;
        op_wake(range->waiter);
    }
}

static void sqlite_range_fini(struct meta *meta, struct meta_range *range)
{
    ASSERT(!range->pending);
    meta_range_free(range);
}

static void sqlite_txn(struct meta *meta, struct meta_txn *txn)
{
    txn->pending = true;
    txn->result = 0;
    if (!meta_queue(container_of(meta, struct sqlite_meta, meta), NULL, txn)) {
        txn->pending = false;
        txn->result = -ERR_NO_MEMORY;
        op_wake(txn->waiter);
    }
}

static void sqlite_watch(struct meta *meta, struct meta_watch *watch)
{
    struct sqlite_meta *m = container_of(meta, struct sqlite_meta, meta);
    struct watcher *w = calloc(1, sizeof(*w));

    ASSERT(w); /* the port has no way to refuse a watch; there are a handful in a process' life */
    w->watch = watch;
    w->seen_revision = watch->from_revision;
    watch->port_private = w;
    list_push_back(&m->watchers, &w->link);
    op_wake(&m->op);
}

static void sqlite_unwatch(struct meta *meta, struct meta_watch *watch)
{
    struct sqlite_meta *m = container_of(meta, struct sqlite_meta, meta);
    struct watcher *w = watch->port_private;

    if (!w)
        return;
    watch->port_private = NULL;
    w->watch = NULL;
    if (!m->telling) {
        list_remove(&w->link);
        free(w);
    }
}

static void sqlite_free(struct sqlite_meta *m)
{
    sqlite_db_close(&m->db);
    free(m->requests);
    free(m);
}

static void sqlite_close(struct meta *meta)
{
    struct sqlite_meta *m = container_of(meta, struct sqlite_meta, meta);

    ASSERT(m->request_count == 0 && !m->telling);
    for (struct list *node = list_pop_front(&m->watchers); node; node = list_pop_front(&m->watchers)) {
        struct watcher *w = list_entry(node, struct watcher, link);
        if (w->watch)
            w->watch->port_private = NULL;
        free(w);
    }
    op_done(&m->op, 0);
    sqlite_free(m);
}

static const struct meta_ops sqlite_meta_ops = {
    .range = sqlite_range,
    .range_fini = sqlite_range_fini,
    .txn = sqlite_txn,
    .watch = sqlite_watch,
    .unwatch = sqlite_unwatch,
    .close = sqlite_close, /* no leases: the lock on the file is one */
};

int sqlite_meta_open(struct core *core, const char *path, uint64_t history_max, struct meta **ret_meta)
{
    struct sqlite_meta *m = calloc(1, sizeof(*m));

    if (!m)
        return -ERR_NO_MEMORY;
    ASSERT(history_max > 0);
    m->meta.ops = &sqlite_meta_ops;
    m->history_max = history_max;
    list_init(&m->watchers);
    int result = sqlite_db_open(&m->db, core, path);
    if (!result)
        result = sqlite_db_get_u64(&m->db, SQL_GET, "revision", &m->revision);
    if (!result)
        result = sqlite_db_get_u64(&m->db, SQL_GET, "oldest", &m->oldest_revision);
    m->oldest_revision = MAX(m->oldest_revision, 1);
    if (result) {
        sqlite_free(m);
        return result;
    }
    op_start(&m->op, core, &meta_kind, NULL);
    *ret_meta = &m->meta;
    return 0;
}
