/* SPDX-License-Identifier: Apache-2.0
 *
 * image_perf: what a shard, as the leader of PGs, did for each image in each of them, and how long it took.
 *
 * The rows are made when the shard is: IMAGE_PERF_ROWS of them, less than 2 MiB. When an image comes to a PG
 * and there is none left, the one that had no request for the longest time begins anew with it. Nothing of it
 * is kept over a restart, nor handed over with leadership: who asks adds up what all leaders say. The shard's
 * thread only.
 */
#ifndef OSD_IMAGE_PERF_H
#define OSD_IMAGE_PERF_H

#include "base/histogram.h"
#include "base/list.h"
#include "base/map.h"
#include "wire/cold.h"

#define IMAGE_PERF_ROWS 1024

struct image_perf_row {
    struct map_node node; /* by image and PG */
    struct list used;     /* in the table's list, longest unused first */
    uint64_t pg, image;
    bool taken; /* it is in the map */
    uint64_t since_ns;
    uint64_t writes, write_bytes, reads, read_bytes, clears, errors;
    uint64_t write_ns, propose_ns, commit_ns, reply_ns, read_ns; /* sums */
    uint64_t write_buckets[HISTOGRAM_COARSE], read_buckets[HISTOGRAM_COARSE];
};

struct image_perf {
    struct map rows;
    struct list used;
    struct image_perf_row *memory;
};

/* ERR_NO_MEMORY. */
MUST_CHECK int image_perf_init(struct image_perf *perf);
void image_perf_fini(struct image_perf *perf);
/* The row to count in, which may have been another one's before. */
struct image_perf_row *image_perf_row(struct image_perf *perf, uint64_t image, uint64_t pg, uint64_t now_ns);

/* All rows of an image as an answer to METHOD_PERF. Its memory is one allocation, freed by free(); NULL:
 * there was none. The message lives until then. */
Fb__PerfReply *image_perf_reply(const struct image_perf *perf, uint64_t image, uint64_t now_ns);

#endif
