/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-mon: the monitor. One thread, one core, the metadata in a SQLite file in the data directory, or
 * in etcd, where several monitors may share it. Says nothing but log lines on stderr; ends in order on
 * SIGTERM and SIGINT.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/backend.h"
#include "backend/etcd_meta.h"
#include "base/error.h"
#include "cmd/daemon.h"
#include "cmd/placement_plugin.h"
#include "mon/mon.h"

#define HISTORY_MAX     10000 /* revisions that a watch could reach back */
#define ARENA_BYTES     (8u << 20)
#define OUT_AFTER_S     600
#define OUT_AFTER_MAX_S 31536000u

struct program {
    const char *listen, *advertise, *data, *etcd;
    char address[DAEMON_ADDRESS_SIZE], advertised[DAEMON_ADDRESS_SIZE];
    enum log_level log_level;
    uint64_t out_after_s;
    const char *plugins[MON_CHOOSERS_MAX];
    const struct placement_chooser *choosers[MON_CHOOSERS_MAX];
    uint32_t plugin_count;
    struct uring_core *uring;
    struct core *core;
    struct net *net;
    struct meta *meta;
};

static void print_help(FILE *out)
{
    fprintf(
        out,
        "usage: fastblock-mon --listen HOST:PORT (--data DIR | --meta ADDRESS) [OPTIONS]\n"
        "\n"
        "The monitor of a fastblock cluster: keeps the cluster map (OSDs, pools, placement groups, images).\n"
        "The first start on an empty directory or store founds a new cluster.\n"
        "\n"
        "options:\n"
        "  --listen HOST:PORT   where clients and OSDs find it; port 0 takes any\n"
        "  --advertise HOST:PORT  where they find it if that is another address; needed when it listens on all\n"
        "  --data DIR           where its state is kept; made if it is not there\n"
        "  --meta ADDRESS       instead of that: keep it in etcd v3.\n"
        "                       etcd://HOST:PORT[,HOST:PORT...][/PREFIX][?OPTION=VALUE[&...]], where the options\n"
        "                       are ca, cert, key, password-file (files) and user. ca asks for TLS. Several\n"
        "                       monitors may be started on one store: one leads, another one takes over\n"
        "  --osd-out-after S    seconds after which an OSD that is down is out: its data is made anew on\n"
        "                       others; and what is on a shard that has failed (default 600; 0: never)\n"
        "  --placement-plugin PATH  a shared object with a placement function that pools may name; up to %u times\n"
        "  --log-level LEVEL    error, warn, info (the default) or debug\n"
        "  --help, --version\n"
        "\n"
        "exit codes: 0 stopped in order (SIGTERM, SIGINT); 1 could not start; 2 wrong usage\n",
        MON_CHOOSERS_MAX);
}

static bool parse_seconds(const char *text, uint64_t *ret_s)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || value > OUT_AFTER_MAX_S)
        return false;
    *ret_s = value;
    return true;
}

/* -1: go on. */
static int parse(struct program *p, int argc, char **argv)
{
    static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
                                            {"advertise", required_argument, NULL, 'a'},
                                            {"data", required_argument, NULL, 'd'},
                                            {"meta", required_argument, NULL, 'm'},
                                            {"osd-out-after", required_argument, NULL, 'o'},
                                            {"placement-plugin", required_argument, NULL, 'p'},
                                            {"log-level", required_argument, NULL, 'L'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {0}};
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'l':
            p->listen = optarg;
            break;
        case 'a':
            p->advertise = optarg;
            break;
        case 'd':
            p->data = optarg;
            break;
        case 'm':
            p->etcd = optarg;
            break;
        case 'o':
            if (!parse_seconds(optarg, &p->out_after_s))
                return daemon_usage("--osd-out-after %s: it is a number of seconds, at most %u; 0: never",
                                    optarg, OUT_AFTER_MAX_S);
            break;
        case 'p':
            if (p->plugin_count == MON_CHOOSERS_MAX)
                return daemon_usage("--placement-plugin: at most %u of them", MON_CHOOSERS_MAX);
            p->plugins[p->plugin_count++] = optarg;
            break;
        case 'L':
            if (!daemon_log_level(optarg, &p->log_level))
                return DAEMON_USAGE;
            break;
        case 'h':
            print_help(stdout);
            return DAEMON_OK;
        case 'v':
            printf("fastblock-mon %s\n", FASTBLOCK_VERSION);
            return DAEMON_OK;
        default:
            return daemon_usage_hint(); /* getopt has said what is wrong */
        }
    }
    if (optind < argc)
        return daemon_usage("too many arguments at '%s'", argv[optind]);
    if (!p->listen)
        return daemon_usage("--listen HOST:PORT is needed");
    if (p->etcd ? p->data != NULL : !p->data || !*p->data)
        return daemon_usage("one of --data DIR and --meta ADDRESS is needed");
    if (!daemon_address(p->listen, p->address) ||
        (p->advertise && !daemon_address(p->advertise, p->advertised)))
        return DAEMON_USAGE;
    bool anywhere = !strncmp(p->address, "0.0.0.0:", 8) || !strncmp(p->address, "[::]:", 5);
    if (p->etcd && anywhere && !p->advertise)
        return daemon_usage(
            "it listens on all addresses: say with --advertise HOST:PORT at which one others find it");
    return -1;
}

static int open_etcd(struct program *p)
{
    char message[256];

    return etcd_meta_open(p->uring, p->etcd, &p->meta, message, sizeof(message)) ? daemon_fail("%s", message)
                                                                                 : DAEMON_OK;
}

static int open_sqlite(struct program *p)
{
    char path[PATH_MAX];

    if (mkdir(p->data, 0700) < 0 && errno != EEXIST)
        return daemon_fail("cannot make the data directory %s: %s", p->data, strerror(errno));
    if (snprintf(path, sizeof(path), "%s/metadata.sqlite", p->data) >= (int)sizeof(path))
        return daemon_fail("the name of the data directory is too long");
    struct stat st;
    if (stat(p->data, &st) < 0 || !S_ISDIR(st.st_mode))
        return daemon_fail("%s is not a directory: give one with --data", p->data);
    if (access(p->data, R_OK | W_OK | X_OK) < 0)
        return daemon_fail(
            "cannot use the data directory %s: %s. It must be a directory that the user of this process "
            "may write to",
            p->data, strerror(errno));
    int error = sqlite_meta_open(p->core, path, HISTORY_MAX, &p->meta);
    if (error == -ERR_LOCKED)
        return daemon_fail(
            "%s is in use: another monitor runs on this data directory. Stop it first, or give this one its own",
            path);
    if (error == -ERR_VERSION)
        return daemon_fail("%s was written by another version of fastblock-mon: use that version", path);
    if (error == -ERR_FORMAT)
        return daemon_fail(
            "%s is damaged, or not the metadata of a fastblock monitor: restore the newest copy of the "
            "directory",
            path);
    if (error)
        return daemon_fail("cannot use the metadata in %s: %s", path, error_text(error));
    return DAEMON_OK;
}

static size_t live_ops(const struct core *core)
{
    size_t count = 0;

    list_for_each (&core->live_ops, node)
        count++;
    return count;
}

static void on_signal(void *owner, int signal_number)
{
    uring_core_stop(owner);
}

static int serve(struct program *p)
{
    struct mon_start start = {0};
    size_t before = live_ops(p->core);

    struct mon_config config = {.core = p->core,
                                .net = p->net,
                                .meta = p->meta,
                                .listen = p->address,
                                .advertise = p->advertise ? p->advertised : NULL,
                                .version = FASTBLOCK_VERSION,
                                .osd_out_after_ns = p->out_after_s * NS_PER_S,
                                .chooser_count = p->plugin_count};

    memcpy(config.choosers, p->choosers, sizeof(config.choosers));
    mon_start_start(&start, &config, NULL);
    if (uring_core_run_op(p->uring, &start.op))
        return daemon_fail("%s", start.ret_message[0] ? start.ret_message : error_text(start.op.result));
    uring_core_run(p->uring);
    core_log(p->core, LOG_INFO, "mon", "stopping");
    mon_free(start.ret_mon);
    while (live_ops(p->core) > before) /* a change that is being written */
        uring_core_turn(p->uring, 10 * NS_PER_MS);
    return DAEMON_OK;
}

static int run(struct program *p)
{
    static const int signals[] = {SIGTERM, SIGINT};
    struct uring_core_opts opts = {.arena_bytes = ARENA_BYTES, .log_level = p->log_level};

    char message[512];

    for (uint32_t i = 0; i < p->plugin_count; i++) {
        p->choosers[i] = placement_plugin_load(p->plugins[i], message, sizeof(message));
        if (!p->choosers[i])
            return daemon_fail("%s", message);
    }
    signal(SIGPIPE, SIG_IGN);
    daemon_raise_files();
    int error = uring_core_new(&opts, &p->uring);
    if (error)
        return daemon_fail("cannot start: %s", uring_core_error_text(error));
    p->core = uring_core_core(p->uring);
    p->net = tcp_net_new(p->uring);
    int result = DAEMON_FAILED;
    error = p->net ? uring_core_signals(p->uring, signals, ARRAY_LEN(signals), on_signal, p->uring)
                   : -ERR_NO_MEMORY;
    if (error)
        result = daemon_fail("cannot start: %s", error_text(error));
    else
        result = p->etcd ? open_etcd(p) : open_sqlite(p);
    if (!result) {
        result = serve(p);
        p->meta->ops->close(p->meta);
    }
    if (p->net)
        tcp_net_free(p->net);
    uring_core_free(p->uring);
    return result;
}

int main(int argc, char **argv)
{
    struct program p = {.log_level = LOG_INFO, .out_after_s = OUT_AFTER_S};
    if (!daemon_config("mon", &argc, &argv))
        return DAEMON_USAGE;
    int result = parse(&p, argc, argv);

    return result >= 0 ? result : run(&p);
}
