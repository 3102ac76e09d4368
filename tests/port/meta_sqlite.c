/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata suite on SQLite, and what a file adds: it is still there after a new start, and has one owner.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/port/meta_suite.h"
#include "tests/port/real.h"

static struct real_world real;
static char path[128];

static void the_store_outlives_the_process(void)
{
    struct meta *meta = meta_suite_now->meta;
    uint64_t revision;

    revision = put("kept", "value");
    meta->ops->close(meta);
    CHECK_EQ(sqlite_meta_open(real.world.core[0], path, META_SUITE_HISTORY, &meta_suite_now->meta), 0);
    CHECK_EQ(get("kept", "value"), revision);
    CHECK_EQ(put("kept", "more"), revision + 1);
    /* And so does the history. */
    struct watching w = {0};
    watch_start(&w, revision - 1);
    w.watch.first = "kept";
    w.watch.end = NULL;
    world_settle(meta_suite_now->world);
    CHECK_EQ(w.count, 2);
    watch_stop(&w);
}

static void files_are_checked(void)
{
    struct meta *other = NULL;
    char junk_path[160];
    FILE *junk;

    snprintf(junk_path, sizeof(junk_path), "%s.junk", path);
    junk = fopen(junk_path, "w");
    for (int i = 0; i < 5000; i++)
        fputc('x', junk);
    fclose(junk);
    CHECK_EQ(sqlite_meta_open(real.world.core[0], junk_path, 100, &other), -ERR_FORMAT);
    unlink(junk_path);
    CHECK_EQ(sqlite_meta_open(real.world.core[0], "/nonexistent/meta", 100, &other), -ERR_NOT_FOUND);
    /* Within one process SQLite's locks work as between two. */
    CHECK_EQ(sqlite_meta_open(real.world.core[0], path, 100, &other), -ERR_LOCKED);
    CHECK(other == NULL);
}

static uint32_t said;

static void count_log(void *self, enum log_level level, const char *room, const char *line)
{
    said++;
}

/* Nothing can be written for a while: it is said once, however often it is tried, and then it goes on. */
static void what_fails_again_and_again_is_said_once(void)
{
    struct core *core = real.world.core[0];
    const struct env_ops *env = core->env;
    struct env_ops counting = *env;
    struct rlimit was, none;

    counting.log = count_log;
    core->env = &counting;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &was), 0);
    none = (struct rlimit){1, was.rlim_max};
    for (uint32_t round = 1; round <= 2; round++) {
        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
        for (int i = 0; i < 5; i++) {
            struct meta_change change = {"kept", "lost", 4, 0};
            struct meta_txn txn = {.changes = &change, .change_count = 1};
            CHECK(do_txn(&txn) < 0);
            CHECK(get("kept", "more") > 0);
        }
        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &was), 0);
        CHECK_EQ(said, round);
        put("kept", "more");
    }
    core->env = env;
}

int main(void)
{
    char folder[] = "/tmp/fastblock-test-XXXXXX", file[160];
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    struct meta_suite suite = {.world = &real.world};

    if (!mkdtemp(folder) || !real_world_init(&real, 0, 1)) {
        printf("Bail out! no folder or no io_uring\n");
        return 1;
    }
    snprintf(path, sizeof(path), "%s/meta", folder);
    if (sqlite_meta_open(real.world.core[0], path, META_SUITE_HISTORY, &suite.meta)) {
        printf("Bail out! cannot open the store\n");
        return 1;
    }
    meta_suite(&suite);
    waiter_start(suite.world, &meta_waiter);
    TEST(the_store_outlives_the_process);
    TEST(files_are_checked);
    TEST(what_fails_again_and_again_is_said_once);
    waiter_stop(suite.world, &meta_waiter);
    suite.meta->ops->close(suite.meta);
    real_world_fini(&real);
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        snprintf(file, sizeof(file), "%s%s", path, endings[i]);
        unlink(file);
    }
    rmdir(folder);
    return tap_done();
}
