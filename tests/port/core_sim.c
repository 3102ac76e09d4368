/* SPDX-License-Identifier: Apache-2.0
 *
 * The core suite on a node of the simulator.
 */
#include "tests/port/core_suite.h"
#include "tests/port/sim_world.h"

static struct sim_world w;

static void the_simulator_is_content(void)
{
    CHECK(sim_world_ok(&w));
}

int main(void)
{
    sim_world_init(&w);
    core_suite(&w.world);
    TEST(the_simulator_is_content);
    sim_free(w.sim);
    return tap_done();
}
