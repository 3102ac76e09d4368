/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes the readers of etcd's answers. The first byte says which answer it is meant to be.
 */
#include <stdio.h>
#include <string.h>

#include "backend/etcd_json.h"
#include "tests/fuzz/fuzz.h"

#define PREFIX "fastblock"

static void check_kv(const struct meta_kv *kv)
{
    size_t len = strlen(kv->key);

    ASSERT(len > 0 && len <= META_KEY_MAX && kv->value_len <= META_VALUE_MAX);
    for (size_t i = 0; i < len; i++)
        ASSERT((uint8_t)kv->key[i] >= 0x20 && kv->key[i] != 0x7f);
    /* All of it is there: the address sanitizer looks. */
    volatile uint8_t sum = 0;
    for (uint32_t i = 0; i < kv->value_len; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)kv->value)[i]);
}

static void read_range(const char *text, size_t len)
{
    struct meta_range range = {0};
    struct etcd_page page;

    /* Two pages: what the second one adds is behind the first. */
    for (int i = 0; i < 2 && !etcd_read_range(text, len, PREFIX, &range, &page); i++)
        ASSERT(page.revision > 0 && page.count <= range.ret_count);
    for (uint32_t i = 0; i < range.ret_count; i++) {
        check_kv(&range.ret_kvs[i]);
        ASSERT(range.ret_kvs[i].value);
    }
    etcd_range_free(&range);
}

static void read_events(const char *text, size_t len)
{
    struct etcd_events events;

    if (etcd_read_events(text, len, PREFIX, &events))
        return;
    for (uint32_t i = 0; i < events.count; i++)
        check_kv(&events.kvs[i]);
    ASSERT(strlen(events.reason) < ETCD_MESSAGE_SIZE);
    etcd_events_free(&events);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    char token[ETCD_TOKEN_SIZE];
    struct etcd_error error;
    uint64_t number;
    bool succeeded;

    if (size == 0)
        return 0;
    switch (data[0] % 7) {
    case 0:
        read_range(text, size - 1);
        break;
    case 1:
        read_events(text, size - 1);
        break;
    case 2:
        if (!etcd_read_txn(text, size - 1, &succeeded, &number))
            ASSERT(number > 0);
        break;
    case 3:
        if (!etcd_read_grant(text, size - 1, &number))
            ASSERT(number > 0);
        break;
    case 4:
        (void)!etcd_read_renewal(text, size - 1);
        break;
    case 5:
        if (!etcd_read_token(text, size - 1, token))
            ASSERT(strlen(token) > 0 && strlen(token) < ETCD_TOKEN_SIZE);
        break;
    case 6:
        etcd_read_error(text, size - 1, &error);
        ASSERT(error.code >= 0 && strlen(error.message) < ETCD_MESSAGE_SIZE);
        break;
    }
    return 0;
}

size_t fuzz_seed(uint64_t n, uint8_t *dst, size_t cap)
{
    static const char *const answers[] = {
        /* "fastblock/cluster" and "fastblock/osd/1" */
        "{\"header\":{\"revision\":\"7\"},\"kvs\":[{\"key\":\"ZmFzdGJsb2NrL2NsdXN0ZXI=\",\"mod_revision\":\"5\",\"value\":"
        "\"AAECAw==\"},{\"key\":\"ZmFzdGJsb2NrL29zZC8x\",\"mod_revision\":\"6\"}],\"more\":true,\"count\":\"2\"}",
        "{\"result\":{\"header\":{\"revision\":\"9\"},\"created\":true,\"fragment\":true,\"events\":[{\"kv\":{\"key\":"
        "\"ZmFzdGJsb2NrL2NsdXN0ZXI=\",\"mod_revision\":\"9\",\"value\":\"eA==\"}},{\"type\":\"DELETE\",\"kv\":{\"key\":"
        "\"ZmFzdGJsb2NrL29zZC8x\",\"mod_revision\":\"9\"}}]}}",
        "{\"header\":{\"revision\":\"12\"},\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}",
        "{\"header\":{\"revision\":\"3\"},\"ID\":\"7587862949302374512\",\"TTL\":\"5\"}",
        "{\"result\":{\"header\":{\"revision\":\"3\"},\"ID\":\"7587862949302374512\",\"TTL\":\"5\"}}",
        "{\"header\":{\"revision\":\"3\"},\"token\":\"abcdef.123\"}",
        "{\"error\":\"etcdserver: no leader\",\"message\":\"etcdserver: no leader\",\"code\":14}",
        /* A watch that ends. */
        "{\"result\":{\"canceled\":true,\"compact_revision\":\"40\",\"cancel_reason\":\"compacted\"}}",
        "{\"error\":{\"message\":\"token\",\"grpc_code\":16}}",
    };
    static const uint8_t kinds[] = {0, 1, 2, 3, 4, 5, 6, 1, 1};
    size_t which = n % ARRAY_LEN(answers), len = strlen(answers[which]);

    ASSERT(len + 1 <= cap);
    dst[0] = kinds[which];
    memcpy(dst + 1, answers[which], len);
    return len + 1;
}
