/* SPDX-License-Identifier: Apache-2.0
 *
 * Who leads: what operators ask for, and leaderships brought back.
 *
 * Placement has made the first member of each PG its leader to be, evenly over the OSDs (placement.h). After
 * failures leaderships are where elections left them, and pile up on the OSDs that stayed. So every second
 * the monitor looks for PGs that all members are in contact with and none recovers, whose first member's OSD
 * has been up for a while, and that another one leads: a few of them are handed back. Raft refuses a member
 * that is not up to date, and then nothing has happened; each PG is tried again only after a while.
 *
 * An operator's word goes before: `pg leader` names another one for as long as this monitor runs and that one
 * is a member, and an OSD that was demoted gets nothing back until it is started anew, or MON_DEMOTED_NS have
 * passed. But not before what another PG needs (mon_force_keeps()), which would be without a leader as long.
 */
#include "mon/impl.h"

#define BALANCE_EVERY_NS NS_PER_S
#define BALANCE_REST_NS  (5 * NS_PER_S) /* when there was nothing to hand back */
#define BALANCE_PGS      4              /* in one look, */
#define BALANCE_ONE_IN                                                                                       \
    1000 /* or so many of all: each is an election, and thousands at once would starve the others */
#define BALANCE_AGAIN_NS (10 * NS_PER_S) /* the same PG; twice as long after each time that was in vain, */
#define BALANCE_VAIN_MAX 6               /* so often: it may be refused for long, by a slow member */
#define BALANCE_CALM_NS  (10 * NS_PER_S) /* so long an OSD must have been up */
#define MON_DEMOTED_NS   (600 * NS_PER_S)

/* ---- telling a leader ---- */

static bool send_transfer(struct mon *mon, uint64_t serial, uint64_t pg, const uint32_t *to_osd)
{
    struct mon_session *s = serial ? mon_session_find(mon, serial) : NULL;
    Fb__PgTransferRequest transfer = FB__PG_TRANSFER_REQUEST__INIT;
    Fb__MonEvent event = FB__MON_EVENT__INIT;

    if (!s)
        return false;
    transfer.pg = pg;
    transfer.to_osd = to_osd ? *to_osd : 0;
    transfer.any = !to_osd;
    event.transfer = &transfer;
    mon_event_send(mon, s, &event);
    return true;
}

static const Fb__PgMember *member_of(const Fb__Pg *pg, uint32_t osd)
{
    for (size_t m = 0; m < pg->n_member; m++)
        if (pg->member[m]->osd == osd)
            return pg->member[m];
    return NULL;
}

static bool is_there(const struct mon *mon, const Fb__PgMember *m)
{
    const struct mon_osd *o = mon_osd_find(mon, m->osd);

    return o && mon_osd_item(o)->up && !o->shard[m->shard].failed[0];
}

/* Tells the PG's leader. False: it is not connected. */
static bool pg_hand_over(struct mon *mon, const struct mon_pg *pg, uint32_t to_osd)
{
    const struct mon_osd *leader = mon_osd_find(mon, pg->leader_osd);
    const Fb__PgMember *member = member_of(mon_pg_item(pg), pg->leader_osd);

    return leader && member &&
           send_transfer(mon, leader->shard[member->shard].session, mon_pg_item(pg)->id, &to_osd);
}

/* ---- what operators ask for ---- */

/* Whoever waits until it leads nothing would otherwise be told so at once by a monitor that has just begun
 * and knows of no leader yet. */
static bool said_what_it_leads(const struct mon_osd *o)
{
    for (size_t i = 0; i < mon_osd_item(o)->n_shard; i++)
        if (o->shard[i].session && o->shard[i].whole_session != o->shard[i].session)
            return false;
    return true;
}

void mon_osd_demote(struct mon_request *r)
{
    uint32_t id = r->call->osd_demote->osd, sent = 0;
    struct mon_osd *o = mon_osd_find(r->mon, id);

    if (!o) {
        mon_reply(r, mon_fail(r, -ERR_NOT_FOUND, "there is no osd.%u", id));
        return;
    }
    if (!said_what_it_leads(o)) {
        mon_reply(r,
                  mon_fail(r, -ERR_BUSY, "osd.%u has not said yet what it leads: try again in a moment", id));
        return;
    }
    for (size_t i = 0; i < mon_osd_item(o)->n_shard; i++)
        sent += send_transfer(r->mon, o->shard[i].session, 0, NULL);
    if (!sent) {
        mon_reply(r, mon_fail(r, -ERR_UNREACHABLE,
                              "osd.%u is not connected to the monitor: it leads nothing, or cannot be told",
                              id));
        return;
    }
    o->demoted_ns = r->mon->alive_ns;
    mon_reply(r, 0);
}

void mon_pg_leader(struct mon_request *r)
{
    const Fb__PgLeader *call = r->call->pg_leader;
    struct mon *mon = r->mon;
    struct mon_pg *pg = mon_pg_find(mon, call->pg);
    uint32_t pool = mon_pg_pool(call->pg), number = mon_pg_number(call->pg);

    if (!pg || mon_pg_item(pg)->removed) {
        mon_reply(r, mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x", pool, number));
        return;
    }
    const Fb__PgMember *member = member_of(mon_pg_item(pg), call->osd);
    if (!member) {
        mon_reply(r, mon_fail(r, -ERR_INVALID, "osd.%u has no replica of PG %u.%x", call->osd, pool, number));
        return;
    }
    if (!is_there(mon, member)) {
        mon_reply(
            r,
            mon_fail(
                r, -ERR_UNREACHABLE,
                "osd.%u is down, or its shard %u has failed: it cannot lead PG %u.%x until it serves again",
                call->osd, member->shard, pool, number));
        return;
    }
    if (!mon_pg_reported(mon, pg)) {
        mon_reply(r, mon_fail(r, -ERR_RETRY,
                              "PG %u.%x has no leader at the moment that could hand over: try again", pool,
                              number));
        return;
    }
    if (pg->leader_osd != call->osd && !pg_hand_over(mon, pg, call->osd)) {
        mon_reply(r, mon_fail(r, -ERR_UNREACHABLE,
                              "osd.%u, which leads PG %u.%x, is not connected to the monitor", pg->leader_osd,
                              pool, number));
        return;
    }
    pg->chosen = true;
    pg->chosen_osd = call->osd;
    mon_reply(r, 0);
}

/* ---- balance ---- */

/* It has to stay for another PG, which only a leader there can split off once more, and nobody serves before
 * that. Of several any will do: who leads, or else one that is there. NULL: there is none. */
static const Fb__PgMember *must_lead(const struct mon *mon, const struct mon_pg *p)
{
    const Fb__Pg *pg = mon_pg_item(p);
    const Fb__PgMember *best = NULL;

    for (size_t m = 0; m < pg->n_member; m++) {
        if (!mon_force_keeps(mon, p, pg->member[m]))
            continue;
        if (pg->member[m]->osd == p->leader_osd)
            return pg->member[m];
        if (!best || (!is_there(mon, best) && is_there(mon, pg->member[m])))
            best = pg->member[m];
    }
    return best;
}

/* The first member whose OSD is in: one that is drained leads nothing. */
static const Fb__PgMember *first_to_lead(const struct mon *mon, const Fb__Pg *pg)
{
    for (size_t m = 0; m < pg->n_member; m++) {
        const struct mon_osd *o = mon_osd_find(mon, pg->member[m]->osd);
        if (o && mon_osd_in(mon_osd_item(o)))
            return pg->member[m];
    }
    return pg->member[0];
}

/* Who should lead it, and can. NULL: nobody is better than who does. */
static const Fb__PgMember *pg_should_lead(const struct mon *mon, const struct mon_pg *pg)
{
    const Fb__Pg *item = mon_pg_item(pg);
    const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(item->id));

    if (item->removed || !item->n_member || !pool || mon_pool_item(pool)->removed ||
        !mon_pg_reported(mon, pg))
        return NULL;
    const Fb__PgMember *must = must_lead(mon, pg), *to = must;
    if (!to && pg->chosen)
        to = member_of(item, pg->chosen_osd);
    if (!to)
        to = first_to_lead(mon, item);
    if (to->learner || to->osd == pg->leader_osd)
        return NULL;
    /* Who must lead does not wait for others, which may be away for ever. */
    if (!must && (item->n_wanted || pg->recovering || pg->in_contact < item->n_member))
        return NULL;
    const struct mon_osd *o = mon_osd_find(mon, to->osd);
    if (!is_there(mon, to) || mon->alive_ns - o->up_ns < BALANCE_CALM_NS ||
        (!must && o->demoted_ns && mon->alive_ns - o->demoted_ns < MON_DEMOTED_NS))
        return NULL;
    return to;
}

void mon_leaders_balance(struct mon *mon)
{
    uint32_t moved = 0, most = MAX(BALANCE_PGS, (uint32_t)(mon->items[MON_PG].count / BALANCE_ONE_IN));

    if (mon->alive_ns - mon->balanced_ns < (mon->balanced ? BALANCE_REST_NS : BALANCE_EVERY_NS))
        return;
    mon->balanced_ns = mon->alive_ns;
    mon->balanced = true;
    mon_for_each(mon, MON_PG, node)
    {
        struct mon_pg *pg = mon_pg_of(node);
        const Fb__PgMember *to = pg_should_lead(mon, pg);

        mon->balanced &= !to;
        if (!to)
            pg->moved_vain = 0; /* what was in the way then may be gone when there is somebody again */
        if (!to || moved >= most ||
            (pg->moved_ns && pg->moved_term == pg->term &&
             mon->alive_ns - pg->moved_ns < BALANCE_AGAIN_NS << pg->moved_vain))
            continue;
        bool vain = pg->moved_ns && pg->moved_term == pg->term;
        pg->moved_vain = vain ? (uint8_t)MIN(pg->moved_vain + 1, BALANCE_VAIN_MAX) : 0;
        pg->moved_term = pg->term;
        pg->moved_ns = mon->alive_ns;
        moved += pg_hand_over(mon, pg, to->osd);
    }
    if (moved)
        core_log(mon->core, LOG_INFO, "mon", "%u leaderships are handed back to where they belong", moved);
}
