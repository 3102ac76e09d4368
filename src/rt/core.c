/* SPDX-License-Identifier: Apache-2.0
 *
 * The core: the run queue, and the timers in a 4-ary heap (shallower than a binary one, and a node's children
 * share a cache line). Heap indexes kept in timers count from one, so that zero means "not armed".
 */
#include "rt/core.h"

#include <stdio.h>
#include <stdlib.h>

/* One call of core_poll() steps at most so many ops, so that the caller gets round to the kernel. */
#define CORE_STEPS_MAX   1024
#define CORE_HEAP_FIRST  256
#define CORE_LOG_LEN_MAX 1024

void core_init(struct core *core, const struct env_ops *env, void *env_self)
{
    *core = (struct core){.env = env, .env_self = env_self};
    list_init(&core->run_queue);
    list_init(&core->live_ops);
}

void core_fini(struct core *core)
{
    ASSERT(list_empty(&core->live_ops));
    ASSERT(list_empty(&core->run_queue));
    for (uint32_t i = 0; i < core->heap_len; i++)
        core->heap[i]->heap_index = 0;
    free(core->heap);
    core->heap = NULL;
    core->heap_len = core->heap_cap = 0;
}

static void heap_place(struct core *core, uint32_t at, struct timer *timer)
{
    core->heap[at] = timer;
    timer->heap_index = at + 1;
}

static void heap_rise(struct core *core, uint32_t at, struct timer *timer)
{
    while (at) {
        uint32_t up = (at - 1) / 4;
        if (core->heap[up]->deadline_ns <= timer->deadline_ns)
            break;
        heap_place(core, at, core->heap[up]);
        at = up;
    }
    heap_place(core, at, timer);
}

static void heap_sink(struct core *core, uint32_t at, struct timer *timer)
{
    for (;;) {
        uint32_t first = at * 4 + 1;
        if (first >= core->heap_len)
            break;
        uint32_t end = MIN(first + 4, core->heap_len);
        uint32_t least = first;
        for (uint32_t i = first + 1; i < end; i++)
            if (core->heap[i]->deadline_ns < core->heap[least]->deadline_ns)
                least = i;
        if (timer->deadline_ns <= core->heap[least]->deadline_ns)
            break;
        heap_place(core, at, core->heap[least]);
        at = least;
    }
    heap_place(core, at, timer);
}

static void heap_remove(struct core *core, struct timer *timer)
{
    uint32_t at = timer->heap_index - 1;

    ASSERT(at < core->heap_len && core->heap[at] == timer);
    timer->heap_index = 0;
    struct timer *last = core->heap[--core->heap_len];
    if (last == timer)
        return;
    /* The last one takes the place; it may belong further up or further down. */
    if (at && last->deadline_ns < core->heap[(at - 1) / 4]->deadline_ns)
        heap_rise(core, at, last);
    else
        heap_sink(core, at, last);
}

void timer_arm(struct core *core, struct timer *timer, struct op *op, uint64_t deadline_ns)
{
    if (timer_armed(timer))
        heap_remove(core, timer);
    if (core->heap_len == core->heap_cap) {
        /* Rare: the heap keeps the size of the busiest moment. Without memory for a pointer per timer nothing
         * works. */
        uint32_t cap = core->heap_cap ? core->heap_cap * 2 : CORE_HEAP_FIRST;
        struct timer **heap = realloc(core->heap, cap * sizeof(struct timer *));
        ASSERT(heap);
        core->heap = heap;
        core->heap_cap = cap;
    }
    timer->op = op;
    timer->deadline_ns = deadline_ns;
    timer->fired = false;
    heap_rise(core, core->heap_len++, timer);
}

void timer_cancel(struct core *core, struct timer *timer)
{
    if (timer_armed(timer))
        heap_remove(core, timer);
}

static void core_fire_timers(struct core *core)
{
    if (core->heap_len == 0)
        return;
    uint64_t now_ns = core_now_ns(core);
    while (core->heap_len && core->heap[0]->deadline_ns <= now_ns) {
        struct timer *timer = core->heap[0];
        heap_remove(core, timer);
        timer->fired = true;
        core->counters.timers++;
        op_wake(timer->op);
    }
}

bool core_poll(struct core *core)
{
    core->counters.polls++;
    core_fire_timers(core);
    for (uint32_t i = 0; i < CORE_STEPS_MAX; i++) {
        struct list *node = list_pop_front(&core->run_queue);
        if (!node)
            return false;
        struct op *op = list_entry(node, struct op, run);
        core->counters.steps++;
        op->kind->step(op);
    }
    return !list_empty(&core->run_queue);
}

uint64_t core_next_deadline_ns(const struct core *core)
{
    return core->heap_len ? core->heap[0]->deadline_ns : UINT64_MAX;
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
