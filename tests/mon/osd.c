/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs: registration, the checks at boot, up and down, moving leaders, status.
 */
#include <string.h>

#include "base/level.h"
#include "tests/mon/world.h"
#include "tests/plants.h"

static bool is_up(struct caller *c, uint32_t osd)
{
    if (get_map(c, 0) || !c->answer->map)
        return false;
    for (size_t i = 0; i < c->answer->map->n_osd; i++)
        if (c->answer->map->osd[i]->id == osd)
            return c->answer->map->osd[i]->up;
    return false;
}

static void registers(void)
{
    struct world *w = world_new();
    struct caller c;

    client_start(&c, w, 1);
    CHECK(has_problem(&c, "no OSDs yet"));
    CHECK_EQ(osd_new(&c, 0, "h", "r", 1), -ERR_INVALID); /* a uuid of zeros */
    CHECK_EQ(osd_new(&c, 1, "h", "r", 0), -ERR_INVALID);
    CHECK_EQ(osd_new(&c, 1, "h", "r", 65), -ERR_INVALID);
    CHECK_EQ(osd_new(&c, 1, "h\n", "r", 1), -ERR_INVALID);
    CHECK_EQ(osd_new(&c, 1, "h", "r", 2), 0);
    CHECK_EQ(c.answer->osd, 0);
    CHECK_EQ(c.answer->cluster.len, 16);
    CHECK_EQ(osd_new(&c, 2, "h", "r", 1), 0);
    CHECK_EQ(c.answer->osd, 1);
    CHECK_EQ(osd_new(&c, 1, "h", "r", 2), 0); /* again: the same id */
    CHECK_EQ(c.answer->osd, 0);
    CHECK_EQ(osd_new(&c, 1, "h", "r", 3), -ERR_EXISTS);
    world_crash_mon(w);
    CHECK_EQ(osd_new(&c, 3, "h", "r", 1), 0);
    CHECK_EQ(c.answer->osd, 2);
    CHECK(has_problem(&c, "osd.2 was formatted but has never been started"));
    caller_stop(&c);
    world_free(w);
}

static void boots(void)
{
    struct world *w = world_new();
    struct caller c, osd, copy;

    client_start(&c, w, 1);
    CHECK_EQ(osd_new(&c, 1, "h", "r", 2), 0);
    osd_start(&osd, w, 7, 3);
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, "10.0.1.1:1"), -ERR_NOT_FOUND);
    caller_stop(&osd);
    osd_start(&osd, w, 0, 3);
    CHECK_EQ(osd_boot(&osd, 9, 0, 2, "10.0.1.1:1"), -ERR_IDENTITY);
    CHECK_EQ(osd_boot(&osd, 1, 0, 3, "10.0.1.1:1"), -ERR_IDENTITY);
    CHECK_EQ(osd_boot(&osd, 1, 2, 2, "10.0.1.1:1"), -ERR_IDENTITY);
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, ""), -ERR_INVALID);
    CHECK_EQ(osd_report(&osd, 0, NULL), -ERR_RETRY); /* not announced yet */
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, "10.0.1.1:1"), 0);
    CHECK_EQ(osd_report(&osd, 0, NULL), 0);
    uint64_t told = osd.answer->epoch; /* so that it notices when it misses one */
    CHECK_EQ(get_map(&osd, 0), 0);
    CHECK_EQ(osd.answer->map->epoch, told);
    CHECK_EQ(osd_report(&osd, 1, NULL), -ERR_RETRY);
    CHECK_EQ(osd_report(&osd, 5, NULL), -ERR_NOT_FOUND);
    CHECK(is_up(&c, 0));
    CHECK_EQ(c.answer->map->osd[0]->incarnation, 3);
    CHECK(!strcmp(c.answer->map->osd[0]->shard[0]->address, "10.0.1.1:1"));
    CHECK(!strcmp(c.answer->map->osd[0]->shard[1]->address, ""));
    CHECK_EQ(osd_boot(&osd, 1, 1, 2, "10.0.1.1:2"), 0);

    /* Again the same: nothing changes, also after a restart of the monitor. */
    uint64_t epoch = 0;
    CHECK(is_up(&c, 0));
    epoch = c.answer->map->epoch;
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, "10.0.1.1:1"), 0);
    world_crash_mon(w);
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, "10.0.1.1:1"), 0);
    CHECK(is_up(&c, 0));
    CHECK_EQ(c.answer->map->epoch, epoch);

    /* A copy of the device, started as often: refused while the original is up. An older copy: always. */
    osd_start(&copy, w, 0, 3);
    copy.self.osd_uuid[0] = 1;
    CHECK_EQ(osd_boot(&copy, 1, 0, 2, "10.0.2.1:1"), -ERR_LOCKED);
    CHECK(strstr(said(&copy), "running at 10.0.1.1:1"));
    copy.self.incarnation = 2; /* in the body of the call: rpc has its own check of the handshake */
    CHECK_EQ(osd_boot(&copy, 1, 0, 2, "10.0.2.1:1"), -ERR_ROLLED_BACK);
    CHECK(strstr(said(&copy), "copy from an earlier time"));
    caller_stop(&copy);
    /* Also when the original is down. The original itself may come back. */
    for (int i = 0; i < 8 && is_up(&c, 0); i++)
        world_run_ms(w, 500);
    CHECK(!is_up(&c, 0));
    osd_start(&copy, w, 0, 3);
    CHECK_EQ(osd_boot(&copy, 1, 0, 2, "10.0.2.1:1"), -ERR_ROLLED_BACK);
    CHECK(strstr(said(&copy), "it is a copy"));
    caller_stop(&copy);
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, "10.0.1.1:1"), 0);

    /* A new start forgets the addresses of the former one, whose reports are refused from then on. */
    caller_stop(&osd);
    osd_start(&osd, w, 0, 4);
    CHECK_EQ(osd_boot(&osd, 1, 1, 2, "10.0.1.1:9"), 0);
    CHECK(is_up(&c, 0));
    CHECK(!strcmp(c.answer->map->osd[0]->shard[0]->address, ""));
    CHECK(!strcmp(c.answer->map->osd[0]->shard[1]->address, "10.0.1.1:9"));
    osd.self.incarnation = 3;
    CHECK_EQ(osd_report(&osd, 1, NULL), -ERR_ROLLED_BACK);
    caller_stop(&osd);
    caller_stop(&c);
    world_free(w);
}

static void goes_down_when_silent(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(osd_report(&osds[0], 0, NULL), 0);
        CHECK_EQ(osd_report(&osds[1], 0, NULL), 0);
        world_run_ms(w, 500);
        CHECK(is_up(&c, 0) && is_up(&c, 1));
        CHECK(is_up(&c, 2) == (i < 5)); /* its session is open, but it has said nothing for 3 s */
    }
    CHECK(has_problem(&c, "osd.2 is down since"));
    /* It speaks again: it is up again. */
    CHECK_EQ(osd_report(&osds[2], 0, NULL), 0);
    world_run_ms(w, 300);
    CHECK(is_up(&c, 2));
    callers_stop(osds, 3);
    caller_stop(&c);
    world_free(w);
}

static void report_all(struct world *w, struct caller *osds, uint32_t count, uint32_t times)
{
    for (uint32_t t = 0; t < times; t++) {
        for (uint32_t i = 0; i < count; i++)
            CHECK_EQ(osd_report(&osds[i], 0, NULL), 0);
        world_run_ms(w, 500);
    }
}

/* The store is slow, and its answer is lost. */
static void boot_without_an_answer(struct world *w, struct caller *osd, uint64_t incarnation)
{
    w->trouble = FAIL_AFTER;
    w->trouble_at = w->txns + 1;
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){.slow_ppm = 1000000, .slow_ns = 2 * NS_PER_S});
    osd_start(osd, w, 2, incarnation);
    CHECK_EQ(osd_boot(osd, 3, 0, 1, "10.0.1.2:7002"), -ERR_IO);
    sim_meta_set_faults(w->store, &(struct sim_meta_faults){0});
}

/* An OSD boots by a change whose outcome the monitor learns only when it looks. That it was silent before, or
 * its connection gone, says nothing then; but it has to be heard of from then on. */
static void boots_without_an_answer(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    caller_stop(&osds[2]);
    report_all(w, osds, 2, 20);
    CHECK(!is_up(&c, 2));
    uint64_t epoch = c.answer->map->epoch;
    boot_without_an_answer(w, &osds[2], 2);
    report_all(w, osds, 2, 5);
    CHECK(is_up(&c, 2));
    CHECK_EQ(c.answer->map->epoch, epoch + 1);
    CHECK_EQ(osd_boot(&osds[2], 3, 0, 1, "10.0.1.2:7002"), 0);
    report_all(w, osds, 3, 10);
    CHECK(is_up(&c, 2));
    CHECK_EQ(c.answer->map->epoch, epoch + 1);

    /* A new start, in time to be never down. */
    caller_stop(&osds[2]);
    boot_without_an_answer(w, &osds[2], 3);
    report_all(w, osds, 2, 5);
    CHECK(is_up(&c, 2));
    CHECK_EQ(c.answer->map->epoch, epoch + 2);
    report_all(w, osds, 2, 10);
    CHECK(!is_up(&c, 2));
    callers_stop(osds, 3);
    caller_stop(&c);
    world_free(w);
}

static void goes_down_when_gone(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];
    uint32_t suspect = 2;
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    report.suspect_osd = &suspect;
    report.n_suspect_osd = 1;
    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    /* What a peer says counts only for one whose session is gone. */
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    world_run_ms(w, 500);
    CHECK(is_up(&c, 2));
    world_run_ms(w, 1500);
    osd_report(&osds[2], 0, NULL);
    caller_stop(&osds[2]);
    world_run_ms(w, 500);
    CHECK(is_up(&c, 2)); /* it may come back */
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    world_run_ms(w, 150);
    CHECK(!is_up(&c, 2));

    /* Without suspicion it takes a second; one that is back in time was never down. */
    osd_report(&osds[0], 0, NULL);
    osd_report(&osds[1], 0, NULL);
    caller_stop(&osds[1]);
    world_run_ms(w, 700);
    osd_start(&osds[1], w, 1, 2);
    CHECK_EQ(osd_boot(&osds[1], 2, 0, 1, "10.0.1.1:7001"), 0);
    world_run_ms(w, 800);
    CHECK(is_up(&c, 1));
    osd_report(&osds[0], 0, NULL);
    caller_stop(&osds[1]);
    world_run_ms(w, 1300);
    CHECK(!is_up(&c, 1) && is_up(&c, 0));
    caller_stop(&osds[0]);
    caller_stop(&c);
    world_free(w);
}

static void judges_nobody_too_early(void)
{
    struct world *w = world_new();
    struct caller c, osds[2];

    client_start(&c, w, 1);
    osds_up(w, osds, 2);
    caller_stop(&osds[1]);
    world_crash_mon(w);
    /* A new monitor waits its 3 s; osd.0 is back by then. */
    CHECK_EQ(osd_boot(&osds[0], 1, 0, 1, "10.0.1.0:7000"), 0);
    for (int i = 0; i < 5; i++) {
        world_run_ms(w, 500);
        osd_report(&osds[0], 0, NULL);
        CHECK(is_up(&c, 0) && is_up(&c, 1));
    }
    world_run_ms(w, 1000);
    CHECK(is_up(&c, 0) && !is_up(&c, 1));

    /* Time in which the monitor itself hung does not count. */
    osd_report(&osds[0], 0, NULL);
    sim_node_pause(w->mon_node);
    world_run_ms(w, 2500);
    sim_node_resume(w->mon_node);
    world_run_ms(w, 700);
    CHECK(is_up(&c, 0));
    caller_stop(&osds[0]);
    caller_stop(&c);
    world_free(w);
}

static void moves_leaders(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__PgLeader leader = FB__PG_LEADER__INIT;
    Fb__OsdDemote demote = FB__OSD_DEMOTE__INIT;
    Fb__PgReport pg = FB__PG_REPORT__INIT, *pgs[] = {&pg};
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&c, "rbd", 3, 1, "osd"), 0);
    request.call_case = FB__MON_REQUEST__CALL_PG_LEADER;
    request.pg_leader = &leader;
    leader.pg = 12ull << 32 | 0x2a;
    CHECK_EQ(call(&c, &request), -ERR_NOT_FOUND);
    CHECK(strstr(said(&c), "no PG 12.2a")); /* as the command line writes it */
    leader.pg = 1ull << 32;
    leader.osd = 9;
    CHECK_EQ(call(&c, &request), -ERR_INVALID);
    leader.osd = 1;
    CHECK_EQ(call(&c, &request), -ERR_RETRY); /* nobody leads it yet */
    report.pg = pgs;
    report.n_pg = 1;
    pg.pg = leader.pg;
    pg.term = 5;
    pg.in_contact = 3;
    CHECK_EQ(osd_report(&osds[2], 0, &report), 0);
    pg.term = 4; /* a former leader */
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    CHECK_EQ(call(&c, &request), 0);
    WAIT_FOR(w, 1000, osds[2].transfer_events == 1);
    CHECK_EQ(osds[2].transfer_pg, leader.pg);
    CHECK_EQ(osds[2].transfer_osd, 1);
    CHECK(!osds[2].transfer_any);
    leader.osd = 2;
    CHECK_EQ(call(&c, &request), 0); /* it leads already */

    request.call_case = FB__MON_REQUEST__CALL_OSD_DEMOTE;
    request.osd_demote = &demote;
    demote.osd = 9;
    CHECK_EQ(call(&c, &request), -ERR_NOT_FOUND);
    demote.osd = 2;
    CHECK_EQ(call(&c, &request), 0);
    WAIT_FOR(w, 1000, osds[2].transfer_events == 2);
    CHECK(osds[2].transfer_any && osds[2].transfer_pg == 0);
    caller_stop(&osds[2]);
    world_run_ms(w, 100);
    CHECK_EQ(call(&c, &request), -ERR_UNREACHABLE);

    Fb__PgList list = FB__PG_LIST__INIT;
    request.call_case = FB__MON_REQUEST__CALL_PG_LIST;
    request.pg_list = &list;
    CHECK_EQ(call(&c, &request), 0);
    CHECK_EQ(c.answer->n_pg_reports, 1);
    CHECK_EQ(c.answer->pg_reports[0]->leader_osd, 2);
    CHECK_EQ(c.answer->pg_reports[0]->in_contact, 3);
    callers_stop(osds, 2);
    caller_stop(&c);
    world_free(w);
}

static void says_what_is_wrong(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];
    Fb__PgReport rows[8], *pgs[8];
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&c, "rbd", 3, 8, "osd"), 0);
    for (uint64_t i = 0; i < 8; i++) {
        fb__pg_report__init(&rows[i]);
        rows[i].pg = 1ull << 32 | i;
        rows[i].term = 1;
        rows[i].in_contact = 3;
        pgs[i] = &rows[i];
    }
    report.pg = pgs;
    report.n_pg = 8;
    report.used_bytes = 4;
    report.free_bytes = (8ull << 30) - 10; /* 6 bytes are reserved: shown as used */
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
        osd_report(&osds[1], 0, NULL);
        osd_report(&osds[2], 0, NULL);
        world_run_ms(w, 500);
    }
    CHECK_EQ(status(&c), 0);
    const Fb__ClusterStatus *st = c.answer->status;
    CHECK(!strcmp(st->health, "ok"));
    CHECK_EQ(st->n_problem, 0);
    CHECK(st->osds == 3 && st->osds_up == 3 && st->pools == 1 && st->pgs == 8 && st->pgs_active == 8);
    CHECK(st->usage[0]->leaders == 8 && st->usage[0]->replicas == 8 && st->usage[0]->used_bytes == 10);

    caller_stop(&osds[2]);
    for (int i = 0; i < 8; i++)
        rows[i].in_contact = 2;
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
        osd_report(&osds[1], 0, NULL);
        world_run_ms(w, 500);
    }
    CHECK(has_problem(&c, "8 PGs have only 2 of 3 replicas; start it again with"));
    CHECK(!strcmp(c.answer->status->health, "warning"));
    CHECK_EQ(c.answer->status->pgs_degraded, 8);

    rows[5].recovering = rows[6].recovering = 1;
    rows[5].state = FB__PG_STATE__PG_DAMAGED;
    rows[5].damaged_osd = 1;
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    CHECK(has_problem(&c, "1 PGs have a replica whose log is damaged (1.5); look at the log of its OSD"));
    CHECK(has_problem(&c, "1 PGs are copying data to a replica that was away, or is new (1.6)"));
    CHECK(!strcmp(c.answer->status->health, "warning"));
    rows[5].state = FB__PG_STATE__PG_ACTIVE;
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    CHECK(!has_problem(&c, "damaged"));
    CHECK(has_problem(&c, "2 PGs are copying data"));
    rows[5].recovering = rows[6].recovering = 0;

    report.repaired_blocks = 2;
    report.damaged_objects = 1;
    report.damaged_logs = 3;
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    CHECK(has_problem(
        &c,
        "osd.0: its device returned wrong data since it was started: 1 objects and the logs of 3 replicas were "
        "damaged, 2 blocks"));
    CHECK(!strcmp(c.answer->status->health, "warning"));
    report.unrepaired_reads = 3;
    CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
    CHECK(has_problem(&c, "osd.0 met damage that no other replica could repair: 3 reads"));
    CHECK(!strcmp(c.answer->status->health, "error"));
    report.n_pg = 0;
    /* The longest that the store says, with the longest error of a device. */
    char failed[256];
    snprintf(failed, sizeof(failed), "the write of a repaired block failed (%s)",
             error_text(-ERR_DEVICE_FULL));
    report.failed = failed;
    report.used_bytes = 0;
    report.free_bytes = (8ull << 30) / 20;
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(osd_report(&osds[0], 0, &report), 0);
        osd_report(&osds[1], 0, NULL);
        world_run_ms(w, 500);
    }
    CHECK(has_problem(&c, "took itself out of service: the write of a repaired block failed"));
    CHECK(has_problem(&c, "make room there and restart the OSD)"));
    CHECK(has_problem(&c, "osd.0 is 95% full"));
    CHECK(has_problem(&c, "8 PGs have no leader (1.0, 1.1, 1.2, ...)") ||
          has_problem(&c, "8 PGs have no leader"));
    CHECK(!strcmp(c.answer->status->health, "error"));
    callers_stop(osds, 2);
    caller_stop(&c);
    world_free(w);
}

/* One shard of an OSD is full: it refuses writes, though the OSD as a whole has much left. */
static void a_full_shard_is_shown(void)
{
    struct world *w = world_new();
    struct caller c, osd;
    Fb__ShardReport report = FB__SHARD_REPORT__INIT;

    client_start(&c, w, 1);
    CHECK_EQ(osd_new(&c, 1, "h", "r", 2), 0);
    osd_start(&osd, w, 0, 1);
    CHECK_EQ(osd_boot(&osd, 1, 0, 2, "10.0.1.1:1"), 0);
    CHECK_EQ(osd_boot(&osd, 1, 1, 2, "10.0.1.1:2"), 0);
    report.free_bytes = (8ull << 30) / 20;
    CHECK_EQ(osd_report(&osd, 0, NULL), 0);
    CHECK_EQ(osd_report(&osd, 1, &report), 0);
    CHECK(has_problem(&c, "osd.0 shard 1 is 95% full"));
    CHECK(!strcmp(c.answer->status->health, "warning"));
    report.free_bytes = (8ull << 30) / 100;
    CHECK_EQ(osd_report(&osd, 1, &report), 0);
    CHECK(has_problem(&c, "osd.0 shard 1 is 99% full"));
    CHECK(!strcmp(c.answer->status->health, "error"));
    report.lacks_room = 2;
    CHECK_EQ(osd_report(&osd, 1, &report), 0);
    CHECK(has_problem(&c, "osd.0 shard 1 has no room to make 2 replicas whole"));
    caller_stop(&osd);
    world_run_ms(w, 30000);
    CHECK(has_problem(&c, "osd.0"));
    CHECK(!has_problem(&c, "has no room"));
    caller_stop(&c);
    world_free(w);
}

/* However many OSDs have problems, those of PGs are told, and that there are more. */
static void many_problems(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&c, "rbd", 3, 8, "osd"), 0);
    for (uint8_t uuid = 10; uuid < 110; uuid++)
        CHECK_EQ(osd_new(&c, uuid, "h", "r", 1), 0);
    callers_stop(osds, 3);
    world_run_ms(w, 65000);
    CHECK(has_problem(&c, "8 PGs have no leader"));
    CHECK(has_problem(&c, "39 more problems of single OSDs and pools are not listed"));
    CHECK(has_problem(&c, "osd.0 is down") && has_problem(&c, "osd.63 was formatted"));
    CHECK(!has_problem(&c, "osd.64 was formatted"));
    caller_stop(&c);
    world_free(w);
}

/* Someone knows a newer map: this monitor's data is from a backup. */
static void stops_when_it_is_behind(void)
{
    struct world *w = world_new();
    struct caller c, osds[3], late;

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&c, "rbd", 3, 8, "osd"), 0);
    CHECK_EQ(get_map(&c, 0), 0);

    late = (struct caller){0};
    client_start(&late, w, 9);
    late.self.epoch = c.answer->map->epoch + 5;
    /* Who does not say of which cluster he speaks says nothing about this one. */
    WAIT_FOR(w, 1000, late.opened);
    CHECK_EQ(image_create(&c, "rbd", "x", 4096), 0);
    caller_stop(&late);
    CHECK_EQ(get_map(&c, 0), 0);
    uint64_t epoch = c.answer->map->epoch;
    client_start(&late, w, 10);
    memcpy(late.self.cluster, c.answer->map->cluster.data, 16);
    late.self.epoch = epoch;
    late.self.image_id_max = 1;
    WAIT_FOR(w, 1000, late.opened);
    CHECK_EQ(image_create(&c, "rbd", "y", 4096), 0);
    caller_stop(&late);
    CHECK_EQ(get_map(&c, 0), 0);
    client_start(&late, w, 11);
    memcpy(late.self.cluster, c.answer->map->cluster.data, 16);
    late.self.image_id_max = 3;
    WAIT_FOR(w, 1000, late.opened);
    CHECK_EQ(image_create(&c, "rbd", "z", 4096), -ERR_BEHIND);
    CHECK(strstr(said(&c), "restored from a backup"));
    CHECK(strstr(said(&c), "Stop the monitor and start it on its newest data directory"));
    CHECK_EQ(image_get(&c, "rbd", "y"), 0); /* looking is still possible */
    CHECK(has_problem(&c, "is older than the one client test knows"));

    /* A shard says so at boot. */
    caller_stop(&late);
    world_crash_mon(w);
    CHECK_EQ(image_create(&c, "rbd", "z", 4096), 0);
    osds[0].self.epoch = 1000000;
    CHECK_EQ(osd_boot(&osds[0], 1, 0, 1, "10.0.1.0:7000"), -ERR_BEHIND);
    CHECK_EQ(image_create(&c, "rbd", "q", 4096), -ERR_BEHIND);
    /* A client asks for what comes after a map that we never made. */
    world_crash_mon(w);
    osds[0].self.epoch = 0;
    CHECK_EQ(get_map(&c, 1000000), -ERR_BEHIND);
    CHECK_EQ(subscribe(&c, UINT64_MAX), -ERR_BEHIND);
    CHECK_EQ(image_create(&c, "rbd", "q", 4096), 0); /* he may mean another cluster: he named none */
    CHECK_EQ(get_map(&c, 0), 0);
    client_start(&late, w, 12);
    memcpy(late.self.cluster, c.answer->map->cluster.data, 16);
    WAIT_FOR(w, 1000, late.opened);
    CHECK_EQ(get_map(&late, 1000000), -ERR_BEHIND);
    CHECK_EQ(image_create(&c, "rbd", "r", 4096), -ERR_BEHIND);
    caller_stop(&late);
    callers_stop(osds, 3);
    caller_stop(&c);
    world_free(w);
}

/* Before an OSD has said what it knows, a monitor that was started again gives out no ids. */
static void waits_for_a_proof(void)
{
    struct world *w = world_new();
    struct caller c, osds[1];

    client_start(&c, w, 1);
    osds_up(w, osds, 1);
    CHECK_EQ(pool_create(&c, "p", 1, 1, "osd"), 0);
    caller_stop(&osds[0]);
    world_crash_mon(w);
    uint64_t began_ns = w->sim->now_ns;
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_RETRY);
    CHECK(strstr(said(&c), "start the OSDs, then try again"));
    CHECK(w->sim->now_ns - began_ns >= 1900 * NS_PER_MS);
    osd_start(&osds[0], w, 0, 2);
    CHECK_EQ(osd_boot(&osds[0], 1, 0, 1, "10.0.1.0:7000"), 0);
    CHECK_EQ(image_create(&c, "p", "x", 4096), 0);
    caller_stop(&osds[0]);
    caller_stop(&c);
    world_free(w);
}

static void osd_speaks(struct caller *osd, struct world *w, uint32_t id, uint64_t epoch,
                       const uint8_t cluster[16])
{
    osd_start(osd, w, id, 1);
    osd->self.epoch = epoch;
    memcpy(osd->self.cluster, cluster, 16);
    WAIT_FOR(w, 1000, osd->opened);
}

/* Which OSD's word counts, and when: nobody who knows nothing, nobody who was down. */
static void proof_needs_a_witness(void)
{
    struct world *w = world_new();
    struct caller c, osds[4];
    uint8_t cluster[16];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(osd_new(&c, 4, "h", "", 1), 0); /* osd.3 is never started */
    memset(c.self.cluster, 0, 16);
    CHECK_EQ(pool_create(&c, "p", 1, 1, "osd"), 0);
    caller_stop(&osds[2]);
    for (int i = 0; i < 4; i++) {
        osd_report(&osds[0], 0, NULL);
        osd_report(&osds[1], 0, NULL);
        world_run_ms(w, 500);
    }
    CHECK(!is_up(&c, 2) && is_up(&c, 0) && is_up(&c, 1));
    uint64_t epoch = c.answer->map->epoch;
    memcpy(cluster, c.answer->map->cluster.data, 16);
    caller_stop(&osds[0]);
    caller_stop(&osds[1]);

    /* One that was just formatted, one that was down for long, and a copy with another uuid: no proof, ever.
     */
    world_crash_mon(w);
    osd_speaks(&osds[3], w, 3, 0, cluster);
    osd_speaks(&osds[2], w, 2, 1, cluster);
    osd_start(&osds[0], w, 0, 1);
    osds[0].self.osd_uuid[0] = 99;
    osds[0].self.epoch = epoch;
    memcpy(osds[0].self.cluster, cluster, 16);
    WAIT_FOR(w, 1000, osds[0].opened);
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_RETRY);
    world_run_ms(w, 6000);
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_RETRY);
    CHECK(strstr(said(&c), "no OSD that could tell has connected"));
    caller_stop(&osds[0]);
    caller_stop(&osds[2]);
    caller_stop(&osds[3]);

    /* One knows the very epoch that was loaded: proven at once, though the other is away. */
    world_crash_mon(w);
    osd_speaks(&osds[0], w, 0, 1000000, cluster);
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_BEHIND); /* and one that knows more: behind */
    caller_stop(&osds[0]);
    world_crash_mon(w);
    CHECK_EQ(get_map(&c, 0), 0);
    osd_speaks(&osds[0], w, 0, c.answer->map->epoch, cluster);
    CHECK_EQ(image_create(&c, "p", "a", 4096), 0);
    caller_stop(&osds[0]);

    /* The monitor died before it published what it had committed: all know less. */
    world_crash_mon(w);
    CHECK_EQ(get_map(&c, 0), 0);
    epoch = c.answer->map->epoch;
    osd_speaks(&osds[0], w, 0, epoch - 1, cluster);
    CHECK_EQ(image_create(&c, "p", "b", 4096), -ERR_RETRY);
    CHECK(strstr(said(&c), "not every OSD that could tell has connected"));
    osd_speaks(&osds[1], w, 1, epoch - 1, cluster);
    osd_speaks(&osds[2], w, 2, 1, cluster); /* meanwhile all are down: all that were ever started count */
    CHECK_EQ(image_create(&c, "p", "b", 4096), 0);
    callers_stop(osds, 3);
    caller_stop(&c);
    world_free(w);
}

/* Witnesses out of reach hold nobody up for long; what a shard learned from this monitor is no proof. */
static void proof_comes_in_time(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];
    uint8_t cluster[16];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&c, "p", 1, 1, "osd"), 0);
    CHECK_EQ(get_map(&c, 0), 0);
    memcpy(cluster, c.answer->map->cluster.data, 16);
    uint64_t epoch = c.answer->map->epoch;
    callers_stop(osds, 3);
    world_crash_mon(w);
    uint64_t began_ns = w->sim->now_ns;
    osd_speaks(&osds[0], w, 0, epoch - 1, cluster);
    caller_stop(&osds[0]);
    osd_speaks(&osds[0], w, 0, epoch, cluster);
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_RETRY);
    while (w->sim->now_ns - began_ns < 20 * NS_PER_S && image_create(&c, "p", "x", 4096))
        ;
    CHECK_EQ(c.result, 0);
    CHECK(w->sim->now_ns - began_ns >= 5 * NS_PER_S && w->sim->now_ns - began_ns < 6 * NS_PER_S);
    caller_stop(&osds[0]);
    caller_stop(&c);
    world_free(w);
}

/* The dead are waited for until an operator gives them up; what relies on the map waits for the proof. */
static void the_given_up_prove_nothing(void)
{
    struct world *w = world_new();
    struct caller c, osds[2];

    client_start(&c, w, 1);
    osds_up(w, osds, 2);
    CHECK_EQ(osd_new(&c, 7, "h", "", 1), 0); /* osd.2 is never started */
    callers_stop(osds, 2);
    world_crash_mon(w);
    world_run_ms(w, 5000);
    CHECK(!is_up(&c, 0) && !is_up(&c, 1));
    CHECK_EQ(osd_change(&c, 2, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), -ERR_RETRY);
    CHECK(strstr(said(&c), "cannot know whether its data is the newest"));
    CHECK_EQ(osd_change(&c, 2, FB__OSD_ACTION__OSD_ACTION_LOST, 0), -ERR_RETRY);
    CHECK_EQ(osd_change(&c, 0, FB__OSD_ACTION__OSD_ACTION_LOST, 0), 0);
    CHECK_EQ(osd_new(&c, 8, "h", "", 1), -ERR_RETRY);
    CHECK_EQ(osd_change(&c, 1, FB__OSD_ACTION__OSD_ACTION_LOST, 0), 0);
    CHECK_EQ(osd_new(&c, 8, "h", "", 1), 0);
    CHECK_EQ(osd_change(&c, 2, FB__OSD_ACTION__OSD_ACTION_REMOVE, 0), 0);
    /* One of them was not lost, and this monitor runs on old data. */
    CHECK_EQ(get_map(&c, 0), 0);
    uint8_t cluster[16];
    memcpy(cluster, c.answer->map->cluster.data, 16);
    osd_speaks(&osds[0], w, 0, 1000000, cluster);
    CHECK_EQ(osd_new(&c, 9, "h", "", 1), -ERR_BEHIND);
    caller_stop(&osds[0]);
    caller_stop(&c);
    world_free(w);
}

/* Monitors first, then OSDs, and all of these before PGs are split. */
static void upgrades_have_an_order(void)
{
    struct world *w = world_new();
    struct caller c, osds[2];

    client_start(&c, w, 1);
    osds_up(w, osds, 1);
    CHECK_EQ(osd_new(&c, 2, "h", "", 1), 0);
    osd_start(&osds[1], w, 1, 1);
    osds[1].level = LEVEL + 1;
    CHECK_EQ(osd_boot(&osds[1], 2, 0, 1, "10.0.1.1:7000"), -ERR_UNSUPPORTED);
    CHECK(strstr(said(&osds[1]), "upgrade the monitors first"));
    osds[1].level = 0;
    CHECK_EQ(osd_boot(&osds[1], 2, 0, 1, "10.0.1.1:7000"), 0);
    CHECK_EQ(pool_create(&c, "p", 1, 8, "osd"), 0);
    CHECK_EQ(pool_set_pgs(&c, "p", 16), -ERR_UNSUPPORTED);
    CHECK(strstr(said(&c), "osd.1") && strstr(said(&c), "upgrade"));
    osds[1].level = LEVEL; /* in the same process even */
    CHECK_EQ(osd_boot(&osds[1], 2, 0, 1, "10.0.1.1:7000"), 0);
    CHECK_EQ(pool_set_pgs(&c, "p", 16), 0);
    world_crash_mon(w);
    osds[1].level = 0;
    CHECK_EQ(osd_boot(&osds[1], 2, 0, 1, "10.0.1.1:7000"), -ERR_UNSUPPORTED);
    CHECK(strstr(said(&osds[1]), "upgrade it"));
    callers_stop(osds, 2);
    caller_stop(&c);
    world_free(w);
}

/* What a monitor from a backup changes before the OSDs come does not hide that they know more. */
static void own_changes_hide_nothing(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];
    uint8_t cluster[16];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    CHECK_EQ(pool_create(&c, "p", 1, 1, "osd"), 0);
    CHECK_EQ(image_create(&c, "p", "y", 4096), 0);
    CHECK_EQ(get_map(&c, 0), 0);
    memcpy(cluster, c.answer->map->cluster.data, 16);
    uint64_t epoch = c.answer->map->epoch;
    CHECK_EQ(image_get(&c, "p", "y"), 0);
    CHECK_EQ(c.answer->epoch, epoch);
    callers_stop(osds, 3);
    world_crash_mon(w);
    world_run_ms(w, 5000); /* all are marked down: the epoch rises */
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK(c.answer->map->epoch > epoch);
    /* Nor does it vouch at an epoch of its own for images that may have been removed since. */
    CHECK_EQ(image_get(&c, "p", "y"), 0);
    CHECK_EQ(c.answer->epoch, epoch);
    osd_speaks(&osds[0], w, 0, epoch + 1, cluster);
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_BEHIND);
    CHECK_EQ(image_get(&c, "p", "y"), 0);
    CHECK_EQ(c.answer->epoch, epoch);
    /* Nor one that was registered after the backup. */
    caller_stop(&osds[0]);
    world_crash_mon(w);
    osd_speaks(&osds[0], w, 77, 1000, cluster);
    CHECK_EQ(image_create(&c, "p", "x", 4096), -ERR_BEHIND);
    caller_stop(&osds[0]);
    caller_stop(&c);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(registers);
    TEST(boots);
    TEST(goes_down_when_silent);
    TEST(boots_without_an_answer);
    TEST(goes_down_when_gone);
    TEST(judges_nobody_too_early);
    TEST(moves_leaders);
    TEST(says_what_is_wrong);
    TEST(a_full_shard_is_shown);
    TEST(many_problems);
    TEST(stops_when_it_is_behind);
    TEST(waits_for_a_proof);
    TEST(proof_needs_a_witness);
    TEST(proof_comes_in_time);
    TEST(own_changes_hide_nothing);
    TEST(the_given_up_prove_nothing);
    TEST(upgrades_have_an_order);
    return tap_done();
}
