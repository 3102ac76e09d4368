/* SPDX-License-Identifier: Apache-2.0
 *
 * Members that have no room for what is written.
 *
 * A leader refuses a write when a member in contact has little space left, as that one's shard last said, in
 * whatever group. What it has proposed is under way all the same, of many groups and leaders at once, and may
 * come to more than is left. Then a member refuses entries that are in the leader's log, until it has room:
 * it takes nothing that stands behind them, and so neither the discards nor the removals that would make it.
 *
 * A majority refuses: nothing can be committed here, by this leader. After 10 s it hands over to the one
 * of them that has most of the log; what was in nobody's log but ours, and of others that have room, is gone
 * with that, and the new leader has not got the room to propose it again, so whoever wants it is told
 * ERR_NO_SPACE. Image records, of which a slice has room for a number, are no different. One that recovers,
 * and has no room for that, is asked for nothing, and refuses it all the same; it does not lead, but votes.
 *
 * Only a minority does: the others commit, and what is full lags behind. It gets the state instead of the log
 * (recover.c): objects of which less is left are copied like any other, and give their chunks back. So does
 * one that has just recovered, and waits for the log up to where it counts again.
 *
 * One that is to become a member, of a PG that is moved here, stops copying while there is room left: all PGs
 * of the shard would be refused writes, also to what is written already, because of one that has room
 * elsewhere.
 */
#include "osd/pg.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/plant.h"

/* Then what is refused is not waited for any longer. */
#define STUCK_NS PLANT_LIMIT(2 * PG_COMMIT_NS, NS_PER_S)
/* Of a shard: what is under way of many groups and leaders at once should not come to more, and recoveries,
 * which write before they give back, and repairs need some. */
#define ROOM_LEFT_ONE_IN PLANT_LIMIT(128, 4096)
/* Of a shard; at the least so much, for copies that are under way take some of it. */
#define JOIN_LEAVES_ONE_IN 50
#define JOIN_LEAVES        (4 * PG_SPACE_MARGIN)

/* Does the entry need what a member in contact has too little of? `need`: bytes of space; 0: an image record.
 */
static bool member_lacks(const struct pg *pg, uint64_t need, uint64_t now_ns)
{
    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct peer *peer = pg->members[i].peer;
        const struct raft_member *known = raft_member(&pg->raft, pg->members[i].replica);
        if (peer && known->flags && raft_in_contact(&pg->raft, known, now_ns) &&
            (need ? peer->free_bytes < need : peer->no_records))
            return true;
    }
    return false;
}

uint64_t pg_room_free(const struct store_space *space)
{
    return space->free_bytes - MIN(space->free_bytes, space->total_bytes / ROOM_LEFT_ONE_IN);
}

int pg_room_check(struct pg *pg, const struct entry *entry)
{
    struct store_space space = store_space(pg->shard->store);
    uint64_t need = entry->type == ENTRY_WRITE ? entry_payload_bytes(entry) + PG_SPACE_MARGIN : 0;
    int error = store_can_append(pg->sp, entry);

    /* Clears and records of images that have one are let through: they free some. */
    if (error || (!need && (entry->type != ENTRY_IMAGE || pg_image_newest(pg, entry->image))))
        return error;
    if (member_lacks(pg, need, core_recent_ns(pg->shard->core))) {
        /* It says how much it has with its next answer only, and without writes there is none. */
        raft_probe(&pg->raft);
        pg_wake(pg);
    } else if (need ? pg_room_free(&space) >= need : space.free_records >= PG_RECORDS_MARGIN) {
        return 0;
    }
    return need ? -ERR_NO_SPACE : -ERR_NO_RECORDS;
}

bool pg_room_to_join(const struct pg *pg)
{
    struct store_space space = store_space(pg->shard->store);

    return space.free_bytes >= MAX(space.total_bytes / JOIN_LEAVES_ONE_IN, JOIN_LEAVES) ||
           PLANT(OSD_JOINS_TO_THE_END);
}

void pg_room_told(struct pg_member *member, const struct wire_append_reply *reply, uint64_t match)
{
    member->peer->free_bytes = reply->free_bytes;
    member->peer->no_records = reply->flags & APPEND_NO_RECORDS;
    /* Of those that recover one may abstain, and elects nobody: whether it does is not said but by this. */
    bool votes = !(reply->flags & APPEND_RECOVERING) || reply->flags & APPEND_LACKS_ROOM;
    if (!votes && !PLANT(OSD_ABSTAINERS_REFUSE))
        member->refuses = false;
    else if (reply->flags & (APPEND_NO_MEMORY | APPEND_LACKS_ROOM))
        member->refuses = true;
    else if (match > member->match)
        member->refuses = false;
}

static bool refuses(const struct pg *pg, const struct pg_member *m, uint64_t now_ns)
{
    const struct raft_member *known = m ? raft_member(&pg->raft, m->replica) : NULL;

    return known && known->flags && m->refuses && raft_in_contact(&pg->raft, known, now_ns);
}

static bool majority_refuses(struct pg *pg, const struct group *group, uint32_t flag, uint64_t now_ns)
{
    uint32_t voters = 0, refusing = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        if (!(group->members[i].flags & flag))
            continue;
        voters++;
        refusing += refuses(pg, pg_member_find(pg, group->members[i].replica), now_ns);
    }
    return refusing > voters / 2;
}

/* Of those that refuse the one that has most of the log, if they can elect it: who has taken more than it has
 * would not, so they must be a majority by themselves, of the group that its log sets. 0: there is none. */
static uint32_t short_leader(struct pg *pg, uint64_t now_ns)
{
    const struct raft *r = &pg->raft;
    const struct raft_member *best = NULL;

    for (uint32_t i = 0; i < pg->member_count; i++) {
        const struct raft_member *known = raft_member(r, pg->members[i].replica);
        if (refuses(pg, &pg->members[i], now_ns) && !known->recovering &&
            (!best || known->match > best->match))
            best = known;
    }
    if (!best || best->match < r->commit_index)
        return 0;
    const struct group *group = r->group.index > best->match ? &r->group_before : &r->group;
    return majority_refuses(pg, group, GROUP_VOTER, now_ns) &&
                   (!group_joint(group) || majority_refuses(pg, group, GROUP_VOTER_OLD, now_ns) ||
                    PLANT(OSD_SHORT_ONE_MAJORITY))
               ? best->replica
               : 0;
}

void pg_room_run(struct pg *pg, uint64_t now_ns)
{
    struct raft *r = &pg->raft;
    uint32_t to;

    if (r->role != RAFT_LEADER)
        return;
    if (r->commit_index == r->last_index || r->commit_index != pg->stuck_index ||
        !(to = short_leader(pg, now_ns))) {
        pg->stuck_index = r->commit_index;
        pg->stuck_ns = now_ns;
        return;
    }
    if (now_ns - pg->stuck_ns < STUCK_NS || PLANT(OSD_STUCK_WITHOUT_ROOM))
        return;
    pg->stuck_ns = now_ns;
    if (!raft_transfer_short(r, to, now_ns))
        core_log(pg->shard->core, LOG_WARN, "osd",
                 PG_FMT ": a majority has no room for entries behind %" PRIu64
                        ": replica %u hands over to %u, and they are given up",
                 PG_ARGS(pg->id), r->commit_index, pg->replica, to);
}

void pg_room_refused(struct pg *pg, int error, uint64_t commit, uint64_t now_ns)
{
    uint64_t last = pg->sp->last_index;

    /* Anything else comes by itself: what is in the ring is destaged. */
    if ((error != -ERR_NO_SPACE && error != -ERR_NO_RECORDS) || commit <= last || pg->stuck_index != last) {
        pg->stuck_index = last;
        pg->stuck_ns = now_ns;
        return;
    }
    if (now_ns - pg->stuck_ns < STUCK_NS || PLANT(OSD_FULL_WAITS_FOR_EVER))
        return;
    pg->stuck_ns = now_ns;
    core_log(pg->shard->core, LOG_WARN, "osd",
             PG_FMT ": replica %u has had no room for entry %" PRIu64
                    " for %u s: it takes the leader's state",
             PG_ARGS(pg->id), pg->replica, last + 1, (uint32_t)(STUCK_NS / NS_PER_S));
    recover_start(pg);
}
