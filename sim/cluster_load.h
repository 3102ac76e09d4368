/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of the cluster scenario (cluster_load.c) and its workers (cluster_worker.c), which share what
 * stands here.
 */
#ifndef SIM_CLUSTER_LOAD_H
#define SIM_CLUSTER_LOAD_H

#include "sim/cluster.h"

#define CLUSTER_EXTENTS_MAX    64   /* of a request */
#define CLUSTER_EXTENTS_ALL    4096 /* of a whole image */
#define CLUSTER_IO_SECTORS_MAX (CLUSTER_IO_MAX / CLUSTER_SECTOR)
#define CLUSTER_WRITERS        1 /* the checker's line of writers that fence each other */

struct worker {
    struct op op;
    struct load *load;
    struct client_io io;
    struct client_status status;
    struct client_extent extents[CLUSTER_EXTENTS_MAX];
    struct client_extent *all_extents; /* of the last pass, which begins with the status of the whole image */
    bool status_taken;
    bool is_status; /* the request is `status`, not `io` */
    struct slice data;
    struct timer timer;
    bool read_all;
    uint32_t life;                 /* of the image when the request began */
    bool fenced;                   /* another writer had opened it before that */
    uint32_t piece_max;            /* sectors, in read_all */
    uint32_t sector, sector_count; /* of the request */
    uint32_t reg, reg_count;       /* that it changes: fewer for discards */
    uint64_t start, tag;
    uint64_t started_ns;                      /* simulator's time */
    uint32_t numbers[CLUSTER_IO_SECTORS_MAX]; /* in the registers' histories */
};

enum load_state { LOAD_OPEN, LOAD_IMAGE, LOAD_RUN, LOAD_CLOSE, LOAD_REST };

struct load {
    struct op op;
    struct cluster_client *owner;
    struct client_open open;
    struct client *client;
    struct client_image_open image_open;
    struct client_image_close image_close;
    struct client_image *image;
    bool force;
    uint32_t incarnation; /* for the checker */
    struct timer timer;
    struct worker workers[CLUSTER_WORKERS];
    char writer[24];
    bool read_all_done;
};

static inline struct cluster *load_cluster(const struct load *l)
{
    return l->owner->process.cluster;
}

static inline struct cluster_image *load_image(const struct load *l)
{
    return &load_cluster(l)->images[l->owner->image];
}

/* Its writers are to close the image, and to stay away. */
static inline bool load_must_leave(const struct load *l)
{
    return load_image(l)->evict && !l->owner->reader;
}

/* Begins an op of the load; `read_all`: reads the image from end to end, once. */
void worker_start(struct worker *w, struct load *load, bool read_all);

#endif
