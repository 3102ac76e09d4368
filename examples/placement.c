/* SPDX-License-Identifier: Apache-2.0
 *
 * A placement function of your own: PG n of a pool goes to the hosts n, n + 1, n + 2, ... in alphabetical
 * order, on each to one OSD, so that neighbours hold each other's replicas.
 *
 *     cc -shared -fPIC -o placement-row.so placement.c
 *     fastblock-mon ... --placement-plugin ./placement-row.so
 *     fastblock pool create p --placement row
 */
#include <fastblock/placement.h>
#include <string.h>

#define HOSTS_MAX 1024

/* Is data to be on it, and can it get some? */
static int usable(const struct fb_placement_osd *o)
{
    return o->weight && o->up;
}

/* The names of the hosts with usable OSDs, in order. */
static size_t find_hosts(const struct fb_placement_request *r, const char **ret_hosts)
{
    size_t count = 0;

    for (size_t i = 0; i < r->osd_count; i++) {
        size_t at = 0;
        if (!usable(&r->osds[i]))
            continue;
        while (at < count && strcmp(ret_hosts[at], r->osds[i].host) < 0)
            at++;
        if ((at < count && !strcmp(ret_hosts[at], r->osds[i].host)) || count == HOSTS_MAX)
            continue;
        memmove(&ret_hosts[at + 1], &ret_hosts[at], (count - at) * sizeof(*ret_hosts));
        ret_hosts[at] = r->osds[i].host;
        count++;
    }
    return count;
}

/* The OSD of the host that is due for this PG. */
static uint32_t pick(const struct fb_placement_request *r, const char *host)
{
    size_t count = 0, wanted;

    for (size_t i = 0; i < r->osd_count; i++)
        count += usable(&r->osds[i]) && !strcmp(r->osds[i].host, host);
    wanted = r->pg % count;
    for (size_t i = 0;; i++)
        if (usable(&r->osds[i]) && !strcmp(r->osds[i].host, host) && wanted-- == 0)
            return r->osds[i].osd;
}

static int choose(const struct fb_placement_request *r, uint32_t *ret_osds)
{
    const char *hosts[HOSTS_MAX + 1];
    size_t count = find_hosts(r, hosts);

    if (r->osd_size != sizeof(*r->osds) || count < r->replicas)
        return -1; /* cannot say: the monitor does it itself */
    for (uint32_t i = 0; i < r->replicas; i++)
        ret_osds[i] = pick(r, hosts[(r->pg + i) % count]);
    return 0;
}

const struct fb_placement fb_placement = {FB_PLACEMENT_VERSION, "row", choose};
