/* SPDX-License-Identifier: Apache-2.0
 *
 * The byte stream port (rt/stream.h) on TCP and on a unix socket, against plain sockets. It has no second
 * implementation, so this is suite and program in one.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "rt/stream.h"
#include "tests/port/real.h"
#include "tests/tap.h"

struct end {
    struct stream *stream;
    bool received, closed, writable, accepted;
    int error;
    uint32_t received_count;
    uint8_t *memory;     /* asked for again in each `received` */
    size_t chunk, total; /* while fewer than `total` bytes have come */
    size_t have;
};

static struct real_world real;
static struct stream_net *net;
static char address[160], unix_address[100];
static struct end end;

static void on_received(void *owner, struct stream *stream)
{
    struct end *e = owner;

    e->received = true;
    e->received_count++;
    e->have += e->chunk;
    if (e->have < e->total) {
        e->chunk = MIN(e->chunk, e->total - e->have);
        stream->net->ops->recv(stream, e->memory + e->have, e->chunk);
    }
}

static void on_writable(void *owner, struct stream *stream)
{
    ((struct end *)owner)->writable = true;
}

static void on_closed(void *owner, struct stream *stream, int error)
{
    struct end *e = owner;
    e->closed = true;
    e->error = error;
}

static const struct stream_events events = {on_received, on_writable, on_closed};

static void on_accepted(void *owner, struct stream *stream)
{
    end = (struct end){.stream = stream, .accepted = true};
    stream->events = &events;
    stream->owner = &end;
}

static bool run_until(bool *flag)
{
    return real.world.run(&real.world, world_is, flag, WORLD_WAIT_NS);
}

static int peer_connect(const char *to)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    bool is_unix = strncmp(to, "unix:", 5) == 0;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

    if (is_unix)
        ASSERT(text_copy(un.sun_path, sizeof(un.sun_path), to + 5) == 0);
    else
        in.sin_port = htons((uint16_t)atoi(strrchr(to, ':') + 1));
    end.accepted = false;
    if (is_unix ? connect(fd, (struct sockaddr *)&un, sizeof(un))
                : connect(fd, (struct sockaddr *)&in, sizeof(in))) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    CHECK(run_until(&end.accepted));
    return fd;
}

static void peer_write(int fd, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t done = write(fd, bytes, len);
        bytes += done > 0 ? done : 0;
        len -= done > 0 ? (size_t)done : 0;
        uring_core_turn(real.uc[0], 0);
    }
}

/* Reads until `len` bytes have come or the stream ends; how many. */
static size_t peer_read(int fd, uint8_t *bytes, size_t len)
{
    size_t have = 0;

    for (int idle = 0; have < len && idle < 200000; idle++) {
        uring_core_turn(real.uc[0], 0);
        ssize_t done = read(fd, bytes + have, len - have);
        if (done == 0)
            break;
        if (done > 0) {
            have += (size_t)done;
            idle = 0;
        }
    }
    return have;
}

static void fill(uint8_t *to, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(seed + i * 13 + (i >> 8));
}

static void bytes_arrive_where_they_are_wanted(void)
{
    static uint8_t out[3000000], in[3000000];
    static const size_t chunks[] = {3000000, 1, 28, 4096, 4124, 65536, 70001, 1000003};

    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        int fd = peer_connect(address);
        size_t total = chunks[i] == 1 ? 5000 : sizeof(out);
        fill(out, total, (uint32_t)i);
        memset(in, 0, total);
        end.memory = in;
        end.total = total;
        end.chunk = chunks[i];
        net->ops->recv(end.stream, in, chunks[i]);
        CHECK(!end.received);
        peer_write(fd, out, total);
        for (int turns = 0; end.have < total && turns < 1000000; turns++)
            uring_core_turn(real.uc[0], NS_PER_MS);
        CHECK_EQ(end.have, total);
        CHECK(memcmp(in, out, total) == 0);
        CHECK_EQ(end.received_count, DIV_UP(total, chunks[i]));
        close(fd);
        CHECK(run_until(&end.closed));
        CHECK_EQ(end.error, 0);
    }
}

static void what_came_early_is_kept(void)
{
    uint8_t out[100], in[100] = {0};
    int fd = peer_connect(address);

    fill(out, sizeof(out), 5);
    peer_write(fd, out, sizeof(out));
    world_settle(&real.world);
    end.memory = in;
    end.chunk = 60;
    net->ops->recv(end.stream, in, 60);
    CHECK(!end.received);
    CHECK(run_until(&end.received));
    net->ops->recv(end.stream, in + 60, 40);
    end.received = false;
    CHECK(run_until(&end.received));
    CHECK(memcmp(in, out, 100) == 0);
    /* And a peer that goes while nothing is asked for is noticed. */
    close(fd);
    CHECK(run_until(&end.closed));
}

static void heads_and_payloads_are_sent_in_order(void)
{
    static uint8_t expected[2000000], in[2000000];
    struct arena *arena = real.world.core[0]->arena;
    int fd = peer_connect(address);
    size_t len = 0;

    for (uint32_t i = 0; len + 70000 < sizeof(expected); i++) {
        uint32_t payload_len = i % 3 ? i * 977 % 60000 + 1 : 0, head_len = 1 + i % 40;
        struct slice payload = {0};
        fill(expected + len, head_len + payload_len, i);
        if (payload_len) {
            payload = (struct slice){.buf = buf_new(arena, payload_len), .len = payload_len};
            memcpy(slice_data(&payload), expected + len + head_len, payload_len);
        }
        CHECK_EQ(net->ops->send(end.stream, expected + len, head_len, payload_len ? &payload : NULL), 0);
        slice_unref(&payload);
        len += head_len + payload_len;
    }
    CHECK_EQ(peer_read(fd, in, len), len);
    CHECK(memcmp(in, expected, len) == 0);
    net->ops->close(end.stream, false);
    close(fd);
    world_settle(&real.world);
    CHECK_EQ(arena_free_bytes(arena), arena_size(arena));
}

static void a_full_queue_is_refused_and_reopened(void)
{
    static uint8_t in[64 << 20];
    struct arena *arena = real.world.core[0]->arena;
    int fd = peer_connect(address);
    size_t sent = 0;
    int result = 0;

    while (result == 0 && sent < 40u << 20) {
        struct slice payload = {.buf = buf_new(arena, 1 << 20), .len = 1 << 20};
        memset(slice_data(&payload), (int)(sent >> 20), 1 << 20);
        result = net->ops->send(end.stream, "x", 1, &payload);
        slice_unref(&payload);
        sent += result ? 0 : (1 << 20) + 1;
    }
    CHECK_EQ(result, -ERR_BUSY);
    CHECK_EQ(net->ops->held_bytes(end.stream), arena_size(arena) - arena_free_bytes(arena));
    world_settle(&real.world);
    uint64_t held_bytes = net->ops->held_bytes(end.stream);
    CHECK(held_bytes > 0);
    CHECK_EQ(held_bytes, arena_size(arena) - arena_free_bytes(arena));
    CHECK_EQ(peer_read(fd, in, sent), sent);
    CHECK(run_until(&end.writable));
    CHECK_EQ(net->ops->held_bytes(end.stream), 0);
    net->ops->close(end.stream, false);
    close(fd);
}

static void closing_can_flush(void)
{
    static uint8_t in[9 << 20];
    struct arena *arena = real.world.core[0]->arena;
    int fd = peer_connect(address);
    size_t sent = 0;

    for (int i = 0; i < 8; i++) {
        struct slice payload = {.buf = buf_new(arena, 1 << 20), .len = 1 << 20};
        memset(slice_data(&payload), i, 1 << 20);
        CHECK_EQ(net->ops->send(end.stream, "head", 4, &payload), 0);
        slice_unref(&payload);
        sent += (1 << 20) + 4;
    }
    net->ops->close(end.stream, true);
    CHECK_EQ(peer_read(fd, in, sizeof(in)), sent);
    CHECK(!end.closed);
    /* To a peer that has gone it ends too. */
    close(fd);
    fd = peer_connect(address);
    struct slice payload = {.buf = buf_new(arena, 1 << 20), .len = 1 << 20};
    for (int i = 0; i < 10; i++)
        CHECK_EQ(net->ops->send(end.stream, "head", 4, &payload), 0);
    slice_unref(&payload);
    net->ops->close(end.stream, true);
    close(fd);
    world_settle(&real.world);
    CHECK_EQ(arena_free_bytes(arena), arena_size(arena));
}

/* The memory of a receive is its owner's again at once when the stream is closed. */
static void closing_gives_the_memory_back(void)
{
    static uint8_t out[1 << 20];

    for (int i = 0; i < 20; i++) {
        int fd = peer_connect(address);
        uint8_t *in = malloc(sizeof(out));
        end.memory = in;
        end.chunk = sizeof(out);
        net->ops->recv(end.stream, in, sizeof(out));
        peer_write(fd, out, 100000);
        world_settle(&real.world);
        (void)!write(fd, out, 200000); /* has arrived, but no turn has taken it */
        net->ops->close(end.stream, false);
        memset(in, 7, sizeof(out));
        uring_core_turn(real.uc[0], NS_PER_MS);
        CHECK(in[100000] == 7 && in[sizeof(out) - 1] == 7 && in[150000] == 7);
        free(in);
        close(fd);
    }
    world_settle(&real.world);
    CHECK(!end.closed);
}

static void unix_sockets_are_looked_after(void)
{
    struct stream_net *other = uring_stream_net_new(real.uc[0]);
    const char *path = unix_address + 5;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct stat st;

    CHECK_EQ(other->ops->listen(other, unix_address, on_accepted, NULL, NULL, 0), -ERR_EXISTS);
    CHECK_EQ(other->ops->listen(other, "unix:/etc/passwd", on_accepted, NULL, NULL, 0), -ERR_EXISTS);
    CHECK_EQ(other->ops->listen(other, "unix:", on_accepted, NULL, NULL, 0), -ERR_INVALID);
    CHECK_EQ(other->ops->listen(other, "unix:/nonexistent/x", on_accepted, NULL, NULL, 0), -ERR_NOT_FOUND);
    net->ops->unlisten(net);
    world_settle(&real.world);
    CHECK(stat(path, &st) != 0);
    /* A leftover: bound once, nobody there. */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT(text_copy(un.sun_path, sizeof(un.sun_path), path) == 0);
    CHECK(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0);
    close(fd);
    CHECK(stat(path, &st) == 0);
    CHECK_EQ(other->ops->listen(other, unix_address, on_accepted, NULL, NULL, 0), 0);
    fd = peer_connect(unix_address);
    CHECK(fd >= 0);
    uring_stream_net_free(other);
    CHECK(stat(path, &st) != 0);
    close(fd);
}

int main(void)
{
    char folder[] = "/tmp/fastblock-test-XXXXXX";

    if (!mkdtemp(folder) || !real_world_init(&real, 0, 1)) {
        printf("Bail out! no folder or no io_uring\n");
        return 1;
    }
    net = uring_stream_net_new(real.uc[0]);
    snprintf(unix_address, sizeof(unix_address), "unix:%s/socket", folder);
    for (int round = 0; round < 2; round++) {
        const char *where = round ? unix_address : "127.0.0.1:0";
        if (net->ops->listen(net, where, on_accepted, NULL, address, sizeof(address))) {
            printf("Bail out! cannot listen\n");
            return 1;
        }
        TEST(bytes_arrive_where_they_are_wanted);
        TEST(what_came_early_is_kept);
        TEST(heads_and_payloads_are_sent_in_order);
        TEST(a_full_queue_is_refused_and_reopened);
        TEST(closing_can_flush);
        TEST(closing_gives_the_memory_back);
    }
    TEST(unix_sockets_are_looked_after);
    uring_stream_net_free(net);
    real_world_fini(&real);
    rmdir(folder);
    return tap_done();
}
