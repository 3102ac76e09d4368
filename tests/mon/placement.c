/* SPDX-License-Identifier: Apache-2.0
 *
 * Failure domains: their names, and how many there are.
 */
#include "mon/placement.h"

#include "base/error.h"
#include "tests/tap.h"

static void domains_are_named(void)
{
    enum placement_domain domain;

    CHECK(!placement_domain_parse("rack", &domain) && domain == PLACEMENT_RACK);
    CHECK(!placement_domain_parse("zone", &domain) && domain == PLACEMENT_ZONE);
    CHECK(!placement_domain_parse("", &domain) && domain == PLACEMENT_OSD);
    CHECK_EQ(placement_domain_parse("Host", &domain), -ERR_INVALID);
}

/* Hosts of the same name in different racks are two, racks of the same name in different zones, too. */
static void domains_are_counted(void)
{
    struct placement_osd osds[] = {
        {.osd = 0, .host = "h", .rack = "r", .zone = "z", .shard_count = 1, .shard_usable = {true}},
        {.osd = 1, .host = "h", .rack = "r", .zone = "z", .shard_count = 1, .shard_usable = {true}},
        {.osd = 2, .host = "h", .rack = "s", .zone = "z", .shard_count = 2, .shard_usable = {false, true}},
        {.osd = 3, .host = "h", .rack = "r", .zone = "y", .shard_count = 1, .shard_usable = {true}},
        {.osd = 4, .host = "i", .rack = NULL, .zone = NULL, .shard_count = 1, .shard_usable = {false}},
    };

    CHECK_EQ(placement_domain_count(osds, 5, PLACEMENT_OSD), 4);
    CHECK_EQ(placement_domain_count(osds, 5, PLACEMENT_HOST), 3);
    CHECK_EQ(placement_domain_count(osds, 5, PLACEMENT_RACK), 3);
    CHECK_EQ(placement_domain_count(osds, 5, PLACEMENT_ZONE), 2);
    CHECK_EQ(placement_domain_count(osds, 0, PLACEMENT_OSD), 0);
}

int main(void)
{
    TEST(domains_are_named);
    TEST(domains_are_counted);
    return tap_done();
}
