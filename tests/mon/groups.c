/* SPDX-License-Identifier: Apache-2.0
 *
 * The groups of groups.h.
 */
#include "tests/mon/groups.h"

#include <stdlib.h>
#include <string.h>

#define OBJECTS 10 /* of each PG */

static void boot(struct play *p, uint32_t osd)
{
    char address[32];

    snprintf(address, sizeof(address), "10.0.1.%u:%u", osd, 7000 + (uint32_t)p->starts[osd]);
    osd_start(&p->osds[osd], p->w, osd, p->starts[osd]);
    CHECK_EQ(osd_boot(&p->osds[osd], (uint8_t)(osd + 1), 0, 1, address), 0);
    p->up[osd] = true;
}

void play_start(struct play *p, uint32_t osd)
{
    p->starts[osd]++;
    p->free_bytes[osd] = 8ull << 30;
    boot(p, osd);
}

void play_kill(struct play *p, uint32_t osd)
{
    caller_stop(&p->osds[osd]);
    p->up[osd] = false;
}

struct play *play_new(uint32_t osds, uint64_t out_after_s)
{
    struct play *p = sim_alloc(sizeof(*p));

    p->w = world_new();
    p->w->out_after_ns = out_after_s * NS_PER_S;
    world_restart_mon(p->w);
    client_start(&p->client, p->w, 1);
    osds_up(p->w, p->osds, osds);
    p->osd_count = osds;
    for (uint32_t o = 0; o < osds; o++) {
        p->up[o] = true;
        p->starts[o] = 1;
        p->free_bytes[o] = 8ull << 30;
    }
    return p;
}

void play_add(struct play *p)
{
    uint32_t osd = p->osd_count++;
    char host[16];

    snprintf(host, sizeof(host), "h%u", osd);
    CHECK_EQ(osd_new(&p->client, (uint8_t)(osd + 1), host, "", 1), 0);
    CHECK_EQ(p->client.answer->osd, osd);
    play_start(p, osd);
}

void play_free(struct play *p)
{
    for (uint32_t o = 0; o < p->osd_count; o++)
        if (p->up[o])
            caller_stop(&p->osds[o]);
    caller_stop(&p->client);
    world_free(p->w);
    free(p);
}

void play_pool(struct play *p, uint32_t replicas, uint32_t pgs)
{
    CHECK_EQ(pool_create(&p->client, "p", replicas, pgs, "osd"), 0);
    CHECK_EQ(get_map(&p->client, 0), 0);
    p->pg_count = pgs;
    for (size_t i = 0; i < p->client.answer->map->n_pg; i++) {
        const Fb__Pg *item = p->client.answer->map->pg[i];
        struct play_pg *pg = &p->pgs[(uint32_t)item->id];
        pg->id = item->id;
        pg->leader = PLAY_OSDS;
        for (size_t m = 0; m < item->n_member; m++) {
            pg->member[pg->count++] = (struct play_member){item->member[m]->replica, item->member[m]->osd,
                                                           item->member[m]->shard, false};
            pg->replica_max = MAX(pg->replica_max, item->member[m]->replica);
            p->exists[item->member[m]->osd][(uint32_t)item->id] = item->member[m]->replica;
        }
    }
    play_run(p, 7); /* the monitor decides nothing when it has just started */
}

const Fb__Pg *play_item(const struct play *p, uint32_t pg)
{
    const Fb__ClusterMap *map = p->client.answer->map;

    for (size_t i = 0; i < map->n_pg; i++)
        if ((uint32_t)map->pg[i]->id == pg)
            return map->pg[i];
    return NULL;
}

/* ---- a leader's work ---- */

static struct play_member *find(struct play_pg *pg, uint32_t replica)
{
    for (uint32_t m = 0; m < pg->count; m++)
        if (pg->member[m].replica == replica)
            return &pg->member[m];
    return NULL;
}

static void elect(struct play *p, struct play_pg *pg)
{
    uint32_t voters = 0, there = 0, first = PLAY_OSDS;

    for (uint32_t m = 0; m < pg->count; m++) {
        const struct play_member *x = &pg->member[m];
        if (x->learner)
            continue;
        voters++;
        if (!p->up[x->osd] || p->failed[x->osd] || p->exists[x->osd][(uint32_t)pg->id] != x->replica)
            continue;
        there++;
        if (first == PLAY_OSDS || x->osd == pg->leader)
            first = x->osd;
    }
    if (there * 2 <= voters || p->no_elections)
        first = PLAY_OSDS;
    pg->term += first != pg->leader;
    pg->leader = first;
}

static bool row_born(const Fb__Pg *item, uint32_t replica)
{
    for (size_t i = 0; i < item->n_wanted; i++)
        if (item->wanted[i]->replica == replica)
            return !item->wanted[i]->birth || item->wanted[i]->born;
    return true; /* an older list: it was */
}

static void lead(struct play *p, struct play_pg *pg, const Fb__Pg *item)
{
    struct play_member wanted[16];
    uint32_t count = 0, missing = 0;
    uint64_t epoch = item->wanted_epoch;
    bool ready = true;

    for (size_t i = 0; i < item->n_wanted; i++)
        wanted[count++] = (struct play_member){item->wanted[i]->replica, item->wanted[i]->osd,
                                               item->wanted[i]->shard, false};
    if (pg->stale_count) {
        count = pg->stale_count;
        epoch = pg->stale_epoch;
        memcpy(wanted, pg->stale, count * sizeof(*wanted));
    }
    if (pg->stuck || !count || epoch < pg->epoch)
        return;
    for (uint32_t i = 0; i < count; i++) {
        if (!find(pg, wanted[i].replica)) {
            pg->member[pg->count] = wanted[i];
            pg->member[pg->count++].learner = true;
            CHECK(pg->count <= 12);
            missing++;
        }
        bool there = p->up[wanted[i].osd] && row_born(item, wanted[i].replica) &&
                     p->exists[wanted[i].osd][(uint32_t)pg->id] == wanted[i].replica &&
                     !p->no_room[wanted[i].osd];
        ready &= there || !find(pg, wanted[i].replica)->learner; /* a voter that is away holds nothing up */
    }
    if (missing) {
        pg->index += 3;
        pg->epoch = epoch;
        return;
    }
    bool same = pg->count == count && pg->epoch == epoch;
    for (uint32_t i = 0; i < count; i++)
        same &= !find(pg, wanted[i].replica)->learner;
    if (!ready || same)
        return;
    for (uint32_t i = 0; i < count; i++) {
        bool is_new = find(pg, wanted[i].replica)->learner;
        p->copies += is_new;
        CHECK(!is_new || wanted[i].replica > pg->replica_max || pg->stale_count);
    }
    for (uint32_t i = 0; i < count; i++)
        pg->replica_max = MAX(pg->replica_max, wanted[i].replica);
    memcpy(pg->member, wanted, count * sizeof(*wanted));
    pg->count = count;
    pg->index += 5;
    pg->epoch = epoch;
}

/* ---- reports ---- */

struct pages {
    Fb__PgReport report[PLAY_PGS], *reports[PLAY_PGS];
    Fb__PgConfirm confirm[4 * PLAY_PGS], *confirms[4 * PLAY_PGS];
    Fb__PgMember member[PLAY_PGS][16], *members[PLAY_PGS][16];
    Fb__PgStanding standing[PLAY_PGS], *standings[PLAY_PGS];
    uint32_t voters[PLAY_PGS][16];
};

static void tell_group(struct pages *pages, uint32_t row, const struct play_pg *pg)
{
    Fb__PgReport *to = &pages->report[row];

    to->group_index = pg->index;
    to->group_epoch = pg->epoch;
    to->group = pages->members[row];
    for (uint32_t m = 0; m < pg->count; m++) {
        Fb__PgMember *x = pages->members[row][m] = &pages->member[row][m];
        fb__pg_member__init(x);
        x->replica = pg->member[m].replica;
        x->osd = pg->member[m].osd;
        x->shard = pg->member[m].shard;
        x->learner = pg->member[m].learner;
        to->n_group++;
    }
}

static Fb__PgConfirm *confirm(struct pages *pages, Fb__ShardReport *report, uint32_t osd, uint64_t pg,
                              uint32_t replica)
{
    Fb__PgConfirm *c = pages->confirms[report->n_confirm] = &pages->confirm[report->n_confirm];

    fb__pg_confirm__init(c);
    report->n_confirm++;
    c->pg = pg;
    c->osd = osd;
    c->replica = replica;
    return c;
}

/* It goes on alone, when the map says that the others have ended. */
static void obey_force(struct play *p, uint32_t osd, const Fb__Pg *item)
{
    uint32_t n = (uint32_t)item->id;
    struct play_pg *pg = &p->pgs[n];

    if (!item->force || p->exists[osd][n] != item->force->survivor || item->member[0]->osd != osd)
        return;
    for (size_t i = 0; i < item->n_dropped; i++)
        if (item->dropped[i]->replica < item->force->replica)
            return;
    CHECK_EQ(pg->leader, PLAY_OSDS);
    p->exists[osd][n] = pg->replica_max = item->force->replica;
    pg->member[0] = (struct play_member){item->force->replica, osd, 0, false};
    pg->count = 1;
    pg->index = p->log_index[osd][n];
    pg->epoch = item->force->epoch;
    CHECK(item->force->term >= pg->term + (1ull << 32));
    pg->term = item->force->term;
}

static size_t numbers(const uint32_t *list)
{
    size_t count = 0;

    while (list[count])
        count++;
    return count;
}

static void tell_standing(struct play *p, uint32_t osd, uint32_t n, struct pages *pages,
                          Fb__ShardReport *report)
{
    const struct play_member *m = find(&p->pgs[n], p->exists[osd][n]);

    if (p->pgs[n].leader != PLAY_OSDS || !p->exists[osd][n] || p->no_standings)
        return;
    Fb__PgStanding *to = pages->standings[report->n_standing] = &pages->standing[report->n_standing];
    fb__pg_standing__init(to);
    report->n_standing++;
    to->pg = p->pgs[n].id;
    to->replica = p->exists[osd][n];
    to->state = p->standing_state[osd][n];
    to->voter = m && !m->learner;
    to->voters = pages->voters[report->n_standing - 1];
    for (uint32_t k = 0, at = 0; k < p->pgs[n].count; k++)
        if (!p->pgs[n].member[k].learner)
            to->voters[at++] = p->pgs[n].member[k].replica;
    if (p->voters[osd][n][0])
        to->voters = p->voters[osd][n];
    to->n_voters = numbers(to->voters);
    to->voters_before = p->before[osd][n];
    to->n_voters_before = numbers(to->voters_before);
    to->term = p->pgs[n].term;
    to->log_term = 1;
    to->log_index = p->log_index[osd][n];
    to->commit_index = to->log_index;
}

/* What the OSD does as the map orders, and tells of its replica. */
static void obey(struct play *p, uint32_t osd, const Fb__Pg *item, struct pages *pages,
                 Fb__ShardReport *report)
{
    uint32_t n = (uint32_t)item->id, *exists = &p->exists[osd][n];

    for (size_t i = 0; p->pool_removed && i < item->n_member; i++) {
        if (item->member[i]->osd != osd)
            continue;
        *exists = 0;
        confirm(pages, report, osd, item->id, 0)->pg_removed = true;
    }
    for (size_t i = 0; i < item->n_dropped; i++) {
        if (item->dropped[i]->osd != osd)
            continue;
        CHECK(p->pool_removed || !find(&p->pgs[n], item->dropped[i]->replica) ||
              (item->force && item->dropped[i]->replica < item->force->replica) ||
              find(&p->pgs[n], item->dropped[i]->replica)->learner);
        if (*exists == item->dropped[i]->replica)
            *exists = 0;
        confirm(pages, report, osd, item->id, item->dropped[i]->replica)->dropped = true;
    }
    obey_force(p, osd, item);
    for (size_t i = 0; i < item->n_member; i++)
        if (item->member[i]->osd == osd && item->member[i]->birth && !item->member[i]->born &&
            *exists == item->member[i]->replica)
            confirm(pages, report, osd, item->id, *exists)->born = true;
    for (size_t i = 0; i < item->n_wanted; i++) {
        const Fb__PgMember *m = item->wanted[i];
        if (m->osd != osd || !m->birth || m->born)
            continue;
        if (!*exists)
            *exists = m->replica;
        if (*exists == m->replica)
            confirm(pages, report, osd, item->id, m->replica)->born = true;
    }
    for (size_t i = 0; p->tell_lost && i < item->n_member; i++)
        if (item->member[i]->osd == osd && !*exists && item->born &&
            (!item->member[i]->birth || item->member[i]->born))
            confirm(pages, report, osd, item->id, item->member[i]->replica)->lost = true;
    for (size_t i = 0; p->tell_lost && i < item->n_wanted; i++)
        if (item->wanted[i]->osd == osd && !*exists && item->wanted[i]->born)
            confirm(pages, report, osd, item->id, item->wanted[i]->replica)->lost = true;
    if (!item->born && *exists)
        confirm(pages, report, osd, item->id, *exists)->born = true;
}

static void report_osd(struct play *p, uint32_t osd)
{
    struct pages *pages = sim_alloc(sizeof(*pages));
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    report.epoch = p->heard_epoch ? p->heard_epoch : p->client.answer->map->epoch;
    report.free_bytes = p->free_bytes[osd];
    for (uint32_t n = 0; n < p->pg_count && p->no_room[osd]; n++) {
        const struct play_member *m = find(&p->pgs[n], p->exists[osd][n]);
        if (!m || !m->learner)
            continue;
        report.lacks_room++;
        report.lacks_room_pg = p->pgs[n].id;
    }
    report.pg = pages->reports;
    report.confirm = pages->confirms;
    report.standing = pages->standings;
    report.failed = (char *)(p->failed[osd] ? "a write failed" : "");
    for (uint32_t n = 0; n < p->pg_count && !p->failed[osd]; n++) {
        struct play_pg *pg = &p->pgs[n];
        const Fb__Pg *item = play_item(p, n);
        if (!item)
            continue;
        obey(p, osd, item, pages, &report);
        elect(p, pg);
        tell_standing(p, osd, n, pages, &report);
        if (pg->leader != osd)
            continue;
        lead(p, pg, item);
        if (pg->silent)
            continue;
        Fb__PgReport *to = pages->reports[report.n_pg] = &pages->report[report.n_pg];
        fb__pg_report__init(to);
        to->pg = pg->id;
        to->term = pg->term;
        to->objects = OBJECTS;
        to->replica = p->exists[osd][n];
        to->commit_index = 100;
        for (uint32_t m = 0; m < pg->count; m++)
            to->in_contact += p->up[pg->member[m].osd] && !p->failed[pg->member[m].osd];
        if (pg->index != item->group_index)
            tell_group(pages, (uint32_t)report.n_pg, pg);
        report.n_pg++;
    }
    CHECK_EQ(osd_report(&p->osds[osd], 0, &report), 0);
    free(pages);
}

static void watch_moves(struct play *p)
{
    uint32_t to[PLAY_OSDS] = {0};

    for (uint32_t n = 0; n < p->pg_count; n++) {
        const Fb__Pg *item = play_item(p, n);
        for (size_t i = 0; item && i < item->n_wanted; i++) {
            const struct play_member *m = find(&p->pgs[n], item->wanted[i]->replica);
            to[item->wanted[i]->osd] += !m || m->learner;
        }
    }
    for (uint32_t o = 0; o < PLAY_OSDS; o++) {
        p->most_moves = MAX(p->most_moves, to[o]);
        p->osd_moves[o] = MAX(p->osd_moves[o], to[o]);
    }
}

void play_round(struct play *p)
{
    CHECK_EQ(get_map(&p->client, 0), 0);
    watch_moves(p);
    for (uint32_t o = 0; o < p->osd_count; o++)
        if (p->up[o])
            report_osd(p, o);
    world_run_ms(p->w, 250);
    CHECK_EQ(get_map(&p->client, 0), 0);
}

void play_run(struct play *p, uint32_t seconds)
{
    for (uint32_t i = 0; i < 4 * seconds; i++)
        play_round(p);
}

uint32_t play_replicas(const struct play *p, uint32_t osd)
{
    uint32_t count = 0;

    for (uint32_t n = 0; n < p->pg_count; n++)
        for (uint32_t m = 0; m < p->pgs[n].count; m++)
            count += p->pgs[n].member[m].osd == osd;
    return count;
}

uint32_t play_unsettled(const struct play *p)
{
    uint32_t count = 0;

    for (uint32_t n = 0; n < p->pg_count; n++) {
        const Fb__Pg *item = play_item(p, n);
        count += item && (item->n_wanted || item->n_leaving || item->n_dropped);
    }
    return count;
}

bool play_settle(struct play *p, uint32_t seconds)
{
    for (uint32_t i = 0; i < seconds; i++) {
        play_run(p, 1);
        uint32_t calm = 0;
        for (uint32_t k = 0; k < 3 && !play_unsettled(p); k++, calm++)
            play_run(p, 1);
        if (calm == 3)
            return true;
    }
    return false;
}
