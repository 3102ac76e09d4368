/* SPDX-License-Identifier: Apache-2.0
 *
 * What one PG, one member or one stranger may do to the others: nothing. A PG that is stuck leaves room for
 * those that work, a member that is full stops writes and nothing else, a map or request with numbers from
 * nowhere is refused; and a leader that is gone is replaced in time.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

static uint8_t data[IO_SIZE_MAX], got[IO_SIZE_MAX];

static struct pg *leader_pg(struct world *w, uint64_t pg)
{
    uint32_t leader = world_leader(w, pg);

    return leader == UINT32_MAX ? NULL : pg_find(w->osds[leader].shard, pg);
}

static bool all_served(struct world *w)
{
    for (uint32_t p = 0; p < w->pg_count; p++) {
        const struct pg *pg = leader_pg(w, placement_pg_id(POOL, p));
        if (!pg || !pg_serves(pg))
            return false;
    }
    return true;
}

static void move_leader(struct world *w, uint64_t pg, uint32_t to)
{
    if (world_leader(w, pg) != to)
        CHECK_EQ(world_transfer(w, pg, to), 0);
    WAIT_FOR(w, 1000, world_leader(w, pg) == to && pg_serves(leader_pg(w, pg)));
}

static int once(struct io io)
{
    io.data = data;
    io.ret_data = got;
    io.once = true;
    return io_run(&io);
}

/* ---- leaders ---- */

static int compare_ms(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* From the death of a process to the moment when all that it led is served by others. */
static void test_leader_replaced(void)
{
    enum { RUNS = 40 };
    int ms[RUNS];

    for (uint32_t i = 0; i < RUNS; i++) {
        struct world *w = world_new(100 + i, 4);
        sim_run_for(w->sim, NS_PER_S + i * 7 * NS_PER_MS);
        uint64_t killed_ns = w->sim->now_ns;
        uint32_t leader = world_leader(w, placement_pg_id(POOL, 0));
        world_osd_kill(w, leader, SIM_CRASH_PROCESS);
        WAIT_FOR(w, 3000, all_served(w));
        ms[i] = (int)((w->sim->now_ns - killed_ns) / NS_PER_MS);
        CHECK(ms[i] < 300);
        world_free(w);
    }
    qsort(ms, RUNS, sizeof(ms[0]), compare_ms);
    printf("# a killed leader of 4 groups: median %d ms, at most %d ms\n", ms[RUNS / 2], ms[RUNS - 1]);
}

/* A machine that was suspended wakes up and thinks that it leads. Its clock went on: what it answers is not
 * of then. */
static void test_suspended_leader(void)
{
    for (uint32_t i = 0; i < 10; i++) {
        struct world *w = world_new(200 + i, 1);
        uint64_t pg = world_pg(w, 0);
        static struct io read;

        CHECK_EQ(world_attach(w, 1, 1), 0);
        memset(data, 1, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        sim_run_for(w->sim, i * 3 * NS_PER_MS);
        uint32_t old = world_leader(w, pg);
        sim_node_pause(w->osds[old].node);
        memset(data, 2, BLOCK_SIZE);
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        CHECK(world_leader(w, pg) != old);
        /* It finds the question among what came while it slept. */
        read = io_make(w, IO_READ, 0, 0, BLOCK_SIZE);
        read.ret_data = got;
        read.force_osd = old + 1;
        read.once = true;
        memset(got, 0, BLOCK_SIZE);
        io_begin(&read);
        sim_run_for(w->sim, 20 * NS_PER_MS);
        sim_node_resume(w->osds[old].node);
        WAIT_FOR(w, 10000, read.done);
        CHECK(read.result || got[0] == 2);
        world_free(w);
    }
}

/* ---- PGs that are stuck ---- */

static void refuse_pg(struct world *w, uint64_t pg, bool on)
{
    uint32_t leader = world_leader(w, pg);

    for (uint32_t i = 0; i < OSDS; i++) {
        if (i == leader)
            continue;
        sim_node_enter(w->osds[i].node);
        fake_store_refuse_pg(osd_shard_store(w->osds[i].shard), pg, on);
        sim_node_leave(w->osds[i].node);
    }
}

/* Clients beside the one of the world: a session has a limit of its own. */
#define CLIENTS_MAX 8
static struct rpc_identity selves[CLIENTS_MAX];

static void client_begin(struct world *w, uint32_t number, struct rpc_peer *ret_peers[OSDS])
{
    selves[number] = w->self;
    selves[number].client_uuid[0] = (uint8_t)(100 + number);
    sim_node_enter(w->client);
    for (uint32_t i = 0; i < OSDS; i++) {
        struct rpc_peer_config config = {
            .core = &w->client->core,
            .net = sim_net_port(w->net, w->client),
            .address = w->osds[i].listen,
            .self = &selves[number],
            .calls_max = 1024,
        };
        ret_peers[i] = rpc_peer_new(&config);
    }
    sim_node_leave(w->client);
    sim_run_for(w->sim, 5 * NS_PER_MS);
}

static void client_end(struct world *w, struct rpc_peer *peers[OSDS])
{
    sim_node_enter(w->client);
    for (uint32_t i = 0; i < OSDS; i++)
        rpc_peer_free(peers[i]);
    sim_node_leave(w->client);
}

/* Requests to PGs whose followers have no room. The one that has is served as if nothing was, and in the end
 * the others are told to come again. */
static void test_stuck_pgs(void)
{
    enum { STUCK = 6, EACH = 1000 };
    struct world *w = world_new(31, STUCK + 1);
    uint64_t healthy = placement_pg_id(POOL, STUCK);
    struct rpc_peer *own[OSDS], *others[STUCK][OSDS];
    struct io *ios = calloc(STUCK * EACH, sizeof(*ios));

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t p = 0; p <= STUCK; p++)
        move_leader(w, placement_pg_id(POOL, p), 0);
    memcpy(own, w->peers, sizeof(own));
    for (uint32_t p = 0; p < STUCK; p++) {
        uint64_t pg = placement_pg_id(POOL, p), object = world_object_in(w, pg);
        refuse_pg(w, pg, true);
        client_begin(w, p, others[p]);
        memcpy(w->peers, others[p], sizeof(own));
        for (uint32_t i = 0; i < EACH; i++) {
            struct io *io = &ios[p * EACH + i];
            *io = io_make(w, IO_CLEAR, object, i % 256 * BLOCK_SIZE, BLOCK_SIZE);
            io->once = true;
            io->force_osd = 1;
            io->force_term = leader_pg(w, pg)->raft.term;
            io_begin(io);
        }
        sim_run_for(w->sim, 20 * NS_PER_MS);
        printf("# stuck PG %u holds %u requests\n", p, leader_pg(w, pg)->request_count);
    }
    memcpy(w->peers, own, sizeof(own));
    struct osd_shard *shard = w->osds[0].shard;
    CHECK(shard->perf.turned_away > 0);
    uint32_t stuck_max = 0;
    for (uint32_t p = 0; p < STUCK; p++)
        stuck_max = MAX(stuck_max, leader_pg(w, placement_pg_id(POOL, p))->request_count);
    uint32_t left = SHARD_REQUESTS_MAX - pool_out_count(&shard->requests);
    printf("# %u are left\n", left);
    CHECK(left >= SHARD_REQUESTS_MAX / 8 && stuck_max >= SHARD_REQUESTS_MAX / 8);
    uint64_t away = shard->perf.turned_away;
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(world_write(w, world_object_in(w, healthy), i * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    CHECK_EQ(shard->perf.turned_away, away);
    /* What was proposed is answered although its leader has contact and stays. */
    sim_run_for(w->sim, PG_COMMIT_NS + NS_PER_S);
    for (uint32_t p = 0; p < STUCK; p++) {
        CHECK_EQ(world_leader(w, placement_pg_id(POOL, p)), 0);
        CHECK_EQ(leader_pg(w, placement_pg_id(POOL, p))->request_count, 0);
    }
    CHECK_EQ(shard->request_bytes, 0);
    for (uint32_t i = 0; i < STUCK * EACH; i++) {
        CHECK(ios[i].done && ios[i].result == -ERR_RETRY);
        if (!ios[i].done)
            break;
    }
    for (uint32_t p = 0; p < STUCK; p++)
        refuse_pg(w, placement_pg_id(POOL, p), false);
    for (uint32_t p = 0; p < STUCK; p++)
        CHECK_EQ(world_write(w, world_object_in(w, placement_pg_id(POOL, p)), 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    for (uint32_t p = 0; p < STUCK; p++)
        client_end(w, others[p]);
    free(ios);
    world_free(w);
}

static uint64_t longest_wait_ns(struct world *w, const struct pg *pg)
{
    uint64_t longest_ns = 0, now_ns = core_now_ns(pg->shard->core);

    list_for_each (&pg->waiting, node) {
        const struct pg_request *req = list_entry(node, struct pg_request, link);
        if (req->kind != PG_ATTACH)
            longest_ns = MAX(longest_ns, now_ns - req->proposed_ns);
    }
    return longest_ns;
}

/* Who attaches again and again waits for the entry that stands there already, and makes nobody behind it wait
 * longer. */
static void test_stuck_behind_an_attach(void)
{
    static struct io ios[2];
    struct world *w = world_new(71, 1);
    uint64_t pg = placement_pg_id(POOL, 0);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    move_leader(w, pg, 0);
    WAIT_FOR(w, 5000, world_settled(w));
    refuse_pg(w, pg, true);
    for (uint32_t i = 0; i < ARRAY_LEN(ios); i++) {
        ios[i] = io_make(w, i ? IO_WRITE : IO_ATTACH, 0, 0, BLOCK_SIZE);
        ios[i].incarnation = 2;
        ios[i].data = data;
        io_begin(&ios[i]);
        sim_run_for(w->sim, 20 * NS_PER_MS);
    }
    for (uint32_t ms = 0; ms < 9000; ms += 100) {
        sim_run_for(w->sim, 100 * NS_PER_MS);
        CHECK(longest_wait_ns(w, leader_pg(w, pg)) <= PG_COMMIT_NS);
    }
    CHECK_EQ(world_leader(w, pg), 0);
    refuse_pg(w, pg, false);
    WAIT_FOR(w, 10000, ios[0].done && ios[1].done);
    world_free(w);
}

/* Many large reads of PGs that are led here, from a device that is slow: they leave memory to what comes from
 * other leaders, and to the writes of who does not read. */
static void test_reads_leave_memory(void)
{
    enum { READERS = 4, EACH = 24 };
    static struct io reads[READERS * EACH];
    struct world *w = world_new(72, READERS + 2);
    struct osd_shard *shard = w->osds[0].shard;
    uint64_t here = placement_pg_id(POOL, READERS), there = placement_pg_id(POOL, READERS + 1);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t p = 0; p < w->pg_count; p++) {
        move_leader(w, placement_pg_id(POOL, p), placement_pg_id(POOL, p) == there);
        CHECK_EQ(world_write(w, world_object_in(w, placement_pg_id(POOL, p)), 0, BLOCK_SIZE, data), 0);
    }
    WAIT_FOR(w, 5000, world_settled(w));
    sim_node_enter(w->osds[0].node);
    fake_store_read_early(osd_shard_store(shard));
    fake_store_set_read_ns(osd_shard_store(shard), 200 * NS_PER_MS);
    sim_node_leave(w->osds[0].node);
    for (uint32_t i = 0; i < ARRAY_LEN(reads); i++) {
        reads[i] =
            io_make(w, IO_READ, world_object_in(w, placement_pg_id(POOL, i % READERS)), 0, IO_SIZE_MAX);
        reads[i].ret_data = got;
        io_begin(&reads[i]);
    }
    sim_run_for(w->sim, 10 * NS_PER_MS);
    CHECK(shard->request_bytes);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQ(world_write(w, world_object_in(w, here), 0, IO_SIZE_MAX, data), 0);
        CHECK_EQ(world_write(w, world_object_in(w, there), 0, IO_SIZE_MAX, data), 0);
    }
    for (uint32_t i = 0; i < ARRAY_LEN(reads); i++)
        WAIT_FOR(w, 30000, reads[i].done && !reads[i].result);
    printf("# %d reads were told to come again, %d payloads found no memory\n", (int)shard->perf.turned_away,
           (int)shard->perf.payload_drops);
    CHECK(shard->perf.turned_away);
    CHECK_EQ(shard->perf.payload_drops, 0);
    world_free(w);
}

static void slow_start(void *owner, struct sim_node *node)
{
}

/* A process of three clients that read much and then hang: what waits for them to take it leaves memory to
 * others, who read and write as if they were not there. */
static void test_slow_readers(void)
{
    enum { SLOW = 3, EACH = 256, AT_ONCE = 4 };
    static struct rpc_call calls[SLOW][EACH];
    static struct io writes[16];
    struct world *w = world_new(73, 2);
    struct osd_shard *shard = w->osds[0].shard;
    uint64_t here = placement_pg_id(POOL, 0), there = placement_pg_id(POOL, 1);
    struct wire_read_request request = {.pg = here,
                                        .image = IMAGE,
                                        .object = world_object_in(w, here),
                                        .generation = 1,
                                        .block_count = IO_BLOCKS_MAX,
                                        .epoch = w->epoch};
    struct rpc_identity slow_selves[SLOW];
    struct rpc_peer *peers[SLOW];
    RPC_FRAME_SCRATCH(frame, 256);
    uint32_t whole = 0, refused = 0;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 7, IO_SIZE_MAX);
    move_leader(w, here, 0);
    move_leader(w, there, 1);
    CHECK_EQ(world_write(w, request.object, 0, IO_SIZE_MAX, data), 0);
    CHECK_EQ(world_write(w, world_object_in(w, there), 0, IO_SIZE_MAX, data), 0);
    WAIT_FOR(w, 5000, world_settled(w));
    request.term = leader_pg(w, here)->raft.term;
    struct sim_node *slow = sim_node_new(
        w->sim, &(struct sim_node_config){
                    .name = "slow", .host = "10.0.2.1", .arena_bytes = 768u << 20, .start = slow_start});
    sim_node_start(slow);
    for (uint32_t s = 0; s < SLOW; s++) {
        slow_selves[s] = w->self;
        slow_selves[s].client_uuid[0] = (uint8_t)(200 + s);
        struct rpc_peer_config config = {.core = &slow->core,
                                         .net = sim_net_port(w->net, slow),
                                         .address = w->osds[0].listen,
                                         .self = &slow_selves[s],
                                         .calls_max = EACH};
        IN_NODE(slow, peers[s] = rpc_peer_new(&config));
    }
    sim_run_for(w->sim, 5 * NS_PER_MS);
    sim_net_hold(w->net, w->osds[0].node->host, "10.0.2.1", 3 * NS_PER_S, true);
    memset(calls, 0, sizeof(calls));
    for (uint32_t i = 0; i < EACH; i++) {
        for (uint32_t s = 0; s < SLOW; s++) {
            uint32_t len = (uint32_t)wire_read_request_encode(rpc_body(frame), &request);
            int error;
            IN_NODE(slow, error = rpc_call_start(&calls[s][i], peers[s], NULL, METHOD_READ, rpc_body(frame),
                                                 len, NULL, 0, core_now_ns(&slow->core) + 10 * NS_PER_S));
            CHECK_EQ(error, 0);
        }
        if (i % AT_ONCE == AT_ONCE - 1)
            sim_run_for(w->sim, 2 * NS_PER_MS);
    }
    const struct arena *arena = w->osds[0].node->core.arena;
    printf("# %d KiB of %d are free\n", (int)(arena_free_bytes(arena) >> 10), (int)(arena_size(arena) >> 10));
    uint64_t away = shard->perf.turned_away, began_ns = w->sim->now_ns;
    CHECK(away > 0);
    CHECK(shard->perf.reads < SLOW * EACH / 8); /* little was read in vain */
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_EQ(world_write(w, request.object, 0, IO_SIZE_MAX, data), 0);
        CHECK_EQ(world_write(w, world_object_in(w, there), 0, IO_SIZE_MAX, data), 0);
        CHECK_EQ(world_read(w, request.object, 0, IO_BLOCKS_MAX, got), 0);
        CHECK(!memcmp(got, data, IO_SIZE_MAX));
    }
    printf("# %d ms\n", (int)((w->sim->now_ns - began_ns) / NS_PER_MS));
    CHECK(w->sim->now_ns - began_ns < NS_PER_S);
    CHECK_EQ(shard->perf.turned_away, away);
    CHECK_EQ(shard->perf.payload_drops, 0);
    /* Requests leave alone what waits there. */
    refuse_pg(w, here, true);
    for (uint32_t i = 0; i < ARRAY_LEN(writes); i++) {
        writes[i] = io_make(w, IO_WRITE, request.object, 0, IO_SIZE_MAX);
        writes[i].data = data;
        writes[i].once = true;
        io_begin(&writes[i]);
    }
    sim_run_for(w->sim, 20 * NS_PER_MS);
    uint64_t unsent_bytes = rpc_server_unsent_bytes(shard->server);
    CHECK(unsent_bytes && shard->request_bytes);
    CHECK(4 * shard->request_bytes <= arena_size(arena) / 4 * 3 - unsent_bytes);
    CHECK(shard->perf.turned_away > away);
    refuse_pg(w, here, false);
    for (uint32_t i = 0; i < ARRAY_LEN(writes); i++)
        WAIT_FOR(w, 10000, writes[i].done);
    /* They go on. */
    for (uint32_t s = 0; s < SLOW; s++)
        for (uint32_t i = 0; i < EACH; i++) {
            WAIT_FOR(w, 10000, !calls[s][i].pending);
            CHECK(calls[s][i].remote);
            whole += calls[s][i].result == 0;
            refused += calls[s][i].result == -ERR_RETRY || calls[s][i].result == -ERR_BUSY;
            IN_NODE(slow, slice_unref(&calls[s][i].reply_payload));
        }
    printf("# %u answers, %u were told to come again\n", whole, refused);
    CHECK_EQ(whole + refused, SLOW * EACH);
    CHECK_EQ(world_read(w, request.object, 0, IO_BLOCKS_MAX, got), 0);
    for (uint32_t s = 0; s < SLOW; s++)
        IN_NODE(slow, rpc_peer_free(peers[s]));
    sim_run_for(w->sim, 10 * NS_PER_MS);
    sim_node_halt(slow);
    world_free(w);
}

/* A follower that takes nothing gets little more than what was written in the tenth of a second in which that
 * was found out: what waits for it in the queue of its connection keeps memory that all need. */
static void test_hung_follower(void)
{
    enum { FOUND_MS = 150, MS = 2000 };
    struct world *w = world_new(76, 1);
    const struct perf *perf = &w->osds[0].shard->perf;
    uint64_t pg = placement_pg_id(POOL, 0), object = world_object_in(w, pg), sent = 0, writes = 0;

    CHECK_EQ(world_attach(w, 1, 1), 0);
    move_leader(w, pg, 0);
    WAIT_FOR(w, 5000, world_settled(w));
    sim_net_hold(w->net, w->osds[0].node->host, w->osds[2].node->host, 5 * NS_PER_S, true);
    uint64_t begun_ns = w->sim->now_ns;
    while (w->sim->now_ns < begun_ns + MS * NS_PER_MS) {
        if (w->sim->now_ns < begun_ns + FOUND_MS * NS_PER_MS)
            sent = perf->append_entries_sent;
        else
            writes++;
        CHECK_EQ(world_write(w, object, 0, BLOCK_SIZE, data), 0);
        sim_run_for(w->sim, 5 * NS_PER_MS);
    }
    sent = perf->append_entries_sent - sent;
    printf("# %u writes, %u entries sent\n", (uint32_t)writes, (uint32_t)sent);
    CHECK(writes > 100 && sent <= writes + 8);
    CHECK_EQ(world_leader(w, pg), 0);
    WAIT_FOR(w, 20000, world_settled(w));
    world_free(w);
}

/* Orders that come one behind the other, with a map that is large, are not each saved alone. */
static void test_many_orders(void)
{
    enum { ORDERS = 100, LEN = 1 << 20 };
    struct world *w = world_new(74, 1);
    const struct osd_shard *shard = w->osds[0].shard;
    uint64_t saved = 0, saves = 0;

    for (uint32_t i = 0; i < ORDERS; i++) {
        world_feed_large(w, 0, LEN);
        sim_run_for(w->sim, 2 * NS_PER_MS);
        saves += shard->map.saved_epoch != saved;
        saved = shard->map.saved_epoch;
    }
    printf("# %u orders, %u saves\n", ORDERS, (uint32_t)saves);
    CHECK(saves >= 2 && saves <= 5);
    WAIT_FOR(w, 100, shard->map.saved_epoch == w->epoch);
    /* A single one is, and soon one that makes the map a small one again. */
    sim_run_for(w->sim, NS_PER_S);
    world_feed_large(w, 0, 1);
    WAIT_FOR(w, 5, shard->map.saved_epoch == w->epoch);
    world_feed_large(w, 0, 2);
    WAIT_FOR(w, 5, shard->map.saved_epoch == w->epoch);
    world_free(w);
}

/* ---- space ---- */

static void set_free(struct world *w, uint32_t osd, uint64_t bytes)
{
    sim_node_enter(w->osds[osd].node);
    fake_store_set_free(osd_shard_store(w->osds[osd].shard), bytes);
    sim_node_leave(w->osds[osd].node);
}

static void test_fuller_member(void)
{
    struct world *w = world_new(32, 1);
    uint64_t pg = world_pg(w, 0);
    struct io discard = io_make(w, IO_CLEAR, 0, 0, 4 * BLOCK_SIZE);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    memset(data, 7, BLOCK_SIZE);
    CHECK_EQ(world_write(w, 0, 9 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    uint32_t full = (world_leader(w, pg) + 1) % OSDS;
    set_free(w, full, (1ull << 30) / 128 + PG_SPACE_MARGIN / 2); /* a 128th is left alone, too */
    /* The leader knows with that member's next answer. */
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), -ERR_NO_SPACE);
    CHECK_EQ(world_read(w, 0, 9, 1, got), 0);
    CHECK(got[0] == 7);
    CHECK_EQ(io_run(&discard), 0);
    CHECK_EQ(world_attach(w, 2, 2), 0);
    struct io write = io_make(w, IO_WRITE, 0, 0, BLOCK_SIZE);
    write.generation = write.incarnation = 2;
    CHECK_EQ(once(write), -ERR_NO_SPACE);
    /* Others have freed some there. Nothing else happens in this PG; yet it hears of it. */
    set_free(w, full, 1ull << 30);
    sim_run_for(w->sim, 5 * NS_PER_S);
    (void)once(write);
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK_EQ(once(write), 0);
    /* One that is not in contact has no say. */
    set_free(w, full, 0);
    CHECK_EQ(once(write), 0);
    sim_run_for(w->sim, 50 * NS_PER_MS);
    CHECK_EQ(once(write), -ERR_NO_SPACE);
    world_osd_kill(w, full, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, NS_PER_S);
    CHECK_EQ(once(write), 0);
    world_free(w);
}

/* ---- numbers from nowhere ---- */

static void test_bad_numbers(void)
{
    struct world *w = world_new(33, 1);
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__PgMember members[2] = {FB__PG_MEMBER__INIT, FB__PG_MEMBER__INIT};
    Fb__PgMember *pointers[] = {&members[0], &members[1]};
    Fb__Pg pg = FB__PG__INIT, *pgs = &pg;
    static const uint32_t replicas[][2] = {{0, 1}, {3, 3}};

    map.cluster = (ProtobufCBinaryData){16, w->osds[0].label.cluster};
    map.base_epoch = w->epoch;
    map.epoch = w->epoch + 1;
    map.pg = &pgs;
    map.n_pg = 1;
    pg.id = placement_pg_id(POOL, 5);
    pg.birth = 1;
    pg.member = pointers;
    pg.n_member = 2;
    members[1].osd = 1;
    sim_node_enter(w->osds[0].node);
    for (uint32_t i = 0; i < ARRAY_LEN(replicas); i++) {
        members[0].replica = replicas[i][0];
        members[1].replica = replicas[i][1];
        CHECK_EQ(shard_feed_map(w->osds[0].shard, &map), -ERR_PROTOCOL);
    }
    sim_node_leave(w->osds[0].node);
    sim_run_for(w->sim, 100 * NS_PER_MS);
    CHECK(!pg_find(w->osds[0].shard, pg.id));
    /* A record at the end of the numbers could not be removed any more. */
    CHECK_EQ(world_attach(w, UINT64_MAX, 1), -ERR_INVALID);
    CHECK_EQ(world_attach(w, 1, UINT64_MAX), -ERR_INVALID);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    world_free(w);
}

/* A message counts if the replica that it names is on the shard that sent it, and for the one that is here.
 */
static void test_addressed(void)
{
    struct world *w = world_new(34, 1);
    struct pg *pg = pg_find(w->osds[0].shard, world_pg(w, 0));
    const struct pg_member *others[2];

    for (uint32_t i = 0, n = 0; i < pg->member_count && n < 2; i++)
        if (pg->members[i].peer)
            others[n++] = &pg->members[i];
    uint32_t from = others[0]->replica, to = pg->replica;
    sim_node_enter(w->osds[0].node);
    CHECK(pg_addressed(others[0]->peer, pg->id, from, to) == pg);
    CHECK(!pg_addressed(others[1]->peer, pg->id, from, to));
    CHECK(!pg_addressed(others[0]->peer, pg->id, from, to + 100));
    CHECK(!pg_addressed(others[0]->peer, pg->id, from, others[1]->replica));
    CHECK(!pg_addressed(others[0]->peer, pg->id, to, to));
    CHECK(!pg_addressed(others[0]->peer, pg->id, 0, to));
    CHECK(!pg_addressed(others[0]->peer, pg->id + 1, from, to));
    sim_node_leave(w->osds[0].node);
    world_free(w);
}

/* A member refuses thousands of groups of its leader's, as one does whose replicas are lost: that is contact
 * for the one group that it does have. */
static void test_many_refused(void)
{
    struct world *w = world_new(7, 1);
    uint64_t pg = world_pg(w, 0);
    uint32_t leader = world_leader(w, pg);

    CHECK_EQ(world_attach(w, 1, 1), 0);
    world_osd_kill(w, (leader + 2) % OSDS, SIM_CRASH_POWER);
    sim_run_for(w->sim, NS_PER_S);
    struct peer *peer = shard_peer_find(w->osds[leader].shard, (leader + 1) % OSDS, 0);
    uint64_t term = pg_find(w->osds[leader].shard, pg)->raft.term;
    sim_node_enter(w->osds[leader].node);
    for (uint64_t i = 0; i < 3000; i++) {
        struct wire_heartbeat_group group = {.pg = 1000 + i, .term = 1, .from = 1, .to = 2};
        CHECK_EQ(heartbeat_out_set(&peer->out, &group), 0);
    }
    sim_node_leave(w->osds[leader].node);
    for (uint32_t i = 0; i < 20; i++) {
        CHECK_EQ(world_write(w, 0, 0, BLOCK_SIZE, data), 0);
        sim_run_for(w->sim, 100 * NS_PER_MS);
    }
    CHECK_EQ(peer->out.acked_version, peer->out.version);
    CHECK_EQ(pg_find(w->osds[leader].shard, pg)->raft.term, term);
    world_free(w);
}

/* More clients than there are sessions for do not keep other shards out. */
static void test_many_clients(void)
{
    enum { CLIENTS = SHARD_SESSIONS_MAX + 50 };
    static struct rpc_identity selfs[CLIENTS];
    static struct rpc_peer *peers[CLIENTS];
    struct world *w = world_new(78, 4);
    uint32_t open = 0;

    sim_node_enter(w->client);
    for (uint32_t n = 0; n < CLIENTS; n++) {
        selfs[n] = w->self;
        memcpy(selfs[n].client_uuid, (uint8_t[16]){9, (uint8_t)n, (uint8_t)(n >> 8)}, 16);
        struct rpc_peer_config config = {
            .core = &w->client->core,
            .net = sim_net_port(w->net, w->client),
            .address = w->osds[0].listen,
            .self = &selfs[n],
            .calls_max = 1,
        };
        peers[n] = rpc_peer_new(&config);
    }
    sim_node_leave(w->client);
    sim_run_for(w->sim, 2 * NS_PER_S);
    for (uint32_t n = 0; n < CLIENTS; n++)
        open += rpc_peer_is_open(peers[n]);
    CHECK_EQ(open, SHARD_CLIENTS_MAX - 1); /* and the world's own */
    world_osd_kill(w, 1, SIM_CRASH_PROCESS);
    sim_run_for(w->sim, NS_PER_S);
    world_osd_start(w, 1);
    WAIT_FOR(w, 5000, w->osds[1].shard && world_settled(w));
    const struct peer *peer = shard_peer_get(w->osds[0].shard, 1, 0);
    CHECK(peer && peer->session);
    sim_node_enter(w->client);
    for (uint32_t n = 0; n < CLIENTS; n++)
        rpc_peer_free(peers[n]);
    sim_node_leave(w->client);
    world_free(w);
}

int main(void)
{
    TEST(test_leader_replaced);
    TEST(test_suspended_leader);
    TEST(test_stuck_pgs);
    TEST(test_stuck_behind_an_attach);
    TEST(test_reads_leave_memory);
    TEST(test_slow_readers);
    TEST(test_hung_follower);
    TEST(test_many_orders);
    TEST(test_fuller_member);
    TEST(test_bad_numbers);
    TEST(test_addressed);
    TEST(test_many_refused);
    TEST(test_many_clients);
    fake_store_forget_all();
    return tap_done();
}
