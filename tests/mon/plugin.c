/* SPDX-License-Identifier: Apache-2.0
 *
 * The example of a placement function, as fastblock-mon loads it: `plugin PATH-OF-THE-SHARED-OBJECT`.
 */
#include <string.h>

#include "cmd/placement_plugin.h"
#include "tests/mon/plan_world.h"
#include "tests/tap.h"

static const char *path;
/* It stays loaded for as long as the program runs. */
static const struct placement_chooser *chooser;

static void example_places(void)
{
    char message[256] = "";
    struct plan_world w;

    chooser = placement_plugin_load(path, message, sizeof(message));
    CHECK(chooser && !strcmp(chooser->name, "row"));
    if (!chooser) {
        printf("# %s\n", message);
        return;
    }
    plan_world_init(&w, 10, 0, 2, 1, 1, 2); /* hosts h0 to h4 */
    plan_world_add_pool(&w, 3, PLACEMENT_HOST, 40);
    w.pools[0].chooser = chooser;
    CHECK_EQ(plan_world_settle(&w, NULL), 1);
    for (uint32_t n = 0; n < 40; n++) {
        CHECK(plan_world_pg_is_whole(&w, &w.pgs[n]));
        CHECK_EQ(w.pgs[n].member[w.pgs[n].lead].osd / 2, n % 5);
        CHECK_EQ(w.pgs[n].member[w.pgs[n].lead].osd % 2, n % 2);
    }
    /* It knows too few hosts: the monitor's own function has nothing better, but says so. */
    for (uint32_t i = 4; i < 10; i++)
        w.osds[i].up = false;
    struct placement_plan plan = plan_world_plan(&w, false);
    CHECK_EQ(plan.refused_count, 40);
    CHECK_EQ(plan.added, 0);
    placement_plan_fini(&plan);
    plan_world_fini(&w);
}

static void others_are_refused(void)
{
    char message[256] = "";

    CHECK(!placement_plugin_load("/nowhere.so", message, sizeof(message)));
    CHECK(strstr(message, "/nowhere.so"));
    CHECK(!placement_plugin_load("libm.so.6", message, sizeof(message)));
    CHECK(strstr(message, "fb_placement"));
}

int main(int argc, char **argv)
{
    path = argc > 1 ? argv[1] : "";
    TEST(example_places);
    TEST(others_are_refused);
    return tap_done();
}
