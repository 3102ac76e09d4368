/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes the NBD state machine: a whole conversation of a client. The first byte says how the export is;
 * payloads of writes are skipped as the server would take them.
 */
#include <string.h>

#include "front/nbd/be.h"
#include "front/nbd/nbd_protocol.h"
#include "front/nbd/nbd_reply.h"
#include "tests/fuzz/fuzz.h"

static void check_command(const struct nbd_protocol *p, const struct nbd_command *c)
{
    ASSERT(c->payload_len <= NBD_DRAIN_MAX);
    ASSERT(c->payload_len == 0 || c->type == NBD_CMD_WRITE);
    if (c->error)
        return;
    ASSERT(c->offset <= p->export->size_bytes && c->length <= p->export->size_bytes - c->offset);
    ASSERT(!p->export->read_only || c->type == NBD_CMD_READ || c->type == NBD_CMD_FLUSH ||
           c->type == NBD_CMD_BLOCK_STATUS);
    ASSERT(c->type == NBD_CMD_TRIM || c->type == NBD_CMD_WRITE_ZEROES || c->type == NBD_CMD_BLOCK_STATUS ||
           c->length <= NBD_PAYLOAD_MAX);
    ASSERT(!(c->flags & NBD_CMD_FLAG_DF) || p->structured);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct nbd_export export = {.name = "pool/image", .description = "test"};
    static struct nbd_protocol p;
    struct nbd_command command;

    if (size == 0)
        return 0;
    export.read_only = data[0] & 1;
    export.size_bytes = data[0] & 2 ? 1u << 20 : 0x7ffffffffffff000ull;
    nbd_protocol_start(&p, &export);
    for (size_t at = 1;;) {
        size_t len;
        ASSERT(p.out_len <= sizeof(p.out));
        p.out_len = 0;
        uint8_t *to = nbd_protocol_want(&p, &len);
        ASSERT(len > 0 && len <= sizeof(p.in) && to == p.in);
        if (len > size - at)
            return 0;
        memcpy(to, data + at, len);
        at += len;
        enum nbd_step step = nbd_protocol_input(&p, &command);
        if (step == NBD_STEP_CLOSE || step == NBD_STEP_DISCONNECT)
            return 0;
        if (step != NBD_STEP_COMMAND)
            continue;
        ASSERT(nbd_protocol_transmits(&p));
        check_command(&p, &command);
        at += command.payload_len < size - at ? command.payload_len : size - at;
    }
}

static uint8_t *put_option(uint8_t *at, uint32_t option, const uint8_t *data, uint32_t len)
{
    at = be_put_u64(at, NBD_MAGIC_OPTION);
    at = be_put_u32(at, option);
    at = be_put_u32(at, len);
    memcpy(at, data, len);
    return at + len;
}

size_t fuzz_seed(uint64_t n, uint8_t *dst, size_t cap)
{
    uint8_t data[128] = {0}, *at = dst, *end;
    uint64_t name_len = n % 3 ? 10 : 0;

    *at++ = (uint8_t)n;
    at = be_put_u32(at, (uint32_t)(n >> 1) & 3);
    if (n & 1)
        at = put_option(at, NBD_OPT_STRUCTURED_REPLY, data, 0);
    if (n & 2) {
        end = be_put_u32(data, (uint32_t)name_len);
        memcpy(end, "pool/image", name_len);
        end = be_put_u32(end + name_len, 2);
        end = be_put_u32(end, 5);
        memcpy(end, "base:", 5);
        end = be_put_u32(end + 5, 15);
        memcpy(end, "base:allocation", 15);
        at = put_option(at, n & 4 ? NBD_OPT_SET_META_CONTEXT : NBD_OPT_LIST_META_CONTEXT, data,
                        (uint32_t)(end + 15 - data));
    }
    if (n & 8)
        at = put_option(at, (uint32_t)(n >> 4) % 13, data, 0);
    end = be_put_u32(data, (uint32_t)name_len);
    memcpy(end, "pool/image", name_len);
    end = be_put_u16(end + name_len, 2);
    end = be_put_u16(end, NBD_INFO_BLOCK_SIZE);
    end = be_put_u16(end, NBD_INFO_NAME);
    if (n & 16)
        at = put_option(at, NBD_OPT_GO, data, (uint32_t)(end - data));
    else
        at = put_option(at, NBD_OPT_EXPORT_NAME, (const uint8_t *)"pool/image", (uint32_t)name_len);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t type = (uint32_t)(n + i) % 9, len = (uint32_t)(n >> i) % 64;
        at = be_put_u32(at, NBD_MAGIC_REQUEST);
        at = be_put_u16(at, (uint16_t)((n >> 3) & 31));
        at = be_put_u16(at, (uint16_t)(type == NBD_CMD_DISC ? NBD_CMD_READ : type));
        at = be_put_u64(at, n);
        at = be_put_u64(at, (uint64_t)i << 12);
        at = be_put_u32(at, type == NBD_CMD_FLUSH ? 0 : len);
        if (type == NBD_CMD_WRITE)
            at += len;
    }
    ASSERT((size_t)(at - dst) <= cap);
    return (size_t)(at - dst);
}
