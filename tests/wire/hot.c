/* SPDX-License-Identifier: Apache-2.0
 *
 * The template codec against protobuf-c, on random messages: each must read what the other wrote, also when
 * fields are left out, moved about or unknown.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/group.h"
#include "base/le.h"
#include "proto/hot.pb-c.h"
#include "tests/tap.h"
#include "tests/wire/samples.h"

#define ROUNDS 300

static struct sample sample, decoded;
static uint8_t ours[SAMPLE_BYTES_MAX], theirs[SAMPLE_BYTES_MAX], other[2 * SAMPLE_BYTES_MAX];

/* Runs `check` on many samples of each type; the seed of a failed one is printed. */
static void for_samples(void (*check)(const struct sample_type *type, uint64_t *random))
{
    for (int t = 0; t < SAMPLE_TYPES; t++)
        for (uint64_t seed = 0; seed < ROUNDS; seed++) {
            uint64_t random = seed << 8 | (uint64_t)t;
            bool ok = tap_ok;
            sample_types[t].make(&sample, &random);
            memset(&decoded, 0x5a, sizeof(decoded));
            check(&sample_types[t], &random);
            if (ok && !tap_ok)
                printf("# %s, seed %llu\n", sample_types[t].name, (unsigned long long)seed);
        }
}

static void check_round_trip(const struct sample_type *type, uint64_t *random)
{
    size_t len = type->encode(ours, &sample);

    CHECK_EQ(len, type->size(&sample));
    CHECK_EQ(type->decode(ours, len, &decoded), 0);
    CHECK(type->equal(&sample, &decoded));
}

/* protobuf-c reads our encoding, and writes the same from it as from the struct that was filled by name. */
static void check_ours_is_theirs(const struct sample_type *type, uint64_t *random)
{
    size_t len = type->encode(ours, &sample);
    ProtobufCMessage *message = protobuf_c_message_unpack(type->descriptor, NULL, len, ours);

    CHECK(message != NULL);
    if (!message)
        return;
    CHECK_EQ(message->n_unknown_fields, 0);
    size_t theirs_len = type->pack(theirs, &sample);
    CHECK_EQ(protobuf_c_message_get_packed_size(message), theirs_len);
    CHECK_EQ(protobuf_c_message_pack(message, other), theirs_len);
    CHECK(memcmp(other, theirs, theirs_len) == 0);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void check_theirs_is_ours(const struct sample_type *type, uint64_t *random)
{
    size_t len = type->pack(theirs, &sample);

    CHECK_EQ(type->decode(theirs, len, &decoded), 0);
    CHECK(type->equal(&sample, &decoded));
}

/* Where the top-level field at `at` ends; the encodings here are valid. */
static size_t field_end(const uint8_t *bytes, size_t at)
{
    uint8_t tag = bytes[at++];
    size_t len = 0, shift = 0;

    switch (tag & 7) {
    case 1:
        return at + 8;
    case 5:
        return at + 4;
    case 2:
        do {
            len |= (size_t)(bytes[at] & 0x7f) << shift;
            shift += 7;
        } while (bytes[at++] & 0x80);
        return at + len;
    default:
        abort();
    }
}

/* Writes our encoding with its fields in another order. Fields of the same number keep theirs, because the
 * order of a repeated field means something. */
static size_t reorder(const uint8_t *bytes, size_t len, uint64_t *random)
{
    uint8_t order[15];
    size_t out = 0;

    for (uint8_t i = 0; i < 15; i++)
        order[i] = i + 1;
    for (uint8_t i = 14; i > 0; i--) {
        uint8_t j = (uint8_t)(sample_random(random) % (i + 1u)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (int i = 0; i < 15; i++)
        for (size_t at = 0, end; at < len; at = end) {
            end = field_end(bytes, at);
            if (bytes[at] >> 3 != order[i])
                continue;
            memcpy(other + out, bytes + at, end - at);
            out += end - at;
        }
    return out;
}

static void check_reordered(const struct sample_type *type, uint64_t *random)
{
    size_t len = reorder(ours, type->encode(ours, &sample), random);

    CHECK_EQ(type->decode(other, len, &decoded), 0);
    CHECK(type->equal(&sample, &decoded));
}

/* Puts fields that nobody knows before, between and behind the others. */
static void check_unknown_fields(const struct sample_type *type, uint64_t *random)
{
    static const uint8_t unknown[][8] = {
        {0xa0, 0x06, 0xff, 0x01}, /* 100, varint */
        {0xa5, 0x06, 1, 2, 3, 4}, /* 100, fixed32 */
        {0xaa, 0x06, 0x04, 'a', 'b', 'c', 'd'} /* 101, bytes */,
    };
    static const uint8_t unknown_len[] = {4, 6, 7};
    size_t len = type->pack(theirs, &sample), out = 0;

    for (size_t at = 0, end; at <= len; at = end) {
        uint64_t which = sample_random(random) % 4;
        if (which < 3) {
            memcpy(other + out, unknown[which], unknown_len[which]);
            out += unknown_len[which];
        }
        if (at == len)
            break;
        end = field_end(theirs, at);
        memcpy(other + out, theirs + at, end - at);
        out += end - at;
    }
    CHECK_EQ(type->decode(other, out, &decoded), 0);
    CHECK(type->equal(&sample, &decoded));
}

/* A scalar that comes twice: the last one counts. */
static void check_repeated_scalar(const struct sample_type *type, uint64_t *random)
{
    size_t len = type->encode(ours, &sample);

    memcpy(other, ours, 9); /* every message begins with a fixed64 */
    memset(other + 1, 0x77, 8);
    memcpy(other + 9, ours, len);
    CHECK_EQ(type->decode(other, 9 + len, &decoded), 0);
    CHECK(type->equal(&sample, &decoded));
}

/* Whatever is cut off, it is refused or it is what protobuf-c makes of it; never is memory beyond `len` read
 * (the copy is exactly as long, for the sanitizer). */
static void check_cut(const struct sample_type *type, uint64_t *random)
{
    size_t len = type->encode(ours, &sample), cut = sample_random(random) % len;
    uint8_t *copy = malloc(cut ? cut : 1);

    memcpy(copy, ours, cut);
    ProtobufCMessage *message = protobuf_c_message_unpack(type->descriptor, NULL, cut, copy);
    int error = type->decode(copy, cut, &decoded);
    CHECK(message || error == -ERR_PROTOCOL);
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
    free(copy);
}

static void round_trip(void)
{
    for_samples(check_round_trip);
}

static void protobuf_reads_ours(void)
{
    for_samples(check_ours_is_theirs);
}

static void we_read_protobuf(void)
{
    for_samples(check_theirs_is_ours);
}

static void any_order(void)
{
    for_samples(check_reordered);
}

static void unknown_fields(void)
{
    for_samples(check_unknown_fields);
}

static void last_scalar_counts(void)
{
    for_samples(check_repeated_scalar);
}

static void cut_short(void)
{
    for_samples(check_cut);
}

/* The empty message is a valid one: all zeros. */
static void empty_message(void)
{
    for (int t = 0; t < SAMPLE_TYPES; t++) {
        memset(&decoded, 0x5a, sizeof(decoded));
        memset(&sample, 0, sizeof(sample));
        CHECK_EQ(sample_types[t].decode(other, 0, &decoded), 0);
        size_t len = sample_types[t].encode(ours, &decoded);
        CHECK_EQ(sample_types[t].pack(theirs, &decoded), 0);
        CHECK_EQ(len, sample_types[t].size(&sample));
    }
}

static size_t crc_field(uint8_t *dst, uint8_t tag, uint32_t count)
{
    size_t len = 4 * (size_t)count, at = 0;

    dst[at++] = tag;
    for (; len >= 0x80; len >>= 7)
        dst[at++] = (uint8_t)(len | 0x80);
    dst[at++] = (uint8_t)len;
    memset(dst + at, 1, 4 * (size_t)count);
    return at + 4 * (size_t)count;
}

/* One item more than the limit, by either path and in pieces. */
static void too_many(void)
{
    struct wire_write_request write = {0};
    size_t fixed = wire_write_request_encode(ours, &write);

    size_t len = fixed + crc_field(ours + fixed, 0x4a, WIRE_CRC_MAX);
    CHECK_EQ(wire_write_request_decode(ours, len, &decoded.m.write_request, decoded.crc), 0);
    len = fixed + crc_field(ours + fixed, 0x4a, WIRE_CRC_MAX + 1);
    CHECK_EQ(wire_write_request_decode(ours, len, &decoded.m.write_request, decoded.crc), -ERR_TOO_LARGE);
    len = fixed + crc_field(ours + fixed, 0x4a, WIRE_CRC_MAX);
    len += crc_field(ours + len, 0x4a, 1);
    CHECK_EQ(wire_write_request_decode(ours, len, &decoded.m.write_request, decoded.crc), -ERR_TOO_LARGE);

    struct wire_append_request append = {0};
    fixed = wire_append_request_encode(ours, &append);
    len = fixed;
    for (uint32_t i = 0; i <= WIRE_ENTRIES_MAX; i++) {
        ours[len++] = 0x4a;
        ours[len++] = 0;
    }
    struct wire_append_request *ret = &decoded.m.append_request;
    CHECK_EQ(wire_append_request_decode(ours, len - 2, ret, decoded.entries, decoded.crc), 0);
    CHECK_EQ(wire_append_request_decode(ours, len, ret, decoded.entries, decoded.crc), -ERR_TOO_LARGE);

    struct wire_heartbeat heartbeat = {.group_count = WIRE_GROUPS_MAX, .groups = sample.groups};
    memset(sample.groups, 7, sizeof(sample.groups));
    len = wire_heartbeat_encode(ours, &heartbeat);
    CHECK_EQ(wire_heartbeat_decode(ours, len, &decoded.m.heartbeat, decoded.groups), 0);
    ours[len++] = 0x32;
    ours[len++] = 0;
    CHECK_EQ(wire_heartbeat_decode(ours, len, &decoded.m.heartbeat, decoded.groups), -ERR_TOO_LARGE);

    /* Far more small items than memory is allowed for. */
    uint8_t *bomb = calloc(1, 1u << 20);
    for (size_t i = 0; i < 1u << 20; i += 2)
        bomb[i] = 0x4a;
    CHECK_EQ(wire_append_request_decode(bomb, 1u << 20, ret, decoded.entries, decoded.crc), -ERR_TOO_LARGE);
    free(bomb);
}

/* The count of an entry's checksums follows from its type and blocks. */
static void entry_checksums(void)
{
    static const struct {
        uint32_t type, blocks, crcs;
        int error;
    } cases[] = {
        {ENTRY_WRITE, 3, 3, 0},
        {ENTRY_WRITE, 3, 2, -ERR_PROTOCOL},
        {ENTRY_WRITE, 3, 0, -ERR_PROTOCOL},
        {ENTRY_WRITE, 0, 1, -ERR_PROTOCOL},
        {ENTRY_WRITE, 0xffffffff, 3, -ERR_PROTOCOL},
        {ENTRY_CLEAR, 3, 0, 0},
        {ENTRY_CLEAR, 3, 3, -ERR_PROTOCOL},
    };
    uint32_t crc[8] = {1, 2, 3};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Fb__Entry entry = FB__ENTRY__INIT, *pointer = &entry;
        Fb__AppendRequest append = FB__APPEND_REQUEST__INIT;
        entry.type = cases[i].type;
        entry.block_count = cases[i].blocks;
        entry.crc = crc;
        entry.n_crc = cases[i].crcs;
        append.entry = &pointer;
        append.n_entry = 1;
        size_t len = protobuf_c_message_pack(&append.base, theirs);
        CHECK_EQ(
            wire_append_request_decode(theirs, len, &decoded.m.append_request, decoded.entries, decoded.crc),
            cases[i].error);

        /* The template with another number of blocks in it. */
        struct entry whole = {.type = ENTRY_WRITE, .block_count = cases[i].crcs, .crc = crc};
        struct wire_append_request request = {.entry_count = 1, .entries = &whole};
        len = wire_append_request_encode(ours, &request);
        uint8_t *at = ours + 64 + 2;
        le_store_u32(at + 9 + 1, cases[i].type);
        le_store_u32(at + 9 + 5 + 5 + 9 + 9 + 5 + 1, cases[i].blocks);
        CHECK_EQ(
            wire_append_request_decode(ours, len, &decoded.m.append_request, decoded.entries, decoded.crc),
            cases[i].error);
    }
}

/* The indexes that follow from prev_index must not wrap. */
static void index_overflow(void)
{
    struct wire_append_request m = {.prev_index = UINT64_MAX - WIRE_ENTRIES_MAX};
    size_t len = wire_append_request_encode(ours, &m);

    CHECK_EQ(wire_append_request_decode(ours, len, &decoded.m.append_request, decoded.entries, decoded.crc),
             0);
    m.prev_index++;
    len = wire_append_request_encode(ours, &m);
    CHECK_EQ(wire_append_request_decode(ours, len, &decoded.m.append_request, decoded.entries, decoded.crc),
             -ERR_PROTOCOL);
}

static void validate_entries(void)
{
    static const uint32_t crc[1];
    /* Replica, osd, shard, flags of each. */
    static const uint32_t group[] = {1, 7, 0, 1, 2, 7, 1, 3, 3, 8, 0, 0}, unnumbered[] = {0, 7, 0, 1},
                          twice[] = {1, 7, 0, 1, 1, 8, 0, 1}, one_shard[] = {1, 7, 0, 1, 2, 7, 0, 1},
                          no_voter[] = {1, 7, 0, 2}, flags[] = {1, 7, 0, 5}, far[] = {1, 7, 65536, 1};
    static const struct {
        struct entry entry;
        int error;
    } cases[] = {
        {{.type = ENTRY_NOOP}, 0},
        {{.type = ENTRY_NOOP, .block_count = 1}, -ERR_PROTOCOL},
        {{.type = ENTRY_NOOP, .flags = 1}, -ERR_PROTOCOL},
        {{.type = ENTRY_IMAGE, .flags = ENTRY_IMAGE_DELETED}, 0},
        {{.type = ENTRY_IMAGE, .flags = 2}, -ERR_PROTOCOL},
        {{.type = ENTRY_IMAGE, .first_block = 2}, -ERR_PROTOCOL},
        {{.type = ENTRY_FORGET, .epoch = 7}, 0},
        {{.type = ENTRY_FORGET, .flags = ENTRY_IMAGE_DELETED}, -ERR_PROTOCOL},
        {{.type = ENTRY_FORGET, .block_count = 1}, -ERR_PROTOCOL},
        {{.type = ENTRY_WRITE, .block_count = 1, .crc = crc}, 0},
        {{.type = ENTRY_WRITE, .block_count = 1}, -ERR_PROTOCOL},
        {{.type = ENTRY_WRITE, .block_count = 0, .crc = crc}, -ERR_PROTOCOL},
        {{.type = ENTRY_WRITE, .block_count = IO_BLOCKS_MAX, .crc = crc}, 0},
        {{.type = ENTRY_WRITE, .block_count = IO_BLOCKS_MAX + 1, .crc = crc}, -ERR_PROTOCOL},
        {{.type = ENTRY_WRITE, .first_block = BLOCKS_PER_OBJECT - 1, .block_count = 1, .crc = crc}, 0},
        {{.type = ENTRY_WRITE, .first_block = BLOCKS_PER_OBJECT - 1, .block_count = 2, .crc = crc},
         -ERR_PROTOCOL},
        {{.type = ENTRY_WRITE, .first_block = UINT32_MAX, .block_count = 2, .crc = crc}, -ERR_PROTOCOL},
        {{.type = ENTRY_CLEAR, .block_count = BLOCKS_PER_OBJECT}, 0},
        {{.type = ENTRY_CLEAR, .block_count = BLOCKS_PER_OBJECT + 1}, -ERR_PROTOCOL},
        {{.type = ENTRY_CLEAR, .first_block = 1, .block_count = UINT32_MAX}, -ERR_PROTOCOL},
        {{.type = ENTRY_CLEAR}, -ERR_PROTOCOL},
        {{.type = 0}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 12, .crc = group, .epoch = 9}, 0},
        {{.type = ENTRY_GROUP, .block_count = 8, .crc = group}, 0},
        {{.type = ENTRY_SPLIT, .image = 8, .block_count = 12, .crc = group}, 0},
        {{.type = ENTRY_SPLIT, .block_count = 12, .crc = group}, -ERR_PROTOCOL},
        {{.type = ENTRY_SPLIT, .image = 65536, .block_count = 12, .crc = group}, -ERR_PROTOCOL},
        {{.type = ENTRY_SPLIT, .image = 8}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 7, .crc = group}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = GROUP_WORDS_MAX + GROUP_WORDS, .crc = group}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4, .first_block = 1, .crc = group}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4, .flags = 1, .crc = group}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4, .crc = unnumbered}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 8, .crc = twice}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 8, .crc = one_shard}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4, .crc = no_voter}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4, .crc = flags}, -ERR_PROTOCOL},
        {{.type = ENTRY_GROUP, .block_count = 4, .crc = far}, -ERR_PROTOCOL},
        {{.type = 7}, -ERR_PROTOCOL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK_EQ(wire_entry_validate(&cases[i].entry), cases[i].error);
}

int main(void)
{
    TEST(round_trip);
    TEST(protobuf_reads_ours);
    TEST(we_read_protobuf);
    TEST(any_order);
    TEST(unknown_fields);
    TEST(last_scalar_counts);
    TEST(cut_short);
    TEST(empty_message);
    TEST(too_many);
    TEST(entry_checksums);
    TEST(index_overflow);
    TEST(validate_entries);
    return tap_done();
}
