/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake cluster in a process of its own: one core serves all. It ends when its parent does.
 */
#include "tests/client/fake_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/backend.h"
#include "tests/client/fake_cluster.h"

static void signal_arrived(void *owner, int signal)
{
    if (signal == SIGHUP) {
        fake.generation++;
        fake.size_bytes = fake.size_bytes == FAKE_IMAGE_SIZE ? FAKE_IMAGE_SIZE / 2 : FAKE_IMAGE_SIZE;
        raise(SIGSTOP); /* it is done */
        return;
    }
    fake.shards[0].refuse = -ERR_DAMAGED;
    fake.shards[0].refuse_count = signal == SIGUSR1 ? UINT32_MAX : 0;
}

static void serve(int out)
{
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGHUP};
    struct uring_core_opts opts = {.arena_bytes = 128u << 20, .log_level = LOG_WARN, .log_prefix = "fake"};
    struct uring_core *uring;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (uring_core_new(&opts, &uring))
        _exit(1);
    struct core *core = uring_core_core(uring);
    struct net *net = tcp_net_new(uring);
    fake_reset();
    if (uring_core_signals(uring, signals, ARRAY_LEN(signals), signal_arrived, NULL))
        _exit(1);
    for (uint32_t i = 0; i < FAKE_SHARDS; i++) {
        fake.shards[i].number = i;
        strcpy(fake.shards[i].address, "127.0.0.1:0");
        fake_shard_start(i, core, net, 1);
    }
    for (uint32_t i = 0; i < FAKE_MONITORS; i++) {
        fake.monitors[i].number = i;
        strcpy(fake.monitors[i].address, "127.0.0.1:0");
        fake_monitor_start(i, core, net);
    }
    dprintf(out, "%s,%s", fake.monitors[0].address, fake.monitors[1].address);
    close(out);
    uring_core_run(uring);
    _exit(0);
}

pid_t fake_process_start(char monitors[128])
{
    int ends[2];

    fflush(stdout);
    if (pipe(ends))
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        serve(ends[1]);
    }
    close(ends[1]);
    ssize_t len = 0, got;
    while (len < 127 && (got = read(ends[0], monitors + len, (size_t)(127 - len))) > 0)
        len += got;
    monitors[len] = '\0';
    close(ends[0]);
    return pid;
}

void fake_process_stop(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

void fake_process_refuse(pid_t pid, bool refuse)
{
    kill(pid, refuse ? SIGUSR1 : SIGUSR2);
}

void fake_process_resize(pid_t pid)
{
    int status;

    kill(pid, SIGHUP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
}
