/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the osd room tell each other about the shard: its state, its peers, its map, its monitor.
 * The PG's own business is in pg.h.
 */
#ifndef OSD_SHARD_H
#define OSD_SHARD_H

#include "base/map.h"
#include "base/plant.h"
#include "base/pool.h"
#include "osd/heartbeat.h"
#include "osd/osd.h"
#include "osd/image_perf.h"
#include "osd/perf.h"
#include "raft/raft.h"
#include "rpc/monitors.h"
#include "rpc/rpc.h"
#include "wire/cold.h"
#include "wire/wire.h"

#define SHARD_REQUESTS_MAX     PLANT_SCARCE(4096u, 32u)           /* client requests under way */
#define SHARD_REQUEST_BYTES    PLANT_SCARCE(256u << 20, 4u << 20) /* of their data, what is read as well */
#define SHARD_CLIENTS_MAX      PLANT_SCARCE(1024u, 7u)            /* sessions of clients; */
#define SHARD_SESSIONS_MAX     2048 /* the others are for shards, whom clients are not to keep out */
#define SHARD_SESSION_REQUESTS 1024 /* under way per session */
#define SHARD_HEARTBEAT_NS     (30 * NS_PER_MS)
#define SHARD_REST_AFTER_NS    (1000 * NS_PER_MS) /* a group without traffic for so long is at rest */
#define SHARD_REST_MS          470 /* what is added to the pace of a pair whose groups all rest */
#define SHARD_REPORT_NS        NS_PER_S
#define SHARD_STOP_NS          NS_PER_S   /* leaders are given so long to move away */
#define SHARD_BODY_MAX         (1u << 16) /* of what we send but maps and reports */

struct pg;
struct pg_request;

/* ---- peers: other shards (shard_peers.c) ---- */

struct peer {
    struct map_node node; /* in shard->peers, by peer_key() */
    struct osd_shard *shard;
    uint32_t osd, number; /* of the shard over there */
    char address[64];
    struct rpc_peer *rpc;        /* our session to it */
    struct rpc_session *session; /* its newest session to us, NULL: none */
    uint64_t incarnation;        /* newest that a handshake showed; 0: none yet */
    uint64_t start_token;        /* of that start; 0: not known */
    bool lost;                   /* the last thing we know of our session is that it ended or failed */
    /* Of the sessions (shard_carrier.c): when a frame left by the first choice that it has yet to answer; */
    uint64_t asked_ns;
    uint64_t detour_ns; /* when a one-way frame last came by the second choice; */
    uint64_t pinged_ns; /* when both were last asked for life, */
    uint32_t pings;     /* and how often the second one answered that, plus one; 0: not asked */
    struct heartbeat_out out;
    struct heartbeat_in in;
    uint64_t contact_ns;         /* when the newest of our heartbeats left that it answered */
    uint64_t heard_ns;           /* when its newest heartbeat came; and what that one said about the next: */
    uint64_t heard_rest_ns;      /* it comes so much later than usual */
    uint32_t led_parked;         /* groups that we lead with it and that are parked (pg_park.c) */
    bool busy;                   /* a group that we lead together with it is not at rest */
    bool beat_rests;             /* our last heartbeat said that the next one comes late */
    uint64_t beat_ns;            /* when it left */
    uint64_t free_bytes;         /* for writes, as last reported; UINT64_MAX: not yet */
    bool no_records;             /* and of places for image records there are few */
    uint64_t unanswered_ns;      /* since when it owes an answer that somebody waits for; 0: it does not */
    struct pace pace;            /* the same as the next, lately */
    struct histogram append_ack; /* entries sent to it at once until it acknowledged them; marked ones */
};

static inline uint64_t peer_key(uint32_t osd, uint32_t number)
{
    return (uint64_t)osd << 32 | number;
}

/* The peer, made when first asked for. NULL: no memory. Its link is made once the map knows its address. */
struct peer *shard_peer_get(struct osd_shard *shard, uint32_t osd, uint32_t number);
struct peer *shard_peer_find(struct osd_shard *shard, uint32_t osd, uint32_t number);
/* The map has changed: addresses may have. */
void shard_peers_map_changed(struct osd_shard *shard);
void shard_peers_free(struct osd_shard *shard);
/* May the shard be who it says it is, after all that we know? ERR_IDENTITY: another device than the map's;
 * ERR_ROLLED_BACK: an older process than the map or a handshake has shown, or another that counts as many
 * starts; ERR_RETRY: the map does not know
 * it, yet. */
MUST_CHECK int shard_peer_check(struct osd_shard *shard, const struct rpc_identity *who);
/* A handshake showed who is there. */
void shard_peer_seen(struct peer *peer, const struct rpc_identity *who);

/* ---- which of the two sessions carries one-way frames (shard_carrier.c) ---- */

/* Is there a session to send by? */
bool shard_peer_reachable(const struct peer *peer);
/* A one-way frame came by our session, or by theirs. */
void shard_peer_heard(struct peer *peer, bool ours);
/* Looks whether the carrier is silent; to be called at shard_carrier_due_ns() (UINT64_MAX: no need) or later.
 */
void shard_carrier_watch(struct peer *peer, uint64_t now_ns);
uint64_t shard_carrier_due_ns(const struct peer *peer);
/* One-way frame to the peer. As rpc_peer_send(). */
MUST_CHECK int shard_peer_send(struct peer *peer, enum method method, bool patient, const uint8_t *body,
                               uint32_t body_len, const struct slice *pieces, uint32_t piece_count);

/* ---- the map (shard_map.c) ---- */

struct map_item {
    struct map_node node; /* by id */
    union {
        ProtobufCMessage *message; /* heap */
        Fb__Osd *osd;
        Fb__Pool *pool;
        Fb__Pg *pg;
        Fb__ImageOrder *order;
    };
    struct list arrival; /* of an order: in map->arrivals */
    uint64_t arrived;    /* its number there */
};

struct shard_map {
    uint64_t epoch, image_id_max;
    bool paused; /* no read or write of a client begins */
    struct map osds, pools, pgs, orders;
    uint64_t saved_epoch;  /* of the map that the store has durably */
    uint64_t loaded_epoch; /* of the map that the store had at the start */
    uint64_t newest_epoch; /* of which we know that there is more: a large map comes in parts, or one was not
                              taken whole */
    bool changed;          /* items have, since then: not only the epoch */
    struct list arrivals;  /* orders as they came, the last one behind all others */
    uint64_t arrived;      /* how many have */
};

void shard_map_init(struct shard_map *map);
void shard_map_fini(struct shard_map *map);
/* Takes a whole map or a delta over. ERR_CLUSTER; ERR_CONFLICT: a delta on another epoch than ours, ask for a
 * whole one; ERR_BEHIND: older than ours; ERR_PROTOCOL, ERR_NO_MEMORY. */
MUST_CHECK int shard_map_take(struct osd_shard *shard, const Fb__ClusterMap *message);
/* Is more of it on its way? What it lacks may be in that. Such a map is not saved. */
bool shard_map_is_part(const struct osd_shard *shard);
/* Takes over what the store has, at start, but for births that are due: the monitor is asked for these again,
 * from the epoch before them on. */
MUST_CHECK int shard_map_load(struct osd_shard *shard);
/* The whole map, packed, on the heap. */
MUST_CHECK int shard_map_pack(struct osd_shard *shard, uint8_t **ret_data, uint32_t *ret_len);
const Fb__Osd *shard_map_osd(const struct osd_shard *shard, uint32_t id); /* NULL: unknown */
const Fb__Pool *shard_map_pool(const struct osd_shard *shard, uint32_t id);
Fb__Pg *shard_map_pg(const struct osd_shard *shard, uint64_t id);
/* Our place among the members, those that are wanted, those that have left, or NULL. */
const Fb__PgMember *shard_map_member(const struct osd_shard *shard, const Fb__Pg *pg);
const Fb__PgMember *shard_map_wanted(const struct osd_shard *shard, const Fb__Pg *pg);
const Fb__PgMember *shard_map_leaving(const struct osd_shard *shard, const Fb__Pg *pg);
const Fb__PgMember *shard_map_dropped(const struct osd_shard *shard, const Fb__Pg *pg);
/* Is this replica, on this shard, ordered to go: it has left the group, or the PG is removed. */
bool shard_map_replica_dropped(const struct osd_shard *shard, const Fb__Pg *pg, uint32_t replica);
/* The PG, or its pool, is ordered to go. */
bool shard_map_pg_removed(const struct osd_shard *shard, const Fb__Pg *pg);

/* ---- carrying out what the map orders: save it, births, survivors, removals (shard_orders.c) ---- */

#define ORDERS_BIRTHS_MAX 32

struct shard_orders {
    struct op op;
    struct osd_shard *shard;
    struct store_blob_write blob;
    uint8_t *blob_data;
    uint64_t blob_epoch;
    struct store_pg_write births[ORDERS_BIRTHS_MAX];
    uint32_t birth_count;
    struct store_pg_remove removal;
    uint64_t removal_pg;
    struct store_pg_write force;
    uint64_t force_pg;
    struct timer retry;
    struct timer lazy; /* when the map is saved next, if not at once */
    uint64_t saved_ns, saved_bytes;
};
void shard_orders_start(struct osd_shard *shard);
/* The replica that is to be created here, now: of a PG that is to be born, or to join one. NULL: none.
 * `ret_birth`: the epoch of that order. */
const Fb__PgMember *shard_birth_due(const struct osd_shard *shard, const Fb__Pg *item, uint64_t *ret_birth);

/* ---- the monitor (shard_mon.c) ---- */

struct shard_mon {
    struct op op;
    struct osd_shard *shard;
    struct rpc_peer *rpc;
    struct rpc_call call;
    uint8_t *reply;   /* FRAME_BODY_MAX */
    uint8_t *scratch; /* FRAME_HEADER_SIZE + FRAME_BODY_MAX, to encode into */
    struct timer timer;
    uint64_t report_ns; /* when the next one is due at the latest */
    uint64_t tried_ns;
    uint64_t foreign_logged_ns; /* 0: never */
    uint32_t confirms_max;      /* in one report */
    uint32_t report_max;        /* bytes */
    /* Where the next report begins, counted from the first that there is to say of each. */
    uint64_t replicas_next, orders_next, standings_next;
    bool report_due; /* at once, but not before: */
    uint64_t report_early_ns;
    bool stirred; /* since the last whole report was made: a group was awake, the map changed or was saved */
    bool told;    /* all of that one is known to the monitor, in this session */
    bool report_unchanged; /* the one under way says that it is as that one; */
    bool report_partial;   /* or has what is to be said again */
    bool resubscribe;      /* a delta did not fit */
    bool paused;           /* after a failure: not even an open session is used before the timer fires */
    uint32_t failures;     /* attempts in a row */
    bool elsewhere;        /* another monitor is the current one now */
    int refused;           /* why a monitor last did not take us; 0: not since one did */
    bool booted;           /* the monitor knows us, in this session */
    bool answered;         /* it did, once */
    int verdict;           /* what it said to OsdBoot; 0 if it was content, or has not answered yet */
    char verdict_text[256];
};
int shard_mon_start(struct osd_shard *shard);
/* Calls the monitor; its op is woken with the answer. False: it cannot be sent now. */
bool shard_mon_call(struct shard_mon *mon, const Fb__MonRequest *request);
/* shard_report.c: makes a report and sends it. As shard_mon_call(). */
bool shard_report_send(struct shard_mon *mon);
/* A monitor that leads hears us, by the last that is known; or there are none to hear anything. */
bool shard_mon_hears(const struct osd_shard *shard);
void shard_mon_report(
    struct osd_shard *shard); /* something changed that the monitor should hear of at once */

/* ---- the merged heartbeats (shard_heartbeat.c) ---- */

struct shard_heartbeat {
    struct op op;
    struct osd_shard *shard;
    struct timer timer;
    uint64_t next_ns; /* when the next of ours are due; the timer may be earlier, for the silence of others */
    uint64_t soon_ns; /* by then: a group that we lead has traffic, and is perhaps in no set yet */
    struct wire_heartbeat_group groups[WIRE_GROUPS_MAX];
    uint64_t refused[WIRE_REFUSED_MAX];
    uint64_t reply_refused[WIRE_REFUSED_MAX];
    uint8_t frame[FRAME_HEADER_SIZE + 128 + MAX(WIRE_GROUPS_MAX * 64, WIRE_REFUSED_MAX * 8)];
};
void shard_heartbeat_start(struct osd_shard *shard);
/* A group has traffic: its heartbeats come at the usual pace, from now on and for a while. */
void shard_heartbeat_traffic(struct pg *pg);
/* A peer has come back: it is not to wait for its heartbeat. */
void shard_heartbeat_soon(struct osd_shard *shard);
/* The sessions are to be looked at by then. */
void shard_heartbeat_by(struct osd_shard *shard, uint64_t at_ns);
void shard_heartbeat_receive(struct peer *peer, const struct rpc_message *message);
void shard_heartbeat_reply_receive(struct peer *peer, const struct rpc_message *message);

/* ---- recoveries of others take turns (recover_serve.c) ---- */

struct recover_turns {
    struct list waiting; /* first come, first served */
    uint32_t waiting_count, active;
    uint64_t next_ns; /* while there are clients, none begins before */
};

/* ---- elections take turns (pg_election.c) ---- */

#define ELECTIONS_MIN      PLANT_LIMIT(4, 1) /* campaigns under way */
#define ELECTIONS_MAX      PLANT_LIMIT(128, 2)
#define ELECTIONS_LATE_NS  (2 * SHARD_HEARTBEAT_NS)
#define ELECTIONS_ASKED_NS (2 * NS_PER_S) /* a client that was sent away comes again sooner than that */
#define ELECTIONS_NEXT_NS                                                                                    \
    (500 * NS_PER_MS) /* from one member that brings a wanted group forward to the next */

/* struct pg: first come, first served; those that have had a turn since they lost their leader come behind.
 */
struct election_queue {
    struct list fresh, failed;
};
struct shard_elections {
    struct election_queue wanted, waiting; /* by clients; the others */
    uint32_t taken, max;
    uint32_t called;   /* turns that were given to one that waited */
    uint64_t fewer_ns; /* when `max` was last made smaller */
};
/* A peer has answered the heartbeat sent at `sent_ns`: as long as they come round in time there may be more
 * campaigns. */
void shard_elections_pace(struct osd_shard *shard, uint64_t sent_ns, uint64_t now_ns);

/* ---- the shard (shard.c) ---- */

struct osd_shard {
    struct core *core;
    struct net *net;
    struct blk *blk;
    struct device_label label;
    uint32_t number;
    uint64_t cache_bytes;
    uint32_t pages_max;
    char host[64], rack[64], zone[64], listen[64];
    struct rpc_monitors monitors;

    struct store *store;
    struct rpc_identity self;
    struct rpc_server *server;
    uint32_t client_count; /* of its sessions */
    bool serving;          /* PGs run, requests are taken */
    bool leaving;          /* leaders are moving away */
    bool stopping;
    uint32_t side_ops; /* of peers' recoveries, answered here */
    int failed;        /* why the shard took itself out of service */
    uint64_t failed_ns;
    char failed_text[256];
    struct op *waiter; /* of start or stop: woken when something ended */

    struct map peers;     /* struct peer */
    struct map pgs;       /* struct pg */
    uint32_t awake_count; /* of these, those that are not parked, */
    struct list led;      /* and of those, the ones that we lead */
    struct shard_map map;
    struct shard_orders orders;
    struct shard_mon mon;
    struct shard_heartbeat heartbeat;
    struct pool requests;
    uint64_t request_bytes; /* of all PGs */
    struct perf perf;
    struct image_perf image_perf;
    uint32_t recoveries; /* under way */
    struct recover_turns turns;
    struct shard_elections elections;
    struct pace pace;    /* entries appended until they are durable here */
    uint64_t client_ns;  /* when it had work for clients, last */
    struct scrub *scrub; /* of the PGs that are led here */
    struct scrub_serve *scrub_serve;
    uint64_t scrub_next_ns; /* the medium may be read for scrubs again; all looks together */
    uint64_t scrub_traffic; /* requests counted when that was last set */

    /* Scratch of the one message that is being handled or made. */
    struct entry entries[WIRE_ENTRIES_MAX];
    uint32_t crcs[WIRE_APPEND_CRC_MAX];
    struct slice pieces[FRAME_PIECES_MAX];
    uint8_t frame[FRAME_HEADER_SIZE + SHARD_BODY_MAX];
};

/* A PG in text for people, as the command line writes it: pool in decimal, number in hexadecimal. */
#define PG_FMT      "pg %u.%x"
#define PG_ARGS(id) (uint32_t)((id) >> 32), (uint32_t)(id)

/* The device failed or the monitor refused us: no service any more. `text` is for people. */
void shard_fail(struct osd_shard *shard, int error, const char *text);
/* Has the shard stopped speaking for its PGs? For a moment after a failure it still hands leaderships over.
 */
bool shard_mute(struct osd_shard *shard);
/* One of the shard's ops has ended. */
void shard_op_ended(struct osd_shard *shard);

/* Starts the replicas that the store has and the map knows, but for those that are ordered to go. */
void shard_pgs_open(struct osd_shard *shard);

/* Takes a map over as if the monitor had sent it: for tests that run without one. */
MUST_CHECK int shard_feed_map(struct osd_shard *shard, const Fb__ClusterMap *map);

/* ---- dispatch (shard_server.c) ---- */

int shard_server_start(struct osd_shard *shard);
/* A one-way frame of a peer, whichever session it came by. */
void shard_oneway(struct peer *peer, const struct rpc_message *message);
/* perf.c */
void shard_perf_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                        const struct rpc_message *message);
/* Encodes a message of proto/cold.proto as the body of a reply and sends it; too large: ERR_TOO_LARGE is
 * sent. */
void shard_reply_cold(struct osd_shard *shard, const struct rpc_ticket *ticket, int result,
                      const ProtobufCMessage *message);

#endif
