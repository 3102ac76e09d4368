/* SPDX-License-Identifier: Apache-2.0
 *
 * How items change: the turn, what a change consists of, its commit; and the load, which reads all of them.
 */
#ifndef MON_CHANGE_H
#define MON_CHANGE_H

#include "mon/items.h"
#include "rt/meta.h"

struct mon;

struct mon_put {
    enum mon_kind kind;
    uint64_t id;
    char key[40];
    uint8_t *value; /* NULL: delete */
    uint32_t value_len;
    struct mon_item
        *node; /* made beforehand in case it is new, so that memory cannot fail after the commit */
    ProtobufCMessage *message; /* what memory gets */
};

struct mon_change {
    struct mon *mon;
    Fb__MonState state; /* as it will be; starts as the present one with the next epoch */
    struct mon_put *puts;
    uint32_t count, cap;
    int error; /* the first that a put met; the commit answers it */
};

struct mon_load {
    struct op op;
    struct mon *mon;
    bool create; /* an empty store gets its first state */
    struct meta_range range;
    struct meta_txn txn;
    struct meta_condition conditions[2];
    struct meta_change changes[META_TXN_OPS_MAX];
    char first[META_KEY_MAX + 2], end[META_KEY_MAX + 2];
    int kind;
    uint64_t revision;       /* of the state that was read first, */
    uint64_t whole_revision; /* and of the one that was read last */
    uint64_t from_revision;  /* of the store at first: what was written since is not all seen */
    Fb__MonState *state;
    char (*orphans)[40]; /* PGs of a pool whose creation did not come to its end */
    uint32_t orphan_count, orphan_cap, orphan_batch;
    uint8_t value[256];
    char message[200];
};

struct mon_commit {
    struct op op;
    struct mon *mon;
    struct mon_change *change;
    uint64_t epoch; /* that the change comes to; also when it has ended */
    uint32_t
        remaining; /* puts not yet written: written from the end, so that the first come with the state */
    uint32_t batch;
    struct meta_condition conditions[2];
    struct meta_change changes[META_TXN_OPS_MAX];
    struct meta_txn txn;
    uint8_t state_value[256];
};

void mon_change_init(struct mon_change *c, struct mon *mon);
void mon_change_fini(struct mon_change *c);
/* Copies the message. Deleting: message NULL. The item's epoch is the caller's to set (c->state.epoch). */
void mon_change_put(struct mon_change *c, enum mon_kind kind, uint64_t id, const ProtobufCMessage *message);

/* FIFO; true: the turn is yours. Otherwise `op` is woken when it is. `waiting` is a node of the caller's. */
struct mon_turn {
    struct list link;
    struct op *op;
    bool held;
};
bool mon_turn_take(struct mon *mon, struct mon_turn *turn, struct op *op);
void mon_turn_give(struct mon *mon, struct mon_turn *turn);

/* With the turn. Writes the change and brings memory up to date. On an error the outcome may be unknown:
 * mon->stale is set and memory must be loaded again before the next change. Even what a load does not show
 * the store may carry out later (an etcd that had it in a queue), and those who follow tell others of it.
 * After the next change it cannot, for that has moved its condition; so the tick makes one, of nothing if
 * need be.
 */
void mon_commit_start(struct mon *mon, struct mon_change *c, struct op *parent);
/* A transaction of this monitor, under its conditions, has ended with that error. */
void mon_doubt(struct mon *mon, int error);
/* Why, in words. */
const char *mon_store_error(int error);

#endif
