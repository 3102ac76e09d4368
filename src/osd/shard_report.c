/* SPDX-License-Identifier: Apache-2.0
 *
 * What a shard reports to the monitor.
 *
 * Everything in a report is the whole truth of that moment, so reports may be lost or repeated. While all
 * groups are parked (pg_park.c), as they were when the last whole report was made, reports only say so: they
 * do not grow with the number of groups.
 *
 * A report fits in a frame. What the groups are that are led here is in each; of confirmations and of what is
 * without a leader one has as large a part as there is room for, and the next ones have the rest by turns.
 */
#include "osd/scrub.h"

#include <stdlib.h>

#include "base/plant.h"

/* Of the few PGs that are being scrubbed, or have damage to tell of. */
#define REPORT_DAMAGE_MAX 8 /* of one PG; the next report has more */
#define REPORT_DAMAGES    PLANT_SCARCE(REPORT_DAMAGE_MAX, 1u)
#define REPORT_SCRUB_MAX  PLANT_SCARCE(FRAME_BODY_MAX / 4, 300u) /* bytes; more when this is known */
/* For each confirmation that has room, so many pairs of an order and a PG are looked at: some thousands take
 * a millisecond, and while one PG has no leader there may be millions. */
#define REPORT_LOOKS 4
/* At most in so many parts are confirmations, and what is without a leader. */
#define REPORT_PARTS_MAX 64u
struct report_scrub {
    struct report_scrub *next;
    struct scrub_result_rows result;
    Fb__PgDamage damage[REPORT_DAMAGE_MAX], *damages[REPORT_DAMAGE_MAX];
};

struct report_group {
    struct report_group *next;
    Fb__PgMember members[GROUP_MEMBERS_MAX], *pointers[GROUP_MEMBERS_MAX];
};

/* Confirmations of one kind. Another report has room for the rest: each begins where the last one stopped,
 * because what is confirmed may long remain in the map, until the other members and PGs have confirmed it,
 * too. Replicas do not wait for orders, of which there may be very many: a PG waits for their births. */
struct report_turn {
    uint64_t from;  /* those in front of it were in the last report */
    uint64_t count; /* of what there is to say; of orders, each for each PG */
    uint64_t next;  /* that has no room any more; 0: all has */
    uint32_t end;   /* a report has room up to this number of confirmations */
};

struct report {
    Fb__ShardReport message;
    struct report_scrub *scrubs;
    struct report_group *groups;
    bool short_of_memory; /* the next one says what is missing */
    size_t scrub_bytes;
    Fb__PgReport *pgs, **pg_pointers;
    Fb__PgConfirm *confirms, **confirm_pointers;
    uint32_t confirms_max;
    struct report_turn replicas, orders;
    uint32_t suspects[64];
    struct pg_standing *standings;
    Fb__PgStanding **standing_pointers;
    uint32_t standings_next; /* 0: all are in this one, or were in the last */
};

/* Of a member that recovers. */
static void report_pg_recovering(struct pg *pg, uint32_t replica, Fb__PgReport *to)
{
    const struct pg_member *m = pg_member_find(pg, replica);

    to->recovering++;
    if (m && m->damaged) {
        to->state = FB__PG_STATE__PG_DAMAGED;
        to->damaged_osd = m->osd;
    }
}

static void report_pg(struct pg *pg, Fb__PgReport *to)
{
    const struct raft *r = &pg->raft;
    uint64_t now_ns = core_now_ns(pg->shard->core);

    *to = (Fb__PgReport)FB__PG_REPORT__INIT;
    to->pg = pg->id;
    to->term = r->term;
    to->leader_osd = pg->shard->label.osd;
    to->objects = pg->sp->object_count;
    to->replica = pg->replica;
    to->commit_index = r->commit_index;
    to->in_contact = 1;
    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *member = &r->members[i];
        if (member->replica == r->self)
            continue;
        /* One that is away copies nothing, whatever it said last. */
        bool there = pg_in_contact(pg, member, now_ns);
        to->in_contact += member->flags && there;
        if (there && (member->recovering || member->progress == RAFT_BEHIND))
            report_pg_recovering(pg, member->replica, to);
    }
}

/* The group, until the map has it. What is applied is committed. A leader that is no member any more leaves
 * it to the next one to tell: by that word its replica is ordered away, perhaps before it has handed over. */
static void report_pg_group(struct report *report, const struct pg *pg, Fb__PgReport *to)
{
    const struct group *group = &pg->sp->record.group;
    const Fb__Pg *item = shard_map_pg(pg->shard, pg->id);
    bool news =
        !item || (group->index > item->group_index && !group_joint(group) && group_find(group, pg->replica));
    struct report_group *rows = news ? calloc(1, sizeof(*rows)) : NULL;

    report->short_of_memory |= news && !rows;
    if (!rows)
        return;
    rows->next = report->groups;
    report->groups = rows;
    to->unlisted = !item;
    to->group_index = group->index;
    to->group_epoch = group->epoch;
    to->group = rows->pointers;
    to->n_group = group->count;
    for (uint32_t i = 0; i < group->count; i++) {
        rows->members[i] = (Fb__PgMember)FB__PG_MEMBER__INIT;
        rows->members[i].replica = group->members[i].replica;
        rows->members[i].osd = group->members[i].osd;
        rows->members[i].shard = group->members[i].shard;
        rows->members[i].learner = !group->members[i].flags;
        rows->pointers[i] = &rows->members[i];
    }
}

static void report_pg_scrub(struct report *report, struct pg *pg, Fb__PgReport *to)
{
    bool scrubs = pg->scrub_order && pg->scrub.order == pg->scrub_order;
    bool news = scrubs || pg->damage_count;
    struct report_scrub *rows = news ? calloc(1, sizeof(*rows)) : NULL;

    report->short_of_memory |= news && !rows;
    if (!rows)
        return;
    rows->next = report->scrubs;
    report->scrubs = rows;
    if (scrubs) {
        scrub_result_fill(&pg->scrub, &rows->result);
        to->scrub = &rows->result.result;
        to->scrub_done = pg->scrub.done;
    }
    to->damage = rows->damages;
    to->n_damage = damage_report(pg, rows->damage, rows->damages, REPORT_DAMAGES);
    report->scrub_bytes += wire_cold_size(&to->base);
    if (report->scrub_bytes > REPORT_SCRUB_MAX) {
        to->scrub = NULL;
        to->n_damage = 0;
    }
}

/* NULL: another report has room for it. */
static Fb__PgConfirm *confirm_add(struct report *report, struct report_turn *turn, uint64_t pg, uint32_t osd)
{
    uint64_t at = turn->count++;
    bool full = report->message.n_confirm >= turn->end;

    if (full && !turn->next)
        turn->next = at;
    if (full || at < turn->from || turn->next)
        return NULL;
    Fb__PgConfirm *confirm = &report->confirms[report->message.n_confirm];

    *confirm = (Fb__PgConfirm)FB__PG_CONFIRM__INIT;
    confirm->pg = pg;
    confirm->osd = osd;
    report->confirm_pointers[report->message.n_confirm++] = confirm;
    return confirm;
}

static Fb__PgConfirm *confirm_replica(struct osd_shard *shard, struct report *report, const Fb__Pg *item,
                                      uint32_t replica)
{
    Fb__PgConfirm *confirm = confirm_add(report, &report->replicas, item->id, shard->label.osd);

    if (confirm)
        confirm->replica = replica;
    return confirm;
}

/* Of a PG of which nothing is here: what must be. */
static void report_lost(struct osd_shard *shard, struct report *report, const Fb__Pg *item)
{
    const Fb__PgMember *rows[] = {shard_map_member(shard, item), shard_map_wanted(shard, item),
                                  shard_map_leaving(shard, item)};
    Fb__PgConfirm *confirm;

    if (!item->born || shard_map_pg_removed(shard, item) || pg_split_pending(shard, item))
        return;
    for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool again = i == 1 && rows[0] && rows[1] && rows[0]->replica == rows[1]->replica;
        bool survivor = rows[i] && item->force && rows[i]->replica == item->force->replica;
        if (rows[i] && !again && (!rows[i]->birth || rows[i]->born || survivor) &&
            (confirm = confirm_replica(shard, report, item, rows[i]->replica)))
            confirm->lost = true;
    }
}

static void report_replica(struct osd_shard *shard, struct report *report, const Fb__Pg *item)
{
    const Fb__PgMember *self = shard_map_member(shard, item), *wanted = shard_map_wanted(shard, item);
    const struct store_pg *sp = store_pg_find(shard->store, item->id);
    uint32_t replica = sp ? sp->record.replica : 0;
    /* Its record is durable: it is opened only then. */
    bool there = pg_find(shard, item->id);
    Fb__PgConfirm *confirm;

    if (there && self && replica == self->replica && !item->born &&
        (confirm = confirm_replica(shard, report, item, replica)))
        confirm->born = true;
    /* It has taken its number over from the replica that it was. */
    if (there && self && replica == self->replica && item->born && self->birth && !self->born &&
        (confirm = confirm_replica(shard, report, item, replica)))
        confirm->born = true;
    if (there && wanted && replica == wanted->replica && wanted->birth && !wanted->born &&
        (confirm = confirm_replica(shard, report, item, replica)))
        confirm->born = true;
    if (!sp)
        report_lost(shard, report, item);
    bool birth = !sp && pg_split_under_way(shard, item);
    /* An older map, to which a restart might go back, may order to create it. By this one it is not born of
     * its parent's log either, which may be yet to come to that (pg_split_begin()); to wait for that would be
     * to wait for ever where the parent keeps what is the child's until all others have ended. */
    for (size_t i = 0; i < item->n_dropped && item->epoch <= shard->map.saved_epoch && !birth; i++) {
        const Fb__PgMember *dropped = item->dropped[i];
        if (dropped->osd == shard->label.osd && dropped->shard == shard->number &&
            dropped->replica != replica && (confirm = confirm_replica(shard, report, item, dropped->replica)))
            confirm->dropped = true;
    }
}

static void report_replicas(struct osd_shard *shard, struct report *report)
{
    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        Fb__PgConfirm *confirm;

        if (item->removed)
            continue;
        bool removed = shard_map_pg_removed(shard, item);
        if (!removed || shard_map_dropped(shard, item))
            report_replica(shard, report, item);
        if (removed && shard_map_member(shard, item) && !store_pg_find(shard->store, item->id) &&
            !pg_split_pending(shard, item) &&
            (confirm = confirm_add(report, &report->replicas, item->id, shard->label.osd)))
            confirm->pg_removed = true;
    }
}

static void report_order(struct osd_shard *shard, struct report *report, const Fb__ImageOrder *order)
{
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        bool serves = pg->id >> 32 == order->pool && pg_serves(pg), done = serves && pg_order_done(pg, order);
        Fb__PgConfirm *confirm = NULL;

        if (done)
            confirm = confirm_add(report, &report->orders, pg->id, shard->label.osd);
        else
            report->orders.count++;
        if (serves && !done && !pg_order_begun(pg, order)) {
            pg->orders_due = true;
            pg->orders_seen = 0;
            pg_wake(pg);
        } else if (confirm) {
            confirm->image = order->image;
            confirm->generation = order->generation;
            confirm->deleted = order->deleted;
            confirm->split_count = pg_split_count(pg);
        }
    }
}

/* Of what was in the last report, or is for the next one, only the number counts. */
static void report_orders(struct osd_shard *shard, struct report *report)
{
    struct report_turn *turn = &report->orders;
    uint64_t pgs = shard->pgs.count, looks = 0;

    map_for_each (&shard->map.orders, node) {
        if (!turn->next && looks > (uint64_t)report->confirms_max * REPORT_LOOKS)
            turn->next = turn->count;
        if (turn->count + pgs <= turn->from || turn->next) {
            turn->count += pgs;
            continue;
        }
        report_order(shard, report, map_entry(node, struct map_item, node)->order);
        looks += pgs;
    }
}

static void report_standings(struct osd_shard *shard, struct report *report, uint32_t parts)
{
    uint32_t count = pg_standings(shard, &report->standings, &report->standing_pointers);
    uint32_t from = shard->mon.standings_next < count ? shard->mon.standings_next : 0;
    bool there = report->standings && report->standing_pointers;

    report->short_of_memory |= count && !there;
    if (!count || !there)
        return;
    report->message.standing = report->standing_pointers + from;
    report->message.n_standing = MIN(count - from, DIV_UP(count, parts));
    report->standings_next = (from + (uint32_t)report->message.n_standing) % count;
}

static void report_suspects(struct osd_shard *shard, struct report *report)
{
    report->message.suspect_osd = report->suspects;
    map_for_each (&shard->peers, node) {
        const struct peer *peer = map_entry(node, struct peer, node);
        if (peer->lost && peer->rpc && !rpc_peer_is_open(peer->rpc) &&
            report->message.n_suspect_osd < ARRAY_LEN(report->suspects))
            report->suspects[report->message.n_suspect_osd++] = peer->osd;
    }
}

static void report_shard(struct osd_shard *shard, struct report *report)
{
    struct store_space space = store_space(shard->store);

    *report = (struct report){.message = FB__SHARD_REPORT__INIT};
    report->message.osd = shard->label.osd;
    report->message.shard = shard->number;
    report->message.incarnation = shard->label.start_counter;
    report->message.epoch = shard->map.saved_epoch;
    report->message.used_bytes = space.used_bytes;
    report->message.free_bytes = space.free_bytes;
    report->message.damaged_objects = store_counters(shard->store)->damaged_objects;
    report->message.damaged_logs = shard->perf.damaged_logs;
    report->message.repaired_blocks = shard->perf.repaired_blocks;
    report->message.unrepaired_reads = shard->perf.unrepaired_reads;
    report->message.failed = shard->failed ? shard->failed_text : (char *)protobuf_c_empty_string;
}

/* What is parked has nothing new to say. */
static bool report_is_known(const struct osd_shard *shard)
{
    return shard->mon.told && !shard->mon.stirred && !shard->awake_count && !shard->failed;
}

static bool report_fill(struct osd_shard *shard, struct report *report, uint32_t parts)
{
    size_t pgs = shard->pgs.count + 1;

    shard->mon.told = false;
    shard->mon.stirred = shard->awake_count > 0;
    shard->mon.report_partial = true;
    /* Filled entry by entry: what is not used is not touched. */
    report->pgs = malloc(pgs * sizeof(*report->pgs));
    report->pg_pointers = malloc(pgs * sizeof(void *));
    report->confirms_max = DIV_UP(shard->mon.confirms_max, parts);
    /* Orders get a quarter in any case. */
    report->replicas = (struct report_turn){.from = shard->mon.replicas_next,
                                            .end = report->confirms_max - report->confirms_max / 4};
    report->orders = (struct report_turn){.from = shard->mon.orders_next, .end = report->confirms_max};
    report->confirms = malloc(report->confirms_max * sizeof(*report->confirms));
    report->confirm_pointers = malloc(report->confirms_max * sizeof(void *));
    if (!report->pgs || !report->pg_pointers || !report->confirms || !report->confirm_pointers)
        return false;
    report->message.pg = report->pg_pointers;
    report->message.confirm = report->confirm_pointers;
    if (shard->failed)
        return true;
    map_for_each (&shard->pgs, node) {
        struct pg *pg = map_entry(node, struct pg, node);
        if (recover_found_no_room(pg)) {
            report->message.lacks_room++;
            report->message.lacks_room_pg = pg->id;
        }
        if ((!pg->led_term && shard_map_pg(shard, pg->id)) || pg->stopping)
            continue;
        report_pg(pg, &report->pgs[report->message.n_pg]);
        report_pg_scrub(report, pg, &report->pgs[report->message.n_pg]);
        report_pg_group(report, pg, &report->pgs[report->message.n_pg]);
        report->pg_pointers[report->message.n_pg] = &report->pgs[report->message.n_pg];
        report->message.n_pg++;
    }
    report_replicas(shard, report);
    report_orders(shard, report);
    report_standings(shard, report, parts);
    /* What may have to be said again is said in each. */
    shard->mon.report_partial = report->message.n_confirm || report->replicas.from || report->orders.from ||
                                report->orders.next || report->message.n_standing || report->scrubs ||
                                report->groups || report->short_of_memory;
    return true;
}

static void report_fini(struct report *report)
{
    for (struct report_scrub *next; report->scrubs; report->scrubs = next) {
        next = report->scrubs->next;
        free(report->scrubs);
    }
    for (struct report_group *next; report->groups; report->groups = next) {
        next = report->groups->next;
        free(report->groups);
    }
    free(report->pgs);
    free(report->pg_pointers);
    free(report->confirms);
    free(report->confirm_pointers);
    free(report->standings);
    free(report->standing_pointers);
}

/* False: it was not sent. */
static bool report_send_parts(struct shard_mon *mon, uint32_t parts, bool *ret_too_large)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    struct report report;
    bool sent = false;

    report_shard(mon->shard, &report);
    report_suspects(mon->shard, &report);
    report.message.unchanged = mon->report_unchanged = report_is_known(mon->shard);
    if (mon->report_unchanged || report_fill(mon->shard, &report, parts)) {
        request.call_case = FB__MON_REQUEST__CALL_SHARD_REPORT;
        request.shard_report = &report.message;
        *ret_too_large = wire_cold_size(&request.base) > mon->report_max;
        sent = !*ret_too_large && shard_mon_call(mon, &request);
    }
    if (sent && !mon->report_unchanged) {
        mon->replicas_next = report.replicas.next;
        mon->orders_next = report.orders.next;
        mon->standings_next = report.standings_next;
    }
    report_fini(&report);
    return sent;
}

bool shard_report_send(struct shard_mon *mon)
{
    bool sent = false, too_large = true;

    for (uint32_t parts = 1; too_large && parts <= REPORT_PARTS_MAX; parts *= 2) {
        too_large = false;
        sent = report_send_parts(mon, parts, &too_large);
    }
    return sent;
}
