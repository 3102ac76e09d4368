/* SPDX-License-Identifier: Apache-2.0
 *
 * rt: what runs the rooms above: a core (run queue, timers, ports), ops, buffers.
 *
 * A core is single-threaded and has one poll function. In production a thread loops it (src/backend/uring_core.c); the
 * simulator cranks it by hand, in virtual time. Everything that a room needs from outside it reaches through the core:
 * the clock, the random source and the log here; devices, links, byte streams and the metadata store through the
 * port objects of rt/blk.h, rt/net.h, rt/stream.h, rt/meta.h. May include: base.
 */
#ifndef RT_CORE_H
#define RT_CORE_H

#include <stdarg.h>

#include "base/base.h"
#include "base/list.h"
#include "rt/op.h"

/* A fraction of what a request takes; nothing in the background is in a greater hurry. */
#define CORE_BACKGROUND_WAIT_NS (100 * NS_PER_US)

struct arena;

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* The environment port: the clock, randomness and the log of a core. */
struct env_ops {
    /* Nanoseconds on a clock that never goes back and runs on while the machine is suspended (CLOCK_BOOTTIME). */
    uint64_t (*now_ns)(void *self);
    /* What `now_ns` last answered. NULL: read it again (where that costs nothing). */
    uint64_t (*recent_ns)(void *self);
    /* Microseconds since 1970 by the wall clock: for people, and for when the next scrub is due. Nothing that data
     * depends on may be decided by it. */
    uint64_t (*wall_us)(void *self);
    uint64_t (*random_u64)(void *self);
    void (*log)(void *self, enum log_level level, const char *room, const char *line);
    /* For core_memory(); NULL: the allocator's. */
    void *(*memory)(void *self, size_t bytes);
};

/* A timer wakes its op at its deadline. Embedded by value; zeroed before first use. */
struct timer {
    uint64_t deadline_ns;
    struct op *op;
    struct timer *child, *next; /* in the core's heap: a later one below this, a sibling */
    struct timer **link;        /* what points to this one; NULL: not armed */
    bool fired;                 /* set when the deadline passed; cleared by timer_arm() */
};

#define CORE_AWAY_NS (100 * NS_PER_MS)

struct core_counters {
    uint64_t polls;      /* calls of core_poll() */
    uint64_t steps;      /* op steps run */
    uint64_t timers;     /* timers fired */
    /* Filled by the backend. */
    uint64_t syscalls;   /* all system calls made by this core's thread on behalf of the core, but for the next line's */
    uint64_t yields;     /* sched_yield() calls while it spun with nothing to do */
    uint64_t sleeps;     /* times that it blocked with nothing to do: each ends in a wake-up */
    uint64_t net_send_calls, net_recv_calls;
    uint64_t net_bytes_in, net_bytes_out;
    uint64_t blk_writes, blk_reads, blk_flushes; /* requests handed to devices */
    uint64_t blk_bytes_written, blk_bytes_read;
    uint64_t copied_bytes; /* payload bytes copied by the CPU, anywhere on the data path */
    uint64_t allocs;       /* calls of the allocator after start-up on the data path */
};

struct core {
    const struct env_ops *env;
    void *env_self;
    struct list run_queue;
    struct list background;  /* the same for ops that nobody waits for, the first of them ... */
    uint64_t background_ns;  /* ... since then */
    struct list live_ops;
    struct timer *timers; /* the earliest one, root of the heap */
    /* When the core was last back after CORE_AWAY_NS in which it did nothing though a timer was due: it had not got the
     * processor, or a turn took so long. Meanwhile it neither heard nor said anything. */
    uint64_t back_ns;
    uint64_t gone_ns; /* and since when it had been away */
    struct arena *arena; /* the core's buffers; set by whoever made the core, NULL if it has none */
    struct core_counters counters;
};

void core_init(struct core *core, const struct env_ops *env, void *env_self);
void core_fini(struct core *core); /* no op may be live */

/* Reads the clock, fires due timers and steps the ops that were queued when it was called, and those they
 * queue, up to a fixed budget. Returns true if anything is still queued, so that the caller must not sleep. */
bool core_poll(struct core *core);

/* The same, but for the clock and the background: for a loop that reads the one in each turn, does what it
 * has to for others first, and calls core_poll_background() when there is nothing else to do. */
bool core_poll_urgent(struct core *core);
/* Steps what is queued in the background. */
void core_poll_background(struct core *core);
/* It should not have to wait any longer, whatever else there is to do. */
static inline bool core_background_late(const struct core *core, uint64_t now_ns)
{
    return !list_empty(&core->background) && now_ns - core->background_ns >= CORE_BACKGROUND_WAIT_NS;
}

/* When core_poll() must be called next if nothing else happens; UINT64_MAX when no timer is armed. */
uint64_t core_next_deadline_ns(const struct core *core);

static inline uint64_t core_now_ns(struct core *core)
{
    return core->env->now_ns(core->env_self);
}

/* The clock as it was when last read here: when this turn of the loop began, or later. A reading is a good part of what a
 * step costs; this is for timers, ages and statistics, which a turn more or less is nothing to. Never for leases or what
 * is ordered by time. */
static inline uint64_t core_recent_ns(struct core *core)
{
    return core->env->recent_ns ? core->env->recent_ns(core->env_self) : core_now_ns(core);
}

static inline uint64_t core_random_u64(struct core *core)
{
    return core->env->random_u64(core->env_self);
}

#define CORE_MEMORY_ALIGN (2u << 20)
/* Memory for many small structures that are used for long, in large pages where the machine has them. At a multiple of
 * CORE_MEMORY_ALIGN, as `bytes` must be; given back by free(). NULL when out of memory. */
void *core_memory(struct core *core, size_t bytes);

/* One event, one line. `room` names the component ("osd", "store"); the text names the ids that matter. */
void core_log(struct core *core, enum log_level level, const char *room, const char *format, ...) PRINTF_LIKE(4, 5);

/* Arms, or moves, a timer. The op must outlive it or cancel it. A time that has passed is taken for now. */
void timer_arm(struct core *core, struct timer *timer, struct op *op, uint64_t deadline_ns);
void timer_cancel(struct core *core, struct timer *timer);

static inline bool timer_armed(const struct timer *timer)
{
    return timer->link != NULL;
}

#endif
