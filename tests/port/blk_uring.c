/* SPDX-License-Identifier: Apache-2.0
 *
 * The block suite on files: in /dev/shm (memory) and in /var/tmp (most often a disk), and what only the real
 * one does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/port/blk_suite.h"
#include "tests/port/real.h"
#include "tests/tap.h"

static char path[256];

static void devices_are_locked_and_checked(void)
{
    struct uring_dev *dev, *again = NULL;

    CHECK_EQ(uring_dev_create(path, 1 << 20), -ERR_EXISTS);
    CHECK_EQ(uring_dev_open("/nonexistent/x", URING_CACHE_ASK, false, &again), -ERR_NOT_FOUND);
    CHECK_EQ(uring_dev_open("/dev/null", URING_CACHE_ASK, false, &again), -ERR_INVALID);
    CHECK_EQ(uring_dev_open(path, URING_CACHE_ASK, false, &dev), 0);
    CHECK_EQ(uring_dev_open(path, URING_CACHE_ASK, false, &again), -ERR_LOCKED);
    CHECK(again == NULL);
    CHECK_EQ(uring_dev_size(dev), 2 * BLK_SUITE_WINDOW);
    uring_dev_close(dev);
    CHECK_EQ(uring_dev_open(path, URING_CACHE_STABLE, false, &dev), 0);
    uring_dev_close(dev);
}

static void windows_are_checked(void)
{
    struct real_world real;
    struct uring_dev *dev;
    struct blk *blk;

    CHECK(real_world_init(&real, 0, 1));
    CHECK_EQ(uring_dev_open(path, URING_CACHE_ASK, false, &dev), 0);
    CHECK_EQ(uring_blk_new(real.uc[0], dev, 0, 2 * BLK_SUITE_WINDOW + BLOCK_SIZE, &blk), -ERR_RANGE);
    CHECK_EQ(uring_blk_new(real.uc[0], dev, UINT64_MAX - BLOCK_SIZE + 1, BLOCK_SIZE, &blk), -ERR_RANGE);
    CHECK_EQ(uring_blk_new(real.uc[0], dev, 512, BLOCK_SIZE, &blk), -ERR_INVALID);
    CHECK_EQ(uring_blk_new(real.uc[0], dev, BLOCK_SIZE, BLOCK_SIZE, &blk), 0);
    CHECK(blk->volatile_cache); /* a file, and nobody said otherwise */
    blk->ops->close(blk);
    CHECK_EQ(uring_dev_write_out(dev, 0, 3 << 20), 0);
    CHECK_EQ(uring_dev_write_out(dev, 0, 2 * BLK_SUITE_WINDOW + BLOCK_SIZE), -ERR_RANGE);
    uring_dev_close(dev);
    real_world_fini(&real);
}

int main(int argc, char **argv)
{
    struct real_world real;
    struct uring_dev *dev;
    struct blk *first, *second;
    char folder[200];

    snprintf(folder, sizeof(folder), "%s/fastblock-test-XXXXXX", argc > 1 ? argv[1] : "/dev/shm");
    if (!mkdtemp(folder)) {
        printf("1..0 # SKIP no such folder: %s\n", argc > 1 ? argv[1] : "/dev/shm");
        return 0;
    }
    snprintf(path, sizeof(path), "%s/device", folder);
    if (uring_dev_create(path, 2 * BLK_SUITE_WINDOW) || !real_world_init(&real, argc > 2 ? 50 : 0, 1)) {
        printf("Bail out! no device or no io_uring\n");
        return 1;
    }
    TEST(devices_are_locked_and_checked);
    TEST(windows_are_checked);
    if (uring_dev_open(path, URING_CACHE_ASK, false, &dev) ||
        uring_blk_new(real.uc[0], dev, 0, BLK_SUITE_WINDOW, &first) ||
        uring_blk_new(real.uc[0], dev, BLK_SUITE_WINDOW, BLK_SUITE_WINDOW, &second)) {
        printf("Bail out! cannot open the device\n");
        return 1;
    }
    blk_suite(&real.world, first, second);
    first->ops->close(first);
    second->ops->close(second);
    uring_dev_close(dev);
    real_world_fini(&real);
    unlink(path);
    rmdir(folder);
    return tap_done();
}
