/* SPDX-License-Identifier: Apache-2.0
 *
 * Between struct rpc_identity and Fb__Hello.
 */
#include "rpc/hello.h"

#include <ctype.h>
#include <string.h>

#include "base/error.h"
#include "wire/cold.h"

_Static_assert((int)RPC_CLIENT == FB__ROLE__ROLE_CLIENT && (int)RPC_OSD == FB__ROLE__ROLE_OSD &&
                   (int)RPC_MON == FB__ROLE__ROLE_MON,
               "roles are the same in code and on the wire");

static bool is_zero(const uint8_t id[16])
{
    static const uint8_t zero[16];
    return memcmp(id, zero, 16) == 0;
}

/* All zeros stand for "not known", which is an empty field. */
static ProtobufCBinaryData id_field(const uint8_t id[16])
{
    return (ProtobufCBinaryData){.len = is_zero(id) ? 0 : 16, .data = (uint8_t *)id};
}

static bool id_read(const ProtobufCBinaryData *field, uint8_t ret_id[16])
{
    if (field->len != 0 && field->len != 16)
        return false;
    if (field->len)
        memcpy(ret_id, field->data, 16);
    return true;
}

uint32_t rpc_hello_encode(uint8_t body[HELLO_BODY_MAX], const struct rpc_hello *hello)
{
    const struct rpc_identity *who = &hello->who;
    Fb__Hello message = FB__HELLO__INIT;
    char name[sizeof(who->name)];
    uint32_t len = 0;

    memcpy(name, who->name, sizeof(name));
    name[sizeof(name) - 1] = '\0';
    message.protocol = hello->protocol;
    message.role = (Fb__Role)who->role;
    message.cluster = id_field(who->cluster);
    message.version = (char *)FASTBLOCK_VERSION;
    message.osd = who->osd;
    message.osd_uuid = id_field(who->osd_uuid);
    message.shard = who->shard;
    message.incarnation = who->incarnation;
    message.start_token = who->start_token;
    message.command = who->command;
    message.client_uuid = id_field(who->client_uuid);
    message.session = who->session;
    message.name = name;
    message.epoch = who->epoch;
    message.image_id_max = who->image_id_max;
    message.has_target = hello->has_target;
    message.target_osd = hello->target_osd;
    message.target_shard = hello->target_shard;
    int error = wire_cold_encode(&message.base, body, HELLO_BODY_MAX, &len);
    ASSERT(!error); /* every field is bounded */
    return len;
}

static int hello_read(const Fb__Hello *message, struct rpc_hello *ret)
{
    struct rpc_hello hello = {
        .protocol = message->protocol,
        .who = {.role = (enum rpc_role)message->role,
                .osd = message->osd,
                .shard = message->shard,
                .incarnation = message->incarnation,
                .start_token = message->start_token,
                .command = message->command,
                .session = message->session,
                .epoch = message->epoch,
                .image_id_max = message->image_id_max},
        .has_target = message->has_target,
        .target_osd = message->target_osd,
        .target_shard = message->target_shard,
    };
    struct rpc_identity *who = &hello.who;

    if (message->protocol != RPC_PROTOCOL)
        return -ERR_VERSION;
    if (who->role != RPC_CLIENT && who->role != RPC_OSD && who->role != RPC_MON)
        return -ERR_PROTOCOL;
    if (!id_read(&message->cluster, who->cluster) || !id_read(&message->osd_uuid, who->osd_uuid) ||
        !id_read(&message->client_uuid, who->client_uuid))
        return -ERR_PROTOCOL;
    for (size_t i = 0; i < sizeof(who->name) - 1 && message->name[i]; i++)
        who->name[i] = isprint((unsigned char)message->name[i]) ? message->name[i] : '?';
    *ret = hello;
    return 0;
}

int rpc_hello_decode(const uint8_t *body, uint32_t len, struct rpc_hello *ret)
{
    _Alignas(16) uint8_t memory[2048];
    struct wire_arena arena;
    Fb__Hello *message;

    /* The caller is not known yet: no memory but this. */
    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error = wire_cold_decode(&fb__hello__descriptor, body, len, &arena, &message);
    if (!error)
        error = hello_read(message, ret);
    wire_arena_fini(&arena);
    return error;
}

int rpc_hello_check_cluster(const struct rpc_identity *a, const struct rpc_identity *b)
{
    if (is_zero(a->cluster) || is_zero(b->cluster) || memcmp(a->cluster, b->cluster, 16) == 0)
        return 0;
    return -ERR_CLUSTER;
}
