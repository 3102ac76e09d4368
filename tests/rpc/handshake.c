/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may talk to whom: HELLO, its refusals on either side, and what is not a HELLO.
 */
#include <string.h>

#include "rpc/hello.h"
#include "tests/rpc/world.h"

static void both_learn_who(void)
{
    struct world *w = world_new(1, NULL);
    struct client c = {0};

    client_start(&c, w, NULL);
    CHECK(!rpc_peer_is_open(c.peer) && rpc_peer_identity(c.peer) == NULL);
    WAIT_FOR(w, 100, c.opened == 1);
    const struct rpc_identity *server = rpc_peer_identity(c.peer);
    CHECK_EQ(server->role, RPC_OSD);
    CHECK_EQ(server->osd, 4);
    CHECK_EQ(server->shard, 1);
    CHECK_EQ(server->incarnation, 5);
    CHECK_EQ(server->epoch, 77);
    CHECK_EQ(server->image_id_max, 88);
    CHECK(memcmp(server->cluster, w->server_self.cluster, 16) == 0);
    CHECK(memcmp(server->osd_uuid, w->server_self.osd_uuid, 16) == 0);
    CHECK(strcmp(server->name, "osd.4") == 0);
    CHECK_EQ(w->opened, 1);
    const struct rpc_identity *client = rpc_session_identity(w->last_opened);
    CHECK_EQ(client->role, RPC_CLIENT);
    CHECK_EQ(client->session, 1);
    CHECK(memcmp(client->client_uuid, w->client_self.client_uuid, 16) == 0);
    CHECK(strcmp(client->name, "test") == 0);
    CHECK(strstr(rpc_session_address(w->last_opened), "10.0.0.2") != NULL);
    client_stop(&c);
    world_free(w);
}

static void target_right(struct rpc_peer_config *config)
{
    config->has_target = true;
    config->target_osd = 4;
    config->target_shard = 1;
}

static void target_other_osd(struct rpc_peer_config *config)
{
    target_right(config);
    config->target_osd = 5;
}

static void target_other_shard(struct rpc_peer_config *config)
{
    target_right(config);
    config->target_shard = 0;
}

static void other_cluster(struct rpc_peer_config *config)
{
    config->self->cluster[0] = 200;
}

static void same_cluster(struct rpc_peer_config *config)
{
    memcpy(config->self->cluster, (uint8_t[16]){1, 2, 3}, 16);
}

static void no_uuid(struct rpc_peer_config *config)
{
    memset(config->self->client_uuid, 0, 16);
}

static void refusals(void)
{
    static const struct {
        void (*adjust)(struct rpc_peer_config *config);
        int greet_result;
        int error;
    } cases[] = {
        {target_right, 0, 0},
        {same_cluster, 0, 0},
        {target_other_osd, 0, -ERR_IDENTITY},
        {target_other_shard, 0, -ERR_IDENTITY},
        {other_cluster, 0, -ERR_CLUSTER},
        {no_uuid, 0, -ERR_IDENTITY},
        {NULL, -ERR_BEHIND, -ERR_BEHIND},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world *w = world_new(2 + i, NULL);
        struct client c = {0};
        w->greet_result = cases[i].greet_result;
        client_start(&c, w, cases[i].adjust);
        WAIT_FOR(w, 100, c.opened || c.closed);
        CHECK_EQ(c.last_error, cases[i].error);
        CHECK_EQ(rpc_peer_error(c.peer), cases[i].error);
        CHECK_EQ(rpc_peer_is_open(c.peer), !cases[i].error);
        if (cases[i].error) {
            /* It goes on trying, at its leisure, and the server's slots are given back. */
            world_run_ms(w, 20000);
            CHECK(c.closed > 20 && c.closed < 100);
            CHECK_EQ(c.opened, 0);
            CHECK_EQ(w->opened, 0);
            w->greet_result = 0;
        }
        client_stop(&c);
        world_free(w);
    }
}

/* ---- a server that says what it is told ---- */

struct liar {
    struct world *w;
    struct link *link;
    const struct rpc_hello *hello;
    const char *garbage; /* instead */
    int result;
};

static void liar_message(void *owner, struct link *link, const struct frame *frame)
{
    struct liar *liar = owner;
    uint8_t reply[FRAME_HEADER_SIZE + HELLO_BODY_MAX];
    struct frame_header header;
    uint32_t len = 0;

    if (frame_validate_header(frame->head, &header))
        return;
    if (liar->garbage) {
        len = (uint32_t)strlen(liar->garbage);
        memcpy(reply + FRAME_HEADER_SIZE, liar->garbage, len);
    } else if (!liar->result) {
        len = rpc_hello_encode(reply + FRAME_HEADER_SIZE, liar->hello);
    }
    header.flags = FRAME_REPLY;
    header.result = liar->result;
    header.body_len = len;
    frame_encode(reply, &header);
    if (link_send(link, &(struct frame){.head = reply, .head_len = FRAME_HEADER_SIZE + len}))
        sim_fail(liar->w->sim, "no reply");
}

static void liar_closed(void *owner, struct link *link, int error)
{
    ((struct liar *)owner)->link = NULL;
}

static const struct link_events liar_events = {.message = liar_message, .closed = liar_closed};

static void liar_accepted(void *owner, struct link *link)
{
    struct liar *liar = owner;

    if (liar->link)
        link_close(liar->link);
    liar->link = link;
    link_own(link, &liar_events, liar);
}

/* Takes the place of the world's server. */
static void liar_start(struct liar *liar)
{
    struct world *w = liar->w;
    struct net *net = sim_net_port(w->net, w->server_node);
    char address[64];
    int error;

    IN_SERVER(w, rpc_server_free(w->server));
    w->server = NULL;
    IN_SERVER(w,
              error = net->ops->listen(net, SERVER_ADDRESS, liar_accepted, liar, address, sizeof(address)));
    CHECK_EQ(error, 0);
}

static void liar_stop(struct liar *liar)
{
    struct net *net = sim_net_port(liar->w->net, liar->w->server_node);

    if (liar->link)
        IN_SERVER(liar->w, link_close(liar->link));
    IN_SERVER(liar->w, net->ops->unlisten(net, liar));
}

/* The checks that the caller makes of the server. */
static void caller_checks(void)
{
    static const struct {
        struct rpc_hello hello;
        const char *garbage;
        int result, error;
    } cases[] = {
        {.hello = {.protocol = RPC_PROTOCOL, .who = {.role = RPC_OSD, .osd = 4, .shard = 1}}, .error = 0},
        {.hello = {.protocol = RPC_PROTOCOL, .who = {.role = RPC_OSD, .osd = 4}}, .error = -ERR_IDENTITY},
        {.hello = {.protocol = RPC_PROTOCOL, .who = {.role = RPC_MON, .osd = 4, .shard = 1}},
         .error = -ERR_IDENTITY},
        {.hello = {.protocol = RPC_PROTOCOL, .who = {.role = RPC_OSD, .osd = 4, .shard = 1, .cluster = {7}}},
         .error = -ERR_CLUSTER},
        {.hello = {.protocol = RPC_PROTOCOL + 1, .who = {.role = RPC_OSD, .osd = 4, .shard = 1}},
         .error = -ERR_VERSION},
        {.hello = {.protocol = RPC_PROTOCOL, .who = {.role = (enum rpc_role)9, .osd = 4, .shard = 1}},
         .error = -ERR_PROTOCOL},
        {.garbage = "\xff\xff\xff", .error = -ERR_PROTOCOL},
        {.result = -ERR_LOCKED, .error = -ERR_LOCKED},
    };
    struct rpc_identity self = {.role = RPC_CLIENT, .cluster = {1, 2, 3}, .client_uuid = {1}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world *w = world_new(20 + i, NULL);
        struct client c = {.self = &self};
        struct liar liar = {
            .w = w, .hello = &cases[i].hello, .garbage = cases[i].garbage, .result = cases[i].result};
        liar_start(&liar);
        client_start(&c, w, target_right);
        WAIT_FOR(w, 100, c.opened || c.closed);
        CHECK_EQ(c.last_error, cases[i].error);
        client_stop(&c);
        liar_stop(&liar);
        world_free(w);
    }
}

/* An OSD that comes back with another device, or with an older start counter, is not who it was. */
static void caller_remembers(void)
{
    static const struct {
        struct rpc_identity then;
        int error;
    } cases[] = {
        {{.role = RPC_OSD, .osd = 4, .shard = 1, .osd_uuid = {1}, .incarnation = 6}, 0},
        {{.role = RPC_OSD, .osd = 4, .shard = 1, .osd_uuid = {1}, .incarnation = 7}, 0},
        {{.role = RPC_OSD, .osd = 4, .shard = 1, .osd_uuid = {1}, .incarnation = 5}, -ERR_ROLLED_BACK},
        {{.role = RPC_OSD, .osd = 4, .shard = 1, .osd_uuid = {2}, .incarnation = 7}, -ERR_IDENTITY},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world *w = world_new(40 + i, NULL);
        struct client c = {0};
        struct rpc_hello hello = {
            .protocol = RPC_PROTOCOL,
            .who = {.role = RPC_OSD, .osd = 4, .shard = 1, .osd_uuid = {1}, .incarnation = 6}};
        struct liar liar = {.w = w, .hello = &hello};
        liar_start(&liar);
        client_start(&c, w, target_right);
        WAIT_FOR(w, 100, c.opened == 1);
        hello.who = cases[i].then;
        sim_net_break_links(w->net, "10.0.0.1");
        WAIT_FOR(w, 1000, c.opened == 2 || c.closed == 2);
        CHECK_EQ(rpc_peer_error(c.peer), cases[i].error);
        client_stop(&c);
        liar_stop(&liar);
        world_free(w);
    }
}

/* ---- the server's checks of raw greetings ---- */

static void protocol_number(void)
{
    struct world *w = world_new(50, NULL);
    struct raw raw;

    raw_connect(&raw, w);
    w->client_self.session = 1;
    CHECK_EQ(raw_hello(&raw, &w->client_self, RPC_PROTOCOL + 1), -ERR_VERSION);
    raw_close(&raw);
    raw_connect(&raw, w);
    CHECK_EQ(raw_hello(&raw, &w->client_self, RPC_PROTOCOL), 0);
    raw_close(&raw);
    world_free(w);
}

static void malformed(void)
{
    static const struct {
        enum method method;
        uint32_t flags;
        const char *body;
        int result; /* of a reply; 0: the link is closed */
    } cases[] = {
        {METHOD_HELLO, FRAME_REQUEST, "\x08", -ERR_PROTOCOL},
        {METHOD_HELLO, FRAME_REQUEST, "\x0b\x0b\x0b\x0b", -ERR_PROTOCOL},
        {METHOD_HELLO, FRAME_REQUEST, "\x08\x02", -ERR_PROTOCOL}, /* no role */
        {METHOD_HELLO, FRAME_REQUEST, "\x08\x02\x10\x01\x1a\x03xyz",
         -ERR_PROTOCOL}, /* a cluster of 3 bytes */
        {METHOD_HELLO, FRAME_REQUEST, "", -ERR_VERSION},
        {METHOD_HELLO, FRAME_ONEWAY, "\x08\x02", 0},
        {METHOD_HELLO, FRAME_REPLY, "\x08\x02", 0},
        {METHOD_WRITE, FRAME_REQUEST, "hello", 0},
        {METHOD_PING, FRAME_REQUEST, "", 0},
        {METHOD_HEARTBEAT, FRAME_ONEWAY, "", 0},
        {(enum method)999, FRAME_REQUEST, "", 0},
    };
    struct world *w = world_new(60, NULL);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct raw raw;
        raw_connect(&raw, w);
        raw_send(&raw, cases[i].method, cases[i].flags, 1, (const uint8_t *)cases[i].body,
                 (uint32_t)strlen(cases[i].body));
        WAIT_FOR(w, 100, raw.replies || !raw.link);
        CHECK_EQ(raw.link != NULL, cases[i].result != 0);
        CHECK_EQ(raw.result, cases[i].result);
        if (raw.link) {
            /* After a refusal nothing is acted on. */
            raw_send(&raw, METHOD_WRITE, FRAME_REQUEST, 2, NULL, 0);
            world_run_ms(w, 10);
            CHECK_EQ(raw.replies, 1);
        }
        raw_close(&raw);
    }
    /* A name that fills all memory a greeting may take. */
    struct raw raw;
    uint8_t big[1024] = {0x08, 1, 0x10, 1, 0x5a, 0xf8, 0x07};
    raw_connect(&raw, w);
    raw_send(&raw, METHOD_HELLO, FRAME_REQUEST, 1, big, sizeof(big));
    WAIT_FOR(w, 100, raw.replies || !raw.link);
    CHECK(raw.result != 0);
    raw_close(&raw);
    CHECK_EQ(w->handled + w->oneways + w->opened, 0);
    world_free(w);
}

static void greeted_twice(void)
{
    struct world *w = world_new(61, NULL);
    struct raw raw;

    raw_connect(&raw, w);
    w->client_self.session = 5;
    CHECK_EQ(raw_hello(&raw, &w->client_self, RPC_PROTOCOL), 0);
    w->client_self.session = 6;
    CHECK_EQ(raw_hello(&raw, &w->client_self, RPC_PROTOCOL), -ERR_CLOSED);
    CHECK_EQ(w->opened, 1);
    CHECK_EQ(w->closed, 1);
    world_free(w);
}

/* A link without a greeting, and a refused one that stays, are closed after a while. */
static void too_late(void)
{
    struct world *w = world_new(62, NULL);
    struct raw mute, refused;

    raw_connect(&mute, w);
    raw_connect(&refused, w);
    CHECK_EQ(raw_hello(&refused, &w->client_self, 77), -ERR_VERSION);
    world_run_ms(w, 4000);
    CHECK(mute.link && refused.link);
    WAIT_FOR(w, 3000, !mute.link && !refused.link);
    world_free(w);
}

/* Nobody answers the caller's greeting. */
static void mute_server(void)
{
    struct world *w = world_new(63, NULL);
    struct client c = {0};

    sim_node_pause(w->server_node);
    client_start(&c, w, NULL);
    WAIT_FOR(w, 2500, c.closed == 1);
    CHECK_EQ(c.last_error, -ERR_TIMEOUT);
    sim_node_resume(w->server_node);
    WAIT_FOR(w, 1000, c.opened == 1);
    client_stop(&c);
    world_free(w);
}

static void too_many_sessions(void)
{
    struct world *w = world_new(64, NULL);
    struct raw raw[9];

    for (int i = 0; i < 9; i++) {
        raw_connect(&raw[i], w);
        struct rpc_identity who = {.role = RPC_CLIENT, .client_uuid = {1, (uint8_t)i}, .session = 1};
        CHECK_EQ(raw[i].link ? raw_hello(&raw[i], &who, RPC_PROTOCOL) : -ERR_CLOSED, i < 8 ? 0 : -ERR_BUSY);
    }
    CHECK_EQ(w->opened, 8);
    raw_close(&raw[3]);
    WAIT_FOR(w, 100, w->closed == 1);
    raw_connect(&raw[3], w);
    CHECK(raw[3].link != NULL);
    for (int i = 0; i < 9; i++)
        raw_close(&raw[i]);
    WAIT_FOR(w, 100, w->closed == 8);
    world_free(w);
}

/* Sessions that say nothing, or were refused, hold places that nobody else needs. */
static void others_keep_nobody_out(void)
{
    enum { MANY = 200 };
    struct world *w = world_new(66, NULL);
    static struct raw raw[MANY], good[8];
    struct rpc_identity other = {.role = RPC_CLIENT, .client_uuid = {7}, .session = 1};

    for (int i = 0; i < MANY; i++) {
        raw_connect(&raw[i], w);
        if (i % 2 && raw[i].link)
            CHECK(raw_hello(&raw[i], &other, 77) != 0);
    }
    for (int i = 0; i < 8; i++) {
        struct rpc_identity who = {.role = RPC_CLIENT, .client_uuid = {1, (uint8_t)i}, .session = 1};
        raw_connect(&good[i], w);
        CHECK_EQ(good[i].link ? raw_hello(&good[i], &who, RPC_PROTOCOL) : -ERR_CLOSED, 0);
    }
    for (int i = 0; i < MANY; i++)
        if (raw[i].link)
            raw_close(&raw[i]);
    for (int i = 0; i < 8; i++)
        raw_close(&good[i]);
    WAIT_FOR(w, 100, w->closed == 8);
    world_free(w);
}

/* Who is refused because there is no place comes again and again: that is not to fill the log. */
static void crowds_fill_no_log(void)
{
    enum { MANY = 300 };
    struct world *w = world_new(67, NULL);
    static struct raw raw[MANY];

    for (int i = 0; i < MANY; i++) {
        struct rpc_identity who = {.role = RPC_CLIENT, .client_uuid = {1, (uint8_t)i, 1}, .session = 1};
        raw_connect(&raw[i], w);
        CHECK_EQ(raw[i].link ? raw_hello(&raw[i], &who, RPC_PROTOCOL) : -ERR_CLOSED, i < 8 ? 0 : -ERR_BUSY);
        if (i >= 8 && raw[i].link)
            raw_close(&raw[i]);
        if (i == 8)
            w->sim->log_lines = 0;
    }
    CHECK(w->sim->log_lines < 10);
    for (int i = 0; i < 8; i++)
        raw_close(&raw[i]);
    WAIT_FOR(w, 100, w->closed == 8);
    world_free(w);
}

static void nobody_there(void)
{
    struct world *w = world_new(65, NULL);
    struct client c = {0};

    IN_SERVER(w, rpc_server_free(w->server));
    w->server = NULL;
    client_start(&c, w, NULL);
    WAIT_FOR(w, 100, c.closed == 1);
    CHECK_EQ(c.last_error, -ERR_UNREACHABLE);
    /* The waits grow to half a second, and a kick ends one. */
    world_run_ms(w, 10000);
    CHECK(c.closed > 15 && c.closed < 60);
    int closed = c.closed;
    IN_CLIENT(w, rpc_peer_kick(c.peer));
    WAIT_FOR(w, 1, c.closed == closed + 1);
    world_restart_server(w);
    WAIT_FOR(w, 600, c.opened == 1);
    client_stop(&c);
    world_free(w);
}

static void bad_address(struct rpc_peer_config *config)
{
    config->address = "nonsense";
}

static void address_that_is_none(void)
{
    struct world *w = world_new(66, NULL);
    struct client c = {0};

    client_start(&c, w, bad_address);
    WAIT_FOR(w, 100, c.closed == 1);
    CHECK_EQ(c.last_error, -ERR_INVALID);
    client_stop(&c);
    world_free(w);
}

int main(void)
{
    TEST(both_learn_who);
    TEST(refusals);
    TEST(caller_checks);
    TEST(caller_remembers);
    TEST(protocol_number);
    TEST(malformed);
    TEST(greeted_twice);
    TEST(too_late);
    TEST(mute_server);
    TEST(too_many_sessions);
    TEST(others_keep_nobody_out);
    TEST(crowds_fill_no_log);
    TEST(nobody_there);
    TEST(address_that_is_none);
    return tap_done();
}
