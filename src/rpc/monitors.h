/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the monitors are, for who wants one of them: those that were configured, and those that the map names
 * since. One is the current one; others take its place when it fails, or when it says who leads. Those that
 * were configured are never forgotten: what does not answer costs an attempt.
 */
#ifndef RPC_MONITORS_H
#define RPC_MONITORS_H

#include "base/base.h"

#define RPC_MONITORS_MAX        16
#define RPC_MONITOR_ADDRESS_MAX 128
/* A leader that does not answer is named by the others until its lease ends: they are believed once in this
 * time. */
#define RPC_MONITOR_LEADER_NS (NS_PER_S)

struct rpc_monitors {
    char address[RPC_MONITORS_MAX][RPC_MONITOR_ADDRESS_MAX];
    uint32_t count, configured; /* the first that many were */
    uint32_t current;
    uint64_t leader_ns; /* when a leader's address was last followed */
};

/* ERR_INVALID: none, too many, or one that is too long. */
MUST_CHECK int rpc_monitors_init(struct rpc_monitors *m, const char *const *addresses, uint32_t count);
const char *rpc_monitors_current(const struct rpc_monitors *m);
void rpc_monitors_next(struct rpc_monitors *m);
/* The map's list: adds those that are not known, as long as there is room, and forgets what only an earlier
 * list named, or what somebody said that it leads; but not the current one. */
void rpc_monitors_learn(struct rpc_monitors *m, char *const *addresses, size_t count);
/* Somebody says that this one leads (empty: nobody). True: it is the current one now, and was not before. */
bool rpc_monitors_follow(struct rpc_monitors *m, const char *leader, uint64_t now_ns);

#endif
