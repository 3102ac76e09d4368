/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator may want of a group that works: replicas come, go, and vote or do not.
 */
#include "sim/raft_world.h"

static void change_members(struct world *w, struct place *leader, const struct group *target)
{
    if (w->restive && !world_damage_bearable(w, NULL, target))
        return;
    int result = raft_host_change(&leader->host, target, world_local_ns(leader));

    w->changes += !result;
    if (!result)
        sim_log(w->sim, "%u changes the group, at %lu", leader->host.replica, leader->host.raft.group.index);
    world_settle(leader);
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
    raft_host_init(&empty->host, w->replica_max, world_on_group(w, &born), &w->config, &WORLD_HOOKS, w);
    empty->host.early_base = w->early_base;
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
    p->lacks_index = p->losses = 0;
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

/* In no group any more, of those that may yet be in force: the one that is committed, and newer ones that a
 * member of such a group has. Two that are out may have one another in an entry that will never count. */
void world_drop_strangers(struct world *w)
{
    bool belongs[HOSTS_MAX] = {false}, more = true;

    for (uint32_t i = 0; i < w->count; i++)
        belongs[i] = is_member(w->committed, w->places[i].host.replica);
    while (more) {
        more = false;
        for (uint32_t i = 0; i < w->count; i++) {
            const struct raft_host *h = &w->places[i].host;
            if (!belongs[i] || raft_host_group(h)->index <= w->committed->index)
                continue;
            for (uint32_t j = 0; j < w->count; j++)
                if (!belongs[j] && is_member(raft_host_group(h), w->places[j].host.replica))
                    belongs[j] = more = true;
        }
    }
    for (uint32_t i = 0; i < w->count; i++)
        if (!belongs[i] && w->places[i].host.replica)
            drop_replica(&w->places[i]);
}

/* What an operator may want of a group that works: one more, one less, another in the place of one. */
static void change_something(struct world *w, struct place *leader)
{
    struct group target = leader->host.raft.group;
    struct place *p = &w->places[sim_rng_below(&w->rng, w->count)];
    uint32_t voters = 0, at = 0;

    for (uint32_t i = 0; i < w->count; i++) {
        if (place_lacks(&w->places[i]) && !w->restive)
            return; /* first things first */
    }
    if (w->group_count + 4 > GROUPS_MAX)
        return;
    if (sim_rng_below(&w->rng, 3) == 0)
        world_drop_strangers(w);
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

void world_change_fire(struct sim_event *event)
{
    struct world *w = container_of(event, struct world, change);

    if (w->quiet)
        return;
    sim_schedule(w->sim, event, sim_rng_below(&w->rng, w->change_pause_ns));
    for (uint32_t i = 0; i < w->count; i++) {
        struct place *p = &w->places[i];

        if (p->host.up && !world_paused(p) && p->host.raft.role == RAFT_LEADER)
            change_something(w, p);
    }
}
