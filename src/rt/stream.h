/* SPDX-License-Identifier: Apache-2.0
 *
 * The byte stream port: for front ends that speak somebody else's protocol (NBD) over TCP or a unix socket.
 *
 * Receiving is pull: the owner hands over memory and is told when all of it is filled, so data lands where
 * the owner wants it. Sending is push with a limit. Events come from the core's poll, never from inside a
 * call.
 */
#ifndef RT_STREAM_H
#define RT_STREAM_H

#include <sys/uio.h>

#include "base/base.h"
#include "rt/buf.h"

struct stream_net;
struct stream;

struct stream_events {
    /* The memory given to stream_recv() is full. */
    void (*received)(void *owner, struct stream *stream);
    /* What was queued has fallen below half of the limit after a send was refused with ERR_BUSY. */
    void (*writable)(void *owner, struct stream *stream);
    /* The peer is gone, or will not send any more (0: in order), whatever it sent before and was not asked
     * for ; the handle is invalid when this returns. Not called for stream_close(). */
    void (*closed)(void *owner, struct stream *stream, int error);
};

struct stream_ops {
    /* "unix:PATH" or "host:port". A stale socket file that nobody listens on is replaced; a live one is
     * ERR_EXISTS. */
    int (*listen)(struct stream_net *net, const char *address,
                  void (*accepted)(void *owner, struct stream *stream), void *owner, char *ret_address,
                  size_t ret_address_size);
    /* Stops accepting, and removes a unix socket's file. Streams go on. */
    void (*unlisten)(struct stream_net *net);
    /* Asks for exactly `len` bytes into `memory` (the caller's until `received` or close). One at a time. */
    void (*recv)(struct stream *stream, void *memory, size_t len);
    /* Queues `head` (copied) and then the payload (referenced). ERR_BUSY: over the limit, nothing taken. */
    int (*send)(struct stream *stream, const void *head, size_t head_len, const struct slice *payload);
    /* The memory of the payloads' buffers that are queued. It shrinks silently. */
    uint64_t (*held_bytes)(const struct stream *stream);
    /* `flush`: send what is queued first; then frees. */
    void (*close)(struct stream *stream, bool flush);
};

struct stream_net {
    const struct stream_ops *ops;
};

struct stream {
    struct stream_net *net;
    const struct stream_events *events;
    void *owner;
};

#endif
