/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages between clients and shards that move data: WRITE and READ, with their replies.
 */
#include "wire/wire.h"

#include <string.h>

#include "base/error.h"
#include "wire/template.h"

/* A slow path's result: the struct, and where its array goes. */
struct slow {
    void *ret;
    uint32_t *ret_crc;
};

static int slow_crc(const uint32_t *crc, size_t count, uint32_t *ret_crc)
{
    if (count > WIRE_CRC_MAX)
        return -ERR_TOO_LARGE;
    if (count)
        memcpy(ret_crc, crc, count * sizeof(*crc));
    return 0;
}

/* ---- WriteRequest ---- */

#define WRITE_REQUEST_FIXED (6 * SIZE_U64 + 2 * SIZE_U32)

size_t wire_write_request_size(const struct wire_write_request *m)
{
    ASSERT(m->crc_count <= WIRE_CRC_MAX);
    return WRITE_REQUEST_FIXED + put_array_u32_size(m->crc_count);
}

size_t wire_write_request_encode(uint8_t *dst, const struct wire_write_request *m)
{
    uint8_t *at = dst;

    ASSERT(m->crc_count <= WIRE_CRC_MAX);
    at = put_u64(at, 1, m->pg);
    at = put_u64(at, 2, m->term);
    at = put_u64(at, 3, m->image);
    at = put_u64(at, 4, m->object);
    at = put_u64(at, 5, m->generation);
    at = put_u64(at, 6, m->incarnation);
    at = put_u32(at, 7, m->offset);
    at = put_u32(at, 8, m->length);
    at = put_array_u32(at, 9, m->crc, m->crc_count);
    return (size_t)(at - dst);
}

static int write_request_fill(const void *message, void *context)
{
    const Fb__WriteRequest *from = message;
    struct slow *slow = context;
    int error = slow_crc(from->crc, from->n_crc, slow->ret_crc);

    if (error)
        return error;
    *(struct wire_write_request *)slow->ret = (struct wire_write_request){
        .pg = from->pg,
        .term = from->term,
        .image = from->image,
        .object = from->object,
        .generation = from->generation,
        .incarnation = from->incarnation,
        .offset = from->offset,
        .length = from->length,
        .crc_count = (uint32_t)from->n_crc,
        .crc = slow->ret_crc,
    };
    return 0;
}

int wire_write_request_decode(const uint8_t *src, size_t len, struct wire_write_request *ret,
                              uint32_t ret_crc[WIRE_CRC_MAX])
{
    struct template t = {.at = src, .end = src + len};

    if (len >= WRITE_REQUEST_FIXED) {
        struct wire_write_request m;
        m.pg = take_u64(&t, 1);
        m.term = take_u64(&t, 2);
        m.image = take_u64(&t, 3);
        m.object = take_u64(&t, 4);
        m.generation = take_u64(&t, 5);
        m.incarnation = take_u64(&t, 6);
        m.offset = take_u32(&t, 7);
        m.length = take_u32(&t, 8);
        m.crc = ret_crc;
        if (!t.wrong && take_array_u32(&t, 9, WIRE_CRC_MAX, ret_crc, &m.crc_count)) {
            *ret = m;
            return 0;
        }
    }
    return slow_decode(&fb__write_request__descriptor, src, len, write_request_fill,
                       &(struct slow){ret, ret_crc});
}

/* ---- WriteReply ---- */

#define WRITE_REPLY_FIXED (SIZE_U64 + SIZE_U32)

size_t wire_write_reply_size(const struct wire_write_reply *m)
{
    return WRITE_REPLY_FIXED;
}

size_t wire_write_reply_encode(uint8_t *dst, const struct wire_write_reply *m)
{
    uint8_t *at = dst;

    at = put_u64(at, 1, m->term);
    at = put_u32(at, 2, m->leader);
    return (size_t)(at - dst);
}

static int write_reply_fill(const void *message, void *context)
{
    const Fb__WriteReply *from = message;

    *(struct wire_write_reply *)context =
        (struct wire_write_reply){.term = from->term, .leader = from->leader};
    return 0;
}

int wire_write_reply_decode(const uint8_t *src, size_t len, struct wire_write_reply *ret)
{
    struct template t = {.at = src, .end = src + len};

    if (len == WRITE_REPLY_FIXED) {
        struct wire_write_reply m;
        m.term = take_u64(&t, 1);
        m.leader = take_u32(&t, 2);
        if (!t.wrong) {
            *ret = m;
            return 0;
        }
    }
    return slow_decode(&fb__write_reply__descriptor, src, len, write_reply_fill, ret);
}

/* ---- ReadRequest ---- */

#define READ_REQUEST_FIXED (6 * SIZE_U64 + 2 * SIZE_U32)

size_t wire_read_request_size(const struct wire_read_request *m)
{
    return READ_REQUEST_FIXED;
}

size_t wire_read_request_encode(uint8_t *dst, const struct wire_read_request *m)
{
    uint8_t *at = dst;

    at = put_u64(at, 1, m->pg);
    at = put_u64(at, 2, m->term);
    at = put_u64(at, 3, m->image);
    at = put_u64(at, 4, m->object);
    at = put_u64(at, 5, m->generation);
    at = put_u32(at, 6, m->first_block);
    at = put_u32(at, 7, m->block_count);
    at = put_u64(at, 8, m->epoch);
    return (size_t)(at - dst);
}

static int read_request_fill(const void *message, void *context)
{
    const Fb__ReadRequest *from = message;

    *(struct wire_read_request *)context = (struct wire_read_request){
        .pg = from->pg,
        .term = from->term,
        .image = from->image,
        .object = from->object,
        .generation = from->generation,
        .first_block = from->first_block,
        .block_count = from->block_count,
        .epoch = from->epoch,
    };
    return 0;
}

int wire_read_request_decode(const uint8_t *src, size_t len, struct wire_read_request *ret)
{
    struct template t = {.at = src, .end = src + len};

    if (len == READ_REQUEST_FIXED) {
        struct wire_read_request m;
        m.pg = take_u64(&t, 1);
        m.term = take_u64(&t, 2);
        m.image = take_u64(&t, 3);
        m.object = take_u64(&t, 4);
        m.generation = take_u64(&t, 5);
        m.first_block = take_u32(&t, 6);
        m.block_count = take_u32(&t, 7);
        m.epoch = take_u64(&t, 8);
        if (!t.wrong) {
            *ret = m;
            return 0;
        }
    }
    return slow_decode(&fb__read_request__descriptor, src, len, read_request_fill, ret);
}

/* ---- ReadReply ---- */

#define READ_REPLY_FIXED (SIZE_U64 + SIZE_U32)

size_t wire_read_reply_size(const struct wire_read_reply *m)
{
    ASSERT(m->crc_count <= WIRE_CRC_MAX);
    return READ_REPLY_FIXED + put_array_u32_size(m->crc_count);
}

size_t wire_read_reply_encode(uint8_t *dst, const struct wire_read_reply *m)
{
    uint8_t *at = dst;

    ASSERT(m->crc_count <= WIRE_CRC_MAX);
    at = put_u64(at, 1, m->term);
    at = put_u32(at, 2, m->leader);
    at = put_array_u32(at, 3, m->crc, m->crc_count);
    return (size_t)(at - dst);
}

static int read_reply_fill(const void *message, void *context)
{
    const Fb__ReadReply *from = message;
    struct slow *slow = context;
    int error = slow_crc(from->crc, from->n_crc, slow->ret_crc);

    if (error)
        return error;
    *(struct wire_read_reply *)slow->ret = (struct wire_read_reply){
        .term = from->term,
        .leader = from->leader,
        .crc_count = (uint32_t)from->n_crc,
        .crc = slow->ret_crc,
    };
    return 0;
}

int wire_read_reply_decode(const uint8_t *src, size_t len, struct wire_read_reply *ret,
                           uint32_t ret_crc[WIRE_CRC_MAX])
{
    struct template t = {.at = src, .end = src + len};

    if (len >= READ_REPLY_FIXED) {
        struct wire_read_reply m;
        m.term = take_u64(&t, 1);
        m.leader = take_u32(&t, 2);
        m.crc = ret_crc;
        if (!t.wrong && take_array_u32(&t, 3, WIRE_CRC_MAX, ret_crc, &m.crc_count)) {
            *ret = m;
            return 0;
        }
    }
    return slow_decode(&fb__read_reply__descriptor, src, len, read_reply_fill, &(struct slow){ret, ret_crc});
}
