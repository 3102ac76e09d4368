/* SPDX-License-Identifier: Apache-2.0
 *
 * A status of the cluster while it is being made: mon_status.c counts, mon_health.c says what is wrong.
 */
#ifndef MON_STATUS_H
#define MON_STATUS_H

#include "mon/health.h"
#include "mon/impl.h"

#define STATUS_SUBJECTS_MAX 64 /* problems of single OSDs and pools that are told of */
#define STATUS_PROBLEMS_MAX (STATUS_SUBJECTS_MAX + 32) /* and one of each other kind */

/* What may be wrong with a PG, and is told of all such PGs together. */
enum pg_problem {
    PG_NO_LEADER,
    PG_DAMAGED,
    PG_RECOVERING,
    PG_DEGRADED,
    PG_LOST,
    PG_DIFFERS,
    PG_FORCE_DUE,     /* of those without a leader: nothing but an order helps ... */
    PG_FORCE_WAITS,   /* ... it was given ... */
    PG_FORCE_FAILS,   /* ... and cannot be carried out ... */
    PG_FORCE_NOTHING, /* ... it would not help either */
    PG_FORCED,        /* not acknowledged yet */
    PG_PROBLEMS
};

struct mon_problem {
    char text[760]; /* all of it */
    char what[360], doing[160], todo[240];
};

/* PGs in which an OSD that is down is missing, and what that one of them has left that has the least. */
struct mon_missed {
    uint32_t pgs, left, of;
};

struct mon_status {
    struct mon *mon;
    Fb__ClusterStatus message;
    Fb__MoveProgress progress;
    Fb__OsdUsage *usage, **usage_pointers;
    struct mon_missed *missed; /* as `usage` */
    bool error, warning;
    struct mon_problem problem[STATUS_PROBLEMS_MAX + 1]; /* the last is for what there is no room for */
    char *texts[STATUS_PROBLEMS_MAX];
    Fb__HealthProblem detail[STATUS_PROBLEMS_MAX], *details[STATUS_PROBLEMS_MAX];
    uint32_t subjects; /* problems of single OSDs and pools */
    uint32_t pg_count[PG_PROBLEMS];
    char pg_examples[PG_PROBLEMS][80];
    uint64_t entries_lost; /* at least, of PGs that were forced */
    uint32_t pools_going;  /* PGs of removed pools that still have data somewhere */
};

/* Heap; NULL without memory. Remembers since when there are which problems. */
struct mon_status *mon_status_new(struct mon *mon);
void mon_status_free(struct mon_status *st);
Fb__OsdUsage *mon_status_usage(struct mon_status *st, uint32_t osd);
struct mon_missed *mon_status_missed(struct mon_status *st, uint32_t osd); /* as above */
void mon_status_note_pg(struct mon_status *st, enum pg_problem what, uint64_t pg);
/* Fills in health and problems; counts are there. */
void mon_health_fill(struct mon_status *st);

#endif
