/* SPDX-License-Identifier: Apache-2.0
 *
 * The block suite on simulated disks, with and without a volatile cache.
 */
#include "sim/sim_blk.h"
#include "tests/port/blk_suite.h"
#include "tests/sim/port_world.h"

int main(int argc, char **argv)
{
    struct sim_world w;

    sim_world_init(&w, 1);
    struct sim_disk *disk = sim_disk_new(w.sim, &(struct sim_disk_config){.name = "disk",
                                                                          .size_bytes = 2 * BLK_SUITE_WINDOW,
                                                                          .volatile_cache = argc > 1});
    struct blk *first = sim_disk_open(disk, w.node[0], 0, BLK_SUITE_WINDOW);
    struct blk *second = sim_disk_open(disk, w.node[0], BLK_SUITE_WINDOW, BLK_SUITE_WINDOW);
    blk_suite(&w.world, first, second);
    first->ops->close(first);
    second->ops->close(second);
    sim_disk_free(disk);
    sim_free(w.sim);
    return tap_done();
}
