/* SPDX-License-Identifier: Apache-2.0
 *
 * What may become of the map. Each transaction of the monitors is looked at when the metadata store carries
 * it out, against what was there before and against what shards really have: numbers that are never given out
 * twice, things that never go back, replicas that are forgotten though nobody has deleted them, births and
 * deletions that are noted though they have not happened. And nobody may know more than the store: a map of
 * an epoch, or a writer's incarnation, that is not there yet. Most of this would show in the end, by much
 * that has to go wrong first, if at all.
 */
#include "sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "client/impl.h"
#include "mon/impl.h"
#include "osd/shard.h"
#include "sim/cluster_load.h"
#include "sim/sim_meta_keys.h"

#define ULL(x) ((unsigned long long)(x))

/* A transaction that is about to be carried out. */
struct written {
    struct cluster *c;
    const struct meta_change *changes;
    uint32_t count;
    uint64_t epoch_was, epoch; /* of the state, before and after; the same: it is not written */
};

enum fact { FACT_PLACE = 1, FACT_IMAGE, FACT_POOL, FACT_UNBORN };

static uint64_t *fact(struct cluster *c, enum fact kind, uint64_t a, uint64_t b, uint64_t value)
{
    return check_note(c, hash_pair(hash_pair(a, b), hash_pair(kind, 101)), value);
}

/* ---- items ---- */

static ProtobufCMessage *decode(enum mon_kind kind, const void *value, uint32_t len)
{
    ProtobufCMessage *message =
        value ? protobuf_c_message_unpack(mon_kind_type(kind), NULL, len, value) : NULL;

    ASSERT(message || !value);
    return message;
}

static void item_free(const void *message)
{
    if (message)
        protobuf_c_message_free_unpacked((ProtobufCMessage *)(uintptr_t)message, NULL);
}

/* As it will be, or as it was before; NULL: it is not there. */
static void *item_at(const struct written *w, enum mon_kind kind, uint64_t id, bool after)
{
    char key[40];

    mon_key(kind, id, key);
    for (uint32_t i = w->count; i-- > 0 && after;)
        if (!strcmp(w->changes[i].key, key))
            return decode(kind, w->changes[i].value, w->changes[i].value_len);
    const struct sim_meta_item *item = sim_meta_keys_find(sim_meta_keys_of(w->c->meta), key);
    return item ? decode(kind, item->value, item->value_len) : NULL;
}

static bool osd_is_removed(const struct written *w, uint32_t id)
{
    Fb__Osd *osd = item_at(w, MON_OSD, id, true);
    bool removed = !osd || osd->removed;

    item_free(osd);
    return removed;
}

static struct cluster_osd *osd_of(struct cluster *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (c->osds[i].id == id && c->osds[i].formatted)
            return &c->osds[i];
    return NULL;
}

/* The shard, if it serves and nothing of its disk is damaged: then what it has is known. */
static const struct osd_shard *shard_at(struct cluster *c, uint32_t osd, uint32_t number)
{
    const struct cluster_osd *o = osd_of(c, osd);

    return o && number < c->shard_count && !damage_is_victim(c, o->number) ? o->shards[number] : NULL;
}

static const struct store_pg *replica_on(const struct osd_shard *shard, uint64_t pg)
{
    return store_pg_find(osd_shard_store(shard), pg);
}

/* Every shard that was ever started has saved a map of that epoch, by all that is known of them. */
static bool is_everywhere(const struct written *w, uint64_t epoch)
{
    struct cluster *c = w->c;

    for (uint32_t i = 0; i < c->osd_count; i++) {
        const struct cluster_osd *osd = &c->osds[i];
        Fb__Osd *item = item_at(w, MON_OSD, osd->id, false);
        bool counts = item && item->incarnation && !item->removed && !damage_is_victim(c, i);
        item_free(item);
        for (uint32_t s = 0; s < c->shard_count && counts; s++)
            if (MAX(osd->saved_epochs[s], osd->shards[s] ? osd->shards[s]->map.saved_epoch : 0) < epoch)
                return false;
    }
    return true;
}

/* ---- OSDs, pools ---- */

static void check_osd(const struct written *w, const Fb__Osd *was, const Fb__Osd *is)
{
    uint32_t addresses = 0;

    for (size_t i = 0; is && i < is->n_shard; i++)
        addresses += is->shard[i]->address[0] != 0;
    if (!was)
        return;
    if (!is)
        sim_fail(w->c->sim, "the map forgets osd.%u", was->id);
    else if (memcmp(was->uuid.data, is->uuid.data, 16) || (was->removed && !is->removed) ||
             is->incarnation < was->incarnation)
        sim_fail(w->c->sim, "osd.%u is another one than it was, or goes back", is->id);
    else if (is->incarnation > was->incarnation && addresses > 1)
        sim_fail(w->c->sim, "osd.%u has just been started, and has addresses of its former start", is->id);
    else if (is->removed && !was->removed && was->up)
        sim_fail(w->c->sim, "osd.%u is removed, and runs", is->id);
}

static uint32_t pgs_left(const struct written *w, const Fb__Pool *pool)
{
    uint32_t left = 0;

    for (uint32_t n = 0; n < pool->pg_count; n++) {
        Fb__Pg *pg = item_at(w, MON_PG, placement_pg_id(pool->id, n), true);
        left += pg && !pg->removed;
        item_free(pg);
    }
    return left;
}

static void check_pool(const struct written *w, const Fb__Pool *was, const Fb__Pool *is)
{
    struct sim *sim = w->c->sim;
    uint32_t id = was ? was->id : is->id;
    uint64_t *last = fact(w->c, FACT_POOL, 0, 0, 0);

    if (!was && id <= *last)
        sim_fail(sim, "pool %u is made, and had been made before", id);
    *last = MAX(*last, id);
    if (is && pgs_left(w, is) < is->pg_count && !is->removed)
        sim_fail(sim, "pool %u has %u PGs, and not all are there", id, is->pg_count);
    if (!was)
        return;
    if (!is) {
        if (!was->removed || was->pg_count || !is_everywhere(w, was->epoch))
            sim_fail(sim, "pool %u is forgotten, and not everybody knows that it was removed", id);
        return;
    }
    if ((was->removed && !is->removed) || (is->removed && !is->pg_count && pgs_left(w, was)) ||
        (is->pg_count != was->pg_count && is->pg_count != was->pg_count + 1 &&
         !(is->removed && !is->pg_count)))
        sim_fail(sim, "pool %u goes from %u PGs to %u%s", id, was->pg_count, is->pg_count,
                 was->removed && !is->removed ? ", and is not removed any more" : "");
}

/* ---- PGs ---- */

struct rows {
    Fb__PgMember *const *row[4]; /* of `member`, `wanted`, `leaving`, `dropped` */
    size_t count[4];
};

enum { ROWS_MEMBER, ROWS_WANTED, ROWS_LEAVING, ROWS_DROPPED, ROWS_LISTS };

static struct rows rows_of(const Fb__Pg *pg)
{
    return (struct rows){{pg->member, pg->wanted, pg->leaving, pg->dropped},
                         {pg->n_member, pg->n_wanted, pg->n_leaving, pg->n_dropped}};
}

/* In the lists up to `last`; NULL: it is in none. */
static const Fb__PgMember *rows_find(const struct rows *rows, uint32_t first, uint32_t last, uint32_t replica)
{
    for (uint32_t l = first; l <= last; l++)
        for (size_t i = 0; i < rows->count[l]; i++)
            if (rows->row[l][i]->replica == replica)
                return rows->row[l][i];
    return NULL;
}

/* The last order to go on without a majority, which changes all of it. */
static uint64_t forced_at(const Fb__Pg *pg)
{
    return pg->force ? pg->force->epoch : 0;
}

/* Not a member of that PG any more, nor to be one, nor to be deleted. */
static void check_forgotten(const struct written *w, const Fb__Pg *was, const Fb__Pg *is,
                            const Fb__PgMember *m, uint32_t list)
{
    struct sim *sim = w->c->sim;
    const struct osd_shard *shard = shard_at(w->c, m->osd, m->shard);
    const struct store_pg *has = shard ? replica_on(shard, is->id) : NULL;
    bool goes_on = is->force && forced_at(is) != forced_at(was) && is->force->survivor == m->replica;

    if (osd_is_removed(w, m->osd) || goes_on)
        return;
    if (list != ROWS_DROPPED && !is->removed)
        sim_fail(sim, "PG %llx: replica %u of osd.%u.%u is forgotten, and nobody was told to delete it",
                 ULL(is->id), m->replica, m->osd, m->shard);
    else if (has && has->record.replica == m->replica)
        sim_fail(sim, "PG %llx: replica %u of osd.%u.%u counts as deleted, and is there", ULL(is->id),
                 m->replica, m->osd, m->shard);
}

/* It counts as born now. */
static void check_born(const struct written *w, const Fb__Pg *pg, const Fb__PgMember *m)
{
    const struct osd_shard *shard = shard_at(w->c, m->osd, m->shard);
    const struct store_pg *has = shard ? replica_on(shard, pg->id) : NULL;

    if (shard && (!has || has->record.replica != m->replica))
        sim_fail(w->c->sim, "PG %llx: replica %u counts as born, and osd.%u.%u has none", ULL(pg->id),
                 m->replica, m->osd, m->shard);
}

static void check_row(const struct written *w, const struct rows *was, const Fb__Pg *is,
                      const struct rows *rows, uint32_t list, const Fb__PgMember *m)
{
    struct sim *sim = w->c->sim;
    uint64_t place = (uint64_t)m->osd << 8 | m->shard;
    const Fb__PgMember *before = rows_find(was, 0, ROWS_DROPPED, m->replica);

    if (*fact(w->c, FACT_PLACE, is->id, m->replica, place) != place)
        sim_fail(sim, "PG %llx: replica %u is given out again, at osd.%u.%u", ULL(is->id), m->replica, m->osd,
                 m->shard);
    if (m->replica >= mon_replica_next(is))
        sim_fail(sim, "PG %llx: replica %u is there, and %u is the next number", ULL(is->id), m->replica,
                 mon_replica_next(is));
    if (list != ROWS_DROPPED && (rows_find(rows, ROWS_DROPPED, ROWS_DROPPED, m->replica) ||
                                 rows_find(was, ROWS_DROPPED, ROWS_DROPPED, m->replica)))
        sim_fail(sim, "PG %llx: replica %u was to be deleted, and is to stay", ULL(is->id), m->replica);
    if (list <= ROWS_WANTED && m->birth && m->born && !(before && before->born))
        check_born(w, is, m);
    for (uint32_t l = 0; l < ROWS_LISTS && list == ROWS_WANTED && !before; l++)
        for (size_t i = 0; i < rows->count[l]; i++)
            if (rows->row[l][i]->replica != m->replica && rows->row[l][i]->osd == m->osd &&
                (l == ROWS_WANTED || rows->row[l][i]->shard == m->shard))
                sim_fail(sim, "PG %llx: replicas %u and %u are both to be on osd.%u", ULL(is->id), m->replica,
                         rows->row[l][i]->replica, m->osd);
}

/* Has it failed, or did the process of which the map tells fail, or die, and this is the next one? Of that
 * the map may tell by another shard's word, and the monitor has yet to hear of this one. */
static bool shard_is_out(const struct osd_shard *shard, const Fb__Osd *osd, bool given_up)
{
    return osd_shard_failed(shard) || shard->label.start_counter != osd->incarnation ||
           (given_up && !osd->shard[shard->number]->address[0]);
}

/* The monitor has given its failed shard up, and has yet to hear that its process is dead, or another one. */
static bool is_given_up(const struct written *w, const Fb__PgMember *m)
{
    const struct mon *mon = mon_leader(w->c);
    const struct mon_osd *o = mon ? mon_osd_find(mon, m->osd) : NULL;

    return o && mon_shard_given_up(o, m->shard);
}

/* It is born: its members are, but for those that are down and out, or whose shards have failed, of which a
 * majority does without. What has been given up stays so for a moment when its OSD is found to be down. */
static void check_birth(const struct written *w, const Fb__Pg *is)
{
    for (size_t i = 0; i < is->n_member; i++) {
        const Fb__PgMember *m = is->member[i];
        const struct osd_shard *shard = shard_at(w->c, m->osd, m->shard);
        Fb__Osd *osd = item_at(w, MON_OSD, m->osd, true);
        bool given_up = is_given_up(w, m);
        bool is_out = shard ? osd && shard_is_out(shard, osd, given_up) : given_up;
        bool counts = osd && (osd->up ? !is_out : mon_osd_in(osd) && !(given_up && is_out));
        item_free(osd);
        if (counts)
            check_born(w, is, m);
        else if (!shard || !replica_on(shard, is->id))
            *fact(w->c, FACT_UNBORN, is->id, m->replica, 1) = 1;
    }
}

bool map_left_unborn(struct cluster *c, uint64_t pg, uint32_t replica)
{
    return *fact(c, FACT_UNBORN, pg, replica, 0);
}

static bool has_pool(const struct written *w, uint64_t pg, bool after)
{
    Fb__Pool *pool = item_at(w, MON_POOL, mon_pg_pool(pg), after);

    item_free(pool);
    return pool;
}

static void check_pg(const struct written *w, const Fb__Pg *was, const Fb__Pg *is)
{
    static const Fb__Pg nothing = FB__PG__INIT;
    struct sim *sim = w->c->sim;
    uint64_t id = was ? was->id : is->id;

    /* Without its pool it is none: what an interrupted creation leaves nobody has heard of. */
    bool first = !was || !has_pool(w, id, false);
    if (!is) {
        if (!first && (!was->removed || !is_everywhere(w, was->epoch)))
            sim_fail(sim, "PG %llx is forgotten, and not everybody knows that it was removed", ULL(id));
        return;
    }
    if (!has_pool(w, id, true))
        return;
    was = first ? &nothing : was;
    struct rows before = rows_of(was), rows = rows_of(is);
    for (uint32_t l = 0; l < ROWS_LISTS; l++) {
        for (size_t i = 0; i < rows.count[l]; i++)
            check_row(w, &before, is, &rows, l, rows.row[l][i]);
        for (size_t i = 0; i < before.count[l]; i++)
            if (!rows_find(&rows, 0, ROWS_DROPPED, before.row[l][i]->replica))
                check_forgotten(w, was, is, before.row[l][i], l);
    }
    if (first)
        return;
    if (mon_replica_next(is) < mon_replica_next(was) || (was->born && !is->born) ||
        (was->removed && !is->removed) ||
        (is->group_index < was->group_index && forced_at(is) == forced_at(was)))
        sim_fail(sim, "PG %llx goes back: from group %llu to %llu, from number %u to %u", ULL(is->id),
                 ULL(was->group_index), ULL(is->group_index), mon_replica_next(was), mon_replica_next(is));
    if (is->born && !was->born)
        check_birth(w, is);
}

/* ---- images and their orders ---- */

static void check_image(const struct written *w, const Fb__Image *was, const Fb__Image *is)
{
    struct sim *sim = w->c->sim;
    uint64_t id = was ? was->id : is->id, *last = fact(w->c, FACT_IMAGE, 0, 0, 0);

    if (!was && id <= *last)
        sim_fail(sim, "image %llu is made, and had been made before", ULL(id));
    *last = MAX(*last, id);
    if (was && is &&
        (is->generation < was->generation || is->incarnation < was->incarnation ||
         (is->size_bytes != was->size_bytes && is->generation == was->generation)))
        sim_fail(sim, "image %llu goes from generation %llu and incarnation %llu to %llu and %llu", ULL(id),
                 ULL(was->generation), ULL(was->incarnation), ULL(is->generation), ULL(is->incarnation));
    if (was && is && is->writer[0] && is->incarnation == was->incarnation && strcmp(is->writer, was->writer))
        sim_fail(sim, "image %llu gets another writer, with the number of the former one", ULL(id));
    if (!was || (is && is->generation == was->generation))
        return;
    Fb__ImageOrder *order = item_at(w, MON_ORDER, id, true);
    if (!order || order->removed || order->deleted == (is != NULL) || order->generation <= was->generation)
        sim_fail(sim, "image %llu is resized or removed, and nobody is told to", ULL(id));
    item_free(order);
}

static void check_order(const struct written *w, const Fb__ImageOrder *was, const Fb__ImageOrder *is)
{
    uint64_t id = was ? was->image : is->image;

    if (!was)
        return;
    if (!is && (!was->removed || !is_everywhere(w, was->epoch)))
        sim_fail(w->c->sim, "the order for image %llu is forgotten, and not everybody knows that it is done",
                 ULL(id));
    if (is && (is->generation < was->generation || (was->deleted && !is->deleted) ||
               (is->generation > was->generation && !was->removed && !is->deleted)))
        sim_fail(w->c->sim, "image %llu has another order before the last one is done", ULL(id));
}

/* ---- a transaction ---- */

static void check_item(const struct written *w, enum mon_kind kind, const ProtobufCMessage *was,
                       const ProtobufCMessage *is)
{
    uint64_t epoch = is ? mon_item_epoch(kind, is) : 0;

    if (epoch && (epoch <= w->epoch_was || (w->epoch > w->epoch_was && epoch > w->epoch)))
        sim_fail(w->c->sim, "an item is written with epoch %llu, between those of the map, %llu and %llu",
                 ULL(epoch), ULL(w->epoch_was), ULL(w->epoch));
    switch (kind) {
    case MON_OSD:
        check_osd(w, (const Fb__Osd *)was, (const Fb__Osd *)is);
        return;
    case MON_POOL:
        check_pool(w, (const Fb__Pool *)was, (const Fb__Pool *)is);
        return;
    case MON_PG:
        check_pg(w, (const Fb__Pg *)was, (const Fb__Pg *)is);
        return;
    case MON_IMAGE:
        check_image(w, (const Fb__Image *)was, (const Fb__Image *)is);
        return;
    case MON_ORDER:
        check_order(w, (const Fb__ImageOrder *)was, (const Fb__ImageOrder *)is);
        return;
    case MON_SCRUB:
    case MON_MONITORS:
    case MON_KINDS:
        return;
    }
}

static void check_state(struct written *w, const void *before, uint32_t before_len,
                        const struct meta_change *change)
{
    int error;
    Fb__MonState *was = before ? mon_state_decode(before, before_len, &error) : NULL;
    Fb__MonState *is = mon_state_decode(change->value, change->value_len, &error);

    ASSERT(is);
    w->epoch_was = w->c->map_epoch;
    w->epoch = is->epoch;
    if (was && (is->epoch < was->epoch || is->osd_next < was->osd_next || is->pool_next < was->pool_next ||
                is->image_id_max < was->image_id_max || is->level < was->level))
        sim_fail(w->c->sim, "the map goes back from epoch %llu to %llu, or numbers are given out again",
                 ULL(was->epoch), ULL(is->epoch));
    if (was)
        fb__mon_state__free_unpacked(was, &mon_allocator);
    fb__mon_state__free_unpacked(is, &mon_allocator);
}

static bool is_same(const struct sim_meta_item *item, const struct meta_change *change)
{
    return item && change->value && item->value_len == change->value_len &&
           !memcmp(item->value, change->value, change->value_len);
}

static bool kind_of(const char *key, enum mon_kind *ret_kind)
{
    for (int k = 0; k < MON_KINDS; k++)
        if (!strncmp(key, mon_kind_prefix((enum mon_kind)k), strlen(mon_kind_prefix((enum mon_kind)k)))) {
            *ret_kind = (enum mon_kind)k;
            return true;
        }
    return false;
}

void map_written(void *owner, const struct meta_change *changes, uint32_t count)
{
    struct cluster *c = owner;
    const struct sim_meta_keys *keys = sim_meta_keys_of(c->meta);
    struct written w = {c, changes, count, c->map_epoch, c->map_epoch};

    for (uint32_t i = 0; i < count; i++) {
        const struct sim_meta_item *item = sim_meta_keys_find(keys, changes[i].key);
        if (!strcmp(changes[i].key, "cluster") && !is_same(item, &changes[i]))
            check_state(&w, item ? item->value : NULL, item ? item->value_len : 0, &changes[i]);
    }
    for (uint32_t i = 0; i < count && !c->sim->failed; i++) {
        const struct sim_meta_item *item = sim_meta_keys_find(keys, changes[i].key);
        enum mon_kind kind;
        if (is_same(item, &changes[i]) || (!item && !changes[i].value) || !kind_of(changes[i].key, &kind))
            continue;
        ProtobufCMessage *was = item ? decode(kind, item->value, item->value_len) : NULL;
        ProtobufCMessage *is = decode(kind, changes[i].value, changes[i].value_len);
        check_item(&w, kind, was, is);
        item_free(was);
        item_free(is);
    }
    c->map_epoch = w.epoch;
}

/* ---- nobody knows more ---- */

void map_always(struct cluster *c)
{
    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        if (s.is->map.epoch > c->map_epoch)
            sim_fail(c->sim, "osd.%u.%u knows a map of epoch %llu, and the store that of %llu", s.osd,
                     s.shard, ULL(s.is->map.epoch), ULL(c->map_epoch));
    for (uint32_t i = 0; i < c->client_count; i++) {
        const struct load *l = c->clients[i].load;
        if (l && l->client && l->client->map && l->client->map->epoch > c->map_epoch)
            sim_fail(c->sim, "%s knows a map of epoch %llu, and the store that of %llu",
                     c->clients[i].process.name, ULL(l->client->map->epoch), ULL(c->map_epoch));
    }
}

/* What an interrupted creation left, and nobody counts. */
static bool is_left_over(const struct written *w, enum mon_kind kind, uint64_t id)
{
    Fb__Pg *pg = kind == MON_PG ? item_at(w, MON_PG, id, false) : NULL;
    Fb__Pool *pool = pg ? item_at(w, MON_POOL, mon_pg_pool(id), false) : NULL;
    bool left_over = pg && (!pool || (!pg->removed && mon_pg_number(id) >= pool->pg_count));

    item_free(pg);
    item_free(pool);
    return left_over;
}

static bool is_held(const struct mon *mon, enum mon_kind kind, uint64_t id, const struct sim_meta_item *item)
{
    const struct mon_item *held = mon_find(mon, kind, id);
    size_t len = held ? protobuf_c_message_get_packed_size(held->message) : 0;
    uint8_t *bytes = sim_alloc(len + 1);
    bool same = held && len == item->value_len && protobuf_c_message_pack(held->message, bytes) == len &&
                !memcmp(bytes, item->value, len);

    free(bytes);
    return same;
}

bool map_is_held(struct cluster *c, const struct mon *mon, char key[META_KEY_MAX + 1])
{
    const struct sim_meta_keys *keys = sim_meta_keys_of(c->meta);
    struct written w = {.c = c};
    uint64_t counts[MON_KINDS] = {0};

    for (uint32_t i = 0; i < keys->item_count; i++) {
        const struct sim_meta_item *item = &keys->items[i];
        enum mon_kind kind;
        uint64_t id = 0;
        if (!kind_of(item->key, &kind))
            continue;
        ProtobufCMessage *message = decode(kind, item->value, item->value_len);
        int error = mon_item_validate(kind, message, &id);
        item_free(message);
        snprintf(key, META_KEY_MAX + 1, "%s", item->key);
        if (error)
            return false;
        if (is_left_over(&w, kind, id))
            continue;
        counts[kind]++;
        if (!is_held(mon, kind, id, item))
            return false;
    }
    for (int k = 0; k < MON_KINDS; k++) {
        snprintf(key, META_KEY_MAX + 1, "%s", mon_kind_prefix((enum mon_kind)k));
        if (mon->items[k].count != counts[k])
            return false;
    }
    return true;
}

static const Fb__Image *image_named(const struct cluster *c, const char *name)
{
    const struct sim_meta_keys *keys = sim_meta_keys_of(c->meta);
    const Fb__Image *found = NULL;

    for (uint32_t i = 0; i < keys->item_count; i++) {
        if (strncmp(keys->items[i].key, mon_kind_prefix(MON_IMAGE), strlen(mon_kind_prefix(MON_IMAGE))) != 0)
            continue;
        const Fb__Image *image =
            (const Fb__Image *)decode(MON_IMAGE, keys->items[i].value, keys->items[i].value_len);
        if (!strcmp(image->name, name) && !found)
            found = image;
        else
            item_free(image);
    }
    return found;
}

uint64_t map_image_id(const struct cluster *c, uint32_t image)
{
    const Fb__Image *item = image_named(c, c->images[image].name);
    uint64_t id = item ? item->id : 0;

    item_free(item);
    return id;
}

void map_shows(struct cluster *c, const struct admin_job *job)
{
    const Fb__Image *image = image_named(c, c->images[job->image].name);
    bool so = true;

    if (job->kind == ADMIN_JOB_CREATE)
        so = image != NULL;
    if (job->kind == ADMIN_JOB_REMOVE)
        so = image == NULL;
    if (job->kind == ADMIN_JOB_RESIZE)
        so = image && image->size_bytes == job->size_bytes;
    item_free(image);
    if (!so)
        sim_fail(c->sim, "the operator was told that %s is made, removed or resized, and it is not",
                 c->images[job->image].name);
    if (job->kind != ADMIN_JOB_OSD && job->kind != ADMIN_JOB_LOST && job->kind != ADMIN_JOB_RETIRE)
        return;
    struct written w = {.c = c};
    Fb__Osd *osd = item_at(&w, MON_OSD, job->osd, false);
    if (!osd || (job->kind != ADMIN_JOB_OSD ? !osd->removed : (osd->out == MON_OUT_ORDERED) != job->out))
        sim_fail(c->sim, "the operator was told of a change of osd.%u, and it is not made", job->osd);
    item_free(osd);
}
