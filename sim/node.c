/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes: their environment port, and their life: start, crash, pause, halt. The clock is the simulator's time
 * at the node's own rate from an arbitrary beginning, which a loss of power sets anew, as CLOCK_BOOTTIME
 * does.
 */
#include "sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NODE_UNPOISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define NODE_UNPOISON 1
#endif
#ifdef NODE_UNPOISON
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
#endif

#define CLOCK_BASE_MAX_NS (1000 * NS_PER_S)
#define WALL_BASE_US      1700000000000000ull

static uint64_t env_now_ns(void *self)
{
    return sim_node_now_ns(self);
}

static uint64_t env_wall_us(void *self)
{
    struct sim_node *node = self;

    return WALL_BASE_US + node->sim->now_ns / NS_PER_US + (uint64_t)node->wall_offset_us;
}

static uint64_t env_random_u64(void *self)
{
    struct sim_node *node = self;

    return sim_rng_u64(&node->random);
}

static void env_log(void *self, enum log_level level, const char *room, const char *line)
{
    struct sim_node *node = self;
    struct sim *sim = node->sim;

    sim->log_lines++;
    sim_trace(sim, room, hash_bytes(node->number, line, strlen(line)), (uint64_t)level);
    if (sim->verbose)
        printf("%4llu.%09llu %c %-8s %s: %s\n", (unsigned long long)(sim->now_ns / NS_PER_S),
               (unsigned long long)(sim->now_ns % NS_PER_S), "EWID"[level], node -> name, room, line);
}

static const struct env_ops ENV_OPS = {env_now_ns, NULL, env_wall_us, env_random_u64, env_log, NULL};

uint64_t sim_node_now_ns(const struct sim_node *node)
{
    uint64_t real = node->sim->now_ns - node->boot_ns;

    return node->clock_base_ns + real +
           (uint64_t)((__int128)real * node->config.drift_ppb / (__int128)NS_PER_S);
}

struct sim_node *sim_node_new(struct sim *sim, const struct sim_node_config *config)
{
    struct sim_node *node = sim_alloc(sizeof(*node));

    ASSERT(sim->node_count < SIM_NODES_MAX);
    ASSERT(strlen(config->name) < sizeof(node->name) && strlen(config->host) < sizeof(node->host));
    node->sim = sim;
    node->number = sim->node_count;
    node->config = *config;
    node->config.arena_bytes = ALIGN_UP(config->arena_bytes, (size_t)BUF_SIZE_MAX);
    strcpy(node->name, config->name);
    strcpy(node->host, config->host);
    node->config.name = node->name;
    node->config.host = node->host;
    node->wake_ns = UINT64_MAX;
    node->random = sim_rng_make(sim->seed, "node.random", node->number);
    node->sched = sim_rng_make(sim->seed, "node.sched", node->number);
    node->clock_base_ns = sim_rng_range(&node->sched, NS_PER_S, CLOCK_BASE_MAX_NS);
    node->boot_ns = sim->now_ns;
    list_init(&node->deferred);
    list_init(&node->crash_hooks);
    sim_heap_init(&node->heap);
    if (node->config.arena_bytes) {
        node->arena_memory = aligned_alloc(BUF_SIZE_MAX, node->config.arena_bytes);
        ASSERT(node->arena_memory);
    }
    sim->nodes[sim->node_count++] = node;
    return node;
}

void sim_node_start(struct sim_node *node)
{
    ASSERT(node->state == SIM_NODE_DOWN);
    node->incarnation++;
    node->state = SIM_NODE_UP;
    node->busy_ns = 0;
    sim_trace(node->sim, "start", node->number, node->incarnation);
    core_init(&node->core, &ENV_OPS, node);
    sim_node_enter(node);
    if (node->arena_memory) {
        node->core.arena = arena_new(node->arena_memory, node->config.arena_bytes);
        ASSERT(node->core.arena);
    }
    node->config.start(node->config.owner, node);
    sim_node_leave(node);
}

/* ---- buffers that are short
 * --------------------------------------------------------------------------------------- */

void sim_node_give_back(struct sim_node *node)
{
    while (node->held_count)
        buf_unref(node->held[--node->held_count]);
}

static void held_end_fire(struct sim_event *event)
{
    sim_node_give_back(event->node);
}

static void hold(struct sim_node *node, uint32_t len)
{
    struct buf *buf = buf_new(node->core.arena, len);

    if (buf)
        node->held[node->held_count++] = buf;
}

static void hold_all_but(struct sim_node *node, size_t leave_bytes)
{
    for (uint32_t len = BUF_SIZE_MAX; len >= BLOCK_SIZE; len /= 2) {
        uint32_t before;
        do {
            before = node->held_count;
            if (arena_free_bytes(node->core.arena) >= leave_bytes + len)
                hold(node, len);
        } while (node->held_count > before);
    }
}

static void hold_scattered(struct sim_node *node)
{
    uint32_t kept = 0;

    while (arena_free_bytes(node->core.arena))
        hold(node, BLOCK_SIZE);
    for (uint32_t i = 0; i < node->held_count; i++) {
        struct buf *buf = node->held[i];
        if ((uintptr_t)buf->data / BLOCK_SIZE % 2)
            node->held[kept++] = buf;
        else
            buf_unref(buf);
    }
    node->held_count = kept;
}

void sim_node_hold_buffers(struct sim_node *node, size_t leave_bytes, bool scattered, uint64_t for_ns)
{
    ASSERT(node->state == SIM_NODE_UP);
    if (!node->arena_memory || node->held_end.heap_index || node->held_count)
        return;
    if (!node->held)
        node->held = sim_alloc(node->config.arena_bytes / BLOCK_SIZE * sizeof(struct buf *));
    sim_trace(node->sim, "hold", node->number, leave_bytes);
    sim_node_enter(node);
    if (scattered)
        hold_scattered(node);
    else
        hold_all_but(node, leave_bytes);
    sim_node_leave(node);
    node->held_end.node = node;
    node->held_end.fire = held_end_fire;
    sim_schedule(node->sim, &node->held_end, for_ns);
}

static void node_down(struct sim_node *node, enum sim_crash kind)
{
    node->held_count = 0;
    list_for_each_safe (&node->crash_hooks, item) {
        struct sim_crash_hook *hook = list_entry(item, struct sim_crash_hook, link);
        hook->crashed(hook, node, kind);
    }
    node->state = SIM_NODE_DOWN;
    node->wake_ns = UINT64_MAX;
    sim_heap_discard(&node->heap);
    if (node->arena_memory)
        ASAN_UNPOISON_MEMORY_REGION(node->arena_memory, node->config.arena_bytes);
    memset(&node->core, 0, sizeof(node->core));
    for (struct list *item; (item = list_pop_front(&node->deferred));) {
        struct sim_event *event = list_entry(item, struct sim_event, deferred);
        if (event->drop)
            event->drop(event);
    }
}

void sim_node_crash(struct sim_node *node, enum sim_crash kind)
{
    ASSERT(node->state != SIM_NODE_DOWN);
    struct sim_heap *inside = sim_heap_enter(NULL);
    ASSERT(!inside);
    sim_trace(node->sim, "crash", node->number, (uint64_t)kind);
    node_down(node, kind);
    if (kind == SIM_CRASH_POWER) {
        node->clock_base_ns = sim_rng_range(&node->sched, NS_PER_S, CLOCK_BASE_MAX_NS);
        node->boot_ns = node->sim->now_ns;
    }
    if (node->config.crashed)
        node->config.crashed(node->config.owner, node, kind);
}

void sim_node_pause(struct sim_node *node)
{
    ASSERT(node->state == SIM_NODE_UP);
    sim_trace(node->sim, "pause", node->number, 0);
    node->state = SIM_NODE_PAUSED;
    node->paused_ns = node->sim->now_ns;
}

void sim_node_resume(struct sim_node *node)
{
    ASSERT(node->state == SIM_NODE_PAUSED);
    node->resumed_ns = node->sim->now_ns;
    node->stopped_ns = node->resumed_ns - node->paused_ns;
    sim_trace(node->sim, "resume", node->number, 0);
    node->state = SIM_NODE_UP;
    for (struct list *item; (item = list_pop_front(&node->deferred));) {
        struct sim_event *event = list_entry(item, struct sim_event, deferred);
        uint64_t incarnation = event->incarnation;
        sim_schedule(node->sim, event, 0);
        event->incarnation = incarnation;
    }
    if (node->wake_ns < node->sim->now_ns)
        node->wake_ns = node->sim->now_ns;
}

void sim_node_halt(struct sim_node *node)
{
    struct sim *sim = node->sim;

    ASSERT(node->state == SIM_NODE_UP);
    sim_trace(sim, "halt", node->number, 0);
    sim_node_enter(node);
    sim_node_give_back(node);
    core_fini(&node->core);
    if (node->core.arena)
        arena_free(node->core.arena);
    sim_node_leave(node);
    if (node->heap.block_count)
        sim_fail(sim, "%s leaks %llu blocks of memory, %llu bytes", node->name,
                 (unsigned long long)node->heap.block_count, (unsigned long long)node->heap.bytes);
    node_down(node, SIM_CRASH_PROCESS);
}

void sim_node_enter(struct sim_node *node)
{
    struct sim_heap *before = sim_heap_enter(&node->heap);

    ASSERT(!before);
    ASSERT(node->state != SIM_NODE_DOWN);
}

void sim_node_leave(struct sim_node *node)
{
    struct sim_heap *before = sim_heap_enter(NULL);

    ASSERT(before == &node->heap);
    sim_node_wake(node);
}

void sim_node_wake(struct sim_node *node)
{
    if (node->state == SIM_NODE_DOWN)
        return;
    uint64_t delay_ns = 0;
    if (node->config.wake_max_ns)
        delay_ns = sim_rng_below(&node->sched, node->config.wake_max_ns + 1);
    node->wake_ns = MIN(node->wake_ns, MAX(node->sim->now_ns + delay_ns, node->busy_ns));
}
