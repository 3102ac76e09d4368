/* SPDX-License-Identifier: Apache-2.0
 *
 * The file of the metadata store on SQLite (sqlite_meta.c), and its statements. It holds the keys with their
 * revisions, the changes of the last revisions for watches, and numbers by name. One thread: the core's.
 */
#ifndef BACKEND_SQLITE_DB_H
#define BACKEND_SQLITE_DB_H

#include <sqlite3.h>

#include "rt/core.h"
#include "rt/meta.h"

enum sqlite_statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_RANGE,
    SQL_REVISION_OF,
    SQL_PUT,
    SQL_DELETE,
    SQL_RECORD,
    SQL_CHANGES,
    SQL_TRIM,
    SQL_SET,
    SQL_GET,
    SQL_COUNT,
};

struct sqlite_db {
    struct core *core; /* for the log */
    sqlite3 *handle;
    sqlite3_stmt *sql[SQL_COUNT];
    int failed; /* how the last failure ended; 0 since a change was made */
};

/* Opens the file, or makes it, under an exclusive lock. `db` is zeroed, and is closed also after a failure.
 * ERR_FORMAT, ERR_VERSION: it is not one of ours; ERR_LOCKED: another process has it; ERR_DENIED,
 * ERR_READ_ONLY, ERR_NO_SPACE, ERR_NO_MEMORY, ERR_IO. */
MUST_CHECK int sqlite_db_open(struct sqlite_db *db, struct core *core, const char *path);
void sqlite_db_close(struct sqlite_db *db);

/* Logs `what` with what SQLite says of its last failure, once as long as it fails in the same way, and
 * returns the error that it means. */
MUST_CHECK int sqlite_db_fail(struct sqlite_db *db, const char *what);

/* Parameters are numbered from 1, and lie with the caller until the statement has run. */
void sqlite_db_bind_text(struct sqlite_db *db, enum sqlite_statement statement, int at, const char *text);
void sqlite_db_bind_u64(struct sqlite_db *db, enum sqlite_statement statement, int at, uint64_t value);
void sqlite_db_bind_value(struct sqlite_db *db, enum sqlite_statement statement, int at,
                          const struct meta_change *change);
/* Runs a statement that answers no rows. */
MUST_CHECK int sqlite_db_run(struct sqlite_db *db, enum sqlite_statement statement);
/* The one number that a statement answers for `key`; 0 when it answers none. */
MUST_CHECK int sqlite_db_get_u64(struct sqlite_db *db, enum sqlite_statement statement, const char *key,
                                 uint64_t *ret_value);
MUST_CHECK int sqlite_db_set(struct sqlite_db *db, const char *name, uint64_t value);
/* SQL_CHANGES as a statement of its own, for who reads while others may; sqlite3_finalize() ends it. NULL: it
 * failed, which is logged. */
sqlite3_stmt *sqlite_db_changes(struct sqlite_db *db);

#endif
