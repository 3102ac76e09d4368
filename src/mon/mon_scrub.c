/* SPDX-License-Identifier: Apache-2.0
 *
 * Scrubs: when they are due, who ordered them, what came of them.
 *
 * For each PG there is an item of its own, outside of the map: the newest order, its number, the results of
 * the last scrub, and the list of blocks that no replica has. The leader finds its orders and the list in the
 * answers to its reports, and reports how far it is, what came of it, and what is to change of the list; it
 * repeats that until the answer shows that it is known. So neither side needs to be heard at any moment.
 *
 * A PG is scrubbed lightly every day and deeply every week. One that never was is due in the first hours
 * that the monitor runs (the more PGs there are, the more hours), or on the first day, each at another time.
 * A scrub counts only if all members could be looked at. Otherwise there is another one when they are all
 * back, at the earliest after an hour; as long as they are not, those that are there are scrubbed as often as
 * ever.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

/* How often it is looked at what is due. Those of a minute are done together, so that shards of thousands of
 * PGs rest in between: while one of their PGs is scrubbed they report all of them. */
#define SCRUB_LOOK_NS       (60 * NS_PER_S)
#define SCRUB_LIGHT_US      (24ull * 3600 * 1000000)
#define SCRUB_DEEP_US       (7 * SCRUB_LIGHT_US)
#define SCRUB_RETRY_US      (3600ull * 1000000)
#define SCRUB_FIRST_LIGHT_S 3600u
#define SCRUB_FIRST_DEEP_S  (24 * 3600u)
#define SCRUB_FIRST_PG_S    8u /* of these hours, for each PG that there is */
#define SCRUB_OBJECTS_MAX   64 /* with damage, of one PG */
#define BLOCKS_BYTES        (BLOCKS_PER_OBJECT / 8)
#define ANSWER_DAMAGE_MAX   (FRAME_BODY_MAX / 4) /* bytes, of all lists in one answer */

static Fb__PgScrub scrub_of(const struct mon *mon, uint64_t pg)
{
    const struct mon_scrub *s = mon_scrub_find(mon, pg);
    Fb__PgScrub scrub = FB__PG_SCRUB__INIT;

    if (s)
        return *mon_scrub_item(s);
    scrub.pg = pg;
    return scrub;
}

static bool pg_lives(const struct mon *mon, const struct mon_pg *p)
{
    const struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(mon_pg_item(p)->id));

    return !mon_pg_item(p)->removed && pool && !mon_pool_item(pool)->removed;
}

/* ---- orders ---- */

/* On top of one that is not done: what that one wanted is wanted still. */
static void order(struct mon *mon, struct mon_change *c, uint64_t pg, bool deep, bool repair)
{
    Fb__PgScrub scrub = scrub_of(mon, pg);
    bool pending = scrub.order != scrub.done;
    /* Whether what a deep one found to differ is the same again, only a deep one can tell. */
    bool differs = scrub.result && scrub.result->differing && scrub.result->deep;

    scrub.order = MAX(scrub.order, scrub.done) + 1;
    scrub.deep = deep || differs || (pending && scrub.deep);
    scrub.repair = repair || (pending && scrub.repair);
    mon_change_put(c, MON_SCRUB, pg, &scrub.base);
}

static int pg_scrub_build(struct mon_request *r)
{
    const Fb__PgScrubRequest *call = r->call->pg_scrub;
    struct mon *mon = r->mon;
    uint32_t count = 0;

    if (call->repair && (!call->pg || !call->deep))
        return mon_fail(r, -ERR_INVALID, "replicas are made equal of one PG at a time, by a deep scrub");
    mon_for_each(mon, MON_PG, node)
    {
        if ((call->pg && node->key != call->pg) || !pg_lives(mon, mon_pg_of(node)))
            continue;
        order(mon, &r->change, node->key, call->deep, call->repair);
        count++;
    }
    if (call->pg && !count)
        return mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x", mon_pg_pool(call->pg),
                        mon_pg_number(call->pg));
    r->nothing = !count;
    return 0;
}

static void pg_scrub_done(struct mon_request *r)
{
    if (r->mon->state.scrub_paused)
        mon_fail(r, 0, "warning: scrubs are paused: it begins after `fastblock scrub resume`");
}

const struct mon_method mon_pg_scrub = {.build = pg_scrub_build, .done = pg_scrub_done};

static int scrub_pause_build(struct mon_request *r)
{
    bool pause = r->call->scrub_pause->pause;

    r->nothing = pause == (bool)r->mon->state.scrub_paused;
    r->change.state.scrub_paused = pause;
    return 0;
}

static void scrub_pause_done(struct mon_request *r)
{
    if (!r->nothing)
        core_log(r->mon->core, LOG_INFO, "mon", "scrubs are %s",
                 r->mon->state.scrub_paused ? "paused" : "resumed");
}

const struct mon_method mon_scrub_pause = {.build = scrub_pause_build, .done = scrub_pause_done};

static void order_damage(Fb__ScrubOrder *to, const Fb__PgScrub *item, size_t *bytes)
{
    size_t more = 0;

    for (size_t i = 0; i < item->n_damage; i++)
        more += wire_cold_size(&item->damage[i]->base) + 4;
    to->damage_omitted = *bytes + more > ANSWER_DAMAGE_MAX;
    if (to->damage_omitted)
        return;
    *bytes += more;
    to->damage = item->damage;
    to->n_damage = item->n_damage;
}

void mon_scrub_orders(struct mon_request *r, const Fb__ShardReport *report)
{
    struct mon *mon = r->mon;
    size_t count = 0, damage_bytes = 0, from = report->n_pg ? mon->alive_ns / NS_PER_S % report->n_pg : 0;
    Fb__ScrubOrder **orders = wire_arena_alloc(&r->arena, (report->n_pg + 1) * sizeof(*orders));

    /* Each second it is another PG's turn to have room for its list in any case. */
    for (size_t i = 0; orders && i < report->n_pg; i++) {
        const struct mon_scrub *s = mon_scrub_find(mon, report->pg[(from + i) % report->n_pg]->pg);
        const Fb__PgScrub *item = s ? mon_scrub_item(s) : NULL;
        if (!item || (item->order == item->done && !item->n_damage))
            continue;
        Fb__ScrubOrder *to = orders[count] = wire_arena_alloc(&r->arena, sizeof(*to));
        if (!to)
            break;
        count++;
        fb__scrub_order__init(to);
        to->pg = item->pg;
        if (item->order != item->done) {
            to->order = item->order;
            to->deep = item->deep;
            to->repair = item->repair;
        }
        order_damage(to, item, &damage_bytes);
    }
    r->reply.scrub_order = orders;
    r->reply.n_scrub_order = count;
}

void mon_scrub_changed(struct mon *mon, uint64_t pg)
{
    const struct mon_pg *p = mon_pg_find(mon, pg);
    struct mon_osd *o = p && p->reported_ns ? mon_osd_find(mon, p->leader_osd) : NULL;

    if (o)
        o->shard[p->leader_shard].scrub_news = true;
}

/* ---- results ---- */

static bool damage_valid(const Fb__PgReport *report)
{
    for (size_t i = 0; i < report->n_damage; i++)
        if (report->damage[i]->blocks.len != 0 && report->damage[i]->blocks.len != BLOCKS_BYTES)
            return false;
    return true;
}

void mon_scrub_report(struct mon *mon, struct mon_pg *pg, const Fb__PgReport *report)
{
    bool done = report->scrub && report->scrub_done;

    free(pg->scrub);
    pg->scrub = NULL;
    if ((!report->scrub && !report->n_damage) || !damage_valid(report))
        return;
    pg->scrub_len = (uint32_t)fb__pg_report__get_packed_size(report);
    pg->scrub = malloc(pg->scrub_len);
    if (!pg->scrub)
        return; /* it comes again */
    fb__pg_report__pack(report, pg->scrub);
    if (done || report->n_damage)
        mon_settle_soon(mon);
}

/* Brings the list to what the leader says of it; rows are the caller's memory. */
static void damage_merge(struct mon *mon, Fb__PgScrub *scrub, const Fb__PgReport *report, Fb__PgDamage *rows,
                         Fb__PgDamage **pointers)
{
    size_t count = 0;

    for (size_t i = 0; i < scrub->n_damage && count < SCRUB_OBJECTS_MAX; i++) {
        pointers[count] = &rows[count];
        rows[count++] = *scrub->damage[i];
    }
    for (size_t i = 0; i < report->n_damage; i++) {
        const Fb__PgDamage *said = report->damage[i];
        size_t at = 0;
        while (at < count && (rows[at].image != said->image || rows[at].object != said->object))
            at++;
        if (!said->blocks.len) {
            if (at < count)
                rows[at] = rows[--count];
            continue;
        }
        if (at == SCRUB_OBJECTS_MAX)
            continue;
        if (at == count) {
            pointers[at] = &rows[at];
            rows[count++] = *said;
            rows[at].since_us = mon->core->env->wall_us(mon->core->env_self);
        }
        rows[at].blocks = said->blocks;
    }
    scrub->damage = pointers;
    scrub->n_damage = count;
}

static bool damage_equal(const Fb__PgScrub *a, const Fb__PgScrub *b)
{
    bool equal = a->n_damage == b->n_damage;

    for (size_t i = 0; i < a->n_damage && equal; i++)
        equal = a->damage[i]->image == b->damage[i]->image && a->damage[i]->object == b->damage[i]->object &&
                !memcmp(a->damage[i]->blocks.data, b->damage[i]->blocks.data, BLOCKS_BYTES);
    return equal;
}

static void take_result(struct mon *mon, Fb__PgScrub *scrub, Fb__ScrubResult *result, size_t members)
{
    uint64_t now_us = mon->core->env->wall_us(mon->core->env_self);
    bool whole = result->replicas >= members;
    const Fb__ScrubResult *had = scrub->result;
    /* That replicas differ stays known until one that looks as deeply, at all of them, does not find it. */
    bool stays = had && had->differing && !result->differing && (!whole || (had->deep && !result->deep));

    scrub->done = result->order;
    scrub->repair = false;
    if (!stays)
        scrub->result = result;
    scrub->tried_us = now_us;
    scrub->deep_tried_us = result->deep ? now_us : scrub->deep_tried_us;
    scrub->light_us = whole ? now_us : scrub->light_us;
    scrub->deep_us = whole && result->deep ? now_us : scrub->deep_us;
}

/* What a leader reported becomes the item. */
static void settle_report(struct mon *mon, struct mon_change *c, struct mon_pg *p)
{
    Fb__PgReport *report = fb__pg_report__unpack(&mon_allocator, p->scrub_len, p->scrub);
    Fb__PgDamage rows[SCRUB_OBJECTS_MAX], *pointers[SCRUB_OBJECTS_MAX];
    uint64_t pg = mon_pg_item(p)->id;
    const Fb__PgScrub before = scrub_of(mon, pg);
    Fb__PgScrub scrub = before;

    if (!report)
        return; /* no memory: it comes again */
    damage_merge(mon, &scrub, report, rows, pointers);
    bool done = report->scrub && report->scrub_done && report->scrub->order == scrub.order &&
                scrub.done != scrub.order;
    if (done)
        take_result(mon, &scrub, report->scrub, mon_pg_item(p)->n_member);
    if (done || !damage_equal(&before, &scrub))
        mon_change_put(c, MON_SCRUB, pg, &scrub.base);
    fb__pg_report__free_unpacked(report, &mon_allocator);
}

static bool is_due(uint64_t last_us, uint64_t period_us, uint64_t now_us, uint64_t first_s,
                   const struct mon *mon, uint64_t pg)
{
    if (!last_us)
        return mon->alive_ns / NS_PER_S >= 1 + hash_pair(pg, first_s) % first_s;
    return now_us >= last_us + period_us || now_us + period_us < last_us;
}

static void settle_due(struct mon *mon, struct mon_change *c, const struct mon_pg *p)
{
    uint64_t pg = mon_pg_item(p)->id, now_us = mon->core->env->wall_us(mon->core->env_self);
    const Fb__PgScrub scrub = scrub_of(mon, pg);
    bool whole = p->in_contact >= mon_pg_item(p)->n_member;
    uint64_t first_light_s =
        MIN(MAX(SCRUB_FIRST_LIGHT_S, mon->items[MON_PG].count * SCRUB_FIRST_PG_S), SCRUB_FIRST_DEEP_S);
    uint64_t light_us = whole ? scrub.light_us : MAX(scrub.light_us, scrub.tried_us);
    uint64_t deep_us = whole ? scrub.deep_us : MAX(scrub.deep_us, scrub.deep_tried_us);

    if (scrub.order != scrub.done || now_us - scrub.tried_us < SCRUB_RETRY_US)
        return;
    bool deep = is_due(deep_us, SCRUB_DEEP_US, now_us, SCRUB_FIRST_DEEP_S, mon, pg);
    if (deep || is_due(light_us, SCRUB_LIGHT_US, now_us, first_light_s, mon, pg))
        order(mon, c, pg, deep, false);
}

static bool room(const struct mon_change *c)
{
    return c->count < MON_PUTS_PER_TXN;
}

/* Of PGs that are no more. */
static void settle_gone(struct mon *mon, struct mon_change *c)
{
    mon_for_each(mon, MON_SCRUB, node)
    {
        const struct mon_pg *p = mon_pg_find(mon, node->key);
        if (room(c) && (!p || mon_pg_item(p)->removed))
            mon_change_put(c, MON_SCRUB, node->key, NULL);
    }
}

void mon_scrub_settle(struct mon *mon, struct mon_change *c)
{
    bool look = mon->alive_ns - mon->scrub_looked_ns >= SCRUB_LOOK_NS;
    uint32_t had = c->count;

    if (!look && !mon->settle_due)
        return;
    mon_for_each(mon, MON_PG, node)
    {
        struct mon_pg *p = mon_pg_of(node);
        if (!room(c) || !pg_lives(mon, p))
            continue;
        if (p->scrub)
            settle_report(mon, c, p);
        else if (look && mon_pg_item(p)->born && !mon->state.scrub_paused)
            settle_due(mon, c, p);
    }
    if (look)
        settle_gone(mon, c);
    /* What was found is looked for again, with the turn. */
    if (look && c->count == had)
        mon->scrub_looked_ns = mon->alive_ns;
}

/* ---- for people ---- */

void mon_pg_show(struct mon_request *r)
{
    struct mon *mon = r->mon;
    uint64_t pg = r->call->pg_show->pg;
    const struct mon_pg *p = mon_pg_find(mon, pg);
    Fb__PgScrub scrub = scrub_of(mon, pg);
    Fb__PgReport report = FB__PG_REPORT__INIT, *reports[] = {&report}, *soft = NULL;

    if (!p || mon_pg_item(p)->removed) {
        mon_reply(r, mon_fail(r, -ERR_NOT_FOUND, "there is no PG %u.%x", mon_pg_pool(pg), mon_pg_number(pg)));
        return;
    }
    mon_pg_report(mon, p, &report);
    soft = p->scrub ? fb__pg_report__unpack(&mon_allocator, p->scrub_len, p->scrub) : NULL;
    if (soft)
        report.scrub = soft->scrub;
    r->reply.scrub = &scrub;
    r->reply.pg_reports = reports;
    r->reply.n_pg_reports = 1;
    mon_reply(r, 0);
    if (soft)
        fb__pg_report__free_unpacked(soft, &mon_allocator);
}
