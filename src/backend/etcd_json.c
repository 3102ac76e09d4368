/* SPDX-License-Identifier: Apache-2.0
 *
 * The messages of etcd's JSON gateway.
 */
#include "backend/etcd_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/error.h"
#include "base/text.h"

/* ---- writing ---- */

static bool text_reserve(struct etcd_text *t, size_t more)
{
    if (t->failed)
        return false;
    if (t->len + more + 1 > t->cap) {
        size_t cap = MAX(t->cap * 2, t->len + more + 1);
        char *data = realloc(t->data, cap);
        if (!data) {
            t->failed = true;
            return false;
        }
        t->data = data;
        t->cap = cap;
    }
    return true;
}

static void text_add(struct etcd_text *t, const char *more)
{
    size_t len = strlen(more);

    if (!text_reserve(t, len))
        return;
    memcpy(t->data + t->len, more, len + 1);
    t->len += len;
}

static void text_add_u64(struct etcd_text *t, const char *name, uint64_t value)
{
    char line[96];

    snprintf(line, sizeof(line), "\"%s\":\"%llu\"", name, (unsigned long long)value);
    text_add(t, line);
}

static void text_add_base64(struct etcd_text *t, const char *name, const void *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;

    text_add(t, "\"");
    text_add(t, name);
    text_add(t, "\":\"");
    if (!text_reserve(t, DIV_UP(len, 3) * 4))
        return;
    char *to = t->data + t->len;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16;
        if (i + 1 < len)
            three |= (uint32_t)from[i + 1] << 8;
        if (i + 2 < len)
            three |= from[i + 2];
        *to++ = digits[three >> 18];
        *to++ = digits[three >> 12 & 63];
        *to++ = i + 1 < len ? digits[three >> 6 & 63] : '=';
        *to++ = i + 2 < len ? digits[three & 63] : '=';
    }
    t->len = (size_t)(to - t->data);
    text_add(t, "\"");
}

static void text_add_key(struct etcd_text *t, const char *name, const char *prefix, const char *key)
{
    char whole[512];
    int len = snprintf(whole, sizeof(whole), "%s/%s", prefix, key);

    ASSERT(len > 0 && (size_t)len < sizeof(whole)); /* both are bounded by whoever took them */
    text_add_base64(t, name, whole, (size_t)len);
}

static void text_add_range(struct etcd_text *t, const char *prefix, const char *first, const char *end)
{
    text_add_key(t, "key", prefix, first);
    if (end) {
        text_add(t, ",");
        text_add_key(t, "range_end", prefix, end);
    }
}

void etcd_write_range(struct etcd_text *t, const char *prefix, const char *first, const char *end,
                      uint32_t limit, uint64_t revision)
{
    text_add(t, "{");
    text_add_range(t, prefix, first, end);
    if (limit) {
        text_add(t, ",");
        text_add_u64(t, "limit", limit);
    }
    if (revision) {
        text_add(t, ",");
        text_add_u64(t, "revision", revision);
    }
    text_add(t, "}");
}

static bool changed_again(const struct meta_txn *txn, uint32_t at)
{
    for (uint32_t i = at + 1; i < txn->change_count; i++)
        if (strcmp(txn->changes[i].key, txn->changes[at].key) == 0)
            return true;
    return false;
}

void etcd_write_txn(struct etcd_text *t, const char *prefix, const struct meta_txn *txn)
{
    const char *between = "";

    text_add(t, "{\"compare\":[");
    for (uint32_t i = 0; i < txn->condition_count; i++) {
        text_add(t, i ? ",{" : "{");
        text_add_key(t, "key", prefix, txn->conditions[i].key);
        text_add(t, ",\"target\":\"MOD\",\"result\":\"EQUAL\",");
        text_add_u64(t, "mod_revision", txn->conditions[i].mod_revision);
        text_add(t, "}");
    }
    text_add(t, "],\"success\":[");
    for (uint32_t i = 0; i < txn->change_count; i++) {
        const struct meta_change *change = &txn->changes[i];
        if (changed_again(txn, i))
            continue;
        text_add(t, between);
        text_add(t, change->value ? "{\"request_put\":{" : "{\"request_delete_range\":{");
        text_add_key(t, "key", prefix, change->key);
        if (change->value) {
            text_add(t, ",");
            text_add_base64(t, "value", change->value, change->value_len);
        }
        if (change->value && change->lease) {
            text_add(t, ",");
            text_add_u64(t, "lease", change->lease);
        }
        text_add(t, "}}");
        between = ",";
    }
    text_add(t, "]}");
}

void etcd_write_watch(struct etcd_text *t, const char *prefix, const char *first, const char *end,
                      uint64_t start_revision)
{
    text_add(t, "{\"create_request\":{");
    text_add_range(t, prefix, first, end);
    text_add(t, ",\"fragment\":true,");
    text_add_u64(t, "start_revision", start_revision);
    text_add(t, "}}");
}

void etcd_write_grant(struct etcd_text *t, uint64_t ttl_s)
{
    text_add(t, "{");
    text_add_u64(t, "TTL", ttl_s);
    text_add(t, "}");
}

void etcd_write_lease(struct etcd_text *t, uint64_t id)
{
    text_add(t, "{");
    text_add_u64(t, "ID", id);
    text_add(t, "}");
}

void etcd_write_login(struct etcd_text *t, const char *user, const char *password)
{
    json_t *login = json_pack("{s:s, s:s}", "name", user, "password", password);
    char *line = login ? json_dumps(login, JSON_COMPACT) : NULL;

    if (line)
        text_add(t, line);
    else
        t->failed = true;
    free(line);
    json_decref(login);
}

/* ---- reading ---- */

static json_t *load(const char *data, size_t len)
{
    json_error_t error;
    json_t *root = json_loadb(data, len, 0, &error);

    if (root && json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

/* A number in a string; left out: 0. */
static bool get_u64(const json_t *object, const char *name, uint64_t *ret_value)
{
    const json_t *value = json_object_get(object, name);

    *ret_value = 0;
    return !value || (json_is_string(value) && !text_parse_u64(json_string_value(value), ret_value));
}

static bool get_revision(const json_t *object, uint64_t *ret_revision)
{
    const json_t *header = json_object_get(object, "header");
    return get_u64(header, "revision", ret_revision) && *ret_revision > 0;
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* How many bytes so many digits give; SIZE_MAX when they are no base64. */
static size_t base64_size(const char *text, size_t len)
{
    if (len % 4)
        return SIZE_MAX;
    size_t pad = len && text[len - 1] == '=' ? 1 + (text[len - 2] == '=') : 0;
    for (size_t i = 0; i < len - pad; i++)
        if (base64_digit(text[i]) < 0)
            return SIZE_MAX;
    return len / 4 * 3 - pad;
}

static void base64_decode(const char *text, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; text += 4) {
        uint32_t three = 0;
        for (int d = 0; d < 4; d++)
            three = three << 6 | (uint32_t)(text[d] == '=' ? 0 : base64_digit(text[d]));
        for (int shift = 16; shift >= 0 && i < size; shift -= 8)
            to[i++] = (uint8_t)(three >> shift);
    }
}

/* The port's key: under the prefix, printable, bounded. */
static bool key_is_good(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)key[i] < 0x20 || key[i] == 0x7f)
            return false;
    return len > 0 && len <= META_KEY_MAX;
}

/* One allocation holds key and value; a put of no bytes has a value that is not NULL. */
static int read_kv(const json_t *object, const char *prefix, bool deleted, struct meta_kv *ret_kv)
{
    static const char empty[] = "";
    const json_t *key = json_object_get(object, "key"), *value = json_object_get(object, "value");
    const char *key_text = json_is_string(key) ? json_string_value(key) : empty;
    const char *value_text = json_is_string(value) ? json_string_value(value) : empty;
    size_t prefix_len = strlen(prefix) + 1;
    size_t key_len = base64_size(key_text, strlen(key_text));
    size_t value_len = base64_size(value_text, strlen(value_text));
    uint64_t revision;

    if (key_len == SIZE_MAX || value_len == SIZE_MAX || key_len > prefix_len + META_KEY_MAX ||
        key_len <= prefix_len || value_len > META_VALUE_MAX || !get_u64(object, "mod_revision", &revision))
        return -ERR_PROTOCOL;
    char *memory = malloc(prefix_len + key_len + 1 + value_len);
    if (!memory)
        return -ERR_NO_MEMORY;
    base64_decode(key_text, (uint8_t *)memory, key_len);
    bool ours = memcmp(memory, prefix, prefix_len - 1) == 0 && memory[prefix_len - 1] == '/';
    key_len -= prefix_len;
    memmove(memory, memory + prefix_len, key_len);
    if (!ours || !key_is_good(memory, key_len)) {
        free(memory);
        return -ERR_PROTOCOL;
    }
    memory[key_len] = 0;
    base64_decode(value_text, (uint8_t *)memory + key_len + 1, value_len);
    *ret_kv = (struct meta_kv){.key = memory,
                               .value = deleted ? NULL : memory + key_len + 1,
                               .value_len = deleted ? 0 : (uint32_t)value_len,
                               .mod_revision = revision};
    return 0;
}

static void kvs_free(struct meta_kv *kvs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free((void *)(uintptr_t)kvs[i].key);
    free(kvs);
}

void etcd_range_free(struct meta_range *range)
{
    kvs_free(range->ret_kvs, range->ret_count);
    range->ret_kvs = NULL;
    range->ret_count = 0;
}

int etcd_read_range(const char *data, size_t len, const char *prefix, struct meta_range *range,
                    struct etcd_page *ret_page)
{
    json_t *root = load(data, len);
    struct etcd_page page = {0};
    int result = 0;

    if (!root || !get_revision(root, &page.revision)) {
        json_decref(root);
        return -ERR_PROTOCOL;
    }
    const json_t *kvs = json_object_get(root, "kvs");
    page.more = json_is_true(json_object_get(root, "more"));
    page.count = (uint32_t)json_array_size(kvs);
    if (page.count) {
        size_t all = (size_t)range->ret_count + page.count;
        struct meta_kv *more = realloc(range->ret_kvs, all * sizeof(*more));
        if (more)
            range->ret_kvs = more;
        else
            result = -ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < page.count && !result; i++) {
        result = read_kv(json_array_get(kvs, i), prefix, false, &range->ret_kvs[range->ret_count]);
        if (!result)
            range->ret_count++;
    }
    json_decref(root);
    if (!result)
        *ret_page = page;
    return result;
}

int etcd_read_txn(const char *data, size_t len, bool *ret_succeeded, uint64_t *ret_revision)
{
    json_t *root = load(data, len);
    uint64_t revision;
    bool good = root && get_revision(root, &revision);

    if (good) {
        *ret_succeeded = json_is_true(json_object_get(root, "succeeded"));
        *ret_revision = revision;
    }
    json_decref(root);
    return good ? 0 : -ERR_PROTOCOL;
}

int etcd_read_grant(const char *data, size_t len, uint64_t *ret_id)
{
    json_t *root = load(data, len);
    uint64_t id;
    bool good = root && get_u64(root, "ID", &id) && id > 0;

    if (good)
        *ret_id = id;
    json_decref(root);
    return good ? 0 : -ERR_PROTOCOL;
}

int etcd_read_renewal(const char *data, size_t len)
{
    json_t *root = load(data, len);
    const json_t *answer = json_object_get(root, "result");
    uint64_t ttl_s;
    bool good = json_is_object(answer) && get_u64(answer, "TTL", &ttl_s);

    json_decref(root);
    return !good ? -ERR_PROTOCOL : ttl_s ? 0 : -ERR_NOT_FOUND;
}

int etcd_read_token(const char *data, size_t len, char ret_token[ETCD_TOKEN_SIZE])
{
    json_t *root = load(data, len);
    const char *token = json_string_value(json_object_get(root, "token"));
    bool good = token && *token && strlen(token) < ETCD_TOKEN_SIZE;

    for (const char *c = token; good && *c; c++)
        good = *c > 0x20 && *c < 0x7f; /* it becomes part of a header */
    if (good)
        snprintf(ret_token, ETCD_TOKEN_SIZE, "%s", token);
    json_decref(root);
    return good ? 0 : -ERR_PROTOCOL;
}

/* What comes from outside into a log line: printable. */
static void copy_message(const json_t *value, char to[ETCD_MESSAGE_SIZE])
{
    const char *text = json_string_value(value);

    snprintf(to, ETCD_MESSAGE_SIZE, "%s", text ? text : "");
    for (char *c = to; *c; c++)
        if ((uint8_t)*c < 0x20 || (uint8_t)*c > 0x7e)
            *c = '?';
}

void etcd_read_error(const char *data, size_t len, struct etcd_error *ret_error)
{
    json_t *root = load(data, len);
    const json_t *code = json_object_get(root, "code");

    *ret_error = (struct etcd_error){0};
    if (json_is_integer(code) && json_integer_value(code) > 0 && json_integer_value(code) < 100)
        ret_error->code = (int)json_integer_value(code);
    json_t *plain =
        root ? NULL : json_stringn(data, MIN(len, (size_t)ETCD_MESSAGE_SIZE)); /* from its HTTP server */
    copy_message(root ? json_object_get(root, "message") : plain, ret_error->message);
    json_decref(plain);
    json_decref(root);
}

static int read_event(const json_t *event, const char *prefix, struct meta_kv *ret_kv)
{
    const char *type = json_string_value(json_object_get(event, "type"));
    bool deleted = type && strcmp(type, "DELETE") == 0;

    if (type && !deleted && strcmp(type, "PUT"))
        return -ERR_PROTOCOL;
    return read_kv(json_object_get(event, "kv"), prefix, deleted, ret_kv);
}

int etcd_read_events(const char *data, size_t len, const char *prefix, struct etcd_events *ret_events)
{
    json_t *root = load(data, len);
    const json_t *result_part = json_object_get(root, "result");
    struct etcd_events e = {0};
    int result = 0;

    if (json_is_object(json_object_get(root, "error"))) {
        e.cancelled = true;
        copy_message(json_object_get(json_object_get(root, "error"), "message"), e.reason);
    } else if (!json_is_object(result_part) ||
               !get_u64(result_part, "compact_revision", &e.compact_revision)) {
        result = -ERR_PROTOCOL;
    } else {
        const json_t *events = json_object_get(result_part, "events");
        uint32_t count = (uint32_t)json_array_size(events);
        e.created = json_is_true(json_object_get(result_part, "created"));
        e.cancelled = json_is_true(json_object_get(result_part, "canceled"));
        e.fragment = json_is_true(json_object_get(result_part, "fragment"));
        copy_message(json_object_get(result_part, "cancel_reason"), e.reason);
        e.kvs = count ? calloc(count, sizeof(*e.kvs)) : NULL;
        if (count && !e.kvs)
            result = -ERR_NO_MEMORY;
        for (uint32_t i = 0; i < count && !result; i++) {
            result = read_event(json_array_get(events, i), prefix, &e.kvs[e.count]);
            if (!result)
                e.count++;
        }
    }
    json_decref(root);
    if (result)
        etcd_events_free(&e);
    else
        *ret_events = e;
    return result;
}

void etcd_events_free(struct etcd_events *events)
{
    kvs_free(events->kvs, events->count);
    events->kvs = NULL;
    events->count = 0;
}
