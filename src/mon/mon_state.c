/* SPDX-License-Identifier: Apache-2.0
 *
 * Items in memory, and the load: the whole store is read into memory at the start, and again whenever the
 * outcome of a transaction is not known (soft state of items that are still there is kept).
 *
 *   START -> STATE -> [CREATE ->] RANGE (kind by kind, page by page) -> RECHECK -> [ORPHANS ...] -> done
 *
 * RECHECK reads the state again: if it changed while the ranges were read, all is read anew. Orphans are the
 * PGs of a pool whose creation was interrupted before its last transaction: no map ever showed them, and they
 * are deleted here.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"

#define LOAD_PAGE 512
#define STATE_KEY "cluster"

static const struct {
    const char *prefix;
    const ProtobufCMessageDescriptor *type;
    size_t node_size_bytes;
} kinds[MON_KINDS] = {
    [MON_OSD] = {"osd/", &fb__osd__descriptor, sizeof(struct mon_osd)},
    [MON_POOL] = {"pool/", &fb__pool__descriptor, sizeof(struct mon_pool)},
    [MON_PG] = {"pg/", &fb__pg__descriptor, sizeof(struct mon_pg)},
    [MON_IMAGE] = {"image/", &fb__image__descriptor, sizeof(struct mon_image)},
    [MON_ORDER] = {"order/", &fb__image_order__descriptor, sizeof(struct mon_order)},
    [MON_SCRUB] = {"scrub/", &fb__pg_scrub__descriptor, sizeof(struct mon_scrub)},
};

static void *item_alloc(void *self, size_t len)
{
    return malloc(len);
}

static void item_free(void *self, void *memory)
{
    free(memory);
}

ProtobufCAllocator mon_allocator = {item_alloc, item_free, NULL};

const ProtobufCMessageDescriptor *mon_kind_type(enum mon_kind kind)
{
    return kinds[kind].type;
}

void mon_key(enum mon_kind kind, uint64_t id, char ret_key[40])
{
    if (kind == MON_PG || kind == MON_SCRUB)
        snprintf(ret_key, 40, "%s%08" PRIx32 "/%08" PRIx32, kinds[kind].prefix, mon_pg_pool(id),
                 mon_pg_number(id));
    else if (kind == MON_OSD || kind == MON_POOL)
        snprintf(ret_key, 40, "%s%08" PRIx64, kinds[kind].prefix, id);
    else
        snprintf(ret_key, 40, "%s%016" PRIx64, kinds[kind].prefix, id);
}

struct mon_item *mon_item_new(enum mon_kind kind)
{
    return calloc(1, kinds[kind].node_size_bytes);
}

void mon_item_free(enum mon_kind kind, struct mon_item *item)
{
    if (!item)
        return;
    if (kind == MON_ORDER)
        free(container_of(item, struct mon_order, item)->confirmed);
    if (kind == MON_PG)
        free(container_of(item, struct mon_pg, item)->scrub);
    if (item->message)
        protobuf_c_message_free_unpacked(item->message, &mon_allocator);
    free(item);
}

void mon_item_forget(struct mon *mon, enum mon_kind kind, uint64_t id)
{
    struct map_node *node = map_remove(&mon->items[kind], id);

    if (node)
        mon_item_free(kind, mon_node_item(node));
}

uint64_t mon_item_epoch(enum mon_kind kind, const ProtobufCMessage *message)
{
    switch (kind) {
    case MON_OSD:
        return ((const Fb__Osd *)message)->epoch;
    case MON_POOL:
        return ((const Fb__Pool *)message)->epoch;
    case MON_PG:
        return ((const Fb__Pg *)message)->epoch;
    case MON_ORDER:
        return ((const Fb__ImageOrder *)message)->epoch;
    case MON_IMAGE: /* not part of the map */
    case MON_SCRUB:
    case MON_KINDS:
        break;
    }
    return 0;
}

int mon_item_validate(enum mon_kind kind, const ProtobufCMessage *message, uint64_t *ret_id)
{
    bool good = false;

    switch (kind) {
    case MON_OSD: {
        const Fb__Osd *o = (const Fb__Osd *)message;
        good = o->uuid.len == 16 && o->n_shard >= 1 && o->n_shard <= PLACEMENT_SHARDS_MAX &&
               o->out <= MON_OUT_ORDERED && o->weight <= MON_WEIGHT_MAX;
        *ret_id = o->id;
        break;
    }
    case MON_POOL: {
        const Fb__Pool *p = (const Fb__Pool *)message;
        enum placement_domain domain;
        good = p->id >= 1 && p->replicas >= 1 && p->replicas <= MON_REPLICAS_MAX &&
               (p->pg_count >= 1 || p->removed) && p->pg_count <= MON_PGS_MAX &&
               !placement_domain_parse(p->failure_domain, &domain);
        *ret_id = p->id;
        break;
    }
    case MON_PG: {
        const Fb__Pg *p = (const Fb__Pg *)message;
        good = p->n_member <= MON_GROUP_MAX && p->n_wanted <= MON_MEMBERS_MAX &&
               p->n_leaving <= MON_MEMBERS_MAX && p->n_dropped <= MON_MEMBERS_MAX &&
               mon_pg_pool(p->id) >= 1 && mon_pg_number(p->id) < MON_PGS_MAX;
        *ret_id = p->id;
        break;
    }
    case MON_IMAGE: {
        const Fb__Image *i = (const Fb__Image *)message;
        good = i->id >= 1 && i->pool >= 1 && (i->writer_client.len == 0 || i->writer_client.len == 16);
        *ret_id = i->id;
        break;
    }
    case MON_ORDER: {
        const Fb__ImageOrder *o = (const Fb__ImageOrder *)message;
        good = o->image >= 1 && o->pool >= 1;
        *ret_id = o->image;
        break;
    }
    case MON_SCRUB: {
        const Fb__PgScrub *s = (const Fb__PgScrub *)message;
        good = mon_pg_pool(s->pg) >= 1 && mon_pg_number(s->pg) < MON_PGS_MAX;
        for (size_t i = 0; i < s->n_damage; i++)
            good &= s->damage[i]->blocks.len == BLOCKS_PER_OBJECT / 8;
        *ret_id = s->pg;
        break;
    }
    case MON_KINDS:
        break;
    }
    return good ? 0 : -ERR_FORMAT;
}

/* ---- the load ---- */

enum load_state { LOAD_START, LOAD_STATE, LOAD_CREATE, LOAD_RANGE, LOAD_RECHECK, LOAD_ORPHANS };

static const char *load_state_name(int state)
{
    static const char *const names[] = {"start", "state", "create", "range", "recheck", "orphans"};
    return names[state];
}

static void range_start(struct mon_load *l, const char *first, const char *end)
{
    snprintf(l->first, sizeof(l->first), "%s", first);
    if (end)
        snprintf(l->end, sizeof(l->end), "%s", end);
    l->range = (struct meta_range){.first = l->first,
                                   .end = end ? l->end : NULL,
                                   .limit = end ? LOAD_PAGE : 0,
                                   .waiter = &l->op,
                                   .pending = true};
    l->mon->config.meta->ops->range(l->mon->config.meta, &l->range);
}

static void range_end(struct mon_load *l)
{
    l->mon->config.meta->ops->range_fini(l->mon->config.meta, &l->range);
}

static void range_start_kind(struct mon_load *l)
{
    char end[16];

    snprintf(end, sizeof(end), "%s", kinds[l->kind].prefix);
    end[strlen(end) - 1]++; /* behind every key with the prefix */
    range_start(l, kinds[l->kind].prefix, end);
}

/* The answer to a read of the state's key: 1: it is there and taken over; 0: it is not there. */
static int take_state(struct mon_load *l)
{
    if (l->range.result)
        return l->range.result;
    if (l->range.ret_count == 0)
        return 0;
    const struct meta_kv *kv = &l->range.ret_kvs[0];
    Fb__MonState *state = fb__mon_state__unpack(&mon_allocator, kv->value_len, kv->value);
    if (!state || state->cluster.len != 16 || state->format != 1 || state->epoch == 0) {
        if (state && state->cluster.len == 16 && state->format > 1) {
            snprintf(
                l->message, sizeof(l->message),
                "the metadata was written by a newer version (format %u, this one knows 1): use that version",
                state->format);
            fb__mon_state__free_unpacked(state, &mon_allocator);
            return -ERR_VERSION;
        }
        snprintf(l->message, sizeof(l->message), "the value of key '%s' is not this program's, or damaged",
                 STATE_KEY);
        if (state)
            fb__mon_state__free_unpacked(state, &mon_allocator);
        return -ERR_FORMAT;
    }
    if (l->state)
        fb__mon_state__free_unpacked(l->state, &mon_allocator);
    l->state = state;
    l->revision = kv->mod_revision;
    return 1;
}

static void create_start(struct mon_load *l)
{
    struct mon *mon = l->mon;
    struct uuid uuid = uuid_make(core_random_u64(mon->core), core_random_u64(mon->core));
    Fb__MonState state = FB__MON_STATE__INIT;

    state.format = 1;
    state.cluster.data = uuid.bytes;
    state.cluster.len = 16;
    state.epoch = 1;
    state.pool_next = 1;
    ASSERT(fb__mon_state__get_packed_size(&state) <= sizeof(l->value));
    l->changes[0] = (struct meta_change){
        .key = STATE_KEY, .value = l->value, .value_len = (uint32_t)fb__mon_state__pack(&state, l->value)};
    l->condition = (struct meta_condition){.key = STATE_KEY};
    l->txn = (struct meta_txn){.conditions = &l->condition,
                               .condition_count = 1,
                               .changes = l->changes,
                               .change_count = 1,
                               .waiter = &l->op,
                               .pending = true};
    mon->config.meta->ops->txn(mon->config.meta, &l->txn);
}

static int add_orphan(struct mon_load *l, const char *key)
{
    if (l->orphan_count == l->orphan_cap) {
        uint32_t cap = MAX(l->orphan_cap * 2, 64u);
        char(*more)[40] = realloc(l->orphans, cap * sizeof(*more));
        if (!more)
            return -ERR_NO_MEMORY;
        l->orphans = more;
        l->orphan_cap = cap;
    }
    snprintf(l->orphans[l->orphan_count++], sizeof(*l->orphans), "%.39s", key);
    return 0;
}

static int install_loaded(struct mon_load *l, const struct meta_kv *kv)
{
    struct mon *mon = l->mon;
    enum mon_kind kind = (enum mon_kind)l->kind;
    char key[40];
    uint64_t id = 0;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(kinds[kind].type, &mon_allocator, kv->value_len, kv->value);

    int error = message ? mon_item_validate(kind, message, &id) : -ERR_FORMAT;
    if (!error) {
        mon_key(kind, id, key);
        if (strcmp(key, kv->key))
            error = -ERR_FORMAT;
    }
    if (error) {
        snprintf(l->message, sizeof(l->message), "the value of key '%.40s' is damaged", kv->key);
        goto fail;
    }
    if (kind == MON_PG && !mon_find(mon, MON_POOL, mon_pg_pool(id))) {
        error = add_orphan(l, key);
        goto fail; /* also when it is 0: not an item */
    }
    struct mon_item *item = mon_find(mon, kind, id);
    if (!item) {
        item = mon_item_new(kind);
        if (!item) {
            error = -ERR_NO_MEMORY;
            goto fail;
        }
        map_put(&mon->items[kind], &item->by_id, id);
        if (kind == MON_IMAGE)
            container_of(item, struct mon_image, item)->writer_gone_ns = mon->alive_ns;
    }
    if (item->message)
        protobuf_c_message_free_unpacked(item->message, &mon_allocator);
    item->message = message;
    item->seen = true;
    return 0;
fail:
    if (message)
        protobuf_c_message_free_unpacked(message, &mon_allocator);
    return error;
}

static void forget_unseen(struct mon *mon, enum mon_kind kind)
{
    mon_for_each(mon, kind, node)
    {
        if (!mon_node_item(node)->seen)
            mon_item_forget(mon, kind, node->key);
    }
}

/* One page of a kind. 1: the kind is complete. */
static int take_page(struct mon_load *l)
{
    if (l->range.result)
        return l->range.result;
    int error = 0;
    for (uint32_t i = 0; i < l->range.ret_count && !error; i++)
        error = install_loaded(l, &l->range.ret_kvs[i]);
    if (error)
        return error;
    if (!l->range.ret_more || l->range.ret_count == 0) {
        forget_unseen(l->mon, (enum mon_kind)l->kind);
        return 1;
    }
    /* The next key in byte order is the last one plus the smallest printable character. */
    char first[META_KEY_MAX + 2];
    snprintf(first, sizeof(first), "%s ", l->range.ret_kvs[l->range.ret_count - 1].key);
    snprintf(l->first, sizeof(l->first), "%s", first);
    return 0;
}

static void orphans_start(struct mon_load *l)
{
    l->orphan_batch = MIN(l->orphan_count, (uint32_t)META_TXN_OPS_MAX);
    for (uint32_t i = 0; i < l->orphan_batch; i++)
        l->changes[i] = (struct meta_change){.key = l->orphans[l->orphan_count - l->orphan_batch + i]};
    l->condition = (struct meta_condition){.key = STATE_KEY, .mod_revision = l->revision};
    l->txn = (struct meta_txn){.conditions = &l->condition,
                               .condition_count = 1,
                               .changes = l->changes,
                               .change_count = l->orphan_batch,
                               .waiter = &l->op,
                               .pending = true};
    l->mon->config.meta->ops->txn(l->mon->config.meta, &l->txn);
}

static void load_end(struct mon_load *l, int result)
{
    struct mon *mon = l->mon;

    if (result == 0) {
        memcpy(mon->cluster, l->state->cluster.data, 16);
        memcpy(mon->self.cluster, mon->cluster, 16);
        mon->state = *l->state;
        mon->state.base.n_unknown_fields = 0; /* theirs are freed with the decoded message */
        mon->state.base.unknown_fields = NULL;
        mon->state.cluster.data = mon->cluster;
        mon->state_revision = l->revision;
        mon->self.epoch = mon->state.epoch;
        mon->self.image_id_max = mon->state.image_id_max;
        mon->stale = false;
    } else {
        core_log(mon->core, LOG_ERROR, "mon", "cannot load the metadata: %s%s%s", error_text(result),
                 l->message[0] ? ": " : "", l->message);
    }
    if (l->state)
        fb__mon_state__free_unpacked(l->state, &mon_allocator);
    free(l->orphans);
    l->state = NULL;
    l->orphans = NULL;
    op_done(&l->op, result);
}

static void load_begin(struct mon_load *l)
{
    for (int k = 0; k < MON_KINDS; k++)
        mon_for_each(l->mon, k, node) mon_node_item(node)->seen = false;
    l->kind = 0;
    l->orphan_count = 0;
    range_start(l, STATE_KEY, NULL);
    l->op.state = LOAD_STATE;
}

static void load_step(struct op *op)
{
    struct mon_load *l = container_of(op, struct mon_load, op);
    int got;

    for (;;) {
        if (l->range.pending || l->txn.pending)
            return;
        switch ((enum load_state)op->state) {
        case LOAD_START:
            load_begin(l);
            continue;
        case LOAD_STATE:
            got = take_state(l);
            range_end(l);
            if (got == 0 && l->create) {
                create_start(l);
                op->state = LOAD_CREATE;
                continue;
            }
            if (got <= 0) {
                if (got == 0)
                    snprintf(l->message, sizeof(l->message), "the store is empty");
                load_end(l, got ? got : -ERR_FORMAT);
                return;
            }
            range_start_kind(l);
            op->state = LOAD_RANGE;
            continue;
        case LOAD_CREATE:
            if (l->txn.result && l->txn.result != -ERR_CONFLICT) {
                load_end(l, l->txn.result);
                return;
            }
            load_begin(l);
            continue;
        case LOAD_RANGE:
            got = take_page(l);
            range_end(l);
            if (got < 0) {
                load_end(l, got);
                return;
            }
            if (got == 0) {
                char first[META_KEY_MAX + 2], end[META_KEY_MAX + 2];
                memcpy(first, l->first, sizeof(first));
                memcpy(end, l->end, sizeof(end));
                range_start(l, first, end);
            } else if (++l->kind < MON_KINDS) {
                range_start_kind(l);
            } else {
                range_start(l, STATE_KEY, NULL);
                op->state = LOAD_RECHECK;
            }
            continue;
        case LOAD_RECHECK: {
            uint64_t before = l->revision;
            got = take_state(l);
            range_end(l);
            if (got <= 0) {
                load_end(l, got ? got : -ERR_FORMAT);
                return;
            }
            if (l->revision != before) {
                load_begin(l);
                continue;
            }
            op->state = LOAD_ORPHANS;
            if (l->orphan_count) {
                core_log(l->mon->core, LOG_INFO, "mon",
                         "an interrupted creation of a pool left %u PGs: deleting them", l->orphan_count);
                orphans_start(l);
                continue;
            }
            load_end(l, 0);
            return;
        }
        case LOAD_ORPHANS:
            if (l->txn.result) {
                load_end(l, l->txn.result);
                return;
            }
            l->orphan_count -= l->orphan_batch;
            if (l->orphan_count) {
                orphans_start(l);
                continue;
            }
            load_end(l, 0);
            return;
        }
    }
}

static const struct op_kind load_kind = {"mon.load", load_state_name, load_step};

void mon_load_start(struct mon *mon, bool create, struct op *parent)
{
    struct mon_load *l = &mon->load;

    ASSERT(!op_live(&l->op));
    *l = (struct mon_load){.mon = mon, .create = create};
    op_start(&l->op, mon->core, &load_kind, parent);
}
