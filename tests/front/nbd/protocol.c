/* SPDX-License-Identifier: Apache-2.0
 *
 * The NBD state machine by byte scripts: what a client says, and exactly what comes back.
 *
 * A script is text: words are hex bytes ("00 2a"), numbers of a width ("u16:7", "u32:4096", "u64:0"), or
 * strings ('text').
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "front/nbd/be.h"
#include "front/nbd/nbd_protocol.h"
#include "front/nbd/nbd_reply.h"
#include "tests/tap.h"

#define IMAGE_SIZE 1048576u

static const struct nbd_export export_rw = {.name = "p/i", .description = "d", .size_bytes = IMAGE_SIZE};
static const struct nbd_export export_ro = {
    .name = "p/i", .description = "d", .size_bytes = IMAGE_SIZE, .read_only = true};

static size_t script_bytes(const char *script, uint8_t *to, size_t cap)
{
    uint8_t *at = to;

    while (*script) {
        CHECK((size_t)(at - to) + 16 < cap);
        if (*script == ' ') {
            script++;
        } else if (*script == '\'') {
            for (script++; *script != '\''; script++)
                *at++ = (uint8_t)*script;
            script++;
        } else if (*script == 'u') {
            char *end;
            int bits = (int)strtol(script + 1, &end, 10);
            uint64_t value = strtoull(end + 1, &end, 0);
            at = bits == 16   ? be_put_u16(at, (uint16_t)value)
                 : bits == 32 ? be_put_u32(at, (uint32_t)value)
                              : be_put_u64(at, value);
            script = end;
        } else {
            char *end;
            *at++ = (uint8_t)strtoul(script, &end, 16);
            script = end;
        }
    }
    return (size_t)(at - to);
}

static struct nbd_protocol p;
static struct nbd_command command;

/* Feeds the bytes; the step that the last one led to. Everything that was to be sent is left in p.out. */
static enum nbd_step feed(const char *script)
{
    uint8_t bytes[32768];
    size_t left = script_bytes(script, bytes, sizeof(bytes)), len;
    const uint8_t *at = bytes;
    enum nbd_step step = NBD_STEP_MORE;

    p.out_len = 0;
    while (left) {
        uint8_t *to = nbd_protocol_want(&p, &len);
        if (len > left) {
            CHECK(!"the script ends where the machine wants more");
            return NBD_STEP_CLOSE;
        }
        memcpy(to, at, len);
        at += len;
        left -= len;
        step = nbd_protocol_input(&p, &command);
        if (step != NBD_STEP_MORE)
            CHECK_EQ(left, 0);
    }
    return step;
}

static bool answers(const char *script)
{
    uint8_t bytes[4096];
    size_t len = script_bytes(script, bytes, sizeof(bytes));
    bool same = len == p.out_len && memcmp(bytes, p.out, len) == 0;

    if (!same) {
        printf("# expected %zu bytes, got %u:", len, p.out_len);
        for (uint32_t i = 0; i < p.out_len; i++)
            printf(" %02x", p.out[i]);
        printf("\n");
    }
    return same;
}

#define OPT "'IHAVEOPT' "
#define REP "00 03 e8 89 04 55 65 a9 "

static void greet(const struct nbd_export *export)
{
    nbd_protocol_start(&p, export);
    CHECK(answers("'NBDMAGIC' 'IHAVEOPT' 00 03"));
    CHECK_EQ(feed("00 00 00 03"), NBD_STEP_MORE);
    CHECK(answers(""));
}

static void test_greeting(void)
{
    nbd_protocol_start(&p, &export_rw);
    CHECK_EQ(feed("80 00 00 00"), NBD_STEP_CLOSE); /* a flag that nobody offered */
    greet(&export_rw);
    CHECK_EQ(feed("'NOTMAGIC' u32:1 u32:0"), NBD_STEP_CLOSE);
}

static void test_export_name(void)
{
    greet(&export_rw);
    CHECK_EQ(feed(OPT "u32:1 u32:3 'p/i'"), NBD_STEP_MORE);
    CHECK(answers("u64:1048576 u16:0x096d"));
    CHECK(nbd_protocol_transmits(&p));
    greet(&export_ro);
    CHECK_EQ(feed(OPT "u32:1 u32:0"), NBD_STEP_MORE);
    CHECK(answers("u64:1048576 u16:0x010f"));
    greet(&export_rw);
    CHECK_EQ(feed(OPT "u32:1 u32:5 'other'"), NBD_STEP_CLOSE);
    /* A client that does not know NO_ZEROES gets them. */
    nbd_protocol_start(&p, &export_rw);
    CHECK_EQ(feed("00 00 00 01 " OPT "u32:1 u32:0"), NBD_STEP_MORE);
    CHECK_EQ(p.out_len, 134);
    CHECK(p.out[133] == 0);
}

static void test_go(void)
{
    greet(&export_rw);
    CHECK_EQ(feed(OPT "u32:6 u32:9 u32:3 'p/i' u16:0"), NBD_STEP_MORE); /* INFO changes nothing */
    CHECK(answers(REP "u32:6 u32:3 u32:12 u16:0 u64:1048576 u16:0x096d " REP "u32:6 u32:1 u32:0"));
    CHECK(!nbd_protocol_transmits(&p));
    CHECK_EQ(feed(OPT "u32:7 u32:14 u32:0 u16:4 u16:3 u16:1 u16:2 u16:77"), NBD_STEP_MORE);
    CHECK(answers(REP "u32:7 u32:3 u32:12 u16:0 u64:1048576 u16:0x096d " REP
                      "u32:7 u32:3 u32:5 u16:1 'p/i' " REP "u32:7 u32:3 u32:3 u16:2 'd' " REP
                      "u32:7 u32:3 u32:14 u16:3 u32:1 u32:4096 u32:33554432 " REP "u32:7 u32:1 u32:0"));
    CHECK(nbd_protocol_transmits(&p));
}

static void test_go_refused(void)
{
    static const char *const bad[] = {
        OPT "u32:7 u32:0",                          /* nothing */
        OPT "u32:7 u32:3 00 00 00",                 /* too short */
        OPT "u32:7 u32:6 u32:3 u16:0",              /* the name is not there */
        OPT "u32:7 u32:6 u32:0xffffffff u16:0",     /* a name without end */
        OPT "u32:7 u32:6 u32:0 u16:1",              /* an info that is not there */
        OPT "u32:7 u32:10 u32:0 u16:1 u16:3 u16:3", /* one too many */
        OPT "u32:3 u32:1 00",                       /* LIST with data */
        OPT "u32:8 u32:1 00",                       /* STRUCTURED_REPLY with data */
        OPT "u32:10 u32:8 u32:0 u32:0",             /* contexts before structured replies */
    };

    greet(&export_rw);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_EQ(feed(bad[i]), NBD_STEP_MORE);
        CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_INVALID);
        CHECK(!nbd_protocol_transmits(&p));
    }
    CHECK_EQ(feed(OPT "u32:7 u32:7 u32:1 'x' u16:0"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_UNKNOWN);
    CHECK_EQ(feed(OPT "u32:5 u32:0"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_UNSUP);
    CHECK_EQ(feed(OPT "u32:11 u32:0"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_UNSUP);
    CHECK_EQ(feed(OPT "u32:4711 u32:3 'abc'"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_UNSUP);
    CHECK_EQ(feed(OPT "u32:2 u32:0"), NBD_STEP_DISCONNECT);
    CHECK(answers(REP "u32:2 u32:1 u32:0"));
}

static void test_long_options(void)
{
    uint8_t *to;
    size_t len;

    greet(&export_rw);
    CHECK_EQ(feed(OPT "u32:7 u32:20000"), NBD_STEP_MORE);
    uint32_t left = 20000;
    while (left) {
        to = nbd_protocol_want(&p, &len);
        memset(to, 0xff, len);
        CHECK(len <= left);
        left -= (uint32_t)len;
        CHECK_EQ(nbd_protocol_input(&p, &command), NBD_STEP_MORE);
    }
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_TOO_BIG);
    CHECK_EQ(feed(OPT "u32:3 u32:0"), NBD_STEP_MORE);
    CHECK(answers(REP "u32:3 u32:2 u32:7 u32:3 'p/i' " REP "u32:3 u32:1 u32:0"));
    CHECK_EQ(feed(OPT "u32:7 u32:0xffffffff"), NBD_STEP_CLOSE);
}

static void test_contexts(void)
{
    greet(&export_rw);
    CHECK_EQ(feed(OPT "u32:8 u32:0"), NBD_STEP_MORE);
    CHECK(answers(REP "u32:8 u32:1 u32:0"));
    static const char *const lists[] = {
        OPT "u32:9 u32:8 u32:0 u32:0",
        OPT "u32:9 u32:20 u32:3 'p/i' u32:1 u32:5 'base:'",
        OPT "u32:9 u32:31 u32:0 u32:2 u32:15 'base:allocation' u32:0",
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        CHECK_EQ(feed(lists[i]), NBD_STEP_MORE);
        CHECK(answers(REP "u32:9 u32:4 u32:19 u32:0 'base:allocation' " REP "u32:9 u32:1 u32:0"));
    }
    CHECK_EQ(feed(OPT "u32:9 u32:13 u32:0 u32:1 u32:1 'x'"), NBD_STEP_MORE);
    CHECK(answers(REP "u32:9 u32:1 u32:0"));
    CHECK(!p.allocation);
    CHECK_EQ(feed(OPT "u32:10 u32:27 u32:0 u32:1 u32:15 'base:allocation'"), NBD_STEP_MORE);
    CHECK(answers(REP "u32:10 u32:4 u32:19 u32:1 'base:allocation' " REP "u32:10 u32:1 u32:0"));
    CHECK(p.allocation);
    CHECK_EQ(feed(OPT "u32:10 u32:17 u32:0 u32:1 u32:5 'base:'"), NBD_STEP_MORE); /* no patterns here */
    CHECK(answers(REP "u32:10 u32:1 u32:0"));
    CHECK(!p.allocation);
    CHECK_EQ(feed(OPT "u32:10 u32:9 u32:1 'x' u32:0"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_UNKNOWN);
    CHECK_EQ(feed(OPT "u32:10 u32:12 u32:0 u32:1 u32:9"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_INVALID);
    CHECK_EQ(feed(OPT "u32:10 u32:12 u32:0 u32:0xffffffff u32:0"), NBD_STEP_MORE);
    CHECK_EQ(be_load_u32(p.out + 12), NBD_REP_ERR_INVALID);
}

static void transmit(const struct nbd_export *export, bool structured)
{
    greet(export);
    if (structured) {
        CHECK_EQ(feed(OPT "u32:8 u32:0"), NBD_STEP_MORE);
        CHECK_EQ(feed(OPT "u32:10 u32:27 u32:0 u32:1 u32:15 'base:allocation'"), NBD_STEP_MORE);
    }
    CHECK_EQ(feed(OPT "u32:7 u32:6 u32:0 u16:0"), NBD_STEP_MORE);
}

struct row {
    const char *what;
    uint32_t flags, type;
    uint64_t offset;
    uint32_t length;
    enum nbd_error error;
};

static void run_rows(const struct row *rows, size_t count)
{
    char script[128];

    for (size_t i = 0; i < count; i++) {
        snprintf(script, sizeof(script), "u32:0x25609513 u16:%u u16:%u u64:%zu u64:%llu u32:%u",
                 rows[i].flags, rows[i].type, i + 1000, (unsigned long long)rows[i].offset, rows[i].length);
        CHECK_EQ(feed(script), NBD_STEP_COMMAND);
        CHECK_EQ(p.out_len, 0);
        CHECK_EQ(command.cookie, i + 1000);
        CHECK_EQ(command.type, rows[i].type);
        CHECK_EQ(command.offset, rows[i].offset);
        CHECK_EQ(command.length, rows[i].length);
        CHECK_EQ(command.payload_len, rows[i].type == NBD_CMD_WRITE ? rows[i].length : 0);
        if (command.error != rows[i].error)
            printf("# %s: error %d\n", rows[i].what, command.error);
        CHECK_EQ(command.error, rows[i].error);
    }
}

static void test_commands(void)
{
    static const struct row rows[] = {
        {"read", 0, NBD_CMD_READ, 0, 4096, NBD_OK},
        {"read nothing", 0, NBD_CMD_READ, 0, 0, NBD_OK},
        {"read one byte at the end", 0, NBD_CMD_READ, IMAGE_SIZE - 1, 1, NBD_OK},
        {"read beyond", 0, NBD_CMD_READ, IMAGE_SIZE - 1, 2, NBD_EINVAL},
        {"read far beyond", 0, NBD_CMD_READ, UINT64_MAX, 2, NBD_EINVAL},
        {"read wrapping round", 0, NBD_CMD_READ, UINT64_MAX - 10, 4096, NBD_EINVAL},
        {"read too much", 0, NBD_CMD_READ, 0, NBD_PAYLOAD_MAX + 1, NBD_EINVAL},
        {"read whole", NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 4096, NBD_OK},
        {"write", 0, NBD_CMD_WRITE, 0, 4096, NBD_OK},
        {"write through", NBD_CMD_FLAG_FUA, NBD_CMD_WRITE, 0, 4096, NBD_OK},
        {"write beyond", 0, NBD_CMD_WRITE, IMAGE_SIZE, 1, NBD_ENOSPC},
        {"write too much", 0, NBD_CMD_WRITE, 0, NBD_PAYLOAD_MAX + 1, NBD_EINVAL},
        {"write with a strange flag", 1u << 9, NBD_CMD_WRITE, 0, 1, NBD_EINVAL},
        {"write with a flag of another", NBD_CMD_FLAG_DF, NBD_CMD_WRITE, 0, 1, NBD_EINVAL},
        {"flush", 0, NBD_CMD_FLUSH, 0, 0, NBD_OK},
        {"flush a range", 0, NBD_CMD_FLUSH, 4096, 0, NBD_EINVAL},
        {"trim", 0, NBD_CMD_TRIM, 0, IMAGE_SIZE, NBD_OK},
        {"trim beyond", 0, NBD_CMD_TRIM, 1, IMAGE_SIZE, NBD_EINVAL},
        {"zero", NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 0, IMAGE_SIZE, NBD_OK},
        {"zero beyond", 0, NBD_CMD_WRITE_ZEROES, 1, IMAGE_SIZE, NBD_ENOSPC},
        {"status", NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 0, IMAGE_SIZE, NBD_OK},
        {"status of nothing", 0, NBD_CMD_BLOCK_STATUS, 0, 0, NBD_EINVAL},
        {"cache", 0, NBD_CMD_CACHE, 0, 4096, NBD_EINVAL},
        {"an unknown command", 0, 99, 0, 4096, NBD_EINVAL},
    };

    transmit(&export_rw, true);
    run_rows(rows, ARRAY_LEN(rows));
    CHECK_EQ(feed("u32:0x25609513 u16:0 u16:2 u64:1 u64:0 u32:0"), NBD_STEP_DISCONNECT);
    CHECK_EQ(p.out_len, 0);
}

static void test_commands_refused(void)
{
    static const struct row read_only[] = {
        {"read", 0, NBD_CMD_READ, 0, 4096, NBD_OK},
        {"flush", 0, NBD_CMD_FLUSH, 0, 0, NBD_OK},
        {"write", 0, NBD_CMD_WRITE, 0, 4096, NBD_EPERM},
        {"trim", 0, NBD_CMD_TRIM, 0, 4096, NBD_EPERM},
        {"zero", 0, NBD_CMD_WRITE_ZEROES, 0, 4096, NBD_EPERM},
    };
    static const struct row simple[] = {
        {"read whole", NBD_CMD_FLAG_DF, NBD_CMD_READ, 0, 4096, NBD_EINVAL},
        {"status", 0, NBD_CMD_BLOCK_STATUS, 0, 4096, NBD_EINVAL},
    };

    transmit(&export_ro, true);
    run_rows(read_only, ARRAY_LEN(read_only));
    transmit(&export_rw, false);
    run_rows(simple, ARRAY_LEN(simple));
    CHECK_EQ(feed("u32:0x25609514 u16:0 u16:0 u64:1 u64:0 u32:0"), NBD_STEP_CLOSE);
    transmit(&export_rw, false);
    CHECK_EQ(feed("u32:0x25609513 u16:0 u16:1 u64:1 u64:0 u32:0xffffffff"), NBD_STEP_CLOSE);
}

static bool bytes_are(const uint8_t *bytes, size_t len, const char *script)
{
    uint8_t expected[256];

    return len == script_bytes(script, expected, sizeof(expected)) && memcmp(bytes, expected, len) == 0;
}

static void test_replies(void)
{
    static const struct nbd_extent extents[] = {{4096, true}, {8192, false}};
    uint8_t head[NBD_REPLY_HEAD_MAX];

    CHECK(bytes_are(head, nbd_reply_simple(head, 7, NBD_EIO), "67 44 66 98 u32:5 u64:7"));
    CHECK(bytes_are(head, nbd_reply_data(head, 7, true, 512, 100),
                    "66 8e 33 ef u16:1 u16:1 u64:7 u32:108 u64:512"));
    CHECK(bytes_are(head, nbd_reply_hole(head, 7, false, 512, 100),
                    "66 8e 33 ef u16:0 u16:2 u64:7 u32:12 u64:512 u32:100"));
    CHECK(bytes_are(head, nbd_reply_done(head, 7), "66 8e 33 ef u16:1 u16:0 u64:7 u32:0"));
    CHECK(bytes_are(head, nbd_reply_error(head, 7, NBD_ENOSPC, "full"),
                    "66 8e 33 ef u16:1 u16:0x8001 u64:7 u32:10 u32:28 u16:4 'full'"));
    CHECK(bytes_are(head, nbd_reply_status(head, 7, extents, 2),
                    "66 8e 33 ef u16:1 u16:5 u64:7 u32:20 u32:1 u32:4096 u32:0 u32:8192 u32:3"));
    CHECK_EQ(nbd_error_from(0, NBD_CMD_READ), NBD_OK);
    CHECK_EQ(nbd_error_from(-ERR_RANGE, NBD_CMD_WRITE), NBD_ENOSPC);
    CHECK_EQ(nbd_error_from(-ERR_RANGE, NBD_CMD_READ), NBD_EINVAL);
    CHECK_EQ(nbd_error_from(-ERR_FENCED, NBD_CMD_WRITE), NBD_ESHUTDOWN);
    CHECK_EQ(nbd_error_from(-ERR_TIMEOUT, NBD_CMD_WRITE), NBD_EIO);
}

int main(void)
{
    TEST(test_greeting);
    TEST(test_export_name);
    TEST(test_go);
    TEST(test_go_refused);
    TEST(test_long_options);
    TEST(test_contexts);
    TEST(test_commands);
    TEST(test_commands_refused);
    TEST(test_replies);
    return tap_done();
}
