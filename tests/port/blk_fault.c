/* SPDX-License-Identifier: Apache-2.0
 *
 * The block suite on the device that fails on order, while its only rule delays everything: a device like any
 * other. Then what its rules do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/port/blk_suite.h"
#include "tests/port/real.h"
#include "tests/tap.h"

static char device[256], rules[256];
static struct faults *faults;

/* Writes the file with the rules and has it read. */
static int order(const char *text)
{
    char message[FAULTS_MESSAGE_SIZE];
    uint32_t count;
    FILE *file = fopen(rules, "w");

    fputs(text, file);
    fclose(file);
    return faults_load(faults, message, &count);
}

static int one_read(uint64_t offset, uint8_t *memory)
{
    return do_flat(windows[1], BLK_READ, 0, offset, memory, BLOCK_SIZE);
}

static void errors_are_returned(void)
{
    uint8_t *memory = memory_new(BLOCK_SIZE);

    CHECK_EQ(order("write error\n"), 0);
    CHECK_EQ(do_flat(windows[1], BLK_WRITE, 0, 0, memory, BLOCK_SIZE), -ERR_IO);
    CHECK_EQ(one_read(0, memory), 0);
    CHECK_EQ(do_flat(windows[1], BLK_FLUSH, 0, 0, NULL, 0), 0);
    CHECK_EQ(order("flush error # nothing else\n"), 0);
    CHECK_EQ(do_flat(windows[1], BLK_FLUSH, 0, 0, NULL, 0), -ERR_IO);
    CHECK_EQ(do_flat(windows[1], BLK_WRITE, 0, 0, memory, BLOCK_SIZE), 0);
    CHECK_EQ(order("write read-only\n"), 0);
    CHECK_EQ(do_flat(windows[1], BLK_WRITE, 0, 0, memory, BLOCK_SIZE), -ERR_READ_ONLY);
    free(memory);
}

/* Offsets of rules are those of the device: this window begins at BLK_SUITE_WINDOW. */
static void ranges_are_of_the_device(void)
{
    uint8_t *memory = memory_new(BLOCK_SIZE);

    CHECK_EQ(order("read error 8M 4096\nread error 8396800 1\n"), 0);
    CHECK_EQ(one_read(0, memory), -ERR_IO);
    CHECK_EQ(one_read(BLOCK_SIZE, memory), 0);
    CHECK_EQ(one_read(2 * BLOCK_SIZE, memory), -ERR_IO);
    CHECK_EQ(one_read(3 * BLOCK_SIZE, memory), 0);
    CHECK_EQ(do_flat(windows[0], BLK_READ, 0, 0, memory, BLOCK_SIZE), 0);
    /* What is written can be read again, until the next order. */
    CHECK_EQ(do_flat(windows[1], BLK_WRITE, 0, 0, memory, BLOCK_SIZE), 0);
    CHECK_EQ(one_read(0, memory), 0);
    CHECK_EQ(one_read(2 * BLOCK_SIZE, memory), -ERR_IO);
    CHECK_EQ(order("read error\n"), 0);
    CHECK_EQ(one_read(0, memory), -ERR_IO);
    free(memory);
}

static void bits_flip(void)
{
    uint8_t *memory = memory_new(4 * BLOCK_SIZE), *back = memory_new(4 * BLOCK_SIZE);
    struct iovec iov[2] = {{back, BLOCK_SIZE}, {back + BLOCK_SIZE, 3 * BLOCK_SIZE}};

    CHECK_EQ(order(""), 0);
    fill(memory, 4 * BLOCK_SIZE, 7);
    CHECK_EQ(do_flat(windows[1], BLK_WRITE, 0, 0, memory, 4 * BLOCK_SIZE), 0);
    CHECK_EQ(order("read flip 8396800 4096\n"), 0); /* the third block */
    CHECK_EQ(do_io(windows[1], BLK_READ, 0, 0, iov, 2), 0);
    CHECK(!memcmp(back, memory, 2 * BLOCK_SIZE));
    CHECK(memcmp(back + 2 * BLOCK_SIZE, memory + 2 * BLOCK_SIZE, BLOCK_SIZE) != 0);
    CHECK(!memcmp(back + 3 * BLOCK_SIZE, memory + 3 * BLOCK_SIZE, BLOCK_SIZE));
    free(memory);
    free(back);
}

static void delays_last(void)
{
    uint8_t *memory = memory_new(BLOCK_SIZE);
    uint64_t before_ns = core_now_ns(the_world->core[0]);

    CHECK_EQ(order("any delay 20\nread delay 10\n"), 0);
    CHECK_EQ(one_read(0, memory), 0);
    CHECK(core_now_ns(the_world->core[0]) - before_ns >= 30 * NS_PER_MS);
    free(memory);
}

static void the_stuck_go_on_without_the_rule(void)
{
    uint8_t *memory = memory_new(BLOCK_SIZE);
    struct iovec iov = {memory, BLOCK_SIZE};
    struct blk_io io = {.type = BLK_READ, .len = BLOCK_SIZE, .iov = &iov, .iov_count = 1};

    CHECK_EQ(order("any stuck\n"), 0);
    submit(windows[1], &io);
    CHECK(!the_world->run(the_world, not_pending, &io, 50 * NS_PER_MS));
    CHECK_EQ(order(""), 0);
    CHECK(the_world->run(the_world, not_pending, &io, WORLD_WAIT_NS));
    CHECK_EQ(io.result, 0);
    free(memory);
}

static void mistakes_change_nothing(void)
{
    static const char *const wrong[] = {"write",
                                        "paint error",
                                        "write rust",
                                        "write delay",
                                        "write delay -1",
                                        "write error 1",
                                        "write error 1 x",
                                        "flush error 0 4096",
                                        "write flip",
                                        "write error 1 2 3",
                                        "read delay 1 2",
                                        "write delay 99999999",
                                        "read error 1 18446744073709551615",
                                        "a b c d e f g"};
    uint8_t *memory = memory_new(BLOCK_SIZE);
    char many[4096] = "";

    CHECK_EQ(order("read error\n"), 0);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        CHECK_EQ(order(wrong[i]), -ERR_INVALID);
        CHECK_EQ(one_read(0, memory), -ERR_IO);
    }
    memset(many, ' ', 3000);
    CHECK_EQ(order(many), -ERR_INVALID);
    many[0] = 0;
    for (int i = 0; i < 65; i++)
        strcat(many, "write error\n");
    CHECK_EQ(order(many), -ERR_INVALID);
    unlink(rules);
    char message[FAULTS_MESSAGE_SIZE];
    uint32_t count;
    CHECK_EQ(faults_load(faults, message, &count), -ERR_NOT_FOUND);
    CHECK_EQ(one_read(0, memory), -ERR_IO);
    CHECK_EQ(order("\n  # nothing\n\n"), 0);
    CHECK_EQ(one_read(0, memory), 0);
    free(memory);
}

int main(void)
{
    struct real_world real;
    struct uring_dev *dev;
    struct blk *blk[2];
    char folder[] = "/dev/shm/fastblock-test-XXXXXX";

    if (!mkdtemp(folder)) {
        printf("1..0 # SKIP no /dev/shm\n");
        return 0;
    }
    snprintf(device, sizeof(device), "%s/device", folder);
    snprintf(rules, sizeof(rules), "%s/rules", folder);
    if (uring_dev_create(device, 2 * BLK_SUITE_WINDOW) || !real_world_init(&real, 0, 1) ||
        uring_dev_open(device, URING_CACHE_ASK, false, &dev) || faults_new(rules, &faults) ||
        order("any delay 1\n")) {
        printf("Bail out! no device or no io_uring\n");
        return 1;
    }
    for (uint64_t i = 0; i < 2; i++)
        if (uring_blk_new(real.uc[0], dev, i * BLK_SUITE_WINDOW, BLK_SUITE_WINDOW, &blk[i]) ||
            fault_blk_new(real.world.core[0], faults, blk[i], i * BLK_SUITE_WINDOW, &blk[i])) {
            printf("Bail out! cannot open the device\n");
            return 1;
        }
    blk_suite(&real.world, blk[0], blk[1]);
    waiter_start(the_world, &waiter);
    TEST(errors_are_returned);
    TEST(ranges_are_of_the_device);
    TEST(bits_flip);
    TEST(delays_last);
    TEST(the_stuck_go_on_without_the_rule);
    TEST(mistakes_change_nothing);
    waiter_stop(the_world, &waiter);
    for (int i = 0; i < 2; i++)
        blk[i]->ops->close(blk[i]);
    faults_free(faults);
    uring_dev_close(dev);
    real_world_fini(&real);
    unlink(device);
    unlink(rules);
    rmdir(folder);
    return tap_done();
}
