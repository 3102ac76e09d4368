/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake cluster: see fake_cluster.h.
 */
#include "tests/client/fake_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/placement.h"
#include "wire/cold.h"

struct fake_cluster fake;

static const uint8_t cluster_uuid[16] = {1, 2, 3, 4};
/* Identities outlive restarts of a node. */
static struct rpc_identity shard_self[FAKE_SHARDS], monitor_self[FAKE_MONITORS];

uint32_t fake_pg_of(uint64_t offset)
{
    return placement_pg_number(FAKE_IMAGE, offset / OBJECT_SIZE, fake.pg_count);
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
    for (uint32_t i = 0; i < fake.pg_count; i++) {
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
    m.epoch = result ? fake.shard_epoch : 0;
    ASSERT(wire_cold_encode(&m.base, rpc_body(scratch), 64, &len) == 0);
    rpc_reply(ticket, result, rpc_body(scratch), len, NULL, 0);
}

/* Whatever a shard checks before it does anything. 0 or the error. */
static int shard_check(struct fake_shard *shard, uint64_t pg_id, uint64_t term, struct fake_pg **ret_pg)
{
    uint32_t number = (uint32_t)pg_id;

    ASSERT(pg_id >> 32 == FAKE_POOL);
    ASSERT(number < fake.pg_count);
    struct fake_pg *pg = &fake.pgs[number];
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

/* Is the object another PG's? That one was split then, and nobody has told the client yet. */
static bool has_moved(uint64_t pg, uint64_t object)
{
    bool moved = pg != placement_pg_id(FAKE_POOL, placement_pg_number(FAKE_IMAGE, object, fake.pg_count));

    ASSERT(!moved || fake.shard_epoch);
    return moved;
}

static void shard_write(struct fake_shard *shard, const struct rpc_ticket *ticket,
                        const struct rpc_message *message)
{
    struct wire_write_request m;
    uint32_t crc[WIRE_CRC_MAX];
    struct fake_pg *pg;

    shard->writes++;
    ASSERT(wire_write_request_decode(message->body, message->body_len, &m, crc) == 0);
    int error = shard_check(shard, m.pg, m.term, &pg);
    if (!error)
        error = shard_check_writer(pg, m.incarnation, m.generation);
    if (!error && has_moved(m.pg, m.object))
        error = -ERR_WRONG_PG;
    if (error) {
        reply_pg(ticket, error, pg);
        return;
    }
    ASSERT(m.offset + m.length <= OBJECT_SIZE && m.object < FAKE_OBJECTS);
    ASSERT(message->payload.len == m.length);
    const uint8_t *data = slice_data(&message->payload);
    uint32_t count = 0;
    for (uint32_t at = m.offset; at < m.offset + m.length; count++) {
        uint32_t next = MIN(ALIGN_DOWN(at, BLOCK_SIZE) + BLOCK_SIZE, m.offset + m.length);
        ASSERT(crc32c(0, data + (at - m.offset), next - at) == m.crc[count]);
        uint32_t block = at / BLOCK_SIZE;
        if (!fake.written[m.object][block])
            memset(fake.objects[m.object] + block * BLOCK_SIZE, 0, BLOCK_SIZE);
        fake.written[m.object][block] = true;
        at = next;
    }
    ASSERT(count == m.crc_count);
    ASSERT(count <= IO_BLOCKS_MAX);
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
    ASSERT(wire_read_request_decode(message->body, message->body_len, &m) == 0);
    int error = shard_check(shard, m.pg, m.term, &pg);
    if (!error && m.generation < fake.generation)
        error = -ERR_STALE_GENERATION;
    if (!error && has_moved(m.pg, m.object))
        error = -ERR_WRONG_PG;
    if (error) {
        reply_pg(ticket, error, pg);
        return;
    }
    ASSERT(m.block_count <= IO_BLOCKS_MAX && m.first_block + m.block_count <= BLOCKS_PER_OBJECT);
    struct wire_read_reply reply = {pg->term, pg->leader, 0, crc};
    struct slice piece = {0};
    bool any = false;
    for (uint32_t i = 0; i < m.block_count; i++)
        any = any || fake.written[m.object][m.first_block + i];
    if (any) {
        piece.buf = buf_new(shard->core->arena, m.block_count * BLOCK_SIZE);
        piece.len = m.block_count * BLOCK_SIZE;
        ASSERT(piece.buf);
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
    ASSERT(wire_cold_decode(&fb__clear_request__descriptor, message->body, message->body_len, &arena, &m) ==
           0);
    int error = shard_check(shard, m->pg, m->term, &pg);
    if (!error)
        error = shard_check_writer(pg, m->incarnation, m->generation);
    if (!error) {
        ASSERT(m->length > 0 && m->offset + m->length <= OBJECT_SIZE);
        ASSERT(m->exact || (m->offset % BLOCK_SIZE == 0 && m->length % BLOCK_SIZE == 0));
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
    ASSERT(wire_cold_decode(&fb__attach_request__descriptor, message->body, message->body_len, &arena, &m) ==
           0);
    ASSERT(m->image == FAKE_IMAGE);
    int error = shard_check(shard, m->pg, m->term, &pg);
    if (!error && m->pg_count < fake.pg_count)
        error = -ERR_WRONG_PG;
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

static uint64_t next_object(uint64_t pg, uint64_t object)
{
    while (++object < FAKE_OBJECTS)
        for (uint32_t i = 0; i < BLOCKS_PER_OBJECT && fake_pg_of(object * OBJECT_SIZE) == (uint32_t)pg; i++)
            if (fake.written[object][i])
                return object;
    return UINT64_MAX;
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
    ASSERT(wire_cold_decode(&fb__block_status_request__descriptor, message->body, message->body_len, &arena,
                            &m) == 0);
    int error = shard_check(shard, m->pg, m->term, &pg);
    if (!error && m->generation < fake.generation)
        error = -ERR_STALE_GENERATION;
    if (error) {
        reply_pg(ticket, error, pg);
    } else {
        reply.term = pg->term;
        reply.leader = pg->leader;
        reply.next_object = next_object(m->pg, m->object);
        reply.split_count = fake.split_count;
        for (uint32_t i = 0; i < BLOCKS_PER_OBJECT && m->object < FAKE_OBJECTS; i++)
            if (fake.written[m->object][i]) {
                bitmap[i / 8] |= (uint8_t)(1u << (i % 8));
                reply.written.data = bitmap;
                reply.written.len = sizeof(bitmap);
            }
        ASSERT(wire_cold_encode(&reply.base, rpc_body(scratch), 256, &len) == 0);
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

void fake_shard_start(uint32_t number, struct core *core, struct net *net, uint64_t incarnation)
{
    struct fake_shard *shard = &fake.shards[number];
    struct rpc_server_config config = {
        .core = core,
        .net = net,
        .address = shard->address,
        .self = &shard_self[number],
        .sessions_max = 16,
        .requests_max = 1024,
        .opened = shard_opened,
        .message = shard_message,
        .owner = shard,
    };

    shard->core = core;
    shard_self[number] =
        (struct rpc_identity){.role = RPC_OSD, .osd = number + 1, .incarnation = incarnation};
    shard_self[number].osd_uuid[0] = (uint8_t)(number + 1);
    memcpy(shard_self[number].cluster, cluster_uuid, 16);
    ASSERT(rpc_server_new(&config, &shard->server) == 0);
    snprintf(shard->address, sizeof(shard->address), "%s", rpc_server_address(shard->server));
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
    Fb__Pg pg[FAKE_PGS_MAX], *pgs[FAKE_PGS_MAX];
    Fb__PgMember member[FAKE_PGS_MAX][FAKE_SHARDS], *members[FAKE_PGS_MAX][FAKE_SHARDS];
};

static Fb__ClusterMap *map_now(struct fake_map *m)
{
    fb__cluster_map__init(&m->map);
    m->map.cluster = (ProtobufCBinaryData){16, (uint8_t *)cluster_uuid};
    m->map.epoch = fake.epoch;
    m->map.newest_epoch = fake.newest_epoch;
    m->map.paused = fake.paused;
    m->map.n_osd = FAKE_SHARDS;
    m->map.osd = m->osds;
    for (uint32_t i = 0; i < FAKE_SHARDS; i++) {
        fb__osd__init(&m->osd[i]);
        fb__osd_shard__init(&m->shard[i]);
        m->osds[i] = &m->osd[i];
        m->shards[i] = &m->shard[i];
        m->osd[i].id = i + 1;
        m->osd[i].up = true;
        m->osd[i].removed = fake.gone[i];
        m->osd[i].n_shard = 1;
        m->osd[i].shard = &m->shards[i];
        m->shard[i].address = fake.shards[i].address;
    }
    fb__pool__init(&m->pool);
    m->pool.id = FAKE_POOL;
    m->pool.name = (char *)"pool";
    m->pool.pg_count = fake.pg_count;
    m->pools[0] = &m->pool;
    m->map.n_pool = 1;
    m->map.pool = m->pools;
    m->map.n_pg = fake.pg_count;
    m->map.pg = m->pgs;
    for (uint32_t i = 0; i < fake.pg_count; i++) {
        fb__pg__init(&m->pg[i]);
        m->pgs[i] = &m->pg[i];
        m->pg[i].id = placement_pg_id(FAKE_POOL, i);
        m->pg[i].n_member = FAKE_SHARDS - fake.joining;
        m->pg[i].member = m->members[i];
        m->pg[i].n_wanted = fake.joining ? FAKE_SHARDS : 0;
        m->pg[i].wanted = m->members[i];
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
    fake.forced = call->force;
    fake.force_over = call->force_over;
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
    ASSERT(wire_cold_decode(&fb__mon_request__descriptor, message->body, message->body_len, &arena,
                            &request) == 0);
    switch (request->call_case) {
    case FB__MON_REQUEST__CALL_SUBSCRIBE:
        monitor->subscribes++;
        monitor->wholes += !request->subscribe->since_epoch;
        monitor->writing = 0;
        for (size_t i = 0; i < request->subscribe->n_writing; i++)
            monitor->writing += request->subscribe->writing[i] == FAKE_IMAGE;
        if (!rpc_session_context(session) && monitor->subscriber_count < ARRAY_LEN(monitor->subscribers)) {
            monitor->subscribers[monitor->subscriber_count++] = session;
            rpc_session_set_context(session, monitor);
        }
        reply.map = map_now(&map);
        reply.epoch = fake.newest_epoch;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_OPEN:
        monitor->opens++;
        monitor_open(request->image_open, &reply, &result);
        break;
    case FB__MON_REQUEST__CALL_IMAGE_CLOSE:
        monitor->closes++;
        result = fake.close_error;
        break;
    case FB__MON_REQUEST__CALL_IMAGE_GET:
        monitor->gets++;
        if (fake.removed)
            result = -ERR_NOT_FOUND;
        else
            reply.image = image_now();
        break;
    case FB__MON_REQUEST__CALL_IMAGE_RESIZE:
        result = monitor->resizes++ < FAKE_BUSY     ? -ERR_BUSY
                 : request->image_resize->lose_data ? 0
                                                    : -ERR_INVALID;
        break;
    default:
        result = -ERR_UNSUPPORTED;
    }
    ASSERT(wire_cold_encode(&reply.base, scratch + FRAME_HEADER_SIZE, 65536, &len) == 0);
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

void fake_monitor_start(uint32_t number, struct core *core, struct net *net)
{
    struct fake_monitor *monitor = &fake.monitors[number];
    struct rpc_server_config config = {
        .core = core,
        .net = net,
        .address = monitor->address,
        .self = &monitor_self[number],
        .sessions_max = 16,
        .requests_max = 64,
        .closed = monitor_closed,
        .message = monitor_message,
        .owner = monitor,
    };

    monitor->subscriber_count = 0;
    monitor_self[number] = (struct rpc_identity){.role = RPC_MON};
    memcpy(monitor_self[number].cluster, cluster_uuid, 16);
    ASSERT(rpc_server_new(&config, &monitor->server) == 0);
    snprintf(monitor->address, sizeof(monitor->address), "%s", rpc_server_address(monitor->server));
}

static void fake_monitor_tell(struct fake_monitor *monitor, const Fb__MonEvent *event)
{
    RPC_FRAME_SCRATCH(scratch, 512);
    uint32_t len;

    ASSERT(wire_cold_encode(&event->base, rpc_body(scratch), 512, &len) == 0);
    for (uint32_t i = 0; i < monitor->subscriber_count; i++)
        ASSERT(rpc_session_send(monitor->subscribers[i], METHOD_MON_EVENT, false, rpc_body(scratch), len,
                                NULL, 0) == 0);
}

void fake_monitor_announce(uint32_t number)
{
    Fb__MonEvent event = FB__MON_EVENT__INIT;

    event.image = image_now();
    fake_monitor_tell(&fake.monitors[number], &event);
}

void fake_monitor_order(uint32_t number)
{
    Fb__MonEvent event = FB__MON_EVENT__INIT;
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__ImageOrder order = FB__IMAGE_ORDER__INIT, *orders = &order;

    order.image = FAKE_IMAGE + 1;
    order.pool = FAKE_POOL;
    order.deleted = true;
    map.base_epoch = fake.epoch++;
    order.epoch = map.epoch = fake.epoch;
    map.order = &orders;
    map.n_order = 1;
    event.map = &map;
    fake_monitor_tell(&fake.monitors[number], &event);
}

void fake_monitor_leads(uint32_t number)
{
    Fb__MonEvent event = FB__MON_EVENT__INIT;

    event.leader = fake.monitors[number].address;
    fake_monitor_tell(&fake.monitors[number], &event);
}

void fake_reset(void)
{
    memset(&fake, 0, sizeof(fake));
    fake.epoch = 5;
    fake.generation = 1;
    fake.size_bytes = FAKE_IMAGE_SIZE;
    fake.pg_count = FAKE_PGS;
    for (uint32_t i = 0; i < FAKE_PGS_MAX; i++)
        fake.pgs[i] = (struct fake_pg){.term = 3 + i, .leader = i % FAKE_SHARDS + 1, .generation = 1};
}
