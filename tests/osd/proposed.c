/* SPDX-License-Identifier: Apache-2.0
 *
 * A leader whom no follower hears: what stands in its log is not committed, and may never be. It counts
 * against what comes behind it, and for nobody; and when others have led it counts no more.
 */
#include <string.h>

#include "tests/osd/world.h"

static uint8_t data[IO_SIZE_MAX], got[BLOCK_SIZE];

/* The leader of the one PG, alone. */
struct alone {
    struct world *w;
    uint64_t pg, term;
    uint32_t osd;
};

static struct alone alone_new(uint64_t seed)
{
    struct alone a = {.w = world_new(seed, 1)};
    struct osd_pg_view view;

    CHECK_EQ(world_attach(a.w, 1, 1), 0);
    memset(data, 1, sizeof(data));
    CHECK_EQ(world_write(a.w, 0, 0, BLOCK_SIZE, data), 0);
    WAIT_FOR(a.w, 5000, world_settled(a.w));
    a.pg = world_pg(a.w, 0);
    a.osd = world_leader(a.w, a.pg);
    CHECK(osd_pg_view(a.w->osds[a.osd].shard, a.pg, &view));
    a.term = view.term;
    for (uint32_t i = 0; i < OSDS; i++)
        if (i != a.osd) {
            const char *from = a.w->osds[a.osd].node->config.host, *to = a.w->osds[i].node->config.host;
            sim_net_set_path(a.w->net, from, to, SIM_PATH_BLOCK);
            sim_net_set_path(a.w->net, to, from, SIM_PATH_BLOCK);
        }
    return a;
}

/* For the leader that is alone; its first answer counts. */
static struct io ask(const struct alone *a, enum io_type type, uint64_t incarnation, uint32_t block)
{
    struct io io = io_make(a->w, type, 0, block * BLOCK_SIZE, BLOCK_SIZE);

    io.incarnation = incarnation;
    io.force_osd = a->osd + 1;
    io.force_term = a->term;
    io.once = true;
    io.data = data;
    return io;
}

static uint64_t entries(const struct alone *a, uint32_t osd)
{
    return store_pg_find(osd_shard_store(a->w->osds[osd].shard), a->pg)->last_index;
}

/* Somebody else leads and serves, without having heard of what the former leader has. */
static uint32_t replaced(struct alone *a)
{
    const struct pg *pg = NULL;
    uint32_t next = UINT32_MAX;

    for (uint32_t ms = 0; ms < 5000 && !(pg && pg_serves(pg)); ms++) {
        sim_run_for(a->w->sim, NS_PER_MS);
        for (uint32_t i = 0; i < OSDS; i++) {
            const struct pg *other = pg_find(a->w->osds[i].shard, a->pg);
            if (i != a->osd && other->raft.role == RAFT_LEADER)
                pg = other, next = i;
        }
    }
    CHECK(next != UINT32_MAX && pg_serves(pg));
    return next;
}

/* From the moment that a writer stands in the log, nothing of an older one comes behind it. */
static void test_fenced_by_what_is_proposed(void)
{
    static struct io attach, old;
    struct alone a = alone_new(21);

    attach = ask(&a, IO_ATTACH, 2, 0);
    io_begin(&attach);
    sim_run_for(a.w->sim, 5 * NS_PER_MS);
    CHECK(!attach.done);
    uint64_t before = entries(&a, a.osd);
    old = ask(&a, IO_WRITE, 1, 1);
    io_begin(&old);
    sim_run_for(a.w->sim, 20 * NS_PER_MS);
    CHECK(old.done && old.result == -ERR_FENCED);
    CHECK_EQ(entries(&a, a.osd), before);
    sim_net_heal(a.w->net);
    WAIT_FOR(a.w, 30000, attach.done);
    world_free(a.w);
}

/* Who asks a second time, because no answer came, must not be told what is not so yet. */
static void test_attached_when_committed(void)
{
    static struct io first, second;
    struct alone a = alone_new(22);

    first = ask(&a, IO_ATTACH, 2, 0);
    io_begin(&first);
    sim_run_for(a.w->sim, 5 * NS_PER_MS);
    second = ask(&a, IO_ATTACH, 2, 0);
    io_begin(&second);
    sim_run_for(a.w->sim, 50 * NS_PER_MS);
    CHECK(!first.done && !second.done);
    (void)replaced(&a);
    sim_net_heal(a.w->net);
    WAIT_FOR(a.w, 30000, first.done && second.done);
    CHECK(first.result && second.result);
    world_free(a.w);
}

/* Another leader's entry has the index of the write: that is no answer to it. */
static void test_index_of_another_term(void)
{
    static struct io write;
    struct alone a = alone_new(23);

    memset(data, 2, sizeof(data));
    write = ask(&a, IO_WRITE, 1, 0);
    io_begin(&write);
    sim_run_for(a.w->sim, 5 * NS_PER_MS);
    uint64_t index = entries(&a, a.osd);
    uint32_t next = replaced(&a);
    CHECK(entries(&a, next) >= index);
    sim_net_heal(a.w->net);
    WAIT_FOR(a.w, 30000, write.done);
    CHECK(write.result != 0);
    CHECK_EQ(world_read(a.w, 0, 0, 1, got), 0);
    CHECK_EQ(got[0], 1);
    world_free(a.w);
}

/* A writer that was to be is none when the log has gone on without it, also for the leader that had proposed
 * it and leads again before its log is as long as it was. */
static void test_proposals_end_with_the_term(void)
{
    static struct io writes[8], attach;
    struct alone a = alone_new(24);

    for (uint32_t i = 0; i < ARRAY_LEN(writes); i++) {
        writes[i] = ask(&a, IO_WRITE, 1, 1 + i);
        io_begin(&writes[i]);
    }
    sim_run_for(a.w->sim, 5 * NS_PER_MS);
    attach = ask(&a, IO_ATTACH, 2, 0);
    io_begin(&attach);
    sim_run_for(a.w->sim, 5 * NS_PER_MS);
    (void)replaced(&a);
    /* Whoever waits for it is told so, and does not wait for what will never come. */
    WAIT_FOR(a.w, 1000, attach.done);
    CHECK(attach.result != 0);
    for (uint32_t i = 0; i < ARRAY_LEN(writes); i++)
        WAIT_FOR(a.w, 100, writes[i].done);
    sim_net_heal(a.w->net);
    world_lead(a.w, a.pg, a.osd);
    CHECK_EQ(world_write(a.w, 0, 0, BLOCK_SIZE, data), 0);
    world_free(a.w);
}

/* What the monitor has ordered is done when it is committed, and not before: it drops an order that is done,
 * and nobody would give it again. */
static void test_ordered_when_committed(void)
{
    struct alone a = alone_new(25);
    const struct pg *pg = pg_find(a.w->osds[a.osd].shard, a.pg);
    uint64_t before = entries(&a, a.osd);

    world_order(a.w, IMAGE, OBJECT_SIZE, false);
    sim_run_for(a.w->sim, 20 * NS_PER_MS);
    CHECK_EQ(entries(&a, a.osd), before + 1);
    CHECK(!pg_order_done(pg, &a.w->order));
    (void)replaced(&a);
    CHECK(!pg_order_done(pg, &a.w->order));
    sim_net_heal(a.w->net);
    WAIT_FOR(a.w, 30000, pg_order_done(pg, &a.w->order));
    world_free(a.w);
}

int main(void)
{
    TEST(test_fenced_by_what_is_proposed);
    TEST(test_attached_when_committed);
    TEST(test_index_of_another_term);
    TEST(test_proposals_end_with_the_term);
    TEST(test_ordered_when_committed);
    return tap_done();
}
