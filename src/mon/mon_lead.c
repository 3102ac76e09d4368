/* SPDX-License-Identifier: Apache-2.0
 *
 * Who leads.
 *
 * Every monitor holds a lease of the metadata store and keeps a key of its own under it, by which the others
 * know that it is there. The key "cluster/leader" belongs to the one that leads, under the same lease, put
 * once: its revision is a condition of all that the monitor writes (mon_fence()). Where that key is missing
 * everybody tries to put it, and one succeeds.
 *
 *   GRANT -> ENTER -> HOLD <-> RENEW, TAKE      HOLD, ENTER, TAKE -> LEAVE (the lease is given back) -> PAUSE
 * -> GRANT
 *
 * A monitor leads from the end of the load that follows TAKE until the key is not its own any more, or the
 * lease could have ended: it counts from when it sent the last renewal that succeeded. Then it follows, and
 * closes all sessions, so that whoever relied on it looks for the new one. The old process of a monitor that
 * was killed cannot come back under the same address: its lease is given back by the new one, which need not
 * wait for its end.
 *
 * On a store without leases there is one monitor, which always leads; none of this runs.
 */
#include "mon/impl.h"

#include <stdio.h>
#include <string.h>

#include "base/plant.h"

#define RENEWALS       5 /* in the time of the lease */
#define RENEW_AGAIN_NS (200 * NS_PER_MS)
#define TAKE_AGAIN_NS  (200 * NS_PER_MS)
#define PAUSE_NS       (500 * NS_PER_MS)
/* What no key has. 0, which stands for a key that is not there, would let a change go on while nobody leads.
 */
#define NEVER_REVISION ((uint64_t)INT64_MAX)

enum lead_state {
    LEAD_GRANT,
    LEAD_GRANTED,
    LEAD_ENTERED,
    LEAD_HOLD,
    LEAD_RENEWED,
    LEAD_TAKEN,
    LEAD_LEAVE,
    LEAD_LEFT,
    LEAD_PAUSE
};

static const char *lead_state_name(int state)
{
    static const char *const names[] = {"grant",  "granting", "entering", "hold", "renewing",
                                        "taking", "leave",    "leaving",  "pause"};
    return names[state];
}

static bool has_leases(const struct mon *mon)
{
    return mon->config.meta->ops->lease != NULL;
}

bool mon_leads(const struct mon *mon)
{
    return mon->leads && (!has_leases(mon) || core_now_ns(mon->core) < mon->lead.until_ns);
}

uint32_t mon_fence(const struct mon *mon, uint64_t state_revision, struct meta_condition ret[2])
{
    ret[0] = (struct meta_condition){.key = "cluster", .mod_revision = state_revision};
    if (!has_leases(mon) || PLANT(MON_NO_FENCE))
        return 1;
    ret[1] = (struct meta_condition){
        .key = MON_LEADER_KEY, .mod_revision = mon->lead.revision ? mon->lead.revision : NEVER_REVISION};
    return 2;
}

/* ---- beginning and ending to lead ---- */

/* Calls that wait find out by themselves, when it is their turn. */
void mon_lead_end(struct mon *mon, const char *why)
{
    struct mon_lead *l = &mon->lead;

    if (!l->revision)
        return;
    core_log(mon->core, LOG_WARN, "mon", "does not lead any more: %s", why);
    l->revision = 0;
    l->spent = true;
    mon_follow_stop(mon); /* the load that comes begins to follow */
    if (!mon->leads)
        return;
    mon->leads = false;
    mon_sessions_close(mon);
    list_for_each (&mon->waiting, node)
        op_wake(&list_entry(node, struct mon_request, waiting)->op);
    mon_settle_soon(mon);
}

static void lead_begin(struct mon *mon)
{
    Fb__MonEvent event = FB__MON_EVENT__INIT;

    if (!PLANT(MON_KEEPS_CLOCK)) {
        mon->alive_ns = MON_TICK_NS;
        mon_soft_reset(mon);
    }
    mon->tick_last_ns = core_now_ns(mon->core);
    mon->proven = false;
    mon->witness_ns = 0;
    mon_osd_witnesses(mon);
    mon->leads = true;
    mon_settle_soon(mon);
    core_log(mon->core, LOG_INFO, "mon", "leads from now on: epoch %llu",
             (unsigned long long)mon->state.epoch);
    event.leader = mon->own_address;
    list_for_each_safe (&mon->sessions, node) {
        struct mon_session *s = list_entry(node, struct mon_session, link);
        /* An OSD says what it knows in its handshake: to the one that leads. */
        if (rpc_session_identity(s->rpc)->role == RPC_OSD)
            rpc_session_close(s->rpc);
        else if (s->subscribed)
            mon_event_send(mon, s, &event);
    }
}

void mon_lead_loaded(struct mon *mon)
{
    if (mon->lead.revision && !mon->leads && core_now_ns(mon->core) < mon->lead.until_ns)
        lead_begin(mon);
    if (has_leases(mon) && op_live(&mon->lead.op))
        op_wake(&mon->lead.op);
}

void mon_lead_look(struct mon *mon)
{
    if (!has_leases(mon))
        return;
    if (mon->lead.revision && mon->follow.leader_revision != mon->lead.revision)
        mon_lead_end(mon, mon->follow.leader[0] ? "another monitor does" : "the lease has ended");
    if (op_live(&mon->lead.op))
        op_wake(&mon->lead.op);
}

/* ---- requests ---- */

static void lease_send(struct mon *mon, enum meta_lease_verb verb, enum lead_state then)
{
    struct mon_lead *l = &mon->lead;

    l->sent_ns = core_now_ns(mon->core);
    l->lease = (struct meta_lease){
        .verb = verb, .ttl_ns = mon->config.lease_ns, .id = l->id, .waiter = &l->op, .pending = true};
    mon->config.meta->ops->lease(mon->config.meta, &l->lease);
    l->op.state = then;
}

/* Puts a key that says who we are, under the lease. `fresh`: only if it is not there. */
static void key_put(struct mon *mon, const char *key, bool fresh, enum lead_state then)
{
    struct mon_lead *l = &mon->lead;
    Fb__MonLease value = FB__MON_LEASE__INIT;

    value.address = mon->own_address;
    value.lease = l->id;
    value.version = (char *)mon->config.version;
    value.since_us = mon->core->env->wall_us(mon->core->env_self);
    ASSERT(fb__mon_lease__get_packed_size(&value) <= sizeof(l->value));
    snprintf(l->key, sizeof(l->key), "%s", key);
    l->change = (struct meta_change){.key = l->key,
                                     .value = l->value,
                                     .value_len = (uint32_t)fb__mon_lease__pack(&value, l->value),
                                     .lease = l->id};
    l->condition = (struct meta_condition){.key = l->key};
    l->txn = (struct meta_txn){.conditions = &l->condition,
                               .condition_count = fresh,
                               .changes = &l->change,
                               .change_count = 1,
                               .waiter = &l->op,
                               .pending = true};
    mon->config.meta->ops->txn(mon->config.meta, &l->txn);
    l->op.state = then;
}

static void lead_pause(struct mon *mon)
{
    timer_arm(mon->core, &mon->lead.timer, &mon->lead.op, core_now_ns(mon->core) + PAUSE_NS);
    mon->lead.op.state = LEAD_PAUSE;
}

/* What the answer to a renewal says. */
static void renewed(struct mon *mon)
{
    struct mon_lead *l = &mon->lead;

    l->op.state = LEAD_HOLD;
    if (l->lease.result == 0) {
        l->until_ns = l->sent_ns + mon->config.lease_ns;
        l->renew_ns = l->sent_ns + mon->config.lease_ns / RENEWALS;
    } else if (l->lease.result == -ERR_NOT_FOUND) {
        mon_lead_end(mon, "the lease has ended");
        l->id = 0;
        l->op.state = LEAD_GRANT;
    } else {
        l->renew_ns = core_now_ns(mon->core) + RENEW_AGAIN_NS;
    }
}

static void taken(struct mon *mon)
{
    struct mon_lead *l = &mon->lead;

    if (l->txn.result == 0) {
        l->revision = mon->follow.leader_revision = l->txn.ret_revision;
        mon->doubtful = false; /* our key is a new one */
        snprintf(mon->follow.leader, sizeof(mon->follow.leader), "%s", mon->own_address);
        mon_follow_stop(mon); /* the load that comes begins to lead */
        mon_settle_soon(mon);
        l->op.state = LEAD_HOLD;
    } else if (l->txn.result == -ERR_CONFLICT) { /* another one was faster: the watch will tell */
        l->take_ns = core_now_ns(mon->core) + TAKE_AGAIN_NS;
        l->op.state = LEAD_HOLD;
    } else {
        l->op.state = LEAD_LEAVE; /* perhaps it is put: then it goes with the lease */
    }
}

/* True: something was begun. */
static bool hold(struct mon *mon)
{
    struct mon_lead *l = &mon->lead;
    uint64_t now_ns = core_now_ns(mon->core);
    bool vacant = !mon->follow.leader[0] && !l->revision && mon->follow.watching;

    if (mon->closing || l->spent || now_ns >= l->until_ns) {
        mon_lead_end(mon, mon->closing ? "it is stopping" : "the metadata store does not answer");
        l->op.state = LEAD_LEAVE;
        return true;
    }
    if (now_ns >= l->renew_ns) {
        lease_send(mon, META_LEASE_RENEW, LEAD_RENEWED);
        return true;
    }
    if (vacant && now_ns >= l->take_ns) {
        key_put(mon, MON_LEADER_KEY, true, LEAD_TAKEN);
        return true;
    }
    uint64_t next_ns = vacant ? MIN(l->renew_ns, l->take_ns) : l->renew_ns;
    timer_arm(mon->core, &l->timer, &l->op, MIN(next_ns, l->until_ns));
    return false;
}

/* The end of the lease is noticed while a request is under way, too. */
static void watch_time(struct mon *mon)
{
    struct mon_lead *l = &mon->lead;

    if (!l->revision)
        return;
    if (core_now_ns(mon->core) >= l->until_ns)
        mon_lead_end(mon, "the metadata store does not answer");
    else
        timer_arm(mon->core, &l->timer, &l->op, l->until_ns);
}

static void lead_step(struct op *op)
{
    struct mon *mon = container_of(op, struct mon, lead.op);
    struct mon_lead *l = &mon->lead;
    char key[MON_TEXT_MAX + 16];

    for (;;) {
        if (l->lease.pending || l->txn.pending) {
            watch_time(mon);
            return;
        }
        switch ((enum lead_state)op->state) {
        case LEAD_GRANT:
            if (mon->closing) {
                timer_cancel(mon->core, &l->timer);
                op_done(op, 0);
                mon_memory_free(mon);
                return;
            }
            lease_send(mon, META_LEASE_GRANT, LEAD_GRANTED);
            continue;
        case LEAD_GRANTED:
            if (l->lease.result) {
                lead_pause(mon);
                continue;
            }
            l->id = l->lease.id;
            l->spent = false;
            l->until_ns = l->sent_ns + mon->config.lease_ns;
            l->renew_ns = l->sent_ns + mon->config.lease_ns / RENEWALS;
            snprintf(key, sizeof(key), "cluster/mon/%s", mon->own_address);
            key_put(mon, key, false, LEAD_ENTERED);
            continue;
        case LEAD_ENTERED:
            op->state = l->txn.result ? LEAD_LEAVE : LEAD_HOLD;
            continue;
        case LEAD_HOLD:
            if (!hold(mon))
                return;
            continue;
        case LEAD_RENEWED:
            renewed(mon);
            continue;
        case LEAD_TAKEN:
            taken(mon);
            continue;
        case LEAD_LEAVE:
            lease_send(mon, META_LEASE_REVOKE, LEAD_LEFT);
            l->id = 0;
            continue;
        case LEAD_LEFT:
            lead_pause(mon);
            continue;
        case LEAD_PAUSE:
            if (timer_armed(&l->timer) && !mon->closing)
                return;
            op->state = LEAD_GRANT;
            continue;
        }
    }
}

static const struct op_kind lead_kind = {"mon.lead", lead_state_name, lead_step};

void mon_lead_start(struct mon *mon)
{
    struct mon_lead *l = &mon->lead;

    if (!has_leases(mon)) { /* leads since it was made */
        mon_osd_witnesses(mon);
        return;
    }
    op_start(&l->op, mon->core, &lead_kind, NULL);
    for (uint32_t i = 0; i < mon->follow.present_count; i++)
        if (!strcmp(mon->follow.present[i].address, mon->own_address)) {
            l->id = mon->follow.present[i].lease;
            l->op.state = LEAD_LEAVE; /* it is of our former process */
        }
}
