/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock perf: counters and latency histograms of an OSD's shards, as they are since its start.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cmd/cmd.h"
#include "wire/frame.h"

/* Ratios that people look for. What a shard is asked for: client requests, and entries of its leaders. */
static const struct ratio {
    const char *name, *text;
    const char *over[3], *under[3]; /* sums of counters */
} ratios[] = {
    {"entries_per_batch", "entries per log batch", {"store.batch_entries"}, {"store.batches"}},
    {"entries_per_append", "entries per APPEND sent", {"osd.append_entries_sent"}, {"osd.appends_sent"}},
    {"log_amplification", "log bytes per payload byte", {"store.log_bytes"}, {"store.payload_bytes"}},
    {"destage_amplification",
     "destaged bytes per payload byte",
     {"store.destage_bytes"},
     {"store.payload_bytes"}},
    {"device_amplification",
     "device bytes written per payload byte",
     {"core.blk_bytes_written"},
     {"store.payload_bytes"}},
    {"syscalls_per_request",
     "system calls per request",
     {"core.syscalls"},
     {"osd.writes", "osd.reads", "osd.append_entries_received"}},
    {"sleeps_per_request",
     "wake-ups per request",
     {"core.sleeps"},
     {"osd.writes", "osd.reads", "osd.append_entries_received"}},
};

static double counters_sum(const Fb__PerfReply *perf, const char *const names[3])
{
    double sum = 0;
    for (size_t i = 0; i < perf->n_counter; i++)
        for (size_t j = 0; j < 3 && names[j]; j++)
            if (strcmp(perf->counter[i]->name, names[j]) == 0)
                sum += (double)perf->counter[i]->value;
    return sum;
}

/* 0 while there is nothing to divide by. */
static double ratio_value(const struct ratio *ratio, const Fb__PerfReply *perf)
{
    double under = counters_sum(perf, ratio->under);
    return under > 0 ? counters_sum(perf, ratio->over) / under : 0;
}

static json_t *perf_json(const Fb__PerfReply *perf)
{
    json_t *counters = json_object(), *histograms = json_object(), *derived = json_object();
    for (size_t i = 0; i < perf->n_counter; i++)
        json_object_set_new(counters, perf->counter[i]->name,
                            json_integer((json_int_t)perf->counter[i]->value));
    for (size_t i = 0; i < perf->n_histogram; i++) {
        const Fb__Histogram *h = perf->histogram[i];
        json_object_set_new(histograms, h->name,
                            json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "count", (json_int_t)h->count,
                                      "mean_us", (double)h->mean_ns / 1e3, "p50_us", (double)h->p50_ns / 1e3,
                                      "p99_us", (double)h->p99_ns / 1e3, "p999_us", (double)h->p999_ns / 1e3,
                                      "max_us", (double)h->max_ns / 1e3));
    }
    for (size_t i = 0; i < ARRAY_LEN(ratios); i++)
        json_object_set_new(derived, ratios[i].name, json_real(ratio_value(&ratios[i], perf)));
    return json_pack("{s:o, s:o, s:o}", "counters", counters, "derived", derived, "histograms", histograms);
}

static void perf_print(uint32_t osd, uint32_t shard, const Fb__PerfReply *perf)
{
    printf("osd.%u shard %u\n", osd, shard);
    for (size_t i = 0; i < perf->n_counter; i++)
        printf("  %-28s %llu\n", perf->counter[i]->name, (unsigned long long)perf->counter[i]->value);
    for (size_t i = 0; i < ARRAY_LEN(ratios); i++)
        printf("  %-38s %.2f\n", ratios[i].text, ratio_value(&ratios[i], perf));
    printf("  latency us                        count      mean       p50       p99     p99.9       max\n");
    for (size_t i = 0; i < perf->n_histogram; i++) {
        const Fb__Histogram *h = perf->histogram[i];
        printf("  %-28s %10llu %9.1f %9.1f %9.1f %9.1f %9.1f\n", h->name, (unsigned long long)h->count,
               (double)h->mean_ns / 1e3, (double)h->p50_ns / 1e3, (double)h->p99_ns / 1e3,
               (double)h->p999_ns / 1e3, (double)h->max_ns / 1e3);
    }
}

int cmd_perf_get(struct cmd_session *s, uint32_t osd, uint32_t shard, uint64_t image,
                 Fb__PerfReply **ret_reply)
{
    struct client_shard_call call = {0};
    Fb__PerfRequest request = FB__PERF_REQUEST__INIT;
    uint8_t body[16];
    request.image = image;
    uint32_t len = (uint32_t)fb__perf_request__pack(&request, body);
    client_shard_call_start(&call, s->client, osd, shard, METHOD_PERF, body, len, NULL);
    int error = cmd_wait(s, &call.op);
    if (!error) {
        *ret_reply = fb__perf_reply__unpack(NULL, call.ret_reply_len, call.ret_reply);
        error = *ret_reply ? 0 : -ERR_PROTOCOL;
    }
    free(call.ret_reply);
    return error;
}

int cmd_perf(struct cmd_args *args)
{
    uint32_t osd, shards = 0;
    struct cmd_session s;
    if (strchr(args->positional[0], '/'))
        return cmd_perf_image(args);
    if (cmd_option(args, "time"))
        return cmd_usage("--time is for an image; an OSD shows what it has counted since its start");
    if (!cmd_parse_osd(args->positional[0], &osd))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    const Fb__ClusterMap *map = client_map(s.client);
    for (size_t i = 0; i < map->n_osd; i++)
        if (map->osd[i]->id == osd && !map->osd[i]->removed)
            shards = (uint32_t)map->osd[i]->n_shard;
    int result = shards > 0 ? CMD_OK : cmd_fail("there is no osd.%u; `fastblock osd ls` lists them", osd);
    json_t *list = json_array();
    for (uint32_t shard = 0; shard < shards && result == CMD_OK; shard++) {
        Fb__PerfReply *perf;
        int error = cmd_perf_get(&s, osd, shard, 0, &perf);
        if (error) {
            result = cmd_fail("osd.%u shard %u does not answer: %s", osd, shard, error_text(error));
            break;
        }
        if (args->json)
            json_array_append_new(list, perf_json(perf));
        else
            perf_print(osd, shard, perf);
        fb__perf_reply__free_unpacked(perf, NULL);
    }
    if (args->json && result == CMD_OK)
        cmd_print_json(json_incref(list));
    json_decref(list);
    cmd_session_close(&s);
    return result;
}
