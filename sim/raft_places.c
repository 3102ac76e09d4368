/* SPDX-License-Identifier: Apache-2.0
 *
 * Places where a replica may be: its clock, its disk, the network between them; and what is checked after
 * each step.
 */
#include "sim/raft_world.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

struct flight {
    struct sim_event event;
    struct world *world;
    struct raft_packet *packet;
};

/* ---- clocks ---- */

uint64_t world_local_ns(const struct place *p)
{
    uint64_t now_ns = p->world->sim->now_ns;

    return p->clock_base_ns + now_ns + (uint64_t)((int64_t)(now_ns / 1000) * p->drift_ppm / 1000);
}

bool world_paused(const struct place *p)
{
    return p->world->sim->now_ns < p->paused_until_ns;
}

void world_schedule(struct place *p, struct sim_event *event, uint64_t delay_ns)
{
    sim_unschedule(p->world->sim, event);
    sim_schedule(p->world->sim, event, delay_ns);
}

/* True: not now, the host hangs. */
static bool defer(struct place *p, struct sim_event *event)
{
    if (!world_paused(p))
        return false;
    world_schedule(p, event, p->paused_until_ns - p->world->sim->now_ns + 1);
    return true;
}

/* ---- checkers ---- */

static void check_lease(struct place *p)
{
    struct world *w = p->world;
    struct raft *r = &p->host.raft;

    if (!p->host.up || r->role != RAFT_LEADER)
        return;
    if (raft_lease_valid(r, world_local_ns(p))) {
        w->lease_checks++;
        if (r->commit_index < w->checker.commit_max)
            sim_fail(w->sim, "lease: %u in term %lu reads at %lu, but %lu is committed", p->host.replica,
                     r->term, r->commit_index, w->checker.commit_max);
        if (r->term < w->led_term)
            sim_fail(w->sim, "lease: %u has it in term %lu, and somebody was elected in term %lu",
                     p->host.replica, r->term, w->led_term);
    }
    if (p->reading && r->term == p->read_term && raft_quorum_contact_ns(r, world_local_ns(p)) >= p->read_ns) {
        p->reading = false;
        w->reads++;
        if (p->read_commit < p->read_need)
            sim_fail(w->sim, "read index: %u in term %lu reads at %lu, but %lu was committed before",
                     p->host.replica, r->term, p->read_commit, p->read_need);
    }
}

/* A leader finds that a member has not what it acknowledged: then its disk has lost that. Only where messages
 * come in order can it know: an APPEND that reaches a member's next process late, of an earlier time than
 * what its former one rejects, makes it believe so. Connections do not do that. */
static void check_losses(struct place *p)
{
    struct world *w = p->world;
    const struct raft *r = &p->host.raft;

    if (w->fragile || sim_fault_intensity(w->sim, SIM_FAULT_NET_DUP) ||
        sim_fault_intensity(w->sim, SIM_FAULT_NET_REORDER))
        return;
    for (uint32_t i = 0; p->host.up && r->role == RAFT_LEADER && i < r->member_count; i++) {
        const struct place *member = world_place(w, r->members[i].replica);

        if (r->members[i].lost && member && !member->losses)
            sim_fail(w->sim, "%u takes %u for one that has lost what it acknowledged", p->host.replica,
                     member->host.replica);
    }
}

static void check_all(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        check_lease(&w->places[i]);
        check_losses(&w->places[i]);
    }
}

static bool has_granted(const struct place *p, uint32_t replica)
{
    for (uint32_t i = 0; i < p->granted_count; i++)
        if (p->granted_by[i] == replica)
            return true;
    return false;
}

static void note_granted(struct place *p, uint32_t replica, uint64_t asked_ns)
{
    if (p->round_ns != asked_ns)
        p->granted_count = 0;
    p->round_ns = asked_ns;
    if (!has_granted(p, replica) && p->granted_count < RAFT_MEMBERS_MAX)
        p->granted_by[p->granted_count++] = replica;
}

/* A term is raised by hand-over, or by those whom a majority has granted it in this very round. */
static void check_round(struct place *p, uint64_t asked_ns)
{
    const struct raft *r = &p->host.raft;
    uint32_t voters = 0, granted = 0;

    for (uint32_t i = 0; i < r->group.count; i++) {
        uint32_t voter = r->group.members[i].replica;
        if (!(r->group.members[i].flags & GROUP_VOTER))
            continue;
        voters++;
        granted += voter == p->host.replica || (p->round_ns == asked_ns && has_granted(p, voter));
    }
    if (granted < voters / 2 + 1)
        sim_fail(p->world->sim, "pre-vote: %u raises the term to %lu, and %u of %u voters have granted it",
                 p->host.replica, r->term, granted, voters);
}

static void on_appended(void *owner, struct raft_host *h, uint64_t first, uint64_t last)
{
    raft_checker_appended(&((struct world *)owner)->checker, h, first, last);
}

static void on_role(void *owner, struct raft_host *h)
{
    static const char *const names[] = {"follows", "asks for pre-votes", "is a candidate", "leads"};
    struct world *w = owner;
    const struct raft *r = &h->raft;

    sim_log(w->sim, "%u %s in term %lu", h->replica, names[r->role], r->term);
    if (r->role != RAFT_LEADER)
        return;
    w->led_term = MAX(w->led_term, r->term);
    w->elections++;
    raft_checker_led(&w->checker, h);
    if (!w->quiet && sim_rng_below(&w->rng, 100) < w->coup_percent) {
        w->coup_on = container_of(h, struct place, host);
        sim_unschedule(w->sim, &w->coup);
        sim_schedule(w->sim, &w->coup,
                     sim_rng_below(&w->rng, sim_rng_below(&w->rng, 2) ? 200 * NS_PER_US : NS_PER_MS));
    }
}

static void on_committed(void *owner, struct raft_host *h, uint64_t before)
{
    struct world *w = owner;

    for (uint64_t i = MAX(before + 1, h->raft.first_index); i <= h->raft.commit_index; i++) {
        const struct group *group = h->log[i].group;

        if (group && group->index == i && i > w->committed->index)
            w->committed = group;
    }
    raft_checker_committed(&w->checker, h, before);
    sim_trace(w->sim, "commit", h->replica, h->raft.commit_index);
}

/* ---- inputs to a host, and what follows from them ---- */

static void write_schedule(struct place *p, enum raft_host_queue queue)
{
    struct world *w = p->world;
    uint64_t delay_ns = sim_rng_latency(&w->disk_rng, 20 * NS_PER_US, 100 * NS_PER_US);

    if (!p->host.queue[queue] || p->writes[queue].heap_index)
        return;
    if (w->storm && !w->quiet && queue == RAFT_HOST_QUEUE_VOTE && sim_rng_below(&w->disk_rng, 2))
        delay_ns += sim_rng_below(&w->disk_rng, 3 * NS_PER_MS);
    if (!w->quiet && w->sim->now_ns < p->slow_disk_until_ns)
        delay_ns += sim_rng_below(&w->disk_rng, 100 * NS_PER_MS);
    sim_schedule(w->sim, &p->writes[queue], delay_ns);
}

/* After every input. */
void world_settle(struct place *p)
{
    struct world *w = p->world;
    uint64_t now_ns = world_local_ns(p), deadline_ns;

    if (p->host.up) {
        deadline_ns = raft_deadline_ns(&p->host.raft);
        if (deadline_ns == UINT64_MAX)
            sim_unschedule(w->sim, &p->tick);
        else
            world_schedule(p, &p->tick,
                           MAX(deadline_ns, now_ns) - now_ns + sim_rng_below(&w->rng, NS_PER_MS));
        write_schedule(p, RAFT_HOST_QUEUE_VOTE);
        write_schedule(p, RAFT_HOST_QUEUE_LOG);
    }
    check_all(w);
}

void world_tick_fire(struct sim_event *event)
{
    struct place *p = container_of(event, struct place, tick);

    if (defer(p, event))
        return;
    raft_host_tick(&p->host, world_local_ns(p));
    world_settle(p);
}

void world_beat_fire(struct sim_event *event)
{
    struct place *p = container_of(event, struct place, beat);

    if (defer(p, event))
        return;
    raft_host_heartbeat(&p->host, world_local_ns(p));
    sim_schedule(p->world->sim, event, p->host.config.heartbeat_ns);
    world_settle(p);
}

static void write_fire(struct place *p, enum raft_host_queue queue)
{
    uint64_t n = sim_rng_range(&p->world->disk_rng, 1, 4);

    if (defer(p, &p->writes[queue]))
        return;
    while (n-- && raft_host_write_done(&p->host, queue, world_local_ns(p)))
        ;
    world_settle(p);
}

void world_write_vote_fire(struct sim_event *event)
{
    write_fire(container_of(event, struct place, writes[RAFT_HOST_QUEUE_VOTE]), RAFT_HOST_QUEUE_VOTE);
}

void world_write_log_fire(struct sim_event *event)
{
    write_fire(container_of(event, struct place, writes[RAFT_HOST_QUEUE_LOG]), RAFT_HOST_QUEUE_LOG);
}

/* ---- network ---- */

struct place *world_place(struct world *w, uint32_t replica)
{
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->places[i].host.replica == replica)
            return &w->places[i];
    }
    return NULL;
}

static void flight_drop(struct sim_event *event)
{
    struct flight *f = container_of(event, struct flight, event);

    free(f->packet);
    free(f);
}

static void flight_fire(struct sim_event *event)
{
    struct flight *f = container_of(event, struct flight, event);
    struct place *p = world_place(f->world, f->packet->msg.to);

    if (p && p->host.up && defer(p, event))
        return;
    if (p && p->host.up) {
        sim_trace(f->world->sim, "message", hash_pair(f->packet->msg.from, f->packet->msg.to),
                  hash_pair(f->packet->msg.type, f->packet->msg.index));
        f->world->installs += (uint32_t)f->packet->msg.type == RAFT_HOST_STATE;
        const struct raft_msg *msg = &f->packet->msg;
        uint64_t asked_ns = p->host.raft.asked_ns;
        bool asks = p->host.raft.role == RAFT_PRE_CANDIDATE && msg->type == RAFT_PRE_VOTE_REPLY;
        if (asks && !msg->reject && msg->sent_ns == asked_ns)
            note_granted(p, msg->from, asked_ns);
        raft_host_step(&p->host, f->packet, world_local_ns(p));
        if (asks && p->host.raft.role == RAFT_CANDIDATE)
            check_round(p, asked_ns);
        world_settle(p);
    }
    flight_drop(event);
}

static void launch(struct world *w, struct raft_packet *packet, uint64_t delay_ns)
{
    struct flight *f = calloc(1, sizeof *f);

    ASSERT(f);
    f->world = w;
    f->packet = packet;
    f->event.fire = flight_fire;
    f->event.drop = flight_drop;
    sim_schedule(w->sim, &f->event, delay_ns);
}

static struct raft_packet *packet_copy(const struct raft_packet *packet)
{
    uint64_t entries = packet->msg.entries ? packet->msg.last - packet->msg.index : 0;
    size_t size = sizeof *packet + entries * sizeof packet->entries[0];
    struct raft_packet *copy = malloc(size);

    ASSERT(copy);
    memcpy(copy, packet, size);
    copy->msg.entries = entries ? copy->entries : NULL;
    return copy;
}

/* True with a probability that grows with the fault's intensity, `max_ppm` at most. */
static bool fault_happens(struct world *w, enum sim_fault fault, uint32_t max_ppm)
{
    if (w->quiet || !sim_rng_chance(&w->net_rng, max_ppm / 100 * sim_fault_intensity(w->sim, fault)))
        return false;
    sim_injected(w->sim, fault);
    return true;
}

static void on_send(void *owner, struct raft_host *h, struct raft_packet *packet)
{
    struct world *w = owner;
    const struct place *place = world_place(w, packet->msg.to);
    uint32_t from = container_of(h, struct place, host)->number, to = place ? place->number : from;
    uint64_t delay_ns = sim_rng_latency(&w->net_rng, 20 * NS_PER_US, 100 * NS_PER_US), due_ns;

    if (!place || w->cut[from][to] || fault_happens(w, SIM_FAULT_NET_LOSS, 300000)) {
        free(packet);
        return;
    }
    if (fault_happens(w, SIM_FAULT_NET_SLOW, 200000))
        delay_ns += sim_rng_below(&w->net_rng, 50 * NS_PER_MS);
    /* A state takes long; entries that are sent meanwhile may come before it. */
    if (w->fragile && !w->quiet && (uint32_t)packet->msg.type == RAFT_HOST_STATE) {
        launch(w, packet, delay_ns + sim_rng_below(&w->net_rng, 60 * NS_PER_MS));
        return;
    }
    if (fault_happens(w, SIM_FAULT_NET_DUP, 200000) ||
        (w->fragile && !w->quiet && sim_rng_below(&w->net_rng, 4) == 0))
        launch(w, packet_copy(packet), delay_ns + sim_rng_below(&w->net_rng, 500 * NS_PER_MS));
    if (fault_happens(w, SIM_FAULT_NET_REORDER, 200000)) {
        launch(w, packet, delay_ns + sim_rng_below(&w->net_rng, 300 * NS_PER_MS));
        return;
    }
    /* Otherwise in order, as on a connection. */
    due_ns = MAX(w->sim->now_ns + delay_ns, w->link_busy_ns[from][to]);
    w->link_busy_ns[from][to] = due_ns;
    launch(w, packet, due_ns - w->sim->now_ns);
}

static uint64_t on_value(void *owner)
{
    return ++((struct world *)owner)->value;
}

static enum raft_host_hindrance on_hindrance(void *owner, struct raft_host *h)
{
    if (fault_happens(owner, SIM_FAULT_NET_SLOW, 100000))
        return RAFT_HOST_BUSY;
    return fault_happens(owner, SIM_FAULT_DISK_SLOW, 100000) ? RAFT_HOST_NOTHING : RAFT_HOST_FREE;
}

static uint64_t on_takes(void *owner, struct raft_host *h, uint64_t first, uint64_t last)
{
    struct world *w = owner;

    if (!w->scarce || w->quiet || sim_rng_below(&w->room_rng, 8))
        return last;
    return sim_rng_range(&w->room_rng, first - 1, last);
}

const struct group *world_on_group(void *owner, const struct group *group)
{
    struct world *w = owner;
    struct group *copy = malloc(sizeof *copy);

    ASSERT(copy && w->group_count < GROUPS_MAX);
    *copy = *group;
    return w->groups[w->group_count++] = copy;
}

static void on_healed(void *owner, struct raft_host *h)
{
    raft_checker_healed(&((struct world *)owner)->checker);
}

const struct raft_host_hooks WORLD_HOOKS = {on_send,  on_appended, on_role,        on_committed, on_hindrance,
                                            on_takes, on_value,    world_on_group, on_healed};
