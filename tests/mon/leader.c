/* SPDX-License-Identifier: Apache-2.0
 *
 * Leaderships go back to the first members of PGs, a few at a time, when all is well; not before, and not
 * against an operator.
 */
#include <string.h>

#include "tests/mon/world.h"

#define OSDS 3
#define PGS  24

/* The PGs as their leaders see them. */
static struct {
    uint32_t first[PGS], leader[PGS], in_contact, recovering, moves, refuse;
} state;

static void moved(struct caller *c)
{
    uint32_t n = (uint32_t)c->transfer_pg;

    CHECK(!c->transfer_any && n < PGS && state.leader[n] == c->self.osd);
    state.moves++;
    if (state.refuse)
        state.refuse--;
    else
        state.leader[n] = c->transfer_osd;
}

static void report_all(struct caller *osds)
{
    for (uint32_t o = 0; o < OSDS; o++) {
        Fb__PgReport rows[PGS], *pgs[PGS];
        Fb__ShardReport report = FB__SHARD_REPORT__INIT;

        for (uint32_t n = 0; n < PGS; n++) {
            if (state.leader[n] != o)
                continue;
            fb__pg_report__init(&rows[n]);
            rows[n].pg = 1ull << 32 | n;
            rows[n].term = 5;
            rows[n].in_contact = state.in_contact;
            rows[n].recovering = state.recovering;
            pgs[report.n_pg++] = &rows[n];
        }
        report.pg = pgs;
        if (osds[o].peer)
            osd_report(&osds[o], 0, &report);
    }
}

static void run(struct world *w, struct caller *osds, uint32_t seconds)
{
    for (uint32_t i = 0; i < 4 * seconds; i++) {
        report_all(osds);
        world_run_ms(w, 250);
    }
}

static uint32_t misplaced(void)
{
    uint32_t count = 0;

    for (uint32_t n = 0; n < PGS; n++)
        count += state.leader[n] != state.first[n];
    return count;
}

static void all_lead(uint32_t osd)
{
    for (uint32_t n = 0; n < PGS; n++)
        state.leader[n] = osd;
}

static void start(struct world *w, struct caller *c, struct caller *osds)
{
    uint32_t firsts[OSDS] = {0};

    memset(&state, 0, sizeof(state));
    state.in_contact = OSDS;
    client_start(c, w, 1);
    osds_up(w, osds, OSDS);
    for (uint32_t o = 0; o < OSDS; o++)
        osds[o].transfer = moved;
    CHECK_EQ(pool_create(c, "rbd", 3, PGS, "osd"), 0);
    CHECK_EQ(get_map(c, 0), 0);
    CHECK_EQ(c->answer->map->n_pg, PGS);
    for (size_t i = 0; i < PGS; i++) {
        const Fb__Pg *pg = c->answer->map->pg[i];
        state.first[(uint32_t)pg->id] = pg->member[0]->osd;
        firsts[pg->member[0]->osd]++;
    }
    for (uint32_t o = 0; o < OSDS; o++)
        CHECK_EQ(firsts[o], PGS / OSDS);
}

static void stop(struct world *w, struct caller *c, struct caller *osds)
{
    for (uint32_t o = 0; o < OSDS; o++)
        if (osds[o].peer)
            caller_stop(&osds[o]);
    caller_stop(c);
    world_free(w);
}

static void brings_leaders_back(void)
{
    struct world *w = world_new();
    struct caller c, osds[OSDS];

    start(w, &c, osds);
    all_lead(0);
    run(w, osds, 5);
    CHECK_EQ(state.moves, 0); /* they have only just come up */
    state.in_contact = 2;
    run(w, osds, 10);
    CHECK_EQ(state.moves, 0);
    state.in_contact = 3;
    state.recovering = 1;
    run(w, osds, 3);
    CHECK_EQ(state.moves, 0);
    /* A few at a time, and each once: also those that refuse, which get another turn later. */
    state.recovering = 0;
    state.refuse = 3;
    for (int i = 0; i < 6 && !state.moves; i++)
        run(w, osds, 1);
    CHECK(state.moves >= 4 && state.moves <= 8);
    run(w, osds, 6);
    CHECK_EQ(misplaced(), 3);
    CHECK_EQ(state.moves, PGS - PGS / OSDS);
    run(w, osds, 10);
    CHECK_EQ(misplaced(), 0);
    uint32_t moves = state.moves;
    run(w, osds, 15);
    CHECK_EQ(state.moves, moves);
    stop(w, &c, osds);
}

/* Who refuses is asked less and less. */
static void has_patience(void)
{
    struct world *w = world_new();
    struct caller c, osds[OSDS];

    start(w, &c, osds);
    for (uint32_t n = 0; n < PGS; n++)
        state.leader[n] = state.first[n];
    run(w, osds, 12);
    CHECK_EQ(state.moves, 0);
    state.leader[0] = (state.first[0] + 1) % OSDS;
    state.refuse = 1000;
    run(w, osds, 80); /* within 5 s, and 10, 30 and 70 s later */
    CHECK_EQ(state.moves, 4);
    state.refuse = 0;
    run(w, osds, 60);
    CHECK_EQ(misplaced(), 1);
    run(w, osds, 30);
    CHECK_EQ(misplaced(), 0);
    /* But it is not held against one that was away meanwhile. */
    state.leader[0] = (state.first[0] + 1) % OSDS;
    state.refuse = 1000;
    run(w, osds, 80);
    state.refuse = 0;
    state.in_contact = 2;
    run(w, osds, 6);
    state.in_contact = 3;
    run(w, osds, 12);
    CHECK_EQ(misplaced(), 0);
    stop(w, &c, osds);
}

/* It leads nothing any more. */
static void osd_2_demoted(struct caller *c, struct caller *osds)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__OsdDemote demote = FB__OSD_DEMOTE__INIT;

    request.call_case = FB__MON_REQUEST__CALL_OSD_DEMOTE;
    request.osd_demote = &demote;
    demote.osd = 2;
    osds[2].transfer = NULL;
    CHECK_EQ(call(c, &request), 0);
    for (uint32_t n = 0; n < PGS; n++)
        if (state.leader[n] == 2)
            state.leader[n] = n % 2;
}

static void obeys_operators(void)
{
    struct world *w = world_new();
    struct caller c, osds[OSDS];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__PgLeader leader = FB__PG_LEADER__INIT;

    start(w, &c, osds);
    memcpy(state.leader, state.first, sizeof(state.leader));
    run(w, osds, 12);
    CHECK_EQ(state.moves, 0);
    /* A PG that was moved by hand stays. */
    request.call_case = FB__MON_REQUEST__CALL_PG_LEADER;
    request.pg_leader = &leader;
    leader.pg = 1ull << 32;
    leader.osd = (state.first[0] + 1) % OSDS;
    CHECK_EQ(call(&c, &request), 0);
    run(w, osds, 12);
    CHECK_EQ(state.leader[0], leader.osd);
    CHECK_EQ(state.moves, 1);
    state.first[0] = leader.osd;
    /* An OSD that was demoted leads nothing until it comes up again, or for a long time. */
    osd_2_demoted(&c, osds);
    uint32_t away = misplaced();
    CHECK(away >= PGS / OSDS - 1);
    run(w, osds, 60);
    CHECK_EQ(misplaced(), away);
    osds[2].transfer = moved;
    caller_stop(&osds[2]);
    osds[2].peer = NULL;
    run(w, osds, 4);
    /* Nor does an operator get it to lead while it is down: that is said, and not remembered. */
    leader.osd = 2;
    uint32_t moves = state.moves;
    CHECK_EQ(call(&c, &request), -ERR_UNREACHABLE);
    CHECK(strstr(said(&c), "osd.2 is down"));
    CHECK_EQ(state.moves, moves);
    osd_start(&osds[2], w, 2, 2);
    osds[2].transfer = moved;
    CHECK_EQ(osd_boot(&osds[2], 3, 0, 1, "10.0.1.2:7001"), 0);
    run(w, osds, 8);
    CHECK_EQ(misplaced(), away);
    run(w, osds, 10);
    CHECK_EQ(misplaced(), 0);
    stop(w, &c, osds);
}

/* It was started anew, and the monitor learns that only when it looks what the store has. */
static void comes_up_without_an_answer(void)
{
    struct world *w = world_new();
    struct caller c, osds[OSDS];

    start(w, &c, osds);
    memcpy(state.leader, state.first, sizeof(state.leader));
    run(w, osds, 12);
    osd_2_demoted(&c, osds);
    uint32_t away = misplaced();
    run(w, osds, 12);
    CHECK_EQ(misplaced(), away);
    caller_stop(&osds[2]);
    w->trouble = FAIL_AFTER;
    w->trouble_at = w->txns + 1;
    osd_start(&osds[2], w, 2, 2);
    osds[2].transfer = moved;
    CHECK_EQ(osd_boot(&osds[2], 3, 0, 1, "10.0.1.2:7001"), -ERR_IO);
    CHECK_EQ(osd_boot(&osds[2], 3, 0, 1, "10.0.1.2:7001"), 0);
    run(w, osds, 8);
    CHECK_EQ(misplaced(), away);
    run(w, osds, 10);
    CHECK_EQ(misplaced(), 0);
    stop(w, &c, osds);
}

static uint32_t shown_leaders(struct caller *c, uint32_t osd)
{
    CHECK_EQ(status(c), 0);
    for (size_t i = 0; c->answer && i < c->answer->status->n_usage; i++)
        if (c->answer->status->usage[i]->osd == osd)
            return c->answer->status->usage[i]->leaders;
    return UINT32_MAX;
}

/* A monitor that has just begun shows no leaders. Who demotes an OSD and waits until it leads nothing must
 * not take that for an answer. */
static void demoted_after_a_restart(void)
{
    struct world *w = world_new();
    struct caller c, osds[OSDS];
    Fb__OsdDemote body = FB__OSD_DEMOTE__INIT;
    REQUEST(osd_demote, OSD_DEMOTE);

    start(w, &c, osds);
    all_lead(2);
    run(w, osds, 2);
    CHECK_EQ(shown_leaders(&c, 2), PGS);
    world_restart_mon(w);
    for (uint32_t o = 0; o < OSDS; o++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:7000", o);
        CHECK_EQ(osd_boot(&osds[o], (uint8_t)(o + 1), 0, 1, address), 0);
    }
    CHECK_EQ(shown_leaders(&c, 2), 0);
    body.osd = 2;
    osds[2].transfer = NULL;
    osds[2].transfer_events = 0;
    CHECK_EQ(call(&c, &request), -ERR_BUSY); /* the command asks again */
    CHECK_EQ(osds[2].transfer_events, 0);
    run(w, osds, 1);
    CHECK_EQ(shown_leaders(&c, 2), PGS);
    CHECK_EQ(call(&c, &request), 0);
    WAIT_FOR(w, 1000, osds[2].transfer_events);
    stop(w, &c, osds);
}

int main(void)
{
    TEST(brings_leaders_back);
    TEST(has_patience);
    TEST(obeys_operators);
    TEST(comes_up_without_an_answer);
    TEST(demoted_after_a_restart);
    return tap_done();
}
