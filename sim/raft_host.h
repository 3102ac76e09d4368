/* SPDX-License-Identifier: Apache-2.0
 *
 * A host for one replica of the raft core alone: a log in memory, a disk whose writes finish when the owner
 * says so, and nothing else. It is what src/osd is to raft in the product, reduced to what raft's contract
 * asks, so that the script tests (tests/raft) and the simulation of raft (scenario_raft.c) can run thousands
 * of groups cheaply.
 *
 * An entry is a number; beside it each index keeps the hash of the whole log up to there, so two logs are
 * equal up to an index if and only if the hashes there are. The disk has two queues, one for term and vote
 * and one for the log, each in order; a crash loses what is still queued, or keeps any part of it.
 */
#ifndef SIM_RAFT_HOST_H
#define SIM_RAFT_HOST_H

#include "raft/raft.h"
#include "sim/rng.h"

struct raft_item {
    uint64_t term, value, hash;
    /* Of an entry that sets the group, and of the base: the one in force there. The owner's, for ever. */
    const struct group *group;
};

/* A message with the entries that it carries. On the heap: whoever is handed one frees it. */
struct raft_packet {
    struct raft_msg msg;
    struct raft_item base;  /* state handed over for recovery (RAFT_HOST_STATE) */
    struct entry entries[]; /* `object` is the entry's number */
};

/* Message types of the host, beside raft's. */
enum {
    RAFT_HOST_HEARTBEAT = 100, /* the merged heartbeat */
    RAFT_HOST_HEARTBEAT_REPLY,
    RAFT_HOST_PULL,  /* recovering: send me your state */
    RAFT_HOST_STATE, /* msg.index, base: the state at that index; msg.commit: the target; sent_ns: the PULL's
                      */
};

enum raft_host_queue { RAFT_HOST_QUEUE_VOTE, RAFT_HOST_QUEUE_LOG, RAFT_HOST_QUEUES };

struct raft_write {
    struct raft_write *next;
    struct raft_hard_state hs; /* QUEUE_VOTE */
    bool is_base;              /* QUEUE_LOG: the state of a recovery, else items */
    uint64_t first, last;      /* is_base: both the index; last == first - 1: the log ends there */
    struct raft_item items[];  /* is_base: one */
};

enum raft_host_hindrance { RAFT_HOST_FREE, RAFT_HOST_BUSY, RAFT_HOST_NOTHING };

struct raft_host;
struct raft_host_hooks {
    void (*send)(void *owner, struct raft_host *h, struct raft_packet *packet);
    void (*appended)(void *owner, struct raft_host *h, uint64_t first,
                     uint64_t last); /* may be NULL, as all below */
    void (*role_changed)(void *owner, struct raft_host *h);
    void (*committed)(void *owner, struct raft_host *h, uint64_t before);
    /* What stands in the way of an APPEND: nothing, a link that takes no more, entries that are not at hand.
     */
    enum raft_host_hindrance (*hindrance)(void *owner, struct raft_host *h);
    /* Of the entries that raft has taken the store takes those up to here, first - 1 at the least; NULL: all.
     */
    uint64_t (*takes)(void *owner, struct raft_host *h, uint64_t first, uint64_t last);
    uint64_t (*next_value)(void *owner); /* of a NOOP, or a group */
    /* Keeps a copy of a group to the end of the run. */
    const struct group *(*keep_group)(void *owner, const struct group *group);
    /* It was damaged, and has all again that was ever counted with it: it votes from now on. */
    void (*healed)(void *owner, struct raft_host *h);
};

struct raft_host {
    uint32_t replica;
    struct raft_config config;
    const struct raft_host_hooks *hooks;
    void *owner;

    bool up;
    struct raft raft;      /* valid while up */
    struct raft_item *log; /* by index; below the base only the base itself is valid */
    uint64_t log_cap;
    bool recovering;              /* a state is wanted */
    bool based;                   /* damaged: the log has begun anew in this life */
    bool early_base;              /* a base is in force before it is on the disk, as in src/osd; */
    bool basing;                  /* and it is not there yet */
    uint64_t target, target_term; /* damaged: raft_is_whole() by them; known when `based` */
    uint64_t start_ns, left_term; /* the term in which it handed over because its log is damaged */
    struct raft_write *queue[RAFT_HOST_QUEUES];
    enum raft_role seen_role;
    uint64_t seen_term, seen_commit;
    uint32_t append_max; /* entries in one APPEND */

    /* What survives a crash. */
    struct raft_hard_state disk_hs;
    uint64_t disk_base, disk_last;
    bool disk_damaged; /* what was acknowledged may be missing: the replica abstains */
    uint64_t
        disk_lost; /* the entry that showed it to one that was up: it is missing at the next start; 0: none */
    struct raft_item *disk_log;
    uint64_t disk_cap;
};

/* `group`: as the replica first knows it; the owner's. */
void raft_host_init(struct raft_host *h, uint32_t replica, const struct group *group,
                    const struct raft_config *config, const struct raft_host_hooks *hooks, void *owner);
void raft_host_fini(struct raft_host *h);
void raft_host_start(struct raft_host *h, bool born_now, uint64_t seed, uint64_t now_ns);
/* `rng` decides how much of what is queued reached the disk after all; NULL: nothing. */
void raft_host_crash(struct raft_host *h, struct sim_rng *rng);

/* A host that is down loses what its log held above `index`, acknowledged or not, and knows. When it starts
 * it abstains, and recovers from its leader: takes no entries until it has its state, and abstains until what
 * the leader had committed then is on its disk. */
void raft_host_damage(struct raft_host *h, uint64_t index);
/* The same, but it does not know: its disk has lost what it reported as written. */
void raft_host_lose(struct raft_host *h, uint64_t index);
/* One that is up finds that `index` cannot be read: it hands over if it leads, and goes on like such a one.
 */
void raft_host_damage_found(struct raft_host *h, uint64_t index, uint64_t now_ns);

/* Does everything that raft asks for after an input: writes are queued, messages sent, a NOOP proposed.
 * Called by those below. */
void raft_host_pump(struct raft_host *h, uint64_t now_ns);
void raft_host_step(struct raft_host *h, const struct raft_packet *packet, uint64_t now_ns);
/* The store refuses what is not on the disk yet: raft has it, the log does not. */
void raft_host_refuse(struct raft_host *h);
void raft_host_tick(struct raft_host *h, uint64_t now_ns);
int raft_host_propose(struct raft_host *h, uint64_t value, uint64_t now_ns);
/* Leader: the group is to become `target` (not joint, flags VOTER or 0), by a joint one if voters change. The
 * way out of that goes by itself. */
int raft_host_change(struct raft_host *h, const struct group *target, uint64_t now_ns);
/* The newest group of its log; of what is on its disk. */
const struct group *raft_host_group(const struct raft_host *h);
const struct group *raft_host_disk_group(const struct raft_host *h);
/* The oldest write of the queue is on disk. False: there is none. */
bool raft_host_write_done(struct raft_host *h, enum raft_host_queue queue, uint64_t now_ns);
/* Leader: a merged heartbeat to everyone. Recovering: asks again. */
void raft_host_heartbeat(struct raft_host *h, uint64_t now_ns);
/* Drops the log up to and including `index`, as far as that is committed and durable. */
void raft_host_compact(struct raft_host *h, uint64_t index);
uint64_t raft_host_applied(const struct raft_host *h);

#endif
