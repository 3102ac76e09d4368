/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of operating errors: name, number on the wire, errno class, text for people.
 *
 * Functions that can fail return int: 0, or the negative of a code of this table. The numbers travel in
 * replies and so are never changed or reused. A bug is not an error: it asserts.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/base.h"

/*        name            no  errno          text */
#define ERROR_TABLE(X)                                                                                            \
    X(ERR_IO,              1, EIO,           "input/output error")                                                \
    X(ERR_NO_MEMORY,       2, ENOMEM,        "out of memory")                                                     \
    X(ERR_INVALID,         3, EINVAL,        "invalid argument")                                                  \
    X(ERR_RANGE,           4, EINVAL,        "outside of the image")                                              \
    X(ERR_TIMEOUT,         5, ETIMEDOUT,     "timed out")                                                         \
    X(ERR_CANCELLED,       6, ECANCELED,     "cancelled")                                                         \
    X(ERR_RETRY,           7, EAGAIN,        "not possible now, try again")                                       \
    X(ERR_BUSY,            8, EBUSY,         "busy")                                                              \
    X(ERR_NO_SPACE,        9, ENOSPC,        "no space left on an OSD of the placement group")                    \
    X(ERR_NOT_FOUND,      10, ENOENT,        "not found")                                                         \
    X(ERR_EXISTS,         11, EEXIST,        "exists already")                                                    \
    X(ERR_DENIED,         12, EPERM,         "not permitted")                                                     \
    X(ERR_READ_ONLY,      13, EROFS,         "opened read-only")                                                  \
    X(ERR_PROTOCOL,       14, EPROTO,        "malformed message")                                                 \
    X(ERR_VERSION,        15, EPROTO,        "version mismatch")                                                  \
    X(ERR_CLUSTER,        16, EINVAL,        "belongs to another cluster")                                        \
    X(ERR_IDENTITY,       17, EINVAL,        "identity does not match")                                           \
    X(ERR_ROLLED_BACK,    18, ESTALE,        "start counter went backwards: a restored copy")                     \
    X(ERR_CHECKSUM,       19, EIO,           "checksum mismatch")                                                 \
    X(ERR_DAMAGED,        20, EIO,           "damaged on this replica")                                           \
    X(ERR_FORMAT,         21, EINVAL,        "not a fastblock device, or damaged")                                \
    X(ERR_NOT_LEADER,     22, EAGAIN,        "not the leader of the placement group")                             \
    X(ERR_STALE_TERM,     23, EAGAIN,        "aimed at another term")                                             \
    X(ERR_STALE_GENERATION,24, ESTALE,       "the image changed (resized or removed) since it was opened")        \
    X(ERR_NOT_ATTACHED,   25, EAGAIN,        "the placement group does not know this writer yet")                 \
    X(ERR_FENCED,         26, ESHUTDOWN,     "fenced: another writer took the image over")                        \
    X(ERR_WRITER_EXISTS,  27, EBUSY,         "the image is open for writing elsewhere")                           \
    X(ERR_WRONG_PG,       28, EAGAIN,        "the object does not belong to this placement group")                \
    X(ERR_NO_PG,          29, EAGAIN,        "this shard has no replica of the placement group")                  \
    X(ERR_NO_MONITOR,     30, EHOSTUNREACH,  "no monitor answers")                                                \
    X(ERR_UNREACHABLE,    31, EHOSTUNREACH,  "cannot connect")                                                    \
    X(ERR_CLOSED,         32, ECONNRESET,    "connection closed")                                                 \
    X(ERR_TOO_LARGE,      33, E2BIG,         "larger than the limit")                                             \
    X(ERR_TOO_SMALL,      34, EINVAL,        "too small")                                                         \
    X(ERR_TOO_FEW_OSDS,   35, EINVAL,        "not enough OSDs for the replicas asked for")                        \
    X(ERR_NOT_EMPTY,      36, ENOTEMPTY,     "not empty")                                                         \
    X(ERR_CONFLICT,       37, EAGAIN,        "changed by someone else meanwhile")                                 \
    X(ERR_STOPPED,        38, EIO,           "the shard has taken itself out of service after a device error")    \
    X(ERR_UNSUPPORTED,    39, ENOTSUP,       "not supported")                                                     \
    X(ERR_RECOVERING,     40, EAGAIN,        "the replica is recovering")                                         \
    X(ERR_COMPACTED,      41, EAGAIN,        "the log no longer reaches back that far")                           \
    X(ERR_LOCKED,         42, EBUSY,         "in use by another process")                                         \
    X(ERR_BEHIND,         43, ESTALE,        "the monitor's map is older than the cluster's: restored from a backup?") \
    X(ERR_OTHER_MONITOR,  44, EAGAIN,        "another monitor leads")                                             \
    X(ERR_PAUSED,         45, EAGAIN,        "the cluster is paused: reads and writes wait (cluster unset pause)")   \
    X(ERR_NO_RECORDS,     46, ENOSPC,        "an OSD of the placement group has no place for one more image: remove " \
                                             "images, or use a pool with fewer placement groups or larger OSDs") \
    X(ERR_NO_FILES,       47, EMFILE,        "too many open files: raise the limit (ulimit -n, or LimitNOFILE= of a " \
                                             "service)")                                                           \
    X(ERR_DEVICE_FULL,    48, ENOSPC,        "no space left below it: its device is a file on a full file system, or "  \
                                             "a thin volume of a full pool; make room there and restart the OSD")

enum error_code {
#define X(name, number, class, text) name = number,
    ERROR_TABLE(X)
#undef X
};

/* All take a result as functions return it (0 or negative); unknown numbers get a generic answer. */
const char *error_name(int result);  /* "ERR_TIMEOUT"; "OK" for 0 */
const char *error_text(int result);  /* "timed out" */
/* The same of an address that cannot be listened on. */
const char *error_listen_text(int result);
int error_errno(int result);         /* ETIMEDOUT (positive); 0 for 0 */
int error_from_errno(int errno_value); /* nearest code of the table, negative; ERR_IO when there is none */

#endif
