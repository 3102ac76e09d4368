/* SPDX-License-Identifier: Apache-2.0
 *
 * client: images -> objects -> PG leaders. May include: base rt wire rpc.
 *
 * The core of libfastblock and of every front end: it runs on a core like everything else and so in the
 * simulator. src/api wraps it for applications (include/fastblock/fastblock.h).
 *
 * A request of any length is cut at object boundaries and into pieces of at most IO_SIZE_MAX; each piece is
 * an op that finds the PG (map), guesses the leader (last known, then the members in turn), sends, follows
 * redirects, waits out elections with back-off, attaches the writer to the PG when told ERR_NOT_ATTACHED, and
 * ends with the remote's definite answer or ERR_TIMEOUT after `timeout_ns`. A piece that times out or is
 * abandoned retires its session first (rpc.h).
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "base/base.h"
#include "base/histogram.h"
#include "rt/buf.h"
#include "rt/core.h"
#include "rt/net.h"
#include "wire/cold.h"

struct client;
struct client_image;

/* A place in a queue of ops that wait for the same thing. */
struct client_wait {
    struct list link;
    struct op *op;
    struct list *queue; /* of a wait for a piece: where it stands, */
    uint64_t since_ns;  /* and since when it waits for that one */
};

struct client_config {
    struct core *core;
    struct net *net;
    const char *const *monitors;
    uint32_t monitor_count;
    const char *name;    /* for people: "fastblock-nbd host:pid" */
    bool command;        /* it is a command: monitors keep some sessions for these */
    uint64_t timeout_ns; /* a request that cannot be served for so long ends with ERR_TIMEOUT. 0: 60 s. After
                            half of it or more in which this process did not run it counts anew */
    uint32_t inflight_max; /* pieces under way at once; 0: 256. One PG has a quarter of them at most. More
                              wait in FIFO order; their time runs */
};

/* Connects to a monitor and gets the map: ERR_NO_MONITOR after `connect_timeout_ns`. */
struct client_open {
    struct op op;
    struct client_config config;
    uint64_t connect_timeout_ns; /* 0: 5 s */
    struct client *ret_client;
    char ret_message[256];
    struct timer timer; /* the client's own */
};
void client_open_start(struct client_open *o, const struct client_config *config, struct op *parent);
/* No request may be under way and all images must be closed. */
void client_free(struct client *client);

/* Where the time of reads and writes goes, as the client sees it: of those that succeeded, piece by piece. */
struct client_perf {
    struct histogram wait;  /* taken on until the attempt that succeeded was sent */
    struct histogram read;  /* that attempt, until its answer was handled */
    struct histogram write; /* the same of writes */
    uint64_t retries;       /* attempts that failed or were sent elsewhere */
};
const struct client_perf *client_perf(const struct client *client);

/* One call to the monitor (proto MonRequest). Retries connecting until timeout_ns. Calls that change
 * something are sent again only when it is certain that they were not carried out, or are idempotent.
 * `ret_reply` is freed by client_mon_call_fini(). */
struct client_mon_call {
    struct op op;
    struct client *client;
    const Fb__MonRequest *request; /* the caller's until done */
    uint64_t timeout_ns;           /* 0: 10 s */
    Fb__MonReply
        *ret_reply; /* also on a remote error: message says what failed; NULL when there was no answer */
    void *private_state;
};
void client_mon_call_start(struct client_mon_call *c, struct client *client, const Fb__MonRequest *request,
                           struct op *parent);
void client_mon_call_fini(struct client_mon_call *c);

/* One request to a shard of an OSD by number (PERF, PG_STATUS). */
struct client_shard_call {
    struct op op;
    struct client *client;
    uint32_t osd, shard;
    uint32_t method;
    const uint8_t *body;
    uint32_t body_len;
    uint8_t *ret_reply; /* heap; the caller frees */
    uint32_t ret_reply_len;
    void *private_state;
};
void client_shard_call_start(struct client_shard_call *c, struct client *client, uint32_t osd, uint32_t shard,
                             uint32_t method, const uint8_t *body, uint32_t body_len, struct op *parent);

/* The map as known now (never NULL after client_open); valid until the next event. */
const Fb__ClusterMap *client_map(const struct client *client);

struct client_image_open {
    struct op op;
    struct client *client;
    const char *pool, *image;
    bool write, force, share;
    const char *writer; /* stable name of the writer */
    struct client_image *ret_image;
    char ret_message[256];
    void *private_state;
};
void client_image_open_start(struct client_image_open *o, struct client *client, const char *pool,
                             const char *image, bool write, const char *writer, bool force, bool share,
                             struct op *parent);

/* Waits for requests under way, gives the writer's registration back, frees. */
struct client_image_close {
    struct op op;
    struct client_image *image;
    void *private_state;
};
void client_image_close_start(struct client_image_close *c, struct client_image *image, struct op *parent);

uint64_t client_image_size(const struct client_image *image); /* bytes; changes when the image is resized */
bool client_image_writable(const struct client_image *image);
/* 0, or why nothing can be done with it any more: ERR_FENCED (taken over), ERR_STALE_GENERATION (removed). */
int client_image_failed(const struct client_image *image);

enum client_io_type { CLIENT_READ, CLIENT_WRITE, CLIENT_DISCARD, CLIENT_ZERO, CLIENT_FLUSH };

/* One request, embedded in the op that waits; zeroed before first use. Any alignment. FLUSH: every write that
 * was completed before is durable: true of every completed write by design, so it completes at once unless
 * the image has failed. */
struct client_io {
    struct op op;
    struct client_image *image;
    enum client_io_type type;
    uint64_t offset, len;
    struct slice data; /* WRITE: `len` bytes, with a reference that the caller releases after the end */
    uint8_t *memory;   /* READ: where `len` bytes are to go */
    /* The client's own. */
    uint64_t at;             /* cut into pieces up to here */
    struct client_wait wait; /* for a free piece */
};
void client_io_start(struct client_io *io, struct client_image *image, enum client_io_type type,
                     uint64_t offset, uint64_t len, const struct slice *data, struct op *parent);
/* READ, into any memory of `len` bytes. It is the client's until the end, and not touched any more then;
 * after an error its contents are undefined. Whole blocks are received in place; where parts of blocks are
 * read, the data passes through buffers of the core's arena. At most BUF_SIZE_MAX, as for writes. */
void client_read_start(struct client_io *io, struct client_image *image, uint64_t offset, uint64_t len,
                       void *memory, struct op *parent);

/* Which parts of [offset, offset + len) are written: fills `ret_extents` with alternating runs, at most
 * `extents_max`, covering at least the start of the range (NBD block status, sparse export). */
#define CLIENT_STATUS_WINDOW 16 /* objects asked about at once */
struct client_extent {
    uint64_t len;
    bool written;
};
struct client_status {
    struct op op;
    struct client_image *image;
    uint64_t offset, len;
    uint32_t extents_max;
    struct client_extent *ret_extents; /* the caller's array */
    uint32_t ret_count;
    /* The client's own. */
    uint64_t at;         /* known up to here */
    uint64_t window_end; /* object: the window ends in front of it */
    struct client_status_row {
        uint64_t object;
        uint8_t written[BLOCKS_PER_OBJECT / 8];
        uint64_t next; /* its PG has none of the image behind it and in front of this one; 0: who knows */
    } rows[CLIENT_STATUS_WINDOW]; /* objects that are asked about, ascending */
    uint32_t row_count, started;
    struct client_wait wait; /* for a free piece */
    uint64_t *next;          /* of each PG, by number; NULL: it is not worth while */
    uint32_t pg_count;       /* in it */
};
void client_status_start(struct client_status *s, struct client_image *image, uint64_t offset, uint64_t len,
                         struct client_extent *ret_extents, uint32_t extents_max, struct op *parent);

#endif
