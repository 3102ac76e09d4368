/* SPDX-License-Identifier: Apache-2.0
 *
 * HELLO: identities as bytes, and what either end checks in the other's. For the files of this room only.
 */
#ifndef RPC_HELLO_H
#define RPC_HELLO_H

#include "rpc/rpc.h"

/* Raised when methods or messages change in a way that older processes cannot understand. */
#define RPC_PROTOCOL 2

#define HELLO_BODY_MAX 512

struct rpc_hello {
    uint32_t protocol;
    struct rpc_identity who;
    bool has_target;
    uint32_t target_osd, target_shard;
};

/* Returns the length of the body. */
uint32_t rpc_hello_encode(uint8_t body[HELLO_BODY_MAX], const struct rpc_hello *hello);

/* ERR_VERSION (the protocol number is checked before anything else), ERR_PROTOCOL, ERR_TOO_LARGE. The name is
 * made printable. */
MUST_CHECK int rpc_hello_decode(const uint8_t *body, uint32_t len, struct rpc_hello *ret);

/* Do both belong to the same cluster, as far as they know? ERR_CLUSTER. */
MUST_CHECK int rpc_hello_check_cluster(const struct rpc_identity *a, const struct rpc_identity *b);

#endif
