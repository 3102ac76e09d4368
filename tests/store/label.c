/* SPDX-License-Identifier: Apache-2.0
 *
 * The label's two copies: at any moment one of them is whole, and as new as what was ever acknowledged.
 */
#include "store/internal.h"
#include "tests/store/slice.h"

static const uint64_t AT[2] = {LABEL_OFFSET_A, LABEL_OFFSET_B};

static int write_label(struct device_label *label)
{
    struct device_write w = {0};

    label->start_counter++;
    device_write_start(&w, &rig.core, &rig.device.blk, label, NULL);
    return rig_wait(&rig, &w.op);
}

static uint64_t read_counter(void)
{
    struct device_read r = {0};

    device_read_start(&r, &rig.core, &rig.device.blk, NULL);
    return rig_wait(&rig, &r.op) ? 0 : r.ret_label.start_counter;
}

/* One copy has rotted. That one is written first, and is on media before the other one is touched. */
static void the_bad_copy_is_written_first(void)
{
    for (int bad = 0; bad < 2; bad++) {
        struct device_label label = {.osd = 3};
        struct device_write w = {0};

        rig_init(&rig, 64u << 20, DEVICE_SLICE_MIN + (1u << 20));
        CHECK_EQ(device_layout(rig.device.blk.size_bytes, 1, &label), 0);
        CHECK_EQ(write_label(&label), 0);
        CHECK_EQ(write_label(&label), 0);
        CHECK_EQ(read_counter(), 2);
        rig.device.data[AT[bad] + 60] ^= 1;
        CHECK_EQ(read_counter(), 2);
        rig_watch_media(&rig);
        rig.device.held_from = AT[!bad];
        rig.device.held_len = BLOCK_SIZE;
        rig.device.held_writes = true;
        label.start_counter++;
        device_write_start(&w, &rig.core, &rig.device.blk, &label, NULL);
        rig_settle(&rig);
        CHECK(op_live(&w.op));
        /* Now the power fails, and tears the write of the other one. */
        rig.device.held_len = 0;
        uint8_t left[BLOCK_SIZE];
        memcpy(left, rig.device.media + AT[bad], BLOCK_SIZE);
        CHECK_EQ(rig_wait(&rig, &w.op), 0);
        CHECK_EQ(read_counter(), 3);
        memcpy(rig.device.data + AT[bad], left, BLOCK_SIZE);
        memset(rig.device.data + AT[!bad], 0x5a, BLOCK_SIZE / 2);
        CHECK_EQ(read_counter(), 3);
        rig_fini(&rig);
    }
}

/* Whatever request fails, what was acknowledged last is there, or what was to come. */
static void any_request_may_fail(void)
{
    for (uint64_t n = 1; n <= 6; n++) {
        struct device_label label = {.osd = 3};

        rig_init(&rig, 64u << 20, DEVICE_SLICE_MIN + (1u << 20));
        CHECK_EQ(device_layout(rig.device.blk.size_bytes, 1, &label), 0);
        CHECK_EQ(write_label(&label), 0);
        rig.device.fail_at = rig.device.requests + n;
        int rc = write_label(&label);
        uint64_t counter = read_counter();
        CHECK(counter == 2 || (rc && counter == 1));
        rig_fini(&rig);
    }
}

int main(void)
{
    TEST(the_bad_copy_is_written_first);
    TEST(any_request_may_fail);
    return tap_done();
}
