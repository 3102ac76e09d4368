/* SPDX-License-Identifier: Apache-2.0
 *
 * etcd for tests: members on loopback with their data in a temporary folder, ended by pid. They also end with
 * the test, should that be killed.
 */
#ifndef TESTS_PORT_ETCD_H
#define TESTS_PORT_ETCD_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <curl/curl.h>

#include "base/base.h"

#define ETCD_MEMBERS_MAX 3

struct etcd_cluster {
    int count;
    bool tls; /* certificates ca.pem, server.pem, client.pem with .key lie in the folder */
    char folder[64];
    pid_t pids[ETCD_MEMBERS_MAX]; /* 0: not running */
    int client_ports[ETCD_MEMBERS_MAX], peer_ports[ETCD_MEMBERS_MAX];
};

/* Ports that were free a moment ago, below those that the kernel gives to outgoing connections: who starts
 * again at one finds it free. */
static inline bool etcd_ports(int *ret_ports, int count)
{
    int fds[2 * ETCD_MEMBERS_MAX], found = 0;

    for (int port = 12000 + getpid() % 7000 * 2; found < count && port < 28000; port++) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons((uint16_t)port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(fd, (struct sockaddr *)&in, sizeof(in))) {
            close(fd);
            continue;
        }
        fds[found] = fd;
        ret_ports[found++] = port;
    }
    for (int i = 0; i < found; i++)
        close(fds[i]);
    return found == count;
}

static inline void etcd_start(struct etcd_cluster *e, int member)
{
    char name[16], data[96], client[64], peer[64], all[256] = "", log[96];
    char cert[96], key[96], ca[96];

    snprintf(name, sizeof(name), "m%d", member);
    snprintf(data, sizeof(data), "%s/%s", e->folder, name);
    snprintf(log, sizeof(log), "%s/%s.log", e->folder, name);
    snprintf(client, sizeof(client), "%s://127.0.0.1:%d", e->tls ? "https" : "http", e->client_ports[member]);
    snprintf(peer, sizeof(peer), "http://127.0.0.1:%d", e->peer_ports[member]);
    snprintf(cert, sizeof(cert), "%s/server.pem", e->folder);
    snprintf(key, sizeof(key), "%s/server.key", e->folder);
    snprintf(ca, sizeof(ca), "%s/ca.pem", e->folder);
    for (int i = 0; i < e->count; i++) {
        size_t len = strlen(all);
        snprintf(all + len, sizeof(all) - len, "%sm%d=http://127.0.0.1:%d", i ? "," : "", i,
                 e->peer_ports[i]);
    }
    const char *argv[40] = {"etcd", "--name",
                            name,   "--data-dir",
                            data,   "--listen-client-urls",
                            client, "--advertise-client-urls",
                            client, "--listen-peer-urls",
                            peer,   "--initial-advertise-peer-urls",
                            peer,   "--initial-cluster",
                            all,    "--logger",
                            "zap",  "--log-outputs",
                            log,    "--heartbeat-interval",
                            "100",  "--election-timeout",
                            "1000"};
    const char *tls[] = {"--cert-file",       cert, "--key-file",        key,
                         "--trusted-ca-file", ca,   "--client-cert-auth"};
    for (size_t i = 0, at = 23; e->tls && i < ARRAY_LEN(tls); i++)
        argv[at + i] = tls[i];
    pid_t parent = getpid();
    e->pids[member] = fork();
    if (e->pids[member])
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int null_fd = open("/dev/null", O_RDWR);
    dup2(null_fd, 1);
    dup2(null_fd, 2);
    if (getppid() == parent)
        execvp("etcd", (char *const *)(uintptr_t)argv);
    _exit(127);
}

static inline void etcd_kill(struct etcd_cluster *e, int member)
{
    if (e->pids[member] <= 0)
        return;
    kill(e->pids[member], SIGKILL);
    waitpid(e->pids[member], NULL, 0);
    e->pids[member] = 0;
}

static size_t etcd_collect(char *bytes, size_t size, size_t count, void *owner)
{
    char *answer = owner;
    strncat(answer, bytes, MIN(size * count, 1023 - strlen(answer)));
    return size * count;
}

/* A request to one member, waiting for the answer: what the driver itself never does. The status of HTTP; 0:
 * no answer. */
static inline long etcd_post(struct etcd_cluster *e, int member, const char *path, const char *body,
                             char answer[1024])
{
    CURL *easy = curl_easy_init();
    char url[128], file[96];
    long status = 0;

    answer[0] = 0;
    snprintf(url, sizeof(url), "%s://127.0.0.1:%d%s", e->tls ? "https" : "http", e->client_ports[member],
             path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 5000l);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, etcd_collect);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    if (e->tls) {
        snprintf(file, sizeof(file), "%s/ca.pem", e->folder);
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
        snprintf(file, sizeof(file), "%s/client.pem", e->folder);
        curl_easy_setopt(easy, CURLOPT_SSLCERT, file);
        snprintf(file, sizeof(file), "%s/client.key", e->folder);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, file);
    }
    if (curl_easy_perform(easy) == CURLE_OK)
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    return status;
}

/* The number after "name":" in an answer; 0 when there is none. */
static inline unsigned long long etcd_number(const char *answer, const char *name)
{
    char pattern[64];

    snprintf(pattern, sizeof(pattern), "\"%s\":\"", name);
    const char *at = strstr(answer, pattern);
    return at ? strtoull(at + strlen(pattern), NULL, 10) : 0;
}

/* Waits until each running member serves linearizable reads. */
static inline bool etcd_wait(struct etcd_cluster *e)
{
    char answer[1024];

    for (int i = 0; i < e->count; i++) {
        int tries = 0;
        while (e->pids[i] && etcd_post(e, i, "/v3/kv/range", "{\"key\":\"eA==\"}", answer) != 200) {
            if (waitpid(e->pids[i], NULL, WNOHANG) == e->pids[i])
                e->pids[i] = 0; /* it could not start */
            if (!e->pids[i] || ++tries == 600)
                return false;
            usleep(50000);
        }
    }
    return true;
}

static inline int etcd_leader(struct etcd_cluster *e)
{
    char answer[1024];

    for (int i = 0; i < e->count; i++) {
        if (!e->pids[i] || etcd_post(e, i, "/v3/maintenance/status", "{}", answer) != 200)
            continue;
        if (etcd_number(answer, "member_id") == etcd_number(answer, "leader"))
            return i;
    }
    return -1;
}

static inline void etcd_remove(struct etcd_cluster *e)
{
    char command[128];

    for (int i = 0; i < e->count; i++)
        etcd_kill(e, i);
    snprintf(command, sizeof(command), "rm -rf '%s'", e->folder);
    if (system(command))
        printf("# cannot remove %s\n", e->folder);
}

/* All members, ready. Tries anew should somebody else have taken a port meanwhile. */
static inline bool etcd_up(struct etcd_cluster *e)
{
    int ports[2 * ETCD_MEMBERS_MAX];

    for (int tries = 0; tries < 3; tries++) {
        if (!etcd_ports(ports, 2 * e->count))
            return false;
        for (int i = 0; i < e->count; i++) {
            e->client_ports[i] = ports[2 * i];
            e->peer_ports[i] = ports[2 * i + 1];
        }
        for (int i = 0; i < e->count; i++)
            etcd_start(e, i);
        if (etcd_wait(e))
            return true;
        for (int i = 0; i < e->count; i++)
            etcd_kill(e, i);
        char command[128];
        snprintf(command, sizeof(command), "rm -rf '%s'/m*", e->folder);
        if (system(command))
            return false;
    }
    return false;
}

#endif
