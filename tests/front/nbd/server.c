/* SPDX-License-Identifier: Apache-2.0
 *
 * fastblock-nbd as its clients see it: a client that says what no well-bred one would say, against the
 * program on the fake cluster.
 *
 *     test_nbd_server FASTBLOCK_NBD
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "front/nbd/be.h"
#include "front/nbd/nbd_format.h"
#include "tests/client/fake_process.h"
#include "tests/tap.h"

#define MIB        (1u << 20)
#define IMAGE_SIZE (16u * MIB)

static const char *program;
static char directory[] = "/tmp/fastblock-nbd-XXXXXX", path[128];
static pid_t server, cluster;

/* ---- processes ---- */

/* Starts the program with these arguments after the image; its stderr goes to `ret_out`. */
static pid_t start(const char *image, const char *const *arguments, int *ret_out)
{
    const char *argv[16] = {program, image};
    int ends[2];

    for (int i = 0; arguments[i]; i++)
        argv[2 + i] = arguments[i];
    CHECK_EQ(pipe(ends), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(program, (char **)argv);
        _exit(99);
    }
    close(ends[1]);
    *ret_out = ends[0];
    return pid;
}

static int ended(pid_t pid)
{
    int status;

    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Reads lines until one contains `text`. */
static bool says(int out, const char *text, char *ret_line, size_t size)
{
    size_t len = 0;
    char byte;

    while (read(out, &byte, 1) == 1) {
        if (byte != '\n' && len + 1 < size) {
            ret_line[len++] = byte;
            continue;
        }
        ret_line[len] = '\0';
        if (strstr(ret_line, text))
            return true;
        printf("# %s\n", ret_line);
        len = 0;
    }
    return false;
}

static int server_out;

static void server_start(void)
{
    const char *const arguments[] = {"--unix", path, NULL};
    char line[512];

    server = start("pool/image", arguments, &server_out);
    CHECK(says(server_out, "ready: pool/image (16 MiB) at unix:", line, sizeof(line)));
}

/* It has ended: what it had to say. */
static void server_ended(void)
{
    char line[512];

    (void)says(server_out, "\n", line, sizeof(line));
    close(server_out);
}

static void server_stop(void)
{
    kill(server, SIGTERM);
    CHECK_EQ(ended(server), 0);
    CHECK(access(path, F_OK) != 0);
    server_ended();
}

/* ---- a client ---- */

static int dial(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        printf("# the server is gone\n");
        server_ended();
        exit(1);
    }
    return fd;
}

static void put(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    while (len) {
        ssize_t got = send(fd, at, len, MSG_NOSIGNAL);
        if (got <= 0)
            return;
        at += got;
        len -= (size_t)got;
    }
}

/* False: the other end has closed. */
static bool get(int fd, void *bytes, size_t len)
{
    uint8_t *at = bytes;

    while (len) {
        ssize_t got = recv(fd, at, len, 0);
        if (got <= 0)
            return false;
        at += got;
        len -= (size_t)got;
    }
    return true;
}

static void put_option(int fd, uint32_t option, const void *data, uint32_t len)
{
    uint8_t head[16];

    be_put_u32(be_put_u32(be_put_u64(head, NBD_MAGIC_OPTION), option), len);
    put(fd, head, sizeof(head));
    put(fd, data, len);
}

/* The last reply to an option; earlier ones are skipped. */
static uint32_t get_option_end(int fd)
{
    uint8_t head[20], data[1024];

    for (;;) {
        if (!get(fd, head, sizeof(head)) || be_load_u32(head + 16) > sizeof(data))
            return 0;
        get(fd, data, be_load_u32(head + 16));
        uint32_t type = be_load_u32(head + 12);
        if (type == NBD_REP_ACK || type >= 1u << 31)
            return type;
    }
}

static int connect_nbd(bool structured)
{
    uint8_t bytes[64], *at;
    int fd = dial();

    CHECK(get(fd, bytes, 18));
    put(fd, "\0\0\0\3", 4);
    if (structured) {
        put_option(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        CHECK_EQ(get_option_end(fd), NBD_REP_ACK);
        at = be_put_u32(be_put_u32(be_put_u32(bytes, 0), 1), 15);
        memcpy(at, "base:allocation", 15);
        put_option(fd, NBD_OPT_SET_META_CONTEXT, bytes, 27);
        CHECK_EQ(get_option_end(fd), NBD_REP_ACK);
    }
    be_put_u16(be_put_u32(bytes, 0), 0);
    put_option(fd, NBD_OPT_GO, bytes, 6);
    CHECK_EQ(get_option_end(fd), NBD_REP_ACK);
    return fd;
}

static void put_command(int fd, uint32_t flags, uint32_t type, uint64_t cookie, uint64_t offset, uint32_t len,
                        const void *data)
{
    uint8_t head[NBD_REQUEST_SIZE], *at = be_put_u32(head, NBD_MAGIC_REQUEST);

    at = be_put_u16(at, (uint16_t)flags);
    at = be_put_u16(at, (uint16_t)type);
    at = be_put_u64(at, cookie);
    at = be_put_u64(at, offset);
    be_put_u32(at, len);
    put(fd, head, sizeof(head));
    if (data)
        put(fd, data, len);
}

/* A simple reply, without its data. The error, or -1. */
static int get_simple(int fd, uint64_t *ret_cookie)
{
    uint8_t head[NBD_SIMPLE_REPLY_SIZE];

    if (!get(fd, head, sizeof(head)) || be_load_u32(head) != NBD_MAGIC_SIMPLE_REPLY)
        return -1;
    *ret_cookie = be_load_u64(head + 8);
    return (int)be_load_u32(head + 4);
}

/* All chunks of one structured reply; data goes to `to` by offset. The error, or -1. */
static int get_chunks(int fd, uint64_t cookie, uint64_t offset, uint8_t *to, uint32_t len,
                      uint32_t *ret_chunks)
{
    uint8_t head[NBD_STRUCTURED_REPLY_SIZE], data[512];
    uint32_t flags, filled = 0, error = 0;

    *ret_chunks = 0;
    do {
        if (!get(fd, head, NBD_STRUCTURED_REPLY_SIZE) || be_load_u32(head) != NBD_MAGIC_STRUCTURED_REPLY)
            return -1;
        CHECK_EQ(be_load_u64(head + 8), cookie);
        flags = be_load_u16(head + 4);
        uint32_t type = be_load_u16(head + 6), left = be_load_u32(head + 16);
        ++*ret_chunks;
        if (type == NBD_REPLY_TYPE_OFFSET_DATA || type == NBD_REPLY_TYPE_OFFSET_HOLE) {
            CHECK(get(fd, data, 8));
            uint64_t at = be_load_u64(data) - offset;
            uint32_t part = left - 8;
            if (type == NBD_REPLY_TYPE_OFFSET_HOLE) {
                CHECK(get(fd, data, 4));
                part = be_load_u32(data);
                memset(to + at, 0, part);
            } else {
                CHECK(at + part <= len && get(fd, to + at, part));
            }
            filled += part;
        } else if (left) {
            CHECK(left <= sizeof(data) && get(fd, data, left));
            if (type == NBD_REPLY_TYPE_ERROR)
                error = be_load_u32(data);
        }
    } while (!(flags & NBD_REPLY_FLAG_DONE));
    if (!error)
        CHECK_EQ(filled, len);
    return (int)error;
}

static int write_at(int fd, uint64_t offset, const void *data, uint32_t len)
{
    uint64_t cookie;

    put_command(fd, 0, NBD_CMD_WRITE, offset, offset, len, data);
    return get_simple(fd, &cookie);
}

static int read_at(int fd, uint64_t offset, void *data, uint32_t len)
{
    uint64_t cookie;

    put_command(fd, 0, NBD_CMD_READ, offset, offset, len, NULL);
    int error = get_simple(fd, &cookie);
    if (error == 0)
        CHECK(get(fd, data, len));
    return error;
}

static bool all(const uint8_t *data, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != value)
            return false;
    return true;
}

/* ---- tests ---- */

static void test_many_in_flight(void)
{
    uint8_t data[4096], seen[300] = {0};
    int fd = connect_nbd(false);

    for (uint32_t i = 0; i < 300; i++) {
        memset(data, (int)i, sizeof(data));
        put_command(fd, i % 2 ? NBD_CMD_FLAG_FUA : 0, NBD_CMD_WRITE, i, i * 20000, sizeof(data), data);
    }
    for (uint32_t i = 0; i < 300; i++) {
        uint64_t cookie = UINT64_MAX;
        CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
        CHECK(cookie < 300 && !seen[cookie]);
        seen[cookie % 300] = 1;
    }
    for (uint32_t i = 0; i < 300; i++)
        put_command(fd, 0, NBD_CMD_READ, i, i * 20000, sizeof(data), NULL);
    for (uint32_t i = 0; i < 300; i++) {
        uint64_t cookie = UINT64_MAX;
        CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
        CHECK(get(fd, data, sizeof(data)));
        CHECK(all(data, sizeof(data), (uint8_t)cookie));
    }
    put_command(fd, 0, NBD_CMD_FLUSH, 1, 0, 0, NULL);
    uint64_t cookie;
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, 0, NBD_CMD_DISC, 1, 0, 0, NULL);
    CHECK(!get(fd, data, 1));
    close(fd);
}

/* Both kinds of replies, also on two connections at once. */
static void test_long_reads(void)
{
    uint8_t *data = malloc(IMAGE_SIZE), *back = malloc(IMAGE_SIZE);
    int a = connect_nbd(false), b = connect_nbd(false), c = connect_nbd(true);
    uint32_t chunks;
    uint64_t cookie;

    for (uint32_t i = 0; i < IMAGE_SIZE; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 13));
    memset(data + 4 * MIB, 0, 4 * MIB);
    CHECK_EQ(write_at(a, 0, data, IMAGE_SIZE), NBD_OK);
    put_command(a, 0, NBD_CMD_READ, 1, 1, IMAGE_SIZE - 1, NULL);
    put_command(a, 0, NBD_CMD_READ, 2, 0, 4096, NULL);
    put_command(b, 0, NBD_CMD_READ, 3, 5, IMAGE_SIZE - 5, NULL);
    put_command(c, 0, NBD_CMD_READ, 4, 7, IMAGE_SIZE - 7, NULL);
    CHECK_EQ(get_simple(b, &cookie), NBD_OK);
    CHECK(get(b, back, IMAGE_SIZE - 5) && memcmp(back, data + 5, IMAGE_SIZE - 5) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(get_simple(a, &cookie), NBD_OK);
        size_t len = cookie == 1 ? IMAGE_SIZE - 1 : 4096;
        CHECK(get(a, back, len) && memcmp(back, data + (cookie == 1), len) == 0);
    }
    CHECK_EQ(get_chunks(c, 4, 7, back, IMAGE_SIZE - 7, &chunks), NBD_OK);
    CHECK(memcmp(back, data + 7, IMAGE_SIZE - 7) == 0);
    CHECK(chunks > 1);
    /* Not in pieces: one chunk, or too much. */
    put_command(c, NBD_CMD_FLAG_DF, NBD_CMD_READ, 5, 0, 2 * MIB, NULL);
    CHECK_EQ(get_chunks(c, 5, 0, back, 2 * MIB, &chunks), NBD_OK);
    CHECK_EQ(chunks, 1);
    put_command(c, NBD_CMD_FLAG_DF, NBD_CMD_READ, 6, 0, 2 * MIB + 1, NULL);
    CHECK_EQ(get_chunks(c, 6, 0, back, 2 * MIB + 1, &chunks), NBD_EOVERFLOW);
    put_command(c, 0, NBD_CMD_READ, 7, IMAGE_SIZE, 1, NULL);
    CHECK_EQ(get_chunks(c, 7, 0, back, 1, &chunks), NBD_EINVAL);
    put_command(c, 0, NBD_CMD_READ, 8, 0, 0, NULL);
    CHECK_EQ(get_chunks(c, 8, 0, back, 0, &chunks), NBD_OK);
    close(a);
    close(b);
    close(c);
    free(data);
    free(back);
}

static void test_refused(void)
{
    uint8_t *data = calloc(1, 40 * MIB);
    int fd = connect_nbd(false);

    /* Refused writes come with their payload: what follows must be understood all the same. */
    CHECK_EQ(write_at(fd, IMAGE_SIZE - 10, data, 100000), NBD_ENOSPC);
    CHECK_EQ(write_at(fd, 0, data, 33 * MIB), NBD_EINVAL);
    CHECK_EQ(read_at(fd, 0, data, 33 * MIB), NBD_EINVAL);
    CHECK_EQ(read_at(fd, 100, data, 5000), NBD_OK);
    /* Not NBD. */
    put(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n      ", 32);
    CHECK(!get(fd, data, 1));
    close(fd);
    free(data);
}

static void test_zeroes(void)
{
    uint8_t data[32768], status[64];
    int fd = connect_nbd(true);
    uint32_t chunks;
    uint64_t cookie;

    memset(data, 0x77, sizeof(data));
    CHECK_EQ(write_at(fd, 0, data, sizeof(data)), NBD_OK);
    put_command(fd, 0, NBD_CMD_WRITE_ZEROES, 1, 4096, 4096, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 1, 12288, 4096, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 1, 0, 4096, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_ENOTSUP);
    put_command(fd, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 1, 16380, 8, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, 0, NBD_CMD_TRIM, 1, 20000, 5000, NULL); /* one whole block lies within */
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, 0, NBD_CMD_READ, 2, 0, sizeof(data), NULL);
    CHECK_EQ(get_chunks(fd, 2, 0, data, sizeof(data), &chunks), NBD_OK);
    CHECK(all(data, 4096, 0x77) && all(data + 4096, 4096, 0) && all(data + 8192, 4096, 0x77));
    CHECK(all(data + 12288, 4096, 0) && all(data + 16384, 4, 0) && all(data + 16388, 4092, 0x77));
    CHECK(all(data + 20480, 4096, 0) && all(data + 24576, 8192, 0x77));
    /* Holes, and zeros that are not holes. */
    put_command(fd, 0, NBD_CMD_BLOCK_STATUS, 3, 0, 16384, NULL);
    CHECK(get(fd, status, NBD_STRUCTURED_REPLY_SIZE + 4 + 3 * 8));
    CHECK_EQ(be_load_u16(status + 6), NBD_REPLY_TYPE_BLOCK_STATUS);
    CHECK_EQ(be_load_u32(status + 16), 4 + 3 * 8);
    CHECK_EQ(be_load_u32(status + 24), 4096);
    CHECK_EQ(be_load_u32(status + 28), 0);
    CHECK_EQ(be_load_u32(status + 32), 4096);
    CHECK_EQ(be_load_u32(status + 36), NBD_STATE_HOLE | NBD_STATE_ZERO);
    CHECK_EQ(be_load_u32(status + 40), 8192);
    CHECK_EQ(be_load_u32(status + 44), 0);
    put_command(fd, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 4, 0, IMAGE_SIZE, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, 0, NBD_CMD_TRIM, 5, 0, IMAGE_SIZE, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(fd, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 6, 0, IMAGE_SIZE, NULL);
    CHECK(get(fd, status, NBD_STRUCTURED_REPLY_SIZE + 4 + 8));
    CHECK_EQ(be_load_u32(status + 24), IMAGE_SIZE);
    CHECK_EQ(be_load_u32(status + 28), NBD_STATE_HOLE | NBD_STATE_ZERO);
    close(fd);
}

enum { OBJECTS = IMAGE_SIZE / (2 * MIB) };

/* How many objects fail when they are read. */
static uint32_t count_failing(int fd, bool fails[OBJECTS])
{
    uint8_t block[4096];
    uint32_t count = 0;

    for (uint32_t i = 0; i < OBJECTS; i++)
        count += fails[i] = read_at(fd, i * 2ull * MIB, block, sizeof(block)) != NBD_OK;
    return count;
}

static int change(int fd, uint32_t flags, uint32_t type, uint64_t offset, uint32_t len)
{
    uint64_t cookie = 0;

    put_command(fd, flags, type, 9, offset, len, NULL);
    int error = get_simple(fd, &cookie);
    CHECK_EQ(cookie, 9);
    return error;
}

/* What fails in the cluster fails here, all of it or a part, and nothing else does; and what follows is
 * understood. */
static void test_failures(void)
{
    uint8_t *data = malloc(IMAGE_SIZE);
    int fd = connect_nbd(false), chunked = connect_nbd(true);
    bool fails[OBJECTS], again[OBJECTS];
    uint32_t chunks, failing;

    memset(data, 0x21, IMAGE_SIZE);
    CHECK_EQ(write_at(fd, 0, data, IMAGE_SIZE), NBD_OK);
    fake_process_refuse(cluster, true);
    while (!count_failing(fd, fails))
        ;
    failing = count_failing(fd, fails); /* it may have begun in the midst of that */
    CHECK(failing > 0 && failing < OBJECTS);
    CHECK_EQ(write_at(fd, 0, data, IMAGE_SIZE), NBD_EIO);
    CHECK_EQ(change(fd, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 0, IMAGE_SIZE), NBD_EIO);
    CHECK_EQ(change(fd, 0, NBD_CMD_WRITE_ZEROES, 0, IMAGE_SIZE), NBD_EIO);
    CHECK_EQ(change(fd, 0, NBD_CMD_TRIM, 0, IMAGE_SIZE), NBD_EIO);
    CHECK_EQ(read_at(fd, 0, data, IMAGE_SIZE), NBD_EIO);
    put_command(chunked, 0, NBD_CMD_READ, 1, 0, IMAGE_SIZE, NULL);
    CHECK_EQ(get_chunks(chunked, 1, 0, data, IMAGE_SIZE, &chunks), NBD_EIO);
    put_command(chunked, 0, NBD_CMD_BLOCK_STATUS, 2, 0, IMAGE_SIZE, NULL);
    CHECK_EQ(get_chunks(chunked, 2, 0, data, 0, &chunks), NBD_EIO);
    CHECK_EQ(change(fd, 0, NBD_CMD_FLUSH, 0, 0), NBD_OK);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        uint64_t at = i * 2ull * MIB;
        int result = fails[i] ? NBD_EIO : NBD_OK;
        memset(data, 0x22, 8192);
        CHECK_EQ(write_at(fd, at, data, 8192), result);
        CHECK_EQ(change(fd, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, at + 8192, 4096), result);
        CHECK_EQ(change(fd, 0, NBD_CMD_WRITE_ZEROES, at + 12288, 4096), result);
        CHECK_EQ(change(fd, 0, NBD_CMD_TRIM, at + 16384, 4096), result);
        put_command(chunked, 0, NBD_CMD_READ, 3, at, 20480, NULL);
        CHECK_EQ(get_chunks(chunked, 3, at, data, 20480, &chunks), result);
        CHECK(fails[i] || (all(data, 8192, 0x22) && all(data + 8192, 12288, 0)));
    }
    fake_process_refuse(cluster, false);
    while (count_failing(fd, again))
        ;
    CHECK_EQ(write_at(fd, 0, data, IMAGE_SIZE), NBD_OK);
    CHECK_EQ(read_at(fd, 0, data, IMAGE_SIZE), NBD_OK);
    close(fd);
    close(chunked);
    free(data);
}

/* A client that asks for much and takes nothing stops itself only. */
static void test_slow_reader(void)
{
    uint8_t *data = malloc(2 * MIB), small[4096];
    int slow = connect_nbd(false), fd = connect_nbd(false);
    uint64_t cookie;

    memset(data, 0x3c, 2 * MIB);
    CHECK_EQ(write_at(fd, 0, data, 2 * MIB), NBD_OK);
    for (uint32_t i = 0; i < 100; i++)
        put_command(slow, 0, NBD_CMD_READ, i, 0, 2 * MIB, NULL);
    for (uint32_t i = 0; i < 50; i++) {
        CHECK_EQ(write_at(fd, 4 * MIB + i * 4096, data, 4096), NBD_OK);
        CHECK_EQ(read_at(fd, 4 * MIB + i * 4096, small, 4096), NBD_OK);
    }
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_EQ(get_simple(slow, &cookie), NBD_OK);
        memset(data, 0, 2 * MIB);
        CHECK(get(slow, data, 2 * MIB) && all(data, 2 * MIB, 0x3c));
    }
    /* And one that never takes them. */
    for (uint32_t i = 0; i < 100; i++)
        put_command(slow, 0, NBD_CMD_READ, i, 0, 2 * MIB, NULL);
    CHECK_EQ(read_at(fd, 0, small, 4096), NBD_OK);
    close(slow);
    CHECK_EQ(read_at(fd, 0, small, 4096), NBD_OK);
    close(fd);
    free(data);
}

static void be_patient(int fd, int seconds)
{
    const struct timeval patience = {.tv_sec = seconds};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

/* Small and large ones, written and read. */
static bool is_served(int fd, uint8_t *data)
{
    for (uint32_t i = 0; i < 20; i++)
        if (write_at(fd, 4 * MIB + i * 4096, data, 4096) || read_at(fd, 4 * MIB + i * 4096, data, 4096))
            return false;
    return write_at(fd, 0, data, 3 * MIB) == 0 && read_at(fd, MIB / 2, data, 2 * MIB) == 0;
}

/* Replies that are not taken fill the queue, and long ones, part by part, wait until there is room. No part
 * of them gets lost. */
static void test_slow_chunks(void)
{
    enum { FILL = 1040, COMMANDS = FILL + 200, LONG = 2 * MIB + 4096 };
    uint8_t head[NBD_STRUCTURED_REPLY_SIZE], place[8], *data = malloc(3 * MIB);
    uint32_t filled[COMMANDS] = {0};
    int slow = connect_nbd(true), fd = connect_nbd(false);

    be_patient(slow, 10);
    memset(data, 0x3e, 3 * MIB);
    CHECK_EQ(write_at(fd, 0, data, 3 * MIB), NBD_OK);
    for (uint32_t i = 0; i < COMMANDS; i++)
        put_command(slow, 0, NBD_CMD_READ, i, 0, i > FILL && i % 20 == 0 ? LONG : 4096, NULL);
    for (uint32_t i = 0; i < 5; i++)
        CHECK(is_served(fd, data)); /* and meanwhile nothing of it is taken */
    for (uint32_t done = 0; done < COMMANDS;) {
        if (!get(slow, head, sizeof(head)))
            break;
        uint64_t cookie = be_load_u64(head + 8);
        uint32_t left = be_load_u32(head + 16);
        done += be_load_u16(head + 4) & NBD_REPLY_FLAG_DONE;
        if (!left)
            continue;
        CHECK_EQ(be_load_u16(head + 6), NBD_REPLY_TYPE_OFFSET_DATA);
        CHECK(cookie < COMMANDS && left <= 3 * MIB && get(slow, place, 8) && get(slow, data, left - 8));
        CHECK(all(data, left - 8, 0x3e));
        filled[cookie % COMMANDS] += left - 8;
    }
    for (uint32_t i = 0; i < COMMANDS; i++)
        CHECK_EQ(filled[i], i > FILL && i % 20 == 0 ? LONG : 4096);
    close(slow);
    close(fd);
    free(data);
}

/* Many that take nothing, whatever they ask for, and some that say goodbye: another one has its memory and
 * its commands all the same. */
static void test_slow_readers(void)
{
    enum { SLOW = 40, COMMANDS = 150 };
    static const struct {
        uint32_t len;
        bool structured;
    } kinds[] = {{2 * MIB, false}, {128 << 10, false}, {4096, false}, {16 * MIB, true}};
    uint8_t *data = malloc(3 * MIB);
    int slow[SLOW], fd = connect_nbd(false);

    be_patient(fd, 10);
    memset(data, 0x3d, 3 * MIB);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(write_at(fd, i * 2 * MIB, data, 2 * MIB), NBD_OK);
    for (uint32_t i = 0; i < SLOW; i++) {
        uint32_t kind = i % ARRAY_LEN(kinds);
        slow[i] = connect_nbd(kinds[kind].structured);
        for (uint32_t j = 0; j < COMMANDS; j++)
            put_command(slow[i], 0, NBD_CMD_READ, j, 0, kinds[kind].len, NULL);
        if (!is_served(fd, data)) {
            printf("# not behind %u slow ones\n", i + 1);
            CHECK(false);
            break;
        }
    }
    /* What they have asked for they get. */
    uint64_t cookie;
    for (uint32_t j = 0; j < COMMANDS; j++) {
        CHECK_EQ(get_simple(slow[0], &cookie), NBD_OK);
        CHECK(get(slow[0], data, 2 * MIB));
    }
    for (uint32_t i = 0; i < SLOW; i++)
        close(slow[i]);
    CHECK(is_served(fd, data));
    close(fd);
    free(data);
}

/* Nor do those that say goodbye behind what they asked for, and take none of it, have memory that nobody
 * counts. */
static void test_slow_goodbyes(void)
{
    enum { GOODBYES = 200, COMMANDS = 4 };
    uint8_t *data = malloc(3 * MIB);
    int gone[GOODBYES], fd = connect_nbd(false);
    uint32_t count = 0;

    be_patient(fd, 10);
    memset(data, 0x3f, 3 * MIB);
    CHECK_EQ(write_at(fd, 0, data, 2 * MIB), NBD_OK);
    while (count < GOODBYES && read_at(fd, 0, data, 4096) == NBD_OK) {
        int one = gone[count++] = dial(); /* some are turned away */
        put(one, "\0\0\0\3", 4);
        put_option(one, NBD_OPT_EXPORT_NAME, NULL, 0);
        for (uint32_t j = 0; j < COMMANDS; j++)
            put_command(one, 0, NBD_CMD_READ, j, 0, MIB / 2, NULL);
        put_command(one, 0, NBD_CMD_DISC, 0, 0, 0, NULL);
    }
    CHECK_EQ(count, GOODBYES);
    CHECK(is_served(fd, data));
    while (count)
        close(gone[--count]);
    CHECK(is_served(fd, data));
    close(fd);
    free(data);
}

/* Long unstructured reads need much memory at once: who takes nothing of one holds up nothing else, and gives
 * way to the next one. */
static void test_slow_long_reads(void)
{
    enum { SLOW = 4, COMMANDS = 5 };
    uint8_t *data = malloc(IMAGE_SIZE);
    int slow[SLOW], fd = connect_nbd(false);
    uint32_t lost = 0;
    uint64_t cookie;

    be_patient(fd, 30);
    memset(data, 0x3e, IMAGE_SIZE);
    CHECK_EQ(write_at(fd, 0, data, IMAGE_SIZE), NBD_OK);
    for (uint32_t i = 0; i < SLOW; i++) {
        slow[i] = connect_nbd(false);
        for (uint32_t j = 0; j < COMMANDS; j++)
            put_command(slow[i], 0, NBD_CMD_READ, j, 0, IMAGE_SIZE, NULL);
        CHECK(is_served(fd, data));
    }
    for (uint32_t i = 0; i < IMAGE_SIZE; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 13));
    CHECK_EQ(write_at(fd, 0, data, IMAGE_SIZE), NBD_OK);
    put_command(fd, 0, NBD_CMD_READ, 1, 1, IMAGE_SIZE - 1, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    uint8_t *back = calloc(1, IMAGE_SIZE);
    CHECK(get(fd, back, IMAGE_SIZE - 1) && memcmp(back, data + 1, IMAGE_SIZE - 1) == 0);
    /* Now nobody waits for the others. */
    for (uint32_t i = 0; i < SLOW; i++) {
        be_patient(slow[i], 10);
        bool served = true;
        for (uint32_t j = 0; served && j < COMMANDS; j++)
            served = get_simple(slow[i], &cookie) == NBD_OK && get(slow[i], back, IMAGE_SIZE);
        lost += !served;
        close(slow[i]);
    }
    printf("# %u lost\n", lost);
    CHECK(lost > 0);
    CHECK(is_served(fd, data));
    close(fd);
    free(back);
    free(data);
}

/* Connections that say nothing do not keep out those that do. */
static void test_silent_connections(void)
{
    enum { SILENT = 100 };
    uint8_t byte;
    int silent[SILENT], fd = connect_nbd(false);

    for (uint32_t i = 0; i < SILENT; i++)
        silent[i] = dial();
    be_patient(fd, 10);
    CHECK_EQ(read_at(fd, 0, &byte, 1), NBD_OK);
    for (uint32_t i = 0; i < 5; i++) {
        int other = connect_nbd(i & 1);
        be_patient(other, 10);
        CHECK_EQ(write_at(other, 0, &byte, 1), NBD_OK);
        close(other);
    }
    CHECK_EQ(read_at(fd, 0, &byte, 1), NBD_OK);
    for (uint32_t i = 0; i < SILENT; i++)
        close(silent[i]);
    close(fd);
}

/* Connections that break anywhere, and bytes that mean nothing. */
static void test_broken_clients(void)
{
    uint8_t bytes[4096];
    uint32_t random = 12345;

    for (uint32_t round = 0; round < 200; round++) {
        int fd = round % 4 ? connect_nbd(round & 1) : dial();
        uint32_t len = (round * 37) % sizeof(bytes);
        for (uint32_t i = 0; i < len; i++) {
            random = random * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(random >> 24);
        }
        switch (round % 4) {
        case 1: /* in the middle of a payload */
            put_command(fd, 0, NBD_CMD_WRITE, 1, 0, 3 * MIB, NULL);
            put(fd, bytes, len);
            break;
        case 2: /* with much under way */
            for (uint32_t i = 0; i < 20; i++)
                put_command(fd, 0, i % 2 ? NBD_CMD_READ : NBD_CMD_TRIM, i, i * 4096, 65536, NULL);
            break;
        case 3:
            be_put_u32(bytes, NBD_MAGIC_REQUEST);
            put(fd, bytes, len);
            break;
        default:
            put(fd, "\0\0\0\3IHAVEOPT", 12);
            put(fd, bytes, len);
            break;
        }
        close(fd);
    }
    int fd = connect_nbd(false);
    memset(bytes, 0x5a, sizeof(bytes));
    CHECK_EQ(write_at(fd, 4096, bytes, sizeof(bytes)), NBD_OK);
    memset(bytes, 0, sizeof(bytes));
    CHECK_EQ(read_at(fd, 4096, bytes, sizeof(bytes)), NBD_OK);
    CHECK(all(bytes, sizeof(bytes), 0x5a));
    close(fd);
}

/* Commands that nobody has read when the client closes its side are given up, and not carried out. */
static void test_unread_commands(void)
{
    enum { PART = 32 << 10, PARTS = 4 };
    uint8_t *data = calloc(1, PART);
    int fd = connect_nbd(false);

    for (uint32_t i = 0; i < PARTS; i++)
        CHECK_EQ(write_at(fd, i * PART, data, PART), NBD_OK);
    memset(data, 0x77, PART);
    kill(server, SIGSTOP);
    for (uint32_t i = 0; i < PARTS; i++)
        put_command(fd, 0, NBD_CMD_WRITE, i, i * PART, PART, data);
    close(fd);
    kill(server, SIGCONT);
    fd = connect_nbd(false);
    CHECK_EQ(read_at(fd, (PARTS - 1) * PART, data, PART), NBD_OK);
    CHECK(all(data, PART, 0));
    usleep(50000);
    CHECK_EQ(read_at(fd, (PARTS - 1) * PART, data, PART), NBD_OK);
    CHECK(all(data, PART, 0));
    close(fd);
    free(data);
}

/* What a lost connection has under way does not take effect over what is written by another one, though that
 * was there before. */
static void test_other_connection(void)
{
    enum { FLAGS = NBD_CMD_FLAG_NO_HOLE };
    uint8_t block[4096];
    uint64_t cookie = 0;

    for (uint32_t round = 0; round < 5; round++) {
        int lost = connect_nbd(false), other = connect_nbd(false);
        uint64_t last = IMAGE_SIZE - sizeof(block);
        put_command(lost, FLAGS, NBD_CMD_WRITE_ZEROES, 1, 0, IMAGE_SIZE, NULL);
        /* It has been taken in when the next one is answered. */
        put_command(lost, 0, NBD_CMD_FLUSH, 2, 0, 0, NULL);
        CHECK_EQ(get_simple(lost, &cookie), NBD_OK);
        CHECK_EQ(cookie, 2);
        close(lost);
        memset(block, 0x66, sizeof(block));
        CHECK_EQ(write_at(other, last, block, sizeof(block)), NBD_OK);
        usleep(100000);
        CHECK_EQ(read_at(other, last, block, sizeof(block)), NBD_OK);
        CHECK(all(block, sizeof(block), 0x66));
        close(other);
    }
}

/* What a connection that is told the size now is told, without going on to commands. */
static uint64_t size_told(void)
{
    uint8_t bytes[152];
    int fd = dial();

    CHECK(get(fd, bytes, 18));
    put(fd, "\0\0\0\3", 4);
    put_option(fd, NBD_OPT_EXPORT_NAME, NULL, 0);
    CHECK(get(fd, bytes, 10));
    close(fd);
    return be_load_u64(bytes);
}

/* Who comes back after the image was resized is told so, though commands of its former connection are still
 * under way: one that is gone, or that has said goodbye and waits for their end. */
static void resized(bool says_goodbye)
{
    uint8_t block[4096] = {0};
    uint64_t cookie;
    int fd = connect_nbd(false);

    fake_process_resize(cluster);
    CHECK_EQ(write_at(fd, 0, block, sizeof(block)), NBD_OK); /* so it has heard of that */
    CHECK_EQ(size_told(), IMAGE_SIZE);                       /* the other one relies on it */
    kill(cluster, SIGSTOP);
    put_command(fd, 0, NBD_CMD_WRITE, 1, 0, sizeof(block), block);
    put_command(fd, 0, NBD_CMD_FLUSH, 2, 0, 0, NULL);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    CHECK_EQ(cookie, 2); /* and the write is under way */
    if (says_goodbye)
        put_command(fd, 0, NBD_CMD_DISC, 3, 0, 0, NULL);
    else
        close(fd);
    uint64_t told = 0;
    for (uint32_t i = 0; i < 50 && told != IMAGE_SIZE / 2; i++) {
        told = size_told();
        usleep(20000);
    }
    CHECK_EQ(told, IMAGE_SIZE / 2);
    kill(cluster, SIGCONT);
    if (says_goodbye) {
        CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
        CHECK_EQ(cookie, 1);
        close(fd);
    }
    fd = connect_nbd(false);
    fake_process_resize(cluster);
    CHECK_EQ(write_at(fd, 0, block, sizeof(block)), NBD_OK);
    close(fd);
    for (told = 0; told != IMAGE_SIZE;)
        told = size_told();
}

static void test_resized(void)
{
    resized(false);
    resized(true);
}

/* What was taken in is answered before it ends. */
static void test_stop(void)
{
    uint8_t *data = calloc(1, MIB);
    int fd = connect_nbd(false), idle = connect_nbd(true), half = connect_nbd(false);
    uint32_t answered = 0;
    uint64_t cookie;

    for (uint32_t i = 0; i < 8; i++)
        put_command(fd, 0, NBD_CMD_WRITE, i, i * MIB, MIB, data);
    CHECK_EQ(get_simple(fd, &cookie), NBD_OK);
    put_command(half, 0, NBD_CMD_WRITE, 1, 0, MIB, NULL);
    put(half, data, 5000);
    kill(server, SIGTERM);
    while (get_simple(fd, &cookie) == NBD_OK)
        answered++;
    printf("# %u more answers\n", answered);
    CHECK_EQ(ended(server), 0);
    CHECK(access(path, F_OK) != 0);
    CHECK(!get(idle, data, 1));
    close(fd);
    close(idle);
    close(half);
    server_ended();
    free(data);
    server_start();
}

/* When it is told to, whatever its clients do. */
static bool ends_in_order(void)
{
    int status = -1, patience;

    kill(server, SIGTERM);
    for (patience = 300; patience && waitpid(server, &status, WNOHANG) == 0; patience--)
        usleep(100000);
    if (patience == 0) {
        kill(server, SIGKILL);
        waitpid(server, &status, 0);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Nor does a client that takes no answers hold up the end. */
static void test_stop_with_slow_readers(void)
{
    int slow[] = {connect_nbd(false), connect_nbd(false), connect_nbd(true)};

    for (uint32_t i = 0; i < 20; i++) {
        put_command(slow[0], 0, NBD_CMD_READ, i, 0, 2 * MIB, NULL);
        put_command(slow[1], 0, NBD_CMD_READ, i, 0, IMAGE_SIZE, NULL);
        put_command(slow[2], 0, NBD_CMD_READ, i, 0, IMAGE_SIZE, NULL);
    }
    usleep(100000);
    CHECK(ends_in_order());
    for (uint32_t i = 0; i < ARRAY_LEN(slow); i++)
        close(slow[i]);
    unlink(path);
    server_ended();
    server_start();
}

/* Whoever read what it says has gone: it has something to say, and serves on. */
static void test_nobody_reads_what_it_says(void)
{
    uint8_t bytes[18];
    int fd = dial();

    close(server_out);
    CHECK(get(fd, bytes, 18));
    put(fd, "\377\377\377\377", 4);
    CHECK(!get(fd, bytes, 1));
    close(fd);
    fd = connect_nbd(false);
    CHECK_EQ(read_at(fd, 0, bytes, sizeof(bytes)), NBD_OK);
    close(fd);
    kill(server, SIGTERM);
    CHECK_EQ(ended(server), 0);
    server_start();
}

/* Files may be opened beyond what a shell allows if the system lets it. */
static void test_more_files_than_usual(void)
{
    enum { USUAL = 24, CONNECTIONS = 32 };
    struct rlimit limit, usual;
    uint32_t greeted = 0;
    uint8_t bytes[18];
    int fds[CONNECTIONS];

    server_stop();
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    usual = (struct rlimit){USUAL, limit.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
    server_start();
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        fds[i] = dial();
        be_patient(fds[i], 20);
        greeted += greeted == i && get(fds[i], bytes, sizeof(bytes));
    }
    CHECK_EQ(greeted, CONNECTIONS);
    for (uint32_t i = 0; i < CONNECTIONS; i++)
        close(fds[i]);
}

/* ---- a storm ---- */

#define STORM_CLIENTS 24

static uint32_t storm_state;

static uint32_t storm_random(uint32_t below)
{
    storm_state = storm_state * 1664525 + 1013904223;
    return (storm_state >> 8) % below;
}

/* One that sends and takes in any pieces, and breaks off anywhere. */
struct storm_client {
    int fd;
    uint8_t *out; /* what it has to say: a command with its payload */
    size_t len, at;
};

static void storm_begin(struct storm_client *c)
{
    c->fd = connect_nbd(storm_random(2));
    c->len = c->at = 0;
}

static void storm_end(struct storm_client *c)
{
    if (storm_random(4) == 0)
        shutdown(c->fd, SHUT_WR);
    close(c->fd);
}

static void storm_command(struct storm_client *c)
{
    static const uint32_t types[] = {
        NBD_CMD_READ,         NBD_CMD_READ,  NBD_CMD_READ,         NBD_CMD_WRITE, NBD_CMD_TRIM,
        NBD_CMD_WRITE_ZEROES, NBD_CMD_FLUSH, NBD_CMD_BLOCK_STATUS, NBD_CMD_WRITE, 77};
    static const uint32_t lens[] = {1, 4096, 70000, 2 * MIB, 2 * MIB + 1, 5 * MIB, IMAGE_SIZE};
    uint32_t type = types[storm_random(ARRAY_LEN(types))], len = lens[storm_random(ARRAY_LEN(lens))];
    uint32_t offset = storm_random(2) ? 0 : storm_random(MIB);
    uint32_t flags = type == NBD_CMD_WRITE_ZEROES && storm_random(2) ? NBD_CMD_FLAG_NO_HOLE : 0;
    uint8_t *at = be_put_u32(c->out, NBD_MAGIC_REQUEST);

    if (storm_random(100) == 0)
        type = NBD_CMD_DISC;
    if (type == NBD_CMD_WRITE && storm_random(8)) /* the large ones take many steps */
        len = MIN(len, 70000u);
    if (type == NBD_CMD_FLUSH)
        offset = len = 0;
    at = be_put_u16(at, (uint16_t)flags);
    at = be_put_u16(at, (uint16_t)type);
    at = be_put_u64(at, storm_state);
    at = be_put_u64(at, offset);
    at = be_put_u32(at, len);
    c->at = 0;
    c->len = (size_t)(at - c->out) + (type == NBD_CMD_WRITE ? len : 0);
}

/* False: it is over. */
static bool storm_step(struct storm_client *c)
{
    static uint8_t taken[256 << 10];
    ssize_t got = 1;

    switch (storm_random(8)) {
    case 0:
    case 1:
        got = recv(c->fd, taken, storm_random(sizeof(taken)) + 1, MSG_DONTWAIT);
        break;
    case 2:
        if (storm_random(20) == 0)
            return false;
        break;
    default:
        if (c->at == c->len)
            storm_command(c);
        size_t part = storm_random(1u << storm_random(22)) + 1;
        got = send(c->fd, c->out + c->at, MIN(c->len - c->at, part), MSG_DONTWAIT | MSG_NOSIGNAL);
        c->at += got > 0 ? (size_t)got : 0;
    }
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
}

/* Whatever others do, one is served; and the end, in the midst of it, finds all memory back. */
static void test_storm(void)
{
    const char *rounds = getenv("NBD_STORMS");
    struct storm_client clients[STORM_CLIENTS];
    uint8_t *data = malloc(3 * MIB);

    for (uint32_t i = 0; i < STORM_CLIENTS; i++)
        clients[i].out = calloc(1, IMAGE_SIZE + MIB);
    for (uint32_t round = 1, last = rounds ? (uint32_t)atoi(rounds) : 1; round <= last; round++) {
        storm_state = round;
        int fd = connect_nbd(false);
        be_patient(fd, 30);
        for (uint32_t i = 0; i < STORM_CLIENTS; i++)
            storm_begin(&clients[i]);
        for (uint32_t step = 0; step < 10000; step++) {
            struct storm_client *c = &clients[storm_random(STORM_CLIENTS)];
            if (!storm_step(c)) {
                storm_end(c);
                storm_begin(c);
            }
            if (step % 1000 == 0 && !is_served(fd, data)) {
                printf("# not in round %u, step %u\n", round, step);
                CHECK(false);
                break;
            }
        }
        CHECK(ends_in_order());
        for (uint32_t i = 0; i < STORM_CLIENTS; i++)
            close(clients[i].fd);
        close(fd);
        unlink(path);
        server_ended();
        server_start();
    }
    for (uint32_t i = 0; i < STORM_CLIENTS; i++)
        free(clients[i].out);
    free(data);
}

static void test_arguments(void)
{
    static const struct {
        const char *image, *arguments[6];
        int status;
        const char *says;
    } rows[] = {
        {"pool/image", {"--bogus", NULL}, 2, "--help"},
        {"pool/image", {NULL}, 2, "where to listen"},
        {"image", {"--unix", path, NULL}, 2, "POOL/IMAGE"},
        {"pool/image", {"other", "--unix", path, NULL}, 2, "one image"},
        {"pool/image", {"--unix", path, "--tcp", "127.0.0.1:0", NULL}, 2, "either"},
        {"pool/image", {"--unix", path, "--timeout", "soon", NULL}, 2, "not a number"},
        {"pool/image", {"--unix", path, NULL}, 1, "another process"},
        {"pool/image", {"--tcp", "nowhere", NULL}, 1, "numeric"},
        {"pool/none", {"--tcp", "127.0.0.1:0", NULL}, 1, "no such image"},
        {"pool/image",
         {"--tcp", "127.0.0.1:0", "--mon", "127.0.0.1:1", NULL},
         1,
         "no monitor answers at 127.0.0.1:1"},
        {"pool/image", {"--help", NULL}, 0, "usage"},
    };
    char line[512];
    int out;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pid_t pid = start(rows[i].image, rows[i].arguments, &out);
        if (!says(out, rows[i].says, line, sizeof(line))) {
            printf("# row %zu does not say: %s\n", i, rows[i].says);
            CHECK(false);
        }
        while (read(out, line, sizeof(line)) > 0)
            ;
        CHECK_EQ(ended(pid), rows[i].status);
        close(out);
    }
    /* The live server was not harmed by the one that wanted its socket. */
    int fd = connect_nbd(false);
    CHECK_EQ(read_at(fd, 0, line, sizeof(line)), NBD_OK);
    close(fd);
}

static void test_tcp_and_read_only(void)
{
    const char *const arguments[] = {"--tcp", "127.0.0.1:0", "--read-only", NULL};
    char line[512];
    int out;

    pid_t pid = start("pool/image", arguments, &out);
    CHECK(says(out, "ready: pool/image (16 MiB, read-only) at 127.0.0.1:", line, sizeof(line)));
    kill(pid, SIGINT);
    CHECK_EQ(ended(pid), 0);
    close(out);
}

int main(int argc, char **argv)
{
    char monitors[128];

    if (argc != 2 || !mkdtemp(directory))
        return 2;
    program = argv[1];
    snprintf(path, sizeof(path), "%s/socket", directory);
    cluster = fake_process_start(monitors);
    setenv("FASTBLOCK_MON", monitors, 1);
    server_start();
    TEST(test_many_in_flight);
    TEST(test_long_reads);
    TEST(test_refused);
    TEST(test_zeroes);
    TEST(test_failures);
    TEST(test_slow_reader);
    TEST(test_slow_chunks);
    TEST(test_slow_readers);
    TEST(test_slow_goodbyes);
    TEST(test_slow_long_reads);
    TEST(test_silent_connections);
    TEST(test_broken_clients);
    TEST(test_unread_commands);
    TEST(test_other_connection);
    TEST(test_resized);
    TEST(test_arguments);
    TEST(test_tcp_and_read_only);
    TEST(test_nobody_reads_what_it_says);
    TEST(test_more_files_than_usual);
    TEST(test_stop);
    TEST(test_stop_with_slow_readers);
    TEST(test_storm);
    server_stop();
    fake_process_stop(cluster);
    rmdir(directory);
    return tap_done();
}
