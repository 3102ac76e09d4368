/* SPDX-License-Identifier: Apache-2.0
 *
 * The greedy choice of placement.h. Quadratic in nothing that matters: one pass over the OSDs per replica.
 */
#include "mon/placement.h"

#include <string.h>

#include "base/error.h"
#include "base/hash.h"

int placement_domain_parse(const char *text, enum placement_domain *ret_domain)
{
    if (!*text || !strcmp(text, "osd"))
        *ret_domain = PLACEMENT_OSD;
    else if (!strcmp(text, "host"))
        *ret_domain = PLACEMENT_HOST;
    else if (!strcmp(text, "rack"))
        *ret_domain = PLACEMENT_RACK;
    else if (!strcmp(text, "zone"))
        *ret_domain = PLACEMENT_ZONE;
    else
        return -ERR_INVALID;
    return 0;
}

static bool same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static bool same_domain(const struct placement_osd *a, const struct placement_osd *b,
                        enum placement_domain domain)
{
    bool zone = same(a->zone, b->zone), rack = zone && same(a->rack, b->rack);

    switch (domain) {
    case PLACEMENT_OSD:
        return a->osd == b->osd;
    case PLACEMENT_HOST:
        return rack && same(a->host, b->host);
    case PLACEMENT_RACK:
        return rack;
    case PLACEMENT_ZONE:
        return zone;
    case PLACEMENT_DOMAINS:
        break;
    }
    UNREACHABLE();
}

/* The usable shard with the fewest replicas, or shard_count when none has room. */
static uint32_t best_shard(const struct placement_osd *o)
{
    uint32_t best = o->shard_count;

    for (uint32_t s = 0; s < o->shard_count; s++)
        if (o->shard_usable[s] && o->shard_load[s] < PLACEMENT_SHARD_PGS_MAX &&
            (best == o->shard_count || o->shard_load[s] < o->shard_load[best]))
            best = s;
    return best;
}

uint32_t placement_domain_count(const struct placement_osd *osds, uint32_t osd_count,
                                enum placement_domain domain)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < osd_count; i++) {
        bool known = best_shard(&osds[i]) == osds[i].shard_count;
        for (uint32_t j = 0; j < i && !known; j++)
            known = best_shard(&osds[j]) < osds[j].shard_count && same_domain(&osds[i], &osds[j], domain);
        count += !known;
    }
    return count;
}

/* Is count_a on a more than count_b on b, for their sizes? In MiB, so that the products fit. */
static int compare_for_size(uint64_t count_a, const struct placement_osd *a, uint64_t count_b,
                            const struct placement_osd *b)
{
    uint64_t left = count_a * ((b->size_bytes >> 20) + 1), right = count_b * ((a->size_bytes >> 20) + 1);

    return (left > right) - (left < right);
}

/* Less than zero: a is the better place for the PG's next replica. */
static int compare_osds(const struct placement_osd *a, const struct placement_osd *b, uint64_t pg)
{
    int order = compare_for_size((uint64_t)a->load + 1, a, (uint64_t)b->load + 1, b);

    if (order)
        return order;
    uint64_t hash_a = hash_pair(pg, a->osd), hash_b = hash_pair(pg, b->osd);
    return (hash_a > hash_b) - (hash_a < hash_b);
}

int placement_choose(struct placement_osd *osds, uint32_t osd_count, enum placement_domain domain,
                     uint64_t pg, uint32_t replicas, struct placement_member *ret_members)
{
    struct placement_osd *chosen[PLACEMENT_REPLICAS_MAX];
    uint32_t shards[PLACEMENT_REPLICAS_MAX];

    ASSERT(replicas >= 1 && replicas <= PLACEMENT_REPLICAS_MAX);
    for (uint32_t r = 0; r < replicas; r++) {
        struct placement_osd *best = NULL;
        for (uint32_t i = 0; i < osd_count; i++) {
            bool possible = best_shard(&osds[i]) < osds[i].shard_count;
            for (uint32_t c = 0; c < r && possible; c++)
                possible = !same_domain(&osds[i], chosen[c], domain);
            if (possible && (!best || compare_osds(&osds[i], best, pg) < 0))
                best = &osds[i];
        }
        if (!best)
            return -ERR_TOO_FEW_OSDS;
        chosen[r] = best;
        shards[r] = best_shard(best);
    }

    uint32_t leader = 0;
    for (uint32_t r = 0; r < replicas; r++) {
        if (compare_for_size((uint64_t)chosen[r]->leaders + 1, chosen[r],
                             (uint64_t)chosen[leader]->leaders + 1, chosen[leader]) < 0)
            leader = r;
        chosen[r]->load++;
        chosen[r]->shard_load[shards[r]]++;
    }
    chosen[leader]->leaders++;
    for (uint32_t r = 0; r < replicas; r++) {
        uint32_t from = r == 0 ? leader : r == leader ? 0 : r;
        ret_members[r] = (struct placement_member){chosen[from]->osd, shards[from]};
    }
    return 0;
}
