/* SPDX-License-Identifier: Apache-2.0
 *
 * Leaders and followers die, hang, leave and come back while a client writes; nothing that was acknowledged
 * is lost, the interruption is short, and all replicas end up the same.
 */
#include <stdlib.h>
#include <string.h>

#include "sim/rng.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

#define STREAMS 8
#define PACE_NS (5 * NS_PER_MS) /* between two writes of a stream */

static uint8_t got[IO_SIZE_MAX];

/* A stream writes its own block of its own object again and again, each time with a higher number. */
struct stream {
    struct io io;
    uint64_t object;
    uint32_t block;
    uint8_t data[BLOCK_SIZE];
    uint64_t number; /* being written */
    uint64_t acked;
    uint64_t started_ns, longest_ns, next_ns;
};

struct load {
    struct world *w;
    struct stream streams[STREAMS];
    bool stop;
};

static void stream_go(struct load *load, struct stream *s)
{
    s->number++;
    for (uint32_t i = 0; i < BLOCK_SIZE; i += 8)
        memcpy(&s->data[i], &s->number, 8);
    s->io = io_make(load->w, IO_WRITE, s->object, s->block * BLOCK_SIZE, BLOCK_SIZE);
    s->io.data = s->data;
    s->started_ns = load->w->sim->now_ns;
    io_begin(&s->io);
}

static void load_start(struct load *load, struct world *w)
{
    *load = (struct load){.w = w};
    for (uint32_t i = 0; i < STREAMS; i++) {
        load->streams[i].object = i % 4;
        load->streams[i].block = 3 + i * 7;
        stream_go(load, &load->streams[i]);
    }
}

/* Takes answers and goes on. True when all have stopped. */
static bool load_crank(struct load *load)
{
    bool idle = true;

    for (uint32_t i = 0; i < STREAMS; i++) {
        struct stream *s = &load->streams[i];
        if (!s->io.done) {
            idle = false;
            continue;
        }
        if (s->io.result == 0 && s->acked != s->number) {
            s->acked = s->number;
            s->next_ns = load->w->sim->now_ns + PACE_NS;
            s->longest_ns = MAX(s->longest_ns, load->w->sim->now_ns - s->started_ns);
        }
        CHECK_EQ(s->io.result, 0);
        if (load->stop)
            continue;
        idle = false;
        if (s->next_ns <= load->w->sim->now_ns)
            stream_go(load, s);
    }
    return idle;
}

static void load_run(struct load *load, uint64_t ms)
{
    uint64_t until_ns = load->w->sim->now_ns + ms * NS_PER_MS;

    do
        load_crank(load);
    while (load->w->sim->now_ns < until_ns && sim_step(load->w->sim, until_ns));
    sim_run_until(load->w->sim, until_ns);
    if (load->w->sim->failed && tap_ok) {
        printf("# %s\n", load->w->sim->failure);
        CHECK(!load->w->sim->failed);
    }
}

/* A world with that load, for so long. */
static struct world *load_begin(struct load *load, uint64_t seed, uint32_t pg_count, uint64_t ms)
{
    struct world *w = world_new(seed, pg_count);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    load_start(load, w);
    load_run(load, ms);
    return w;
}

static uint64_t load_longest_ms(const struct load *load)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < STREAMS; i++)
        longest = MAX(longest, load->streams[i].longest_ns);
    return longest / NS_PER_MS;
}

static void load_reset_longest(struct load *load)
{
    for (uint32_t i = 0; i < STREAMS; i++)
        load->streams[i].longest_ns = 0;
}

static void load_check(struct load *load)
{
    for (uint32_t i = 0; i < STREAMS; i++) {
        struct stream *s = &load->streams[i];
        uint64_t number;
        CHECK_EQ(world_read(load->w, s->object, s->block, 1, got), 0);
        memcpy(&number, got, 8);
        CHECK_EQ(number, s->acked);
    }
}

static void load_stop(struct load *load)
{
    load->stop = true;
    WAIT_FOR(load->w, 30000, load_crank(load));
    load_check(load);
}

/* Each OSD in turn leads everything and is read from: so the state of every replica is looked at. */
static void check_replicas(struct load *load)
{
    struct world *w = load->w;

    WAIT_FOR(w, 20000, world_settled(w));
    for (uint32_t i = 0; i < OSDS; i++) {
        for (uint32_t p = 0; p < w->pg_count; p++) {
            const struct store_pg *sp = world_replica(w, i, placement_pg_id(POOL, p));
            const struct store_pg *first = world_replica(w, 0, placement_pg_id(POOL, p));
            struct store_object_info a, b;
            bool start = true;
            CHECK_EQ(sp->object_count, first->object_count);
            CHECK(store_image_get(sp, IMAGE) && store_image_get(first, IMAGE));
            a = b = (struct store_object_info){0};
            while (store_object_next(sp, start, a.image, a.object, &a)) {
                CHECK(store_object_next(first, start, b.image, b.object, &b));
                CHECK(a.image == b.image && a.object == b.object && a.index == b.index);
                uint64_t written_a[BLOCKS_PER_OBJECT / 64], written_b[BLOCKS_PER_OBJECT / 64];
                CHECK(store_block_status(sp, a.image, a.object, written_a));
                CHECK(store_block_status(first, a.image, a.object, written_b));
                CHECK(!memcmp(written_a, written_b, sizeof(written_a)));
                start = false;
            }
        }
    }
}

static bool leads_all(struct world *w, uint32_t osd)
{
    for (uint32_t p = 0; p < w->pg_count; p++)
        if (world_leader(w, placement_pg_id(POOL, p)) != osd)
            return false;
    return true;
}

static void move_leaders(struct world *w, uint32_t to)
{
    Fb__PgTransferRequest request = FB__PG_TRANSFER_REQUEST__INIT;

    request.to_osd = to;
    for (int tries = 0; tries < 10 && !leads_all(w, to); tries++) {
        for (uint32_t i = 0; i < OSDS; i++) {
            if (i == to || !w->osds[i].shard)
                continue;
            sim_node_enter(w->osds[i].node);
            (void)pg_transfer(w->osds[i].shard, &request); /* one may be under way */
            sim_node_leave(w->osds[i].node);
        }
        sim_run_for(w->sim, 200 * NS_PER_MS);
    }
    CHECK(leads_all(w, to));
}

static void check_everywhere(struct load *load)
{
    check_replicas(load);
    for (uint32_t i = 0; i < OSDS; i++) {
        move_leaders(load->w, i);
        load_check(load);
    }
}

static void test_leader_killed(void)
{
    struct load load;
    struct world *w = load_begin(&load, 11, 4, 300);

    uint32_t leader = world_leader(w, world_pg(w, 0));
    load_reset_longest(&load);
    world_osd_kill(w, leader, SIM_CRASH_PROCESS);
    load_run(&load, 2000);
    printf("# a killed leader: at most %d ms\n", (int)load_longest_ms(&load));
    CHECK(load_longest_ms(&load) < 500);
    world_osd_start(w, leader);
    load_run(&load, 1000);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

static void test_leader_hangs(void)
{
    struct load load;
    struct world *w = load_begin(&load, 12, 4, 300);

    uint32_t leader = world_leader(w, world_pg(w, 0));
    load_reset_longest(&load);
    sim_node_pause(w->osds[leader].node);
    load_run(&load, 4000);
    sim_node_resume(w->osds[leader].node);
    load_run(&load, 1000);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

/* Nobody has heard from it for up to half a second, and nobody needs to have. */
static void test_leader_hangs_at_rest(void)
{
    struct world *w = world_new(12, 4);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    sim_run_for(w->sim, 3 * NS_PER_S);
    uint32_t leader = world_leader(w, world_pg(w, 0));
    sim_node_pause(w->osds[leader].node);
    uint64_t hung_ns = w->sim->now_ns;
    WAIT_FOR(w, 2000, world_leader(w, world_pg(w, 0)) != leader);
    printf("# a leader that hangs at rest: replaced after %d ms\n",
           (int)((w->sim->now_ns - hung_ns) / NS_PER_MS));
    CHECK(w->sim->now_ns - hung_ns < 1100 * NS_PER_MS);
    sim_node_resume(w->osds[leader].node);
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    world_free(w);
}

/* Nothing gets through by the one of two connections of a pair of shards that carries, and no third member is
 * there. */
static void test_silent_connection(void)
{
    for (uint32_t leader = 0; leader < 2; leader++) {
        struct load load;
        struct world *w = load_begin(&load, 21 + leader, 4, 300);

        move_leaders(w, leader);
        world_osd_kill(w, 2, SIM_CRASH_POWER);
        load_run(&load, 1000);
        load_reset_longest(&load);
        sim_net_silence(w->net, w->osds[0].node->host, w->osds[1].node->host);
        load_run(&load, 8000);
        printf("# a connection goes silent: at most %d ms\n", (int)load_longest_ms(&load));
        CHECK(load_longest_ms(&load) < 1000);
        CHECK(leads_all(w, leader)); /* nobody else had to */
        load_stop(&load);
        world_free(w);
    }
}

static void test_follower_killed(void)
{
    struct load load;
    struct world *w = load_begin(&load, 13, 4, 200);

    uint32_t follower = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;
    load_reset_longest(&load);
    world_osd_kill(w, follower, SIM_CRASH_PROCESS);
    load_run(&load, 500);
    printf("# a killed follower: at most %d ms\n", (int)load_longest_ms(&load));
    CHECK(load_longest_ms(&load) < 20);
    /* Long enough for the log to be trimmed: it must be copied. */
    world_osd_start(w, follower);
    load_run(&load, 1000);
    load_stop(&load);
    CHECK(w->osds[follower].shard->perf.recoveries > 0);
    check_everywhere(&load);
    world_free(w);
}

static void test_follower_hangs(void)
{
    struct load load;
    struct world *w = load_begin(&load, 14, 4, 200);

    uint32_t follower = (world_leader(w, world_pg(w, 0)) + 2) % OSDS;
    load_reset_longest(&load);
    sim_node_pause(w->osds[follower].node);
    load_run(&load, 1000);
    CHECK(load_longest_ms(&load) < 20);
    sim_node_resume(w->osds[follower].node);
    load_run(&load, 1000);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

static void test_all_killed(void)
{
    struct load load;
    struct world *w = load_begin(&load, 15, 4, 300);

    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_POWER);
    load_run(&load, 100);
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_start(w, i);
    load_run(&load, 3000);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

static void test_orderly_stop(void)
{
    struct load load;
    struct world *w = load_begin(&load, 16, 4, 300);

    uint32_t leader = world_leader(w, world_pg(w, 0));
    load_reset_longest(&load);
    load.stop = true;
    WAIT_FOR(w, 5000, load_crank(&load));
    load.stop = false;
    uint64_t before_ns = w->sim->now_ns;
    world_osd_stop(w, leader);
    printf("# an orderly stop took %d ms\n", (int)((w->sim->now_ns - before_ns) / NS_PER_MS));
    load_run(&load, 1000);
    printf("# after it: at most %d ms\n", (int)load_longest_ms(&load));
    CHECK(load_longest_ms(&load) < 300);
    world_osd_start(w, leader);
    load_run(&load, 1000);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

static void test_damaged_log(void)
{
    struct load load;
    struct world *w = load_begin(&load, 17, 2, 300);

    uint32_t follower = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;
    world_osd_kill(w, follower, SIM_CRASH_POWER);
    fake_store_damage_log(w->osds[follower].label.osd_uuid, world_pg(w, 0), 0);
    world_osd_start(w, follower);
    load_run(&load, 1000);
    load_stop(&load);
    WAIT_FOR(w, 5000, world_settled(w));
    CHECK(w->osds[follower].shard->perf.recoveries > 0);
    check_everywhere(&load);
    world_free(w);
}

/* Damage is remembered before anybody is there to recover from, and then over another start. */
static void test_damage_remembered(void)
{
    struct load load;
    struct world *w = load_begin(&load, 22, 2, 300);

    load_stop(&load);
    WAIT_FOR(w, 5000, world_settled(w));
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_kill(w, i, SIM_CRASH_POWER);
    fake_store_damage_log(w->osds[0].label.osd_uuid, world_pg(w, 0), 0);
    for (int start = 0; start < 2; start++) {
        world_osd_start(w, 0);
        WAIT_FOR(w, 5000, w->osds[0].shard);
        sim_run_for(w->sim, 100 * NS_PER_MS);
        const struct store_pg *sp = world_replica(w, 0, world_pg(w, 0));
        CHECK_EQ(sp->record.state, STORE_PG_DAMAGED);
        CHECK(pg_find(w->osds[0].shard, world_pg(w, 0))->raft.abstain);
        world_osd_kill(w, 0, SIM_CRASH_POWER);
    }
    for (uint32_t i = 0; i < OSDS; i++)
        world_osd_start(w, i);
    WAIT_FOR(w, 10000, world_settled(w));
    CHECK(w->osds[0].shard->perf.recoveries > 0);
    check_everywhere(&load);
    world_free(w);
}

/* It recovers once there is memory for that, and waits for no other leader: be its log damaged, or whole, so
 * that the leader has nothing to send it. */
static void recovery_without_memory(bool damaged)
{
    enum store_pg_state state = damaged ? STORE_PG_DAMAGED : STORE_PG_RECOVERING;
    struct load load;
    struct world *w = load_begin(&load, 23 + damaged, 1, 100);

    load_stop(&load);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t osd = (world_leader(w, world_pg(w, 0)) + 1) % OSDS;
    w->osds[osd].node->heap.refused = FRAME_BODY_MAX;
    if (!damaged) {
        sim_node_enter(w->osds[osd].node);
        pg_record_want(pg_find(w->osds[osd].shard, world_pg(w, 0)), state, 0, 0);
        sim_node_leave(w->osds[osd].node);
        WAIT_FOR(w, 5000, world_replica(w, osd, world_pg(w, 0))->record.state == state);
    }
    world_osd_kill(w, osd, SIM_CRASH_POWER);
    if (damaged)
        fake_store_damage_log(w->osds[osd].label.osd_uuid, world_pg(w, 0), 0);
    for (int start = 0; start < 2; start++) {
        world_osd_start(w, osd);
        sim_run_for(w->sim, 3 * NS_PER_S);
        CHECK_EQ(world_replica(w, osd, world_pg(w, 0))->record.state, state);
        if (!start)
            world_osd_kill(w, osd, SIM_CRASH_POWER);
    }
    CHECK_EQ(w->osds[osd].shard->perf.recoveries, 0);
    uint64_t term = pg_find(w->osds[osd].shard, world_pg(w, 0))->raft.term;
    w->osds[osd].node->heap.refused = 0;
    WAIT_FOR(w, 2000, world_settled(w));
    CHECK_EQ(pg_find(w->osds[osd].shard, world_pg(w, 0))->raft.term, term);
    check_everywhere(&load);
    world_free(w);
}

static void test_recovery_without_memory(void)
{
    recovery_without_memory(true);
    recovery_without_memory(false);
}

static void test_damaged_blocks(void)
{
    struct load load;
    struct world *w = load_begin(&load, 18, 1, 100);

    load_stop(&load);
    WAIT_FOR(w, 5000, world_settled(w));
    uint32_t leader = world_leader(w, world_pg(w, 0));
    struct store *store = osd_shard_store(w->osds[leader].shard);
    fake_store_damage_block(store, world_pg(w, 0), IMAGE, 0, load.streams[0].block, false);
    load_check(&load);
    CHECK_EQ(w->osds[leader].shard->perf.repaired_blocks, 1);
    /* A merge reads the old block, too. */
    fake_store_damage_block(store, world_pg(w, 0), IMAGE, 0, load.streams[0].block, false);
    CHECK_EQ(world_write(w, 0, load.streams[0].block * BLOCK_SIZE + 100, 8, (uint8_t *)"12345678"), 0);
    load_check(&load);
    /* A medium that does not give back what a repair wrote: the reader has what the other replica sent. */
    fake_store_forget_repairs(store);
    fake_store_damage_block(store, world_pg(w, 0), IMAGE, 0, load.streams[0].block, false);
    load_check(&load);
    load_check(&load);
    CHECK_EQ(w->osds[leader].shard->perf.unrepaired_reads, 0);
    /* A page that cannot be read. */
    fake_store_damage_block(store, world_pg(w, 0), IMAGE, 1, load.streams[1].block, true);
    load_check(&load);
    WAIT_FOR(w, 5000, world_settled(w));
    check_everywhere(&load);
    world_free(w);
}

static void test_store_fails(void)
{
    struct load load;
    struct world *w = load_begin(&load, 19, 4, 300);

    uint32_t leader = world_leader(w, world_pg(w, 0));
    load_reset_longest(&load);
    sim_node_enter(w->osds[leader].node);
    fake_store_fail(osd_shard_store(w->osds[leader].shard));
    sim_node_leave(w->osds[leader].node);
    load_run(&load, 2000);
    printf("# a failed device: at most %d ms\n", (int)load_longest_ms(&load));
    CHECK(load_longest_ms(&load) < 150); /* handed over: no promise had to run out */
    CHECK(osd_shard_failed(w->osds[leader].shard) != 0);
    load_stop(&load);
    world_free(w);
}

static void refuse(struct world *w, uint32_t osd, bool on)
{
    sim_node_enter(w->osds[osd].node);
    fake_store_refuse(osd_shard_store(w->osds[osd].shard), on);
    sim_node_leave(w->osds[osd].node);
}

/* A log ring without room: nobody notices one follower, which gets the entries again when it has room. */
static void test_append_refused(void)
{
    struct world *w = world_new(20, 4);
    struct load load;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    move_leaders(w, 0);
    load_start(&load, w);
    load_run(&load, 200);
    load_reset_longest(&load);
    refuse(w, 1, true);
    load_run(&load, 10);
    CHECK(load_longest_ms(&load) < 20);
    CHECK(w->osds[1].shard->perf.append_refusals > 0);
    refuse(w, 1, false);
    load_run(&load, 100);
    CHECK_EQ(w->osds[1].shard->perf.recoveries, 0);
    CHECK_EQ(w->osds[0].shard->perf.elections_won, w->pg_count);
    /* Both: nothing is committed, and nothing is lost, until one has room. */
    refuse(w, 1, true);
    refuse(w, 2, true);
    load_run(&load, 300);
    refuse(w, 2, false);
    load_reset_longest(&load);
    load_run(&load, 200);
    printf("# both refused: then at most %d ms\n", (int)load_longest_ms(&load));
    refuse(w, 1, false);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

/* Both followers have refused entries when the leader dies: they elect one of them. */
static void test_refused_and_leader_killed(void)
{
    struct world *w = world_new(21, 4);
    struct load load;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    move_leaders(w, 0);
    load_start(&load, w);
    load_run(&load, 200);
    refuse(w, 1, true);
    refuse(w, 2, true);
    load_run(&load, 50);
    CHECK(w->osds[1].shard->perf.append_refusals > 0 && w->osds[2].shard->perf.append_refusals > 0);
    world_osd_kill(w, 0, SIM_CRASH_PROCESS);
    refuse(w, 1, false);
    refuse(w, 2, false);
    load_reset_longest(&load);
    load_run(&load, 1500);
    for (uint32_t p = 0; p < w->pg_count; p++)
        CHECK(world_leader(w, placement_pg_id(POOL, p)) != 0);
    world_osd_start(w, 0);
    load_stop(&load);
    check_everywhere(&load);
    world_free(w);
}

/* Every replica is there and has all that it should. */
static bool all_whole(struct world *w)
{
    for (uint32_t i = 0; i < OSDS; i++)
        for (uint32_t p = 0; p < w->pg_count; p++) {
            struct osd_pg_view view;
            if (!w->osds[i].shard || !osd_pg_view(w->osds[i].shard, placement_pg_id(POOL, p), &view) ||
                view.recovering || view.damaged)
                return false;
        }
    return true;
}

/* Everything at random, for a while. */
static void run_storm(uint64_t seed)
{
    struct world *w = world_new(seed, 3);
    struct sim_rng rng = sim_rng_make(seed, "storm", 0);
    struct sim_net_faults faults = {.oneway_drop_ppm = 20000,
                                    .oneway_dup_ppm = 20000,
                                    .oneway_reorder_ppm = 20000,
                                    .break_ppm = 200,
                                    .busy_ppm = 1000};
    struct load load;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    load_start(&load, w);
    if (seed % 2)
        sim_net_set_faults(w->net, &faults);
    for (int step = 0; step < 12; step++) {
        uint32_t osd = (uint32_t)sim_rng_below(&rng, OSDS);
        struct sim_node *node = w->osds[osd].node;

        load_run(&load, sim_rng_below(&rng, 500));
        if (sim_rng_below(&rng, 3) == 0) {
            sim_node_pause(node);
            load_run(&load, sim_rng_below(&rng, 1000));
            sim_node_resume(node);
        } else {
            /* One at a time may lose something: all must be whole before the next. */
            uint64_t until_ns = w->sim->now_ns + 20 * NS_PER_S;
            while (!all_whole(w) && w->sim->now_ns < until_ns && !w->sim->failed)
                load_run(&load, 10);
            CHECK(all_whole(w));
            world_osd_kill(w, osd, sim_rng_below(&rng, 2) ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
            if (sim_rng_below(&rng, 4) == 0)
                for (uint32_t p = 0; p < w->pg_count; p++)
                    fake_store_damage_log(w->osds[osd].label.osd_uuid, placement_pg_id(POOL, p), 0);
            load_run(&load, sim_rng_below(&rng, 1000));
            world_osd_start(w, osd);
            WAIT_FOR(w, 60000, w->osds[osd].shard);
        }
    }
    sim_net_set_faults(w->net, &(struct sim_net_faults){0});
    load_stop(&load);
    check_everywhere(&load);
    if (!tap_ok)
        printf("# seed %d\n", (int)seed);
    world_free(w);
}

static void test_storm(void)
{
    uint64_t first = getenv("OSD_TEST_SEED") ? strtoull(getenv("OSD_TEST_SEED"), NULL, 0) : 100;
    uint64_t count = getenv("OSD_TEST_SEED")    ? 1
                     : getenv("OSD_TEST_SEEDS") ? strtoull(getenv("OSD_TEST_SEEDS"), NULL, 0)
                                                : 6;

    for (uint64_t seed = first; seed < first + count && tap_ok; seed++)
        run_storm(seed);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_leader_killed);
    TEST(test_leader_hangs);
    TEST(test_leader_hangs_at_rest);
    TEST(test_silent_connection);
    TEST(test_follower_killed);
    TEST(test_follower_hangs);
    TEST(test_all_killed);
    TEST(test_orderly_stop);
    TEST(test_damaged_log);
    TEST(test_damage_remembered);
    TEST(test_recovery_without_memory);
    TEST(test_damaged_blocks);
    TEST(test_store_fails);
    TEST(test_append_refused);
    TEST(test_refused_and_leader_killed);
    TEST(test_storm);
    fake_store_forget_all();
    return tap_done();
}
