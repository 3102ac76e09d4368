/* SPDX-License-Identifier: Apache-2.0
 *
 * Callers that lie: calls that are well formed, of clients and of OSD shards, with values that are near to
 * something that exists, or at the end of their range. The monitor answers each, asserts nothing, and its
 * successor can read what was written.
 */
#include <stdlib.h>
#include <string.h>

#include "base/placement.h"
#include "sim/rng.h"
#include "tests/mon/world.h"

#define RUNS        12
#define CALLS       300
#define OSDS        4
#define ITEMS_MAX   4
#define MEMORY_SIZE (256u << 10)

struct liar {
    struct sim_rng rng;
    uint8_t memory[MEMORY_SIZE];
    size_t used;
    uint64_t epoch;
    int call_case;
};

static struct liar liar;

static uint64_t below(uint64_t n)
{
    return sim_rng_below(&liar.rng, n);
}

static void *take(size_t size)
{
    void *memory = liar.memory + liar.used;

    liar.used += ALIGN_UP(size, 16u);
    ASSERT(liar.used <= MEMORY_SIZE);
    memset(memory, 0, size);
    return memory;
}

static uint64_t number(void)
{
    switch (below(10)) {
    case 0:
        return UINT64_MAX - below(3);
    case 1:
        return sim_rng_u64(&liar.rng) >> below(64);
    case 2:
    case 3:
        return placement_pg_id((uint32_t)(1 + below(4)), (uint32_t)below(6));
    case 4:
        return liar.epoch + below(3) - 1;
    case 5:
        return (1ull << 20) << below(20);
    default:
        return below(6);
    }
}

/* Names are mostly right. */
static char *string(const char *field)
{
    if (below(8) && !strcmp(field, "pool"))
        return below(3) ? "p" : "q";
    if (below(8) && (!strcmp(field, "name") || !strcmp(field, "image")))
        return below(2) ? "p" : below(3) ? "i" : "j";
    if (below(8) && !strcmp(field, "writer"))
        return below(2) ? "w" : "v";
    if (below(4) && !strcmp(field, "failure_domain"))
        return below(2) ? "host" : "osd";
    static const char *const texts[] = {
        "p",  "q",   "i",    "j",    "host0", "host1",     "", "w", "10.0.0.2:7000",
        "..", "a/b", "\xff", "host", "osd",   "10.0.1.1:1"};
    if (below(40) == 0) {
        size_t len = 1 + below(400);
        char *text = take(len + 1);
        memset(text, 'x', len);
        return text;
    }
    return (char *)(uintptr_t)texts[below(ARRAY_LEN(texts))];
}

static ProtobufCBinaryData bytes(void)
{
    size_t len = below(6) ? 16 : below(40);
    ProtobufCBinaryData data = {len, take(len + 1)};

    memset(data.data, 0, len);
    if (len)
        data.data[0] = (uint8_t)(1 + below(OSDS + 1));
    return data;
}

static void fill(ProtobufCMessage *message);

static ProtobufCMessage *message_new(const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = take(descriptor->sizeof_message);

    protobuf_c_message_init(descriptor, message);
    fill(message);
    return message;
}

static void fill_one(const ProtobufCFieldDescriptor *field, void *to)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)to = message_new(field->descriptor);
        return;
    case PROTOBUF_C_TYPE_STRING:
        *(char **)to = string(field->name);
        return;
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)to = bytes();
        return;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)to = (protobuf_c_boolean)below(2);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_INT64:
        *(uint64_t *)to = number();
        return;
    default:
        *(uint32_t *)to = (uint32_t)number();
        return;
    }
}

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_INT64:
        return 8;
    default:
        return 4;
    }
}

static void fill(ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        uint8_t *to = (uint8_t *)message + field->offset;
        if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ||
            (field->label == PROTOBUF_C_LABEL_OPTIONAL && below(2)))
            continue;
        if (field->label != PROTOBUF_C_LABEL_REPEATED) {
            fill_one(field, to);
            continue;
        }
        size_t count = below(ITEMS_MAX), size = size_of(field);
        uint8_t *items = take(count * size + 1);
        for (size_t n = 0; n < count; n++)
            fill_one(field, items + n * size);
        *(size_t *)((uint8_t *)message + field->quantifier_offset) = count;
        *(uint8_t **)to = items;
    }
}

static int lie(struct caller *c)
{
    const ProtobufCMessageDescriptor *d = &fb__mon_request__descriptor;
    const ProtobufCFieldDescriptor *field = &d->fields[below(d->n_fields)];
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    liar.used = 0;
    liar.call_case = (int)field->id;
    request.call_case = (Fb__MonRequest__CallCase)field->id;
    fill_one(field, (uint8_t *)&request + field->offset);
    /* Mostly by the one that it says it is. */
    if (request.call_case == FB__MON_REQUEST__CALL_SHARD_REPORT && below(8)) {
        request.shard_report->osd = c->self.osd;
        request.shard_report->shard = 0;
        request.shard_report->incarnation = c->self.incarnation;
        request.shard_report->epoch = MIN(request.shard_report->epoch, liar.epoch);
    }
    return call(c, &request);
}

/* What is true is said, too, so that there is something to lie about. */
static void truth(struct caller *client, struct caller *osds)
{
    for (uint32_t i = 0; i < OSDS; i++)
        (void)osd_boot(&osds[i], (uint8_t)(i + 1), 0, 1, "10.0.1.1:1");
    (void)pool_create(client, "p", 3, 4, "host");
    (void)pool_create(client, "q", 2, 2, "osd");
    (void)image_create(client, "p", "i", 1ull << 30);
    (void)image_create(client, "q", "j", 1ull << 20);
}

static void run(uint64_t seed)
{
    struct world *w = world_new();
    struct caller client, osds[OSDS];

    liar.rng = sim_rng_make(seed, "liar", 0);
    liar.epoch = 0;
    client_start(&client, w, 1);
    osds_up(w, osds, OSDS);
    truth(&client, osds);
    osds_confirm(osds, OSDS);
    for (uint32_t n = 0; n < CALLS; n++) {
        struct caller *c = below(2) ? &client : &osds[below(OSDS)];
        int result = lie(c);
        CHECK(result != -ERR_TIMEOUT);
        if (getenv("MON_TEST_VERBOSE"))
            printf("# call %d: %s %s\n", liar.call_case, error_name(result), said(c));
        if (c->answer)
            liar.epoch = MAX(liar.epoch, c->answer->epoch);
        world_run_ms(w, below(400));
        if (n % 16 == 15)
            truth(&client, osds);
        if (n % 100 < 99)
            continue;
        caller_stop(&client);
        for (uint32_t i = 0; i < OSDS; i++)
            caller_stop(&osds[i]);
        world_restart_mon(w);
        client_start(&client, w, 1);
        for (uint32_t i = 0; i < OSDS; i++)
            osd_start(&osds[i], w, i, 100 + n);
        CHECK_EQ(status(&client), 0);
        truth(&client, osds);
    }
    caller_stop(&client);
    for (uint32_t i = 0; i < OSDS; i++)
        caller_stop(&osds[i]);
    world_free(w);
}

static void lies_are_answered(void)
{
    const char *runs = getenv("MON_TEST_SEEDS"), *first = getenv("MON_TEST_FIRST");

    for (uint64_t i = 0; i < (runs ? strtoull(runs, NULL, 10) : RUNS); i++)
        run(i + 1 + (first ? strtoull(first, NULL, 10) : 0));
}

int main(void)
{
    TEST(lies_are_answered);
    return tap_done();
}
