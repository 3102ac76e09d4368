/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata suite on the simulated store.
 */
#include "sim/sim_meta.h"
#include "tests/port/meta_suite.h"
#include "tests/port/sim_world.h"

static struct sim_world w;
static struct sim_meta *store;

static void compact(struct meta_suite *suite)
{
    sim_meta_compact(store);
}

static void the_simulator_is_content(void)
{
    CHECK(sim_world_ok(&w));
}

int main(void)
{
    sim_world_init(&w);
    struct sim_meta_config config = {0};
    store = sim_meta_new(w.sim, &config);
    sim_node_enter(w.node[0]);
    struct meta_suite suite = {
        .world = &w.world, .meta = sim_meta_open(store, w.node[0]), .compact = compact};
    sim_node_leave(w.node[0]);
    meta_suite(&suite);
    sim_node_enter(w.node[0]);
    suite.meta->ops->close(suite.meta);
    sim_node_leave(w.node[0]);
    TEST(the_simulator_is_content);
    sim_meta_free(store);
    sim_free(w.sim);
    return tap_done();
}
