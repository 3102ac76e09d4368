/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes the decoders of src/wire. The first byte chooses one: a hot message, the frame header, or a message
 * of proto/cold.proto. What a hot decoder accepts must be what protobuf-c makes of the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/error.h"
#include "proto/hot.pb-c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/wire/samples.h"
#include "wire/cold.h"
#include "wire/frame.h"

#define PACKED_MAX (512u << 10)

static const ProtobufCMessageDescriptor *const cold_types[] = {
    &fb__hello__descriptor,
    &fb__raft_message__descriptor,
    &fb__clear_request__descriptor,
    &fb__attach_request__descriptor,
    &fb__pg_reply__descriptor,
    &fb__block_status_reply__descriptor,
    &fb__pg_status_reply__descriptor,
    &fb__perf_request__descriptor,
    &fb__perf_reply__descriptor,
    &fb__recover_list_request__descriptor,
    &fb__recover_list_reply__descriptor,
    &fb__recover_read_reply__descriptor,
    &fb__scrub_request__descriptor,
    &fb__scrub_reply__descriptor,
    &fb__mon_request__descriptor,
    &fb__mon_reply__descriptor,
    &fb__mon_event__descriptor,
};

enum { CHOICES = SAMPLE_TYPES + 1 + (int)ARRAY_LEN(cold_types) };

static struct sample first, second;
static uint8_t packed[PACKED_MAX];

/* protobuf-c accepts unknown fields (of number 0, padded) that it does not accept again as it writes them. */
static void forget_unknown(ProtobufCMessage *message)
{
    message->n_unknown_fields = 0;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label != PROTOBUF_C_LABEL_REPEATED)
            continue;
        size_t count = *(size_t *)((uint8_t *)message + field->quantifier_offset);
        ProtobufCMessage **items = *(ProtobufCMessage ***)((uint8_t *)message + field->offset);
        for (size_t n = 0; n < count; n++)
            forget_unknown(items[n]);
    }
}

static void fuzz_hot(const struct sample_type *type, const uint8_t *data, size_t size)
{
    struct wire_arena arena;
    ProtobufCMessage *message;

    int error = type->decode(data, size, &first);
    ASSERT(error == 0 || error == -ERR_PROTOCOL || error == -ERR_TOO_LARGE);
    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    int other = wire_cold_decode(type->descriptor, data, size, &arena, &message);
    ASSERT(!(error == 0 && other));
    if (error == 0) {
        forget_unknown(message);
        ASSERT(protobuf_c_message_get_packed_size(message) <= sizeof(packed));
        /* protobuf-c writes it anew, zeros left out, so that it is read by the other path. */
        size_t len = protobuf_c_message_pack(message, packed);
        error = type->decode(packed, len, &second);
        ASSERT(error == 0 && type->equal(&first, &second));
        ASSERT(type->size(&first) <= SAMPLE_BYTES_MAX);
        len = type->encode(packed, &first);
        ASSERT(len == type->size(&first));
        error = type->decode(packed, len, &second);
        ASSERT(error == 0 && type->equal(&first, &second));
    }
    wire_arena_fini(&arena);
    if (type->descriptor == &fb__append_request__descriptor && error == 0)
        for (uint32_t i = 0; i < first.m.append_request.entry_count; i++) {
            const struct entry *e = &first.m.append_request.entries[i];
            if (wire_entry_validate(e) == 0)
                ASSERT(e->first_block + (uint64_t)e->block_count <= BLOCKS_PER_OBJECT);
        }
}

static void fuzz_frame(const uint8_t *data, size_t size)
{
    struct frame_header header;

    if (size < FRAME_HEADER_SIZE || frame_validate_header(data, &header))
        return;
    ASSERT(header.body_len <= FRAME_BODY_MAX && header.payload_len <= FRAME_PAYLOAD_MAX);
    if (size - FRAME_HEADER_SIZE < header.body_len || frame_validate_body(data, &header))
        return;
    memcpy(packed, data, FRAME_HEADER_SIZE + header.body_len);
    frame_encode(packed, &header);
    ASSERT(memcmp(packed, data, FRAME_HEADER_SIZE + header.body_len) == 0);
}

static void fuzz_cold(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size)
{
    /* Tight limits make the clean-up paths run. */
    const size_t limits[] = {size, 4 * size + 64, WIRE_ARENA_MAX};

    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct wire_arena arena;
        ProtobufCMessage *message;
        wire_arena_init(&arena, NULL, 0, limits[i]);
        int error = wire_cold_decode(type, data, size, &arena, &message);
        ASSERT(error == 0 || error == -ERR_PROTOCOL || error == -ERR_TOO_LARGE);
        uint32_t len;
        if (!error && wire_cold_encode(message, packed, sizeof(packed), &len) == 0)
            ASSERT(len == wire_cold_size(message));
        wire_arena_fini(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    int choice = data[0] % CHOICES;
    data++;
    size--;
    if (choice < SAMPLE_TYPES)
        fuzz_hot(&sample_types[choice], data, size);
    else if (choice == SAMPLE_TYPES)
        fuzz_frame(data, size);
    else
        fuzz_cold(cold_types[choice - SAMPLE_TYPES - 1], data, size);
    return 0;
}

static size_t seed_cold(uint8_t *dst, size_t cap)
{
    Fb__PgMember member = FB__PG_MEMBER__INIT, *members[] = {&member, &member};
    Fb__Pg pg = FB__PG__INIT, *pgs[] = {&pg, &pg};
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__MonReply reply = FB__MON_REPLY__INIT;
    uint32_t len = 0;

    member.replica = 1;
    pg.id = 1ull << 32;
    pg.member = members;
    pg.n_member = 2;
    map.pg = pgs;
    map.n_pg = 2;
    reply.map = &map;
    reply.message = (char *)"message";
    if (wire_cold_encode(&reply.base, dst, cap, &len))
        return 0;
    return len;
}

size_t fuzz_seed(uint64_t n, uint8_t *dst, size_t cap)
{
    uint8_t *body = dst + 1;
    uint64_t random = n;

    dst[0] = (uint8_t)(n % CHOICES);
    if (dst[0] < SAMPLE_TYPES) {
        const struct sample_type *type = &sample_types[dst[0]];
        type->make(&first, &random);
        ASSERT(SAMPLE_BYTES_MAX < cap);
        return 1 + (n / CHOICES % 2 ? type->encode(body, &first) : type->pack(body, &first));
    }
    if (dst[0] == SAMPLE_TYPES) {
        memcpy(body + FRAME_HEADER_SIZE, "0123456789", 10);
        frame_encode(body, &(struct frame_header){.method = METHOD_READ,
                                                  .flags = FRAME_REPLY,
                                                  .request_id = n,
                                                  .body_len = 10,
                                                  .payload_len = 4096});
        return 1 + FRAME_HEADER_SIZE + 10;
    }
    return 1 + seed_cold(body, cap - 1);
}
