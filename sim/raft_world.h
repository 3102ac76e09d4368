/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the raft scenario tell each other: raft_places.c hosts, their clocks, disks and network,
 * and what is checked at each step; raft_faults.c what strikes; raft_members.c who comes and goes;
 * scenario_raft.c the run.
 */
#ifndef SIM_RAFT_WORLD_H
#define SIM_RAFT_WORLD_H

#include "sim/raft_check.h"
#include "sim/raft_host.h"
#include "sim/sim.h"

#define HOSTS_MAX  7
#define GROUPS_MAX 256

struct world;

/* A host and what happens to it next. It may be empty, and may be used for one replica after the other. */
struct place {
    struct world *world;
    struct raft_host host; /* replica 0: empty */
    /* Its disk has lost, without anybody knowing, what it had reported as written up to this entry; 0: that is
     * there again. And how often. */
    uint64_t lacks_index, lacks_term;
    uint32_t losses;
    uint32_t number;
    uint64_t clock_base_ns;
    int64_t drift_ppm;
    uint64_t paused_until_ns, slow_disk_until_ns;
    struct sim_event tick, beat, start, writes[RAFT_HOST_QUEUES];
    bool reading; /* a ReadIndex under way */
    uint64_t read_ns, read_commit, read_need, read_term;
    uint64_t round_ns; /* when the last round of pre-votes began that anybody has granted it ... */
    uint32_t granted_by[RAFT_MEMBERS_MAX], granted_count; /* ... and who has: they may be gone by now */
};

struct world {
    struct sim *sim;
    struct sim_rng rng, net_rng, disk_rng, loss_rng;
    struct place places[HOSTS_MAX];
    uint32_t count;
    bool quiet, proposing;
    uint64_t fault_pause_ns, client_pause_ns; /* between two faults, two bursts of the client */
    uint64_t client_silent_until_ns;
    bool cut[HOSTS_MAX][HOSTS_MAX];
    uint64_t link_busy_ns[HOSTS_MAX][HOSTS_MAX];
    struct sim_event fault, client, coup, heal, change, frail;
    struct place *frail_on;
    bool storm;      /* elections all the time, and disks that take long to write a vote */
    bool fragile;    /* most restarts find the log damaged, and old answers come late */
    bool early_base; /* raft_host.h */
    bool scarce;     /* followers have no room now and then for what they are sent */
    struct sim_rng room_rng;
    bool restive;          /* members change while logs are damaged, and logs are damaged while they change */
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
    uint64_t elections, crashes, damages, losses, transfers, changes, installs, lease_checks, reads;
    uint64_t led_term; /* the highest in which anybody was elected */
};

/* ---- raft_places.c ---- */

extern const struct raft_host_hooks WORLD_HOOKS;
uint64_t world_local_ns(const struct place *p);
bool world_paused(const struct place *p);
void world_schedule(struct place *p, struct sim_event *event, uint64_t delay_ns);
void world_settle(struct place *p);
void world_tick_fire(struct sim_event *event);
void world_beat_fire(struct sim_event *event);
void world_write_vote_fire(struct sim_event *event);
void world_write_log_fire(struct sim_event *event);
struct place *world_place(struct world *w, uint32_t replica);
const struct group *world_on_group(void *owner, const struct group *group);

/* ---- raft_faults.c ---- */

void place_start(struct place *p, bool born_now);
/* Does its log lack something that was on its disk? */
bool place_lacks(struct place *p);
const struct group *world_settled_group(const struct world *w);
/* Could all groups that may be in force, and `next`, if that is to be one, still elect, with the log of
 * `more` damaged, too? NULL: none. */
bool world_damage_bearable(const struct world *w, const struct place *more, const struct group *next);
void world_start_fire(struct sim_event *event);
void place_crash(struct place *p, uint64_t down_ns);
void world_heal_fire(struct sim_event *event);
void world_coup_fire(struct sim_event *event);
void world_frail_fire(struct sim_event *event);
void world_fault_fire(struct sim_event *event);

/* ---- raft_members.c ---- */

void world_drop_strangers(struct world *w);
void world_change_fire(struct sim_event *event);

#endif
