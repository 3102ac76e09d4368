/* SPDX-License-Identifier: Apache-2.0
 *
 * Clusters made of numbers alone, for placement: OSDs by zones, racks and hosts, pools, PGs; plans are
 * carried out by writing their members down. For tests and for bench/placement.c.
 */
#ifndef TESTS_MON_PLAN_WORLD_H
#define TESTS_MON_PLAN_WORLD_H

#include "mon/placement.h"

struct plan_world {
    struct placement_osd *osds;
    uint32_t osd_count, osds_max;
    struct placement_pool *pools;
    uint32_t pool_count;
    struct placement_pg *pgs;
    uint32_t pg_count;
};

/* OSD i stands in host i / per_host, and so on; all have size 1 TiB, full weight, and are up. Room for
 * `spare` more. Ends the process without memory. */
void plan_world_init(struct plan_world *w, uint32_t osds, uint32_t spare, uint32_t per_host,
                     uint32_t hosts_per_rack, uint32_t racks_per_zone, uint32_t shards);
void plan_world_fini(struct plan_world *w);
/* Adds an OSD in that host (and its rack and zone); its id is the next. */
struct placement_osd *plan_world_add_osd(struct plan_world *w, uint32_t host, uint32_t hosts_per_rack,
                                         uint32_t racks_per_zone, uint32_t shards);
/* A pool whose PGs have no members yet. */
void plan_world_add_pool(struct plan_world *w, uint32_t replicas, enum placement_domain domain, uint32_t pgs);
/* Makes a plan; never fails. */
struct placement_plan plan_world_plan(const struct plan_world *w, bool repair_only);
void plan_world_apply(struct plan_world *w, const struct placement_change *change);
/* Plans and applies until a plan is empty. Returns the number of plans that were not; `ret_added`, may be
 * NULL: replicas copied. */
uint32_t plan_world_settle(struct plan_world *w, uint64_t *ret_added);
/* No member twice, none lost or on an OSD that it must leave, all domains distinct, as many as wanted. */
bool plan_world_pg_is_whole(const struct plan_world *w, const struct placement_pg *pg);
/* The domain of a kind: distinct OSDs in it give the same value. */
bool plan_world_same_domain(const struct placement_osd *a, const struct placement_osd *b,
                            enum placement_domain domain);

/* Of the OSDs with weight, counts over what is due by size x weight: the least and the most. */
struct plan_spread {
    double data_min, data_max, lead_min, lead_max;
    double shard_max,
        shard_lead_max; /* the fullest shard against the mean of all shards of its OSD's weight */
};
/* `pool`: of one pool, or PLAN_ALL_POOLS. */
#define PLAN_ALL_POOLS UINT32_MAX
struct plan_spread plan_world_spread(const struct plan_world *w, uint32_t pool);

#endif
