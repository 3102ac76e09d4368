/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies, encoded.
 */
#include "front/nbd/nbd_reply.h"

#include "base/error.h"
#include "front/nbd/be.h"
#include "front/nbd/nbd_protocol.h"

static uint8_t *structured(uint8_t *to, bool done, uint32_t type, uint64_t cookie, size_t len)
{
    to = be_put_u32(to, NBD_MAGIC_STRUCTURED_REPLY);
    to = be_put_u16(to, done ? NBD_REPLY_FLAG_DONE : 0);
    to = be_put_u16(to, (uint16_t)type);
    to = be_put_u64(to, cookie);
    return be_put_u32(to, (uint32_t)len);
}

size_t nbd_reply_simple(uint8_t *to, uint64_t cookie, enum nbd_error error)
{
    uint8_t *at = be_put_u32(to, NBD_MAGIC_SIMPLE_REPLY);

    at = be_put_u32(at, error);
    at = be_put_u64(at, cookie);
    return (size_t)(at - to);
}

size_t nbd_reply_data(uint8_t *to, uint64_t cookie, bool done, uint64_t offset, uint32_t len)
{
    uint8_t *at = structured(to, done, NBD_REPLY_TYPE_OFFSET_DATA, cookie, 8 + (size_t)len);

    at = be_put_u64(at, offset);
    return (size_t)(at - to);
}

size_t nbd_reply_hole(uint8_t *to, uint64_t cookie, bool done, uint64_t offset, uint32_t len)
{
    uint8_t *at = structured(to, done, NBD_REPLY_TYPE_OFFSET_HOLE, cookie, 12);

    at = be_put_u64(at, offset);
    at = be_put_u32(at, len);
    return (size_t)(at - to);
}

size_t nbd_reply_done(uint8_t *to, uint64_t cookie)
{
    return (size_t)(structured(to, true, NBD_REPLY_TYPE_NONE, cookie, 0) - to);
}

size_t nbd_reply_error(uint8_t *to, uint64_t cookie, enum nbd_error error, const char *text)
{
    size_t len = MIN(strlen(text), (size_t)200);
    uint8_t *at = structured(to, true, NBD_REPLY_TYPE_ERROR, cookie, 6 + len);

    at = be_put_u32(at, error);
    at = be_put_u16(at, (uint16_t)len);
    memcpy(at, text, len);
    return (size_t)(at + len - to);
}

size_t nbd_reply_status(uint8_t *to, uint64_t cookie, const struct nbd_extent *extents, uint32_t count)
{
    ASSERT(count <= NBD_REPLY_EXTENTS_MAX);
    uint8_t *at = structured(to, true, NBD_REPLY_TYPE_BLOCK_STATUS, cookie, 4 + (size_t)count * 8);

    at = be_put_u32(at, NBD_CONTEXT_ID);
    for (uint32_t i = 0; i < count; i++) {
        at = be_put_u32(at, extents[i].len);
        at = be_put_u32(at, extents[i].written ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO);
    }
    return (size_t)(at - to);
}

enum nbd_error nbd_error_from(int result, enum nbd_command_type type)
{
    switch (-result) {
    case 0:
        return NBD_OK;
    case ERR_READ_ONLY:
    case ERR_DENIED:
        return NBD_EPERM;
    case ERR_NO_MEMORY:
        return NBD_ENOMEM;
    case ERR_NO_SPACE:
    case ERR_NO_RECORDS:
        return NBD_ENOSPC;
    case ERR_RANGE:
        return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL;
    case ERR_INVALID:
        return NBD_EINVAL;
    case ERR_UNSUPPORTED:
        return NBD_ENOTSUP;
    case ERR_FENCED:
    case ERR_STALE_GENERATION:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}
