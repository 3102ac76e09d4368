/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake cluster: see fake.h.
 */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/placement.h"
#include "tests/tap.h"
#include "wire/cold.h"

struct fake fake;

static const uint8_t cluster_uuid[16] = {1, 2, 3, 4};
static const char *const shard_address[FAKE_SHARDS] = {"10.0.1.0:7000", "10.0.1.1:7000", "10.0.1.2:7000"};
static const char *const monitor_address[FAKE_MONITORS] = {"10.0.2.0:6000", "10.0.2.1:6000"};

/* Identities outlive restarts of a node. */
static struct rpc_identity shard_self[FAKE_SHARDS], monitor_self[FAKE_MONITORS];

uint32_t fake_pg_of(uint64_t offset)
{
    return placement_pg_number(FAKE_IMAGE, offset / OBJECT_SIZE, FAKE_PGS);
}

uint8_t fake_byte(uint64_t offset)
{
    uint32_t block = (uint32_t)(offset % OBJECT_SIZE / BLOCK_SIZE);

    return fake.written[offset / OBJECT_SIZE][block]
               ? fake.objects[offset / OBJECT_SIZE][offset % OBJECT_SIZE]
               : 0;
}

void fake_lead(uint32_t shard)
{
    for (uint32_t i = 0; i < FAKE_PGS; i++) {
        fake.pgs[i].term++;
        fake.pgs[i].leader = shard + 1;
    }
}

/* ---- shards ---- */

static void reply_pg(const struct rpc_ticket *ticket, int result, const struct fake_pg *pg)
{
    RPC_FRAME_SCRATCH(scratch, 64);
    Fb__PgReply m = FB__PG_REPLY__INIT;
    uint32_t len;

    m.term = pg->term;
    m.leader = pg->leader;
    CHECK_EQ(wire_cold_encode(&m.base, rpc_body(scratch), 64, &len), 0);
    rpc_reply(ticket, result, rpc_body(scratch), len, NULL, 0);
}

/* Whatever a shard checks before it does anything. 0 or the error. */
static int shard_check(struct fake_shard *shard, uint64_t pg_id, uint64_t term, struct fake_pg **ret_pg)
{
    uint32_t number = (uint32_t)pg_id;

    CHECK_EQ(pg_id >> 32, FAKE_POOL);
    CHECK(number < FAKE_PGS);
    struct fake_pg *pg = &fake.pgs[number % FAKE_PGS];
    *ret_pg = pg;
    if (shard->refuse_count) {
        shard->refuse_count--;
        return shard->refuse;
    }
    if (pg->leader != shard->number + 1)
        return -ERR_NOT_LEADER;
    return term == pg->term ? 0 : -ERR_STALE_TERM;
}

static int shard_check_writer(const struct fake_pg *pg, uint64_t incarnation, uint64_t generation)
{
    if (generation < fake.generation)
        return -ERR_STALE_GENERATION;
    if (incarnation < pg->incarnation)
        return -ERR_FENCED;
    return incarnation > pg->incarnation || generation > pg->generation ? -ERR_NOT_ATTACHED : 0;
}

static bool shard_loses(struct fake_shard *shard)
{
    if (!shard->lose)
        return false;
    shard->lose--;
    return true;
}

static void shard_write(struct fake_shard *shard, const struct rpc_ticket *ticket,
                        const struct rpc_message *message)
{
    struct wire_write_request m;
    uint32_t crc[WIRE_CRC_MAX];
    struct fake_pg *pg;

    shard->writes++;
    CHECK_EQ(wire_write_request_decode(message->body, message->body_len, &m, crc), 0);
    int error = shard_check(shard, m.pg, m.term, &pg);
    if (!error)
        error = shard_check_writer(pg, m.incarnation, m.generation);
    if (error) {
        reply_pg(ticket, error, pg);
        return;
    }
    CHECK_EQ(m.pg, placement_pg_id(FAKE_POOL, placement_pg_number(FAKE_IMAGE, m.object, FAKE_PGS)));
    CHECK(m.offset + m.length <= OBJECT_SIZE && m.object < FAKE_OBJECTS);
    CHECK_EQ(message->payload.len, m.length);
    const uint8_t *data = slice_data(&message->payload);
    uint32_t count = 0;
    for (uint32_t at = m.offset; at < m.offset + m.length; count++) {
        uint32_t next = MIN(ALIGN_DOWN(at, BLOCK_SIZE) + BLOCK_SIZE, m.offset + m.length);
        CHECK_EQ(crc32c(0, data + (at - m.offset), next - at), m.crc[count]);
        uint32_t block = at / BLOCK_SIZE;
        if (!fake.written[m.object][block])
            memset(fake.objects[m.object] + block * BLOCK_SIZE, 0, BLOCK_SIZE);
        fake.written[m.object][block] = true;
        at = next;
    }
    CHECK_EQ(count, m.crc_count);
    CHECK(count <= IO_BLOCKS_MAX);
    memcpy(fake.objects[m.object] + m.offset, data, m.length);
    if (shard_loses(shard))
        return;
    RPC_FRAME_SCRATCH(scratch, 64);
    struct wire_write_reply reply = {pg->term, pg->leader};
    uint32_t len = (uint32_t)wire_write_reply_encode(rpc_body(scratch), &reply);
    rpc_reply(ticket, 0, rpc_body(scratch), len, NULL, 0);
}

static void shard_read(struct fake_shard *shard, const struct rpc_ticket *ticket,
                       const struct rpc_message *message)
{
    RPC_FRAME_SCRATCH(scratch, 2048);
    struct wire_read_request m;
    uint32_t crc[WIRE_CRC_MAX];
    struct fake_pg *pg;

    shard->reads++;
    CHECK_EQ(wire_read_request_decode(message->body, message->body_len, &m), 0);
    int error = shard_check(shard, m.pg, m.term, &pg);
    if (!error && m.generation < fake.generation)
        error = -ERR_STALE_GENERATION;
    if (error) {
        reply_pg(ticket, error, pg);
        return;
    }
    CHECK(m.block_count <= IO_BLOCKS_MAX && m.first_block + m.block_count <= BLOCKS_PER_OBJECT);
    struct wire_read_reply reply = {pg->term, pg->leader, 0, crc};
    struct slice piece = {0};
    bool any = false;
    for (uint32_t i = 0; i < m.block_count; i++)
        any = any || fake.written[m.object][m.first_block + i];
    if (any) {
        piece.buf = buf_new(shard->node->core.arena, m.block_count * BLOCK_SIZE);
        piece.len = m.block_count * BLOCK_SIZE;
        CHECK(piece.buf);
        for (uint32_t i = 0; i < m.block_count; i++) {
            uint8_t *to = piece.buf->data + i * BLOCK_SIZE;
            if (fake.written[m.object][m.first_block + i])
                memcpy(to, fake.objects[m.object] + (m.first_block + i) * BLOCK_SIZE, BLOCK_SIZE);
            else
                memset(to, 0, BLOCK_SIZE);
            crc[i] = crc32c(0, to, BLOCK_SIZE);
        }
        reply.crc_count = m.block_count;
        if (shard->corrupt) {
            shard->corrupt--;
            piece.buf->data[17] ^= 1;
        }
    }
    if (!shard_loses(shard)) {
        uint32_t len = (uint32_t)wire_read_reply_encode(rpc_body(scratch), &reply);
        rpc_reply(ticket, 0, rpc_body(scratch), len, &piece, any ? 1 : 0);
    }
    slice_unref(&piece);
}

static void shard_clear(struct fake_shard *shard, const struct rpc_ticket *ticket,
                        const struct rpc_message *message)
{
    struct wire_arena arena;
    Fb__ClearRequest *m;
    struct fake_pg *pg;

    shard->clears++;
    wire_arena_init(&arena, NULL, 0, 4096);
    CHECK_EQ(wire_cold_decode(&fb__clear_request__descriptor, message->body, message->body_len, &arena, &m),
             0);
    int error = shard_check(shard, m->pg, m->term, &pg);
    if (!error)
        error = shard_check_writer(pg, m->incarnation, m->generation);
    if (!error) {
        CHECK(m->length > 0 && m->offset + m->length <= OBJECT_SIZE);
        CHECK(m->exact || (m->offset % BLOCK_SIZE == 0 && m->length % BLOCK_SIZE == 0));
        memset(fake.objects[m->object] + m->offset, 0, m->length);
        for (uint32_t b = DIV_UP(m->offset, BLOCK_SIZE); b < (m->offset + m->length) / BLOCK_SIZE; b++)
            fake.written[m->object][b] = false;
    }
    if (!shard_loses(shard))
        reply_pg(ticket, error, pg);
    wire_arena_fini(&arena);
}

static void shard_attach(struct fake_shard *shard, const struct rpc_ticket *ticket,
                         const struct rpc_message *message)
{
    struct wire_arena arena;
    Fb__AttachRequest *m;
    struct fake_pg *pg;

    shard->attaches++;
    wire_arena_init(&arena, NULL, 0, 4096);
    CHECK_EQ(wire_cold_decode(&fb__attach_request__descriptor, message->body, message->body_len, &arena, &m),
             0);
    CHECK_EQ(m->image, FAKE_IMAGE);
    int error = shard_check(shard, m->pg, m->term, &pg);
    if (!error && m->generation < fake.generation)
        error = -ERR_STALE_GENERATION;
    if (!error && m->incarnation < pg->incarnation)
        error = -ERR_FENCED;
    if (!error) {
        pg->incarnation = m->incarnation;
        pg->generation = m->generation;
    }
    if (!shard_loses(shard))
        reply_pg(ticket, error, pg);
    wire_arena_fini(&arena);
}

static void shard_status(struct fake_shard *shard, const struct rpc_ticket *ticket,
                         const struct rpc_message *message)
{
    RPC_FRAME_SCRATCH(scratch, 256);
    uint8_t bitmap[BLOCKS_PER_OBJECT / 8] = {0};
    struct wire_arena arena;
    Fb__BlockStatusRequest *m;
    Fb__BlockStatusReply reply = FB__BLOCK_STATUS_REPLY__INIT;
    struct fake_pg *pg;
    uint32_t len;

    shard->statuses++;
    wire_arena_init(&arena, NULL, 0, 4096);
    CHECK_EQ(
        wire_cold_decode(&fb__block_status_request__descriptor, message->body, message->body_len, &arena, &m),
        0);
    int error = shard_check(shard, m->pg, m->term, &pg);
    if (error) {
        reply_pg(ticket, error, pg);
    } else {
        reply.term = pg->term;
        reply.leader = pg->leader;
        for (uint32_t i = 0; i < BLOCKS_PER_OBJECT; i++)
            if (fake.written[m->object][i]) {
                bitmap[i / 8] |= (uint8_t)(1u << (i % 8));
                reply.written.data = bitmap;
                reply.written.len = sizeof(bitmap);
            }
        CHECK_EQ(wire_cold_encode(&reply.base, rpc_body(scratch), 256, &len), 0);
        rpc_reply(ticket, 0, rpc_body(scratch), len, NULL, 0);
    }
    wire_arena_fini(&arena);
}

static void shard_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    struct fake_shard *shard = owner;
    struct rpc_ticket ticket = rpc_ticket(session, message);

    shard->requests++;
    if (shard->mute) {
        shard->mute--;
        return;
    }
    switch (message->method) {
    case METHOD_WRITE:
        shard_write(shard, &ticket, message);
        break;
    case METHOD_READ:
        shard_read(shard, &ticket, message);
        break;
    case METHOD_CLEAR:
        shard_clear(shard, &ticket, message);
        break;
    case METHOD_ATTACH:
        shard_attach(shard, &ticket, message);
        break;
    case METHOD_BLOCK_STATUS:
        shard_status(shard, &ticket, message);
        break;
    default:
        rpc_reply(&ticket, -ERR_UNSUPPORTED, NULL, 0, NULL, 0);
    }
}

static void shard_opened(void *owner, struct rpc_session *session)
{
    ((struct fake_shard *)owner)->sessions++;
}

static void shard_start(void *owner, struct sim_node *node)
{
    struct fake_shard *shard = owner;
    struct rpc_server_config config = {
        .core = &node->core,
        .net = sim_net_port(fake.net, node),
        .address = shard_address[shard->number],
        .self = &shard_self[shard->number],
        .sessions_max = 16,
        .requests_max = 1024,
        .opened = shard_opened,
        .message = shard_message,
        .owner = shard,
    };

    shard_self[shard->number] = (struct rpc_identity){.role = RPC_OSD, .osd = shard->number + 1};
    shard_self[shard->number].osd_uuid[0] = (uint8_t)(shard->number + 1);
    shard_self[shard->number].incarnation = node->incarnation;
    memcpy(shard_self[shard->number].cluster, cluster_uuid, 16);
    CHECK_EQ(rpc_server_new(&config, &shard->server), 0);
}

/* ---- monitors ---- */

static Fb__Image the_image = FB__IMAGE__INIT;

static Fb__Image *image_now(void)
{
    the_image.id = FAKE_IMAGE;
    the_image.pool = FAKE_POOL;
    the_image.name = (char *)"image";
    the_image.size_bytes = fake.size_bytes;
    the_image.generation = fake.generation;
    the_image.placement_key = FAKE_IMAGE;
    the_image.incarnation = fake.incarnation;
    return &the_image;
}

struct fake_map {
    Fb__ClusterMap map;
    Fb__Osd osd[FAKE_SHARDS], *osds[FAKE_SHARDS];
    Fb__OsdShard shard[FAKE_SHARDS], *shards[FAKE_SHARDS];
    Fb__Pool pool, *pools[1];
    Fb__Pg pg[FAKE_PGS], *pgs[FAKE_PGS];
    Fb__PgMember member[FAKE_PGS][FAKE_SHARDS], *members[FAKE_PGS][FAKE_SHARDS];
};

static Fb__ClusterMap *map_now(struct fake_map *m)
{
    fb__cluster_map__init(&m->map);
    m->map.cluster = (ProtobufCBinaryData){16, (uint8_t *)cluster_uuid};
    m->map.epoch = fake.epoch;
    m->map.n_osd = FAKE_SHARDS;
    m->map.osd = m->osds;
    for (uint32_t i = 0; i < FAKE_SHARDS; i++) {
        fb__osd__init(&m->osd[i]);
        fb__osd_shard__init(&m->shard[i]);
        m->osds[i] = &m->osd[i];
        m->shards[i] = &m->shard[i];
        m->osd[i].id = i + 1;
        m->osd[i].up = true;
        m->osd[i].n_shard = 1;
        m->osd[i].shard = &m->shards[i];
        m->shard[i].address = (char *)shard_address[i];
    }
    fb__pool__init(&m->pool);
    m->pool.id = FAKE_POOL;
    m->pool.name = (char *)"pool";
    m->pool.pg_count = FAKE_PGS;
    m->pools[0] = &m->pool;
    m->map.n_pool = 1;
    m->map.pool = m->pools;
    m->map.n_pg = FAKE_PGS;
    m->map.pg = m->pgs;
    for (uint32_t i = 0; i < FAKE_PGS; i++) {
        fb__pg__init(&m->pg[i]);
        m->pgs[i] = &m->pg[i];
        m->pg[i].id = placement_pg_id(FAKE_POOL, i);
        m->pg[i].n_member = FAKE_SHARDS;
        m->pg[i].member = m->members[i];
        for (uint32_t k = 0; k < FAKE_SHARDS; k++) {
            fb__pg_member__init(&m->member[i][k]);
            m->members[i][k] = &m->member[i][k];
            m->member[i][k].replica = k + 1;
            m->member[i][k].osd = k + 1;
        }
    }
    return &m->map;
}

static void monitor_open(Fb__ImageOpen *call, Fb__MonReply *reply, int *result)
{
    if (strcmp(call->pool, "pool") != 0 || strcmp(call->name, "image") != 0) {
        *result = -ERR_NOT_FOUND;
        reply->message = (char *)"there is no such image";
        return;
    }
    if (call->write)
        fake.incarnation++;
    reply->image = image_now();
}

static void monitor_message(void *owner, struct rpc_session *session, const struct rpc_message *message)
{
    static uint8_t scratch[FRAME_HEADER_SIZE + 65536];
    static struct fake_map map;
    struct fake_monitor *monitor = owner;
    struct rpc_ticket ticket = rpc_ticket(session, message);
    struct wire_arena arena;
    Fb__MonRequest *request;
    Fb__MonReply reply = FB__MON_REPLY__INIT;
    uint32_t len;
    int result = 0;

    wire_arena_init(&arena, NULL, 0, 65536);
    CHECK_EQ(
        wire_cold_decode(&fb__mon_request__descriptor, message->body, message->body_len, &arena, &request),
        0);
    switch (request->call_case) {
    case FB__MON_REQUEST__CALL_SUBSCRIBE:
        monitor->subscribes++;
        if (!rpc_session_context(session) && monitor->subscriber_count < ARRAY_LEN(monitor->subscribers)) {
            monitor->subscribers[monitor->subscriber_count++] = session;
            rpc_session_set_context(session, monitor);
        }
        reply.map = map_now(&map);
        break;
    case FB__MON_REQUEST__CALL_IMAGE_OPEN:
        monitor->opens++;
        monitor_open(request->image_open, &reply, &result);
        break;
    case FB__MON_REQUEST__CALL_IMAGE_CLOSE:
        monitor->closes++;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_GET:
        monitor->gets++;
        if (fake.removed)
            result = -ERR_NOT_FOUND;
        else
            reply.image = image_now();
        break;
    default:
        result = -ERR_UNSUPPORTED;
    }
    CHECK_EQ(wire_cold_encode(&reply.base, scratch + FRAME_HEADER_SIZE, 65536, &len), 0);
    rpc_reply(&ticket, result, scratch + FRAME_HEADER_SIZE, len, NULL, 0);
    wire_arena_fini(&arena);
}

static void monitor_closed(void *owner, struct rpc_session *session)
{
    struct fake_monitor *monitor = owner;

    for (uint32_t i = 0; i < monitor->subscriber_count; i++)
        if (monitor->subscribers[i] == session)
            monitor->subscribers[i--] = monitor->subscribers[--monitor->subscriber_count];
}

static void monitor_start(void *owner, struct sim_node *node)
{
    struct fake_monitor *monitor = owner;
    struct rpc_server_config config = {
        .core = &node->core,
        .net = sim_net_port(fake.net, node),
        .address = monitor_address[monitor->number],
        .self = &monitor_self[monitor->number],
        .sessions_max = 16,
        .requests_max = 64,
        .closed = monitor_closed,
        .message = monitor_message,
        .owner = monitor,
    };

    monitor->subscriber_count = 0;
    monitor_self[monitor->number] = (struct rpc_identity){.role = RPC_MON};
    memcpy(monitor_self[monitor->number].cluster, cluster_uuid, 16);
    CHECK_EQ(rpc_server_new(&config, &monitor->server), 0);
}

void fake_announce_image(void)
{
    for (uint32_t i = 0; i < FAKE_MONITORS; i++) {
        struct fake_monitor *monitor = &fake.monitors[i];
        RPC_FRAME_SCRATCH(scratch, 512);
        Fb__MonEvent event = FB__MON_EVENT__INIT;
        uint32_t len;
        if (monitor->node->state != SIM_NODE_UP)
            continue;
        sim_node_enter(monitor->node);
        event.image = image_now();
        CHECK_EQ(wire_cold_encode(&event.base, rpc_body(scratch), 512, &len), 0);
        for (uint32_t k = 0; k < monitor->subscriber_count; k++)
            CHECK_EQ(
                rpc_session_send(monitor->subscribers[k], METHOD_MON_EVENT, rpc_body(scratch), len, NULL, 0),
                0);
        sim_node_leave(monitor->node);
    }
}

/* ---- the client's node ---- */

static void nothing_start(void *owner, struct sim_node *node)
{
}

void fake_enter(void)
{
    sim_node_enter(fake.client_node);
}

void fake_leave(void)
{
    sim_node_leave(fake.client_node);
}

static bool op_is_done(void *owner)
{
    return !op_live(owner);
}

int fake_wait(struct op *op)
{
    if (!sim_run_while(fake.sim, op_is_done, op, fake.sim->now_ns + 100 * NS_PER_S)) {
        printf("# stuck: %s in state %s (%s)\n", op->kind->name,
               op->kind->state_name ? op->kind->state_name(op->state) : "?", fake.sim->failure);
        abort();
    }
    return op->result;
}

static struct sim_node *node_new(const char *name, const char *host, void (*start)(void *, struct sim_node *),
                                 void *owner)
{
    struct sim_node_config config = {
        .name = name, .host = host, .arena_bytes = 64u << 20, .start = start, .owner = owner};
    struct sim_node *node = sim_node_new(fake.sim, &config);

    sim_node_start(node);
    return node;
}

void fake_up(uint64_t seed, uint64_t timeout_ns, uint32_t inflight_max)
{
    char name[16], host[16];

    memset(&fake, 0, sizeof(fake));
    fake.sim = sim_new(seed, getenv("FAKE_VERBOSE") != NULL);
    fake.net = sim_net_new(fake.sim, &(struct sim_net_config){0});
    fake.epoch = 5;
    fake.generation = 1;
    fake.size_bytes = FAKE_IMAGE_SIZE;
    for (uint32_t i = 0; i < FAKE_PGS; i++)
        fake.pgs[i] = (struct fake_pg){.term = 3 + i, .leader = i % FAKE_SHARDS + 1, .generation = 1};
    for (uint32_t i = 0; i < FAKE_SHARDS; i++) {
        snprintf(host, sizeof(host), "10.0.1.%u", i);
        snprintf(name, sizeof(name), "machine.%u", i + 1);
        fake.machines[i] = node_new(name, host, nothing_start, NULL);
        snprintf(name, sizeof(name), "osd.%u", i + 1);
        fake.shards[i].number = i;
        fake.shards[i].node = node_new(name, host, shard_start, &fake.shards[i]);
    }
    for (uint32_t i = 0; i < FAKE_MONITORS; i++) {
        snprintf(name, sizeof(name), "mon.%u", i);
        snprintf(host, sizeof(host), "10.0.2.%u", i);
        fake.monitors[i].number = i;
        fake.monitors[i].node = node_new(name, host, monitor_start, &fake.monitors[i]);
    }
    fake.client_node = node_new("client", "10.0.3.0", nothing_start, NULL);
    static struct client_open open;
    memset(&open, 0, sizeof(open));
    fake_enter();
    struct client_config config = {
        .core = &fake.client_node->core,
        .net = sim_net_port(fake.net, fake.client_node),
        .monitors = monitor_address,
        .monitor_count = FAKE_MONITORS,
        .name = "test",
        .timeout_ns = timeout_ns ? timeout_ns : 10 * NS_PER_S,
        .inflight_max = inflight_max,
    };
    client_open_start(&open, &config, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&open.op), 0);
    fake.client = open.ret_client;
}

int fake_open(bool write, bool force)
{
    static struct client_image_open open;

    memset(&open, 0, sizeof(open));
    fake_enter();
    client_image_open_start(&open, fake.client, "pool", "image", write, "writer", force, false, NULL);
    fake_leave();
    int result = fake_wait(&open.op);
    fake.image = open.ret_image;
    return result;
}

void fake_close(void)
{
    static struct client_image_close op;

    memset(&op, 0, sizeof(op));
    fake_enter();
    client_image_close_start(&op, fake.image, NULL);
    fake_leave();
    CHECK_EQ(fake_wait(&op.op), 0);
    fake.image = NULL;
}

void fake_down(void)
{
    if (fake.image)
        fake_close();
    fake_enter();
    client_free(fake.client);
    for (uint32_t i = 0; i < FAKE_BUFFERS; i++)
        buf_unref(fake.bufs[i]);
    fake_leave();
    sim_node_halt(fake.client_node);
    CHECK(!fake.sim->failed);
    if (fake.sim->failed)
        printf("# %s\n", fake.sim->failure);
    sim_net_free(fake.net);
    sim_free(fake.sim);
}

void fake_start(uint32_t slot, enum client_io_type type, uint64_t offset, uint64_t len, uint8_t fill)
{
    struct client_io *io = &fake.ios[slot];
    struct slice data = {0};

    fake_enter();
    buf_unref(fake.bufs[slot]);
    fake.bufs[slot] = NULL;
    if ((type == CLIENT_READ || type == CLIENT_WRITE) && len) {
        uint32_t shift = (uint32_t)(offset % 512); /* memory need not be aligned either */
        uint32_t room = (uint32_t)MIN(len + shift, BUF_SIZE_MAX);
        shift = room - (uint32_t)len;
        fake.bufs[slot] = buf_new(fake.client_node->core.arena, room);
        CHECK(fake.bufs[slot]);
        data = (struct slice){fake.bufs[slot], shift, (uint32_t)len};
        memset(slice_data(&data), type == CLIENT_WRITE ? fill : 0xee, len);
    }
    memset(io, 0, sizeof(*io));
    client_io_start(io, fake.image, type, offset, len, &data, NULL);
    fake_leave();
}

int fake_finish(uint32_t slot)
{
    return fake_wait(&fake.ios[slot].op);
}

int fake_io(enum client_io_type type, uint64_t offset, uint64_t len, uint8_t fill)
{
    fake_start(0, type, offset, len, fill);
    return fake_finish(0);
}

uint8_t *fake_data(uint32_t slot)
{
    return slice_data(&fake.ios[slot].data);
}
