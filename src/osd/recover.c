/* SPDX-License-Identifier: Apache-2.0
 *
 * Recovery of a replica that its leader's log no longer reaches, or whose own log cannot be proven whole: the
 * leader's state is copied, object by object, and then the log goes on from there.
 *
 *      WAIT ---> MARK ---> LIST <--> COPY ---> TARGET ---> BASE ---> CATCH_UP ---> FINISH ---> done
 *       ^ a leader,  durably   pages of   all of    the leader's  the log  until the
 *       | a turn     RECOVERING objects   them      commit now    begins   target is
 *       |                      (SPLIT, as S is,                   at S     durable
 *       |                      if that is behind a split)
 *       '--- whenever the leader changes, does not answer, or its log after S has gone ---'
 *
 * S is what the leader had applied when it answered the first page of the list: every object is copied in a
 * state at least that new, so with the log after S, applied to each object only above the object's own index,
 * the replica has the leader's state. A next round begins anew with a later S, and copies only what is newer
 * than what is here by then.
 *
 * From before the first copy to the end the record on disk says RECOVERING: the log, as far as it goes, is
 * whole, so the replica votes, but it cannot lead. Or it says DAMAGED: entries that were acknowledged may be
 * missing in the log, and the replica abstains, and acknowledges nothing. The target is what the leader has
 * committed, or earlier leaders may have, at the moment when all was copied and it forgot what we said we
 * had (raft_member_forgotten()): whatever was counted with us is at or below it. Once the target is durable
 * here, nothing that matters of what we ever acknowledged is missing; nor is it once an entry of a later term
 * is (raft_is_whole()).
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/plant.h"
#include "osd/recover_copy.h"

enum {
    RECOVER_WAIT,
    RECOVER_MARK,
    RECOVER_LIST,
    RECOVER_SPLIT,
    RECOVER_COPY,
    RECOVER_TARGET,
    RECOVER_BASE,
    RECOVER_CATCH_UP,
    RECOVER_FINISH,
};
#define RECOVER_COPIES    4                    /* objects at once */
#define RECOVER_PAGE      PLANT_LIMIT(1024, 3) /* objects in one answer */
#define RECOVER_TURNS_MAX 2                    /* recoveries of one shard at once; and one that is awaited */
#define RECOVER_RETRY_NS  (100 * NS_PER_MS)
/* Without room here: at first; then twice as long each time, for a round goes through all objects. */
#define RECOVER_ROOM_NS     NS_PER_S
#define RECOVER_ROOM_MAX_NS PLANT_LIMIT(8 * NS_PER_S, 2 * NS_PER_S)
#define RECOVER_BASE_MAX    (UINT64_MAX / 2) /* whatever a leader says: indexes never wrap */
#define RECOVER_SETTLE_NS   (10 * NS_PER_MS)

struct recover {
    struct op op;
    struct pg *pg;
    struct timer timer;
    bool turn;                /* counted in shard->recoveries */
    bool again;               /* the leader sent INSTALL: its log does not reach us */
    bool awaited;             /* the leader may need our word to get on: until the next round */
    bool childless;           /* what this round splits off finds no room */
    bool no_room;             /* some objects, or a record, found none in this round */
    bool lacks_room;          /* in the last round that came to an end, or this one */
    uint64_t room_ns;         /* so long the last wait for room was; 0: none was */
    uint32_t source;          /* the leader of this round */
    uint64_t term;            /* its term */
    enum store_pg_state mark; /* what the record says meanwhile */
    uint64_t base, base_term, target;
    struct group group;     /* in force at the base */
    uint32_t split_count;   /* and how far the PG was split; the same at all answers of the round */
    uint64_t log_index;     /* where our log ends: until the base is set it stays as it is */
    bool log_committed;     /* all of it */
    bool records_listed;    /* the image records are all here; then come the objects */
    bool forgot;            /* something of ours was forgotten by a leader, and has to leave the device */
    uint64_t record;        /* cursor: image of the last record */
    bool listed;            /* a page of objects has been taken */
    uint64_t image, object; /* cursor */
    struct rpc_call call;
    uint8_t *reply; /* FRAME_BODY_MAX */
    uint8_t frame[FRAME_HEADER_SIZE + 128];
    Fb__RecoverListReply *page; /* in the arena */
    struct wire_arena arena;
    size_t next; /* of the page's objects */
    struct recover_copy copies[RECOVER_COPIES];
    uint64_t done, total; /* objects, of this round */
    uint64_t began_ns;    /* when the first of them was looked at */
};

static const char *recover_state_name(int state)
{
    static const char *const names[] = {"wait",   "mark", "list",     "split", "copy",
                                        "target", "base", "catch-up", "finish"};
    return names[state];
}
static void recover_step(struct op *op);
static const struct op_kind recover_kind = {"osd.recover", recover_state_name, recover_step};

bool recover_active(const struct pg *pg)
{
    return pg->recover;
}

bool recover_holds_log(const struct pg *pg)
{
    bool copies = !pg->recover || pg->recover->op.state < RECOVER_CATCH_UP; /* or is about to */

    /* Damage that is found behind that is of what has come since. */
    return pg->sp->damaged || (copies && pg->sp->record.state != STORE_PG_NORMAL);
}

bool recover_takes_log(const struct pg *pg)
{
    const struct recover *r = pg->recover;

    return !recover_holds_log(pg) || (r && r->awaited && r->op.state == RECOVER_WAIT && !pg->sp->damaged &&
                                      !PLANT(OSD_RECOVERY_KEEPS_WORD));
}

bool recover_found_no_room(const struct pg *pg)
{
    return pg->recover && pg->recover->lacks_room;
}

bool recover_lacks_room(const struct pg *pg)
{
    return recover_found_no_room(pg) && recover_holds_log(pg) && !pg->raft.abstain && !PLANT(OSD_LACK_UNSAID);
}

void recover_progress(const struct pg *pg, uint64_t *ret_done, uint64_t *ret_total, uint64_t *ret_left_ns)
{
    const struct recover *r = pg->recover;

    *ret_done = r ? r->done : 0;
    *ret_total = r ? MAX(r->total, r->done) : 0;
    *ret_left_ns =
        *ret_done ? (core_now_ns(pg->shard->core) - r->began_ns) / *ret_done * (*ret_total - *ret_done) : 0;
}

void recover_wake(struct pg *pg)
{
    if (pg->recover)
        op_wake(&pg->recover->op);
}

void recover_start(struct pg *pg)
{
    struct recover *r = pg->recover;

    if (pg->stopping || pg->shard->failed)
        return;
    if (r) {
        r->again = true;
        op_wake(&r->op);
        return;
    }
    r = calloc(1, sizeof(*r));
    if (!r)
        return; /* INSTALL comes again */
    r->reply = malloc(FRAME_BODY_MAX);
    if (!r->reply) {
        free(r);
        return;
    }
    r->pg = pg;
    /* One before may have ended with its replica, which was to be deleted, and is not any more. */
    r->forgot = !store_recover_settled(pg->sp);
    pg->recover = r;
    pg->shard->perf.recoveries++;
    wire_arena_init(&r->arena, NULL, 0, WIRE_ARENA_MAX);
    op_start(&r->op, pg->shard->core, &recover_kind, NULL);
}

void recover_cancel(struct pg *pg)
{
    if (pg->recover && !pg->recover->op.cancelled)
        op_cancel(&pg->recover->op);
}

/* ---- helpers ---- */

static void page_drop(struct recover *r)
{
    wire_arena_fini(&r->arena);
    wire_arena_init(&r->arena, NULL, 0, WIRE_ARENA_MAX);
    r->page = NULL;
}

/* A turn is for copying: who waits for a leader, or for the log, keeps nobody from it. */
static void turn_give(struct recover *r)
{
    r->pg->shard->recoveries -= r->turn;
    r->turn = false;
}

static void recover_end(struct recover *r)
{
    struct pg *pg = r->pg;

    timer_cancel(r->op.core, &r->timer);
    turn_give(r);
    wire_arena_fini(&r->arena);
    slice_unref(&r->call.reply_payload);
    free(r->reply);
    pg->recover = NULL;
    op_done(&r->op, 0);
    free(r);
    pg_wake(pg);
}

/* The round is over without success; what was copied stays. */
static void round_again(struct recover *r)
{
    page_drop(r);
    turn_give(r);
    r->again = false;
    if (r->no_room && !r->lacks_room)
        core_log(r->op.core, LOG_WARN, "osd",
                 PG_FMT
                 ": replica %u has no room for all that it lacks of replica %u: it tries until there is",
                 PG_ARGS(r->pg->id), r->pg->replica, r->source);
    if (r->no_room)
        r->room_ns = r->room_ns ? MIN(2 * r->room_ns, RECOVER_ROOM_MAX_NS) : RECOVER_ROOM_NS;
    r->lacks_room |= r->no_room;
    r->op.state = RECOVER_WAIT;
    timer_arm(r->op.core, &r->timer, &r->op,
              core_now_ns(r->op.core) + (r->no_room ? r->room_ns : RECOVER_RETRY_NS));
}

static bool list_send(struct recover *r, uint32_t limit)
{
    struct pg *pg = r->pg;
    struct peer *peer = pg_peer(pg, r->source);
    Fb__RecoverListRequest request = FB__RECOVER_LIST_REQUEST__INIT;
    uint32_t len;

    request.pg = pg->id;
    request.from = pg->replica;
    request.to = r->source;
    request.term = r->term;
    request.records = limit && !r->records_listed;
    request.after_record = r->record;
    request.has_cursor = r->listed;
    request.after_image = r->image;
    request.after_object = r->object;
    request.limit = limit;
    request.log_index = r->log_index;
    request.log_term = raft_term_at(&pg->raft, r->log_index);
    r->call.reply = r->reply;
    r->call.reply_cap = FRAME_BODY_MAX;
    return peer && peer->rpc && !wire_cold_encode(&request.base, rpc_body(r->frame), 128, &len) &&
           !rpc_call_start(&r->call, peer->rpc, &r->op, METHOD_RECOVER_LIST, rpc_body(r->frame), len, NULL, 0,
                           core_now_ns(r->op.core) + RECOVER_CALL_NS);
}

/* The answer to list_send(), in r->page. */
static bool list_take(struct recover *r)
{
    slice_unref(&r->call.reply_payload);
    page_drop(r);
    if (r->call.result)
        return false;
    if (wire_cold_decode(&fb__recover_list_reply__descriptor, r->reply, r->call.reply_len, &r->arena,
                         &r->page)) {
        r->page = NULL;
        return false;
    }
    return true;
}

/* Is the leader of this round still ours? */
static bool round_valid(const struct recover *r)
{
    const struct raft *raft = &r->pg->raft;

    return raft->role == RAFT_FOLLOWER && raft->leader == r->source && raft->term == r->term;
}

/* ---- states ---- */

static void recover_wait(struct recover *r)
{
    struct pg *pg = r->pg;
    struct osd_shard *shard = pg->shard;

    /* The log has reached us after all while we waited: we even lead. */
    if (pg->raft.role == RAFT_LEADER && !recover_holds_log(pg)) {
        recover_end(r);
        return;
    }
    if (timer_armed(&r->timer))
        return;
    timer_arm(r->op.core, &r->timer, &r->op, core_now_ns(r->op.core) + RECOVER_RETRY_NS);
    /* The log of one that is awaited grows, and nothing of it is applied: it must not fill the ring of all
     * PGs until others have copied all that they lack. */
    if (shard->recoveries >= RECOVER_TURNS_MAX + (r->awaited ? 1u : 0u) || pg->splitting)
        return;
    if (pg->raft.role != RAFT_FOLLOWER || !pg->raft.leader || pg->raft.leader == pg->replica)
        return;
    shard->recoveries++;
    r->turn = true;
    timer_cancel(r->op.core, &r->timer);
    r->source = pg->raft.leader;
    r->term = pg->raft.term;
    r->again = r->no_room = r->childless = r->awaited = false;
    r->op.state = RECOVER_MARK;
    /* Damage is only ever found to be more. */
    r->mark =
        pg->sp->damaged || pg->sp->record.state == STORE_PG_DAMAGED ? STORE_PG_DAMAGED : STORE_PG_RECOVERING;
    if (pg->sp->record.state != r->mark)
        pg_record_want(pg, r->mark, pg->sp->record.base_index, pg->sp->record.base_term);
    op_wake(&r->op);
}

static void recover_mark(struct recover *r)
{
    struct pg *pg = r->pg;

    if (pg->record_wanted || pg->sp->record.state != r->mark || pg->splitting)
        return; /* the PG wakes us when it is written */
    /* What the round before gave up is empty as of that one's S. This one's may be an earlier one, of a
     * leader that is not split yet: then it comes again, and must not seem to be here. */
    if (r->forgot && !PLANT(OSD_RECOVERY_UNSETTLED) && !store_recover_settled(pg->sp)) {
        timer_arm(r->op.core, &r->timer, &r->op, core_now_ns(r->op.core) + RECOVER_SETTLE_NS);
        return;
    }
    pg_set_abstain(pg); /* it holds its log before it asks */
    if (!r->lacks_room)
        core_log(pg->shard->core, LOG_INFO, "osd", PG_FMT ": replica %u recovers from replica %u",
                 PG_ARGS(pg->id), pg->replica, r->source);
    r->listed = r->records_listed = r->log_committed = false;
    r->record = 0;
    bool whole = r->mark == STORE_PG_RECOVERING && pg->sp->last_index == pg->raft.last_index;
    r->log_index = whole ? pg->raft.last_index : 0;
    r->done = r->total = 0;
    r->op.state = RECOVER_LIST;
    if (!list_send(r, RECOVER_PAGE))
        round_again(r);
}

/* We have something of an image, set at or below S, of which the leader has no record. Only an entry of the
 * log takes records away, so one did: the leader's state is what the log makes of it, and ours was made by
 * the same log. This is no guess from a list that may lack something, so it must fit what the leader says of
 * such entries. What is newer than S proves nothing, though later pages of the list show more than S: the
 * record may have come after the page on which it would stand. The log after S decides on that. */
static bool take_gone(struct recover *r, uint64_t image, uint64_t floor_epoch)
{
    struct pg *pg = r->pg;

    if (r->page->floor_epoch < MAX(floor_epoch, 1)) {
        core_log(pg->shard->core, LOG_ERROR, "osd",
                 PG_FMT ": replica %u, which leads, has no record of image %" PRIu64
                        " and cannot have forgotten it: nothing is deleted",
                 PG_ARGS(pg->id), r->source, image);
        return false;
    }
    core_log(pg->shard->core, LOG_INFO, "osd", PG_FMT ": image %" PRIu64 " was removed while we were away",
             PG_ARGS(pg->id), image);
    r->forgot = true;
    return !store_recover_forget(pg->sp, image, r->base);
}

/* The leader has no records of images between the two (exclusive). */
static bool records_gone(struct recover *r, uint64_t after, uint64_t before)
{
    const struct image_record *record;

    while ((record = store_image_next(r->pg->sp, after)) && record->image < before) {
        after = record->image;
        if (record->index <= r->base && !take_gone(r, record->image, record->deleted ? record->epoch : 0))
            return false;
    }
    return true;
}

/* All records are as the leader's: objects of an image without one are left from before it was removed. */
static bool objects_gone(struct recover *r)
{
    struct store_pg *sp = r->pg->sp;
    struct store_object_info info;
    bool more = store_object_next(sp, true, 0, 0, &info);

    while (more) {
        uint64_t object = UINT64_MAX;
        if (!store_image_get(sp, info.image) && info.index > r->base)
            object = info.object;
        else if (!store_image_get(sp, info.image) && !take_gone(r, info.image, 0))
            return false;
        more = store_object_next(sp, false, info.image, object, &info);
    }
    return true;
}

/* The PG has been split while we were away: what went to another one then, and is still here, is of no use.
 * Also if we had applied it: an earlier round, from a leader that had not, may have brought that back. */
static bool objects_shed(struct recover *r)
{
    if (!r->split_count || PLANT(OSD_RECOVERY_KEEPS_SPLIT))
        return true;
    r->forgot = true;
    return !store_recover_shed(r->pg->sp, r->split_count, r->base);
}

static bool take_records(struct recover *r, bool more)
{
    for (size_t i = 0; i < r->page->n_image; i++) {
        const Fb__ImageRecord *in = r->page->image[i];
        struct image_record record = {
            .image = in->image,
            .incarnation = in->incarnation,
            .generation = in->generation,
            .size_bytes = in->size_bytes,
            .index = in->index,
            .deleted = in->deleted,
        };
        if (record.image <= r->record || !records_gone(r, r->record, record.image))
            return false;
        int error = store_recover_image(r->pg->sp, &record);
        r->no_room |= error == -ERR_NO_RECORDS;
        if (error)
            return false;
        r->record = record.image;
    }
    if (more)
        return true;
    store_recover_floor(r->pg->sp, r->page->floor_epoch);
    return records_gone(r, r->record, UINT64_MAX) && objects_gone(r) && objects_shed(r);
}

/* S, and who is in the group there. */
static bool take_base(struct recover *r)
{
    const Fb__RecoverListReply *page = r->page;
    struct entry entry = {.type = ENTRY_GROUP,
                          .index = page->group_index,
                          .epoch = page->group_epoch,
                          .block_count = (uint32_t)MIN(page->n_group, UINT32_MAX),
                          .crc = page->group};

    r->base = page->applied_index;
    r->base_term = page->applied_term;
    r->split_count = page->split_count;
    r->log_committed = page->log_committed;
    /* It has been started anew, and has committed nothing since: what it had destaged is less than our log.
     * With nobody else there it comes to no newer state without us. So we take entries, as any voter whose
     * log is whole may, until it has one. */
    r->awaited =
        r->mark == STORE_PG_RECOVERING && r->base < r->pg->raft.durable_index && r->base_term < r->term;
    return r->base_term && r->base <= RECOVER_BASE_MAX && !group_from_entry(&entry, &r->group) &&
           r->group.index <= r->base && raft_may_reset_base(&r->pg->raft, r->base, r->base_term);
}

/* What the source has handed to another PG since S is in none of its later answers: with them this is not the
 * state at S. */
static bool source_split(const struct recover *r)
{
    return r->page->split_count != r->split_count && !PLANT(OSD_RECOVERY_OVER_SPLIT);
}

static void recover_records(struct recover *r)
{
    bool more = r->page->more && r->page->n_image;

    if (!take_records(r, more)) {
        round_again(r);
        return;
    }
    r->records_listed = !more;
    r->op.state = RECOVER_LIST;
    if (!list_send(r, RECOVER_PAGE))
        round_again(r);
}

/* What is another PG's in the state at S leaves before anything of that state comes: what is here is as our
 * own log made it, up to an entry that is its log's, too. So its replica here begins with it. When our log is
 * damaged we may have had that replica already, and nobody else may be it. */
static void recover_split(struct recover *r)
{
    struct pg *pg = r->pg;

    if (pg->splitting)
        return; /* the PG wakes us */
    if (!round_valid(r) || (r->childless && pg->split_retry_ns) || pg_split_unclear(pg, r->split_count)) {
        round_again(r);
        return;
    }
    r->childless |= pg->split_retry_ns != 0;
    if (r->mark != STORE_PG_RECOVERING || PLANT(OSD_RECOVERY_KEEPS_SPLIT) ||
        !pg_split_behind(pg, r->split_count, &r->group, !r->childless))
        recover_records(r);
}

static void recover_listed(struct recover *r)
{
    if (r->call.pending)
        return;
    if (!list_take(r) || !round_valid(r)) {
        round_again(r);
        return;
    }
    bool first = !r->records_listed && !r->record;
    if (first ? !take_base(r) : source_split(r)) {
        round_again(r);
        return;
    }
    if (first) {
        r->op.state = RECOVER_SPLIT;
        op_wake(&r->op);
        return;
    }
    if (!r->records_listed) {
        recover_records(r);
        return;
    }
    r->listed = true;
    r->next = 0;
    if (!r->total) {
        r->total = r->page->object_count;
        r->began_ns = core_now_ns(r->op.core);
    }
    r->op.state = RECOVER_COPY;
    op_wake(&r->op);
}

static bool object_here(struct pg *pg, const Fb__RecoverObject *object, struct store_object_info *ret)
{
    bool found;

    if (object->object)
        found = store_object_next(pg->sp, false, object->image, object->object - 1, ret);
    else if (object->image)
        found = store_object_next(pg->sp, false, object->image - 1, UINT64_MAX, ret);
    else
        found = store_object_next(pg->sp, true, 0, 0, ret);
    return found && ret->image == object->image && ret->object == object->object;
}

/* Is our copy of the object as new already? */
static bool object_current(struct pg *pg, const Fb__RecoverObject *object)
{
    struct store_object_info info;

    return object_here(pg, object, &info) && !info.damaged && info.index >= object->index;
}

/* A replica that is to become a member takes no space that those which are have to write with. */
static bool object_waits(struct recover *r, const Fb__RecoverObject *object)
{
    const struct group_member *self = group_find(&r->group, r->pg->replica);
    struct store_object_info info;

    if ((self && self->flags) || pg_room_to_join(r->pg) || object_here(r->pg, object, &info))
        return false;
    r->no_room = true;
    return true;
}

static void recover_copy_more(struct recover *r)
{
    struct pg *pg = r->pg;

    /* Those that are copied after it may be the ones that give space back. */
    if (r->op.child_result == -ERR_NO_SPACE) {
        r->no_room = true;
        r->op.child_result = 0;
    }
    if (r->op.child_result) {
        if (r->op.children)
            return;
        core_log(pg->shard->core, LOG_WARN, "osd", PG_FMT ": recovery from replica %u: %s", PG_ARGS(pg->id),
                 r->source, error_text(r->op.child_result));
        r->op.child_result = 0;
        round_again(r);
        return;
    }
    for (uint32_t i = 0; i < RECOVER_COPIES; i++) {
        if (op_live(&r->copies[i].op))
            continue;
        while (r->next < r->page->n_object &&
               (object_current(pg, r->page->object[r->next]) || object_waits(r, r->page->object[r->next]))) {
            r->next++;
            r->done++;
        }
        if (r->next == r->page->n_object)
            break;
        const Fb__RecoverObject *object = r->page->object[r->next++];
        r->done++;
        pg->shard->perf.recovered_objects++;
        r->copies[i].recovers = true;
        r->copies[i].log_committed =
            (r->log_committed || PLANT(OSD_LOG_UNPROVEN)) && pg->sp->last_index == r->log_index;
        recover_copy_start(&r->copies[i], pg, r->source, object->image, object->object, r->base, &r->op);
    }
    if (r->op.children)
        return;
    if (r->page->n_object) {
        const Fb__RecoverObject *last = r->page->object[r->page->n_object - 1];
        r->image = last->image;
        r->object = last->object;
    }
    bool more = r->page->more && r->page->n_object;
    if (!more && r->no_room) {
        round_again(r);
        return;
    }
    if (!more && r->forgot && !store_recover_settled(pg->sp)) {
        /* Until then the record says RECOVERING: a crash now and all this is done again. */
        timer_arm(r->op.core, &r->timer, &r->op, core_now_ns(r->op.core) + RECOVER_SETTLE_NS);
        return;
    }
    r->lacks_room &= more;
    r->op.state = more ? RECOVER_LIST : RECOVER_TARGET;
    if (!round_valid(r) || !list_send(r, more ? RECOVER_PAGE : 0))
        round_again(r);
}

/* Everything is here: the log may begin. */
static void recover_target(struct recover *r)
{
    struct pg *pg = r->pg;

    if (r->call.pending)
        return;
    bool taken = list_take(r);
    if (taken && PLANT(OSD_RECOVERY_LATE_BASE) && r->page->applied_term) {
        r->base = r->page->applied_index;
        r->base_term = r->page->applied_term;
    }
    /* What is found damaged meanwhile may be more than a log that was whole could drop. */
    bool worse = r->mark == STORE_PG_RECOVERING && pg->sp->damaged;
    if (!taken || worse || source_split(r) || !round_valid(r) ||
        !raft_may_reset_base(&pg->raft, r->base, r->base_term) || pg->record_writing) {
        round_again(r);
        return;
    }
    r->target = MAX(r->page->commit_index, r->base);
    page_drop(r);
    store_reset_base(pg->sp, r->base, r->base_term, &r->group, r->split_count);
    raft_reset_base(&pg->raft, r->base, r->base_term, &r->group);
    pg_members_sync(pg);
    r->again = false;
    /* With a whole log there was nothing above the base that we had acknowledged: the replica is what it was,
     * only newer. */
    pg_record_want(pg, r->mark == STORE_PG_RECOVERING ? STORE_PG_NORMAL : r->mark, r->base, r->base_term);
    r->op.state = RECOVER_BASE;
}

static void recover_catch_up(struct recover *r)
{
    struct pg *pg = r->pg;

    if (r->again || pg->sp->damaged) {
        round_again(r);
        return;
    }
    if (!raft_is_whole(&pg->raft, r->target, r->term) || pg->record_wanted)
        return;
    pg_record_want(pg, STORE_PG_NORMAL, pg->sp->record.base_index, pg->sp->record.base_term);
    r->op.state = RECOVER_FINISH;
}

static void recover_step(struct op *op)
{
    struct recover *r = container_of(op, struct recover, op);
    struct pg *pg = r->pg;

    if (op->cancelled || pg->shard->failed) {
        for (uint32_t i = 0; i < RECOVER_COPIES; i++)
            if (op_live(&r->copies[i].op) && !r->copies[i].op.cancelled)
                op_cancel(&r->copies[i].op);
        rpc_call_abandon(&r->call);
        if (!op->children)
            recover_end(r);
        return;
    }
    switch (op->state) {
    case RECOVER_WAIT:
        recover_wait(r);
        return;
    case RECOVER_MARK:
        recover_mark(r);
        return;
    case RECOVER_LIST:
        recover_listed(r);
        return;
    case RECOVER_SPLIT:
        recover_split(r);
        return;
    case RECOVER_COPY:
        recover_copy_more(r);
        return;
    case RECOVER_TARGET:
        recover_target(r);
        return;
    case RECOVER_BASE:
        if (pg->record_wanted)
            return;
        /* Only now may entries be acknowledged again. */
        turn_give(r);
        op->state = r->mark == STORE_PG_RECOVERING ? RECOVER_FINISH : RECOVER_CATCH_UP;
        op_wake(op);
        pg_wake(pg);
        return;
    case RECOVER_CATCH_UP:
        recover_catch_up(r);
        return;
    case RECOVER_FINISH:
        if (pg->record_wanted)
            return;
        core_log(pg->shard->core, LOG_INFO, "osd",
                 PG_FMT ": replica %u has recovered to %" PRIu64 ", %" PRIu64 " objects looked at",
                 PG_ARGS(pg->id), pg->replica, r->target, r->done);
        recover_end(r);
        return;
    }
}
