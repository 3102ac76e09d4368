/* SPDX-License-Identifier: Apache-2.0
 */
#include "base/pool.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

static void objects_are_handed_out_once(void)
{
    struct pool pool;
    uint8_t *objects[10];

    CHECK_EQ(pool_init(&pool, 100, 10), 0);
    for (int i = 0; i < 10; i++) {
        objects[i] = pool_get(&pool);
        CHECK(objects[i] != NULL);
        CHECK(IS_ALIGNED((uintptr_t)objects[i], 64));
        for (int k = 0; k < 100; k++)
            CHECK_EQ(objects[i][k], 0);
        memset(objects[i], i + 1, 100);
    }
    CHECK(pool_get(&pool) == NULL);
    CHECK_EQ(pool_out_count(&pool), 10);
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < 100; k++)
            CHECK_EQ(objects[i][k], i + 1);
    /* The last one back is the first one out, as it was. */
    pool_put(&pool, objects[3]);
    pool_put(&pool, objects[7]);
    CHECK(pool_get(&pool) == objects[7]);
    CHECK_EQ(objects[7][0], 8);
    pool_put(&pool, objects[7]);
    for (int i = 0; i < 10; i++)
        if (i != 3 && i != 7)
            pool_put(&pool, objects[i]);
    CHECK_EQ(pool_out_count(&pool), 0);
    pool_fini(&pool);
    pool_fini(&pool); /* zeroed now */
}

static void put_twice(struct pool *pool)
{
    void *object = pool_get(pool);
    pool_put(pool, object);
    pool_put(pool, object);
}

static void put_inside(struct pool *pool)
{
    pool_put(pool, (uint8_t *)pool_get(pool) + 1);
}

static void put_foreign(struct pool *pool)
{
    static uint64_t foreign[32];
    pool_get(pool);
    pool_put(pool, foreign);
}

static void finish_with_one_out(struct pool *pool)
{
    pool_get(pool);
    pool_fini(pool);
}

static bool aborts(void (*what)(struct pool *), struct pool *pool)
{
    int status = 0;

    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        what(pool);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void bugs_are_caught(void)
{
    struct pool pool;

    CHECK_EQ(pool_init(&pool, 64, 4), 0);
    CHECK(aborts(put_twice, &pool));
    CHECK(aborts(put_inside, &pool));
    CHECK(aborts(put_foreign, &pool));
    CHECK(aborts(finish_with_one_out, &pool));
    pool_fini(&pool);
}

int main(void)
{
    TEST(objects_are_handed_out_once);
    TEST(bugs_are_caught);
    return tap_done();
}
