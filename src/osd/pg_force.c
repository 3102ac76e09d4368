/* SPDX-License-Identifier: Apache-2.0
 *
 * A PG whose majority is gone for good goes on with one replica, because an operator said so (Pg.force of the
 * map).
 *
 * What keeps the former members from ever being the PG again, should they come back: the survivor takes a
 * number that they never heard of, and is alone in a new group, in one write of its record; whoever speaks to
 * it by the old number is not heard, and it speaks to none of them. It waits with that until the map says of
 * each of the others that it has ended: deleted, or on an OSD that was removed from the cluster. Clients of
 * that map ask nobody else. Its log stays as it is: all of it that a majority of the former group had
 * committed is committed now, and so is what else it has.
 *
 * Only a voter that is whole goes on: a learner, or a half-copied replica, has not what was acknowledged, and
 * one whose log is damaged cannot tell. The monitor has looked at that before; here it is what the replica
 * itself says that counts.
 */
#include "osd/pg.h"

#include <stdlib.h>

#include "base/placement.h"
#include "base/plant.h"

bool pg_force_others_ended(const Fb__Pg *item)
{
    for (size_t i = 0; i < item->n_dropped; i++)
        if (item->dropped[i]->replica < item->force->replica && !PLANT(OSD_FORCE_UNFENCED))
            return false;
    return true;
}

static bool is_voter(const struct pg *pg)
{
    const struct group_member *m = group_find(&pg->raft.group, pg->replica);

    return m && m->flags;
}

static bool may_go_on(const struct pg *pg)
{
    /* A recovery that waits for its turn, or for a leader, has changed nothing yet. */
    bool whole = pg->sp->record.state == STORE_PG_NORMAL && !pg->sp->damaged;

    return (is_voter(pg) || PLANT(OSD_FORCE_LEARNER)) && whole;
}

bool pg_force_ordered(const struct osd_shard *shard, const Fb__Pg *item, const struct store_pg *sp)
{
    const Fb__PgMember *self = item->force ? shard_map_member(shard, item) : NULL;

    /* By its former number a replica knows no group that is newer than the order: the monitor wants no other
     * members of a PG before it has heard of a leader with the new one (may_change() and mon_force_report()).
     */
    return self && sp->record.replica == item->force->survivor && self->replica == item->force->replica &&
           item->epoch <= shard->map.saved_epoch && !shard_map_pg_removed(shard, item) &&
           pg_force_others_ended(item);
}

const Fb__Pg *pg_force_due(struct osd_shard *shard)
{
    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        const struct pg *pg = item->force ? pg_find(shard, item->id) : NULL;

        if (pg && pg_force_ordered(shard, item, pg->sp) && may_go_on(pg))
            return item;
    }
    return NULL;
}

struct store_pg_record pg_force_record(const struct osd_shard *shard, const Fb__Pg *item,
                                       const struct store_pg *sp)
{
    struct store_pg_record record = sp->record;

    if (!PLANT(OSD_FORCE_SAME_NUMBER))
        record.replica = item->force->replica;
    record.term = MAX(record.term, item->force->term);
    record.group = (struct group){.epoch = item->force->epoch, .count = 1};
    record.group.members[0] =
        (struct group_member){record.replica, shard->label.osd, shard->number, GROUP_VOTER};
    return record;
}

/* ---- what the monitor is told ---- */

/* Without a leader for so long, which no election takes. */
#define STANDING_NS (2 * NS_PER_S)

static bool stands_alone(const struct pg *pg, uint64_t now_ns)
{
    return pg->leaderless_ns && now_ns - pg->leaderless_ns >= STANDING_NS && !pg->stopping;
}

static void voters_fill(const struct raft *r, struct pg_standing *s)
{
    s->row.voters = s->voters;
    s->row.voters_before = s->before;
    for (uint32_t i = 0; i < r->group.count; i++) {
        const struct group_member *m = &r->group.members[i];
        if (m->flags & GROUP_VOTER)
            s->voters[s->row.n_voters++] = m->replica;
        if (m->flags & GROUP_VOTER_OLD)
            s->before[s->row.n_voters_before++] = m->replica;
    }
}

static void standing_fill(const struct pg *pg, uint64_t now_ns, struct pg_standing *s)
{
    const struct raft *r = &pg->raft;
    Fb__PgStanding *to = &s->row;

    *to = (Fb__PgStanding)FB__PG_STANDING__INIT;
    voters_fill(r, s);
    to->pg = pg->id;
    to->replica = pg->replica;
    to->state = FB__PG_STANDING_STATE__STANDING_WHOLE;
    if (pg_log_damaged(pg))
        to->state = FB__PG_STANDING_STATE__STANDING_DAMAGED;
    else if (pg->sp->record.state == STORE_PG_RECOVERING)
        to->state = FB__PG_STANDING_STATE__STANDING_HALF;
    to->voter = is_voter(pg);
    to->term = r->term;
    to->log_term = raft_term_at(r, r->last_index);
    to->log_index = r->last_index;
    to->commit_index = r->commit_index;
    to->objects = pg->sp->object_count;
    to->silent_ms = (now_ns - pg->leaderless_ns) / NS_PER_MS;
}

/* What is in the parent of a PG of which nobody has more: nothing of it is here but that (pg_split.c). */
static const Fb__PgMember *stands_in_parent(const struct osd_shard *shard, const Fb__Pg *item)
{
    const Fb__PgMember *self = shard_map_member(shard, item);

    return self && !shard_map_pg_removed(shard, item) && pg_split_left_here(shard, item) ? self : NULL;
}

static void parent_fill(const struct osd_shard *shard, const Fb__Pg *item, uint32_t replica,
                        struct pg_standing *s)
{
    uint32_t parent = placement_pg_parent((uint32_t)item->id);
    const struct pg *pg = pg_find(shard, placement_pg_id((uint32_t)(item->id >> 32), parent));

    standing_fill(pg, core_now_ns(shard->core), s);
    s->row.pg = item->id;
    s->row.replica = replica;
    s->row.state = FB__PG_STANDING_STATE__STANDING_IN_PARENT;
    s->row.voter = true;
    s->row.n_voters = s->row.n_voters_before = 0; /* numbers of the parent's */
    s->row.silent_ms = 0;
}

uint32_t pg_standings(const struct osd_shard *shard, struct pg_standing **ret_rows,
                      Fb__PgStanding ***ret_pointers)
{
    uint64_t now_ns = core_now_ns(shard->core);
    uint32_t count = 0, n = 0;

    *ret_rows = NULL;
    *ret_pointers = NULL;
    map_for_each (&shard->pgs, node)
        count += stands_alone(map_entry(node, struct pg, node), now_ns);
    map_for_each (&shard->map.pgs, node)
        count += stands_in_parent(shard, map_entry(node, struct map_item, node)->pg) != NULL;
    if (!count)
        return 0;
    *ret_rows = calloc(count, sizeof(**ret_rows));
    *ret_pointers = calloc(count, sizeof(**ret_pointers));
    if (!*ret_rows || !*ret_pointers)
        return count;
    map_for_each (&shard->pgs, node) {
        const struct pg *pg = map_entry(node, struct pg, node);
        if (!stands_alone(pg, now_ns))
            continue;
        standing_fill(pg, now_ns, &(*ret_rows)[n]);
        (*ret_pointers)[n] = &(*ret_rows)[n].row;
        n++;
    }
    map_for_each (&shard->map.pgs, node) {
        const Fb__Pg *item = map_entry(node, struct map_item, node)->pg;
        const Fb__PgMember *self = stands_in_parent(shard, item);
        if (!self)
            continue;
        parent_fill(shard, item, self->replica, &(*ret_rows)[n]);
        (*ret_pointers)[n] = &(*ret_rows)[n].row;
        n++;
    }
    return n;
}
