/* SPDX-License-Identifier: Apache-2.0
 *
 * The tick: ten times a second, and at once when something was reported that matters, what should change is
 * looked for; also whether memory has to be loaded anew.
 *
 *   IDLE -> TURN -> [LOADING] -> COMMITTING -> IDLE
 */
#include "mon/impl.h"

#include "base/plant.h"

#define STALE_REST_NS NS_PER_S /* between attempts to read or write the store after a failure */

enum tick_state { TICK_IDLE, TICK_TURN, TICK_LOADING, TICK_COMMITTING };

static const char *tick_state_name(int state)
{
    static const char *const names[] = {"idle", "turn", "loading", "committing"};
    return names[state];
}

void mon_settle_soon(struct mon *mon)
{
    mon->settle_soon = mon->settle_due = true;
    if (op_live(&mon->tick))
        op_wake(&mon->tick);
}

/* Memory may lack something, or nobody tells what is written. */
static bool must_load(const struct mon *mon)
{
    return mon->stale || (mon->config.meta->ops->lease && !mon->follow.watching);
}

/* What is watched, and whether we lead, begins with a load. One that began before we took the lead need not
 * show the last word of who led before: then the next tick loads once more. */
static void mon_reloaded(struct mon *mon)
{
    mon->reloaded = false;
    if (mon->load.from_revision < mon->lead.revision)
        return;
    mon_follow_start(mon);
    mon_lead_loaded(mon);
}

static void advance_clock(struct mon *mon)
{
    uint64_t now = core_now_ns(mon->core);

    mon->alive_ns +=
        PLANT(MON_COUNTS_STALLS) ? now - mon->tick_last_ns : MIN(now - mon->tick_last_ns, 2 * MON_TICK_NS);
    mon->tick_last_ns = now;
}

/* Puts what should change into tick_change. True: there is something, or what came of a former change is to
 * be settled. */
static bool tick_build(struct mon *mon)
{
    bool acts = mon_leads(mon) && !mon->behind[0];

    mon_change_fini(&mon->tick_change);
    mon_change_init(&mon->tick_change, mon);
    if (acts)
        mon_settle(mon, &mon->tick_change);
    if (!mon->tick_change.count)
        mon->settle_due = false;
    return mon->tick_change.count > 0 || (acts && mon->doubtful);
}

static void tick_rest(struct mon *mon, uint64_t rest_ns)
{
    mon_change_fini(&mon->tick_change);
    mon_turn_give(mon, &mon->tick_turn);
    mon->tick.child_result = 0;
    mon->tick.state = TICK_IDLE;
    if (!timer_armed(&mon->tick_timer))
        timer_arm(mon->core, &mon->tick_timer, &mon->tick, core_now_ns(mon->core) + rest_ns);
}

static void tick_step(struct op *op)
{
    struct mon *mon = container_of(op, struct mon, tick);

    for (;;) {
        if (op->children)
            return;
        if (mon->closing) {
            timer_cancel(mon->core, &mon->tick_timer);
            mon_change_fini(&mon->tick_change);
            mon_turn_give(mon, &mon->tick_turn);
            op_done(op, 0);
            mon_memory_free(mon);
            return;
        }
        switch ((enum tick_state)op->state) {
        case TICK_IDLE:
            if (timer_armed(&mon->tick_timer) && !mon->settle_soon)
                return;
            advance_clock(mon);
            if (mon->publish_due && !op_live(&mon->load.op)) /* else memory shows parts of changes */
                mon_publish(mon);
            if (mon_leads(mon)) {
                mon_leaders_balance(mon);
                mon_health_look(mon);
            }
            list_for_each (&mon->waiting, node)
                op_wake(&list_entry(node, struct mon_request, waiting)->op);
            if (!must_load(mon) && !tick_build(mon)) {
                mon->settle_soon = false;
                tick_rest(mon, MON_TICK_NS);
                return;
            }
            op->state = TICK_TURN;
            continue;
        case TICK_TURN:
            if (!mon_turn_take(mon, &mon->tick_turn, op))
                return;
            op->state = TICK_LOADING;
            mon->reloaded = must_load(mon);
            if (mon->reloaded) {
                mon_follow_stop(mon);
                mon_load_start(mon, false, op);
            }
            continue;
        case TICK_LOADING:
            if (op->child_result) {
                mon->settle_soon = false;
                tick_rest(mon, STALE_REST_NS);
                return;
            }
            if (mon->reloaded)
                mon_reloaded(mon);
            mon_publish(mon); /* if the load showed a change whose outcome was not known */
            if (!tick_build(mon)) {
                mon->settle_soon = false;
                tick_rest(mon, MON_TICK_NS);
                return;
            }
            mon_commit_start(mon, &mon->tick_change, op);
            op->state = TICK_COMMITTING;
            continue;
        case TICK_COMMITTING:
            mon->settle_soon = !op->child_result; /* look again: it may have been cut short; after an error at
                                                     the next tick */
            if (!op->child_result) {
                mon_settle_done(mon, &mon->tick_change);
                mon_publish(mon);
            }
            /* Its disk may be full: that is not tried, and all of it read anew, ten times a second. */
            bool again = !op->child_result || op->child_result == -ERR_CONFLICT;
            tick_rest(mon, again ? MON_TICK_NS : STALE_REST_NS);
            continue;
        }
    }
}

static const struct op_kind tick_kind = {"mon.tick", tick_state_name, tick_step};

void mon_tick_start(struct mon *mon)
{
    op_start(&mon->tick, mon->core, &tick_kind, NULL);
}
