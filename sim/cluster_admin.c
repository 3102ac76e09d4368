/* SPDX-License-Identifier: Apache-2.0
 *
 * The operator: a client that registers the OSDs, waits until they are up, makes the pool and the images, and
 * later does what it is asked to: moves leaders, takes OSDs out and in, resizes, removes and makes images,
 * orders scrubs. Calls that fail are simply tried again, as a person would. What he is asked by and by:
 * cluster_members.c.
 */
#include "sim/cluster_boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define RETRY_NS      (200 * NS_PER_MS)
#define JOB_RETRY_NS  (50 * NS_PER_MS)
#define JOBS_MAX      64
#define OTHER_PGS_MAX 4 /* of a pool without images */

enum admin_state { ADMIN_OPEN, ADMIN_OSDS, ADMIN_UP, ADMIN_POOL, ADMIN_IMAGES, ADMIN_IDLE, ADMIN_JOB };

struct admin {
    struct op op;
    struct cluster *cluster;
    struct client_open open;
    struct client *client;
    struct client_mon_call call;
    bool calling;
    Fb__MonRequest request;
    Fb__OsdNew osd_new;
    Fb__PoolCreate pool;
    Fb__ImageCreate image;
    Fb__OsdDemote demote;
    Fb__PgLeader move;
    Fb__ImageResize resize;
    Fb__ImageRemove remove;
    Fb__PgScrubRequest scrub;
    Fb__Status status;
    Fb__OsdChange osd_change;
    Fb__RebalancePlan plan;
    Fb__PgForceLook force_look;
    Fb__PgForceOrder force_order; /* the next; survivor 0: look first */
    Fb__PoolSet pool_set;
    Fb__PoolRemove pool_remove;
    char pool_name[16];
    uint32_t at;                     /* which OSD, which image */
    struct admin_job jobs[JOBS_MAX]; /* oldest first */
    uint32_t job_count, tries;       /* of the oldest */
    struct timer timer;
};

static void call(struct admin *a, Fb__MonRequest__CallCase which)
{
    a->request.call_case = which;
    a->calling = true;
    client_mon_call_start(&a->call, a->client, &a->request, &a->op);
}

static void again_later(struct admin *a)
{
    uint64_t delay_ns = a->op.state == ADMIN_IDLE ? JOB_RETRY_NS : RETRY_NS;

    timer_arm(a->op.core, &a->timer, &a->op, core_now_ns(a->op.core) + delay_ns);
}

static void begin_open(struct admin *a)
{
    struct cluster *c = a->cluster;
    struct client_config config = {.core = a->op.core,
                                   .net = sim_net_port(c->net, c->admin.nodes[0]),
                                   .monitors = CLUSTER_MONITORS,
                                   .monitor_count = c->mon_count,
                                   .name = "admin"};
    client_open_start(&a->open, &config, &a->op);
}

static void begin_osd(struct admin *a, struct cluster_osd *osd)
{
    fb__mon_request__init(&a->request);
    fb__osd_new__init(&a->osd_new);
    a->osd_new.uuid = (ProtobufCBinaryData){sizeof(osd->uuid), osd->uuid};
    a->osd_new.host = osd->process.name;
    a->osd_new.rack = (char *)(uintptr_t) "rack";
    a->osd_new.size_bytes = sim_disk_size(osd->disk);
    a->osd_new.shards = a->cluster->shard_count;
    a->request.osd_new = &a->osd_new;
    call(a, FB__MON_REQUEST__CALL_OSD_NEW);
}

static void osd_registered(struct admin *a, struct cluster_osd *osd)
{
    const Fb__MonReply *reply = a->call.ret_reply;

    osd->id = reply->osd;
    if (reply->cluster.len == sizeof(osd->cluster_uuid))
        memcpy(osd->cluster_uuid, reply->cluster.data, sizeof(osd->cluster_uuid));
}

static bool osds_up(const struct admin *a)
{
    const Fb__ClusterMap *map = client_map(a->client);
    uint32_t up = 0;

    for (size_t i = 0; i < map->n_osd; i++)
        up += map->osd[i]->up;
    return up == a->cluster->osd_count;
}

static void begin_pool(struct admin *a, char *name, uint32_t pg_count)
{
    fb__mon_request__init(&a->request);
    fb__pool_create__init(&a->pool);
    a->pool.name = name;
    a->pool.replicas = a->cluster->replicas;
    a->pool.pg_count = pg_count;
    a->pool.failure_domain = (char *)(uintptr_t) "osd";
    a->request.pool_create = &a->pool;
    call(a, FB__MON_REQUEST__CALL_POOL_CREATE);
}

static void begin_image(struct admin *a, uint32_t image)
{
    fb__mon_request__init(&a->request);
    fb__image_create__init(&a->image);
    a->image.pool = (char *)(uintptr_t)CLUSTER_POOL;
    a->image.name = a->cluster->images[image].name;
    a->image.size_bytes = (uint64_t)a->cluster->image_sectors * CLUSTER_SECTOR;
    a->request.image_create = &a->image;
    call(a, FB__MON_REQUEST__CALL_IMAGE_CREATE);
}

static uint32_t other_pgs(uint32_t pool)
{
    return 1 + pool % OTHER_PGS_MAX;
}

static void begin_job(struct admin *a, const struct admin_job *job)
{
    char *image = a->cluster->images[job->image].name;

    fb__mon_request__init(&a->request);
    a->op.state = ADMIN_JOB;
    a->tries++;
    switch (job->kind) {
    case ADMIN_JOB_DEMOTE:
        fb__osd_demote__init(&a->demote);
        a->demote.osd = job->osd;
        a->request.osd_demote = &a->demote;
        call(a, FB__MON_REQUEST__CALL_OSD_DEMOTE);
        return;
    case ADMIN_JOB_MOVE:
        fb__pg_leader__init(&a->move);
        a->move.pg = job->pg;
        a->move.osd = job->osd;
        a->request.pg_leader = &a->move;
        call(a, FB__MON_REQUEST__CALL_PG_LEADER);
        return;
    case ADMIN_JOB_RESIZE:
        fb__image_resize__init(&a->resize);
        a->resize.pool = (char *)(uintptr_t)CLUSTER_POOL;
        a->resize.name = image;
        a->resize.size_bytes = job->size_bytes;
        a->resize.lose_data = true;
        a->request.image_resize = &a->resize;
        call(a, FB__MON_REQUEST__CALL_IMAGE_RESIZE);
        return;
    case ADMIN_JOB_REMOVE:
        fb__image_remove__init(&a->remove);
        a->remove.pool = (char *)(uintptr_t)CLUSTER_POOL;
        a->remove.name = image;
        a->request.image_remove = &a->remove;
        call(a, FB__MON_REQUEST__CALL_IMAGE_REMOVE);
        return;
    case ADMIN_JOB_CREATE:
        begin_image(a, job->image);
        return;
    case ADMIN_JOB_SCRUB:
        fb__pg_scrub_request__init(&a->scrub);
        a->scrub.deep = job->deep;
        a->request.pg_scrub = &a->scrub;
        call(a, FB__MON_REQUEST__CALL_PG_SCRUB);
        return;
    case ADMIN_JOB_SCRUBBED:
        fb__status__init(&a->status);
        a->request.status = &a->status;
        call(a, FB__MON_REQUEST__CALL_STATUS);
        return;
    case ADMIN_JOB_OSD:
        fb__osd_change__init(&a->osd_change);
        a->osd_change.osd = job->osd;
        a->osd_change.action = job->out ? FB__OSD_ACTION__OSD_ACTION_OUT : FB__OSD_ACTION__OSD_ACTION_IN;
        a->request.osd_change = &a->osd_change;
        call(a, FB__MON_REQUEST__CALL_OSD_CHANGE);
        return;
    case ADMIN_JOB_LOST:
    case ADMIN_JOB_RETIRE:
        fb__osd_change__init(&a->osd_change);
        a->osd_change.osd = job->osd;
        a->osd_change.action =
            job->kind == ADMIN_JOB_LOST ? FB__OSD_ACTION__OSD_ACTION_LOST : FB__OSD_ACTION__OSD_ACTION_REMOVE;
        a->request.osd_change = &a->osd_change;
        call(a, FB__MON_REQUEST__CALL_OSD_CHANGE);
        return;
    case ADMIN_JOB_FORCE:
        if (a->force_order.survivor) {
            a->request.pg_force_order = &a->force_order;
            call(a, FB__MON_REQUEST__CALL_PG_FORCE_ORDER);
            return;
        }
        fb__pg_force_look__init(&a->force_look);
        a->request.pg_force_look = &a->force_look;
        call(a, FB__MON_REQUEST__CALL_PG_FORCE_LOOK);
        return;
    case ADMIN_JOB_REPLACE:
        begin_osd(a, &a->cluster->osds[job->osd]);
        return;
    case ADMIN_JOB_SPLIT:
        fb__pool_set__init(&a->pool_set);
        a->pool_set.name = (char *)(uintptr_t)CLUSTER_POOL;
        a->pool_set.pg_count = a->cluster->pg_count;
        if (job->pool) {
            snprintf(a->pool_name, sizeof(a->pool_name), "other%u", job->pool);
            a->pool_set.name = a->pool_name;
            a->pool_set.pg_count = 2 * other_pgs(job->pool);
        }
        a->request.pool_set = &a->pool_set;
        call(a, FB__MON_REQUEST__CALL_POOL_SET);
        return;
    case ADMIN_JOB_REPLICAS:
        fb__pool_set__init(&a->pool_set);
        a->pool_set.name = (char *)(uintptr_t)CLUSTER_POOL;
        a->pool_set.replicas = job->replicas;
        a->pool_set.no_failover = true;
        a->request.pool_set = &a->pool_set;
        call(a, FB__MON_REQUEST__CALL_POOL_SET);
        return;
    case ADMIN_JOB_POOL:
        snprintf(a->pool_name, sizeof(a->pool_name), "other%u", job->pool);
        begin_pool(a, a->pool_name, other_pgs(job->pool));
        return;
    case ADMIN_JOB_NO_POOL:
        snprintf(a->pool_name, sizeof(a->pool_name), "other%u", job->pool);
        fb__pool_remove__init(&a->pool_remove);
        a->pool_remove.name = a->pool_name;
        a->request.pool_remove = &a->pool_remove;
        call(a, FB__MON_REQUEST__CALL_POOL_REMOVE);
        return;
    case ADMIN_JOB_MOVED:
        fb__rebalance_plan__init(&a->plan);
        a->request.rebalance_plan = &a->plan;
        call(a, FB__MON_REQUEST__CALL_REBALANCE_PLAN);
        return;
    }
}

static void osd_processes_start(void *owner)
{
    struct cluster *c = owner;

    for (uint32_t i = 0; i < c->osd_count; i++)
        process_start(&c->osds[i].process);
}

static void clients_start(void *owner)
{
    struct cluster *c = owner;

    c->ready = true;
    for (uint32_t i = 0; i < c->client_count; i++)
        process_start(&c->clients[i].process);
}

/* What the monitor says of scrubs. Replicas never differ, whatever goes wrong in a run. */
static int scrubs_look(struct cluster *c, const Fb__ClusterStatus *status)
{
    if (!status)
        return -ERR_RETRY;
    if (status->differing)
        sim_fail(c->sim, "a scrub says that %llu objects are not the same on all replicas",
                 (unsigned long long)status->differing);
    c->listed_blocks = status->damaged_blocks;
    return status->scrubs_due ? -ERR_RETRY : 0;
}

static int moves_look(const Fb__MoveProgress *progress)
{
    return !progress || progress->under_way || progress->urgent || progress->misplaced ? -ERR_RETRY : 0;
}

static bool is_forced(const struct admin *a, uint64_t pg)
{
    const Fb__ClusterMap *map = client_map(a->client);

    for (size_t i = 0; i < map->n_pg; i++)
        if (map->pg[i]->id == pg)
            return map->pg[i]->force;
    return false;
}

/* Of PGs whose majority was destroyed: which order is the next? ERR_RETRY: not all have been given. */
static int force_look(struct admin *a, const Fb__MonReply *reply)
{
    const struct force *f = &a->cluster->force;
    bool left = false;

    for (uint32_t k = 0; k < f->pg_count; k++) {
        left |= !is_forced(a, f->pgs[k].id) && !force_goes_on(a->cluster, f->pgs[k].id);
        for (size_t i = 0; i < reply->n_force_views; i++) {
            const Fb__PgForceView *v = reply->force_views[i];
            if (f->pgs[k].id != v->pg || v->verdict != FB__FORCE_VERDICT__FORCE_POSSIBLE)
                continue;
            fb__pg_force_order__init(&a->force_order);
            a->force_order.pg = v->pg;
            a->force_order.survivor = v->survivor;
        }
    }
    return left ? -ERR_RETRY : 0;
}

/* The call that has ended, if it was one: 0, or an error to be tried again. Something that exists has been
 * made by an earlier try, and something to be removed that is not there was removed by one. */
static int call_result(struct admin *a)
{
    int result = a->call.op.result;

    if (!result && a->request.call_case == FB__MON_REQUEST__CALL_STATUS)
        return scrubs_look(a->cluster, a->call.ret_reply->status);
    if (!result && a->request.call_case == FB__MON_REQUEST__CALL_REBALANCE_PLAN)
        return moves_look(a->call.ret_reply->progress);
    if (!result && a->request.call_case == FB__MON_REQUEST__CALL_PG_FORCE_LOOK)
        return force_look(a, a->call.ret_reply);
    if (a->request.call_case == FB__MON_REQUEST__CALL_PG_FORCE_ORDER) {
        a->force_order.survivor = 0; /* looked at again, whatever came of it */
        return -ERR_RETRY;
    }
    if (result == -ERR_NOT_FOUND && (a->request.call_case == FB__MON_REQUEST__CALL_IMAGE_REMOVE ||
                                     a->request.call_case == FB__MON_REQUEST__CALL_POOL_REMOVE))
        return 0;
    return result == -ERR_EXISTS ? 0 : result;
}

struct job_done {
    struct cluster *cluster;
    struct admin_job job;
};

static void job_done_fire(void *owner)
{
    struct job_done *d = owner;

    d->job.done(d->cluster, &d->job);
    free(d);
}

/* A job has been tried. */
static void job_called(struct admin *a, int error)
{
    struct admin_job job = a->jobs[0];

    a->op.state = ADMIN_IDLE;
    if (error && (job.tries == 0 || a->tries < job.tries))
        return;
    a->tries = 0;
    memmove(&a->jobs[0], &a->jobs[1], --a->job_count * sizeof(a->jobs[0]));
    if (!job.done)
        return;
    struct job_done *d = sim_alloc(sizeof(*d));
    *d = (struct job_done){a->cluster, job};
    sim_after(a->cluster->sim, 0, job_done_fire, d);
}

/* What follows an ended call. */
static void called(struct admin *a)
{
    struct cluster *c = a->cluster;

    switch ((enum admin_state)a->op.state) {
    case ADMIN_OSDS:
        osd_registered(a, &c->osds[a->at]);
        if (++a->at == c->osd_count) {
            a->op.state = ADMIN_UP;
            sim_after(c->sim, 0, osd_processes_start, c);
        }
        return;
    case ADMIN_POOL:
        a->op.state = ADMIN_IMAGES;
        a->at = 0;
        return;
    case ADMIN_IMAGES:
        if (++a->at == c->image_count) {
            a->op.state = ADMIN_IDLE;
            sim_after(c->sim, 0, clients_start, c);
        }
        return;
    default:
        return;
    }
}

/* Starts what the state wants, if nothing is under way. */
static void begin(struct admin *a)
{
    switch ((enum admin_state)a->op.state) {
    case ADMIN_OPEN:
        begin_open(a);
        return;
    case ADMIN_OSDS:
        begin_osd(a, &a->cluster->osds[a->at]);
        return;
    case ADMIN_UP:
        if (osds_up(a)) {
            a->op.state = ADMIN_POOL;
            begin_pool(a, (char *)(uintptr_t)CLUSTER_POOL, a->cluster->pg_count);
        } else {
            again_later(a);
        }
        return;
    case ADMIN_POOL:
        begin_pool(a, (char *)(uintptr_t)CLUSTER_POOL, a->cluster->pg_count);
        return;
    case ADMIN_IMAGES:
        begin_image(a, a->at);
        return;
    case ADMIN_IDLE:
        if (a->job_count)
            begin_job(a, &a->jobs[0]);
        return;
    case ADMIN_JOB:
        return;
    }
}

static void admin_step(struct op *op)
{
    struct admin *a = container_of(op, struct admin, op);

    if (op->children || timer_armed(&a->timer))
        return;
    op->child_result = 0;
    if (op->state == ADMIN_OPEN && a->open.config.core) {
        if (a->open.op.result == 0) {
            a->client = a->open.ret_client;
            op->state = ADMIN_OSDS;
        }
        memset(&a->open, 0, sizeof(a->open));
        if (!a->client) {
            again_later(a);
            return;
        }
    }
    if (a->calling) {
        int error = call_result(a);
        a->calling = false;
        if (error && error != -ERR_RETRY)
            core_log(op->core, LOG_INFO, "admin", "call %d: %s", (int)a->request.call_case,
                     a->call.ret_reply && a->call.ret_reply->message ? a->call.ret_reply->message
                                                                     : error_text(error));
        if (op->state == ADMIN_JOB) {
            if (!a->call.op.result)
                map_shows(a->cluster, &a->jobs[0]);
            if (!error && a->jobs[0].kind == ADMIN_JOB_REPLACE)
                osd_registered(a, &a->cluster->osds[a->jobs[0].osd]);
            job_called(a, error);
        } else if (!error)
            called(a);
        client_mon_call_fini(&a->call);
        memset(&a->call, 0, sizeof(a->call));
        if (error) {
            again_later(a);
            return;
        }
    }
    begin(a);
}

static const struct op_kind ADMIN = {"sim.admin", NULL, admin_step};

void admin_start(void *owner, struct sim_node *node)
{
    struct cluster *c = owner;
    struct admin *a = calloc(1, sizeof(*a));

    a->cluster = c;
    c->admin_op = a;
    op_start(&a->op, &node->core, &ADMIN, NULL);
}

bool admin_idle(const struct cluster *c)
{
    const struct admin *a = c->admin_op;

    return a->op.state == ADMIN_IDLE && !a->job_count && !a->calling && !a->op.children;
}

void admin_end(struct cluster *c)
{
    struct admin *a = c->admin_op;

    timer_cancel(a->op.core, &a->timer);
    client_free(a->client);
    op_done(&a->op, 0);
    free(a);
    c->admin_op = NULL;
}

bool admin_takes(const struct cluster *c)
{
    return c->ready && c->admin_op->job_count + 2 <= JOBS_MAX;
}

void admin_ask(struct cluster *c, const struct admin_job *job)
{
    struct admin *a = c->admin_op;

    if (!c->ready || a->job_count == JOBS_MAX)
        return;
    a->jobs[a->job_count++] = *job;
    sim_node_enter(c->admin.nodes[0]);
    op_wake(&a->op);
    sim_node_leave(c->admin.nodes[0]);
}

void admin_demote(struct cluster *c, uint32_t osd)
{
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_DEMOTE, .osd = osd, .tries = 1});
}

const Fb__ClusterMap *admin_map(const struct cluster *c)
{
    return c->admin_op->client ? client_map(c->admin_op->client) : NULL;
}
