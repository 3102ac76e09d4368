/* SPDX-License-Identifier: Apache-2.0
 *
 * Splitting a PG: a part of its objects becomes those of a new PG, its child (base/placement.h says which).
 *
 * The map says that a pool is to have more PGs (Pool.pg_target), which come one after the other. The leader
 * of the next one's parent proposes it: an entry of the parent's log that names the child and its group,
 * which is the parent's. Everything else follows from the log. From that entry on the leader takes nothing
 * for the objects that go; every replica that applies the entry hands them to a replica of the child on its
 * own shard, in one step of the store, with the image records and the floor, and opens that one. It reports
 * it, since no map has it; and the monitor puts it into the map, and raises the pool's PG count by it. So no
 * replica waits for a map, and there is no state between.
 *
 * Before it proposes, the leader waits until no member is away or recovers, nobody joins or leaves, and all
 * that was in the log a moment ago is destaged everywhere: so that each member gives birth to its child soon,
 * and does not hold up what follows in the log. For the same reason it waits while a member says, in its
 * answers, that it has no room for the child; and while no monitor hears it, for nobody asks the child before
 * it is in the map. Nothing depends on any of that. A member that gets the entry late has its child late. One
 * that never gets it recovers to a state behind it: what it has of the child's objects becomes its replica of
 * the child all the same, which then recovers, too (pg_split_behind()). Only one whose log is damaged has
 * none, which is damage like that of any replica that is missing. A PG that went on alone without the entry
 * (pg_force.c) has what is the child's; it is split off once more when an operator says that nothing else is
 * left of it.
 */
#include <inttypes.h>

#include "base/error.h"
#include "base/placement.h"
#include "base/plant.h"
#include "osd/pg.h"

#define SPLIT_LOOK_NS  (50 * NS_PER_MS)
#define SPLIT_RETRY_NS NS_PER_S

uint32_t pg_split_count(const struct pg *pg)
{
    return PLANT(OSD_SPLIT_SERVES) ? 0 : MAX(pg->sp->record.split_count, pg->split_proposed);
}

/* ---- applying ---- */

/* The PG went on without a majority, with this replica alone under a new number, when the entry was in its
 * log and not applied: what goes to the child would go for good if this was not one of its members. The
 * number that the entry has for it; 0: it is not so. */
static uint32_t former_number(const struct pg *pg, const struct group *group)
{
    const struct group *own = &pg->sp->record.group;
    const struct group_member *was = group_on_shard(group, pg->shard->label.osd, pg->shard->number);

    return was && own->count == 1 && own->members[0].replica == pg->replica ? was->replica : 0;
}

/* The map has the child, and an operator said that it goes on with what is of it here, in its parent: as that
 * replica, alone. NULL: it is not so. */
static const Fb__PgMember *ordered_alone(const struct osd_shard *shard, const Fb__Pg *item)
{
    const Fb__PgMember *self = shard_map_member(shard, item);

    return item->force && self && self->replica == item->force->replica && !self->born ? self : NULL;
}

/* Is a replica of the child to be born here, and which? Not if it is known to have left already: the entry
 * comes late. */
static bool child_is_wanted(const struct pg *pg, struct store_pg_record *child)
{
    struct osd_shard *shard = pg->shard;
    const Fb__Pool *pool = shard_map_pool(shard, (uint32_t)(child->pg >> 32));
    const Fb__Pg *item = shard_map_pg(shard, child->pg);
    /* Numbers alone say nothing: the group may be one of the child's own. */
    const struct group_member *named = group_on_shard(&child->group, shard->label.osd, shard->number);
    const Fb__PgMember *alone = item && named ? ordered_alone(shard, item) : NULL;

    if ((pool && pool->removed) || (item && item->removed) || !named)
        return false;
    if (alone && alone->replica == named->replica) {
        child->replica = named->replica;
        return true;
    }
    uint32_t was = named->replica == pg->replica ? 0 : former_number(pg, &child->group);
    if (!was && named->replica != pg->replica)
        return false;
    if (!item) {
        if (was) { /* nobody has heard of the child: it goes on like its parent */
            child->group = pg->sp->record.group;
            child->group.index = child->group.epoch = 0;
        }
        return !pool || pool->pg_count <= (uint32_t)child->pg; /* or it has nothing to do with us any more */
    }
    /* Others gave birth to theirs: whether that PG goes on with ours alone is for the operator to say. */
    if (was)
        child->replica = was;
    const Fb__PgMember *self = shard_map_member(shard, item), *wanted = shard_map_wanted(shard, item);
    return (self && self->replica == child->replica) || (wanted && wanted->replica == child->replica) ||
           PLANT(OSD_SPLIT_BORN_LATE);
}

/* The map came in parts, and may name us in one that has yet to come: an item is told of with its last
 * change, so that the count of PGs may come long before the PG. Or long after it, where no map was left: then
 * we may have left that PG. */
static bool child_is_unclear(const struct osd_shard *shard, uint64_t child)
{
    const Fb__Pool *pool = shard_map_pool(shard, (uint32_t)(child >> 32));

    return (!pool || pool->pg_count > (uint32_t)child) && !shard_map_pg(shard, child) &&
           shard_map_is_part(shard) && !PLANT(OSD_SPLIT_BY_PART);
}

void pg_split_begin(struct pg *pg, uint64_t now_ns)
{
    struct store_pg_record child = {.replica = pg->replica};
    struct entry entry;
    struct slice payload;

    /* Or the store failed on the way, and what comes next may be any entry. */
    if (now_ns < pg->split_retry_ns || store_failed(pg->shard->store))
        return;
    int error = store_log_get(pg->sp, pg->sp->applied_index + 1, &entry, &payload);
    ASSERT(!error && entry.type == ENTRY_SPLIT);
    error = group_from_entry(&entry, &child.group);
    ASSERT(!error); /* validated wherever it came from */
    child.pg = placement_pg_id((uint32_t)(pg->id >> 32), (uint32_t)entry.image);
    if (child_is_unclear(pg->shard, child.pg)) {
        pg->split_unclear_ns = now_ns + SPLIT_LOOK_NS;
        return;
    }
    pg->splitting = true;
    pg->split_retry_ns = 0;
    store_split_start(&pg->split, pg->sp, child_is_wanted(pg, &child) ? &child : NULL, &pg->op);
}

static void split_end(struct pg *pg, uint64_t now_ns)
{
    struct osd_shard *shard = pg->shard;
    struct store_pg *child = pg->split.ret_child;
    int error = pg->split.op.result;

    pg->splitting = false;
    pg->op.child_result = 0;
    if (!error && child && !map_get(&shard->pgs, child->record.pg))
        error = pg_open(shard, child, child->record.state == STORE_PG_NORMAL);
    if (error) {
        pg->split_retry_ns = now_ns + SPLIT_RETRY_NS;
        core_log(shard->core, LOG_ERROR, "osd", PG_FMT ": the split has to wait: %s", PG_ARGS(pg->id),
                 error_text(error));
        return;
    }
    pg->split_look_ns = 0;
    pg->split_proposed = 0; /* one at a time: it was this one */
    pg->split_due = true;
    if (child)
        core_log(shard->core, LOG_INFO, "osd",
                 PG_FMT ": split: %" PRIu64 " objects are those of " PG_FMT " now", PG_ARGS(pg->id),
                 child->object_count, PG_ARGS(child->record.pg));
    shard_mon_report(shard);
    recover_wake(pg);
}

/* ---- recovering ---- */

/* The number of the next PG that is to be split off this one, for it to be split so far; 0: there is none. */
static uint32_t next_child(const struct pg *pg, uint32_t split_count)
{
    uint32_t number = (uint32_t)pg->id;

    for (uint64_t bit = 1; number + bit < split_count; bit <<= 1)
        if (bit > number && number + bit >= pg->sp->record.split_count)
            return number + (uint32_t)bit;
    return 0;
}

static bool has_voter(const struct group *group, uint32_t replica)
{
    const struct group_member *m = group_find(group, replica);

    return m && m->flags & GROUP_VOTER;
}

static bool went_alone(const struct pg *pg, uint64_t id)
{
    const Fb__Pg *item = shard_map_pg(pg->shard, id);

    return item && item->force;
}

/* It is none of ours: the pool was made with it, for all that is known. */
static bool was_made(const struct pg *pg, uint64_t id)
{
    const Fb__Pg *item = shard_map_pg(pg->shard, id);

    return !shard_map_pool(pg->shard, (uint32_t)(id >> 32)) ||
           (item && !item->split && !PLANT(OSD_BORN_TWICE));
}

/* Is this replica a member of the group of such a child, which the entry names, by its number? It is if it
 * was one of the PG's in the state that is here, and is one there: in between it has never left, for no
 * number is given out twice. (But each PG that a pool is made with gives out the same ones.) */
static bool child_has_us(const struct pg *pg, uint64_t child, const struct group *there)
{
    const struct store_pg *sp = pg->sp;

    return store_log_term(sp, sp->applied_index) && has_voter(&sp->record.group, pg->replica) &&
           has_voter(there, pg->replica) && !was_made(pg, child) && !went_alone(pg, pg->id) &&
           !went_alone(pg, child);
}

bool pg_split_unclear(const struct pg *pg, uint32_t split_count)
{
    uint32_t number = next_child(pg, split_count);

    return number && child_is_unclear(pg->shard, placement_pg_id((uint32_t)(pg->id >> 32), number));
}

bool pg_split_behind(struct pg *pg, uint32_t split_count, const struct group *there, bool births)
{
    uint32_t number = next_child(pg, split_count);
    struct store_pg_record child = {
        .pg = placement_pg_id((uint32_t)(pg->id >> 32), number),
        .replica = pg->replica,
        .group = pg->sp->record.group,
    };

    if (!number || store_failed(pg->shard->store))
        return false;
    child.group.index = child.group.epoch = 0;
    births &= child_has_us(pg, child.pg, there) && !store_can_split(pg->sp) && child_is_wanted(pg, &child) &&
              !PLANT(OSD_RECOVERY_CHILDLESS);
    pg->splitting = true;
    pg->split_retry_ns = 0;
    store_split_behind_start(&pg->split, pg->sp, number + 1, births ? &child : NULL, &pg->op);
    return true;
}

/* ---- what the map orders ---- */

/* A PG that was split off this one behind all that we have: we went on alone, without that entry, and what is
 * its is here. NULL: there is none. */
static const Fb__Pg *split_missing(const struct pg *pg)
{
    const Fb__Pool *pool = shard_map_pool(pg->shard, (uint32_t)(pg->id >> 32));
    uint32_t number = (uint32_t)pg->id;

    for (uint64_t bit = 1; pool && bit < pool->pg_count; bit <<= 1) {
        const Fb__Pg *item =
            bit > number ? shard_map_pg(pg->shard, placement_pg_id(pool->id, number + (uint32_t)bit)) : NULL;
        if (item && item->split && !item->removed && pg->sp->record.split_count <= number + bit)
            return item;
    }
    return NULL;
}

/* The same where our map need not have such a PG, because none of its members is here: the order to go on
 * alone says up to where the PG had been split then. */
static bool keeps_for_others(const struct pg *pg)
{
    const Fb__Pg *item = shard_map_pg(pg->shard, pg->id);

    return item && item->force && pg->sp->record.split_count < item->force->split_count &&
           !PLANT(OSD_SPLIT_ELSEWHERE);
}

/* Whose data counts, that of its members elsewhere or what is here? Only an operator can say, when none of
 * those are left. Then it is split off once more, for a group of the survivor alone. */
static bool split_again(const struct pg *pg, const Fb__Pg *item, struct group *ret_group)
{
    const Fb__PgMember *m = item->n_member == 1 ? item->member[0] : NULL;
    bool ordered = m && item->force && m->replica == item->force->replica && m->birth && !m->born &&
                   pg_force_others_ended(item);

    if (PLANT(OSD_SPLIT_AGAIN))
        m = shard_map_member(pg->shard, item);
    else if (!ordered)
        return false;
    *ret_group = (struct group){.count = 1};
    ret_group->members[0] = (struct group_member){m->replica, m->osd, m->shard, GROUP_VOTER};
    return group_validate(ret_group);
}

/* The number of the child, and its group; 0: we are not to be split now. */
static uint32_t split_ordered(const struct pg *pg, struct group *ret_group)
{
    const Fb__Pool *pool = shard_map_pool(pg->shard, (uint32_t)(pg->id >> 32));
    uint32_t child = pool ? pool->pg_count : 0;
    const Fb__Pg *missing = split_missing(pg);

    if (!child || pool->removed)
        return 0;
    if (missing) /* it must not come to another child */
        return split_again(pg, missing, ret_group) ? (uint32_t)missing->id : 0;
    if (keeps_for_others(pg))
        return 0;
    if (child >= MIN(pool->pg_target, PLACEMENT_PGS_MAX) || placement_pg_parent(child) != (uint32_t)pg->id ||
        pg->sp->record.split_count > child)
        return 0;
    *ret_group = pg->raft.group;
    return child;
}

bool pg_split_left_here(const struct osd_shard *shard, const Fb__Pg *item)
{
    uint32_t number = (uint32_t)item->id;

    if (!item->split || item->removed || !number)
        return false;
    uint64_t parent = placement_pg_id((uint32_t)(item->id >> 32), placement_pg_parent(number));
    const struct pg *pg = pg_find(shard, parent);
    const Fb__Pg *parent_item = pg ? shard_map_pg(shard, parent) : NULL;

    /* As leader: a follower may be yet to get the entry. */
    return parent_item && parent_item->force && pg_serves(pg) && split_missing(pg) == item &&
           !store_pg_find(shard->store, item->id) && !pg->splitting &&
           pg->sp->applied_index == pg->sp->last_index;
}

/* Has every member all up to that index on its device, and is nobody coming, going or away? What is split off
 * once more is born on the shard of its survivor alone: that one must be there, and is not asked how far it
 * has destaged, since it need not know of the child. The others may be away, or find no room where they are
 * to come, perhaps for ever. */
static bool members_ready(struct pg *pg, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    const Fb__Pg *item = shard_map_pg(pg->shard, pg->id);
    const Fb__Pg *again = split_missing(pg);
    const Fb__PgMember *survivor = again && again->n_member ? again->member[0] : NULL;
    bool born = false;

    if (r->group.index > pg->sp->applied_index || !item || (item->n_wanted && !again) ||
        store_complete_index(pg->sp) < pg->split_index)
        return false;
    for (uint32_t i = 0; i < r->member_count; i++) {
        const struct raft_member *known = &r->members[i];
        const struct pg_member *member = pg_member_find(pg, known->replica);
        if (again &&
            !(member && survivor && survivor->osd == member->osd && survivor->shard == member->shard))
            continue;
        if (known->flags != GROUP_VOTER || !member)
            return false;
        born = true;
        if (known->replica != r->self &&
            (known->recovering || known->progress == RAFT_BEHIND || !raft_in_contact(r, known, now_ns) ||
             member->no_room || (!again && member->complete < pg->split_index)))
            return false;
    }
    return born;
}

bool pg_split_fits(const struct pg *pg)
{
    return !pg->split_child || !store_can_split(pg->sp);
}

static int split_propose(struct pg *pg)
{
    uint32_t words[GROUP_WORDS_MAX];
    struct entry entry;
    struct group group;
    uint32_t child = split_ordered(pg, &group);

    if (!child || child != pg->split_child)
        return -ERR_RETRY; /* the map has changed: it is looked at next */
    /* Behind a restart, with an older map, nobody would be born of an entry that only this one explains, and
     * what is the child's would go for good. */
    const Fb__Pg *item = shard_map_pg(pg->shard, placement_pg_id((uint32_t)(pg->id >> 32), child));
    if (item && item->epoch > pg->shard->map.saved_epoch && !PLANT(OSD_SPLIT_UNSAVED))
        return -ERR_RETRY;
    group_to_entry(&group, words, &entry);
    entry.type = ENTRY_SPLIT;
    entry.image = child;
    entry.epoch = 0;
    int error = store_can_split(pg->sp);
    if (!error)
        error = store_can_append(pg->sp, &entry);
    if (!error)
        error = pg_propose(pg, &entry, NULL);
    if (!error)
        pg->split_proposed = child + 1;
    return error;
}

void pg_split_run(struct pg *pg, uint64_t now_ns)
{
    if (pg->splitting && !op_live(&pg->split.op))
        split_end(pg, now_ns);
    /* It is begun when the log is applied, if that still leads there: a recovery may have passed it. */
    if (now_ns >= pg->split_retry_ns)
        pg->split_retry_ns = 0;
    if (now_ns >= pg->split_unclear_ns)
        pg->split_unclear_ns = 0;
    struct group group;
    if (pg->split_due) {
        pg->split_child = split_ordered(pg, &group);
        if (!pg_split_fits(pg))
            core_log(
                pg->shard->core, LOG_WARN, "osd",
                PG_FMT
                ": is to be split, which waits: there is no room here for another PG or its image records",
                PG_ARGS(pg->id));
    }
    pg->split_due = false;
    uint32_t child = pg->split_child;
    if (!child || pg->splitting || pg->split_proposed || recover_active(pg)) {
        pg->split_look_ns = child ? now_ns + SPLIT_LOOK_NS : 0;
        return;
    }
    if (now_ns < pg->split_look_ns)
        return;
    bool begun = pg->split_look_ns;
    if (!begun)
        pg->split_index = pg->sp->last_index;
    pg->split_look_ns = now_ns + SPLIT_LOOK_NS;
    store_destage_soon(pg->sp);
    if (!pg->led_term || !begun)
        return;
    raft_probe(&pg->raft); /* they say how far they are */
    if (!pg_serves(pg) || !shard_mon_hears(pg->shard) || !members_ready(pg, now_ns))
        return;
    int error = split_propose(pg);
    if (error && error != -ERR_RETRY) {
        pg->split_look_ns = now_ns + SPLIT_RETRY_NS;
        core_log(pg->shard->core, LOG_WARN, "osd", PG_FMT ": cannot be split now: %s", PG_ARGS(pg->id),
                 error_text(error));
    }
}

uint64_t pg_split_due_ns(const struct pg *pg)
{
    if (pg->shard->failed)
        return UINT64_MAX;
    uint64_t retry_ns = pg->split_retry_ns && !pg->splitting ? pg->split_retry_ns : UINT64_MAX;

    if (pg->split_unclear_ns)
        retry_ns = MIN(retry_ns, pg->split_unclear_ns);
    return MIN(pg->split_look_ns ? pg->split_look_ns : UINT64_MAX, retry_ns);
}

/* Also of one that stops: what it has begun comes to its end. */
static bool is_splitting(const struct osd_shard *shard, uint64_t id)
{
    struct map_node *node = map_get(&shard->pgs, id);

    return node && map_entry(node, struct pg, node)->splitting;
}

bool pg_split_under_way(const struct osd_shard *shard, const Fb__Pg *item)
{
    uint32_t pool = (uint32_t)(item->id >> 32), number = (uint32_t)item->id;

    return item->split && number && is_splitting(shard, placement_pg_id(pool, placement_pg_parent(number)));
}

bool pg_split_pending(const struct osd_shard *shard, const Fb__Pg *item)
{
    uint32_t pool = (uint32_t)(item->id >> 32), number = (uint32_t)item->id;

    /* The parent itself may be yet to be born here. What the pool was made with has no parents, but nothing
     * is split off that is not in the log of one that is here, either. */
    while (item && item->split && number) {
        uint32_t parent = placement_pg_parent(number);
        const struct store_pg *sp = store_pg_find(shard->store, placement_pg_id(pool, parent));
        if (sp)
            return sp->record.split_count <= number || is_splitting(shard, sp->record.pg);
        number = parent;
        item = shard_map_pg(shard, placement_pg_id(pool, parent));
    }
    return false;
}
