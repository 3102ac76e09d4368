/* SPDX-License-Identifier: Apache-2.0
 *
 * What all client requests have in common: a place in the pool and in the PG's share of it, the checks,
 * the answer.
 *
 * A request counts in its PG's request_count from pg_request_new() to pg_request_end(), so the PG outlives
 * it. Whenever it looks at the PG after a wait it asks pg_request_check() anew: nothing that was true before
 * is taken to be true still.
 */
#include "osd/pg.h"

#include "base/error.h"
#include "base/placement.h"
#include "base/plant.h"
#include "base/trace.h"

void shard_reply_cold(struct osd_shard *shard, const struct rpc_ticket *ticket, int result,
                      const ProtobufCMessage *message)
{
    uint32_t len = 0;
    int error = wire_cold_encode(message, rpc_body(shard->frame), SHARD_BODY_MAX, &len);

    rpc_reply(ticket, error ? error : result, rpc_body(shard->frame), error ? 0 : len, NULL, 0);
}

void pg_reply(struct osd_shard *shard, const struct rpc_ticket *ticket, struct pg *pg, int result)
{
    Fb__PgReply reply = FB__PG_REPLY__INIT;

    if (pg) {
        reply.term = pg->raft.term;
        reply.leader = pg->raft.leader;
    }
    if (result)
        reply.epoch = shard->map.epoch;
    shard->perf.errors += result != 0;
    shard_reply_cold(shard, ticket, result, &reply.base);
}

/* Of the data of requests. The rest of the memory is for what was read and is not taken yet, for what comes
 * from other leaders, and for merges. */
static uint64_t bytes_max(const struct osd_shard *shard)
{
    uint64_t most = arena_size(shard->core->arena) / 4 * 3, unsent = rpc_server_unsent_bytes(shard->server);

    return MIN((uint64_t)SHARD_REQUEST_BYTES, most - MIN(most, unsent));
}

/* A PG may have a third of what it leaves to the others: alone a quarter of the pool, and the less the more
 * of them are stuck, so that one that works finds room, however many they are. */
static bool request_fits(const struct pg *pg, uint32_t bytes)
{
    const struct osd_shard *shard = pg->shard;
    uint64_t taken_bytes = shard->request_bytes + bytes, most_bytes = bytes_max(shard);

    if (3 * pg->request_count >= SHARD_REQUESTS_MAX - pool_out_count(&shard->requests))
        return false;
    return taken_bytes <= most_bytes &&
           (!pg->request_bytes || 3 * (pg->request_bytes + bytes) <= most_bytes - taken_bytes);
}

struct pg_request *pg_request_new(struct osd_shard *shard, const struct rpc_ticket *ticket, uint64_t pg_id,
                                  enum pg_request_kind kind, const struct slice *payload, uint32_t bytes)
{
    struct pg *pg = shard->serving ? pg_find(shard, pg_id) : NULL;
    struct pg_request *req;

    if (!pg || shard->failed) {
        pg_reply(shard, ticket, pg, shard->failed ? -ERR_STOPPED : -ERR_NO_PG);
        return NULL;
    }
    /* Redirects cost nothing of what is scarce. */
    if (pg->raft.role != RAFT_LEADER) {
        pg_election_asked(pg);
        pg_reply(shard, ticket, pg, -ERR_NOT_LEADER);
        return NULL;
    }
    req = request_fits(pg, bytes) ? pool_get(&shard->requests) : NULL;
    if (!req) {
        shard->perf.turned_away++;
        pg_reply(shard, ticket, pg, -ERR_RETRY);
        return NULL;
    }
    req->shard = shard;
    req->pg = pg;
    req->kind = kind;
    store_pg_prefetch(pg->sp);
    req->ticket = *ticket;
    TRACE(request_taken, pg_id, kind, bytes);
    req->taken_ns = shard->client_ns = core_now_ns(shard->core);
    pg_unpark(pg);
    shard_heartbeat_traffic(pg);
    req->payload = payload ? slice_sub(payload, 0, payload->len) : (struct slice){0};
    req->head_partial = req->tail_partial = req->waited = req->committed = req->exact = req->answered = false;
    req->timer.fired = false;
    req->error = 0;
    req->index = req->proposed_term = req->proposed_ns = req->repair_tries = 0;
    list_init(&req->link);
    pg->request_count++;
    req->held_bytes = 0;
    pg_request_hold(req, bytes);
    return req;
}

void pg_request_hold(struct pg_request *req, uint64_t bytes)
{
    req->pg->request_bytes += bytes - req->held_bytes;
    req->shard->request_bytes += bytes - req->held_bytes;
    req->held_bytes = bytes;
}

void pg_request_go(struct pg_request *req, const struct op_kind *kind)
{
    op_start(&req->op, req->shard->core, kind, NULL);
}

void pg_request_end(struct pg_request *req, int result)
{
    struct osd_shard *shard = req->shard;
    struct pg *pg = req->pg;

    timer_cancel(shard->core, &req->timer);
    if (list_linked(&req->link))
        list_remove(&req->link);
    pg_request_hold(req, 0);
    slice_unref(&req->payload);
    pg->request_count--;
    if (pg->stopping)
        pg_wake(pg);
    op_done(&req->op, result);
    pool_put(&shard->requests, req);
    if (shard->stopping)
        shard_op_ended(shard);
}

void pg_request_fail(struct pg_request *req, int error)
{
    struct osd_shard *shard = req->shard;

    image_perf_row(&shard->image_perf, req->image, req->pg->id, core_now_ns(shard->core))->errors++;
    if (!req->answered)
        pg_reply(req->shard, &req->ticket, req->pg, error);
    pg_request_end(req, error);
}

int pg_request_check(struct pg_request *req, bool exact_term)
{
    struct pg *pg = req->pg;

    if (!rpc_ticket_alive(&req->ticket) && !PLANT(OSD_RETIRED_TICKET))
        return -ERR_CANCELLED;
    if (pg->stopping)
        return -ERR_NO_PG;
    if (pg->shard->failed)
        return -ERR_STOPPED;
    if (pg->raft.role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    if (!pg_serves(pg))
        return -ERR_RETRY;
    if (exact_term && req->term != pg->raft.term && !PLANT(OSD_NO_TERM))
        return -ERR_STALE_TERM;
    return 0;
}

int pg_request_check_object(const struct pg_request *req)
{
    uint32_t pool_id = (uint32_t)(req->pg->id >> 32);
    const Fb__Pool *pool = shard_map_pool(req->shard, pool_id);

    if (!pool || !pool->pg_count || pool->removed)
        return -ERR_NO_PG;
    /* The log decides from when on an object is another PG's, whatever the map says; of other PGs' splits it
     * tells nothing. The placement key of an image is its id: clones, which inherit another, come later. */
    uint32_t count = MAX(MAX(pool->pg_count, (uint32_t)req->pg->id + 1), pg_split_count(req->pg));
    if (placement_pg_id(pool_id, placement_pg_number(req->image, req->object, count)) != req->pg->id)
        return -ERR_WRONG_PG;
    return 0;
}

static void list_fail(struct list *requests, int error)
{
    list_for_each (requests, node) {
        struct pg_request *req = list_entry(node, struct pg_request, link);
        req->error = error;
        op_wake(&req->op);
    }
}

void pg_requests_fail(struct pg *pg, int error)
{
    list_fail(&pg->waiting, error);
    list_fail(&pg->reading, error);
    list_fail(&pg->fetching, error);
    list_fail(&pg->merging, error);
    list_fail(&pg->blocked, error);
}

void pg_requests_progress(struct pg *pg, uint64_t now_ns)
{
    uint64_t index = PLANT(OSD_EARLY_REPLY) ? pg->sp->last_index : pg->sp->applied_index;

    while (!list_empty(&pg->waiting)) {
        struct pg_request *req = list_entry(pg->waiting.next, struct pg_request, link);
        if (req->index > index)
            break;
        list_remove(&req->link);
        req->committed_ns = now_ns;
        /* Once the replica has stopped leading, the entry of that index may be another's. */
        if (!req->error && pg->led_term == req->proposed_term) {
            req->committed = true;
            TRACE(committed, pg->id, req->index);
        } else if (!req->error) {
            req->error = -ERR_NOT_LEADER;
        }
        op_wake(&req->op);
    }
    /* In contact, but without room: what nobody commits must not keep its place for ever. The asker may send
     * it again: in this term it comes behind what it proposed before. */
    list_for_each_safe (&pg->waiting, node) {
        struct pg_request *req = list_entry(node, struct pg_request, link);
        if (now_ns < req->proposed_ns + PG_COMMIT_NS)
            break;
        list_remove(&req->link);
        if (!req->error)
            req->error = -ERR_RETRY;
        op_wake(&req->op);
    }
    list_for_each (&pg->reading, node)
        op_wake(&list_entry(node, struct pg_request, link)->op);
}
