/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata store port: what the monitor keeps its state in. Only what both SQLite and etcd v3 can do.
 *
 * Keys are strings (printable, '/'-separated, at most META_KEY_MAX), values are bytes (at most META_VALUE_MAX). The
 * store has one revision, a counter that rises with every transaction that changes anything (by one, if nobody else
 * uses the store); every key remembers the revision that last changed it (`mod_revision`; 0: the key is not there).
 *
 * A transaction is a list of conditions "key K's mod_revision equals R" and a list of puts and deletes, applied
 * together or not at all; of several changes of one key the last counts. What a transaction holds in all is bounded
 * by etcd's --max-request-bytes (1.5 MiB): ERR_TOO_LARGE. Linearizable; durable when it completes.
 * Drivers: src/backend/sqlite_meta.c, sim/sim_meta.c, src/backend/etcd_meta.c; tests/port runs one suite on all of them.
 */
#ifndef RT_META_H
#define RT_META_H

#include "base/base.h"
#include "rt/op.h"

#define META_KEY_MAX      256
#define META_VALUE_MAX    (1u << 20)
#define META_TXN_OPS_MAX  128 /* conditions, and changes, in one transaction: etcd's default limit */

struct meta_kv {
    const char *key;
    const void *value;
    uint32_t value_len;
    uint64_t mod_revision;
};

/* Reads keys in [first, end) in byte order; end == NULL: only `first`. Prefix p: first = p, end = p with its last byte plus one. */
struct meta_range {
    const char *first, *end;
    uint32_t limit;           /* at most this many; 0: no limit */
    struct op *waiter;
    bool pending;
    int result;
    uint64_t ret_revision;    /* the store's revision that the answer shows */
    struct meta_kv *ret_kvs;  /* owned by the request until meta_range_fini() */
    uint32_t ret_count;
    bool ret_more;            /* the limit cut the answer short */
};

struct meta_condition {
    const char *key;
    uint64_t mod_revision;
};

struct meta_change {
    const char *key;
    const void *value; /* NULL: delete */
    uint32_t value_len;
    uint64_t lease;    /* of a put: the key goes when this lease ends; 0: it stays */
};

struct meta_txn {
    const struct meta_condition *conditions;
    uint32_t condition_count;
    const struct meta_change *changes;
    uint32_t change_count;
    struct op *waiter;
    bool pending;
    int result;             /* 0; ERR_CONFLICT: a condition did not hold, ERR_NOT_FOUND: a lease had ended: nothing
                               changed; ERR_IO and others: unknown */
    uint64_t ret_revision;  /* after the transaction */
};

/* A watch reports every change of keys in [first, end) after `from_revision`, in order of revision; after a failure of the store's
 * those of one revision may be reported twice. */
struct meta_watch {
    const char *first, *end;
    uint64_t from_revision;
    /* From the core's poll. value NULL: deleted. */
    void (*changed)(void *owner, const struct meta_kv *kv);
    /* The store no longer has the history from there on: read the range again, then watch anew. */
    void (*compacted)(void *owner, uint64_t oldest_revision);
    void *owner;
    void *port_private;
};

/* A lease: a promise of the store to delete what was put under it once it ends, and not before: `ttl_ns` after it was granted or last
 * renewed, or when it is revoked. It may end later than that. The holder counts from when it SENT the last request that succeeded; the
 * store may still lose a lease at any time (its operator can), which the next renewal shows. Whoever wants to act only while he holds
 * one puts a key under it and makes that key's mod_revision a condition of every transaction. */
enum meta_lease_verb { META_LEASE_GRANT, META_LEASE_RENEW, META_LEASE_REVOKE };

struct meta_lease {
    enum meta_lease_verb verb;
    uint64_t ttl_ns;          /* GRANT: whole seconds */
    uint64_t id;              /* GRANT: set when it succeeds; not 0 */
    struct op *waiter;
    bool pending;
    int result;               /* 0; RENEW, REVOKE: ERR_NOT_FOUND: it has ended; others: unknown, after 4 s at most */
};

struct meta;
struct meta_ops {
    void (*range)(struct meta *meta, struct meta_range *range);
    void (*range_fini)(struct meta *meta, struct meta_range *range); /* frees the answer */
    void (*txn)(struct meta *meta, struct meta_txn *txn);
    void (*watch)(struct meta *meta, struct meta_watch *watch);
    void (*unwatch)(struct meta *meta, struct meta_watch *watch);
    void (*lease)(struct meta *meta, struct meta_lease *lease); /* NULL: whoever has the store open has it alone */
    void (*close)(struct meta *meta);
};

struct meta {
    const struct meta_ops *ops;
};

#endif
