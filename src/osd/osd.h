/* SPDX-License-Identifier: Apache-2.0
 *
 * osd: a shard: its PGs (raft + store + client requests), its peers, its session with the monitor.
 * May include: base raft wire rt store rpc.
 *
 * One osd_shard lives on one core and owns one slice of the OSD's device. The way of a client's write through
 * it:
 *
 *   shard_server.c   a WRITE frame arrives, is decoded and validated
 *   pg_write.c       it is checked against map, leadership, term, fence, generation, size; partial blocks are
 * merged; it is proposed: store_append() here and APPEND frames to the followers leave in the same loop turn
 *   pg.c             durable here / acknowledged there -> commit -> store_apply()
 *   pg_write.c       the reply
 *
 * A shard keeps no request that it can neither propose nor serve now: it answers ERR_RETRY, ERR_NOT_LEADER or
 * the like at once and the client waits. The body of every error reply tells the PG's term and leader.
 */
#ifndef OSD_OSD_H
#define OSD_OSD_H

#include "base/base.h"
#include "rt/blk.h"
#include "rt/core.h"
#include "rt/net.h"
#include "store/store.h"

struct osd_shard;

struct osd_shard_config {
    struct core *core;
    struct net *net;
    struct blk *blk;                  /* the slice */
    const struct device_label *label; /* with this start's counter; copied */
    uint32_t shard;                   /* number of the slice */
    const char *listen;               /* "host:port", port 0: any */
    const char *const *monitors;      /* addresses */
    uint32_t monitor_count;
    const char *host, *rack, *zone; /* location */
    uint64_t cache_bytes;           /* for the store */
    uint32_t pages_max;             /* likewise; 0: what the store takes of itself */
};

/* Hands leadership over where it can (bounded time), closes the store. Frees the shard. Zeroed before first
 * use. */
struct osd_shard_stop {
    struct op op;
    struct osd_shard *shard;
    struct timer timer; /* the room's own, like the rest */
    struct store_close close;
};
void osd_shard_stop_start(struct osd_shard_stop *s, struct osd_shard *shard, struct op *parent);

/* Opens the store, listens, finds the monitor, serves. Zeroed before first use. The op ends when the shard
 * serves (with its last map if no monitor answers) or cannot: ERR_FORMAT, ERR_IDENTITY, ERR_CLUSTER,
 * ERR_ROLLED_BACK (the monitor's or the device's verdict), ERR_IO. */
struct osd_shard_start {
    struct op op;
    struct osd_shard_config config;
    struct osd_shard *ret_shard;
    char ret_message[256]; /* what failed and what to do, when result != 0 */
    /* The room's own. */
    struct {
        struct osd_shard *shard;
        struct store_open *store_open;
        struct osd_shard_stop stop;
        struct timer timer;
        int error;
    } private_state;
};
void osd_shard_start_start(struct osd_shard_start *s, const struct osd_shard_config *config,
                           struct op *parent);

/* For the simulator's checkers and for status: state of a PG replica here. */
struct osd_pg_view {
    uint64_t pg;
    uint32_t replica, leader;
    int role; /* enum raft_role */
    uint64_t term, commit_index, applied_index, last_index, durable_index;
    bool recovering, damaged;
};
bool osd_pg_view(const struct osd_shard *shard, uint64_t pg, struct osd_pg_view *ret);
struct store *osd_shard_store(const struct osd_shard *shard);
const char *osd_shard_address(const struct osd_shard *shard);
/* 0, or why the shard took itself out of service. */
int osd_shard_failed(const struct osd_shard *shard);

#endif
