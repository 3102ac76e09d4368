/* SPDX-License-Identifier: Apache-2.0
 *
 * Plots in which somebody is away, or cut off, for longer than the others wait for him: a leader, a replica,
 * all.
 */
#include "sim/cluster_plots.h"

#include <string.h>

#define RECOVERY_STATES  5
#define RECOVERY_LOOK_NS (200 * NS_PER_US)

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
bool plot_leader(struct cluster *c)
{
    uint64_t pgs[PLOT_PGS_MAX];
    uint32_t pg_count;
    struct cluster_osd *osd = plot_find_leader(c, pgs, &pg_count);
    bool writes = sim_rng_below(&c->rng, 3) == 0;
    uint64_t for_ns = writes ? plot_between(c, 300, 900) : plot_between(c, 600, 1200);

    if (!osd)
        return false;
    struct plot *p = plot_new(c);
    p->osd = osd;
    p->other = sim_rng_below(&c->rng, 3) ? plot_find_other(c, osd, pgs[0]) : NULL;
    uint64_t other_ns = plot_between(c, 250, 345);
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
        sim_after(c->sim, sim_rng_below(&c->rng, 2) ? 0 : plot_between(c, 0, 40), leader_mute, p);
    }
    for (uint32_t i = 0; i < c->writer_count && !writes; i++)
        sim_net_set_path(c->net, c->clients[i].process.host, osd->process.host, SIM_PATH_REJECT);
    for (uint32_t i = c->writer_count; i < c->client_count && p->other; i++)
        sim_net_hold(c->net, c->clients[i].process.host, osd->process.host, other_ns + plot_between(c, 2, 20),
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
    uint64_t away_ns = plot_between(c, 500, 2500);

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

bool plot_lag(struct cluster *c)
{
    struct cluster_osd *osd = &c->osds[sim_rng_below(&c->rng, c->osd_count)];
    uint64_t away_ns = plot_between(c, 500, 2500);

    if (sim_rng_below(&c->rng, 3) == 0) {
        struct plot *p = plot_new(c);
        p->cut = (uint32_t)sim_rng_below(&c->rng, RECOVERY_STATES);
        p->until_ns = c->sim->now_ns + NS_PER_S;
        /* Whose disk is damaged recovers when it has died, and its own log perhaps with it. */
        for (uint32_t i = 0; i < c->osd_count; i++)
            if (damage_is_victim(c, i))
                process_kill(&c->osds[i].process, SIM_CRASH_PROCESS, plot_between(c, 20, 200));
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
        uint32_t count = plot_find_led(c, peer, pgs);
        for (uint32_t j = 0; j < count && p->pg_count < PLOT_PGS_MAX; j++)
            if (plot_has_replica(c, osd, pgs[j]))
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
    sim_after(c->sim, away_ns + plot_between(c, 200, 600), lag_lead, p);
    return true;
}

/* ---- rest: everybody pauses until the groups are parked; then something happens, and all are back ---- */

static void rest_over(void *owner)
{
    load_pause(((struct plot *)owner)->c, false, false);
}

static void rest_wake(struct cluster *c, struct plot *p, uint64_t most_ms)
{
    uint64_t delay_ns = plot_between(c, 0, most_ms);

    sim_after(c->sim, delay_ns, rest_over, p);
    sim_after(c->sim, delay_ns + plot_between(c, 200, 600), plot_end, p);
}

/* Somebody else leads: readers ask the former leader, writers the new one, before the former one hears of it.
 */
static void rest_watch(void *owner)
{
    struct plot *p = owner;
    struct cluster *c = p->c;
    bool won = false;

    for (uint32_t i = 0; i < c->shard_count; i++)
        won |= p->other->shards[i] && plot_leads(p->other->shards[i], p->pgs[0]);
    if (!won && c->sim->now_ns < p->until_ns && !c->quiet) {
        sim_after(c->sim, NS_PER_MS, rest_watch, p);
        return;
    }
    /* What is written first is what a reader must not miss, when it is the first that wakes the former
     * leader. */
    load_pause(c, false, true);
    sim_after(c->sim, plot_between(c, 0, 80), rest_over, p);
    sim_after(c->sim, plot_between(c, 100, 400), leader_heal, p);
}

static void rest_usurp(struct cluster *c, struct plot *p)
{
    uint64_t for_ns = plot_between(c, 1500, 2500);

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

    p->osd = plot_find_leader(c, pgs, &pg_count);
    p->other = p->osd ? plot_find_other(c, p->osd, pgs[0]) : NULL;
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
        process_kill(&p->osd->process, SIM_CRASH_PROCESS, plot_between(c, 20, 800));
        rest_wake(c, p, 400);
        return;
    case 5:
        process_kill(&p->other->process, SIM_CRASH_POWER, plot_between(c, 20, 800));
        for (uint32_t i = 0; i < c->osd_count && sim_rng_below(&c->rng, 2); i++)
            if (&c->osds[i] != p->osd)
                process_kill(&c->osds[i].process, SIM_CRASH_POWER, plot_between(c, 20, 800));
        rest_wake(c, p, 400);
        return;
    case 6:
        sim_log(c->sim, "%s hangs at rest", p->osd->process.name);
        for (uint32_t i = 0; i < p->osd->process.node_count; i++)
            if (p->osd->process.nodes[i]->state == SIM_NODE_UP)
                sim_node_pause(p->osd->process.nodes[i]);
        sim_after(c->sim, plot_between(c, 100, 1500), rest_resume, &p->osd->process);
        rest_wake(c, p, 1500);
        return;
    default:
        /* One follower hears from the former leader first that it leads no more. */
        for (uint32_t i = 0; i < c->osd_count && sim_rng_below(&c->rng, 2); i++)
            if (&c->osds[i] != p->osd && &c->osds[i] != p->other)
                sim_net_hold(c->net, c->osds[i].process.host, p->other->process.host,
                             plot_between(c, 100, 900), true);
        admin_demote(c, p->osd->id);
        rest_wake(c, p, 100);
        return;
    }
}

bool plot_rest(struct cluster *c)
{
    struct plot *p = plot_new(c);

    load_pause(c, true, true);
    /* Somebody dies, perhaps, who has yet to get what was written last. */
    if (sim_rng_below(&c->rng, 4) == 0)
        process_kill(&c->osds[sim_rng_below(&c->rng, c->osd_count)].process, SIM_CRASH_PROCESS,
                     plot_between(c, 20, 4000));
    sim_after(c->sim, plot_between(c, 1500, 2600), rest_strike, p);
    return true;
}
