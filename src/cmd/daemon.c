/* SPDX-License-Identifier: Apache-2.0
 *
 * Helpers of the daemons.
 */
#include "cmd/daemon.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/config.h"
#include "base/error.h"
#include "base/text.h"

static void say(const char *format, va_list args)
{
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int daemon_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return DAEMON_FAILED;
}

int daemon_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return daemon_usage_hint();
}

int daemon_usage_hint(void)
{
    fprintf(stderr, "`%s --help` tells the usage\n", program_invocation_short_name);
    return DAEMON_USAGE;
}

bool daemon_log_level(const char *text, enum log_level *ret_level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *ret_level = (enum log_level)i;
        return true;
    }
    daemon_usage("--log-level %s: it is one of error, warn, info, debug", text);
    return false;
}

bool daemon_number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
    uint64_t value;

    if (text_parse_u64(text, &value) || value < min || value > max) {
        daemon_usage("%s %s: not a number from %llu to %llu", option, text, (unsigned long long)min,
                     (unsigned long long)max);
        return false;
    }
    *ret = value;
    return true;
}

bool daemon_size(const char *option, const char *text, uint64_t *ret_bytes)
{
    if (!text_parse_size(text, ret_bytes))
        return true;
    daemon_usage("%s %s: not a size: whole bytes, or a whole number with K, M, G, T or P, such as 512M",
                 option, text);
    return false;
}

/* ---- addresses ---- */

/* "10.0.0.1:7000", or without the port when `with_port` is false. */
static bool numeric(const struct sockaddr *address, socklen_t len, bool with_port,
                    char ret[DAEMON_ADDRESS_SIZE])
{
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getnameinfo(address, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
        return false;
    bool v6 = address->sa_family == AF_INET6;
    int used = snprintf(ret, DAEMON_ADDRESS_SIZE, "%s%s%s%s%s", v6 ? "[" : "", host, v6 ? "]" : "",
                        with_port ? ":" : "", with_port ? port : "");
    return used < DAEMON_ADDRESS_SIZE;
}

static struct addrinfo *resolve(const char *text)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC}, *found = NULL;
    uint64_t port;

    if (!colon || colon == text || (size_t)(colon - text) >= sizeof(host) ||
        text_parse_u64(colon + 1, &port) || port > 65535) {
        daemon_usage("'%s' is not an address of the form HOST:PORT, such as 10.0.0.1:7000", text);
        return NULL;
    }
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
    size_t len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = 0;
        memmove(host, host + 1, len - 1);
    }
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error) {
        daemon_usage("'%s': no address for '%s': %s", text, host, gai_strerror(error));
        return NULL;
    }
    return found;
}

bool daemon_address(const char *text, char ret_address[DAEMON_ADDRESS_SIZE])
{
    struct addrinfo *found = resolve(text);

    if (!found)
        return false;
    bool good = numeric(found->ai_addr, found->ai_addrlen, true, ret_address);
    freeaddrinfo(found);
    if (!good)
        daemon_usage("'%s' has no address that can be used", text);
    return good;
}

static void say_unreadable(void)
{
    daemon_usage("the environment variable FASTBLOCK_CONF names %s: %s", config_path(), strerror(errno));
}

bool daemon_monitors(const char *text, struct daemon_monitors *ret)
{
    char all[CONFIG_LINE_MAX], word[256];
    const char *list = all;
    int error = api_monitors(text, all, sizeof(all));

    ret->count = 0;
    if (error) {
        if (error == -ERR_NOT_FOUND && config_unreadable())
            say_unreadable();
        else if (error == -ERR_NOT_FOUND)
            daemon_usage(
                "no monitor is known: give --mon HOST:PORT, set FASTBLOCK_MON, or write `mon = HOST:PORT` to %s",
                config_path());
        else
            daemon_usage("the list of monitors is too long");
        return false;
    }
    while (*list) {
        size_t len = strcspn(list, ",");
        if (len == 0 || len >= sizeof(word) || ret->count == DAEMON_MONITORS_MAX) {
            daemon_usage("--mon %s: at most %u addresses, with a comma between them", text ? text : all,
                         DAEMON_MONITORS_MAX);
            return false;
        }
        snprintf(word, sizeof(word), "%.*s", (int)len, list);
        if (!daemon_address(word, ret->text[ret->count]))
            return false;
        ret->address[ret->count] = ret->text[ret->count];
        ret->count++;
        list += len + (list[len] == ',');
    }
    return true;
}

bool daemon_own_host(const char *peer, char ret_host[DAEMON_ADDRESS_SIZE])
{
    struct addrinfo *found = resolve(peer);
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);

    if (!found)
        return false;
    /* Connecting a datagram socket sends nothing: it only chooses the way. */
    int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
                numeric((struct sockaddr *)&own, len, false, ret_host);
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
    return good;
}

/* ---- options in the configuration file ---- */

struct file_options {
    const char *section;
    char **argv;
    int count, cap;
};

static int take_option(void *owner, const char *name, const char *value, uint32_t line)
{
    struct file_options *o = owner;
    char *word;

    if (!name || !*name || name[0] == '-') {
        daemon_usage("%s, line %u: '%s' is not of the form NAME = VALUE", config_path(), line, value);
        return -ERR_INVALID;
    }
    if (o->count == o->cap) {
        daemon_usage("%s, line %u: [%s] has too many lines", config_path(), line, o->section);
        return -ERR_INVALID;
    }
    if (asprintf(&word, "--%s=%s", name, value) < 0)
        return -ERR_NO_MEMORY;
    o->argv[o->count++] = word; /* lives as long as the program */
    return 0;
}

bool daemon_config(const char *section, int *argc, char ***argv)
{
    struct file_options o = {.section = section, .cap = *argc + DAEMON_CONFIG_MAX};

    o.argv = calloc((size_t)o.cap + 1, sizeof(*o.argv));
    if (!o.argv) {
        daemon_fail("out of memory");
        return false;
    }
    o.cap -= *argc - 1;
    o.argv[o.count++] = (*argv)[0];
    int error = config_each(config_path(), section, take_option, &o);
    if (error == -ERR_NOT_FOUND && config_unreadable()) {
        say_unreadable();
        return false;
    }
    if (error && error != -ERR_NOT_FOUND)
        return false;
    /* What the caller says comes later, and counts. */
    memcpy(&o.argv[o.count], *argv + 1, (size_t)(*argc - 1) * sizeof(*o.argv));
    *argc += o.count - 1;
    *argv = o.argv;
    return true;
}

void daemon_raise_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        fprintf(stderr, "%s: cannot raise the limit of open files\n", program_invocation_short_name);
}
