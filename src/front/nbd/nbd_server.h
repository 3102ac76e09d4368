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
 * Memory is the core's arena, and what a connection has of it includes the replies that its client has not
 * taken yet. It gets NBD_CONN_OWN whatever others have, and more while there is some that all share; the rest
 * is for long unstructured reads, and for what arrives from the shards. When it has what it may have, or its
 * share of commands under way, the connection is not read any more until some have ended. So a client that
 * takes no replies holds up nobody but itself.
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
    struct core *core; /* with an arena of at least NBD_ARENA_BYTES */
    struct stream_net *net;
    const char *address; /* "unix:PATH" or "host:port" */
    const char *name;    /* of the export */
    bool read_only;
};

/* Where there are so many, one that comes takes the place of the one that has been the longest without a
 * handshake. */
#define NBD_CONNS_MAX     64
#define NBD_CONN_COMMANDS 128 /* under way on one connection */

/* Memory for data, in bytes. */
#define NBD_CONN_OWN     (2u << 20)  /* that each connection has to itself */
#define NBD_CONN_MAX     (16u << 20) /* that it may have, beyond which it waits for itself */
#define NBD_SHARED       (64u << 20) /* that all have beyond their own */
#define NBD_LONG_READS   (64u << 20) /* of the long unstructured ones that are under way */
#define NBD_ARRIVALS     (64u << 20) /* from the shards */
#define NBD_ARENA_SPOKEN (NBD_CONNS_MAX * NBD_CONN_OWN + NBD_LONG_READS + NBD_ARRIVALS)
#define NBD_ARENA_BYTES  (NBD_ARENA_SPOKEN + NBD_SHARED)

/* Listens; who connects waits until there is an image. So a second server on the same socket fails before it
 * has taken anything over. ERR_NO_MEMORY, ERR_EXISTS (somebody listens there), or what listening fails with.
 */
MUST_CHECK int nbd_server_new(const struct nbd_server_config *config, struct nbd_server **ret_server);
/* Serves the image, once; it outlives the server. */
void nbd_server_serve(struct nbd_server *server, struct client_image *image);
const char *nbd_server_address(const struct nbd_server *server);

/* Takes no new commands, answers those under way, closes the connections, frees the server. The image stays
 * open. Clients that do not take their answers are not waited for. */
struct nbd_server_stop {
    struct op op;
    struct timer timer;
    struct nbd_server *server;
};
void nbd_server_stop_start(struct nbd_server_stop *s, struct nbd_server *server, struct op *parent);

#endif
