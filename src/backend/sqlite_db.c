/* SPDX-License-Identifier: Apache-2.0
 *
 * The file: its tables, the statements on them, and what SQLite's failures mean.
 */
#include "backend/sqlite_db.h"

#include "base/error.h"

#define META_APPLICATION 0x66626d64 /* "fbmd", in the file's header */
#define META_FORMAT      1

static const char *const db_sql[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    /* An end of NULL: exactly the first key. */
    [SQL_RANGE] =
        "SELECT key, value, revision FROM kv WHERE key >= ?1 AND CASE WHEN ?2 IS NULL THEN key = ?1 ELSE key < ?2 END "
        "ORDER BY key LIMIT ?3",
    [SQL_REVISION_OF] = "SELECT revision FROM kv WHERE key = ?1",
    [SQL_PUT] = "INSERT INTO kv (key, value, revision) VALUES (?1, ?2, ?3) "
                "ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3",
    [SQL_DELETE] = "DELETE FROM kv WHERE key = ?1",
    [SQL_RECORD] = "INSERT INTO history (revision, place, key, value) VALUES (?1, ?2, ?3, ?4)",
    [SQL_CHANGES] = "SELECT revision, key, value FROM history WHERE revision > ?1 AND key >= ?2 "
                    "AND CASE WHEN ?3 IS NULL THEN key = ?2 ELSE key < ?3 END ORDER BY revision, place",
    [SQL_TRIM] = "DELETE FROM history WHERE revision < ?1",
    [SQL_SET] = "INSERT INTO state (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
    [SQL_GET] = "SELECT value FROM state WHERE name = ?1",
};

/* Keys are compared as bytes: BINARY is the default collation. */
static const char db_schema[] =
    "CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) "
    "WITHOUT ROWID;"
    "CREATE TABLE history (revision INTEGER, place INTEGER, key TEXT NOT NULL, value BLOB, "
    "PRIMARY KEY (revision, place)) WITHOUT ROWID;"
    "CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;";

static int db_error(struct sqlite_db *db)
{
    switch (sqlite3_errcode(db->handle) & 0xff) {
    case SQLITE_NOMEM:
        return -ERR_NO_MEMORY;
    case SQLITE_FULL:
        return -ERR_NO_SPACE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -ERR_LOCKED;
    case SQLITE_READONLY:
        return -ERR_READ_ONLY;
    case SQLITE_PERM:
        return -ERR_DENIED;
    case SQLITE_CANTOPEN: {
        int failed = sqlite3_system_errno(db->handle);
        return failed ? error_from_errno(failed) : -ERR_DENIED;
    }
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return -ERR_FORMAT;
    default:
        return -ERR_IO;
    }
}

int sqlite_db_fail(struct sqlite_db *db, const char *what)
{
    int result = db_error(db);

    if (result != db->failed)
        core_log(db->core, LOG_ERROR, "meta", "%s: %s", what, sqlite3_errmsg(db->handle));
    db->failed = result;
    return result;
}

int sqlite_db_run(struct sqlite_db *db, enum sqlite_statement statement)
{
    int step = sqlite3_step(db->sql[statement]);
    int result = step == SQLITE_DONE || step == SQLITE_ROW ? 0 : sqlite_db_fail(db, db_sql[statement]);
    sqlite3_reset(db->sql[statement]);
    sqlite3_clear_bindings(db->sql[statement]);
    return result;
}

void sqlite_db_bind_text(struct sqlite_db *db, enum sqlite_statement statement, int at, const char *text)
{
    if (text)
        sqlite3_bind_text(db->sql[statement], at, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(db->sql[statement], at);
}

void sqlite_db_bind_u64(struct sqlite_db *db, enum sqlite_statement statement, int at, uint64_t value)
{
    sqlite3_bind_int64(db->sql[statement], at, (sqlite3_int64)value);
}

void sqlite_db_bind_value(struct sqlite_db *db, enum sqlite_statement statement, int at,
                          const struct meta_change *change)
{
    /* A value of no bytes is not the same as none. */
    if (change->value && change->value_len)
        sqlite3_bind_blob(db->sql[statement], at, change->value, (int)change->value_len, SQLITE_STATIC);
    else if (change->value)
        sqlite3_bind_zeroblob(db->sql[statement], at, 0);
    else
        sqlite3_bind_null(db->sql[statement], at);
}

int sqlite_db_set(struct sqlite_db *db, const char *name, uint64_t value)
{
    sqlite_db_bind_text(db, SQL_SET, 1, name);
    sqlite_db_bind_u64(db, SQL_SET, 2, value);
    return sqlite_db_run(db, SQL_SET);
}

int sqlite_db_get_u64(struct sqlite_db *db, enum sqlite_statement statement, const char *key,
                      uint64_t *ret_value)
{
    uint64_t value = 0;
    int result = 0;

    sqlite_db_bind_text(db, statement, 1, key);
    int step = sqlite3_step(db->sql[statement]);
    if (step == SQLITE_ROW)
        value = (uint64_t)sqlite3_column_int64(db->sql[statement], 0);
    else if (step != SQLITE_DONE)
        result = sqlite_db_fail(db, db_sql[statement]);
    sqlite3_reset(db->sql[statement]);
    if (!result)
        *ret_value = value;
    return result;
}

static int db_exec(struct sqlite_db *db, const char *sql)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(db);
}

static int db_pragma(struct sqlite_db *db, const char *sql, int *ret_value)
{
    sqlite3_stmt *statement;

    if (sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL) != SQLITE_OK)
        return db_error(db);
    int result = sqlite3_step(statement) == SQLITE_ROW ? 0 : db_error(db);
    if (!result)
        *ret_value = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return result;
}

/* A new file gets the schema; any other must be one that we made. */
static int db_prepare_file(struct sqlite_db *db)
{
    char sql[256];
    int application = 0, format = 0, tables = 0;
    /* The exclusive lock keeps a second monitor out for as long as this one has the file open. */
    int result =
        db_exec(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");

    if (!result)
        result = db_exec(db, "BEGIN IMMEDIATE");
    if (!result)
        result = db_pragma(db, "PRAGMA application_id", &application);
    if (!result)
        result = db_pragma(db, "PRAGMA user_version", &format);
    if (!result)
        result = db_pragma(db, "SELECT count(*) FROM sqlite_master", &tables);
    if (result)
        return result;
    if (tables == 0 && application == 0) {
        sqlite3_snprintf(sizeof(sql), sql, "PRAGMA application_id = %d; PRAGMA user_version = %d;",
                         META_APPLICATION, META_FORMAT);
        result = db_exec(db, sql);
        if (!result)
            result = db_exec(db, db_schema);
    } else if (application != META_APPLICATION) {
        return -ERR_FORMAT;
    } else if (format != META_FORMAT) {
        return -ERR_VERSION;
    }
    return result ? result : db_exec(db, "COMMIT");
}

int sqlite_db_open(struct sqlite_db *db, struct core *core, const char *path)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int opened = sqlite3_open_v2(path, &db->handle, flags, NULL);

    db->core = core;
    if (!db->handle)
        return -ERR_NO_MEMORY;
    int result = opened == SQLITE_OK ? db_prepare_file(db) : db_error(db);
    for (int i = 0; i < SQL_COUNT && !result; i++)
        if (sqlite3_prepare_v3(db->handle, db_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &db->sql[i], NULL) !=
            SQLITE_OK)
            result = sqlite_db_fail(db, db_sql[i]);
    return result;
}

sqlite3_stmt *sqlite_db_changes(struct sqlite_db *db)
{
    sqlite3_stmt *sql = NULL;

    if (sqlite3_prepare_v2(db->handle, db_sql[SQL_CHANGES], -1, &sql, NULL) != SQLITE_OK)
        (void)!sqlite_db_fail(db, "watch");
    return sql;
}

void sqlite_db_close(struct sqlite_db *db)
{
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(db->sql[i]);
    sqlite3_close(db->handle);
}
