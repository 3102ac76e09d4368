/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan: members become slots; pool by pool slots are filled, then balanced until no pool has anything to
 * give, then leaders are chosen; what differs from the input becomes the changes. Every step of it is work on
 * one pool.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "mon/placement_impl.h"

#define ROUNDS_MAX 16 /* over all pools, a bound; few are needed */

/* ---- members to slots ---- */

enum member_state { MEMBER_GOOD, MEMBER_CROWDED, MEMBER_LEAVES, MEMBER_MISSING };

/* Which of the PG's members go into its slots, and how they are: up to the pool's replicas of them, the good
 * ones before others, in their order. */
struct members {
    uint32_t count, index[PLACEMENT_REPLICAS_MAX], osd[PLACEMENT_REPLICAS_MAX];
    enum member_state state[PLACEMENT_REPLICAS_MAX];
};

static enum member_state member_state(const struct place *p, const struct placement_pg *pg, uint32_t m,
                                      uint32_t osd)
{
    if (osd == PLACE_NONE || pg->lost >> m & 1)
        return MEMBER_MISSING;
    if (p->osds[osd].weight)
        return MEMBER_GOOD;
    return p->osds[osd].in->up ? MEMBER_LEAVES : MEMBER_MISSING;
}

static void take_members(const struct place *p, const struct placement_pg *pg, struct members *ret)
{
    enum member_state state[PLACEMENT_REPLICAS_MAX];
    uint32_t osd[PLACEMENT_REPLICAS_MAX];
    bool taken[PLACEMENT_REPLICAS_MAX] = {0};
    uint32_t count = 0;

    for (uint32_t m = 0; m < pg->member_count; m++) {
        osd[m] = place_osd_find(p, pg->member[m].osd);
        state[m] = member_state(p, pg, m, osd[m]);
        for (uint32_t k = 0; k < m && state[m] == MEMBER_GOOD; k++)
            if (state[k] == MEMBER_GOOD &&
                p->osds[osd[k]].first[p->pool->domain] == p->osds[osd[m]].first[p->pool->domain])
                state[m] = MEMBER_CROWDED;
    }
    for (enum member_state s = MEMBER_GOOD; s <= MEMBER_MISSING; s++)
        for (uint32_t m = 0; m < pg->member_count; m++)
            if (state[m] == s && count < p->pool->replicas) {
                taken[m] = true;
                count++;
            }
    ret->count = 0;
    for (uint32_t m = 0; m < pg->member_count; m++)
        if (taken[m]) {
            ret->index[ret->count] = m;
            ret->osd[ret->count] = osd[m];
            ret->state[ret->count++] = state[m];
        }
}

static void load_pg(struct place *p, uint32_t n)
{
    const struct placement_pg *pg = place_pg(p, n);
    size_t first = place_slots(p, n);
    struct members members;

    ASSERT(pg->member_count <= PLACEMENT_REPLICAS_MAX);
    take_members(p, pg, &members);
    for (uint32_t i = 0; i < p->pool->replicas; i++) {
        size_t s = first + i;
        p->slot_osd[s] = i < members.count ? members.osd[i] : PLACE_NONE;
        p->slot_shard[s] = 0;
        if (p->slot_osd[s] != PLACE_NONE) {
            struct place_osd *o = &p->osds[p->slot_osd[s]];
            uint32_t shard = MIN(pg->member[members.index[i]].shard, PLACEMENT_SHARDS_MAX - 1);
            p->slot_shard[s] = (uint8_t)shard;
            o->shard_load[shard]++;
            o->excess += PLACE_ONE;
        }
        if (!pg->pinned && (i >= members.count || members.state[i] != MEMBER_GOOD))
            p->slot_shard[s] |= PLACE_SLOT_BAD;
        if (i < members.count && members.index[i] == pg->lead)
            p->lead[p->pg_first + n] = (uint8_t)i;
    }
}

/* ---- pools ---- */

/* Goes on to the next pool: false: there is none. Begins with p->pool NULL. */
static bool next_pool(struct place *p)
{
    const struct placement_pool *pools = p->in->pools, *end = pools + p->in->pool_count;

    if (!p->pool) {
        p->pg_first = p->pg_count = 0;
        p->slot_first = 0;
        p->pool = pools;
    } else {
        p->slot_first = place_slots(p, p->pg_count);
        p->pool++;
    }
    p->pg_first += p->pg_count;
    p->pg_count = 0;
    if (p->pool == end) {
        ASSERT(p->pg_first == p->in->pg_count);
        p->pool = NULL;
        return false;
    }
    ASSERT(p->pool->replicas >= 1 && p->pool->replicas <= PLACEMENT_REPLICAS_MAX);
    while (p->pg_first + p->pg_count < p->in->pg_count &&
           p->in->pgs[p->pg_first + p->pg_count].id >> 32 == p->pool->id)
        p->pg_count++;
    return true;
}

static int allocate(struct place *p)
{
    size_t slots = 0, slots_max = 0;

    while (next_pool(p)) {
        size_t count = (size_t)p->pg_count * p->pool->replicas;
        slots += count;
        slots_max = MAX(slots_max, count);
    }
    p->slot_osd = malloc((slots + 1) * sizeof(*p->slot_osd));
    p->slot_shard = malloc(slots + 1);
    p->next = malloc((slots_max + 1) * sizeof(*p->next));
    p->prev = malloc((slots_max + 1) * sizeof(*p->prev));
    p->lead = malloc(p->in->pg_count + 1);
    p->moved_at = calloc(p->in->pg_count + 1, sizeof(*p->moved_at));
    if (!p->slot_osd || !p->slot_shard || !p->next || !p->prev || !p->lead || !p->moved_at ||
        place_osds_init(p) || place_tree_init(&p->take, p->osd_count) ||
        place_tree_init(&p->give, p->osd_count))
        return -ERR_NO_MEMORY;
    memset(p->lead, UINT8_MAX, p->in->pg_count);
    return 0;
}

static void place_fini(struct place *p)
{
    free(p->osds);
    free(p->ids);
    place_tree_fini(&p->take);
    place_tree_fini(&p->give);
    free(p->slot_osd);
    free(p->slot_shard);
    free(p->next);
    free(p->prev);
    free(p->lead);
    free(p->moved_at);
}

static int load_pool(struct place *p)
{
    for (uint32_t n = 0; n < p->pg_count; n++)
        load_pg(p, n);
    int error = place_shares(p);
    for (uint32_t i = 0; i < p->osd_count && !error; i++)
        p->osds[i].excess -= p->osds[i].share;
    return error;
}

static bool may_change(const struct place *p)
{
    return !p->in->only || p->in->only == p->pool->id;
}

static int fill_pool(struct place *p)
{
    int error = place_shares(p);

    if (error)
        return error;
    place_count(p);
    if (p->pool->chooser)
        place_ask(p);
    place_fill(p);
    return 0;
}

static int balance_pool(struct place *p)
{
    int error = p->pool->chooser ? 0 : place_shares(p);

    if (error || p->pool->chooser)
        return error;
    place_count(p);
    p->moved |= place_balance(p);
    return 0;
}

/* ---- slots to changes ---- */

/* What becomes of the PG. False: nothing. */
static bool make_change(const struct place *p, uint32_t n, struct placement_change *ret, bool *ret_stuck)
{
    const struct placement_pg *pg = place_pg(p, n);
    struct members members;
    uint32_t slots = p->pool->replicas, missing = 0, kept = 0;
    size_t first = place_slots(p, n), lead = SIZE_MAX, order[PLACEMENT_REPLICAS_MAX];
    bool used[PLACEMENT_REPLICAS_MAX] = {0};

    *ret_stuck = false;
    if (pg->pinned)
        return false;
    take_members(p, pg, &members);
    if (p->lead[p->pg_first + n] != UINT8_MAX)
        lead = first + p->lead[p->pg_first + n];
    *ret = (struct placement_change){.pg = p->pg_first + n};
    /* Those that stay, with the shard that they have: also such as should not, and those whose OSD another
     * slot of the PG got in this plan. */
    for (uint32_t i = 0; i < members.count; i++) {
        const struct placement_member *old = &pg->member[members.index[i]];
        bool bad = p->slot_shard[first + i] & PLACE_SLOT_BAD, found = bad && !PLANT(MON_PLACE_TAKES_AWAY);
        uint32_t at = i;
        for (uint32_t k = 0; k < slots && !found && !(pg->lost >> members.index[i] & 1); k++)
            if (p->slot_osd[first + k] != PLACE_NONE && !(p->slot_shard[first + k] & PLACE_SLOT_BAD) &&
                p->slot_osd[first + k] == members.osd[i]) {
                at = k;
                found = true;
            }
        if (!found) {
            missing += members.state[i] == MEMBER_MISSING;
            continue;
        }
        *ret_stuck |= bad && place_may_renew(p, n);
        used[at] = true;
        order[ret->member_count] = first + at;
        ret->member[ret->member_count++] = *old;
    }
    kept = ret->member_count;
    for (uint32_t k = 0; k < slots; k++) {
        if (used[k])
            continue;
        if (p->slot_osd[first + k] == PLACE_NONE) {
            *ret_stuck |= place_may_renew(p, n);
            continue;
        }
        missing += k >= members.count;
        order[ret->member_count] = first + k;
        ret->member[ret->member_count++] = (struct placement_member){p->osds[p->slot_osd[first + k]].in->osd,
                                                                     PLACE_SHARD(p->slot_shard[first + k])};
    }
    ret->added = (uint8_t)(ret->member_count - kept);
    ret->missing = (uint8_t)MIN(missing, ret->added);
    for (uint32_t i = 0; i < ret->member_count; i++)
        if (order[i] == lead)
            ret->lead = (uint8_t)i;
    if (ret->added || ret->member_count != pg->member_count)
        return ret->member_count > 0;
    return lead != SIZE_MAX && ret->lead != pg->lead;
}

static int compare_changes(const void *a, const void *b, void *arg)
{
    const struct placement_change *left = a, *right = b;
    const uint32_t *moved_at = arg;
    bool left_moves = left->added > 0, right_moves = right->added > 0;

    if (left->missing != right->missing)
        return left->missing > right->missing ? -1 : 1;
    if (left_moves != right_moves)
        return left_moves ? -1 : 1;
    if (moved_at[left->pg] != moved_at[right->pg])
        return moved_at[left->pg] < moved_at[right->pg] ? -1 : 1;
    return (left->pg > right->pg) - (left->pg < right->pg);
}

/* First counts, then, with the memory for it, writes. */
static void collect_pool(struct place *p)
{
    struct placement_plan *plan = &p->plan;
    struct placement_change change;
    bool stuck;

    for (uint32_t n = 0; n < p->pg_count; n++) {
        if (make_change(p, n, &change, &stuck)) {
            if (plan->changes)
                plan->changes[plan->change_count] = change;
            plan->change_count++;
            plan->added += plan->changes ? change.added : 0;
        }
        if (stuck && plan->stuck)
            plan->stuck[plan->stuck_count] = p->pg_first + n;
        plan->stuck_count += stuck;
    }
}

static int allocate_changes(struct place *p)
{
    struct placement_plan *plan = &p->plan;

    plan->changes = malloc((plan->change_count + 1) * sizeof(*plan->changes));
    plan->stuck = malloc((plan->stuck_count + 1) * sizeof(*plan->stuck));
    plan->change_count = plan->stuck_count = 0;
    return plan->changes && plan->stuck ? 0 : -ERR_NO_MEMORY;
}

static void finish(struct place *p)
{
    struct placement_plan *plan = &p->plan;

    plan->refused_count = p->refused_count;
    plan->refused_pg = p->refused_pg;
    plan->refused_why = p->refused_why;
    qsort_r(plan->changes, plan->change_count, sizeof(*plan->changes), compare_changes, p->moved_at);
}

/* ---- the steps ---- */

static int work_on_pool(struct place *p)
{
    switch (p->phase) {
    case PLACE_LOAD:
        return load_pool(p);
    case PLACE_FILL:
        return may_change(p) ? fill_pool(p) : 0;
    case PLACE_BALANCE:
        return may_change(p) ? balance_pool(p) : 0;
    case PLACE_LEAD:
        place_leaders(p);
        return 0;
    case PLACE_COUNT:
    case PLACE_WRITE:
        collect_pool(p);
        return 0;
    }
    UNREACHABLE();
}

/* All pools are through. 1: another phase comes. */
static int next_phase(struct place *p)
{
    int error = 0;

    switch (p->phase) {
    case PLACE_LOAD:
        p->phase = PLACE_FILL;
        break;
    case PLACE_FILL:
        p->phase = p->in->repair_only ? PLACE_LEAD : PLACE_BALANCE;
        break;
    case PLACE_BALANCE:
        if (!p->moved || ++p->round == ROUNDS_MAX)
            p->phase = PLACE_LEAD;
        p->moved = false;
        break;
    case PLACE_LEAD:
        p->phase = PLACE_COUNT;
        break;
    case PLACE_COUNT:
        error = allocate_changes(p);
        p->phase = PLACE_WRITE;
        break;
    case PLACE_WRITE:
        finish(p);
        return 0;
    }
    return error ? error : 1;
}

int placement_job_new(const struct placement_input *input, struct place **ret_job)
{
    struct place *p = calloc(1, sizeof(*p));

    if (!p)
        return -ERR_NO_MEMORY;
    p->in = input;
    int error = allocate(p);
    if (error)
        placement_job_free(p);
    else
        *ret_job = p;
    return error;
}

int placement_job_step(struct place *p, uint64_t *pgs, struct placement_plan *ret_plan)
{
    if (next_pool(p)) {
        *pgs += p->pg_count;
        int error = work_on_pool(p);
        return error ? error : 1;
    }
    int more = next_phase(p);
    if (!more) {
        *ret_plan = p->plan;
        p->plan = (struct placement_plan){0};
    }
    return more;
}

void placement_job_free(struct place *p)
{
    if (!p)
        return;
    placement_plan_fini(&p->plan);
    place_fini(p);
    free(p);
}

int placement_plan(const struct placement_input *input, struct placement_plan *ret_plan)
{
    struct place *job;
    uint64_t pgs = 0;
    int more = placement_job_new(input, &job);

    if (more)
        return more;
    while ((more = placement_job_step(job, &pgs, ret_plan)) > 0)
        ;
    placement_job_free(job);
    return more;
}

void placement_plan_fini(struct placement_plan *plan)
{
    free(plan->changes);
    free(plan->stuck);
}
