/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of etcd's JSON gateway: requests written, answers read. Nothing here waits or calls anybody.
 *
 * Keys and values travel in base64, 64-bit numbers as strings, zero and false are left out. Every key stands
 * under the store's prefix, which is added and taken off here. Answers are bytes from outside: what does not
 * have the form expected is ERR_PROTOCOL.
 */
#ifndef BACKEND_ETCD_JSON_H
#define BACKEND_ETCD_JSON_H

#include "base/base.h"
#include "rt/meta.h"

#define ETCD_MESSAGE_SIZE 160
#define ETCD_TOKEN_SIZE   1024

/* Numbers of gRPC's states, as the gateway gives them. */
enum etcd_code {
    ETCD_UNKNOWN = 2,
    ETCD_INVALID = 3,
    ETCD_NOT_FOUND = 5,
    ETCD_PERMISSION_DENIED = 7,
    ETCD_EXHAUSTED = 8,
    ETCD_OUT_OF_RANGE = 11,
    ETCD_UNAVAILABLE = 14,
    ETCD_UNAUTHENTICATED = 16,
};

/* Text that grows. Zeroed before first use; `data` is the owner's, also after a failure. */
struct etcd_text {
    char *data;
    size_t len, cap;
    bool failed; /* out of memory: the text is not whole */
};

/* `revision` 0: the newest; `limit` 0: none; `end` NULL: the key `first` alone. */
void etcd_write_range(struct etcd_text *text, const char *prefix, const char *first, const char *end,
                      uint32_t limit, uint64_t revision);
/* etcd refuses two changes of one key: the last one stands for all. */
void etcd_write_txn(struct etcd_text *text, const char *prefix, const struct meta_txn *txn);
void etcd_write_watch(struct etcd_text *text, const char *prefix, const char *first, const char *end,
                      uint64_t start_revision);
void etcd_write_grant(struct etcd_text *text, uint64_t ttl_s);
void etcd_write_lease(struct etcd_text *text, uint64_t id); /* to renew or to revoke it */
void etcd_write_login(struct etcd_text *text, const char *user, const char *password);

/* A growing list of keys in a range's answer. */
struct etcd_page {
    uint64_t revision;
    bool more;
    uint32_t count;
};
/* Appends the answer's keys to `range`. ERR_PROTOCOL, ERR_NO_MEMORY: what was appended stays. */
MUST_CHECK int etcd_read_range(const char *data, size_t len, const char *prefix, struct meta_range *range,
                               struct etcd_page *ret_page);
/* Frees all keys of a range's answer. */
void etcd_range_free(struct meta_range *range);
MUST_CHECK int etcd_read_txn(const char *data, size_t len, bool *ret_succeeded, uint64_t *ret_revision);
MUST_CHECK int etcd_read_grant(const char *data, size_t len, uint64_t *ret_id);
/* ERR_NOT_FOUND: it had ended. */
MUST_CHECK int etcd_read_renewal(const char *data, size_t len);
MUST_CHECK int etcd_read_token(const char *data, size_t len, char ret_token[ETCD_TOKEN_SIZE]);

struct etcd_error {
    int code; /* 0: the answer was no error message of etcd's */
    char message[ETCD_MESSAGE_SIZE];
};
void etcd_read_error(const char *data, size_t len, struct etcd_error *ret_error);

/* One message of a watch. */
struct etcd_events {
    bool created, cancelled;
    bool fragment;             /* more of its last revision follows */
    uint64_t compact_revision; /* cancelled because of it; 0: not */
    uint32_t count;
    struct meta_kv *kvs; /* value NULL: deleted */
    char reason[ETCD_MESSAGE_SIZE];
};
MUST_CHECK int etcd_read_events(const char *data, size_t len, const char *prefix,
                                struct etcd_events *ret_events);
void etcd_events_free(struct etcd_events *events);

#endif
