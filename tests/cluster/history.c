/* SPDX-License-Identifier: Apache-2.0
 *
 * history: clients whose requests overlap, and a verdict on all that they saw.
 *
 *   history IMAGE [sectors=N] [span=N] [qd=N] [readers=N] [time=SECONDS] [timeout_ms=N]
 *
 * One connection writes and reads, with `qd` requests of 1 to `span` sectors under way, the others only read,
 * with a quarter of that, at random places of `sectors` sectors, so that requests meet at the same sectors
 * all the time. The sectors lie in groups across the borders of objects, so that all placement groups take
 * part and requests are cut. Every write has a value of its own. When each request began and ended is noted
 * for each sector, and in the end, with a last read of everything, the history of every sector must be
 * linearizable (sim/check_linear.h). A write that failed may have happened or not. The image must be fresh:
 * it reads as zeros. (hammer asks less of a history, but goes on over the death of the client itself.)
 *
 * Prints one JSON line. Exit code 1: wrong data. 3: requests failed. 4: too much to decide.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fastblock/fastblock.h>

#include "client.h"
#include "sim/check_linear.h"
#include "sim/heap.h"

#define SECTOR       512u
#define SPAN_MAX     64u
#define GROUP        64u /* sectors of a group: half of them on each side of an object's border */
#define QD_MAX       64u
#define CONNS_MAX    9u
#define CHECK_BUDGET 1000000u

struct history {
    struct linear_history *linear;
    uint32_t sectors, span;
    uint64_t next_value, random;
    uint64_t reads, writes, errors, foreign;
    int first_error;
    uint64_t slowest_ns;
};

struct connection {
    struct fb_conn *conn;
    struct fb_image *image;
    uint32_t number; /* 0 writes */
    uint32_t inflight;
};

struct request {
    struct history *h;
    struct connection *c;
    enum { READ, WRITE, ZEROES } kind;
    bool busy;
    uint32_t sector, count;
    uint64_t start, value, started_ns;
    uint32_t number[SPAN_MAX]; /* of the write in each sector's history */
    uint8_t data[SPAN_MAX * SECTOR];
};

static struct connection connections[CONNS_MAX];
static struct request requests[CONNS_MAX][QD_MAX];

/* check_linear.c takes its memory from the simulator's heap; here the ordinary one serves. */
void *sim_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p)
        abort();
    return p;
}

static uint64_t place_of(uint32_t sector)
{
    return (sector / GROUP + 1) * OBJECT_SIZE - GROUP / 2 * SECTOR + sector % GROUP * SECTOR;
}

/* A sector shows its value, its place and, behind them, words that depend on both: a torn or foreign one does
 * not parse. */
static void fill(uint8_t *sector, uint32_t place, uint64_t value)
{
    uint64_t words[SECTOR / 8];
    for (uint32_t i = 0; i < SECTOR / 8; i++)
        words[i] = value ? value ^ (uint64_t)i * place << 32 : 0;
    memcpy(sector, words, SECTOR);
}

static bool parse(const uint8_t *sector, uint32_t place, uint64_t *ret_value)
{
    uint8_t whole[SECTOR];
    memcpy(ret_value, sector, sizeof(*ret_value));
    fill(whole, place, *ret_value);
    return memcmp(whole, sector, SECTOR) == 0;
}

static void note_read(struct request *r)
{
    struct history *h = r->h;
    for (uint32_t i = 0; i < r->count; i++) {
        uint64_t value;
        if (parse(r->data + i * SECTOR, r->sector + i, &value)) {
            linear_read(h->linear, r->sector + i, r->start, value, r->c->number);
        } else {
            fprintf(stderr, "history: sector %u: mixed or foreign data\n", r->sector + i);
            h->foreign++;
        }
    }
    h->reads++;
}

static void done(void *arg, int result)
{
    struct request *r = arg;
    struct history *h = r->h;
    uint64_t took_ns = now_ns() - r->started_ns;

    if (took_ns > h->slowest_ns)
        h->slowest_ns = took_ns;
    r->busy = false;
    r->c->inflight--;
    if (result < 0) {
        h->errors++;
        h->first_error = h->first_error ? h->first_error : result;
    }
    if (r->kind == READ) {
        if (result == 0)
            note_read(r);
        return;
    }
    h->writes += result == 0;
    for (uint32_t i = 0; i < r->count; i++) {
        if (result == 0)
            linear_write_done(h->linear, r->sector + i, r->number[i]);
        else
            linear_write_unknown(h->linear, r->sector + i, r->number[i]);
    }
}

static void start(struct history *h, struct connection *c, struct request *r)
{
    uint32_t dice = (uint32_t)(next_random(&h->random) % 100);
    *r = (struct request){.h = h, .c = c, .busy = true, .started_ns = now_ns()};
    r->kind = c->number > 0 || dice < 20 ? READ : dice < 25 ? ZEROES : WRITE;
    r->count = (uint32_t)(next_random(&h->random) % h->span) + 1;
    r->sector = (uint32_t)(next_random(&h->random) % h->sectors);
    if (r->count > GROUP - r->sector % GROUP)
        r->count = GROUP - r->sector % GROUP;
    r->value = r->kind == WRITE ? ++h->next_value : 0;
    r->start = linear_stamp(h->linear);
    uint64_t offset = place_of(r->sector), len = (uint64_t)r->count * SECTOR;
    int error;
    if (r->kind == READ) {
        error = fb_aio_read(c->image, r->data, len, offset, done, r);
    } else {
        for (uint32_t i = 0; i < r->count; i++) {
            r->number[i] = linear_write_begin(h->linear, r->sector + i, r->start, r->value, 1, 1);
            fill(r->data + i * SECTOR, r->sector + i, r->value);
        }
        error = r->kind == WRITE ? fb_aio_write(c->image, r->data, len, offset, done, r)
                                 : fb_aio_write_zeroes(c->image, len, offset, done, r);
    }
    c->inflight++;
    if (error)
        done(r, error);
}

static void turn(uint32_t conn_count)
{
    struct pollfd fds[CONNS_MAX];
    for (uint32_t i = 0; i < conn_count; i++)
        fds[i] = (struct pollfd){.fd = fb_fd(connections[i].conn), .events = POLLIN};
    poll(fds, conn_count, 10);
    for (uint32_t i = 0; i < conn_count; i++)
        fb_poll(connections[i].conn, 0);
}

static void run(struct history *h, uint32_t conn_count, uint32_t qd, uint64_t time_ns)
{
    uint64_t end_ns = now_ns() + time_ns;
    uint32_t inflight;

    while (now_ns() < end_ns && h->errors < 1000) {
        for (uint32_t i = 0; i < conn_count; i++)
            for (uint32_t j = 0; j < (i ? (qd + 3) / 4 : qd); j++) /* reads are quicker than writes */
                if (!requests[i][j].busy)
                    start(h, &connections[i], &requests[i][j]);
        turn(conn_count);
    }
    do {
        turn(conn_count);
        inflight = 0;
        for (uint32_t i = 0; i < conn_count; i++)
            inflight += connections[i].inflight;
    } while (inflight > 0);
}

/* Everything once more, when nothing is under way. */
static void read_all(struct history *h)
{
    struct request *r = &requests[0][0];
    for (uint32_t sector = 0; sector < h->sectors; sector += r->count) {
        *r = (struct request){.h = h, .c = &connections[0], .kind = READ, .sector = sector, .count = GROUP};
        r->start = linear_stamp(h->linear);
        int error = fb_read(r->c->image, r->data, (size_t)r->count * SECTOR, place_of(sector));
        if (error) {
            h->errors++;
            h->first_error = h->first_error ? h->first_error : error;
        } else {
            note_read(r);
        }
    }
}

static int open_connections(const char *image, uint32_t count, uint32_t timeout_ms)
{
    for (uint32_t i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        struct fb_options options = {.timeout_ms = timeout_ms};
        char error[256];
        c->number = i;
        if (fb_connect(&options, &c->conn, error, sizeof(error))) {
            fprintf(stderr, "history: %s\n", error);
            return -1;
        }
        if (fb_open(c->conn, image, i ? FB_OPEN_READ_ONLY : 0, NULL, &c->image)) {
            fprintf(stderr, "history: %s\n", fb_error(c->conn));
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: history IMAGE [name=value...]\n");
        return 2;
    }
    struct history h = {.random = now_ns() | 1};
    h.sectors = (uint32_t)number(argc, argv, "sectors", 1024);
    h.span = (uint32_t)number(argc, argv, "span", 12);
    uint32_t qd = (uint32_t)number(argc, argv, "qd", 12);
    uint32_t conn_count = (uint32_t)number(argc, argv, "readers", 2) + 1;
    if (h.sectors < GROUP || h.sectors % GROUP || h.span < 1 || h.span > SPAN_MAX || qd < 1 || qd > QD_MAX ||
        conn_count > CONNS_MAX) {
        fprintf(stderr, "history: sectors in groups of %u, span and qd 1 to %u, at most %u readers\n", GROUP,
                SPAN_MAX, CONNS_MAX - 1);
        return 2;
    }
    if (open_connections(argv[1], conn_count, (uint32_t)number(argc, argv, "timeout_ms", 60000)))
        return 3;
    h.linear = linear_history_new(h.sectors);
    run(&h, conn_count, qd, number(argc, argv, "time", 5) * 1000000000ull);
    read_all(&h);

    uint32_t bad;
    struct linear_report report;
    uint32_t undecided = linear_history_check(h.linear, 0, 0, CHECK_BUDGET, &bad, &report);
    if (bad != UINT32_MAX)
        fprintf(stderr, "history: sector %u: %s\n", bad, report.text);
    bool wrong = h.foreign > 0 || bad != UINT32_MAX;
    printf(
        "{\"reads\": %llu, \"writes\": %llu, \"errors\": %llu, \"first_error\": %d, \"wrong\": %d, \"undecided\": %u, "
        "\"slowest_ms\": %.1f}\n",
        (unsigned long long)h.reads, (unsigned long long)h.writes, (unsigned long long)h.errors,
        h.first_error, wrong, undecided, (double)h.slowest_ns / 1e6);
    for (uint32_t i = 0; i < conn_count; i++)
        fb_disconnect(connections[i].conn);
    linear_history_free(h.linear);
    return wrong ? 1 : h.errors ? 3 : undecided ? 4 : 0;
}
