/* SPDX-License-Identifier: Apache-2.0
 *
 * See placement_plugin.h. Between the plan's view of OSDs and the one that plugins know.
 */
#include "cmd/placement_plugin.h"

#include <dlfcn.h>
#include <fastblock/placement.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plugin {
    struct placement_chooser chooser;
    const struct fb_placement *functions;
    /* The OSDs as the plugin sees them, since begin(). */
    struct fb_placement_osd *osds;
    uint32_t osd_max;
};

static const char *text(const char *s)
{
    return s ? s : "";
}

static int compare(const void *a, const void *b)
{
    const struct fb_placement_osd *left = a, *right = b;

    return (left->osd > right->osd) - (left->osd < right->osd);
}

static struct plugin *plugin_of(const struct placement_chooser *chooser)
{
    return (struct plugin *)(uintptr_t)container_of(chooser, const struct plugin, chooser);
}

static int begin(const struct placement_chooser *chooser, const struct placement_osd *osds, uint32_t count)
{
    struct plugin *p = plugin_of(chooser);

    if (count > p->osd_max) {
        struct fb_placement_osd *more = realloc(p->osds, count * sizeof(*more));
        if (!more)
            return -1;
        p->osds = more;
        p->osd_max = count;
    }
    for (uint32_t i = 0; i < count; i++)
        p->osds[i] = (struct fb_placement_osd){.osd = osds[i].osd,
                                               .weight = osds[i].weight,
                                               .size_bytes = osds[i].size_bytes,
                                               .host = text(osds[i].host),
                                               .rack = text(osds[i].rack),
                                               .zone = text(osds[i].zone),
                                               .shards = osds[i].shard_count,
                                               .up = osds[i].up};
    qsort(p->osds, count, sizeof(*p->osds), compare);
    return 0;
}

static int choose(const struct placement_chooser *chooser, const struct placement_pool *pool,
                  const struct placement_pg *pg, const struct placement_osd *osds, uint32_t osd_count,
                  uint32_t *ret_osds)
{
    static const char *const domains[] = {"osd", "host", "rack", "zone"};
    struct plugin *p = plugin_of(chooser);
    uint32_t members[PLACEMENT_REPLICAS_MAX];

    for (uint32_t i = 0; i < pg->member_count; i++)
        members[i] = pg->member[i].osd;
    struct fb_placement_request request = {.size = sizeof(request),
                                           .pool = pool->id,
                                           .pg = (uint32_t)pg->id,
                                           .replicas = pool->replicas,
                                           .failure_domain = domains[pool->domain],
                                           .osds = p->osds,
                                           .osd_count = osd_count,
                                           .osd_size = sizeof(*p->osds),
                                           .members = members,
                                           .member_count = pg->member_count};
    memset(ret_osds, 0xff, PLACEMENT_REPLICAS_MAX * sizeof(*ret_osds));
    return p->functions->choose(&request, ret_osds) ? -1 : (int)pool->replicas;
}

static bool name_valid(const char *name)
{
    size_t len = name ? strlen(name) : 0;

    return len >= 1 && len <= 64 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

const struct placement_chooser *placement_plugin_load(const char *path, char *ret_message, size_t len)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    struct plugin *p = calloc(1, sizeof(*p));
    const char *why = NULL;

    if (object && p)
        p->functions = dlsym(object, "fb_placement");
    if (!p)
        why = "out of memory";
    else if (!object)
        why = dlerror();
    else if (!p->functions)
        why = "it does not export fb_placement (fastblock/placement.h)";
    else if (p->functions->version != FB_PLACEMENT_VERSION)
        why = "it is for another version of fastblock/placement.h: build it anew";
    else if (!name_valid(p->functions->name) || !p->functions->choose)
        why = "it has no valid name, or no function";
    if (why) {
        snprintf(ret_message, len, "cannot use the placement function in %s: %s", path, why);
        free(p);
        if (object)
            dlclose(object);
        return NULL;
    }
    p->chooser = (struct placement_chooser){p->functions->name, begin, choose};
    return &p->chooser;
}
