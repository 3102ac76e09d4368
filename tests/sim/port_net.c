/* SPDX-License-Identifier: Apache-2.0
 *
 * The net suite on the simulated network without faults.
 */
#include "sim/sim_net.h"
#include "tests/port/net_suite.h"
#include "tests/sim/port_world.h"

int main(void)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct sim_world w;
        sim_world_init(&w, seed);
        struct sim_net *net = sim_net_new(w.sim, &(struct sim_net_config){0});
        struct net_suite in_sim = {.world = &w.world,
                                   .net = {sim_net_port(net, w.node[0]), sim_net_port(net, w.node[1])},
                                   .listen_address = "10.0.0.2:0",
                                   .dead_address = "10.0.0.2:1"};
        net_suite(&in_sim);
        sim_net_free(net);
        sim_free(w.sim);
    }
    return tap_done();
}
