/* SPDX-License-Identifier: Apache-2.0
 *
 * Scrubs as the monitor sees them: orders until they are done, results and the list of damage that survive
 * it, the pause, and when the next one is due.
 */
#include <string.h>

#include "tests/mon/world.h"

#define PGS     4
#define PG(n)   (1ull << 32 | (n))
#define HOUR_MS 3600000ull

static uint64_t bits[BLOCKS_PER_OBJECT / 64];

static int scrub(struct caller *c, uint64_t pg, bool deep, bool repair)
{
    Fb__PgScrubRequest body = FB__PG_SCRUB_REQUEST__INIT;

    body.pg = pg;
    body.deep = deep;
    body.repair = repair;
    REQUEST(pg_scrub, PG_SCRUB);
    return call(c, &request);
}

static int scrub_pause(struct caller *c, bool pause)
{
    Fb__ScrubPause body = FB__SCRUB_PAUSE__INIT;

    body.pause = pause;
    REQUEST(scrub_pause, SCRUB_PAUSE);
    return call(c, &request);
}

static const Fb__PgScrub *show(struct caller *c, uint64_t pg)
{
    Fb__PgShow body = FB__PG_SHOW__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    body.pg = pg;
    request.call_case = FB__MON_REQUEST__CALL_PG_SHOW;
    request.pg_show = &body;
    CHECK_EQ(call(c, &request), 0);
    CHECK(c->answer->scrub && c->answer->n_pg_reports == 1);
    return c->answer->scrub;
}

/* The OSD leads all PGs; of PG(0) it says this. The orders are in its answer. */
static void lead(struct caller *osd, const Fb__PgReport *of_first)
{
    Fb__PgReport rows[PGS], *pgs[PGS];
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    for (uint32_t n = 0; n < PGS; n++) {
        if (n == 0 && of_first)
            rows[n] = *of_first;
        else
            fb__pg_report__init(&rows[n]);
        rows[n].pg = PG(n);
        rows[n].term = 5;
        rows[n].in_contact = 3;
        pgs[n] = &rows[n];
    }
    report.pg = pgs;
    report.n_pg = PGS;
    report.free_bytes = 1ull << 33;
    CHECK_EQ(osd_report(osd, 0, &report), 0);
}

static const Fb__ScrubOrder *order_of(const struct caller *osd, uint64_t pg)
{
    for (size_t i = 0; i < osd->answer->n_scrub_order; i++)
        if (osd->answer->scrub_order[i]->pg == pg)
            return osd->answer->scrub_order[i];
    return NULL;
}

static void report_result(struct world *w, struct caller *osd, uint64_t order, bool deep, uint32_t replicas,
                          uint64_t differing)
{
    Fb__PgReport report = FB__PG_REPORT__INIT;
    Fb__ScrubResult result = FB__SCRUB_RESULT__INIT;

    result.order = order;
    result.deep = deep;
    result.objects = 10 + order;
    result.replicas = replicas;
    result.differing = differing;
    report.scrub = &result;
    report.scrub_done = true;
    lead(osd, &report);
    world_run_ms(w, 300);
    lead(osd, NULL);
}

static void report_done_of(struct world *w, struct caller *osd, uint64_t order, bool deep, uint32_t replicas)
{
    report_result(w, osd, order, deep, replicas, 0);
}

static void report_done(struct world *w, struct caller *osd, uint64_t order, bool deep)
{
    report_done_of(w, osd, order, deep, 3);
}

/* `blocks`: the first word of the bitmap; 0: it is whole. */
static void report_damage(struct world *w, struct caller *osd, uint64_t object, uint64_t blocks)
{
    Fb__PgReport report = FB__PG_REPORT__INIT;
    Fb__PgDamage damage = FB__PG_DAMAGE__INIT, *damages[] = {&damage};

    bits[0] = blocks;
    damage.image = 7;
    damage.object = object;
    if (blocks)
        damage.blocks = (ProtobufCBinaryData){sizeof(bits), (uint8_t *)bits};
    report.damage = damages;
    report.n_damage = 1;
    lead(osd, &report);
    world_run_ms(w, 300);
    lead(osd, NULL);
}

static struct world *begin(struct caller *client, struct caller *osds)
{
    struct world *w = world_new();

    client_start(client, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(client, "rbd", 3, PGS, "osd"), 0);
    world_run_ms(w, 300);
    osds_confirm(osds, 3);
    world_run_ms(w, 300);
    return w;
}

static void end(struct world *w, struct caller *client, struct caller *osds)
{
    callers_stop(osds, 3);
    caller_stop(client);
    world_free(w);
}

static void restart(struct world *w, struct caller *osds)
{
    world_crash_mon(w);
    world_want_mon(w);
    for (int i = 0; i < 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%d:7000", i);
        int error = osd_boot(&osds[i], (uint8_t)(i + 1), 0, 1, address);
        CHECK_EQ(error, 0);
    }
}

static void orders(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    lead(&osds[0], NULL);
    CHECK_EQ(osds[0].answer->n_scrub_order, 0);
    CHECK_EQ(scrub(&client, PG(0), true, false), 0);
    CHECK_EQ(status(&client), 0);
    CHECK_EQ(client.answer->status->scrubs_due, 1);
    /* Whoever leads is told, until it is done. */
    for (int i = 0; i < 3; i++) {
        lead(&osds[i], NULL);
        const Fb__ScrubOrder *order = order_of(&osds[i], PG(0));
        CHECK(order && order->order == 1 && order->deep && !order->repair);
        CHECK(!order_of(&osds[i], PG(1)));
    }
    restart(w, osds);
    lead(&osds[0], NULL);
    CHECK(order_of(&osds[0], PG(0)));
    report_done(w, &osds[0], 7, true); /* another one */
    CHECK(order_of(&osds[0], PG(0)));
    /* What one that is not done wanted stays wanted. */
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    report_done(w, &osds[0], 1, true);
    CHECK(order_of(&osds[0], PG(0))->order == 2 && order_of(&osds[0], PG(0))->deep);
    report_done(w, &osds[0], 2, true);
    CHECK(!order_of(&osds[0], PG(0)));
    restart(w, osds);
    const Fb__PgScrub *s = show(&client, PG(0));
    CHECK(s->order == 2 && s->done == 2 && s->light_us && s->deep_us == s->light_us);
    CHECK(s->result->objects == 12 && s->result->deep);
    CHECK(!show(&client, PG(1))->light_us);
    CHECK_EQ(scrub(&client, 0, false, false), 0);
    CHECK_EQ(status(&client), 0);
    CHECK_EQ(client.answer->status->scrubs_due, PGS);
    CHECK_EQ(scrub(&client, PG(0), true, true), 0);
    lead(&osds[0], NULL);
    CHECK(order_of(&osds[0], PG(0))->repair && order_of(&osds[0], PG(0))->deep);
    CHECK(!order_of(&osds[0], PG(1))->repair && !order_of(&osds[0], PG(1))->deep);
    CHECK_EQ(scrub(&client, 0, true, true), -ERR_INVALID);
    CHECK_EQ(scrub(&client, PG(PGS), false, false), -ERR_NOT_FOUND);
    CHECK(strstr(said(&client), "there is no PG 1.4"));
    end(w, &client, osds);
}

static void pauses(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    CHECK_EQ(scrub_pause(&client, true), 0);
    CHECK_EQ(scrub_pause(&client, true), 0);
    restart(w, osds);
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    CHECK(strstr(said(&client), "paused"));
    lead(&osds[0], NULL);
    CHECK(osds[0].answer->scrub_paused && order_of(&osds[0], PG(0)));
    CHECK_EQ(status(&client), 0);
    CHECK(client.answer->status->scrub_paused && client.answer->status->n_problem);
    CHECK_EQ(scrub_pause(&client, false), 0);
    lead(&osds[0], NULL);
    CHECK(!osds[0].answer->scrub_paused && order_of(&osds[0], PG(0)));
    end(w, &client, osds);
}

static bool status_says(struct caller *client, const char *text)
{
    CHECK_EQ(status(client), 0);
    for (size_t i = 0; i < client->answer->status->n_problem; i++)
        if (strstr(client->answer->status->problem[i], text))
            return true;
    return false;
}

static void damage(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    report_damage(w, &osds[0], 3, 0x30);
    CHECK(status_says(&client, "2 blocks are damaged"));
    CHECK_EQ(client.answer->status->damaged_blocks, 2);
    uint64_t since_us = show(&client, PG(0))->damage[0]->since_us;
    CHECK(since_us);
    restart(w, osds);
    /* A new leader hears of it, and has no opinion yet. */
    lead(&osds[1], NULL);
    const Fb__ScrubOrder *order = order_of(&osds[1], PG(0));
    CHECK(order && !order->order && order->n_damage == 1 && order->damage[0]->object == 3);
    report_damage(w, &osds[1], 4, 1);
    report_damage(w, &osds[1], 3, 0x70);
    const Fb__PgScrub *s = show(&client, PG(0));
    CHECK(s->n_damage == 2 && s->damage[0]->since_us == since_us && s->damage[0]->blocks.data[0] == 0x70);
    CHECK(s->damage[1]->since_us > since_us);
    report_damage(w, &osds[1], 3, 0);
    s = show(&client, PG(0));
    CHECK(s->n_damage == 1 && s->damage[0]->object == 4);
    /* A scrub leaves the list as it is. */
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    report_done(w, &osds[1], 1, false);
    CHECK(show(&client, PG(0))->n_damage == 1 && show(&client, PG(0))->done == 1);
    report_damage(w, &osds[1], 4, 0);
    CHECK(!status_says(&client, "damaged"));
    end(w, &client, osds);
}

/* Replicas differ: a scrub that sees less than the one that found it does not take that back, and the next
 * one looks as deeply. */
static void differs(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    CHECK_EQ(scrub(&client, PG(1), false, false), 0);
    report_result(w, &osds[0], 1, false, 3, 1);
    CHECK(status_says(&client, "1 objects are not the same on all replicas"));
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    lead(&osds[0], NULL);
    CHECK(!order_of(&osds[0], PG(0))->deep);
    report_result(w, &osds[0], 2, false, 2, 0); /* one was away */
    CHECK(status_says(&client, "not the same"));
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    report_result(w, &osds[0], 3, false, 3, 0);
    CHECK(!status_says(&client, "not the same"));

    CHECK_EQ(scrub(&client, PG(0), true, false), 0);
    report_result(w, &osds[0], 4, true, 3, 1);
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    lead(&osds[0], NULL);
    CHECK(order_of(&osds[0], PG(0))->deep);
    report_result(w, &osds[0], 5, false, 3, 0); /* of a leader that began it before */
    CHECK(status_says(&client, "not the same"));
    CHECK_EQ(scrub(&client, PG(0), false, false), 0);
    report_result(w, &osds[0], 6, true, 3, 0);
    CHECK(!status_says(&client, "not the same"));
    end(w, &client, osds);
}

/* Bytes from outside. */
static void bad_damage(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);
    Fb__PgReport report = FB__PG_REPORT__INIT;
    Fb__PgDamage row = FB__PG_DAMAGE__INIT, *rows[] = {&row};

    row.image = 7;
    row.blocks = (ProtobufCBinaryData){5, (uint8_t *)bits};
    report.damage = rows;
    report.n_damage = 1;
    bits[0] = 1;
    lead(&osds[0], &report);
    world_run_ms(w, 300);
    CHECK_EQ(show(&client, PG(0))->n_damage, 0);
    end(w, &client, osds);
}

static bool is_asked(struct caller *osd)
{
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    report.unchanged = true;
    report.free_bytes = 1ull << 33;
    CHECK_EQ(osd_report(osd, 0, &report), 0);
    return osd->answer->report_all;
}

/* They are in no map, and only who leads the PG is asked to report for them. */
static void epochs_stay(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);
    Fb__ShardReport nothing = FB__SHARD_REPORT__INIT;

    lead(&osds[0], NULL);
    CHECK_EQ(osd_report(&osds[1], 0, &nothing), 0);
    CHECK(!is_asked(&osds[0]) && !is_asked(&osds[1]));
    CHECK_EQ(get_map(&client, 0), 0);
    uint64_t epoch = client.answer->map->epoch;
    CHECK_EQ(scrub(&client, PG(0), true, false), 0);
    CHECK(is_asked(&osds[0]) && !is_asked(&osds[1]));
    lead(&osds[0], NULL);
    CHECK(order_of(&osds[0], PG(0)) && !is_asked(&osds[0]));
    report_done(w, &osds[0], 1, true);
    CHECK(show(&client, PG(0))->deep_us);
    CHECK_EQ(get_map(&client, 0), 0);
    CHECK_EQ(client.answer->map->epoch, epoch);
    CHECK_EQ(scrub_pause(&client, true), 0); /* what is not of a scrub alone */
    CHECK_EQ(get_map(&client, 0), 0);
    CHECK(client.answer->map->epoch > epoch);
    end(w, &client, osds);
}

static uint32_t due(struct caller *osd, bool deep)
{
    uint32_t count = 0;

    lead(osd, NULL);
    for (size_t i = 0; i < osd->answer->n_scrub_order; i++)
        count += osd->answer->scrub_order[i]->order && osd->answer->scrub_order[i]->deep == deep;
    return count;
}

static void all_done(struct world *w, struct caller *osd)
{
    Fb__PgReport rows[PGS], *pgs[PGS];
    Fb__ScrubResult results[PGS];
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    lead(osd, NULL);
    for (uint32_t n = 0; n < PGS; n++) {
        const Fb__ScrubOrder *order = order_of(osd, PG(n));
        pgs[n] = &rows[n];
        fb__pg_report__init(&rows[n]);
        fb__scrub_result__init(&results[n]);
        rows[n].pg = PG(n);
        rows[n].term = 5;
        rows[n].in_contact = 3;
        if (order) {
            results[n].order = order->order;
            results[n].deep = order->deep;
            results[n].replicas = 3;
            rows[n].scrub = &results[n];
            rows[n].scrub_done = true;
        }
    }
    report.pg = pgs;
    report.n_pg = PGS;
    CHECK_EQ(osd_report(osd, 0, &report), 0);
    world_run_ms(w, 500);
    CHECK_EQ(due(osd, false) + due(osd, true), 0);
}

static void later(struct world *w, uint64_t hours)
{
    w->mon_node->wall_offset_us += (int64_t)(hours * HOUR_MS * 1000);
    world_run_ms(w, 65000);
}

static void is_due(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    CHECK_EQ(due(&osds[0], false), 0);
    world_run_ms(w, HOUR_MS + 120000);
    CHECK_EQ(due(&osds[0], false) + due(&osds[0], true), PGS);
    all_done(w, &osds[0]);
    world_run_ms(w, 24 * HOUR_MS); /* by now each was read once */
    for (int i = 0; i < 3; i++) {
        all_done(w, &osds[0]);
        world_run_ms(w, 65000);
    }
    for (uint32_t n = 0; n < PGS; n++)
        CHECK(show(&client, PG(n))->deep_us && show(&client, PG(n))->light_us);
    later(w, 20);
    all_done(w, &osds[0]);
    for (int day = 0; day < 5; day++) {
        later(w, 25);
        CHECK_EQ(due(&osds[0], false), PGS);
        all_done(w, &osds[0]);
        CHECK_EQ(scrub_pause(&client, true), 0);
        later(w, 2);
        CHECK_EQ(due(&osds[0], false), 0);
        CHECK_EQ(scrub_pause(&client, false), 0);
    }
    later(w, 50);
    CHECK_EQ(due(&osds[0], true), PGS);
    all_done(w, &osds[0]);
    CHECK_EQ(scrub_pause(&client, true), 0);
    later(w, 400);
    CHECK_EQ(due(&osds[0], true) + due(&osds[0], false), 0);
    end(w, &client, osds);
}

/* The leader's report says that all members are there; a moment later the order of PG(0), if there is one. */
static const Fb__ScrubOrder *told_later(struct world *w, struct caller *osd, uint64_t hours)
{
    world_run_ms(w, hours * HOUR_MS);
    later(w, hours);
    for (int i = 0; i < 65; i++) {
        lead(osd, NULL);
        world_run_ms(w, 1000);
    }
    lead(osd, NULL);
    return order_of(osd, PG(0));
}

/* A scrub that could not look at all members is done, as ordered, and does not count. */
static void not_all_members(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    CHECK_EQ(scrub(&client, PG(0), true, false), 0);
    report_done_of(w, &osds[0], 1, true, 2);
    const Fb__PgScrub *s = show(&client, PG(0));
    CHECK(s->done == 1 && s->tried_us && s->deep_tried_us && !s->light_us && !s->deep_us);
    CHECK(!order_of(&osds[0], PG(0)));
    /* Not at once, but before long, as all are there: light ones first. */
    const Fb__ScrubOrder *order = told_later(w, &osds[0], 2);
    CHECK(order && order->order == 2 && !order->deep);
    report_done_of(w, &osds[0], 2, false, 2);
    s = show(&client, PG(0));
    CHECK(s->done == 2 && s->tried_us > s->deep_tried_us && !s->light_us);
    order = told_later(w, &osds[0], 2);
    CHECK(order && order->order == 3);
    report_done(w, &osds[0], 3, true);
    s = show(&client, PG(0));
    CHECK(s->deep_us && s->deep_us == s->tried_us && s->light_us == s->deep_us);
    CHECK(!told_later(w, &osds[0], 2));
    end(w, &client, osds);
}

/* The lists of many PGs are more than an answer may be. */
#define MANY_PGS 256
static void much_damage(void)
{
    struct caller client, osds[3];
    struct world *w = world_new();
    static Fb__PgReport rows[MANY_PGS], *pgs[MANY_PGS];
    static Fb__PgDamage damages[64], *pointers[64];
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;
    bool heard[MANY_PGS] = {false};

    client_start(&client, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&client, "rbd", 3, MANY_PGS, "osd"), 0);
    world_run_ms(w, 1000);
    osds_confirm(osds, 3);
    world_run_ms(w, 1000);
    memset(bits, 0xff, sizeof(bits));
    for (uint32_t i = 0; i < 64; i++) {
        pointers[i] = &damages[i];
        fb__pg_damage__init(&damages[i]);
        damages[i].image = UINT64_MAX / 2;
        damages[i].object = UINT64_MAX / 2 + i;
        damages[i].blocks = (ProtobufCBinaryData){sizeof(bits), (uint8_t *)bits};
    }
    for (uint32_t n = 0; n < MANY_PGS; n++) {
        pgs[n] = &rows[n];
        fb__pg_report__init(&rows[n]);
        rows[n].pg = PG(n);
        rows[n].term = 5;
        rows[n].in_contact = 3;
    }
    report.pg = pgs;
    report.n_pg = MANY_PGS;
    report.free_bytes = 1ull << 33;
    for (uint32_t n = 0; n < MANY_PGS; n++) { /* a message holds the lists of some */
        rows[n].damage = pointers;
        rows[n].n_damage = 64;
        CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
        world_run_ms(w, 100);
        rows[n].n_damage = 0;
    }
    world_run_ms(w, 3000);
    uint32_t all = 0;
    for (uint32_t round = 0; round < 2 * MANY_PGS && all < MANY_PGS; round++) {
        CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
        CHECK_EQ(osds[0].answer->n_scrub_order, MANY_PGS);
        for (uint32_t n = 0; n < MANY_PGS; n++) {
            const Fb__ScrubOrder *order = order_of(&osds[0], PG(n));
            CHECK(order->damage_omitted ? !order->n_damage : order->n_damage == 64);
            all += order->n_damage && !heard[n];
            heard[n] |= order->n_damage;
        }
        world_run_ms(w, 1000);
    }
    CHECK_EQ(all, MANY_PGS);
    end(w, &client, osds);
}

static void goes_with_its_pool(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    CHECK_EQ(scrub(&client, 0, false, false), 0);
    CHECK_EQ(pool_remove(&client, "rbd"), 0);
    CHECK_EQ(scrub(&client, PG(0), false, false), -ERR_NOT_FOUND);
    CHECK_EQ(status(&client), 0);
    CHECK_EQ(client.answer->status->scrubs_due, 0);
    world_run_ms(w, 300);
    osds_confirm(osds, 3);
    world_run_ms(w, 15000);
    restart(w, osds);
    CHECK_EQ(status(&client), 0);
    end(w, &client, osds);
}

static int report_unchanged(struct caller *osd)
{
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    report.unchanged = true;
    report.free_bytes = 1ull << 33;
    return osd_report(osd, 0, &report);
}

static bool is_known(struct caller *client, uint64_t pg)
{
    show(client, pg);
    return client->answer->pg_reports[0]->in_contact == 3;
}

/* A shard at rest need not say it all each time; it is asked to when there may be something for it. */
static void unchanged(void)
{
    struct caller client, osds[3];
    struct world *w = begin(&client, osds);

    /* What has been said so far named no PG. */
    CHECK_EQ(report_unchanged(&osds[0]), 0);
    CHECK(!is_known(&client, PG(0)));
    lead(&osds[0], NULL);
    for (int i = 0; i < 12; i++) {
        CHECK(is_known(&client, PG(0)) && is_known(&client, PG(PGS - 1)));
        world_run_ms(w, 1000);
        for (int o = 1; o < 3; o++)
            CHECK_EQ(osd_report(&osds[o], 0, NULL), 0);
        CHECK_EQ(report_unchanged(&osds[0]), 0);
        CHECK(!osds[0].answer->report_all);
    }
    CHECK_EQ(scrub_pause(&client, true), 0);
    CHECK_EQ(report_unchanged(&osds[0]), 0);
    CHECK(osds[0].answer->scrub_paused && !osds[0].answer->report_all);
    CHECK_EQ(scrub(&client, PG(0), true, false), 0);
    CHECK_EQ(report_unchanged(&osds[0]), 0);
    CHECK(osds[0].answer->report_all);
    lead(&osds[0], NULL);
    CHECK(order_of(&osds[0], PG(0)));
    /* What a whole report does not name is not as before. */
    CHECK_EQ(osd_report(&osds[0], 0, NULL), 0);
    for (int i = 0; i < 4; i++) {
        world_run_ms(w, 1000);
        for (int o = 1; o < 3; o++)
            CHECK_EQ(osd_report(&osds[o], 0, NULL), 0);
        CHECK_EQ(report_unchanged(&osds[0]), 0);
    }
    CHECK(!is_known(&client, PG(0)));
    /* Nor is anything on a new connection, or for a monitor that has begun anew. */
    lead(&osds[0], NULL);
    restart(w, osds);
    CHECK_EQ(report_unchanged(&osds[0]), 0);
    CHECK(osds[0].answer->report_all);
    CHECK(!is_known(&client, PG(0)));
    end(w, &client, osds);
}

int main(void)
{
    TEST(orders);
    TEST(pauses);
    TEST(damage);
    TEST(differs);
    TEST(bad_damage);
    TEST(epochs_stay);
    TEST(is_due);
    TEST(not_all_members);
    TEST(much_damage);
    TEST(goes_with_its_pool);
    TEST(unchanged);
    return tap_done();
}
