/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes wrong at the monitors, at moments that matter: one dies or hangs while it writes a change or
 * reads all anew, perhaps for longer than its lease; and the metadata store forgets its history, so that who
 * follows has to read anew. Such moments are short: what strikes at random hardly ever meets them.
 */
#include "mon/impl.h"
#include "sim/cluster.h"

#include <stdlib.h>

#define EVERY_NS    (1500 * NS_PER_MS)
#define WATCH_NS    (400 * NS_PER_MS)
#define LOOK_NS     (50 * NS_PER_US)
#define HANG_MIN_NS (10 * NS_PER_MS)
#define HANG_MAX_NS (8 * NS_PER_S) /* a lease lasts 5 s */
#define AWAY_MIN_NS (20 * NS_PER_MS)
#define AWAY_MAX_NS (2 * NS_PER_S)

/* Someone who waits for a moment. */
struct moment {
    struct cluster *c;
    uint64_t until_ns;
    bool hangs, loads; /* or dies, or writes */
};

static void resume_fire(void *owner)
{
    struct process *p = owner;

    if (p->nodes[0]->state == SIM_NODE_PAUSED)
        sim_node_resume(p->nodes[0]);
}

static void strike(struct cluster *c, struct process *p, bool hangs)
{
    if (!hangs) {
        process_kill(p, SIM_CRASH_PROCESS, sim_rng_range(&c->mons_rng, AWAY_MIN_NS, AWAY_MAX_NS));
        sim_injected(c->sim, SIM_FAULT_CRASH);
        return;
    }
    sim_log(c->sim, "%s hangs", p->name);
    sim_node_pause(p->nodes[0]);
    sim_after(c->sim, sim_rng_range(&c->mons_rng, HANG_MIN_NS, HANG_MAX_NS), resume_fire, p);
    sim_injected(c->sim, SIM_FAULT_PAUSE);
}

static void moment_fire(void *owner)
{
    struct moment *m = owner;
    struct cluster *c = m->c;
    bool struck = false;

    for (uint32_t i = 0; i < c->mon_count && !c->quiet && !struck; i++) {
        const struct mon *mon = mon_at(c, i);
        struck = mon && c->mons[i].nodes[0]->state == SIM_NODE_UP &&
                 op_live(m->loads ? &mon->load.op : &mon->commit.op);
        if (struck)
            strike(c, &c->mons[i], m->hangs);
    }
    if (c->quiet || struck || c->sim->now_ns >= m->until_ns)
        free(m);
    else
        sim_after(c->sim, LOOK_NS, moment_fire, m);
}

static void mons_fire(void *owner)
{
    struct cluster *c = owner;
    uint32_t crash = sim_fault_intensity(c->sim, SIM_FAULT_CRASH);
    uint32_t pause = sim_fault_intensity(c->sim, SIM_FAULT_PAUSE);

    if (c->quiet)
        return;
    if (sim_fault_intensity(c->sim, SIM_FAULT_META) && sim_rng_below(&c->mons_rng, 2)) {
        sim_log(c->sim, "the metadata store forgets its history");
        sim_meta_compact(c->meta);
        sim_injected(c->sim, SIM_FAULT_META);
    }
    if (crash || pause) {
        struct moment *m = sim_alloc(sizeof(*m));
        *m = (struct moment){.c = c,
                             .until_ns = c->sim->now_ns + WATCH_NS,
                             .hangs = sim_rng_below(&c->mons_rng, crash + pause) >= crash,
                             .loads = sim_rng_below(&c->mons_rng, 4) == 0};
        moment_fire(m);
    }
    sim_after(c->sim, sim_rng_below(&c->mons_rng, 2 * EVERY_NS), mons_fire, c);
}

void mons_start(struct cluster *c)
{
    c->mons_rng = sim_rng_make(c->sim->seed, "cluster.mons", 0);
    sim_after(c->sim, sim_rng_below(&c->mons_rng, 2 * EVERY_NS), mons_fire, c);
}
