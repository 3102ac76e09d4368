/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks the safety properties of Raft over a group of raft_host; a violation fails the run.
 */
#ifndef SIM_RAFT_CHECK_H
#define SIM_RAFT_CHECK_H

#include "sim/raft_host.h"
#include "sim/sim.h"

struct raft_commit {
    struct raft_item item;
    uint64_t leader_term; /* of the first who knew it committed */
};

struct raft_seen {
    uint64_t index, term, hash; /* index 0: free */
};

/* Zeroed at first, but for sim, hosts and count. */
struct raft_checker {
    struct sim *sim;
    struct raft_host *hosts[RAFT_MEMBERS_MAX];
    uint32_t count;
    struct raft_commit *commits; /* by index */
    uint64_t commit_max;         /* the newest index that anybody knows committed */
    uint64_t commits_cap;
    uint32_t *leaders; /* by term */
    uint64_t leaders_cap;
    struct raft_seen *seen; /* open addressing */
    uint64_t seen_count, seen_cap;
};

/* Has it this entry on its disk, and so all before it? */
bool raft_checker_has(const struct raft_host *h, uint64_t index, uint64_t hash);
void raft_checker_fini(struct raft_checker *c);
/* A host appended entries [first, last]: log matching. */
void raft_checker_appended(struct raft_checker *c, const struct raft_host *h, uint64_t first, uint64_t last);
/* A host leads: election safety, leader completeness. */
void raft_checker_led(struct raft_checker *c, const struct raft_host *h);
/* A host's commit index has moved on from `before`: state machine safety, durability. */
void raft_checker_committed(struct raft_checker *c, const struct raft_host *h, uint64_t before);
/* A host that was damaged votes again: durability. */
void raft_checker_healed(struct raft_checker *c);

#endif
