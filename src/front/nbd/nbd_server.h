/* SPDX-License-Identifier: Apache-2.0
 *
 * nbd: an image as an NBD export. May include: base rt client.
 *
 *   nbd_protocol, nbd_reply   the protocol, pure
 *   nbd_server.c              listening, connections' lives, memory, stopping
 *   nbd_conn.c                the receiving side of a connection
 *   nbd_request.c             a command under way, and its reply
 *
 * Each connection has many commands under way; replies go out as they come. Several connections may be used
 * as one (CAN_MULTI_CONN holds because every completed write is durable).
 *
 * Memory is the core's arena. Commands may fill half of it; the other half is for what arrives from the
 * shards. When their half is full, or a connection has its share of commands under way, the connection is not
 * read any more until some have ended.
 *
 * When a connection is lost its commands go on, and a later connection is not served before they have ended:
 * so a client that reconnects never sees a write of its former self arrive late.
 */
#ifndef FRONT_NBD_NBD_SERVER_H
#define FRONT_NBD_NBD_SERVER_H

#include "base/base.h"
#include "client/client.h"
#include "rt/core.h"
#include "rt/stream.h"

struct nbd_server;

struct nbd_server_config {
    struct core *core; /* with an arena of at least NBD_ARENA_MIN */
    struct stream_net *net;
    const char *address; /* "unix:PATH" or "host:port" */
    const char *name;    /* of the export */
    bool read_only;
};

#define NBD_ARENA_MIN     (96u << 20)
#define NBD_CONNS_MAX     64
#define NBD_CONN_COMMANDS 128 /* under way on one connection */

/* Listens; who connects waits until there is an image. So a second server on the same socket fails before it
 * has taken anything over. ERR_NO_MEMORY, ERR_EXISTS (somebody listens there), or what listening fails with.
 */
MUST_CHECK int nbd_server_new(const struct nbd_server_config *config, struct nbd_server **ret_server);
/* Serves the image, once; it outlives the server. */
void nbd_server_serve(struct nbd_server *server, struct client_image *image);
const char *nbd_server_address(const struct nbd_server *server);

/* Takes no new commands, answers those under way, closes the connections, frees the server. The image stays
 * open. */
struct nbd_server_stop {
    struct op op;
    struct nbd_server *server;
};
void nbd_server_stop_start(struct nbd_server_stop *s, struct nbd_server *server, struct op *parent);

#endif
