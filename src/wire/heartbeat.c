/* SPDX-License-Identifier: Apache-2.0
 *
 * The merged heartbeat of a pair of shards, and its reply.
 */
#include "wire/wire.h"

#include <string.h>

#include "base/error.h"
#include "wire/template.h"

#define GROUP_FIXED     (3 * SIZE_U64 + 2 * SIZE_U32)
#define HEARTBEAT_FIXED (5 * SIZE_U64 + SIZE_U32)

/* ---- Heartbeat ---- */

size_t wire_heartbeat_size(const struct wire_heartbeat *m)
{
    ASSERT(m->group_count <= WIRE_GROUPS_MAX);
    return HEARTBEAT_FIXED + m->group_count * (put_len_size(GROUP_FIXED) + GROUP_FIXED);
}

size_t wire_heartbeat_encode(uint8_t *dst, const struct wire_heartbeat *m)
{
    uint8_t *at = dst;

    ASSERT(m->group_count <= WIRE_GROUPS_MAX);
    at = put_u64(at, 1, m->incarnation);
    at = put_u64(at, 2, m->seq);
    at = put_u64(at, 3, m->sent_ns);
    at = put_u64(at, 4, m->base_version);
    at = put_u64(at, 5, m->set_version);
    at = put_u32(at, 7, m->rest_ms);
    for (uint32_t i = 0; i < m->group_count; i++) {
        const struct wire_heartbeat_group *group = &m->groups[i];
        at = put_len(at, 6, GROUP_FIXED);
        at = put_u64(at, 1, group->pg);
        at = put_u64(at, 2, group->term);
        at = put_u64(at, 3, group->commit);
        at = put_u32(at, 4, group->from);
        at = put_u32(at, 5, group->to);
    }
    return (size_t)(at - dst);
}

struct slow_heartbeat {
    struct wire_heartbeat *ret;
    struct wire_heartbeat_group *ret_groups;
};

static int heartbeat_fill(const void *message, void *context)
{
    const Fb__Heartbeat *from = message;
    struct slow_heartbeat *slow = context;

    if (from->n_group > WIRE_GROUPS_MAX)
        return -ERR_TOO_LARGE;
    for (size_t i = 0; i < from->n_group; i++) {
        const Fb__HeartbeatGroup *group = from->group[i];
        slow->ret_groups[i] = (struct wire_heartbeat_group){
            .pg = group->pg,
            .term = group->term,
            .commit = group->commit,
            .from = group->from,
            .to = group->to,
        };
    }
    *slow->ret = (struct wire_heartbeat){
        .incarnation = from->incarnation,
        .seq = from->seq,
        .sent_ns = from->sent_ns,
        .base_version = from->base_version,
        .set_version = from->set_version,
        .rest_ms = from->rest_ms,
        .group_count = (uint32_t)from->n_group,
        .groups = slow->ret_groups,
    };
    return 0;
}

static bool heartbeat_template(const uint8_t *src, size_t len, struct wire_heartbeat *ret,
                               struct wire_heartbeat_group *ret_groups)
{
    struct template t = {.at = src, .end = src + len};

    if (len < HEARTBEAT_FIXED)
        return false;
    struct wire_heartbeat m = {.groups = ret_groups};
    m.incarnation = take_u64(&t, 1);
    m.seq = take_u64(&t, 2);
    m.sent_ns = take_u64(&t, 3);
    m.base_version = take_u64(&t, 4);
    m.set_version = take_u64(&t, 5);
    m.rest_ms = take_u32(&t, 7);
    while (template_left(&t) && !t.wrong) {
        size_t group_len;
        if (m.group_count == WIRE_GROUPS_MAX || !take_len(&t, 6, &group_len) || group_len != GROUP_FIXED)
            return false;
        struct wire_heartbeat_group *group = &ret_groups[m.group_count++];
        group->pg = take_u64(&t, 1);
        group->term = take_u64(&t, 2);
        group->commit = take_u64(&t, 3);
        group->from = take_u32(&t, 4);
        group->to = take_u32(&t, 5);
    }
    if (t.wrong)
        return false;
    *ret = m;
    return true;
}

int wire_heartbeat_decode(const uint8_t *src, size_t len, struct wire_heartbeat *ret,
                          struct wire_heartbeat_group ret_groups[WIRE_GROUPS_MAX])
{
    if (heartbeat_template(src, len, ret, ret_groups))
        return 0;
    return slow_decode(&fb__heartbeat__descriptor, src, len, heartbeat_fill,
                       &(struct slow_heartbeat){ret, ret_groups});
}

/* ---- HeartbeatReply ---- */

#define HEARTBEAT_REPLY_FIXED (4 * SIZE_U64)

size_t wire_heartbeat_reply_size(const struct wire_heartbeat_reply *m)
{
    ASSERT(m->refused_count <= WIRE_REFUSED_MAX);
    return HEARTBEAT_REPLY_FIXED + put_array_u64_size(m->refused_count);
}

size_t wire_heartbeat_reply_encode(uint8_t *dst, const struct wire_heartbeat_reply *m)
{
    uint8_t *at = dst;

    ASSERT(m->refused_count <= WIRE_REFUSED_MAX);
    at = put_u64(at, 1, m->incarnation);
    at = put_u64(at, 2, m->seq);
    at = put_u64(at, 3, m->sent_ns);
    at = put_u64(at, 4, m->set_version);
    at = put_array_u64(at, 5, m->refused, m->refused_count);
    return (size_t)(at - dst);
}

struct slow_heartbeat_reply {
    struct wire_heartbeat_reply *ret;
    uint64_t *ret_refused;
};

static int heartbeat_reply_fill(const void *message, void *context)
{
    const Fb__HeartbeatReply *from = message;
    struct slow_heartbeat_reply *slow = context;

    if (from->n_refused_pg > WIRE_REFUSED_MAX)
        return -ERR_TOO_LARGE;
    if (from->n_refused_pg)
        memcpy(slow->ret_refused, from->refused_pg, from->n_refused_pg * sizeof(*from->refused_pg));
    *slow->ret = (struct wire_heartbeat_reply){
        .incarnation = from->incarnation,
        .seq = from->seq,
        .sent_ns = from->sent_ns,
        .set_version = from->set_version,
        .refused_count = (uint32_t)from->n_refused_pg,
        .refused = slow->ret_refused,
    };
    return 0;
}

int wire_heartbeat_reply_decode(const uint8_t *src, size_t len, struct wire_heartbeat_reply *ret,
                                uint64_t ret_refused[WIRE_REFUSED_MAX])
{
    struct template t = {.at = src, .end = src + len};

    if (len >= HEARTBEAT_REPLY_FIXED) {
        struct wire_heartbeat_reply m;
        m.incarnation = take_u64(&t, 1);
        m.seq = take_u64(&t, 2);
        m.sent_ns = take_u64(&t, 3);
        m.set_version = take_u64(&t, 4);
        m.refused = ret_refused;
        if (!t.wrong && take_array_u64(&t, 5, WIRE_REFUSED_MAX, ret_refused, &m.refused_count)) {
            *ret = m;
            return 0;
        }
    }
    return slow_decode(&fb__heartbeat_reply__descriptor, src, len, heartbeat_reply_fill,
                       &(struct slow_heartbeat_reply){ret, ret_refused});
}
