/* SPDX-License-Identifier: Apache-2.0
 *
 * The hot messages (proto/hot.proto) as C structs, with the template codec.
 *
 * Encoding writes every field, in order, with fixed widths: wire_X_encode(dst, m) fills wire_X_size(m) bytes
 * and returns that number. Decoding wire_X_decode() first tries the template (tag bytes checked, fields
 * loaded); when a tag is not where the template has it, the bytes go through protobuf-c, which accepts any
 * valid encoding of the message, and the struct is filled from that. Either way every count is checked
 * against its limit. Errors: ERR_PROTOCOL, ERR_TOO_LARGE.
 *
 * Arrays are decoded into memory of the caller; nothing here allocates but the slow path. The other messages
 * (proto/cold.proto) are used through their protobuf-c types (Fb__Hello and so on) with wire/cold.h, which
 * bounds their size.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include "base/base.h"
#include "base/entry.h"

#define WIRE_CRC_MAX        (IO_BLOCKS_MAX + 1) /* an unaligned 1 MiB write touches one block more */
#define WIRE_ENTRIES_MAX    64                  /* in one AppendRequest */
#define WIRE_APPEND_CRC_MAX 512                 /* of all entries of one AppendRequest: FRAME_PAYLOAD_MAX */
#define WIRE_GROUPS_MAX     512                 /* changes in one Heartbeat */
#define WIRE_REFUSED_MAX    16384               /* groups in the answer: all that a shard can have */

struct wire_write_request {
    uint64_t pg, term, image, object, generation, incarnation;
    uint32_t offset, length; /* bytes within the object */
    uint32_t crc_count;      /* one for each piece between block boundaries */
    const uint32_t *crc;     /* encode: the caller's; decode: into `ret_crc` */
};

struct wire_write_reply {
    uint64_t term;
    uint32_t leader;
};

struct wire_read_request {
    uint64_t pg, term, image, object, generation;
    uint32_t first_block, block_count;
    uint64_t epoch; /* the newest at which the monitor said that the image exists */
};

struct wire_read_reply {
    uint64_t term;
    uint32_t leader;
    uint32_t crc_count;
    const uint32_t *crc;
};

struct wire_append_request {
    uint64_t pg;
    uint32_t from, to;
    uint64_t term, prev_index, prev_term, commit, sent_ns;
    bool patient; /* nobody waits for the answer: it may leave with the next frame to the leader */
    uint32_t entry_count;
    const struct entry *entries; /* entry i has index prev_index + 1 + i */
};

enum {
    APPEND_REJECT = 1,
    APPEND_RECOVERING = 2,
    APPEND_NO_MEMORY = 4,
    APPEND_NO_ROOM = 8,
    APPEND_NO_RECORDS = 16, /* few places are left for records of more images */
    APPEND_LACKS_ROOM = 32, /* it recovers, and has no room for what it lacks */
    APPEND_DAMAGED = 64,    /* it recovers, because its log cannot be proven whole */
};

struct wire_append_reply {
    uint64_t pg;
    uint32_t from, to;
    uint64_t term, match, hint_term, sent_ns, free_bytes;
    uint32_t flags;
    uint64_t complete; /* the follower's pages and records hold everything up to here; 0: it recovers */
};

struct wire_heartbeat_group {
    uint64_t pg, term, commit;
    uint32_t from, to;
};

struct wire_heartbeat {
    uint64_t incarnation, seq, sent_ns, base_version, set_version;
    uint32_t rest_ms;
    uint32_t group_count;
    const struct wire_heartbeat_group *groups;
};

struct wire_heartbeat_reply {
    uint64_t incarnation, seq, sent_ns, set_version;
    uint32_t refused_count;
    const uint64_t *refused;
};

size_t wire_write_request_size(const struct wire_write_request *m);
size_t wire_write_request_encode(uint8_t *dst, const struct wire_write_request *m);
MUST_CHECK int wire_write_request_decode(const uint8_t *src, size_t len, struct wire_write_request *ret,
                                         uint32_t ret_crc[WIRE_CRC_MAX]);

size_t wire_write_reply_size(const struct wire_write_reply *m);
size_t wire_write_reply_encode(uint8_t *dst, const struct wire_write_reply *m);
MUST_CHECK int wire_write_reply_decode(const uint8_t *src, size_t len, struct wire_write_reply *ret);

size_t wire_read_request_size(const struct wire_read_request *m);
size_t wire_read_request_encode(uint8_t *dst, const struct wire_read_request *m);
MUST_CHECK int wire_read_request_decode(const uint8_t *src, size_t len, struct wire_read_request *ret);

size_t wire_read_reply_size(const struct wire_read_reply *m);
size_t wire_read_reply_encode(uint8_t *dst, const struct wire_read_reply *m);
MUST_CHECK int wire_read_reply_decode(const uint8_t *src, size_t len, struct wire_read_reply *ret,
                                      uint32_t ret_crc[WIRE_CRC_MAX]);

/* `ret_crc` receives the checksums of all entries one after the other; the entries point into it. */
size_t wire_append_request_size(const struct wire_append_request *m);
size_t wire_append_request_encode(uint8_t *dst, const struct wire_append_request *m);
MUST_CHECK int wire_append_request_decode(const uint8_t *src, size_t len, struct wire_append_request *ret,
                                          struct entry ret_entries[WIRE_ENTRIES_MAX],
                                          uint32_t ret_crc[WIRE_APPEND_CRC_MAX]);

size_t wire_append_reply_size(const struct wire_append_reply *m);
size_t wire_append_reply_encode(uint8_t *dst, const struct wire_append_reply *m);
MUST_CHECK int wire_append_reply_decode(const uint8_t *src, size_t len, struct wire_append_reply *ret);

size_t wire_heartbeat_size(const struct wire_heartbeat *m);
size_t wire_heartbeat_encode(uint8_t *dst, const struct wire_heartbeat *m);
MUST_CHECK int wire_heartbeat_decode(const uint8_t *src, size_t len, struct wire_heartbeat *ret,
                                     struct wire_heartbeat_group ret_groups[WIRE_GROUPS_MAX]);

size_t wire_heartbeat_reply_size(const struct wire_heartbeat_reply *m);
size_t wire_heartbeat_reply_encode(uint8_t *dst, const struct wire_heartbeat_reply *m);
MUST_CHECK int wire_heartbeat_reply_decode(const uint8_t *src, size_t len, struct wire_heartbeat_reply *ret,
                                           uint64_t ret_refused[WIRE_REFUSED_MAX]);

/* Checks what a decoded entry claims, before anything is done with it: known type, blocks within the object,
 * count of checksums, a group that can be. 0 or ERR_PROTOCOL. */
MUST_CHECK int wire_entry_validate(const struct entry *e);

#endif
