/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock perf POOL/IMAGE: where the time of an image's requests goes, as the leaders of its PGs have it.
 *
 * Every shard is asked, because leaders change; the answers are added up. With --time they are asked twice,
 * and the difference counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/histogram.h"
#include "cmd/cmd.h"
#include "wire/frame.h"

#define PINGS      5
#define TIME_MAX_S 3600
#define PGS_SHOWN  8 /* the slowest, for people; --json has all */

struct sums {
    uint64_t age_ms; /* the longest */
    uint64_t writes, write_bytes, reads, read_bytes, clears, errors;
    uint64_t write_ns, propose_ns, commit_ns, reply_ns, read_ns;
};

struct buckets {
    uint64_t write[HISTOGRAM_COARSE], read[HISTOGRAM_COARSE];
};

struct pg_row {
    uint64_t pg;
    uint32_t osd, shard;
    struct sums sums;
};

/* One shard, as it answered. */
struct shard_row {
    uint32_t osd, shard;
    int error;
    uint64_t ping_ns;   /* the quickest of some */
    Fb__PerfReply *own; /* all images; NULL: no answer */
    Fb__PerfReply *first, *last;
};

struct report {
    struct shard_row *shards;
    struct pg_row *pgs;
    size_t shard_count, pg_count;
    struct sums total;
    struct buckets buckets;
};

/* ---- adding up ---- */

static struct sums sums_of(const Fb__ImagePerf *in)
{
    return (struct sums){in->age_ms,           in->writes,          in->write_bytes,    in->reads,
                         in->read_bytes,       in->clears,          in->errors,         in->write_ns,
                         in->write_propose_ns, in->write_commit_ns, in->write_reply_ns, in->read_ns};
}

static void sums_add(struct sums *to, const struct sums *from, int sign)
{
    uint64_t age_ms = sign > 0 ? MAX(to->age_ms, from->age_ms) : to->age_ms;
    uint64_t *a = (uint64_t *)to;
    const uint64_t *b = (const uint64_t *)from;

    for (size_t i = 0; i < sizeof(struct sums) / sizeof(uint64_t); i++)
        a[i] += sign < 0 ? -b[i] : b[i];
    to->age_ms = age_ms;
}

static const Fb__ImagePerf *find_pg(const Fb__PerfReply *reply, uint64_t pg)
{
    for (size_t i = 0; reply && i < reply->n_image; i++)
        if (reply->image[i]->pg == pg)
            return reply->image[i];
    return NULL;
}

static void buckets_add(uint64_t *to, const uint64_t *from, size_t count, int sign)
{
    for (size_t i = 0; i < count && i < HISTOGRAM_COARSE; i++)
        to[i] += sign < 0 ? -from[i] : from[i];
}

/* Adds what the shard counted, but for what it had counted at `first`. */
static void report_add(struct report *r, const struct shard_row *shard)
{
    bool anew = false; /* rows that were given away, or a restart: the first answer says nothing */

    for (size_t i = 0; i < shard->last->n_image; i++) {
        const Fb__ImagePerf *last = shard->last->image[i], *first = find_pg(shard->first, last->pg);
        struct pg_row *row = &r->pgs[r->pg_count++];
        *row = (struct pg_row){last->pg, shard->osd, shard->shard, sums_of(last)};
        if (first && first->age_ms <= last->age_ms) {
            struct sums before = sums_of(first);
            sums_add(&row->sums, &before, -1);
        } else {
            anew |= first != NULL;
        }
        sums_add(&r->total, &row->sums, 1);
    }
    buckets_add(r->buckets.write, shard->last->write_bucket, shard->last->n_write_bucket, 1);
    buckets_add(r->buckets.read, shard->last->read_bucket, shard->last->n_read_bucket, 1);
    if (shard->first && !anew) {
        buckets_add(r->buckets.write, shard->first->write_bucket, shard->first->n_write_bucket, -1);
        buckets_add(r->buckets.read, shard->first->read_bucket, shard->first->n_read_bucket, -1);
    }
}

static double mean_us(uint64_t sum_ns, uint64_t count)
{
    return count ? (double)sum_ns / (double)count / 1e3 : 0;
}

static double percentile_us(const uint64_t *buckets, double percent)
{
    uint64_t count = 0, seen = 0;
    uint32_t at = 0;

    for (uint32_t i = 0; i < HISTOGRAM_COARSE; i++)
        count += buckets[i];
    uint64_t wanted = (uint64_t)((double)count * percent / 100 + 0.5);
    for (uint32_t i = 0; i < HISTOGRAM_COARSE && count; i++) {
        seen += buckets[i];
        at = i;
        if (seen >= MAX(wanted, 1))
            break;
    }
    return count ? (double)histogram_coarse_ns(at) / 1e3 : 0;
}

/* ---- asking ---- */

/* The quickest of some round trips to the shard. */
static int ping(struct cmd_session *s, struct shard_row *shard)
{
    shard->ping_ns = UINT64_MAX;
    for (int i = 0; i < PINGS; i++) {
        struct client_shard_call call = {0};
        uint64_t begun_ns = core_now_ns(s->core);
        client_shard_call_start(&call, s->client, shard->osd, shard->shard, METHOD_PING, NULL, 0, NULL);
        int error = cmd_wait(s, &call.op);
        free(call.ret_reply);
        if (error)
            return error;
        shard->ping_ns = MIN(shard->ping_ns, core_now_ns(s->core) - begun_ns);
    }
    return 0;
}

static int report_ask(struct cmd_session *s, struct report *r, uint64_t image, uint64_t seconds)
{
    for (size_t i = 0; i < r->shard_count; i++) {
        struct shard_row *shard = &r->shards[i];
        shard->error = ping(s, shard);
        if (!shard->error)
            shard->error = cmd_perf_get(s, shard->osd, shard->shard, 0, &shard->own);
        if (!shard->error && seconds)
            shard->error = cmd_perf_get(s, shard->osd, shard->shard, image, &shard->first);
    }
    for (uint64_t i = 0; i < seconds && !cmd_interrupted(); i++)
        cmd_sleep(s, 1000);
    size_t rows = 1;
    for (size_t i = 0; i < r->shard_count; i++) {
        struct shard_row *shard = &r->shards[i];
        if (!shard->error)
            shard->error = cmd_perf_get(s, shard->osd, shard->shard, image, &shard->last);
        rows += shard->last ? shard->last->n_image : 0;
    }
    r->pgs = calloc(rows, sizeof(*r->pgs));
    if (!r->pgs)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < r->shard_count; i++)
        if (r->shards[i].last)
            report_add(r, &r->shards[i]);
    return 0;
}

/* All shards of OSDs that should answer. */
static int report_init(struct report *r, const Fb__ClusterMap *map)
{
    size_t count = 0;

    for (size_t i = 0; i < map->n_osd; i++)
        count += map->osd[i]->up ? map->osd[i]->n_shard : 0;
    r->shards = calloc(count + 1, sizeof(*r->shards));
    if (!r->shards)
        return -ERR_NO_MEMORY;
    for (size_t i = 0; i < map->n_osd; i++)
        for (uint32_t shard = 0; map->osd[i]->up && shard < map->osd[i]->n_shard; shard++)
            r->shards[r->shard_count++] = (struct shard_row){.osd = map->osd[i]->id, .shard = shard};
    return 0;
}

static void report_fini(struct report *r)
{
    for (size_t i = 0; i < r->shard_count; i++) {
        fb__perf_reply__free_unpacked(r->shards[i].own, NULL);
        fb__perf_reply__free_unpacked(r->shards[i].first, NULL);
        fb__perf_reply__free_unpacked(r->shards[i].last, NULL);
    }
    free(r->shards);
    free(r->pgs);
}

/* ---- showing ---- */

static struct sums shard_sums(const struct report *r, const struct shard_row *shard, uint32_t *ret_pgs)
{
    struct sums sums = {0};

    *ret_pgs = 0;
    for (size_t i = 0; i < r->pg_count; i++) {
        if (r->pgs[i].osd != shard->osd || r->pgs[i].shard != shard->shard)
            continue;
        sums_add(&sums, &r->pgs[i].sums, 1);
        ++*ret_pgs;
    }
    return sums;
}

static double own_p50_us(const struct shard_row *shard, const char *name)
{
    for (size_t i = 0; i < shard->own->n_histogram; i++)
        if (strcmp(shard->own->histogram[i]->name, name) == 0)
            return (double)shard->own->histogram[i]->p50_ns / 1e3;
    return 0;
}

/* The slowest of those that it sends entries to. */
static const Fb__Histogram *slowest_follower(const struct shard_row *shard)
{
    const Fb__Histogram *slowest = NULL;

    for (size_t i = 0; i < shard->own->n_histogram; i++) {
        const Fb__Histogram *h = shard->own->histogram[i];
        if (strncmp(h->name, "osd.append_ack ", 15) == 0 && (!slowest || h->p50_ns > slowest->p50_ns))
            slowest = h;
    }
    return slowest;
}

static json_t *sums_json(const struct sums *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "writes",
                     (json_int_t)s->writes, "write_bytes", (json_int_t)s->write_bytes, "reads",
                     (json_int_t)s->reads, "read_bytes", (json_int_t)s->read_bytes, "clears",
                     (json_int_t)s->clears, "errors", (json_int_t)s->errors, "write_mean_us",
                     mean_us(s->write_ns, s->writes), "propose_mean_us", mean_us(s->propose_ns, s->writes),
                     "commit_mean_us", mean_us(s->commit_ns, s->writes), "reply_mean_us",
                     mean_us(s->reply_ns, s->writes), "read_mean_us", mean_us(s->read_ns, s->reads));
}

static json_t *percentiles_json(const uint64_t *buckets)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "p50_us", percentile_us(buckets, 50), "p99_us",
                     percentile_us(buckets, 99), "p999_us", percentile_us(buckets, 99.9), "max_us",
                     percentile_us(buckets, 100));
}

static void report_json(const struct report *r, const char *name)
{
    json_t *shards = json_array(), *pgs = json_array(), *all = sums_json(&r->total);

    for (size_t i = 0; i < r->shard_count; i++) {
        const struct shard_row *shard = &r->shards[i];
        uint32_t pg_count;
        struct sums sums = shard_sums(r, shard, &pg_count);
        json_t *row = sums_json(&sums);
        json_object_set_new(row, "osd", json_integer(shard->osd));
        json_object_set_new(row, "shard", json_integer(shard->shard));
        json_object_set_new(row, "answers", json_boolean(!shard->error));
        json_object_set_new(row, "pgs", json_integer(pg_count));
        if (!shard->error) {
            const Fb__Histogram *follower = slowest_follower(shard);
            json_object_set_new(row, "ping_us", json_real((double)shard->ping_ns / 1e3));
            json_object_set_new(row, "log_p50_us", json_real(own_p50_us(shard, "osd.log_durable")));
            json_object_set_new(row, "slowest_follower",
                                follower ? json_string(follower->name + 15) : json_null());
            json_object_set_new(row, "slowest_follower_p50_us",
                                json_real(follower ? (double)follower->p50_ns / 1e3 : 0));
        }
        json_array_append_new(shards, row);
    }
    for (size_t i = 0; i < r->pg_count; i++) {
        json_t *row = sums_json(&r->pgs[i].sums);
        json_object_set_new(row, "pg", json_string(cmd_pg_name(r->pgs[i].pg)));
        json_object_set_new(row, "osd", json_integer(r->pgs[i].osd));
        json_object_set_new(row, "shard", json_integer(r->pgs[i].shard));
        json_array_append_new(pgs, row);
    }
    json_object_set_new(all, "image", json_string(name));
    json_object_set_new(all, "seconds", json_real((double)r->total.age_ms / 1e3));
    json_object_set_new(all, "write", percentiles_json(r->buckets.write));
    json_object_set_new(all, "read", percentiles_json(r->buckets.read));
    json_object_set_new(all, "shards", shards);
    json_object_set_new(all, "pgs", pgs);
    cmd_print_json(all);
}

static void percentiles_print(const char *name, uint64_t sum_ns, uint64_t count, const uint64_t *buckets)
{
    printf("%-34s %10.1f %9.1f %9.1f %9.1f %9.1f\n", name, mean_us(sum_ns, count), percentile_us(buckets, 50),
           percentile_us(buckets, 99), percentile_us(buckets, 99.9), percentile_us(buckets, 100));
}

static void stage_print(const char *name, uint64_t sum_ns, uint64_t count)
{
    printf("  %-32s %10.1f\n", name, mean_us(sum_ns, count));
}

/* What a PG took of the leaders' time: its requests and how long each took. */
static int compare_pgs(const void *a, const void *b)
{
    const struct sums *left = &((const struct pg_row *)a)->sums, *right = &((const struct pg_row *)b)->sums;
    double one = mean_us(left->write_ns + left->read_ns, left->writes + left->reads);
    double other = mean_us(right->write_ns + right->read_ns, right->writes + right->reads);

    return one < other ? 1 : one > other ? -1 : 0;
}

static void report_print(struct report *r, const char *name)
{
    const struct sums *t = &r->total;
    char bytes[2][32];

    snprintf(bytes[0], sizeof(bytes[0]), "%s", cmd_size_text(t->write_bytes));
    snprintf(bytes[1], sizeof(bytes[1]), "%s", cmd_size_text(t->read_bytes));
    printf("%s in %.0f s: %llu writes (%s), %llu reads (%s), %llu discards, %llu answered with an error\n",
           name, (double)t->age_ms / 1e3, (unsigned long long)t->writes, bytes[0],
           (unsigned long long)t->reads, bytes[1], (unsigned long long)t->clears,
           (unsigned long long)t->errors);
    if (t->reads + t->writes == 0)
        return;
    printf("at the leaders, us                       mean       p50       p99     p99.9       max\n");
    if (t->reads)
        percentiles_print("read", t->read_ns, t->reads, r->buckets.read);
    if (t->writes) {
        percentiles_print("write", t->write_ns, t->writes, r->buckets.write);
        stage_print("checked, merged, proposed", t->propose_ns, t->writes);
        stage_print("logs and followers: to the commit", t->commit_ns, t->writes);
        stage_print("applied and answered", t->reply_ns, t->writes);
    }
    printf("\n");
    struct cmd_table *table =
        cmd_table_new("lrrrrrrrlr", "LEADER", "PGS", "WRITES", "MEAN US", "READS", "MEAN US", "ITS LOG US",
                      "FOLLOWER US", "SLOWEST", "FROM HERE US", NULL);
    for (size_t i = 0; i < r->shard_count; i++) {
        const struct shard_row *shard = &r->shards[i];
        uint32_t pg_count;
        struct sums sums = shard_sums(r, shard, &pg_count);
        if (shard->error)
            fprintf(stderr, "fastblock: osd.%u shard %u does not answer: %s\n", shard->osd, shard->shard,
                    error_text(shard->error));
        if (shard->error || !pg_count)
            continue;
        const Fb__Histogram *follower = slowest_follower(shard);
        char leader[32], mean[2][24], log[24], ack[24];
        snprintf(leader, sizeof(leader), "osd.%u.%u", shard->osd, shard->shard);
        snprintf(mean[0], sizeof(mean[0]), "%.1f", mean_us(sums.write_ns, sums.writes));
        snprintf(mean[1], sizeof(mean[1]), "%.1f", mean_us(sums.read_ns, sums.reads));
        snprintf(log, sizeof(log), "%.1f", own_p50_us(shard, "osd.log_durable"));
        snprintf(ack, sizeof(ack), "%.1f", follower ? (double)follower->p50_ns / 1e3 : 0);
        cmd_table_row(table, leader, cmd_text("%u", pg_count),
                      cmd_text("%llu", (unsigned long long)sums.writes), mean[0],
                      cmd_text("%llu", (unsigned long long)sums.reads), mean[1], log, ack,
                      follower ? follower->name + 15 : "-", cmd_text("%.1f", (double)shard->ping_ns / 1e3));
    }
    cmd_table_print(table, &(struct cmd_args){0}, NULL);
    qsort(r->pgs, r->pg_count, sizeof(*r->pgs), compare_pgs);
    printf("\nslowest PGs:\n");
    table = cmd_table_new("llrrrr", "PG", "LEADER", "WRITES", "MEAN US", "READS", "MEAN US", NULL);
    for (size_t i = 0; i < r->pg_count && i < PGS_SHOWN; i++) {
        const struct pg_row *row = &r->pgs[i];
        if (row->sums.writes + row->sums.reads == 0)
            break;
        cmd_table_row(table, cmd_pg_name(row->pg), cmd_text("osd.%u.%u", row->osd, row->shard),
                      cmd_text("%llu", (unsigned long long)row->sums.writes),
                      cmd_text("%.1f", mean_us(row->sums.write_ns, row->sums.writes)),
                      cmd_text("%llu", (unsigned long long)row->sums.reads),
                      cmd_text("%.1f", mean_us(row->sums.read_ns, row->sums.reads)));
    }
    cmd_table_print(table, &(struct cmd_args){0}, NULL);
}

/* The id of an image, by the monitor; 0: it failed, and was said. */
static uint64_t image_id(struct cmd_session *s, const char *name, char *pool, char *image)
{
    struct cmd_call call;
    Fb__ImageGet get = FB__IMAGE_GET__INIT;
    Fb__MonRequest request = FB__MON_REQUEST__INIT;

    get.pool = pool;
    get.name = image;
    request.call_case = FB__MON_REQUEST__CALL_IMAGE_GET;
    request.image_get = &get;
    Fb__MonReply *reply = cmd_mon_call(s, &call, &request, cmd_text("cannot show image %s", name));
    if (!reply)
        return 0;
    uint64_t id = reply->image ? reply->image->id : 0;
    cmd_call_end(&call);
    return id;
}

int cmd_perf_image(struct cmd_args *args)
{
    const char *name = args->positional[0];
    char pool[CMD_NAME_MAX], image[CMD_NAME_MAX];
    struct report report = {0};
    struct cmd_session s;
    uint64_t seconds;
    if (!cmd_split_image(name, pool, image) || !cmd_option_number(args, "time", 0, 1, TIME_MAX_S, &seconds))
        return CMD_USAGE;
    if (!cmd_session_open(&s, args, 0, 0))
        return CMD_FAILED;
    uint64_t id = image_id(&s, name, pool, image);
    int result = id ? CMD_OK : CMD_FAILED;
    int error = id ? report_init(&report, client_map(s.client)) : 0;
    if (id && !error)
        error = report_ask(&s, &report, id, seconds);
    if (error)
        result = cmd_fail("cannot show image %s: %s", name, error_text(error));
    if (result == CMD_OK && seconds)
        report.total.age_ms = seconds * 1000;
    if (result == CMD_OK && args->json)
        report_json(&report, name);
    else if (result == CMD_OK)
        report_print(&report, name);
    report_fini(&report);
    cmd_session_close(&s);
    return result;
}
