/* SPDX-License-Identifier: Apache-2.0
 *
 * A member's side of scrub. One look at a time, whoever asks: others are told to come again. A look may take
 * longer than a call may: then its asker is told so, too, and the answer waits until the same question comes
 * again. Nobody else's question takes its place meanwhile, or leaders that ask by turns would have the same
 * objects read for ever; but not for long: the asker may be gone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "osd/scrub.h"

enum { SERVE_LOOK };
#define SERVE_ANSWER_NS NS_PER_S /* well below what calls between shards may take */
#define SERVE_KEEP_NS   NS_PER_S /* an asker that is to come again does so much sooner */

struct scrub_serve {
    struct op op;
    struct osd_shard *shard;
    uint64_t pg, term, number; /* the question */
    bool answered;             /* the look's result is that of the question */
    int result;
    uint64_t keep_until_ns; /* for an asker that has not heard of it */
    bool has_ticket;
    struct rpc_ticket ticket;
    struct timer timer;
    struct scrub_look look;
    uint8_t frame[FRAME_HEADER_SIZE + SCRUB_REPLY_MAX];
};

static const char *serve_state_name(int state)
{
    return "look";
}
static void serve_step(struct op *op);
static const struct op_kind serve_kind = {"osd.scrub-serve", serve_state_name, serve_step};

int scrub_serve_new(struct osd_shard *shard, struct scrub_serve **ret_serve)
{
    struct scrub_serve *s = calloc(1, sizeof(*s));

    if (!s)
        return -ERR_NO_MEMORY;
    s->shard = shard;
    *ret_serve = s;
    return 0;
}

void scrub_serve_free(struct scrub_serve *s)
{
    free(s);
}

static void serve_reply(struct scrub_serve *s, const struct rpc_ticket *ticket, int error)
{
    uint32_t len = 0;

    if (!error)
        error = scrub_view_encode(&s->look.ret, rpc_body(s->frame), &len);
    rpc_reply(ticket, error, error ? NULL : rpc_body(s->frame), error ? 0 : len, NULL, 0);
}

static void serve_step(struct op *op)
{
    struct scrub_serve *s = container_of(op, struct scrub_serve, op);
    struct osd_shard *shard = s->shard;

    if (op->children) {
        if (s->has_ticket && s->timer.fired) {
            s->has_ticket = false;
            serve_reply(s, &s->ticket, -ERR_RETRY);
        }
        return;
    }
    timer_cancel(op->core, &s->timer);
    s->answered = true;
    s->result = s->look.op.result;
    s->keep_until_ns = s->has_ticket ? 0 : core_now_ns(op->core) + SERVE_KEEP_NS;
    if (s->has_ticket)
        serve_reply(s, &s->ticket, s->result);
    s->has_ticket = false;
    shard->side_ops--;
    op_done(op, 0);
    if (shard->stopping)
        shard_op_ended(shard);
}

static bool is_same(const struct scrub_serve *s, const Fb__ScrubRequest *in)
{
    return s->pg == in->pg && s->term == in->term && s->number == in->number;
}

static void serve_wait(struct scrub_serve *s, const struct rpc_ticket *ticket)
{
    if (s->has_ticket)
        serve_reply(s, &s->ticket, -ERR_RETRY);
    s->ticket = *ticket;
    s->has_ticket = true;
    timer_arm(s->shard->core, &s->timer, &s->op, core_now_ns(s->shard->core) + SERVE_ANSWER_NS);
}

static int serve_begin(struct scrub_serve *s, struct pg *pg, const Fb__ScrubRequest *in)
{
    struct scrub_range range = {.has_cursor = in->has_cursor,
                                .has_end = in->has_end,
                                .image = in->after_image,
                                .object = in->after_object,
                                .end_image = in->end_image,
                                .end_object = in->end_object};
    struct content_key key = {0};
    struct pg_scrub so_far;

    if (in->deep && in->key.len != sizeof(key.bytes))
        return -ERR_INVALID;
    if (in->deep)
        memcpy(key.bytes, in->key.data, sizeof(key.bytes));
    if (in->copy_from && (!in->has_end || !pg_member_find(pg, in->copy_from) || in->copy_from == pg->replica))
        return -ERR_INVALID;
    if (in->so_far && in->so_far->order) {
        int error = scrub_result_take(in->so_far, &so_far);
        if (error)
            return error;
        /* Should we lead next, we go on from here. */
        pg->scrub = so_far;
        pg->scrub.has_cursor = in->has_cursor;
        pg->scrub.image = in->after_image;
        pg->scrub.object = in->after_object;
    }
    s->pg = in->pg;
    s->term = in->term;
    s->number = in->number;
    s->answered = false;
    s->shard->side_ops++;
    op_start(&s->op, s->shard->core, &serve_kind, NULL);
    scrub_look_start(&s->look, pg, &range, in->deep ? &key : NULL, in->copy_from, &s->op);
    return 0;
}

void scrub_receive(struct peer *peer, struct osd_shard *shard, const struct rpc_ticket *ticket,
                   const struct rpc_message *message)
{
    struct scrub_serve *s = shard->scrub_serve;
    uint64_t memory[1024];
    struct wire_arena arena;
    Fb__ScrubRequest *in;
    struct pg *pg = NULL;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__scrub_request__descriptor, message->body, message->body_len, &arena, &in);
    if (!error)
        pg = pg_asked(peer, shard, in->pg, in->from, in->to, &error);
    if (!error && (in->term != pg->raft.term || pg->raft.leader != in->from))
        error = -ERR_NOT_LEADER;
    bool waits = op_live(&s->op) || (s->answered && core_now_ns(shard->core) < s->keep_until_ns);
    if (!error && waits && !is_same(s, in))
        error = -ERR_RETRY;
    if (!error && !op_live(&s->op) && s->answered && is_same(s, in)) {
        serve_reply(s, ticket, s->result);
        s->keep_until_ns = 0;
        wire_arena_fini(&arena);
        return;
    }
    if (!error && !op_live(&s->op))
        error = serve_begin(s, pg, in);
    if (error)
        rpc_reply(ticket, error, NULL, 0, NULL, 0);
    else
        serve_wait(s, ticket);
    wire_arena_fini(&arena);
}
