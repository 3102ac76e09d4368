/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is in the group of a PG, and how the leader brings it to the members that the monitor wants (Pg.wanted
 * of the map).
 *
 *   as it is --> new ones are learners --> joint: old and new voters --> new voters only
 *                 |  until the map says that they are born,
 *                 |  and raft that they have caught up
 *
 * Each step is an entry of the log that sets the group, and the next one follows from the log and the map
 * alone, so it does not matter who leads meanwhile. The first step carries the epoch of the list that it
 * begins to carry out, also if no member is new; no group is made for a list older than the newest in the
 * log. So when the monitor hears of a group of that epoch, it knows that nobody will be taken in any more
 * whom only an older list named.
 *
 * The log tells where members are; the map is asked for their addresses only. A replica that was away while
 * others came and went finds out by whoever speaks to it: what strangers say is raft's business, which trusts
 * terms and logs and not lists of members.
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/plant.h"
#include "osd/pg.h"

/* ---- members ---- */

static bool is_here(const struct pg *pg, const struct group_member *m)
{
    return m->osd == pg->shard->label.osd && m->shard == pg->shard->number;
}

static bool add_member(struct pg *pg, const struct pg_member *had, uint32_t had_count,
                       const struct group_member *m)
{
    struct pg_member *to = &pg->members[pg->member_count];
    struct peer *peer = m->replica == pg->replica ? NULL : shard_peer_get(pg->shard, m->osd, m->shard);

    if (m->replica != pg->replica && !peer)
        return false;
    *to = (struct pg_member){.replica = m->replica, .osd = m->osd, .shard = m->shard, .peer = peer};
    for (uint32_t i = 0; i < had_count; i++)
        if (had[i].replica == m->replica && had[i].peer == peer)
            *to = had[i];
    pg->member_count++;
    return true;
}

void pg_members_sync(struct pg *pg)
{
    const struct group *group = &pg->raft.group;
    struct pg_member had[RAFT_MEMBERS_MAX + 1];
    uint32_t had_count = pg->member_count;

    memcpy(had, pg->members, sizeof(had));
    pg->member_count = 0;
    for (uint32_t i = 0; i < group->count; i++) {
        const struct group_member *m = &group->members[i];
        if (m->replica != pg->replica && is_here(pg, m))
            continue; /* another replica of the PG that is to be on this shard, when this one has gone */
        if (!add_member(pg, had, had_count, m))
            core_log(pg->shard->core, LOG_ERROR, "osd", PG_FMT ": no memory to speak to replica %u",
                     PG_ARGS(pg->id), m->replica);
    }
    const struct group_member self = {
        .replica = pg->replica, .osd = pg->shard->label.osd, .shard = pg->shard->number};
    if (!group_find(group, pg->replica))
        (void)add_member(pg, had, had_count, &self);
    for (uint32_t i = 0; i < had_count; i++)
        if (had[i].peer && !pg_member_find(pg, had[i].replica))
            heartbeat_out_drop(&had[i].peer->out, pg->id);
}

struct pg_member *pg_member_find(struct pg *pg, uint32_t replica)
{
    for (uint32_t i = 0; i < pg->member_count; i++)
        if (pg->members[i].replica == replica)
            return &pg->members[i];
    return NULL;
}

struct peer *pg_peer(const struct pg *pg, uint32_t replica)
{
    const struct pg_member *member = pg_member_find((struct pg *)pg, replica);

    if (member)
        return member->peer;
    for (uint32_t i = 0; i < PG_STRANGERS_MAX; i++)
        if (pg->strangers[i].replica == replica)
            return pg->strangers[i].peer;
    return NULL;
}

static void stranger_note(struct pg *pg, uint32_t replica, struct peer *peer)
{
    for (uint32_t i = 0; i < PG_STRANGERS_MAX; i++)
        if (pg->strangers[i].replica == replica) {
            pg->strangers[i].peer = peer;
            return;
        }
    pg->strangers[pg->stranger_next] = (struct pg_stranger){replica, peer};
    pg->stranger_next = (pg->stranger_next + 1) % PG_STRANGERS_MAX;
}

struct pg *pg_addressed(struct peer *peer, uint64_t id, uint32_t from, uint32_t to)
{
    struct pg *pg = pg_find(peer->shard, id);
    struct pg_member *member = pg ? pg_member_find(pg, from) : NULL;

    if (!pg || pg->replica != to || !from || from == pg->replica || (member && member->peer != peer))
        return NULL;
    if (!member && PLANT(OSD_STRANGERS_UNHEARD))
        return NULL;
    if (!member)
        stranger_note(pg, from, peer);
    pg_unpark(pg);
    return pg;
}

/* ---- what is wanted ---- */

static int propose_group(struct pg *pg, const struct group *group)
{
    struct raft *r = &pg->raft;
    uint32_t words[GROUP_WORDS_MAX];
    struct entry entry;
    uint64_t index;
    int error = raft_may_propose_group(r, group);

    /* The store next: it may refuse, raft then cannot. */
    if (!error) {
        group_to_entry(group, words, &entry);
        entry.index = r->last_index + 1;
        entry.term = r->term;
        error = store_can_append(pg->sp, &entry);
    }
    if (!error)
        error = store_append(pg->sp, &entry, NULL);
    if (error)
        return error;
    error = raft_propose_group(r, group, &index);
    ASSERT(!error && index == entry.index);
    pg_members_sync(pg);
    pg_wake(pg);
    return 0;
}

/* The group in force with the wanted list's new members as learners, and of learners only these. ERR_INVALID:
 * the list cannot be carried out; `ret_born`: the map knows that all of them exist. */
static int with_learners(const struct raft *r, const Fb__Pg *item, struct group *ret, bool *ret_born)
{
    *ret = (struct group){.epoch = item->wanted_epoch};
    *ret_born = true;
    for (uint32_t i = 0; i < r->group.count; i++)
        if (r->group.members[i].flags)
            ret->members[ret->count++] = r->group.members[i];
    for (size_t i = 0; i < item->n_wanted; i++) {
        const Fb__PgMember *m = item->wanted[i];
        const struct group_member *known = group_find(ret, m->replica);

        if (known && (known->osd != m->osd || known->shard != m->shard))
            return -ERR_INVALID;
        if (known)
            continue;
        if (m->shard > GROUP_SHARD_MAX || ret->count == GROUP_MEMBERS_MAX ||
            group_on_shard(ret, m->osd, m->shard))
            return -ERR_INVALID;
        *ret_born &= m->born || !m->birth; /* one of the first, that has left and is wanted again */
        ret->members[ret->count++] = (struct group_member){m->replica, m->osd, m->shard, 0};
    }
    return 0;
}

static bool is_wanted(const Fb__Pg *item, uint32_t replica)
{
    for (size_t i = 0; i < item->n_wanted; i++)
        if (item->wanted[i]->replica == replica)
            return true;
    return false;
}

/* From that to the joint group; false: it has the wanted voters already. */
static bool to_joint(const Fb__Pg *item, struct group *group)
{
    bool changes = false;

    for (uint32_t i = 0; i < group->count; i++) {
        struct group_member *m = &group->members[i];
        uint32_t becomes = is_wanted(item, m->replica) ? GROUP_VOTER : 0;

        changes |= m->flags != becomes;
        m->flags = (m->flags ? GROUP_VOTER_OLD : 0) | becomes;
    }
    return changes;
}

static bool same_members(const struct group *a, const struct group *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        const struct group_member *m = group_find(b, a->members[i].replica);
        if (!m || m->flags != a->members[i].flags)
            return false;
    }
    return true;
}

/* 0: nothing to do now, before the map or the log changes; ERR_RETRY: later. */
static int next_step(struct pg *pg)
{
    struct raft *r = &pg->raft;
    const Fb__Pg *item = shard_map_pg(pg->shard, pg->id);
    struct group group;
    bool born;

    /* So that who joins gets a state behind the split. */
    if (pg_split_count(pg) != pg->sp->record.split_count)
        return -ERR_RETRY;
    if (r->joint) {
        if (!raft_group_leave_due(r))
            return -ERR_RETRY;
        raft_group_left(r, &group);
        return propose_group(pg, &group);
    }
    if (!item || !item->n_wanted || item->wanted_epoch < r->group.epoch ||
        shard_map_pg_removed(pg->shard, item))
        return 0;
    int error = with_learners(r, item, &group, &born);
    if (error)
        return error;
    if (r->group.epoch < item->wanted_epoch || !same_members(&group, &r->group))
        return propose_group(pg, &group);
    if ((!born && !PLANT(OSD_UNBORN_VOTER)) || !to_joint(item, &group))
        return 0;
    return propose_group(pg, &group);
}

void pg_group_run(struct pg *pg)
{
    int error;

    if (!pg->group_due || !pg_serves(pg))
        return;
    uint64_t index = pg->raft.group.index;
    error = next_step(pg);
    /* A step that was taken is followed by the next one. */
    pg->group_due = error == -ERR_RETRY || error == -ERR_NO_SPACE || pg->raft.group.index != index;
    if (pg->raft.group.index != index)
        core_log(pg->shard->core, LOG_INFO, "osd",
                 PG_FMT ": the group becomes one of %u members%s at entry %" PRIu64 ", by epoch %" PRIu64,
                 PG_ARGS(pg->id), pg->raft.group.count, pg->raft.joint ? ", joint," : "",
                 pg->raft.group.index, pg->raft.group.epoch);
    else if (error && pg->group_due == false)
        core_log(pg->shard->core, LOG_ERROR, "osd", PG_FMT ": the wanted members cannot be had: %s",
                 PG_ARGS(pg->id), error_text(error));
}

bool pg_group_waits(const struct pg *pg)
{
    return pg->group_due && pg_serves(pg);
}
