/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock bench: keeps `qd` requests under way, on the images in turn, and measures each from its start to
 * its end. Sequential kinds share one position per image; random ones choose any aligned place of the image.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/histogram.h"
#include "base/text.h"
#include "cmd/cmd.h"

#define BENCH_DEPTH_MAX  1024
#define BENCH_IMAGES_MAX 64

struct bench_image {
    struct client_image *image;
    uint64_t blocks, next; /* requests that it holds; the next one of a sequential kind */
};

struct bench {
    struct cmd_session *session;
    struct bench_image images[BENCH_IMAGES_MAX];
    uint32_t image_count;
    uint32_t read_percent;
    bool random;
    uint64_t block_bytes;
    uint64_t end_ns;
    uint64_t random_state;
    struct histogram reads, writes;
    struct core_counters before; /* the core's, when the measuring began */
    uint64_t errors;
    int error; /* the first one */
};

/* One of the `qd` requests, again and again: START -> WAIT -> START ... until the time is over. */
struct bench_slot {
    struct op op;
    struct bench *bench;
    struct bench_image *on;
    struct client_io io;
    struct slice data;
    uint64_t started_ns;
};

enum { SLOT_START, SLOT_WAIT };

static uint64_t bench_random(struct bench *b)
{
    b->random_state ^= b->random_state << 13;
    b->random_state ^= b->random_state >> 7;
    b->random_state ^= b->random_state << 17;
    return b->random_state;
}

static void slot_step(struct op *op)
{
    struct bench_slot *slot = container_of(op, struct bench_slot, op);
    struct bench *b = slot->bench;

    if (op->state == SLOT_WAIT) {
        if (op_live(&slot->io.op))
            return;
        uint64_t took_ns = core_now_ns(op->core) - slot->started_ns;
        if (slot->io.op.result) {
            b->errors++;
            b->error = b->error ? b->error : slot->io.op.result;
        } else {
            histogram_record(slot->io.type == CLIENT_READ ? &b->reads : &b->writes, took_ns);
        }
        op->child_result = 0;
        op->state = SLOT_START;
    }
    slot->started_ns = core_recent_ns(op->core);
    if (slot->started_ns >= b->end_ns || b->errors > 0 || cmd_interrupted()) {
        op_done(op, 0);
        return;
    }
    bool read = b->read_percent == 100 || (b->read_percent > 0 && bench_random(b) % 100 < b->read_percent);
    uint64_t place = b->random ? bench_random(b) % slot->on->blocks : slot->on->next++ % slot->on->blocks;
    op->state = SLOT_WAIT;
    uint64_t offset = place * b->block_bytes;
    if (read)
        client_read_start(&slot->io, slot->on->image, offset, b->block_bytes, slice_data(&slot->data), op);
    else
        client_io_start(&slot->io, slot->on->image, CLIENT_WRITE, offset, b->block_bytes, &slot->data, op);
}

static const struct op_kind slot_kind = {"bench.slot", NULL, slot_step};

static bool choose_kind(struct bench *b, const char *rw)
{
    static const struct {
        const char *name;
        bool random;
        uint32_t read_percent;
    } kinds[] = {{"randwrite", true, 0},
                 {"randread", true, 100},
                 {"randrw", true, 70},
                 {"write", false, 0},
                 {"read", false, 100}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, rw) == 0) {
            b->random = kinds[i].random;
            b->read_percent = kinds[i].read_percent;
            return true;
        }
    }
    cmd_usage("--rw %s: it is randwrite, randread, randrw, write or read", rw);
    return false;
}

static json_t *histogram_json(const struct histogram *h, double seconds, uint64_t block_bytes)
{
    double iops = (double)h->count / seconds;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "iops", iops, "mb_per_s",
                     iops * (double)block_bytes / 1e6, "mean_us", (double)histogram_mean_ns(h) / 1e3,
                     "p50_us", (double)histogram_percentile_ns(h, 50) / 1e3, "p99_us",
                     (double)histogram_percentile_ns(h, 99) / 1e3, "p999_us",
                     (double)histogram_percentile_ns(h, 99.9) / 1e3, "max_us", (double)h->max_ns / 1e3);
}

/* A stage as the client sees it: count and microseconds. */
static json_t *stage_json(const struct histogram *h)
{
    return json_pack("{s:I, s:f, s:f, s:f}", "count", (json_int_t)h->count, "p50_us",
                     (double)histogram_percentile_ns(h, 50) / 1e3, "p99_us",
                     (double)histogram_percentile_ns(h, 99) / 1e3, "p999_us",
                     (double)histogram_percentile_ns(h, 99.9) / 1e3);
}

/* What this process did for a request, on average, and where the time went. */
static json_t *client_json(const struct core_counters *before, const struct core_counters *now,
                           const struct client_perf *perf, uint64_t count)
{
    double n = count ? (double)count : 1;
    json_t *json = json_pack("{s:f, s:f, s:f, s:f, s:f}", "syscalls_per_io",
                             (double)(now->syscalls - before->syscalls) / n, "sleeps_per_io",
                             (double)(now->sleeps - before->sleeps) / n, "send_calls_per_io",
                             (double)(now->net_send_calls - before->net_send_calls) / n,
                             "copied_bytes_per_io", (double)(now->copied_bytes - before->copied_bytes) / n,
                             "allocs_per_io", (double)(now->allocs - before->allocs) / n);
    json_object_set_new(json, "wait", stage_json(&perf->wait));
    json_object_set_new(json, "read", stage_json(&perf->read));
    json_object_set_new(json, "write", stage_json(&perf->write));
    json_object_set_new(json, "retries", json_integer((json_int_t)perf->retries));
    return json;
}

static void stage_print(const char *name, const struct histogram *h)
{
    if (h->count)
        printf("  %-44s p50 %.0f  p99 %.0f  p99.9 %.0f us\n", name,
               (double)histogram_percentile_ns(h, 50) / 1e3, (double)histogram_percentile_ns(h, 99) / 1e3,
               (double)histogram_percentile_ns(h, 99.9) / 1e3);
}

static void histogram_print(const char *name, const struct histogram *h, double seconds, uint64_t block_bytes)
{
    double iops = (double)h->count / seconds;
    printf("%-6s %9.0f IOPS  %8.1f MB/s   latency us: mean %.0f  p50 %.0f  p99 %.0f  p99.9 %.0f  max %.0f\n",
           name, iops, iops * (double)block_bytes / 1e6, (double)histogram_mean_ns(h) / 1e3,
           (double)histogram_percentile_ns(h, 50) / 1e3, (double)histogram_percentile_ns(h, 99) / 1e3,
           (double)histogram_percentile_ns(h, 99.9) / 1e3, (double)h->max_ns / 1e3);
}

/* CPU time of this process so far, user and system. */
static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int bench_run(struct bench *b, struct bench_slot *slots, uint64_t depth, uint64_t seconds,
                     double *ret_seconds, double *ret_cpu)
{
    struct core *core = b->session->core;
    for (uint64_t i = 0; i < depth; i++) {
        slots[i].bench = b;
        slots[i].on = &b->images[i % b->image_count];
        slots[i].data.buf = buf_new(core->arena, (uint32_t)b->block_bytes);
        if (!slots[i].data.buf)
            return cmd_fail("out of memory for %llu requests of %s", (unsigned long long)depth,
                            cmd_size_text(b->block_bytes));
        slots[i].data.len = (uint32_t)b->block_bytes;
        uint64_t *words = (uint64_t *)(void *)slice_data(&slots[i].data);
        for (size_t w = 0; w < b->block_bytes / 8; w++)
            words[w] = bench_random(b);
    }
    b->before = core->counters;
    double cpu = cpu_seconds();
    uint64_t start_ns = core_now_ns(core);
    b->end_ns = start_ns + seconds * NS_PER_S;
    for (uint64_t i = 0; i < depth; i++)
        op_start(&slots[i].op, core, &slot_kind, NULL);
    for (uint64_t i = 0; i < depth; i++)
        cmd_wait(b->session, &slots[i].op);
    *ret_seconds = (double)(core_now_ns(core) - start_ns) / NS_PER_S;
    *ret_cpu = cpu_seconds() - cpu;
    return CMD_OK;
}

/* Opens every image of "POOL/IMAGE,POOL/IMAGE,...". */
static int bench_open(struct bench *b, const char *list, bool force)
{
    char names[4096];
    if (text_copy(names, sizeof(names), list))
        return cmd_usage("%s: too long", list);
    char *rest = names;
    for (char *name = strsep(&rest, ","); name; name = strsep(&rest, ",")) {
        if (b->image_count == BENCH_IMAGES_MAX)
            return cmd_usage("at most %d images at once", BENCH_IMAGES_MAX);
        struct bench_image *on = &b->images[b->image_count];
        on->image = cmd_image_open(b->session, name, b->read_percent < 100, force);
        if (!on->image)
            return CMD_FAILED;
        b->image_count++;
        on->blocks = client_image_size(on->image) / b->block_bytes;
        if (on->blocks == 0)
            return cmd_fail("%s is smaller than one request of %s", name, cmd_size_text(b->block_bytes));
    }
    return CMD_OK;
}

int cmd_bench(struct cmd_args *args)
{
    static struct bench bench;
    struct bench *b = &bench;
    uint64_t depth, seconds, spin;
    const char *rw = cmd_option(args, "rw") ? cmd_option(args, "rw") : "randread";
    if (!choose_kind(b, rw) || !cmd_option_size(args, "bs", 4096, &b->block_bytes) ||
        !cmd_option_number(args, "qd", 32, 1, BENCH_DEPTH_MAX, &depth) ||
        !cmd_option_number(args, "time", 10, 1, 86400, &seconds) ||
        !cmd_option_number(args, "spin", CORE_SPIN_US_STANDARD, 0, 1000000, &spin))
        return CMD_USAGE;
    if (b->block_bytes < 512 || b->block_bytes > IO_SIZE_MAX || b->block_bytes % 512 != 0)
        return cmd_usage("--bs %s: a multiple of 512 from 512 to 1M", cmd_option(args, "bs"));

    struct cmd_session s;
    uint64_t memory = MAX(32ull << 20, 4 * depth * ALIGN_UP(b->block_bytes, (uint64_t)BLOCK_SIZE));
    if (!cmd_session_open(&s, args, memory, (uint32_t)spin))
        return CMD_FAILED;
    b->session = &s;
    b->random_state = core_random_u64(s.core) | 1;
    int result = bench_open(b, args->positional[0], cmd_option(args, "force") != NULL);
    struct bench_slot *slots = calloc(depth, sizeof(*slots));
    double took = 0, cpu = 0;
    if (result == CMD_OK)
        result = slots ? bench_run(b, slots, depth, seconds, &took, &cpu) : cmd_fail("out of memory");
    if (result == CMD_OK && b->errors > 0)
        result = cmd_fail("%llu requests failed; the first: %s", (unsigned long long)b->errors,
                          cmd_io_text(b->error));
    if (result == CMD_OK) {
        uint64_t count = b->reads.count + b->writes.count;
        double cpu_us = count ? cpu * 1e6 / (double)count : 0;
        if (args->json) {
            json_t *json =
                json_pack("{s:s, s:I, s:I, s:f, s:f}", "rw", rw, "bs", (json_int_t)b->block_bytes, "qd",
                          (json_int_t)depth, "seconds", took, "client_cpu_us_per_io", cpu_us);
            json_object_set_new(json, "client",
                                client_json(&b->before, &s.core->counters, client_perf(s.client), count));
            if (b->reads.count)
                json_object_set_new(json, "read", histogram_json(&b->reads, took, b->block_bytes));
            if (b->writes.count)
                json_object_set_new(json, "write", histogram_json(&b->writes, took, b->block_bytes));
            cmd_print_json(json);
        } else {
            printf("%s of %s at depth %llu for %.1f s; client CPU %.1f us per request\n", rw,
                   cmd_size_text(b->block_bytes), (unsigned long long)depth, took, cpu_us);
            if (b->reads.count)
                histogram_print("read", &b->reads, took, b->block_bytes);
            if (b->writes.count)
                histogram_print("write", &b->writes, took, b->block_bytes);
            stage_print("in the client, before it is sent", &client_perf(s.client)->wait);
            stage_print("sent until answered: reads", &client_perf(s.client)->read);
            stage_print("sent until answered: writes", &client_perf(s.client)->write);
        }
    }
    for (uint64_t i = 0; slots && i < depth; i++)
        slice_unref(&slots[i].data);
    free(slots);
    for (uint32_t i = 0; i < b->image_count; i++)
        if (cmd_image_close(&s, b->images[i].image) && result == CMD_OK)
            result = cmd_fail("cannot close %s in order", args->positional[0]);
    cmd_session_close(&s);
    return result;
}
