/* SPDX-License-Identifier: Apache-2.0
 *
 * OSDs by location, and the share of a pool's replicas that each should have: in proportion to size x weight,
 * but no failure domain can have more than one replica of a PG. So the domains that are due more get just
 * that, the largest first, and the rest is shared out among the others.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "mon/placement_impl.h"

#define SIZE_MIB_MAX (1ull << 34) /* larger OSDs count as such a one, so that the sums fit */

static const char *text(const char *s)
{
    return s ? s : "";
}

/* Compares down to and with that kind of domain. */
static int compare_location(const struct placement_osd *a, const struct placement_osd *b,
                            enum placement_domain domain)
{
    int order = strcmp(text(a->zone), text(b->zone));

    if (!order && domain <= PLACEMENT_RACK)
        order = strcmp(text(a->rack), text(b->rack));
    if (!order && domain <= PLACEMENT_HOST)
        order = strcmp(text(a->host), text(b->host));
    if (!order && domain <= PLACEMENT_OSD)
        order = (a->osd > b->osd) - (a->osd < b->osd);
    return order;
}

static int compare_osds(const void *a, const void *b)
{
    const struct place_osd *left = a, *right = b;

    return compare_location(left->in, right->in, PLACEMENT_OSD);
}

/* The entry of this OSD, or the empty one where it would be. */
static struct place_id *id_find(const struct place *p, uint32_t osd)
{
    uint32_t at = (uint32_t)hash_u64(osd) & p->ids_mask;

    while (p->ids[at].position != PLACE_NONE && p->ids[at].osd != osd)
        at = (at + 1) & p->ids_mask;
    return &p->ids[at];
}

int place_osds_init(struct place *p)
{
    uint32_t count = p->in->osd_count;

    p->osd_count = count;
    p->osds = calloc(count + 1, sizeof(*p->osds));
    for (p->ids_mask = 1; p->ids_mask < 2 * count; p->ids_mask *= 2)
        ;
    p->ids = malloc(p->ids_mask * sizeof(*p->ids));
    if (!p->osds || !p->ids)
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        const struct placement_osd *in = &p->in->osds[i];
        ASSERT(in->shard_count <= PLACEMENT_SHARDS_MAX && in->weight <= PLACEMENT_WEIGHT_MAX);
        p->osds[i].in = in;
        p->osds[i].weight = (MIN(in->size_bytes >> 20, SIZE_MIB_MAX) + 1) * in->weight;
    }
    qsort(p->osds, count, sizeof(*p->osds), compare_osds);
    for (int d = PLACEMENT_OSD; d < PLACEMENT_DOMAINS; d++)
        for (uint32_t first = 0, end; first < count; first = end) {
            for (end = first + 1; end < count && !compare_location(p->osds[first].in, p->osds[end].in, d);)
                end++;
            for (uint32_t i = first; i < end; i++) {
                p->osds[i].first[d] = first;
                p->osds[i].end[d] = end;
            }
        }
    memset(p->ids, 0xff, p->ids_mask * sizeof(*p->ids));
    p->ids_mask--;
    for (uint32_t i = 0; i < count; i++)
        *id_find(p, p->osds[i].in->osd) = (struct place_id){p->osds[i].in->osd, i};
    return 0;
}

uint32_t place_osd_find(const struct place *p, uint32_t osd)
{
    return id_find(p, osd)->position;
}

/* ---- shares ---- */

struct domain {
    uint64_t weight;
    uint32_t first, end;
};

static int compare_weights(const void *a, const void *b)
{
    const struct domain *left = a, *right = b;
    int order = (left->weight < right->weight) - (left->weight > right->weight);

    return order ? order : (left->first > right->first) - (left->first < right->first);
}

static uint32_t find_domains(const struct place *p, struct domain *domains, uint64_t *ret_weight)
{
    uint32_t count = 0;

    *ret_weight = 0;
    for (uint32_t i = 0; i < p->osd_count;) {
        struct domain d = {.first = i, .end = p->osds[i].end[p->pool->domain]};
        for (; i < d.end; i++)
            d.weight += p->osds[i].weight;
        *ret_weight += d.weight;
        domains[count++] = d;
    }
    return count;
}

int place_shares(struct place *p)
{
    struct domain *domains = malloc((p->osd_count + 1) * sizeof(*domains));
    uint64_t rest; /* weight of the domains that are still to get their share */
    uint32_t replicas = p->pool->replicas;

    if (!domains)
        return -ERR_NO_MEMORY;
    uint32_t count = find_domains(p, domains, &rest);
    qsort(domains, count, sizeof(*domains), compare_weights);
    bool full = true; /* so far every domain was due a replica of every PG */
    for (uint32_t i = 0; i < count; i++) {
        const struct domain *d = &domains[i];
        unsigned __int128 all = (unsigned __int128)p->pg_count * PLACE_ONE, share = 0;
        full = full && replicas && d->weight && (unsigned __int128)d->weight * replicas >= rest;
        if (full)
            share = all;
        else if (rest)
            share = all * replicas * d->weight / rest;
        for (uint32_t o = d->first; o < d->end; o++) {
            struct place_osd *osd = &p->osds[o];
            osd->share = d->weight ? (int64_t)(share * osd->weight / d->weight) : 0;
            osd->data.lo = (uint32_t)(osd->share / PLACE_ONE);
            osd->data.hi = (uint32_t)DIV_UP(osd->share, PLACE_ONE);
        }
        if (full) {
            rest -= d->weight;
            replicas--;
        }
    }
    free(domains);
    return 0;
}
