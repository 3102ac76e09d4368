/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that lie: well-formed requests of clients, and of another shard in its own name, with values near to
 * what exists or at the end of their range. Each is answered, nothing asserts, and the PG goes on. With the
 * real store.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "sim/rng.h"
#include "tests/osd/fake_store.h"
#include "tests/osd/world.h"

void fake_store_forget_all(void)
{
}

#define RUNS  20
#define CALLS 400
#define BODY  8192

static struct sim_rng rng;
static uint8_t frame[FRAME_HEADER_SIZE + BODY], bytes[256], reply[FRAME_BODY_MAX];
static uint64_t pg_id, term, last_index;
static uint32_t replica, sender;

static uint64_t below(uint64_t n)
{
    return sim_rng_below(&rng, n);
}

static uint64_t number(void)
{
    switch (below(12)) {
    case 0:
        return UINT64_MAX - below(3);
    case 1:
        return sim_rng_u64(&rng) >> below(64);
    case 2:
        return (BLOCK_SIZE << below(10)) + below(3) - 1;
    case 3:
        return BLOCKS_PER_OBJECT - below(3);
    case 4:
        return last_index - below(3);
    case 5:
        return IMAGE;
    default:
        return below(6);
    }
}

/* What decides whether anybody looks further is mostly right. */
static uint64_t value_of(const char *field)
{
    if (below(16)) {
        if (!strcmp(field, "pg"))
            return pg_id;
        if (!strcmp(field, "term"))
            return term;
        if (!strcmp(field, "image") || !strcmp(field, "after_image") || !strcmp(field, "end_image"))
            return IMAGE;
        if (!strcmp(field, "generation") || !strcmp(field, "incarnation"))
            return below(200) ? 1 : number();
        if (!strcmp(field, "first_block"))
            return below(BLOCKS_PER_OBJECT);
        if (!strcmp(field, "block_count") || !strcmp(field, "limit"))
            return 1 + below(64);
        if (!strcmp(field, "object") || !strcmp(field, "after_object") || !strcmp(field, "end_object"))
            return below(3);
        if (!strcmp(field, "size_bytes"))
            return 1ull << 30;
        if (!strcmp(field, "pg_count"))
            return 1;
        if (!strcmp(field, "to"))
            return replica;
        if (!strcmp(field, "from"))
            return sender;
    }
    return number();
}

static void fill(ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &m->descriptor->fields[i];
        void *to = (uint8_t *)m + field->offset;
        static uint32_t numbers[256];
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            if (field->type == PROTOBUF_C_TYPE_FIXED32) {
                *(size_t *)((uint8_t *)m + field->quantifier_offset) =
                    below(3) ? 0 : below(ARRAY_LEN(numbers));
                *(uint32_t **)to = numbers;
            }
        } else if (field->type == PROTOBUF_C_TYPE_BOOL) {
            *(protobuf_c_boolean *)to = (protobuf_c_boolean)below(2);
        } else if (field->type == PROTOBUF_C_TYPE_BYTES) {
            static const size_t lens[] = {0, 1, 16, 32, 64};
            *(ProtobufCBinaryData *)to = (ProtobufCBinaryData){lens[below(ARRAY_LEN(lens))], bytes};
        } else if (field->type == PROTOBUF_C_TYPE_UINT64 || field->type == PROTOBUF_C_TYPE_FIXED64) {
            *(uint64_t *)to = value_of(field->name);
        } else if (field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_FIXED32) {
            *(uint32_t *)to = (uint32_t)value_of(field->name);
        }
    }
}

static const struct {
    enum method method;
    const ProtobufCMessageDescriptor *type;
} calls[] = {
    {METHOD_CLEAR, &fb__clear_request__descriptor},
    {METHOD_CLEAR, &fb__clear_request__descriptor},
    {METHOD_ATTACH, &fb__attach_request__descriptor},
    {METHOD_BLOCK_STATUS, &fb__block_status_request__descriptor},
    {METHOD_PG_TRANSFER, &fb__pg_transfer_request__descriptor},
    {METHOD_PG_STATUS, &fb__pg_status_request__descriptor},
    {METHOD_RECOVER_LIST, &fb__recover_list_request__descriptor},
    {METHOD_RECOVER_READ, &fb__recover_read_request__descriptor},
    {METHOD_SCRUB, &fb__scrub_request__descriptor},
};

static uint32_t encode_read(void)
{
    struct wire_read_request m = {
        .pg = value_of("pg"),
        .term = value_of("term"),
        .image = value_of("image"),
        .object = value_of("object"),
        .generation = below(3),
        .first_block = (uint32_t)value_of("first_block"),
        .block_count = (uint32_t)value_of("block_count"),
        .epoch = number(),
    };
    return (uint32_t)wire_read_request_encode(rpc_body(frame), &m);
}

/* Mostly with the checksums and the payload that it says. */
static uint32_t encode_write(struct core *core, struct slice *ret_payload)
{
    static uint32_t crc[WIRE_CRC_MAX];
    struct wire_write_request m = {
        .pg = value_of("pg"),
        .term = value_of("term"),
        .image = value_of("image"),
        .object = below(4) ? below(3) : number(),
        .generation = value_of("generation"),
        .incarnation = value_of("incarnation"),
        .offset = (uint32_t)(below(2) ? below(OBJECT_SIZE) : number()),
        .length = (uint32_t)(below(2) ? 1 + below(3 * BLOCK_SIZE) : number()),
        .crc = crc,
    };
    uint32_t len = below(8) ? MIN(m.length, IO_SIZE_MAX) : (uint32_t)below(BLOCK_SIZE);

    len = MAX(len, 1u);
    *ret_payload = (struct slice){buf_new(core->arena, len), 0, len};
    if (!ret_payload->buf)
        return 0;
    memset(slice_data(ret_payload), (int)below(256), len);
    for (uint32_t at = m.offset, end = m.offset + len; at < end && m.crc_count < WIRE_CRC_MAX;) {
        uint32_t next = MIN(ALIGN_DOWN(at, BLOCK_SIZE) + BLOCK_SIZE, end);
        crc[m.crc_count++] = crc32c(0, slice_data(ret_payload), next - at);
        at = next;
    }
    return (uint32_t)wire_write_request_encode(rpc_body(frame), &m);
}

static void ask(struct world *w, struct sim_node *node, struct rpc_peer *peer)
{
    struct rpc_call call = {.reply = reply, .reply_cap = sizeof(reply)};
    struct slice payload = {0};
    uint64_t message[64] = {0};
    uint32_t len = 0, kind = (uint32_t)below(ARRAY_LEN(calls) + 4);
    enum method method = kind < ARRAY_LEN(calls) ? calls[kind].method : kind % 2 ? METHOD_READ : METHOD_WRITE;
    int error = 0;

    if (!peer || !rpc_peer_is_open(peer))
        return;
    sim_node_enter(node);
    if (kind < ARRAY_LEN(calls)) {
        ASSERT(calls[kind].type->sizeof_message <= sizeof(message));
        protobuf_c_message_init(calls[kind].type, message);
        fill((ProtobufCMessage *)message);
        error = wire_cold_encode((ProtobufCMessage *)message, rpc_body(frame), BODY, &len);
    } else {
        len = method == METHOD_READ ? encode_read() : encode_write(&node->core, &payload);
    }
    if (!error && len)
        error = rpc_call_start(&call, peer, NULL, method, rpc_body(frame), len, &payload, payload.buf ? 1 : 0,
                               core_now_ns(&node->core) + 8 * NS_PER_S);
    sim_node_leave(node);
    if (!error && len) {
        WAIT_FOR(w, 9000, !call.pending);
        CHECK(call.result != -ERR_TIMEOUT);
        if (getenv("OSD_TEST_CALLS"))
            printf("# method %d: %s\n", method, error_name(call.result));
    }
    sim_node_enter(node);
    slice_unref(&payload);
    slice_unref(&call.reply_payload);
    sim_node_leave(node);
}

static void run(uint64_t seed)
{
    struct world *w = world_new(seed, 1);
    static uint8_t data[BLOCK_SIZE];
    uint32_t leader;

    rng = sim_rng_make(seed, "calls", 0);
    pg_id = world_pg(w, 0);
    CHECK_EQ(world_attach(w, 1, 1), 0);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(world_write(w, i % 2, i * 70 * BLOCK_SIZE, BLOCK_SIZE, data), 0);
    for (uint32_t n = 0; n < CALLS && !w->sim->failed; n++) {
        leader = world_leader(w, pg_id);
        uint32_t to = leader != UINT32_MAX && below(4) ? leader : (uint32_t)below(OSDS),
                 from = (to + 1 + (uint32_t)below(OSDS - 1)) % OSDS;
        const struct pg *pg = pg_find(w->osds[to].shard, pg_id);
        term = pg->raft.term;
        last_index = pg->raft.last_index;
        replica = to + 1;
        sender = from + 1;
        if (below(3))
            ask(w, w->client, w->peers[to]);
        else
            ask(w, w->osds[from].node, shard_peer_find(w->osds[from].shard, to, 0)->rpc);
    }
    /* The image has another generation or writer by now, perhaps; or an end where it had none. */
    WAIT_FOR(w, 20000, world_settled(w));
    struct io attach = io_make(w, IO_ATTACH, 0, 0, 0), write = io_make(w, IO_WRITE, 0, 0, BLOCK_SIZE);
    attach.force_pg = pg_id;
    attach.image = write.image = IMAGE + 1000;
    CHECK_EQ(io_run(&attach), 0);
    write.data = data;
    CHECK_EQ(io_run(&write), 0);
    CHECK(!w->sim->failed);
    if (w->sim->failed)
        printf("# seed %d: %s\n", (int)seed, w->sim->failure);
    world_free(w);
}

static void test_lying_calls(void)
{
    const char *more = getenv("OSD_TEST_SEEDS");

    for (uint64_t seed = 1; seed <= (more ? strtoull(more, NULL, 10) : RUNS) && tap_ok; seed++)
        run(seed);
}

int main(void)
{
    TEST(test_lying_calls);
    return tap_done();
}
