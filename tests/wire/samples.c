/* SPDX-License-Identifier: Apache-2.0
 *
 * The samples. The lists of fields below name every field of every hot message once; they are written by hand
 * from proto/hot.proto and know nothing of the codec's order of fields.
 */
#include "tests/wire/samples.h"

#include <string.h>

#include "base/hash.h"
#include "proto/hot.pb-c.h"

/* clang-format off */
#define WRITE_REQUEST_FIELDS(X) X(pg) X(term) X(image) X(object) X(generation) X(incarnation) X(offset) X(length)
#define WRITE_REPLY_FIELDS(X) X(term) X(leader)
#define READ_REQUEST_FIELDS(X) X(pg) X(term) X(image) X(object) X(generation) X(first_block) X(block_count) \
    X(epoch)
#define READ_REPLY_FIELDS(X) X(term) X(leader)
#define APPEND_REQUEST_FIELDS(X) X(pg) X(term) X(prev_index) X(prev_term) X(commit) X(sent_ns) X(from) X(to) X(patient)
#define APPEND_REPLY_FIELDS(X) X(pg) X(term) X(match) X(hint_term) X(sent_ns) X(free_bytes) X(from) X(to) X(flags) X(complete)
#define HEARTBEAT_FIELDS(X) X(incarnation) X(seq) X(sent_ns) X(base_version) X(set_version) X(rest_ms)
#define HEARTBEAT_REPLY_FIELDS(X) X(incarnation) X(seq) X(sent_ns) X(set_version)
#define ENTRY_FIELDS(X) X(term) X(type) X(flags) X(image) X(object) X(first_block) X(block_count) X(incarnation) \
    X(generation) X(size_bytes)
#define GROUP_FIELDS(X) X(pg) X(term) X(commit) X(from) X(to)
/* clang-format on */

uint64_t sample_random(uint64_t *random)
{
    *random += 0x9e3779b97f4a7c15ull;
    return hash_u64(*random);
}

/* Zeros, small numbers, all ones and anything: what encodings treat differently. */
static uint64_t value(uint64_t *random)
{
    uint64_t r = sample_random(random);

    switch (r & 7) {
    case 0:
    case 1:
        return 0;
    case 2:
        return UINT64_MAX;
    case 3:
        return r >> 60;
    default:
        return sample_random(random);
    }
}

/* 0 .. max, and often one of the two. */
static uint32_t count(uint64_t *random, uint32_t max)
{
    uint64_t r = sample_random(random);

    return r % 8 == 0 ? 0 : r % 8 == 1 ? max : (uint32_t)((r >> 8) % (max + 1)) >> (r >> 40) % 8;
}

static void make_crc(struct sample *s, uint64_t *random)
{
    for (uint32_t i = 0; i < WIRE_APPEND_CRC_MAX; i++)
        s->crc[i] = (uint32_t)value(random);
}

#define MAKE(field)  m->field = (__typeof__(m->field))value(random);
#define COPY(field)  p.field = m->field;
#define EQUAL(field) &&a->field == b->field

static void make_entry(struct entry *m, uint64_t *random)
{
    ENTRY_FIELDS(MAKE)
}

static void make_group(struct wire_heartbeat_group *m, uint64_t *random)
{
    GROUP_FIELDS(MAKE)
}

static bool group_equal(const struct wire_heartbeat_group *a, const struct wire_heartbeat_group *b)
{
    return true GROUP_FIELDS(EQUAL);
}

static bool entry_equal(const struct entry *a, const struct entry *b)
{
    if (a->crc && b->crc && memcmp(a->crc, b->crc, a->block_count * sizeof(*a->crc)) != 0)
        return false;
    return a->index == b->index && !a->crc == !b->crc ENTRY_FIELDS(EQUAL);
}

static Fb__Entry entry_to_pb(const struct entry *m)
{
    Fb__Entry p = FB__ENTRY__INIT;
    ENTRY_FIELDS(COPY)
    p.crc = (uint32_t *)m->crc;
    p.n_crc = m->crc ? m->block_count : 0;
    return p;
}

static Fb__HeartbeatGroup group_to_pb(const struct wire_heartbeat_group *m)
{
    Fb__HeartbeatGroup p = FB__HEARTBEAT_GROUP__INIT;
    GROUP_FIELDS(COPY)
    return p;
}

/* ---- WriteRequest ----------------------------------------------------------------------------------------
 */

static void write_request_make(struct sample *s, uint64_t *random)
{
    struct wire_write_request *m = &s->m.write_request;

    WRITE_REQUEST_FIELDS(MAKE)
    make_crc(s, random);
    m->crc = s->crc;
    m->crc_count = count(random, WIRE_CRC_MAX);
}

static size_t write_request_size(const struct sample *s)
{
    return wire_write_request_size(&s->m.write_request);
}

static size_t write_request_encode(uint8_t *dst, const struct sample *s)
{
    return wire_write_request_encode(dst, &s->m.write_request);
}

static int write_request_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_write_request_decode(src, len, &s->m.write_request, s->crc);
}

static bool write_request_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_write_request *a = &sa->m.write_request, *b = &sb->m.write_request;

    return a->crc_count == b->crc_count WRITE_REQUEST_FIELDS(EQUAL) &&
           memcmp(a->crc, b->crc, a->crc_count * sizeof(uint32_t)) == 0;
}

static size_t write_request_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_write_request *m = &s->m.write_request;
    Fb__WriteRequest p = FB__WRITE_REQUEST__INIT;

    WRITE_REQUEST_FIELDS(COPY)
    p.crc = (uint32_t *)m->crc;
    p.n_crc = m->crc_count;
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- WriteReply ------------------------------------------------------------------------------------------
 */

static void write_reply_make(struct sample *s, uint64_t *random)
{
    struct wire_write_reply *m = &s->m.write_reply;

    WRITE_REPLY_FIELDS(MAKE)
}

static size_t write_reply_size(const struct sample *s)
{
    return wire_write_reply_size(&s->m.write_reply);
}

static size_t write_reply_encode(uint8_t *dst, const struct sample *s)
{
    return wire_write_reply_encode(dst, &s->m.write_reply);
}

static int write_reply_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_write_reply_decode(src, len, &s->m.write_reply);
}

static bool write_reply_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_write_reply *a = &sa->m.write_reply, *b = &sb->m.write_reply;

    return true WRITE_REPLY_FIELDS(EQUAL);
}

static size_t write_reply_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_write_reply *m = &s->m.write_reply;
    Fb__WriteReply p = FB__WRITE_REPLY__INIT;

    WRITE_REPLY_FIELDS(COPY)
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- ReadRequest -----------------------------------------------------------------------------------------
 */

static void read_request_make(struct sample *s, uint64_t *random)
{
    struct wire_read_request *m = &s->m.read_request;

    READ_REQUEST_FIELDS(MAKE)
}

static size_t read_request_size(const struct sample *s)
{
    return wire_read_request_size(&s->m.read_request);
}

static size_t read_request_encode(uint8_t *dst, const struct sample *s)
{
    return wire_read_request_encode(dst, &s->m.read_request);
}

static int read_request_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_read_request_decode(src, len, &s->m.read_request);
}

static bool read_request_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_read_request *a = &sa->m.read_request, *b = &sb->m.read_request;

    return true READ_REQUEST_FIELDS(EQUAL);
}

static size_t read_request_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_read_request *m = &s->m.read_request;
    Fb__ReadRequest p = FB__READ_REQUEST__INIT;

    READ_REQUEST_FIELDS(COPY)
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- ReadReply -------------------------------------------------------------------------------------------
 */

static void read_reply_make(struct sample *s, uint64_t *random)
{
    struct wire_read_reply *m = &s->m.read_reply;

    READ_REPLY_FIELDS(MAKE)
    make_crc(s, random);
    m->crc = s->crc;
    m->crc_count = count(random, WIRE_CRC_MAX);
}

static size_t read_reply_size(const struct sample *s)
{
    return wire_read_reply_size(&s->m.read_reply);
}

static size_t read_reply_encode(uint8_t *dst, const struct sample *s)
{
    return wire_read_reply_encode(dst, &s->m.read_reply);
}

static int read_reply_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_read_reply_decode(src, len, &s->m.read_reply, s->crc);
}

static bool read_reply_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_read_reply *a = &sa->m.read_reply, *b = &sb->m.read_reply;

    return a->crc_count == b->crc_count READ_REPLY_FIELDS(EQUAL) &&
           memcmp(a->crc, b->crc, a->crc_count * sizeof(uint32_t)) == 0;
}

static size_t read_reply_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_read_reply *m = &s->m.read_reply;
    Fb__ReadReply p = FB__READ_REPLY__INIT;

    READ_REPLY_FIELDS(COPY)
    p.crc = (uint32_t *)m->crc;
    p.n_crc = m->crc_count;
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- AppendRequest ---------------------------------------------------------------------------------------
 */

static void append_request_make(struct sample *s, uint64_t *random)
{
    struct wire_append_request *m = &s->m.append_request;

    APPEND_REQUEST_FIELDS(MAKE)
    uint32_t crc_used = 0, entry_count = count(random, WIRE_ENTRIES_MAX);
    uint64_t prev_index = m->prev_index = m->prev_index == UINT64_MAX ? 0 : m->prev_index & UINT64_MAX >> 1;
    m->entries = s->entries;
    m->entry_count = entry_count;
    make_crc(s, random);
    for (uint32_t i = 0; i < entry_count; i++) {
        struct entry *e = &s->entries[i];
        make_entry(e, random);
        e->index = prev_index + 1 + i;
        e->type = (uint32_t)(sample_random(random) % 7);
        e->crc = NULL;
        if (e->type == ENTRY_WRITE || e->type == ENTRY_GROUP) {
            e->block_count = count(random, (WIRE_APPEND_CRC_MAX - crc_used) / (i + 1 < entry_count ? 4 : 1));
            e->crc = e->block_count ? s->crc + crc_used : NULL;
            crc_used += e->block_count;
        }
    }
}

static size_t append_request_size(const struct sample *s)
{
    return wire_append_request_size(&s->m.append_request);
}

static size_t append_request_encode(uint8_t *dst, const struct sample *s)
{
    return wire_append_request_encode(dst, &s->m.append_request);
}

static int append_request_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_append_request_decode(src, len, &s->m.append_request, s->entries, s->crc);
}

static bool append_request_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_append_request *a = &sa->m.append_request, *b = &sb->m.append_request;

    if (a->entry_count != b->entry_count)
        return false;
    for (uint32_t i = 0; i < a->entry_count; i++) {
        const struct entry *ea = &a->entries[i], *eb = &b->entries[i];
        if (!entry_equal(ea, eb))
            return false;
    }
    return true APPEND_REQUEST_FIELDS(EQUAL);
}

static size_t append_request_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_append_request *m = &s->m.append_request;
    Fb__AppendRequest p = FB__APPEND_REQUEST__INIT;

    APPEND_REQUEST_FIELDS(COPY)
    Fb__Entry entries[WIRE_ENTRIES_MAX], *pointers[WIRE_ENTRIES_MAX];
    p.entry = pointers;
    p.n_entry = m->entry_count;
    for (uint32_t i = 0; i < p.n_entry; i++)
        entries[i] = entry_to_pb(&m->entries[i]), pointers[i] = &entries[i];
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- AppendReply -----------------------------------------------------------------------------------------
 */

static void append_reply_make(struct sample *s, uint64_t *random)
{
    struct wire_append_reply *m = &s->m.append_reply;

    APPEND_REPLY_FIELDS(MAKE)
}

static size_t append_reply_size(const struct sample *s)
{
    return wire_append_reply_size(&s->m.append_reply);
}

static size_t append_reply_encode(uint8_t *dst, const struct sample *s)
{
    return wire_append_reply_encode(dst, &s->m.append_reply);
}

static int append_reply_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_append_reply_decode(src, len, &s->m.append_reply);
}

static bool append_reply_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_append_reply *a = &sa->m.append_reply, *b = &sb->m.append_reply;

    return true APPEND_REPLY_FIELDS(EQUAL);
}

static size_t append_reply_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_append_reply *m = &s->m.append_reply;
    Fb__AppendReply p = FB__APPEND_REPLY__INIT;

    APPEND_REPLY_FIELDS(COPY)
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- Heartbeat -------------------------------------------------------------------------------------------
 */

static void heartbeat_make(struct sample *s, uint64_t *random)
{
    struct wire_heartbeat *m = &s->m.heartbeat;

    HEARTBEAT_FIELDS(MAKE)
    m->groups = s->groups;
    m->group_count = count(random, WIRE_GROUPS_MAX);
    for (uint32_t i = 0; i < m->group_count; i++) {
        make_group(&s->groups[i], random);
    }
}

static size_t heartbeat_size(const struct sample *s)
{
    return wire_heartbeat_size(&s->m.heartbeat);
}

static size_t heartbeat_encode(uint8_t *dst, const struct sample *s)
{
    return wire_heartbeat_encode(dst, &s->m.heartbeat);
}

static int heartbeat_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_heartbeat_decode(src, len, &s->m.heartbeat, s->groups);
}

static bool heartbeat_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_heartbeat *a = &sa->m.heartbeat, *b = &sb->m.heartbeat;

    if (a->group_count != b->group_count)
        return false;
    for (uint32_t i = 0; i < a->group_count; i++) {
        if (!group_equal(&a->groups[i], &b->groups[i]))
            return false;
    }
    return true HEARTBEAT_FIELDS(EQUAL);
}

static size_t heartbeat_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_heartbeat *m = &s->m.heartbeat;
    Fb__Heartbeat p = FB__HEARTBEAT__INIT;

    HEARTBEAT_FIELDS(COPY)
    Fb__HeartbeatGroup groups[WIRE_GROUPS_MAX], *pointers[WIRE_GROUPS_MAX];
    p.group = pointers;
    p.n_group = m->group_count;
    for (uint32_t i = 0; i < p.n_group; i++)
        groups[i] = group_to_pb(&s->groups[i]), pointers[i] = &groups[i];
    return protobuf_c_message_pack(&p.base, dst);
}

/* ---- HeartbeatReply --------------------------------------------------------------------------------------
 */

static void heartbeat_reply_make(struct sample *s, uint64_t *random)
{
    struct wire_heartbeat_reply *m = &s->m.heartbeat_reply;

    HEARTBEAT_REPLY_FIELDS(MAKE)
    m->refused = s->refused;
    m->refused_count = count(random, WIRE_REFUSED_MAX);
    for (uint32_t i = 0; i < m->refused_count; i++)
        s->refused[i] = value(random);
}

static size_t heartbeat_reply_size(const struct sample *s)
{
    return wire_heartbeat_reply_size(&s->m.heartbeat_reply);
}

static size_t heartbeat_reply_encode(uint8_t *dst, const struct sample *s)
{
    return wire_heartbeat_reply_encode(dst, &s->m.heartbeat_reply);
}

static int heartbeat_reply_decode(const uint8_t *src, size_t len, struct sample *s)
{
    return wire_heartbeat_reply_decode(src, len, &s->m.heartbeat_reply, s->refused);
}

static bool heartbeat_reply_equal(const struct sample *sa, const struct sample *sb)
{
    const struct wire_heartbeat_reply *a = &sa->m.heartbeat_reply, *b = &sb->m.heartbeat_reply;

    return a->refused_count == b->refused_count HEARTBEAT_REPLY_FIELDS(EQUAL) &&
           memcmp(a->refused, b->refused, a->refused_count * sizeof(uint64_t)) == 0;
}

static size_t heartbeat_reply_pack(uint8_t *dst, const struct sample *s)
{
    const struct wire_heartbeat_reply *m = &s->m.heartbeat_reply;
    Fb__HeartbeatReply p = FB__HEARTBEAT_REPLY__INIT;

    HEARTBEAT_REPLY_FIELDS(COPY)
    p.refused_pg = (uint64_t *)m->refused;
    p.n_refused_pg = m->refused_count;
    return protobuf_c_message_pack(&p.base, dst);
}
const struct sample_type sample_types[SAMPLE_TYPES] = {
    {"WriteRequest", &fb__write_request__descriptor, write_request_make, write_request_size,
     write_request_encode, write_request_decode, write_request_equal, write_request_pack},
    {"WriteReply", &fb__write_reply__descriptor, write_reply_make, write_reply_size, write_reply_encode,
     write_reply_decode, write_reply_equal, write_reply_pack},
    {"ReadRequest", &fb__read_request__descriptor, read_request_make, read_request_size, read_request_encode,
     read_request_decode, read_request_equal, read_request_pack},
    {"ReadReply", &fb__read_reply__descriptor, read_reply_make, read_reply_size, read_reply_encode,
     read_reply_decode, read_reply_equal, read_reply_pack},
    {"AppendRequest", &fb__append_request__descriptor, append_request_make, append_request_size,
     append_request_encode, append_request_decode, append_request_equal, append_request_pack},
    {"AppendReply", &fb__append_reply__descriptor, append_reply_make, append_reply_size, append_reply_encode,
     append_reply_decode, append_reply_equal, append_reply_pack},
    {"Heartbeat", &fb__heartbeat__descriptor, heartbeat_make, heartbeat_size, heartbeat_encode,
     heartbeat_decode, heartbeat_equal, heartbeat_pack},
    {"HeartbeatReply", &fb__heartbeat_reply__descriptor, heartbeat_reply_make, heartbeat_reply_size,
     heartbeat_reply_encode, heartbeat_reply_decode, heartbeat_reply_equal, heartbeat_reply_pack},
};
