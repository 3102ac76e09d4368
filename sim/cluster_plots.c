/* SPDX-License-Identifier: Apache-2.0
 *
 * Plots: several things go wrong together, in the order that would hurt most if a rule were left out. What a
 * run's profile says is plotted again and again; a plot ends before the next one begins. Between the steps of
 * a plot everything else goes on, so it may come to nothing.
 */
#include "sim/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "mon/impl.h"
#include "raft/raft.h"

#define PLOT_PGS_MAX     16
#define GAP_MAX_NS       (600 * NS_PER_MS)
#define GROWN_BYTES      (2u << 20)
#define MOVE_TRIES       3
#define HOLD_MAX_NS      (4500 * NS_PER_MS) /* sessions that are silent for longer are closed */
#define HOLD_MARGIN_NS   (30 * NS_PER_MS)
#define RESIZE_LOOK_NS   (100 * NS_PER_US)
#define STAND_LOOK_NS    (20 * NS_PER_US)
#define RECOVERY_STATES  5
#define RECOVERY_LOOK_NS (200 * NS_PER_US)

struct plot {
    struct cluster *c;
    struct cluster_osd *osd;
    struct cluster_osd *other;
    uint64_t pgs[PLOT_PGS_MAX]; /* led by `osd` */
    uint32_t pg_count;
    uint32_t image;
    uint32_t cut;                /* the image shrinks to so many sectors; LAG: the point of a recovery */
    uint64_t until_ns, other_ns; /* LEADER: its followers hear from it again, one of them then */
    bool parted;                 /* from its followers, by refused connections */
    struct process *held;        /* its frames are held up; NULL: nobody's */
    bool watches, over;          /* RESIZE: the image is looked at still, though the plot is over */
    uint64_t generation;         /* and had this generation */
};

static void plots_fire(void *owner);

static struct plot *plot_new(struct cluster *c)
{
    struct plot *p = sim_alloc(sizeof(*p));

    p->c = c;
    c->plot = true;
    c->plots++;
    return p;
}

static void plot_end(void *owner)
{
    struct plot *p = owner;

    p->c->plot = false;
    p->over = true;
    if (!p->watches)
        free(p);
}

static uint64_t between(struct cluster *c, uint64_t min_ms, uint64_t max_ms)
{
    return sim_rng_range(&c->rng, min_ms * NS_PER_MS, max_ms * NS_PER_MS);
}

/* ---- who is who ---- */

static bool leads(const struct osd_shard *shard, uint64_t pg)
{
    struct osd_pg_view view;

    return osd_pg_view(shard, pg, &view) && view.role == RAFT_LEADER;
}

static bool has_replica(const struct cluster *c, const struct cluster_osd *osd, uint64_t pg)
{
    for (uint32_t i = 0; i < c->shard_count; i++)
        if (osd->shards[i] && store_pg_find(osd_shard_store(osd->shards[i]), pg))
            return true;
    return false;
}

/* The PGs that an OSD leads and that hold something. */
static uint32_t find_led(const struct cluster *c, const struct cluster_osd *osd, uint64_t pgs[PLOT_PGS_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < c->shard_count; i++) {
        if (!osd->shards[i])
            continue;
        const struct store *store = osd_shard_store(osd->shards[i]);
        for (const struct store_pg *pg = NULL; (pg = store_pg_next(store, pg));)
            if (count < PLOT_PGS_MAX && pg->object_count && leads(osd->shards[i], pg->record.pg))
                pgs[count++] = pg->record.pg;
    }
    return count;
}

/* An OSD that leads something, from a random one on; NULL: none does. */
static struct cluster_osd *find_leader(struct cluster *c, uint64_t pgs[PLOT_PGS_MAX], uint32_t *ret_count)
{
    uint32_t from = (uint32_t)sim_rng_below(&c->rng, c->osd_count);

    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *osd = &c->osds[(from + i) % c->osd_count];
        *ret_count = process_running(&osd->process) ? find_led(c, osd, pgs) : 0;
        if (*ret_count)
            return osd;
    }
    return NULL;
}

/* Another OSD with a replica of the PG. */
static struct cluster_osd *find_other(struct cluster *c, const struct cluster_osd *osd, uint64_t pg)
{
    uint32_t from = (uint32_t)sim_rng_below(&c->rng, c->osd_count);

    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *other = &c->osds[(from + i) % c->osd_count];
        if (other != osd && has_replica(c, other, pg))
            return other;
    }
    return NULL;
}

/* One that is neither of these two. */
static struct cluster_osd *find_third(struct cluster *c, const struct cluster_osd *one,
                                      const struct cluster_osd *two, uint64_t pg)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        if (&c->osds[i] != one && &c->osds[i] != two && has_replica(c, &c->osds[i], pg))
            return &c->osds[i];
    return NULL;
}

static void hold_to_all(struct cluster *c, const struct process *from, uint64_t for_ns, bool new_links)
{
    for (uint32_t i = 0; i < c->osd_count; i++)
        sim_net_hold(c->net, from->host, c->osds[i].process.host, for_ns, new_links);
}

/* ---- late: frames of a session that was given up come after those of the next one ---- */

static bool plot_late(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));
    struct cluster_osd *osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];
    uint64_t hold_ns = c->timeout_ns + between(c, 20, 700);

    if (!writer)
        return false;
    sim_log(c->sim, "what %s has sent to %s comes late", writer->process.name, osd->process.name);
    sim_net_hold(c->net, writer->process.host, osd->process.host, hold_ns, false);
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, plot_new(c));
    return true;
}

/* ---- fence: the frames of a former writer arrive when the next one is at work ---- */

static bool plot_fence(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, 0);
    uint64_t hold_ns = between(c, 50, 900);

    if (!writer || !load_take_over(c, 0))
        return false;
    sim_log(c->sim, "%s is taken over from %s, whose frames are held up", c->images[0].name,
            writer->process.name);
    hold_to_all(c, &writer->process, hold_ns, sim_rng_below(&c->rng, 2));
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, plot_new(c));
    return true;
}

/* ---- term: the leader goes and comes back; frames for its first term arrive in its second ---- */

static void term_go(void *owner)
{
    struct plot *p = owner;

    for (uint32_t i = 0; i < p->pg_count; i++) {
        const struct cluster_osd *other = find_other(p->c, p->osd, p->pgs[i]);
        if (other)
            admin_ask(p->c,
                      &(struct admin_job){
                          .kind = ADMIN_JOB_MOVE, .pg = p->pgs[i], .osd = other->id, .tries = MOVE_TRIES});
    }
}

static void term_come_back(void *owner)
{
    struct plot *p = owner;

    for (uint32_t i = 0; i < p->pg_count; i++)
        admin_ask(p->c, &(struct admin_job){
                            .kind = ADMIN_JOB_MOVE, .pg = p->pgs[i], .osd = p->osd->id, .tries = MOVE_TRIES});
}

static bool plot_term(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = find_leader(c, pgs, &pg_count);
    uint64_t back_ns = c->timeout_ns + between(c, 400, 900), hold_ns = back_ns + between(c, 60, 400);

    if (!writer || !osd)
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    p->pg_count = pg_count;
    for (uint32_t i = 0; i < pg_count; i++)
        p->pgs[i] = pgs[i];
    sim_log(c->sim, "%s is to lead nothing, then to lead again; what %s sends to it is held up",
            osd->process.name, writer->process.name);
    sim_net_hold(c->net, writer->process.host, osd->process.host, hold_ns, true);
    sim_after(c->sim, between(c, 20, 60), term_go, p);
    sim_after(c->sim, back_ns, term_come_back, p);
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, p);
    return true;
}

/* ... or in one that nobody had won. Its leader is silent until somebody stands for the next term, whom then
 * nobody hears but clients: they hear of that term. The leader goes on with another one, takes what is
 * written, and hands over to that one, which wins just that term. */

static bool stands(const struct cluster *c, const struct cluster_osd *osd, uint64_t pg)
{
    struct osd_pg_view view;

    for (uint32_t i = 0; i < c->shard_count; i++)
        if (osd->shards[i] && osd_pg_view(osd->shards[i], pg, &view) && view.role == RAFT_CANDIDATE)
            return true;
    return false;
}

static void unwon_hears(void *owner)
{
    struct plot *p = owner;

    sim_net_set_path(p->c->net, p->held->host, p->osd->process.host, SIM_PATH_OPEN);
}

static void unwon_hand_over(void *owner)
{
    struct plot *p = owner;

    admin_ask(p->c, &(struct admin_job){
                        .kind = ADMIN_JOB_MOVE, .pg = p->pgs[0], .osd = p->other->id, .tries = MOVE_TRIES});
}

static void unwon_watch(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    struct cluster_osd *stray = NULL;

    for (uint32_t i = 0; i < c->osd_count && !stray && !c->quiet; i++)
        if (&c->osds[i] != p->osd && stands(c, &c->osds[i], p->pgs[0]))
            stray = &c->osds[i];
    p->other = stray ? find_third(c, p->osd, stray, p->pgs[0]) : NULL;
    if (!p->other && c->sim->now_ns < p->until_ns && !c->quiet) {
        sim_after(c->sim, STAND_LOOK_NS, unwon_watch, p);
        return;
    }
    hold_to_all(c, &p->osd->process, 0, true);
    if (!p->other) {
        plot_end(p);
        return;
    }
    uint64_t over_ns = c->timeout_ns + between(c, 200, 700), hold_ns = over_ns + between(c, 30, 300);
    sim_log(c->sim, "%s stands for a term that is %s's to win; what %s sends to that one is held up",
            stray->process.name, p->other->process.name, p->held->name);
    hold_to_all(c, &stray->process, hold_ns, true);
    sim_net_hold(c->net, p->held->host, p->other->process.host, hold_ns, true);
    sim_net_set_path(c->net, p->held->host, p->osd->process.host, SIM_PATH_REJECT);
    sim_after(c->sim, between(c, 5, 60), unwon_hears, p);
    sim_after(c->sim, over_ns, unwon_hand_over, p);
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, p);
}

static bool plot_unwon(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = find_leader(c, pgs, &pg_count);

    if (!writer || !osd)
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    p->pgs[0] = pgs[sim_rng_below(&c->rng, pg_count)];
    p->held = &writer->process;
    p->until_ns = c->sim->now_ns + RAFT_CONFIG_DEFAULT.election_max_ns;
    hold_to_all(c, &osd->process, RAFT_CONFIG_DEFAULT.election_max_ns, true);
    unwon_watch(p);
    return true;
}

/* ---- resize: frames from before an image lost its end, or was removed, arrive afterwards ---- */

static void resize_over(void *owner)
{
    struct plot *p = owner;

    p->c->images[p->image].evict = false;
    plot_end(p);
}

/* The old frames arrive; then the writers come back. */
static void resize_done(struct cluster *c, struct plot *p)
{
    uint64_t delay_ns = between(c, 0, 30);

    if (p->held)
        hold_to_all(c, p->held, delay_ns, true);
    sim_after(c->sim, delay_ns + HOLD_MARGIN_NS, resize_over, p);
}

static void resize_grown(struct cluster *c, const struct admin_job *job)
{
    struct plot *p = job->owner;

    c->resizes++;
    sim_log(c->sim, "%s has its size again", c->images[p->image].name);
    load_image_cleared(c, p->image, p->cut);
    resize_done(c, p);
}

static void resize_created(struct cluster *c, const struct admin_job *job)
{
    struct plot *p = job->owner;

    c->recreations++;
    sim_log(c->sim, "%s was made again", c->images[p->image].name);
    load_image_cleared(c, p->image, 0);
    resize_done(c, p);
}

static uint64_t image_generation(const struct cluster *c, uint32_t image)
{
    const struct mon *mon = mon_leader(c);
    const struct mon_image *i = mon ? mon_image_find(mon, c->images[image].id_seen) : NULL;

    return i ? mon_image_item(i)->generation : 0;
}

/* The old frames arrive when the leaders have proposed the change, and nobody has acknowledged that. */
static void resize_watch(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    uint64_t generation = p->over ? 0 : image_generation(c, p->image);

    if (p->over) {
        free(p);
        return;
    }
    if (!generation || generation == p->generation) {
        sim_after(c->sim, RESIZE_LOOK_NS, resize_watch, p);
        return;
    }
    p->watches = false;
    uint64_t hold_ns = between(c, 120, 180);
    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->osd_count; j++)
            if (i != j)
                sim_net_hold(c->net, c->osds[i].process.host, c->osds[j].process.host, hold_ns, true);
    hold_to_all(c, p->held, between(c, 1, 60), true);
}

/* The writers are sent away, when some frames are stuck. */
static void resize_evict(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    bool remove = p->cut == 0;

    c->images[p->image].evict = true;
    p->generation = image_generation(c, p->image);
    if (!remove && p->held && p->generation && sim_rng_below(&c->rng, 2)) {
        p->watches = true;
        resize_watch(p);
    }
    load_image_changes(c, p->image, remove ? c->image_sectors : p->cut);
    admin_ask(c, &(struct admin_job){.kind = remove ? ADMIN_JOB_REMOVE : ADMIN_JOB_RESIZE,
                                     .image = p->image,
                                     .size_bytes = (uint64_t)p->cut * CLUSTER_SECTOR});
    admin_ask(c, &(struct admin_job){.kind = remove ? ADMIN_JOB_CREATE : ADMIN_JOB_RESIZE,
                                     .image = p->image,
                                     .size_bytes = (uint64_t)c->image_sectors * CLUSTER_SECTOR,
                                     .done = remove ? resize_created : resize_grown,
                                     .owner = p});
}

static void resize_hold(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    struct cluster_client *writer = load_writer(c, p->image);
    bool remove = sim_rng_below(&c->rng, 4) == 0;

    p->held = writer ? &writer->process : NULL;
    if (writer)
        hold_to_all(c, p->held, HOLD_MAX_NS, true);
    p->cut =
        remove ? 0
               : (uint32_t)ALIGN_DOWN(sim_rng_range(&c->rng, c->image_sectors / 3, c->image_sectors * 3 / 4),
                                      BLOCK_SIZE / CLUSTER_SECTOR);
    sim_log(c->sim, "%s is to %s; what its writer sends is held up", c->images[p->image].name,
            remove ? "be removed" : "shrink");
    sim_after(c->sim, between(c, 10, 50), resize_evict, p);
}

/* It has grown, with the writer at work, which has to attach anew before it writes on. */
static void resize_begin(struct cluster *c, const struct admin_job *job)
{
    c->resizes++;
    sim_after(c->sim, between(c, 50, 300), resize_hold, job->owner);
}

static bool plot_resize(struct cluster *c)
{
    uint32_t image = (uint32_t)sim_rng_below(&c->rng, c->image_count);

    if (!load_writer(c, image))
        return false;
    struct plot *p = plot_new(c);
    p->image = image;
    admin_ask(c, &(struct admin_job){.kind = ADMIN_JOB_RESIZE,
                                     .image = p->image,
                                     .size_bytes = (uint64_t)c->image_sectors * CLUSTER_SECTOR + GROWN_BYTES,
                                     .done = resize_begin,
                                     .owner = p});
    return true;
}

/* ---- leader: cut off from its followers and from writers, but not from readers ---- */

static void leader_part(struct plot *p, enum sim_path path)
{
    struct cluster *c = p->c;

    for (uint32_t i = 0; i < c->osd_count; i++)
        if (&c->osds[i] != p->osd) {
            sim_net_set_path(c->net, p->osd->process.host, c->osds[i].process.host, path);
            sim_net_set_path(c->net, c->osds[i].process.host, p->osd->process.host, path);
        }
}

static void leader_heal(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;

    for (uint32_t i = 0; i < c->writer_count; i++)
        sim_net_set_path(c->net, c->clients[i].process.host, p->osd->process.host, SIM_PATH_OPEN);
    if (p->parted)
        leader_part(p, SIM_PATH_OPEN);
    plot_end(p);
}

static void leader_hold(struct plot *p, bool answers)
{
    struct cluster *c = p->c;
    uint64_t now_ns = c->sim->now_ns;

    for (uint32_t i = 0; i < c->osd_count; i++) {
        const struct cluster_osd *peer = &c->osds[i];
        uint64_t until_ns = peer == p->other ? p->other_ns : p->until_ns;
        if (peer != p->osd && now_ns < until_ns)
            sim_net_hold(c->net, (answers ? peer : p->osd)->process.host,
                         (answers ? p->osd : peer)->process.host, until_ns - now_ns, true);
    }
}

static void leader_mute(void *owner)
{
    leader_hold(owner, false);
}

/* Its writers go on, in one of three: what it proposes for them nobody gets, and others have entries of the
 * same indexes.
 *
 * The followers hear from it again a little later, one perhaps so soon that the leader has not yet noticed
 * that it led alone: it must not take that one's answers for promises, nor what was answered before for a
 * promise of now. Readers wait for that, lest the leader asks its followers on their behalf. */
static bool plot_leader(struct cluster *c)
{
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = find_leader(c, pgs, &pg_count);
    bool writes = sim_rng_below(&c->rng, 3) == 0;
    uint64_t for_ns = writes ? between(c, 300, 900) : between(c, 600, 1200);

    if (!osd)
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    p->other = sim_rng_below(&c->rng, 3) ? find_other(c, osd, pgs[0]) : NULL;
    uint64_t other_ns = between(c, 250, 345);
    p->parted = !p->other && sim_rng_below(&c->rng, 2);
    sim_log(c->sim, "%s leads without followers%s", osd->process.name, writes ? "" : " and writers");
    /* Its connections break, which proves nothing: its readers find it again at once. */
    if (p->parted) {
        leader_part(p, SIM_PATH_REJECT);
        sim_net_break_links(c->net, osd->process.host);
    }
    p->until_ns = c->sim->now_ns + for_ns;
    p->other_ns = c->sim->now_ns + other_ns;
    if (!p->parted) {
        leader_hold(p, true);
        sim_after(c->sim, sim_rng_below(&c->rng, 2) ? 0 : between(c, 0, 40), leader_mute, p);
    }
    for (uint32_t i = 0; i < c->writer_count && !writes; i++)
        sim_net_set_path(c->net, c->clients[i].process.host, osd->process.host, SIM_PATH_REJECT);
    for (uint32_t i = c->writer_count; i < c->client_count && p->other; i++)
        sim_net_hold(c->net, c->clients[i].process.host, osd->process.host, other_ns + between(c, 2, 20),
                     true);
    sim_after(c->sim, for_ns + HOLD_MARGIN_NS, leader_heal, p);
    return true;
}

/* ---- lag: a replica is away for so long that the ring has gone on; then it is to lead ---- */

static void lag_lead(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;

    for (uint32_t i = 0; i < p->pg_count; i++)
        if (sim_rng_below(&c->rng, 2))
            admin_ask(c,
                      &(struct admin_job){
                          .kind = ADMIN_JOB_MOVE, .pg = p->pgs[i], .osd = p->osd->id, .tries = MOVE_TRIES});
    plot_end(p);
}

/* It may be the one that has just come to some point of a recovery: whatever it waits for then comes late,
 * or is gone from the leader's log. */
static bool is_recovering(const struct cluster_osd *osd, const char *state)
{
    for (uint32_t i = 0; i < osd->process.node_count; i++) {
        if (osd->process.nodes[i]->state != SIM_NODE_UP)
            continue;
        list_for_each (&osd->process.nodes[i]->core.live_ops, node) {
            const struct op *op = list_entry(node, struct op, live);
            if (!strcmp(op->kind->name, "osd.recover") && !strcmp(op->kind->state_name(op->state), state))
                return true;
        }
    }
    return false;
}

static void recovery_watch(void *owner)
{
    static const char *const states[RECOVERY_STATES] = {"list", "copy", "target", "base", "catch-up"};
    struct plot *p = owner;
    struct cluster *c = p->c;
    uint64_t away_ns = between(c, 500, 2500);

    for (uint32_t i = 0; i < c->osd_count; i++) {
        struct cluster_osd *osd = &c->osds[i];
        if (!is_recovering(osd, states[p->cut]))
            continue;
        sim_log(c->sim, "%s hears nothing any more, at '%s' of a recovery", osd->process.name,
                states[p->cut]);
        for (uint32_t j = 0; j < c->osd_count; j++)
            if (j != i)
                sim_net_hold(c->net, c->osds[j].process.host, osd->process.host, away_ns, true);
        sim_after(c->sim, away_ns + HOLD_MARGIN_NS, plot_end, p);
        return;
    }
    if (c->sim->now_ns < p->until_ns && !c->quiet)
        sim_after(c->sim, RECOVERY_LOOK_NS, recovery_watch, p);
    else
        plot_end(p);
}

static bool plot_lag(struct cluster *c)
{
    struct cluster_osd *osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];
    uint64_t away_ns = between(c, 500, 2500);

    if (sim_rng_below(&c->rng, 3) == 0) {
        struct plot *p = plot_new(c);
        p->cut = (uint32_t)sim_rng_below(&c->rng, RECOVERY_STATES);
        p->until_ns = c->sim->now_ns + NS_PER_S;
        /* Whose disk is damaged recovers when it has died, and its own log perhaps with it. */
        for (uint32_t i = 0; i < c->osd_count; i++)
            if (damage_is_victim(c, i))
                process_kill(&c->osds[i].process, SIM_CRASH_PROCESS, between(c, 20, 200));
        recovery_watch(p);
        return true;
    }
    if (!process_running(&osd->process))
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    for (uint32_t i = 0; i < c->osd_count; i++) {
        const struct cluster_osd *peer = &c->osds[i];
        if (peer == osd)
            continue;
        uint64_t pgs[PLOT_PGS_MAX];
        uint32_t count = find_led(c, peer, pgs);
        for (uint32_t j = 0; j < count && p->pg_count < PLOT_PGS_MAX; j++)
            if (has_replica(c, osd, pgs[j]))
                p->pgs[p->pg_count++] = pgs[j];
    }
    if (sim_rng_below(&c->rng, 2)) {
        process_kill(&osd->process, SIM_CRASH_PROCESS, away_ns);
    } else {
        sim_log(c->sim, "%s lags behind", osd->process.name);
        for (uint32_t i = 0; i < c->osd_count; i++)
            if (&c->osds[i] != osd)
                sim_net_hold(c->net, c->osds[i].process.host, osd->process.host, away_ns, true);
    }
    sim_after(c->sim, away_ns + between(c, 200, 600), lag_lead, p);
    return true;
}

/* ---- rest: everybody pauses until the groups are parked; then something happens, and all are back ---- */

static void rest_over(void *owner)
{
    load_pause(((struct plot *)owner)->c, false, false);
}

static void rest_wake(struct cluster *c, struct plot *p, uint64_t most_ms)
{
    uint64_t delay_ns = between(c, 0, most_ms);

    sim_after(c->sim, delay_ns, rest_over, p);
    sim_after(c->sim, delay_ns + between(c, 200, 600), plot_end, p);
}

/* Somebody else leads: readers ask the former leader, writers the new one, before the former one hears of it.
 */
static void rest_watch(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    bool won = false;

    for (uint32_t i = 0; i < c->shard_count; i++)
        won |= p->other->shards[i] && leads(p->other->shards[i], p->pgs[0]);
    if (!won && c->sim->now_ns < p->until_ns && !c->quiet) {
        sim_after(c->sim, NS_PER_MS, rest_watch, p);
        return;
    }
    /* What is written first is what a reader must not miss, when it is the first that wakes the former
     * leader. */
    load_pause(c, false, true);
    sim_after(c->sim, between(c, 0, 80), rest_over, p);
    sim_after(c->sim, between(c, 100, 400), leader_heal, p);
}

static void rest_usurp(struct cluster *c, struct plot *p)
{
    uint64_t for_ns = between(c, 1500, 2500);

    sim_log(c->sim, "%s and %s do not hear one another", p->osd->process.name, p->other->process.name);
    p->until_ns = c->sim->now_ns + for_ns;
    sim_net_hold(c->net, p->osd->process.host, p->other->process.host, for_ns, true);
    if (sim_rng_below(&c->rng, 4))
        sim_net_hold(c->net, p->other->process.host, p->osd->process.host, for_ns, true);
    for (uint32_t i = 0; i < c->writer_count; i++)
        sim_net_set_path(c->net, c->clients[i].process.host, p->osd->process.host, SIM_PATH_REJECT);
    rest_watch(p);
}

static void rest_resume(void *owner)
{
    struct process *p = owner;

    for (uint32_t i = 0; i < p->node_count; i++)
        if (p->nodes[i]->state == SIM_NODE_PAUSED)
            sim_node_resume(p->nodes[i]);
}

static void rest_strike(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;

    p->osd = find_leader(c, pgs, &pg_count);
    p->other = p->osd ? find_other(c, p->osd, pgs[0]) : NULL;
    if (!p->other || c->quiet) {
        rest_wake(c, p, 0);
        return;
    }
    p->pgs[0] = pgs[0];
    switch (sim_rng_below(&c->rng, 8)) {
    case 0:
    case 1:
    case 2:
    case 3:
        rest_usurp(c, p);
        return;
    case 4:
        process_kill(&p->osd->process, SIM_CRASH_PROCESS, between(c, 20, 800));
        rest_wake(c, p, 400);
        return;
    case 5:
        process_kill(&p->other->process, SIM_CRASH_POWER, between(c, 20, 800));
        for (uint32_t i = 0; i < c->osd_count && sim_rng_below(&c->rng, 2); i++)
            if (&c->osds[i] != p->osd)
                process_kill(&c->osds[i].process, SIM_CRASH_POWER, between(c, 20, 800));
        rest_wake(c, p, 400);
        return;
    case 6:
        sim_log(c->sim, "%s hangs at rest", p->osd->process.name);
        for (uint32_t i = 0; i < p->osd->process.node_count; i++)
            if (p->osd->process.nodes[i]->state == SIM_NODE_UP)
                sim_node_pause(p->osd->process.nodes[i]);
        sim_after(c->sim, between(c, 100, 1500), rest_resume, &p->osd->process);
        rest_wake(c, p, 1500);
        return;
    default:
        /* One follower hears from the former leader first that it leads no more. */
        for (uint32_t i = 0; i < c->osd_count && sim_rng_below(&c->rng, 2); i++)
            if (&c->osds[i] != p->osd && &c->osds[i] != p->other)
                sim_net_hold(c->net, c->osds[i].process.host, p->other->process.host, between(c, 100, 900),
                             true);
        admin_demote(c, p->osd->id);
        rest_wake(c, p, 100);
        return;
    }
}

static bool plot_rest(struct cluster *c)
{
    struct plot *p = plot_new(c);

    load_pause(c, true, true);
    /* Somebody dies, perhaps, who has yet to get what was written last. */
    if (sim_rng_below(&c->rng, 4) == 0)
        process_kill(&c->osds[sim_rng_below(&c->rng, c->osd_count)].process, SIM_CRASH_PROCESS,
                     between(c, 20, 4000));
    sim_after(c->sim, between(c, 1500, 2600), rest_strike, p);
    return true;
}

/* ---- one after the other ---- */

static bool plot_begin(struct cluster *c)
{
    switch (c->profile) {
    case PROFILE_LATE:
        return plot_late(c);
    case PROFILE_FENCE:
        return plot_fence(c);
    case PROFILE_TERM:
        return sim_rng_below(&c->rng, 2) ? plot_term(c) : plot_unwon(c);
    case PROFILE_RESIZE:
        return plot_resize(c);
    case PROFILE_LEADER:
        return plot_leader(c);
    case PROFILE_LAG:
        return plot_lag(c);
    case PROFILE_REST:
        return plot_rest(c);
    case PROFILE_ANY:
    case PROFILE_MERGE:
    case PROFILE_FULL:
    case PROFILE_COUNT:
        break;
    }
    return false;
}

static void plots_fire(void *owner)
{
    struct cluster *c = owner;

    if (c->quiet)
        return;
    if (!c->plot)
        (void)plot_begin(c);
    sim_after(c->sim, sim_rng_below(&c->rng, GAP_MAX_NS), plots_fire, c);
}

void plots_start(struct cluster *c)
{
    sim_after(c->sim, sim_rng_below(&c->rng, GAP_MAX_NS), plots_fire, c);
}
