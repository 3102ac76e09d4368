/* SPDX-License-Identifier: Apache-2.0
 *
 * Plots in which frames arrive when what they were sent for is over: a session, a writer, a term, an image or
 * its end.
 */
#include "sim/cluster_plots.h"

#include <stdlib.h>

#include "mon/impl.h"
#include "osd/pg.h"
#include "raft/raft.h"

#define GROWN_BYTES      (2u << 20)
#define HOLD_MAX_NS      (4500 * NS_PER_MS) /* sessions that are silent for longer are closed */
#define RESIZE_LOOK_NS   (100 * NS_PER_US)
#define EVICT_AGAIN_NS   (50 * NS_PER_MS)
#define STAND_LOOK_NS    (20 * NS_PER_US)
#define GREETING_LOOK_NS (40 * NS_PER_US)

/* ---- late: frames of a session that was given up come after those of the next one ---- */

/* ... or its greeting does: links that the client makes meanwhile carry nothing in time, those after them do.
 */
static void greeting_hold(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;

    if (c->sim->now_ns >= p->until_ns) {
        sim_after(c->sim, p->other_ns - c->sim->now_ns + HOLD_MARGIN_NS, plot_end, p);
        return;
    }
    sim_net_hold(c->net, p->held->host, p->osd->process.host, p->other_ns - c->sim->now_ns, false);
    sim_after(c->sim, GREETING_LOOK_NS, greeting_hold, p);
}

bool plot_greeting(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));

    if (!writer)
        return false;
    struct plot *p = plot_new(c);
    p->osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];
    p->held = &writer->process;
    p->until_ns = c->sim->now_ns + plot_between(c, 20, 100);
    p->other_ns = p->until_ns + plot_between(c, 2000, 4000); /* a greeting is waited for for two seconds */
    sim_log(c->sim, "%s connects anew to %s; its greeting comes late", writer->process.name,
            p->osd->process.name);
    sim_net_break_links(c->net, writer->process.host);
    greeting_hold(p);
    return true;
}

bool plot_late(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));
    struct cluster_osd *osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];
    uint64_t hold_ns = c->timeout_ns + plot_between(c, 20, 700);

    if (!writer)
        return false;
    sim_log(c->sim, "what %s has sent to %s comes late", writer->process.name, osd->process.name);
    sim_net_hold(c->net, writer->process.host, osd->process.host, hold_ns, false);
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, plot_new(c));
    return true;
}

/* ---- fence: the frames of a former writer arrive when the next one is at work ---- */

bool plot_fence(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, 0);
    uint64_t hold_ns = plot_between(c, 50, 900);

    if (!writer || !load_take_over(c, 0))
        return false;
    sim_log(c->sim, "%s is taken over from %s, whose frames are held up", c->images[0].name,
            writer->process.name);
    plot_hold_to_all(c, &writer->process, hold_ns, sim_rng_below(&c->rng, 2));
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, plot_new(c));
    return true;
}

/* ---- term: the leader goes and comes back; frames for its first term arrive in its second ---- */

static void term_go(void *owner)
{
    struct plot *p = owner;

    for (uint32_t i = 0; i < p->pg_count; i++) {
        const struct cluster_osd *other = plot_find_other(p->c, p->osd, p->pgs[i]);
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

bool plot_term(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = plot_find_leader(c, pgs, &pg_count);
    uint64_t back_ns = c->timeout_ns + plot_between(c, 400, 900),
             hold_ns = back_ns + plot_between(c, 60, 400);

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
    sim_after(c->sim, plot_between(c, 20, 60), term_go, p);
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
    p->other = stray ? plot_find_third(c, p->osd, stray, p->pgs[0]) : NULL;
    if (!p->other && c->sim->now_ns < p->until_ns && !c->quiet) {
        sim_after(c->sim, STAND_LOOK_NS, unwon_watch, p);
        return;
    }
    plot_hold_to_all(c, &p->osd->process, 0, true);
    if (!p->other) {
        plot_end(p);
        return;
    }
    uint64_t over_ns = c->timeout_ns + plot_between(c, 200, 700),
             hold_ns = over_ns + plot_between(c, 30, 300);
    sim_log(c->sim, "%s stands for a term that is %s's to win; what %s sends to that one is held up",
            stray->process.name, p->other->process.name, p->held->name);
    plot_hold_to_all(c, &stray->process, hold_ns, true);
    sim_net_hold(c->net, p->held->host, p->other->process.host, hold_ns, true);
    sim_net_set_path(c->net, p->held->host, p->osd->process.host, SIM_PATH_REJECT);
    sim_after(c->sim, plot_between(c, 5, 60), unwon_hears, p);
    sim_after(c->sim, over_ns, unwon_hand_over, p);
    sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, p);
}

/* ---- handed: the one who is told to campaign does so, and is heard late ---- */

/* When, by its own clock, the leader has told somebody to campaign. */
static uint64_t handed_ns(const struct cluster *c, const struct plot *p)
{
    uint64_t at_ns = 0;

    for (uint32_t i = 0; i < c->shard_count; i++) {
        const struct map_node *node = p->osd->shards[i] ? map_get(&p->osd->shards[i]->pgs, p->pgs[0]) : NULL;
        if (node)
            at_ns = MAX(at_ns, map_entry(node, struct pg, node)->raft.transfer_sent_ns);
    }
    return at_ns;
}

static void handed_watch(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;

    if (handed_ns(c, p) > p->other_ns) {
        uint64_t hold_ns = plot_between(c, 100, 2000);
        sim_log(c->sim, "%s has handed over to %s, which is heard late", p->osd->process.name,
                p->other->process.name);
        plot_hold_to_all(c, &p->other->process, hold_ns, sim_rng_below(&c->rng, 2));
        sim_after(c->sim, hold_ns + HOLD_MARGIN_NS, plot_end, p);
    } else if (c->sim->now_ns < p->until_ns && !c->quiet) {
        sim_after(c->sim, STAND_LOOK_NS, handed_watch, p);
    } else {
        plot_end(p);
    }
}

bool plot_handed(struct cluster *c)
{
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = plot_find_leader(c, pgs, &pg_count),
                       *other = osd ? plot_find_other(c, osd, pgs[0]) : NULL;

    if (!other)
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    p->other = other;
    p->pgs[0] = pgs[0];
    p->until_ns = c->sim->now_ns + NS_PER_S;
    p->other_ns = handed_ns(c, p);
    admin_ask(
        c, &(struct admin_job){.kind = ADMIN_JOB_MOVE, .pg = pgs[0], .osd = other->id, .tries = MOVE_TRIES});
    handed_watch(p);
    return true;
}

bool plot_unwon(struct cluster *c)
{
    struct cluster_client *writer = load_writer(c, (uint32_t)sim_rng_below(&c->rng, c->image_count));
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = plot_find_leader(c, pgs, &pg_count);

    if (!writer || !osd)
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    p->pgs[0] = pgs[sim_rng_below(&c->rng, pg_count)];
    p->held = &writer->process;
    p->until_ns = c->sim->now_ns + RAFT_CONFIG_DEFAULT.election_max_ns;
    plot_hold_to_all(c, &osd->process, RAFT_CONFIG_DEFAULT.election_max_ns, true);
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
    uint64_t delay_ns = plot_between(c, 0, 30);

    if (p->held)
        plot_hold_to_all(c, p->held, delay_ns, true);
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
    uint64_t hold_ns = plot_between(c, 120, 180);
    for (uint32_t i = 0; i < c->osd_count; i++)
        for (uint32_t j = 0; j < c->osd_count; j++)
            if (i != j)
                sim_net_hold(c->net, c->osds[i].process.host, c->osds[j].process.host, hold_ns, true);
    plot_hold_to_all(c, p->held, plot_between(c, 1, 60), true);
}

/* The writers are sent away, when some frames are stuck. */
static void resize_evict(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    bool remove = p->cut == 0;

    if (!admin_takes(c)) { /* what has shrunk, or is removed, is not to stay so */
        sim_after(c->sim, EVICT_AGAIN_NS, resize_evict, p);
        return;
    }
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
        plot_hold_to_all(c, p->held, HOLD_MAX_NS, true);
    p->cut =
        remove ? 0
               : (uint32_t)ALIGN_DOWN(sim_rng_range(&c->rng, c->image_sectors / 3, c->image_sectors * 3 / 4),
                                      BLOCK_SIZE / CLUSTER_SECTOR);
    sim_log(c->sim, "%s is to %s; what its writer sends is held up", c->images[p->image].name,
            remove ? "be removed" : "shrink");
    sim_after(c->sim, plot_between(c, 10, 50), resize_evict, p);
}

/* It has grown, with the writer at work, which has to attach anew before it writes on. */
static void resize_begin(struct cluster *c, const struct admin_job *job)
{
    c->resizes++;
    sim_after(c->sim, plot_between(c, 50, 300), resize_hold, job->owner);
}

bool plot_resize(struct cluster *c)
{
    uint32_t image = (uint32_t)sim_rng_below(&c->rng, c->image_count);

    if (!load_writer(c, image) || !admin_takes(c))
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
