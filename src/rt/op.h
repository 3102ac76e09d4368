/* SPDX-License-Identifier: Apache-2.0
 *
 * The op: the one way in which this code base waits.
 *
 * An operation that must wait (for the disk, the network, a timer, another operation) is a struct that embeds
 * `struct op` and is itself embedded in, or pooled by, whoever starts it. The op has a kind with one step
 * function: a loop over a switch on the op's named state, in which each case calls a straight-line helper and all
 * branching is visible. The rules:
 *
 *  - op_start() returns nothing and runs nothing: the first step comes from the core's run queue, as does every
 *    later one. A step is never called from inside another step or from a completion.
 *  - A completion (of a port request, a timer, a child) stores its result and calls op_wake(); that is all.
 *    A wake-up is a hint: step() looks at what it waits for and may find that nothing has changed.
 *  - The result arrives exactly once: op_done() removes the op from the core, then tells its parent, if there is one:
 *    the parent's count of children falls, the first error among them is kept, and the parent is woken. After
 *    op_done() step() must return at once, because the memory may be gone with the parent's next step; an op without a
 *    parent gives itself back (to its pool) just after op_done().
 *  - op_cancel() only sets a flag and wakes; step() looks at it in one place and still waits for what it started.
 *  - After any wait, whatever was looked up before is stale: keep ids, look up again.
 *
 * Every live op is in its core's list, with kind, state and start time: that list answers "why is it stuck?".
 * Thread rule: an op belongs to one core and is touched by that core's thread only.
 */
#ifndef RT_OP_H
#define RT_OP_H

#include "base/base.h"
#include "base/list.h"

struct core;
struct op;

struct op_kind {
    const char *name;                      /* "osd.write" */
    const char *(*state_name)(int state);  /* may be NULL */
    void (*step)(struct op *op);
};

struct op {
    const struct op_kind *kind;
    struct core *core;
    struct op *parent;     /* NULL: nobody waits */
    struct list run;       /* in one of the core's run queues */
    struct list live;      /* in the core's list of live ops */
    uint64_t started_ns;
    int state;             /* 0 is every kind's first state */
    int result;            /* of this op, once done */
    int child_result;      /* first error among finished children, 0 if none */
    uint32_t children;     /* started and not yet done */
    bool cancelled;
    bool background;       /* nobody waits for its steps: they come when nothing else is to do. Set after op_start() */
};

/* Puts the op on the run queue in state 0. `parent` (may be NULL) counts one child more until op_done(). */
void op_start(struct op *op, struct core *core, const struct op_kind *kind, struct op *parent);

/* Queues the op for a step; harmless if it is queued already. Only for live ops; NULL is ignored. */
void op_wake(struct op *op);

/* Ends the op with `result` (0 or a negative error). The caller must not touch the op afterwards unless it owns the
 * memory itself. No child may be live. */
void op_done(struct op *op, int result);

void op_cancel(struct op *op);

/* True from op_start() to op_done(); the struct must have been zeroed before its first start. */
static inline bool op_live(const struct op *op)
{
    return op->kind != NULL;
}

#endif
