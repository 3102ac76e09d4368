/* SPDX-License-Identifier: Apache-2.0
 *
 * A recovery that takes longer than the leader's log lasts: the next round starts from where the first one
 * ended, and so gets there.
 */
#include <string.h>

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

/* Runs under load until the replica is whole and stays so. Returns how many rounds of copying it took. */
static uint32_t run_recovery(struct world *w, uint32_t osd)
{
    uint64_t until_ns = w->sim->now_ns + 20 * NS_PER_S, busy_ns = w->sim->now_ns;
    uint32_t rounds = 0;
    const char *last = "none";
    struct osd_pg_view view;

    while (w->sim->now_ns < until_ns && w->sim->now_ns - busy_ns < NS_PER_S && sim_step(w->sim, until_ns)) {
        load_crank(w);
        const char *state = recovery_state(w, osd);
        rounds += !strcmp(state, "copy") && strcmp(last, "copy");
        last = state;
        if (strcmp(state, "none") || !w->osds[osd].shard ||
            !osd_pg_view(w->osds[osd].shard, world_pg(w, 0), &view) || view.recovering || view.damaged)
            busy_ns = w->sim->now_ns;
    }
    CHECK(w->sim->now_ns < until_ns);
    return rounds;
}

static void check_objects(struct world *w, uint32_t osd)
{
    Fb__PgTransferRequest request = FB__PG_TRANSFER_REQUEST__INIT;
    uint64_t pg = world_pg(w, 0);
    uint32_t from = world_leader(w, pg);

    request.pg = pg;
    request.to_osd = osd;
    sim_node_enter(w->osds[from].node);
    CHECK_EQ(pg_transfer(w->osds[from].shard, &request), 0);
    sim_node_leave(w->osds[from].node);
    WAIT_FOR(w, 2000, world_leader(w, pg) == osd);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        CHECK_EQ(world_read(w, object, 9, 1, got), 0);
        CHECK(got[0] == (uint8_t)object && got[BLOCK_SIZE - 1] == (uint8_t)object);
    }
}

static void second_round(uint64_t seed, bool damaged)
{
    struct world *w = world_new(seed, 1);
    uint64_t pg = world_pg(w, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    uint32_t osd = (world_leader(w, pg) + 1) % OSDS;
    world_osd_kill(w, osd, SIM_CRASH_PROCESS);
    for (uint64_t object = 0; object < OBJECTS; object++) {
        memset(data, (int)object, BLOCK_SIZE);
        CHECK_EQ(world_write(w, object, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    }
    if (damaged)
        fake_store_damage_log(w->osds[osd].label.osd_uuid, pg, 0);
    load_start(w);
    world_osd_start(w, osd);
    uint32_t rounds = run_recovery(w, osd);
    uint64_t copied = w->osds[osd].shard->perf.recovered_objects;
    printf("# %u rounds, %d objects copied\n", rounds, (int)copied);
    CHECK(rounds >= 2);
    /* The later rounds copied what had been written meanwhile, and nothing else. */
    CHECK(copied >= OBJECTS && copied <= OBJECTS + rounds);
    load.stop = true;
    WAIT_FOR(w, 5000, load_crank(w));
    WAIT_FOR(w, 5000, world_settled(w));
    check_objects(w, osd);
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

int main(void)
{
    TEST(test_second_round_behind);
    TEST(test_second_round_damaged);
    fake_store_forget_all();
    return tap_done();
}
