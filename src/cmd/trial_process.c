/* SPDX-License-Identifier: Apache-2.0
 *
 * The processes of a trial cluster: starting, finding and ending them.
 */
#include "cmd/trial.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_WAIT_MS 60000
#define STOP_WAIT_MS  20000
#define PORT_WAIT_MS  2000

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&ts, NULL);
}

const char *trial_path(const struct trial *c, char *path, const char *format, ...)
{
    va_list list;
    int len = snprintf(path, TRIAL_PATH_SIZE, "%s/", c->dir);
    va_start(list, format);
    vsnprintf(path + len, TRIAL_PATH_SIZE - (size_t)len, format, list);
    va_end(list);
    return path;
}

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
int trial_choose_address(char *ret_address, size_t size)
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

/* Is it one of our programs, about this path or something in it? The command line is words that end with 0.
 */
static bool is_about(const char *line, size_t len, const char *path)
{
    const char *slash = strrchr(line, '/');
    size_t path_len = strlen(path);

    if (strncmp(slash ? slash + 1 : line, "fastblock-", 10))
        return false;
    for (const char *word = line; word < line + len; word += strlen(word) + 1)
        if (!strncmp(word, path, path_len) && (!word[path_len] || word[path_len] == '/'))
            return true;
    return false;
}

/* The pid of a process of ours, 0 if it does not run. */
pid_t trial_pid(const struct trial *c, const char *name)
{
    char path[TRIAL_PATH_SIZE], line[4096];
    int pid = 0;
    FILE *file = fopen(trial_path(c, path, "%s.pid", name), "re");
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
    return is_about(line, len, trial_path(c, path, "%s", name)) && !is_ending(pid) ? pid : 0;
}

int trial_program(const char *program, char ret_path[PATH_MAX])
{
    char own[PATH_MAX - 32];
    ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (len < 0)
        return cmd_fail("cannot find my own program: %s", strerror(errno));
    own[len] = 0;
    *strrchr(own, '/') = 0;
    snprintf(ret_path, PATH_MAX, "%s/%s", own, program);
    if (access(ret_path, X_OK) < 0)
        return cmd_fail("%s: %s; it must stand beside `fastblock`", ret_path, strerror(errno));
    return CMD_OK;
}

static void print_log_tail(const struct trial *c, const char *name)
{
    char path[TRIAL_PATH_SIZE], text[2048];
    int fd = open(trial_path(c, path, "%s.log", name), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t end = lseek(fd, 0, SEEK_END);
    ssize_t len = pread(fd, text, sizeof(text) - 1, end > 1500 ? end - 1500 : 0);
    close(fd);
    if (len > 0)
        fprintf(stderr, "last lines of %s:\n%.*s", path, (int)len, text);
}

static bool write_pid(const struct trial *c, const char *name)
{
    char path[TRIAL_PATH_SIZE];
    FILE *file = fopen(trial_path(c, path, "%s.pid", name), "we");
    return file && fprintf(file, "%d\n", (int)getpid()) > 0 && fclose(file) == 0;
}

/* Starts a program with its output going to NAME.log. `argv[0]` is replaced by its path. One that is not to
 * stay dies with us. One that stays writes NAME.pid itself, and holds the directory's lock until it runs the
 * program: so whoever has the lock finds it, even if we are killed meanwhile. Returns the pid, or -1. */
static pid_t launch(const struct trial *c, const char *name, const char **argv, bool stays)
{
    char program[PATH_MAX], path[TRIAL_PATH_SIZE];
    if (trial_program(argv[0], program))
        return -1;
    argv[0] = program;
    fflush(NULL);
    pid_t self = getpid(), pid = fork();
    if (pid < 0) {
        cmd_fail("cannot start %s: %s", name, strerror(errno));
        return -1;
    }
    if (pid == 0) {
        setsid();
        if (!stays && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != self))
            _exit(127);
        /* All that it needs is in its arguments: this machine's configuration is about another cluster. */
        setenv("FASTBLOCK_CONF", "/dev/null", 1);
        int in = open("/dev/null", O_RDWR);
        int out = open(trial_path(c, path, "%s.log", name), O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (in < 0 || out < 0)
            _exit(127);
        if (stays && !write_pid(c, name)) {
            dprintf(out, "cannot write %s/%s.pid: %s\n", c->dir, name, strerror(errno));
            _exit(127);
        }
        dup2(in, 0);
        dup2(out, 1);
        dup2(out, 2);
        execv(program, (char *const *)argv);
        _exit(127);
    }
    return pid;
}

/* Runs a program to its end. */
static bool run(const struct trial *c, const char *name, const char **argv)
{
    int status = 0;
    pid_t pid = launch(c, name, argv, false);
    if (pid < 0)
        return false;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0;
}

/* True, with a message, if a daemon that we have started has ended already. */
static bool has_ended(const struct trial *c, const char *name, pid_t pid)
{
    int status;
    if (waitpid(pid, &status, WNOHANG) != pid)
        return false;
    cmd_fail("%s ended at once (%s %d)", name, WIFEXITED(status) ? "exit code" : "signal",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    print_log_tail(c, name);
    return true;
}

static int mon_port(const struct trial *c)
{
    return atoi(strrchr(c->mon, ':') + 1);
}

/* Tries to connect to the monitor's port. */
static bool mon_answers(const struct trial *c)
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
static int wait_port(const struct trial *c)
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

int trial_start_mon(const struct trial *c)
{
    char data[TRIAL_PATH_SIZE], out_after[16];
    if (wait_port(c))
        return CMD_FAILED;
    snprintf(out_after, sizeof(out_after), "%u", c->out_after_s);
    const char *argv[] = {"fastblock-mon",   "--listen", c->mon, "--data", trial_path(c, data, "mon"),
                          "--osd-out-after", out_after,  NULL};
    pid_t pid = launch(c, "mon", argv, true);
    if (pid < 0)
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

bool trial_is_formatted(const struct trial *c, uint32_t osd)
{
    char path[TRIAL_PATH_SIZE];
    struct stat st;

    return stat(trial_path(c, path, "osd.%u/formatted", osd), &st) == 0;
}

bool trial_was_removed(const struct trial *c, struct cmd_args *args, uint32_t osd)
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

/* An attempt that was cut short may have come as far as the label, which is written last: the monitor knows
 * the device then, and formatted anew it would be another OSD. */
static bool has_label(const struct trial *c, const char *name, const char *device)
{
    const char *argv[] = {"fastblock-osd", "show", device, NULL};

    return access(device, F_OK) == 0 && run(c, name, argv);
}

int trial_format_osd(const struct trial *c, uint32_t osd)
{
    char name[TRIAL_NAME_SIZE], path[TRIAL_PATH_SIZE], shards[16], size[32];
    snprintf(name, sizeof(name), "osd.%u", osd);
    if (mkdir(trial_path(c, path, "%s", name), 0755) < 0 && errno != EEXIST)
        return cmd_fail("cannot make %s: %s", path, strerror(errno));
    if (trial_is_formatted(c, osd))
        return CMD_OK;
    trial_path(c, path, "%s/device", name);
    snprintf(shards, sizeof(shards), "%u", c->shards);
    snprintf(size, sizeof(size), "%llu", (unsigned long long)c->size_bytes);
    const char *argv[] = {"fastblock-osd", "format", path,     "--mon", c->mon,
                          "--shards",      shards,   "--size", size,    NULL};
    if (!has_label(c, name, path)) {
        unlink(path); /* it could not be finished */
        if (!run(c, name, argv)) {
            cmd_fail("%s could not be formatted", name);
            print_log_tail(c, name);
            return CMD_FAILED;
        }
    }
    int fd = open(trial_path(c, path, "%s/formatted", name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || close(fd) < 0)
        return cmd_fail("cannot write %s: %s", path, strerror(errno));
    return CMD_OK;
}

pid_t trial_start_osd(const struct trial *c, uint32_t osd)
{
    char name[TRIAL_NAME_SIZE], device[TRIAL_PATH_SIZE], spin[16], cache[32];
    snprintf(name, sizeof(name), "osd.%u", osd);
    snprintf(spin, sizeof(spin), "%u", c->spin_us);
    snprintf(cache, sizeof(cache), "%llu", (unsigned long long)c->cache_bytes);
    const char *argv[] = {"fastblock-osd", "run",    trial_path(c, device, "%s/device", name),
                          "--mon",         c->mon,   "--listen",
                          "127.0.0.1",     "--spin", spin,
                          "--cache",       cache,    NULL};
    return launch(c, name, argv, true);
}

int trial_wait_osds(const struct trial *c, struct cmd_args *args, const pid_t *pids)
{
    struct cmd_session s;
    int result = CMD_OK;
    args->mon = c->mon;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    uint64_t give_up_ns = core_now_ns(s.core) + START_WAIT_MS * NS_PER_MS;
    for (uint32_t i = 0; i < c->osds && result == CMD_OK;) {
        char name[TRIAL_NAME_SIZE];
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

int trial_stop(const struct trial *c, const char *name, bool kill_it)
{
    char path[TRIAL_PATH_SIZE];
    pid_t pid = trial_pid(c, name);
    if (pid && kill(pid, kill_it ? SIGKILL : SIGTERM) < 0 && errno != ESRCH)
        return cmd_fail("cannot stop %s (pid %d): %s", name, (int)pid, strerror(errno));
    for (int waited = 0; pid && trial_pid(c, name) == pid; waited += 10) {
        if (waited == STOP_WAIT_MS) {
            fprintf(stderr, "fastblock: %s does not stop in order: killing it\n", name);
            kill(pid, SIGKILL);
        } else if (waited > 2 * STOP_WAIT_MS) {
            return cmd_fail("%s (pid %d) does not end", name, (int)pid);
        }
        waitpid(pid, NULL, WNOHANG);
        sleep_ms(10);
    }
    unlink(trial_path(c, path, "%s.pid", name));
    return CMD_OK;
}
