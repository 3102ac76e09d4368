/* SPDX-License-Identifier: Apache-2.0
 *
 * The net suite on TCP over loopback, and what only the real one does: malformed bytes.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/sock.h"
#include "tests/port/net_suite.h"
#include "tests/port/real.h"

static struct real_world real;

/* A plain socket, connected to the server. */
static int plain_connect(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    in.sin_port = htons((uint16_t)atoi(strrchr(server_address, ':') + 1));
    CHECK(connect(fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    server_count = 0;
    CHECK(run_count(&server_count, 1));
    return fd;
}

static size_t make_frame(uint8_t *to, uint32_t number, uint32_t body_len, uint32_t payload_len)
{
    struct frame_header header = {.method = METHOD_PING,
                                  .flags = FRAME_REQUEST,
                                  .request_id = number,
                                  .body_len = body_len,
                                  .payload_len = payload_len};

    pattern(to + FRAME_HEADER_SIZE, body_len, number);
    pattern(to + FRAME_HEADER_SIZE + body_len, payload_len, number + 1);
    frame_encode(to, &header);
    return FRAME_HEADER_SIZE + body_len + payload_len;
}

static void malformed_frames_close_the_link(void)
{
    static const struct {
        uint32_t at;
        uint8_t flip;
    } cases[] = {{0, 1},  {4, 1},  {8, 0xff}, {10, 1}, {26, 0xff}, {30, 0xff},
                 {36, 1}, {40, 1}, {44, 1},   {48, 1}, {16, 1}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint8_t bytes[256];
        int fd = plain_connect();
        size_t len = make_frame(bytes, 0, 64, 0);
        CHECK((size_t)write(fd, bytes, len) == len);
        len = make_frame(bytes, 1, 64, 0);
        bytes[cases[i].at] ^= cases[i].flip;
        CHECK((size_t)write(fd, bytes, len) == len);
        CHECK(run_until(&server_ends[0].closed));
        CHECK_EQ(server_ends[0].error, -ERR_PROTOCOL);
        CHECK_EQ(server_ends[0].received, 1);
        close(fd);
    }
}

/* Whole frames in pieces of every size, some with heads as large as the receive buffer and larger: the parser
 * must not care where they are cut. */
static void cuts_do_not_matter(void)
{
    static uint8_t bytes[1000000];
    size_t len = 0;

    len += make_frame(bytes + len, 0, 0, 0);
    len += make_frame(bytes + len, 1, 33, 0);
    len += make_frame(bytes + len, 2, 10, 5000);
    len += make_frame(bytes + len, 3, SOCK_RX_LINK + 6000, 100);
    len += make_frame(bytes + len, 4, 100, 100000);
    len += make_frame(bytes + len, 5, SOCK_RX_LINK - FRAME_HEADER_SIZE, 12000);
    len += make_frame(bytes + len, 6, 60000, 80000);
    for (size_t step = 1; step < 100000; step = step * 3 + 1) {
        int fd = plain_connect();
        size_t at = 0;
        while (at < len) {
            /* Byte by byte only around the edges of frames: the first and last of everything. */
            size_t part = MIN(step < 40 && at > 600 ? step * 1000 : step, len - at);
            ssize_t done = write(fd, bytes + at, part);
            at += done > 0 ? (size_t)done : 0;
            uring_core_turn(real.uc[1], 0);
        }
        CHECK(run_count(&server_ends[0].received, 7));
        CHECK(!server_ends[0].damaged && !server_ends[0].disorder);
        close(fd);
        CHECK(run_until(&server_ends[0].closed));
        CHECK_EQ(server_ends[0].error, -ERR_CLOSED);
    }
}

static void truncated_frames_are_not_delivered(void)
{
    static uint8_t bytes[60000];
    size_t len = make_frame(bytes, 0, 100, 50000);

    for (size_t cut = 0; cut < len; cut = cut * 2 + 1) {
        int fd = plain_connect();
        CHECK((size_t)write(fd, bytes, cut) == cut);
        close(fd);
        CHECK(run_until(&server_ends[0].closed));
        CHECK_EQ(server_ends[0].received, 0);
    }
    struct arena *arena = real.world.core[1]->arena;
    CHECK_EQ(arena_free_bytes(arena), arena_size(arena));
}

/* Whoever closes a link has the memory back that he named for a payload, however much of it is still to come.
 */
static void a_closed_link_writes_to_no_memory(void)
{
    static uint8_t bytes[400000], place[FRAME_PAYLOAD_MAX];
    size_t len = make_frame(bytes, 0, 100, 300000);

    for (size_t cut = 2000; cut < len; cut += 61000) {
        int fd = plain_connect();
        server_ends[0].place = place;
        memset(place, 0xee, sizeof(place));
        CHECK((size_t)write(fd, bytes, cut) == cut);
        while (place[cut - 200] == 0xee) /* until it has come */
            uring_core_turn(real.uc[1], NS_PER_MS);
        close_end(&server_ends[0]);
        memset(place, 0xee, sizeof(place));
        CHECK(write(fd, bytes + cut, len - cut) > 0);
        close(fd);
        world_settle(&real.world);
        for (size_t at = 0; at < sizeof(place); at++)
            CHECK(place[at] == 0xee);
        CHECK_EQ(server_ends[0].received, 0);
    }
}

/* A frame that may wait leaves with the next one of its link; where there were none that do not wait for a
 * while, at once. */
static void patient_frames_go_with_others(void)
{
    struct end client, *server = pair(&client);
    const struct core_counters *counters = &real.world.core[0]->counters;
    uint32_t number = 0;

    for (int i = 0; i < 20; i++) {
        world_settle(&real.world);
        uint64_t calls = counters->net_send_calls, start_ns = core_now_ns(real.world.core[0]);
        send_patient = i & 1;
        CHECK_EQ(send_one(&client, number++, 100, 0), 0);
        uring_core_turn(real.uc[0], 0);
        CHECK_EQ(counters->net_send_calls, calls + 1);
        send_patient = true;
        CHECK_EQ(send_one(&client, number++, 100, 0), 0);
        uring_core_turn(real.uc[0], 0);
        send_patient = false;
        CHECK_EQ(send_one(&client, number++, 100, 0), 0);
        uring_core_turn(real.uc[0], 0);
        /* Whoever stood still for that long has missed the moment. */
        if (core_now_ns(real.world.core[0]) - start_ns < FRAME_PATIENCE_NS)
            CHECK_EQ(counters->net_send_calls, calls + 2 + (i & 1));
        CHECK(run_count(&server->received, number));
    }
    CHECK(!server->damaged && !server->disorder);
    unpair(&client, server);
}

/* Nothing else is sent: it has waited long enough soon, and both sides sleep until then. */
static void patient_frames_wait_for_a_moment_only(void)
{
    struct end client, *server = pair(&client);
    uint32_t number = 0;

    for (int i = 0; i < 10; i++) {
        uint64_t start_ns = core_now_ns(real.world.core[0]);
        CHECK_EQ(send_one(&client, number++, 100, 0), 0);
        uring_core_turn(real.uc[0], 0);
        send_patient = true;
        CHECK_EQ(send_one(&client, number++, 100, 0), 0);
        send_patient = false;
        CHECK(run_count(&server->received, number));
        CHECK(core_now_ns(real.world.core[0]) - start_ns < 100 * FRAME_PATIENCE_NS);
    }
    unpair(&client, server);
}

/* Frames with bytes changed at random, and plain noise behind a valid beginning. The server may answer in no
 * way but closing. */
static void noise(void)
{
    static uint8_t bytes[100000];
    uint32_t random = 1;

    for (int round = 0; round < 400 && tap_ok; round++) {
        int fd = plain_connect();
        size_t len = 0;
        while (len < 60000) {
            random = random * 1664525 + 1013904223;
            len += make_frame(bytes + len, (uint32_t)round, random >> 10 & 1023,
                              random >> 22 & 1 ? random >> 8 & 8191 : 0);
        }
        for (int i = 0; i < round % 5; i++) {
            random = random * 1664525 + 1013904223;
            bytes[(random >> 8) % len] ^= (uint8_t)(random | 1);
        }
        if (round % 7 == 0)
            for (size_t i = 48 + random % 100; i < len; i++) {
                random = random * 1664525 + 1013904223;
                bytes[i] = (uint8_t)(random >> 24);
            }
        if (round % 11 == 0)
            memset(bytes + 24, 0xff, 8); /* giant lengths */
        size_t at = 0;
        while (at < len && !server_ends[0].closed) {
            ssize_t done = write(fd, bytes + at, MIN(len - at, 1 + random % 20000));
            at += done > 0 ? (size_t)done : 0;
            uring_core_turn(real.uc[1], 0);
        }
        close(fd);
        CHECK(run_until(&server_ends[0].closed));
    }
    struct arena *arena = real.world.core[1]->arena;
    CHECK_EQ(arena_free_bytes(arena), arena_size(arena));
}

/* Everything may be freed with connections in any state: being made, open, with frames queued or half
 * received. */
static void freeing_in_the_middle(void)
{
    for (int turns = 0; turns < 12; turns++) {
        struct real_world own;
        struct end client[4];
        CHECK(real_world_init(&own, 0, 2));
        struct net *from = tcp_net_new(own.uc[0]), *to = tcp_net_new(own.uc[1]);
        struct net_suite *before = suite, mine = {.world = &own.world, .net = {from, to}};
        char address[128];
        suite = &mine;
        server_count = 0;
        CHECK_EQ(to->ops->listen(to, "127.0.0.1:0", on_accepted, NULL, address, sizeof(address)), 0);
        for (int i = 0; i < 4; i++)
            connect_end(&client[i], address);
        for (int turn = 0; turn < turns; turn++) {
            for (int i = 0; i < 4; i++)
                for (uint32_t k = 0; k < 3; k++)
                    CHECK_EQ(send_one(&client[i], (uint32_t)turn * 3 + k, 100, k * 150000), 0);
            uring_core_turn(own.uc[turn & 1], 0);
        }
        tcp_net_free(turns & 1 ? from : to);
        tcp_net_free(turns & 1 ? to : from);
        /* Asserts that every buffer has come back. */
        real_world_fini(&own);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(client[i].closed_count, 0);
        suite = before;
    }
}

/* A daemon that dies wants its port back: no outgoing connection may be given it meanwhile. */
static void any_port_is_not_for_outgoing_connections(void)
{
    unsigned first = 0;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

    CHECK(file && fscanf(file, "%u", &first) == 1);
    if (file)
        fclose(file);
    if (first > 30000) /* as everywhere, unless somebody has changed it */
        CHECK((unsigned)atoi(strrchr(server_address, ':') + 1) < first);
}

/* A payload that there is no memory for comes in no more pieces than one that is copied. */
static void dropping_takes_few_receives(void)
{
    enum { FRAMES = 8, BYTES = 1u << 20 };
    struct end client, *server = pair(&client);
    struct core *core = real.world.core[1];
    static struct buf *all[WORLD_ARENA_SIZE / BLOCK_SIZE + 1];
    uint32_t count = 0;

    while ((all[count] = buf_new(core->arena, BLOCK_SIZE)))
        count++;
    uint64_t calls = core->counters.net_recv_calls;
    for (uint32_t i = 0; i < FRAMES; i++) {
        CHECK_EQ(send_one(&client, i, 10, BYTES), 0);
        CHECK(run_count(&server->received, i + 1));
    }
    calls = core->counters.net_recv_calls - calls;
    CHECK_EQ(server->dropped, FRAMES);
    printf("# %u receives\n", (unsigned)calls);
    CHECK(calls < FRAMES * BYTES / (8u << 10));
    while (count)
        buf_unref(all[--count]);
    unpair(&client, server);
}

static uint32_t lines_logged;

static void count_line(void *self, enum log_level level, const char *room, const char *line)
{
    lines_logged += strstr(line, "cannot accept") != NULL;
}

static bool accepted_both(void *owner)
{
    return server_count == 2;
}

/* A process without descriptors says so, and not with each try; when it has some again it accepts. (The
 * kernel goes by the limit at the time of the call: the first one is under way.) */
static void without_descriptors_it_says_so_once(void)
{
    struct core *core = real.world.core[1];
    const struct env_ops *env = core->env;
    struct env_ops counting = *env;
    struct rlimit was, none;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[] = {socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET, SOCK_STREAM, 0)};

    in.sin_port = htons((uint16_t)atoi(strrchr(server_address, ':') + 1));
    CHECK(getrlimit(RLIMIT_NOFILE, &was) == 0);
    none = was;
    none.rlim_cur = 0;
    counting.log = count_line;
    core->env = &counting;
    server_count = lines_logged = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(connect(fds[0], (struct sockaddr *)&in, sizeof(in)) == 0);
    CHECK(run_count(&server_count, 1));
    CHECK(connect(fds[1], (struct sockaddr *)&in, sizeof(in)) == 0);
    CHECK(!real.world.run(&real.world, accepted_both, NULL, 450 * NS_PER_MS));
    CHECK(setrlimit(RLIMIT_NOFILE, &was) == 0);
    CHECK_EQ(lines_logged, 1);
    CHECK(run_count(&server_count, 2));
    core->env = env;
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        CHECK(run_until(&server_ends[i].closed));
    }
}

/* A port that nobody listens on: it was free a moment ago. */
static void find_dead_address(char *text, size_t size)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || getsockname(fd, (struct sockaddr *)&in, &len))
        abort();
    close(fd);
    snprintf(text, size, "127.0.0.1:%u", ntohs(in.sin_port));
}

int main(int argc, char **argv)
{
    char dead[64];
    const char *mode = argc > 1 ? argv[1] : "";
    /* A ring of any thread serves connections in the middle of other system calls, too. */
    struct uring_core_opts opts = {.arena_bytes = WORLD_ARENA_SIZE,
                                   .spin_us = strcmp(mode, "spin") == 0 ? 50 : 0,
                                   .any_thread = strcmp(mode, "any") == 0,
                                   .log_level = LOG_ERROR};

    if (!real_world_make(&real, &opts, 2)) {
        printf("Bail out! no io_uring\n");
        return 1;
    }
    struct net *client = tcp_net_new(real.uc[0]), *server = tcp_net_new(real.uc[1]);
    find_dead_address(dead, sizeof(dead));
    struct net_suite tcp = {
        .world = &real.world, .net = {client, server}, .listen_address = "127.0.0.1:0", .dead_address = dead};
    net_suite(&tcp);
    TEST(malformed_frames_close_the_link);
    TEST(cuts_do_not_matter);
    TEST(truncated_frames_are_not_delivered);
    TEST(a_closed_link_writes_to_no_memory);
    TEST(patient_frames_go_with_others);
    TEST(patient_frames_wait_for_a_moment_only);
    TEST(noise);
    TEST(freeing_in_the_middle);
    TEST(any_port_is_not_for_outgoing_connections);
    TEST(dropping_takes_few_receives);
    TEST(without_descriptors_it_says_so_once);
    tcp_net_free(client);
    tcp_net_free(server);
    real_world_fini(&real);
    return tap_done();
}
