/* SPDX-License-Identifier: Apache-2.0
 *
 * libfastblock as an application uses it, against the fake cluster in another process.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fastblock/fastblock.h"
#include "tests/client/fake_process.h"
#include "tests/tap.h"

#define MIB (1u << 20)

static char monitors[128];
static struct fb_conn *conn;
static struct fb_image *image;
static pid_t cluster;

static void set_up_with(unsigned flags, unsigned timeout_ms)
{
    struct fb_options options = {
        .monitors = monitors, .name = "test", .timeout_ms = timeout_ms, .memory_bytes = 16 * MIB};
    char error[256] = "";

    int result = fb_connect(&options, &conn, error, sizeof(error));
    if (result) {
        printf("# connect: %s\n", error);
        exit(1);
    }
    CHECK_EQ(fb_open(conn, "pool/image", flags, "writer", &image), 0);
}

static void set_up(unsigned flags)
{
    set_up_with(flags, 5000);
}

static void tear_down(void)
{
    CHECK_EQ(fb_close(image), 0);
    fb_disconnect(conn);
}

static bool all(const uint8_t *data, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != value)
            return false;
    return true;
}

static void test_connect(void)
{
    struct fb_options options = {.monitors = "127.0.0.1:1", .timeout_ms = 100};
    char error[256] = "";
    struct fb_conn *none = (struct fb_conn *)&options;

    CHECK_EQ(fb_connect(&options, &none, error, sizeof(error)), -EHOSTUNREACH);
    CHECK(none == NULL);
    CHECK(strstr(error, "127.0.0.1:1"));
    options.monitors = "somewhere";
    CHECK_EQ(fb_connect(&options, &none, error, sizeof(error)), -EHOSTUNREACH);
    /* By the environment. */
    setenv("FASTBLOCK_MON", monitors, 1);
    CHECK_EQ(fb_connect(NULL, &none, error, sizeof(error)), 0);
    CHECK(strcmp(fb_error(none), "") == 0);
    fb_disconnect(none);
    unsetenv("FASTBLOCK_MON");
}

static void test_open(void)
{
    struct fb_image *other;

    set_up(0);
    CHECK_EQ(fb_open(conn, "image", 0, NULL, &other), -EINVAL);
    CHECK(other == NULL && strstr(fb_error(conn), "POOL/IMAGE"));
    CHECK_EQ(fb_open(conn, "pool/none", 0, NULL, &other), -ENOENT);
    CHECK(strstr(fb_error(conn), "no such image"));
    CHECK_EQ(fb_open(conn, "pool/image", 0x80, NULL, &other), -EINVAL);
    CHECK_EQ(fb_open(conn, "pool/image", FB_OPEN_READ_ONLY, NULL, &other), 0);
    CHECK_EQ(fb_size(other), fb_size(image));
    CHECK_EQ(fb_write(other, "x", 1, 0), -EROFS);
    /* fb_disconnect() closes what is open. */
    fb_disconnect(conn);
}

static void test_sync(void)
{
    size_t len = 9 * MIB + 4321;
    uint8_t *data = malloc(len), *back = malloc(len);

    set_up(0);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + (i >> 12));
    memset(back, 0xee, len);
    CHECK_EQ(fb_write(image, data, len, 777), 0);
    CHECK_EQ(fb_flush(image), 0);
    CHECK_EQ(fb_read(image, back, len, 777), 0);
    CHECK(memcmp(data, back, len) == 0);
    CHECK_EQ(fb_read(image, back, 0, 5), 0);
    CHECK_EQ(fb_read(image, back, 2, fb_size(image) - 1), -EINVAL);
    CHECK(strstr(fb_error(conn), "outside of the image"));
    CHECK_EQ(fb_write(image, back, 1, fb_size(image)), -EINVAL);
    CHECK_EQ(fb_write_zeroes(image, 5000, 10000), 0);
    CHECK_EQ(fb_read(image, back, 5002, 9999), 0);
    CHECK_EQ(back[0], data[9999 - 777]);
    CHECK(all(back + 1, 5000, 0));
    CHECK_EQ(back[5001], data[15000 - 777]);
    CHECK_EQ(fb_discard(image, fb_size(image), 0), 0);
    CHECK_EQ(fb_read(image, back, len, 0), 0);
    CHECK(all(back, len, 0));
    free(data);
    free(back);
    tear_down();
}

/* What needs no answer of the cluster does not wait for the clock either. */
static void test_flush_is_cheap(void)
{
    struct timespec before, after;

    set_up(0);
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (unsigned i = 0; i < 20; i++)
        CHECK_EQ(fb_flush(image), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(after.tv_sec - before.tv_sec < 5);
    tear_down();
}

/* Who has nothing under way need not drive the connection. The time of what comes then begins when it comes,
 * however long the last turn is past. */
static void test_after_idle_time(void)
{
    const struct timespec idle = {.tv_nsec = 700000000};
    struct fb_extent extents[4];
    uint8_t block[4096] = {1};
    unsigned count;

    set_up_with(0, 500);
    CHECK_EQ(fb_write(image, block, sizeof(block), 0), 0);
    nanosleep(&idle, NULL);
    CHECK_EQ(fb_write(image, block, sizeof(block), 0), 0);
    nanosleep(&idle, NULL);
    CHECK_EQ(fb_read(image, block, sizeof(block), 0), 0);
    nanosleep(&idle, NULL);
    CHECK_EQ(fb_discard(image, sizeof(block), 0), 0);
    nanosleep(&idle, NULL);
    CHECK_EQ(fb_block_status(image, 0, 65536, extents, 4, &count), 0);
    nanosleep(&idle, NULL);
    tear_down();
}

static void test_block_status(void)
{
    struct fb_extent extents[4];
    unsigned count;
    uint8_t block[4096];

    set_up(0);
    memset(block, 1, sizeof(block));
    CHECK_EQ(fb_write(image, block, 4096, 8192), 0);
    CHECK_EQ(fb_block_status(image, 0, 65536, extents, 4, &count), 0);
    CHECK_EQ(count, 3);
    CHECK(extents[0].len == 8192 && !extents[0].written);
    CHECK(extents[1].len == 4096 && extents[1].written);
    CHECK(extents[2].len == 65536 - 12288 && !extents[2].written);
    CHECK_EQ(fb_block_status(image, 0, 65536, extents, 1, &count), 0);
    CHECK_EQ(count, 1);
    CHECK_EQ(fb_block_status(image, 0, 65536, extents, 0, &count), -EINVAL);
    CHECK_EQ(fb_block_status(image, fb_size(image), 1, extents, 4, &count), -EINVAL);
    tear_down();
}

/* ---- asynchronous ---- */

struct request {
    int result, ended;
    uint64_t offset;
    uint8_t data[4096];
};

static unsigned ended_count;

static void ended(void *arg, int result)
{
    struct request *r = arg;

    r->result = result;
    r->ended++;
    ended_count++;
}

/* A callback may start requests, and even wait for one. */
static void written_then_read(void *arg, int result)
{
    struct request *r = arg;
    uint8_t back[4096];

    CHECK_EQ(result, 0);
    CHECK_EQ(fb_read(image, back, sizeof(back), r->offset), 0);
    CHECK(memcmp(back, r->data, sizeof(back)) == 0);
    CHECK_EQ(fb_aio_read(image, r->data, sizeof(r->data), r->offset, ended, r), 0);
}

static void test_async(void)
{
    static struct request requests[64];
    unsigned started = 0;

    set_up(0);
    ended_count = 0;
    memset(requests, 0, sizeof(requests));
    for (unsigned i = 0; i < 64; i++) {
        requests[i].offset = (uint64_t)i * 40000;
        memset(requests[i].data, (int)i + 1, 4096);
        CHECK_EQ(
            fb_aio_write(image, requests[i].data, 4096, requests[i].offset, written_then_read, &requests[i]),
            0);
        started++;
    }
    while (ended_count < started) {
        struct pollfd fd = {.fd = fb_fd(conn), .events = POLLIN};
        CHECK(fb_poll(conn, 0) >= 0);
        poll(&fd, 1, 20);
    }
    for (unsigned i = 0; i < 64; i++) {
        CHECK_EQ(requests[i].result, 0);
        CHECK_EQ(requests[i].ended, 1);
        CHECK(all(requests[i].data, 4096, (uint8_t)(i + 1)));
    }
    CHECK_EQ(fb_poll(conn, -1), 0); /* nothing under way: nothing to wait for */
    CHECK_EQ(fb_aio_write_zeroes(image, 40960, 0, ended, &requests[0]), 0);
    CHECK_EQ(fb_aio_discard(image, 40960, 81920, ended, &requests[1]), 0);
    CHECK_EQ(fb_aio_flush(image, ended, &requests[2]), 0);
    CHECK_EQ(fb_aio_read(image, requests[3].data, 4096, fb_size(image), ended, &requests[3]), 0);
    while (ended_count < started + 4)
        CHECK(fb_poll(conn, 1000) >= 0);
    CHECK_EQ(requests[0].result + requests[1].result + requests[2].result, 0);
    CHECK_EQ(requests[3].result, -EINVAL);
    tear_down();
}

/* More than fits: EAGAIN, and it goes on when some have ended. Closing waits for what is under way. */
static void test_async_limits(void)
{
    static struct request r;
    uint8_t *data = calloc(1, 2 * MIB + 1);
    unsigned started = 0, refused = 0;

    set_up(0);
    ended_count = 0;
    CHECK_EQ(fb_aio_write(image, data, 2 * MIB + 1, 0, ended, &r), -EINVAL);
    while (started < 40) {
        int result = fb_aio_write(image, data, 2 * MIB, (started % 7) * 2 * MIB, ended, &r);
        CHECK(result == 0 || result == -EAGAIN);
        started += result == 0;
        refused += result != 0;
        if (result)
            CHECK(fb_poll(conn, 1000) >= 0);
    }
    CHECK(refused > 0);
    CHECK_EQ(fb_close(image), 0);
    CHECK_EQ(ended_count, started);
    CHECK_EQ(r.result, 0);
    fb_disconnect(conn);
    free(data);
}

/* Callbacks that want to go on while the image is closed. */
static unsigned again_called, again_begun, again_refused;

static void again(void *arg, int result)
{
    static uint8_t block[4096];

    again_called++;
    CHECK_EQ(result, 0);
    if (again_called > 100)
        return;
    result = fb_aio_write(image, block, sizeof(block), 0, again, NULL);
    again_begun += result == 0;
    again_refused += result == -EINVAL && fb_read(image, block, 1, 0) == -EINVAL &&
                     fb_flush(image) == -EINVAL && fb_close(image) == -EINVAL;
}

static void test_close_with_requests(void)
{
    static uint8_t block[4096];
    struct fb_image *other;

    for (unsigned round = 0; round < 4; round++) {
        again_called = again_begun = again_refused = 0;
        set_up(0);
        CHECK_EQ(fb_open(conn, "pool/image", FB_OPEN_READ_ONLY, NULL, &other), 0);
        for (unsigned i = 0; i < 8; i++)
            CHECK_EQ(fb_aio_write(image, block, sizeof(block), 0, again, NULL), 0);
        if (round % 2) {
            CHECK_EQ(fb_close(image), 0);
        } else {
            CHECK_EQ(fb_aio_read(other, block, sizeof(block), 0, again, NULL), 0);
            fb_disconnect(conn);
        }
        CHECK(again_called >= 8);
        CHECK_EQ(again_begun, 0);
        CHECK_EQ(again_refused, again_called);
        if (round % 2)
            fb_disconnect(conn);
    }
}

static void test_manage(void)
{
    set_up(FB_OPEN_READ_ONLY);
    /* The fake monitor knows none of these: what counts is that they get there and come back with its answer.
     * A resize behind another one is asked for again. */
    CHECK_EQ(fb_image_create(conn, "noslash", MIB), -EINVAL);
    CHECK_EQ(fb_image_create(conn, "pool/new", MIB), -ENOTSUP);
    CHECK_EQ(fb_image_resize(conn, "pool/new", MIB, 0), -EINVAL);
    CHECK(!strstr(fb_error(conn), "flags"));
    CHECK_EQ(fb_image_resize(conn, "pool/new", MIB, FB_RESIZE_LOSE_DATA), 0);
    CHECK_EQ(fb_image_resize(conn, "pool/new", MIB, FB_RESIZE_LOSE_DATA << 1), -EINVAL);
    CHECK(strstr(fb_error(conn), "flags"));
    CHECK_EQ(fb_image_remove(conn, "pool/new"), -ENOTSUP);
    CHECK(strstr(fb_error(conn), "pool/new"));
    tear_down();
}

/* ---- threads, each with a connection of its own ---- */

#define WORKER_DEPTH  16
#define WORKER_ROUNDS 200

/* It checks for itself, and others look at `wrong` when it has ended. */
struct worker {
    pthread_t thread;
    bool writes; /* or reads only what is there */
    uint64_t base;
    struct {
        struct worker *worker;
        uint8_t data[4096];
    } slots[WORKER_DEPTH];
    unsigned ended, wrong;
};

static void worker_ended(void *arg, int result)
{
    struct worker *w = *(struct worker **)arg; /* the slot's first member */

    w->ended++;
    w->wrong += result != 0;
}

static void worker_round(struct worker *w, struct fb_conn *own, struct fb_image *handle, uint8_t value,
                         bool write)
{
    w->ended = 0;
    for (unsigned i = 0; i < WORKER_DEPTH; i++) {
        uint64_t offset = w->base + i * 4096;
        uint8_t *data = w->slots[i].data;
        w->slots[i].worker = w;
        memset(data, write ? value + (int)i : 0, 4096);
        int result = write ? fb_aio_write(handle, data, 4096, offset, worker_ended, &w->slots[i])
                           : fb_aio_read(handle, data, 4096, offset, worker_ended, &w->slots[i]);
        w->ended += result != 0;
        w->wrong += result != 0;
    }
    while (w->ended < WORKER_DEPTH && fb_poll(own, 1000) >= 0)
        ;
    w->wrong += w->ended != WORKER_DEPTH;
    for (unsigned i = 0; i < WORKER_DEPTH && !write; i++)
        w->wrong += !all(w->slots[i].data, 4096, (uint8_t)(value + i));
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct fb_options options = {.monitors = monitors, .timeout_ms = 5000, .memory_bytes = 4 * MIB};
    struct fb_conn *own = NULL;
    struct fb_image *handle = NULL;

    if (fb_connect(&options, &own, NULL, 0) ||
        fb_open(own, "pool/image", w->writes ? 0 : FB_OPEN_READ_ONLY, "writer", &handle)) {
        w->wrong++;
        fb_disconnect(own);
        return NULL;
    }
    for (unsigned round = 0; round < WORKER_ROUNDS; round++) {
        uint8_t value = w->writes ? (uint8_t)round : 77;
        if (w->writes)
            worker_round(w, own, handle, value, true);
        worker_round(w, own, handle, value, false);
    }
    w->wrong += fb_close(handle) != 0;
    fb_disconnect(own);
    return NULL;
}

/* Connections share nothing: each thread drives its own, at the same time, without a lock. */
static void test_threads(void)
{
    static struct worker workers[3] = {{.writes = true}, {.base = MIB}, {.base = MIB}};
    uint8_t block[4096];

    set_up(0);
    for (unsigned i = 0; i < WORKER_DEPTH; i++) {
        memset(block, 77 + (int)i, sizeof(block));
        CHECK_EQ(fb_write(image, block, sizeof(block), MIB + i * sizeof(block)), 0);
    }
    tear_down();
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(workers[i].thread, NULL), 0);
        CHECK_EQ(workers[i].wrong, 0);
    }
}

/* ---- failures ---- */

enum { OBJECTS = 8 };

static unsigned count_failing(bool fails[OBJECTS])
{
    uint8_t block[4096];
    unsigned count = 0;

    for (unsigned i = 0; i < OBJECTS; i++)
        count += fails[i] = fb_read(image, block, sizeof(block), i * 2ull * MIB) != 0;
    return count;
}

static int finish(int started, struct request *r)
{
    CHECK_EQ(started, 0);
    while (!r->ended)
        CHECK(fb_poll(conn, 1000) >= 0);
    int result = r->result;
    *r = (struct request){0};
    return result;
}

/* A request fails if any of its parts does, wherever that stands, and else it does not. */
static void test_failures(void)
{
    struct fb_extent extents[64];
    struct request r = {0};
    bool fails[OBJECTS];
    uint8_t *data = malloc(OBJECTS * 2 * MIB);
    unsigned count;

    set_up(0);
    memset(data, 0x51, OBJECTS * 2 * MIB);
    CHECK_EQ(fb_write(image, data, OBJECTS * 2 * MIB, 0), 0);
    fake_process_refuse(cluster, true);
    while (!count_failing(fails))
        ;
    count = count_failing(fails); /* it may have begun in the midst of that */
    CHECK(count > 0 && count < OBJECTS);
    for (unsigned first = 0; first < OBJECTS; first++) {
        int result = 0;
        for (unsigned last = first; last < OBJECTS; last++) {
            uint64_t offset = (first * 2ull + 1) * MIB, len = (last - first) * 2ull * MIB + 4096;
            result = fails[last] ? -EIO : result;
            CHECK_EQ(fb_write(image, data, len, offset), result);
            CHECK_EQ(fb_read(image, data, len, offset), result);
            CHECK_EQ(fb_write_zeroes(image, len, offset), result);
            CHECK_EQ(fb_discard(image, len, offset), result);
            CHECK_EQ(fb_block_status(image, offset, len, extents, 64, &count), result);
            if (last > first + 1)
                continue;
            /* From the middle of an object to the middle of the next one. */
            len = last > first ? 2 * MIB : len;
            CHECK_EQ(finish(fb_aio_write(image, data, len, offset, ended, &r), &r), result);
            CHECK_EQ(finish(fb_aio_read(image, data, len, offset, ended, &r), &r), result);
            CHECK_EQ(finish(fb_aio_write_zeroes(image, len, offset, ended, &r), &r), result);
            CHECK_EQ(finish(fb_aio_discard(image, len, offset, ended, &r), &r), result);
        }
    }
    CHECK_EQ(fb_flush(image), 0);
    fake_process_refuse(cluster, false);
    while (count_failing(fails))
        ;
    CHECK_EQ(fb_write(image, data, OBJECTS * 2 * MIB, 0), 0);
    free(data);
    tear_down();
}

int main(void)
{
    cluster = fake_process_start(monitors);

    TEST(test_connect);
    TEST(test_open);
    TEST(test_sync);
    TEST(test_flush_is_cheap);
    TEST(test_after_idle_time);
    TEST(test_block_status);
    TEST(test_async);
    TEST(test_async_limits);
    TEST(test_close_with_requests);
    TEST(test_manage);
    TEST(test_threads);
    TEST(test_failures);
    fake_process_stop(cluster);
    return tap_done();
}
