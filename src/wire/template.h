/* SPDX-License-Identifier: Apache-2.0
 *
 * The template codec's tools, for the files of this room only.
 *
 * A hot message is a run of fixed-width fields in the order of their numbers, then at most one repeated
 * field. Writing is stores at increasing addresses. Reading loads the same run and gathers in `wrong` every
 * bit in which a tag byte differs from the template's; one test at the end tells whether the bytes were the
 * template at all. If not, nothing is concluded from that: the message goes to protobuf-c, which also finds
 * the error to report.
 */
#ifndef WIRE_TEMPLATE_H
#define WIRE_TEMPLATE_H

#include "base/base.h"
#include "base/le.h"
#include "proto/hot.pb-c.h"
#include "wire/cold.h"

/* Field numbers up to 15 have one tag byte. */
#define TAG_U64(field) ((uint8_t)((field) << 3 | 1))
#define TAG_U32(field) ((uint8_t)((field) << 3 | 5))
#define TAG_LEN(field) ((uint8_t)((field) << 3 | 2))
#define SIZE_U64       9u
#define SIZE_U32       5u

/* What protobuf-c may use for one hot message; the first part of it is on the stack. */
#define SLOW_STACK_BYTES 2048
#define SLOW_MEMORY_MAX  (256u << 10)

/* ---- writing ---- */

static inline uint8_t *put_u64(uint8_t *at, uint8_t field, uint64_t value)
{
    at[0] = TAG_U64(field);
    le_store_u64(at + 1, value);
    return at + SIZE_U64;
}

static inline uint8_t *put_u32(uint8_t *at, uint8_t field, uint32_t value)
{
    at[0] = TAG_U32(field);
    le_store_u32(at + 1, value);
    return at + SIZE_U32;
}

/* Lengths of repeated fields stay below 2^21: one byte to three. */
static inline size_t put_len_size(size_t len)
{
    ASSERT(len < 1u << 21);
    return 1 + (len < 1u << 7 ? 1 : len < 1u << 14 ? 2 : 3);
}

static inline uint8_t *put_len(uint8_t *at, uint8_t field, size_t len)
{
    *at++ = TAG_LEN(field);
    for (; len >= 1u << 7; len >>= 7)
        *at++ = (uint8_t)(len | 0x80);
    *at++ = (uint8_t)len;
    return at;
}

/* A packed array; nothing at all when it is empty. */
static inline size_t put_array_u32_size(uint32_t count)
{
    return count ? put_len_size(4 * (size_t)count) + 4 * (size_t)count : 0;
}

static inline uint8_t *put_array_u32(uint8_t *at, uint8_t field, const uint32_t *values, uint32_t count)
{
    if (!count)
        return at;
    at = put_len(at, field, 4 * (size_t)count);
    for (uint32_t i = 0; i < count; i++)
        le_store_u32(at + 4 * (size_t)i, values[i]);
    return at + 4 * (size_t)count;
}

static inline size_t put_array_u64_size(uint32_t count)
{
    return count ? put_len_size(8 * (size_t)count) + 8 * (size_t)count : 0;
}

static inline uint8_t *put_array_u64(uint8_t *at, uint8_t field, const uint64_t *values, uint32_t count)
{
    if (!count)
        return at;
    at = put_len(at, field, 8 * (size_t)count);
    for (uint32_t i = 0; i < count; i++)
        le_store_u64(at + 8 * (size_t)i, values[i]);
    return at + 8 * (size_t)count;
}

/* ---- reading ---- */

struct template
{
    const uint8_t *at, *end;
    uint8_t wrong; /* 0: all tags so far were the template's */
};

static inline size_t template_left(const struct template *t)
{
    return (size_t)(t->end - t->at);
}

/* The caller has made sure that the field's bytes are there. */
static inline uint64_t take_u64(struct template *t, uint8_t field)
{
    uint64_t value = le_load_u64(t->at + 1);
    t->wrong |= t->at[0] ^ TAG_U64(field);
    t->at += SIZE_U64;
    return value;
}

static inline uint32_t take_u32(struct template *t, uint8_t field)
{
    uint32_t value = le_load_u32(t->at + 1);
    t->wrong |= t->at[0] ^ TAG_U32(field);
    t->at += SIZE_U32;
    return value;
}

/* Tag and length of a length-delimited field all of whose bytes are there. */
static inline bool take_len(struct template *t, uint8_t field, size_t *ret_len)
{
    if (template_left(t) < 2 || t->at[0] != TAG_LEN(field))
        return false;
    size_t len = t->at[1] & 0x7f;
    bool more = t->at[1] & 0x80;
    t->at += 2;
    for (uint32_t shift = 7; more; shift += 7) {
        if (template_left(t) < 1 || shift > 14)
            return false;
        more = *t->at & 0x80;
        len |= (size_t)(*t->at++ & 0x7f) << shift;
    }
    *ret_len = len;
    return len <= template_left(t);
}

/* The packed array that ends the message, if anything is left. */
static inline bool take_array_u32(struct template *t, uint8_t field, uint32_t max, uint32_t *ret_values,
                                  uint32_t *ret_count)
{
    size_t len = 0;

    if (template_left(t) &&
        (!take_len(t, field, &len) || len != template_left(t) || len % 4 || len / 4 > max))
        return false;
    *ret_count = (uint32_t)(len / 4);
    for (uint32_t i = 0; i < *ret_count; i++)
        ret_values[i] = le_load_u32(t->at + 4 * (size_t)i);
    return true;
}

static inline bool take_array_u64(struct template *t, uint8_t field, uint32_t max, uint64_t *ret_values,
                                  uint32_t *ret_count)
{
    size_t len = 0;

    if (template_left(t) &&
        (!take_len(t, field, &len) || len != template_left(t) || len % 8 || len / 8 > max))
        return false;
    *ret_count = (uint32_t)(len / 8);
    for (uint32_t i = 0; i < *ret_count; i++)
        ret_values[i] = le_load_u64(t->at + 8 * (size_t)i);
    return true;
}

/* ---- the slow path ---- */

/* Decodes through protobuf-c: `fill` makes the struct of the message and returns its error. */
static inline int slow_decode(const ProtobufCMessageDescriptor *type, const uint8_t *src, size_t len,
                              int (*fill)(const void *message, void *context), void *context)
{
    _Alignas(16) uint8_t memory[SLOW_STACK_BYTES];
    struct wire_arena arena;
    void *message;

    wire_arena_init(&arena, memory, sizeof(memory), SLOW_MEMORY_MAX);
    int error = wire_cold_decode(type, src, len, &arena, &message);
    if (!error)
        error = fill(message, context);
    wire_arena_fini(&arena);
    return error;
}

#endif
