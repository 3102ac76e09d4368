/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of monitors: learns, follows, forgets.
 */
#include "rpc/monitors.h"

#include <string.h>

#include "tests/tap.h"

static char a[] = "a:1", b[] = "b:1", c[] = "c:1", d[] = "d:1";

static bool has(const struct rpc_monitors *m, const char *address)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (!strcmp(m->address[i], address))
            return true;
    return false;
}

static void what_a_list_lacks_is_forgotten(void)
{
    const char *configured[] = {a};
    char *three[] = {a, b, c}, *two[] = {b, d};
    struct rpc_monitors m;

    CHECK_EQ(rpc_monitors_init(&m, configured, 1), 0);
    rpc_monitors_learn(&m, three, 3);
    CHECK_EQ(m.count, 3);
    rpc_monitors_learn(&m, two, 2);
    CHECK_EQ(m.count, 3);
    CHECK(has(&m, "a:1") && has(&m, "b:1") && has(&m, "d:1")); /* a was configured */
    CHECK_EQ(strcmp(rpc_monitors_current(&m), "a:1"), 0);
}

static void the_current_one_stays(void)
{
    const char *configured[] = {a};
    char *three[] = {b, c, d}, *one[] = {d};
    struct rpc_monitors m;

    CHECK_EQ(rpc_monitors_init(&m, configured, 1), 0);
    rpc_monitors_learn(&m, three, 3);
    CHECK(rpc_monitors_follow(&m, "c:1", NS_PER_S));
    rpc_monitors_learn(&m, one, 1);
    CHECK_EQ(m.count, 3);
    CHECK_EQ(strcmp(rpc_monitors_current(&m), "c:1"), 0);
    rpc_monitors_next(&m);
    CHECK_EQ(strcmp(rpc_monitors_current(&m), "d:1"), 0);
    rpc_monitors_learn(&m, one, 1);
    CHECK_EQ(m.count, 2);
    CHECK(!has(&m, "c:1"));
    CHECK_EQ(strcmp(rpc_monitors_current(&m), "d:1"), 0);
}

/* As many as there is room for come and go. */
static void there_is_room_again(void)
{
    const char *configured[] = {a};
    struct rpc_monitors m;

    CHECK_EQ(rpc_monitors_init(&m, configured, 1), 0);
    for (int round = 0; round < 20; round++) {
        char names[RPC_MONITORS_MAX - 1][32], *list[RPC_MONITORS_MAX - 1];
        for (int i = 0; i < RPC_MONITORS_MAX - 1; i++) {
            snprintf(names[i], sizeof(names[i]), "m%d:%d", round, i);
            list[i] = names[i];
        }
        rpc_monitors_learn(&m, list, RPC_MONITORS_MAX - 1);
        CHECK_EQ(m.count, RPC_MONITORS_MAX);
        CHECK(has(&m, list[0]) && has(&m, list[RPC_MONITORS_MAX - 2]) && has(&m, "a:1"));
    }
}

int main(void)
{
    TEST(what_a_list_lacks_is_forgotten);
    TEST(the_current_one_stays);
    TEST(there_is_room_again);
    return tap_done();
}
