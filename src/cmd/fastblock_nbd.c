/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-nbd: serves one image over NBD.
 *
 * Life: connect to the cluster, listen, open the image, say so on stderr, serve until SIGINT or SIGTERM; then
 * answer what is under way, close the image (which gives the writer's registration back) and end. A second
 * signal ends it at once.
 *
 * The writer's name is the same each time it is started for the same socket on the same machine, so that it
 * takes over from itself after a crash without --force.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "backend/backend.h"
#include "base/error.h"
#include "base/text.h"
#include "client/client.h"
#include "cmd/daemon.h"
#include "front/nbd/nbd_server.h"

#define MONITORS_MAX 16

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
    char pool[API_NAME_MAX], image[API_NAME_MAX];
    const char *name; /* POOL/IMAGE */
    char address[512];
    const char *mon;
    char writer[API_NAME_MAX];
    bool read_only, force;
    uint64_t timeout_s, spin_us;
};

struct program {
    struct options options;
    struct uring_core *uring;
    struct core *core;
    struct net *net;
    struct stream_net *stream_net;
    struct client *client;
    struct client_image *image;
    struct nbd_server *server;
    bool stopping;
};

static const char usage_text[] =
    "usage: fastblock-nbd POOL/IMAGE --unix PATH | --tcp ADDRESS:PORT [options]\n"
    "\n"
    "Serves an image over NBD until it gets SIGINT or SIGTERM.\n"
    "\n"
    "  --unix PATH         listen on a unix socket\n"
    "  --tcp ADDRESS:PORT  listen on a numeric TCP address, as 127.0.0.1:10809 (port 0: any)\n"
    "  --read-only         open the image for reading only\n"
    "  --force             take the image over from another writer, which gets errors from then on\n"
    "  --writer NAME       stable name of this writer (default: from host name and socket address)\n"
    "  --timeout SECONDS   a request that cannot be served for so long fails (default 60)\n"
    "  --mon ADDRESS       the monitors, ADDRESS:PORT[,...], numeric (default: $FASTBLOCK_MON, or the config file)\n"
    "  --spin MICROSECONDS poll for at most so long before sleeping, where that pays; 0: never (default 100)\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 stopped in order, 1 failed, 2 wrong usage.\n";

static int complain(const char *format, ...) PRINTF_LIKE(1, 2);

static int complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "fastblock-nbd: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    return EXIT_FAILED;
}

static int usage_hint(void)
{
    fprintf(stderr, "`fastblock-nbd --help` tells the usage\n");
    return EXIT_USAGE;
}

static int wrong_usage(const char *what)
{
    complain("%s", what);
    return usage_hint();
}

/* ---- options ---- */

static bool split_image(const char *name, struct options *o)
{
    const char *slash = strchr(name, '/');

    if (!slash || slash == name || slash[1] == '\0' || strchr(slash + 1, '/') ||
        (size_t)(slash - name) >= sizeof(o->pool) || strlen(slash + 1) >= sizeof(o->image))
        return false;
    memcpy(o->pool, name, (size_t)(slash - name));
    o->pool[slash - name] = '\0';
    strcpy(o->image, slash + 1);
    o->name = name;
    return true;
}

static int set_address(struct options *o, const char *prefix, const char *value)
{
    if (o->address[0])
        return wrong_usage("give either --unix or --tcp, once");
    if (!*value ||
        (size_t)snprintf(o->address, sizeof(o->address), "%s%s", prefix, value) >= sizeof(o->address))
        return wrong_usage("the address to listen on is empty or too long");
    return EXIT_DONE;
}

static int set_number(uint64_t *to, const char *option, const char *value, uint64_t min, uint64_t max)
{
    uint64_t number;

    if (text_parse_u64(value, &number) || number < min || number > max) {
        complain("--%s: \"%s\" is not a number from %llu to %llu", option, value, (unsigned long long)min,
                 (unsigned long long)max);
        return EXIT_USAGE;
    }
    *to = number;
    return EXIT_DONE;
}

static void default_writer(struct options *o)
{
    char host[128] = "host";

    (void)gethostname(host, sizeof(host) - 1);
    snprintf(o->writer, sizeof(o->writer), "nbd@%.100s:%.140s", host, o->address);
}

/* -1: go on. */
static int parse_options(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {
        {"unix", required_argument, NULL, 'u'},
        {"tcp", required_argument, NULL, 't'},
        {"read-only", no_argument, NULL, 'r'},
        {"force", no_argument, NULL, 'f'},
        {"writer", required_argument, NULL, 'w'},
        {"timeout", required_argument, NULL, 'o'},
        {"mon", required_argument, NULL, 'm'},
        {"spin", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int letter, result = EXIT_DONE;

    while (result == EXIT_DONE && (letter = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (letter) {
        case 'u':
            result = set_address(o, "unix:", optarg);
            break;
        case 't':
            result = set_address(o, "", optarg);
            break;
        case 'r':
            o->read_only = true;
            break;
        case 'f':
            o->force = true;
            break;
        case 'w':
            if (!*optarg || text_copy(o->writer, sizeof(o->writer), optarg))
                result = wrong_usage("--writer: the name is empty or too long");
            break;
        case 'o':
            result = set_number(&o->timeout_s, "timeout", optarg, 1, 86400);
            break;
        case 'm':
            o->mon = optarg;
            break;
        case 's':
            result = set_number(&o->spin_us, "spin", optarg, 0, 1000000);
            break;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_DONE;
        case 'v':
            printf("fastblock-nbd %s\n", FASTBLOCK_VERSION);
            return EXIT_DONE;
        default:
            return usage_hint();
        }
    }
    if (result != EXIT_DONE)
        return result;
    if (optind + 1 != argc)
        return wrong_usage(optind == argc ? "which image? POOL/IMAGE" : "one image at a time");
    if (!split_image(argv[optind], o)) {
        complain("'%s' does not name an image: write POOL/IMAGE, for example rbd/disk1", argv[optind]);
        return usage_hint();
    }
    if (!o->address[0])
        return wrong_usage("where to listen? --unix PATH or --tcp ADDRESS:PORT");
    if (o->read_only && o->force)
        return wrong_usage("--force takes over for writing: not with --read-only");
    if (!o->writer[0])
        default_writer(o);
    return -1;
}

/* ---- life ---- */

static void stage_print(const char *stage, const struct histogram *h)
{
    fprintf(stderr, "fastblock-nbd:   %-32s %10llu %9.1f %9.1f %9.1f %9.1f\n", stage,
            (unsigned long long)h->count, (double)histogram_mean_ns(h) / 1e3,
            (double)histogram_percentile_ns(h, 50) / 1e3, (double)histogram_percentile_ns(h, 99) / 1e3,
            (double)histogram_percentile_ns(h, 99.9) / 1e3);
}

/* The client's part of what `fastblock perf POOL/IMAGE` shows of the OSDs. */
static void perf_print(const struct program *program)
{
    const struct client_perf *perf = client_perf(program->client);

    fprintf(
        stderr,
        "fastblock-nbd: %s since the start, us             count      mean       p50       p99     p99.9\n",
        program->options.name);
    stage_print("in the client, before it is sent", &perf->wait);
    stage_print("sent until answered: reads", &perf->read);
    stage_print("sent until answered: writes", &perf->write);
    fprintf(stderr, "fastblock-nbd:   sent again %llu times\n", (unsigned long long)perf->retries);
}

static void signal_arrived(void *owner, int signal)
{
    struct program *program = owner;

    if (signal == SIGUSR1) {
        if (program->client)
            perf_print(program);
        return;
    }
    if (program->stopping)
        _exit(128 + signal);
    program->stopping = true;
    uring_core_stop(program->uring);
}

static int connect_monitors(struct program *program)
{
    char text[API_MONITORS_TEXT], name[64];
    const char *monitors[MONITORS_MAX];
    uint32_t count = 0;

    if (api_monitors(program->options.mon, text, sizeof(text)))
        return wrong_usage(
            "no monitor is known: give --mon ADDRESS:PORT, set FASTBLOCK_MON, or write `mon = ADDRESS:PORT` to "
            "/etc/fastblock.conf");
    for (char *save, *at = strtok_r(text, ", ", &save); at && count < MONITORS_MAX;
         at = strtok_r(NULL, ", ", &save))
        monitors[count++] = at;
    snprintf(name, sizeof(name), "fastblock-nbd[%d]", (int)getpid());
    struct client_config config = {
        .core = program->core,
        .net = program->net,
        .monitors = monitors,
        .monitor_count = count,
        .name = name,
        .timeout_ns = program->options.timeout_s * NS_PER_S,
    };
    struct client_open open = {0};
    client_open_start(&open, &config, NULL);
    if (uring_core_run_op(program->uring, &open.op))
        return complain("%s", open.ret_message);
    program->client = open.ret_client;
    return EXIT_DONE;
}

static int open_image(struct program *program)
{
    const struct options *o = &program->options;
    struct client_image_open open = {0};

    client_image_open_start(&open, program->client, o->pool, o->image, !o->read_only, o->writer, o->force,
                            false, NULL);
    int error = uring_core_run_op(program->uring, &open.op);
    if (error)
        return complain("%s", open.ret_message[0] ? open.ret_message : error_text(error));
    program->image = open.ret_image;
    return EXIT_DONE;
}

/* Before the image is opened: who finds the socket taken must not take the image over from the one that has
 * it. */
static int listen_there(struct program *program)
{
    struct nbd_server_config config = {
        .core = program->core,
        .net = program->stream_net,
        .address = program->options.address,
        .name = program->options.name,
        .read_only = program->options.read_only,
    };
    int error = nbd_server_new(&config, &program->server);

    if (error == -ERR_EXISTS)
        return complain("cannot listen on %s: another process does, or what is there is no socket",
                        config.address);
    if (error == -ERR_INVALID)
        return complain("cannot listen on %s: not a numeric ADDRESS:PORT, or the path is too long",
                        config.address);
    if (error)
        return complain("cannot listen on %s: %s", config.address, error_listen_text(error));
    return EXIT_DONE;
}

static int serve(struct program *program)
{
    char size[TEXT_SIZE_MAX];

    nbd_server_serve(program->server, program->image);
    fprintf(stderr, "fastblock-nbd: ready: %s (%s%s) at %s\n", program->options.name,
            text_format_size(client_image_size(program->image), size),
            program->options.read_only ? ", read-only" : "", nbd_server_address(program->server));
    uring_core_run(program->uring);
    return EXIT_DONE;
}

static void shut_down(struct program *program)
{
    if (program->server) {
        struct nbd_server_stop stop = {0};
        nbd_server_stop_start(&stop, program->server, NULL);
        uring_core_run_op(program->uring, &stop.op);
    }
    if (program->image) {
        struct client_image_close close = {0};
        client_image_close_start(&close, program->image, NULL);
        uring_core_run_op(program->uring, &close.op);
    }
    client_free(program->client);
    if (program->stream_net)
        uring_stream_net_free(program->stream_net);
    if (program->net)
        tcp_net_free(program->net);
    if (program->uring)
        uring_core_free(program->uring);
}

static int set_up(struct program *program)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGUSR1};
    struct uring_core_opts opts = {
        .arena_bytes = NBD_ARENA_BYTES,
        .spin_us = (uint32_t)program->options.spin_us,
        .log_level = LOG_INFO,
    };
    signal(SIGPIPE, SIG_IGN); /* who read what it says may be gone */
    daemon_raise_files();
    int error = uring_core_new(&opts, &program->uring);
    if (error)
        return complain("cannot start: %s", uring_core_error_text(error));
    program->core = uring_core_core(program->uring);
    program->net = tcp_net_new(program->uring);
    program->stream_net = uring_stream_net_new(program->uring);
    if (!program->net || !program->stream_net)
        return complain("out of memory");
    error = uring_core_signals(program->uring, signals, ARRAY_LEN(signals), signal_arrived, program);
    if (error)
        return complain("cannot take signals: %s", error_text(error));
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    struct program program = {.options = {.timeout_s = 60, .spin_us = CORE_SPIN_US_STANDARD}};
    int status = parse_options(argc, argv, &program.options);

    if (status >= 0)
        return status;
    status = set_up(&program);
    if (status == EXIT_DONE)
        status = connect_monitors(&program);
    if (status == EXIT_DONE)
        status = listen_there(&program);
    if (status == EXIT_DONE && !program.stopping)
        status = open_image(&program);
    if (status == EXIT_DONE && !program.stopping)
        status = serve(&program);
    shut_down(&program);
    return status;
}
