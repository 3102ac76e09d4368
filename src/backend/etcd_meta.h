/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata store port on etcd v3, over its HTTP/JSON gateway. A library of its own beside the backend's,
 * because only the monitor needs it.
 *
 * etcd_address.c (where it is), etcd_json.c (messages), etcd_http.c (requests on the core's ring),
 * etcd_meta.c (the port, failover, login), etcd_watch.c.
 */
#ifndef BACKEND_ETCD_META_H
#define BACKEND_ETCD_META_H

#include "backend/backend.h"

/* Makes the driver for the store at `address` (etcd_address.h); nothing is sent before the first request, so
 * the store need not answer now. One thread: the core's. Closed by its ops->close. ERR_INVALID, ERR_NOT_FOUND
 * or ERR_DENIED (the password file), ERR_NO_MEMORY; `ret_message` then says what is wrong. */
MUST_CHECK int etcd_meta_open(struct uring_core *uc, const char *address, struct meta **ret_meta,
                              char *ret_message, size_t message_size);

#endif
