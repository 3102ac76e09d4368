/* SPDX-License-Identifier: Apache-2.0
 *
 * Look-ups in the table of errors.
 */
#include "base/error.h"

#include <errno.h>

struct error_row {
    const char *name, *text;
    int class;
};

static const struct error_row error_rows[] = {
#define X(id, number, errno_class, words) [number] = {#id, words, errno_class},
    ERROR_TABLE(X)
#undef X
};

static const struct error_row *error_find(int result)
{
    static const struct error_row unknown = {"ERR_UNKNOWN", "unknown error", EIO};
    static const struct error_row ok = {"OK", "no error", 0};

    if (result == 0)
        return &ok;
    /* Numbers come from the wire too: any int is a legal argument. */
    if (result > 0 || result <= -(int)ARRAY_LEN(error_rows) || !error_rows[-result].name)
        return &unknown;
    return &error_rows[-result];
}

const char *error_name(int result)
{
    return error_find(result)->name;
}

const char *error_text(int result)
{
    return error_find(result)->text;
}

const char *error_listen_text(int result)
{
    return result == -ERR_UNREACHABLE ? "it is no address of this machine" : error_text(result);
}

int error_errno(int result)
{
    return error_find(result)->class;
}

int error_from_errno(int errno_value)
{
    static const struct {
        int from, to;
    } rows[] = {
        {ENOMEM, ERR_NO_MEMORY},
        {EMFILE, ERR_NO_FILES},
        {ENFILE, ERR_NO_FILES},
        {ENOBUFS, ERR_NO_MEMORY},
        {EINVAL, ERR_INVALID},
        {ENAMETOOLONG, ERR_INVALID},
        {ETIMEDOUT, ERR_TIMEOUT},
        {ETIME, ERR_TIMEOUT},
        {ECANCELED, ERR_CANCELLED},
        {EAGAIN, ERR_RETRY},
        {EINTR, ERR_RETRY},
        {EBUSY, ERR_BUSY},
        {ENOSPC, ERR_NO_SPACE},
        {EDQUOT, ERR_NO_SPACE},
        {ENOENT, ERR_NOT_FOUND},
        {ENOTDIR, ERR_NOT_FOUND},
        {ENXIO, ERR_NOT_FOUND},
        {ENODEV, ERR_NOT_FOUND},
        {EEXIST, ERR_EXISTS},
        {EADDRINUSE, ERR_EXISTS},
        {EPERM, ERR_DENIED},
        {EACCES, ERR_DENIED},
        {EROFS, ERR_READ_ONLY},
        {EPROTO, ERR_PROTOCOL},
        {ECONNREFUSED, ERR_UNREACHABLE},
        {EHOSTUNREACH, ERR_UNREACHABLE},
        {ENETUNREACH, ERR_UNREACHABLE},
        {EHOSTDOWN, ERR_UNREACHABLE},
        {ENETDOWN, ERR_UNREACHABLE},
        {EADDRNOTAVAIL, ERR_UNREACHABLE},
        {ECONNRESET, ERR_CLOSED},
        {EPIPE, ERR_CLOSED},
        {ECONNABORTED, ERR_CLOSED},
        {ENOTCONN, ERR_CLOSED},
        {ESHUTDOWN, ERR_CLOSED},
        {E2BIG, ERR_TOO_LARGE},
        {EFBIG, ERR_TOO_LARGE},
        {EMSGSIZE, ERR_TOO_LARGE},
        {ENOTEMPTY, ERR_NOT_EMPTY},
        {ENOTSUP, ERR_UNSUPPORTED},
        {ENOSYS, ERR_UNSUPPORTED},
    };

    if (errno_value == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].from == errno_value)
            return -rows[i].to;
    return -ERR_IO;
}
