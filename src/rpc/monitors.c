/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of monitors.
 */
#include "rpc/monitors.h"

#include <string.h>

#include "base/error.h"
#include "base/text.h"

static bool add(struct rpc_monitors *m, const char *address)
{
    if (m->count == RPC_MONITORS_MAX || !address[0] ||
        text_copy(m->address[m->count], sizeof(m->address[0]), address))
        return false;
    m->count++;
    return true;
}

static bool find(const struct rpc_monitors *m, const char *address, uint32_t *ret_index)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (!strcmp(m->address[i], address)) {
            *ret_index = i;
            return true;
        }
    return false;
}

int rpc_monitors_init(struct rpc_monitors *m, const char *const *addresses, uint32_t count)
{
    m->count = m->current = 0;
    m->leader_ns = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!add(m, addresses[i]))
            return -ERR_INVALID;
    m->configured = m->count;
    return m->count ? 0 : -ERR_INVALID;
}

const char *rpc_monitors_current(const struct rpc_monitors *m)
{
    return m->address[m->current];
}

void rpc_monitors_next(struct rpc_monitors *m)
{
    m->current = (m->current + 1) % m->count;
}

static bool is_listed(char *const *addresses, size_t count, const char *address)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(addresses[i], address))
            return true;
    return false;
}

static void forget(struct rpc_monitors *m, uint32_t index)
{
    memmove(m->address[index], m->address[index + 1], (--m->count - index) * sizeof(m->address[0]));
    m->current -= m->current > index;
}

void rpc_monitors_learn(struct rpc_monitors *m, char *const *addresses, size_t count)
{
    uint32_t index;

    for (uint32_t i = m->count; i-- > m->configured;)
        if (i != m->current && !is_listed(addresses, count, m->address[i]))
            forget(m, i);
    for (size_t i = 0; i < count; i++)
        if (!find(m, addresses[i], &index))
            add(m, addresses[i]);
}

bool rpc_monitors_follow(struct rpc_monitors *m, const char *leader, uint64_t now_ns)
{
    uint32_t index;

    if (!leader[0] || !strcmp(leader, rpc_monitors_current(m)) ||
        (m->leader_ns && now_ns - m->leader_ns < RPC_MONITOR_LEADER_NS))
        return false;
    if (!find(m, leader, &index)) {
        if (!add(m, leader))
            return false;
        index = m->count - 1;
    }
    m->current = index;
    m->leader_ns = now_ns;
    return true;
}
