/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold when faults are over: within a bound of virtual time everything is served and whole again;
 * when the clients have gone, all groups come to rest; then every process ends in good order and gives back
 * all that it held: ops, buffers, memory; and the offline check finds nothing on any disk. The same check
 * looks at disks whose process has just died, before it comes back.
 */
#include "sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/shard.h"
#include "raft/raft.h"
#include "rpc/session.h"
#include "sim/cluster_boot.h"

#define ANSWERS_NS   (20 * NS_PER_S)
#define PGS_MAX      64
#define IDLE_NS      (20 * NS_PER_S)
#define STOP_NS      (20 * NS_PER_S)
#define CHECK_NS     (20 * NS_PER_S)
#define CHECK_ARENA  (64u << 20)
#define CHECK_ONE_IN 3 /* of the deaths */

/* ---- clean ---- */

struct led {
    uint64_t pg;
    bool leads;
};

static bool shard_clean(const struct osd_shard *shard, struct led *led, uint32_t *led_count)
{
    const struct store *store = osd_shard_store(shard);

    for (const struct store_pg *pg = NULL; (pg = store_pg_next(store, pg));) {
        struct osd_pg_view view;
        uint32_t i = 0;
        if (!osd_pg_view(shard, pg->record.pg, &view))
            continue;
        while (i < *led_count && led[i].pg != view.pg)
            i++;
        ASSERT(i < PGS_MAX);
        if (i == *led_count)
            led[(*led_count)++] = (struct led){.pg = view.pg};
        led[i].leads |= view.role == RAFT_LEADER;
        if (view.recovering || view.damaged || pg->record.state != STORE_PG_NORMAL)
            return false;
    }
    return true;
}

bool rest_clean(struct cluster *c)
{
    struct led led[PGS_MAX];
    uint32_t led_count = 0;

    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->shard_count; j++) {
            const struct osd_shard *shard = c->osds[i].shards[j];
            if (!shard || osd_shard_failed(shard) || !shard_clean(shard, led, &led_count)) {
                snprintf(c->not_clean, sizeof(c->not_clean), "osd.%u.%u %s", i, j,
                         !shard                    ? "does not serve"
                         : osd_shard_failed(shard) ? "has failed"
                                                   : "has replicas to recover");
                return false;
            }
        }
    if (!admin_members_rest(c)) {
        snprintf(c->not_clean, sizeof(c->not_clean),
                 "members of PGs still come and go, or are not where the map says");
        return false;
    }
    for (uint32_t i = 0; i < led_count; i++)
        if (!led[i].leads) {
            snprintf(c->not_clean, sizeof(c->not_clean), "nobody leads PG %llx",
                     (unsigned long long)led[i].pg);
            return false;
        }
    for (uint32_t i = 0; i < c->image_count; i++) {
        uint64_t last_ns = 0;
        for (uint32_t j = 0; j < c->writer_count; j++)
            if (c->clients[j].image == i)
                last_ns = MAX(last_ns, c->clients[j].last_success_ns);
        if (last_ns <= c->quiet_ns) {
            snprintf(c->not_clean, sizeof(c->not_clean), "no writer of %s is served", c->images[i].name);
            return false;
        }
    }
    return true;
}

/* ---- the offline check ---- */

/* A machine that may look at disks that nobody has open. */
struct inspector {
    struct cluster *cluster;
    struct sim_node *node;
    struct cluster_osd *osd;       /* whose disk it looks at */
    struct inspection *inspection; /* in the node; NULL: none */
};

struct inspection {
    struct op op;
    struct inspector *inspector;
    uint32_t slice;
    struct blk *blk;
    struct store_check check;
    const struct store *store; /* while it is looked at */
};

static void inspection_opened(void *owner, const struct store *store)
{
    ((struct inspection *)owner)->store = store;
}

/* What the source of a recovery lacked, because destage had written over it in place before a restart, comes
 * with the entries behind the base. A replica whose log was whole, and only old, is normal before that. */
static bool is_to_come(const struct inspection *n, const char *text)
{
    unsigned long image, object;
    unsigned block;

    if (!n->store || sscanf(text, "object %lu/%lu: block %u is lost", &image, &object, &block) != 3)
        return false;
    for (const struct store_pg *pg = NULL; (pg = store_pg_next(n->store, pg));) {
        uint64_t lost[BLOCKS_PER_OBJECT / 64], index;
        if (store_object_lost(pg, image, object, &index, lost) && lost[block / 64] >> block % 64 & 1)
            return pg->record.base_index &&
                   pg->last_index < *check_committed(n->inspector->cluster, pg->record.pg);
    }
    return false;
}

static void inspection_line(void *owner, bool problem, const char *text)
{
    struct inspection *n = owner;
    const struct cluster_osd *osd = n->inspector->osd;
    struct cluster *c = n->inspector->cluster;

    if (problem && !c->damage && !is_to_come(n, text))
        sim_fail(c->sim, "the offline check of %s, slice %u: %s", osd->process.name, n->slice, text);
}

/* Outside of the node. */
static void inspection_over(void *owner)
{
    struct inspector *i = owner;

    if (!i->inspection || op_live(&i->inspection->op))
        return;
    sim_node_enter(i->node);
    free(i->inspection);
    i->inspection = NULL;
    sim_node_leave(i->node);
    sim_node_halt(i->node);
}

static void inspection_step(struct op *op)
{
    struct inspection *n = container_of(op, struct inspection, op);
    struct cluster_osd *osd = n->inspector->osd;

    if (op->children)
        return;
    op->child_result = 0;
    if (n->blk) {
        n->blk->ops->close(n->blk);
        n->blk = NULL;
        n->slice++;
    }
    if (n->slice == osd->label.slice_count) {
        n->inspector->cluster->inspections++;
        op_done(op, 0);
        sim_after(n->inspector->cluster->sim, 0, inspection_over, n->inspector);
        return;
    }
    n->blk = sim_disk_open(osd->disk, n->inspector->node, osd->label.slice_offset[n->slice],
                           osd->label.slice_size);
    memset(&n->check, 0, sizeof(n->check));
    n->store = NULL;
    n->check.opened = inspection_opened;
    store_check_start(&n->check, op->core, n->blk, true, inspection_line, n, op);
}

static const struct op_kind INSPECTION = {"sim.inspection", NULL, inspection_step};

static void inspector_start(void *owner, struct sim_node *node)
{
    struct inspector *i = owner;
    struct inspection *n = calloc(1, sizeof(*n));

    n->inspector = i;
    i->inspection = n;
    op_start(&n->op, &node->core, &INSPECTION, NULL);
}

static void inspector_crashed(void *owner, struct sim_node *node, enum sim_crash kind)
{
    ((struct inspector *)owner)->inspection = NULL;
}

void rest_init(struct cluster *c)
{
    struct inspector *i = sim_alloc(sizeof(*i));

    i->cluster = c;
    i->node = sim_node_new(c->sim, &(struct sim_node_config){.name = "inspector",
                                                             .host = "10.0.4.1",
                                                             .arena_bytes = CHECK_ARENA,
                                                             .start = inspector_start,
                                                             .crashed = inspector_crashed,
                                                             .owner = i});
    c->inspector = i;
}

void rest_fini(struct cluster *c)
{
    free(c->inspector);
}

void rest_osd_died(struct cluster_osd *osd)
{
    struct cluster *c = osd->process.cluster;
    struct inspector *i = c->inspector;

    if (!osd->formatted || i->node->state != SIM_NODE_DOWN || sim_rng_below(&c->rng, CHECK_ONE_IN))
        return;
    i->osd = osd;
    sim_node_start(i->node);
}

void rest_osd_starts(struct cluster_osd *osd)
{
    struct inspector *i = osd->process.cluster->inspector;

    if (i->osd == osd && i->node->state != SIM_NODE_DOWN)
        sim_node_crash(i->node, SIM_CRASH_PROCESS);
}

static bool inspector_idle(void *owner)
{
    return ((struct cluster *)owner)->inspector->node->state == SIM_NODE_DOWN;
}

static void inspect_all(struct cluster *c)
{
    struct inspector *i = c->inspector;

    for (uint32_t n = 0; n < c->osd_count && !c->sim->failed; n++) {
        if (!sim_run_while(c->sim, inspector_idle, c, c->sim->now_ns + CHECK_NS)) {
            if (!c->sim->failed)
                sim_fail(c->sim, "the offline check does not end");
            return;
        }
        i->osd = &c->osds[n];
        sim_node_start(i->node);
    }
    if (!c->sim->failed && !sim_run_while(c->sim, inspector_idle, c, c->sim->now_ns + CHECK_NS) &&
        !c->sim->failed)
        sim_fail(c->sim, "the offline check does not end");
}

/* ---- the end of all processes ---- */

/* What the node still waits for. */
static void stuck(struct cluster *c, const struct process *p)
{
    char what[256] = "";
    size_t at = 0;

    for (uint32_t i = 0; i < p->node_count; i++) {
        if (p->nodes[i]->state != SIM_NODE_UP)
            continue;
        list_for_each (&p->nodes[i]->core.live_ops, node) {
            const struct op *op = list_entry(node, struct op, live);
            if (at < sizeof(what) - 1)
                at += (size_t)snprintf(what + at, sizeof(what) - at, " %s/%d", op->kind->name, op->state);
        }
    }
    sim_fail(c->sim, "%s does not end; live ops:%s", p->name, what);
}

static bool process_ends(struct cluster *c, struct process *p, bool (*ended)(void *owner), void *owner)
{
    p->wanted = false;
    p->restart_token++;
    if (sim_run_while(c->sim, ended, owner, c->sim->now_ns + STOP_NS))
        return true;
    if (!c->sim->failed)
        stuck(c, p);
    return false;
}

static void process_halt(struct process *p)
{
    for (uint32_t i = 0; i < p->node_count; i++)
        sim_node_halt(p->nodes[i]);
}

struct osd_end {
    struct cluster_osd *osd;
    struct osd_shard_stop *stop[CLUSTER_SHARDS_MAX]; /* in the nodes */
};

static bool osd_ended(void *owner)
{
    const struct osd_end *e = owner;

    for (uint32_t i = 0; i < e->osd->process.node_count; i++)
        if (op_live(&e->stop[i]->op))
            return false;
    return true;
}

static bool end_osd(struct cluster *c, struct cluster_osd *osd)
{
    struct osd_end e = {.osd = osd};
    struct process *p = &osd->process;

    for (uint32_t i = 0; i < p->node_count; i++) {
        sim_node_enter(p->nodes[i]);
        e.stop[i] = calloc(1, sizeof(*e.stop[i]));
        osd_shard_stop_start(e.stop[i], osd->shards[i], NULL);
        sim_node_leave(p->nodes[i]);
        osd->shards[i] = NULL;
    }
    if (!process_ends(c, p, osd_ended, &e))
        return false;
    for (uint32_t i = 0; i < p->node_count; i++) {
        sim_node_enter(p->nodes[i]);
        free(e.stop[i]);
        osd_boot_end(osd, i);
        sim_node_leave(p->nodes[i]);
    }
    process_halt(p);
    return true;
}

static bool mon_ended(void *owner)
{
    const struct process *p = owner;

    return mon_boot_alone(p->cluster, (uint32_t)(p - p->cluster->mons));
}

static bool end_mon(struct cluster *c, uint32_t i)
{
    struct process *p = &c->mons[i];

    sim_node_enter(p->nodes[0]);
    mon_boot_stop(c, i);
    sim_node_leave(p->nodes[0]);
    if (!process_ends(c, p, mon_ended, p))
        return false;
    sim_node_enter(p->nodes[0]);
    mon_boot_end(c, i);
    sim_node_leave(p->nodes[0]);
    process_halt(p);
    return true;
}

static bool admin_ended(void *owner)
{
    return admin_idle(owner);
}

static bool end_clients(struct cluster *c)
{
    for (uint32_t i = 0; i < c->client_count; i++) {
        struct process *p = &c->clients[i].process;
        p->wanted = false;
        p->restart_token++;
        sim_node_enter(p->nodes[0]);
        load_end(&c->clients[i]);
        sim_node_leave(p->nodes[0]);
        process_halt(p);
    }
    if (!process_ends(c, &c->admin, admin_ended, c))
        return false;
    sim_node_enter(c->admin.nodes[0]);
    admin_end(c);
    sim_node_leave(c->admin.nodes[0]);
    process_halt(&c->admin);
    return true;
}

/* No session owes an answer. */
static bool answered(void *owner)
{
    const struct cluster *c = owner;

    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        list_for_each (&s.is->server->sessions, node)
            if (list_entry(node, struct rpc_session, all)->requests)
                return false;
    return true;
}

/* Nobody asks for anything any more: all groups are parked. */
static bool idle(void *owner)
{
    const struct cluster *c = owner;

    for (struct shard_at s = {0}; cluster_shard_next(c, &s);)
        if (s.is->awake_count)
            return false;
    return true;
}

static bool comes_to_idle(struct cluster *c)
{
    if (sim_run_while(c->sim, idle, c, c->sim->now_ns + IDLE_NS))
        return true;
    for (struct shard_at s = {0}; !c->sim->failed && cluster_shard_next(c, &s);)
        if (s.is->awake_count)
            sim_fail(c->sim, "%u groups of osd.%u shard %u stay awake though nobody asks for anything",
                     s.is->awake_count, s.osd, s.shard);
    return false;
}

void rest_end_all(struct cluster *c)
{
    if (!sim_run_while(c->sim, answered, c, c->sim->now_ns + ANSWERS_NS) && !c->sim->failed)
        sim_fail(c->sim, "a shard owes an answer for ever");
    bool ended = !c->sim->failed && end_clients(c) && comes_to_idle(c);

    for (uint32_t i = 0; i < c->osd_count && ended; i++)
        ended = end_osd(c, &c->osds[i]);
    for (uint32_t i = 0; i < c->mon_count && ended; i++)
        ended = end_mon(c, i);
    if (ended)
        inspect_all(c);
}
