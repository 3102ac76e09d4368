/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this room share: the core's inside, requests to the ring, work put off to a point of the
 * turn.
 */
#ifndef BACKEND_URING_H
#define BACKEND_URING_H

/* First of all, because the kernel's headers behind it have a BLOCK_SIZE of their own. */
#include <liburing.h>
#undef BLOCK_SIZE

#include "backend/backend.h"
#include "backend/spin.h"
#include "base/list.h"

/* A request in the ring, embedded in its owner, who must outlive its completion. */
struct uring_req {
    void (*done)(struct uring_req *req, int res, uint32_t cqe_flags);
};

/* Work for a later point of this turn; queued at most once. list_init() its link before first use. */
struct uring_task {
    struct list link;
    void (*run)(struct uring_task *task);
};

struct uring_core {
    struct core core; /* first */
    struct env env;
    struct io_uring ring;
    struct list events;       /* tasks that call the rooms above: run before the ops are stepped */
    struct list flushes;      /* tasks that fill the submission queue: run before it is handed over */
    struct list patient;      /* like flushes, but they may wait ... */
    uint64_t patient_ns;      /* ... until then */
    struct list inline_ios;   /* struct blk_io on memory file systems: served after the hand-over */
    struct list inline_later; /* the same, in the background ... */
    uint64_t later_ns;        /* ... not before then */
    uint64_t later_since_ns;  /* the first of them was submitted */
    uint32_t requests;        /* in the ring */
    bool started;             /* the ring has been enabled, by the thread that owns it now */
    bool turning;             /* inside the rooms' code: no turn may begin there */
    bool urgent;              /* sends or device requests are prepared, not just receives */
    bool waived;              /* the last hand-over was left out in favour of writes to memory */
    bool sending; /* of these, sends, which as a rule complete within the call that hands them over */
    struct uring_req alarm_req;
    uint64_t alarm_ns; /* when the kernel wakes us, whatever we do; UINT64_MAX: no alarm is set */
    struct __kernel_timespec alarm_time;
    struct spin spin;
    void *arena_memory;
    size_t arena_bytes;
    int stop_fd; /* eventfd */
    uint64_t stop_count;
    struct uring_req stop_req;
    bool stop_armed, stopping;
    struct uring_signals *signals;
    bool drained; /* uring_core_drain() was called: nothing is under way any more */
};

/* A free entry of the submission queue; the caller prepares it at once. The completion goes to `req`. */
struct io_uring_sqe *uring_sqe(struct uring_core *uc);
void uring_sqe_own(struct uring_core *uc, struct io_uring_sqe *sqe, struct uring_req *req);
/* The same for a device request: its completion goes to uring_blk_done(). */
void uring_sqe_own_blk(struct uring_core *uc, struct io_uring_sqe *sqe, struct blk_io *io);
/* Asks the kernel to end a request early; it completes all the same, perhaps with -ECANCELED. */
void uring_cancel(struct uring_core *uc, struct uring_req *req);

void uring_task_queue(struct list *queue, struct uring_task *task);

/* The kernel has completions to hand over. Costs no call. */
static inline bool uring_input_waits(const struct uring_core *uc)
{
    return *uc->ring.sq.kflags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW) || io_uring_cq_ready(&uc->ring);
}

/* In uring_blk.c. */
void uring_blk_done(struct blk_io *io, int res);
/* `answered`: sends have just gone, and nothing is to be written in front. */
void uring_blk_serve_inline(struct uring_core *uc, bool answered);
/* Nothing else is to do: serves what is in the background, if that is not to pause, until something is. */
bool uring_blk_later_due(struct uring_core *uc);
void uring_blk_serve_idle(struct uring_core *uc);

/* In uring_signal.c. */
void uring_signals_cancel(struct uring_core *uc);
void uring_signals_free(struct uring_core *uc);

#endif
