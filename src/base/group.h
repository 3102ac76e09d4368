/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is in the Raft group of a PG: the noun that raft, store and osd share. It is set by an entry of the log
 * (ENTRY_GROUP), and in force as soon as it is in the log. It tells where its members are, so that a replica
 * finds the others by its own log, whatever map it has.
 *
 * In an entry its members are 32-bit numbers in the place where a WRITE has its checksums, GROUP_WORDS for
 * each: replica, osd, shard, flags; `epoch` is the entry's. docs/format/store.md.
 */
#ifndef BASE_GROUP_H
#define BASE_GROUP_H

#include "base/base.h"
#include "base/entry.h"

#define GROUP_MEMBERS_MAX 12
#define GROUP_WORDS       4u
#define GROUP_WORDS_MAX   (GROUP_MEMBERS_MAX * GROUP_WORDS)
#define GROUP_SHARD_MAX   UINT16_MAX /* numbers of shards are no higher */

/* What a member is; neither: a learner, which takes entries and counts for nothing. Numbers are on the wire
 * and on disk. */
enum group_flags {
    GROUP_VOTER = 1,
    GROUP_VOTER_OLD = 2, /* votes until the change of voters under way is complete: the group is *joint* */
};

struct group_member {
    uint32_t replica; /* number, from 1; never used again in this PG */
    uint32_t osd, shard;
    uint32_t flags;
};

struct group {
    uint64_t index; /* of the entry; 0: the group as it was born */
    uint64_t epoch; /* of the monitor's list of wanted members that it carries out; 0: none */
    uint32_t count;
    struct group_member members[GROUP_MEMBERS_MAX];
};

/* Can this be a group: members named once, one of them a voter, nothing else in flags. Where they are does
 * not matter. */
bool group_validate(const struct group *group);
bool group_joint(const struct group *group);
/* NULL: not in it. */
const struct group_member *group_find(const struct group *group, uint32_t replica);
/* The member on that shard; NULL: there is none. */
const struct group_member *group_on_shard(const struct group *group, uint32_t osd, uint32_t shard);

/* The entry that sets the group, but for index and term; `words` is its memory. */
void group_to_entry(const struct group *group, uint32_t words[GROUP_WORDS_MAX], struct entry *ret);
/* The group that an ENTRY_GROUP sets, or with which the PG of an ENTRY_SPLIT is born. ERR_PROTOCOL: it is
 * none that can be, or has two members on one shard. */
MUST_CHECK int group_from_entry(const struct entry *entry, struct group *ret);

#endif
