/* SPDX-License-Identifier: Apache-2.0
 *
 * The members of PGs, as reports tell of them: a new group, replicas born, replicas deleted.
 *
 * Where a replica is in its life is where its number stands in the lists of the PG's item:
 *
 *   wanted (to be born) -> wanted (born) -> wanted and member -> member
 *      |                                                            | a group without it, by a newer wanted
 * list
 *      '---- the list was replaced ----> leaving ----------------> dropped -> (its shard says it is deleted)
 * nowhere
 *
 * What is in `dropped` is deleted, so nothing comes there that can ever be a member again. A leader says with
 * its group which wanted list it carries out (its epoch), and no group behind that one is made for an older
 * list. So a replica is dropped when a reported group lacks it, the list that is wanted lacks it, and that
 * group was made for that list; before, it is only leaving. Nobody is dropped for being absent from a report.
 *
 * The shard that creates or deletes must be the one that the list names; a shard of an OSD that was removed
 * from the cluster never confirms, and its replicas are gone with it.
 */
#include "mon/impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/plant.h"

/* ---- lists ---- */

const Fb__PgMember *mon_members_find(const struct mon_members *list, uint32_t replica)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->row[i].replica == replica)
            return &list->row[i];
    return NULL;
}

bool mon_members_add(struct mon_members *list, const Fb__PgMember *row)
{
    if (list->count == MON_MEMBERS_MAX)
        return false;
    list->row[list->count++] = *row;
    return true;
}

static void remove_at(struct mon_members *list, uint32_t i)
{
    memmove(&list->row[i], &list->row[i + 1], (--list->count - i) * sizeof(*list->row));
}

void mon_members_remove(struct mon_members *list, uint32_t replica)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->row[i].replica == replica) {
            remove_at(list, i);
            return;
        }
}

static void list_load(struct mon_members *list, Fb__PgMember *const *rows, size_t count)
{
    list->count = 0;
    for (size_t i = 0; i < count; i++)
        (void)mon_members_add(list, rows[i]); /* the item was validated: it fits */
}

static size_t list_store(struct mon_members *list, Fb__PgMember **pointers)
{
    for (uint32_t i = 0; i < list->count; i++)
        pointers[i] = &list->row[i];
    return list->count;
}

void mon_edit_init(struct mon_edit *e, const Fb__Pg *pg)
{
    e->pg = *pg;
    list_load(&e->member, pg->member, pg->n_member);
    list_load(&e->wanted, pg->wanted, pg->n_wanted);
    list_load(&e->leaving, pg->leaving, pg->n_leaving);
    list_load(&e->dropped, pg->dropped, pg->n_dropped);
    if (pg->force) {
        e->force = *pg->force;
        e->pg.force = &e->force;
    }
}

void mon_edit_put(struct mon_edit *e, struct mon_change *c)
{
    e->pg.n_member = list_store(&e->member, e->pg.member = e->pointers[0]);
    e->pg.n_wanted = list_store(&e->wanted, e->pg.wanted = e->pointers[1]);
    e->pg.n_leaving = list_store(&e->leaving, e->pg.leaving = e->pointers[2]);
    e->pg.n_dropped = list_store(&e->dropped, e->pg.dropped = e->pointers[3]);
    e->pg.epoch = c->state.epoch;
    mon_change_put(c, MON_PG, e->pg.id, &e->pg.base);
}

/* ---- what is reported ---- */

bool mon_confirmed(const struct mon_confirms *confirms, uint32_t replica)
{
    for (uint32_t i = 0; i < confirms->count; i++)
        if (confirms->replica[i] == replica)
            return true;
    return false;
}

static bool rows_have(Fb__PgMember *const *rows, size_t count, uint32_t osd)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i]->osd == osd)
            return true;
    return false;
}

bool mon_member_is(const Fb__Pg *pg, uint32_t osd)
{
    return rows_have(pg->member, pg->n_member, osd) || rows_have(pg->wanted, pg->n_wanted, osd) ||
           rows_have(pg->leaving, pg->n_leaving, osd) || rows_have(pg->dropped, pg->n_dropped, osd);
}

const struct mon_news *mon_news(const struct mon_pg *pg)
{
    static const struct mon_news nothing;

    return pg->news ? pg->news : &nothing;
}

/* To be written to; NULL without memory: all of it is said again. */
static struct mon_news *news_make(struct mon_pg *pg)
{
    if (!pg->news)
        pg->news = calloc(1, sizeof(*pg->news));
    return pg->news;
}

/* Notes the replicas of the list that this shard has; `replica`: only this one, 0: any. */
static void note_rows(struct mon *mon, struct mon_confirms *confirms, Fb__PgMember *const *rows, size_t count,
                      uint32_t osd, uint32_t shard, uint32_t replica)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i]->osd != osd || rows[i]->shard != shard || (replica && rows[i]->replica != replica) ||
            mon_confirmed(confirms, rows[i]->replica) || confirms->count == MON_CONFIRMS_MAX)
            continue;
        confirms->replica[confirms->count++] = rows[i]->replica;
        mon_settle_soon(mon);
    }
}

void mon_member_confirm(struct mon *mon, struct mon_pg *pg, uint32_t osd, uint32_t shard,
                        const Fb__PgConfirm *confirm)
{
    const Fb__Pg *item = mon_pg_item(pg);
    struct mon_news *news = news_make(pg);

    if (!news)
        return;
    if (confirm->pg_removed)
        note_rows(mon, &news->gone, item->member, item->n_member, osd, shard, 0);
    if (confirm->born) {
        note_rows(mon, &news->born, item->member, item->n_member, osd, shard, confirm->replica);
        note_rows(mon, &news->born, item->wanted, item->n_wanted, osd, shard, confirm->replica);
    }
    if (confirm->lost && confirm->replica && !mon_confirmed(&news->lost, confirm->replica)) {
        note_rows(mon, &news->lost, item->member, item->n_member, osd, shard, confirm->replica);
        note_rows(mon, &news->lost, item->wanted, item->n_wanted, osd, shard, confirm->replica);
        note_rows(mon, &news->lost, item->leaving, item->n_leaving, osd, shard, confirm->replica);
        if (mon_confirmed(&news->lost, confirm->replica)) {
            mon_plan_forget(mon);
            mon_note(mon, LOG_ERROR, "PG %u.%x: osd.%u has lost its replica (%u)", mon_pg_pool(item->id),
                     mon_pg_number(item->id), osd, confirm->replica);
        }
    }
    if (confirm->dropped && confirm->replica)
        note_rows(mon, &news->dropped, item->dropped, item->n_dropped, osd, shard, confirm->replica);
}

uint32_t mon_replica_next(const Fb__Pg *pg)
{
    uint32_t next = pg->replica_next;

    for (size_t m = 0; m < pg->n_member && !pg->replica_next; m++)
        next = MAX(next, pg->member[m]->replica + 1);
    return next;
}

const char *mon_group_fault(const struct mon *mon, const Fb__Pg *pg, const Fb__PgReport *report)
{
    uint32_t voters = 0;

    if (report->n_group > MON_GROUP_MAX)
        return "it has too many members";
    for (size_t i = 0; i < report->n_group; i++) {
        const Fb__PgMember *m = report->group[i];
        const struct mon_osd *o = mon_osd_find(mon, m->osd);
        if (!o || m->shard >= mon_osd_item(o)->n_shard)
            return "a member's shard does not exist";
        if (!m->replica || m->replica >= mon_replica_next(pg))
            return "a member's number was never given out";
        for (size_t k = 0; k < i; k++)
            if (report->group[k]->replica == m->replica)
                return "a member is named twice";
        voters += !m->learner;
    }
    return voters ? NULL : "nobody votes in it";
}

void mon_group_take(struct mon_group *group, const Fb__PgReport *report)
{
    group->index = report->group_index;
    group->epoch = report->group_epoch;
    group->members.count = 0;
    for (size_t i = 0; i < report->n_group; i++) {
        Fb__PgMember row = FB__PG_MEMBER__INIT;
        row.replica = report->group[i]->replica;
        row.osd = report->group[i]->osd;
        row.shard = report->group[i]->shard;
        row.learner = report->group[i]->learner;
        (void)mon_members_add(&group->members, &row);
    }
}

void mon_member_report(struct mon *mon, struct mon_pg *p, const Fb__PgReport *report)
{
    const Fb__Pg *pg = mon_pg_item(p);

    if (report->group_index <= MAX(pg->group_index, mon_news(p)->group.index))
        return;
    const char *fault = mon_group_fault(mon, pg, report);
    if (fault) {
        core_log(mon->core, LOG_ERROR, "mon", "PG %u.%x: the group that osd.%u reports is refused: %s",
                 mon_pg_pool(pg->id), mon_pg_number(pg->id), p->leader_osd, fault);
        return;
    }
    struct mon_news *news = news_make(p);
    if (!news)
        return;
    mon_group_take(&news->group, report);
    mon_settle_soon(mon);
}

/* ---- what becomes of it ---- */

/* Its shard never says anything any more. */
static bool is_gone(const struct mon *mon, const Fb__PgMember *m)
{
    const struct mon_osd *o = mon_osd_find(mon, m->osd);

    return !o || mon_osd_item(o)->removed;
}

static bool all_confirmed(const struct mon *mon, const struct mon_confirms *confirms,
                          const struct mon_members *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!mon_confirmed(confirms, list->row[i].replica) && !is_gone(mon, &list->row[i]))
            return false;
    return true;
}

bool mon_birth_awaited(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *m)
{
    return !mon_pg_item(p)->born && !mon_confirmed(&mon_news(p)->born, m->replica) && !is_gone(mon, m);
}

/* Is it made anew elsewhere? Its OSD is down and out, or its shard has failed for as long. */
static bool is_given_up(const struct mon *mon, const Fb__PgMember *m)
{
    const struct mon_osd *o = mon_osd_find(mon, m->osd);
    bool is_out = !o || (!mon_osd_item(o)->up && !mon_osd_in(mon_osd_item(o)));

    return is_out || mon_shard_given_up(o, m->shard);
}

/* A majority works without the rest, so that it does not wait for what is given up: what was not born there
 * counts as lost when that comes back. */
static bool births_end(const struct mon *mon, const struct mon_confirms *confirms,
                       const struct mon_members *list)
{
    uint32_t born = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        bool said = mon_confirmed(confirms, list->row[i].replica);
        born += said;
        if (!said && !is_given_up(mon, &list->row[i]))
            return false;
    }
    return born * 2 > list->count;
}

static bool settle_births(const struct mon *mon, const struct mon_pg *p, struct mon_edit *e)
{
    struct mon_members *lists[] = {&e->member, &e->wanted};
    bool changed = false;

    if (!e->pg.born) {
        if (!all_confirmed(mon, &mon_news(p)->born, &e->member) &&
            !births_end(mon, &mon_news(p)->born, &e->member))
            return false;
        e->pg.born = changed = true;
    }
    for (uint32_t l = 0; l < ARRAY_LEN(lists); l++)
        for (uint32_t i = 0; i < lists[l]->count; i++) {
            Fb__PgMember *m = &lists[l]->row[i];
            if (!m->birth || m->born || !mon_confirmed(&mon_news(p)->born, m->replica))
                continue;
            m->born = changed = true;
            if (e->pg.force && m->replica == e->force.replica)
                e->pg.before = NULL; /* it has gone on */
        }
    return changed;
}

static bool settle_dropped(const struct mon *mon, const struct mon_pg *p, struct mon_edit *e)
{
    uint32_t before = e->dropped.count;

    for (uint32_t i = e->dropped.count; i-- > 0;)
        if (mon_confirmed(&mon_news(p)->dropped, e->dropped.row[i].replica) ||
            is_gone(mon, &e->dropped.row[i]))
            remove_at(&e->dropped, i);
    return e->dropped.count != before;
}

/* The reported members in the order in which they are to lead, with what is known of them. */
static void order_group(const struct mon_group *group, struct mon_edit *e, struct mon_members *ret)
{
    const struct mon_members *orders[] = {&e->wanted, &e->member, &e->leaving, &e->dropped, &group->members};

    ret->count = 0;
    for (uint32_t l = 0; l < ARRAY_LEN(orders); l++)
        for (uint32_t i = 0; i < orders[l]->count; i++) {
            Fb__PgMember row = orders[l]->row[i];
            const Fb__PgMember *said = mon_members_find(&group->members, row.replica);
            if (!said || mon_members_find(ret, row.replica))
                continue;
            row.osd = said->osd;
            row.shard = said->shard;
            row.learner = said->learner;
            (void)mon_members_add(ret, &row);
        }
}

static bool is_what_is_wanted(const struct mon_edit *e)
{
    for (uint32_t i = 0; i < e->member.count; i++)
        if (e->member.row[i].learner || !mon_members_find(&e->wanted, e->member.row[i].replica))
            return false;
    return e->member.count == e->wanted.count;
}

/* `from` lists replicas of which those that are neither members nor wanted are leaving, or dropped. */
static void let_go(const struct mon *mon, struct mon_edit *e, const struct mon_members *from, bool for_ever)
{
    for (uint32_t i = 0; i < from->count; i++) {
        const Fb__PgMember *m = &from->row[i];
        if (mon_members_find(&e->member, m->replica) || mon_members_find(&e->wanted, m->replica) ||
            is_gone(mon, m))
            continue;
        if (!for_ever) {
            if (!mon_members_find(&e->leaving, m->replica))
                (void)mon_members_add(&e->leaving, m);
            continue;
        }
        if (!mon_members_find(&e->dropped, m->replica))
            (void)mon_members_add(&e->dropped, m);
    }
}

bool mon_edit_drop(struct mon_edit *e, const struct mon *mon, const Fb__PgMember *m)
{
    return is_gone(mon, m) || mon_members_find(&e->dropped, m->replica) || mon_members_add(&e->dropped, m);
}

void mon_edit_want(struct mon_edit *e, const struct mon *mon, const struct mon_members *wanted,
                   uint64_t epoch)
{
    struct mon_members was = e->wanted;

    e->wanted = *wanted;
    e->pg.wanted_epoch = epoch;
    let_go(mon, e, &was, false);
}

static bool settle_group(struct mon *mon, const struct mon_pg *p, struct mon_edit *e)
{
    const struct mon_group *group = &mon_news(p)->group;
    struct mon_members was = e->member, leaving = e->leaving;
    bool for_ever = group->epoch >= e->pg.wanted_epoch || PLANT(MON_EARLY_DROP);

    if (group->index <= e->pg.group_index)
        return false;
    e->pg.group_index = group->index;
    e->pg.before = NULL;
    order_group(group, e, &e->member);
    for (uint32_t i = 0; i < e->member.count; i++) {
        mon_members_remove(&leaving, e->member.row[i].replica);
        if (!mon_members_find(&e->dropped, e->member.row[i].replica))
            continue;
        /* It must not be. What can be done is to stop deleting it. */
        core_log(mon->core, LOG_ERROR, "mon", "PG %u.%x: replica %u was dropped and is a member again",
                 mon_pg_pool(e->pg.id), mon_pg_number(e->pg.id), e->member.row[i].replica);
        mon_members_remove(&e->dropped, e->member.row[i].replica);
    }
    e->leaving.count = 0;
    let_go(mon, e, &was, for_ever);
    let_go(mon, e, &leaving, for_ever);
    if (group->epoch >= e->pg.wanted_epoch && is_what_is_wanted(e))
        e->wanted.count = 0;
    return true;
}

/* Its pool was removed: nothing is wanted any more, and all of it goes. */
static bool settle_removed(const struct mon *mon, const struct mon_pg *p, struct mon_edit *e)
{
    struct mon_members wanted = e->wanted, leaving = e->leaving;
    bool changed = wanted.count || leaving.count;

    e->wanted.count = e->leaving.count = 0;
    let_go(mon, e, &wanted, true);
    let_go(mon, e, &leaving, true);
    changed |= settle_dropped(mon, p, e);
    if (e->dropped.count || !all_confirmed(mon, &mon_news(p)->gone, &e->member))
        return changed;
    e->pg.removed = true;
    e->member.count = 0;
    return true;
}

/* Has nobody said anything of it that could change the item? */
static bool is_quiet(const struct mon_pg *p, const struct mon_pool *pool)
{
    return pool && !mon_pool_item(pool)->removed && !mon_news(p)->group.index && !mon_news(p)->born.count &&
           !mon_pg_item(p)->n_dropped;
}

void mon_member_settle(struct mon *mon, struct mon_change *c)
{
    mon_for_each(mon, MON_PG, node)
    {
        struct mon_pg *p = mon_pg_of(node);
        const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(node->key));
        struct mon_edit e;
        bool changed;

        if (c->count >= MON_PUTS_PER_TXN || mon_pg_item(p)->removed || is_quiet(p, pool))
            continue;
        mon_edit_init(&e, mon_pg_item(p));
        if (!pool || mon_pool_item(pool)->removed) {
            changed = settle_removed(mon, p, &e);
        } else {
            changed = settle_births(mon, p, &e);
            changed |= settle_group(mon, p, &e);
            changed |= settle_dropped(mon, p, &e);
        }
        if (changed)
            mon_edit_put(&e, c);
        else if (p->news && e.pg.born && !e.wanted.count)
            p->news->born.count = 0; /* said once more by who had not heard yet that it is known */
    }
}

static bool is_member(const Fb__Pg *pg, uint32_t replica)
{
    for (size_t m = 0; m < pg->n_member; m++)
        if (pg->member[m]->replica == replica)
            return true;
    return false;
}

static bool is_named(const Fb__Pg *pg, uint32_t replica)
{
    bool named = is_member(pg, replica);

    for (size_t w = 0; w < pg->n_wanted; w++)
        named |= pg->wanted[w]->replica == replica;
    for (size_t l = 0; l < pg->n_leaving; l++)
        named |= pg->leaving[l]->replica == replica;
    return named;
}

/* What still matters of confirmations is said again; but who has lost a replica has lost it. */
static void news_settle(struct mon_pg *p)
{
    struct mon_news *news = p->news;
    const Fb__Pg *pg = mon_pg_item(p);

    if (!news)
        return;
    if (news->group.index <= pg->group_index)
        news->group = (struct mon_group){0};
    news->born.count = news->dropped.count = news->gone.count = 0;
    uint32_t lost = news->lost.count;
    news->lost.count = 0;
    for (uint32_t i = 0; i < lost; i++)
        if (is_named(pg, news->lost.replica[i]))
            news->lost.replica[news->lost.count++] = news->lost.replica[i];
    if (news->lost.count || news->group.index)
        return;
    free(news);
    p->news = NULL;
}

void mon_member_settled(struct mon *mon, struct mon_pg *p)
{
    const Fb__Pg *pg = mon_pg_item(p);

    if (!pg->n_wanted) {
        mon->moves.objects_done += p->copies * p->objects;
        p->copies = 0;
    }
    for (size_t w = 0; w < pg->n_wanted && !p->copies; w++)
        p->copies += !is_member(pg, pg->wanted[w]->replica);
    mon_move_soon(mon);
    news_settle(p);
}
