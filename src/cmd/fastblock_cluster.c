/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock cluster ...: a one-machine cluster for trying it out.
 *
 * All that it is lives in one directory: cluster.json (how it was set up, and the monitor's address, so that
 * it comes back the same), a folder per process, NAME.pid and NAME.log. Processes are daemons of their own:
 * nothing watches them, `start` brings one back. A pid counts as ours only if that process runs one of our
 * programs on this directory.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/text.h"
#include "cmd/cmd.h"
#include "store/store.h"

#define OSDS_MAX      64
#define NAME_SIZE     16
#define PATH_SIZE     (PATH_MAX + 64)
#define START_WAIT_MS 60000
#define STOP_WAIT_MS  20000
#define PORT_WAIT_MS  2000

#define CACHE_STANDARD     (256ull << 20)
#define OUT_AFTER_STANDARD 600

struct cluster {
    char dir[PATH_MAX];
    char mon[64]; /* address */
    uint32_t osds, shards, spin_us, out_after_s;
    uint64_t size_bytes, cache_bytes; /* of each OSD */
    int lock_fd;
};

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&ts, NULL);
}

static const char *path_of(const struct cluster *c, char *path, const char *format, ...) PRINTF_LIKE(3, 4);
static const char *path_of(const struct cluster *c, char *path, const char *format, ...)
{
    va_list list;
    int len = snprintf(path, PATH_SIZE, "%s/", c->dir);
    va_start(list, format);
    vsnprintf(path + len, PATH_SIZE - (size_t)len, format, list);
    va_end(list);
    return path;
}

/* ---- the directory ---- */

static int cluster_lock(struct cluster *c)
{
    char path[PATH_SIZE];
    c->lock_fd = open(path_of(c, path, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (c->lock_fd < 0)
        return cmd_fail("cannot write to %s: %s", c->dir, strerror(errno));
    if (flock(c->lock_fd, LOCK_EX) < 0)
        return cmd_fail("cannot lock %s: %s", path, strerror(errno));
    return CMD_OK;
}

static int cluster_load(struct cluster *c, const char *dir)
{
    char path[PATH_SIZE];
    const char *mon;
    json_int_t osds, shards, size, spin;
    json_int_t cache = CACHE_STANDARD,
               out_after = OUT_AFTER_STANDARD; /* one made by an older command does not say */
    *c = (struct cluster){.lock_fd = -1};
    if (!realpath(dir, c->dir))
        return cmd_fail("there is no cluster in %s: %s; `fastblock cluster up %s` starts one", dir,
                        strerror(errno), dir);
    json_t *json = json_load_file(path_of(c, path, "cluster.json"), 0, NULL);
    if (!json)
        return cmd_fail("there is no cluster in %s (no cluster.json); `fastblock cluster up %s` starts one",
                        dir, dir);
    int error = json_unpack(json, "{s:s, s:I, s:I, s:I, s:I, s?I, s?I}", "mon", &mon, "osds", &osds, "shards",
                            &shards, "size_bytes", &size, "spin_us", &spin, "cache_bytes", &cache,
                            "out_after_s", &out_after);
    if (error || osds < 1 || osds > OSDS_MAX || text_copy(c->mon, sizeof(c->mon), mon)) {
        json_decref(json);
        return cmd_fail("%s/cluster.json is damaged", c->dir);
    }
    c->osds = (uint32_t)osds;
    c->shards = (uint32_t)shards;
    c->size_bytes = (uint64_t)size;
    c->spin_us = (uint32_t)spin;
    c->cache_bytes = (uint64_t)cache;
    c->out_after_s = (uint32_t)out_after;
    json_decref(json);
    return cluster_lock(c);
}

static int cluster_save(const struct cluster *c)
{
    char path[PATH_SIZE];
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "mon", c->mon, "osds",
                             (json_int_t)c->osds, "shards", (json_int_t)c->shards, "size_bytes",
                             (json_int_t)c->size_bytes, "spin_us", (json_int_t)c->spin_us, "cache_bytes",
                             (json_int_t)c->cache_bytes, "out_after_s", (json_int_t)c->out_after_s);
    int error = json_dump_file(json, path_of(c, path, "cluster.json"), JSON_INDENT(2));
    json_decref(json);
    return error ? cmd_fail("cannot write %s: %s", path, strerror(errno)) : CMD_OK;
}

/* May somebody listen at this port of 127.0.0.1? */
static bool port_is_free(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_port = htons((uint16_t)port);
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

/* A port that is free now, for the monitor to keep: below those that kernels hand out to outgoing
 * connections, one of which could have it when the monitor is started again. */
static int choose_address(char *ret_address, size_t size)
{
    enum { FIRST = 26000, COUNT = 1700 };
    bool found = false;

    for (int i = 0; i < COUNT && !found; i++) {
        int port = FIRST + (getpid() + i) % COUNT;
        found = port_is_free(port);
        snprintf(ret_address, size, "127.0.0.1:%d", port);
    }
    return found ? CMD_OK : cmd_fail("cannot find a free port on 127.0.0.1");
}

/* ---- processes ---- */

/* Has the process begun to end (PF_EXITING of the kernel, in the flags of /proc/PID/stat)? It may hold its
 * files a moment longer. */
static bool is_ending(int pid)
{
    char path[64], line[1024] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return true;
    size_t len = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[len] = 0;
    const char *fields = strrchr(line, ')'); /* the name before it may contain anything */
    char state = 0;
    unsigned flags = 0;
    if (!fields || sscanf(fields, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return true;
    return state == 'Z' || state == 'X' || (flags & 4) != 0;
}

/* The pid of a process of ours, 0 if it does not run. */
static pid_t process_pid(const struct cluster *c, const char *name)
{
    char path[PATH_SIZE], line[4096];
    int pid = 0;
    FILE *file = fopen(path_of(c, path, "%s.pid", name), "re");
    if (!file)
        return 0;
    if (fscanf(file, "%d", &pid) != 1)
        pid = 0;
    fclose(file);
    if (pid <= 1)
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    size_t len = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[len] = 0; /* a zombie's is empty */
    for (size_t i = 0; i + 1 < len; i++)
        if (line[i] == 0)
            line[i] = ' ';
    snprintf(path, sizeof(path), "%s/%s", c->dir, name);
    return strstr(line, "fastblock-") && strstr(line, path) && !is_ending(pid) ? pid : 0;
}

static int program_path(const char *program, char *ret_path)
{
    ssize_t len = readlink("/proc/self/exe", ret_path, PATH_MAX - 32);
    if (len < 0)
        return cmd_fail("cannot find my own program: %s", strerror(errno));
    ret_path[len] = 0;
    strcpy(strrchr(ret_path, '/') + 1, program);
    if (access(ret_path, X_OK) < 0)
        return cmd_fail("%s: %s; it must stand beside `fastblock`", ret_path, strerror(errno));
    return CMD_OK;
}

static void print_log_tail(const struct cluster *c, const char *name)
{
    char path[PATH_SIZE], text[2048];
    int fd = open(path_of(c, path, "%s.log", name), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END);
    ssize_t len = pread(fd, text, sizeof(text) - 1, end > 1500 ? end - 1500 : 0);
    close(fd);
    if (len > 0)
        fprintf(stderr, "last lines of %s:\n%.*s", path, (int)len, text);
}

/* Runs a program with its output going to NAME.log. `argv[0]` is replaced by its path. Returns the pid, or
 * -1. */
static pid_t launch(const struct cluster *c, const char *name, const char **argv)
{
    char program[PATH_MAX], path[PATH_SIZE];
    if (program_path(argv[0], program))
        return -1;
    argv[0] = program;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        cmd_fail("cannot start %s: %s", name, strerror(errno));
        return -1;
    }
    if (pid == 0) {
        setsid();
        /* All that it needs is in its arguments: this machine's configuration is about another cluster. */
        setenv("FASTBLOCK_CONF", "/dev/null", 1);
        int in = open("/dev/null", O_RDWR);
        int out = open(path_of(c, path, "%s.log", name), O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (in < 0 || out < 0)
            _exit(127);
        dup2(in, 0);
        dup2(out, 1);
        dup2(out, 2);
        execv(program, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

static int write_pid(const struct cluster *c, const char *name, pid_t pid)
{
    char path[PATH_SIZE];
    FILE *file = fopen(path_of(c, path, "%s.pid", name), "we");
    if (!file || fprintf(file, "%d\n", (int)pid) < 0 || fclose(file) != 0)
        return cmd_fail("cannot write %s: %s", path, strerror(errno));
    return CMD_OK;
}

/* True, with a message, if a daemon that we have started has ended already. */
static bool has_ended(const struct cluster *c, const char *name, pid_t pid)
{
    int status;
    if (waitpid(pid, &status, WNOHANG) != pid)
        return false;
    cmd_fail("%s ended at once (%s %d)", name, WIFEXITED(status) ? "exit code" : "signal",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    print_log_tail(c, name);
    return true;
}

static int mon_port(const struct cluster *c)
{
    return atoi(strrchr(c->mon, ':') + 1);
}

/* Tries to connect to the monitor's port. */
static bool mon_answers(const struct cluster *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)mon_port(c));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

/* Until its port is free whoever answers there is somebody else. One that was just killed may take a moment
 * to let go of it. */
static int wait_port(const struct cluster *c)
{
    for (int waited = 0; !port_is_free(mon_port(c)); waited += 20) {
        if (waited > PORT_WAIT_MS)
            return cmd_fail(
                "something else listens on %s, the address of this cluster's monitor: stop that, or "
                "remove %s and begin anew",
                c->mon, c->dir);
        sleep_ms(20);
    }
    return CMD_OK;
}

static int start_mon(const struct cluster *c)
{
    char data[PATH_SIZE], out_after[16];
    if (wait_port(c))
        return CMD_FAILED;
    snprintf(out_after, sizeof(out_after), "%u", c->out_after_s);
    const char *argv[] = {"fastblock-mon",         "--listen",        c->mon,    "--data",
                          path_of(c, data, "mon"), "--osd-out-after", out_after, NULL};
    pid_t pid = launch(c, "mon", argv);
    if (pid < 0 || write_pid(c, "mon", pid))
        return CMD_FAILED;
    for (int waited = 0; waited < START_WAIT_MS; waited += 20) {
        if (has_ended(c, "mon", pid))
            return CMD_FAILED;
        if (mon_answers(c))
            return CMD_OK;
        sleep_ms(20);
    }
    cmd_fail("the monitor does not answer at %s", c->mon);
    print_log_tail(c, "mon");
    return CMD_FAILED;
}

static bool is_formatted(const struct cluster *c, uint32_t osd)
{
    char path[PATH_SIZE];
    struct stat st;

    return stat(path_of(c, path, "osd.%u/formatted", osd), &st) == 0;
}

/* Of one that was formatted: the map has it no more. */
static bool was_removed(const struct cluster *c, struct cmd_args *args, uint32_t osd)
{
    struct cmd_session s;
    bool there = false;

    args->mon = c->mon;
    if (!cmd_session_open(&s, args, 0, 0))
        return false;
    const Fb__ClusterMap *map = client_map(s.client);
    for (size_t i = 0; i < map->n_osd; i++)
        there |= map->osd[i]->id == osd && !map->osd[i]->removed;
    cmd_session_close(&s);
    return !there;
}

static int format_osd(const struct cluster *c, uint32_t osd)
{
    char name[NAME_SIZE], path[PATH_SIZE], shards[16], size[32];
    snprintf(name, sizeof(name), "osd.%u", osd);
    if (mkdir(path_of(c, path, "%s", name), 0755) < 0 && errno != EEXIST)
        return cmd_fail("cannot make %s: %s", path, strerror(errno));
    if (is_formatted(c, osd))
        return CMD_OK;
    path_of(c, path, "%s/device", name);
    snprintf(shards, sizeof(shards), "%u", c->shards);
    snprintf(size, sizeof(size), "%llu", (unsigned long long)c->size_bytes);
    unlink(path); /* of an attempt that was cut short */
    const char *argv[] = {"fastblock-osd", "format", path,     "--mon", c->mon,
                          "--shards",      shards,   "--size", size,    NULL};
    pid_t pid = launch(c, name, argv);
    int status = 0;
    if (pid < 0)
        return CMD_FAILED;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0) {
        cmd_fail("%s could not be formatted", name);
        print_log_tail(c, name);
        return CMD_FAILED;
    }
    int fd = open(path_of(c, path, "%s/formatted", name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || close(fd) < 0)
        return cmd_fail("cannot write %s: %s", path, strerror(errno));
    return CMD_OK;
}

static pid_t start_osd(const struct cluster *c, uint32_t osd)
{
    char name[NAME_SIZE], device[PATH_SIZE], spin[16], cache[32];
    snprintf(name, sizeof(name), "osd.%u", osd);
    snprintf(spin, sizeof(spin), "%u", c->spin_us);
    snprintf(cache, sizeof(cache), "%llu", (unsigned long long)c->cache_bytes);
    const char *argv[] = {"fastblock-osd", "run",    path_of(c, device, "%s/device", name),
                          "--mon",         c->mon,   "--listen",
                          "127.0.0.1",     "--spin", spin,
                          "--cache",       cache,    NULL};
    pid_t pid = launch(c, name, argv);
    return pid > 0 && write_pid(c, name, pid) ? -1 : pid;
}

/* Waits until the monitor says that the OSDs we started (pids[i] != 0) are up. */
static int wait_osds(const struct cluster *c, struct cmd_args *args, const pid_t *pids)
{
    struct cmd_session s;
    int result = CMD_OK;
    args->mon = c->mon;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    uint64_t give_up_ns = core_now_ns(s.core) + START_WAIT_MS * NS_PER_MS;
    for (uint32_t i = 0; i < c->osds && result == CMD_OK;) {
        char name[NAME_SIZE];
        snprintf(name, sizeof(name), "osd.%u", i);
        const Fb__ClusterMap *map = client_map(s.client);
        bool up = !pids[i];
        for (size_t j = 0; j < map->n_osd && !up; j++)
            up = map->osd[j]->id == i && map->osd[j]->up;
        if (up) {
            i++;
        } else if (has_ended(c, name, pids[i])) {
            result = CMD_FAILED;
        } else if (cmd_interrupted() || core_now_ns(s.core) > give_up_ns) {
            result = cmd_fail("%s did not come up", name);
            print_log_tail(c, name);
        } else {
            cmd_sleep(&s, 20);
        }
    }
    cmd_session_close(&s);
    return result;
}

/* Ends a process: SIGTERM (or SIGKILL), and SIGKILL if it does not go. */
static int stop_process(const struct cluster *c, const char *name, bool kill_it)
{
    char path[PATH_SIZE];
    pid_t pid = process_pid(c, name);
    if (pid && kill(pid, kill_it ? SIGKILL : SIGTERM) < 0 && errno != ESRCH)
        return cmd_fail("cannot stop %s (pid %d): %s", name, (int)pid, strerror(errno));
    for (int waited = 0; pid && process_pid(c, name) == pid; waited += 10) {
        if (waited == STOP_WAIT_MS) {
            fprintf(stderr, "fastblock: %s does not stop in order: killing it\n", name);
            kill(pid, SIGKILL);
        } else if (waited > 2 * STOP_WAIT_MS) {
            return cmd_fail("%s (pid %d) does not end", name, (int)pid);
        }
        waitpid(pid, NULL, WNOHANG);
        sleep_ms(10);
    }
    unlink(path_of(c, path, "%s.pid", name));
    return CMD_OK;
}

/* ---- subcommands ---- */

static int make_cluster(struct cluster *c, struct cmd_args *args)
{
    uint64_t osds, shards, spin, out_after;
    char path[PATH_SIZE];
    struct stat st;
    *c = (struct cluster){.lock_fd = -1};
    if (!cmd_option_number(args, "osds", 3, 1, OSDS_MAX, &osds) ||
        !cmd_option_number(args, "shards", 1, 1, 64, &shards) ||
        !cmd_option_number(args, "spin", CORE_SPIN_US_STANDARD, 0, 1000000, &spin) ||
        !cmd_option_number(args, "out-after", OUT_AFTER_STANDARD, 0, 31536000, &out_after) ||
        !cmd_option_size(args, "size", 8ull << 30, &c->size_bytes) ||
        !cmd_option_size(args, "cache", CACHE_STANDARD, &c->cache_bytes))
        return CMD_USAGE;
    struct device_label layout = {0};
    if (device_layout(c->size_bytes, (uint32_t)shards, &layout)) /* before anything is made */
        return cmd_usage("--size %s is too small for %u shard%s: each needs %s, and 1 MiB for all",
                         cmd_size_text(c->size_bytes), (unsigned)shards, shards == 1 ? "" : "s",
                         cmd_size_text(DEVICE_SLICE_MIN));
    if (mkdir(args->positional[0], 0755) < 0 && errno != EEXIST)
        return cmd_fail("cannot make %s: %s", args->positional[0], strerror(errno));
    if (!realpath(args->positional[0], c->dir))
        return cmd_fail("cannot use %s: %s", args->positional[0], strerror(errno));
    if (stat(path_of(c, path, "cluster.json"), &st) == 0) {
        const char *changed = cmd_option(args, "shards")      ? "--shards"
                              : cmd_option(args, "size")      ? "--size"
                              : cmd_option(args, "spin")      ? "--spin"
                              : cmd_option(args, "cache")     ? "--cache"
                              : cmd_option(args, "out-after") ? "--out-after"
                                                              : NULL;
        if (changed)
            return cmd_usage(
                "%s holds a cluster already: it starts as it was made, so %s cannot be given (remove the "
                "directory to begin anew)",
                c->dir, changed);
        int error = cluster_load(c, args->positional[0]);
        if (error || !cmd_option(args, "osds") || osds == c->osds)
            return error;
        if (osds < c->osds)
            return cmd_usage(
                "%s has %u OSDs: --osds can add some, not take them away (see `fastblock osd drain`)", c->dir,
                c->osds);
        c->osds = (uint32_t)osds;
        return cluster_save(c);
    }
    c->out_after_s = (uint32_t)out_after;
    c->osds = (uint32_t)osds;
    c->shards = (uint32_t)shards;
    c->spin_us = (uint32_t)spin;
    int error = cluster_lock(c);
    if (error || (error = choose_address(c->mon, sizeof(c->mon))))
        return error;
    return cluster_save(c);
}

int cmd_cluster_up(struct cmd_args *args)
{
    struct cluster c;
    pid_t pids[OSDS_MAX] = {0};
    int error = make_cluster(&c, args);
    if (error)
        return error;
    if (!process_pid(&c, "mon")) {
        if (!args->json)
            printf("starting the monitor at %s\n", c.mon);
        error = start_mon(&c);
    }
    for (uint32_t i = 0; i < c.osds && !error; i++) {
        if (is_formatted(&c, i) && was_removed(&c, args, i)) {
            if (!args->json)
                printf("osd.%u was removed from the cluster\n", i);
            continue;
        }
        error = format_osd(&c, i);
        if (!error && !process_pid(&c, cmd_text("osd.%u", i))) {
            if (!args->json)
                printf("starting osd.%u (%u shard%s, %s)\n", i, c.shards, c.shards == 1 ? "" : "s",
                       cmd_size_text(c.size_bytes));
            pids[i] = start_osd(&c, i);
            error = pids[i] < 0 ? CMD_FAILED : CMD_OK;
        }
    }
    if (!error)
        error = wait_osds(&c, args, pids);
    if (error)
        return error;
    if (args->json) {
        close(c.lock_fd);
        return cmd_cluster_status(args);
    }
    printf("the cluster is up; point commands at it with\n  eval \"$(fastblock cluster env %s)\"\n",
           args->positional[0]);
    return CMD_OK;
}

int cmd_cluster_down(struct cmd_args *args)
{
    struct cluster c;
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    /* All OSDs get the signal at once: each would otherwise hand its leaders to one that is about to stop. */
    for (uint32_t i = 0; i < c.osds; i++) {
        pid_t pid = process_pid(&c, cmd_text("osd.%u", i));
        if (pid)
            kill(pid, SIGTERM);
    }
    for (uint32_t i = 0; i < c.osds; i++)
        error = stop_process(&c, cmd_text("osd.%u", i), false) ? CMD_FAILED : error;
    error = stop_process(&c, "mon", false) ? CMD_FAILED : error;
    if (!error && !args->json)
        printf("the cluster in %s is stopped; `fastblock cluster up %s` starts it again\n", c.dir,
               args->positional[0]);
    return error;
}

static void add_process(const struct cluster *c, json_t *list, struct cmd_table *table, const char *role,
                        uint32_t id, const char *name, const char *address)
{
    pid_t pid = process_pid(c, name);
    json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:b, s:o, s:s}", "name", name, "role", role, "id",
                                          (json_int_t)id, "running", pid != 0, "pid",
                                          pid ? json_integer(pid) : json_null(), "address", address));
    cmd_table_row(table, name, pid ? "running" : "stopped", pid ? cmd_text("%d", (int)pid) : "-", address);
}

int cmd_cluster_status(struct cmd_args *args)
{
    struct cluster c;
    struct cmd_session s;
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    args->mon = c.mon;
    bool connected = process_pid(&c, "mon") && cmd_session_open(&s, args, 0, 0);
    json_t *list = json_array();
    struct cmd_table *table = cmd_table_new("llrl", "NAME", "STATE", "PID", "ADDRESS", NULL);
    add_process(&c, list, table, "mon", 0, "mon", c.mon);
    for (uint32_t i = 0; i < c.osds; i++) {
        const char *address = "";
        const Fb__ClusterMap *map = connected ? client_map(s.client) : NULL;
        for (size_t j = 0; map && j < map->n_osd; j++)
            if (map->osd[j]->id == i && map->osd[j]->n_shard > 0)
                address = map->osd[j]->shard[0]->address;
        add_process(&c, list, table, "osd", i, cmd_text("osd.%u", i), address);
    }
    cmd_table_print(table, args, list);
    if (connected)
        cmd_session_close(&s);
    return CMD_OK;
}

int cmd_cluster_env(struct cmd_args *args)
{
    struct cluster c;
    char program[PATH_MAX];
    int error = cluster_load(&c, args->positional[0]);
    if (error || (error = program_path("fastblock", program)))
        return error;
    *strrchr(program, '/') = 0;
    if (args->json)
        cmd_print_json(json_pack("{s:s, s:s}", "FASTBLOCK_MON", c.mon, "bin", program));
    else
        printf("export FASTBLOCK_MON='%s'\nexport PATH='%s':\"$PATH\"\n", c.mon, program);
    return CMD_OK;
}

/* Is `name` one of this cluster's processes? An OSD's number goes to *ret_osd, UINT32_MAX for the monitor. */
static bool known_process(const struct cluster *c, const char *name, uint32_t *ret_osd)
{
    uint64_t osd;
    *ret_osd = UINT32_MAX;
    if (strcmp(name, "mon") == 0)
        return true;
    if (strncmp(name, "osd.", 4) == 0 && text_parse_u64(name + 4, &osd) == 0 && osd < c->osds) {
        *ret_osd = (uint32_t)osd;
        return true;
    }
    cmd_usage("'%s' is no process of this cluster: mon, or osd.0 to osd.%u", name, c->osds - 1);
    return false;
}

int cmd_cluster_start(struct cmd_args *args)
{
    struct cluster c;
    uint32_t osd;
    const char *name = args->positional[1];
    pid_t pids[OSDS_MAX] = {0};
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    if (!known_process(&c, name, &osd))
        return CMD_USAGE;
    if (process_pid(&c, name))
        return cmd_fail("%s runs already (pid %d)", name, (int)process_pid(&c, name));
    if (osd == UINT32_MAX) {
        error = start_mon(&c);
    } else {
        pids[osd] = start_osd(&c, osd);
        error = pids[osd] < 0 ? CMD_FAILED : CMD_OK;
        if (!error && process_pid(&c, "mon")) /* without a monitor it starts with its last map */
            error = wait_osds(&c, args, pids);
    }
    if (!error && !args->json)
        printf("%s is running (pid %d)\n", name, (int)process_pid(&c, name));
    return error;
}

int cmd_cluster_stop(struct cmd_args *args)
{
    struct cluster c;
    uint32_t osd;
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    if (!known_process(&c, args->positional[1], &osd))
        return CMD_USAGE;
    if (!process_pid(&c, args->positional[1]))
        return cmd_fail("%s does not run", args->positional[1]);
    error = stop_process(&c, args->positional[1], cmd_option(args, "kill") != NULL);
    if (!error && !args->json)
        printf("%s is stopped\n", args->positional[1]);
    return error;
}
