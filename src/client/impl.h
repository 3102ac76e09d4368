/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this room share; nobody else includes it.
 *
 *   client.c         opening, freeing
 *   client_map.c     the map: whole maps and deltas, PGs and their members
 *   client_mon.c     the session with a monitor, calls to it
 *   client_peer.c    sessions with shards, calls to one of them by number
 *   client_piece.c   one request to one PG: retries, attaching; the rules are explained there
 *   client_leader.c  whom it asks
 *   client_share.c   who gets a piece when there are few
 *   client_wire.c    the messages of a piece, encoded and decoded
 *   client_io.c      requests, cut into pieces
 *   client_status.c  which blocks are written
 *   client_image.c   opening and closing images, what the monitor says about them later
 */
#ifndef CLIENT_IMPL_H
#define CLIENT_IMPL_H

#include "base/error.h"
#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "client/client.h"
#include "rpc/monitors.h"
#include "rpc/rpc.h"
#include "wire/wire.h"

#define CLIENT_TIMEOUT_NS         (60 * NS_PER_S)
#define CLIENT_CONNECT_TIMEOUT_NS (5 * NS_PER_S)
#define CLIENT_MON_TIMEOUT_NS     (10 * NS_PER_S)
#define CLIENT_SHARD_TIMEOUT_NS   (5 * NS_PER_S)
#define CLIENT_INFLIGHT_MAX       256
#define CLIENT_ADDRESS_MAX        128
#define CLIENT_NAME_MAX           256 /* pool, image and writer names, with their NUL */

/* A read's reply has one checksum per block; the least compact valid encoding takes 5 bytes for each. */
#define CLIENT_REPLY_MAX    1536
#define CLIENT_ORDER_CHAINS 256 /* a power of two */
#define CLIENT_SHARES       256 /* a power of two */

/* For protobuf-c: the allocator as this program sees it, so that what is unpacked and what is made here may
 * be freed alike. */
extern const ProtobufCAllocator client_allocator;
#define CLIENT_ALLOCATOR ((ProtobufCAllocator *)&client_allocator)

/* ---- the map ---- */

struct client_pg {
    struct map_node node; /* in client->pgs by id */
    Fb__Pg *pg;           /* of the map */
    /* Learned from replies; hints, nothing more: the shard decides. */
    uint64_t term;   /* 0: not known */
    uint32_t leader; /* replica number, 0: not known */
};

int client_map_init(struct client *client);
void client_map_fini(struct client *client);
/* Takes a whole map or a delta, and with it what it needs of the message's memory (the message stays valid
 * and is freed as usual). ERR_CONFLICT: a delta on top of an epoch that is not ours; ERR_PROTOCOL;
 * ERR_NO_MEMORY; ERR_CLUSTER. */
MUST_CHECK int client_map_apply(struct client *client, Fb__ClusterMap *from);
const Fb__Osd *client_map_osd(const struct client *client, uint32_t osd);
const Fb__Pool *client_map_pool(const struct client *client, uint32_t pool);
struct client_pg *client_map_pg(const struct client *client, uint64_t pg);

/* ---- the monitor ---- */

struct client_mon {
    struct op op;      /* lives as long as the client */
    uint32_t failures; /* in a row */
    struct rpc_peer *peer;
    struct timer timer;
    struct rpc_call call;
    uint8_t *reply;
    bool closed;           /* set by the peer's event, cleared by the op */
    bool ready;            /* subscribed on this session */
    bool resync;           /* a delta is missing */
    bool behind;           /* a shard has a newer map, or the monitor has just begun to lead */
    uint64_t newest_epoch; /* that the monitor had when it was subscribed to: a large map comes in parts */
    uint64_t asked_ns;     /* when Subscribe was last sent */
    uint64_t order_ns;     /* when an order for an image made us ask for all of ours, last; 0: never */
    bool images_due;       /* they are asked for behind the next Subscribe */
    bool moved;     /* another monitor leads, and is the current one now: no more calls on this session */
    uint32_t calls; /* under way */
    int error;      /* why the last attempt failed */
    struct list waiters; /* client_mon_calls that wait for a session */
};

void client_mon_start(struct client *client);
/* A shard that did not serve us has a map of this epoch. If ours is older the monitor is asked now, not more
 * than once in 100 ms: it has told us long ago, as a rule, or does so at this moment. */
void client_mon_ask(struct client *client, uint64_t epoch);
void client_mon_stop(struct client *client);

/* ---- shards ---- */

struct client_peer {
    struct map_node node; /* in client->peers by osd << 32 | shard */
    struct client *client;
    struct rpc_peer *rpc;
    char address[CLIENT_ADDRESS_MAX];
    struct list waiters;  /* taken off and woken when a session opens or fails */
    uint64_t kicked_ns;   /* when it was last told to connect at once */
    uint64_t patience_ns; /* how long an answer may take */
    bool timed_out;       /* it did not come in time, since a session was last opened */
};

/* The session with a shard, made if there is none. NULL: the map does not know it, or no address for it. */
struct client_peer *client_peer_get(struct client *client, uint32_t osd, uint32_t shard);
/* Is an attempt to connect under way, or was one started now? false: it failed a moment ago, try another
 * shard. */
bool client_peer_connect(struct client_peer *peer);
void client_peer_answered(struct client_peer *peer, uint64_t latency_ns);
void client_peer_timed_out(struct client_peer *peer);
/* OSDs that the map does not have any more were removed from the cluster. Should one come back, nobody asks
 * it, whatever PGs still name it, and what it was asked before it does not answer: it may be one of a former
 * majority that knows of nothing since (mon_force.c). */
void client_peers_map_changed(struct client *client);
void client_peers_fini(struct client *client);

/* ---- images ---- */

struct client_image_pg {
    uint64_t attached_generation;  /* the PG knows this writer as of this generation; 0: not yet */
    struct client_piece *attacher; /* the piece that announces it just now */
    struct list waiters;           /* pieces that wait for that one */
};

struct client_image {
    struct client *client;
    struct list link; /* in client->images */
    uint64_t id, key, size_bytes, generation, incarnation;
    uint64_t epoch; /* the newest at which the monitor said that it exists */
    uint32_t pool, pg_count;
    bool writable, shared;
    int failed;
    char writer[CLIENT_NAME_MAX];
    struct client_image_pg *pgs; /* by number */
    uint32_t requests;           /* under way: client_io and client_status */
    struct op *closer;           /* woken when that falls to 0, or the refresh ends */
    /* Asking the monitor what the image is now. */
    struct op refresh_op;
    struct client_mon_call refresh_call;
    Fb__MonRequest refresh_request;
    Fb__ImageGet refresh_get;
    struct list refresh_waiters; /* of pieces */
};

/* What the monitor says about the image now. */
void client_image_update(struct client_image *image, const Fb__Image *from);
void client_image_fail(struct client_image *image, int error);
/* The map may have more PGs of its pool: true, it has. */
bool client_image_grow(struct client_image *image);
/* Asks the monitor, unless it is being asked already. */
void client_image_refresh(struct client_image *image);
void client_image_request_begin(struct client_image *image);
void client_image_request_end(struct client_image *image);

/* ---- pieces ---- */

enum client_piece_type { PIECE_READ, PIECE_WRITE, PIECE_DISCARD, PIECE_ZERO, PIECE_STATUS, PIECE_ATTACH };

struct client_piece {
    struct op op;
    struct client *client;
    struct client_image *image;
    enum client_piece_type type;
    uint64_t object;
    uint32_t offset, len; /* bytes within the object */
    uint32_t pg_number;
    uint8_t *memory;                  /* READ: where to, `len` bytes */
    struct client_status_row *status; /* STATUS: where to */
    struct slice data;                /* WRITE; the request's reference */
    uint64_t asked_ns;                /* when it was wanted: it may have waited for its memory since */
    uint64_t deadline_ns;

    /* The attempt under way. */
    struct rpc_call call;
    struct timer timer;
    struct client_wait peer_wait;
    struct list wait; /* for another piece's attach, or for the image's refresh */
    uint32_t target_osd, target_shard, target_replica;
    uint64_t sent_generation;
    bool attaching; /* it announces the writer first */

    /* How the search for a leader goes. */
    uint32_t cursor; /* members tried by turn */
    uint32_t hops;   /* shards asked since the last pause */
    uint32_t pauses;
    uint32_t checksum_failures;

    struct client_share *share;
    struct list order; /* in the client's chain of its object: writes under way, oldest first */
    uint32_t crc_count;
    uint32_t crc[WIRE_CRC_MAX];
    uint8_t reply[CLIENT_REPLY_MAX];
};

/* What the pieces of one PG (or of a few, whose ids hash alike) may take of the pool: a third of what is
 * left, so alone a quarter of all, and the less the more PGs cannot serve: they do not stop the others. */
struct client_share {
    uint32_t count;
    struct list waiters;
};

/* Starts it as a child of `parent`. The fields that say what to do (image to data) have been set; it gives
 * itself back. */
void client_piece_start(struct client_piece *piece, struct op *parent);

/* client_share.c */
/* A piece for this PG of the image from the pool, or NULL: then the op of `wait` is queued and will be woken.
 * Those who wait get one piece each in turn, so that a request of many pieces does not hold up the others. */
struct client_piece *client_piece_get(struct client_image *image, uint32_t pg_number,
                                      struct client_wait *wait);
/* No piece is wanted any more; harmless if none was. */
void client_piece_wait_end(struct client_wait *wait);
/* It has ended: the next in the queues gets its turn. */
void client_piece_put(struct client_piece *piece);

/* client_wire.c */
MUST_CHECK int client_piece_send(struct client_piece *piece, struct rpc_peer *peer, uint64_t pg,
                                 uint64_t term, uint64_t deadline_ns);
/* What an answer says about the PG; zeros when it does not. */
struct client_answer {
    uint64_t term;
    uint32_t leader;
    uint64_t epoch; /* of an error: of the map there, 0: not known */
};
/* Reads the answer that came and, if it is a success, takes its data. Returns the result of the attempt. */
MUST_CHECK int client_piece_receive(struct client_piece *piece, struct client_answer *ret_answer);

/* client_leader.c */
uint32_t client_image_pg_number(const struct client_image *image, uint64_t object);
uint64_t client_piece_pg(const struct client_piece *piece);
/* Sets the piece's target. False: the map has no such PG, or none of its members. */
bool client_piece_choose(struct client_piece *piece);
/* The term that the target leads in, for all we know; 0: it has to say. */
uint64_t client_piece_term(const struct client_piece *piece);
/* The target is of no use now. Returns true when every member has had its turn: time for a pause. */
bool client_piece_next(struct client_piece *piece);
/* The answer of a shard that does not lead or was addressed with a wrong term. Returns true when it is time
 * for a pause. */
bool client_piece_redirect(struct client_piece *piece, const struct client_answer *answer);
/* The target has served as a leader. */
void client_piece_learn(struct client_piece *piece, const struct client_answer *answer);

/* ---- the client ---- */

struct client {
    struct client_config config;
    struct rpc_monitors monitors;
    struct core *core;
    struct net *net;
    struct rpc_identity self;
    uint64_t held_ns;  /* until when requests were last held: this process was away, or the cluster paused */
    struct op *opener; /* woken when the first map is there or an attempt has failed */

    Fb__ClusterMap *map;
    bool has_map;
    struct map pgs, osds;
    struct list map_waiters; /* taken off and woken when it changes */

    struct client_mon mon;
    struct map peers;
    struct list images;

    struct client_perf perf;
    struct pool pieces;
    struct client_share shares[CLIENT_SHARES];
    struct list piece_waiters; /* for one of any PG */
    struct list order[CLIENT_ORDER_CHAINS];
};

#endif
