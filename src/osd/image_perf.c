/* SPDX-License-Identifier: Apache-2.0 */
#include "osd/image_perf.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

int image_perf_init(struct image_perf *perf)
{
    map_init(&perf->rows);
    list_init(&perf->used);
    perf->memory = calloc(IMAGE_PERF_ROWS, sizeof(*perf->memory));
    if (!perf->memory || map_reserve(&perf->rows, IMAGE_PERF_ROWS))
        return -ERR_NO_MEMORY;
    for (uint32_t i = 0; i < IMAGE_PERF_ROWS; i++)
        list_push_back(&perf->used, &perf->memory[i].used);
    return 0;
}

void image_perf_fini(struct image_perf *perf)
{
    map_fini(&perf->rows);
    free(perf->memory);
}

struct image_perf_row *image_perf_row(struct image_perf *perf, uint64_t image, uint64_t pg, uint64_t now_ns)
{
    /* Two that have the same key by chance take turns in one row: figures are lost, no more. */
    uint64_t key = hash_u64(image) ^ pg;
    struct map_node *node = map_get(&perf->rows, key);
    struct image_perf_row *row = node ? map_entry(node, struct image_perf_row, node)
                                      : container_of(perf->used.next, struct image_perf_row, used);

    list_remove(&row->used);
    if (!row->taken || row->image != image || row->pg != pg) {
        if (row->taken)
            map_remove(&perf->rows, row->node.key);
        *row = (struct image_perf_row){.image = image, .pg = pg, .taken = true, .since_ns = now_ns};
        map_put(&perf->rows, &row->node, key);
    }
    list_push_back(&perf->used, &row->used);
    return row;
}

struct reply {
    Fb__PerfReply message;
    Fb__ImagePerf rows[IMAGE_PERF_ROWS], *row_pointers[IMAGE_PERF_ROWS];
    uint64_t write_buckets[HISTOGRAM_COARSE], read_buckets[HISTOGRAM_COARSE];
};

static void row_add(struct reply *reply, const struct image_perf_row *row, uint64_t now_ns)
{
    Fb__ImagePerf *out = &reply->rows[reply->message.n_image];

    *out = (Fb__ImagePerf)FB__IMAGE_PERF__INIT;
    out->pg = row->pg;
    out->age_ms = (now_ns - row->since_ns) / NS_PER_MS;
    out->writes = row->writes;
    out->write_bytes = row->write_bytes;
    out->reads = row->reads;
    out->read_bytes = row->read_bytes;
    out->clears = row->clears;
    out->errors = row->errors;
    out->write_ns = row->write_ns;
    out->write_propose_ns = row->propose_ns;
    out->write_commit_ns = row->commit_ns;
    out->write_reply_ns = row->reply_ns;
    out->read_ns = row->read_ns;
    reply->row_pointers[reply->message.n_image++] = out;
    for (uint32_t i = 0; i < HISTOGRAM_COARSE; i++) {
        reply->write_buckets[i] += row->write_buckets[i];
        reply->read_buckets[i] += row->read_buckets[i];
    }
}

Fb__PerfReply *image_perf_reply(const struct image_perf *perf, uint64_t image, uint64_t now_ns)
{
    struct reply *reply = calloc(1, sizeof(*reply));

    if (!reply)
        return NULL;
    reply->message = (Fb__PerfReply)FB__PERF_REPLY__INIT;
    for (uint32_t i = 0; i < IMAGE_PERF_ROWS; i++)
        if (perf->memory[i].taken && perf->memory[i].image == image)
            row_add(reply, &perf->memory[i], now_ns);
    reply->message.image = reply->row_pointers;
    reply->message.n_write_bucket = reply->message.n_read_bucket = HISTOGRAM_COARSE;
    reply->message.write_bucket = reply->write_buckets;
    reply->message.read_bucket = reply->read_buckets;
    return &reply->message;
}
