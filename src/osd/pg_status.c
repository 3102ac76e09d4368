/* SPDX-License-Identifier: Apache-2.0
 *
 * What a shard tells about its PGs, and handing leadership over on request.
 */
#include "osd/pg.h"

#include <stdlib.h>

#include "base/error.h"

static Fb__PgState pg_state(const struct pg *pg)
{
    if (pg_log_damaged(pg))
        return FB__PG_STATE__PG_DAMAGED;
    if (pg->sp->record.state != STORE_PG_NORMAL)
        return FB__PG_STATE__PG_RECOVERING;
    return pg->raft.leader ? FB__PG_STATE__PG_ACTIVE : FB__PG_STATE__PG_NO_LEADER;
}

struct status_row {
    Fb__PgStatus status;
    Fb__PgPeer peers[RAFT_MEMBERS_MAX], *peer_pointers[RAFT_MEMBERS_MAX];
};

static void row_fill(const struct pg *pg, struct status_row *row)
{
    const struct raft *r = &pg->raft;
    uint64_t now_ns = core_now_ns(pg->shard->core);

    row->status = (Fb__PgStatus)FB__PG_STATUS__INIT;
    row->status.pg = pg->id;
    row->status.replica = pg->replica;
    row->status.role = r->role;
    row->status.term = r->term;
    row->status.leader = r->leader;
    row->status.first_index = r->first_index;
    row->status.last_index = r->last_index;
    row->status.durable_index = r->durable_index;
    row->status.commit_index = r->commit_index;
    row->status.applied_index = pg->sp->applied_index;
    row->status.objects = pg->sp->object_count;
    row->status.state = pg_state(pg);
    uint64_t left_ns;
    recover_progress(pg, &row->status.recover_done, &row->status.recover_total, &left_ns);
    row->status.peer = row->peer_pointers;
    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct pg_member *member = &pg->members[i];
        const struct raft_member *known = raft_member(r, member->replica);
        Fb__PgPeer *peer = &row->peers[i];

        *peer = (Fb__PgPeer)FB__PG_PEER__INIT;
        peer->replica = member->replica;
        peer->osd = member->osd;
        if (r->role == RAFT_LEADER) {
            peer->match = known->match;
            peer->in_contact = !member->peer || pg_in_contact(pg, known, now_ns);
            peer->recovering = known->recovering || known->progress == RAFT_BEHIND;
        }
        row->peer_pointers[i] = peer;
    }
    row->status.n_peer = pg->member_count;
}

void pg_status_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                       const struct rpc_message *message)
{
    struct wire_arena arena;
    uint64_t memory[32];
    Fb__PgStatusRequest *in;
    Fb__PgStatusReply reply = FB__PG_STATUS_REPLY__INIT;
    struct status_row *rows;
    uint8_t *frame;
    uint32_t len = 0;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__pg_status_request__descriptor, message->body, message->body_len, &arena, &in);
    uint64_t only = error ? 0 : in->pg;
    wire_arena_fini(&arena);

    rows = calloc(shard->pgs.count + 1, sizeof(*rows));
    reply.pg = calloc(shard->pgs.count + 1, sizeof(*reply.pg));
    frame = malloc(FRAME_HEADER_SIZE + FRAME_BODY_MAX);
    if (!rows || !reply.pg || !frame)
        error = -ERR_NO_MEMORY;
    if (!error) {
        map_for_each (&shard->pgs, node) {
            const struct pg *pg = map_entry(node, struct pg, node);
            if (pg->stopping || (only && pg->id != only))
                continue;
            row_fill(pg, &rows[reply.n_pg]);
            reply.pg[reply.n_pg] = &rows[reply.n_pg].status;
            reply.n_pg++;
        }
        error = only && !reply.n_pg ? -ERR_NO_PG
                                    : wire_cold_encode(&reply.base, rpc_body(frame), FRAME_BODY_MAX, &len);
    }
    rpc_reply(ticket, error, len ? rpc_body(frame) : NULL, len, NULL, 0);
    free(rows);
    free(reply.pg);
    free(frame);
}

/* ---- handing over ---- */

/* Its device is slow, or hangs, perhaps: it could not lead, and while it is waited for nothing is written. */
static bool is_stalled(const struct pg *pg, const struct pg_member *m)
{
    const struct raft_member *known = raft_member(&pg->raft, m->replica);

    if (pg_member_is_slow(pg, m))
        return true;
    return known && known->match < pg->raft.commit_index &&
           m->match_ns + PG_LAG_NS <= core_now_ns(pg->shard->core);
}

static int transfer_one(struct pg *pg, const Fb__PgTransferRequest *request)
{
    uint32_t to = 0;

    pg_unpark(pg);
    for (uint32_t i = 0; i < pg->member_count && !request->any; i++) {
        if (pg->members[i].osd != request->to_osd || !pg->members[i].peer)
            continue;
        if (pg->raft.role == RAFT_LEADER && is_stalled(pg, &pg->members[i]))
            return -ERR_RETRY;
        to = pg->members[i].replica;
    }
    if (!to && !request->any)
        return -ERR_INVALID; /* that OSD has no replica, or it is us */
    int error = raft_transfer(&pg->raft, to, core_now_ns(pg->shard->core));
    pg_touched(pg);
    return error;
}

int pg_transfer(struct osd_shard *shard, const Fb__PgTransferRequest *request)
{
    int first_error = 0;

    if (request->pg) {
        struct pg *pg = pg_find(shard, request->pg);
        return pg ? transfer_one(pg, request) : -ERR_NO_PG;
    }
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        if (!pg->led_term || pg->stopping)
            continue;
        int error = transfer_one(pg, request);
        if (error && !first_error)
            first_error = error;
    }
    return first_error;
}

void pg_transfer_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                         const struct rpc_message *message)
{
    struct wire_arena arena;
    uint64_t memory[32];
    Fb__PgTransferRequest *in;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__pg_transfer_request__descriptor, message->body, message->body_len, &arena, &in);
    if (!error)
        error = pg_transfer(shard, in);
    pg_reply(shard, ticket, !error && in->pg ? pg_find(shard, in->pg) : NULL, error);
    wire_arena_fini(&arena);
}
