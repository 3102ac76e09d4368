/* SPDX-License-Identifier: Apache-2.0
 *
 * Carrying out what the map orders about whole replicas.
 *
 *      IDLE --- the map is newer than what is saved ---> SAVE ---> IDLE
 *        |----- PGs to be born here -------------------> BIRTH --> IDLE
 *        |----- a PG to go on with our replica alone --> STOP_OLD -> FORCE --> IDLE
 *        '----- a PG ordered to go --------------------> STOP_PG --> REMOVE -> IDLE
 *   STOP_OLD, STOP_PG --- the order was withdrawn meanwhile ------------> IDLE
 *
 * The map is durable here before anything that it orders is begun: a replica is never found without a map
 * that says who the other members are. It is saved whole. Most epochs change none of its items (a writer came
 * or went, an image was made), so that the epoch alone is saved only now and then. And a large map is not
 * saved for each order alone when many come one behind the other: while an OSD is away for long thousands of
 * removed images may be in it.
 */
#include "osd/pg.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/plant.h"

enum { ORDERS_IDLE, ORDERS_SAVE, ORDERS_BIRTH, ORDERS_STOP_OLD, ORDERS_FORCE, ORDERS_STOP_PG, ORDERS_REMOVE };
#define ORDERS_RETRY_NS NS_PER_S
#define ORDERS_LAZY_NS  (5 * NS_PER_S)
#define ORDERS_BYTE_NS  64ull /* 16 MiB/s: making it and writing it takes some tenth of that time */
#define BIRTHS_AT_ONCE  PLANT_SCARCE(ORDERS_BIRTHS_MAX, 1u)

static const char *orders_state_name(int state)
{
    static const char *const names[] = {"idle", "save", "birth", "stop-old", "force", "stop-pg", "remove"};
    return names[state];
}
static void orders_step(struct op *op);
static const struct op_kind orders_kind = {"osd.orders", orders_state_name, orders_step};

void shard_orders_start(struct osd_shard *shard)
{
    shard->orders.shard = shard;
    op_start(&shard->orders.op, shard->core, &orders_kind, NULL);
}

static void retry_later(struct shard_orders *orders)
{
    timer_arm(orders->op.core, &orders->retry, &orders->op, core_now_ns(orders->op.core) + ORDERS_RETRY_NS);
}

/* ---- save ---- */

static bool save_begin(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;
    uint32_t len;
    int error;

    if (shard->map.epoch == shard->map.saved_epoch)
        return false;
    /* A part of what was asked for again: how far we had come is told from what is saved. And a part of what
     * is new is for those to know only who know that it is one. */
    if (shard->map.epoch < shard->map.loaded_epoch || shard_map_is_part(shard))
        return false;
    uint64_t due_ns =
        orders->saved_ns + (shard->map.changed ? orders->saved_bytes * ORDERS_BYTE_NS : ORDERS_LAZY_NS);
    if (core_now_ns(shard->core) < due_ns) {
        timer_arm(shard->core, &orders->lazy, &orders->op, due_ns);
        return false;
    }
    error = shard_map_pack(shard, &orders->blob_data, &len);
    if (error) {
        core_log(shard->core, LOG_ERROR, "osd", "cannot save the cluster map of epoch %" PRIu64 ": %s",
                 shard->map.epoch, error_text(error));
        retry_later(orders);
        return false;
    }
    orders->blob_epoch = shard->map.epoch;
    orders->saved_ns = core_now_ns(shard->core);
    orders->saved_bytes = len;
    shard->map.changed = false;
    store_blob_write_start(&orders->blob, shard->store, orders->blob_data, len, &orders->op);
    return true;
}

static void save_end(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;
    int error = orders->blob.op.result;

    free(orders->blob_data);
    orders->blob_data = NULL;
    orders->op.child_result = 0;
    if (error == -ERR_NO_MEMORY) { /* all buffers are in use: that passes */
        shard->map.changed = true;
        retry_later(orders);
    } else if (error) {
        shard_fail(shard, error, "cannot save the cluster map");
    } else {
        shard->map.saved_epoch = orders->blob_epoch;
        shard->mon.stirred = true; /* what is confirmed only now may not be in the last whole report */
    }
}

/* ---- births ---- */

const Fb__PgMember *shard_birth_due(const struct osd_shard *shard, const Fb__Pg *item, uint64_t *ret_birth)
{
    const Fb__PgMember *self = shard_map_member(shard, item), *wanted = shard_map_wanted(shard, item);

    if (shard_map_pg_removed(shard, item) || store_pg_find(shard->store, item->id))
        return NULL;
    *ret_birth = item->birth;
    if (self && item->birth && !item->born && !self->birth)
        return self;
    if (!wanted || !wanted->birth || (wanted->born && !PLANT(OSD_BORN_TWICE)))
        return NULL;
    *ret_birth = wanted->birth;
    return wanted;
}

/* The group that a new replica begins with: as the map knows it. It counts until the log tells of another;
 * a replica that joins begins with a recovery, and the group of its base. */
static struct group birth_group(const Fb__Pg *item)
{
    struct group group = {.count = (uint32_t)item->n_member};

    for (uint32_t i = 0; i < group.count; i++) {
        const Fb__PgMember *m = item->member[i];
        group.members[i] = (struct group_member){m->replica, m->osd, m->shard, m->learner ? 0 : GROUP_VOTER};
    }
    return group;
}

static bool birth_begin(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;

    orders->birth_count = 0;
    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        uint64_t birth;
        const Fb__PgMember *self = shard_birth_due(shard, item, &birth);
        struct group group = birth_group(item);

        /* A map in which the PG has no group that could be is not one of our monitors'. */
        if (!self || orders->birth_count == BIRTHS_AT_ONCE || !group_validate(&group))
            continue;
        /* Into a group that works already it comes without what that has. */
        bool joins = birth != item->birth || item->group_index;
        struct store_pg_record record = {
            .pg = item->id,
            .replica = self->replica,
            .birth = birth,
            .state = joins ? STORE_PG_RECOVERING : STORE_PG_NORMAL,
            .group = group,
        };
        store_pg_write_start(&orders->births[orders->birth_count++], shard->store, &record, &orders->op);
    }
    return orders->birth_count;
}

static void birth_end(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;

    for (uint32_t i = 0; i < orders->birth_count; i++) {
        struct store_pg_write *write = &orders->births[i];
        int error = write->op.result;
        struct store_pg *sp = error ? NULL : store_pg_find(shard->store, write->record.pg);

        if (sp && !pg_find(shard, write->record.pg))
            error = pg_open(shard, sp, sp->record.state == STORE_PG_NORMAL);
        if (error) {
            core_log(shard->core, LOG_ERROR, "osd", PG_FMT ": cannot create replica %u: %s",
                     PG_ARGS(write->record.pg), write->record.replica, error_text(error));
            retry_later(orders);
        }
    }
    orders->op.child_result = 0;
    shard_mon_report(shard);
}

/* ---- going on alone ---- */

static bool force_begin(struct shard_orders *orders)
{
    const Fb__Pg *item = pg_force_due(orders->shard);

    if (!item)
        return false;
    orders->force_pg = item->id;
    pg_stop(pg_find(orders->shard, item->id));
    return true;
}

/* The replica is at rest. False: it is not to be any more; that order was perhaps withdrawn, and another one
 * given. */
static bool force_write(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;
    const Fb__Pg *item = shard_map_pg(shard, orders->force_pg);
    const struct store_pg *sp = shard->failed ? NULL : store_pg_find(shard->store, orders->force_pg);

    if (!item || !sp || !pg_force_ordered(shard, item, sp) || orders->op.cancelled)
        return false;
    struct store_pg_record record = pg_force_record(shard, item, sp);
    store_pg_force_start(&orders->force, shard->store, &record, &orders->op);
    return true;
}

static void force_end(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;
    const struct store_pg_record *record = &orders->force.record;
    int error = orders->force.op.result;

    if (error) {
        core_log(shard->core, LOG_ERROR, "osd", PG_FMT ": cannot go on alone as replica %u: %s",
                 PG_ARGS(orders->force_pg), record->replica, error_text(error));
        retry_later(orders);
    } else {
        core_log(shard->core, LOG_WARN, "osd",
                 PG_FMT ": goes on alone as replica %u, in terms above %" PRIu64 ", from entry %" PRIu64
                        ", as an operator said",
                 PG_ARGS(orders->force_pg), record->replica, record->term, record->group.index);
    }
    orders->op.child_result = 0;
    shard_pgs_open(shard);
    shard_mon_report(shard);
}

/* ---- removal ---- */

static bool removal_begin(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;

    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        const struct store_pg *sp = store_pg_find(shard->store, item->id);

        if (!sp || !shard_map_replica_dropped(shard, item, sp->record.replica))
            continue;
        orders->removal_pg = item->id;
        struct pg *pg = pg_find(shard, item->id);
        if (pg)
            pg_stop(pg);
        else
            op_wake(&orders->op); /* it was dropped before we started, and never opened */
        return true;
    }
    return false;
}

static void removal_end(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;

    if (orders->removal.op.result) {
        core_log(shard->core, LOG_ERROR, "osd", PG_FMT ": cannot remove the replica: %s",
                 PG_ARGS(orders->removal_pg), error_text(orders->removal.op.result));
        retry_later(orders);
    } else
        core_log(shard->core, LOG_INFO, "osd", PG_FMT ": removed with all its data, as ordered",
                 PG_ARGS(orders->removal_pg));
    orders->op.child_result = 0;
    shard_mon_report(shard);
}

/* ---- the op ---- */

static void orders_idle(struct shard_orders *orders)
{
    struct osd_shard *shard = orders->shard;
    struct op *op = &orders->op;

    if (op->cancelled) {
        timer_cancel(op->core, &orders->retry);
        timer_cancel(op->core, &orders->lazy);
        op_done(op, 0);
        shard_op_ended(shard);
        return;
    }
    if (shard->failed || !shard->serving || timer_armed(&orders->retry))
        return;
    shard_pgs_open(shard);
    if (save_begin(orders)) {
        op->state = ORDERS_SAVE;
        return;
    }
    /* It could not be saved: a restart would know nothing of what it orders, and the map that it has may
     * order the birth of what is deleted now. */
    if (shard->map.changed)
        return;
    if (birth_begin(orders))
        op->state = ORDERS_BIRTH;
    else if (force_begin(orders))
        op->state = ORDERS_STOP_OLD;
    else if (removal_begin(orders))
        op->state = ORDERS_STOP_PG;
}

static void orders_step(struct op *op)
{
    struct shard_orders *orders = container_of(op, struct shard_orders, op);
    struct osd_shard *shard = orders->shard;

    if (op->children)
        return;
    switch (op->state) {
    case ORDERS_IDLE:
        orders_idle(orders);
        return;
    case ORDERS_SAVE:
        save_end(orders);
        break;
    case ORDERS_BIRTH:
        birth_end(orders);
        break;
    case ORDERS_STOP_OLD:
        if (map_get(&shard->pgs, orders->force_pg))
            return;
        if (force_write(orders)) {
            op->state = ORDERS_FORCE;
            return;
        }
        break;
    case ORDERS_FORCE:
        force_end(orders);
        break;
    case ORDERS_STOP_PG:
        /* The replica's own op ends by itself, and wakes us. */
        if (map_get(&shard->pgs, orders->removal_pg))
            return;
        const Fb__Pg *item = shard_map_pg(shard, orders->removal_pg);
        struct store_pg *sp = shard->failed ? NULL : store_pg_find(shard->store, orders->removal_pg);
        /* Perhaps it was withdrawn. */
        if (sp && !op->cancelled && item && shard_map_replica_dropped(shard, item, sp->record.replica)) {
            op->state = ORDERS_REMOVE;
            store_pg_remove_start(&orders->removal, sp, op);
            return;
        }
        break;
    case ORDERS_REMOVE:
        removal_end(orders);
        break;
    }
    op->state = ORDERS_IDLE;
    orders_idle(orders);
}
