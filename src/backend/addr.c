/* SPDX-License-Identifier: Apache-2.0
 *
 * Socket addresses from and to text.
 */
#include "backend/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/error.h"
#include "base/text.h"

static int addr_parse_unix(const char *path, struct addr *ret_addr)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&ret_addr->storage;

    if (!*path)
        return -ERR_INVALID;
    *ret_addr = (struct addr){.len = sizeof(*un)};
    un->sun_family = AF_UNIX;
    return text_copy(un->sun_path, sizeof(un->sun_path), path);
}

int addr_parse(const char *text, bool unix_too, struct addr *ret_addr)
{
    char host[64];
    uint64_t port;

    if (strncmp(text, "unix:", 5) == 0)
        return unix_too ? addr_parse_unix(text + 5, ret_addr) : -ERR_INVALID;
    const char *colon = strrchr(text, ':');
    if (!colon || text_parse_u64(colon + 1, &port) || port > 65535)
        return -ERR_INVALID;
    size_t len = (size_t)(colon - text);
    bool brackets = len >= 2 && text[0] == '[' && colon[-1] == ']';
    if (brackets) {
        text++;
        len -= 2;
    }
    if (len >= sizeof(host))
        return -ERR_INVALID;
    memcpy(host, text, len);
    host[len] = 0;

    struct addr addr = {0};
    if (brackets) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr.storage;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        addr.len = sizeof(*in6);
        if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
            return -ERR_INVALID;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&addr.storage;
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        addr.len = sizeof(*in);
        if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
            return -ERR_INVALID;
    }
    *ret_addr = addr;
    return 0;
}

void addr_format(const struct addr *addr, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";

    switch (addr->storage.ss_family) {
    case AF_INET: {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->storage;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
        break;
    }
    case AF_INET6: {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->storage;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
        break;
    }
    case AF_UNIX: {
        const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->storage;
        bool named = addr->len > offsetof(struct sockaddr_un, sun_path);
        snprintf(text, size, "unix:%s", named ? un->sun_path : "");
        break;
    }
    default:
        snprintf(text, size, "?");
    }
}
