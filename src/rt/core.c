/* SPDX-License-Identifier: Apache-2.0
 *
 * The core: the run queue, and the timers in a pairing heap, which consists of the timers themselves: arming
 * needs no memory, so it cannot fail. Most timers are cancelled before they are due, and cost a few pointers
 * then.
 */
#include "rt/core.h"

#include <stdio.h>
#include <stdlib.h>

/* One call of core_poll() steps at most so many ops, so that the caller gets round to the kernel. */
#define CORE_STEPS_MAX   1024
#define CORE_LOG_LEN_MAX 1024

void core_init(struct core *core, const struct env_ops *env, void *env_self)
{
    *core = (struct core){.env = env, .env_self = env_self};
    list_init(&core->run_queue);
    list_init(&core->background);
    list_init(&core->live_ops);
}

/* Two heaps become one: the later root the first child of the earlier. Either may be NULL; neither is linked.
 */
static struct timer *heap_meld(struct timer *a, struct timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (b->deadline_ns < a->deadline_ns) {
        struct timer *earlier = b;
        b = a;
        a = earlier;
    }
    b->next = a->child;
    if (b->next)
        b->next->link = &b->next;
    b->link = &a->child;
    a->child = b;
    return a;
}

/* Makes one heap of siblings: by pairs first, then of the pairs. This order bounds what removals cost. */
static struct timer *heap_of_siblings(struct timer *first)
{
    struct timer *pairs = NULL, *heap = NULL;

    while (first) {
        struct timer *a = first, *b = a->next;
        first = b ? b->next : NULL;
        a = heap_meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        heap = heap_meld(heap, pair);
    }
    return heap;
}

static void heap_put(struct core *core, struct timer *heap)
{
    core->timers = heap_meld(core->timers, heap);
    if (core->timers) {
        core->timers->next = NULL;
        core->timers->link = &core->timers;
    }
}

static void heap_remove(struct core *core, struct timer *timer)
{
    struct timer *below = heap_of_siblings(timer->child);

    ASSERT(*timer->link == timer);
    *timer->link = timer->next;
    if (timer->next)
        timer->next->link = timer->link;
    timer->child = timer->next = NULL;
    timer->link = NULL;
    if (below)
        heap_put(core, below);
}

void core_fini(struct core *core)
{
    ASSERT(list_empty(&core->live_ops));
    ASSERT(list_empty(&core->run_queue));
    ASSERT(list_empty(&core->background));
    while (core->timers)
        heap_remove(core, core->timers);
}

void timer_arm(struct core *core, struct timer *timer, struct op *op, uint64_t deadline_ns)
{
    uint64_t now_ns = core_recent_ns(core);
    /* What is armed for a time that has passed is due from now on, unless it was due before: else it would
     * look as if nobody had been there since. */
    uint64_t due_ns = timer_armed(timer) ? MIN(timer->deadline_ns, now_ns) : now_ns;

    timer_cancel(core, timer);
    timer->op = op;
    timer->deadline_ns = MAX(deadline_ns, due_ns);
    timer->fired = false;
    heap_put(core, timer);
}

void timer_cancel(struct core *core, struct timer *timer)
{
    if (timer_armed(timer))
        heap_remove(core, timer);
}

static void core_fire_timers(struct core *core)
{
    uint64_t now_ns = core_recent_ns(core);

    if (core->timers && core->timers->deadline_ns + CORE_AWAY_NS <= now_ns) {
        core->gone_ns = core->timers->deadline_ns;
        core->back_ns = now_ns;
    }
    while (core->timers && core->timers->deadline_ns <= now_ns) {
        struct timer *timer = core->timers;
        heap_remove(core, timer);
        timer->fired = true;
        core->counters.timers++;
        op_wake(timer->op);
    }
}

static void core_step(struct core *core, struct list *node)
{
    struct op *op = list_entry(node, struct op, run);

    core->counters.steps++;
    op->kind->step(op);
}

bool core_poll_urgent(struct core *core)
{
    core->counters.polls++;
    core_fire_timers(core);
    for (uint32_t i = 0; i < CORE_STEPS_MAX; i++) {
        struct list *node = list_pop_front(&core->run_queue);
        if (!node)
            return false;
        core_step(core, node);
    }
    return !list_empty(&core->run_queue);
}

void core_poll_background(struct core *core)
{
    struct list now;

    list_init(&now);
    list_splice_back(&now, &core->background);
    core->background_ns = core_recent_ns(core);
    for (struct list *node = list_pop_front(&now); node; node = list_pop_front(&now))
        core_step(core, node);
}

bool core_poll(struct core *core)
{
    core_now_ns(core); /* whoever turns by hand may have been away for long */
    if (core_poll_urgent(core))
        return true;
    core_poll_background(core);
    return !list_empty(&core->run_queue) || !list_empty(&core->background);
}

uint64_t core_next_deadline_ns(const struct core *core)
{
    return core->timers ? core->timers->deadline_ns : UINT64_MAX;
}

void *core_memory(struct core *core, size_t bytes)
{
    return core->env->memory ? core->env->memory(core->env_self, bytes)
                             : aligned_alloc(CORE_MEMORY_ALIGN, bytes);
}

void core_log(struct core *core, enum log_level level, const char *room, const char *format, ...)
{
    char line[CORE_LOG_LEN_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    core->env->log(core->env_self, level, room, line);
}
