/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader's side of scrub, for its two files only: scrub.c asks and decides, scrub_compare.c compares what
 * the members answered.
 */
#ifndef OSD_SCRUB_LEAD_H
#define OSD_SCRUB_LEAD_H

#include "osd/scrub.h"

#define SCRUB_UNION_MAX   (RAFT_MEMBERS_MAX * SCRUB_ROWS_MAX)
#define SCRUB_REQUEST_MAX 2048

struct scrub_asked {
    uint32_t replica, osd; /* 0: nobody */
    bool there;            /* it is connected, so it should answer */
    bool sent, again, answered;
    struct rpc_call call;
    uint32_t copy_from;
    struct scrub_view view;
    uint8_t reply[SCRUB_REPLY_MAX];
};

/* An object of the range, over all members. */
struct scrub_object {
    uint64_t image, object;
    uint64_t versions; /* hash of what the members say */
    uint64_t reached;  /* what members must have applied to know of all that made these */
    uint32_t looks;    /* in a row, with the same versions */
};

struct scrub_objects {
    struct scrub_object at[SCRUB_UNION_MAX];
    uint32_t count;
};

struct scrub {
    struct op op;
    struct osd_shard *shard;
    struct timer timer;
    bool paused; /* by the monitor's word */
    uint64_t pg; /* of the PG at work; 0: none */
    uint64_t term;
    uint64_t number; /* of the question */
    bool recheck;    /* of damage: this object only */
    struct scrub_range range;
    uint32_t tries;
    uint64_t patience_until_ns; /* until then members may say that they need longer */
    bool reread;                /* this try reads the medium again */
    struct content_key key;     /* of the question, if it is a deep one */
    bool deep;                  /* the scrub is: contents are compared before it is through with a range */
    /* An object is being made equal. */
    bool equalizing;
    struct scrub_range saved;
    struct scrub_look look;
    struct scrub_asked asked[RAFT_MEMBERS_MAX];
    struct scrub_objects before; /* of the try before, what was not the same */
    struct scrub_objects noted;  /* in this range: that they differ has been told, and mended if it can be */
    uint8_t frame[FRAME_HEADER_SIZE + SCRUB_REQUEST_MAX];
};

enum scrub_verdict {
    SCRUB_SAME,
    SCRUB_UNREAD,  /* by index and checksums, but not everybody's contents could be compared */
    SCRUB_MOVES,   /* not the same now: members may be at different points of the log */
    SCRUB_DIFFERS, /* nor the times before, with the same versions, which all of them have applied */
};

struct scrub_comparison {
    struct scrub_objects objects;
    enum scrub_verdict verdicts[SCRUB_UNION_MAX];
    uint64_t damaged[SCRUB_UNION_MAX][BLOCKS_PER_OBJECT / 64]; /* blocks that some member lost for good */
    uint32_t moving, skipped, left; /* skipped: those that would be, if this were the last try */
    uint32_t unread; /* whose contents are to be compared (again): nothing else tells them apart */
    bool all;        /* everyone who is there answered, and has what this leader began with */
    bool mine;       /* this replica did */
};

/* NULL: there is none. */
struct scrub_object *scrub_object_find(struct scrub_objects *objects, uint64_t image, uint64_t object);
/* A member had more rows than fit in its answer: the range is cut to what all have told of. True: it was. */
bool scrub_range_cut(struct scrub *s);
/* What the answers say of the range. */
void scrub_compare_all(struct scrub *s, const struct pg *pg, struct scrub_comparison *ret);
/* Is the object the same on all that answered? */
bool scrub_is_same(struct scrub *s, uint64_t image, uint64_t object);
/* Who has the version of a differing object that more than half of all members have; 0: nobody. Those that
 * have another one are told to copy (copy_from) by the next question. */
uint32_t scrub_equalize(struct scrub *s, const struct pg *pg, const struct scrub_object *o);
/* To the log, and to the PG's results. */
void scrub_difference_note(struct scrub *s, struct pg *pg, const struct scrub_object *o);
/* The blocks that are listed, in the range: exactly those that were found. */
void scrub_list_damage(struct scrub *s, struct pg *pg, const struct scrub_comparison *cmp);

#endif
