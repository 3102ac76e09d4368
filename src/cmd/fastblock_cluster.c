/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock cluster ...: a one-machine cluster for trying it out.
 *
 * All that it is lives in one directory: cluster.json (how it was set up, and the monitor's address, so that
 * it comes back the same), a folder per process, NAME.pid and NAME.log. Processes are daemons of their own:
 * nothing watches them, `start` brings one back. A pid counts as ours only if that process runs one of our
 * programs on this directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/text.h"
#include "cmd/trial.h"
#include "store/store.h"

#define CACHE_STANDARD     (256ull << 20)
#define OUT_AFTER_STANDARD 600

/* ---- the directory ---- */

static int cluster_lock(struct trial *c)
{
    char path[TRIAL_PATH_SIZE];
    c->lock_fd = open(trial_path(c, path, "lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (c->lock_fd < 0)
        return cmd_fail("cannot write to %s: %s", c->dir, strerror(errno));
    if (flock(c->lock_fd, LOCK_EX) < 0)
        return cmd_fail("cannot lock %s: %s", path, strerror(errno));
    return CMD_OK;
}

/* Who only looks needs no lock, nor the right to write. */
static int cluster_look(struct trial *c, const char *dir)
{
    char path[TRIAL_PATH_SIZE];
    const char *mon;
    json_int_t osds, shards, size, spin;
    json_int_t cache = CACHE_STANDARD,
               out_after = OUT_AFTER_STANDARD; /* one made by an older command does not say */
    *c = (struct trial){.lock_fd = -1};
    if (!realpath(dir, c->dir))
        return cmd_fail("there is no cluster in %s: %s; `fastblock cluster up %s` starts one", dir,
                        strerror(errno), dir);
    json_t *json = json_load_file(trial_path(c, path, "cluster.json"), 0, NULL);
    if (!json)
        return cmd_fail("there is no cluster in %s (no cluster.json); `fastblock cluster up %s` starts one",
                        dir, dir);
    int error = json_unpack(json, "{s:s, s:I, s:I, s:I, s:I, s?I, s?I}", "mon", &mon, "osds", &osds, "shards",
                            &shards, "size_bytes", &size, "spin_us", &spin, "cache_bytes", &cache,
                            "out_after_s", &out_after);
    if (error || osds < 1 || osds > TRIAL_OSDS_MAX || text_copy(c->mon, sizeof(c->mon), mon)) {
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
    return CMD_OK;
}

static int cluster_load(struct trial *c, const char *dir)
{
    int error = cluster_look(c, dir);

    return error ? error : cluster_lock(c);
}

/* What was there stays until all of the new is: without it nothing finds the cluster. */
static int cluster_save(const struct trial *c)
{
    char path[TRIAL_PATH_SIZE], fresh[TRIAL_PATH_SIZE];
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "mon", c->mon, "osds",
                             (json_int_t)c->osds, "shards", (json_int_t)c->shards, "size_bytes",
                             (json_int_t)c->size_bytes, "spin_us", (json_int_t)c->spin_us, "cache_bytes",
                             (json_int_t)c->cache_bytes, "out_after_s", (json_int_t)c->out_after_s);
    int error = json_dump_file(json, trial_path(c, fresh, "cluster.json.new"), JSON_INDENT(2));
    json_decref(json);
    if (error || rename(fresh, trial_path(c, path, "cluster.json")) < 0)
        return cmd_fail("cannot write %s: %s", fresh, strerror(errno));
    return CMD_OK;
}

/* ---- subcommands ---- */

static int make_cluster(struct trial *c, struct cmd_args *args)
{
    uint64_t osds, shards, spin, out_after;
    char path[TRIAL_PATH_SIZE];
    struct stat st;
    *c = (struct trial){.lock_fd = -1};
    if (!cmd_option_number(args, "osds", 3, 1, TRIAL_OSDS_MAX, &osds) ||
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
    if (stat(trial_path(c, path, "cluster.json"), &st) == 0) {
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
    if (error || (error = trial_choose_address(c->mon, sizeof(c->mon))))
        return error;
    return cluster_save(c);
}

int cmd_cluster_up(struct cmd_args *args)
{
    struct trial c;
    pid_t pids[TRIAL_OSDS_MAX] = {0};
    int error = make_cluster(&c, args);
    if (error)
        return error;
    if (!trial_pid(&c, "mon")) {
        if (!args->json)
            printf("starting the monitor at %s\n", c.mon);
        error = trial_start_mon(&c);
    }
    for (uint32_t i = 0; i < c.osds && !error; i++) {
        if (trial_is_formatted(&c, i) && trial_was_removed(&c, args, i)) {
            if (!args->json)
                printf("osd.%u was removed from the cluster\n", i);
            continue;
        }
        error = trial_format_osd(&c, i);
        if (!error && !trial_pid(&c, cmd_text("osd.%u", i))) {
            if (!args->json)
                printf("starting osd.%u (%u shard%s, %s)\n", i, c.shards, c.shards == 1 ? "" : "s",
                       cmd_size_text(c.size_bytes));
            pids[i] = trial_start_osd(&c, i);
            error = pids[i] < 0 ? CMD_FAILED : CMD_OK;
        }
    }
    if (!error)
        error = trial_wait_osds(&c, args, pids);
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
    struct trial c;
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    /* All OSDs get the signal at once: each would otherwise hand its leaders to one that is about to stop. */
    for (uint32_t i = 0; i < c.osds; i++) {
        pid_t pid = trial_pid(&c, cmd_text("osd.%u", i));
        if (pid)
            kill(pid, SIGTERM);
    }
    for (uint32_t i = 0; i < c.osds; i++)
        error = trial_stop(&c, cmd_text("osd.%u", i), false) ? CMD_FAILED : error;
    error = trial_stop(&c, "mon", false) ? CMD_FAILED : error;
    if (!error && args->json)
        cmd_print_json(json_pack("{s:s}", "stopped", c.dir));
    else if (!error)
        printf("the cluster in %s is stopped; `fastblock cluster up %s` starts it again\n", c.dir,
               args->positional[0]);
    return error;
}

static void add_process(const struct trial *c, json_t *list, struct cmd_table *table, const char *role,
                        uint32_t id, const char *name, const char *address)
{
    pid_t pid = trial_pid(c, name);
    json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:b, s:o, s:s}", "name", name, "role", role, "id",
                                          (json_int_t)id, "running", pid != 0, "pid",
                                          pid ? json_integer(pid) : json_null(), "address", address));
    cmd_table_row(table, name, pid ? "running" : "stopped", pid ? cmd_text("%d", (int)pid) : "-", address);
}

int cmd_cluster_status(struct cmd_args *args)
{
    struct trial c;
    struct cmd_session s;
    int error = cluster_look(&c, args->positional[0]);
    if (error)
        return error;
    args->mon = c.mon;
    bool connected = trial_pid(&c, "mon") && cmd_session_open(&s, args, 0, 0);
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
    struct trial c;
    char program[PATH_MAX];
    int error = cluster_look(&c, args->positional[0]);
    if (error || (error = trial_program("fastblock", program)))
        return error;
    *strrchr(program, '/') = 0;
    if (args->json)
        cmd_print_json(json_pack("{s:s, s:s}", "FASTBLOCK_MON", c.mon, "bin", program));
    else
        printf("export FASTBLOCK_MON='%s'\nexport PATH='%s':\"$PATH\"\n", c.mon, program);
    return CMD_OK;
}

/* Is `name` one of this cluster's processes? An OSD's number goes to *ret_osd, UINT32_MAX for the monitor. */
static bool known_process(const struct trial *c, const char *name, uint32_t *ret_osd)
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
    struct trial c;
    uint32_t osd;
    const char *name = args->positional[1];
    pid_t pids[TRIAL_OSDS_MAX] = {0};
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    if (!known_process(&c, name, &osd))
        return CMD_USAGE;
    if (trial_pid(&c, name))
        return cmd_fail("%s runs already (pid %d)", name, (int)trial_pid(&c, name));
    if (osd == UINT32_MAX) {
        error = trial_start_mon(&c);
    } else {
        pids[osd] = trial_start_osd(&c, osd);
        error = pids[osd] < 0 ? CMD_FAILED : CMD_OK;
        if (!error && trial_pid(&c, "mon")) /* without a monitor it starts with its last map */
            error = trial_wait_osds(&c, args, pids);
    }
    pid_t pid = osd == UINT32_MAX ? trial_pid(&c, name) : pids[osd];
    if (!error && args->json)
        cmd_print_json(json_pack("{s:s, s:I}", "name", name, "pid", (json_int_t)pid));
    else if (!error)
        printf("%s is running (pid %d)\n", name, (int)pid);
    return error;
}

int cmd_cluster_stop(struct cmd_args *args)
{
    struct trial c;
    uint32_t osd;
    int error = cluster_load(&c, args->positional[0]);
    if (error)
        return error;
    if (!known_process(&c, args->positional[1], &osd))
        return CMD_USAGE;
    if (!trial_pid(&c, args->positional[1]))
        return cmd_fail("%s does not run", args->positional[1]);
    error = trial_stop(&c, args->positional[1], cmd_option(args, "kill") != NULL);
    if (!error && args->json)
        cmd_print_json(json_pack("{s:s}", "stopped", args->positional[1]));
    else if (!error)
        printf("%s is stopped\n", args->positional[1]);
    return error;
}
