/* SPDX-License-Identifier: Apache-2.0
 *
 * A trial cluster: everything of a one-machine cluster in one directory (fastblock_cluster.c), and its
 * processes (trial_process.c). Functions that return an int print what went wrong and return an exit code.
 */
#ifndef CMD_TRIAL_H
#define CMD_TRIAL_H

#include <limits.h>
#include <sys/types.h>

#include "cmd/cmd.h"

#define TRIAL_OSDS_MAX  64
#define TRIAL_NAME_SIZE 16 /* "mon", "osd.N": of a process, its folder, NAME.pid and NAME.log */
#define TRIAL_PATH_SIZE (PATH_MAX + 64)

struct trial {
    char dir[PATH_MAX];
    char mon[64]; /* address */
    uint32_t osds, shards, spin_us, out_after_s;
    uint64_t size_bytes, cache_bytes; /* of each OSD */
    int lock_fd;
};

/* A path in the directory; returns `path`, which has room for TRIAL_PATH_SIZE. */
const char *trial_path(const struct trial *c, char *path, const char *format, ...) PRINTF_LIKE(3, 4);
/* The path of a program that is installed beside this one. */
MUST_CHECK int trial_program(const char *program, char ret_path[PATH_MAX]);
/* A free port on 127.0.0.1 for the monitor to keep. */
MUST_CHECK int trial_choose_address(char *ret_address, size_t size);

/* 0: the process does not run. */
pid_t trial_pid(const struct trial *c, const char *name);
/* Starts the monitor and waits until it answers. */
MUST_CHECK int trial_start_mon(const struct trial *c);
bool trial_is_formatted(const struct trial *c, uint32_t osd);
/* Of one that was formatted: has the map it no more? */
bool trial_was_removed(const struct trial *c, struct cmd_args *args, uint32_t osd);
/* Makes the OSD's device, unless that was done. */
MUST_CHECK int trial_format_osd(const struct trial *c, uint32_t osd);
/* Does not wait. -1: it cannot be started, which is said. */
pid_t trial_start_osd(const struct trial *c, uint32_t osd);
/* Waits until the monitor says that the OSDs we started (pids[i] != 0) are up. */
MUST_CHECK int trial_wait_osds(const struct trial *c, struct cmd_args *args, const pid_t *pids);
/* Ends a process: SIGTERM (or SIGKILL), and SIGKILL if it does not go. */
MUST_CHECK int trial_stop(const struct trial *c, const char *name, bool kill_it);

#endif
