/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata suite on etcd, and what a cluster adds: members are killed and come back (three members); TLS
 * with certificates on both sides, login, tokens that are no longer known (one member).
 *
 *   test_port_meta_etcd MEMBERS [tls]
 */
#include "backend/etcd_meta.h"
#include "tests/port/etcd.h"
#include "tests/port/meta_suite.h"
#include "tests/port/real.h"

#define COUNTS 300 /* of the counter that goes on while members die */

static struct real_world real;
static struct etcd_cluster etcd;

static void compact(struct meta_suite *suite)
{
    char body[64], answer[1024];

    for (int i = 0; i < etcd.count; i++) {
        if (!etcd.pids[i])
            continue;
        CHECK_EQ(etcd_post(&etcd, i, "/v3/kv/range", "{\"key\":\"eA==\"}", answer), 200);
        snprintf(body, sizeof(body), "{\"revision\":\"%llu\",\"physical\":true}",
                 etcd_number(answer, "revision"));
        CHECK_EQ(etcd_post(&etcd, i, "/v3/kv/compaction", body, answer), 200);
        return;
    }
}

/* etcd://..., all members; `options` behind it. */
static const char *address(const char *options)
{
    static char text[512];
    int len = snprintf(text, sizeof(text), "etcd://");

    for (int i = 0; i < etcd.count; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%s127.0.0.1:%d", i ? "," : "",
                        etcd.client_ports[i]);
    snprintf(text + len, sizeof(text) - (size_t)len, "/test/store%s", options);
    return text;
}

static int open_at(const char *text, struct meta **ret_meta)
{
    char message[256];
    return etcd_meta_open(real.uc[0], text, ret_meta, message, sizeof(message));
}

static void addresses_are_checked(void)
{
    static const char *const wrong[] = {
        "",
        "etcd:/",
        "http://127.0.0.1:1",
        "etcd://",
        "etcd://127.0.0.1",
        "etcd://127.0.0.1:0",
        "etcd://127.0.0.1:65536",
        "etcd://127.0.0.1:1,",
        "etcd://a b:1",
        "etcd://u@h:1",
        "etcd://[::1:1",
        "etcd://[]:1",
        "etcd://h:1/",
        "etcd://h:1/a/",
        "etcd://h:1/p?",
        "etcd://h:1/p?ca=",
        "etcd://h:1/p?color=red",
        "etcd://h:1?cert=a&key=b",
        "etcd://h:1?ca=a&cert=b",
        "etcd://h:1?user=a",
        "etcd://h:1,h:1,h:1,h:1,h:1,h:1,h:1,h:1,h:1",
    };
    struct meta *meta = NULL;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int result = open_at(wrong[i], &meta);
        CHECK_EQ(result, -ERR_INVALID);
        if (result != -ERR_INVALID)
            printf("# '%s'\n", wrong[i]);
    }
    CHECK_EQ(open_at("etcd://h:1?user=a&password-file=/nonexistent/p", &meta), -ERR_NOT_FOUND);
    CHECK(meta == NULL);
    CHECK_EQ(open_at("etcd://h-1.example:1,[::1]:2", &meta), 0);
    if (meta)
        meta->ops->close(meta);
}

/* Other prefixes' keys are not seen, and the store ends where the prefix does. */
static void prefixes_keep_apart(void)
{
    struct meta *first = meta_suite_now->meta, *other = NULL;
    char text[512];

    snprintf(text, sizeof(text), "%s2", address(""));
    CHECK_EQ(open_at(text, &other), 0);
    put("apart", "one");
    meta_suite_now->meta = other;
    CHECK_EQ(get("apart", NULL), 0);
    put("apart", "two");
    meta_suite_now->meta = first;
    CHECK(get("apart", "one") > 0);
    put("apart", NULL);
    other->ops->close(other);
}

/* More keys than one page has, and more bytes than one answer may have. */
static void large_ranges_come_in_pages(void)
{
    enum { KEYS = 1200, LARGE = 20 };
    static char keys[KEYS][24];
    struct meta_change changes[META_TXN_OPS_MAX];
    char *large = malloc(META_VALUE_MAX);
    struct meta_range range = {.first = "page/", .end = "page0"};
    bool ordered = true;

    memset(large, 'x', META_VALUE_MAX);
    for (int i = 0; i < KEYS;) {
        struct meta_txn txn = {.changes = changes};
        for (; i < KEYS && txn.change_count < META_TXN_OPS_MAX; i++) {
            snprintf(keys[i], sizeof(keys[i]), "page/%04d", i);
            changes[txn.change_count++] = (struct meta_change){keys[i], "v", 1, 0};
        }
        CHECK_EQ(do_txn(&txn), 0);
    }
    for (int i = 0; i < LARGE; i++) {
        struct meta_change change = {keys[i * 3], large, META_VALUE_MAX, 0};
        struct meta_txn txn = {.changes = &change, .change_count = 1};
        CHECK_EQ(do_txn(&txn), 0);
    }
    free(large);
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, KEYS);
    CHECK(!range.ret_more);
    for (uint32_t i = 0; i < range.ret_count; i++)
        ordered &= strcmp(range.ret_kvs[i].key, keys[i]) == 0 &&
                   range.ret_kvs[i].value_len == (i % 3 == 0 && i < LARGE * 3 ? META_VALUE_MAX : 1);
    CHECK(ordered);
    range_end(&range);
    range.limit = KEYS - 1;
    CHECK_EQ(do_range(&range), 0);
    CHECK_EQ(range.ret_count, KEYS - 1);
    CHECK(range.ret_more);
    range_end(&range);
    for (int i = 0; i < KEYS;) {
        struct meta_txn txn = {.changes = changes};
        for (; i < KEYS && txn.change_count < META_TXN_OPS_MAX; i++)
            changes[txn.change_count++] = (struct meta_change){keys[i], NULL, 0, 0};
        CHECK_EQ(do_txn(&txn), 0);
    }
}

struct counter {
    uint64_t value, revision;
    uint32_t unknown, refused;
};

static void counter_read(struct counter *c)
{
    struct meta_range range = {.first = "w/counter"};

    CHECK_EQ(do_range(&range), 0);
    c->value = range.ret_count ? strtoull(range.ret_kvs[0].value, NULL, 10) : 0;
    c->revision = range.ret_count ? range.ret_kvs[0].mod_revision : 0;
    range_end(&range);
}

/* One more, by compare-and-swap. Nobody else counts: a conflict is a transaction that met itself. */
static void counter_add(struct counter *c)
{
    char text[24];
    struct counter now;

    snprintf(text, sizeof(text), "%08llu", (unsigned long long)c->value + 1);
    struct meta_condition condition = {"w/counter", c->revision};
    struct meta_change change = {"w/counter", text, 9, 0};
    struct meta_txn txn = {
        .conditions = &condition, .condition_count = 1, .changes = &change, .change_count = 1};
    int result = do_txn(&txn);
    if (result == 0) {
        c->value++;
        c->revision = txn.ret_revision;
        return;
    }
    if (result == -ERR_CONFLICT) {
        c->refused++;
        counter_read(c);
        return;
    }
    c->unknown++;
    counter_read(&now);
    CHECK(now.value == c->value || now.value == c->value + 1);
    c->value = now.value;
    c->revision = now.revision;
}

static int killed;

static void counting_goes_on_without_a_member(void)
{
    struct counter c = {0};
    struct watching w = {0};

    put("w/counter", "00000000");
    counter_read(&c);
    uint64_t start = c.revision;
    watch_start(&w, start);
    while (c.value < COUNTS && tap_ok) {
        if (c.value == COUNTS / 3)
            etcd_kill(&etcd, killed);
        counter_add(&c);
    }
    printf("# member %d killed: %u outcomes unknown\n", killed, c.unknown);
    /* What was proposed to a member that dies may come to count later, so that the next attempt finds a
     * conflict; but only then. */
    CHECK(c.refused <= c.unknown);
    CHECK(c.unknown <= 5);
    counter_read(&c);
    CHECK_EQ(c.value, COUNTS);
    /* The watch goes on, too, and has missed none. */
    CHECK(watch_run(&w, COUNTS));
    CHECK(w.count == COUNTS && !w.disorder && !w.compacted_at);
    CHECK_EQ(w.last_revision, c.revision);
    watch_stop(&w);
    put("w/counter", NULL);
}

static void return_member(int member)
{
    etcd_start(&etcd, member);
    CHECK(etcd_wait(&etcd));
}

static void members_die_and_come_back(struct meta_suite *suite)
{
    killed = etcd_leader(&etcd);
    for (int round = 0; round < 2; round++) {
        waiter_start(suite->world, &meta_waiter);
        TEST(counting_goes_on_without_a_member);
        waiter_stop(suite->world, &meta_waiter);
        meta_suite(suite); /* on two of three */
        return_member(killed);
        /* Then one that follows: the other two have a leader all the time. */
        killed = (etcd_leader(&etcd) + 1) % etcd.count;
    }
}

/* A member hangs: its connections stay, and say nothing. Who finds that out by a request tells the watches.
 */
static void watches_leave_a_member_that_hangs(void)
{
    struct meta *before = meta_suite_now->meta;
    struct watching w = {0};

    CHECK_EQ(open_at(address(""), &meta_suite_now->meta), 0); /* member 0 is asked first */
    watch_start(&w, put("w/hangs", "1") - 1);
    CHECK(watch_run(&w, 1));
    kill(etcd.pids[0], SIGSTOP);
    CHECK(get("w/hangs", "1") > 0);
    put("w/hangs", "2");
    uint64_t start_ns = core_now_ns(real.world.core[0]);
    CHECK(watch_run(&w, 2));
    CHECK(core_now_ns(real.world.core[0]) - start_ns < 5 * NS_PER_S);
    kill(etcd.pids[0], SIGCONT);
    watch_stop(&w);
    put("w/hangs", NULL);
    meta_suite_now->meta->ops->close(meta_suite_now->meta);
    meta_suite_now->meta = before;
}

static uint32_t said;

static void count_log(void *self, enum log_level level, const char *room, const char *line)
{
    said++;
}

/* Nobody there: an error in bounded time, said once, and everything goes on afterwards. */
static void without_etcd_requests_fail(void)
{
    struct meta_range range = {.first = "a"};
    struct meta_txn txn = {0};
    uint64_t start_ns = core_now_ns(real.world.core[0]);
    const struct env_ops *env = real.world.core[0]->env;
    struct env_ops counting = *env;

    counting.log = count_log;
    real.world.core[0]->env = &counting;
    put("kept", "value");
    etcd_kill(&etcd, 0);
    range_start(&range);
    txn_start(&txn);
    CHECK(real_run(&real.world, range_done, &range, WORLD_WAIT_NS));
    CHECK(real_run(&real.world, txn_done, &txn, WORLD_WAIT_NS));
    CHECK(range.result < 0 && txn.result < 0 && txn.result != -ERR_CONFLICT);
    CHECK(core_now_ns(real.world.core[0]) - start_ns < 15 * NS_PER_S);
    range_end(&range);
    CHECK_EQ(said, 1);
    real.world.core[0]->env = env;
    return_member(0);
    CHECK(get("kept", "value") > 0);
}

/* TLS and login. */

static bool make_certificates(void)
{
    char command[1600];

    snprintf(
        command, sizeof(command),
        "exec >openssl.log 2>&1; set -e; "
        "printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' >ext; "
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2; "
        "for n in server client; do "
        "openssl req -newkey rsa:2048 -nodes -keyout $n.key -out $n.csr -subj /O=$n; "
        "openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $n.pem -days 2 -extfile ext; "
        "done; openssl req -x509 -newkey rsa:2048 -nodes -keyout x.key -out foreign.pem -subj /CN=x -days 2; "
        "printf 'se\"cret\\n' >password; printf 'wrong\\n' >wrong");
    char here[128];
    bool good = getcwd(here, sizeof(here)) && chdir(etcd.folder) == 0;
    good = good && system(command) == 0;
    return chdir(here) == 0 && good;
}

static bool enable_login(void)
{
    static const char *const steps[][2] = {
        {"/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"se\\\"cret\"}"},
        {"/v3/auth/role/add", "{\"name\":\"root\"}"},
        {"/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}"},
        {"/v3/auth/enable", "{}"},
    };
    char answer[1024];

    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (etcd_post(&etcd, 0, steps[i][0], steps[i][1], answer) != 200) {
            printf("# %s: %s\n", steps[i][0], answer);
            return false;
        }
    return true;
}

static const char *secure_address(const char *ca, const char *password)
{
    static char options[512];

    snprintf(options, sizeof(options), "?ca=%s/%s&cert=%s/client.pem&key=%s/client.key%s%s%s%s", etcd.folder,
             ca, etcd.folder, etcd.folder, password ? "&user=root&password-file=" : "",
             password ? etcd.folder : "", password ? "/" : "", password ? password : "");
    return address(options);
}

static int range_at(const char *text)
{
    struct meta *before = meta_suite_now->meta;
    struct meta_range range = {.first = "a"};
    int result = open_at(text, &meta_suite_now->meta);

    if (!result) {
        result = do_range(&range);
        range_end(&range);
        meta_suite_now->meta->ops->close(meta_suite_now->meta);
    }
    meta_suite_now->meta = before;
    return result;
}

static void strangers_are_refused(void)
{
    CHECK_EQ(range_at(secure_address("ca.pem", "password")), 0);
    CHECK_EQ(range_at(secure_address("ca.pem", "wrong")), -ERR_DENIED);
    CHECK_EQ(range_at(secure_address("ca.pem", NULL)), -ERR_DENIED);
    /* A server whose certificate another authority has signed gets nothing from us. */
    CHECK_EQ(range_at(secure_address("foreign.pem", "password")), -ERR_UNREACHABLE);
}

/* A member forgets its tokens when it ends. */
static void a_lost_token_is_replaced(void)
{
    struct watching w = {0};
    uint64_t revision = put("w/token", "1");

    watch_start(&w, revision - 1);
    CHECK(watch_run(&w, 1));
    etcd_kill(&etcd, 0);
    etcd_start(&etcd, 0);
    CHECK_EQ(get("w/token", "1"), revision);
    put("w/token", "2");
    CHECK(watch_run(&w, 2));
    watch_stop(&w);
}

int main(int argc, char **argv)
{
    struct meta_suite suite = {.world = &real.world, .compact = compact};

    etcd = (struct etcd_cluster){
        .count = argc > 1 ? atoi(argv[1]) : 1, .tls = argc > 2, .folder = "/tmp/fastblock-test-XXXXXX"};
    if (etcd.count < 1 || etcd.count > ETCD_MEMBERS_MAX || !mkdtemp(etcd.folder) ||
        !real_world_init(&real, 0, 1)) {
        printf("Bail out! no folder or no io_uring\n");
        return 1;
    }
    if ((etcd.tls && !make_certificates()) || !etcd_up(&etcd) || (etcd.tls && !enable_login()) ||
        open_at(etcd.tls ? secure_address("ca.pem", "password") : address(""), &suite.meta)) {
        printf("Bail out! cannot start etcd (Debian package etcd-server)\n");
        etcd_remove(&etcd);
        return 1;
    }
    if (etcd.tls)
        suite.compact = NULL;
    meta_suite_now = &suite;
    if (!etcd.tls) {
        meta_suite(&suite);
        waiter_start(suite.world, &meta_waiter);
        TEST(prefixes_keep_apart);
        TEST(large_ranges_come_in_pages);
        waiter_stop(suite.world, &meta_waiter);
    }
    waiter_start(suite.world, &meta_waiter);
    if (etcd.count == 1) {
        if (!etcd.tls)
            TEST(addresses_are_checked);
        if (etcd.tls)
            TEST(strangers_are_refused);
        if (etcd.tls)
            TEST(a_lost_token_is_replaced);
        if (!etcd.tls)
            TEST(without_etcd_requests_fail);
    }
    waiter_stop(suite.world, &meta_waiter);
    if (etcd.count > 2) {
        waiter_start(suite.world, &meta_waiter);
        TEST(watches_leave_a_member_that_hangs);
        waiter_stop(suite.world, &meta_waiter);
        members_die_and_come_back(&suite);
    }
    suite.meta->ops->close(suite.meta);
    real_world_fini(&real);
    etcd_remove(&etcd);
    return tap_done();
}
