/* SPDX-License-Identifier: Apache-2.0
 *
 * One Raft group of 1 to 5 replicas, and up to 7 while its members change, on hosts that do nothing else
 * (raft_host.h), so that thousands of runs take seconds.
 *
 * Everything goes wrong for a while: messages are lost, repeated, late and out of order, links are cut both
 * ways or one way, hosts crash and lose what their disks had not written, hang, have slow disks and clocks of
 * different rates; leadership is handed over, logs are compacted; a minority of disks lose the end of their
 * log, acknowledged or not, while their host is down, and say so. Then the faults stop, and the group has to
 * work again. What is checked, the first five as in section 5 of the Raft paper:
 *
 *  - election safety: one leader per term;
 *  - log matching: two logs with the same index and term are equal up to there (each index carries
 *    the hash of the log up to it);
 *  - leader completeness: a new leader has all that was committed in earlier terms;
 *  - state machine safety: what is committed at an index is the same everywhere and for ever;
 *  - durability: by what is on the disks, nobody can be elected any more who does not have what is committed;
 *  - lease safety: whoever believes in its lease has all that was committed by anybody, at any moment; and a
 *    read confirmed by ReadIndex has all that was committed when it began;
 *  - liveness: after the faults one leader commits new entries, and all replicas get them; a leader that is
 *    killed or hangs is replaced in time.
 */
#include "sim/scenarios.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sim/raft_check.h"
#include "sim/raft_host.h"

#define HOSTS_MAX   7
#define GROUPS_MAX  256
#define FAULTY_NS   (4 * NS_PER_S)
#define WORKING_NS  (2 * NS_PER_S)
#define SETTLING_NS (1 * NS_PER_S)

struct world;

/* A host and what happens to it next. It may be empty, and may be used for one replica after the other. */
struct place {
    struct world *world;
    struct raft_host host; /* replica 0: empty */
    uint32_t number;
    uint64_t clock_base_ns;
    int64_t drift_ppm;
    uint64_t paused_until_ns, slow_disk_until_ns;
    struct sim_event tick, beat, start, writes[RAFT_HOST_QUEUES];
    bool reading; /* a ReadIndex under way */
    uint64_t read_ns, read_commit, read_need, read_term;
    uint64_t granted_ns[HOSTS_MAX]; /* when the round of pre-votes began that the replica at that place
                                       granted last */
};

struct world {
    struct sim *sim;
    struct sim_rng rng, net_rng, disk_rng;
    struct place places[HOSTS_MAX];
    uint32_t count;
    bool quiet, proposing;
    uint64_t fault_pause_ns, client_pause_ns; /* between two faults, two bursts of the client */
    uint64_t client_silent_until_ns;
    bool cut[HOSTS_MAX][HOSTS_MAX];
    uint64_t link_busy_ns[HOSTS_MAX][HOSTS_MAX];
    struct sim_event fault, client, coup, heal, change, frail;
    struct place *frail_on;
    bool storm;            /* elections all the time, and disks that take long to write a vote */
    bool fragile;          /* most restarts find the log damaged, and old answers come late */
    uint32_t coup_percent; /* how often something happens to a new leader */
    struct place *coup_on;
    uint32_t restless; /* mask of a pair: those outside of it crash again and again; 0: nobody does */
    uint64_t value;
    uint64_t change_pause_ns; /* between two changes of members; 0: none changes */
    uint32_t replica_max;     /* the highest number given to a replica */
    struct raft_config config;
    struct group *groups[GROUPS_MAX]; /* all that there ever were */
    uint32_t group_count;
    const struct group *committed; /* the newest of which that is known */

    struct raft_checker checker;
    uint64_t fallen_term, failover_ns;
    uint64_t elections, crashes, damages, transfers, changes, installs, lease_checks, reads;
};

struct flight {
    struct sim_event event;
    struct world *world;
    struct raft_packet *packet;
};

/* ---- clocks ---- */

static uint64_t local_ns(const struct place *p)
{
    uint64_t now_ns = p->world->sim->now_ns;

    return p->clock_base_ns + now_ns + (uint64_t)((int64_t)(now_ns / 1000) * p->drift_ppm / 1000);
}

static bool paused(const struct place *p)
{
    return p->world->sim->now_ns < p->paused_until_ns;
}

static void schedule(struct place *p, struct sim_event *event, uint64_t delay_ns)
{
    sim_unschedule(p->world->sim, event);
    sim_schedule(p->world->sim, event, delay_ns);
}

/* True: not now, the host hangs. */
static bool defer(struct place *p, struct sim_event *event)
{
    if (!paused(p))
        return false;
    schedule(p, event, p->paused_until_ns - p->world->sim->now_ns + 1);
    return true;
}

/* ---- checkers ---- */

static struct place *place_of(struct world *w, uint32_t replica);

static void check_lease(struct place *p)
{
    struct world *w = p->world;
    struct raft *r = &p->host.raft;

    if (!p->host.up || r->role != RAFT_LEADER)
        return;
    if (raft_lease_valid(r, local_ns(p))) {
        w->lease_checks++;
        if (r->commit_index < w->checker.commit_max)
            sim_fail(w->sim, "lease: %u in term %lu reads at %lu, but %lu is committed", p->host.replica,
                     r->term, r->commit_index, w->checker.commit_max);
    }
    if (p->reading && r->term == p->read_term && raft_quorum_contact_ns(r, local_ns(p)) >= p->read_ns) {
        p->reading = false;
        w->reads++;
        if (p->read_commit < p->read_need)
            sim_fail(w->sim, "read index: %u in term %lu reads at %lu, but %lu was committed before",
                     p->host.replica, r->term, p->read_commit, p->read_need);
    }
}

static void check_all(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        check_lease(&w->places[i]);
}

/* A term is raised by hand-over, or by those whom a majority has granted it in this very round. */
static void check_round(struct place *p, uint64_t asked_ns)
{
    struct world *w = p->world;
    const struct raft *r = &p->host.raft;
    uint32_t voters = 0, granted = 0;

    for (uint32_t i = 0; i < r->group.count; i++) {
        const struct place *voter = place_of(w, r->group.members[i].replica);
        if (!(r->group.members[i].flags & GROUP_VOTER))
            continue;
        voters++;
        granted += voter && (voter == p || p->granted_ns[voter->number] == asked_ns);
    }
    if (granted < voters / 2 + 1)
        sim_fail(w->sim, "pre-vote: %u raises the term to %lu, and %u of %u voters have granted it",
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
static void settle(struct place *p)
{
    struct world *w = p->world;
    uint64_t now_ns = local_ns(p), deadline_ns;

    if (p->host.up) {
        deadline_ns = raft_deadline_ns(&p->host.raft);
        if (deadline_ns == UINT64_MAX)
            sim_unschedule(w->sim, &p->tick);
        else
            schedule(p, &p->tick, MAX(deadline_ns, now_ns) - now_ns + sim_rng_below(&w->rng, NS_PER_MS));
        write_schedule(p, RAFT_HOST_QUEUE_VOTE);
        write_schedule(p, RAFT_HOST_QUEUE_LOG);
    }
    check_all(w);
}

static void tick_fire(struct sim_event *event)
{
    struct place *p = container_of(event, struct place, tick);

    if (defer(p, event))
        return;
    raft_host_tick(&p->host, local_ns(p));
    settle(p);
}

static void beat_fire(struct sim_event *event)
{
    struct place *p = container_of(event, struct place, beat);

    if (defer(p, event))
        return;
    raft_host_heartbeat(&p->host, local_ns(p));
    sim_schedule(p->world->sim, event, p->host.config.heartbeat_ns);
    settle(p);
}

static void write_fire(struct place *p, enum raft_host_queue queue)
{
    uint64_t n = sim_rng_range(&p->world->disk_rng, 1, 4);

    if (defer(p, &p->writes[queue]))
        return;
    while (n-- && raft_host_write_done(&p->host, queue, local_ns(p)))
        ;
    settle(p);
}

static void write_vote_fire(struct sim_event *event)
{
    write_fire(container_of(event, struct place, writes[RAFT_HOST_QUEUE_VOTE]), RAFT_HOST_QUEUE_VOTE);
}

static void write_log_fire(struct sim_event *event)
{
    write_fire(container_of(event, struct place, writes[RAFT_HOST_QUEUE_LOG]), RAFT_HOST_QUEUE_LOG);
}

/* ---- network ---- */

static struct place *place_of(struct world *w, uint32_t replica)
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
    struct place *p = place_of(f->world, f->packet->msg.to);

    if (p && p->host.up && defer(p, event))
        return;
    if (p && p->host.up) {
        sim_trace(f->world->sim, "message", hash_pair(f->packet->msg.from, f->packet->msg.to),
                  hash_pair(f->packet->msg.type, f->packet->msg.index));
        f->world->installs += (uint32_t)f->packet->msg.type == RAFT_HOST_STATE;
        const struct raft_msg *msg = &f->packet->msg;
        const struct place *from = place_of(f->world, msg->from);
        uint64_t asked_ns = p->host.raft.asked_ns;
        bool asks = p->host.raft.role == RAFT_PRE_CANDIDATE && msg->type == RAFT_PRE_VOTE_REPLY;
        if (asks && from && !msg->reject && msg->sent_ns == asked_ns)
            p->granted_ns[from->number] = asked_ns;
        raft_host_step(&p->host, f->packet, local_ns(p));
        if (asks && p->host.raft.role == RAFT_CANDIDATE)
            check_round(p, asked_ns);
        settle(p);
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
    const struct place *place = place_of(w, packet->msg.to);
    uint32_t from = container_of(h, struct place, host)->number, to = place ? place->number : from;
    uint64_t delay_ns = sim_rng_latency(&w->net_rng, 20 * NS_PER_US, 100 * NS_PER_US), due_ns;

    if (!place || w->cut[from][to] || fault_happens(w, SIM_FAULT_NET_LOSS, 300000)) {
        free(packet);
        return;
    }
    if (fault_happens(w, SIM_FAULT_NET_SLOW, 200000))
        delay_ns += sim_rng_below(&w->net_rng, 50 * NS_PER_MS);
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

static const struct group *on_group(void *owner, const struct group *group)
{
    struct world *w = owner;
    struct group *copy = malloc(sizeof *copy);

    ASSERT(copy && w->group_count < GROUPS_MAX);
    *copy = *group;
    return w->groups[w->group_count++] = copy;
}

static const struct raft_host_hooks HOOKS = {on_send,      on_appended, on_role, on_committed,
                                             on_hindrance, on_value,    on_group};

/* ---- crashes and other faults ---- */

static void peers_learn(struct place *p, bool new_incarnation)
{
    struct world *w = p->world;

    for (uint32_t i = 0; i < w->count; i++) {
        struct place *other = &w->places[i];

        if (other == p || !other->host.up || paused(other) || w->cut[p->number][i] ||
            (!w->quiet && sim_rng_below(&w->rng, 3) == 0))
            continue;
        raft_peer_lost(&other->host.raft, p->host.replica, new_incarnation, local_ns(other));
        raft_host_pump(&other->host, local_ns(other));
        settle(other);
    }
}

static void place_start(struct place *p, bool born_now)
{
    struct world *w = p->world;

    raft_host_start(&p->host, born_now, sim_rng_u64(&w->rng), local_ns(p));
    schedule(p, &p->beat, sim_rng_below(&w->rng, p->host.config.heartbeat_ns));
    if (!born_now) {
        sim_log(w->sim, "%u starts", p->host.replica);
        peers_learn(p, true);
    }
    settle(p);
}

/* The group that all replicas know; NULL: it is changing. */
static const struct group *settled_group(const struct world *w)
{
    const struct group *group = NULL;

    for (uint32_t i = 0; i < w->count; i++) {
        const struct raft_host *h = &w->places[i].host;

        if (!h->replica)
            continue;
        const struct group *own = raft_host_group(h);
        if (group_joint(own) || (group && own->index != group->index))
            return NULL;
        group = own;
    }
    return group && group->index <= w->checker.commit_max ? group : NULL;
}

/* As many as a group can lose and still elect. */
static bool damage_bearable(struct world *w)
{
    const struct group *group = settled_group(w);
    uint32_t voters = 0, damaged = 0;

    for (uint32_t i = 0; group && i < group->count; i++) {
        voters += group->members[i].flags != 0;
        damaged += group->members[i].flags && place_of(w, group->members[i].replica)->host.disk_damaged;
    }
    return group && damaged + 1 + voters / 2 + 1 <= voters;
}

static void damage(struct place *p)
{
    struct world *w = p->world;
    struct raft_host *h = &p->host;
    uint64_t lost = sim_rng_below(&w->disk_rng, sim_rng_below(&w->disk_rng, 2) ? 4 : 40);

    if (h->disk_damaged || !damage_bearable(w))
        return;
    lost = MIN(lost, h->disk_last - h->disk_base);
    w->damages++;
    sim_injected(w->sim, SIM_FAULT_DISK_ROT);
    sim_log(w->sim, "%u: the log is damaged above %lu of %lu", h->replica, h->disk_last - lost, h->disk_last);
    raft_host_damage(h, h->disk_last - lost);
}

static void start_fire(struct sim_event *event)
{
    struct place *p = container_of(event, struct place, start);

    if (!p->host.replica)
        return;
    uint32_t often = p->world->fragile ? 150 : sim_fault_intensity(p->world->sim, SIM_FAULT_DISK_ROT);
    if (!p->world->quiet && sim_rng_below(&p->world->disk_rng, 200) < often)
        damage(p);
    place_start(p, false);
}

static void place_crash(struct place *p, uint64_t down_ns)
{
    struct world *w = p->world;

    if (!p->host.up)
        return;
    sim_log(w->sim, "%u crashes", p->host.replica);
    w->crashes++;
    raft_host_crash(&p->host, &w->disk_rng);
    p->reading = false;
    p->paused_until_ns = p->slow_disk_until_ns = 0;
    sim_unschedule(w->sim, &p->tick);
    sim_unschedule(w->sim, &p->beat);
    for (uint32_t i = 0; i < RAFT_HOST_QUEUES; i++)
        sim_unschedule(w->sim, &p->writes[i]);
    sim_schedule(w->sim, &p->start, down_ns);
    peers_learn(p, false);
}

/* Mostly short: a restart while others still count on what the replica said before is where bugs are. */
static uint64_t down_time(struct world *w)
{
    return sim_rng_below(&w->rng, 4) ? sim_rng_below(&w->rng, 50 * NS_PER_MS)
                                     : sim_rng_below(&w->rng, NS_PER_S);
}

static void partition(struct world *w)
{
    uint32_t sides = (uint32_t)sim_rng_below(&w->rng, 1u << w->count);
    bool one_way = sim_rng_below(&w->rng, 3) == 0;

    memset(w->cut, 0, sizeof w->cut);
    if (sim_rng_below(&w->rng, 4) == 0)
        return;
    for (uint32_t a = 0; a < w->count; a++) {
        for (uint32_t b = 0; b < w->count; b++)
            w->cut[a][b] =
                one_way ? (sides >> a & 1) > (sides >> b & 1) : (sides >> a & 1) != (sides >> b & 1);
    }
    sim_log(w->sim, "partition %x%s", sides, one_way ? ", one way" : "");
}

static void hand_over(struct world *w, struct place *p)
{
    uint32_t to = w->places[sim_rng_below(&w->rng, w->count)].host.replica;

    if (raft_transfer(&p->host.raft, to, local_ns(p)) == 0) {
        w->transfers++;
        sim_log(w->sim, "%u hands over to %u", p->host.replica, p->host.raft.transfer_to);
    }
    raft_host_pump(&p->host, local_ns(p));
    settle(p);
}

/* ---- members come and go ---- */

static void change_members(struct world *w, struct place *leader, const struct group *target)
{
    int result = raft_host_change(&leader->host, target, local_ns(leader));

    w->changes += !result;
    if (!result)
        sim_log(w->sim, "%u changes the group, at %lu", leader->host.replica, leader->host.raft.group.index);
    settle(leader);
}

/* An empty place gets a replica. It knows the group as the leader knows it now. */
static void add_replica(struct world *w, struct place *leader, struct place *empty)
{
    struct group group = leader->host.raft.group, born;

    if (group.count == RAFT_MEMBERS_MAX)
        return;
    group.members[group.count].replica = ++w->replica_max;
    group.members[group.count++].flags = 0;
    born = group;
    born.index = 0;
    raft_host_init(&empty->host, w->replica_max, on_group(w, &born), &w->config, &HOOKS, w);
    place_start(empty, false);
    change_members(w, leader, &group);
}

/* Out of what is committed for good: by order, what it holds is thrown away. */
static void drop_replica(struct place *p)
{
    struct world *w = p->world;

    sim_log(w->sim, "%u is removed", p->host.replica);
    raft_host_fini(&p->host);
    p->host.replica = 0;
    p->reading = false;
    p->paused_until_ns = p->slow_disk_until_ns = 0;
    sim_unschedule(w->sim, &p->tick);
    sim_unschedule(w->sim, &p->beat);
    sim_unschedule(w->sim, &p->start);
    for (uint32_t i = 0; i < RAFT_HOST_QUEUES; i++)
        sim_unschedule(w->sim, &p->writes[i]);
}

static bool is_member(const struct group *group, uint32_t replica)
{
    for (uint32_t i = 0; i < group->count; i++) {
        if (group->members[i].replica == replica)
            return true;
    }
    return false;
}

/* All replicas that are in no group any more, of those that may yet be in force. */
static void drop_strangers(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];
        bool wanted = !p->host.replica || is_member(w->committed, p->host.replica);

        for (uint32_t j = 0; j < w->count && !wanted; j++) {
            const struct raft_host *h = &w->places[j].host;
            wanted = h->replica && j != i && raft_host_group(h)->index > w->committed->index &&
                     is_member(raft_host_group(h), p->host.replica);
        }
        if (!wanted)
            drop_replica(p);
    }
}

/* What an operator may want of a group that works: one more, one less, another in the place of one. */
static void change_something(struct world *w, struct place *leader)
{
    struct group target = leader->host.raft.group;
    struct place *p = &w->places[sim_rng_below(&w->rng, w->count)];
    uint32_t voters = 0, at = 0;

    for (uint32_t i = 0; i < w->count; i++) {
        if (w->places[i].host.disk_damaged)
            return; /* first things first */
    }
    if (w->group_count + 4 > GROUPS_MAX)
        return;
    if (sim_rng_below(&w->rng, 3) == 0)
        drop_strangers(w);
    if (!leader->host.replica)
        return;
    if (!p->host.replica) {
        add_replica(w, leader, p);
        return;
    }
    while (at < target.count && target.members[at].replica != p->host.replica)
        at++;
    for (uint32_t i = 0; i < target.count; i++)
        voters += target.members[i].flags != 0;
    if (at == target.count)
        return;
    if (!target.members[at].flags && sim_rng_below(&w->rng, 4)) {
        target.members[at].flags = GROUP_VOTER;
        at = (uint32_t)sim_rng_below(&w->rng, target.count); /* and in the same step another goes, or not */
        if (!target.members[at].flags || sim_rng_below(&w->rng, 2)) {
            change_members(w, leader, &target);
            return;
        }
    } else if (target.members[at].flags && voters <= 2) {
        return;
    }
    if (sim_rng_below(&w->rng, 4) == 0)
        target.members[at].flags = 0; /* stays as a learner */
    else
        target.members[at] = target.members[--target.count];
    change_members(w, leader, &target);
}

static void change_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, change);

    if (w->quiet)
        return;
    sim_schedule(w->sim, event, sim_rng_below(&w->rng, w->change_pause_ns));
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        if (p->host.up && !paused(p) && p->host.raft.role == RAFT_LEADER)
            change_something(w, p);
    }
}

static bool turn(struct world *w, enum sim_fault fault)
{
    bool strikes = sim_rng_below(&w->rng, 300) < sim_fault_intensity(w->sim, fault);

    if (strikes)
        sim_injected(w->sim, fault);
    return strikes;
}

static void cut_off(struct world *w, const struct place *p, uint64_t duration_ns)
{
    for (uint32_t i = 0; i < w->count; i++)
        w->cut[p->number][i] = w->cut[i][p->number] = i != p->number;
    sim_unschedule(w->sim, &w->heal);
    sim_schedule(w->sim, &w->heal, duration_ns);
}

static void heal_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, heal);

    memset(w->cut, 0, sizeof w->cut);
}

/* Something happens just when a leader has been elected: it dies, or is cut off and dies later, or is cut off
 * and those who have elected it die. Rare by chance alone, and the moment when most can go wrong. */
static void coup_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, coup);
    struct place *leader = w->coup_on;
    uint64_t kind = sim_rng_below(&w->rng, 4);

    if (w->quiet || !leader->host.up)
        return;
    if (kind >= 1) {
        /* Its connections break, and it lives on: others stand up as soon as their promises have run out. */
        if (sim_rng_below(&w->rng, 2))
            peers_learn(leader, false);
        cut_off(w, leader, sim_rng_below(&w->rng, 800 * NS_PER_MS));
        sim_log(w->sim, "%u is cut off", leader->host.replica);
    }
    if (kind <= 1)
        place_crash(leader, sim_rng_below(&w->rng, 400 * NS_PER_MS));
    for (uint32_t i = 0; i < w->count && kind == 2; i++) {
        if (&w->places[i] != leader)
            place_crash(&w->places[i], sim_rng_below(&w->rng, 5 * NS_PER_MS));
    }
}

/* A pair that does not hear each other; the others, who hear both, come and go. */
static void triangle(struct world *w)
{
    uint32_t a = (uint32_t)sim_rng_below(&w->rng, w->count), b = (uint32_t)sim_rng_below(&w->rng, w->count);

    if (a == b)
        return;
    memset(w->cut, 0, sizeof w->cut);
    w->cut[a][b] = w->cut[b][a] = true;
    w->restless = (1u << a) | (1u << b);
    w->client_silent_until_ns = w->sim->now_ns + 500 * NS_PER_MS;
    sim_unschedule(w->sim, &w->heal);
    sim_log(w->sim, "%u and %u are cut off from each other", a + 1, b + 1);
}

/* One follower is what the leader commits with; it dies and forgets the end of its log while that is not
 * durable at the leader, or while what it said is still on its way. */
static void frail(struct world *w, struct place *leader)
{
    struct place *p = &w->places[sim_rng_below(&w->rng, w->count)];
    uint64_t for_ns = sim_rng_range(&w->rng, 50 * NS_PER_MS, 400 * NS_PER_MS);

    if (p == leader || !p->host.up || !leader->host.up || leader->host.raft.role != RAFT_LEADER)
        return;
    memset(w->cut, 0, sizeof w->cut);
    for (uint32_t i = 0; i < w->count; i++)
        for (uint32_t j = 0; j < w->count; j++)
            w->cut[i][j] = (i == leader->number || i == p->number) != (j == leader->number || j == p->number);
    sim_unschedule(w->sim, &w->heal);
    sim_schedule(w->sim, &w->heal, for_ns);
    leader->slow_disk_until_ns = w->sim->now_ns + for_ns;
    sim_log(w->sim, "%u has only %u, which dies", leader->host.replica, p->host.replica);
    w->frail_on = p;
    sim_unschedule(w->sim, &w->frail);
    sim_schedule(w->sim, &w->frail, sim_rng_below(&w->rng, 40 * NS_PER_MS));
}

static void frail_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, frail);

    if (!w->quiet)
        place_crash(w->frail_on, sim_rng_below(&w->rng, 3 * NS_PER_MS));
}

static void fault_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, fault);
    struct place *p = &w->places[sim_rng_below(&w->rng, w->count)];

    if (w->quiet)
        return;
    sim_schedule(w->sim, event, sim_rng_below(&w->rng, w->fault_pause_ns));
    for (uint32_t i = 0; i < w->count && sim_rng_below(&w->rng, 4) == 0; i++) {
        if (w->places[i].host.up && w->places[i].host.raft.role == RAFT_LEADER)
            p = &w->places[i];
    }
    if (w->fragile && sim_rng_below(&w->rng, 4) == 0) {
        frail(w, p);
        return;
    }
    if (turn(w, SIM_FAULT_NET_PARTITION)) {
        w->restless = 0;
        if (sim_rng_below(&w->rng, 3))
            partition(w);
        else
            triangle(w);
    }
    for (uint32_t i = 0; i < w->count && w->restless; i++) {
        if (!(w->restless >> i & 1) && sim_rng_below(&w->rng, 3) == 0)
            place_crash(&w->places[i], sim_rng_below(&w->rng, 5 * NS_PER_MS));
    }
    if (turn(w, SIM_FAULT_POWER_ALL) && sim_rng_below(&w->rng, 4) == 0) {
        for (uint32_t i = 0; i < w->count; i++)
            place_crash(&w->places[i], sim_rng_below(&w->rng, 300 * NS_PER_MS));
    }
    bool crash = turn(w, SIM_FAULT_CRASH) || (w->fragile && sim_rng_below(&w->rng, 6) == 0);
    if (crash && !paused(p))
        place_crash(p, down_time(w));
    if (!p->host.up)
        return;
    if (turn(w, SIM_FAULT_PAUSE))
        p->paused_until_ns = w->sim->now_ns + sim_rng_below(&w->rng, 400 * NS_PER_MS);
    if (turn(w, SIM_FAULT_DISK_SLOW))
        p->slow_disk_until_ns = w->sim->now_ns + sim_rng_below(&w->rng, 600 * NS_PER_MS);
    if (turn(w, SIM_FAULT_MEMBER) && !paused(p))
        hand_over(w, p);
    if (sim_rng_below(&w->rng, 4) == 0)
        raft_host_compact(&p->host, raft_host_applied(&p->host) -
                                        MIN(raft_host_applied(&p->host), sim_rng_below(&w->rng, 100)));
}

static void client_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, client);

    sim_schedule(w->sim, event, sim_rng_below(&w->rng, 10 * NS_PER_MS));
    if (!w->quiet && w->sim->now_ns > w->client_silent_until_ns && sim_rng_below(&w->rng, 50) == 0)
        w->client_silent_until_ns = w->sim->now_ns + sim_rng_below(&w->rng, w->client_pause_ns);
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];
        bool silent = !w->proposing || (!w->quiet && w->sim->now_ns < w->client_silent_until_ns);

        if (!p->host.up || paused(p) || p->host.raft.role != RAFT_LEADER)
            continue;
        if (raft_can_read(&p->host.raft) && !p->reading && sim_rng_below(&w->rng, 2)) {
            p->reading = true;
            p->read_ns = local_ns(p);
            p->read_commit = p->host.raft.commit_index;
            p->read_need = w->checker.commit_max;
            p->read_term = p->host.raft.term;
            if (sim_rng_below(&w->rng, 2))
                raft_probe(&p->host.raft);
        }
        for (uint64_t n = sim_rng_below(&w->rng, 4); n && !silent; n--) {
            if (raft_host_propose(&p->host, ++w->value, local_ns(p)))
                break;
        }
        settle(p);
    }
}

/* ---- the run ---- */

static void world_start(struct world *w, const struct sim_args *args)
{
    static const uint32_t sizes[] = {1, 2, 3, 3, 3, 3, 3, 4, 5, 5};
    struct group group = {0};
    static const uint32_t append_max[] = {1, 3, 64};
    bool small_window;

    w->rng = sim_rng_make(args->seed, "raft", 0);
    w->net_rng = sim_rng_make(args->seed, "raft net", 0);
    w->disk_rng = sim_rng_make(args->seed, "raft disk", 0);
    w->config = RAFT_CONFIG_DEFAULT;
    w->count = group.count = sizes[sim_rng_below(&w->rng, ARRAY_LEN(sizes))];
    for (uint32_t i = 0; i < group.count; i++) {
        group.members[i].replica = i + 1;
        group.members[i].flags = i == 3 && group.count == 4 ? 0 : GROUP_VOTER;
    }
    w->replica_max = group.count;
    if (sim_rng_below(&w->rng, 2))
        w->change_pause_ns = (10 + sim_rng_below(&w->rng, 300)) * NS_PER_MS;
    if (w->change_pause_ns)
        w->count = (uint32_t)sim_rng_range(&w->rng, MAX(w->count, 3u), HOSTS_MAX);
    w->fault_pause_ns = (5 + sim_rng_below(&w->rng, 100)) * NS_PER_MS;
    if (sim_fault_intensity(w->sim, SIM_FAULT_CRASH) && sim_rng_below(&w->rng, 2))
        w->coup_percent = (uint32_t)sim_rng_below(&w->rng, 80);
    w->storm = sim_rng_below(&w->rng, 4) == 0;
    if (w->storm)
        w->coup_percent = 60 + (uint32_t)sim_rng_below(&w->rng, 36);
    w->fragile = sim_fault_intensity(w->sim, SIM_FAULT_DISK_ROT) && sim_rng_below(&w->rng, 2);
    w->client_pause_ns = (1 + sim_rng_below(&w->rng, 1000)) * NS_PER_MS;
    w->checker.sim = w->sim;
    w->checker.count = w->count;
    small_window = sim_rng_below(&w->rng, 4) == 0;
    if (small_window) {
        w->config.window_bytes = 4 * BLOCK_SIZE;
        w->config.window_entries = 6;
    }
    /* What a drift that is allowed for would do shows when much is allowed. */
    if (sim_rng_below(&w->rng, 2))
        w->config.clock_drift_ppm = 100000;
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        p->world = w;
        p->number = i;
        p->clock_base_ns = NS_PER_S + sim_rng_below(&w->rng, 1000 * NS_PER_S);
        if (sim_fault_intensity(w->sim, SIM_FAULT_CLOCK)) {
            sim_injected(w->sim, SIM_FAULT_CLOCK);
            p->drift_ppm = (int64_t)sim_rng_below(&w->rng, w->config.clock_drift_ppm - 1) -
                           (int64_t)w->config.clock_drift_ppm / 2 + 1;
        }
        p->tick.fire = tick_fire;
        p->beat.fire = beat_fire;
        p->start.fire = start_fire;
        p->writes[RAFT_HOST_QUEUE_VOTE].fire = write_vote_fire;
        p->writes[RAFT_HOST_QUEUE_LOG].fire = write_log_fire;
        w->checker.hosts[i] = &p->host;
        if (i >= group.count)
            continue;
        raft_host_init(&p->host, i + 1, i ? w->groups[0] : on_group(w, &group), &w->config, &HOOKS, w);
        p->host.append_max = append_max[sim_rng_below(&w->rng, ARRAY_LEN(append_max))];
        if (w->storm)
            p->host.append_max = 1;
    }
    w->committed = w->groups[0];
    for (uint32_t i = 0; i < group.count; i++)
        place_start(&w->places[i], true);
    w->proposing = true;
    w->fault.fire = fault_fire;
    w->client.fire = client_fire;
    w->coup.fire = coup_fire;
    w->heal.fire = heal_fire;
    w->change.fire = change_fire;
    w->frail.fire = frail_fire;
    if (w->change_pause_ns)
        sim_schedule(w->sim, &w->change, 0);
    sim_schedule(w->sim, &w->fault, 0);
    sim_schedule(w->sim, &w->client, 0);
}

/* What the leader thinks of its members: for whoever looks into a run that does not converge. */
static void log_members(const struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        const struct raft *r = &w->places[i].host.raft;

        if (!w->places[i].host.up)
            continue;
        sim_log(w->sim, "%u: role %u term %lu leader %u log %lu..%lu durable %lu matched %lu commit %lu%s%s",
                r->self, r->role, r->term, r->leader, r->first_index, r->last_index, r->durable_index,
                r->matched_index, r->commit_index, r->recovering ? " recovering" : "",
                r->abstain ? " abstains" : "");
        for (uint32_t j = 0; j < r->group.count; j++)
            sim_log(w->sim, "   group of %lu: %u%s%s", r->group.index, r->group.members[j].replica,
                    r->group.members[j].flags & GROUP_VOTER ? " votes" : "",
                    r->group.members[j].flags & GROUP_VOTER_OLD ? " until now" : "");
        for (uint32_t j = 0; j < r->member_count && r->role == RAFT_LEADER; j++) {
            const struct raft_member *m = &r->members[j];

            sim_log(w->sim, "   %u: progress %u match %lu next %lu inflight %u base %lu bytes %lu wait %lu",
                    m->replica, m->progress, m->match, m->next, m->inflight_count, m->inflight_base,
                    m->inflight_bytes, r->now_ns - m->wait_ns);
        }
    }
}

static void check_converged(struct world *w, uint64_t committed_before)
{
    uint32_t leaders = 0;

    if (w->checker.commit_max <= committed_before + 10)
        sim_fail(w->sim, "liveness: from %lu to %lu committed without faults", committed_before,
                 w->checker.commit_max);
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        if (!p->host.replica)
            continue;
        leaders += p->host.raft.role == RAFT_LEADER;
        if (raft_host_applied(&p->host) != w->checker.commit_max ||
            p->host.raft.last_index != w->checker.commit_max)
            sim_fail(w->sim, "liveness: %u has applied %lu of %lu, its log ends at %lu", p->host.replica,
                     raft_host_applied(&p->host), w->checker.commit_max, p->host.raft.last_index);
        else if (p->host.log[w->checker.commit_max].hash !=
                 w->checker.commits[w->checker.commit_max].item.hash)
            sim_fail(w->sim, "the state of %u differs", p->host.replica);
        if (p->host.raft.role == RAFT_LEADER && !raft_lease_valid(&p->host.raft, local_ns(p)))
            sim_fail(w->sim, "liveness: %u has no lease", p->host.replica);
    }
    if (leaders != 1)
        sim_fail(w->sim, "liveness: %u leaders", leaders);
}

static bool newly_led(void *owner)
{
    struct world *w = owner;

    for (uint32_t i = 0; i < w->count; i++) {
        const struct raft *r = &w->places[i].host.raft;

        if (w->places[i].host.up && r->term > w->fallen_term && raft_can_read(r))
            return true;
    }
    return false;
}

/* With all else in order, the leader is killed, which the others notice by their connections, or hangs, which
 * they do not. */
static void check_failover(struct world *w)
{
    bool kill = sim_rng_below(&w->rng, 2);
    uint64_t start_ns = w->sim->now_ns, limit_ns = (kill ? 400 : 900) * NS_PER_MS;

    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        if (!p->host.up || p->host.raft.role != RAFT_LEADER)
            continue;
        w->fallen_term = p->host.raft.term;
        if (kill)
            place_crash(p, NS_PER_S);
        else
            p->paused_until_ns = w->sim->now_ns + NS_PER_S;
        break;
    }
    if (!sim_run_while(w->sim, newly_led, w, start_ns + limit_ns))
        sim_fail(w->sim, "liveness: no new leader %lu ms after the old one was %s",
                 (uint64_t)(limit_ns / NS_PER_MS), kill ? "killed" : "stopped");
    w->failover_ns = w->sim->now_ns - start_ns;
    sim_run_until(w->sim, start_ns + NS_PER_S);
}

static uint32_t voters_of(const struct world *w)
{
    const struct group *group = settled_group(w);
    uint32_t voters = 0;

    for (uint32_t i = 0; group && i < group->count; i++)
        voters += group->members[i].flags != 0;
    return voters;
}

static void world_run(struct world *w)
{
    bool redundant;
    uint64_t committed;

    sim_run_for(w->sim, FAULTY_NS);
    w->quiet = true;
    memset(w->cut, 0, sizeof w->cut);
    sim_log(w->sim, "no more faults");
    sim_run_for(w->sim, 2 * NS_PER_S);
    drop_strangers(w);
    redundant = voters_of(w) >= 3;
    committed = w->checker.commit_max;
    sim_run_for(w->sim, WORKING_NS);
    if (redundant && !w->sim->failed)
        check_failover(w);
    w->proposing = false;
    sim_run_for(w->sim, SETTLING_NS);
    if (!w->sim->failed)
        check_converged(w, committed);
    if (w->sim->failed)
        log_members(w);
}

void scenario_raft_run(const struct sim_args *args, struct sim_result *ret_result)
{
    struct world *w = calloc(1, sizeof *w);

    ASSERT(w);
    w->sim = sim_new(args->seed, args->verbose);
    sim_choose_faults(w->sim, SIM_FAULT_BIT(CRASH) | SIM_FAULT_BIT(POWER_ALL) | SIM_FAULT_BIT(PAUSE) |
                                  SIM_FAULT_BIT(CLOCK) | SIM_FAULT_BIT(DISK_SLOW) | SIM_FAULT_BIT(DISK_ROT) |
                                  SIM_FAULT_BIT(NET_LOSS) | SIM_FAULT_BIT(NET_DUP) |
                                  SIM_FAULT_BIT(NET_REORDER) | SIM_FAULT_BIT(NET_SLOW) |
                                  SIM_FAULT_BIT(NET_PARTITION) | SIM_FAULT_BIT(MEMBER));
    world_start(w, args);
    world_run(w);
    snprintf(
        ret_result->stats, sizeof ret_result->stats,
        "%u replicas, %lu committed, %lu elections, %lu crashes, %lu damaged, %lu transfers, %lu changes of members, %lu installs, "
        "%lu lease checks, %lu reads, failover in %lu ms",
        w->count, w->checker.commit_max, w->elections, w->crashes, w->damages, w->transfers, w->changes,
        w->installs, w->lease_checks, w->reads, (uint64_t)(w->failover_ns / NS_PER_MS));
    sim_result_take(ret_result, w->sim);
    sim_free(w->sim);
    for (uint32_t i = 0; i < w->count; i++) {
        if (w->places[i].host.replica)
            raft_host_fini(&w->places[i].host);
    }
    for (uint32_t i = 0; i < w->group_count; i++)
        free(w->groups[i]);
    raft_checker_fini(&w->checker);
    free(w);
}
