/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes from outside: malformed and unknown calls, subscribers, foreign clusters. And the store: when
 * any transaction fails, conflicts, or the monitor dies before or after it, the state stays whole and the
 * work can go on.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/mon/world.h"

#define CALL_FIELDS 80   /* more than MonRequest has */
#define CLIENTS     3008 /* that a monitor of few OSDs takes */
#define CROWD       4000

/* A field of bytes, with `len` of them to follow. Returns the bytes that this takes: 2 or 3. */
static size_t field_put(uint8_t *to, uint32_t field, uint8_t len)
{
    uint32_t tag = field << 3 | 2;
    size_t n = 0;

    if (tag >= 0x80) {
        to[n++] = (uint8_t)(tag | 0x80);
        tag >>= 7;
    }
    to[n++] = (uint8_t)tag;
    to[n++] = len;
    return n;
}

static void refuses_garbage(void)
{
    struct world *w = world_new();
    struct caller c;
    uint8_t bytes[64];

    client_start(&c, w, 1);
    memset(bytes, 0xff, sizeof(bytes));
    CHECK_EQ(call_bytes(&c, METHOD_MON, bytes, sizeof(bytes)), -ERR_PROTOCOL);
    CHECK(strstr(said(&c), "cannot read this call"));
    CHECK_EQ(call_bytes(&c, METHOD_MON, bytes, 0), -ERR_UNSUPPORTED); /* no call in it */
    static const uint8_t future[] = {0xfa, 0x3e, 0x00}; /* field 1007: a call of a later version */
    CHECK_EQ(call_bytes(&c, METHOD_MON, future, sizeof(future)), -ERR_UNSUPPORTED);
    CHECK(strstr(said(&c), "does not know this call"));
    CHECK_EQ(call_bytes(&c, METHOD_WRITE, bytes, sizeof(bytes)), -ERR_UNSUPPORTED);
    /* Every call with an empty body, and with one cut short at every place. */
    for (uint32_t field = 1; field <= CALL_FIELDS; field++) {
        uint8_t call_field[3];
        size_t len = field_put(call_field, field, 0);
        CHECK(call_bytes(&c, METHOD_MON, call_field, (uint32_t)len) != -ERR_TIMEOUT);
    }
    uint8_t random[200];
    uint64_t seed = 1;
    for (int i = 0; i < 4000; i++) {
        uint32_t len = (uint32_t)(hash_u64(seed++) % sizeof(random));
        for (uint32_t k = 0; k < len; k++)
            random[k] = (uint8_t)hash_u64(seed++);
        if (len > 3) /* a known call with random arguments */
            field_put(random, 1 + (uint32_t)(hash_u64(seed++) % CALL_FIELDS), (uint8_t)MIN(len - 3, 127u));
        CHECK(call_bytes(&c, METHOD_MON, random, len) != -ERR_TIMEOUT);
    }
    CHECK_EQ(status(&c), 0);
    caller_stop(&c);
    world_free(w);
}

/* However many clients come, an OSD gets in, and a command; and those OSDs that are in take no client's
 * place. Clients come again when others have gone. For each shard there is a place. */
static void a_crowd_keeps_nobody_out(uint32_t osds, uint32_t clients)
{
    struct world *w = world_new();
    struct caller *crowd = calloc(CROWD, sizeof(*crowd)), early, osd, late;

    client_start(&late, w, 2);
    for (uint32_t i = 0; i < osds; i++)
        CHECK_EQ(osd_new(&late, (uint8_t)(i + 1), "h", "", 64), 0);
    caller_stop(&late);
    osd_start(&early, w, 1, 1);
    WAIT_FOR(w, 2000, early.opened);
    for (uint32_t i = 0; i < CROWD; i++) {
        client_start(&crowd[i], w, 1);
        memcpy(crowd[i].self.client_uuid + 8, &i, sizeof(i));
        if (i % 64 == 63)
            world_run_ms(w, 20);
    }
    world_run_ms(w, 1000);
    uint32_t in = 0;
    for (uint32_t i = 0; i < CROWD; i++)
        in += rpc_peer_is_open(crowd[i].peer);
    CHECK_EQ(in, clients);
    client_start(&late, w, 2);
    late.self.command = true;
    CHECK_EQ(status(&late), 0);
    caller_stop(&late);
    osd_start(&osd, w, 0, 1);
    WAIT_FOR(w, 2000, osd.opened);
    callers_stop(crowd, CROWD);
    client_start(&late, w, 2);
    CHECK_EQ(status(&late), 0);
    caller_stop(&late);
    caller_stop(&osd);
    caller_stop(&early);
    free(crowd);
    world_free(w);
}

static void a_crowd_keeps_no_osd_out(void)
{
    a_crowd_keeps_nobody_out(0, CLIENTS);
    a_crowd_keeps_nobody_out(20, CLIENTS - (20 * 64 - 1024));
    a_crowd_keeps_nobody_out(65, 64); /* more shards than sessions */
}

static void other_clusters_are_refused(void)
{
    struct world *w = world_new();
    struct caller c;

    client_start(&c, w, 1);
    c.self.cluster[3] = 9;
    WAIT_FOR(w, 1000, c.closed_error);
    CHECK_EQ(c.closed_error, -ERR_CLUSTER);
    CHECK(!c.opened);
    caller_stop(&c);
    world_free(w);
}

/* A pool of more PGs failed before; then it was made with fewer, and the store had carried out the first
 * transaction of the former attempt meanwhile. */
static void a_pool_has_no_more_pgs_than_it_has(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];
    struct meta *store;
    Fb__PgMember row = FB__PG_MEMBER__INIT, *member = &row;
    Fb__Pg pg = FB__PG__INIT;
    uint8_t value[64];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    pg.id = 1ull << 32 | 8;
    pg.epoch = 2;
    pg.n_member = 1;
    pg.member = &member;
    struct meta_change change = {
        .key = "pg/00000001/00000008", .value = value, .value_len = (uint32_t)fb__pg__pack(&pg, value)};
    struct meta_txn txn = {.changes = &change, .change_count = 1, .pending = true};
    IN_CLIENT(w, store = sim_meta_open(w->store, w->client_node));
    IN_CLIENT(w, store->ops->txn(store, &txn));
    WAIT_FOR(w, 1000, !txn.pending);
    CHECK_EQ(pool_create(&c, "rbd", 3, 8, "osd"), 0);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK_EQ(c.answer->map->n_pg, 8);
    callers_stop(osds, 3);
    caller_stop(&c);
    world_crash_mon(w);
    client_start(&c, w, 1);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK_EQ(c.answer->map->n_pg, 8);
    /* Nor when it goes: nobody who knows of that PG could say that it is gone. */
    CHECK_EQ(pool_remove(&c, "rbd"), 0);
    world_crash_mon(w);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK_EQ(c.answer->map->n_pg, 8);
    IN_CLIENT(w, store->ops->close(store));
    caller_stop(&c);
    world_free(w);
}

/* There is something to write, and no space for it: that is tried all the time, if not ten times a second,
 * and said once. */
static void a_full_disk_fills_no_log(void)
{
    struct world *w = world_new();
    struct caller c, osds[3];

    client_start(&c, w, 1);
    osds_up(w, osds, 3);
    w->trouble = FULL;
    w->trouble_at = w->txns + 1;
    callers_stop(osds, 3);
    world_run_ms(w, 20000);
    CHECK(w->txns > w->trouble_at + 5);
    CHECK(w->txns < w->trouble_at + 25);
    CHECK(has_problem(&c, "metadata"));
    w->sim->log_lines = 0;
    world_run_ms(w, 20000);
    CHECK(w->sim->log_lines < 10);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK(c.answer->map->osd[0]->up);
    w->trouble_at = 0;
    world_run_ms(w, 1200);
    CHECK_EQ(get_map(&c, 0), 0);
    CHECK(!c.answer->map->osd[0]->up);
    CHECK(!has_problem(&c, "metadata"));
    caller_stop(&c);
    world_free(w);
}

static void subscribers_follow(void)
{
    struct world *w = world_new();
    struct caller c, first, second, osds[3];

    client_start(&c, w, 1);
    client_start(&first, w, 2);
    client_start(&second, w, 3);
    CHECK_EQ(subscribe(&first, 0), 0);
    osds_up(w, osds, 3);
    CHECK_EQ(subscribe(&second, 0), 0);
    CHECK_EQ(pool_create(&c, "rbd", 3, 8, "osd"), 0);
    CHECK_EQ(image_create(&c, "rbd", "x", 1 << 20), 0);
    CHECK_EQ(image_open(&c, "rbd", "x", "w", false, false), 0);
    CHECK_EQ(get_map(&c, 0), 0);
    uint64_t epoch = c.answer->map->epoch;
    WAIT_FOR(w, 1000, first.epoch == epoch && second.epoch == epoch);
    CHECK(!first.gap && !second.gap);

    /* One that is gone is forgotten; back again it asks from where it was. */
    int events = first.map_events;
    uint64_t at = first.epoch;
    caller_stop(&first);
    CHECK_EQ(image_create(&c, "rbd", "y", 1 << 20), 0);
    client_start(&first, w, 4);
    CHECK_EQ(subscribe(&first, at), 0);
    CHECK_EQ(first.answer->map->base_epoch, at);
    CHECK(first.answer->map->epoch > at);
    CHECK_EQ(first.map_events, 0);
    CHECK(events > 0);
    callers_stop(osds, 3);
    caller_stop(&c);
    caller_stop(&first);
    caller_stop(&second);
    world_free(w);
}

/* A monitor does not queue for who takes nothing. */
static void slow_subscribers_are_dropped(void)
{
    struct world *w = world_new();
    struct caller c, slow, osds[3];

    client_start(&c, w, 1);
    client_start(&slow, w, 2);
    osds_up(w, osds, 3);
    CHECK_EQ(subscribe(&slow, 0), 0);
    world_run_ms(w, 500);
    /* No link takes anything any more, and the OSDs, silent, go down: the event cannot be sent, so the
     * subscriber's session is closed. */
    sim_net_set_faults(w->net, &(struct sim_net_faults){.busy_ppm = 1000000});
    world_run_ms(w, 3200);
    CHECK(slow.closed_error);
    CHECK_EQ(c.closed_error, 0);
    sim_net_set_faults(w->net, &(struct sim_net_faults){0});
    WAIT_FOR(w, 5000, slow.opened == 2);
    CHECK_EQ(subscribe(&slow, slow.epoch), 0);
    CHECK(slow.answer->map->n_osd > 0); /* what it missed */
    callers_stop(osds, 3);
    caller_stop(&c);
    caller_stop(&slow);
    world_free(w);
}

/* A change that waits when its caller goes is not made. */
static void the_dead_change_nothing(void)
{
    struct world *w = world_new();
    struct caller c, gone, osd;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__ImageCreate create = FB__IMAGE_CREATE__INIT;

    client_start(&c, w, 1);
    osds_up(w, &osd, 1);
    CHECK_EQ(pool_create(&c, "p", 1, 1, "osd"), 0);
    CHECK_EQ(get_map(&c, 0), 0);
    struct rpc_identity self = osd.self;
    caller_stop(&osd);
    world_crash_mon(w);
    client_start(&gone, w, 2);
    create.pool = (char *)"p";
    create.name = (char *)"ghost";
    create.size_bytes = 4096;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_CREATE;
    request.image_create = &create;
    call_and_leave(&gone, &request, 1000); /* it waits for an OSD that knows how new the data is */
    osd_start(&osd, w, 0, 1);
    memcpy(osd.self.cluster, self.cluster, 16);
    CHECK_EQ(image_create(&c, "p", "x", 4096), 0);
    CHECK_EQ(image_get(&c, "p", "ghost"), -ERR_NOT_FOUND);
    CHECK_EQ(image_get(&c, "p", "x"), 0);
    CHECK_EQ(c.answer->image->id, 1);
    caller_stop(&osd);
    caller_stop(&c);
    world_free(w);
}

/* ---- trouble at any transaction ---- */

static void check_map(struct caller *c)
{
    size_t pools = 0, pgs = 0, wanted = 0, gone = 0;
    uint64_t since = 0;

    for (;;) {
        CHECK_EQ(get_map(c, since), 0);
        const Fb__ClusterMap *map = c->answer ? c->answer->map : NULL;
        if (!map || map->epoch == since)
            break;
        since = map->epoch;
        for (size_t i = 0; i < map->n_pool; i++) {
            pools++;
            wanted += map->pool[i]->removed ? 0 : map->pool[i]->pg_count;
            gone |= (map->pool[i]->removed ? 1ull : 0) << map->pool[i]->id;
        }
        for (size_t i = 0; i < map->n_pg; i++)
            pgs += !(gone >> (map->pg[i]->id >> 32) & 1);
    }
    CHECK_EQ(pgs, wanted); /* a pool has all of its PGs or is not there */
    CHECK(pools <= 2);
}

/* Does it until it is done; what was done by an attempt whose answer was lost shows as `already`. */
#define INSIST(w, already, step)                                                                             \
    do {                                                                                                     \
        int result_ = -1;                                                                                    \
        for (int try_ = 0; try_ < 5 && result_ && result_ != (already); try_++) {                            \
            world_want_mon(w);                                                                               \
            result_ = (step);                                                                                \
            world_want_mon(w);                                                                               \
            if (result_ && result_ != (already))                                                             \
                check_map(c);                                                                                \
        }                                                                                                    \
        CHECK(result_ == 0 || result_ == (already));                                                         \
    } while (0)

static void boot_all(struct world *w, struct caller *c, struct caller *osds)
{
    for (uint8_t i = 0; i < 3; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.1.%u:7000", i);
        INSIST(w, 0, osd_boot(&osds[i], i + 1, 0, 1, address));
    }
}

/* All kinds of changes. Returns how many transactions it took. */
static uint32_t work(enum trouble trouble, uint32_t at)
{
    struct world *w = world_new();
    struct caller caller, osds[3], *c = &caller;

    w->txns = 0;
    w->trouble = trouble;
    w->trouble_at = at;
    client_start(c, w, 1);
    for (uint8_t i = 0; i < 3; i++) {
        osd_start(&osds[i], w, i, 1);
        INSIST(w, 0, osd_new(&osds[i], i + 1, "h", "r", 1));
        CHECK_EQ(osds[i].answer->osd, i);
    }
    boot_all(w, c, osds);
    INSIST(w, -ERR_EXISTS, pool_create(c, "p", 3, 300, "osd"));
    boot_all(w, c, osds);
    INSIST(w, -ERR_EXISTS, image_create(c, "p", "x", 1 << 20));
    INSIST(w, 0, image_open(c, "p", "x", "w", false, false));
    uint64_t incarnation = c->answer->image ? c->answer->image->incarnation : 0;
    CHECK(incarnation >= 1);
    INSIST(w, 0, image_close(c, 1, "w", incarnation));
    INSIST(w, 0, image_resize(c, "p", "x", 2 << 20));
    CHECK_EQ(c->answer->image->generation, 2);
    INSIST(w, -ERR_NOT_FOUND, image_remove(c, "p", "x"));
    INSIST(w, -ERR_NOT_FOUND, pool_remove(c, "p"));
    for (int i = 0; i < 5; i++) {
        boot_all(w, c, osds);
        osds_confirm(osds, 3);
        world_run_ms(w, 300);
        world_want_mon(w);
    }
    check_map(c);
    CHECK_EQ(get_map(c, 0), 0);
    CHECK_EQ(c->answer->map->n_pg, 0);
    CHECK_EQ(c->answer->map->n_order, 0);
    CHECK_EQ(c->answer->map->n_osd, 3);
    CHECK_EQ(c->answer->map->image_id_max, 1);

    /* And it is so in the store. */
    w->trouble_at = 0;
    world_crash_mon(w);
    check_map(c);
    INSIST(w, -ERR_EXISTS, osd_new(&osds[0], 1, "h", "r", 1));
    CHECK_EQ(osds[0].answer->osd, 0);
    callers_stop(osds, 3);
    caller_stop(c);
    uint32_t txns = w->txns;
    world_free(w);
    return txns;
}

static void try_all(enum trouble trouble)
{
    uint32_t txns = work(trouble, 0);

    CHECK(txns > 12);
    for (uint32_t at = 1; at <= txns; at++) {
        work(trouble, at);
        if (!tap_ok) {
            printf("# trouble %d at transaction %u of %u\n", trouble, at, txns);
            return;
        }
    }
}

static void any_transaction_may_fail(void)
{
    try_all(FAIL_BEFORE);
}

static void any_transaction_may_seem_to_fail(void)
{
    try_all(FAIL_AFTER);
}

static void any_transaction_may_conflict(void)
{
    try_all(CONFLICT);
}

static void may_die_before_any_transaction(void)
{
    try_all(CRASH_BEFORE);
}

static void may_die_after_any_transaction(void)
{
    try_all(CRASH_AFTER);
}

int main(void)
{
    TEST(refuses_garbage);
    TEST(a_crowd_keeps_no_osd_out);
    TEST(other_clusters_are_refused);
    TEST(a_pool_has_no_more_pgs_than_it_has);
    TEST(a_full_disk_fills_no_log);
    TEST(subscribers_follow);
    TEST(slow_subscribers_are_dropped);
    TEST(the_dead_change_nothing);
    TEST(any_transaction_may_fail);
    TEST(any_transaction_may_seem_to_fail);
    TEST(any_transaction_may_conflict);
    TEST(may_die_before_any_transaction);
    TEST(may_die_after_any_transaction);
    return tap_done();
}
