/* SPDX-License-Identifier: Apache-2.0
 *
 * What the monitor knows: the items of the map, each with the soft state that stands beside it, and the
 * limits of all that. The comment of impl.h tells which is which.
 */
#ifndef MON_ITEMS_H
#define MON_ITEMS_H

#include "base/list.h"
#include "base/map.h"
#include "base/placement.h"
#include "mon/placement.h"
#include "rpc/rpc.h"
#include "wire/cold.h"

/* A limit that a small cluster would never come to is smaller where whole ones run in the simulator. */
#ifdef FASTBLOCK_PLANT
extern bool mon_small_limits; /* sim/plant.c */
#define MON_LIMIT(product, small) (mon_small_limits ? (small) : (product))
#else
#define MON_LIMIT(product, small) (product)
#endif

#define MON_TICK_NS      (100 * NS_PER_MS)
#define MON_SESSIONS_MAX 4096
#define MON_SESSIONS_OSDS                                                                                    \
    1024 /* of them, or one for each shard, are for OSDs alone, whom no crowd is to keep out, */
#define MON_SESSIONS_COMMANDS 64   /* and so many for these and for commands */
#define MON_REQUESTS_MAX      1024 /* changes waiting, from everyone */
#define MON_SESSION_OPENS_MAX 256  /* images that one session is told about */
#define MON_NAME_MAX          64
#define MON_TEXT_MAX          128 /* addresses, hosts, names of writers */
#define MON_REPLICAS_MAX      7
#define MON_GROUP_MAX         PLACEMENT_GROUP_MAX
#define MON_MEMBERS_MAX       32 /* of each list of a PG's replicas */
#define MON_CONFIRMS_MAX      64
#define MON_PGS_MAX           PLACEMENT_PGS_MAX /* of a pool */
#define MON_OSDS_MAX          4096
#define MON_IMAGE_SIZE_MAX    (8ull << 50)
#define MON_RETURN_NS                                                                                        \
    NS_PER_S /* an OSD whose sessions are gone may come back for so long before it is down */
#define MON_MAP_BYTES                                                                                        \
    MON_LIMIT(256u << 10, 2048u) /* of items in one map message; the rest follows in the next */
#define MON_UNSENT_BYTES                                                                                     \
    MON_LIMIT(8u << 20, 16u << 10) /* a subscriber that has so much to take gets the rest of the map later */
#define MON_MESSAGE_MAX  512
#define MON_PAGE_BYTES   (512u << 10)   /* of items in one page of a list */
#define MON_PROOF_NS     (2 * NS_PER_S) /* a call waits so long for an OSD that knows how new our data is */
#define MON_LEAVE_NS     NS_PER_S /* and so long for the session of a process that was killed just now */
#define MON_WITNESS_NS   (5 * NS_PER_S) /* after the first witness came: who has not come is out of reach */
#define MON_PUTS_PER_TXN MON_LIMIT(META_TXN_OPS_MAX - 1, 5) /* and the state */
#define MON_EVENTS_MAX   512                                /* that are remembered */
#define MON_WEIGHT_MAX   1000
#define MON_MONITORS_MAX 8 /* of one cluster */
#define MON_LEADER_KEY   "cluster/leader"

enum mon_kind { MON_OSD, MON_POOL, MON_PG, MON_IMAGE, MON_ORDER, MON_SCRUB, MON_MONITORS, MON_KINDS };

struct mon_item {
    struct map_node by_id;
    ProtobufCMessage *message; /* heap, by protobuf-c */
    bool seen;                 /* by the load that is under way */
};

struct mon_shard {
    uint64_t session;       /* serial of the session that serves for it; 0: none */
    uint64_t heard_ns;      /* alive time of its last boot or report; 0: not since the start */
    bool spoke;             /* has said since the start which epoch it knows */
    bool reported;          /* since the start */
    uint64_t whole;         /* number of its last report that named its PGs; 0: none since the start, */
    uint64_t whole_session; /* in this session */
    bool scrub_news;        /* since then there is something to tell it about scrubs of PGs that it leads */
    uint64_t unchanged_ns;  /* alive time at which it last said that it still is so */
    uint64_t epoch;         /* of the map that it has saved, by its last report */
    uint64_t free_bytes;
    uint32_t lacks_room;    /* replicas there which are to be copied, and find no room for that; */
    uint64_t lacks_room_pg; /* the PG of one of them */
    uint64_t damaged_logs, damaged_objects, repaired_blocks, unrepaired_reads; /* since its process started */
    char failed[184];   /* why, with the whole of the longest text of an error */
    uint64_t failed_ns; /* alive time at which it first said so */
    bool given_up;      /* that was so long ago that its replicas are made anew (mon_out.c) */
};

struct mon_osd {
    struct mon_item item;
    struct mon_shard shard[PLACEMENT_SHARDS_MAX];
    uint64_t heard_ns; /* the newest of its shards */
    uint64_t gone_ns;  /* alive time at which its last session closed; 0: it has one, or had none */
    bool witness;      /* mon_osd_witnesses() */
    uint64_t up_ns;    /* alive time at which it came up; 0: before the start */
    uint64_t
        demoted_ns; /* alive time at which an operator wanted it to lead nothing; 0: not since it came up */
    uint64_t suspected_ns; /* alive time at which a peer last said that it does not answer */
    uint64_t
        down_ns; /* alive time and wall clock at which it was last seen going down; 0: before the start */
    uint64_t down_since_us;
};

/* Replicas, by number, that have been confirmed to be so. */
struct mon_confirms {
    uint32_t count, replica[MON_CONFIRMS_MAX];
};

/* A list of replicas of a PG, with memory of its own. */
struct mon_members {
    uint32_t count;
    Fb__PgMember row[MON_MEMBERS_MAX];
};

/* What a leader reported of its group. */
struct mon_group {
    uint64_t index, epoch; /* PgReport.group_index, group_epoch; index 0: nothing yet */
    struct mon_members members;
};

struct mon_pool {
    struct mon_item item;
    struct mon_group
        child; /* of the PG that was split off last and is not in the map yet; no members: none */
    uint32_t child_number;
    uint64_t split_ns; /* alive time at which one came last, or there was none to come */
};

/* What reports said of a PG's replicas and is not in its item yet. */
struct mon_news {
    struct mon_confirms born, dropped, gone, lost; /* gone: with its pool */
    struct mon_group group;                        /* the newest */
};

/* What a replica without a leader has, by the last word of its shard. */
struct mon_standing {
    uint32_t osd, shard;
    uint64_t heard_ns;  /* alive time; 0: the row is free */
    uint64_t epoch;     /* of the map that the shard had saved */
    Fb__PgStanding row; /* its arrays are these: */
    uint32_t voters[MON_GROUP_MAX], before[MON_GROUP_MAX];
};

struct mon_pg {
    struct mon_item item;
    struct mon_standing *standings;    /* heap, MON_GROUP_MAX of them; NULL: none was told of */
    uint64_t new_ns;                   /* alive time at which it came into being; 0: before the start */
    uint64_t leader_commit, leader_us; /* by the last report of a leader; 0: there was none */
    uint64_t reported_ns;              /* 0: not since the start */
    uint64_t term;
    uint32_t leader_osd, leader_shard, in_contact, recovering;
    bool damaged; /* a member that recovers does so because its log is damaged: */
    uint32_t damaged_osd;
    uint64_t whole; /* number of that report of the leader's shard */
    uint64_t objects;
    struct mon_news *news; /* heap; NULL: nothing was said of its replicas that is not in the item */
    uint32_t copies;       /* replicas that are being made, by its wanted list */
    bool chosen;           /* an operator said who is to lead: */
    uint32_t chosen_osd;
    uint64_t moved_ns,
        moved_term;     /* alive time at which its leader was last told to hand it back; its term */
    uint8_t moved_vain; /* times that this came to nothing before, in this term */
    uint8_t
        *scrub; /* the leader's last report, packed, if it says something of scrubs or damage; else NULL */
    uint32_t scrub_len;
};

struct mon_scrub {
    struct mon_item item;
};

struct mon_image {
    struct mon_item item;
    bool writer_here;        /* its client has a session, and the image open by its last word */
    uint64_t writer_gone_ns; /* alive time since when not */
};

struct mon_monitors {
    struct mon_item item; /* there is one, with id 1 */
};

struct mon_order {
    struct mon_item item;
    uint64_t generation; /* of the order that `confirmed` is about */
    bool deleted;
    uint32_t pg_count;  /* that the pool had then */
    uint8_t *confirmed; /* a bit for each of these PGs; NULL: none yet */
    uint32_t confirmed_count;
};

#endif
