/* SPDX-License-Identifier: Apache-2.0
 *
 * What a message costs: a client process sends frames over TCP to a server process, which answers each; both
 * are the message link port and the core as shipped, with no session layer.
 *
 *     echo [--payload BYTES] [--reply-payload BYTES] [--depth N] [--seconds S] [--spin US] [--write FILE]
 *
 * With --write the server writes each payload to FILE (a ring over its 64 MiB, O_DIRECT) before it answers.
 * Prints one line of JSON; the calls, sleeps and CPU time are per message, of client and server.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/text.h"
#include "wire/frame.h"

#define BODY_LEN   16 /* a head of 64 bytes */
#define DEPTH_MAX  1024
#define WRITE_FILE (64u << 20)

struct shared {
    char address[128];
    bool ready;
    struct core_counters server; /* since the start of the run */
    uint64_t server_cpu_ns;
};

struct options {
    uint64_t payload, reply_payload, depth, seconds, spin_us;
    const char *write_path;
};

static struct options options = {.depth = 1, .seconds = 3, .reply_payload = UINT64_MAX};
static struct shared *shared;

static uint64_t cpu_ns(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * NS_PER_S +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * NS_PER_US;
}

static struct uring_core *core_make(void)
{
    struct uring_core_opts opts = {
        .arena_bytes = 64u << 20, .spin_us = (uint32_t)options.spin_us, .log_level = LOG_WARN};
    struct uring_core *uc;
    int result = uring_core_new(&opts, &uc);

    if (result) {
        fprintf(stderr, "echo: no core: %s\n", error_text(result));
        exit(1);
    }
    return uc;
}

static void send_frame(struct link *link, uint64_t number, const struct slice *payload, uint16_t flags)
{
    uint8_t head[FRAME_HEADER_SIZE + BODY_LEN] = {0};
    struct frame_header header = {.method = METHOD_PING,
                                  .flags = flags,
                                  .request_id = number,
                                  .body_len = BODY_LEN,
                                  .payload_len = payload ? payload->len : 0};
    struct frame frame = {
        .head = head, .head_len = sizeof(head), .pieces = payload, .piece_count = payload ? 1 : 0};

    frame_encode(head, &header);
    if (link_send(link, &frame)) {
        fprintf(stderr, "echo: the send queue is full\n");
        exit(1);
    }
}

/* The server. */

struct answer {
    struct op op;
    struct blk_io io;
    struct iovec iov;
    struct link *link;
    struct slice payload;
    uint64_t number;
};

struct server {
    struct uring_core *uc;
    struct blk *blk;
    uint64_t next_offset;
    struct answer answers[DEPTH_MAX];
    uint32_t idle[DEPTH_MAX], idle_count;
};

static struct server *server;

static void answer_send(struct link *link, uint64_t number, const struct slice *payload)
{
    struct slice reply = *payload;

    reply.len = (uint32_t)MIN(options.reply_payload, payload->len);
    send_frame(link, number, reply.len ? &reply : NULL, FRAME_REPLY);
}

static void answer_step(struct op *op)
{
    struct answer *a = container_of(op, struct answer, op);

    if (a->io.pending)
        return;
    if (a->io.result) {
        fprintf(stderr, "echo: write: %s\n", error_text(a->io.result));
        exit(1);
    }
    answer_send(a->link, a->number, &a->payload);
    slice_unref(&a->payload);
    op_done(op, 0);
    server->idle[server->idle_count++] = (uint32_t)(a - server->answers);
}

static const struct op_kind answer_kind = {"echo.answer", NULL, answer_step};

static void server_message(void *owner, struct link *link, const struct frame *frame)
{
    uint64_t number = 0;
    struct frame_header header;

    if (frame_validate_header(frame->head, &header) == 0)
        number = header.request_id;
    if (!server->blk || !frame->payload.len) {
        answer_send(link, number, &frame->payload);
        return;
    }
    struct answer *a = &server->answers[server->idle[--server->idle_count]];
    a->link = link;
    a->number = number;
    a->payload = slice_sub(&frame->payload, 0, frame->payload.len);
    a->iov = (struct iovec){slice_data(&a->payload), a->payload.len};
    a->io = (struct blk_io){.type = BLK_WRITE,
                            .offset = server->next_offset,
                            .len = a->payload.len,
                            .iov = &a->iov,
                            .iov_count = 1};
    server->next_offset = (server->next_offset + a->payload.len) % WRITE_FILE;
    op_start(&a->op, uring_core_core(server->uc), &answer_kind, NULL);
    blk_submit(server->blk, &a->io, &a->op);
}

static void server_closed(void *owner, struct link *link, int error)
{
    shared->server = uring_core_core(server->uc)->counters;
    shared->server_cpu_ns = cpu_ns();
    uring_core_stop(server->uc);
}

static const struct link_events server_events = {.message = server_message, .closed = server_closed};

static void server_accepted(void *owner, struct link *link)
{
    link_own(link, &server_events, NULL);
}

static void server_open_file(struct uring_dev **ret_dev)
{
    unlink(options.write_path);
    int result = uring_dev_create(options.write_path, WRITE_FILE);
    if (!result)
        result = uring_dev_open(options.write_path, URING_CACHE_ASK, false, ret_dev);
    if (!result)
        result = uring_dev_write_out(*ret_dev, 0, WRITE_FILE);
    if (!result)
        result = uring_blk_new(server->uc, *ret_dev, 0, WRITE_FILE, &server->blk);
    if (result) {
        fprintf(stderr, "echo: %s: %s\n", options.write_path, error_text(result));
        exit(1);
    }
}

static void server_main(void)
{
    struct uring_dev *dev = NULL;
    char address[128];

    server = calloc(1, sizeof(*server));
    server->uc = core_make();
    for (uint32_t i = 0; i < DEPTH_MAX; i++)
        server->idle[server->idle_count++] = i;
    if (options.write_path)
        server_open_file(&dev);
    struct net *net = tcp_net_new(server->uc);
    if (net->ops->listen(net, "127.0.0.1:0", server_accepted, NULL, address, sizeof(address)))
        exit(1);
    strcpy(shared->address, address);
    __atomic_store_n(&shared->ready, true, __ATOMIC_RELEASE);
    uring_core_run(server->uc);
    tcp_net_free(net);
    if (dev) {
        server->blk->ops->close(server->blk);
        uring_dev_close(dev);
        unlink(options.write_path);
    }
    uring_core_free(server->uc);
    free(server);
}

/* The client. */

struct client {
    struct uring_core *uc;
    struct slice payload;
    struct histogram latency;
    uint64_t sent_ns[DEPTH_MAX];
    uint64_t end_ns, in_flight;
    bool opened;
};

static struct client client;

static void client_send(struct link *link, uint64_t slot)
{
    client.sent_ns[slot] = core_now_ns(uring_core_core(client.uc));
    send_frame(link, slot, client.payload.len ? &client.payload : NULL, FRAME_REQUEST);
}

static void client_message(void *owner, struct link *link, const struct frame *frame)
{
    struct frame_header header;
    uint64_t now_ns = core_now_ns(uring_core_core(client.uc));

    if (frame_validate_header(frame->head, &header) || header.request_id >= options.depth)
        exit(1);
    histogram_record(&client.latency, now_ns - client.sent_ns[header.request_id]);
    if (now_ns < client.end_ns)
        client_send(link, header.request_id);
    else
        client.in_flight--;
}

static void client_opened(void *owner, struct link *link)
{
    client.opened = true;
}

static void client_closed(void *owner, struct link *link, int error)
{
    fprintf(stderr, "echo: %s\n", error_text(error));
    exit(1);
}

static const struct link_events client_events = {
    .message = client_message, .opened = client_opened, .closed = client_closed};

static void client_main(pid_t server_pid)
{
    while (!__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE))
        usleep(1000);
    client.uc = core_make();
    struct core *core = uring_core_core(client.uc);
    struct net *net = tcp_net_new(client.uc);
    struct link *link = link_connect(net, shared->address, &client_events, NULL);
    while (!client.opened)
        uring_core_turn(client.uc, NS_PER_MS);
    if (options.payload) {
        client.payload = (struct slice){.buf = buf_new(core->arena, (uint32_t)options.payload),
                                        .len = (uint32_t)options.payload};
        memset(slice_data(&client.payload), 1, options.payload);
    }
    uint64_t start_ns = core_now_ns(core), start_cpu_ns = cpu_ns();
    client.end_ns = start_ns + options.seconds * NS_PER_S;
    client.in_flight = options.depth;
    core->counters = (struct core_counters){0};
    for (uint64_t i = 0; i < options.depth; i++)
        client_send(link, i);
    while (client.in_flight)
        uring_core_turn(client.uc, UINT64_MAX);
    double seconds = (double)(core_now_ns(core) - start_ns) / 1e9;
    uint64_t client_cpu_ns = cpu_ns() - start_cpu_ns;
    struct core_counters c = core->counters;
    slice_unref(&client.payload);
    link_close(link);
    tcp_net_free(net);
    uring_core_free(client.uc);
    waitpid(server_pid, NULL, 0);
    struct core_counters s = shared->server;
    double n = (double)client.latency.count;
    printf(
        "{\"payload\": %llu, \"reply_payload\": %llu, \"depth\": %llu, \"spin_us\": %llu, \"write\": \"%s\", \"per_s\": %.0f, "
        "\"p50_us\": %.1f, \"p99_us\": %.1f, \"syscalls\": [%.2f, %.2f], \"sleeps\": [%.2f, %.2f], \"yields\": [%.2f, %.2f], "
        "\"sends\": [%.2f, %.2f], \"recvs\": [%.2f, %.2f], \"cpu_us\": [%.2f, %.2f]}\n",
        (unsigned long long)options.payload, (unsigned long long)MIN(options.reply_payload, options.payload),
        (unsigned long long)options.depth, (unsigned long long)options.spin_us,
        options.write_path ? options.write_path : "", n / seconds,
        (double)histogram_percentile_ns(&client.latency, 50) / 1e3,
        (double)histogram_percentile_ns(&client.latency, 99) / 1e3, (double)c.syscalls / n,
        (double)s.syscalls / n, (double)c.sleeps / n, (double)s.sleeps / n, (double)c.yields / n,
        (double)s.yields / n, (double)c.net_send_calls / n, (double)s.net_send_calls / n,
        (double)c.net_recv_calls / n, (double)s.net_recv_calls / n, (double)client_cpu_ns / n / 1e3,
        (double)shared->server_cpu_ns / n / 1e3);
}

static void parse_options(int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {{"--payload", &options.payload},
                   {"--reply-payload", &options.reply_payload},
                   {"--depth", &options.depth},
                   {"--seconds", &options.seconds},
                   {"--spin", &options.spin_us}};

    for (int i = 1; i < argc; i += 2) {
        bool known = i + 1 < argc && strcmp(argv[i], "--write") == 0;
        if (known)
            options.write_path = argv[i + 1];
        for (size_t k = 0; k < ARRAY_LEN(numbers) && !known; k++)
            known = i + 1 < argc && strcmp(argv[i], numbers[k].name) == 0 &&
                    text_parse_size(argv[i + 1], numbers[k].value) == 0;
        if (!known || options.depth == 0 || options.depth > DEPTH_MAX || options.payload > IO_SIZE_MAX) {
            fprintf(stderr, "echo: bad option %s\n", argv[i]);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    if (pid == 0)
        server_main();
    else
        client_main(pid);
    return 0;
}
