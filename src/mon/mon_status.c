/* SPDX-License-Identifier: Apache-2.0
 *
 * What `fastblock status` and `fastblock pg ls` show: counts here, problems in mon_health.c. PG states come
 * from the leaders' reports.
 */
#include "mon/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEW_NS (5 * NS_PER_S)
#define BIRTH_NS                                                                                             \
    (60 * NS_PER_S) /* as long as it is not born and nobody leads it: of thousands the last come late */

static int compare_usage(const void *a, const void *b)
{
    const Fb__OsdUsage *left = *(Fb__OsdUsage *const *)a, *right = *(Fb__OsdUsage *const *)b;

    return (left->osd > right->osd) - (left->osd < right->osd);
}

Fb__OsdUsage *mon_status_usage(struct mon_status *st, uint32_t osd)
{
    Fb__OsdUsage key = {.osd = osd}, *key_pointer = &key, **found = NULL;

    if (st->message.n_usage)
        found = bsearch(&key_pointer, st->message.usage, st->message.n_usage, sizeof(*found), compare_usage);
    return found ? *found : NULL;
}

struct mon_missed *mon_status_missed(struct mon_status *st, uint32_t osd)
{
    const Fb__OsdUsage *usage = mon_status_usage(st, osd);

    return usage ? &st->missed[usage - st->usage] : NULL;
}

static bool is_up(const struct mon *mon, uint32_t osd)
{
    const struct mon_osd *o = mon_osd_find(mon, osd);

    return o && mon_osd_item(o)->up;
}

/* What is left of the PG, for those of its OSDs that are down. */
static void count_missed(struct mon_status *st, const Fb__Pg *pg)
{
    uint32_t left = 0, voters = 0;

    for (size_t m = 0; m < pg->n_member; m++) {
        voters += !pg->member[m]->learner;
        left += !pg->member[m]->learner && is_up(st->mon, pg->member[m]->osd);
    }
    for (size_t m = 0; m < pg->n_member && left < voters; m++) {
        uint32_t osd = pg->member[m]->osd;
        struct mon_missed *missed =
            pg->member[m]->learner || is_up(st->mon, osd) ? NULL : mon_status_missed(st, osd);
        if (!missed)
            continue;
        if (!missed->pgs++ || left < missed->left) {
            missed->left = left;
            missed->of = voters;
        }
    }
}

static void count_scrub(struct mon_status *st, uint64_t pg)
{
    const struct mon_scrub *s = mon_scrub_find(st->mon, pg);
    const Fb__PgScrub *item = s ? mon_scrub_item(s) : NULL;

    if (!item)
        return;
    st->message.scrubs_due += item->order != item->done;
    for (size_t i = 0; i < item->n_damage; i++)
        for (size_t b = 0; b < item->damage[i]->blocks.len; b++)
            st->message.damaged_blocks += (uint64_t)__builtin_popcount(item->damage[i]->blocks.data[b]);
    if (item->n_damage)
        mon_status_note_pg(st, PG_LOST, pg);
    if (item->result && item->result->differing) {
        st->message.differing += item->result->differing;
        mon_status_note_pg(st, PG_DIFFERS, pg);
    }
}

static void count_members(struct mon_status *st, const Fb__Pg *pg)
{
    for (size_t m = 0; m < pg->n_member + pg->n_wanted; m++) {
        const Fb__PgMember *row = m < pg->n_member ? pg->member[m] : pg->wanted[m - pg->n_member];
        bool again = false;
        for (size_t k = 0; k < pg->n_member && m >= pg->n_member; k++)
            again |= pg->member[k]->osd == row->osd;
        Fb__OsdUsage *usage = again ? NULL : mon_status_usage(st, row->osd);
        if (usage)
            usage->replicas++;
    }
}

/* Without a leader: for how long, and does anything help? */
static void count_force(struct mon_status *st, const struct mon_pg *p)
{
    struct mon_force_view v;

    mon_force_view(st->mon, p, &v);
    if (v.view.verdict == FB__FORCE_VERDICT__FORCE_POSSIBLE)
        mon_status_note_pg(st, PG_FORCE_DUE, v.view.pg);
    if (v.view.verdict == FB__FORCE_VERDICT__FORCE_WAITS)
        mon_status_note_pg(st, PG_FORCE_WAITS, v.view.pg);
    if (v.view.verdict == FB__FORCE_VERDICT__FORCE_FAILS)
        mon_status_note_pg(st, PG_FORCE_FAILS, v.view.pg);
    if (v.view.verdict == FB__FORCE_VERDICT__FORCE_NOTHING_LEFT)
        mon_status_note_pg(st, PG_FORCE_NOTHING, v.view.pg);
}

/* One that was just made, or split off another, is not out of order while its replicas find one another. */
static bool is_new(const struct mon *mon, const struct mon_pg *p)
{
    return p->new_ns &&
           mon->alive_ns - p->new_ns < (mon_pg_item(p)->born || p->reported_ns ? NEW_NS : BIRTH_NS);
}

static void count_pg(struct mon_status *st, struct mon_pg *p)
{
    const struct mon *mon = st->mon;
    const Fb__Pg *pg = mon_pg_item(p);
    struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(pg->id));

    if (pg->removed)
        return;
    if (!pool || mon_pool_item(pool)->removed) {
        st->pools_going++;
        return;
    }
    st->message.pgs++;
    count_scrub(st, pg->id);
    count_members(st, pg);
    count_missed(st, pg);
    if (pg->force && !pg->force->acknowledged) {
        mon_status_note_pg(st, PG_FORCED, pg->id);
        st->entries_lost += pg->force->entries_lost;
    }
    if (!mon_pg_reported(mon, p)) {
        if (is_new(mon, p))
            return;
        mon_status_note_pg(st, PG_NO_LEADER, pg->id);
        count_force(st, p);
        return;
    }
    st->message.pgs_active++;
    Fb__OsdUsage *leader = mon_status_usage(st, p->leader_osd);
    if (leader)
        leader->leaders++;
    bool degraded = p->in_contact < pg->n_member || pg->n_member < mon_pool_item(pool)->replicas;
    st->message.pgs_degraded += degraded;
    if (p->damaged)
        mon_status_note_pg(st, PG_DAMAGED, pg->id);
    else if (p->recovering)
        mon_status_note_pg(st, PG_RECOVERING, pg->id);
    else if (degraded && !is_new(mon, p))
        mon_status_note_pg(st, PG_DEGRADED, pg->id);
}

static void fill_usage(struct mon_osd *o, Fb__OsdUsage *usage)
{
    fb__osd_usage__init(usage);
    usage->osd = mon_osd_item(o)->id;
    usage->down_since_us = mon_osd_item(o)->up ? 0 : o->down_since_us;
    for (size_t s = 0; s < mon_osd_item(o)->n_shard; s++) {
        /* What is reserved by the log is not free, so it counts as used; before the first report neither is
         * known. */
        uint64_t size_bytes = mon_osd_item(o)->shard[s]->size_bytes, free_bytes = o->shard[s].free_bytes;
        if (o->shard[s].reported) {
            usage->used_bytes += size_bytes - MIN(size_bytes, free_bytes);
            usage->free_bytes += free_bytes;
        }
        if (o->shard[s].failed[0])
            usage->failed = o->shard[s].failed;
    }
}

static void fill_counts(struct mon_status *st)
{
    struct mon *mon = st->mon;
    Fb__ClusterStatus *m = &st->message;
    Fb__OsdUsage *usage = st->usage;

    m->epoch = mon->state.epoch;
    m->uptime_ms = mon->alive_ns / NS_PER_MS;
    m->version = (char *)mon->config.version;
    m->scrub_paused = mon->state.scrub_paused;
    m->noout = mon->state.noout;
    m->norebalance = mon->state.norebalance;
    m->paused = mon->state.paused;
    m->images = (uint32_t)mon->items[MON_IMAGE].count;
    m->usage = st->usage_pointers;
    mon_for_each(mon, MON_OSD, node)
    {
        struct mon_osd *o = mon_osd_of(node);
        if (mon_osd_item(o)->removed)
            continue;
        m->osds++;
        m->osds_up += mon_osd_item(o)->up;
        m->osds_in += mon_osd_in(mon_osd_item(o));
        fill_usage(o, usage);
        m->usage[m->n_usage++] = usage++;
    }
    qsort(m->usage, m->n_usage, sizeof(*m->usage), compare_usage);
    mon_for_each(mon, MON_POOL, node) m->pools += !mon_pool_item(mon_pool_of(node))->removed;
    mon_for_each(mon, MON_PG, node) count_pg(st, mon_pg_of(node));
    mon_progress_fill(mon, &st->progress);
    m->progress = &st->progress;
}

struct mon_status *mon_status_new(struct mon *mon)
{
    size_t osds = mon->items[MON_OSD].count;
    struct mon_status *st = calloc(1, sizeof(*st));

    if (!st)
        return NULL;
    st->mon = mon;
    st->usage = malloc((osds + 1) * sizeof(*st->usage));
    st->usage_pointers = malloc((osds + 1) * sizeof(*st->usage_pointers));
    st->missed = calloc(osds + 1, sizeof(*st->missed));
    fb__cluster_status__init(&st->message);
    if (!st->usage || !st->usage_pointers || !st->missed) {
        mon_status_free(st);
        return NULL;
    }
    fill_counts(st);
    mon_health_fill(st);
    return st;
}

void mon_status_free(struct mon_status *st)
{
    if (!st)
        return;
    free(st->usage);
    free(st->usage_pointers);
    free(st->missed);
    free(st);
}

void mon_status(struct mon_request *r)
{
    struct mon_status *st = mon_status_new(r->mon);

    if (st)
        r->reply.status = &st->message;
    mon_reply(r, st ? 0 : -ERR_NO_MEMORY);
    mon_status_free(st);
}

/* ---- pg ls ---- */

static int compare_reports(const void *a, const void *b)
{
    const Fb__PgReport *left = *(Fb__PgReport *const *)a, *right = *(Fb__PgReport *const *)b;

    return (left->pg > right->pg) - (left->pg < right->pg);
}

void mon_pg_report(const struct mon *mon, const struct mon_pg *pg, Fb__PgReport *ret)
{
    fb__pg_report__init(ret);
    ret->pg = mon_pg_item(pg)->id;
    ret->state = FB__PG_STATE__PG_NO_LEADER;
    if (!mon_pg_reported(mon, pg))
        return;
    ret->term = pg->term;
    ret->leader_osd = pg->leader_osd;
    ret->state = pg->damaged ? FB__PG_STATE__PG_DAMAGED : FB__PG_STATE__PG_ACTIVE;
    ret->damaged_osd = pg->damaged_osd;
    ret->in_contact = pg->in_contact;
    ret->objects = pg->objects;
    ret->recovering = pg->recovering;
}

void mon_pg_list(struct mon_request *r)
{
    struct mon *mon = r->mon;
    uint32_t pool = r->call->pg_list->pool;
    size_t count = 0, max = mon->items[MON_PG].count + 1;
    Fb__PgReport *reports = malloc(max * sizeof(*reports));
    Fb__PgReport **pointers = malloc(max * sizeof(Fb__PgReport *));

    mon_for_each(mon, MON_PG, node)
    {
        struct mon_pg *pg = mon_pg_of(node);
        if (!reports || !pointers || mon_pg_item(pg)->removed || node->key <= r->call->pg_list->after_pg ||
            (pool && mon_pg_pool(node->key) != pool))
            continue;
        Fb__PgReport *report = &reports[count];
        pointers[count++] = report;
        mon_pg_report(mon, pg, report);
    }
    if (count)
        qsort(pointers, count, sizeof(Fb__PgReport *), compare_reports);
    r->reply.pg_reports = pointers;
    r->reply.n_pg_reports = mon_page(r, (ProtobufCMessage *const *)pointers, count);
    mon_reply(r, reports && pointers ? 0 : -ERR_NO_MEMORY);
    free(pointers);
    free(reports);
}
