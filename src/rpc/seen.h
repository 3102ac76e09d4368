/* SPDX-License-Identifier: Apache-2.0
 *
 * Who was seen before: for each client the highest session number, for each OSD shard the highest start
 * counter, and the sessions that are open now. For the files of this room only.
 *
 * The memory is bounded: when it is full, the entry that has been without an open session for longest is
 * forgotten. That is safe for clients: a frame can only be acted on if it arrives on a session that is open
 * here, an entry with open sessions is never forgotten, and a client sends nothing but HELLO on a link before
 * that is answered. So all that a late HELLO of a forgotten client can make is a session on which nothing
 * will ever be asked. For OSDs it is not a guard to rely on (neither does this memory outlive the process): a
 * restored copy of a device is kept out by the monitor, which remembers start counters durably; here it is
 * only noticed earlier.
 */
#ifndef RPC_SEEN_H
#define RPC_SEEN_H

#include "base/base.h"
#include "base/list.h"
#include "base/map.h"

struct rpc_seen {
    struct map_node by_id;
    struct list idle;     /* in rpc_seen_table.idle while `sessions` is empty */
    struct list sessions; /* open ones: rpc_session.of_seen */
    uint8_t id[16];
    uint64_t highest;
    uint8_t osd_uuid[16]; /* OSD shards */
};

struct rpc_seen_table {
    struct map by_id;
    struct list idle; /* oldest first */
    struct rpc_seen *entries;
    uint32_t used, max;
};

/* `max` must be more than the number of sessions that can be open. ERR_NO_MEMORY. */
MUST_CHECK int rpc_seen_init(struct rpc_seen_table *table, uint32_t max);
void rpc_seen_fini(struct rpc_seen_table *table);

/* The entry of `id`, or NULL. */
struct rpc_seen *rpc_seen_find(const struct rpc_seen_table *table, const uint8_t id[16]);
/* Adds an idle entry for `id`, which must not be there; forgets the longest idle one if there is no room.
 * NULL in the one case that a client with an open session was made to have the same hash. */
struct rpc_seen *rpc_seen_add(struct rpc_seen_table *table, const uint8_t id[16]);

/* A session of the entry opened (`of_seen` is its node), or closed. */
void rpc_seen_open(struct rpc_seen *seen, struct list *of_seen);
void rpc_seen_close(struct rpc_seen_table *table, struct rpc_seen *seen, struct list *of_seen);

#endif
