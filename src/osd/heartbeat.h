/* SPDX-License-Identifier: Apache-2.0
 *
 * heartbeat: one message per pair of shards instead of one per group. Pure: the sets of groups and their
 * versions.
 *
 * The leader's shard keeps, per peer, the set of groups that it leads and that have a member there
 * (heartbeat_out). Every change of the set (a group added, a new term, a higher commit index, a group no
 * longer led) gets a version number of its own and moves the group to the end of the list, so that "the
 * changes since version v" is the tail of the list and can be cut anywhere: a message that leads to version s
 * tells everything about the groups whose last change is at or before s, and nothing about the others.
 *
 * The member's shard keeps a copy of the set (heartbeat_in). It takes a message that builds on a version
 * which it has, and answers with the version that it now has and EVERY group of its copy that it refuses
 * (unknown, other term, other leader). To acknowledge a group is to promise: the replica has been told that
 * its leader is alive. So the leader may count, for each group whose last change is at or before the answered
 * version and that was not refused, one contact at the send time of the message. An answer has room for as
 * many refusals as a shard can have groups; one that left some out would promise what nobody has promised.
 *
 * Messages may be lost, repeated and reordered: only a higher `seq` is looked at, changes carry whole values
 * and so may be told again, and a base that the receiver does not have makes it answer with what it has; the
 * sender goes back to there, or, if it has forgotten what it removed since, to the whole set (base 0).
 */
#ifndef OSD_HEARTBEAT_H
#define OSD_HEARTBEAT_H

#include "base/base.h"
#include "base/list.h"
#include "base/map.h"
#include "base/plant.h"
#include "wire/wire.h"

#define HEARTBEAT_GROUPS_MAX PLANT_SCARCE(WIRE_GROUPS_MAX, 3u) /* changes in one message */

struct heartbeat_out {
    struct map by_pg;
    struct list entries; /* ascending by version */
    struct list awake;   /* those that answers are told to; the host takes out and puts back the others */
    uint64_t version;    /* of the newest change */
    uint64_t acked_version;
    uint64_t seq, answered_seq;
    uint32_t led_count;     /* groups that are led */
    uint32_t dropped_count; /* groups that are no longer led, in the set until that is acknowledged */
};

/* A group of the set; term 0: no longer led, kept until that is acknowledged. */
struct heartbeat_entry {
    struct map_node by_pg;
    struct list link, awake;
    struct wire_heartbeat_group group;
    uint64_t version;
    uint64_t refused_seq;
};

void heartbeat_out_init(struct heartbeat_out *out);
void heartbeat_out_fini(struct heartbeat_out *out);
/* The shard leads this group now, with these values. Nothing happens if that is known. ERR_NO_MEMORY: the
 * group is not in the set, and so has no contact; set it again later. */
MUST_CHECK int heartbeat_out_set(struct heartbeat_out *out, const struct wire_heartbeat_group *group);
void heartbeat_out_drop(struct heartbeat_out *out, uint64_t pg);
struct heartbeat_entry *heartbeat_out_find(const struct heartbeat_out *out, uint64_t pg); /* NULL: none */
/* True if there is anything to say: a group is led, or the end of one is not acknowledged. */
bool heartbeat_out_due(const struct heartbeat_out *out);
/* The next message; its groups go into the caller's array. incarnation and sent_ns are the caller's to fill.
 */
void heartbeat_out_next(struct heartbeat_out *out, struct wire_heartbeat *ret,
                        struct wire_heartbeat_group *groups);
/* An answer. True if it counts: then heartbeat_out_contact() is true of every group whose member has promised
 * by it. */
MUST_CHECK bool heartbeat_out_answer(struct heartbeat_out *out, const struct wire_heartbeat_reply *reply);
static inline bool heartbeat_out_contact(const struct heartbeat_out *out, const struct heartbeat_entry *entry)
{
    return entry->group.term && entry->version <= out->acked_version &&
           entry->refused_seq != out->answered_seq;
}
static inline bool heartbeat_out_refused(const struct heartbeat_out *out, const struct heartbeat_entry *entry)
{
    return entry->group.term && entry->refused_seq == out->answered_seq;
}

struct pg;

struct heartbeat_in {
    struct map groups;         /* struct heartbeat_heard by PG */
    struct list awake, parked; /* the same: told of each message, or not */
    uint64_t incarnation, seq, version;
};

struct heartbeat_heard {
    struct map_node by_pg;
    struct list link; /* in one of the lists */
    struct wire_heartbeat_group group;
    struct pg *parked; /* the host's: who is to be told before the group changes or goes; NULL: nobody */
};

void heartbeat_in_init(struct heartbeat_in *in);
void heartbeat_in_fini(struct heartbeat_in *in);
/* Taking this message in takes all groups out first. */
bool heartbeat_in_clears(const struct heartbeat_in *in, const struct wire_heartbeat *message);
struct heartbeat_heard *heartbeat_in_find(const struct heartbeat_in *in, uint64_t pg); /* NULL: none */
/* Takes a message in; no group that changes or goes may be parked. True: answer it, with in->version and what
 * is refused of in->groups. False: it is old, or there is no memory: then parts of it may have been taken. */
MUST_CHECK bool heartbeat_in_take(struct heartbeat_in *in, const struct wire_heartbeat *message);

#endif
