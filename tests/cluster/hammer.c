/* SPDX-License-Identifier: Apache-2.0
 *
 * hammer: a client that can tell whether a block store lied to it.
 *
 *   hammer run IMAGE STATE [blocks=N] [qd=N] [time=SECONDS] [reads=PERCENT] [size=BYTES]
 *                          [timeout_ms=N] [force]
 *   hammer check IMAGE STATE
 *
 * Every write to a block carries the block's number and a sequence number that rises per block. STATE (a
 * mapped file that survives our own death) records, per block, the highest sequence number issued and the
 * highest acknowledged. A read is right if the whole block shows one sequence number, not lower than what was
 * acknowledged before the read began and not higher than what was issued before it ended. At most one request
 * per block is under way, so this is linearizability per block. A run also ends in order at SIGTERM. Prints
 * one JSON line: counts, errors, the longest time without a completion, the slowest request. Exit code 1:
 * wrong data. 3: requests failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fastblock/fastblock.h>

#include "client.h"

#define QD_MAX   256
#define MAGIC    0x66626861u
#define UNIT_MAX 65536

struct state {
    uint64_t magic, blocks, unit;
    struct {
        uint64_t issued, acked;
    } block[];
};

struct slot {
    struct hammer *h;
    uint64_t block, seq, acked_before, started_ns;
    bool busy, write;
    _Alignas(uint64_t) uint8_t data[UNIT_MAX]; /* read and written by words */
};

struct hammer {
    struct fb_conn *conn;
    struct fb_image *image;
    struct state *state;
    struct slot slots[QD_MAX];
    unsigned inflight;
    uint64_t reads, writes, errors, wrong;
    int first_error;
    uint64_t last_done_ns, gap_ns, slowest_ns;
    uint64_t random;
};

static volatile sig_atomic_t ended; /* SIGTERM: the time is over */

static void on_term(int signal_number)
{
    ended = 1;
}

static void fill(uint8_t *data, uint64_t unit, uint64_t block, uint64_t seq)
{
    uint64_t *words = (uint64_t *)(void *)data;
    for (uint64_t i = 0; i < unit / 8; i += 2) {
        words[i] = seq;
        words[i + 1] = block * 0x9e3779b97f4a7c15ull + i;
    }
}

/* 0: the block is whole; its sequence number goes to *ret_seq (0: never written). */
static int parse(const uint8_t *data, uint64_t unit, uint64_t block, uint64_t *ret_seq)
{
    const uint64_t *words = (const uint64_t *)(const void *)data;
    *ret_seq = words[0];
    for (uint64_t i = 0; i < unit / 8; i += 2) {
        uint64_t want = words[0] ? block * 0x9e3779b97f4a7c15ull + i : 0;
        if (words[i] != words[0] || words[i + 1] != want)
            return -1;
    }
    return 0;
}

static void verify(struct hammer *h, const uint8_t *data, uint64_t block, uint64_t acked_before)
{
    uint64_t seq, issued = h->state->block[block].issued;
    if (parse(data, h->state->unit, block, &seq)) {
        const uint64_t *words = (const uint64_t *)(const void *)data;
        fprintf(stderr, "hammer: block %llu: mixed or foreign data (first words %llx %llx)\n",
                (unsigned long long)block, (unsigned long long)words[0], (unsigned long long)words[1]);
        h->wrong++;
    } else if (seq < acked_before || seq > issued) {
        fprintf(stderr, "hammer: block %llu: holds %llu, but %llu was acknowledged and %llu issued\n",
                (unsigned long long)block, (unsigned long long)seq, (unsigned long long)acked_before,
                (unsigned long long)issued);
        h->wrong++;
    }
}

static void done(void *arg, int result)
{
    struct slot *s = arg;
    struct hammer *h = s->h;
    uint64_t now = now_ns();
    if (now - h->last_done_ns > h->gap_ns)
        h->gap_ns = now - h->last_done_ns;
    h->last_done_ns = now;
    if (now - s->started_ns > h->slowest_ns)
        h->slowest_ns = now - s->started_ns;
    s->busy = false;
    h->inflight--;
    if (result < 0) {
        h->errors++;
        h->first_error = h->first_error ? h->first_error : result;
    } else if (s->write) {
        h->state->block[s->block].acked = s->seq;
        h->writes++;
    } else {
        verify(h, s->data, s->block, s->acked_before);
        h->reads++;
    }
}

static bool block_is_free(const struct hammer *h, unsigned qd, uint64_t block)
{
    for (unsigned i = 0; i < qd; i++)
        if (h->slots[i].busy && h->slots[i].block == block)
            return false;
    return true;
}

static void start(struct hammer *h, struct slot *s, unsigned qd, unsigned read_percent)
{
    do
        s->block = next_random(&h->random) % h->state->blocks;
    while (!block_is_free(h, qd, s->block));
    uint64_t unit = h->state->unit;
    s->h = h;
    s->write = next_random(&h->random) % 100 >= read_percent;
    s->started_ns = now_ns();
    s->acked_before = h->state->block[s->block].acked;
    int error;
    if (s->write) {
        s->seq = ++h->state->block[s->block].issued;
        fill(s->data, unit, s->block, s->seq);
        error = fb_aio_write(h->image, s->data, unit, s->block * unit, done, s);
    } else {
        error = fb_aio_read(h->image, s->data, unit, s->block * unit, done, s);
    }
    if (error == 0) {
        s->busy = true;
        h->inflight++;
    } else {
        h->errors++;
        h->first_error = h->first_error ? h->first_error : error;
    }
}

static int map_state(struct hammer *h, const char *path, uint64_t blocks, uint64_t unit)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    size_t size = (size_t)st.st_size;
    if (size == 0) {
        size = sizeof(struct state) + blocks * sizeof(h->state->block[0]);
        if (ftruncate(fd, (off_t)size) < 0)
            return -1;
    }
    h->state = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (h->state == MAP_FAILED)
        return -1;
    if (h->state->magic != MAGIC) {
        h->state->magic = MAGIC;
        h->state->blocks = blocks;
        h->state->unit = unit;
    }
    return 0;
}

static void run(struct hammer *h, int argc, char **argv)
{
    unsigned qd = (unsigned)number(argc, argv, "qd", 16);
    unsigned read_percent = (unsigned)number(argc, argv, "reads", 20);
    uint64_t end_ns = now_ns() + number(argc, argv, "time", 5) * 1000000000ull;
    if (qd > QD_MAX)
        qd = QD_MAX;
    h->last_done_ns = now_ns();
    while (!ended && now_ns() < end_ns && h->first_error != -ESHUTDOWN && h->errors < 1000) {
        for (unsigned i = 0; i < qd; i++)
            if (!h->slots[i].busy)
                start(h, &h->slots[i], qd, read_percent);
        fb_poll(h->conn, 100);
    }
    while (h->inflight > 0)
        fb_poll(h->conn, 100);
}

static void check(struct hammer *h)
{
    static _Alignas(uint64_t) uint8_t data[UNIT_MAX];
    for (uint64_t block = 0; block < h->state->blocks; block++) {
        int error = fb_read(h->image, data, h->state->unit, block * h->state->unit);
        if (error) {
            h->errors++;
            h->first_error = h->first_error ? h->first_error : error;
        } else {
            verify(h, data, block, h->state->block[block].acked);
            h->reads++;
        }
    }
}

int main(int argc, char **argv)
{
    static struct hammer hammer;
    struct hammer *h = &hammer;
    char error[256];
    if (argc < 4 || (strcmp(argv[1], "run") != 0 && strcmp(argv[1], "check") != 0)) {
        fprintf(stderr, "usage: hammer run|check IMAGE STATE [name=value...]\n");
        return 2;
    }
    bool checking = strcmp(argv[1], "check") == 0;
    uint64_t unit = number(argc, argv, "size", 4096);
    if (unit > UNIT_MAX || unit % 512 || map_state(h, argv[3], number(argc, argv, "blocks", 4096), unit)) {
        fprintf(stderr, "hammer: cannot use state file %s\n", argv[3]);
        return 2;
    }
    h->random = now_ns() | 1;
    signal(SIGTERM, on_term);
    struct fb_options options = {.timeout_ms = (unsigned)number(argc, argv, "timeout_ms", 60000)};
    if (fb_connect(&options, &h->conn, error, sizeof(error))) {
        fprintf(stderr, "hammer: %s\n", error);
        return 3;
    }
    unsigned flags = checking ? FB_OPEN_READ_ONLY : option(argc, argv, "force") ? FB_OPEN_FORCE : 0;
    if (fb_open(h->conn, argv[2], flags, checking ? NULL : option(argc, argv, "writer"), &h->image)) {
        fprintf(stderr, "hammer: %s\n", fb_error(h->conn));
        return 3;
    }
    if (checking)
        check(h);
    else
        run(h, argc, argv);
    printf(
        "{\"reads\": %llu, \"writes\": %llu, \"errors\": %llu, \"first_error\": %d, \"wrong\": %llu, \"max_gap_ms\": %.1f, \"slowest_ms\": %.1f}\n",
        (unsigned long long)h->reads, (unsigned long long)h->writes, (unsigned long long)h->errors,
        h->first_error, (unsigned long long)h->wrong, (double)h->gap_ns / 1e6, (double)h->slowest_ns / 1e6);
    fb_disconnect(h->conn);
    return h->wrong ? 1 : h->errors ? 3 : 0;
}
