/* SPDX-License-Identifier: Apache-2.0
 *
 * POST requests over libcurl on the core's ring.
 *
 * Each poll in the ring is a small allocation of its own: curl may change its mind about a socket, or close
 * it, while the kernel still holds the poll. Such a poll is abandoned: cancelled, and freed when it
 * completes.
 */
#include "backend/etcd_http.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "backend/etcd_address.h"
#include "base/error.h"

#define CONNECT_TIMEOUT_MS 2000l
#define PEER_TIMEOUT_MS    10000 /* bytes unacknowledged, or silence of a dead host, for so long: broken */
#define CONNECTIONS_MAX    32l

struct etcd_poll {
    struct uring_req req;
    struct list link;
    struct etcd_http *http; /* NULL: abandoned */
    curl_socket_t fd;
    unsigned events;
    int result; /* once ready: poll()'s events, or an error */
    bool ready; /* has completed and has not been armed again */
};

/* ---- polls ---- */

static void poll_done(struct uring_req *req, int res, uint32_t cqe_flags)
{
    struct etcd_poll *p = container_of(req, struct etcd_poll, req);

    if (!p->http) {
        free(p);
        return;
    }
    p->ready = true;
    p->result = res;
    op_wake(p->http->op);
}

static void poll_arm(struct etcd_poll *p)
{
    struct io_uring_sqe *sqe = uring_sqe(p->http->uc);

    io_uring_prep_poll_add(sqe, p->fd, p->events);
    uring_sqe_own(p->http->uc, sqe, &p->req);
    p->ready = false;
}

static void poll_abandon(struct etcd_poll *p)
{
    struct uring_core *uc = p->http->uc;

    list_remove(&p->link);
    p->http = NULL;
    if (p->ready)
        free(p);
    else
        uring_cancel(uc, &p->req);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *owner, void *socket_owner)
{
    struct etcd_http *http = owner;
    struct etcd_poll *p = NULL;

    if (socket_owner)
        poll_abandon(socket_owner);
    if (what != CURL_POLL_REMOVE) {
        p = calloc(1, sizeof(*p));
        if (!p)
            return -1; /* curl fails the transfers */
        p->req.done = poll_done;
        p->http = http;
        p->fd = fd;
        p->events = (what & CURL_POLL_IN ? POLLIN : 0u) | (what & CURL_POLL_OUT ? POLLOUT : 0u);
        list_push_back(&http->polls, &p->link);
        poll_arm(p);
    }
    curl_multi_assign(http->multi, fd, p);
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *owner)
{
    struct etcd_http *http = owner;
    struct core *core = &http->uc->core;

    if (timeout_ms < 0)
        timer_cancel(core, &http->timer);
    else
        timer_arm(core, &http->timer, http->op, core_now_ns(core) + (uint64_t)timeout_ms * NS_PER_MS);
    return 0;
}

/* ---- fetches ---- */

static size_t on_data(char *bytes, size_t size, size_t count, void *owner)
{
    struct etcd_fetch *f = owner;
    size_t len = size * count;

    if (len > f->max - f->len) {
        f->overflow = true;
        return 0; /* ends the transfer */
    }
    if (f->len + len > f->cap) {
        size_t cap = MIN(f->max, MAX(f->len + len, f->cap * 2));
        char *data = realloc(f->data, cap);
        if (!data)
            return 0;
        f->data = data;
        f->cap = cap;
    }
    memcpy(f->data + f->len, bytes, len);
    f->len += len;
    return len;
}

/* Called whenever the request is about to go out: again, when curl found that a connection it kept had died.
 */
static int on_send(void *owner, char *peer, char *local, int peer_port, int local_port)
{
    struct etcd_fetch *f = owner;

    if (f->sent && f->once)
        return CURL_PREREQFUNC_ABORT;
    f->sent = true;
    return CURL_PREREQFUNC_OK;
}

static int on_open(void *owner, curl_socket_t fd, curlsocktype purpose)
{
    static const struct {
        int option, value;
    } options[] = {{TCP_KEEPIDLE, 5}, {TCP_KEEPINTVL, 2}, {TCP_USER_TIMEOUT, PEER_TIMEOUT_MS}};
    int one = 1;

    /* Without them a dead host is noticed later. */
    (void)!setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        (void)!setsockopt(fd, IPPROTO_TCP, options[i].option, &options[i].value, sizeof(options[i].value));
    return CURL_SOCKOPT_OK;
}

static bool add_header(struct etcd_fetch *f, const char *header)
{
    struct curl_slist *more = curl_slist_append(f->headers, header);

    if (more)
        f->headers = more;
    return more;
}

static bool set_headers(struct etcd_fetch *f, const char *token)
{
    char line[1200];

    /* A member that has lost the others says so at once instead of letting us wait. */
    if (!add_header(f, "Content-Type: application/json") || !add_header(f, "Expect:") ||
        !add_header(f, "Grpc-Metadata-hasleader: true"))
        return false;
    snprintf(line, sizeof(line), "Authorization: %s", token);
    return !*token || add_header(f, line);
}

static bool set_options(struct etcd_fetch *f, const struct etcd_fetch_opts *o)
{
    const struct etcd_address *a = o->address;
    char url[512];
    bool bad = false;

    snprintf(url, sizeof(url), "%s://%s%s", *a->ca ? "https" : "http", a->endpoints[o->endpoint], o->path);
#define SET(option, value) (bad |= curl_easy_setopt(f->easy, option, value) != CURLE_OK)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, *a->ca ? "https" : "http");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOSIGNAL, 1l);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)o->body_len);
    SET(CURLOPT_POSTFIELDS, f->body);
    SET(CURLOPT_HTTPHEADER, (struct curl_slist *)f->headers);
    SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    SET(CURLOPT_TIMEOUT_MS, (long)o->timeout_ms);
    SET(CURLOPT_WRITEFUNCTION, on_data);
    SET(CURLOPT_WRITEDATA, f);
    SET(CURLOPT_PREREQFUNCTION, on_send);
    SET(CURLOPT_PREREQDATA, f);
    SET(CURLOPT_SOCKOPTFUNCTION, on_open);
    SET(CURLOPT_ERRORBUFFER, f->failure);
    SET(CURLOPT_PRIVATE, f);
    if (*a->ca) {
        SET(CURLOPT_CAINFO, a->ca);
        SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    }
    if (*a->cert) {
        SET(CURLOPT_SSLCERT, a->cert);
        SET(CURLOPT_SSLKEY, a->key);
    }
#undef SET
    return !bad;
}

int etcd_fetch_start(struct etcd_http *http, struct etcd_fetch *f, const struct etcd_fetch_opts *o)
{
    f->body = o->body;
    f->max = o->answer_max;
    f->once = o->once;
    f->easy = curl_easy_init();
    if (f->easy && set_headers(f, o->token) && set_options(f, o) &&
        curl_multi_add_handle(http->multi, f->easy) == CURLM_OK)
        return 0;
    if (f->easy)
        curl_easy_cleanup(f->easy);
    f->easy = NULL;
    etcd_fetch_end(http, f);
    return -ERR_NO_MEMORY;
}

void etcd_fetch_take(struct etcd_fetch *f, size_t len)
{
    ASSERT(len <= f->len);
    f->len -= len;
    if (len)
        memmove(f->data, f->data + len, f->len);
}

void etcd_fetch_end(struct etcd_http *http, struct etcd_fetch *f)
{
    if (f->easy) {
        curl_multi_remove_handle(http->multi, f->easy);
        curl_easy_cleanup(f->easy);
    }
    curl_slist_free_all(f->headers);
    free(f->body);
    free(f->data);
    *f = (struct etcd_fetch){0};
}

static void fetch_finished(struct etcd_fetch *f, CURLcode code)
{
    f->done = true;
    f->timed_out = code == CURLE_OPERATION_TIMEDOUT;
    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &f->status);
    if (code == CURLE_OK)
        f->failure[0] = 0;
    else if (!f->failure[0])
        snprintf(f->failure, sizeof(f->failure), "%s", curl_easy_strerror(code));
}

/* ---- life ---- */

int etcd_http_init(struct etcd_http *http, struct uring_core *uc, struct op *op)
{
    *http = (struct etcd_http){.uc = uc, .op = op};
    list_init(&http->polls);
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return -ERR_NO_MEMORY;
    http->multi = curl_multi_init();
    if (!http->multi) {
        curl_global_cleanup();
        return -ERR_NO_MEMORY;
    }
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX);
    return 0;
}

void etcd_http_fini(struct etcd_http *http)
{
    curl_multi_cleanup(http->multi);
    curl_global_cleanup();
    while (!list_empty(&http->polls))
        poll_abandon(list_first(&http->polls, struct etcd_poll, link));
    timer_cancel(&http->uc->core, &http->timer);
}

static struct etcd_poll *ready_poll(struct etcd_http *http)
{
    list_for_each (&http->polls, node) {
        struct etcd_poll *p = list_entry(node, struct etcd_poll, link);
        if (p->ready)
            return p;
    }
    return NULL;
}

void etcd_http_step(struct etcd_http *http)
{
    struct etcd_poll *p;
    CURLMsg *message;
    int rest;

    while ((p = ready_poll(http))) {
        int events = p->result < 0                                ? CURL_CSELECT_ERR
                     : (p->result & (POLLIN | POLLHUP | POLLERR)) ? CURL_CSELECT_IN
                                                                  : 0;
        if (p->result > 0 && p->result & (POLLOUT | POLLERR))
            events |= CURL_CSELECT_OUT;
        /* Armed before curl acts, because curl may end it; the kernel looks after this turn. */
        curl_socket_t fd = p->fd;
        poll_arm(p);
        curl_multi_socket_action(http->multi, fd, events, &rest);
    }
    if (http->timer.fired) {
        http->timer.fired = false;
        curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &rest);
    }
    while ((message = curl_multi_info_read(http->multi, &rest))) {
        struct etcd_fetch *f = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&f);
        fetch_finished(f, message->data.result);
    }
}
