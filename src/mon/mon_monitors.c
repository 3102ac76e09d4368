/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of monitors in the map. The leader adds whoever it meets in the store; an operator removes who is
 * gone for good.
 */
#include "mon/impl.h"

#include <stdio.h>
#include <string.h>

static const Fb__MonitorList *monitors(const struct mon *mon)
{
    static const Fb__MonitorList none = FB__MONITOR_LIST__INIT;
    const struct mon_monitors *m = mon_monitors_find(mon, 1);

    return m ? mon_monitors_item(m) : &none;
}

static bool is_listed(const Fb__MonitorList *list, const char *address)
{
    for (size_t i = 0; i < list->n_address; i++)
        if (!strcmp(list->address[i], address))
            return true;
    return false;
}

static const struct mon_presence *is_present(const struct mon *mon, const char *address)
{
    for (uint32_t i = 0; i < mon->follow.present_count; i++)
        if (!strcmp(mon->follow.present[i].address, address))
            return &mon->follow.present[i];
    return NULL;
}

void mon_monitors_settle(struct mon *mon, struct mon_change *c)
{
    Fb__MonitorList list = *monitors(mon);
    char *addresses[MON_MONITORS_MAX];
    size_t before = list.n_address;

    if (c->count == MON_PUTS_PER_TXN)
        return;
    if (before)
        memcpy(addresses, list.address, before * sizeof(*addresses));
    list.address = addresses;
    for (uint32_t i = 0; i < mon->follow.present_count && list.n_address < MON_MONITORS_MAX; i++)
        if (!is_listed(&list, mon->follow.present[i].address))
            addresses[list.n_address++] = mon->follow.present[i].address;
    if (list.n_address == before)
        return;
    list.epoch = c->state.epoch;
    mon_change_put(c, MON_MONITORS, 1, &list.base);
}

uint32_t mon_monitors_down(const struct mon *mon, char *ret_names, size_t size)
{
    const Fb__MonitorList *list = monitors(mon);
    uint32_t down = 0;
    size_t used = 0;

    ret_names[0] = 0;
    for (size_t i = 0; i < list->n_address; i++) {
        if (is_present(mon, list->address[i]) || !strcmp(list->address[i], mon->own_address))
            continue;
        int wrote = snprintf(ret_names + used, size - used, "%s%s", down ? ", " : "", list->address[i]);
        used = MIN(used + (size_t)wrote, size - 1);
        down++;
    }
    return down;
}

/* ---- calls ---- */

void mon_list(struct mon_request *r)
{
    struct mon *mon = r->mon;
    const Fb__MonitorList *list = monitors(mon);
    Fb__MonitorInfo infos[2 * MON_MONITORS_MAX + 1], *pointers[2 * MON_MONITORS_MAX + 1];
    size_t count = 0;
    bool alone = !mon->config.meta->ops->lease;
    const char *leader = alone ? mon->own_address : mon->follow.leader;

    for (size_t i = 0; i < list->n_address + mon->follow.present_count + alone; i++) {
        const char *address = i < list->n_address ? list->address[i]
                              : alone             ? mon->own_address
                                                  : mon->follow.present[i - list->n_address].address;
        if (i >= list->n_address && is_listed(list, address))
            continue;
        const struct mon_presence *p = is_present(mon, address);
        Fb__MonitorInfo *info = pointers[count] = &infos[count];
        fb__monitor_info__init(info);
        info->address = (char *)address;
        info->leads = !strcmp(address, leader);
        info->alive = p || info->leads;
        info->listed = is_listed(list, address);
        info->version = p ? (char *)p->version : info->leads ? (char *)mon->config.version : info->version;
        info->since_us = p ? p->since_us : 0;
        count++;
    }
    r->reply.monitors = pointers;
    r->reply.n_monitors = count;
    r->reply.leader = (char *)leader;
    r->reply.epoch = mon->state.epoch;
    mon_reply(r, 0);
}

static int remove_build(struct mon_request *r)
{
    const char *address = r->call->mon_remove->address;
    Fb__MonitorList list = *monitors(r->mon);
    char *addresses[MON_MONITORS_MAX];
    size_t count = 0;

    if (is_present(r->mon, address) || !strcmp(address, r->mon->own_address))
        return mon_fail(r, -ERR_BUSY, "the monitor %.64s runs: stop it first", address);
    if (!is_listed(&list, address))
        return mon_fail(r, -ERR_NOT_FOUND, "there is no monitor %.64s: `fastblock mon ls` shows them",
                        address);
    for (size_t i = 0; i < list.n_address; i++)
        if (strcmp(list.address[i], address) != 0)
            addresses[count++] = list.address[i];
    list.address = addresses;
    list.n_address = count;
    list.epoch = r->change.state.epoch;
    mon_change_put(&r->change, MON_MONITORS, 1, &list.base);
    return 0;
}

static void remove_done(struct mon_request *r)
{
    core_log(r->mon->core, LOG_INFO, "mon", "the monitor %.64s is forgotten", r->call->mon_remove->address);
}

const struct mon_method mon_remove = {.build = remove_build, .done = remove_done};
