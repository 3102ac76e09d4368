/* SPDX-License-Identifier: Apache-2.0
 *
 * Placement: which shards hold the replicas of a new PG, and which of them should lead it. A pure function of
 * the OSDs, the load that they carry already and the PG's number: no clock, no randomness, so that the same
 * map gives the same answer.
 *
 * Members are chosen one after the other: among the OSDs in failure domains that the PG does not use yet, the
 * one with the least load for its size, equal ones in an order that differs from PG to PG; on it, the shard
 * with the fewest replicas. The member whose OSD leads the least becomes member 0, the preferred leader.
 */
#ifndef MON_PLACEMENT_H
#define MON_PLACEMENT_H

#include "base/base.h"

#define PLACEMENT_SHARDS_MAX    64
#define PLACEMENT_SHARD_PGS_MAX 4096 /* replicas that one shard can hold */

enum placement_domain { PLACEMENT_OSD, PLACEMENT_HOST, PLACEMENT_RACK };

/* One OSD that may be chosen. */
struct placement_osd {
    uint32_t osd;
    const char *host, *rack; /* the caller's strings; never NULL */
    uint64_t size_bytes;
    uint32_t shard_count;
    bool shard_usable[PLACEMENT_SHARDS_MAX];
    uint32_t shard_load[PLACEMENT_SHARDS_MAX]; /* replicas there; raised by placement_choose() */
    uint32_t load;                             /* sum of the above */
    uint32_t leaders;                          /* PGs that prefer it as leader; raised too */
};

struct placement_member {
    uint32_t osd, shard;
};

/* "osd", "host", "rack"; the empty string means "osd". ERR_INVALID. */
MUST_CHECK int placement_domain_parse(const char *text, enum placement_domain *ret_domain);

/* In how many failure domains there is an OSD with a usable shard. */
uint32_t placement_domain_count(const struct placement_osd *osds, uint32_t osd_count,
                                enum placement_domain domain);

/* Chooses `replicas` members for the PG and adds them to the OSDs' load. ERR_TOO_FEW_OSDS: not that many
 * domains with room; the load is then unchanged. */
MUST_CHECK int placement_choose(struct placement_osd *osds, uint32_t osd_count, enum placement_domain domain,
                                uint64_t pg, uint32_t replicas, struct placement_member *ret_members);

#endif
