/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the cluster scenario: a monitor, three to nine OSDs of one to four shards, clients with
 * overlapping images.
 *
 *   cluster_world.c    processes: what starts them, what a crash takes, how they come back; the shape
 *   cluster_osd.c      OSDs as processes
 *   cluster_admin.c    the operator: registers OSDs, makes pool and images, moves leaders, resizes, removes
 *   cluster_members.c  what it is asked by and by: OSDs out and in, scrubs, pools
 *   cluster_retire.c   an OSD is drained and removed for good
 *   cluster_load.c     clients: who has an image open, takes it over, comes back
 *   cluster_worker.c   their random requests, every read and write recorded
 *   cluster_faults.c   what goes wrong, and when
 *   cluster_plots*.c   what goes wrong together, as only ill luck would have it
 *   cluster_mons.c     monitors die and hang when they are busy
 *   cluster_split.c    PGs are split, and what goes wrong at that moment
 *   cluster_forget.c   images are removed, and a replica misses that they are forgotten
 *   cluster_mark.c     who recovers has a source that has lost something
 *   cluster_full.c     devices become full while somebody is away
 *   cluster_force.c    the majority of some PGs is destroyed for good
 *   cluster_damage.c   damage to what disks hold, and what of it must be survived
 *   cluster_lost.c     blocks that nobody has any more because who had them was away
 *   cluster_orders.c   what shards confirm to the monitor
 *   cluster_scrub.c    what scrubs tell
 *   cluster_check.c    what must hold at any time, and at rest
 *   cluster_replicas.c that all replicas hold the same at rest
 *   cluster_audit.c    what processes keep of themselves, at any time
 *   cluster_shards.c   and of one another
 *   cluster_agree.c    what must be so when all is well
 *   cluster_map.c      what may become of the map
 *   cluster_rest.c     how everything becomes whole again, and ends
 *   scenario_cluster.c the run
 */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "client/client.h"
#include "mon/mon.h"
#include "osd/osd.h"
#include "sim/check_linear.h"
#include "sim/scenarios.h"
#include "sim/sim.h"
#include "sim/sim_blk.h"
#include "sim/sim_meta.h"
#include "sim/sim_net.h"

#define CLUSTER_OSDS_MAX    9
#define CLUSTER_SHARDS_MAX  4
#define CLUSTER_CLIENTS_MAX 6
#define CLUSTER_IMAGES_MAX  3
#define CLUSTER_SPARE       CLUSTER_IMAGES_MAX /* an image that nobody uses */
#define CLUSTER_WORKERS     6
#define CLUSTER_IO_MAX      (700u << 10)

#define CLUSTER_POOL   "pool"
#define CLUSTER_SECTOR 512u /* a register of the checker */
#define CLUSTER_MONS   3    /* at most */
extern const char *const CLUSTER_MONITORS[CLUSTER_MONS];

/* What a run is about: its load, and the plots (cluster_plots.c) that come on top of the classes of faults.
 */
#define CLUSTER_PROFILE_TABLE(X)                                                                             \
    X(ANY, "any")       /* nothing in particular */                                                          \
    X(LATE, "late")     /* frames of sessions that were given up arrive after newer ones */                  \
    X(FENCE, "fence")   /* images are taken over while their writer's frames are held up */                  \
    X(TERM, "term")     /* leaders go and come back while frames for them are held up */                     \
    X(RESIZE, "resize") /* images shrink, grow, go and come while frames for them are held up */             \
    X(LEADER, "leader") /* leaders without followers, but with readers */                                    \
    X(MERGE, "merge")   /* small writes to few blocks, which have to be read slowly first */                 \
    X(LAG, "lag")       /* small log rings, replicas that fall behind */                                     \
    X(FULL, "full")     /* devices too small for what is written */                                          \
    X(REST, "rest")     /* all pause, so that groups are parked; then something happens */

enum cluster_profile {
#define X(name, text) PROFILE_##name,
    CLUSTER_PROFILE_TABLE(X)
#undef X
        PROFILE_COUNT
};

struct cluster;

/* Nodes that live and die together. */
struct process {
    struct cluster *cluster;
    char name[32], host[32];
    struct sim_node *nodes[CLUSTER_SHARDS_MAX];
    uint32_t node_count;
    bool wanted;            /* it is to run: restarted when it dies */
    uint64_t restart_token; /* of the restart that is scheduled; older ones are void */
    uint32_t start_count, crashes;
    void (*dies)(struct process *p);                      /* it is about to; may be NULL */
    void (*died)(struct process *p, enum sim_crash kind); /* forget pointers into it; may be NULL */
    void (*starts)(struct process *p);                    /* it is about to; may be NULL */
};

struct cluster_osd {
    struct process process;
    uint32_t number; /* in the scenario; the id comes from the monitor */
    uint32_t id;
    uint8_t uuid[16], cluster_uuid[16];
    struct sim_disk *disk;
    uint32_t port; /* of its first shard */
    bool formatted;
    uint64_t label_incarnation; /* the label was raised in this incarnation of the first node */
    struct device_label label;
    uint64_t saved_epochs[CLUSTER_SHARDS_MAX];    /* of the map, by the word of each shard of this device */
    struct osd_shard *shards[CLUSTER_SHARDS_MAX]; /* NULL: not serving */
    struct osd_boot *boots[CLUSTER_SHARDS_MAX];   /* in the nodes; NULL: down */
};

struct worker;

struct cluster_client {
    struct process process;
    uint32_t number;
    uint32_t image;    /* which one it uses */
    bool reader;       /* it never writes, and so need not wait for its turn */
    struct load *load; /* in the node; NULL while down */
    struct sim_rng rng;
    uint64_t last_success_ns;
};

struct cluster_image {
    char name[16];
    struct linear_history *history;
    uint32_t life;    /* raised when what is under way says nothing about the history any more */
    uint32_t sectors; /* that the load may use now */
    uint64_t id_seen; /* the highest that a client has opened */
    uint64_t id_min;  /* lower ones are of images of that name that were removed */
    uint64_t id_max;  /* it may be removed just now: higher ones are of its successor; 0: it is not */
    bool evict;       /* its writers are to close it, and to stay away */
};

enum admin_job_kind {
    ADMIN_JOB_DEMOTE,
    ADMIN_JOB_MOVE,
    ADMIN_JOB_RESIZE,
    ADMIN_JOB_REMOVE,
    ADMIN_JOB_CREATE,
    ADMIN_JOB_SCRUB,    /* order it, of all PGs */
    ADMIN_JOB_SCRUBBED, /* wait until that is done */
    ADMIN_JOB_OSD,      /* take it out of the cluster, or in again */
    ADMIN_JOB_LOST,     /* give an OSD up that does not run any more */
    ADMIN_JOB_RETIRE,   /* remove one that has no replicas any more */
    ADMIN_JOB_REPLICAS, /* the pool is to have so many */
    ADMIN_JOB_FORCE,    /* have the PGs of c->force go on with what is left */
    ADMIN_JOB_REPLACE,  /* register the new device of an OSD (its number here) */
    ADMIN_JOB_SPLIT,    /* the pool is to have c->pg_count PGs, or another one twice as many as it has */
    ADMIN_JOB_POOL,     /* make another pool, of that number, */
    ADMIN_JOB_NO_POOL,  /* and remove it */
    ADMIN_JOB_MOVED     /* wait until all PGs have the members that they should have */
};

/* Something that the operator is asked to do. */
struct admin_job {
    enum admin_job_kind kind;
    uint32_t osd; /* DEMOTE, MOVE, OSD, LOST, RETIRE: id */
    uint64_t pg;  /* MOVE: leadership, to that OSD */
    uint32_t image;
    uint64_t size_bytes;
    bool deep;                                                    /* SCRUB */
    bool out;                                                     /* OSD */
    uint32_t replicas;                                            /* REPLICAS */
    uint32_t pool;                                                /* POOL, NO_POOL */
    uint32_t tries;                                               /* at most; 0: until it is done */
    void (*done)(struct cluster *c, const struct admin_job *job); /* outside of any node; may be NULL */
    void *owner;                                                  /* done's */
};

#define CLUSTER_FORCE_PGS_MAX 32
#define CLUSTER_DOOMED_MAX    128

/* A PG whose majority was destroyed. */
struct force_pg {
    uint64_t id;
    uint64_t since[CLUSTER_IMAGES_MAX]; /* the survivor had all that was acknowledged before this stamp */
    uint64_t match;                     /* it has the others' log up to here */
    bool diverged;                      /* and something else behind that */
    uint32_t survivor, survivor_osd;    /* its number in the former group; id */
    bool in_parent;                     /* what the survivor has of it is in the PG that it was split off */
    bool went_on;                       /* alone */
};

/* An object of which the survivor lacks something. */
struct force_doomed {
    uint64_t pg, image, object;
};

struct force {
    struct sim_rng rng;
    uint64_t until_ns;
    bool loses;         /* acknowledged writes */
    bool at_split;      /* when a PG is split */
    uint64_t strike_ns; /* the survivors hear nothing until then; 0: not yet */
    uint32_t lost[2];   /* OSDs */
    bool destroyed;
    struct force_pg pgs[CLUSTER_FORCE_PGS_MAX];
    uint32_t pg_count, on_count;  /* of these, those that have gone on */
    struct cluster_osd ghosts[2]; /* the destroyed OSDs, which were not after all */
    struct force_doomed doomed[CLUSTER_DOOMED_MAX];
    uint32_t doomed_count;
    uint64_t lost_writes; /* acknowledged ones, of sectors, that may be lost */
};

/* PGs that are split. */
struct split {
    struct sim_rng rng;
    uint64_t pool;
    uint32_t made; /* PGs that the pool was made with */
    uint32_t next; /* the PG that is made next, by its number */
    bool harmed;   /* its moment has come */
    uint64_t done, objects, blocks;
};

/* An OSD that is drained, removed, and replaced. */
struct retire {
    struct sim_rng rng;
    uint32_t osd; /* its number */
    bool under_way;
    bool gone;                /* one has been removed, */
    struct cluster_osd ghost; /* and is this */
};

struct cluster {
    struct sim *sim;
    struct sim_net *net;
    struct sim_meta *meta;
    uint64_t map_epoch; /* as the metadata store has it */
    struct sim_rng rng; /* of the scenario's own decisions */
    struct sim_rng scrub_rng, member_rng, group_rng, memory_rng, mons_rng;
    uint64_t group_look_ns; /* until then it is looked for a moment at which a group changes */
    uint32_t replicas; /* of each PG */
    uint32_t osd_count, shard_count, client_count, image_count, pg_count;
    uint32_t writer_count; /* of the clients; the others read */
    uint32_t worker_count; /* of each client */
    struct process mons[CLUSTER_MONS];
    uint32_t mon_count; /* 1: alone on its store, as with SQLite */
    struct process admin;
    struct cluster_osd osds[CLUSTER_OSDS_MAX];
    struct cluster_client clients[CLUSTER_CLIENTS_MAX];
    struct cluster_image images[CLUSTER_IMAGES_MAX + 1];
    struct admin *admin_op;                   /* in the admin's node */
    struct mon_boot *mon_boots[CLUSTER_MONS]; /* in the monitors' nodes; NULL: down */
    struct inspector *inspector;
    uint64_t timeout_ns;   /* of the clients' requests */
    uint32_t inflight_max; /* pieces of each client; 0: as many as they like */
    bool osds_move;        /* who comes back has another address */
    uint64_t out_after_ns; /* OSDs that are down for so long go out; 0: never */
    uint64_t strike_ns;    /* on average something happens that often */
    uint64_t slow_ns;      /* how long slow frames take */
    uint64_t think_ns;     /* of a worker between requests, at most */
    enum cluster_profile profile;
    uint32_t image_sectors;                /* of each image, most of the time */
    uint32_t hot_places;                   /* where requests meet; 0: they go anywhere */
    uint64_t places_ns;                    /* they move on after so long; 0: they stay */
    uint32_t small_percent, large_percent; /* of the requests: parts of blocks; hundreds of KiB */
    uint32_t small_blocks;                 /* in which the small ones begin, at each place */
    uint64_t disk_bytes, ring_bytes, cache_bytes;
    uint32_t pages_max;     /* few, so that what is in memory of pages comes and goes all the time */
    uint64_t read_slow_ns;  /* how long slow reads of the disks take; 0: there are none */
    bool plot;              /* one is under way */
    bool ready;             /* pool and images exist */
    uint32_t clear_percent; /* of the requests: discards, and as many write-zeroes */
    bool quiet;             /* faults are over ... */
    uint64_t quiet_ns;      /* ... since then */
    uint64_t started_ns;    /* when a process was started last */
    uint64_t clean_ns;      /* all was whole again then */
    uint64_t clean_check_ns;
    uint32_t audits; /* of tables */
    char not_clean[128];               /* what rest_clean() saw last */
    bool stopping;                     /* the load ends */
    bool writers_pause, readers_pause; /* none of their workers begins anything */
    uint64_t slowest_ns;               /* that a request took, of those that have ended */
    uint64_t calm_since_ns;            /* all is well; 0: not yet */
    uint64_t calm_slowest_ns;          /* of the requests that began since then */
    uint64_t awaited_ns;               /* a leader waited for blocks last, since then; 0: none did */
    uint32_t spares_gone;              /* images that were made and removed */
    bool pools_come;                   /* other pools are made and removed, in which there is nothing */
    uint32_t pools_made;               /* or asked for; the newest may be there */
    struct sim_rng pool_rng;
    uint64_t next_tag;
    bool reading_all; /* the last pass: one reader per image */
    uint64_t reads, writes, clears, statuses, failures, takeovers, no_space;
    uint64_t resizes, recreations, plots, inspections;
    bool out[CLUSTER_OSDS_MAX]; /* as the operator was last asked */
    bool moved_asked, moved;    /* all PGs have the members that they should have, since faults are over */
    struct leader_table *leaders;
    struct force force;
    struct retire retire;
    bool replicas_vary; /* the pool is to have one more, now and then */
    struct sim_rng replicas_rng;
    struct split split;
    struct damage *damage;   /* NULL: no disk is damaged in this run */
    struct lost *lost;       /* likewise */
    uint64_t lost_blocks;    /* that could not be read in the end, and may be lost */
    uint64_t damaged_blocks; /* found at rest where they may be */
    bool scrubbed;           /* deeply, all of it, at rest */
    uint64_t listed_blocks;  /* of which the monitor said then that no replica has them */
};

/* ---- cluster_world.c ---- */

void cluster_init(struct cluster *c, struct sim *sim, enum cluster_profile profile,
                  const struct sim_args *args);
void cluster_fini(struct cluster *c);
void process_init(struct process *p, struct cluster *c, const char *name, const char *host);
struct sim_node *process_add_node(struct process *p, const char *name, size_t arena_bytes,
                                  void (*start)(void *owner, struct sim_node *node), void *owner);
void process_start(struct process *p);
/* Crashes it; it comes back after `restart_ns` if it is wanted. */
void process_kill(struct process *p, enum sim_crash kind, uint64_t restart_ns);
bool process_running(const struct process *p);
/* The monitor that leads; NULL: none does just now. */
struct mon *mon_leader(const struct cluster *c);
/* One of them; NULL: it does not run. It may be about to begin. */
struct mon *mon_at(const struct cluster *c, uint32_t number);
struct pg;
/* A shard that serves, on the way through all of them. */
struct shard_at {
    uint32_t index;      /* of the one to be looked at next */
    uint32_t osd, shard; /* numbers in the scenario */
    struct sim_node *node;
    struct osd_shard *is;
    const struct list *led; /* the PG that cluster_led_next() gave last */
};
/* The next shard that serves, or the first if `at` is zeroed; false: that was the last one. */
bool cluster_shard_next(const struct cluster *c, struct shard_at *at);
/* The next PG that is led and not parked, and where; NULL: that was the last one. Who leads what must not
 * change in between. */
const struct pg *cluster_led_next(const struct cluster *c, struct shard_at *at);
/* From inside a node of the process: it has failed and ends; a supervisor starts it again. */
void process_exit_later(struct process *p);

/* ---- cluster_admin.c ---- */

void admin_start(void *owner, struct sim_node *node);
/* Asks the operator for something; done after what was asked before. Dropped if that is too much. */
void admin_ask(struct cluster *c, const struct admin_job *job);
/* Two that belong together would not be dropped now. */
bool admin_takes(const struct cluster *c);
/* The newest map that the operator has; NULL: none yet. */
const Fb__ClusterMap *admin_map(const struct cluster *c);
/* Moves leaders away from an OSD. */
void admin_demote(struct cluster *c, uint32_t osd);

/* ---- cluster_members.c ---- */

/* Now and then, while faults are on, scrubs are ordered. */
void admin_scrubs_start(struct cluster *c);
/* OSDs are taken out and in again, now and then, so that the members of PGs change. */
void admin_members_start(struct cluster *c);
/* Pools come and go, now and then. */
void admin_pools_start(struct cluster *c);
/* Faults are over: all are in again, and no PG has members that come or go, by the newest map that the
 * operator has. */
bool admin_members_rest(struct cluster *c);
/* A deep scrub of everything; c->scrubbed when it is done. */
void admin_scrub_all(struct cluster *c);

/* ---- cluster_retire.c ---- */

void retire_start(struct cluster *c);
bool retire_is_under_way(const struct cluster *c, uint32_t osd);
/* It was stopped, and whether it was removed is yet to be told: its number may be that of none. */
bool retire_ends(const struct cluster *c);
/* What was removed stays away. */
void retire_stop(struct cluster *c);
void retire_fini(struct cluster *c);

/* ---- cluster_load.c ---- */

void load_start(void *owner, struct sim_node *node);
void load_died(struct process *p, enum sim_crash kind);
/* No request is under way. */
bool load_idle(const struct cluster *c);
/* Reads every image from end to end, once; `load_idle()` when done. */
void load_read_all(struct cluster *c);
/* The client that has an image open for writing, or NULL. */
struct cluster_client *load_writer(struct cluster *c, uint32_t image);
/* Another client that waits for an image takes it over by force now. False: there is none. */
bool load_take_over(struct cluster *c, uint32_t image);
/* The image is about to change: what is under way is not recorded, and from now on requests stay within
 * `sectors`. */
void load_image_changes(struct cluster *c, uint32_t image, uint32_t sectors);
/* It has changed: from sector `first` on all is zeros, whatever was there. */
void load_image_cleared(struct cluster *c, uint32_t image, uint32_t first);
/* They begin nothing, or do again. */
void load_pause(struct cluster *c, bool writers, bool readers);
/* Fails the run if a request is under way for longer than its timeout. */
void load_check(struct cluster *c);

/* ---- cluster_faults.c ---- */

void faults_start(struct cluster *c);
/* Everything is repaired: paths open, disks healthy, processes up. */
void faults_stop(struct cluster *c);

/* ---- cluster_mons.c ---- */

void mons_start(struct cluster *c);

/* ---- cluster_plots.c ---- */

void plots_start(struct cluster *c);

/* ---- cluster_forget.c ---- */

/* Images go and come, and somebody misses that they are forgotten, in some of the runs. */
void forget_start(struct cluster *c);

/* ---- cluster_mark.c ---- */

/* Who recovers has to do so from a damaged replica, in some of the runs. */
void mark_start(struct cluster *c);

/* ---- cluster_full.c ---- */

/* Somebody is away while the others become full, in some of the runs. */
void full_start(struct cluster *c);

/* ---- cluster_force.c ---- */

void force_start(struct cluster *c);
/* After each step: what survivors that go on now have not is lost from now on. */
void force_watch(struct cluster *c);
/* The ghosts stay away. */
void force_stop(struct cluster *c);
void force_fini(struct cluster *c);
/* PGs are to lose their majority when one of them is split: that is not to be disturbed. */
bool force_waits(const struct cluster *c);
/* It goes on with what is left. */
bool force_goes_on(const struct cluster *c, uint64_t pg);
/* By which name the checks know the PG: another one since its majority was destroyed, for what it knew then
 * may not hold any more. */
uint64_t force_pg_name(const struct cluster *c, uint64_t pg);

/* ---- cluster_split.c ---- */

/* The shape of a run in which PGs are split. */
void split_choose(struct cluster *c);
bool splits_happen(const struct cluster *c); /* are they on in this run */
void splits_start(struct cluster *c);
/* Is a leader about to split a PG of three members? Or, `begun`: is the entry in its log, and not applied?
 * These are on three OSDs, the leader's first. */
bool split_moment(struct cluster *c, bool begun, uint32_t ret_osds[3]);

/* ---- cluster_damage.c ---- */

/* Before the disks are made. */
void damage_init(struct cluster *c);
/* The disks' atlas; its owner is the struct cluster_osd. */
bool damage_may(void *owner, struct sim_disk *disk, enum sim_damage damage, uint64_t offset, uint64_t len);
/* Something is damaged now: SIM_FAULT_DISK_ROT or SIM_FAULT_DISK_LOSE. */
void damage_strike(struct cluster *c, enum sim_fault fault);
/* Some blocks of each object that the victim has of the PG. */
void damage_strike_pg(struct cluster *c, uint64_t pg);
void damage_died(struct cluster_osd *osd);
/* Adds what goes wrong by the way to a disk's faults. */
void damage_lasting(struct cluster *c, const struct cluster_osd *osd, struct sim_disk_faults *faults);
void damage_stop(struct cluster *c);
/* Something may be damaged at this OSD alone ... */
bool damage_is_victim(const struct cluster *c, uint32_t osd);
/* ... or everywhere, so that reads of it fail for ever. */
bool damage_is_uncovered(const struct cluster *c);

/* ---- cluster_lost.c ---- */

/* Behind damage_init(). */
void lost_init(struct cluster *c);
void lost_fini(struct cluster *c);
/* At any time. */
void lost_watch(struct cluster *c);
/* May that block be lost? */
bool lost_may(const struct cluster *c, uint64_t image, uint64_t object, uint32_t block);

/* ---- cluster_orders.c ---- */

/* At any time. */
void orders_audit(struct cluster *c);

/* ---- cluster_scrub.c ---- */

struct osd_shard;
/* At any time. */
void scrub_audit(struct cluster *c, const struct osd_shard *shard, const char *who);
/* A deep scrub of everything is done, at rest. */
void scrub_check_done(struct cluster *c);
/* What it has found is told, object by object, if that takes more than one report. */
void scrub_wait_told(struct cluster *c);
/* All replicas were compared: what is damaged is what the monitor lists. */
void scrub_check_list(struct cluster *c);

/* ---- cluster_check.c ---- */

void check_always(struct cluster *c);
/* What an audit remembers from one time to the next, `value` at first. */
uint64_t *check_note(struct cluster *c, uint64_t key, uint64_t value);
/* The highest index of a PG that a replica was seen to know as committed. */
uint64_t *check_committed(struct cluster *c, uint64_t pg);
/* Of an image, from a sector on: every acknowledged write is there, every read was right. */
void check_history(struct cluster *c, uint32_t image, uint32_t first);
/* The history of these sectors up to now; then they went back to what they were at `since`, or later. Returns
 * how many acknowledged writes may be lost. */
uint32_t check_rollback(struct cluster *c, uint32_t image, uint32_t first, uint32_t count, uint64_t since);
/* Every PG is led, and no replica is being recovered. */
bool check_whole(void *cluster);
void check_fini(struct cluster *c);

/* ---- cluster_replicas.c ---- */

/* All replicas of all PGs hold the same. Waits up to `until_ns`. */
void replicas_check(struct cluster *c, uint64_t until_ns);

/* ---- cluster_audit.c ---- */

/* `tables`: what shards know of sessions that have ended, too. */
void audit_always(struct cluster *c, bool tables);
/* It hangs, or did until a moment ago: its timers are yet to fire. */
bool audit_is_behind(const struct sim_node *node);

/* ---- cluster_shards.c ---- */

/* `pairs`: what pairs of shards know, too. */
void shards_check(struct cluster *c, bool pairs);
/* What may be wrong for a moment only, between two writes to a disk. */
void shards_check_often(struct cluster *c);

/* ---- cluster_agree.c ---- */

/* All is well, and the load goes on for so long: requests are answered, and soon. */
void calm_run(struct cluster *c, uint64_t for_ns);
/* At any time. */
void calm_watch(struct cluster *c);
/* A request that began since then has ended. */
void calm_ended(struct cluster *c, const char *who, uint64_t took_ns, int result);
/* The load has ended: everybody comes to know the same, and nothing happens any more. */
void agree_check(struct cluster *c);

/* ---- cluster_map.c ---- */

/* Before the metadata store carries that out; owner: the cluster. */
void map_written(void *cluster, const struct meta_change *changes, uint32_t count);
/* At any time. */
void map_always(struct cluster *c);
/* Was it down and out when the others of its PG were born? It may never have been there. */
bool map_left_unborn(struct cluster *c, uint64_t pg, uint32_t replica);
/* Does the monitor know what the store has? False: `key` is one of which it does not. */
bool map_is_held(struct cluster *c, const struct mon *mon, char key[META_KEY_MAX + 1]);
/* What has the image's name now, by the metadata store; 0: nothing. */
uint64_t map_image_id(const struct cluster *c, uint32_t image);
/* The operator was just told that this is done. */
void map_shows(struct cluster *c, const struct admin_job *job);

/* ---- cluster_rest.c ---- */

void rest_init(struct cluster *c);
void rest_fini(struct cluster *c);
/* All shards serve, all replicas are whole, each PG has a leader and each image a writer that was served
 * since faults were over. If not, c->not_clean tells why. */
bool rest_clean(struct cluster *c);
/* Its disk may be looked at until it starts. */
void rest_osd_died(struct cluster_osd *osd);
void rest_osd_starts(struct cluster_osd *osd);
/* Everybody is idle: all processes end, one after the other, then the disks are looked at. Fails the run when
 * something is held back. */
void rest_end_all(struct cluster *c);

#endif
