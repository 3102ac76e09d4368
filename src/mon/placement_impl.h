/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of placement_plan().
 *
 * OSDs are sorted by location, so that every failure domain of every kind is a range of positions, and the
 * best OSD outside of the domains that a PG uses is a query of a tree of winners (`place_tree`) over the gaps
 * between them.
 *
 * SLOTS are the places of replicas: every PG has as many as its pool wants. A slot is good, or bad: it is to
 * be filled. Pools are worked on one after the other; per-pool counters in `place_osd` are those of the pool
 * at work.
 *
 * The measure that every move lowers, lexicographically: first, summed over pools and OSDs, the square of how
 * far the OSD's count of the pool's replicas is from its quota, [lo, hi] = its share rounded down and up;
 * then, summed over OSDs, the square of how far the count of all replicas is from the sum of its shares.
 */
#ifndef MON_PLACEMENT_IMPL_H
#define MON_PLACEMENT_IMPL_H

#include "mon/placement.h"

#define PLACE_NONE     UINT32_MAX
#define PLACE_ONE      (1 << 16) /* one replica in shares, which are fractions */
#define PLACE_LEAD_ONE 420       /* one leadership in shares of it: divisible by every count of members */
#define PLACE_SLOT_BAD 0x80      /* in slot_shard: it should go, and there is no place for it */
#define PLACE_SHARD(s) ((s)&0x7f)

/* Where a count stands against its quota, and what one more or less does to the square of the distance. */
struct place_quota {
    uint32_t count, lo, hi;
};

static inline int64_t place_take_cost(const struct place_quota *q)
{
    if (q->count < q->lo)
        return 1 - 2 * (int64_t)(q->lo - q->count);
    return q->count < q->hi ? 0 : 2 * (int64_t)(q->count - q->hi) + 1;
}

static inline int64_t place_give_gain(const struct place_quota *q)
{
    if (q->count > q->hi)
        return 2 * (int64_t)(q->count - q->hi) - 1;
    return q->count > q->lo ? 0 : -2 * (int64_t)(q->lo - q->count) - 1;
}

struct place_osd {
    const struct placement_osd *in;
    uint32_t first[PLACEMENT_DOMAINS], end[PLACEMENT_DOMAINS]; /* positions of its domain of each kind */
    uint64_t weight;                                           /* size x weight */
    uint32_t shard_load[PLACEMENT_SHARDS_MAX];
    int64_t excess; /* all replicas here beyond the sum of the shares, x PLACE_ONE */
    /* the same of leaderships, x PLACE_LEAD_ONE, of the pools so far: of the OSD, of each shard */
    int64_t lead_excess;
    int32_t shard_lead_excess[PLACEMENT_SHARDS_MAX];
    /* of the pool at work */
    struct place_quota data, lead;
    int64_t share;       /* x PLACE_ONE */
    uint32_t lead_share; /* x PLACE_LEAD_ONE */
    uint32_t slots;      /* head of the list of its slots */
    bool settled;        /* it has nothing to give as things stand */
};

/* Of keys, one for each position, the position of the smallest in any range. */
struct place_tree {
    uint32_t leaves; /* a power of two */
    int64_t *key;    /* by position; INT64_MAX: never */
    uint32_t *best;  /* [1] is the root; [leaves + position] */
};

MUST_CHECK int place_tree_init(struct place_tree *t, uint32_t count);
void place_tree_fini(struct place_tree *t);
/* After all keys were written. */
void place_tree_build(struct place_tree *t);
void place_tree_set(struct place_tree *t, uint32_t position, int64_t key);
/* PLACE_NONE: all keys are INT64_MAX. */
uint32_t place_tree_best(const struct place_tree *t);
uint32_t place_tree_best_in(const struct place_tree *t, uint32_t first, uint32_t end);

struct place_id {
    uint32_t osd, position; /* PLACE_NONE: empty */
};

/* Each over all pools, one in a step; BALANCE until no pool has anything to give. COUNT and WRITE make the
 * changes: how many there are, and they themselves. */
enum place_phase { PLACE_LOAD, PLACE_FILL, PLACE_BALANCE, PLACE_LEAD, PLACE_COUNT, PLACE_WRITE };

struct place {
    const struct placement_input *in;
    enum place_phase phase;
    uint32_t round; /* of BALANCE */
    bool moved;     /* in this round */
    struct placement_plan plan;
    struct place_osd *osds; /* by location */
    uint32_t osd_count;
    struct place_id *ids; /* a table, open: place_osd_find() */
    uint32_t ids_mask;
    struct place_tree take, give;
    uint32_t *slot_osd;    /* position, PLACE_NONE: empty */
    uint8_t *slot_shard;   /* and PLACE_SLOT_BAD */
    uint32_t *next, *prev; /* lists of slots of the pool at work, per OSD; from its first slot */
    uint8_t *lead;         /* by PG: the slot's number within the PG; UINT8_MAX: none */
    uint32_t *moved_at;    /* by PG: the number of its first move; 0: none */
    uint32_t moves;        /* replicas that have got a new place */
    uint32_t refused_count, refused_pg;
    const char *refused_why;
    /* the pool at work */
    const struct placement_pool *pool;
    uint32_t pg_first, pg_count;
    size_t slot_first;
};

/* The first slot of the PG with this number within the pool at work, and that number. */
static inline size_t place_slots(const struct place *p, uint32_t pg)
{
    return p->slot_first + (size_t)pg * p->pool->replicas;
}
static inline uint32_t place_slot_pg(const struct place *p, size_t slot)
{
    return (uint32_t)((slot - p->slot_first) / p->pool->replicas);
}
static inline const struct placement_pg *place_pg(const struct place *p, uint32_t pg)
{
    return &p->in->pgs[p->pg_first + pg];
}

/* placement_share.c: sorts the OSDs, and what each should have of the pool at work. */
MUST_CHECK int place_osds_init(struct place *p);
/* The position of an OSD, or PLACE_NONE. */
uint32_t place_osd_find(const struct place *p, uint32_t osd);
/* ERR_NO_MEMORY. */
MUST_CHECK int place_shares(struct place *p);

/* placement_move.c */
/* Counts and lists the slots of the pool at work. */
void place_count(struct place *p);
/* Fills the bad slots of the pool at work, as far as there are places. */
void place_fill(struct place *p);
/* Moves slots of the pool at work. True: something was moved. */
bool place_balance(struct place *p);

/* Has an OSD a shard that can get a replica? */
bool place_takes(const struct place_osd *o);
/* May one more replica of the PG be a new one in this plan? Old and new ones are in its group together for a
 * while. */
bool place_may_renew(const struct place *p, uint32_t pg);
/* Is the slot's replica new in this plan, or lost? */
bool place_slot_is_new(const struct place *p, size_t slot);
void place_slot_put(struct place *p, size_t slot, uint32_t osd);

/* placement_ask.c: asks the chooser of the pool at work, and does what it says. */
void place_ask(struct place *p);

/* placement_lead.c: who leads the PGs of the pool at work. */
void place_leaders(struct place *p);

#endif
