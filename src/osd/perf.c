/* SPDX-License-Identifier: Apache-2.0
 *
 * The answer to METHOD_PERF: everything that the shard, its store and its core count.
 */
#include "osd/pg.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

#define PERF_ROWS_MAX  128
#define PERF_PEERS_MAX 64 /* of the many that a shard may have */

struct perf_rows {
    Fb__Counter counters[PERF_ROWS_MAX], *counter_pointers[PERF_ROWS_MAX];
    Fb__Histogram histograms[PERF_ROWS_MAX], *histogram_pointers[PERF_ROWS_MAX];
    char peer_names[PERF_PEERS_MAX][48];
    Fb__PerfReply reply;
};

static void counter_add(struct perf_rows *rows, const char *name, uint64_t value)
{
    ASSERT(rows->reply.n_counter < PERF_ROWS_MAX);
    Fb__Counter *counter = &rows->counters[rows->reply.n_counter];

    *counter = (Fb__Counter)FB__COUNTER__INIT;
    counter->name = (char *)name;
    counter->value = value;
    rows->counter_pointers[rows->reply.n_counter++] = counter;
}

static void histogram_add(struct perf_rows *rows, const char *name, const struct histogram *from)
{
    ASSERT(rows->reply.n_histogram < PERF_ROWS_MAX);
    Fb__Histogram *histogram = &rows->histograms[rows->reply.n_histogram];

    *histogram = (Fb__Histogram)FB__HISTOGRAM__INIT;
    histogram->name = (char *)name;
    histogram->count = from->count;
    histogram->mean_ns = histogram_mean_ns(from);
    histogram->p50_ns = histogram_percentile_ns(from, 50);
    histogram->p99_ns = histogram_percentile_ns(from, 99);
    histogram->p999_ns = histogram_percentile_ns(from, 99.9);
    histogram->max_ns = from->count ? from->max_ns : 0;
    rows->histogram_pointers[rows->reply.n_histogram++] = histogram;
}

static void store_add(struct perf_rows *rows, const struct store *store)
{
    const struct store_counters *c = store_counters(store);
    struct store_space space = store_space(store);

    counter_add(rows, "store.batches", c->batches);
    counter_add(rows, "store.batch_entries", c->batch_entries);
    counter_add(rows, "store.log_bytes", c->log_bytes);
    counter_add(rows, "store.log_payload_bytes", c->log_payload_bytes);
    counter_add(rows, "store.payload_bytes", c->payload_bytes);
    counter_add(rows, "store.destage_blocks", c->destage_blocks);
    counter_add(rows, "store.large_bytes", c->large_bytes);
    counter_add(rows, "store.destage_bytes", c->destage_bytes);
    counter_add(rows, "store.page_writes", c->page_writes);
    counter_add(rows, "store.checkpoints", c->checkpoints);
    counter_add(rows, "store.tail_moves", c->tail_moves);
    counter_add(rows, "store.cache_bytes", c->cache_bytes);
    counter_add(rows, "store.cache_hits", c->cache_hits);
    counter_add(rows, "store.device_reads", c->device_reads);
    counter_add(rows, "store.page_hits", c->page_hits);
    counter_add(rows, "store.page_reads", c->page_reads);
    counter_add(rows, "store.checksum_errors", c->checksum_errors);
    counter_add(rows, "store.repaired_blocks", c->repaired_blocks);
    counter_add(rows, "store.damaged_objects", c->damaged_objects);
    counter_add(rows, "store.copied_forward", c->copied_forward);
    counter_add(rows, "store.copy_written", c->copy_written);
    counter_add(rows, "store.copy_moved", c->copy_moved);
    counter_add(rows, "store.copy_shared", c->copy_shared);
    counter_add(rows, "store.total_bytes", space.total_bytes);
    counter_add(rows, "store.used_bytes", space.used_bytes);
    counter_add(rows, "store.free_bytes", space.free_bytes);
    histogram_add(rows, "store.log_write", &c->log_write);
    histogram_add(rows, "store.device_read", &c->device_read);
}

static void core_add(struct perf_rows *rows, const struct core_counters *c)
{
    counter_add(rows, "core.polls", c->polls);
    counter_add(rows, "core.steps", c->steps);
    counter_add(rows, "core.timers", c->timers);
    counter_add(rows, "core.syscalls", c->syscalls);
    counter_add(rows, "core.sleeps", c->sleeps);
    counter_add(rows, "core.net_send_calls", c->net_send_calls);
    counter_add(rows, "core.net_recv_calls", c->net_recv_calls);
    counter_add(rows, "core.net_bytes_in", c->net_bytes_in);
    counter_add(rows, "core.net_bytes_out", c->net_bytes_out);
    counter_add(rows, "core.blk_writes", c->blk_writes);
    counter_add(rows, "core.blk_reads", c->blk_reads);
    counter_add(rows, "core.blk_flushes", c->blk_flushes);
    counter_add(rows, "core.blk_bytes_written", c->blk_bytes_written);
    counter_add(rows, "core.blk_bytes_read", c->blk_bytes_read);
    counter_add(rows, "core.copied_bytes", c->copied_bytes);
    counter_add(rows, "core.allocs", c->allocs);
}

/* How long each follower takes, as far as entries were sent to it. */
static void peers_add(struct perf_rows *rows, struct osd_shard *shard)
{
    uint32_t count = 0;

    map_for_each (&shard->peers, node) {
        const struct peer *peer = map_entry(node, struct peer, node);
        if (!peer->append_ack.count || count == PERF_PEERS_MAX)
            continue;
        char *name = rows->peer_names[count++];
        snprintf(name, sizeof(rows->peer_names[0]), "osd.append_ack osd.%u.%u", peer->osd, peer->number);
        histogram_add(rows, name, &peer->append_ack);
    }
}

/* Recoveries of our replicas that are under way. */
static void recoveries_add(struct perf_rows *rows, const struct osd_shard *shard)
{
    uint64_t done = 0, total = 0, left_ns = 0;

    map_for_each (&shard->pgs, node) {
        uint64_t pg_done, pg_total, pg_left_ns;
        recover_progress(map_entry(node, struct pg, node), &pg_done, &pg_total, &pg_left_ns);
        done += pg_done;
        total += pg_total;
        left_ns = MAX(left_ns, pg_left_ns);
    }
    counter_add(rows, "osd.recovering_objects_done", done);
    counter_add(rows, "osd.recovering_objects", total);
    counter_add(rows, "osd.recovering_left_ms", left_ns / NS_PER_MS);
}

static void image_reply(struct osd_shard *shard, const struct rpc_ticket *ticket, uint64_t image)
{
    Fb__PerfReply *reply = image_perf_reply(&shard->image_perf, image, core_now_ns(shard->core));

    if (reply)
        shard_reply_cold(shard, ticket, 0, &reply->base);
    else
        rpc_reply(ticket, -ERR_NO_MEMORY, NULL, 0, NULL, 0);
    free(reply);
}

static void shard_reply(struct osd_shard *shard, const struct rpc_ticket *ticket)
{
    struct perf_rows rows;

    rows.reply = (Fb__PerfReply)FB__PERF_REPLY__INIT;
    rows.reply.counter = rows.counter_pointers;
    rows.reply.histogram = rows.histogram_pointers;
#define X(name, text) counter_add(&rows, "osd." #name, shard->perf.name);
    PERF_COUNTERS(X)
#undef X
    store_add(&rows, shard->store);
    core_add(&rows, &shard->core->counters);
    counter_add(&rows, "osd.pgs", shard->pgs.count);
    recoveries_add(&rows, shard);
    counter_add(&rows, "osd.requests", pool_out_count(&shard->requests));
#define X(name, text) histogram_add(&rows, "osd." #name, &shard->perf.name);
    PERF_HISTOGRAMS(X)
#undef X
    peers_add(&rows, shard);
    shard_reply_cold(shard, ticket, 0, &rows.reply.base);
}

void shard_perf_receive(struct osd_shard *shard, const struct rpc_ticket *ticket,
                        const struct rpc_message *message)
{
    uint64_t memory[16];
    struct wire_arena arena;
    Fb__PerfRequest *in;

    wire_arena_init(&arena, memory, sizeof(memory), sizeof(memory));
    int error =
        wire_cold_decode(&fb__perf_request__descriptor, message->body, message->body_len, &arena, &in);
    if (error)
        rpc_reply(ticket, error, NULL, 0, NULL, 0);
    else if (in->image)
        image_reply(shard, ticket, in->image);
    else
        shard_reply(shard, ticket);
    wire_arena_fini(&arena);
}
