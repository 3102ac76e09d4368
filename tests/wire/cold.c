/* SPDX-License-Identifier: Apache-2.0
 *
 * The bounds on messages that go through protobuf-c: memory, size, depth, and strings that are none.
 */
#include "wire/cold.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "proto/hot.pb-c.h"
#include "tests/tap.h"
#include "wire/frame.h"

static void round_trip(void)
{
    _Alignas(16) uint8_t memory[1024];
    uint8_t bytes[256];
    uint32_t len;
    struct wire_arena arena;
    Fb__Hello hello = FB__HELLO__INIT, *got;

    hello.protocol = 1;
    hello.role = FB__ROLE__ROLE_OSD;
    hello.name = (char *)"somebody";
    hello.cluster.data = (uint8_t *)"0123456789abcdef";
    hello.cluster.len = 16;
    hello.incarnation = UINT64_MAX;
    CHECK_EQ(wire_cold_encode(&hello.base, bytes, sizeof(bytes), &len), 0);
    CHECK_EQ(wire_cold_size(&hello.base), len);
    CHECK_EQ(wire_cold_encode(&hello.base, bytes, len - 1, &len), -ERR_TOO_LARGE);
    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    CHECK_EQ(wire_cold_decode(&fb__hello__descriptor, bytes, len, &arena, &got), 0);
    CHECK_EQ(got->role, FB__ROLE__ROLE_OSD);
    CHECK(strcmp(got->name, "somebody") == 0);
    CHECK(got->cluster.len == 16 && memcmp(got->cluster.data, "0123456789abcdef", 16) == 0);
    CHECK(got->incarnation == UINT64_MAX);
    CHECK(got->version[0] == '\0' && got->client_uuid.len == 0);
    CHECK(arena.chunks == NULL);
    wire_arena_fini(&arena);
}

static void arena_bounds(void)
{
    uint8_t memory[100];
    struct wire_arena arena;

    /* The caller's memory first, at any alignment; then the allocator; in all no more than the limit. */
    wire_arena_init(&arena, memory + 1, 99, 1024);
    uint8_t *first = wire_arena_alloc(&arena, 60);
    CHECK(first > memory && first + 60 <= memory + 100);
    CHECK((uintptr_t)first % 16 == 0);
    uint8_t *second = wire_arena_alloc(&arena, 60);
    CHECK(second && (second < memory || second >= memory + 100));
    CHECK(!arena.exceeded);
    CHECK(wire_arena_alloc(&arena, 1024) == NULL);
    CHECK(arena.exceeded);
    CHECK(wire_arena_alloc(&arena, SIZE_MAX) == NULL);
    CHECK(wire_arena_alloc(&arena, SIZE_MAX - 8) == NULL);
    CHECK(wire_arena_alloc(&arena, 1024 - 128) != NULL);
    CHECK(wire_arena_alloc(&arena, 0) == NULL); /* even nothing takes a little */
    wire_arena_fini(&arena);
}

/* A decode that may use N bytes, for every N until it succeeds: refused each time, and nothing touched
 * wrongly on the way out (the sanitizer looks). */
static void every_limit(void)
{
    uint8_t bytes[512];
    uint32_t len;
    Fb__PgMember member = FB__PG_MEMBER__INIT, *members[3] = {&member, &member, &member};
    Fb__Pg pg = FB__PG__INIT, *pgs[2] = {&pg, &pg};
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__MonReply reply = FB__MON_REPLY__INIT, *got;
    size_t limit;
    int error = -ERR_TOO_LARGE;

    member.replica = 7;
    pg.member = members;
    pg.n_member = 3;
    map.pg = pgs;
    map.n_pg = 2;
    map.cluster.data = (uint8_t *)"0123456789abcdef";
    map.cluster.len = 16;
    reply.map = &map;
    reply.message = (char *)"text";
    CHECK_EQ(wire_cold_encode(&reply.base, bytes, sizeof(bytes), &len), 0);
    for (limit = 0; limit < 65536 && error == -ERR_TOO_LARGE; limit += 8) {
        struct wire_arena arena;
        wire_arena_init(&arena, NULL, 0, limit);
        error = wire_cold_decode(&fb__mon_reply__descriptor, bytes, len, &arena, &got);
        if (!error)
            CHECK_EQ(got->map->pg[1]->member[2]->replica, 7);
        wire_arena_fini(&arena);
    }
    CHECK_EQ(error, 0);
    CHECK(limit > 500);
}

/* Types do not contain themselves, so that depth is bounded by declaration. */
static int depth(const ProtobufCMessageDescriptor *type, int above)
{
    int deepest = above + 1;

    if (above > 16)
        return above;
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            deepest = MAX(deepest, depth(type->fields[i].descriptor, above + 1));
    return deepest;
}

static void types_are_shallow(void)
{
    CHECK(depth(&fb__mon_request__descriptor, 0) <= 5);
    CHECK(depth(&fb__mon_reply__descriptor, 0) <= 5);
    CHECK(depth(&fb__mon_event__descriptor, 0) <= 5);
    CHECK(depth(&fb__scrub_request__descriptor, 0) <= 4);
    CHECK(depth(&fb__pg_status_reply__descriptor, 0) <= 4);
    CHECK(depth(&fb__append_request__descriptor, 0) <= 4);
}

static int decode_reply(const uint8_t *bytes, size_t len)
{
    struct wire_arena arena;
    Fb__MonReply *got;

    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    int error = wire_cold_decode(&fb__mon_reply__descriptor, bytes, len, &arena, &got);
    CHECK(arena.used_bytes <= WIRE_ARENA_MAX);
    wire_arena_fini(&arena);
    return error;
}

static void bombs(void)
{
    size_t size = FRAME_BODY_MAX;
    uint8_t *bomb = malloc(size + 1);

    CHECK_EQ(decode_reply(bomb, size + 1), -ERR_TOO_LARGE);
    /* Groups, opened and never closed. */
    memset(bomb, 0x0b, size);
    CHECK_EQ(decode_reply(bomb, size), -ERR_PROTOCOL);
    /* The same submessage again and again, each to be merged with all before it: { map { osd {} } }. */
    for (size_t i = 0; i < size; i += 4)
        memcpy(bomb + i, (uint8_t[]){0x12, 2, 0x22, 0}, 4);
    CHECK_EQ(decode_reply(bomb, size), -ERR_TOO_LARGE);
    /* Very many empty items. */
    for (size_t i = 0; i < size; i += 2)
        memcpy(bomb + i, (uint8_t[]){0x2a, 0}, 2);
    CHECK_EQ(decode_reply(bomb, size), -ERR_TOO_LARGE);
    /* Very many unknown fields. */
    for (size_t i = 0; i < size; i += 2)
        memcpy(bomb + i, (uint8_t[]){0x78, 1}, 2);
    int error = decode_reply(bomb, size);
    CHECK(error == 0 || error == -ERR_TOO_LARGE);
    /* A length beyond the end, and one beyond everything. */
    CHECK_EQ(decode_reply((uint8_t[]){0x12, 100, 0}, 3), -ERR_PROTOCOL);
    CHECK_EQ(decode_reply((uint8_t[]){0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0}, 7), -ERR_PROTOCOL);
    free(bomb);
}

/* A string field may hold anything: it ends with a NUL, and that is all one can say. */
static void strings_that_are_none(void)
{
    static const uint8_t bytes[] = {0x0a, 6, 0xff, 0xc0, 0x80, 0x00, 0xf5, 0x41};
    struct wire_arena arena;
    Fb__MonReply *got;

    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    CHECK_EQ(wire_cold_decode(&fb__mon_reply__descriptor, bytes, sizeof(bytes), &arena, &got), 0);
    CHECK_EQ(strlen(got->message), 3);
    wire_arena_fini(&arena);
}

/* What our own encoder writes at the largest body is read back within the limit. */
static void largest_map(void)
{
    enum { PGS = 18000 };
    Fb__PgMember member[3];
    Fb__PgMember *members[3] = {&member[0], &member[1], &member[2]};
    Fb__Pg *pg = calloc(PGS, sizeof(*pg)), **pgs = calloc(PGS, sizeof(*pgs));
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__MonReply reply = FB__MON_REPLY__INIT;
    uint8_t *bytes = malloc(FRAME_BODY_MAX);
    uint32_t len = 0;

    for (uint32_t i = 0; i < 3; i++) {
        fb__pg_member__init(&member[i]);
        member[i].replica = i + 1;
        member[i].osd = 100 + i;
        member[i].shard = i;
    }
    for (uint32_t i = 0; i < PGS; i++) {
        fb__pg__init(&pg[i]);
        pg[i].id = 1ull << 32 | i;
        pg[i].epoch = 1 + i;
        pg[i].birth = 1;
        pg[i].born = true;
        pg[i].member = members;
        pg[i].n_member = 3;
        pgs[i] = &pg[i];
    }
    map.pg = pgs;
    map.n_pg = PGS;
    reply.map = &map;
    CHECK_EQ(wire_cold_encode(&reply.base, bytes, FRAME_BODY_MAX, &len), 0);
    CHECK(len > FRAME_BODY_MAX / 2);
    CHECK_EQ(decode_reply(bytes, len), 0);
    free(bytes);
    free(pgs);
    free(pg);
}

int main(void)
{
    TEST(round_trip);
    TEST(arena_bounds);
    TEST(every_limit);
    TEST(types_are_shallow);
    TEST(bombs);
    TEST(strings_that_are_none);
    TEST(largest_map);
    return tap_done();
}
