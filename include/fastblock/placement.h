/* SPDX-License-Identifier: Apache-2.0
 *
 * A placement function of your own for fastblock-mon: which OSDs hold the replicas of a pool's placement
 * groups (PGs).
 *
 * Build a shared object that exports `fb_placement`, start the monitors with `--placement-plugin PATH`, and
 * create pools with `fastblock pool create POOL --placement NAME`. examples/placement.c is a complete one. It
 * runs inside of the monitor: it must not wait, print or keep the pointers that it is given, and its answer
 * must depend on nothing but its arguments, for each answer that differs moves data.
 *
 * Answers are checked: as many OSDs as the pool has replicas, that there are and are in, in distinct failure
 * domains, and up unless they have a replica of the PG already. One that is not so is refused, which the
 * monitor logs, and that PG is placed by the monitor's own function.
 *
 * This interface has a version; structures of the same version may grow at their end, which `size` tells.
 */
#ifndef FASTBLOCK_PLACEMENT_H
#define FASTBLOCK_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FB_PLACEMENT_VERSION 1

struct fb_placement_osd {
    uint32_t osd;    /* its id */
    uint32_t weight; /* thousandths of its size that count, to 1000; 0: out or drained */
    uint64_t size_bytes;
    const char *host, *rack, *zone; /* "": not known */
    uint32_t shards;
    uint32_t up; /* 1: it can get replicas now */
};

struct fb_placement_request {
    size_t size;                         /* of this structure */
    uint32_t pool;                       /* its id */
    uint32_t pg;                         /* number of the PG within the pool */
    uint32_t replicas;                   /* how many OSDs to name, at most 7 */
    const char *failure_domain;          /* "osd", "host", "rack" or "zone" */
    const struct fb_placement_osd *osds; /* all that there are, by id */
    size_t osd_count;
    size_t osd_size;         /* of one of them in that array */
    const uint32_t *members; /* OSDs that have the PG's replicas now; none when it is new */
    size_t member_count;
};

struct fb_placement {
    uint32_t version; /* FB_PLACEMENT_VERSION */
    const char *name; /* 1 to 64 characters of A-Z a-z 0-9 . _ - */
    /* Puts request->replicas ids into ret_osds, first the one that should lead. Returns 0; anything else:
     * cannot say. */
    int (*choose)(const struct fb_placement_request *request, uint32_t *ret_osds);
};

/* What the shared object exports. */
extern const struct fb_placement fb_placement;

#ifdef __cplusplus
}
#endif

#endif
