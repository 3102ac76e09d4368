/* SPDX-License-Identifier: Apache-2.0
 *
 * A monitor's metadata in memory: keys and values as the metadata store has them (rt/meta.h, mon/impl.h),
 * without the keys "cluster/..." that live under leases. Read from a store, from the monitors, or from a
 * file; written to an empty store, or to a file.
 *
 * All functions print what went wrong; they return an exit code.
 */
#ifndef CMD_META_SET_H
#define CMD_META_SET_H

#include "cmd/cmd.h"
#include "rt/meta.h"

struct meta_set {
    struct meta_kv *kvs; /* keys and values on the heap */
    uint32_t count, cap;
    uint32_t *index; /* by the key's hash: place in kvs plus 1, or 0; 2 * cap of them */
};

void meta_set_free(struct meta_set *set);
/* Copies; the key is not there yet. A value may be larger than a metadata store takes (a saved map).
 * ERR_NO_MEMORY, ERR_TOO_LARGE: the key. */
MUST_CHECK int meta_set_put(struct meta_set *set, const char *key, const void *value, size_t len);
const struct meta_kv *meta_set_get(const struct meta_set *set, const char *key);
void meta_set_remove(struct meta_set *set, const char *key);

/* docs/format/backup.md */
int meta_set_write(const struct meta_set *set, const char *path);
int meta_set_read(struct meta_set *ret_set, const char *path);

/* A metadata store: a monitor's data directory, or etcd://... */
struct meta_place {
    struct uring_core *uring;
    struct meta *meta;
    char path[4096]; /* of the database; empty: etcd */
};
/* `fresh`: it is made if it is not there. */
int meta_place_open(struct meta_place *place, const char *text, bool fresh);
void meta_place_close(struct meta_place *place);
int meta_place_load(struct meta_place *place, struct meta_set *ret_set);
/* Refused unless it is empty. Counts as a whole: the state comes last. */
int meta_place_fill(struct meta_place *place, const struct meta_set *set);

#endif
