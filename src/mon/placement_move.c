/* SPDX-License-Identifier: Apache-2.0
 *
 * The replicas of one pool: bad slots are filled, then slots move from OSDs that have too many to OSDs that
 * have too few.
 *
 * Filling. The k-th replica of a pool that an OSD gets is due at the moment (k + u) / share, u a fraction
 * that is a hash of pool, OSD and k; a slot gets the OSD that is due first, outside of the domains in use. So
 * OSDs fill up at the same pace, by their share, and in an order that is mixed anew with every round: PGs of
 * one OSD have their other replicas all over the cluster, which then all help when it is lost.
 *
 * Balance. The OSD with most too many gives one of its slots to the OSD with most too few that is possible
 * for any of its slots, if that lowers the measure of placement_impl.h; an OSD that has nothing to give as
 * things stand is settled until the next pass. Slots that were filled or moved in this plan go first: they
 * cost nothing.
 */
#include "base/hash.h"
#include "base/plant.h"
#include "mon/placement_impl.h"

#define PASSES_MAX 32 /* a bound; few are needed */
#define LOOKS_MAX  16 /* slots of an OSD that are compared before one is taken */

static uint64_t mix(const struct place *p, const struct place_osd *o)
{
    return hash_pair(hash_pair(p->pool->id, o->in->osd), o->data.count);
}

static bool shard_has_room(const struct place_osd *o, uint32_t s)
{
    return o->shard_load[s] < (o->in->shard_pgs_max[s] ? o->in->shard_pgs_max[s] : PLACEMENT_SHARD_PGS);
}

/* The usable shard with the fewest replicas, or shard_count when none has room. */
static uint32_t best_shard(const struct place_osd *o)
{
    uint32_t best = o->in->shard_count;

    for (uint32_t s = 0; s < o->in->shard_count; s++)
        if (o->in->shard_usable[s] && shard_has_room(o, s) &&
            (best == o->in->shard_count || o->shard_load[s] < o->shard_load[best]))
            best = s;
    return best;
}

bool place_takes(const struct place_osd *o)
{
    return o->weight && o->in->up && best_shard(o) < o->in->shard_count;
}

/* ---- counters and lists ---- */

static void list_add(struct place *p, size_t slot)
{
    uint32_t s = (uint32_t)(slot - p->slot_first);
    struct place_osd *o = &p->osds[p->slot_osd[slot]];

    p->prev[s] = PLACE_NONE;
    p->next[s] = o->slots;
    if (o->slots != PLACE_NONE)
        p->prev[o->slots] = s;
    o->slots = s;
}

static void list_remove(struct place *p, size_t slot)
{
    uint32_t s = (uint32_t)(slot - p->slot_first);

    if (p->prev[s] == PLACE_NONE)
        p->osds[p->slot_osd[slot]].slots = p->next[s];
    else
        p->next[p->prev[s]] = p->next[s];
    if (p->next[s] != PLACE_NONE)
        p->prev[p->next[s]] = p->prev[s];
}

static void count_pg(struct place *p, uint32_t n)
{
    for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++)
        if (p->slot_osd[s] != PLACE_NONE) {
            p->osds[p->slot_osd[s]].data.count++;
            list_add(p, s);
        }
}

void place_count(struct place *p)
{
    for (uint32_t i = 0; i < p->osd_count; i++) {
        p->osds[i].data.count = 0;
        p->osds[i].slots = PLACE_NONE;
    }
    /* Those that this plan has moved come last, and so first in the lists. */
    for (int moved = 0; moved < 2; moved++)
        for (uint32_t n = 0; n < p->pg_count; n++)
            if (!p->moved_at[p->pg_first + n] == !moved)
                count_pg(p, n);
}

static void slot_leave(struct place *p, size_t slot)
{
    struct place_osd *o = &p->osds[p->slot_osd[slot]];

    list_remove(p, slot);
    o->data.count--;
    o->excess -= PLACE_ONE;
    o->shard_load[PLACE_SHARD(p->slot_shard[slot])]--;
    p->slot_osd[slot] = PLACE_NONE;
}

static void slot_enter(struct place *p, size_t slot, uint32_t osd)
{
    struct place_osd *o = &p->osds[osd];

    p->slot_osd[slot] = osd;
    p->slot_shard[slot] = (uint8_t)best_shard(o);
    ASSERT(p->slot_shard[slot] < o->in->shard_count);
    o->shard_load[p->slot_shard[slot]]++;
    o->data.count++;
    o->excess += PLACE_ONE;
    list_add(p, slot);
}

/* The best OSD for the slot: the one with the smallest key outside of the domains of the PG's other slots. */
static uint32_t best_place(const struct place *p, size_t slot)
{
    uint32_t replicas = p->pool->replicas, first[PLACEMENT_REPLICAS_MAX], end[PLACEMENT_REPLICAS_MAX];
    uint32_t best = place_tree_best(&p->take), used = 0;
    size_t pg_slot = slot - (slot - p->slot_first) % replicas;
    enum placement_domain domain = PLANT(MON_PLACE_TOGETHER) ? PLACEMENT_OSD : p->pool->domain;
    bool free = true;

    if (best == PLACE_NONE)
        return best;
    for (size_t s = pg_slot; s < pg_slot + replicas; s++) {
        if (s == slot || p->slot_osd[s] == PLACE_NONE)
            continue;
        const struct place_osd *o = &p->osds[p->slot_osd[s]];
        uint32_t f = o->first[domain], e = o->end[domain], at = used++;
        free &= best < f || best >= e;
        for (; at > 0 && first[at - 1] > f; at--) {
            first[at] = first[at - 1];
            end[at] = end[at - 1];
        }
        first[at] = f;
        end[at] = e;
    }
    if (free)
        return best;
    best = PLACE_NONE;
    for (uint32_t i = 0, from = 0; i <= used; i++) {
        uint32_t to = i < used ? first[i] : p->osd_count;
        if (from < to) {
            uint32_t found = place_tree_best_in(&p->take, from, to);
            if (found != PLACE_NONE && (best == PLACE_NONE || p->take.key[found] < p->take.key[best]))
                best = found;
        }
        if (i < used)
            from = end[i];
    }
    return best;
}

/* ---- keys: the smallest is the best ---- */

/* INT64_MAX: not at all. */
typedef int64_t (*place_key)(const struct place *p, const struct place_osd *o);

static int64_t due_key(const struct place *p, const struct place_osd *o)
{
    if (!place_takes(o))
        return INT64_MAX;
    uint64_t count = (uint64_t)o->data.count * PLACE_ONE + mix(p, o) % PLACE_ONE;
    return (int64_t)MIN((unsigned __int128)count * (1 << 24) / (uint64_t)MAX(o->share, 1),
                        (unsigned __int128)INT64_MAX - 1);
}

/* By steps of the quota's square, then by the excess of all replicas, then mixed. */
static int64_t pack(const struct place *p, const struct place_osd *o, int64_t step, int64_t excess)
{
    int64_t fine = MIN(MAX(excess / 256, -(1ll << 30)), (1ll << 30) - 1) + (1ll << 30);

    return step * (1ll << 39) + (fine << 8 | (int64_t)(mix(p, o) & 0xff));
}

static int64_t take_key(const struct place *p, const struct place_osd *o)
{
    return place_takes(o) ? pack(p, o, place_take_cost(&o->data), o->excess) : INT64_MAX;
}

/* ---- filling ---- */

static void note_move(struct place *p, size_t slot)
{
    uint32_t *at = &p->moved_at[p->pg_first + place_slot_pg(p, slot)];

    p->moves++;
    if (!*at)
        *at = p->moves;
}

void place_slot_put(struct place *p, size_t slot, uint32_t osd)
{
    if (p->slot_osd[slot] != PLACE_NONE)
        slot_leave(p, slot);
    slot_enter(p, slot, osd);
    note_move(p, slot);
}

static void fill_slot(struct place *p, size_t slot, place_key key)
{
    uint32_t from = p->slot_osd[slot], to = best_place(p, slot);

    if (to == PLACE_NONE)
        return;
    place_slot_put(p, slot, to);
    if (from != PLACE_NONE)
        place_tree_set(&p->take, from, key(p, &p->osds[from]));
    place_tree_set(&p->take, to, key(p, &p->osds[to]));
}

bool place_may_renew(const struct place *p, uint32_t n)
{
    uint32_t count = place_pg(p, n)->member_count;

    if (!count || count + p->pool->replicas <= PLACEMENT_GROUP_MAX)
        return true;
    for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++)
        count +=
            p->slot_osd[s] != PLACE_NONE && !(p->slot_shard[s] & PLACE_SLOT_BAD) && place_slot_is_new(p, s);
    return count < PLACEMENT_GROUP_MAX;
}

static void fill(struct place *p, bool new_pgs, place_key key)
{
    for (uint32_t i = 0; i < p->osd_count; i++)
        p->take.key[i] = key(p, &p->osds[i]);
    place_tree_build(&p->take);
    for (uint32_t n = 0; n < p->pg_count; n++)
        for (size_t s = place_slots(p, n); s < place_slots(p, n + 1); s++)
            if (p->slot_shard[s] & PLACE_SLOT_BAD && !place_pg(p, n)->member_count == new_pgs &&
                place_may_renew(p, n))
                fill_slot(p, s, key);
}

void place_fill(struct place *p)
{
    fill(p, false, take_key);
    fill(p, true, due_key);
}

/* ---- balance ---- */

static int64_t give_key(const struct place *p, const struct place_osd *o)
{
    bool gives = o->weight && o->in->up && !o->settled && o->slots != PLACE_NONE;

    return gives ? pack(p, o, -place_give_gain(&o->data), -o->excess) : INT64_MAX;
}

/* Over all pools a difference of one is no reason to copy a replica, nor is one of two: the next change may
 * turn it round. For a slot that is to be copied anyway the measure alone counts. */
static bool improves(const struct place_osd *from, const struct place_osd *to, bool is_new)
{
    int64_t gain = place_give_gain(&from->data) - place_take_cost(&to->data);

    return gain > 0 || (gain == 0 && from->excess - to->excess > (is_new ? 1 : 2) * PLACE_ONE);
}

/* Was the slot filled or moved by this plan? Then moving it on costs nothing. */
bool place_slot_is_new(const struct place *p, size_t slot)
{
    const struct placement_pg *pg = place_pg(p, place_slot_pg(p, slot));
    uint32_t osd = p->osds[p->slot_osd[slot]].in->osd;

    for (uint32_t m = 0; m < pg->member_count; m++)
        if (pg->member[m].osd == osd)
            return pg->lost >> m & 1;
    return true;
}

static bool slot_may_move(const struct place *p, size_t slot)
{
    return !(p->slot_shard[slot] & PLACE_SLOT_BAD) && !place_pg(p, place_slot_pg(p, slot))->pinned;
}

struct move {
    size_t slot;
    uint32_t to;
    int64_t step; /* of the OSD that takes it */
    bool is_new;
    uint32_t shard_load;
};

static bool is_better(const struct move *a, const struct move *b)
{
    if (a->step != b->step)
        return a->step < b->step;
    if (a->is_new != b->is_new)
        return a->is_new;
    return a->shard_load > b->shard_load;
}

/* What `from` should give to whom. False: nothing. */
static bool find_move(const struct place *p, uint32_t from, struct move *ret_move)
{
    const struct place_osd *o = &p->osds[from];
    uint32_t looks = 0, best = place_tree_best(&p->take);
    bool found = false;

    if (best == PLACE_NONE || !improves(o, &p->osds[best], true))
        return false;
    bool only_new = !improves(o, &p->osds[best], false);
    for (uint32_t s = o->slots; s != PLACE_NONE && !(found && looks >= LOOKS_MAX); s = p->next[s], looks++) {
        size_t slot = p->slot_first + s;
        if (only_new && !p->moved_at[p->pg_first + place_slot_pg(p, slot)])
            break; /* nor are those behind it: place_count() */
        if (!slot_may_move(p, slot))
            continue;
        uint32_t to = best_place(p, slot);
        bool is_new = place_slot_is_new(p, slot);
        if (to == PLACE_NONE || !improves(o, &p->osds[to], is_new) ||
            (!is_new && !place_may_renew(p, place_slot_pg(p, slot))))
            continue;
        struct move m = {.slot = slot,
                         .to = to,
                         .step = place_take_cost(&p->osds[to].data),
                         .is_new = is_new,
                         .shard_load = o->shard_load[PLACE_SHARD(p->slot_shard[slot])]};
        if (!found || is_better(&m, ret_move))
            *ret_move = m;
        found = true;
    }
    return found;
}

static void update_keys(struct place *p, uint32_t osd)
{
    struct place_osd *o = &p->osds[osd];

    place_tree_set(&p->take, osd, take_key(p, o));
    place_tree_set(&p->give, osd, give_key(p, o));
}

/* Until every OSD is settled. */
static bool pass(struct place *p)
{
    struct move m = {0};
    bool moved = false;

    for (uint32_t i = 0; i < p->osd_count; i++) {
        p->osds[i].settled = false;
        p->take.key[i] = take_key(p, &p->osds[i]);
        p->give.key[i] = give_key(p, &p->osds[i]);
    }
    place_tree_build(&p->take);
    place_tree_build(&p->give);
    for (;;) {
        uint32_t from = place_tree_best(&p->give);
        if (from == PLACE_NONE)
            return moved;
        if (!find_move(p, from, &m)) {
            p->osds[from].settled = true;
            place_tree_set(&p->give, from, INT64_MAX);
            continue;
        }
        if (!m.is_new)
            note_move(p, m.slot);
        slot_leave(p, m.slot);
        slot_enter(p, m.slot, m.to);
        p->osds[m.to].settled = false;
        update_keys(p, from);
        update_keys(p, m.to);
        moved = true;
    }
}

bool place_balance(struct place *p)
{
    bool moved = false;

    for (int n = 0; n < PASSES_MAX && pass(p); n++)
        moved = true;
    return moved;
}
