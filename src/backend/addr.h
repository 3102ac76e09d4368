/* SPDX-License-Identifier: Apache-2.0
 *
 * Socket addresses from and to text: "127.0.0.1:7000", "[::1]:7000", "unix:/run/x.sock". Numeric only:
 * resolving names blocks.
 */
#ifndef BACKEND_ADDR_H
#define BACKEND_ADDR_H

#include <sys/socket.h>

#include "base/base.h"

#define ADDR_TEXT_SIZE 128

struct addr {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* "host:port", and "unix:PATH" if `unix_too`. ERR_INVALID; ERR_TOO_LARGE for a path that no socket can have.
 */
MUST_CHECK int addr_parse(const char *text, bool unix_too, struct addr *ret_addr);
/* Always leaves a string in `text`. */
void addr_format(const struct addr *addr, char *text, size_t size);

#endif
