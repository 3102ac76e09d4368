/* SPDX-License-Identifier: Apache-2.0
 *
 * What the plots of the cluster scenario share.
 */
#ifndef SIM_CLUSTER_PLOTS_H
#define SIM_CLUSTER_PLOTS_H

#include "sim/cluster.h"

#define PLOT_PGS_MAX   16
#define MOVE_TRIES     3 /* orders to move something are given so often, while they fail */
#define HOLD_MARGIN_NS (30 * NS_PER_MS)

struct plot {
    struct cluster *c;
    struct cluster_osd *osd;
    struct cluster_osd *other;
    uint64_t pgs[PLOT_PGS_MAX]; /* led by `osd` */
    uint32_t pg_count;
    uint32_t image;
    uint32_t cut;                /* the image shrinks to so many sectors; LAG: the point of a recovery */
    uint64_t until_ns, other_ns; /* LEADER: its followers hear from it again, one of them then */
    bool parted;                 /* from its followers, by refused connections */
    struct process *held;        /* its frames are held up; NULL: nobody's */
    bool watches, over;          /* RESIZE: the image is looked at still, though the plot is over */
    uint64_t generation;         /* and had this generation */
};

/* Of what a plot is played with; it ends by plot_end(), and none other begins before that. */
struct plot *plot_new(struct cluster *c);
void plot_end(void *owner); /* a struct plot */

/* A random time, in nanoseconds. */
uint64_t plot_between(struct cluster *c, uint64_t min_ms, uint64_t max_ms);
bool plot_leads(const struct osd_shard *shard, uint64_t pg);
bool plot_has_replica(const struct cluster *c, const struct cluster_osd *osd, uint64_t pg);
/* The PGs that an OSD leads and that hold something; how many. */
uint32_t plot_find_led(const struct cluster *c, const struct cluster_osd *osd, uint64_t pgs[PLOT_PGS_MAX]);
/* An OSD that leads such, from a random one on; NULL: none does. */
struct cluster_osd *plot_find_leader(struct cluster *c, uint64_t pgs[PLOT_PGS_MAX], uint32_t *ret_count);
/* Another OSD with a replica of the PG, or one that is neither of two; NULL: there is none. */
struct cluster_osd *plot_find_other(struct cluster *c, const struct cluster_osd *osd, uint64_t pg);
struct cluster_osd *plot_find_third(struct cluster *c, const struct cluster_osd *one,
                                    const struct cluster_osd *two, uint64_t pg);
/* Frames to all OSDs arrive so much later, those by links that are yet to be made only if `new_links`. */
void plot_hold_to_all(struct cluster *c, const struct process *from, uint64_t for_ns, bool new_links);

/* Each begins one; false: there is nobody to play it. */
bool plot_fence(struct cluster *c);
bool plot_greeting(struct cluster *c);
bool plot_handed(struct cluster *c);
bool plot_lag(struct cluster *c);
bool plot_late(struct cluster *c);
bool plot_leader(struct cluster *c);
bool plot_resize(struct cluster *c);
bool plot_rest(struct cluster *c);
bool plot_term(struct cluster *c);
bool plot_unwon(struct cluster *c);

#endif
