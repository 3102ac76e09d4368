/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules for faults of a device, as fault_rules.c reads and fault_blk.c applies them. A set of rules is
 * immutable; a new one takes the place of the old, which stays until the end because a shard's thread may
 * just be looking at it.
 */
#ifndef BACKEND_FAULT_H
#define BACKEND_FAULT_H

#include <stdatomic.h>

#include "backend/backend.h"

#define FAULT_RULES_MAX 64

enum fault_effect { FAULT_DELAY, FAULT_ERROR, FAULT_READ_ONLY, FAULT_STUCK, FAULT_FLIP };

struct fault_rule {
    uint32_t types; /* bits 1 << enum blk_type */
    enum fault_effect effect;
    uint64_t delay_ns;
    uint64_t from, len; /* bytes of the device */
};

struct fault_rules {
    struct fault_rules *older;
    uint32_t count;
    struct fault_rule rule[FAULT_RULES_MAX];
};

struct faults {
    const char *path;
    _Atomic(struct fault_rules *) rules; /* written by the thread that loads, read by those of the cores */
};

#endif
