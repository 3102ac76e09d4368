/* SPDX-License-Identifier: Apache-2.0
 *
 * Who leads. A member's share of leading a PG is one in the number of members that may; an OSD's quota for a
 * pool is the sum of these over its replicas there, rounded down and up. Leaderships are handed from member
 * to member as long as that lowers a sum of squares: of the distance from the OSD's quota for the pool, which
 * counts most, and of how far the OSD, and the shard, is from its share over this pool and those before it.
 *
 * Members that are to leave do not lead.
 */
#include "mon/placement_impl.h"

#define SWEEPS_MAX   64
#define QUOTA_FACTOR 4

static bool may_lead(const struct place *p, size_t slot)
{
    return p->slot_osd[slot] != PLACE_NONE && !(p->slot_shard[slot] & PLACE_SLOT_BAD) &&
           p->osds[p->slot_osd[slot]].weight;
}

static int32_t *shard_excess(struct place *p, size_t slot)
{
    return &p->osds[p->slot_osd[slot]].shard_lead_excess[PLACE_SHARD(p->slot_shard[slot])];
}

static void count_shares(struct place *p)
{
    for (uint32_t i = 0; i < p->osd_count; i++) {
        p->osds[i].lead_share = 0;
        p->osds[i].lead = (struct place_quota){0};
    }
    for (uint32_t n = 0; n < p->pg_count; n++) {
        uint32_t able = 0;
        for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++)
            able += may_lead(p, s);
        for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++) {
            if (!may_lead(p, s))
                continue;
            p->osds[p->slot_osd[s]].lead_share += PLACE_LEAD_ONE / able;
            *shard_excess(p, s) -= (int32_t)(PLACE_LEAD_ONE / able);
        }
    }
    for (uint32_t i = 0; i < p->osd_count; i++) {
        struct place_osd *o = &p->osds[i];
        o->lead.lo = o->lead_share / PLACE_LEAD_ONE;
        o->lead.hi = DIV_UP(o->lead_share, PLACE_LEAD_ONE);
        o->lead_excess -= o->lead_share;
    }
}

static void lead_add(struct place *p, size_t slot, int by)
{
    struct place_osd *o = &p->osds[p->slot_osd[slot]];

    o->lead.count += (uint32_t)by;
    o->lead_excess += by * PLACE_LEAD_ONE;
    *shard_excess(p, slot) += by * PLACE_LEAD_ONE;
}

/* What the sum of squares gains by one leadership more there (by = 1), or loses by one less (by = -1). */
static int64_t change(struct place *p, size_t slot, int by)
{
    const struct place_osd *o = &p->osds[p->slot_osd[slot]];
    int64_t step = by > 0 ? place_take_cost(&o->lead) : place_give_gain(&o->lead);

    return QUOTA_FACTOR * step * PLACE_LEAD_ONE + 2 * (o->lead_excess + *shard_excess(p, slot)) +
           2 * by * PLACE_LEAD_ONE;
}

/* The best slot to take the PG's leadership from slot `from` (SIZE_MAX: from nobody), which it is left with
 * if nothing is better. */
static size_t best_lead(struct place *p, uint32_t n, size_t from)
{
    int64_t least = from == SIZE_MAX ? INT64_MAX : change(p, from, -1);
    size_t best = from;

    for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++) {
        if (s == from || !may_lead(p, s))
            continue;
        int64_t cost = change(p, s, 1);
        if (cost < least) {
            best = s;
            least = cost;
        }
    }
    return best;
}

static size_t lead_get(const struct place *p, uint32_t n)
{
    uint8_t lead = p->lead[p->pg_first + n];

    return lead == UINT8_MAX ? SIZE_MAX : place_slots(p, n) + lead;
}

static void lead_set(struct place *p, uint32_t n, size_t slot)
{
    p->lead[p->pg_first + n] = (uint8_t)(slot - place_slots(p, n));
    lead_add(p, slot, 1);
}

static bool may_change(const struct place *p, uint32_t n)
{
    return !place_pg(p, n)->pinned && !p->pool->chooser &&
           (!p->in->repair_only || p->moved_at[p->pg_first + n]);
}

static bool sweep(struct place *p)
{
    bool changed = false;

    for (uint32_t n = 0; n < p->pg_count; n++) {
        size_t from = lead_get(p, n);
        if (from == SIZE_MAX || !may_change(p, n))
            continue;
        size_t to = best_lead(p, n, from);
        if (to == from)
            continue;
        lead_add(p, from, -1);
        lead_set(p, n, to);
        changed = true;
    }
    return changed;
}

void place_leaders(struct place *p)
{
    count_shares(p);
    for (uint32_t n = 0; n < p->pg_count; n++) {
        size_t lead = lead_get(p, n);
        if (lead != SIZE_MAX && may_lead(p, lead))
            lead_add(p, lead, 1);
        else
            p->lead[p->pg_first + n] = UINT8_MAX;
    }
    for (uint32_t n = 0; n < p->pg_count; n++) {
        size_t lead = lead_get(p, n) == SIZE_MAX ? best_lead(p, n, SIZE_MAX) : SIZE_MAX;
        if (lead != SIZE_MAX)
            lead_set(p, n, lead);
    }
    for (int i = 0; i < SWEEPS_MAX && sweep(p); i++)
        ;
}
