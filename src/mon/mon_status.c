/* SPDX-License-Identifier: Apache-2.0
 *
 * Status: counts, and health problems in plain words that say what to do. PG states come from the leaders'
 * reports.
 */
#include "mon/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBLEMS_MAX  64
#define PROBLEM_BYTES 400
#define EXAMPLES      3 /* PGs named in a problem */

enum pg_problem { PG_NO_LEADER, PG_DAMAGED, PG_RECOVERING, PG_DEGRADED, PG_LOST, PG_DIFFERS, PG_PROBLEMS };

struct status {
    struct mon *mon;
    Fb__ClusterStatus message;
    bool error, warning;
    char *problem[PROBLEMS_MAX];
    uint32_t pg_count[PG_PROBLEMS];
    char pg_examples[PG_PROBLEMS][80];
    uint32_t pools_going; /* PGs of removed pools that still have data somewhere */
};

static void problem(struct status *st, bool error, const char *format, ...) PRINTF_LIKE(3, 4);
static void problem(struct status *st, bool error, const char *format, ...)
{
    va_list args;

    *(error ? &st->error : &st->warning) = true;
    if (st->message.n_problem == PROBLEMS_MAX)
        return;
    char *text = malloc(PROBLEM_BYTES);
    if (!text)
        return;
    va_start(args, format);
    vsnprintf(text, PROBLEM_BYTES, format, args);
    va_end(args);
    st->problem[st->message.n_problem++] = text;
}

static void note_pg(struct status *st, enum pg_problem what, uint64_t pg)
{
    size_t used = strlen(st->pg_examples[what]);

    if (st->pg_count[what]++ < EXAMPLES)
        snprintf(st->pg_examples[what] + used, sizeof(st->pg_examples[what]) - used, "%s%u.%x",
                 used ? ", " : "", mon_pg_pool(pg), mon_pg_number(pg));
    else if (st->pg_count[what] == EXAMPLES + 1)
        snprintf(st->pg_examples[what] + used, sizeof(st->pg_examples[what]) - used, ", ...");
}

static bool starting(const struct mon *mon)
{
    return mon->alive_ns < mon->config.osd_down_after_ns;
}

static Fb__OsdUsage *usage_of(struct status *st, uint32_t osd)
{
    for (size_t i = 0; i < st->message.n_usage; i++)
        if (st->message.usage[i]->osd == osd)
            return st->message.usage[i];
    return NULL;
}

/* ---- PGs ---- */

static void count_scrub(struct status *st, uint64_t pg)
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
        note_pg(st, PG_LOST, pg);
    if (item->result && item->result->differing) {
        st->message.differing += item->result->differing;
        note_pg(st, PG_DIFFERS, pg);
    }
}

static void count_pg(struct status *st, struct mon_pg *p)
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
    for (size_t m = 0; m < pg->n_member; m++) {
        Fb__OsdUsage *usage = usage_of(st, pg->member[m]->osd);
        if (usage)
            usage->replicas++;
    }
    if (!mon_pg_reported(mon, p) || p->state == 3) {
        note_pg(st, PG_NO_LEADER, pg->id);
        return;
    }
    st->message.pgs_active++;
    Fb__OsdUsage *leader = usage_of(st, p->leader_osd);
    if (leader)
        leader->leaders++;
    if (p->in_contact < pg->n_member)
        st->message.pgs_degraded++;
    if (p->state == 2)
        note_pg(st, PG_DAMAGED, pg->id);
    else if (p->state == 1 || p->recovering)
        note_pg(st, PG_RECOVERING, pg->id);
    else if (p->in_contact < pg->n_member)
        note_pg(st, PG_DEGRADED, pg->id);
}

/* PGs that a down OSD is missing in: what they have left is said per number of replicas. */
static void count_lost(const struct mon *mon, uint32_t osd, uint32_t *ret_pgs, uint32_t *ret_left,
                       uint32_t *ret_of)
{
    *ret_pgs = 0;
    *ret_left = *ret_of = MON_REPLICAS_MAX;
    mon_for_each(mon, MON_PG, node)
    {
        const Fb__Pg *pg = mon_pg_item(mon_pg_of(node));
        uint32_t left = 0;
        bool member = false;
        for (size_t m = 0; m < pg->n_member; m++) {
            struct mon_osd *o = mon_osd_find(mon, pg->member[m]->osd);
            member |= pg->member[m]->osd == osd;
            left += o && mon_osd_item(o)->up;
        }
        struct mon_pool *pool = mon_pool_find(mon, mon_pg_pool(pg->id));
        if (!member || pg->removed || !pool || mon_pool_item(pool)->removed)
            continue;
        ++*ret_pgs;
        if (left < *ret_left) {
            *ret_left = left;
            *ret_of = (uint32_t)pg->n_member;
        }
    }
}

static void pg_problems(struct status *st)
{
    if (starting(st->mon) && st->pg_count[PG_NO_LEADER]) {
        problem(st, false, "the monitor has just started: %u PGs have not reported yet",
                st->pg_count[PG_NO_LEADER]);
        st->pg_count[PG_NO_LEADER] = 0;
    }
    if (st->pg_count[PG_NO_LEADER])
        problem(
            st, true,
            "%u PGs have no leader (%s): reads and writes there wait. A majority of each PG's OSDs must be up: start the OSDs that "
            "are down (`fastblock pg ls` shows which)",
            st->pg_count[PG_NO_LEADER], st->pg_examples[PG_NO_LEADER]);
    if (st->pg_count[PG_DAMAGED])
        problem(
            st, true,
            "%u PGs have a damaged replica (%s): they go on with the others; look at the log of the OSDs concerned",
            st->pg_count[PG_DAMAGED], st->pg_examples[PG_DAMAGED]);
    if (st->pg_count[PG_RECOVERING])
        problem(st, false,
                "%u PGs are copying data to a replica that was away (%s): nothing to do, it takes a while",
                st->pg_count[PG_RECOVERING], st->pg_examples[PG_RECOVERING]);
    if (st->pg_count[PG_DEGRADED])
        problem(st, false, "%u PGs have fewer replicas in contact than they should (%s)",
                st->pg_count[PG_DEGRADED], st->pg_examples[PG_DEGRADED]);
    if (st->pg_count[PG_LOST])
        problem(
            st, true,
            "%" PRIu64
            " blocks are damaged on every replica that could be asked, in %u PGs (%s): reading them fails, all "
            "else goes on. `fastblock pg show PG` lists them; they are whole again once they are written, or when an OSD "
            "that has them comes back",
            st->message.damaged_blocks, st->pg_count[PG_LOST], st->pg_examples[PG_LOST]);
    if (st->pg_count[PG_DIFFERS])
        problem(
            st, true,
            "%" PRIu64
            " objects are not the same on all replicas though their checksums are right, in %u PGs (%s): "
            "`fastblock pg show PG` tells which; `fastblock pg repair PG` makes them what most replicas have",
            st->message.differing, st->pg_count[PG_DIFFERS], st->pg_examples[PG_DIFFERS]);
    if (st->message.scrub_paused)
        problem(st, false, "scrubs are paused: `fastblock scrub resume` lets them go on");
    if (st->pools_going)
        problem(
            st, false,
            "%u PGs of removed pools still have data: it is deleted once all of their OSDs are up (nothing to do if they are)",
            st->pools_going);
}

/* ---- OSDs ---- */

static void osd_down_problem(struct status *st, struct mon_osd *o)
{
    const struct mon *mon = st->mon;
    const Fb__Osd *osd = mon_osd_item(o);
    uint32_t pgs, left, of;
    char since[48] = "", lost[96] = "no PG is there";

    if (o->down_ns)
        snprintf(since, sizeof(since), " since %" PRIu64 " s",
                 (uint64_t)((mon->alive_ns - o->down_ns) / NS_PER_S));
    count_lost(mon, osd->id, &pgs, &left, &of);
    if (pgs)
        snprintf(lost, sizeof(lost), "%u PGs have only %u of %u replicas", pgs, left, of);
    problem(
        st, pgs && left * 2 <= of,
        "osd.%u is down%s: %s; start it again with `fastblock-osd run DEVICE --mon ADDR` on host %s (in a one-machine "
        "cluster: `fastblock cluster start DIR osd.%u`)",
        osd->id, since, lost, osd->host[0] ? osd->host : "?", osd->id);
}

/* What its device lost or returned wrong since its process started. */
static void damage_problem(struct status *st, const struct mon_osd *o)
{
    uint64_t objects = 0, repaired = 0, unrepaired = 0;
    uint32_t id = mon_osd_item(o)->id;

    for (size_t s = 0; s < mon_osd_item(o)->n_shard; s++) {
        objects += o->shard[s].damaged_objects;
        repaired += o->shard[s].repaired_blocks;
        unrepaired += o->shard[s].unrepaired_reads;
    }
    if (unrepaired)
        problem(st, true,
                "osd.%u met damage that no other replica could repair: %" PRIu64
                " reads ended with an error; look at its log, and replace its device",
                id, unrepaired);
    if (objects || repaired)
        problem(
            st, false,
            "osd.%u: its device returned wrong data since it was started: %" PRIu64
            " objects were damaged, %" PRIu64
            " blocks have been restored from other replicas; nothing is lost, but consider replacing the device",
            id, objects, repaired);
}

static void osd_problems(struct status *st, struct mon_osd *o)
{
    const Fb__Osd *osd = mon_osd_item(o);
    Fb__OsdUsage *usage = usage_of(st, osd->id);

    if (!osd->incarnation)
        problem(
            st, false,
            "osd.%u was formatted but has never been started: start it with `fastblock-osd run DEVICE --mon ADDR`",
            osd->id);
    else if (!osd->up)
        osd_down_problem(st, o);
    damage_problem(st, o);
    for (size_t s = 0; s < osd->n_shard; s++) {
        const struct mon_shard *shard = &o->shard[s];
        if (shard->failed[0])
            problem(st, true,
                    "osd.%u shard %zu took itself out of service: %s. Replace the device, or restart the OSD",
                    osd->id, s, shard->failed);
        else if (osd->up && !starting(st->mon) &&
                 st->mon->alive_ns - MAX(shard->heard_ns, (uint64_t)MON_TICK_NS) >=
                     st->mon->config.osd_down_after_ns)
            problem(st, false, "osd.%u is up, but its shard %zu does not report: look at its log", osd->id,
                    s);
    }
    if (usage && usage->used_bytes + usage->free_bytes &&
        usage->free_bytes < (usage->used_bytes + usage->free_bytes) / 10)
        problem(
            st, usage->free_bytes < (usage->used_bytes + usage->free_bytes) / 50,
            "osd.%u is %" PRIu64
            "%% full: writes are refused when it is full; remove or shrink images, or discard what they do not need",
            osd->id, usage->used_bytes * 100 / (usage->used_bytes + usage->free_bytes));
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

static int compare_usage(const void *a, const void *b)
{
    const Fb__OsdUsage *left = *(Fb__OsdUsage *const *)a, *right = *(Fb__OsdUsage *const *)b;

    return (left->osd > right->osd) - (left->osd < right->osd);
}

static void fill_status(struct status *st, Fb__OsdUsage *usage)
{
    struct mon *mon = st->mon;
    Fb__ClusterStatus *m = &st->message;

    m->epoch = mon->state.epoch;
    m->uptime_ms = mon->alive_ns / NS_PER_MS;
    m->version = (char *)mon->config.version;
    m->scrub_paused = mon->state.scrub_paused;
    m->images = (uint32_t)mon->items[MON_IMAGE].count;
    if (mon->behind[0])
        problem(st, true, "%.300s: stop the monitor and start it on its newest data", mon->behind);
    if (mon->stale)
        problem(
            st, true,
            "the monitor cannot write its metadata: look at its log and at the disk under its data directory");
    mon_for_each(mon, MON_OSD, node)
    {
        struct mon_osd *o = mon_osd_of(node);
        if (mon_osd_item(o)->removed)
            continue;
        m->osds++;
        m->osds_up += mon_osd_item(o)->up;
        fill_usage(o, usage);
        m->usage[m->n_usage++] = usage++;
    }
    qsort(m->usage, m->n_usage, sizeof(*m->usage), compare_usage);
    mon_for_each(mon, MON_POOL, node) m->pools += !mon_pool_item(mon_pool_of(node))->removed;
    mon_for_each(mon, MON_PG, node) count_pg(st, mon_pg_of(node));
    for (size_t i = 0; i < m->n_usage; i++)
        osd_problems(st, mon_osd_find(mon, m->usage[i]->osd));
    pg_problems(st);
    if (!m->osds)
        problem(
            st, false,
            "there are no OSDs yet: format a device with `fastblock-osd format DEVICE --mon ADDR` and run it");
    m->problem = st->problem;
    m->health = (char *)(st->error ? "error" : st->warning ? "warning" : "ok");
}

void mon_status(struct mon_request *r)
{
    size_t osds = r->mon->items[MON_OSD].count;
    struct status *st = calloc(1, sizeof(*st));
    Fb__OsdUsage *usage = malloc((osds + 1) * sizeof(*usage));
    Fb__OsdUsage **pointers = malloc((osds + 1) * sizeof(Fb__OsdUsage *));
    int error = -ERR_NO_MEMORY;

    if (st && usage && pointers) {
        error = 0;
        st->mon = r->mon;
        fb__cluster_status__init(&st->message);
        st->message.usage = pointers;
        fill_status(st, usage);
        r->reply.status = &st->message;
    }
    mon_reply(r, error);
    for (size_t i = 0; st && i < st->message.n_problem; i++)
        free(st->problem[i]);
    free(pointers);
    free(usage);
    free(st);
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
    ret->state = 3;
    if (!mon_pg_reported(mon, pg))
        return;
    ret->term = pg->term;
    ret->leader_osd = pg->leader_osd;
    ret->state = pg->state;
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
