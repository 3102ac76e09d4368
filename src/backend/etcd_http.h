/* SPDX-License-Identifier: Apache-2.0
 *
 * POST requests over libcurl, driven by the core: curl's sockets are polled through the core's ring and its
 * timeout is a timer of the core. No thread of its own (libcurl resolves names, but not numbers, in one).
 *
 * Everything of curl's runs inside etcd_http_step(), which the owner's op calls whenever it is woken.
 */
#ifndef BACKEND_ETCD_HTTP_H
#define BACKEND_ETCD_HTTP_H

#include "backend/uring.h"
#include "base/list.h"

struct etcd_address;

struct etcd_http {
    void *multi; /* CURLM */
    struct uring_core *uc;
    struct op *op; /* the owner's */
    struct timer timer;
    struct list polls;
};

struct etcd_fetch_opts {
    const struct etcd_address *address;
    uint32_t endpoint;
    const char *path;  /* "/v3/kv/range" */
    const char *token; /* empty: none */
    char *body;        /* becomes the fetch's */
    size_t body_len;
    uint64_t timeout_ms;
    size_t answer_max; /* bytes held at once */
    bool once;         /* never sent twice, whatever happens to the connection */
};

/* Embedded in its owner; zeroed before each start. */
struct etcd_fetch {
    void *easy, *headers; /* CURL, struct curl_slist */
    char *body;
    char *data; /* what has come and has not been taken */
    size_t len, cap, max;
    bool once, sent; /* sent: the peer may have got some of it */
    bool overflow;   /* the answer was larger than the limit */
    bool done;
    long status; /* of HTTP; 0: none came */
    bool timed_out;
    char failure[256]; /* empty: the answer is whole */
};

/* ERR_NO_MEMORY. `op` is woken when there is something to do in etcd_http_step(). */
MUST_CHECK int etcd_http_init(struct etcd_http *http, struct uring_core *uc, struct op *op);
void etcd_http_fini(struct etcd_http *http); /* all fetches have been ended */
void etcd_http_step(struct etcd_http *http);

/* ERR_NO_MEMORY: nothing was started (and the body is freed). */
MUST_CHECK int etcd_fetch_start(struct etcd_http *http, struct etcd_fetch *fetch,
                                const struct etcd_fetch_opts *opts);
/* Forgets `len` bytes of the answer's beginning. */
void etcd_fetch_take(struct etcd_fetch *fetch, size_t len);
/* Ends it at any time, done or not, and frees what it held. */
void etcd_fetch_end(struct etcd_http *http, struct etcd_fetch *fetch);

#endif
