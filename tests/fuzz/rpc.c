/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzes what src/rpc reads of bytes before it knows who sent them: frames and greetings.
 */
#include <string.h>

#include "rpc/frames.h"
#include "rpc/hello.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_hello(const uint8_t *data, size_t size)
{
    uint8_t body[HELLO_BODY_MAX];
    struct rpc_hello hello, again;

    if (size > FRAME_BODY_MAX || rpc_hello_decode(data, (uint32_t)size, &hello))
        return;
    ASSERT(hello.protocol == RPC_PROTOCOL && memchr(hello.who.name, '\0', sizeof(hello.who.name)));
    /* What was accepted can be said in our own words. */
    uint32_t len = rpc_hello_encode(body, &hello);
    int error = rpc_hello_decode(body, len, &again);
    ASSERT(!error && memcmp(&hello.who, &again.who, sizeof(hello.who)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_message message;

    if (size == 0)
        return 0;
    if (data[0] & 1) {
        fuzz_hello(data + 1, size - 1);
        return 0;
    }
    struct frame frame = {.head = data + 1, .head_len = (uint32_t)size - 1};
    if (rpc_frame_open(&frame, &message) == 0) {
        ASSERT(message.body + message.body_len == data + size);
        fuzz_hello(message.body, message.body_len);
    }
    return 0;
}

size_t fuzz_seed(uint64_t n, uint8_t *dst, size_t cap)
{
    struct rpc_hello hello = {
        .protocol = RPC_PROTOCOL,
        .who = {.role = (enum rpc_role)(1 + n % 3),
                .osd = (uint32_t)n,
                .incarnation = n << 20,
                .name = "somebody"},
        .has_target = n & 1,
    };
    uint8_t *body = dst + 1 + FRAME_HEADER_SIZE;

    memset(hello.who.cluster, (int)n, 16);
    memset(hello.who.client_uuid, (int)n + 1, 16);
    uint32_t len = rpc_hello_encode(body, &hello);
    dst[0] = (uint8_t)n;
    if (n & 1) {
        memmove(dst + 1, body, len);
        return 1 + len;
    }
    frame_encode(dst + 1,
                 &(struct frame_header){.method = METHOD_HELLO, .flags = FRAME_REQUEST, .body_len = len});
    return 1 + FRAME_HEADER_SIZE + len;
}
