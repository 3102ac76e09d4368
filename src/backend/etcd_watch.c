/* SPDX-License-Identifier: Apache-2.0
 *
 * Watches on etcd: each is one request whose answer does not end, a message per line.
 *
 * However a stream ends, the next one begins behind the last revision that was told in whole, at the next
 * member if this one failed, or failed another request: one that hangs, or whose machine is gone, says
 * nothing on a stream. A stream is ended and begun anew after a while in any case: so a member that hangs
 * cannot keep news back for longer than that. After a failure changes of one revision may be told twice.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/etcd_impl.h"
#include "base/error.h"

#define STREAM_RENEW_MS 20000

static void stream_end(struct etcd_meta *m, struct etcd_watcher *w)
{
    if (w->fetching)
        etcd_fetch_end(&m->http, &w->fetch);
    w->fetching = w->created = false;
}

static void stream_failed(struct etcd_meta *m, struct etcd_watcher *w, const char *why)
{
    etcd_endpoint_failed(m, w->endpoint, why);
    stream_end(m, w);
    w->failures++;
    w->start_ns = core_now_ns(m->core) + etcd_backoff_ns(m, w->failures);
}

static void stream_start(struct etcd_meta *m, struct etcd_watcher *w)
{
    struct etcd_text text = {0};

    etcd_write_watch(&text, m->address.prefix, w->watch->first, w->watch->end, w->seen_revision + 1);
    struct etcd_fetch_opts opts = {.address = &m->address,
                                   .endpoint = m->endpoint,
                                   .path = "/v3/watch",
                                   .token = m->token,
                                   .body = text.data,
                                   .body_len = text.len,
                                   .timeout_ms = STREAM_RENEW_MS,
                                   .answer_max = ETCD_ANSWER_MAX};
    w->endpoint = m->endpoint;
    if (text.failed)
        free(text.data);
    else
        w->fetching = !etcd_fetch_start(&m->http, &w->fetch, &opts);
    if (!w->fetching)
        w->start_ns = core_now_ns(m->core) + NS_PER_S; /* no memory: perhaps then */
}

static void tell(struct etcd_meta *m, struct etcd_watcher *w, const struct etcd_events *e)
{
    for (uint32_t i = 0; i < e->count && w->watch; i++) {
        const struct meta_kv *kv = &e->kvs[i];
        if (kv->mod_revision > w->seen_revision)
            w->watch->changed(w->watch->owner, kv);
    }
    if (e->count) {
        uint64_t last = e->kvs[e->count - 1].mod_revision;
        w->seen_revision = MAX(w->seen_revision, last - e->fragment);
    }
}

static void tell_compacted(struct etcd_watcher *w, uint64_t oldest_revision)
{
    struct meta_watch *watch = w->watch;

    w->watch = NULL;
    watch->port_private = NULL;
    watch->compacted(watch->owner, oldest_revision);
}

/* One message. False: the stream or the watch is over. */
static bool take_message(struct etcd_meta *m, struct etcd_watcher *w, const char *line, size_t len)
{
    struct etcd_events e;
    int result = etcd_read_events(line, len, m->address.prefix, &e);

    if (result) {
        stream_failed(m, w, error_text(result));
        return false;
    }
    if (e.compact_revision) {
        tell_compacted(w, e.compact_revision);
    } else if (e.cancelled) {
        m->token[0] = 0; /* perhaps that is why */
        stream_failed(m, w, *e.reason ? e.reason : "the watch was cancelled");
    } else {
        w->created |= e.created;
        w->failures = 0;
        tell(m, w, &e);
    }
    etcd_events_free(&e);
    return w->watch && w->fetching;
}

static void take_messages(struct etcd_meta *m, struct etcd_watcher *w)
{
    const struct etcd_fetch *f = &w->fetch;
    size_t taken = 0;
    const char *end;

    if (f->status && f->status != 200)
        return;
    while (taken < f->len && (end = memchr(f->data + taken, '\n', f->len - taken))) {
        size_t len = (size_t)(end - (f->data + taken));
        if (len && !take_message(m, w, f->data + taken, len))
            return;
        taken += len + 1;
    }
    etcd_fetch_take(&w->fetch, taken);
}

static void stream_finished(struct etcd_meta *m, struct etcd_watcher *w)
{
    const struct etcd_fetch *f = &w->fetch;
    struct etcd_error refusal = {0};

    if (f->timed_out && w->created) { /* the renewal */
        stream_end(m, w);
        return;
    }
    if (f->status && f->status != 200) {
        m->token[0] = 0;
        etcd_read_error(f->data, f->len, &refusal);
    }
    stream_failed(m, w, *refusal.message ? refusal.message : *f->failure ? f->failure : "the watch ended");
}

static uint64_t watcher_step(struct etcd_meta *m, struct etcd_watcher *w)
{
    if (!w->watch)
        return UINT64_MAX;
    if (w->fetching) {
        take_messages(m, w);
        if (w->watch && w->fetching && w->fetch.done)
            stream_finished(m, w);
        else if (w->watch && w->fetching && w->endpoint != m->endpoint)
            stream_end(m, w); /* that member has failed another request */
    }
    if (!w->watch || w->fetching)
        return UINT64_MAX;
    if (core_now_ns(m->core) < w->start_ns)
        return w->start_ns;
    if (!etcd_has_token(m))
        return core_now_ns(m->core) + NS_PER_S;
    stream_start(m, w);
    return w->fetching ? UINT64_MAX : w->start_ns;
}

uint64_t etcd_watchers_step(struct etcd_meta *m)
{
    uint64_t again_ns = UINT64_MAX;

    m->telling = true;
    list_for_each (&m->watchers, node) {
        struct etcd_watcher *w = list_entry(node, struct etcd_watcher, link);
        uint64_t watcher_ns = watcher_step(m, w);
        again_ns = MIN(again_ns, watcher_ns);
    }
    m->telling = false;
    list_for_each_safe (&m->watchers, gone) {
        struct etcd_watcher *w = list_entry(gone, struct etcd_watcher, link);
        if (w->watch)
            continue;
        stream_end(m, w);
        list_remove(&w->link);
        free(w);
    }
    return again_ns;
}

void etcd_watch(struct meta *meta, struct meta_watch *watch)
{
    struct etcd_meta *m = container_of(meta, struct etcd_meta, meta);
    struct etcd_watcher *w = calloc(1, sizeof(*w));

    ASSERT(w); /* the port has no way to refuse a watch; there are a handful in a process' life */
    w->watch = watch;
    w->seen_revision = watch->from_revision;
    watch->port_private = w;
    list_push_back(&m->watchers, &w->link);
    op_wake(&m->op);
}

void etcd_unwatch(struct meta *meta, struct meta_watch *watch)
{
    struct etcd_meta *m = container_of(meta, struct etcd_meta, meta);
    struct etcd_watcher *w = watch->port_private;

    if (!w)
        return;
    watch->port_private = NULL;
    w->watch = NULL;
    op_wake(&m->op); /* ends the stream */
}

void etcd_watchers_close(struct etcd_meta *m)
{
    for (struct list *node = list_pop_front(&m->watchers); node; node = list_pop_front(&m->watchers)) {
        struct etcd_watcher *w = list_entry(node, struct etcd_watcher, link);
        if (w->watch)
            w->watch->port_private = NULL;
        stream_end(m, w);
        free(w);
    }
}
