/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server's files share.
 */
#ifndef FRONT_NBD_NBD_IMPL_H
#define FRONT_NBD_NBD_IMPL_H

#include "base/error.h"
#include "base/list.h"
#include "base/pool.h"
#include "front/nbd/nbd_protocol.h"
#include "front/nbd/nbd_reply.h"
#include "front/nbd/nbd_server.h"

#define NBD_PART_MAX    BUF_SIZE_MAX
#define NBD_PARTS_MAX   (NBD_PAYLOAD_MAX / NBD_PART_MAX)
#define NBD_PART_WINDOW 4 /* parts of one command under way */
/* Of one connection: no more can be under way, with those of a long unstructured read. */
#define NBD_CONN_PARTS (NBD_CONN_COMMANDS * NBD_PART_WINDOW + NBD_PARTS_MAX)

_Static_assert(NBD_CONN_OWN >= NBD_PART_MAX, "a connection has room for one part at least");
_Static_assert(NBD_LONG_READS >= NBD_PAYLOAD_MAX, "and the server for a long read");

/* A place in a queue. The first of those who wait for memory looks again by the clock too: what a socket has
 * sent gives memory back silently. */
struct nbd_wait {
    struct list link;
    struct op *op;
    struct timer timer;
    struct list *queue; /* where it stands; NULL: nowhere */
};

/* Up to NBD_PART_MAX bytes of a command's data. */
struct nbd_part {
    struct client_io io;
    struct slice data; /* with a reference; of the server's zeros for WRITE_ZEROES without holes */
    uint64_t offset;
    uint32_t memory_bytes; /* counted towards the connection's share */
};

struct nbd_request {
    struct op op;
    struct nbd_conn *conn;
    struct nbd_command command;
    struct nbd_wait wait;
    struct list sending; /* in the connection's queue of those who wait until there is room */
    int result;          /* first error */
    uint64_t at;         /* parts have been started up to here */
    uint32_t part_count; /* under way, or waiting to be sent */
    bool receiving;      /* WRITE: payload is still to come */
    bool big;            /* a long unstructured read, at its turn: replied to as a whole */
    struct nbd_part *parts[NBD_PARTS_MAX]; /* of reads in order of their offset */
    uint32_t sent_count;                   /* of a big read */
    uint32_t moved_count;                  /* the same, when that was last looked at ... */
    uint64_t held_bytes;                   /* ... and by the connection's replies */
    uint64_t moved_ns;                     /* when the client was last seen to take something; 0: not yet */
    union {
        struct client_io io; /* commands without data */
        struct {
            struct client_status status;
            struct client_extent extents[NBD_REPLY_EXTENTS_MAX];
        };
    };
};

struct nbd_conn {
    struct op op;
    struct nbd_server *server;
    struct stream *stream; /* NULL: lost */
    struct list link;
    struct nbd_protocol protocol;
    struct nbd_command command;  /* being taken in */
    struct nbd_request *writing; /* whose payload is being received */
    struct nbd_part *part;       /* into which */
    uint64_t payload_left;
    struct nbd_wait wait;
    struct list senders;       /* requests that wait until there is room */
    struct nbd_request *owner; /* sends a reply of several pieces: nobody else may send */
    uint32_t request_count;
    struct pool requests, parts;
    uint64_t memory_bytes; /* of parts; what its socket has queued comes on top */
    struct list memory_waiters;
    struct list big_waiters; /* behind its own big read */
    bool big_taken;
    uint64_t number; /* for people */
    bool received, writable, goodbye;
};

struct nbd_server {
    struct nbd_server_config config;
    struct core *core;
    struct client_image *image; /* NULL: not yet */
    struct nbd_export export;
    char address[256];
    struct list conns;
    uint32_t conn_count;
    uint64_t conn_next;
    struct list big_waiters;
    uint64_t big_bytes; /* of the big reads that are under way */
    /* Under way, of connections that are gone: until they have ended nothing more is begun. */
    uint32_t lost_requests;
    uint64_t failures, told_ns; /* commands that failed; when the log last told of one, 0: never */
    struct slice zeroes;
    bool stopping;
    struct op *stopper;
};

/* nbd_server.c */
/* Memory and a part for `len` bytes, or NULL: then the op of `wait` is queued and will be woken. */
struct nbd_part *nbd_part_get(struct nbd_conn *conn, uint32_t len, struct nbd_wait *wait);
/* The same for a big read, from what is kept for those. */
struct nbd_part *nbd_part_get_big(struct nbd_conn *conn, uint32_t len, struct nbd_wait *wait);
/* For a reference on `data`, without memory of its own. */
struct nbd_part *nbd_part_get_shared(struct nbd_conn *conn, const struct slice *data, uint32_t len);
void nbd_part_put(struct nbd_conn *conn, struct nbd_part *part);
void nbd_wait_init(struct nbd_wait *wait, struct op *op);
/* Queues at the end, unless it stands there already. */
void nbd_wait_in(struct list *queue, struct nbd_wait *wait);
/* Leaves the queue; the first of those who are left is woken. */
void nbd_wait_end(struct nbd_server *server, struct nbd_wait *wait);
void nbd_wake_first(struct list *queue);
void nbd_wake_all(struct list *queue);
void nbd_conn_freed(struct nbd_server *server);
void nbd_wake_conns(struct nbd_server *server);

/* nbd_conn.c */
void nbd_conn_accepted(void *owner, struct stream *stream);
/* 0, or ERR_BUSY: the request will be woken. A lost connection swallows everything. */
MUST_CHECK int nbd_conn_send(struct nbd_conn *conn, struct nbd_request *request, const uint8_t *head,
                             size_t len, const struct slice *data);
void nbd_conn_wake_senders(struct nbd_conn *conn);
/* Ends it; what it asked for goes on. */
void nbd_conn_drop(struct nbd_conn *conn);
/* Ends it if there are replies that its client has not taken. */
void nbd_conn_drop_unsent(struct nbd_conn *conn);
/* Memory that its replies keep until they are taken, in bytes. */
uint64_t nbd_conn_held_bytes(const struct nbd_conn *conn);

/* nbd_request.c */
/* Starts a command; of a WRITE the parts come by nbd_request_write(). */
void nbd_request_start(struct nbd_conn *conn, struct nbd_request *request, const struct nbd_command *command);
void nbd_request_write(struct nbd_request *request, struct nbd_part *part);
/* The payload is complete, or will never be (`error`). */
void nbd_request_written(struct nbd_request *request, int error);
/* May another part of it be under way? */
bool nbd_request_has_window(const struct nbd_request *request);

#endif
