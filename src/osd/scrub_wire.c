/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of scrub: to and from bytes.
 */
#include <string.h>

#include "base/error.h"
#include "osd/scrub.h"

void scrub_result_fill(const struct pg_scrub *scrub, struct scrub_result_rows *rows)
{
    Fb__ScrubResult *to = &rows->result;

    *to = (Fb__ScrubResult)FB__SCRUB_RESULT__INIT;
    to->order = scrub->order;
    to->deep = scrub->deep;
    to->objects = scrub->objects;
    to->bytes = scrub->bytes;
    to->found = scrub->found;
    to->repaired = scrub->repaired;
    to->left = scrub->left;
    to->skipped = scrub->skipped;
    to->differing = scrub->differing;
    to->equalized = scrub->equalized;
    to->replicas = scrub->replicas;
    to->version = rows->versions;
    for (uint32_t i = 0; i < scrub->difference_count; i++) {
        const struct pg_difference *from = &scrub->difference[i];
        for (uint32_t j = 0; j < from->version_count; j++) {
            Fb__ScrubVersion *v = rows->versions[to->n_version] = &rows->version[to->n_version];
            to->n_version++;
            *v = (Fb__ScrubVersion)FB__SCRUB_VERSION__INIT;
            v->image = from->image;
            v->object = from->object;
            v->equalized = from->equalized;
            v->replica = from->version[j].replica;
            v->osd = from->version[j].osd;
            v->index = from->version[j].index;
            v->digest = from->version[j].digest;
            v->absent = from->version[j].absent;
        }
    }
}

int scrub_result_take(const Fb__ScrubResult *in, struct pg_scrub *ret)
{
    struct pg_scrub scrub = {.order = in->order,
                             .deep = in->deep,
                             .objects = in->objects,
                             .bytes = in->bytes,
                             .found = in->found,
                             .repaired = in->repaired,
                             .left = in->left,
                             .skipped = in->skipped,
                             .differing = in->differing,
                             .equalized = in->equalized,
                             .replicas = in->replicas};
    struct pg_difference *to = NULL;

    for (size_t i = 0; i < in->n_version; i++) {
        const Fb__ScrubVersion *v = in->version[i];
        if (!to || to->image != v->image || to->object != v->object) {
            if (scrub.difference_count == PG_SCRUB_DIFFERENCES)
                return -ERR_PROTOCOL;
            to = &scrub.difference[scrub.difference_count++];
            to->image = v->image;
            to->object = v->object;
            to->equalized = v->equalized;
        }
        if (to->version_count == RAFT_MEMBERS_MAX)
            return -ERR_PROTOCOL;
        to->version[to->version_count++] =
            (struct pg_version){v->replica, v->osd, v->index, v->digest, v->absent};
    }
    *ret = scrub;
    return 0;
}

int scrub_request_encode(const struct pg *pg, uint32_t to, uint64_t number, const struct scrub_range *range,
                         const struct content_key *key, uint32_t copy_from, const struct pg_scrub *so_far,
                         uint8_t *dst, uint32_t cap, uint32_t *ret_len)
{
    Fb__ScrubRequest request = FB__SCRUB_REQUEST__INIT;
    struct scrub_result_rows rows;

    request.pg = pg->id;
    request.from = pg->replica;
    request.to = to;
    request.term = pg->raft.term;
    request.number = number;
    request.deep = key != NULL;
    if (key)
        request.key = (ProtobufCBinaryData){sizeof(key->bytes), (uint8_t *)key->bytes};
    request.has_cursor = range->has_cursor;
    request.after_image = range->image;
    request.after_object = range->object;
    request.has_end = range->has_end;
    request.end_image = range->end_image;
    request.end_object = range->end_object;
    request.copy_from = copy_from;
    if (so_far) {
        scrub_result_fill(so_far, &rows);
        request.so_far = &rows.result;
    }
    return wire_cold_encode(&request.base, dst, cap, ret_len);
}

int scrub_view_encode(const struct scrub_view *view, uint8_t *dst, uint32_t *ret_len)
{
    Fb__ScrubReply reply = FB__SCRUB_REPLY__INIT;
    Fb__ScrubObject objects[SCRUB_ROWS_MAX], *pointers[SCRUB_ROWS_MAX];

    reply.applied_index = view->applied_index;
    reply.more = view->more;
    reply.bytes = view->bytes;
    reply.found = view->found;
    reply.repaired = view->repaired;
    reply.object = pointers;
    reply.n_object = view->row_count;
    for (uint32_t i = 0; i < view->row_count; i++) {
        const struct scrub_row *row = &view->rows[i];
        pointers[i] = &objects[i];
        objects[i] = (Fb__ScrubObject)FB__SCRUB_OBJECT__INIT;
        objects[i].image = row->image;
        objects[i].object = row->object;
        objects[i].index = row->index;
        objects[i].applied_index = row->applied_index;
        objects[i].digest = row->digest;
        if (row->damaged_count)
            objects[i].damaged = (ProtobufCBinaryData){sizeof(row->damaged), (uint8_t *)row->damaged};
        if (row->has_content)
            objects[i].content =
                (ProtobufCBinaryData){sizeof(row->content.bytes), (uint8_t *)row->content.bytes};
    }
    return wire_cold_encode(&reply.base, dst, SCRUB_REPLY_MAX, ret_len);
}

int scrub_view_decode(const uint8_t *src, uint32_t len, struct scrub_view *ret)
{
    uint64_t memory[1024];
    struct wire_arena arena;
    Fb__ScrubReply *in;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error = wire_cold_decode(&fb__scrub_reply__descriptor, src, len, &arena, &in);
    if (!error && in->n_object > SCRUB_ROWS_MAX)
        error = -ERR_PROTOCOL;
    for (size_t i = 0; !error && i < in->n_object; i++) {
        const Fb__ScrubObject *o = in->object[i];
        struct scrub_row *row = &ret->rows[i];
        *row = (struct scrub_row){.image = o->image,
                                  .object = o->object,
                                  .index = o->index,
                                  .applied_index = o->applied_index,
                                  .digest = o->digest};
        row->has_content = o->content.len;
        if ((o->damaged.len && o->damaged.len != sizeof(row->damaged)) ||
            (o->content.len && o->content.len != sizeof(row->content.bytes))) {
            error = -ERR_PROTOCOL;
            break;
        }
        if (o->damaged.len)
            memcpy(row->damaged, o->damaged.data, sizeof(row->damaged));
        if (o->content.len)
            memcpy(row->content.bytes, o->content.data, sizeof(row->content.bytes));
        for (uint32_t w = 0; w < ARRAY_LEN(row->damaged); w++)
            row->damaged_count += (uint32_t)__builtin_popcountll(row->damaged[w]);
    }
    if (!error) {
        ret->applied_index = in->applied_index;
        ret->more = in->more;
        ret->bytes = in->bytes;
        ret->found = in->found;
        ret->repaired = in->repaired;
        ret->row_count = (uint32_t)in->n_object;
    }
    wire_arena_fini(&arena);
    return error;
}
