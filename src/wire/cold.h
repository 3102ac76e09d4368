/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages off the hot path (proto/cold.proto), through protobuf-c, with bounds on what a message may
 * cost.
 *
 * Decoding takes all its memory from a bump arena: first from memory of the caller, if there is any, then
 * from the allocator, never more than the arena's limit in all. Nothing is given back before the whole arena
 * is, so the limit also bounds the work that a hostile message can cause. No message type contains itself, so
 * the depth of a decoded message is that of its declaration, whatever the bytes say.
 *
 * Strings are whatever bytes the sender wrote, ended by a NUL: not necessarily UTF-8, and cut at the first
 * NUL for C functions. `bytes` fields of length 0 may have a NULL pointer.
 */
#ifndef WIRE_COLD_H
#define WIRE_COLD_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "proto/cold.pb-c.h"

/* Enough for any message of FRAME_BODY_MAX that our own encoder wrote. */
#define WIRE_ARENA_MAX (24u << 20)

struct wire_arena_chunk;

struct wire_arena {
    ProtobufCAllocator allocator;
    uint8_t *at, *end;               /* the rest of the piece in use */
    struct wire_arena_chunk *chunks; /* from the allocator */
    size_t used_bytes, max_bytes;
    bool exceeded; /* something was refused for the limit's sake */
};

/* `memory` (may be NULL) is the caller's and is used first; it counts towards `max_bytes`. With max_bytes <=
 * memory_size the allocator is never called. */
void wire_arena_init(struct wire_arena *arena, void *memory, size_t memory_size, size_t max_bytes);
/* Frees everything that was decoded into the arena. */
void wire_arena_fini(struct wire_arena *arena);
/* `len` zeroed bytes, aligned for any type, or NULL. */
void *wire_arena_alloc(struct wire_arena *arena, size_t len);

/* Decodes a message of the given type: `ret_message` points to a pointer to its struct,
 *     Fb__Hello *hello;
 *     error = wire_cold_decode(&fb__hello__descriptor, body, body_len, &arena, &hello);
 * and the message lives as long as the arena. Missing fields have their defaults; unknown ones are skipped.
 * The meaning of the fields is not checked. ERR_PROTOCOL; ERR_TOO_LARGE: `len` beyond FRAME_BODY_MAX, or the
 * arena's limit. */
MUST_CHECK int wire_cold_decode(const ProtobufCMessageDescriptor *type, const uint8_t *src, size_t len,
                                struct wire_arena *arena, void *ret_message);

/* Encodes `&message->base` into at most `cap` bytes. ERR_TOO_LARGE. */
MUST_CHECK int wire_cold_encode(const ProtobufCMessage *message, uint8_t *dst, size_t cap, uint32_t *ret_len);
/* How many bytes that takes. */
size_t wire_cold_size(const ProtobufCMessage *message);

#endif
