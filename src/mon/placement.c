/* SPDX-License-Identifier: Apache-2.0
 *
 * Failure domains by name, and how many there are (placement.h).
 */
#include "mon/placement.h"

#include <string.h>

#include "base/error.h"

int placement_domain_parse(const char *text, enum placement_domain *ret_domain)
{
    if (!*text || !strcmp(text, "osd"))
        *ret_domain = PLACEMENT_OSD;
    else if (!strcmp(text, "host"))
        *ret_domain = PLACEMENT_HOST;
    else if (!strcmp(text, "rack"))
        *ret_domain = PLACEMENT_RACK;
    else if (!strcmp(text, "zone"))
        *ret_domain = PLACEMENT_ZONE;
    else
        return -ERR_INVALID;
    return 0;
}

static bool same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static bool same_domain(const struct placement_osd *a, const struct placement_osd *b,
                        enum placement_domain domain)
{
    bool zone = same(a->zone, b->zone), rack = zone && same(a->rack, b->rack);

    switch (domain) {
    case PLACEMENT_OSD:
        return a->osd == b->osd;
    case PLACEMENT_HOST:
        return rack && same(a->host, b->host);
    case PLACEMENT_RACK:
        return rack;
    case PLACEMENT_ZONE:
        return zone;
    case PLACEMENT_DOMAINS:
        break;
    }
    UNREACHABLE();
}

static bool has_place(const struct placement_osd *o)
{
    for (uint32_t s = 0; s < o->shard_count; s++)
        if (o->shard_usable[s])
            return true;
    return false;
}

uint32_t placement_domain_count(const struct placement_osd *osds, uint32_t osd_count,
                                enum placement_domain domain)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < osd_count; i++) {
        bool known = !has_place(&osds[i]);
        for (uint32_t j = 0; j < i && !known; j++)
            known = has_place(&osds[j]) && same_domain(&osds[i], &osds[j], domain);
        count += !known;
    }
    return count;
}
