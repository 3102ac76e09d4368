/* SPDX-License-Identifier: Apache-2.0
 *
 * What a store must contain, kept in plain arrays: a reference for scenario_store.c.
 *
 * An entry is a function of (PG, index, term), so the model of a log is a term per index; a block's content
 * is a function of the entry that wrote it, so the model of a block is one number.
 */
#ifndef SIM_STORE_MODEL_H
#define SIM_STORE_MODEL_H

#include "base/base.h"
#include "base/entry.h"
#include "base/group.h"

#define MODEL_PGS        8u /* that there can be ... */
#define MODEL_PGS_FIRST  3u /* ... and are at first: the others are split off them */
#define MODEL_SPLITS     2u /* of one PG */
#define MODEL_LOG_MAX    40000u
#define MODEL_TERMS      4u /* entries of different terms that were ever appended at one index */
#define MODEL_IMAGES     64u
#define MODEL_OBJECTS    24u  /* of one image, in all PGs */
#define MODEL_IMAGE_SPAN 600u /* indexes after which a new pair of images is in use */

struct model_object {
    uint64_t index;                  /* 0: does not exist */
    uint64_t tag[BLOCKS_PER_OBJECT]; /* 0: zeros */
    uint32_t at[BLOCKS_PER_OBJECT];  /* the last entry that touched it */
    /* No content is known: a copy had none. Unsure: another copy, in which that is otherwise, is taking the
     * object's place, or was when a crash came. */
    uint64_t lost[BLOCKS_PER_OBJECT / 64], unsure[BLOCKS_PER_OBJECT / 64];
    uint64_t lost_index; /* no entry above it has touched any of these, as was said with them */
    uint32_t copies;     /* how often one has begun to take its place, or has done so */
};

/* The entry at `index`, in whatever term, splits the PG. */
struct model_split {
    uint64_t index;
    uint32_t child; /* number */
};

struct model_pg {
    uint64_t id, seed;
    uint32_t number;
    bool exists;
    bool bulky;        /* one write in four may be of any size */
    uint32_t restless; /* most entries set an image's record: 1: or forget it; 2: its size */
    bool imaged;       /* images come, change and go all the time */
    bool quiet;        /* most entries write nothing, and many set a group */
    uint64_t born;     /* index of the parent's log that its own begins at; 0: it was there from the start */
    struct group born_with;
    struct model_split split[MODEL_SPLITS];
    uint32_t splits;
    uint64_t high;                /* the highest index that was ever appended */
    uint32_t objects;             /* of one image, in use; not all are this PG's */
    uint32_t term[MODEL_LOG_MAX]; /* of the log as appended now */
    uint32_t history[MODEL_LOG_MAX][MODEL_TERMS];
    uint8_t buried[MODEL_LOG_MAX];         /* bits: a start has shown that it is not there any more */
    uint64_t last, commit, applied, acked; /* acked: durable by the store's word */
    /* Of that what a later batch, which is durable, too, says of it; and what the next one will say. */
    uint64_t proven, provable;
    /* The same of what the PG table says, and the newest checkpoint. */
    uint64_t table_proven, table_provable, checkpoint_proven, checkpoint_provable;
    uint64_t cuts;                            /* of the log */
    struct image_record images[MODEL_IMAGES]; /* by image id */
    uint64_t forgotten[MODEL_IMAGES];         /* index of the newest FORGET entry; 0: none */
    uint64_t floor_epoch;
    struct model_object object[MODEL_IMAGES][MODEL_OBJECTS];
};

/* The entry; `crc` (room for IO_BLOCKS_MAX) is left alone unless there is one to fill. */
void model_entry(const struct model_pg *pg, uint64_t index, uint32_t term, struct entry *ret);
/* The group that such an entry sets, or that a PG is born with. */
void model_group(const struct model_pg *pg, uint64_t index, uint32_t term, struct group *ret);
/* The group in force after the entry at `index`, of those that were appended last. */
void model_group_at(const struct model_pg *pg, uint64_t index, struct group *ret);
uint64_t model_tag(const struct model_pg *pg, uint64_t index, uint32_t term, uint32_t block);
void model_fill(uint64_t tag, uint8_t *block); /* tag 0: zeros */
bool model_matches(uint64_t tag, const uint8_t *block);
void model_cut(struct model_pg *pg,
               uint64_t index); /* of what counts as durable nothing is left from there */
void model_append(struct model_pg *pg, uint64_t index, uint32_t term); /* replaces from there */
bool model_had(const struct model_pg *pg, uint64_t index, uint64_t term);
/* A start shows which entries there are; true: one is there that an earlier one had shown to be gone. */
bool model_bury(struct model_pg *pg, uint64_t index, uint64_t term_there);
void model_unbury(struct model_pg *pg, uint64_t index, uint32_t term); /* it is appended, once more */
/* The PG as its log makes it up to there, of one that was not split off. */
void model_replay(const struct model_pg *pg, uint64_t index, struct model_pg *ret);
void model_apply(struct model_pg *pg, uint64_t index); /* stops in front of a split */
/* The number of the PG that could be split off next; 0: none. */
uint32_t model_next_child(const struct model_pg *pg);
/* How often the pool's objects are divided, as the log has it up to there; and is the object the PG's then?
 */
uint32_t model_count(const struct model_pg *pg, uint64_t index);
bool model_belongs(const struct model_pg *pg, uint64_t index, uint64_t image, uint64_t object);
/* The next entry to be applied is committed and splits the PG. NULL: it is none. */
const struct model_split *model_split_due(const struct model_pg *pg);
/* Applies it. What goes goes to `child`; NULL: is gone. */
void model_split(struct model_pg *pg, struct model_pg *child);
/* The block as the log up to `last` makes it: `ret` false if nothing above commit says anything. */
bool model_proposed(const struct model_pg *pg, uint64_t image, uint64_t object, uint32_t block,
                    uint64_t *ret_tag);

#endif
