/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata store port on etcd v3.
 *
 * One op does everything: it lets curl work, takes answers, starts what waits. A request goes to the member
 * that answered last; when that fails, to the next one. Reads are repeated until a deadline. A transaction is
 * repeated only when it was certainly not carried out: it never left, or etcd said so. Else its outcome is
 * not known and the request fails; a repetition could report a conflict with itself.
 *
 *   call: waiting (for its time, for a token) -> fetching -> waiting ... | completed
 */
#include "backend/etcd_meta.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/etcd_impl.h"
#include "base/error.h"

#define CALL_DEADLINE_NS (10 * NS_PER_S)
#define READ_TIMEOUT_MS  3000 /* of one attempt */
/* etcd itself gives up on a proposal after 5 s and two elections (1 s each by default): its answer is worth
 * more than our timeout. */
#define TXN_TIMEOUT_MS 8000
/* A holder of a lease wants to know in time whether it still has it. */
#define LEASE_DEADLINE_NS (3 * NS_PER_S)
#define LEASE_TIMEOUT_MS  1000
#define PAGE_KEYS         512 /* keys asked for at once; fewer when they are large */
#define BACKOFF_STEP_NS   (50 * NS_PER_MS)
#define BACKOFF_STEPS     10

enum verdict { ANSWERED, AGAIN, FAILED };

static bool is_login(const struct etcd_call *c)
{
    return !c->range && !c->txn && !c->lease;
}

void etcd_endpoint_failed(struct etcd_meta *m, uint32_t endpoint, const char *why)
{
    if (endpoint != m->endpoint)
        return; /* another request has found out before */
    m->endpoint = (endpoint + 1) % m->address.endpoint_count;
    if (!m->failed[endpoint]) /* once, not with each attempt as long as it is away */
        core_log(m->core, LOG_WARN, "meta", "etcd at %s: %s", m->address.endpoints[endpoint], why);
    m->failed[endpoint] = true;
}

uint64_t etcd_backoff_ns(const struct etcd_meta *m, uint32_t attempts)
{
    if (attempts < m->address.endpoint_count)
        return 0;
    return MIN(attempts - m->address.endpoint_count + 1, BACKOFF_STEPS) * BACKOFF_STEP_NS;
}

bool etcd_has_token(struct etcd_meta *m)
{
    if (!*m->address.user || *m->token)
        return true;
    if (!list_linked(&m->login.link)) {
        m->login = (struct etcd_call){.start_ns = core_now_ns(m->core)};
        m->login.deadline_ns = m->login.start_ns + CALL_DEADLINE_NS;
        list_push_front(&m->calls, &m->login.link);
        op_wake(&m->op);
    }
    return false;
}

/* ---- judging answers ---- */

/* What became of an attempt that etcd refused. */
static enum verdict judge_refusal(struct etcd_meta *m, struct etcd_call *c, const struct etcd_error *e)
{
    bool login = is_login(c);

    switch (e->code) {
    case ETCD_UNAUTHENTICATED: /* the token is no longer known: refused before anything was done */
        if (!*m->address.user || login)
            break;
        if (c->login == m->logins)
            m->token[0] = 0;
        c->error = -ERR_DENIED;
        return AGAIN;
    case ETCD_INVALID:
        if (*m->address.user && !login && strstr(e->message, "revision of auth store is old")) {
            if (c->login == m->logins)
                m->token[0] = 0;
            c->error = -ERR_DENIED;
            return AGAIN;
        }
        if (login || strstr(e->message, "user name is empty"))
            break;
        c->error =
            strstr(e->message, "too large") || strstr(e->message, "too many") ? -ERR_TOO_LARGE : -ERR_INVALID;
        return FAILED;
    case ETCD_PERMISSION_DENIED:
        break;
    case ETCD_NOT_FOUND: /* the lease; a member that lags behind may not know it yet, or any more */
        if (!c->lease && !(c->txn && strstr(e->message, "lease")))
            break;
        c->error = -ERR_NOT_FOUND;
        return FAILED;
    case ETCD_EXHAUSTED:
        c->error = strstr(e->message, "space")    ? -ERR_NO_SPACE
                   : strstr(e->message, "larger") ? -ERR_TOO_LARGE
                                                  : -ERR_BUSY;
        return c->error == -ERR_BUSY ? AGAIN : FAILED;
    case ETCD_OUT_OF_RANGE: /* the revision that a range's pages show has been compacted: from the start */
        if (!c->range || !c->revision) {
            c->error = -ERR_PROTOCOL;
            return FAILED;
        }
        etcd_range_free(c->range);
        c->revision = 0;
        strcpy(c->next, c->range->first);
        c->error = -ERR_COMPACTED;
        return AGAIN;
    default:
        if (login && e->code && e->code != ETCD_UNAVAILABLE && e->code != ETCD_UNKNOWN)
            break;
        c->error = e->code == ETCD_UNAVAILABLE ? -ERR_TIMEOUT : -ERR_PROTOCOL;
        etcd_endpoint_failed(m, c->endpoint, *e->message ? e->message : "an answer that is not etcd's");
        return c->txn && !strstr(e->message, "no leader") ? FAILED : AGAIN;
    }
    core_log(m->core, LOG_ERROR, "meta", "etcd at %s refuses%s: %s", m->address.endpoints[c->endpoint],
             login ? " the login" : "", e->message);
    c->error = -ERR_DENIED;
    return FAILED;
}

static enum verdict judge(struct etcd_meta *m, struct etcd_call *c)
{
    const struct etcd_fetch *f = &c->fetch;
    struct etcd_error refusal;

    if (f->overflow && c->range && c->page > 1) {
        c->page = MAX(c->page / 8, 1u);
        c->attempts = 0;
        c->error = -ERR_TOO_LARGE;
        return AGAIN;
    }
    if (*f->failure) {
        etcd_endpoint_failed(m, c->endpoint, f->failure);
        c->error = !f->sent ? -ERR_UNREACHABLE : f->timed_out ? -ERR_TIMEOUT : -ERR_CLOSED;
        return c->txn && f->sent ? FAILED : AGAIN;
    }
    if (f->status == 200)
        return ANSWERED;
    etcd_read_error(f->data, f->len, &refusal);
    return judge_refusal(m, c, &refusal);
}

/* ---- answers ---- */

/* AGAIN: the next page. */
static enum verdict take_page(struct etcd_meta *m, struct etcd_call *c)
{
    struct meta_range *range = c->range;
    struct etcd_page page;

    c->error = etcd_read_range(c->fetch.data, c->fetch.len, m->address.prefix, range, &page);
    if (c->error)
        return FAILED;
    if (!c->revision)
        c->revision = page.revision;
    if (!page.more || page.count == 0 || (range->limit && range->ret_count >= range->limit)) {
        range->ret_more = page.more;
        range->ret_revision = c->revision;
        return ANSWERED;
    }
    /* Keys are printable: nothing lies between one and the same with this behind it. */
    const char *last = range->ret_kvs[range->ret_count - 1].key;
    size_t len = strlen(last);
    memcpy(c->next, last, len);
    memcpy(c->next + len, "\x01", 2);
    c->attempts = 0;
    c->deadline_ns = core_now_ns(m->core) + CALL_DEADLINE_NS;
    return AGAIN;
}

static enum verdict take_txn(struct etcd_call *c)
{
    bool succeeded;

    c->error = etcd_read_txn(c->fetch.data, c->fetch.len, &succeeded, &c->txn->ret_revision);
    if (!c->error && !succeeded)
        c->error = -ERR_CONFLICT;
    return c->error ? FAILED : ANSWERED;
}

static enum verdict take_lease(struct etcd_call *c)
{
    if (c->lease->verb == META_LEASE_GRANT)
        c->error = etcd_read_grant(c->fetch.data, c->fetch.len, &c->lease->id);
    else if (c->lease->verb == META_LEASE_RENEW)
        c->error = etcd_read_renewal(c->fetch.data, c->fetch.len);
    return c->error ? FAILED : ANSWERED;
}

static enum verdict take_login(struct etcd_meta *m, struct etcd_call *c)
{
    c->error = etcd_read_token(c->fetch.data, c->fetch.len, m->token);
    m->logins += !c->error;
    return c->error ? FAILED : ANSWERED;
}

static void call_complete(struct etcd_meta *m, struct etcd_call *c, int result)
{
    list_remove(&c->link);
    if (c->range) {
        if (result)
            etcd_range_free(c->range);
        c->range->result = result;
        c->range->pending = false;
        op_wake(c->range->waiter);
    } else if (c->txn) {
        c->txn->result = result;
        c->txn->pending = false;
        op_wake(c->txn->waiter);
    } else if (c->lease) {
        c->lease->result = result;
        c->lease->pending = false;
        op_wake(c->lease->waiter);
    } else {
        return; /* the login's memory is the store's */
    }
    free(c);
}

/* Who waits for a token hears of the refusal; each later request tries anew. */
static void login_refused(struct etcd_meta *m, int result)
{
    list_for_each_safe (&m->calls, node) {
        struct etcd_call *c = list_entry(node, struct etcd_call, link);
        if (!c->fetching)
            call_complete(m, c, result);
    }
}

/* Other calls may be gone afterwards, too. */
static void call_finished(struct etcd_meta *m, struct etcd_call *c)
{
    bool login = is_login(c);
    enum verdict verdict = judge(m, c);

    if (verdict == ANSWERED) {
        m->failed[c->endpoint] = false;
        c->error = 0;
        verdict = c->range   ? take_page(m, c)
                  : c->txn   ? take_txn(c)
                  : c->lease ? take_lease(c)
                             : take_login(m, c);
    }
    etcd_fetch_end(&m->http, &c->fetch);
    c->fetching = false;
    if (verdict != AGAIN) {
        int result = c->error;
        call_complete(m, c, result);
        if (login && result)
            login_refused(m, result);
    } else {
        c->start_ns = core_now_ns(m->core) + (c->attempts ? etcd_backoff_ns(m, c->attempts) : 0);
    }
}

/* ---- attempts ---- */

static const char *const lease_paths[] = {
    [META_LEASE_GRANT] = "/v3/lease/grant",
    [META_LEASE_RENEW] = "/v3/lease/keepalive",
    [META_LEASE_REVOKE] = "/v3/lease/revoke",
};

static int call_start(struct etcd_meta *m, struct etcd_call *c, uint64_t now_ns)
{
    uint64_t rest_ms = MAX((c->deadline_ns - now_ns) / NS_PER_MS, 1000);
    struct etcd_text text = {0};
    struct etcd_fetch_opts opts = {.address = &m->address,
                                   .endpoint = m->endpoint,
                                   .token = "",
                                   .timeout_ms = MIN(c->txn     ? TXN_TIMEOUT_MS
                                                     : c->lease ? LEASE_TIMEOUT_MS
                                                                : READ_TIMEOUT_MS,
                                                     rest_ms),
                                   .answer_max = ETCD_ANSWER_MAX,
                                   .once = c->txn};

    if (c->range) {
        uint32_t left = c->range->limit ? c->range->limit - c->range->ret_count : c->page;
        opts.path = "/v3/kv/range";
        etcd_write_range(&text, m->address.prefix, c->next, c->range->end, MIN(left, c->page), c->revision);
    } else if (c->txn) {
        opts.path = "/v3/kv/txn";
        etcd_write_txn(&text, m->address.prefix, c->txn);
    } else if (c->lease) {
        opts.path = lease_paths[c->lease->verb];
        if (c->lease->verb == META_LEASE_GRANT)
            etcd_write_grant(&text, c->lease->ttl_ns / NS_PER_S);
        else
            etcd_write_lease(&text, c->lease->id);
    } else {
        opts.path = "/v3/auth/authenticate";
        etcd_write_login(&text, m->address.user, m->address.password);
    }
    if (!is_login(c))
        opts.token = m->token;
    opts.body = text.data;
    opts.body_len = text.len;
    if (text.failed) {
        free(text.data);
        return -ERR_NO_MEMORY;
    }
    c->endpoint = m->endpoint;
    c->login = m->logins;
    c->attempts++;
    int result = etcd_fetch_start(&m->http, &c->fetch, &opts);
    c->fetching = !result;
    return result;
}

/* Returns by when it wants to be called again. The call may be gone then. */
static uint64_t call_step(struct etcd_meta *m, struct etcd_call *c)
{
    bool login = is_login(c);

    if (c->fetching)
        return UINT64_MAX; /* the answer, or curl's timeout, wakes */
    uint64_t now_ns = core_now_ns(m->core);
    if (now_ns >= c->deadline_ns) {
        call_complete(m, c, c->error ? c->error : -ERR_UNREACHABLE);
        return UINT64_MAX;
    }
    if (!login && !etcd_has_token(m))
        return c->deadline_ns;
    if (now_ns < c->start_ns)
        return c->start_ns;
    int result = call_start(m, c, now_ns);
    if (result)
        call_complete(m, c, result);
    return UINT64_MAX;
}

static struct etcd_call *finished_call(struct etcd_meta *m)
{
    list_for_each (&m->calls, node) {
        struct etcd_call *c = list_entry(node, struct etcd_call, link);
        if (c->fetching && c->fetch.done)
            return c;
    }
    return NULL;
}

static void etcd_step(struct op *op)
{
    struct etcd_meta *m = container_of(op, struct etcd_meta, op);
    struct etcd_call *finished;
    uint64_t again_ns = UINT64_MAX;

    etcd_http_step(&m->http);
    while ((finished = finished_call(m)))
        call_finished(m, finished);
    list_for_each_safe (&m->calls, node) {
        uint64_t call_ns = call_step(m, list_entry(node, struct etcd_call, link));
        again_ns = MIN(again_ns, call_ns);
    }
    uint64_t watchers_ns = etcd_watchers_step(m);
    again_ns = MIN(again_ns, watchers_ns);
    if (again_ns == UINT64_MAX)
        timer_cancel(m->core, &m->timer);
    else
        timer_arm(m->core, &m->timer, &m->op, again_ns);
}

static const struct op_kind etcd_kind = {"backend.etcd_meta", NULL, etcd_step};

/* ---- the port ---- */

/* NULL: no memory. */
static struct etcd_call *call_new(struct etcd_meta *m)
{
    struct etcd_call *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->start_ns = core_now_ns(m->core);
    c->deadline_ns = c->start_ns + CALL_DEADLINE_NS;
    c->page = PAGE_KEYS;
    list_push_back(&m->calls, &c->link);
    op_wake(&m->op);
    return c;
}

static bool key_fits(const char *key)
{
    return strnlen(key, META_KEY_MAX + 1) <= META_KEY_MAX;
}

static void etcd_range(struct meta *meta, struct meta_range *range)
{
    struct etcd_meta *m = container_of(meta, struct etcd_meta, meta);
    bool fits = key_fits(range->first) && (!range->end || key_fits(range->end));
    struct etcd_call *c = fits ? call_new(m) : NULL;

    range->pending = c;
    range->result = fits ? c ? 0 : -ERR_NO_MEMORY : -ERR_TOO_LARGE;
    range->ret_kvs = NULL;
    range->ret_count = 0;
    range->ret_more = false;
    if (!c) {
        op_wake(range->waiter);
        return;
    }
    c->range = range;
    strcpy(c->next, range->first);
}

static void etcd_range_fini(struct meta *meta, struct meta_range *range)
{
    ASSERT(!range->pending);
    etcd_range_free(range);
}

static bool txn_fits(const struct meta_txn *txn)
{
    bool fits = txn->condition_count <= META_TXN_OPS_MAX && txn->change_count <= META_TXN_OPS_MAX;

    for (uint32_t i = 0; fits && i < txn->condition_count; i++)
        fits = key_fits(txn->conditions[i].key);
    for (uint32_t i = 0; fits && i < txn->change_count; i++)
        fits = key_fits(txn->changes[i].key) && txn->changes[i].value_len <= META_VALUE_MAX;
    return fits;
}

static void etcd_txn(struct meta *meta, struct meta_txn *txn)
{
    struct etcd_meta *m = container_of(meta, struct etcd_meta, meta);
    bool fits = txn_fits(txn);
    struct etcd_call *c = fits ? call_new(m) : NULL;

    txn->pending = c;
    txn->result = fits ? c ? 0 : -ERR_NO_MEMORY : -ERR_TOO_LARGE;
    if (c)
        c->txn = txn;
    else
        op_wake(txn->waiter);
}

static void etcd_lease(struct meta *meta, struct meta_lease *lease)
{
    struct etcd_call *c = call_new(container_of(meta, struct etcd_meta, meta));

    lease->pending = c;
    lease->result = c ? 0 : -ERR_NO_MEMORY;
    if (!c) {
        op_wake(lease->waiter);
        return;
    }
    c->lease = lease;
    c->deadline_ns = c->start_ns + LEASE_DEADLINE_NS;
}

static void etcd_close(struct meta *meta)
{
    struct etcd_meta *m = container_of(meta, struct etcd_meta, meta);

    if (list_linked(&m->login.link)) {
        etcd_fetch_end(&m->http, &m->login.fetch);
        list_remove(&m->login.link);
    }
    ASSERT(list_empty(&m->calls) && !m->telling);
    etcd_watchers_close(m);
    etcd_http_fini(&m->http);
    timer_cancel(m->core, &m->timer);
    op_done(&m->op, 0);
    free(m);
}

static const struct meta_ops etcd_meta_ops = {
    etcd_range, etcd_range_fini, etcd_txn, etcd_watch, etcd_unwatch, etcd_lease, etcd_close,
};

int etcd_meta_open(struct uring_core *uc, const char *address, struct meta **ret_meta, char *ret_message,
                   size_t message_size)
{
    struct etcd_meta *m = calloc(1, sizeof(*m));
    int result = -ERR_NO_MEMORY;

    if (m) {
        result = etcd_address_parse(address, &m->address, ret_message, message_size);
        if (!result && (result = etcd_http_init(&m->http, uc, &m->op)))
            snprintf(ret_message, message_size, "%s", error_text(result));
    } else {
        snprintf(ret_message, message_size, "%s", error_text(result));
    }
    if (result) {
        free(m);
        return result;
    }
    m->meta.ops = &etcd_meta_ops;
    m->core = uring_core_core(uc);
    list_init(&m->calls);
    list_init(&m->watchers);
    list_init(&m->login.link);
    op_start(&m->op, m->core, &etcd_kind, NULL);
    *ret_meta = &m->meta;
    return 0;
}
