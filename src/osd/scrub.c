/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader's side of scrub: one op per shard, one PG at a time.
 *
 *      IDLE --> ASK --> WAIT --> compared: through with the range --> REST --> ASK (the next range)
 *       ^        ^      |  ^ '-- it is to be looked at again --> REST --> ASK (the same range)
 *       |        |      v  |
 *       |        |     AGAIN: those that need longer are asked once more
 *       '--------+-- that was the last range; or the PG is not ours to lead any more
 *
 * What differs (scrub_compare.c) is counted and reported with all versions, and left alone. Only on an
 * operator's order (`pg repair`) the version that a majority of the PG's members has is copied over the
 * others, one object at a time.
 *
 * Damage has the same op look at one object (damage.c).
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/plant.h"
#include "osd/scrub_lead.h"

enum { SCRUB_IDLE, SCRUB_ASK, SCRUB_WAIT, SCRUB_AGAIN, SCRUB_REST };
#define SCRUB_LIGHT_OBJECTS 16 /* in one range; of a deep scrub it is 1 */
#define SCRUB_CALL_NS       (2 * NS_PER_S)
#define SCRUB_POLL_NS       (20 * NS_PER_MS) /* until a member that needs longer is asked again */
#define SCRUB_PATIENCE_NS   (60 * NS_PER_S)  /* for one question ... */
#define SCRUB_HASTE_NS      (5 * NS_PER_S)   /* ... once a range had to do without a member */
#define SCRUB_TRIES_MAX     12
#define SCRUB_UNREAD_MAX    4 /* for the sake of contents that are to be read once more */
#define SCRUB_LEFT_MAX      5 /* for the sake of damage that is left */
#define SCRUB_SILENT_MAX    3 /* tries for the sake of one that does not answer, the first time */
#define SCRUB_TRY_NS        (60 * NS_PER_MS) /* a follower learns what is committed with the next heartbeat */
#define SCRUB_PACE_NS       (5 * NS_PER_MS)
#define SCRUB_IDLE_NS       NS_PER_S

static const char *scrub_state_name(int state)
{
    static const char *const names[] = {"idle", "ask", "wait", "again", "rest"};
    return names[state];
}
static void scrub_step(struct op *op);
static const struct op_kind scrub_kind = {"osd.scrub", scrub_state_name, scrub_step};

int scrub_start(struct osd_shard *shard)
{
    struct scrub *s = calloc(1, sizeof(*s));
    int error = s ? scrub_serve_new(shard, &shard->scrub_serve) : -ERR_NO_MEMORY;

    if (error) {
        free(s);
        return error;
    }
    s->shard = shard;
    shard->scrub = s;
    op_start(&s->op, shard->core, &scrub_kind, NULL);
    return 0;
}

struct op *scrub_op(struct osd_shard *shard)
{
    return shard->scrub ? &shard->scrub->op : NULL;
}

void scrub_wake(struct osd_shard *shard)
{
    if (shard->scrub && op_live(&shard->scrub->op))
        op_wake(&shard->scrub->op);
}

void scrub_free(struct osd_shard *shard)
{
    free(shard->scrub);
    shard->scrub = NULL;
    scrub_serve_free(shard->scrub_serve);
    shard->scrub_serve = NULL;
}

static int compare_orders(const void *a, const void *b)
{
    const Fb__ScrubOrder *left = *(Fb__ScrubOrder *const *)a, *right = *(Fb__ScrubOrder *const *)b;

    return (left->pg > right->pg) - (left->pg < right->pg);
}

static const Fb__ScrubOrder *order_find(Fb__ScrubOrder *const *orders, size_t count, uint64_t pg)
{
    Fb__ScrubOrder key = FB__SCRUB_ORDER__INIT, *pointer = &key;

    key.pg = pg;
    Fb__ScrubOrder *const *found =
        count ? bsearch(&pointer, orders, count, sizeof(*orders), compare_orders) : NULL;
    return found ? *found : NULL;
}

void scrub_take_orders(struct osd_shard *shard, Fb__ScrubOrder **orders, size_t count)
{
    /* An operator may have ordered that of all PGs. */
    if (count)
        qsort(orders, count, sizeof(*orders), compare_orders);
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);

        if (!pg->led_term)
            continue;
        const Fb__ScrubOrder *order = order_find(orders, count, pg->id);
        pg->scrub_order = order ? order->order : 0;
        pg->scrub_deep = order && order->deep;
        pg->scrub_repair = order && order->repair;
        if (!order || !order->damage_omitted)
            damage_take_list(pg, order ? order->damage : NULL, order ? order->n_damage : 0);
    }
    scrub_wake(shard);
}

void scrub_take_pause(struct osd_shard *shard, bool paused)
{
    if (shard->scrub->paused == paused)
        return;
    shard->scrub->paused = paused;
    scrub_wake(shard);
}

/* ---- what to do ---- */

static void rest(struct scrub *s, int state, uint64_t ns)
{
    s->op.state = state;
    timer_arm(s->op.core, &s->timer, &s->op, core_now_ns(s->op.core) + ns);
}

static bool pg_scrub_due(const struct pg *pg)
{
    return pg->scrub_order && (pg->scrub.order != pg->scrub_order || !pg->scrub.done);
}

/* The next range of the PG: up to so many objects that are here, and whatever the others have in between. */
static void range_next(struct scrub *s, const struct pg *pg)
{
    struct store_object_info info = {.image = pg->scrub.image, .object = pg->scrub.object};
    bool start = !pg->scrub.has_cursor, more = true;

    s->range = (struct scrub_range){
        .has_cursor = pg->scrub.has_cursor, .image = pg->scrub.image, .object = pg->scrub.object};
    for (uint32_t i = 0; i < (pg->scrub.deep ? 1 : SCRUB_LIGHT_OBJECTS) && more; i++) {
        more = store_object_next(pg->sp, start, info.image, info.object, &info);
        start = false;
    }
    s->range.has_end = more;
    s->range.end_image = info.image;
    s->range.end_object = info.object;
}

static void range_begin(struct scrub *s)
{
    s->tries = s->before.count = s->noted.count = 0;
    s->equalizing = false;
    s->op.state = SCRUB_ASK;
    op_wake(&s->op);
}

static void scrub_begin(struct scrub *s, struct pg *pg)
{
    if (pg->scrub.order != pg->scrub_order)
        pg->scrub =
            (struct pg_scrub){.order = pg->scrub_order, .deep = pg->scrub_deep, .replicas = pg->member_count};
    s->pg = pg->id;
    s->term = pg->raft.term;
    s->recheck = false;
    core_log(s->op.core, LOG_INFO, "osd", PG_FMT ": %s scrub%s", PG_ARGS(pg->id),
             pg->scrub.deep ? "deep" : "light", pg->scrub.has_cursor ? " goes on" : "");
    range_next(s, pg);
    range_begin(s);
}

static void recheck_begin(struct scrub *s, struct pg *pg, struct pg_damage *d)
{
    damage_tried(pg, d);
    s->pg = pg->id;
    s->term = pg->raft.term;
    s->recheck = true;
    s->range = scrub_range_of(d->image, d->object);
    range_begin(s);
}

/* Damage first, then what was begun already. */
static void scrub_idle(struct scrub *s)
{
    uint64_t now_ns = core_now_ns(s->op.core);
    struct pg *next = NULL;

    s->pg = 0;
    s->op.state = SCRUB_IDLE;
    if (s->shard->serving && !s->shard->failed) {
        map_for_each (&s->shard->pgs, node) {
            struct pg *pg = map_entry(node, struct pg, node);
            struct pg_damage *d;
            if (pg->stopping || !pg_serves(pg))
                continue;
            if ((d = damage_due(pg, now_ns))) {
                recheck_begin(s, pg, d);
                return;
            }
            if (!s->paused && pg_scrub_due(pg) && (!next || pg->scrub.order == pg->scrub_order))
                next = pg;
        }
    }
    if (next)
        scrub_begin(s, next);
    else
        rest(s, SCRUB_IDLE, SCRUB_IDLE_NS);
}

/* ---- asking ---- */

/* What moved is only compared again, not read again. */
static bool is_deep(const struct scrub *s, const struct pg *pg)
{
    return (s->recheck || pg->scrub.deep) && (!s->tries || s->reread);
}

/* Every range so far was looked at by all members. */
static bool is_whole(const struct scrub *s, const struct pg *pg)
{
    return s->recheck || pg->scrub.replicas >= pg->member_count;
}

static void ask_member(struct scrub *s, struct pg *pg, struct scrub_asked *a)
{
    struct pg_member *member = pg_member_find(pg, a->replica);
    uint32_t len;

    a->again = false;
    if (!member || !member->peer || !member->peer->rpc || !rpc_peer_is_open(member->peer->rpc))
        return;
    a->call.reply = a->reply;
    a->call.reply_cap = sizeof(a->reply);
    a->there = true;
    int error = scrub_request_encode(pg, a->replica, s->number, &s->range, is_deep(s, pg) ? &s->key : NULL,
                                     a->copy_from, s->recheck || s->equalizing ? NULL : &pg->scrub,
                                     rpc_body(s->frame), SCRUB_REQUEST_MAX, &len);
    if (!error)
        error = rpc_call_start(&a->call, member->peer->rpc, &s->op, METHOD_SCRUB, rpc_body(s->frame), len,
                               NULL, 0, core_now_ns(s->op.core) + SCRUB_CALL_NS);
    a->sent = !error;
    a->again = error == -ERR_BUSY;
}

static void scrub_ask(struct scrub *s, struct pg *pg)
{
    if (timer_armed(&s->timer))
        return;
    s->number++;
    s->key = content_key_make(core_random_u64(s->op.core), core_random_u64(s->op.core));
    s->deep = !s->recheck && pg->scrub.deep;
    s->patience_until_ns = core_now_ns(s->op.core) + (is_whole(s, pg) ? SCRUB_PATIENCE_NS : SCRUB_HASTE_NS);
    s->op.state = SCRUB_WAIT;
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        struct scrub_asked *a = &s->asked[i];
        /* A learner is no replica yet that anybody relies on. */
        bool there = i < pg->member_count && raft_member(&pg->raft, pg->members[i].replica)->flags;
        if (!s->equalizing)
            a->copy_from = 0;
        a->replica = there ? pg->members[i].replica : 0;
        a->osd = there ? pg->members[i].osd : 0;
        a->there = a->sent = a->answered = a->again = false;
        if (!there)
            continue;
        if (a->replica == pg->replica) {
            a->there = true;
            scrub_look_start(&s->look, pg, &s->range, is_deep(s, pg) ? &s->key : NULL, a->copy_from, &s->op);
        } else if (!PLANT(OSD_SCRUB_LEADER_ONLY)) {
            ask_member(s, pg, a);
        }
    }
}

static void take_answer(struct scrub *s, struct scrub_asked *a)
{
    int error = a->call.result;

    slice_unref(&a->call.reply_payload);
    if (error == -ERR_RETRY && a->call.remote)
        a->again = true;
    else if (!error)
        a->answered = !scrub_view_decode(a->reply, a->call.reply_len, &a->view);
    a->sent = false;
}

/* Everybody has answered, or will not. */
static bool all_answered(struct scrub *s, struct pg *pg)
{
    bool pending = s->op.children, again = false;

    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        struct scrub_asked *a = &s->asked[i];
        pending |= a->call.pending;
        if (a->sent && !a->call.pending)
            take_answer(s, a);
        again |= a->again;
    }
    if (pending)
        return false;
    if (again && pg && core_now_ns(s->op.core) < s->patience_until_ns) {
        rest(s, SCRUB_AGAIN, SCRUB_POLL_NS);
        return false;
    }
    return true;
}

static void ask_again(struct scrub *s, struct pg *pg)
{
    if (timer_armed(&s->timer))
        return;
    s->op.state = SCRUB_WAIT;
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++)
        if (s->asked[i].again)
            ask_member(s, pg, &s->asked[i]);
    op_wake(&s->op);
}

/* ---- comparing ---- */

/* The next question is for this object, and some take it over first. */
static void equalize_begin(struct scrub *s, const struct scrub_object *o)
{
    s->saved = s->range;
    s->range = scrub_range_of(o->image, o->object);
    s->equalizing = s->reread = true;
    s->op.state = SCRUB_ASK;
    op_wake(&s->op);
}

/* What was to be made equal: is it? Then the range is looked at from the start. */
static void equalize_end(struct scrub *s, struct pg *pg)
{
    uint64_t image = s->range.end_image, object = s->range.end_object;
    bool equal = scrub_is_same(s, image, object);

    /* Who could not copy has not answered, and still differs. */
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++)
        equal &= !s->asked[i].copy_from || s->asked[i].answered;
    pg->scrub.differing -= equal;
    pg->scrub.equalized += equal;
    for (uint32_t i = 0; i < pg->scrub.difference_count && equal; i++)
        if (pg->scrub.difference[i].image == image && pg->scrub.difference[i].object == object)
            pg->scrub.difference[i].equalized = true;
    s->range = s->saved;
    s->equalizing = false;
    s->before.count = s->tries = 0;
    rest(s, SCRUB_ASK, SCRUB_TRY_NS);
}

/* What the members did counts, whatever comes of the comparison. */
static void count_work(struct scrub *s, struct pg *pg)
{
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked) && !s->recheck; i++) {
        const struct scrub_asked *a = &s->asked[i];
        if (!a->answered)
            continue;
        pg->scrub.bytes += a->view.bytes;
        pg->scrub.repaired += a->view.repaired;
    }
}

static void scrub_end(struct scrub *s, struct pg *pg)
{
    const struct pg_scrub *t = &pg->scrub;

    pg->scrub.done = true;
    core_log(s->op.core,
             t->left || t->differing ? LOG_ERROR
             : t->found              ? LOG_WARN
                                     : LOG_INFO,
             "osd",
             PG_FMT ": %s scrub of %u replicas done: %" PRIu64 " objects, %" PRIu64 " bytes read, %" PRIu64
                    " damaged blocks found, %" PRIu64 " repaired, %" PRIu64 " left, %" PRIu64
                    " objects differ, %" PRIu64 " made equal, %" PRIu64 " skipped",
             PG_ARGS(pg->id), t->deep ? "deep" : "light", t->replicas, t->objects, t->bytes, t->found,
             t->repaired, t->left, t->differing, t->equalized, t->skipped);
    shard_mon_report(s->shard);
    scrub_idle(s);
}

/* The range is through with. */
static void range_end(struct scrub *s, struct pg *pg, const struct scrub_comparison *cmp)
{
    struct pg_scrub *t = &pg->scrub;
    uint32_t answered = 0;

    scrub_list_damage(s, pg, cmp);
    if (s->recheck) {
        scrub_idle(s);
        return;
    }
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++)
        answered += s->asked[i].answered;
    t->replicas = MIN(t->replicas, answered);
    t->objects += cmp->objects.count;
    t->left += cmp->left;
    t->found = t->repaired + t->left;
    t->skipped += cmp->skipped;
    s->shard->perf.scrub_objects += cmp->objects.count;
    t->has_cursor = true;
    t->image = s->range.end_image;
    t->object = s->range.end_object;
    if (!s->range.has_end) {
        scrub_end(s, pg);
        return;
    }
    rest(s, SCRUB_REST, SCRUB_PACE_NS);
}

static void range_again(struct scrub *s, const struct scrub_comparison *cmp)
{
    s->before.count = 0;
    for (uint32_t i = 0; i < cmp->objects.count; i++)
        if (cmp->verdicts[i] != SCRUB_SAME)
            s->before.at[s->before.count++] = cmp->objects.at[i];
    s->tries++;
    s->reread = cmp->left || !cmp->mine || cmp->unread;
    rest(s, SCRUB_ASK, SCRUB_TRY_NS);
}

/* Objects that differ are told of once; true: one of them is being made equal. */
static bool range_differs(struct scrub *s, struct pg *pg, const struct scrub_comparison *cmp)
{
    for (uint32_t i = 0; i < cmp->objects.count; i++) {
        const struct scrub_object *o = &cmp->objects.at[i];
        if (cmp->verdicts[i] != SCRUB_DIFFERS || scrub_object_find(&s->noted, o->image, o->object) ||
            s->noted.count == SCRUB_UNION_MAX)
            continue;
        s->noted.at[s->noted.count++] = *o;
        scrub_difference_note(s, pg, o);
        if (pg->scrub_repair && scrub_equalize(s, pg, o)) {
            equalize_begin(s, o);
            return true;
        }
    }
    return false;
}

static void range_compare(struct scrub *s, struct pg *pg, struct scrub_comparison *cmp)
{
    scrub_compare_all(s, pg, cmp);
    /* Damage that is left is looked at again: who was to help may have been repaired itself meanwhile, and
     * what is still the log's must be destaged first. */
    if ((!cmp->all && is_whole(s, pg) && s->tries < SCRUB_SILENT_MAX) ||
        (cmp->left && s->tries < SCRUB_LEFT_MAX) || (cmp->unread && s->tries < SCRUB_UNREAD_MAX) ||
        (cmp->moving && s->tries < SCRUB_TRIES_MAX)) {
        range_again(s, cmp);
        return;
    }
    if (s->recheck || !range_differs(s, pg, cmp))
        range_end(s, pg, cmp);
}

static void scrub_compare(struct scrub *s, struct pg *pg)
{
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        struct scrub_asked *a = &s->asked[i];
        if (a->replica != pg->replica)
            continue;
        a->answered = !s->op.child_result;
        a->view = s->look.ret;
    }
    s->op.child_result = 0;
    count_work(s, pg);
    if (s->equalizing) {
        equalize_end(s, pg);
        return;
    }
    struct scrub_comparison *cmp = scrub_range_cut(s) ? NULL : malloc(sizeof(*cmp));
    if (!cmp) { /* a smaller range; or no memory now */
        s->before.count = 0;
        rest(s, SCRUB_ASK, SCRUB_TRY_NS);
        return;
    }
    range_compare(s, pg, cmp);
    free(cmp);
}

/* ---- the op ---- */

/* The PG at work, if it is still ours to lead, in the same term. */
static struct pg *scrub_pg(const struct scrub *s)
{
    struct pg *pg = pg_find(s->shard, s->pg);

    return pg && pg->raft.term == s->term && pg_serves(pg) ? pg : NULL;
}

static void scrub_stop(struct scrub *s)
{
    timer_cancel(s->op.core, &s->timer);
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        rpc_call_abandon(&s->asked[i].call);
        slice_unref(&s->asked[i].call.reply_payload);
    }
    if (s->op.children)
        return;
    op_done(&s->op, 0);
    shard_op_ended(s->shard);
}

static void scrub_step(struct op *op)
{
    struct scrub *s = container_of(op, struct scrub, op);
    struct pg *pg = s->pg ? scrub_pg(s) : NULL;

    if (op->cancelled) {
        scrub_stop(s);
        return;
    }
    if (op->state == SCRUB_IDLE) {
        scrub_idle(s);
        return;
    }
    if (op->state == SCRUB_WAIT && !all_answered(s, pg))
        return;
    if (!pg) {
        op->child_result = 0;
        timer_cancel(op->core, &s->timer);
        scrub_idle(s);
        return;
    }
    switch (op->state) {
    case SCRUB_ASK:
        scrub_ask(s, pg);
        return;
    case SCRUB_WAIT:
        scrub_compare(s, pg);
        return;
    case SCRUB_AGAIN:
        ask_again(s, pg);
        return;
    case SCRUB_REST:
        if (timer_armed(&s->timer))
            return;
        if (s->paused || pg->scrub_order != pg->scrub.order) {
            scrub_idle(s);
            return;
        }
        range_next(s, pg);
        range_begin(s);
        return;
    }
}
