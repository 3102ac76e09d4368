/* SPDX-License-Identifier: Apache-2.0
 *
 * The net suite on the simulated network.
 */
#include "sim/sim_net.h"
#include "tests/port/net_suite.h"
#include "tests/port/sim_world.h"

static struct sim_world w;

static void the_simulator_is_content(void)
{
    CHECK(sim_world_ok(&w));
}

int main(void)
{
    sim_world_init(&w);
    struct sim_net_config config = {0};
    struct sim_net *sim_net = sim_net_new(w.sim, &config);
    struct net_suite sim_suite = {.world = &w.world,
                                  .net = {sim_net_port(sim_net, w.node[0]), sim_net_port(sim_net, w.node[1])},
                                  .listen_address = "10.0.0.2:0",
                                  .dead_address = "10.0.0.2:9"};
    net_suite(&sim_suite);
    TEST(the_simulator_is_content);
    sim_net_free(sim_net);
    sim_free(w.sim);
    return tap_done();
}
