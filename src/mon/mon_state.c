/* SPDX-License-Identifier: Apache-2.0
 *
 * Items in memory: what kinds there are, their keys, what is valid, how they come from the store.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

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

const char *mon_kind_prefix(enum mon_kind kind)
{
    return kinds[kind].prefix;
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

static bool lists_fit(size_t member, size_t wanted, size_t leaving, size_t dropped)
{
    return member <= MON_GROUP_MAX && wanted <= MON_MEMBERS_MAX && leaving <= MON_MEMBERS_MAX &&
           dropped <= MON_MEMBERS_MAX;
}

static bool force_fits(const Fb__PgForce *f)
{
    return !f || f->replica > f->survivor;
}

static bool before_fits(const Fb__Pg *p)
{
    const Fb__PgBefore *b = p->before;

    return !b || (p->force && p->n_member == 1 &&
                  lists_fit(b->n_member, b->n_wanted, b->n_leaving, b->n_dropped) && force_fits(b->force));
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
        good = lists_fit(p->n_member, p->n_wanted, p->n_leaving, p->n_dropped) && force_fits(p->force) &&
               before_fits(p) && mon_pg_pool(p->id) >= 1 && mon_pg_number(p->id) < MON_PGS_MAX;
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

    if (state && state->cluster.len == 16 && state->format >= 1 &&
        (state->format <= MON_FORMAT || PLANT(MON_NEWER_FORMAT)) && state->epoch > 0)
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

static bool is_other_writer(const Fb__Image *a, const Fb__Image *b)
{
    return a->incarnation != b->incarnation || a->writer_client.len != b->writer_client.len;
}

/* Who has just booted has spoken, whatever was heard of it before. */
static void osd_overtaken(const struct mon *mon, struct mon_osd *o, const Fb__Osd *osd)
{
    const Fb__Osd *was = mon_osd_item(o);

    if (was->up && !osd->up)
        mon_osd_went_down(mon, o);
    if (osd->up && (!was->up || osd->incarnation != was->incarnation)) {
        o->up_ns = o->heard_ns = mon->alive_ns;
        o->gone_ns = o->demoted_ns = 0;
    }
}

/* By a change of ours whose outcome was not known, perhaps: nobody else notes what it means for what stands
 * beside the item. */
static void item_overtaken(struct mon *mon, enum mon_kind kind, struct mon_item *item,
                           const ProtobufCMessage *message)
{
    if (kind == MON_OSD)
        osd_overtaken(mon, container_of(item, struct mon_osd, item), (const Fb__Osd *)message);
    if (kind == MON_IMAGE && is_other_writer((const Fb__Image *)item->message, (const Fb__Image *)message)) {
        struct mon_image *i = container_of(item, struct mon_image, item);
        i->writer_here = false; /* until it says so */
        i->writer_gone_ns = mon->alive_ns;
    }
    if (kind == MON_PG && ((const Fb__Pg *)item->message)->epoch != ((const Fb__Pg *)message)->epoch) {
        struct mon_pg *p = container_of(item, struct mon_pg, item);
        free(p->news); /* what still matters is said again */
        p->news = NULL;
    }
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
    if (item->message) {
        item_overtaken(mon, kind, item, message);
        protobuf_c_message_free_unpacked(item->message, &mon_allocator);
    }
    item->message = message;
    item->seen = true;
    if (kind == MON_SCRUB)
        mon_scrub_changed(mon, id);
    return 0;
}

/* The store may carry out the first transaction of a pool's creation after that has failed and was looked
 * for: of PGs that the pool did not get, if it was made with fewer then. Nobody was told of them. */
static bool is_left_over(const struct mon *mon, const Fb__Pg *pg)
{
    const Fb__Pool *pool = mon_pool_item(mon_pool_find(mon, mon_pg_pool(pg->id)));

    /* Markers are left of a removed pool, which counts none at the end. */
    return !pg->removed && mon_pg_number(pg->id) >= pool->pg_count;
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
    bool skip = !error && kind == MON_PG && is_left_over(mon, (const Fb__Pg *)message);
    if (!error && !skip)
        error = item_install(mon, kind, id, message);
    if ((error || skip) && message)
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
