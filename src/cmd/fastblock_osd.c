/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-osd: one storage device of the cluster. `format` makes one, `run` serves it, `show` tells whose a
 * device is.
 *
 * run: the device is opened under its lock, its label read, the start counter raised durably; then one thread
 * per shard, each with a core of its own on its slice. The main thread waits for SIGTERM or SIGINT, or for a
 * shard that cannot start, and ends the shards in order: each hands its leaders over and closes its store.
 */
#include "cmd/osd.h"

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "osd/osd.h"

#define LOCK_WAIT_MS 2000

#define MAIN_ARENA        (4u << 20)
#define CACHE_STANDARD    (256ull << 20)
#define CACHE_SHARD_MIN   (16ull << 20)
#define ARENA_SHARD_EXTRA (128ull << 20) /* beside the cache: what is on its way */
#define SPIN_MAX_US       1000000

/* ---- helpers of both commands ---- */

static int open_whole(struct uring_core *uring, struct uring_dev *dev, struct blk **ret_blk)
{
    return uring_blk_new(uring, dev, 0, ALIGN_DOWN(uring_dev_size(dev), (uint64_t)BLOCK_SIZE), ret_blk);
}

int osd_read_label(struct uring_core *uring, struct uring_dev *dev, struct device_label *ret_label)
{
    struct device_read read = {0};
    struct blk *blk;
    int error = open_whole(uring, dev, &blk);

    if (error)
        return error;
    device_read_start(&read, uring_core_core(uring), blk, NULL);
    error = uring_core_run_op(uring, &read.op);
    blk->ops->close(blk);
    if (!error)
        *ret_label = read.ret_label;
    return error;
}

int osd_write_label(struct uring_core *uring, struct uring_dev *dev, const struct device_label *label)
{
    struct device_write write = {0};
    struct blk *blk;
    int error = open_whole(uring, dev, &blk);

    if (error)
        return error;
    device_write_start(&write, uring_core_core(uring), blk, label, NULL);
    error = uring_core_run_op(uring, &write.op);
    blk->ops->close(blk);
    return error;
}

int osd_open_device(const char *path, struct uring_dev **ret_dev)
{
    int error = uring_dev_open(path, URING_CACHE_ASK, false, ret_dev);

    /* One that was just killed may take a moment to let go of it. */
    for (int waited_ms = 0; error == -ERR_LOCKED && waited_ms < LOCK_WAIT_MS; waited_ms += 50) {
        nanosleep(&(struct timespec){.tv_nsec = 50 * NS_PER_MS}, NULL);
        error = uring_dev_open(path, URING_CACHE_ASK, false, ret_dev);
    }
    if (!error)
        return DAEMON_OK;
    if (error == -ERR_LOCKED)
        return daemon_fail(
            "%s is in use: by a running fastblock-osd, a mount, or something else in the kernel", path);
    if (error == -ERR_READ_ONLY)
        return daemon_fail("%s is read-only", path);
    if (error == -ERR_INVALID)
        return daemon_fail(
            "%s cannot be used: it must be a block device, or a regular file on a file system with O_DIRECT",
            path);
    return daemon_fail("cannot open %s: %s", path, error_text(error));
}

/* ---- run ---- */

struct run;

struct shard_thread {
    struct run *run;
    pthread_t thread;
    bool started; /* the thread is there */
    uint32_t number;
    char log_prefix[24];
    struct uring_core *uring;
    bool served; /* its start succeeded */
    int error;   /* of the start, or the end; written by the thread before it ends */
    char message[256];
};

struct run {
    const struct osd_options *options;
    struct uring_core *uring; /* the main thread's */
    struct uring_dev *dev;
    struct faults *faults; /* NULL: none ordered */
    struct device_label label;
    char listen[DAEMON_ADDRESS_SIZE + 8];
    uint64_t cache_shard_bytes;
    struct shard_thread shards[DEVICE_SLICES_MAX];
};

/* The shard's life on its own core: starts, runs until the main thread says stop, stops. */
static int shard_serve(struct shard_thread *t, struct net *net, struct blk *blk)
{
    const struct osd_options *o = t->run->options;
    struct osd_shard_start start = {0};
    struct osd_shard_stop stop = {0};
    struct osd_shard_config config = {.core = uring_core_core(t->uring),
                                      .net = net,
                                      .blk = blk,
                                      .label = &t->run->label,
                                      .shard = t->number,
                                      .listen = t->run->listen,
                                      .monitors = (const char *const *)o->monitors.address,
                                      .monitor_count = o->monitors.count,
                                      .host = o->host ? o->host : "",
                                      .rack = o->rack ? o->rack : "",
                                      .zone = o->zone ? o->zone : "",
                                      .cache_bytes = t->run->cache_shard_bytes};

    osd_shard_start_start(&start, &config, NULL);
    int error = uring_core_run_op(t->uring, &start.op);
    if (error) {
        snprintf(t->message, sizeof(t->message), "%s", start.ret_message);
        return error;
    }
    t->served = true;
    uring_core_run(t->uring);
    osd_shard_stop_start(&stop, start.ret_shard, NULL);
    return uring_core_run_op(t->uring, &stop.op);
}

/* The shard's slice of the device, with the faults that were ordered. */
static int shard_open_slice(struct shard_thread *t, struct blk **ret_blk)
{
    const struct device_label *label = &t->run->label;
    uint64_t offset = label->slice_offset[t->number];
    struct blk *blk;
    int error = uring_blk_new(t->uring, t->run->dev, offset, label->slice_size, &blk);

    if (error)
        return error;
    *ret_blk = blk;
    if (!t->run->faults)
        return 0;
    error = fault_blk_new(uring_core_core(t->uring), t->run->faults, blk, offset, ret_blk);
    if (error)
        blk->ops->close(blk);
    return error;
}

static int shard_open_ports(struct shard_thread *t)
{
    struct blk *blk;
    struct net *net = tcp_net_new(t->uring);

    if (!net)
        return -ERR_NO_MEMORY;
    int error = shard_open_slice(t, &blk);
    if (!error) {
        error = shard_serve(t, net, blk);
        blk->ops->close(blk);
    }
    tcp_net_free(net);
    return error;
}

static void *shard_main(void *argument)
{
    struct shard_thread *t = argument;

    t->error = shard_open_ports(t);
    uring_core_drain(t->uring);
    if (t->error)
        uring_core_stop(t->run->uring); /* the main thread ends the others */
    return NULL;
}

/* Cores are made by the main thread, so that it can stop them at any time; each belongs to the thread that
 * turns it. */
static int start_shard(struct run *run, uint32_t number)
{
    struct shard_thread *t = &run->shards[number];
    struct uring_core_opts opts = {.arena_bytes = run->cache_shard_bytes + ARENA_SHARD_EXTRA,
                                   .spin_us = (uint32_t)run->options->spin_us,
                                   .log_level = run->options->log_level,
                                   .log_prefix = t->log_prefix};

    t->run = run;
    t->number = number;
    if (run->label.slice_count == 1)
        snprintf(t->log_prefix, sizeof(t->log_prefix), "osd.%u", run->label.osd);
    else
        snprintf(t->log_prefix, sizeof(t->log_prefix), "osd.%u/%u", run->label.osd, number);
    int error = uring_core_new(&opts, &t->uring);
    if (error)
        return daemon_fail("cannot start shard %u: %s%s", number, uring_core_error_text(error),
                           error == -ERR_NO_MEMORY ? " (a smaller --cache needs less)" : "");
    if (pthread_create(&t->thread, NULL, shard_main, t)) {
        uring_core_free(t->uring);
        t->uring = NULL;
        return daemon_fail("cannot start a thread for shard %u", number);
    }
    t->started = true;
    return DAEMON_OK;
}

/* What to do about it, where the message does not say so. */
static const char *remedy(int error)
{
    if (error == -ERR_CLUSTER)
        return ": the monitor at this address is not the one that the device was formatted with. Give the address of the "
               "device's own cluster with --mon; if this should be it, its data directory was emptied or replaced: start "
               "it on the original one. No data was lost";
    if (error == -ERR_TOO_SMALL)
        return ": the OSD on it was made when the device was larger. Make it as large as it was (look for a partition, "
               "volume or array that has changed), and do not format it: that would delete the data, which is still there";
    if (error == -ERR_VERSION)
        return ": the device was written by another version of fastblock: run that version. No data was lost";
    return "";
}

static int stop_shards(struct run *run)
{
    int result = DAEMON_OK;

    for (uint32_t i = 0; i < run->label.slice_count; i++)
        if (run->shards[i].started)
            uring_core_stop(run->shards[i].uring);
    for (uint32_t i = 0; i < run->label.slice_count; i++) {
        struct shard_thread *t = &run->shards[i];
        if (!t->started)
            continue;
        pthread_join(t->thread, NULL);
        uring_core_free(t->uring);
        if (!t->error)
            continue;
        daemon_fail("osd.%u shard %u: %s%s", run->label.osd, i,
                    t->message[0] ? t->message : error_text(t->error), remedy(t->error));
        bool refused = t->error == -ERR_IDENTITY || t->error == -ERR_CLUSTER ||
                       t->error == -ERR_ROLLED_BACK || t->error == -ERR_NOT_FOUND || t->error == -ERR_LOCKED;
        result = MAX(result, refused ? DAEMON_REFUSED : DAEMON_FAILED);
    }
    return result;
}

/* A start that the cluster refused is not counted: a copy of a device would overtake the original by being
 * tried often enough. */
static void uncount_start(struct run *run)
{
    for (uint32_t i = 0; i < run->label.slice_count; i++)
        if (run->shards[i].served)
            return;
    run->label.start_counter--;
    int error = osd_write_label(run->uring, run->dev, &run->label);
    if (error)
        daemon_fail("cannot write to %s: %s", run->options->device, error_text(error));
}

static int serve(struct run *run)
{
    const struct osd_options *o = run->options;

    int error = osd_read_label(run->uring, run->dev, &run->label);
    if (error)
        return daemon_fail("%s: %s%s", o->device, error_text(error),
                           error == -ERR_FORMAT ? "; `fastblock-osd format` makes an OSD of a device"
                                                : remedy(error));
    const struct device_label *label = &run->label;
    run->cache_shard_bytes = o->cache_bytes / label->slice_count;
    if (run->cache_shard_bytes < CACHE_SHARD_MIN)
        return daemon_fail("--cache is too small: %u shards need at least 16 MiB each", label->slice_count);
    run->label.start_counter++;
    run->label.start_token = core_random_u64(uring_core_core(run->uring));
    error = osd_write_label(run->uring, run->dev, &run->label);
    if (error)
        return daemon_fail("cannot write to %s: %s", o->device, error_text(error));

    int result = DAEMON_OK;
    for (uint32_t i = 0; i < label->slice_count && !result; i++)
        result = start_shard(run, i);
    if (!result)
        uring_core_run(run->uring);
    core_log(uring_core_core(run->uring), LOG_INFO, "osd", "osd.%u: stopping", label->osd);
    int stopped = stop_shards(run);
    if (!result && stopped == DAEMON_REFUSED)
        uncount_start(run);
    return result ? result : stopped;
}

static int load_faults(struct run *run)
{
    char message[FAULTS_MESSAGE_SIZE];
    uint32_t count;

    if (faults_load(run->faults, message, &count))
        return daemon_fail("--faults %s: %s", run->options->faults, message);
    core_log(uring_core_core(run->uring), LOG_WARN, "osd", "%u rules for faults of the device from %s", count,
             run->options->faults);
    return DAEMON_OK;
}

static void on_signal(void *owner, int signal_number)
{
    struct run *run = owner;

    if (signal_number == SIGHUP)
        load_faults(run); /* a file with a mistake leaves the rules as they were */
    else
        uring_core_stop(run->uring);
}

static bool choose_listen(const struct osd_options *o, char *ret_listen, size_t size)
{
    char host[DAEMON_ADDRESS_SIZE];

    if (!o->listen) {
        if (!daemon_own_host(o->monitors.address[0], host)) {
            daemon_fail(
                "no way to the monitor at %s: say with --listen HOST at which address this OSD can be reached",
                o->monitors.address[0]);
            return false;
        }
        snprintf(ret_listen, size, "%s:0", host);
        return true;
    }
    const char *bare = o->listen;
    bool v6 = strchr(bare, ':') && bare[0] != '[';
    char text[DAEMON_ADDRESS_SIZE * 4];
    snprintf(text, sizeof(text), "%s%s%s:0", v6 ? "[" : "", bare, v6 ? "]" : "");
    return daemon_address(text, ret_listen);
}

static int osd_run(const struct osd_options *o)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP}; /* the last one for the faults */
    struct uring_core_opts opts = {.arena_bytes = MAIN_ARENA, .log_level = o->log_level};
    struct run *run = calloc(1, sizeof(*run));

    if (!run)
        return daemon_fail("out of memory");
    run->options = o;
    int result = DAEMON_FAILED;
    if (!choose_listen(o, run->listen, sizeof(run->listen)))
        goto out;
    int error = uring_core_new(&opts, &run->uring);
    if (error) {
        daemon_fail("cannot start: %s", uring_core_error_text(error));
        goto out;
    }
    error = uring_core_signals(run->uring, signals, ARRAY_LEN(signals) - !o->faults, on_signal, run);
    if (!error && o->faults)
        error = faults_new(o->faults, &run->faults);
    result = error ? daemon_fail("cannot start: %s", error_text(error)) : DAEMON_OK;
    if (!result && o->faults)
        result = load_faults(run);
    if (!result)
        result = osd_open_device(o->device, &run->dev);
    if (!result)
        result = serve(run);
    uring_dev_close(run->dev);
    faults_free(run->faults);
    uring_core_free(run->uring);
out:
    free(run);
    return result;
}

/* ---- the command line ---- */

static void print_help(FILE *out)
{
    fprintf(
        out,
        "usage: fastblock-osd format DEVICE --mon ADDR [options]   make a device, or a new file, an OSD of the cluster\n"
        "       fastblock-osd run DEVICE --mon ADDR [options]      serve it\n"
        "       fastblock-osd show DEVICE [--json]                 tell which OSD of which cluster it is\n"
        "\n"
        "options of format and run:\n"
        "  --mon HOST:PORT[,...]  the monitors; else $FASTBLOCK_MON, else `mon = ...` in /etc/fastblock.conf\n"
        "  --host NAME            where it stands (format: default this machine's name; run: default what format said)\n"
        "  --rack NAME            the same for the rack (default: none)\n"
        "  --zone NAME            the same for what racks stand in: a room, a building (default: none)\n"
        "  --log-level LEVEL      error, warn (default of format), info (of run) or debug\n"
        "  --help, --version\n"
        "\n"
        "options of format:\n"
        "  --shards N             one per core that is to serve it, 1 (the default) to %u; cannot be changed later\n"
        "  --size SIZE            make a new file of this size, for example 8G\n"
        "  --force                even if there is something on the device: deletes it\n"
        "\n"
        "options of run:\n"
        "  --listen HOST          address to listen on and to publish (default: the one on the way to the monitor)\n"
        "  --cache SIZE           memory for data, of all shards (default 256M)\n"
        "  --spin US              poll for at most so many microseconds before sleeping, where that pays; 0: never (default 100)\n"
        "  --faults FILE          for tests: let the device fail as the rules in FILE say, read again at SIGHUP; see fastblock-osd(8)\n"
        "\n"
        "exit codes: 0 done, or stopped in order (SIGTERM, SIGINT); 1 failed; 2 wrong usage; 3 refused by the cluster\n"
        "(the device belongs to another one, is a copy, or runs elsewhere: starting it again does not help)\n",
        DEVICE_SLICES_MAX);
}

enum command { COMMAND_FORMAT, COMMAND_RUN, COMMAND_SHOW, COMMANDS };
static const char *const command_names[COMMANDS] = {"format", "run", "show"};

static enum command command_find(const char *name)
{
    enum command c = 0;

    while (c < COMMANDS && strcmp(name, command_names[c]) != 0)
        c++;
    return c;
}

/* For each command the options that it knows, by their letters below. */
static const char *const command_options[COMMANDS] = {"mHRZLSzFhv", "mHRZLlcsfhv", "jhv"};

/* Prints what is wrong with an option of another command. */
static int option_strange(int option)
{
    for (enum command c = 0; c < COMMANDS; c++)
        if (strchr(command_options[c], option))
            return daemon_usage("this option is one of `%s`", command_names[c]);
    UNREACHABLE();
}

/* -1: go on. */
static int take_option(struct osd_options *o, int option)
{
    switch (option) {
    case 'H':
        o->host = optarg;
        return -1;
    case 'R':
        o->rack = optarg;
        return -1;
    case 'Z':
        o->zone = optarg;
        return -1;
    case 'l':
        o->listen = optarg;
        return -1;
    case 'L':
        return daemon_log_level(optarg, &o->log_level) ? -1 : DAEMON_USAGE;
    case 'S':
        return daemon_number("--shards", optarg, 1, DEVICE_SLICES_MAX, &o->shards) ? -1 : DAEMON_USAGE;
    case 'z':
        if (!daemon_size("--size", optarg, &o->size_bytes))
            return DAEMON_USAGE;
        return o->size_bytes ? -1 : daemon_usage("--size 0: a size such as 8G is needed");
    case 'F':
        o->force = true;
        return -1;
    case 'c':
        return daemon_size("--cache", optarg, &o->cache_bytes) ? -1 : DAEMON_USAGE;
    case 's':
        return daemon_number("--spin", optarg, 0, SPIN_MAX_US, &o->spin_us) ? -1 : DAEMON_USAGE;
    case 'f':
        o->faults = optarg;
        return -1;
    case 'j':
        o->json = true;
        return -1;
    case 'h':
        print_help(stdout);
        return DAEMON_OK;
    case 'v':
        printf("fastblock-osd %s\n", FASTBLOCK_VERSION);
        return DAEMON_OK;
    default:
        return daemon_usage_hint(); /* getopt has said what is wrong */
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"mon", required_argument, NULL, 'm'},    {"host", required_argument, NULL, 'H'},
        {"rack", required_argument, NULL, 'R'},   {"zone", required_argument, NULL, 'Z'},
        {"listen", required_argument, NULL, 'l'}, {"log-level", required_argument, NULL, 'L'},
        {"shards", required_argument, NULL, 'S'}, {"size", required_argument, NULL, 'z'},
        {"force", no_argument, NULL, 'F'},        {"cache", required_argument, NULL, 'c'},
        {"spin", required_argument, NULL, 's'},   {"faults", required_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {0}};
    struct osd_options o = {
        .shards = 1, .cache_bytes = CACHE_STANDARD, .spin_us = CORE_SPIN_US_STANDARD, .log_level = LOG_INFO};
    const char *mon = NULL;
    enum command command = argc > 1 ? command_find(argv[1]) : COMMANDS;
    int c;

    if (command == COMMAND_FORMAT)
        o.log_level = LOG_WARN; /* it says itself how it went */
    if (command == COMMAND_RUN && !daemon_config("osd", &argc, &argv))
        return DAEMON_USAGE;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c != '?' && command != COMMANDS && !strchr(command_options[command], c))
            return option_strange(c);
        if (c == 'm') {
            mon = optarg;
            continue;
        }
        int result = take_option(&o, c);
        if (result >= 0)
            return result;
    }
    if (optind == argc)
        return daemon_usage("a command is needed: format, run or show");
    if (command == COMMANDS || strcmp(argv[optind], command_names[command]) != 0)
        return daemon_usage("unknown command '%s': it is format, run or show, before the options",
                            argv[optind]);
    if (optind + 1 == argc)
        return daemon_usage("%s needs a DEVICE: a block device or a file", argv[optind]);
    if (optind + 2 < argc)
        return daemon_usage("too many arguments at '%s'", argv[optind + 2]);
    o.device = argv[optind + 1];
    if (command == COMMAND_SHOW)
        return osd_show(&o);
    if (!daemon_monitors(mon, &o.monitors))
        return DAEMON_USAGE;
    signal(SIGPIPE, SIG_IGN);
    daemon_raise_files();
    return command == COMMAND_FORMAT ? osd_format(&o) : osd_run(&o);
}
