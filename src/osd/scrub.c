/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader's side of scrub: one op per shard, one PG at a time.
 *
 *      IDLE ---> ASK ---> WAIT ---> compared: the same everywhere, or given up ---> REST ---> ASK (next
 * range) ^         ^        | ^                                                       | |         |        |
 * '-- AGAIN: to members that need longer                  | |         '--REST--'     not the same: the range
 * once more                   |
 *       '--------------------- it was the last range; or the PG is not ours to lead any more
 *
 * Replicas are at different points of the same log, so what differs is looked at again: objects of the same
 * index have the same blocks, and in a moment without a write to them they have the same index. What has the
 * same versions on every member when it is looked at again, all of them having applied that much, and is not
 * equal, differs: that must never happen, is counted and reported with all versions, and left alone. Only on
 * an operator's order (`pg repair`) the version that a majority of the PG's members has is copied over the
 * others.
 *
 * Damage has the same op look at one object (damage.c).
 */
#include "osd/scrub.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/plant.h"

enum { SCRUB_IDLE, SCRUB_ASK, SCRUB_WAIT, SCRUB_AGAIN, SCRUB_REST };
#define SCRUB_LIGHT_OBJECTS 16 /* in one range; of a deep scrub it is 1 */
#define SCRUB_CALL_NS       (2 * NS_PER_S)
#define SCRUB_POLL_NS       (20 * NS_PER_MS) /* until a member that needs longer is asked again */
#define SCRUB_POLLS_MAX     1500
#define SCRUB_TRIES_MAX     12
#define SCRUB_LEFT_MAX      5                /* for the sake of damage that is left */
#define SCRUB_SILENT_MAX    3                /* tries for the sake of one that does not answer */
#define SCRUB_TRY_NS        (60 * NS_PER_MS) /* a follower learns what is committed with the next heartbeat */
#define SCRUB_PACE_NS       (5 * NS_PER_MS)
#define SCRUB_IDLE_NS       NS_PER_S
#define SCRUB_UNION_MAX     (2 * SCRUB_ROWS_MAX)
#define SCRUB_REQUEST_MAX   2048

struct scrub_asked {
    uint32_t replica, osd; /* 0: nobody */
    bool there;            /* it is connected, so it should answer */
    bool sent, again, answered;
    struct rpc_call call;
    uint32_t copy_from;
    struct scrub_view view;
    uint8_t reply[SCRUB_REPLY_MAX];
};

/* An object of the range, over all members. */
struct scrub_object {
    uint64_t image, object;
    uint64_t versions; /* hash of what the members say */
};

struct scrub {
    struct op op;
    struct osd_shard *shard;
    struct timer timer;
    bool paused; /* by the monitor's word */
    uint64_t pg; /* of the PG at work; 0: none */
    uint64_t term;
    uint64_t number; /* of the question */
    bool recheck;    /* of damage: this object only */
    struct scrub_range range;
    uint32_t tries, polls;
    bool reread; /* this try reads the medium again */
    /* An object is being made equal. */
    bool equalizing;
    uint32_t equalized; /* attempts in this range, which has one object then */
    struct scrub_range saved;
    struct scrub_look look;
    struct scrub_asked asked[RAFT_MEMBERS_MAX];
    struct scrub_object before[SCRUB_UNION_MAX]; /* of the try before, what was not the same */
    uint32_t before_count;
    uint8_t frame[FRAME_HEADER_SIZE + SCRUB_REQUEST_MAX];
};

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

void scrub_take_orders(struct osd_shard *shard, Fb__ScrubOrder *const *orders, size_t count, bool paused)
{
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        const Fb__ScrubOrder *order = NULL;

        if (!pg->led_term)
            continue;
        for (size_t i = 0; i < count && !order; i++)
            if (orders[i]->pg == pg->id)
                order = orders[i];
        pg->scrub_order = order ? order->order : 0;
        pg->scrub_deep = order && order->deep;
        pg->scrub_repair = order && order->repair;
        damage_take_list(pg, order ? order->damage : NULL, order ? order->n_damage : 0);
    }
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
    s->tries = s->equalized = s->before_count = 0;
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
    int error = scrub_request_encode(pg, a->replica, s->number, &s->range, is_deep(s, pg), a->copy_from,
                                     s->recheck || s->equalizing ? NULL : &pg->scrub, rpc_body(s->frame),
                                     SCRUB_REQUEST_MAX, &len);
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
    s->polls = 0;
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
            scrub_look_start(&s->look, pg, &s->range, is_deep(s, pg), a->copy_from, &s->op);
        } else if (!PLANT(OSD_SCRUB_LEADER_ONLY)) {
            ask_member(s, pg, a);
        }
    }
}

static void take_answer(struct scrub *s, struct scrub_asked *a)
{
    int error = a->call.result;

    slice_unref(&a->call.reply_payload);
    if (error == -ERR_RETRY && a->call.remote && s->polls < SCRUB_POLLS_MAX)
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
    if (again && pg) {
        s->polls++;
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

static const struct scrub_row *row_find(const struct scrub_view *view, uint64_t image, uint64_t object)
{
    for (uint32_t i = 0; i < view->row_count; i++)
        if (view->rows[i].image == image && view->rows[i].object == object)
            return &view->rows[i];
    return NULL;
}

/* All objects that some member told of. False: there are more. */
static bool collect(const struct scrub *s, struct scrub_object *objects, uint32_t *ret_count)
{
    uint32_t count = 0;
    bool all = true;

    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        for (uint32_t j = 0; a->answered && j < a->view.row_count; j++) {
            const struct scrub_row *row = &a->view.rows[j];
            uint32_t k = 0;
            while (k < count && (objects[k].image != row->image || objects[k].object != row->object))
                k++;
            if (k < count)
                continue;
            if (count == SCRUB_UNION_MAX)
                all = false;
            else
                objects[count++] = (struct scrub_object){.image = row->image, .object = row->object};
        }
        all &= !a->answered || !a->view.more;
    }
    *ret_count = count;
    return all;
}

enum verdict { OBJECT_SAME, OBJECT_MOVES, OBJECT_DIFFERS };

/* `ret_damaged`: blocks that some member lost for good. */
static enum verdict judge(const struct scrub *s, struct scrub_object *o, uint64_t *ret_damaged)
{
    uint64_t newest = 0, applied = UINT64_MAX;
    const struct scrub_row *first = NULL;
    bool same = true, any_absent = false, damaged = false;
    uint32_t hash = 0;

    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        const struct scrub_row *row = a->answered ? row_find(&a->view, o->image, o->object) : NULL;
        if (!a->answered)
            continue;
        applied = MIN(applied, a->view.applied_index);
        uint64_t told[3] = {row ? row->index : 0, row ? row->digest : 0, a->replica};
        hash = crc32c(hash, told, sizeof(told));
        if (!row) {
            any_absent = true;
            continue;
        }
        newest = MAX(newest, row->index);
        for (uint32_t w = 0; w < BLOCKS_PER_OBJECT / 64; w++)
            ret_damaged[w] |= row->damaged[w];
        if (row->damaged_count) { /* its digest lacks what its page may not say any more */
            damaged = true;
            continue;
        }
        same &= !first || (row->index == first->index && row->digest == first->digest);
        first = first ? first : row;
    }
    o->versions = (uint64_t)hash << 32 | (uint32_t)newest;
    if (same && (!any_absent || damaged))
        return OBJECT_SAME;
    for (uint32_t i = 0; i < s->before_count; i++)
        if (s->before[i].image == o->image && s->before[i].object == o->object)
            return s->before[i].versions == o->versions && applied >= newest ? OBJECT_DIFFERS : OBJECT_MOVES;
    return OBJECT_MOVES;
}

static void difference_note(struct scrub *s, struct pg *pg, const struct scrub_object *o)
{
    struct pg_scrub *total = &pg->scrub;
    struct pg_difference *d = NULL;

    core_log(s->op.core, LOG_ERROR, "osd",
             PG_FMT ": image %" PRIu64 " object %" PRIu64
                    " is not the same on all replicas, though its checksums are right",
             PG_ARGS(pg->id), o->image, o->object);
    total->differing++;
    s->shard->perf.scrub_differing++;
    if (total->difference_count < PG_SCRUB_DIFFERENCES)
        d = &total->difference[total->difference_count++];
    if (d)
        *d = (struct pg_difference){.image = o->image, .object = o->object};
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        if (!a->answered)
            continue;
        const struct scrub_row *row = row_find(&a->view, o->image, o->object);
        struct pg_version version = {.replica = a->replica, .osd = a->osd, .absent = !row};
        if (row) {
            version.index = row->index;
            version.digest = row->digest;
        }
        core_log(s->op.core, LOG_ERROR, "osd",
                 PG_FMT ":   replica %u on osd.%u: %s index %" PRIu64 " digest %08x", PG_ARGS(pg->id),
                 a->replica, a->osd, row ? "" : "absent", version.index, version.digest);
        if (d)
            d->version[d->version_count++] = version;
    }
}

/* Which version of a differing object more than half of all members have; 0: none. */
static uint32_t majority_of(const struct scrub *s, const struct pg *pg, const struct scrub_object *o)
{
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_row *row =
            s->asked[i].answered ? row_find(&s->asked[i].view, o->image, o->object) : NULL;
        uint32_t count = 0;
        for (uint32_t j = 0; row && j < ARRAY_LEN(s->asked); j++) {
            const struct scrub_row *other =
                s->asked[j].answered ? row_find(&s->asked[j].view, o->image, o->object) : NULL;
            count +=
                other && !other->damaged_count && other->index == row->index && other->digest == row->digest;
        }
        if (count * 2 > pg->member_count)
            return s->asked[i].replica;
    }
    return 0;
}

/* The next question: those that have not the majority's version take it over. */
static void equalize_begin(struct scrub *s, const struct scrub_object *o, uint32_t source)
{
    const struct scrub_row *good = NULL;

    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++)
        if (s->asked[i].replica == source)
            good = row_find(&s->asked[i].view, o->image, o->object);
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        struct scrub_asked *a = &s->asked[i];
        const struct scrub_row *row = a->answered ? row_find(&a->view, o->image, o->object) : NULL;
        bool equal = row && row->index == good->index && row->digest == good->digest;
        a->copy_from = a->answered && !equal ? source : 0;
    }
    s->saved = s->range;
    s->range = scrub_range_of(o->image, o->object);
    s->equalizing = true;
    s->op.state = SCRUB_ASK;
    op_wake(&s->op);
}

/* What was to be made equal: is it? Then the range is looked at from the start. */
static void equalize_end(struct scrub *s, struct pg *pg)
{
    struct scrub_object o = {.image = s->range.end_image, .object = s->range.end_object};
    uint64_t damaged[BLOCKS_PER_OBJECT / 64] = {0};
    bool equal = judge(s, &o, damaged) == OBJECT_SAME;

    /* Who could not copy has not answered, and still differs. */
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++)
        equal &= !s->asked[i].copy_from || s->asked[i].answered;
    pg->scrub.differing -= equal;
    pg->scrub.equalized += equal;
    for (uint32_t i = 0; i < pg->scrub.difference_count && equal; i++)
        if (pg->scrub.difference[i].image == o.image && pg->scrub.difference[i].object == o.object)
            pg->scrub.difference[i].equalized = true;
    s->range = s->saved;
    s->equalizing = false;
    s->before_count = s->tries = 0;
    rest(s, SCRUB_ASK, SCRUB_TRY_NS);
}

struct comparison {
    struct scrub_object objects[SCRUB_UNION_MAX];
    enum verdict verdicts[SCRUB_UNION_MAX];
    uint64_t damaged[SCRUB_UNION_MAX][BLOCKS_PER_OBJECT / 64];
    uint32_t count, moving, left;
    bool all;  /* everyone who is there answered, and has what this leader began with */
    bool mine; /* this replica did */
};

static void compare(const struct scrub *s, const struct pg *pg, struct comparison *cmp)
{
    cmp->all = collect(s, cmp->objects, &cmp->count);
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++) {
        const struct scrub_asked *a = &s->asked[i];
        bool good = a->answered && a->view.applied_index >= pg->raft.term_start_index;
        cmp->all &= !a->there || good;
        cmp->mine |= good && a->replica == pg->replica;
    }
    for (uint32_t i = 0; i < cmp->count; i++) {
        cmp->verdicts[i] = judge(s, &cmp->objects[i], cmp->damaged[i]);
        cmp->moving += cmp->verdicts[i] == OBJECT_MOVES;
        for (uint32_t w = 0; w < BLOCKS_PER_OBJECT / 64; w++)
            cmp->left += (uint32_t)__builtin_popcountll(cmp->damaged[i][w]);
    }
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

/* The blocks that are listed, in the range: exactly those that were found. */
static void list_damage(struct scrub *s, struct pg *pg, const struct comparison *cmp)
{
    static const uint64_t none[BLOCKS_PER_OBJECT / 64];

    if (!cmp->mine)
        return;
    for (uint32_t i = 0; i < cmp->count; i++)
        damage_set(pg, cmp->objects[i].image, cmp->objects[i].object, cmp->damaged[i]);
    list_for_each (&pg->damages, node) {
        struct pg_damage *d = list_entry(node, struct pg_damage, link);
        bool found = false;
        for (uint32_t i = 0; i < cmp->count; i++)
            found |= cmp->objects[i].image == d->image && cmp->objects[i].object == d->object;
        if (!found && (s->recheck || pg->scrub.deep) && scrub_range_has(&s->range, d->image, d->object))
            damage_set(pg, d->image, d->object, none);
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
static void range_end(struct scrub *s, struct pg *pg, const struct comparison *cmp)
{
    struct pg_scrub *t = &pg->scrub;
    uint32_t answered = 0;

    list_damage(s, pg, cmp);
    if (s->recheck) {
        scrub_idle(s);
        return;
    }
    for (uint32_t i = 0; i < ARRAY_LEN(s->asked); i++)
        answered += s->asked[i].answered;
    t->replicas = MIN(t->replicas, answered);
    t->objects += cmp->count;
    t->left += cmp->left;
    t->found = t->repaired + t->left;
    t->skipped += cmp->moving;
    s->shard->perf.scrub_objects += cmp->count;
    t->has_cursor = true;
    t->image = s->range.end_image;
    t->object = s->range.end_object;
    if (!s->range.has_end) {
        scrub_end(s, pg);
        return;
    }
    rest(s, SCRUB_REST, SCRUB_PACE_NS);
}

static void range_again(struct scrub *s, const struct comparison *cmp)
{
    s->before_count = 0;
    for (uint32_t i = 0; i < cmp->count; i++)
        if (cmp->verdicts[i] != OBJECT_SAME)
            s->before[s->before_count++] = cmp->objects[i];
    s->tries++;
    s->reread = cmp->left || !cmp->mine;
    rest(s, SCRUB_ASK, SCRUB_TRY_NS);
}

static void scrub_compare(struct scrub *s, struct pg *pg)
{
    struct comparison *cmp;

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
    cmp = calloc(1, sizeof(*cmp));
    if (!cmp) {
        rest(s, SCRUB_ASK, SCRUB_TRY_NS);
        return;
    }
    compare(s, pg, cmp);
    /* Damage that is left is looked at again: who was to help may have been repaired itself meanwhile, and
     * what is still the log's must be destaged first. */
    bool again = (!cmp->all && s->tries < SCRUB_SILENT_MAX) || (cmp->left && s->tries < SCRUB_LEFT_MAX) ||
                 (cmp->moving && s->tries < SCRUB_TRIES_MAX);
    if (again) {
        range_again(s, cmp);
        free(cmp);
        return;
    }
    for (uint32_t i = 0; i < cmp->count && !s->recheck; i++) {
        if (cmp->verdicts[i] != OBJECT_DIFFERS || s->equalized)
            continue;
        uint32_t source = pg->scrub_repair ? majority_of(s, pg, &cmp->objects[i]) : 0;
        difference_note(s, pg, &cmp->objects[i]);
        if (source) {
            s->equalized++;
            equalize_begin(s, &cmp->objects[i], source);
            free(cmp);
            return;
        }
    }
    range_end(s, pg, cmp);
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
