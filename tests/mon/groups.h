/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs and the groups of their PGs, played by the test: replicas are made and deleted as the map orders,
 * leaders carry out what is wanted, and report. What must never be is checked in every round: that a replica
 * is deleted which is a member, or that a new one is named like one that was.
 */
#ifndef TESTS_MON_GROUPS_H
#define TESTS_MON_GROUPS_H

#include "tests/mon/world.h"

#define PLAY_OSDS 14
#define PLAY_PGS  64

struct play_member {
    uint32_t replica, osd, shard;
    bool learner;
};

struct play_pg {
    uint64_t id, index, epoch; /* of the group: the log's entry, and the wanted list that it carries out */
    struct play_member member[16];
    uint32_t count;
    uint32_t leader; /* OSD; PLAY_OSDS: nobody leads */
    uint64_t term;
    uint32_t replica_max;        /* that was ever a member */
    bool stuck;                  /* its leader carries nothing out */
    bool silent;                 /* nor reports */
    struct play_member stale[8]; /* count not 0: its leader still has this wanted list, with this epoch */
    uint32_t stale_count;
    uint64_t stale_epoch;
};

struct play {
    struct world *w;
    struct caller client, osds[PLAY_OSDS];
    bool up[PLAY_OSDS];
    uint64_t starts[PLAY_OSDS];
    uint32_t osd_count;
    struct play_pg pgs[PLAY_PGS];
    uint32_t pg_count;
    uint32_t exists[PLAY_OSDS][PLAY_PGS]; /* the replica there; 0: none */
    /* What it says of itself while nobody leads. */
    uint64_t log_index[PLAY_OSDS][PLAY_PGS];
    Fb__PgStandingState standing_state[PLAY_OSDS][PLAY_PGS];
    bool no_standings;
    uint64_t heard_epoch; /* not 0: shards have saved no newer map than this one */
    /* Its group, if that is not the one that is played: until a 0; before: while voters change. */
    uint32_t voters[PLAY_OSDS][PLAY_PGS][8], before[PLAY_OSDS][PLAY_PGS][8];
    bool no_elections; /* members do not reach each other */
    bool pool_removed, tell_lost;
    bool failed[PLAY_OSDS];         /* its shard: it reports no more than that */
    uint64_t free_bytes[PLAY_OSDS]; /* that it reports */
    bool no_room[PLAY_OSDS];        /* for new replicas: what is to be copied there waits */
    uint64_t copies;                /* replicas that became members */
    uint32_t most_moves;            /* PGs wanted onto one OSD at once, seen */
    uint32_t osd_moves[PLAY_OSDS];
};

struct play *play_new(uint32_t osds, uint64_t out_after_s);
void play_free(struct play *p);
/* Creates pool "p" and plays its PGs. */
void play_pool(struct play *p, uint32_t replicas, uint32_t pgs);
void play_kill(struct play *p, uint32_t osd);
void play_start(struct play *p, uint32_t osd);
void play_add(struct play *p);
/* Four rounds a second: reports of everyone. */
void play_run(struct play *p, uint32_t seconds);
void play_round(struct play *p);
/* The map after a round, of the client's answer. */
const Fb__Pg *play_item(const struct play *p, uint32_t pg);
/* PGs of which a member, or with `wanted` a wanted member, is there. */
uint32_t play_replicas(const struct play *p, uint32_t osd);
/* PGs with something wanted, leaving or dropped. */
uint32_t play_unsettled(const struct play *p);
/* Until nothing is; false after so many seconds. */
bool play_settle(struct play *p, uint32_t seconds);

#endif
