/* SPDX-License-Identifier: Apache-2.0
 *
 * The message link port: connections that carry whole frames.
 *
 * A link delivers a frame whole or not at all. Within one link frames arrive in the order sent and at most once over
 * TCP; the rooms above nevertheless may not rely on order, single delivery or delivery for FRAME_ONEWAY frames (the
 * simulator drops, repeats and reorders them), and may not rely on delivery of any frame before it is answered.
 * A link that breaks reports `closed` once. Events come from the core's poll, never from inside a call of this port.
 *
 * Memory: a frame's payload lands in memory that the owner names when the head is there (`place`), or else in one buffer of
 * the core's arena, 4 KiB aligned. When the arena cannot give one, the
 * payload is read and thrown away and the frame is delivered with `payload_dropped`: a link never stops reading for
 * lack of memory, so heartbeats and answers always get through; the receiver answers ERR_RETRY or lets the peer resend.
 *
 * Implementations: src/backend/tcp_link.c (later rdma), sim/sim_net.c.
 */
#ifndef RT_NET_H
#define RT_NET_H

#include "base/base.h"
#include "rt/buf.h"

#define FRAME_PIECES_MAX  64
#define FRAME_PATIENCE_NS NS_PER_MS

/* A frame in memory. `head` is the frame header followed by the body, as wire/frame.h lays it out. */
struct frame {
    const uint8_t *head;
    uint32_t head_len;     /* header and body */
    struct slice payload;  /* received: all of it, contiguous; may be empty. Unused when sending. */
    bool payload_dropped;  /* received only: there was no memory for it */
    uint8_t *placed;       /* received only: where `place` wanted it, and it is; `payload` is empty then */
    /* Sending only: the pieces that make up the payload, in order (a gather list; at most FRAME_PIECES_MAX). */
    const struct slice *pieces;
    uint32_t piece_count;
    /* Sending only: while others are sent by the same link it waits for the next of them, FRAME_PATIENCE_NS at most, so
     * that it wakes nobody on its own. A hint. */
    bool patient;
};

struct net;
struct link;

struct link_events {
    /* The frame and its memory are the link's and valid during the call; to keep the payload take a reference. The
     * header has been validated (magic, version, lengths, checksum); the body has not. */
    void (*message)(void *owner, struct link *link, const struct frame *frame);
    /* An outgoing link is established. */
    void (*opened)(void *owner, struct link *link);
    /* The link is gone, or could not be established; the handle is invalid when this returns. `error` is
     * ERR_UNREACHABLE (refused at once: nobody listens), ERR_CLOSED, ERR_TIMEOUT or ERR_PROTOCOL, negative. Not called for
     * link_close(). */
    void (*closed)(void *owner, struct link *link, int error);
    /* May be NULL. The head of a frame with a payload of `payload_len` bytes is there, validated as in `message`: memory that
     * the payload is to land in, or NULL: a buffer. The memory is the link's until that frame's `message`, until `closed`, or
     * until link_close() returns; in the last two cases it may have been filled in part. No call of this port inside. */
    uint8_t *(*place)(void *owner, struct link *link, const uint8_t *head, uint32_t head_len, uint32_t payload_len);
};

struct net_ops {
    /* Starts connecting to "host:port" (numeric). Returns NULL only when the address cannot be parsed. */
    struct link *(*connect)(struct net *net, const char *address, const struct link_events *events, void *owner);
    /* Accepts links on "host:port" (port 0: any); `accepted` gives each new link its events and owner by link_own().
     * Writes the address bound to into ret_address. */
    int (*listen)(struct net *net, const char *address, void (*accepted)(void *owner, struct link *link), void *owner,
                  char *ret_address, size_t ret_address_size);
    /* Stops accepting for every listen() of this `owner`. Links that were accepted go on. */
    void (*unlisten)(struct net *net, void *owner);
    /* Queues a frame: copies head, takes references of its own on the pieces' buffers. ERR_BUSY when the link's send
     * queue is over its limit (the frame was not taken); ERR_CLOSED after a break that is yet to be reported. */
    int (*send)(struct link *link, const struct frame *frame);
    /* What is queued, in bytes; it shrinks silently, as it leaves. */
    uint64_t (*queued_bytes)(const struct link *link);
    /* Frees; queued frames may be lost; no event of this link follows. Allowed inside the link's own events too: the frame
     * of a `message` event stays valid until that event returns. */
    void (*close)(struct link *link);
    const char *(*peer_address)(const struct link *link); /* for log lines */
};

struct net {
    const struct net_ops *ops;
};

/* The part of every link that the rooms above may see; ports embed it first. */
struct link {
    struct net *net;
    const struct link_events *events;
    void *owner;
};

static inline void link_own(struct link *link, const struct link_events *events, void *owner)
{
    link->events = events;
    link->owner = owner;
}

static inline struct link *link_connect(struct net *net, const char *address, const struct link_events *events,
                                        void *owner)
{
    return net->ops->connect(net, address, events, owner);
}

MUST_CHECK static inline int link_send(struct link *link, const struct frame *frame)
{
    return link->net->ops->send(link, frame);
}

static inline uint64_t link_queued_bytes(const struct link *link)
{
    return link->net->ops->queued_bytes(link);
}

static inline void link_close(struct link *link)
{
    link->net->ops->close(link);
}

static inline const char *link_peer_address(const struct link *link)
{
    return link->net->ops->peer_address(link);
}

#endif
