/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies to commands, encoded: each function writes the bytes that stand before the data, if there is any,
 * and returns how many.
 */
#ifndef FRONT_NBD_NBD_REPLY_H
#define FRONT_NBD_NBD_REPLY_H

#include "base/base.h"
#include "front/nbd/nbd_format.h"

#define NBD_REPLY_EXTENTS_MAX 256
#define NBD_REPLY_HEAD_MAX    (NBD_STRUCTURED_REPLY_SIZE + 4 + NBD_REPLY_EXTENTS_MAX * 8)

struct nbd_extent {
    uint32_t len;
    bool written;
};

/* Followed by the data of a read that succeeded. */
size_t nbd_reply_simple(uint8_t *to, uint64_t cookie, enum nbd_error error);
/* Structured: `done` marks the last of a command's. Followed by `len` bytes of data. */
size_t nbd_reply_data(uint8_t *to, uint64_t cookie, bool done, uint64_t offset, uint32_t len);
size_t nbd_reply_hole(uint8_t *to, uint64_t cookie, bool done, uint64_t offset, uint32_t len);
/* Nothing more to come. */
size_t nbd_reply_done(uint8_t *to, uint64_t cookie);
size_t nbd_reply_error(uint8_t *to, uint64_t cookie, enum nbd_error error, const char *text);
/* `count` up to NBD_REPLY_EXTENTS_MAX. */
size_t nbd_reply_status(uint8_t *to, uint64_t cookie, const struct nbd_extent *extents, uint32_t count);

/* The nearest error that NBD knows for a result of ours (0 or negative). */
enum nbd_error nbd_error_from(int result, enum nbd_command_type type);

#endif
