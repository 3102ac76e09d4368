/* SPDX-License-Identifier: Apache-2.0
 *
 * The block suite on a simulated disk.
 */
#include "sim/sim_blk.h"
#include "tests/port/blk_suite.h"
#include "tests/port/sim_world.h"

static struct sim_world w;

static void the_simulator_is_content(void)
{
    CHECK(sim_world_ok(&w));
}

int main(void)
{
    sim_world_init(&w);
    struct sim_disk_config config = {
        .name = "disk", .size_bytes = 2 * BLK_SUITE_WINDOW, .volatile_cache = true};
    struct sim_disk *disk = sim_disk_new(w.sim, &config);
    sim_node_enter(w.node[0]);
    struct blk *first = sim_disk_open(disk, w.node[0], 0, BLK_SUITE_WINDOW);
    struct blk *second = sim_disk_open(disk, w.node[0], BLK_SUITE_WINDOW, BLK_SUITE_WINDOW);
    sim_node_leave(w.node[0]);
    blk_suite(&w.world, first, second);
    sim_node_enter(w.node[0]);
    first->ops->close(first);
    second->ops->close(second);
    sim_node_leave(w.node[0]);
    TEST(the_simulator_is_content);
    sim_disk_free(disk);
    sim_free(w.sim);
    return tap_done();
}
