/* SPDX-License-Identifier: Apache-2.0
 *
 * sim: the seeded simulator: whole clusters in one thread, in virtual time.
 *
 * A `struct sim` has the seed, the virtual time, a heap of events and a list of nodes. A node is one core
 * (rt/core.h) with its own clock, random source, log, arena and heap; what runs in it is shipped code that
 * reaches the outside through ports only. The ports are sim/sim_blk.h (disks), sim/sim_net.h (network),
 * sim/sim_meta.h (metadata store). Nothing happens but by events and node polls, in an order fixed by the
 * seed: so a seed is a run, and every event, delivery, completion and log line is folded into one 64-bit
 * trace hash that shows it.
 *
 * See sim/README.md for how a scenario or a fault is added. May include all of src. Single-threaded.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "base/base.h"
#include "base/list.h"
#include "rt/buf.h"
#include "rt/core.h"
#include "sim/heap.h"
#include "sim/rng.h"

#define SIM_NODES_MAX 64

/* Classes of faults. A run has some of them on, each with an intensity of 1 .. 100; which, the seed chooses
 * out of those that the scenario can stand. */
#define SIM_FAULT_TABLE(X)                                                                                   \
    X(CRASH, "crash", "processes die and start again")                                                       \
    X(CRASH_LOOP, "crash-loop", "a process dies again and again, soon after its start")                      \
    X(POWER, "power", "machines lose power: unflushed writes are kept, lost or torn")                        \
    X(POWER_ALL, "power-all", "some or all machines lose power at once")                                     \
    X(PAUSE, "pause", "processes hang for a while")                                                          \
    X(CLOCK, "clock", "clocks run at different rates and start anywhere")                                    \
    X(CLOCK_JUMP, "clock-jump", "the wall clock of a machine is set anew")                                   \
    X(DISK_SLOW, "disk-slow", "some requests, and some disks for a while, are very slow")                    \
    X(DISK_STUCK, "disk-stuck", "some requests never complete")                                              \
    X(DISK_ERROR, "disk-error", "writes fail, and may have happened in part")                                \
    X(DISK_FLUSH, "disk-flush", "flushes fail")                                                              \
    X(DISK_READ, "disk-read", "blocks cannot be read")                                                       \
    X(DISK_ROT, "disk-rot", "stored data changes")                                                           \
    X(DISK_LOSE, "disk-lose", "writes that succeeded never happened")                                        \
    X(DISK_MISDIRECT, "disk-misdirect", "writes go elsewhere")                                               \
    X(NET_LOSS, "net-loss", "one-way frames are lost, links go dead")                                        \
    X(NET_DUP, "net-dup", "one-way frames are repeated")                                                     \
    X(NET_REORDER, "net-reorder", "one-way frames overtake")                                                 \
    X(NET_SLOW, "net-slow", "long and uneven delays, of some frames or of links, also one way")              \
    X(NET_BREAK, "net-break", "links break")                                                                 \
    X(NET_PARTITION, "net-partition", "machines cannot reach each other, both ways or one way")              \
    X(NET_CORRUPT, "net-corrupt", "a bit of a frame changes on its way")                                     \
    X(MON_AWAY, "mon-away", "no monitor for seconds")                                                        \
    X(META, "meta", "the metadata store is slow, conflicts, or does not answer")                             \
    X(MEMBER, "member", "leaders are moved, members change")                                                 \
    X(FORCE, "force", "two OSDs are destroyed; PGs whose majority they were go on with the third replica")   \
    X(SPLIT, "split", "PGs are split")                                                                       \
    X(MEMORY, "memory", "no buffers are free for a while, or only single blocks")                            \
    X(SCARCE, "scarce", "shards take few requests and clients at once, and put little into a message")

enum sim_fault {
#define X(name, text, description) SIM_FAULT_##name,
    SIM_FAULT_TABLE(X)
#undef X
        SIM_FAULT_COUNT
};
#define SIM_FAULT_BIT(name) (1u << SIM_FAULT_##name)
#define SIM_FAULTS_ALL      ((1u << SIM_FAULT_COUNT) - 1)

const char *sim_fault_name(enum sim_fault fault);
const char *sim_fault_description(enum sim_fault fault);

struct sim;
struct sim_node;

/* Something that happens at a time. Embedded; zeroed before first use. If `node` is set it happens in the
 * context of that node (its heap is current, it is polled afterwards), and only if the node has not crashed
 * since it was scheduled. */
struct sim_event {
    uint64_t at_ns;
    uint64_t seq;          /* order among events of one time: that of scheduling */
    struct sim_node *node; /* NULL: the simulator's own */
    uint64_t incarnation;
    uint32_t heap_index;  /* position + 1; 0: not scheduled */
    struct list deferred; /* while the node is paused or works */
    void (*fire)(struct sim_event *event);
    void (*drop)(struct sim_event *event); /* instead of fire: node crashed or end of the run; may be NULL */
};

enum sim_crash {
    SIM_CRASH_PROCESS, /* killed: the machine, its clock and the caches of its disks live on */
    SIM_CRASH_POWER,   /* the machine loses power */
};

/* Ports learn of crashes before the node's memory goes. Embedded by the port. */
struct sim_crash_hook {
    struct list link;
    void (*crashed)(struct sim_crash_hook *hook, struct sim_node *node, enum sim_crash kind);
};

struct sim_node_config {
    const char *name;     /* "osd.0": for log lines; copied */
    const char *host;     /* "10.0.0.1": what sim_net partitions by; copied */
    size_t arena_bytes;   /* rounded up to BUF_SIZE_MAX; 0: the node has no arena */
    int32_t drift_ppb;    /* its clock gains this many ns per second */
    uint64_t wake_max_ns; /* a node is polled up to this long after it has something to do; 0: at once */
    /* What each event and each step of an op costs the node's processor: what comes meanwhile waits for its
     * next turn, and is taken in at the beginning of that, before timers, as in a real core. 0: nothing. May
     * be changed at any time. */
    uint64_t work_ns;
    /* Makes the node's objects, in the node's context: all that it allocates belongs to the node. Called by
     * each sim_node_start(). */
    void (*start)(void *owner, struct sim_node *node);
    /* The node has crashed; its objects are gone already: forget the pointers. May be NULL. */
    void (*crashed)(void *owner, struct sim_node *node, enum sim_crash kind);
    void *owner;
};

enum sim_node_state { SIM_NODE_DOWN, SIM_NODE_UP, SIM_NODE_PAUSED };

struct sim_node {
    struct sim *sim;
    uint32_t number;
    char name[32], host[32];
    struct sim_node_config config;
    enum sim_node_state state;
    uint64_t incarnation; /* counts starts */
    struct core core;     /* valid unless down */
    struct sim_heap heap;
    uint8_t *arena_memory;
    struct buf **held; /* buffers that somebody else has, until held_end */
    uint32_t held_count;
    struct sim_event held_end;
    struct sim_rng random; /* what the node itself draws from */
    struct sim_rng sched;
    uint64_t clock_base_ns; /* node clock = base + (sim time - boot) * rate */
    uint64_t boot_ns;
    int64_t wall_offset_us;         /* what its wall clock is wrong by */
    uint64_t wake_ns;               /* when to poll next; UINT64_MAX: not */
    uint64_t busy_ns;               /* not before this: it works */
    uint64_t paused_ns, resumed_ns; /* when that last was; sim time */
    uint64_t stopped_ns;            /* until it was resumed, for so long */
    struct list deferred;           /* events that wait: it is paused, or works */
    struct list crash_hooks;
};

struct sim {
    uint64_t seed;
    uint64_t now_ns;
    uint64_t trace_hash;
    bool verbose;
    bool failed;
    char failure[512]; /* the first one */
    uint32_t faults;   /* mask of the classes that are on */
    uint8_t intensity[SIM_FAULT_COUNT];
    uint64_t injected[SIM_FAULT_COUNT]; /* how often each has struck */
    struct sim_node *nodes[SIM_NODES_MAX];
    uint32_t node_count;
    struct sim_event **events; /* binary min-heap by (time, seq) */
    uint32_t event_count, event_cap;
    uint64_t event_seq;
    uint64_t events_fired, polls, log_lines;
    /* Called after every event and poll: what must hold at any time. May be NULL. */
    void (*after_step)(void *owner, struct sim *sim);
    void *after_step_owner;
};

/* ---- the run
 * -------------------------------------------------------------------------------------------------- */

struct sim *sim_new(uint64_t seed, bool verbose);
/* Crashes what still runs and frees everything. Disks, networks and stores are freed by their owners, before.
 */
void sim_free(struct sim *sim);

/* Classes that are on in every run whose scenario can stand them (`fastblock-sim --with`), and in none
 * (`--without`). */
extern uint32_t sim_faults_always, sim_faults_never;

/* Chooses, out of the classes in `allowed`, those of this run and their intensities. */
void sim_choose_faults(struct sim *sim, uint32_t allowed);
/* 1 .. 100, or 0 when the class is off. */
uint32_t sim_fault_intensity(const struct sim *sim, enum sim_fault fault);

/* One more has struck. */
static inline void sim_injected(struct sim *sim, enum sim_fault fault)
{
    sim->injected[fault]++;
}

/* Runs events and nodes up to and including that time, or until something failed. */
void sim_run_until(struct sim *sim, uint64_t until_ns);
static inline void sim_run_for(struct sim *sim, uint64_t duration_ns)
{
    sim_run_until(sim, sim->now_ns + duration_ns);
}
/* Runs until `done` answers true (asked after every event and poll); false if the time came first, or a
 * failure. */
bool sim_run_while(struct sim *sim, bool (*done)(void *owner), void *owner, uint64_t until_ns);
/* One event or one poll; false when nothing is left that could happen before `until_ns`. */
bool sim_step(struct sim *sim, uint64_t until_ns);

/* A checker saw something that must not be. The run ends; the first failure is kept. */
void sim_fail(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);
/* A line of the simulator itself: into the trace hash, and printed when verbose. */
void sim_log(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);
/* Folds a fact into the trace hash. `what` is a short tag. */
void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b);

/* ---- events
 * ----------------------------------------------------------------------------------------------------- */

/* Schedules `delay_ns` from now. event->fire (and node, drop) are set by the caller. */
void sim_schedule(struct sim *sim, struct sim_event *event, uint64_t delay_ns);
void sim_unschedule(struct sim *sim, struct sim_event *event);
/* Calls fn(owner) outside of any node, once. */
void sim_after(struct sim *sim, uint64_t delay_ns, void (*fn)(void *owner), void *owner);

/* ---- nodes
 * -------------------------------------------------------------------------------------------------------- */

struct sim_node *sim_node_new(struct sim *sim, const struct sim_node_config *config);
/* A node that is down comes up: a new core, an empty arena, then config.start(). */
void sim_node_start(struct sim_node *node);
/* Everything volatile is gone at once, at whatever point it is; must not be called from inside the node. */
void sim_node_crash(struct sim_node *node, enum sim_crash kind);
/* The process hangs: it is not polled and what arrives waits for it. Its clock goes on. */
void sim_node_pause(struct sim_node *node);
void sim_node_resume(struct sim_node *node);
/* An orderly end: asserts that no op is live and every buffer came back, and fails the run if the node's heap
 * is not empty. The node is down afterwards; ports see a process that ended. */
void sim_node_halt(struct sim_node *node);
/* The node's context, for calls into it from outside (an op_start(), a request of a client). Always in pairs.
 */
void sim_node_enter(struct sim_node *node);
void sim_node_leave(struct sim_node *node);
static inline bool sim_node_running(const struct sim_node *node)
{
    return node->state == SIM_NODE_UP;
}
uint64_t sim_node_now_ns(const struct sim_node *node);
void sim_node_wake(struct sim_node *node);
/* Takes buffers of a node that is up, as if others had them, for some time: all but `leave_bytes` of what is
 * free. `scattered`: every other block is left instead, so that there are only single ones. Does nothing
 * where some are held already, or the node has no arena. */
void sim_node_hold_buffers(struct sim_node *node, size_t leave_bytes, bool scattered, uint64_t for_ns);
/* Gives them back before their time. Called in the node's context. */
void sim_node_give_back(struct sim_node *node);

#endif
