/* SPDX-License-Identifier: Apache-2.0
 *
 * pingpong: the time of a message there and back over loopback TCP between two processes, by plain calls: the
 * machine's own, to compare bench-echo with.
 *
 *   pingpong REQUEST_BYTES REPLY_BYTES SECONDS block|spin CLIENT_CPU SERVER_CPU
 *
 * A CPU of -1: wherever the scheduler likes. One line of JSON.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX 4000000

static char memory[1 << 20];
static int flags; /* MSG_DONTWAIT: ask again and again instead of sleeping */
static uint64_t samples_ns[SAMPLES_MAX];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The end of either process ends the other. */
static void receive(int fd, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = recv(fd, memory, len - got, flags);
        if (n > 0)
            got += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            exit(0);
    }
}

static void transmit(int fd, size_t len)
{
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(fd, memory, len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            exit(0);
        sent += (size_t)n;
    }
}

static void prepare(int fd, int cpu)
{
    int one = 1;
    cpu_set_t set;

    CPU_ZERO(&set);
    if (cpu >= 0) {
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set))
            die("sched_setaffinity");
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
        die("TCP_NODELAY");
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void serve(int listener, size_t request, size_t reply, int cpu)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    prepare(fd, cpu);
    for (;;) {
        receive(fd, request);
        transmit(fd, reply);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    if (argc != 7) {
        fprintf(stderr,
                "usage: pingpong REQUEST_BYTES REPLY_BYTES SECONDS block|spin CLIENT_CPU SERVER_CPU\n");
        return 2;
    }
    size_t request = (size_t)atol(argv[1]), reply = (size_t)atol(argv[2]), seconds = (size_t)atol(argv[3]);
    if (!request || request > sizeof(memory) || !reply || reply > sizeof(memory) || !seconds) {
        fprintf(stderr, "pingpong: sizes are 1 to %zu bytes, seconds at least 1\n", sizeof(memory));
        return 2;
    }
    flags = strcmp(argv[4], "spin") == 0 ? MSG_DONTWAIT : 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &len))
        die("listen");
    if (fork() == 0)
        serve(listener, request, reply, atoi(argv[6]));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, len))
        die("connect");
    prepare(fd, atoi(argv[5]));

    size_t n = 0;
    uint64_t begin = now_ns(), t = begin, end = begin + seconds * 1000000000;
    while (t < end && n < SAMPLES_MAX) {
        transmit(fd, request);
        receive(fd, reply);
        uint64_t after = now_ns();
        samples_ns[n++] = after - t;
        t = after;
    }
    qsort(samples_ns, n, sizeof(*samples_ns), by_value);
    printf("{\"iops\": %.0f, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}\n",
           (double)n * 1e9 / (double)(t - begin), (double)samples_ns[n / 2] / 1e3,
           (double)samples_ns[n * 99 / 100] / 1e3, (double)samples_ns[n * 999 / 1000] / 1e3);
    return 0;
}
