/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of the monitor: what its files share.
 *
 * Three kinds of state. ITEMS (OSDs, pools, PGs, images, image orders) are protobuf messages that live in the
 * metadata store under a key each and in memory as the same message, decoded; the message "cluster" beside
 * them holds epoch and counters. SOFT STATE (reports, who is connected) stands beside an item in its node, is
 * never stored, and comes back by itself after a restart. SESSIONS are the connected clients and shards.
 *
 * The way of a change: an op takes the TURN (one change at a time, FIFO), looks at the items, puts new
 * versions of some into a `mon_change`, commits it (one transaction, or several of which only the last makes
 * anything visible), and gives the turn back. After the commit, memory is brought up to date and subscribers
 * get the delta. Every change raises the epoch by one at least, also one that no map item is part of: an OSD
 * that knows the epoch so knows everything that this monitor must not have forgotten. (Scrubs alone do not:
 * they may be forgotten.)
 *
 * What follows from reports (up and down, PGs born or removed, orders done) is found by mon_settle(): it
 * compares items with soft state and puts what should change; it runs on every tick and after every report
 * that matters.
 *
 * One leads, the others follow (mon_lead.c): they hold the same items, from the store, and no soft state. Who
 * begins to lead loads everything anew, forgets soft state and starts its clock: it judges nobody by what
 * others heard.
 *
 * Time: `alive_ns` counts only time in which the monitor itself ran (a gap between two ticks counts as two
 * ticks at most), so that a monitor that was stopped or starved does not take its own silence for that of the
 * others.
 */
#ifndef MON_IMPL_H
#define MON_IMPL_H

#include "base/error.h"
#include "mon/change.h"
#include "mon/items.h"
#include "mon/mon.h"
#include "mon/request.h"

/* ---- items in memory (mon_state.c) ---- */

void mon_key(enum mon_kind kind, uint64_t id, char ret_key[40]);
const ProtobufCMessageDescriptor *mon_kind_type(enum mon_kind kind);
const char *mon_kind_prefix(enum mon_kind kind); /* of its keys; ends with a slash */
/* Where items live: malloc and free as this room is linked with them, so that in the simulator a crash frees
 * them. */
extern ProtobufCAllocator mon_allocator;
struct mon_item *mon_item_new(enum mon_kind kind);
void mon_item_free(enum mon_kind kind, struct mon_item *item);
void mon_item_forget(struct mon *mon, enum mon_kind kind, uint64_t id);
/* 0 or ERR_FORMAT: limits of arrays, ids that do not fit the key. */
MUST_CHECK int mon_item_validate(enum mon_kind kind, const ProtobufCMessage *message, uint64_t *ret_id);
uint64_t mon_item_epoch(enum mon_kind kind, const ProtobufCMessage *message);
/* Reads all of them (mon_load.c). */
void mon_load_start(struct mon *mon, bool create, struct op *parent);
/* A value of the store becomes an item in memory. ERR_FORMAT: damaged, or not the key of an item;
 * ERR_NOT_FOUND: a PG without a pool, which is no item yet. A PG that the pool does not count is none. */
MUST_CHECK int mon_item_load(struct mon *mon, const struct meta_kv *kv);
/* Is it an item's? Others are not ours to judge, in a load either. */
bool mon_key_known(const char *key);
/* The same of a key that is gone. */
void mon_item_unload(struct mon *mon, const char *key);
/* NULL: `ret_error` is ERR_FORMAT (not this program's, or damaged) or ERR_VERSION. The caller frees it. */
Fb__MonState *mon_state_decode(const void *value, uint32_t len, int *ret_error);
void mon_state_install(struct mon *mon, const Fb__MonState *state, uint64_t revision);
/* Forgets what reports and sessions said. */
void mon_soft_reset(struct mon *mon);

/* ---- who leads (mon_lead.c), and what the others see of it (mon_follow.c) ---- */

struct mon_lead {
    struct op op;
    struct timer timer;
    struct meta_lease lease;
    struct meta_txn txn;
    struct meta_condition condition;
    struct meta_change change;
    uint8_t value[512];
    char key[MON_TEXT_MAX + 16];
    uint64_t id;       /* of the lease that is held; 0: none */
    bool spent;        /* it led and does not any more: the lease is to be given back, and with it the key */
    uint64_t sent_ns;  /* when the request under way was */
    uint64_t until_ns; /* the lease is held until then at least */
    uint64_t renew_ns, take_ns;
    uint64_t revision; /* of the key that says that we lead; 0: we do not */
};

struct mon_presence {
    char address[MON_TEXT_MAX];
    char version[MON_NAME_MAX];
    uint64_t lease, since_us;
};

struct mon_follow {
    struct meta_watch watch;
    bool watching; /* false, on a store with leases: the next tick loads everything and watches from there */
    struct meta_kv *kvs; /* what was written and does not count yet */
    uint32_t count, cap;
    size_t bytes;
    /* As of the load, and of what the watch told since. */
    uint64_t seen_revision;    /* what was written before, the load has shown */
    uint64_t whole_revision;   /* of the state that is in accord with all that the load has shown */
    char leader[MON_TEXT_MAX]; /* empty: nobody leads */
    uint64_t leader_revision;
    struct mon_presence present[MON_MONITORS_MAX];
    uint32_t present_count;
};

/* The conditions of a transaction that is to count only while the state is what we know, and we lead. Their
 * number. */
uint32_t mon_fence(const struct mon *mon, uint64_t state_revision, struct meta_condition ret[2]);
/* After the first load. */
void mon_lead_start(struct mon *mon);
/* The store, or the load, shows who leads now. */
void mon_lead_look(struct mon *mon);
/* If it leads: it follows from now on, and gives its lease back. */
void mon_lead_end(struct mon *mon, const char *why);
/* Memory has just been loaded: whoever holds the lease and the key begins to lead. */
void mon_lead_loaded(struct mon *mon);

/* The keys "cluster/..." of the load's first range, which shows the store at this revision: one by one after
 * mon_follow_forget(). */
void mon_follow_forget(struct mon *mon, uint64_t seen_revision);
void mon_follow_note(struct mon *mon, const struct meta_kv *kv);
/* Before a load; and what it finds that does not count yet. */
void mon_follow_drop(struct mon *mon);
void mon_follow_keep(struct mon *mon, const struct meta_kv *kv);
/* After a load: watches what is written from its beginning on. */
void mon_follow_start(struct mon *mon);
/* What is written from now on is not seen: the next tick loads and begins to watch anew, in the role that the
 * monitor has by then. A load that a call begins in between, for itself, changes nothing in that. */
void mon_follow_stop(struct mon *mon);

/* ---- the list of monitors (mon_monitors.c) ---- */

void mon_monitors_settle(struct mon *mon, struct mon_change *c);
void mon_list(struct mon_request *r);
/* How many monitors of the list are not there; their addresses, as far as there is room. */
uint32_t mon_monitors_down(const struct mon *mon, char *ret_names, size_t size);
extern const struct mon_method mon_remove;
void mon_dump(struct mon_request *r); /* mon_dump.c */

/* ---- the monitor ---- */

struct mon_note {
    uint64_t number, time_us;
    enum log_level level;
    char text[240];
};

/* Of the last look at which PGs should have other members. */
struct mon_moves {
    uint32_t under_way; /* PGs */
    uint32_t urgent;    /* PGs that lack replicas and are to get them, and are not under way yet */
    uint32_t misplaced; /* PGs that are to have other members for another reason, and are not under way */
    uint32_t stuck;     /* PGs that cannot be as they should: too few OSDs */
    uint32_t kept;      /* PGs that are not moved for what is left of another one: */
    uint64_t kept_pg, kept_for; /* one of them, and that other one */
    uint64_t replicas;          /* that are to be copied for all of these */
    uint64_t objects;           /* in them, so far as known */
    uint64_t begun_us;     /* wall clock, when there was first something to do; 0: nothing is to be done */
    uint64_t begun_ns;     /* alive time of that */
    uint64_t objects_done; /* since then */
};

/* Since when there is a problem. */
#define MON_SINCE_MAX 128
struct mon_since {
    uint32_t code, subject; /* of health.h, and an OSD or a pool, or none */
    uint64_t since_us;      /* wall clock; 0: the row is free */
    bool seen;
};

struct mon_session {
    struct list link;
    struct rpc_session *rpc;
    uint64_t serial;
    bool subscribed;
    uint64_t sent_epoch;
    bool has_shard; /* it serves for this shard */
    uint32_t osd, shard;
    uint64_t opens[MON_SESSION_OPENS_MAX]; /* images it asked for; the oldest is forgotten first */
    uint32_t open_count;
};

struct mon {
    struct mon_config config;
    struct core *core;
    struct rpc_server *server;
    struct rpc_identity self;
    Fb__MonState state;
    uint8_t cluster[16];
    uint64_t state_revision; /* mod_revision of "cluster" */
    bool stale;              /* the outcome of a change of our own is not known: load before the next one */
    bool doubtful;           /* and since then nothing was written, so the store may yet carry it out:
                                mon_commit_start() */
    struct map items[MON_KINDS];
    struct list sessions;
    uint32_t client_count; /* of them those that are no OSDs' */
    uint64_t session_serial;
    struct list turns;              /* the first has the turn */
    uint64_t start_epoch;           /* of the data as this monitor found it */
    bool proven;                    /* that is the newest, by all that can be known (mon_osd_proven()) */
    uint64_t witness_ns;            /* alive time at which the first witness came; 0: none yet */
    struct list waiting;            /* requests that need the proof, or that someone leaves */
    char own_address[MON_TEXT_MAX]; /* where others find it */
    bool leads;                     /* and has loaded everything since; asked by mon_leads() */
    struct mon_lead lead;
    struct mon_follow follow;
    struct mon_load load;
    bool load_failed;  /* the last one */
    int commit_failed; /* why the last one did; 0: it did not */
    bool outdated;     /* the metadata is a newer version's: nobody is served */
    struct mon_commit commit;
    struct op tick;
    struct timer tick_timer;
    struct mon_turn tick_turn;
    struct mon_change tick_change;
    bool reloaded;                    /* the tick's load was one */
    bool settle_soon;                 /* do not wait for the next tick */
    bool publish_due;                 /* a subscriber is to get more of the map when it has taken what it has */
    bool settle_due;                  /* something was reported since all was found settled */
    bool balanced;                    /* it found all where they belong */
    uint64_t balanced_ns;             /* alive time of the last look at who leads */
    uint64_t scrub_looked_ns;         /* and at which scrubs are due */
    uint64_t out_looked_ns;           /* and at who should be out */
    uint64_t move_looked_ns;          /* and at which PGs should have other members */
    struct mon_plan *plan, *planning; /* of mon_move.c: the last one, and one that is being made; or NULL */
    struct mon_moves moves;
    uint64_t alive_ns;     /* starts at one tick */
    uint64_t tick_last_ns; /* by the core's clock */
    uint32_t request_count;
    bool closing;
    struct mon_note notes[MON_EVENTS_MAX]; /* a ring */
    uint32_t note_count;                   /* ever made */
    struct mon_since since[MON_SINCE_MAX];
    uint64_t health_looked_ns;
    char health[8];   /* at the last look */
    char behind[256]; /* not empty: someone knows a newer map than this one; who, and what */
};

static inline struct mon_item *mon_find(const struct mon *mon, enum mon_kind kind, uint64_t id)
{
    struct map_node *node = map_get(&mon->items[kind], id);
    return node ? map_entry(node, struct mon_item, by_id) : NULL;
}

#define mon_for_each(mon, kind, node) map_for_each (&(mon)->items[kind], node)
#define mon_node_item(node)           map_entry(node, struct mon_item, by_id)

#define MON_ITEM_ACCESS(name, kind, type)                                                                    \
    static inline type *mon_##name##_item(const struct mon_##name *node)                                     \
    {                                                                                                        \
        return (type *)node->item.message;                                                                   \
    }                                                                                                        \
    static inline struct mon_##name *mon_##name##_of(struct map_node *node)                                  \
    {                                                                                                        \
        return container_of(mon_node_item(node), struct mon_##name, item);                                   \
    }                                                                                                        \
    static inline struct mon_##name *mon_##name##_find(const struct mon *mon, uint64_t id)                   \
    {                                                                                                        \
        struct mon_item *item = mon_find(mon, kind, id);                                                     \
        return item ? container_of(item, struct mon_##name, item) : NULL;                                    \
    }
MON_ITEM_ACCESS(osd, MON_OSD, Fb__Osd)
MON_ITEM_ACCESS(pool, MON_POOL, Fb__Pool)
MON_ITEM_ACCESS(pg, MON_PG, Fb__Pg)
MON_ITEM_ACCESS(image, MON_IMAGE, Fb__Image)
MON_ITEM_ACCESS(order, MON_ORDER, Fb__ImageOrder)
MON_ITEM_ACCESS(scrub, MON_SCRUB, Fb__PgScrub)
MON_ITEM_ACCESS(monitors, MON_MONITORS, Fb__MonitorList)

static inline uint32_t mon_pg_pool(uint64_t pg)
{
    return (uint32_t)(pg >> 32);
}

static inline uint32_t mon_pg_number(uint64_t pg)
{
    return (uint32_t)pg;
}

/* ---- calls (mon_request.c), the tick (mon_tick.c) ---- */

void mon_on_message(void *owner, struct rpc_session *session, const struct rpc_message *message);
int mon_on_greet(void *owner, const struct rpc_identity *who);
void mon_tick_start(struct mon *mon);

/* ---- OSDs (mon_osd.c), what follows from reports (mon_settle.c) ---- */

extern const struct mon_method mon_osd_new, mon_osd_boot;
/* At the start, after the load: which OSDs are to be heard. */
void mon_osd_witnesses(struct mon *mon);
/* A shard says which epoch it knows, in its handshake or at boot. */
void mon_osd_speaks(struct mon *mon, struct mon_osd *o, uint32_t shard, uint64_t epoch,
                    uint64_t image_id_max);
bool mon_osd_proven(struct mon *mon);
/* Could its word prove it, and has it not come? */
bool mon_osd_awaited(const struct mon_osd *o);
void mon_shard_report(struct mon_request *r);
void mon_osd_session_closed(struct mon *mon, struct mon_session *s);
/* Puts what should change according to soft state, as much as fits in one transaction. */
void mon_settle(struct mon *mon, struct mon_change *c);
/* After the commit: log lines, and soft state that follows. */
void mon_settle_done(struct mon *mon, const struct mon_change *c);
void mon_settle_soon(struct mon *mon);
/* It was up until now. */
void mon_osd_went_down(const struct mon *mon, struct mon_osd *o);
/* Alive time at which the leader last said what it is, or that it still is so. */
uint64_t mon_pg_said_ns(const struct mon *mon, const struct mon_pg *pg);
/* Is what the PG's leader said still good? */
bool mon_pg_reported(const struct mon *mon, const struct mon_pg *pg);

/* ---- members of PGs (mon_member.c) ---- */

/* A PG's item while it is being changed. The rows live here; mon_edit_put() puts what they have become. */
struct mon_edit {
    Fb__Pg pg;
    struct mon_members member, wanted, leaving, dropped;
    Fb__PgForce force; /* pg.force points here, if there is one */
    Fb__PgMember *pointers[4][MON_MEMBERS_MAX];
};
void mon_edit_init(struct mon_edit *e, const Fb__Pg *pg);
void mon_edit_put(struct mon_edit *e, struct mon_change *c);
/* From this epoch on the leader is to bring the group to `wanted`. */
void mon_edit_want(struct mon_edit *e, const struct mon *mon, const struct mon_members *wanted,
                   uint64_t epoch);
/* No leader can make this replica a member any more: it is to be deleted where it is, if it still is
 * anywhere. False: there is no room to say so. */
bool mon_edit_drop(struct mon_edit *e, const struct mon *mon, const Fb__PgMember *m);
/* NULL: it is not in the list. */
const Fb__PgMember *mon_members_find(const struct mon_members *list, uint32_t replica);
/* False: no room. */
bool mon_members_add(struct mon_members *list, const Fb__PgMember *row);
void mon_members_remove(struct mon_members *list, uint32_t replica);

/* Never NULL. */
const struct mon_news *mon_news(const struct mon_pg *pg);
bool mon_confirmed(const struct mon_confirms *confirms, uint32_t replica);
/* Has the PG not been born yet, for want of this member? */
bool mon_birth_awaited(const struct mon *mon, const struct mon_pg *pg, const Fb__PgMember *m);
void mon_member_report(struct mon *mon, struct mon_pg *pg, const Fb__PgReport *report);
void mon_member_confirm(struct mon *mon, struct mon_pg *pg, uint32_t osd, uint32_t shard,
                        const Fb__PgConfirm *confirm);
/* NULL: it can be a group of this PG; else why not. */
const char *mon_group_fault(const struct mon *mon, const Fb__Pg *pg, const Fb__PgReport *report);
void mon_group_take(struct mon_group *group, const Fb__PgReport *report);
/* From here on no number was given out. */
uint32_t mon_replica_next(const Fb__Pg *pg);
/* Is this shard one of those that have, or are to have, a replica of the PG? */
bool mon_member_is(const Fb__Pg *pg, uint32_t osd);
/* As mon_settle(): what leaders and shards reported becomes the item. */
void mon_member_settle(struct mon *mon, struct mon_change *c);
void mon_member_settled(struct mon *mon, struct mon_pg *pg);

/* ---- more PGs (mon_split.c) ---- */

/* Is the pool to have more PGs than it has? */
bool mon_pool_splits(const Fb__Pool *pool);
/* A shard has a replica of a PG that its map does not have. */
void mon_split_report(struct mon *mon, const Fb__PgReport *report);
/* As mon_settle(). */
void mon_split_settle(struct mon *mon, struct mon_change *c);
void mon_split_done(struct mon *mon, uint64_t pool);
/* A pool in which no PG has been split for a while though that is ordered; NULL: there is none. */
const Fb__Pool *mon_split_stuck(struct mon *mon);
/* Of the PG that is to be split next: a member whose shard has no room for the child, as far as the map
 * tells; NULL: all have. */
const Fb__PgMember *mon_split_full(const struct mon *mon, const Fb__Pool *pool);
/* `pool`, a copy of the item that a change will put, is to have so many PGs. */
MUST_CHECK int mon_split_order(struct mon_request *r, Fb__Pool *pool, uint32_t target);
/* The confirmations of an order are those of too few PGs. */
void mon_order_forget(struct mon_order *order);

/* ---- which members PGs should have (mon_move.c) ---- */

#define MON_MOVES_DEFAULT 4
/* Puts wanted members, as many as may move at once. */
void mon_move_settle(struct mon *mon, struct mon_change *c);
/* What it put has been committed. */
void mon_move_done(struct mon *mon);
/* A PG has changed: perhaps others may now. */
void mon_move_soon(struct mon *mon);
void mon_plan_free(struct mon_plan *plan);
/* What it is made of, beside the map, has changed; or an operator has said something else since: no PG moves
 * by a plan that does not know of it. */
void mon_plan_forget(struct mon *mon);
/* Does a wanted member that is not one yet have no prospect of becoming one? */
bool mon_move_failed(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *wanted);
void mon_progress_fill(const struct mon *mon, Fb__MoveProgress *ret);
void mon_rebalance_plan(struct mon_request *r);
extern const struct mon_method mon_moves_limit;

/* ---- going on without a majority (mon_force.c, mon_force_view.c) ---- */

void mon_force_standing(struct mon *mon, const Fb__ShardReport *report, const Fb__PgStanding *row);
/* A leader reports. False: it is one of a former group. */
bool mon_force_report(struct mon *mon, struct mon_pg *p, const Fb__PgReport *report);
/* It was ordered, and the survivor has not said yet that it has done it. */
bool mon_force_waits(const Fb__Pg *pg);
/* What can be done for the PG, and with what is left of it. */
struct mon_force_view {
    Fb__PgForceView view;
    Fb__PgStanding row[MON_GROUP_MAX], *rows[MON_GROUP_MAX];
    uint32_t osds[MON_MEMBERS_MAX], lost_osds[MON_MEMBERS_MAX], failed_osds[MON_MEMBERS_MAX];
};
void mon_force_view(const struct mon *mon, const struct mon_pg *p, struct mon_force_view *ret);
/* The replica of that number, if it is there; or NULL. */
const Fb__PgStanding *mon_force_find(const struct mon_force_view *v, uint32_t replica);
/* Only the newest of those that had a vote, with all that they had, have what was acknowledged; or most. */
bool mon_force_may_survive(const Fb__PgStanding *s);
/* Must this replica of a PG that went on alone stay where it is, and lead it, because something of a PG that
 * was split off it, and has no leader, is perhaps nowhere else? That one's id, or 0. */
uint64_t mon_force_keeps(const struct mon *mon, const struct mon_pg *p, const Fb__PgMember *member);
/* Is it one that orders are given for? */
bool mon_force_concerns(const struct mon *mon, const struct mon_pg *p);
/* Why it is none, as an error. */
int mon_force_none(struct mon_request *r, uint64_t id);
void mon_force_look(struct mon_request *r);
extern const struct mon_method mon_force_order, mon_force_acknowledge;

/* ---- placement over the map (mon_place.c) ---- */

/* The OSDs that are up and in, in order of their ids. Heap; NULL without memory. */
struct placement_osd *mon_place_osds(const struct mon *mon, uint32_t *ret_count);
struct placement_osd *mon_place_find(struct placement_osd *osds, uint32_t count, uint32_t osd);

/* NULL: this monitor has no placement function of that name. */
const struct placement_chooser *mon_chooser_find(const struct mon *mon, const char *name);

/* The whole map as the plan's input; it keeps nothing of the map's. */
struct mon_location {
    char host[MON_TEXT_MAX], rack[MON_TEXT_MAX], zone[MON_TEXT_MAX];
};
struct mon_place {
    struct placement_input input;
    struct placement_osd *osds;
    struct placement_pool *pools;
    struct placement_pg *pgs;
    struct mon_location *locations; /* of the OSDs */
};
MUST_CHECK int mon_place_init(struct mon_place *place, const struct mon *mon);
/* Plans the PGs of a new pool, which need not be in the map; nothing else changes. Input and plan have its
 * PGs at their ends. ERR_NO_MEMORY. */
MUST_CHECK int mon_place_pool(struct mon_place *place, const struct mon *mon, const Fb__Pool *pool,
                              struct placement_plan *ret_plan);
void mon_place_fini(struct mon_place *place);

/* ---- OSDs in and out (mon_out.c) ---- */

enum mon_out { MON_IN, MON_OUT_DOWN, MON_OUT_ORDERED }; /* Osd.out */

/* Why an OSD that is down stays in. */
enum mon_stays {
    MON_STAYS_NOT, /* it is up, out already, or to go out now */
    MON_STAYS_WAITS,
    MON_STAYS_NOOUT,
    MON_STAYS_MAINTENANCE,
    MON_STAYS_NEVER_OUT, /* the monitor was told so at its start */
    MON_STAYS_MANY,      /* too many are down at once */
    MON_STAYS_DOMAINS,   /* without it a pool has too few failure domains: nothing could be moved */
};
enum mon_stays mon_out_stays(const struct mon *mon, const struct mon_osd *o);
/* The same of the replicas on a shard that has failed, of an OSD that is up. */
enum mon_stays mon_shard_stays(const struct mon *mon, const struct mon_osd *o, uint32_t shard);
/* Looks at the OSD's shards: which replicas are to be made anew? */
void mon_out_shards(struct mon *mon, struct mon_osd *o);
/* That it has a shard of this number, whose replicas are. */
bool mon_shard_given_up(const struct mon_osd *o, uint32_t shard);
/* How long it has been down, as far as this monitor can tell. */
uint64_t mon_osd_down_ns(const struct mon *mon, const struct mon_osd *o);
/* Is data to be on it? */
bool mon_osd_in(const Fb__Osd *osd);
/* Its PGs: those that it is a member of, or wanted as one. */
uint32_t mon_osd_replicas(const struct mon *mon, uint32_t osd);
/* Brings `osd`, a copy of o's item that a change may put, in or out. True: it did. */
bool mon_out_settle(const struct mon *mon, const struct mon_osd *o, Fb__Osd *osd);
extern const struct mon_method mon_host_maintenance, mon_cluster_set;
const struct mon_method *mon_osd_change_method(const struct mon *mon, const Fb__OsdChange *call);

/* ---- events (mon_events.c) ---- */

/* A log line that `fastblock events` shows, too. */
void mon_note(struct mon *mon, enum log_level level, const char *format, ...) PRINTF_LIKE(3, 4);
void mon_event_list(struct mon_request *r);

/* ---- leaders (mon_leader.c) ---- */

void mon_osd_demote(struct mon_request *r);
void mon_pg_leader(struct mon_request *r);
/* Hands leaderships back to the first members of PGs, a few at a time. For every tick. */
void mon_leaders_balance(struct mon *mon);

/* ---- pools (mon_pool.c), images (mon_image.c), status (mon_status.c) ---- */

extern const struct mon_method mon_pool_create, mon_pool_remove, mon_pool_set;
struct mon_pool *mon_pool_by_name(const struct mon *mon, const char *name);

extern const struct mon_method mon_image_create, mon_image_open, mon_image_close, mon_image_resize,
    mon_image_remove;
void mon_image_list(struct mon_request *r);
void mon_image_get(struct mon_request *r);
/* Its last session has ended. */
void mon_image_client_gone(struct mon *mon, const uint8_t client[16]);
/* What a client says: of all images these are the ones that it has open for writing. */
void mon_image_client_writes(struct mon *mon, const uint8_t client[16], const uint64_t *images, size_t count);

void mon_status(struct mon_request *r);
/* For every tick: notices problems, so that it is known since when there are which, and says when health
 * changes. */
void mon_health_look(struct mon *mon);
void mon_pg_list(struct mon_request *r);
/* What its leader reported, as far as that is still good. */
void mon_pg_report(const struct mon *mon, const struct mon_pg *pg, Fb__PgReport *ret);

/* ---- scrubs (mon_scrub.c) ---- */

extern const struct mon_method mon_pg_scrub, mon_scrub_pause;
void mon_pg_show(struct mon_request *r);
/* Into the answer to a shard's report: what is to be done with the PGs that it leads. */
void mon_scrub_orders(struct mon_request *r, const Fb__ShardReport *report);
void mon_scrub_report(struct mon *mon, struct mon_pg *pg, const Fb__PgReport *report);
/* The PG's item has changed, or is gone: who leads it is to report, and hears of it in the answer. */
void mon_scrub_changed(struct mon *mon, uint64_t pg);
/* As mon_settle(): results become items, and what is due is ordered. */
void mon_scrub_settle(struct mon *mon, struct mon_change *c);

/* ---- sessions and subscribers (mon_subscribe.c) ---- */

void mon_session_opened(void *owner, struct rpc_session *session);
void mon_session_closed(void *owner, struct rpc_session *session);
void mon_sessions_close(struct mon *mon);
struct mon_session *mon_session_find(const struct mon *mon, uint64_t serial);
bool mon_client_connected(const struct mon *mon, const uint8_t client[16]);
/* Sends every subscriber what it lacks; to whom that is too much at once, a part: `publish_due` says that. */
void mon_publish(struct mon *mon);
/* A session that cannot take it is closed: it comes back and asks for the map. */
void mon_event_send(struct mon *mon, struct mon_session *s, const Fb__MonEvent *event);
/* Tells everyone who has it open, and `client` (16 bytes, may be NULL), about an image. */
void mon_event_image(struct mon *mon, uint64_t image, const uint8_t *client);
void mon_map_get(struct mon_request *r);
void mon_subscribe(struct mon_request *r);

#endif
