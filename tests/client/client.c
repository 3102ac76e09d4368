/* SPDX-License-Identifier: Apache-2.0
 *
 * The client against a fake cluster: cutting, routing, retries, attaching, fencing, what the monitor says.
 */
#include <stdlib.h>
#include <string.h>

#include "base/placement.h"
#include "client/impl.h"
#include "fake.h"
#include "tests/tap.h"
#include "tests/plants.h"

#define MS NS_PER_MS

static bool all(const uint8_t *data, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != value)
            return false;
    return true;
}

static bool stored(uint64_t offset, uint64_t len, uint8_t value)
{
    for (uint64_t i = offset; i < offset + len; i++)
        if (fake_byte(i) != value)
            return false;
    return true;
}

static uint32_t total(size_t field)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < FAKE_SHARDS; i++)
        sum += *(uint32_t *)((char *)&fake.shards[i] + field);
    return sum;
}
#define TOTAL(field) total(offsetof(struct fake_shard, field))

/* Where nothing else happens: leaders known, PGs attached. */
static void warm_up(void)
{
    CHECK_EQ(fake_open(true, false), 0);
    for (uint32_t i = 0; i < FAKE_OBJECTS; i++)
        CHECK_EQ(fake_io(CLIENT_WRITE, (uint64_t)i * OBJECT_SIZE, BLOCK_SIZE, 0x11), 0);
}

static void test_round_trip(void)
{
    static const struct {
        uint64_t offset, len;
    } rows[] = {
        {0, 4096},
        {4096, 1},
        {4095, 2},
        {512, 512},
        {511, 8193},
        {OBJECT_SIZE - 1, 2},
        {OBJECT_SIZE - 4096, 8192},
        {3 * OBJECT_SIZE - 700000, 1 << 20},
        {3 * OBJECT_SIZE - 700001, (1 << 20) + 7},
        {OBJECT_SIZE + 5, BUF_SIZE_MAX},
        {4 * OBJECT_SIZE, BUF_SIZE_MAX},
        {FAKE_IMAGE_SIZE - 1, 1},
        {IO_SIZE_MAX - 1, 4098},
        {77, 0},
    };

    fake_up(1, 0, 0);
    CHECK_EQ(fake_open(true, false), 0);
    CHECK_EQ(client_image_size(world.image), FAKE_IMAGE_SIZE);
    CHECK(client_image_writable(world.image));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t fill = (uint8_t)(i + 1);
        CHECK_EQ(fake_io(CLIENT_READ, rows[i].offset, rows[i].len, 0), 0);
        if (rows[i].len == 0)
            continue;
        CHECK_EQ(fake_data(0)[0], fake_byte(rows[i].offset));
        uint8_t before = rows[i].offset ? fake_byte(rows[i].offset - 1) : 0;
        CHECK_EQ(fake_io(CLIENT_WRITE, rows[i].offset, rows[i].len, fill), 0);
        CHECK(stored(rows[i].offset, rows[i].len, fill));
        if (rows[i].offset)
            CHECK_EQ(fake_byte(rows[i].offset - 1), before);
        const uint64_t *copied = &world.client_node->core.counters.copied_bytes, copied_before = *copied;
        CHECK_EQ(fake_io(CLIENT_READ, rows[i].offset, rows[i].len, 0), 0);
        CHECK(all(fake_data(0), rows[i].len, fill));
        /* Whole blocks are received in place. */
        if (IS_ALIGNED(rows[i].offset, (uint64_t)BLOCK_SIZE) && IS_ALIGNED(rows[i].len, BLOCK_SIZE))
            CHECK_EQ(*copied - copied_before, 0);
    }
    CHECK_EQ(fake_io(CLIENT_FLUSH, 0, 0, 0), 0);
    fake_down();
}

static void test_bounds(void)
{
    fake_up(2, 0, 0);
    CHECK_EQ(fake_open(true, false), 0);
    CHECK_EQ(fake_io(CLIENT_READ, FAKE_IMAGE_SIZE, 1, 0), -ERR_RANGE);
    CHECK_EQ(fake_io(CLIENT_WRITE, FAKE_IMAGE_SIZE - 1, 2, 0), -ERR_RANGE);
    CHECK_EQ(fake_io(CLIENT_READ, UINT64_MAX, 2, 0), -ERR_RANGE);
    CHECK_EQ(fake_io(CLIENT_DISCARD, 0, UINT64_MAX, 0), -ERR_RANGE);
    fake_close();
    CHECK_EQ(fake_open(false, false), 0);
    CHECK(!client_image_writable(world.image));
    CHECK_EQ(fake_io(CLIENT_READ, 0, 4096, 0), 0);
    CHECK(all(fake_data(0), 4096, 0));
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 1), -ERR_READ_ONLY);
    CHECK_EQ(fake_io(CLIENT_ZERO, 0, 4096, 1), -ERR_READ_ONLY);
    CHECK_EQ(fake.monitors[0].closes + fake.monitors[1].closes, 1);
    fake_down();
}

static void test_clear(void)
{
    fake_up(3, 0, 0);
    CHECK_EQ(fake_open(true, false), 0);
    CHECK_EQ(fake_io(CLIENT_WRITE, OBJECT_SIZE - 16384, 32768, 0x55), 0);
    CHECK_EQ(fake_io(CLIENT_DISCARD, OBJECT_SIZE - 8191, 12000, 0), 0); /* rounded inward */
    CHECK(stored(OBJECT_SIZE - 16384, 8192 + 4096, 0x55));
    CHECK(stored(OBJECT_SIZE - 4096, 4096, 0));
    CHECK(stored(OBJECT_SIZE, 16384, 0x55));
    uint32_t clears = TOTAL(clears);
    CHECK_EQ(fake_io(CLIENT_DISCARD, 1, 4096, 0), 0); /* no whole block: nothing to do */
    CHECK_EQ(TOTAL(clears), clears);
    CHECK_EQ(fake_io(CLIENT_ZERO, OBJECT_SIZE - 5000, 5003, 0), 0); /* exact */
    CHECK(stored(OBJECT_SIZE - 16384, 16384 - 5000, 0x55));
    CHECK(stored(OBJECT_SIZE - 5000, 5003, 0));
    CHECK(stored(OBJECT_SIZE + 3, 1000, 0x55));
    CHECK_EQ(fake_io(CLIENT_DISCARD, 0, FAKE_IMAGE_SIZE, 0), 0);
    CHECK(stored(0, FAKE_IMAGE_SIZE, 0));
    fake_down();
}

static void test_redirects(void)
{
    fake_up(4, 0, 0);
    warm_up();
    for (uint32_t round = 0; round < 6; round++) {
        fake_lead((round * 2 + 1) % FAKE_SHARDS);
        uint64_t before_ns = world.sim->now_ns;
        uint32_t requests = TOTAL(requests);
        CHECK_EQ(fake_io(CLIENT_WRITE, 8192, 4096, (uint8_t)(round + 1)), 0);
        CHECK(stored(8192, 4096, (uint8_t)(round + 1)));
        /* A redirect is a round trip, not a pause. */
        CHECK(world.sim->now_ns - before_ns < 2 * MS);
        CHECK(TOTAL(requests) - requests <= 3);
        requests = TOTAL(requests);
        CHECK_EQ(fake_io(CLIENT_READ, 8192, 4096, 0), 0);
        CHECK_EQ(TOTAL(requests) - requests, 1); /* learned */
    }
    /* A shard that has heard of a term which nobody won does not keep us away from the leader of the one
     * before. */
    fake.pgs[fake_pg_of(0)].term += 5;
    fake.pgs[fake_pg_of(0)].leader = 0;
    fake_start(0, CLIENT_WRITE, 0, 4096, 0x77);
    sim_run_for(world.sim, 100 * MS);
    fake.pgs[fake_pg_of(0)].term -= 5;
    fake.pgs[fake_pg_of(0)].leader = 2;
    CHECK_EQ(fake_finish(0), 0);
    fake_down();
}

/* Members have changed, and no monitor has heard of it: a new one leads that the map only names as wanted. */
static void test_new_member_leads(void)
{
    fake_up(42, 0, 0);
    fake.joining = true;
    fake.epoch++;
    fake_lead(0);
    sim_run_for(world.sim, 10 * NS_PER_S);
    CHECK_EQ(client_map(world.client)->epoch, fake.epoch);
    CHECK_EQ(client_map(world.client)->pg[0]->n_member, FAKE_SHARDS - 1);
    warm_up();
    for (uint32_t i = 0; i < FAKE_MONITORS; i++)
        sim_node_crash(world.monitors[i], SIM_CRASH_PROCESS);
    fake_lead(FAKE_SHARDS - 1);
    uint64_t before_ns = world.sim->now_ns;
    CHECK_EQ(fake_io(CLIENT_WRITE, 8192, 4096, 0x42), 0);
    CHECK(stored(8192, 4096, 0x42));
    CHECK(world.sim->now_ns - before_ns < 2 * MS);
    for (uint32_t i = 0; i < FAKE_MONITORS; i++)
        sim_node_start(world.monitors[i]);
    fake_down();
}

/* Somebody has stood for a later term, and failed. A write that was sent then, and came to nothing, is held
 * up on its way to another shard; what is written meanwhile the leader of the earlier term takes. Then the
 * other one wins just that later term, and the write arrives. */
static void test_term_won_later(void)
{
    fake_up(41, 0, 0);
    fake_lead(2);
    warm_up();
    fake_lead(0);
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0x11), 0);
    struct fake_pg *pg = &fake.pgs[fake_pg_of(0)];
    uint64_t term = pg->term;
    pg->term += 2;
    pg->leader = 0;
    sim_net_hold(world.net, world.client_node->config.host, world.shards[2]->config.host, 5 * NS_PER_S, true);
    fake_start(0, CLIENT_WRITE, 0, 4096, 0x77);
    sim_run_for(world.sim, 100 * MS);
    pg->term = term;
    pg->leader = 1;
    CHECK_EQ(fake_finish(0), 0);
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0x99), 0);
    uint32_t writes = fake.shards[2].writes;
    pg->term += 2;
    pg->leader = 3;
    sim_run_for(world.sim, 10 * NS_PER_S);
    CHECK(fake.shards[2].writes > writes); /* it came */
    CHECK(stored(0, 4096, 0x99));
    fake_down();
}

static void test_nobody_leads(void)
{
    fake_up(5, 3 * NS_PER_S, 0);
    warm_up();
    for (uint32_t i = 0; i < FAKE_PGS; i++)
        fake.pgs[i].leader = 0;
    uint64_t before_ns = world.sim->now_ns;
    uint32_t requests = TOTAL(requests);
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 2), -ERR_TIMEOUT);
    CHECK(world.sim->now_ns - before_ns >= 3 * NS_PER_S);
    CHECK(world.sim->now_ns - before_ns < 3 * NS_PER_S + 10 * MS);
    CHECK(TOTAL(requests) - requests < 500); /* with pauses */
    CHECK(stored(0, 4096, 0x11));
    fake_start(0, CLIENT_WRITE, 0, 4096, 3);
    sim_run_for(world.sim, 700 * MS);
    fake_lead(1);
    before_ns = world.sim->now_ns;
    CHECK_EQ(fake_finish(0), 0);
    CHECK(world.sim->now_ns - before_ns < 150 * MS);
    fake_down();
}

/* An operator pauses the cluster: nothing is begun, and nothing times out, nor what waits for a piece. */
static void paused_with(uint32_t inflight_max)
{
    fake_up(5, 3 * NS_PER_S, inflight_max);
    warm_up();
    fake.paused = true;
    fake.epoch++;
    sim_run_for(world.sim, 10 * NS_PER_S);
    uint32_t requests = TOTAL(requests);
    fake_start(0, CLIENT_WRITE, 0, 4096, 2);
    fake_start(1, CLIENT_READ, 1 << 20, 4096, 0);
    fake_start(2, CLIENT_WRITE, 0, 4096, 3); /* waits for the first one */
    sim_run_for(world.sim, 20 * NS_PER_S);
    CHECK_EQ(TOTAL(requests), requests);
    CHECK(stored(0, 4096, 0x11));
    fake.paused = false;
    fake.epoch++;
    CHECK_EQ(fake_finish(0), 0);
    CHECK_EQ(fake_finish(1), 0);
    CHECK_EQ(fake_finish(2), 0);
    CHECK(stored(0, 4096, 3));
    fake_down();
}

static void test_paused(void)
{
    paused_with(0);
    paused_with(1);
}

/* The OSDs know that the cluster is paused, and the client does not. */
static void test_paused_elsewhere(void)
{
    fake_up(5, 3 * NS_PER_S, 0);
    fake_lead(0);
    warm_up();
    fake.shards[0].refuse = -ERR_PAUSED;
    fake.shards[0].refuse_count = UINT32_MAX;
    fake_start(0, CLIENT_WRITE, 0, 4096, 2);
    fake_start(1, CLIENT_WRITE, 0, 4096, 3); /* waits for the first one */
    sim_run_for(world.sim, 20 * NS_PER_S);
    CHECK(UINT32_MAX - fake.shards[0].refuse_count <= 401); /* it does not hammer */
    fake.shards[0].refuse_count = 0;
    CHECK_EQ(fake_finish(0), 0);
    CHECK_EQ(fake_finish(1), 0);
    CHECK(stored(0, 4096, 3));
    fake_down();
}

/* An OSD that is cut off from the monitors has not heard that the pause is over: it is not waited for longer
 * than for a dead one. */
static void test_pause_is_over(void)
{
    fake_up(5, 3 * NS_PER_S, 0);
    fake_lead(0);
    warm_up();
    fake.epoch += 5;
    sim_run_for(world.sim, 10 * NS_PER_S);
    fake.shards[0].refuse = -ERR_PAUSED;
    fake.shards[0].refuse_count = UINT32_MAX;
    fake.shard_epoch = fake.epoch + 1;
    fake_start(0, CLIENT_WRITE, 0, 4096, 2);
    sim_run_for(world.sim, 20 * NS_PER_S);
    CHECK(op_live(&world.ios[0].op));
    fake.shard_epoch = fake.epoch - 1;
    uint64_t before_ns = world.sim->now_ns;
    CHECK_EQ(fake_finish(0), -ERR_TIMEOUT);
    CHECK(world.sim->now_ns - before_ns < 4 * NS_PER_S);
    fake_down();
}

/* A shard has a map that the client has missed: it asks at once, and does not hammer while no monitor has it.
 */
static void test_map_missed(void)
{
    const int errors[] = {-ERR_WRONG_PG, -ERR_NO_PG};

    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        fake_up(5, 0, 0);
        fake_lead(0);
        warm_up();
        sim_run_for(world.sim, 500 * NS_PER_MS);
        fake.shard_epoch = ++fake.epoch;
        for (uint32_t j = 0; j < FAKE_SHARDS; j++) {
            fake.shards[j].refuse = errors[i];
            fake.shards[j].refuse_count = UINT32_MAX;
        }
        fake_start(0, CLIENT_WRITE, 0, 4096, 2);
        sim_run_for(world.sim, 10 * NS_PER_MS);
        CHECK_EQ(client_map(world.client)->epoch, fake.epoch);
        /* The shards are ahead of the monitors. */
        fake.shard_epoch = fake.epoch + 1;
        uint32_t before = fake.monitors[0].subscribes + fake.monitors[1].subscribes;
        sim_run_for(world.sim, 2 * NS_PER_S);
        uint32_t asked = fake.monitors[0].subscribes + fake.monitors[1].subscribes - before;
        CHECK(asked >= 10 && asked <= 20);
        /* They have nothing new to say. */
        fake.shard_epoch = fake.epoch;
        before += asked;
        sim_run_for(world.sim, 2 * NS_PER_S);
        CHECK(fake.monitors[0].subscribes + fake.monitors[1].subscribes - before <= 1);
        for (uint32_t j = 0; j < FAKE_SHARDS; j++)
            fake.shards[j].refuse_count = 0;
        CHECK_EQ(fake_finish(0), 0);
        fake_down();
    }
}

/* A process dies: its machine refuses connections. A machine dies: nothing answers. */
static void leader_dies(bool machine)
{
    fake_up(6, 0, 0);
    fake_lead(0);
    warm_up();
    fake_start(0, CLIENT_WRITE, 0, 4096, 9); /* under way when it happens */
    if (machine)
        sim_node_crash(world.machines[0], SIM_CRASH_POWER);
    sim_node_crash(world.shards[0], machine ? SIM_CRASH_POWER : SIM_CRASH_PROCESS);
    uint64_t before_ns = world.sim->now_ns;
    sim_run_for(world.sim, 200 * MS);
    fake_lead(2);
    CHECK_EQ(fake_finish(0), 0);
    uint64_t after_lead_ns = world.sim->now_ns - before_ns - 200 * MS;
    printf("# served %llu us after the next leader was there\n", (unsigned long long)(after_lead_ns / 1000));
    /* With a machine gone the write's own session has to time out first. */
    CHECK(after_lead_ns < (machine ? 1000 * MS : 110 * MS));
    for (uint32_t i = 0; i < FAKE_OBJECTS; i++) {
        before_ns = world.sim->now_ns;
        CHECK_EQ(fake_io(CLIENT_WRITE, (uint64_t)i * OBJECT_SIZE, 4096, 10), 0);
        CHECK(world.sim->now_ns - before_ns < 110 * MS);
    }
    /* And comes back later, as the leader. */
    if (machine)
        sim_node_start(world.machines[0]);
    sim_node_start(world.shards[0]);
    fake_lead(0);
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 11), 0);
    CHECK(stored(0, 4096, 11));
    fake_down();
}

static void test_leader_dies(void)
{
    leader_dies(false);
}

static void test_leader_machine_dies(void)
{
    leader_dies(true);
}

static void test_leader_hangs(void)
{
    fake_up(7, 0, 0);
    fake_lead(0);
    warm_up();
    uint64_t before_ns = world.sim->now_ns;
    sim_node_pause(world.shards[0]);
    for (uint32_t i = 0; i < 8; i++)
        fake_start(i, CLIENT_WRITE, i * 4096, 4096, (uint8_t)(0x20 + i));
    sim_run_for(world.sim, 200 * MS);
    fake_lead(1);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(fake_finish(i), 0);
    CHECK(world.sim->now_ns - before_ns < 1300 * MS);
    /* What it had not read when it hung must not take effect when it wakes up. */
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(fake_io(CLIENT_WRITE, i * 4096, 4096, 0x99), 0);
    uint32_t writes = fake.shards[0].writes;
    sim_node_resume(world.shards[0]);
    sim_run_for(world.sim, 3 * NS_PER_S);
    CHECK(stored(0, 8 * 4096, 0x99));
    printf("# %u late writes arrived and were refused\n", fake.shards[0].writes - writes);
    fake_down();
}

/* A shard swallows all that it is asked, twice: however many requests wait for it, they wait a second and
 * then two. */
static void test_patience(void)
{
    fake_up(8, 0, 0);
    fake_lead(0);
    warm_up();
    uint64_t before_ns = world.sim->now_ns;
    fake.shards[0].mute = 2 * 8;
    for (uint32_t i = 0; i < 8; i++)
        fake_start(i, CLIENT_WRITE, i * 4096, 4096, (uint8_t)(0x20 + i));
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(fake_finish(i), 0);
    CHECK_EQ(fake.shards[0].mute, 0);
    CHECK(world.sim->now_ns - before_ns > 3000 * MS);
    CHECK(world.sim->now_ns - before_ns < 3500 * MS);
    fake_down();
}

/* An OSD was given up as lost. It is not asked any more, though PGs name it and it would answer; and what it
 * was asked before is asked elsewhere at once.
 */
static void test_lost_osd(void)
{
    uint64_t elsewhere = OBJECT_SIZE;

    fake_up(82, 0, 0);
    fake_lead(0);
    while (fake_pg_of(elsewhere) == fake_pg_of(0))
        elsewhere += OBJECT_SIZE;
    fake.pgs[fake_pg_of(elsewhere)].leader = 2;
    warm_up();
    sim_run_for(world.sim, 500 * MS);
    sim_node_pause(world.shards[0]);
    fake_start(0, CLIENT_READ, 0, 4096, 0);
    sim_run_for(world.sim, 10 * MS);
    /* Another one tells that there is a newer map. */
    fake.gone[0] = true;
    fake.shard_epoch = ++fake.epoch;
    fake.shards[1].refuse = -ERR_NO_PG;
    fake.shards[1].refuse_count = 1;
    fake_start(1, CLIENT_WRITE, elsewhere, 4096, 0x51);
    CHECK_EQ(fake_finish(1), 0);
    sim_run_for(world.sim, 10 * MS);
    CHECK_EQ(client_map(world.client)->epoch, fake.epoch);
    CHECK(op_live(&world.ios[0].op));
    fake_lead(2);
    sim_run_for(world.sim, 200 * MS);
    CHECK(!op_live(&world.ios[0].op)); /* before anybody loses patience with a session */
    CHECK_EQ(fake_finish(0), 0);
    CHECK(all(fake_data(0), 4096, 0x11));
    /* It is back, and believes that it leads. */
    sim_node_resume(world.shards[0]);
    fake_lead(0);
    sim_run_for(world.sim, 100 * MS);
    uint32_t requests = fake.shards[0].requests, sessions = fake.shards[0].sessions;
    fake_start(0, CLIENT_WRITE, 0, 4096, 0x52);
    sim_run_for(world.sim, 3 * NS_PER_S);
    CHECK(op_live(&world.ios[0].op));
    CHECK_EQ(fake.shards[0].requests, requests);
    CHECK_EQ(fake.shards[0].sessions, sessions);
    fake_lead(1);
    CHECK_EQ(fake_finish(0), 0);
    CHECK(stored(0, 4096, 0x52));
    fake_down();
}

static void test_lost_replies(void)
{
    fake_up(8, 0, 0);
    fake_lead(0);
    warm_up();
    uint32_t sessions = fake.shards[0].sessions;
    fake.shards[0].lose = 1;
    fake_start(0, CLIENT_WRITE, 0, 4096, 0xa1);
    fake_start(1, CLIENT_WRITE, 1024, 1024, 0xb1);  /* overlaps: waits, and so ends up on top */
    fake_start(2, CLIENT_WRITE, 65536, 4096, 0xc1); /* does not */
    sim_run_for(world.sim, 10 * MS);
    CHECK_EQ(fake_byte(0), 0xa1);
    CHECK_EQ(fake_byte(1024), 0xa1);
    CHECK(!op_live(&world.ios[2].op));
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(fake_finish(i), 0);
    CHECK(stored(0, 1024, 0xa1));
    CHECK(stored(1024, 1024, 0xb1));
    CHECK(stored(2048, 2048, 0xa1));
    CHECK_EQ(fake.shards[0].sessions, sessions + 1); /* the one without the answer was retired */
    fake.shards[0].lose = 2;
    CHECK_EQ(fake_io(CLIENT_READ, 0, 4096, 0), 0);
    CHECK(all(fake_data(0), 1024, 0xa1));
    fake_down();
}

/* Zeros and discards have their place in the order of writes like any other write. */
static void test_lost_replies_of_clears(void)
{
    static const enum client_io_type first[] = {CLIENT_WRITE, CLIENT_WRITE, CLIENT_ZERO, CLIENT_DISCARD};
    static const enum client_io_type second[] = {CLIENT_ZERO, CLIENT_DISCARD, CLIENT_WRITE, CLIENT_WRITE};

    fake_up(81, 0, 0);
    fake_lead(0);
    warm_up();
    for (uint32_t n = 0; n < ARRAY_LEN(first); n++) {
        CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0xee), 0);
        fake.shards[0].lose = 1;
        fake_start(0, first[n], 0, 4096, 0xa1);
        fake_start(1, second[n], 0, 4096, 0xb1);
        sim_run_for(world.sim, 10 * MS);
        CHECK(stored(0, 4096, first[n] == CLIENT_WRITE ? 0xa1 : 0));
        CHECK(op_live(&world.ios[1].op)); /* it waits */
        CHECK_EQ(fake_finish(0), 0);
        CHECK_EQ(fake_finish(1), 0);
        CHECK(stored(0, 4096, second[n] == CLIENT_WRITE ? 0xb1 : 0));
    }
    fake_down();
}

static void test_gives_up(void)
{
    fake_up(9, 2500 * MS, 0);
    fake_lead(0);
    warm_up();
    fake.shards[0].mute = UINT32_MAX;
    uint32_t sessions = fake.shards[0].sessions;
    uint64_t before_ns = world.sim->now_ns;
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 1), -ERR_TIMEOUT);
    CHECK(world.sim->now_ns - before_ns <= 2510 * MS);
    CHECK(fake.shards[0].sessions > sessions);
    fake.shards[0].mute = 0;
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 2), 0);
    sim_run_for(world.sim, NS_PER_S);
    CHECK(stored(0, 4096, 2));
    fake_down();
}

/* Client and cluster are suspended with requests under way, for longer than any may take; or the client
 * alone. Nobody has to know. */
static void test_suspended(void)
{
    for (uint32_t alone = 0; alone < 2; alone++) {
        fake_up(12 + alone, 2500 * MS, 0);
        fake_lead(0);
        warm_up();
        fake.shards[0].mute = 1; /* it is under way */
        fake_start(0, CLIENT_WRITE, 0, 4096, 3);
        fake_start(1, CLIENT_WRITE, 0, 4096, 4); /* waits for that one */
        sim_run_for(world.sim, 20 * MS);
        sim_node_pause(world.client_node);
        if (!alone)
            sim_node_pause(world.shards[0]);
        sim_run_for(world.sim, 3600 * NS_PER_S);
        if (!alone)
            sim_node_resume(world.shards[0]);
        sim_node_resume(world.client_node);
        CHECK_EQ(fake_finish(0), 0);
        CHECK_EQ(fake_finish(1), 0);
        CHECK(stored(0, 4096, 4));
        /* And no longer than ever after that. */
        fake.shards[0].mute = UINT32_MAX;
        uint64_t before_ns = world.sim->now_ns;
        CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 1), -ERR_TIMEOUT);
        CHECK(world.sim->now_ns - before_ns <= 2510 * MS);
        fake_down();
    }
}

/* Suspended with requests under way, for longer than another writer took to come: nothing of them is carried
 * out when the process is back, however anew their limit counts. */
static void test_fenced_while_suspended(void)
{
    fake_up(19, 2500 * MS, 0);
    fake_lead(0);
    warm_up();
    fake.shards[0].mute = 1;
    fake_start(0, CLIENT_WRITE, 0, 4096, 3);
    fake_start(1, CLIENT_WRITE, 0, 4096, 4); /* waits for that one */
    sim_run_for(world.sim, 20 * MS);
    sim_node_pause(world.client_node);
    sim_run_for(world.sim, 3600 * NS_PER_S);
    fake.incarnation = 9;
    for (uint32_t i = 0; i < fake.pg_count; i++)
        fake.pgs[i].incarnation = 9;
    sim_node_resume(world.client_node);
    uint64_t before_ns = world.sim->now_ns;
    CHECK_EQ(fake_finish(0), -ERR_FENCED);
    CHECK_EQ(fake_finish(1), -ERR_FENCED);
    CHECK(world.sim->now_ns - before_ns < 1000 * MS);
    CHECK(stored(0, 4096, 0x11));
    CHECK_EQ(client_image_failed(world.image), -ERR_FENCED);
    fake_down();
}

static void test_busy_and_definite(void)
{
    static const int retried[] = {ERR_RETRY, ERR_BUSY, ERR_NO_PG, ERR_RECOVERING, ERR_STOPPED, ERR_NO_MEMORY};
    static const int definite[] = {ERR_NO_SPACE, ERR_IO, ERR_DAMAGED, ERR_INVALID};

    fake_up(10, 0, 0);
    fake_lead(0);
    warm_up();
    for (size_t i = 0; i < ARRAY_LEN(retried); i++) {
        fake.shards[0].refuse = -retried[i];
        fake.shards[0].refuse_count = 3;
        CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, (uint8_t)(i + 1)), 0);
        CHECK(stored(0, 4096, (uint8_t)(i + 1)));
    }
    for (size_t i = 0; i < ARRAY_LEN(definite); i++) {
        fake.shards[0].refuse = -definite[i];
        fake.shards[0].refuse_count = 1;
        CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0xff), -definite[i]);
    }
    /* One piece of several fails: the first error is told, and all are awaited. */
    fake.shards[0].refuse = -ERR_NO_SPACE;
    fake.shards[0].refuse_count = 1;
    CHECK_EQ(fake_io(CLIENT_WRITE, OBJECT_SIZE - 4096, 8192, 0xff), -ERR_NO_SPACE);
    fake_down();
}

static void test_checksums(void)
{
    fake_up(11, 0, 0);
    fake_lead(0);
    warm_up();
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 16384, 0x42), 0);
    fake.shards[0].corrupt = 2;
    CHECK_EQ(fake_io(CLIENT_READ, 100, 5000, 0), 0);
    CHECK(all(fake_data(0), 5000, 0x42));
    CHECK_EQ(fake.shards[0].corrupt, 0);
    fake.shards[0].corrupt = 100;
    CHECK_EQ(fake_io(CLIENT_READ, 0, 4096, 0), -ERR_CHECKSUM);
    CHECK_EQ(fake.shards[0].corrupt, 96);
    fake.shards[0].corrupt = 0;
    fake.shards[0].refuse = -ERR_CHECKSUM; /* damaged on its way there */
    fake.shards[0].refuse_count = 2;
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0x43), 0);
    fake_down();
}

/* The monitor is told again and again what is open for writing, so it need not hear of the closing. */
static void test_unheard_close(void)
{
    fake_up(35, 0, 0);
    CHECK_EQ(fake_open(false, false), 0);
    sim_run_for(world.sim, 5 * NS_PER_S);
    CHECK_EQ(fake.monitors[0].writing + fake.monitors[1].writing, 0);
    fake_close();
    CHECK_EQ(fake_open(true, false), 0);
    sim_run_for(world.sim, 5 * NS_PER_S);
    CHECK_EQ(fake.monitors[0].writing + fake.monitors[1].writing, 1);
    fake.close_error = -ERR_IO;
    fake_close();
    sim_run_for(world.sim, 5 * NS_PER_S);
    CHECK_EQ(fake.monitors[0].writing + fake.monitors[1].writing, 0);
    CHECK_EQ(fake.monitors[0].closes + fake.monitors[1].closes, 1);
    fake_down();
}

/* One that begins to lead has heard of no writer: it is told at once what is open for writing, for until then
 * another process under the same name might be taken for this one, started again. */
static void test_monitor_begins_to_lead(void)
{
    fake_up(35, 0, 0);
    CHECK_EQ(fake_open(true, false), 0);
    uint32_t now = fake.monitors[1].subscriber_count > 0;
    struct fake_monitor *monitor = &fake.monitors[now];
    for (uint32_t i = 0; i < 5; i++) {
        sim_run_for(world.sim, 5 * NS_PER_S + i * 700 * MS);
        uint32_t before = monitor->subscribes;
        monitor->writing = 0;
        sim_node_enter(world.monitors[now]);
        fake_monitor_leads(now);
        sim_node_leave(world.monitors[now]);
        sim_run_for(world.sim, 50 * MS);
        CHECK(monitor->subscribes > before);
        CHECK_EQ(monitor->writing, 1);
    }
    fake_close();
    fake_down();
}

static void test_attach(void)
{
    fake_up(12, 0, 0);
    fake_lead(0);
    CHECK_EQ(fake_open(true, false), 0);
    CHECK_EQ(TOTAL(attaches), 0); /* the first writer announces itself with its first writes */
    for (uint32_t i = 0; i < 32; i++)
        fake_start(i, CLIENT_WRITE, (uint64_t)i * 4096, 4096, 1);
    for (uint32_t i = 0; i < 32; i++)
        CHECK_EQ(fake_finish(i), 0);
    CHECK_EQ(TOTAL(attaches), 2); /* once, and once more for the term that was not known */
    CHECK_EQ(TOTAL(writes), 32);
    /* A PG that has forgotten is told again. */
    fake.pgs[fake_pg_of(0)].incarnation = 0;
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 2), 0);
    CHECK_EQ(TOTAL(attaches), 3);
    fake_close();
    /* A later one tells all PGs before anything else. */
    CHECK_EQ(fake_open(true, false), 0);
    for (uint32_t i = 0; i < FAKE_PGS; i++)
        CHECK_EQ(fake.pgs[i].incarnation, 2);
    fake_down();
}

/* Who forces names the writer that it means, so that a call that is sent again takes the image from nobody
 * else. */
static void test_force(void)
{
    fake_up(43, 0, 0);
    CHECK_EQ(fake_open(true, true), 0);
    CHECK(!fake.forced); /* there was nobody */
    fake_close();
    CHECK_EQ(fake_open(true, true), 0);
    CHECK(fake.forced);
    CHECK_EQ(fake.force_over, 1);
    CHECK_EQ(fake.incarnation, 2);
    fake_close();
    CHECK_EQ(fake_open(true, false), 0);
    CHECK(!fake.forced);
    fake_close();
    fake.removed = true;
    CHECK_EQ(fake_open(true, true), -ERR_NOT_FOUND);
    fake_down();
}

/* A PG is split while a writer opens: it tells the child, too, or its predecessor could go on writing there.
 */
static void test_attach_over_split(void)
{
    fake_up(36, 0, 0);
    CHECK_EQ(fake_open(true, false), 0);
    fake_close();
    fake.pg_count = FAKE_PGS + 1;
    fake.shard_epoch = ++fake.epoch;
    CHECK_EQ(fake_open(true, false), 0);
    for (uint32_t i = 0; i < fake.pg_count; i++)
        CHECK_EQ(fake.pgs[i].incarnation, 2);
    fake_down();
}

/* An open image of a pool of so few PGs that this object is another one's as soon as there is one more. */
static uint64_t open_before_split(uint64_t seed)
{
    uint64_t object = 0;

    fake_up(seed, 0, 0);
    for (fake.pg_count = 2; fake_pg_of(object * OBJECT_SIZE) != fake.pg_count - 1;)
        if (++object == FAKE_OBJECTS) {
            fake.pg_count++;
            object = 0;
        }
    CHECK(fake.pg_count <= FAKE_PGS);
    fake.pg_count--;
    fake.epoch++;
    for (uint32_t i = 0; i < FAKE_MONITORS; i++)
        sim_node_crash(world.monitors[i], SIM_CRASH_PROCESS);
    sim_node_start(world.monitors[0]);
    for (uint32_t i = 0; i < 100 && client_map(world.client)->epoch != fake.epoch; i++)
        sim_run_for(world.sim, 100 * MS);
    CHECK_EQ(client_map(world.client)->pool[0]->pg_count, fake.pg_count);
    CHECK_EQ(fake_open(true, false), 0);
    return object;
}

/* A PG is split between the opening and the first writes: one of them attaches, and all are the child's. */
static void test_attach_to_a_parent(void)
{
    uint64_t object = open_before_split(39);

    fake.pg_count++;
    fake.shard_epoch = ++fake.epoch;
    for (uint32_t i = 0; i < 100; i++)
        fake_start(i, CLIENT_WRITE, object * OBJECT_SIZE + i * 4096, 4096, 0x21);
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(fake_finish(i), 0);
    CHECK_EQ(fake.pgs[fake.pg_count - 1].incarnation, 1);
    fake_close();
    fake_down();
}

/* A reader finds that a PG was split, while a write waits for another one to attach, which is not answered:
 * it is not forgotten. */
static void test_waits_over_split(void)
{
    uint64_t object = open_before_split(40), offset = object * OBJECT_SIZE;
    uint32_t leader = fake.pgs[fake_pg_of(offset)].leader - 1;

    CHECK_EQ(fake_io(CLIENT_READ, offset, 4096, 0), 0);
    fake.shards[leader].mute = 1;
    fake_start(1, CLIENT_WRITE, offset, 4096, 0x21);
    fake_start(2, CLIENT_WRITE, offset + 4096, 4096, 0x22);
    sim_run_for(world.sim, 5 * MS);
    CHECK_EQ(fake.shards[leader].mute, 0);
    fake.pg_count++;
    fake.shard_epoch = ++fake.epoch;
    CHECK_EQ(fake_io(CLIENT_READ, offset, 4096, 0), 0);
    CHECK_EQ(fake_finish(1), 0);
    CHECK_EQ(fake_finish(2), 0);
    CHECK_EQ(fake.pgs[fake.pg_count - 1].incarnation, 1);
    fake_close();
    fake_down();
}

static void test_fenced(void)
{
    fake_up(13, 0, 0);
    warm_up();
    fake.incarnation = 9;
    fake.pgs[fake_pg_of(0)].incarnation = 9;
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0x66), -ERR_FENCED);
    CHECK(stored(0, 4096, 0x11));
    CHECK_EQ(client_image_failed(world.image), -ERR_FENCED);
    uint32_t requests = TOTAL(requests);
    CHECK_EQ(fake_io(CLIENT_WRITE, 3 * OBJECT_SIZE, 4096, 0x66), -ERR_FENCED);
    CHECK_EQ(fake_io(CLIENT_READ, 0, 4096, 0), -ERR_FENCED);
    CHECK_EQ(fake_io(CLIENT_FLUSH, 0, 0, 0), -ERR_FENCED);
    CHECK_EQ(TOTAL(requests), requests);
    fake_down();
    /* The monitor's word is enough. */
    fake_up(14, 0, 0);
    warm_up();
    fake.incarnation++;
    fake_announce_image();
    sim_run_for(world.sim, 10 * MS);
    CHECK_EQ(client_image_failed(world.image), -ERR_FENCED);
    fake_down();
}

static void test_resize(void)
{
    fake_up(15, 0, 0);
    warm_up();
    /* Told by a shard. */
    fake.generation = 2;
    fake.size_bytes = FAKE_IMAGE_SIZE - OBJECT_SIZE;
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0x21), 0);
    CHECK_EQ(client_image_size(world.image), FAKE_IMAGE_SIZE - OBJECT_SIZE);
    CHECK_EQ(fake.pgs[fake_pg_of(0)].generation, 2);
    CHECK_EQ(fake_io(CLIENT_READ, FAKE_IMAGE_SIZE - OBJECT_SIZE, 1, 0), -ERR_RANGE);
    /* Told by the monitor. */
    fake.generation = 3;
    fake.size_bytes = FAKE_IMAGE_SIZE;
    fake_announce_image();
    sim_run_for(world.sim, 10 * MS);
    CHECK_EQ(client_image_size(world.image), FAKE_IMAGE_SIZE);
    CHECK_EQ(fake_io(CLIENT_READ, FAKE_IMAGE_SIZE - OBJECT_SIZE, 4096, 0), 0);
    /* Removed. */
    fake.generation = 4;
    fake.removed = true;
    CHECK_EQ(fake_io(CLIENT_READ, 0, 4096, 0), -ERR_STALE_GENERATION);
    CHECK_EQ(client_image_failed(world.image), -ERR_STALE_GENERATION);
    fake_down();
}

static void test_monitors(void)
{
    fake_up(16, 0, 0);
    warm_up();
    /* Without any, on with the last map. */
    for (uint32_t i = 0; i < FAKE_MONITORS; i++)
        sim_node_crash(world.monitors[i], SIM_CRASH_PROCESS);
    sim_run_for(world.sim, 5 * NS_PER_S);
    fake_lead(2);
    CHECK_EQ(fake_io(CLIENT_WRITE, 0, 4096, 0x31), 0);
    /* The other one is found. */
    sim_node_start(world.monitors[1]);
    fake.monitors[1].gets = 0;
    sim_run_for(world.sim, 3 * NS_PER_S);
    CHECK_EQ(fake.monitors[1].subscriber_count, 1);
    CHECK(fake.monitors[1].gets >= 1); /* what happened to the image meanwhile? */
    /* One that hangs is left. */
    sim_node_pause(world.monitors[1]);
    sim_node_start(world.monitors[0]);
    sim_run_for(world.sim, 10 * NS_PER_S);
    CHECK_EQ(fake.monitors[0].subscriber_count, 1);
    fake_close();
    CHECK_EQ(fake.monitors[0].closes, 1);
    fake_down();
}

/* Images of others are removed: the monitor is asked about ours, to whom that is news; but not for each of
 * thousands. */
static void test_many_removals(void)
{
    fake_up(38, 0, 0);
    warm_up();
    uint32_t now = fake.monitors[1].subscriber_count > 0;
    for (uint32_t second = 0; second < 20; second++) {
        uint32_t gets = fake.monitors[now].gets;
        for (uint32_t i = 0; i < 50; i++) {
            sim_node_enter(world.monitors[now]);
            fake_monitor_order(now);
            sim_node_leave(world.monitors[now]);
            sim_run_for(world.sim, 20 * MS);
        }
        CHECK(second || fake.monitors[now].gets == gets + 1); /* at once */
    }
    sim_run_for(world.sim, 5 * NS_PER_S);
    CHECK(fake.monitors[now].gets >= 5 && fake.monitors[now].gets <= 14);
    fake_close();
    fake_down();
}

/* The monitor hangs. What it may have done is asked of the other one only if that changes nothing: done once
 * more, these would be refused, as if they had not been done, or would undo what another has done since. */
static void test_monitor_calls(void)
{
    static struct client_mon_call call;
    Fb__PgForceOrder order = FB__PG_FORCE_ORDER__INIT;
    Fb__MonRemove remove = FB__MON_REMOVE__INIT;
    Fb__ImageResize resize = FB__IMAGE_RESIZE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    for (int i = 0; i < 4; i++) {
        fake_up(37, 0, 0);
        uint32_t now = fake.monitors[1].subscriber_count > 0;
        sim_node_pause(world.monitors[now]);
        order.withdraw = i == 1;
        if (i < 2) {
            request.call_case = FB__MON_REQUEST__CALL_PG_FORCE_ORDER;
            request.pg_force_order = &order;
        } else if (i == 2) {
            request.call_case = FB__MON_REQUEST__CALL_MON_REMOVE;
            request.mon_remove = &remove;
        } else {
            request.call_case = FB__MON_REQUEST__CALL_IMAGE_RESIZE;
            request.image_resize = &resize;
        }
        call = (struct client_mon_call){0};
        fake_enter();
        client_mon_call_start(&call, world.client, &request, NULL);
        fake_leave();
        int result = fake_wait(&call.op);
        CHECK_EQ(call.ret_reply != NULL, i == 0);
        CHECK(i == 0 || result == -ERR_CLOSED || result == -ERR_TIMEOUT);
        client_mon_call_fini(&call);
        fake_down();
    }
}

/* More calls than may be under way at once are made as others end, and leave the Subscribe its place. Those
 * that wait need no memory for an answer. */
static void test_many_monitor_calls(void)
{
    static struct client_mon_call calls[200];
    Fb__ImageResize resize = FB__IMAGE_RESIZE__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    fake_up(40, 0, 0);
    uint32_t now = fake.monitors[1].subscriber_count > 0, before = fake.monitors[now].subscribes;
    uint64_t since_ns = world.sim->now_ns;
    resize.lose_data = true;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_RESIZE;
    request.image_resize = &resize;
    sim_node_enter(world.monitors[now]);
    fake_monitor_leads(now);
    sim_node_leave(world.monitors[now]);
    const struct sim_heap *heap = &world.client_node->heap;
    uint64_t had_bytes = heap->bytes;
    fake_enter();
    for (uint32_t i = 0; i < ARRAY_LEN(calls); i++)
        client_mon_call_start(&calls[i], world.client, &request, NULL);
    fake_leave();
    sim_run_for(world.sim, 10 * NS_PER_US);
    CHECK_EQ(world.client->mon.calls, 64);
    CHECK(heap->bytes - had_bytes < (65u << 20));
    for (uint32_t i = 0; i < ARRAY_LEN(calls); i++) {
        (void)fake_wait(&calls[i].op);
        CHECK(calls[i].ret_reply);
        client_mon_call_fini(&calls[i]);
    }
    CHECK_EQ(heap->bytes, had_bytes);
    CHECK(world.sim->now_ns - since_ns < 500 * MS);
    CHECK_EQ(fake.monitors[now].resizes, ARRAY_LEN(calls));
    CHECK_EQ(fake.monitors[now].subscribes, before + 1);
    fake_down();
}

/* So many calls that not all are answered in their time: those that wait for a place until it is too late
 * take nothing with them. */
static void test_late_monitor_calls(void)
{
    static struct client_mon_call calls[2500];
    Fb__ImageGet get = FB__IMAGE_GET__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    uint32_t answered = 0;

    fake_net_delay_ns = 50 * MS;
    fake_up(42, 0, 0);
    fake_net_delay_ns = 0;
    uint64_t sessions = world.client->self.session;
    get.id = FAKE_IMAGE;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_GET;
    request.image_get = &get;
    fake_enter();
    for (uint32_t i = 0; i < ARRAY_LEN(calls); i++) {
        calls[i].timeout_ns = 3 * NS_PER_S;
        client_mon_call_start(&calls[i], world.client, &request, NULL);
    }
    fake_leave();
    for (uint32_t i = 0; i < ARRAY_LEN(calls); i++) {
        int result = fake_wait(&calls[i].op);
        answered += !result;
        CHECK(!result || result == -ERR_NO_MONITOR);
        client_mon_call_fini(&calls[i]);
    }
    CHECK(answered > 500);
    CHECK(answered < ARRAY_LEN(calls));
    sim_run_for(world.sim, NS_PER_S);
    CHECK_EQ(world.client->self.session, sessions);
    fake_down();
}

/* A monitor that is behind the one before it, as one that follows may be for a moment: what is known stays.
 */
static void test_monitor_behind(void)
{
    fake_up(36, 0, 0);
    warm_up();
    for (uint32_t i = 0; i < FAKE_MONITORS; i++)
        sim_node_crash(world.monitors[i], SIM_CRASH_PROCESS);
    fake.epoch += 5;
    sim_node_start(world.monitors[1]);
    for (uint32_t i = 0; i < 100 && client_map(world.client)->epoch != fake.epoch; i++)
        sim_run_for(world.sim, 100 * MS);
    CHECK_EQ(client_map(world.client)->epoch, fake.epoch);
    sim_node_crash(world.monitors[1], SIM_CRASH_PROCESS);
    fake.epoch -= 3;
    fake.monitors[0].subscribes = 0;
    sim_node_start(world.monitors[0]);
    for (uint32_t i = 0; i < 100 && !fake.monitors[0].subscribes; i++)
        sim_run_for(world.sim, 100 * MS);
    sim_run_for(world.sim, 100 * MS);
    CHECK(fake.monitors[0].subscribes > 0);
    CHECK_EQ(client_map(world.client)->epoch, fake.epoch + 3);
    fake.epoch += 4;
    for (uint32_t i = 0; i < 100 && client_map(world.client)->epoch != fake.epoch; i++)
        sim_run_for(world.sim, 100 * MS);
    CHECK_EQ(client_map(world.client)->epoch, fake.epoch);
    fake_close();
    fake_down();
}

/* A large map comes in parts: nobody is told that something does not exist before they are all there. */
static void test_map_in_parts(void)
{
    static struct client_open open;

    fake_up(161, 0, 0);
    fake.newest_epoch = fake.epoch + 1;
    memset(&open, 0, sizeof(open));
    fake_enter();
    const char *monitors[] = {fake.monitors[0].address, fake.monitors[1].address};
    struct client_config config = {
        .core = &world.client_node->core,
        .net = sim_net_port(world.net, world.client_node),
        .monitors = monitors,
        .monitor_count = 2,
    };
    client_open_start(&open, &config, NULL);
    fake_leave();
    sim_run_for(world.sim, NS_PER_S);
    CHECK(op_live(&open.op));
    CHECK_EQ(client_map(open.ret_client)->epoch, fake.epoch);
    fake.epoch++;
    sim_node_crash(world.monitors[0], SIM_CRASH_PROCESS); /* the other one is asked for what is missing */
    CHECK_EQ(fake_wait(&open.op), 0);
    CHECK_EQ(client_map(open.ret_client)->epoch, fake.epoch);
    fake_enter();
    client_free(open.ret_client);
    fake_leave();
    fake_down();
}

/* Memory runs out while a map is applied, at any of its allocations: what is missing then comes again, though
 * the monitor has nothing new. */
static int apply_again(size_t refused)
{
    const Fb__ClusterMap *now = client_map(world.client);
    uint8_t *bytes = malloc(fb__cluster_map__get_packed_size(now));

    fake_enter();
    Fb__ClusterMap *map = fb__cluster_map__unpack(CLIENT_ALLOCATOR, fb__cluster_map__pack(now, bytes), bytes);
    ASSERT(map);
    world.client_node->heap.refused = refused;
    int error = client_map_apply(world.client, map);
    world.client_node->heap.refused = 0;
    fb__cluster_map__free_unpacked(map, CLIENT_ALLOCATOR);
    fake_leave();
    free(bytes);
    return error;
}

static bool map_is_whole(void)
{
    bool whole = client_map_pool(world.client, FAKE_POOL);

    for (uint32_t i = 0; i < FAKE_SHARDS; i++)
        whole &= client_map_osd(world.client, i + 1) != NULL;
    for (uint32_t i = 0; i < FAKE_PGS; i++)
        whole &= client_map_pg(world.client, placement_pg_id(FAKE_POOL, i)) != NULL;
    return whole;
}

static void test_map_without_memory(void)
{
    uint32_t failed = 0;

    fake_up(39, 0, 0);
    for (size_t size = 1; size <= 1024; size++) {
        uint32_t before = fake.monitors[0].wholes + fake.monitors[1].wholes;
        int error = apply_again(size);
        failed += error != 0;
        if (error) {
            CHECK_EQ(error, -ERR_NO_MEMORY);
            sim_run_for(world.sim, 6 * NS_PER_S);
            CHECK(fake.monitors[0].wholes + fake.monitors[1].wholes > before);
        }
        CHECK(map_is_whole());
    }
    CHECK(failed >= 4);
    fake_down();
}

/* The same of a map so large that it comes in parts, of which all but the last have an epoch from before; a
 * monitor that is behind is still none to begin with. */
static void test_parts_without_memory(void)
{
    size_t size = 1;

    fake_up(41, 0, 0);
    const uint64_t epoch = fake.epoch;
    while (!apply_again(size))
        ASSERT(++size <= 1024);
    fake.epoch = fake.newest_epoch = epoch - 1;
    sim_run_for(world.sim, 6 * NS_PER_S);
    CHECK(fake.monitors[0].wholes + fake.monitors[1].wholes > 1);
    CHECK(!world.client->has_map);
    fake.newest_epoch = epoch;
    sim_run_for(world.sim, 6 * NS_PER_S);
    CHECK(world.client->has_map);
    CHECK_EQ(client_map(world.client)->epoch, epoch - 1);
    CHECK_EQ(world.client->self.epoch, epoch);
    CHECK(map_is_whole());
    fake.epoch = epoch;
    sim_run_for(world.sim, 6 * NS_PER_S);
    CHECK_EQ(client_map(world.client)->epoch, epoch);
    CHECK(map_is_whole());
    fake_down();
}

static void test_no_monitor(void)
{
    static const char *const addresses[] = {"10.9.9.9:1", "10.0.3.0:2"};
    static struct client_open open;

    fake_up(17, 0, 0);
    memset(&open, 0, sizeof(open));
    fake_enter();
    struct client_config config = {
        .core = &world.client_node->core,
        .net = sim_net_port(world.net, world.client_node),
        .monitors = addresses,
        .monitor_count = 2,
    };
    client_open_start(&open, &config, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&open.op), -ERR_NO_MONITOR);
    CHECK(open.ret_client == NULL);
    CHECK(strstr(open.ret_message, "10.9.9.9:1") != NULL);
    static struct client_image_open image_open;
    memset(&image_open, 0, sizeof(image_open));
    fake_enter();
    client_image_open_start(&image_open, world.client, "pool", "none", true, "w", false, false, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&image_open.op), -ERR_NOT_FOUND);
    CHECK(strstr(image_open.ret_message, "there is no such image") != NULL);
    fake_down();
}

static void test_few_pieces(void)
{
    fake_up(18, 0, 2);
    warm_up();
    for (uint32_t i = 0; i < 16; i++)
        fake_start(i, CLIENT_WRITE, (uint64_t)i * 65536, 4096, (uint8_t)i);
    fake_start(16, CLIENT_DISCARD, 2 * OBJECT_SIZE, 6 * OBJECT_SIZE, 0);
    fake_start(17, CLIENT_READ, 4096, 4096, 0);
    for (uint32_t i = 0; i < 18; i++)
        CHECK_EQ(fake_finish(i), 0);
    for (uint32_t i = 0; i < 16; i++)
        CHECK(stored((uint64_t)i * 65536, 4096, (uint8_t)i));
    fake_down();
}

/* A call by number finds the link full of writes: it goes as soon as there is room. */
static void test_shard_call_behind_writes(void)
{
    struct client_shard_call call = {0};

    fake_net_delay_ns = 20 * MS;
    fake_net_queue_bytes = BLOCK_SIZE;
    fake_up(1, 0, 0);
    fake_net_delay_ns = fake_net_queue_bytes = 0;
    warm_up();
    fake_start(0, CLIENT_WRITE, 0, 16 * BLOCK_SIZE, 0x22);
    uint64_t from_ns = world.sim->now_ns;
    sim_run_for(world.sim, MS);
    fake_enter();
    client_shard_call_start(&call, world.client, fake.pgs[fake_pg_of(0)].leader, 0, METHOD_PING, NULL, 0,
                            NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&call.op), 0);
    uint64_t after_ns = world.sim->now_ns - from_ns;
    CHECK(after_ns >= 60 * MS && after_ns < 200 * MS); /* the write arrives, then the call and its answer */
    fake_enter();
    free(call.ret_reply);
    fake_leave();
    CHECK_EQ(fake_finish(0), 0);
    fake_down();
}

/* A PG that nobody leads takes its share of the pieces, and the others go on. */
static void test_share(void)
{
    fake_up(23, 3 * NS_PER_S, 16);
    warm_up();
    uint64_t other = 1;
    while (fake_pg_of(other * OBJECT_SIZE) == fake_pg_of(0))
        other++;
    fake.pgs[fake_pg_of(0)].leader = 0;
    for (uint32_t i = 0; i < 32; i++)
        fake_start(i, CLIENT_WRITE, (uint64_t)i * 65536, 4096, (uint8_t)i);
    sim_run_for(world.sim, 100 * MS);
    uint64_t before_ns = world.sim->now_ns;
    fake_start(32, CLIENT_WRITE, other * OBJECT_SIZE, 4096, 0x55);
    CHECK_EQ(fake_finish(32), 0);
    CHECK(world.sim->now_ns - before_ns < 50 * MS);
    fake_lead(1);
    for (uint32_t i = 0; i < 32; i++)
        CHECK_EQ(fake_finish(i), 0);
    fake_down();
}

/* Their time runs while they wait for a piece: none of many ends later than one alone. */
static void test_time_of_those_that_wait(void)
{
    enum { COUNT = 16 };

    fake_up(25, 3 * NS_PER_S, 4);
    warm_up();
    fake.pgs[fake_pg_of(0)].leader = 0;
    uint64_t before_ns = world.sim->now_ns;
    for (uint32_t i = 0; i < COUNT; i++) {
        fake_start(i, CLIENT_WRITE, (uint64_t)i * 65536, 4096, (uint8_t)i);
        sim_run_for(world.sim, 100 * MS);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK_EQ(fake_finish(i), -ERR_TIMEOUT);
        uint64_t took_ns = world.sim->now_ns - before_ns - i * 100 * MS;
        CHECK(took_ns >= 2900 * MS && took_ns <= 3010 * MS);
    }
    /* A request of many pieces that get on has as long for each. */
    fake_lead(1);
    fake_start(0, CLIENT_DISCARD, 0, 8 * OBJECT_SIZE, 0);
    CHECK_EQ(fake_finish(0), 0);
    fake_down();
}

/* However many PGs nobody leads: one that is led finds a piece. */
static void test_stuck_shares(void)
{
    enum { EACH = 20, STUCK_MAX = 5 };
    bool stuck[FAKE_PGS] = {false};
    uint32_t count = 0, started = 0;
    uint64_t other = FAKE_OBJECTS;

    fake_up(24, 3 * NS_PER_S, 64);
    warm_up();
    for (uint64_t object = 0; object < FAKE_OBJECTS; object++) {
        uint32_t pg = fake_pg_of(object * OBJECT_SIZE);
        if (stuck[pg])
            continue;
        if (count == STUCK_MAX) {
            other = object;
            break;
        }
        count++;
        stuck[pg] = true;
        fake.pgs[pg].leader = 0;
        for (uint32_t i = 0; i < EACH; i++)
            fake_start(started++, CLIENT_WRITE, object * OBJECT_SIZE + i * 65536, 4096, (uint8_t)i);
        sim_run_for(world.sim, 20 * MS);
    }
    CHECK(count == STUCK_MAX && other < FAKE_OBJECTS);
    for (uint32_t i = 0; i < 8; i++) {
        uint64_t before_ns = world.sim->now_ns;
        fake_start(started, CLIENT_WRITE, other * OBJECT_SIZE + i * 4096, 4096, 0x55);
        CHECK_EQ(fake_finish(started), 0);
        CHECK(world.sim->now_ns - before_ns < 50 * MS);
    }
    fake_lead(1);
    for (uint32_t i = 0; i < started; i++)
        CHECK_EQ(fake_finish(i), 0);
    fake_down();
}

static void test_status(void)
{
    struct client_extent extents[8];
    static struct client_status status;

    fake_up(19, 0, 0);
    CHECK_EQ(fake_open(true, false), 0);
    CHECK_EQ(fake_io(CLIENT_WRITE, 8192, 4096, 1), 0);
    CHECK_EQ(fake_io(CLIENT_WRITE, OBJECT_SIZE - 4096, 8192, 1), 0);
    CHECK_EQ(fake_io(CLIENT_WRITE, 5 * OBJECT_SIZE, 4096, 1), 0);
    memset(&status, 0, sizeof(status));
    fake_enter();
    client_status_start(&status, world.image, 100, FAKE_IMAGE_SIZE - 100, extents, 8, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&status.op), 0);
    static const struct client_extent expect[] = {
        {8092, false},
        {4096, true},
        {OBJECT_SIZE - 4096 - 12288, false},
        {8192, true},
        {4 * OBJECT_SIZE - 4096, false},
        {4096, true},
        {3 * OBJECT_SIZE - 4096, false},
    };
    CHECK_EQ(status.ret_count, ARRAY_LEN(expect));
    for (uint32_t i = 0; i < MIN(status.ret_count, (uint32_t)ARRAY_LEN(expect)); i++) {
        CHECK_EQ(extents[i].len, expect[i].len);
        CHECK_EQ(extents[i].written, expect[i].written);
    }
    memset(&status, 0, sizeof(status));
    fake_enter();
    client_status_start(&status, world.image, 8192, OBJECT_SIZE, extents, 2, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&status.op), 0);
    CHECK_EQ(status.ret_count, 2);
    CHECK_EQ(extents[1].len, OBJECT_SIZE - 4096 - 12288);
    /* Of an image that has been removed meanwhile nothing is said, least of all that it is empty. */
    fake.generation = 2;
    fake.removed = true;
    memset(&status, 0, sizeof(status));
    fake_enter();
    client_status_start(&status, world.image, 0, FAKE_IMAGE_SIZE, extents, 8, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&status.op), -ERR_STALE_GENERATION);
    fake_down();
}

static uint32_t statuses(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < FAKE_SHARDS; i++)
        count += fake.shards[i].statuses;
    return count;
}

/* Of a large image that has next to nothing: each PG is asked once, and once more for what it has. But not if
 * it has been split, and we do not know of that: then it does not speak for what is another's. */
static void test_status_of_a_large_image(void)
{
    struct client_extent extents[8];
    static struct client_status status;

    for (uint32_t split = 0; split < 2; split++) {
        uint64_t size = (split ? 1ull << 30 : 1ull << 40);
        fake_up(20, 0, 0);
        fake.size_bytes = size;
        fake.split_count = split ? FAKE_PGS + 1 : FAKE_PGS;
        CHECK_EQ(fake_open(true, false), 0);
        CHECK_EQ(fake_io(CLIENT_WRITE, 5 * OBJECT_SIZE, 4096, 1), 0);
        memset(&status, 0, sizeof(status));
        fake_enter();
        client_status_start(&status, world.image, 0, size, extents, 8, NULL);
        fake_leave();
        CHECK_EQ(fake_wait(&status.op), 0);
        CHECK_EQ(status.ret_count, 3);
        CHECK_EQ(extents[0].len, 5 * OBJECT_SIZE);
        CHECK(extents[1].len == 4096 && extents[1].written);
        CHECK_EQ(extents[2].len, size - 5 * OBJECT_SIZE - 4096);
        /* With those that are sent elsewhere, and the first few. */
        if (split)
            CHECK(statuses() >= size / OBJECT_SIZE);
        else
            CHECK(statuses() >= FAKE_PGS && statuses() < 100);
        fake_down();
    }
}

/* Faults of all kinds while one writer keeps overwriting a few places: at the end each holds what was written
 * last. */
static void test_faults(void)
{
    for (uint64_t seed = 100; seed < 130; seed++) {
        uint8_t last[16] = {0};
        struct sim_rng rng = sim_rng_make(seed, "test", 0);
        fake_up(seed, 30 * NS_PER_S, 8);
        warm_up();
        sim_net_set_faults(world.net, &(struct sim_net_faults){.break_ppm = 5000,
                                                               .blackhole_ppm = 1000,
                                                               .slow_ppm = 5000,
                                                               .slow_ns = 50 * MS,
                                                               .busy_ppm = 20000});
        for (uint32_t round = 0; round < 12; round++) {
            fake.shards[round % 3].lose = (uint32_t)(sim_rng_u64(&rng) % 3);
            fake.shards[(round + 1) % 3].mute = (uint32_t)(sim_rng_u64(&rng) % 2);
            if (round % 4 == 3)
                fake_lead((uint32_t)(sim_rng_u64(&rng) % FAKE_SHARDS));
            for (uint32_t i = 0; i < 16; i++) {
                last[i] = (uint8_t)(round * 16 + i + 1);
                fake_start(i, CLIENT_WRITE, (uint64_t)i * 300000, 4096, last[i]);
            }
            for (uint32_t i = 0; i < 16; i++)
                CHECK_EQ(fake_finish(i), 0);
            for (uint32_t i = 0; i < 16; i++)
                CHECK(stored((uint64_t)i * 300000, 4096, last[i]));
        }
        sim_net_set_faults(world.net, &(struct sim_net_faults){0});
        sim_run_for(world.sim, 20 * NS_PER_S);
        for (uint32_t i = 0; i < 16; i++)
            CHECK(stored((uint64_t)i * 300000, 4096, last[i]));
        fake_down();
    }
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_round_trip);
    TEST(test_bounds);
    TEST(test_clear);
    TEST(test_redirects);
    TEST(test_new_member_leads);
    TEST(test_term_won_later);
    TEST(test_nobody_leads);
    TEST(test_paused);
    TEST(test_paused_elsewhere);
    TEST(test_pause_is_over);
    TEST(test_map_missed);
    TEST(test_leader_dies);
    TEST(test_leader_machine_dies);
    TEST(test_leader_hangs);
    TEST(test_patience);
    TEST(test_lost_osd);
    TEST(test_lost_replies);
    TEST(test_lost_replies_of_clears);
    TEST(test_gives_up);
    TEST(test_suspended);
    TEST(test_fenced_while_suspended);
    TEST(test_busy_and_definite);
    TEST(test_checksums);
    TEST(test_unheard_close);
    TEST(test_monitor_begins_to_lead);
    TEST(test_attach);
    TEST(test_force);
    TEST(test_attach_over_split);
    TEST(test_attach_to_a_parent);
    TEST(test_waits_over_split);
    TEST(test_fenced);
    TEST(test_resize);
    TEST(test_monitors);
    TEST(test_many_removals);
    TEST(test_monitor_calls);
    TEST(test_many_monitor_calls);
    TEST(test_late_monitor_calls);
    TEST(test_monitor_behind);
    TEST(test_map_in_parts);
    TEST(test_map_without_memory);
    TEST(test_parts_without_memory);
    TEST(test_no_monitor);
    TEST(test_few_pieces);
    TEST(test_shard_call_behind_writes);
    TEST(test_share);
    TEST(test_time_of_those_that_wait);
    TEST(test_stuck_shares);
    TEST(test_status);
    TEST(test_status_of_a_large_image);
    TEST(test_faults);
    return tap_done();
}
