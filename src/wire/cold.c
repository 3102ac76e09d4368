/* SPDX-License-Identifier: Apache-2.0
 *
 * The bump arena, and protobuf-c called with it. Memory is handed out zeroed, because protobuf-c's clean-up
 * after a failure walks structures that it has not filled yet; freeing is a no-op, so that walk is harmless.
 */
#include "wire/cold.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "wire/frame.h"

#define CHUNK_BYTES_MIN 4096u
#define ARENA_ALIGN     16u

struct wire_arena_chunk {
    struct wire_arena_chunk *next;
    uint64_t pad; /* keeps what follows aligned */
};
_Static_assert(sizeof(struct wire_arena_chunk) % ARENA_ALIGN == 0,
               "what follows a chunk's header is aligned");

static void *allocator_alloc(void *arena, size_t len)
{
    return wire_arena_alloc(arena, len);
}

static void allocator_free(void *arena, void *memory)
{
}

void wire_arena_init(struct wire_arena *arena, void *memory, size_t memory_size, size_t max_bytes)
{
    *arena = (struct wire_arena){
        .allocator = {.alloc = allocator_alloc, .free = allocator_free, .allocator_data = arena},
        .max_bytes = max_bytes,
    };
    if (!memory)
        return;
    uintptr_t start = ALIGN_UP((uintptr_t)memory, (uintptr_t)ARENA_ALIGN);
    size_t lost = start - (uintptr_t)memory;
    if (lost < memory_size) {
        arena->at = (uint8_t *)memory + lost;
        arena->end = (uint8_t *)memory + memory_size;
    }
}

void wire_arena_fini(struct wire_arena *arena)
{
    while (arena->chunks) {
        struct wire_arena_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
    arena->at = arena->end = NULL;
}

void *wire_arena_alloc(struct wire_arena *arena, size_t len)
{
    if (len > arena->max_bytes) {
        arena->exceeded = true;
        return NULL;
    }
    len = ALIGN_UP(MAX(len, (size_t)1), (size_t)ARENA_ALIGN);
    if (len > arena->max_bytes - arena->used_bytes) {
        arena->exceeded = true;
        return NULL;
    }
    if (len > (size_t)(arena->end - arena->at)) {
        /* Chunks double in size, so that their number stays small. They are asked for within the limit only.
         */
        size_t left = arena->max_bytes - arena->used_bytes;
        size_t chunk_bytes = MAX(MIN(MAX(arena->used_bytes, (size_t)CHUNK_BYTES_MIN), left), len);
        struct wire_arena_chunk *chunk = malloc(sizeof(*chunk) + chunk_bytes);
        if (!chunk)
            return NULL;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->at = (uint8_t *)(chunk + 1);
        arena->end = arena->at + chunk_bytes;
    }
    void *memory = arena->at;
    arena->at += len;
    arena->used_bytes += len;
    return memset(memory, 0, len);
}

int wire_cold_decode(const ProtobufCMessageDescriptor *type, const uint8_t *src, size_t len,
                     struct wire_arena *arena, void *ret_message)
{
    if (len > FRAME_BODY_MAX)
        return -ERR_TOO_LARGE;
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &arena->allocator, len, src);
    if (!message)
        return arena->exceeded ? -ERR_TOO_LARGE : -ERR_PROTOCOL;
    memcpy(ret_message, &message, sizeof(message));
    return 0;
}

size_t wire_cold_size(const ProtobufCMessage *message)
{
    return protobuf_c_message_get_packed_size(message);
}

int wire_cold_encode(const ProtobufCMessage *message, uint8_t *dst, size_t cap, uint32_t *ret_len)
{
    size_t len = protobuf_c_message_get_packed_size(message);

    if (len > cap || len > FRAME_BODY_MAX)
        return -ERR_TOO_LARGE;
    *ret_len = (uint32_t)protobuf_c_message_pack(message, dst);
    return 0;
}
