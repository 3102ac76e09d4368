/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools with a placement function of their own: its answers come from outside, and are checked like that.
 */
#include "mon/placement_impl.h"

/* NULL: the answer can be followed. ret_osds: the positions. */
static const char *validate(const struct place *p, uint32_t n, const uint32_t *answer, int count,
                            uint32_t *ret_osds)
{
    enum placement_domain domain = p->pool->domain;

    if (count < 0)
        return "it fails";
    if ((uint32_t)count != p->pool->replicas)
        return "it does not name as many OSDs as the pool has replicas";
    for (uint32_t i = 0; i < p->pool->replicas; i++) {
        uint32_t osd = place_osd_find(p, answer[i]);
        bool has = false;
        if (osd == PLACE_NONE)
            return "it names an OSD that there is not";
        if (!p->osds[osd].weight)
            return "it names an OSD that is out or drained";
        for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++)
            has |= p->slot_osd[s] == osd && !place_slot_is_new(p, s);
        if (!has && !place_takes(&p->osds[osd]))
            return "it names an OSD that is down, or whose shards cannot take a replica more";
        for (uint32_t k = 0; k < i; k++)
            if (p->osds[ret_osds[k]].first[domain] == p->osds[osd].first[domain])
                return "it names two OSDs in one failure domain";
        ret_osds[i] = osd;
    }
    return NULL;
}

static bool needs_repair(const struct place *p, uint32_t n)
{
    for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++)
        if (p->slot_shard[s] & PLACE_SLOT_BAD)
            return true;
    return false;
}

/* Replicas that are where they should be stay in their slots, the others get the rest of the OSDs. */
static void follow(struct place *p, uint32_t n, const uint32_t *osds)
{
    uint32_t replicas = p->pool->replicas;
    bool stays[PLACEMENT_REPLICAS_MAX] = {0}, done[PLACEMENT_REPLICAS_MAX] = {0};
    size_t first = place_slots(p, n);

    for (uint32_t k = 0; k < replicas; k++)
        for (uint32_t i = 0; i < replicas && p->slot_osd[first + k] != PLACE_NONE; i++)
            if (!done[i] && p->slot_osd[first + k] == osds[i] && !place_slot_is_new(p, first + k)) {
                p->slot_shard[first + k] &= (uint8_t)~PLACE_SLOT_BAD;
                stays[k] = done[i] = true;
            }
    for (uint32_t k = 0, i = 0; k < replicas; k++) {
        if (stays[k])
            continue;
        while (done[i])
            i++;
        place_slot_put(p, first + k, osds[i++]);
    }
    for (uint32_t k = 0; k < replicas; k++)
        if (p->slot_osd[first + k] == osds[0])
            p->lead[p->pg_first + n] = (uint8_t)k;
}

void place_ask(struct place *p)
{
    const struct placement_chooser *chooser = p->pool->chooser;
    uint32_t answer[PLACEMENT_REPLICAS_MAX], osds[PLACEMENT_REPLICAS_MAX];
    bool able = !chooser->begin || !chooser->begin(chooser, p->in->osds, p->in->osd_count);

    for (uint32_t n = 0; n < p->pg_count; n++) {
        if (place_pg(p, n)->pinned || (p->in->repair_only && !needs_repair(p, n)))
            continue;
        int count =
            !able ? -1
                  : chooser->choose(chooser, p->pool, place_pg(p, n), p->in->osds, p->in->osd_count, answer);
        const char *why = validate(p, n, answer, count, osds);
        if (!why) {
            follow(p, n, osds);
            continue;
        }
        p->refused_count++;
        p->refused_pg = p->pg_first + n;
        p->refused_why = why;
    }
}
