/* SPDX-License-Identifier: Apache-2.0
 *
 * Image records: writers attach, the monitor resizes and deletes.
 *
 * A record is set by an entry of the log like everything else, so all members agree at which point of the log
 * a writer was fenced. Checks at the leader look at the newest *proposed* record, not the applied one: from
 * the moment that an attach stands in the log, nothing of an older writer may come behind it. What is
 * proposed and not yet applied is kept in the PG's short list `images`; it is of our own term only, because a
 * leader serves nothing before all of earlier terms is applied.
 *
 * Records move up only, in generation and in incarnation.
 */
#include "osd/pg.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"

enum { ATTACH_START, ATTACH_PROPOSED };
#define IMAGE_NUMBER_MAX (UINT64_MAX / 2) /* of generations and incarnations that clients name */

static const char *attach_state_name(int state)
{
    return state == ATTACH_START ? "start" : "proposed";
}
static void attach_step(struct op *op);
static const struct op_kind attach_kind = {"osd.attach", attach_state_name, attach_step};

const struct image_record *pg_image_newest(const struct pg *pg, uint64_t image)
{
    for (const struct list *node = pg->images.prev; node != &pg->images; node = node->prev) {
        const struct pg_image *proposed = list_entry(node, struct pg_image, link);
        if (proposed->record.image == image)
            return &proposed->record;
    }
    return store_image_get(pg->sp, image);
}

int pg_image_propose(struct pg *pg, const struct image_record *record, uint64_t *ret_index)
{
    struct pg_image *proposed = calloc(1, sizeof(*proposed));
    struct entry entry = {
        .type = ENTRY_IMAGE,
        .flags = record->deleted ? ENTRY_IMAGE_DELETED : 0,
        .image = record->image,
        .incarnation = record->incarnation,
        .generation = record->generation,
        .size_bytes = record->size_bytes,
    };
    int error;

    if (!proposed)
        return -ERR_NO_MEMORY;
    error = pg_propose(pg, &entry, NULL);
    if (error) {
        free(proposed);
        return error;
    }
    proposed->record = *record;
    proposed->record.index = entry.index;
    list_push_back(&pg->images, &proposed->link);
    *ret_index = entry.index;
    return 0;
}

static void image_free(struct pg_image *proposed)
{
    list_remove(&proposed->link);
    free(proposed);
}

void pg_images_applied(struct pg *pg)
{
    bool any = false;

    while (!list_empty(&pg->images)) {
        struct pg_image *proposed = list_entry(pg->images.next, struct pg_image, link);
        if (proposed->record.index > pg->sp->applied_index)
            break;
        image_free(proposed);
        any = true;
    }
    /* Orders may have been waiting for it. */
    if (any && pg->shard->map.orders.count)
        shard_mon_report(pg->shard);
}

void pg_images_forget(struct pg *pg)
{
    while (!list_empty(&pg->images))
        image_free(list_entry(pg->images.next, struct pg_image, link));
}

/* ---- attach ---- */

static int attach_check(struct pg_request *req, bool *ret_is_there)
{
    int error = pg_request_check(req, false);
    const struct image_record *record;

    *ret_is_there = false;
    if (error)
        return error;
    /* Records move up only, so one at the end of the numbers could never be removed. */
    if (!req->image || !req->generation || !req->incarnation || req->generation > IMAGE_NUMBER_MAX ||
        req->incarnation > IMAGE_NUMBER_MAX)
        return -ERR_INVALID;
    record = pg_image_newest(req->pg, req->image);
    if (!record)
        return 0;
    if (record->deleted || req->generation < record->generation)
        return -ERR_STALE_GENERATION;
    if (req->incarnation < record->incarnation)
        return -ERR_FENCED;
    *ret_is_there = req->generation == record->generation && req->incarnation == record->incarnation;
    return 0;
}

/* True: wait for the entry. */
static bool attach_go(struct pg_request *req)
{
    struct image_record record = {
        .image = req->image,
        .incarnation = req->incarnation,
        .generation = req->generation,
        .size_bytes = req->size_bytes,
    };
    const struct image_record *newest;
    bool is_there;
    int error = attach_check(req, &is_there);

    if (!error && is_there) {
        /* Proposed by another request of this writer, perhaps: the answer must wait for it as well. */
        newest = pg_image_newest(req->pg, req->image);
        req->index = newest->index;
    } else if (!error) {
        error = pg_image_propose(req->pg, &record, &req->index);
    }
    if (error) {
        pg_request_fail(req, error);
        return false;
    }
    req->proposed_term = req->pg->raft.term;
    req->proposed_ns = core_now_ns(req->shard->core);
    if (req->index <= req->pg->sp->applied_index) {
        req->committed = true;
        return true;
    }
    /* `waiting` ascends by index. */
    struct list *at = &req->pg->waiting;
    while (at->prev != &req->pg->waiting && list_entry(at->prev, struct pg_request, link)->index > req->index)
        at = at->prev;
    list_insert_before(at, &req->link);
    return true;
}

static void attach_step(struct op *op)
{
    struct pg_request *req = container_of(op, struct pg_request, op);

    for (;;) {
        switch (op->state) {
        case ATTACH_START:
            if (!attach_go(req))
                return;
            op->state = ATTACH_PROPOSED;
            continue;
        case ATTACH_PROPOSED:
            if (req->committed) {
                req->shard->perf.attaches++;
                pg_reply(req->shard, &req->ticket, req->pg, 0);
                pg_request_end(req, 0);
            } else if (req->error) {
                pg_request_fail(req, req->error);
            }
            return;
        }
    }
}

void pg_attach_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                       const struct rpc_message *message)
{
    uint64_t memory[32];
    struct wire_arena arena;
    Fb__AttachRequest *in;
    struct pg_request *req;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__attach_request__descriptor, message->body, message->body_len, &arena, &in);
    if (error) {
        pg_reply(shard, ticket, NULL, error);
    } else if ((req = pg_request_new(shard, ticket, in->pg, PG_ATTACH, NULL, 0)) != NULL) {
        req->image = in->image;
        req->generation = in->generation;
        req->incarnation = in->incarnation;
        req->size_bytes = in->size_bytes;
        pg_request_go(req, &attach_kind);
    }
    wire_arena_fini(&arena);
}

/* ---- the monitor's orders ---- */

static bool record_has(const struct image_record *record, const Fb__ImageOrder *order)
{
    if (!record)
        return false;
    return order->deleted ? record->deleted : record->deleted || record->generation >= order->generation;
}

bool pg_order_done(const struct pg *pg, const Fb__ImageOrder *order)
{
    return record_has(store_image_get(pg->sp, order->image), order);
}

void pg_orders_run(struct pg *pg)
{
    pg->orders_due = false;
    map_for_each (&pg->shard->map.orders, node) {
        const Fb__ImageOrder *order = map_entry(node, struct map_item, node)->order;
        const struct image_record *newest = pg_image_newest(pg, order->image);
        uint64_t index;

        if (order->pool != pg->id >> 32 || record_has(newest, order))
            continue;
        struct image_record record = {
            .image = order->image,
            .incarnation = newest ? newest->incarnation : 0,
            /* Upwards in any case, or the entry would have no effect. */
            .generation =
                newest ? MAX(newest->generation + order->deleted, order->generation) : order->generation,
            .size_bytes = order->deleted ? 0 : order->size_bytes,
            .deleted = order->deleted,
        };
        if (pg_image_propose(pg, &record, &index))
            pg->orders_due = true; /* no room now: the timer comes back to it */
    }
}
