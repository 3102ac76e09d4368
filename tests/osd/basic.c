/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads and writes of one client against a model, and every check that can refuse them.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/rng.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"
#include "tests/plants.h"

static uint8_t model[OBJECT_SIZE], got[IO_SIZE_MAX], data[IO_SIZE_MAX];

static void fill(struct sim_rng *rng, uint32_t len)
{
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t v = sim_rng_u64(rng);
        memcpy(&data[i], &v, MIN(8, len - i));
    }
}

static void check_object(struct world *w, uint64_t object)
{
    for (uint32_t block = 0; block < BLOCKS_PER_OBJECT; block += IO_BLOCKS_MAX) {
        CHECK_EQ(world_read(w, object, block, IO_BLOCKS_MAX, got), 0);
        CHECK(!memcmp(got, model + (size_t)block * BLOCK_SIZE, IO_SIZE_MAX));
    }
}

static void test_model(void)
{
    struct world *w = world_new(1, 2);
    struct sim_rng rng = sim_rng_make(1, "model", 0);

    memset(model, 0, sizeof(model));
    CHECK_EQ(world_attach(w, 1, 1), 0);
    check_object(w, 0);
    for (int step = 0; step < 150 && tap_ok; step++) {
        uint32_t len = 1 + (uint32_t)sim_rng_below(&rng, sim_rng_below(&rng, 4) ? 20000 : IO_SIZE_MAX);
        uint32_t offset = (uint32_t)sim_rng_below(&rng, OBJECT_SIZE - len);

        /* Within one log entry, as clients cut what they write. */
        len = MIN(len, ALIGN_DOWN(offset, BLOCK_SIZE) + IO_SIZE_MAX - offset);

        if (sim_rng_below(&rng, 3) == 0) {
            offset = ALIGN_DOWN(offset, BLOCK_SIZE);
            len = MAX(ALIGN_DOWN(len, BLOCK_SIZE), BLOCK_SIZE);
        }
        if (sim_rng_below(&rng, 5) == 0) {
            struct io io = io_make(w, IO_CLEAR, 0, offset, len);
            io.exact = sim_rng_below(&rng, 2);
            CHECK_EQ(io_run(&io), 0);
            uint32_t from = io.exact ? offset : ALIGN_UP(offset, BLOCK_SIZE);
            uint32_t to = io.exact ? offset + len : ALIGN_DOWN(offset + len, BLOCK_SIZE);
            if (to > from)
                memset(model + from, 0, to - from);
        } else {
            fill(&rng, len);
            CHECK_EQ(world_write(w, 0, offset, len, data), 0);
            memcpy(model + offset, data, len);
        }
        uint32_t block = (uint32_t)sim_rng_below(&rng, BLOCKS_PER_OBJECT),
                 blocks = MIN(17, BLOCKS_PER_OBJECT - block);
        CHECK_EQ(world_read(w, 0, block, blocks, got), 0);
        CHECK(!memcmp(got, model + (size_t)block * BLOCK_SIZE, (size_t)blocks * BLOCK_SIZE));
    }
    check_object(w, 0);
    world_free(w);
}

/* Many writers of parts of the same blocks at once: each part must be there in the end. */
static void test_merges(void)
{
    struct world *w = world_new(2, 1);
    static struct io ios[200];
    static uint8_t bytes[200][64];

    memset(model, 0, sizeof(model));
    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ARRAY_LEN(ios); i++) {
            memset(bytes[i], (int)(i * 3 + round + 1), sizeof(bytes[i]));
            ios[i] = io_make(w, IO_WRITE, 0, i * 100, 64);
            ios[i].data = bytes[i];
            memcpy(model + ios[i].offset, bytes[i], 64);
            io_begin(&ios[i]);
        }
        for (uint32_t i = 0; i < ARRAY_LEN(ios); i++) {
            WAIT_FOR(w, 10000, ios[i].done);
            CHECK_EQ(ios[i].result, 0);
        }
    }
    check_object(w, 0);
    CHECK(w->osds[world_leader(w, world_pg(w, 0))].shard->perf.merge_waits > 0);
    world_free(w);
}

static int once(struct io io)
{
    static uint8_t bytes[BLOCK_SIZE];

    io.data = bytes;
    io.ret_data = got;
    io.once = true;
    return io_run(&io);
}

static void test_checks(void)
{
    struct world *w = world_new(3, 2);
    struct io io = io_make(w, IO_WRITE, 0, 0, BLOCK_SIZE), bad;

    /* Find leader and term first. */
    memset(data, 1, BLOCK_SIZE);
    io.data = data;
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), -ERR_NOT_ATTACHED);
    CHECK_EQ(world_attach(w, 5, 10), 0);
    io.generation = 5;
    io.incarnation = 10;
    CHECK_EQ(once(io), 0);
    bad = io, bad.incarnation = 9;
    CHECK_EQ(once(bad), -ERR_FENCED);
    bad = io, bad.incarnation = 11;
    CHECK_EQ(once(bad), -ERR_NOT_ATTACHED);
    bad = io, bad.generation = 4;
    CHECK_EQ(once(bad), -ERR_STALE_GENERATION);
    bad = io, bad.generation = 6;
    CHECK_EQ(once(bad), -ERR_NOT_ATTACHED);
    bad = io, bad.image = 78;
    CHECK(once(bad) != 0);
    bad = io, bad.force_term = w->term[world_pg(w, 0) % PGS_MAX] + 1;
    CHECK_EQ(once(bad), -ERR_STALE_TERM);
    bad = io, bad.object = 512;
    while (world_pg(w, bad.object) != world_pg(w, 0))
        bad.object++;
    CHECK_EQ(once(bad), -ERR_RANGE);
    bad = io, bad.force_pg = placement_pg_id(POOL, !(world_pg(w, 0) & 1));
    CHECK_EQ(io_run(&bad), -ERR_WRONG_PG);
    bad = io, bad.bad_crc = true;
    CHECK_EQ(once(bad), -ERR_CHECKSUM);
    bad = io, bad.force_pg = placement_pg_id(POOL + 1, 0);
    CHECK_EQ(once(bad), -ERR_NO_PG);
    bad = io, bad.force_osd = 1 + (world_leader(w, world_pg(w, 0)) + 1) % OSDS;
    CHECK_EQ(once(bad), -ERR_NOT_LEADER);
    /* An older attach is refused, the same again is fine. */
    CHECK_EQ(world_attach(w, 5, 9), -ERR_FENCED);
    CHECK_EQ(world_attach(w, 4, 11), -ERR_STALE_GENERATION);
    CHECK_EQ(world_attach(w, 5, 10), 0);
    /* A new writer fences the old one. */
    CHECK_EQ(world_attach(w, 5, 12), 0);
    CHECK_EQ(once(io), -ERR_FENCED);
    io.incarnation = 12;
    CHECK_EQ(once(io), 0);
    world_free(w);
}

/* An entry has room for IO_BLOCKS_MAX blocks. A write of IO_SIZE_MAX that is not aligned touches one more. */
static void test_too_many_blocks(void)
{
    struct world *w = world_new(6, 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 3, sizeof(data));
    CHECK_EQ(world_write(w, 0, 512, IO_SIZE_MAX, data), -ERR_INVALID);
    CHECK_EQ(world_write(w, 0, 512, IO_SIZE_MAX - 512, data), 0);
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    CHECK(got[511] == 0 && got[512] == 3);
    world_free(w);
}

/* The leader and the others do not hear each other any more. */
static uint32_t part_leader(struct world *w, uint64_t pg)
{
    uint32_t old = world_leader(w, pg);

    for (uint32_t i = 0; i < OSDS; i++)
        if (i != old) {
            const char *a = w->osds[old].node->config.host, *b = w->osds[i].node->config.host;
            sim_net_set_path(w->net, a, b, SIM_PATH_BLOCK);
            sim_net_set_path(w->net, b, a, SIM_PATH_BLOCK);
        }
    return old;
}

/* Zeroing a part of what reads as zeros is a write too: a leader that is none any more must not say that it
 * is done, and neither may one whose zeros are not committed. */
static void test_zero_of_unwritten(void)
{
    struct world *w = world_new(7, 1);
    uint64_t pg = world_pg(w, 0);
    static struct io discard, zeros[2];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 0xcd, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    uint32_t old = part_leader(w, pg);
    struct osd_pg_view view;
    CHECK(osd_pg_view(w->osds[old].shard, pg, &view));
    discard = io_make(w, IO_CLEAR, 0, 0, BLOCK_SIZE);
    discard.force_osd = old + 1;
    discard.force_term = view.term;
    discard.once = true;
    io_begin(&discard);
    sim_run_for(w->sim, 2 * NS_PER_MS);
    for (uint32_t i = 0; i < 2; i++) {
        /* One discarded a moment ago, one never written. */
        zeros[i] = io_make(w, IO_CLEAR, 0, i * BLOCK_SIZE, 512);
        zeros[i].exact = true;
        zeros[i].force_osd = old + 1;
        zeros[i].force_term = view.term;
        zeros[i].once = true;
        io_begin(&zeros[i]);
    }
    WAIT_FOR(w, 30000, discard.done && zeros[0].done && zeros[1].done);
    CHECK(discard.result && zeros[0].result && zeros[1].result);
    sim_net_heal(w->net);
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    CHECK(got[0] == 0xcd);
    /* With a quorum it is done, and the block stays unwritten. */
    struct io zero = io_make(w, IO_CLEAR, 0, 9 * BLOCK_SIZE + 5, 512);
    zero.exact = true;
    CHECK_EQ(io_run(&zero), 0);
    CHECK_EQ(world_read(w, 0, 9, 1, got), 0);
    CHECK(got[5] == 0);
    world_free(w);
}

/* What is read counts like what is written, as long as the request lives. */
static void test_read_bytes(void)
{
    enum { FIT = 12 };
    struct world *w = world_new(8, 1);
    uint64_t pg_id = world_pg(w, 0);
    static struct io reads[FIT + 6];

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    uint32_t old = part_leader(w, pg_id);
    struct osd_shard *shard = w->osds[old].shard;
    sim_run_for(w->sim, 200 * NS_PER_MS); /* its lease ends, and it leads on for a while */
    for (uint32_t i = 0; i < ARRAY_LEN(reads); i++) {
        reads[i] = io_make(w, IO_READ, 0, 0, IO_SIZE_MAX);
        reads[i].ret_data = got;
        reads[i].force_osd = old + 1;
        reads[i].once = true;
        io_begin(&reads[i]);
    }
    sim_run_for(w->sim, 5 * NS_PER_MS);
    const struct pg *pg = pg_find(shard, pg_id);
    /* A quarter of three quarters of the memory. */
    CHECK_EQ(arena_size(w->osds[old].node->core.arena) / 4 * 3 / 4, FIT * IO_SIZE_MAX);
    CHECK_EQ(pg->request_bytes, FIT * IO_SIZE_MAX);
    CHECK_EQ(shard->perf.turned_away, 6);
    for (uint32_t i = 0; i < ARRAY_LEN(reads); i++)
        WAIT_FOR(w, 30000, reads[i].done);
    CHECK_EQ(pg_find(shard, pg_id)->request_bytes, 0);
    sim_net_heal(w->net);
    world_free(w);
}

static bool order_done(struct world *w, bool deleted, uint64_t generation)
{
    for (uint32_t p = 0; p < w->pg_count; p++)
        for (uint32_t i = 0; i < OSDS; i++) {
            const struct store_pg *sp = world_replica(w, i, placement_pg_id(POOL, p));
            const struct image_record *record = store_image_get(sp, IMAGE);
            if (!record || record->deleted != deleted || record->generation < generation)
                return false;
        }
    return true;
}

static void test_orders(void)
{
    struct world *w = world_new(4, 2);
    struct io io = io_make(w, IO_WRITE, 3, 0, BLOCK_SIZE);

    memset(data, 7, IO_SIZE_MAX);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 3, 0, BLOCK_SIZE, data), 0);
    CHECK_EQ(world_write(w, 0, 0, 2 * BLOCK_SIZE, data), 0);
    /* Shrink to one object and one block. */
    world_order(w, IMAGE, OBJECT_SIZE + BLOCK_SIZE, false);
    WAIT_FOR(w, 3000, order_done(w, false, 2));
    io.data = data;
    CHECK_EQ(io_run(&io), -ERR_STALE_GENERATION);
    io.generation = 2;
    CHECK_EQ(io_run(&io), -ERR_RANGE);
    io.object = 1;
    CHECK_EQ(io_run(&io), 0);
    /* Grown again: what was cut off is zeros. */
    w->order.generation = 3;
    w->order.size_bytes = 1ull << 30;
    world_feed_map(w);
    WAIT_FOR(w, 3000, order_done(w, false, 3));
    struct io read = io_make(w, IO_READ, 3, 0, BLOCK_SIZE);
    read.generation = 3;
    read.ret_data = got;
    memset(got, 1, BLOCK_SIZE);
    CHECK_EQ(io_run(&read), 0);
    CHECK(got[0] == 0 && !memcmp(got, got + 1, BLOCK_SIZE - 1));
    /* Deleted. */
    w->order.generation = 4;
    w->order.deleted = true;
    world_feed_map(w);
    WAIT_FOR(w, 3000, order_done(w, true, 4));
    CHECK_EQ(world_attach(w, 3, 5), -ERR_STALE_GENERATION);
    CHECK_EQ(world_attach(w, 9, 5), -ERR_STALE_GENERATION);
    /* Who knew it before must not take what is left of it for an empty image. */
    read.type = IO_STATUS;
    CHECK_EQ(io_run(&read), -ERR_STALE_GENERATION);
    CHECK_EQ(world_replica(w, 0, world_pg(w, 0))->object_count, 0);
    world_free(w);
}

/* The map with these orders, of the next epoch, for osd.0. */
static void feed_orders(struct world *w, Fb__ImageOrder **orders, size_t count)
{
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;

    map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    map.base_epoch = w->epoch;
    map.epoch = ++w->epoch;
    map.order = orders;
    map.n_order = count;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_feed_map(w->osds[0].shard, &map), 0);
    sim_node_leave(w->osds[0].node);
}

/* The same of one order, or of items that are not there. */
static void feed_delta(struct world *w, Fb__ImageOrder *order)
{
    feed_orders(w, &order, order != NULL);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Thousands of images were removed while some PG has no leader. A PG that has looked at these orders, and is
 * told of one more, looks at that one: with all of them, for each of its PGs, a shard had no time for
 * anything else. */
static void test_many_orders(void)
{
    struct world *w = world_new(6, 1);
    uint64_t pg_id = placement_pg_id(POOL, 0);
    static Fb__ImageOrder orders[20000], *pointers[ARRAY_LEN(orders)];

    world_lead(w, pg_id, 0);
    for (uint32_t i = 0; i < ARRAY_LEN(orders); i++) {
        orders[i] = (Fb__ImageOrder)FB__IMAGE_ORDER__INIT;
        orders[i].image = 1000 + i;
        orders[i].pool = POOL;
        orders[i].epoch = w->epoch + 1;
        orders[i].generation = 2;
        orders[i].deleted = true;
        pointers[i] = &orders[i];
    }
    feed_orders(w, pointers, ARRAY_LEN(orders));
    const struct store_pg *sp = world_replica(w, 0, pg_id);
    WAIT_FOR(w, 3000, sp->floor_epoch == w->epoch);

    struct pg *pg = pg_find(w->osds[0].shard, pg_id);
    uint64_t began_ns = cpu_ns();
    for (uint32_t i = 0; i < 1000; i++)
        pg_orders_run(pg);
    CHECK(cpu_ns() - began_ns < 10 * NS_PER_MS);
    /* The next one is carried out, and all of them end. */
    Fb__ImageOrder next = orders[0];
    next.image = 999;
    next.epoch = w->epoch + 1;
    feed_delta(w, &next);
    WAIT_FOR(w, 3000, sp->floor_epoch == w->epoch);
    for (uint32_t i = 0; i < ARRAY_LEN(orders); i++)
        orders[i].removed = true;
    feed_orders(w, pointers, ARRAY_LEN(orders));
    CHECK_EQ(w->osds[0].shard->map.orders.count, 1);
    world_free(w);
}

/* Paused: no read and write begins, whatever the client knows, also after a restart; the rest goes on. */
static void test_paused(void)
{
    struct world *w = world_new(9, 1);
    struct io io;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    for (int restart = 0; restart < 2; restart++) {
        w->paused = true;
        world_feed_map(w);
        if (restart) {
            WAIT_FOR(w, 3000, w->osds[0].shard->map.saved_epoch == w->epoch);
            for (uint32_t i = 0; i < OSDS; i++) {
                w->osds[i].unfed = true;
                world_osd_stop(w, i);
                world_osd_start(w, i);
                WAIT_FOR(w, 3000, w->osds[i].shard);
            }
            WAIT_FOR(w, 3000, world_settled(w));
        }
        io = io_make(w, IO_WRITE, 0, 0, BLOCK_SIZE);
        io.once = true;
        io.data = data;
        CHECK_EQ(io_run(&io), -ERR_PAUSED);
        io = io_make(w, IO_READ, 0, 0, BLOCK_SIZE);
        io.once = true;
        io.ret_data = got;
        CHECK_EQ(io_run(&io), -ERR_PAUSED);
        io = io_make(w, IO_CLEAR, 0, 0, BLOCK_SIZE);
        io.once = true;
        CHECK_EQ(io_run(&io), -ERR_PAUSED);
        CHECK_EQ(world_attach(w, 1, 2 + (uint64_t)restart), 0);
        w->paused = false;
        for (uint32_t i = 0; i < OSDS; i++)
            w->osds[i].unfed = false;
        world_feed_map(w);
        io = io_make(w, IO_WRITE, 0, 0, BLOCK_SIZE);
        io.incarnation = 2 + (uint64_t)restart;
        io.data = data;
        CHECK_EQ(io_run(&io), 0);
    }
    world_free(w);
}

/* Orders that are done do not pile up; epochs that change no item are not saved one by one. */
static void test_saved_map(void)
{
    struct world *w = world_new(9, 1);
    const struct shard_map *map = &w->osds[0].shard->map;
    Fb__ImageOrder order = FB__IMAGE_ORDER__INIT;

    order.pool = POOL;
    order.generation = 2;
    order.size_bytes = OBJECT_SIZE;
    for (uint32_t i = 0; i < 50; i++) {
        order.image = 1000 + i;
        order.removed = false;
        feed_delta(w, &order);
        CHECK_EQ(map->orders.count, 1);
        order.removed = true;
        feed_delta(w, &order);
        CHECK_EQ(map->orders.count, 0);
    }
    WAIT_FOR(w, 200, map->saved_epoch == map->epoch);
    uint64_t saved = map->saved_epoch;
    /* An older one, of a monitor that lags behind, changes nothing. */
    Fb__ClusterMap older = FB__CLUSTER_MAP__INIT;
    older.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    older.epoch = map->epoch - 1;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_feed_map(w->osds[0].shard, &older), -ERR_BEHIND);
    sim_node_leave(w->osds[0].node);
    CHECK_EQ(map->epoch, saved);
    for (uint32_t i = 0; i < 30; i++) {
        feed_delta(w, NULL);
        sim_run_for(w->sim, 100 * NS_PER_MS);
    }
    CHECK_EQ(map->saved_epoch, saved);
    WAIT_FOR(w, 3000, map->saved_epoch == map->epoch);
    /* And a restart finds it. */
    world_osd_stop(w, 0);
    world_osd_start(w, 0);
    WAIT_FOR(w, 3000, w->osds[0].shard);
    map = &w->osds[0].shard->map;
    CHECK(map->epoch >= saved + 30 && map->orders.count == 0);
    world_free(w);
}

/* Any port will do, but the others know this one. */
static void test_same_port(void)
{
    struct world *w = world_new(10, 1);
    struct world_osd *osd = &w->osds[1];
    char address[sizeof(osd->listen)];

    memcpy(address, osd->listen, sizeof(address));
    sim_run_for(w->sim, NS_PER_S);
    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    snprintf(osd->listen, sizeof(osd->listen), "10.0.0.2:0");
    world_osd_start(w, 1);
    WAIT_FOR(w, 3000, osd->shard);
    CHECK(!strcmp(osd_shard_address(osd->shard), address));
    memcpy(osd->listen, address, sizeof(address));
    world_feed_map(w);
    WAIT_FOR(w, 3000, world_settled(w));
    world_free(w);
}

static bool all_removed(struct world *w)
{
    for (uint32_t i = 0; i < OSDS; i++)
        if (store_pg_next(osd_shard_store(w->osds[i].shard), NULL))
            return false;
    return true;
}

static void test_pool_removed(void)
{
    struct world *w = world_new(5, 3);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    w->pool_removed = true;
    world_feed_map(w);
    WAIT_FOR(w, 3000, all_removed(w));
    /* Nothing is created again because the map still names it. */
    world_feed_map(w);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(all_removed(w));
    /* What all have confirmed leaves the map. */
    for (uint32_t i = 0; i < OSDS; i++)
        CHECK(w->osds[i].shard->map.pgs.count == 3 && w->osds[i].shard->map.pools.count == 1);
    w->pool_gone = true;
    world_feed_map(w);
    for (uint32_t i = 0; i < OSDS; i++)
        CHECK(!w->osds[i].shard->map.pgs.count && !w->osds[i].shard->map.pools.count);
    world_free(w);
}

static int check_start(struct world *w, uint64_t incarnation, uint64_t token, bool seen)
{
    struct osd_shard *shard = w->osds[0].shard;
    struct rpc_identity who = w->osds[1].shard->self;

    who.incarnation = incarnation;
    who.start_token = token;
    sim_node_enter(w->osds[0].node);
    int error = shard_peer_check(shard, &who);
    if (!error && seen)
        shard_peer_seen(shard_peer_find(shard, 1, 0), &who);
    sim_node_leave(w->osds[0].node);
    return error;
}

/* Two devices that count as many starts: a peer listens to one of them, and to the monitor about which. */
static void test_same_start(void)
{
    struct world *w = world_new(7, 1);
    uint64_t next = w->osds[1].shard->self.incarnation + 1;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Osd osd = *shard_map_osd(w->osds[0].shard, 1), *osds[] = {&osd};

    CHECK_EQ(check_start(w, next, 5, true), 0);
    CHECK_EQ(check_start(w, next, 6, true), -ERR_ROLLED_BACK);
    CHECK_EQ(check_start(w, next - 1, 5, true), -ERR_ROLLED_BACK);
    CHECK_EQ(check_start(w, next, 5, true), 0);
    CHECK_EQ(check_start(w, next + 1, 6, false), 0);
    osd.incarnation = next;
    osd.start_token = 6;
    map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    map.base_epoch = w->epoch;
    map.epoch = ++w->epoch;
    map.osd = osds;
    map.n_osd = 1;
    sim_node_enter(w->osds[0].node);
    CHECK_EQ(shard_feed_map(w->osds[0].shard, &map), 0);
    sim_node_leave(w->osds[0].node);
    CHECK_EQ(check_start(w, next, 5, true), -ERR_ROLLED_BACK);
    CHECK_EQ(check_start(w, next, 6, true), 0);
    CHECK_EQ(check_start(w, next, 6, true), 0);
    world_free(w);
}

/* A greeting that was held up comes after that of the session which took its place, and then that session
 * ends: what the other one carries is heard all the same. */
static void test_late_greeting(void)
{
    struct world *w = world_new(8, 1);
    struct osd_shard *from = w->osds[0].shard, *to = w->osds[1].shard;
    struct rpc_peer_config config = {
        .core = from->core,
        .net = from->net,
        .address = shard_peer_find(from, 1, 0)->address,
        .self = &from->self,
        .calls_max = 1,
    };

    WAIT_FOR(w, 3000, shard_peer_find(to, 0, 0)->session);
    const struct rpc_session *first = shard_peer_find(to, 0, 0)->session;
    sim_node_enter(w->osds[0].node);
    struct rpc_peer *late = rpc_peer_new(&config);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 3000, shard_peer_find(to, 0, 0)->session != first);
    sim_node_enter(w->osds[0].node);
    rpc_peer_free(late);
    sim_node_leave(w->osds[0].node);
    WAIT_FOR(w, 3000, !shard_peer_find(to, 0, 0)->session || shard_peer_find(to, 0, 0)->session == first);
    WAIT_FOR(w, 3000, shard_peer_find(to, 0, 0)->session == first);
    world_free(w);
}

/* A PG that the map has called born, and a member that has no replica of it: lost, and not to be made anew.
 */
static void test_lost_replica(void)
{
    struct world *w = world_new(6, 2);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    w->born = true;
    world_feed_map(w);
    sim_run_for(w->sim, NS_PER_S);
    world_osd_kill(w, 2, SIM_CRASH_POWER);
    fake_store_lose_pg(w->osds[2].label.osd_uuid, world_pg(w, 0));
    world_osd_start(w, 2);
    WAIT_FOR(w, 3000, w->osds[2].shard && w->osds[2].shard->serving);
    for (int i = 0; i < 3; i++) {
        world_feed_map(w);
        sim_run_for(w->sim, NS_PER_S);
        CHECK(!world_replica(w, 2, world_pg(w, 0)));
    }
    /* The same of a device that has lost its map as well, and hears of the PG as born. */
    world_osd_kill(w, 2, SIM_CRASH_POWER);
    fake_store_lose_map(w->osds[2].label.osd_uuid);
    world_osd_start(w, 2);
    WAIT_FOR(w, 3000, w->osds[2].shard && w->osds[2].shard->serving);
    world_feed_map(w);
    sim_run_for(w->sim, NS_PER_S);
    CHECK(!world_replica(w, 2, world_pg(w, 0)));
    /* The others serve on. */
    CHECK_EQ(world_attach(w, 1, 2), 0);
    world_free(w);
}

/* osd.2 hears that a PG is to be born there; the answer to that. */
static int feed_birth(struct world *w, uint64_t id, uint64_t epoch)
{
    struct osd_shard *shard = w->osds[2].shard;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;
    Fb__PgMember member = FB__PG_MEMBER__INIT, *pointer = &member;

    member.replica = 1;
    member.osd = shard->label.osd;
    pg.id = id;
    pg.epoch = pg.birth = epoch;
    pg.member = &pointer;
    pg.n_member = 1;
    map.cluster = (ProtobufCBinaryData){16, shard->label.cluster};
    map.pg = &pgs;
    map.n_pg = 1;
    map.base_epoch = shard->map.epoch;
    map.epoch = w->epoch;
    sim_node_enter(w->osds[2].node);
    int error = shard_feed_map(shard, &map);
    sim_node_leave(w->osds[2].node);
    return error;
}

/* By the map that a shard has at its start a PG is to be born that is not there: that may be an
 * older map. The monitor's word counts, and if it is that the PG is unknown. */
static void test_birth_of_before(void)
{
    struct world *w = world_new(6, 1);
    uint64_t id = world_pg(w, 0) + 1000, birth = ++w->epoch;

    CHECK_EQ(feed_birth(w, id, birth), 0);
    WAIT_FOR(w, 3000, world_replica(w, 2, id));
    w->epoch += 5;
    world_feed_map(w);
    WAIT_FOR(w, 3000, w->osds[2].shard->map.saved_epoch == w->epoch);
    for (int known = 0; known < 2; known++) {
        world_osd_kill(w, 2, SIM_CRASH_POWER);
        fake_store_lose_pg(w->osds[2].label.osd_uuid, id);
        w->osds[2].unfed = true;
        world_osd_start(w, 2);
        WAIT_FOR(w, 3000, w->osds[2].shard && w->osds[2].shard->serving);
        const struct shard_map *map = &w->osds[2].shard->map;
        CHECK_EQ(map->epoch, birth - 1);
        CHECK_EQ(map->loaded_epoch, w->epoch);
        sim_run_for(w->sim, 10 * NS_PER_S);
        CHECK(!world_replica(w, 2, id) && world_replica(w, 2, world_pg(w, 0)));
        w->osds[2].unfed = false;
        if (known)
            break;
        /* Nothing has changed in the cluster meanwhile. */
        CHECK_EQ(feed_birth(w, id, birth), 0);
        WAIT_FOR(w, 3000, world_replica(w, 2, id));
        CHECK_EQ(map->saved_epoch, w->epoch);
    }
    world_feed_map(w);
    sim_run_for(w->sim, 10 * NS_PER_S);
    CHECK(!world_replica(w, 2, id));
    world_free(w);
}

/* Nothing happens: each group looks up a few times per second to see that its leader is there, together with
 * the others, when the shard sends its heartbeats; orders that only a leader can carry out keep nobody awake.
 */
static void test_idle(void)
{
    struct world *w = world_new(9, PGS_MAX);
    struct core_counters before[OSDS];
    uint64_t beats[OSDS], asked = 0, asked_again = 0;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    world_feed_map(w);
    sim_run_for(w->sim, 3 * NS_PER_S);
    for (uint32_t i = 0; i < OSDS; i++) {
        before[i] = w->osds[i].shard->core->counters;
        beats[i] = w->osds[i].shard->perf.heartbeats_sent;
    }
    sim_run_for(w->sim, 4 * NS_PER_S);
    for (uint32_t i = 0; i < OSDS; i++) {
        const struct core_counters *now = &w->osds[i].shard->core->counters;
        /* The shard's own and its sessions': none for a group, whatever their number. */
        CHECK(now->timers - before[i].timers <= 24);
        /* Two beats per second to each of two peers, and what comes in for each. */
        CHECK(w->osds[i].shard->perf.heartbeats_sent - beats[i] <= 4 * 2 * 2 + 2);
        CHECK(now->polls - before[i].polls <= 48);
    }
    /* Without a lease the first read asks the members; then there is one. */
    for (uint32_t i = 0; i < OSDS; i++)
        asked -= w->osds[i].shard->perf.read_index;
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    for (uint32_t i = 0; i < OSDS; i++)
        asked += w->osds[i].shard->perf.read_index;
    CHECK_EQ(asked, 1);
    sim_run_for(w->sim, 100 * NS_PER_MS);
    for (uint32_t i = 0; i < OSDS; i++)
        asked_again -= w->osds[i].shard->perf.read_index;
    CHECK_EQ(world_read(w, 0, 0, 1, got), 0);
    for (uint32_t i = 0; i < OSDS; i++)
        asked_again += w->osds[i].shard->perf.read_index;
    CHECK_EQ(asked_again, 0);
    world_free(w);
}

/* What follows from nothing is not looked at: of each write the leader's group takes three steps (proposed,
 * durable here, committed), a follower's one (durable there), and the request its own. */
static void test_steps(void)
{
    struct world *w = world_new(10, 1);
    uint64_t before = 0, after = 0;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    for (uint32_t i = 0; i < OSDS; i++)
        before += w->osds[i].shard->core->counters.steps;
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    for (uint32_t i = 0; i < OSDS; i++)
        after += w->osds[i].shard->core->counters.steps;
    /* With the client's and what the store does for itself 12; each look in vain is one more. */
    CHECK(after - before <= 100 * 25 / 2);
    world_free(w);
}

int main(int argc, char **argv)
{
    plants_take(argc, argv);
    TEST(test_model);
    TEST(test_merges);
    TEST(test_checks);
    TEST(test_too_many_blocks);
    TEST(test_zero_of_unwritten);
    TEST(test_read_bytes);
    TEST(test_orders);
    TEST(test_many_orders);
    TEST(test_paused);
    TEST(test_saved_map);
    TEST(test_same_port);
    TEST(test_pool_removed);
    TEST(test_lost_replica);
    TEST(test_birth_of_before);
    TEST(test_same_start);
    TEST(test_late_greeting);
    TEST(test_idle);
    TEST(test_steps);
    fake_store_forget_all();
    return tap_done();
}
