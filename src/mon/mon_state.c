/* SPDX-License-Identifier: Apache-2.0
 *
 * Items in memory, and the load: the whole store is read into memory at the start, and again whenever the
 * outcome of a transaction is not known (soft state of items that are still there is kept).
 *
 *   START -> STATE -> [CREATE ->] RANGE (kind by kind, page by page) -> RECHECK -> [ORPHANS ...] -> done
 *
 * RECHECK reads the state again: if it changed while the ranges were read, all is read anew. Orphans are the
 * PGs of a pool whose creation was interrupted before its last transaction: no map ever showed them, and the
 * monitor that leads deletes them here. For one that follows they may belong to a change that is under way.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"

#define LOAD_PAGE 512
#define STATE_KEY "cluster"
#define STATE_END "cluster0" /* behind all keys "cluster/..." */

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
    [MON_MONITORS] = {"monitors/", &fb__monitor_list__descriptor, sizeof(struct mon_monitors)},
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
    if (kind == MON_PG) {
        free(container_of(item, struct mon_pg, item)->scrub);
        free(container_of(item, struct mon_pg, item)->news);
        free(container_of(item, struct mon_pg, item)->standings);
    }
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
    case MON_MONITORS:
        return ((const Fb__MonitorList *)message)->epoch;
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
               p->pg_target <= MON_PGS_MAX && !placement_domain_parse(p->failure_domain, &domain);
        *ret_id = p->id;
        break;
    }
    case MON_PG: {
        const Fb__Pg *p = (const Fb__Pg *)message;
        good = p->n_member <= MON_GROUP_MAX && p->n_wanted <= MON_MEMBERS_MAX &&
               p->n_leaving <= MON_MEMBERS_MAX && p->n_dropped <= MON_MEMBERS_MAX &&
               (!p->force || p->force->replica > p->force->survivor) && mon_pg_pool(p->id) >= 1 &&
               mon_pg_number(p->id) < MON_PGS_MAX;
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
    case MON_MONITORS: {
        const Fb__MonitorList *m = (const Fb__MonitorList *)message;
        good = m->n_address <= MON_MONITORS_MAX;
        for (size_t i = 0; i < m->n_address; i++)
            good &= mon_text_valid(m->address[i]);
        *ret_id = 1;
        break;
    }
    case MON_KINDS:
        break;
    }
    return good ? 0 : -ERR_FORMAT;
}

/* ---- from the store ---- */

Fb__MonState *mon_state_decode(const void *value, uint32_t len, int *ret_error)
{
    Fb__MonState *state = fb__mon_state__unpack(&mon_allocator, len, value);

    if (state && state->cluster.len == 16 && state->format >= 1 && state->format <= MON_FORMAT &&
        state->epoch > 0)
        return state;
    *ret_error = state && state->cluster.len == 16 && state->format > MON_FORMAT ? -ERR_VERSION : -ERR_FORMAT;
    if (state)
        fb__mon_state__free_unpacked(state, &mon_allocator);
    return NULL;
}

void mon_state_install(struct mon *mon, const Fb__MonState *state, uint64_t revision)
{
    memcpy(mon->cluster, state->cluster.data, 16);
    memcpy(mon->self.cluster, mon->cluster, 16);
    mon->state = *state;
    mon->state.base.n_unknown_fields = 0; /* theirs are freed with the decoded message */
    mon->state.base.unknown_fields = NULL;
    mon->state.cluster.data = mon->cluster;
    mon->state_revision = revision;
    mon->self.epoch = mon->state.epoch;
    mon->self.image_id_max = mon->state.image_id_max;
}

static bool kind_of_key(const char *key, enum mon_kind *ret_kind)
{
    for (int k = 0; k < MON_KINDS; k++)
        if (!strncmp(key, kinds[k].prefix, strlen(kinds[k].prefix))) {
            *ret_kind = (enum mon_kind)k;
            return true;
        }
    return false;
}

bool mon_key_known(const char *key)
{
    enum mon_kind kind;

    return kind_of_key(key, &kind);
}

static int item_install(struct mon *mon, enum mon_kind kind, uint64_t id, ProtobufCMessage *message)
{
    struct mon_item *item = mon_find(mon, kind, id);

    if (!item) {
        item = mon_item_new(kind);
        if (!item)
            return -ERR_NO_MEMORY;
        map_put(&mon->items[kind], &item->by_id, id);
        if (kind == MON_IMAGE)
            container_of(item, struct mon_image, item)->writer_gone_ns = mon->alive_ns;
    }
    if (item->message)
        protobuf_c_message_free_unpacked(item->message, &mon_allocator);
    item->message = message;
    item->seen = true;
    if (kind == MON_SCRUB)
        mon_scrub_changed(mon, id);
    return 0;
}

int mon_item_load(struct mon *mon, const struct meta_kv *kv)
{
    enum mon_kind kind;
    char key[40];
    uint64_t id = 0;

    if (!kind_of_key(kv->key, &kind))
        return -ERR_FORMAT;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(kinds[kind].type, &mon_allocator, kv->value_len, kv->value);
    int error = message ? mon_item_validate(kind, message, &id) : -ERR_FORMAT;
    if (!error) {
        mon_key(kind, id, key);
        if (strcmp(key, kv->key))
            error = -ERR_FORMAT;
        else if (kind == MON_PG && !mon_find(mon, MON_POOL, mon_pg_pool(id)))
            error = -ERR_NOT_FOUND;
    }
    if (!error)
        error = item_install(mon, kind, id, message);
    if (error && message)
        protobuf_c_message_free_unpacked(message, &mon_allocator);
    return error;
}

void mon_item_unload(struct mon *mon, const char *key)
{
    enum mon_kind kind;
    unsigned pool, number;
    uint64_t id;

    if (!kind_of_key(key, &kind))
        return;
    const char *rest = key + strlen(kinds[kind].prefix);
    if (kind == MON_PG || kind == MON_SCRUB)
        id = sscanf(rest, "%8x/%8x", &pool, &number) == 2 ? (uint64_t)pool << 32 | number : 0;
    else
        id = strtoull(rest, NULL, 16);
    mon_item_forget(mon, kind, id);
}

void mon_soft_reset(struct mon *mon)
{
    mon->balanced_ns = mon->scrub_looked_ns = mon->out_looked_ns = mon->move_looked_ns =
        mon->health_looked_ns = 0;
    mon->moves = (struct mon_moves){0};
    memset(mon->since, 0, sizeof(mon->since));
    mon_plan_forget(mon);
    for (int k = 0; k < MON_KINDS; k++)
        mon_for_each(mon, k, node)
        {
            struct mon_item *item = mon_node_item(node);
            if (k == MON_ORDER)
                free(container_of(item, struct mon_order, item)->confirmed);
            if (k == MON_PG) {
                free(container_of(item, struct mon_pg, item)->scrub);
                free(container_of(item, struct mon_pg, item)->news);
                free(container_of(item, struct mon_pg, item)->standings);
            }
            memset(item + 1, 0,
                   kinds[k].node_size_bytes - sizeof(*item)); /* the item comes first in all of them */
            if (k == MON_IMAGE)
                container_of(item, struct mon_image, item)->writer_gone_ns = mon->alive_ns;
        }
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

/* The answer to a read of the keys "cluster" and "cluster/...": 1: the state is there and taken over; 0: it
 * is not there. */
static int take_state(struct mon_load *l)
{
    struct mon *mon = l->mon;
    Fb__MonState *state = NULL;
    int error = 0;

    if (l->range.result)
        return l->range.result;
    mon_follow_forget(mon, l->range.ret_revision);
    for (uint32_t i = 0; i < l->range.ret_count; i++) {
        const struct meta_kv *kv = &l->range.ret_kvs[i];
        if (!strcmp(kv->key, STATE_KEY)) {
            state = mon_state_decode(kv->value, kv->value_len, &error);
            l->revision = kv->mod_revision;
        } else {
            mon_follow_note(mon, kv);
        }
    }
    mon_lead_look(mon);
    if (error == -ERR_VERSION)
        snprintf(l->message, sizeof(l->message),
                 "a newer version has written the metadata (this one knows format %u): upgrade this monitor",
                 MON_FORMAT);
    else if (error)
        snprintf(l->message, sizeof(l->message), "the value of key '%s' is not this program's, or damaged",
                 STATE_KEY);
    if (!state)
        return error;
    if (l->state)
        fb__mon_state__free_unpacked(l->state, &mon_allocator);
    l->state = state;
    return 1;
}

static void create_start(struct mon_load *l)
{
    struct mon *mon = l->mon;
    struct uuid uuid = uuid_make(core_random_u64(mon->core), core_random_u64(mon->core));
    Fb__MonState state = FB__MON_STATE__INIT;

    state.format = MON_FORMAT;
    state.cluster.data = uuid.bytes;
    state.cluster.len = 16;
    state.epoch = 1;
    state.pool_next = 1;
    ASSERT(fb__mon_state__get_packed_size(&state) <= sizeof(l->value));
    l->changes[0] = (struct meta_change){
        .key = STATE_KEY, .value = l->value, .value_len = (uint32_t)fb__mon_state__pack(&state, l->value)};
    l->conditions[0] = (struct meta_condition){.key = STATE_KEY};
    l->txn = (struct meta_txn){.conditions = l->conditions,
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
    int error = mon_item_load(l->mon, kv);

    if (error == -ERR_FORMAT)
        snprintf(l->message, sizeof(l->message), "the value of key '%.40s' is damaged", kv->key);
    if (error != -ERR_NOT_FOUND)
        return error;
    if (l->mon->config.meta->ops->lease) /* who leads now may follow when the load ends */
        mon_follow_keep(l->mon, kv);
    return add_orphan(l, kv->key);
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
    l->txn = (struct meta_txn){.conditions = l->conditions,
                               .condition_count = mon_fence(l->mon, l->revision, l->conditions),
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
        mon_state_install(mon, l->state, l->revision);
        mon->stale = false;
    } else if (!mon->load_failed) { /* once, not every second that the store is away */
        core_log(mon->core, LOG_ERROR, "mon", "cannot load the metadata: %s%s%s", error_text(result),
                 l->message[0] ? ": " : "", l->message);
    }
    mon->load_failed = result;
    mon->outdated = result == -ERR_VERSION;
    if (mon->outdated) {
        mon_lead_end(mon, "its version is older than that of the metadata");
        mon_sessions_close(mon);
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
    mon_follow_drop(l->mon);
    l->kind = 0;
    l->orphan_count = 0;
    range_start(l, STATE_KEY, STATE_END);
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
            l->from_revision = l->range.ret_revision;
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
                range_start(l, STATE_KEY, STATE_END);
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
            if (l->orphan_count && (l->mon->leads || l->mon->lead.revision)) {
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
