/* SPDX-License-Identifier: Apache-2.0
 *
 * What strikes: crashes, damage, partitions, hand-overs, and moments at which most can go wrong.
 */
#include "sim/raft_world.h"

#include <string.h>

/* ---- crashes and other faults ---- */

static void peers_learn(struct place *p, bool new_incarnation)
{
    struct world *w = p->world;

    for (uint32_t i = 0; i < w->count; i++) {
        struct place *other = &w->places[i];

        if (other == p || !other->host.up || world_paused(other) || w->cut[p->number][i] ||
            (!w->quiet && sim_rng_below(&w->rng, 3) == 0))
            continue;
        raft_peer_lost(&other->host.raft, p->host.replica, new_incarnation, world_local_ns(other));
        raft_host_pump(&other->host, world_local_ns(other));
        world_settle(other);
    }
}

void place_start(struct place *p, bool born_now)
{
    struct world *w = p->world;

    raft_host_start(&p->host, born_now, sim_rng_u64(&w->rng), world_local_ns(p));
    world_schedule(p, &p->beat, sim_rng_below(&w->rng, p->host.config.heartbeat_ns));
    if (!born_now) {
        sim_log(w->sim, "%u starts", p->host.replica);
        peers_learn(p, true);
    }
    world_settle(p);
}

bool place_lacks(struct place *p)
{
    const struct raft_host *h = &p->host;

    if (p->lacks_index && !h->disk_damaged) {
        uint64_t term = h->disk_log[h->disk_last].term;

        if (term > p->lacks_term || (term == p->lacks_term && h->disk_last >= p->lacks_index))
            p->lacks_index = 0;
    }
    return h->disk_damaged || p->lacks_index;
}

/* The group that all replicas know; NULL: it is changing. */
const struct group *world_settled_group(const struct world *w)
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

/* Is a majority of those with this flag whole? */
static bool most_are_whole(const struct world *w, const struct place *more, const struct group *group,
                           uint32_t flag)
{
    uint32_t voters = 0, whole = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        const struct place *p = world_place((struct world *)w, group->members[i].replica);

        if (!(group->members[i].flags & flag))
            continue;
        voters++;
        whole += p && p != more && !p->host.disk_damaged;
    }
    return !voters || 2 * whole > voters;
}

static bool group_bears(const struct world *w, const struct place *more, const struct group *group)
{
    return most_are_whole(w, more, group, GROUP_VOTER) && most_are_whole(w, more, group, GROUP_VOTER_OLD);
}

/* A group that is proposed counts though nobody that is up has it, nor any disk: it may be on its way. */
bool world_damage_bearable(const struct world *w, const struct place *more, const struct group *next)
{
    for (uint32_t i = 0; i < w->group_count; i++)
        if (w->groups[i]->index > w->committed->index && !group_bears(w, more, w->groups[i]))
            return false;
    return group_bears(w, more, w->committed) && (!next || group_bears(w, more, next));
}

/* The same where members change only when all are whole: of one group, that all know. */
static bool damage_bearable(struct world *w)
{
    const struct group *group = world_settled_group(w);
    uint32_t voters = 0, damaged = 0;

    for (uint32_t i = 0; i < w->group_count; i++)
        if (w->groups[i]->index > w->checker.commit_max)
            return false;

    for (uint32_t i = 0; group && i < group->count; i++) {
        voters += group->members[i].flags != 0;
        damaged += group->members[i].flags && place_lacks(world_place(w, group->members[i].replica));
    }
    return group && damaged + 1 + voters / 2 + 1 <= voters;
}

static void damage(struct place *p)
{
    struct world *w = p->world;
    struct raft_host *h = &p->host;
    uint64_t lost = sim_rng_below(&w->disk_rng, sim_rng_below(&w->disk_rng, 2) ? 4 : 40);

    if (h->disk_damaged || !(w->restive ? world_damage_bearable(w, p, NULL) : damage_bearable(w)))
        return;
    lost = MIN(lost, h->disk_last - h->disk_base);
    w->damages++;
    sim_injected(w->sim, SIM_FAULT_DISK_ROT);
    sim_log(w->sim, "%u: the log is damaged above %lu of %lu", h->replica, h->disk_last - lost, h->disk_last);
    raft_host_damage(h, h->disk_last - lost);
}

/* Does a majority have all that is on its disk without counting it? Then it may lose that and not know: its
 * vote elects nobody who lacks what is committed, for the others deny theirs. Nothing else would be bearable.
 */
static bool loss_bearable(struct world *w, const struct place *p, const struct group *group)
{
    const struct raft_host *h = &p->host;
    uint32_t voters = 0, have = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        struct place *other = world_place(w, group->members[i].replica);

        if (!group->members[i].flags)
            continue;
        voters++;
        have += other != p && !place_lacks(other) &&
                raft_checker_has(&other->host, h->disk_last, h->disk_log[h->disk_last].hash);
    }
    return 2 * have > voters;
}

/* The end of the log is as if it had never been written, though it was reported, and counted perhaps. Who
 * does not know of a group any more that is in force could be elected by those who have left it: that stays.
 */
static void lose(struct place *p)
{
    struct world *w = p->world;
    struct raft_host *h = &p->host;
    const struct group *group = world_settled_group(w);
    uint64_t lost = sim_rng_range(&w->loss_rng, 1, sim_rng_below(&w->loss_rng, 2) ? 4 : 40);

    if (w->restive || place_lacks(p) || !damage_bearable(w) || !loss_bearable(w, p, group))
        return;
    lost = MIN(lost, h->disk_last - MAX(h->disk_base, group->index));
    if (!lost)
        return;
    w->losses++;
    p->losses++;
    p->lacks_index = h->disk_last;
    p->lacks_term = h->disk_log[h->disk_last].term;
    sim_injected(w->sim, SIM_FAULT_DISK_LOSE);
    sim_log(w->sim, "%u: the log ends at %lu, and had ended at %lu", h->replica, h->disk_last - lost,
            h->disk_last);
    raft_host_lose(h, h->disk_last - lost);
}

/* An entry that was on the disk cannot be read any more. */
static void damage_found(struct place *p)
{
    struct world *w = p->world;
    struct raft_host *h = &p->host;
    const struct raft *r = &h->raft;

    if (h->disk_damaged || h->recovering || h->basing || r->durable_index < r->first_index ||
        !world_damage_bearable(w, p, NULL))
        return;
    uint64_t index = sim_rng_range(&w->disk_rng, r->first_index, r->durable_index);
    w->damages++;
    sim_injected(w->sim, SIM_FAULT_DISK_ROT);
    sim_log(w->sim, "%u: entry %lu of %lu cannot be read", h->replica, index, h->disk_last);
    raft_host_damage_found(h, index, world_local_ns(p));
    world_settle(p);
}

void world_start_fire(struct sim_event *event)
{
    struct place *p = container_of(event, struct place, start);

    if (!p->host.replica)
        return;
    uint32_t often = p->world->fragile ? 150 : sim_fault_intensity(p->world->sim, SIM_FAULT_DISK_ROT);
    if (!p->world->quiet && sim_rng_below(&p->world->disk_rng, 200) < often)
        damage(p);
    if (!p->world->quiet &&
        sim_rng_below(&p->world->loss_rng, 200) < sim_fault_intensity(p->world->sim, SIM_FAULT_DISK_LOSE))
        lose(p);
    place_start(p, false);
}

void place_crash(struct place *p, uint64_t down_ns)
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

    bool as_it_is = w->transfers % 4 == 3;

    if ((as_it_is ? raft_transfer_short(&p->host.raft, to, world_local_ns(p))
                  : raft_transfer(&p->host.raft, to, world_local_ns(p))) == 0) {
        w->transfers++;
        sim_log(w->sim, "%u hands over to %u", p->host.replica, p->host.raft.transfer_to);
    }
    raft_host_pump(&p->host, world_local_ns(p));
    world_settle(p);
}

/* ---- what strikes ---- */

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

void world_heal_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, heal);

    memset(w->cut, 0, sizeof w->cut);
}

/* Something happens just when a leader has been elected: it dies, or is cut off and dies later, or is cut off
 * and those who have elected it die. Rare by chance alone, and the moment when most can go wrong. */
void world_coup_fire(struct sim_event *event)
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

void world_frail_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, frail);

    if (!w->quiet)
        place_crash(w->frail_on, sim_rng_below(&w->rng, 3 * NS_PER_MS));
}

void world_fault_fire(struct sim_event *event)
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
    if (crash && !world_paused(p))
        place_crash(p, down_time(w));
    if (!p->host.up)
        return;
    if (w->restive && !world_paused(p) && turn(w, SIM_FAULT_DISK_ROT) && sim_rng_below(&w->rng, 4) == 0)
        damage_found(p);
    if (turn(w, SIM_FAULT_PAUSE))
        p->paused_until_ns = w->sim->now_ns + sim_rng_below(&w->rng, 400 * NS_PER_MS);
    if (turn(w, SIM_FAULT_DISK_SLOW))
        p->slow_disk_until_ns = w->sim->now_ns + sim_rng_below(&w->rng, 600 * NS_PER_MS);
    if (turn(w, SIM_FAULT_MEMBER) && !world_paused(p))
        hand_over(w, p);
    if (sim_rng_below(&w->rng, 4) == 0)
        raft_host_compact(&p->host, raft_host_applied(&p->host) -
                                        MIN(raft_host_applied(&p->host), sim_rng_below(&w->rng, 100)));
}
