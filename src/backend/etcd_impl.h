/* SPDX-License-Identifier: Apache-2.0
 *
 * What etcd_meta.c and etcd_watch.c share.
 */
#ifndef BACKEND_ETCD_IMPL_H
#define BACKEND_ETCD_IMPL_H

#include "backend/etcd_address.h"
#include "backend/etcd_http.h"
#include "backend/etcd_json.h"

#define ETCD_ANSWER_MAX (16u << 20) /* bytes of one answer, or of one message of a watch */

/* A request of the port, or the login (none of the three). */
struct etcd_call {
    struct list link;
    struct meta_range *range;
    struct meta_txn *txn;
    struct meta_lease *lease;
    struct etcd_fetch fetch;
    bool fetching;
    uint32_t endpoint; /* of the fetch */
    uint32_t attempts;
    uint64_t start_ns;    /* the next attempt is not made before */
    uint64_t deadline_ns; /* no attempt is made after */
    int error;            /* of the last attempt */
    uint64_t login;       /* the login whose token it carries */
    /* Of a range: where the next page begins, how large it is, which revision all pages show (0: the newest).
     */
    char next[META_KEY_MAX + 2];
    uint32_t page;
    uint64_t revision;
};

struct etcd_watcher {
    struct list link;
    struct meta_watch *watch; /* NULL: given up, freed after the round */
    struct etcd_fetch fetch;
    bool fetching, created;
    uint32_t endpoint, failures;
    uint64_t start_ns;
    uint64_t seen_revision; /* all changes up to it have been told */
};

struct etcd_meta {
    struct meta meta; /* first */
    struct core *core;
    struct op op; /* does everything; lives as long as the store is open */
    struct etcd_http http;
    struct etcd_address address;
    uint32_t endpoint;               /* the member that is asked first */
    bool failed[ETCD_ENDPOINTS_MAX]; /* the member has not answered since that was logged */
    struct timer timer;
    struct list calls, watchers;
    bool telling; /* inside the events of watches */
    struct etcd_call login;
    uint64_t logins;             /* done so far */
    char token[ETCD_TOKEN_SIZE]; /* empty: none (yet) */
};

/* True if requests may go out: there is a token, or none is needed. Else a login is under way. */
bool etcd_has_token(struct etcd_meta *m);
/* The member at `endpoint` failed: others go first from now on. */
void etcd_endpoint_failed(struct etcd_meta *m, uint32_t endpoint, const char *why);
/* How long to wait before the next attempt after so many: not at all before every member was asked once. */
uint64_t etcd_backoff_ns(const struct etcd_meta *m, uint32_t attempts);

/* In etcd_watch.c. The step returns by when it wants to be called again (UINT64_MAX: when something happens).
 */
uint64_t etcd_watchers_step(struct etcd_meta *m);
void etcd_watch(struct meta *meta, struct meta_watch *watch);
void etcd_unwatch(struct meta *meta, struct meta_watch *watch);
void etcd_watchers_close(struct etcd_meta *m);

#endif
