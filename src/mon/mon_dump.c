/* SPDX-License-Identifier: Apache-2.0
 *
 * A copy of everything that is in the metadata store, for backups: item by item, in pages. Pages of one epoch
 * belong together; when something was changed in between, the asker begins anew.
 */
#include "mon/impl.h"

#include <stdlib.h>

#define ENTRY_BYTES 64                                     /* what an entry takes beside its value */
#define ROWS_MAX    ((size_t)MON_PAGE_BYTES / ENTRY_BYTES) /* in a page */

struct row {
    enum mon_kind kind;
    uint64_t id;
    ProtobufCMessage *message;
};

static int compare_rows(const void *a, const void *b)
{
    const struct row *left = a, *right = b;

    if (left->kind != right->kind)
        return left->kind < right->kind ? -1 : 1;
    return (left->id > right->id) - (left->id < right->id);
}

static size_t collect(const struct mon *mon, const Fb__MonDump *after, struct row *rows)
{
    size_t count = 0;

    for (int k = 0; k < MON_KINDS; k++)
        mon_for_each(mon, k, node)
        {
            if ((uint32_t)k < after->kind ||
                ((uint32_t)k == after->kind && node->key <= after->id && after->started))
                continue;
            if (rows)
                rows[count] = (struct row){(enum mon_kind)k, node->key, mon_node_item(node)->message};
            count++;
        }
    return count;
}

static bool fill(struct mon_request *r, const struct row *rows, size_t count)
{
    size_t bytes = 0, used = 0, all = count;

    count = MIN(count, ROWS_MAX);
    r->reply.entries = wire_arena_alloc(&r->arena, (count + 1) * sizeof(Fb__MonEntry *));
    if (!r->reply.entries)
        return false;
    for (; used < count && bytes < MON_PAGE_BYTES; used++) {
        Fb__MonEntry *entry = wire_arena_alloc(&r->arena, sizeof(*entry));
        size_t len = protobuf_c_message_get_packed_size(rows[used].message);
        char *key = wire_arena_alloc(&r->arena, 40);
        uint8_t *value = wire_arena_alloc(&r->arena, len + 1);
        if (!entry || !key || !value)
            return false;
        fb__mon_entry__init(entry);
        mon_key(rows[used].kind, rows[used].id, key);
        protobuf_c_message_pack(rows[used].message, value);
        entry->key = key;
        entry->value = (ProtobufCBinaryData){len, value};
        entry->kind = rows[used].kind;
        entry->id = rows[used].id;
        r->reply.entries[used] = entry;
        bytes += len + ENTRY_BYTES;
    }
    r->reply.n_entries = used;
    r->reply.more = used < all;
    return true;
}

void mon_dump(struct mon_request *r)
{
    struct mon *mon = r->mon;
    size_t count = collect(mon, r->call->mon_dump, NULL);
    struct row *rows = malloc((count + 1) * sizeof(*rows));
    uint8_t *state = wire_arena_alloc(&r->arena, fb__mon_state__get_packed_size(&mon->state) + 1);
    bool good = rows && state;

    if (good) {
        collect(mon, r->call->mon_dump, rows);
        qsort(rows, count, sizeof(*rows), compare_rows);
        r->reply.epoch = mon->state.epoch;
        r->reply.state.data = state;
        r->reply.state.len = fb__mon_state__pack(&mon->state, state);
        good = fill(r, rows, count);
    }
    mon_reply(r, good ? 0 : -ERR_NO_MEMORY);
    free(rows);
}
