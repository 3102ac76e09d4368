/* SPDX-License-Identifier: Apache-2.0
 *
 * A member that lies: whatever a peer sends that decodes, in form near to what it should be and wrong in
 * content, no shard asserts, and what must hold for one replica (raft_check) does. What it makes of the data
 * is not looked at: a member that lies about its disk can do worse.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "sim/rng.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

#ifdef REAL_STORE
#include "tests/osd/real_store.h"

void fake_store_forget_all(void)
{
}

void fake_store_fail(struct store *store)
{
    real_store_fail(store);
}
#endif

#define RUNS     40
#define MESSAGES 400
#define LAST     50 /* in the turn in which the device fails */

static uint8_t frame[FRAME_HEADER_SIZE + SHARD_BODY_MAX];

struct liar {
    struct world *w;
    struct sim_rng rng;
    struct peer *peer; /* whom the victim takes it for */
    struct pg *pg;     /* the victim's */
    uint32_t from, to; /* replicas */
    uint64_t seq, version;
};

static uint64_t below(struct liar *l, uint64_t n)
{
    return sim_rng_below(&l->rng, n);
}

/* Near to something that matters, mostly. */
static uint64_t number(struct liar *l, uint64_t near)
{
    switch (below(l, 12)) {
    case 0:
        return below(l, 4);
    case 1:
        return sim_rng_u64(&l->rng) >> below(l, 64);
    case 2:
        return UINT64_MAX - below(l, 3);
    case 3:
    case 4:
        return near + below(l, 4) - MIN(near, 2u);
    default:
        return near;
    }
}

static uint64_t term(struct liar *l)
{
    return below(l, 100) == 0 ? number(l, l->pg->raft.term) : l->pg->raft.term + (below(l, 8) == 0);
}

static uint64_t time_ns(struct liar *l)
{
    return below(l, 8) ? l->w->sim->now_ns - below(l, NS_PER_MS) : number(l, l->w->sim->now_ns);
}

static void receive(struct liar *l, enum method method, uint32_t body_len, struct slice payload, bool dropped)
{
    struct rpc_message message = {
        .method = method,
        .flags = FRAME_ONEWAY,
        .body = rpc_body(frame),
        .body_len = body_len,
        .payload = payload,
        .payload_dropped = dropped,
    };

    shard_oneway(l->peer, &message);
    slice_unref(&payload);
}

static void lie_append(struct liar *l)
{
    static struct entry entries[8];
    static uint32_t crcs[8][4];
    const struct raft *r = &l->pg->raft;
    uint32_t blocks = 0;
    struct wire_append_request m = {
        .pg = l->pg->id,
        .from = l->from,
        .to = l->to,
        .term = term(l),
        .prev_index = number(l, below(l, 2) ? r->last_index : r->commit_index),
        .commit = number(l, r->last_index),
        .sent_ns = time_ns(l),
        .entry_count = (uint32_t)below(l, ARRAY_LEN(entries)),
        .entries = entries,
    };
    struct slice payload = {0};

    m.prev_term = below(l, 4) ? raft_term_at(r, m.prev_index) : number(l, r->term);
    for (uint32_t i = 0; i < m.entry_count; i++) {
        static const uint32_t types[] = {ENTRY_NOOP, ENTRY_WRITE, ENTRY_CLEAR, ENTRY_IMAGE};
        struct entry *e = &entries[i];
        *e = (struct entry){
            .type = types[below(l, 4)],
            .term = below(l, 8) ? m.term : number(l, m.term),
            .image = below(l, 4) ? IMAGE : number(l, IMAGE),
            .object = below(l, 4) ? below(l, 4) : number(l, 3),
            .crc = crcs[i],
        };
        if (e->type == ENTRY_WRITE || e->type == ENTRY_CLEAR) {
            e->block_count = 1 + (uint32_t)below(l, 4);
            e->first_block =
                (uint32_t)below(l, 8) ? (uint32_t)below(l, 500) : BLOCKS_PER_OBJECT - (uint32_t)below(l, 5);
        } else if (e->type == ENTRY_IMAGE) {
            e->flags = below(l, 4) == 0;
            e->generation = number(l, 2);
            e->incarnation = number(l, 2);
            e->size_bytes = number(l, OBJECT_SIZE);
        }
        blocks += e->type == ENTRY_WRITE ? e->block_count : 0;
    }
    if (blocks) {
        payload =
            (struct slice){buf_new(l->peer->shard->core->arena, blocks * BLOCK_SIZE), 0, blocks * BLOCK_SIZE};
        memset(slice_data(&payload), (int)below(l, 256), payload.len);
        uint32_t crc = crc32c(0, slice_data(&payload), BLOCK_SIZE);
        for (uint32_t i = 0; i < m.entry_count; i++)
            for (uint32_t b = 0; b < 4; b++)
                crcs[i][b] = crc;
    }
    wire_append_request_encode(rpc_body(frame), &m);
    bool dropped = payload.buf && below(l, 20) == 0;
    if (dropped)
        slice_unref(&payload);
    receive(l, METHOD_APPEND, (uint32_t)wire_append_request_size(&m), payload, dropped);
}

static void lie_append_reply(struct liar *l)
{
    const struct raft *r = &l->pg->raft;
    struct wire_append_reply m = {
        .pg = l->pg->id,
        .from = l->from,
        .to = l->to,
        .term = term(l),
        .match = number(l, r->last_index),
        .hint_term = number(l, r->term),
        .sent_ns = time_ns(l),
        .free_bytes = number(l, 1ull << 30),
        .flags = (uint32_t)below(l, 8),
    };

    receive(l, METHOD_APPEND_REPLY, (uint32_t)wire_append_reply_encode(rpc_body(frame), &m),
            (struct slice){0}, false);
}

static void lie_raft(struct liar *l)
{
    const struct raft *r = &l->pg->raft;
    Fb__RaftMessage m = FB__RAFT_MESSAGE__INIT;
    uint32_t len;

    m.pg = l->pg->id;
    m.from = l->from;
    m.to = l->to;
    m.type = (uint32_t)below(l, 10);
    m.term = term(l);
    m.index = number(l, r->last_index);
    m.log_term = number(l, r->term);
    m.commit = number(l, r->commit_index);
    m.reject = below(l, 2);
    m.sent_ns = time_ns(l);
    m.incarnation = number(l, l->peer->incarnation);
    m.flags = (uint32_t)below(l, 4);
    CHECK_EQ(wire_cold_encode(&m.base, rpc_body(frame), SHARD_BODY_MAX, &len), 0);
    receive(l, METHOD_RAFT, len, (struct slice){0}, false);
}

static void lie_heartbeat(struct liar *l)
{
    static struct wire_heartbeat_group groups[4];
    static uint64_t refused[4];

    if (below(l, 2)) {
        struct wire_heartbeat m = {
            .incarnation = number(l, l->peer->incarnation),
            .seq = number(l, ++l->seq),
            .sent_ns = time_ns(l),
            .base_version = number(l, l->version),
            .set_version = number(l, l->version + 1),
            .group_count = (uint32_t)below(l, ARRAY_LEN(groups)),
            .groups = groups,
        };
        for (uint32_t i = 0; i < m.group_count; i++)
            groups[i] = (struct wire_heartbeat_group){number(l, l->pg->id), term(l),
                                                      number(l, l->pg->raft.commit_index), l->from, l->to};
        l->version++;
        wire_heartbeat_encode(rpc_body(frame), &m);
        receive(l, METHOD_HEARTBEAT, (uint32_t)wire_heartbeat_size(&m), (struct slice){0}, false);
    } else {
        struct wire_heartbeat_reply m = {
            .incarnation = number(l, l->peer->shard->self.incarnation),
            .seq = number(l, l->peer->out.seq),
            .sent_ns = time_ns(l),
            .set_version = number(l, l->peer->out.version),
            .refused_count = (uint32_t)below(l, ARRAY_LEN(refused)),
            .refused = refused,
        };
        for (uint32_t i = 0; i < m.refused_count; i++)
            refused[i] = number(l, l->pg->id);
        wire_heartbeat_reply_encode(rpc_body(frame), &m);
        receive(l, METHOD_HEARTBEAT_REPLY, (uint32_t)wire_heartbeat_reply_size(&m), (struct slice){0}, false);
    }
}

static void lie(struct liar *l)
{
    switch (below(l, 6)) {
    case 0:
    case 1:
    case 2:
        lie_append(l);
        break;
    case 3:
        lie_append_reply(l);
        break;
    case 4:
        lie_raft(l);
        break;
    default:
        lie_heartbeat(l);
        break;
    }
}

/* One run: a member has died, and another one talks in its name to one of the two that are left. */
static void run(uint64_t seed, uint64_t *appended)
{
    struct world *w = world_new(seed, 1);
    static uint8_t data[BLOCK_SIZE];
    uint32_t dead = (uint32_t)(seed % OSDS), victim = (dead + 1 + (uint32_t)(seed / OSDS % 2)) % OSDS;
    struct liar l = {.w = w, .rng = sim_rng_make(seed, "liar", 0), .from = dead + 1, .to = victim + 1};

    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(world_write(w, i % 2, i * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    world_osd_kill(w, dead, SIM_CRASH_PROCESS);
    for (uint32_t i = 0; i < MESSAGES && !w->sim->failed; i++) {
        sim_node_enter(w->osds[victim].node);
        l.pg = pg_find(w->osds[victim].shard, world_pg(w, 0));
        l.peer = shard_peer_find(w->osds[victim].shard, dead, 0);
        lie(&l);
        raft_check(&l.pg->raft);
        sim_node_leave(w->osds[victim].node);
        sim_run_for(w->sim, below(&l, 4) ? below(&l, 200 * NS_PER_US) : below(&l, 50 * NS_PER_MS));
    }
    sim_node_enter(w->osds[victim].node);
    fake_store_fail(osd_shard_store(w->osds[victim].shard));
    for (uint32_t i = 0; i < LAST && !w->sim->failed; i++) {
        lie(&l);
        raft_check(&l.pg->raft);
    }
    sim_node_leave(w->osds[victim].node);
    *appended += w->osds[victim].shard->perf.append_entries_received;
    CHECK(!w->sim->failed);
    if (w->sim->failed)
        printf("# seed %d: %s\n", (int)seed, w->sim->failure);
    world_free(w);
}

static void test_lying_member(void)
{
    const char *more = getenv("OSD_TEST_SEEDS");
    uint64_t runs = more ? strtoull(more, NULL, 10) : RUNS, appended = 0;

    for (uint64_t seed = 1; seed <= runs && tap_ok; seed++)
        run(seed, &appended);
    CHECK(appended > runs * MESSAGES / 4); /* it was not all refused */
}

int main(void)
{
    TEST(test_lying_member);
    fake_store_forget_all();
    return tap_done();
}
