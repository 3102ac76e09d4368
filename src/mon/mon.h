/* SPDX-License-Identifier: Apache-2.0
 *
 * mon: the cluster map: OSDs, pools, PGs and where they live, images and their writers. May include: base rt
 * wire rpc.
 *
 * The monitor's state is in the metadata store (rt/meta.h); memory holds a copy. Every change is one
 * compare-and-swap transaction first and becomes visible, and is announced, when it has been committed. Not
 * on the data path: OSDs and clients go on with the last map they have when it is away.
 *
 * Several monitors on one store: one leads, under a lease of the store, and each of its transactions depends
 * on that lease; the others follow what it writes and serve the map. They meet in the store alone and send
 * each other nothing.
 *
 * mon.c (life), mon_request.c (calls), mon_tick.c (what it does by itself), mon_state.c (items), mon_load.c
 * (the load), mon_change.c (changes and their commit), mon_osd.c (registration, reports), mon_out.c (in and
 * out, what operators say of OSDs), mon_settle.c (up and down, orders done), mon_events.c (what happened, for
 * people), mon_pool.c, mon_image.c (images, writers, orders), mon_scrub.c (scrubs: orders, results),
 * mon_status.c, mon_subscribe.c (sessions, deltas), mon_lead.c (who leads), mon_follow.c (what the leader
 * writes), mon_monitors.c (the list of monitors), placement.c (a pure function: OSDs and load -> members of a
 * PG).
 *
 * Removed PGs and finished orders stay in the map as markers, so that a delta can name them; a whole map
 * leaves them out. The marker of an order is deleted when every shard of every OSD that was ever started has
 * saved a map that names it: nobody else has a use for orders, so no delta that lacks it misleads anyone.
 * Markers of PGs and pools, which clients need too, are kept (some 200 bytes of memory each). A map
 * larger than MON_MAP_BYTES comes in several deltas, cut between epochs: apply each and ask on (MapGet), or
 * receive on (Subscribe).
 */
#ifndef MON_MON_H
#define MON_MON_H

#include "base/base.h"
#include "rt/core.h"
#include "rt/meta.h"
#include "rt/net.h"

#define MON_CHOOSERS_MAX 8
#define MON_FORMAT       2u /* of the metadata that this version writes: MonState.format */

struct mon;
struct placement_chooser;

struct mon_config {
    struct core *core;
    struct net *net;
    struct meta *meta;
    const char *listen;            /* "host:port"; only used by the start */
    const char *advertise;         /* where others find it; only used by the start. NULL: where it listens */
    const char *version;           /* of the software, for status; must outlive the monitor. NULL: unknown */
    uint64_t osd_down_after_ns;    /* no report for so long: down. 0: 3 s */
    uint64_t osd_out_after_ns;     /* down for so long: out, and its data is made anew elsewhere. 0: never */
    uint64_t writer_lost_after_ns; /* a writer without a session for so long may be replaced without force. 0:
                                      10 s */
    /* Placement functions that pools may name; they must outlive the monitor. */
    const struct placement_chooser *choosers[MON_CHOOSERS_MAX];
    uint32_t chooser_count;
    uint64_t lease_ns; /* how long it leads without a word of the metadata store. 0: 5 s */
    uint32_t orders_max; /* images that were removed or resized, of which not all PGs know. 0: 100,000 */
};

/* Loads the state (a new cluster gets its uuid in an empty store), listens. */
struct mon_start {
    struct op op;
    struct timer timer;
    uint64_t listen_until_ns; /* a port that is taken is waited for; 0: not tried yet */
    struct mon_config config;
    struct mon *ret_mon;
    char ret_message[256];
};
void mon_start_start(struct mon_start *s, const struct mon_config *config, struct op *parent);
/* Ends listening and all sessions at once. A change under way is still written; the memory is freed, by polls
 * of the core to come, when that is done: the metadata store and the core must stay until no op of the
 * monitor is live. */
void mon_free(struct mon *mon);
/* Does it lead just now? One on a metadata store without leases always does. */
bool mon_leads(const struct mon *mon);
const char *mon_address(const struct mon *mon);

#endif
