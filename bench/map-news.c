/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-map-news: how long until everybody knows of a change of the map.
 *
 *     FASTBLOCK_MON=ADDRESS bench-map-news [SUBSCRIBERS [CHANGES]]
 *
 * Subscribers with a session each, as clients have, and every OSD of the cluster. A change is host
 * maintenance, on or off, of the first OSD's host: an item for each OSD there. Counted from when it is sent
 * to the monitor: until its answer, until the first and the last subscriber have the delta, and until the
 * last OSD names the new epoch in a handshake, which is tried anew all the time, so that includes connecting.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "rpc/rpc.h"
#include "wire/cold.h"

#define OSDS_MAX 64
#define WAIT_NS  (20 * NS_PER_S)

struct subscriber {
    struct rpc_identity self;
    struct rpc_peer *rpc;
    struct rpc_call call;
    uint64_t epoch, seen_ns;
};

struct osd {
    char address[128];
    uint32_t id, shard;
    struct rpc_peer *rpc;
    uint64_t epoch, seen_ns;
};

static struct uring_core *uc;
static struct core *core;
static struct net *net;
static struct rpc_identity self = {.role = RPC_CLIENT, .client_uuid = {1}, .name = "bench-map-news"};
static struct osd osds[OSDS_MAX];
static uint32_t osd_count, delta_bytes;
static uint8_t answer[FRAME_BODY_MAX], scratch[FRAME_HEADER_SIZE + FRAME_BODY_MAX];
static char host[128];

static void die(const char *what, int error)
{
    fprintf(stderr, "bench-map-news: %s: %s\n", what, error_text(error));
    exit(1);
}

static void on_oneway(void *owner, struct rpc_peer *peer, const struct rpc_message *message)
{
    struct subscriber *s = owner;
    struct wire_arena arena;
    Fb__MonEvent *event;

    (void)peer;
    if (message->method != METHOD_MON_EVENT)
        return;
    wire_arena_init(&arena, NULL, 0, WIRE_ARENA_MAX);
    if (!wire_cold_decode(&fb__mon_event__descriptor, message->body, message->body_len, &arena, &event) &&
        event->map) {
        s->epoch = event->map->epoch;
        s->seen_ns = core_now_ns(core);
        delta_bytes = message->body_len;
    }
    wire_arena_fini(&arena);
}

static void on_greeted(void *owner, struct rpc_peer *peer, const struct rpc_identity *who)
{
    struct osd *o = owner;

    (void)peer;
    o->epoch = who->epoch;
    o->seen_ns = core_now_ns(core);
}

static void call_start(struct rpc_peer *rpc, struct rpc_call *call, Fb__MonRequest *request)
{
    uint32_t len;

    if (wire_cold_encode(&request->base, rpc_body(scratch), FRAME_BODY_MAX, &len))
        die("a request", -ERR_TOO_LARGE);
    *call = (struct rpc_call){.reply = answer, .reply_cap = sizeof(answer)};
    int error = rpc_call_start(call, rpc, NULL, METHOD_MON, rpc_body(scratch), len, NULL, 0,
                               core_now_ns(core) + WAIT_NS);
    if (error)
        die("a call to the monitor", error);
}

static void call_wait(struct rpc_call *call)
{
    while (call->pending)
        uring_core_turn(uc, 10 * NS_PER_MS);
    if (call->result)
        die("the monitor's answer", call->result);
}

static struct rpc_peer *connect_to(const char *address, struct rpc_identity *as, void *owner, bool osd)
{
    struct rpc_peer *rpc = rpc_peer_new(&(struct rpc_peer_config){.core = core,
                                                                  .net = net,
                                                                  .address = address,
                                                                  .self = as,
                                                                  .calls_max = 4,
                                                                  .opened = osd ? on_greeted : NULL,
                                                                  .oneway = osd ? NULL : on_oneway,
                                                                  .owner = owner});
    if (!rpc)
        die("a connection", -ERR_NO_MEMORY);
    return rpc;
}

static void open_wait(struct rpc_peer *rpc)
{
    uint64_t until_ns = core_now_ns(core) + WAIT_NS;

    while (!rpc_peer_is_open(rpc) && core_now_ns(core) < until_ns)
        uring_core_turn(uc, 10 * NS_PER_MS);
    if (!rpc_peer_is_open(rpc))
        die("cannot connect", rpc_peer_error(rpc));
}

/* The OSDs come first of the map, which may have several parts. Returns the newest epoch. */
static uint64_t look(struct rpc_peer *control)
{
    Fb__MonRequest request = FB__MON_REQUEST__INIT;
    Fb__MapGet get = FB__MAP_GET__INIT;
    uint64_t epoch = 0, last;
    struct rpc_call call;

    request.call_case = FB__MON_REQUEST__CALL_MAP_GET;
    request.map_get = &get;
    do {
        struct wire_arena arena;
        Fb__MonReply *reply;

        last = epoch;
        get.since_epoch = epoch;
        call_start(control, &call, &request);
        call_wait(&call);
        wire_arena_init(&arena, NULL, 0, 64u << 20);
        int error = wire_cold_decode(&fb__mon_reply__descriptor, answer, call.reply_len, &arena, &reply);
        if (error || !reply->map)
            die("the map", error);
        for (size_t i = 0; i < reply->map->n_osd; i++)
            for (size_t s = 0; s < reply->map->osd[i]->n_shard && osd_count < OSDS_MAX; s++) {
                struct osd *o = &osds[osd_count++];
                o->id = reply->map->osd[i]->id;
                o->shard = (uint32_t)s;
                snprintf(o->address, sizeof(o->address), "%s", reply->map->osd[i]->shard[s]->address);
                snprintf(host, sizeof(host), "%s", reply->map->osd[i]->host);
            }
        epoch = reply->map->epoch;
        wire_arena_fini(&arena);
    } while (epoch != last);
    return epoch;
}

static bool osds_know(uint64_t before)
{
    bool all = true;

    for (uint32_t i = 0; i < osd_count; i++) {
        struct osd *o = &osds[i];
        if (o->epoch > before)
            continue;
        all = false;
        if (o->rpc && o->seen_ns) { /* it has answered, and knew less */
            rpc_peer_free(o->rpc);
            o->rpc = NULL;
        }
        o->seen_ns = o->rpc ? o->seen_ns : 0;
        if (!o->rpc)
            o->rpc = connect_to(o->address, &self, o, true);
    }
    return all;
}

static bool all_know(const struct subscriber *subs, uint32_t count, uint64_t before)
{
    for (uint32_t i = 0; i < count; i++)
        if (subs[i].epoch <= before)
            return false;
    return true;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
    uint32_t count = argc > 1 ? (uint32_t)atoi(argv[1]) : 100,
             changes = argc > 2 ? (uint32_t)atoi(argv[2]) : 20;
    const char *mon = getenv("FASTBLOCK_MON");
    struct subscriber *subs = calloc(count + 1, sizeof(*subs));
    double *ms[4];

    changes += changes % 2; /* in the end it is off again */
    if (!mon || !count || !changes || !subs) {
        fprintf(stderr, "usage: FASTBLOCK_MON=ADDRESS bench-map-news [SUBSCRIBERS [CHANGES]]\n");
        return 2;
    }
    for (int i = 0; i < 4; i++)
        if (!(ms[i] = calloc(changes, sizeof(double))))
            return 1;
    int error =
        uring_core_new(&(struct uring_core_opts){.arena_bytes = 64u << 20, .log_level = LOG_ERROR}, &uc);
    if (error)
        die("a core", error);
    core = uring_core_core(uc);
    net = tcp_net_new(uc);
    for (int i = 0; i < 8; i++) /* nobody's former sessions */
        self.client_uuid[8 + i] = (uint8_t)(core_random_u64(core) >> 8 * i);
    struct rpc_peer *control = connect_to(mon, &self, &subs[count], false);
    open_wait(control);
    uint64_t epoch = look(control);
    for (uint32_t i = 0; i < count; i++) {
        Fb__MonRequest request = FB__MON_REQUEST__INIT;
        Fb__Subscribe subscribe = FB__SUBSCRIBE__INIT;

        subs[i].self = self;
        subs[i].self.client_uuid[1] = (uint8_t)(i + 1);
        subs[i].rpc = connect_to(mon, &subs[i].self, &subs[i], false);
        open_wait(subs[i].rpc);
        subs[i].epoch = subscribe.since_epoch = epoch;
        request.call_case = FB__MON_REQUEST__CALL_SUBSCRIBE;
        request.subscribe = &subscribe;
        call_start(subs[i].rpc, &subs[i].call, &request);
        call_wait(&subs[i].call);
    }
    for (uint32_t n = 0; n < changes; n++) {
        Fb__MonRequest request = FB__MON_REQUEST__INIT;
        Fb__HostMaintenance maintenance = FB__HOST_MAINTENANCE__INIT;
        struct rpc_call call;
        uint64_t before = 0;

        for (uint32_t i = 0; i < count; i++)
            before = MAX(before, subs[i].epoch);
        for (uint32_t i = 0; i < osd_count; i++)
            before = MAX(before, osds[i].epoch);
        maintenance.host = host;
        maintenance.on = n % 2 == 0;
        request.call_case = FB__MON_REQUEST__CALL_HOST_MAINTENANCE;
        request.host_maintenance = &maintenance;
        uint64_t begun_ns = core_now_ns(core), answered_ns = 0, first_ns = UINT64_MAX, last_ns = 0,
                 osd_ns = 0;
        call_start(control, &call, &request);
        while (!osds_know(before) || !all_know(subs, count, before) || call.pending) {
            uring_core_turn(uc, NS_PER_MS);
            if (!call.pending && !answered_ns)
                answered_ns = core_now_ns(core);
            if (core_now_ns(core) - begun_ns > WAIT_NS)
                die("not everybody hears of it", -ERR_TIMEOUT);
        }
        if (call.result)
            die("the change", call.result);
        for (uint32_t i = 0; i < count; i++) {
            first_ns = MIN(first_ns, subs[i].seen_ns);
            last_ns = MAX(last_ns, subs[i].seen_ns);
        }
        for (uint32_t i = 0; i < osd_count; i++)
            osd_ns = MAX(osd_ns, osds[i].seen_ns);
        uint64_t at[4] = {answered_ns ? answered_ns : core_now_ns(core), first_ns, last_ns, osd_ns};
        for (int i = 0; i < 4; i++)
            ms[i][n] = (double)(at[i] - begun_ns) / 1e6;
    }
    static const char *const names[] = {"the monitor's answer", "the first subscriber", "the last subscriber",
                                        "the last OSD"};
    printf("%u subscribers, %u OSD shards, %u changes; the delta has %u bytes\n", count, osd_count, changes,
           delta_bytes);
    for (int i = 0; i < 4; i++) {
        qsort(ms[i], changes, sizeof(double), compare);
        printf("%-22s median %6.2f ms, most %6.2f ms\n", names[i], ms[i][changes / 2], ms[i][changes - 1]);
    }
    fflush(stdout);
    _Exit(0); /* sessions and all end with the process */
}
