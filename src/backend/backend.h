/* SPDX-License-Identifier: Apache-2.0
 *
 * backend: the real implementations of the ports of rt/: the only room with system calls.
 *
 * Enter by uring_core_new(): a core with a thread's loop around one io_uring that carries network and disk.
 * On it stand the ports: uring_blk_new() (devices), tcp_net_new() (message links), uring_stream_net_new()
 * (byte streams), sqlite_meta_open() (metadata). All of them belong to their core's thread; free them before
 * the core. May include: base, wire, rt.
 *
 * One turn of the loop: step what is queued; hand everything that came up (sends of every connection,
 * requests of every device) to the kernel in one call, which also waits when there is nothing to do; write to
 * memory file systems; take what has completed. So work batches by itself: what arrives while the kernel is
 * busy leaves together in the next turn.
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include "base/base.h"
#include "rt/blk.h"
#include "rt/core.h"
#include "rt/meta.h"
#include "rt/net.h"
#include "rt/stream.h"

/* The core. */

struct uring_core;

/* What programs take unless they are told otherwise: about what a short request takes to come back. */
#define CORE_SPIN_US_STANDARD 100

struct uring_core_opts {
    size_t arena_bytes; /* rounded up to 2 MiB; 0: no arena */
    uint32_t spin_us;   /* before sleeping look for so long at most, where that pays (spin.h); 0: never */
    enum log_level log_level;
    const char *log_prefix; /* stands before the room in each log line, "osd.0"; NULL: nothing. Must outlive
                               the core */
    bool any_thread; /* turns may come from different threads, one at a time (costs a little); else the first
                        one owns it */
};

/* ERR_NO_MEMORY, ERR_UNSUPPORTED (no io_uring as of URING_KERNEL_MIN: the kernel is older, or it is forbidden
 * by the kernel or a container), ERR_IO. */
#define URING_KERNEL_MIN "6.1"
MUST_CHECK int uring_core_new(const struct uring_core_opts *opts, struct uring_core **ret_uc);
/* Why there is none, for people. */
const char *uring_core_error_text(int error);
/* The last that the thread of the turns does with it, when every port on it has been freed: waits until the
 * kernel has let go of all memory. The kernel serves a ring to the thread that owns it only, so a core that
 * another thread frees needs this first. */
void uring_core_drain(struct uring_core *uc);
/* Every port on it has been freed, no op is live, every buffer is back. From another thread only after
 * uring_core_drain(). */
void uring_core_free(struct uring_core *uc);
struct core *uring_core_core(struct uring_core *uc);

/* One turn; waits at most `max_wait_ns` (0: not at all) for something to happen. When it returns, everything
 * that became ready has been stepped and handed to the kernel. Not from inside an op or an event. */
void uring_core_turn(struct uring_core *uc, uint64_t max_wait_ns);
/* Turns until the op has ended; its result. Not from inside an op or an event. */
int uring_core_run_op(struct uring_core *uc, struct op *op);
/* Readable when a turn has something to take. Between turns also the deadline must be minded. */
int uring_core_fd(const struct uring_core *uc);
/* When (by core_now_ns()) the next turn is due even if the descriptor stays quiet; 0: now; UINT64_MAX: never.
 */
uint64_t uring_core_deadline_ns(const struct uring_core *uc);

/* Turns until uring_core_stop(). */
void uring_core_run(struct uring_core *uc);
/* The one function that any thread (and a signal handler) may call. Before uring_core_run() it makes that
 * return at once. */
void uring_core_stop(struct uring_core *uc);

/* Blocks `signals` for this thread (so call it before any other thread is made) and reports each one's
 * arrival from the loop. Once per core. ERR_INVALID, ERR_NO_MEMORY, ERR_IO. */
MUST_CHECK int uring_core_signals(struct uring_core *uc, const int *signals, uint32_t count,
                                  void (*arrived)(void *owner, int signal), void *owner);

/* A kernel-independent environment (clock, random, log) for programs that need one without a core, as the
 * command line. */
struct env {
    uint64_t random[4]; /* xoshiro256** */
    uint64_t recent_ns; /* the last reading of the clock */
    enum log_level log_level;
    const char *log_prefix;
    uint64_t lines_lost; /* since the last one that stderr took: the next one says so */
};
void env_init(struct env *env, enum log_level log_level, const char *log_prefix);
extern const struct env_ops env_ops; /* its `self` is a struct env */

/* Block devices. */

struct uring_dev;

enum uring_cache {
    URING_CACHE_ASK,      /* block devices: what the kernel knows; files: volatile */
    URING_CACHE_VOLATILE, /* writes need FUA or a flush to be durable */
    URING_CACHE_STABLE,   /* a completed write is durable */
};

/* Makes a file of `size_bytes` for use as a device. On memory file systems it is sparse; elsewhere its space
 * is allocated. ERR_EXISTS, ERR_NO_SPACE, ERR_DENIED, ERR_NOT_FOUND (no such directory), ERR_IO. */
MUST_CHECK int uring_dev_create(const char *path, uint64_t size_bytes);
/* Opens a regular file or block device with O_DIRECT and takes its lock, which lasts until the close. One
 * device serves any number of windows on any number of cores. ERR_LOCKED (another process has it),
 * ERR_NOT_FOUND, ERR_DENIED, ERR_INVALID (neither file nor block device), ERR_READ_ONLY, ERR_IO. */
MUST_CHECK int uring_dev_open(const char *path, enum uring_cache cache, bool read_only,
                              struct uring_dev **ret_dev);
void uring_dev_close(struct uring_dev *dev); /* every window is closed */
uint64_t uring_dev_size(const struct uring_dev *dev);
/* Writes zeros over a range (multiples of BLOCK_SIZE), so that later writes to it find their place allocated
 * and written, as they must to stay asynchronous in the kernel. Blocks; for use when a device is formatted.
 * Does nothing on memory file systems beyond making the range read as zeros. */
MUST_CHECK int uring_dev_write_out(struct uring_dev *dev, uint64_t offset, uint64_t len);

/* The window [offset, offset + len) of a device on this core, as a device of its own; multiples of
 * BLOCK_SIZE. ERR_RANGE (outside of the device), ERR_NO_MEMORY. Closed by its ops->close. */
MUST_CHECK int uring_blk_new(struct uring_core *uc, struct uring_dev *dev, uint64_t offset, uint64_t len,
                             struct blk **ret_blk);

/* Faults of a device, for tests of what stands above it. */

struct faults;
#define FAULTS_MESSAGE_SIZE 128

/* `path`: of a text file with rules (fastblock-osd(8) says which; src/backend/fault_rules.c reads them). It
 * must outlive the faults. Not read yet. ERR_NO_MEMORY. */
MUST_CHECK int faults_new(const char *path, struct faults **ret_faults);
void faults_free(struct faults *faults); /* every device that uses them is closed */
/* Reads the file again: its rules hold from now on, also for requests that are held. By one thread at a time,
 * which need not be one that uses the devices. On failure the old rules stay and `ret_message` says what is
 * wrong: ERR_INVALID (a bad rule), ERR_NOT_FOUND, ERR_DENIED, ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int faults_load(struct faults *faults, char ret_message[FAULTS_MESSAGE_SIZE], uint32_t *ret_count);
/* A device that serves from `lower` and fails as the rules say, which have been loaded once. `offset`: of
 * `lower` in the device that the rules speak of, in bytes. Closing it closes `lower`. ERR_NO_MEMORY. */
MUST_CHECK int fault_blk_new(struct core *core, struct faults *faults, struct blk *lower, uint64_t offset,
                             struct blk **ret_blk);

/* Message links over TCP, byte streams over TCP and unix sockets. NULL: out of memory. Freeing closes every
 * link without an event. Addresses are numeric: "127.0.0.1:7000", "[::1]:7000". */
struct net *tcp_net_new(struct uring_core *uc);
void tcp_net_free(struct net *net);
struct stream_net *uring_stream_net_new(struct uring_core *uc);
void uring_stream_net_free(struct stream_net *net);

/* The metadata store in a SQLite file (made if it is not there; `path` may be ":memory:" in tests). Requests
 * block inside and complete from the loop; those of one turn share a transaction. Watches reach back
 * `history_max` revisions. Closed by its ops->close. ERR_FORMAT (not a store of ours), ERR_DENIED,
 * ERR_LOCKED, ERR_IO, ERR_NO_MEMORY. */
MUST_CHECK int sqlite_meta_open(struct core *core, const char *path, uint64_t history_max,
                                struct meta **ret_meta);

#endif
