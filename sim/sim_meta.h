/* SPDX-License-Identifier: Apache-2.0
 *
 * Seeded metadata store for rt/meta.h: in memory, outside of all nodes, so it survives their crashes.
 *
 * A lease ends when its time is over and its keys go, at a moment of the store's own.
 *
 * A transaction takes effect at a moment between its submission and its answer; when its node dies in between
 * it may have or not. An injected failure may likewise come before or after the effect.
 */
#ifndef SIM_SIM_META_H
#define SIM_SIM_META_H

#include "rt/meta.h"
#include "sim/sim.h"

struct sim_meta;

struct sim_meta_faults {
    uint32_t error_ppm;    /* a request ends with ERR_IO; a transaction's effect is then unknown */
    uint32_t conflict_ppm; /* somebody else touches a key of the conditions just before, so that they fail */
    uint32_t slow_ppm;     /* a request, or the news for one who watches, takes slow_ns more */
    uint64_t slow_ns;
    uint32_t lost_ppm; /* a lease is found to have ended when it is renewed */
};

struct sim_meta_config {
    uint64_t latency_min_ns, latency_typical_ns; /* 0, 0: 50 us and 200 us */
    uint64_t history_max;                        /* revisions that watches can go back; 0: 100000 */
    struct sim_meta_faults faults;
    bool alone; /* no leases: one monitor at most has it open, as with SQLite */
};

struct sim_meta *sim_meta_new(struct sim *sim, const struct sim_meta_config *config);
void sim_meta_free(struct sim_meta *store);
/* The node's handle; part of the node, goes with it or by ops->close(). */
struct meta *sim_meta_open(struct sim_meta *store, struct sim_node *node);

void sim_meta_set_faults(struct sim_meta *store, const struct sim_meta_faults *faults);
/* While down every request ends with ERR_IO after a while, watches are silent and leases do not end;
 * afterwards each of them has its whole time again. */
void sim_meta_set_down(struct sim_meta *store, bool down);
/* Forgets the history of changes below the current revision. */
void sim_meta_compact(struct sim_meta *store);
uint64_t sim_meta_revision(const struct sim_meta *store);
/* What it holds now. */
struct sim_meta_keys;
const struct sim_meta_keys *sim_meta_keys_of(const struct sim_meta *store);
/* `written` is called before each transaction that is carried out, outside of all nodes. */
void sim_meta_set_written(struct sim_meta *store,
                          void (*written)(void *owner, const struct meta_change *changes, uint32_t count),
                          void *owner);

#endif
