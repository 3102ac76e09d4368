/* SPDX-License-Identifier: Apache-2.0
 *
 * The run: a binary heap of events, and for each node the time of its next poll. sim_step() does whichever
 * comes first; of two things at the same time events go before polls, and each among themselves in order of
 * scheduling or node number, so that nothing depends on addresses or on the host.
 */
#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define BUSY_POLL_NS 1000 /* a core that is not through with its queue is polled again after that much */

static const char *const FAULT_NAMES[] = {
#define X(name, text, description) text,
    SIM_FAULT_TABLE(X)
#undef X
};

static const char *const FAULT_DESCRIPTIONS[] = {
#define X(name, text, description) description,
    SIM_FAULT_TABLE(X)
#undef X
};

const char *sim_fault_name(enum sim_fault fault)
{
    ASSERT(fault < SIM_FAULT_COUNT);
    return FAULT_NAMES[fault];
}

const char *sim_fault_description(enum sim_fault fault)
{
    ASSERT(fault < SIM_FAULT_COUNT);
    return FAULT_DESCRIPTIONS[fault];
}

struct sim *sim_new(uint64_t seed, bool verbose)
{
    struct sim *sim = sim_alloc(sizeof(*sim));

    sim->seed = seed;
    sim->verbose = verbose;
    return sim;
}

uint32_t sim_faults_always, sim_faults_never;

void sim_choose_faults(struct sim *sim, uint32_t allowed)
{
    struct sim_rng rng = sim_rng_make(sim->seed, "faults", 0);
    uint64_t style = sim_rng_below(&rng, 8);

    /* Some runs have no fault at all, some all of them, most a few: what only shows under one kind of fault
     * is not drowned by the others. */
    for (uint32_t i = 0; i < SIM_FAULT_COUNT; i++) {
        bool on = style == 7 || (style != 0 && sim_rng_below(&rng, 3) == 0);
        uint8_t intensity = (uint8_t)sim_rng_range(&rng, 1, 100);
        on |= (sim_faults_always >> i) & 1;
        if (!on || !((allowed & ~sim_faults_never) >> i & 1))
            continue;
        sim->faults |= 1u << i;
        sim->intensity[i] = intensity;
    }
    sim_trace(sim, "faults", sim->faults, style);
}

uint32_t sim_fault_intensity(const struct sim *sim, enum sim_fault fault)
{
    return (sim->faults >> fault) & 1 ? sim->intensity[fault] : 0;
}

/* ---- trace
 * ---------------------------------------------------------------------------------------------------- */

void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b)
{
    uint64_t tag = hash_bytes(a, what, strlen(what));

    sim->trace_hash = hash_pair(hash_pair(sim->trace_hash, sim->now_ns), hash_pair(tag, b));
}

static void print_line(struct sim *sim, char level, const char *who, const char *text)
{
    sim->log_lines++;
    sim_trace(sim, who, hash_bytes(0, text, strlen(text)), (uint64_t)level);
    if (sim->verbose)
        printf("%4llu.%09llu %c %-8s %s\n", (unsigned long long)(sim->now_ns / NS_PER_S),
               (unsigned long long)(sim->now_ns % NS_PER_S), level, who, text);
}

void sim_log(struct sim *sim, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    print_line(sim, '-', "sim", line);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    char line[sizeof(sim->failure)];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    print_line(sim, '!', "sim", line);
    if (!sim->failed)
        memcpy(sim->failure, line, sizeof(line));
    sim->failed = true;
}

/* ---- events
 * --------------------------------------------------------------------------------------------------- */

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->seq < b->seq;
}

static void event_place(struct sim *sim, uint32_t at, struct sim_event *event)
{
    sim->events[at] = event;
    event->heap_index = at + 1;
}

static void event_settle(struct sim *sim, uint32_t at, struct sim_event *event)
{
    while (at && event_before(event, sim->events[(at - 1) / 2])) {
        event_place(sim, at, sim->events[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= sim->event_count)
            break;
        if (child + 1 < sim->event_count && event_before(sim->events[child + 1], sim->events[child]))
            child++;
        if (!event_before(sim->events[child], event))
            break;
        event_place(sim, at, sim->events[child]);
        at = child;
    }
    event_place(sim, at, event);
}

static void event_push(struct sim *sim, struct sim_event *event)
{
    if (sim->event_count == sim->event_cap) {
        struct sim_heap *heap = sim_heap_enter(NULL);
        sim->event_cap = sim->event_cap ? sim->event_cap * 2 : 1024;
        sim->events = realloc(sim->events, sim->event_cap * sizeof(struct sim_event *));
        ASSERT(sim->events);
        sim_heap_enter(heap);
    }
    event->seq = sim->event_seq++;
    event_settle(sim, sim->event_count++, event);
}

static void event_take(struct sim *sim, struct sim_event *event)
{
    uint32_t at = event->heap_index - 1;

    ASSERT(at < sim->event_count && sim->events[at] == event);
    event->heap_index = 0;
    struct sim_event *last = sim->events[--sim->event_count];
    if (last != event)
        event_settle(sim, at, last);
}

void sim_schedule(struct sim *sim, struct sim_event *event, uint64_t delay_ns)
{
    ASSERT(!event->heap_index && event->fire);
    ASSERT(!event->deferred.next || !list_linked(&event->deferred));
    list_init(&event->deferred);
    event->at_ns = sim->now_ns + delay_ns;
    event->incarnation = event->node ? event->node->incarnation : 0;
    event_push(sim, event);
}

void sim_unschedule(struct sim *sim, struct sim_event *event)
{
    if (event->heap_index)
        event_take(sim, event);
    else if (event->deferred.next)
        list_remove(&event->deferred);
}

struct after {
    struct sim_event event;
    void (*fn)(void *owner);
    void *owner;
};

static void after_fire(struct sim_event *event)
{
    struct after *after = container_of(event, struct after, event);

    after->fn(after->owner);
    free(after);
}

static void after_drop(struct sim_event *event)
{
    free(container_of(event, struct after, event));
}

void sim_after(struct sim *sim, uint64_t delay_ns, void (*fn)(void *owner), void *owner)
{
    struct after *after = sim_alloc(sizeof(*after));

    *after = (struct after){.event = {.fire = after_fire, .drop = after_drop}, .fn = fn, .owner = owner};
    sim_schedule(sim, &after->event, delay_ns);
}

static void event_drop(struct sim_event *event)
{
    if (event->drop)
        event->drop(event);
}

static void event_happen(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;

    sim->events_fired++;
    sim_trace(sim, "event", event->seq, node ? node->number + 1 : 0);
    if (!node) {
        event->fire(event);
        return;
    }
    sim_node_enter(node);
    event->fire(event);
    sim_node_leave(node);
}

static void event_fire(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;

    if (node && (node->state == SIM_NODE_DOWN || node->incarnation != event->incarnation)) {
        event_drop(event);
        return;
    }
    if (node && (node->state == SIM_NODE_PAUSED || node->config.work_ns || !list_empty(&node->deferred))) {
        list_push_back(&node->deferred, &event->deferred);
        if (node->state == SIM_NODE_UP)
            sim_node_wake(node);
        return;
    }
    event_happen(sim, event);
}

/* ---- the loop
 * ------------------------------------------------------------------------------------------------- */

/* The simulator's time at which the node's clock shows `node_ns`. */
static uint64_t node_to_sim_ns(const struct sim_node *node, uint64_t node_ns)
{
    if (node_ns <= sim_node_now_ns(node))
        return node->sim->now_ns;
    __int128 delta = (__int128)(node_ns - node->clock_base_ns) * (__int128)NS_PER_S;
    __int128 at = node->boot_ns + delta / ((__int128)NS_PER_S + node->config.drift_ppb) + 2;
    return at > (__int128)INT64_MAX ? UINT64_MAX : (uint64_t)at;
}

static uint64_t wake_delay(struct sim_node *node)
{
    return node->config.wake_max_ns ? sim_rng_below(&node->sched, node->config.wake_max_ns + 1) : 0;
}

static void node_poll(struct sim_node *node)
{
    struct sim *sim = node->sim;

    uint64_t work = node->core.counters.steps;

    for (struct list *item; (item = list_pop_front(&node->deferred)); work--)
        event_happen(sim, list_entry(item, struct sim_event, deferred));
    node->wake_ns = UINT64_MAX;
    sim->polls++;
    sim_heap_enter(&node->heap);
    bool more = core_poll(&node->core);
    uint64_t deadline_ns = core_next_deadline_ns(&node->core);
    sim_heap_enter(NULL);
    sim_trace(sim, "poll", node->number, node->core.counters.steps);
    if (more || !list_empty(&node->core.run_queue))
        node->wake_ns = sim->now_ns + BUSY_POLL_NS;
    else if (deadline_ns != UINT64_MAX)
        node->wake_ns = node_to_sim_ns(node, deadline_ns) + wake_delay(node);
    if (node->wake_ns <= sim->now_ns)
        node->wake_ns = sim->now_ns + BUSY_POLL_NS;
    node->busy_ns = sim->now_ns + (node->core.counters.steps - work) * node->config.work_ns;
    node->wake_ns = MAX(node->wake_ns, node->busy_ns);
}

bool sim_step(struct sim *sim, uint64_t until_ns)
{
    struct sim_node *next = NULL;
    uint64_t poll_ns = UINT64_MAX;

    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = sim->nodes[i];
        if (node->state == SIM_NODE_UP && node->wake_ns < poll_ns) {
            poll_ns = node->wake_ns;
            next = node;
        }
    }
    struct sim_event *event = sim->event_count ? sim->events[0] : NULL;
    if (event && event->at_ns <= poll_ns) {
        if (event->at_ns > until_ns)
            return false;
        event_take(sim, event);
        sim->now_ns = MAX(sim->now_ns, event->at_ns);
        event_fire(sim, event);
    } else if (next && poll_ns <= until_ns) {
        sim->now_ns = MAX(sim->now_ns, poll_ns);
        node_poll(next);
    } else {
        return false;
    }
    if (sim->after_step)
        sim->after_step(sim->after_step_owner, sim);
    return true;
}

void sim_run_until(struct sim *sim, uint64_t until_ns)
{
    while (!sim->failed && sim_step(sim, until_ns))
        ;
    if (!sim->failed)
        sim->now_ns = MAX(sim->now_ns, until_ns);
}

bool sim_run_while(struct sim *sim, bool (*done)(void *owner), void *owner, uint64_t until_ns)
{
    while (!sim->failed) {
        if (done(owner))
            return true;
        if (!sim_step(sim, until_ns))
            break;
    }
    if (sim->failed)
        return false;
    sim->now_ns = MAX(sim->now_ns, until_ns);
    return done(owner);
}

void sim_free(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = sim->nodes[i];
        if (node->state != SIM_NODE_DOWN) {
            /* Nobody is told: ports and owners may be gone. */
            node->config.crashed = NULL;
            list_init(&node->crash_hooks);
            sim_node_crash(node, SIM_CRASH_PROCESS);
        }
    }
    while (sim->event_count) {
        struct sim_event *event = sim->events[0];
        event_take(sim, event);
        event_drop(event);
    }
    for (uint32_t i = 0; i < sim->node_count; i++) {
        free(sim->nodes[i]->arena_memory);
        free(sim->nodes[i]->held);
        free(sim->nodes[i]);
    }
    free(sim->events);
    free(sim);
}
