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
 *
 * Forgetting. A removal makes the record a tombstone. It is needed for as long as a member may come back that
 * has missed it: that one gets it by the log, or by its recovery. When every member is in contact, and each
 * says that its pages and records on the device hold everything up to the tombstone (`complete`), the leader
 * proposes FORGET, and with that entry the record goes everywhere. So a member that is away, or recovers,
 * keeps the tombstones of its PGs alive.
 *
 * From then on nothing says that the image was removed, and a client that has slept through it must not make
 * it anew. Ids are not used again, but they are not removed in order either, so no number of an image can
 * tell. Epochs can. The order to remove an image has the epoch E at which the monitor took it off its list;
 * the tombstone carries E, and FORGET raises the PG's FLOOR to it, for good. Whoever attaches or reads says
 * at which epoch the monitor last vouched that the image exists. For one that was removed at E that is below
 * E, whenever it was said, however late it comes; so without a record the answer is "stale" when it is below
 * the floor, and the client asks the monitor: of an image that lives it gets a newer epoch, of one that does
 * not, the end. The map that this leader has plays no part, it may be of any age.
 *
 * The floor does the same for orders. An order for an image of which there is no record needs no record: the
 * floor at its epoch refuses all who have not heard of it. Where it is that high already there is nothing to
 * do. So what removes needs no room for a record, ever.
 */
#include "osd/pg.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/plant.h"

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
    error = pg_room_check(pg, &entry);
    if (!error)
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
    pg->floor_epoch = 0;
}

static int forget_propose(struct pg *pg, uint64_t image, uint64_t epoch)
{
    struct entry entry = {.type = ENTRY_FORGET, .image = image, .epoch = epoch};
    int error = pg_propose(pg, &entry, NULL);

    if (!error)
        pg->floor_epoch = MAX(pg->floor_epoch, epoch);
    return error;
}

bool pg_image_vouched(const struct pg *pg, uint64_t epoch)
{
    return PLANT(OSD_NO_FLOOR) || epoch >= MAX(pg->floor_epoch, pg->sp->floor_epoch);
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
    /* Who thinks that it has fenced a former writer everywhere must not have left out a PG that was split off
     * before. */
    if (req->pg_count < pg_split_count(req->pg) && !PLANT(OSD_ATTACH_OVER_SPLIT))
        return -ERR_WRONG_PG;
    record = pg_image_newest(req->pg, req->image);
    if (!record)
        return pg_image_vouched(req->pg, req->epoch) ? 0 : -ERR_STALE_GENERATION;
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
    /* And by how long it is waited for: those behind give up when it is their time, and so does this one. */
    if (at != &req->pg->waiting)
        req->proposed_ns = MIN(req->proposed_ns, list_entry(at, struct pg_request, link)->proposed_ns);
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
        req->epoch = in->epoch;
        req->pg_count = in->pg_count;
        pg_request_go(req, &attach_kind);
    }
    wire_arena_fini(&arena);
}

/* ---- the monitor's orders ---- */

static bool order_met(const Fb__ImageOrder *order, const struct image_record *record, uint64_t floor_epoch)
{
    if (!record)
        return floor_epoch >= order->epoch;
    return record->deleted || (!order->deleted && record->generation >= order->generation);
}

bool pg_order_done(const struct pg *pg, const Fb__ImageOrder *order)
{
    return order_met(order, store_image_get(pg->sp, order->image), pg->sp->floor_epoch);
}

bool pg_order_begun(const struct pg *pg, const Fb__ImageOrder *order)
{
    return order_met(order, pg_image_newest(pg, order->image), MAX(pg->floor_epoch, pg->sp->floor_epoch));
}

static int order_propose(struct pg *pg, const Fb__ImageOrder *order, const struct image_record *newest)
{
    uint64_t index;

    if (!newest)
        return forget_propose(pg, order->deleted ? order->image : 0, order->epoch);
    struct image_record record = {
        .image = order->image,
        .incarnation = newest->incarnation,
        /* Upwards in any case, or the entry would have no effect. */
        .generation = MAX(newest->generation + order->deleted, order->generation),
        .deleted = order->deleted,
    };
    if (order->deleted)
        record.epoch = order->epoch;
    else
        record.size_bytes = order->size_bytes;
    return pg_image_propose(pg, &record, &index);
}

/* There may be thousands that wait for some PG which nobody leads, and more of them every second: each is
 * looked at once. The newest first, for the floor that it raises is that of the older ones. */
void pg_orders_run(struct pg *pg)
{
    const struct shard_map *map = &pg->shard->map;

    pg->orders_due = false;
    for (const struct list *node = map->arrivals.prev; node != &map->arrivals; node = node->prev) {
        const struct map_item *item = list_entry(node, struct map_item, arrival);
        const Fb__ImageOrder *order = item->order;

        if (item->arrived <= pg->orders_seen)
            break;
        if (order->pool != pg->id >> 32 || pg_order_begun(pg, order))
            continue;
        if (order_propose(pg, order, pg_image_newest(pg, order->image)))
            pg->orders_due = true; /* no room now: the timer comes back to it */
    }
    if (!pg->orders_due)
        pg->orders_seen = map->arrived;
}

/* ---- tombstones ---- */

/* What every member holds on its device, by its own word. False: somebody is away, or recovers. */
static bool complete_everywhere(const struct pg *pg, uint64_t now_ns, uint64_t *ret_complete)
{
    const struct raft *r = &pg->raft;
    uint64_t least = store_complete_index(pg->sp);

    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct raft_member *known = raft_member(r, pg->members[i].replica);
        if (known->replica == r->self || PLANT(OSD_EARLY_FORGET))
            continue;
        if (known->recovering || known->progress == RAFT_BEHIND || !raft_in_contact(r, known, now_ns))
            return false;
        least = MIN(least, pg->members[i].complete);
    }
    *ret_complete = least;
    return true;
}

void pg_tombstones_run(struct pg *pg, uint64_t now_ns)
{
    uint64_t complete;

    if (!pg->sp->tombstone_count || !pg->led_term || now_ns < pg->tombstones_ns)
        return;
    /* In any case: a leader that cannot serve yet would else have a timer that is always due. */
    pg->tombstones_ns = now_ns + PG_TOMBSTONES_NS;
    if (!pg_serves(pg) || !complete_everywhere(pg, now_ns, &complete))
        return;
    const struct image_record *r = store_image_next(pg->sp, 0);
    /* One round at a time: what was proposed and not applied would be found again. */
    for (; complete && r && pg->forgotten_index <= pg->sp->applied_index;
         r = store_image_next(pg->sp, r->image))
        if (r->deleted && r->index <= complete && forget_propose(pg, r->image, r->epoch))
            break;
    pg->forgotten_index = pg->sp->last_index;
    /* They are asked how far they are by then. */
    raft_probe(&pg->raft);
}
