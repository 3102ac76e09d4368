/* SPDX-License-Identifier: Apache-2.0
 *
 * AppendRequest, its entries, and its reply.
 */
#include "wire/wire.h"

#include <string.h>

#include "base/error.h"
#include "base/group.h"
#include "base/placement.h"
#include "wire/template.h"

/* ---- Entry ---- */

#define ENTRY_FIXED (6 * SIZE_U64 + 4 * SIZE_U32)

static size_t entry_size(const struct entry *e)
{
    return ENTRY_FIXED + put_array_u32_size(entry_crc_count(e));
}

static uint8_t *put_entry(uint8_t *at, const struct entry *e)
{
    at = put_u64(at, 1, e->term);
    at = put_u32(at, 2, e->type);
    at = put_u32(at, 3, e->flags);
    at = put_u64(at, 4, e->image);
    at = put_u64(at, 5, e->object);
    at = put_u32(at, 6, e->first_block);
    at = put_u32(at, 7, e->block_count);
    at = put_u64(at, 8, e->incarnation);
    at = put_u64(at, 9, e->generation);
    at = put_u64(at, 10, e->size_bytes);
    return put_array_u32(at, 11, e->crc, entry_crc_count(e));
}

/* `crc_max` is the room left in ret_crc. A struct entry has no count of its checksums: it follows from type
 * and block_count, and a message in which it does not is no template (and then refused by the slow path). */
static bool take_entry(const uint8_t *src, size_t len, struct entry *ret, uint32_t *ret_crc, uint32_t crc_max,
                       uint32_t *ret_crc_count)
{
    struct template t = {.at = src, .end = src + len};
    uint32_t crc_count;

    if (len < ENTRY_FIXED)
        return false;
    ret->term = take_u64(&t, 1);
    ret->type = take_u32(&t, 2);
    ret->flags = take_u32(&t, 3);
    ret->image = take_u64(&t, 4);
    ret->object = take_u64(&t, 5);
    ret->first_block = take_u32(&t, 6);
    ret->block_count = take_u32(&t, 7);
    ret->incarnation = take_u64(&t, 8);
    ret->generation = take_u64(&t, 9);
    ret->size_bytes = take_u64(&t, 10);
    if (t.wrong || !take_array_u32(&t, 11, crc_max, ret_crc, &crc_count) || crc_count != entry_crc_count(ret))
        return false;
    ret->crc = crc_count ? ret_crc : NULL;
    *ret_crc_count = crc_count;
    return true;
}

int wire_entry_validate(const struct entry *e)
{
    uint32_t flags_known = e->type == ENTRY_IMAGE ? ENTRY_IMAGE_DELETED : 0;

    if (e->flags & ~flags_known)
        return -ERR_PROTOCOL;
    switch (e->type) {
    case ENTRY_NOOP:
    case ENTRY_IMAGE:
    case ENTRY_FORGET:
        return e->first_block || e->block_count ? -ERR_PROTOCOL : 0;
    case ENTRY_WRITE:
        if (e->block_count > IO_BLOCKS_MAX || !e->crc)
            return -ERR_PROTOCOL;
        break;
    case ENTRY_CLEAR:
        break;
    case ENTRY_GROUP:
    case ENTRY_SPLIT: {
        struct group group;
        bool numbered = e->type == ENTRY_GROUP || (e->image && e->image < PLACEMENT_PGS_MAX);
        return e->first_block || !numbered ? -ERR_PROTOCOL : group_from_entry(e, &group);
    }
    default:
        return -ERR_PROTOCOL;
    }
    bool inside = e->block_count && e->first_block < BLOCKS_PER_OBJECT &&
                  e->block_count <= BLOCKS_PER_OBJECT - e->first_block;
    return inside ? 0 : -ERR_PROTOCOL;
}

/* ---- AppendRequest ---- */

#define APPEND_REQUEST_FIXED (6 * SIZE_U64 + 2 * SIZE_U32)

size_t wire_append_request_size(const struct wire_append_request *m)
{
    size_t size = APPEND_REQUEST_FIXED + (m->patient ? SIZE_U32 : 0);

    ASSERT(m->entry_count <= WIRE_ENTRIES_MAX);
    for (uint32_t i = 0; i < m->entry_count; i++) {
        size_t entry = entry_size(&m->entries[i]);
        size += put_len_size(entry) + entry;
    }
    return size;
}

size_t wire_append_request_encode(uint8_t *dst, const struct wire_append_request *m)
{
    uint8_t *at = dst;

    ASSERT(m->entry_count <= WIRE_ENTRIES_MAX);
    at = put_u64(at, 1, m->pg);
    at = put_u32(at, 2, m->from);
    at = put_u32(at, 3, m->to);
    at = put_u64(at, 4, m->term);
    at = put_u64(at, 5, m->prev_index);
    at = put_u64(at, 6, m->prev_term);
    at = put_u64(at, 7, m->commit);
    at = put_u64(at, 8, m->sent_ns);
    for (uint32_t i = 0; i < m->entry_count; i++) {
        at = put_len(at, 9, entry_size(&m->entries[i]));
        at = put_entry(at, &m->entries[i]);
    }
    if (m->patient)
        at = put_u32(at, 10, 1);
    return (size_t)(at - dst);
}

/* The indexes of the entries must exist. */
static bool append_indexes_fit(uint64_t prev_index)
{
    return prev_index <= UINT64_MAX - WIRE_ENTRIES_MAX;
}

struct slow_append {
    struct wire_append_request *ret;
    struct entry *ret_entries;
    uint32_t *ret_crc;
};

static int append_request_fill(const void *message, void *context)
{
    const Fb__AppendRequest *from = message;
    struct slow_append *slow = context;
    size_t crc_used = 0;

    if (from->n_entry > WIRE_ENTRIES_MAX)
        return -ERR_TOO_LARGE;
    if (!append_indexes_fit(from->prev_index))
        return -ERR_PROTOCOL;
    for (size_t i = 0; i < from->n_entry; i++) {
        const Fb__Entry *e = from->entry[i];
        struct entry *to = &slow->ret_entries[i];
        if (e->n_crc > WIRE_APPEND_CRC_MAX - crc_used)
            return -ERR_TOO_LARGE;
        *to = (struct entry){
            .index = from->prev_index + 1 + i,
            .term = e->term,
            .type = e->type,
            .flags = e->flags,
            .image = e->image,
            .object = e->object,
            .first_block = e->first_block,
            .block_count = e->block_count,
            .incarnation = e->incarnation,
            .generation = e->generation,
            .size_bytes = e->size_bytes,
        };
        if (e->n_crc != entry_crc_count(to))
            return -ERR_PROTOCOL;
        if (e->n_crc) {
            to->crc = memcpy(slow->ret_crc + crc_used, e->crc, e->n_crc * sizeof(*e->crc));
            crc_used += e->n_crc;
        }
    }
    *slow->ret = (struct wire_append_request){
        .pg = from->pg,
        .from = from->from,
        .to = from->to,
        .term = from->term,
        .prev_index = from->prev_index,
        .prev_term = from->prev_term,
        .commit = from->commit,
        .sent_ns = from->sent_ns,
        .patient = from->patient,
        .entry_count = (uint32_t)from->n_entry,
        .entries = slow->ret_entries,
    };
    return 0;
}

static bool append_request_template(const uint8_t *src, size_t len, struct wire_append_request *ret,
                                    struct entry *ret_entries, uint32_t *ret_crc)
{
    struct template t = {.at = src, .end = src + len};
    uint32_t crc_used = 0;

    if (len < APPEND_REQUEST_FIXED)
        return false;
    struct wire_append_request m = {.entries = ret_entries};
    m.pg = take_u64(&t, 1);
    m.from = take_u32(&t, 2);
    m.to = take_u32(&t, 3);
    m.term = take_u64(&t, 4);
    m.prev_index = take_u64(&t, 5);
    m.prev_term = take_u64(&t, 6);
    m.commit = take_u64(&t, 7);
    m.sent_ns = take_u64(&t, 8);
    if (t.wrong || !append_indexes_fit(m.prev_index))
        return false;
    while (template_left(&t)) {
        size_t entry_len;
        uint32_t crc_count;
        if (template_left(&t) == SIZE_U32 && *t.at == TAG_U32(10)) {
            m.patient = take_u32(&t, 10);
            break;
        }
        if (m.entry_count == WIRE_ENTRIES_MAX || !take_len(&t, 9, &entry_len))
            return false;
        struct entry *e = &ret_entries[m.entry_count];
        if (!take_entry(t.at, entry_len, e, ret_crc + crc_used, WIRE_APPEND_CRC_MAX - crc_used, &crc_count))
            return false;
        e->index = m.prev_index + 1 + m.entry_count++;
        crc_used += crc_count;
        t.at += entry_len;
    }
    *ret = m;
    return true;
}

int wire_append_request_decode(const uint8_t *src, size_t len, struct wire_append_request *ret,
                               struct entry ret_entries[WIRE_ENTRIES_MAX],
                               uint32_t ret_crc[WIRE_APPEND_CRC_MAX])
{
    if (append_request_template(src, len, ret, ret_entries, ret_crc))
        return 0;
    return slow_decode(&fb__append_request__descriptor, src, len, append_request_fill,
                       &(struct slow_append){ret, ret_entries, ret_crc});
}

/* ---- AppendReply ---- */

#define APPEND_REPLY_FIXED (7 * SIZE_U64 + 3 * SIZE_U32)

size_t wire_append_reply_size(const struct wire_append_reply *m)
{
    return APPEND_REPLY_FIXED;
}

size_t wire_append_reply_encode(uint8_t *dst, const struct wire_append_reply *m)
{
    uint8_t *at = dst;

    at = put_u64(at, 1, m->pg);
    at = put_u32(at, 2, m->from);
    at = put_u32(at, 3, m->to);
    at = put_u64(at, 4, m->term);
    at = put_u64(at, 5, m->match);
    at = put_u64(at, 6, m->hint_term);
    at = put_u64(at, 7, m->sent_ns);
    at = put_u64(at, 8, m->free_bytes);
    at = put_u32(at, 9, m->flags);
    at = put_u64(at, 10, m->complete);
    return (size_t)(at - dst);
}

static int append_reply_fill(const void *message, void *context)
{
    const Fb__AppendReply *from = message;

    *(struct wire_append_reply *)context = (struct wire_append_reply){
        .pg = from->pg,
        .from = from->from,
        .to = from->to,
        .term = from->term,
        .match = from->match,
        .hint_term = from->hint_term,
        .sent_ns = from->sent_ns,
        .free_bytes = from->free_bytes,
        .flags = from->flags,
        .complete = from->complete,
    };
    return 0;
}

int wire_append_reply_decode(const uint8_t *src, size_t len, struct wire_append_reply *ret)
{
    struct template t = {.at = src, .end = src + len};

    if (len == APPEND_REPLY_FIXED) {
        struct wire_append_reply m;
        m.pg = take_u64(&t, 1);
        m.from = take_u32(&t, 2);
        m.to = take_u32(&t, 3);
        m.term = take_u64(&t, 4);
        m.match = take_u64(&t, 5);
        m.hint_term = take_u64(&t, 6);
        m.sent_ns = take_u64(&t, 7);
        m.free_bytes = take_u64(&t, 8);
        m.flags = take_u32(&t, 9);
        m.complete = take_u64(&t, 10);
        if (!t.wrong) {
            *ret = m;
            return 0;
        }
    }
    return slow_decode(&fb__append_reply__descriptor, src, len, append_reply_fill, ret);
}
