/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement: which shards hold the replicas of the PGs, and which of them should lead. Pure functions of OSDs
 * and PGs: no clock, no randomness, so that the same map gives the same answer.
 *
 * placement_plan() takes the whole map and says which PGs are to change. First what must be: a replica that
 * is missing or lost, or stands on an OSD whose weight is 0, or in the failure domain of another one, gets a
 * new place. Then balance: every OSD is to have its share (size x weight) of every pool's replicas, rounded
 * up or down, and of all replicas together; a move is planned only if it brings that nearer, from the OSD
 * that has most too many to the one that has most too few. Every PG's change is legal by itself, and every
 * one of them lowers the same measure of unevenness: a plan that is carried out in part, in any order, leaves
 * a legal state nearer to the end, and the next plan goes on from there; when all is done the next plan is
 * empty.
 *
 * A failure domain holds at most one replica of a PG. When there are too few domains, a replica that should
 * go stays where it is, and the plan names the PG as stuck: nothing is taken away without another place for
 * it, and no two replicas are put together.
 */
#ifndef MON_PLACEMENT_H
#define MON_PLACEMENT_H

#include "base/base.h"

#define PLACEMENT_SHARDS_MAX   64
#define PLACEMENT_SHARD_PGS    4096 /* replicas that a shard can hold that does not say how many */
#define PLACEMENT_REPLICAS_MAX 7
#define PLACEMENT_GROUP_MAX    12 /* members of a PG while it changes: those that it has, and new ones */
#define PLACEMENT_WEIGHT_MAX   1000

enum placement_domain { PLACEMENT_OSD, PLACEMENT_HOST, PLACEMENT_RACK, PLACEMENT_ZONE, PLACEMENT_DOMAINS };

struct placement_osd {
    uint32_t osd;
    const char *host, *rack, *zone; /* the caller's strings; NULL is as "" */
    uint64_t size_bytes;
    uint32_t shard_count;
    bool shard_usable[PLACEMENT_SHARDS_MAX];      /* may get replicas */
    uint32_t shard_pgs_max[PLACEMENT_SHARDS_MAX]; /* and so many; 0: PLACEMENT_SHARD_PGS */
    uint32_t weight; /* thousandths of its size that count, up to PLACEMENT_WEIGHT_MAX; 0 (out, drained):
                        every replica is to leave it */
    bool up; /* it may get replicas now. If not, those that it has stay, but with weight 0 are missing */
};

struct placement_member {
    uint32_t osd, shard;
};

/* "osd", "host", "rack", "zone"; the empty string means "osd". ERR_INVALID. */
MUST_CHECK int placement_domain_parse(const char *text, enum placement_domain *ret_domain);

/* In how many failure domains there is an OSD with a usable shard. */
uint32_t placement_domain_count(const struct placement_osd *osds, uint32_t osd_count,
                                enum placement_domain domain);

/* ---- the plan ---- */

struct placement_pool;
struct placement_pg;

/* Another placement function, for pools that name it. */
struct placement_chooser {
    const char *name;
    /* Before it is asked for the PGs of a pool. Not 0: it cannot. May be NULL. */
    int (*begin)(const struct placement_chooser *chooser, const struct placement_osd *osds,
                 uint32_t osd_count);
    /* The OSDs that should have the PG's replicas, the leader first: as many as the pool wants. Returns their
     * number, or less than zero. A pure function. What it says is checked: OSDs that there are, that may get
     * replicas (or have one of this PG and may keep it), in distinct failure domains; otherwise it is
     * refused, and the PG is placed as if its pool named nobody. */
    int (*choose)(const struct placement_chooser *chooser, const struct placement_pool *pool,
                  const struct placement_pg *pg, const struct placement_osd *osds, uint32_t osd_count,
                  uint32_t *ret_osds);
};

struct placement_pool {
    uint32_t id;
    uint32_t replicas; /* 1 to PLACEMENT_REPLICAS_MAX */
    enum placement_domain domain;
    const struct placement_chooser *chooser; /* NULL: placement_plan() itself */
};

struct placement_pg {
    uint64_t id;          /* pool's id << 32 | number */
    uint8_t member_count; /* 0: a new PG */
    uint8_t lead;         /* index of the member that should lead so far; member_count or more: none */
    uint8_t lost;         /* bit i: member i has no data any more: it gets a new place, maybe the same */
    bool pinned;          /* it is changing already, to these members: they count, and it is left alone */
    struct placement_member member[PLACEMENT_REPLICAS_MAX]; /* distinct OSDs; unknown ones are as lost */
};

struct placement_input {
    const struct placement_osd *osds; /* in any order */
    uint32_t osd_count;
    const struct placement_pool *pools; /* by id, ascending */
    uint32_t pool_count;
    const struct placement_pg *pgs; /* by id, ascending; their pools are all there */
    uint32_t pg_count;
    bool repair_only; /* only what must be, no balance; leaders only of PGs that change */
    uint32_t only;    /* id of the one pool whose PGs may change; 0: any */
};

/* A PG that is to change: the most urgent come first, leaders that only change come last. */
struct placement_change {
    uint32_t pg;          /* index in the input's pgs */
    uint8_t member_count; /* as the pool wants it, or less when there are not that many places */
    uint8_t lead;         /* index in `member` */
    uint8_t missing;      /* replicas that the PG lacks now, and gets: nobody alive has them */
    uint8_t added;        /* members that are new; 0: only the leader changes, or members leave */
    struct placement_member member[PLACEMENT_REPLICAS_MAX]; /* those that stay come first, in their order */
};

struct placement_plan {
    struct placement_change *changes; /* heap */
    uint32_t change_count;
    uint64_t added; /* sum over the changes: replicas to be copied */
    /* PGs that cannot be as their pool wants them: a replica is missing, or stands on an OSD that it should
     * leave, or two share a failure domain, and no OSD in another domain has room for it. Indexes; heap. */
    uint32_t *stuck;
    uint32_t stuck_count;
    /* PGs for which a chooser's answer was refused, and of the last of them, why. */
    uint32_t refused_count, refused_pg;
    const char *refused_why;
};

/* Makes the plan for the whole input, which it does not keep. O((replicas + moves) x log OSDs).
 * ERR_NO_MEMORY. */
MUST_CHECK int placement_plan(const struct placement_input *input, struct placement_plan *ret_plan);

/* The same in steps, for whoever has other things to do meanwhile. The input must stay until the end. */
struct place;
MUST_CHECK int placement_job_new(const struct placement_input *input, struct place **ret_job);
/* Looks at the PGs of one pool, at most, and adds their number to `pgs`. 1: there is more to do; 0: *ret_plan
 * is made; or ERR_NO_MEMORY. Not called again after that. */
MUST_CHECK int placement_job_step(struct place *job, uint64_t *pgs, struct placement_plan *ret_plan);
void placement_job_free(struct place *job);
void placement_plan_fini(struct placement_plan *plan);

#endif
