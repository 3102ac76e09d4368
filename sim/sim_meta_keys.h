/* SPDX-License-Identifier: Apache-2.0
 *
 * What the simulated metadata store holds: keys with values and revisions, and a history of changes for
 * watches. Memory only: who asks when, and what fails, is in sim_meta.c.
 */
#ifndef SIM_SIM_META_KEYS_H
#define SIM_SIM_META_KEYS_H

#include "rt/meta.h"

struct sim_meta_item {
    char *key;
    uint8_t *value;
    uint32_t value_len;
    uint64_t mod_revision;
    uint64_t lease; /* 0: none */
};

struct sim_meta_change {
    uint64_t revision;
    char *key;
    uint8_t *value; /* NULL: deleted */
    uint32_t value_len;
};

/* Begins as zeros, with history_max. */
struct sim_meta_keys {
    struct sim_meta_item *items; /* by key */
    uint32_t item_count, item_cap;
    struct sim_meta_change *history; /* of revisions above oldest_revision */
    uint32_t change_count, change_cap;
    uint64_t oldest_revision;
    uint64_t revision;
    uint64_t history_max; /* revisions */
};

void sim_meta_keys_fini(struct sim_meta_keys *keys);
/* NULL: there is none. Stale after the next change. */
const struct sim_meta_item *sim_meta_keys_find(const struct sim_meta_keys *keys, const char *key);
/* Do all of the conditions hold? */
bool sim_meta_keys_match(const struct sim_meta_keys *keys, const struct meta_condition *conditions,
                         uint32_t count);
/* All of it is one revision. False: it changed nothing. */
bool sim_meta_keys_change(struct sim_meta_keys *keys, const struct meta_change *changes, uint32_t count);
/* Answers `range`, in memory of the node that runs. */
void sim_meta_keys_range(const struct sim_meta_keys *keys, struct meta_range *range);
/* Drops the history. */
void sim_meta_keys_forget(struct sim_meta_keys *keys);

/* Copies in the simulator's own memory, which outlives nodes; free() ends them. */
void *sim_meta_bytes_copy(const void *bytes, size_t len);
char *sim_meta_key_copy(const char *key);

#endif
