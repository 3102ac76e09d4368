/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-memory: what the structures of this build take, and so the bounds of memory per shard, connection,
 * image and TB of device. Nothing is measured: sizes come from the compiler, counts from the limits in the
 * headers.
 */
#include <stdio.h>

#include "backend/sock.h"
#include "bench/memory.h"
#include "client/impl.h"
#include "osd/pg.h"
#include "rpc/session.h"

void memory_row(const char *what, double each_bytes, double count)
{
    printf("  %-58s %12.0f x %8.0f = %10.1f KiB\n", what, each_bytes, count, each_bytes * count / 1024);
}

int main(void)
{
    printf("shard, at its start (beside the arena: --cache and 128 MiB for what is on its way)\n");
    memory_row("the shard with its counters and scratch", sizeof(struct osd_shard), 1);
    memory_row("client requests under way", sizeof(struct pg_request), SHARD_REQUESTS_MAX);
    memory_row("sessions", sizeof(struct rpc_session), SHARD_SESSIONS_MAX);
    printf("shard, as it is used\n");
    memory_row("a placement group", sizeof(struct pg), 1);
    memory_row("another shard that it talks to", sizeof(struct peer), 1);
    printf("connection, at each end (payloads lie in the arena)\n");
    memory_row("socket", sizeof(struct sock), 1);
    memory_row("receive buffer when it is empty", SOCK_RX_SIZE, 1);
    printf("client process (data under way is the caller's)\n");
    memory_row("the client", sizeof(struct client), 1);
    memory_row("requests under way", sizeof(struct client_piece), CLIENT_INFLIGHT_MAX);
    memory_row("an open image", sizeof(struct client_image), 1);
    memory_row("  and for each of its pool's groups (64 by default)", sizeof(struct client_image_pg), 64);
    memory_row("a shard that it talks to, beside the connection", sizeof(struct client_peer), 1);
    memory_store();
    return 0;
}
