/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake cluster in the simulator: see fake.h.
 */
#include "tests/client/fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fake_world world;

/* The node's number stands in its owner. */
static void shard_start(void *owner, struct sim_node *node)
{
    fake_shard_start((uint32_t)((struct fake_shard *)owner - fake.shards), &node->core,
                     sim_net_port(world.net, node), node->incarnation);
}

static void monitor_start(void *owner, struct sim_node *node)
{
    fake_monitor_start((uint32_t)((struct fake_monitor *)owner - fake.monitors), &node->core,
                       sim_net_port(world.net, node));
}

void fake_announce_image(void)
{
    for (uint32_t i = 0; i < FAKE_MONITORS; i++) {
        if (world.monitors[i]->state != SIM_NODE_UP)
            continue;
        sim_node_enter(world.monitors[i]);
        fake_monitor_announce(i);
        sim_node_leave(world.monitors[i]);
    }
}

static void nothing_start(void *owner, struct sim_node *node)
{
}

void fake_enter(void)
{
    sim_node_enter(world.client_node);
}

void fake_leave(void)
{
    sim_node_leave(world.client_node);
}

static bool op_is_done(void *owner)
{
    return !op_live(owner);
}

int fake_wait(struct op *op)
{
    if (!sim_run_while(world.sim, op_is_done, op, world.sim->now_ns + 100 * NS_PER_S)) {
        printf("# stuck: %s in state %s (%s)\n", op->kind->name,
               op->kind->state_name ? op->kind->state_name(op->state) : "?", world.sim->failure);
        abort();
    }
    return op->result;
}

static struct sim_node *node_new(const char *name, const char *host, void (*start)(void *, struct sim_node *),
                                 void *owner)
{
    struct sim_node_config config = {
        .name = name, .host = host, .arena_bytes = 64u << 20, .start = start, .owner = owner};
    struct sim_node *node = sim_node_new(world.sim, &config);

    sim_node_start(node);
    return node;
}

uint64_t fake_net_delay_ns;
uint32_t fake_net_queue_bytes;

void fake_up(uint64_t seed, uint64_t timeout_ns, uint32_t inflight_max)
{
    char name[16], host[16];

    memset(&world, 0, sizeof(world));
    fake_reset();
    world.sim = sim_new(seed, getenv("FAKE_VERBOSE") != NULL);
    world.net = sim_net_new(world.sim, &(struct sim_net_config){.delay_min_ns = fake_net_delay_ns,
                                                                .delay_typical_ns = fake_net_delay_ns,
                                                                .queue_max_bytes = fake_net_queue_bytes});
    for (uint32_t i = 0; i < FAKE_SHARDS; i++) {
        snprintf(host, sizeof(host), "10.0.1.%u", i);
        snprintf(name, sizeof(name), "machine.%u", i + 1);
        world.machines[i] = node_new(name, host, nothing_start, NULL);
        snprintf(name, sizeof(name), "osd.%u", i + 1);
        fake.shards[i].number = i;
        snprintf(fake.shards[i].address, FAKE_ADDRESS_MAX, "%s:7000", host);
        world.shards[i] = node_new(name, host, shard_start, &fake.shards[i]);
    }
    for (uint32_t i = 0; i < FAKE_MONITORS; i++) {
        snprintf(name, sizeof(name), "mon.%u", i);
        snprintf(host, sizeof(host), "10.0.2.%u", i);
        fake.monitors[i].number = i;
        snprintf(fake.monitors[i].address, FAKE_ADDRESS_MAX, "%s:6000", host);
        world.monitors[i] = node_new(name, host, monitor_start, &fake.monitors[i]);
    }
    world.client_node = node_new("client", "10.0.3.0", nothing_start, NULL);
    static struct client_open open;
    memset(&open, 0, sizeof(open));
    fake_enter();
    const char *monitors[FAKE_MONITORS] = {fake.monitors[0].address, fake.monitors[1].address};
    struct client_config config = {
        .core = &world.client_node->core,
        .net = sim_net_port(world.net, world.client_node),
        .monitors = monitors,
        .monitor_count = FAKE_MONITORS,
        .name = "test",
        .timeout_ns = timeout_ns ? timeout_ns : 10 * NS_PER_S,
        .inflight_max = inflight_max,
    };
    client_open_start(&open, &config, NULL);
    fake_leave();
    ASSERT(fake_wait(&open.op) == 0);
    world.client = open.ret_client;
}

int fake_open(bool write, bool force)
{
    static struct client_image_open open;

    memset(&open, 0, sizeof(open));
    fake_enter();
    client_image_open_start(&open, world.client, "pool", "image", write, "writer", force, false, NULL);
    fake_leave();
    int result = fake_wait(&open.op);
    world.image = open.ret_image;
    return result;
}

void fake_close(void)
{
    static struct client_image_close op;

    memset(&op, 0, sizeof(op));
    fake_enter();
    client_image_close_start(&op, world.image, NULL);
    fake_leave();
    ASSERT(fake_wait(&op.op) == 0);
    world.image = NULL;
}

void fake_down(void)
{
    if (world.image)
        fake_close();
    fake_enter();
    client_free(world.client);
    for (uint32_t i = 0; i < FAKE_BUFFERS; i++)
        buf_unref(world.bufs[i]);
    fake_leave();
    sim_node_halt(world.client_node);
    if (world.sim->failed)
        printf("# %s\n", world.sim->failure);
    ASSERT(!world.sim->failed);
    sim_net_free(world.net);
    sim_free(world.sim);
}

void fake_start(uint32_t slot, enum client_io_type type, uint64_t offset, uint64_t len, uint8_t fill)
{
    struct client_io *io = &world.ios[slot];
    struct slice data = {0};

    fake_enter();
    buf_unref(world.bufs[slot]);
    world.bufs[slot] = NULL;
    if ((type == CLIENT_READ || type == CLIENT_WRITE) && len) {
        uint32_t shift = (uint32_t)(offset % 512); /* memory need not be aligned either */
        uint32_t room = (uint32_t)MIN(len + shift, BUF_SIZE_MAX);
        shift = room - (uint32_t)len;
        world.bufs[slot] = buf_new(world.client_node->core.arena, room);
        ASSERT(world.bufs[slot]);
        data = (struct slice){world.bufs[slot], shift, (uint32_t)len};
        memset(slice_data(&data), type == CLIENT_WRITE ? fill : 0xee, len);
    }
    memset(io, 0, sizeof(*io));
    if (type == CLIENT_READ)
        client_read_start(io, world.image, offset, len, data.buf ? slice_data(&data) : NULL, NULL);
    else
        client_io_start(io, world.image, type, offset, len, &data, NULL);
    fake_leave();
}

int fake_finish(uint32_t slot)
{
    return fake_wait(&world.ios[slot].op);
}

int fake_io(enum client_io_type type, uint64_t offset, uint64_t len, uint8_t fill)
{
    fake_start(0, type, offset, len, fill);
    return fake_finish(0);
}

uint8_t *fake_data(uint32_t slot)
{
    const struct client_io *io = &world.ios[slot];
    return io->type == CLIENT_READ ? io->memory : slice_data(&io->data);
}
