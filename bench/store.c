/* SPDX-License-Identifier: Apache-2.0
 *
 * What a log entry costs the store: 4 KiB writes to random blocks are appended, applied when they are
 * durable, and destaged, on the real core and device port. And what a read of 4 KiB from a chunk costs when
 * the checksums of its object are in memory, and when the page must be read for them.
 *
 *     bench-store PATH [--seconds S]      a directory (the file is made there and removed) on tmpfs or a disk
 *
 * Keeps DEPTH entries not yet durable: 32 while the store is new and has nothing to destage, then 1, 32 and
 * 128; one line each: entries per second, CPU time per entry, device writes and bytes per entry, log and
 * destage together, and the CPU time of a turn of the loop: what a request may have to wait for, whatever
 * else runs on the machine. Then, opened again with memory for the pages of all objects, and of one, with
 * 1 and with 32 reads under way: reads per second, CPU time, latency, device reads and pages read per read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/histogram.h"
#include "store/store.h"

#define SIZE      (2ull << 30)
#define OBJECTS   256u
#define FRESH     10000u /* entries that are not destaged yet */
#define FLUSHING  80000u /* more than the ring has room for */
#define READS_MAX 32u

static struct uring_core *uc;

static uint64_t cpu_ns(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * NS_PER_S +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * NS_PER_US;
}

static uint64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void must(int rc, const char *what)
{
    if (!rc)
        return;
    fprintf(stderr, "bench-store: %s: %s\n", what, error_text(rc));
    exit(1);
}

static void wait_op(struct op *op, const char *what)
{
    while (op_live(op))
        uring_core_turn(uc, NS_PER_MS);
    must(op->result, what);
}

/* Woken by the store when entries are durable; the loop below looks. */
static void waiter_step(struct op *op)
{
}

static const struct op_kind WAITER = {"bench.waiter", NULL, waiter_step};

static uint64_t number;
static uint64_t object_first; /* of those that are written */

static int append(struct store_pg *pg, const struct buf *source)
{
    uint64_t h = hash_u64(++number);
    struct buf *buf = buf_new(uring_core_core(uc)->arena, BLOCK_SIZE);

    if (!buf)
        return -ERR_RETRY;
    memcpy(buf->data, source->data, BLOCK_SIZE);
    memcpy(buf->data, &h, sizeof(h));
    uint32_t crc = crc32c(0, buf->data, BLOCK_SIZE);
    struct entry e = {.index = pg->last_index + 1,
                      .term = 1,
                      .type = ENTRY_WRITE,
                      .image = 1,
                      .object = object_first + h % OBJECTS,
                      .first_block = (uint32_t)(h >> 32) % BLOCKS_PER_OBJECT,
                      .block_count = 1,
                      .crc = &crc};
    struct slice payload = {.buf = buf, .len = BLOCK_SIZE};
    int rc = store_append(pg, &e, &payload);
    buf_unref(buf);
    return rc;
}

static void run(struct store *store, struct store_pg *pg, uint64_t depth, uint64_t seconds,
                uint64_t entries_max)
{
    static struct histogram turns;
    struct core *core = uring_core_core(uc);
    struct buf *source = buf_new(core->arena, BLOCK_SIZE);
    uint64_t start_ns = core_now_ns(core), entries = pg->last_index, retries = 0, cpu = cpu_ns();
    struct core_counters before = core->counters;
    struct store_counters log = *store_counters(store);

    memset(source->data, 0x5a, BLOCK_SIZE);
    memset(&turns, 0, sizeof(turns));
    while (core_now_ns(core) - start_ns < seconds * NS_PER_S && pg->last_index - entries < entries_max) {
        uint64_t turn_ns = thread_ns();
        while (pg->last_index - pg->durable_index < depth) {
            int rc = append(pg, source);
            if (rc == -ERR_RETRY) {
                retries++;
                break;
            }
            must(rc, "append");
        }
        uring_core_turn(uc, NS_PER_MS);
        store_apply(pg, pg->durable_index);
        histogram_record(&turns, thread_ns() - turn_ns);
    }
    double n = (double)(pg->last_index - entries), s = (double)(core_now_ns(core) - start_ns) / 1e9;
    const struct store_counters *now = store_counters(store);
    printf(
        "depth %3llu: %8.0f entries/s, %6.0f ns CPU, %.3f device writes, %6.0f bytes written, %.1f entries per batch, "
        "%.2f system calls, %llu refused; turn p50 %.1f p99 %.1f p99.9 %.1f max %.0f us\n",
        (unsigned long long)depth, n / s, (double)(cpu_ns() - cpu) / n,
        (double)(core->counters.blk_writes - before.blk_writes) / n,
        (double)(core->counters.blk_bytes_written - before.blk_bytes_written) / n,
        (double)(now->batch_entries - log.batch_entries) / (double)(now->batches - log.batches),
        (double)(core->counters.syscalls - before.syscalls) / n, (unsigned long long)retries,
        (double)histogram_percentile_ns(&turns, 50) / 1e3, (double)histogram_percentile_ns(&turns, 99) / 1e3,
        (double)histogram_percentile_ns(&turns, 99.9) / 1e3, (double)turns.max_ns / 1e3);
    buf_unref(source);
}

static uint64_t read_place; /* of the last one, scrambled */

static void read_start(struct store_read *r, struct store_pg *pg)
{
    uint64_t h = hash_u64(++read_place);

    store_read_start(r, pg, 1, h % OBJECTS, (uint32_t)(h >> 32) % BLOCKS_PER_OBJECT, 1, false, NULL);
}

static void run_reads(struct store *store, struct store_pg *pg, uint32_t depth, uint64_t seconds)
{
    static struct store_read reads[READS_MAX];
    static struct histogram latency;
    static uint64_t began_ns[READS_MAX];
    struct core *core = uring_core_core(uc);
    const struct store_counters before = *store_counters(store);
    uint64_t start_ns = core_now_ns(core), cpu = cpu_ns(), done = 0;
    bool more = true;

    memset(&latency, 0, sizeof(latency));
    memset(reads, 0, sizeof(reads));
    for (uint32_t live = 0; more || live;) {
        more = core_now_ns(core) - start_ns < seconds * NS_PER_S;
        live = 0;
        for (uint32_t i = 0; i < depth; i++) {
            if (!op_live(&reads[i].op) && began_ns[i]) {
                must(reads[i].op.result, "read");
                slice_unref(&reads[i].ret_data);
                histogram_record(&latency, core_now_ns(core) - began_ns[i]);
                began_ns[i] = 0;
                done++;
            }
            if (!op_live(&reads[i].op) && more) {
                began_ns[i] = core_now_ns(core);
                read_start(&reads[i], pg);
            }
            live += began_ns[i] != 0;
        }
        uring_core_turn(uc, NS_PER_MS);
    }
    double n = (double)done, s = (double)(core_now_ns(core) - start_ns) / 1e9;
    const struct store_counters *now = store_counters(store);
    printf(
        "reads, depth %3u: %8.0f/s, %6.0f ns CPU, p50 %.1f p99 %.1f us, %.3f device reads, %.3f pages read\n",
        depth, n / s, (double)(cpu_ns() - cpu) / n, (double)histogram_percentile_ns(&latency, 50) / 1e3,
        (double)histogram_percentile_ns(&latency, 99) / 1e3,
        (double)(now->device_reads - before.device_reads) / n,
        (double)(now->page_reads - before.page_reads) / n);
}

int main(int argc, char **argv)
{
    uint64_t seconds = argc > 3 && strcmp(argv[2], "--seconds") == 0 ? strtoull(argv[3], NULL, 10) : 3;
    char path[512];

    if (argc < 2) {
        fprintf(stderr, "bench-store DIRECTORY [--seconds S]\n");
        return 2;
    }
    snprintf(path, sizeof(path), "%s/bench-store.%d", argv[1], (int)getpid());
    struct uring_core_opts opts = {.arena_bytes = 256u << 20, .spin_us = 50, .log_level = LOG_WARN};
    struct uring_dev *dev;
    struct blk *blk;
    must(uring_core_new(&opts, &uc), "core");
    must(uring_dev_create(path, SIZE), path);
    int rc = uring_dev_open(path, URING_CACHE_STABLE, false, &dev);
    unlink(path);
    must(rc, path);
    must(uring_blk_new(uc, dev, 0, SIZE, &blk), path);

    struct store_config config = {
        .core = uring_core_core(uc), .blk = blk, .cache_bytes = 128u << 20, .pgs_max = 64};
    struct store_format f = {0};
    struct store_open o = {0};
    struct store_pg_write w = {0};
    struct store_close c = {0};
    struct op waiter = {0};
    store_format_start(&f, &config, 0, NULL);
    wait_op(&f.op, "format");
    store_open_start(&o, &config, NULL);
    wait_op(&o.op, "open");
    const struct store_pg_record record = {
        .pg = 1, .replica = 1, .group = {.count = 1, .members = {{.replica = 1, .flags = GROUP_VOTER}}}};
    store_pg_write_start(&w, o.ret_store, &record, NULL);
    wait_op(&w.op, "PG");
    op_start(&waiter, config.core, &WAITER, NULL);
    w.ret_pg->waiter = &waiter;
    uring_core_turn(uc, 0);
    run(o.ret_store, w.ret_pg, 32, seconds, FRESH);
    static const uint64_t depths[] = {1, 32, 128};
    for (uint32_t i = 0; i < ARRAY_LEN(depths); i++)
        run(o.ret_store, w.ret_pg, depths[i], seconds, UINT64_MAX);
    /* Others, until of the ones that will be read nothing is in the log alone. */
    object_first = OBJECTS;
    run(o.ret_store, w.ret_pg, 128, 1000, FLUSHING);
    const struct store_counters *n = store_counters(o.ret_store);
    printf("destaged %llu blocks with %llu pages in all, %llu checkpoints, %llu tail moves\n",
           (unsigned long long)n->destage_blocks, (unsigned long long)n->page_writes,
           (unsigned long long)n->checkpoints, (unsigned long long)n->tail_moves);
    w.ret_pg->waiter = NULL;
    op_done(&waiter, 0);
    store_close_start(&c, o.ret_store, NULL);
    wait_op(&c.op, "close");
    static const uint32_t pages[] = {OBJECTS, 1};
    for (uint32_t i = 0; i < ARRAY_LEN(pages); i++) {
        config.pages_max = pages[i];
        store_open_start(&o, &config, NULL);
        wait_op(&o.op, "open");
        printf("memory for %u pages\n", pages[i]);
        struct store_pg *pg = store_pg_find(o.ret_store, 1);
        store_apply(pg, pg->last_index);
        /* What the log still had is destaged first. */
        uint64_t from_ns = core_now_ns(config.core);
        while (core_now_ns(config.core) - from_ns < NS_PER_S)
            uring_core_turn(uc, NS_PER_MS);
        run_reads(o.ret_store, pg, 1, seconds);
        run_reads(o.ret_store, pg, READS_MAX, seconds);
        store_close_start(&c, o.ret_store, NULL);
        wait_op(&c.op, "close");
    }
    blk->ops->close(blk);
    uring_dev_close(dev);
    uring_core_free(uc);
    return 0;
}
