/* SPDX-License-Identifier: Apache-2.0
 *
 * A connected socket on the ring: what message links and byte streams have in common.
 *
 * Sending: pieces are queued (small heads copied into a ring of bytes, payloads by reference) and all that
 * are queued leave in one call; what is queued while the kernel is at it leaves in the next. Receiving: one
 * receive at a time into a buffer, or first into memory that the owner names (`direct`) and then into the
 * buffer.
 *
 * Ending: sock_close() by the owner, or `broken` once from the loop. Either way no event follows but `free`,
 * when the kernel has let go of the memory. Both may happen inside any of the events.
 */
#ifndef BACKEND_SOCK_H
#define BACKEND_SOCK_H

#include "backend/uring.h"

#include "backend/addr.h"

#define SOCK_IOV_MAX   256
#define SOCK_SEGS_MAX  2048        /* pieces queued; a power of two */
#define SOCK_RING_SIZE (32u << 10) /* bytes of queued heads; beyond that they come from the allocator */
/* Of links: small frames that are received at once share the log's writes and the sends that follow. Of
 * streams: what is read ahead of a large request is copied. */
#define SOCK_RX_LINK   (256u << 10)
#define SOCK_RX_STREAM (64u << 10)
/* So much missing of a payload is worth receiving in place; less is cheaper copied out of a large receive. */
#define SOCK_DIRECT_MIN (16u << 10)
/* Where payloads of SOCK_LARGE_MIN follow each other the buffer is offered for little more than a head: what
 * comes behind it is then received in place, and not copied. A small frame between them brings that back to
 * SOCK_LARGE_MIN, and those behind it, by their own sizes, to all of the buffer. */
#define SOCK_LARGE_MIN (64u << 10)
#define SOCK_RX_HEAD   (2u << 10)

struct sock;

struct sock_ops {
    void (*opened)(struct sock *sock); /* sock_connect() has succeeded */
    /* Bytes came: in rx[rx_begin .. rx_end), which the owner consumes by moving rx_begin, and `direct_len`
     * fell. Returns whether to go on receiving. */
    bool (*input)(struct sock *sock);
    void (*drained)(struct sock *sock);           /* a refused sender may try again; NULL: nobody asks */
    void (*broken)(struct sock *sock, int error); /* 0: the peer closed in order */
    void (*free)(struct sock *sock);
};

struct sock_seg {
    const uint8_t *data;
    uint32_t len;
    struct buf *buf; /* a reference, for payloads */
    void *heap;      /* a head that did not fit into the ring */
};

struct sock {
    struct uring_core *uc;
    const struct sock_ops *ops;
    int fd;
    bool open;      /* connected */
    bool closed;    /* no events any more */
    bool lingering; /* closed, but what is queued is still sent */
    uint32_t busy;  /* events being delivered */

    struct uring_req tx_req; /* the connect, later the sends */
    bool tx_armed;
    bool tx_refused;
    bool tx_patient;                 /* what is queued waits for more: tx_task is in the core's `patient` */
    uint64_t urgent_ns;              /* when something was last queued that does not wait */
    struct uring_task tx_task;       /* sends */
    uint64_t tx_bytes, tx_bytes_max; /* queued */
    uint64_t tx_held_bytes;          /* of the buffers of payloads in it */
    struct sock_seg *segs;
    uint32_t seg_first, seg_count;
    uint8_t *ring;
    uint32_t ring_at, ring_used;
    struct iovec *tx_iov;
    struct msghdr tx_msg;

    struct uring_req rx_req;
    bool rx_armed;
    bool rx_more; /* the last receive left something in the kernel, or may have */
    uint8_t *rx;
    uint32_t rx_begin, rx_end, rx_size, rx_least;
    uint32_t rx_window; /* the owner's: as much of the buffer is offered */
    uint8_t *direct;
    size_t direct_len;
    struct iovec rx_iov[2];
    struct msghdr rx_msg;

    struct addr addr; /* of the peer */
};

/* Takes over `fd`. ERR_NO_MEMORY (and the fd stays the caller's). */
MUST_CHECK int sock_init(struct sock *sock, struct uring_core *uc, const struct sock_ops *ops, int fd,
                         uint32_t rx_size, uint64_t tx_bytes_max);
void sock_connect(struct sock *sock, const struct addr *addr);
/* Between the two it is not freed, whatever happens to it. */
void sock_hold(struct sock *sock);
void sock_release(struct sock *sock);
/* For accepted sockets: connected already. Starts receiving, unless it has been closed. */
void sock_start(struct sock *sock);
/* Queues a copied head and referenced pieces; `patient` as in struct frame. ERR_BUSY, ERR_CLOSED: nothing was
 * taken. */
MUST_CHECK int sock_send(struct sock *sock, const void *head, size_t head_len, const struct slice *pieces,
                         uint32_t count, bool patient);
/* Receives, unless it does already. */
void sock_receive(struct sock *sock);
/* Makes room for `len` bytes from rx_begin on; ERR_NO_MEMORY. Only inside `input`. */
MUST_CHECK int sock_reserve(struct sock *sock, uint32_t len);
/* `flush`: what is queued is sent first. */
void sock_close(struct sock *sock, bool flush);
/* Breaks it from inside `input`, with its event. */
void sock_break(struct sock *sock, int error);

/* A TCP socket; -1 and errno on failure. */
int sock_tcp_new(int family);
/* No delay, keep-alive; data that the peer does not take for so long ends the connection. */
void sock_tcp_tune(int fd, int user_timeout_ms);

/* A listening socket. `accepted` takes over the fd. */
struct listener {
    struct uring_core *uc;
    struct uring_req req;
    struct list link; /* the owner's */
    int fd;
    bool closed;
    struct addr addr; /* bound to */
    struct addr peer;
    struct __kernel_timespec pause;
    uint64_t told_ns; /* when an error was last logged; 0: never */
    void (*accepted)(struct listener *listener, int fd, const struct addr *peer);
    void *net, *owner;   /* these three: for whoever made it */
    void (*event)(void); /* of a type that he knows */
};

/* Binds, listens and starts accepting. ERR_EXISTS: somebody listens there; others by errno. */
MUST_CHECK int listener_new(struct uring_core *uc, const struct addr *addr,
                            void (*accepted)(struct listener *listener, int fd, const struct addr *peer),
                            struct listener **ret_listener);
/* Stops; removes the file of a unix socket. The memory goes when the kernel has let go of it. */
void listener_close(struct listener *listener);

#endif
