/* SPDX-License-Identifier: Apache-2.0
 *
 * Nanoseconds per hot message: encode and decode by the template, and by protobuf-c (which is also what a
 * foreign encoding costs us). Decoding by protobuf-c uses a bump arena on the stack, as favourable as it
 * gets. Prints a line per message:
 *
 *     bench-wire [milliseconds per figure]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "tests/wire/samples.h"
#include "wire/cold.h"
#include "wire/frame.h"

static struct sample sample, decoded;
static uint8_t ours[FRAME_HEADER_SIZE + SAMPLE_BYTES_MAX], theirs[SAMPLE_BYTES_MAX];
static uint64_t budget_ns = 50 * NS_PER_MS;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Runs the statement until the budget is used and yields ns per run. */
#define MEASURE(statement)                                                                                   \
    ({                                                                                                       \
        uint64_t runs_ = 0, start_ns_ = now_ns(), used_ns_ = 0;                                              \
        while (used_ns_ < budget_ns) {                                                                       \
            for (int i_ = 0; i_ < 1000; i_++) {                                                              \
                statement;                                                                                   \
                __asm__ volatile("" ::: "memory");                                                           \
            }                                                                                                \
            runs_ += 1000;                                                                                   \
            used_ns_ = now_ns() - start_ns_;                                                                 \
        }                                                                                                    \
        (double)used_ns_ / (double)runs_;                                                                    \
    })

static void must(bool ok)
{
    if (!ok) {
        fprintf(stderr, "bench-wire: a message does not decode\n");
        exit(1);
    }
}

static void unpack(const struct sample_type *type, const uint8_t *bytes, size_t len)
{
    _Alignas(16) uint8_t memory[16384];
    struct wire_arena arena;
    ProtobufCMessage *message;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    must(wire_cold_decode(type->descriptor, bytes, len, &arena, &message) == 0);
    wire_arena_fini(&arena);
}

static void measure(const char *what, const struct sample_type *type)
{
    size_t len = type->encode(ours, &sample), theirs_len = type->pack(theirs, &sample);
    double encode_ns = MEASURE(type->encode(ours, &sample));
    double decode_ns = MEASURE(must(type->decode(ours, len, &decoded) == 0));
    double pack_ns = MEASURE(type->pack(theirs, &sample));
    double unpack_ns = MEASURE(unpack(type, theirs, theirs_len));

    printf("%-28s %6zu B   template %7.1f %7.1f   protobuf-c %7.1f %7.1f ns\n", what, len, encode_ns,
           decode_ns, pack_ns, unpack_ns);
}

static const struct sample_type *type_named(const char *name)
{
    for (int i = 0; i < SAMPLE_TYPES; i++)
        if (strcmp(sample_types[i].name, name) == 0)
            return &sample_types[i];
    UNREACHABLE();
}

/* Numbers as a running cluster has them. */
static void typical_entries(uint32_t entry_count, uint32_t blocks)
{
    for (uint32_t i = 0; i < ARRAY_LEN(sample.crc); i++)
        sample.crc[i] = 0x9e3779b9u * (i + 1);
    for (uint32_t i = 0; i < entry_count; i++)
        sample.entries[i] = (struct entry){.index = 1000 + i,
                                           .term = 7,
                                           .type = ENTRY_WRITE,
                                           .image = 3,
                                           .object = 100 + i,
                                           .first_block = i,
                                           .block_count = blocks,
                                           .crc = sample.crc + i * blocks};
}

int main(int argc, char **argv)
{
    if (argc > 1)
        budget_ns = strtoull(argv[1], NULL, 10) * NS_PER_MS;
    printf("%-28s %8s   %17s %7s\n", "message", "size", "encode", "decode");
    sample.m.write_request = (struct wire_write_request){.pg = 1ull << 32 | 5,
                                                         .term = 7,
                                                         .image = 3,
                                                         .object = 100,
                                                         .generation = 1,
                                                         .incarnation = 1,
                                                         .length = 4096,
                                                         .crc_count = 1,
                                                         .crc = sample.crc};
    typical_entries(0, 0);
    measure("WriteRequest, 4 KiB", type_named("WriteRequest"));
    sample.m.write_request.crc_count = 256;
    measure("WriteRequest, 1 MiB", type_named("WriteRequest"));
    sample.m.write_reply = (struct wire_write_reply){.term = 7, .leader = 1};
    measure("WriteReply", type_named("WriteReply"));
    sample.m.append_request = (struct wire_append_request){.pg = 1ull << 32 | 5,
                                                           .from = 1,
                                                           .to = 2,
                                                           .term = 7,
                                                           .prev_index = 999,
                                                           .prev_term = 7,
                                                           .commit = 998,
                                                           .sent_ns = 123456789012345,
                                                           .entry_count = 1,
                                                           .entries = sample.entries};
    typical_entries(1, 1);
    measure("AppendRequest, 1 entry", type_named("AppendRequest"));
    typical_entries(16, 1);
    sample.m.append_request.entry_count = 16;
    measure("AppendRequest, 16 entries", type_named("AppendRequest"));
    sample.m.append_reply = (struct wire_append_reply){.pg = 1ull << 32 | 5,
                                                       .from = 2,
                                                       .to = 1,
                                                       .term = 7,
                                                       .match = 1000,
                                                       .sent_ns = 123456789012345,
                                                       .free_bytes = 1u << 30};
    measure("AppendReply", type_named("AppendReply"));
    struct wire_heartbeat_group *groups = sample.groups;
    for (uint32_t i = 0; i < 16; i++)
        groups[i] = (struct wire_heartbeat_group){
            .pg = 1ull << 32 | i, .term = 7, .commit = 1000, .from = 1, .to = 2};
    sample.m.heartbeat = (struct wire_heartbeat){.incarnation = 3,
                                                 .seq = 1000,
                                                 .sent_ns = 123456789012345,
                                                 .base_version = 4,
                                                 .set_version = 4,
                                                 .groups = groups};
    measure("Heartbeat, nothing changed", type_named("Heartbeat"));
    sample.m.heartbeat.group_count = 16;
    measure("Heartbeat, 16 groups", type_named("Heartbeat"));

    /* A frame around a WriteRequest: header and checksum over both. */
    struct frame_header header = {
        .method = METHOD_WRITE, .flags = FRAME_REQUEST, .request_id = 1, .body_len = 70};
    double seal_ns = MEASURE(frame_encode(ours, &header));
    double open_ns =
        MEASURE(must(!frame_validate_header(ours, &header) && !frame_validate_body(ours, &header)));
    printf("%-28s %6u B   seal     %7.1f   open %7.1f ns\n", "frame, body of 70 bytes",
           FRAME_HEADER_SIZE + 70, seal_ns, open_ns);
    return 0;
}
