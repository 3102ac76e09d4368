/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a replica and raft's host loop.
 *
 *      LIVE ---- pg_stop() ----> STOPPING ---- nobody looks at it any more ----> freed
 *
 * In LIVE every step does the same, in this order: what the store has made durable goes to raft; time passes;
 * a new leader's NOOP; term and vote go to the disk; what is committed is applied; a change of role is
 * carried out; requests that wait are told; messages leave. So whatever was proposed or received since the
 * last step, by however many requests and frames, is answered for at once.
 */
#include "osd/scrub.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { PG_LIVE, PG_STOPPING };
/* All of raft's state is looked over: after each step where bugs are looked for, now and then in the product.
 */
#define PG_CHECK_EVERY 32u
#ifdef FASTBLOCK_PLANT
#define PG_CHECK_ALWAYS true
#else
#define PG_CHECK_ALWAYS false
#endif
#define CACHE_LINE        64u
#define PREFETCH_MEMBERS  3u
#define PG_NOOPS_MAX      PLANT_SCARCE(1024u, 3u) /* in one turn */
#define PG_NOOP_RETRY_NS  (10 * NS_PER_MS)
#define PG_GROUP_RETRY_NS (100 * NS_PER_MS)

static const char *pg_state_name(int state)
{
    return state == PG_LIVE ? "live" : "stopping";
}
static void pg_step(struct op *op);
static const struct op_kind pg_kind = {"osd.pg", pg_state_name, pg_step};

/* ---- birth ---- */

/* The group that the entry sets, if it is newer than what the store has on record. */
static bool log_sets_group(const struct store_pg *sp, uint64_t index, struct group *ret)
{
    struct entry entry;
    struct slice payload;

    return index > sp->record.group.index && !store_log_get(sp, index, &entry, &payload) &&
           entry.type == ENTRY_GROUP && !group_from_entry(&entry, ret);
}

/* Raft as the store knows it: the hard state, which term each index has, and the groups. That on record may
 * be set by an entry above the base: it is committed, and what was before it does not matter any more. Not
 * all of the log is durable if the replica has just been stopped, for an order that is not carried out. */
static void pg_raft_init(struct pg *pg, bool born_now)
{
    struct store_pg *sp = pg->sp;
    struct group group = sp->record.group;
    struct raft_hard_state hs = {sp->record.term, sp->record.vote};
    uint64_t base = sp->first_index - 1;
    uint64_t base_term = base == sp->record.base_index ? sp->record.base_term : store_log_term(sp, base);

    group.index = MIN(group.index, base);
    raft_init(&pg->raft, &RAFT_CONFIG_DEFAULT, pg->replica, &group, hs, base, base_term, born_now,
              core_random_u64(pg->shard->core), core_now_ns(pg->shard->core));
    for (uint64_t i = sp->first_index; i <= sp->last_index;) {
        uint64_t term = store_log_term(sp, i), last = i;
        bool sets = log_sets_group(sp, last, &group);
        while (!sets && last < sp->last_index && store_log_term(sp, last + 1) == term)
            sets = log_sets_group(sp, ++last, &group);
        raft_restore(&pg->raft, last, term, sets ? &group : NULL);
        i = last + 1;
    }
    raft_log_durable(&pg->raft, sp->durable_index);
    pg_members_sync(pg);
}

int pg_open(struct osd_shard *shard, struct store_pg *sp, bool born_now)
{
    struct pg *pg = aligned_alloc(CACHE_LINE, ALIGN_UP(sizeof(*pg), CACHE_LINE));

    if (!pg)
        return -ERR_NO_MEMORY;
    memset(pg, 0, sizeof(*pg));
    pg->shard = shard;
    pg->id = sp->record.pg;
    pg->replica = sp->record.replica;
    pg->sp = sp;
    list_init(&pg->waiting);
    list_init(&pg->reading);
    list_init(&pg->fetching);
    list_init(&pg->merging);
    list_init(&pg->blocked);
    list_init(&pg->images);
    list_init(&pg->repairs);
    list_init(&pg->looks);
    list_init(&pg->damages);
    list_init(&pg->led);
    shard->awake_count++;
    shard->mon.stirred = true;
    pg->settled_index = sp->last_index;
    pg->split_due = true;
    pg_raft_init(pg, born_now);
    map_put(&shard->pgs, &pg->node, pg->id);
    op_start(&pg->op, shard->core, &pg_kind, NULL);
    sp->waiter = &pg->op;
    sp->host = pg;
    pg_set_abstain(pg);
    if (sp->damaged)
        core_log(shard->core, LOG_ERROR, "osd",
                 PG_FMT ": the log of replica %u cannot be proven whole: it abstains until it is copied anew",
                 PG_ARGS(pg->id), pg->replica);
    return 0;
}

struct pg *pg_find(const struct osd_shard *shard, uint64_t id)
{
    struct map_node *node = map_get(&shard->pgs, id);
    struct pg *pg = node ? map_entry(node, struct pg, node) : NULL;
    return pg && !pg->stopping ? pg : NULL;
}

static void lines_prefetch(const void *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += CACHE_LINE)
        PREFETCH(from, at);
}

void pg_prefetch(const struct osd_shard *shard, uint64_t id)
{
    const struct map_node *node = map_hint(&shard->pgs, id);
    const struct pg *pg = node ? map_entry(node, struct pg, node) : NULL;

    if (!pg)
        return;
    lines_prefetch(pg, offsetof(struct pg, members[PREFETCH_MEMBERS]));
    lines_prefetch(&pg->raft, offsetof(struct raft, members));
    PREFETCH(&pg->raft.group, 0);
    for (uint32_t i = 0; i < PREFETCH_MEMBERS; i++)
        lines_prefetch(&pg->raft.members[i], offsetof(struct raft_member, inflight));
}

/* ---- what others ask ---- */

bool pg_log_damaged(const struct pg *pg)
{
    return pg->sp->damaged || pg->sp->record.state == STORE_PG_DAMAGED;
}

void pg_set_abstain(struct pg *pg)
{
    enum store_pg_state state = pg->sp->record.state;
    /* What this replica acknowledged may be missing in its log; or it cannot make anything durable any more.
     */
    bool abstain = pg_log_damaged(pg) || pg->shard->failed;
    /* The log is whole, the state is not. */
    bool recovering = state != STORE_PG_NORMAL || (pg->recover && recover_holds_log(pg));

    /* Before the leader is asked for its state: what may be dropped is not acknowledged. */
    raft_set_held(&pg->raft, recover_holds_log(pg));
    /* A leader hands over first, if somebody is there: that needs no disk, the others have what was
     * acknowledged. Once only; raft gives up by itself. */
    if (abstain && pg->raft.role == RAFT_LEADER) {
        if (pg->left_term != pg->raft.term) {
            pg->left_term = pg->raft.term;
            (void)!raft_transfer(&pg->raft, 0, core_now_ns(pg->shard->core)); /* or one is under way */
        }
        if (pg->raft.transfer_to)
            return;
    }
    if (abstain != pg->raft.abstain) {
        pg->shard->perf.damaged_logs += pg_log_damaged(pg);
        raft_set_abstain(&pg->raft, abstain);
    }
    if (recovering != pg->raft.recovering)
        raft_set_recovering(&pg->raft, recovering);
}

void pg_touched(struct pg *pg)
{
    pg_unpark(pg);
    pg_set_abstain(pg);
    pg_wake(pg);
}

/* What was copied here may be of entries that our log has not got yet. Whoever is elected has them; but not
 * who goes on alone (pg_force.c). What is written under their indexes would not count for what is of them
 * already. */
static bool lags_behind_state(const struct pg *pg)
{
    return pg->raft.role == RAFT_LEADER && pg->sp->newest_index > pg->raft.last_index &&
           !PLANT(OSD_FORCE_OLD_INDEX);
}

bool pg_serves(const struct pg *pg)
{
    const struct raft *r = &pg->raft;

    return raft_can_read(r) && pg->led_term == r->term && pg->sp->applied_index >= r->term_start_index &&
           !lags_behind_state(pg) && !pg->shard->failed;
}

void pg_mark_append(struct pg *pg, uint64_t index, uint64_t now_ns)
{
    if (perf_mark_wanted(&pg->durable, pg->raft.term))
        pg->durable = (struct perf_mark){index, pg->raft.term, now_ns};
}

int pg_propose(struct pg *pg, struct entry *entry, const struct slice *payload)
{
    struct raft *r = &pg->raft;
    uint64_t index;
    int error;

    if (r->role != RAFT_LEADER)
        return -ERR_NOT_LEADER;
    /* The store first: it may refuse, raft then cannot. */
    if (r->transfer_to || r->transfer_sent || (raft_noop_due(r) && entry->type != ENTRY_NOOP))
        return -ERR_RETRY;
    ASSERT(pg->sp->last_index == r->last_index);
    entry->index = r->last_index + 1;
    entry->term = r->term;
    error = store_append(pg->sp, entry, payload);
    if (error)
        return error;
    error = raft_propose(r, &index);
    ASSERT(!error && index == entry->index);
    pg_wake(pg);
    return 0;
}

void pg_apply(struct pg *pg)
{
    /* Raft's mark falls with what it replaces; the store's may still be of what was there before. */
    uint64_t index = MIN(pg->raft.commit_index, MIN(pg->raft.durable_index, pg->sp->durable_index));

    if (index <= pg->sp->applied_index || recover_holds_log(pg) || pg->shard->failed || pg->splitting)
        return;
    uint64_t group_index = pg->sp->record.group.index;
    store_apply(pg->sp, index);
    if (pg->sp->record.group.index != group_index && pg->led_term)
        shard_mon_report(pg->shard);
    pg_images_applied(pg);
    if (pg->sp->applied_index < index && !store_applying(pg->sp))
        pg_split_begin(pg, core_now_ns(pg->shard->core));
}

/* Does it matter now? What a parked leader has sent was answered; it finds out like by any other silence. */
static bool peer_matters(const struct pg *pg, uint32_t replica, bool new_incarnation)
{
    const struct raft_member *m = raft_member(&pg->raft, replica);

    if (new_incarnation)
        return true;
    return pg->raft.role == RAFT_LEADER ? !pg->parked && m && !m->unreachable : pg->raft.leader == replica;
}

static void pg_lost(struct pg *pg, uint32_t replica, bool new_incarnation, uint64_t now_ns)
{
    if (!peer_matters(pg, replica, new_incarnation))
        return;
    pg_unpark(pg);
    raft_peer_lost(&pg->raft, replica, new_incarnation, now_ns);
    pg_touched(pg);
}

void pg_peer_lost(struct osd_shard *shard, struct peer *peer, bool new_incarnation)
{
    uint64_t now_ns = core_now_ns(shard->core);

    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        for (uint32_t i = 0; i < pg->member_count; i++)
            if (pg->members[i].peer == peer) {
                pg->members[i].complete = 0;
                pg_lost(pg, pg->members[i].replica, new_incarnation, now_ns);
            }
        for (uint32_t i = 0; i < PG_STRANGERS_MAX; i++)
            if (pg->strangers[i].peer == peer)
                pg_lost(pg, pg->strangers[i].replica, new_incarnation, now_ns);
    }
}

void pg_peer_moved(struct osd_shard *shard, struct peer *peer)
{
    uint64_t now_ns = core_now_ns(shard->core);

    list_for_each (&shard->led, node) {
        struct pg *pg = list_entry(node, struct pg, led);
        for (uint32_t i = 0; i < pg->member_count && pg->raft.role == RAFT_LEADER; i++)
            if (pg->members[i].peer == peer) {
                raft_peer_moved(&pg->raft, pg->members[i].replica, now_ns);
                pg_touched(pg);
            }
    }
}

void pg_peer_unreachable(struct osd_shard *shard, struct peer *peer)
{
    list_for_each (&shard->led, node) {
        struct pg *pg = list_entry(node, struct pg, led);
        for (uint32_t i = 0; i < pg->member_count; i++)
            if (pg->members[i].peer == peer)
                raft_peer_unreachable(&pg->raft, pg->members[i].replica);
    }
}

void pg_peer_found(struct osd_shard *shard, struct peer *peer)
{
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        for (uint32_t i = 0; i < pg->member_count; i++)
            if (pg->members[i].peer == peer && raft_peer_found(&pg->raft, pg->members[i].replica))
                pg_touched(pg);
    }
}

/* ---- the host loop, step by step ---- */

void pg_log_progress(struct pg *pg, uint64_t now_ns)
{
    struct raft *r = &pg->raft;
    struct store_pg *sp = pg->sp;

    /* A recovery sets it anew when it has copied everything. */
    if (!recover_takes_log(pg) || pg->shard->failed)
        return;
    raft_log_durable(r, MIN(sp->durable_index, r->last_index));
    uint64_t took_ns =
        perf_mark_reach(&pg->durable, sp->durable_index, r->term, MAX(sp->durable_ns, pg->durable.began_ns),
                        &pg->shard->perf.log_durable);
    if (took_ns)
        pace_add(&pg->shard->pace, took_ns, now_ns);
}

static void pg_store_progress(struct pg *pg, uint64_t now_ns)
{
    struct raft *r = &pg->raft;
    const struct store_pg *sp = pg->sp;

    pg_log_progress(pg, now_ns);
    if (recover_holds_log(pg) || pg->shard->failed)
        return;
    if (sp->first_index > r->first_index && sp->first_index - 1 <= MIN(r->commit_index, r->durable_index))
        raft_compacted(r, sp->first_index);
}

void pg_keep_ring(struct pg *pg, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    uint64_t first = r->last_index + 1;

    for (uint32_t i = 0; r->role == RAFT_LEADER && i < r->member_count; i++) {
        const struct raft_member *m = &r->members[i];
        if (m->replica != r->self && m->progress != RAFT_BEHIND && raft_in_contact(r, m, now_ns))
            first = MIN(first, m->match + 1);
    }
    store_keep(pg->sp, first <= r->last_index ? first : 0);
}

void pg_await_log(struct pg *pg)
{
    pg->sp->durable_unawaited = !raft_awaits_log(&pg->raft);
}

static bool noop_due(const struct pg *pg)
{
    return raft_noop_due(&pg->raft) || lags_behind_state(pg);
}

static void pg_noop(struct pg *pg)
{
    struct entry noop = {.type = ENTRY_NOOP};

    /* Without room for it now, the timer tries again. */
    for (uint32_t i = 0; i < PG_NOOPS_MAX && noop_due(pg) && !pg_propose(pg, &noop, NULL); i++)
        ;
}

void pg_record_want(struct pg *pg, enum store_pg_state state, uint64_t base_index, uint64_t base_term)
{
    pg->record_wanted = true;
    pg->want_state = state;
    pg->want_base = base_index;
    pg->want_base_term = base_term;
    pg_wake(pg);
}

static void pg_record_written(struct pg *pg)
{
    struct osd_shard *shard = pg->shard;

    pg->record_writing = false;
    pg->op.child_result = 0;
    if (pg->record.op.result) {
        shard_fail(shard, pg->record.op.result, "cannot write the record of a placement group");
        return;
    }
    if (pg->record_is_want) {
        pg->record_wanted = false;
        recover_wake(pg);
        return;
    }
    histogram_record(&shard->perf.record_write, core_now_ns(shard->core) - pg->record_started_ns);
    raft_hard_state_durable(&pg->raft, pg->record_hs);
}

/* The replica's record: term and vote, or what a recovery wants. One write at a time, each on top of what is
 * durable. */
static void pg_record(struct pg *pg)
{
    struct osd_shard *shard = pg->shard;

    if (pg->record_writing && !op_live(&pg->record.op))
        pg_record_written(pg);
    if (pg->record_writing || shard->failed)
        return;
    bool damage = pg->record_wanted && pg->want_state == STORE_PG_DAMAGED;
    bool pending = !damage && raft_hard_state_pending(&pg->raft, &pg->record_hs);
    if (!pending && !pg->record_wanted)
        return;
    struct store_pg_record record = pg->sp->record;
    pg->record_is_want = !pending;
    if (pending) {
        record.term = pg->record_hs.term;
        record.vote = pg->record_hs.vote;
    } else {
        /* It is not whole if damage has been found since that was wanted. */
        bool damaged = pg->sp->damaged && pg->want_state == STORE_PG_NORMAL;
        record.state = damaged ? STORE_PG_DAMAGED : pg->want_state;
        record.base_index = pg->want_base;
        record.base_term = pg->want_base_term;
    }
    pg->record_writing = true;
    pg->record_started_ns = core_now_ns(shard->core);
    store_pg_write_start(&pg->record, shard->store, &record, &pg->op);
}

static void pg_heartbeats_drop(struct pg *pg)
{
    for (uint32_t i = 0; i < pg->member_count; i++)
        if (pg->members[i].peer)
            heartbeat_out_drop(&pg->members[i].peer->out, pg->id);
}

/* It has not begun: there is a leader only now, or there was no memory for it. */
static bool recovery_is_due(const struct pg *pg)
{
    return pg->raft.leader && pg->raft.leader != pg->replica && !recover_active(pg) && !pg->stopping &&
           !pg->shard->failed && (pg->sp->damaged || pg->sp->record.state != STORE_PG_NORMAL);
}

static void pg_role(struct pg *pg)
{
    struct raft *r = &pg->raft;
    uint64_t led_term = r->role == RAFT_LEADER ? r->term : 0;

    if (led_term != pg->led_term) {
        if (pg->led_term) {
            pg_heartbeats_drop(pg);
            pg_requests_fail(pg, -ERR_NOT_LEADER);
            pg->scrub_order = 0;
            damage_forget(pg);
        }
        pg->led_term = led_term;
        list_remove(&pg->led);
        if (led_term)
            list_push_back(&pg->shard->led, &pg->led);
        pg_catchup_drop(pg);
        pg_images_forget(pg);
        pg->split_proposed = 0;
        pg->split_due = true;
        if (led_term) {
            pg->shard->perf.elections_won++;
            pg->orders_due = pg->group_due = true;
            pg->orders_seen = 0;
            for (uint32_t i = 0; i < pg->member_count; i++) { /* until it says */
                pg->members[i].refuses = false;
                pg->members[i].complete = 0;
            }
            pg->tombstones_ns = pg->forgotten_index = 0;
            core_log(pg->shard->core, LOG_INFO, "osd", PG_FMT ": replica %u leads in term %" PRIu64,
                     PG_ARGS(pg->id), pg->replica, led_term);
        }
        shard_mon_report(pg->shard);
        if (pg->shard->leaving)
            shard_op_ended(pg->shard);
    }
    if (r->leader)
        pg->leaderless_ns = 0;
    else if (!pg->leaderless_ns)
        pg->leaderless_ns = core_now_ns(pg->shard->core);
    if (recovery_is_due(pg))
        recover_start(pg);
}

/* A deadline moves on with every message, the timer only with heartbeats. When it fires all the same, it does
 * so early, at a time at which the shard may send heartbeats: so a shard whose peers are silent is not woken
 * once for each group. A deadline that is near is kept. */
static uint64_t pg_timer_early(const struct pg *pg, uint64_t deadline_ns, uint64_t now_ns)
{
    uint64_t phase_ns = pg->shard->heartbeat.timer.deadline_ns % SHARD_HEARTBEAT_NS;

    if (deadline_ns == UINT64_MAX || deadline_ns <= now_ns + SHARD_HEARTBEAT_NS)
        return deadline_ns;
    return deadline_ns - (deadline_ns - phase_ns) % SHARD_HEARTBEAT_NS;
}

/* The others commit what is not durable here. */
bool pg_waits_for_device(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->commit_index > r->durable_index;
}

/* When the group must be looked at if nothing happens. */
static uint64_t pg_timer_due(struct pg *pg, uint64_t now_ns)
{
    uint64_t deadline_ns = pg->election == PG_ELECTION_WAITING ? UINT64_MAX : raft_deadline_ns(&pg->raft);

    /* What found no room is tried again. Orders wait without a timer while we do not serve. */
    if (noop_due(pg) || (pg->orders_due && pg_serves(pg)))
        deadline_ns = MIN(deadline_ns, now_ns + PG_NOOP_RETRY_NS);
    if (pg_group_waits(pg))
        deadline_ns = MIN(deadline_ns, now_ns + PG_GROUP_RETRY_NS);
    if (pg->led_term && pg->sp->tombstone_count)
        deadline_ns = MIN(deadline_ns, pg->tombstones_ns);
    deadline_ns = MIN(deadline_ns, pg_split_due_ns(pg));
    if (pg_waits_for_device(&pg->raft))
        deadline_ns = MIN(deadline_ns, pg->durable_ns + PG_STALL_NS);
    if (pg->led_term && store_reads_waiting_ns(pg->shard->store, now_ns))
        deadline_ns = MIN(deadline_ns, now_ns + PG_STALL_NS / 4);
    const struct pg_request *first = list_first(&pg->waiting, struct pg_request, link);
    return first ? MIN(deadline_ns, first->proposed_ns + PG_COMMIT_NS) : deadline_ns;
}

static void pg_timer_arm(struct pg *pg, uint64_t deadline_ns, uint64_t now_ns)
{
    timer_arm(pg->shard->core, &pg->timer, &pg->op, MAX(pg_timer_early(pg, deadline_ns, now_ns), now_ns + 1));
}

void pg_timer(struct pg *pg, uint64_t now_ns)
{
    uint64_t deadline_ns = pg_timer_due(pg, now_ns);

    if (!timer_armed(&pg->timer) || deadline_ns < pg->timer.deadline_ns)
        pg_timer_arm(pg, deadline_ns, now_ns);
}

void pg_heard(struct pg *pg, uint64_t now_ns, uint64_t next_ns)
{
    bool again = noop_due(pg) || (pg->orders_due && pg_serves(pg)) || pg_group_waits(pg) ||
                 recovery_is_due(pg) || pg_split_due_ns(pg) != UINT64_MAX ||
                 (pg->led_term && store_reads_waiting_ns(pg->shard->store, now_ns));

    /* What is looked at again after a while is not to be put off by each heartbeat. */
    if (timer_armed(&pg->timer) && pg->timer.deadline_ns <= next_ns && !again)
        pg_timer_arm(pg, pg_timer_due(pg, now_ns), now_ns);
}

/* Our own absence is not the silence of others. */
static void pg_tick(struct pg *pg, uint64_t now_ns)
{
    raft_away(&pg->raft, pg->shard->core->back_ns);
    if (now_ns >= raft_deadline_ns(&pg->raft) && pg_election_turn(pg))
        raft_tick(&pg->raft, now_ns);
}

static void pg_live(struct pg *pg)
{
    struct osd_shard *shard = pg->shard;
    uint64_t now_ns = core_now_ns(shard->core);

    pg_unpark(pg);
    pg->stirred = true;
    if (!shard->failed && store_failed(shard->store))
        shard_fail(shard, store_failed(shard->store), "the device failed");
    pg_set_abstain(pg);
    pg_store_progress(pg, now_ns);
    /* The timer is never later than the deadline. */
    if (!timer_armed(&pg->timer) && now_ns >= raft_deadline_ns(&pg->raft))
        pg_tick(pg, now_ns);
    if (!shard->failed) {
        pg_noop(pg);
        /* What shows the damage in the ring may be overwritten: it is remembered apart, before anything else.
         */
        if (pg->sp->damaged && pg->sp->record.state != STORE_PG_DAMAGED && !pg->record_wanted &&
            !recover_active(pg))
            pg_record_want(pg, STORE_PG_DAMAGED, pg->sp->record.base_index, pg->sp->record.base_term);
        pg_record(pg);
        pg_split_run(pg, now_ns);
        pg_apply(pg);
    }
    pg_check_device(pg, now_ns);
    pg_room_run(pg, now_ns);
    pg_role(pg);
    pg_keep_ring(pg, now_ns);
    if (pg->orders_due && pg_serves(pg))
        pg_orders_run(pg);
    pg_group_run(pg);
    pg_tombstones_run(pg, now_ns);
    pg_requests_progress(pg, now_ns);
    recover_wake(pg);
    if (!shard_mute(shard))
        pg_send_messages(pg, now_ns);
    pg_election_look(pg, now_ns);
    pg_timer(pg, now_ns);
    pg_await_log(pg);
    if (++pg->steps % PG_CHECK_EVERY == 0 || PG_CHECK_ALWAYS)
        raft_check(&pg->raft);
}

/* ---- the end ---- */

void pg_stop(struct pg *pg)
{
    if (pg->stopping)
        return;
    pg_unpark(pg);
    pg->stopping = true;
    pg_election_end(pg);
    pg_heartbeats_drop(pg);
    pg_requests_fail(pg, -ERR_NO_PG);
    recover_cancel(pg);
    repair_wake_all(pg);
    scrub_wake_looks(pg);
    pg_wake(pg);
}

static bool pg_idle(struct pg *pg)
{
    pg_catchup_drop(pg);
    return !pg->op.children && !pg->request_count && !pg->catchup && !pg->recover &&
           list_empty(&pg->repairs) && list_empty(&pg->looks);
}

static void pg_free(struct pg *pg)
{
    struct osd_shard *shard = pg->shard;

    ASSERT(pg->election == PG_ELECTION_IDLE);
    timer_cancel(shard->core, &pg->timer);
    pg->sp->waiter = NULL;
    pg->sp->host = NULL;
    pg_images_forget(pg);
    damage_forget(pg);
    raft_fini(&pg->raft);
    map_remove(&shard->pgs, pg->id);
    list_remove(&pg->led);
    shard->awake_count--;
    op_done(&pg->op, 0);
    free(pg);
    shard_op_ended(shard);
}

static void pg_step(struct op *op)
{
    struct pg *pg = container_of(op, struct pg, op);

    switch (op->state) {
    case PG_LIVE:
        if (!pg->stopping) {
            pg_live(pg);
            return;
        }
        op->state = PG_STOPPING;
        __attribute__((fallthrough));
    case PG_STOPPING:
        if (pg_idle(pg))
            pg_free(pg);
        return;
    }
}
