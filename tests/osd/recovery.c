/* SPDX-License-Identifier: Apache-2.0
 *
 * A recovery that takes longer than the leader's log lasts: the next round starts from where the first one
 * ended, and so gets there. And one from a leader whose own disk lost blocks that no client reads.
 */
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "osd/recover_copy.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

#define OBJECTS 160
#define WRITERS 8

static uint8_t data[BLOCK_SIZE], got[BLOCK_SIZE];

/* Writers of the first blocks of object 0, each as fast as it is answered. */
static struct {
    struct io io[WRITERS];
    bool stop;
} load;

static bool load_crank(struct world *w)
{
    bool idle = true;

    for (uint32_t i = 0; i < WRITERS; i++) {
        struct io *io = &load.io[i];
        if (io->done)
            CHECK_EQ(io->result, 0);
        if (load.stop && io->done)
            continue;
        idle = false;
        if (!io->done)
            continue;
        *io = io_make(w, IO_WRITE, 0, i * BLOCK_SIZE, BLOCK_SIZE);
        io->data = data;
        io_begin(io);
    }
    return idle;
}

static void load_start(struct world *w)
{
    load.stop = false;
    for (uint32_t i = 0; i < WRITERS; i++) {
        load.io[i].done = true;
        load.io[i].result = 0;
    }
    load_crank(w);
}

static const char *recovery_state(struct world *w, uint32_t osd)
{
    struct pg *pg = w->osds[osd].shard ? pg_find(w->osds[osd].shard, world_pg(w, 0)) : NULL;
    const struct op *op = pg ? (const struct op *)pg->recover : NULL; /* its first member */

    return op ? op->kind->state_name(op->state) : "none";
}

static struct pg *group_on(struct world *w, uint32_t osd)
{
    return w->osds[osd].shard ? pg_find(w->osds[osd].shard, world_pg(w, 0)) : NULL;
}

static void refuse(struct world *w, uint32_t osd, bool refuse)
{
    fake_store_refuse_pg(osd_shard_store(w->osds[osd].shard), world_pg(w, 0), refuse);
}

/* Runs under load until the replica is whole and stays so. Returns how many rounds of copying it took. One
 * whose log was damaged counts again only with all that was committed when it asked for the target. */
static uint32_t run_recovery(struct world *w, uint32_t osd, bool damaged)
{
    uint64_t committed = 0;
    uint64_t until_ns = w->sim->now_ns + 20 * NS_PER_S, busy_ns = w->sim->now_ns;
    uint32_t rounds = 0;
    const char *last = "none";
    struct osd_pg_view view;

    while (w->sim->now_ns < until_ns && w->sim->now_ns - busy_ns < NS_PER_S && sim_step(w->sim, until_ns)) {
        load_crank(w);
        const char *state = recovery_state(w, osd);
        rounds += !strcmp(state, "copy") && strcmp(last, "copy");
        if (!strcmp(state, "target") && strcmp(last, "target"))
            committed = group_on(w, world_leader(w, world_pg(w, 0)))->raft.commit_index;
        if (damaged && strcmp(state, last) && (!strcmp(state, "finish") || !strcmp(state, "none")))
            CHECK(committed && group_on(w, osd)->raft.durable_index >= committed);
        last = state;
        if (strcmp(state, "none") || !w->osds[osd].shard ||
            !osd_pg_view(w->osds[osd].shard, world_pg(w, 0), &view) || view.recovering || view.damaged)
            busy_ns = w->sim->now_ns;
    }
    CHECK(w->sim->now_ns < until_ns);
    return rounds;
}

/* A follower dies, and every object is written without it. Returns its OSD. */
static uint32_t one_falls_behind(struct world *w, uint64_t pg)
{
    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t osd = (world_leader(w, pg) + 1) % OSDS;
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        memset(data, (int)object, BLOCK_SIZE);
        CHECK_EQ(world_write(w, object, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    }
    return osd;
}

static void check_objects(struct world *w, uint32_t osd)
{
    world_lead(w, world_pg(w, 0), osd);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        CHECK_EQ(world_read(w, object, 9, 1, got), 0);
        CHECK(got[0] == (uint8_t)object && got[BLOCK_SIZE - 1] == (uint8_t)object);
    }
}

/* The load ends; the world goes. */
static void check_at_rest(struct world *w, uint32_t osd)
{
    load.stop = true;
    WAIT_FOR(w, 5000, load_crank(w));
    WAIT_FOR(w, 5000, world_settled(w));
    check_objects(w, osd);
    world_free(w);
}

static void second_round(uint64_t seed, bool damaged)
{
    struct world *w = world_new(seed, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t osd = one_falls_behind(w, pg);

    if (damaged)
        fake_store_damage_log(w->osds[osd].label.osd_uuid, pg, 0);
    load_start(w);
    world_osd_start(w, osd);
    uint32_t rounds = run_recovery(w, osd, damaged);
    uint64_t copied = w->osds[osd].shard->perf.recovered_objects;
    printf("# %u rounds, %d objects copied\n", rounds, (int)copied);
    CHECK(rounds >= 2);
    /* The later rounds copied what had been written meanwhile, and nothing else. */
    CHECK(copied >= OBJECTS && copied <= OBJECTS + rounds);
    check_at_rest(w, osd);
}

/* What is found damaged while one recovers whose log was whole counts like what was known before. */
static void test_damage_found_meanwhile(void)
{
    struct world *w = world_new(62, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t osd = one_falls_behind(w, pg);

    load_start(w);
    world_osd_start(w, osd);
    WAIT_FOR(w, 10000, load_crank(w) || !strcmp(recovery_state(w, osd), "copy"));
    world_replica(w, osd, pg)->damaged = true;
    run_recovery(w, osd, true);
    check_at_rest(w, osd);
}

/* What it acknowledged last is gone from its device, and nothing there shows that: its leader notices, and it
 * gets that again, from the log, or, when that does not reach back so far, by recovery. */
static void acknowledged_and_lost(uint64_t seed, bool far)
{
    struct world *w = world_new(seed, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = world_leader(w, pg), osd = (leader + 1) % OSDS;
    memset(data, 1, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    const struct raft *raft = &group_on(w, leader)->raft;
    WAIT_FOR(w, 100, raft_member(raft, group_on(w, osd)->replica)->match == raft->last_index);
    CHECK(world_replica(w, osd, pg)->applied_index < world_replica(w, osd, pg)->durable_index);
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    fake_store_lose_log(w->osds[osd].label.osd_uuid, pg);
    for (uint64_t object = 1; far && object < OBJECTS; object++)
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
    world_osd_start(w, osd);
    WAIT_FOR(w, 10000, world_settled(w));
    CHECK_EQ(w->osds[leader].shard->perf.lost_acks, 1);
    CHECK_EQ(w->osds[osd].shard->perf.recoveries, far);
    world_lead(w, pg, osd);
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    CHECK(!memcmp(got, data, BLOCK_SIZE));
    world_free(w);
}

static void test_acknowledged_and_lost(void)
{
    acknowledged_and_lost(67, false);
    acknowledged_and_lost(68, true);
}

/* It has all objects, and is yet to get the log up to where it counts, when damage is found in what has come
 * of that: it acknowledges nothing, and is not said to be whole, before it has recovered once more. */
static void test_damage_found_at_the_end(void)
{
    struct world *w = world_new(65, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t osd = one_falls_behind(w, pg);

    fake_store_damage_log(w->osds[osd].label.osd_uuid, pg, 0);
    world_osd_start(w, osd);
    WAIT_FOR(w, 10000, !strcmp(recovery_state(w, osd), "copy"));
    refuse(w, osd, true);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 10000, !strcmp(recovery_state(w, osd), "catch-up"));
    struct store_pg *sp = world_replica(w, osd, pg);
    uint64_t last = sp->last_index;
    sp->damaged = true;
    refuse(w, osd, false);
    while (sp->damaged && sim_step(w->sim, w->sim->now_ns + NS_PER_S))
        CHECK(!sp->damaged || (sp->record.state == STORE_PG_DAMAGED && sp->last_index == last));
    CHECK(!sp->damaged);
    load_start(w);
    check_at_rest(w, osd);
}

/* The same when it has got all of that, and is to be written down as whole; a new term, of which it hears
 * before the last entry is durable, is written first. */
static void test_damage_found_behind_the_end(void)
{
    struct world *w = world_new(66, 1);
    uint64_t id = world_pg(w, 0);
    uint32_t osd = one_falls_behind(w, id);

    fake_store_damage_log(w->osds[osd].label.osd_uuid, id, 0);
    world_osd_start(w, osd);
    WAIT_FOR(w, 10000, !strcmp(recovery_state(w, osd), "copy"));
    refuse(w, osd, true);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 10000, !strcmp(recovery_state(w, osd), "catch-up"));
    struct store_pg *sp = world_replica(w, osd, id);
    struct pg *pg = group_on(w, osd);
    uint64_t last = sp->last_index;
    refuse(w, osd, false);
    while (sp->last_index == last)
        CHECK(sim_step(w->sim, w->sim->now_ns + NS_PER_S));
    CHECK(sp->durable_index == last && !pg->record_writing);
    struct raft_msg higher = {.type = RAFT_VOTE_REPLY, .from = pg->raft.leader, .to = pg->replica};
    higher.term = pg->raft.term + 1;
    sim_node_enter(w->osds[osd].node);
    fake_store_hold_records(osd_shard_store(w->osds[osd].shard), true);
    raft_step(&pg->raft, &higher, core_now_ns(pg->shard->core));
    pg_touched(pg);
    sim_node_leave(w->osds[osd].node);
    WAIT_FOR(w, 100, !strcmp(recovery_state(w, osd), "finish"));
    CHECK(pg->record_writing && !pg->record_is_want);
    sp->damaged = true;
    sim_node_enter(w->osds[osd].node);
    fake_store_hold_records(osd_shard_store(w->osds[osd].shard), false);
    fake_store_hold_records(osd_shard_store(w->osds[osd].shard), true);
    sim_node_leave(w->osds[osd].node);
    WAIT_FOR(w, 100, pg->record_writing && pg->record_is_want);
    CHECK_EQ(pg->record.record.state, STORE_PG_DAMAGED);
    sim_node_enter(w->osds[osd].node);
    fake_store_hold_records(osd_shard_store(w->osds[osd].shard), false);
    sim_node_leave(w->osds[osd].node);
    load_start(w);
    run_recovery(w, osd, true);
    check_at_rest(w, osd);
}

/* One that is to recover waits for its turn, and catches up by the log of another leader meanwhile, or leads
 * itself: it does not wait for ever. */
static void test_need_not_recover(void)
{
    struct world *w = world_new(63, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t osd = (world_leader(w, pg) + 1) % OSDS;
    w->osds[osd].shard->recoveries += 100;
    sim_node_enter(w->osds[osd].node);
    recover_start(group_on(w, osd));
    sim_node_leave(w->osds[osd].node);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(recover_active(group_on(w, osd)));
    world_lead(w, pg, osd);
    WAIT_FOR(w, 1000, !recover_active(group_on(w, osd)));
    w->osds[osd].shard->recoveries -= 100;
    world_free(w);
}

/* Of five. The leader's log has a tail that no other has; up to the end of that one is to get which recovers
 * from damage. The others go on without that leader, and without the tail: what has been committed is in the
 * first entry of the next leader and before, be it no more than that. */
static void test_target_dies_with_its_leader(void)
{
    struct world *w = world_new(65, 1);
    uint64_t pg = world_pg(w, 0);
    struct io io[WRITERS];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, pg), osd = (leader + 1) % OSDS, away = (leader + 2) % OSDS;
    for (uint32_t i = 1; i < OSDS; i++)
        refuse(w, (leader + i) % OSDS, true);
    for (uint32_t i = 0; i < WRITERS; i++) {
        io[i] = io_make(w, IO_WRITE, 0, i * BLOCK_SIZE, BLOCK_SIZE);
        io[i].data = data;
        io_begin(&io[i]);
    }
    WAIT_FOR(w, 1000,
             group_on(w, leader)->raft.last_index >= group_on(w, leader)->raft.commit_index + WRITERS);
    uint64_t tail = group_on(w, leader)->raft.last_index;
    WAIT_FOR(w, 1000, group_on(w, leader)->raft.durable_index == tail);
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    world_osd_kill(w, away, SIM_CRASH_PROCESS);
    world_osd_kill(w, leader, SIM_CRASH_PROCESS);
    w->ended = true;
    for (uint32_t i = 0; i < WRITERS; i++)
        WAIT_FOR(w, 10000, io[i].done);
    w->ended = false;
    world_osd_start(w, leader);
    WAIT_FOR(w, 10000, world_leader(w, pg) == leader);
    CHECK_EQ(group_on(w, leader)->raft.term_start_index, tail + 1);
    fake_store_damage_log(w->osds[osd].label.osd_uuid, pg, 0);
    world_osd_start(w, osd);
    WAIT_FOR(w, 5000, group_on(w, osd));
    refuse(w, osd, true);
    WAIT_FOR(w, 5000, !strcmp(recovery_state(w, osd), "catch-up"));
    world_osd_kill(w, leader, SIM_CRASH_PROCESS);
    world_osd_start(w, away);
    WAIT_FOR(w, 5000, group_on(w, away));
    for (uint32_t i = 1; i < OSDS; i++)
        refuse(w, (leader + i) % OSDS, false);
    WAIT_FOR(w, 10000, !strcmp(recovery_state(w, osd), "none") && world_settled(w));
    CHECK(group_on(w, osd)->raft.last_index < tail);
    world_osd_start(w, leader);
    WAIT_FOR(w, 5000, world_settled(w));
    world_free(w);
}

/* A copy that mends an object of a whole replica is begun anew, because the object has changed at its source;
 * meanwhile a recovery has begun, which has a source of its own. */
static void test_copy_meets_a_recovery(void)
{
    static struct recover_copy copy;
    struct world *w = world_new(64, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 3, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, pg), osd = (leader + 1) % OSDS;
    for (uint32_t recovers = 0; recovers < 2; recovers++) {
        memset(&copy, 0, sizeof(copy));
        fake_store_set_read_ns(osd_shard_store(w->osds[leader].shard), 20 * NS_PER_MS);
        sim_node_enter(w->osds[osd].node);
        recover_copy_start(&copy, group_on(w, osd), leader + 1, IMAGE, 3, 0, NULL);
        sim_node_leave(w->osds[osd].node);
        WAIT_FOR(w, 1000, copy.first_block);
        CHECK_EQ(world_write(w, 3, 0, BLOCK_SIZE, data), 0);
        if (recovers)
            world_replica(w, osd, pg)->record.state = STORE_PG_RECOVERING;
        fake_store_set_read_ns(osd_shard_store(w->osds[leader].shard), 0);
        WAIT_FOR(w, 1000, !op_live(&copy.op));
        CHECK(copy.tries);
        CHECK_EQ(copy.op.result, recovers ? -ERR_RECOVERING : 0);
        /* From its first window on. */
        uint64_t written[BLOCKS_PER_OBJECT / 64];
        CHECK(store_block_status(world_replica(w, osd, pg), IMAGE, 3, written) && written[0] == 1);
        world_replica(w, osd, pg)->record.state = STORE_PG_NORMAL;
    }
    WAIT_FOR(w, 5000, world_settled(w));
    world_free(w);
}

static void test_second_round_behind(void)
{
    second_round(41, false);
}

static void test_second_round_damaged(void)
{
    second_round(42, true);
}

/* An object whose page cannot be read where it is recovered is copied, though it is as new as the source's.
 */
static void test_damaged_here(void)
{
    struct world *w = world_new(55, 1);
    uint64_t pg = world_pg(w, 0);
    struct store_object_info info;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 3, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t osd = (world_leader(w, pg) + 1) % OSDS;
    fake_store_damage_block(osd_shard_store(w->osds[osd].shard), pg, IMAGE, 3, 9, true);
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    fake_store_damage_log(w->osds[osd].label.osd_uuid, pg, 0);
    world_osd_start(w, osd);
    WAIT_FOR(w, 10000, world_settled(w));
    CHECK(store_object_next(group_on(w, osd)->sp, true, 0, 0, &info));
    CHECK(info.object == 3 && !info.damaged);
    CHECK_EQ(w->osds[osd].shard->perf.recovered_objects, 1);
    world_free(w);
}

/* Object 3 is written while one replica is away, which then has to copy it; its block 9 is damaged at the
 * leader, and, with `third`, at the other replica, too. With `kept` the one that was away has that block, and
 * it has been damaged since. */
static struct world *recover_damaged(uint64_t seed, bool third, bool kept, uint32_t *ret_leader,
                                     uint32_t *ret_away)
{
    struct world *w = world_new(seed, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t leader = *ret_leader = world_leader(w, pg), away = *ret_away = (leader + 1) % OSDS;
    memset(data, 3, BLOCK_SIZE);
    if (kept)
        CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    world_osd_kill(w, away, SIM_CRASH_PROCESS);
    if (!kept)
        CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    CHECK_EQ(world_leader(w, pg), leader);
    for (uint32_t i = 0; i < OSDS; i++)
        if (i == leader || (third && i != away))
            fake_store_damage_block(osd_shard_store(w->osds[i].shard), pg, IMAGE, 3, 9, false);
    for (uint32_t block = 10; block < 12; block++)
        CHECK_EQ(world_write(w, 3, block * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    CHECK_EQ(world_leader(w, pg), leader);
    fake_store_damage_log(w->osds[away].label.osd_uuid, pg, 0);
    world_osd_start(w, away);
    WAIT_FOR(w, 10000, world_settled(w));
    CHECK(w->osds[away].shard->perf.recovered_objects > 0);
    return w;
}

static void test_damaged_source(void)
{
    uint32_t leader, away;
    struct world *w = recover_damaged(43, false, false, &leader, &away);

    CHECK_EQ(w->osds[leader].shard->perf.repaired_blocks, 1);
    world_lead(w, world_pg(w, 0), away);
    CHECK_EQ(world_read(w, 3, 9, 1, got), 0);
    CHECK(!memcmp(got, data, BLOCK_SIZE));
    CHECK_EQ(w->osds[away].shard->perf.repaired_blocks, 0);
    world_free(w);
}

/* The one that recovers is the only one that still has it. */
static void test_damaged_source_asks_back(void)
{
    uint32_t leader, away;
    struct world *w = recover_damaged(44, true, true, &leader, &away);

    CHECK_EQ(w->osds[leader].shard->perf.repaired_blocks, 1);
    CHECK_EQ(world_read(w, 3, 9, 1, got), 0);
    CHECK(!memcmp(got, data, BLOCK_SIZE));
    CHECK_EQ(w->osds[leader].shard->perf.repaired_blocks, 1);
    world_free(w);
}

static uint64_t bytes_sent(const struct world *w)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < OSDS; i++)
        sum += w->osds[i].shard->core->counters.net_bytes_out;
    return sum;
}

/* Nobody has it: that block is an error, also here from now on, until it is written again. */
static void test_damaged_everywhere(void)
{
    uint32_t leader, away;
    struct world *w = recover_damaged(45, true, false, &leader, &away);

    CHECK(w->osds[leader].shard->perf.unrepaired_reads > 0);
    CHECK_EQ(world_read(w, 3, 9, 1, got), -ERR_DAMAGED);
    world_lead(w, world_pg(w, 0), away);
    CHECK_EQ(world_read(w, 3, 9, 1, got), -ERR_DAMAGED);
    /* A reader that does not give up does not have the object copied each time. */
    uint64_t sent = bytes_sent(w);
    for (uint32_t i = 0; i < 20; i++)
        CHECK_EQ(world_read(w, 3, 9, 1, got), -ERR_DAMAGED);
    CHECK(bytes_sent(w) - sent < 20 * BLOCK_SIZE); /* one copy alone is two blocks */
    CHECK_EQ(world_read(w, 3, 10, 1, got), 0);
    CHECK(!memcmp(got, data, BLOCK_SIZE));
    CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    CHECK_EQ(world_read(w, 3, 9, 1, got), 0);
    CHECK(!memcmp(got, data, BLOCK_SIZE));
    world_free(w);
}

/* ---- what moves ---- */

#define DELTA_BLOCKS 40

/* In every other object a block ends with its own checksum, as blocks of file systems do: all such blocks
 * have the same crc32c. */
static void fill_delta(uint64_t object, uint8_t byte)
{
    memset(data, byte, BLOCK_SIZE);
    if (object % 2)
        return;
    uint32_t crc = crc32c(0, data, BLOCK_SIZE - sizeof(crc));
    memcpy(data + BLOCK_SIZE - sizeof(crc), &crc, sizeof(crc));
}

/* Object 0 .. OBJECTS - 1 have DELTA_BLOCKS blocks each; one replica has them all, and is away while `each`
 * of every object are overwritten and the log passes. */
static struct world *delta_world(uint64_t seed, uint32_t each, uint32_t *ret_away)
{
    struct world *w = world_new(seed, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint64_t object = 0; object < OBJECTS; object++)
        for (uint32_t block = 0; block < DELTA_BLOCKS; block++) {
            fill_delta(object, (uint8_t)(object + block));
            CHECK_EQ(world_write(w, object, block * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        }
    WAIT_FOR(w, 5000, world_settled(w));
    *ret_away = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;
    world_osd_kill(w, *ret_away, SIM_CRASH_PROCESS);
    for (uint64_t object = 0; object < OBJECTS; object++)
        for (uint32_t i = 0; i < each; i++) {
            fill_delta(object, (uint8_t)(object + 91));
            CHECK_EQ(world_write(w, object, (9 + 2 * i) * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        }
    return w;
}

static void delta_check(struct world *w, uint32_t osd, uint32_t each)
{
    world_lead(w, world_pg(w, 0), osd);
    for (uint64_t object = 0; object < OBJECTS; object++)
        for (uint32_t block = 0; block < DELTA_BLOCKS; block++) {
            bool changed = block >= 9 && (block - 9) % 2 == 0 && (block - 9) / 2 < each;
            CHECK_EQ(world_read(w, object, block, 1, got), 0);
            CHECK_EQ(got[100], (uint8_t)(changed ? object + 91 : object + block));
        }
    CHECK_EQ(w->osds[osd].shard->perf.repaired_blocks, 0);
}

/* Only the blocks that differ come, and all of these, though the checksums of some are the same: that proves
 * nothing. */
static void test_only_differing_blocks(void)
{
    uint32_t away;
    struct world *w = delta_world(46, 2, &away);

    world_osd_start(w, away);
    /* Half way it says so. */
    WAIT_FOR(w, 20000, w->osds[away].shard && w->osds[away].shard->perf.recovered_objects == OBJECTS / 2);
    uint64_t done, total, left_ns;
    recover_progress(pg_find(w->osds[away].shard, world_pg(w, 0)), &done, &total, &left_ns);
    CHECK_EQ(done, OBJECTS / 2);
    CHECK_EQ(total, OBJECTS);
    CHECK(left_ns > 0 && left_ns < NS_PER_S);
    WAIT_FOR(w, 20000, world_settled(w));
    const struct perf *perf = &w->osds[away].shard->perf;
    printf("# %d objects: %d blocks compared, %d came\n", (int)perf->recovered_objects,
           (int)perf->recover_compared, (int)perf->recover_received);
    CHECK_EQ(perf->recovered_objects, OBJECTS);
    CHECK_EQ(perf->recover_compared, DELTA_BLOCKS * OBJECTS - 2 * OBJECTS / 2);
    CHECK_EQ(perf->recover_received, 2 * OBJECTS);
    CHECK_EQ(perf->recover_same, (DELTA_BLOCKS - 2) * OBJECTS);
    delta_check(w, away, 2);
    world_free(w);
}

/* The one that recovers is killed again and again: what has been copied is not copied once more. */
static void test_goes_on_after_crashes(void)
{
    uint32_t away, crashes = 0;
    struct world *w = delta_world(47, 2, &away);
    uint64_t objects = 0, blocks = 0;

    world_osd_start(w, away);
    for (;;) {
        uint64_t until_ns = w->sim->now_ns + 20 * NS_PER_S;
        while (sim_step(w->sim, until_ns) && !world_settled(w) &&
               (!w->osds[away].shard || w->osds[away].shard->perf.recovered_objects < OBJECTS / 5))
            ;
        CHECK(w->sim->now_ns < until_ns);
        objects += w->osds[away].shard->perf.recovered_objects;
        blocks += w->osds[away].shard->perf.recover_received;
        if (world_settled(w))
            break;
        crashes++;
        world_osd_kill(w, away, SIM_CRASH_PROCESS);
        world_osd_start(w, away);
    }
    printf("# %d crashes, %d objects, %d blocks came\n", (int)crashes, (int)objects, (int)blocks);
    CHECK(crashes >= 4);
    /* Those that were under way at a crash, four at the most, were begun for nothing. */
    CHECK(objects <= OBJECTS + 4 * crashes && blocks <= 2 * (OBJECTS + 4 * crashes));
    delta_check(w, away, 2);
    world_free(w);
}

/* Beside clients it has a bounded share: windows are served one by one, with pauses that are longer than
 * they. */
static void test_clients_come_first(void)
{
    uint64_t took_ns[2];

    for (int busy = 0; busy < 2; busy++) {
        uint32_t away;
        struct world *w = delta_world(48, 15, &away);
        load.stop = true;
        if (busy)
            load_start(w);
        uint64_t begun_ns = w->sim->now_ns;
        world_osd_start(w, away);
        while (!w->osds[away].shard || w->osds[away].shard->perf.recover_received < 14 * OBJECTS) {
            CHECK(w->sim->now_ns < begun_ns + 20 * NS_PER_S && sim_step(w->sim, UINT64_MAX));
            if (busy)
                load_crank(w);
        }
        took_ns[busy] = w->sim->now_ns - begun_ns;
        load.stop = true;
        WAIT_FOR(w, 5000, !busy || load_crank(w));
        WAIT_FOR(w, 20000, world_settled(w));
        world_free(w);
    }
    /* 15 blocks are paid for with a pause of four times 61 us for each window that has them. */
    printf("# %d us without clients, %d us with\n", (int)(took_ns[0] / 1000), (int)(took_ns[1] / 1000));
    CHECK(took_ns[1] - took_ns[0] > OBJECTS * 4 * 61 * NS_PER_US / 2);
    CHECK(took_ns[1] < 10 * NS_PER_S);
}

/* But not one without which nothing can be committed, beside clients of other groups. */
static void test_needed_comes_first(void)
{
    uint32_t away;
    struct world *w = delta_world(51, 15, &away);
    uint32_t leader = world_leader(w, world_pg(w, 0));

    fake_store_set_read_ns(osd_shard_store(w->osds[leader].shard), 5 * NS_PER_MS);
    for (uint32_t i = 0; i < OSDS; i++)
        if (i != leader && i != away)
            world_osd_kill(w, i, SIM_CRASH_PROCESS);
    world_osd_start(w, away);
    WAIT_FOR(w, 5000, !strcmp(recovery_state(w, away), "copy"));
    uint64_t begun_ns = w->sim->now_ns;
    while (strcmp(recovery_state(w, away), "none")) {
        CHECK(w->sim->now_ns < begun_ns + 20 * NS_PER_S && sim_step(w->sim, UINT64_MAX));
        w->osds[leader].shard->client_ns = core_now_ns(w->osds[leader].shard->core);
    }
    uint64_t took_ns = w->sim->now_ns - begun_ns;
    printf("# %d ms\n", (int)(took_ns / NS_PER_MS));
    /* One by one, with a pause of four times as long, it would be 200 ms for each object. */
    CHECK(took_ns < OBJECTS * 50 * NS_PER_MS);
    memset(data, 3, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    world_free(w);
}

/* ---- repairs by copy ---- */

/* What one replica lost and what the others lost come together: no copy costs a block that is whole here,
 * though it lacks less. */
static void test_no_copy_costs_a_block(void)
{
    struct world *w = world_new(49, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 3, BLOCK_SIZE);
    for (uint32_t block = 9; block < 12; block++)
        CHECK_EQ(world_write(w, 3, block * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, pg);
    for (uint32_t i = 0; i < OSDS; i++) {
        struct store *store = osd_shard_store(w->osds[i].shard);
        fake_store_lose_block(store, pg, IMAGE, 3, i == leader ? 9 : 11);
        if (i == leader)
            fake_store_lose_block(store, pg, IMAGE, 3, 10);
    }
    for (uint32_t block = 9; block < 12; block++) {
        CHECK_EQ(world_read(w, 3, block, 1, got), 0);
        CHECK(!memcmp(got, data, BLOCK_SIZE));
    }
    world_free(w);
}

static bool all_are(const uint8_t *block, uint8_t byte)
{
    return block[0] == byte && !memcmp(block, block + 1, BLOCK_SIZE - 1);
}

/* A block that is damaged at the leader is overwritten twice while another member is asked for it, which has
 * the first of these by then: whatever the reader gets has the checksum that comes with it. */
static void test_overwritten_during_a_repair(void)
{
    enum { READ_MS = 100, STEPS = 40 };
    struct world *w = world_new(56, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < STEPS; i++) {
        memset(data, 1, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        WAIT_FOR(w, 5000, world_settled(w));
        uint32_t leader = world_leader(w, pg), asked = leader == 0;
        fake_store_damage_block(osd_shard_store(w->osds[leader].shard), pg, IMAGE, 3, 9, false);
        fake_store_set_read_ns(osd_shard_store(w->osds[asked].shard), READ_MS * NS_PER_MS);
        struct io read = io_make(w, IO_READ, 3, 9 * BLOCK_SIZE, BLOCK_SIZE);
        read.ret_data = got;
        io_begin(&read);
        uint64_t done_ns = w->sim->now_ns + READ_MS * NS_PER_MS - 200 * NS_PER_US;
        sim_run_for(w->sim, 2 * NS_PER_MS);
        memset(data, 2, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        WAIT_FOR(w, READ_MS - 10, world_settled(w));
        sim_run_for(w->sim, done_ns - w->sim->now_ns + i * 10 * NS_PER_US);
        memset(data, 3, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        WAIT_FOR(w, 10000, read.done);
        CHECK_EQ(read.result, 0);
        CHECK(all_are(got, 1) || all_are(got, 2) || all_are(got, 3));
        fake_store_set_read_ns(osd_shard_store(w->osds[asked].shard), 0);
    }
    world_free(w);
}

/* A block is damaged at the leader. The first that is asked for it reads it before it hears of the last
 * write, and answers after that: it may have it when it is asked again, so the block is not lost. The other
 * one's is damaged, too. */
static void test_an_answer_is_as_old_as_its_read(void)
{
    enum { READ_MS = 100 };
    struct world *w = world_new(73, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 1, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, pg), first = leader == 0, other = 3 - leader - first;
    struct store *asked = osd_shard_store(w->osds[first].shard);
    fake_store_set_read_ns(asked, READ_MS * NS_PER_MS);
    fake_store_read_early(asked);
    memset(data, 2, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    const struct store_pg *sp = pg_find(w->osds[first].shard, pg)->sp;
    CHECK(sp->applied_index < sp->last_index);
    fake_store_damage_block(osd_shard_store(w->osds[leader].shard), pg, IMAGE, 3, 9, false);
    struct io read = io_make(w, IO_READ, 3, 9 * BLOCK_SIZE, BLOCK_SIZE);
    read.ret_data = got;
    io_begin(&read);
    sim_run_for(w->sim, 2 * NS_PER_MS);
    WAIT_FOR(w, READ_MS / 2, world_settled(w));
    fake_store_damage_block(osd_shard_store(w->osds[other].shard), pg, IMAGE, 3, 9, false);
    fake_store_set_read_ns(asked, 0);
    WAIT_FOR(w, 10000, read.done);
    CHECK_EQ(read.result, 0);
    CHECK(all_are(got, 2));
    world_free(w);
}

/* While it is repaired an object goes with an entry that the others have yet to apply: it is not copied from
 * them before they have. */
static void test_no_copy_of_what_has_gone(void)
{
    struct world *w = world_new(57, 1);
    uint64_t pg = world_pg(w, 0), written[BLOCKS_PER_OBJECT / 64];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 1, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    struct store_pg *sp = pg_find(w->osds[world_leader(w, pg)].shard, pg)->sp;
    fake_store_lose_block(sp->store, pg, IMAGE, 3, 9);
    /* The others have yet to hear that this is committed, so they are asked again later. */
    CHECK_EQ(world_write(w, 4, 0, BLOCK_SIZE, data), 0);
    struct io read = io_make(w, IO_READ, 3, 9 * BLOCK_SIZE, BLOCK_SIZE);
    read.ret_data = got;
    io_begin(&read);
    sim_run_for(w->sim, 5 * NS_PER_MS);
    CHECK(!read.done);
    fake_store_drop_object(sp->store, pg, IMAGE, 3);
    sp->gone_index = sp->applied_index + 1;
    sim_run_for(w->sim, 200 * NS_PER_MS);
    CHECK(!read.done && !store_block_status(sp, IMAGE, 3, written));
    CHECK_EQ(world_write(w, 4, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, read.done);
    CHECK_EQ(read.result, 0);
    CHECK(store_block_status(sp, IMAGE, 3, written));
    world_free(w);
}

/* A leader alone, whose entries nobody else has, dies. Its log is cut when it is back: from then on it is as
 * settled as the others are, though its log was longer. */
static void test_settled_after_a_cut(void)
{
    struct world *w = world_new(51, 1);
    uint64_t pg = world_pg(w, 0);
    struct io ios[5];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, pg);
    for (uint32_t i = 1; i < OSDS; i++)
        world_osd_kill(w, (leader + i) % OSDS, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < ARRAY_LEN(ios); i++) {
        ios[i] = io_make(w, IO_WRITE, 0, i * BLOCK_SIZE, BLOCK_SIZE);
        ios[i].data = data;
        ios[i].force_term = pg_find(w->osds[leader].shard, pg)->raft.term; /* not sent again in another */
        io_begin(&ios[i]);
    }
    sim_run_for(w->sim, 20 * NS_PER_MS);
    uint64_t last = pg_find(w->osds[leader].shard, pg)->sp->last_index;
    world_osd_kill(w, leader, SIM_CRASH_PROCESS);
    for (uint32_t i = 1; i < OSDS; i++)
        world_osd_start(w, (leader + i) % OSDS);
    WAIT_FOR(w, 5000, world_leader(w, pg) != UINT32_MAX);
    sim_run_for(w->sim, 500 * NS_PER_MS);
    world_osd_start(w, leader);
    WAIT_FOR(w, 5000, world_settled(w));
    const struct pg *back = pg_find(w->osds[leader].shard, pg);
    printf("# the log ended at %d, and ends at %d\n", (int)last, (int)back->sp->last_index);
    CHECK(back->sp->last_index < last);
    CHECK(back->sp->applied_index >= back->settled_index);
    for (uint32_t i = 0; i < ARRAY_LEN(ios); i++) {
        ios[i].force_term = 0;
        WAIT_FOR(w, 10000, ios[i].done);
    }
    world_free(w);
}

/* What is older by a single entry is old. */
static void test_one_entry_older(void)
{
    struct world *w = world_new(52, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 3, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t osd = (world_leader(w, pg) + 1) % OSDS;
    uint64_t index = pg_find(w->osds[osd].shard, pg)->sp->applied_index;
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    for (uint64_t i = 0; i < 2 * FAKE_LOG_KEEP; i++) {
        memset(data, 4, BLOCK_SIZE);
        CHECK_EQ(world_write(w, i ? 1 : 3, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
        CHECK(i || pg_find(w->osds[world_leader(w, pg)].shard, pg)->sp->last_index == index + 1);
    }
    world_osd_start(w, osd);
    WAIT_FOR(w, 20000, world_settled(w));
    CHECK(w->osds[osd].shard->perf.recovered_objects > 0);
    world_lead(w, pg, osd);
    CHECK_EQ(world_read(w, 3, 9, 1, got), 0);
    CHECK_EQ(got[0], 4);
    world_free(w);
}

/* While a recovery's window is read, which takes long, the next in the row sleeps. */
static void test_waiting_costs_nothing(void)
{
    uint32_t away;
    struct world *w = delta_world(50, 2, &away);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    struct osd_shard *shard = w->osds[leader].shard;

    fake_store_set_read_ns(osd_shard_store(shard), 50 * NS_PER_MS);
    load_start(w);
    world_osd_start(w, away);
    while (!shard->turns.active || !shard->turns.waiting_count) {
        CHECK(sim_step(w->sim, UINT64_MAX));
        load_crank(w);
    }
    uint64_t timers = shard->core->counters.timers, until_ns = w->sim->now_ns + 40 * NS_PER_MS;
    while (sim_step(w->sim, until_ns) && w->sim->now_ns < until_ns)
        ;
    printf("# %d timers in 40 ms\n", (int)(shard->core->counters.timers - timers));
    CHECK(shard->turns.waiting_count);
    CHECK(shard->core->counters.timers - timers < 40);
    load.stop = true;
    WAIT_FOR(w, 5000, load_crank(w));
    fake_store_set_read_ns(osd_shard_store(shard), 0);
    WAIT_FOR(w, 20000, world_settled(w));
    world_free(w);
}

/* A recovery that cannot go on, because there is no leader, keeps nobody from his turn. */
static void test_turn_is_given_back(void)
{
    struct world *w = world_new(31, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t osd = one_falls_behind(w, pg);

    world_osd_start(w, osd);
    WAIT_FOR(w, 10000, w->osds[osd].shard && w->osds[osd].shard->recoveries == 1);
    for (uint32_t i = 0; i < OSDS; i++)
        if (i != osd)
            world_osd_kill(w, i, SIM_CRASH_PROCESS);
    WAIT_FOR(w, 10000, !strcmp(recovery_state(w, osd), "wait"));
    sim_run_for(w->sim, NS_PER_S);
    CHECK_EQ(w->osds[osd].shard->recoveries, 0);
    for (uint32_t i = 0; i < OSDS; i++)
        if (i != osd)
            world_osd_start(w, i);
    WAIT_FOR(w, 20000, world_settled(w));
    check_objects(w, osd);
    world_free(w);
}

int main(void)
{
    if (MEMBERS == 5) {
        TEST(test_target_dies_with_its_leader);
        fake_store_forget_all();
        return tap_done();
    }
    TEST(test_second_round_behind);
    TEST(test_second_round_damaged);
    TEST(test_damaged_here);
    TEST(test_damaged_source);
    TEST(test_damaged_source_asks_back);
    TEST(test_damaged_everywhere);
    TEST(test_only_differing_blocks);
    TEST(test_goes_on_after_crashes);
    TEST(test_clients_come_first);
    TEST(test_needed_comes_first);
    TEST(test_no_copy_costs_a_block);
    TEST(test_overwritten_during_a_repair);
    TEST(test_an_answer_is_as_old_as_its_read);
    TEST(test_no_copy_of_what_has_gone);
    TEST(test_settled_after_a_cut);
    TEST(test_one_entry_older);
    TEST(test_waiting_costs_nothing);
    TEST(test_turn_is_given_back);
    TEST(test_damage_found_meanwhile);
    TEST(test_acknowledged_and_lost);
    TEST(test_damage_found_at_the_end);
    TEST(test_damage_found_behind_the_end);
    TEST(test_need_not_recover);
    TEST(test_copy_meets_a_recovery);
    fake_store_forget_all();
    return tap_done();
}
