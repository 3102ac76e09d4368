/* SPDX-License-Identifier: Apache-2.0
 *
 * bench-memory: what the structures of this build take, and so the bounds of memory per shard, connection,
 * image and TB of device. Nothing is measured: sizes come from the compiler, counts from the limits in the
 * headers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/sock.h"
#include "bench/memory.h"
#include "client/impl.h"
#include "osd/pg.h"
#include "rpc/session.h"

void memory_row(const char *what, double each_bytes, double count)
{
    printf("  %-58s %12.0f x %8.0f = %10.1f KiB\n", what, each_bytes, count, each_bytes * count / 1024);
}

/* Events with the cluster map as the monitor sends it: PGs of three members with ordinary numbers. */
static double map_bytes(uint32_t pgs, uint32_t moving)
{
    static Fb__Pg pg;
    static Fb__PgMember member[6];
    Fb__PgMember *pointers[6];
    Fb__Pg **items = calloc(pgs, sizeof(Fb__Pg *));
    Fb__ClusterMap map = FB__CLUSTER_MAP__INIT;
    Fb__MonEvent event = FB__MON_EVENT__INIT;
    static uint8_t cluster[16];
    size_t bytes;

    pg = (Fb__Pg)FB__PG__INIT;
    for (uint32_t i = 0; i < ARRAY_LEN(member); i++) {
        member[i] = (Fb__PgMember)FB__PG_MEMBER__INIT;
        pointers[i] = &member[i];
        member[i].replica = 1 + i;
        member[i].osd = 40 + i;
        member[i].shard = 2;
        member[i].birth = i < 3 ? 0 : 200000;
    }
    pg.id = 1ull << 32 | 9000;
    pg.epoch = pg.birth = pg.wanted_epoch = 200000;
    pg.born = true;
    pg.group_index = 100000;
    pg.replica_next = 7;
    pg.member = pointers;
    pg.n_member = 3;
    pg.wanted = pointers + 2;
    pg.n_wanted = moving;
    for (uint32_t i = 0; i < pgs; i++)
        items[i] = &pg;
    map.cluster = (ProtobufCBinaryData){16, cluster};
    map.epoch = map.base_epoch = 200000;
    map.pg = items;
    map.n_pg = pgs;
    event.map = &map;
    bytes = FRAME_HEADER_SIZE + fb__mon_event__get_packed_size(&event);
    free(items);
    return (double)bytes;
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
    memory_row("receive buffer when it is empty (resident: as far as it was ever used at once)", SOCK_RX_LINK,
               1);
    printf("client process (data under way is the caller's)\n");
    memory_row("the client", sizeof(struct client), 1);
    memory_row("requests under way", sizeof(struct client_piece), CLIENT_INFLIGHT_MAX);
    memory_row("an open image", sizeof(struct client_image), 1);
    memory_row("  and for each of its pool's groups (64 by default)", sizeof(struct client_image_pg), 64);
    memory_row("a shard that it talks to, beside the connection", sizeof(struct client_peer), 1);
    memory_store();
    printf("the cluster map as OSDs and clients get it\n");
    memory_row("a change of one PG, whatever the number of PGs", map_bytes(1, 0), 1);
    memory_row("the same with wanted members", map_bytes(1, 3), 1);
    memory_row("all of it, at first: 256 PGs", map_bytes(256, 0), 1);
    memory_row("10,000 PGs", map_bytes(10000, 0), 1);
    memory_row("100,000 PGs (in parts)", map_bytes(100000, 0), 1);
    return 0;
}
